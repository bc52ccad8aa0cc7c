//! What was seen of one message: its best seal, what is done of it, what was said of it
//! since.
//!
//! Invariants: of several seals the one that was taken last counts, and who takes one has
//! compared; of two records about the same fact the newer one counts; after
//! [`Entry::settle`] nothing more is added.

use super::facts::{AttemptFact, LiveMessage, NO_TIME, Name, NameId};
use super::recipients::RecipientSet;
use crate::place::{Location, LogId, Offset, SegmentId, Stamp};
use crate::record::DeliverByMode;

/// The order of two records about the same fact.
pub(super) type Key = (Stamp, Location);

/// All that was seen of a queue id. What is live in the end stays where it is: a copy of a
/// million of them would cost more than reading them did.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the best seal so far says, of which all is there. Without one only the queue
    /// id, what is done, and the attempts count.
    pub(super) message: LiveMessage,
    /// When that seal was made.
    pub(super) stamp: Stamp,
    /// There is one.
    pub(super) whole: bool,
    /// A seal was seen, whole message or not.
    pub(super) sealed: bool,
    pub(super) marks: Option<Box<Marks>>,
}

/// What a seal says to the index.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) location: Location,
    pub(super) generation: u32,
    pub(super) stamp: Stamp,
    pub(super) arrival_ms: i64,
    pub(super) deadline_ms: i64,
    pub(super) deadline_mode: DeliverByMode,
    pub(super) hold_until_ms: i64,
    pub(super) octets: u64,
    pub(super) recipients: u32,
    pub(super) priority: i8,
    pub(super) held: bool,
    pub(super) first_segment: SegmentId,
    pub(super) queue_name: Option<Name>,
    pub(super) next_hop: Option<Name>,
    pub(super) runs: (u32, u32),
}

#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) hold: Option<(Key, bool, Option<Name>)>,
    pub(super) next_hop: Option<(Key, Option<Name>)>,
}

impl Entry {
    pub(super) fn new(queue_id: u64) -> Self {
        let writer = (queue_id >> 56) as u8;
        let nowhere = Location {
            log: LogId(writer),
            segment: SegmentId(0),
            offset: Offset(0),
        };
        Self {
            message: LiveMessage {
                queue_id,
                seal: nowhere,
                generation: 0,
                first_segment: SegmentId(0),
                arrival_ms: NO_TIME,
                octets: 0,
                recipients: 0,
                priority: 0,
                held: false,
                queue_name: None,
                next_hop: None,
                done: RecipientSet::new(),
                attempts: Vec::new(),
                deadline_ms: NO_TIME,
                deadline_mode: DeliverByMode::Notify,
                hold_until_ms: NO_TIME,
                runs: (0, 0),
            },
            stamp: Stamp::START,
            whole: false,
            sealed: false,
            marks: None,
        }
    }

    /// This seal is the best so far.
    pub(super) fn take(&mut self, writer: u8, seal: &Seal) {
        let id = |name| NameId { writer, name };
        self.whole = true;
        self.stamp = seal.stamp;
        let message = &mut self.message;
        message.seal = seal.location;
        message.generation = seal.generation;
        message.first_segment = seal.first_segment;
        message.arrival_ms = seal.arrival_ms;
        message.octets = seal.octets;
        message.recipients = seal.recipients;
        message.priority = seal.priority;
        message.held = seal.held;
        message.queue_name = seal.queue_name.map(id);
        message.next_hop = seal.next_hop.map(id);
        message.deadline_ms = seal.deadline_ms;
        message.deadline_mode = seal.deadline_mode;
        message.hold_until_ms = seal.hold_until_ms;
        message.runs = seal.runs;
    }

    /// The seal that was taken, before [`Entry::settle`].
    pub(super) fn seal(&self) -> Option<Seal> {
        let message = &self.message;
        self.whole.then(|| Seal {
            location: message.seal,
            generation: message.generation,
            stamp: self.stamp,
            arrival_ms: message.arrival_ms,
            deadline_ms: message.deadline_ms,
            deadline_mode: message.deadline_mode,
            hold_until_ms: message.hold_until_ms,
            octets: message.octets,
            recipients: message.recipients,
            priority: message.priority,
            held: message.held,
            first_segment: message.first_segment,
            queue_name: message.queue_name.map(|id| id.name),
            next_hop: message.next_hop.map(|id| id.name),
            runs: message.runs,
        })
    }

    /// Everything was seen: marks that are newer than the seal count, recipients that are
    /// done have no attempts.
    pub(super) fn settle(&mut self) {
        let message = &mut self.message;
        if let Some(marks) = self.marks.take() {
            let key = (self.stamp, message.seal);
            let writer = (message.queue_id >> 56) as u8;
            let id = |name| NameId { writer, name };
            if let Some((newest, held, queue_name)) = marks.hold
                && newest > key
            {
                message.held = held;
                message.queue_name = queue_name.map(id).or(message.queue_name);
            }
            if let Some((newest, next_hop)) = marks.next_hop
                && newest > key
            {
                message.next_hop = next_hop.map(id);
            }
        }
        if !message.attempts.is_empty() {
            for attempt in &mut message.attempts {
                attempt.recipients.remove_all(&message.done);
            }
            message
                .attempts
                .retain(|attempt| !attempt.recipients.is_empty());
        }
    }

    pub(super) fn attempt(&mut self, mut fact: AttemptFact) {
        let key = (fact.stamp, fact.at);
        let place = self
            .message
            .attempts
            .partition_point(|other| (other.stamp, other.at) < key);
        for newer in &self.message.attempts[place..] {
            fact.recipients.remove_all(&newer.recipients);
        }
        for older in &mut self.message.attempts[..place] {
            older.recipients.remove_all(&fact.recipients);
        }
        self.message.attempts.insert(place, fact);
        self.message
            .attempts
            .retain(|fact| !fact.recipients.is_empty());
    }
}

impl Marks {
    /// Of each kind the newest counts.
    pub(super) fn add(&mut self, other: Self) {
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
