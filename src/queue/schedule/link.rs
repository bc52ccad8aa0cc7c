//! The link of a site: what waits for it, what happens when it comes and goes.

use std::time::Duration;

use super::place::promote;
use super::{ConnectionId, Schedule};
use crate::queue::destination::{Destination, Gate, Health};
use crate::queue::index::{DestinationId, Message, ShareSlot};
use crate::queue::way::{Outbound, Way};
use crate::time::{Instant, Now};

/// After a link has come up not everything behind it works at once: routes, name
/// servers, a firewall that waits for the login. So long what fails is tried again soon.
pub(super) const LINK_SETTLES: Duration = Duration::from_secs(30);
/// Between two such tries. To hang up and dial again would take longer and cost more.
pub(super) const LINK_SETTLES_PAUSE: Duration = Duration::from_secs(5);

/// Whether mail may go over the link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkGate {
    /// It may.
    Open,
    /// It may not: what is on the wire is finished, nothing else begins.
    Shut,
}

impl Schedule {
    /// The link has come up, or is to go down. While it is up already, to open it again
    /// tries everything at once that waits for its time.
    pub fn link(&mut self, now: Now, gate: LinkGate) {
        self.begin(now);
        self.link_opened = match (gate, self.link_gate) {
            (LinkGate::Open, LinkGate::Open) => self.link_opened,
            (LinkGate::Open, LinkGate::Shut) => Some(now.instant),
            (LinkGate::Shut, _) => None,
        };
        self.link_gate = gate;
        let ids: Vec<_> = self.destinations.iter().map(|(id, _)| id).collect();
        for id in ids {
            if !self.destinations[id].way.needs_link() {
                continue;
            }
            match gate {
                LinkGate::Open => self.open_way(id),
                LinkGate::Shut => {
                    self.destinations[id].way = Way::Shut;
                    while let Some(handle) = self.destinations[id].idle.pop() {
                        self.quit(ConnectionId(handle));
                    }
                }
            }
            self.reconsider(id);
        }
    }

    /// Whether a destination is reached over the link.
    #[must_use]
    pub fn needs_link(&self, id: DestinationId) -> bool {
        let destination = self.destinations.get(id);
        destination.is_some_and(|destination| destination.way.needs_link())
    }

    /// What waits for the link and goes over it.
    #[must_use]
    pub fn outbound(&self) -> Outbound {
        let mut sum = Outbound {
            sent: self.sent_over_link.0,
            sent_octets: self.sent_over_link.1,
            ..Outbound::default()
        };
        for (_, destination) in self.destinations.iter() {
            if !destination.way.needs_link() || destination.gate == Gate::Held {
                continue;
            }
            sum.waiting += u64::from(destination.shares);
            sum.waiting_octets += destination.octets;
            let rests = matches!(destination.health, Health::Closed { .. })
                && !self.settles(destination, self.now.instant);
            if let (Some(tally), false) = (&destination.tally, rests) {
                tally.count_into(&mut sum);
            }
        }
        let jobs = self
            .jobs
            .iter()
            .map(|job| self.index.share(job.share).destination);
        let over_link = jobs.filter(|id| self.destinations[*id].way.needs_link());
        sum.in_flight = over_link.count() as u64;
        sum
    }

    /// The link to this destination has come up just now.
    pub(super) fn settles(&self, destination: &Destination, now: Instant) -> bool {
        let settling = |opened: Instant| now < opened + LINK_SETTLES;
        destination.way == Way::Open && self.link_opened.is_some_and(settling)
    }

    /// A share has become ready.
    pub(super) fn tally_in(&mut self, slot: ShareSlot) {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        tally_in(&mut self.destinations[share.destination], message);
    }

    /// A share that was ready is no longer.
    pub(super) fn tally_out(&mut self, slot: ShareSlot) {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        if let Some(tally) = &mut self.destinations[share.destination].tally {
            tally.remove(message.octets, message.arrival, message.priority.value());
        }
    }

    /// What is due is ready, also while nobody can take it: it is a reason to go on line.
    pub(super) fn promote_for_link(&mut self, id: DestinationId) {
        let now = self.now.instant;
        let destination = &mut self.destinations[id];
        if destination.waits_for_link(now) && destination.gate == Gate::Open {
            promote(destination, &mut self.index, &self.ageing, self.now);
        }
    }

    /// Everything here may go at once, but what its sender wants to wait: the time on line
    /// is short.
    fn open_way(&mut self, id: DestinationId) {
        let destination = &mut self.destinations[id];
        destination.way = Way::Open;
        if destination.gate != Gate::Open {
            return;
        }
        if destination.released.is_empty() {
            std::mem::swap(&mut destination.released, &mut destination.deferred);
        } else {
            destination.released.append(&mut destination.deferred);
        }
        promote(destination, &mut self.index, &self.ageing, self.now);
        if let Health::Closed { .. } = destination.health {
            destination.health = Health::Probing;
        }
    }
}

/// The same for one that is promoted.
pub(super) fn tally_in(destination: &mut Destination, message: &Message) {
    if let Some(tally) = &mut destination.tally {
        tally.add(message.octets, message.arrival, message.priority.value());
    }
}
