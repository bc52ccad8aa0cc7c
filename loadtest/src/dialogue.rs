//! What the sessions of a test have in common: commands made in advance, how far
//! to run ahead, and where the work comes from.

use std::time::{Duration, Instant};

use crate::message::{MessageId, Template, Transfer};
use crate::tls::Tls;

/// How far a session runs ahead of the replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pipelining {
    /// One command, one reply.
    None,
    /// MAIL, RCPT and DATA leave together (with BDAT the content too), and the
    /// next transaction begins when this one is answered.
    Transaction,
    /// The content leaves together with the next MAIL, RCPT, DATA: one round
    /// trip a message (RFC 2920 §3.1).
    Group,
    /// BDAT only: so many transactions under way at a time, without waiting.
    Flight(u16),
}

impl std::str::FromStr for Pipelining {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "transaction" => Ok(Self::Transaction),
            "group" => Ok(Self::Group),
            number => match number.parse() {
                Ok(ahead) if ahead > 0 => Ok(Self::Flight(ahead)),
                _ => Err(format!(
                    "{text:?}; none, transaction, group, or a number of messages ahead (BDAT)"
                )),
            },
        }
    }
}

impl std::fmt::Display for Pipelining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Transaction => f.write_str("transaction"),
            Self::Group => f.write_str("group"),
            Self::Flight(ahead) => write!(f, "{ahead} ahead"),
        }
    }
}

/// What all sessions of a test have in common.
pub(crate) struct Dialogue {
    pub(crate) pipelining: Pipelining,
    pub(crate) transfer: Transfer,
    pub(crate) ehlo: Vec<u8>,
    /// MAIL command for each template.
    pub(crate) mail: Vec<Vec<u8>>,
    /// RCPT commands; a message takes `recipients` of them in turn.
    pub(crate) rcpt: Vec<Vec<u8>>,
    pub(crate) recipients: usize,
    pub(crate) templates: Vec<Template>,
    /// ETRN commands, for [`Purpose::Etrn`].
    pub(crate) etrn: Vec<Vec<u8>>,
    pub(crate) messages_per_session: Option<u64>,
    /// Use extensions that the server does not offer.
    pub(crate) force: bool,
    pub(crate) tls: Tls,
    /// Where the clock of messages starts.
    pub(crate) clock: MessageClock,
}

/// Instants as the nanoseconds that messages carry, so that a sink on the same
/// machine can take the time that a message needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageClock {
    instant: Instant,
    nanoseconds: u64,
}

impl MessageClock {
    /// `instant` and `nanoseconds` are the same moment on both clocks.
    pub(crate) fn new(instant: Instant, nanoseconds: u64) -> Self {
        Self {
            instant,
            nanoseconds,
        }
    }

    pub(crate) fn nanoseconds(&self, now: Instant) -> u64 {
        self.nanoseconds + now.saturating_duration_since(self.instant).as_nanos() as u64
    }
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To send messages.
    Send,
    /// To be there, after EHLO.
    Hold,
    /// To ask with ETRN.
    Etrn,
}

/// A message (or ETRN) to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    pub(crate) id: MessageId,
    /// Which template.
    pub(crate) template: usize,
    /// When it was to begin; with a rate, latency counts from here.
    pub(crate) due: Instant,
}

/// Where work comes from.
pub(crate) trait Work {
    fn next(&mut self, now: Instant) -> Next;
}

/// An answer of [`Work`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Job(Job),
    /// None now; the owner calls [`Client::pump`] again.
    Later,
    /// None any more.
    Never,
}

/// How long a session may wait for one reply before it is given up.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
