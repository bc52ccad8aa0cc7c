//! What came of a delivery: recipients that are done, to be tried again, or failed.
//!
//! Invariants:
//!
//! - A recipient that failed is done only when the message that tells the sender is
//!   committed; if that cannot be written, the recipient is tried again instead.
//! - The schedule hears of each job once, when all its recipients are known.

pub(super) mod hostless;

use std::ops::Range;
use std::time::Duration;

use spool_format::{
    DoneField, Extent, Location, Outcome as DoneOutcome, RecipientNumber, SegmentPlace,
};

use crate::core::Operation;
use crate::core::common::Common;
use crate::core::delivery::passing::{Place, Stranded};
use crate::core::lending::Forget;
use crate::core::notifying::{DAMAGED, Reason, Told, damaged};
use crate::mail::{Domain, Recipient, RecipientIndex};
use crate::queue::notification::Action;
use crate::queue::{self, RecipientOutcome as Verdict};
use crate::report::{Ending, Fact};
use crate::smtp::client::fault::{Cause, RecipientOutcome, Unfit};
use crate::smtp::client::job::{
    BodyEnd, BodyFacts, BodyOctets, Job, JobId, Notifies, Outcome, Remaining,
};
use crate::spool::message::{ReadError, SegmentSource, StoredMessage};
use crate::time::Now;

/// Messages that cannot be read now, of which the operator was told once in this life. With
/// more of them the disk is gone, and the operator knows.
const UNREAD_TOLD_MAX: usize = 10_000;

/// A message that a session has.
pub(super) struct Active {
    /// As the session knows it.
    pub(super) id: JobId,
    /// As the schedule knows it.
    job: queue::Job,
    /// Where its seal is.
    pub(super) location: Location,
    /// What is stored.
    pub(super) stored: StoredMessage,
    /// What is known of its recipients.
    pub(super) verdicts: Vec<(RecipientIndex, Verdict)>,
    /// The first so many of them are noted in the log, where they are to be.
    noted: usize,
    /// Who failed, and is to be told of.
    pub(super) failed: Vec<Told>,
    /// Who was delivered to, and is to be told of, and how.
    pub(super) succeeded: Vec<Told>,
    pub(super) success: Action,
}

/// A message that one host of its next hop cannot take, on its way to the next one. To the
/// schedule it is still on the same connection.
pub(super) struct PassedOn {
    pub(super) active: Active,
    /// Why it cannot go to that host.
    pub(super) unfit: Unfit,
    /// The host, for the operator.
    pub(super) host: String,
    /// It, and those before it that cannot take the message either.
    pub(super) hosts: Vec<Place>,
}

/// What a job reads from.
#[derive(Debug)]
pub(super) struct Reading {
    /// One for each extent.
    places: Vec<SegmentPlace>,
}

impl Active {
    /// The octets of the body, in the spool.
    pub(super) fn places(&self) -> impl Iterator<Item = (SegmentPlace, Range<u32>)> + '_ {
        self.stored.extents.iter().map(|extent| {
            let begin = extent.offset.0;
            (place(self.location, *extent), begin..begin + extent.length)
        })
    }

    /// For a session.
    pub(super) fn for_session(&self) -> Job {
        let recipients: Vec<(RecipientIndex, Recipient)> = (self.job.recipients.as_slice().iter())
            .filter_map(|&index| {
                let recipient = self.stored.envelope.recipients.get(index.0 as usize)?;
                Some((index, recipient.clone()))
            })
            .collect();
        assert!(
            !recipients.is_empty(),
            "a job is for recipients of its message"
        );
        Job {
            id: self.id,
            sender: self.stored.envelope.sender.clone(),
            recipients,
            body: BodyFacts {
                octets: self.stored.octets,
                form: self.stored.body.form,
                kind: if self.stored.body.eight_bit {
                    BodyOctets::EightBit
                } else {
                    BodyOctets::SevenBit
                },
                end: if self.stored.body.ends_with_crlf || self.stored.octets == 0 {
                    BodyEnd::Crlf
                } else {
                    BodyEnd::Open
                },
            },
        }
    }

    fn reading(&self) -> Reading {
        Reading {
            places: (self.stored.extents.iter())
                .map(|extent| place(self.location, *extent))
                .collect(),
        }
    }
}

fn place(seal: Location, extent: Extent) -> SegmentPlace {
    SegmentPlace {
        log: seal.log,
        segment: extent.segment,
    }
}

/// A host, in words.
pub(super) struct HostText {
    /// If it is known by one.
    pub(super) name: Option<Domain>,
    /// Name, address and port, for the operator.
    pub(super) text: String,
    /// What its yes means where it reports nothing itself: an LMTP server has put the
    /// message into the mailbox (RFC 2033 §4.2), another one has taken it to pass it on.
    pub(super) success: Action,
}

impl Common {
    /// Reads the message of a job, all of it: what is sent is what was accepted. `None`
    /// if it cannot be read, of which the operator was told. Where the disk does not give
    /// it now, it is tried again later. If it is another than was accepted, its recipients
    /// have failed, and the sender is told; if nothing can be read of it, nobody.
    pub(super) fn load(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        job: queue::Job,
    ) -> Option<(Active, Job)> {
        let read = StoredMessage::read(spool, job.location).and_then(|stored| {
            let damage = match stored.verify(spool, job.location) {
                Ok(()) => None,
                Err(error @ ReadError::Body { .. }) => Some(error),
                Err(error) => return Err(error),
            };
            Ok((stored, damage))
        });
        let (mut stored, damage) = match read {
            Ok(read) => read,
            Err(error) => {
                self.unreadable(now, &job, &error);
                return None;
            }
        };
        // As much later as the clock was set since: what is left is told to the next hop.
        if let Some(by) = &mut stored.envelope.sender.deliver_by
            && let Some(ends) = self.queue.time_ends(job.queue_id)
        {
            by.deadline = ends;
        }
        self.last_job += 1;
        let id = JobId(self.last_job);
        for extent in &stored.extents {
            let place = place(job.location, *extent);
            self.log.borrow(place);
            self.lending.lend(place);
        }
        let mut active = Active {
            id,
            location: job.location,
            job,
            stored,
            verdicts: Vec::new(),
            noted: 0,
            failed: Vec::new(),
            succeeded: Vec::new(),
            success: Action::Relayed,
        };
        let for_session = active.for_session();
        if let Some(error) = damage {
            self.fail_damaged(now, &mut active, &for_session, &error);
            let reading = self.job_over(now, spool, active);
            self.take_back(reading);
            return None;
        }
        Some((active, for_session))
    }

    /// Nothing can be read of a message.
    fn unreadable(&mut self, now: Now, job: &queue::Job, error: &ReadError) {
        let (queue_id, log) = (job.queue_id, job.location.log);
        if error.may_pass() {
            self.queue.outcome(now, job.id, &[]);
            if self.unread_told.len() >= UNREAD_TOLD_MAX {
                self.unread_told.clear();
            }
            if self.unread_told.insert(queue_id) {
                let what = format!(
                    "message {queue_id} cannot be read: {error}; it stays in the queue until it \
                     expires and is tried again, of which nothing more is said"
                );
                self.report(Fact::SpoolDamaged { log, what });
            }
            return;
        }
        let what = format!(
            "message {queue_id} cannot be read: {error}; it is not delivered, and nobody can be \
             told, so it is ended"
        );
        self.report(Fact::SpoolDamaged { log, what });
        let recipients = &job.recipients;
        self.counters.recipients_failed += recipients.as_slice().len() as u64;
        self.done(now, queue_id, &damaged(recipients));
        let failed = |&index: &RecipientIndex| (index, Verdict::Failed);
        let verdicts: Vec<_> = recipients.as_slice().iter().map(failed).collect();
        self.queue.outcome(now, job.id, &verdicts);
    }

    /// What is stored is not what was accepted.
    fn fail_damaged(&mut self, now: Now, active: &mut Active, job: &Job, error: &ReadError) {
        let what = format!(
            "message {}: {error}; it is not delivered, and its sender is told",
            active.stored.queue_id
        );
        self.report(Fact::SpoolDamaged {
            log: active.location.log,
            what,
        });
        let age = now.wall.since(active.stored.arrival);
        for (index, recipient) in &job.recipients {
            self.counters.recipients_failed += 1;
            let why = DAMAGED.to_owned();
            let reason = Reason::damaged(&why);
            let fact = recipient_fact(active, recipient, Ending::Failed, "", why, age);
            self.report(fact);
            active.verdicts.push((*index, Verdict::Failed));
            let index = *index;
            active.failed.push(Told { index, reason });
        }
    }

    /// No host is left to which a message could be passed on. Those that could not take it
    /// are none the worse for that, so the connection ends in good order.
    pub(super) fn strand(&mut self, now: Now, spool: &impl SegmentSource, stranded: Stranded) {
        let Stranded {
            connection,
            passed_on,
            silent,
        } = stranded;
        let PassedOn {
            mut active,
            unfit,
            host,
            hosts,
        } = passed_on;
        let verdict = match silent {
            Some(silent) => silent.verdict(unfit, &hosts),
            None => RecipientOutcome::Deferred(Cause::SessionFull),
        };
        let recipients = active.job.recipients.as_slice().iter();
        let outcome = Outcome {
            job: active.id,
            recipients: recipients.map(|index| (*index, verdict.clone())).collect(),
            notifies: Notifies::Nobody,
            remaining: Remaining::None,
        };
        let host = HostText {
            name: None,
            text: host,
            success: Action::Relayed,
        };
        self.outcome(now, &mut active, &host, &outcome);
        let reading = self.job_over(now, spool, active);
        self.take_back(reading);
        self.queue.leaves(now, connection);
        self.queue.connection_closed(now, connection);
    }

    /// Notes what came of some recipients of a job.
    pub(super) fn outcome(
        &mut self,
        now: Now,
        active: &mut Active,
        host: &HostText,
        outcome: &Outcome,
    ) {
        let age = now.wall.since(active.stored.arrival);
        for (index, result) in &outcome.recipients {
            let Some(recipient) = active.stored.envelope.recipients.get(index.0 as usize) else {
                continue;
            };
            let told = || Told {
                index: *index,
                reason: Reason::from_outcome(result, host.name.as_ref()),
            };
            let (ending, verdict) = match result {
                RecipientOutcome::Delivered(_) => {
                    self.counters.recipients_delivered += 1;
                    if recipient.notify.success() && outcome.notifies != Notifies::Hop {
                        active.succeeded.push(told());
                        active.success = host.success;
                    }
                    (Ending::Delivered, Verdict::Delivered)
                }
                RecipientOutcome::Failed(_) => {
                    self.counters.recipients_failed += 1;
                    active.failed.push(told());
                    (Ending::Failed, Verdict::Failed)
                }
                RecipientOutcome::Deferred(Cause::SessionFull) => {
                    active.verdicts.push((*index, Verdict::Returned));
                    continue;
                }
                RecipientOutcome::Deferred(cause) => {
                    self.counters.recipients_deferred += 1;
                    let verdict = match cause {
                        Cause::Session { .. } => Verdict::Interrupted,
                        _ => Verdict::Deferred,
                    };
                    (Ending::Deferred, verdict)
                }
            };
            active.verdicts.push((*index, verdict));
            let reply = match result {
                RecipientOutcome::Delivered(reply) => reply.to_string(),
                RecipientOutcome::Deferred(cause) | RecipientOutcome::Failed(cause) => {
                    cause.to_string()
                }
            };
            if ending == Ending::Deferred {
                let why = format!("{}: {reply}", host.text);
                self.causes.put_off(active.job.queue_id, *index, &why);
            }
            let fact = recipient_fact(active, recipient, ending, &host.text, reply, age);
            self.report(fact);
        }
    }

    /// All recipients of a job are known. What it reads from is to be given to
    /// [`Common::take_back`] when nothing of it is being sent any more.
    pub(super) fn job_over(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        mut active: Active,
    ) -> Reading {
        let reading = active.reading();
        let failed = std::mem::take(&mut active.failed);
        if !failed.is_empty()
            && !self.tell_of_failure(
                now,
                spool,
                &active.stored,
                active.location,
                &failed,
                DoneOutcome::Failed,
            )
        {
            // The sender cannot be told now: so they have not failed yet.
            for (index, verdict) in &mut active.verdicts {
                if failed.iter().any(|told| told.index == *index) {
                    *verdict = Verdict::Deferred;
                }
            }
        }
        self.note_delivered(now, spool, &mut active);
        let delivered = |(_, verdict): &(_, Verdict)| *verdict == Verdict::Delivered;
        if active.verdicts.iter().any(delivered) {
            self.counters.messages_delivered += 1;
            self.counters.octets_delivered += active.stored.octets;
        }
        active.verdicts.sort_unstable_by_key(|(index, _)| *index);
        self.queue.outcome(now, active.job.id, &active.verdicts);
        reading
    }

    /// Notes in the log to whom a job was delivered so far. Others of its recipients may
    /// have to wait for a second transaction, or for the next answer of an LMTP server:
    /// whatever happens until then, these do not get it again.
    pub(super) fn note_delivered(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        active: &mut Active,
    ) {
        let new = &active.verdicts[active.noted..];
        active.noted = active.verdicts.len();
        let delivered: Vec<DoneField> = new
            .iter()
            .filter(|(_, verdict)| *verdict == Verdict::Delivered)
            .map(|(index, _)| DoneField {
                recipient: RecipientNumber(index.0),
                outcome: DoneOutcome::Delivered,
            })
            .collect();
        if delivered.is_empty() {
            return;
        }
        let succeeded = std::mem::take(&mut active.succeeded);
        if !succeeded.is_empty() {
            let (stored, seal) = (&active.stored, active.location);
            self.tell_of_success(now, spool, stored, seal, active.success, &succeeded);
        }
        self.done(now, active.job.queue_id, &delivered);
        let next_hop = self.queue.next_hop(active.job.destination);
        if next_hop.is_some_and(|next_hop| next_hop.customer().is_some()) {
            // A drain is long and its line is slow: what a site has taken must not go
            // once more because this process was killed.
            self.log.write_notes();
        }
    }

    /// Nothing of a job is being sent any more: its segments may be forgotten. Their pages may
    /// stand in the socket's queue for long; who uses the files again knows that.
    pub(super) fn take_back(&mut self, reading: Reading) {
        for place in reading.places {
            self.log.give_back(place);
            if self.lending.take_back(place) == Forget::Now {
                let segment = place;
                self.operations.push_back(Operation::Forget { segment });
            }
        }
    }
}

pub(super) fn recipient_fact(
    active: &Active,
    recipient: &Recipient,
    ending: Ending,
    host: &str,
    reply: String,
    age: Duration,
) -> Fact {
    Fact::Recipient {
        queue_id: active.job.queue_id,
        forward_path: recipient.forward_path.clone(),
        ending,
        host: host.to_owned(),
        reply,
        age,
    }
}
