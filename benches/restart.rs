//! How long does a start take with a million messages in the spool?
//!
//! The spool is made below `TURNSPOOL_BENCH_DIR`, or where temporary files go: two logs
//! with messages of half a KiB from as many senders to 10,000 customers, a tenth of them
//! done again. It is read once from summaries and once by scanning; both warm, since a
//! disk's own speed is no question of ours. Everything that the program does between its
//! locks and its first connection is in it, on as many threads as there. What is counted
//! is the time of the processors, since others may use the machine.
//!
//! Measured with the program itself, built for release, with 10,000 customers in its
//! configuration, killed before, from its start to its first greeting, on two processors of
//! which each is about 1.3 times as slow as in earlier measurements, and with nothing else
//! to do, in one run: 1.9 to 2.2 s before (3.1 to 3.4 s of processor time), 1.12 to 1.33 s now
//! (1.8 to 2.1 s). Where it went: 0.25 s into the configuration, of which 0.1 s cleared
//! huge pages that nobody had use for; 0.95 s into reading, a quarter of it zeros of segments
//! that were never written; 0.5 s into copying and sorting what was read, now 0.09 s; 0.4 s
//! into the queue.
//! Its memory was 186 to 207 octets a message above that of the process without mail;
//! `tests/queue_memory.rs` counts 171 of them.
//!
//! With `TURNSPOOL_BENCH_DIR` the spool stays, with a configuration, so that the program
//! itself can be started with it: `turnspool serve --config DIR/turnspool.toml`.
//!
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hashbrown::HashMap;
use spool_format::{
    BodyForm, DoneField, LogId, Outcome, RecipientNumber, SegmentPlace, SessionFields, SpoolUuid,
};
use turnspool::config;
use turnspool::config::surroundings::Surroundings;
use turnspool::core::restart::enqueue;
use turnspool::core::settings::Settings;
use turnspool::mail::{Envelope, Recipient, Sender};
use turnspool::queue::{self, CoreNumber, Ledger, Permits, Schedule};
use turnspool::runtime::recall::{recall, side_by_side};
use turnspool::runtime::settings::settings;
use turnspool::runtime::storeroom::log_path;
use turnspool::spool::commit::Ticket;
use turnspool::spool::log::{Gone, Identity, Log, Output, Rest, Settings as LogSettings};
use turnspool::spool::message::{BodyFacts, Contents, Holding};
use turnspool::spool::segment::{Directory, Fill, OpenSegments};
use turnspool::time::{Instant, Now, WallTime};

const CORES: u8 = 2;
const CUSTOMERS: u64 = 10_000;
const SPOOL: SpoolUuid = SpoolUuid([1; 16]);
const LOG_SETTINGS: LogSettings = LogSettings {
    segment_bytes: 64 << 20,
    size_max: 1 << 40,
    free_min: 0,
};

/// What comes now does not expire while it is measured.
fn today() -> Now {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Now {
        instant: Instant::START,
        wall: WallTime::EPOCH + since,
    }
}

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
                let log_id = directory.log();
                let file = open
                    .get(SegmentPlace {
                        log: log_id,
                        segment,
                    })
                    .unwrap();
                let result = file.write(offset, &bytes, durability);
                log.written(result, bytes);
            }
            Output::SegmentNeeded { header, .. } => {
                let segment = directory.prepare(&header, Fill::Allocated).unwrap();
                open.insert(Arc::new(segment));
                log.segment_ready(header.place.segment);
            }
            Output::SegmentClosed { segment } => {
                let log_id = directory.log();
                let file = open
                    .get(SegmentPlace {
                        log: log_id,
                        segment,
                    })
                    .unwrap();
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

/// So many messages to be delivered, and a ninth as many that are done.
fn fill(directory: &Directory, live: u64) {
    let identity = Identity {
        spool: SPOOL,
        log: directory.log(),
    };
    let mut log = Log::new(identity, LOG_SETTINGS, 1, 1 << 50);
    let mut open = OpenSegments::default();
    let now = Now::default();
    let body = [b'x'; 512];
    let facts = BodyFacts {
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
    };
    drive(&mut log, directory, &mut open);
    let arrived = today().wall;
    let mut left = live;
    for number in 0.. {
        if left == 0 {
            break;
        }
        let from = format!("sender{number}@client.example");
        let to = format!("user@c{}.example", number * 7919 % CUSTOMERS);
        let envelope = Envelope {
            sender: Sender::new(from.parse().unwrap()),
            recipients: vec![Recipient::new(to.parse().unwrap())],
        };
        let contents = Contents {
            envelope: &envelope,
            session: SessionFields::default(),
            arrival: arrived + Duration::from_micros(50 * number),
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
        } else {
            left -= 1;
        }
    }
    log.flush();
    drive(&mut log, directory, &mut open);
}

/// The configuration of the program itself.
fn configuration(path: &Path) -> String {
    let spool = path.join("spool");
    let mut text = format!(
        "hostname = \"relay.example\"\n[spool]\ndirectory = {spool:?}\n[cores]\ndata = {CORES}\n\
         [admin]\nsocket = {:?}\n[[listener]]\naddress = \"127.0.0.1:2525\"\n",
        path.join("admin")
    );
    for number in 0..CUSTOMERS {
        write!(
            text,
            "[[customer]]\nname = \"c{number}\"\ndomains = [\"c{number}.example\"]\n\
             deliver_to = \"127.0.0.1:2526\"\nrelease = {{ open = true }}\n"
        )
        .unwrap();
    }
    text
}

type Directories = HashMap<LogId, Arc<Directory>>;

/// What `serve` does between its locks and its first connection.
fn start(directories: &Directories, settings: &Settings) -> Vec<(Log, Schedule)> {
    let (restarted, unread) = recall(SPOOL, directories).unwrap();
    assert!(unread.errors.is_empty());
    let permits = Arc::new(Permits::new(20, 1));
    let cores = (0..CORES).collect();
    let filed = side_by_side("file", cores, |core| {
        let owned = [LogId(core)];
        let identity = Identity {
            spool: SPOOL,
            log: owned[0],
        };
        let log = restarted.log(identity, LOG_SETTINGS, &owned, 2, 1 << 50);
        let queue_settings = queue::Settings {
            core: CoreNumber(core),
            policies: settings.policies.clone(),
            idle: settings.idle,
            seed: 1,
        };
        let mut queue = Schedule::new(queue_settings, Arc::clone(&permits), today());
        let enqueued = enqueue(today(), &mut queue, settings, &restarted, &owned);
        assert_eq!(enqueued.messages, log.messages_count());
        (log, queue)
    });
    filed.unwrap()
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it is after its beginning")
}

fn restart(c: &mut Criterion) {
    // Cargo says "--bench" when it is to be measured, and nothing in a test.
    let is_test = !std::env::args().any(|a| a == "--bench");
    let messages: u64 = if is_test { 5_000 } else { 1_000_000 };
    let passing = tempfile::tempdir().unwrap();
    let path = std::env::var_os("TURNSPOOL_BENCH_DIR")
        .map_or_else(|| passing.path().to_owned(), PathBuf::from);
    let spool = path.join("spool");
    let is_there = spool.exists();
    std::fs::create_dir_all(&spool).unwrap();
    let text = configuration(&path);
    std::fs::write(path.join("turnspool.toml"), &text).unwrap();
    std::fs::write(spool.join("spool-id"), "01".repeat(16) + "\n").unwrap();
    let parsed = config::parse(&path, &text, &Surroundings::of_this_process());
    let settings = settings(&parsed.unwrap(), &Ledger::default()).unwrap();
    let directories: Directories = (0..CORES)
        .map(LogId)
        .map(|log| {
            (
                log,
                Arc::new(Directory::open(&log_path(&spool, log), log).unwrap()),
            )
        })
        .collect();
    if !is_there {
        let each = messages / u64::from(CORES);
        let all = directories.values().collect();
        side_by_side("fill", all, |directory| fill(directory, each)).unwrap();
    }
    let check = |filed: &[(Log, Schedule)]| {
        let found: usize = filed.iter().map(|(_, queue)| queue.index().len()).sum();
        assert_eq!(found as u64, messages);
    };
    // The segment that was written last has no summary yet.
    check(&start(&directories, &settings));
    let mut group = c.benchmark_group("restart");
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(15));
    group.bench_function(format!("{messages} messages, summaries"), |b| {
        b.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                let begin = processor_time();
                let filed = start(&directories, &settings);
                time += processor_time() - begin;
                check(&filed);
            }
            time
        });
    });
    group.bench_function(format!("{messages} messages, scans"), |b| {
        b.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                for directory in directories.values() {
                    for segment in directory.list().unwrap().summaries {
                        directory.remove_summary(segment).unwrap();
                    }
                }
                let begin = processor_time();
                let filed = start(&directories, &settings);
                time += processor_time() - begin;
                check(&filed);
            }
            time
        });
    });
    group.finish();
}

criterion_group!(benches, restart);
criterion_main!(benches);
