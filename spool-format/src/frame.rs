//! The frame of a record: a header of sixteen octets, the payload, zeros up to
//! the next multiple of eight.
//!
//! Relies on: the epoch of the segment's header, which is part of the mark and of
//! the checksum together with the record's own offset.
//!
//! Invariants:
//! - A record begins at a multiple of [`RECORD_ALIGN`], behind the segment header.
//! - `offset + RECORD_HEADER_BYTES + length <= segment_bytes`.
//! - Zeros are never a record, since no mark is zero.
//! - Octets that were written with another epoch or at another offset are taken
//!   for a record with probability 2⁻⁶³: mark and checksum both have to agree.
//!
//! The mark does what a magic number does, and differs at every offset of every
//! use of a file. Looking for the next record behind damage therefore costs one
//! comparison for each eight octets, and no checksum over what a client put into
//! a message to look like a record.
//!
//! What this module does not do: it does not know what a payload means.

use crate::field::octet_enum;
use crate::place::{Epoch, Offset};

/// Header of a record in octets.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;
/// Longest payload. A record has to fit into a segment; at this size an envelope
/// holds more than a hundred thousand recipients of ordinary length.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

octet_enum! {
    /// What a record says. The octet is in its header; 0 is never a kind.
    pub enum RecordKind ("record kind") {
        /// [`EnvelopeRecord`](crate::EnvelopeRecord).
        Envelope = 1, "envelope";
        /// [`ChunkRecord`](crate::ChunkRecord).
        Chunk = 2, "chunk of a body";
        /// [`SealRecord`](crate::SealRecord): from here on the message is ours.
        Seal = 3, "seal of a message";
        /// [`DoneRecord`](crate::DoneRecord).
        Done = 4, "recipients done";
        /// [`MarkRecord`](crate::MarkRecord).
        Mark = 5, "mark by the operator";
        /// [`AttemptRecord`](crate::AttemptRecord).
        Attempt = 6, "delivery attempt";
        /// [`PartialRecord`](crate::PartialRecord).
        Partial = 7, "interrupted transaction";
        /// [`NoteRecord`](crate::NoteRecord).
        Note = 8, "note";
        /// [`EndRecord`](crate::EndRecord): the last of a segment that was closed in order.
        End = 9, "end of segment";
        /// [`BeginRecord`](crate::BeginRecord): the first of a segment.
        Begin = 10, "beginning of segment";
    }
}

/// Where a record will stand: both are part of its mark and checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seat {
    /// The use of the segment file.
    pub epoch: Epoch,
    /// Where the header of the record begins; a multiple of [`RECORD_ALIGN`].
    pub offset: Offset,
}

/// Why a record was not written. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than [`PAYLOAD_BYTES_MAX`].
    #[error(
        "a record of {payload_bytes} octets is larger than the {PAYLOAD_BYTES_MAX} octets that a record may have"
    )]
    TooLarge {
        /// What it would have been.
        payload_bytes: usize,
    },
}

/// Why there is no record at an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum RecordFault {
    /// The offset is not one where a record can begin.
    #[error("no record can begin at this offset")]
    Misplaced,
    /// The mark is not that of this epoch and offset.
    #[error(
        "no record begins here: not written, overwritten, or left by an earlier use of the file"
    )]
    NoMark,
    /// The mark is right, and the length goes beyond the segment or the limit.
    #[error("a record begins here, but its length is damaged")]
    Length,
    /// The mark is right, and the checksum is not.
    #[error("a record begins here, but its checksum is wrong: half written or damaged")]
    Checksum,
}

/// A record whose mark and checksum are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framed<'a> {
    /// The octet that names the kind; see [`RecordKind::from_octet`].
    pub kind_octet: u8,
    /// Bits that say how the payload is written: none are defined in version 1.
    pub flags: u8,
    /// What it says.
    pub payload: &'a [u8],
    /// Where the next record may begin; may be the end of the segment or up to
    /// seven octets behind it.
    pub next: Offset,
}

impl Framed<'_> {
    /// The kind, if this version knows it and how it is written.
    #[must_use]
    pub fn kind(&self) -> Option<RecordKind> {
        if self.flags == 0 {
            RecordKind::from_octet(self.kind_octet)
        } else {
            None
        }
    }
}

/// The octets that a record of this payload takes in the segment, zeros included.
#[must_use]
pub const fn framed_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGN)
}

/// CRC-32C over octets that come in pieces: the checksum of a whole body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Checksum(u32);

impl Checksum {
    /// The checksum of nothing.
    pub const EMPTY: Self = Self(0);

    /// From the spool.
    #[must_use]
    pub const fn from_u32(value: u32) -> Self {
        Self(value)
    }

    /// For the spool.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// With more octets behind those so far.
    #[must_use]
    pub fn append(self, octets: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, octets))
    }
}

/// The mark of a record: never zero.
///
/// Two rounds of multiply and shift: a change of one bit in epoch or offset
/// changes about half of the mark. A checksum would be linear: the marks of two
/// epochs would differ by the same bits at every offset, and one collision of two
/// epochs would be a collision everywhere.
#[inline]
pub(crate) const fn mark(seat: Seat) -> u32 {
    let mut x = seat.epoch.0 ^ (seat.offset.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((x >> 32) as u32) | 1
}

/// CRC-32C over epoch, offset, length, kind, flags and reserved octets, payload.
#[inline]
fn record_checksum(seat: Seat, described: [u8; 8], payload: &[u8]) -> u32 {
    let mut head = [0; 20];
    head[..8].copy_from_slice(&seat.epoch.0.to_le_bytes());
    head[8..12].copy_from_slice(&seat.offset.0.to_le_bytes());
    head[12..].copy_from_slice(&described);
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// A record whose payload is being appended to a buffer.
///
/// Begin it, append the payload to the same buffer, finish it. Dropping it
/// without that leaves sixteen zeros in the buffer, which are no record.
#[must_use = "a frame that is not finished is not a record"]
#[derive(Debug)]
pub struct OpenFrame {
    kind: RecordKind,
    seat: Seat,
    /// Where the header is in the buffer.
    begin: usize,
}

impl OpenFrame {
    /// Makes room for the header at the end of `out`.
    ///
    /// # Panics
    /// If the seat is not aligned: that is an error of ours.
    pub fn begin(kind: RecordKind, seat: Seat, out: &mut Vec<u8>) -> Self {
        assert!(
            (seat.offset.0 as usize).is_multiple_of(RECORD_ALIGN),
            "a record cannot begin at offset {}",
            seat.offset.0
        );
        let begin = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        Self { kind, seat, begin }
    }

    /// Octets of payload so far.
    #[must_use]
    pub fn payload_bytes(&self, out: &[u8]) -> usize {
        out.len() - self.begin - RECORD_HEADER_BYTES
    }

    /// Writes the header over the room made for it and fills up with zeros.
    /// Gives the octets that the record takes.
    ///
    /// # Errors
    /// A payload over the limit. `out` is as it was before [`OpenFrame::begin`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<u32, EncodeError> {
        let payload_bytes = self.payload_bytes(out);
        if payload_bytes > PAYLOAD_BYTES_MAX {
            out.truncate(self.begin);
            return Err(EncodeError::TooLarge { payload_bytes });
        }
        let mut described = [0; 8];
        // The limit is far below 2³².
        described[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        described[4] = self.kind.octet();
        let (header, payload) = out[self.begin..].split_at_mut(RECORD_HEADER_BYTES);
        let checksum = record_checksum(self.seat, described, payload);
        header[..4].copy_from_slice(&mark(self.seat).to_le_bytes());
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        header[8..].copy_from_slice(&described);
        let total = framed_bytes(payload_bytes);
        out.resize(self.begin + total, 0);
        Ok(total as u32)
    }
}

const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));

/// How long the record at `offset` says that it is, with its frame; no more than a record
/// can have, and nothing is checked. For who has to fetch it before it is read.
#[must_use]
pub fn framed_bytes_at(segment: &[u8], offset: Offset) -> u32 {
    let header = segment
        .get(offset.0 as usize..)
        .and_then(|octets| octets.first_chunk::<RECORD_HEADER_BYTES>());
    let length = header.map_or(0, |header| {
        u32::from_le_bytes([header[8], header[9], header[10], header[11]])
    });
    framed_bytes((length as usize).min(PAYLOAD_BYTES_MAX)) as u32
}

/// Reads the record at `seat.offset` of a segment. Any octets may be handed in.
///
/// # Errors
/// Why there is none.
pub fn read_frame(segment: &[u8], seat: Seat) -> Result<Framed<'_>, RecordFault> {
    let offset = seat.offset.0 as usize;
    if !offset.is_multiple_of(RECORD_ALIGN) {
        return Err(RecordFault::Misplaced);
    }
    let (header, rest) = segment
        .get(offset..)
        .and_then(|octets| octets.split_first_chunk::<RECORD_HEADER_BYTES>())
        .ok_or(RecordFault::Misplaced)?;
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if word(0) != mark(seat) {
        return Err(RecordFault::NoMark);
    }
    let length = word(8) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(RecordFault::Length);
    }
    let payload = rest.get(..length).ok_or(RecordFault::Length)?;
    let mut described = [0; 8];
    described.copy_from_slice(&header[8..]);
    if word(4) != record_checksum(seat, described, payload) {
        return Err(RecordFault::Checksum);
    }
    Ok(Framed {
        kind_octet: header[12],
        // Reserved octets count as flags: whatever uses them is not version 1.
        flags: header[13] | header[14] | header[15],
        payload,
        // The sum is below 2³² by the limit unless the segment is near 4 GiB;
        // then there is no next record.
        next: Offset(u32::try_from(offset + framed_bytes(length)).unwrap_or(u32::MAX)),
    })
}
