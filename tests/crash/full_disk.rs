//! The disk, or what the relay may take of it, is used up: 452 in time, what is in
//! the spool still leaves, and then mail is taken again.

use std::path::Path;

use crate::harness::client::Reply;
use crate::harness::namespace::Namespace;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Client, Relay, Setup, Sink, eventually, place};
use crate::ledger::Ledger;

/// More messages than any disk here holds.
const MESSAGES_MAX: u64 = 5000;
/// Of the body of each, in octets.
const BODY_BYTES: usize = 100_000;

/// One message: `Ok` if it was taken, the refusal if there is no room.
fn send(client: &mut Client, text: &[u8]) -> Result<(), Reply> {
    client.envelope("<>", &["<b@b.example>"]);
    let reply = client.command("DATA");
    if reply.code != 354 {
        assert_eq!(reply.code, 452, "{reply:?}");
        client.expect("RSET", 250);
        return Err(reply);
    }
    client.write(&crate::harness::message::stuffed(text));
    client.write(b".\r\n");
    let reply = client.reply();
    match reply.code {
        250 => Ok(()),
        // Not 451: it is known before anything fails that there is no room.
        452 => Err(reply),
        _ => panic!("at a full disk: {reply:?}"),
    }
}

fn text(number: u64) -> Vec<u8> {
    let mut text = format!("X-Number: {number}\r\nSubject: full\r\n\r\n").into_bytes();
    let line = format!("{number:050}\r\n");
    text.extend(
        line.bytes()
            .cycle()
            .take(BODY_BYTES / line.len() * line.len()),
    );
    text
}

/// Fills it up, lets it drain, fills it up again; twice.
fn fill_and_drain(mut relay: Relay, hop: std::net::SocketAddr) {
    let mut number = 0;
    for round in 0..2 {
        let mut client = relay.client();
        let first = number;
        let refusal = loop {
            match send(&mut client, &text(number)) {
                Ok(()) => number += 1,
                Err(refusal) => break refusal,
            }
            assert!(number - first < MESSAGES_MAX, "it is never full");
        };
        assert!(refusal.text().starts_with("4.3.1 "), "{refusal:?}");
        assert!(number > first, "round {round}: full from the beginning");
        // It says no at once, and goes on with what needs no room.
        client.expect("NOOP", 250);
        let reply = client.command("MAIL FROM:<> SIZE=1000000");
        assert!(matches!(reply.code, 250 | 452), "{reply:?}");
        client.expect("RSET", 250);
        assert_eq!(relay.queued().len() as u64, number - first);
        // Also over a restart: there is room for what a start needs.
        relay.stop();
        relay.start_again();
        assert_eq!(relay.queued().len() as u64, number - first);

        let sink = Sink::at(hop, EVERYTHING, []);
        let expected = usize::try_from(number - first).expect("few messages");
        let mail = sink.wait_for(expected);
        relay.wait_until_empty();
        assert_eq!(sink.count(), expected, "copies");
        let mut got: Vec<u64> = mail.iter().map(|mail| Ledger::number(mail).0).collect();
        got.sort_unstable();
        assert!(
            got.iter().copied().eq(first..number),
            "not the same messages"
        );
        for mail in &mail {
            let expected = text(Ledger::number(mail).0);
            crate::harness::message::assert_identical(&mail.octets, &expected);
        }
        let mut client = relay.client();
        eventually("there is room again", || {
            send(&mut client, &text(number)).ok().map(|()| number += 1)
        });
        sink.wait_for(expected + 1);
        relay.wait_until_empty();
    }
    relay.stop();
    let log = relay.log();
    let line = log.lines().find(|line| line.contains("No space left"));
    assert_eq!(line, None, "the limit of the disk was hit");
}

/// The limit of the configuration, on any disk.
#[test]
fn size_max() {
    let hop = place::next_address();
    let relay = Setup::to(hop)
        .limits("message_size = \"4MiB\"")
        .spool("segment_size = \"1MiB\"\nsize_max = \"16MiB\"\nfree_min = \"1MiB\"")
        .start();
    fill_and_drain(relay, hop);
}

/// A disk of our own that is nearly full.
#[test]
fn free_min() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = directory.path().display();
    let script = format!("mount -t tmpfs -o size=48m none {mount}");
    let Some(namespace) = Namespace::new("a small disk", &script) else {
        return;
    };
    let hop = place::next_address();
    let relay = on_small_disk(&namespace, directory.path(), hop);
    fill_and_drain(relay, hop);
}

fn on_small_disk(namespace: &Namespace, mount: &Path, hop: std::net::SocketAddr) -> Relay {
    Setup::to(hop)
        .limits("message_size = \"4MiB\"")
        .spool("segment_size = \"1MiB\"\nfree_min = \"8MiB\"")
        .spool_directory(&mount.join("spool"))
        .wrapper(namespace.wrapper())
        .start()
}
