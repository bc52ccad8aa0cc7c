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
            "release of {}, by {}: {}, {}, {} octets",
            Escaped(&self.what),
            Escaped(&self.by),
            self.outcome,
            Messages(self.messages),
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
            "release of {} ended after {:.3} s: {how}, ",
            Escaped(&self.customer),
            self.took.as_secs_f64(),
        )?;
        match self.left {
            0 => f.write_str("nothing is held any more"),
            1 => f.write_str("1 message is still held"),
            left => write!(f, "{left} messages are still held"),
        }
    }
}

/// So many messages, in words.
pub(super) struct Messages(pub(super) u64);

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 message"),
            other => write!(f, "{other} messages"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_release_is_told_in_words() {
        let check = |left: u64, reached: bool, expected: &str| {
            let ended = ReleaseEnded {
                customer: "branch".to_owned(),
                took: Duration::from_millis(1500),
                reached,
                left,
            };
            assert_eq!(ended.to_string(), expected);
        };
        check(
            0,
            true,
            "release of branch ended after 1.500 s: all was tried, nothing is held any more",
        );
        check(
            1,
            true,
            "release of branch ended after 1.500 s: all was tried, 1 message is still held",
        );
        check(
            2,
            false,
            "release of branch ended after 1.500 s: the site could not be reached, 2 messages are \
             still held",
        );
    }
}
