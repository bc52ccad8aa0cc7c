use super::*;

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

/// The exchange of RFC 7677 §3. Its nonces are texts of their own, so the messages are
/// put together here as the machines would have with them.
#[test]
fn the_example_of_rfc_7677() {
    let pencil = password("pencil");
    let salt = base64::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let server_first =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let client_final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    let waits = ClientWaits {
        bare: b"n=user,r=rOprNGfwEbeRWgbNEkqO".to_vec(),
        nonce: b"rOprNGfwEbeRWgbNEkqO".to_vec(),
    };
    let challenged = waits.challenged(server_first).unwrap();
    assert_eq!(challenged.salt(), &*salt);
    assert_eq!(challenged.iterations(), 4096);
    let salted = Salted::derive(&pencil, challenged.salt(), challenged.iterations());
    let (message, must) = challenged.prove(&salted);
    assert_eq!(
        message.escape_ascii().to_string(),
        client_final.escape_ascii().to_string()
    );
    assert!(must.accepts(server_final));

    let server = ServerWaits {
        channel: b"biws".to_vec(),
        messages: [b"n=user,r=rOprNGfwEbeRWgbNEkqO,", server_first.as_slice()].concat(),
        nonce: b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_vec(),
        keys: Keys::derive(&pencil, &salt, 4096),
    };
    let last = server
        .finish(client_final)
        .unwrap()
        .expect("the right password");
    assert_eq!(
        last.escape_ascii().to_string(),
        server_final.escape_ascii().to_string()
    );
}

fn exchange(user: &str, client: &str, stored: &str) -> (bool, bool) {
    let keys = Keys::derive(&password(stored), b"0123456789abcdef", ITERATIONS_MIN);
    let (first, client_waits) = ClientWaits::begin(&user.parse().unwrap(), Nonce([1; 18]));
    let parsed = ClientFirst::parse(&first).unwrap();
    assert_eq!(parsed.user.as_ref().unwrap().as_str(), user);
    assert_eq!(parsed.authorize_as, None);
    let (challenge, server_waits) = parsed.answer(Nonce([2; 18]), keys.clone());
    let challenged = client_waits.challenged(&challenge).unwrap();
    let salted = Salted::derive(
        &password(client),
        challenged.salt(),
        challenged.iterations(),
    );
    let (proof, must) = challenged.prove(&salted);
    match server_waits.finish(&proof).unwrap() {
        None => (false, false),
        Some(last) => (true, must.accepts(&last)),
    }
}

#[test]
fn both_sides_agree() {
    assert_eq!(exchange("user", "pencil", "pencil"), (true, true));
    assert_eq!(exchange("a=b,c", "é, = x", "é, = x"), (true, true));
    assert_eq!(exchange("user", "pencil", "Pencil"), (false, false));
}

/// A server that does not know the keys cannot show the signature.
#[test]
fn a_server_must_prove_itself() {
    let keys = Keys::derive(&password("pencil"), b"salt", ITERATIONS_MIN);
    let (first, waits) = ClientWaits::begin(&"user".parse().unwrap(), Nonce([1; 18]));
    let (challenge, server) = ClientFirst::parse(&first)
        .unwrap()
        .answer(Nonce([2; 18]), keys);
    let challenged = waits.challenged(&challenge).unwrap();
    let salted = Salted::derive(&password("pencil"), b"salt", ITERATIONS_MIN);
    let (proof, must) = challenged.prove(&salted);
    let last = server.finish(&proof).unwrap().unwrap();
    assert!(must.accepts(&last));
    assert!(must.accepts(&[last.as_slice(), b",x=y"].concat()));
    for wrong in [&b""[..], b"v=", b"e=other-error", &last[..last.len() - 4]] {
        assert!(!must.accepts(wrong), "{:?}", wrong.escape_ascii());
    }
    for at in 0..last.len() {
        let mut changed = last.clone();
        changed[at] ^= 1;
        assert!(!must.accepts(&changed), "{at}");
    }
}

#[test]
fn client_firsts() {
    let check = |message: &str, expected: Option<(Option<&str>, Option<&str>)>| {
        let got = ClientFirst::parse(message.as_bytes()).ok();
        let got = got.map(|first| (first.user.map(|user| user.to_string()), first.authorize_as));
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let expected = expected.map(|(user, zid)| (owned(user), owned(zid)));
        assert_eq!(got, expected, "{message:?}");
    };
    check("n,,n=user,r=abc", Some((Some("user"), None)));
    check("y,,n=user,r=abc", Some((Some("user"), None)));
    check(
        "n,a=other,n=user,r=abc",
        Some((Some("user"), Some("other"))),
    );
    check("n,,n=a=2Cb=3Dc,r=abc,x=y", Some((Some("a,b=c"), None)));
    check("n,,n=a b,r=abc", Some((None, None)));
    check("n,a=,n=user,r=abc", None);
    check("n,x,n=user,r=abc", None);
    check("p=tls-unique,,n=user,r=abc", None);
    check("n,,m=x,n=user,r=abc", None);
    check("n,,n=user,r=", None);
    check("n,,n=user,r=a c", None);
    check("n,,n=user", None);
    check("n,,n=,r=abc", None);
    check("n,,n=a=2cb,r=abc", None);
    check("n,,n=a=,r=abc", None);
    check("n,,r=abc,n=user", None);
    check("n,", None);
    check("", None);
}

#[test]
fn server_firsts() {
    let ours = base64::text(&[1; 18]);
    let check = |tail: &str, good: bool| {
        let (_, waits) = ClientWaits::begin(&"u".parse().unwrap(), Nonce([1; 18]));
        assert_eq!(waits.challenged(tail.as_bytes()).is_ok(), good, "{tail:?}");
    };
    check(&format!("r={ours}x,s=c2FsdA==,i=4096"), true);
    check(&format!("r={ours}x,s=c2FsdA==,i=4096,x=y"), true);
    check(&format!("r={ours},s=c2FsdA==,i=4096"), false);
    check("r=another,s=c2FsdA==,i=4096", false);
    check(&format!("r={ours}x,s=,i=4096"), false);
    check(&format!("r={ours}x,s=c2FsdA=,i=4096"), false);
    check(&format!("r={ours}x,s=c2FsdA==,i=4095"), false);
    check(&format!("r={ours}x,s=c2FsdA==,i=2000001"), false);
    check(&format!("r={ours}x,s=c2FsdA==,i=99999999999"), false);
    check(&format!("r={ours}x,s=c2FsdA==,i=+4096"), false);
    check(&format!("m=x,r={ours}x,s=c2FsdA==,i=4096"), false);
    check(&format!("r={ours}x,i=4096,s=c2FsdA=="), false);
    check("", false);
}

/// Each octet of the last message counts.
#[test]
fn a_changed_proof_proves_nothing() {
    let keys = Keys::derive(&password("pencil"), b"salt", ITERATIONS_MIN);
    let (first, waits) = ClientWaits::begin(&"user".parse().unwrap(), Nonce([1; 18]));
    let (challenge, server) = ClientFirst::parse(&first)
        .unwrap()
        .answer(Nonce([2; 18]), keys);
    let challenged = waits.challenged(&challenge).unwrap();
    let salted = Salted::derive(&password("pencil"), b"salt", ITERATIONS_MIN);
    let (proof, _) = challenged.prove(&salted);
    assert!(matches!(server.finish(&proof), Ok(Some(_))));
    for at in 0..proof.len() {
        for bit in [1, 4, 32] {
            let mut changed = proof.clone();
            changed[at] ^= bit;
            assert!(
                !matches!(server.finish(&changed), Ok(Some(_))),
                "{at} {bit}"
            );
        }
        assert!(
            !matches!(server.finish(&proof[..at]), Ok(Some(_))),
            "cut at {at}"
        );
    }
}

#[test]
fn keys_as_text() {
    let keys = Keys::derive(&password("pencil"), b"a salt", ITERATIONS_MIN);
    let text = keys.to_text();
    assert_eq!(Keys::parse(&text), Some(keys));
    for wrong in [
        "",
        "4096",
        "4096:c2FsdA==",
        "4096:c2FsdA==$AAAA:AAAA",
        &text.replace("4096", "4095"),
        &text.replace("4096:", "4096:="),
        &text[..text.len() - 1],
    ] {
        assert_eq!(Keys::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_user_that_does_not_exist_looks_like_one() {
    let keys = |user: &str| Keys::fake(&[9; 32], &user.parse().unwrap());
    assert_eq!(keys("a"), keys("a"));
    assert_ne!(keys("a").salt, keys("b").salt);
    assert_eq!(keys("a").salt.len(), SALT_BYTES);
    assert_eq!(keys("a").iterations, ITERATIONS);
}
