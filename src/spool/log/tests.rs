//! The whole spool in virtual worlds: messages come, go, are held, marked and carried;
//! the disk loses what was not synced; the program starts again.

mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spool_format::{
    BodyForm, Checksum, DoneField, LiveMessage, Mark, NoteField, Outcome, RecipientNumber,
    SegmentHeader, SummaryBuilder,
};

use super::super::commit::{RIDER_DELAY_MAX, WriteStep};
use super::super::message::{
    BodyFacts, Contents, Holding, SegmentSource, StoredMessage, View, body,
};
use super::super::reclaim::SLACK_SEGMENTS;
use super::super::recovery::{Restart, Restarted};
use super::super::simulation::{Disk, Random};
use super::*;
use crate::mail::{Envelope, Receipt, Recipient, Sender};
use crate::time::WallTime;

const SEGMENT_BYTES: u32 = 64 << 10;
const LOG: LogId = LogId(3);
const IDENTITY: Identity = Identity {
    spool: SpoolUuid([9; 16]),
    log: LOG,
};

impl SegmentSource for Disk {
    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        let bytes = self.bytes(segment.segment)?;
        let header = SegmentHeader::decode(bytes, segment).ok()?;
        Some(View {
            bytes,
            epoch: header.epoch,
        })
    }
}

fn place(segment: SegmentId) -> SegmentPlace {
    SegmentPlace { log: LOG, segment }
}

fn envelope(recipients: u32) -> Envelope {
    Envelope {
        sender: Sender::new("a@b.example".parse().unwrap()),
        recipients: (0..recipients)
            .map(|n| {
                // Runs of one domain, and runs of another.
                let domain = if n % 5 < 3 { "c.example" } else { "d.example" };
                Recipient::new(format!("r{n}@{domain}").parse().unwrap())
            })
            .collect(),
    }
}

fn contents(envelope: &Envelope) -> Contents<'_> {
    Contents {
        envelope,
        session: spool_format::SessionFields::default(),
        arrival: WallTime::from_millis(5),
        holding: Holding::Free,
        next_hop: None,
    }
}

const FACTS: BodyFacts = BodyFacts {
    form: BodyForm::Plain,
    ends_with_crlf: true,
    eight_bit: false,
};

/// A value of which the newest change may not be durable: all that it may be after a
/// crash. The last one is the newest.
#[derive(Clone, Debug)]
struct Maybe<T>(Vec<T>);

impl<T: Clone + PartialEq> Maybe<T> {
    fn set(&mut self, value: T) {
        self.0.push(value);
    }

    fn settle(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    fn newest(&self) -> &T {
        self.0.last().expect("never empty")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Promise {
    /// Sealed, and nobody was told anything.
    Waiting,
    /// The client has its 250.
    Kept,
    /// The client was told 451.
    Denied,
}

/// A message as the outside world knows it.
#[derive(Debug)]
struct Mail {
    body: Vec<u8>,
    recipients: u32,
    promise: Promise,
    /// With the time at which that was said, and the batch with its record.
    done: BTreeMap<u32, (Instant, BatchNumber)>,
    held: Maybe<bool>,
    next_hop: Maybe<Option<String>>,
    attempts: Maybe<u32>,
    seal: Location,
}

impl Mail {
    /// To whom it is not delivered again, whatever happens.
    fn done_durable(&self, durable: BatchNumber) -> BTreeSet<u32> {
        let done = self.done.iter();
        let stored = done.filter(|(_, (_, batch))| *batch <= durable);
        stored.map(|(number, _)| *number).collect()
    }

    fn is_finished(&self) -> bool {
        self.done.len() == self.recipients as usize
    }
}

struct Receiving {
    message: OpenMessage,
    envelope: Envelope,
    body: Vec<u8>,
    left: usize,
}

/// A write that is not answered.
struct Flight {
    segment: SegmentId,
    offset: Offset,
    bytes: Vec<u8>,
    durability: Durability,
    /// Sectors that were to be synced when it began.
    dirty: BTreeSet<usize>,
}

struct World {
    seed: u64,
    random: Random,
    now: Now,
    disk: Disk,
    log: Log,
    settings: Settings,
    summaries: BTreeMap<SegmentId, Vec<u8>>,
    spares: BTreeMap<SegmentId, Vec<u8>>,
    needed: Vec<(SegmentHeader, Option<SegmentId>)>,
    dead: Vec<(SegmentPlace, Fate)>,
    flight: Option<Flight>,
    receiving: Vec<Receiving>,
    mails: BTreeMap<QueueId, Mail>,
    notes: BTreeMap<Vec<u8>, Maybe<Option<Vec<u8>>>>,
    tickets: BTreeMap<Ticket, QueueId>,
    ticket_next: u64,
    carried: u64,
    freed: u64,
    refused: u64,
    beside: u64,
    writes: u64,
    fails_at: u64,
    /// Bits were flipped in these.
    hit: BTreeSet<SegmentId>,
    carries_failed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let segments = 16 + random.below(60);
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES,
            size_max: segments * u64::from(SEGMENT_BYTES),
            free_min: 1 << 30,
        };
        let fails_at = if seed.is_multiple_of(5) {
            random.below(400)
        } else {
            u64::MAX
        };
        Self {
            seed,
            now: Now::default(),
            disk: Disk::default(),
            log: Log::new(IDENTITY, settings, random.next(), 1 << 40),
            random,
            settings,
            summaries: BTreeMap::new(),
            spares: BTreeMap::new(),
            needed: Vec::new(),
            dead: Vec::new(),
            flight: None,
            receiving: Vec::new(),
            mails: BTreeMap::new(),
            notes: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ticket_next: 0,
            carried: 0,
            freed: 0,
            refused: 0,
            beside: 0,
            writes: 0,
            fails_at,
            hit: BTreeSet::new(),
            carries_failed: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    fn some_mail(&mut self) -> Option<QueueId> {
        let live: Vec<QueueId> = self
            .mails
            .iter()
            .filter(|(_, m)| m.promise == Promise::Kept && !m.is_finished())
            .map(|(&id, _)| id)
            .collect();
        if live.is_empty() {
            return None;
        }
        let pick = self.below(live.len());
        Some(live[pick])
    }

    fn step(&mut self) {
        let pause = self.random.below(20);
        self.now = self.now.after(Duration::from_millis(pause));
        // The shell calls it when it is due.
        if self.log.deadline().is_some_and(|at| at <= self.now.instant) {
            self.log.timer(self.now);
        }
        match self.random.below(21) {
            20 => self.log.write_notes(),
            0..=2 => self.begin(),
            3..=6 => self.go_on(),
            7..=9 => self.finish_some(),
            10 => self.say_something(),
            11 => self.prepare(),
            12 => self.bury(),
            13 => self.log.timer(self.now),
            14 => self.read_some(),
            _ => self.write(),
        }
        if self.random.one_in(3) && self.log.carries().is_some() {
            self.log.carry(self.now, &self.disk);
        }
        self.poll();
        if self.random.one_in(10) {
            self.check_done();
        }
    }

    /// What was done is on stable storage after a tenth of a second, and the sync that was
    /// under way then, and one more: a cut of the power repeats nothing that is older.
    fn check_done(&mut self) {
        let mut asked = self.log.asked.keys();
        let no_segment = asked.any(|segment| self.log.commit.waits_for(*segment));
        let waits = self.flight.is_some() || no_segment;
        if waits || self.log.fault().is_some() {
            return;
        }
        for (queue_id, mail) in &self.mails {
            for (number, (said_at, batch)) in &mail.done {
                let age = self.now.instant.since(*said_at);
                assert!(
                    age < RIDER_DELAY_MAX || *batch <= self.log.commit.durable(),
                    "seed {}: {queue_id}/{number} is done for {age:?}, and could go again",
                    self.seed
                );
            }
        }
    }

    fn begin(&mut self) {
        if self.log.is_full() || self.receiving.len() > 5 {
            return;
        }
        let recipients = if self.random.one_in(4) {
            1 + self.random.below(70)
        } else {
            1
        };
        let recipients = u32::try_from(recipients).unwrap();
        let left = match self.random.below(8) {
            0 => 0,
            1 => self.below(100_000),
            _ => self.below(6_000),
        };
        let envelope = envelope(recipients);
        let queue_id = self.log.next_queue_id();
        assert!(
            !self.mails.contains_key(&queue_id),
            "seed {}: a name is new",
            self.seed
        );
        let declared = self.random.one_in(2).then_some(left as u64);
        let begun = self
            .log
            .begin(self.now, queue_id, &contents(&envelope), declared);
        match begun {
            Ok(message) => self.receiving.push(Receiving {
                message,
                envelope,
                body: Vec::new(),
                left,
            }),
            Err(Refused::NoRoom(_)) => self.refused += 1,
            Err(Refused::Append(error)) => {
                assert!(self.log.fault().is_some(), "seed {}: {error}", self.seed);
            }
        }
    }

    /// A piece of a body, an end of data, or a client that goes away.
    fn go_on(&mut self) {
        if self.receiving.is_empty() || !self.log.takes_mail() {
            return;
        }
        let index = self.below(self.receiving.len());
        let mut receiving = self.receiving.swap_remove(index);
        if self.random.one_in(30) {
            self.log.abort(receiving.message);
            return;
        }
        if receiving.left > 0 {
            let piece = (1 + self.below(20_000)).min(receiving.left);
            let mut octets = vec![0; piece];
            for octet in &mut octets {
                *octet = b'a' + (self.random.next() % 26) as u8;
            }
            receiving.left -= piece;
            let (one, two) = octets.split_at(piece / 3);
            let stored = self
                .log
                .body(self.now, &mut receiving.message, &[one, b"", two]);
            if stored.is_err() {
                self.refused += 1;
                self.log.abort(receiving.message);
                return;
            }
            receiving.body.extend_from_slice(&octets);
            self.receiving.push(receiving);
            return;
        }
        self.seal(receiving);
    }

    fn seal(&mut self, receiving: Receiving) {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        let key = vec![b'k', (self.random.next() % 5) as u8];
        let value = self.ticket_next.to_le_bytes();
        let note = [NoteField {
            tag: 1,
            key: &key,
            value: Some(&value),
        }];
        let notes = if self.random.one_in(6) {
            &note[..]
        } else {
            &[]
        };
        let contents = contents(&receiving.envelope);
        let sealed = self
            .log
            .seal(self.now, receiving.message, &contents, FACTS, notes, ticket);
        let Ok(sealed) = sealed else {
            assert!(self.log.fault().is_some(), "seed {}", self.seed);
            return;
        };
        assert_eq!(sealed.octets, receiving.body.len() as u64);
        if !notes.is_empty() {
            self.note_said(key, Some(value.to_vec()));
        }
        self.tickets.insert(ticket, sealed.queue_id);
        let mail = Mail {
            body: receiving.body,
            recipients: u32::try_from(receiving.envelope.recipients.len()).unwrap(),
            promise: Promise::Waiting,
            done: BTreeMap::new(),
            held: Maybe(vec![false]),
            next_hop: Maybe(vec![None]),
            attempts: Maybe(vec![0]),
            seal: sealed.seal,
        };
        self.mails.insert(sealed.queue_id, mail);
    }

    fn note_said(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.notes
            .entry(key)
            .or_insert(Maybe(vec![None]))
            .set(value);
    }

    fn finish_some(&mut self) {
        let Some(queue_id) = self.some_mail() else {
            return;
        };
        // Some mail stays for long.
        if queue_id.sequence() % 7 == 0 && !self.random.one_in(20) {
            return;
        }
        let all = !self.random.one_in(3);
        let mail = self.mails.get_mut(&queue_id).unwrap();
        let mut fields = Vec::new();
        for number in 0..mail.recipients {
            if !mail.done.contains_key(&number) && (all || self.random.one_in(2)) {
                fields.push(DoneField {
                    recipient: RecipientNumber(number),
                    outcome: Outcome::Delivered,
                });
            }
        }
        if fields.is_empty() {
            return;
        }
        let finished = mail.done.len() + fields.len() == mail.recipients as usize;
        // That nobody is left may be said with the last recipient, or behind it.
        let behind = finished && self.random.one_in(2);
        let rest = if finished && !behind {
            Rest::Nobody
        } else {
            Rest::Pending
        };
        if self.log.done(self.now, queue_id, &fields, rest).is_ok() {
            let said = (self.now.instant, self.log.commit.newest());
            mail.done
                .extend(fields.iter().map(|f| (f.recipient.0, said)));
            if behind {
                let said = self.log.done(self.now, queue_id, &[], Rest::Nobody);
                said.expect("the log was open just now");
            }
        }
    }

    fn say_something(&mut self) {
        if self.random.one_in(3) {
            let key = vec![b'k', (self.random.next() % 5) as u8];
            let value = self.random.one_in(2).then(|| vec![7; 30]);
            let note = NoteField {
                tag: 1,
                key: &key,
                value: value.as_deref(),
            };
            if self.log.note(self.now, note).is_ok() {
                self.note_said(key, value);
            }
            return;
        }
        let Some(queue_id) = self.some_mail() else {
            return;
        };
        let what = self.random.below(4);
        let mail = self.mails.get_mut(&queue_id).unwrap();
        match what {
            0 => {
                let hold = Mark::Hold { queue_name: None };
                if self.log.mark(self.now, queue_id, hold).is_ok() {
                    mail.held.set(true);
                }
            }
            1 => {
                if self.log.mark(self.now, queue_id, Mark::Release).is_ok() {
                    mail.held.set(false);
                }
            }
            2 => {
                let hop = format!("[192.0.2.{}]", self.random.below(9));
                let mark = Mark::Requeue {
                    next_hop: Some(&hop),
                };
                if self.log.mark(self.now, queue_id, mark).is_ok() {
                    mail.next_hop.set(Some(hop));
                }
            }
            _ => {
                let recipients: Vec<RecipientNumber> = (0..mail.recipients)
                    .filter(|n| !mail.done.contains_key(n))
                    .map(RecipientNumber)
                    .collect();
                let attempts = mail.attempts.newest() + 1;
                let attempt = Attempt {
                    attempts,
                    told: spool_format::Told::NOTHING,
                    next_attempt: self.now.wall,
                    recipients: &recipients,
                    error: "451 4.3.0 later",
                };
                // What room there is may be left to what makes room.
                let is_short = self.log.is_short_of(RESERVE_SEGMENTS);
                if self.log.attempt(self.now, queue_id, &attempt).is_ok() && !is_short {
                    mail.attempts.set(attempts);
                }
            }
        }
    }

    fn prepare(&mut self) {
        if self.needed.is_empty() {
            return;
        }
        let index = self.below(self.needed.len());
        let (mut header, spare) = self.needed.swap_remove(index);
        if self.random.one_in(10) {
            if let Some(spare) = spare {
                self.spares.remove(&spare);
            }
            self.log
                .segment_failed(self.now, header.place.segment, PrepareCause::NoRoom);
            return;
        }
        let stale = spare
            .and_then(|s| self.spares.remove(&s))
            .unwrap_or_default();
        if let Some(spare) = spare
            && let Ok(old) = SegmentHeader::decode(&stale, place(spare))
        {
            header.previous_epoch = old.epoch;
        }
        let segment = header.place.segment;
        self.disk.create(
            segment,
            SEGMENT_BYTES as usize,
            &header.encode()[..],
            &stale,
        );
        self.log.segment_ready(segment);
    }

    fn bury(&mut self) {
        let Some((segment, fate)) = self.dead.pop() else {
            return;
        };
        self.freed += 1;
        self.summaries.remove(&segment.segment);
        let mut bytes = self.disk.remove(segment.segment);
        let gone = match fate {
            // As where it was lent, and the file system cannot renew it.
            Fate::Reuse if segment.segment.0.is_multiple_of(16) => Gone::Removed,
            Fate::Reuse => {
                if segment.segment.0.is_multiple_of(4) {
                    // A socket has pages of it.
                    bytes.fill(0);
                }
                self.spares.insert(segment.segment, bytes);
                Gone::Spare
            }
            Fate::Remove => Gone::Removed,
            Fate::SetAside => {
                let hit = self.hit.contains(&segment.segment);
                assert!(hit, "seed {}: {segment} is not damaged", self.seed);
                Gone::Removed
            }
        };
        self.log.segment_gone(segment, gone);
    }

    fn write(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let Flight {
            segment,
            offset,
            bytes,
            durability,
            dirty,
        } = flight;
        self.writes += 1;
        if self.writes == self.fails_at {
            let fault = WriteFault {
                step: WriteStep::Sync,
                os_error: Some(5),
            };
            self.log.written(Err(fault), bytes);
            return;
        }
        self.disk
            .sync_those(segment, offset, bytes.len(), durability, &dirty);
        self.log.written(Ok(()), bytes);
        if self.log.is_idle() {
            self.settle();
        }
    }

    /// Everything that was said is on stable storage.
    fn settle(&mut self) {
        for mail in self.mails.values_mut() {
            mail.held.settle();
            mail.next_hop.settle();
            mail.attempts.settle();
        }
        for note in self.notes.values_mut() {
            note.settle();
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.log.poll(self.now) {
            match output {
                Output::Write {
                    segment,
                    offset,
                    bytes,
                    durability,
                } => {
                    if self.flight.is_some() {
                        // Beside one that is being synced: answered at once.
                        assert_eq!(durability, Durability::None, "seed {}", self.seed);
                        self.disk.write(segment, offset, &bytes);
                        self.log.written(Ok(()), bytes);
                        self.beside += 1;
                        continue;
                    }
                    let dirty = self.disk.dirty(segment);
                    // As the shell does it: the write at once, and behind it the sync.
                    self.disk.write(segment, offset, &bytes);
                    self.flight = Some(Flight {
                        dirty,
                        segment,
                        offset,
                        bytes,
                        durability,
                    });
                }
                Output::Committed { ticket, receipt } => {
                    let queue_id = self.tickets.remove(&ticket).expect("it waited");
                    assert_eq!(receipt.queue_id(), queue_id, "seed {}", self.seed);
                    self.mails.get_mut(&queue_id).unwrap().promise = Promise::Kept;
                }
                Output::Failed { ticket } => {
                    let queue_id = self.tickets.remove(&ticket).expect("it waited");
                    self.mails.get_mut(&queue_id).unwrap().promise = Promise::Denied;
                }
                Output::SegmentNeeded { header, spare } => self.needed.push((header, spare)),
                Output::SegmentClosed { segment } => {
                    if self.random.one_in(2) {
                        let bytes = self.disk.bytes(segment).unwrap();
                        let header = SegmentHeader::decode(bytes, place(segment)).unwrap();
                        let summary = SummaryBuilder::scan(bytes, &header).unwrap();
                        self.summaries.insert(segment, summary);
                    }
                }
                Output::SegmentDead { segment, fate } => self.dead.push((segment, fate)),
                Output::CarryWanted { .. } => {}
                Output::Moved { queue_id, from, to } => {
                    self.carried += 1;
                    if let Some(mail) = self.mails.get_mut(&queue_id) {
                        assert_eq!(mail.seal, from, "seed {}: moved from there", self.seed);
                        mail.seal = to;
                        let read = StoredMessage::read(&self.disk, to);
                        assert!(read.is_ok(), "seed {}: {read:?}", self.seed);
                    }
                }
                Output::CarryFailed { queue_id, error } => {
                    let hit = !self.hit.is_empty();
                    assert!(hit, "seed {}: {queue_id:?}: {error}", self.seed);
                    self.carries_failed += 1;
                }
                Output::LogClosed { .. } => {
                    assert_eq!(self.writes, self.fails_at, "seed {}", self.seed);
                }
            }
        }
    }

    fn read_some(&mut self) {
        if !self.hit.is_empty() {
            return;
        }
        if let Some(queue_id) = self.some_mail() {
            let mail = &self.mails[&queue_id];
            // Of one that is being carried the old place, until the copy is durable.
            let told = self.log.message(queue_id);
            assert_eq!(told, Some(mail.seal), "seed {}: {queue_id}", self.seed);
            check_stored(self.seed, &self.disk, mail.seal, queue_id, mail);
        }
    }

    /// Everything comes to rest: nothing is received, everything is durable, whatever
    /// can be won back is.
    fn rest(&mut self) {
        for receiving in std::mem::take(&mut self.receiving) {
            self.log.abort(receiving.message);
        }
        for _ in 0..10_000 {
            self.now = self.now.after(Duration::from_millis(200));
            self.log.timer(self.now);
            self.log.flush();
            self.poll();
            let busy = !self.needed.is_empty()
                || !self.dead.is_empty()
                || self.flight.is_some()
                || self.log.carries().is_some()
                || !self.log.is_idle();
            if self.log.fault().is_some() {
                return;
            }
            if !busy {
                // Nothing comes any more, so no room is kept for it.
                assert_eq!(self.log.reserved, 0, "seed {}", self.seed);
                // Space is bounded by what is needed: twice that, the slack, and the
                // segments beyond the last closed one.
                let around = u64::from(SEGMENTS_AHEAD) + 2;
                // A damaged segment is not emptied while a message is live in it, and
                // with it stay the records about its messages, in other segments.
                let kept = 4 * self.hit.len() as u64;
                let slack = SLACK_SEGMENTS + around + kept;
                let bound = 2 * self.log.needed_bytes() + slack * u64::from(SEGMENT_BYTES);
                let spares = self.log.spares.len();
                assert!(spares <= SPARES_MAX, "seed {}: {spares} spares", self.seed);
                let spares = spares as u64 * u64::from(SEGMENT_BYTES);
                let size = self.log.size_bytes() - spares;
                assert!(size <= bound, "seed {}: {size} over {bound}", self.seed);
                return;
            }
            self.prepare();
            self.bury();
            self.write();
            self.log.carry(self.now, &self.disk);
        }
        panic!("seed {}: the spool does not come to rest", self.seed);
    }

    fn restart(&mut self, power: Power) {
        if power == Power::Cut {
            self.disk.crash(&mut self.random);
        }
        self.flight = None;
        if self.random.one_in(2) {
            // The clock is set back: what is said next is newer all the same.
            self.now.wall = WallTime::from_millis(0);
        }
        self.receiving.clear();
        self.needed.clear();
        self.dead.clear();
        self.tickets.clear();
        let restarted = self.read_all();
        self.compare(&restarted);
        let seed = self.random.next();
        let log = restarted.log(IDENTITY, self.settings, &[LOG], seed, 1 << 40);
        self.log = log;
        if self.writes >= self.fails_at {
            self.fails_at = u64::MAX;
        }
        // What is broken was never promised: it is ended.
        for broken in &restarted.recovered.broken {
            let queue_id = QueueId::from_u64(broken.message.queue_id);
            let fields: Vec<DoneField> = (0..broken.message.recipients)
                .map(|n| DoneField {
                    recipient: RecipientNumber(n),
                    outcome: Outcome::Damaged,
                })
                .collect();
            self.log
                .done(self.now, queue_id, &fields, Rest::Nobody)
                .unwrap();
        }
        self.poll();
    }

    /// What a start would find.
    fn read_all(&mut self) -> Restarted {
        let mut restart = Restart::new(Some(IDENTITY.spool));
        for &spare in self.spares.keys() {
            restart.spare(place(spare));
        }
        let mut scanned = Vec::new();
        for segment in self.disk.segments() {
            let bytes = self.disk.bytes(segment).unwrap();
            let summary = self.summaries.get(&segment);
            let summarized = summary
                .is_some_and(|summary| restart.summarized(place(segment), &bytes[..8192], summary));
            if summarized {
                continue;
            }
            scanned.push(segment);
            let made = restart.segment(place(segment), bytes, summary.map(|s| &s[..]));
            if let Some(made) = made
                && self.random.one_in(2)
            {
                self.summaries.insert(segment, made);
            }
        }
        for segment in scanned {
            self.disk.settle(segment);
        }
        restart.finish()
    }

    /// What is found is what was promised.
    fn compare(&mut self, restarted: &Restarted) {
        let seed = self.seed;
        let recovered = &restarted.recovered;
        let live: BTreeMap<QueueId, &LiveMessage> = recovered
            .messages
            .iter()
            .map(|m| (QueueId::from_u64(m.queue_id), m))
            .collect();
        for broken in &recovered.broken {
            let queue_id = QueueId::from_u64(broken.message.queue_id);
            let mail = self.mails.remove(&queue_id);
            let promise = mail.map(|m| m.promise);
            assert_ne!(promise, Some(Promise::Kept), "seed {seed}: {broken}");
        }
        assert!(restarted.refusal().is_none());
        for facts in restarted.reports() {
            let bad = facts.verdict.severity == spool_format::Severity::Damage;
            assert!(!bad, "seed {seed}: {facts}");
        }
        for queue_id in live.keys() {
            assert!(
                self.mails.contains_key(queue_id),
                "seed {seed}: {queue_id} was never sealed"
            );
        }
        let durable = self.log.commit.durable();
        self.mails.retain(|queue_id, mail| {
            let found = live.get(queue_id);
            if mail.done_durable(durable).len() == mail.recipients as usize {
                assert!(found.is_none(), "seed {seed}: {queue_id} came back");
            } else if mail.promise == Promise::Kept && !mail.is_finished() {
                assert!(found.is_some(), "seed {seed}: {queue_id} is lost");
            }
            found.is_some()
        });
        for (queue_id, mail) in &mut self.mails {
            let message = live[queue_id];
            let done: BTreeSet<u32> = message.done.iter().map(|n| n.0).collect();
            assert!(
                done.is_superset(&mail.done_durable(durable)),
                "seed {seed}: {queue_id}"
            );
            let said: BTreeSet<u32> = mail.done.keys().copied().collect();
            assert!(done.is_subset(&said), "seed {seed}: {queue_id}");
            assert_eq!(message.recipients, mail.recipients, "seed {seed}");
            assert!(
                mail.held.0.contains(&message.held),
                "seed {seed}: {queue_id} held"
            );
            let next_hop = message.next_hop.map(|id| recovered.name(id).to_owned());
            assert!(
                mail.next_hop.0.contains(&next_hop),
                "seed {seed}: {queue_id} goes to {next_hop:?}, not {:?}",
                mail.next_hop
            );
            let attempts = message.attempts.last().map_or(0, |a| a.attempts);
            assert!(
                mail.attempts.0.contains(&attempts),
                "seed {seed}: {queue_id} has {attempts}, not {:?}",
                mail.attempts
            );
            mail.promise = Promise::Kept;
            let said = (self.now.instant, BatchNumber::START);
            mail.done = done.iter().map(|&number| (number, said)).collect();
            mail.held = Maybe(vec![message.held]);
            mail.next_hop = Maybe(vec![next_hop]);
            mail.attempts = Maybe(vec![attempts]);
            mail.seal = message.seal;
            check_stored(seed, &self.disk, message.seal, *queue_id, mail);
        }
        let found: BTreeMap<&[u8], &Option<Box<[u8]>>> = recovered
            .notes
            .iter()
            .map(|n| (&n.key[..], &n.value))
            .collect();
        for (key, note) in &mut self.notes {
            let value = found.get(&key[..]).and_then(|v| v.as_ref());
            let value = value.map(|v| v.to_vec());
            assert!(
                note.0.contains(&value),
                "seed {seed}: note {key:?} {value:?} {note:?}"
            );
            *note = Maybe(vec![value]);
        }
    }
}

impl World {
    /// Bits are lost while the program does not run or while it does: with the summaries
    /// that were made before, the start may not see it.
    fn damage(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            let segments: Vec<SegmentId> = self.disk.segments().collect();
            let pick = self.below(segments.len());
            let offset = 8192 + self.below(SEGMENT_BYTES as usize - 8192);
            self.disk.flip(segments[pick], offset);
            self.hit.insert(segments[pick]);
        }
    }

    /// What was not hit is there, and nothing is there that was not sent.
    fn check_undamaged(&self, restarted: &Restarted) {
        let seed = self.seed;
        let messages = restarted.recovered.messages.iter();
        let live: BTreeMap<u64, Location> = messages.map(|m| (m.queue_id, m.seal)).collect();
        for (queue_id, mail) in &self.mails {
            if mail.promise != Promise::Kept || mail.is_finished() {
                continue;
            }
            // It lies in one of them, from its first segment to that of its seal; a body of
            // this test lies in at most three.
            let near = |hit: &SegmentId| {
                (mail.seal.segment.0.saturating_sub(6)..=mail.seal.segment.0).contains(&hit.0)
            };
            let Some(&seal) = live.get(&queue_id.as_u64()) else {
                assert!(self.hit.iter().any(near), "seed {seed}: {queue_id} is lost");
                continue;
            };
            let Ok(stored) = StoredMessage::read(&self.disk, seal) else {
                // Its envelope may lie in the segment before that of its seal.
                assert!(self.hit.iter().any(near), "seed {seed}: {queue_id}");
                continue;
            };
            let mut octets = Vec::new();
            for &extent in &stored.extents {
                octets.extend_from_slice(body(&self.disk, seal, extent).unwrap());
            }
            let sound = stored.verify(&self.disk, seal).is_ok();
            assert_eq!(
                sound,
                octets == mail.body,
                "seed {seed}: the body of {queue_id}"
            );
            assert_eq!(stored.envelope, envelope(mail.recipients), "seed {seed}");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Cut,
    On,
}

fn check_stored(seed: u64, disk: &Disk, seal: Location, queue_id: QueueId, mail: &Mail) {
    let stored = StoredMessage::read(disk, seal)
        .unwrap_or_else(|e| panic!("seed {seed}: {queue_id} at {seal}: {e}"));
    assert_eq!(stored.queue_id, queue_id, "seed {seed}");
    assert_eq!(stored.envelope, envelope(mail.recipients), "seed {seed}");
    assert_eq!(stored.arrival, WallTime::from_millis(5), "seed {seed}");
    assert_eq!(stored.body, FACTS, "seed {seed}");
    let mut octets = Vec::new();
    for &extent in &stored.extents {
        octets.extend_from_slice(body(disk, seal, extent).unwrap());
    }
    assert!(octets == mail.body, "seed {seed}: the body of {queue_id}");
    assert_eq!(
        stored.checksum,
        Checksum::EMPTY.append(&octets),
        "seed {seed}"
    );
}

fn simulate(seed: u64) -> World {
    let mut world = World::new(seed);
    world.poll();
    for _ in 0..2 + world.random.below(3) {
        for _ in 0..world.random.below(1500) {
            world.step();
        }
        if world.random.one_in(3) {
            world.rest();
        }
        let power = if world.random.one_in(4) {
            Power::On
        } else {
            Power::Cut
        };
        world.restart(power);
        // A machine whose power comes and goes.
        while world.random.one_in(2) {
            for _ in 0..world.random.below(60) {
                world.step();
            }
            world.restart(Power::Cut);
        }
    }
    world
}

#[test]
fn damage_loses_what_it_hit_and_is_never_made_to_look_sound() {
    let (mut failed, mut carried) = (0, 0);
    for seed in 1000..1030 {
        let mut world = World::new(seed);
        world.fails_at = u64::MAX;
        world.poll();
        for _ in 0..800 {
            world.step();
        }
        world.rest();
        world.damage();
        if seed.is_multiple_of(2) {
            // Seen at the start, or not, where there is a summary.
            let restarted = world.read_all();
            world.check_undamaged(&restarted);
            for message in restarted.recovered.messages.iter() {
                let queue_id = QueueId::from_u64(message.queue_id);
                world.mails.get_mut(&queue_id).unwrap().seal = message.seal;
            }
            for mail in world.mails.values_mut() {
                for (_, batch) in mail.done.values_mut() {
                    *batch = BatchNumber::START;
                }
            }
            let epoch_seed = world.random.next();
            world.log = restarted.log(IDENTITY, world.settings, &[LOG], epoch_seed, 1 << 40);
            world.poll();
        }
        let before = world.carried;
        // What is old is carried out of the way of what is new, as far as it is whole.
        for _ in 0..1000 {
            world.step();
        }
        world.rest();
        carried += world.carried - before;
        failed += world.carries_failed;
        let restarted = world.read_all();
        world.check_undamaged(&restarted);
    }
    assert!(failed > 3 && carried > 50, "{failed} {carried}");
}

#[test]
fn no_world_loses_mail() {
    let (mut carried, mut freed, mut refused, mut beside) = (0, 0, 0, 0);
    let seeds = std::env::var("TURNSPOOL_SIM_SEEDS").ok();
    let seeds = seeds.map_or(60, |seeds| seeds.parse().expect("a whole number"));
    for seed in 0..seeds {
        let world = simulate(seed);
        beside += world.beside;
        carried += world.carried;
        freed += world.freed;
        refused += world.refused;
    }
    // A world in which nothing happens proves nothing.
    assert!(
        carried > 100 && freed > 1000 && refused > 10 && beside > 100,
        "{carried} {freed} {refused} {beside}"
    );
}
