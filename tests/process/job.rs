//! The main job: mail in, spooled, relayed to the next hop.

use crate::harness::message::{assert_identical, message};
use crate::harness::{Setup, Sink};

#[test]
fn mail_goes_to_the_smarthost() {
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    let sent = message("main job", "One line.");
    let id = client.send("<a@client.example>", &["<b@b.example>"], &sent);
    client.expect("QUIT", 221);
    client.assert_closed();

    let mail = sink.wait_for_one();
    assert!(mail.mail.starts_with("<a@client.example>"), "{mail:?}");
    assert!(mail.recipients[0].starts_with("<b@b.example>"), "{mail:?}");
    assert_eq!(mail.recipients.len(), 1);
    let trace = assert_identical(&mail.octets, &sent);
    // RFC 5321 §4.4: from, by, with, id, and `for` where there is one recipient.
    for part in [
        "from client.example",
        "[127.0.0.1]",
        "by relay.example",
        "with ESMTP",
        &format!("id {id}"),
        "for <b@b.example>",
    ] {
        assert!(trace.contains(part), "no {part:?} in {trace:?}");
    }
    relay.wait_until_empty();
    relay.stop();
}

#[test]
fn static_routes_are_obeyed_and_the_longest_wins() {
    let (smarthost, below, exact) = (Sink::new(), Sink::new(), Sink::new());
    let relay = Setup::to(smarthost.address())
        .route(".branch.example", below.address())
        .route("mail.branch.example", exact.address())
        .start();
    let mut client = relay.client();
    let recipients = [
        "<1@elsewhere.example>",
        "<2@branch.example>",
        "<3@a.branch.example>",
        "<4@mail.branch.example>",
        "<5@MAIL.Branch.Example>",
    ];
    let sent = message("routes", "text");
    client.send("<a@client.example>", &recipients, &sent);
    let check = |sink: &Sink, expected: &[&str]| {
        let mail = sink.wait_for_one();
        let mut got: Vec<String> = (mail.recipients.iter())
            .map(|recipient| recipient.split('@').next().unwrap_or_default().to_owned())
            .collect();
        got.sort();
        assert_eq!(got, expected, "{:?}", mail.recipients);
        assert_identical(&mail.octets, &sent);
    };
    check(&smarthost, &["<1", "<2"]);
    check(&below, &["<3"]);
    check(&exact, &["<4", "<5"]);
}

#[test]
fn routes_alone_make_a_relay() {
    let sink = Sink::new();
    let relay = Setup::new().route("b.example", sink.address()).start();
    let sent = message("route only", "text");
    relay.client().send("<>", &["<b@b.example>"], &sent);
    let mail = sink.wait_for_one();
    assert!(mail.mail.starts_with("<>"), "{mail:?}");
    assert_identical(&mail.octets, &sent);
}

/// Thrown away is done: the other recipient gets it, and nothing is left.
#[test]
fn what_is_to_be_discarded_goes_nowhere() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .discarded("nowhere.example")
        .start();
    let sent = message("discard", "text");
    let recipients = ["<a@nowhere.example>", "<b@b.example>"];
    relay
        .client()
        .send("<a@client.example>", &recipients, &sent);
    let mail = sink.wait_for_one();
    assert_eq!(mail.recipients.len(), 1);
    assert_identical(&mail.octets, &sent);
    relay.wait_until_empty();
    assert_eq!(sink.count(), 1);
}

#[test]
fn the_greeting_and_the_extensions_say_who_we_are() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    assert!(client.greeting.text().starts_with("relay.example "));
    let hello = client.hello();
    for keyword in [
        "PIPELINING",
        "SIZE",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
    ] {
        assert!(hello.offers(keyword), "no {keyword} in {hello:?}");
    }
    // Without a certificate or users these would be promises nobody keeps.
    for keyword in ["STARTTLS", "AUTH", "BINARYMIME", "ETRN"] {
        assert!(!hello.offers(keyword), "{keyword} in {hello:?}");
    }
    client.expect("NOOP", 250);
    client.expect("VRFY b@b.example", 252);
    client.expect("HELP", 214);
    client.expect("QUIT", 221);
}

/// One session in, many messages; sessions to the next hop are used again.
#[test]
fn connections_are_used_again() {
    const MESSAGES: usize = 200;
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .delivery("connections = 2\nconnections_per_destination = 2")
        .start();
    let mut client = relay.client();
    let texts: Vec<Vec<u8>> = (0..MESSAGES)
        .map(|i| message(&format!("number {i}"), "text"))
        .collect();
    for text in &texts {
        client.send("<a@client.example>", &["<b@b.example>"], text);
    }
    let mail = sink.wait_for(MESSAGES);
    for text in &texts {
        let same = |octets: &[u8]| octets.ends_with(text);
        let copies = mail.iter().filter(|mail| same(&mail.octets)).count();
        assert_eq!(copies, 1, "of {}", String::from_utf8_lossy(text));
    }
    assert!(sink.sessions() <= 10, "{} sessions", sink.sessions());
    assert!(sink.sessions_at_once() <= 2);
}

/// A message for several next hops, several cores, several clients at once.
#[test]
fn many_clients_at_once_over_two_cores() {
    const CLIENTS: usize = 8;
    const EACH: usize = 20;
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address()).cores(2).start();
    std::thread::scope(|scope| {
        for c in 0..CLIENTS {
            let relay = &relay;
            scope.spawn(move || {
                let mut client = relay.client();
                for i in 0..EACH {
                    let text = message(&format!("client {c} message {i}"), "text");
                    client.send("<a@client.example>", &["<b@b.example>"], &text);
                }
            });
        }
    });
    let mail = sink.wait_for(CLIENTS * EACH);
    for c in 0..CLIENTS {
        for i in 0..EACH {
            let subject = format!("Subject: client {c} message {i}\r\n");
            let has = |octets: &[u8]| {
                octets
                    .windows(subject.len())
                    .any(|part| part == subject.as_bytes())
            };
            assert_eq!(
                mail.iter().filter(|m| has(&m.octets)).count(),
                1,
                "{subject}"
            );
        }
    }
    relay.wait_until_empty();
    relay.stop();
}

/// Group commit: what comes while a sync is under way shares the next one.
#[test]
fn many_messages_share_a_flush() {
    const SESSIONS: u64 = 100;
    const EACH: u64 = 10;
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let text = message("4 KiB", &"sixteen octets..".repeat(256));
    std::thread::scope(|scope| {
        for _ in 0..SESSIONS {
            let (relay, text) = (&relay, &text);
            scope.spawn(move || {
                let mut client = relay.client();
                for _ in 0..EACH {
                    client.send("<a@client.example>", &["<b@b.example>"], text);
                }
            });
        }
    });
    sink.wait_for(usize::try_from(SESSIONS * EACH).expect("few"));
    relay.wait_until_empty();
    let messages = relay.counter("messages_accepted");
    assert_eq!(messages, SESSIONS * EACH);
    let (flushes, writes) = (relay.counter("flushes"), relay.counter("writes"));
    eprintln!("{messages} messages, {flushes} flushes, {writes} writes");
    // Done records included. A flush a message would be 1,000 and more.
    assert!(
        flushes * 4 < messages,
        "{flushes} flushes for {messages} messages"
    );
    assert!(
        writes < 2 * messages,
        "{writes} writes for {messages} messages"
    );
}
