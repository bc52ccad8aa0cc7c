//! The disk, or what the relay may take of it, is used up: 452 in time, what is in
//! the spool still leaves, and then mail is taken again.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::disk::Disk;
use crate::harness::client::Reply;
use crate::harness::message::Random;
use crate::harness::namespace::Namespace;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Client, Relay, Setup, Sink, eventually, place};
use crate::kill::seed;
use crate::ledger::Ledger;
use crate::load::Load;

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

/// Others take all that the disk has, again and again, while mail comes from several
/// clients: it is refused, what is in the spool leaves, room that becomes free in the spool
/// is used, and with the disk everything is as before. Nobody has to do anything.
#[test]
fn others_fill_the_disk_under_load() {
    const CLIENTS: u64 = 4;
    const ROUNDS: u32 = 3;
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::new("a disk that others fill", directory.path(), "ext4") else {
        return;
    };
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let hop = place::next_address();
    let mut relay = Setup::to(hop)
        .cores(2)
        .retry("first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\ngive_up = \"1h\"\nwarn = \"0s\"")
        .spool("segment_size = \"1MiB\"\nfree_min = \"8MiB\"")
        .spool_directory(&disk.mount.join("spool"))
        .wrapper(disk.namespace.wrapper())
        .start();
    let load = Load::new(&ledger, relay.address());
    let more_is_taken = |what: &str| {
        let before = ledger.acknowledged();
        eventually(what, || (ledger.acknowledged() > before + 20).then_some(()));
    };
    let mut delivered = Vec::new();
    std::thread::scope(|scope| {
        let _end = load.ends();
        for _ in 0..CLIENTS {
            let (load, seed) = (&load, random.next());
            scope.spawn(move || load.run(seed));
        }
        for round in 0..ROUNDS {
            ledger.stage(format!("round {round}, with room"));
            more_is_taken("mail is taken");
            disk.fill();
            ledger.stage(format!("round {round}, on a full disk"));
            let before = load.deferred.load(Ordering::Relaxed);
            eventually("mail is refused", || {
                (load.deferred.load(Ordering::Relaxed) > before + CLIENTS).then_some(())
            });
            let sink = Sink::at(hop, EVERYTHING, []);
            sink.wait_for(20);
            more_is_taken("what has left makes room, on a disk that is as full as before");
            // The next round begins with mail that waits, as this one did.
            disk.give_back();
            more_is_taken("mail is taken as before");
            delivered.extend(sink.end());
        }
    });
    let sink = Sink::at(hop, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    delivered.extend(sink.mail());
    let twice = ledger.judge(&delivered);
    eprintln!("{}; {twice} copies more than one", ledger.summary());
    relay.stop();
    let log = relay.log();
    assert!(
        !log.contains("log-closed"),
        "no write may fail for want of room"
    );
}
