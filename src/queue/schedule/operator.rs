//! What an operator, a customer or the link controller does to the queue: release,
//! hold, delete, list.

use std::ops::{ControlFlow, Range};

use super::place::promote;
use super::{Output, Schedule, pace};
use crate::mail::QueueId;
use crate::queue::destination::{Destination, Gate, Health};
use crate::queue::index::{DestinationId, Entry, HoldState, MessageSlot, ShareSlot, ShareState};
use crate::route::{CustomerName, NextHop, NextHopRef};
use crate::time::Now;

/// Messages that one call of [`Schedule::page`] looks at. A listing that finds little
/// comes back with what it has and goes on with the next call, so that no listing
/// holds up the core: a millisecond or so.
pub const PAGE_SCAN_MAX: usize = 10_000;

/// What is to be released, held or counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection<'a> {
    /// One message.
    Message(QueueId),
    /// One destination. For ETRN of a domain: what the routes say about that domain. Of
    /// what is held for a customer, those too that were let go before the rest.
    NextHop(NextHopRef<'a>),
    /// All of a customer (ETRN `#queue`).
    Customer(&'a CustomerName),
    /// What was let go of a customer's mail before the rest.
    LetGo(&'a CustomerName),
    /// What a customer has at this domain and below it (ETRN `@domain`).
    CustomerBelow(&'a CustomerName, &'a str),
}

/// What a selection comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// Messages; one with recipients at several of the destinations counts at each.
    pub messages: u64,
    /// Octets of their bodies.
    pub octets: u64,
}

/// A part of a listing.
#[derive(Debug)]
pub struct Page<'a> {
    /// In the order of their ids.
    pub entries: Vec<Entry<'a>>,
    /// There may be more behind this id; it need not be one of the entries.
    pub next: Option<QueueId>,
}

/// A destination, as it stands.
#[derive(Clone, Copy, Debug)]
pub struct DestinationFacts<'a> {
    /// Its number.
    pub id: DestinationId,
    /// Where it leads.
    pub next_hop: &'a NextHop,
    /// Whether mail may go.
    pub gate: Gate,
    /// Whether it can.
    pub health: Health,
    /// Failures in a row.
    pub failures: u16,
    /// What waits and what is in flight.
    pub waiting: Waiting,
    /// Of those: put off to a time.
    pub deferred: usize,
    /// Of those: stopped one by one.
    pub held: usize,
    /// Connections now.
    pub connections: u16,
}

impl Schedule {
    /// Lets mail go: held mail, and mail or destinations that wait for their time.
    /// Mail held for a customer goes until all of it was tried once. Says what there is.
    pub fn release(&mut self, now: Now, selection: Selection<'_>) -> Waiting {
        self.begin(now);
        let waiting = self.waiting(selection);
        match selection {
            Selection::Message(queue_id) => self.release_message(queue_id),
            _ => {
                for id in self.selected(selection) {
                    self.release_destination(id);
                }
            }
        }
        waiting
    }

    /// Whether all that a selection holds is released already.
    #[must_use]
    pub fn is_released(&self, selection: Selection<'_>) -> bool {
        self.selected(selection).into_iter().all(|id| {
            let destination = &self.destinations[id];
            destination.shares == 0
                || matches!(destination.gate, Gate::Released { .. })
                || matches!(destination.next_hop, NextHop::Site { .. })
        })
    }

    /// Whether anything that is held for this customer is released now.
    #[must_use]
    pub fn releases_of(&self, customer: &CustomerName) -> bool {
        let mut ids = self.destinations.of_customer(customer).iter();
        ids.any(|id| matches!(self.destinations[*id].gate, Gate::Released { .. }))
    }

    /// Stops mail, until it is released. What is on the wire is not stopped. Says what
    /// there is.
    pub fn hold(&mut self, now: Now, selection: Selection<'_>) -> Waiting {
        self.begin(now);
        let waiting = self.waiting(selection);
        if let Selection::Message(queue_id) = selection {
            self.hold_message(queue_id);
        } else {
            if let Selection::NextHop(next_hop) = selection {
                // Also before its first message.
                self.destination(next_hop);
            }
            for id in self.selected(selection) {
                self.destinations[id].gate = Gate::Held;
                while let Some(handle) = self.destinations[id].idle.pop() {
                    self.quit(super::ConnectionId(handle));
                }
                self.reconsider(id);
            }
        }
        waiting
    }

    /// What there is of a selection.
    #[must_use]
    pub fn waiting(&self, selection: Selection<'_>) -> Waiting {
        if let Selection::Message(queue_id) = selection {
            return match self.index.get(queue_id) {
                Some(entry) => Waiting {
                    messages: 1,
                    octets: entry.octets(),
                },
                None => Waiting::default(),
            };
        }
        let mut sum = Waiting::default();
        for id in self.selected(selection) {
            let destination = &self.destinations[id];
            sum.messages += u64::from(destination.shares);
            sum.octets += destination.octets;
        }
        sum
    }

    /// What is held for a customer, without what was let go message by message.
    #[must_use]
    pub fn held_for(&self, customer: &CustomerName) -> Waiting {
        let mut sum = Waiting::default();
        for id in self.destinations.of_customer(customer) {
            let destination = &self.destinations[*id];
            if let NextHop::Hold { .. } = destination.next_hop {
                sum.messages += u64::from(destination.shares);
                sum.octets += destination.octets;
            }
        }
        sum
    }

    /// Deletes a message. Recipients that are on the wire are still delivered if the
    /// next hop takes them; the others end with [`Output::Deleted`]. False: not there.
    pub fn delete(&mut self, now: Now, queue_id: QueueId) -> bool {
        self.begin(now);
        let Some(message) = self.index.slot(queue_id) else {
            return false;
        };
        self.index.message_mut(message).hold = HoldState::Deleted;
        for slot in self.index.shares_of(message) {
            let share = self.index.share(slot);
            if share.state == ShareState::InFlight {
                continue;
            }
            let (destination, recipients) = (share.destination, share.recipients.clone());
            self.outputs.push_back(Output::Deleted {
                queue_id,
                recipients,
            });
            // The hold state does not say where it stands: its own state does.
            self.unlink(slot);
            self.end_share(slot);
            self.reconsider(destination);
        }
        true
    }

    /// A part of a listing: of the messages behind `after` at most `limit` of those that
    /// match, and only such with recipients at one of the destinations `at`, which are in
    /// ascending order.
    #[must_use]
    pub fn page<'a>(
        &'a self,
        after: Option<QueueId>,
        limit: usize,
        at: Option<&[DestinationId]>,
        matches: impl Fn(&Entry<'a>) -> bool,
    ) -> Page<'a> {
        debug_assert!(at.is_none_or(<[_]>::is_sorted), "{at:?}");
        let is_there = |entry: &Entry<'a>| {
            at.is_none_or(|at| {
                let mut shares = entry.shares();
                shares.any(|share| at.binary_search(&share.destination).is_ok())
            })
        };
        let mut entries = Vec::new();
        let mut next = None;
        let mut add = |entry: Entry<'a>| {
            let queue_id = entry.queue_id();
            if is_there(&entry) && matches(&entry) {
                entries.push(entry);
            }
            if entries.len() >= limit.max(1) {
                next = Some(queue_id);
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        if let Some(few) = at.and_then(|at| self.few_at(at)) {
            let _ = self.page_of(few, after).into_iter().try_for_each(add);
            return Page { entries, next };
        }
        let mut last = None;
        let mut scanned = 0;
        let ended = self
            .index
            .iter(after)
            .take(PAGE_SCAN_MAX)
            .try_for_each(|entry| {
                last = Some(entry.queue_id());
                scanned += 1;
                add(entry)
            });
        if ended.is_continue() && scanned == PAGE_SCAN_MAX {
            next = last;
        }
        Page { entries, next }
    }

    /// The destinations, each with its state.
    pub fn destinations(&self) -> impl Iterator<Item = DestinationFacts<'_>> {
        self.destinations
            .iter()
            .map(|(id, destination)| facts(id, destination))
    }

    /// Those with numbers in this range: a part of them all.
    pub fn destinations_at(&self, range: Range<u32>) -> impl Iterator<Item = DestinationFacts<'_>> {
        let ids = range.start..range.end.min(self.places());
        ids.filter_map(|number| self.destination_facts(DestinationId(number)))
    }

    /// The number of each destination is below this.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.destinations.places()
    }

    /// One destination with its state. `None` if there is no such destination now.
    #[must_use]
    pub fn destination_facts(&self, id: DestinationId) -> Option<DestinationFacts<'_>> {
        self.destinations
            .get(id)
            .map(|destination| facts(id, destination))
    }

    /// The number of a destination that has mail or is remembered.
    #[must_use]
    pub fn find(&self, next_hop: NextHopRef<'_>) -> Option<DestinationId> {
        self.destinations.find(next_hop)
    }

    /// The messages at some destinations, if it is cheaper to look at them alone.
    fn few_at(&self, at: &[DestinationId]) -> Option<Vec<MessageSlot>> {
        let destinations = || at.iter().filter_map(|id| self.destinations.get(*id));
        let shares: usize = destinations().map(|there| there.shares as usize).sum();
        if shares > PAGE_SCAN_MAX {
            return None;
        }
        let waiting = destinations().flat_map(|there| {
            (there.small.iter())
                .chain(there.large.iter())
                .chain(there.deferred.iter())
                .chain(there.released.iter())
                .chain(there.held.iter())
                .map(|turn| turn.share)
        });
        let in_flight = self.jobs.iter().map(|job| job.share);
        let here = |slot: &ShareSlot| {
            let destination = self.index.share(*slot).destination;
            at.binary_search(&destination).is_ok()
        };
        let slots = waiting.chain(in_flight.filter(here));
        Some(slots.map(|slot| self.index.share(slot).message).collect())
    }

    fn page_of(&self, messages: Vec<MessageSlot>, after: Option<QueueId>) -> Vec<Entry<'_>> {
        let entries = messages.into_iter().map(|slot| self.index.entry(slot));
        let mut entries: Vec<_> = entries
            .filter(|entry| after.is_none_or(|after| entry.queue_id() > after))
            .collect();
        entries.sort_unstable_by_key(Entry::queue_id);
        entries.dedup_by_key(|entry| entry.queue_id());
        entries
    }

    pub(super) fn selected(&self, selection: Selection<'_>) -> Vec<DestinationId> {
        match selection {
            Selection::Message(_) => Vec::new(),
            Selection::NextHop(next_hop) => {
                let let_go = match next_hop {
                    NextHopRef::Hold { customer, domain } => {
                        Some(NextHopRef::Site { customer, domain })
                    }
                    _ => None,
                };
                let both = [Some(next_hop), let_go].into_iter().flatten();
                both.filter_map(|one| self.destinations.find(one)).collect()
            }
            Selection::Customer(customer) => self.destinations.of_customer(customer).to_vec(),
            Selection::LetGo(customer) => {
                let ids = self.destinations.of_customer(customer).iter();
                let let_go = |id: &&DestinationId| {
                    matches!(self.destinations[**id].next_hop, NextHop::Site { .. })
                };
                ids.filter(let_go).copied().collect()
            }
            Selection::CustomerBelow(customer, top) => {
                let ids = self.destinations.of_customer(customer).iter();
                let below = |id: &&DestinationId| match &self.destinations[**id].next_hop {
                    NextHop::Hold { domain, .. } | NextHop::Site { domain, .. } => {
                        is_at_or_below(domain.as_str(), top)
                    }
                    _ => false,
                };
                ids.filter(below).copied().collect()
            }
        }
    }

    fn release_destination(&mut self, id: DestinationId) {
        let destination = &mut self.destinations[id];
        let is_hold = matches!(destination.next_hop, NextHop::Hold { .. });
        if is_hold && destination.shares == 0 {
            return;
        }
        // A second release during a drain joins it: what the site has put off in this
        // drain is not offered again at once, however often it is asked for. What was cut
        // off is: the line broke, and the site is there again.
        let joins = matches!(destination.gate, Gate::Released { .. });
        if !joins {
            destination.released_at = self.now.wall;
        }
        destination.gate = if is_hold {
            destination.asked_at = self.now.instant;
            Gate::Released { failures: 0 }
        } else {
            Gate::Open
        };
        match (joins, destination.released.is_empty()) {
            (true, _) => pace::offer_cut_off(destination),
            (false, true) => {
                std::mem::swap(&mut destination.released, &mut destination.deferred);
            }
            (false, false) => destination.released.append(&mut destination.deferred),
        }
        promote(destination, &mut self.index, &self.ageing, self.now);
        if let Health::Closed { .. } = destination.health {
            destination.health = Health::Probing;
        }
        self.reconsider(id);
    }

    fn release_message(&mut self, queue_id: QueueId) {
        let Some(message) = self.index.slot(queue_id) else {
            return;
        };
        let facts = self.index.message_mut(message);
        if facts.hold == HoldState::Held {
            facts.hold = HoldState::Free;
        }
        for slot in self.index.shares_of(message) {
            let share = self.index.share(slot);
            let destination = share.destination;
            if matches!(share.state, ShareState::Held | ShareState::Deferred) {
                self.unlink(slot);
                self.make_ready(slot);
            }
            // At once means: also if its next hop was to rest for a while.
            let destination_state = &mut self.destinations[destination];
            if let Health::Closed { .. } = destination_state.health {
                destination_state.health = Health::Probing;
            }
            self.reconsider(destination);
        }
    }

    fn hold_message(&mut self, queue_id: QueueId) {
        let Some(message) = self.index.slot(queue_id) else {
            return;
        };
        let facts = self.index.message_mut(message);
        if facts.hold != HoldState::Free {
            return;
        }
        facts.hold = HoldState::Held;
        for slot in self.index.shares_of(message) {
            let share = self.index.share(slot);
            let destination = share.destination;
            if matches!(share.state, ShareState::Ready | ShareState::Deferred) {
                self.unlink(slot);
                self.make_ready(slot);
                self.reconsider(destination);
            }
        }
    }
}

/// Whether `domain` is `top` or a name below it.
fn is_at_or_below(domain: &str, top: &str) -> bool {
    domain
        .strip_suffix(top)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn facts(id: DestinationId, destination: &Destination) -> DestinationFacts<'_> {
    DestinationFacts {
        id,
        next_hop: &destination.next_hop,
        gate: destination.gate,
        health: destination.health,
        failures: destination.failures,
        waiting: Waiting {
            messages: u64::from(destination.shares),
            octets: destination.octets,
        },
        deferred: destination.deferred.len() + destination.released.len(),
        held: destination.held.len(),
        connections: destination.connections,
    }
}
