//! The whole program, several times, in one virtual world: a provider and sites with all
//! their data cores and control cores, lines between them, and everybody around.
//!
//! Each machine is configured by the text that an operator would write. Its disks lose what
//! was not synced, tear, fail and fill up; its process is killed, loses power, is stopped,
//! started and told to read its configuration again, and its calendar is set. Lines are
//! dialled, slow, break, cost, and are hung up. Mail goes both ways: from anybody to the
//! sites, held until it is asked for by ETRN, ATRN, a wake-up message, a connection or
//! time, or lying in a mailbox that the site collects by POP3; from the houses of the sites to each other and to the world; and notices of
//! failure back.
//!
//! # What a world promises
//! - Everything that was answered 250 is delivered as it was sent, or its sender is told.
//! - Nothing else is delivered: not what was refused, not what was not sent whole.
//! - What lies in a mailbox is collected once, and gone from there in the end.
//! - A recipient gets it a second time only where the protocol cannot avoid it (`hops`).
//! - What is held is within the quota, the line within its budget, but for what their
//!   rules allow.
//! - Everything comes to rest when trouble ends, within `REST`: no message, no
//!   connection, no line is left; tables of sessions, permits and quotas are empty; and
//!   the logs hold nothing when they are read again.
//! - What the program tells of its spool is good: the disks kept their word.
//! - The same seed makes the same world, event by event.

mod configuration;
mod control;
mod inhabitants;
mod line;
mod lines;
mod machine;
mod mishaps;
mod network;
mod operations;
mod plan;
mod process;
mod rest;
mod traffic;
mod wire;
mod world;

use crate::hunt::{self, Total};
pub(crate) use world::{Summary, World};

impl Total for Summary {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.lost_replies += other.lost_replies;
        self.notifications += other.notifications;
        self.lives += other.lives;
        self.turns += other.turns;
        self.handed_over += other.handed_over;
        self.lines_up += other.lines_up;
        self.lines_taken_over += other.lines_taken_over;
        self.reloads += other.reloads;
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

/// Worlds when nothing else is said.
const SEEDS: u64 = 2000;

/// Beyond those.
const SHOWN: &hunt::Shown = &[
    (
        501_542,
        "a message that was being written when the disk failed was deleted from its mailbox",
    ),
    (504_320, "the same"),
    (
        602_075,
        "a power cut tore the text of a message, not its note: it was deleted from its mailbox",
    ),
];

/// Others run beside it, so that these are all that there are.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn whole_worlds() {
    let total = hunt::play("whole_worlds", SHOWN, SEEDS, threads(), World::play);
    let Some(total) = total else { return };
    // A world in which nothing happens finds nothing.
    let Summary {
        delivered,
        notifications,
        turns,
        handed_over,
        lines_up,
        lines_taken_over,
        reloads,
        ..
    } = total;
    let all = [
        delivered,
        notifications,
        turns,
        handed_over,
        lines_up,
        lines_taken_over,
        reloads,
    ];
    assert!(all.iter().all(|count| *count > 0), "{total:?}");
}
