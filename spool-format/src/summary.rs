//! The summary of a segment: its records without envelopes and bodies, in a file
//! beside it, so that a restart reads megabytes instead of gigabytes.
//!
//! It is written once, when nothing more is appended to the segment, and is never
//! needed: where it is missing, damaged, or that of another use of the file, the
//! segment is scanned. It holds the payloads as they stand in the segment, so that
//! recovery reads both with the same code.
//!
//! What this module does not do: it does not decide when a summary is written, and
//! does not vouch for octets of bodies: those are checked when they are sent.

use crate::field::{DecodeError, Reader, Sink, SinkExt};
use crate::frame::RecordKind;
use crate::header::{FORMAT_VERSION, HEADER_FIELD_BYTES, SegmentHeader};
use crate::place::Offset;
use crate::scan::{Damage, Item, Scanner, TailKind};
use crate::table::{Body, Look};

/// What every summary begins with.
pub const SUMMARY_MAGIC: [u8; 8] = *b"TRNSUMRY";

/// Magic, checksum, version, length.
const SUMMARY_HEADER_BYTES: usize = 24;
/// The checksum covers everything behind it.
const CHECKED_FROM: usize = 12;

/// Why a summary does not count. The segment is scanned instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum SummaryFault {
    /// Too short, no magic, or the checksum is wrong.
    #[error("the summary is damaged or was not written to its end")]
    Damaged,
    /// Written by a newer program.
    #[error(
        "the summary has format version {version}, and this program knows up to {FORMAT_VERSION}"
    )]
    NewerVersion {
        /// What it says.
        version: u32,
    },
    /// That of another segment, or of another use of the file.
    #[error("the summary is not that of this use of the segment")]
    OtherSegment,
}

/// What belongs into a summary.
#[must_use]
pub const fn is_summarized(kind: RecordKind) -> bool {
    !matches!(kind, RecordKind::Envelope | RecordKind::Chunk)
}

/// Collects a summary while a segment is written or scanned.
#[derive(Clone, Debug, Default)]
pub struct SummaryBuilder {
    records: u32,
    items: u32,
    octets: Vec<u8>,
    damage: Vec<Damage>,
}

impl SummaryBuilder {
    /// For a segment without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next record of the segment. What does not belong into a summary is
    /// counted only.
    pub fn record(&mut self, offset: Offset, kind: RecordKind, payload: &[u8]) {
        self.records += 1;
        if is_summarized(kind) {
            self.items += 1;
            self.octets.u32(offset.0);
            // The limit of a payload is far below 2³².
            self.octets.u32(payload.len() as u32);
            self.octets.put(&[kind.octet(), 0, 0, 0]);
            self.octets.put(payload);
        }
    }

    /// Octets between two records that are none.
    pub fn damage(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// The file. `end` is where the tail begins.
    #[must_use]
    pub fn finish(self, header: &SegmentHeader, end: Offset, tail: TailKind) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.octets.len() + 256);
        out.put(&SUMMARY_MAGIC);
        out.u32(0);
        out.u32(FORMAT_VERSION);
        out.u64(0);
        out.put(&header.encode_fields());
        out.u32(end.0);
        out.u8(tail.octet());
        out.u32(self.records);
        out.u32(self.items);
        out.u32(self.damage.len() as u32);
        for damage in &self.damage {
            out.u32(damage.begin.0);
            out.u32(damage.end.0);
        }
        out.put(&self.octets);
        let length = out.len() as u64;
        out[16..SUMMARY_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&out[CHECKED_FROM..]);
        out[8..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The summary of a segment that is scanned for it. `None` if it holds records
    /// that this version does not know: a summary would hide them from the next.
    #[must_use]
    pub fn scan(file: &[u8], header: &SegmentHeader) -> Option<Vec<u8>> {
        let mut builder = Self::new();
        for item in Scanner::new(file, header) {
            match item {
                Item::Record {
                    offset,
                    kind,
                    payload,
                } => builder.record(offset, kind, payload),
                Item::Unknown { .. } => return None,
                Item::Damage(damage) => builder.damage(damage),
                Item::Tail { offset, kind } => return Some(builder.finish(header, offset, kind)),
            }
        }
        None
    }
}

/// A summary whose checksum was right.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    /// The header of the segment.
    pub header: SegmentHeader,
    /// Where the tail begins.
    pub end: Offset,
    /// What is behind the last record.
    pub tail: TailKind,
    /// Records in the segment, those that are not in the summary included.
    pub records: u32,
    damage: &'a [u8],
    items: u32,
    octets: &'a [u8],
}

impl<'a> Summary<'a> {
    /// From a file. Any octets may be handed in.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn decode(file: &'a [u8]) -> Result<Self, SummaryFault> {
        let Some((head, rest)) = file.split_first_chunk::<SUMMARY_HEADER_BYTES>() else {
            return Err(SummaryFault::Damaged);
        };
        let u32_at =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != SUMMARY_MAGIC {
            return Err(SummaryFault::Damaged);
        }
        let length = u64::from(u32_at(16)) | (u64::from(u32_at(20)) << 32);
        if length != file.len() as u64 || crc32c::crc32c(&file[CHECKED_FROM..]) != u32_at(8) {
            return Err(SummaryFault::Damaged);
        }
        let version = u32_at(12);
        if version > FORMAT_VERSION {
            return Err(SummaryFault::NewerVersion { version });
        }
        if version == 0 {
            return Err(SummaryFault::Damaged);
        }
        Self::decode_fields(rest).ok_or(SummaryFault::Damaged)
    }

    fn decode_fields(rest: &'a [u8]) -> Option<Self> {
        let (header, rest) = rest.split_at_checked(HEADER_FIELD_BYTES)?;
        let header = SegmentHeader::decode_fields(header).ok()?;
        let mut reader = Reader::new(rest);
        let end = Offset(reader.u32("end").ok()?);
        let tail = TailKind::read(&mut reader).ok()?;
        let records = reader.u32("records").ok()?;
        let items = reader.u32("items").ok()?;
        let damages = reader.u32("damages").ok()? as usize;
        let (damage, octets) = reader.rest().split_at_checked(damages.checked_mul(8)?)?;
        let summary = Self {
            header,
            end,
            tail,
            records,
            damage,
            items,
            octets,
        };
        // Walked once here, so that iterating cannot fail half-way.
        let mut rest = Reader::new(octets);
        for _ in 0..items {
            Self::item(&mut rest).ok()?;
        }
        rest.finish().ok()?;
        let mut behind = SegmentHeader::first_offset();
        for (begin, end) in summary.damage() {
            if begin < behind || end <= begin || end > summary.end {
                return None;
            }
            behind = end;
        }
        Some(summary)
    }

    fn item(reader: &mut Reader<'a>) -> Result<(Offset, RecordKind, &'a [u8]), DecodeError> {
        let value = |field| DecodeError::Value { field };
        let offset = Offset(reader.u32("offset")?);
        let length = reader.u32("length")?;
        let kind = RecordKind::read(reader)?;
        if reader.u8("reserved")? != 0 || reader.u16("reserved")? != 0 {
            return Err(value("reserved"));
        }
        Ok((offset, kind, reader.take(length as usize, "payload")?))
    }

    /// The records in their order in the segment.
    pub fn records(&self) -> impl Iterator<Item = (Offset, RecordKind, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.octets);
        (0..self.items).map_while(move |_| Self::item(&mut reader).ok())
    }

    /// Octets between records that are none: beginning and end.
    pub fn damage(&self) -> impl Iterator<Item = (Offset, Offset)> + use<'a> {
        let mut reader = Reader::new(self.damage);
        std::iter::from_fn(move || {
            Some((
                Offset(reader.u32("begin").ok()?),
                Offset(reader.u32("end").ok()?),
            ))
        })
    }

    /// What the segment looked like when it was summarized.
    #[must_use]
    pub const fn look(&self) -> Look {
        Look::Records {
            body: if self.damage.is_empty() {
                Body::Whole
            } else {
                Body::Holed
            },
            tail: self.tail,
        }
    }
}
