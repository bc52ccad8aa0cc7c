//! How the control core leads a graceful stop.

use super::{ControlCore, ControlOperation, STOP_PATIENCE, Stop};
use crate::core::Notice;
use crate::report::Fact;
use crate::time::Now;

impl ControlCore {
    pub(super) fn begin_stop(&mut self, now: Now) {
        if !matches!(self.stop, Stop::No) {
            return;
        }
        let deadline = now.instant + STOP_PATIENCE;
        self.stop = Stop::Waiting {
            finished: Vec::new(),
            deadline,
        };
        self.operations
            .push_back(ControlOperation::Report(Fact::Stopping {
                patience: STOP_PATIENCE,
            }));
        self.desk.close();
        self.tell_all(&Notice::Stop { deadline });
    }

    pub(super) fn exit(&mut self, clean: bool) {
        self.stop = Stop::Exited;
        self.operations
            .push_back(ControlOperation::Report(Fact::Stopped { clean }));
        self.operations.push_back(ControlOperation::Exit { clean });
    }
}
