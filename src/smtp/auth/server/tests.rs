use super::*;

const NONCE: Nonce = Nonce([1; 18]);

fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> Step {
    let hostname = "relay.example".parse().unwrap();
    let ourselves = Ourselves {
        hostname: &hostname,
        time: WallTime::EPOCH,
        nonce: NONCE,
    };
    begin(mechanism, initial, &ourselves)
}

/// One line for a step.
fn shown(step: &Step) -> String {
    let user = |user: Option<&UserName>| user.map_or("?", UserName::as_str).to_owned();
    match step {
        Step::Challenge(challenge, _) => format!("334 {}", challenge.escape_ascii()),
        Step::Ask(Claiming { claim, .. }) => match claim {
            Claim::Password { user, password } => {
                format!("password {user} {}", password.reveal().escape_ascii())
            }
            Claim::Digest { user, .. } => format!("digest {user}"),
            Claim::Keys { user } => format!("keys {user}"),
            Claim::Certificate { user: name } => format!("certificate {}", user(name.as_ref())),
        },
        Step::Proven(user) => format!("proven {user}"),
        Step::Wrong(name) => format!("wrong {}", user(name.as_ref())),
        Step::Malformed => "malformed".to_owned(),
    }
}

/// Plays an exchange: the initial response, then the lines.
fn check(mechanism: Mechanism, initial: Option<&[u8]>, lines: &[&[u8]], expected: &[&str]) {
    let mut step = start(mechanism, initial);
    let mut got = vec![shown(&step)];
    for line in lines {
        let Step::Challenge(_, exchange) = step else {
            panic!(
                "{mechanism} ended before {:?}: {got:?}",
                line.escape_ascii()
            );
        };
        step = exchange.response(line);
        got.push(shown(&step));
    }
    assert_eq!(got, expected, "{mechanism} {initial:?} {lines:?}");
}

#[test]
fn plain() {
    use Mechanism::Plain;
    let one = |message: &[u8], expected: &str| {
        check(Plain, Some(message), &[], &[expected]);
        check(Plain, None, &[message], &["334 ", expected]);
    };
    one(b"\0tim\0secret", "password tim secret");
    one(b"tim\0tim\0secret", "password tim secret");
    one(b"tom\0tim\0secret", "wrong tim");
    one(b"\0tim\0", "wrong tim");
    one(b"\0tim\0a\0b", "wrong tim");
    one(b"\0tim\0\xff", "wrong tim");
    one(b"\0\0secret", "wrong ?");
    one(b"\0a b\0secret", "wrong ?");
    one(b"\0\xff\0secret", "wrong ?");
    one(b"\0tim", "malformed");
    one(b"tim", "malformed");
    one(b"", "malformed");
}

#[test]
fn login() {
    use Mechanism::Login;
    let (name, secret) = ("334 Username:", "334 Password:");
    check(
        Login,
        None,
        &[b"tim", b"secret"],
        &[name, secret, "password tim secret"],
    );
    check(
        Login,
        Some(b"tim"),
        &[b"secret"],
        &[secret, "password tim secret"],
    );
    check(Login, None, &[b"tim", b""], &[name, secret, "wrong tim"]);
    check(Login, None, &[b"", b"secret"], &[name, secret, "wrong ?"]);
    check(Login, Some(b""), &[b"secret"], &[secret, "wrong ?"]);
}

#[test]
fn cram() {
    use Mechanism::CramMd5;
    let challenge = format!("334 <{}.0@relay.example>", "01".repeat(18));
    let digest = |user: &str| format!("{user} {}", "0".repeat(32)).into_bytes();
    check(
        CramMd5,
        None,
        &[&digest("tim")],
        &[&challenge, "digest tim"],
    );
    check(CramMd5, None, &[&digest("a b")], &[&challenge, "wrong ?"]);
    check(CramMd5, None, &[b"tim"], &[&challenge, "malformed"]);
    check(CramMd5, Some(b""), &[], &["malformed"]);
    check(CramMd5, Some(&digest("tim")), &[], &["malformed"]);
}

#[test]
fn external() {
    use Mechanism::External;
    check(External, Some(b""), &[], &["certificate ?"]);
    check(External, None, &[b""], &["334 ", "certificate ?"]);
    check(External, Some(b"tim"), &[], &["certificate tim"]);
    check(External, Some(b"a b"), &[], &["wrong ?"]);
}

#[test]
fn scram() {
    use Mechanism::ScramSha256;
    let one = |message: &[u8], expected: &str| {
        check(ScramSha256, Some(message), &[], &[expected]);
        check(ScramSha256, None, &[message], &["334 ", expected]);
    };
    one(b"n,,n=tim,r=abc", "keys tim");
    one(b"n,a=tim,n=tim,r=abc", "keys tim");
    one(b"n,a=tom,n=tim,r=abc", "wrong tim");
    one(b"n,,n=a b,r=abc", "wrong ?");
    one(b"p=x,,n=tim,r=abc", "malformed");
    one(b"", "malformed");
}

#[test]
fn scram_to_its_end() {
    use crate::smtp::auth::scram::{ClientWaits, ITERATIONS_MIN, Salted};
    let password = Password::new("pencil".to_owned()).unwrap();
    let run = |client: &Password, end: &[u8]| {
        let (first, waits) = ClientWaits::begin(&"tim".parse().unwrap(), Nonce([9; 18]));
        let Step::Ask(claiming) = start(Mechanism::ScramSha256, Some(&first)) else {
            panic!("it asks for the keys");
        };
        let keys = Keys::derive(&password, b"salt", ITERATIONS_MIN);
        let Step::Challenge(message, exchange) = claiming.keys(keys) else {
            panic!("salt and rounds");
        };
        let challenged = waits.challenged(&message).unwrap();
        let salted = Salted::derive(client, challenged.salt(), challenged.iterations());
        let (proof, must) = challenged.prove(&salted);
        match exchange.response(&proof) {
            Step::Challenge(last, exchange) => {
                assert!(must.accepts(&last));
                shown(&exchange.response(end))
            }
            step => shown(&step),
        }
    };
    assert_eq!(run(&password, b""), "proven tim");
    assert_eq!(run(&password, b"x"), "malformed");
    let wrong = Password::new("Pencil".to_owned()).unwrap();
    assert_eq!(run(&wrong, b""), "wrong tim");
}

/// Splitmix64: all that a test needs of randomness is that a seed names it.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Messages at random, and good ones with a few octets changed: every exchange ends
/// within three lines, and nobody is known by it who has not proved it.
#[test]
fn soup() {
    use crate::smtp::auth::scram::ITERATIONS_MIN;
    const GOOD: &[&[u8]] = &[
        b"\0tim\0secret",
        b"tim",
        b"n,,n=tim,r=abcdef",
        b"n,a=tim,n=tim,r=abcdef,x=y",
        b"c=biws,r=abcdefAQEBAQEBAQEBAQEBAQEBAQEB,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"tim 00000000000000000000000000000000",
        b"",
        b"=2C=3D",
    ];
    let password = Password::new("pencil".to_owned()).unwrap();
    let keys = Keys::derive(&password, b"salt", ITERATIONS_MIN);
    for seed in 0..5000 {
        let mut state = seed;
        let mut message = || {
            let choice = random(&mut state) as usize % GOOD.len();
            let mut message = GOOD[choice].to_vec();
            for _ in 0..random(&mut state) % 4 {
                let octet = random(&mut state) as u8;
                let at = random(&mut state) as usize % (message.len() + 1);
                match random(&mut state) % 3 {
                    0 => message.insert(at, octet),
                    1 if at < message.len() => message[at] ^= octet,
                    _ => message.truncate(at),
                }
            }
            message
        };
        for mechanism in Mechanism::ALL {
            let initial = message();
            let initial = (seed % 2 == 0).then_some(initial.as_slice());
            let mut step = start(mechanism, initial);
            let mut lines = 0;
            loop {
                step = match step {
                    Step::Challenge(_, exchange) => {
                        lines += 1;
                        assert!(lines <= 3, "seed {seed}, {mechanism}");
                        exchange.response(&message())
                    }
                    Step::Ask(claiming) => match claiming.claim {
                        Claim::Keys { .. } => claiming.keys(keys.clone()),
                        _ => break,
                    },
                    Step::Proven(user) => panic!("seed {seed}: {mechanism} proved {user}"),
                    Step::Wrong(_) | Step::Malformed => break,
                };
            }
        }
    }
}
