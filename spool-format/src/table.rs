//! Recovery as a table: what a segment looks like decides what is kept of it,
//! what the operator is told, and what becomes of the file.
//!
//! Named contract, **never append to what was found**: whatever a segment looks
//! like, a start begins a new one. So no row says where to go on writing, and the
//! octets behind the last record never matter for what is written later.
//!
//! Invariants:
//! - [`verdict`] has an answer for every look in every position, and FORMAT.md
//!   holds the same table; a test compares them.
//! - No answer frees a file: a segment goes when its messages are known to be done,
//!   and one that cannot be read stays. No answer asks the operator to remove one.
//! - What is not refused is started with.

use crate::scan::TailKind;
use std::fmt;

/// Whether records are missing before the last one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Body {
    /// No.
    Whole,
    /// Yes: there is damage between records.
    Holed,
}

/// What a segment looks like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Look {
    /// Nothing but zeros where the header should be.
    Unbegun,
    /// Both copies of the header are damaged, and no summary tells the epoch.
    HeaderDamaged,
    /// Both copies of the header are damaged; the summary tells the epoch.
    HeaderFromSummary,
    /// Written by a newer program.
    NewerVersion,
    /// The header names another segment.
    OtherSegment,
    /// The header names another spool.
    OtherSpool,
    /// The header is good.
    Records {
        /// What is before the last record.
        body: Body,
        /// What is behind the last record.
        tail: TailKind,
    },
}

/// Where the segment stands in its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Position {
    /// A later segment of the log has a header of its own.
    Earlier,
    /// None has.
    Last,
}

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kept {
    /// Every record that is whole.
    Records,
    /// Nothing: there is nothing, or nothing that could be trusted.
    Nothing,
}

/// How the operator is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Not at all: this is how a segment looks after a stop or an ordinary crash.
    Silent,
    /// A batch was cut. Nothing that a client was told was accepted is missing,
    /// if the disk keeps what it said that it had stored.
    Cut,
    /// Either a batch was cut, or the disk lost something: it cannot be told.
    Doubt,
    /// The disk lost something that was stored.
    Damage,
    /// The program does not start.
    Refusal,
}

/// What becomes of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fate {
    /// It stays until its messages are done, as every segment.
    Reclaim,
    /// It gets another name, and is left alone, for whoever wants to look at it.
    Aside,
}

/// The answer of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Verdict {
    /// What is kept.
    pub kept: Kept,
    /// How the operator is told.
    pub severity: Severity,
    /// What becomes of the file.
    pub fate: Fate,
}

/// What to do with a segment that looks like this.
#[must_use]
pub const fn verdict(look: Look, position: Position) -> Verdict {
    use Body::{Holed, Whole};
    use Fate::{Aside, Reclaim};
    use Kept::{Nothing, Records};
    use Severity::{Cut, Damage, Doubt, Refusal, Silent};

    let (kept, severity, fate) = match (look, position) {
        // A file gets the name of a segment only when its header is on stable
        // storage, so that zeros were something else. At the end of the log nothing
        // else says that it was written to.
        (Look::Unbegun, Position::Last) => (Nothing, Doubt, Aside),
        (Look::Unbegun, Position::Earlier) => (Nothing, Damage, Aside),
        (Look::HeaderDamaged, _) => (Nothing, Damage, Aside),
        (Look::HeaderFromSummary, _) => (Records, Damage, Reclaim),
        (Look::NewerVersion, _) => (Nothing, Refusal, Aside),
        (Look::OtherSegment, _) => (Nothing, Damage, Aside),
        (Look::OtherSpool, _) => (Nothing, Damage, Aside),
        (Look::Records { body, tail }, _) => {
            let severity = match (body, tail) {
                (Whole, TailKind::Ended | TailKind::Full | TailKind::Zeros | TailKind::Stale) => {
                    Silent
                }
                (Whole, TailKind::Torn | TailKind::Unreadable) => Cut,
                (Whole | Holed, TailKind::Short) => Damage,
                // All before the last record was on stable storage.
                (Holed, TailKind::Ended) => Damage,
                // The pages of a batch reach the disk in any order.
                (
                    Holed,
                    TailKind::Full
                    | TailKind::Zeros
                    | TailKind::Stale
                    | TailKind::Torn
                    | TailKind::Unreadable,
                ) => Doubt,
            };
            (Records, severity, Reclaim)
        }
    };
    Verdict {
        kept,
        severity,
        fate,
    }
}

impl Look {
    /// Every look, in the order of the table in FORMAT.md.
    pub fn all() -> impl Iterator<Item = Self> {
        let heads = [
            Self::Unbegun,
            Self::HeaderDamaged,
            Self::HeaderFromSummary,
            Self::NewerVersion,
            Self::OtherSegment,
            Self::OtherSpool,
        ];
        let records = [Body::Whole, Body::Holed].into_iter().flat_map(|body| {
            TailKind::ALL
                .iter()
                .map(move |&tail| Self::Records { body, tail })
        });
        heads.into_iter().chain(records)
    }
}

/// For the operator.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbegun => f.write_str("zeros where its header should be"),
            Self::HeaderDamaged => f.write_str("both copies of its header are damaged"),
            Self::HeaderFromSummary => {
                f.write_str("both copies of its header are damaged, its summary is not")
            }
            Self::NewerVersion => f.write_str("written by a newer version of this program"),
            Self::OtherSegment => f.write_str("its header is that of another segment"),
            Self::OtherSpool => f.write_str("its header is that of another spool"),
            Self::Records { body, tail } => {
                if *body == Body::Holed {
                    f.write_str("damaged between records; ")?;
                }
                match tail {
                    TailKind::Ended => f.write_str("closed in order"),
                    tail => write!(f, "behind its last record: {tail}"),
                }
            }
        }
    }
}

/// For the operator: what was kept and what happens next.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Silent => "nothing is missing",
            Severity::Cut => {
                "an unfinished write was cut off; nothing that was accepted is missing"
            }
            Severity::Doubt => {
                "either an unfinished write was cut off or the disk lost what it had stored"
            }
            Severity::Damage => {
                "the disk lost what it had stored, or the file was changed by others"
            }
            Severity::Refusal => {
                "it cannot be read, so this version does not start with this spool"
            }
        })?;
        f.write_str(match (self.kept, self.severity) {
            (Kept::Records, _) => "; every record that is whole is used",
            (Kept::Nothing, Severity::Refusal) => {
                "; nothing of it is used, and the file is left as it is"
            }
            (Kept::Nothing, _) => "; nothing of it is used, and the file is set aside",
        })
    }
}
