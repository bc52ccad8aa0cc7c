//! The process is stopped for a while, as by a debugger or a suspended machine.

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use crate::harness::message::Random;
use crate::harness::{Setup, Sink, eventually};
use crate::kill::seed;
use crate::ledger::Ledger;
use crate::load::Load;

#[test]
fn stopped_and_continued_under_load() {
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address()).cores(2).start();
    let load = Load::new(&ledger, relay.address());
    std::thread::scope(|scope| {
        let _end = load.ends();
        for _ in 0..4 {
            let (load, seed) = (&load, random.next());
            scope.spawn(move || load.run(seed));
        }
        for round in 1..=20 {
            let until = load.written.load(Ordering::Relaxed) + random.below(500_000);
            eventually("some load is written", || {
                (load.written.load(Ordering::Relaxed) >= until).then_some(())
            });
            relay.signal(Signal::STOP);
            eventually("it is stopped", || (relay.state() == 'T').then_some(()));
            if round == 20 {
                // The last time it does not wake up again.
                load.enough.store(true, Ordering::Release);
                relay.kill();
            } else {
                relay.signal(Signal::CONT);
            }
        }
    });
    relay.start_again();
    relay.wait_until_drained(&sink);
    let twice = ledger.judge(&sink.mail());
    eprintln!("{}; {twice} copies more than one", ledger.summary());
    assert!(ledger.acknowledged() > 0);
    relay.stop();
}
