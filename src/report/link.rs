//! What the operator is told about a link: one line each, with what happens next.

use std::fmt;
use std::time::Duration;

use super::{Escaped, Level};

/// What comes after a dial that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextDial {
    /// Another one, of so many in this series.
    Again {
        /// Its number in the series.
        number: u32,
        /// Of how many.
        of: u32,
        /// After this time.
        pause: Duration,
    },
    /// The series is over. If there is a reason then, another begins after this time.
    Series {
        /// Until then.
        pause: Duration,
    },
}

/// One thing that happened to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkFact {
    /// It is being dialled.
    Dialling {
        /// The reason.
        why: String,
        /// Which dial of the series.
        number: u32,
        /// Of how many.
        of: u32,
    },
    /// It did not come up.
    DialFailed {
        /// In the driver's words.
        why: String,
        /// What happens next.
        next: NextDial,
    },
    /// It is there.
    Up {
        /// We opened it.
        ours: bool,
        /// The reason.
        why: String,
    },
    /// It is to go down: what is being sent is finished, nothing new begun.
    Finishing {
        /// The reason.
        why: String,
    },
    /// It is gone, or no longer used.
    Down {
        /// We had opened it.
        ours: bool,
        /// The reason.
        why: String,
        /// How long it was there.
        up_for: Duration,
        /// Octets over its interface; 0 where they are not counted.
        octets: u64,
        /// Messages that went over it.
        messages: u64,
        /// Messages that came over it.
        received: u64,
        /// What waits for it, and until when.
        next: Option<String>,
    },
    /// It could not be taken down.
    HangUpFailed {
        /// In the driver's words.
        why: String,
        /// Until it is tried again.
        again_in: Duration,
    },
    /// It could not be taken down, and is taken for down all the same.
    HangUpGivenUp {
        /// In the driver's words.
        why: String,
        /// How often it failed.
        tries: u32,
    },
    /// There is a reason to dial, and it is not done.
    NotDialled {
        /// Why not, and until when.
        why: String,
    },
}

impl LinkFact {
    /// The name that filters and alarms hang on. It never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dialling { .. } => "link-dialling",
            Self::DialFailed { .. } => "link-dial-failed",
            Self::Up { .. } => "link-up",
            Self::Finishing { .. } => "link-finishing",
            Self::Down { .. } => "link-down",
            Self::HangUpFailed { .. } => "link-hang-up-failed",
            Self::HangUpGivenUp { .. } => "link-hang-up-given-up",
            Self::NotDialled { .. } => "link-not-dialled",
        }
    }

    /// How loud it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Finishing { .. } => Level::Detail,
            Self::Dialling { .. } | Self::Up { .. } | Self::Down { .. } => Level::Info,
            Self::DialFailed { .. } | Self::NotDialled { .. } => Level::Warning,
            // It may cost money by the minute.
            Self::HangUpFailed { .. } | Self::HangUpGivenUp { .. } => Level::Error,
        }
    }
}

impl fmt::Display for LinkFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialling { why, number, of } => {
                write!(f, "dialling ({}), {number} of {of}", Escaped(why))
            }
            Self::DialFailed { why, next } => {
                write!(f, "dialling failed: {}; ", Escaped(why))?;
                match next {
                    NextDial::Again { number, of, pause } => {
                        write!(f, "{number} of {of} in {} s", pause.as_secs())
                    }
                    NextDial::Series { pause } => write!(
                        f,
                        "the series is over, the next one in {} s at the earliest",
                        pause.as_secs()
                    ),
                }
            }
            Self::Up { ours: true, why } => {
                write!(f, "up ({}); what waits is sent", Escaped(why))
            }
            Self::Up { ours: false, .. } => write!(
                f,
                "up, opened by somebody else; what waits is sent, and it is left open"
            ),
            Self::Finishing { why } => write!(
                f,
                "{}; what is being sent is finished, nothing new begins",
                Escaped(why)
            ),
            Self::Down {
                ours,
                why,
                up_for,
                octets,
                messages,
                received,
                next,
            } => {
                let word = if *ours { "down" } else { "no longer used" };
                write!(
                    f,
                    "{word}: {}; {} s on line, {messages} {} sent",
                    Escaped(why),
                    up_for.as_secs(),
                    if *messages == 1 {
                        "message"
                    } else {
                        "messages"
                    }
                )?;
                if *received > 0 {
                    write!(f, ", {received} received")?;
                }
                if *octets > 0 {
                    write!(f, ", {octets} octets over the interface")?;
                }
                match next {
                    Some(next) => write!(f, "; {next}"),
                    None => Ok(()),
                }
            }
            Self::HangUpFailed { why, again_in } => write!(
                f,
                "hanging up failed: {}; the link may still be open and cost money; tried again \
                 in {} s",
                Escaped(why),
                again_in.as_secs()
            ),
            Self::HangUpGivenUp { why, tries } => write!(
                f,
                "hanging up failed {tries} times: {}; the link is taken for down now, and may \
                 still be open and cost money: see to it; if it is found up, it is used, counted \
                 and hung up as ours",
                Escaped(why)
            ),
            Self::NotDialled { why } => write!(f, "not dialled: {}", Escaped(why)),
        }
    }
}
