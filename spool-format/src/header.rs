//! The segment header: whose file this is, and which use of it.
//!
//! It is written twice, [`HEADER_COPY_BYTES`] apart, each copy with a checksum of
//! its own, since the loss of the epoch would be the loss of every record. The
//! first copy that reads is taken.
//!
//! Invariants:
//! - A file is called a segment only while its header, on stable storage, names that
//!   segment: what is being prepared, and what is to be used again, has another name.
//!   So zeros, or the header of another segment, are never what a crash leaves.
//!
//! What this module does not do: it does not draw epochs, and does not name files.

use crate::place::{Epoch, LogId, Offset, SegmentId, SegmentPlace};

/// The version of the format that this crate writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// What every segment begins with.
pub const SEGMENT_MAGIC: [u8; 8] = *b"TRNSPOOL";
/// One copy of the header in octets: a page, so that the two copies are in
/// different sectors of every disk.
pub const HEADER_COPY_BYTES: usize = 4096;
/// Both copies. The first record begins here.
pub const SEGMENT_HEADER_BYTES: usize = 2 * HEADER_COPY_BYTES;
/// The size of a segment file where nothing else is configured: a thousandth of
/// a small disk, and some ten thousand messages of ordinary size.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;
/// Smaller segments hold too little besides their header.
pub const SEGMENT_BYTES_MIN: u32 = 16 << 10;
/// An [`Offset`] has 32 bits; the rest is room for arithmetic.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// The octets of a copy that mean something; zeros follow.
pub(crate) const HEADER_FIELD_BYTES: usize = 76;

const _: () = assert!(HEADER_FIELD_BYTES <= HEADER_COPY_BYTES);
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(crate::frame::RECORD_ALIGN));
const _: () = assert!(SEGMENT_HEADER_BYTES < SEGMENT_BYTES_MIN as usize);

/// Tells one spool from another: drawn at random when a spool directory is made.
/// A segment that was copied into a wrong directory is found out by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpoolUuid(pub [u8; 16]);

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SegmentHeader {
    /// Which spool.
    pub spool: SpoolUuid,
    /// Which file of it.
    pub place: SegmentPlace,
    /// Which use of the file. Never 0.
    pub epoch: Epoch,
    /// The use before, of which octets may still be behind the last record; 0 if
    /// the file was new. Only tells stale octets from damage in a report.
    pub previous_epoch: Epoch,
    /// When this use began, milliseconds since 1970.
    pub created_ms: i64,
    /// The size of the file.
    pub segment_bytes: u32,
}

/// Why a segment has no header that counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum HeaderFault {
    /// Zeros, or no octets at all.
    #[error("there are zeros where the segment header should be")]
    Unbegun,
    /// Neither copy reads.
    #[error("both copies of the segment header are damaged")]
    Damaged,
    /// Written by a newer program.
    #[error(
        "the segment has format version {version}, and this program knows up to {FORMAT_VERSION}"
    )]
    NewerVersion {
        /// What it says.
        version: u32,
    },
    /// The header of another file.
    #[error("the segment header is that of {found}: the file was renamed or copied")]
    OtherSegment {
        /// What it says.
        found: SegmentPlace,
    },
}

impl SegmentHeader {
    /// Both copies, ready to be written at the beginning of the file.
    ///
    /// # Panics
    /// On an epoch of 0 or a size out of bounds: errors of ours.
    #[must_use]
    pub fn encode(&self) -> Box<[u8; SEGMENT_HEADER_BYTES]> {
        assert!(self.epoch.0 != 0, "an epoch is never 0");
        assert!(
            self.segment_bytes_valid(),
            "a segment cannot have {} octets",
            self.segment_bytes
        );
        let fields = self.encode_fields();
        let mut out = Box::new([0; SEGMENT_HEADER_BYTES]);
        out[..HEADER_FIELD_BYTES].copy_from_slice(&fields);
        out[HEADER_COPY_BYTES..][..HEADER_FIELD_BYTES].copy_from_slice(&fields);
        out
    }

    const fn segment_bytes_valid(&self) -> bool {
        self.segment_bytes >= SEGMENT_BYTES_MIN
            && self.segment_bytes <= SEGMENT_BYTES_MAX
            && self
                .segment_bytes
                .is_multiple_of(crate::frame::RECORD_ALIGN as u32)
    }

    pub(crate) fn encode_fields(&self) -> [u8; HEADER_FIELD_BYTES] {
        let mut out = [0; HEADER_FIELD_BYTES];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[16..32].copy_from_slice(&self.spool.0);
        out[32] = self.place.log.0;
        out[36..40].copy_from_slice(&self.place.segment.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[48..56].copy_from_slice(&self.previous_epoch.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.created_ms.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..HEADER_FIELD_BYTES - 4]);
        out[HEADER_FIELD_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// From the beginning of a file that is called `expected`. Any octets may be
    /// handed in; the first [`SEGMENT_HEADER_BYTES`] are looked at.
    ///
    /// # Errors
    /// Why it has no header that counts.
    pub fn decode(file: &[u8], expected: SegmentPlace) -> Result<Self, HeaderFault> {
        let file = &file[..file.len().min(SEGMENT_HEADER_BYTES)];
        let first = Self::decode_fields(file);
        let second = || Self::decode_fields(file.get(HEADER_COPY_BYTES..).unwrap_or(&[]));
        let header = match first {
            Err(HeaderFault::Damaged) => match second() {
                Err(HeaderFault::Damaged) if file.iter().all(|&octet| octet == 0) => {
                    return Err(HeaderFault::Unbegun);
                }
                second => second?,
            },
            first => first?,
        };
        if header.place == expected {
            Ok(header)
        } else {
            Err(HeaderFault::OtherSegment {
                found: header.place,
            })
        }
    }

    pub(crate) fn decode_fields(copy: &[u8]) -> Result<Self, HeaderFault> {
        let Some(copy) = copy.first_chunk::<HEADER_FIELD_BYTES>() else {
            return Err(HeaderFault::Damaged);
        };
        let u32_at =
            |at: usize| u32::from_le_bytes([copy[at], copy[at + 1], copy[at + 2], copy[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        if copy[..8] != SEGMENT_MAGIC
            || crc32c::crc32c(&copy[..HEADER_FIELD_BYTES - 4]) != u32_at(HEADER_FIELD_BYTES - 4)
        {
            return Err(HeaderFault::Damaged);
        }
        let version = u32_at(8);
        if version > FORMAT_VERSION {
            return Err(HeaderFault::NewerVersion { version });
        }
        let mut spool = SpoolUuid([0; 16]);
        spool.0.copy_from_slice(&copy[16..32]);
        let header = Self {
            spool,
            place: SegmentPlace {
                log: LogId(copy[32]),
                segment: SegmentId(u32_at(36)),
            },
            epoch: Epoch(u64_at(40)),
            previous_epoch: Epoch(u64_at(48)),
            created_ms: u64_at(56).cast_signed(),
            segment_bytes: u32_at(12),
        };
        if version == 0 || header.epoch.0 == 0 || !header.segment_bytes_valid() {
            return Err(HeaderFault::Damaged);
        }
        Ok(header)
    }

    /// Where the first record begins.
    #[must_use]
    pub const fn first_offset() -> Offset {
        Offset(SEGMENT_HEADER_BYTES as u32)
    }
}
