//! How a collection ends before it is done: the server stops, the link goes, the spool takes
//! no more.

use super::storing::Current;
use super::{Collection, Failure};
use crate::core::collector::Next;
use crate::core::common::Common;
use crate::pop3::session::Input;
use crate::time::Now;

impl Collection {
    /// The link is gone: nobody would tell this connection.
    pub(in crate::core) fn cut_off(&mut self, common: &mut Common) {
        self.give_up(common, "the link is gone".to_owned());
    }

    /// The server is to stop, or the link to go: what is coming is taken, nothing else is
    /// begun.
    pub(in crate::core) fn stop(&mut self, now: Now, common: &mut Common, why: &str) {
        if self.ended.is_none() && (!self.listed || !self.tasks.is_empty()) {
            self.ended = Some(Err(Failure {
                next: Next::Usual,
                why: why.to_owned(),
                connecting: false,
            }));
        }
        self.tasks.clear();
        self.quitting = true;
        self.say(now, common, Input::Stop);
    }

    /// Patience has ended.
    pub(in crate::core) fn abort(&mut self, common: &mut Common) {
        self.drop_incoming(common);
        self.flow.abort(&mut common.operations);
    }

    pub(super) fn give_up(&mut self, common: &mut Common, why: String) {
        self.drop_incoming(common);
        self.tasks.clear();
        self.tally.deleted = 0;
        if self.ended.is_none() {
            self.ended = Some(Err(Failure {
                next: Next::Usual,
                why,
                connecting: false,
            }));
        }
        // Without QUIT the server deletes nothing, and nothing more has to be paid for.
        self.flow.abort(&mut common.operations);
    }

    pub(super) fn drop_incoming(&mut self, common: &mut Common) {
        let current = std::mem::replace(&mut self.current, Current::None);
        if let Current::Storing(storing) = current {
            common.counters.messages_abandoned += 1;
            storing.incoming.abandon(&mut common.log);
        }
    }
}
