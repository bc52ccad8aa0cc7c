//! Carrying forward: what is needed of a mostly dead segment is appended again at the
//! tail, so that the segment can go.
//!
//! The segment is read once, record by record, in steps of at most
//! [`CARRY_STEP_BYTES`], and the next step waits until what the last one appended is on
//! stable storage: fresh mail shares the disk with one step at a time.
//!
//! - A live message gets a new envelope, its body in new chunks, and a seal with the next
//!   generation, in which is written down what is done, held and routed by now. Until
//!   that seal is durable the old one counts; when both are there, the newer.
//! - Done records, marks and attempts about messages in segments that are still there are
//!   appended as they are, with their old stamps: they say what they said.
//! - Notes that are the newest of their key likewise.
//!
//! Relies on: every record that is copied was checked by its checksum on the way; a body
//! also by the checksum of the whole, so that damage is not made to look sound.
//!
//! What it does not do: it does not choose the segment (`reclaim` does).

use std::collections::BTreeSet;

use smallvec::SmallVec;
use spool_format::{
    AttemptRecord, CHUNK_BODY_OFFSET, Checksum, ChunkRecord, DoneRecord, EnvelopeRecord, Extent,
    List, Location, Mark, MarkRecord, NoteRecord, Offset, RecipientNumber, Record, RecordKind,
    SealRecord, Seat, SegmentHeader, SegmentPlace,
};

use super::super::commit::{AppendError, BatchNumber, Urgency};
use super::super::message::{ReadError, SegmentSource, body, frame_at, record_at};
use super::writing::{Hold, Marks, NOWHERE, OpenMessage};
use super::{Log, Output};
use crate::mail::QueueId;
use crate::time::Now;

/// Octets read and appended in one step: well under a millisecond of a core, and a small
/// part of a full batch.
pub(super) const CARRY_STEP_BYTES: usize = 256 << 10;

/// What a record costs beside its octets, so that a step has an end also where records
/// are small.
const RECORD_COST_BYTES: usize = 256;

/// What an attempt that cannot be read yet is counted for.
const UNWRITTEN_BYTES: u32 = 256;

/// A segment that is being emptied.
#[derive(Debug)]
pub(super) struct Carry {
    segment: SegmentPlace,
    /// The next record to be looked at.
    next: Offset,
    end: Offset,
    copying: Option<Copying>,
    /// Seals in it continue messages in these, which must not come back.
    ancestors: BTreeSet<SegmentPlace>,
    /// The newest batch with something that was carried.
    batch: BatchNumber,
}

/// A message whose body is being copied.
#[derive(Debug)]
struct Copying {
    seal: Location,
    message: OpenMessage,
    /// Of the old body.
    extents: Vec<Extent>,
    /// The extent that is being copied, and how far.
    extent: usize,
    copied: u32,
    checksum: Checksum,
}

/// Why a step ended before its time.
enum Stop {
    /// The log is closed; nothing can be carried any more.
    Append(AppendError),
    /// The segment is not what it was.
    Read(Option<QueueId>, ReadError),
    /// A record that is to be read is appended, and not written yet.
    Unwritten,
    /// Others have taken what the copies were to have.
    NoRoom,
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

impl Log {
    pub(super) fn begin_carry(&mut self, segment: SegmentPlace) {
        let end = self.reclaim.end(segment).expect("a victim is closed");
        // It is not told to be dead while it is being read.
        self.reclaim.opened(segment);
        self.carry = Some(Carry {
            segment,
            next: SegmentHeader::first_offset(),
            end,
            copying: None,
            ancestors: BTreeSet::new(),
            batch: BatchNumber::START,
        });
    }

    /// The segment that is being emptied, if a step can be made now.
    #[must_use]
    pub fn carries(&self) -> Option<SegmentPlace> {
        let carry = self.carry.as_ref()?;
        let can = self.commit.fault().is_some()
            || (carry.batch <= self.commit.durable() && self.takes_mail());
        can.then_some(carry.segment)
    }

    /// What may be copied in one go: no more than there are segments for.
    fn step_bytes(&self) -> usize {
        let at_hand = usize::try_from(self.copies_at_hand_bytes()).unwrap_or(usize::MAX);
        at_hand.min(CARRY_STEP_BYTES)
    }

    /// One step of emptying the segment that [`Log::carries`] names.
    pub fn carry(&mut self, now: Now, source: &impl SegmentSource) {
        if self.carries().is_none() {
            return;
        }
        let mut carry = self.carry.take().expect("carries says so");
        let result = match self.step_bytes() {
            0 => Err(Stop::NoRoom),
            _ => self.carry_step(now, source, &mut carry),
        };
        match result {
            Ok(()) if carry.next < carry.end || carry.copying.is_some() => {
                self.carry = Some(carry);
                // The next step waits for this one; it does not wait for riders.
                self.commit.flush();
                return;
            }
            Ok(()) => {
                self.reclaim
                    .emptied(carry.segment, carry.ancestors, carry.batch);
                self.commit.flush();
            }
            Err(Stop::Unwritten) => {
                carry.batch = self.commit.newest();
                self.carry = Some(carry);
                self.commit.flush();
                return;
            }
            Err(Stop::Append(AppendError::Closed(_))) => {}
            Err(Stop::NoRoom) => {
                // When something has left, it is tried again.
                if let Some(copying) = carry.copying {
                    self.abort(copying.message);
                }
                self.reclaim.unopened(carry.segment);
                self.balance.in_vain = true;
                return;
            }
            Err(Stop::Append(AppendError::TooLarge { .. })) => self.reclaim.stuck(carry.segment),
            Err(Stop::Read(queue_id, error)) => {
                self.reclaim.stuck(carry.segment);
                if let Some(place) = error.segment() {
                    self.reclaim.damaged(place);
                }
                self.outputs
                    .push_back(Output::CarryFailed { queue_id, error });
            }
        }
        self.reclaim.unopened(carry.segment);
        self.balance.stir();
    }

    fn carry_step(
        &mut self,
        now: Now,
        source: &impl SegmentSource,
        carry: &mut Carry,
    ) -> Result<(), Stop> {
        let mut budget = CARRY_STEP_BYTES;
        while budget > 0 && self.step_bytes() > 0 {
            let cost = match carry.copying.take() {
                Some(copying) => self.copy_piece(now, source, carry, copying)?,
                None if carry.next < carry.end => self.look_at_record(now, source, carry)?,
                None => break,
            };
            budget = budget.saturating_sub(cost);
        }
        Ok(())
    }

    /// Looks at the next record of the segment. Gives the cost.
    fn look_at_record(
        &mut self,
        now: Now,
        source: &impl SegmentSource,
        carry: &mut Carry,
    ) -> Result<usize, Stop> {
        carry.next = self.reclaim.behind_hole(carry.segment, carry.next);
        let at = carry.segment.at(carry.next);
        let framed = frame_at(source, at).map_err(|error| Stop::Read(None, error))?;
        let undecodable = |error| Stop::Read(None, ReadError::Undecodable { at, error });
        let payload = framed.payload;
        match framed.kind() {
            Some(RecordKind::Envelope | RecordKind::Chunk) => {
                if let Some(queue_id) = payload.first_chunk::<8>() {
                    let queue_id = QueueId::from_u64(u64::from_le_bytes(*queue_id));
                    self.begin_copy(now, source, carry, queue_id)?;
                }
            }
            Some(RecordKind::Seal) => {
                let seal = SealRecord::decode(payload).map_err(undecodable)?;
                let queue_id = QueueId::from_u64(seal.queue_id);
                carry
                    .ancestors
                    .extend(seal.carried_from.filter(|&from| from != carry.segment));
                self.begin_copy(now, source, carry, queue_id)?;
            }
            Some(RecordKind::Done) => {
                let done = DoneRecord::decode(payload).map_err(undecodable)?;
                // What names this segment is said by the seals that were carried out of it;
                // but where the seal that it means was cut off, an older one is elsewhere.
                let about = if done.message == carry.segment {
                    let stray = (carry.segment, QueueId::from_u64(done.queue_id));
                    self.strays.get(&stray).copied()
                } else {
                    Some(done.message)
                };
                if let Some(message) = about.filter(|about| self.reclaim.is_there(*about)) {
                    let done = DoneRecord { message, ..done };
                    self.carry_small(now, carry, &done, message)?;
                }
            }
            Some(RecordKind::Mark) => {
                let mark = MarkRecord::decode(payload).map_err(undecodable)?;
                // What was marked in this segment was carried with its marks.
                if let Some(seal) = self.reclaim.message(QueueId::from_u64(mark.queue_id)) {
                    self.carry_small(now, carry, &mark, seal.segment_place())?;
                }
            }
            Some(RecordKind::Attempt) => {
                let attempt = AttemptRecord::decode(payload).map_err(undecodable)?;
                self.carry_attempt(now, carry, at, &attempt)?;
            }
            Some(RecordKind::Note) => {
                let note = NoteRecord::decode(payload).map_err(undecodable)?;
                let newest = self.notes.get(note.tag, note.key);
                if newest.is_some_and(|newest| newest.segment == carry.segment) {
                    self.carry_note(now, carry, (note.tag, note.key.into()))?;
                }
            }
            Some(RecordKind::Begin | RecordKind::End) => {}
            Some(RecordKind::Partial) | None => {
                // A newer program wrote it, and may need it: the segment stays.
                let error = ReadError::OtherKind {
                    at,
                    found: framed.kind_octet,
                    wanted: RecordKind::Seal,
                };
                return Err(Stop::Read(None, error));
            }
        }
        carry.next = framed.next;
        if carry.next >= carry.end {
            // Notes that came with seals are not records of their own.
            for name in self.notes.in_segment(carry.segment) {
                self.carry_note(now, carry, name)?;
            }
        }
        Ok(payload.len() / 8 + RECORD_COST_BYTES)
    }

    /// If this message is live and has octets in the segment, begins to copy it.
    fn begin_copy(
        &mut self,
        now: Now,
        source: &impl SegmentSource,
        carry: &mut Carry,
        queue_id: QueueId,
    ) -> Result<(), Stop> {
        if !self.reclaim.lies_in(queue_id, carry.segment) {
            return Ok(());
        }
        let Some(seal) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        let read = |error| {
            // Of a message that was just sealed the last records may not be written.
            if self.commit.is_idle() || !self.reclaim.is_filling(seal.segment_place()) {
                Stop::Read(Some(queue_id), error)
            } else {
                Stop::Unwritten
            }
        };
        let record: SealRecord<'_> = record_at(source, seal).map_err(read)?;
        let envelope: EnvelopeRecord<'_> =
            record_at(source, record.envelope.in_log(seal.log)).map_err(read)?;
        if self
            .room_for_copies()
            .is_some_and(|room| record.octets > room)
        {
            return Err(Stop::NoRoom);
        }
        let generation = record.generation + 1;
        let mut message = OpenMessage {
            queue_id,
            generation,
            envelope: NOWHERE,
            extents: SmallVec::new(),
            parts: SmallVec::new(),
            chunks: 0,
            octets: 0,
            checksum: Checksum::EMPTY,
            reserved: 0,
            reserve_segments: 0,
        };
        let envelope = EnvelopeRecord {
            generation,
            ..envelope
        };
        let encode = |seat: Seat, out: &mut Vec<u8>| envelope.encode(seat, out);
        let appended = self.append_part(now, &mut message, Urgency::Rider, encode);
        match appended {
            Ok(appended) => message.envelope = appended.place,
            Err(error) => {
                self.abort(message);
                return Err(error.into());
            }
        }
        carry.copying = Some(Copying {
            seal,
            message,
            extents: record.extents.iter().collect(),
            extent: 0,
            copied: 0,
            checksum: record.checksum,
        });
        Ok(())
    }

    /// Copies one more piece of the body, or seals the copy. Gives the cost.
    fn copy_piece(
        &mut self,
        now: Now,
        source: &impl SegmentSource,
        carry: &mut Carry,
        mut copying: Copying,
    ) -> Result<usize, Stop> {
        let queue_id = copying.message.queue_id;
        if self.reclaim.message(queue_id) != Some(copying.seal) {
            // It was finished meanwhile.
            self.abort(copying.message);
            return Ok(RECORD_COST_BYTES);
        }
        let Some(&extent) = copying.extents.get(copying.extent) else {
            return self.seal_copy(now, source, carry, copying);
        };
        let rest = &copying.extents[copying.extent..];
        let rest: u64 = rest.iter().map(|extent| u64::from(extent.length)).sum();
        let rest = rest - u64::from(copying.copied);
        if self.room_for_copies().is_some_and(|room| rest > room) {
            self.abort(copying.message);
            return Err(Stop::NoRoom);
        }
        let octets = match checked_body(source, copying.seal, extent, copying.copied) {
            Ok(octets) => octets,
            Err(error) => {
                self.abort(copying.message);
                return Err(Stop::Read(Some(queue_id), error));
            }
        };
        let piece = &octets[..octets.len().min(self.step_bytes())];
        if let Err(error) = self.store_body(now, &mut copying.message, &[piece]) {
            self.abort(copying.message);
            return Err(error.into());
        }
        if piece.len() == octets.len() {
            copying.extent += 1;
            copying.copied = 0;
        } else {
            // An extent's length has 32 bits.
            copying.copied += piece.len() as u32;
        }
        carry.copying = Some(copying);
        Ok(piece.len() + RECORD_COST_BYTES)
    }

    fn seal_copy(
        &mut self,
        now: Now,
        source: &impl SegmentSource,
        carry: &mut Carry,
        copying: Copying,
    ) -> Result<usize, Stop> {
        let Copying {
            seal: old_place,
            mut message,
            checksum,
            ..
        } = copying;
        let queue_id = message.queue_id;
        let old = record_at::<SealRecord<'_>>(source, old_place);
        let old = match old {
            Ok(old) if message.checksum == checksum => old,
            Ok(_) => {
                self.abort(message);
                let error = ReadError::Body { at: old_place };
                return Err(Stop::Read(Some(queue_id), error));
            }
            Err(error) => {
                self.abort(message);
                return Err(Stop::Read(Some(queue_id), error));
            }
        };
        let stamp = self.next_stamp(now);
        let since = self.since.get(&queue_id);
        let mut done = since.map(|since| since.done.clone()).unwrap_or_default();
        old.done.iter().for_each(|number| done.insert(number));
        let done: SmallVec<[RecipientNumber; 8]> = done.iter().collect();
        let marks = since.and_then(|since| since.marks.as_deref()).cloned();
        let marks = marks.unwrap_or_default();
        let (held, queue_name) = match &marks.hold {
            Hold::AsSealed => (old.held, old.queue_name),
            Hold::Held { queue_name } => (true, queue_name.as_deref().or(old.queue_name)),
            Hold::Released => (false, old.queue_name),
        };
        let next_hop = match &marks.next_hop {
            None => old.next_hop,
            Some(next_hop) => next_hop.as_deref(),
        };
        let extents = std::mem::take(&mut message.extents);
        let record = SealRecord {
            generation: message.generation,
            stamp,
            envelope: message.envelope,
            carried_from: Some(old_place.segment_place()),
            extents: List::new(&extents),
            held,
            queue_name,
            next_hop,
            done: List::new(&done),
            notes: List::default(),
            ..old
        };
        // What was said of it is forgotten only when the seal says it: where that does not
        // fit, the message stays where it was, with all of it.
        let (sealed, batch) = self.store_seal(now, message, &record, Urgency::Rider)?;
        let since = self.since.remove(&queue_id).unwrap_or_default();
        carry.batch = carry.batch.max(batch);
        self.moves
            .push_back((batch, queue_id, old_place, sealed.seal));
        // Attempts are about the new place now.
        for at in since.attempts {
            let kept = &mut self.since.entry(queue_id).or_default().attempts;
            kept.push(at);
            match record_at::<AttemptRecord<'_>>(source, at) {
                Ok(attempt) => self.carry_attempt(now, carry, at, &attempt)?,
                // It is not written yet, so it is at the tail: it need not be moved,
                // only be kept for the new seal.
                Err(_) if self.reclaim.is_filling(at.segment_place()) => {
                    let about = sealed.seal.segment_place();
                    self.reclaim
                        .noted(at.segment_place(), UNWRITTEN_BYTES, about);
                }
                // The count of attempts is lost; the message is not.
                Err(error) => {
                    kept.pop();
                    self.outputs.push_back(Output::CarryFailed {
                        queue_id: Some(queue_id),
                        error,
                    });
                }
            }
        }
        Ok(RECORD_COST_BYTES)
    }

    /// Appends an attempt again, if it is one of the newest of a live message.
    fn carry_attempt(
        &mut self,
        now: Now,
        carry: &mut Carry,
        at: Location,
        attempt: &AttemptRecord<'_>,
    ) -> Result<(), Stop> {
        let queue_id = QueueId::from_u64(attempt.queue_id);
        let Some(seal) = self.reclaim.message(queue_id) else {
            return Ok(());
        };
        let since = self.since.get(&queue_id);
        let Some(index) = since.and_then(|s| s.attempts.iter().position(|&a| a == at)) else {
            return Ok(());
        };
        let place = self.carry_small(now, carry, attempt, seal.segment_place())?;
        if let Some(since) = self.since.get_mut(&queue_id) {
            since.attempts[index] = place;
        }
        Ok(())
    }

    /// Appends a record again as it is.
    fn carry_small<'a>(
        &mut self,
        now: Now,
        carry: &mut Carry,
        record: &impl Record<'a>,
        about: SegmentPlace,
    ) -> Result<Location, Stop> {
        let encode = |seat: Seat, out: &mut Vec<u8>| record.encode(seat, out);
        let appended = self.append(now, Urgency::Rider, encode)?;
        self.noted(appended, about);
        carry.batch = carry.batch.max(appended.batch);
        Ok(appended.place.in_log(self.identity.log))
    }

    /// Appends the newest note of a key again.
    fn carry_note(
        &mut self,
        now: Now,
        carry: &mut Carry,
        name: super::notes::Name,
    ) -> Result<(), Stop> {
        let note = self
            .notes
            .get(name.0, &name.1)
            .expect("it is the newest")
            .clone();
        let record = NoteRecord {
            stamp: note.stamp,
            tag: name.0,
            key: &name.1,
            value: note.value.as_deref(),
        };
        let encode = |seat: Seat, out: &mut Vec<u8>| record.encode(seat, out);
        let appended = self.append(now, Urgency::Rider, encode)?;
        let place = self.place(appended.place.segment);
        let value = note.value.as_deref();
        self.note_stored(note.stamp, place, name.0, &name.1, value, appended.batch);
        carry.batch = carry.batch.max(appended.batch);
        Ok(())
    }
}

/// The octets of an extent from `from` on. At its beginning the record is checked that
/// they lie in: so it is known which one is damaged.
fn checked_body(
    source: &impl SegmentSource,
    seal: Location,
    extent: Extent,
    from: u32,
) -> Result<&[u8], ReadError> {
    if from == 0 {
        let chunk = Location {
            log: seal.log,
            segment: extent.segment,
            offset: Offset(extent.offset.0.saturating_sub(CHUNK_BODY_OFFSET as u32)),
        };
        record_at::<ChunkRecord<'_>>(source, chunk)?;
    }
    Ok(&body(source, seal, extent)?[from as usize..])
}

impl Marks {
    pub(super) fn add(&mut self, mark: Mark<'_>) {
        match mark {
            Mark::Hold { queue_name } => {
                let before = match std::mem::take(&mut self.hold) {
                    Hold::Held { queue_name } => queue_name,
                    Hold::AsSealed | Hold::Released => None,
                };
                self.hold = Hold::Held {
                    queue_name: queue_name.map(Into::into).or(before),
                };
            }
            Mark::Release => self.hold = Hold::Released,
            Mark::Requeue { next_hop } => self.next_hop = Some(next_hop.map(Into::into)),
        }
    }
}
