//! A log: what a data core writes to, and what it keeps account of.
//!
//! [`Log`] joins the machines of the spool: `commit` makes batches of records,
//! `reclaim` says which segment may go, `carry` empties those that are mostly dead,
//! and this module decides whether there is room for a message.
//!
//! The way of a message: [`Log::begin`] stores its envelope, [`Log::body`] each piece
//! as it comes, [`Log::seal`] makes it whole and takes a ticket; [`Output::Committed`]
//! is when it is ours. From then on [`Log::done`], [`Log::attempt`] and [`Log::mark`]
//! say what became of it.
//!
//! Relies on: the shell answers every [`Output::Write`], [`Output::SegmentNeeded`] and
//! [`Output::SegmentDead`]; a core sees its inputs one after the other.
//!
//! Invariants:
//!
//! - *Room first.* A message is refused before anything of it is stored, if there is no
//!   room for what it declares; [`RESERVE_SEGMENTS`] are left for done records and for
//!   carrying forward, so that a full spool still drains.
//! - *Moved before dead.* That a message is somewhere else now is told before the
//!   segment where it was is told to be dead.
//!
//! What it does not do: it reads no clock and no file; it does not know SMTP; it does
//! not know recipients, only that somebody says when none is left.

mod carry;
mod found;
mod notes;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;
use spool_format::{
    AttemptRecord, BeginRecord, CHUNK_BODY_OFFSET, Checksum, ChunkRecord, DomainRun, DoneField,
    DoneRecord, EncodeError, Extent, List, Location, LogId, Mark, MarkRecord, NoteField,
    NoteRecord, Offset, Place, RecipientField, RecipientNumber, RecipientSet, Record, SealRecord,
    Seat, SegmentHeader, SegmentId, SegmentPlace, SpoolUuid, Stamp,
};

use self::carry::Carry;
pub(super) use self::found::Found;
use self::notes::Notes;
use super::commit::{
    self, AppendError, Appended, BatchNumber, Commit, Committed, Durability, Ticket, Urgency,
    WriteFault,
};
use super::message::{BodyFacts, Contents, Holding, ReadError};
use super::reclaim::{Fate, Part, Reclaim, Waste};
use crate::mail::QueueId;
use crate::time::{Instant, Now};

/// Segments that new mail never gets: one for done records of a drain, one for what is
/// carried forward, so that space can always be won back.
pub const RESERVE_SEGMENTS: u64 = 2;

/// Segments kept prepared beyond the one that is being filled. Preparing one takes some
/// milliseconds, filling one at full speed a few hundred.
pub const SEGMENTS_AHEAD: u32 = 2;

/// Dead segments kept to be used again.
pub const SPARES_MAX: usize = 4;

/// Reserved for a message of which the client did not say how large it is.
pub const UNDECLARED_BYTES: u64 = 64 << 10;

/// A longer piece of a body is stored as several chunks, so that no record is a large
/// part of a segment.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// How long after a failed preparation the next one is tried.
pub const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// Longest error text kept of an attempt; a reply line has at most 512 octets.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 512;

/// Attempts remembered for carrying forward; more groups of recipients that were tried
/// at different times are rare, and lose their count only.
const ATTEMPTS_KEPT: usize = 8;

/// Messages that end before it is asked again whether a segment is worth emptying.
const FINISHED_PER_BALANCE: u32 = 1000;

/// Whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The spool.
    pub spool: SpoolUuid,
    /// The log in it; also the upper octet of the queue ids that are given out.
    pub log: LogId,
}

/// Sizes and limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of a segment file.
    pub segment_bytes: u32,
    /// All segment files of this log together, spares included.
    pub size_max: u64,
    /// To be left free on the disk.
    pub free_min: u64,
}

/// Why there is no room for a message. Reply 452.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// The spool has the size that it may have.
    #[error("the spool is as large as it may be (spool.size_max)")]
    SizeMax,
    /// The disk has less than is to be left free.
    #[error("the disk is nearly full (spool.free_min)")]
    FreeMin,
    /// The next segment cannot be prepared.
    #[error("no new segment can be prepared")]
    Preparation,
}

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

/// What became of a segment that was told to be dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It is a spare now, durably.
    Spare,
    /// It is removed or set aside, durably.
    Removed,
}

/// A message that is being received: what is stored of it so far. Seal or abort it:
/// its segments stay until then.
#[must_use = "a message that is begun is sealed or aborted"]
#[derive(Debug)]
pub struct OpenMessage {
    queue_id: QueueId,
    generation: u32,
    envelope: Place,
    extents: SmallVec<[Extent; 2]>,
    parts: SmallVec<[Part; 1]>,
    chunks: u32,
    octets: u64,
    checksum: Checksum,
    /// Octets of room that are counted as used and are not.
    reserved: u64,
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

/// What the log wants done, or tells.
#[derive(PartialEq, Debug)]
pub enum Output {
    /// Write, make durable, answer with [`Log::written`]. One at a time.
    Write {
        /// The file.
        segment: SegmentId,
        /// Where in it.
        offset: Offset,
        /// What; may be nothing, and then only the sync is wanted.
        bytes: Vec<u8>,
        /// How durable.
        durability: Durability,
    },
    /// A message is on stable storage.
    Committed {
        /// Whose.
        ticket: Ticket,
        /// The proof.
        receipt: Committed,
    },
    /// A message will never be committed.
    Failed {
        /// Whose.
        ticket: Ticket,
    },
    /// Prepare this segment, from the spare if that can be done, and answer with
    /// [`Log::segment_ready`] or [`Log::segment_failed`].
    SegmentNeeded {
        /// What it begins with.
        header: SegmentHeader,
        /// A spare that may become it.
        spare: Option<SegmentId>,
    },
    /// This segment is full and on stable storage: a good time for its summary.
    SegmentClosed {
        /// Which.
        segment: SegmentId,
    },
    /// Nothing in this segment is needed. Do as `fate` says and answer with
    /// [`Log::segment_gone`].
    SegmentDead {
        /// Which.
        segment: SegmentPlace,
        /// What to do with it.
        fate: Fate,
    },
    /// Call [`Log::carry`] when there is time, until [`Log::carries`] is `None`; warm
    /// the segment before.
    CarryWanted {
        /// Which segment is being emptied.
        segment: SegmentPlace,
    },
    /// A message is elsewhere now. Its old place can be read until the segment is dead.
    Moved {
        /// Which.
        queue_id: QueueId,
        /// Where its seal was.
        from: Location,
        /// Where it is.
        to: Location,
    },
    /// A message could not be carried forward. It stays where it is.
    CarryFailed {
        /// Which, if one is concerned.
        queue_id: Option<QueueId>,
        /// Why.
        error: ReadError,
    },
    /// The log is closed to writes for ever; reads go on. Told once.
    LogClosed {
        /// Why.
        fault: WriteFault,
    },
}

/// What was said of a live message since it was sealed.
#[derive(Debug, Default)]
struct Since {
    done: RecipientSet,
    marks: Option<Box<Marks>>,
    /// Where its attempts are recorded, newest last.
    attempts: SmallVec<[Location; 1]>,
}

/// What the operator wants with a message, where that differs from its seal.
#[derive(Clone, Debug, Default)]
struct Marks {
    hold: Hold,
    /// The next hop, or the routes again.
    next_hop: Option<Option<Box<str>>>,
}

/// The newest mark about holding.
#[derive(Clone, Debug, Default)]
enum Hold {
    /// There is none.
    #[default]
    AsSealed,
    /// In this queue, if that was changed.
    Held { queue_name: Option<Box<str>> },
    /// Let go.
    Released,
}

/// A segment that is being prepared.
#[derive(Debug)]
struct Asked {
    header: SegmentHeader,
    /// It failed, and is tried again then.
    retry_at: Option<Instant>,
}

/// The log of a data core.
#[derive(Debug)]
pub struct Log {
    identity: Identity,
    settings: Settings,
    commit: Commit,
    reclaim: Reclaim,
    since: HashMap<QueueId, Since>,
    notes: Notes,
    stamp: Stamp,
    queue_id_next: u64,
    free_bytes: u64,
    reserved: u64,
    spares: Vec<SegmentId>,
    asked: BTreeMap<SegmentId, Asked>,
    outputs: VecDeque<Output>,
    /// Told when their batch is durable, in order.
    moves: VecDeque<(BatchNumber, QueueId, Location, Location)>,
    carry: Option<Carry>,
    /// Whether to ask for a segment to empty, and how badly.
    balance: Balance,
}

#[derive(Debug)]
struct Balance {
    due: bool,
    pressed: bool,
    finished: u32,
}

impl Log {
    /// An empty log.
    ///
    /// `epoch_seed` is random, and new at each start. `free_bytes` is what the disk has.
    #[must_use]
    pub fn new(identity: Identity, settings: Settings, epoch_seed: u64, free_bytes: u64) -> Self {
        let first = SegmentId(1);
        let queue_id_next = u64::from(identity.log.0) << 56;
        Self::continued(
            identity,
            settings,
            epoch_seed,
            free_bytes,
            first,
            queue_id_next,
        )
    }

    /// A log whose next segment is `first`.
    pub(super) fn continued(
        identity: Identity,
        settings: Settings,
        epoch_seed: u64,
        free_bytes: u64,
        first: SegmentId,
        queue_id_next: u64,
    ) -> Self {
        Self {
            identity,
            settings,
            commit: Commit::new(settings.segment_bytes, first, epoch_seed),
            reclaim: Reclaim::default(),
            since: HashMap::new(),
            notes: Notes::default(),
            stamp: Stamp::START,
            queue_id_next,
            free_bytes,
            reserved: 0,
            spares: Vec::new(),
            asked: BTreeMap::new(),
            outputs: VecDeque::new(),
            moves: VecDeque::new(),
            carry: None,
            balance: Balance {
                due: true,
                pressed: false,
                finished: 0,
            },
        }
    }

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
        if let Err(no_room) = self.room_for(wanted) {
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
        if framed > message.reserved {
            let more = framed - message.reserved;
            if let Err(no_room) = self.room_for(more) {
                self.press();
                return Err(Refused::NoRoom(no_room));
            }
            message.reserved += more;
            self.reserved += more;
        }
        self.store_body(now, message, slices)?;
        Ok(())
    }

    fn store_body(
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
            deadline_ms: sender.deliver_by.map(|by| by.deadline.as_millis()),
            hold_until_ms: sender.hold_until.map(crate::time::WallTime::as_millis),
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
    fn store_seal(
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
        self.reclaim.sealed(
            sealed.queue_id,
            sealed.seal,
            message.generation,
            &message.parts,
            appended.batch,
        );
        self.abort(message);
        Ok((sealed, appended.batch))
    }

    /// Drops a message that is not to be sealed: the client went away, or reset.
    pub fn abort(&mut self, message: OpenMessage) {
        self.reserved -= message.reserved;
        for part in &message.parts {
            self.reclaim.unopened(part.segment);
        }
    }

    /// These recipients are finished; with [`Rest::Nobody`] the message is. Nothing
    /// happens if the message is not live.
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
        let Some((seal, _)) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
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
            self.reclaim.finished(queue_id, appended.batch);
            self.since.remove(&queue_id);
            self.balance.finished += 1;
            if self.balance.finished >= FINISHED_PER_BALANCE {
                self.balance.finished = 0;
                self.balance.due = true;
            }
        } else {
            let since = self.since.entry(queue_id).or_default();
            for field in recipients {
                since.done.insert(field.recipient);
            }
        }
        Ok(())
    }

    /// Delivery to these recipients was tried and put off until `next_attempt`.
    ///
    /// # Errors
    /// The log is closed.
    pub fn attempt(
        &mut self,
        now: Now,
        queue_id: QueueId,
        attempt: &Attempt<'_>,
    ) -> Result<(), AppendError> {
        let Some((seal, _)) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        let record = AttemptRecord {
            queue_id: queue_id.as_u64(),
            stamp: self.next_stamp(now),
            attempts: attempt.attempts,
            next_attempt_ms: attempt.next_attempt.as_millis(),
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
        let Some((seal, _)) = self.reclaim.message(queue_id) else {
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

    /// What is free on the disk: once a second or so, and after preparing a segment.
    pub fn free_bytes(&mut self, bytes: u64) {
        self.free_bytes = bytes;
    }

    /// A segment is prepared.
    pub fn segment_ready(&mut self, segment: SegmentId) {
        let asked = self.asked.remove(&segment);
        assert!(asked.is_some(), "segment {} was asked for", segment.0);
        self.commit.segment_ready(segment);
    }

    /// A segment could not be prepared. It will be asked for again, without a spare:
    /// remove the one that was named, if any.
    pub fn segment_failed(&mut self, now: Now, segment: SegmentId) {
        let asked = self.asked.get_mut(&segment).expect("it was asked for");
        asked.retry_at = Some(now.instant + PREPARE_RETRY);
    }

    /// A segment that was told to be dead is gone, and no crash brings it back.
    pub fn segment_gone(&mut self, segment: SegmentPlace, gone: Gone) {
        self.reclaim.gone(segment);
        for note_segment in self.notes.segment_gone(segment) {
            self.reclaim.note_away(note_segment, BatchNumber::START);
        }
        if gone == Gone::Spare {
            assert_eq!(
                segment.log, self.identity.log,
                "spares stay in their directory"
            );
            self.spares.push(segment.segment);
        }
        self.balance.due = true;
    }

    /// A transmission from a segment begins.
    pub fn borrow(&mut self, segment: SegmentPlace) {
        self.reclaim.borrow(segment);
    }

    /// It has ended: the peer has answered, or the connection is reset.
    pub fn give_back(&mut self, segment: SegmentPlace) {
        self.reclaim.give_back(segment);
    }

    /// A write has ended; `bytes` is its buffer.
    pub fn written(&mut self, result: Result<(), WriteFault>, bytes: Vec<u8>) {
        self.commit.written(result, bytes);
    }

    /// The time of [`Log::deadline`] may have come.
    pub fn timer(&mut self, now: Now) {
        self.commit.timer(now.instant);
        for asked in self.asked.values_mut() {
            if asked.retry_at.is_some_and(|at| at <= now.instant) {
                asked.retry_at = None;
                self.outputs.push_back(Output::SegmentNeeded {
                    header: asked.header,
                    spare: None,
                });
            }
        }
    }

    /// When to call [`Log::timer`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let retries = self.asked.values().filter_map(|asked| asked.retry_at);
        retries.chain(self.commit.deadline()).min()
    }

    /// Wants everything on stable storage, before a stop. Done when [`Log::is_idle`].
    pub fn flush(&mut self) {
        self.commit.flush();
    }

    /// Everything appended is on stable storage.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.commit.is_idle()
    }

    /// More waits for the disk than is good: take no more from the peers for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.commit.is_full()
    }

    /// Why the log is closed to writes.
    #[must_use]
    pub fn fault(&self) -> Option<WriteFault> {
        self.commit.fault()
    }

    /// Where the seal of a live message is.
    #[must_use]
    pub fn message(&self, queue_id: QueueId) -> Option<Location> {
        self.reclaim.message(queue_id).map(|(seal, _)| seal)
    }

    /// How many messages are live.
    #[must_use]
    pub fn messages_count(&self) -> usize {
        self.reclaim.messages_count()
    }

    /// What the segment files take, spares included.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let files = self.reclaim.segments_count() + self.spares.len();
        files as u64 * u64::from(self.settings.segment_bytes)
    }

    /// What of that is needed: live messages, and what keeps others from coming back.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.reclaim.needed_bytes()
    }

    /// The segments that are there.
    pub fn segments(&self) -> impl Iterator<Item = SegmentPlace> {
        self.reclaim.segments()
    }

    /// What is to be done or known next.
    pub fn poll(&mut self, now: Now) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.commit.poll() {
                return Some(self.of_commit(output));
            }
            let durable = self.commit.durable();
            if let Some(&(batch, queue_id, from, to)) = self.moves.front()
                && batch <= durable
            {
                self.moves.pop_front();
                return Some(Output::Moved { queue_id, from, to });
            }
            if self.ask_ahead(now) {
                continue;
            }
            if let Some((segment, fate)) = self.reclaim.dead(durable) {
                let fate = self.fate_here(segment, fate);
                return Some(Output::SegmentDead { segment, fate });
            }
            return self.choose_carry();
        }
    }

    fn of_commit(&mut self, output: commit::Output) -> Output {
        match output {
            commit::Output::Write {
                segment,
                offset,
                bytes,
                durability,
            } => Output::Write {
                segment,
                offset,
                bytes,
                durability,
            },
            commit::Output::Committed { ticket, receipt } => Output::Committed { ticket, receipt },
            commit::Output::Failed { ticket } => Output::Failed { ticket },
            commit::Output::SegmentClosed { segment, end } => {
                self.reclaim.closed(self.place(segment), end);
                self.balance.due = true;
                Output::SegmentClosed { segment }
            }
            commit::Output::LogClosed { fault } => Output::LogClosed { fault },
        }
    }

    /// Spares are used in their own directory only, and only so many.
    fn fate_here(&self, segment: SegmentPlace, fate: Fate) -> Fate {
        let keep = segment.log == self.identity.log && self.spares.len() < SPARES_MAX;
        match fate {
            Fate::Reuse if !keep => Fate::Remove,
            fate => fate,
        }
    }

    /// Asks for a segment beyond the tail, if one more is wanted and there is room.
    fn ask_ahead(&mut self, now: Now) -> bool {
        let wanted = self.commit.fault().is_none()
            && !self.preparation_fails()
            && self
                .commit
                .segments_ahead()
                .is_none_or(|ahead| ahead < SEGMENTS_AHEAD)
            && (!self.spares.is_empty() || self.growth_segments().is_ok_and(|more| more > 0));
        if wanted {
            self.ask_segment(now);
        }
        wanted
    }

    fn ask_segment(&mut self, now: Now) {
        let (segment, epoch) = self.commit.ask_segment();
        let place = self.place(segment);
        let header = SegmentHeader {
            spool: self.identity.spool,
            place,
            epoch,
            previous_epoch: spool_format::Epoch(0),
            created_ms: now.wall.as_millis(),
            segment_bytes: self.settings.segment_bytes,
        };
        self.reclaim.began(place, self.settings.segment_bytes);
        let asked = Asked {
            header,
            retry_at: None,
        };
        self.asked.insert(segment, asked);
        let spare = self.spares.pop();
        self.outputs
            .push_back(Output::SegmentNeeded { header, spare });
    }

    fn preparation_fails(&self) -> bool {
        self.asked.values().any(|asked| asked.retry_at.is_some())
    }

    /// How many more segment files there may be; which limit says so if none.
    fn growth_segments(&self) -> Result<u64, NoRoom> {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let by_size = self.settings.size_max.saturating_sub(self.size_bytes()) / segment_bytes;
        // What was asked for may have been counted as free.
        let spoken_for = self.settings.free_min + self.asked.len() as u64 * segment_bytes;
        let by_disk = self.free_bytes.saturating_sub(spoken_for) / segment_bytes;
        match (by_size, by_disk) {
            (0, _) => Err(NoRoom::SizeMax),
            (_, 0) => Err(NoRoom::FreeMin),
            (a, b) => Ok(a.min(b)),
        }
    }

    /// Whether new mail may use so many octets more.
    fn room_for(&self, bytes: u64) -> Result<(), NoRoom> {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let tail = u64::from(self.commit.tail_bytes());
        let ahead = u64::from(self.commit.segments_ahead().unwrap_or(0));
        let (growth, limit) = match self.growth_segments() {
            // Which of the two limits is meant is of interest only when it is reached.
            Ok(_) if self.preparation_fails() => (0, NoRoom::Preparation),
            Ok(more) => (more, NoRoom::SizeMax),
            Err(limit) => (0, limit),
        };
        let failing = self.asked.values().filter(|a| a.retry_at.is_some()).count() as u64;
        let segments = (ahead + self.spares.len() as u64 + growth)
            .saturating_sub(failing)
            .saturating_sub(RESERVE_SEGMENTS);
        // Headers, ends, and what does not fit at an end: a sixteenth.
        let usable = segment_bytes - segment_bytes / 16;
        let room = tail + segments * usable;
        if self.reserved + bytes <= room {
            Ok(())
        } else {
            Err(limit)
        }
    }

    fn press(&mut self) {
        self.balance.pressed = true;
        self.balance.due = true;
    }

    fn choose_carry(&mut self) -> Option<Output> {
        if !self.balance.due || self.carry.is_some() || self.commit.fault().is_some() {
            return None;
        }
        self.balance.due = false;
        let waste = if std::mem::take(&mut self.balance.pressed) {
            Waste::Pressed
        } else {
            Waste::Relaxed
        };
        let segment = self.reclaim.victim(waste, self.settings.segment_bytes)?;
        self.begin_carry(segment);
        Some(Output::CarryWanted { segment })
    }

    fn place(&self, segment: SegmentId) -> SegmentPlace {
        SegmentPlace {
            log: self.identity.log,
            segment,
        }
    }

    fn next_stamp(&mut self, now: Now) -> Stamp {
        self.stamp = self.stamp.next(now.wall.as_millis());
        self.stamp
    }

    /// Appends a record, and asks for the segment that it went to if that is new.
    fn append(
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
    fn append_part(
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

    /// Stores a note by itself; it is durable with the next batch.
    ///
    /// # Errors
    /// The log is closed, or the note is too large.
    pub fn note(&mut self, now: Now, note: NoteField<'_>) -> Result<(), AppendError> {
        let stamp = self.next_stamp(now);
        let record = NoteRecord {
            stamp,
            tag: note.tag,
            key: note.key,
            value: note.value,
        };
        let appended = self.append(now, Urgency::Rider, |seat, out| record.encode(seat, out))?;
        let place = self.place(appended.place.segment);
        self.note_stored(stamp, place, note.tag, note.key, note.value, appended.batch);
        Ok(())
    }

    /// All notes with this tag: keys and values.
    pub fn notes(&self, tag: u16) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.notes.of_tag(tag)
    }

    fn note_stored(
        &mut self,
        stamp: Stamp,
        place: SegmentPlace,
        tag: u16,
        key: &[u8],
        value: Option<&[u8]>,
        batch: BatchNumber,
    ) {
        let change = self.notes.stored((tag, key.into()), stamp, place, value);
        self.reclaim.note_here(place);
        if let Some(away) = change {
            self.reclaim.note_away(away, batch);
        }
    }

    fn noted(&mut self, appended: Appended, about: SegmentPlace) {
        let segment = self.place(appended.place.segment);
        self.reclaim.noted(segment, appended.framed_bytes, about);
    }
}

/// A delivery attempt that was put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt<'a> {
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Not before this.
    pub next_attempt: crate::time::WallTime,
    /// Whom it was for.
    pub recipients: &'a [RecipientNumber],
    /// What the next hop said; shortened to [`ATTEMPT_ERROR_BYTES_MAX`].
    pub error: &'a str,
}

/// The place of an envelope that is not stored yet.
const NOWHERE: Place = Place {
    segment: SegmentId(0),
    offset: Offset(0),
};

/// What a message or a piece of one takes with its frames: a record for each chunk, and
/// room for envelope and seal.
fn framed_estimate(octets: u64) -> u64 {
    octets + octets / 64 + 1024
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(ATTEMPT_ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
