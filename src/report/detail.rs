//! What is told only to who looks closely: `[log] detail`, `turnspool log detail` and
//! `turnspool log transcript` switch it on.

use std::fmt;
use std::time::Duration;

use super::Escaped;

/// One line of detail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detail {
    /// A command or a reply of a session. Nothing of AUTH and of message text is in it.
    Spoken {
        /// The connection, by its number on this core.
        connection: u64,
        /// With whom.
        peer: String,
        /// We said it.
        by_us: bool,
        /// What.
        line: String,
    },
    /// A question to the DNS was answered, or was not.
    Looked {
        /// Name and type of the records.
        question: String,
        /// What came of it.
        answer: String,
        /// After this time.
        took: Duration,
    },
    /// A link has come from one phase to the next.
    Step {
        /// Its name.
        link: String,
        /// From where.
        from: &'static str,
        /// To where.
        to: &'static str,
    },
}

impl Detail {
    /// The name that filters hang on. It never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Spoken { .. } => "spoken",
            Self::Looked { .. } => "looked-up",
            Self::Step { .. } => "link-step",
        }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spoken {
                connection,
                peer,
                by_us,
                line,
            } => {
                let arrow = if *by_us { '>' } else { '<' };
                let peer = Escaped(peer);
                write!(f, "session {connection} {peer} {arrow} {}", Escaped(line))
            }
            Self::Looked {
                question,
                answer,
                took,
            } => write!(
                f,
                "{}: {} ({} ms)",
                Escaped(question),
                Escaped(answer),
                took.as_millis()
            ),
            Self::Step { link, from, to } => write!(f, "{}: {from} → {to}", Escaped(link)),
        }
    }
}
