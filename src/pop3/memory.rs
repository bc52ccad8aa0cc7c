//! What is remembered of messages that were collected, as it is kept in the spool.
//!
//! Small state that is committed together with the message ([`UIDL_TAG`],
//! [`DUPLICATES_TAG`] of spool-format's notes): that a message of a mailbox was taken,
//! and that a Message-ID was for a recipient. Keys begin with the name of the account,
//! so that the state of one can be told from that of others.
//!
//! What it does not do: it writes nothing.

use sha2::{Digest as _, Sha256};

use super::listing::Uid;
use crate::mail::Address;
use crate::time::WallTime;

/// The tag of notes about messages of a mailbox.
pub const UIDL_TAG: u16 = 1;

/// The tag of notes about Message-ID and recipient.
pub const DUPLICATES_TAG: u16 = 2;

/// A mailbox, by user and server: by what the provider knows it, whatever the operator
/// calls it. The port is no part of it: with and without TLS it is the same mailbox.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Account(Box<str>);

impl Account {
    /// The host in lower case. Control characters, of which one ends the name in a key,
    /// are written as `?`.
    #[must_use]
    pub fn new(user: &str, host: &str) -> Self {
        let text = format!("{user}@{}", host.to_ascii_lowercase());
        Self(text.replace(char::is_control, "?").into())
    }

    /// `user@host`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all keys of this account begin with.
    #[must_use]
    pub fn key_prefix(&self) -> Box<[u8]> {
        [self.0.as_bytes(), b"\0"].concat().into()
    }

    fn key(&self, rest: &[u8]) -> Box<[u8]> {
        [self.0.as_bytes(), b"\0", rest].concat().into()
    }
}

/// The name of the account in a key.
#[must_use]
pub fn account_of_key(key: &[u8]) -> Option<Account> {
    let end = memchr::memchr(0, key)?;
    let text = std::str::from_utf8(&key[..end]).ok()?;
    Some(Account(text.into()))
}

/// By what a message of a mailbox is known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Identity {
    /// What the server calls it.
    Uid(Uid),
    /// What it says, for servers without UIDL.
    Digest([u8; 16]),
}

/// In keys, a digest has this before it: no unique-id can have it.
const DIGEST_MARK: u8 = b' ';

impl Identity {
    /// The key of the note about it.
    #[must_use]
    pub fn key(&self, account: &Account) -> Box<[u8]> {
        match self {
            Self::Uid(uid) => account.key(uid.as_str().as_bytes()),
            Self::Digest(digest) => account.key(&[&[DIGEST_MARK], &digest[..]].concat()),
        }
    }

    /// From a key of this account.
    #[must_use]
    pub fn of_key(account: &Account, key: &[u8]) -> Option<Self> {
        let rest = key.strip_prefix(&*account.key_prefix())?;
        match rest.split_first() {
            Some((&DIGEST_MARK, digest)) => Some(Self::Digest(digest.try_into().ok()?)),
            _ => Uid::new(rest).map(Self::Uid),
        }
    }
}

/// Makes the digest of a message from its octets as they are stored.
#[derive(Clone, Default)]
pub struct Digester(Sha256);

impl std::fmt::Debug for Digester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// More of the message.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// All of it was handed in.
    #[must_use]
    pub fn finish(self) -> Identity {
        Identity::Digest(shortened(&self.0.finalize()))
    }
}

/// The first half: 2⁶⁴ messages of one mailbox until two agree by chance.
fn shortened(digest: &[u8]) -> [u8; 16] {
    digest[..16].try_into().expect("SHA-256 has 32 octets")
}

/// The key by which a duplicate is found: the same Message-ID for the same recipient.
#[must_use]
pub fn duplicate_key(account: &Account, message_id: &[u8], recipient: &Address) -> Box<[u8]> {
    let mut digest = Sha256::new();
    digest.update(message_id);
    digest.update(b"\0");
    digest.update(recipient.as_str().to_ascii_lowercase().as_bytes());
    account.key(&shortened(&digest.finalize()))
}

/// What was done with a message of a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// It is in the spool, or was.
    Collected,
    /// It is too large, and the user was told.
    Noticed,
    /// It goes in circles and is left where it is.
    Looping,
}

/// What is known of a message of a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// What was done with it.
    pub deed: Deed,
    /// When.
    pub at: WallTime,
}

impl Known {
    /// As the value of a note: an octet for the deed, the time in milliseconds.
    #[must_use]
    pub fn value(self) -> [u8; 9] {
        let deed = match self.deed {
            Deed::Collected => b'c',
            Deed::Noticed => b'n',
            Deed::Looping => b'l',
        };
        let mut value = [deed; 9];
        value[1..].copy_from_slice(&time_value(self.at));
        value
    }

    /// From the value of a note.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let (&deed, time) = value.split_first()?;
        let deed = match deed {
            b'c' => Deed::Collected,
            b'n' => Deed::Noticed,
            b'l' => Deed::Looping,
            _ => return None,
        };
        Some(Self {
            deed,
            at: time_of_value(time)?,
        })
    }
}

/// A time as the value of a note: milliseconds since 1970.
#[must_use]
pub fn time_value(time: WallTime) -> [u8; 8] {
    time.as_millis().to_le_bytes()
}

/// From the value of a note.
#[must_use]
pub fn time_of_value(value: &[u8]) -> Option<WallTime> {
    let octets = value.try_into().ok()?;
    Some(WallTime::from_millis(i64::from_le_bytes(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read_as_they_were_written() {
        let account = Account::new("anna\0x", "POP.isp.example");
        assert_eq!(account.as_str(), "anna?x@pop.isp.example");
        let mut digester = Digester::default();
        digester.update(b"Subject: x\r\n\r\n");
        for identity in [
            Identity::Uid(Uid::new(b"0000001a4e3c").expect("a unique-id")),
            digester.finish(),
        ] {
            let key = identity.key(&account);
            assert_eq!(account_of_key(&key).as_ref(), Some(&account));
            assert_eq!(Identity::of_key(&account, &key), Some(identity));
            let other = Account::new("anna", "pop.isp.example");
            assert_eq!(Identity::of_key(&other, &key), None);
        }
        for deed in [Deed::Collected, Deed::Noticed, Deed::Looping] {
            let known = Known {
                deed,
                at: WallTime::from_millis(1_795_351_597_250),
            };
            assert_eq!(Known::of_value(&known.value()), Some(known));
        }
        assert_eq!(Known::of_value(b""), None);
        assert_eq!(Known::of_value(b"x12345678"), None);
        assert_eq!(Known::of_value(b"c1234567"), None);
    }

    #[test]
    fn a_duplicate_is_of_one_recipient() {
        let account = Account::new("a", "b");
        let key = |id: &str, to: &str| {
            duplicate_key(&account, id.as_bytes(), &to.parse().expect("an address"))
        };
        assert_eq!(key("x@y", "A@b.example"), key("x@y", "a@B.example"));
        assert_ne!(key("x@y", "a@b.example"), key("x@y", "c@b.example"));
        assert_ne!(key("x@y", "a@b.example"), key("x@z", "a@b.example"));
    }
}
