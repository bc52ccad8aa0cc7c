//! Does the queue stay cheap when it is long?
//!
//! The design hangs on sorted sets for each destination instead of one list that is
//! gone through. The questions: what does a message cost from `enqueue` to `Finished`
//! when the queue is empty and when a million others wait, at one destination or at ten
//! thousand; and what does a tick cost while they wait behind a dead host?
//!
//! Workload: messages of 4 KiB with one recipient, one connection, every job delivered.
//! Run by `cargo test --benches` it is small.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use spool_format::{Location, LogId, Offset, SegmentId};
use turnspool::mail::{Priority, QueueId, RecipientIndex};
use turnspool::queue::{
    ConnectionFailure, ConnectionId, CoreNumber, HoldState, Job, MessageFacts, NewMessage,
    NewRecipient, Output, Permits, Policies, RecipientOutcome, Schedule, Settings, Take, Told,
};
use turnspool::route::{NextHop, NextHopRef};
use turnspool::time::{Instant, Now, WallTime};

struct Queue {
    schedule: Schedule,
    now: Now,
    sequence: u64,
}

fn mx(number: usize) -> NextHop {
    NextHop::Mx(format!("d{number}.example").parse().unwrap())
}

impl Queue {
    fn new() -> Self {
        let now = Now {
            instant: Instant::START,
            wall: WallTime::from_millis(1_795_305_600_000),
        };
        let settings = Settings {
            core: CoreNumber(0),
            policies: Policies::default(),
            idle: Duration::from_secs(5),
            seed: 1,
        };
        let permits = Arc::new(Permits::new(1, 1));
        Self {
            schedule: Schedule::new(settings, permits, now),
            now,
            sequence: 0,
        }
    }

    /// With this much mail for each of these destinations, and a connection to one.
    fn filled(messages: usize, destinations: usize) -> (Self, ConnectionId) {
        let mut queue = Self::new();
        let next_hops: Vec<_> = (0..destinations).map(mx).collect();
        for i in 0..messages {
            queue.enqueue(next_hops[i % destinations].as_ref());
        }
        let connection = queue.connection();
        (queue, connection)
    }

    fn enqueue(&mut self, next_hop: NextHopRef<'_>) {
        self.sequence += 1;
        self.now = self.now.after(Duration::from_micros(1000));
        let message = NewMessage {
            facts: MessageFacts {
                queue_id: QueueId::new(0, self.sequence),
                location: Location {
                    log: LogId(0),
                    segment: SegmentId(0),
                    offset: Offset(0),
                },
                octets: 4096,
                arrival: self.now.wall,
                priority: Priority::default(),
                deliver_by: None,
                hold: HoldState::Free,
            },
            told: Told::NOTHING,
        };
        let recipient = NewRecipient {
            recipient: RecipientIndex(0),
            next_hop,
            attempts: 0,
            not_before: None,
        };
        self.schedule.enqueue(self.now, &message, [recipient]);
    }

    fn connection(&mut self) -> ConnectionId {
        loop {
            match self.schedule.poll() {
                Some(Output::Connect { connection, .. }) => return connection,
                Some(_) => {}
                None => panic!("no connection was asked for"),
            }
        }
    }

    fn take(&mut self, connection: ConnectionId) -> Option<Job> {
        match self.schedule.take(self.now, connection) {
            Take::Job(job) => Some(job),
            _ => None,
        }
    }

    fn delivered(&mut self, job: &Job) {
        let results = [(RecipientIndex(0), RecipientOutcome::Delivered)];
        self.schedule.outcome(self.now, job.id, &results);
        while let Some(output) = self.schedule.poll() {
            black_box(output);
        }
    }
}

fn main() {
    // Cargo says "--bench" when it is to be measured, and nothing in a test.
    let small = !std::env::args().any(|arg| arg == "--bench");
    let many = if small { 1000 } else { 1_000_000 };
    let mut criterion = Criterion::default().configure_from_args();

    for (name, waiting, destinations) in [
        ("empty", 1, 1),
        ("many at one destination", many, 1),
        ("many at ten thousand destinations", many, many / 100),
    ] {
        let (mut queue, mut connection) = Queue::filled(waiting, destinations);
        let mut next = destinations;
        criterion.bench_function(&format!("enqueue, take, outcome: {name}"), |b| {
            b.iter(|| {
                // Fresh mail goes in as mail goes out; where there are many
                // destinations the connection takes turns.
                next = (next + 1) % destinations;
                queue.enqueue(mx(next).as_ref());
                loop {
                    if let Some(job) = queue.take(connection) {
                        queue.delivered(&job);
                        break;
                    }
                    let now = queue.now;
                    queue.schedule.connection_closed(now, connection);
                    connection = queue.connection();
                }
            });
        });
    }

    let (mut queue, connection) = Queue::filled(many, 1);
    criterion.bench_function("take, returned", |b| {
        b.iter_batched(
            || (),
            |()| {
                let job = queue.take(connection).unwrap();
                let results = [(RecipientIndex(0), RecipientOutcome::Returned)];
                queue.schedule.outcome(queue.now, job.id, &results);
            },
            BatchSize::SmallInput,
        );
    });

    let now = queue.now;
    queue
        .schedule
        .connection_failed(now, connection, ConnectionFailure::Unusable);
    while queue.schedule.poll().is_some() {}
    criterion.bench_function("tick, many behind a dead host", |b| {
        b.iter(|| {
            queue.schedule.timer(queue.now);
            black_box(queue.schedule.poll());
            black_box(queue.schedule.deadline())
        });
    });
    criterion.final_summary();
}
