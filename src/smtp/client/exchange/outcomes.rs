//! What becomes of the recipients of a job: told when a transaction is over, when the session
//! takes no more of them, and when it has failed.
//!
//! Invariant: each recipient of an open job gets its one outcome, here or in
//! [`Exchange::deliver`].

use std::collections::VecDeque;

use super::{Exchange, Hands, place_of};
use crate::mail::RecipientIndex;
use crate::smtp::client::Output;
use crate::smtp::client::capabilities::Capabilities;
use crate::smtp::client::fault::{Arrival, Cause, RecipientOutcome, SessionError};
use crate::smtp::client::job::{Job, JobId, Notifies, Outcome, Remaining};
use crate::smtp::client::settings::{Protocol, Settings};
use crate::smtp::client::stage::Stage;
use crate::smtp::client::transaction::{Slot, SlotState, Transaction};

impl Exchange {
    /// Reports the transactions that are over.
    pub(super) fn settle(&mut self, hands: &mut Hands<'_>) {
        while self.queue.front().is_some_and(Transaction::is_over) {
            let over = self.queue.pop_front().expect("it is there");
            self.standing = over.standing;
            let place = place_of(&self.jobs, over.job);
            let job = &mut self.jobs[place];
            job.in_flight -= 1;
            let recipients: Vec<_> = over
                .slots
                .into_iter()
                .map(|slot| match slot.state {
                    SlotState::Done(outcome) => (slot.index, outcome),
                    SlotState::Waiting | SlotState::Accepted | SlotState::Again => {
                        unreachable!("a transaction that is over has decided about all")
                    }
                })
                .collect();
            let remaining = if job.rest.is_empty() && job.in_flight == 0 {
                self.jobs.remove(place);
                Remaining::None
            } else {
                Remaining::Some
            };
            if !recipients.is_empty() || remaining == Remaining::None {
                let outcome = self.outcome(over.job, recipients, remaining, hands.settings);
                hands.facts.push_back(outcome);
            }
        }
    }

    /// The session takes no more transactions: what is in none goes back.
    pub(super) fn give_back_rest(&mut self, hands: &mut Hands<'_>) {
        let mut place = 0;
        while let Some(job) = self.jobs.get_mut(place) {
            let (id, rest) = (job.id, std::mem::take(&mut job.rest));
            let remaining = if job.in_flight == 0 {
                self.jobs.remove(place);
                Remaining::None
            } else {
                place += 1;
                Remaining::Some
            };
            if !rest.is_empty() {
                let full = || RecipientOutcome::Deferred(Cause::SessionFull);
                let recipients = rest.into_iter().map(|(index, _)| (index, full()));
                let outcome = self.outcome(id, recipients.collect(), remaining, hands.settings);
                hands.facts.push_back(outcome);
            }
        }
    }

    /// The session ended: everybody without an outcome is deferred.
    pub(in crate::smtp::client) fn fail(self, error: &SessionError, hands: &mut Hands<'_>) {
        let Self {
            jobs, queue, peer, ..
        } = self;
        let notifies = notifies(&peer, hands.settings);
        let deferred = |arrival| {
            let error = error.clone();
            RecipientOutcome::Deferred(Cause::Session { error, arrival })
        };
        let mut queue = queue;
        for job in jobs {
            let mut recipients = Vec::new();
            // Not only neighbours: a second transaction of this job may stand behind
            // the next job's.
            let mut others = VecDeque::new();
            for transaction in queue {
                if transaction.job != job.id {
                    others.push_back(transaction);
                    continue;
                }
                let arrival = match (error, transaction.end) {
                    // With 421 the peer says that it has not taken it.
                    (SessionError::Closing { .. }, _) | (_, None) => Arrival::NotSent,
                    (
                        SessionError::TimedOut {
                            stage: Stage::Sending,
                        },
                        Some(end),
                    ) if !hands.wire.is_sent(end) => Arrival::NotSent,
                    // It may have left in the moment in which the connection was lost.
                    (_, Some(end)) if hands.wire.is_handed(end) => Arrival::Unknown,
                    (_, Some(_)) => Arrival::NotSent,
                };
                recipients.extend(transaction.slots.into_iter().map(|slot| {
                    let Slot { index, state, .. } = slot;
                    match state {
                        SlotState::Done(outcome) => (index, outcome),
                        SlotState::Accepted | SlotState::Waiting => (index, deferred(arrival)),
                        SlotState::Again => (index, deferred(Arrival::NotSent)),
                    }
                }));
            }
            queue = others;
            let rest = job.rest.into_iter();
            recipients.extend(rest.map(|(index, _)| (index, deferred(Arrival::NotSent))));
            hands.facts.push_back(Output::Outcome(Outcome {
                job: job.id,
                recipients,
                notifies,
                remaining: Remaining::None,
            }));
        }
    }

    pub(super) fn outcome(
        &self,
        job: JobId,
        recipients: Vec<(RecipientIndex, RecipientOutcome)>,
        remaining: Remaining,
        settings: &Settings,
    ) -> Output {
        Output::Outcome(Outcome {
            job,
            recipients,
            notifies: notifies(&self.peer, settings),
            remaining,
        })
    }
}

/// A job that comes too late for this session.
pub(in crate::smtp::client) fn untried(job: Job) -> Outcome {
    let full = || RecipientOutcome::Deferred(Cause::SessionFull);
    let recipients = job.recipients.into_iter().map(|(index, _)| (index, full()));
    Outcome {
        job: job.id,
        recipients: recipients.collect(),
        notifies: Notifies::Nobody,
        remaining: Remaining::None,
    }
}

pub(super) fn notifies(peer: &Capabilities, settings: &Settings) -> Notifies {
    match (settings.protocol, peer.dsn) {
        (Protocol::Lmtp, _) => Notifies::Us,
        (Protocol::Smtp, true) => Notifies::Hop,
        (Protocol::Smtp, false) => Notifies::Nobody,
    }
}
