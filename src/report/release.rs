//! What is told of held mail that is let go.

use std::fmt;
use std::time::Duration;

use super::Escaped;

/// Somebody asked for held mail to be released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// What, in words.
    pub what: String,
    /// Who, in words.
    pub by: String,
    /// What waited.
    pub messages: u64,
    /// Octets of that.
    pub octets: u64,
    /// What became of it.
    pub outcome: &'static str,
}

/// Nothing of a customer is released any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseEnded {
    /// Whose.
    pub customer: String,
    /// Since the release.
    pub took: Duration,
    /// The site could be reached.
    pub reached: bool,
    /// Messages that are still held.
    pub left: u64,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "release of {}, by {}: {}, {} messages, {} octets",
            Escaped(&self.what),
            Escaped(&self.by),
            self.outcome,
            self.messages,
            self.octets
        )
    }
}

impl fmt::Display for ReleaseEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.reached {
            "all was tried"
        } else {
            "the site could not be reached"
        };
        write!(
            f,
            "release of {} ended after {:.3} s: {how}, {} messages are held",
            Escaped(&self.customer),
            self.took.as_secs_f64(),
            self.left
        )
    }
}
