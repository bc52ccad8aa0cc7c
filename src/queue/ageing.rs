//! How old mail is where the clock is set.
//!
//! A machine without a battery for its clock starts days or weeks behind, takes mail, comes
//! on line, and its clock is set. None of that mail is older by what the clock was set by.
//! Its age is what passed while this process lived, which the monotonic clock says, which
//! goes on while the machine sleeps; and what passed between lives, of which only the wall
//! clock can tell.
//!
//! So each time that the clock is set by [`SET_MIN`] or more is remembered, over restarts too
//! (spool-format, tag 6): which mail was there, which is said by its queue id, and by how much.
//! What that mail says of its arrival stands as it was written; its age begins as much later,
//! or earlier.
//!
//! What was found at a start with an arrival that is well ahead of the clock was stamped by
//! a better clock than that of the start, and is not moved with it. As long as an arrival is
//! ahead of the clock at the start, its age begins with the start: otherwise a clock that
//! was once far ahead would keep mail for years.
//!
//! A moment that a sender has named (HOLDUNTIL) is not mended: it is met by the clock as it is
//! when it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::mail::QueueId;
use crate::time::{Now, WallTime};

/// Set by less than this, the clock makes mail older or younger: much less than any of the
/// times after which mail is given up as a rule.
pub const SET_MIN: Duration = Duration::from_secs(600);
/// Times that the clock was set that are remembered of the mail of one core: the last ones.
/// A gateway without a clock has one at each start, and mail that saw more of them is old.
pub const SETS_MAX: usize = 64;
/// An arrival that is this far ahead of the clock at a start was stamped by a better clock.
/// One that is less ahead may be by a clock that lost what it had saved last.
pub const AHEAD_MIN: Duration = Duration::from_secs(24 * 3600);

/// Octets of one time in a note.
const SET_BYTES: usize = 32;

/// The clock was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ClockSet {
    /// Mail with ids below this was there.
    below: u64,
    /// Mail with ids below this had been found at the start.
    found_below: u64,
    /// What the clock would have said at the start.
    start: WallTime,
    /// By how many milliseconds, forward or backward.
    by: i64,
}

impl ClockSet {
    /// Where an arrival is on the clock that is right now.
    fn mend(&self, queue_id: QueueId, arrival: WallTime) -> WallTime {
        let id = queue_id.as_u64();
        let better = id < self.found_below && arrival > self.start + AHEAD_MIN;
        if id < self.below && !better {
            moved(arrival, self.by)
        } else {
            arrival
        }
    }

    fn to_bytes(self) -> [u8; SET_BYTES] {
        let mut bytes = [0; SET_BYTES];
        let fields = [
            self.below.to_le_bytes(),
            self.found_below.to_le_bytes(),
            self.start.as_millis().to_le_bytes(),
            self.by.to_le_bytes(),
        ];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; SET_BYTES]) -> Self {
        let field = |n: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[8 * n..8 * (n + 1)]);
            field
        };
        Self {
            below: u64::from_le_bytes(field(0)),
            found_below: u64::from_le_bytes(field(1)),
            start: WallTime::from_millis(i64::from_le_bytes(field(2))),
            by: i64::from_le_bytes(field(3)),
        }
    }
}

/// What the age of mail is counted by.
#[derive(Debug)]
pub struct Ageing {
    /// By the core that took the mail, in their order.
    sets: BTreeMap<u8, Vec<ClockSet>>,
    /// By whom new mail is taken.
    own: u8,
    /// The first id of this life. `None`: nothing was found.
    first: Option<QueueId>,
    /// What the clock would have said at the start if it had been as it is now.
    start: WallTime,
    /// When it was last looked at.
    seen: Now,
}

impl Ageing {
    /// Nothing was found, and the clock was never set.
    pub(super) fn new(own: u8, now: Now) -> Self {
        Self {
            sets: BTreeMap::new(),
            own,
            first: None,
            start: now.wall,
            seen: now,
        }
    }

    /// Mail with ids before `first`, and all of other cores, is from earlier lives.
    pub(super) fn found_before(&mut self, first: QueueId) {
        self.first = Some(first);
    }

    /// What [`Ageing::set`] said in an earlier life of the mail that `core` took. Nothing
    /// if it cannot be read.
    pub(super) fn recall(&mut self, core: u8, note: &[u8]) {
        let (sets, []) = note.as_chunks() else {
            return;
        };
        let sets = sets.iter().map(ClockSet::from_bytes);
        self.sets.insert(core, sets.collect());
    }

    /// By how many milliseconds the clock was set since this was last asked, if it was.
    pub(super) fn look(&mut self, now: Now) -> Option<i64> {
        let before = std::mem::replace(&mut self.seen, now);
        let unset = before.wall + now.instant.since(before.instant);
        let by = now.wall.as_millis().saturating_sub(unset.as_millis());
        (u128::from(by.unsigned_abs()) >= SET_MIN.as_millis()).then_some(by)
    }

    /// The clock was set; the next mail is `next`; mail of these other cores waits here too.
    /// Gives what is to be remembered of each core's mail.
    pub(super) fn set(
        &mut self,
        by: i64,
        next: QueueId,
        others: impl IntoIterator<Item = u8>,
    ) -> Vec<(u8, Vec<u8>)> {
        let start = self.start;
        let mut add = |core, below: u64, found_below: u64| {
            let sets = self.sets.entry(core).or_default();
            if sets.len() == SETS_MAX {
                sets.remove(0);
            }
            sets.push(ClockSet {
                below,
                found_below,
                start,
                by,
            });
            let note = sets.iter().flat_map(|set| set.to_bytes()).collect();
            (core, note)
        };
        let found = self.first.map_or(0, QueueId::as_u64);
        let mut notes = vec![add(self.own, next.as_u64(), found)];
        for core in others.into_iter().filter(|core| *core != self.own) {
            // They take nothing any more.
            let end = (u64::from(core) << 56) | ((1 << 56) - 1);
            notes.push(add(core, end, end));
        }
        self.start = moved(self.start, by);
        notes
    }

    /// How much later than it says, in milliseconds, a message arrived on the clock of now.
    pub(super) fn later(&self, queue_id: QueueId, arrival: WallTime) -> i64 {
        let mut mended = arrival;
        for set in self.sets.get(&queue_id.core()).into_iter().flatten() {
            mended = set.mend(queue_id, mended);
        }
        let found = self
            .first
            .is_some_and(|first| queue_id.core() != self.own || queue_id < first);
        if found {
            mended = mended.min(self.start);
        }
        mended.as_millis().saturating_sub(arrival.as_millis())
    }
}

/// A time of the clock as it was, on the clock that was set.
pub(super) fn moved(at: WallTime, by: i64) -> WallTime {
    WallTime::from_millis(at.as_millis().saturating_add(by))
}

#[cfg(test)]
mod tests;
