//! What the fold comes to, after the last segment: which messages are live, which are
//! broken, and what each segment is good for.
//!
//! Relies on: [`table`](crate::table) for what a segment is good for, `shard` for what is
//! known of the messages of one writer.

use super::Recovery;
use super::facts::{
    BrokenMessage, LiveMessages, Missing, NoteFact, PartialFact, Recovered, SegmentFacts, Source,
};
use super::shard::{Part, Shard};
use crate::frame::RECORD_HEADER_BYTES;
use crate::header::SEGMENT_HEADER_BYTES;
use crate::place::{Location, LogId, Offset, Place, SegmentId, SegmentPlace, Stamp};
use crate::record::{Extent, PartialState};
use crate::table::{Kept, Position, Severity, verdict};
use std::collections::{BTreeMap, HashMap};

impl Recovery {
    /// What there is, after the last segment.
    #[must_use]
    pub fn finish(self) -> Recovered {
        let (judged, unlisted) = self.judge();
        judged.finish(unlisted.into_iter().map(Unlisted::list))
    }

    /// The same in two steps: what takes long, the lists of messages, can be made of each
    /// by itself.
    #[must_use]
    pub fn judge(mut self) -> (Judged, Vec<Unlisted>) {
        self.judge_segments();
        let mut broken = Vec::new();
        let mut notes = Vec::new();
        // In the order of the writers, which is that of the queue ids.
        for shard in self.shards.iter_mut().flatten() {
            let (of_shard, notes_of_shard) = shard.judge_suspects(&self.segments);
            broken.extend(of_shard);
            notes.extend(notes_of_shard);
        }
        for note in notes {
            self.note_fact(note);
        }
        let partials = self.whole_partials();
        let mut notes: Vec<NoteFact> = self.notes.into_values().collect();
        notes.sort_unstable_by(|a, b| (a.tag, &a.key).cmp(&(b.tag, &b.key)));
        let judged = Judged {
            broken,
            partials,
            notes,
            segments: self.segments,
            stamp: self.stamp.unwrap_or(Stamp::START),
        };
        let shards = self.shards.into_iter().flatten();
        (judged, shards.map(Unlisted).collect())
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

    /// Transactions of which all octets so far are there. The others are begun
    /// again by their clients: nothing was promised of them.
    fn whole_partials(&mut self) -> Vec<PartialFact> {
        let mut partials = Vec::new();
        for (_, mut fact) in std::mem::take(&mut self.partials) {
            fact.sealed = self.shard(fact.queue_id).was_sealed(fact.queue_id);
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

/// What a fold found, but for the lists of messages.
#[derive(Debug)]
pub struct Judged {
    broken: Vec<BrokenMessage>,
    partials: Vec<PartialFact>,
    notes: Vec<NoteFact>,
    segments: BTreeMap<SegmentPlace, SegmentFacts>,
    stamp: Stamp,
}

/// The messages of one writer, to be listed.
#[derive(Debug)]
pub struct Unlisted(Box<Shard>);

/// The messages of one writer.
#[derive(Debug)]
pub struct Listed(Part);

impl Unlisted {
    /// Where the seal of a message is that counts, also if all its recipients are done.
    /// `None` where there is none, or where another writer has named it.
    #[must_use]
    pub fn seal(&self, queue_id: u64) -> Option<Location> {
        self.0.seal_of_message(queue_id)
    }

    /// Lists them.
    #[must_use]
    pub fn list(self) -> Listed {
        Listed(self.0.finish())
    }
}

impl Judged {
    /// With all lists, in the order in which they were given out.
    #[must_use]
    pub fn finish(mut self, lists: impl IntoIterator<Item = Listed>) -> Recovered {
        let parts: Vec<Part> = lists.into_iter().map(|Listed(part)| part).collect();
        let (mut done, mut superseded) = (0, 0);
        for part in &parts {
            done += part.done;
            superseded += part.superseded;
            for (place, live) in &part.live {
                if let Some(facts) = self.segments.get_mut(place) {
                    facts.live += live;
                }
            }
        }
        Recovered {
            messages: LiveMessages { parts },
            broken: self.broken,
            partials: self.partials,
            notes: self.notes,
            segments: self.segments.into_values().collect(),
            stamp: self.stamp,
            done,
            superseded,
        }
    }
}

/// The first part of a message that is not there.
pub(super) fn missing_part<'a>(
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
