//! A host that does not offer what a message needs: the next host is asked, and the
//! sender hears of it when none that counts is left.

use std::net::SocketAddr;

use crate::exchangers::{World, nobody};
use crate::harness::message::{assert_identical, message};
use crate::harness::{Gate, Sink, Stage, eventually, on, place};

/// What a message needs of a host.
struct Need {
    name: &'static str,
    /// The argument of MAIL.
    mail: &'static str,
    /// The local part of the recipient.
    to: &'static str,
    text: Vec<u8>,
    /// What a host offers that does not have it, and one that has.
    lacking: &'static [&'static str],
    able: &'static [&'static str],
    /// What the able one is told in MAIL.
    said: &'static str,
    status: &'static str,
}

fn needs() -> Vec<Need> {
    vec![
        // RFC 6531 §3.5.
        Need {
            name: "smtputf8",
            mail: "<a@client.example> SMTPUTF8",
            to: "käthe",
            text: message("smtputf8", "text"),
            lacking: &["PIPELINING", "8BITMIME"],
            able: &["PIPELINING", "8BITMIME", "SMTPUTF8"],
            said: " SMTPUTF8",
            status: "5.6.7",
        },
        // RFC 6152 §3.
        Need {
            name: "8bitmime",
            mail: "<a@client.example> BODY=8BITMIME",
            to: "b",
            text: message("8bitmime", "Grüße"),
            lacking: &["PIPELINING"],
            able: &["PIPELINING", "8BITMIME"],
            said: " BODY=8BITMIME",
            status: "5.6.3",
        },
        // RFC 1870 §6.1.
        Need {
            name: "size",
            mail: "<a@client.example>",
            to: "b",
            text: message("size", &"0123456789\r\n".repeat(100)),
            lacking: &["PIPELINING", "SIZE 1000"],
            able: &["PIPELINING", "SIZE 10000"],
            said: " SIZE=",
            status: "5.3.4",
        },
        // RFC 2852 §4.1.4.
        Need {
            name: "deliverby",
            mail: "<a@client.example> BY=3600;R",
            to: "b",
            text: message("deliverby", "text"),
            lacking: &["PIPELINING"],
            able: &["PIPELINING", "DELIVERBY"],
            said: " BY=",
            status: "5.3.3",
        },
    ]
}

fn exchanger(offers: &[&str]) -> Sink {
    Sink::at(place::next_exchanger(), offers, [])
}

/// The hosts of `NAME.example` with their preferences.
fn hosts(world: &World, name: &str, hosts: &[(u16, SocketAddr)]) {
    let named: Vec<_> = (hosts.iter().enumerate())
        .map(|(at, (preference, address))| {
            let host = format!("host-{at}.{name}.example");
            world.dns.host(&host, &[*address]);
            (*preference, host)
        })
        .collect();
    let records: Vec<_> = (named.iter())
        .map(|(preference, host)| (*preference, host.as_str()))
        .collect();
    world.dns.mx(&format!("{name}.example"), &records);
}

fn send(world: &World, need: &Need) {
    let to = format!("<{}@{}.example>", need.to, need.name);
    let mut client = world.relay.client();
    client.send(need.mail, &[&to], &need.text);
}

#[test]
fn the_next_host_is_asked() {
    let world = World::new();
    for need in needs() {
        let (first, second) = (exchanger(need.lacking), exchanger(need.able));
        let of_both = [(10, first.address()), (20, second.address())];
        hosts(&world, need.name, &of_both);
        send(&world, &need);
        let mail = second.wait_for_one();
        assert_identical(&mail.octets, &need.text);
        assert!(mail.mail.contains(need.said), "{}: {mail:?}", need.name);
        world.relay.wait_until_empty();
        assert_eq!(first.count(), 0, "{}", need.name);
        assert_eq!(first.sessions(), 1, "{}: the first was asked", need.name);
    }
    assert_eq!(world.senders.count(), 0);
}

#[test]
fn when_no_host_can_take_it_the_sender_is_told() {
    for need in needs() {
        let world = World::new();
        let (first, second) = (exchanger(need.lacking), exchanger(need.lacking));
        let of_both = [(10, first.address()), (20, second.address())];
        hosts(&world, need.name, &of_both);
        send(&world, &need);
        world.wait_for_bounce(need.status);
        for host in [&first, &second] {
            assert_eq!((host.count(), host.sessions()), (0, 1), "{}", need.name);
        }
    }
}

/// The host where the mail belongs is dead, and the one that stands in for it cannot take
/// it: it waits, and the log says what for.
#[test]
fn a_better_host_that_is_dead_is_waited_for() {
    for need in needs() {
        let world = World::new();
        let (best, second) = (nobody(), exchanger(need.lacking));
        hosts(&world, need.name, &[(10, best), (20, second.address())]);
        send(&world, &need);
        eventually("the log says what it waits for", || {
            let log = world.relay.log();
            let mut lines = log.lines();
            let why = "it waits for another host, of the same rank or better";
            let of_it = |line: &str| line.contains("deferred") && line.contains(why);
            lines.any(of_it).then_some(())
        });
        assert_eq!(world.relay.queued().len(), 1, "{}", need.name);
        let back = Sink::at(best, need.able, []);
        back.wait_for_one();
        world.relay.wait_until_empty();
        let told = (second.count(), world.senders.count());
        assert_eq!(told, (0, 0), "{}", need.name);
    }
}

/// A host that is dead and worse than one that has said no is not waited for, nor another
/// address of that one.
#[test]
fn nobody_waits_for_a_worse_host() {
    let need = || needs().remove(0);
    let world = World::new();
    let first = exchanger(need().lacking);
    let worse = nobody();
    hosts(&world, "smtputf8", &[(10, first.address()), (20, worse)]);
    send(&world, &need());
    world.wait_for_bounce("5.6.7");

    let world = World::new();
    world.dns.mx("smtputf8.example", &[(10, "both.example")]);
    world.dns.host("both.example", &[worse, first.address()]);
    send(&world, &need());
    world.wait_for_bounce("5.6.7");
    assert_eq!((first.count(), first.sessions()), (0, 2));
}

/// Recipients whom this host can take have their mail there, and only the others' goes on.
#[test]
fn each_recipient_goes_where_it_can() {
    let world = World::new();
    let (first, second) = (
        exchanger(&["PIPELINING", "8BITMIME"]),
        exchanger(&["PIPELINING", "8BITMIME", "SMTPUTF8"]),
    );
    let of_both = [(10, first.address()), (20, second.address())];
    hosts(&world, "b", &of_both);
    let text = message("both", "text");
    world.relay.client().send(
        "<a@client.example> SMTPUTF8",
        &["<käthe@b.example>", "<bob@b.example>"],
        &text,
    );
    for (sink, recipient) in [(&first, "<bob@b.example>"), (&second, "<käthe@b.example>")] {
        let mail = sink.wait_for_one();
        assert_identical(&mail.octets, &text);
        assert_eq!(mail.recipients, [recipient]);
    }
    world.relay.wait_until_empty();
    assert_eq!(world.senders.count(), 0);
}

/// On the connection to which one message was passed on goes other mail, too. What that
/// host cannot take of it does not fail: the first host was not asked about it.
#[test]
fn what_goes_with_it_does_not_fail_for_it() {
    let world = World::with(|setup| {
        let port = place::EXCHANGER_PORT;
        setup.delivery(&format!(
            "mx_port = {port}\nconnections_per_destination = 1"
        ))
    });
    let gate = Gate::new();
    let first = exchanger(&["PIPELINING", "8BITMIME"]);
    let second = Sink::at(
        place::next_exchanger(),
        &["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000"],
        [on(Stage::Mail).times(1).hold(&gate)],
    );
    let of_both = [(10, first.address()), (20, second.address())];
    hosts(&world, "b", &of_both);
    let mut client = world.relay.client();
    client.send(
        "<a@client.example> SMTPUTF8",
        &["<käthe@b.example>"],
        &message("utf8", "text"),
    );
    eventually("it was passed on", || (gate.arrived() == 1).then_some(()));
    let large = message("large", &"0123456789\r\n".repeat(100));
    client.send("<a@client.example>", &["<b@b.example>"], &large);
    client.send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("small", "text"),
    );
    gate.open();
    world.relay.wait_until_empty();
    assert_eq!(world.senders.count(), 0, "nothing failed");
    let mail = first.mail();
    let one = mail.iter().filter(|mail| mail.octets.ends_with(&large));
    assert_eq!(one.count(), 1, "the large one went to the first host");
    assert_eq!(first.count() + second.count(), 3);
}
