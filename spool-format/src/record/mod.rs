//! The records, one file for each group that is written and read together.
//!
//! A record is a struct that borrows: on the way to the disk from the caller, on
//! the way back from the mapped segment. [`Record::encode`] frames it,
//! [`Record::decode`] takes it from a payload whose checksum was right.
//!
//! What this module does not do: it has no types of mail. Addresses are texts that
//! were checked before they came here and are checked again by those who take
//! them out; numbers are plain.

mod body;
mod envelope;
mod outcome;
mod seal;
mod state;

pub use body::{CHUNK_BODY_OFFSET, ChunkRecord, OpenChunk};
pub use envelope::{
    Attribute, BodyKind, DeliverBy, DeliverByMode, EnvelopeRecord, Notify, RecipientField, Ret,
    SenderFields, SessionFields,
};
pub use outcome::{
    AttemptRecord, DoneField, DoneRecord, Mark, MarkRecord, Outcome, RecipientNumber, Told,
};
pub use seal::{BodyFault, BodyForm, Deadline, DomainRun, Extent, NoteField, SealRecord};
pub use state::{BeginRecord, EndRecord, NoteRecord, PartialRecord, PartialState};

use crate::field::{Count, DecodeError, Reader, Sink};
use crate::frame::{EncodeError, OpenFrame, PAYLOAD_BYTES_MAX, RecordKind, Seat, framed_bytes};

/// Recipients of one message: more than any client sends in one transaction, and
/// few enough that a number out of range cannot make a reader reserve much memory.
pub const RECIPIENTS_MAX: u32 = 1 << 20;

/// The number of a recipient, in range.
pub(crate) fn recipient_number(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.u32("recipient")? {
        number if number < RECIPIENTS_MAX => Ok(number),
        _ => Err(DecodeError::Value { field: "recipient" }),
    }
}

/// What all records have in common.
pub trait Record<'a>: Sized {
    /// The kind in the frame.
    const KIND: RecordKind;

    /// Writes the fields in their order on disk.
    fn write_fields<S: Sink>(&self, sink: &mut S);

    /// Reads the fields in their order on disk.
    ///
    /// # Errors
    /// What is not as this version writes it.
    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Whether the fields agree with one another. A record whose fields do not is
    /// never written, and refused when read.
    fn is_consistent(&self) -> bool {
        true
    }

    /// The octets that the record will take in the segment, header and zeros included.
    fn framed_bytes(&self) -> usize {
        let mut count = Count::default();
        self.write_fields(&mut count);
        framed_bytes(count.0)
    }

    /// Appends the framed record to `out`, for this seat and no other. Gives the
    /// octets that it takes.
    ///
    /// # Errors
    /// A record over [`PAYLOAD_BYTES_MAX`]. `out` is unchanged.
    ///
    /// # Panics
    /// If the fields contradict one another: that is an error of ours, and the
    /// record would be refused when the message is wanted back.
    fn encode(&self, seat: Seat, out: &mut Vec<u8>) -> Result<u32, EncodeError> {
        assert!(
            self.is_consistent(),
            "the fields of a record of kind \"{}\" contradict one another",
            Self::KIND
        );
        let mut count = Count::default();
        self.write_fields(&mut count);
        if count.0 > PAYLOAD_BYTES_MAX {
            return Err(EncodeError::TooLarge {
                payload_bytes: count.0,
            });
        }
        out.reserve(framed_bytes(count.0));
        let frame = OpenFrame::begin(Self::KIND, seat, out);
        self.write_fields(out);
        assert_eq!(
            frame.payload_bytes(out),
            count.0,
            "a record of kind \"{}\" is not as long as counted",
            Self::KIND
        );
        frame.finish(out)
    }

    /// From a payload whose checksum was right.
    ///
    /// # Errors
    /// What is not as this version writes it.
    fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let record = Self::read_fields(&mut reader)?;
        reader.finish()?;
        if record.is_consistent() {
            Ok(record)
        } else {
            Err(DecodeError::Contradiction)
        }
    }
}

#[cfg(test)]
mod tests;
