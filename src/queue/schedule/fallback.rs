//! Moving shares to another destination: where the mail of one that is closed goes, if
//! it has somewhere else to go, and where a route leads that is new. How it comes back is
//! in [`detour`](super::detour).

use super::Schedule;
use crate::mail::{QueueId, RecipientIndex};
use crate::queue::destination::{Destination, Gate, Health};
use crate::queue::index::{DestinationId, Recipients, ShareSlot, ShareState};
use crate::route::NextHop;
use crate::time::{Instant, Now};

/// Shares that are moved in one step of bulk work.
const MOVED_AT_ONCE: usize = 64;

impl Schedule {
    /// The destination for new mail in place of one that is closed just now.
    pub(super) fn instead_of(&mut self, id: DestinationId) -> Option<DestinationId> {
        let now = self.now.instant;
        let destination = &self.destinations[id];
        let is_closed = matches!(destination.health, Health::Closed { until } if until > now);
        if !is_closed {
            return None;
        }
        let fallback = self.fallback(destination)?;
        Some(self.destination(fallback.as_ref()))
    }

    /// Mail that an operator stopped stays where it was stopped.
    fn fallback(&self, destination: &Destination) -> Option<NextHop> {
        if destination.gate != Gate::Open {
            return None;
        }
        self.policies.mode.fallback(&destination.next_hop)
    }

    /// A destination was closed: its mail is moved, if it has somewhere else to go.
    pub(super) fn start_fallback(&mut self, id: DestinationId) {
        self.start_way_back(id);
        let destination = &self.destinations[id];
        let has_fallback = self.fallback(destination).is_some();
        if has_fallback && destination.shares > 0 && !self.falling_back.contains(&id) {
            self.falling_back.push_back(id);
        }
    }

    /// Some shares of a closed destination.
    pub(super) fn step_fallback(&mut self) -> bool {
        let Some(&id) = self.falling_back.front() else {
            return false;
        };
        // It may be open again, or gone and another in its place.
        let closed = self
            .destinations
            .get(id)
            .filter(|destination| matches!(destination.health, Health::Closed { .. }));
        let fallback = closed.and_then(|destination| self.fallback(destination));
        let (Some(fallback), Some(destination)) = (fallback, self.destinations.get(id)) else {
            self.falling_back.pop_front();
            return true;
        };
        let waiting: Vec<ShareSlot> = (destination.small.iter())
            .chain(destination.large.iter())
            .chain(destination.released.iter())
            .chain(destination.deferred.iter())
            .map(|turn| turn.share)
            .take(MOVED_AT_ONCE)
            .collect();
        if waiting.is_empty() {
            self.falling_back.pop_front();
            self.reconsider(id);
            return true;
        }
        let from = destination.next_hop.clone();
        let to = self.destination(fallback.as_ref());
        for slot in waiting {
            self.send(slot, to);
            self.detours.add(slot, &from);
        }
        self.reconsider(to);
        true
    }

    /// Sends recipients elsewhere that are not on the wire, afresh: attempts are not
    /// counted on. What its sender put off, and was never tried, waits for its time.
    pub fn reroute(&mut self, now: Now, queue_id: QueueId, moves: &[(RecipientIndex, NextHop)]) {
        self.begin(now);
        let Some(message) = self.index.slot(queue_id) else {
            return;
        };
        for slot in self.index.shares_of(message) {
            let share = self.index.share(slot);
            if share.state == ShareState::InFlight {
                continue;
            }
            let goes_to = |recipient: &RecipientIndex| {
                let found = moves.iter().find(|(moved, _)| moved == recipient);
                found.map(|(_, next_hop)| next_hop)
            };
            let recipients = share.recipients.clone();
            let (going, staying): (Vec<_>, Vec<_>) = (recipients.as_slice().iter().copied())
                .partition(|recipient| goes_to(recipient).is_some());
            if going.is_empty() {
                continue;
            }
            let (from, told) = (share.destination, share.told);
            let deferred = (share.state == ShareState::Deferred).then_some(share.due);
            let put_off = deferred.filter(|_| share.attempts == 0);
            self.unlink(slot);
            let mut left = going;
            while let Some(next_hop) = left.first().and_then(goes_to) {
                let (group, others) = (left.iter().copied())
                    .partition(|recipient| goes_to(recipient) == Some(next_hop));
                left = others;
                let Some(group) = Recipients::new(&group) else {
                    continue;
                };
                let to = self.destination(next_hop.as_ref());
                let new = self.index.add_share(message, to, group, 0);
                self.index.share_mut(new).told = told;
                self.admit(new);
                self.put(new, put_off);
                self.reconsider(to);
            }
            match Recipients::new(&staying) {
                Some(staying) => {
                    self.index.share_mut(slot).recipients = staying;
                    self.put(slot, deferred);
                }
                None => self.end_share(slot),
            }
            self.reconsider(from);
        }
    }

    /// A share that waits to another destination, where it is tried at once.
    pub(super) fn send(&mut self, slot: ShareSlot, to: DestinationId) {
        let share = self.index.share(slot);
        // Put off by its sender and never tried (RFC 4865): its time has not come.
        let not_before =
            (share.state == ShareState::Deferred && share.attempts == 0).then_some(share.due);
        self.unlink(slot);
        self.move_share(slot, to);
        self.put(slot, not_before);
    }

    /// A share that stands nowhere to where it waits.
    fn put(&mut self, slot: ShareSlot, not_before: Option<Instant>) {
        match not_before {
            Some(due) => self.defer_until(slot, due),
            None => self.make_ready(slot),
        }
    }

    /// From one destination to another. The share stands nowhere, before and after.
    fn move_share(&mut self, slot: ShareSlot, to: DestinationId) {
        self.detours.remove(slot);
        let share = self.index.share_mut(slot);
        let from = std::mem::replace(&mut share.destination, to);
        let octets = self.index.message_of(slot).octets;
        self.leave(from, octets);
        self.admit(slot);
    }
}
