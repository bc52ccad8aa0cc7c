//! Power cuts: the real program on a real file system that is cut off under load.
//!
//! The file system lies in an image of its own. Its shutdown call, without a flush of
//! its log, does what a power cut does to it: what was not on stable storage is gone,
//! and every later operation fails. The program is killed before it notices, or it goes
//! on without its disk for a while, in which it may acknowledge nothing; then it is
//! started again on what a mount finds. Some of these starts are cut, too, wherever they are.
//!
//! What this does not show: a disk that lies about its cache, and torn sectors; those
//! are the simulation's (`tests/simulation`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use turnspool::spool::commit::RIDER_DELAY_MAX;

use crate::copies::{Again, Breaks, LATE_MAX};
use crate::disk::{Disk, path};
use crate::harness::message::Random;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::kill::{quiet, seed};
use crate::ledger::Ledger;
use crate::load::Load;

/// How long cuts are made without [`CUTS`] in the environment.
const CUTS_FOR: Duration = Duration::from_secs(12);
/// However slow the machine is.
const CUTS_MIN: u32 = 5;
/// How many cuts a longer run makes.
const CUTS: &str = "TURNSPOOL_POWER_CUTS";
const CLIENTS: u64 = 4;
/// Of the process while it starts: about as long as a start takes.
const START_LOOKS_MAX: u64 = 250_000;
/// Rounds between two in which everything is delivered.
const DRAIN_EVERY: u32 = 10;
/// What a start says of a segment that no cut can leave so.
const FALSE_ALARM: &str = "the disk lost what it had stored, or the file was changed";

#[test]
fn cuts_on_ext4() {
    cuts("ext4");
}

#[test]
fn cuts_on_xfs() {
    cuts("xfs");
}

fn cuts(kind: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::new(&format!("power cuts on {kind}"), directory.path(), kind) else {
        return;
    };
    let wanted: Option<u32> = std::env::var(CUTS).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{CUTS} is a whole number"))
    });
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let spool = disk.mount.join("spool");
    let address = place::next_address();
    let mut relay = Setup::to(address)
        .cores(2)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .spool_directory(&spool)
        .wrapper(disk.namespace.wrapper())
        .start();
    let mut breaks = Breaks::default();
    let mut delivered = Vec::new();
    let begun = Instant::now();
    let (mut rounds, mut went_on) = (0, 0);
    let mut starts = CutStarts::default();
    while wanted.map_or(begun.elapsed() < CUTS_FOR || rounds < CUTS_MIN, |n| {
        rounds < n
    }) {
        let sink = (random.below(3) > 0).then(|| Sink::at(address, EVERYTHING, []));
        let load = Load::new(&ledger, relay.address());
        let until = random.below(3_000_000);
        ledger.stage(format!("round {rounds}, before the cut"));
        // In some rounds the program is left to find out that its disk is gone.
        let told_before = times_told(&relay.log());
        let goes_on = random.below(2) == 0;
        let mut ended_at = Instant::now();
        std::thread::scope(|scope| {
            let _end = load.ends();
            for _ in 0..CLIENTS {
                let (load, seed) = (&load, random.next());
                scope.spawn(move || load.run(seed));
            }
            eventually("the load is written", || {
                (load.written.load(Ordering::Relaxed) >= until).then_some(())
            });
            if let Some(sink) = &sink
                && !goes_on
                && random.below(3) == 0
            {
                load.enough.store(true, Ordering::Release);
                quiet(sink, within(&ledger));
            }
            ended_at = Instant::now();
            // Stopped first, and until no sync is under way: the shutdown may answer such
            // a sync with success although its octets are lost (seen on both file systems
            // with a program of twenty lines), and a power cut answers nobody.
            relay.signal(Signal::STOP);
            eventually("it is stopped", || relay.is_at_rest().then_some(()));
            disk.cut();
            ledger.stage(format!("round {rounds}, after the cut"));
            if goes_on {
                relay.signal(Signal::CONT);
                eventually("the program refuses mail", || {
                    (load.refused.load(Ordering::Relaxed) > 0).then_some(())
                });
                relay.assert_running();
                eventually("the operator is told", || {
                    (times_told(&relay.log()) > told_before).then_some(())
                });
                went_on += 1;
            }
            relay.kill();
            load.enough.store(true, Ordering::Release);
        });
        if let Some(sink) = sink {
            delivered.extend(sink.mail());
        }
        disk.come_back();
        breaks.add(ended_at, within(&ledger));
        while random.below(2) == 0 {
            starts.cut(&mut relay, &disk, &mut random);
        }
        relay.start_again();
        rounds += 1;
        if rounds.is_multiple_of(DRAIN_EVERY) {
            // What waits must not fill the disk, which is another test's.
            let sink = Sink::at(address, EVERYTHING, []);
            relay.wait_until_drained(&sink);
            delivered.extend(sink.mail());
        }
    }
    let sink = Sink::at(address, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    delivered.extend(sink.mail());
    let twice = ledger.judge(&delivered);
    let Again { count, oldest } = breaks.judge(&delivered);
    eprintln!(
        "{rounds} power cuts on {kind}: {}; {twice} copies more than one, {count} of them of \
         what was delivered before, at most {oldest:?}, where {:?} is allowed; in {went_on} \
         rounds the program went on, and told the operator; {starts:?}",
        ledger.summary(),
        within(&ledger)
    );
    assert!(ledger.acknowledged() > 0, "the test tests nothing");
    // A cut is no damage, and the operator is not to look for a better disk.
    let log = relay.log();
    let alarm = log.lines().find(|line| line.contains(FALSE_ALARM));
    assert_eq!(alarm, None, "the disk has kept its word");
    relay.stop();
    let verify = disk.run(
        env!("CARGO_BIN_EXE_turnspool"),
        &["spool", "verify", path(&spool)],
    );
    let verify = verify.expect("the program is there");
    assert!(verify.status.success(), "{verify:?}");
}

/// Starts that were cut.
#[derive(Debug, Default)]
struct CutStarts {
    /// Before the relay was there for clients.
    under_way: u32,
    complete: u32,
}

impl CutStarts {
    fn cut(&mut self, relay: &mut Relay, disk: &Disk, random: &mut Random) {
        let there = |relay: &Relay| relay.log().matches("fact=\"started\"").count();
        let before = there(relay);
        relay.spawn();
        // Looks at the process, not a time: as `kills_while_it_starts`.
        for _ in 0..random.below(START_LOOKS_MAX) {
            relay.assert_running();
        }
        relay.signal(Signal::STOP);
        eventually("it is stopped", || relay.is_at_rest().then_some(()));
        disk.cut();
        if there(relay) > before {
            self.complete += 1;
        } else {
            self.under_way += 1;
        }
        relay.kill();
        disk.come_back();
    }
}

/// How long before a cut a delivery may have been that comes again. Its record waits for a
/// tenth of a second, then for the sync that is under way, and then for its own; each of
/// these a client has waited for, too.
fn within(ledger: &Ledger) -> Duration {
    RIDER_DELAY_MAX + 2 * ledger.slowest() + LATE_MAX
}

/// How often the operator was told that the disk does not do what it should.
fn times_told(log: &str) -> usize {
    log.matches("log-closed").count() + log.matches("segment-failed").count()
}
