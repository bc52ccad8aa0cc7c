//! What the machine wants done, or tells.

use spool_format::{Offset, SegmentId};

use super::{Committed, Ticket, WriteFault};

/// How durable a write must be before it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// In the page cache.
    None,
    /// These octets on stable storage: `RWF_DSYNC` will do.
    Range,
    /// Every octet of the file on stable storage: `fdatasync` behind the write.
    File,
}

/// What the machine wants done, or tells.
#[derive(PartialEq, Eq, Debug)]
pub enum Output {
    /// Write `bytes` at `offset`, make them as durable as `durability` says, and answer
    /// with [`Commit::written`](super::Commit::written), giving the buffer back. `bytes` may be empty: then
    /// only the sync is wanted.
    Write {
        /// The file.
        segment: SegmentId,
        /// Where in it.
        offset: Offset,
        /// What.
        bytes: Vec<u8>,
        /// How durable.
        durability: Durability,
    },
    /// Everything appended before this ticket was taken is on stable storage.
    Committed {
        /// Whose.
        ticket: Ticket,
        /// The proof.
        receipt: Committed,
    },
    /// It will never be committed.
    Failed {
        /// Whose.
        ticket: Ticket,
    },
    /// This segment is full, and all its records but the last, which only says so, are on
    /// stable storage. Nothing is written to it again.
    SegmentClosed {
        /// Which.
        segment: SegmentId,
        /// Behind its last record before the end record.
        end: Offset,
    },
    /// The log is closed to writes for ever. Told once.
    LogClosed {
        /// Why.
        fault: WriteFault,
    },
}
