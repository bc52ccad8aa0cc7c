//! Delivery by MX: what the DNS says, and what becomes of the mail.

use std::net::SocketAddr;

use crate::harness::dns::{A, AAAA, MX, NameServer, Over, Record, Reply, alias};
use crate::harness::message::{contains, message};
use crate::harness::nsd::Nsd;
use crate::harness::place::EXCHANGER_PORT;
use crate::harness::sink::{EVERYTHING, Mail};
use crate::harness::{Relay, Setup, Sink, Stage, eventually, on, place};

const SENDER: &str = "<a@client.example>";

/// A relay that delivers by MX, and a host where the senders live.
struct World {
    dns: NameServer,
    relay: Relay,
    senders: Sink,
}

impl World {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let dns = NameServer::new();
        let senders = Sink::new();
        let setup = Setup::mx(dns.address(), EXCHANGER_PORT);
        let setup = setup.route("client.example", senders.address());
        let relay = change(setup).start();
        Self {
            dns,
            relay,
            senders,
        }
    }

    fn send(&self, domain: &str, subject: &str) {
        let text = message(subject, "text");
        let mut client = self.relay.client();
        client.send(SENDER, &[&format!("<b@{domain}>")], &text);
    }

    /// The only notification, which must have this status.
    #[track_caller]
    fn wait_for_bounce(&self, status: &str) {
        let mail = self.senders.wait_for_one();
        let text = String::from_utf8_lossy(&mail.octets).into_owned();
        let line = format!("\r\nStatus: {status}\r\n");
        assert!(text.contains(&line), "no {line:?} in {text}");
        self.relay.wait_until_empty();
    }
}

/// A host at which nothing listens.
fn nobody() -> SocketAddr {
    place::next_exchanger()
}

/// An exchanger that takes one message a session, so that each needs a new one.
fn one_by_one() -> Sink {
    Sink::exchanger_with([on(Stage::End).obey_then_close()])
}

/// Whether the relay has tried and put off a delivery for this reason.
fn has_logged(relay: &Relay, text: &str) -> Option<()> {
    relay.log().contains(text).then_some(())
}

#[test]
fn preference_decides() {
    let world = World::new();
    let (first, second) = (Sink::exchanger(), Sink::exchanger());
    world.dns.mx(
        "b.example",
        &[(20, "second.example"), (10, "first.example")],
    );
    world.dns.host("first.example", &[first.address()]);
    world.dns.host("second.example", &[second.address()]);
    world.send("b.example", "1");
    first.wait_for_one();
    assert_eq!(second.count(), 0);
}

#[test]
fn equal_exchangers_share() {
    let world = World::new();
    let (one, other) = (one_by_one(), one_by_one());
    world
        .dns
        .mx("b.example", &[(10, "one.example"), (10, "other.example")]);
    world.dns.host("one.example", &[one.address()]);
    world.dns.host("other.example", &[other.address()]);
    let mut sent = 0;
    while one.count() == 0 || other.count() == 0 {
        assert!(sent < 64, "one of them gets everything");
        world.send("b.example", "1");
        sent += 1;
        eventually("it is delivered", || {
            (one.count() + other.count() == sent).then_some(())
        });
    }
}

#[test]
fn a_dead_exchanger_is_passed_over() {
    let world = World::new();
    let second = Sink::exchanger();
    world.dns.mx(
        "b.example",
        &[(10, "first.example"), (20, "second.example")],
    );
    world.dns.host("first.example", &[nobody()]);
    world.dns.host("second.example", &[second.address()]);
    world.send("b.example", "1");
    second.wait_for(1);
    world.send("b.example", "2");
    second.wait_for(2);
}

/// 4xx in place of a greeting: the next one may be better.
#[test]
fn an_exchanger_that_does_not_greet_is_passed_over() {
    let world = World::new();
    let first = Sink::exchanger_with([on(Stage::Greeting).reply_then_close("421 4.3.2 not now")]);
    let second = Sink::exchanger();
    world.dns.mx(
        "b.example",
        &[(10, "first.example"), (20, "second.example")],
    );
    world.dns.host("first.example", &[first.address()]);
    world.dns.host("second.example", &[second.address()]);
    world.send("b.example", "1");
    second.wait_for_one();
    assert_eq!(first.count(), 0);
}

#[test]
fn all_exchangers_dead_then_one_is_back() {
    let world = World::new();
    let (first, second) = (nobody(), nobody());
    world.dns.mx(
        "b.example",
        &[(10, "first.example"), (20, "second.example")],
    );
    world.dns.host("first.example", &[first]);
    world.dns.host("second.example", &[second]);
    world.send("b.example", "1");
    eventually("it is put off", || {
        has_logged(&world.relay, "mx of b.example")
    });
    assert!(!world.relay.is_empty());
    let sink = Sink::at(second, EVERYTHING, []);
    sink.wait_for_one();
    world.relay.wait_until_empty();
    assert_eq!(world.senders.count(), 0);
}

/// A host that is dead for one domain is dead for the others too.
#[test]
fn a_dead_host_is_remembered_for_all_domains() {
    let world = World::with(|setup| {
        setup.retry(
            "first = \"1h\"\nfactor = 1.0\nlongest = \"1h\"\ngive_up = \"2h\"\nwarn = \"0s\"",
        )
    });
    let second = Sink::exchanger();
    let dead = nobody();
    for domain in ["b.example", "c.example", "d.example"] {
        world
            .dns
            .mx(domain, &[(10, "first.example"), (20, "second.example")]);
    }
    world.dns.host("first.example", &[dead]);
    world.dns.host("second.example", &[second.address()]);
    world.send("b.example", "1");
    second.wait_for(1);
    let before = world.relay.counter("connections_out");
    // It is there now, but its time has not come.
    let first = Sink::at(dead, EVERYTHING, []);
    world.send("c.example", "2");
    world.send("d.example", "3");
    second.wait_for(3);
    assert_eq!(first.sessions(), 0, "it was tried before its time");
    assert_eq!(world.relay.counter("connections_out"), before + 2);
}

#[test]
fn null_mx_fails_at_once() {
    let world = World::new();
    world.dns.mx("b.example", &[(0, ".")]);
    world.send("b.example", "1");
    world.wait_for_bounce("5.1.10");
}

#[test]
fn a_domain_that_does_not_exist_fails_at_once() {
    let world = World::new();
    world.send("nowhere.example", "1");
    world.wait_for_bounce("5.1.2");
}

#[test]
fn no_mx_means_the_domain_itself() {
    let world = World::new();
    let sink = Sink::exchanger();
    world.dns.host("b.example", &[sink.address()]);
    world.send("b.example", "1");
    sink.wait_for_one();
}

/// RFC 5321 §5.1: never the domain's own address where there are exchangers.
#[test]
fn exchangers_without_addresses_fail() {
    let world = World::new();
    let own = Sink::exchanger();
    world
        .dns
        .mx("b.example", &[(10, "gone.example"), (20, "empty.example")]);
    world.dns.set("empty.example", MX, Reply::Records(vec![]));
    world.dns.host("b.example", &[own.address()]);
    world.send("b.example", "1");
    world.wait_for_bounce("5.4.4");
    assert_eq!(own.count(), 0);
}

#[test]
fn we_are_the_best_exchanger_by_name() {
    let world = World::new();
    let worse = Sink::exchanger();
    world
        .dns
        .mx("b.example", &[(10, "relay.example"), (20, "worse.example")]);
    world.dns.host("worse.example", &[worse.address()]);
    world.send("b.example", "1");
    world.wait_for_bounce("5.4.6");
    assert_eq!(worse.count(), 0);
}

/// Under another name, at the address where we listen.
#[test]
fn we_are_an_exchanger_by_address() {
    let world = World::with(|setup| setup.listen(place::next_exchanger()));
    let (better, worse) = (Sink::exchanger(), Sink::exchanger());
    let ours = world.relay.address();
    world.dns.mx(
        "b.example",
        &[
            (5, "better.example"),
            (10, "alias.example"),
            (20, "worse.example"),
        ],
    );
    world.dns.host("better.example", &[better.address()]);
    world.dns.host("alias.example", &[ours]);
    world.dns.host("worse.example", &[worse.address()]);
    world.send("b.example", "1");
    better.wait_for_one();
    assert_eq!(worse.count(), 0);
    world
        .dns
        .mx("c.example", &[(10, "alias.example"), (20, "worse.example")]);
    world.send("c.example", "2");
    world.wait_for_bounce("5.4.6");
    assert_eq!(worse.count(), 0);
}

#[test]
fn aliases_are_followed() {
    let world = World::new();
    let sink = Sink::exchanger();
    world
        .dns
        .set("b.example", MX, Reply::Records(vec![alias("c.example")]));
    world.dns.mx("c.example", &[(10, "mail.example")]);
    for kind in [A, AAAA] {
        let records = vec![alias("host.example")];
        world.dns.set("mail.example", kind, Reply::Records(records));
    }
    world.dns.host("host.example", &[sink.address()]);
    world.send("b.example", "1");
    sink.wait_for_one();
}

/// Whatever a name server does that is no answer: mail waits, and goes when it answers.
#[test]
fn trouble_with_the_dns_is_waited_out() {
    let mut cases: Vec<(&str, u16, Reply)> = Vec::new();
    for kind in [MX, A] {
        cases.extend([
            ("SERVFAIL", kind, Reply::Code(2)),
            ("REFUSED", kind, Reply::Code(5)),
            ("silence", kind, Reply::Silence),
            ("garbage", kind, Reply::Garbage),
            ("a referral", kind, Reply::Referral),
        ]);
    }
    let world = World::new();
    let sink = Sink::exchanger();
    let quick = Sink::exchanger();
    world.dns.mx("quick.example", &[(10, "quickhost.example")]);
    world.dns.host("quickhost.example", &[quick.address()]);
    let domain = |at: usize| format!("b{at}.example");
    let host = |at: usize| format!("host{at}.example");
    for (at, (_, kind, reply)) in cases.iter().enumerate() {
        world.dns.mx(&domain(at), &[(10, &host(at))]);
        world.dns.host(&host(at), &[sink.address()]);
        let name = if *kind == MX { domain(at) } else { host(at) };
        world.dns.set(&name, *kind, reply.clone());
        world.send(&domain(at), "1");
    }
    // Nobody else waits for those who do not answer.
    world.send("quick.example", "1");
    quick.wait_for_one();
    for (at, (name, kind, _)) in cases.iter().enumerate() {
        let next_hop = format!("mx of {}", domain(at));
        eventually(&format!("{name} for type {kind} is noticed"), || {
            has_logged(&world.relay, &next_hop)
        });
    }
    assert_eq!(sink.count(), 0);
    for (at, _) in cases.iter().enumerate() {
        world.dns.mx(&domain(at), &[(10, &host(at))]);
        world.dns.host(&host(at), &[sink.address()]);
    }
    let mail = sink.wait_for(cases.len());
    world.relay.wait_until_empty();
    for (at, (name, ..)) in cases.iter().enumerate() {
        let to = |mail: &&Mail| mail.recipients[0].contains(&format!("@{}>", domain(at)));
        assert_eq!(mail.iter().filter(to).count(), 1, "{name}");
    }
    assert_eq!(
        world.senders.count(),
        0,
        "nothing fails for trouble of the DNS"
    );
}

#[test]
fn a_long_answer_comes_over_tcp() {
    let world = World::new();
    let sink = Sink::exchanger();
    // More than any datagram takes, and more than is looked at.
    let mut records: Vec<Record> = (0..1000)
        .map(|i| Record::mx(100 + i, &format!("nobody-{i}.example")))
        .collect();
    records.push(Record::mx(1, "mail.example"));
    world.dns.set("b.example", MX, Reply::Truncated(records));
    world.dns.host("mail.example", &[sink.address()]);
    world.send("b.example", "1");
    sink.wait_for_one();
    assert!(world.dns.asked("b.example", MX, Over::Tcp) >= 1);
}

/// The one that answers is asked after the ones that do not.
#[test]
fn servers_stand_in_for_one_another() {
    let (broken, silent, good) = (NameServer::new(), NameServer::new(), NameServer::new());
    let sink = Sink::exchanger();
    good.mx("b.example", &[(10, "mail.example")]);
    good.host("mail.example", &[sink.address()]);
    for (name, kind) in [
        ("b.example", MX),
        ("mail.example", A),
        ("mail.example", AAAA),
    ] {
        broken.set(name, kind, Reply::Code(5));
        silent.set(name, kind, Reply::Silence);
    }
    let setup = Setup::new()
        .delivery(&format!("mx_port = {}", EXCHANGER_PORT))
        .servers(&[broken.address(), silent.address(), good.address()]);
    let relay = setup.start();
    let mut client = relay.client();
    client.send(SENDER, &["<b@b.example>"], &message("1", "text"));
    sink.wait_for_one();
    // Who was silent is not waited for again and again.
    assert!(silent.asked("mail.example", A, Over::Udp) <= 1);
}

#[test]
fn ipv6_first_and_ipv4_behind_it() {
    // The one IPv6 address that every machine has: nobody listens there, and nobody
    // else gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
    let local = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    let bound = socket.and_then(|socket| socket.bind(&local.into()).map(|()| socket));
    let Ok(bound) = bound else {
        crate::harness::skipped("IPv6 first: this machine has no IPv6");
        return;
    };
    let six_address = bound.local_addr().expect("bound").as_socket();
    let six_address = six_address.expect("an address of IPv6");
    let port = six_address.port();
    let four_address = SocketAddr::new(place::next_exchanger().ip(), port);
    let one_by_one = || [on(Stage::End).obey_then_close()];
    let four = Sink::at(four_address, EVERYTHING, one_by_one());
    let dns = NameServer::new();
    dns.mx("b.example", &[(10, "mail.example")]);
    dns.host("mail.example", &[four_address, six_address]);
    let relay = Setup::mx(dns.address(), port).start();
    let send = || {
        let mut client = relay.client();
        client.send(SENDER, &["<b@b.example>"], &message("1", "text"));
    };
    send();
    four.wait_for(1);
    drop(bound);
    let six = Sink::at(six_address, EVERYTHING, one_by_one());
    // When its time has come it is tried.
    let mut sent = 1;
    eventually("IPv6 is tried", || {
        if six.count() + four.count() == sent {
            send();
            sent += 1;
        }
        (six.count() > 0).then_some(())
    });
}

/// With NSD: the TTL is obeyed, and a zone that has changed is seen after it.
#[test]
fn a_changed_zone_is_seen_when_its_time_is_over() {
    let (old, new) = (one_by_one(), one_by_one());
    let zone = |sink: &Sink| {
        let ip = sink.address().ip();
        format!(
            "b MX 10 mail\nmail A {ip}\nalias CNAME b\nnull MX 0 .\nlone A {ip}\nempty TXT \"x\""
        )
    };
    let Some(mut nsd) = Nsd::new(&zone(&old)) else {
        return;
    };
    let senders = Sink::new();
    let relay = Setup::mx(nsd.address(), EXCHANGER_PORT)
        .route("client.example", senders.address())
        .start();
    let send = |domain: &str| {
        let mut client = relay.client();
        client.send(
            SENDER,
            &[&format!("<b@{domain}>")],
            &message(domain, "text"),
        );
    };
    for (count, domain) in [(1, "b.example"), (2, "alias.example"), (3, "lone.example")] {
        send(domain);
        old.wait_for(count);
    }
    for domain in ["null.example", "empty.example", "nowhere.example"] {
        send(domain);
    }
    let bounces = senders.wait_for(3);
    for (domain, status) in [
        ("null.example", "5.1.10"),
        ("empty.example", "5.4.4"),
        ("nowhere.example", "5.1.2"),
    ] {
        let about =
            |mail: &&Mail| contains(&mail.octets, &format!("Final-Recipient: rfc822;b@{domain}"));
        let found = bounces.iter().find(about);
        let text = found.map(|mail| String::from_utf8_lossy(&mail.octets).into_owned());
        let text = text.unwrap_or_default();
        assert!(
            text.contains(&format!("Status: {status}\r\n")),
            "{domain}: {text}"
        );
    }
    nsd.change(&zone(&new));
    let mut sent = 3;
    eventually("the new zone is used", || {
        if old.count() + new.count() == sent {
            send("b.example");
            sent += 1;
        }
        (new.count() > 0).then_some(())
    });
}
