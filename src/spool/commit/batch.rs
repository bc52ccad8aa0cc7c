//! Batches, and where the next record goes.

use spool_format::{EndRecord, Epoch, Offset, Seat, SegmentHeader, SegmentId, framed_bytes};

use super::Ticket;
use crate::mail::QueueId;

/// The number of a batch. Batches become durable in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchNumber(u64);

impl BatchNumber {
    /// Before the first batch: what was durable when the log was opened.
    pub const START: Self = Self(0);
    /// The first batch since the log was opened: it has the record with which the first
    /// segment of this start begins.
    pub const FIRST: Self = Self(1);
    /// No batch ever.
    pub const NEVER: Self = Self(u64::MAX);

    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A batch: records side by side, in one segment.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: BatchNumber,
    pub(super) segment: SegmentId,
    pub(super) offset: Offset,
    pub(super) bytes: Vec<u8>,
    pub(super) tickets: Vec<(Ticket, QueueId)>,
    pub(super) riders: Riders,
    /// Nothing follows it in its segment.
    pub(super) ends_segment: bool,
}

/// What its riders want of a batch, the most urgent of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Riders {
    None,
    /// To be synced with the others.
    Some,
    /// To be written at once, and to be synced with the others.
    Prompt,
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) segment: SegmentId,
    pub(super) epoch: Epoch,
    pub(super) offset: u32,
    /// So far, for the end record.
    pub(super) records: u32,
}

impl Tail {
    pub(super) fn new(epoch_seed: u64, segment: SegmentId) -> Self {
        Self {
            segment,
            epoch: epoch_of(epoch_seed, segment),
            offset: FIRST_OFFSET,
            records: 0,
        }
    }

    pub(super) fn seat(self) -> Seat {
        Seat {
            epoch: self.epoch,
            offset: Offset(self.offset),
        }
    }
}

/// The epoch of a segment: its id, spread over 64 bits with the seed (the finisher of
/// splitmix64, a bijection for a given seed, so that two segments of one start never
/// share an epoch). Never 0.
pub(super) fn epoch_of(seed: u64, segment: SegmentId) -> Epoch {
    let mut z = seed ^ u64::from(segment.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Epoch((z ^ (z >> 31)).max(1))
}

/// Where the first record of a segment begins.
pub(super) const FIRST_OFFSET: u32 = SegmentHeader::first_offset().0;
/// Its first record.
pub(super) const BEGIN_BYTES: u32 = framed_bytes(16) as u32;
/// Kept free at the end of a segment for its end record.
pub(super) const END_BYTES: u32 = EndRecord::FRAMED_BYTES as u32;
