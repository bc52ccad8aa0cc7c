//! How a data core comes to its end: new work is refused, what is under way gets time,
//! then the log is made durable, and the shell is told.

use super::Common;
use crate::core::Operation;
use crate::time::{Instant, Now};

/// Whether the core goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) enum Stop {
    No,
    /// New work is refused, what is under way is finished until then.
    Until(Instant),
    /// Connections were cut off; what was appended gets durable.
    Late,
    /// Everything is finished, and the shell was told.
    Done,
}

impl Common {
    pub(in crate::core) fn is_stopping(&self) -> bool {
        self.stop != Stop::No
    }

    pub(in crate::core) fn stop(&mut self, now: Now, deadline: Instant) {
        if self.stop == Stop::No {
            self.stop = Stop::Until(deadline);
            self.queue.stop(now);
            self.gathering.close();
        }
    }

    /// Whether patience with what is under way ends now. Told once.
    pub(in crate::core) fn stop_gets_late(&mut self, now: Now) -> bool {
        let late = matches!(self.stop, Stop::Until(deadline) if deadline <= now.instant);
        if late {
            self.stop = Stop::Late;
        }
        late
    }

    /// All connections are gone: what was appended is to get durable.
    pub(in crate::core) fn flush(&mut self) {
        if self.stop != Stop::Done {
            self.log.flush();
        }
    }

    /// All connections are gone: once the log is quiet, the stop is done.
    pub(in crate::core) fn finish_stop(&mut self, now: Now) {
        let told = self.gathering.is_empty();
        if self.stop != Stop::Done && (told && self.log.is_idle() || self.log.fault().is_some()) {
            self.stop = Stop::Done;
            self.tell_at_last_of_strangers(now);
            self.operations.push_back(Operation::Stopped);
        }
    }
}
