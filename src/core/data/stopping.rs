//! The end of a data core: what is under way is finished, or cut off when patience ends.

use super::{Connection, DataCore};
use crate::core::flow::NoSpool;
use crate::time::Now;

impl DataCore {
    /// A stop is done when the connections are gone and the log is quiet.
    pub(super) fn advance_stop(&mut self, now: Now) {
        if self.common.stop_gets_late(now) {
            // What is being written comes to be, and is found at the next try.
            self.common.writings.clear();
            let ids = self.connection_ids();
            for id in ids {
                self.with(now, id, |connection, common| match connection {
                    Connection::Reception { reception, .. } => reception.abort(common),
                    Connection::Delivery(delivery) => delivery.abort(now, common, &NoSpool),
                    Connection::Collection(collection) => collection.abort(common),
                    Connection::TurnedAway(flow) => flow.abort(&mut common.operations),
                });
            }
        }
        if self.is_quiet() {
            self.common.flush();
        }
    }

    /// Nothing is under way with anybody.
    pub(super) fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.common.writings.is_empty()
    }
}
