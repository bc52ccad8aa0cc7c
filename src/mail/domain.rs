//! Domain names and address literals.
//!
//! Relies on nothing. Invariant: the text of a [`Domain`] is in lower case, has no
//! final dot, and holds no octet that could end a line, a path or a bracket.
//! What this module does not do: it resolves nothing, and turns no U-label into an
//! A-label.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::AddressError;

/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest label of a domain in octets (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A domain name or an address literal (RFC 5321 §4.1.2 `Domain`,
/// `address-literal`), in lower case, without a final dot.
///
/// UTF-8 labels (RFC 6531) are kept as U-labels, lower-cased in ASCII only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(Box<str>);

impl Domain {
    /// From text that was one before: the domain of an address.
    pub(super) fn from_checked(text: &str) -> Self {
        debug_assert_eq!(text.parse().as_ref(), Ok(&Self(text.into())));
        Self(text.into())
    }

    /// The text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `[192.0.2.1]` and `[IPv6:2001:db8::1]`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// The address in an address literal.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        literal(&self.0)
    }

    /// The domain above this one: `b.example` for `a.b.example`.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        if self.is_literal() {
            None
        } else {
            self.0.split_once('.').map(|(_, rest)| rest)
        }
    }

    /// True if all octets are ASCII, so that no SMTPUTF8 is needed.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = check(text)?;
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }
}

/// Whether it is a domain or an address literal; without the final dot.
pub(super) fn check(text: &str) -> Result<&str, AddressError> {
    if text.starts_with('[') {
        return check_literal(text);
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if is_plain(text.as_bytes()) {
        return Ok(text);
    }
    check_labels(text)
}

/// RFC 5321 §4.1.3. Only IPv4 and IPv6: no other literal has a meaning yet.
fn check_literal(text: &str) -> Result<&str, AddressError> {
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    match literal(text) {
        Some(_) => Ok(text),
        None => Err(AddressError::Malformed),
    }
}

/// The address in an address literal.
fn literal(text: &str) -> Option<IpAddr> {
    const IPV6: &str = "IPv6:";
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    match inner.split_at_checked(IPV6.len()) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case(IPV6) => v6.parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

/// What an octet is in a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Octet {
    /// A letter, a digit, an underscore. Underscores are no host name characters,
    /// but they stand in mail domains that exist; refusing them would lose mail.
    Letter,
    /// Not at either end of a label.
    Hyphen,
    /// Between labels.
    Dot,
    /// To be looked at as a character, or wrong.
    Other,
}

const OCTETS: [Octet; 256] = {
    let mut table = [Octet::Other; 256];
    let mut octet = 0;
    while octet < table.len() {
        let byte = octet as u8;
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            table[octet] = Octet::Letter;
        }
        octet += 1;
    }
    table[b'-' as usize] = Octet::Hyphen;
    table[b'.' as usize] = Octet::Dot;
    table
};

/// The usual case in one pass over a table: every MAIL and every RCPT comes by here.
/// False says only that [`check_labels`] has to look.
fn is_plain(text: &[u8]) -> bool {
    let mut begin = 0;
    let mut before = Octet::Dot;
    for (at, byte) in text.iter().enumerate() {
        let octet = OCTETS[usize::from(*byte)];
        match octet {
            Octet::Letter => {}
            Octet::Hyphen if before == Octet::Dot => return false,
            Octet::Hyphen => {}
            Octet::Dot if before != Octet::Letter || at - begin > LABEL_BYTES_MAX => {
                return false;
            }
            Octet::Dot => begin = at + 1,
            Octet::Other => return false,
        }
        before = octet;
    }
    before == Octet::Letter
        && text.len() - begin <= LABEL_BYTES_MAX
        && text.len() <= DOMAIN_BYTES_MAX
}

/// U-labels, and what is wrong with what is no domain.
fn check_labels(text: &str) -> Result<&str, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    for label in text.split('.') {
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Malformed);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let allowed = |c: char| match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() => {
                matches!(OCTETS[usize::from(byte)], Octet::Letter | Octet::Hyphen)
            }
            _ => !c.is_control() && !c.is_whitespace(),
        };
        if !label.chars().all(allowed) {
            return Err(AddressError::Character);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let check = |text: &str, expected: Result<&str, AddressError>| {
            let got = text.parse::<Domain>();
            assert_eq!(
                got.as_ref().map(Domain::as_str),
                expected.as_ref().copied(),
                "{text:?}"
            );
        };
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = "abc.".repeat(64) + "example";
        check("Example.COM", Ok("example.com"));
        check("example.com.", Ok("example.com"));
        check("a_b.example", Ok("a_b.example"));
        check("müller.example", Ok("müller.example"));
        check("[192.0.2.1]", Ok("[192.0.2.1]"));
        check("[IPv6:2001:DB8::1]", Ok("[ipv6:2001:db8::1]"));
        check("[300.0.2.1]", Err(AddressError::Malformed));
        check("[192.0.2.1", Err(AddressError::Malformed));
        check("", Err(AddressError::Empty));
        check(".", Err(AddressError::Empty));
        check("a..b", Err(AddressError::Malformed));
        check("-a.b", Err(AddressError::Malformed));
        check("a b", Err(AddressError::Character));
        check("a\r\nb", Err(AddressError::Character));
        check("a\0b", Err(AddressError::Character));
        check("a/../b", Err(AddressError::Character));
        check(&long_label, Err(AddressError::TooLong));
        check(&long_name, Err(AddressError::TooLong));
    }

    /// The one pass says yes exactly where the slow look does, but for U-labels.
    #[test]
    fn the_usual_case_is_decided_like_any_other() {
        let mut text = String::new();
        let alphabet = ['a', '9', '_', '-', '.', ' ', '['];
        for length in 0..=5 {
            for mut number in 0..alphabet.len().pow(length) {
                text.clear();
                for _ in 0..length {
                    text.push(alphabet[number % alphabet.len()]);
                    number /= alphabet.len();
                }
                assert_eq!(
                    is_plain(text.as_bytes()),
                    check_labels(&text).is_ok(),
                    "{text:?}"
                );
            }
        }
        for length in 60..70 {
            let label = "a".repeat(length);
            for text in [label.clone(), format!("{label}.b"), format!("b.{label}")] {
                assert_eq!(
                    is_plain(text.as_bytes()),
                    check_labels(&text).is_ok(),
                    "{text:?}"
                );
            }
        }
        for length in 250..260 {
            let text = "a.".repeat(length / 2) + ["b", "bc"][length % 2];
            assert_eq!(
                is_plain(text.as_bytes()),
                check_labels(&text).is_ok(),
                "{text:?}"
            );
        }
    }
}
