//! How long does a site wait for the answer to ETRN, and for the first connection?
//!
//! The design hangs on it: a release touches only what it releases, and the answer is a
//! true count of what all data cores hold, so it takes two notices there and two back. The
//! goal is well under a millisecond, with a million messages for ten thousand customers.
//!
//! Workload: two data cores and the control core in memory, with the real queues, sessions
//! and desk; half a million messages on each core, one hundred for each customer. A site
//! connects, says EHLO, and then ETRN of its domain: the time from that line to the 253,
//! and to the first connection that is asked for. Each customer calls once. There are no
//! sockets and no threads: what the kernel and the wake-up of threads add is not in it.
//!
//! Measured: the program itself, built for release, two data cores, a million messages
//! held for 10,000 customers, sockets and threads included, medians of 41 on an idle
//! machine with two processors: 0.31 ms from ETRN to its answer, 0.33 ms to the
//! connection at the site, 0.55 ms to the first MAIL there. With the machine busy with
//! other work four times over (load 9) it was 0.6, 3 and 14 ms. Without optimisation and
//! with 20 customers this bench says 0.3 ms to the first connection.
//!
//! # Beside a flood
//!
//! A stranger on each core asks for names that do not exist between any two steps of the
//! relay. A refusal costs what it costs and nothing more: no notice to another core, no
//! write, nothing that stays. Without optimisation the answer takes 1.7 times as long with
//! one line between two steps, and 5.7 times with ten, 30 us for each.
//!
//! Measured: the program itself, built for release, two data cores, on a machine with two
//! processors that had nothing else to do; 400 ETRN with nothing waiting, each over a
//! connection of its own, then 20 sessions that send 4 KiB for four seconds; one run:
//!
//! | beside | answer to ETRN, median and 99 of 100 | accepted |
//! |---|---|---|
//! | nobody | 0.12 ms, 0.20 ms | 20,100/s |
//! | 5,000 lines a second from 20 connections | 0.14 ms, 0.32 ms | 18,700/s |
//! | as many as they get answered, some 45,000 | 0.48 ms, 4.9 ms | 11,700/s |
//! | the same generator at another server there | 0.09 ms, 1.1 ms | 16,300/s |
//! | nobody, once more | 0.10 ms, 0.24 ms | 19,300/s |
//!
//! That was when each refusal was answered at once, and was a line of the log. Since then a
//! client that is refused again and again waits (`core::strangers`): on the same kind of
//! machine 20 sessions beside 20 that ask as fast as they are answered had 0.97, 0.92 and 1.02
//! of what they had alone before and behind, 9,000 messages a second in lock step; the flood got
//! 228 answers in 14 s, and 10 lines of the log.
//!
//! Run by `cargo test --benches` it is small.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spool_format::{Location, LogId, Offset, SegmentId, SegmentPlace, SpoolUuid};
use turnspool::core::control::{ControlCompletion, ControlCore, ControlOperation};
use turnspool::core::credentials::Credentials;
use turnspool::core::data::{DataCore, Parts, Settings};
use turnspool::core::online::{Online, Setup};
use turnspool::core::settings::Tls;
use turnspool::core::{
    Completion, ConnectionId, CoreId, Endpoint, Host, ListenerId, Notice, Operation, Piece,
};
use turnspool::mail::{Domain, Priority, QueueId, RecipientIndex};
use turnspool::queue::notification::{self, allowance::Allowance};
use turnspool::queue::{
    self, CoreNumber, HoldState, MessageFacts, NewMessage, NewRecipient, Permits, Policies,
    Schedule, Sessions, Told,
};
use turnspool::route::customer::{Customer, Customers, DeliverTo, Quota, ReleaseRules, Retention};
use turnspool::route::{
    DeliveryMode, NextHop, Protocol, RelayRules, Routes, RoutesInSmarthostMode, TlsPolicy, TlsStart,
};
use turnspool::smtp;
use turnspool::spool::log::{Identity, Log, Settings as LogSettings};
use turnspool::spool::message::{SegmentSource, View};
use turnspool::time::{Instant, Now, WallTime};

const CORES: u8 = 2;
const EACH: usize = 100;

/// No message is read here.
struct NoSpool;

impl SegmentSource for NoSpool {
    fn view(&self, _: SegmentPlace) -> Option<View<'_>> {
        None
    }
}

fn customer(number: usize) -> Customer {
    let name = format!("c{number}");
    Customer {
        name: name.parse().unwrap(),
        scopes: vec![format!("{name}.example").parse().unwrap()],
        queue: name.parse().unwrap(),
        deliver_to: DeliverTo::Mx,
        release: ReleaseRules {
            auth: false,
            open: true,
            clients: Box::default(),
            on_connect: false,
            every: None,
        },
        user: None,
        retention: Retention::Age(Duration::from_secs(1 << 20)),
        warn: None,
        quota: Quota {
            octets: u64::MAX,
            messages: u64::MAX,
        },
        recipients_file: None,
        call_ahead: false,
        contact: None,
        wake_command: Vec::new(),
        wake_for: None,
    }
}

fn settings(customers: Vec<Customer>) -> Settings {
    let hostname: Domain = "relay.example".parse().unwrap();
    let mut mail = smtp::settings::Settings::new(hostname.clone());
    mail.offers.etrn = true;
    let client = Arc::new(smtp::client::settings::Settings::new(hostname.clone()));
    let held = customers.iter().flat_map(|customer| {
        let owned = |scope: &_| (Clone::clone(scope), customer.name.clone());
        customer.scopes.iter().map(owned)
    });
    let routes = Routes::new(DeliveryMode::Mx, RoutesInSmarthostMode::Ignored, held, []);
    let scopes = customers.iter().flat_map(|c| c.scopes.clone());
    let relay = RelayRules::new(None, scopes);
    Settings {
        hostname,
        listeners: vec![Arc::new(mail)],
        listener_tls: vec![TlsStart::Command],
        wakeup: turnspool::core::wakeup::WakeUps::default(),
        tls: Tls::default(),
        credentials: Credentials::default(),
        collectors: Vec::new(),
        notify: notification::Rules::default(),
        relay,
        routes: Arc::new(routes.unwrap()),
        customers: Arc::new(Customers::new(customers).unwrap()),
        recipients: Arc::default(),
        smtp_client: Arc::clone(&client),
        lmtp_client: client,
        policies: Policies::default(),
        data_cores: CORES,
        idle: Duration::from_secs(2),
    }
}

/// The machines of a relay, and what they tell one another.
struct Relay {
    now: Now,
    control: ControlCore,
    cores: Vec<DataCore>,
    letters: Vec<VecDeque<Notice>>,
    /// The session that is listened to, and what was said there.
    heard: Option<Session>,
    said: Vec<u8>,
    connects: usize,
    /// Notices to other cores, the control core among them, and writes to the disk.
    traces: usize,
    flood: Flood,
}

/// A connection of a core.
type Session = (usize, ConnectionId);

/// A stranger on each core who asks for names that do not exist, as fast as he is answered,
/// and comes back when he is dismissed.
#[derive(Default)]
struct Flood {
    sessions: Vec<Session>,
    /// Lines between two steps of the relay.
    lines: usize,
    asked: usize,
    refused: usize,
    came: usize,
    /// How long the relay was busy with it.
    busy: Duration,
}

impl Relay {
    fn new(customers: usize) -> Self {
        let now = Now {
            instant: Instant::START,
            wall: WallTime::from_millis(1_795_305_600_000),
        };
        let settings = Arc::new(settings((0..customers).map(customer).collect()));
        let sessions = Arc::new(Sessions::new(1000, 1000, 1));
        let permits = Arc::new(Permits::new(20, 5));
        let online = Online::new(Setup::always(), CORES, now);
        let mut relay = Self {
            now,
            control: ControlCore::new(now, CORES, Arc::clone(&settings.customers), 1, online),
            cores: Vec::new(),
            letters: vec![VecDeque::new(), VecDeque::new()],
            heard: None,
            said: Vec::new(),
            connects: 0,
            traces: 0,
            flood: Flood::default(),
        };
        let next_hops: Vec<_> = (0..customers).map(held).collect();
        for core in 0..CORES {
            let log = LogId(core);
            let queue_settings = queue::Settings {
                core: CoreNumber(core),
                policies: settings.policies.clone(),
                idle: settings.idle,
                seed: 1,
            };
            let mut schedule = Schedule::new(queue_settings, Arc::clone(&permits), now);
            for number in 0..(customers * EACH / usize::from(CORES)) {
                let next_hop = &next_hops[number % customers];
                enqueue(&mut schedule, now, log, number as u64, next_hop);
            }
            let identity = Identity {
                spool: SpoolUuid([7; 16]),
                log,
            };
            let log_settings = LogSettings {
                segment_bytes: 1 << 20,
                size_max: 1 << 40,
                free_min: 0,
            };
            relay.cores.push(DataCore::new(Parts {
                id: CoreId(core),
                settings: Arc::clone(&settings),
                sessions: Arc::clone(&sessions),
                allowance: Arc::new(Allowance::new(1)),
                hosts: Arc::new(turnspool::queue::Hosts::new(1)),
                log: Log::new(identity, log_settings, 11, 1 << 40),
                queue: schedule,
                detours: turnspool::core::detours::Detours::default(),
                broken: Vec::new(),
                seed: 1,
                secret: [core; 32],
            }));
        }
        for core in 0..CORES.into() {
            relay.give(core, Completion::Timer);
        }
        relay.settle();
        relay
    }

    fn give(&mut self, core: usize, completion: Completion<'_>) {
        self.cores[core].handle(self.now, completion, &NoSpool);
        while let Some(operation) = self.cores[core].poll() {
            match operation {
                Operation::Send { connection, pieces } => {
                    for piece in pieces {
                        if let Piece::Octets(octets) = piece {
                            self.say((core, connection), &octets);
                        }
                    }
                    let sent = Completion::Sent { connection };
                    self.cores[core].handle(self.now, sent, &NoSpool);
                }
                Operation::TellControl(notice) => {
                    self.traces += 1;
                    let completion = ControlCompletion::Notice(notice);
                    self.control.handle(self.now, completion);
                    self.control_operations();
                }
                Operation::TellCore { core, notice } => {
                    self.traces += 1;
                    self.letters[usize::from(core.0)].push_back(notice);
                }
                Operation::Connect { .. } => self.connects += 1,
                Operation::Write { .. } => self.traces += 1,
                Operation::Close { connection } => {
                    let sessions = &mut self.flood.sessions;
                    sessions.retain(|session| *session != (core, connection));
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, session: Session, octets: &[u8]) {
        if self.heard == Some(session) {
            self.said.extend(octets);
        }
        if self.flood.sessions.contains(&session) {
            self.flood.refused += usize::from(octets.starts_with(b"459 "));
        }
    }

    /// The stranger at this core says one line.
    fn ask_in_vain(&mut self, core: usize) {
        let begin = std::time::Instant::now();
        let session = (self.flood.sessions.iter()).find(|session| session.0 == core);
        let connection = match session {
            Some((_, connection)) => *connection,
            None => {
                self.flood.came += 1;
                let connection = self.connect(core, 1 << 20 | self.flood.came);
                self.flood.sessions.push((core, connection));
                connection
            }
        };
        self.flood.asked += 1;
        let line = format!("ETRN nobody-{}.example\r\n", self.flood.asked);
        let octets = line.as_bytes();
        self.give(core, Completion::Received { connection, octets });
        self.flood.busy += begin.elapsed();
    }

    fn control_operations(&mut self) {
        while let Some(operation) = self.control.poll() {
            match operation {
                ControlOperation::Tell { core, notice } => {
                    self.letters[usize::from(core.0)].push_back(notice);
                }
                ControlOperation::Resolve { next_hop } => {
                    let host = Host {
                        name: "site.example".to_owned(),
                        addresses: vec![Endpoint::Tcp("192.0.2.1:25".parse().unwrap())],
                        protocol: Protocol::Smtp,
                        tls: TlsPolicy::None.into(),
                        preference: 0,
                        login: None,
                    };
                    let completion = ControlCompletion::Resolved {
                        next_hop,
                        answer: Ok(vec![host]),
                        valid_for: Duration::from_secs(60),
                    };
                    self.control.handle(self.now, completion);
                }
                _ => {}
            }
        }
    }

    /// Hands over one notice after the other, until `enough` or there are none.
    fn run(&mut self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let Some(core) = (0..self.cores.len()).find(|core| !self.letters[*core].is_empty())
            else {
                return;
            };
            for _ in 0..self.flood.lines {
                self.ask_in_vain(core);
            }
            let notice = self.letters[core].pop_front().unwrap();
            self.give(core, Completion::Notice(notice));
        }
    }

    fn settle(&mut self) {
        self.run(|_| false);
        self.said.clear();
    }

    /// A connection from an address of its own, behind its EHLO.
    fn connect(&mut self, core: usize, number: usize) -> ConnectionId {
        let [_, second, high, low] = (number as u32).to_be_bytes();
        let peer = SocketAddr::from(([10, second, high, low], 1025));
        let connection = self.cores[core].admit();
        let accepted = Completion::Accepted {
            connection,
            listener: ListenerId(0),
            peer,
            local: peer,
        };
        self.give(core, accepted);
        let octets = b"EHLO site.example\r\n";
        self.give(core, Completion::Received { connection, octets });
        connection
    }

    /// ETRN of a customer: the time to its answer, and to the first connection.
    fn etrn(&mut self, number: usize) -> (Duration, Duration) {
        // Each calls from an address of its own, a minute behind the one before.
        self.now = self.now.after(Duration::from_secs(60));
        let core = number % self.cores.len();
        let connection = self.connect(core, number);
        self.settle();
        self.heard = Some((core, connection));
        let before = self.connects;
        let line = format!("ETRN c{number}.example\r\n");
        let begin = std::time::Instant::now();
        let octets = line.as_bytes();
        self.give(core, Completion::Received { connection, octets });
        self.run(|relay| !relay.said.is_empty());
        let answered = begin.elapsed();
        self.run(|relay| relay.connects > before);
        let connects = begin.elapsed();
        let said = String::from_utf8_lossy(&self.said);
        let expected = format!("253 2.0.0 OK, {EACH} pending messages, ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(self.connects > before, "nothing is asked for");
        self.settle();
        let octets = b"";
        self.give(core, Completion::Received { connection, octets });
        self.settle();
        (answered, connects)
    }
}

fn held(number: usize) -> NextHop {
    NextHop::Hold {
        customer: format!("c{number}").parse().unwrap(),
        domain: format!("c{number}.example").parse().unwrap(),
    }
}

fn enqueue(schedule: &mut Schedule, now: Now, log: LogId, number: u64, next_hop: &NextHop) {
    let message = NewMessage {
        facts: MessageFacts {
            queue_id: QueueId::new(log.0, number + 1),
            location: Location {
                log,
                segment: SegmentId(0),
                offset: Offset(0),
            },
            octets: 4096,
            arrival: now.wall,
            priority: Priority::default(),
            deliver_by: None,
            hold_until: None,
            hold: HoldState::Free,
        },
    };
    let recipient = NewRecipient {
        recipient: RecipientIndex(0),
        next_hop: next_hop.as_ref(),
        attempts: 0,
        not_before: None,
        told: Told::NOTHING,
    };
    schedule.enqueue(now, &message, [recipient]);
}

/// Each of these customers calls once: how long it took.
fn call(relay: &mut Relay, numbers: std::ops::Range<usize>) -> Times {
    let mut times: Vec<_> = numbers.map(|number| relay.etrn(number)).collect();
    let mut of = |of: fn(&(Duration, Duration)) -> Duration| {
        times.sort_unstable_by_key(of);
        let at = |part: f64| of(&times[((times.len() - 1) as f64 * part) as usize]);
        [at(0.5), at(0.99), at(1.0)]
    };
    Times {
        answered: of(|(answered, _)| *answered),
        connects: of(|(_, connects)| *connects),
    }
}

/// Median, what 99 of 100 are within, and all.
struct Times {
    answered: [Duration; 3],
    connects: [Duration; 3],
}

fn show(what: &str, [median, most, last]: [Duration; 3]) {
    println!("ETRN to {what}: median {median:?}, 99 of 100 within {most:?}, all {last:?}");
}

fn main() {
    // Cargo says "--bench" when it is to be measured, and nothing in a test.
    let small = !std::env::args().any(|arg| arg == "--bench");
    let (customers, calls) = if small { (20, 4) } else { (10_000, 2_000) };
    let mut relay = Relay::new(customers);
    let alone = call(&mut relay, 0..calls);
    show("its answer", alone.answered);
    show("the first connection", alone.connects);
    for (round, lines) in [1, 10].into_iter().enumerate() {
        let sessions = std::mem::take(&mut relay.flood.sessions);
        relay.flood = Flood {
            sessions,
            lines,
            ..Flood::default()
        };
        let from = calls * (round + 1);
        let beside = call(&mut relay, from..from + calls);
        let flood = &relay.flood;
        assert!(flood.refused > 0, "it is a flood");
        println!("beside a flood of {lines} lines between any two steps:");
        show("its answer", beside.answered);
        show("the first connection", beside.connects);
        println!(
            "  {:.2} times as long; {:?} for each of {} refusals, over {} connections",
            beside.answered[0].as_secs_f64() / alone.answered[0].as_secs_f64(),
            flood.busy / flood.asked.max(1) as u32,
            flood.refused,
            flood.came,
        );
    }
    // Where nobody else is there, nothing comes of it: no other core hears of it, and
    // nothing waits for the disk.
    relay.flood.lines = 0;
    relay.settle();
    let traces = relay.traces;
    (0..1000).for_each(|line| relay.ask_in_vain(line % 2));
    assert_eq!(relay.traces, traces);
}
