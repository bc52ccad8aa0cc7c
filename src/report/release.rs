//! What is told of held mail that is let go.

use std::fmt;
use std::net::IpAddr;
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

/// Clients asked so often for what is not theirs that it is not told one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReleasesRefused {
    /// Which, by its address or the first of its network; none: several.
    pub client: Option<IpAddr>,
    /// How many refusals are meant, besides those that were told.
    pub refused: u64,
    /// Within which time.
    pub within: Duration,
}

impl fmt::Display for ReleasesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            refused,
            within,
        } = self;
        write!(f, "{refused} more ETRN of ")?;
        match client {
            Some(client) => client.fmt(f)?,
            None => f.write_str("other clients")?,
        }
        let seconds = within.as_millis().div_ceil(1000);
        write!(f, " were refused within {seconds} s")
    }
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
