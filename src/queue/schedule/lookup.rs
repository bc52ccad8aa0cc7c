//! Destinations whose hosts have to be looked up.
//!
//! A connection is wanted before it is known where to. If that takes a question, its permit
//! is given back meanwhile: name servers that do not answer for some domains must not keep
//! the connections from the mail of all others.
//!
//! Invariant: a destination that waits for its hosts has no connection that is being
//! opened; each answer ends the waiting, and each question has an answer, if only that
//! there is none.

use super::{ConnectionId, Schedule};
use crate::queue::index::DestinationId;
use crate::queue::way::Way;
use crate::route::NextHopRef;
use crate::time::Now;

impl Schedule {
    /// The hosts for a connection that is wanted are being looked up.
    pub fn hosts_unknown(&mut self, now: Now, id: ConnectionId) {
        self.begin(now);
        let Some(connection) = self.connections.get(id.0) else {
            return;
        };
        self.destinations[connection.destination].awaits_hosts = true;
        self.give_back(id);
    }

    /// The hosts of a next hop are known, or that there are none.
    pub fn hosts_found(&mut self, now: Now, next_hop: NextHopRef<'_>) {
        self.begin(now);
        // Its mail may have gone meanwhile, and it with it.
        if let Some(id) = self.destinations.find(next_hop) {
            self.destinations[id].awaits_hosts = false;
            self.reconsider(id);
        }
    }

    /// The hosts of a next hop could not be looked up: a failure to reach it. Gives the
    /// destination.
    pub fn hosts_not_found(&mut self, now: Now, next_hop: NextHopRef<'_>) -> Option<DestinationId> {
        self.begin(now);
        let id = self.destinations.find(next_hop)?;
        let destination = &mut self.destinations[id];
        destination.awaits_hosts = false;
        // Without the link nobody can tell.
        if destination.way != Way::Shut {
            self.failed(id, true);
        }
        self.reconsider(id);
        Some(id)
    }
}
