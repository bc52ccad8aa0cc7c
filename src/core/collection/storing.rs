//! The messages of a collection: from their first octet to stable storage.
//!
//! What a header section says decides for whom a message is before anything of it is
//! stored. So it is held until it is whole, and no longer.

use std::sync::Arc;

use spool_format::NoteField;

use super::{Collection, Sealed};
use crate::core::common::{Common, Waiting};
use crate::core::copies::Copies;
use crate::core::incoming::Incoming;
use crate::mail::{Address, Envelope, ForwardPath, Recipient, ReversePath, Sender};
use crate::pop3::mailbox::Task;
use crate::pop3::memory::{DUPLICATES_TAG, Deed, Digester, Identity, Known, UIDL_TAG, time_value};
use crate::pop3::recipients::HeaderBuffer;
use crate::pop3::{Entry, MessageNumber, notice, trace};
use crate::report::Fact;
use crate::spool::log::Refused;
use crate::spool::message::BodyFacts;
use crate::time::Now;
use crate::wire::text::MessageFacts;

/// Received lines of a message that goes in circles, as for mail by SMTP.
const HOPS_MAX: u32 = 100;

/// A message that is coming.
pub(super) enum Current {
    /// None, or one that is read over.
    None,
    /// Its header section is not whole.
    Header { entry: Entry, buffer: HeaderBuffer },
    /// It is on its way into the log.
    Storing(Box<Storing>),
    /// It is read over: each of its recipients has it.
    Duplicate(Entry),
    /// The header section of one that is too large.
    Notice { entry: Entry, header: Vec<u8> },
}

pub(super) struct Storing {
    entry: Entry,
    pub(super) incoming: Incoming,
    /// For a message without unique-id.
    digester: Option<Digester>,
    /// Keys of the notes about its recipients.
    recipient_keys: Vec<Box<[u8]>>,
}

impl Collection {
    /// A message is on stable storage.
    pub(in crate::core) fn stored(&mut self, now: Now, common: &mut Common, number: MessageNumber) {
        let Some(sealed) = self.pending.remove(&number) else {
            return;
        };
        match sealed.deed {
            Deed::Collected => {
                self.tally.collected += 1;
                self.tally.octets += sealed.octets;
                if self.is_over_link(common) {
                    common.link.took(sealed.octets);
                }
                if self.order.collector.policy.may_go(now.wall, now.wall) {
                    if let Some(digest @ Identity::Digest(_)) = sealed.identity {
                        self.digests_told.insert(number, digest);
                    }
                    self.delete(now, number);
                } else {
                    self.tally.kept += 1;
                }
            }
            Deed::Noticed => self.tally.noticed += 1,
            Deed::Looping => {}
        }
        self.go_on(now, common);
        self.settle(now, common);
    }

    /// A message could not be written: the log is closed.
    pub(in crate::core) fn not_stored(&mut self, common: &mut Common, number: MessageNumber) {
        self.pending.remove(&number);
        self.give_up(common, "the spool cannot be written".to_owned());
    }

    pub(super) fn begin_message(&mut self, number: MessageNumber) {
        self.current = match self.asked.remove(&number) {
            Some(Task::Collect(entry)) => Current::Header {
                entry,
                buffer: HeaderBuffer::default(),
            },
            Some(Task::Notice(entry)) => Current::Notice {
                entry,
                header: Vec::new(),
            },
            Some(Task::Delete(_)) | None => Current::None,
        };
    }

    pub(super) fn text(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        match &mut self.current {
            Current::None | Current::Duplicate(_) => {}
            Current::Notice { header, .. } => {
                let room = crate::pop3::recipients::HEADER_BYTES_MAX - header.len();
                header.extend_from_slice(&octets[..octets.len().min(room)]);
            }
            Current::Header { buffer, .. } => {
                if buffer.push(octets) {
                    self.header_known(now, common);
                }
            }
            Current::Storing(storing) => {
                if let Some(digester) = &mut storing.digester {
                    digester.update(octets);
                }
                if let Err(refused) = storing.incoming.append(now, &mut common.log, octets) {
                    self.no_room(common, &refused);
                }
            }
        }
    }

    /// The header section is there: for whom the message is, and whether they have it.
    fn header_known(&mut self, now: Now, common: &mut Common) {
        let Current::Header { entry, buffer } = std::mem::replace(&mut self.current, Current::None)
        else {
            return;
        };
        let collector = Arc::clone(&self.order.collector);
        let octets = buffer.into_octets();
        let mut addressing = collector.rules.addressing(&octets);
        let recipient_keys = common.without_duplicates(now.wall, &collector, &mut addressing);
        if addressing.recipients.is_empty() {
            self.current = Current::Duplicate(entry);
            return;
        }
        let only = match addressing.recipients.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        let mut envelope = envelope(addressing.reverse_path, addressing.recipients);
        let copy = collector.copies.iter().map(Copies::recipient);
        envelope.recipients.extend(copy);
        let client = Some(self.address.ip());
        let declared = Some(entry.octets);
        let begun = Incoming::begin(now, &mut common.log, envelope, declared, client);
        let mut incoming = match begun {
            Ok(incoming) => incoming,
            Err(refused) => return self.no_room(common, &refused),
        };
        let server = collector.host.to_string();
        let line = trace::line(&trace::Facts {
            server: &server,
            hostname: &common.settings.hostname,
            only_recipient: only.as_ref(),
            queue_id: incoming.queue_id(),
            time: now.wall,
        });
        // Or there was no unique-id in an earlier session, and it may be known by digest.
        let digests = entry.uid.is_none() || !self.digests.is_empty();
        let mut digester = digests.then(Digester::default);
        if let Some(digester) = &mut digester {
            digester.update(&octets);
        }
        let stored = incoming
            .append(now, &mut common.log, &line)
            .and_then(|()| incoming.append(now, &mut common.log, &octets));
        self.current = Current::Storing(Box::new(Storing {
            entry,
            incoming,
            digester,
            recipient_keys,
        }));
        if let Err(refused) = stored {
            self.no_room(common, &refused);
        }
    }

    pub(super) fn end_message(
        &mut self,
        now: Now,
        common: &mut Common,
        number: MessageNumber,
        facts: &MessageFacts,
    ) {
        if let Current::Header { .. } = self.current {
            // It has no body, and no empty line that would end its header section.
            self.header_known(now, common);
        }
        match std::mem::replace(&mut self.current, Current::None) {
            Current::None | Current::Header { .. } => {}
            Current::Duplicate(entry) => self.duplicate(now, common, &entry),
            Current::Notice { entry, header } => self.notice(now, common, &entry, &header),
            Current::Storing(storing) => self.seal(now, common, number, *storing, facts),
        }
        self.go_on(now, common);
    }

    /// Each recipient has this message: it counts as collected.
    fn duplicate(&mut self, now: Now, common: &mut Common, entry: &Entry) {
        self.tally.duplicates += 1;
        if let Some(uid) = &entry.uid {
            let known = Known {
                deed: Deed::Collected,
                at: now.wall,
            };
            let key = Identity::Uid(uid.clone()).key(&self.order.collector.account);
            common.remember(now, UIDL_TAG, &key, &known.value());
        }
        if self.order.collector.policy.may_go(now.wall, now.wall) {
            self.delete_later.push(entry.number);
        } else {
            self.tally.kept += 1;
        }
    }

    fn seal(
        &mut self,
        now: Now,
        common: &mut Common,
        number: MessageNumber,
        storing: Storing,
        facts: &MessageFacts,
    ) {
        let Storing {
            entry,
            incoming,
            digester,
            recipient_keys,
        } = storing;
        let account = &self.order.collector.account;
        let digest = digester.map(Digester::finish);
        let uid = entry.uid.clone().map(Identity::Uid);
        let identity = uid.or_else(|| digest.clone());
        if facts.hops > HOPS_MAX {
            incoming.abandon(&mut common.log);
            self.tally.left += 1;
            if let Some(identity @ Identity::Uid(_)) = &identity {
                let known = Known {
                    deed: Deed::Looping,
                    at: now.wall,
                };
                common.remember(now, UIDL_TAG, &identity.key(account), &known.value());
            }
            let what = format!(
                "a message in the mailbox {} has {} Received lines: it goes in circles, and stays \
                 on the server; look where mail for its recipients is sent to",
                account.as_str(),
                facts.hops
            );
            return common.report(Fact::Trouble { what });
        }
        if let Some(digest) = digest.filter(|digest| self.digests.contains(digest)) {
            // Collected by a session that was cut before the server has deleted.
            incoming.abandon(&mut common.log);
            self.digests_told.insert(number, digest);
            return self.delete(now, number);
        }
        let known = Known {
            deed: Deed::Collected,
            at: now.wall,
        };
        let value = known.value();
        let time = time_value(now.wall);
        let key = identity.as_ref().map(|identity| identity.key(account));
        let uidl = key.iter().map(|key| NoteField {
            tag: UIDL_TAG,
            key,
            value: Some(&value),
        });
        let recipients = recipient_keys.iter().map(|key| NoteField {
            tag: DUPLICATES_TAG,
            key,
            value: Some(&time),
        });
        let notes: Vec<_> = uidl.chain(recipients).collect();
        let body = BodyFacts {
            form: facts.form,
            ends_with_crlf: facts.ends_with_crlf,
            eight_bit: facts.eight_bit,
        };
        let octets = facts.octets;
        let waiting = Waiting::Collection(self.flow.connection(), number);
        match common.seal_noted(now, incoming, body, &notes, waiting) {
            Ok(()) => {
                let deed = Deed::Collected;
                let sealed = Sealed {
                    identity,
                    deed,
                    octets,
                };
                self.pending.insert(number, sealed);
            }
            Err((refused, _)) => self.no_room(common, &refused),
        }
    }

    /// Tells the user that a message is too large.
    pub(super) fn notice(&mut self, now: Now, common: &mut Common, entry: &Entry, header: &[u8]) {
        let collector = Arc::clone(&self.order.collector);
        let addressing = collector.rules.addressing(header);
        let envelope = envelope(ReversePath::Null, addressing.recipients.clone());
        let begun = Incoming::begin(now, &mut common.log, envelope, None, None);
        let mut incoming = match begun {
            Ok(incoming) => incoming,
            Err(refused) => return self.no_room(common, &refused),
        };
        let octets = notice::message(
            &notice::Facts {
                account: collector.account.as_str(),
                collector: &collector.name,
                hostname: &common.settings.hostname,
                recipients: &addressing.recipients,
                octets: entry.octets,
                size_max: collector.policy.limit(),
                queue_id: incoming.queue_id(),
                time: now.wall,
            },
            header,
        );
        if let Err(refused) = incoming.append(now, &mut common.log, &octets) {
            incoming.abandon(&mut common.log);
            return self.no_room(common, &refused);
        }
        let known = Known {
            deed: Deed::Noticed,
            at: now.wall,
        };
        let value = known.value();
        let identity = entry.uid.clone().map(Identity::Uid);
        let key = identity.as_ref().map(|i| i.key(&collector.account));
        let notes: Vec<_> = key
            .iter()
            .map(|key| NoteField {
                tag: UIDL_TAG,
                key,
                value: Some(&value),
            })
            .collect();
        let body = BodyFacts {
            form: notice::form(&octets),
            ends_with_crlf: true,
            eight_bit: !octets.is_ascii(),
        };
        let number = entry.number;
        let waiting = Waiting::Collection(self.flow.connection(), number);
        match common.seal_noted(now, incoming, body, &notes, waiting) {
            Ok(()) => {
                let sealed = Sealed {
                    identity,
                    deed: Deed::Noticed,
                    octets: octets.len() as u64,
                };
                self.pending.insert(number, sealed);
            }
            Err((refused, _)) => self.no_room(common, &refused),
        }
    }

    /// The spool takes no more: what is collected so far stays, the rest comes another
    /// time.
    fn no_room(&mut self, common: &mut Common, refused: &Refused) {
        if let Refused::NoRoom(_) = refused {
            common.refused_for_room(refused);
        }
        self.give_up(common, format!("the spool takes no more: {refused}"));
    }
}

fn envelope(reverse_path: ReversePath, recipients: Vec<Address>) -> Envelope {
    let mut sender = Sender::new(reverse_path);
    sender.smtputf8 =
        !sender.reverse_path.is_ascii() || recipients.iter().any(|address| !address.is_ascii());
    let recipients = recipients
        .into_iter()
        .map(|address| Recipient::new(ForwardPath(address)))
        .collect();
    Envelope { sender, recipients }
}
