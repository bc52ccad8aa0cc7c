//! Customers call for their mail by ATRN (RFC 2645): our own client, made for trouble,
//! and fetchmail.

mod abuse;
mod breaks;
mod logins;
pub(crate) mod site;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use self::site::{Provider, SECRET, Site, sorted};
use crate::harness::message::message;
use crate::harness::secure::Certificates;
use crate::harness::{Sink, eventually, skipped};

#[test]
fn a_customer_collects_what_all_cores_hold() {
    let provider = Provider::start(3);
    let mut expected = provider.hold("a.example", 20);
    expected.extend(provider.hold("b.example", 20));
    let others = provider.hold("c.example", 5);
    let mut site = provider.call("branch");
    site.extensions = "250-PIPELINING\r\n";
    site.expect("ATRN", 250);
    assert_eq!(sorted(site.take(usize::MAX)), sorted(expected));
    // Nothing is left, and the other customer's mail is where it was.
    let mut site = provider.call("branch");
    site.expect("ATRN", 453);
    site.expect("QUIT", 221);
    assert_eq!(provider.relay.queued().len(), others.len());
    assert_eq!(provider.relay.counter("turns"), 1);
    eventually("the operator is told", || {
        let log = provider.relay.log();
        log.contains("branch took 40 messages").then_some(())
    });
}

#[test]
fn one_domain_at_a_time() {
    let provider = Provider::start(2);
    let a = provider.hold("a.example", 6);
    let b = provider.hold("b.example", 6);
    assert_eq!(sorted(provider.collect("branch", "b.example")), b);
    let both = provider.collect("branch", "B.EXAMPLE,a.example");
    assert_eq!(sorted(both), a);
}

#[test]
fn who_may_not_gets_nothing() {
    let provider = Provider::start(1);
    provider.hold("a.example", 1);
    let mut stranger = Site::connect(provider.odmr);
    stranger.expect("ATRN", 530);
    stranger.expect("ATRN a.example", 530);
    stranger.expect("MAIL FROM:<>", 502);
    stranger.expect("ETRN a.example", 502);
    let mut other = provider.call("other");
    for domains in [
        "a.example",
        "c.example,a.example",
        "nobody.example",
        "sub.c.example",
        "[127.0.0.1]",
    ] {
        other.expect(&format!("ATRN {domains}"), 450);
    }
    for (line, code) in [
        ("ATRN ../../../etc/passwd", 501),
        ("ATRN c.example'; DROP TABLE mail; --", 501),
        ("ATRN c.example\0", 500),
        ("ATRN $(reboot)", 501),
        ("ATRN c.example c.example", 501),
        ("ATRN ,", 501),
    ] {
        other.expect(line, code);
    }
    other.expect(&format!("ATRN {}", "x".repeat(1 << 20)), 500);
    other.expect("ATRN", 453);
    // On the port for mail there is no ATRN.
    let mut mail = provider.relay.client();
    mail.hello();
    mail.expect("ATRN", 502);
    assert_eq!(provider.relay.queued().len(), 1);
}

#[test]
fn octets_behind_atrn_end_the_session() {
    let provider = Provider::start(1);
    provider.hold("a.example", 1);
    let mut site = provider.call("branch");
    site.say("ATRN\r\n220 site.example\r\n");
    assert_eq!(site.reply().0, 503);
    assert_eq!(site.line(), "", "it is closed");
    let taken = provider.collect("branch", "");
    assert_eq!(taken.len(), 1, "the message is still there");
}

/// A line that breaks after each few messages: nothing is lost, and only the message
/// whose reply was lost comes twice.
#[test]
fn a_line_that_breaks_loses_nothing() {
    let provider = Provider::start(2);
    let expected = provider.hold("a.example", 30);
    let mut times = BTreeMap::new();
    let mut calls = 0;
    while provider.relay.counter("turns") < 100 {
        let mut site = provider.call("branch");
        site.say("ATRN\r\n");
        match site.reply() {
            (250, _) => {}
            (453, _) => break,
            (_, line) => panic!("{line}"),
        }
        calls += 1;
        for subject in site.take(4) {
            *times.entry(subject).or_insert(0) += 1;
        }
        drop(site);
        let turns = calls;
        eventually("the turn is over", || {
            let log = provider.relay.log();
            (log.matches(" took ").count() >= turns).then_some(())
        });
    }
    assert!(calls >= 30 / 4, "{calls} calls");
    assert_eq!(times.keys().cloned().collect::<Vec<_>>(), sorted(expected));
    let again: usize = times.values().map(|n| n - 1).sum();
    assert!(again <= calls, "{again} came twice in {calls} calls");
}

/// The messages that were acknowledged before do not come again; the one whose reply was
/// on its way may.
#[test]
fn killed_in_the_middle_of_a_turn() {
    let mut provider = Provider::start(2);
    let mut expected = provider.hold("a.example", 40);
    expected.extend(provider.hold("b.example", 20));
    let mut times = BTreeMap::new();
    for taken in [1, 2, 15, 20] {
        let mut site = provider.call("branch");
        site.expect("ATRN", 250);
        let taken = site.take(taken);
        provider.relay.kill();
        provider.relay.start_again();
        for subject in taken {
            *times.entry(subject).or_insert(0) += 1;
        }
    }
    for subject in provider.collect("branch", "") {
        *times.entry(subject).or_insert(0) += 1;
    }
    provider.relay.wait_until_empty();
    assert_eq!(times.keys().cloned().collect::<Vec<_>>(), sorted(expected));
    let again: usize = times.values().map(|n| n - 1).sum();
    assert!(again <= 4, "{again} came twice in 4 crashes: {times:?}");
}

/// fetchmail as the customer's host; what it said.
fn fetchmail(provider: &Provider, sink: &Sink, options: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let rc = directory.path().join("fetchmailrc");
    let (odmr, to) = (provider.odmr, sink.address());
    let text = format!(
        "set no syslog\nset idfile \"{0}/ids\"\nset pidfile \"{0}/pid\"\n\
         poll {1} service {2} protocol ODMR auth cram-md5 timeout 20\n\
         user \"branch\" password \"{SECRET}\" {options} \
         fetchdomains a.example,b.example smtphost {3}/{4}\n",
        directory.path().display(),
        odmr.ip(),
        odmr.port(),
        to.ip(),
        to.port()
    );
    fs::write(&rc, text).expect("a file of ours");
    fs::set_permissions(&rc, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    let output = Command::new("fetchmail")
        .args(["--nodetach", "-v", "-f"])
        .arg(rc)
        .env("HOME", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("it is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn check_fetchmail(provider: &Provider, options: &str) {
    let sink = Sink::new();
    let mut expected = provider.hold("a.example", 8);
    expected.extend(provider.hold("b.example", 8));
    let said = fetchmail(provider, &sink, options);
    assert_eq!(sink.mail().len(), expected.len(), "{said}");
    assert_eq!(provider.relay.counter("turns"), 1);
    provider.relay.wait_until_empty();
    let said = fetchmail(provider, &sink, options);
    assert!(said.contains("ODMR< 453 "), "{said}");
}

#[test]
fn fetchmail_collects() {
    if Command::new("fetchmail").arg("--version").output().is_err() {
        return skipped("fetchmail is not installed");
    }
    check_fetchmail(&Provider::start(2), "sslproto \"\"");
}

/// TLS that was there before the turn stays, also when the connection goes to another
/// core. (fetchmail forgets what a record of TLS holds behind its first line, and hangs.)
#[test]
fn tls_stays_over_the_turn() {
    let certificates = Certificates::new();
    let own = certificates.issue("provider", &["relay.example", "127.0.0.1"], |_| {});
    for kind in ["implicit", "starttls"] {
        let provider = Provider::start_with(3, &format!("tls = \"{kind}\""), &own.section());
        let mut expected = provider.hold("a.example", 12);
        expected.extend(provider.hold("b.example", 12));
        let config = certificates.client_config();
        let mut site = if kind == "implicit" {
            Site::under_tls(provider.odmr, &config)
        } else {
            Site::connect(provider.odmr).start_tls(&config)
        };
        site.authenticate("branch");
        site.extensions = "250-PIPELINING\r\n";
        site.expect("ATRN", 250);
        assert_eq!(sorted(site.take(usize::MAX)), sorted(expected), "{kind}");
        provider.relay.wait_until_empty();
    }
}

/// RFC 3461 in a turned session: the wishes of the sender go on, or what they ask for is
/// told by us.
#[test]
fn notifications_are_for_the_customer_or_for_us() {
    for able in [true, false] {
        let senders = Sink::new();
        let route = format!(
            "[[route]]\ndomain = \"sender.example\"\nnext_hop = \"smtp://{}\"\n",
            senders.address()
        );
        let provider = Provider::start_with(1, "", &route);
        let mut client = provider.relay.client();
        client.hello();
        client.send(
            "<s@sender.example> RET=HDRS ENVID=turn",
            &["<x@a.example> NOTIFY=SUCCESS ORCPT=rfc822;first@a.example"],
            &message("wish", "held for the customer"),
        );
        let mut site = provider.call("branch");
        site.extensions = if able { "250-DSN\r\n" } else { "" };
        site.expect("ATRN", 250);
        assert_eq!(site.take(usize::MAX), ["wish"]);
        let envelope = site.envelope.join(" ");
        for wish in [
            "RET=HDRS",
            "ENVID=turn",
            "NOTIFY=SUCCESS",
            "ORCPT=rfc822;first@a.example",
        ] {
            assert_eq!(envelope.contains(wish), able, "{wish} in {envelope}");
        }
        provider.relay.wait_until_empty();
        if able {
            assert_eq!(senders.count(), 0);
            continue;
        }
        let notification = senders.wait_for_one();
        let text = String::from_utf8_lossy(&notification.octets).into_owned();
        for line in [
            "Action: relayed\r\n",
            "Original-Envelope-Id: turn\r\n",
            "Original-Recipient: rfc822;first@a.example\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
