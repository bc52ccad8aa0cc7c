//! The file of users: one a line, name, space, what is stored of the password (see
//! [`super::stored`]). Empty lines and lines that begin with `#` are kept as they are.
//!
//! Only the text is known here; `runtime` and `cli` read and write the file.

use std::fmt;

use hashbrown::HashSet;
use zeroize::Zeroizing;

use super::stored::{Stored, StoredError};
use crate::user::{UserName, UserNameError};

/// Largest file in octets: some 200,000 users.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// A line of the file.
#[derive(Clone, Debug)]
enum Line {
    Remark(String),
    User(UserName, Stored),
}

/// The file, in the order of its lines. No user is in it twice.
#[derive(Clone, Debug, Default)]
pub struct Users {
    lines: Vec<Line>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsersError {
    /// Counted from 1.
    pub line: usize,
    /// What it is.
    pub what: LineError,
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for UsersError {}

/// What may be wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LineError {
    /// The name.
    #[error("the name is wrong: {0}")]
    Name(#[from] UserNameError),
    /// What is stored.
    #[error("{0}")]
    Stored(#[from] StoredError),
    /// The name stands in an earlier line too.
    #[error("this user has an earlier line")]
    Twice,
}

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong. Nothing of the line is in the error.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        for (number, text) in (1..).zip(text.lines()) {
            // Of line ends that are none nothing is kept.
            let text = text.trim_end_matches('\r');
            let line = parse_line(text).map_err(|what| UsersError { line: number, what })?;
            if let Line::User(user, _) = &line
                && !seen.insert(user.clone())
            {
                return Err(UsersError {
                    line: number,
                    what: LineError::Twice,
                });
            }
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// All users with what is stored of them.
    pub fn iter(&self) -> impl Iterator<Item = (&UserName, &Stored)> {
        self.lines.iter().filter_map(|line| match line {
            Line::User(user, stored) => Some((user, stored)),
            Line::Remark(_) => None,
        })
    }

    /// Adds a user, or gives a known one another password. True if it was known.
    pub fn set(&mut self, user: UserName, stored: Stored) -> bool {
        for line in &mut self.lines {
            if let Line::User(known, old) = line
                && *known == user
            {
                *old = stored;
                return true;
            }
        }
        self.lines.push(Line::User(user, stored));
        false
    }

    /// Removes a user. True if it was there.
    pub fn remove(&mut self, user: &UserName) -> bool {
        let before = self.lines.len();
        self.lines
            .retain(|line| !matches!(line, Line::User(known, _) if known == user));
        self.lines.len() < before
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.lines.len() * 512));
        for line in &self.lines {
            match line {
                Line::Remark(remark) => text.push_str(remark),
                Line::User(user, stored) => {
                    text.push_str(user.as_str());
                    text.push(' ');
                    text.push_str(&stored.to_text());
                }
            }
            text.push('\n');
        }
        text
    }
}

fn parse_line(text: &str) -> Result<Line, LineError> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(Line::Remark(text.to_owned()));
    }
    let (user, stored) = trimmed.split_once([' ', '\t']).unwrap_or((trimmed, ""));
    Ok(Line::User(user.parse()?, Stored::parse(stored)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::auth::Password;

    fn shared(text: &str) -> Stored {
        Stored::shared(Password::new(text.to_owned()).unwrap())
    }

    #[test]
    fn a_file_is_changed_line_by_line() {
        let text = "# our users\n\nalice SHARED$YQ==\n  bob\tSHARED$Yg==\n";
        let mut users = Users::parse(text).unwrap();
        let names = |users: &Users| -> Vec<String> {
            users.iter().map(|(user, _)| user.to_string()).collect()
        };
        assert_eq!(names(&users), ["alice", "bob"]);
        assert!(users.set("alice".parse().unwrap(), shared("c")));
        assert!(!users.set("carol".parse().unwrap(), shared("d")));
        assert!(users.remove(&"bob".parse().unwrap()));
        assert!(!users.remove(&"bob".parse().unwrap()));
        assert_eq!(
            *users.to_text(),
            "# our users\n\nalice SHARED$Yw==\ncarol SHARED$ZA==\n"
        );
    }

    #[test]
    fn what_is_wrong_names_the_line_and_no_secret() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Users::parse(text).unwrap_err().to_string(), expected);
        };
        check(
            "alice SHARED$YQ==\nbob\n",
            "line 2: there is no secret behind the name",
        );
        check(
            "alice swordfish",
            "line 1: a secret that begins neither with $argon2id$ nor SCRAM-SHA-256$ nor SHARED$",
        );
        check(
            "a SHARED$YQ==\na SHARED$YQ==",
            "line 2: this user has an earlier line",
        );
        check(
            "\u{9b}x SHARED$YQ==",
            "line 1: the name is wrong: want 1 to 255 octets without spaces and control characters",
        );
    }
}
