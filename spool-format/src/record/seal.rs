//! The seal record: the message is whole, and these are its parts.
//!
//! Before its seal is on stable storage a message is nothing; from then on it is
//! ours. The seal also says what the index of the queue needs, so that neither a
//! restart nor a listing reads envelopes, and it carries the notes that must be
//! true exactly if the message is here.

use super::{DeliverByMode, RECIPIENTS_MAX, RecipientNumber, Record};
use crate::field::{DecodeError, Element, List, Reader, Sink, SinkExt, flag, octet_enum};
use crate::frame::{Checksum, RecordKind};
use crate::place::{LogId, Offset, Place, SegmentId, SegmentPlace, Stamp};

octet_enum! {
    /// How dots at the beginnings of lines are stored. Decides by which command
    /// the octets can be sent as they are.
    pub enum BodyForm ("body form") {
        /// No line begins with a dot: good for DATA and for BDAT.
        Plain = 1, "plain";
        /// Dots are doubled, as DATA brought them.
        Stuffed = 2, "dot-stuffed";
        /// Dots at line starts are not doubled, as BDAT brought them.
        Raw = 3, "raw";
    }
}

/// When the sender's time is over, and what happens then (RFC 2852).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Deadline {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Give it up, or tell and go on.
    pub mode: DeliverByMode,
}

/// A piece of the body: octets in a segment of the same log, without any header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    /// Which file.
    pub segment: SegmentId,
    /// Where the first octet of the body is, behind the chunk's header and fields.
    pub offset: Offset,
    /// Octets.
    pub length: u32,
}

impl Element<'_> for Extent {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u32(self.segment.0);
        sink.u32(self.offset.0);
        sink.u32(self.length);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            segment: SegmentId(reader.u32("extent segment")?),
            offset: Offset(reader.u32("extent offset")?),
            length: reader.u32("extent length")?,
        })
    }
}

/// Consecutive recipients of one domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DomainRun<'a> {
    /// How many recipients, never 0.
    pub recipients: u32,
    /// In lower case.
    pub domain: &'a str,
}

impl<'a> Element<'a> for DomainRun<'a> {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u32(self.recipients);
        sink.text(self.domain);
    }

    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let run = Self {
            recipients: reader.u32("recipients of a domain")?,
            domain: reader.text("domain")?,
        };
        if run.recipients == 0 {
            return Err(DecodeError::Value {
                field: "recipients of a domain",
            });
        }
        Ok(run)
    }
}

/// A fact for another part of the program; see [`NoteRecord`](crate::NoteRecord).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NoteField<'a> {
    /// Whose fact. Given out in FORMAT.md.
    pub tag: u16,
    /// Which fact.
    pub key: &'a [u8],
    /// What it says; `None` takes an earlier note back.
    pub value: Option<&'a [u8]>,
}

impl<'a> Element<'a> for NoteField<'a> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u16(self.tag);
        sink.octets(self.key);
        sink.octets_option(self.value);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            tag: reader.u16("note tag")?,
            key: reader.octets("note key")?,
            value: reader.octets_option("note value")?,
        })
    }
}

/// Why a body is not the one that was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyFault {
    /// A file that holds a part of it is not there.
    #[error("segment {}, which holds a part of the body, is missing", .0.0)]
    NoSegment(SegmentId),
    /// A file that holds a part of it ends before that part does.
    #[error("segment {} ends before the part of the body that it holds", .0.0)]
    Ends(SegmentId),
    /// The checksum is not that of the seal.
    #[error("the checksum of the body is not that of its seal")]
    Checksum,
}

/// The seal of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// 0 at arrival, one more at each carry-forward. The highest one counts.
    pub generation: u32,
    /// When it was sealed: later marks are newer than `held` and `next_hop`.
    pub stamp: Stamp,
    /// Milliseconds since 1970. Carried forward unchanged.
    pub arrival_ms: i64,
    /// Where the envelope of this generation is.
    pub envelope: Place,
    /// The segment that holds the seal of the generation before, which this one
    /// ends. This record must not go before that segment is gone.
    pub carried_from: Option<SegmentPlace>,
    /// The body in order. The trace header field, if stored, is its first part.
    pub extents: List<'a, Extent>,
    /// The sum of the extents.
    pub octets: u64,
    /// CRC-32C over the whole body, as stored.
    pub checksum: Checksum,
    /// How it is stored.
    pub form: BodyForm,
    /// The last two octets are CRLF: the end of data is a dot and CRLF.
    pub ends_with_crlf: bool,
    /// There are octets above 127.
    pub eight_bit: bool,
    /// Held until released.
    pub held: bool,
    /// RFC 6710, −9 ..= 9; 0 where nothing was said.
    pub priority: i8,
    /// RFC 2852.
    pub deadline: Option<Deadline>,
    /// RFC 4865: not before this; milliseconds since 1970.
    pub hold_until_ms: Option<i64>,
    /// As in the envelope.
    pub queue_name: Option<&'a str>,
    /// The next hop set by the operator, as text; else the routes decide.
    pub next_hop: Option<&'a str>,
    /// The domains of the recipients, in their order. The sum of the runs is the
    /// number of recipients.
    pub domains: List<'a, DomainRun<'a>>,
    /// Recipients that were done before this generation, ascending.
    pub done: List<'a, RecipientNumber>,
    /// What has to be true exactly if this message was taken.
    pub notes: List<'a, NoteField<'a>>,
}

impl SealRecord<'_> {
    /// Whether the body is what was sealed. `segment` gives the octets of a file;
    /// bodies are read once for it, from the beginning to the end.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify_body<'b>(
        &self,
        segment: impl Fn(SegmentId) -> Option<&'b [u8]>,
    ) -> Result<(), BodyFault> {
        let mut checksum = Checksum::EMPTY;
        for extent in self.extents.iter() {
            let begin = extent.offset.0 as usize;
            let octets = segment(extent.segment)
                .ok_or(BodyFault::NoSegment(extent.segment))?
                .get(begin..begin.saturating_add(extent.length as usize))
                .ok_or(BodyFault::Ends(extent.segment))?;
            checksum = checksum.append(octets);
        }
        if checksum == self.checksum {
            Ok(())
        } else {
            Err(BodyFault::Checksum)
        }
    }

    fn returns(&self) -> bool {
        let returns = |deadline: Deadline| deadline.mode == DeliverByMode::Return;
        self.deadline.is_some_and(returns)
    }

    /// The number of recipients.
    #[must_use]
    pub fn recipients(&self) -> u32 {
        self.domains
            .iter()
            .fold(0, |sum, run| sum.saturating_add(run.recipients))
    }
}

const ENDS_WITH_CRLF: u8 = 1;
const EIGHT_BIT: u8 = 2;
const HELD: u8 = 4;
const DEADLINE: u8 = 8;
const HOLD_UNTIL: u8 = 16;
const CARRIED: u8 = 32;
const RETURNS: u8 = 64;
const FLAGS: u8 = 127;

impl<'a> Record<'a> for SealRecord<'a> {
    const KIND: RecordKind = RecordKind::Seal;

    fn is_consistent(&self) -> bool {
        let mut octets: u64 = 0;
        for extent in self.extents.iter() {
            octets = octets.saturating_add(u64::from(extent.length));
        }
        let recipients = self.recipients();
        let mut done_from = 0;
        for RecipientNumber(recipient) in self.done.iter() {
            if recipient < done_from || recipient >= recipients {
                return false;
            }
            done_from = recipient + 1;
        }
        octets == self.octets && recipients <= RECIPIENTS_MAX
    }

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        let from = self.carried_from;
        sink.u64(self.queue_id);
        sink.u32(self.generation);
        sink.i64(self.stamp.0);
        sink.i64(self.arrival_ms);
        sink.u32(self.envelope.segment.0);
        sink.u32(self.envelope.offset.0);
        sink.u64(self.octets);
        sink.u32(self.checksum.as_u32());
        sink.u8(self.form.octet());
        sink.u8(flag(self.ends_with_crlf, ENDS_WITH_CRLF)
            | flag(self.eight_bit, EIGHT_BIT)
            | flag(self.held, HELD)
            | flag(self.deadline.is_some(), DEADLINE)
            | flag(self.returns(), RETURNS)
            | flag(self.hold_until_ms.is_some(), HOLD_UNTIL)
            | flag(from.is_some(), CARRIED));
        sink.u8(self.priority.cast_unsigned());
        sink.u8(from.map_or(0, |place| place.log.0));
        sink.u32(from.map_or(0, |place| place.segment.0));
        sink.i64(self.deadline.map_or(0, |deadline| deadline.at_ms));
        sink.i64(self.hold_until_ms.unwrap_or(0));
        sink.text_option(self.queue_name);
        sink.text_option(self.next_hop);
        self.extents.write(sink);
        self.domains.write(sink);
        self.done.write(sink);
        self.notes.write(sink);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let value = |field| DecodeError::Value { field };
        let queue_id = reader.u64("queue id")?;
        let generation = reader.u32("generation")?;
        let stamp = Stamp(reader.i64("stamp")?);
        let arrival_ms = reader.i64("arrival")?;
        let envelope = Place {
            segment: SegmentId(reader.u32("envelope segment")?),
            offset: Offset(reader.u32("envelope offset")?),
        };
        let octets = reader.u64("octets")?;
        let checksum = Checksum::from_u32(reader.u32("body checksum")?);
        let form = BodyForm::read(reader)?;
        let flags = reader.u8("seal flags")?;
        if flags & !FLAGS != 0 {
            return Err(value("seal flags"));
        }
        let has = |flag: u8| flags & flag != 0;
        let priority = reader.u8("priority")?.cast_signed();
        if !(-9..=9).contains(&priority) {
            return Err(value("priority"));
        }
        let from = SegmentPlace {
            log: LogId(reader.u8("carried from log")?),
            segment: SegmentId(reader.u32("carried from segment")?),
        };
        if !has(CARRIED) && (from.log.0 != 0 || from.segment.0 != 0) {
            return Err(value("carried from"));
        }
        let deadline_ms = reader.i64("deadline")?;
        if !has(DEADLINE) && (deadline_ms != 0 || has(RETURNS)) {
            return Err(value("deadline"));
        }
        let hold_until_ms = reader.i64("hold until")?;
        if !has(HOLD_UNTIL) && hold_until_ms != 0 {
            return Err(value("hold until"));
        }
        Ok(Self {
            queue_id,
            generation,
            stamp,
            arrival_ms,
            envelope,
            carried_from: has(CARRIED).then_some(from),
            octets,
            checksum,
            form,
            ends_with_crlf: has(ENDS_WITH_CRLF),
            eight_bit: has(EIGHT_BIT),
            held: has(HELD),
            priority,
            deadline: has(DEADLINE).then_some(Deadline {
                at_ms: deadline_ms,
                mode: if has(RETURNS) {
                    DeliverByMode::Return
                } else {
                    DeliverByMode::Notify
                },
            }),
            hold_until_ms: has(HOLD_UNTIL).then_some(hold_until_ms),
            queue_name: reader.text_option("queue name")?,
            next_hop: reader.text_option("next hop")?,
            extents: reader.list("extents")?,
            domains: reader.list("domains")?,
            done: reader.list("recipients done")?,
            notes: reader.list("notes")?,
        })
    }
}
