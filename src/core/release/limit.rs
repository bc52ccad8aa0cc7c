//! How often somebody may ask for something: so many times in a row, then one more after
//! each pause.
//!
//! Invariant: what is remembered is bounded by [`REMEMBERED_MAX`] for each limit.

use std::hash::Hash;
use std::time::Duration;

use hashbrown::HashMap;

use crate::time::Instant;

/// Clients and names that a limit remembers: some 8 MiB.
pub(super) const REMEMBERED_MAX: usize = 65_536;

/// So many in a row, and then one in each pause, for each key.
pub(super) struct Limit<K> {
    burst: u32,
    pause: Duration,
    /// When all that was taken will have been paid for.
    pub(super) paid: HashMap<K, Instant, foldhash::fast::FixedState>,
}

impl<K: Hash + Eq> Limit<K> {
    /// That many in a row, then one in each pause.
    pub(super) fn new(burst: u32, pause: Duration) -> Self {
        Self {
            burst,
            pause,
            paid: HashMap::default(),
        }
    }

    /// Whether one more is allowed now; if so it is counted.
    pub(super) fn take(&mut self, now: Instant, key: K) -> bool {
        if self.paid.len() >= REMEMBERED_MAX && !self.paid.contains_key(&key) {
            self.paid.retain(|_, paid| *paid > now);
            if self.paid.len() >= REMEMBERED_MAX {
                // So many at once are no customers of ours: everybody starts afresh.
                self.paid.clear();
            }
        }
        let paid = self.paid.entry(key).or_insert(now);
        let from = (*paid).max(now);
        if from.since(now) > self.pause * (self.burst - 1) {
            return false;
        }
        *paid = from + self.pause;
        true
    }
}
