//! A disk that fails: the write goes into the page cache, and its sync comes back with
//! an error. No 250 from then on; what is in the spool is still delivered; the operator
//! is told, and what to do; a restart on a disk that works has everything.

use std::sync::atomic::Ordering;

use crate::disk::{Disk, path};
use crate::harness::client::Client;
use crate::harness::message::Random;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::kill::seed;
use crate::ledger::Ledger;
use crate::load::Load;

const CLIENTS: u64 = 4;
/// Of load before the device fails.
const OCTETS: u64 = 6_000_000;
/// Messages that are offered when it has failed.
const REFUSED: usize = 50;

#[test]
fn a_sync_fails_on_ext4() {
    a_sync_fails("ext4");
}

#[test]
fn a_sync_fails_on_xfs() {
    a_sync_fails("xfs");
}

/// What a sync could not bring to the disk stays in the memory of the system and looks as if
/// it were stored, and no later sync says otherwise. A start that took it for stored would
/// remove what it was carried from, and tell an operator of mail that is gone with the next
/// start of the machine.
#[test]
fn what_is_in_memory_only_is_not_taken_for_stored_on_ext4() {
    what_is_in_memory_only_is_not_taken_for_stored("ext4");
}

#[test]
fn what_is_in_memory_only_is_not_taken_for_stored_on_xfs() {
    what_is_in_memory_only_is_not_taken_for_stored("xfs");
}

/// The device fails while clients send, and the operator is told; `then` before they end.
fn fail_under_load(
    disk: &Disk,
    relay: &Relay,
    load: &Load<'_>,
    random: &mut Random,
    then: impl FnOnce(),
) {
    std::thread::scope(|scope| {
        let _end = load.ends();
        for _ in 0..CLIENTS {
            let seed = random.next();
            scope.spawn(move || load.run(seed));
        }
        eventually("the load is written", || {
            (load.written.load(Ordering::Relaxed) >= OCTETS).then_some(())
        });
        disk.fail();
        eventually("the operator is told", || {
            relay.log().contains("log-closed").then_some(())
        });
        then();
    });
}

fn what_is_in_memory_only_is_not_taken_for_stored(kind: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let what_for = format!("a start behind a failing device under {kind}");
    let Some(disk) = Disk::failing(&what_for, directory.path(), kind) else {
        return;
    };
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let spool = disk.mount.join("spool");
    let hop = place::next_address();
    let mut relay = Setup::to(hop)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .spool_directory(&spool)
        .wrapper(disk.namespace.wrapper())
        .start();
    let load = Load::new(&ledger, relay.address());
    fail_under_load(&disk, &relay, &load, &mut random, || ());
    relay.kill();
    disk.mend();
    // The machine was not started again.
    relay.start_again();
    let found = relay.queued();
    assert!(!found.is_empty(), "the test tests nothing");
    relay.kill();
    disk.come_back();
    relay.start_again();
    let stored = relay.queued();
    let gone: Vec<_> = found.iter().filter(|id| !stored.contains(id)).collect();
    assert_eq!(gone, Vec::<&String>::new(), "of {} messages", found.len());
    relay.stop();
    let verify = disk.run(
        env!("CARGO_BIN_EXE_turnspool"),
        &["--json", "spool", "verify", path(&spool)],
    );
    let verify = verify.expect("the program is there");
    let facts: serde_json::Value = serde_json::from_slice(&verify.stdout).expect("JSON");
    assert_eq!(facts["lost"], 0, "{facts}");
    // And what was acknowledged is among that.
    relay.start_again();
    let sink = Sink::at(hop, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    ledger.judge(&sink.mail());
    assert!(ledger.acknowledged() > 0, "the test tests nothing");
    relay.stop();
}

fn a_sync_fails(kind: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let what_for = format!("a failing device under {kind}");
    let Some(disk) = Disk::failing(&what_for, directory.path(), kind) else {
        return;
    };
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let spool = disk.mount.join("spool");
    let hop = place::next_address();
    let mut relay = Setup::to(hop)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .spool_directory(&spool)
        .wrapper(disk.namespace.wrapper())
        .start();
    let load = Load::new(&ledger, relay.address());
    fail_under_load(&disk, &relay, &load, &mut random, || {
        eventually("mail is refused", || {
            (load.refused.load(Ordering::Relaxed) > 0).then_some(())
        });
    });
    let acknowledged = ledger.acknowledged();
    assert!(acknowledged > 0, "the test tests nothing");

    // No 250 any more, and it is said before the body is sent.
    for _ in 0..REFUSED {
        let mut client = Client::connect(relay.address());
        client.hello();
        client.envelope("<>", &["<b@b.example>"]);
        client.expect("DATA", 451);
        client.expect("QUIT", 221);
    }
    let log = relay.log();
    let told: Vec<_> = (log.lines())
        .filter(|line| line.contains("log-closed"))
        .collect();
    let [told] = told[..] else {
        panic!("told {} times: {told:?}", told.len());
    };
    for words in [
        "a write to the spool failed",
        "waiting mail is still delivered",
        "look at the disk, then restart",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let status = relay.facts(&["status"]);
    let text = status[0].to_string();
    assert!(
        text.contains("closed"),
        "the status does not say so: {text}"
    );

    // Reads and drains go on.
    let sink = Sink::at(hop, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    let mut delivered = sink.mail();
    ledger.judge(&delivered);
    drop(sink);
    relay.stop();

    // The outcomes could not be written: that mail comes once more. Nothing is lost.
    disk.mend();
    disk.come_back();
    relay.start_again();
    let sink = Sink::at(hop, EVERYTHING, []);
    let load = Load::new(&ledger, relay.address());
    std::thread::scope(|scope| {
        let _end = load.ends();
        let (load, seed) = (&load, random.next());
        scope.spawn(move || load.run(seed));
        eventually("mail is taken again", || {
            (ledger.acknowledged() > acknowledged).then_some(())
        });
    });
    relay.wait_until_drained(&sink);
    let again = sink.mail();
    let twice = ledger.judge(&[&delivered[..], &again[..]].concat());
    delivered.clear();
    eprintln!("{kind}: {}; {twice} copies more than one", ledger.summary());
    relay.stop();
    let verify = disk.run(
        env!("CARGO_BIN_EXE_turnspool"),
        &["--json", "spool", "verify", path(&spool)],
    );
    let verify = verify.expect("the program is there");
    let facts: serde_json::Value = serde_json::from_slice(&verify.stdout).expect("JSON");
    assert_eq!(facts["lost"], 0, "{facts}");
}
