//! Messages that were found at the start, filed all at once.
//!
//! The queue is the same as after [`Schedule::enqueue`] of each. The difference is the
//! way there: messages come in the order of their arrival, and with ten thousand
//! destinations each of them would fetch a destination into the cache that none of the
//! thousands before it had touched. So what a destination has to know of a share is
//! gathered, and told to one destination after the other.
//!
//! What this module does not do: it asks no route. Who files looks up the destination of
//! a domain once, and names it from then on.

use super::arrival::Arriving;
use super::expiry::Tick;
use super::{Schedule, ShareState};
use crate::mail::Priority;
use crate::mail::RecipientIndex;
use crate::queue::destination::{Destination, Turn};
use crate::queue::index::{DestinationId, HoldState, MessageFacts, MessageSlot};
use crate::queue::usage::Arrived;
use crate::roster::Roster;
use crate::route::NextHopRef;
use crate::time::{Now, WallTime};
use spool_format::Told;

/// A recipient of a message that is filed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FiledRecipient {
    /// Which of the envelope.
    pub recipient: RecipientIndex,
    /// Where it goes: from [`Filing::destination`].
    pub destination: DestinationId,
    /// How often it was tried.
    pub attempts: u16,
    /// Not before (RFC 4865, or the time of the next attempt).
    pub not_before: Option<WallTime>,
    /// What the sender was told of it.
    pub told: Told,
}

/// The set of its destination in which a share stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Set {
    Small,
    Large,
    Deferred,
    Held,
}

/// What a destination has to know of a share.
#[derive(Clone, Copy, Debug)]
struct Filed {
    destination: DestinationId,
    turn: Turn,
    set: Set,
    octets: u64,
    priority: Priority,
}

/// A filing under way. Nothing of it shows before [`Filing::finish`].
#[derive(Debug)]
pub struct Filing<'a> {
    schedule: &'a mut Schedule,
    filed: Vec<Filed>,
    ticks: Vec<Tick>,
}

impl Schedule {
    /// Begins to file what was found at the start: about so many messages.
    pub fn filing(&mut self, now: Now, messages: usize) -> Filing<'_> {
        self.begin(now);
        Filing {
            schedule: self,
            // Most have one destination. Lists of this length are not to be copied.
            filed: Vec::with_capacity(messages),
            ticks: Vec::with_capacity(messages),
        }
    }
}

impl Filing<'_> {
    /// The destination of a next hop. Valid during this filing. At a start none is closed,
    /// so that no mail goes elsewhere instead.
    pub fn destination(&mut self, next_hop: NextHopRef<'_>) -> DestinationId {
        self.schedule.destination(next_hop)
    }

    /// A message with its recipients, each at most once.
    ///
    /// # Panics
    /// If there is no recipient, or the queue id is queued already: errors of ours.
    pub fn message(&mut self, facts: &MessageFacts, recipients: &[FiledRecipient]) {
        assert!(
            !recipients.is_empty(),
            "{} has no recipients",
            facts.queue_id
        );
        let mut list = std::mem::take(&mut self.schedule.scratch);
        list.extend(recipients.iter().map(|recipient| Arriving {
            destination: recipient.destination,
            instead_of: None,
            recipient: recipient.recipient,
            attempts: recipient.attempts,
            not_before: recipient.not_before,
            told: recipient.told,
        }));
        Arriving::sort(&mut list);
        let slot = self.schedule.index.insert(facts);
        for group in Arriving::shares(&list) {
            self.share(slot, group);
        }
        list.clear();
        self.schedule.scratch = list;
    }

    /// One destination of a message.
    fn share(&mut self, message: MessageSlot, group: &[Arriving]) {
        let schedule = &mut *self.schedule;
        let (slot, not_before) = schedule.add_share(message, group);
        let id = group[0].destination;
        let second = schedule.clock_second(slot);
        let now = schedule.now;
        let message = schedule.index.message(message);
        let (rank, octets, large) = (message.rank(), message.octets, message.is_large());
        let priority = message.priority;
        let due = not_before
            .filter(|time| *time > now.wall)
            .map(|time| now.instant + time.since(now.wall));
        let (set, state, turn) = match (message.hold, due, large) {
            (HoldState::Held, ..) => (Set::Held, ShareState::Held, Turn::ranked(rank, slot)),
            (_, Some(due), _) => (Set::Deferred, ShareState::Deferred, Turn::timed(due, slot)),
            (_, None, true) => (Set::Large, ShareState::Ready, Turn::ranked(rank, slot)),
            (_, None, false) => (Set::Small, ShareState::Ready, Turn::ranked(rank, slot)),
        };
        let failures = schedule.destinations[id].failures_total;
        let share = schedule.index.share_mut(slot);
        share.state = state;
        share.failures_seen = failures;
        share.clock_second = second;
        if let (Set::Deferred, Some(due)) = (set, due) {
            share.due = due;
        }
        self.ticks.push(Tick::new(second, slot));
        self.filed.push(Filed {
            destination: id,
            turn,
            set,
            octets,
            priority,
        });
    }

    /// Everything was filed.
    pub fn finish(self) {
        let Self {
            schedule,
            mut filed,
            ticks,
        } = self;
        schedule.clock.fill(ticks);
        // Stable: within a destination in the order of arrival, which is nearly that of
        // its sets.
        filed.sort_by_key(|filed| filed.destination);
        for group in filed.chunk_by(|a, b| a.destination == b.destination) {
            let id = group[0].destination;
            let octets = group.iter().map(|filed| filed.octets).sum();
            let destination = &mut schedule.destinations[id];
            // A message has fewer recipients, and there are fewer messages.
            destination.shares += group.len() as u32;
            destination.octets += octets;
            if let Some(usage) = &destination.usage {
                let first = schedule.index.message_of(group[0].turn.share);
                let priorities = group.iter().map(|filed| filed.priority);
                usage.add(Arrived {
                    messages: group.len() as u64,
                    octets,
                    // A log is read in the order in which it was written.
                    oldest: first.arrival,
                    priority: priorities.max().unwrap_or_default(),
                });
            }
            for set in [Set::Small, Set::Large, Set::Deferred, Set::Held] {
                let turns = group.iter().filter(|filed| filed.set == set);
                set.of(destination).fill(turns.map(|filed| filed.turn));
            }
            if destination.tally.is_some() {
                let ready = |filed: &&Filed| matches!(filed.set, Set::Small | Set::Large);
                for filed in group.iter().filter(ready) {
                    schedule.tally_in(filed.turn.share);
                }
            }
            schedule.reconsider(id);
        }
    }
}

impl Set {
    fn of(self, destination: &mut Destination) -> &mut Roster<Turn> {
        match self {
            Self::Small => &mut destination.small,
            Self::Large => &mut destination.large,
            Self::Deferred => &mut destination.deferred,
            Self::Held => &mut destination.held,
        }
    }
}
