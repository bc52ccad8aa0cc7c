//! How long something takes, counted in classes: for metrics, and for the two or three
//! numbers that a person looks at.
//!
//! A count costs one search among sixteen numbers and two additions, so it may stand on
//! the path of a message.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the classes, in microseconds: 50 µs is a write to a fast NVMe device,
/// ten seconds a disk that hangs. What takes longer is in a class of its own.
pub const BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

const CLASSES: usize = BOUNDS_MICROS.len() + 1;

/// How often something took how long, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// One for each bound, and one for what took longer.
    pub counts: [u64; CLASSES],
    /// All of it together, in microseconds.
    pub sum_micros: u64,
}

impl Latency {
    /// It took so long.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.counts[class] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count += other;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, earlier) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(earlier);
        }
        Self {
            counts,
            sum_micros: self.sum_micros.saturating_sub(earlier.sum_micros),
        }
    }

    /// The bound of the class in which this part of all is reached, in microseconds.
    /// `None`: there were none, or it took longer than the last bound.
    #[must_use]
    pub fn percentile_micros(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        let mut classes = self.counts.iter().zip(BOUNDS_MICROS);
        classes
            .find(|(count, _)| {
                seen += **count;
                seen >= wanted && seen > 0
            })
            .map(|(_, bound)| bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_its_class() {
        let check = |micros: u64, class: usize| {
            let mut latency = Latency::default();
            latency.record(Duration::from_micros(micros));
            let mut expected = [0; CLASSES];
            expected[class] = 1;
            assert_eq!(latency.counts, expected, "{micros} µs");
            assert_eq!(latency.sum_micros, micros);
        };
        check(0, 0);
        for (class, &bound) in BOUNDS_MICROS.iter().enumerate() {
            check(bound, class);
            check(bound + 1, class + 1);
        }
        check(u64::MAX, CLASSES - 1);
    }

    #[test]
    fn percentiles() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile_micros(50), None);
        for _ in 0..98 {
            latency.record(Duration::from_micros(60));
        }
        let before = latency;
        latency.record(Duration::from_millis(20));
        latency.record(Duration::from_secs(60));
        assert_eq!(latency.percentile_micros(50), Some(100));
        assert_eq!(latency.percentile_micros(99), Some(25_000));
        assert_eq!(latency.percentile_micros(100), None);
        assert_eq!(latency.since(&before).count(), 2);
        let mut sum = before;
        sum.add(&latency.since(&before));
        assert_eq!(sum, latency);
    }
}
