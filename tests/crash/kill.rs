//! kill -9 at random moments under load, and a start on the same spool.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use turnspool::spool::commit::RIDER_DELAY_MAX;

use crate::copies::{Again, Breaks, LATE_MAX};
use crate::harness::message::Random;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Setup, Sink, eventually, place};
use crate::ledger::Ledger;
use crate::load::Load;

/// How long rounds are begun. Each is some tens of milliseconds and a restart.
const ROUNDS_FOR: Duration = Duration::from_secs(12);
/// However slow the machine is.
const ROUNDS_MIN: u32 = 5;
const CLIENTS: u64 = 4;
/// How long quiet is waited for.
const QUIET_FOR_MAX: Duration = Duration::from_secs(15);

/// From the environment, to repeat a run, or from the clock.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("TURNSPOOL_SEED") {
        Ok(text) => text.parse().expect("TURNSPOOL_SEED is a whole number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64
        }
    };
    eprintln!("TURNSPOOL_SEED={seed}");
    seed
}

/// Rounds of load, each ended by a kill. In some the next hop is there, so that
/// done records are lost too; in others mail gathers.
#[test]
fn rounds() {
    rounds_over(1);
}

#[test]
fn rounds_over_two_cores() {
    rounds_over(2);
}

fn rounds_over(cores: u8) {
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let address = place::next_address();
    let mut relay = Setup::to(address)
        .cores(cores)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .start();
    // Without a loss of power what was written is there: the syncs do not count.
    let within = RIDER_DELAY_MAX + LATE_MAX;
    let mut breaks = Breaks::default();
    let mut delivered = Vec::new();
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < ROUNDS_FOR || rounds < ROUNDS_MIN {
        let sink = (random.below(3) > 0).then(|| Sink::at(address, EVERYTHING, []));
        let load = Load::new(&ledger, relay.address());
        // Octets, not time: the moment is random, and what happened before it is
        // about the same on a slow machine.
        let until = random.below(4_000_000);
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
                && random.below(4) == 0
            {
                load.enough.store(true, Ordering::Release);
                quiet(sink, within);
            }
            ended_at = Instant::now();
            relay.kill();
            load.enough.store(true, Ordering::Release);
        });
        if let Some(sink) = sink {
            delivered.extend(sink.mail());
        }
        breaks.add(ended_at, within);
        relay.start_again();
        rounds += 1;
    }
    let sink = Sink::at(address, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    delivered.extend(sink.mail());
    let twice = ledger.judge(&delivered);
    let Again { count, oldest } = breaks.judge(&delivered);
    eprintln!(
        "{rounds} kills over {cores} cores: {}; {twice} copies more than one, {count} of them \
         of what was delivered before, at most {oldest:?}",
        ledger.summary()
    );
    assert!(
        ledger.acknowledged() > 0,
        "nothing was acknowledged: the test tests nothing"
    );
    relay.stop();
    let directory = relay.spool_directory();
    let finished = relay.run(&["spool", "verify", directory.to_str().expect("UTF-8")]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

/// Waits until nothing was delivered for so long: an end of the program repeats nothing then.
/// Where a busy machine has too much to deliver for that, the end comes in the middle of it,
/// as in other rounds; what that may repeat is judged in each.
pub(crate) fn quiet(sink: &Sink, within: Duration) {
    let begun = Instant::now();
    eventually("nothing is delivered for a while", || {
        let newest = sink.newest();
        let is_quiet = newest.is_none_or(|at| at.elapsed() > within);
        (is_quiet || begun.elapsed() > QUIET_FOR_MAX).then_some(())
    });
}

/// Killed again and again while it recovers, with a queue of some size: a start is
/// no change, whatever it has come to.
#[test]
fn kills_while_it_starts() {
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let address = place::next_address();
    let mut relay = Setup::to(address)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .start();
    let load = Load::new(&ledger, relay.address());
    std::thread::scope(|scope| {
        let _end = load.ends();
        for _ in 0..CLIENTS {
            let (load, seed) = (&load, random.next());
            scope.spawn(move || load.run(seed));
        }
        eventually("the load is written", || {
            (load.written.load(Ordering::Relaxed) >= 16_000_000).then_some(())
        });
        relay.kill();
        load.enough.store(true, Ordering::Release);
    });
    for _ in 0..30 {
        relay.spawn();
        // A number of looks at the process, not a time: it is killed in all
        // stages of its start.
        for _ in 0..random.below(2000) {
            relay.assert_running();
        }
        relay.kill();
    }
    let sink = Sink::at(address, EVERYTHING, []);
    relay.start_again();
    relay.wait_until_drained(&sink);
    let twice = ledger.judge(&sink.mail());
    eprintln!("{}; {twice} copies more than one", ledger.summary());
    relay.stop();
}
