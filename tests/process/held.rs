//! Mail that is held for customers: kept while their sites are away, let go when they
//! ask, and to nobody who may not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::harness::message::message;
use crate::harness::{Client, Gate, Setup, Sink, Stage, eventually, on, place, skipped};

const SENDER: &str = "<a@client.example>";

/// A customer with one domain of its name, whose mail goes to `site`.
fn customer(name: &str, site: &str, lines: &str) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\", \".{name}.example\"]\n\
         deliver_to = \"{site}\"\n{lines}\n"
    )
}

const OPEN: &str = "release = { open = true }";

fn send(client: &mut Client, to: &str, subject: &str) {
    client.send(SENDER, &[&format!("<{to}>")], &message(subject, "text"));
}

#[test]
fn etrn_lets_go_what_is_held_for_the_one_who_asks_and_nothing_else() {
    let (site, other) = (Sink::new(), Sink::new());
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("branch", &site.address().to_string(), OPEN))
        .customer(&customer("other", &other.address().to_string(), OPEN))
        .start();
    // Connections spread over the cores: the counts are of all of them.
    for i in 0..10 {
        send(&mut relay.client(), "b@branch.example", &i.to_string());
    }
    send(&mut relay.client(), "b@sub.branch.example", "below");
    send(&mut relay.client(), "b@other.example", "other");
    let mut client = relay.client();
    assert!(client.hello().offers("ETRN"));
    let started = client.expect("ETRN sub.branch.example", 253).text();
    assert!(started.contains("OK, 1 pending message,"), "{started}");
    site.wait_for_one();
    let started = client.expect("ETRN branch.example", 253).text();
    assert!(started.contains("OK, 10 pending messages,"), "{started}");
    site.wait_for(11);
    eventually("the drain is over", || {
        let ended = relay.log().contains("release-ended");
        (ended && relay.queued().len() == 1).then_some(())
    });
    let nothing = client.expect("ETRN #branch", 251).text();
    assert!(
        nothing.contains("no messages waiting for node #branch"),
        "{nothing}"
    );
    assert_eq!(other.count(), 0);
    assert_eq!(relay.queued().len(), 1);
    client.expect("ETRN @other.example", 253);
    other.wait_for_one();
    relay.wait_until_empty();
    let log = relay.log();
    assert!(
        log.contains("release of branch (branch.example), by ETRN of 127."),
        "{log}"
    );
    relay.stop();
}

#[test]
fn a_site_that_is_away_keeps_its_mail_and_gets_it_when_it_is_back() {
    let address = place::next_address();
    let mut relay = Setup::new()
        .customer(&customer("branch", &address.to_string(), OPEN))
        .start();
    let mut client = relay.client();
    send(&mut client, "b@branch.example", "waits");
    client.expect("ETRN branch.example", 253);
    eventually("a connection was tried", || {
        relay.log().contains("next-hop-unreachable").then_some(())
    });
    // The line is still up for it: who asks again joins, and the site is tried at once.
    let site = Sink::at(address, &[], []);
    client.expect("ETRN branch.example", 250);
    site.wait_for_one();
    relay.wait_until_empty();
    relay.stop();
}

/// What the log was to tell at the end of the minute it tells before the end of the server.
#[test]
fn a_stop_tells_of_refusals_that_were_only_counted() {
    let nowhere = place::next_address().to_string();
    let mut relay = Setup::new()
        .customer(&customer("branch", &nowhere, ""))
        .start();
    let mut stranger = relay.client();
    stranger.hello();
    for _ in 0..8 {
        stranger.expect("ETRN branch.example", 459);
    }
    relay.stop();
    let log = relay.log();
    assert!(log.contains("3 more ETRN of 127."), "{log}");
}

#[test]
fn the_operator_releases_by_name_and_the_site_is_woken_first() {
    let site = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (script, file) = (directory.path().join("dial"), directory.path().join("told"));
    let text = format!(
        "#!/bin/sh\necho \"$TURNSPOOL_CUSTOMER $1\" >>{}\n",
        file.display()
    );
    fs::write(&script, text).expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let wake = format!("wake_command = [\"{}\", \"; exit 1\"]", script.display());
    let mut relay = Setup::new()
        .customer(&customer("branch", &site.address().to_string(), &wake))
        .start();
    let nothing = relay.run(&["release", "branch"]);
    assert!(nothing.stdout.contains("nothing waits"), "{nothing:?}");
    assert!(!file.exists(), "nobody is woken for nothing");
    send(&mut relay.client(), "b@branch.example", "one");
    assert_eq!(relay.client().hello().code, 250);
    let mut stranger = relay.client();
    stranger.expect("ETRN branch.example", 459);
    let released = relay.facts(&["release", "branch"]);
    assert_eq!(released[0]["messages"], 1);
    site.wait_for_one();
    assert_eq!(
        fs::read_to_string(&file).expect("it ran"),
        "branch ; exit 1\n"
    );
    // Nor does a name with a letter wrong let go what waits elsewhere.
    for unknown in ["no such", "brnch"] {
        let unknown = relay.run(&["release", unknown]);
        assert_eq!(unknown.code, Some(1), "{unknown:?}");
    }
    let routed = relay.run(&["release", "elsewhere.example"]);
    assert_eq!(routed.code, Some(0), "{routed:?}");
    assert!(
        routed.stdout.contains("that is the whole queue"),
        "{routed:?}"
    );
    relay.stop();
}

#[test]
fn a_connection_from_the_customer_is_enough_where_it_says_so() {
    let site = Sink::new();
    let lines = "release = { auth = false, clients = [\"127.0.0.0/8\"], on_connect = true }";
    let mut relay = Setup::new()
        .customer(&customer("branch", &site.address().to_string(), lines))
        .start();
    send(&mut relay.client(), "b@branch.example", "one");
    drop(relay.client());
    site.wait_for_one();
    relay.wait_until_empty();
    relay.stop();
}

#[test]
fn a_quota_is_of_all_cores_and_outlives_a_crash() {
    let site = Sink::new();
    let lines = format!("{OPEN}\nquota = {{ messages = 3 }}");
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("branch", &site.address().to_string(), &lines))
        .start();
    let refused = |relay: &crate::harness::Relay| {
        let mut client = relay.client();
        client.expect(&format!("MAIL FROM:{SENDER}"), 250);
        let reply = client.command("RCPT TO:<b@branch.example>");
        (reply.code == 452).then(|| reply.text())
    };
    for i in 0..3 {
        assert_eq!(refused(&relay), None);
        send(&mut relay.client(), "b@branch.example", &i.to_string());
    }
    let text = refused(&relay).expect("the quota is reached");
    assert!(text.contains("4.2.2"), "{text}");
    relay.kill();
    relay.start_again();
    assert!(refused(&relay).is_some(), "it is counted anew");
    assert_eq!(relay.counter("customer.branch.messages"), 3);
    relay.client().expect("ETRN branch.example", 253);
    site.wait_for(3);
    relay.wait_until_empty();
    assert_eq!(refused(&relay), None);
    relay.stop();
}

#[test]
fn a_customer_is_added_by_a_reload() {
    let site = Sink::new();
    let mut relay = Setup::new().start();
    relay.client().expect("ETRN branch.example", 502);
    relay.change(|setup| setup.customer(&customer("branch", &site.address().to_string(), OPEN)));
    relay.reload();
    eventually("ETRN is offered", || {
        relay.client().hello().offers("ETRN").then_some(())
    });
    let mut client = relay.client();
    send(&mut client, "b@branch.example", "one");
    assert_eq!(relay.queued().len(), 1);
    client.expect("ETRN branch.example", 253);
    site.wait_for_one();
    relay.stop();
}

/// What is queued already goes where the new configuration says.
#[test]
fn a_reload_files_anew_what_waits() {
    let (away, site) = (place::next_address(), Sink::new());
    let held = customer("branch", &site.address().to_string(), OPEN);
    let mut relay = Setup::new().route("branch.example", away).start();
    send(&mut relay.client(), "b@branch.example", "one");
    eventually("it was tried", || {
        relay.log().contains("next-hop-unreachable").then_some(())
    });
    relay.change(|setup| Setup::new().listen(setup.address).customer(&held));
    relay.reload();
    eventually("it is the customer's", || {
        let listed = relay.facts(&["queue", "list", "--customer", "branch"]);
        (listed.len() == 1 && listed[0]["state"] == "held").then_some(())
    });
    assert_eq!(relay.counter("customer.branch.messages"), 1);
    let moved = Sink::new();
    let address = moved.address();
    relay.change(|setup| {
        let route = Setup::new().listen(setup.address);
        route.route("branch.example", address)
    });
    relay.reload();
    moved.wait_for_one();
    relay.wait_until_empty();
    assert_eq!(site.count(), 0);
    relay.stop();
}

/// Whatever is asked and however often, others are served, and what does not exist
/// looks like what is not allowed.
#[test]
fn abuse() {
    let site = Sink::new();
    let closed = "release = { clients = [\"192.0.2.1\"] }";
    let mut relay = Setup::new()
        .customer(&customer("branch", &site.address().to_string(), closed))
        .customer(&customer("open", &site.address().to_string(), OPEN))
        .start();
    send(&mut relay.client(), "b@branch.example", "one");
    let mut client = relay.client();
    let forbidden = client.expect("ETRN branch.example", 459).text();
    assert_eq!(client.expect("ETRN nobody.example", 459).text(), forbidden);
    assert_eq!(client.expect("ETRN #branch", 459).text(), forbidden);
    assert_eq!(
        client.expect("ETRN @example", 251).code,
        251,
        "open's alone"
    );
    for name in [
        "a/b",
        "../../etc/passwd",
        "'; DROP TABLE x; --",
        "$(reboot)",
        "#a'b",
        "#..\\..",
        "@",
        "#",
        "<b@branch.example>",
        "\u{fc}",
        "%s%n",
        "[127.0.0.1]x",
    ] {
        let reply = relay.client().command(&format!("ETRN {name}"));
        assert!([459, 500, 501].contains(&reply.code), "{name}: {reply:?}");
    }
    let mut client = relay.client();
    client.write(b"ETRN a\0b\r\n");
    assert_eq!(client.reply().code, 500);
    client.write(&[b"ETRN ", &[b'a'; 1 << 20][..], b"\r\n"].concat());
    assert_eq!(client.reply().code, 500);
    // One name too often.
    let mut client = relay.client();
    let mut codes: Vec<u16> = (0..8).map(|_| client.command("ETRN #open").code).collect();
    codes.dedup();
    assert_eq!(codes, [251, 458]);
    assert_eq!(site.count(), 0);
    assert_eq!(relay.queued().len(), 1);
    relay.stop();
}

/// Unknown names by the thousand: a client is refused so often at once, and then it waits,
/// in new sessions too. Nobody else does, and the log is not filled with it.
#[test]
fn a_flood_of_etrn_waits() {
    let site = Sink::new();
    let closed = "release = { clients = [\"192.0.2.1\"] }";
    let mut relay = Setup::new()
        .cores(1)
        .customer(&customer("branch", &site.address().to_string(), closed))
        .start();
    let flood = |lines: usize| {
        let stranger = "127.0.0.77".parse().expect("an address");
        let mut client = Client::connect_from(stranger, relay.address());
        client.hello();
        let names = (0..lines).map(|i| format!("ETRN nobody-{i}.example\r\n"));
        client.write(names.collect::<String>().as_bytes());
        client
    };
    let replies = |client: &mut Client| {
        let codes = std::iter::from_fn(|| Some(client.try_reply().ok()?.code));
        codes.collect::<Vec<_>>()
    };
    // EHLO was the first of the hundred commands that move no mail.
    let codes = replies(&mut flood(150));
    assert_eq!(codes[..99], [459; 99]);
    assert_eq!(codes[99..], [421]);
    // In another session it waits before each, and behind some of that it is sent away.
    let mut stranger = flood(60);
    // Meanwhile others are served.
    send(&mut relay.client(), "b@branch.example", "one");
    relay.client().expect("ETRN nobody.example", 459);
    let mut codes = replies(&mut stranger);
    assert_eq!(codes.pop(), Some(421));
    assert!(
        codes.len() < 60 && codes.iter().all(|code| *code == 459),
        "{codes:?}"
    );
    let log = relay.log();
    let told = |client: &str| {
        let lines = log.lines().filter(|line| line.contains("not allowed"));
        lines.filter(|line| line.contains(client)).count()
    };
    assert_eq!(told("ETRN of 127.0.0.77:"), 5, "{log}");
    assert_eq!(told("ETRN of 127."), 6, "{log}");
    assert_eq!(site.count(), 0);
    relay.stop();
}

/// What was sent is not sent again but for what was in flight, and nothing is lost.
#[test]
fn a_crash_in_the_middle_of_a_drain() {
    const MESSAGES: usize = 60;
    // Behind the twentieth the site is slow enough to be caught.
    let gate = Gate::new();
    let site = Sink::ruled([on(Stage::End).after(20).times(1).hold(&gate)]);
    let mut relay = Setup::new()
        .delivery("connections_per_destination = 1")
        .customer(&customer("branch", &site.address().to_string(), OPEN))
        .start();
    let mut client = relay.client();
    for i in 0..MESSAGES {
        send(&mut client, "b@branch.example", &format!("number {i}."));
    }
    client.expect("ETRN branch.example", 253);
    eventually("the drain is in its middle", || {
        (gate.arrived() > 0).then_some(())
    });
    relay.kill();
    gate.open();
    relay.start_again();
    let left = relay.queued().len();
    assert!(left < MESSAGES, "what was done is done: {left}");
    relay.client().expect("ETRN branch.example", 253);
    relay.wait_until_empty();
    let mail = site.mail();
    for i in 0..MESSAGES {
        let copies = mail
            .iter()
            .filter(|mail| String::from_utf8_lossy(&mail.octets).contains(&format!("number {i}.")))
            .count();
        assert!((1..=2).contains(&copies), "number {i}: {copies} copies");
    }
    // The one at whose end the site was slow, and the one behind it.
    assert!(mail.len() <= MESSAGES + 2, "{} copies", mail.len());
    relay.stop();
}

/// The ETRN client that most sites have.
#[test]
fn fetchmail_calls() {
    let works = Command::new("fetchmail")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !works.is_ok_and(|status| status.success()) {
        skipped("fetchmail is not installed");
        return;
    }
    let site = Sink::new();
    let mut relay = Setup::new()
        .customer(&customer("branch", &site.address().to_string(), OPEN))
        .start();
    send(&mut relay.client(), "b@branch.example", "one");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rc");
    let (host, port) = (relay.address().ip(), relay.address().port());
    let text = format!("poll {host} proto ETRN service {port} fetchdomains \"branch.example\"\n");
    fs::write(&file, text).expect("it is ours");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let output = Command::new("fetchmail")
        .args(["--nodetach", "--nosyslog", "-v", "-f"])
        .arg(&file)
        .env("HOME", directory.path())
        .env("FETCHMAILHOME", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let said = format!("{output:?}");
    assert!(said.contains("ETRN branch.example"), "{said}");
    site.wait_for_one();
    relay.wait_until_empty();
    relay.stop();
}
