//! Our mail from a provider by ATRN and ETRN, on a core without sockets: the provider is
//! what the test says.

use std::sync::Arc;

use super::{Bench, PLENTY};
use crate::core::collector::{Behind, Run, RunId};
use crate::core::fetching::Fetch;
use crate::core::{Completion, ConnectionId, Endpoint, Host, Notice};
use crate::mail::Domain;
use crate::report::Fact;
use crate::route::{Protocol, TlsPolicy};
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn;
use crate::smtp::turn::Call;

fn provider(port: u16) -> Host {
    Host {
        preference: 0,
        name: "provider.example".to_owned(),
        addresses: vec![Endpoint::Tcp(([192, 0, 2, 1], port).into())],
        protocol: Protocol::Smtp,
        tls: TlsPolicy::None.into(),
        login: None,
    }
}

/// A core that was told to collect from providers at these ports.
fn fetching(ports: &[u16]) -> Bench {
    let domains: Box<[Domain]> = ["a.example", "b.example"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    calling(ports, Ask::Turn(Call::new(domains).unwrap()))
}

fn calling(ports: &[u16], ask: Ask) -> Bench {
    let mut bench = Bench::new(PLENTY);
    let fetch = Fetch {
        number: RunId(7),
        hosts: ports.iter().map(|port| provider(*port)).collect(),
        ask,
    };
    bench.give(Completion::Notice(Notice::Fetch(Box::new(fetch))));
    bench
}

fn connected(bench: &mut Bench) -> ConnectionId {
    let (connection, _) = bench.provider_connects.pop().expect("it calls");
    let result = Ok(());
    bench.give(Completion::Connected { connection, result });
    connection
}

/// A provider that has said 250 to ATRN.
fn turned() -> (Bench, ConnectionId) {
    let mut bench = fetching(&[366]);
    let connection = connected(&mut bench);
    bench.receive(connection, b"220 provider.example\r\n");
    bench.receive(connection, b"250-provider.example\r\n250 ATRN\r\n");
    let said = bench.said(connection);
    assert!(said.ends_with("\r\nATRN a.example,b.example\r\n"), "{said}");
    bench.said.clear();
    bench.receive(connection, b"250 OK now reversing the connection\r\n");
    assert!(bench.said(connection).starts_with("220 "), "we greet");
    bench.said.clear();
    (bench, connection)
}

#[test]
fn mail_for_the_domains_that_were_asked_for_is_taken() {
    let (mut bench, provider) = turned();
    bench.receive(
        provider,
        b"EHLO provider.example\r\nMAIL FROM:<s@sender.example>\r\n\
          RCPT TO:<x@A.example>\r\nRCPT TO:<x@elsewhere.example>\r\n\
          RCPT TO:<x@sub.a.example>\r\nDATA\r\n",
    );
    bench.receive(provider, b"Subject: x\r\n\r\nshort\r\n.\r\n");
    assert!(bench.fetched.is_empty(), "there may be more");
    bench.receive(provider, b"QUIT\r\n");
    let said = bench.said(provider);
    assert!(
        !said.contains("STARTTLS") && !said.contains("AUTH"),
        "{said}"
    );
    let codes: Vec<_> = said
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .map(|line| &line[..3])
        .collect();
    // The hello, the sender, one of ours, two that were not asked for, DATA, the message.
    let expected = ["250", "250", "250", "550", "550", "354", "250", "221"];
    assert_eq!(codes, expected, "{said}");
    let [run] = &bench.fetched[..] else {
        panic!("{:?}", bench.fetched);
    };
    assert_eq!((run.id, run.tally.collected), (RunId(7), 1));
    assert!(run.tally.octets > 20, "{run:?}");
    assert_eq!((run.behind, &run.failure), (Behind::Nothing, &None));
    let accepted = bench.count(|fact| matches!(fact, Fact::Accepted { .. }));
    assert_eq!(accepted, 1);
    assert!(bench.closed.contains(&provider));
}

#[test]
fn a_provider_that_breaks_off_is_told_of() {
    let (mut bench, provider) = turned();
    bench.receive(provider, b"EHLO provider.example\r\n");
    bench.give(Completion::Broken {
        connection: provider,
        why: "reset".to_owned(),
        heard: &[],
    });
    let [run] = &bench.fetched[..] else {
        panic!("{:?}", bench.fetched);
    };
    assert!(failure(run).contains("reset"), "{run:?}");
}

#[test]
fn a_provider_that_turns_in_its_last_words_is_told_of() {
    let mut bench = fetching(&[366]);
    let connection = connected(&mut bench);
    bench.receive(connection, b"220 provider.example\r\n");
    bench.receive(connection, b"250 ATRN\r\n");
    let broken = Completion::Broken {
        connection,
        why: "reset".to_owned(),
        heard: b"250 ok\r\n",
    };
    bench.core.handle(bench.now, broken, &bench.spool);
    bench.give(Completion::Timer);
    let [run] = &bench.fetched[..] else {
        panic!("{:?}", bench.fetched);
    };
    assert!(failure(run).contains("lost the connection"), "{run:?}");
}

/// What a fetch comes to whose ATRN is answered so.
fn answered(reply: &str) -> Run {
    let mut bench = fetching(&[366, 367]);
    let connection = connected(&mut bench);
    bench.receive(connection, b"220 provider.example\r\n");
    bench.receive(connection, b"250 ATRN\r\n");
    bench.receive(connection, reply.as_bytes());
    over_before_goodbye(&mut bench, connection)
}

/// The run of a provider that has said all that there was to say: it is told at once, not
/// one round trip later, and no second time.
fn over_before_goodbye(bench: &mut Bench, connection: ConnectionId) -> Run {
    assert!(bench.said(connection).ends_with("QUIT\r\n"));
    assert_eq!(bench.fetched.len(), 1);
    bench.receive(connection, b"221 bye\r\n");
    assert!(bench.closed.contains(&connection));
    assert!(bench.provider_connects.is_empty(), "that was an answer");
    assert_eq!(bench.fetched.len(), 1);
    bench.fetched.remove(0)
}

fn failure(run: &Run) -> &str {
    run.failure.as_ref().map_or("", |(_, why)| why)
}

#[test]
fn what_is_no_250_is_told_as_what_it_is() {
    let none = answered("453 You have no mail\r\n");
    assert_eq!(none.failure, None);
    assert_eq!(none.said.as_deref(), Some("there is no mail"));
    assert!(failure(&answered("451 not now\r\n")).contains("not now"));
    assert!(failure(&answered("450 busy\r\n")).contains("busy"));
    assert!(failure(&answered("530 who?\r\n")).contains("look at the credentials"));
}

/// What an ETRN of two names comes to.
fn released(replies: [&str; 2]) -> Run {
    let nodes = ["a.example", "#queue"].map(|name| etrn::wanted(name).unwrap());
    let mut bench = calling(&[25, 26], Ask::Release(Arc::new(nodes)));
    let connection = connected(&mut bench);
    bench.receive(connection, b"220 provider.example\r\n");
    bench.receive(connection, b"250 ETRN\r\n");
    for (reply, line) in replies
        .iter()
        .zip(["ETRN a.example\r\n", "ETRN #queue\r\n"])
    {
        assert!(bench.said(connection).ends_with(line));
        assert!(bench.fetched.is_empty(), "it is not over");
        bench.receive(connection, reply.as_bytes());
    }
    over_before_goodbye(&mut bench, connection)
}

#[test]
fn each_name_is_asked_for_and_its_answer_told() {
    let some = released(["253 2 pending messages\r\n", "251 none\r\n"]);
    assert_eq!((some.behind, &some.failure), (Behind::Announced, &None));
    let said = some.said.unwrap();
    assert_eq!(said, "a.example: 253 2 pending messages; #queue: 251 none");
    assert_eq!(
        released(["250 ok\r\n", "251 none\r\n"]).behind,
        Behind::Perhaps
    );
    let none = released(["251 none\r\n", "251 none\r\n"]);
    assert_eq!((none.behind, none.failure), (Behind::Nothing, None));
    // A "no" to one of them does not stand in the way of the other.
    let half = released(["459 who?\r\n", "252 coming\r\n"]);
    assert_eq!(half.behind, Behind::Announced);
    assert!(failure(&half).contains("not for us: a.example"), "{half:?}");
    let later = released(["252 coming\r\n", "458 busy\r\n"]);
    assert!(failure(&later).contains("not now: #queue"), "{later:?}");
}

#[test]
fn a_host_that_cannot_be_reached_is_passed_over() {
    let mut bench = fetching(&[366, 367]);
    for port in [366, 367] {
        let (connection, to) = bench.provider_connects.pop().expect("it calls");
        assert!(matches!(to, Endpoint::Tcp(to) if to.port() == port));
        assert!(bench.fetched.is_empty());
        let result = Err("refused".to_owned());
        bench.give(Completion::Connected { connection, result });
    }
    assert!(bench.provider_connects.is_empty());
    assert_eq!(bench.fetched.len(), 1);
    assert!(failure(&bench.fetched[0]).contains("connecting failed"));
}
