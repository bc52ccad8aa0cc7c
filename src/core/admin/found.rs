//! Looking for queues by a text, over all of them.
//!
//! An overview tells the fullest ([`QUEUES_SHOWN_MAX`](super::QUEUES_SHOWN_MAX)); a provider
//! with ten thousand customers looks for one that is not among them. The cost for a core: it
//! looks at some thousand destinations for one question, and mail goes between that and the
//! next one. The answer is no longer than an overview.

use serde::{Deserialize, Serialize};

use super::live::{Live, Queue, Tally};

/// Longest text that is looked for: more than a domain has.
pub const WANTED_BYTES_MAX: usize = 256;

/// What is looked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// A part of the customer's name, the next hop, the state or the last failure, in
    /// letters of either case.
    pub text: String,
    /// Between the cores: destinations before this one were looked at.
    #[serde(skip)]
    pub from: u32,
}

/// The queues that match.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// What was looked for.
    pub text: String,
    /// The fullest of them, at most [`QUEUES_SHOWN_MAX`](super::QUEUES_SHOWN_MAX).
    pub queues: Vec<Queue>,
    /// How many there are.
    pub total: u64,
}

/// One core's part, of the destinations that were looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tallies {
    /// Those that match.
    pub matching: Vec<Tally>,
    /// Where the next part begins. `None`: that was all.
    pub next: Option<u32>,
}

impl Wanted {
    /// What may be asked.
    ///
    /// # Errors
    /// Why this may not.
    pub fn limits(&self) -> Result<(), String> {
        match self.text.len() {
            1..=WANTED_BYTES_MAX => Ok(()),
            _ => Err(format!(
                "the text that is looked for has 1 to {WANTED_BYTES_MAX} octets"
            )),
        }
    }
}

impl Found {
    /// Of an overview in which nothing else is.
    #[must_use]
    pub fn of(text: String, mut live: Live) -> Self {
        live.cut();
        Self {
            text,
            total: live.queues_total,
            queues: live.queues,
        }
    }
}
