//! What a sender says about time: how urgent (MT-PRIORITY), by when (DELIVERBY), and
//! not before (FUTURERELEASE); and the order on the wire that follows from it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::harness::message::{contains, message, without_trace};
use crate::harness::relay::PROGRAM;
use crate::harness::sink::Mail;
use crate::harness::{Client, Gate, Relay, Setup, Sink, Stage, eventually, on, place};

const SENDER: &str = "<a@client.example>";

/// What a next hop that keeps times offers.
const TIMELY: &[&str] = &[
    "PIPELINING",
    "SIZE 104857600",
    "8BITMIME",
    "DSN",
    "MT-PRIORITY",
    "DELIVERBY",
    "ENHANCEDSTATUSCODES",
];

fn subject(mail: &Mail) -> String {
    let text = String::from_utf8_lossy(&mail.octets).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Subject: "));
    line.expect("a subject").to_owned()
}

/// Over one connection strictly by priority, then by deadline, then small before large;
/// and what was said goes on.
#[test]
fn the_order_on_the_wire() {
    let address = place::next_address();
    let mut relay = Setup::to(address)
        .listener("priority = true")
        .delivery("connections_per_destination = 1")
        .start();
    let mut client = relay.client();
    let hello = client.hello();
    assert!(hello.offers("MT-PRIORITY") && hello.offers("DELIVERBY"));
    let large = "0123456789\r\n".repeat(2000);
    for (name, parameters, body) in [
        ("bulk", " MT-PRIORITY=-4", "text"),
        ("large", "", large.as_str()),
        ("small", "", "text"),
        ("late", " BY=80000;N", "text"),
        ("soon", " BY=70000;NT", "text"),
        ("urgent", " MT-PRIORITY=5", large.as_str()),
    ] {
        let mail = format!("{SENDER}{parameters}");
        client.send(&mail, &["<b@b.example>"], &message(name, body));
    }
    // Nothing listened so far. What was tried is tried again behind what is ready, so
    // it all begins anew.
    relay.stop();
    let sink = Sink::at(address, TIMELY, []);
    relay.start_again();
    let mail = sink.wait_for(6);
    relay.wait_until_empty();
    let order: Vec<_> = mail.iter().map(subject).collect();
    assert_eq!(order, ["urgent", "soon", "late", "small", "large", "bulk"]);
    assert!(mail[0].mail.contains(" MT-PRIORITY=5"), "{}", mail[0].mail);
    let (trace, _) = without_trace(&mail[0].octets);
    assert!(trace.contains(" PRIORITY 5;"), "{trace}");
    // The time that is left, which is less than what there was.
    let by = |mail: &Mail| {
        let (_, rest) = mail.mail.split_once(" BY=").expect("BY goes on");
        let (seconds, mode) = rest.split_once(';').expect("a mode");
        let mode = mode.split(' ').next().unwrap_or_default().to_owned();
        (seconds.parse::<i64>().expect("seconds"), mode)
    };
    let (seconds, mode) = by(&mail[1]);
    assert!((60_000..=70_000).contains(&seconds) && mode == "NT");
    let (seconds, mode) = by(&mail[2]);
    assert!((70_000..=80_000).contains(&seconds) && mode == "N");
    assert!(!mail[3].mail.contains("MT-PRIORITY") && !mail[3].mail.contains("BY="));
    relay.stop();
}

/// Where several connections are allowed, a large message that goes slowly has one of
/// them and never the last.
#[test]
fn a_large_message_does_not_hold_up_small_ones() {
    let gate = Gate::new();
    let sink = Sink::ruled([on(Stage::Mail).containing("<slow@").hold(&gate)]);
    let mut relay = Setup::to(sink.address())
        .delivery("connections_per_destination = 2")
        .start();
    let mut client = relay.client();
    let large = message("large", &"0123456789\r\n".repeat(200_000));
    for _ in 0..2 {
        client.send("<slow@client.example>", &["<b@b.example>"], &large);
    }
    eventually("one large message is on the wire", || {
        (gate.arrived() == 1).then_some(())
    });
    for _ in 0..20 {
        client.send(SENDER, &["<b@b.example>"], &message("small", "text"));
    }
    let mail = sink.wait_for(20);
    assert!(mail.iter().all(|mail| subject(mail) == "small"));
    assert_eq!(gate.arrived(), 1, "two large ones at once");
    gate.open();
    sink.wait_for(22);
    relay.wait_until_empty();
    relay.stop();
}

/// Who is a stranger cannot go before others.
#[test]
fn priority_is_not_for_strangers() {
    let relay = Setup::new().start();
    let mut client = relay.client();
    assert!(!client.hello().offers("MT-PRIORITY"));
    client.expect("MAIL FROM:<a@client.example> MT-PRIORITY=9", 555);
}

/// RFC 2852: `R` is never handed to a host that does not keep it, and fails when its
/// time is over, also when the server was started again meanwhile; `N` is told once.
#[test]
fn deliver_by() {
    let senders = Sink::new();
    let careless = Sink::offering(&["PIPELINING", "DSN"]);
    let mut relay = Setup::to(senders.address())
        .route("careless.example", careless.address())
        .route("down.example", place::next_address())
        .retry("first = \"1h\"\nfactor = 1.0\nlongest = \"1h\"\nwarn = \"0s\"")
        .start();
    let mut client = relay.client();
    for (name, by, domain) in [
        ("return over", "4;R", "down"),
        ("notify over", "2;N", "down"),
        ("return refused", "3600;R", "careless"),
        ("notify taken", "3600;N", "careless"),
    ] {
        client.send(
            &format!("{SENDER} BY={by}"),
            &[&format!("<b@{domain}.example>")],
            &message(name, "text"),
        );
    }
    careless.wait_for(1);
    let told = senders.wait_until("N is over", |mail| {
        mail.iter()
            .any(|mail| contains(&mail.octets, "Subject: notify over"))
    });
    let late = told
        .iter()
        .find(|mail| contains(&mail.octets, "Subject: notify over"));
    let late = String::from_utf8_lossy(&late.expect("looked for").octets).into_owned();
    assert!(
        late.contains("\r\nAction: delayed\r\n") && late.contains("\r\nStatus: 4.4.7"),
        "{late}"
    );
    // In order: behind a kill what was just delivered may come again.
    relay.stop();
    relay.start_again();
    let told = senders.wait_until("R is over", |mail| {
        mail.iter()
            .any(|mail| contains(&mail.octets, "Subject: return over"))
    });
    for (name, status) in [("return over", "5.4.7"), ("return refused", "5.3.3")] {
        let about: Vec<_> = told
            .iter()
            .filter(|mail| contains(&mail.octets, &format!("Subject: {name}")))
            .collect();
        assert_eq!(about.len(), 1, "{name}");
        let text = String::from_utf8_lossy(&about[0].octets).into_owned();
        assert!(text.contains("\r\nAction: failed\r\n"), "{text}");
        assert!(text.contains(&format!("\r\nStatus: {status}")), "{text}");
    }
    assert_eq!(careless.count(), 1, "R went to who does not keep it");
    // Only N waits still, and nobody was told of it twice.
    eventually("only one waits", || {
        (relay.queued().len() == 1).then_some(())
    });
    assert_eq!(senders.count(), 3);
}

/// The warning that mail is late is sent once, however often the server starts.
#[test]
fn a_warning_is_given_once() {
    let senders = Sink::new();
    let mut relay = Setup::to(senders.address())
        .route("down.example", place::next_address())
        .retry("first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\nwarn = \"1s\"")
        .start();
    for round in 0..3 {
        let name = format!("round {round}.");
        relay
            .client()
            .send(SENDER, &["<b@down.example>"], &message(&name, "text"));
        // The one of this round is the last to be told: it came last.
        senders.wait_for(round + 1);
        relay.stop();
        relay.start_again();
    }
    let told = senders.wait_for(3);
    for round in 0..3 {
        let about = |mail: &&Mail| contains(&mail.octets, &format!("Subject: round {round}."));
        assert_eq!(told.iter().filter(about).count(), 1, "round {round}");
    }
}

/// RFC 4865, for a user who authenticated: it waits, over a kill, and then goes; its
/// waiting is no delay of which the sender is warned.
#[test]
fn future_release() {
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    add_user(&users);
    let mut relay = Setup::to(sink.address())
        .listener("role = \"submission\"")
        .relay(&format!("users_file = \"{}\"", users.display()))
        .retry("first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\nwarn = \"1s\"")
        .start();
    let mut client = user(&relay);
    client.send(
        &format!("{SENDER} HOLDFOR=6"),
        &["<b@b.example>"],
        &message("later", "text"),
    );
    client.send(SENDER, &["<b@b.example>"], &message("now", "text"));
    sink.wait_for(1);
    relay.kill();
    relay.start_again();
    user(&relay).send(SENDER, &["<b@b.example>"], &message("now too", "text"));
    let mail = sink.wait_until("it goes", |mail| {
        mail.iter().any(|mail| subject(mail) == "later")
    });
    relay.wait_until_empty();
    // Behind a kill what was just delivered may come again.
    let mut order: Vec<_> = mail.iter().map(subject).collect();
    order.dedup();
    assert_eq!(order, ["now", "now too", "later"], "or somebody was warned");
    relay.stop();
}

fn add_user(file: &std::path::Path) {
    let mut child = Command::new(PROGRAM)
        .args(["user", "add", "--cram-md5"])
        .arg(file)
        .arg("joe")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"secret of joe\n").expect("it reads");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

/// A session of the user.
fn user(relay: &Relay) -> Client {
    let mut client = relay.client();
    assert!(client.hello().offers("FUTURERELEASE"));
    let challenge = client.expect("AUTH CRAM-MD5", 334).lines[0].clone();
    let challenge = challenge
        .strip_prefix("334 ")
        .unwrap_or(&challenge)
        .to_owned();
    let challenge = BASE64_STANDARD.decode(challenge).expect("base64");
    let mut mac = Hmac::<md5::Md5>::new_from_slice(b"secret of joe").expect("any length");
    mac.update(&challenge);
    let digest: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    client.expect(&BASE64_STANDARD.encode(format!("joe {digest}")), 235);
    client
}
