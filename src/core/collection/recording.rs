//! What is said with the server, for the operator who wants to see it.

use super::Collection;
use crate::core::common::Common;
use crate::time::Now;

impl Collection {
    /// Whether this session is recorded is decided at its beginning.
    pub(super) fn listen(&mut self, now: Now, common: &mut Common) {
        if common.listening.is_off() {
            return;
        }
        let address = self.address.ip().to_string();
        let host = self.order.collector.host.to_string();
        let names = [address.as_str(), host.as_str()];
        if common.listening.hears(now.instant, names) {
            self.session.record();
        }
    }

    /// What was said since the last time.
    pub(super) fn tell_spoken(&mut self, common: &mut Common) {
        let said = self.session.take_record();
        if !said.is_empty() {
            common.report_spoken(self.flow.connection(), self.address, said);
        }
    }
}
