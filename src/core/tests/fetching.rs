//! Our mail from a provider by ATRN, on a core without sockets: the provider is what the
//! test says.

use std::sync::Arc;

use super::{Bench, PLENTY};
use crate::core::fetching::{Fetch, FetchNumber, Fetched};
use crate::core::{Completion, ConnectionId, Endpoint, Host, Notice};
use crate::mail::Domain;
use crate::report::Fact;
use crate::route::{Protocol, TlsPolicy};
use crate::smtp::client::settings::Settings;
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
    let mut bench = Bench::new(PLENTY);
    let domains: Box<[Domain]> = ["a.example", "b.example"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let fetch = Fetch {
        number: FetchNumber(7),
        hosts: ports.iter().map(|port| provider(*port)).collect(),
        settings: Arc::new(Settings::new("site.example".parse().unwrap())),
        call: Call::new(domains).unwrap(),
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
    let taken = Fetched::Taken {
        messages: 1,
        trouble: None,
    };
    assert_eq!(bench.fetched, [taken]);
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
    });
    let taken = Fetched::Taken {
        messages: 0,
        trouble: Some("reset".to_owned()),
    };
    assert_eq!(bench.fetched, [taken]);
}

/// What a fetch comes to whose ATRN is answered so.
fn answered(reply: &str) -> Fetched {
    let mut bench = fetching(&[366, 367]);
    let connection = connected(&mut bench);
    bench.receive(connection, b"220 provider.example\r\n");
    bench.receive(connection, b"250 ATRN\r\n");
    bench.receive(connection, reply.as_bytes());
    bench.receive(connection, b"221 bye\r\n");
    assert!(bench.provider_connects.is_empty(), "that is an answer");
    assert_eq!(bench.fetched.len(), 1, "{reply}");
    bench.fetched.remove(0)
}

#[test]
fn what_is_no_250_is_told_as_what_it_is() {
    assert_eq!(
        answered("453 You have no mail\r\n"),
        Fetched::NothingWaiting
    );
    assert!(matches!(answered("451 not now\r\n"), Fetched::Later(_)));
    assert!(matches!(answered("450 busy\r\n"), Fetched::Later(_)));
    assert!(matches!(answered("530 who?\r\n"), Fetched::Never(_)));
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
    assert!(matches!(bench.fetched[..], [Fetched::Later(_)]));
}
