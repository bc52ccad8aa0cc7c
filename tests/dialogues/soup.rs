//! Commands at random: whatever a client says and however it is cut, each command
//! gets one reply, and the cuts change nothing.

use turnspool::mail::{Domain, Envelope};
use turnspool::smtp::auth::{Mechanism, Mechanisms};
use turnspool::smtp::data::BareNewline;
use turnspool::smtp::reply::Refusal;
use turnspool::smtp::server::{AuthAnswer, NotTaken, Question, Session, Verdict};
use turnspool::smtp::settings::{AuthOffer, Role, Settings};
use turnspool::smtp::trace::TlsFacts;

use crate::login::judge;
use crate::script::Directive;
use crate::world::{Core, Reply, Scripted, Stored, World};

/// Splitmix64: all that a test needs of randomness is that a seed names it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Answers by what stands in the addresses, so that an answer depends on nothing
/// else than what was said.
struct ByName;

fn refusal(name: &str) -> Option<Refusal> {
    if name.starts_with("refused") {
        Some(Refusal::new(550, 1, 1, "no such user"))
    } else if name.starts_with("deferred") {
        Some(Refusal::new(451, 4, 3, "cannot check now"))
    } else {
        None
    }
}

fn outcome(envelope: &Envelope, full: &str, broken: &str) -> Result<(), NotTaken> {
    let sender = envelope.sender.reverse_path.as_str();
    if sender.starts_with(full) {
        Err(NotTaken::NoRoom)
    } else if sender.starts_with(broken) {
        Err(NotTaken::Failed)
    } else {
        Ok(())
    }
}

impl Core for ByName {
    fn verdict(&mut self, question: &Question<'_>) -> Reply<Verdict> {
        let name = match question {
            Question::Sender { sender, .. } => sender.reverse_path.as_str(),
            Question::Recipient { recipient, .. } => recipient.forward_path.as_str(),
            Question::Turn { domains } => domains.first().map_or("", Domain::as_str),
            Question::Release { .. } | Question::Rebuff => unreachable!("that is another question"),
            Question::AuthBegins { .. } | Question::Login(_) => unreachable!("asked by login"),
        };
        if name.starts_with("dismissed") {
            return Reply::Now(Verdict::Dismiss(Refusal::new(554, 7, 1, "go away")));
        }
        Reply::Now(refusal(name).map_or(Verdict::Accept, Verdict::Refuse))
    }

    fn login(&mut self, question: &Question<'_>) -> Reply<AuthAnswer> {
        Reply::Now(judge(question))
    }

    fn room(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>> {
        Reply::Now(outcome(envelope, "full", "broken"))
    }

    fn storage(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>> {
        Reply::Now(outcome(envelope, "full-at-end", "broken-at-end"))
    }

    fn script(&mut self, directive: Directive) {
        panic!("{directive:?} in a soup");
    }
}

fn settings(random: &mut Random) -> Settings {
    let mut settings = Settings::new("relay.example".parse().expect("a domain"));
    settings.message_bytes_max = 60;
    settings.text_line_bytes_max = 30;
    settings.hops_max = 1;
    settings.recipients_max = 3;
    settings.command_bytes_max = 80;
    settings.discard_bytes_max = 200;
    settings.errors_max = 40;
    settings.idle_commands_max = 40;
    settings.offers.etrn = random.below(2) == 0;
    if random.below(2) == 0 {
        settings.bare_newline = BareNewline::Normalise;
    }
    settings
}

const TEXTS: &[&[u8]] = &[
    b"",
    b"a\r\n",
    b"a\r\n",
    b"line\r\n",
    b".\r\n.\r\n",
    b"a",
    b".",
    b"..",
    b"\r\n",
    b"\r",
    b"\n",
    b".\r\n\r\n",
    b"\r\n.\r",
    b"\xff",
    b"\0",
    b"Received: x\r\n",
    b"QUIT\r\n",
    b"RSET\r\nMAIL FROM:<x@x.example>\r\n",
    b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
];

/// Text without an end of data, as far as its parts go.
fn text(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..random.below(6) {
        text.extend_from_slice(random.one_of(TEXTS));
    }
    text
}

fn command(random: &mut Random) -> Vec<u8> {
    const LINES: &[&str] = &[
        "EHLO client.example",
        "ETRN a.example",
        "ETRN #a",
        "ETRN",
        "HELO client.example",
        "HELO",
        "MAIL FROM:<a@a.example>",
        "MAIL FROM:<a@a.example>",
        "MAIL FROM:<> SIZE=10",
        "MAIL FROM:<a@a.example> SIZE=100",
        "MAIL FROM:<refused@a.example>",
        "MAIL FROM:<full@a.example>",
        "MAIL FROM:<broken-at-end@a.example>",
        "MAIL FROM:<a@a.example> WHAT=EVER",
        "RCPT TO:<b@b.example>",
        "RCPT TO:<b@b.example>",
        "RCPT TO:<postmaster> NOTIFY=NEVER",
        "RCPT TO:<refused@b.example>",
        "RCPT TO:<deferred@b.example>",
        "RCPT TO:<b>",
        "RSET",
        "NOOP",
        "NOOP abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
        "VRFY x",
        "HELP",
        "",
        "X",
        "NO\rOP",
        "NO\0OP",
    ];
    const RARE: &[&str] = &["QUIT", "RCPT TO:<dismissed@b.example>", "BDAT x"];
    let lines = if random.below(60) == 0 { RARE } else { LINES };
    let mut line = random.one_of(lines).as_bytes().to_vec();
    line.extend_from_slice(if random.below(30) == 0 {
        b"\n"
    } else {
        b"\r\n"
    });
    line
}

/// Replies in what was said: lines whose fourth octet is no hyphen.
fn replies(said: &[u8]) -> usize {
    said.split_inclusive(|&octet| octet == b'\n')
        .filter(|line| line[3] == b' ')
        .count()
}

/// A client that waits for each reply. All it said; the world as it ended.
fn talk(seed: u64) -> (Vec<u8>, World<ByName>) {
    let mut random = Random(seed);
    let mut world = World::new(settings(&mut random), None, ByName);
    let mut wire = Vec::new();
    let mut say = |world: &mut World<ByName>, octets: &[u8]| {
        let before = world.said.len();
        world.offer(octets);
        wire.extend_from_slice(octets);
        world.said[before..].to_vec()
    };
    if random.below(8) != 0 {
        say(&mut world, b"EHLO client.example\r\n");
    }
    for _ in 0..random.below(60) {
        if world.is_closed() {
            break;
        }
        match random.below(8) {
            0 => {
                let got = say(&mut world, b"DATA\r\n");
                assert_eq!(replies(&got), 1, "seed {seed}: DATA");
                if got.starts_with(b"354") {
                    let text = text(&mut random);
                    let got = say(&mut world, &text);
                    if !got.is_empty() || world.is_closed() {
                        // A text that ended itself: what is behind it is a command.
                        say(&mut world, b"\r\n");
                        continue;
                    }
                    let got = say(&mut world, b"x\r\n.\r\n");
                    assert_eq!(replies(&got), 1, "seed {seed}: end of data");
                }
            }
            1 => {
                let chunk = text(&mut random);
                let last = if random.below(2) == 0 { " LAST" } else { "" };
                let line = format!("BDAT {}{last}\r\n", chunk.len());
                let mut got = say(&mut world, line.as_bytes());
                got.extend(say(&mut world, &chunk));
                assert_eq!(
                    replies(&got),
                    1,
                    "seed {seed}: {line:?} {} {}",
                    chunk.escape_ascii(),
                    got.escape_ascii()
                );
            }
            // So that DATA and BDAT have something to go on.
            2 | 3 => {
                for line in ["MAIL FROM:<a@a.example>\r\n", "RCPT TO:<b@b.example>\r\n"] {
                    let expected = usize::from(!world.is_closed());
                    let got = say(&mut world, line.as_bytes());
                    assert_eq!(replies(&got), expected, "seed {seed}: {line:?}");
                }
            }
            _ => {
                let line = command(&mut random);
                let got = say(&mut world, &line);
                assert_eq!(replies(&got), 1, "seed {seed}: {}", line.escape_ascii());
            }
        }
    }
    (wire, world)
}

/// The seeds of a run begin here; another run is `SOUP_SEED=n cargo test`.
fn first_seed() -> u64 {
    let seed = std::env::var("SOUP_SEED").ok();
    seed.map_or(0, |seed| seed.parse().expect("SOUP_SEED is a number"))
}

#[test]
fn cuts_change_nothing() {
    let mut ends = 0;
    for seed in first_seed()..first_seed() + 2000 {
        let (wire, world) = talk(seed);
        ends += world
            .told
            .iter()
            .filter(|told| told.starts_with("end "))
            .count();
        for cutting in 0..4 {
            let mut random = Random(seed);
            let mut again = World::new(settings(&mut random), None, ByName);
            let mut random = Random(seed ^ cutting << 32);
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                let length = match cutting {
                    0 => rest.len(),
                    1 => 1,
                    _ => 1 + random.below(rest.len().min(40)),
                };
                again.offer(&rest[..length]);
                rest = &rest[length..];
            }
            let show = |said: &[u8]| said.escape_ascii().to_string();
            assert_eq!(
                show(&again.said),
                show(&world.said),
                "seed {seed} cutting {cutting}"
            );
            assert_eq!(again.told, world.told, "seed {seed} cutting {cutting}");
        }
    }
    // The soup is worth its name only if messages come through.
    assert!(ends > 1000, "only {ends} messages");
}

/// Octets of all kinds, not commands at all: nothing panics, whatever they are.
#[test]
fn noise() {
    const WORDS: &[&[u8]] = &[
        b"MAIL",
        b"FROM:",
        b"RCPT",
        b"TO:",
        b"<",
        b">",
        b"@",
        b"a",
        b".",
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"DATA\r\n",
        b"BDAT ",
        b"3",
        b" LAST",
        b"EHLO a\r\n",
        b"=",
        b"+",
        b";",
        b"SIZE",
        b"NOTIFY",
        b"ORCPT",
        b"\"",
        b"\\",
        b"[",
        b"]",
        b"IPv6:",
        b"\xc3\xbc",
        b"\xff",
        b"\0",
        b",",
        b":",
        b"MAIL FROM:<a@a> ",
        b"RCPT TO:<a@a> ",
        b"SMTPUTF8",
        b"utf-8",
        b"BODY",
    ];
    for seed in first_seed()..first_seed() + 2000 {
        let mut random = Random(seed);
        let mut world = World::new(settings(&mut random), None, ByName);
        for _ in 0..200 {
            let mut octets = Vec::new();
            for _ in 0..random.below(5) {
                octets.extend_from_slice(random.one_of(WORDS));
            }
            world.offer(&octets);
        }
        assert!(world.said.starts_with(b"220 "), "seed {seed}");
    }
}

/// The same where customers call: nobody who has not authenticated gets a turn, and what
/// comes behind the question gets none.
#[test]
fn noise_where_customers_call() {
    const WORDS: &[&[u8]] = &[
        b"EHLO a\r\n",
        b"ATRN\r\n",
        b"ATRN a.example\r\n",
        b"ATRN refused.example\r\n",
        b"ATRN ",
        b"atrn a.example,,b\r\n",
        b",",
        b"/",
        b"'",
        b"\0",
        b"\r\n",
        b"\n",
        b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
        b"AUTH PLAIN AHRpbQB0YW5zdGFh\r\n",
        b"AUTH CRAM-MD5\r\n",
        b"AUTH ",
        b"*\r\n",
        b"MAIL FROM:<a@a.example>\r\n",
        b"RCPT TO:<a@a.example>\r\n",
        b"DATA\r\n",
        b"BDAT 3 LAST\r\n",
        b"RSET\r\n",
        b"a",
        b"\xff",
    ];
    let mut turns = 0;
    for seed in first_seed()..first_seed() + 2000 {
        let mut random = Random(seed);
        let mut settings = settings(&mut random);
        settings.role = Role::Odmr;
        let mechanisms = Mechanisms::NONE
            .with(Mechanism::Plain)
            .with(Mechanism::CramMd5);
        settings.offers.auth = Some(AuthOffer::new(mechanisms));
        let tls = (random.below(4) > 0).then_some(TlsFacts {
            protocol: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            client: None,
        });
        let mut world = World::new(settings, tls, ByName);
        for _ in 0..40 {
            let mut octets = Vec::new();
            for _ in 0..random.below(3) {
                octets.extend_from_slice(random.one_of(WORDS));
            }
            world.offer(&octets);
        }
        let place = |what: &str| world.told.iter().position(|told| told.starts_with(what));
        if let Some(turn) = place("turn") {
            turns += 1;
            let login = place("login ").expect("somebody authenticated");
            assert!(login < turn, "seed {seed}: {:?}", world.told);
            assert_eq!(turn + 1, world.told.len(), "seed {seed}: nothing follows");
        }
        let mail = ["begin", "end", "abort"]
            .iter()
            .any(|what| place(what).is_some());
        assert!(!mail, "seed {seed}: {:?}", world.told);
    }
    assert!(turns > 100, "only {turns} turns");
}

/// Commands in clear behind STARTTLS in the same input (CVE-2011-0411): none is
/// obeyed, and the session is over.
#[test]
fn nothing_behind_starttls() {
    let mut settings = Settings::new("relay.example".parse().expect("a domain"));
    settings.offers.start_tls = true;
    let mut world = World::new(settings, None, Scripted::default());
    world.offer(b"EHLO client.example\r\n");
    world.said.clear();
    world.offer(b"STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n");
    let expected = "503 5.5.1 nothing may be sent behind STARTTLS before its reply\r\n";
    assert_eq!(String::from_utf8_lossy(&world.said), expected);
    assert_eq!(world.told, ["close"]);
}

/// A group of commands with long replies is answered in parts: no client makes us
/// hold more than [`REPLIES_BYTES_MAX`] and one reply.
///
/// [`REPLIES_BYTES_MAX`]: turnspool::smtp::server::REPLIES_BYTES_MAX
#[test]
fn replies_are_bounded() {
    let mut settings = Settings::new("relay.example".parse().expect("a domain"));
    settings.idle_commands_max = u32::MAX;
    let mut world = World::new(settings, None, Scripted::default());
    world.sends = 0;
    world.offer(&b"EHLO a\r\n".repeat(1000));
    // The reply to EHLO is shorter than this.
    let most = turnspool::smtp::server::REPLIES_BYTES_MAX + 200;
    assert!(
        world.sends * most >= world.said.len(),
        "{} sends",
        world.sends
    );
}

/// 20,000 connections wait; each costs the process at most 1 KiB with all the rest.
#[test]
fn an_idle_session_is_small() {
    assert!(
        size_of::<Session<Stored>>() <= 256,
        "{}",
        size_of::<Session<Stored>>()
    );
}
