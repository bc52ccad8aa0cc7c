//! The recovery fold against a plain model that keeps all records in a list and
//! looks through it for each question: random logs, by seed, in every order, from
//! segments and summaries, with records and segments missing.

mod common;

use common::*;
use spool_format::*;
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 300;
const DOMAINS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

/// What a record says, for the model.
#[derive(Clone, Debug)]
enum Fact {
    Part,
    Seal(SealFact),
    Done {
        queue_id: u64,
        recipients: Vec<u32>,
    },
    Hold {
        queue_id: u64,
        held: bool,
        queue_name: Option<String>,
    },
    Requeue {
        queue_id: u64,
        next_hop: Option<String>,
    },
    Attempt {
        queue_id: u64,
        attempts: u32,
        recipients: Vec<u32>,
    },
    Note {
        key: u8,
        value: Option<u8>,
    },
    Partial(PartialModel),
}

#[derive(Clone, Debug)]
struct SealFact {
    queue_id: u64,
    generation: u32,
    parts: Vec<Location>,
    domains: Vec<&'static str>,
    held: bool,
    next_hop: Option<String>,
    done: Vec<u32>,
    note: Option<(u8, u8)>,
}

#[derive(Clone, Debug)]
struct PartialModel {
    transid: u8,
    queue_id: u64,
    state: PartialState,
    offset: u64,
    parts: Vec<Location>,
}

struct Written {
    at: Location,
    stamp: i64,
    fact: Fact,
}

/// The writer of some logs, as chance will have it.
struct World {
    random: Random,
    closed: Vec<Segment>,
    open: Vec<Segment>,
    written: Vec<Written>,
    stamp: i64,
    next_id: u64,
    next_epoch: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            closed: Vec::new(),
            open: Vec::new(),
            written: Vec::new(),
            stamp: 100,
            next_id: 1,
            next_epoch: 1,
        };
        for log in 0..2 {
            let segment = world.begin(LogId(log), 1);
            world.open.push(segment);
        }
        world
    }

    fn begin(&mut self, log: LogId, id: u32) -> Segment {
        self.next_epoch += 1;
        let mut header = header(id, self.next_epoch);
        header.place.log = log;
        let mut segment = Segment::new(header);
        segment.append(&BeginRecord {
            stamp: Stamp(self.stamp),
            queue_id_next: self.next_id,
        });
        segment
    }

    fn append<'a, R: Record<'a>>(&mut self, log: usize, record: &R, fact: Fact) -> Location {
        if self.random.one_in(25) || !self.open[log].fits(record.framed_bytes()) {
            let place = self.open[log].header.place;
            let next = self.begin(place.log, place.segment.0 + 1);
            let mut full = std::mem::replace(&mut self.open[log], next);
            // Some are cut off instead.
            if !self.random.one_in(4) {
                full.close();
            }
            self.closed.push(full);
        }
        let at = self.open[log].append(record);
        self.written.push(Written {
            at,
            stamp: self.stamp,
            fact,
        });
        at
    }

    /// Envelope and body: where they are.
    fn parts(
        &mut self,
        log: usize,
        queue_id: u64,
        generation: u32,
    ) -> (Place, Vec<Extent>, Vec<Location>) {
        let recipients = [RecipientField {
            forward_path: "r@a.example",
            notify: Notify::Unspecified,
            orcpt: None,
        }];
        let envelope = self.append(
            log,
            &EnvelopeRecord {
                queue_id,
                generation,
                arrival_ms: 1,
                sender: SenderFields::without_parameters(""),
                session: SessionFields::default(),
                queue_name: None,
                recipients: List::new(&recipients),
                attributes: List::default(),
            },
            Fact::Part,
        );
        let mut parts = vec![envelope];
        let mut extents = Vec::new();
        for sequence in 0..self.random.below(4) as u32 {
            let body = vec![b'x'; 1 + self.random.below(300)];
            let at = self.append(
                log,
                &ChunkRecord {
                    queue_id,
                    sequence,
                    body: &body,
                },
                Fact::Part,
            );
            parts.push(at);
            extents.push(Extent {
                segment: at.segment,
                offset: Offset(at.offset.0 + CHUNK_BODY_OFFSET as u32),
                length: body.len() as u32,
            });
        }
        let envelope = Place {
            segment: envelope.segment,
            offset: envelope.offset,
        };
        (envelope, extents, parts)
    }

    fn seal(&mut self, log: usize, fact: SealFact, envelope: Place, extents: &[Extent]) {
        let domains: Vec<_> = fact
            .domains
            .iter()
            .map(|domain| DomainRun {
                recipients: 1,
                domain,
            })
            .collect();
        let done: Vec<_> = fact
            .done
            .iter()
            .map(|&number| RecipientNumber(number))
            .collect();
        let note = fact.note.map(|(key, value)| ([key], [value]));
        let notes: Vec<_> = note
            .iter()
            .map(|(key, value)| NoteField {
                tag: 1,
                key,
                value: Some(value),
            })
            .collect();
        let next_hop = fact.next_hop.clone();
        let record = SealRecord {
            queue_id: fact.queue_id,
            generation: fact.generation,
            stamp: Stamp(self.stamp),
            arrival_ms: 1,
            envelope,
            carried_from: None,
            extents: List::new(extents),
            octets: extents.iter().map(|extent| u64::from(extent.length)).sum(),
            checksum: Checksum::EMPTY,
            form: BodyForm::Plain,
            ends_with_crlf: true,
            eight_bit: false,
            held: fact.held,
            priority: 0,
            deadline: None,
            hold_until_ms: None,
            queue_name: None,
            next_hop: next_hop.as_deref(),
            domains: List::new(&domains),
            done: List::new(&done),
            notes: List::new(&notes),
        };
        self.append(log, &record, Fact::Seal(fact));
    }

    fn some_numbers(&mut self) -> Vec<u32> {
        let bits = self.random.below(16) as u32;
        (0..4).filter(|number| bits >> number & 1 != 0).collect()
    }

    fn step(&mut self) {
        let log = self.random.below(2);
        if self.random.one_in(2) {
            self.stamp += self.random.below(3) as i64;
        }
        let queue_id = 1 + self.random.below(self.next_id as usize + 1) as u64;
        let name = |present: bool| present.then(|| "somewhere".to_owned());
        match self.random.below(12) {
            0..=3 => {
                let queue_id = self.next_id;
                self.next_id += 1;
                let (envelope, extents, parts) = self.parts(log, queue_id, 0);
                if self.random.one_in(8) {
                    return;
                }
                let count = 1 + self.random.below(3);
                let fact = SealFact {
                    queue_id,
                    generation: 0,
                    parts,
                    domains: (0..count).map(|_| DOMAINS[self.random.below(4)]).collect(),
                    held: self.random.one_in(4),
                    next_hop: name(self.random.one_in(6)),
                    done: vec![],
                    note: self
                        .random
                        .one_in(5)
                        .then(|| (self.random.below(4) as u8, 1)),
                };
                self.seal(log, fact, envelope, &extents);
            }
            4 => {
                // Carried forward.
                let old = self
                    .written
                    .iter()
                    .rev()
                    .find_map(|written| match &written.fact {
                        Fact::Seal(seal) if seal.queue_id == queue_id => Some(seal.clone()),
                        _ => None,
                    });
                let Some(mut fact) = old else { return };
                if !self.random.one_in(6) {
                    fact.generation += 1;
                }
                let (envelope, extents, parts) = self.parts(log, queue_id, fact.generation);
                fact.parts = parts;
                fact.done = self.some_numbers();
                fact.done
                    .retain(|&number| (number as usize) < fact.domains.len());
                fact.held = self.random.one_in(4);
                fact.note = None;
                self.seal(log, fact, envelope, &extents);
            }
            5 | 6 => {
                let recipients = self.some_numbers();
                let fields: Vec<_> = recipients.iter().map(|&number| delivered(number)).collect();
                let record = done(queue_id, self.stamp, &fields);
                self.append(
                    log,
                    &record,
                    Fact::Done {
                        queue_id,
                        recipients,
                    },
                );
            }
            7 => {
                let held = self.random.one_in(2);
                let queue_name = name(held && self.random.one_in(2));
                let mark = if held {
                    Mark::Hold {
                        queue_name: queue_name.as_deref(),
                    }
                } else {
                    Mark::Release
                };
                let record = MarkRecord {
                    queue_id,
                    stamp: Stamp(self.stamp),
                    mark,
                };
                let fact = Fact::Hold {
                    queue_id,
                    held,
                    queue_name: queue_name.clone(),
                };
                self.append(log, &record, fact);
            }
            8 => {
                let next_hop = name(self.random.one_in(2));
                let record = MarkRecord {
                    queue_id,
                    stamp: Stamp(self.stamp),
                    mark: Mark::Requeue {
                        next_hop: next_hop.as_deref(),
                    },
                };
                let fact = Fact::Requeue {
                    queue_id,
                    next_hop: next_hop.clone(),
                };
                self.append(log, &record, fact);
            }
            9 => {
                let attempts = self.random.below(9) as u32;
                let recipients = self.some_numbers();
                let numbers: Vec<_> = recipients.iter().map(|&n| RecipientNumber(n)).collect();
                let record = AttemptRecord {
                    queue_id,
                    stamp: Stamp(self.stamp),
                    attempts,
                    next_attempt_ms: 5,
                    told: Told::NOTHING,
                    recipients: List::new(&numbers),
                    error: "451 later",
                };
                let fact = Fact::Attempt {
                    queue_id,
                    attempts,
                    recipients,
                };
                self.append(log, &record, fact);
            }
            10 => {
                let key = self.random.below(4) as u8;
                let value = self.random.one_in(2).then(|| self.random.below(9) as u8);
                let octets = value.map(|value| [value]);
                let record = NoteRecord {
                    stamp: Stamp(self.stamp),
                    tag: 1,
                    key: &[key],
                    value: octets.as_ref().map(|octets| &octets[..]),
                };
                self.append(log, &record, Fact::Note { key, value });
            }
            _ => {
                let transid = self.random.below(4) as u8;
                let queue_id = if self.random.one_in(2) {
                    queue_id
                } else {
                    self.next_id += 1;
                    self.next_id - 1
                };
                let (envelope, extents, parts) = self.parts(log, queue_id, 0);
                let state = PartialState::ALL[self.random.below(3)];
                let stored: u32 = extents.iter().map(|extent| extent.length).sum();
                let offset = self.random.below(stored as usize + 1) as u64;
                let text = transid.to_string();
                let record = PartialRecord {
                    stamp: Stamp(self.stamp),
                    identity: "branch.example",
                    transid: &text,
                    queue_id,
                    state,
                    offset,
                    envelope,
                    form: BodyForm::Plain,
                    eight_bit: false,
                    checksum: Checksum::EMPTY,
                    extents: List::new(&extents),
                };
                let fact = Fact::Partial(PartialModel {
                    transid,
                    queue_id,
                    state,
                    offset,
                    parts,
                });
                self.append(log, &record, fact);
            }
        }
    }

    fn segments(&self) -> Vec<Segment> {
        self.closed.iter().chain(&self.open).cloned().collect()
    }
}

/// What the spool holds, in words.
#[derive(Debug, PartialEq, Eq, Default)]
struct Picture {
    live: BTreeMap<u64, String>,
    /// With the seal that is told of.
    broken: BTreeMap<u64, Location>,
    notes: BTreeMap<u8, Option<u8>>,
    partials: BTreeMap<String, String>,
    done: u64,
    /// Where the newest records of notes are.
    notes_at: BTreeMap<u8, Location>,
}

fn picture(recovered: &Recovered) -> Picture {
    let name = |id: Option<NameId>| id.map(|id| recovered.name(id));
    let live = recovered.messages.iter().map(|message| {
        let pending: Vec<_> = recovered
            .pending(message)
            .map(|(number, domain)| (number.0, recovered.name(domain)))
            .collect();
        let mut attempts: Vec<_> = message
            .attempts
            .iter()
            .flat_map(|attempt| attempt.recipients.iter().map(|n| (n.0, attempt.attempts)))
            .collect();
        attempts.sort_unstable();
        let text = format!(
            "{} {} {:?} {:?} {pending:?} {attempts:?}",
            message.seal,
            message.held,
            name(message.queue_name),
            name(message.next_hop),
        );
        (message.queue_id, text)
    });
    let broken = recovered.broken.iter();
    let broken = broken.map(|broken| (broken.message.queue_id, broken.message.seal));
    let notes = recovered.notes.iter();
    Picture {
        live: live.collect(),
        broken: broken.collect(),
        notes_at: notes.clone().map(|note| (note.key[0], note.at)).collect(),
        notes: notes
            .map(|note| (note.key[0], note.value.as_ref().map(|value| value[0])))
            .collect(),
        partials: recovered
            .partials
            .iter()
            .map(|partial| {
                let text = format!(
                    "{} {:?} {} {}",
                    partial.queue_id, partial.state, partial.sealed, partial.offset
                );
                (partial.transid.to_string(), text)
            })
            .collect(),
        done: recovered.done,
    }
}

/// The same by looking through all records that are there, in the segments that are.
fn model(written: &[&Written], segments: &BTreeSet<SegmentPlace>) -> Picture {
    let there: BTreeSet<Location> = written.iter().map(|written| written.at).collect();
    let mut sorted = written.to_vec();
    sorted.sort_by_key(|written| (written.stamp, written.at));
    let whole = |parts: &[Location]| parts.iter().all(|part| there.contains(part));
    // The first part that is not there was hit, and has not gone with its segment.
    let torn = |parts: &[Location]| {
        let missing = parts.iter().find(|part| !there.contains(part));
        missing.is_some_and(|part| segments.contains(&part.segment_place()))
    };
    let mut whole_ids = BTreeSet::new();
    let mut picture = Picture::default();

    let mut ids = BTreeSet::new();
    for written in &sorted {
        if let Fact::Seal(seal) = &written.fact {
            ids.insert(seal.queue_id);
        }
    }
    let done_of = |id: u64| -> BTreeSet<u32> {
        let numbers = sorted.iter().flat_map(|written| match &written.fact {
            Fact::Done {
                queue_id,
                recipients,
            } if *queue_id == id => recipients.clone(),
            Fact::Seal(seal) if seal.queue_id == id => seal.done.clone(),
            _ => vec![],
        });
        numbers.collect()
    };
    for &id in &ids {
        let done = done_of(id);
        let seals = sorted.iter().filter_map(|written| match &written.fact {
            Fact::Seal(seal) if seal.queue_id == id => Some((written, seal)),
            _ => None,
        });
        let newest = seals
            .clone()
            .filter(|(_, seal)| whole(&seal.parts))
            .max_by_key(|(written, seal)| (seal.generation, written.at));
        whole_ids.extend(newest.is_some().then_some(id));
        let ended = |seal: &SealFact| (0..seal.domains.len() as u32).all(|n| done.contains(&n));
        let Some((at, seal)) = newest else {
            let (at, seal) = seals
                .max_by_key(|(written, seal)| (seal.generation, written.at))
                .expect("the id came from a seal");
            if !ended(seal) {
                picture.broken.insert(id, at.at);
            }
            continue;
        };
        if ended(seal) {
            picture.done += 1;
            continue;
        }
        let mut held = (seal.held, None);
        let mut next_hop = seal.next_hop.clone();
        let mut attempts = BTreeMap::new();
        for written in &sorted {
            let newer = (written.stamp, written.at) > (at.stamp, at.at);
            match &written.fact {
                Fact::Hold {
                    queue_id,
                    held: hold,
                    queue_name,
                } if *queue_id == id && newer => held = (*hold, queue_name.clone()),
                Fact::Requeue {
                    queue_id,
                    next_hop: hop,
                } if *queue_id == id && newer => next_hop = hop.clone(),
                Fact::Attempt {
                    queue_id,
                    attempts: number,
                    recipients,
                } if *queue_id == id => {
                    attempts.extend(recipients.iter().map(|&recipient| (recipient, *number)));
                }
                _ => {}
            }
        }
        attempts.retain(|recipient, _| !done.contains(recipient));
        let attempts: Vec<_> = attempts.into_iter().collect();
        let pending: Vec<_> = (0..)
            .zip(&seal.domains)
            .filter(|(number, _)| !done.contains(number))
            .collect();
        let text = format!(
            "{} {} {:?} {:?} {pending:?} {attempts:?}",
            at.at, held.0, held.1, next_hop
        );
        picture.live.insert(id, text);
    }
    for written in &sorted {
        let note = match &written.fact {
            Fact::Note { key, value } => Some((*key, *value)),
            // What has to be true exactly if the message was taken is not true if the
            // message is not there.
            Fact::Seal(seal) if picture.broken.contains_key(&seal.queue_id) => None,
            Fact::Seal(seal) if torn(&seal.parts) && !whole_ids.contains(&seal.queue_id) => None,
            Fact::Seal(seal) => seal.note.map(|(key, value)| (key, Some(value))),
            _ => None,
        };
        if let Some((key, value)) = note {
            picture.notes.insert(key, value);
            picture.notes_at.insert(key, written.at);
        }
        if let Fact::Partial(partial) = &written.fact {
            let sealed = ids.contains(&partial.queue_id) || !done_of(partial.queue_id).is_empty();
            let state = match partial.state {
                PartialState::Complete if !sealed => PartialState::Receiving,
                state => state,
            };
            let lost = state == PartialState::Receiving && !sealed && !whole(&partial.parts);
            let transid = partial.transid.to_string();
            if lost {
                picture.partials.remove(&transid);
            } else {
                let text = format!("{} {state:?} {sealed} {}", partial.queue_id, partial.offset);
                picture.partials.insert(transid, text);
            }
        }
    }
    picture
}

fn feed(segments: &[Segment], random: &mut Random, summaries: bool) -> Recovered {
    let mut order: Vec<&Segment> = segments.iter().collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    // Folded at once, or each of some parts by itself: the same comes out.
    let mut folds: Vec<_> = (0..1 + random.below(3))
        .map(|_| Recovery::new(Some(SPOOL)))
        .collect();
    for segment in order {
        let summary = (summaries && random.one_in(2)).then(|| segment.summary());
        let place = random.below(folds.len());
        let source = folds[place].segment(segment.header.place, &segment.file, summary.as_deref());
        let expected = match summary {
            Some(_) => Source::Summary,
            None => Source::Scan,
        };
        assert_eq!(source, expected);
    }
    let mut recovery = folds.swap_remove(random.below(folds.len()));
    folds.into_iter().for_each(|fold| recovery.absorb(fold));
    recovery.finish()
}

#[test]
fn recovery_agrees_with_a_plain_model() {
    let mut seen = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..20 + world.random.below(150) {
            world.step();
        }
        let mut segments = world.segments();
        // Records are hit, and whole segments are lost.
        let mut random = Random(seed ^ 0xDEAD);
        let mut lost = BTreeSet::new();
        if seed % 3 != 0 {
            for segment in &mut segments {
                for &(begin, _, kind) in &segment.records.clone() {
                    let at = segment.header.place.at(Offset(begin));
                    if random.one_in(if seed % 3 == 1 { 60 } else { 8 }) && kind != RecordKind::End
                    {
                        segment.file[begin as usize + random.below(RECORD_HEADER_BYTES)] ^= 4;
                        lost.insert(at);
                    }
                }
            }
            if seed % 5 == 0 {
                let gone = segments.swap_remove(random.below(segments.len()));
                let records = gone.records.iter();
                lost.extend(records.map(|record| gone.header.place.at(Offset(record.0))));
            }
        }
        let there: Vec<&Written> = world
            .written
            .iter()
            .filter(|written| !lost.contains(&written.at))
            .collect();
        let places = segments.iter().map(|segment| segment.header.place);
        let expected = model(&there, &places.collect());
        for round in 0..4 {
            let recovered = feed(&segments, &mut random, round % 2 == 1);
            assert_eq!(picture(&recovered), expected, "seed {seed} round {round}");
            assert_eq!(
                recovered.broken.len(),
                expected.broken.len(),
                "each is told of once"
            );
            assert!(recovered.stamp.0 <= world.stamp);
            if seed % 3 == 0 {
                let stamped = world
                    .written
                    .iter()
                    .filter(|w| !matches!(w.fact, Fact::Part));
                let newest = stamped.map(|written| written.stamp).max().unwrap_or(0);
                assert!(recovered.stamp.0 >= newest);
                assert_eq!(recovered.severity(), Severity::Silent);
                assert_eq!(recovered.broken.len(), 0);
            }
            let live: u32 = recovered.segments.iter().map(|segment| segment.live).sum();
            assert_eq!(live as usize, recovered.messages.len());
        }
        seen.0 += expected.live.len();
        seen.1 += expected.broken.len();
        seen.2 += expected.partials.len();
        seen.3 += expected.done as usize;
    }
    // The cases are there: a test of nothing would pass as well.
    assert!(
        seen.0 > 1000 && seen.1 > 100 && seen.2 > 100 && seen.3 > 100,
        "{seen:?}"
    );
}

/// No queue id that is in the spool, in whatever record, is given out again.
#[test]
fn queue_ids_go_on_behind_the_last() {
    let check = |fill: &dyn Fn(&mut Segment), expected: u64| {
        let mut segment = Segment::new(header(1, 5));
        fill(&mut segment);
        let mut recovery = Recovery::new(None);
        recovery.segment(place(1), &segment.file, None);
        assert_eq!(recovery.finish().queue_id_next(3), expected);
    };
    let id = |sequence: u64| 3 << 56 | sequence;
    check(&|_| {}, id(0));
    let begin = |segment: &mut Segment, queue_id_next| {
        segment.append(&BeginRecord {
            stamp: Stamp(0),
            queue_id_next,
        });
    };
    check(&|segment| begin(segment, id(0)), id(0));
    check(&|segment| begin(segment, id(7)), id(7));
    let chunk = |segment: &mut Segment, queue_id| {
        segment.append(&ChunkRecord {
            queue_id,
            sequence: 0,
            body: b"",
        });
    };
    check(&|segment| chunk(segment, id(9)), id(10));
    check(&|segment| chunk(segment, 4 << 56 | 9), id(0));
    check(
        &|segment| {
            segment.append(&done(id(4), 0, &[]));
            begin(segment, id(2));
        },
        id(5),
    );
}

/// Segments that are not read: each look that has nothing to do with records.
#[test]
fn segments_that_do_not_count() {
    let check = |name: u32, file: &[u8], expected: Look, fate: Fate| {
        let good = Segment::new(header(9, 1));
        let mut recovery = Recovery::new(Some(SPOOL));
        assert_eq!(recovery.segment(place(name), file, None), Source::Header);
        recovery.segment(place(9), &good.file, None);
        let recovered = recovery.finish();
        let facts = recovered
            .segments
            .iter()
            .find(|facts| facts.place == place(name));
        let facts = facts.expect("each segment is reported");
        assert_eq!(
            (facts.look, facts.verdict.fate),
            (expected, fate),
            "{facts}"
        );
        assert!(recovered.messages.is_empty());
    };
    let small = Small {
        queue_id: 1,
        stamp: 1,
        domains: &["a.example"],
        body: b"x\r\n",
    };
    let mut segment = Segment::new(header(1, 5));
    append_message(&mut segment, &small);
    check(1, &[], Look::Unbegun, Fate::Aside);
    check(10, &[0; 20_000], Look::Unbegun, Fate::Aside);
    check(2, &segment.file, Look::OtherSegment, Fate::Aside);
    check(10, &segment.file, Look::OtherSegment, Fate::Aside);
    check(1, &segment.file[1..], Look::HeaderDamaged, Fate::Aside);
    let mut other = header(1, 5);
    other.spool = SpoolUuid([0; 16]);
    let mut other = Segment::new(other);
    append_message(&mut other, &small);
    check(1, &other.file, Look::OtherSpool, Fate::Aside);
    // A header of version 2, as version 1 would have written it.
    let mut newer = segment.file.clone();
    for copy in [0, HEADER_COPY_BYTES] {
        newer[copy + 8] = 2;
        let checksum = Checksum::EMPTY.append(&newer[copy..copy + 72]).as_u32();
        newer[copy + 72..copy + 76].copy_from_slice(&checksum.to_le_bytes());
    }
    check(1, &newer, Look::NewerVersion, Fate::Aside);
}

/// A summary that is not that of the segment is not believed.
#[test]
fn summaries_of_others_do_not_count() {
    let small = Small {
        queue_id: 1,
        stamp: 1,
        domains: &["a.example"],
        body: b"x\r\n",
    };
    let mut segment = Segment::new(header(1, 5));
    append_message(&mut segment, &small);
    segment.close();
    let check = |summary: &[u8], expected: Option<SummaryFault>| {
        let mut recovery = Recovery::new(None);
        let source = recovery.segment(place(1), &segment.file, Some(summary));
        let recovered = recovery.finish();
        assert_eq!(recovered.segments[0].summary_fault, expected);
        assert_eq!(source == Source::Summary, expected.is_none());
        assert_eq!(recovered.messages.len(), 1);
    };
    let summary = segment.summary();
    check(&summary, None);
    for other in [header(2, 5), header(1, 6)] {
        check(
            &Segment::new(other).summary(),
            Some(SummaryFault::OtherSegment),
        );
    }
    for cut in 0..summary.len() {
        check(&summary[..cut], Some(SummaryFault::Damaged));
    }
    let mut flipped = summary.clone();
    for bit in 0..summary.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(&flipped, Some(SummaryFault::Damaged));
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A million messages have to fit beside everything else.
#[test]
fn a_message_in_memory_is_small() {
    assert!(
        size_of::<LiveMessage>() <= 160,
        "{}",
        size_of::<LiveMessage>()
    );
}

/// Records that are whole and not understood are told, and nothing else suffers.
#[test]
fn records_that_are_not_understood() {
    let check = |change: &dyn Fn(&mut [u8]), kind: Option<RecordKind>, summarized: bool| {
        let mut segment = Segment::new(header(1, 5));
        let record = MarkRecord {
            queue_id: 1,
            stamp: Stamp(1),
            mark: Mark::Release,
        };
        let at = segment.append(&record).offset.0 as usize;
        let seat = Seat {
            epoch: segment.header.epoch,
            offset: Offset(at as u32),
        };
        let record = &mut segment.file[at..segment.end as usize];
        change(record);
        let length = u32::from_le_bytes(record[8..12].try_into().expect("four octets")) as usize;
        let checksum = Checksum::EMPTY
            .append(&seat.epoch.0.to_le_bytes())
            .append(&seat.offset.0.to_le_bytes())
            .append(&record[8..16 + length]);
        record[4..8].copy_from_slice(&checksum.as_u32().to_le_bytes());
        let small = Small {
            queue_id: 1,
            stamp: 1,
            domains: &["a.example"],
            body: b"x\r\n",
        };
        append_message(&mut segment, &small);
        segment.close();
        let summary = SummaryBuilder::scan(&segment.file, &segment.header);
        assert_eq!(summary.is_some(), summarized);
        let mut recovery = Recovery::new(None);
        recovery.segment(place(1), &segment.file, summary.as_deref());
        let recovered = recovery.finish();
        assert_eq!(recovered.messages.len(), 1);
        let facts = &recovered.segments[0];
        assert_eq!((facts.undecodable, facts.records), (1, 6));
        let first = facts.undecodable_first.expect("there is one");
        assert_eq!((first.offset, first.kind), (seat.offset, kind));
        assert_eq!(first.error.is_some(), kind.is_some());
        assert!(
            facts.to_string().contains("1 record was not understood"),
            "{facts}"
        );
    };
    check(&|record| record[12] = 200, None, false);
    check(&|record| record[12] = 0, None, false);
    check(&|record| record[13] = 1, None, false);
    check(&|record| record[15] = 1, None, false);
    check(&|record| record[8] -= 1, Some(RecordKind::Mark), true);
    check(&|record| record[32] = 9, Some(RecordKind::Mark), true);
}

/// The body of a message is what was sealed, or it is told what is wrong.
#[test]
fn bodies_are_verified() {
    let small = Small {
        queue_id: 1,
        stamp: 1,
        domains: &["a.example"],
        body: b"Subject: x\r\n\r\nHello.\r\n",
    };
    let mut segment = Segment::new(header(1, 5));
    let (envelope, mut extents) = append_parts(&mut segment, &small);
    let check = |extents: &[Extent], expected| {
        let runs = runs(small.domains);
        let mut record = seal(&small, envelope, extents, &runs);
        record.octets = extents.iter().map(|extent| u64::from(extent.length)).sum();
        let file = |id| (id == SegmentId(1)).then_some(&segment.file[..]);
        assert_eq!(record.verify_body(file), expected);
    };
    check(&extents, Ok(()));
    check(&extents[..1], Err(BodyFault::Checksum));
    extents.swap(0, 1);
    check(&extents, Err(BodyFault::Checksum));
    extents[1].segment = SegmentId(2);
    check(&extents, Err(BodyFault::NoSegment(SegmentId(2))));
    extents[0].offset = Offset(SEGMENT_BYTES_MIN - 1);
    check(&extents, Err(BodyFault::Ends(SegmentId(1))));
    extents[0].length = u32::MAX;
    check(&extents, Err(BodyFault::Ends(SegmentId(1))));
}
