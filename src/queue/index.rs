//! All messages of one data core, in as little memory as will do.
//!
//! A message has a *share* for each destination that some of its recipients go to:
//! mostly one share with one recipient. The envelope itself stays in the spool; who
//! needs an address reads it there by [`Entry::location`].
//!
//! Invariants:
//! - A message is here as long as it has a share, and a share as long as it has a
//!   recipient that is not done.
//! - A message's shares form one chain, which ends.
//!
//! With the sets of `schedule` and what the log keeps a message with one recipient costs
//! at most 200 octets (`tests/queue_memory.rs` counts them).
//!
//! What this module does not do: it decides nothing about time or order.

use std::time::Duration;

use std::ops::Bound;

use spool_format::{Location, Told};

use super::pages::Pages;
use super::rank::{LARGE_BYTES, Rank};
use crate::mail::{DeliverBy, DeliverByMode, HoldUntil, Priority, QueueId, RecipientIndex};
use crate::queue::ageing::moved;
use crate::roster::{Keyed, Roster};
use crate::time::{Instant, WallTime};

/// Number of a destination of this core. Valid while the destination has mail or
/// connections; given again after that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DestinationId(pub(super) u32);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct MessageSlot(pub(super) u32);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ShareSlot(pub(super) u32);

impl ShareSlot {
    /// The end of a chain.
    const NONE: Self = Self(u32::MAX);
}

/// Which recipients of a message. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recipients {
    /// The common case, without an allocation.
    One(RecipientIndex),
    /// Two or more, in ascending order.
    Many(Box<[RecipientIndex]>),
}

impl Recipients {
    /// In ascending order. `None` if `list`, which is in that order, is empty.
    #[must_use]
    pub fn new(list: &[RecipientIndex]) -> Option<Self> {
        debug_assert!(list.is_sorted(), "recipients out of order: {list:?}");
        match list {
            [] => None,
            [one] => Some(Self::One(*one)),
            many => Some(Self::Many(many.into())),
        }
    }

    /// All of them, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[RecipientIndex] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Whether an operator stopped a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HoldState {
    /// It goes when it can.
    #[default]
    Free,
    /// Not sent until it is released.
    Held,
    /// Deleted, but some of it is on the wire just now.
    Deleted,
}

/// Where a share is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ShareState {
    /// May go when its destination can take it.
    Ready,
    /// With a delivery worker.
    InFlight,
    /// Not before its time.
    Deferred,
    /// Stopped by an operator.
    Held,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) queue_id: QueueId,
    pub(super) location: Location,
    first_share: ShareSlot,
    pub(super) octets: u64,
    pub(super) arrival: WallTime,
    deadline: WallTime,
    deadline_mode: Option<DeliverByMode>,
    pub(super) priority: Priority,
    pub(super) hold: HoldState,
    /// How long after its arrival its sender wants it to wait (RFC 4865).
    wait_seconds: u32,
    /// For a moment that the sender has named, not for this time.
    waits_for_moment: bool,
}

/// Not in the clock.
pub(super) const NO_CLOCK: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Share {
    pub(super) message: MessageSlot,
    pub(super) destination: DestinationId,
    next: ShareSlot,
    /// When the clock looks at it, in seconds of [`WallTime`], or [`NO_CLOCK`].
    pub(super) clock_second: u32,
    pub(super) recipients: Recipients,
    /// For a deferred share: not before.
    pub(super) due: Instant,
    /// How often the destination had failed when the share came.
    pub(super) failures_seen: u32,
    pub(super) attempts: u16,
    pub(super) state: ShareState,
    pub(super) told: Told,
}

impl Message {
    /// When its sender wants it to go, by the clock at its arrival.
    fn begins(&self) -> WallTime {
        self.arrival + Duration::from_secs(u64::from(self.wait_seconds))
    }

    /// From when on it is late, or too old: not while its sender wants it to wait. `later`
    /// milliseconds later than it says it arrived, by the clock of now.
    pub(super) fn age_begins(&self, later: i64) -> WallTime {
        if self.waits_for_moment {
            self.begins().max(moved(self.arrival, later))
        } else {
            moved(self.begins(), later)
        }
    }

    /// Until when its sender wants it to wait, by the clock at its arrival.
    pub(super) fn waits(&self) -> Option<WallTime> {
        (self.wait_seconds > 0).then(|| self.begins())
    }

    /// The moment that its sender has named, whatever the clock said then.
    pub(super) fn moment(&self) -> Option<WallTime> {
        self.waits().filter(|_| self.waits_for_moment)
    }

    pub(super) fn deadline(&self) -> Option<(WallTime, DeliverByMode)> {
        self.deadline_mode.map(|mode| (self.deadline, mode))
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::new(
            self.priority,
            self.deadline().map(|(deadline, _)| deadline),
            self.octets,
            self.begins(),
            self.queue_id,
        )
    }

    pub(super) const fn is_large(&self) -> bool {
        self.octets >= LARGE_BYTES
    }
}

/// What stands in the index about a message as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageFacts {
    /// Its name.
    pub queue_id: QueueId,
    /// Its seal.
    pub location: Location,
    /// Octets of the body as stored.
    pub octets: u64,
    /// When it was accepted.
    pub arrival: WallTime,
    /// RFC 6710.
    pub priority: Priority,
    /// RFC 2852.
    pub deliver_by: Option<DeliverBy>,
    /// RFC 4865: its sender does not want it to go before.
    pub hold_until: Option<HoldUntil>,
    /// Whether it is on hold.
    pub hold: HoldState,
}

/// A message by its name. Twelve octets, not sixteen.
#[derive(Clone, Copy, Debug)]
struct Named {
    high: u32,
    low: u32,
    slot: MessageSlot,
}

impl Named {
    const fn new(queue_id: QueueId, slot: MessageSlot) -> Self {
        let id = queue_id.as_u64();
        Self {
            high: (id >> 32) as u32,
            low: id as u32,
            slot,
        }
    }
}

impl Keyed for Named {
    type Key = QueueId;

    fn key(&self) -> QueueId {
        QueueId::from_u64(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

/// The messages.
#[derive(Debug)]
pub struct Index {
    messages: Pages<Message>,
    shares: Pages<Share>,
    by_id: Roster<Named>,
    octets: u64,
}

/// A message in a listing.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    index: &'a Index,
    message: &'a Message,
}

/// A share in a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShareEntry<'a> {
    /// Where it goes.
    pub destination: DestinationId,
    /// Who of the envelope.
    pub recipients: &'a Recipients,
    /// Where it is.
    pub state: ShareState,
    /// How often it was tried.
    pub attempts: u16,
    /// Not before; only where it is deferred.
    pub due: Option<Instant>,
}

impl<'a> Entry<'a> {
    /// Its name.
    #[must_use]
    pub fn queue_id(&self) -> QueueId {
        self.message.queue_id
    }

    /// Its seal in the spool, which leads to the envelope.
    #[must_use]
    pub fn location(&self) -> Location {
        self.message.location
    }

    /// Octets of the body as stored.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.message.octets
    }

    /// When it was accepted.
    #[must_use]
    pub fn arrival(&self) -> WallTime {
        self.message.arrival
    }

    /// From when on it is late: not while its sender wants it to wait. `later` milliseconds
    /// later than it says it arrived, by the clock of now.
    pub(super) fn age_begins(&self, later: i64) -> WallTime {
        self.message.age_begins(later)
    }

    /// RFC 6710.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.message.priority
    }

    /// RFC 2852: until when, and what happens then.
    #[must_use]
    pub fn deadline(&self) -> Option<(WallTime, DeliverByMode)> {
        self.message.deadline()
    }

    /// Whether an operator stopped it.
    #[must_use]
    pub fn hold(&self) -> HoldState {
        self.message.hold
    }

    /// Its recipients that are not done, by destination. At least one.
    pub fn shares(&self) -> impl Iterator<Item = ShareEntry<'a>> + use<'a> {
        let index = self.index;
        index.chain(self.message.first_share).map(|slot| {
            let share = index.share(slot);
            ShareEntry {
                destination: share.destination,
                recipients: &share.recipients,
                state: share.state,
                attempts: share.attempts,
                due: (share.state == ShareState::Deferred).then_some(share.due),
            }
        })
    }
}

impl Index {
    pub(super) const fn new() -> Self {
        Self {
            messages: Pages::new(),
            shares: Pages::new(),
            by_id: Roster::new(),
            octets: 0,
        }
    }

    /// Messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Octets of all bodies.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// One message.
    #[must_use]
    pub fn get(&self, queue_id: QueueId) -> Option<Entry<'_>> {
        let named = self.by_id.get(queue_id)?;
        Some(self.entry(named.slot))
    }

    /// The messages behind `after` in the order of their ids, which is that of their
    /// arrival as far as one core took them.
    pub fn iter(&self, after: Option<QueueId>) -> impl Iterator<Item = Entry<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range(from).map(|named| self.entry(named.slot))
    }

    pub(super) fn entry(&self, slot: MessageSlot) -> Entry<'_> {
        Entry {
            index: self,
            message: &self.messages[slot.0],
        }
    }

    pub(super) fn slot(&self, queue_id: QueueId) -> Option<MessageSlot> {
        self.by_id.get(queue_id).map(|named| named.slot)
    }

    /// A message without shares: at least one must follow.
    pub(super) fn insert(&mut self, facts: &MessageFacts) -> MessageSlot {
        let slot = MessageSlot(self.messages.insert(Message {
            queue_id: facts.queue_id,
            location: facts.location,
            first_share: ShareSlot::NONE,
            octets: facts.octets,
            arrival: facts.arrival,
            wait_seconds: facts.hold_until.map_or(0, |until| {
                let wait = until.at().since(facts.arrival);
                // Not before: what is less than a second counts.
                u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
            }),
            waits_for_moment: facts.hold_until.is_some_and(HoldUntil::is_moment),
            deadline: facts.deliver_by.map_or(WallTime::EPOCH, |by| by.deadline),
            deadline_mode: facts.deliver_by.map(|by| by.mode),
            priority: facts.priority,
            hold: facts.hold,
        }));
        let before = self.by_id.insert(Named::new(facts.queue_id, slot));
        assert!(before.is_none(), "{} was queued twice", facts.queue_id);
        self.octets += facts.octets;
        slot
    }

    pub(super) fn message(&self, slot: MessageSlot) -> &Message {
        &self.messages[slot.0]
    }

    pub(super) fn message_mut(&mut self, slot: MessageSlot) -> &mut Message {
        &mut self.messages[slot.0]
    }

    pub(super) fn share(&self, slot: ShareSlot) -> &Share {
        &self.shares[slot.0]
    }

    pub(super) fn share_mut(&mut self, slot: ShareSlot) -> &mut Share {
        &mut self.shares[slot.0]
    }

    pub(super) fn message_of(&self, slot: ShareSlot) -> &Message {
        self.message(self.share(slot).message)
    }

    pub(super) fn add_share(
        &mut self,
        message: MessageSlot,
        destination: DestinationId,
        recipients: Recipients,
        attempts: u16,
    ) -> ShareSlot {
        let slot = ShareSlot(self.shares.insert(Share {
            message,
            destination,
            next: self.messages[message.0].first_share,
            clock_second: NO_CLOCK,
            recipients,
            due: Instant::START,
            failures_seen: 0,
            attempts,
            state: ShareState::InFlight,
            told: Told::NOTHING,
        }));
        self.messages[message.0].first_share = slot;
        slot
    }

    /// Takes a share away, and its message with the last one.
    pub(super) fn remove_share(&mut self, slot: ShareSlot) -> Removed {
        let share = self.shares.remove(slot.0);
        let message = &mut self.messages[share.message.0];
        if message.first_share == slot {
            message.first_share = share.next;
        } else {
            let mut before = message.first_share;
            while self.shares[before.0].next != slot {
                before = self.shares[before.0].next;
            }
            self.shares[before.0].next = share.next;
        }
        if self.messages[share.message.0].first_share != ShareSlot::NONE {
            return Removed::Share;
        }
        let message = self.messages.remove(share.message.0);
        self.by_id.remove(message.queue_id);
        self.octets -= message.octets;
        Removed::Message {
            queue_id: message.queue_id,
            location: message.location,
        }
    }

    /// Up to `count` messages in the order of their ids.
    pub(super) fn slots(&self, from: Bound<QueueId>, count: usize) -> Vec<(QueueId, MessageSlot)> {
        let range = self.by_id.range(from).take(count);
        range.map(|named| (named.key(), named.slot)).collect()
    }

    /// The shares of a message.
    pub(super) fn shares_of(&self, message: MessageSlot) -> Vec<ShareSlot> {
        self.chain(self.message(message).first_share).collect()
    }

    fn chain(&self, first: ShareSlot) -> impl Iterator<Item = ShareSlot> {
        let some = |slot| (slot != ShareSlot::NONE).then_some(slot);
        std::iter::successors(some(first), move |slot| some(self.share(*slot).next))
    }
}

/// What went with a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Removed {
    /// Nothing else.
    Share,
    /// It was the last of its message.
    Message {
        queue_id: QueueId,
        location: Location,
    },
}

#[cfg(test)]
mod tests {
    use spool_format::{LogId, Offset, SegmentId};

    use super::*;

    #[test]
    fn entries_are_compact() {
        assert!(size_of::<Message>() <= 56, "{}", size_of::<Message>());
        assert!(size_of::<Share>() <= 48, "{}", size_of::<Share>());
        assert_eq!(size_of::<Recipients>(), 16);
    }

    fn facts(id: u64) -> MessageFacts {
        MessageFacts {
            queue_id: QueueId::new(0, id),
            location: Location {
                log: LogId(0),
                segment: SegmentId(1),
                offset: Offset(id as u32),
            },
            octets: 10 * id,
            arrival: WallTime::from_millis(5),
            priority: Priority::default(),
            deliver_by: None,
            hold_until: None,
            hold: HoldState::Free,
        }
    }

    #[test]
    fn a_message_goes_with_its_last_share() {
        let one = || Recipients::One(RecipientIndex(0));
        // In every order in which three shares can go.
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut index = Index::new();
            let message = index.insert(&facts(7));
            let shares: Vec<_> = (0..3)
                .map(|i| index.add_share(message, DestinationId(i), one(), 0))
                .collect();
            assert_eq!((index.len(), index.octets()), (1, 70));
            assert_eq!(index.remove_share(shares[order[0]]), Removed::Share);
            assert_eq!(index.remove_share(shares[order[1]]), Removed::Share);
            let left: Vec<_> = index.get(QueueId::new(0, 7)).unwrap().shares().collect();
            assert_eq!(left.len(), 1);
            assert_eq!(left[0].destination, DestinationId(order[2] as u32));
            assert!(matches!(
                index.remove_share(shares[order[2]]),
                Removed::Message { queue_id, .. } if queue_id == QueueId::new(0, 7)
            ));
            assert_eq!((index.len(), index.octets()), (0, 0));
        }
    }
}
