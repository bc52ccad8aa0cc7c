//! How often somebody may do something: so many times in a row, then one more after
//! each pause. Who does it more often is refused ([`Limit::take`]) or waits
//! ([`Limit::wait`]).
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
        let (burst, pause) = (self.burst, self.pause);
        let paid = self.paid(now, key);
        let from = (*paid).max(now);
        if from.since(now) > pause * (burst - 1) {
            return false;
        }
        *paid = from + pause;
        true
    }

    /// How long who does it once more now waits before, at most `wait_max`: so long that
    /// it keeps to the limit. It is counted; who does not wait owes nothing beyond
    /// `wait_max`, so that it is soon forgiven.
    pub(super) fn wait(&mut self, now: Instant, key: K, wait_max: Duration) -> Duration {
        let (burst, pause) = (self.burst, self.pause);
        let paid = self.paid(now, key);
        let from = (*paid).max(now);
        let wait = from.since(now).saturating_sub(pause * (burst - 1));
        if wait >= wait_max {
            return wait_max;
        }
        *paid = from + pause;
        wait
    }

    /// When all that was done is paid for.
    fn paid(&mut self, now: Instant, key: K) -> &mut Instant {
        if self.paid.len() >= REMEMBERED_MAX && !self.paid.contains_key(&key) {
            self.paid.retain(|_, paid| *paid > now);
            if self.paid.len() >= REMEMBERED_MAX {
                // So many at once are no customers of ours: everybody starts afresh.
                self.paid.clear();
            }
        }
        self.paid.entry(key).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);
    const WAIT_MAX: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(1_000_000 + millis)
    }

    /// When somebody does it: how long he waits, in milliseconds.
    fn check(doings: &[(u64, u64)]) {
        let mut limit = Limit::new(3, PAUSE);
        for (number, (when, expected)) in doings.iter().enumerate() {
            let wait = limit.wait(at(*when), "one", WAIT_MAX).as_millis();
            assert_eq!(wait, u128::from(*expected), "{number} of {doings:?}");
        }
        // Another one is another one.
        assert_eq!(limit.wait(at(0), "two", WAIT_MAX), Duration::ZERO);
    }

    #[test]
    fn who_is_too_often_there_waits() {
        check(&[(0, 0), (0, 0), (0, 0), (0, 1000), (0, 2000), (2500, 500)]);
        check(&[
            (0, 0),
            (1000, 0),
            (2000, 0),
            (3000, 0),
            (3000, 0),
            (3000, 0),
            (3500, 500),
        ]);
    }

    #[test]
    fn a_flood_is_soon_forgiven() {
        let mut limit = Limit::new(3, PAUSE);
        for _ in 0..100_000 {
            assert!(limit.wait(at(0), "one", WAIT_MAX) <= WAIT_MAX);
        }
        assert_eq!(limit.wait(at(0), "one", WAIT_MAX), WAIT_MAX);
        let paid = PAUSE * 3 + WAIT_MAX;
        let wait = limit.wait(at(0) + paid, "one", WAIT_MAX);
        assert_eq!(wait, Duration::ZERO);
    }
}
