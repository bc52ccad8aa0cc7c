//! What became of a message: recipients done, delivery attempts, and what the
//! operator wants with it.

use super::{Record, recipient_number};
use crate::field::{DecodeError, Element, List, Reader, Sink, SinkExt, octet_enum};
use crate::frame::RecordKind;
use crate::place::{LogId, SegmentId, SegmentPlace, Stamp};

octet_enum! {
    /// Why nothing more is to be done for a recipient.
    pub enum Outcome ("outcome") {
        /// The next hop took it and is the last one that we know of.
        Delivered = 1, "delivered";
        /// It failed for good; a notification was queued if one was due.
        Failed = 2, "failed";
        /// The next hop took it, and promises no notification of its own.
        Relayed = 3, "relayed";
        /// A rule of the configuration says that nobody gets it.
        Discarded = 4, "discarded";
        /// The operator removed it.
        Deleted = 5, "deleted by the operator";
        /// It was found damaged in the spool, and was reported.
        Damaged = 6, "damaged in the spool";
        /// Its time was over before it could be delivered.
        Expired = 7, "expired";
    }
}

/// The number of a recipient in the envelope, below [`RECIPIENTS_MAX`](crate::RECIPIENTS_MAX).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecipientNumber(pub u32);

impl Element<'_> for RecipientNumber {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u32(self.0);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(recipient_number(reader)?))
    }
}

/// What became of one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DoneField {
    /// Its number in the envelope.
    pub recipient: RecipientNumber,
    /// Why nothing more is to be done.
    pub outcome: Outcome,
}

impl Element<'_> for DoneField {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        self.recipient.write(sink);
        sink.u8(self.outcome.octet());
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            recipient: RecipientNumber::read(reader)?,
            outcome: Outcome::read(reader)?,
        })
    }
}

/// These recipients are finished. It holds in every generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoneRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// When.
    pub stamp: Stamp,
    /// Where the newest seal of the message is. This record must not go before
    /// that segment is gone, or the message comes back.
    pub message: SegmentPlace,
    /// Which recipients.
    pub recipients: List<'a, DoneField>,
}

fn write_segment<S: Sink>(place: SegmentPlace, sink: &mut S) {
    sink.u8(place.log.0);
    sink.u32(place.segment.0);
}

fn read_segment(reader: &mut Reader<'_>) -> Result<SegmentPlace, DecodeError> {
    Ok(SegmentPlace {
        log: LogId(reader.u8("log of the message")?),
        segment: SegmentId(reader.u32("segment of the message")?),
    })
}

impl<'a> Record<'a> for DoneRecord<'a> {
    const KIND: RecordKind = RecordKind::Done;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u64(self.queue_id);
        sink.i64(self.stamp.0);
        write_segment(self.message, sink);
        self.recipients.write(sink);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            queue_id: reader.u64("queue id")?,
            stamp: Stamp(reader.i64("stamp")?),
            message: read_segment(reader)?,
            recipients: reader.list("recipients done")?,
        })
    }
}

/// What the operator wants with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark<'a> {
    /// Hold it until it is released; in this queue, if it is to change.
    Hold {
        /// The queue that holds it.
        queue_name: Option<&'a str>,
    },
    /// Let it go.
    Release,
    /// Send it by another way: a next hop as text, or `None` for the routes.
    Requeue {
        /// Where it goes.
        next_hop: Option<&'a str>,
    },
}

/// The mark of a message. Holding and next hop are two facts; of each the newest
/// mark, or the seal if it is newer, says what is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// When.
    pub stamp: Stamp,
    /// What is wanted.
    pub mark: Mark<'a>,
}

const HOLD: u8 = 1;
const RELEASE: u8 = 2;
const REQUEUE: u8 = 3;

impl<'a> Record<'a> for MarkRecord<'a> {
    const KIND: RecordKind = RecordKind::Mark;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u64(self.queue_id);
        sink.i64(self.stamp.0);
        let (mark, text) = match self.mark {
            Mark::Hold { queue_name } => (HOLD, queue_name),
            Mark::Release => (RELEASE, None),
            Mark::Requeue { next_hop } => (REQUEUE, next_hop),
        };
        sink.u8(mark);
        sink.text_option(text);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let queue_id = reader.u64("queue id")?;
        let stamp = Stamp(reader.i64("stamp")?);
        let octet = reader.u8("mark")?;
        let text = reader.text_option("queue name or next hop")?;
        let mark = match (octet, text) {
            (HOLD, queue_name) => Mark::Hold { queue_name },
            (RELEASE, None) => Mark::Release,
            (REQUEUE, next_hop) => Mark::Requeue { next_hop },
            _ => return Err(DecodeError::Value { field: "mark" }),
        };
        Ok(Self {
            queue_id,
            stamp,
            mark,
        })
    }
}

/// What a sender was told of recipients that are not done. Not told again by another
/// life of the program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Told(u8);

impl Told {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// That they are late.
    pub const DELAY: Self = Self(1);
    /// That a deadline has passed which only notifies (RFC 2852 `N`).
    pub const DEADLINE: Self = Self(2);

    /// `None` for bits that have no meaning.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits <= Self::DELAY.0 | Self::DEADLINE.0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Whether all of `what` was told.
    #[must_use]
    pub const fn contains(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, what: Self) -> Self {
        Self(self.0 | what.0)
    }

    /// As it is stored.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// Delivery was tried and put off, or the sender was told that it was not possible so
/// far. The newest one of each recipient counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// When.
    pub stamp: Stamp,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Not before this; milliseconds since 1970.
    pub next_attempt_ms: i64,
    /// What the sender was told of them so far.
    pub told: Told,
    /// Which recipients, by their numbers in the envelope.
    pub recipients: List<'a, RecipientNumber>,
    /// What the next hop said, or what kept us from it. For people, and for the
    /// Diagnostic-Code of a notification.
    pub error: &'a str,
}

impl<'a> Record<'a> for AttemptRecord<'a> {
    const KIND: RecordKind = RecordKind::Attempt;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u64(self.queue_id);
        sink.i64(self.stamp.0);
        sink.u32(self.attempts);
        sink.i64(self.next_attempt_ms);
        sink.u8(self.told.0);
        self.recipients.write(sink);
        sink.text(self.error);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            queue_id: reader.u64("queue id")?,
            stamp: Stamp(reader.i64("stamp")?),
            attempts: reader.u32("attempts")?,
            next_attempt_ms: reader.i64("next attempt")?,
            told: Told::new(reader.u8("told")?).ok_or(DecodeError::Value { field: "told" })?,
            recipients: reader.list("recipients")?,
            error: reader.text("error")?,
        })
    }
}
