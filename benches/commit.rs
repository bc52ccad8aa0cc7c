//! What does it cost to make mail durable, and by which way is it cheapest?
//!
//! Three questions that decisions of the spool hang on:
//!
//! - `append`: what does a message of 4 KiB cost in the machine, without a disk?
//! - `commit`: what does a batch of 1, 8, 64, 256 such messages cost on a real file, by
//!   one write with `RWF_DSYNC` or by a write and `fdatasync`; in a segment that was only
//!   allocated, filled with zeros, or used before?
//! - `prepare`: what does preparing a segment cost, and how many octets reach the disk for
//!   each octet of mail? (Printed, not timed by criterion; the count is that of the whole
//!   disk, so measure on a quiet machine.)
//!
//! How large batches are in the running program: of sessions that each wait for their
//! reply, half on average (20 sessions: 9.9 messages a sync, on a disk that was busy and
//! needed some milliseconds for one). While one half is synced the other half comes; waiting
//! until all are there would leave the processor idle during the sync. Where a sync is slow
//! it could pay, but a pause of a millisecond before the first message of a batch brought no
//! more than the noise there (1.07 times the rate, 0.84 to 1.20), and was left out.
//!
//! Files are made below `TURNSPOOL_BENCH_DIR`, or where temporary files go.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spool_format::{
    BodyForm, DoneField, Epoch, LogId, Offset, Outcome, RecipientNumber, SegmentHeader, SegmentId,
    SegmentPlace, SessionFields, SpoolUuid,
};
use turnspool::mail::{Envelope, Recipient, Sender};
use turnspool::spool::commit::{Durability, Ticket};
use turnspool::spool::log::{Gone, Identity, Log, Output, Rest, Settings};
use turnspool::spool::message::{BodyFacts, Contents, Holding};
use turnspool::spool::segment::{Directory, Fill, Segment};
use turnspool::time::{Now, WallTime};

const LOG: LogId = LogId(0);
const BODY_BYTES: usize = 4096;
/// Envelope, chunk and seal of such a message with one recipient.
const MESSAGE_BYTES: usize = 4552;

fn envelope() -> Envelope {
    Envelope {
        sender: Sender::new("sender@client.example".parse().unwrap()),
        recipients: vec![Recipient::new("recipient@site.example".parse().unwrap())],
    }
}

/// Appends, seals, commits and finishes a message; the disk takes no time.
fn append(c: &mut Criterion) {
    let identity = Identity {
        spool: SpoolUuid([1; 16]),
        log: LOG,
    };
    let settings = Settings {
        segment_bytes: 64 << 20,
        size_max: 1 << 40,
        free_min: 0,
    };
    let mut log = Log::new(identity, settings, 1, 1 << 50);
    let now = Now::default();
    let envelope = envelope();
    let contents = Contents {
        envelope: &envelope,
        session: SessionFields::default(),
        arrival: WallTime::EPOCH,
        holding: Holding::Free,
        next_hop: None,
    };
    let facts = BodyFacts {
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
    };
    let body = vec![b'x'; BODY_BYTES];
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    group.bench_function("message of 4 KiB", |b| {
        b.iter(|| {
            let queue_id = log.next_queue_id();
            let mut message = log
                .begin(now, queue_id, &contents, Some(BODY_BYTES as u64))
                .unwrap();
            log.body(now, &mut message, &[&body]).unwrap();
            log.seal(now, message, &contents, facts, &[], Ticket(1))
                .unwrap();
            // A busy core commits some dozens of messages at once.
            if queue_id.sequence().is_multiple_of(32) {
                instantly(&mut log, now);
            }
            let done = DoneField {
                recipient: RecipientNumber(0),
                outcome: Outcome::Delivered,
            };
            log.done(now, queue_id, &[done], Rest::Nobody).unwrap();
        });
    });
    group.finish();
}

fn instantly(log: &mut Log, now: Now) {
    while let Some(output) = log.poll(now) {
        match output {
            Output::Write { bytes, .. } => log.written(Ok(()), black_box(bytes)),
            Output::SegmentNeeded { header, .. } => log.segment_ready(header.place.segment),
            Output::SegmentDead { segment, .. } => log.segment_gone(segment, Gone::Removed),
            _ => {}
        }
    }
}

/// How a segment came to be.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    Allocated,
    Zeroed,
    Reused,
}

impl Made {
    const ALL: [Self; 3] = [Self::Allocated, Self::Zeroed, Self::Reused];

    fn name(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Zeroed => "zeroed",
            Self::Reused => "reused",
        }
    }
}

struct Bench {
    directory: Directory,
    segment_bytes: u32,
    next: u32,
    /// For [`Made::Reused`]: a written segment that is a spare now.
    spare: Option<SegmentId>,
}

impl Bench {
    fn new(path: &Path, segment_bytes: u32) -> Self {
        Self {
            directory: Directory::open(path, LOG).unwrap(),
            segment_bytes,
            next: 1,
            spare: None,
        }
    }

    fn header(&mut self) -> SegmentHeader {
        let segment = SegmentId(self.next);
        self.next += 1;
        SegmentHeader {
            spool: SpoolUuid([1; 16]),
            place: SegmentPlace { log: LOG, segment },
            epoch: Epoch(u64::from(segment.0)),
            previous_epoch: Epoch(0),
            created_ms: 0,
            segment_bytes: self.segment_bytes,
        }
    }

    fn make(&mut self, made: Made) -> Segment {
        let header = self.header();
        match made {
            Made::Allocated => self.directory.prepare(&header, Fill::Allocated).unwrap(),
            Made::Zeroed => self.directory.prepare(&header, Fill::Zeroed).unwrap(),
            Made::Reused => {
                let spare = self.spare.take().unwrap_or_else(|| {
                    let old = self.header();
                    let segment = self.directory.prepare(&old, Fill::Allocated).unwrap();
                    let room = self.segment_bytes as usize - 8192;
                    let octets = vec![7; room];
                    let written = segment.write(Offset(8192), &octets, Durability::File);
                    written.unwrap();
                    self.retire(segment)
                });
                self.directory.reuse(spare, header).unwrap()
            }
        }
    }

    fn retire(&self, segment: Segment) -> SegmentId {
        let id = segment.place().segment;
        let retired = std::sync::Arc::new(segment).retire(&self.directory);
        retired.map_err(|(_, error)| error).unwrap();
        id
    }

    fn drop_segment(&mut self, segment: Segment, made: Made) {
        if made == Made::Reused {
            self.spare = Some(self.retire(segment));
        } else {
            let id = segment.place().segment;
            drop(segment);
            self.directory.remove(id).unwrap();
        }
    }
}

fn place() -> (Option<tempfile::TempDir>, PathBuf) {
    match std::env::var_os("TURNSPOOL_BENCH_DIR") {
        Some(path) => (None, PathBuf::from(path).join("commit-bench")),
        None => {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("commit-bench");
            (Some(place), path)
        }
    }
}

/// Cargo says "--bench" when it is to be measured, and nothing in a test.
fn segment_bytes() -> u32 {
    let is_measured = std::env::args().any(|a| a == "--bench");
    if is_measured { 64 << 20 } else { 2 << 20 }
}

/// One batch, durable, by way and size and kind of segment.
fn commit(c: &mut Criterion) {
    let (_keep, path) = place();
    let segment_bytes = segment_bytes();
    let mut bench = Bench::new(&path, segment_bytes);
    let mut group = c.benchmark_group("commit");
    group.sample_size(20);
    for made in Made::ALL {
        for messages in [1, 8, 64, 256] {
            for (way, durability) in [
                ("dsync", Durability::Range),
                ("fdatasync", Durability::File),
            ] {
                let batch = vec![b'm'; messages * MESSAGE_BYTES];
                group.throughput(Throughput::Elements(messages as u64));
                let name = format!("{}/{way}", made.name());
                let mut segment = Some(bench.make(made));
                let mut at = 8192;
                group.bench_with_input(BenchmarkId::new(name, messages), &batch, |b, batch| {
                    b.iter_custom(|rounds| {
                        let mut time = std::time::Duration::ZERO;
                        for _ in 0..rounds {
                            if at as usize + batch.len() > segment_bytes as usize {
                                bench.drop_segment(segment.take().unwrap(), made);
                                segment = Some(bench.make(made));
                                at = 8192;
                            }
                            let file = segment.as_ref().unwrap();
                            let begin = Instant::now();
                            file.write(Offset(at), batch, durability).unwrap();
                            time += begin.elapsed();
                            at += u32::try_from(batch.len()).unwrap();
                        }
                        time
                    });
                });
                bench.drop_segment(segment.take().unwrap(), made);
            }
        }
    }
    group.finish();
}

/// Octets written to all disks since the start of the machine: those of partitions and
/// of devices that are no disks are not counted.
fn disk_octets() -> u64 {
    let devices = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    devices
        .filter(|device| device.path().join("device").exists())
        .filter_map(|device| std::fs::read_to_string(device.path().join("stat")).ok())
        .filter_map(|stat| stat.split_whitespace().nth(6)?.parse::<u64>().ok())
        .map(|sectors| sectors * 512)
        .sum()
}

/// Fills a segment with batches, and prints what it took.
fn prepare(c: &mut Criterion) {
    let segment_bytes = segment_bytes();
    let (_keep, path) = place();
    let mut bench = Bench::new(&path.with_extension("prepare"), segment_bytes);
    let group = c.benchmark_group("prepare");
    println!("segment    batch  prepare ms  us/sync  disk octets per octet of mail");
    for made in Made::ALL {
        for messages in [1, 16, 128] {
            if made == Made::Reused {
                // The first use is not what is measured.
                let first = bench.make(made);
                bench.drop_segment(first, made);
            }
            let (octets, begin) = (disk_octets(), Instant::now());
            let segment = bench.make(made);
            let prepared = begin.elapsed();
            let batch = vec![b'm'; messages * MESSAGE_BYTES];
            let (mut at, mut batches) = (8192, 0);
            let end = segment_bytes / if messages == 1 { 4 } else { 1 };
            let begin = Instant::now();
            while at as usize + batch.len() <= end as usize {
                segment
                    .write(Offset(at), &batch, Durability::Range)
                    .unwrap();
                at += u32::try_from(batch.len()).unwrap();
                batches += 1;
            }
            let written = begin.elapsed();
            // Of a segment that is filled in part, its part of the preparation counts.
            let mail = f64::from(at - 8192);
            let disk = (disk_octets() - octets) as f64;
            println!(
                "{:10} {messages:5}  {:10.1}  {:7.0}  {:.3}",
                made.name(),
                prepared.as_secs_f64() * 1e3,
                written.as_secs_f64() * 1e6 / f64::from(batches),
                disk / mail
            );
            bench.drop_segment(segment, made);
        }
    }
    group.finish();
}

criterion_group!(benches, append, commit, prepare);
criterion_main!(benches);
