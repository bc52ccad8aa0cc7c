//! Messages between their seal and their commit, and who waits for it.

use spool_format::NoteField;

use super::Common;
use crate::core::ConnectionId;
use crate::core::collector::RunId;
use crate::core::incoming::{Arrived, Incoming};
use crate::core::notifying::Pending;
use crate::mail::RecipientIndex;
use crate::pop3::MessageNumber;
use crate::queue::{HoldState, MessageFacts, NewMessage, NewRecipient, Told};
use crate::report::Fact;
use crate::spool::commit::Ticket;
use crate::spool::log::Refused;
use crate::spool::message::BodyFacts;
use crate::time::{Instant, Now};

/// Who waits for a commit.
#[derive(Debug)]
pub(in crate::core) enum Waiting {
    /// A session that is to say 250.
    Reception(ConnectionId),
    /// The recipients of another message, of which this one tells the sender.
    Notification(Pending),
    /// A collection that is to delete the message on the server.
    Collection(ConnectionId, MessageNumber),
    /// A collector whose wake-up message it is.
    Summons(RunId),
}

/// A message between its seal and its commit.
#[derive(Debug)]
pub(super) struct Uncommitted {
    arrived: Arrived,
    waiting: Waiting,
    sealed_at: Instant,
}

/// What became of a commit.
#[derive(Debug)]
pub(in crate::core) enum Settled {
    /// It is on stable storage.
    Committed(crate::spool::commit::Committed),
    /// It never will be.
    Failed,
}

impl Common {
    /// Seals a message; `waiting` is told when it is committed.
    pub(in crate::core) fn seal(
        &mut self,
        now: Now,
        incoming: Incoming,
        body: BodyFacts,
        waiting: Waiting,
    ) -> Result<(), (Refused, Waiting)> {
        self.seal_noted(now, incoming, body, &[], waiting)
    }

    /// The same, with notes that become true together with the message.
    pub(in crate::core) fn seal_noted(
        &mut self,
        now: Now,
        incoming: Incoming,
        body: BodyFacts,
        notes: &[NoteField<'_>],
        waiting: Waiting,
    ) -> Result<(), (Refused, Waiting)> {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        match incoming.seal(now, &mut self.log, body, notes, ticket) {
            Ok(arrived) => {
                let uncommitted = Uncommitted {
                    arrived,
                    waiting,
                    sealed_at: now.instant,
                };
                self.uncommitted.insert(ticket, uncommitted);
                Ok(())
            }
            Err(refused) => Err((refused, waiting)),
        }
    }

    /// A message is committed: it is queued. Gives who waited for it, and its octets.
    pub(in crate::core) fn committed(
        &mut self,
        now: Now,
        ticket: Ticket,
    ) -> Option<(Waiting, u64)> {
        let Uncommitted {
            arrived,
            waiting,
            sealed_at,
        } = self.uncommitted.remove(&ticket)?;
        let took = now.instant.since(sealed_at);
        self.acceptance_latency.record(took);
        let Arrived {
            sealed,
            envelope,
            arrival,
            client,
            calls,
        } = arrived;
        self.counters.messages_accepted += 1;
        self.counters.octets_accepted += sealed.octets;
        let sender = &envelope.sender;
        let message = NewMessage {
            facts: MessageFacts {
                queue_id: sealed.queue_id,
                location: sealed.seal,
                octets: sealed.octets,
                arrival,
                priority: sender.priority.unwrap_or_default(),
                deliver_by: sender.deliver_by,
                hold_until: sender.hold_until,
                hold: HoldState::Free,
            },
        };
        let routes = &self.settings.routes;
        let recipients = envelope
            .recipients
            .iter()
            .zip(0..)
            .map(|(recipient, index)| NewRecipient {
                recipient: RecipientIndex(index),
                next_hop: routes.next_hop(recipient.forward_path.address().domain_str()),
                attempts: 0,
                not_before: None,
                told: Told::NOTHING,
            });
        let for_nobody = envelope.recipients.is_empty();
        if !for_nobody {
            self.queue.enqueue(now, &message, recipients);
        }
        let recipients = envelope.recipients.len();
        self.report(Fact::Accepted {
            queue_id: sealed.queue_id,
            reverse_path: envelope.sender.reverse_path,
            recipients,
            octets: sealed.octets,
            client: client.and_then(|client| client.parse().ok()),
        });
        if let Some(calls) = calls {
            self.wake_up(*calls, sealed.queue_id);
        }
        if for_nobody {
            self.counters.messages_finished += 1;
            self.finish(now, sealed.queue_id);
        }
        Some((waiting, sealed.octets))
    }

    /// A message will never be committed. Gives who waited for it.
    pub(in crate::core) fn not_committed(&mut self, ticket: Ticket) -> Option<Waiting> {
        self.uncommitted
            .remove(&ticket)
            .map(|uncommitted| uncommitted.waiting)
    }
}
