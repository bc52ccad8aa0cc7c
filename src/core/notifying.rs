//! Telling the sender: a notification is a message of our own.
//!
//! Invariant: a recipient that failed is written as done only when the notification
//! is committed; a crash between the two repeats the attempt, and loses nothing.

use spool_format::{BodyForm, DoneField, Location, Outcome as DoneOutcome, RecipientNumber};

use crate::core::common::{Common, Waiting, numbers};
use crate::core::incoming::Incoming;
use crate::mail::{BodyKind, Domain, QueueId, RecipientIndex, Ret, ReversePath};
use crate::queue::Recipients;
use crate::queue::notification::{
    self, Action, Diagnostic, Facts, HEADERS_BYTES_MAX, RecipientReport, Returned, Status,
};
use crate::queue::schedule::ExpiryReason;
use crate::report::{Ending, Fact};
use crate::smtp::client::fault::RecipientOutcome;
use crate::spool::message::{self, BodyFacts, SegmentSource, StoredMessage};
use crate::time::{Now, WallTime};

/// The largest message that is returned whole where the sender asks for it (RET=FULL).
/// On a metered link a report must not cost more than the mail it tells of.
const RETURNED_BYTES_MAX: u64 = 64 * 1024;

/// Longest line that may stand in a notification (RFC 5322 §2.1.1).
const LINE_BYTES_MAX: usize = 998;

/// A notification between its seal and its commit.
#[derive(Debug)]
pub(super) struct Pending {
    /// The message it tells of.
    about: QueueId,
    /// What is written of that when it is committed.
    done: Vec<DoneField>,
}

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
            text: reply.unwrap_or_else(|| outcome.to_string()),
        }
    }

    /// The domain has no host that takes mail (RFC 3463 5.1.2).
    pub(super) fn no_such_host(why: &str) -> Self {
        Self::ours(Status::new(5, 1, 2), why.to_owned())
    }

    fn ours(status: Option<Status>, text: String) -> Self {
        Self {
            status: status.unwrap_or(UNKNOWN),
            host: None,
            text,
            is_reply: false,
        }
    }
}

/// RFC 3463: failed, and nothing more is known.
const UNKNOWN: Status = match Status::new(5, 0, 0) {
    Some(status) => status,
    None => unreachable!(),
};

impl Common {
    /// Tells the sender who failed; they are done when that is committed. False if the
    /// notification cannot be stored now.
    pub(super) fn tell_of_failure(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        told: &[Told],
        outcome: DoneOutcome,
    ) -> bool {
        let done = told
            .iter()
            .map(|told| DoneField {
                recipient: RecipientNumber(told.index.0),
                outcome,
            })
            .collect();
        self.tell(now, spool, about, Action::Failed, None, told, done)
    }

    /// Tells the sender who was relayed to a host that does not report.
    pub(super) fn tell_of_relay(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        told: &[Told],
    ) {
        // It is a courtesy: a full spool may lose it.
        let _ = self.tell(now, spool, about, Action::Relayed, None, told, Vec::new());
    }

    /// Tells the sender who is late.
    pub(super) fn warn(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        location: Location,
        recipients: &Recipients,
        expires: WallTime,
    ) {
        let Some(stored) = self.read(spool, location) else {
            return;
        };
        let reason = Reason::ours(Status::new(4, 4, 7), "delivery is late".to_owned());
        let told = told_all(recipients, &reason);
        let _ = self.tell(
            now,
            spool,
            &stored,
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
        queue_id: QueueId,
        location: Location,
        recipients: &Recipients,
        reason: ExpiryReason,
    ) {
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
        let Some(stored) = self.read(spool, location) else {
            let outcome = DoneOutcome::Damaged;
            let done: Vec<_> = numbers(recipients)
                .map(|recipient| DoneField { recipient, outcome })
                .collect();
            self.done(now, queue_id, &done);
            return;
        };
        let age = now.wall.since(stored.arrival);
        for index in recipients.as_slice() {
            let Some(recipient) = stored.envelope.recipients.get(index.0 as usize) else {
                continue;
            };
            self.report(Fact::Recipient {
                queue_id,
                forward_path: recipient.forward_path.clone(),
                ending: Ending::Failed,
                host: String::new(),
                reply: reason.text.clone(),
                age,
            });
        }
        let told = told_all(recipients, &reason);
        // If the sender cannot be told now, nothing is written, not even that the message
        // has nobody left: the recipients come back, and expire again, at the next start.
        // A notification that is never over keeps it so.
        if !self.tell_of_failure(now, spool, &stored, &told, DoneOutcome::Expired) {
            self.notification_begun(queue_id);
        }
    }

    /// A notification is committed, or never will be.
    pub(super) fn notified(&mut self, now: Now, pending: Pending, notification: Option<QueueId>) {
        let Pending { about, done } = pending;
        if let Some(notification) = notification {
            self.counters.notifications += 1;
            self.report(Fact::Notified {
                queue_id: about,
                notification,
            });
            self.done(now, about, &done);
        }
        self.notification_over(now, about);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call for all that is to be told"
    )]
    fn tell(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        action: Action,
        retry_until: Option<WallTime>,
        told: &[Told],
        done: Vec<DoneField>,
    ) -> bool {
        let queue_id = about.queue_id;
        let ReversePath::Address(to) = &about.envelope.sender.reverse_path else {
            // Nobody is told of a notification's fate (RFC 5321 §4.5.5).
            self.done(now, queue_id, &done);
            return true;
        };
        let reports: Vec<_> = told
            .iter()
            .filter_map(|told| {
                let recipient = about.envelope.recipients.get(told.index.0 as usize)?;
                let reason = &told.reason;
                Some(RecipientReport {
                    recipient,
                    action,
                    status: reason.status,
                    remote_mta: reason.host.as_ref(),
                    diagnostic: Some(if reason.is_reply {
                        Diagnostic::Smtp(&reason.text)
                    } else {
                        Diagnostic::Local(&reason.text)
                    }),
                    last_attempt: Some(now.wall),
                    retry_until,
                })
            })
            .collect();
        let sender = &about.envelope.sender;
        let facts = Facts {
            to,
            reporting_mta: &self.settings.hostname,
            queue_id,
            arrival: about.arrival,
            now: now.wall,
            envid: sender.envid.as_deref(),
            priority: sender.priority,
            require_tls: sender.require_tls,
            seed: self.random.next_u64(),
        };
        let quote = quote(spool, self.location(queue_id), about);
        let returned = match &quote {
            Quote::Headers(octets) => Returned::Headers(octets),
            Quote::Whole(_) if sender.smtputf8 => Returned::WholeUtf8,
            Quote::Whole(_) if about.body.eight_bit => Returned::Whole {
                body: BodyKind::EightBitMime,
            },
            Quote::Whole(_) => Returned::Whole {
                body: BodyKind::SevenBit,
            },
        };
        let Some(notification) = notification::write(&facts, &reports, returned) else {
            // NOTIFY says that nobody wants to hear of it.
            self.done(now, queue_id, &done);
            return true;
        };
        let body = BodyFacts {
            form: match quote {
                Quote::Headers(_) => BodyForm::Plain,
                Quote::Whole(_) => about.body.form,
            },
            ends_with_crlf: true,
            eight_bit: notification.envelope.sender.body == BodyKind::EightBitMime,
        };
        let middle: &[u8] = match &quote {
            Quote::Headers(_) => &[],
            Quote::Whole(octets) => octets,
        };
        let parts = [
            notification.before.as_slice(),
            middle,
            notification.after.as_slice(),
        ];
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let incoming = Incoming::begin(now, &mut self.log, notification.envelope, Some(size), None);
        let Ok(mut incoming) = incoming else {
            return false;
        };
        for part in parts {
            if incoming.append(now, &mut self.log, part).is_err() {
                incoming.abandon(&mut self.log);
                return false;
            }
        }
        let waiting = Waiting::Notification(Pending {
            about: queue_id,
            done,
        });
        if self.seal(now, incoming, body, waiting).is_err() {
            return false;
        }
        self.notification_begun(queue_id);
        true
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

fn told_all(recipients: &Recipients, reason: &Reason) -> Vec<Told> {
    let told = |&index: &RecipientIndex| Told {
        index,
        reason: reason.clone(),
    };
    recipients.as_slice().iter().map(told).collect()
}

/// What is returned of a message.
enum Quote {
    /// Its header section.
    Headers(Vec<u8>),
    /// All of it, as it is stored.
    Whole(Vec<u8>),
}

/// All of a message if its sender wants that and it is small and has lines that may
/// stand in a notification, else its header section.
fn quote(spool: &impl SegmentSource, seal: Option<Location>, about: &StoredMessage) -> Quote {
    let full = about.envelope.sender.ret == Some(Ret::Full)
        && about.octets <= RETURNED_BYTES_MAX
        && about.body.ends_with_crlf
        && about.body.form != BodyForm::Raw;
    let limit = if full {
        RETURNED_BYTES_MAX as usize
    } else {
        HEADERS_BYTES_MAX
    };
    let mut octets = Vec::new();
    for &extent in &about.extents {
        let Some(Ok(part)) = seal.map(|seal| message::body(spool, seal, extent)) else {
            break;
        };
        octets.extend_from_slice(&part[..part.len().min(limit - octets.len())]);
        if octets.len() >= limit {
            break;
        }
    }
    let lines_fit = octets
        .split(|&octet| octet == b'\n')
        .all(|line| line.len() < LINE_BYTES_MAX);
    if full && octets.len() as u64 == about.octets && lines_fit {
        return Quote::Whole(octets);
    }
    let end = memchr::memmem::find(&octets, b"\r\n\r\n").map(|at| at + 2);
    octets.truncate(end.unwrap_or(octets.len()));
    Quote::Headers(octets)
}
