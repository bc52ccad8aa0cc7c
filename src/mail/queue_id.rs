//! The name of a message, and the proof that it is on stable storage.

use std::fmt;
use std::str::FromStr;

/// The name of a message in this spool; the operator's handle, and in every `250`.
///
/// The upper 8 bits are the number of the data core that took it, the lower 56 a
/// sequence that never repeats. Written in thirteen letters and digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId(u64);

/// Crockford's alphabet: no I, L, O, U, so that an id survives a telephone call.
const QUEUE_ID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 13 digits of 5 bits hold 64.
const QUEUE_ID_LETTERS: usize = 13;

impl QueueId {
    /// From its parts; bits of `sequence` above 56 are an error of ours.
    #[must_use]
    pub fn new(core: u8, sequence: u64) -> Self {
        assert!(
            sequence < 1 << 56,
            "queue id sequence {sequence} has more than 56 bits"
        );
        Self(u64::from(core) << 56 | sequence)
    }

    /// From the spool.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// For the spool.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The data core that took the message. It may not be the one that has it now.
    #[must_use]
    pub const fn core(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The lower 56 bits.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & ((1 << 56) - 1)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; QUEUE_ID_LETTERS];
        for (i, digit) in text.iter_mut().rev().enumerate() {
            *digit = QUEUE_ID_DIGITS[(self.0 >> (5 * i) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// The text is not a queue id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a queue id is 13 letters and digits, like 00D5K2N8Q1Z7M")]
pub struct QueueIdError;

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        if text.len() != QUEUE_ID_LETTERS {
            return Err(QueueIdError);
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = QUEUE_ID_DIGITS
                .iter()
                .position(|&d| d == upper)
                .ok_or(QueueIdError)? as u64;
            if value >> 59 != 0 {
                return Err(QueueIdError);
            }
            value = value << 5 | digit;
        }
        Ok(Self(value))
    }
}

/// The proof that a message is on stable storage.
///
/// A server session is generic over its receipt, and gives the positive reply to
/// the end of data only with one. The program's receipt is `spool::commit::Committed`,
/// which only the commit module can make.
pub trait Receipt {
    /// What the reply names.
    fn queue_id(&self) -> QueueId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_read_as_they_are_written() {
        for id in [0, 1, 31, 32, u64::MAX, 0x0102_0304_0506_0708] {
            let id = QueueId::from_u64(id);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
        for text in ["", "0", "ZZZZZZZZZZZZZ", "00000000000000", "0000000000OIL"] {
            assert_eq!(text.parse::<QueueId>(), Err(QueueIdError), "{text:?}");
        }
        let id = QueueId::new(3, 7);
        assert_eq!((id.core(), id.sequence()), (3, 7));
    }
}
