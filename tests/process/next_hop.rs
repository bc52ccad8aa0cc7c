//! A next hop that refuses, defers, closes, is silent, or is not there: nothing is
//! lost, nothing comes twice without need, nothing else is held up.

use std::collections::BTreeMap;

use crate::harness::message::{assert_identical, contains, message, without_trace};
use crate::harness::sink::{EVERYTHING, Mail};
use crate::harness::{Gate, Rule, Setup, Sink, Stage, eventually, on, place};

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// Delivered, one copy.
    Delivered,
    /// Delivered, and perhaps more than once: the next hop had it and the relay
    /// could not know.
    DeliveredMaybeTwice,
    /// The sender gets a notification with this status; the next hop gets nothing.
    Failed(&'static str),
}

use Expected::{Delivered, DeliveredMaybeTwice, Failed};

const SENDER: &str = "<a@client.example>";

/// One relay, a next hop for each case, and one more where the senders live.
#[track_caller]
fn check(extensions: &[&str], cases: Vec<(&str, Vec<Rule>, Expected)>) {
    let senders = Sink::new();
    let mut setup = Setup::new()
        .route("client.example", senders.address())
        .delivery("connections = 200\nconnections_per_destination = 1");
    let mut hops = Vec::new();
    for (i, (name, rules, expected)) in cases.into_iter().enumerate() {
        let sink = Sink::with(extensions, rules);
        let domain = format!("case-{i}.example");
        setup = setup.route(&domain, sink.address());
        hops.push((name, domain, expected, sink));
    }
    let mut relay = setup.start();
    let mut client = relay.client();
    let mut sent = BTreeMap::new();
    for (name, domain, ..) in &hops {
        let text = message(name, ".dots\r\ntext");
        client.send(SENDER, &[&format!("<b@{domain}>")], &text);
        sent.insert(domain.clone(), text);
    }
    let failures = hops.iter().filter(|hop| matches!(hop.2, Failed(_))).count();
    for (name, domain, expected, sink) in &hops {
        let mail = match expected {
            Delivered | DeliveredMaybeTwice => sink.wait_until(name, |mail| !mail.is_empty()),
            Failed(_) => continue,
        };
        for copy in &mail {
            assert_identical(&copy.octets, &sent[domain]);
            assert!(
                copy.recipients[0].starts_with(&format!("<b@{domain}>")),
                "{name}: {copy:?}"
            );
            assert_eq!(copy.recipients.len(), 1, "{name}");
        }
    }
    let notifications = senders.wait_for(failures);
    relay.wait_until_empty();
    for (name, domain, expected, sink) in &hops {
        match expected {
            Delivered => assert_eq!(sink.count(), 1, "{name}: copies"),
            DeliveredMaybeTwice => {}
            Failed(status) => {
                assert_eq!(sink.count(), 0, "{name}: the next hop took it");
                let about = |mail: &&Mail| contains(&mail.octets, &format!("b@{domain}"));
                let about: Vec<&Mail> = notifications.iter().filter(about).collect();
                assert_eq!(about.len(), 1, "{name}: notifications");
                let text = String::from_utf8_lossy(&about[0].octets);
                assert!(
                    text.contains(&format!("\r\nStatus: {status}")),
                    "{name}: no status {status} in {text}"
                );
            }
        }
    }
    assert_eq!(
        senders.count(),
        failures,
        "more notifications than failures"
    );
    relay.stop();
}

/// Each refusal at each command, once, by a hop that is good in all other things.
fn cases() -> Vec<(&'static str, Vec<Rule>, Expected)> {
    use Stage::{Body, Data, End, Greeting, Hello, Mail, Quit, Rcpt};
    vec![
        (
            "greeting 421",
            vec![on(Greeting).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "greeting 450",
            vec![on(Greeting).times(1).reply_then_close("450 4.3.2 later")],
            Delivered,
        ),
        (
            "greeting garbage",
            vec![on(Greeting).times(1).reply_then_close("hello there")],
            Delivered,
        ),
        (
            "greeting, then close",
            vec![on(Greeting).times(1).obey_then_close()],
            Delivered,
        ),
        (
            "close at once",
            vec![on(Greeting).times(2).close()],
            Delivered,
        ),
        (
            "EHLO 421",
            vec![on(Hello).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "EHLO 4xx",
            vec![on(Hello).times(2).reply("450 4.3.2 later")],
            Delivered,
        ),
        (
            "EHLO 5xx, HELO known",
            vec![on(Hello).containing("EHLO").reply("500 5.5.1 what?")],
            Delivered,
        ),
        ("EHLO close", vec![on(Hello).times(1).close()], Delivered),
        (
            "MAIL 421",
            vec![on(Mail).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "MAIL 4xx",
            vec![on(Mail).times(1).reply("451 4.3.0 later")],
            Delivered,
        ),
        (
            "MAIL 5xx",
            vec![on(Mail).reply("550 5.7.1 not you")],
            Failed("5.7.1"),
        ),
        ("MAIL close", vec![on(Mail).times(1).close()], Delivered),
        (
            "MAIL, then close",
            vec![on(Mail).times(1).obey_then_close()],
            Delivered,
        ),
        (
            "MAIL garbage",
            vec![on(Mail).times(1).reply_then_close("what is this")],
            Delivered,
        ),
        (
            "RCPT 421",
            vec![on(Rcpt).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "RCPT 4xx",
            vec![on(Rcpt).times(1).reply("450 4.2.1 later")],
            Delivered,
        ),
        (
            "RCPT 5xx",
            vec![on(Rcpt).reply("550 5.1.1 nobody")],
            Failed("5.1.1"),
        ),
        (
            "RCPT 5xx, and DATA all the same",
            vec![
                on(Rcpt).reply("550 5.1.1 nobody"),
                on(Data).reply("354 go on"),
            ],
            Failed("5.1.1"),
        ),
        (
            "RCPT 4xx, and DATA all the same",
            vec![
                on(Rcpt).times(1).reply("450 4.2.1 later"),
                on(Data).times(1).reply("354 go on"),
            ],
            Delivered,
        ),
        (
            "RCPT without enhanced code",
            vec![on(Rcpt).reply("553 no")],
            Failed("5"),
        ),
        ("RCPT close", vec![on(Rcpt).times(1).close()], Delivered),
        (
            "RCPT, then close",
            vec![on(Rcpt).times(1).obey_then_close()],
            Delivered,
        ),
        (
            "in the message close",
            vec![on(Body).times(1).close()],
            Delivered,
        ),
        (
            "end 421",
            vec![on(End).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "end 4xx",
            vec![on(End).times(1).reply("452 4.3.1 full")],
            Delivered,
        ),
        (
            "end 5xx",
            vec![on(End).reply("554 5.6.0 spam")],
            Failed("5.6.0"),
        ),
        (
            "end close",
            vec![on(End).times(1).close()],
            DeliveredMaybeTwice,
        ),
        (
            "end, then close",
            vec![on(End).times(1).obey_then_close()],
            Delivered,
        ),
        ("QUIT close", vec![on(Quit).close()], Delivered),
        (
            "QUIT refused",
            vec![on(Quit).reply("500 5.5.1 stay")],
            Delivered,
        ),
        (
            "long reply",
            vec![on(Mail).times(1).reply(&long_reply())],
            Delivered,
        ),
    ]
}

/// 250 in forty lines, each as long as RFC 5321 §4.5.3.1.5 allows.
fn long_reply() -> String {
    let line = "x".repeat(500);
    let mut reply = format!("250-{line}\r\n").repeat(39);
    reply.push_str(&format!("250 {line}"));
    reply
}

#[test]
fn refusals_of_a_hop_with_everything() {
    check(EVERYTHING, cases());
}

/// The same without PIPELINING and CHUNKING: each reply is waited for.
#[test]
fn refusals_of_a_plain_hop() {
    use Stage::Data;
    let mut cases = cases();
    cases.extend([
        (
            "DATA 421",
            vec![on(Data).times(1).reply_then_close("421 4.3.2 later")],
            Delivered,
        ),
        (
            "DATA 4xx",
            vec![on(Data).times(1).reply("451 4.3.0 later")],
            Delivered,
        ),
        (
            "DATA 5xx",
            vec![on(Data).reply("554 5.7.1 no")],
            Failed("5.7.1"),
        ),
        ("DATA close", vec![on(Data).times(1).close()], Delivered),
        (
            "DATA, then close",
            vec![on(Data).times(1).obey_then_close()],
            Delivered,
        ),
    ]);
    check(&["SIZE 104857600", "ENHANCEDSTATUSCODES"], cases);
}

/// With PIPELINING but DATA, where the message waits for 354 behind the RCPTs.
#[test]
fn refusals_of_a_hop_with_pipelining() {
    use Stage::Data;
    let mut cases = cases();
    cases.extend([
        (
            "DATA 4xx",
            vec![on(Data).times(1).reply("451 4.3.0 later")],
            Delivered,
        ),
        (
            "DATA 5xx",
            vec![on(Data).reply("554 5.7.1 no")],
            Failed("5.7.1"),
        ),
        ("DATA close", vec![on(Data).times(1).close()], Delivered),
    ]);
    check(&["PIPELINING", "8BITMIME", "DSN"], cases);
}

/// What the message needs and the hop does not have.
#[test]
fn a_hop_without_what_the_message_needs() {
    let senders = Sink::new();
    let plain = Sink::offering(&["PIPELINING", "SIZE 500"]);
    let relay = Setup::new()
        .route("client.example", senders.address())
        .route("b.example", plain.address())
        .start();
    let mut client = relay.client();
    let check = |client: &mut crate::harness::Client,
                 mail: &str,
                 recipient: &str,
                 octets: &[u8],
                 status: &str| {
        let before = senders.count();
        client.send(mail, &[recipient], octets);
        let mail = senders.wait_for(before + 1);
        let text = String::from_utf8_lossy(&mail[before].octets).into_owned();
        assert!(
            text.contains(&format!("\r\nStatus: {status}")),
            "{status}: {text}"
        );
    };
    // RFC 6152 §3; RFC 6531 §3.2; RFC 1870 §6.1.
    let eight_bit = "Subject: s\r\n\r\nä\r\n".as_bytes();
    let mail = format!("{SENDER} BODY=8BITMIME");
    check(&mut client, &mail, "<8bit@b.example>", eight_bit, "5.6.3");
    let mail = format!("{SENDER} SMTPUTF8");
    check(
        &mut client,
        &mail,
        "<ü@b.example>",
        &message("utf8", "text"),
        "5.6.7",
    );
    check(
        &mut client,
        SENDER,
        "<big@b.example>",
        &message("big", &"x".repeat(600)),
        "5.3.4",
    );
    assert_eq!(plain.count(), 0);
    // What was declared 8-bit and is not may go (RFC 6152 §3).
    let seven_bit = message("7bit", "text");
    let mail = format!("{SENDER} BODY=8BITMIME");
    client.send(&mail, &["<7bit@b.example>"], &seven_bit);
    assert_identical(&plain.wait_for_one().octets, &seven_bit);
}

#[test]
fn one_refused_one_deferred_one_taken() {
    for extensions in [EVERYTHING, &["PIPELINING"], &[]] {
        let senders = Sink::new();
        let sink = Sink::with(
            extensions,
            [
                on(Stage::Rcpt)
                    .containing("refused@")
                    .reply("550 5.1.1 nobody"),
                on(Stage::Rcpt)
                    .containing("deferred@")
                    .times(2)
                    .reply("450 4.2.1 later"),
            ],
        );
        let relay = Setup::to(sink.address())
            .route("client.example", senders.address())
            .start();
        let sent = message("three", "text");
        let recipients = [
            "<refused@b.example>",
            "<deferred@b.example>",
            "<taken@b.example>",
        ];
        relay.client().send(SENDER, &recipients, &sent);
        let mail = sink.wait_for(2);
        relay.wait_until_empty();
        assert_eq!(sink.count(), 2, "copies");
        let one = |mail: &Mail, address: &str| {
            assert_eq!(mail.recipients.len(), 1, "{mail:?}");
            assert!(mail.recipients[0].starts_with(address), "{mail:?}");
            assert_identical(&mail.octets, &sent);
        };
        one(&mail[0], "<taken@b.example>");
        one(&mail[1], "<deferred@b.example>");
        let notification = senders.wait_for_one();
        let text = String::from_utf8_lossy(&notification.octets).into_owned();
        assert!(text.contains("rfc822;refused@b.example"), "{text}");
        assert!(!text.contains("deferred@b.example"), "{text}");
    }
}

/// RFC 5321 §4.5.3.1.10: 452 after some recipients were taken is "the rest later".
#[test]
fn too_many_recipients_for_the_hop() {
    let sink = Sink::ruled([
        on(Stage::Rcpt)
            .after(10)
            .times(1)
            .reply("452 4.5.3 too many"),
        on(Stage::Rcpt)
            .after(10)
            .times(1)
            .reply("452 4.5.3 too many"),
    ]);
    let relay = Setup::to(sink.address()).start();
    let recipients: Vec<String> = (0..12).map(|i| format!("<r{i}@b.example>")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    relay
        .client()
        .send(SENDER, &recipients, &message("452", "text"));
    let all = |mail: &[Mail]| {
        let mut all: Vec<String> = (mail.iter().flat_map(|mail| &mail.recipients))
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        all.sort();
        all
    };
    let mail = sink.wait_until("all recipients", |mail| all(mail).len() >= 12);
    let mut expected: Vec<&str> = recipients.clone();
    expected.sort_unstable();
    assert_eq!(all(&mail), expected);
}

#[test]
fn a_hop_that_is_down_and_comes_up() {
    let address = place::next_address();
    let mut relay = Setup::to(address).start();
    let mut client = relay.client();
    let texts: Vec<Vec<u8>> = (0..20)
        .map(|i| message(&format!("wait {i}"), "text"))
        .collect();
    for text in &texts {
        client.send(SENDER, &["<b@b.example>"], text);
    }
    assert_eq!(relay.queued().len(), texts.len());
    let sink = Sink::at(address, EVERYTHING, []);
    let mail = sink.wait_for(texts.len());
    relay.wait_until_empty();
    let mut got: Vec<&[u8]> = mail
        .iter()
        .map(|mail| without_trace(&mail.octets).1)
        .collect();
    got.sort_unstable();
    let mut expected: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    expected.sort_unstable();
    assert!(got == expected, "not the same messages");
    relay.stop();
}

/// Several smarthosts are tried in their order.
#[test]
fn the_next_smarthost_is_used_when_the_first_is_down() {
    let down = place::next_address();
    let sink = Sink::new();
    let relay = Setup::to(down).smarthost(sink.address()).start();
    let sent = message("second", "text");
    relay.client().send(SENDER, &["<b@b.example>"], &sent);
    assert_identical(&sink.wait_for_one().octets, &sent);
    let first = Sink::at(down, EVERYTHING, []);
    // Once the first is seen to be up again, it is the one that is used: by the next
    // connection, when its rest is over.
    eventually("the first smarthost is used again", || {
        if relay.counter("connections_open_out") == 0 {
            relay.client().send(SENDER, &["<b@b.example>"], &sent);
        }
        (first.count() > 0).then_some(())
    });
}

/// Silence at each command, with more messages for those hops than connections to
/// one of them; a good hop gets its mail all the same.
#[test]
fn silent_hops_hold_nothing_up() {
    use Stage::{Body, Data, End, Greeting, Hello, Mail, Rcpt};
    let stages = [Greeting, Hello, Mail, Rcpt, Data, Body, End];
    let good = Sink::new();
    let mut setup =
        Setup::to(good.address()).delivery("connections = 40\nconnections_per_destination = 2");
    let mut silent = Vec::new();
    for (i, stage) in stages.into_iter().enumerate() {
        let sink = Sink::with(&["PIPELINING"], [on(stage).silence()]);
        setup = setup.route(&format!("silent-{i}.example"), sink.address());
        silent.push(sink);
    }
    let mut relay = setup.start();
    let mut client = relay.client();
    let text = message("silence", "text");
    for i in 0..silent.len() {
        for _ in 0..10 {
            client.send(SENDER, &[&format!("<b@silent-{i}.example>")], &text);
        }
    }
    for sink in &silent {
        eventually("the silent hop is spoken to", || {
            (sink.sessions() > 0).then_some(())
        });
    }
    for _ in 0..100 {
        client.send(SENDER, &["<b@good.example>"], &text);
    }
    good.wait_for(100);
    eventually("only mail for silent hops is left", || {
        (relay.queued().len() == silent.len() * 10).then_some(())
    });
    for sink in &silent {
        assert!(sink.sessions_at_once() <= 2, "{}", sink.sessions_at_once());
    }
    // A stop would wait for the silent ones as long as it may.
    relay.kill();
}

/// One message to a hop that is slow at the end of data; others overtake it where
/// a second connection is allowed, and other hops are not held up.
#[test]
fn a_slow_hop_holds_nothing_up() {
    let gate = Gate::new();
    let slow = Sink::ruled([on(Stage::End).times(1).hold(&gate)]);
    let good = Sink::new();
    let mut relay = Setup::to(good.address())
        .route("slow.example", slow.address())
        .delivery("connections = 4\nconnections_per_destination = 2")
        .start();
    let mut client = relay.client();
    let text = message("slow", "text");
    client.send(SENDER, &["<first@slow.example>"], &text);
    eventually("the slow hop has the message", || {
        (gate.arrived() == 1).then_some(())
    });
    for _ in 0..20 {
        client.send(SENDER, &["<b@slow.example>"], &text);
        client.send(SENDER, &["<b@good.example>"], &text);
    }
    good.wait_for(20);
    slow.wait_for(20);
    gate.open();
    slow.wait_for(21);
    relay.wait_until_empty();
    assert_eq!(slow.count(), 21, "copies");
    relay.stop();
}

/// A hop that stops reading in the middle of a large message, with all buffers on
/// the way full: others get theirs, and the rest goes when it reads again.
#[test]
fn a_hop_that_stops_reading() {
    let gate = Gate::new();
    let stuck = Sink::with(
        &["PIPELINING", "SIZE 104857600"],
        [on(Stage::Body).times(1).hold(&gate)],
    );
    let good = Sink::new();
    let mut relay = Setup::to(good.address())
        .route("stuck.example", stuck.address())
        .delivery("connections = 4\nconnections_per_destination = 1")
        .start();
    let mut client = relay.client();
    let large = message(
        "large",
        &"forty octets and a line end are in it...\r\n".repeat(400_000),
    );
    client.send(SENDER, &["<b@stuck.example>"], &large);
    eventually("the hop has stopped reading", || {
        (gate.arrived() == 1).then_some(())
    });
    let small = message("small", "text");
    for _ in 0..50 {
        client.send(SENDER, &["<b@good.example>"], &small);
    }
    good.wait_for(50);
    assert_eq!(stuck.count(), 0);
    gate.open();
    assert_identical(&stuck.wait_for_one().octets, &large);
    relay.wait_until_empty();
    relay.stop();
}
