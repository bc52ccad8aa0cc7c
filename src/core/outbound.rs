//! A data core's share in a link: what it tells the control core of what waits, and what
//! it cuts off when the link is gone.
//!
//! It tells when something has changed, and not more often than each [`TELL_INTERVAL`];
//! a host without a link is never looked at.

use std::time::Duration;

use crate::core::common::Common;
use crate::core::visitors::{Event, Visit};
use crate::core::{ConnectionId, ControlNotice, LinkNotice};
use crate::link::work::Work;
use crate::queue::schedule::LinkGate;
use crate::queue::way::NeedsLink;
use crate::time::{Instant, Now};

/// Between two reports: what waits is summed up over all destinations.
pub(super) const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LinkShare {
    /// Of the last notice about the link: an answer says which one it has seen.
    number: u32,
    /// Sessions of clients that came over the link.
    pub(super) sessions: u64,
    /// Connections of ours over the link by which mail is fetched or asked for.
    pub(super) fetches: u64,
    /// Messages that came over the link since the start, and their octets.
    received: (u64, u64),
    told: Option<(u32, Work)>,
    /// Something may have changed.
    stale: bool,
    not_before: Instant,
}

impl LinkShare {
    /// A message that came over the link is in the spool.
    pub(super) const fn took(&mut self, octets: u64) {
        self.received.0 += 1;
        self.received.1 += octets;
    }
}

impl Common {
    pub(super) fn has_link(&self) -> bool {
        self.settings.policies.link != NeedsLink::Nothing
    }

    /// A session that came over the link has begun or ended. That is told at once:
    /// collectors wait for the one that they have set in motion, and must not take one
    /// that came before for it.
    pub(super) fn tell_visit(&mut self, connection: ConnectionId, event: Event) {
        let core = self.id;
        self.tell_control(ControlNotice::Visit(Visit {
            core,
            connection,
            event,
        }));
    }

    /// Something has happened.
    pub(super) fn outbound_may_have_changed(&mut self) {
        self.link.stale = self.has_link();
    }

    /// When [`Common::tell_outbound`] is due.
    pub(super) fn outbound_deadline(&self) -> Option<Instant> {
        self.link.stale.then_some(self.link.not_before)
    }

    /// Tells the control core what waits, if that has changed.
    pub(super) fn tell_outbound(&mut self, now: Now) {
        if !self.link.stale || now.instant < self.link.not_before {
            return;
        }
        self.link.stale = false;
        self.link.not_before = now.instant + TELL_INTERVAL;
        let outbound = self.queue.outbound();
        let work = Work {
            ready: outbound.ready,
            ready_octets: outbound.ready_octets,
            oldest: outbound.oldest,
            priority: outbound.priority,
            waiting: outbound.waiting,
            waiting_octets: outbound.waiting_octets,
            in_flight: outbound.in_flight,
            sessions: self.link.sessions,
            fetches: self.link.fetches,
            sent: outbound.sent,
            sent_octets: outbound.sent_octets,
            received: self.link.received.0,
            received_octets: self.link.received.1,
        };
        let told = (self.link.number, work);
        if self.link.told == Some(told) {
            return;
        }
        self.link.told = Some(told);
        let (core, number) = (self.id, self.link.number);
        self.tell_control(ControlNotice::Outbound { core, number, work });
    }

    /// The link has come or goes. What is cut off is the caller's.
    pub(super) fn link_notice(&mut self, now: Now, number: u32, link: LinkNotice) {
        self.link.number = number;
        // The control core waits for the answer.
        self.link.not_before = now.instant;
        let gate = match link {
            LinkNotice::Open => LinkGate::Open,
            LinkNotice::Shut | LinkNotice::Cut => LinkGate::Shut,
        };
        if link == LinkNotice::Open {
            // What was dead may have been so for want of a link.
            self.memory.release(now.instant);
        }
        self.queue.link(now, gate);
    }
}
