//! What a run of a collector did, in numbers.

use std::fmt;
use std::net::IpAddr;
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

impl Tally {
    /// Of a run that did nothing.
    pub const NOTHING: Self = Self {
        collected: 0,
        octets: 0,
        duplicates: 0,
        noticed: 0,
        deleted: 0,
        kept: 0,
        left: 0,
    };
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
    /// Its name.
    pub collector: String,
    /// The mailbox, the provider's servers, or the program.
    pub place: String,
    /// What was done, where messages came.
    pub tally: Option<Tally>,
    /// What the provider said.
    pub said: Option<String>,
    /// The link stays up so long for the mail that comes of it.
    pub awaits: Option<Duration>,
    /// Why it did not end in good order.
    pub failure: Option<String>,
    /// When it is done again.
    pub next: NextRun,
}

/// When a collector runs again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextRun {
    /// As soon as a link is up.
    OnLine,
    /// Of itself, in this time.
    In(Duration),
    /// When the schedule, the operator or a link that comes up wants it.
    Asked,
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
        let (name, place) = (Escaped(&self.collector), Escaped(&self.place));
        if self.collector == self.place {
            write!(f, "collector {name}: ")?;
        } else {
            write!(f, "collector {name} ({place}): ")?;
        }
        match (self.tally, &self.said, &self.failure) {
            (Some(tally), None, _) => write!(f, "{tally}")?,
            (Some(tally), Some(said), _) => write!(f, "{}; {tally}", Escaped(said))?,
            (None, Some(said), _) => write!(f, "{}", Escaped(said))?,
            (None, None, None) => f.write_str("done")?,
            (None, None, Some(_)) => f.write_str("nothing came of it")?,
        }
        if let Some(wait) = self.awaits {
            write!(f, "; its mail is awaited for {} s", wait.as_secs())?;
        }
        let Some(why) = &self.failure else {
            return Ok(());
        };
        write!(f, "; not to its end: {}; what is left comes ", Escaped(why))?;
        match self.next {
            NextRun::OnLine => write!(f, "as soon as a link is up"),
            NextRun::In(time) => write!(f, "in {} s", time.as_secs()),
            NextRun::Asked => write!(f, "with the next run"),
        }
    }
}

/// How the wait for mail has ended that a collector had set in motion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// Its sessions are over.
    Came {
        /// From where the last of them came.
        from: IpAddr,
    },
    /// None came in this time.
    Nobody {
        /// How long it was waited for.
        wait: Duration,
        /// Whether there was mail.
        announced: Announced,
        /// Somebody else came from there.
        stranger: Option<IpAddr>,
    },
    /// The link has gone before.
    LinkGone,
}

/// What a provider says of the mail that it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// There is some.
    Yes,
    /// There may be some.
    Perhaps,
}

impl Awaited {
    /// Whether something is not as it should be.
    pub(super) const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Nobody {
                announced: Announced::Yes,
                ..
            }
        )
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came { from } => {
                write!(f, "the provider has called from {from}, and is done")
            }
            Self::Nobody {
                wait,
                announced,
                stranger,
            } => {
                write!(f, "nobody has called within {} s", wait.as_secs())?;
                if let Some(stranger) = stranger {
                    write!(
                        f,
                        ", but for {stranger}: if that is the provider, write it into `callers`"
                    )?;
                }
                f.write_str(match announced {
                    Announced::Yes => {
                        ", although there is mail; look whether the provider can reach this \
                         host; it is asked again with the next run"
                    }
                    Announced::Perhaps => ": there seems to be no mail",
                })
            }
            Self::LinkGone => f.write_str(
                "the link has gone before the provider called; it is asked again as soon as a link \
                 is up",
            ),
        }
    }
}

/// Copies of collected mail are removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pruned {
    /// From where.
    pub directory: String,
    /// How many.
    pub count: u64,
    /// How long they were kept.
    pub days: u64,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            directory,
            count,
            days,
        } = self;
        let copies = if *count == 1 { "copy" } else { "copies" };
        let directory = Escaped(directory);
        write!(
            f,
            "{count} {copies} older than {days} days removed from {directory}"
        )
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
