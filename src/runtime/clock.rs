//! The only place that reads the clocks.

use std::time::SystemTime;

use crate::time::{Instant, Now, WallTime};

/// Both clocks, with one start of the monotonic one for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now. One for the process: instants of two clocks do
    /// not compare.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
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
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
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
