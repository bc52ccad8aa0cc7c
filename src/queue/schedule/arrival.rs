//! Messages that come into the queue.

use super::Schedule;
use crate::mail::RecipientIndex;
use crate::queue::index::{DestinationId, MessageFacts, MessageSlot, Recipients};
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
    /// Not before (RFC 4865, or the time of the next attempt after recovery).
    pub not_before: Option<WallTime>,
    /// What the sender was told in an earlier life of this process.
    pub told: Told,
}

/// A recipient on its way to its share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    destination: DestinationId,
    /// The closed one in whose place that is.
    instead_of: Option<DestinationId>,
    recipient: RecipientIndex,
    attempts: u16,
    not_before: Option<WallTime>,
    told: Told,
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
        if list.len() > 1 {
            list.sort_unstable_by_key(|new| (new.destination, new.instead_of, new.recipient));
        }
        let slot = self.index.insert(&message.facts);
        let key = |new: &Arriving| (new.destination, new.instead_of);
        for group in list.chunk_by(|a, b| key(a) == key(b)) {
            self.enqueue_share(slot, group);
        }
        list.clear();
        self.scratch = list;
    }

    /// One destination of a new message.
    fn enqueue_share(&mut self, message: MessageSlot, group: &[Arriving]) {
        let Arriving {
            destination: id,
            instead_of,
            ..
        } = group[0];
        let recipients = match group {
            [one] => Recipients::One(one.recipient),
            many => Recipients::Many(many.iter().map(|new| new.recipient).collect()),
        };
        // They differ only after recovery; the most tried and the soonest stand for all.
        let attempts = group.iter().map(|new| new.attempts).max();
        let not_before = group.iter().map(|new| new.not_before).min();
        let told = (group.iter()).fold(Told::NOTHING, |all, new| all.and(new.told));
        let share = self
            .index
            .add_share(message, id, recipients, attempts.unwrap_or(0));
        self.index.share_mut(share).told = told;
        if let Some(direct) = instead_of {
            self.detours.add(share, &self.destinations[direct].next_hop);
        }
        self.admit(share);
        match not_before.flatten() {
            Some(time) if time > self.now.wall => {
                let due = self.now.instant + time.since(self.now.wall);
                self.defer_until(share, due);
            }
            _ => self.make_ready(share),
        }
        self.reconsider(id);
    }
}
