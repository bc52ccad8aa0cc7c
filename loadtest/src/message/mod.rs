//! The messages of a test: each says in itself who it is and how to see that it
//! came whole.
//!
//! One header field carries it all, so that it survives any relay that keeps
//! header fields:
//!
//! ```text
//! X-Loadtest: id=0123456789abcdef at=0123456789abcdef rcpts=0001 bytes=00000e2c crc=89abcdef
//! ```
//!
//! all numbers in hexadecimal: the message's id (run in the upper half, number
//! within the run in the lower), the moment it was generated (nanoseconds of
//! CLOCK_MONOTONIC, so only good on one machine), its recipients, the length of
//! its body and the CRC-32C of its body, both in canonical form (CRLF, no dots
//! doubled). The body repeats the id once per kibibyte, so that pieces of two
//! messages of one size cannot be mixed unnoticed.

mod check;
mod template;

pub(crate) use check::{Check, Verdict};
pub use template::Transfer;
pub(crate) use template::{Template, TemplateOptions};

/// Begins the header field.
pub(crate) const FIELD: &[u8] = b"X-Loadtest: id=";
/// What follows [`FIELD`]: where each number stands.
const AT: usize = FIELD.len() + 16 + b" at=".len();
const RCPTS: usize = AT + 16 + b" rcpts=".len();
const BYTES: usize = RCPTS + 4 + b" bytes=".len();
const CRC: usize = BYTES + 8 + b" crc=".len();
/// The field without its CRLF.
const FIELD_BYTES: usize = CRC + 8;

/// Which message: unique in a test, as long as runs differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MessageId {
    /// Which run of a generator; drawn at its start.
    pub(crate) run: u32,
    /// Which message of it, from 0 without gaps.
    pub(crate) number: u32,
}

impl MessageId {
    fn to_bits(self) -> u64 {
        u64::from(self.run) << 32 | u64::from(self.number)
    }

    fn from_bits(bits: u64) -> Self {
        Self {
            run: (bits >> 32) as u32,
            number: bits as u32,
        }
    }
}

/// Lower-case hexadecimal digits of `value`, most significant first.
fn hex<const N: usize>(value: u64) -> [u8; N] {
    let mut digits = [0; N];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = HEX[(value >> (4 * place) & 15) as usize];
    }
    digits
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}
