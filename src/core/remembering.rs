//! What a data core remembers of mailboxes, in the notes of its log.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashSet;
use spool_format::NoteField;

use crate::core::collector::PopMailbox;
use crate::core::common::Common;
use crate::pop3::memory::{
    Account, DUPLICATES_TAG, Deed, Identity, Known, UIDL_TAG, duplicate_key, time_of_value,
};
use crate::pop3::recipients::{Addressing, Mailbox};
use crate::pop3::{ENTRIES_MAX, Entry, Uid};
use crate::time::{Now, WallTime};

/// How long the digest of a message without unique-id is remembered, where the server
/// has not confirmed that it deleted the message. A provider keeps no mailbox open that
/// long that nobody collects.
const DIGEST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

impl Common {
    /// Keeps a note, durable with the next batch. A closed log was reported, and takes
    /// no message either.
    pub(super) fn remember(&mut self, now: Now, tag: u16, key: &[u8], value: &[u8]) {
        let value = Some(value);
        let _ = self.log.note(now, NoteField { tag, key, value });
    }

    /// Takes a note back.
    pub(super) fn forget(&mut self, now: Now, tag: u16, key: &[u8]) {
        let value = None;
        let _ = self.log.note(now, NoteField { tag, key, value });
    }

    /// What is known of the messages of a mailbox.
    pub(super) fn remembered(&self, account: &Account) -> BTreeMap<Identity, Known> {
        let prefix = account.key_prefix();
        let notes = self.log.notes_of(UIDL_TAG, &prefix);
        notes
            .filter_map(|(key, value)| {
                Some((Identity::of_key(account, key)?, Known::of_value(value)?))
            })
            .collect()
    }

    /// Whether a message of a mailbox is known as collected and is not on stable storage, so
    /// that this must not be believed: it was being written when its session broke off.
    pub(super) fn awaits_message(&self, account: &Account) -> bool {
        let prefix = account.key_prefix();
        let mut awaited = self.log.awaited_notes(UIDL_TAG, &prefix);
        awaited
            .any(|value| Known::of_value(value).is_some_and(|known| known.deed == Deed::Collected))
    }

    /// Forgets what the server no longer has, and what is too old to matter.
    pub(super) fn forget_gone(
        &mut self,
        now: Now,
        collector: &PopMailbox,
        known: &BTreeMap<Identity, Known>,
        entries: &[Entry],
    ) {
        let account = &collector.account;
        let listed: HashSet<&str> = entries
            .iter()
            .filter_map(|entry| entry.uid.as_ref().map(Uid::as_str))
            .collect();
        // A listing that was cut does not say what is gone; one without unique-ids says
        // nothing of them.
        let says = entries.len() < ENTRIES_MAX && (entries.is_empty() || !listed.is_empty());
        let gone = |identity: &Identity, known: &Known| match identity {
            Identity::Uid(uid) => says && !listed.contains(uid.as_str()),
            Identity::Digest(_) => now.wall.since(known.at) > DIGEST_LIFETIME,
        };
        for (identity, _) in known
            .iter()
            .filter(|(identity, known)| gone(identity, known))
        {
            self.forget(now, UIDL_TAG, &identity.key(account));
        }
        let old: Vec<Box<[u8]>> = self
            .log
            .notes_of(DUPLICATES_TAG, &account.key_prefix())
            .filter(|(_, value)| !is_fresh(now.wall, collector.duplicates, value))
            .map(|(key, _)| key.into())
            .collect();
        for key in old {
            self.forget(now, DUPLICATES_TAG, &key);
        }
    }

    /// Takes out of the recipients who has the message already. Gives the keys of the
    /// others.
    pub(super) fn without_duplicates(
        &self,
        now: WallTime,
        collector: &PopMailbox,
        addressing: &mut Addressing,
    ) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        let (Mailbox::Domain(_), Some(message_id), false) = (
            &collector.rules.mailbox,
            &addressing.message_id,
            collector.duplicates.is_zero(),
        ) else {
            return keys;
        };
        addressing.recipients.retain(|recipient| {
            let key = duplicate_key(&collector.account, message_id, recipient);
            let has_it = self
                .log
                .note_value(DUPLICATES_TAG, &key)
                .is_some_and(|value| is_fresh(now, collector.duplicates, value));
            if !has_it {
                keys.push(key);
            }
            !has_it
        });
        keys
    }
}

fn is_fresh(now: WallTime, lifetime: Duration, value: &[u8]) -> bool {
    time_of_value(value).is_some_and(|at| now.since(at) <= lifetime)
}
