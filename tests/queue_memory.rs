//! What a million queued messages cost, counted by the allocator: in the queue, and in the
//! log that keeps account of where they are.
//!
//! One test in a process of its own: other tests would be counted too.

// The trait of an allocator is unsafe to implement. This one hands every call on, and
// keeps the sum.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spool_format::{BodyForm, Location, LogId, Offset, SegmentId, SessionFields, SpoolUuid};
use turnspool::mail::{Envelope, Priority, QueueId, Recipient, RecipientIndex, Sender};
use turnspool::queue::{
    ConnectionFailure, CoreNumber, HoldState, Ledger, MessageFacts, NewMessage, NewRecipient,
    Output, Permits, Policies, RecipientOutcome, Schedule, Selection, Settings, Take, Told,
};
use turnspool::route::{NextHop, NextHopRef};
use turnspool::spool::commit::Ticket;
use turnspool::spool::log::{Identity, Log, Output as LogOutput, Settings as LogSettings};
use turnspool::spool::message::{BodyFacts, Contents, Holding};
use turnspool::time::{Instant, Now, WallTime};

struct Counting;

static OCTETS: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all four hand their arguments to `System` as they came and return what it
// returned; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OCTETS.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are those that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OCTETS.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` by `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MESSAGES: u64 = 1_000_000;
const OCTETS_A_MESSAGE_MAX: usize = 200;

fn message(number: u64, arrival: WallTime) -> NewMessage {
    NewMessage {
        facts: MessageFacts {
            queue_id: QueueId::new(0, number),
            location: Location {
                log: LogId(0),
                segment: SegmentId((number >> 14) as u32),
                offset: Offset(((number & 0x3FFF) << 12) as u32),
            },
            octets: 4096,
            arrival,
            priority: Priority::default(),
            deliver_by: None,
            hold_until: None,
            hold: HoldState::Free,
        },
    }
}

fn recipient(next_hop: NextHopRef<'_>) -> NewRecipient<'_> {
    NewRecipient {
        recipient: RecipientIndex(0),
        next_hop,
        attempts: 0,
        not_before: None,
        told: Told::NOTHING,
    }
}

fn per_message(before: usize) -> usize {
    (OCTETS.load(Ordering::Relaxed) - before) / MESSAGES as usize
}

#[test]
fn a_million_messages_behind_a_dead_host() {
    let mut now = Now {
        instant: Instant::START,
        wall: WallTime::from_millis(1_795_305_600_000),
    };
    let settings = Settings {
        core: CoreNumber(0),
        policies: Policies::default(),
        idle: Duration::from_secs(5),
        seed: 1,
    };
    let permits = Arc::new(Permits::new(20, 1));
    let mut schedule = Schedule::new(settings, permits, now);
    let next_hop = NextHop::Mx("d.example".parse().unwrap());

    let before = OCTETS.load(Ordering::Relaxed);
    for number in 0..MESSAGES {
        // Twenty a millisecond.
        now.wall = WallTime::from_millis(1_795_305_600_000 + number as i64 / 20);
        let recipient = recipient(next_hop.as_ref());
        schedule.enqueue(now, &message(number, now.wall), [recipient]);
    }
    let ready = per_message(before);

    // The host is dead: what it costs to wait for it.
    let fail = |schedule: &mut Schedule, now: Now| {
        let mut failed = 0;
        while let Some(output) = schedule.poll() {
            if let Output::Connect { connection, .. } = output {
                schedule.connection_failed(now, connection, ConnectionFailure::Unusable);
                failed += 1;
            }
        }
        failed
    };
    assert_eq!(fail(&mut schedule, now), 1);
    let calls = CALLS.load(Ordering::Relaxed);
    let (mut ticks, mut probes) = (0, 0);
    let end = now.instant + Duration::from_secs(3 * 3600);
    while let Some(at) = schedule.deadline().filter(|at| *at < end) {
        let passed = at.since(now.instant);
        now = now.after(passed);
        schedule.timer(now);
        probes += fail(&mut schedule, now);
        ticks += 1;
    }
    let calls = CALLS.load(Ordering::Relaxed) - calls;
    println!(
        "{ready} octets a message ready; {calls} allocations in {ticks} ticks with {probes} probes"
    );
    assert!(ready <= OCTETS_A_MESSAGE_MAX, "{ready}");
    assert!(ticks <= 200 && (5..10).contains(&probes));
    assert!(calls < 500, "{calls}");

    // It is back, and puts everything off.
    let mut waiting = MESSAGES;
    let mut connection = None;
    while waiting > 0 {
        while let Some(output) = schedule.poll() {
            match output {
                Output::Connect { connection: id, .. } | Output::Work { connection: id } => {
                    connection = connection.or(Some(id));
                }
                Output::Deferred { .. } => waiting -= 1,
                _ => {}
            }
        }
        match connection.map(|id| schedule.take(now, id)) {
            Some(Take::Job(job)) => {
                let put_off = (RecipientIndex(0), RecipientOutcome::Deferred);
                schedule.outcome(now, job.id, &[put_off]);
            }
            Some(_) => break,
            None => {
                let at = schedule.deadline().expect("a probe");
                let passed = at.since(now.instant);
                now = now.after(passed);
                schedule.timer(now);
            }
        }
    }
    assert_eq!(waiting, 0);
    let deferred = per_message(before);
    println!("{deferred} octets a message deferred");
    assert!(deferred <= OCTETS_A_MESSAGE_MAX, "{deferred}");

    // Nothing is left of them.
    for number in 0..MESSAGES {
        assert!(schedule.delete(now, QueueId::new(0, number)));
        while schedule.poll().is_some() {}
    }
    let left = OCTETS.load(Ordering::Relaxed) - before;
    println!("{left} octets left");
    assert!(left < 2 << 20, "{left}");
    drop(schedule);
    a_million_messages_held_for_ten_thousand_customers(now);
}

/// Held mail costs no more, its customers included, and a release costs what it releases.
fn a_million_messages_held_for_ten_thousand_customers(now: Now) {
    const CUSTOMERS: u64 = 10_000;
    let before = OCTETS.load(Ordering::Relaxed);
    let ledger = Ledger::default();
    let held = |number: u64| NextHop::Hold {
        customer: format!("customer-{number}").parse().unwrap(),
        domain: format!("customer-{number}.example").parse().unwrap(),
    };
    let next_hops: Vec<_> = (0..CUSTOMERS).map(held).collect();
    let name = |next_hop: &NextHop| match next_hop {
        NextHop::Hold { customer, .. } => customer.clone(),
        other => panic!("{other}"),
    };
    let names = next_hops.iter().map(name);
    let policies = Policies {
        usage: Arc::new(names.map(|name| (name.clone(), ledger.of(&name))).collect()),
        ..Policies::default()
    };
    let settings = Settings {
        core: CoreNumber(0),
        policies,
        idle: Duration::from_secs(5),
        seed: 1,
    };
    let mut schedule = Schedule::new(settings, Arc::new(Permits::new(20, 1)), now);
    for number in 0..MESSAGES {
        let next_hop = &next_hops[(number % CUSTOMERS) as usize];
        let recipient = recipient(next_hop.as_ref());
        schedule.enqueue(now, &message(number, now.wall), [recipient]);
    }
    let held = per_message(before);
    let logged = octets_a_message_in_a_log(now);
    println!(
        "{held} octets a message held, customers and their counters included; {logged} in the log"
    );
    assert!(held + logged <= OCTETS_A_MESSAGE_MAX, "{held} + {logged}");
    assert!(schedule.poll().is_none(), "nothing goes by itself");

    let customer = name(&next_hops[4711]);
    let usage = ledger.of(&customer);
    assert_eq!(usage.messages(), MESSAGES / CUSTOMERS);
    let calls = CALLS.load(Ordering::Relaxed);
    let waiting = schedule.release(now, Selection::Customer(&customer));
    let first = schedule.poll();
    let calls = CALLS.load(Ordering::Relaxed) - calls;
    assert_eq!(waiting.messages, MESSAGES / CUSTOMERS);
    assert!(matches!(first, Some(Output::Connect { .. })), "{first:?}");
    println!("{calls} allocations from a release to its first connection");
    assert!(calls < 20, "{calls}");
}

/// What the log keeps of each message that is live. Its shell writes nothing.
fn octets_a_message_in_a_log(now: Now) -> usize {
    const LOGGED: u64 = 250_000;
    let identity = Identity {
        spool: SpoolUuid([1; 16]),
        log: LogId(0),
    };
    let log_settings = LogSettings {
        segment_bytes: 64 << 20,
        size_max: u64::MAX,
        free_min: 0,
    };
    let envelope = Envelope {
        sender: Sender::new("a@client.example".parse().unwrap()),
        recipients: vec![Recipient::new("b@d.example".parse().unwrap())],
    };
    let contents = Contents {
        envelope: &envelope,
        session: SessionFields::default(),
        arrival: now.wall,
        holding: Holding::Free,
        next_hop: None,
    };
    let facts = BodyFacts {
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
    };
    let mut log = Log::new(identity, log_settings, 1, 1 << 50);
    let before = OCTETS.load(Ordering::Relaxed);
    for number in 0..LOGGED {
        let queue_id = log.next_queue_id();
        let mut message = log.begin(now, queue_id, &contents, Some(5)).unwrap();
        log.body(now, &mut message, &[b"hello"]).unwrap();
        let ticket = Ticket(number);
        log.seal(now, message, &contents, facts, &[], ticket)
            .unwrap();
        while let Some(output) = log.poll(now) {
            match output {
                LogOutput::Write { bytes, .. } => log.written(Ok(()), bytes),
                LogOutput::SegmentNeeded { header, .. } => {
                    log.segment_ready(header.place.segment);
                }
                _ => {}
            }
        }
    }
    assert_eq!(log.messages_count() as u64, LOGGED);
    (OCTETS.load(Ordering::Relaxed) - before) / LOGGED as usize
}
