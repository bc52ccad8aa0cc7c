//! What a run of a collector did, in numbers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Escaped;

/// What became of the messages of a mailbox in one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that are in the spool now.
    pub collected: u32,
    /// Their octets.
    pub octets: u64,
    /// Messages that each recipient had already.
    pub duplicates: u32,
    /// Large messages of which the user was told.
    pub noticed: u32,
    /// Messages deleted on the server.
    pub deleted: u32,
    /// Messages that stay there for a while, collected as they are.
    pub kept: u32,
    /// Messages that stay there and are not collected: too large, or in a loop.
    pub left: u32,
}

/// As a part of a sentence. What is nothing is not mentioned.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} collected, {} octets", self.collected, self.octets)?;
        let others = [
            (self.duplicates, "duplicates"),
            (self.noticed, "too large and announced"),
            (self.deleted, "deleted there"),
            (self.kept, "kept there"),
            (self.left, "left there"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

/// A run of a collector is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collected {
    /// `user@host`.
    pub account: String,
    /// What was done.
    pub tally: Tally,
    /// Why it did not end in good order.
    pub failure: Option<String>,
    /// When it is done again of itself, if it is.
    pub next_in: Option<Duration>,
}

impl Collected {
    pub(super) const fn fact_name(&self) -> &'static str {
        match self.failure {
            None => "collected",
            Some(_) => "collecting-failed",
        }
    }
}

impl fmt::Display for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox {}: {}", Escaped(&self.account), self.tally)?;
        let Some(why) = &self.failure else {
            return Ok(());
        };
        write!(f, "; not to its end: {}; what is left comes ", Escaped(why))?;
        match self.next_in {
            Some(next_in) => write!(f, "in {} s", next_in.as_secs()),
            None => write!(f, "with the next run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_mentioned() {
        let tally = Tally {
            collected: 3,
            octets: 900,
            deleted: 2,
            ..Tally::default()
        };
        assert_eq!(
            tally.to_string(),
            "3 collected, 900 octets, 2 deleted there"
        );
    }
}
