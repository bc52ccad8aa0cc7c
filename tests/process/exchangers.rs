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
pub(crate) struct World {
    pub(crate) dns: NameServer,
    pub(crate) relay: Relay,
    pub(crate) senders: Sink,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|setup| setup)
    }

    pub(crate) fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
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
    pub(crate) fn wait_for_bounce(&self, status: &str) {
        let mail = self.senders.wait_for_one();
        let text = String::from_utf8_lossy(&mail.octets).into_owned();
        let line = format!("\r\nStatus: {status}\r\n");
        assert!(text.contains(&line), "no {line:?} in {text}");
        self.relay.wait_until_empty();
    }
}

/// A host at which nothing listens.
pub(crate) fn nobody() -> SocketAddr {
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

/// With one connection in all: questions that nobody answers do not take it.
#[test]
fn a_lookup_that_hangs_holds_up_only_its_own_destination() {
    let lines = format!("mx_port = {EXCHANGER_PORT}\nconnections = 1");
    let world = World::with(|setup| setup.delivery(&lines));
    let quick = Sink::exchanger();
    world.dns.mx("quick.example", &[(10, "quickhost.example")]);
    world.dns.host("quickhost.example", &[quick.address()]);
    for at in 0..20 {
        let domain = format!("b{at}.example");
        world.dns.set(&domain, MX, Reply::Silence);
        world.send(&domain, "1");
    }
    for _ in 0..10 {
        world.send("quick.example", "2");
    }
    // One after the other those questions take two minutes until they are given up.
    quick.wait_for(10);
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

/// In the mode that says so, mail goes to the smarthost while no host can be reached or
/// greets us, and while the name servers do not answer. What is refused for good is
/// returned, and what is put off is tried again there.
#[test]
fn the_smarthost_gets_what_could_not_be_delivered_directly() {
    let smarthost = Sink::new();
    let world = World::with(|setup| {
        setup
            .smarthost(smarthost.address())
            .mode("mx-then-smarthost")
    });
    let good = Sink::exchanger();
    let surly = Sink::exchanger_with([on(Stage::Greeting).reply_then_close("554 5.7.1 not you")]);
    let busy = Sink::exchanger_with([on(Stage::Greeting).reply_then_close("421 4.3.2 later")]);
    let refusing = Sink::exchanger_with([on(Stage::Rcpt).reply("550 5.1.1 nobody")]);
    let greylisting = Sink::exchanger_with([on(Stage::Rcpt).times(1).reply("450 4.2.0 again")]);
    let hosts = [
        ("good", good.address()),
        ("surly", surly.address()),
        ("busy", busy.address()),
        ("refusing", refusing.address()),
        ("greylisting", greylisting.address()),
        ("dead", nobody()),
    ];
    for (name, address) in hosts {
        let host = format!("mail.{name}.example");
        world.dns.mx(&format!("{name}.example"), &[(10, &host)]);
        world.dns.host(&host, &[address]);
    }
    world.dns.set("broken.example", MX, Reply::Code(2));
    for name in [
        "good",
        "surly",
        "busy",
        "refusing",
        "greylisting",
        "dead",
        "broken",
    ] {
        world.send(&format!("{name}.example"), name);
    }
    let mail = smarthost.wait_for(4);
    world.wait_for_bounce("5.1.1");
    let mut there: Vec<_> = mail.iter().map(|mail| mail.recipients[0].clone()).collect();
    there.sort();
    for (recipient, name) in there.iter().zip(["broken", "busy", "dead", "surly"]) {
        assert!(
            recipient.starts_with(&format!("<b@{name}.example>")),
            "{there:?}"
        );
    }
    assert_eq!(smarthost.count(), 4);
    assert_eq!((good.count(), greylisting.count()), (1, 1));
    // What comes now need not find out again, and a host that is back gets its mail.
    world.send("dead.example", "2");
    smarthost.wait_for(5);
}

/// The mail of a dead exchanger with all that waits behind it, and the way back.
#[test]
fn direct_delivery_is_tried_again() {
    let smarthost = Sink::new();
    let world = World::with(|setup| {
        setup
            .smarthost(smarthost.address())
            .mode("mx-then-smarthost")
    });
    let address = nobody();
    world.dns.mx("b.example", &[(10, "mail.example")]);
    world.dns.host("mail.example", &[address]);
    for count in 1..20 {
        world.send("b.example", "1");
        smarthost.wait_for(count);
    }
    let back = Sink::at(address, EVERYTHING, []);
    let mut sent = 19;
    eventually("the exchanger gets mail again", || {
        if back.count() + smarthost.count() == sent {
            world.send("b.example", "2");
            sent += 1;
        }
        (back.count() > 0).then_some(())
    });
}

/// The exchanger is dead, and the smarthost that has got its mail instead dies, too: when
/// the exchanger is back it all goes there, without a restart and without new mail.
#[test]
fn mail_comes_back_from_a_smarthost_that_is_dead() {
    let address = nobody();
    let smarthost = place::next_address();
    let world = World::with(|setup| setup.smarthost(smarthost).mode("mx-then-smarthost"));
    world.dns.mx("b.example", &[(10, "mail.example")]);
    world.dns.host("mail.example", &[address]);
    for count in 0..30 {
        world.send("b.example", &count.to_string());
    }
    eventually("both ways are closed", || {
        let log = world.relay.log();
        let closed = |next_hop: &str| {
            let of_it = |line: &&str| line.contains("unreachable") && line.contains(next_hop);
            log.lines().filter(of_it).count() > 1
        };
        (closed("mx of b.example") && closed("smarthost 127.")).then_some(())
    });
    let back = Sink::at(address, EVERYTHING, []);
    back.wait_for(30);
    world.relay.wait_until_empty();
    assert_eq!(back.count(), 30);
}

#[test]
fn smarthosts_are_tried_in_their_order() {
    let (second, third) = (Sink::new(), Sink::new());
    let first = place::next_address();
    let relay = Setup::to(first)
        .smarthost(second.address())
        .smarthost(third.address())
        .start();
    let mut client = relay.client();
    for count in 1..10 {
        client.send(SENDER, &["<b@b.example>"], &message("1", "text"));
        second.wait_for(count);
    }
    assert_eq!(third.count(), 0);
    drop(second);
    client.send(SENDER, &["<b@b.example>"], &message("1", "text"));
    third.wait_for(1);
}

/// And a route may have a retry of its own.
#[test]
fn a_route_by_mx_in_smarthost_mode() {
    let (smarthost, direct) = (Sink::new(), Sink::exchanger());
    let world = World::with(|setup| {
        setup
            .smarthost(smarthost.address())
            .route_mx("b.example")
            .route_mx("c.example")
            .with("retry = { tries = 2, every = \"1s\" }")
    });
    world.dns.mx("b.example", &[(10, "mail.example")]);
    world.dns.host("mail.example", &[direct.address()]);
    world.dns.mx("c.example", &[(10, "dead.example")]);
    world.dns.host("dead.example", &[nobody()]);
    world.send("b.example", "1");
    world.send("d.example", "1");
    direct.wait_for_one();
    smarthost.wait_for_one();
    // All others are tried for ten minutes.
    world.send("c.example", "1");
    world.wait_for_bounce("5.4.7");
}

/// The way that mail would take, with the server and without it.
#[test]
fn dns_test_shows_the_way() {
    let smarthost = Sink::new();
    let mut world = World::with(|setup| {
        setup
            .smarthost(smarthost.address())
            .mode("mx-then-smarthost")
    });
    let dead = nobody();
    world
        .dns
        .mx("b.example", &[(20, "worse.example"), (10, "mail.example")]);
    world.dns.host("mail.example", &[dead]);
    world
        .dns
        .set("null.example", MX, Reply::Records(vec![Record::mx(0, ".")]));
    world.dns.set("broken.example", MX, Reply::Code(2));
    world.send("b.example", "1");
    smarthost.wait_for_one();
    let server = world.dns.address().to_string();
    let check = |relay: &Relay, domain: &str, code: i32, parts: &[&str]| {
        let finished = relay.run(&["dns", "test", domain]);
        assert_eq!(finished.code, Some(code), "{domain}: {finished:?}");
        for part in parts {
            assert!(
                finished.stdout.contains(part),
                "{domain}: no {part:?}: {finished:?}"
            );
        }
    };
    let address = format!("[{}]:{}", dead.ip(), dead.port());
    let smart = format!(
        "[{}]:{}",
        smarthost.address().ip(),
        smarthost.address().port()
    );
    let way = [
        "route: mx of b.example",
        "MX of b.example: 20 worse.example., 10 mail.example.",
        server.as_str(),
        "good for 5 s",
        "worse.example does not exist in the DNS",
        address.as_str(),
        "TLS if it is offered",
        "while no host of that takes mail: smarthost 127.",
        smart.as_str(),
    ];
    check(&world.relay, "x@b.example", 0, &way);
    check(
        &world.relay,
        "b.example",
        0,
        &["the server holds it for dead", "connecting failed"],
    );
    check(
        &world.relay,
        "null.example",
        1,
        &["it is returned to its sender (5.1.10)"],
    );
    check(&world.relay, "nowhere.example", 1, &["(5.1.2)"]);
    check(
        &world.relay,
        "broken.example",
        75,
        &["it waits", "SERVFAIL"],
    );
    check(&world.relay, "client.example", 0, &["route: smtp://"]);
    let facts = world.relay.facts(&["dns", "test", "b.example"]);
    let way = &facts[0]["ways"][0];
    assert_eq!(way["outcome"], "sent");
    assert_eq!(way["hosts"][0]["name"], "mail.example");
    assert_eq!(
        way["hosts"][0]["addresses"][0]["dead"]["failures"]
            .as_u64()
            .map(|n| n > 0),
        Some(true)
    );
    assert_eq!(world.relay.run(&["dns", "test", "a b"]).code, Some(2));
    world.relay.stop();
    check(&world.relay, "b.example", 0, &way_without_server(&address));
}

fn way_without_server(address: &str) -> [&str; 2] {
    ["it is sent to the first of these", address]
}

/// SIGHUP with another route: what waits takes it, what needs not stays where it is.
#[test]
fn mail_that_waits_follows_a_new_route() {
    let stays = Sink::new();
    let setup = Setup::new()
        .retry("first = \"1h\"\nfactor = 1.0\nlongest = \"1h\"\ngive_up = \"2h\"\nwarn = \"0s\"")
        .route("b.example", place::next_address())
        .route("c.example", place::next_address())
        .held("d.example");
    let mut relay = setup.start();
    let mut client = relay.client();
    // More than are looked at in one turn.
    for number in 0..600 {
        let recipients: &[&str] = match number % 3 {
            0 => &["<x@b.example>"],
            1 => &["<x@b.example>", "<y@b.example>", "<z@c.example>"],
            _ => &["<x@d.example>"],
        };
        client.send(SENDER, recipients, &message("1", "text"));
    }
    let new = Sink::new();
    relay.change(|setup| {
        setup
            .without_routes()
            .route("b.example", new.address())
            .route("c.example", place::next_address())
            .route("d.example", new.address())
    });
    relay.reload();
    let mail = new.wait_for(600);
    let recipients: usize = mail.iter().map(|mail| mail.recipients.len()).sum();
    assert_eq!(recipients, 200 + 400 + 200);
    let others = mail.iter().flat_map(|mail| &mail.recipients);
    assert!(others.clone().all(|to| !to.contains("c.example")));
    // What is left has one recipient, who waits for his own host.
    eventually("the rest waits", || {
        (relay.queued().len() == 200).then_some(())
    });
    relay.change(|setup| {
        setup
            .without_routes()
            .discarded("b.example")
            .discarded("d.example")
            .route("c.example", stays.address())
    });
    relay.reload();
    stays.wait_for(200);
    relay.wait_until_empty();
}
