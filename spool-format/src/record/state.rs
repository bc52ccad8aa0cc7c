//! State that is not a message: interrupted transactions, notes of other parts of
//! the program, and the end of a segment.

use super::{BodyForm, Extent, Record};
use crate::field::{DecodeError, List, Reader, Sink, SinkExt, octet_enum};
use crate::frame::{Checksum, RecordKind};
use crate::place::{Offset, Place, SegmentId, Stamp};

octet_enum! {
    /// How far an interrupted transaction is.
    pub enum PartialState ("state of a transaction") {
        /// More is to come.
        Receiving = 1, "receiving";
        /// All was received and sealed; only the reply may have been lost.
        Complete = 2, "complete";
        /// Given up: expired, or over the quota. Its octets may go.
        Forgotten = 3, "forgotten";
    }
}

/// How far a transaction with a TRANSID came (RFC 1845). The newest one of an
/// identity and TRANSID counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialRecord<'a> {
    /// When.
    pub stamp: Stamp,
    /// The client: its EHLO name and authenticated identity.
    pub identity: &'a str,
    /// RFC 1845 §3, opaque.
    pub transid: &'a str,
    /// The message that it is to become, or became.
    pub queue_id: u64,
    /// How far it is.
    pub state: PartialState,
    /// Canonical octets (not dot-stuffed) that are on stable storage once this
    /// record is; what `355` answers.
    pub offset: u64,
    /// The envelope: RCPT is not repeated.
    pub envelope: Place,
    /// How the octets so far are stored.
    pub form: BodyForm,
    /// There are octets above 127 so far.
    pub eight_bit: bool,
    /// CRC-32C over the octets so far, as stored.
    pub checksum: Checksum,
    /// The body so far, in order: no fewer octets than `offset`, as dot-stuffing only
    /// adds some. Also when complete, for a seal that did not reach the disk.
    pub extents: List<'a, Extent>,
}

impl<'a> Record<'a> for PartialRecord<'a> {
    const KIND: RecordKind = RecordKind::Partial;

    fn is_consistent(&self) -> bool {
        let stored: u64 = self
            .extents
            .iter()
            .map(|extent| u64::from(extent.length))
            .sum();
        self.state == PartialState::Forgotten || stored >= self.offset
    }

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.i64(self.stamp.0);
        sink.u64(self.queue_id);
        sink.u8(self.state.octet());
        sink.u8(self.form.octet());
        sink.u8(u8::from(self.eight_bit));
        sink.u64(self.offset);
        sink.u32(self.envelope.segment.0);
        sink.u32(self.envelope.offset.0);
        sink.u32(self.checksum.as_u32());
        sink.text(self.identity);
        sink.text(self.transid);
        self.extents.write(sink);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            stamp: Stamp(reader.i64("stamp")?),
            queue_id: reader.u64("queue id")?,
            state: PartialState::read(reader)?,
            form: BodyForm::read(reader)?,
            eight_bit: match reader.u8("eight-bit")? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Value { field: "eight-bit" }),
            },
            offset: reader.u64("offset")?,
            envelope: Place {
                segment: SegmentId(reader.u32("envelope segment")?),
                offset: Offset(reader.u32("envelope offset")?),
            },
            checksum: Checksum::from_u32(reader.u32("body checksum")?),
            identity: reader.text("identity")?,
            transid: reader.text("TRANSID")?,
            extents: reader.list("extents")?,
        })
    }
}

/// A fact for another part of the program: opaque here. The newest one of a tag
/// and key counts. Notes that have to be true exactly if a message was taken are
/// part of its seal instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoteRecord<'a> {
    /// When.
    pub stamp: Stamp,
    /// Whose fact. Given out in FORMAT.md.
    pub tag: u16,
    /// Which fact.
    pub key: &'a [u8],
    /// What it says; `None` takes an earlier note back.
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> for NoteRecord<'a> {
    const KIND: RecordKind = RecordKind::Note;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.i64(self.stamp.0);
        sink.u16(self.tag);
        sink.octets(self.key);
        sink.octets_option(self.value);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            stamp: Stamp(reader.i64("stamp")?),
            tag: reader.u16("note tag")?,
            key: reader.octets("note key")?,
            value: reader.octets_option("note value")?,
        })
    }
}

/// The first record of a segment: what has to outlive all segments before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeginRecord {
    /// The last stamp that was given.
    pub stamp: Stamp,
    /// No queue id of this writer from this one on was ever given.
    pub queue_id_next: u64,
}

impl Record<'_> for BeginRecord {
    const KIND: RecordKind = RecordKind::Begin;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.i64(self.stamp.0);
        sink.u64(self.queue_id_next);
    }

    fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            stamp: Stamp(reader.i64("stamp")?),
            queue_id_next: reader.u64("next queue id")?,
        })
    }
}

/// The last record of a segment that was closed in order: everything before it
/// was on stable storage. A segment without one was cut off by a crash, a failed
/// write, or is still being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndRecord {
    /// Records before this one.
    pub records: u32,
}

impl EndRecord {
    /// The octets that it takes: the room to keep free at the end of a segment.
    pub const FRAMED_BYTES: usize = crate::frame::framed_bytes(4);
}

impl Record<'_> for EndRecord {
    const KIND: RecordKind = RecordKind::End;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u32(self.records);
    }

    fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            records: reader.u32("records")?,
        })
    }
}
