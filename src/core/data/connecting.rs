//! Connections that the schedule wants: to which host each goes.

use std::net::IpAddr;

use super::{Connection, DataCore};
use crate::core::common::WantedConnection;
use crate::core::delivery::passing::Stranded;
use crate::core::delivery::{Delivery, Standing};
use crate::queue::ConnectionFailure;
use crate::queue::schedule::Found;
use crate::route::CustomerName;
use crate::time::{Instant, Now};

impl DataCore {
    /// Connections to where a customer was before it called from elsewhere may be dead, and
    /// keep the permits that the new address needs.
    pub(super) fn doubt_who_moved(&mut self) {
        for customer in std::mem::take(&mut self.common.moved) {
            for connection in self.connections.values() {
                if let Connection::Delivery(delivery) = connection {
                    delivery.doubt(&mut self.common, &customer);
                }
            }
        }
    }

    /// The same for connections that the customer has opened, when it calls from elsewhere:
    /// what is in flight on them may be all that it calls for.
    pub(super) fn doubt_turns(&mut self, customer: &CustomerName, caller: IpAddr) {
        for connection in self.connections.values() {
            if let Connection::Delivery(delivery) = connection {
                delivery.doubt_turn(&mut self.common, customer, caller);
            }
        }
    }

    /// Opens a connection that the schedule wants, to the best host that may be tried.
    pub(super) fn connect(&mut self, now: Now, mut wanted: WantedConnection) {
        if self.common.is_stopping() {
            // The schedule gives it nothing more to do.
            match wanted.passed_on {
                Some(passed_on) => self.common.stranded.push_back(Stranded {
                    connection: wanted.connection,
                    passed_on,
                    silent: None,
                }),
                None => self.common.queue.connection_closed(now, wanted.connection),
            }
            return;
        }
        let all = wanted.candidates.len();
        let (candidates, silent) = (&mut wanted.candidates, &mut wanted.silent);
        if let Err(again) = self.common.pick_host(now.instant, candidates, silent) {
            self.no_host(now, wanted, again);
            return;
        }
        let passed_over = wanted.candidates.len() < all;
        let is_best = wanted.failed.is_none() && !passed_over && wanted.passed_on.is_none();
        let standing = if is_best {
            Standing::Best
        } else {
            Standing::StandsIn
        };
        let id = self.admit();
        let connection = wanted.connection;
        let common = &mut self.common;
        match Delivery::begin(id, wanted, standing, now, common) {
            Some(delivery) => {
                common.deliveries.insert(connection, id);
                self.connections
                    .insert(id, Connection::Delivery(Box::new(delivery)));
                self.look_after(now, id);
            }
            None => {
                let how = ConnectionFailure::Unusable;
                common.queue.connection_failed(now, connection, how);
            }
        }
    }

    /// None of the hosts may be tried now.
    fn no_host(&mut self, now: Now, wanted: WantedConnection, again: Option<(Instant, Found)>) {
        let WantedConnection {
            connection,
            destination,
            failed,
            passed_on,
            silent,
            ..
        } = wanted;
        if let Some(passed_on) = passed_on {
            self.common.stranded.push_back(Stranded {
                connection,
                passed_on,
                silent: Some(silent),
            });
            return;
        }
        let how = match (&failed, again) {
            // One was tried just now: it is the destination that failed.
            (Some(_), _) | (None, None) => ConnectionFailure::Unusable,
            (None, Some((until, found))) => ConnectionFailure::Resting { until, found },
        };
        if let Some(why) = failed {
            self.common.hosts.failed(destination, why);
        }
        self.common.queue.connection_failed(now, connection, how);
    }
}
