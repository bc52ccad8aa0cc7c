//! Hosts that are broken, hostile, or something else altogether: for each a line in the
//! log that says what it did, and its mail goes to the next host, or stays.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;

use crate::harness::dns::NameServer;
use crate::harness::message::{assert_identical, message};
use crate::harness::place::EXCHANGER_PORT;
use crate::harness::scripted::{Scripted, Step, say};
use crate::harness::secure::Certificates;
use crate::harness::{Relay, Setup, Sink, eventually, place};

use Step::{Hear, HearSomething, HearToTheEnd, Reset, SayBeneath, SayForEver, StartTls};

const SENDER: &str = "<a@client.example>";

/// A name, what the host does on each connection, and what the log says of it; nothing
/// if it may not.
type Case = (&'static str, Vec<Vec<Step>>, &'static str);

const GREETING: &str = "220 bad.example ESMTP\r\n";
const PLAIN: &str = "250 bad.example\r\n";
const PIPELINING: &str = "250-bad.example\r\n250 PIPELINING\r\n";
const WITH_TLS: &str = "250-bad.example\r\n250 STARTTLS\r\n";
const OK: &str = "250 ok\r\n";

/// Up to the reply to a command, of a host without PIPELINING.
fn up_to(command: &'static str) -> Vec<Step> {
    let mut steps = vec![say(GREETING)];
    for (verb, reply) in [
        ("EHLO", PLAIN),
        ("MAIL", OK),
        ("RCPT", OK),
        ("DATA", "354 go\r\n"),
    ] {
        steps.push(Hear(verb));
        if verb == command {
            return steps;
        }
        steps.push(say(reply));
    }
    assert_eq!(command, ".");
    steps.push(Hear(".\r\n"));
    steps
}

/// The same each time.
fn always(steps: Vec<Step>) -> Vec<Vec<Step>> {
    vec![steps]
}

fn then(mut steps: Vec<Step>, more: impl IntoIterator<Item = Step>) -> Vec<Vec<Step>> {
    steps.extend(more);
    always(steps)
}

fn cases() -> Vec<Case> {
    let long = [b"220 ".as_slice(), &vec![b'x'; 10 << 20], b"\r\n"].concat();
    vec![
        (
            "a web server",
            always(vec![say("HTTP/1.1 400 Bad Request\r\n\r\n")]),
            "came a line that is not an SMTP reply: \"HTTP/1.1 400 Bad Request\"",
        ),
        (
            "octets",
            always(vec![say(b"\0\x01\xff\x80\r\n")]),
            "came a line that is not an SMTP reply: \"\\x00\\x01\\xff\\x80\"",
        ),
        (
            "a reply of 10 MiB",
            always(vec![say(&long)]),
            "while waiting for the greeting came a reply line of more than 4096 octets",
        ),
        (
            "a line that never ends",
            always(vec![SayForEver(&[b'2'; 4096])]),
            "while waiting for the greeting came a reply line of more than 4096 octets",
        ),
        (
            "a reply that never ends",
            then(up_to("EHLO"), [SayForEver(b"250-more\r\n")]),
            "while waiting for the reply to our hello came a reply without end",
        ),
        (
            "replies without end",
            then(up_to("EHLO"), [SayForEver(OK.as_bytes())]),
            "came a reply that has no place there: 250 ok",
        ),
        (
            // Seen before the connection is: as one that is refused, which has no line.
            "reset at once",
            always(vec![Reset]),
            "",
        ),
        (
            "nothing but the end",
            always(vec![]),
            "lost the connection while waiting for the greeting",
        ),
        (
            "one digit too many",
            always(vec![say("2200 hello\r\n")]),
            "while waiting for the greeting came a line that is not an SMTP reply",
        ),
        (
            "a code of no class",
            always(vec![say("999 hello\r\n")]),
            "while waiting for the greeting came a reply code that SMTP does not have",
        ),
        (
            "no mail here",
            always(vec![say("554 no mail here\r\n"), Hear("QUIT")]),
            "the host said in reply to the connection: 554 no mail here; its mail stays here, and the next host is tried",
        ),
        (
            "not now",
            always(vec![say("421 4.3.2 not now\r\n")]),
            "the host ended the session while waiting for the greeting: 421 4.3.2 not now; its mail stays here, and the next host is tried",
        ),
        (
            "it talks first",
            always(vec![say([GREETING, PLAIN, OK].concat()), HearToTheEnd]),
            "while waiting for the reply to our hello came a reply that has no place there: 250 bad.example",
        ),
        (
            "354 to EHLO",
            then(up_to("EHLO"), [say("354 go\r\n"), HearToTheEnd]),
            "while waiting for the reply to our hello came a reply that has no place there: 354 go",
        ),
        (
            "421 to EHLO",
            then(up_to("EHLO"), [say("421 4.3.2 not now\r\n")]),
            "the host ended the session while waiting for the reply to our hello: 421 4.3.2 not now",
        ),
        (
            "gone after EHLO",
            always(up_to("EHLO")),
            "lost the connection while waiting for the reply to our hello",
        ),
        (
            "neither EHLO nor HELO",
            then(
                up_to("EHLO"),
                [
                    say("502 what?\r\n"),
                    Hear("HELO"),
                    say("502 what?\r\n"),
                    Hear("QUIT"),
                ],
            ),
            "the host said in reply to our hello: 502 what?",
        ),
        (
            "two codes in one reply",
            then(up_to("EHLO"), [say("250-yes\r\n550 no\r\n"), HearToTheEnd]),
            "while waiting for the reply to our hello came one reply with codes of different classes",
        ),
        (
            "354 to MAIL",
            then(up_to("MAIL"), [say("354 go\r\n"), HearToTheEnd]),
            "while waiting for the reply to MAIL came a reply that has no place there: 354 go",
        ),
        (
            "two replies to MAIL",
            then(up_to("MAIL"), [say([OK, OK, OK].concat()), HearToTheEnd]),
            "while waiting for the reply to RCPT came a reply that has no place there: 250 ok",
        ),
        (
            "421 to MAIL",
            then(up_to("MAIL"), [say("421 4.3.2 not now\r\n")]),
            "the host ended the session while waiting for the reply to MAIL: 421 4.3.2 not now",
        ),
        (
            "gone after MAIL",
            always(up_to("MAIL")),
            "lost the connection while waiting for the reply to MAIL",
        ),
        (
            "garbage to MAIL",
            then(up_to("MAIL"), [say("yes, go on\r\n"), HearToTheEnd]),
            "while waiting for the reply to MAIL came a line that is not an SMTP reply",
        ),
        (
            "gone after RCPT",
            always(up_to("RCPT")),
            "lost the connection while waiting for the reply to RCPT",
        ),
        (
            "250 to DATA",
            then(up_to("DATA"), [say(OK), HearToTheEnd]),
            "while waiting for the reply to DATA came a reply that has no place there: 250 ok",
        ),
        (
            "gone after DATA",
            always(up_to("DATA")),
            "lost the connection while waiting for the reply to DATA",
        ),
        (
            "421 to the text",
            then(up_to("."), [say("421 4.3.2 not now\r\n")]),
            "the host ended the session while waiting for the reply to the end of data: 421 4.3.2 not now",
        ),
        (
            "354 to the text",
            then(up_to("."), [say("354 go\r\n"), HearToTheEnd]),
            "while waiting for the reply to the end of data came a reply that has no place there: 354 go; the message was sent and not confirmed, so it may be delivered twice",
        ),
        (
            "gone after the text",
            always(up_to(".")),
            "lost the connection while waiting for the reply to the end of data; the message was sent and not confirmed, so it may be delivered twice",
        ),
        (
            "fewer replies than commands",
            always(vec![
                say(GREETING),
                Hear("EHLO"),
                say(PIPELINING),
                Hear("DATA"),
                say(OK),
            ]),
            "lost the connection while waiting for the reply to RCPT",
        ),
        (
            "control characters",
            then(
                up_to("MAIL"),
                [
                    say(b"421 \x1b[2J\x00\x07 \xff \xe2\x80\xae later\r\n"),
                    HearToTheEnd,
                ],
            ),
            "421 \\x1b[2J\\x00\\x07 \\xff \\u{202e} later",
        ),
    ]
}

/// Each bad host is the best exchanger of a domain whose second one is good.
#[test]
fn the_next_host_gets_the_mail() {
    check(cases());
}

#[track_caller]
fn check(cases: Vec<Case>) {
    let good = Sink::exchanger();
    let dns = NameServer::new();
    dns.host("good.example", &[good.address()]);
    let mut hosts = Vec::new();
    let mut relay = Setup::mx(dns.address(), EXCHANGER_PORT)
        .delivery(&format!("mx_port = {EXCHANGER_PORT}\nconnections = 200"))
        .start();
    let mut client = relay.client();
    let mut sent = Vec::new();
    for (at, (name, scripts, expected)) in cases.into_iter().enumerate() {
        let address = place::next_exchanger();
        let (domain, host) = (format!("case-{at}.example"), format!("bad-{at}.example"));
        dns.mx(&domain, &[(10, &host), (20, "good.example")]);
        dns.host(&host, &[address]);
        hosts.push(Scripted::at(address, scripts));
        let text = message(name, "text");
        client.send(SENDER, &[&format!("<b@{domain}>")], &text);
        sent.push((name, domain, host, expected, text));
    }
    let mail = good.wait_for(sent.len());
    for (name, domain, host, expected, text) in &sent {
        let to = format!("<b@{domain}>");
        let copies = mail
            .iter()
            .filter(|mail| mail.recipients[0].starts_with(&to));
        let copies: Vec<_> = copies.collect();
        assert_eq!(copies.len(), 1, "{name}");
        assert_identical(&copies[0].octets, text);
        let log = relay.log();
        let of_host = |line: &&str| line.contains(&format!("{host} ["));
        let lines: Vec<&str> = log.lines().filter(of_host).collect();
        assert!(
            expected.is_empty() || lines.iter().any(|line| line.contains(expected)),
            "{name}: no {expected:?} in {lines:#?}"
        );
    }
    relay.wait_until_empty();
    relay.stop();
}

/// A host that wants no mail and leaves our QUIT without an answer holds up nobody: the
/// next one has the mail while the connection to the first still says goodbye.
#[test]
fn a_goodbye_without_an_answer_holds_up_nobody() {
    let good = Sink::exchanger();
    let dns = NameServer::new();
    let address = place::next_exchanger();
    let silent = TcpListener::bind(address).expect("the address is ours");
    dns.mx("b.example", &[(10, "silent.example"), (20, "good.example")]);
    dns.host("silent.example", &[address]);
    dns.host("good.example", &[good.address()]);
    let relay = Setup::mx(dns.address(), EXCHANGER_PORT)
        .delivery(&format!(
            "mx_port = {EXCHANGER_PORT}\nconnections_per_destination = 1"
        ))
        .start();
    let text = message("no mail here", "text");
    relay.client().send(SENDER, &["<b@b.example>"], &text);
    let (mut stream, _) = silent.accept().expect("a connection");
    stream
        .write_all(b"554 no mail here\r\n")
        .expect("it listens");
    good.wait_for_one();
    relay.wait_until_empty();
    stream.set_nonblocking(true).expect("a socket");
    let mut heard = [0; 100];
    let length = stream.read(&mut heard).expect("something was said");
    assert_eq!(&heard[..length], b"QUIT\r\n");
    let error = stream.read(&mut heard).expect_err("it is still open");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// A name, the policy, what the host does on each connection, what the log says, and
/// whether the mail gets there all the same.
type TlsCase = (
    &'static str,
    &'static str,
    Vec<Vec<Step>>,
    &'static str,
    bool,
);

/// TLS that is refused, broken off, or interrupted by what is none.
#[test]
fn tls_that_breaks() {
    let certificates = Certificates::new();
    let files = certificates.issue("bad", &["bad.example"], |_| {});
    let config = files.server_config();
    let start = || vec![say(GREETING), Hear("EHLO"), say(WITH_TLS), Hear("STARTTLS")];
    let go = || say("220 go\r\n");
    let clear = || {
        let mut steps = up_to(".");
        steps.extend([say(OK), Hear("QUIT")]);
        steps
    };
    let cases: Vec<TlsCase> = vec![
        (
            "454 where TLS is not needed",
            "opportunistic",
            vec![
                [start(), vec![say("454 4.7.0 not now\r\n")], after_ehlo()].concat(),
                clear(),
            ],
            "delivered to",
            true,
        ),
        (
            "454 where it is",
            "required",
            always([start(), vec![say("454 4.7.0 not now\r\n"), Hear("QUIT")]].concat()),
            "the host said in reply to STARTTLS: 454 4.7.0 not now",
            false,
        ),
        (
            "an alert for a handshake, where clear will do",
            "opportunistic",
            vec![
                [
                    start(),
                    vec![go(), HearSomething, say(b"\x15\x03\x03\0\x02\x02\x28")],
                ]
                .concat(),
                clear(),
            ],
            "its mail goes in clear for an hour",
            true,
        ),
        (
            "an alert for a handshake, where it will not",
            "required",
            always(
                [
                    start(),
                    vec![go(), HearSomething, say(b"\x15\x03\x03\0\x02\x02\x28")],
                ]
                .concat(),
            ),
            "TLS failed: the other side broke it off",
            false,
        ),
        (
            "the end for a handshake",
            "required",
            always([start(), vec![go()]].concat()),
            "TLS failed: the host closed the connection in the handshake",
            false,
        ),
        (
            "an alert in clear in the middle of mail",
            "required",
            always(
                [
                    start(),
                    vec![
                        go(),
                        StartTls(std::sync::Arc::clone(&config)),
                        Hear("EHLO"),
                        say(PLAIN),
                        Hear("MAIL"),
                        SayBeneath(b"\x15\x03\x03\0\x02\x02\x28"),
                    ],
                ]
                .concat(),
            ),
            "TLS failed: the other side breaks the rules: a record cannot be decrypted",
            false,
        ),
        (
            "clear text in the middle of mail",
            "required",
            always(
                [
                    start(),
                    vec![
                        go(),
                        StartTls(std::sync::Arc::clone(&config)),
                        Hear("EHLO"),
                        SayBeneath(b"250 ok\r\n"),
                        HearToTheEnd,
                    ],
                ]
                .concat(),
            ),
            "TLS failed: the other side breaks the rules",
            false,
        ),
    ];
    for (name, policy, scripts, expected, gets_there) in cases {
        let address = place::next_address();
        let _host = Scripted::at(address, scripts);
        let relay = Setup::to(address)
            .smarthost_lines(&format!("tls = \"{policy}\""))
            .start();
        let mut client = relay.client();
        client.send(SENDER, &["<b@b.example>"], &message(name, "text"));
        wait_for(&relay, name, expected);
        if gets_there {
            relay.wait_until_empty();
        } else {
            assert!(!relay.is_empty(), "{name}: it is gone");
        }
    }
}

/// A session in clear behind a reply to STARTTLS that said no.
fn after_ehlo() -> Vec<Step> {
    let mut steps = Vec::new();
    for (verb, reply) in [
        ("MAIL", OK),
        ("RCPT", OK),
        ("DATA", "354 go\r\n"),
        (".\r\n", OK),
    ] {
        steps.extend([Hear(verb), say(reply)]);
    }
    steps.push(Hear("QUIT"));
    steps
}

#[track_caller]
fn wait_for(relay: &Relay, name: &str, text: &str) {
    eventually(&format!("{name}: {text:?} in the log"), || {
        relay.log().contains(text).then_some(())
    });
}
