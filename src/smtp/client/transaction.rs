//! One transaction: MAIL, RCPT…, and the content, with what is known of each recipient.
//!
//! A transaction is said by its [`Next`] and answered through the `take_…` functions,
//! in the same order. It does not send and does not know its neighbours.

use super::fault::{Cause, RecipientOutcome};
use super::job::{BodyFacts, JobId};
use super::stage::Stage;
use crate::mail::{Recipient, RecipientIndex, Sender};
use crate::smtp::answer::{Answer, Class, Enhanced, Reply};
use std::collections::VecDeque;

/// A job that has recipients without an outcome.
#[derive(Debug)]
pub(super) struct OpenJob {
    pub(super) id: JobId,
    pub(super) sender: Sender,
    pub(super) body: BodyFacts,
    /// In no transaction yet.
    pub(super) rest: VecDeque<(RecipientIndex, Recipient)>,
    /// Its transactions in the queue.
    pub(super) in_flight: u32,
}

/// By which command the content goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContentCommand {
    /// DATA, asked for first.
    Data,
    /// BDAT … LAST, said with the content.
    Bdat,
}

/// What is to be said next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// RSET, since the peer may still be in an earlier transaction.
    Reset,
    Mail,
    /// RCPT for the slot of this number.
    Rcpt(usize),
    /// DATA, or BDAT with the content.
    Content,
    /// DATA was said: its answer decides.
    Answer,
    /// All is said.
    Nothing,
}

/// Whether the peer is in a transaction when this one is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is not: MAIL may come.
    Closed,
    /// It may be: RSET must come first.
    Open,
}

/// What is known of a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SlotState {
    /// RCPT is not answered.
    Waiting,
    /// RCPT was accepted.
    Accepted,
    /// The peer takes no more recipients in this transaction, but may in another.
    Again,
    /// It has its outcome.
    Done(RecipientOutcome),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) index: RecipientIndex,
    pub(super) recipient: Recipient,
    pub(super) state: SlotState,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) job: JobId,
    pub(super) command: ContentCommand,
    pub(super) next: Next,
    pub(super) slots: Vec<Slot>,
    /// Slots that are accepted.
    pub(super) accepted: u32,
    /// Commands of this transaction without their answer.
    pub(super) unanswered: u32,
    pub(super) standing: Standing,
    /// The number on the wire of the end of the content, once it is said.
    pub(super) end: Option<u64>,
    /// Octets sent before the answers to RCPT.
    pub(super) blind_bytes: u64,
}

impl Transaction {
    pub(super) fn new(
        job: JobId,
        command: ContentCommand,
        first: Next,
        recipients: impl Iterator<Item = (RecipientIndex, Recipient)>,
    ) -> Self {
        let slots = recipients.map(|(index, recipient)| Slot {
            index,
            recipient,
            state: SlotState::Waiting,
        });
        Self {
            job,
            command,
            next: first,
            slots: slots.collect(),
            accepted: 0,
            unanswered: 0,
            standing: Standing::Closed,
            end: None,
            blind_bytes: 0,
        }
    }

    /// True if nothing is to be said and nothing to be heard.
    pub(super) fn is_over(&self) -> bool {
        self.next == Next::Nothing && self.unanswered == 0
    }

    /// The answer to MAIL, which is 2yz, 4yz or 5yz.
    pub(super) fn take_mail(&mut self, answer: &Answer<'_>) {
        if answer.code.class() == Class::Positive {
            self.standing = Standing::Open;
        } else {
            self.refuse(Stage::Mail, &answer.reply());
        }
    }

    /// The answer to RCPT, which is 2yz, 4yz or 5yz.
    pub(super) fn take_rcpt(&mut self, slot: usize, answer: &Answer<'_>) -> Room {
        let accepted = self.accepted;
        let slot = &mut self.slots[slot];
        if slot.state != SlotState::Waiting {
            // MAIL was refused; this answer says nothing new.
            return Room::More;
        }
        if answer.code.class() == Class::Positive {
            slot.state = SlotState::Accepted;
            self.accepted += 1;
            return Room::More;
        }
        let enhanced = answer.enhanced();
        if accepted > 0 && means_too_many(answer.code.value(), enhanced) {
            slot.state = SlotState::Again;
            // Only the exact code is worth remembering for the whole session.
            return if enhanced.is_some_and(|code| (code.subject, code.detail) == (5, 3)) {
                Room::Full
            } else {
                Room::More
            };
        }
        slot.state = SlotState::Done(refusal(Stage::Rcpt, &answer.reply()));
        Room::More
    }

    /// DATA was refused, or the end of data was: the same for all who were accepted.
    /// Or MAIL was: the same for all.
    pub(super) fn refuse(&mut self, stage: Stage, reply: &Reply) {
        let outcome = refusal(stage, reply);
        for slot in &mut self.slots {
            if matches!(slot.state, SlotState::Waiting | SlotState::Accepted) {
                slot.state = SlotState::Done(outcome.clone());
            }
        }
        self.accepted = 0;
    }

    /// The end of data was accepted for all who were.
    pub(super) fn deliver(&mut self, reply: &Reply) {
        for slot in &mut self.slots {
            if slot.state == SlotState::Accepted {
                slot.state = SlotState::Done(RecipientOutcome::Delivered(reply.clone()));
            }
        }
        self.accepted = 0;
    }

    /// True if the end of data was refused for anybody.
    pub(super) fn was_refused_at_end(&self) -> bool {
        self.slots.iter().any(|slot| match &slot.state {
            SlotState::Done(
                RecipientOutcome::Deferred(Cause::Reply { stage, .. })
                | RecipientOutcome::Failed(Cause::Reply { stage, .. }),
            ) => *stage == Stage::End,
            _ => false,
        })
    }

    /// Who is to be in another transaction goes back to the job. The answers to
    /// RCPT are all in: slots have their numbers no longer.
    pub(super) fn move_again_to(&mut self, job: &mut OpenJob) {
        let again = |slot: &mut Slot| slot.state == SlotState::Again;
        let again = self.slots.extract_if(.., again);
        job.rest
            .extend(again.map(|slot| (slot.index, slot.recipient)));
    }

    /// LMTP: the answer for the next one who was accepted. Gives who has it while others
    /// wait for their answer, perhaps for long: that is told at once.
    pub(super) fn take_end_of_next(&mut self, answer: &Answer<'_>) -> Option<RecipientIndex> {
        let mut slots = self.slots.iter();
        let next = slots.position(|slot| slot.state == SlotState::Accepted)?;
        self.accepted -= 1;
        let positive = answer.code.class() == Class::Positive;
        if positive && self.accepted > 0 {
            // Slots are known by their numbers no longer.
            return Some(self.slots.remove(next).index);
        }
        let reply = answer.reply();
        self.slots[next].state = SlotState::Done(if positive {
            RecipientOutcome::Delivered(reply)
        } else {
            refusal(Stage::End, &reply)
        });
        None
    }
}

/// Whether the peer has room for more recipients in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    More,
    /// It said 4.5.3 or 5.5.3: not for more than were accepted.
    Full,
}

/// RFC 5321 §4.5.3.1.10: 452 to RCPT says "too many recipients", and 552 is to be
/// taken for it. Both are also used for a full mailbox, which has subject 2.
fn means_too_many(code: u16, enhanced: Option<Enhanced>) -> bool {
    matches!(code, 452 | 552) && enhanced.is_none_or(|enhanced| enhanced.subject != 2)
}

/// 4yz is deferred, 5yz failed; but the codes by which a host asks for credentials
/// (RFC 4954 §6) or for TLS (RFC 3207 §4) speak of our configuration, not of the
/// message: it waits until the operator has seen to it, or expires.
fn refusal(stage: Stage, reply: &Reply) -> RecipientOutcome {
    let cause = Cause::Reply {
        stage,
        reply: reply.clone(),
    };
    match (reply.code.class(), reply.code.value()) {
        (Class::Permanent, 530 | 534 | 535 | 538) => RecipientOutcome::Deferred(cause),
        (Class::Permanent, _) => RecipientOutcome::Failed(cause),
        _ => RecipientOutcome::Deferred(cause),
    }
}
