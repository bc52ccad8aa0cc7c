//! The name under which somebody authenticates (RFC 4954): a user of ours, a customer,
//! or we ourselves at a smarthost.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use crate::sasl;

/// Longest user name in octets: what every server takes (RFC 4616 §2).
pub const USER_NAME_BYTES_MAX: usize = 255;

/// A user name: 1 to [`USER_NAME_BYTES_MAX`] octets of UTF-8 without spaces and control
/// characters. It is kept in the form of SASLprep (RFC 4013), so that it is the same name
/// however it was typed. One that has no such form, and was stored by somebody else, is
/// kept as it is.
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
        if !is_name(text) {
            return Err(UserNameError);
        }
        Ok(Self(match sasl::prepare(text) {
            Ok(Cow::Owned(prepared)) if is_name(&prepared) => prepared.into(),
            _ => text.into(),
        }))
    }
}

fn is_name(text: &str) -> bool {
    let wrong = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && text.len() <= USER_NAME_BYTES_MAX && !text.contains(wrong)
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

    #[test]
    fn a_name_has_one_form() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<UserName>().unwrap().as_str(), expected);
        };
        check("ka\u{308}the", "k\u{e4}the");
        check("\u{2168}", "IX");
        check("Branch", "Branch");
        // No form, or one that is no name: as it is.
        check("\u{1f600}", "\u{1f600}");
        check("\u{ad}", "\u{ad}");
        check("\u{a8}", "\u{a8}");
        let long = "\u{fdfa}".repeat(USER_NAME_BYTES_MAX / 3);
        check(&long, &long);
    }
}
