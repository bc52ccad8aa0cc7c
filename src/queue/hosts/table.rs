//! What all data cores together know of hosts: one word and one time for each.
//!
//! All state is in 64-bit words that change by compare-and-swap; there is no lock, and
//! nobody waits inside a call. A host is known by a hash of 64 bits: its low bits choose
//! a bucket of fifteen places, the upper thirty are the tag.
//!
//! ```text
//!  63         34 33      27 26   24 23      12 11       0
//! +-------------+----------+-------+----------+----------+
//! |     tag     | failures | state |  allowed |   open   |
//! +-------------+----------+-------+----------+----------+
//! ```
//!
//! # A host has one place
//! Two cores that claim a place for the same host at the same time must not both get
//! one, or the host would be probed twice. So a claim has three steps: a free place is
//! marked with the tag, the number of claims in the bucket that was read *before* the
//! search, and the core; then that number is raised by compare-and-swap, naming place
//! and core; then the mark becomes the host's word. Of all who searched before a claim
//! at most one can raise the number, and who cannot takes his mark away and searches
//! again. Whoever reads the number first finishes the claim that it names: so a search
//! finds each host whose claim was won before it. The core in the mark keeps a helper
//! that comes late from finishing the mark of another one.
//!
//! A place is free again when a host that never failed has no connection left. When a
//! bucket is full, a host is forgotten that has no connection and may be tried, or else
//! the one that rests for the shortest time: it costs a connection. If all have
//! connections, the next host has no place, and is treated as one that never failed.
//!
//! Two hosts share a place if bucket and tag agree: with a thousand hosts known that
//! happens to a new one with a probability of about `1000 / 2^40`.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{CONNECTIONS_AFTER_DEATH, LOOK_AGAIN, REST_MAX};
use crate::queue::permits::CoreNumber;
use crate::time::Instant;

/// Connections to one host: more than a process may have in all.
const OPEN_BITS: u32 = 12;
const OPEN_MASK: u64 = (1 << OPEN_BITS) - 1;
const ALLOWED_SHIFT: u32 = OPEN_BITS;
const STATE_SHIFT: u32 = ALLOWED_SHIFT + OPEN_BITS;
const FAILURES_SHIFT: u32 = STATE_SHIFT + 3;
/// Failures in a row that can be told apart: the pauses have long stopped growing.
const FAILURES_MAX: u16 = 127;
const TAG_SHIFT: u32 = FAILURES_SHIFT + 7;
const TAG_MASK: u64 = !0 << TAG_SHIFT;

/// In the number of claims: place and core of the last one.
const CLAIM_SHIFT: u32 = 16;
/// In a mark: the number of claims, as far as there is room for it, then the core.
const MARK_NUMBER_BITS: u32 = 16;

/// In a time: milliseconds of the pause, of which there are 2^24 in four hours.
const PAUSE_BITS: u32 = 24;
const _: () = assert!(REST_MAX.as_millis() < 1 << PAUSE_BITS);

/// Places in a bucket.
const PLACES: usize = 15;
/// Buckets: places for 15,360 hosts, in 248 KiB. A provider of our size has some hundred
/// dead hosts in its queue; when thousands are, some are forgotten before their time.
const BUCKETS: usize = 1024;

/// A host that bears so many connections is as good as any other.
pub(super) const RECOVERED: u16 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    /// As far as we know.
    Alive,
    /// Nothing is tried before its time, or before a release.
    Dead,
    /// One connection finds out.
    Probing,
    /// So many connections and no more; one more with each answer.
    Limited,
    /// No host yet: somebody claims the place.
    Claimed,
}

/// A word, read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const FREE: Self = Self(0);

    const fn alive(tag: u64, open: u16) -> Self {
        Self(tag | open as u64)
    }

    /// The mark of a claim.
    const fn claim(tag: u64, number: u64, core: CoreNumber) -> Self {
        let number = number & ((1 << MARK_NUMBER_BITS) - 1);
        let mark = number | (core.0 as u64) << MARK_NUMBER_BITS;
        Self(tag | (State::Claimed as u64) << STATE_SHIFT | mark)
    }

    const fn tag(self) -> u64 {
        self.0 & TAG_MASK
    }

    const fn state(self) -> State {
        match (self.0 >> STATE_SHIFT) & 7 {
            0 => State::Alive,
            1 => State::Dead,
            2 => State::Probing,
            3 => State::Limited,
            _ => State::Claimed,
        }
    }

    const fn open(self) -> u16 {
        (self.0 & OPEN_MASK) as u16
    }

    const fn allowed(self) -> u16 {
        (self.0 >> ALLOWED_SHIFT & OPEN_MASK) as u16
    }

    const fn failures(self) -> u16 {
        (self.0 >> FAILURES_SHIFT & FAILURES_MAX as u64) as u16
    }

    const fn with_open(self, open: u16) -> Self {
        Self(self.0 & !OPEN_MASK | open as u64)
    }

    fn with_failures(self, failures: u16) -> Self {
        let failures = u64::from(failures.min(FAILURES_MAX));
        Self(self.0 & !(u64::from(FAILURES_MAX) << FAILURES_SHIFT) | failures << FAILURES_SHIFT)
    }

    const fn with_state(self, state: State, allowed: u16) -> Self {
        let cleared = self.0 & !(7 << STATE_SHIFT | OPEN_MASK << ALLOWED_SHIFT);
        Self(cleared | (state as u64) << STATE_SHIFT | (allowed as u64) << ALLOWED_SHIFT)
    }

    /// Nothing to be remembered of it.
    fn is_unremarkable(self) -> bool {
        self.state() == State::Alive && self.open() == 0
    }
}

/// When a dead host failed last, and when it may be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rest {
    since_millis: u64,
    until_millis: u64,
}

impl Rest {
    fn new(now: Instant, pause: Duration) -> Self {
        let until = now + pause.min(REST_MAX);
        Self {
            since_millis: millis(now),
            until_millis: until.as_nanos().div_ceil(1_000_000),
        }
    }

    const fn of_word(word: u64) -> Self {
        let until_millis = word >> PAUSE_BITS;
        Self {
            since_millis: until_millis.saturating_sub(word & ((1 << PAUSE_BITS) - 1)),
            until_millis,
        }
    }

    const fn word(self) -> u64 {
        self.until_millis << PAUSE_BITS | (self.until_millis - self.since_millis)
    }

    /// Whether it failed last after this.
    pub(super) const fn is_news_after(self, at: Instant) -> bool {
        self.since_millis > millis(at)
    }

    pub(super) const fn until(self) -> Instant {
        Instant::from_nanos(self.until_millis * 1_000_000)
    }
}

const fn millis(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

#[derive(Debug, Default)]
struct Bucket {
    /// How many claims there were, and place and core of the last.
    claims: AtomicU64,
    places: [AtomicU64; PLACES],
    /// Of dead hosts. Written by who fails with the only connection, before its word.
    rests: [AtomicU64; PLACES],
}

/// What is found of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// A connection may be opened, and was counted.
    Granted,
    /// The same, but there was no place to count it.
    Unremembered,
    /// Not before this time.
    Refused(Instant),
}

/// What a failure did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The host is dead.
    Died,
    /// Others have connections to it.
    Bears,
}

/// The hosts that any data core has connections to, or knows to be dead. Shared by all.
#[derive(Debug)]
pub struct Hosts {
    buckets: Box<[Bucket]>,
    /// Milliseconds, and one more: zero is never.
    released_at: AtomicU64,
    /// Seeded: outsiders choose the addresses.
    hasher: foldhash::quality::FixedState,
}

impl Hosts {
    /// Nothing is known. The seed is secret, and new at each start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_buckets(BUCKETS, seed)
    }

    /// `buckets` is a power of two.
    pub(super) fn with_buckets(buckets: usize, seed: u64) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            released_at: AtomicU64::new(0),
            hasher: foldhash::quality::FixedState::with_seed(seed),
        }
    }

    fn key(&self, address: impl Hash) -> (&Bucket, u64) {
        let hash = self.hasher.hash_one(address);
        let tag = match hash & TAG_MASK {
            0 => 1 << TAG_SHIFT,
            tag => tag,
        };
        let bucket = hash as usize & (self.buckets.len() - 1);
        (&self.buckets[bucket], tag)
    }

    /// Whether a connection may be opened now.
    pub(super) fn admit(&self, now: Instant, core: CoreNumber, address: impl Hash) -> Admission {
        let (bucket, tag) = self.key(address);
        loop {
            let (place, word) = match bucket.find_or_claim(now, core, tag) {
                Found::Known(place, word) => (place, word),
                Found::Claimed => return Admission::Granted,
                Found::NoRoom => return Admission::Unremembered,
            };
            let look_again = Admission::Refused(now + LOOK_AGAIN);
            let next = match word.state() {
                State::Dead => {
                    let rest = bucket.rest(place);
                    if bucket.word(place) != word {
                        continue;
                    }
                    let released_at = self.released_at.load(Ordering::SeqCst);
                    if rest.until() > now && rest.since_millis >= released_at {
                        return Admission::Refused(rest.until());
                    }
                    word.with_state(State::Probing, 0)
                }
                State::Probing => return look_again,
                State::Limited if word.open() >= word.allowed() => return look_again,
                State::Alive | State::Limited => word,
                State::Claimed => unreachable!("a search passes over claims"),
            };
            if u64::from(word.open()) == OPEN_MASK {
                return look_again;
            }
            if bucket.exchange(place, word, next.with_open(word.open() + 1)) {
                return Admission::Granted;
            }
        }
    }

    /// It took or refused mail: it is there. True if it was not known to be.
    pub(super) fn answered(&self, address: impl Hash) -> bool {
        let (bucket, tag) = self.key(address);
        while let Some((place, word)) = bucket.find(tag) {
            let next = match word.state() {
                State::Alive => return false,
                State::Limited if word.allowed() + 1 >= RECOVERED => {
                    word.with_state(State::Alive, 0)
                }
                State::Limited => word.with_state(State::Limited, word.allowed() + 1),
                State::Dead | State::Probing | State::Claimed => {
                    word.with_state(State::Limited, CONNECTIONS_AFTER_DEATH)
                }
            };
            if bucket.exchange(place, word, next.with_failures(0)) {
                return true;
            }
        }
        false
    }

    /// Failures in a row.
    pub(super) fn failures(&self, address: impl Hash) -> u16 {
        let (bucket, tag) = self.key(address);
        bucket.find(tag).map_or(0, |(_, word)| word.failures())
    }

    /// A connection that was granted failed, and is over.
    pub(super) fn failed(&self, now: Instant, pause: Duration, address: impl Hash) -> Verdict {
        let (bucket, tag) = self.key(address);
        while let Some((place, word)) = bucket.find(tag) {
            let (open, died) = (word.open().saturating_sub(1), word.open() <= 1);
            let next = if died {
                // Nobody else writes it: the only connection is ours.
                let rest = Rest::new(now, pause);
                bucket.rests[place].store(rest.word(), Ordering::SeqCst);
                let failures = word.failures().saturating_add(1);
                word.with_state(State::Dead, 0).with_failures(failures)
            } else {
                word.with_state(State::Limited, open)
            };
            if bucket.exchange(place, word, next.with_open(open)) {
                return if died { Verdict::Died } else { Verdict::Bears };
            }
        }
        Verdict::Bears
    }

    /// A connection that was granted is over.
    pub(super) fn left(&self, address: impl Hash) {
        let (bucket, tag) = self.key(address);
        while let Some((place, word)) = bucket.find(tag) {
            let left = word.with_open(word.open().saturating_sub(1));
            let next = match word.state() {
                // The probe was called off: its time has come as before.
                State::Probing => left.with_state(State::Dead, 0),
                _ if left.is_unremarkable() => Word::FREE,
                _ => left,
            };
            if bucket.exchange(place, word, next) {
                return;
            }
        }
    }

    /// Each host that is dead by now may be probed once at once.
    pub(super) fn release(&self, now: Instant) {
        self.released_at
            .fetch_max(millis(now) + 1, Ordering::SeqCst);
    }

    /// Failures in a row, and until when it rests, if it is dead.
    pub(super) fn dead(&self, address: impl Hash) -> Option<(u16, Rest)> {
        let (bucket, tag) = self.key(address);
        let (place, word) = bucket.find(tag)?;
        (word.state() == State::Dead).then(|| (word.failures(), bucket.rest(place)))
    }

    /// Connections now.
    #[cfg(test)]
    pub(super) fn open(&self, address: impl Hash) -> u16 {
        let (bucket, tag) = self.key(address);
        bucket.find(tag).map_or(0, |(_, word)| word.open())
    }

    /// How many places this one has.
    #[cfg(test)]
    pub(super) fn places_of(&self, address: impl Hash) -> usize {
        let (bucket, tag) = self.key(address);
        let words = (0..PLACES).map(|place| bucket.word(place));
        words
            .filter(|word| word.tag() == tag && word.state() != State::Claimed)
            .count()
    }

    /// How many hosts have a place.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        let words = self.buckets.iter().flat_map(|bucket| &bucket.places);
        words
            .filter(|word| word.load(Ordering::SeqCst) != 0)
            .count()
    }
}

/// What a search for a place came to.
enum Found {
    /// This host's, as it was read.
    Known(usize, Word),
    /// There was none, and now there is one: alive, with one connection.
    Claimed,
    /// All are taken by hosts with connections.
    NoRoom,
}

impl Bucket {
    fn word(&self, place: usize) -> Word {
        Word(self.places[place].load(Ordering::SeqCst))
    }

    fn rest(&self, place: usize) -> Rest {
        Rest::of_word(self.rests[place].load(Ordering::SeqCst))
    }

    fn exchange(&self, place: usize, before: Word, after: Word) -> bool {
        let place = &self.places[place];
        let done = place.compare_exchange(before.0, after.0, Ordering::SeqCst, Ordering::SeqCst);
        done.is_ok()
    }

    /// The number of claims, when the last of them is finished.
    fn claims(&self) -> u64 {
        let claims = self.claims.load(Ordering::SeqCst);
        let number = claims >> CLAIM_SHIFT;
        if number > 0 {
            let place = (claims & 0xff) as usize;
            let core = CoreNumber((claims >> 8 & 0xff) as u8);
            let word = self.word(place);
            if word == Word::claim(word.tag(), number - 1, core) {
                // If it fails, somebody else has finished it.
                let _ = self.exchange(place, word, Word::alive(word.tag(), 1));
            }
        }
        claims
    }

    fn find(&self, tag: u64) -> Option<(usize, Word)> {
        self.claims();
        self.search(tag)
    }

    fn search(&self, tag: u64) -> Option<(usize, Word)> {
        (0..PLACES)
            .map(|place| (place, self.word(place)))
            .find(|(_, word)| word.tag() == tag && word.state() != State::Claimed)
    }

    fn find_or_claim(&self, now: Instant, core: CoreNumber, tag: u64) -> Found {
        loop {
            let claims = self.claims();
            if let Some((place, word)) = self.search(tag) {
                return Found::Known(place, word);
            }
            let Some(place) = self.free(now) else {
                return Found::NoRoom;
            };
            let number = claims >> CLAIM_SHIFT;
            let mark = Word::claim(tag, number, core);
            if !self.exchange(place, Word::FREE, mark) {
                continue;
            }
            let next = (number + 1) << CLAIM_SHIFT | u64::from(core.0) << 8 | place as u64;
            let claimed =
                self.claims
                    .compare_exchange(claims, next, Ordering::SeqCst, Ordering::SeqCst);
            if claimed.is_ok() {
                // If it fails, somebody else has finished it.
                let _ = self.exchange(place, mark, Word::alive(tag, 1));
                return Found::Claimed;
            }
            let taken_away = self.exchange(place, mark, Word::FREE);
            assert!(taken_away, "a mark is its core's until its claim is won");
        }
    }

    /// A free place, made if need be.
    fn free(&self, now: Instant) -> Option<usize> {
        loop {
            let words: [Word; PLACES] = std::array::from_fn(|place| self.word(place));
            if let Some(place) = words.iter().position(|word| *word == Word::FREE) {
                return Some(place);
            }
            // The first to be forgotten: what may be tried, then what rests least.
            let forgettable = |place: &usize| {
                let state = words[*place].state();
                words[*place].open() == 0 && matches!(state, State::Dead | State::Limited)
            };
            let least = |place: &usize| match words[*place].state() {
                State::Limited => now,
                _ => self.rest(*place).until().max(now),
            };
            let place = (0..PLACES).filter(forgettable).min_by_key(least)?;
            if self.exchange(place, words[place], Word::FREE) {
                return Some(place);
            }
        }
    }
}
