//! Domain names and address literals.
//!
//! Relies on nothing. Invariant: the text of a [`Domain`] is in lower case, has no
//! final dot, and holds no octet that could end a line, a path or a bracket.
//! What this module does not do: it resolves nothing, and turns no U-label into an
//! A-label.

use std::fmt;
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
    pub fn literal(&self) -> Option<std::net::IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        match inner.strip_prefix("ipv6:") {
            Some(v6) => v6.parse().ok().map(std::net::IpAddr::V6),
            None => inner.parse().ok().map(std::net::IpAddr::V4),
        }
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
        if text.starts_with('[') {
            return parse_literal(text);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
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
            // Underscores are no host name characters, but they stand in mail
            // domains that exist; refusing them would lose mail.
            let allowed = |c: char| {
                c.is_ascii_alphanumeric()
                    || c == '-'
                    || c == '_'
                    || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
            };
            if !label.chars().all(allowed) {
                return Err(AddressError::Character);
            }
        }
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }
}

/// RFC 5321 §4.1.3. Only IPv4 and IPv6: no other literal has a meaning yet.
fn parse_literal(text: &str) -> Result<Domain, AddressError> {
    let domain = Domain(text.to_ascii_lowercase().into_boxed_str());
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    if domain.literal().is_some() {
        Ok(domain)
    } else {
        Err(AddressError::Malformed)
    }
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
}
