//! A mail system as the site of a customer: off line, then back, and calling for its mail.

use std::collections::BTreeMap;

use crate::harness::message::message;
use crate::harness::secure::Certificates;
use crate::harness::{Setup, Sink, eventually};
use crate::peer::{Kind, Peer, Wanted};

const MESSAGES: usize = 40;

fn comes_back(kind: Kind) {
    let certificates = Certificates::new();
    // Where the site's mail system hands on what it got.
    let behind = Sink::new();
    let wanted = Wanted::new(&certificates, behind.address());
    let section = format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\"b.example\"]\ndeliver_to = \"{}\"\n\
         release = {{ open = true }}\n",
        wanted.listen
    );
    let mut provider = Setup::new().cores(2).customer(&section).start();
    for number in 0..MESSAGES {
        let text = message(&format!("number {number}."), "text");
        let mut client = provider.client();
        client.send("<a@client.example>", &["<b@b.example>"], &text);
    }
    let mut client = provider.client();
    client.expect("ETRN b.example", 253);
    eventually("the provider gives up for now", || {
        provider.log().contains("release-ended").then_some(())
    });
    assert_eq!(provider.queued().len(), MESSAGES, "all is held as before");

    let Some(peer) = Peer::start(kind, &wanted) else {
        return;
    };
    let started = client.expect("ETRN b.example", 253).text();
    let count = format!("OK, {MESSAGES} pending messages,");
    assert!(started.contains(&count), "{started}");
    provider.wait_until_empty();
    let mail = behind.wait_for(MESSAGES);
    let mut times = BTreeMap::new();
    for mail in &mail {
        let text = String::from_utf8_lossy(&mail.octets).into_owned();
        let subject = text.lines().find(|line| line.starts_with("Subject: "));
        *times
            .entry(subject.expect("a subject").to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(times.len(), MESSAGES, "{kind:?}: {times:?}");
    assert!(times.values().all(|n| *n == 1), "{kind:?}: {times:?}");
    client.expect("ETRN b.example", 251);
    provider.stop();
    drop(peer);
    assert_eq!(behind.count(), MESSAGES);
}

#[test]
fn postfix_comes_back() {
    comes_back(Kind::Postfix);
}

#[test]
fn exim_comes_back() {
    comes_back(Kind::Exim);
}

#[test]
fn opensmtpd_comes_back() {
    comes_back(Kind::OpenSmtpd);
}
