//! A whole data core in worlds made of one seed each: virtual disk, network, clock.
//!
//! The core under test is the real one, with the real log, queue and sessions; only
//! the shell is another ([`world`]). What a world promises stands in [`ledger`].
//!
//! - `cargo test --test simulation` plays 500 worlds of each flavour.
//! - `TURNSPOOL_SIM_SEEDS=100000 TURNSPOOL_SIM_FROM=1 cargo test --release --test
//!   simulation` hunts; one of the tests alone hunts in its flavour.
//! - `TURNSPOOL_SIM_SEED=17 cargo test --test simulation crashes` repeats one world of
//!   a flavour, and tells all that happens.

mod client;
mod customers;
mod disk;
mod ledger;
mod mailboxes;
mod network;
mod peer;
mod plan;
mod random;
mod server;
mod turn;
mod world;

use std::panic::{self, AssertUnwindSafe};

use plan::Flavour;
use world::{Summary, World};

/// Seeds of each flavour when nothing else is said.
const SEEDS: u64 = 500;

/// Worlds that are played twice: nothing may hang on anything but the seed.
const REPEATED: u64 = 50;

/// Failed worlds after which a hunt ends.
const FAILURES_MAX: usize = 20;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

fn play(flavour: Flavour, test: &str) {
    if let Some(seed) = number("TURNSPOOL_SIM_SEED") {
        let summary = World::play(flavour, seed, true);
        eprintln!("{summary:#?}");
        return;
    }
    let from = number("TURNSPOOL_SIM_FROM").unwrap_or(1);
    let seeds = number("TURNSPOOL_SIM_SEEDS").unwrap_or(SEEDS);
    let hunting = number("TURNSPOOL_SIM_SEEDS").is_some();
    let mut failed = Vec::new();
    let mut total = Summary::default();
    for seed in from..from + seeds {
        let played = panic::catch_unwind(AssertUnwindSafe(|| World::play(flavour, seed, false)));
        let Ok(summary) = played else {
            eprintln!(
                "world {seed} failed; to see it again: \
                 TURNSPOOL_SIM_SEED={seed} cargo test --test simulation {test}"
            );
            failed.push(seed);
            // What one world found, the next ones find, too; a hunter wants them all.
            if hunting && failed.len() < FAILURES_MAX {
                continue;
            }
            break;
        };
        if seed < from + REPEATED {
            let again = World::play(flavour, seed, false);
            assert_eq!(
                summary, again,
                "world {seed} goes otherwise the second time"
            );
        }
        total.events += summary.events;
        total.accepted += summary.accepted;
        total.delivered += summary.delivered;
        total.duplicates += summary.duplicates;
        total.notifications += summary.notifications;
        total.merged += summary.merged;
        total.lives += summary.lives;
        total.segments_reused += summary.segments_reused;
        total.digest = total.digest.rotate_left(1) ^ summary.digest;
    }
    eprintln!("{flavour:?}: {seeds} worlds from {from}: {total:?}");
    assert!(
        failed.is_empty(),
        "{flavour:?}: these worlds failed: {failed:?}"
    );
    // A world in which nothing happens finds nothing.
    assert!(total.accepted > 0 && total.delivered > 0);
    assert!(
        flavour != Flavour::Peers || total.merged > 0,
        "nothing is ever merged"
    );
}

#[test]
fn calm() {
    play(Flavour::Calm, "calm");
}

#[test]
fn peers() {
    play(Flavour::Peers, "peers");
}

#[test]
fn crashes() {
    play(Flavour::Crashes, "crashes");
}

#[test]
fn disk() {
    play(Flavour::Disk, "disk");
}

#[test]
fn held() {
    play(Flavour::Held, "held");
}

#[test]
fn full() {
    play(Flavour::Full, "full");
}
