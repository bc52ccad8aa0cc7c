//! Turns (RFC 2645) over several data cores: real cores, the real control core, sites
//! that call, take, refuse, hang up after any octet and call again.
//!
//! What a world promises:
//! - every accepted message is delivered, to its customer and at a domain that was asked
//!   for;
//! - more often than once only where the reply to the end of data was lost;
//! - a connection is at one core at a time; at the end every turn is over, and every
//!   session has left.
//!
//! What happens next is chosen from the seed among all that can happen: octets, cut
//! anywhere, notices, writes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use spool_format::{Epoch, LogId, SegmentId, SegmentPlace, SpoolUuid};
use turnspool::core::control::{ControlCompletion, ControlCore, ControlOperation};
use turnspool::core::data::{DataCore, Parts};
use turnspool::core::online::{Online, Setup};
use turnspool::core::turn::Baton;
use turnspool::core::{
    Completion, ConnectionId, ControlNotice, CoreId, ListenerId, Notice, Operation, Piece,
};
use turnspool::queue;
use turnspool::queue::notification::allowance::Allowance;
use turnspool::queue::{CoreNumber, Hosts, Permits, Schedule, Sessions};
use turnspool::report::Fact;
use turnspool::spool::commit::Durability;
use turnspool::spool::log::{Gone, Identity, Log, Settings as LogSettings};
use turnspool::spool::message::{SegmentSource, View};
use turnspool::time::{Instant, Now, WallTime};

use crate::random::Random;

mod acts;
mod settings;
mod site;

use self::settings::settings;
use self::site::{At, Site};

const SEGMENT_BYTES: u32 = 256 << 10;
const PLENTY: u64 = 1 << 40;

/// When a world begins.
const START_NANOS: u64 = 1_000_000_000;

/// Steps of one world. One that needs more goes round in circles.
const STEPS_MAX: u64 = 2_000_000;

/// Each customer with its domains.
const CUSTOMERS: &[(&str, &[&str])] = &[
    ("branch", &["a.example", "b.example"]),
    ("other", &["c.example"]),
];

/// Worlds when nothing else is said.
const SEEDS: u64 = 500;

const SECRET: &str = "swordfish";

#[derive(Default)]
struct Spool(HashMap<SegmentPlace, (Epoch, Vec<u8>)>);

impl SegmentSource for Spool {
    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        let (epoch, bytes) = self.0.get(&segment)?;
        Some(View {
            bytes,
            epoch: *epoch,
        })
    }
}

/// What is left for a data core.
enum Letter {
    Notice(Notice),
    HandOver { baton: Box<Baton>, wire: usize },
}

/// Who is at the other end of a connection.
enum Peer {
    /// Brings mail. How many messages; all is said at once.
    Feeder { messages: usize },
    /// A customer that calls.
    Site(Site),
}

struct Wire {
    core: Option<(usize, ConnectionId)>,
    peer: Peer,
    to_core: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    wanted: bool,
    sending: bool,
    /// Octets that the peer said, and that the core heard.
    said: usize,
    heard: usize,
    /// Of those: heard when all had left that the core was sending. What came later it may
    /// not have believed yet.
    believed: usize,
    /// The line breaks when the peer has said so many.
    cut_at: Option<usize>,
    broken: bool,
    closed: bool,
}

impl Wire {
    /// What the core has heard counts, if nothing is leaving.
    fn believe(&mut self) {
        if !self.sending {
            self.believed = self.heard;
        }
    }
}

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Letter(usize),
    Control,
    ToCore(usize),
    ToPeer(usize),
    Sent(usize),
    Break(usize),
    Written(usize),
}

struct World {
    random: Random,
    nanos: u64,
    cores: Vec<DataCore>,
    ready: Vec<VecDeque<Completion<'static>>>,
    spool: Spool,
    writes: Vec<VecDeque<Completion<'static>>>,
    control: ControlCore,
    to_control: VecDeque<ControlNotice>,
    letters: Vec<VecDeque<Letter>>,
    wires: Vec<Wire>,
    sessions: Arc<Sessions>,
    /// Deliveries of each message, and replies that were lost.
    delivered: BTreeMap<usize, (u32, u32)>,
    /// The customer of each message, and its domain.
    sent: Vec<(usize, &'static str)>,
    turned: u32,
    over: u32,
    handed_over: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = random.between(1, 4) as u8;
        let settings = Arc::new(settings(count));
        let sessions = Arc::new(Sessions::new(1000, 1000, 1));
        let allowance = Arc::new(Allowance::new(1));
        let hosts = Arc::new(Hosts::new(1));
        let permits = Arc::new(Permits::new(10, 5));
        let control = ControlCore::new(
            now_at(START_NANOS),
            count,
            Arc::clone(&settings.customers),
            random.next(),
            Online::new(Setup::always(), count, now_at(START_NANOS)),
        );
        let mut world = Self {
            nanos: START_NANOS,
            cores: Vec::new(),
            ready: Vec::new(),
            spool: Spool::default(),
            writes: Vec::new(),
            control,
            to_control: VecDeque::new(),
            letters: Vec::new(),
            wires: Vec::new(),
            sessions,
            delivered: BTreeMap::new(),
            sent: Vec::new(),
            turned: 0,
            over: 0,
            handed_over: 0,
            random,
        };
        for number in 0..count {
            let identity = Identity {
                spool: SpoolUuid([7; 16]),
                log: LogId(number),
            };
            let log_settings = LogSettings {
                segment_bytes: SEGMENT_BYTES,
                size_max: PLENTY,
                free_min: 0,
            };
            let queue_settings = queue::Settings {
                core: CoreNumber(number),
                policies: settings.policies.clone(),
                idle: settings.idle,
                seed: world.random.next(),
            };
            let schedule = Schedule::new(queue_settings, Arc::clone(&permits), world.now());
            world.cores.push(DataCore::new(Parts {
                id: CoreId(number),
                settings: Arc::clone(&settings),
                sessions: Arc::clone(&world.sessions),
                allowance: Arc::clone(&allowance),
                hosts: Arc::clone(&hosts),
                log: Log::new(identity, log_settings, 11, PLENTY),
                queue: schedule,
                detours: turnspool::core::detours::Detours::default(),
                broken: Vec::new(),
                seed: world.random.next(),
                secret: [number; 32],
            }));
            world.ready.push(VecDeque::new());
            world.writes.push(VecDeque::new());
            world.letters.push(VecDeque::new());
        }
        for core in 0..world.cores.len() {
            world.give(core, Completion::Timer);
        }
        world
    }

    fn now(&self) -> Now {
        now_at(self.nanos)
    }

    fn give(&mut self, core: usize, completion: Completion<'_>) {
        let now = self.now();
        self.cores[core].handle(now, completion, &self.spool);
        loop {
            while let Some(operation) = self.cores[core].poll() {
                self.perform(core, operation);
            }
            let Some(completion) = self.ready[core].pop_front() else {
                return;
            };
            self.cores[core].handle(now, completion, &self.spool);
        }
    }

    fn wire(&self, core: usize, id: ConnectionId) -> usize {
        let at = |wire: &Wire| wire.core == Some((core, id));
        self.wires
            .iter()
            .position(at)
            .expect("a connection of the core")
    }

    fn perform(&mut self, core: usize, operation: Operation) {
        match operation {
            Operation::Receive { connection } => {
                let wire = self.wire(core, connection);
                assert!(!self.wires[wire].wanted, "one receive at a time");
                self.wires[wire].wanted = true;
            }
            Operation::Send { connection, pieces } => {
                let wire = self.wire(core, connection);
                let wire = &mut self.wires[wire];
                assert!(!wire.sending && !wire.closed, "one send at a time");
                wire.sending = true;
                for piece in pieces {
                    match piece {
                        Piece::Octets(octets) => wire.to_peer.extend(octets),
                        Piece::Spool {
                            segment,
                            offset,
                            octets,
                        } => {
                            let (_, bytes) = &self.spool.0[&segment];
                            let from = offset.0 as usize;
                            wire.to_peer.extend(&bytes[from..from + octets as usize]);
                        }
                    }
                }
            }
            Operation::Close { connection } => {
                let wire = self.wire(core, connection);
                self.wires[wire].closed = true;
                self.wires[wire].core = None;
            }
            Operation::Listen { .. } => panic!("the listeners are always open"),
            // A line that breaks here tells it, now or later.
            Operation::Doubt { .. } => {}
            Operation::HandOver {
                connection,
                core: to,
                baton,
            } => {
                let wire = self.wire(core, connection);
                assert!(!self.wires[wire].sending, "it moves when it rests");
                assert_ne!(usize::from(to.0), core);
                self.wires[wire].core = None;
                self.wires[wire].wanted = false;
                self.handed_over += 1;
                self.letters[usize::from(to.0)].push_back(Letter::HandOver { baton, wire });
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                let place = SegmentPlace {
                    log: LogId(core as u8),
                    segment,
                };
                let (_, bytes) = self.spool.0.get_mut(&place).expect("it is prepared");
                bytes.resize(offset.0 as usize, 0);
                bytes.extend_from_slice(&octets);
                let result = Ok(());
                let written = Completion::Written { result, octets };
                match durability {
                    Durability::None => self.ready[core].push_back(written),
                    Durability::Range | Durability::File => self.writes[core].push_back(written),
                }
            }
            Operation::Forget { segment } => {
                self.spool.0.remove(&segment).expect("forgotten once");
            }
            Operation::TellControl(notice) => self.to_control.push_back(notice),
            Operation::TellCore { core, notice } => {
                self.letters[usize::from(core.0)].push_back(Letter::Notice(notice));
            }
            Operation::Report(fact) => match fact {
                Fact::Turned { .. } => self.turned += 1,
                Fact::TurnOver { .. } => self.over += 1,
                Fact::SpoolDamaged { .. } | Fact::LogClosed { .. } => panic!("{fact}"),
                _ => {}
            },
            Operation::Connect { .. } => panic!("all mail is held"),
            Operation::Stopped => panic!("nobody said stop"),
        }
    }

    fn control(&mut self, completion: ControlCompletion) {
        let now = self.now();
        self.control.handle(now, completion);
        while let Some(operation) = self.control.poll() {
            match operation {
                ControlOperation::Tell { core, notice } => {
                    self.letters[usize::from(core.0)].push_back(Letter::Notice(notice));
                }
                ControlOperation::PrepareSegment { core, header, .. } => {
                    let bytes = header.encode().to_vec();
                    self.spool.0.insert(header.place, (header.epoch, bytes));
                    let segment: SegmentId = header.place.segment;
                    self.control.handle(
                        now,
                        ControlCompletion::SegmentPrepared {
                            core,
                            segment,
                            result: Ok(()),
                        },
                    );
                }
                ControlOperation::RetireSegment { core, segment, .. } => {
                    let gone = Gone::Removed;
                    self.control.handle(
                        now,
                        ControlCompletion::SegmentRetired {
                            core,
                            segment,
                            gone,
                        },
                    );
                }
                ControlOperation::MeasureDisk
                | ControlOperation::Summarise { .. }
                | ControlOperation::Report(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn connect(&mut self, listener: u16, peer: Peer, cut_at: Option<usize>) -> usize {
        let core = self.random.below(self.cores.len() as u64) as usize;
        let id = self.cores[core].admit();
        self.wires.push(Wire {
            core: Some((core, id)),
            peer,
            to_core: VecDeque::new(),
            to_peer: VecDeque::new(),
            wanted: false,
            sending: false,
            said: 0,
            heard: 0,
            believed: 0,
            cut_at,
            broken: false,
            closed: false,
        });
        let address: SocketAddr = "127.0.0.1:1025".parse().expect("an address");
        self.give(
            core,
            Completion::Accepted {
                connection: id,
                listener: ListenerId(listener),
                peer: address,
                local: address,
            },
        );
        self.wires.len() - 1
    }

    /// Mail for everybody, all in one session.
    fn feed(&mut self, messages: usize) {
        let mut said = b"EHLO feeder.example\r\n".to_vec();
        for _ in 0..messages {
            let customer = self.random.below(CUSTOMERS.len() as u64) as usize;
            let domain = self.random.pick(CUSTOMERS[customer].1);
            let token = self.sent.len();
            self.sent.push((customer, domain));
            let length = self.random.pick(&[0, 10, 500, 5000, 70_000]);
            let body = format!(
                "X-Token: {token}\r\n\r\n{}\r\n",
                ".x\r\n".repeat(length / 4)
            );
            said.extend_from_slice(
                format!(
                    "MAIL FROM:<>\r\nRCPT TO:<u@{domain}>\r\nBDAT {} LAST\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
        said.extend_from_slice(b"QUIT\r\n");
        let wire = self.connect(0, Peer::Feeder { messages }, None);
        self.wires[wire].said = said.len();
        self.wires[wire].to_core.extend(said);
    }

    /// A customer calls.
    fn call(&mut self, customer: usize, cut_at: Option<usize>) -> usize {
        let domains = CUSTOMERS[customer].1;
        let asks = match self.random.below(3) {
            0 if cut_at.is_some() => vec![self.random.pick(domains)],
            1 => domains.iter().rev().copied().collect(),
            _ => Vec::new(),
        };
        let mut site = Site::new(customer, asks, &mut self.random);
        if cut_at.is_some() {
            site.refuses_in = self.random.pick(&[0, 0, 3]);
            site.hasty = self.random.one_in(20);
        }
        self.connect(1, Peer::Site(site), cut_at)
    }
    fn play(mut self) -> (u32, u32) {
        self.run();
        for _ in 0..self.random.between(1, 6) {
            let messages = self.random.length(0, 25);
            self.feed(messages);
            if self.random.one_in(2) {
                self.run();
            }
            for _ in 0..self.random.between(1, 3) {
                let customer = self.random.below(CUSTOMERS.len() as u64) as usize;
                let most = self.random.pick(&[150, 600, 3000]);
                let cut_at = self.random.length(1, most);
                self.call(customer, Some(cut_at));
            }
            self.run();
            self.nanos += 3_600_000_000_000;
            for core in 0..self.cores.len() {
                self.give(core, Completion::Timer);
            }
            self.control(ControlCompletion::Timer);
            self.run();
        }
        // Calm: each customer calls until there is nothing left.
        for customer in 0..CUSTOMERS.len() {
            for attempt in 0.. {
                assert!(attempt < 5, "there is always something left");
                let number = self.call(customer, None);
                self.run();
                let Peer::Site(site) = &self.wires[number].peer else {
                    unreachable!("it called");
                };
                assert_eq!(site.at, At::Over, "the call hangs");
                if site.code == 453 {
                    break;
                }
                assert_eq!(site.code, 250);
            }
        }
        self.check();
        (self.turned, self.handed_over)
    }

    fn check(&self) {
        for token in 0..self.sent.len() {
            let (times, lost) = self.delivered.get(&token).copied().unwrap_or_default();
            assert!(times >= 1, "message {token} was lost");
            assert!(
                times <= 1 + lost,
                "message {token} came {times} times, and {lost} replies were lost"
            );
        }
        assert_eq!(self.turned, self.over, "every turn is over");
        assert_eq!(self.sessions.in_use(), 0, "every session has left");
        let fed: usize = (self.wires.iter())
            .filter_map(|wire| match wire.peer {
                Peer::Feeder { messages } => Some(messages),
                Peer::Site(_) => None,
            })
            .sum();
        assert_eq!(fed, self.sent.len());
    }
}

fn now_at(nanos: u64) -> Now {
    Now {
        instant: Instant::from_nanos(nanos),
        wall: WallTime::from_millis(1_795_351_597_250 + (nanos / 1_000_000) as i64),
    }
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}
#[test]
fn turns_over_several_cores() {
    if let Some(seed) = crate::hunt::number("TURNSPOOL_SIM_SEED") {
        World::new(seed).play();
        return;
    }
    let from = crate::hunt::number("TURNSPOOL_SIM_FROM").unwrap_or(1);
    let seeds = crate::hunt::number("TURNSPOOL_SIM_SEEDS").unwrap_or(SEEDS);
    let (mut turned, mut handed_over) = (0, 0);
    for seed in from..from + seeds {
        let played = std::panic::catch_unwind(|| World::new(seed).play());
        let Ok(summary) = played else {
            panic!(
                "world {seed} failed; to see it again: \
                 TURNSPOOL_SIM_SEED={seed} cargo test -p turnspool-simulation turns"
            );
        };
        turned += summary.0;
        handed_over += summary.1;
    }
    assert!(turned > 0 && handed_over > 0, "nothing turned");
    eprintln!("{turned} turns, {handed_over} of their connections went to another core");
}
