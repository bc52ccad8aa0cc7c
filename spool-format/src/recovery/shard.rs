//! What was seen of the messages that one writer named.
//!
//! The upper octet of a queue id says which log gave it out, and nearly always that is
//! the log in which everything about the message stands. So folds over different logs
//! mostly have different shards, and joining them moves a pointer. What was written about
//! a message in the log of another core is joined message by message.
//!
//! Relies on: the fold hands in each record once; `facts` for names, which are counted
//! for each shard by itself.
//!
//! What this module does not do: it knows no segment beyond what is missing of a seal.

use super::entry::{Entry, Marks, Seal};
use super::facts::{
    AttemptFact, BrokenMessage, LiveMessage, Missing, NO_TIME, Names, NoteFact, Run, SegmentFacts,
};
use super::ids::{Ids, NO_ENTRY};
use super::judgement::missing_part;
use super::paged::Paged;
use crate::place::{Location, Place, SegmentId, SegmentPlace};
use crate::record::{
    AttemptRecord, DeliverByMode, DoneRecord, Extent, Mark, MarkRecord, SealRecord,
};
use crate::table::Severity;
use std::collections::BTreeMap;

/// A seal of which parts are in other segments than its own, or are missing.
#[derive(Debug)]
struct Suspect {
    /// Which entry.
    entry: u32,
    seal: Seal,
    envelope: Place,
    extents: Vec<Extent>,
    /// True only if the message turns out not to be broken.
    notes: Vec<NoteFact>,
}

/// All that was seen of the queue ids with one upper octet.
#[derive(Debug)]
pub(super) struct Shard {
    writer: u8,
    ids: Ids,
    entries: Paged<Entry>,
    suspects: Vec<Suspect>,
    names: Names,
    runs: Vec<Run>,
    /// The first queue id that was never given.
    next: u64,
    superseded: u64,
}

/// The live messages of a shard.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) writer: u8,
    /// Others are among them.
    entries: Paged<Entry>,
    /// Which are live, by queue id.
    order: Vec<u32>,
    pub(super) names: Names,
    pub(super) runs: Vec<Run>,
    pub(super) next: u64,
    pub(super) superseded: u64,
    pub(super) done: u64,
    /// By the segment of the seal, how many.
    pub(super) live: BTreeMap<SegmentPlace, u32>,
}

impl Shard {
    pub(super) fn new(writer: u8) -> Self {
        Self {
            writer,
            ids: Ids::default(),
            entries: Paged::new(),
            suspects: Vec::new(),
            names: Names::default(),
            runs: Vec::new(),
            next: u64::from(writer) << 56,
            superseded: 0,
        }
    }

    /// This queue id was given out.
    pub(super) fn given(&mut self, queue_id: u64) {
        debug_assert_eq!((queue_id >> 56) as u8, self.writer, "one shard a writer");
        // The last id of a writer has no next one; it takes 2⁵⁶ messages to get
        // there.
        self.next = self.next.max(queue_id.saturating_add(1));
    }

    /// Whether a message was sealed, or is known to be done.
    pub(super) fn was_sealed(&self, queue_id: u64) -> bool {
        let entry = self.ids.get(queue_id);
        entry
            .map(|index| &self.entries[index as usize])
            .is_some_and(|entry| entry.sealed || !entry.message.done.is_empty())
    }

    /// Where the best seal is of which all is there.
    pub(super) fn seal_of_message(&self, queue_id: u64) -> Option<Location> {
        let entry = &self.entries[self.ids.get(queue_id)? as usize];
        entry.whole.then_some(entry.message.seal)
    }

    fn entry(&mut self, queue_id: u64) -> (u32, &mut Entry) {
        self.given(queue_id);
        let seat = self.ids.seat(queue_id);
        if *seat == NO_ENTRY {
            *seat = u32::try_from(self.entries.len()).expect("fewer messages than octets of spool");
            self.entries.push(Entry::new(queue_id));
        }
        let index = *seat;
        (index, &mut self.entries[index as usize])
    }

    /// A seal, in the segment of `facts`. True if all of its message is there, as far as
    /// can be seen in this segment.
    pub(super) fn seal(
        &mut self,
        facts: &SegmentFacts,
        at: Location,
        record: &SealRecord<'_>,
    ) -> bool {
        let begin = self.runs.len() as u32;
        let mut recipients = 0u32;
        for run in record.domains.iter() {
            recipients = recipients.saturating_add(run.recipients);
            let domain = self.names.intern(run.domain);
            self.runs.push(Run {
                recipients: run.recipients,
                domain,
            });
        }
        let mut first_segment = SegmentId::min(at.segment, record.envelope.segment);
        let mut here = record.envelope.segment == at.segment;
        for extent in record.extents.iter() {
            first_segment = first_segment.min(extent.segment);
            here &= extent.segment == at.segment;
        }
        let seal = Seal {
            location: at,
            generation: record.generation,
            stamp: record.stamp,
            arrival_ms: record.arrival_ms,
            deadline_ms: record.deadline.map_or(NO_TIME, |deadline| deadline.at_ms),
            deadline_mode: record
                .deadline
                .map_or(DeliverByMode::Notify, |deadline| deadline.mode),
            hold_until_ms: record.hold_until_ms.unwrap_or(NO_TIME),
            octets: record.octets,
            recipients,
            priority: record.priority,
            held: record.held,
            first_segment,
            queue_name: record.queue_name.map(|name| self.names.intern(name)),
            next_hop: record.next_hop.map(|name| self.names.intern(name)),
            runs: (begin, self.runs.len() as u32 - begin),
        };
        let whole = here
            && missing_part(record.envelope, record.extents.iter(), at.log, |_| {
                Some(facts)
            })
            .is_none();
        let (index, entry) = self.entry(record.queue_id);
        entry.sealed = true;
        record
            .done
            .iter()
            .for_each(|recipient| entry.message.done.insert(recipient));
        if whole {
            self.whole(index, seal);
            return true;
        }
        let notes = record.notes.iter().map(|note| NoteFact {
            at,
            stamp: record.stamp,
            tag: note.tag,
            key: note.key.into(),
            value: note.value.map(Into::into),
        });
        self.suspects.push(Suspect {
            entry: index,
            seal,
            envelope: record.envelope,
            extents: record.extents.iter().collect(),
            notes: notes.collect(),
        });
        false
    }

    /// A seal of which all is there.
    fn whole(&mut self, index: u32, seal: Seal) {
        let writer = self.writer;
        let entry = &mut self.entries[index as usize];
        if entry.whole {
            self.superseded += 1;
            let best = (entry.message.generation, entry.message.seal);
            if best >= (seal.generation, seal.location) {
                return;
            }
        }
        entry.take(writer, &seal);
    }

    pub(super) fn done(&mut self, record: &DoneRecord<'_>) {
        let (_, entry) = self.entry(record.queue_id);
        for field in record.recipients.iter() {
            entry.message.done.insert(field.recipient);
        }
    }

    pub(super) fn mark(&mut self, at: Location, record: &MarkRecord<'_>) {
        let key = (record.stamp, at);
        let name = match record.mark {
            Mark::Hold { queue_name: name } | Mark::Requeue { next_hop: name } => {
                name.map(|name| self.names.intern(name))
            }
            Mark::Release => None,
        };
        let marks = match record.mark {
            Mark::Hold { .. } => Marks {
                hold: Some((key, true, name)),
                next_hop: None,
            },
            Mark::Release => Marks {
                hold: Some((key, false, None)),
                next_hop: None,
            },
            Mark::Requeue { .. } => Marks {
                hold: None,
                next_hop: Some((key, name)),
            },
        };
        let (_, entry) = self.entry(record.queue_id);
        entry.marks.get_or_insert_default().add(marks);
    }

    pub(super) fn attempt(&mut self, at: Location, record: &AttemptRecord<'_>) {
        let fact = AttemptFact {
            at,
            stamp: record.stamp,
            attempts: record.attempts,
            next_attempt_ms: record.next_attempt_ms,
            told: record.told,
            recipients: record.recipients.iter().collect(),
        };
        let (_, entry) = self.entry(record.queue_id);
        entry.attempt(fact);
    }

    /// What another fold saw of the same writer's messages.
    pub(super) fn absorb(&mut self, mut other: Self) {
        if self.entries.len() < other.entries.len() {
            std::mem::swap(self, &mut other);
        }
        self.next = self.next.max(other.next);
        self.superseded += other.superseded;
        let mut indexes = Vec::with_capacity(other.entries.len());
        for entry in other.entries {
            let seal = entry.seal();
            let seal = seal.map(|seal| self.seal_of(&other.names, &other.runs, seal));
            let marks = entry.marks.map(|marks| Marks {
                hold: marks.hold.map(|(key, held, name)| {
                    let name = self.names.intern_option(&other.names, name);
                    (key, held, name)
                }),
                next_hop: marks
                    .next_hop
                    .map(|(key, name)| (key, self.names.intern_option(&other.names, name))),
            });
            let (index, ours) = self.entry(entry.message.queue_id);
            indexes.push(index);
            ours.sealed |= entry.sealed;
            ours.message.done.insert_all(&entry.message.done);
            if let Some(marks) = marks {
                ours.marks.get_or_insert_default().add(marks);
            }
            for attempt in entry.message.attempts {
                ours.attempt(attempt);
            }
            if let Some(seal) = seal {
                self.whole(index, seal);
            }
        }
        for suspect in other.suspects {
            let seal = self.seal_of(&other.names, &other.runs, suspect.seal);
            self.suspects.push(Suspect {
                entry: indexes[suspect.entry as usize],
                seal,
                ..suspect
            });
        }
    }

    /// A seal of another shard, with the names of this one.
    fn seal_of(&mut self, names: &Names, runs: &[Run], seal: Seal) -> Seal {
        let begin = self.runs.len() as u32;
        let (from, count) = (seal.runs.0 as usize, seal.runs.1 as usize);
        for run in &runs[from..from + count] {
            let domain = self.names.intern(names.text(run.domain));
            self.runs.push(Run { domain, ..*run });
        }
        Seal {
            queue_name: self.names.intern_option(names, seal.queue_name),
            next_hop: self.names.intern_option(names, seal.next_hop),
            runs: (begin, seal.runs.1),
            ..seal
        }
    }

    /// Looks at the seals that were not whole by themselves, now that all segments are
    /// there. Gives the messages that are broken, and the notes of those that are not.
    pub(super) fn judge_suspects(
        &mut self,
        segments: &BTreeMap<SegmentPlace, SegmentFacts>,
    ) -> (Vec<BrokenMessage>, Vec<NoteFact>) {
        let mut broken = Vec::new();
        let mut notes = Vec::new();
        for mut suspect in std::mem::take(&mut self.suspects) {
            let of_suspect = std::mem::take(&mut suspect.notes);
            let log = suspect.seal.location.log;
            let missing = missing_part(
                suspect.envelope,
                suspect.extents.iter().copied(),
                log,
                |segment| segments.get(&SegmentPlace { log, segment }),
            );
            // What was torn with its message was never committed, also when the message has
            // been ended since. What only lost a segment may be done, and that is why.
            let torn = matches!(missing, Some(Missing::Octets(_)));
            let of_suspect = of_suspect.into_iter();
            notes.extend(of_suspect.map(|note| (suspect.entry, torn, note)));
            match missing {
                None => self.whole(suspect.entry, suspect.seal),
                Some(missing) => broken.push((suspect, missing)),
            }
        }
        let broken = self.broken_messages(broken, segments);
        let is_broken = |entry: u32| {
            let queue_id = self.entries[entry as usize].message.queue_id;
            let found = broken.binary_search_by_key(&queue_id, |broken| broken.message.queue_id);
            found.is_ok()
        };
        notes.retain(|(entry, torn, _)| {
            !is_broken(*entry) && (!torn || self.entries[*entry as usize].whole)
        });
        let notes = notes.into_iter().map(|(_, _, note)| note);
        (broken, notes.collect())
    }

    /// Of seals that are not whole: those whose message is not whole elsewhere and
    /// has recipients left. Of several the highest generation. By queue id.
    fn broken_messages(
        &self,
        mut broken: Vec<(Suspect, Missing)>,
        segments: &BTreeMap<SegmentPlace, SegmentFacts>,
    ) -> Vec<BrokenMessage> {
        let order = |(suspect, _): &(Suspect, Missing)| {
            let queue_id = self.entries[suspect.entry as usize].message.queue_id;
            let newest_first = (suspect.seal.generation, suspect.seal.location);
            (queue_id, std::cmp::Reverse(newest_first))
        };
        broken.sort_by_key(order);
        broken.dedup_by_key(|(suspect, _)| suspect.entry);
        broken
            .into_iter()
            .filter_map(|(suspect, missing)| {
                let entry = &self.entries[suspect.entry as usize];
                let done = &entry.message.done;
                if entry.whole || done.covers(suspect.seal.recipients) {
                    return None;
                }
                let log = suspect.seal.location.log;
                let facts = segments.get(&suspect.seal.location.segment_place());
                let mut broken = Entry::new(entry.message.queue_id);
                broken.message.done = done.clone();
                broken.message.attempts = entry.message.attempts.clone();
                broken.take(self.writer, &suspect.seal);
                broken.settle();
                Some(BrokenMessage {
                    message: broken.message,
                    envelope: suspect.envelope.in_log(log),
                    missing,
                    severity: facts.map_or(Severity::Damage, |facts| facts.verdict.severity),
                })
            })
            .collect()
    }

    /// The live messages, by queue id, after [`Shard::judge_suspects`].
    pub(super) fn finish(mut self) -> Part {
        debug_assert!(self.suspects.is_empty(), "all were judged");
        let mut done = 0;
        let mut live = BTreeMap::new();
        // Messages lie where they lie, one after the other, mostly in one segment.
        let mut run: Option<(SegmentPlace, u32)> = None;
        let mut count = |place: SegmentPlace| match &mut run {
            Some((segment, count)) if *segment == place => *count += 1,
            run => {
                if let Some((segment, count)) = run.replace((place, 1)) {
                    *live.entry(segment).or_insert(0) += count;
                }
            }
        };
        let mut order = Vec::with_capacity(self.entries.len());
        let mut ids = Vec::new();
        let (mut last, mut ascending) = (0, true);
        for (entry, number) in self.entries.iter_mut().zip(0u32..) {
            if !entry.whole {
                continue;
            }
            if entry.message.done.covers(entry.message.recipients) {
                done += 1;
                continue;
            }
            entry.settle();
            count(entry.message.seal.segment_place());
            let queue_id = entry.message.queue_id;
            ascending &= last <= queue_id;
            last = queue_id;
            order.push(number);
            ids.push(queue_id);
        }
        if let Some((segment, count)) = run {
            *live.entry(segment).or_insert(0) += count;
        }
        // They were given out in this order; sealed in the order in which clients came to
        // an end.
        if !ascending {
            let mut all: Vec<(u64, u32)> = ids.into_iter().zip(order).collect();
            all.sort_unstable();
            order = all.into_iter().map(|(_, number)| number).collect();
        }
        Part {
            writer: self.writer,
            entries: self.entries,
            order,
            names: self.names,
            runs: self.runs,
            next: self.next,
            superseded: self.superseded,
            done,
            live,
        }
    }
}

impl Part {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// By queue id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveMessage> + use<'_> {
        let order = self.order.iter();
        order.map(|&number| &self.entries[number as usize].message)
    }

    pub(super) fn get(&self, queue_id: u64) -> Option<&LiveMessage> {
        let message = |number: u32| &self.entries[number as usize].message;
        let place = self
            .order
            .binary_search_by_key(&queue_id, |&number| message(number).queue_id);
        Some(message(self.order[place.ok()?]))
    }
}
