//! What a customer is promised besides being asked for its mail: that it goes where the
//! DNS says, that senders hear of a delay, and that a site that is woken has time to come.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::dns::NameServer;
use crate::harness::message::{contains, message};
use crate::harness::place::EXCHANGER_PORT;
use crate::harness::{Setup, Sink, eventually, place};

const SENDER: &str = "<a@client.example>";

fn customer(name: &str, deliver_to: &str, lines: &str) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"{deliver_to}\"\n{lines}\n"
    )
}

const OPEN: &str = "release = { open = true }";

/// To the exchangers that are better than we are, or to a host by its name.
#[test]
fn released_mail_goes_where_the_dns_says() {
    let (site, far) = (Sink::exchanger(), Sink::exchanger());
    let dns = NameServer::new();
    dns.mx(
        "branch.example",
        &[(10, "mail.branch.example"), (20, "relay.example")],
    );
    dns.host("mail.branch.example", &[site.address()]);
    dns.host("mail.far.example", &[far.address()]);
    let by_name = format!("mail.far.example:{EXCHANGER_PORT}");
    let mut relay = Setup::mx(dns.address(), EXCHANGER_PORT)
        .customer(&customer("branch", "mx", OPEN))
        .customer(&customer("far", &by_name, OPEN))
        .start();
    let mut client = relay.client();
    for (name, sink) in [("branch", &site), ("far", &far)] {
        let to = format!("<b@{name}.example>");
        client.send(SENDER, &[&to], &message(name, "text"));
        assert_eq!(relay.queued().len(), 1, "{name}: it is held");
        client.expect(&format!("ETRN {name}.example"), 253);
        let mail = sink.wait_for_one();
        assert!(mail.recipients[0].starts_with(&to), "{mail:?}");
        relay.wait_until_empty();
    }
    relay.stop();
}

/// `warn` of a customer: once, and the mail stays.
#[test]
fn senders_hear_that_held_mail_is_late() {
    let senders = Sink::new();
    let nowhere = place::next_address().to_string();
    let lines = format!("warn = \"1s\"\n{OPEN}");
    let mut relay = Setup::new()
        .route("client.example", senders.address())
        .customer(&customer("branch", &nowhere, &lines))
        .start();
    let mut client = relay.client();
    client.send(SENDER, &["<b@branch.example>"], &message("late", "text"));
    let mail = senders.wait_for_one();
    for part in [
        "\r\nAction: delayed\r\n",
        "\r\nStatus: 4.4.7\r\n",
        "rfc822;b@branch.example\r\n",
        "\r\nWill-Retry-Until: ",
    ] {
        assert!(contains(&mail.octets, part), "no {part:?}: {mail:?}");
    }
    // Another message is told of behind it, so the first was not told of again.
    client.send(SENDER, &["<c@branch.example>"], &message("two", "text"));
    let mail = senders.wait_for(2);
    assert!(contains(&mail[1].octets, "rfc822;c@branch.example\r\n"));
    assert_eq!((relay.queued().len(), senders.count()), (2, 2));
    relay.stop();
}

/// The command has ended, and the line is still coming up: the drain waits for the site.
#[test]
fn a_site_that_was_woken_has_time_to_come() {
    let address = place::next_address();
    let directory = tempfile::tempdir().expect("a directory");
    let (script, file) = (directory.path().join("dial"), directory.path().join("ran"));
    let text = format!("#!/bin/sh\necho ran >>{}\n", file.display());
    fs::write(&script, text).expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let wake = format!("wake_command = [\"{}\"]", script.display());
    let mut relay = Setup::new()
        .customer(&customer("branch", &address.to_string(), &wake))
        .start();
    let mut client = relay.client();
    client.send(SENDER, &["<b@branch.example>"], &message("held", "text"));
    let released = relay.facts(&["release", "branch"]);
    assert_eq!(released[0]["messages"], 1);
    eventually("it is not there yet", || {
        relay.log().contains("next-hop-unreachable").then_some(())
    });
    let site = Sink::at(address, &[], []);
    site.wait_for_one();
    relay.wait_until_empty();
    let ran = fs::read_to_string(&file).expect("it ran");
    assert_eq!(ran, "ran\n", "once");
    relay.stop();
}

/// Mail that arrives is a reason to wake a site, by its number, its urgency or its age; and
/// what is no reason is none.
#[test]
fn mail_that_arrives_wakes_the_site() {
    let directory = tempfile::tempdir().expect("a directory");
    let (script, file) = (directory.path().join("dial"), directory.path().join("ran"));
    let text = format!("#!/bin/sh\necho $TURNSPOOL_CUSTOMER >>{}\n", file.display());
    fs::write(&script, text).expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let rules = [
        ("number", "messages = 3"),
        ("urgent", "messages = 3, priority = 4"),
        ("old", "messages = 3, age = \"1s\""),
        ("none", "messages = 3, bytes = \"1MiB\""),
    ];
    let sites: Vec<_> = rules.iter().map(|_| Sink::new()).collect();
    let mut setup = Setup::new().cores(2).listener("priority = true");
    for ((name, wake_for), site) in rules.iter().zip(&sites) {
        let lines = format!(
            "wake_command = [\"{}\"]\nwake_for = {{ {wake_for} }}",
            script.display()
        );
        setup = setup.customer(&customer(name, &site.address().to_string(), &lines));
    }
    let mut relay = setup.start();
    let mut client = relay.client();
    let mut send = |name: &str, parameter: &str| {
        let to = format!("<b@{name}.example>");
        let from = format!("{SENDER}{parameter}");
        client.send(&from, &[&to], &message(name, "text"));
    };
    (0..2).for_each(|_| send("none", ""));
    (0..3).for_each(|_| send("number", ""));
    send("urgent", " MT-PRIORITY=3");
    send("urgent", " MT-PRIORITY=4");
    send("old", "");
    sites[0].wait_for(3);
    sites[1].wait_for(2);
    sites[2].wait_for_one();
    eventually("the rest is held", || {
        (relay.queued().len() == 2).then_some(())
    });
    let ran = fs::read_to_string(&file).expect("it ran");
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    assert_eq!(ran, ["number", "old", "urgent"], "once each");
    let log = relay.log();
    for why in [
        "3 messages wait",
        "a message of priority 4 is there",
        "waited 1 s",
    ] {
        assert!(log.contains(why), "no {why:?}: {log}");
    }
    assert_eq!(sites[3].count(), 0);
    relay.stop();
}
