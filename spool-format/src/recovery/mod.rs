//! The fold over segments that says what the spool holds.
//!
//! Segments are handed in one after the other, in any order, as octets and, where
//! there is one, with their summary. The result depends only on what was handed
//! in, not on the order. So the segments of several logs may also be folded each by
//! itself, and the folds joined: [`Recovery::absorb`].
//!
//! Relies on: `scan` for the records of a segment, `judgement` for what comes of them
//! after the last one.
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

mod entry;
mod facts;
mod ids;
mod judgement;
mod paged;
mod recipients;
mod shard;

pub use facts::{
    AttemptFact, BrokenMessage, LiveMessage, LiveMessages, Missing, NameId, NoteFact, PartialFact,
    Recovered, SegmentFacts, Source, Undecodable,
};
pub use judgement::{Judged, Listed, Unlisted};
pub use recipients::RecipientSet;

use crate::field::DecodeError;
use crate::frame::RecordKind;
use crate::header::{HeaderFault, SegmentHeader, SpoolUuid};
use crate::place::{Location, Offset, SegmentPlace, Stamp};
use crate::record::{
    AttemptRecord, BeginRecord, DoneRecord, MarkRecord, NoteRecord, PartialRecord, Record,
    SealRecord,
};
use crate::scan::{Item, Scanner};
use crate::summary::{Summary, SummaryBuilder, SummaryFault};
use crate::table::{Body, Look, Position, verdict};
use shard::Shard;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};

/// The fold.
#[derive(Debug, Default)]
pub struct Recovery {
    spool: Option<SpoolUuid>,
    /// By the upper octet of the queue ids; as long as the highest one that was seen.
    shards: Vec<Option<Box<Shard>>>,
    partials: HashMap<(Box<str>, Box<str>), PartialFact>,
    notes: HashMap<(u16, Box<[u8]>), NoteFact>,
    segments: BTreeMap<SegmentPlace, SegmentFacts>,
    stamp: Option<Stamp>,
}

/// A record that was read and understood, for those who keep account of it.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'r, 'a> {
    /// A message is whole.
    Seal(&'r SealRecord<'a>),
    /// Recipients are done.
    Done(&'r DoneRecord<'a>),
    /// The operator wants something.
    Mark(&'r MarkRecord<'a>),
    /// An attempt was put off.
    Attempt(&'r AttemptRecord<'a>),
    /// A transaction came so far.
    Partial(&'r PartialRecord<'a>),
    /// A fact for another part of the program.
    Note(&'r NoteRecord<'a>),
}

/// How a segment was read.
#[derive(Debug)]
pub struct SegmentRead {
    /// From what.
    pub source: Source,
    /// After a scan, its summary, to be written beside it. `None` if it holds records that
    /// this version does not know: a summary would hide them from the next.
    pub summary: Option<Vec<u8>>,
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
        self.segment_seen(place, file, summary, |_, _| {}).source
    }

    /// [`Recovery::segment`], and `seen` is shown each record with the octets of its
    /// payload. Gives the summary that a scan makes by the way.
    pub fn segment_seen(
        &mut self,
        place: SegmentPlace,
        file: &[u8],
        summary: Option<&[u8]>,
        mut seen: impl FnMut(Seen<'_, '_>, usize),
    ) -> SegmentRead {
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
        let mut reading = Reading::new(place);
        reading.facts.header = header;
        reading.facts.header_fault = header_fault;
        reading.facts.summary_fault = summary_fault;
        let summary = self.read(&mut reading, file, summary, &mut seen);
        SegmentRead {
            source: self.has_read(reading),
            summary,
        }
    }

    /// A segment by its summary alone, of which the caller has found that its header is
    /// that of the segment. `seen` is shown each record with the octets of its payload.
    pub fn summarized(
        &mut self,
        summary: &Summary<'_>,
        mut seen: impl FnMut(Seen<'_, '_>, usize),
    ) -> Source {
        let mut reading = Reading::new(summary.header.place);
        reading.facts.header = Some(summary.header);
        if self.is_of_spool(&summary.header) {
            self.read_summary(&mut reading, summary, &mut seen);
        } else {
            reading.facts.look = Look::OtherSpool;
        }
        self.has_read(reading)
    }

    fn has_read(&mut self, reading: Reading) -> Source {
        let mut facts = reading.facts;
        facts.refers_to = reading.refers_to.into_iter().collect();
        let source = facts.source;
        self.segments.insert(facts.place, facts);
        source
    }

    fn is_of_spool(&mut self, header: &SegmentHeader) -> bool {
        *self.spool.get_or_insert(header.spool) == header.spool
    }

    fn read(
        &mut self,
        reading: &mut Reading,
        file: &[u8],
        summary: Option<Summary<'_>>,
        seen: &mut impl FnMut(Seen<'_, '_>, usize),
    ) -> Option<Vec<u8>> {
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
            (None, _) => return None,
        };
        if !self.is_of_spool(&header) {
            reading.facts.look = Look::OtherSpool;
            return None;
        }
        let made = match summary {
            Some(summary) if use_summary => {
                self.read_summary(reading, &summary, seen);
                None
            }
            _ => self.scan(reading, file, &header, seen),
        };
        if reading.facts.header.is_none() {
            reading.facts.look = Look::HeaderFromSummary;
        }
        made
    }

    fn read_summary(
        &mut self,
        reading: &mut Reading,
        summary: &Summary<'_>,
        seen: &mut impl FnMut(Seen<'_, '_>, usize),
    ) {
        let facts = &mut reading.facts;
        facts.source = Source::Summary;
        facts.look = summary.look();
        facts.damage = summary.damage().collect();
        facts.end = summary.end;
        for (offset, kind, payload) in summary.records() {
            self.record(reading, offset, kind, payload, seen);
        }
        reading.facts.records = summary.records;
    }

    fn scan(
        &mut self,
        reading: &mut Reading,
        file: &[u8],
        header: &SegmentHeader,
        seen: &mut impl FnMut(Seen<'_, '_>, usize),
    ) -> Option<Vec<u8>> {
        reading.facts.source = Source::Scan;
        // None if there are records that this version does not know: a summary would hide
        // them from the next.
        let mut summary = Some(SummaryBuilder::new());
        let mut made = None;
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
                    if let Some(summary) = &mut summary {
                        summary.record(offset, kind, payload);
                    }
                    self.record(reading, offset, kind, payload, seen);
                }
                Item::Unknown { offset, .. } => {
                    reading.facts.records += 1;
                    reading.not_understood(offset, None, None);
                    summary = None;
                }
                Item::Damage(damage) => {
                    reading.facts.damage.push((damage.begin, damage.end));
                    if let Some(summary) = &mut summary {
                        summary.damage(damage);
                    }
                }
                Item::Tail { offset, kind } => {
                    let summary = summary.take();
                    made = summary.map(|summary| summary.finish(header, offset, kind));
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
        made
    }

    fn record(
        &mut self,
        reading: &mut Reading,
        offset: Offset,
        kind: RecordKind,
        payload: &[u8],
        seen: &mut impl FnMut(Seen<'_, '_>, usize),
    ) {
        let at = reading.facts.place.at(offset);
        let octets = payload.len();
        let result = match kind {
            // Of a message without a seal only its name is remembered: it was
            // given out.
            RecordKind::Envelope | RecordKind::Chunk => {
                if let Some(queue_id) = payload.first_chunk::<8>() {
                    let queue_id = u64::from_le_bytes(*queue_id);
                    self.shard(queue_id).given(queue_id);
                }
                Ok(())
            }
            RecordKind::Seal => SealRecord::decode(payload).map(|seal| {
                if let Some(from) = seal.carried_from {
                    reading.refers(from);
                }
                self.stamp(seal.stamp);
                let shard = self.shard(seal.queue_id);
                if shard.seal(&reading.facts, at, &seal) {
                    for note in seal.notes.iter() {
                        self.note(at, seal.stamp, note.tag, note.key, note.value);
                    }
                }
                seen(Seen::Seal(&seal), octets);
            }),
            RecordKind::Done => DoneRecord::decode(payload).map(|done| {
                reading.refers(done.message);
                self.stamp(done.stamp);
                self.shard(done.queue_id).done(&done);
                seen(Seen::Done(&done), octets);
            }),
            RecordKind::Mark => MarkRecord::decode(payload).map(|mark| {
                self.stamp(mark.stamp);
                self.shard(mark.queue_id).mark(at, &mark);
                seen(Seen::Mark(&mark), octets);
            }),
            RecordKind::Attempt => AttemptRecord::decode(payload).map(|attempt| {
                self.stamp(attempt.stamp);
                self.shard(attempt.queue_id).attempt(at, &attempt);
                seen(Seen::Attempt(&attempt), octets);
            }),
            RecordKind::Partial => PartialRecord::decode(payload).map(|partial| {
                self.partial(at, &partial);
                seen(Seen::Partial(&partial), octets);
            }),
            RecordKind::Note => NoteRecord::decode(payload).map(|note| {
                self.stamp(note.stamp);
                self.note(at, note.stamp, note.tag, note.key, note.value);
                seen(Seen::Note(&note), octets);
            }),
            RecordKind::Begin => BeginRecord::decode(payload).map(|begin| {
                self.stamp(begin.stamp);
                // No id below the first one of a writer.
                if let Some(last) = begin.queue_id_next.checked_sub(1)
                    && last >> 56 == begin.queue_id_next >> 56
                {
                    self.shard(last).given(last);
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

    /// What is known of the messages of the writer that gave this queue id.
    fn shard(&mut self, queue_id: u64) -> &mut Shard {
        let writer = (queue_id >> 56) as u8;
        let place = usize::from(writer);
        if self.shards.len() <= place {
            self.shards.resize_with(place + 1, || None);
        }
        self.shards[place].get_or_insert_with(|| Box::new(Shard::new(writer)))
    }

    /// What a fold over other segments of the same spool saw. It costs little where the
    /// two saw messages of different writers, as folds over different logs mostly do.
    ///
    /// # Panics
    /// If the two were begun with different spools: an error of ours.
    pub fn absorb(&mut self, other: Self) {
        match (self.spool, other.spool) {
            (Some(ours), Some(theirs)) => assert_eq!(ours, theirs, "folds over one spool"),
            (None, theirs) => self.spool = theirs,
            (Some(_), None) => {}
        }
        self.stamp = self.stamp.max(other.stamp);
        for (place, theirs) in other.shards.into_iter().enumerate() {
            let Some(theirs) = theirs else { continue };
            if self.shards.len() <= place {
                self.shards.resize_with(place + 1, || None);
            }
            match &mut self.shards[place] {
                Some(ours) => ours.absorb(*theirs),
                ours => *ours = Some(theirs),
            }
        }
        self.segments.extend(other.segments);
        for (_, partial) in other.partials {
            self.newest_partial(partial);
        }
        for (_, note) in other.notes {
            self.note_fact(note);
        }
    }

    fn partial(&mut self, at: Location, record: &PartialRecord<'_>) {
        self.stamp(record.stamp);
        self.shard(record.queue_id).given(record.queue_id);
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
        self.newest_partial(fact);
    }

    fn newest_partial(&mut self, fact: PartialFact) {
        match self
            .partials
            .entry((fact.identity.clone(), fact.transid.clone()))
        {
            MapEntry::Vacant(vacant) => {
                vacant.insert(fact);
            }
            MapEntry::Occupied(mut occupied) => {
                let newest = occupied.get_mut();
                if (newest.stamp, newest.at) < (fact.stamp, fact.at) {
                    *newest = fact;
                }
            }
        }
    }

    fn note(&mut self, at: Location, stamp: Stamp, tag: u16, key: &[u8], value: Option<&[u8]>) {
        self.note_fact(NoteFact {
            at,
            stamp,
            tag,
            key: key.into(),
            value: value.map(Into::into),
        });
    }

    fn note_fact(&mut self, note: NoteFact) {
        match self.notes.entry((note.tag, note.key.clone())) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(note);
            }
            MapEntry::Occupied(mut occupied) => {
                let newest = occupied.get_mut();
                if (newest.stamp, newest.at) <= (note.stamp, note.at) {
                    *newest = note;
                }
            }
        }
    }
}

impl Reading {
    fn new(place: SegmentPlace) -> Self {
        Self {
            facts: SegmentFacts {
                place,
                header: None,
                header_fault: None,
                summary_fault: None,
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
        }
    }

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
