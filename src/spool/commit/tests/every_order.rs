//! Every order of a few events, to a depth: what is appended, what is asked for, how
//! the disk answers. After each event the promises of the module are checked, and after
//! the last one the world comes to rest.
//!
//! The disk is the worst one that keeps its word: a sync covers what had been written
//! when it began (of the file, or of the range that was asked for), and nothing else is
//! ever on stable storage. The shell is the real one's: what it writes without a sync is
//! answered in the same turn, in the order of the writes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// Part of a message.
    Chunk,
    /// A message, and somebody waits for it.
    Seal,
    /// A rider that can wait.
    Rider,
    /// A rider that is to outlive the process.
    Prompt,
    /// The same, and a flush before the shell comes to write it.
    PromptFlushed,
    /// A record of which two do not fit in a segment.
    Large,
    /// The riders' time has come.
    Timer,
    Flush,
    /// The sync under way ends.
    Synced,
    SyncFails,
    /// The next write that the shell makes fails.
    WriteFails,
    /// The oldest segment that is asked for comes.
    Segment,
}

use Event::{
    Chunk, Flush, Large, Prompt, PromptFlushed, Rider, Seal, Segment, SyncFails, Synced, Timer,
    WriteFails,
};

#[derive(Clone, Copy)]
struct Scale {
    segment_bytes: u32,
    large_bytes: u32,
    first_is_there: bool,
}

struct Stored {
    place: Place,
    bytes: u32,
    batch: BatchNumber,
    /// In the page cache as soon as may be.
    prompt: bool,
}

#[derive(PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Committed,
    Failed,
}

struct Waiting {
    /// How many records were appended before.
    covers: usize,
    told: Told,
}

/// A write in the page cache.
struct Written {
    from: u32,
    to: u32,
    stable: bool,
}

/// A sync under way.
struct Syncing {
    segment: SegmentId,
    /// Which of the writes to the file it covers.
    covers: std::ops::Range<usize>,
}

struct World {
    path: Vec<Event>,
    now: Instant,
    scale: Scale,
    commit: Commit,
    asked: VecDeque<SegmentId>,
    ready: BTreeSet<SegmentId>,
    stored: Vec<Stored>,
    waiting: Vec<Waiting>,
    files: BTreeMap<SegmentId, Vec<Written>>,
    syncing: Option<Syncing>,
    answers: VecDeque<Result<(), WriteFault>>,
    write_fails: bool,
    closed: bool,
    /// Writes that were made beside a sync.
    beside: u32,
    segments_closed: BTreeSet<SegmentId>,
}

const FIRST: SegmentId = SegmentId(3);
const FAULT: WriteFault = WriteFault {
    step: WriteStep::Write,
    os_error: Some(5),
};

impl World {
    fn new(scale: Scale) -> Self {
        let mut world = Self {
            path: Vec::new(),
            now: Instant::START,
            scale,
            commit: Commit::new(scale.segment_bytes, FIRST, 1),
            asked: VecDeque::new(),
            ready: BTreeSet::new(),
            stored: Vec::new(),
            waiting: Vec::new(),
            files: BTreeMap::new(),
            syncing: None,
            answers: VecDeque::new(),
            write_fails: false,
            closed: false,
            beside: 0,
            segments_closed: BTreeSet::new(),
        };
        world.ask();
        if scale.first_is_there {
            world.step(Segment);
            world.path.clear();
        }
        world
    }

    fn check(&self, right: bool, what: &str) {
        assert!(right, "{what}, after {:?}", self.path);
    }

    fn may(&self, event: Event) -> bool {
        match event {
            Synced | SyncFails => self.syncing.is_some(),
            Segment => !self.asked.is_empty(),
            WriteFails => !self.write_fails,
            Timer => self.commit.deadline().is_some(),
            _ => true,
        }
    }

    fn step(&mut self, event: Event) {
        self.path.push(event);
        match event {
            Chunk => self.append(Urgency::Unsealed, 64),
            Large => self.append(Urgency::Unsealed, self.scale.large_bytes),
            Rider => self.append(Urgency::Rider, 32),
            Prompt | PromptFlushed => {
                self.append(Urgency::Rider, 32);
                self.commit.write_riders();
                if let Some(last) = self.stored.last_mut() {
                    last.prompt = true;
                }
                if event == PromptFlushed {
                    self.commit.flush();
                }
            }
            Seal => {
                self.append(Urgency::Unsealed, 64);
                let number = self.waiting.len() as u64;
                let taken = self
                    .commit
                    .commit(Ticket(number), QueueId::from_u64(number));
                self.check(taken.is_ok() != self.closed, "a ticket of a closed log");
                if taken.is_ok() {
                    self.waiting.push(Waiting {
                        covers: self.stored.len(),
                        told: Told::Nothing,
                    });
                }
            }
            Timer => {
                self.now = self.now.max(self.commit.deadline().expect("asked before"));
                self.commit.timer(self.now);
            }
            Flush => self.commit.flush(),
            Synced => {
                let Syncing { segment, covers } = self.syncing.take().expect("asked before");
                let file = self.files.get_mut(&segment).expect("it was written");
                for written in &mut file[covers] {
                    written.stable = true;
                }
                self.commit.written(Ok(()), Vec::new());
            }
            SyncFails => {
                self.syncing = None;
                self.commit.written(Err(FAULT), Vec::new());
            }
            WriteFails => self.write_fails = true,
            Segment => {
                let segment = self.asked.pop_front().expect("asked before");
                self.ready.insert(segment);
                self.commit.segment_ready(segment);
            }
        }
        self.pump();
        self.look();
    }

    fn append(&mut self, urgency: Urgency, bytes: u32) {
        let appended = self.commit.append(self.now, urgency, octets(bytes));
        self.check(appended.is_ok() != self.closed, "an append to a closed log");
        self.ask();
        if let Ok(appended) = appended {
            self.stored.push(Stored {
                place: appended.place,
                bytes,
                batch: appended.batch,
                prompt: false,
            });
        }
    }

    fn ask(&mut self) {
        while self.commit.segments_ahead().is_none() {
            let (segment, _) = self.commit.ask_segment();
            self.asked.push_back(segment);
        }
    }

    /// As the core and the shell do it: everything that is wanted, then one answer.
    fn pump(&mut self) {
        loop {
            while let Some(output) = self.commit.poll() {
                self.perform(output);
            }
            let Some(answer) = self.answers.pop_front() else {
                return;
            };
            self.commit.written(answer, Vec::new());
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Write {
                segment,
                offset,
                bytes,
                durability,
            } => {
                self.check(!self.closed, "a write to a closed log");
                self.check(self.ready.contains(&segment), "a write to no segment");
                self.check(
                    !self.segments_closed.contains(&segment),
                    "a write to a closed segment",
                );
                let beside = self.syncing.as_ref().map(|syncing| syncing.segment);
                self.beside += u32::from(beside.is_some());
                self.check(
                    beside.is_none_or(|other| other == segment && durability == Durability::None),
                    "two syncs, or one beside a write elsewhere",
                );
                let file = self.files.entry(segment).or_default();
                let end = file.last().map_or(FIRST_OFFSET, |written| written.to);
                let in_order = offset.0 == end;
                if std::mem::take(&mut self.write_fails) {
                    self.answers.push_back(Err(FAULT));
                    return;
                }
                let count = u32::try_from(bytes.len()).expect("small");
                file.push(Written {
                    from: offset.0,
                    to: offset.0 + count,
                    stable: false,
                });
                let last = file.len();
                // Behind a write that failed there is a hole.
                let hole = self.answers.iter().any(Result::is_err);
                self.check(in_order || hole, "a write over a record, or a hole");
                match durability {
                    Durability::None => self.answers.push_back(Ok(())),
                    Durability::Range => {
                        let covers = last - 1..last;
                        self.syncing = Some(Syncing { segment, covers });
                    }
                    Durability::File => {
                        let covers = 0..last;
                        self.syncing = Some(Syncing { segment, covers });
                    }
                }
            }
            Output::Committed { ticket, receipt } => {
                assert_eq!(receipt.queue_id().as_u64(), ticket.0);
                self.check(!self.closed, "committed by a closed log");
                let covers = self.tell(ticket, Told::Committed);
                let all = self.stored[..covers].iter().all(|s| self.is_stable(s));
                self.check(all, "committed, and not on stable storage");
            }
            Output::Failed { ticket } => {
                self.tell(ticket, Told::Failed);
            }
            Output::SegmentClosed { segment, .. } => {
                let here = |s: &&Stored| s.place.segment == segment;
                let all = self.stored.iter().filter(here).all(|s| self.is_stable(s));
                self.check(all, "closed, and not on stable storage");
                let first = self.segments_closed.insert(segment);
                self.check(first, "a segment is closed once");
            }
            Output::LogClosed { .. } => {
                self.check(!self.closed, "the log is closed once");
                self.closed = true;
            }
        }
    }

    fn tell(&mut self, ticket: Ticket, told: Told) -> usize {
        let number = usize::try_from(ticket.0).expect("small");
        let before = std::mem::replace(&mut self.waiting[number].told, told);
        self.check(before == Told::Nothing, "told twice");
        self.waiting[number].covers
    }

    fn written<'a>(&'a self, stored: &Stored) -> Option<&'a Written> {
        let (from, to) = (stored.place.offset.0, stored.place.offset.0 + stored.bytes);
        let file = self.files.get(&stored.place.segment)?;
        file.iter().find(|w| w.from <= from && to <= w.to)
    }

    fn is_stable(&self, stored: &Stored) -> bool {
        self.written(stored).is_some_and(|written| written.stable)
    }

    /// What holds after every event.
    fn look(&self) {
        let durable = self.commit.durable();
        for stored in &self.stored {
            self.check(
                stored.batch > durable || self.is_stable(stored),
                "durable, and not on stable storage",
            );
        }
        if self.closed {
            return;
        }
        let syncs = self.syncing.as_ref().map(|syncing| syncing.segment);
        let may_write = |segment| {
            self.ready.contains(&segment) && syncs.is_none_or(|syncing| syncing == segment)
        };
        for stored in self.stored.iter().filter(|stored| stored.prompt) {
            let segment = stored.place.segment;
            // Riders in the same segment go beside a sync; where a batch was too large
            // to take them they wait for it.
            let waits = syncs.is_some() && self.scale.large_bytes as usize >= BATCH_BYTES_MAX;
            self.check(
                !may_write(segment) || waits || self.written(stored).is_some(),
                "a rider that is to outlive the process is not written",
            );
        }
        for waiting in self.waiting.iter().filter(|w| w.told == Told::Nothing) {
            let first = self.stored[..waiting.covers]
                .iter()
                .find(|stored| !self.is_stable(stored));
            let segment = first.map_or(FIRST, |stored| stored.place.segment);
            self.check(
                syncs.is_some() || !self.ready.contains(&segment),
                "somebody waits, and nothing is under way",
            );
        }
    }

    /// The disk does what it is asked until nobody asks for anything.
    fn rest(&mut self) {
        self.write_fails = false;
        for _ in 0..40 {
            let next = [Segment, Synced, Timer].into_iter().find(|&e| self.may(e));
            let Some(next) = next else { break };
            self.step(next);
        }
        let told = self.waiting.iter().all(|w| w.told != Told::Nothing);
        self.check(told, "somebody was told nothing");
        self.check(self.syncing.is_none(), "it never comes to rest");
        if self.closed {
            return;
        }
        self.step(Flush);
        if self.may(Synced) {
            self.step(Synced);
        }
        self.check(self.commit.is_idle(), "not idle after a flush");
        self.check(!self.commit.is_full(), "full of nothing");
        let all = self.stored.iter().all(|stored| self.is_stable(stored));
        self.check(all, "a flush has left something");
        assert_eq!(self.commit.pending_bytes, 0, "{:?}", self.path);
    }
}

/// All sequences of so many of these events. Gives how many there are, and how many
/// writes were made beside a sync.
fn all(scale: Scale, alphabet: &[Event], depth: usize) -> (u32, u32) {
    let mut path: Vec<usize> = Vec::new();
    let (mut worlds, mut beside) = (0, 0);
    'paths: loop {
        // Down from what the path says, always the first event that may happen.
        let mut world = World::new(scale);
        for &event in &path {
            world.step(alphabet[event]);
        }
        while path.len() < depth && !world.closed {
            let next = alphabet.iter().position(|&event| world.may(event));
            let Some(next) = next else { break };
            path.push(next);
            world.step(alphabet[next]);
        }
        world.rest();
        worlds += 1;
        beside += world.beside;
        // To the next path: the last event that has a successor which may happen.
        while let Some(last) = path.pop() {
            let mut world = World::new(scale);
            for &event in &path {
                world.step(alphabet[event]);
            }
            let rest = last + 1..alphabet.len();
            if let Some(next) = rest.into_iter().find(|&event| world.may(alphabet[event])) {
                path.push(next);
                continue 'paths;
            }
        }
        return (worlds, beside);
    }
}

const SMALL: Scale = Scale {
    segment_bytes: SEGMENT_BYTES_MIN,
    large_bytes: 5000,
    first_is_there: true,
};

#[test]
fn every_order_of_all_events() {
    let alphabet = [
        Chunk,
        Seal,
        Rider,
        Prompt,
        PromptFlushed,
        Large,
        Timer,
        Flush,
        Synced,
        SyncFails,
        WriteFails,
        Segment,
    ];
    let (there, beside) = all(SMALL, &alphabet, 4);
    let not_there = Scale {
        first_is_there: false,
        ..SMALL
    };
    let (not_there, _) = all(not_there, &alphabet, 4);
    assert!(there > 5000 && not_there > 5000, "{there}, {not_there}");
    assert!(beside > 100, "{beside}");
}

/// What goes on beside a sync, deeper.
#[test]
fn every_order_beside_a_sync() {
    let alphabet = [Seal, Prompt, Synced, SyncFails, WriteFails];
    let (worlds, beside) = all(SMALL, &alphabet, 8);
    assert!(worlds > 5_000 && beside > 5_000, "{worlds}, {beside}");
}

/// The end of a segment, deeper.
#[test]
fn every_order_at_the_end_of_a_segment() {
    let (worlds, beside) = all(SMALL, &[Seal, Prompt, Large, Synced, Segment], 7);
    assert!(worlds > 10_000 && beside > 5_000, "{worlds}, {beside}");
}

/// Chunks that are written ahead, without a sync.
#[test]
fn every_order_of_large_chunks() {
    let scale = Scale {
        segment_bytes: 512 << 10,
        large_bytes: 300 << 10,
        first_is_there: true,
    };
    let alphabet = [Large, Seal, Prompt, Synced, WriteFails, Segment];
    let (worlds, beside) = all(scale, &alphabet, 5);
    assert!(worlds > 1000 && beside > 100, "{worlds}, {beside}");
}

/// Batches that are full: then a write is handed out together with one beside it, and
/// the first may fail before the second is made.
#[test]
fn every_order_of_full_batches() {
    let scale = Scale {
        segment_bytes: 8 << 20,
        large_bytes: 2 << 20,
        first_is_there: true,
    };
    let alphabet = [Large, Seal, Prompt, Synced, SyncFails, WriteFails];
    let (worlds, beside) = all(scale, &alphabet, 5);
    assert!(worlds > 500 && beside > 100, "{worlds}, {beside}");
}
