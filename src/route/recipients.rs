//! Which addresses a customer has (FEATURES R7): a spool must not accept what it would
//! have to return.
//!
//! A [`RecipientList`] is made from the text of a file and never changed; all cores share
//! it. It costs its text, lower case, and some ten octets for each address; asking it
//! about an address of usual length allocates nothing, and takes five looks into a hash
//! table at most.
//!
//! # The text
//! One entry a line. Empty lines, and those that begin with `#`, are nothing. What stands
//! behind white space is not looked at, so that a map of Postfix can be used as it is.
//! - `bob@branch.example`: this address.
//! - `bob`: this local-part at each of the customer's domains.
//! - `@branch.example`: every address of this domain.
//!
//! # What counts as the same
//! - Upper and lower case of ASCII, as everywhere but in RFC 5321 §2.4.
//! - `"bob"` and `bob`: the quotes are no part of the name.
//! - `bob+news` where `bob` is listed: whoever gives out such an address counts on it.
//! - `postmaster` is always there (RFC 5321 §4.5.1).
//!
//! What this module does not do: it opens no file and asks nobody.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::{Build, CustomerName, Scope};
use crate::mail::{Address, Domain};

/// Largest text of a list: a million addresses of usual length, and room for comments.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// Longest line. An address has 511 octets at most; behind it may stand the value of a map.
pub const LINE_BYTES_MAX: usize = 2000;

/// What separates a sub-address from the name before it.
const TAG: u8 = b'+';

/// The address that everybody has.
const POSTMASTER: &[u8] = b"postmaster";

/// A line that is no entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ListFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub why: String,
}

/// The addresses of one customer. The default: only the postmaster.
#[derive(Clone, Debug, Default)]
pub struct RecipientList {
    /// The keys of all entries, one behind the other.
    keys: Box<str>,
    entries: HashTable<Span>,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    length: u16,
}

/// A key: the name, `@`, the domain. Without a domain it is for all, without a name it is
/// all of a domain. A domain has no `@`, so that no two entries have one key.
type Key = SmallVec<[u8; 128]>;

impl RecipientList {
    /// From the text of a file, for a customer with these domains.
    ///
    /// # Errors
    /// The first line that is no entry. An address at a domain that is not the customer's
    /// is none: a list that silently lacks it would refuse mail.
    pub fn parse(text: &str, scopes: &[Scope]) -> Result<Self, ListFault> {
        let mut list = Builder::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, number) in text.lines().zip(1..) {
            list.line(line, scopes)
                .map_err(|why| ListFault { line: number, why })?;
        }
        Ok(Self {
            keys: list.keys.into_boxed_str(),
            entries: list.entries,
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether mail for this address is to be taken.
    #[must_use]
    pub fn has(&self, address: &Address) -> bool {
        let domain = address.domain_str().as_bytes();
        let name = name_of(address.local_part());
        let name = name.as_bytes();
        let base = (name.iter().position(|b| *b == TAG)).filter(|at| *at > 0);
        is_postmaster(address)
            || self.has_key(name, domain)
            || base.is_some_and(|at| self.has_key(&name[..at], domain))
            || self.has_key(name, b"")
            || base.is_some_and(|at| self.has_key(&name[..at], b""))
            || self.has_key(b"", domain)
    }

    fn has_key(&self, name: &[u8], domain: &[u8]) -> bool {
        let key = key(name, domain);
        self.entries
            .find(hash(&key), |span| span.of(&self.keys) == &key[..])
            .is_some()
    }
}

/// Whether it is the address that everybody has.
#[must_use]
pub fn is_postmaster(address: &Address) -> bool {
    let name = name_of(address.local_part());
    name.as_bytes().eq_ignore_ascii_case(POSTMASTER)
}

/// All lists, by their customers. Who is not in it takes every address.
#[derive(Clone, Debug, Default)]
pub struct RecipientLists(HashMap<CustomerName, Arc<RecipientList>, Build>);

impl RecipientLists {
    /// The list of a customer, if it has one.
    #[must_use]
    pub fn of(&self, customer: &CustomerName) -> Option<&Arc<RecipientList>> {
        self.0.get(customer)
    }
}

impl FromIterator<(CustomerName, Arc<RecipientList>)> for RecipientLists {
    fn from_iter<I: IntoIterator<Item = (CustomerName, Arc<RecipientList>)>>(lists: I) -> Self {
        Self(lists.into_iter().collect())
    }
}

#[derive(Default)]
struct Builder {
    keys: String,
    entries: HashTable<Span>,
}

impl Builder {
    fn line(&mut self, line: &str, scopes: &[Scope]) -> Result<(), String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("is longer than {LINE_BYTES_MAX} octets"));
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let entry = entry_of(line);
        let wrong = |why: &dyn std::fmt::Display| format!("{:?} {why}", excerpt(entry));
        let (name, domain) = match entry.rsplit_once('@') {
            // A quoted name may hold an `@` and stand alone.
            Some(_) if entry.starts_with('"') && entry.ends_with('"') => (entry, None),
            None => (entry, None),
            Some((name, domain)) => {
                let domain: Domain = domain.parse().map_err(|error| wrong(&error))?;
                if !scopes.iter().any(|scope| covers(scope, &domain)) {
                    return Err(wrong(&"is at no domain of this customer"));
                }
                (name, Some(domain))
            }
        };
        if !name.is_empty() {
            let any = || "localhost".parse().expect("localhost is a domain");
            let at = domain.clone().unwrap_or_else(any);
            Address::new(name, &at).map_err(|error| wrong(&error))?;
        }
        let domain = domain.as_ref().map_or("", Domain::as_str);
        self.insert(&key(name_of(name).as_bytes(), domain.as_bytes()));
        Ok(())
    }

    fn insert(&mut self, key: &[u8]) {
        let text = std::str::from_utf8(key).expect("made of texts, ASCII changed only");
        let found = |span: &Span| span.of(&self.keys) == key;
        if self.entries.find(hash(key), found).is_some() {
            return;
        }
        let span = Span {
            at: u32::try_from(self.keys.len()).expect("below TEXT_BYTES_MAX"),
            length: u16::try_from(key.len()).expect("an address is short"),
        };
        self.keys.push_str(text);
        let keys = &self.keys;
        self.entries
            .insert_unique(hash(key), span, |span| hash(span.of(keys)));
    }
}

impl Span {
    fn of(self, keys: &str) -> &[u8] {
        &keys.as_bytes()[self.at as usize..][..usize::from(self.length)]
    }
}

fn hash(key: &[u8]) -> u64 {
    Build::default().hash_one(key)
}

fn key(name: &[u8], domain: &[u8]) -> Key {
    let mut key = Key::new();
    key.extend_from_slice(name);
    key.push(b'@');
    key.extend_from_slice(domain);
    key.make_ascii_lowercase();
    key
}

/// A local-part without its quotes.
fn name_of(local_part: &str) -> Cow<'_, str> {
    let quoted = local_part
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = quoted else {
        return Cow::Borrowed(local_part);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut name = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { chars.next() } else { Some(c) };
        name.extend(c);
    }
    Cow::Owned(name)
}

/// What stands before the first white space that is not in quotes.
fn entry_of(line: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    let end = line.find(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted && c.is_whitespace(),
        }
        false
    });
    &line[..end.unwrap_or(line.len())]
}

/// As much of a faulty entry as a line of the log needs.
fn excerpt(entry: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 80;
    &entry[..entry.floor_char_boundary(SHOWN_BYTES_MAX)]
}

fn covers(scope: &Scope, domain: &Domain) -> bool {
    match scope {
        Scope::Name(name) => name == domain,
        Scope::Below(top) => {
            let below = domain.as_str().strip_suffix(top.as_str());
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests;
