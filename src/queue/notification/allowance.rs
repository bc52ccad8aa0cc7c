//! How many notifications one address gets in a minute.
//!
//! Shared by the data cores: a storm of failures may meet all of them. Atomics only.
//!
//! A minute of an address begins with the first notification after the minute before
//! is over. Addresses share cells, chosen by a seeded hash. Two that meet in one share
//! its minute, so for them more is merged than need be; nothing is lost by that, and
//! the number is never passed.
//!
//! What this module does not do: it keeps nothing that has to wait (`gathering`).

use std::hash::BuildHasher;
use std::time::Duration;

use crate::mail::Address;
use crate::shared::{AtomicU64, Ordering};
use crate::time::Instant;

/// Cells: 128 KiB. A thousand addresses in a storm at once, and nine of ten have a cell
/// of their own.
const CELLS: usize = 1 << 14;

/// A minute, in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// The low bits of a cell count; those above are the millisecond at which the minute
/// began: room for 34 years.
const COUNT_BITS: u32 = 24;

/// More cannot be counted in a minute.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    cells: Box<[AtomicU64]>,
    hasher: foldhash::quality::FixedState,
}

impl Allowance {
    /// Nobody was told anything yet. The seed is secret, so that nobody can aim at the
    /// cell of another.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
        }
    }

    /// Counts a notification to this address.
    ///
    /// # Errors
    /// It had `per_minute` of them in its minute. Gives when that is over.
    pub fn take(&self, now: Instant, to: &Address, per_minute: u32) -> Result<(), Instant> {
        let now_ms = now.as_nanos() / 1_000_000;
        let limit = u64::from(per_minute).min(COUNT_MAX);
        let cell = &self.cells[self.hasher.hash_one(to.as_str()) as usize & (CELLS - 1)];
        let counted = cell.try_update(Ordering::Relaxed, Ordering::Relaxed, |cell| {
            let (begin, count) = (cell >> COUNT_BITS, cell & COUNT_MAX);
            if count == 0 || now_ms >= begin + MINUTE_MS {
                Some(now_ms << COUNT_BITS | 1)
            } else if count < limit {
                Some(cell + 1)
            } else {
                None
            }
        });
        counted.map(|_| ()).map_err(|cell| {
            let over_ms = (cell >> COUNT_BITS) + MINUTE_MS;
            Instant::START + Duration::from_millis(over_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_begins_with_the_first() {
        let allowance = Allowance::new(7);
        let to: Address = "a@x.example".parse().expect("an address");
        let at = |ms: u64| Instant::START + Duration::from_millis(ms);
        let over = |begin: u64| Err(at(begin + MINUTE_MS));
        for (ms, expected) in [
            (500, Ok(())),
            (10_000, Ok(())),
            (10_001, over(500)),
            (60_499, over(500)),
            (60_500, Ok(())),
            (60_501, Ok(())),
            (60_502, over(60_500)),
            // Long after.
            (900_000, Ok(())),
        ] {
            assert_eq!(allowance.take(at(ms), &to, 2), expected, "at {ms} ms");
        }
        let other: Address = "b@x.example".parse().expect("an address");
        assert_eq!(allowance.take(at(900_001), &other, 1), Ok(()));
    }
}
