//! The two clocks, as values.
//!
//! Machines never read a clock. The shell reads both once for each wake-up and
//! hands the reading in as a [`Now`]. The simulation hands in what it likes.
//!
//! - [`Instant`] never runs backwards, goes on while the machine sleeps, and means
//!   nothing outside this process. It carries time-outs, pauses and rates.
//! - [`WallTime`] survives a restart and is what the operator sees. It may jump.
//!   It carries arrival times, expiry and schedules. By how much it jumped, the two
//!   together say: mail is not older by that.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// A point on the monotonic clock, in nanoseconds from an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const START: Self = Self(0);
    /// Later than every deadline: for "no time-out" where a value is needed.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point this many nanoseconds after [`Instant::START`].
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since [`Instant::START`].
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, rhs: Duration) -> Self {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// A point of the calendar, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(i64);

impl WallTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point this many milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch, negative before it.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Time since `earlier`; zero if `earlier` is later (the clock was set back).
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(if millis < 0 { 0 } else { millis.unsigned_abs() })
    }

    /// The date as RFC 5322 §3.3 writes it, in UTC: `Sun, 22 Nov 2026 12:46:37 +0000`.
    #[must_use]
    pub fn rfc5322(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp
                .strftime("%a, %d %b %Y %H:%M:%S +0000")
                .to_string(),
            // Out of jiff's range of years: no clock that we meet gets there.
            Err(_) => "Thu, 01 Jan 1970 00:00:00 +0000".to_owned(),
        }
    }
}

/// For the operator: RFC 3339 in UTC, whole seconds.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.as_seconds()) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "@{}ms", self.0),
        }
    }
}

/// The text is no date and time of RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a date and time is written as 2026-11-22T12:46:37Z")]
pub struct WallTimeError;

/// RFC 3339 (as RFC 4865 §6 wants it): with seconds, in UTC or with an offset.
impl FromStr for WallTime {
    type Err = WallTimeError;

    fn from_str(text: &str) -> Result<Self, WallTimeError> {
        // jiff takes much more than that: a space for the T, names of time zones.
        let bytes = text.as_bytes();
        let fits = bytes.len() >= 20
            && matches!(bytes[10], b'T' | b't')
            && bytes.iter().all(|byte| {
                byte.is_ascii_digit()
                    || matches!(byte, b'T' | b't' | b'Z' | b'z' | b'-' | b'+' | b':' | b'.')
            });
        let timestamp = text.parse::<jiff::Timestamp>().ok().filter(|_| fits);
        let timestamp = timestamp.ok_or(WallTimeError)?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    /// Saturates at the end of time.
    fn add(self, rhs: Duration) -> Self {
        let millis = i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for WallTime {
    type Output = Self;

    /// Saturates at the beginning of time.
    fn sub(self, rhs: Duration) -> Self {
        let millis = i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

/// One reading of both clocks, taken once for each wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For time-outs.
    pub instant: Instant,
    /// For the calendar.
    pub wall: WallTime,
}

impl Now {
    /// Both clocks, `duration` later. For tests and simulations.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self {
            instant: self.instant + duration,
            wall: self.wall + duration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::START.since(Instant::NEVER), Duration::ZERO);
        let set_back = WallTime::from_millis(5);
        assert_eq!(set_back.since(WallTime::from_millis(9)), Duration::ZERO);
        assert_eq!(WallTime::from_millis(-1).as_seconds(), -1);
    }

    #[test]
    fn dates_are_written_as_the_rfcs_want_them() {
        let time = WallTime::from_millis(1_795_351_597_250);
        assert_eq!(time.rfc5322(), "Sun, 22 Nov 2026 12:46:37 +0000");
        assert_eq!(time.to_string(), "2026-11-22T12:46:37Z");
        assert_eq!(WallTime::from_millis(i64::MAX).rfc5322().len(), 31);
    }
}
