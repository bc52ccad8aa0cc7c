//! The on-disk format of the spool log, as a library of its own.
//!
//! It does no I/O, reads no clock, and knows no types of mail: octets in, facts
//! out, and back. FORMAT.md describes the format itself.

mod field;
#[cfg(test)]
mod format_text;
mod frame;
mod header;
mod place;
mod record;
mod recovery;
mod scan;
mod summary;
mod table;
mod text;

pub use field::{DecodeError, Element, List, ListIter, Reader, Sink};
pub use frame::{
    Checksum, EncodeError, Framed, OpenFrame, PAYLOAD_BYTES_MAX, RECORD_ALIGN, RECORD_HEADER_BYTES,
    RecordFault, RecordKind, Seat, framed_bytes, framed_bytes_at, read_frame,
};
pub use header::{
    FORMAT_VERSION, HEADER_COPY_BYTES, HeaderFault, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, SpoolUuid,
};
pub use place::{Epoch, Location, LogId, Offset, Place, SegmentId, SegmentPlace, Stamp};
pub use record::{
    AttemptRecord, Attribute, BeginRecord, BodyFault, BodyForm, BodyKind, CHUNK_BODY_OFFSET,
    ChunkRecord, Deadline, DeliverBy, DeliverByMode, DomainRun, DoneField, DoneRecord, EndRecord,
    EnvelopeRecord, Extent, Mark, MarkRecord, NoteField, NoteRecord, Notify, OpenChunk, Outcome,
    PartialRecord, PartialState, RECIPIENTS_MAX, RecipientField, RecipientNumber, Record, Ret,
    SealRecord, SenderFields, SessionFields, Told,
};
pub use recovery::{
    AttemptFact, BrokenMessage, Judged, Listed, LiveMessage, LiveMessages, Missing, NameId,
    NoteFact, PartialFact, RecipientSet, Recovered, Recovery, Seen, SegmentFacts, SegmentRead,
    Source, Undecodable, Unlisted,
};
pub use scan::{Damage, Item, Scanner, TailKind};
pub use summary::{SUMMARY_MAGIC, Summary, SummaryBuilder, SummaryFault, is_summarized};
pub use table::{Body, Fate, Kept, Look, Position, Severity, Verdict, verdict};
pub use text::{QueueIdText, RecordText};
