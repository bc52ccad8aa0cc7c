//! Where messages lie in the spool, for a command that reads them there: bodies do not
//! come over the admin socket.

use serde::{Deserialize, Serialize};
use spool_format::{Location, LogId, Offset, SegmentId};

use super::Text;
use crate::mail::QueueId;

/// Most recipients that one answer lists, but of the first message all: so that an answer
/// stays within its limit, and every message is in the answer to some question.
pub const LOCATED_RECIPIENTS_MAX: usize = 200_000;

// Seven octets each, the comma too, and some numbers a message.
const _: () =
    assert!(2 * LOCATED_RECIPIENTS_MAX * 7 + super::IDS_MAX * 256 <= super::RESPONSE_BYTES_MAX);

/// Messages that are there, in the order of their ids. Those that found no room in the
/// answer are not in it: ask for them again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Located {
    /// At most as many as were asked for.
    pub messages: Vec<LocatedMessage>,
}

/// Where a message is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocatedMessage {
    /// Which.
    pub id: Text<QueueId>,
    /// The log of its seal.
    pub log: u8,
    /// The segment of its seal.
    pub segment: u32,
    /// Where in it.
    pub offset: u32,
    /// Held by the operator.
    pub held: bool,
    /// The recipients that are not done, by their place in the envelope, ascending.
    pub waiting: Vec<u32>,
}

impl LocatedMessage {
    /// Where its seal is.
    #[must_use]
    pub const fn seal(&self) -> Location {
        Location {
            log: LogId(self.log),
            segment: SegmentId(self.segment),
            offset: Offset(self.offset),
        }
    }
}

impl Located {
    /// Takes messages until there is no room.
    pub fn fill(&mut self, messages: impl Iterator<Item = LocatedMessage>) {
        let mut recipients: usize = self.messages.iter().map(|m| m.waiting.len()).sum();
        for message in messages {
            if !self.messages.is_empty()
                && recipients + message.waiting.len() > LOCATED_RECIPIENTS_MAX
            {
                return;
            }
            recipients += message.waiting.len();
            self.messages.push(message);
        }
    }
}
