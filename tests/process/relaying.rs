//! Never an open relay, whatever is in the configuration or left out of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::harness::message::message;
use crate::harness::namespace::Namespace;
use crate::harness::relay::{Finished, PROGRAM};
use crate::harness::{Client, PATIENCE, Relay, Setup, Sink, eventually};

/// An address that is not loopback (RFC 5737), within a name space of the test.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// Loopback, but not the first of it.
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Of relays at all addresses: not the port that next hops use.
const PORT: u16 = 2600;

fn outside(what_for: &str) -> Option<Namespace> {
    Namespace::new(
        what_for,
        "ip link set lo up; ip address add 192.0.2.7/24 dev lo",
    )
}

/// The reply's code to one RCPT of a client that comes from `ours`.
#[track_caller]
fn answer_to(ours: IpAddr, relay: &Relay, recipient: &str) -> u16 {
    let address = match ours {
        OUTSIDE => SocketAddr::from((OUTSIDE, relay.address().port())),
        _ => SocketAddr::from(([127, 0, 0, 1], relay.address().port())),
    };
    let mut client = Client::connect_from(ours, address);
    client.hello();
    client.expect("MAIL FROM:<a@client.example>", 250);
    let code = client.command(&format!("RCPT TO:{recipient}")).code;
    client.expect("RSET", 250);
    client.expect("QUIT", 221);
    code
}

/// A relay at all addresses, with what `change` makes of a setup that says nothing
/// about relaying.
fn relay_for_all(sink: &Sink, change: impl FnOnce(Setup) -> Setup) -> Relay {
    let setup = Setup::to(sink.address()).listen(SocketAddr::from(([0, 0, 0, 0], PORT)));
    change(setup).start()
}

#[test]
fn without_relay_rules_only_loopback_relays() {
    let Some(namespace) = outside("relaying from outside") else {
        return;
    };
    namespace.within(|| {
        let sink = Sink::new();
        let relay = relay_for_all(&sink, |setup| setup);
        assert_eq!(answer_to(INSIDE, &relay, "<x@elsewhere.example>"), 250);
        for recipient in [
            "<x@elsewhere.example>",
            "<x@relay.example>",
            "<@relay.example:x@elsewhere.example>",
            "<@127.0.0.1,@relay.example:x@elsewhere.example>",
            "<x@[192.0.2.7]>",
            "<\"x@elsewhere.example\"@relay.example>",
            "<x%elsewhere.example@relay.example>",
            "<elsewhere.example!x@relay.example>",
        ] {
            assert_eq!(answer_to(OUTSIDE, &relay, recipient), 550, "{recipient}");
        }
        // Refused recipients make no message (RFC 5321 §3.3).
        let mut client = Client::connect_from(OUTSIDE, SocketAddr::from((OUTSIDE, PORT)));
        client.hello();
        client.expect("MAIL FROM:<a@relay.example>", 250);
        client.expect("RCPT TO:<x@elsewhere.example>", 550);
        let reply = client.command("DATA");
        assert!(matches!(reply.code, 503 | 554), "{reply:?}");
        assert!(relay.queued().is_empty());
    });
}

#[test]
fn relay_domains_are_open_and_nothing_else() {
    let Some(namespace) = outside("relay domains from outside") else {
        return;
    };
    namespace.within(|| {
        let sink = Sink::new();
        let relay = relay_for_all(&sink, |setup| {
            setup
                .relay("domains = [\"b.example\", \".c.example\"]")
                .route("b.example", sink.address())
                .route(".c.example", sink.address())
        });
        for (recipient, expected) in [
            ("<x@b.example>", 250),
            ("<x@B.EXAMPLE>", 250),
            ("<x@a.c.example>", 250),
            ("<@elsewhere.example:x@b.example>", 250),
            ("<x@a.b.example>", 550),
            ("<x@c.example>", 550),
            ("<x@xb.example>", 550),
            ("<x@b.example.org>", 550),
            ("<x@elsewhere.example>", 550),
            ("<@b.example:x@elsewhere.example>", 550),
        ] {
            assert_eq!(
                answer_to(OUTSIDE, &relay, recipient),
                expected,
                "{recipient}"
            );
        }
        let sent = message("from outside", "text");
        let mut client = Client::connect_from(OUTSIDE, SocketAddr::from((OUTSIDE, PORT)));
        client.hello();
        client.send("<a@client.example>", &["<x@b.example>"], &sent);
        let mail = sink.wait_for_one();
        let trace = crate::harness::message::assert_identical(&mail.octets, &sent);
        assert!(trace.contains("[192.0.2.7]"), "{trace}");
    });
}

#[test]
fn a_route_is_no_permission() {
    let Some(namespace) = outside("a route from outside") else {
        return;
    };
    namespace.within(|| {
        let sink = Sink::new();
        let relay = relay_for_all(&sink, |setup| setup.route("b.example", sink.address()));
        assert_eq!(answer_to(INSIDE, &relay, "<x@b.example>"), 250);
        assert_eq!(answer_to(OUTSIDE, &relay, "<x@b.example>"), 550);
    });
}

#[test]
fn listed_networks_relay_and_nobody_else() {
    let Some(namespace) = outside("listed networks") else {
        return;
    };
    namespace.within(|| {
        let sink = Sink::new();
        let check = |networks: &str, from_inside: u16, from_outside: u16| {
            let relay = relay_for_all(&sink, |setup| {
                setup.relay(&format!("networks = {networks}"))
            });
            let recipient = "<x@elsewhere.example>";
            assert_eq!(
                answer_to(INSIDE, &relay, recipient),
                from_inside,
                "{networks}"
            );
            assert_eq!(
                answer_to(OUTSIDE, &relay, recipient),
                from_outside,
                "{networks}"
            );
        };
        check("[\"127.0.0.0/8\", \"192.0.2.0/24\"]", 250, 250);
        check("[\"127.0.0.0/8\", \"192.0.2.8/29\"]", 250, 550);
        check("[\"127.0.0.0/8\", \"192.0.2.7\"]", 250, 250);
        check("[\"192.0.2.7/32\"]", 550, 250);
        check("[]", 550, 550);
    });
}

/// Without a file: 127.0.0.1:2525 and nothing else, the spool in the current
/// directory.
#[test]
fn without_a_file_it_is_a_relay_on_loopback() {
    let Some(namespace) = outside("serve without a file") else {
        return;
    };
    namespace.within(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(directory.path().join("stderr")).expect("a file");
        let child = std::process::Command::new(PROGRAM)
            .arg("serve")
            .current_dir(directory.path())
            .stdin(std::process::Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let child = Ended(child);
        let inside = SocketAddr::from(([127, 0, 0, 1], 2525));
        let mut client = eventually("it listens on 127.0.0.1:2525", || {
            Client::try_connect(None, inside).ok()
        });
        client.hello();
        let refused =
            std::net::TcpStream::connect_timeout(&SocketAddr::from((OUTSIDE, 2525)), PATIENCE);
        assert!(refused.is_err(), "it listens outside of loopback");
        client.expect("QUIT", 221);
        assert!(directory.path().join("turnspool-spool").is_dir());
        drop(child);
    });
}

/// Ends a program that the test started by hand.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `turnspool check` of this text.
fn check_file(text: &str) -> Finished {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("turnspool.toml");
    std::fs::write(&path, text).expect("the file is written");
    let output = std::process::Command::new(PROGRAM)
        .args(["check", "--config"])
        .arg(&path)
        .output()
        .expect("the program starts");
    Finished::from(output)
}

/// Each error is shown, with its line, and the exit code is 2.
#[test]
fn check_refuses_what_is_wrong() {
    let check = |text: &str, expected: &[&str]| {
        let finished = check_file(text);
        assert_eq!(finished.code, Some(2), "{text}: {finished:?}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        for part in expected {
            assert!(said.contains(part), "no {part:?} for {text:?} in:\n{said}");
        }
    };
    check(
        "[relay]\nnetworks = [\"0.0.0.0/0\"]\n",
        &["turnspool.toml:2", "0.0.0.0/0"],
    );
    check(
        "[relay]\nnetworks = [\"::/0\"]\n",
        &["turnspool.toml:2", "::/0"],
    );
    check(
        "hostnam = \"a.example\"\n[retry]\nfirst = \"10 bananas\"\n[limits]\nsessions = 0\n",
        &[
            "turnspool.toml:1",
            "hostnam",
            "turnspool.toml:3",
            "turnspool.toml:5",
        ],
    );
    check("this is not TOML\n", &["turnspool.toml:1"]);
}

/// What it would refuse to run with, it also refuses to start with.
#[test]
fn serve_refuses_what_check_refuses() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("turnspool.toml");
    std::fs::write(&path, "[relay]\nnetworks = [\"0.0.0.0/0\"]\n").expect("it is written");
    let output = std::process::Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(&path)
        .current_dir(directory.path())
        .output()
        .expect("the program starts");
    let finished = Finished::from(output);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("0.0.0.0/0"), "{finished:?}");
}

#[test]
fn check_takes_the_examples_and_our_own_file() {
    for role in ["relay", "backup-spool", "site-gateway"] {
        let output = std::process::Command::new(PROGRAM)
            .args(["example", role])
            .output()
            .expect("the program starts");
        let finished = Finished::from(output);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let checked = check_file(&finished.stdout);
        assert_eq!(checked.code, Some(0), "example {role}: {checked:?}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let text = Setup::to(SocketAddr::from(([127, 0, 0, 9], 25))).text(directory.path());
    let checked = check_file(&text);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}
