//! Deadlines of many things, of which few ever come.
//!
//! A session moves its deadline with every command, and nearly always it does so
//! before the deadline comes. So a new deadline costs nothing here while the old
//! entry is not due: each key has one entry that counts in a heap, at or before its
//! deadline. When it comes up the caller looks at the deadline as it is now, and makes
//! a new entry if that is later. A nearer deadline makes a new entry at once; the one
//! that it replaces goes when its time comes.
//!
//! Invariant: for each key with a deadline there is an entry at or before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Keys by the time at which to look at them.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    entries: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            entries: BinaryHeap::new(),
        }
    }
}

/// When the entry of a key stands; kept beside the key's value by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(Instant);

impl Default for Entry {
    fn default() -> Self {
        Self(Instant::NEVER)
    }
}

impl Entry {
    /// Whether the entry that came up at `instant` is the one that counts, and not one
    /// that a nearer deadline has replaced. It is none then.
    pub(super) fn take(&mut self, instant: Instant) -> bool {
        let counts = self.0 == instant;
        if counts {
            *self = Self::default();
        }
        counts
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Says that the deadline of `key` is now `deadline`. `entry` is the caller's.
    pub(super) fn set(&mut self, key: K, deadline: Option<Instant>, entry: &mut Entry) {
        let Some(deadline) = deadline else { return };
        if deadline < entry.0 {
            entry.0 = deadline;
            self.entries.push(Reverse((deadline, key)));
        }
    }

    /// When to look again.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((instant, _))| *instant)
    }

    /// The next key with an entry that is due, and its time. The caller asks
    /// [`Entry::take`] whether that entry counts, looks at the key's deadline then, acts
    /// if it has come, and calls [`Deadlines::set`] with what is the deadline behind
    /// that. A key that is gone is skipped by the caller.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Instant, K)> {
        let Reverse((instant, _)) = self.entries.peek()?;
        if *instant > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_deadline_that_moves_away_costs_no_entry() {
        let mut deadlines = Deadlines::default();
        let mut entry = Entry::default();
        let at = |seconds| Instant::START + Duration::from_secs(seconds);
        deadlines.set(1, Some(at(5)), &mut entry);
        for seconds in 6..1000 {
            deadlines.set(1, Some(at(seconds)), &mut entry);
        }
        assert_eq!(deadlines.entries.len(), 1);
        assert_eq!(deadlines.due(at(4)), None);
        assert_eq!(deadlines.due(at(5)), Some((at(5), 1)));
        assert!(entry.take(at(5)));
        deadlines.set(1, Some(at(999)), &mut entry);
        assert_eq!(deadlines.next(), Some(at(999)));
    }

    #[test]
    fn a_deadline_that_comes_nearer_is_seen() {
        let mut deadlines = Deadlines::default();
        let mut entry = Entry::default();
        let at = |seconds| Instant::START + Duration::from_secs(seconds);
        deadlines.set(1, Some(at(9)), &mut entry);
        deadlines.set(1, Some(at(3)), &mut entry);
        deadlines.set(2, None, &mut Entry::default());
        assert_eq!(deadlines.next(), Some(at(3)));
        assert_eq!(deadlines.due(at(3)), Some((at(3), 1)));
        assert!(entry.take(at(3)));
        assert_eq!(deadlines.due(at(8)), None);
        deadlines.set(1, Some(at(20)), &mut entry);
        assert_eq!(deadlines.due(at(9)), Some((at(9), 1)));
        assert!(!entry.take(at(9)), "it was replaced by the one at 3");
        deadlines.set(1, Some(at(20)), &mut entry);
        assert_eq!(deadlines.entries.len(), 1, "and leaves no entry");
    }
}
