//! Mailboxes that this core is the home of: a run begins, a run is over.

use super::{Connection, DataCore};
use crate::core::ControlNotice;
use crate::core::collection::Collection;
use crate::core::collector::{Order, Run};
use crate::time::Now;

impl DataCore {
    /// Begins to collect a mailbox.
    pub(super) fn collect(&mut self, now: Now, order: Order) {
        let account = &order.collector.account;
        let runs = self.connections.values().any(|connection| {
            matches!(connection, Connection::Collection(other) if other.account() == account)
        });
        let refusal = if self.common.is_stopping() {
            Some("the server is stopping")
        } else if runs {
            Some("another session with it is under way")
        } else {
            None
        };
        if let Some(why) = refusal {
            return self.collected(Run::failed(order.run, why.to_owned()));
        }
        let id = self.admit();
        match Collection::begin(id, order, now, &mut self.common) {
            Ok(collection) => {
                let over_link = collection.is_over_link(&self.common);
                self.common.link.fetches += u64::from(over_link);
                let connection = Connection::Collection(Box::new(collection));
                self.connections.insert(id, connection);
                self.look_after(now, id);
            }
            Err(run) => self.collected(run),
        }
    }

    pub(super) fn collected(&mut self, run: Run) {
        self.common
            .tell_control(ControlNotice::Collected(Box::new(run)));
    }
}
