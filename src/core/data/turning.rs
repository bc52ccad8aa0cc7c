//! Connections that change what they are: a customer's whose roles have turned, one that
//! goes from core to core, and one that we opened to a provider of our own mail.

use super::{Connection, DataCore};
use crate::core::ConnectionId;
use crate::core::asking::Asking;
use crate::core::delivery::{Candidates, Delivery};
use crate::core::fetching::{self, Fetch};
use crate::core::turn::{Baton, Round, give_back};
use crate::core::turns::{NoTurn, Turn};
use crate::report::Fact;
use crate::spool::message::SegmentSource;
use crate::time::Now;

impl DataCore {
    /// Whether a customer that called gets its mail now.
    pub(super) fn turn_answered(
        &mut self,
        now: Now,
        id: ConnectionId,
        answer: Result<Turn, NoTurn>,
    ) {
        let Some(Connection::Reception { reception, .. }) = self.connections.get_mut(&id) else {
            return give_back(&mut self.common, answer);
        };
        reception.turn_answered(now, &mut self.common, answer);
        self.look_after(now, id);
    }

    /// The roles on a connection have turned.
    pub(super) fn turn(&mut self, now: Now, id: ConnectionId) {
        let Some(Connection::Reception {
            reception,
            admitted: Some(admitted),
            over_link,
            ..
        }) = self.connections.remove(&id)
        else {
            unreachable!("the caller looked");
        };
        let (flow, turn, to_customer) = reception.into_turned().expect("the caller looked");
        let common = &mut self.common;
        // From here on it is no session that brings mail over the link.
        common.link.sessions -= u64::from(over_link);
        common.counters.turns += 1;
        common.report(Fact::Turned {
            customer: turn.customer.to_string(),
            peer: to_customer.peer().address,
            cores: turn.cores.len(),
        });
        let peer = to_customer.peer().address;
        let round = Round::new(turn, peer, common.id, admitted);
        let delivery = Delivery::turned(flow, to_customer, round, now, common);
        self.connections
            .insert(id, Connection::Delivery(Box::new(delivery)));
        self.look_after(now, id);
    }

    /// A connection goes to another core.
    pub(super) fn move_on(&mut self, now: Now, id: ConnectionId) {
        if let Some(Connection::Delivery(delivery)) = self.connections.remove(&id) {
            delivery.move_on(now, &mut self.common);
        }
    }

    /// A provider that we have called is about to send us mail.
    pub(super) fn provided(&mut self, now: Now, id: ConnectionId) {
        let Some(Connection::Delivery(delivery)) = self.connections.remove(&id) else {
            unreachable!("the caller looked");
        };
        let common = &mut self.common;
        let over_link = delivery.is_over_link(common);
        let mut reception = delivery.into_reception(now, common);
        if common.is_stopping() {
            reception.stop(now, common);
        }
        self.connections.insert(
            id,
            Connection::Reception {
                reception: Box::new(reception),
                admitted: None,
                over_link,
                listener: None,
            },
        );
        self.look_after(now, id);
    }

    /// Calls a provider for our mail.
    pub(super) fn call(&mut self, now: Now, fetch: Box<Fetch>, candidates: Candidates) {
        let number = fetch.number;
        if self.common.is_stopping() {
            return fetching::not_begun(&mut self.common, number, "the server is stopping");
        }
        let id = self.admit();
        match Delivery::call(id, fetch, candidates, now, &mut self.common) {
            Some(delivery) => {
                let over_link = delivery.is_over_link(&self.common);
                self.common.link.fetches += u64::from(over_link);
                self.connections
                    .insert(id, Connection::Delivery(Box::new(delivery)));
                self.look_after(now, id);
            }
            None => fetching::not_begun(&mut self.common, number, "the provider has no address"),
        }
    }

    /// Asks a site about recipients.
    pub(super) fn ask(&mut self, now: Now, asking: Asking, candidates: Candidates) {
        let id = self.admit();
        let begun = if self.common.is_stopping() {
            Err((asking, "the server is stopping"))
        } else {
            Delivery::ask(id, asking, candidates, now, &mut self.common)
                .map_err(|asking| (asking, "it has no address"))
        };
        match begun {
            Ok(delivery) => {
                self.connections
                    .insert(id, Connection::Delivery(Box::new(delivery)));
                self.look_after(now, id);
            }
            Err((asking, why)) => self.common.site_said(asking, Some(why.to_owned())),
        }
    }

    /// A connection has come from another core.
    pub(super) fn handed_over(
        &mut self,
        now: Now,
        id: ConnectionId,
        baton: Baton,
        spool: &impl SegmentSource,
    ) {
        let delivery = Delivery::handed_over(id, baton, now, &mut self.common, spool);
        self.connections
            .insert(id, Connection::Delivery(Box::new(delivery)));
        self.look_after(now, id);
    }
}
