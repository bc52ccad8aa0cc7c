//! A log: what a data core writes to, and what it keeps account of.
//!
//! [`Log`] joins the machines of the spool: `commit` makes batches of records,
//! `reclaim` says which segment may go, `carry` empties those that are mostly dead,
//! `room` decides whether there is room for a message.
//!
//! The way of a message: [`Log::begin`] stores its envelope, [`Log::body`] each piece
//! as it comes, [`Log::seal`] makes it whole and takes a ticket; [`Output::Committed`]
//! is when it is ours. From then on [`Log::done`], [`Log::attempt`] and [`Log::mark`]
//! say what became of it.
//!
//! Relies on: the shell answers every [`Output::Write`], [`Output::SegmentNeeded`] and
//! [`Output::SegmentDead`]; a core sees its inputs one after the other.
//!
//! Invariants:
//!
//! - *Room first.* A message is refused before anything of it is stored, if there is no
//!   room for what it declares; [`RESERVE_SEGMENTS`] are left for done records and for
//!   carrying forward, so that a full spool still drains. They are files, not a sum: what is
//!   free on the disk now may be somebody else's in a moment, so mail waits until they are
//!   there, and is refused where they cannot be had.
//! - *Moved before dead.* That a message is somewhere else now is told before the
//!   segment where it was is told to be dead.
//!
//! What it does not do: it reads no clock and no file; it does not know SMTP; it does
//! not know recipients, only that somebody says when none is left.

mod carry;
mod found;
mod notes;
mod room;
mod supply;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;
use spool_format::{
    Location, LogId, Offset, SegmentHeader, SegmentId, SegmentPlace, SpoolUuid, Stamp,
};

use self::carry::Carry;
pub(super) use self::found::Found;
use self::notes::Notes;
pub use self::room::{NoRoom, RESERVE_SEGMENTS, RESERVE_SEGMENTS_NOTIFICATIONS, UNDECLARED_BYTES};
use self::supply::Asked;
pub use self::supply::{PrepareCause, Unprepared};
use self::writing::Since;
pub use self::writing::{
    ATTEMPT_ERROR_BYTES_MAX, Attempt, CHUNK_BYTES_MAX, OpenMessage, Refused, Rest, Sealed,
};
use super::commit::{self, BatchNumber, Commit, Committed, Durability, Ticket, WriteFault};
use super::message::ReadError;
use super::reclaim::{Fate, Reclaim, Waste};
use crate::mail::QueueId;
use crate::time::{Instant, Now};

/// Segments kept prepared beyond the one that is being filled: the reserve, which has to be
/// there when others have filled the disk, and one for what comes. Preparing one takes some
/// milliseconds, filling one at full speed a few hundred.
pub const SEGMENTS_AHEAD: u32 = RESERVE_SEGMENTS as u32 + 1;

/// Dead segments kept to be used again: enough for a burst of some 200,000 messages of
/// 4 KiB. A sync of octets in a segment that was used before takes less than half as long
/// as one in a fresh segment (`segment`), which is what few sessions wait for; and a spool
/// that was emptied is to take the next burst as fast as it gave the last one away.
pub const SPARES_MAX: usize = 16;

/// Of those, what is kept however little room there is: what a log in the steady state uses.
pub const SPARES_MIN: usize = 4;

/// Messages that end before it is asked again whether a segment is worth emptying.
const FINISHED_PER_BALANCE: u32 = 1000;

/// Whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The spool.
    pub spool: SpoolUuid,
    /// The log in it; also the upper octet of the queue ids that are given out.
    pub log: LogId,
}

/// Sizes and limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of a segment file.
    pub segment_bytes: u32,
    /// All segment files of this log together, spares included.
    pub size_max: u64,
    /// To be left free on the disk.
    pub free_min: u64,
}

/// What became of a segment that was told to be dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It is a spare now, durably.
    Spare,
    /// It is removed or set aside, durably.
    Removed,
}

/// What the log wants done, or tells.
#[derive(PartialEq, Debug)]
pub enum Output {
    /// Write, make durable, answer with [`Log::written`]. One at a time.
    Write {
        /// The file.
        segment: SegmentId,
        /// Where in it.
        offset: Offset,
        /// What; may be nothing, and then only the sync is wanted.
        bytes: Vec<u8>,
        /// How durable.
        durability: Durability,
    },
    /// A message is on stable storage.
    Committed {
        /// Whose.
        ticket: Ticket,
        /// The proof.
        receipt: Committed,
    },
    /// A message will never be committed.
    Failed {
        /// Whose.
        ticket: Ticket,
    },
    /// Prepare this segment, from the spare if that can be done, and answer with
    /// [`Log::segment_ready`] or [`Log::segment_failed`].
    SegmentNeeded {
        /// What it begins with.
        header: SegmentHeader,
        /// A spare that may become it.
        spare: Option<SegmentId>,
    },
    /// This segment is full and on stable storage: a good time for its summary.
    SegmentClosed {
        /// Which.
        segment: SegmentId,
    },
    /// Nothing in this segment is needed. Do as `fate` says and answer with
    /// [`Log::segment_gone`].
    SegmentDead {
        /// Which.
        segment: SegmentPlace,
        /// What to do with it.
        fate: Fate,
    },
    /// Call [`Log::carry`] when there is time, until [`Log::carries`] is `None`; warm
    /// the segment before.
    CarryWanted {
        /// Which segment is being emptied.
        segment: SegmentPlace,
    },
    /// A message is elsewhere now. Its old place can be read until the segment is dead.
    Moved {
        /// Which.
        queue_id: QueueId,
        /// Where its seal was.
        from: Location,
        /// Where it is.
        to: Location,
    },
    /// A message could not be carried forward. It stays where it is.
    CarryFailed {
        /// Which, if one is concerned.
        queue_id: Option<QueueId>,
        /// Why.
        error: ReadError,
    },
    /// The log is closed to writes for ever; reads go on. Told once.
    LogClosed {
        /// Why.
        fault: WriteFault,
    },
}

/// The log of a data core.
#[derive(Debug)]
pub struct Log {
    identity: Identity,
    settings: Settings,
    commit: Commit,
    reclaim: Reclaim,
    since: HashMap<QueueId, Since>,
    notes: Notes,
    /// Done records that name the segment in which they are, and whose seal was cut off
    /// there: the segment of the older seal that they end. As the start found them.
    strays: BTreeMap<(SegmentPlace, QueueId), SegmentPlace>,
    stamp: Stamp,
    queue_id_next: u64,
    free_bytes: u64,
    reserved: u64,
    spares: Vec<SegmentId>,
    /// To be kept as spares, and not yet gone.
    sparing: BTreeSet<SegmentPlace>,
    /// Those of them that had to be removed: somebody might still send from them. Their
    /// room is taken back, also on a disk that others have filled.
    vacated: u64,
    asked: BTreeMap<SegmentId, Asked>,
    outputs: VecDeque<Output>,
    /// Told when their batch is durable, in order.
    moves: VecDeque<(BatchNumber, QueueId, Location, Location)>,
    carry: Option<Carry>,
    /// Whether to ask for a segment to empty, and how badly.
    balance: Balance,
}

#[derive(Debug)]
struct Balance {
    due: bool,
    pressed: bool,
    /// Nothing can be won back, since nothing has happened since that was found: so that
    /// each message that is refused does not cost another look.
    in_vain: bool,
    finished: u32,
}

impl Balance {
    /// What can be won back may be another now.
    fn stir(&mut self) {
        self.due = true;
        self.in_vain = false;
    }
}

impl Log {
    /// An empty log.
    ///
    /// `epoch_seed` is random, and new at each start. `free_bytes` is what the disk has.
    #[must_use]
    pub fn new(identity: Identity, settings: Settings, epoch_seed: u64, free_bytes: u64) -> Self {
        let first = SegmentId(1);
        let queue_id_next = u64::from(identity.log.0) << 56;
        Self::continued(
            identity,
            settings,
            epoch_seed,
            free_bytes,
            first,
            queue_id_next,
        )
    }

    /// A log whose next segment is `first`.
    pub(super) fn continued(
        identity: Identity,
        settings: Settings,
        epoch_seed: u64,
        free_bytes: u64,
        first: SegmentId,
        queue_id_next: u64,
    ) -> Self {
        Self {
            identity,
            settings,
            commit: Commit::new(settings.segment_bytes, first, epoch_seed),
            reclaim: Reclaim::default(),
            since: HashMap::new(),
            notes: Notes::default(),
            strays: BTreeMap::new(),
            stamp: Stamp::START,
            queue_id_next,
            free_bytes,
            reserved: 0,
            spares: Vec::new(),
            sparing: BTreeSet::new(),
            vacated: 0,
            asked: BTreeMap::new(),
            outputs: VecDeque::new(),
            moves: VecDeque::new(),
            carry: None,
            balance: Balance {
                due: true,
                pressed: false,
                in_vain: false,
                finished: 0,
            },
        }
    }

    /// What is free on the disk: once a second or so, and after preparing a segment.
    pub fn free_bytes(&mut self, bytes: u64) {
        self.free_bytes = bytes;
        let vacated_bytes = self.vacated * u64::from(self.settings.segment_bytes);
        if bytes >= self.settings.free_min + vacated_bytes {
            // It is among what is free.
            self.vacated = 0;
        }
    }

    /// A transmission from a segment begins.
    pub fn borrow(&mut self, segment: SegmentPlace) {
        self.reclaim.borrow(segment);
    }

    /// It has ended.
    pub fn give_back(&mut self, segment: SegmentPlace) {
        self.reclaim.give_back(segment);
    }

    /// A write has ended; `bytes` is its buffer.
    pub fn written(&mut self, result: Result<(), WriteFault>, bytes: Vec<u8>) {
        self.commit.written(result, bytes);
    }

    /// The time of [`Log::deadline`] may have come.
    pub fn timer(&mut self, now: Now) {
        self.commit.timer(now.instant);
        for asked in self.asked.values_mut() {
            asked.timer(now.instant, &mut self.spares, &mut self.outputs);
        }
    }

    /// When to call [`Log::timer`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let supply = self.asked.values().filter_map(Asked::deadline);
        supply.chain(self.commit.deadline()).min()
    }

    /// Wants everything on stable storage, before a stop. Done when [`Log::is_idle`].
    pub fn flush(&mut self) {
        self.commit.flush();
    }

    /// Everything appended is on stable storage.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.commit.is_idle()
    }

    /// What is appended now waits for a segment that is being prepared: so it is for some
    /// milliseconds after a start. False where none can be had, which may take long.
    #[must_use]
    pub fn awaits_segment(&self) -> bool {
        !self.commit.has_segment() && !self.asked.is_empty() && !self.preparation_fails()
    }

    /// More waits for the disk than is good: take no more from the peers for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.commit.is_full()
    }

    /// Why the log is closed to writes.
    #[must_use]
    pub fn fault(&self) -> Option<WriteFault> {
        self.commit.fault()
    }

    /// Where a live message can be read, by the place of its seal: one that is being carried
    /// forward where it was, until its copy is on stable storage. The copy may have no
    /// segment yet.
    #[must_use]
    pub fn message(&self, queue_id: QueueId) -> Option<Location> {
        let newest = self.reclaim.message(queue_id)?;
        let moved = self.moves.iter().find(|(_, moved, ..)| *moved == queue_id);
        Some(moved.map_or(newest, |(_, _, from, _)| *from))
    }

    /// How many messages are live.
    #[must_use]
    pub fn messages_count(&self) -> usize {
        self.reclaim.messages_count()
    }

    /// The segments that are there.
    pub fn segments(&self) -> impl Iterator<Item = SegmentPlace> {
        self.reclaim.segments()
    }

    /// What is to be done or known next.
    pub fn poll(&mut self, now: Now) -> Option<Output> {
        self.poll_but_writes(now).or_else(|| self.next_write())
    }

    /// The next write, if one is due: to be asked for behind all else, and when all was
    /// handed in that has happened by then, so that one sync serves all of it.
    pub fn next_write(&mut self) -> Option<Output> {
        let output = self.commit.next_write()?;
        Some(self.of_commit(output))
    }

    /// Whether [`Log::next_write`] would give one.
    #[must_use]
    pub fn has_write(&self) -> bool {
        self.commit.has_write()
    }

    /// [`Commit::has_full_write`](super::commit::Commit::has_full_write).
    #[must_use]
    pub fn has_full_write(&self) -> bool {
        self.commit.has_full_write()
    }

    /// The same as [`Log::poll`], but for writes.
    pub fn poll_but_writes(&mut self, now: Now) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.commit.news() {
                return Some(self.of_commit(output));
            }
            let durable = self.commit.durable();
            if let Some(&(batch, queue_id, from, to)) = self.moves.front()
                && batch <= durable
            {
                self.moves.pop_front();
                return Some(Output::Moved { queue_id, from, to });
            }
            if self.ask_ahead(now) {
                continue;
            }
            if let Some((segment, fate)) = self.reclaim.dead(durable) {
                let fate = self.fate_here(segment, fate);
                return Some(Output::SegmentDead { segment, fate });
            }
            return self.choose_carry();
        }
    }

    fn of_commit(&mut self, output: commit::Output) -> Output {
        match output {
            commit::Output::Write {
                segment,
                offset,
                bytes,
                durability,
            } => Output::Write {
                segment,
                offset,
                bytes,
                durability,
            },
            commit::Output::Committed { ticket, receipt } => Output::Committed { ticket, receipt },
            commit::Output::Failed { ticket } => Output::Failed { ticket },
            commit::Output::SegmentClosed { segment, end } => {
                self.reclaim.closed(self.place(segment), end);
                self.balance.stir();
                Output::SegmentClosed { segment }
            }
            commit::Output::LogClosed { fault } => Output::LogClosed { fault },
        }
    }

    fn choose_carry(&mut self) -> Option<Output> {
        if !self.balance.due || self.carry.is_some() || self.commit.fault().is_some() {
            return None;
        }
        self.balance.due = false;
        let waste = if std::mem::take(&mut self.balance.pressed) {
            Waste::Pressed
        } else {
            Waste::Relaxed
        };
        let room_bytes = self.room_for_copies();
        let segment_bytes = self.settings.segment_bytes;
        let Some(segment) = self.reclaim.victim(waste, segment_bytes, room_bytes) else {
            if waste == Waste::Pressed {
                self.balance.in_vain = true;
                self.leave_spent_tail();
            }
            return None;
        };
        self.begin_carry(segment);
        Some(Output::CarryWanted { segment })
    }

    fn place(&self, segment: SegmentId) -> SegmentPlace {
        SegmentPlace {
            log: self.identity.log,
            segment,
        }
    }

    fn next_stamp(&mut self, now: Now) -> Stamp {
        self.stamp = self.stamp.next(now.wall.as_millis());
        self.stamp
    }
}

#[cfg(test)]
mod tests;
