//! A machine: its disks, its calendar, and the process of Turnspool that runs on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use spool_format::{LogId, SegmentPlace};
use turnspool::core::control::ControlCore;
use turnspool::core::data::{DataCore, Settings};
use turnspool::core::{Completion, ConnectionId, Door};
use turnspool::link::outing::Memory;
use turnspool::queue::{self, Permits, Sessions};
use turnspool::runtime::settings::Smarthost;
use turnspool::spool::message::{SegmentSource, View};
use turnspool::time::{Instant, Now, WallTime};

use super::plan::MILLISECOND;
use super::wire::EndId;
use crate::disk::Disk;
use crate::mailboxes::Mailboxes;
use crate::random::Random;

/// Data cores of a machine at most.
pub(super) const CORES_MAX: u8 = 3;

/// 24 November 2026, in the morning: no world is near a midnight at once.
const BEGAN_MILLIS: i64 = 1_795_510_800_000;

/// The logs of a machine as one source.
pub(super) struct Spool<'a>(pub(super) &'a [Disk]);

impl SegmentSource for Spool<'_> {
    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        self.0.get(usize::from(segment.log.0))?.view(segment)
    }
}

/// A data core in its shell.
pub(super) struct Core {
    pub(super) core: DataCore,
    pub(super) ready: VecDeque<Completion<'static>>,
    pub(super) ends: BTreeMap<ConnectionId, EndId>,
    /// A write with a sync is under way.
    pub(super) writing: bool,
    pub(super) failed: bool,
    /// For each listener.
    pub(super) doors: Vec<Door>,
    pub(super) deadline: Option<Instant>,
    /// When the last letter to it arrives: none overtakes another.
    pub(super) last_letter: u64,
}

/// A process.
pub(super) struct Process {
    pub(super) cores: Vec<Core>,
    pub(super) control: ControlCore,
    pub(super) control_deadline: Option<Instant>,
    /// When something last happened beside the clock.
    pub(super) busy_at: u64,
    pub(super) last_to_control: u64,
    pub(super) settings: Arc<Settings>,
    pub(super) smarthosts: Vec<Vec<Smarthost>>,
    pub(super) usage: Arc<queue::Ledger>,
    pub(super) permits: Arc<Permits>,
    pub(super) sessions: Arc<Sessions>,
    /// At one time, at most.
    pub(super) sessions_most: u64,
    /// Messages with which it began: an earlier life took them.
    pub(super) held_at_start: u64,
    /// The control core has said that it is over; whether in good order.
    pub(super) exit: Option<bool>,
}

/// See the module.
pub(super) struct Machine {
    pub(super) hostname: String,
    pub(super) disks: Vec<Disk>,
    pub(super) mailboxes: Mailboxes,
    pub(super) memories: BTreeMap<String, Memory>,
    /// When they were kept.
    pub(super) kept_at: u64,
    pub(super) wall_offset: i64,
    pub(super) life: u32,
    /// How often its configuration was changed.
    pub(super) changes: u32,
    pub(super) process: Option<Process>,
    /// Operations until it dies.
    pub(super) dies_in: Option<u64>,
    pub(super) dies: Option<super::plan::Mishap>,
    /// Since then the disk fails or is full.
    pub(super) no_room_since: Option<u64>,
    /// This life found messages that are not whole and never were committed.
    pub(super) torn: bool,
    /// No power: who talks to it hears nothing.
    pub(super) dark: bool,
    pub(super) messages: u64,
    pub(super) asked: bool,
}

impl Machine {
    pub(super) fn new(hostname: String, disk_bytes: u64, random: &mut Random) -> Self {
        Self {
            hostname,
            disks: (0..CORES_MAX)
                .map(|log| Disk::new(LogId(log), disk_bytes, random.fork()))
                .collect(),
            mailboxes: Mailboxes::default(),
            memories: BTreeMap::new(),
            kept_at: 0,
            wall_offset: BEGAN_MILLIS + (random.below(18 * 3_600_000)) as i64,
            life: 0,
            changes: 0,
            process: None,
            dies_in: None,
            dies: None,
            no_room_since: None,
            torn: false,
            dark: false,
            messages: 0,
            asked: false,
        }
    }

    pub(super) fn clocks(&self, now: u64) -> Now {
        Now {
            instant: Instant::from_nanos(now),
            wall: WallTime::from_millis(self.wall_offset + (now / MILLISECOND) as i64),
        }
    }

    /// Of its calendar, in UTC.
    pub(super) fn day(&self, now: u64) -> i64 {
        self.clocks(now).wall.as_seconds().div_euclid(86_400)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let free = self.disks.iter().map(Disk::free_bytes);
        free.min().expect("it has a disk")
    }
}
