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

use super::facts::{
    AttemptFact, BrokenMessage, LiveMessage, Missing, NO_TIME, Name, NameId, Names, NoteFact, Run,
    SegmentFacts,
};
use super::missing_part;
use super::paged::Paged;
use super::recipients::RecipientSet;
use crate::place::{Location, Place, SegmentId, SegmentPlace, Stamp};
use crate::record::{
    AttemptRecord, DeliverByMode, DoneRecord, Extent, Mark, MarkRecord, SealRecord,
};
use crate::table::Severity;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// The order of two records about the same fact.
type Key = (Stamp, Location);

/// Queue ids are given out by us, in sequence: nobody can choose them to collide,
/// so that two multiplications do for a hash.
#[derive(Default)]
struct QueueIdHasher(u64);

impl Hasher for QueueIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u64(self.0 << 8 | u64::from(octet));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let x = (value ^ (value >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = x ^ (x >> 29);
    }
}

/// All that was seen of a queue id.
#[derive(Debug, Default)]
struct Entry {
    queue_id: u64,
    /// The best seal so far of which all is there.
    seal: Option<Seal>,
    /// A seal was seen, whole message or not.
    sealed: bool,
    done: RecipientSet,
    marks: Option<Box<Marks>>,
    attempts: Vec<AttemptFact>,
}

/// What a seal says to the index.
#[derive(Clone, Debug)]
struct Seal {
    location: Location,
    generation: u32,
    stamp: Stamp,
    arrival_ms: i64,
    deadline_ms: i64,
    deadline_mode: DeliverByMode,
    hold_until_ms: i64,
    octets: u64,
    recipients: u32,
    priority: i8,
    held: bool,
    first_segment: SegmentId,
    queue_name: Option<Name>,
    next_hop: Option<Name>,
    runs: (u32, u32),
}

#[derive(Debug, Default)]
struct Marks {
    hold: Option<(Key, bool, Option<Name>)>,
    next_hop: Option<(Key, Option<Name>)>,
}

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
    index: HashMap<u64, u32, BuildHasherDefault<QueueIdHasher>>,
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
    /// By queue id.
    pub(super) messages: Paged<LiveMessage>,
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
            index: HashMap::default(),
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
        let entry = self.index.get(&queue_id);
        entry
            .map(|&index| &self.entries[index as usize])
            .is_some_and(|entry| entry.sealed || !entry.done.is_empty())
    }

    fn entry(&mut self, queue_id: u64) -> (u32, &mut Entry) {
        self.given(queue_id);
        let index = *self.index.entry(queue_id).or_insert_with(|| {
            self.entries.push(Entry {
                queue_id,
                ..Entry::default()
            });
            u32::try_from(self.entries.len() - 1).expect("fewer messages than octets of spool")
        });
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
            .for_each(|recipient| entry.done.insert(recipient));
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
        let best = &mut self.entries[index as usize].seal;
        match best {
            None => *best = Some(seal),
            Some(other) => {
                self.superseded += 1;
                if (other.generation, other.location) < (seal.generation, seal.location) {
                    *other = seal;
                }
            }
        }
    }

    pub(super) fn done(&mut self, record: &DoneRecord<'_>) {
        let (_, entry) = self.entry(record.queue_id);
        for field in record.recipients.iter() {
            entry.done.insert(field.recipient);
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
            let seal = entry
                .seal
                .map(|seal| self.seal_of(&other.names, &other.runs, seal));
            let marks = entry.marks.map(|marks| Marks {
                hold: marks.hold.map(|(key, held, name)| {
                    let name = self.names.intern_option(&other.names, name);
                    (key, held, name)
                }),
                next_hop: marks
                    .next_hop
                    .map(|(key, name)| (key, self.names.intern_option(&other.names, name))),
            });
            let (index, ours) = self.entry(entry.queue_id);
            indexes.push(index);
            ours.sealed |= entry.sealed;
            ours.done.insert_all(&entry.done);
            if let Some(marks) = marks {
                ours.marks.get_or_insert_default().add(marks);
            }
            for attempt in entry.attempts {
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
            notes.extend(of_suspect.into_iter().map(|note| (suspect.entry, note)));
            let log = suspect.seal.location.log;
            let missing = missing_part(
                suspect.envelope,
                suspect.extents.iter().copied(),
                log,
                |segment| segments.get(&SegmentPlace { log, segment }),
            );
            match missing {
                None => self.whole(suspect.entry, suspect.seal),
                Some(missing) => broken.push((suspect, missing)),
            }
        }
        let broken = self.broken_messages(broken, segments);
        let is_broken = |entry: u32| {
            let queue_id = self.entries[entry as usize].queue_id;
            let found = broken.binary_search_by_key(&queue_id, |broken| broken.message.queue_id);
            found.is_ok()
        };
        notes.retain(|(entry, _)| !is_broken(*entry));
        (broken, notes.into_iter().map(|(_, note)| note).collect())
    }

    /// Of seals that are not whole: those whose message is not whole elsewhere and
    /// has recipients left. Of several the highest generation. By queue id.
    fn broken_messages(
        &self,
        mut broken: Vec<(Suspect, Missing)>,
        segments: &BTreeMap<SegmentPlace, SegmentFacts>,
    ) -> Vec<BrokenMessage> {
        let order = |(suspect, _): &(Suspect, Missing)| {
            let queue_id = self.entries[suspect.entry as usize].queue_id;
            let newest_first = (suspect.seal.generation, suspect.seal.location);
            (queue_id, std::cmp::Reverse(newest_first))
        };
        broken.sort_by_key(order);
        broken.dedup_by_key(|(suspect, _)| suspect.entry);
        broken
            .into_iter()
            .filter_map(|(suspect, missing)| {
                let entry = &self.entries[suspect.entry as usize];
                if entry.seal.is_some() || entry.done.covers(suspect.seal.recipients) {
                    return None;
                }
                let log = suspect.seal.location.log;
                let facts = segments.get(&suspect.seal.location.segment_place());
                let copy = Entry {
                    queue_id: entry.queue_id,
                    seal: None,
                    sealed: true,
                    done: entry.done.clone(),
                    marks: None,
                    attempts: entry.attempts.clone(),
                };
                Some(BrokenMessage {
                    message: live_message(copy, suspect.seal),
                    envelope: suspect.envelope.in_log(log),
                    missing,
                    severity: facts.map_or(Severity::Damage, |facts| facts.verdict.severity),
                })
            })
            .collect()
    }

    /// The live messages, by queue id, after [`Shard::judge_suspects`].
    pub(super) fn finish(self) -> Part {
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
        let mut messages = Paged::new();
        let (mut last, mut ascending) = (0, true);
        for mut entry in self.entries {
            let Some(seal) = entry.seal.take() else {
                continue;
            };
            if entry.done.covers(seal.recipients) {
                done += 1;
                continue;
            }
            count(seal.location.segment_place());
            ascending &= last <= entry.queue_id;
            last = entry.queue_id;
            messages.push(live_message(entry, seal));
        }
        if let Some((segment, count)) = run {
            *live.entry(segment).or_insert(0) += count;
        }
        // They were given out in this order, and mostly stand so.
        if !ascending {
            let mut all: Vec<LiveMessage> = messages.into_iter().collect();
            all.sort_by_key(|message| message.queue_id);
            messages = all.into_iter().collect();
        }
        Part {
            writer: self.writer,
            messages,
            names: self.names,
            runs: self.runs,
            next: self.next,
            superseded: self.superseded,
            done,
            live,
        }
    }
}

impl Entry {
    fn attempt(&mut self, mut fact: AttemptFact) {
        let key = (fact.stamp, fact.at);
        let place = self
            .attempts
            .partition_point(|other| (other.stamp, other.at) < key);
        for newer in &self.attempts[place..] {
            fact.recipients.remove_all(&newer.recipients);
        }
        for older in &mut self.attempts[..place] {
            older.recipients.remove_all(&fact.recipients);
        }
        self.attempts.insert(place, fact);
        self.attempts.retain(|fact| !fact.recipients.is_empty());
    }
}

impl Marks {
    /// Of each kind the newest counts.
    fn add(&mut self, other: Self) {
        if let Some(theirs) = other.hold
            && self.hold.is_none_or(|(newest, ..)| newest < theirs.0)
        {
            self.hold = Some(theirs);
        }
        if let Some(theirs) = other.next_hop
            && self.next_hop.is_none_or(|(newest, _)| newest < theirs.0)
        {
            self.next_hop = Some(theirs);
        }
    }
}

/// The message that an entry is with this seal: marks that are newer than the
/// seal count, recipients that are done have no attempts.
fn live_message(mut entry: Entry, seal: Seal) -> LiveMessage {
    let key = (seal.stamp, seal.location);
    let mut held = (seal.held, seal.queue_name);
    let mut next_hop = seal.next_hop;
    if let Some(marks) = entry.marks {
        if let Some((newest, hold, queue_name)) = marks.hold
            && newest > key
        {
            held = (hold, queue_name.or(seal.queue_name));
        }
        if let Some((newest, hop)) = marks.next_hop
            && newest > key
        {
            next_hop = hop;
        }
    }
    if !entry.attempts.is_empty() {
        for attempt in &mut entry.attempts {
            attempt.recipients.remove_all(&entry.done);
        }
        entry
            .attempts
            .retain(|attempt| !attempt.recipients.is_empty());
    }
    let writer = (entry.queue_id >> 56) as u8;
    let id = |name| NameId { writer, name };
    LiveMessage {
        queue_id: entry.queue_id,
        seal: seal.location,
        generation: seal.generation,
        first_segment: seal.first_segment,
        arrival_ms: seal.arrival_ms,
        octets: seal.octets,
        recipients: seal.recipients,
        priority: seal.priority,
        held: held.0,
        queue_name: held.1.map(id),
        next_hop: next_hop.map(id),
        done: entry.done,
        attempts: entry.attempts,
        deadline_ms: seal.deadline_ms,
        deadline_mode: seal.deadline_mode,
        hold_until_ms: seal.hold_until_ms,
        runs: seal.runs,
    }
}
