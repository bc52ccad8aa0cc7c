//! Mailboxes and the two paths of an envelope.
//!
//! Relies on [`Domain`]. Invariant: an [`Address`] has an `@`, a checked local-part
//! before it and a checked domain behind it.
//! What this module does not do: it takes no source routes and no angle brackets;
//! `smtp/syntax` removes both.

use std::fmt;
use std::str::FromStr;

use super::{Domain, domain};

/// Longest local-part that we take. RFC 5321 §4.5.3.1.1 asks for 64; VERP and
/// SRS addresses are longer in practice, and refusing them loses mail.
pub const LOCAL_PART_BYTES_MAX: usize = 255;

/// Why a text is not a mail address or domain. For a reply of class 5.1.x.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Over a limit of this module.
    #[error("is too long")]
    TooLong,
    /// An octet that does not belong.
    #[error("contains a character that is not allowed there")]
    Character,
    /// No `@`.
    #[error("has no domain")]
    NoDomain,
    /// Dots at an end or side by side, an empty label, an open quote or bracket.
    #[error("is malformed")]
    Malformed,
}

/// A mailbox: `local-part@domain` (RFC 5321 §4.1.2 `Mailbox`).
///
/// The local-part keeps its case and its quotes; the domain is lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    text: Box<str>,
    /// Where the `@` is. At most [`LOCAL_PART_BYTES_MAX`].
    at: u16,
}

impl Address {
    /// The whole, as it goes between angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// What stands behind the `@`, lower case.
    #[must_use]
    pub fn domain_str(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The domain as a value of its own.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain::from_checked(self.domain_str())
    }

    /// An address from two parts, of which the second is checked already.
    ///
    /// # Errors
    /// What is wrong with the local-part.
    pub fn new(local_part: &str, domain: &Domain) -> Result<Self, AddressError> {
        check_local_part(local_part)?;
        Self::join(local_part, domain.as_str())
    }

    /// Both parts are checked; the domain may still have upper case.
    fn join(local_part: &str, domain: &str) -> Result<Self, AddressError> {
        let at = u16::try_from(local_part.len()).map_err(|_| AddressError::TooLong)?;
        // Not `format!`: this is on the path of every MAIL and RCPT.
        let mut text = String::with_capacity(local_part.len() + 1 + domain.len());
        text.push_str(local_part);
        text.push('@');
        text.push_str(domain);
        text[local_part.len()..].make_ascii_lowercase();
        Ok(Self {
            text: text.into_boxed_str(),
            at,
        })
    }

    /// True if all octets are ASCII, so that no SMTPUTF8 is needed.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        // A quoted local-part may hold `@`; a domain never does.
        let (local_part, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        let domain = domain::check(domain)?;
        check_local_part(local_part)?;
        Self::join(local_part, domain)
    }
}

/// RFC 5321 §4.1.2 `Local-part`, RFC 6531 §3.3. Consecutive and outer dots are
/// let through: they are in use, and the site that owns the mailbox decides.
fn check_local_part(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > LOCAL_PART_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    // The usual case in one pass over a table: every MAIL and every RCPT comes by here.
    if text.bytes().all(|byte| ATEXT_OR_DOT[usize::from(byte)]) {
        return Ok(());
    }
    match text.strip_prefix('"') {
        Some(rest) => check_quoted(rest),
        None if text.chars().all(is_atext_or_dot) => Ok(()),
        None => Err(AddressError::Character),
    }
}

/// RFC 5322 §3.2.3 `atext`, and the dot between atoms.
const ATEXT_OR_DOT: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < table.len() {
        table[octet] = (octet as u8).is_ascii_alphanumeric();
        octet += 1;
    }
    let others = b"!#$%&'*+-/=?^_`{|}~.";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

fn is_atext_or_dot(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => ATEXT_OR_DOT[usize::from(byte)],
        _ => !c.is_control(),
    }
}

/// `rest` is what stands behind the opening quote.
fn check_quoted(rest: &str) -> Result<(), AddressError> {
    let inner = rest.strip_suffix('"').ok_or(AddressError::Malformed)?;
    let mut escaped = false;
    for c in inner.chars() {
        if c.is_control() {
            return Err(AddressError::Character);
        }
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => return Err(AddressError::Malformed),
            (false, _) => {}
        }
    }
    if escaped {
        Err(AddressError::Malformed)
    } else {
        Ok(())
    }
}

/// The argument of MAIL: whom to tell of a failure. RFC 5321 §4.1.1.2.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReversePath {
    /// `<>`: a notification. Nobody is ever told of its failure.
    Null,
    /// A mailbox.
    Address(Address),
}

impl ReversePath {
    /// The text between the angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Address(address) => address.as_str(),
        }
    }

    /// True if all octets are ASCII.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.as_str().is_ascii()
    }
}

/// In angle brackets.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    /// From the text between the angle brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            Ok(Self::Null)
        } else {
            Ok(Self::Address(text.parse()?))
        }
    }
}

/// The argument of RCPT. `<postmaster>` without a domain (RFC 5321 §4.1.1.3) has
/// been completed with our host name by the session before it gets here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ForwardPath(pub Address);

impl ForwardPath {
    /// The mailbox.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0
    }

    /// The text between the angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// In angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;

    /// From the text between the angle brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Ok(Self(text.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Result<(&str, &str), AddressError>| {
            let got = text.parse::<Address>();
            let got = got.as_ref().map(|a| (a.local_part(), a.domain_str()));
            assert_eq!(got, expected.as_ref().copied(), "{text:?}");
        };
        let long = format!("{}@b.example", "a".repeat(LOCAL_PART_BYTES_MAX + 1));
        check("User@B.example", Ok(("User", "b.example")));
        check("\"a@b\"@c.example", Ok(("\"a@b\"", "c.example")));
        check("\"a\\\"b\"@c.example", Ok(("\"a\\\"b\"", "c.example")));
        check("björn@b.example", Ok(("björn", "b.example")));
        check("a..b@c.example", Ok(("a..b", "c.example")));
        check(
            "!#$%&'*+-/=?^_`{|}~@C.example.",
            Ok(("!#$%&'*+-/=?^_`{|}~", "c.example")),
        );
        check("a\u{85}b@c.example", Err(AddressError::Character));
        check("a\u{7f}b@c.example", Err(AddressError::Character));
        check("a(b@c.example", Err(AddressError::Character));
        check("A@[IPv6:2001:DB8::1]", Ok(("A", "[ipv6:2001:db8::1]")));
        check("\"a@c.example", Err(AddressError::Malformed));
        check("\"a\\\"@c.example", Err(AddressError::Malformed));
        check("a b@c.example", Err(AddressError::Character));
        check("a<b@c.example", Err(AddressError::Character));
        check("\"a\r\nRCPT\"@c.example", Err(AddressError::Character));
        check("a", Err(AddressError::NoDomain));
        check("@b", Err(AddressError::Empty));
        check("", Err(AddressError::Empty));
        check(&long, Err(AddressError::TooLong));
    }
}
