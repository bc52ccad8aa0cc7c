//! When to try again, and when to give up (RFC 5321 §4.5.4.1, FEATURES D4).
//!
//! Two things are deferred, and they are different: a *message*, because the next hop
//! answered 4xx to it, and a *destination*, because no session could be had with it.
//! The policy says how long for both. Randomness is [`Jitter`], from a seed.

use std::time::Duration;

/// First pause after a destination could not be reached, with an exponential policy.
/// A host that restarts is back within a minute, and the probe is one connection for
/// the whole destination, however much mail waits behind it.
pub const PROBE_FIRST: Duration = Duration::from_secs(60);

/// Longest pause that any policy gives, so that sums of times stay in range.
pub const PAUSE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often and how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Retry {
    /// Pauses that grow.
    Exponential {
        /// After the first attempt.
        first: Duration,
        /// Each pause is this times the one before; at least 1.
        factor: f64,
        /// No pause is longer.
        longest: Duration,
        /// A recipient that is this old is given up, in whatever state it is.
        give_up: Duration,
        /// Part of the pause that is random, 0 to 1: with 0.2 a pause is between
        /// 80 and 120 per cent of its nominal length.
        jitter: f64,
    },
    /// A number of attempts at equal intervals. A failed connection counts as one
    /// for each message that waited for it.
    Fixed {
        /// Attempts; at least 1.
        tries: u16,
        /// Between them.
        every: Duration,
        /// Given up at this age even if there were no attempts, as while the link is
        /// down.
        give_up: Duration,
    },
}

impl Default for Retry {
    /// 10 minutes doubling to 4 hours, 5 days in all, a fifth of it random.
    fn default() -> Self {
        Self::Exponential {
            first: Duration::from_secs(600),
            factor: 2.0,
            longest: Duration::from_secs(4 * 3600),
            give_up: Duration::from_secs(5 * 24 * 3600),
            jitter: 0.2,
        }
    }
}

impl Retry {
    /// The preset "small site": 5 tries, 5 minutes.
    #[must_use]
    pub const fn small_site() -> Self {
        Self::Fixed {
            tries: 5,
            every: Duration::from_secs(300),
            give_up: Duration::from_secs(5 * 24 * 3600),
        }
    }

    /// Pause after the `attempts`-th attempt (from 1) at a message.
    #[must_use]
    pub fn pause(&self, attempts: u16, jitter: &mut Jitter) -> Duration {
        match *self {
            Self::Exponential {
                first,
                factor,
                longest,
                jitter: part,
                ..
            } => jitter.around(grown(first, factor, longest, attempts), part),
            Self::Fixed { every, .. } => every.min(PAUSE_MAX),
        }
    }

    /// No pause of these is longer, its random part included.
    #[must_use]
    pub fn pause_max(&self) -> Duration {
        match *self {
            Self::Exponential {
                longest, jitter, ..
            } => {
                let longest = longest.min(PAUSE_MAX);
                longest + longest.mul_f64(jitter.clamp(0.0, 1.0))
            }
            Self::Fixed { every, .. } => every.min(PAUSE_MAX),
        }
    }

    /// Pause after the `failures`-th failure in a row (from 1) to reach a destination.
    #[must_use]
    pub fn probe_pause(&self, failures: u16, jitter: &mut Jitter) -> Duration {
        match *self {
            Self::Exponential {
                first,
                factor,
                longest,
                jitter: part,
                ..
            } => jitter.around(
                grown(PROBE_FIRST.min(first), factor, longest, failures),
                part,
            ),
            Self::Fixed { every, .. } => every.min(PAUSE_MAX),
        }
    }

    /// The age at which a recipient is given up.
    #[must_use]
    pub const fn give_up(&self) -> Duration {
        match *self {
            Self::Exponential { give_up, .. } | Self::Fixed { give_up, .. } => give_up,
        }
    }

    /// The same pauses, until a recipient is this old; attempts are not counted.
    #[must_use]
    pub const fn until(self, give_up: Duration) -> Self {
        match self {
            Self::Exponential {
                first,
                factor,
                longest,
                jitter,
                ..
            } => Self::Exponential {
                first,
                factor,
                longest,
                give_up,
                jitter,
            },
            Self::Fixed { every, .. } => Self::Exponential {
                first: every,
                factor: 1.0,
                longest: every,
                give_up,
                jitter: 0.0,
            },
        }
    }

    /// Attempts after which a recipient is given up, if they are counted.
    #[must_use]
    pub fn tries(&self) -> Option<u32> {
        match *self {
            Self::Exponential { .. } => None,
            Self::Fixed { tries, .. } => Some(u32::from(tries.max(1))),
        }
    }
}

/// `first` × `factor`^(n − 1), at most `longest`.
fn grown(first: Duration, factor: f64, longest: Duration, n: u16) -> Duration {
    let longest = longest.min(PAUSE_MAX);
    let mut pause = first.min(longest).as_secs_f64();
    // Below this a factor does not grow to the limit in any number of attempts.
    if factor > 1.0 {
        for _ in 1..n {
            if pause >= longest.as_secs_f64() {
                break;
            }
            pause *= factor;
        }
    }
    Duration::try_from_secs_f64(pause).map_or(longest, |p| p.min(longest))
}

/// A sequence of numbers that look random, from a seed (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `pause`, up to `part` of it longer or shorter.
    pub fn around(&mut self, pause: Duration, part: f64) -> Duration {
        // Also where it is no number.
        let part = if part > 0.0 { part.min(1.0) } else { 0.0 };
        let unit = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let factor = 1.0 + part * (2.0 * unit - 1.0);
        pause.mul_f64(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_pauses_until_another_age() {
        let mut jitter = Jitter::new(1);
        let age = Duration::from_secs(20 * 86_400);
        let mut check = |retry: Retry, expected: [u64; 3]| {
            let until = retry.until(age);
            assert_eq!((until.give_up(), until.tries()), (age, None));
            let pauses = [1, 2, 9].map(|n| until.pause(n, &mut jitter).as_secs());
            assert_eq!(pauses, expected);
        };
        check(Retry::small_site(), [300, 300, 300]);
        let steady = Retry::Exponential {
            first: Duration::from_secs(600),
            factor: 2.0,
            longest: Duration::from_secs(7200),
            give_up: Duration::from_secs(86_400),
            jitter: 0.0,
        };
        check(steady, [600, 1200, 7200]);
    }

    #[test]
    fn pauses_grow_to_the_longest_and_no_further() {
        let retry = Retry::Exponential {
            first: 10 * MINUTE,
            factor: 2.0,
            longest: 240 * MINUTE,
            give_up: 7200 * MINUTE,
            jitter: 0.0,
        };
        let mut jitter = Jitter::new(1);
        let mut check = |attempts: u16, minutes: u32, probe_minutes: u32| {
            assert_eq!(retry.pause(attempts, &mut jitter), minutes * MINUTE);
            let probe = retry.probe_pause(attempts, &mut jitter);
            assert_eq!(probe, probe_minutes * MINUTE);
        };
        check(1, 10, 1);
        check(2, 20, 2);
        check(5, 160, 16);
        check(6, 240, 32);
        check(9, 240, 240);
        check(u16::MAX, 240, 240);
    }

    #[test]
    fn fixed_pauses_do_not_grow() {
        let retry = Retry::small_site();
        let mut jitter = Jitter::new(1);
        for n in [1, 2, 100] {
            assert_eq!(retry.pause(n, &mut jitter), 5 * MINUTE);
            assert_eq!(retry.probe_pause(n, &mut jitter), 5 * MINUTE);
        }
        assert_eq!(retry.tries(), Some(5));
    }

    #[test]
    fn jitter_stays_in_its_part_and_fills_it() {
        let mut jitter = Jitter::new(42);
        let pauses: Vec<_> = (0..1000)
            .map(|_| jitter.around(100 * MINUTE, 0.2))
            .collect();
        assert!(
            pauses
                .iter()
                .all(|p| *p >= 80 * MINUTE && *p <= 120 * MINUTE)
        );
        assert!(pauses.iter().any(|p| *p < 82 * MINUTE));
        assert!(pauses.iter().any(|p| *p > 118 * MINUTE));
    }

    #[test]
    fn silly_settings_still_give_a_pause() {
        let mut jitter = Jitter::new(1);
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            let retry = Retry::Exponential {
                first: MINUTE,
                factor,
                longest: Duration::MAX,
                give_up: Duration::MAX,
                jitter: f64::NAN,
            };
            for n in [1, 2, u16::MAX] {
                let pause = retry.pause(n, &mut jitter);
                assert!(pause <= 2 * PAUSE_MAX, "{factor} {n} {pause:?}");
            }
        }
    }
}
