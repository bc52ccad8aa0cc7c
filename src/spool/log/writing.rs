//! Writing to a log: messages, and what becomes of them.

use smallvec::SmallVec;
use spool_format::{
    AttemptRecord, BeginRecord, CHUNK_BODY_OFFSET, Checksum, ChunkRecord, DomainRun, DoneField,
    DoneRecord, EncodeError, Extent, List, Location, Mark, MarkRecord, NoteField, Offset, Place,
    RecipientField, RecipientNumber, RecipientSet, Record, SealRecord, Seat, SegmentId,
    SegmentPlace, Told,
};

use super::super::commit::{AppendError, Appended, BatchNumber, Ticket, Urgency};
use super::super::message::{self, BodyFacts, Contents, Holding};
use super::super::reclaim::Part;
use super::room::{
    NoRoom, RESERVE_SEGMENTS, RESERVE_SEGMENTS_NOTIFICATIONS, UNDECLARED_BYTES, framed_estimate,
};
use super::{FINISHED_PER_BALANCE, Log};
use crate::mail::QueueId;
use crate::time::{Now, WallTime};

/// A longer piece of a body is stored as several chunks, so that no record is a large
/// part of a segment.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Longest error text kept of an attempt; a reply line has at most 512 octets.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 512;

/// Attempts remembered for carrying forward; more groups of recipients that were tried
/// at different times are rare, and lose their count only.
pub(super) const ATTEMPTS_KEPT: usize = 8;

/// Why a message or record is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Now, or until something was delivered.
    #[error("{0}")]
    NoRoom(NoRoom),
    /// The log is closed, or the record is too large.
    #[error("{0}")]
    Append(#[from] AppendError),
}

/// Whether recipients are left after some are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Some are.
    Pending,
    /// None is: the message is finished.
    Nobody,
}

/// A message that is being received: what is stored of it so far. Seal or abort it:
/// its segments stay until then.
#[must_use = "a message that is begun is sealed or aborted"]
#[derive(Debug)]
pub struct OpenMessage {
    pub(super) queue_id: QueueId,
    pub(super) generation: u32,
    pub(super) envelope: Place,
    pub(super) extents: SmallVec<[Extent; 2]>,
    pub(super) parts: SmallVec<[Part; 1]>,
    pub(super) chunks: u32,
    pub(super) octets: u64,
    pub(super) checksum: Checksum,
    /// Octets of room that are counted as used and are not.
    pub(super) reserved: u64,
    /// Segments that it leaves to others.
    pub(super) reserve_segments: u64,
}

impl OpenMessage {
    /// Its name.
    #[must_use]
    pub fn queue_id(&self) -> QueueId {
        self.queue_id
    }

    /// Octets of body so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

/// A message that was sealed. It can be read once it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Its name.
    pub queue_id: QueueId,
    /// Where its seal is.
    pub seal: Location,
    /// Octets of the body.
    pub octets: u64,
}

/// What was said of a live message since it was sealed.
#[derive(Debug, Default)]
pub(super) struct Since {
    pub(super) done: RecipientSet,
    pub(super) marks: Option<Box<Marks>>,
    /// Where its attempts are recorded, newest last.
    pub(super) attempts: SmallVec<[Location; 1]>,
}

/// What the operator wants with a message, where that differs from its seal.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) hold: Hold,
    /// The next hop, or the routes again.
    pub(super) next_hop: Option<Option<Box<str>>>,
}

/// The newest mark about holding.
#[derive(Clone, Debug, Default)]
pub(super) enum Hold {
    /// There is none.
    #[default]
    AsSealed,
    /// In this queue, if that was changed.
    Held { queue_name: Option<Box<str>> },
    /// Let go.
    Released,
}

/// A delivery attempt that was put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt<'a> {
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Not before this.
    pub next_attempt: WallTime,
    /// What the sender was told of them so far.
    pub told: Told,
    /// Whom it was for.
    pub recipients: &'a [RecipientNumber],
    /// What the next hop said; shortened to [`ATTEMPT_ERROR_BYTES_MAX`].
    pub error: &'a str,
}

impl Log {
    /// A name for the next message. Names of messages that came to nothing are not
    /// given again either.
    pub fn next_queue_id(&mut self) -> QueueId {
        let queue_id = QueueId::from_u64(self.queue_id_next);
        self.queue_id_next += 1;
        assert_eq!(
            self.queue_id_next >> 56,
            u64::from(self.identity.log.0),
            "2^56 messages were given names"
        );
        queue_id
    }

    /// The name that [`Log::next_queue_id`] gives next.
    #[must_use]
    pub fn coming_queue_id(&self) -> QueueId {
        QueueId::from_u64(self.queue_id_next)
    }

    /// Stores the envelope of a message. `octets` is its size if the client declared it.
    ///
    /// # Errors
    /// There is no room, the log is closed, or the envelope is too large. Nothing of the
    /// message is kept then.
    pub fn begin(
        &mut self,
        now: Now,
        queue_id: QueueId,
        contents: &Contents<'_>,
        octets: Option<u64>,
    ) -> Result<OpenMessage, Refused> {
        let wanted = framed_estimate(octets.unwrap_or(UNDECLARED_BYTES));
        self.begin_beside(now, queue_id, contents, wanted, RESERVE_SEGMENTS)
    }

    /// The same for a notification of `octets`, which may use a part of the reserve.
    ///
    /// # Errors
    /// As [`Log::begin`].
    pub fn begin_reserved(
        &mut self,
        now: Now,
        queue_id: QueueId,
        contents: &Contents<'_>,
        octets: u64,
    ) -> Result<OpenMessage, Refused> {
        let wanted = framed_estimate(octets);
        self.begin_beside(
            now,
            queue_id,
            contents,
            wanted,
            RESERVE_SEGMENTS_NOTIFICATIONS,
        )
    }

    fn begin_beside(
        &mut self,
        now: Now,
        queue_id: QueueId,
        contents: &Contents<'_>,
        wanted: u64,
        reserve_segments: u64,
    ) -> Result<OpenMessage, Refused> {
        if let Err(no_room) = self.room_beside(wanted, reserve_segments) {
            self.press();
            return Err(Refused::NoRoom(no_room));
        }
        let mut message = OpenMessage {
            queue_id,
            generation: 0,
            envelope: NOWHERE,
            extents: SmallVec::new(),
            parts: SmallVec::new(),
            chunks: 0,
            octets: 0,
            checksum: Checksum::EMPTY,
            reserved: wanted,
            reserve_segments,
        };
        self.reserved += wanted;
        match self.store_envelope(now, &mut message, contents) {
            Ok(()) => Ok(message),
            Err(error) => {
                self.abort(message);
                Err(error.into())
            }
        }
    }

    fn store_envelope(
        &mut self,
        now: Now,
        message: &mut OpenMessage,
        contents: &Contents<'_>,
    ) -> Result<(), AppendError> {
        let mut recipients: SmallVec<[RecipientField<'_>; 4]> = SmallVec::new();
        let record =
            contents.envelope_record(message.queue_id, message.generation, &mut recipients);
        let encode = |seat: Seat, out: &mut Vec<u8>| record.encode(seat, out);
        message.envelope = self
            .append_part(now, message, Urgency::Unsealed, encode)?
            .place;
        Ok(())
    }

    /// Stores a piece of the body, in wire form. Several slices become one chunk where
    /// that is not too long.
    ///
    /// A message that is being received keeps every segment in which it has a piece: a
    /// client that sends an octet a minute should not get a piece for each. Gather some
    /// KiB, or until the connection has nothing more.
    ///
    /// # Errors
    /// There is no room for more than was declared, or the log is closed. Abort the
    /// message then.
    pub fn body(
        &mut self,
        now: Now,
        message: &mut OpenMessage,
        slices: &[&[u8]],
    ) -> Result<(), Refused> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let framed = framed_estimate(bytes as u64);
        let more = framed.saturating_sub(message.reserved);
        // What was reserved on the disk may have been taken by others meanwhile.
        if more > 0 || self.is_short_of(message.reserve_segments) {
            if let Err(no_room) = self.room_beside(more, message.reserve_segments) {
                self.press();
                return Err(Refused::NoRoom(no_room));
            }
            message.reserved += more;
            self.reserved += more;
        }
        self.store_body(now, message, slices)?;
        Ok(())
    }

    pub(super) fn store_body(
        &mut self,
        now: Now,
        message: &mut OpenMessage,
        slices: &[&[u8]],
    ) -> Result<(), AppendError> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let chunk_bytes = CHUNK_BYTES_MAX.min(self.settings.segment_bytes as usize / 8);
        if bytes == 0 {
            return Ok(());
        }
        if bytes <= chunk_bytes {
            return self.store_chunk(now, message, slices, bytes);
        }
        for piece in slices.iter().flat_map(|slice| slice.chunks(chunk_bytes)) {
            self.store_chunk(now, message, &[piece], piece.len())?;
        }
        Ok(())
    }

    fn store_chunk(
        &mut self,
        now: Now,
        message: &mut OpenMessage,
        slices: &[&[u8]],
        bytes: usize,
    ) -> Result<(), AppendError> {
        let (queue_id, sequence) = (message.queue_id.as_u64(), message.chunks);
        let encode = |seat: Seat, out: &mut Vec<u8>| {
            ChunkRecord::encode_slices(queue_id, sequence, slices, seat, out)
        };
        let place = self
            .append_part(now, message, Urgency::Unsealed, encode)?
            .place;
        message.chunks += 1;
        message.octets += bytes as u64;
        for slice in slices {
            message.checksum = message.checksum.append(slice);
        }
        message.extents.push(Extent {
            segment: place.segment,
            // A chunk lies in its segment, so the sums are below its size.
            offset: Offset(place.offset.0 + CHUNK_BODY_OFFSET as u32),
            length: bytes as u32,
        });
        Ok(())
    }

    /// Makes the message whole. Its `contents` are those that it was begun with; `notes`
    /// become true together with it.
    ///
    /// # Errors
    /// The log is closed, or the seal is too large. Nothing of the message is kept.
    pub fn seal(
        &mut self,
        now: Now,
        mut message: OpenMessage,
        contents: &Contents<'_>,
        facts: BodyFacts,
        notes: &[NoteField<'_>],
        ticket: Ticket,
    ) -> Result<Sealed, Refused> {
        let mut domains: SmallVec<[DomainRun<'_>; 4]> = SmallVec::new();
        contents.domain_runs(&mut domains);
        let sender = &contents.envelope.sender;
        let extents = std::mem::take(&mut message.extents);
        let stamp = self.next_stamp(now);
        let record = SealRecord {
            queue_id: message.queue_id.as_u64(),
            generation: message.generation,
            stamp,
            arrival_ms: contents.arrival.as_millis(),
            envelope: message.envelope,
            carried_from: None,
            extents: List::new(&extents),
            octets: message.octets,
            checksum: message.checksum,
            form: facts.form,
            ends_with_crlf: facts.ends_with_crlf,
            eight_bit: facts.eight_bit,
            held: matches!(contents.holding, Holding::Held { .. }),
            priority: sender.priority.unwrap_or_default().value(),
            deadline: sender.deliver_by.map(message::deadline),
            hold_until_ms: sender.hold_until.map(|until| until.at().as_millis()),
            queue_name: contents.holding.queue_name(),
            next_hop: contents.next_hop,
            domains: List::new(&domains),
            done: List::default(),
            notes: List::new(notes),
        };
        let (sealed, batch) = self.store_seal(now, message, &record, Urgency::Unsealed)?;
        for note in notes {
            let place = sealed.seal.segment_place();
            self.note_stored(stamp, place, note.tag, note.key, note.value, batch);
        }
        self.commit.commit(ticket, sealed.queue_id)?;
        Ok(sealed)
    }

    /// Appends the seal and counts the message as live.
    pub(super) fn store_seal(
        &mut self,
        now: Now,
        mut message: OpenMessage,
        record: &SealRecord<'_>,
        urgency: Urgency,
    ) -> Result<(Sealed, BatchNumber), AppendError> {
        let encode = |seat: Seat, out: &mut Vec<u8>| record.encode(seat, out);
        let appended = match self.append_part(now, &mut message, urgency, encode) {
            Ok(appended) => appended,
            Err(error) => {
                self.abort(message);
                return Err(error);
            }
        };
        let sealed = Sealed {
            queue_id: message.queue_id,
            seal: appended.place.in_log(self.identity.log),
            octets: message.octets,
        };
        self.reclaim
            .sealed(sealed.queue_id, sealed.seal, &message.parts, appended.batch);
        self.abort(message);
        Ok((sealed, appended.batch))
    }

    /// Drops a message that is not to be sealed: the client went away, or reset.
    pub fn abort(&mut self, message: OpenMessage) {
        self.reserved -= message.reserved;
        // It kept its segments from being emptied.
        self.balance.in_vain = false;
        for part in &message.parts {
            self.reclaim.unopened(part.segment);
        }
    }

    /// Wants the records about messages that were made so far to outlive this process from
    /// now on. They do not outlive the system before the next sync.
    pub fn write_notes(&mut self) {
        self.commit.write_riders();
    }

    /// These recipients are finished; with [`Rest::Nobody`] the message is. Nothing
    /// happens if the message is not live.
    ///
    /// Without recipients nothing is written: that a message is finished is no fact of
    /// its own on the disk, it follows from the records of its recipients.
    ///
    /// # Errors
    /// The log is closed: then the message will be delivered once more after a restart.
    pub fn done(
        &mut self,
        now: Now,
        queue_id: QueueId,
        recipients: &[DoneField],
        rest: Rest,
    ) -> Result<(), AppendError> {
        let Some(seal) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        if recipients.is_empty() {
            if let Some(fault) = self.commit.fault() {
                return Err(AppendError::Closed(fault));
            }
            if rest == Rest::Nobody {
                // The records of its recipients are in this batch or an earlier one.
                self.finished(queue_id, self.commit.newest());
            }
            return Ok(());
        }
        let about = seal.segment_place();
        let record = DoneRecord {
            queue_id: queue_id.as_u64(),
            stamp: self.next_stamp(now),
            message: about,
            recipients: List::new(recipients),
        };
        let appended = self.append(now, Urgency::Rider, |seat, out| record.encode(seat, out))?;
        self.noted(appended, about);
        if rest == Rest::Nobody {
            self.finished(queue_id, appended.batch);
        } else {
            let since = self.since.entry(queue_id).or_default();
            for field in recipients {
                since.done.insert(field.recipient);
            }
        }
        Ok(())
    }

    /// Nothing more is to be done for a message, once `batch` is durable.
    fn finished(&mut self, queue_id: QueueId, batch: BatchNumber) {
        self.reclaim.finished(queue_id, batch);
        self.since.remove(&queue_id);
        self.balance.in_vain = false;
        self.balance.finished += 1;
        if self.balance.finished >= FINISHED_PER_BALANCE {
            self.balance.finished = 0;
            self.balance.due = true;
        }
    }

    /// Delivery to these recipients was tried and put off until `next_attempt`. That is not
    /// written where the reserve is being used up: it is left to records that make room.
    ///
    /// # Errors
    /// The log is closed.
    pub fn attempt(
        &mut self,
        now: Now,
        queue_id: QueueId,
        attempt: &Attempt<'_>,
    ) -> Result<(), AppendError> {
        let Some(seal) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        if self.is_short_of(RESERVE_SEGMENTS) {
            return Ok(());
        }
        let record = AttemptRecord {
            queue_id: queue_id.as_u64(),
            stamp: self.next_stamp(now),
            attempts: attempt.attempts,
            next_attempt_ms: attempt.next_attempt.as_millis(),
            told: attempt.told,
            recipients: List::new(attempt.recipients),
            error: shortened(attempt.error),
        };
        let appended = self.append(now, Urgency::Rider, |seat, out| record.encode(seat, out))?;
        self.noted(appended, seal.segment_place());
        let place = appended.place.in_log(self.identity.log);
        let attempts = &mut self.since.entry(queue_id).or_default().attempts;
        if attempts.len() >= ATTEMPTS_KEPT {
            attempts.remove(0);
        }
        attempts.push(place);
        Ok(())
    }

    /// What the operator, or a release, wants with a message.
    ///
    /// # Errors
    /// The log is closed.
    pub fn mark(&mut self, now: Now, queue_id: QueueId, mark: Mark<'_>) -> Result<(), AppendError> {
        let Some(seal) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        let record = MarkRecord {
            queue_id: queue_id.as_u64(),
            stamp: self.next_stamp(now),
            mark,
        };
        let appended = self.append(now, Urgency::Rider, |seat, out| record.encode(seat, out))?;
        self.noted(appended, seal.segment_place());
        self.since
            .entry(queue_id)
            .or_default()
            .marks
            .get_or_insert_default()
            .add(mark);
        Ok(())
    }

    /// Appends a record, and asks for the segment that it went to if that is new.
    pub(super) fn append(
        &mut self,
        now: Now,
        urgency: Urgency,
        encode: impl FnMut(Seat, &mut Vec<u8>) -> Result<u32, EncodeError>,
    ) -> Result<Appended, AppendError> {
        self.commit.set_begin(BeginRecord {
            stamp: self.stamp,
            queue_id_next: self.queue_id_next,
        });
        let appended = self.commit.append(now.instant, urgency, encode);
        while self.commit.segments_ahead().is_none() {
            self.ask_segment(now);
        }
        appended
    }

    /// Appends a record of a message that is not sealed yet.
    pub(super) fn append_part(
        &mut self,
        now: Now,
        message: &mut OpenMessage,
        urgency: Urgency,
        encode: impl FnMut(Seat, &mut Vec<u8>) -> Result<u32, EncodeError>,
    ) -> Result<Appended, AppendError> {
        let appended = self.append(now, urgency, encode)?;
        let (segment, bytes) = (self.place(appended.place.segment), appended.framed_bytes);
        match message.parts.iter_mut().find(|p| p.segment == segment) {
            Some(part) => part.bytes += bytes,
            None => {
                message.parts.push(Part { segment, bytes });
                self.reclaim.opened(segment);
            }
        }
        let used = message.reserved.min(u64::from(bytes));
        message.reserved -= used;
        self.reserved -= used;
        Ok(appended)
    }

    pub(super) fn noted(&mut self, appended: Appended, about: SegmentPlace) {
        let segment = self.place(appended.place.segment);
        self.reclaim.noted(segment, appended.framed_bytes, about);
    }
}

/// The place of an envelope that is not stored yet.
pub(super) const NOWHERE: Place = Place {
    segment: SegmentId(0),
    offset: Offset(0),
};

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(ATTEMPT_ERROR_BYTES_MAX)]
}
