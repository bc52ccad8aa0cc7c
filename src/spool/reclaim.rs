//! What each segment holds, and which segment may go.
//!
//! A segment may go when nothing in it is needed by anybody, not even to know that
//! something else is *not* needed:
//!
//! 1. no live message has a record in it, and no message that is being received;
//! 2. the records that ended its messages are on stable storage;
//! 3. its done records, marks and attempts are *about* messages whose seals are in
//!    segments that are gone. A done record that went before the seal would bring
//!    the message back at the next start;
//! 4. the seals in it that continue an older generation have outlived the segments
//!    of that generation;
//! 5. no note in it is the newest of its key;
//! 6. it is not what alone tells which queue ids its log has given. At a start that is
//!    the newest segment of each log, until the first batch, which begins with that.
//!
//! So segments go in any order that these rules allow, and one held message does not
//! keep those around it.
//!
//! *Carrying forward.* A segment in which little is needed is emptied: its live
//! messages and its small records are appended again at the tail (`log/carry` does
//! it). Greedy: the segment with the fewest needed octets first, and only while more
//! is wasted than [`Waste`] allows. By the average, a segment that is at most half
//! needed exists as soon as more than half of all octets is wasted; so a carry copies
//! at most as much as it frees.
//!
//! Relies on: the caller says what happens in the order in which it is appended. A
//! segment refers to older ones, so that rules 3 and 4 rarely form a circle; where one
//! is formed (by an attempt that is kept for a message carried past it), emptying a
//! segment of it opens it.
//!
//! What it does not do: it reads no segment, and removes none; it does not know what a
//! recipient is. Some 25 octets are kept for each live message, nothing for each record.

mod condition;
mod entry;
mod victim;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use spool_format::{Location, Offset, SegmentPlace};

pub use self::condition::{Condition, Fate};
pub use self::entry::FoundRun;
use self::entry::{Entry, SPREAD};
pub use self::victim::{
    CARRY_NEEDED_PERCENT_MAX, CARRY_NEEDED_PERCENT_MAX_PRESSED, SLACK_SEGMENTS, Waste,
};
use super::commit::BatchNumber;
use crate::mail::QueueId;
use crate::roster::Roster;

/// What is known of a note beside its octets, for the balance only.
const NOTE_BYTES: u64 = 128;

/// The octets of a message in one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Which.
    pub segment: SegmentPlace,
    /// With frames.
    pub bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The tail may still come to it, or is in it.
    Filling,
    /// Nothing is written to it any more.
    Closed,
    /// Told to be dead.
    Dead,
}

/// What is known of one segment.
#[derive(Debug)]
struct Account {
    state: State,
    condition: Condition,
    /// The size of the file.
    size_bytes: u32,
    /// Live messages with records in it.
    live: u32,
    live_bytes: u64,
    /// Messages being received, or being carried, with records in it.
    open: u32,
    /// Notes of which the newest is in it.
    notes: u32,
    /// The newest batch that ended something in it.
    ended_in: BatchNumber,
    /// Small records in it, by the segment with the seal that they are about.
    about: BTreeMap<SegmentPlace, u64>,
    /// Segments with an older generation of messages whose seal is in it.
    ancestors: BTreeSet<SegmentPlace>,
    /// Behind its last record; known when it is closed.
    end: Offset,
    /// Octets between its records that are none: a torn batch. Beginning and end.
    holes: Vec<(Offset, Offset)>,
    /// Transmissions under way from it.
    borrowed: u32,
}

impl Account {
    fn needed_bytes(&self) -> u64 {
        self.live_bytes + self.about.values().sum::<u64>() + u64::from(self.notes) * NOTE_BYTES
    }

    /// Closed, and nothing in it is needed for itself.
    fn is_quiet(&self) -> bool {
        self.state == State::Closed && self.live == 0 && self.open == 0
    }
}

/// The balance of all segments that a data core owns.
#[derive(Debug, Default)]
pub struct Reclaim {
    segments: BTreeMap<SegmentPlace, Account>,
    messages: Roster<Entry>,
    /// The parts of messages that lie in several segments.
    spread: HashMap<QueueId, Box<[Part]>>,
    /// Closed segments without live or open messages: the only ones that can be dead.
    quiet: BTreeSet<SegmentPlace>,
    /// Something happened since the quiet ones were looked at.
    stirred: bool,
    /// What was durable then.
    looked_at: Option<BatchNumber>,
    size_bytes: u64,
    /// Segments that another data core owns, and that were there at the start: records
    /// about messages in them are kept as long as this process runs, since nobody tells
    /// when they go.
    others: BTreeSet<SegmentPlace>,
}

impl Reclaim {
    /// A segment of a log that another data core owns was found.
    pub fn found_elsewhere(&mut self, segment: SegmentPlace) {
        self.others.insert(segment);
    }

    /// A segment that is about to be written.
    pub fn began(&mut self, segment: SegmentPlace, size_bytes: u32) {
        self.add(segment, size_bytes, State::Filling, Condition::Sound);
    }

    /// A segment that was found at the start. Its last record ends at `end`, and between
    /// its records are `holes`, ascending.
    pub fn found(
        &mut self,
        segment: SegmentPlace,
        size_bytes: u32,
        end: Offset,
        condition: Condition,
        holes: Vec<(Offset, Offset)>,
    ) {
        self.add(segment, size_bytes, State::Closed, condition);
        let account = self.account(segment);
        account.end = end;
        account.holes = holes;
        self.settle(segment);
    }

    fn add(&mut self, segment: SegmentPlace, size_bytes: u32, state: State, condition: Condition) {
        let account = Account {
            state,
            condition,
            size_bytes,
            live: 0,
            live_bytes: 0,
            open: 0,
            notes: 0,
            ended_in: BatchNumber::START,
            about: BTreeMap::new(),
            ancestors: BTreeSet::new(),
            end: Offset(0),
            holes: Vec::new(),
            borrowed: 0,
        };
        self.size_bytes += u64::from(size_bytes);
        let before = self.segments.insert(segment, account);
        assert!(before.is_none(), "{segment} is there twice");
    }

    /// It is full and on stable storage.
    pub fn closed(&mut self, segment: SegmentPlace, end: Offset) {
        let account = self.account(segment);
        assert_eq!(account.state, State::Filling, "{segment} is closed once");
        account.state = State::Closed;
        account.end = end;
        self.settle(segment);
    }

    /// A message that is not sealed yet has a first record in it.
    pub fn opened(&mut self, segment: SegmentPlace) {
        self.account(segment).open += 1;
        self.settle(segment);
    }

    /// That message was sealed, dropped, or is read no more.
    pub fn unopened(&mut self, segment: SegmentPlace) {
        let account = self.account(segment);
        account.open = account.open.checked_sub(1).expect("it was opened");
        self.settle(segment);
    }

    /// A message is sealed, or sealed again in a newer generation: then the octets of
    /// the older one are needed no more once `batch` is durable.
    ///
    /// # Panics
    /// The parts do not include the segment of the seal.
    pub fn sealed(
        &mut self,
        queue_id: QueueId,
        seal: Location,
        parts: &[Part],
        batch: BatchNumber,
    ) {
        let place = seal.segment_place();
        let bytes = match parts {
            [part] if part.segment == place && part.bytes < SPREAD => part.bytes,
            _ => {
                assert!(
                    parts.iter().any(|part| part.segment == place),
                    "the seal of {queue_id} is a part of it"
                );
                SPREAD
            }
        };
        let entry = Entry::new(queue_id, seal, bytes);
        let old = self.messages.insert(entry);
        if let Some(old) = old {
            let from = old.seal().segment_place();
            self.continues(place, from);
            self.bury(old, batch);
        }
        if bytes == SPREAD {
            self.spread.insert(queue_id, parts.into());
        }
        for part in parts {
            let account = self.account(part.segment);
            account.live += 1;
            account.live_bytes += u64::from(part.bytes);
            self.settle(part.segment);
        }
    }

    /// Found at the start: the seal in `segment` continues one in `ancestor`.
    pub fn continues(&mut self, segment: SegmentPlace, ancestor: SegmentPlace) {
        if segment != ancestor && self.is_there(ancestor) {
            self.account(segment).ancestors.insert(ancestor);
        }
    }

    /// Nothing more is to be done for a message; the record that says so is in `batch`.
    /// False if it was not there.
    pub fn finished(&mut self, queue_id: QueueId, batch: BatchNumber) -> bool {
        let Some(entry) = self.messages.remove(queue_id) else {
            return false;
        };
        self.bury(entry, batch);
        true
    }

    fn bury(&mut self, entry: Entry, batch: BatchNumber) {
        let (parts, one) = match entry.bytes {
            SPREAD => (self.spread.remove(&entry.queue_id), None),
            bytes => {
                let segment = entry.seal().segment_place();
                (None, Some(Part { segment, bytes }))
            }
        };
        for part in parts.iter().flatten().chain(&one) {
            let account = self.account(part.segment);
            account.live = account.live.checked_sub(1).expect("it was sealed");
            account.live_bytes -= u64::from(part.bytes);
            if account.condition == Condition::Stuck {
                account.condition = Condition::Sound;
            }
            account.ended_in = account.ended_in.max(batch);
            self.settle(part.segment);
        }
    }

    /// A done record, mark or attempt of so many octets was appended to `segment`, about
    /// a message whose seal is in `about`.
    pub fn noted(&mut self, segment: SegmentPlace, bytes: u32, about: SegmentPlace) {
        if about != segment && self.is_there(about) {
            let account = self.account(segment);
            *account.about.entry(about).or_default() += u64::from(bytes);
        }
    }

    /// The newest note of some key is in it.
    pub fn note_here(&mut self, segment: SegmentPlace) {
        self.account(segment).notes += 1;
        self.settle(segment);
    }

    /// That note is needed no more, since a record in `batch` says otherwise.
    pub fn note_away(&mut self, segment: SegmentPlace, batch: BatchNumber) {
        let account = self.account(segment);
        account.notes = account.notes.checked_sub(1).expect("it was counted");
        account.ended_in = account.ended_in.max(batch);
        self.settle(segment);
    }

    /// It tells something of its log that a record in `batch` says again.
    pub fn needed_until(&mut self, segment: SegmentPlace, batch: BatchNumber) {
        let account = self.account(segment);
        account.ended_in = account.ended_in.max(batch);
    }

    /// Everything in it that is still needed was appended again, the last of it in
    /// `batch`, except what keeps `ancestors` from coming back.
    pub fn emptied(
        &mut self,
        segment: SegmentPlace,
        ancestors: impl IntoIterator<Item = SegmentPlace>,
        batch: BatchNumber,
    ) {
        for ancestor in ancestors {
            self.continues(segment, ancestor);
        }
        let account = self.account(segment);
        account.about.clear();
        account.ended_in = account.ended_in.max(batch);
        if account.live > 0 {
            self.forget_guesses(segment);
        }
        self.settle(segment);
    }

    /// After a start a message counts in every segment from its first to that of its
    /// seal. Every record of this one was looked at now, and what is live was carried: a
    /// message that still counts here has nothing here, and would keep it for ever.
    fn forget_guesses(&mut self, segment: SegmentPlace) {
        let account = self.segments.get_mut(&segment).expect("it is emptied");
        for parts in self.spread.values_mut() {
            let Some(guess) = parts.iter().find(|part| part.segment == segment) else {
                continue;
            };
            account.live = account.live.checked_sub(1).expect("it was counted");
            account.live_bytes -= u64::from(guess.bytes);
            let others = parts.iter().filter(|part| part.segment != segment);
            *parts = others.copied().collect();
        }
    }

    /// It turned out to have damaged octets.
    pub fn damaged(&mut self, segment: SegmentPlace) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.condition = Condition::Damaged;
        }
    }

    /// It cannot be emptied.
    pub fn stuck(&mut self, segment: SegmentPlace) {
        let account = self.account(segment);
        if account.condition == Condition::Sound {
            account.condition = Condition::Stuck;
        }
    }

    /// A transmission from it begins: it does not go before that ends.
    pub fn borrow(&mut self, segment: SegmentPlace) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.borrowed += 1;
        }
    }

    /// It has ended.
    pub fn give_back(&mut self, segment: SegmentPlace) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.borrowed = account.borrowed.saturating_sub(1);
            self.stirred = true;
        }
    }

    /// The file is gone, durably.
    pub fn gone(&mut self, segment: SegmentPlace) {
        let Some(account) = self.segments.remove(&segment) else {
            return;
        };
        assert_eq!(account.state, State::Dead, "{segment} goes when it is dead");
        self.size_bytes -= u64::from(account.size_bytes);
        self.quiet.remove(&segment);
        for account in self.segments.values_mut() {
            account.about.remove(&segment);
            account.ancestors.remove(&segment);
        }
        self.stirred = true;
    }

    /// The next segment that may go, with what to do with it. Told once each.
    pub fn dead(&mut self, durable: BatchNumber) -> Option<(SegmentPlace, Fate)> {
        if !self.stirred && self.looked_at == Some(durable) {
            return None;
        }
        let dead = self.quiet.iter().copied().find(|segment| {
            let account = &self.segments[segment];
            account.borrowed == 0
                && account.notes == 0
                && account.about.is_empty()
                && account.ancestors.is_empty()
                && account.ended_in <= durable
        });
        let Some(segment) = dead else {
            self.stirred = false;
            self.looked_at = Some(durable);
            return None;
        };
        self.quiet.remove(&segment);
        let account = self.account(segment);
        account.state = State::Dead;
        let fate = match account.condition {
            Condition::Damaged => Fate::SetAside,
            Condition::Sound | Condition::Stuck => Fate::Reuse,
        };
        Some((segment, fate))
    }

    /// What the files take.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Octets of all segments that are needed.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.segments.values().map(Account::needed_bytes).sum()
    }

    /// Whether a live message has octets in `segment`.
    #[must_use]
    pub fn lies_in(&self, queue_id: QueueId, segment: SegmentPlace) -> bool {
        self.messages
            .get(queue_id)
            .is_some_and(|entry| match entry.bytes {
                SPREAD => self
                    .spread
                    .get(&queue_id)
                    .is_some_and(|parts| parts.iter().any(|part| part.segment == segment)),
                _ => entry.seal().segment_place() == segment,
            })
    }

    /// Whether the tail may still come to a segment, or is in it, and nothing in it is needed.
    #[must_use]
    pub fn is_spent(&self, segment: SegmentPlace) -> bool {
        self.segments.get(&segment).is_some_and(|account| {
            account.state == State::Filling
                && account.open == 0
                && account.needed_bytes() == 0
                && account.ancestors.is_empty()
        })
    }

    /// Whether the tail may still come to a segment, or is in it.
    #[must_use]
    pub fn is_filling(&self, segment: SegmentPlace) -> bool {
        self.segments
            .get(&segment)
            .is_some_and(|account| account.state == State::Filling)
    }

    /// Where the record at `offset` is, or the next one behind a hole there.
    #[must_use]
    pub fn behind_hole(&self, segment: SegmentPlace, offset: Offset) -> Offset {
        let holes = self
            .segments
            .get(&segment)
            .map(|account| &account.holes[..]);
        let hole = holes.and_then(|holes| {
            let index = holes.binary_search_by_key(&offset, |hole| hole.0).ok()?;
            holes.get(index)
        });
        hole.map_or(offset, |hole| hole.1)
    }

    /// Behind the last record of a closed segment.
    #[must_use]
    pub fn end(&self, segment: SegmentPlace) -> Option<Offset> {
        self.segments.get(&segment).map(|account| account.end)
    }

    /// Whether a record about a message that is sealed in `about` is needed.
    #[must_use]
    pub fn is_there(&self, about: SegmentPlace) -> bool {
        self.segments.contains_key(&about) || self.others.contains(&about)
    }

    /// Whether a segment is there, and is in the balance.
    #[must_use]
    pub fn is_ours(&self, segment: SegmentPlace) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Where the seal of a live message is.
    #[must_use]
    pub fn message(&self, queue_id: QueueId) -> Option<Location> {
        self.messages.get(queue_id).map(Entry::seal)
    }

    /// How many messages are live.
    #[must_use]
    pub fn messages_count(&self) -> usize {
        self.messages.len()
    }

    /// The segments that are there.
    pub fn segments(&self) -> impl Iterator<Item = SegmentPlace> {
        self.segments.keys().copied()
    }

    fn account(&mut self, segment: SegmentPlace) -> &mut Account {
        self.segments
            .get_mut(&segment)
            .unwrap_or_else(|| panic!("{segment} is one of ours"))
    }

    /// Something about a segment changed.
    fn settle(&mut self, segment: SegmentPlace) {
        if self.segments[&segment].is_quiet() {
            self.quiet.insert(segment);
            self.stirred = true;
        } else {
            self.quiet.remove(&segment);
        }
    }
}
