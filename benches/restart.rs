//! How long does a start take with a million messages in the spool?
//!
//! The spool is made below `TURNSPOOL_BENCH_DIR`, or where temporary files go: messages of
//! half a KiB from as many senders to 10,000 domains, a tenth of them done again. It is
//! read once from summaries and once by scanning; both warm, since a disk's own speed is
//! no question of ours, and what is counted is the time of the processor, since others
//! may use the machine.
//!
//! Not in it: filing what was found into the queues. The program itself, with a million
//! messages held for 10,000 customers in two logs, took 3.0 to 3.8 s from its start to its
//! first greeting, on an idle machine with two processors: 1.4 to 2.0 s for reading the
//! logs, then 0.8 s for the queues of each, all of it one after the other. About a
//! second is the goal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use spool_format::{
    BodyForm, DoneField, LogId, Outcome, RecipientNumber, SegmentPlace, SessionFields, SpoolUuid,
};
use turnspool::mail::{Envelope, Recipient, Sender};
use turnspool::spool::commit::Ticket;
use turnspool::spool::log::{Gone, Identity, Log, Output, Rest, Settings};
use turnspool::spool::message::{BodyFacts, Contents, Holding};
use turnspool::spool::recovery::{Restart, Restarted, read_directory};
use turnspool::spool::segment::{Directory, Fill, OpenSegments};
use turnspool::time::{Now, WallTime};

const LOG: LogId = LogId(0);
const IDENTITY: Identity = Identity {
    spool: SpoolUuid([1; 16]),
    log: LOG,
};
const SETTINGS: Settings = Settings {
    segment_bytes: 64 << 20,
    size_max: 1 << 40,
    free_min: 0,
};

fn drive(log: &mut Log, directory: &Directory, open: &mut OpenSegments) {
    let now = Now::default();
    while let Some(output) = log.poll(now) {
        match output {
            Output::Write {
                segment,
                offset,
                bytes,
                durability,
            } => {
                let file = open.get(SegmentPlace { log: LOG, segment }).unwrap();
                let result = file.write(offset, &bytes, durability);
                log.written(result, bytes);
            }
            Output::SegmentNeeded { header, .. } => {
                let segment = directory.prepare(&header, Fill::Allocated).unwrap();
                open.insert(Arc::new(segment));
                log.segment_ready(header.place.segment);
            }
            Output::SegmentClosed { segment } => {
                let file = open.get(SegmentPlace { log: LOG, segment }).unwrap();
                let summary = file.summary().unwrap();
                directory.write_summary(segment, &summary).unwrap();
            }
            Output::SegmentDead { segment, .. } => {
                open.remove(segment);
                directory.remove(segment.segment).unwrap();
                log.segment_gone(segment, Gone::Removed);
            }
            _ => {}
        }
    }
}

fn fill(directory: &Directory, messages: u64) {
    let mut log = Log::new(IDENTITY, SETTINGS, 1, 1 << 50);
    let mut open = OpenSegments::default();
    let now = Now::default();
    let body = [b'x'; 512];
    let facts = BodyFacts {
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
    };
    drive(&mut log, directory, &mut open);
    for number in 0..messages {
        let from = format!("sender{number}@client.example");
        let to = format!("user@d{}.example", number % 10_000);
        let envelope = Envelope {
            sender: Sender::new(from.parse().unwrap()),
            recipients: vec![Recipient::new(to.parse().unwrap())],
        };
        let contents = Contents {
            envelope: &envelope,
            session: SessionFields::default(),
            arrival: WallTime::EPOCH,
            holding: Holding::Free,
            next_hop: None,
        };
        let queue_id = log.next_queue_id();
        let mut message = log.begin(now, queue_id, &contents, Some(512)).unwrap();
        log.body(now, &mut message, &[&body]).unwrap();
        log.seal(now, message, &contents, facts, &[], Ticket(number))
            .unwrap();
        if number % 1000 == 999 {
            drive(&mut log, directory, &mut open);
        }
        if number % 10 == 9 {
            let done = DoneField {
                recipient: RecipientNumber(0),
                outcome: Outcome::Delivered,
            };
            log.done(now, queue_id, &[done], Rest::Nobody).unwrap();
        }
    }
    log.flush();
    drive(&mut log, directory, &mut open);
}

fn start(directory: &Directory) -> (Restarted, Log) {
    let mut restart = Restart::new(Some(IDENTITY.spool));
    read_directory(&mut restart, directory).unwrap();
    let restarted = restart.finish();
    let log = restarted.log(IDENTITY, SETTINGS, &[LOG], 2, 1 << 50);
    (restarted, log)
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it is after its beginning")
}

fn restart(c: &mut Criterion) {
    // Cargo says "--bench" when it is to be measured, and nothing in a test.
    let is_test = !std::env::args().any(|a| a == "--bench");
    let messages = if is_test { 5_000 } else { 1_000_000 };
    let keep = tempfile::tempdir().unwrap();
    let path = std::env::var_os("TURNSPOOL_BENCH_DIR")
        .map_or_else(|| keep.path().to_owned(), PathBuf::from)
        .join("restart-bench");
    let directory = Directory::open(&path, LOG).unwrap();
    fill(&directory, messages);
    let mut group = c.benchmark_group("restart");
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(20));
    group.bench_function(format!("{messages} messages, summaries"), |b| {
        b.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                let begin = processor_time();
                let found = start(&directory);
                time += processor_time() - begin;
                // Freeing the memory is not what is waited for.
                drop(found);
            }
            time
        });
    });
    group.bench_function(format!("{messages} messages, scans"), |b| {
        b.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                let listing = directory.list().unwrap();
                for segment in listing.summaries {
                    directory.remove_summary(segment).unwrap();
                }
                let begin = processor_time();
                let (restarted, log) = start(&directory);
                time += processor_time() - begin;
                let live = usize::try_from(messages - messages / 10).unwrap();
                assert_eq!(restarted.recovered.messages.len(), live);
                assert_eq!(log.messages_count(), live);
            }
            time
        });
    });
    group.finish();
    drop(directory);
    std::fs::remove_dir_all(&path).unwrap();
}

criterion_group!(benches, restart);
criterion_main!(benches);
