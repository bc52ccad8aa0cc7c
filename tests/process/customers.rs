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

/// By octets, and told in octets.
#[test]
fn a_quota_in_octets() {
    let nowhere = place::next_address().to_string();
    let lines = format!("quota = {{ bytes = \"1MiB\" }}\n{OPEN}");
    let mut relay = Setup::new()
        .customer(&customer("branch", &nowhere, &lines))
        .customer(&customer("other", &nowhere, OPEN))
        .start();
    let large = message("large", &"text text text text\r\n".repeat(30_000));
    let mut client = relay.client();
    for _ in 0..2 {
        client.send(SENDER, &["<b@branch.example>"], &large);
    }
    client.expect(&format!("MAIL FROM:{SENDER}"), 250);
    let reply = client.expect("RCPT TO:<b@branch.example>", 452);
    assert!(reply.text().contains("4.2.2"), "{reply:?}");
    client.expect("RCPT TO:<b@other.example>", 250);
    client.expect("RSET", 250);
    // Where it is taken away there is room again.
    let queued = relay.queued();
    assert_eq!(relay.run(&["queue", "delete", &queued[0]]).code, Some(0));
    eventually("there is room", || {
        client.expect(&format!("MAIL FROM:{SENDER}"), 250);
        let reply = client.command("RCPT TO:<b@branch.example>");
        client.expect("RSET", 250);
        (reply.code == 250).then_some(())
    });
    relay.stop();
}

/// Each of a customer's options is changed by a reload, in the process that runs, for mail
/// that is held already too.
#[test]
fn a_change_of_a_customer_takes_a_reload_and_no_restart() {
    let (before, behind) = (Sink::new(), Sink::new());
    let closed = "release = { clients = [\"192.0.2.1\"] }\nquota = { messages = 1 }";
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("branch", &before.address().to_string(), closed))
        .start();
    let pid = relay.pid();
    let mut client = relay.client();
    client.send(SENDER, &["<b@branch.example>"], &message("one", "text"));
    client.expect("ETRN branch.example", 459);
    client.expect(&format!("MAIL FROM:{SENDER}"), 250);
    client.expect("RCPT TO:<b@branch.example>", 452);
    client.expect("RSET", 250);
    let open = format!("queue = \"other\"\nquota = {{ messages = 2 }}\n{OPEN}");
    let changed = customer("branch", &behind.address().to_string(), &open);
    relay.change(|setup| {
        Setup::new()
            .cores(2)
            .listen(setup.address)
            .customer(&changed)
    });
    relay.reload();
    eventually("the new configuration is in force", || {
        relay.log().contains("configured").then_some(())
    });
    // In the same session too.
    client.expect("ETRN #branch", 459);
    client.send(SENDER, &["<b@branch.example>"], &message("two", "text"));
    client.expect("ETRN #other", 253);
    behind.wait_for(2);
    relay.wait_until_empty();
    assert_eq!((before.count(), relay.pid()), (0, pid));
    relay.stop();
}

/// Whom to ask stands beside what went wrong.
#[test]
fn a_site_that_cannot_be_woken_is_told_of_with_its_contact() {
    let lines = "wake_command = [\"/bin/false\"]\ncontact = \"hostmaster@isp.example\"";
    let mut relay = Setup::new()
        .customer(&customer(
            "branch",
            &place::next_address().to_string(),
            lines,
        ))
        .start();
    let mut client = relay.client();
    client.send(SENDER, &["<b@branch.example>"], &message("held", "text"));
    relay.facts(&["release", "branch"]);
    eventually("it is told", || {
        let log = relay.log();
        log.contains("(contact: hostmaster@isp.example)")
            .then_some(())
    });
    assert_eq!(relay.queued().len(), 1, "it stays held");
    relay.stop();
}
