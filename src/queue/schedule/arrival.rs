//! Messages that come into the queue.

use super::Schedule;
use crate::mail::RecipientIndex;
use crate::queue::ageing::moved;
use crate::queue::index::{DestinationId, MessageFacts, MessageSlot, Recipients, ShareSlot};
use crate::route::NextHopRef;
use crate::time::{Now, WallTime};
use spool_format::Told;

/// A committed message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewMessage {
    /// What the index keeps.
    pub facts: MessageFacts,
}

/// A recipient of a [`NewMessage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewRecipient<'a> {
    /// Which of the envelope.
    pub recipient: RecipientIndex,
    /// Where it goes.
    pub next_hop: NextHopRef<'a>,
    /// How often it was tried, where the message comes from recovery.
    pub attempts: u16,
    /// Not before: the time of the next attempt after recovery. What its sender wants
    /// (RFC 4865) is said by [`MessageFacts::hold_until`].
    pub not_before: Option<WallTime>,
    /// What the sender was told in an earlier life of this process.
    pub told: Told,
}

/// A recipient on its way to its share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    pub(super) destination: DestinationId,
    /// The closed one in whose place that is.
    pub(super) instead_of: Option<DestinationId>,
    pub(super) recipient: RecipientIndex,
    pub(super) attempts: u16,
    pub(super) not_before: Option<WallTime>,
    pub(super) told: Told,
}

impl Arriving {
    /// What those have in common that share a share.
    const fn share(&self) -> (DestinationId, Option<DestinationId>) {
        (self.destination, self.instead_of)
    }

    /// A list in the order of its shares, and ascending in each.
    pub(super) fn sort(list: &mut [Self]) {
        if list.len() > 1 {
            list.sort_unstable_by_key(|arriving| (arriving.share(), arriving.recipient));
        }
    }

    /// The shares of a list in this order.
    pub(super) fn shares(list: &[Self]) -> impl Iterator<Item = &[Self]> {
        list.chunk_by(|a, b| a.share() == b.share())
    }
}

impl Schedule {
    /// A committed message with its recipients, each at most once.
    ///
    /// # Panics
    /// If there is no recipient, or the queue id is queued already: errors of ours.
    pub fn enqueue<'a>(
        &mut self,
        now: Now,
        message: &NewMessage,
        recipients: impl IntoIterator<Item = NewRecipient<'a>>,
    ) {
        self.begin(now);
        let mut list = std::mem::take(&mut self.scratch);
        for new in recipients {
            let direct = self.destination(new.next_hop);
            let fallback = self.instead_of(direct);
            list.push(Arriving {
                destination: fallback.unwrap_or(direct),
                instead_of: fallback.map(|_| direct),
                recipient: new.recipient,
                attempts: new.attempts,
                not_before: new.not_before,
                told: new.told,
            });
        }
        assert!(
            !list.is_empty(),
            "{} has no recipients",
            message.facts.queue_id
        );
        Arriving::sort(&mut list);
        let slot = self.index.insert(&message.facts);
        for group in Arriving::shares(&list) {
            self.enqueue_share(slot, group);
        }
        list.clear();
        self.scratch = list;
    }

    /// One destination of a new message.
    fn enqueue_share(&mut self, message: MessageSlot, group: &[Arriving]) {
        let (share, not_before) = self.add_share(message, group);
        self.admit(share);
        match not_before {
            Some(time) if time > self.now.wall => {
                let due = self.now.instant + time.since(self.now.wall);
                self.defer_until(share, due);
            }
            _ => self.make_ready(share),
        }
        self.reconsider(group[0].destination);
    }

    /// The share of a new message for the destination of these recipients, and when it
    /// may go. It stands nowhere yet.
    pub(super) fn add_share(
        &mut self,
        message: MessageSlot,
        group: &[Arriving],
    ) -> (ShareSlot, Option<WallTime>) {
        let id = group[0].destination;
        let recipients = match group {
            [one] => Recipients::One(one.recipient),
            many => Recipients::Many(many.iter().map(|arriving| arriving.recipient).collect()),
        };
        // They differ only after recovery; the most tried and the soonest stand for all.
        let attempts = group.iter().map(|arriving| arriving.attempts).max();
        let not_before = group.iter().map(|arriving| arriving.not_before).min();
        // Written by a clock that was ahead, it may lie weeks off: no pause is that long.
        let pause_max = self.destinations[id].policy.retry.pause_max();
        let not_before = (not_before.flatten()).map(|at| at.min(self.now.wall + pause_max));
        let told = group
            .iter()
            .map(|arriving| arriving.told)
            .fold(Told::NOTHING, Told::and);
        let share = self
            .index
            .add_share(message, id, recipients, attempts.unwrap_or(0));
        self.index.share_mut(share).told = told;
        if let Some(direct) = group[0].instead_of {
            self.detours.add(share, &self.destinations[direct].next_hop);
        }
        (share, not_before.max(self.end_of_wait(message)))
    }

    /// Until when its sender wants a message to wait, by the clock as it is now.
    fn end_of_wait(&self, message: MessageSlot) -> Option<WallTime> {
        let message = self.index.message(message);
        let later = || self.ageing.later(message.queue_id, message.arrival);
        message
            .moment()
            .or_else(|| message.waits().map(|until| moved(until, later())))
    }
}
