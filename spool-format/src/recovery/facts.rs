//! What recovery finds: messages, transactions, notes, and what became of each
//! segment.

use super::recipients::RecipientSet;
use super::shard::Part;
use crate::field::DecodeError;
use crate::frame::{Checksum, RecordKind};
use crate::header::{HeaderFault, SegmentHeader};
use crate::place::{Location, Offset, SegmentId, SegmentPlace, Stamp};
use crate::record::{
    BodyForm, Deadline, DeliverByMode, Extent, PartialState, RecipientNumber, Told,
};
use crate::summary::SummaryFault;
use crate::table::{Look, Position, Severity, Verdict};
use crate::text::QueueIdText;
use std::collections::HashMap;
use std::fmt;

/// The absent value of the times below. No clock shows it.
pub(super) const NO_TIME: i64 = i64::MIN;

/// A domain, queue name or next hop: the texts are kept once for the messages of each
/// writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NameId {
    pub(super) writer: u8,
    pub(super) name: Name,
}

impl NameId {
    /// The upper octet of the queue ids of the messages that it belongs to.
    #[must_use]
    pub const fn writer(self) -> u8 {
        self.writer
    }

    /// Its number among the names of this writer, which are counted from 0.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.name.0
    }
}

/// A name among those of one writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Name(u32);

/// The texts behind [`Name`]s. Domains come from clients, so the index keeps the
/// hash of the standard library, which nobody outside can make collide.
#[derive(Clone, Default, Debug)]
pub(super) struct Names {
    texts: Vec<Box<str>>,
    index: HashMap<Box<str>, Name>,
}

impl Names {
    pub(super) fn intern(&mut self, text: &str) -> Name {
        if let Some(&id) = self.index.get(text) {
            return id;
        }
        let id = Name(u32::try_from(self.texts.len()).expect("fewer names than octets of spool"));
        self.texts.push(text.into());
        self.index.insert(text.into(), id);
        id
    }

    /// A name of another list.
    pub(super) fn intern_option(&mut self, other: &Self, name: Option<Name>) -> Option<Name> {
        name.map(|name| self.intern(other.text(name)))
    }

    pub(super) fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }
}

/// Consecutive recipients of one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) recipients: u32,
    pub(super) domain: Name,
}

/// A message that is whole and has recipients who are not done.
#[derive(Clone, Debug)]
pub struct LiveMessage {
    /// Which.
    pub queue_id: u64,
    /// Its seal, the newest that is whole.
    pub seal: Location,
    /// The generation of that seal.
    pub generation: u32,
    /// The lowest segment in which envelope or body are: they are in this one, in
    /// that of the seal, or in between.
    pub first_segment: SegmentId,
    /// Milliseconds since 1970.
    pub arrival_ms: i64,
    /// Octets of the body.
    pub octets: u64,
    /// Recipients, those that are done included.
    pub recipients: u32,
    /// RFC 6710.
    pub priority: i8,
    /// Held until released, by the seal or by a newer mark.
    pub held: bool,
    /// The queue that holds it.
    pub queue_name: Option<NameId>,
    /// The next hop that the operator set.
    pub next_hop: Option<NameId>,
    /// Recipients that are done.
    pub done: RecipientSet,
    /// Delivery attempts, newest last, each of the recipients that have no newer
    /// one and are not done.
    pub attempts: Vec<AttemptFact>,
    pub(super) deadline_ms: i64,
    pub(super) deadline_mode: DeliverByMode,
    pub(super) hold_until_ms: i64,
    pub(super) runs: (u32, u32),
}

impl LiveMessage {
    /// RFC 2852.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        (self.deadline_ms != NO_TIME).then_some(Deadline {
            at_ms: self.deadline_ms,
            mode: self.deadline_mode,
        })
    }

    /// RFC 4865: milliseconds since 1970.
    #[must_use]
    pub fn hold_until_ms(&self) -> Option<i64> {
        (self.hold_until_ms != NO_TIME).then_some(self.hold_until_ms)
    }
}

/// The newest delivery attempt of some recipients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptFact {
    /// The record, for its text.
    pub at: Location,
    /// When.
    pub stamp: Stamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Milliseconds since 1970.
    pub next_attempt_ms: i64,
    /// What the sender was told of them.
    pub told: Told,
    /// Of whom.
    pub recipients: RecipientSet,
}

/// What is missing of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Missing {
    /// A segment that was not handed in, or of which nothing could be kept.
    Segment(SegmentPlace),
    /// Octets that lie in damage, or behind the last record.
    Octets(Location),
}

/// For the operator.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(place) => write!(f, "{place} is missing or unreadable"),
            Self::Octets(location) => write!(f, "the octets at {location} are damaged"),
        }
    }
}

/// A message that was sealed, has recipients who are not done, and of which no
/// generation is whole.
///
/// It is reported once: its reader tells the sender if the envelope is there,
/// and ends it by done records with [`Outcome::Damaged`](crate::Outcome::Damaged).
#[derive(Clone, Debug)]
pub struct BrokenMessage {
    /// What is known of it.
    pub message: LiveMessage,
    /// Where its envelope should be.
    pub envelope: Location,
    /// The first part that is missing.
    pub missing: Missing,
    /// What the table says of the segment of its seal. With [`Severity::Doubt`] or
    /// [`Severity::Cut`] the client may never have been told that it was accepted.
    pub severity: Severity,
}

/// For the operator.
impl fmt::Display for BrokenMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "message {} sealed at {} is not whole: {}; it is not delivered",
            QueueIdText(self.message.queue_id),
            self.message.seal,
            self.missing
        )?;
        f.write_str(match self.severity {
            Severity::Damage | Severity::Silent | Severity::Refusal => "",
            Severity::Cut | Severity::Doubt => {
                "; the client was possibly never told that it was accepted, and sends it again"
            }
        })
    }
}

/// How far a transaction with a TRANSID came, if its octets are whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialFact {
    /// The newest record about it.
    pub at: Location,
    /// When.
    pub stamp: Stamp,
    /// The client.
    pub identity: Box<str>,
    /// RFC 1845 §3.
    pub transid: Box<str>,
    /// The message that it is to become, or became.
    pub queue_id: u64,
    /// How far it is. Never complete unless the message was sealed.
    pub state: PartialState,
    /// The message was sealed: whatever the state is, sending it again would
    /// double it.
    pub sealed: bool,
    /// Canonical octets so far.
    pub offset: u64,
    /// The envelope.
    pub envelope: Location,
    /// How the octets so far are stored.
    pub form: BodyForm,
    /// There are octets above 127 so far.
    pub eight_bit: bool,
    /// Over the octets so far, as stored.
    pub checksum: Checksum,
    /// The body so far; empty unless more is to come.
    pub extents: Vec<Extent>,
}

/// The newest note of a tag and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteFact {
    /// The record that holds it: a note or a seal.
    pub at: Location,
    /// When.
    pub stamp: Stamp,
    /// Whose fact.
    pub tag: u16,
    /// Which fact.
    pub key: Box<[u8]>,
    /// What it says. `None` says that an older one does not hold: it has to stay
    /// while segments older than its own exist.
    pub value: Option<Box<[u8]>>,
}

/// From what a segment was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// Its summary.
    Summary,
    /// All of its octets.
    Scan,
    /// Nothing was read behind the header.
    Header,
}

/// A record that is whole and cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecodable {
    /// Where it is.
    pub offset: Offset,
    /// What it should be; `None` if the kind itself is unknown.
    pub kind: Option<RecordKind>,
    /// What is wrong; `None` if the kind itself is unknown.
    pub error: Option<DecodeError>,
}

/// What a segment holds and what becomes of it.
#[derive(Clone, Debug)]
pub struct SegmentFacts {
    /// Which.
    pub place: SegmentPlace,
    /// Its header, if it counts.
    pub header: Option<SegmentHeader>,
    /// Why it does not.
    pub header_fault: Option<HeaderFault>,
    /// Why its summary does not count, if there is one that does not.
    pub summary_fault: Option<SummaryFault>,
    /// From what it was read.
    pub source: Source,
    /// What it looks like.
    pub look: Look,
    /// Where it stands.
    pub position: Position,
    /// What the table says. What came from a summary is silent: it was told when
    /// the segment was summarized.
    pub verdict: Verdict,
    /// Behind its last record.
    pub end: Offset,
    /// Records, of all kinds.
    pub records: u32,
    /// Octets between records that are none: beginning and end, ascending.
    pub damage: Vec<(Offset, Offset)>,
    /// Records that are whole and were not understood.
    pub undecodable: u32,
    /// The first one of them.
    pub undecodable_first: Option<Undecodable>,
    /// Messages that are live and have their seal here.
    pub live: u32,
    /// Segments that records here speak of: they end messages there, so this one
    /// has to stay until those are gone. With the number of such records.
    pub refers_to: Vec<(SegmentPlace, u32)>,
}

/// For the operator: what was read, what it looks like, what happens next.
impl fmt::Display for SegmentFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.look, self.verdict)?;
        // The other faults are the look.
        if let Some(fault @ (HeaderFault::NewerVersion { .. } | HeaderFault::OtherSegment { .. })) =
            self.header_fault
        {
            write!(f, "; {fault}")?;
        }
        if let Some((begin, end)) = self.damage.first() {
            let octets: u64 = self
                .damage
                .iter()
                .map(|(begin, end)| u64::from(end.0 - begin.0))
                .sum();
            write!(
                f,
                "; {octets} octets are damaged, in {} {}, the first from {} to {}",
                self.damage.len(),
                if self.damage.len() == 1 {
                    "place"
                } else {
                    "places"
                },
                begin.0,
                end.0
            )?;
        }
        if let Some(first) = self.undecodable_first {
            write!(
                f,
                "; {} {} not understood, the first at offset {}",
                self.undecodable,
                if self.undecodable == 1 {
                    "record was"
                } else {
                    "records were"
                },
                first.offset.0
            )?;
            match (first.kind, first.error) {
                (Some(kind), Some(error)) => write!(f, " ({kind}): {error}")?,
                _ => f.write_str(", of a kind that this version does not know")?,
            }
        }
        if let Some(fault) = self.summary_fault {
            write!(f, "; {fault}, so the segment itself was read")?;
        }
        Ok(())
    }
}

/// Live messages, by queue id.
#[derive(Debug)]
pub struct LiveMessages {
    /// By writer, which is the upper octet of the ids.
    pub(super) parts: Vec<Part>,
}

impl LiveMessages {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.len() == 0)
    }

    /// All of them, by queue id.
    pub fn iter(&self) -> impl Iterator<Item = &LiveMessage> + use<'_> {
        self.parts.iter().flat_map(Part::iter)
    }

    /// The one with this queue id.
    #[must_use]
    pub fn get(&self, queue_id: u64) -> Option<&LiveMessage> {
        self.part((queue_id >> 56) as u8)?.get(queue_id)
    }

    fn part(&self, writer: u8) -> Option<&Part> {
        let index = self.parts.binary_search_by_key(&writer, |part| part.writer);
        index.ok().map(|index| &self.parts[index])
    }
}

/// Everything that recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// By queue id.
    pub messages: LiveMessages,
    /// By queue id.
    pub broken: Vec<BrokenMessage>,
    /// By identity and TRANSID.
    pub partials: Vec<PartialFact>,
    /// By tag and key.
    pub notes: Vec<NoteFact>,
    /// By place.
    pub segments: Vec<SegmentFacts>,
    /// The newest stamp: the next one is made from it.
    pub stamp: Stamp,
    /// Messages that are sealed and have no recipient left.
    pub done: u64,
    /// Seals that a newer generation, or the same one at a later place, replaced.
    pub superseded: u64,
}

impl Recovered {
    /// The first queue id with this upper octet that was never given.
    #[must_use]
    pub fn queue_id_next(&self, writer: u8) -> u64 {
        let part = self.messages.part(writer);
        part.map_or(u64::from(writer) << 56, |part| part.next)
    }

    /// The text of a domain, queue name or next hop.
    #[must_use]
    pub fn name(&self, id: NameId) -> &str {
        let part = self.messages.part(id.writer);
        part.expect("the name came from here").names.text(id.name)
    }

    /// The domains of a message, in the order of its recipients, with the numbers
    /// of the recipients that belong to each.
    pub fn domains<'a>(
        &'a self,
        message: &LiveMessage,
    ) -> impl Iterator<Item = (NameId, std::ops::Range<u32>)> + use<'a> {
        let (begin, count) = (message.runs.0 as usize, message.runs.1 as usize);
        let writer = (message.queue_id >> 56) as u8;
        let part = self.messages.part(writer);
        let runs = &part.expect("the message came from here").runs[begin..begin + count];
        let mut first = 0;
        runs.iter().map(move |run| {
            let numbers = first..first + run.recipients;
            first = numbers.end;
            let name = run.domain;
            (NameId { writer, name }, numbers)
        })
    }

    /// The recipients of a message that are not done, with their domains.
    pub fn pending<'a>(
        &'a self,
        message: &'a LiveMessage,
    ) -> impl Iterator<Item = (RecipientNumber, NameId)> + use<'a> {
        self.domains(message).flat_map(|(domain, numbers)| {
            numbers
                .map(RecipientNumber)
                .filter(|&number| !message.done.contains(number))
                .map(move |number| (number, domain))
        })
    }

    /// The worst that the table says of any segment.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.segments
            .iter()
            .map(|segment| segment.verdict.severity)
            .max()
            .unwrap_or(Severity::Silent)
    }
}
