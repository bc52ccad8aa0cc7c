//! What sites have said of recipients: how long that counts, how much of it there is, and
//! when it is kept for another life of the process.
//!
//! # Invariants
//! - What strangers ask for cannot drive out what is known to exist: the two are limited
//!   apart.
//! - One keeping is under way at a time, and what changed meanwhile has the next.
//! - A process that is killed forgets what was said in the pause before: the longer the
//!   more there is, at most five minutes. The site is asked again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Existence;
use crate::mail::Address;
use crate::time::{Instant, Now, WallTime};

/// How long an address that exists is not asked for again, and how long it is remembered
/// for when the site is away. Few mailboxes are closed, and the site still refuses.
pub(super) const EXISTS_FRESH: Duration = Duration::from_secs(24 * 3600);
pub(super) const EXISTS_KEPT: Duration = Duration::from_secs(31 * 86_400);

/// The same for one that does not. Soon asked for again: it may have been made.
pub(super) const UNKNOWN_FRESH: Duration = Duration::from_secs(15 * 60);
pub(super) const UNKNOWN_KEPT: Duration = Duration::from_secs(86_400);

/// Addresses that are remembered of each kind: some 40 and 10 MB at the most. Beyond it
/// the one that was told first is forgotten.
pub(super) const EXISTS_MAX: usize = 200_000;
pub(super) const UNKNOWN_MAX: usize = 50_000;

/// Between something new and its keeping: as all is written each time, this and a
/// millisecond for each address, which keeps it below 100 kB a second.
const KEEP_PAUSE: Duration = Duration::from_secs(1);

/// What a site has said of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownAddress {
    /// Of which.
    pub address: Address,
    /// The site takes it, or says that there is no such mailbox.
    pub exists: bool,
    /// When it said so last.
    pub since: WallTime,
}

struct Entry {
    exists: bool,
    since: WallTime,
    /// Which line of its order is this one's.
    stamp: u64,
}

impl Entry {
    /// What is known of it, if it is no older than this for one that exists, and for one
    /// that does not.
    fn within(&self, now: WallTime, exists: Duration, unknown: Duration) -> Option<Existence> {
        let (existence, longest) = match self.exists {
            true => (Existence::Exists, exists),
            false => (Existence::Unknown, unknown),
        };
        (now.since(self.since) < longest).then_some(existence)
    }

    fn kept(&self, now: WallTime) -> Option<Existence> {
        self.within(now, EXISTS_KEPT, UNKNOWN_KEPT)
    }
}

/// How it stands with keeping it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Keeping {
    /// What there is is kept.
    #[default]
    Done,
    /// There is something new, which is kept at this time.
    Due(Instant),
    /// It is being done, and whether there is something new again.
    UnderWay { again: bool },
}

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    known: BTreeMap<Address, Entry>,
    /// In the order in which they were told: those that do not exist, and those that do.
    orders: [VecDeque<(u64, Address)>; 2],
    counts: [usize; 2],
    last: u64,
    keeping: Keeping,
}

impl Memory {
    /// What need not be asked for.
    pub(super) fn fresh(&self, now: WallTime, address: &Address) -> Option<Existence> {
        let entry = self.known.get(address)?;
        entry.within(now, EXISTS_FRESH, UNKNOWN_FRESH)
    }

    /// What is said of an address while its site cannot be asked.
    pub(super) fn remembered(&self, now: WallTime, address: &Address) -> Existence {
        let entry = self.known.get(address);
        let kept = entry.and_then(|entry| entry.kept(now));
        kept.unwrap_or(Existence::CannotTell)
    }

    /// A site has said something.
    pub(super) fn remember(&mut self, now: Now, address: &Address, exists: bool) {
        self.insert(address, exists, now.wall);
        self.keeping = match self.keeping {
            Keeping::Done => Keeping::Due(self.keep_at(now.instant)),
            Keeping::Due(at) => Keeping::Due(at),
            Keeping::UnderWay { .. } => Keeping::UnderWay { again: true },
        };
    }

    /// What was kept by an earlier process, in any order.
    pub(super) fn restore(&mut self, now: WallTime, mut kept: Vec<KnownAddress>) {
        kept.sort_by_key(|known| known.since);
        for KnownAddress {
            address,
            exists,
            since,
        } in kept
        {
            // A clock that was set back makes nothing good for longer than its time.
            self.insert(&address, exists, since.min(now));
        }
        self.forget_old(now);
    }

    /// When [`Memory::keep`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.keeping {
            Keeping::Due(at) => Some(at),
            Keeping::Done | Keeping::UnderWay { .. } => None,
        }
    }

    /// All that is known, if it is to be kept now. [`Memory::kept`] follows.
    pub(super) fn keep(&mut self, now: Now) -> Option<Vec<KnownAddress>> {
        match self.keeping {
            Keeping::Due(at) if at <= now.instant => {
                self.keeping = Keeping::UnderWay { again: false };
                Some(self.all(now.wall))
            }
            _ => None,
        }
    }

    /// The keeping is over. If it failed it is not tried again before there is something
    /// new.
    pub(super) fn kept(&mut self, now: Instant) {
        self.keeping = match self.keeping {
            Keeping::UnderWay { again: true } => Keeping::Due(self.keep_at(now)),
            Keeping::UnderWay { again: false } => Keeping::Done,
            other => other,
        };
    }

    /// The process ends: what is to be kept, if there is something new.
    pub(super) fn last_words(&mut self, now: WallTime) -> Option<Vec<KnownAddress>> {
        match std::mem::take(&mut self.keeping) {
            Keeping::Done | Keeping::UnderWay { again: false } => None,
            Keeping::Due(_) | Keeping::UnderWay { again: true } => Some(self.all(now)),
        }
    }

    fn keep_at(&self, now: Instant) -> Instant {
        let each = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        now + KEEP_PAUSE + Duration::from_millis(each)
    }

    fn all(&self, now: WallTime) -> Vec<KnownAddress> {
        let kept = (self.known.iter()).filter(|(_, entry)| entry.kept(now).is_some());
        kept.map(|(address, entry)| KnownAddress {
            address: address.clone(),
            exists: entry.exists,
            since: entry.since,
        })
        .collect()
    }

    /// Forgets what is too old.
    fn forget_old(&mut self, now: WallTime) {
        let counts = &mut self.counts;
        self.known.retain(|_, entry| {
            let keep = entry.kept(now).is_some();
            counts[usize::from(entry.exists)] -= usize::from(!keep);
            keep
        });
    }

    fn insert(&mut self, address: &Address, exists: bool, since: WallTime) {
        self.last += 1;
        let entry = Entry {
            exists,
            since,
            stamp: self.last,
        };
        let kind = usize::from(exists);
        self.orders[kind].push_back((self.last, address.clone()));
        self.counts[kind] += 1;
        if let Some(before) = self.known.insert(address.clone(), entry) {
            self.counts[usize::from(before.exists)] -= 1;
        }
        let max = [UNKNOWN_MAX, EXISTS_MAX][kind];
        // Lines of those that were told again since are passed over, and go as well when
        // there are as many of them as of the others.
        while self.counts[kind] > max || self.orders[kind].len() > 2 * max {
            let Some((stamp, address)) = self.orders[kind].pop_front() else {
                return;
            };
            if self.known.get(&address).is_some_and(|e| e.stamp == stamp) {
                self.known.remove(&address);
                self.counts[kind] -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u64) -> Address {
        format!("u{number}@c.example").parse().unwrap()
    }

    fn at(seconds: u64) -> Now {
        Now {
            instant: Instant::START,
            wall: WallTime::from_millis(1_795_305_600_000),
        }
        .after(Duration::from_secs(seconds))
    }

    /// What is kept is what another process knows, for as long as it would have been good.
    #[test]
    fn another_process_knows_the_same() {
        let mut first = Memory::default();
        assert_eq!(first.last_words(at(0).wall), None, "nothing is new");
        first.remember(at(0), &address(1), true);
        first.remember(at(0), &address(2), false);
        first.remember(at(5), &address(3), true);
        let kept = first.last_words(at(5).wall).expect("there is something");
        assert_eq!(kept.len(), 3);
        assert_eq!(first.last_words(at(5).wall), None);

        let mut second = Memory::default();
        second.restore(at(10).wall, kept);
        assert_eq!(second.deadline(), None, "it is kept already");
        let check = |seconds, number, fresh, remembered| {
            let (now, address) = (at(seconds).wall, address(number));
            assert_eq!(second.fresh(now, &address), fresh, "{seconds} {number}");
            let got = second.remembered(now, &address);
            assert_eq!(got, remembered, "{seconds} {number}");
        };
        let (exists, unknown) = (Existence::Exists, Existence::Unknown);
        check(10, 1, Some(exists), exists);
        check(10, 2, Some(unknown), unknown);
        check(10, 4, None, Existence::CannotTell);
        let fresh = UNKNOWN_FRESH.as_secs();
        check(fresh - 1, 2, Some(unknown), unknown);
        check(fresh, 2, None, unknown);
        check(UNKNOWN_KEPT.as_secs(), 2, None, Existence::CannotTell);
        check(EXISTS_KEPT.as_secs(), 1, None, Existence::CannotTell);
        check(EXISTS_KEPT.as_secs(), 3, None, exists);
    }

    #[test]
    fn what_is_too_old_or_too_much_is_not_taken_over() {
        let kept = |count: usize| {
            let known = |number| KnownAddress {
                address: address(number),
                exists: false,
                since: at(number).wall,
            };
            (0..count as u64).map(known).collect::<Vec<_>>()
        };
        let mut memory = Memory::default();
        memory.restore(at(UNKNOWN_KEPT.as_secs() + 9).wall, kept(20));
        assert_eq!(memory.counts, [10, 0]);
        let mut memory = Memory::default();
        memory.restore(at(UNKNOWN_MAX as u64).wall, kept(UNKNOWN_MAX + 7));
        assert_eq!(memory.counts, [UNKNOWN_MAX, 0]);
        let newest = address(UNKNOWN_MAX as u64 + 6);
        let got = memory.remembered(at(0).wall, &newest);
        assert_eq!(got, Existence::Unknown, "the oldest go");
        // The clock was set back meanwhile.
        let mut memory = Memory::default();
        memory.restore(at(0).wall, kept(3));
        let after = at(UNKNOWN_KEPT.as_secs()).wall;
        assert_eq!(memory.remembered(after, &address(2)), Existence::CannotTell);
    }

    #[test]
    fn it_is_limited_and_the_unknown_drive_out_nobody() {
        let mut memory = Memory::default();
        let one = address(0);
        memory.remember(at(0), &one, true);
        for user in 1..=(2 * UNKNOWN_MAX as u64) {
            memory.remember(at(0), &address(user), false);
            memory.remember(at(0), &one, true);
        }
        assert_eq!(memory.fresh(at(0).wall, &one), Some(Existence::Exists));
        assert_eq!(memory.fresh(at(0).wall, &address(1)), None);
        let last = address(2 * UNKNOWN_MAX as u64);
        assert_eq!(memory.fresh(at(0).wall, &last), Some(Existence::Unknown));
        assert_eq!(memory.known.len(), UNKNOWN_MAX + 1);
        assert_eq!(memory.counts, [UNKNOWN_MAX, 1]);
        let lines = memory.orders.iter().map(VecDeque::len);
        assert!(lines.max() <= Some(2 * EXISTS_MAX));
        // One that was made since is no unknown any more.
        memory.remember(at(0), &last, true);
        assert_eq!(memory.counts, [UNKNOWN_MAX - 1, 2]);
    }

    /// A pause, one keeping at a time, and nothing of what comes meanwhile is forgotten.
    #[test]
    fn it_is_kept_a_while_after_something_new() {
        let mut memory = Memory::default();
        memory.remember(at(0), &address(1), true);
        let due = memory.deadline().expect("something is new");
        assert!(due > at(1).instant && due < at(2).instant);
        assert_eq!(memory.keep(at(1)), None);
        memory.remember(at(1), &address(2), true);
        assert_eq!(memory.deadline(), Some(due), "it is not put off");
        assert_eq!(memory.keep(at(2)).map(|all| all.len()), Some(2));
        assert_eq!((memory.deadline(), memory.keep(at(9))), (None, None));
        memory.remember(at(9), &address(3), false);
        assert_eq!(memory.deadline(), None, "one at a time");
        memory.kept(at(9).instant);
        assert!(memory.deadline().is_some());
        assert_eq!(memory.keep(at(20)).map(|all| all.len()), Some(3));
        memory.kept(at(20).instant);
        assert_eq!(memory.deadline(), None);
    }
}
