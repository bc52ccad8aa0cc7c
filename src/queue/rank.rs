//! The order on the wire: priority, then deadline, then small before large, with an
//! age guard (FEATURES D10).
//!
//! The order is a number that a message gets once and keeps, so that a queue is a
//! sorted set and nothing is ever sorted again. The age guard is part of the number:
//! a message is ranked as if it had arrived later the larger it is, by
//! [`CLASS_PENALTY`] for each doubling. So a message is passed by smaller ones only if
//! they arrive at most [`AGE_GUARD`] after it; after that it is older than all that
//! comes. Messages of one class go in the order of their arrival.

use std::time::Duration;

use crate::mail::{Priority, QueueId};
use crate::time::WallTime;

/// Messages up to this many octets are all equally small: most mail, for which the
/// order of arrival is worth more than a few round trips.
pub const SMALL_BYTES_MAX: u64 = 4096;

/// How much later a message is ranked for each doubling of its size. A quarter of an
/// hour keeps a batch that was written in one sitting in order of size.
pub const CLASS_PENALTY: Duration = Duration::from_secs(900);

/// Doublings that count: 4 KiB × 2^16 is 256 MiB, above every sensible message limit.
const CLASSES_MAX: u32 = 16;

/// A message never waits longer than this behind smaller ones that came after it.
pub const AGE_GUARD: Duration = CLASS_PENALTY.saturating_mul(CLASSES_MAX);

/// From this size on a message is *large*: it may not take the last connection of a
/// destination, or the last of all, where there are several. 1 MiB takes a second and
/// a half on a line of 5 Mbit/s, and two minutes over a modem.
pub const LARGE_BYTES: u64 = 1 << 20;

/// Place in the order; the least goes first.
///
/// From the top: 5 bits of priority (inverted), 1 bit "has no deadline", then for those
/// with a deadline its second, and the size class; for the others the moment of arrival
/// with the penalty, in milliseconds. The low 16 bits are those of the sequence of the
/// queue id, so that equals keep their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank(pub(super) u64);

const SEQUENCE_BITS: u32 = 16;
/// Milliseconds since the epoch until the year 2109.
const MILLIS_BITS: u32 = 42;
/// Leaves 37 bits for the seconds of a deadline.
const CLASS_BITS: u32 = 5;

const _: () = assert!(5 + 1 + MILLIS_BITS + SEQUENCE_BITS == u64::BITS);
const _: () = assert!(CLASSES_MAX < 1 << CLASS_BITS);

impl Rank {
    pub(super) fn new(
        priority: Priority,
        deadline: Option<WallTime>,
        octets: u64,
        arrival: WallTime,
        queue_id: QueueId,
    ) -> Self {
        let priority = (Priority::MAX.value() - priority.value()).unsigned_abs();
        let class = class(octets);
        let (none, time) = match deadline {
            Some(deadline) => {
                let seconds = fitted(deadline.as_seconds(), MILLIS_BITS - CLASS_BITS);
                (0, seconds << CLASS_BITS | u64::from(class))
            }
            None => {
                let ranked = arrival + CLASS_PENALTY * class;
                (1, fitted(ranked.as_millis(), MILLIS_BITS))
            }
        };
        let sequence = queue_id.sequence() & ((1 << SEQUENCE_BITS) - 1);
        let rank = u64::from(priority) << 1 | none;
        Self((rank << MILLIS_BITS | time) << SEQUENCE_BITS | sequence)
    }
}

impl Rank {
    /// The least rank of what arrives at this time or later, of the same priority and
    /// small. `None` for what has a deadline: that has no time of arrival in it.
    pub(super) fn arriving(self, time: WallTime) -> Option<Self> {
        let class = self.0 >> (MILLIS_BITS + SEQUENCE_BITS);
        let millis = fitted(time.as_millis(), MILLIS_BITS);
        (class & 1 == 1).then_some(Self((class << MILLIS_BITS | millis) << SEQUENCE_BITS))
    }
}

/// Doublings above [`SMALL_BYTES_MAX`], rounded up.
fn class(octets: u64) -> u32 {
    let blocks = octets.div_ceil(SMALL_BYTES_MAX).max(1);
    (u64::BITS - (blocks - 1).leading_zeros()).min(CLASSES_MAX)
}

/// A time within `bits`; what does not fit becomes the nearest that does.
fn fitted(time: i64, bits: u32) -> u64 {
    u64::try_from(time).unwrap_or(0).min((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: WallTime = WallTime::from_millis(1_795_305_600_000);

    fn rank(priority: i8, deadline: Option<u64>, octets: u64, arrival: u64, id: u64) -> Rank {
        Rank::new(
            Priority::new(priority).unwrap(),
            deadline.map(|seconds| NOON + Duration::from_secs(seconds)),
            octets,
            NOON + Duration::from_secs(arrival),
            QueueId::new(0, id),
        )
    }

    #[test]
    fn priority_then_deadline_then_small_then_arrival() {
        const MIB: u64 = 1 << 20;
        let ordered = [
            rank(9, None, 50 * MIB, 9000, 1),
            rank(4, Some(10), 50 * MIB, 9000, 2),
            rank(4, Some(20), 100, 0, 3),
            rank(4, Some(20), 5000, 0, 4),
            rank(4, None, 100, 0, 5),
            rank(0, Some(9000), MIB, 0, 6),
            // Of one class: in order of arrival, then of the sequence.
            rank(0, None, 4096, 0, 7),
            rank(0, None, 1, 0, 8),
            rank(0, None, 1, 1, 7),
            // Larger ones later, as if they had arrived later.
            rank(0, None, 4097, 0, 1),
            rank(0, None, 1, 901, 1),
            rank(0, None, MIB, 0, 1),
            rank(0, None, 50 * MIB, 0, 1),
            rank(0, None, u64::MAX, 0, 1),
            // The age guard: what comes later than that does not pass.
            rank(0, None, 1, AGE_GUARD.as_secs() + 1, 1),
            rank(-9, Some(0), 1, 0, 1),
            rank(-9, None, 1, 0, 1),
        ];
        for pair in ordered.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
    }

    #[test]
    fn classes() {
        let check = |octets, expected| assert_eq!(class(octets), expected, "{octets}");
        check(0, 0);
        check(4096, 0);
        check(4097, 1);
        check(8192, 1);
        check(8193, 2);
        check(1 << 20, 8);
        check(256 << 20, 16);
        check(u64::MAX, 16);
    }

    #[test]
    fn times_out_of_range_are_fitted() {
        let at = |millis| {
            let time = WallTime::from_millis(millis);
            Rank::new(Priority::default(), None, 1, time, QueueId::new(0, 0))
        };
        assert_eq!(at(i64::MIN), at(0));
        assert_eq!(at(i64::MAX), at((1 << 42) - 1));
        assert!(at(0) < at(1));
    }
}
