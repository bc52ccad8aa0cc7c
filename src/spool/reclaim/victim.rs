//! Which segment is emptied next.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use spool_format::{SEGMENT_HEADER_BYTES, SegmentPlace};

use super::condition::Condition;
use super::{Account, Reclaim, State};

/// Segments beyond what is needed before any octet is copied to win one back: copying
/// costs more than the space, as long as there is space.
pub const SLACK_SEGMENTS: u64 = 8;

/// A segment is emptied only if at most this share of it is needed, in percent.
pub const CARRY_NEEDED_PERCENT_MAX: u64 = 50;

/// The same when new mail is being refused for want of room: a quarter of a segment
/// won is worth three quarters copied then.
pub const CARRY_NEEDED_PERCENT_MAX_PRESSED: u64 = 75;

/// How much waste is borne.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waste {
    /// As much as is needed, and [`SLACK_SEGMENTS`] on top.
    Relaxed,
    /// None that can be won back: there is no room for new mail.
    Pressed,
}

impl Account {
    /// Whether what waits for this segment to go is larger than what is needed of it. What
    /// broke off while it was emptied, a crash or a disk without room, left it half full: the
    /// copies out of it, and theirs, wait for it (rule 4), each a segment in which nothing
    /// else is needed. What is won is more than what is copied, so that this has an end.
    fn pins_more(&self, pinned_bytes: Option<&u64>) -> bool {
        let needed = self.needed_bytes();
        needed > 0 && pinned_bytes.is_some_and(|pinned| *pinned >= needed)
    }

    /// Whether at most so much of it is needed that emptying it wins something. What lies
    /// unused behind its end, since the next record was larger, would lie unused again
    /// behind the copies: it counts only where it is half of the file. Else a spool
    /// without room would copy the same messages for ever.
    fn is_worth_emptying(&self, percent: u64) -> bool {
        let needed = self.needed_bytes();
        let at_most = |octets: u64| needed <= octets * percent / 100;
        let (size, end) = (u64::from(self.size_bytes), u64::from(self.end.0));
        let written = end.saturating_sub(SEGMENT_HEADER_BYTES as u64);
        // Nothing needed: it goes without being emptied, when it may.
        needed > 0 && at_most(size) && (end <= size / 2 || at_most(written))
    }
}

impl Reclaim {
    /// The segment that is best emptied next, if that is worth it, and if there is room for
    /// copies of it and of the largest part that a message of it has in other segments: a
    /// message is copied as a whole. `room_bytes` is `None` if there is room for any.
    #[must_use]
    pub fn victim(
        &self,
        waste: Waste,
        segment_bytes: u32,
        room_bytes: Option<u64>,
    ) -> Option<SegmentPlace> {
        let (allowed, percent) = match waste {
            Waste::Relaxed => {
                let slack = SLACK_SEGMENTS * u64::from(segment_bytes);
                let allowed = self.needed_bytes().saturating_mul(2) + slack;
                (allowed, CARRY_NEEDED_PERCENT_MAX)
            }
            Waste::Pressed => (0, CARRY_NEEDED_PERCENT_MAX_PRESSED),
        };
        // What is dead goes without being copied.
        let dead = (self.segments.values()).filter(|account| account.state == State::Dead);
        let dead_bytes: u64 = dead.map(|account| u64::from(account.size_bytes)).sum();
        if self.size_bytes - dead_bytes <= allowed {
            return None;
        }
        let pinned = self.pinned_bytes();
        let candidates = self
            .segments
            .iter()
            .filter(|(_, account)| {
                account.state == State::Closed
                    && account.open == 0
                    && account.condition == Condition::Sound
            })
            .filter(|(segment, account)| {
                account.is_worth_emptying(percent) || account.pins_more(pinned.get(segment))
            })
            .map(|(&segment, account)| (account.needed_bytes(), segment));
        let Some(room_bytes) = room_bytes else {
            return candidates.min().map(|(_, segment)| segment);
        };
        // One that is sent from stays until that ends, however empty it is.
        let is_ours = |segment: &SegmentPlace| self.segments[segment].borrowed == 0;
        let mut candidates: Vec<_> = candidates
            .filter(|(needed_bytes, segment)| *needed_bytes <= room_bytes && is_ours(segment))
            .collect();
        if candidates.is_empty() {
            return None;
        }
        candidates.sort_unstable();
        let elsewhere = self.elsewhere_bytes();
        let fits = |(needed_bytes, segment): &(u64, SegmentPlace)| {
            needed_bytes + elsewhere.get(segment).copied().unwrap_or(0) <= room_bytes
        };
        candidates
            .into_iter()
            .find(fits)
            .map(|(_, segment)| segment)
    }

    /// Octets of the files in which nothing is needed, and which have to outlive a segment, for
    /// each of these.
    fn pinned_bytes(&self) -> BTreeMap<SegmentPlace, u64> {
        let mut pinned = BTreeMap::new();
        for quiet in &self.quiet {
            let account = &self.segments[quiet];
            for ancestor in &account.ancestors {
                *pinned.entry(*ancestor).or_default() += u64::from(account.size_bytes);
            }
        }
        pinned
    }

    /// For each segment the most that one of its live messages has in others.
    fn elsewhere_bytes(&self) -> HashMap<SegmentPlace, u64> {
        let mut elsewhere = HashMap::new();
        for parts in self.spread.values() {
            let all: u64 = parts.iter().map(|part| u64::from(part.bytes)).sum();
            for part in parts {
                let most: &mut u64 = elsewhere.entry(part.segment).or_default();
                *most = (*most).max(all - u64::from(part.bytes));
            }
        }
        elsewhere
    }
}
