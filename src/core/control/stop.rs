//! How the control core leads a graceful stop.

use super::{ControlCore, ControlOperation, HANG_UP_PATIENCE, STOP_PATIENCE, Stop};
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
        self.collectors.stop();
        self.desk.close();
        // What is on the wire is waited for before the link is hung up.
        self.online.stop(now);
        self.tell_all(&Notice::Stop { deadline });
    }

    /// Mail is dealt with: the process ends when nothing that we opened is left open.
    pub(super) fn leave(&mut self, now: Now, clean: bool) {
        if self.online.owes_hang_up() {
            let deadline = now.instant + HANG_UP_PATIENCE;
            self.stop = Stop::HangingUp { clean, deadline };
        } else {
            self.exit(now, clean);
        }
    }

    pub(super) fn exit(&mut self, now: Now, clean: bool) {
        self.stop = Stop::Exited;
        if let Some(known) = self.call_ahead.last_words(now) {
            self.operations
                .push_back(ControlOperation::KeepRecipientsNow { known });
        }
        self.desk.last_words(now, &mut self.operations);
        self.operations
            .push_back(ControlOperation::Report(Fact::Stopped { clean }));
        self.operations.push_back(ControlOperation::Exit { clean });
    }
}
