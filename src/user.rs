//! The name under which somebody authenticates (RFC 4954): a user of ours, a customer,
//! or we ourselves at a smarthost.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// Longest user name in octets: what every server takes (RFC 4616 §2).
pub const USER_NAME_BYTES_MAX: usize = 255;

/// A user name: 1 to [`USER_NAME_BYTES_MAX`] octets of UTF-8 without spaces and control
/// characters. Two names are the same if their octets are.
///
/// Not here: SASLprep (RFC 4013). A name that is written in two ways is two names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserName(Box<str>);

/// What a user name is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("want 1 to {USER_NAME_BYTES_MAX} octets without spaces and control characters")]
pub struct UserNameError;

impl UserName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let wrong = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > USER_NAME_BYTES_MAX || text.contains(wrong) {
            return Err(UserNameError);
        }
        Ok(Self(text.into()))
    }
}

/// So that a table is searched with a text.
impl Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<UserName>().is_ok(), good, "{text:?}");
        };
        check("branch", true);
        check("someone@branch.example", true);
        check("käthe", true);
        check(&"x".repeat(USER_NAME_BYTES_MAX), true);
        check(&"x".repeat(USER_NAME_BYTES_MAX + 1), false);
        check("", false);
        check("a b", false);
        check("a\u{a0}b", false);
        check("a\tb", false);
        check("a\0", false);
        check("a\u{9b}b", false);
    }
}
