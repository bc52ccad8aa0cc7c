//! The fold over segments that says what the spool holds.
//!
//! Segments are handed in one after the other, in any order, as octets and, where
//! there is one, with their summary. The result depends only on what was handed
//! in, not on the order.
//!
//! Relies on: `scan` for the records of a segment, `table` for what a segment is
//! good for.
//!
//! Invariants:
//! - A message is live if and only if a seal of it is whole, envelope and body lie
//!   in records that are whole, and a recipient is not done. Of several such seals
//!   the highest generation counts, then the later place.
//! - A done record counts in every generation and wherever it stands.
//! - Of two records about the same fact the one with the greater stamp counts, then
//!   the one at the later place.
//! - A sealed message that is neither live nor done is reported as broken.
//!
//! What this module does not do: it opens no file, verifies no body checksum (the
//! reader of a body does), and removes nothing. Envelopes and chunks without a seal
//! are nothing.

mod facts;
mod recipients;

pub use facts::{
    AttemptFact, BrokenMessage, LiveMessage, Missing, NameId, NoteFact, PartialFact, Recovered,
    SegmentFacts, Source, Undecodable,
};
pub use recipients::RecipientSet;

use crate::field::DecodeError;
use crate::frame::{RECORD_HEADER_BYTES, RecordKind};
use crate::header::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, SpoolUuid};
use crate::place::{Location, LogId, Offset, Place, SegmentId, SegmentPlace, Stamp};
use crate::record::{
    AttemptRecord, BeginRecord, DoneRecord, Extent, Mark, MarkRecord, NoteRecord, PartialRecord,
    PartialState, Record, SealRecord,
};
use crate::scan::{Item, Scanner};
use crate::summary::{Summary, SummaryFault};
use crate::table::{Body, Kept, Look, Position, Severity, verdict};
use facts::{NO_TIME, Names, Run};
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    hold_until_ms: i64,
    octets: u64,
    recipients: u32,
    priority: i8,
    held: bool,
    first_segment: SegmentId,
    queue_name: Option<NameId>,
    next_hop: Option<NameId>,
    runs: (u32, u32),
}

#[derive(Debug, Default)]
struct Marks {
    hold: Option<(Key, bool, Option<NameId>)>,
    next_hop: Option<(Key, Option<NameId>)>,
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

/// The fold.
#[derive(Debug, Default)]
pub struct Recovery {
    spool: Option<SpoolUuid>,
    index: HashMap<u64, u32, BuildHasherDefault<QueueIdHasher>>,
    entries: Vec<Entry>,
    suspects: Vec<Suspect>,
    partials: HashMap<(Box<str>, Box<str>), PartialFact>,
    notes: HashMap<(u16, Box<[u8]>), NoteFact>,
    segments: BTreeMap<SegmentPlace, SegmentFacts>,
    names: Names,
    runs: Vec<Run>,
    stamp: Option<Stamp>,
    queue_ids_next: HashMap<u8, u64>,
    superseded: u64,
}

/// What is being collected about the segment that is read.
struct Reading {
    facts: SegmentFacts,
    refers_to: BTreeMap<SegmentPlace, u32>,
}

impl Recovery {
    /// Nothing so far. Segments of another spool than `spool` are left aside; with
    /// `None` the first header decides.
    #[must_use]
    pub fn new(spool: Option<SpoolUuid>) -> Self {
        Self {
            spool,
            ..Self::default()
        }
    }

    /// A segment: all octets of the file that is called `place`, and those of its
    /// summary if there is one. Any octets may be handed in. Says from what it was
    /// read; each segment is to be handed in once.
    pub fn segment(&mut self, place: SegmentPlace, file: &[u8], summary: Option<&[u8]>) -> Source {
        let mut summary_fault = None;
        let summary = summary.and_then(|octets| match Summary::decode(octets) {
            Ok(summary) if summary.header.place == place => Some(summary),
            Ok(_) => {
                summary_fault = Some(SummaryFault::OtherSegment);
                None
            }
            Err(fault) => {
                summary_fault = Some(fault);
                None
            }
        });
        let (header, header_fault) = match SegmentHeader::decode(file, place) {
            Ok(header) => (Some(header), None),
            Err(fault) => (None, Some(fault)),
        };
        let mut reading = Reading {
            facts: SegmentFacts {
                place,
                header,
                header_fault,
                summary_fault,
                source: Source::Header,
                look: Look::HeaderDamaged,
                position: Position::Last,
                verdict: verdict(Look::HeaderDamaged, Position::Last),
                end: Offset(0),
                records: 0,
                damage: Vec::new(),
                undecodable: 0,
                undecodable_first: None,
                live: 0,
                refers_to: Vec::new(),
            },
            refers_to: BTreeMap::new(),
        };
        self.read(&mut reading, file, summary);
        let mut facts = reading.facts;
        facts.refers_to = reading.refers_to.into_iter().collect();
        let source = facts.source;
        self.segments.insert(place, facts);
        source
    }

    fn read(&mut self, reading: &mut Reading, file: &[u8], summary: Option<Summary<'_>>) {
        let facts = &mut reading.facts;
        facts.look = match facts.header_fault {
            None | Some(HeaderFault::Damaged) => Look::HeaderDamaged,
            Some(HeaderFault::Unbegun) => Look::Unbegun,
            Some(HeaderFault::NewerVersion { .. }) => Look::NewerVersion,
            Some(HeaderFault::OtherSegment { .. }) => Look::OtherSegment,
        };
        let (header, use_summary) = match (facts.header, &summary) {
            (Some(header), Some(summary)) if summary.header == header => (header, true),
            (Some(header), summary) => {
                if summary.is_some() {
                    facts.summary_fault = Some(SummaryFault::OtherSegment);
                }
                (header, false)
            }
            // What the header lost is in the summary: the records are read with
            // the epoch from there, and checked.
            (None, Some(summary)) if facts.look == Look::HeaderDamaged => (summary.header, false),
            (None, _) => return,
        };
        if *self.spool.get_or_insert(header.spool) != header.spool {
            facts.look = Look::OtherSpool;
            return;
        }
        match summary {
            Some(summary) if use_summary => self.read_summary(reading, &summary),
            _ => self.scan(reading, file, &header),
        }
        if reading.facts.header.is_none() {
            reading.facts.look = Look::HeaderFromSummary;
        }
    }

    fn read_summary(&mut self, reading: &mut Reading, summary: &Summary<'_>) {
        let facts = &mut reading.facts;
        facts.source = Source::Summary;
        facts.look = summary.look();
        facts.damage = summary.damage().collect();
        facts.end = summary.end;
        for (offset, kind, payload) in summary.records() {
            self.record(reading, offset, kind, payload);
        }
        reading.facts.records = summary.records;
    }

    fn scan(&mut self, reading: &mut Reading, file: &[u8], header: &SegmentHeader) {
        reading.facts.source = Source::Scan;
        for item in Scanner::new(file, header) {
            match item {
                Item::Record {
                    offset,
                    kind,
                    payload,
                } => {
                    reading.facts.records += 1;
                    // All before this record has been looked at.
                    reading.facts.end = offset;
                    self.record(reading, offset, kind, payload);
                }
                Item::Unknown { offset, .. } => {
                    reading.facts.records += 1;
                    reading.not_understood(offset, None, None);
                }
                Item::Damage(damage) => reading.facts.damage.push((damage.begin, damage.end)),
                Item::Tail { offset, kind } => {
                    reading.facts.end = offset;
                    reading.facts.look = Look::Records {
                        body: if reading.facts.damage.is_empty() {
                            Body::Whole
                        } else {
                            Body::Holed
                        },
                        tail: kind,
                    };
                }
            }
        }
    }

    fn record(&mut self, reading: &mut Reading, offset: Offset, kind: RecordKind, payload: &[u8]) {
        let at = reading.facts.place.at(offset);
        let result = match kind {
            // Of a message without a seal only its name is remembered: it was
            // given out.
            RecordKind::Envelope | RecordKind::Chunk => {
                if let Some(queue_id) = payload.first_chunk::<8>() {
                    self.queue_id(u64::from_le_bytes(*queue_id));
                }
                Ok(())
            }
            RecordKind::Seal => SealRecord::decode(payload).map(|seal| {
                if let Some(from) = seal.carried_from {
                    reading.refers(from);
                }
                self.seal(reading, at, &seal);
            }),
            RecordKind::Done => DoneRecord::decode(payload).map(|done| {
                reading.refers(done.message);
                self.done(&done);
            }),
            RecordKind::Mark => MarkRecord::decode(payload).map(|mark| self.mark(at, &mark)),
            RecordKind::Attempt => {
                AttemptRecord::decode(payload).map(|attempt| self.attempt(at, &attempt))
            }
            RecordKind::Partial => {
                PartialRecord::decode(payload).map(|partial| self.partial(at, &partial))
            }
            RecordKind::Note => NoteRecord::decode(payload).map(|note| {
                self.stamp(note.stamp);
                self.note(at, note.stamp, note.tag, note.key, note.value);
            }),
            RecordKind::Begin => BeginRecord::decode(payload).map(|begin| {
                self.stamp(begin.stamp);
                // No id below the first one of a writer.
                if let Some(last) = begin.queue_id_next.checked_sub(1)
                    && last >> 56 == begin.queue_id_next >> 56
                {
                    self.queue_id(last);
                }
            }),
            RecordKind::End => Ok(()),
        };
        if let Err(error) = result {
            reading.not_understood(offset, Some(kind), Some(error));
        }
    }

    fn stamp(&mut self, stamp: Stamp) {
        self.stamp = self.stamp.max(Some(stamp));
    }

    fn queue_id(&mut self, queue_id: u64) {
        let writer = (queue_id >> 56) as u8;
        let next = self.queue_ids_next.entry(writer).or_insert(0);
        // The last id of a writer has no next one; it takes 2⁵⁶ messages to get
        // there.
        *next = (*next).max(queue_id.saturating_add(1));
    }

    fn entry(&mut self, queue_id: u64) -> (u32, &mut Entry) {
        self.queue_id(queue_id);
        let index = *self.index.entry(queue_id).or_insert_with(|| {
            self.entries.push(Entry {
                queue_id,
                ..Entry::default()
            });
            u32::try_from(self.entries.len() - 1).expect("fewer messages than octets of spool")
        });
        (index, &mut self.entries[index as usize])
    }

    fn seal(&mut self, reading: &Reading, at: Location, record: &SealRecord<'_>) {
        self.stamp(record.stamp);
        let begin = self.runs.len() as u32;
        for run in record.domains.iter() {
            let run = Run {
                recipients: run.recipients,
                domain: self.names.intern(run.domain),
            };
            self.runs.push(run);
        }
        let parts = record.extents.iter().map(|extent| extent.segment);
        let seal = Seal {
            location: at,
            generation: record.generation,
            stamp: record.stamp,
            arrival_ms: record.arrival_ms,
            deadline_ms: record.deadline_ms.unwrap_or(NO_TIME),
            hold_until_ms: record.hold_until_ms.unwrap_or(NO_TIME),
            octets: record.octets,
            recipients: record.recipients(),
            priority: record.priority,
            held: record.held,
            first_segment: parts
                .chain([record.envelope.segment])
                .fold(at.segment, SegmentId::min),
            queue_name: record.queue_name.map(|name| self.names.intern(name)),
            next_hop: record.next_hop.map(|name| self.names.intern(name)),
            runs: (begin, self.runs.len() as u32 - begin),
        };
        let whole = record.envelope.segment == at.segment
            && record
                .extents
                .iter()
                .all(|extent| extent.segment == at.segment)
            && missing_part(record.envelope, record.extents.iter(), at.log, |_| {
                Some(&reading.facts)
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
            for note in record.notes.iter() {
                self.note(at, record.stamp, note.tag, note.key, note.value);
            }
        } else {
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
        }
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

    fn done(&mut self, record: &DoneRecord<'_>) {
        self.stamp(record.stamp);
        let (_, entry) = self.entry(record.queue_id);
        for field in record.recipients.iter() {
            entry.done.insert(field.recipient);
        }
    }

    fn mark(&mut self, at: Location, record: &MarkRecord<'_>) {
        self.stamp(record.stamp);
        let key = (record.stamp, at);
        let name = match record.mark {
            Mark::Hold { queue_name: name } | Mark::Requeue { next_hop: name } => {
                name.map(|name| self.names.intern(name))
            }
            Mark::Release => None,
        };
        let (_, entry) = self.entry(record.queue_id);
        let marks = entry.marks.get_or_insert_default();
        let held = match record.mark {
            Mark::Hold { .. } => true,
            Mark::Release => false,
            Mark::Requeue { .. } => {
                if marks.next_hop.is_none_or(|(newest, _)| newest < key) {
                    marks.next_hop = Some((key, name));
                }
                return;
            }
        };
        if marks.hold.is_none_or(|(newest, _, _)| newest < key) {
            marks.hold = Some((key, held, name));
        }
    }

    fn attempt(&mut self, at: Location, record: &AttemptRecord<'_>) {
        self.stamp(record.stamp);
        let mut fact = AttemptFact {
            at,
            stamp: record.stamp,
            attempts: record.attempts,
            next_attempt_ms: record.next_attempt_ms,
            recipients: record.recipients.iter().collect(),
        };
        let (_, entry) = self.entry(record.queue_id);
        let key = (fact.stamp, fact.at);
        let place = entry
            .attempts
            .partition_point(|other| (other.stamp, other.at) < key);
        for newer in &entry.attempts[place..] {
            fact.recipients.remove_all(&newer.recipients);
        }
        for older in &mut entry.attempts[..place] {
            older.recipients.remove_all(&fact.recipients);
        }
        entry.attempts.insert(place, fact);
        entry.attempts.retain(|fact| !fact.recipients.is_empty());
    }

    fn partial(&mut self, at: Location, record: &PartialRecord<'_>) {
        self.stamp(record.stamp);
        self.queue_id(record.queue_id);
        let fact = PartialFact {
            at,
            stamp: record.stamp,
            identity: record.identity.into(),
            transid: record.transid.into(),
            queue_id: record.queue_id,
            state: record.state,
            sealed: false,
            offset: record.offset,
            envelope: record.envelope.in_log(at.log),
            form: record.form,
            eight_bit: record.eight_bit,
            checksum: record.checksum,
            extents: record.extents.iter().collect(),
        };
        match self
            .partials
            .entry((record.identity.into(), record.transid.into()))
        {
            MapEntry::Vacant(vacant) => {
                vacant.insert(fact);
            }
            MapEntry::Occupied(mut occupied) => {
                let newest = occupied.get_mut();
                if (newest.stamp, newest.at) < (record.stamp, at) {
                    *newest = fact;
                }
            }
        }
    }

    fn note(&mut self, at: Location, stamp: Stamp, tag: u16, key: &[u8], value: Option<&[u8]>) {
        match self.notes.entry((tag, key.into())) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(NoteFact {
                    at,
                    stamp,
                    tag,
                    key: key.into(),
                    value: value.map(Into::into),
                });
            }
            MapEntry::Occupied(mut occupied) => {
                let newest = occupied.get_mut();
                if (newest.stamp, newest.at) <= (stamp, at) {
                    newest.at = at;
                    newest.stamp = stamp;
                    newest.value = value.map(Into::into);
                }
            }
        }
    }

    /// What there is, after the last segment.
    #[must_use]
    pub fn finish(mut self) -> Recovered {
        self.judge_segments();
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
                |segment| self.segments.get(&SegmentPlace { log, segment }),
            );
            match missing {
                None => self.whole(suspect.entry, suspect.seal),
                Some(missing) => broken.push((suspect, missing)),
            }
        }
        let broken = self.broken_messages(broken);
        let broken_ids: BTreeSet<u64> = broken.iter().map(|b| b.message.queue_id).collect();
        for (entry, note) in notes {
            if !broken_ids.contains(&self.entries[entry as usize].queue_id) {
                self.note(
                    note.at,
                    note.stamp,
                    note.tag,
                    &note.key,
                    note.value.as_deref(),
                );
            }
        }
        let partials = self.whole_partials();
        let mut notes: Vec<NoteFact> = self.notes.into_values().collect();
        notes.sort_unstable_by(|a, b| (a.tag, &a.key).cmp(&(b.tag, &b.key)));
        let mut done = 0;
        let mut messages: Vec<LiveMessage> = self
            .entries
            .into_iter()
            .filter_map(|mut entry| {
                let seal = entry.seal.take()?;
                let message = live_message(entry, seal);
                if message.done.covers(message.recipients) {
                    done += 1;
                    return None;
                }
                Some(message)
            })
            .collect();
        messages.sort_by_key(|message| message.queue_id);
        for message in &messages {
            if let Some(facts) = self.segments.get_mut(&message.seal.segment_place()) {
                facts.live += 1;
            }
        }
        Recovered {
            messages,
            broken,
            partials,
            notes,
            segments: self.segments.into_values().collect(),
            stamp: self.stamp.unwrap_or(Stamp::START),
            done,
            superseded: self.superseded,
            names: self.names,
            runs: self.runs,
            queue_ids_next: self.queue_ids_next,
        }
    }

    /// Asks the table about each segment, once it is known which one is the last.
    fn judge_segments(&mut self) {
        let mut last: HashMap<LogId, SegmentPlace> = HashMap::new();
        for facts in self.segments.values() {
            if facts.source != Source::Header {
                last.insert(facts.place.log, facts.place);
            }
        }
        for facts in self.segments.values_mut() {
            facts.position = match last.get(&facts.place.log) {
                Some(&last) if facts.place < last => Position::Earlier,
                _ => Position::Last,
            };
            facts.verdict = verdict(facts.look, facts.position);
            if facts.source == Source::Summary {
                facts.verdict.severity = Severity::Silent;
            }
            debug_assert!(
                facts.verdict.kept == Kept::Records || facts.source == Source::Header,
                "the table keeps what was read"
            );
        }
    }

    /// Of seals that are not whole: those whose message is not whole elsewhere and
    /// has recipients left. Of several the highest generation.
    fn broken_messages(&self, mut broken: Vec<(Suspect, Missing)>) -> Vec<BrokenMessage> {
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
                let facts = self.segments.get(&suspect.seal.location.segment_place());
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

    /// Transactions of which all octets so far are there. The others are begun
    /// again by their clients: nothing was promised of them.
    fn whole_partials(&mut self) -> Vec<PartialFact> {
        let mut partials = Vec::new();
        for (_, mut fact) in std::mem::take(&mut self.partials) {
            fact.sealed = self
                .index
                .get(&fact.queue_id)
                .map(|&index| &self.entries[index as usize])
                .is_some_and(|entry| entry.sealed || !entry.done.is_empty());
            if fact.state == PartialState::Complete && !fact.sealed {
                fact.state = PartialState::Receiving;
            }
            let log = fact.at.log;
            let envelope = Place {
                segment: fact.envelope.segment,
                offset: fact.envelope.offset,
            };
            let missing = missing_part(envelope, fact.extents.iter().copied(), log, |segment| {
                self.segments.get(&SegmentPlace { log, segment })
            });
            match fact.state {
                PartialState::Receiving if missing.is_some() && !fact.sealed => {}
                PartialState::Receiving => partials.push(fact),
                PartialState::Complete | PartialState::Forgotten => {
                    fact.extents.clear();
                    partials.push(fact);
                }
            }
        }
        partials.sort_unstable_by(|a, b| (&a.identity, &a.transid).cmp(&(&b.identity, &b.transid)));
        partials
    }
}

impl Reading {
    fn refers(&mut self, place: SegmentPlace) {
        *self.refers_to.entry(place).or_insert(0) += 1;
    }

    fn not_understood(
        &mut self,
        offset: Offset,
        kind: Option<RecordKind>,
        error: Option<DecodeError>,
    ) {
        self.facts.undecodable += 1;
        self.facts.undecodable_first.get_or_insert(Undecodable {
            offset,
            kind,
            error,
        });
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
    for attempt in &mut entry.attempts {
        attempt.recipients.remove_all(&entry.done);
    }
    entry
        .attempts
        .retain(|attempt| !attempt.recipients.is_empty());
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
        queue_name: held.1,
        next_hop,
        done: entry.done,
        attempts: entry.attempts,
        deadline_ms: seal.deadline_ms,
        hold_until_ms: seal.hold_until_ms,
        runs: seal.runs,
    }
}

/// The first part of a message that is not there.
fn missing_part<'a>(
    envelope: Place,
    extents: impl Iterator<Item = Extent>,
    log: LogId,
    segment: impl Fn(SegmentId) -> Option<&'a SegmentFacts>,
) -> Option<Missing> {
    let envelope = (
        envelope.segment,
        u64::from(envelope.offset.0),
        u64::from(envelope.offset.0) + RECORD_HEADER_BYTES as u64,
    );
    // Damage is whole records: it holds the octets of a chunk if it hits the chunk.
    let bodies = extents.map(|extent| {
        let begin = u64::from(extent.offset.0);
        (extent.segment, begin, begin + u64::from(extent.length))
    });
    std::iter::once(envelope)
        .chain(bodies)
        .find_map(|(id, begin, end)| {
            let place = SegmentPlace { log, segment: id };
            match segment(id) {
                Some(facts) if facts.source != Source::Header => {
                    // The offset came from a record, and is below 2³².
                    let at = place.at(Offset(begin as u32));
                    (!covers(facts, begin, end)).then_some(Missing::Octets(at))
                }
                _ => Some(Missing::Segment(place)),
            }
        })
}

/// Whether these octets lie in records that are whole.
fn covers(facts: &SegmentFacts, begin: u64, end: u64) -> bool {
    if begin < SEGMENT_HEADER_BYTES as u64 || end > u64::from(facts.end.0) {
        return false;
    }
    let behind = facts
        .damage
        .partition_point(|damage| u64::from(damage.1.0) <= begin);
    facts
        .damage
        .get(behind)
        .is_none_or(|damage| u64::from(damage.0.0) >= end)
}
