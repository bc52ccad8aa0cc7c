//! Telling the sender: a notification is a message of our own.
//!
//! Invariant: a recipient that failed is written as done only when the notification
//! is committed; a crash between the two repeats the attempt, and loses nothing.
//! Where the notification of an expiry finds no room, or the disk does not give the
//! message, it is owed: the message stays in the spool, and it is tried again until it can
//! be told. The senders of messages that a start found broken are owed one from the
//! beginning.
//!
//! Much mail may expire in one moment: after a long stop, or of a host that has been dead for
//! days. Nobody is told of a failure, and nobody is given up, while the log has more than the
//! disk takes or [`OWED_MAX`] are owed: the mail waits in its queue, and nothing gathers in
//! memory.
//!
//! How many notifications an address gets, and what is told in one message, is in
//! `merging`. What waits there is not committed either, and a crash loses no failure of
//! it; of what is a courtesy (mail was delivered, or is late) it loses what waited.

mod causes;
mod merging;
mod quote;

use std::collections::VecDeque;
use std::time::Duration;

use spool_format::{DoneField, Location, Outcome as DoneOutcome, RecipientNumber};

pub(super) use self::causes::Causes;
pub(super) use self::merging::{Pending, Telling};
use crate::core::NoHost;
use crate::core::common::{Common, numbers};
use crate::core::restart::Broken;
use crate::mail::{Domain, QueueId, RecipientIndex};
use crate::queue::notification::{Action, Status};
use crate::queue::schedule::{ExpiryReason, GivesUp};
use crate::queue::{DestinationId, Recipients, Told as Clock};
use crate::report::{Ending, Fact};
use crate::smtp::client::fault::RecipientOutcome;
use crate::spool::message::{ReadError, SegmentSource, StoredMessage};
use crate::time::{Instant, Now, WallTime};

/// How long until owed notifications are tried again. Room comes from deliveries, and
/// the disk is looked at each second.
const OWED_RETRY: Duration = Duration::from_secs(10);

/// Owed notifications written in one turn: some milliseconds of a core.
const OWED_PORTION: usize = 64;

/// Owed notifications above which nobody is given up any more: some megabytes. What expires
/// while a spool is full stays in the queue, and may still be delivered.
const OWED_MAX: usize = 10_000;

/// Recipients that were given up, and whose sender is still to be told.
#[derive(Debug)]
struct Owed {
    queue_id: QueueId,
    recipients: Recipients,
    told: Vec<Told>,
    /// How they end.
    outcome: DoneOutcome,
    reported: Reported,
}

/// Whether the operator was told of the recipients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reported {
    /// When they were given up.
    Already,
    /// Not before the message can be read.
    NotYet,
}

/// What came of something that is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Paid {
    /// It is told, or there is nothing to be told.
    Yes,
    /// There is still no room.
    NoRoom,
    /// The disk does not give the message now.
    Unread,
}

/// All that is owed, oldest first. A little more than [`OWED_MAX`], or what a start found
/// broken.
#[derive(Debug, Default)]
pub(super) struct Debts {
    owed: VecDeque<Owed>,
    retry_at: Option<Instant>,
}

impl Debts {
    /// Messages that the start found broken for good: due at once.
    fn of_broken(broken: Vec<Broken>) -> Self {
        let retry_at = (!broken.is_empty()).then_some(Instant::START);
        let told = |&index: &RecipientIndex| Told {
            index,
            reason: Reason::damaged(DAMAGED),
        };
        let owed = broken.into_iter().map(|broken| Owed {
            queue_id: broken.queue_id,
            told: broken.recipients.as_slice().iter().map(told).collect(),
            recipients: broken.recipients,
            outcome: DoneOutcome::Damaged,
            reported: Reported::NotYet,
        });
        Self {
            owed: owed.collect(),
            retry_at,
        }
    }
}

/// Recipients whose time, or part of it, is over.
pub(super) struct Late<'a> {
    /// Of which message.
    pub(super) queue_id: QueueId,
    /// Its seal.
    pub(super) location: Location,
    /// Where they wait.
    pub(super) destination: DestinationId,
    /// Who.
    pub(super) recipients: &'a Recipients,
}

/// What a sender is told of a message whose octets are not what was stored.
pub(super) const DAMAGED: &str = "the message was damaged while it was stored";

/// What the sender is told of a recipient.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Whom.
    pub(super) index: RecipientIndex,
    /// Why.
    pub(super) reason: Reason,
}

/// Why something became of a recipient.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    status: Status,
    host: Option<Domain>,
    text: String,
    /// The text is a reply of the host, and not a sentence of ours.
    is_reply: bool,
    /// The message is not what was accepted: nothing of it can be returned.
    damaged: bool,
}

impl Reason {
    /// As a session reported it.
    pub(super) fn from_outcome(outcome: &RecipientOutcome, host: Option<&Domain>) -> Self {
        let status = outcome.status();
        let reply = outcome.reply().map(ToString::to_string);
        Self {
            status: Status::new(status.class, status.subject, status.detail).unwrap_or(UNKNOWN),
            host: host.cloned().filter(|_| reply.is_some()),
            is_reply: reply.is_some(),
            damaged: false,
            text: reply.unwrap_or_else(|| outcome.to_string()),
        }
    }

    /// There is no host that takes the mail, and there will be none.
    pub(super) fn no_host(no_host: NoHost, why: &str) -> Self {
        let (class, subject, detail) = no_host.status();
        Self::ours(Status::new(class, subject, detail), why.to_owned())
    }

    /// No mailbox can have this name (RFC 3463 5.1.1).
    pub(super) fn no_mailbox(why: &str) -> Self {
        Self::ours(Status::new(5, 1, 1), why.to_owned())
    }

    /// The disk has lost what it had stored (RFC 3463 5.3.0).
    pub(super) fn damaged(why: &str) -> Self {
        Self {
            damaged: true,
            ..Self::ours(Status::new(5, 3, 0), why.to_owned())
        }
    }

    /// It is where its reader finds it.
    pub(super) fn in_the_mailbox() -> Self {
        let text = "the message was put into the mailbox".to_owned();
        Self::ours(Status::new(2, 1, 5), text)
    }

    fn ours(status: Option<Status>, text: String) -> Self {
        Self {
            status: status.unwrap_or(UNKNOWN),
            host: None,
            text,
            is_reply: false,
            damaged: false,
        }
    }
}

/// RFC 3463: failed, and nothing more is known.
const UNKNOWN: Status = match Status::new(5, 0, 0) {
    Some(status) => status,
    None => unreachable!(),
};

impl Common {
    /// When something is to be told that waits: at its time, and when the log takes more.
    pub(super) fn telling_deadline(&self) -> Option<Instant> {
        if self.log.is_full() {
            return None;
        }
        let both = [self.debts.retry_at, self.gathering.deadline()];
        both.into_iter().flatten().min()
    }

    /// Whether recipients may be given up: not where that is more than can be told.
    pub(super) fn gives_up(&self) -> GivesUp {
        if self.log.is_full() || self.debts.owed.len() >= OWED_MAX {
            GivesUp::Later
        } else {
            GivesUp::Now
        }
    }

    /// Tells the sender who failed; they are done when that is committed. False if the
    /// notification cannot be stored now.
    pub(super) fn tell_of_failure(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        seal: Location,
        told: &[Told],
        outcome: DoneOutcome,
    ) -> bool {
        if self.log.is_full() {
            return false;
        }
        let done = told
            .iter()
            .map(|told| DoneField {
                recipient: RecipientNumber(told.index.0),
                outcome,
            })
            .collect();
        self.tell(now, spool, about, seal, Action::Failed, None, told, done)
    }

    /// Tells the sender who was delivered to, or relayed to a host that does not report.
    pub(super) fn tell_of_success(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        seal: Location,
        action: Action,
        told: &[Told],
    ) {
        // It is a courtesy: a full spool may lose it.
        let _ = self.tell(now, spool, about, seal, action, None, told, Vec::new());
    }

    /// Tells the sender who is late.
    pub(super) fn warn(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        late: &Late<'_>,
        what: Clock,
        expires: WallTime,
    ) {
        let location = late.location;
        let Some(stored) = self.read(spool, location) else {
            return;
        };
        // Which of the two clocks it was the sender is told, who may have set one.
        let text = if what == Clock::DEADLINE {
            "the time that the sender gave for the delivery is over; it goes on"
        } else {
            "delivery is late"
        };
        let reason = Reason::ours(Status::new(4, 4, 7), text.to_owned());
        let told = self.told_all(late, &reason);
        let _ = self.tell(
            now,
            spool,
            &stored,
            location,
            Action::Delayed,
            Some(expires),
            &told,
            Vec::new(),
        );
    }

    /// Recipients were given up: tells the sender, and writes that they are done.
    pub(super) fn expired(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        late: &Late<'_>,
        reason: ExpiryReason,
    ) {
        let &Late {
            queue_id,
            location,
            recipients,
            ..
        } = late;
        let reason = match reason {
            ExpiryReason::Age => Reason::ours(
                Status::new(5, 4, 7),
                "the message could not be delivered within the time for which it is kept"
                    .to_owned(),
            ),
            ExpiryReason::Deadline => Reason::ours(
                Status::new(5, 4, 7),
                "the time that the sender gave for the delivery is over".to_owned(),
            ),
            ExpiryReason::Tries => Reason::ours(
                Status::new(5, 4, 7),
                "all tries to deliver the message have failed".to_owned(),
            ),
        };
        self.counters.recipients_failed += recipients.as_slice().len() as u64;
        let stored = match StoredMessage::read(spool, location) {
            Ok(stored) => stored,
            Err(error @ ReadError::Disk { .. }) => {
                let told = self.told_all(late, &reason);
                let why = error.to_string();
                self.owe(now, queue_id, recipients, told, Reported::NotYet, &why);
                return;
            }
            Err(error) => {
                self.untold(now, queue_id, location, recipients, &error);
                return;
            }
        };
        let told = self.told_all(late, &reason);
        self.report_failed(now, &stored, &told);
        if !self.tell_of_failure(now, spool, &stored, location, &told, DoneOutcome::Expired) {
            let why = "there is no room in the spool, the log is closed, or too much is to be told";
            self.owe(now, queue_id, recipients, told, Reported::Already, why);
        }
    }

    fn report_failed(&mut self, now: Now, stored: &StoredMessage, told: &[Told]) {
        let age = now.wall.since(stored.arrival);
        for Told { index, reason } in told {
            let Some(recipient) = stored.envelope.recipients.get(index.0 as usize) else {
                continue;
            };
            self.report(Fact::Recipient {
                queue_id: stored.queue_id,
                forward_path: recipient.forward_path.clone(),
                ending: Ending::Failed,
                host: String::new(),
                reply: reason.text.clone(),
                age,
            });
        }
    }

    /// The same of all of them, and of each why it was last put off, if that is known.
    fn told_all(&self, late: &Late<'_>, reason: &Reason) -> Vec<Told> {
        let of_hosts = self.hosts.failure(late.destination);
        let told = |&index: &RecipientIndex| {
            let mut reason = reason.clone();
            if let Some(why) = of_hosts.or_else(|| self.causes.last(late.queue_id, index)) {
                reason.text = format!("{}; at the last try: {why}", reason.text);
            }
            Told { index, reason }
        };
        late.recipients.as_slice().iter().map(told).collect()
    }

    /// A message that is to end cannot be read, and not because the disk does not give it
    /// now: so nobody can be told.
    fn untold(
        &mut self,
        now: Now,
        queue_id: QueueId,
        location: Location,
        recipients: &Recipients,
        error: &ReadError,
    ) {
        let next = if let ReadError::NoSegment(_) = error {
            // The file may be sound, and was not opened at the start: nothing is written,
            // and the message is not finished before the next start.
            self.notification_begun(queue_id);
            "it stays in the spool, and is looked at again at the next start"
        } else {
            self.done(now, queue_id, &damaged(recipients));
            "nobody is left who could be told, so it is ended"
        };
        self.report(Fact::SpoolDamaged {
            log: location.log,
            what: format!("message {queue_id} is given up and cannot be read: {error}; {next}"),
        });
    }

    /// The messages that a start found broken for good.
    pub(super) fn end_broken(&mut self, broken: Vec<Broken>) {
        for broken in &broken {
            // The schedule does not know them, so it has finished with them.
            let unfinished = self.notifying.entry(broken.queue_id).or_default();
            unfinished.notifications += 1;
            unfinished.finished = true;
        }
        self.debts = Debts::of_broken(broken);
    }

    /// The sender cannot be told now: the message is not finished before that is done.
    fn owe(
        &mut self,
        now: Now,
        queue_id: QueueId,
        recipients: &Recipients,
        told: Vec<Told>,
        reported: Reported,
        why: &str,
    ) {
        self.notification_begun(queue_id);
        if self.debts.owed.is_empty() {
            let what = format!(
                "the sender of message {queue_id} cannot be told that it has expired: {why}; \
                 this and others stay in the spool, and it is tried again every {} s",
                OWED_RETRY.as_secs()
            );
            self.report(Fact::Trouble { what });
        }
        self.debts.owed.push_back(Owed {
            queue_id,
            recipients: recipients.clone(),
            told,
            outcome: DoneOutcome::Expired,
            reported,
        });
        self.debts.retry_at.get_or_insert(now.instant + OWED_RETRY);
    }

    /// Writes notifications that are owed, if it is time.
    pub(super) fn pay_debts(&mut self, now: Now, spool: &impl SegmentSource) {
        if self.log.is_full() || self.debts.retry_at.is_none_or(|at| at > now.instant) {
            return;
        }
        self.debts.retry_at = None;
        let mut unread = Vec::new();
        for _ in 0..OWED_PORTION {
            let Some(owed) = self.debts.owed.pop_front() else {
                break;
            };
            match self.pay(now, spool, &owed) {
                Paid::Yes => self.notification_over(now, owed.queue_id),
                Paid::Unread => unread.push(owed),
                Paid::NoRoom => {
                    self.debts.owed.push_front(owed);
                    self.debts.retry_at = Some(now.instant + OWED_RETRY);
                    break;
                }
            }
        }
        // Behind the others, which may lie on a better part of the disk.
        let due = if unread.is_empty() {
            now.instant
        } else {
            now.instant + OWED_RETRY
        };
        self.debts.owed.extend(unread);
        if !self.debts.owed.is_empty() {
            self.debts.retry_at.get_or_insert(due);
        }
    }

    fn pay(&mut self, now: Now, spool: &impl SegmentSource, owed: &Owed) -> Paid {
        // It may have been carried forward meanwhile, so it is looked for by its name.
        let Some(location) = self.log.message(owed.queue_id) else {
            return Paid::Yes;
        };
        let stored = match StoredMessage::read(spool, location) {
            Ok(stored) => stored,
            Err(ReadError::Disk { .. }) => return Paid::Unread,
            Err(error) => {
                let recipients = &owed.recipients;
                self.untold(now, owed.queue_id, location, recipients, &error);
                return Paid::Yes;
            }
        };
        let outcome = owed.outcome;
        if !self.tell_of_failure(now, spool, &stored, location, &owed.told, outcome) {
            return Paid::NoRoom;
        }
        if outcome == DoneOutcome::Damaged {
            self.counters.recipients_failed += owed.told.len() as u64;
        }
        if owed.reported == Reported::NotYet {
            self.report_failed(now, &stored, &owed.told);
        }
        Paid::Yes
    }

    fn read(&mut self, spool: &impl SegmentSource, location: Location) -> Option<StoredMessage> {
        match StoredMessage::read(spool, location) {
            Ok(stored) => Some(stored),
            Err(error) => {
                let what = format!("a message cannot be read, its sender is not told: {error}");
                self.report(Fact::SpoolDamaged {
                    log: location.log,
                    what,
                });
                None
            }
        }
    }
}

/// Done records of a message of which nothing can be read.
pub(super) fn damaged(recipients: &Recipients) -> Vec<DoneField> {
    let outcome = DoneOutcome::Damaged;
    numbers(recipients)
        .map(|recipient| DoneField { recipient, outcome })
        .collect()
}
