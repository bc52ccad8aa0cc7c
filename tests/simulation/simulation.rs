//! The program in worlds made of one seed each: virtual disks, networks, lines, clocks.
//!
//! What is under test is the real program, with its real logs, queues and sessions; only
//! the shell is another. There are three kinds of worlds:
//!
//! - [`whole`]: a provider and its sites, each the whole program, configured by a text.
//! - [`world`]: one data core in six flavours of trouble, more of each than a whole world
//!   has time for.
//! - [`turn`]: turns (RFC 2645) over several data cores, cut at any octet.
//!
//! What a world promises stands in [`whole`], [`ledger`] and [`hops`].
//!
//! - `cargo test -p turnspool-simulation` plays some 26,000 worlds: a processor plays some
//!   800 of one core a second, or 170 whole ones. It is a package of its own so that it can
//!   be optimised (`src/machines.rs`).
//! - `TURNSPOOL_SIM_SEEDS=100000 TURNSPOOL_SIM_FROM=1 cargo test -p turnspool-simulation
//!   whole_worlds` hunts.
//! - `TURNSPOOL_SIM_SEED=17 cargo test -p turnspool-simulation crashes` repeats one world
//!   of a kind, and tells all that happens.

// What is under test, without its shells.
extern crate machines as turnspool;

mod client;
mod customers;
mod disk;
mod hops;
mod hunt;
mod inhabitants;
mod ledger;
mod mailbox;
mod mailboxes;
mod network;
mod peer;
mod plan;
mod random;
mod server;
mod turn;
mod whole;
mod world;

use hunt::Total;
use plan::Flavour;
use world::{Summary, World};

/// Seeds of each flavour when nothing else is said.
const SEEDS: u64 = 4000;

impl Total for Summary {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.notifications += other.notifications;
        self.merged += other.merged;
        self.lives += other.lives;
        self.segments_reused += other.segments_reused;
        // Threads come in any order.
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

fn play(flavour: Flavour, test: &str) {
    let total = hunt::play(test, &[], SEEDS, 1, |seed, trace| {
        World::play(flavour, seed, trace)
    });
    let Some(total) = total else { return };
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
