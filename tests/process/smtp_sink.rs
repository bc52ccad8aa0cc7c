//! Postfix's smtp-sink in each of its ways to fail, at each command: every message is
//! delivered, or its sender is told, with the right cause.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::harness::message::message;
use crate::harness::{Setup, Sink, eventually, place, skipped};

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// Delivered.
    Delivered,
    /// Refused for good: returned at once with the sink's reply.
    Refused,
    /// Put off each time: returned when the tries are over.
    GivenUp,
}

use Expected::{Delivered, GivenUp, Refused};

/// The option, the command at which it fails, what becomes of mail, and words of the
/// log that name the cause.
const CASES: &[(&str, &str, Expected, &str)] = &[
    // Disconnects without a reply.
    ("-q", "CONNECT", GivenUp, "lost the connection"),
    ("-q", "EHLO", GivenUp, "lost the connection"),
    ("-q", "MAIL", GivenUp, "lost the connection"),
    ("-q", "RCPT", GivenUp, "lost the connection"),
    ("-q", "DATA", GivenUp, "lost the connection"),
    ("-q", ".", GivenUp, "lost the connection"),
    ("-q", "QUIT", Delivered, "delivered"),
    // Replies 421 and disconnects.
    ("-Q", "CONNECT", GivenUp, "421"),
    ("-Q", "EHLO", GivenUp, "421"),
    ("-Q", "MAIL", GivenUp, "421"),
    ("-Q", "RCPT", GivenUp, "421"),
    ("-Q", "DATA", GivenUp, "421"),
    ("-Q", ".", GivenUp, "421"),
    ("-Q", "QUIT", Delivered, "delivered"),
    // Puts off.
    ("-r", "CONNECT", GivenUp, "450"),
    ("-r", "EHLO", GivenUp, "450"),
    ("-r", "MAIL", GivenUp, "450"),
    ("-r", "RCPT", GivenUp, "450"),
    ("-r", "DATA", GivenUp, "450"),
    ("-r", ".", GivenUp, "450"),
    ("-r", "QUIT", Delivered, "delivered"),
    // Refuses. A host that refuses us as such may mend; HELO is older than EHLO.
    ("-f", "CONNECT", GivenUp, "500"),
    ("-f", "EHLO", Delivered, "delivered"),
    ("-f", "EHLO,HELO", GivenUp, "500"),
    ("-f", "MAIL", Refused, "500"),
    ("-f", "RCPT", Refused, "500"),
    ("-f", "DATA", Refused, "500"),
    ("-f", ".", Refused, "500"),
    ("-f", "QUIT", Delivered, "delivered"),
];

/// A running smtp-sink.
struct SmtpSink(Child);

impl SmtpSink {
    fn new(address: SocketAddr, options: &[&str]) -> Option<Self> {
        let mut command = Command::new("smtp-sink");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let child = command
            .args(options)
            .arg(address.to_string())
            .arg("100")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            skipped("smtp-sink is not installed");
            return None;
        };
        let sink = Self(child);
        eventually("smtp-sink listens", || TcpStream::connect(address).ok());
        Some(sink)
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn check(general: &[&str]) {
    let senders = Sink::new();
    let mut setup = Setup::new()
        .route("client.example", senders.address())
        .retry("tries = 2\nevery = \"1s\"\nwarn = \"0s\"");
    let mut sinks = Vec::new();
    for (at, (option, command, ..)) in CASES.iter().enumerate() {
        let address = place::next_address();
        let options = [general, &[*option, *command]].concat();
        let Some(sink) = SmtpSink::new(address, &options) else {
            return;
        };
        setup = setup.route(&format!("case-{at}.example"), address);
        sinks.push((sink, address));
    }
    let relay = setup.start();
    let mut client = relay.client();
    for at in 0..CASES.len() {
        let recipient = format!("<b@case-{at}.example>");
        client.send("<a@client.example>", &[&recipient], &message("x", "text"));
    }
    let bounced = CASES.iter().filter(|case| case.2 != Delivered).count();
    let bounces = senders.wait_for(bounced);
    relay.wait_until_empty();
    assert_eq!(senders.count(), bounced, "more notifications than failures");
    let log = relay.log();
    for (at, (option, command, expected, cause)) in CASES.iter().enumerate() {
        let case = format!("{general:?} {option} {command}");
        let recipient = format!("b@case-{at}.example");
        let about: Vec<_> = (bounces.iter())
            .map(|mail| String::from_utf8_lossy(&mail.octets).into_owned())
            .filter(|text| text.contains(&format!("rfc822;{recipient}\r\n")))
            .collect();
        assert_eq!(about.len(), usize::from(*expected != Delivered), "{case}");
        let status = match expected {
            Delivered => "",
            Refused => "\r\nStatus: 5.",
            GivenUp => "\r\nStatus: 5.4.7\r\n",
        };
        assert!(
            about.iter().all(|text| text.contains(status)),
            "{case}: {about:?}"
        );
        // The sender hears of the cause, too, however long it took.
        assert!(
            about.iter().all(|text| text.contains(cause)),
            "{case}: no {cause:?} in {about:?}"
        );
        if *expected == Refused {
            let reply = about[0].contains("\r\nDiagnostic-Code: smtp; 500 ");
            assert!(reply, "{case}: {about:?}");
        }
        let address = format!("[{}]:{}", sinks[at].1.ip(), sinks[at].1.port());
        let told = log
            .lines()
            .any(|line| line.contains(&address) && line.contains(cause));
        assert!(told, "{case}: the log does not say {cause:?}");
    }
}

#[test]
fn with_everything() {
    check(&[]);
}

/// Each reply is waited for.
#[test]
fn without_pipelining() {
    check(&["-p"]);
}

/// RFC 821.
#[test]
fn without_status_codes_and_8bitmime() {
    check(&["-E", "-8", "-p"]);
}
