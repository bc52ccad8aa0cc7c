//! What is said with the host, for the operator who wants to see it.

use super::Delivery;
use crate::core::Endpoint;
use crate::core::common::Common;
use crate::time::Now;

impl Delivery {
    /// Whether this session is recorded is decided at its beginning.
    pub(super) fn listen(&mut self, now: Now, common: &mut Common) {
        self.listened = true;
        if common.listening.is_off() {
            return;
        }
        let address = match &self.endpoint {
            Endpoint::Tcp(address) => address.ip().to_string(),
            Endpoint::Unix(path) => path.display().to_string(),
        };
        let names = [address.as_str(), self.host.name.as_str()];
        if common.listening.hears(now.instant, names) {
            self.client.record();
        }
    }

    /// What was said since the last time.
    pub(super) fn tell_spoken(&mut self, common: &mut Common) {
        let said = self.client.take_record();
        if !said.is_empty() {
            common.report_spoken(self.flow.connection(), &self.endpoint, said);
        }
    }
}
