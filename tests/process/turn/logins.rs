//! Who a customer is, by each mechanism, in clear and under TLS; and every reply code of
//! RFC 2645 in its place.

use super::site::{Provider, SECRET, Site, sorted};
use crate::harness::eventually;
use crate::harness::secure::Certificates;

/// How a call begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tls {
    No,
    Start,
    Implicit,
}

#[test]
fn each_mechanism_in_clear_and_under_tls() {
    let certificates = Certificates::new();
    let own = certificates.issue("provider", &["relay.example", "127.0.0.1"], |_| {});
    let config = certificates.client_config();
    for kind in ["starttls", "implicit"] {
        let provider = Provider::start_with(2, &format!("tls = \"{kind}\""), &own.section());
        let connect = |tls| match tls {
            Tls::No => Site::connect(provider.odmr),
            Tls::Start => Site::connect(provider.odmr).start_tls(&config),
            Tls::Implicit => Site::under_tls(provider.odmr, &config),
        };
        let check = |tls: Tls, mechanism: &str, expected: u16| {
            let what = format!("{tls:?} {mechanism}");
            let mut site = connect(tls);
            let (code, line) = site.log_in(mechanism, "branch", SECRET);
            assert_eq!(code, expected, "{what}: {line}");
            if expected != 235 {
                site.expect("ATRN", 530);
                site.expect("QUIT", 221);
                return;
            }
            site.expect("AUTH PLAIN AGEAYg==", 503);
            let mut held = provider.hold("a.example", 3);
            held.extend(provider.hold("b.example", 3));
            site.expect("ATRN a.example,b.example", 250);
            assert_eq!(sorted(site.take(usize::MAX)), sorted(held), "{what}");
            if mechanism != "SCRAM-SHA-256" {
                return;
            }
            // The wrong password and the wrong user are told alike.
            let mut site = connect(tls);
            let wrong = site.log_in(mechanism, "branch", "x");
            assert_eq!(wrong.0, 535, "{what}: {wrong:?}");
            assert_eq!(site.log_in(mechanism, "nobody", SECRET), wrong, "{what}");
            site.expect("ATRN a.example", 530);
        };
        if kind == "implicit" {
            for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"] {
                check(Tls::Implicit, mechanism, 235);
            }
        } else {
            for (mechanism, in_clear) in [
                ("PLAIN", 538),
                ("LOGIN", 538),
                ("CRAM-MD5", 235),
                ("SCRAM-SHA-256", 235),
            ] {
                check(Tls::No, mechanism, in_clear);
                check(Tls::Start, mechanism, 235);
            }
        }
        provider.relay.wait_until_empty();
        let log = provider.relay.log();
        assert!(!log.contains(SECRET), "{log}");
    }
}

/// What was said in clear does not count under TLS.
#[test]
fn starttls_forgets_who_it_was() {
    let certificates = Certificates::new();
    let own = certificates.issue("provider", &["relay.example", "127.0.0.1"], |_| {});
    let provider = Provider::start_with(1, "tls = \"starttls\"", &own.section());
    provider.hold("a.example", 1);
    let mut site = provider.call("branch");
    site = site.start_tls(&certificates.client_config());
    site.expect("ATRN a.example", 530);
    site.authenticate("branch");
    site.expect("ATRN a.example", 250);
    assert_eq!(site.take(usize::MAX).len(), 1);
}

#[test]
fn each_code_in_its_place() {
    let provider = Provider::start(2);
    let mut site = Site::connect(provider.odmr);
    let elsewhere = [
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<a@b.example>",
        "DATA",
        "VRFY a",
        "EXPN a",
        "HELP",
        "ETRN a.example",
        "TURN",
    ];
    // RFC 2645 §5.1: EHLO, AUTH, QUIT; §5.2: ATRN too.
    for line in elsewhere {
        let code = if line == "TURN" || line == "EXPN a" {
            500..=502
        } else {
            502..=502
        };
        site.say(&format!("{line}\r\n"));
        let (got, text) = site.reply();
        assert!(code.contains(&got), "{line}: {text}");
    }
    site.expect("ATRN", 530);
    site.expect("ATRN a.example", 530);
    site.authenticate("branch");
    for line in ["MAIL FROM:<>", "DATA", "ETRN a.example"] {
        site.expect(line, 502);
    }
    site.expect("AUTH CRAM-MD5", 503);
    site.expect("ATRN a b", 501);
    site.expect("ATRN c.example", 450);
    site.expect("ATRN", 453);
    site.expect("ATRN a.example", 453);
    site.expect("NOOP", 250);
    // What came after the 453 is there for the next ATRN of the same session.
    let held = provider.hold("a.example", 2);
    let text = site.expect("atrn A.example", 250);
    assert!(text.starts_with("250 2.0.0 "), "{text}");
    assert_eq!(sorted(site.take(usize::MAX)), held);
}

/// A call while all that there is is on another line, perhaps a dead one, is not told
/// that there is no mail; and has it when that line is gone.
#[test]
fn what_is_in_flight_is_not_no_mail() {
    let provider = Provider::start(2);
    let held = provider.hold("a.example", 1);
    let mut first = provider.call("branch");
    first.expect("ATRN", 250);
    first.say("220 site.example\r\n");
    let mut line = first.line();
    while !line.starts_with("MAIL") {
        let reply = first.answer(line.get(..4).unwrap_or_default());
        first.say(&reply);
        line = first.line();
    }
    let mut second = provider.call("branch");
    let text = second.expect("ATRN", 450);
    assert!(text.starts_with("450 4.5.5 "), "{text}");
    second.expect("ATRN b.example", 453);
    drop(first);
    eventually("the mail is back", || {
        second.say("ATRN\r\n");
        (second.reply().0 == 250).then_some(())
    });
    assert_eq!(second.take(usize::MAX), held);
}

/// A site that wants nothing now says so by its greeting, and its mail stays.
#[test]
fn a_site_that_changes_its_mind_keeps_its_mail_with_us() {
    let provider = Provider::start(2);
    let held = provider.hold("a.example", 4);
    for greeting in ["421 not now", "554 never", "999 nonsense", "\0"] {
        let mut site = provider.call("branch");
        site.expect("ATRN", 250);
        site.say(&format!("{greeting}\r\n"));
        let mut rest = String::new();
        while let line @ 1.. = {
            let line = site.line();
            rest.push_str(&line);
            line.len()
        } {
            assert!(line < 1000);
            if rest.ends_with("QUIT\r\n") {
                site.say("221 bye\r\n");
            }
        }
        assert!(!rest.contains("MAIL"), "{greeting}: {rest}");
    }
    assert_eq!(sorted(provider.collect("branch", "")), held);
}

/// Who hammers is told so, and the other customer notices nothing of it.
#[test]
fn who_asks_too_often_waits() {
    let provider = Provider::start(2);
    let mut codes = Vec::new();
    for _ in 0..4 {
        let mut site = provider.call("branch");
        for _ in 0..30 {
            site.say("ATRN\r\n");
            codes.push(site.reply());
        }
    }
    let is = |code: u16| codes.iter().filter(|(got, _)| *got == code).count();
    assert!(is(453) >= 100 && is(450) > 0, "{codes:?}");
    assert_eq!(is(453) + is(450), 120, "{codes:?}");
    let held = provider.hold("c.example", 2);
    assert_eq!(sorted(provider.collect("other", "")), held);
}
