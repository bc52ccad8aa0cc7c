//! From what recovery found to the queue of a data core.

use spool_format::{LiveMessage, LogId, NameId, NoteField, Recovered};

use crate::core::CoreId;
use crate::core::clocks;
use crate::core::collector;
use crate::core::detours::Detours;
use crate::core::settings::Settings;
use crate::core::stopped::stop_again;
use crate::mail::{DeliverBy, DeliverByMode, HoldUntil, Priority, QueueId, RecipientIndex};
use crate::pop3::memory::{DUPLICATES_TAG, UIDL_TAG, account_of_key};
use crate::queue::{
    DestinationId, FiledRecipient, Filing, HoldState, MessageFacts, Recipients, Schedule, Told,
};
use crate::route::detour::Detour;
use crate::spool::log::Log;
use crate::spool::recovery::Restarted;
use crate::time::{Now, WallTime};

/// What came into the queue of a core at its start.
#[derive(Debug, Default)]
pub struct Enqueued {
    /// How many messages.
    pub messages: usize,
    /// Those of them that the operator has sent another way.
    pub detours: Detours,
    /// Of those, how many go by the routes, since this version cannot read where to.
    pub strayed: usize,
    /// Queues that the operator had stopped, and to which nothing leads any more.
    pub unstopped: Vec<String>,
    /// Messages that are not in the queue, and are ended as soon as the core runs.
    pub broken: Vec<Broken>,
}

/// A message that is sealed, not whole, and never will be: no delivery is tried.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub(super) queue_id: QueueId,
    /// Who is not done.
    pub(super) recipients: Recipients,
}

/// Puts the messages of the logs that a core owns into its queue.
///
/// Those that are broken for good are given back: their senders are told at once if their
/// envelopes can be read, and they are ended. A client may never have heard that such a
/// message was accepted, and may have sent it again: better one notification too many than
/// none. What is missing of others may be there at another start; they are queued, and
/// whoever takes one to deliver it finds that out.
pub fn enqueue(
    now: Now,
    queue: &mut Schedule,
    settings: &Settings,
    restarted: &Restarted,
    owned: &[LogId],
) -> Enqueued {
    let recovered = &restarted.recovered;
    let first = QueueId::from_u64(recovered.queue_id_next(queue.core()));
    queue.found_before(first, clocks::notes(recovered));
    let live = restarted.segments(owned).map(|facts| facts.live as usize);
    let mut files = Files {
        filing: queue.filing(now, live.sum()),
        settings,
        recovered: &restarted.recovered,
        destinations: Vec::new(),
        writer: None,
        recipients: Vec::new(),
        enqueued: Enqueued::default(),
    };
    for message in restarted.messages(owned) {
        files.message(message);
    }
    let mut lost = Vec::new();
    let broken = restarted.recovered.broken.iter();
    for broken in broken.filter(|broken| owned.contains(&broken.message.seal.log)) {
        let message = &broken.message;
        if restarted.is_lost(broken) {
            let pending = restarted.recovered.pending(message);
            let pending: Vec<_> = pending
                .map(|(number, _)| RecipientIndex(number.0))
                .collect();
            lost.extend(Recipients::new(&pending).map(|recipients| Broken {
                queue_id: QueueId::from_u64(message.queue_id),
                recipients,
            }));
        } else {
            files.message(message);
        }
    }
    files.filing.finish();
    let mut enqueued = files.enqueued;
    enqueued.broken = lost;
    enqueued.unstopped = stop_again(now, queue, settings, &restarted.recovered);
    enqueued
}

/// Takes over what is remembered of mailboxes whose home this core is now, and what
/// stands in logs of other cores: their number was another one. Until the copies are on
/// stable storage the old notes say the same.
pub fn adopt_notes(
    now: Now,
    log: &mut Log,
    restarted: &Restarted,
    owned: &[LogId],
    core: CoreId,
    data_cores: u8,
) {
    for note in &restarted.recovered.notes {
        let of_mailbox = matches!(note.tag, UIDL_TAG | DUPLICATES_TAG);
        if !of_mailbox || owned.contains(&note.at.log) {
            continue;
        }
        let home =
            account_of_key(&note.key).map(|account| collector::home(account.as_str(), data_cores));
        if home == Some(core) && note.value.is_some() {
            // A log that takes nothing takes no message either.
            let _ = log.note(
                now,
                NoteField {
                    tag: note.tag,
                    key: &note.key,
                    value: note.value.as_deref(),
                },
            );
        }
    }
}

/// Messages on their way into the queue.
struct Files<'a> {
    filing: Filing<'a>,
    settings: &'a Settings,
    recovered: &'a Recovered,
    /// By the number of its name, where the mail of a domain goes.
    destinations: Vec<Option<DestinationId>>,
    /// Whose names these are.
    writer: Option<u8>,
    /// Of the message at hand.
    recipients: Vec<FiledRecipient>,
    /// So far.
    enqueued: Enqueued,
}

impl Files<'_> {
    fn message(&mut self, message: &LiveMessage) {
        self.enqueued.messages += 1;
        let detour = self.detour(message);
        let hold_until = message.hold_until_ms().map(WallTime::from_millis);
        let facts = MessageFacts {
            queue_id: QueueId::from_u64(message.queue_id),
            location: message.seal,
            octets: message.octets,
            arrival: WallTime::from_millis(message.arrival_ms),
            priority: Priority::new(message.priority).unwrap_or_default(),
            deliver_by: message.deadline().map(|deadline| DeliverBy {
                deadline: WallTime::from_millis(deadline.at_ms),
                mode: match deadline.mode {
                    spool_format::DeliverByMode::Return => DeliverByMode::Return,
                    spool_format::DeliverByMode::Notify => DeliverByMode::Notify,
                },
                // Of use to the next hop only, and read from the envelope for that.
                trace: false,
            }),
            hold_until: hold_until.map(HoldUntil::stored),
            hold: if message.held {
                HoldState::Held
            } else {
                HoldState::Free
            },
        };
        self.recipients.clear();
        for (number, domain) in self.recovered.pending(message) {
            let attempt = message
                .attempts
                .iter()
                .find(|a| a.recipients.contains(number));
            let recipient = FiledRecipient {
                recipient: RecipientIndex(number.0),
                destination: match &detour {
                    None => self.destination(domain),
                    Some(detour) => self.detoured(detour, domain),
                },
                attempts: attempt.map_or(0, |a| u16::try_from(a.attempts).unwrap_or(u16::MAX)),
                not_before: attempt.map(|a| WallTime::from_millis(a.next_attempt_ms)),
                told: attempt.map_or(Told::NOTHING, |a| a.told),
            };
            self.recipients.push(recipient);
        }
        self.filing.message(&facts, &self.recipients);
    }

    /// Where the operator has sent a message, if anywhere.
    fn detour(&mut self, message: &LiveMessage) -> Option<Detour> {
        match Detour::kept(self.recovered.name(message.next_hop?)) {
            Ok(detour) => {
                let queue_id = QueueId::from_u64(message.queue_id);
                self.enqueued.detours.set(queue_id, Some(&detour));
                Some(detour)
            }
            Err(_) => {
                self.enqueued.strayed += 1;
                None
            }
        }
    }

    /// Where mail of a domain goes on a detour: by the routes if that leads nowhere now.
    fn detoured(&mut self, detour: &Detour, domain: NameId) -> DestinationId {
        let name = self.recovered.name(domain);
        match detour.next_hop(&self.settings.routes, name) {
            Some(next_hop) => self.filing.destination(next_hop),
            None => self.destination(domain),
        }
    }

    /// Where the mail of a domain goes. Messages come writer by writer.
    fn destination(&mut self, domain: NameId) -> DestinationId {
        if self.writer != Some(domain.writer()) {
            self.writer = Some(domain.writer());
            self.destinations.clear();
        }
        let number = domain.number() as usize;
        if self.destinations.len() <= number {
            self.destinations.resize(number + 1, None);
        }
        if let Some(known) = self.destinations[number] {
            return known;
        }
        let next_hop = self.settings.routes.next_hop(self.recovered.name(domain));
        let destination = self.filing.destination(next_hop);
        self.destinations[number] = Some(destination);
        destination
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use spool_format::{BodyForm, RecipientNumber, SEGMENT_HEADER_BYTES, SessionFields, SpoolUuid};

    use super::*;
    use crate::config::{self, surroundings::Surroundings};
    use crate::mail::{Envelope, Recipient, Sender};
    use crate::pop3::memory::Account;
    use crate::queue::{self, CoreNumber, Permits, Take};
    use crate::spool::commit::Ticket;
    use crate::spool::log::{Attempt, Identity, Output, Settings as LogSettings};
    use crate::spool::message::{BodyFacts, Contents, Holding};
    use crate::spool::recovery::Restart;

    const LOG_SETTINGS: LogSettings = LogSettings {
        segment_bytes: 1 << 20,
        size_max: 1 << 30,
        free_min: 0,
    };

    fn identity(log: LogId) -> Identity {
        Identity {
            spool: SpoolUuid([3; 16]),
            log,
        }
    }

    /// What a start finds of a log to which `say` said something.
    fn found(now: Now, say: impl FnOnce(&mut Log)) -> Restarted {
        let mut log = Log::new(identity(LogId(0)), LOG_SETTINGS, 1, 1 << 40);
        say(&mut log);
        log.flush();
        let mut first = None;
        let mut file = vec![0; LOG_SETTINGS.segment_bytes as usize];
        while let Some(output) = log.poll(now) {
            match output {
                Output::SegmentNeeded { header, .. } => {
                    if first.is_none() {
                        first = Some(header.place);
                        file[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode()[..]);
                    }
                    log.segment_ready(header.place.segment);
                }
                Output::Write { offset, bytes, .. } => {
                    let at = offset.0 as usize;
                    file[at..at + bytes.len()].copy_from_slice(&bytes);
                    log.written(Ok(()), bytes);
                }
                Output::Committed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let mut restart = Restart::new(None);
        restart.segment(first.expect("something was said"), &file, None);
        restart.finish()
    }

    fn settings() -> Settings {
        let surroundings = Surroundings {
            host_name: "relay.example".to_owned(),
            cpus: 1,
            credentials_directory: None,
            state_directory: None,
        };
        let config = config::parse("test".as_ref(), "", &surroundings).expect("the defaults");
        crate::runtime::settings::settings(&config, &queue::Ledger::default()).expect("no routes")
    }

    /// A message that was tried so often, and is to be tried again then.
    fn tried(now: Now, log: &mut Log, attempts: u32, next_attempt: WallTime) -> QueueId {
        let envelope = Envelope {
            sender: Sender::new("a@a.example".parse().expect("an address")),
            recipients: vec![Recipient::new("b@b.example".parse().expect("one"))],
        };
        let contents = Contents {
            envelope: &envelope,
            session: SessionFields::default(),
            arrival: now.wall,
            holding: Holding::Free,
            next_hop: None,
        };
        let facts = BodyFacts {
            form: BodyForm::Plain,
            ends_with_crlf: true,
            eight_bit: false,
        };
        let queue_id = log.next_queue_id();
        let message = log.begin(now, queue_id, &contents, None).expect("room");
        (log.seal(now, message, &contents, facts, &[], Ticket(1))).expect("the log is open");
        let attempt = Attempt {
            attempts,
            next_attempt,
            told: Told::NOTHING,
            recipients: &[RecipientNumber(0)],
            error: "",
        };
        (log.attempt(now, queue_id, &attempt)).expect("the log is open");
        queue_id
    }

    /// Who was tried is not tried from the beginning, nor before it is time: else a host
    /// that is down for days never sees mail given up, if this host starts each day.
    #[test]
    fn what_was_tried_has_been_tried_after_a_start() {
        let now = Now::default().after(Duration::from_secs(1_000_000));
        let settings = settings();
        let check = |pause: Duration, waited: Duration, expected: Option<u16>| {
            let mut queue_id = None;
            let restarted = found(now, |log| {
                queue_id = Some(tried(now, log, 3, now.wall + pause));
            });
            let now = now.after(waited);
            let queue_settings = queue::Settings {
                core: CoreNumber(0),
                policies: settings.policies.clone(),
                idle: settings.idle,
                seed: 3,
            };
            let permits = Arc::new(Permits::new(10, 5));
            let mut queue = Schedule::new(queue_settings, permits, now);
            let owned = [LogId(0)];
            let enqueued = enqueue(now, &mut queue, &settings, &restarted, &owned);
            assert_eq!(enqueued.messages, 1);
            queue.timer(now);
            let mut taken = None;
            while let Some(output) = queue.poll() {
                if let queue::Output::Connect { connection, .. } = output
                    && let Take::Job(job) = queue.take(now, connection)
                {
                    assert_eq!(Some(job.queue_id), queue_id);
                    taken = Some(job.attempts);
                }
            }
            assert_eq!(taken, expected, "{pause:?} {waited:?}");
        };
        let minute = Duration::from_secs(60);
        check(10 * minute, 9 * minute, None);
        check(10 * minute, 11 * minute, Some(3));
    }

    /// A mailbox has its home at another core when there are more of them. What was
    /// collected from it is known there, and nothing is collected twice.
    #[test]
    fn what_is_known_of_a_mailbox_goes_where_the_mailbox_goes() {
        const CORES: u8 = 3;
        let now = Now::default().after(Duration::from_secs(1_000_000));
        let accounts: Vec<Account> = (0..12)
            .map(|n| Account::new(&format!("user{n}"), "pop.example"))
            .collect();
        let key = |account: &Account| [&account.key_prefix()[..], b"uid"].concat();
        let keys: Vec<Vec<u8>> = accounts.iter().map(key).collect();
        let note = |key| NoteField {
            tag: UIDL_TAG,
            key,
            value: Some(b"collected"),
        };
        let notes: Vec<_> = keys.iter().map(|key| note(key)).collect();
        let restarted = found(now, |log| {
            for note in notes {
                log.note(now, note).expect("the log is open");
            }
        });
        let mut homes = [0; CORES as usize];
        for core in 0..CORES {
            let owned = [LogId(core)];
            let mut log = restarted.log(identity(LogId(core)), LOG_SETTINGS, &owned, 5, 1 << 40);
            adopt_notes(now, &mut log, &restarted, &owned, CoreId(core), CORES);
            for (account, key) in accounts.iter().zip(&keys) {
                let is_home = collector::home(account.as_str(), CORES) == CoreId(core);
                homes[usize::from(core)] += u32::from(is_home);
                let known = log.note_value(UIDL_TAG, key);
                // The log in which it stands knows it anyway.
                assert_eq!(known.is_some(), is_home || core == 0, "core {core}");
            }
        }
        assert!(homes.iter().all(|&mailboxes| mailboxes > 0), "{homes:?}");
    }
}
