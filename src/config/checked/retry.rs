//! When a delivery is tried again, and until when.

use std::time::Duration;

use crate::config::consistency;
use crate::config::options;

/// See `[retry]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Retry {
    /// Growing intervals.
    Exponential {
        /// The first interval.
        first: Duration,
        /// 1.0 to 10.0.
        factor: f64,
        /// The longest interval.
        longest: Duration,
        /// From arrival to the failure notice.
        give_up: Duration,
        /// From arrival to the delay notice, if there is one.
        warn: Option<Duration>,
    },
    /// A number of tries.
    Fixed {
        /// At least 1.
        tries: u32,
        /// Between two tries.
        every: Duration,
        /// From arrival to the delay notice, if there is one.
        warn: Option<Duration>,
    },
}

/// When a delivery is tried again.
pub(in crate::config) fn retry(retry: &options::Retry) -> Retry {
    let warn = (!retry.warn.is_zero()).then_some(*retry.warn);
    // Under a preset with a number of tries, a written interval means growing ones.
    let growing = consistency::writes_growing_intervals(retry);
    match (*retry.tries, *retry.every) {
        (Some(tries), Some(every)) if !growing => Retry::Fixed { tries, every, warn },
        _ => Retry::Exponential {
            first: *retry.first,
            factor: *retry.factor,
            longest: *retry.longest,
            give_up: *retry.give_up,
            warn,
        },
    }
}

/// What a route says of its own, and the rest as for all.
pub(in crate::config) fn route_retry(own: &options::RouteRetry, all: Retry) -> Retry {
    let all_warn = match all {
        Retry::Exponential { warn, .. } | Retry::Fixed { warn, .. } => warn,
    };
    let warn = match *own.warn {
        Some(warn) => (!warn.is_zero()).then_some(warn),
        None => all_warn,
    };
    if let (Some(tries), Some(every)) = (*own.tries, *own.every) {
        return Retry::Fixed { tries, every, warn };
    }
    let growing = own.first.is_some()
        || own.factor.is_some()
        || own.longest.is_some()
        || own.give_up.is_some();
    match (all, growing) {
        (Retry::Fixed { tries, every, .. }, false) => Retry::Fixed { tries, every, warn },
        (all, _) => {
            let (first, factor, longest, give_up) = match all {
                Retry::Exponential {
                    first,
                    factor,
                    longest,
                    give_up,
                    ..
                } => (first, factor, longest, give_up),
                Retry::Fixed { .. } => GROWING,
            };
            Retry::Exponential {
                first: own.first.unwrap_or(first),
                factor: own.factor.unwrap_or(factor),
                longest: own.longest.unwrap_or(longest),
                give_up: own.give_up.unwrap_or(give_up),
                warn,
            }
        }
    }
}

/// First, factor, longest and give_up for a route that wants growing intervals where
/// all others have a number of tries: the defaults of `[retry]`.
const GROWING: (Duration, f64, Duration, Duration) = (
    Duration::from_secs(600),
    2.0,
    Duration::from_secs(4 * 3600),
    Duration::from_secs(5 * 86_400),
);
