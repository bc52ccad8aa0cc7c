//! Chunk records: the octets of a body in wire form.
//!
//! A body is copied once, from the buffer that it was received into to the batch:
//! [`OpenChunk`] makes room for header and fields, the caller appends octets as
//! they come, and finishing it computes the checksum over them in place.

use super::Record;
use crate::field::{DecodeError, Reader, Sink, SinkExt};
use crate::frame::{
    EncodeError, OpenFrame, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RecordKind, Seat, framed_bytes,
};
use crate::place::Offset;

/// Octets of a chunk record before those of the body: the frame's header, queue
/// id, sequence, four reserved octets.
pub const CHUNK_BODY_OFFSET: usize = RECORD_HEADER_BYTES + CHUNK_FIELD_BYTES;

const CHUNK_FIELD_BYTES: usize = 16;

/// A piece of a body. Chunks of other messages may stand between those of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// 0, 1, … within a generation of the message.
    pub sequence: u32,
    /// In wire form.
    pub body: &'a [u8],
}

impl<'a> Record<'a> for ChunkRecord<'a> {
    const KIND: RecordKind = RecordKind::Chunk;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u64(self.queue_id);
        sink.u32(self.sequence);
        sink.u32(0);
        sink.put(self.body);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let queue_id = reader.u64("queue id")?;
        let sequence = reader.u32("sequence")?;
        if reader.u32("reserved")? != 0 {
            return Err(DecodeError::Value { field: "reserved" });
        }
        Ok(Self {
            queue_id,
            sequence,
            body: reader.take_rest("body"),
        })
    }
}

impl ChunkRecord<'_> {
    /// The octets that a chunk with a body of this length takes in the segment.
    #[must_use]
    pub const fn framed_bytes_for(body_bytes: usize) -> usize {
        framed_bytes(CHUNK_FIELD_BYTES + body_bytes)
    }

    /// The longest body that a chunk of at most `framed` octets can hold.
    #[must_use]
    pub const fn body_bytes_in(framed: usize) -> usize {
        let framed = if framed > PAYLOAD_BYTES_MAX {
            PAYLOAD_BYTES_MAX
        } else {
            framed
        };
        (framed - framed % crate::frame::RECORD_ALIGN).saturating_sub(CHUNK_BODY_OFFSET)
    }

    /// Appends a framed chunk whose body comes in several slices. Gives the octets
    /// that the record takes.
    ///
    /// # Errors
    /// A body over the limit. `out` is unchanged.
    pub fn encode_slices(
        queue_id: u64,
        sequence: u32,
        slices: &[&[u8]],
        seat: Seat,
        out: &mut Vec<u8>,
    ) -> Result<u32, EncodeError> {
        let body_bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let payload_bytes = CHUNK_FIELD_BYTES + body_bytes;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(EncodeError::TooLarge { payload_bytes });
        }
        out.reserve(framed_bytes(payload_bytes));
        let chunk = OpenChunk::begin(queue_id, sequence, seat, out);
        slices.iter().for_each(|slice| out.extend_from_slice(slice));
        chunk.finish(out)
    }
}

/// A chunk whose body is being appended to a buffer.
#[must_use = "a chunk that is not finished is not a record"]
#[derive(Debug)]
pub struct OpenChunk {
    frame: OpenFrame,
}

impl OpenChunk {
    /// Makes room for the header and writes the fields. Append the body to `out`,
    /// then [`OpenChunk::finish`].
    pub fn begin(queue_id: u64, sequence: u32, seat: Seat, out: &mut Vec<u8>) -> Self {
        let frame = OpenFrame::begin(RecordKind::Chunk, seat, out);
        out.u64(queue_id);
        out.u32(sequence);
        out.u32(0);
        Self { frame }
    }

    /// Octets of body so far.
    #[must_use]
    pub fn body_bytes(&self, out: &[u8]) -> usize {
        self.frame.payload_bytes(out) - CHUNK_FIELD_BYTES
    }

    /// Computes the checksum in place. Gives the octets that the record takes.
    ///
    /// # Errors
    /// A body over the limit. `out` is as it was before [`OpenChunk::begin`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<u32, EncodeError> {
        self.frame.finish(out)
    }

    /// Where the body begins in the segment, for the seal's extent.
    #[must_use]
    pub const fn body_offset(seat: Seat) -> Offset {
        Offset(seat.offset.0 + CHUNK_BODY_OFFSET as u32)
    }
}
