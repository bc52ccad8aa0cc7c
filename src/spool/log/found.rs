//! A log that goes on from what was found at the start.

use smallvec::SmallVec;
use spool_format::{LiveMessage, NoteFact, Offset, Recovered, SegmentId, SegmentPlace};

use super::super::commit::BatchNumber;
use super::super::reclaim::{Condition, FoundRun, Part};
use super::super::recovery::{Outline, SaidAs, Stray};
use super::Log;
use super::writing::{ATTEMPTS_KEPT, Hold, Marks};
use crate::mail::QueueId;

/// What envelope and seal of a message take, where it was not counted.
const FRAMES_BYTES: u64 = 1024;

/// Puts what was found into the balance: first all segments, then all messages, then
/// outlines and notes.
pub(in crate::spool) struct Found<'a> {
    log: &'a mut Log,
    recovered: &'a Recovered,
}

impl<'a> Found<'a> {
    pub(in crate::spool) fn new(log: &'a mut Log, recovered: &'a Recovered) -> Self {
        log.stamp = recovered.stamp;
        Self { log, recovered }
    }

    pub(in crate::spool) fn segment(
        &mut self,
        place: SegmentPlace,
        size_bytes: u32,
        end: Offset,
        condition: Condition,
        holes: Vec<(Offset, Offset)>,
    ) {
        self.log
            .reclaim
            .found(place, size_bytes, end, condition, holes);
    }

    /// The newest segment of a log that has records tells which queue ids that log has
    /// given. Ours goes on, and says so again in its first batch. One that nobody writes
    /// to keeps its segment: some day there may be a core for it again.
    pub(in crate::spool) fn tells_queue_ids(&mut self, newest: SegmentPlace) {
        let batch = if newest.log == self.log.identity.log {
            BatchNumber::FIRST
        } else {
            BatchNumber::NEVER
        };
        self.log.reclaim.needed_until(newest, batch);
    }

    pub(in crate::spool) fn segment_elsewhere(&mut self, place: SegmentPlace) {
        self.log.reclaim.found_elsewhere(place);
    }

    /// Live messages, or broken ones. It takes least where those of a segment stand
    /// together.
    pub(in crate::spool) fn messages<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m LiveMessage>,
    ) {
        let mut run = FoundRun::default();
        for message in messages {
            let queue_id = QueueId::from_u64(message.queue_id);
            let place = message.seal.segment_place();
            if run.segment != Some(place) {
                self.log.reclaim.found_run(&run);
                // A broken message whose segment is left aside: there is nothing to keep.
                let ours = self.log.reclaim.is_ours(place);
                run = FoundRun::of(place, ours);
            }
            if !run.ours {
                continue;
            }
            let bytes = message.octets + FRAMES_BYTES;
            if message.first_segment == place.segment {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                self.log
                    .reclaim
                    .found_in(&mut run, queue_id, message.seal, bytes);
            } else {
                self.spread_message(message, bytes);
            }
            self.since(queue_id, message);
        }
        self.log.reclaim.found_run(&run);
    }

    /// A message that lies in several segments.
    fn spread_message(&mut self, message: &LiveMessage, bytes: u64) {
        let log = message.seal.log;
        let mut parts: SmallVec<[Part; 4]> = SmallVec::new();
        // The fold tells the first and the last segment of a message. It may lie in any
        // between, so it keeps them all until it is carried forward.
        for number in message.first_segment.0..=message.seal.segment.0 {
            let segment = SegmentPlace {
                log,
                segment: SegmentId(number),
            };
            // All generations of a message are in logs of one owner.
            if self.log.reclaim.is_ours(segment) {
                parts.push(Part { segment, bytes: 0 });
            }
        }
        let share = bytes / parts.len().max(1) as u64;
        for part in &mut parts {
            part.bytes = u32::try_from(share).unwrap_or(u32::MAX);
        }
        let queue_id = QueueId::from_u64(message.queue_id);
        let batch = BatchNumber::START;
        self.log
            .reclaim
            .sealed(queue_id, message.seal, &parts, batch);
    }

    /// What was said of it since it was sealed.
    fn since(&mut self, queue_id: QueueId, message: &LiveMessage) {
        if !message.done.is_empty() || !message.attempts.is_empty() {
            let since = self.log.since.entry(queue_id).or_default();
            since.done = message.done.clone();
            let newest = message.attempts.len().saturating_sub(ATTEMPTS_KEPT);
            let attempts = message.attempts[newest..].iter();
            since.attempts = attempts.map(|attempt| attempt.at).collect();
        }
    }

    /// Whether a mark or the seal says so is all the same: it is so.
    fn marked(&mut self, queue_id: QueueId) {
        let Some(message) = self.recovered.messages.get(queue_id.as_u64()) else {
            return;
        };
        let name = |id| Some(Box::from(self.recovered.name(id)));
        let hold = if message.held {
            Hold::Held {
                queue_name: message.queue_name.and_then(name),
            }
        } else {
            Hold::Released
        };
        let marks = Marks {
            hold,
            next_hop: Some(message.next_hop.and_then(name)),
        };
        self.log.since.entry(queue_id).or_default().marks = Some(Box::new(marks));
    }

    pub(in crate::spool) fn outline(&mut self, place: SegmentPlace, outline: &Outline) {
        if !self.log.reclaim.is_ours(place) {
            return;
        }
        for (&about, &bytes) in &outline.about {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.log.reclaim.noted(place, bytes, about);
        }
        for &ancestor in &outline.ancestors {
            self.log.reclaim.continues(place, ancestor);
        }
        for &(queue_id, said, bytes) in &outline.said_of {
            let Some(seal) = self.log.reclaim.message(queue_id) else {
                continue;
            };
            self.log.reclaim.noted(place, bytes, seal.segment_place());
            if said == SaidAs::Mark {
                self.marked(queue_id);
            }
        }
    }

    /// A done record that is about an older seal than it says.
    pub(in crate::spool) fn stray(&mut self, stray: &Stray) {
        if self.log.reclaim.is_ours(stray.at) {
            self.log.reclaim.noted(stray.at, stray.bytes, stray.about);
            self.log
                .strays
                .insert((stray.at, stray.queue_id), stray.about);
        }
    }

    pub(in crate::spool) fn note(&mut self, note: &NoteFact, with_notes: &[SegmentPlace]) {
        let place = note.at.segment_place();
        if !self.log.reclaim.is_ours(place) {
            return;
        }
        let older = with_notes
            .iter()
            .copied()
            .filter(|&other| other != place && self.log.reclaim.is_ours(other))
            .collect();
        let name = (note.tag, note.key.clone());
        let log = &mut *self.log;
        log.notes
            .found(name, note.stamp, place, note.value.as_deref(), older);
        log.reclaim.note_here(place);
    }

    pub(in crate::spool) fn spares(&mut self, spares: &[SegmentId]) {
        self.log.spares = spares.to_vec();
    }
}
