//! From something that is to be told to the message that tells it: at once, or with
//! more of the kind when its reader has had enough messages for a minute.

use std::collections::VecDeque;

use spool_format::{BodyForm, DoneField, Location, Outcome as DoneOutcome};

use super::quote::{self, Quote};
use super::{OWED_RETRY, Told};
use crate::core::common::{Common, Waiting};
use crate::core::incoming::Incoming;
use crate::mail::{Address, BodyKind, QueueId, ReversePath};
use crate::queue::notification::gathering::{Addressee, Offered};
use crate::queue::notification::{
    self, Action, Diagnostic, Facts, Notification, Reader, RecipientReport, Report, Returned,
};
use crate::report::Fact;
use crate::spool::message::{BodyFacts, ReadError, SegmentSource, StoredMessage};
use crate::time::{Now, WallTime};

/// What a notification takes beside its text: envelope, frames, seal.
const AROUND_BYTES: u64 = 2048;

/// Octets of a header section that are returned in a message that tells of many. What
/// tells one message from another is in the first few fields.
const MERGED_HEADERS_BYTES_MAX: usize = 4096;

/// Octets of reports behind which a message takes no more: it can go over a slow line,
/// and takes a core some milliseconds. Some hundred reports.
const MERGED_BYTES_MAX: usize = 1 << 20;

/// Something that is to be told about one message.
#[derive(Debug)]
pub(in crate::core) struct Telling {
    about: QueueId,
    copy: Copy,
    action: Action,
    told: Vec<Told>,
    /// When it became known.
    at: WallTime,
    retry_until: Option<WallTime>,
    /// What is written of the message when it is told.
    done: Vec<DoneField>,
}

impl Telling {
    /// The message is not what was accepted. What stands in its place may be of another
    /// one, so that nothing of it is returned.
    fn of_damaged(&self) -> bool {
        self.told.iter().any(|told| told.reason.damaged)
    }
}

/// Whether it is what the sender is told, or the postmaster's copy of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copy {
    Sender,
    Postmaster,
}

/// A message that is looked at again, since it is to be told of.
enum Again {
    /// It, and where its seal is.
    Read(Box<StoredMessage>, Location),
    /// It cannot be told of.
    Never,
    /// The disk does not give it now.
    Later,
}

/// A notification between its seal and its commit.
#[derive(Debug)]
pub(in crate::core) struct Pending {
    /// The messages it tells of, and what is written of them when it is committed.
    about: Vec<(QueueId, Vec<DoneField>)>,
}

impl Common {
    #[expect(
        clippy::too_many_arguments,
        reason = "one call for all that is to be told"
    )]
    pub(super) fn tell(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        seal: Location,
        action: Action,
        retry_until: Option<WallTime>,
        told: &[Told],
        done: Vec<DoneField>,
    ) -> bool {
        let queue_id = about.queue_id;
        let wanted = told.iter().any(|told| {
            let recipient = about.envelope.recipients.get(told.index.0 as usize);
            recipient.is_some_and(|recipient| action.is_wanted(recipient.notify))
        });
        let ReversePath::Address(sender) = &about.envelope.sender.reverse_path else {
            // Nobody is told of a notification's fate (RFC 5321 §4.5.5), the postmaster
            // neither: what cannot be delivered to him would be told to him.
            self.done(now, queue_id, &done);
            return true;
        };
        if !wanted {
            // NOTIFY says that nobody wants to hear of it.
            self.done(now, queue_id, &done);
            return true;
        }
        let telling = |copy: Copy, done: Vec<DoneField>| Telling {
            about: queue_id,
            copy,
            action,
            told: told.to_vec(),
            at: now.wall,
            retry_until,
            done,
        };
        if !self.tell_reader(now, spool, about, seal, sender, telling(Copy::Sender, done)) {
            return false;
        }
        let settings = self.settings.clone();
        if let Some(postmaster) = &settings.notify.postmaster
            && action == Action::Failed
            && postmaster != sender
        {
            // A courtesy: a full spool may lose it.
            let copy = telling(Copy::Postmaster, Vec::new());
            let _ = self.tell_reader(now, spool, about, seal, postmaster, copy);
        }
        true
    }

    /// Tells it, now or later. False if neither can be.
    fn tell_reader(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        seal: Location,
        to: &Address,
        telling: Telling,
    ) -> bool {
        let addressee = Addressee {
            to: to.clone(),
            require_tls: about.envelope.sender.require_tls,
        };
        let per_minute = self.settings.notify.per_minute;
        let offered =
            (self.gathering).offer(now.instant, &self.allowance, per_minute, addressee, telling);
        let taken = match offered {
            Offered::Now(telling) => self
                .tell_alone(now, spool, about, seal, to, telling)
                .is_ok(),
            Offered::Gathered => true,
            Offered::Full(_) => false,
        };
        if taken {
            self.notification_begun(about.queue_id);
        }
        taken
    }

    /// Tells it in a message of its own; gives it back if there is no room.
    fn tell_alone(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        about: &StoredMessage,
        seal: Location,
        to: &Address,
        telling: Telling,
    ) -> Result<(), Telling> {
        let quote = match telling.copy {
            _ if telling.of_damaged() => Quote::Headers(Vec::new()),
            Copy::Sender => quote::quote(spool, seal, about, self.settings.notify.whole_bytes_max),
            Copy::Postmaster => {
                let bytes_max = notification::HEADERS_BYTES_MAX;
                Quote::Headers(quote::headers(spool, seal, about, bytes_max))
            }
        };
        let returned = match &quote {
            Quote::Headers(octets) => Returned::Headers(octets),
            Quote::Whole(_) if about.envelope.sender.smtputf8 => Returned::WholeUtf8,
            Quote::Whole(_) if about.body.eight_bit => Returned::Whole {
                body: BodyKind::EightBitMime,
            },
            Quote::Whole(_) => Returned::Whole {
                body: BodyKind::SevenBit,
            },
        };
        let notification = self.compose(now, about, to, &telling, returned);
        let notification = notification.expect("somebody wants to hear of it");
        let (middle, form): (&[u8], _) = match &quote {
            Quote::Headers(_) => (&[], BodyForm::Plain),
            Quote::Whole(octets) => (octets, about.body.form),
        };
        let done = telling.done.clone();
        let pending = Pending {
            about: vec![(telling.about, done)],
        };
        match self.store(now, notification, middle, form, pending) {
            true => Ok(()),
            false => Err(telling),
        }
    }

    fn compose(
        &mut self,
        now: Now,
        about: &StoredMessage,
        to: &Address,
        telling: &Telling,
        returned: Returned<'_>,
    ) -> Option<Notification> {
        let sender = &about.envelope.sender;
        let reader = match (telling.copy, &sender.reverse_path) {
            (Copy::Postmaster, ReversePath::Address(sender)) => Reader::Postmaster { sender },
            _ => Reader::Sender,
        };
        let facts = Facts {
            to,
            reader,
            reporting_mta: &self.settings.hostname,
            queue_id: about.queue_id,
            arrival: about.arrival,
            now: now.wall,
            envid: sender.envid.as_deref(),
            priority: sender.priority,
            require_tls: sender.require_tls,
            seed: self.random.next_u64(),
        };
        let reports: Vec<_> = telling
            .told
            .iter()
            .filter_map(|told| {
                let recipient = about.envelope.recipients.get(told.index.0 as usize)?;
                let reason = &told.reason;
                Some(RecipientReport {
                    recipient,
                    action: telling.action,
                    status: reason.status,
                    remote_mta: reason.host.as_ref(),
                    diagnostic: Some(if reason.is_reply {
                        Diagnostic::Smtp(&reason.text)
                    } else {
                        Diagnostic::Local(&reason.text)
                    }),
                    last_attempt: Some(telling.at),
                    retry_until: telling.retry_until,
                })
            })
            .collect();
        notification::write(&facts, &reports, returned)
    }

    /// Puts a notification into the spool. False if there is no room.
    fn store(
        &mut self,
        now: Now,
        notification: Notification,
        middle: &[u8],
        form: BodyForm,
        pending: Pending,
    ) -> bool {
        let body = BodyFacts {
            form,
            ends_with_crlf: true,
            eight_bit: notification.envelope.sender.body == BodyKind::EightBitMime,
        };
        let parts = [&notification.before[..], middle, &notification.after[..]];
        let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let incoming = Incoming::begin_notification(
            now,
            &mut self.log,
            notification.envelope,
            size + AROUND_BYTES,
        );
        let Ok(mut incoming) = incoming else {
            return false;
        };
        for part in parts {
            if incoming.append(now, &mut self.log, part).is_err() {
                incoming.abandon(&mut self.log);
                return false;
            }
        }
        let waiting = Waiting::Notification(pending);
        self.seal(now, incoming, body, waiting).is_ok()
    }

    /// Tells one reader what has gathered, if it is time.
    pub(in crate::core) fn tell_gathered(&mut self, now: Now, spool: &impl SegmentSource) {
        if self.log.is_full() || (self.gathering.deadline()).is_none_or(|at| at > now.instant) {
            return;
        }
        let per_minute = self.settings.notify.per_minute;
        let next = (self.gathering).next(now.instant, &self.allowance, per_minute);
        let Some((addressee, mut tellings)) = next else {
            return;
        };
        let untold = self.tell_in_one(now, spool, &addressee.to, &mut tellings);
        // A stop does not wait for room: these recipients are not done, so they are
        // tried again in the next life.
        if !self.is_stopping() {
            let due = now.instant + OWED_RETRY;
            self.gathering.give_back(due, addressee.clone(), untold);
        }
        self.gathering.give_back(now.instant, addressee, tellings);
    }

    /// Tells as many as one message holds; the others stay. Gives back what cannot be told
    /// now: there is no room, or the disk does not give what it is about.
    fn tell_in_one(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        to: &Address,
        tellings: &mut VecDeque<Telling>,
    ) -> VecDeque<Telling> {
        let mut later = VecDeque::new();
        let mut told = VecDeque::new();
        let mut reports = Vec::new();
        let mut octets = 0;
        while octets < MERGED_BYTES_MAX
            && let Some(telling) = tellings.pop_front()
        {
            let (about, seal) = match self.read_again(now, spool, &telling) {
                Again::Read(about, seal) => (about, seal),
                Again::Never => continue,
                Again::Later => {
                    later.push_back(telling);
                    continue;
                }
            };
            if told.is_empty() && tellings.is_empty() {
                let alone = self.tell_alone(now, spool, &about, seal, to, telling);
                later.extend(alone.err());
                return later;
            }
            let headers = if telling.of_damaged() {
                Vec::new()
            } else {
                quote::headers(spool, seal, &about, MERGED_HEADERS_BYTES_MAX)
            };
            let returned = Returned::Headers(&headers);
            let notification = self.compose(now, &about, to, &telling, returned);
            let notification = notification.expect("somebody wants to hear of it");
            octets += notification.before.len();
            reports.push(Report {
                action: telling.action,
                notification,
            });
            told.push_back(telling);
        }
        if told.is_empty() {
            return later;
        }
        let (host, seed) = (&self.settings.hostname, self.random.next_u64());
        let notification = notification::digest(to, host, now.wall, seed, &reports);
        let pending = Pending {
            about: (told.iter())
                .map(|telling| (telling.about, telling.done.clone()))
                .collect(),
        };
        if !self.store(now, notification, &[], BodyForm::Plain, pending) {
            later.extend(told);
        }
        later
    }

    /// The message that something is to be told of.
    fn read_again(&mut self, now: Now, spool: &impl SegmentSource, telling: &Telling) -> Again {
        let queue_id = telling.about;
        // It may have been carried forward meanwhile, so it is looked for by its name.
        let Some(location) = self.log.message(queue_id) else {
            self.notification_over(now, queue_id);
            return Again::Never;
        };
        let error = match StoredMessage::read(spool, location) {
            Ok(stored) => return Again::Read(Box::new(stored), location),
            Err(ReadError::Disk { .. }) => return Again::Later,
            Err(error) => error,
        };
        let next = if let ReadError::NoSegment(_) = error {
            // As for one that expires: nothing is written, and it is not finished.
            "it stays in the spool, and is looked at again at the next start"
        } else {
            let damaged = |done: &DoneField| DoneField {
                recipient: done.recipient,
                outcome: DoneOutcome::Damaged,
            };
            let done: Vec<_> = telling.done.iter().map(damaged).collect();
            self.done(now, queue_id, &done);
            self.notification_over(now, queue_id);
            "its sender is not told"
        };
        self.report(Fact::SpoolDamaged {
            log: location.log,
            what: format!(
                "message {queue_id} is to be told of and cannot be read: {error}; {next}"
            ),
        });
        Again::Never
    }

    /// A notification is committed, or never will be.
    pub(in crate::core) fn notified(
        &mut self,
        now: Now,
        pending: Pending,
        notification: Option<QueueId>,
    ) {
        self.counters.notifications += u64::from(notification.is_some());
        for (about, done) in pending.about {
            if let Some(notification) = notification {
                self.report(Fact::Notified {
                    queue_id: about,
                    notification,
                });
                self.done(now, about, &done);
            }
            self.notification_over(now, about);
        }
    }
}
