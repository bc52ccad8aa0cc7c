use std::collections::HashMap;

use spool_format::{LogId, Offset, SegmentId};

use super::*;
use crate::mail::RecipientIndex;
use crate::mail::{DeliverBy, DeliverByMode, HoldUntil, Priority};
use crate::queue::destination::CONNECTIONS_FIRST;
use crate::queue::index::{HoldState, ShareState};
use crate::queue::index::{MessageFacts, Recipients};
use crate::queue::retry::Retry;
use crate::queue::{Entry, Gate, Offer, Policy};
use spool_format::Told;

mod clock;
mod filing;
mod link;
mod one_by_one;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const NOON: WallTime = WallTime::from_millis(1_795_305_600_000);

/// A schedule with a clock, and what it said last.
struct Desk {
    schedule: Schedule,
    now: Now,
    sequence: u64,
}

/// What a message of these tests is like where nothing is said.
#[derive(Clone, Copy, Debug)]
struct Mail<'a> {
    to: &'a [&'a str],
    octets: u64,
    priority: i8,
    deliver_by: Option<(Duration, DeliverByMode)>,
    not_before: Option<Duration>,
    /// RFC 4865.
    hold_for: Option<Duration>,
    /// The same, and the sender names the moment.
    hold_until: Option<Duration>,
}

const PLAIN: Mail<'_> = Mail {
    to: &["d.example"],
    octets: 1000,
    priority: 0,
    deliver_by: None,
    not_before: None,
    hold_for: None,
    hold_until: None,
};

fn to(domain: &str) -> NextHop {
    // A domain that begins with `held` is one.
    if domain.starts_with("held") {
        NextHop::Hold {
            customer: "c".parse().unwrap(),
            domain: domain.parse().unwrap(),
        }
    } else {
        NextHop::Mx(domain.parse().unwrap())
    }
}

fn policy(connections: u16) -> Policy {
    Policy {
        retry: Retry::Exponential {
            first: 10 * MINUTE,
            factor: 2.0,
            longest: 4 * HOUR,
            give_up: 5 * DAY,
            jitter: 0.0,
        },
        warn: Some(4 * HOUR),
        connections,
        ..Policy::default()
    }
}

fn schedule(core: u8, permits: &Arc<Permits>, policy: Policy, now: Now) -> Schedule {
    let settings = Settings {
        core: CoreNumber(core),
        policies: Policies {
            default: Arc::new(policy),
            ..Policies::default()
        },
        idle: 5 * SECOND,
        seed: 1,
    };
    Schedule::new(settings, Arc::clone(permits), now)
}

impl Desk {
    fn new(total: u16, policy: Policy) -> Self {
        let permits = Arc::new(Permits::new(total, 1));
        Self::on_core(0, &permits, policy)
    }

    fn on_core(core: u8, permits: &Arc<Permits>, policy: Policy) -> Self {
        let now = Now {
            instant: Instant::START + HOUR,
            wall: NOON,
        };
        Self {
            schedule: schedule(core, permits, policy, now),
            now,
            sequence: 0,
        }
    }

    fn enqueue(&mut self, mail: Mail<'_>) -> QueueId {
        self.sequence += 1;
        let queue_id = QueueId::new(0, self.sequence);
        let message = NewMessage {
            facts: MessageFacts {
                queue_id,
                location: Location {
                    log: LogId(0),
                    segment: SegmentId(0),
                    offset: Offset(8 * self.sequence as u32),
                },
                octets: mail.octets,
                arrival: self.now.wall,
                priority: Priority::new(mail.priority).unwrap(),
                deliver_by: mail.deliver_by.map(|(after, mode)| DeliverBy {
                    deadline: self.now.wall + after,
                    mode,
                    trace: false,
                }),
                hold_until: (mail.hold_for)
                    .map(|time| HoldUntil::end(self.now.wall + time))
                    .or((mail.hold_until).map(|time| HoldUntil::moment(self.now.wall + time))),
                hold: HoldState::Free,
            },
        };
        let next_hops: Vec<_> = mail.to.iter().map(|domain| to(domain)).collect();
        let recipients = next_hops.iter().zip(0..).map(|(next_hop, i)| NewRecipient {
            recipient: RecipientIndex(i),
            next_hop: next_hop.as_ref(),
            attempts: 0,
            not_before: mail.not_before.map(|after| self.now.wall + after),
            told: Told::NOTHING,
        });
        self.schedule.enqueue(self.now, &message, recipients);
        queue_id
    }

    fn poll(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.schedule.poll()).collect()
    }

    /// The connections that were asked for.
    fn connects(&mut self) -> Vec<ConnectionId> {
        let connects = self.poll().into_iter().filter_map(|output| match output {
            Output::Connect { connection, .. } => Some(connection),
            _ => None,
        });
        connects.collect()
    }

    /// The one connection that was asked for.
    fn connect(&mut self) -> ConnectionId {
        let connects = self.connects();
        assert_eq!(connects.len(), 1, "{connects:?}");
        connects[0]
    }

    fn job(&mut self, connection: ConnectionId) -> Job {
        match self.schedule.take(self.now, connection) {
            Take::Job(job) => job,
            other => panic!("{other:?} instead of a job"),
        }
    }

    fn ends(&mut self, job: &Job, outcome: RecipientOutcome) {
        let all = job.recipients.as_slice().iter();
        let results: Vec<_> = all.map(|recipient| (*recipient, outcome)).collect();
        self.schedule.outcome(self.now, job.id, &results);
    }

    /// The next input or the deadline, whichever comes first; says how long it was.
    fn wait(&mut self) -> Duration {
        let at = self.schedule.deadline().expect("something to wait for");
        let pause = at.since(self.now.instant);
        self.pass(pause);
        pause
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.schedule.timer(self.now);
    }

    /// Nothing but time, until there is a connection; says how long it was.
    fn wait_for_connection(&mut self) -> (Duration, ConnectionId) {
        let start = self.now.instant;
        loop {
            if let [connection] = self.connects()[..] {
                return (self.now.instant.since(start), connection);
            }
            self.wait();
        }
    }

    /// Nothing but time, until this is over: all that was said.
    fn pass_by(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now.instant + time;
        let mut said = self.poll();
        while let Some(at) = self.schedule.deadline().filter(|at| *at <= end) {
            self.pass(at.since(self.now.instant));
            said.extend(self.poll());
        }
        self.pass(end.since(self.now.instant));
        said.extend(self.poll());
        said
    }

    /// Takes and delivers all that one connection can get now.
    fn order(&mut self, connection: ConnectionId) -> Vec<QueueId> {
        let mut order = Vec::new();
        while let Take::Job(job) = self.schedule.take(self.now, connection) {
            order.push(job.queue_id);
            self.ends(&job, RecipientOutcome::Delivered);
        }
        self.poll();
        order
    }

    /// The connection that has a job.
    fn carrier(&self, job: &Job) -> ConnectionId {
        match self.schedule.jobs.get(job.id.0).unwrap().carrier {
            Carrier::Connection(connection) => connection,
            Carrier::Visit(visit) => panic!("{visit:?} has it"),
        }
    }

    fn id(&self, domain: &str) -> DestinationId {
        self.schedule.find(to(domain).as_ref()).unwrap()
    }
}

#[test]
fn one_connection_means_one_order() {
    let mut desk = Desk::new(1, policy(1));
    let bulk = desk.enqueue(Mail {
        priority: -3,
        ..PLAIN
    });
    let large = desk.enqueue(Mail {
        octets: 50 << 20,
        ..PLAIN
    });
    let medium = desk.enqueue(Mail {
        octets: 100_000,
        ..PLAIN
    });
    let first = desk.enqueue(PLAIN);
    let second = desk.enqueue(PLAIN);
    let deadline = Some((HOUR, DeliverByMode::Notify));
    let late = desk.enqueue(Mail {
        octets: 9 << 20,
        deliver_by: deadline,
        ..PLAIN
    });
    let urgent = desk.enqueue(Mail {
        octets: 9 << 20,
        priority: 4,
        ..PLAIN
    });
    let connection = desk.connect();
    let order = desk.order(connection);
    assert_eq!(order, [urgent, late, first, second, medium, large, bulk]);
}

#[test]
fn what_was_large_and_old_goes_before_what_is_small_and_new() {
    let mut desk = Desk::new(1, policy(1));
    let large = desk.enqueue(Mail {
        octets: 50 << 20,
        ..PLAIN
    });
    let connection = desk.connect();
    desk.pass(HOUR);
    let small = desk.enqueue(PLAIN);
    desk.pass(4 * HOUR);
    let new = desk.enqueue(PLAIN);
    assert_eq!(desk.order(connection), [small, large, new]);
}

/// The next hop shows that it takes mail, so that all its connections may be used.
fn proven(desk: &mut Desk, successes: usize) -> Vec<ConnectionId> {
    let mut connections = Vec::new();
    for _ in 0..successes {
        desk.enqueue(PLAIN);
        connections.extend(desk.connects());
        desk.order(connections[0]);
    }
    connections
}

#[test]
fn large_messages_leave_a_connection_to_the_small() {
    let mut desk = Desk::new(20, policy(4));
    let mut connections = proven(&mut desk, 9);
    assert_eq!(connections.len(), 1);
    for _ in 0..6 {
        desk.enqueue(Mail {
            octets: 50 << 20,
            ..PLAIN
        });
    }
    connections.extend(desk.connects());
    let mut jobs = Vec::new();
    for &connection in &connections {
        match desk.schedule.take(desk.now, connection) {
            Take::Job(job) => jobs.push(job),
            other => assert_eq!(other, Take::Wait),
        }
    }
    assert_eq!(jobs.len(), 3, "three of four carry large ones");
    // Behind a large message in flight nothing is sent on its connection.
    desk.enqueue(PLAIN);
    let free: Vec<_> = connections
        .iter()
        .filter(|c| jobs.iter().all(|job| desk.carrier(job) != **c))
        .copied()
        .collect();
    for busy in connections.iter().filter(|c| !free.contains(c)) {
        assert_eq!(desk.schedule.take(desk.now, *busy), Take::Wait);
    }
    let free = free.first().copied().or_else(|| desk.connects().pop());
    let small = desk.job(free.expect("a connection for the small one"));
    assert_eq!(small.octets, 1000);
    // Nor does it take one of the waiting large ones after that.
    desk.ends(&small, RecipientOutcome::Delivered);
    assert_eq!(desk.schedule.take(desk.now, free.unwrap()), Take::Wait);
    // One large ends: another may go.
    let done = jobs.pop().unwrap();
    let connection = desk.carrier(&done);
    desk.ends(&done, RecipientOutcome::Delivered);
    assert_eq!(desk.job(connection).octets, 50 << 20);
}

#[test]
fn large_messages_leave_one_of_all_connections() {
    let mut desk = Desk::new(2, policy(5));
    for domain in ["a.example", "b.example", "c.example"] {
        desk.enqueue(Mail {
            to: &[domain],
            octets: 50 << 20,
            ..PLAIN
        });
    }
    let connections = desk.connects();
    assert_eq!(connections.len(), 2);
    let large = desk.job(connections[0]);
    // The second may not; with nothing else to do it makes room for others.
    assert_eq!(desk.schedule.take(desk.now, connections[1]), Take::Quit);
    desk.schedule.connection_closed(desk.now, connections[1]);
    let small = desk.enqueue(Mail {
        to: &["e.example"],
        ..PLAIN
    });
    let mut sent = None;
    for _ in 0..4 {
        for connection in desk.connects() {
            match desk.schedule.take(desk.now, connection) {
                Take::Job(job) => sent = Some(job.queue_id),
                _ => desk.schedule.connection_closed(desk.now, connection),
            }
        }
        desk.pass(6 * SECOND);
    }
    assert_eq!(sent, Some(small));
    // When the large one is through the next may go.
    desk.ends(&large, RecipientOutcome::Delivered);
    desk.poll();
    assert_eq!(desk.schedule.take(desk.now, connections[0]), Take::Quit);
    desk.schedule.connection_closed(desk.now, connections[0]);
    let next = desk.connect();
    assert_eq!(desk.job(next).octets, 50 << 20);
}

#[test]
fn connections_grow_with_success_up_to_the_limit() {
    let mut desk = Desk::new(100, policy(6));
    for _ in 0..100 {
        desk.enqueue(PLAIN);
    }
    let mut connections = desk.connects();
    assert_eq!(connections.len(), usize::from(CONNECTIONS_FIRST));
    for expected in [3, 4, 5, 6, 6] {
        let job = desk.job(connections[0]);
        desk.ends(&job, RecipientOutcome::Delivered);
        connections.extend(desk.connects());
        assert_eq!(connections.len(), expected);
    }
    // One is refused while others are open: no more than those, for a while.
    let last = connections.pop().unwrap();
    desk.schedule
        .connection_failed(desk.now, last, ConnectionFailure::Unusable);
    for _ in 0..3 {
        let job = desk.job(connections[0]);
        desk.ends(&job, RecipientOutcome::Delivered);
        assert_eq!(desk.connects(), []);
    }
    let job = desk.job(connections[0]);
    desk.pass(2 * MINUTE);
    desk.poll();
    desk.ends(&job, RecipientOutcome::Delivered);
    assert_eq!(desk.connects().len(), 1);
}

#[test]
fn a_destination_that_fails_is_probed_by_one_connection_at_longer_and_longer_intervals() {
    let mut desk = Desk::new(100, policy(6));
    for _ in 0..100 {
        desk.enqueue(PLAIN);
    }
    let connections = desk.connects();
    assert_eq!(connections.len(), 2);
    desk.schedule
        .connection_failed(desk.now, connections[0], ConnectionFailure::Unusable);
    assert_eq!(desk.poll(), [], "the other may do it");
    let mut failing = connections[1];
    for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 240, 240] {
        desk.schedule
            .connection_failed(desk.now, failing, ConnectionFailure::Unusable);
        let said = desk.poll();
        let until = desk.now.wall + minutes * MINUTE;
        let closed =
            |o: &Output| matches!(o, Output::DestinationClosed { until: u, .. } if *u == until);
        assert!(said.iter().any(closed), "{said:?}");
        let end = desk.now.instant + minutes * MINUTE;
        let said = desk.pass_by(minutes * MINUTE - SECOND);
        assert!(!said.iter().any(|o| matches!(o, Output::Connect { .. })));
        desk.pass(end.since(desk.now.instant));
        failing = desk.connect();
    }
    let job = desk.job(failing);
    desk.ends(&job, RecipientOutcome::Delivered);
    assert_eq!(desk.connects().len(), 1, "slow start: two in all");
}

/// A message that breaks every session must not stand in the way of the others.
#[test]
fn a_poisonous_message_does_not_block_its_destination() {
    let mut desk = Desk::new(1, policy(1));
    let poison = desk.enqueue(PLAIN);
    let good = desk.enqueue(PLAIN);
    let connection = desk.connect();
    assert_eq!(desk.job(connection).queue_id, poison);
    desk.schedule
        .connection_failed(desk.now, connection, ConnectionFailure::Lost);
    desk.poll();
    desk.wait();
    let connection = desk.connect();
    assert_eq!(desk.order(connection), [good]);
}

#[test]
fn a_peer_that_always_closes_is_not_called_in_a_loop() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    let job = desk.job(connection);
    desk.ends(&job, RecipientOutcome::Returned);
    desk.schedule.connection_closed(desk.now, connection);
    assert_eq!(desk.connects(), []);
    assert_eq!(desk.wait_for_connection().0, MINUTE);
}

#[test]
fn recipients_end_one_by_one_and_the_message_with_the_last() {
    let mut desk = Desk::new(10, policy(1));
    let mail = Mail {
        to: &["a.example", "b.example", "a.example", "a.example"],
        ..PLAIN
    };
    let queue_id = desk.enqueue(mail);
    let connections = desk.connects();
    assert_eq!(connections.len(), 2, "one copy for each destination");
    let (first, second) = (desk.job(connections[0]), desk.job(connections[1]));
    let three = [0, 2, 3].map(RecipientIndex);
    assert_eq!(first.recipients.as_slice(), three);
    assert_eq!(second.recipients.as_slice(), [RecipientIndex(1)]);
    // One taken, one refused, one put off.
    let results = [
        (three[2], RecipientOutcome::Deferred),
        (three[0], RecipientOutcome::Delivered),
        (three[1], RecipientOutcome::Failed),
    ];
    desk.schedule.outcome(desk.now, first.id, &results);
    let expected = Output::Deferred {
        queue_id,
        recipients: Recipients::One(three[2]),
        attempts: 1,
        until: desk.now.wall + 10 * MINUTE,
        told: Told::NOTHING,
    };
    assert!(desk.poll().contains(&expected));
    desk.ends(&second, RecipientOutcome::Delivered);
    assert!(desk.schedule.index().get(queue_id).is_some());
    for connection in connections {
        desk.schedule.connection_closed(desk.now, connection);
    }
    desk.pass_by(10 * MINUTE - SECOND);
    desk.pass(SECOND);
    let connection = desk.connect();
    let again = desk.job(connection);
    assert_eq!(again.recipients.as_slice(), [three[2]]);
    assert_eq!(again.attempts, 1);
    desk.ends(&again, RecipientOutcome::Delivered);
    let location = again.location;
    assert!(
        desk.poll()
            .contains(&Output::Finished { queue_id, location })
    );
    assert!(desk.schedule.index().is_empty());
    // A late report of a job that is over does nothing.
    desk.ends(&again, RecipientOutcome::Delivered);
    assert_eq!(desk.poll(), []);
}

#[test]
fn a_part_that_was_not_tried_goes_at_once_and_a_part_that_was_put_off_later() {
    let mut desk = Desk::new(10, policy(1));
    desk.enqueue(Mail {
        to: &["a.example", "a.example"],
        ..PLAIN
    });
    let connection = desk.connect();
    let job = desk.job(connection);
    let results = [
        (RecipientIndex(0), RecipientOutcome::Deferred),
        (RecipientIndex(1), RecipientOutcome::Returned),
    ];
    desk.schedule.outcome(desk.now, job.id, &results);
    let job = desk.job(connection);
    assert_eq!(job.recipients.as_slice(), [RecipientIndex(1)]);
    assert_eq!(job.attempts, 0);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
}

/// In every state in which a message can be: the clock runs.
#[test]
fn expiry_is_a_clock_that_runs_in_every_state() {
    let check = |name: &str, prepare: &dyn Fn(&mut Desk) -> QueueId| {
        let mut desk = Desk::new(1, policy(1));
        let queue_id = prepare(&mut desk);
        let expires = NOON + 5 * DAY;
        let left = expires.since(desk.now.wall);
        // Connections are never answered.
        let early = desk.pass_by(left - SECOND);
        let ends = |o: &Output| matches!(o, Output::Expired { queue_id: q, .. } if *q == queue_id);
        assert!(!early.iter().any(ends), "{name}: too early");
        let warned = |o: &&Output| matches!(o, Output::Warn { queue_id: q, .. } if *q == queue_id);
        assert_eq!(
            early.iter().filter(warned).count(),
            1,
            "{name}: one warning"
        );
        let late = desk.pass_by(SECOND);
        assert_eq!(
            late.iter().filter(|o| ends(o)).count(),
            1,
            "{name}: {late:?}"
        );
        let gone = |o: &Output| matches!(o, Output::Finished { queue_id: q, .. } if *q == queue_id);
        assert!(late.iter().any(gone), "{name}");
        assert!(desk.schedule.index().get(queue_id).is_none(), "{name}");
    };
    check("ready, connecting", &|desk| desk.enqueue(PLAIN));
    check("no permit", &|desk| {
        desk.enqueue(Mail {
            to: &["other.example"],
            ..PLAIN
        });
        desk.connect();
        desk.enqueue(PLAIN)
    });
    check("destination closed", &|desk| {
        let queue_id = desk.enqueue(PLAIN);
        let connection = desk.connect();
        desk.schedule
            .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
        queue_id
    });
    check("deferred", &|desk| {
        let queue_id = desk.enqueue(PLAIN);
        let connection = desk.connect();
        let job = desk.job(connection);
        desk.ends(&job, RecipientOutcome::Deferred);
        queue_id
    });
    check("not before", &|desk| {
        desk.enqueue(Mail {
            not_before: Some(9 * DAY),
            ..PLAIN
        })
    });
    check("held for a customer", &|desk| {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        })
    });
    check("held by an operator", &|desk| {
        let queue_id = desk.enqueue(PLAIN);
        desk.schedule.hold(desk.now, Selection::Message(queue_id));
        queue_id
    });
    check("destination held by an operator", &|desk| {
        let next_hop = to("d.example");
        desk.schedule
            .hold(desk.now, Selection::NextHop(next_hop.as_ref()));
        desk.enqueue(PLAIN)
    });
}

#[test]
fn what_is_on_the_wire_expires_only_when_it_comes_back() {
    for (outcome, expires) in [
        (RecipientOutcome::Delivered, false),
        (RecipientOutcome::Deferred, true),
        (RecipientOutcome::Interrupted, true),
        (RecipientOutcome::Returned, true),
    ] {
        let mut desk = Desk::new(1, policy(1));
        desk.enqueue(PLAIN);
        let connection = desk.connect();
        let job = desk.job(connection);
        let expired = |said: &[Output]| said.iter().any(|o| matches!(o, Output::Expired { .. }));
        assert!(!expired(&desk.pass_by(6 * DAY)));
        desk.ends(&job, outcome);
        assert_eq!(expired(&desk.poll()), expires, "{outcome:?}");
        assert!(desk.schedule.index().is_empty());
    }
}

#[test]
fn a_clock_that_is_set_forward_is_noticed_within_a_minute() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(Mail {
        to: &["held.example"],
        ..PLAIN
    });
    desk.poll();
    desk.now.wall = desk.now.wall + 6 * DAY;
    assert!(desk.wait() <= WALL_CHECK);
    let said = desk.poll();
    assert!(said.iter().any(|o| matches!(o, Output::Expired { .. })));
}

#[test]
fn deadlines_of_the_sender() {
    let mut desk = Desk::new(1, policy(1));
    let held = |after, mode| Mail {
        to: &["held.example"],
        deliver_by: Some((after, mode)),
        ..PLAIN
    };
    let returned = desk.enqueue(held(HOUR, DeliverByMode::Return));
    let told = desk.enqueue(held(2 * HOUR, DeliverByMode::Notify));
    let said = desk.pass_by(3 * HOUR);
    let expired = said.iter().filter_map(|o| match o {
        Output::Expired {
            queue_id, reason, ..
        } => Some((*queue_id, *reason)),
        _ => None,
    });
    assert_eq!(
        expired.collect::<Vec<_>>(),
        [(returned, ExpiryReason::Deadline)]
    );
    let warned = |said: &[Output]| -> Vec<_> {
        let warned = said.iter().filter_map(|o| match o {
            Output::Warn { queue_id, what, .. } => Some((*queue_id, *what)),
            _ => None,
        });
        warned.collect()
    };
    assert_eq!(warned(&said), [(told, Told::DEADLINE)]);
    assert_eq!(warned(&desk.pass_by(4 * DAY)), [(told, Told::DELAY)]);
}

#[test]
fn with_counted_tries_a_failed_connection_is_one_for_all_that_wait() {
    let retry = Retry::Fixed {
        tries: 3,
        every: 5 * MINUTE,
        give_up: 5 * DAY,
    };
    let mut desk = Desk::new(
        5,
        Policy {
            retry,
            warn: None,
            connections: 1,
            ..Policy::default()
        },
    );
    let early: Vec<_> = (0..300).map(|_| desk.enqueue(PLAIN)).collect();
    let mut late = None;
    for attempt in 1..=3 {
        let (pause, connection) = desk.wait_for_connection();
        assert_eq!(
            pause,
            if attempt == 1 {
                Duration::ZERO
            } else {
                5 * MINUTE
            }
        );
        if attempt == 2 {
            late = Some(desk.enqueue(PLAIN));
        }
        desk.schedule
            .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
        let said = desk.poll();
        let expired: Vec<_> = said
            .iter()
            .filter_map(|o| match o {
                Output::Expired {
                    queue_id, reason, ..
                } => Some((*queue_id, *reason)),
                _ => None,
            })
            .collect();
        if attempt < 3 {
            assert_eq!(expired, []);
        } else {
            let all: Vec<_> = early.iter().map(|id| (*id, ExpiryReason::Tries)).collect();
            assert_eq!(expired, all);
        }
    }
    // The one that came later has tries left; its own attempts count too.
    let (_, connection) = desk.wait_for_connection();
    let job = desk.job(connection);
    assert_eq!(Some(job.queue_id), late);
    desk.ends(&job, RecipientOutcome::Deferred);
    let said = desk.poll();
    assert!(
        said.iter().any(|o| matches!(o, Output::Expired { .. })),
        "{said:?}"
    );
}

/// One connection in all, three destinations with more than anybody can send: each has
/// its turn, and none waits longer than the others' turns.
#[test]
fn destinations_take_turns() {
    let mut desk = Desk::new(1, policy(5));
    let domains = ["a.example", "b.example", "c.example"];
    for domain in domains {
        for _ in 0..500 {
            desk.enqueue(Mail {
                to: &[domain],
                ..PLAIN
            });
        }
    }
    let mut turns = Vec::new();
    while !desk.schedule.index().is_empty() {
        let connection = desk.connect();
        let job = desk.job(connection);
        turns.push((job.destination, 0));
        let mut next = Some(job);
        while let Some(job) = next.take() {
            turns.last_mut().unwrap().1 += 1;
            desk.ends(&job, RecipientOutcome::Delivered);
            match desk.schedule.take(desk.now, connection) {
                Take::Job(job) => next = Some(job),
                Take::Quit => {}
                Take::Wait => {
                    let quit = Output::Quit { connection };
                    assert!(desk.pass_by(6 * SECOND).contains(&quit));
                }
            }
        }
        desk.schedule.connection_closed(desk.now, connection);
    }
    assert_eq!(turns.len(), 30);
    assert!(turns.iter().all(|(_, sent)| *sent == TURN_JOBS));
    for round in turns.chunks(3) {
        let of: std::collections::BTreeSet<_> = round.iter().map(|(id, _)| id).collect();
        assert_eq!(of.len(), 3, "{turns:?}");
    }
}

/// Two cores, one connection to the one destination: the second gets its turn.
#[test]
fn cores_take_turns() {
    let permits = Arc::new(Permits::new(5, 1));
    let mut desks = [0, 1].map(|core| Desk::on_core(core, &permits, policy(1)));
    for desk in &mut desks {
        for _ in 0..200 {
            desk.enqueue(PLAIN);
        }
    }
    let [mine, other] = &mut desks;
    let connection = mine.connect();
    let said = other.poll();
    assert!(
        matches!(said[..], [Output::PermitWanted { key: Some(_) }]),
        "{said:?}"
    );
    let mut sent = 0;
    while let Take::Job(job) = mine.schedule.take(mine.now, connection) {
        mine.ends(&job, RecipientOutcome::Delivered);
        sent += 1;
    }
    assert_eq!(sent, TURN_JOBS);
    mine.schedule.connection_closed(mine.now, connection);
    let said = mine.poll();
    let told =
        |o: &Output| matches!(o, Output::PermitsFreed { cores } if cores.contains(CoreNumber(1)));
    assert!(said.iter().any(told), "{said:?}");
    // It gives the other a moment before it wants the connection again.
    assert!(!said.iter().any(|o| matches!(o, Output::Connect { .. })));
    other.schedule.permits_freed(other.now);
    other.connect();
    assert_eq!(mine.wait(), YIELD_PAUSE);
    let said = mine.poll();
    assert!(
        matches!(said[..], [Output::PermitWanted { key: Some(_) }]),
        "{said:?}"
    );
}

/// Without work a connection does not wait for more while another core waits for it.
#[test]
fn a_connection_without_work_makes_room_for_another_core() {
    let permits = Arc::new(Permits::new(1, 1));
    let mut desks = [0, 1].map(|core| Desk::on_core(core, &permits, policy(1)));
    let [mine, other] = &mut desks;
    mine.enqueue(PLAIN);
    let connection = mine.connect();
    let job = mine.job(connection);
    other.enqueue(Mail {
        to: &["e.example"],
        ..PLAIN
    });
    assert_eq!(other.poll()[..], [Output::PermitWanted { key: None }]);
    mine.schedule.permit_wanted(mine.now, None);
    assert_eq!(mine.poll(), [], "it has work");
    mine.ends(&job, RecipientOutcome::Delivered);
    assert_eq!(mine.schedule.take(mine.now, connection), Take::Quit);
}

#[test]
fn an_idle_connection_waits_for_more_and_makes_room_when_asked() {
    let mut desk = Desk::new(1, policy(5));
    let first = desk.enqueue(PLAIN);
    let connection = desk.connect();
    assert_eq!(desk.order(connection), [first]);
    // More mail soon after goes over the same connection.
    desk.pass(3 * SECOND);
    let second = desk.enqueue(PLAIN);
    assert_eq!(desk.poll()[..], [Output::Work { connection }]);
    assert_eq!(desk.order(connection), [second]);
    desk.pass(4 * SECOND);
    assert_eq!(desk.poll(), [], "five seconds from the last work");
    // Another destination needs the one connection.
    desk.enqueue(Mail {
        to: &["e.example"],
        ..PLAIN
    });
    assert_eq!(desk.poll()[..], [Output::Quit { connection }]);
    desk.schedule.connection_closed(desk.now, connection);
    let other = desk.connect();
    desk.order(other);
    // Another core wants it.
    desk.schedule.permit_wanted(desk.now, None);
    assert!(desk.poll().contains(&Output::Quit { connection: other }));
}

#[test]
fn a_worker_that_asked_in_vain_during_a_job_is_told_of_work_after_it() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    let job = desk.job(connection);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
    desk.enqueue(PLAIN);
    assert_eq!(desk.poll(), []);
    desk.ends(&job, RecipientOutcome::Delivered);
    assert!(desk.poll().contains(&Output::Work { connection }));
}

#[test]
fn a_worker_that_never_asks_again_does_not_keep_its_connection() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    let job = desk.job(connection);
    desk.ends(&job, RecipientOutcome::Delivered);
    let said = desk.pass_by(5 * SECOND);
    assert!(said.contains(&Output::Quit { connection }), "{said:?}");
}

#[test]
fn held_mail_goes_when_it_is_released_and_only_that() {
    let mut desk = Desk::new(5, policy(1));
    let mut held = |domain| {
        desk.enqueue(Mail {
            to: &[domain],
            ..PLAIN
        })
    };
    let (a, b) = (held("held.example"), held("held.b.example"));
    assert_eq!(desk.pass_by(HOUR), []);
    let next_hop = to("held.example");
    let waiting = desk
        .schedule
        .release(desk.now, Selection::NextHop(next_hop.as_ref()));
    assert_eq!((waiting.messages, waiting.octets), (1, 1000));
    let connection = desk.connect();
    let job = desk.job(connection);
    assert_eq!(job.queue_id, a);
    // Put off: it waits for the next release, not for a time.
    desk.ends(&job, RecipientOutcome::Deferred);
    let said = desk.poll();
    let ended = Output::ReleaseEnded {
        destination: desk.id("held.example"),
        end: ReleaseEnd::Drained,
    };
    assert!(said.contains(&ended), "{said:?}");
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Quit);
    desk.schedule.connection_closed(desk.now, connection);
    let said = desk.pass_by(2 * HOUR);
    assert!(
        !said.iter().any(|o| matches!(o, Output::Connect { .. })),
        "{said:?}"
    );
    // All of the customer's, in one connection after the other: the site allows one.
    let customer = "c".parse().unwrap();
    let waiting = desk
        .schedule
        .release(desk.now, Selection::Customer(&customer));
    assert_eq!(waiting.messages, 2);
    let mut sent = Vec::new();
    for _ in 0..2 {
        let connection = desk.connect();
        sent.extend(desk.order(connection));
        desk.poll();
        desk.schedule.connection_closed(desk.now, connection);
    }
    sent.sort_unstable();
    assert_eq!(sent, [a, b]);
    // Nothing waits: the answer says so, and nothing opens.
    let waiting = desk
        .schedule
        .release(desk.now, Selection::Customer(&customer));
    assert_eq!(waiting, Waiting::default());
    let gate = |d: DestinationFacts<'_>| d.gate;
    assert!(
        desk.schedule
            .destinations()
            .map(gate)
            .all(|g| g == Gate::Held)
    );
}

/// RFC 4865: what its sender wants to wait is not let go by whoever calls for mail.
#[test]
fn what_its_sender_put_off_is_not_released() {
    let mut desk = Desk::new(1, policy(1));
    let held = Mail {
        to: &["held.example"],
        ..PLAIN
    };
    let later: Vec<_> = (0..100)
        .map(|_| {
            desk.enqueue(Mail {
                hold_for: Some(DAY),
                ..held
            })
        })
        .collect();
    let next_hop = to("held.example");
    let selection = || Selection::NextHop(next_hop.as_ref());
    // By a call, beside what may go; and by one for nothing else.
    for others in [1, 0] {
        let now: Vec<_> = (0..others).map(|_| desk.enqueue(held)).collect();
        desk.schedule.release(desk.now, selection());
        let mut order = Vec::new();
        for connection in desk.connects() {
            order.extend(desk.order(connection));
            desk.schedule.connection_closed(desk.now, connection);
        }
        assert_eq!(order, now);
        let said = desk.pass_by(MINUTE);
        assert!(!said.iter().any(|o| matches!(o, Output::Connect { .. })));
        let gate = |facts: DestinationFacts<'_>| facts.gate;
        let id = desk.id("held.example");
        assert_eq!(
            desk.schedule.destination_facts(id).map(gate),
            Some(Gate::Held)
        );
    }
    // By a visit.
    let visit = desk.schedule.begin_visit(desk.now, &[selection()]);
    assert_eq!(desk.schedule.take_visiting(desk.now, visit), Take::Quit);
    desk.schedule.end_visit(desk.now, visit);
    // Its time has come.
    desk.pass_by(DAY);
    desk.schedule.release(desk.now, selection());
    let connection = desk.connect();
    assert_eq!(desk.order(connection), later);
}

#[test]
fn names_below_are_released_together() {
    let mut desk = Desk::new(50, policy(1));
    let domains = [
        "held.example",
        "held.x.held.example",
        "heldy.example",
        "held.a.example",
    ];
    for domain in domains {
        desk.enqueue(Mail {
            to: &[domain],
            ..PLAIN
        });
    }
    let customer = "c".parse().unwrap();
    let below = Selection::CustomerBelow(&customer, "held.example");
    assert_eq!(desk.schedule.waiting(below).messages, 2);
    desk.schedule.release(desk.now, below);
    let released = desk
        .schedule
        .destinations()
        .filter(|d| d.gate != Gate::Held);
    let mut released: Vec<_> = released.map(|d| d.next_hop.to_string()).collect();
    released.sort_unstable();
    let expected = [
        "held for c (held.example)",
        "held for c (held.x.held.example)",
    ];
    assert_eq!(released, expected);
}

#[test]
fn a_released_site_that_is_not_there_is_held_again() {
    let mut desk = Desk::new(5, policy(1));
    desk.enqueue(Mail {
        to: &["held.example"],
        ..PLAIN
    });
    let next_hop = to("held.example");
    desk.schedule
        .release(desk.now, Selection::NextHop(next_hop.as_ref()));
    for _ in 0..crate::queue::destination::RELEASE_FAILURES_MAX {
        let (_, connection) = desk.wait_for_connection();
        desk.schedule
            .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    }
    let said = desk.pass_by(3 * HOUR);
    let end = ReleaseEnd::Unreachable;
    let ended = |o: &Output| matches!(o, Output::ReleaseEnded { end: e, .. } if *e == end);
    assert!(said.iter().any(ended), "{said:?}");
    assert!(
        !said.iter().any(|o| matches!(o, Output::Connect { .. })),
        "{said:?}"
    );
    // The next release does not wait for the end of the pause.
    desk.schedule
        .release(desk.now, Selection::NextHop(next_hop.as_ref()));
    desk.connect();
}

/// What is given up with the end of a release is not held any more when that is told; and the
/// destination is there until then.
#[test]
fn the_end_of_a_release_is_told_behind_what_it_gives_up() {
    let policy = Policy {
        windows: Some(1),
        ..policy(1)
    };
    let mut desk = Desk::new(5, policy);
    for _ in 0..200 {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    let customer = "c".parse().unwrap();
    (desk.schedule).release(desk.now, Selection::Customer(&customer));
    let mut said = Vec::new();
    while !said
        .iter()
        .any(|o| matches!(o, Output::ReleaseEnded { .. }))
    {
        let (_, connection) = desk.wait_for_connection();
        let unusable = ConnectionFailure::Unusable;
        (desk.schedule).connection_failed(desk.now, connection, unusable);
        said.extend(desk.poll());
    }
    let expired = |o: &&Output| matches!(o, Output::Expired { .. });
    assert_eq!(said.iter().filter(expired).count(), 200);
    let last = said.last().expect("something was said");
    let expected = Output::ReleaseEnded {
        destination: desk.id("held.example"),
        end: ReleaseEnd::Unreachable,
    };
    assert_eq!(*last, expected);
    assert_eq!(desk.schedule.held_for(&customer), Waiting::default());
}

/// A desk with so many messages that are held for one domain.
fn held_desk(messages: usize) -> Desk {
    let mut desk = Desk::new(5, policy(1));
    for _ in 0..messages {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    desk
}

/// The site asks for them.
fn release_held(desk: &mut Desk) {
    let next_hop = to("held.example");
    (desk.schedule).release(desk.now, Selection::NextHop(next_hop.as_ref()));
}

/// A line breaks in the middle of a drain, and the site is on line again before that is
/// noticed here: what it asks for joins the release, and what was cut off goes at once. What
/// it has put off itself does not, however often it asks.
#[test]
fn a_site_that_was_cut_off_and_calls_again() {
    let mut desk = held_desk(4);
    release_held(&mut desk);
    let connection = desk.connect();
    let [delivered, put_off, cut, last] = [(); 4].map(|()| desk.job(connection));
    desk.ends(&delivered, RecipientOutcome::Delivered);
    desk.ends(&put_off, RecipientOutcome::Deferred);
    desk.poll();
    desk.pass(SECOND);
    release_held(&mut desk);
    assert_eq!(desk.poll(), [], "it is under way");
    for job in [&cut, &last] {
        desk.ends(job, RecipientOutcome::Interrupted);
    }
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Lost);
    let connection = desk.connect();
    let again = [(); 2].map(|()| desk.job(connection).queue_id);
    assert_eq!(again, [cut.queue_id, last.queue_id]);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
    // If nobody has asked meanwhile, that is the end of it.
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Lost);
    let said = desk.pass_by(HOUR);
    assert!(
        !said.iter().any(|o| matches!(o, Output::Connect { .. })),
        "{said:?}"
    );
    // One that was begun before and comes to nothing later does not count either.
    release_held(&mut desk);
    let connection = desk.connect();
    desk.pass(SECOND);
    release_held(&mut desk);
    assert_eq!(desk.poll(), []);
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    desk.connect();
}

/// The same, and the provider has noticed before the site asks: something else keeps the
/// release going, and what was cut off goes with it.
#[test]
fn a_site_that_calls_again_behind_the_break() {
    let mut desk = held_desk(4);
    release_held(&mut desk);
    let connection = desk.connect();
    let [delivered, put_off, cut] = [(); 3].map(|()| desk.job(connection));
    desk.ends(&delivered, RecipientOutcome::Delivered);
    desk.ends(&put_off, RecipientOutcome::Deferred);
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Lost);
    let connection = desk.connect();
    let last = desk.job(connection);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
    // Each time that it asks, what was cut off is offered once, and what it put off never.
    for _ in 0..2 {
        release_held(&mut desk);
        desk.poll();
        let again = desk.job(connection);
        assert_eq!(again.queue_id, cut.queue_id);
        assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
        desk.ends(&again, RecipientOutcome::Interrupted);
        assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
    }
    desk.ends(&last, RecipientOutcome::Delivered);
    let ended = |o: &Output| matches!(o, Output::ReleaseEnded { .. });
    assert!(desk.poll().iter().any(ended));
}

/// The same, and the old line brings one answer more behind that: what goes onto it then was
/// cut off as well.
#[test]
fn a_site_that_calls_again_before_the_last_word_of_the_old_line() {
    let mut desk = held_desk(2);
    release_held(&mut desk);
    let connection = desk.connect();
    let first = desk.job(connection);
    desk.pass(SECOND);
    release_held(&mut desk);
    desk.pass(SECOND);
    desk.ends(&first, RecipientOutcome::Delivered);
    let cut = desk.job(connection);
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Lost);
    let connection = desk.connect();
    let again = desk.job(connection);
    assert_eq!(again.queue_id, cut.queue_id);
    // A line that was begun since is no old one.
    desk.ends(&again, RecipientOutcome::Interrupted);
    let ended = |o: &Output| matches!(o, Output::ReleaseEnded { .. });
    assert!(desk.poll().iter().any(ended));
}

/// Every second message of a drain is one that came since it began.
#[test]
fn fresh_mail_goes_between_the_backlog() {
    let mut desk = Desk::new(5, policy(1));
    let mail = Mail {
        to: &["held.example"],
        ..PLAIN
    };
    let old: Vec<_> = (0..4).map(|_| desk.enqueue(mail)).collect();
    desk.pass(HOUR);
    let next_hop = to("held.example");
    (desk.schedule).release(desk.now, Selection::NextHop(next_hop.as_ref()));
    let connection = desk.connect();
    let fresh: Vec<_> = (0..2).map(|_| desk.enqueue(mail)).collect();
    let expected = [old[0], fresh[0], old[1], fresh[1], old[2], old[3]];
    assert_eq!(desk.order(connection), expected);
}

#[test]
fn a_site_that_puts_mail_off_or_is_slow_gets_fewer_connections() {
    let check = |pause: Duration, outcome: RecipientOutcome, expected: u16| {
        let mut desk = Desk::new(20, policy(8));
        for _ in 0..100 {
            desk.enqueue(Mail {
                to: &["held.example"],
                ..PLAIN
            });
        }
        let next_hop = to("held.example");
        (desk.schedule).release(desk.now, Selection::NextHop(next_hop.as_ref()));
        let mut connections = desk.connects();
        // It answers well until it has all connections that it may have.
        let mut jobs = Vec::new();
        while connections.len() < 8 {
            let Take::Job(job) = desk.schedule.take(desk.now, connections[0]) else {
                panic!("there is mail")
            };
            desk.ends(&job, RecipientOutcome::Delivered);
            connections.extend(desk.connects());
        }
        for connection in &connections {
            match desk.schedule.take(desk.now, *connection) {
                Take::Job(job) => jobs.push(job),
                other => panic!("{other:?}"),
            }
        }
        desk.pass(pause);
        // All that was in flight says the same: that counts once.
        for job in &jobs {
            desk.ends(job, outcome);
        }
        let mut going = 8;
        for connection in &connections {
            if desk.schedule.take(desk.now, *connection) == Take::Quit {
                desk.schedule.connection_closed(desk.now, *connection);
                going -= 1;
            }
        }
        assert_eq!(going, expected, "{outcome:?} after {pause:?}");
    };
    check(Duration::ZERO, RecipientOutcome::Delivered, 8);
    check(Duration::ZERO, RecipientOutcome::Deferred, 4);
    check(2 * pace::SLOW, RecipientOutcome::Delivered, 4);
}

/// A release that does not reach the site is a missed window for what waited then.
#[test]
fn held_mail_ends_after_its_windows() {
    let windows = Policy {
        windows: Some(2),
        release_failures_max: 1,
        ..policy(1)
    };
    let mut desk = Desk::new(5, windows);
    let next_hop = to("held.example");
    let check = |desk: &mut Desk, expired: usize, waiting: u64| {
        desk.schedule
            .release(desk.now, Selection::NextHop(next_hop.as_ref()));
        let (_, connection) = desk.wait_for_connection();
        desk.schedule
            .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
        let said = desk.poll();
        let tries = |o: &&Output| {
            let reason = ExpiryReason::Tries;
            matches!(o, Output::Expired { reason: r, .. } if *r == reason)
        };
        assert_eq!(said.iter().filter(tries).count(), expired, "{said:?}");
        let left = desk.schedule.waiting(Selection::NextHop(next_hop.as_ref()));
        assert_eq!(left.messages, waiting);
    };
    let mail = Mail {
        to: &["held.example"],
        ..PLAIN
    };
    desk.enqueue(mail);
    check(&mut desk, 0, 1);
    // It comes when one window is over, and has one more than the other.
    desk.enqueue(mail);
    check(&mut desk, 1, 1);
    check(&mut desk, 1, 0);
}

#[test]
fn one_message_is_held_and_released() {
    let mut desk = Desk::new(5, policy(1));
    let (a, b) = (desk.enqueue(PLAIN), desk.enqueue(PLAIN));
    desk.schedule.hold(desk.now, Selection::Message(a));
    let connection = desk.connect();
    assert_eq!(desk.order(connection), [b]);
    desk.schedule.release(desk.now, Selection::Message(a));
    assert!(desk.poll().contains(&Output::Work { connection }));
    let job = desk.job(connection);
    assert_eq!(job.queue_id, a);
    // Held on the wire: it comes back and stays.
    desk.schedule.hold(desk.now, Selection::Message(a));
    desk.ends(&job, RecipientOutcome::Deferred);
    let said = desk.pass_by(HOUR);
    assert!(
        !said.iter().any(|o| matches!(o, Output::Connect { .. })),
        "{said:?}"
    );
    let entry = desk.schedule.index().get(a).unwrap();
    assert_eq!(entry.shares().next().unwrap().state, ShareState::Held);
    // An operator who releases does not want to wait for the time of the next try.
    desk.schedule.connection_closed(desk.now, connection);
    desk.schedule.release(desk.now, Selection::Message(a));
    let connection = desk.connect();
    assert_eq!(desk.order(connection), [a]);
}

#[test]
fn deletion_ends_what_is_not_on_the_wire() {
    let mut desk = Desk::new(1, policy(1));
    let queue_id = desk.enqueue(Mail {
        to: &["a.example", "b.example"],
        ..PLAIN
    });
    let connection = desk.connect();
    let job = desk.job(connection);
    let other = RecipientIndex(1 - job.recipients.as_slice()[0].0);
    assert!(desk.schedule.delete(desk.now, queue_id));
    let deleted = |one| Output::Deleted {
        queue_id,
        recipients: Recipients::One(one),
    };
    assert!(desk.poll().contains(&deleted(other)));
    desk.ends(&job, RecipientOutcome::Deferred);
    let said = desk.poll();
    assert!(
        said.contains(&deleted(job.recipients.as_slice()[0])),
        "{said:?}"
    );
    assert!(said.iter().any(|o| matches!(o, Output::Finished { .. })));
    assert!(!desk.schedule.delete(desk.now, queue_id));
}

/// Another way is no other time: what its sender put off (RFC 4865) waits for that there, too.
/// Who releases the message by name wants it to go now.
#[test]
fn what_its_sender_put_off_goes_another_way_at_its_time() {
    let mut desk = Desk::new(5, policy(1));
    let put_off = Mail {
        hold_for: Some(HOUR),
        ..PLAIN
    };
    let queue_id = desk.enqueue(put_off);
    let moves = [(RecipientIndex(0), to("other.example"))];
    desk.schedule.reroute(desk.now, queue_id, &moves);
    assert_eq!(desk.pass_by(HOUR - SECOND), []);
    // It may wait a second longer than was said: by which clock it goes stands in the time.
    desk.pass(2 * SECOND);
    desk.connect();
    let by_name = desk.enqueue(put_off);
    assert_eq!(desk.poll(), []);
    (desk.schedule).release(desk.now, Selection::Message(by_name));
    desk.connect();
}

#[test]
fn after_recovery_the_time_of_the_next_try_is_kept() {
    let mut desk = Desk::new(5, policy(1));
    desk.enqueue(Mail {
        not_before: Some(20 * MINUTE),
        ..PLAIN
    });
    assert_eq!(desk.pass_by(20 * MINUTE - SECOND), []);
    desk.pass(SECOND);
    desk.connect();
}

#[test]
fn a_listing_comes_in_pages() {
    let mut desk = Desk::new(5, policy(1));
    let mut expected: HashMap<&str, Vec<QueueId>> = HashMap::new();
    for i in 0..3 * PAGE_SCAN_MAX {
        let domain = if i % 1000 == 0 {
            "rare.example"
        } else {
            "common.example"
        };
        let octets = if i % 5000 == 4999 { 1 << 20 } else { 1 };
        let queue_id = desk.enqueue(Mail {
            to: &[domain],
            octets,
            ..PLAIN
        });
        expected.entry(domain).or_default().push(queue_id);
    }
    let all = |at: Option<&str>, limit: usize, matches: &dyn Fn(&Entry<'_>) -> bool| {
        let at = at.map(|domain| [desk.id(domain)]);
        let at = at.as_ref().map(<[_; 1]>::as_slice);
        let (mut ids, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = desk.schedule.page(after, limit, at, matches);
            assert!(page.entries.len() <= limit);
            ids.extend(page.entries.iter().map(Entry::queue_id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (ids, pages);
            }
        }
    };
    let any = |_: &Entry<'_>| true;
    // Few: only they are looked at.
    assert_eq!(
        all(Some("rare.example"), 100, &any),
        (expected["rare.example"].clone(), 1)
    );
    assert_eq!(
        all(Some("rare.example"), 7, &any).0,
        expected["rare.example"]
    );
    assert_eq!(
        all(Some("common.example"), 1000, &any).0,
        expected["common.example"]
    );
    let (ids, pages) = all(None, 100, &|entry| entry.octets() > 1);
    assert_eq!(ids.len(), 6);
    assert!((3..=4).contains(&pages), "bounded work for each: {pages}");
    assert_eq!(all(None, 100, &|entry| entry.arrival() < NOON).0, []);
    let held = |entry: &Entry<'_>| entry.hold() == HoldState::Held;
    assert_eq!(all(None, 100, &held).0, []);
    assert_eq!(all(None, 999, &any).0.len(), 3 * PAGE_SCAN_MAX);
    // At several, few and many.
    let both = |ids: &mut [DestinationId], limit: usize| {
        ids.sort_unstable();
        let (mut found, mut after) = (0, None);
        loop {
            let page = desk.schedule.page(after, limit, Some(ids), any);
            found += page.entries.len();
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let (rare, common) = (desk.id("rare.example"), desk.id("common.example"));
    assert_eq!(both(&mut [common, rare], 999), 3 * PAGE_SCAN_MAX);
    assert_eq!(both(&mut [rare], 999), expected["rare.example"].len());
    assert_eq!(both(&mut [], 999), 0);
}

/// What a tick costs is counted in steps, of which a portion has [`PORTION`].
#[test]
fn a_tick_costs_the_same_with_much_mail_behind_a_dead_host() {
    let mut desk = Desk::new(5, policy(5));
    for _ in 0..50_000 {
        desk.enqueue(PLAIN);
    }
    for connection in desk.connects() {
        desk.schedule
            .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    }
    desk.poll();
    let mut steps = 0;
    let mut ticks = 0;
    while desk.now.wall < NOON + 3 * HOUR {
        desk.wait();
        let said = desk.poll();
        steps += PORTION - desk.schedule.portion_left;
        for output in said {
            if let Output::Connect { connection, .. } = output {
                desk.schedule
                    .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
                desk.poll();
                steps += PORTION - desk.schedule.portion_left;
            }
        }
        ticks += 1;
    }
    assert!(ticks < 250, "{ticks}: one a minute, and the probes");
    assert!(steps < 4 * ticks, "{steps} steps in {ticks} ticks");
}

#[test]
fn bulk_work_is_done_in_portions() {
    let mut desk = Desk::new(5, policy(5));
    for _ in 0..3 * PORTION {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    desk.pass(6 * DAY);
    let mut portions = 0;
    while !desk.schedule.index().is_empty() {
        let said = desk.poll();
        assert!(said.len() <= 2 * PORTION as usize);
        assert_eq!(desk.wait(), Duration::ZERO, "there is more to do");
        portions += 1;
    }
    assert_eq!(portions, 3);
}

/// A reload looks at every destination, and at every message only where it changes what
/// becomes of it.
#[test]
fn a_reload_is_done_in_portions_and_only_where_it_changes_something() {
    let mut desk = Desk::new(5, policy(5));
    for _ in 0..3 * PORTION {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    desk.pass_by(MINUTE);
    let mut portions = |changed: Policy| {
        let policies = Policies {
            default: Arc::new(changed),
            ..Policies::default()
        };
        desk.schedule.reconfigure(desk.now, policies, SECOND);
        let mut portions = 0;
        loop {
            assert_eq!(desk.poll(), []);
            portions += 1;
            if !desk.wait().is_zero() {
                return portions;
            }
        }
    };
    assert_eq!(portions(policy(5)), 1);
    let shorter = Policy {
        warn: Some(5 * HOUR),
        ..policy(5)
    };
    let many = portions(shorter.clone());
    assert!((3..=5).contains(&many), "{many}");
    assert_eq!(portions(shorter), 1);
}

#[test]
fn a_shorter_life_counts_for_mail_that_waits() {
    let mut desk = Desk::new(5, policy(5));
    for _ in 0..1000 {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    desk.poll();
    let shorter = Policy {
        retry: Retry::Fixed {
            tries: 5,
            every: MINUTE,
            give_up: HOUR,
        },
        warn: None,
        connections: 5,
        ..Policy::default()
    };
    let policies = Policies {
        default: Arc::new(shorter),
        ..Policies::default()
    };
    desk.schedule.reconfigure(desk.now, policies, SECOND);
    let said = desk.pass_by(HOUR);
    let expired = said.iter().filter(|o| matches!(o, Output::Expired { .. }));
    assert_eq!(expired.count(), 1000);
}

#[test]
fn a_stop_ends_idle_connections_and_gives_no_more_work() {
    let mut desk = Desk::new(5, policy(5));
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    desk.order(connection);
    desk.schedule.stop(desk.now);
    assert_eq!(desk.poll()[..], [Output::Quit { connection }]);
    desk.enqueue(PLAIN);
    assert_eq!(desk.poll(), []);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Quit);
    desk.schedule.connection_closed(desk.now, connection);
    let said = desk.poll();
    assert!(
        !said.iter().any(|o| matches!(o, Output::Connect { .. })),
        "{said:?}"
    );
}

fn falls_back() -> Desk {
    let mut desk = Desk::new(20, policy(5));
    let group = crate::route::SmarthostGroup(0);
    desk.schedule.policies.mode = crate::route::DeliveryMode::MxThenSmarthost(group);
    desk
}

fn smarthost(desk: &Desk) -> Option<DestinationId> {
    let group = crate::route::SmarthostGroup(0);
    desk.schedule.find(NextHopRef::Smarthost(group))
}

/// Where each message waits.
fn shares_at(desk: &Desk, id: DestinationId) -> usize {
    desk.schedule.destinations[id].shares as usize
}

#[test]
fn mail_of_a_closed_destination_goes_to_the_smarthost() {
    for how in [
        ConnectionFailure::Unusable,
        ConnectionFailure::Resting {
            until: Instant::START + 2 * HOUR,
            found: Found::Here,
        },
    ] {
        let mut desk = falls_back();
        // Small, large, and more than one step moves; held mail is not by MX.
        for _ in 0..200 {
            desk.enqueue(PLAIN);
        }
        desk.enqueue(Mail {
            octets: 50 << 20,
            ..PLAIN
        });
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
        let mut connections = desk.connects();
        let last = connections.pop().unwrap();
        for connection in connections {
            desk.schedule.connection_closed(desk.now, connection);
        }
        assert_eq!(smarthost(&desk), None, "it is not closed yet");
        desk.schedule.connection_failed(desk.now, last, how);
        let said = desk.poll();
        let id = smarthost(&desk).expect("its mail went there");
        assert_eq!(shares_at(&desk, id), 201, "{how:?}");
        assert_eq!(shares_at(&desk, desk.id("d.example")), 0);
        let to_smarthost = said.iter().any(
            |output| matches!(output, Output::Connect { destination, .. } if *destination == id),
        );
        assert!(to_smarthost, "{how:?}: it is sent at once");
        // New mail does not wait for the probe.
        desk.enqueue(PLAIN);
        assert_eq!(shares_at(&desk, id), 202);
        // When its time is over, new mail finds out.
        desk.pass_by(3 * HOUR);
        desk.enqueue(PLAIN);
        assert_eq!(shares_at(&desk, desk.id("d.example")), 1, "{how:?}");
    }
}

#[test]
fn only_a_closed_destination_falls_back() {
    let mut desk = falls_back();
    let mail = desk.enqueue(Mail {
        to: &["d.example", "d.example"],
        ..PLAIN
    });
    let connection = desk.connect();
    let job = desk.job(connection);
    assert_eq!(job.queue_id, mail);
    // One is refused for good, one put off: the host talks to us.
    let outcomes = [RecipientOutcome::Failed, RecipientOutcome::Deferred];
    let results: Vec<_> = (job.recipients.as_slice().iter().copied())
        .zip(outcomes)
        .collect();
    desk.schedule.outcome(desk.now, job.id, &results);
    desk.poll();
    assert_eq!(smarthost(&desk), None);
    assert_eq!(shares_at(&desk, desk.id("d.example")), 1);
    // It cannot be reached when it is tried again: then it goes, who was refused not.
    desk.schedule.connection_closed(desk.now, connection);
    let (_, connection) = desk.wait_for_connection();
    let how = ConnectionFailure::Unusable;
    desk.schedule.connection_failed(desk.now, connection, how);
    let connection = desk.connect();
    let job = desk.job(connection);
    assert_eq!(Some(job.destination), smarthost(&desk));
    assert_eq!(job.recipients.as_slice(), [results[1].0]);
    assert_eq!(job.attempts, 1, "attempts are counted on");
}

/// The smarthost dies with mail: as long as the direct way is closed, too, one message at
/// a time finds out how it stands there; when it takes mail, all goes back.
#[test]
fn the_way_back_from_a_smarthost_that_is_dead() {
    const MAIL: usize = 300;
    let how = ConnectionFailure::Unusable;
    let mut desk = falls_back();
    for _ in 0..MAIL {
        desk.enqueue(PLAIN);
    }
    let mut connects = desk.poll();
    let mut next = move |desk: &mut Desk| -> Vec<(ConnectionId, DestinationId)> {
        let said = std::mem::replace(&mut connects, desk.pass_by(MINUTE));
        let wanted = said.into_iter().filter_map(|output| match output {
            Output::Connect {
                connection,
                destination,
            } => Some((connection, destination)),
            _ => None,
        });
        wanted.collect()
    };
    // Both ways are tried and closed, each in its time.
    let (mut direct, mut there) = (0, 0);
    for _ in 0..600 {
        for (connection, to) in next(&mut desk) {
            if Some(to) == smarthost(&desk) {
                there += 1;
            } else {
                direct += 1;
                let waiting = shares_at(&desk, to);
                assert!(there == 0 || waiting <= 1, "{waiting} wait for a probe");
            }
            desk.schedule.connection_failed(desk.now, connection, how);
        }
    }
    assert!(direct > 4 && there > 4, "{direct} {there}");
    let id = smarthost(&desk).expect("its mail went there");
    assert!(shares_at(&desk, id) >= MAIL - 1);
    assert_eq!(desk.schedule.detours.iter().count(), shares_at(&desk, id));
    // The direct way is open again.
    let mut delivered = 0;
    for _ in 0..600 {
        for (connection, to) in next(&mut desk) {
            if to == id {
                desk.schedule.connection_failed(desk.now, connection, how);
                continue;
            }
            while let Take::Job(job) = desk.schedule.take(desk.now, connection) {
                desk.ends(&job, RecipientOutcome::Delivered);
                delivered += 1;
            }
            desk.schedule.connection_closed(desk.now, connection);
        }
    }
    assert_eq!(delivered, MAIL);
    assert_eq!(desk.schedule.detours.iter().count(), 0);
}

/// While the smarthost takes mail, what went there stays there.
#[test]
fn no_way_back_from_a_smarthost_that_works() {
    let mut desk = falls_back();
    for _ in 0..10 {
        desk.enqueue(PLAIN);
    }
    for connection in desk.connects() {
        let how = ConnectionFailure::Unusable;
        desk.schedule.connection_failed(desk.now, connection, how);
    }
    desk.poll();
    let id = smarthost(&desk).expect("its mail went there");
    desk.pass_by(3 * HOUR);
    assert_eq!(shares_at(&desk, id), 10);
    // The direct way works for new mail, which does not bring the other back.
    desk.enqueue(PLAIN);
    desk.pass_by(MINUTE);
    assert_eq!(shares_at(&desk, id), 10);
}

#[test]
fn what_its_sender_put_off_waits_for_its_time_there_too() {
    let mut desk = falls_back();
    let later = Mail {
        not_before: Some(HOUR),
        ..PLAIN
    };
    let put_off = desk.enqueue(later);
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    let how = ConnectionFailure::Unusable;
    desk.schedule.connection_failed(desk.now, connection, how);
    let connection = desk.connect();
    assert_ne!(desk.order(connection), [put_off]);
    desk.schedule.connection_closed(desk.now, connection);
    let (pause, connection) = desk.wait_for_connection();
    assert_eq!(pause, HOUR);
    assert_eq!(desk.order(connection), [put_off]);
}

#[test]
fn a_destination_rests_with_its_hosts_and_no_failure_is_counted() {
    let retry = Retry::Fixed {
        tries: 2,
        every: MINUTE,
        give_up: DAY,
    };
    let mut desk = Desk::new(20, Policy { retry, ..policy(5) });
    desk.enqueue(PLAIN);
    for round in 0..10 {
        let (pause, connection) = desk.wait_for_connection();
        assert_eq!(
            pause,
            if round == 0 {
                Duration::ZERO
            } else {
                7 * MINUTE
            }
        );
        let until = desk.now.instant + 7 * MINUTE;
        let how = ConnectionFailure::Resting {
            until,
            found: Found::Here,
        };
        desk.schedule.connection_failed(desk.now, connection, how);
        let said = desk.poll();
        assert_eq!(said, [], "neither a failure nor the end of its mail");
    }
}

/// Of a release the failures that other cores have found out count, too: they have the
/// probes.
#[test]
fn a_release_ends_whichever_core_finds_out() {
    let mut desk = Desk::new(20, policy(5));
    desk.enqueue(Mail {
        to: &["held.example"],
        ..PLAIN
    });
    let next_hop = to("held.example");
    let selection = Selection::NextHop(next_hop.as_ref());
    desk.schedule.release(desk.now, selection);
    let mut rests = |found: Found| {
        let (_, connection) = desk.wait_for_connection();
        let until = desk.now.instant + MINUTE;
        let how = ConnectionFailure::Resting { until, found };
        desk.schedule.connection_failed(desk.now, connection, how);
        let said = desk.poll();
        said.iter()
            .any(|o| matches!(o, Output::ReleaseEnded { .. }))
    };
    for failure in 1..=crate::queue::destination::RELEASE_FAILURES_MAX {
        assert!(!rests(Found::Here), "it is being probed just now");
        let is_last = failure == crate::queue::destination::RELEASE_FAILURES_MAX;
        assert_eq!(rests(Found::Elsewhere), is_last, "failure {failure}");
    }
}

#[test]
fn policies_of_routes() {
    let own = |connections| {
        Arc::new(Policy {
            connections,
            ..policy(1)
        })
    };
    let mut policies = Policies {
        default: own(1),
        ..Policies::default()
    };
    policies
        .domains
        .insert(&".b.example".parse().unwrap(), own(2));
    policies
        .domains
        .insert(&"x.b.example".parse().unwrap(), own(3));
    let check = |next_hop: NextHop, connections: u16| {
        assert_eq!(
            policies.get(&next_hop).connections,
            connections,
            "{next_hop}"
        );
    };
    check(to("a.example"), 1);
    check(to("b.example"), 1);
    check(to("y.b.example"), 2);
    check(to("x.b.example"), 3);
    check(to("held.b.example"), 2);
    check(NextHop::Discard, 1);
}

/// One of three recipients gets a new way, another one's share is on the wire.
#[test]
fn what_waits_follows_a_new_route_and_what_is_on_the_wire_does_not() {
    let mut desk = Desk::new(20, policy(5));
    let id = desk.enqueue(Mail {
        to: &["d.example", "d.example", "e.example"],
        ..PLAIN
    });
    let other = to("f.example");
    let moves = |recipients: &[u32]| -> Vec<_> {
        let all = recipients.iter();
        all.map(|i| (RecipientIndex(*i), other.clone())).collect()
    };
    desk.schedule.reroute(desk.now, id, &moves(&[1]));
    let at = |desk: &Desk, domain: &str| {
        let id = desk.schedule.find(to(domain).as_ref());
        id.map_or(0, |id| shares_at(desk, id))
    };
    let all = |desk: &Desk| ["d.example", "e.example", "f.example"].map(|d| at(desk, d));
    assert_eq!(all(&desk), [1, 1, 1]);
    let connections = desk.connects();
    assert_eq!(connections.len(), 3);
    let mut jobs = Vec::new();
    for connection in connections {
        jobs.push(desk.job(connection));
    }
    // All of it is on the wire.
    desk.schedule.reroute(desk.now, id, &moves(&[0, 2]));
    assert_eq!(all(&desk), [1, 1, 1]);
    let on_wire: Vec<_> = (jobs.iter())
        .map(|job| job.recipients.as_slice().len())
        .collect();
    assert_eq!(on_wire, [1, 1, 1]);
    // One is put off, and follows then; its attempts begin anew.
    let job = jobs
        .iter()
        .position(|job| job.destination == desk.id("e.example"));
    let job = jobs.remove(job.unwrap());
    desk.ends(&job, RecipientOutcome::Deferred);
    desk.schedule.reroute(desk.now, id, &moves(&[0, 2]));
    assert_eq!(all(&desk), [1, 0, 2]);
    let f = desk.id("f.example");
    let entry = desk.schedule.index().get(id).unwrap();
    let shares = entry.shares().filter(|share| share.destination == f);
    assert!(
        shares
            .map(|share| share.attempts)
            .all(|attempts| attempts == 0)
    );
    for job in jobs {
        desk.ends(&job, RecipientOutcome::Delivered);
    }
    let (_, connection) = desk.wait_for_connection();
    let last = desk.job(connection);
    desk.ends(&last, RecipientOutcome::Delivered);
    let finished = |output: &Output| matches!(output, Output::Finished { .. });
    assert_eq!(
        desk.poll().iter().filter(|output| finished(output)).count(),
        1
    );
}

/// What a visit takes, each message delivered as it comes.
fn visited(desk: &mut Desk, visit: VisitId) -> Vec<QueueId> {
    let mut order = Vec::new();
    while let Take::Job(job) = desk.schedule.take_visiting(desk.now, visit) {
        order.push(job.queue_id);
        desk.ends(&job, RecipientOutcome::Delivered);
    }
    order
}

fn visit(desk: &mut Desk, domains: &[&str]) -> VisitId {
    let hops: Vec<_> = domains.iter().map(|domain| to(domain)).collect();
    let selections: Vec<_> = hops
        .iter()
        .map(|hop| Selection::NextHop(hop.as_ref()))
        .collect();
    desk.schedule.begin_visit(desk.now, &selections)
}

#[test]
fn a_visit_takes_what_is_held_and_opens_no_gate() {
    let mut desk = Desk::new(1, policy(1));
    let held = |domain| Mail {
        to: domain,
        ..PLAIN
    };
    let b = desk.enqueue(held(&["held-b.example"]));
    let a = desk.enqueue(held(&["held-a.example"]));
    let big = desk.enqueue(Mail {
        octets: 50 << 20,
        ..held(&["held-a.example"])
    });
    let other = desk.enqueue(held(&["held-c.example"]));
    let customer = "c".parse().unwrap();
    let all = [Selection::Customer(&customer)];
    assert_eq!(desk.schedule.on_offer(&all).messages, 4);
    let first = visit(
        &mut desk,
        &["held-a.example", "held-b.example", "held-a.example"],
    );
    assert_eq!(visited(&mut desk, first), [a, big, b]);
    assert_eq!(
        desk.schedule.take_visiting(desk.now, first),
        Take::Quit,
        "nothing is left"
    );
    // What comes meanwhile to where the visitor has been stays.
    let late = desk.enqueue(held(&["held-a.example"]));
    assert_eq!(desk.schedule.take_visiting(desk.now, first), Take::Quit);
    desk.schedule.end_visit(desk.now, first);
    desk.schedule.end_visit(desk.now, first);
    assert!(desk.connects().is_empty(), "the gate is shut");
    let second = desk.schedule.begin_visit(desk.now, &all);
    let mut rest = visited(&mut desk, second);
    rest.sort_unstable();
    assert_eq!(rest, [other, late]);
}

#[test]
fn what_a_visitor_puts_off_is_held_for_the_next() {
    let mut desk = Desk::new(1, policy(1));
    let id = desk.enqueue(Mail {
        to: &["held.example"],
        ..PLAIN
    });
    for _ in 0..3 {
        let visit = visit(&mut desk, &["held.example"]);
        let Take::Job(job) = desk.schedule.take_visiting(desk.now, visit) else {
            panic!("it is offered once in each visit");
        };
        assert_eq!(job.queue_id, id);
        // In flight: nobody else is offered it.
        let hop = to("held.example");
        let expected = Offer {
            messages: 0,
            in_flight: 1,
        };
        let offer = desk.schedule.on_offer(&[Selection::NextHop(hop.as_ref())]);
        assert_eq!(offer, expected);
        assert_eq!(desk.schedule.take_visiting(desk.now, visit), Take::Wait);
        desk.ends(&job, RecipientOutcome::Deferred);
        assert_eq!(desk.schedule.take_visiting(desk.now, visit), Take::Quit);
        // Also when its time comes while the visitor is there.
        desk.pass(DAY);
        assert_eq!(desk.schedule.take_visiting(desk.now, visit), Take::Quit);
        desk.schedule.end_visit(desk.now, visit);
        assert!(desk.connects().is_empty());
    }
}

#[test]
fn a_visit_that_breaks_off_gives_everything_back() {
    let mut desk = Desk::new(1, policy(1));
    for _ in 0..3 {
        desk.enqueue(Mail {
            to: &["held.example"],
            ..PLAIN
        });
    }
    let hop = to("held.example");
    let offer = [Selection::NextHop(hop.as_ref())];
    let three = Offer {
        messages: 3,
        in_flight: 0,
    };
    let visit = desk.schedule.begin_visit(desk.now, &offer);
    let Take::Job(first) = desk.schedule.take_visiting(desk.now, visit) else {
        panic!("there are three");
    };
    assert!(matches!(
        desk.schedule.take_visiting(desk.now, visit),
        Take::Job(_)
    ));
    desk.schedule.end_visit(desk.now, visit);
    assert_eq!(desk.schedule.on_offer(&offer), three);
    // A late outcome does nothing.
    desk.ends(&first, RecipientOutcome::Delivered);
    assert_eq!(desk.schedule.on_offer(&offer), three);
    assert_eq!(desk.schedule.take_visiting(desk.now, visit), Take::Quit);
}

#[test]
fn a_destination_that_is_visited_is_not_forgotten() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(Mail {
        to: &["held.example"],
        ..PLAIN
    });
    let guest = visit(&mut desk, &["held.example"]);
    assert_eq!(visited(&mut desk, guest).len(), 1);
    desk.pass_by(3 * FORGET_AFTER);
    desk.id("held.example");
    desk.schedule.end_visit(desk.now, guest);
    desk.pass_by(3 * FORGET_AFTER);
    assert!(desk.schedule.find(to("held.example").as_ref()).is_none());
}
