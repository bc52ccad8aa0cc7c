//! The only place that reads the clocks, and the deadlines for which tasks sleep.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Instant, Now, WallTime};

/// Both clocks, with one start of the monotonic one for all threads.
///
/// The monotonic one goes on while the machine sleeps (`CLOCK_BOOTTIME`). Otherwise a sleep
/// would look as if the wall clock had been set, and a night would not be age.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Duration,
}

/// Since the machine was started.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is ever negative, and there are fewer nanoseconds than in a second.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Clock {
    /// A clock that starts now. One for the process: instants of two clocks do
    /// not compare.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: since_boot(),
        }
    }

    /// Reads both clocks: two vDSO calls, no system call.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => {
                WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            // A clock before 1970: a machine without a battery. The epoch will do.
            Err(_) => WallTime::EPOCH,
        };
        let nanos =
            u64::try_from(since_boot().saturating_sub(self.start).as_nanos()).unwrap_or(u64::MAX);
        Now {
            instant: Instant::from_nanos(nanos),
            wall,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Deadlines for which tasks of a thread sleep. A task that sleeps is not called off:
/// when it wakes too early its core finds nothing to do. A new one is made only if all
/// others sleep longer, so that there are few, however often the deadline moves.
#[derive(Debug, Default)]
pub struct Armed(BTreeSet<Instant>);

impl Armed {
    /// Whether a task is to be made that sleeps until `deadline`.
    #[must_use]
    pub fn arm(&mut self, deadline: Instant) -> bool {
        let sooner = self.0.first().is_none_or(|first| deadline < *first);
        sooner && self.0.insert(deadline)
    }

    /// That task is awake.
    pub fn woken(&mut self, deadline: Instant) {
        self.0.remove(&deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_comes_and_goes_leaves_one_sleeper_for_the_later_one() {
        let mut armed = Armed::default();
        let session = Instant::START + Duration::from_secs(300);
        let mut sleepers = 0;
        for step in 0..100 {
            let rider = Instant::START + Duration::from_millis(100 * (step + 1));
            sleepers += u32::from(armed.arm(session));
            assert!(armed.arm(rider));
            assert!(!armed.arm(rider));
            assert!(!armed.arm(session));
            armed.woken(rider);
        }
        assert_eq!(sleepers, 1);
        armed.woken(session);
        assert!(armed.arm(session));
    }
}
