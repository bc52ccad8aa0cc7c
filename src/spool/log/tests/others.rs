//! A disk that others fill while mail comes: what was acknowledged leaves, nobody waits for
//! ever, and what has left makes room for as much, though the disk is as full as before.

use super::*;

const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// How often the log is told what is free.
const LOOK: Duration = Duration::from_secs(1);
const CLIENTS: usize = 4;
/// Segments that fill the disk if nobody else uses it.
const CAPACITY: u64 = 60;

/// A message that is here.
struct Here {
    seal: Location,
    /// The client was told.
    is_kept: bool,
}

/// A message of so many octets, of which some are still to come.
struct Coming {
    message: OpenMessage,
    left: usize,
}

struct Full {
    seed: u64,
    random: Random,
    now: Now,
    looked_at: Instant,
    disk: Disk,
    log: Log,
    envelope: Envelope,
    others: u64,
    /// The file system can renew a file of which a socket has pages. Where it cannot, that is
    /// removed, and others may take its room.
    renews: bool,
    spares: BTreeMap<SegmentId, Vec<u8>>,
    needed: Vec<(SegmentHeader, Option<SegmentId>)>,
    dead: Vec<(SegmentPlace, Fate)>,
    flight: Option<Flight>,
    coming: Vec<Coming>,
    here: BTreeMap<QueueId, Here>,
    tickets: BTreeMap<Ticket, QueueId>,
    ticket_next: u64,
    taken: u64,
    refused: u64,
    removed: u64,
}

impl Full {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES,
            size_max: u64::MAX,
            free_min: random.below(10) * SEGMENT,
        };
        let log = Log::new(IDENTITY, settings, random.next(), CAPACITY * SEGMENT);
        Self {
            seed,
            random,
            now: Now::default(),
            looked_at: Instant::START,
            disk: Disk::default(),
            log,
            envelope: envelope(1),
            others: 0,
            spares: BTreeMap::new(),
            needed: Vec::new(),
            dead: Vec::new(),
            flight: None,
            coming: Vec::new(),
            here: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ticket_next: 0,
            taken: 0,
            refused: 0,
            removed: 0,
            renews: seed.is_multiple_of(2),
        }
    }

    fn free(&self) -> u64 {
        let files = (self.disk.segments().count() + self.spares.len()) as u64;
        CAPACITY
            .checked_sub(files + self.others)
            .expect("no more than there is")
    }

    fn fill(&mut self) {
        self.others += self.free();
    }

    /// Some milliseconds, in which anything may happen that is under way.
    fn step(&mut self, clients: usize) {
        let pause = self.random.below(20);
        self.now = self.now.after(Duration::from_millis(pause));
        if self.now.instant.since(self.looked_at) >= LOOK {
            self.looked_at = self.now.instant;
            let free = self.free() * SEGMENT;
            self.log.free_bytes(free);
        }
        if self.log.deadline().is_some_and(|at| at <= self.now.instant) {
            self.log.timer(self.now);
        }
        if self.coming.len() < clients && self.random.one_in(2) {
            self.begin();
        }
        if !self.coming.is_empty() && self.log.takes_mail() {
            self.go_on();
        }
        if !self.needed.is_empty() && self.random.one_in(3) {
            self.prepare();
        }
        if !self.dead.is_empty() && self.random.one_in(3) {
            self.bury();
        }
        if self.random.one_in(2) {
            self.write();
        }
        if self.random.one_in(2) && self.log.carries().is_some() {
            self.log.carry(self.now, &self.disk);
        }
        self.poll();
    }

    fn begin(&mut self) {
        let left = match self.random.below(4) {
            0 => self.random.below(200_000),
            _ => self.random.below(8_000),
        };
        let queue_id = self.log.next_queue_id();
        let declared = self.random.one_in(2).then_some(left);
        let contents = contents(&self.envelope);
        match self.log.begin(self.now, queue_id, &contents, declared) {
            Ok(message) => self.coming.push(Coming {
                message,
                left: usize::try_from(left).expect("small"),
            }),
            Err(Refused::NoRoom(_)) => self.refused += 1,
            Err(other) => panic!("seed {}: {other}", self.seed),
        }
    }

    fn go_on(&mut self) {
        let index = usize::try_from(self.random.below(self.coming.len() as u64)).expect("small");
        let mut coming = self.coming.swap_remove(index);
        if coming.left > 0 {
            let piece = coming.left.min(16 << 10);
            coming.left -= piece;
            let octets = vec![b'a'; piece];
            match (self.log).body(self.now, &mut coming.message, &[&octets]) {
                Ok(()) => self.coming.push(coming),
                Err(Refused::NoRoom(_)) => {
                    self.refused += 1;
                    self.log.abort(coming.message);
                }
                Err(other) => panic!("seed {}: {other}", self.seed),
            }
            return;
        }
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        let contents = contents(&self.envelope);
        let sealed = (self.log)
            .seal(self.now, coming.message, &contents, FACTS, &[], ticket)
            .expect("the log is open");
        self.tickets.insert(ticket, sealed.queue_id);
        let here = Here {
            seal: sealed.seal,
            is_kept: false,
        };
        self.here.insert(sealed.queue_id, here);
    }

    /// A host takes a message, or its connection breaks.
    fn deliver(&mut self) {
        let kept = self.here.iter().find(|(_, here)| here.is_kept);
        let Some((&queue_id, here)) = kept else {
            return;
        };
        let segment = here.seal.segment_place();
        self.log.borrow(segment);
        let breaks = self.random.one_in(20);
        self.log.give_back(segment);
        if breaks {
            return;
        }
        let delivered = DoneField {
            recipient: RecipientNumber(0),
            outcome: Outcome::Delivered,
        };
        (self.log)
            .done(self.now, queue_id, &[delivered], Rest::Nobody)
            .expect("the log is open");
        self.here.remove(&queue_id);
    }

    fn prepare(&mut self) {
        let index = self.random.below(self.needed.len() as u64);
        let index = usize::try_from(index).expect("small");
        let (mut header, spare) = self.needed.swap_remove(index);
        let segment = header.place.segment;
        let stale = spare.and_then(|spare| {
            let stale = self.spares.remove(&spare)?;
            let old = SegmentHeader::decode(&stale, place(spare)).expect("it was a segment");
            header.previous_epoch = old.epoch;
            Some(stale)
        });
        if stale.is_none() && self.free() == 0 {
            let cause = PrepareCause::NoRoom;
            return self.log.segment_failed(self.now, segment, cause);
        }
        let size = SEGMENT_BYTES as usize;
        let stale = stale.unwrap_or_default();
        self.disk
            .create(segment, size, &header.encode()[..], &stale);
        self.log.segment_ready(segment);
    }

    fn bury(&mut self) {
        let (segment, fate) = self.dead.remove(0);
        let bytes = self.disk.remove(segment.segment);
        let gone = match fate {
            Fate::Reuse if self.renews || !self.random.one_in(20) => {
                self.spares.insert(segment.segment, bytes);
                Gone::Spare
            }
            Fate::Reuse | Fate::Remove | Fate::SetAside => {
                self.removed += 1;
                Gone::Removed
            }
        };
        self.log.segment_gone(segment, gone);
    }

    fn write(&mut self) {
        if let Some(flight) = self.flight.take() {
            let bytes = flight.bytes.len();
            let (segment, offset) = (flight.segment, flight.offset);
            (self.disk).sync_those(segment, offset, bytes, flight.durability, &flight.dirty);
            self.log.written(Ok(()), flight.bytes);
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
                    let dirty = self.disk.dirty(segment);
                    self.disk.write(segment, offset, &bytes);
                    if self.flight.is_some() {
                        self.log.written(Ok(()), bytes);
                        continue;
                    }
                    self.flight = Some(Flight {
                        segment,
                        offset,
                        bytes,
                        durability,
                        dirty,
                    });
                }
                Output::Committed { ticket, .. } => {
                    let queue_id = self.tickets.remove(&ticket).expect("it waited");
                    self.here.get_mut(&queue_id).expect("it is here").is_kept = true;
                    self.taken += 1;
                }
                Output::SegmentNeeded { header, spare } => self.needed.push((header, spare)),
                Output::SegmentDead { segment, fate } => self.dead.push((segment, fate)),
                Output::Moved { queue_id, to, .. } => {
                    if let Some(here) = self.here.get_mut(&queue_id) {
                        here.seal = to;
                    }
                }
                Output::SegmentClosed { .. } | Output::CarryWanted { .. } => {}
                Output::Failed { .. } | Output::CarryFailed { .. } | Output::LogClosed { .. } => {
                    panic!("seed {}: {output:?}", self.seed)
                }
            }
        }
    }

    /// How many messages are taken in so many steps, while what is here leaves.
    fn drain(&mut self, clients: usize, steps: u64) -> u64 {
        let before = self.taken;
        for _ in 0..steps {
            self.step(clients);
            self.deliver();
        }
        self.taken - before
    }
}

fn check(seed: u64) -> Full {
    let mut full = Full::new(seed);
    full.poll();
    while full.log.at_hand_segments() < RESERVE_SEGMENTS {
        full.step(0);
    }
    // Nothing leaves, until others take the rest of the disk, which is known a second later.
    for _ in 0..full.random.below(1000) {
        full.step(CLIENTS);
    }
    full.fill();
    for _ in 0..400 {
        full.step(CLIENTS);
    }
    assert!(full.refused > 0, "seed {seed}: nothing is refused");
    full.drain(CLIENTS, 2000);
    // Without new mail everything leaves, and everybody is answered.
    full.drain(0, 2000);
    full.log.flush();
    full.drain(0, 200);
    assert!(full.here.is_empty(), "seed {seed}: mail stays");
    assert!(full.tickets.is_empty(), "seed {seed}: clients wait");
    assert!(full.coming.is_empty(), "seed {seed}: clients wait");
    assert!(full.log.is_idle(), "seed {seed}");
    // What was there once is used again, again and again.
    for round in 0..5 {
        let taken = full.drain(CLIENTS, 500);
        assert!(taken > 20, "seed {seed}: {taken} taken in round {round}");
    }
    full
}

#[test]
fn others_fill_the_disk() {
    let mut removed = 0;
    let seeds = std::env::var("TURNSPOOL_SIM_SEEDS").ok();
    let seeds = seeds.map_or(100, |seeds| seeds.parse().expect("a whole number"));
    for seed in 0..seeds {
        removed += check(seed).removed;
    }
    assert!(removed > seeds / 10, "{removed} segments were removed");
}
