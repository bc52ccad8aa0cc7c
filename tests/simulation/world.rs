//! A data core in virtual time: the shell that performs its operations on a virtual
//! disk and network, the control core that answers it, and the clock that jumps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use spool_format::{SegmentHeader, SegmentId, SegmentPlace, Severity};
use turnspool::core::control::{ControlCompletion, ControlCore};
use turnspool::core::credentials::Credentials;
use turnspool::core::data::{DataCore, Parts, Settings};
use turnspool::core::settings::Tls;
use turnspool::core::wakeup::WakeUps;
use turnspool::core::{
    AdminRequestId, Completion, ConnectionId, ControlNotice, CoreId, Endpoint, Host, ListenerId,
    Notice, Operation, Piece, Unresolved, admin, maildir, restart,
};
use turnspool::mail::{Domain, QueueId};
use turnspool::queue::notification::{self, allowance::Allowance};
use turnspool::queue::{self, CoreNumber, Hosts, Permits, Schedule, Sessions};
use turnspool::report::{Ending, Fact};
use turnspool::route::{
    DeliveryMode, Network, NextHop, Protocol, RelayRules, Routes, RoutesInSmarthostMode, Scope,
    Target, TlsPolicy, TlsStart,
};
use turnspool::smtp;
use turnspool::spool::commit::{Durability, WriteFault, WriteStep};
use turnspool::spool::log::{Gone, Identity, Settings as LogSettings};
use turnspool::spool::reclaim::Fate;
use turnspool::time::{Instant, Now, WallTime};

use crate::client::{Client, Exit, Manner};
use crate::customers;
use crate::disk::{Disk, Health, LOG, Loss, SPOOL, Sync};
use crate::ledger::Ledger;
use crate::mailboxes::{Mailboxes, NewMail};
use crate::network::{Connection, Part, Phase, Sending};
use crate::peer::{Act, Peer};
use crate::plan::{Flavour, Plan};
use crate::random::Random;
use crate::server::{Mood, Offers, Server, Temper};

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
const SECOND: u64 = 1000 * MILLISECOND;
const HOUR: u64 = 3600 * SECOND;

/// Events of one world. A world that needs more goes round in circles.
const EVENTS_MAX: u64 = 400_000;

/// Timers in a row at one time. A few are portions of bulk work.
const TIMERS_AT_ONCE_MAX: u32 = 1000;

/// Operations for one completion.
const OPERATIONS_AT_ONCE_MAX: u32 = 100_000;

/// Starts after everything was at rest, for senders that are still to be told.
const ENCORES_MAX: u32 = 3;

/// How long after the last trouble everything has to be at rest.
const REST: u64 = 20 * 24 * HOUR;

/// Something that happens at a time.
#[derive(Debug)]
enum Event {
    /// A client comes.
    Client { number: usize },
    /// Octets of a peer arrive.
    ToCore { id: Wire, octets: Vec<u8> },
    /// The peer sends no more.
    Finish { id: Wire },
    /// The peer has reset.
    Reset { id: Wire },
    /// Octets of the core arrive.
    ToPeer { id: Wire, part: Part },
    /// The core has closed, or is gone.
    CloseAtPeer { id: Wire },
    /// The peer has read octets.
    Window { id: Wire, octets: usize },
    /// The outcome of a connect.
    Connected {
        id: Wire,
        result: Result<(), String>,
    },
    /// A write has ended.
    Written {
        life: u32,
        sync: Option<Sync>,
        result: Result<(), WriteFault>,
        octets: Vec<u8>,
    },
    /// A notice reaches the core.
    Notice { life: u32, notice: Box<Notice> },
    /// The control core does something.
    Control { life: u32, job: Job },
    /// The program starts.
    Start,
    /// It is asked to stop.
    Stop,
    /// The disk fails from now on.
    DiskFails,
    /// Others take or give back disk space.
    Take { bytes: u64 },
    /// The clock of the calendar is set.
    SetClock { millis: i64 },
    /// Trouble is over.
    Calm,
    /// Held mail is released.
    Release { customer: u64 },
    /// Is it at rest?
    Look,
}

/// What the control core does for a data core.
#[derive(Debug)]
enum Job {
    Prepare {
        header: SegmentHeader,
        spare: Option<SegmentId>,
    },
    Retire {
        segment: SegmentPlace,
        fate: Fate,
    },
    Summarise {
        segment: SegmentPlace,
    },
    WriteMaildir {
        connection: queue::ConnectionId,
        mail: maildir::Mail,
    },
}

/// A connection of any life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Wire {
    life: u32,
    id: ConnectionId,
}

/// A host and what it offers.
struct HostPlan {
    offers: Offers,
    latency: u64,
    /// Connects are refused, once in so many; 0 for never.
    refuses_in: u64,
}

/// What a world came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) events: u64,
    pub(crate) accepted: u32,
    pub(crate) delivered: u32,
    pub(crate) duplicates: u32,
    pub(crate) notifications: u32,
    /// Of these: such that tell of several messages.
    pub(crate) merged: u32,
    pub(crate) lives: u32,
    pub(crate) segments_reused: u32,
    /// Of everything that happened, in order.
    pub(crate) digest: u64,
}

pub(crate) struct World {
    plan: Plan,
    random: Random,
    now: u64,
    wall_offset: i64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    core: Option<DataCore>,
    /// Its desk of releases is used, and nothing else.
    control_core: Option<ControlCore>,
    life: u32,
    ready: VecDeque<Completion<'static>>,
    connections: BTreeMap<Wire, Connection>,
    disk: Disk,
    writing: bool,
    settings: Arc<Settings>,
    hosts: BTreeMap<SocketAddr, HostPlan>,
    mood: Mood,
    ledger: Ledger,
    /// What this life holds for customers.
    usage: turnspool::queue::Ledger,
    mailboxes: Mailboxes,
    clients: Vec<Option<Client>>,
    /// Operations until the next crash.
    crash_in: Option<u64>,
    crashes: VecDeque<u64>,
    crashed: bool,
    stopping: bool,
    stopped: bool,
    /// The disk told the core of a failure.
    failed_at: Option<u64>,
    /// Since then the disk fails or is full, so that done records cannot be written.
    no_room_since: Option<u64>,
    calm: bool,
    /// Everything must be at rest then.
    rest_by: u64,
    /// Asked whether it is at rest.
    asked: bool,
    at_rest: bool,
    /// This life found messages that were never committed, and are not whole.
    torn: bool,
    /// Starts after the last stop.
    encores: u32,
    /// Messages that the core said it has.
    committed: BTreeSet<QueueId>,
    summary: Summary,
    trace: bool,
}

impl World {
    /// Plays the world of a seed to its end.
    pub(crate) fn play(flavour: Flavour, seed: u64, trace: bool) -> Summary {
        let mut random = Random::new(seed ^ (flavour as u64) << 56);
        let plan = Plan::new(flavour, &mut random);
        if trace {
            eprintln!("{plan:#?}");
        }
        let mut world = Self::new(plan, random, trace);
        world.schedule();
        world.run();
        world.finish()
    }

    fn new(plan: Plan, mut random: Random, trace: bool) -> Self {
        let hostname: Domain = "relay.example".parse().expect("a domain");
        let mut session = smtp::settings::Settings::new(hostname.clone());
        session.message_bytes_max = 1 << 20;
        let client = Arc::new(smtp::client::settings::Settings::new(hostname.clone()));
        let files = plan.maildir.map(|path| {
            let domain = "d0.example".parse().expect("a domain");
            (Scope::Name(domain), Target::Maildir(path.into()))
        });
        let customers = match plan.flavour {
            Flavour::Held => customers::customers(plan.domains),
            _ => Arc::default(),
        };
        let held = customers::held(&customers);
        let routes = Routes::new(
            DeliveryMode::Mx,
            RoutesInSmarthostMode::Ignored,
            held,
            files,
        );
        let usage = turnspool::queue::Ledger::default();
        let network = Network::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 24);
        let settings = Settings {
            hostname,
            credentials: Credentials::default(),
            listeners: vec![Arc::new(session)],
            listener_tls: vec![TlsStart::Command],
            tls: Tls::default(),
            relay: RelayRules::new(Some(vec![network.expect("a network")]), []),
            routes: routes.expect("no routes"),
            policies: customers::counted(&plan.policies, &customers, &usage),
            customers,
            recipients: Arc::default(),
            wakeup: WakeUps::default(),
            collectors: Vec::new(),
            notify: notification::Rules {
                per_minute: plan.notifications_per_minute,
                ..notification::Rules::default()
            },
            smtp_client: Arc::clone(&client),
            lmtp_client: client,
            data_cores: 1,
            idle: Duration::from_secs(random.below(4)),
        };
        let bytes = u64::from(plan.segment_bytes) * 2000;
        let disk = Disk::new(bytes, random.fork());
        let mood = Mood::new(Temper {
            misdeed_in: plan.misdeed_in,
            refuses: plan.refuses,
        });
        let crashes = plan.crashes.iter().copied().collect();
        let mut world = Self {
            random,
            now: SECOND,
            wall_offset: 1_795_351_597_250,
            events: BTreeMap::new(),
            sequence: 0,
            core: None,
            control_core: None,
            life: 0,
            ready: VecDeque::new(),
            connections: BTreeMap::new(),
            disk,
            writing: false,
            settings: Arc::new(settings),
            hosts: BTreeMap::new(),
            mood,
            ledger: Ledger::default(),
            usage,
            mailboxes: Mailboxes::default(),
            clients: Vec::new(),
            crash_in: None,
            crashes,
            crashed: false,
            stopping: false,
            stopped: false,
            failed_at: None,
            no_room_since: None,
            calm: false,
            rest_by: u64::MAX,
            asked: false,
            at_rest: false,
            torn: false,
            encores: 0,
            committed: BTreeSet::new(),
            summary: Summary::default(),
            trace,
            plan,
        };
        world.build_hosts();
        world.build_clients();
        world
    }

    /// Two addresses for each domain at most; the last is that of the senders.
    fn build_hosts(&mut self) {
        for domain in 0..=self.plan.domains {
            for host in 0..self.random.between(1, 2) {
                let address = host_address(domain, host);
                let random = &mut self.random;
                let mut one = |in_ten: u64| random.below(10) < in_ten;
                let offers = Offers {
                    ehlo: one(9),
                    pipelining: one(7),
                    chunking: one(5),
                    flight: one(2),
                    eight_bit: one(8),
                    dsn: one(5),
                    size: one(5),
                };
                let plan = HostPlan {
                    offers,
                    latency: self.random.pick(&[
                        10 * MICROSECOND,
                        MILLISECOND,
                        50 * MILLISECOND,
                        SECOND,
                    ]),
                    refuses_in: if self.plan.misdeed_in > 0 {
                        self.random.between(1, 8)
                    } else {
                        0
                    },
                };
                self.hosts.insert(address, plan);
            }
        }
    }

    fn build_clients(&mut self) {
        let mut share: Vec<VecDeque<usize>> = vec![VecDeque::new(); self.plan.clients];
        for _ in 0..self.plan.messages {
            let octets_max = self.plan.octets_max;
            let message = self.ledger.write(
                &mut self.random,
                octets_max,
                self.plan.domains,
                self.plan.senders,
            );
            let client = self.random.length(0, share.len() - 1);
            share[client].push_back(message);
        }
        for messages in share {
            let manner = self
                .random
                .pick(&[Manner::Plain, Manner::Pipelined, Manner::Chunked]);
            let mut client = Client::new(manner, messages, self.random.fork());
            if self.random.one_in(self.plan.exit_in) {
                let exit = self.random.pick(&[Exit::Finish, Exit::Reset]);
                let most = self.random.pick(&[200, 2000, 40_000]);
                client.exit = Some((self.random.below(most), exit));
            }
            self.clients.push(Some(client));
        }
    }

    /// Everything that happens by itself.
    fn schedule(&mut self) {
        self.at(self.now, Event::Start);
        for number in 0..self.clients.len() {
            let time = self.now + SECOND + self.random.below(self.plan.rush);
            self.at(time, Event::Client { number });
        }
        let span = self.plan.rush + 100 * SECOND;
        for _ in 0..self.plan.stops {
            let time = self.now + self.random.below(span);
            self.at(time, Event::Stop);
        }
        for _ in 0..self.plan.clock_sets {
            let hours = self.random.below(200) as i64 - 100;
            let time = self.now + self.random.below(span);
            self.at(
                time,
                Event::SetClock {
                    millis: hours * 3_600_000,
                },
            );
        }
        if self.plan.disk_fails {
            let time = self.now + SECOND + self.random.below(self.plan.rush + SECOND);
            self.at(time, Event::DiskFails);
        }
        if self.plan.flavour == Flavour::Full {
            for _ in 0..self.random.between(1, 6) {
                let time = self.now + self.random.below(span);
                let segments = self.random.pick(&[0, 1990, 1995, 1998, 2000]);
                let bytes = segments * u64::from(self.plan.segment_bytes);
                self.at(time, Event::Take { bytes });
            }
        }
        for _ in 0..self.plan.releases {
            let time = self.now + self.random.below(span);
            let customer = self.random.below(self.plan.domains);
            self.at(time, Event::Release { customer });
        }
        let longest = self.random.pick(&[60 * SECOND, 600 * SECOND, HOUR]);
        let end = self.now + span + self.random.below(longest);
        self.at(end, Event::Calm);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>16.6} {}", self.now as f64 / 1e9, what());
        }
    }

    fn digest(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.summary.digest =
                (self.summary.digest ^ u64::from(octet)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn clocks(&self) -> Now {
        let millis = self.wall_offset + (self.now / MILLISECOND) as i64;
        Now {
            instant: Instant::from_nanos(self.now),
            wall: WallTime::from_millis(millis),
        }
    }

    // --- the loop ---------------------------------------------------------------

    fn run(&mut self) {
        let mut timers_at_once = 0;
        while !self.at_rest {
            let (time, sequence) = *self.events.keys().next().expect("there is always a look");
            let deadline = self.core.as_ref().and_then(DataCore::deadline);
            let timer = deadline.map(|d| d.as_nanos().max(self.now));
            self.summary.events += 1;
            assert!(
                self.summary.events < EVENTS_MAX,
                "the world goes round in circles at {} s",
                self.now / SECOND
            );
            if let Some(timer) = timer
                && timer <= time
            {
                timers_at_once = if timer == self.now {
                    timers_at_once + 1
                } else {
                    0
                };
                assert!(
                    timers_at_once < TIMERS_AT_ONCE_MAX,
                    "a deadline that stays due"
                );
                self.now = timer;
                self.hand(Completion::Timer);
            } else {
                let event = self.events.remove(&(time, sequence)).expect("seen above");
                timers_at_once = 0;
                self.now = time;
                self.happen(event);
            }
            if self.crashed {
                self.crash();
            }
            if self.stopped {
                self.end_after_stop();
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client { number } => self.client_comes(number),
            Event::ToCore { id, octets } => {
                if let Some(connection) = self.connections.get_mut(&id)
                    && connection.phase == Phase::Open
                {
                    connection.arrived.extend(octets);
                    self.receive(id);
                }
            }
            Event::Finish { id } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.finished = true;
                    self.receive(id);
                }
            }
            Event::Reset { id } => self.reset_arrives(id),
            Event::ToPeer { id, part } => self.arrive_at_peer(id, &part),
            Event::CloseAtPeer { id } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.peer.closed();
                }
            }
            Event::Window { id, octets } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.window += octets;
                    if connection.sending.is_some() {
                        self.push_out(id);
                        self.pump();
                    }
                }
            }
            Event::Connected { id, result } => self.connected(id, result),
            Event::Written {
                life,
                sync,
                result,
                octets,
            } => {
                if life != self.life || self.core.is_none() {
                    return;
                }
                let result = result.and_then(|()| match sync {
                    Some(sync) => self.disk.sync(&sync),
                    None => Ok(()),
                });
                self.writing = false;
                if result.is_err() {
                    self.failed_at = self.failed_at.or(Some(self.now));
                    self.ledger.disk_failed = true;
                }
                self.note(|| format!("written: {result:?}"));
                self.hand(Completion::Written { result, octets });
            }
            Event::Notice { life, notice } => {
                if life == self.life && self.core.is_some() {
                    self.note(|| format!("notice {notice:?}"));
                    if let Notice::SegmentReady { segment } = *notice {
                        self.disk.take(segment);
                    }
                    self.hand(Completion::Notice(*notice));
                }
            }
            Event::Control { life, job } => {
                if life == self.life {
                    self.control(job);
                }
            }
            Event::Start => self.start(),
            Event::Stop => {
                if self.core.is_some() && !self.stopping {
                    self.note(|| "stop".to_owned());
                    self.stopping = true;
                    let deadline = self.clocks().instant + Duration::from_secs(30);
                    self.hand(Completion::Notice(Notice::Stop { deadline }));
                }
            }
            Event::DiskFails => {
                let step = self.random.pick(&[WriteStep::Write, WriteStep::Sync]);
                self.note(|| format!("the disk fails: {step:?}"));
                self.disk.health = Health::Fails(step);
                self.no_room_since = self.no_room_since.or(Some(self.now));
            }
            Event::Take { bytes } => {
                self.note(|| format!("others take {bytes} octets"));
                self.disk.taken_bytes = bytes;
                if bytes > 0 {
                    self.no_room_since = self.no_room_since.or(Some(self.now));
                }
                self.tell_disk_space();
            }
            Event::SetClock { millis } => {
                self.note(|| format!("the clock is set by {} h", millis / 3_600_000));
                self.wall_offset += millis;
            }
            Event::Calm => self.calm_down(),
            Event::Release { customer } => self.release(customer),
            Event::Look => self.look(),
        }
    }

    /// Trouble is over; what is broken is mended.
    fn calm_down(&mut self) {
        self.note(|| "calm".to_owned());
        self.calm = true;
        self.mood.calm();
        self.crash_in = None;
        self.crashes.clear();
        self.disk.taken_bytes = 0;
        if self.disk.health != Health::Good {
            self.disk.health = Health::Good;
            if self.core.is_some() {
                // The operator has read that the log is closed, and starts it again.
                self.crashed = true;
            }
        }
        self.tell_disk_space();
        self.rest_by = self.now + REST;
        self.at(self.now + 600 * SECOND, Event::Look);
    }

    fn look(&mut self) {
        assert!(self.now < self.rest_by, "it has not come to rest");
        if self.core.is_some() && !self.stopping && !self.asked {
            self.asked = true;
            let command = Arc::new(admin::Command::Status);
            let request = AdminRequestId(1);
            self.hand(Completion::Notice(Notice::Admin { request, command }));
        }
        if self.calm && self.plan.flavour == Flavour::Held {
            (0..self.plan.domains).for_each(|customer| self.release(customer));
        }
        self.at(self.now + HOUR, Event::Look);
    }

    fn answered(&mut self, response: &admin::Response) {
        let admin::Response::Status(status) = response else {
            panic!("Status is answered by {response:?}");
        };
        self.asked = false;
        let messages = status.counters["queue_messages"];
        let open = self
            .connections
            .values()
            .filter(|c| matches!(c.phase, Phase::Open | Phase::Connecting))
            .count();
        self.note(|| format!("{messages} messages, {open} connections"));
        if self.calm && messages == 0 && open == 0 {
            self.at(self.now, Event::Stop);
        }
    }

    // --- the program --------------------------------------------------------------

    fn start(&mut self) {
        assert!(self.core.is_none());
        let restarted = self.disk.recover();
        if let Some(facts) = restarted.refusal() {
            panic!("it does not start: {facts}");
        }
        for facts in restarted.reports() {
            assert!(
                facts.verdict.severity < Severity::Damage,
                "the disk kept its word, and is blamed: {facts}"
            );
        }
        // A seal of a torn batch may be whole while its body is not.
        self.torn = !restarted.recovered.broken.is_empty();
        for broken in &restarted.recovered.broken {
            let queue_id = QueueId::from_u64(broken.message.queue_id);
            assert!(
                !self.committed.contains(&queue_id),
                "{broken:?} was committed, and is not whole"
            );
        }
        let now = self.clocks();
        let segment_bytes = self.plan.segment_bytes;
        let log_settings = LogSettings {
            segment_bytes,
            size_max: u64::from(segment_bytes) * self.plan.size_max_segments,
            free_min: u64::from(segment_bytes) * 2,
        };
        let identity = Identity {
            spool: SPOOL,
            log: LOG,
        };
        let free = self.disk.free_bytes();
        let log = restarted.log(identity, log_settings, &[LOG], self.random.next(), free);
        let queue_settings = queue::Settings {
            core: CoreNumber(0),
            policies: self.policies_of_a_life(),
            idle: self.settings.idle,
            seed: self.random.next(),
        };
        let permits = Arc::new(Permits::new(20, self.random.next()));
        let mut queue = Schedule::new(queue_settings, permits, now);
        let messages = restart::enqueue(now, &mut queue, &self.settings, &restarted, &[LOG]);
        let parts = Parts {
            id: CoreId(0),
            settings: Arc::clone(&self.settings),
            sessions: Arc::new(Sessions::new(100, 100, self.random.next())),
            allowance: Arc::new(Allowance::new(u64::from(self.life))),
            hosts: Arc::new(Hosts::new(u64::from(self.life))),
            log,
            queue,
            seed: self.random.next(),
            secret: [self.random.next() as u8; 32],
        };
        self.life += 1;
        self.summary.lives += 1;
        let life = self.life;
        self.note(|| format!("life {life} begins with {messages} messages"));
        self.core = Some(DataCore::new(parts));
        if self.plan.flavour == Flavour::Held {
            let customers = Arc::clone(&self.settings.customers);
            self.control_core = Some(customers::control(now, &customers, &mut self.random));
        }
        self.stopping = false;
        self.asked = false;
        self.writing = false;
        self.failed_at = None;
        self.crash_in = self.crashes.pop_front();
        self.hand(Completion::Timer);
    }

    /// The program dies at once.
    fn crash(&mut self) {
        self.crashed = false;
        self.stopped = false;
        let loss = self.random.pick(&[Loss::Nothing, Loss::Unsynced]);
        self.note(|| format!("crash, {loss:?}"));
        self.ledger.crash(self.now, self.no_room_since);
        self.end_of_life(loss);
    }

    /// A graceful stop is over.
    fn end_after_stop(&mut self) {
        self.stopped = false;
        for (wire, connection) in &self.connections {
            let over = matches!(connection.phase, Phase::Closed | Phase::Told);
            assert!(
                over || wire.life != self.life,
                "connection {} is {:?} after the stop",
                wire.id.0,
                connection.phase
            );
        }
        if self.no_room_since.is_some() {
            self.ledger.crash(self.now, self.no_room_since);
        }
        let last = self.calm;
        self.end_of_life(Loss::Unsynced);
        if last {
            let restarted = self.disk.recover();
            let live = restarted.recovered.messages.len();
            // Senders that could not be told for want of room are told after a start, and
            // what came with the stop goes then.
            let untold = self.encores < ENCORES_MAX;
            assert!(live == 0 || untold, "{live} messages come back");
            self.encores += 1;
            self.at_rest = live == 0;
            self.disk.end_of_life(Loss::Nothing);
        }
    }

    fn end_of_life(&mut self, loss: Loss) {
        self.core = None;
        self.ready.clear();
        let mut ends = Vec::new();
        for (&wire, connection) in &mut self.connections {
            if matches!(connection.phase, Phase::Open | Phase::Connecting) {
                connection.phase = Phase::Told;
                connection.sending = None;
                if loss == Loss::Unsynced {
                    connection.lost_after = self.now + self.random.below(connection.latency * 2);
                }
                ends.push((connection.last_to_peer.max(self.now) + SECOND, wire));
            }
        }
        for (time, id) in ends {
            self.at(time, Event::CloseAtPeer { id });
        }
        // What control was doing is done, or not.
        let jobs: Vec<_> = self
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Control { .. }))
            .map(|(&key, _)| key)
            .collect();
        for key in jobs {
            let event = self.events.remove(&key);
            if let Some(Event::Control { job, .. }) = event
                && self.random.one_in(2)
            {
                self.control(job);
            }
        }
        self.disk.end_of_life(loss);
        if loss == Loss::Unsynced && self.calm {
            self.disk.health = Health::Good;
        }
        let pause = self.random.below(20 * SECOND);
        self.at(self.now + pause, Event::Start);
    }

    fn hand(&mut self, completion: Completion<'_>) {
        let now = self.clocks();
        let Some(core) = &mut self.core else { return };
        core.handle(now, completion, &self.disk);
        self.pump();
    }

    fn pump(&mut self) {
        let mut operations = 0;
        loop {
            while let Some(operation) = self.core.as_mut().and_then(DataCore::poll) {
                operations += 1;
                assert!(operations < OPERATIONS_AT_ONCE_MAX, "it goes on for ever");
                self.perform(operation);
                if let Some(left) = &mut self.crash_in {
                    if *left == 0 {
                        self.crash_in = None;
                        self.crashed = true;
                        return;
                    }
                    *left -= 1;
                }
            }
            let Some(completion) = self.ready.pop_front() else {
                return;
            };
            if let Completion::Broken { connection, .. } = completion {
                let id = self.wire(connection);
                self.connections.get_mut(&id).expect("it was there").phase = Phase::Told;
            }
            let now = self.clocks();
            let Some(core) = &mut self.core else { return };
            core.handle(now, completion, &self.disk);
        }
    }

    fn wire(&self, id: ConnectionId) -> Wire {
        Wire {
            life: self.life,
            id,
        }
    }

    fn perform(&mut self, operation: Operation) {
        if self.trace {
            let text = format!("{operation:?}");
            let text: String = text.chars().take(240).collect();
            self.note(|| format!("    {text}"));
        }
        match operation {
            Operation::Receive { connection } => {
                let id = self.wire(connection);
                let found = self.live(id, "receives");
                assert!(!found.receiving, "two receives on {id:?}");
                found.receiving = true;
                self.digest(b"r");
                self.receive_later(id);
            }
            Operation::Send { connection, pieces } => {
                let id = self.wire(connection);
                let found = self.live(id, "sends");
                assert!(found.sending.is_none(), "two sends on {id:?}");
                assert!(!pieces.is_empty(), "a send of nothing");
                if found.phase == Phase::Broken {
                    return;
                }
                found.sending = Some(Sending {
                    pieces: pieces.into(),
                    done: 0,
                });
                self.push_out(id);
            }
            Operation::HandOver { .. } => panic!("nobody calls here"),
            Operation::Connect { connection, to, .. } => self.connect(connection, &to),
            Operation::Close { connection } => {
                let id = self.wire(connection);
                self.digest(&connection.0.to_le_bytes());
                let now = self.now;
                let found = self.live(id, "closes");
                if found.phase == Phase::Broken {
                    return;
                }
                found.phase = Phase::Closed;
                found.sending = None;
                let time = found.arrival_at_peer(now, 0);
                self.at(time, Event::CloseAtPeer { id });
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                assert!(self.failed_at.is_none(), "a write after a failed one");
                self.digest(&offset.0.to_le_bytes());
                if durability == Durability::None {
                    // It is in the page cache at once, also while a sync is under way.
                    let written = self.disk.write(segment, offset, &octets, durability);
                    let result = written.map(|_| ());
                    if result.is_err() {
                        self.failed_at = Some(self.now);
                        self.ledger.disk_failed = true;
                    }
                    self.ready.push_back(Completion::Written { result, octets });
                    return;
                }
                assert!(!self.writing, "two writes at a time");
                self.writing = true;
                let (sync, result) = match self.disk.write(segment, offset, &octets, durability) {
                    Ok(sync) => (sync, Ok(())),
                    Err(fault) => (None, Err(fault)),
                };
                let time = self.now
                    + match &sync {
                        Some(_) => self.random.below(self.plan.sync_nanos_max),
                        None => 0,
                    };
                let life = self.life;
                self.at(
                    time,
                    Event::Written {
                        life,
                        sync,
                        result,
                        octets,
                    },
                );
            }
            Operation::Forget { segment } => self.disk.forget(segment.segment),
            Operation::TellControl(notice) => self.told(notice),
            Operation::Listen { .. } => panic!("every listener is always open"),
            Operation::TellCore { .. } => panic!("there is no other core"),
            Operation::Report(fact) => self.reported(&fact),
            Operation::Stopped => {
                assert!(self.stopping, "stopped without being asked");
                self.stopped = true;
            }
        }
    }

    /// A connection that the core may say something of.
    fn live(&mut self, id: Wire, what: &str) -> &mut Connection {
        let found = self.connections.get_mut(&id);
        let found = found.unwrap_or_else(|| panic!("it {what} on {id:?}, which never was"));
        assert!(
            !matches!(found.phase, Phase::Closed | Phase::Told),
            "it {what} on {id:?}, which is {:?}",
            found.phase
        );
        found
    }

    fn reported(&mut self, fact: &Fact) {
        match fact {
            Fact::Recipient {
                forward_path,
                ending: Ending::Failed,
                ..
            } => self.ledger.give_up(forward_path.as_str()),
            Fact::Accepted { queue_id, .. } => {
                self.committed.insert(*queue_id);
            }
            Fact::SpoolDamaged { what, .. } if !self.torn => {
                panic!("the spool is whole, and: {what}")
            }
            _ => {}
        }
        self.digest(fact.name().as_bytes());
    }

    // --- the network --------------------------------------------------------------

    fn client_comes(&mut self, number: usize) {
        let Some(client) = self.clients[number].take() else {
            return;
        };
        let Some(core) = &mut self.core else {
            // Refused; it does not come again.
            return;
        };
        let id = core.admit();
        let wire = self.wire(id);
        let mut connection = Connection::new(Peer::Client(Box::new(client)), Phase::Open);
        self.shape(&mut connection);
        connection.latency = self
            .random
            .pick(&[10 * MICROSECOND, MILLISECOND, 100 * MILLISECOND]);
        if self.plan.exit_in > 0 && self.random.one_in(20) {
            connection.reads = false;
        }
        self.connections.insert(wire, connection);
        if self.random.one_in(self.plan.exit_in * 2) {
            let time = self.now + self.random.below(10 * SECOND);
            self.at(time, Event::Reset { id: wire });
        }
        let peer = SocketAddr::new(Ipv4Addr::new(192, 0, 2, number as u8 + 1).into(), 1025);
        let local = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 254).into(), 25);
        self.note(|| format!("client {number} is {id:?}"));
        self.hand(Completion::Accepted {
            connection: id,
            listener: ListenerId(0),
            peer,
            local,
        });
    }

    /// The temper of a path.
    fn shape(&mut self, connection: &mut Connection) {
        // Octet by octet only what is small: a world is to be short.
        let small = self.plan.octets_max <= 2000;
        let (window, cut) = if small { (100, 1) } else { (3000, 700) };
        connection.window = self.random.pick(&[window, 9000, 64 * 1024]);
        connection.reading = self.random.pick(&[0, 0, MILLISECOND, 300 * MILLISECOND]);
        let cuts = [cut, 100 * cut, 1500, usize::MAX, usize::MAX, usize::MAX];
        connection.cut_max = self.random.pick(&cuts);
    }

    fn connect(&mut self, connection: ConnectionId, to: &Endpoint) {
        let Endpoint::Tcp(to) = to else {
            panic!("no next hop of the simulation is {to}");
        };
        let id = self.wire(connection);
        self.digest(&connection.0.to_le_bytes());
        let host = self.hosts.get(to).expect("an address that was given");
        let (offers, latency, refuses_in) = (host.offers, host.latency, host.refuses_in);
        let server = Server::new(offers, self.mood.clone(), self.random.fork());
        let mut wire = Connection::new(Peer::Server(Box::new(server)), Phase::Connecting);
        self.shape(&mut wire);
        wire.latency = latency;
        let before = self.connections.insert(id, wire);
        assert!(before.is_none(), "{id:?} was given twice");
        let refused = !self.calm && self.random.one_in(refuses_in);
        if refused && self.random.one_in(3) {
            // No answer at all.
            return;
        }
        if refused && self.random.one_in(4) {
            let result = Err("network is unreachable".to_owned());
            self.connections.get_mut(&id).expect("just made").phase = Phase::Told;
            self.ready
                .push_back(Completion::Connected { connection, result });
            return;
        }
        let result = if refused {
            Err("connection refused".to_owned())
        } else {
            Ok(())
        };
        let time = self.now + 2 * latency;
        self.at(time, Event::Connected { id, result });
    }

    fn connected(&mut self, id: Wire, result: Result<(), String>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.phase != Phase::Connecting || id.life != self.life {
            return;
        }
        self.note(|| format!("{id:?} connects: {result:?}"));
        let connection = self.connections.get_mut(&id).expect("looked at above");
        if result.is_ok() {
            connection.phase = Phase::Open;
            let Peer::Server(server) = &mut connection.peer else {
                panic!("a client does not wait to be connected to");
            };
            let acts = server.greet();
            self.act(id, acts);
        } else {
            connection.phase = Phase::Told;
        }
        self.hand(Completion::Connected {
            connection: id.id,
            result,
        });
    }

    /// A peer does something.
    fn act(&mut self, id: Wire, acts: Vec<Act>) {
        for act in acts {
            self.act_once(id, act);
        }
    }

    fn act_once(&mut self, id: Wire, act: Act) {
        let now = self.now;
        let jitter = self.random.below(MICROSECOND);
        let cut_max = self.connections[&id].cut_max;
        let connection = self.connections.get_mut(&id).expect("it acts");
        match act {
            Act::Send(octets) => {
                connection.sent_to_core += octets.len() as u64;
                let mut rest = octets;
                while !rest.is_empty() {
                    let most = rest.len().min(cut_max);
                    let take = if self.random.one_in(3) {
                        self.random.length(1, most)
                    } else {
                        most
                    };
                    let left = rest.split_off(take);
                    let jitter = self.random.below(MICROSECOND);
                    let connection = self.connections.get_mut(&id).expect("it acts");
                    let time = connection.arrival_at_core(now, jitter);
                    self.at(time, Event::ToCore { id, octets: rest });
                    rest = left;
                }
            }
            Act::Finish => {
                let time = connection.arrival_at_core(now, jitter);
                self.at(time, Event::Finish { id });
            }
            Act::Reset => {
                let time = connection.arrival_at_core(now, jitter);
                self.at(time, Event::Reset { id });
            }
            Act::Pause(nanos) => {
                connection.arrival_at_core(now, nanos);
            }
            Act::StopReading => connection.reads = false,
            Act::Accepted { whole_at } => {
                self.summary.accepted += 1;
                assert!(
                    self.failed_at.is_none_or(|failed| whole_at <= failed) || id.life != self.life,
                    "a 250 for a message that came when the disk had failed"
                );
            }
            Act::Delivered(receipt) => {
                let end = connection.sent_to_core;
                connection.receipts.push_back((end, receipt));
            }
        }
    }

    /// A receive that completes at once does so after the poll that asked for it.
    fn receive_later(&mut self, id: Wire) {
        let connection = &self.connections[&id];
        if !connection.arrived.is_empty() || connection.finished {
            self.at(
                self.now,
                Event::ToCore {
                    id,
                    octets: Vec::new(),
                },
            );
        }
    }

    fn receive(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("it was there");
        if connection.phase != Phase::Open || !connection.receiving || id.life != self.life {
            return;
        }
        if connection.arrived.is_empty() {
            if connection.finished {
                connection.receiving = false;
                connection.receipts.clear();
                self.note(|| format!("{id:?} is finished by its peer"));
                self.hand(Completion::Received {
                    connection: id.id,
                    octets: &[],
                });
            }
            return;
        }
        let most = connection.arrived.len();
        let take = if self.random.one_in(4) {
            self.random.length(1, most)
        } else {
            most
        };
        let octets: Vec<u8> = connection.arrived.drain(..take).collect();
        connection.receiving = false;
        connection.handed += take as u64;
        if connection.sending.is_none() {
            self.confirm(id);
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{id:?} received {take}: {}", shown.escape_ascii())
        });
        self.digest(&(take as u64).to_le_bytes());
        self.hand(Completion::Received {
            connection: id.id,
            octets: &octets,
        });
    }

    /// The core has these replies. One that comes while it still sends is not believed
    /// before all has left, and lost if the connection ends first.
    fn confirm(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("it was there");
        while let Some((end, _)) = connection.receipts.front()
            && *end <= connection.handed
        {
            let (_, receipt) = connection.receipts.pop_front().expect("looked at above");
            self.ledger.confirm(self.now, &receipt);
        }
    }

    fn reset_arrives(&mut self, id: Wire) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.peer.closed();
        if connection.phase != Phase::Open || id.life != self.life {
            return;
        }
        self.note(|| format!("{id:?} is reset"));
        let connection = self.connections.get_mut(&id).expect("looked at above");
        connection.phase = Phase::Told;
        connection.sending = None;
        self.hand(Completion::Broken {
            connection: id.id,
            why: "connection reset by peer".to_owned(),
        });
    }

    /// Hands to the kernel what it takes.
    fn push_out(&mut self, id: Wire) {
        let now = self.now;
        loop {
            let random = &mut self.random;
            let connection = self.connections.get_mut(&id).expect("it sends");
            let Some(sending) = &mut connection.sending else {
                return;
            };
            let Some(piece) = sending.pieces.front() else {
                connection.sending = None;
                self.ready.push_back(Completion::Sent { connection: id.id });
                self.confirm(id);
                return;
            };
            let length = match piece {
                Piece::Octets(octets) => octets.len(),
                Piece::Spool { octets, .. } => *octets as usize,
            };
            let left = length - sending.done;
            let most = left.min(connection.window);
            if left > 0 && most == 0 {
                return;
            }
            let take = if random.one_in(3) {
                random.length(most.min(1), most)
            } else {
                most
            };
            let part = match piece {
                Piece::Octets(octets) => {
                    Part::Octets(octets[sending.done..sending.done + take].to_vec())
                }
                Piece::Spool {
                    segment, offset, ..
                } => Part::Spool {
                    inode: self
                        .disk
                        .inode(*segment)
                        .unwrap_or_else(|| panic!("it sends from {segment}, which is not open")),
                    from: offset.0 as usize + sending.done,
                    octets: take,
                },
            };
            connection.window -= take;
            sending.done += take;
            if sending.done == length {
                sending.pieces.pop_front();
                sending.done = 0;
            }
            if take > 0 {
                let jitter = random.below(MICROSECOND);
                let time = connection.arrival_at_peer(now, jitter);
                self.at(time, Event::ToPeer { id, part });
            }
        }
    }

    fn arrive_at_peer(&mut self, id: Wire, part: &Part) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if now > connection.lost_after {
            return;
        }
        let octets = match part {
            Part::Octets(octets) => octets.clone(),
            Part::Spool {
                inode,
                from,
                octets,
            } => self.disk.read(*inode, *from, *octets).to_vec(),
        };
        if connection.reads {
            let time = now + connection.latency + connection.reading;
            let octets = part.len();
            self.at(time, Event::Window { id, octets });
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{id:?} got {}: {}", octets.len(), shown.escape_ascii())
        });
        self.digest(&octets);
        let connection = self.connections.get_mut(&id).expect("looked at above");
        let acts = connection.peer.octets(now, &mut self.ledger, &octets);
        self.act(id, acts);
    }

    // --- the control core ---------------------------------------------------------

    fn notify(&mut self, delay: u64, notice: Notice) {
        let life = self.life;
        let notice = Box::new(notice);
        let time = self.now + self.random.below(delay);
        self.at(time, Event::Notice { life, notice });
    }

    fn tell_disk_space(&mut self) {
        let free_bytes = self.disk.free_bytes();
        self.notify(SECOND, Notice::DiskSpace { free_bytes });
    }

    fn told(&mut self, notice: ControlNotice) {
        match notice {
            ControlNotice::Outbound { .. } | ControlNotice::Visit(_) => panic!("there is no link"),
            ControlNotice::RecipientWanted { .. } | ControlNotice::SiteSaid { .. } => {
                panic!("nobody is asked about recipients")
            }
            ControlNotice::Resolve { core, next_hop } => {
                assert_eq!(core, CoreId(0));
                let answer = self.resolve(&next_hop);
                let valid = self.random.pick(&[0, SECOND, HOUR]);
                let valid_until = Instant::from_nanos(self.now + valid);
                let delay = self.random.pick(&[0, MILLISECOND, 5 * SECOND]);
                self.notify(
                    delay,
                    Notice::Resolved {
                        next_hop,
                        answer,
                        valid_until,
                    },
                );
            }
            ControlNotice::SegmentNeeded { header, spare, .. } => {
                self.job(Job::Prepare { header, spare });
            }
            ControlNotice::SegmentDead { segment, fate, .. } => {
                self.job(Job::Retire { segment, fate });
            }
            ControlNotice::SegmentClosed { segment } => {
                if self.random.one_in(2) {
                    self.job(Job::Summarise { segment });
                }
            }
            ControlNotice::WriteMaildir {
                connection, mail, ..
            } => self.job(Job::WriteMaildir { connection, mail }),
            ControlNotice::AdminAnswer { response, .. } => self.answered(&response),
            notice @ (ControlNotice::Release { .. }
            | ControlNotice::ReleasePart { .. }
            | ControlNotice::ReleaseEnded { .. }) => {
                self.desk(ControlCompletion::Notice(notice));
            }
            ControlNotice::Compute { .. } | ControlNotice::LoginFailed { .. } => {
                panic!("nobody authenticates here")
            }
            ControlNotice::TurnWanted { .. }
            | ControlNotice::Held { .. }
            | ControlNotice::TurnOver { .. } => panic!("nobody calls here"),
            ControlNotice::Collected(_) => panic!("nobody is told to collect"),
            ControlNotice::Stopped { .. } => panic!("the shell says this, not the core"),
        }
    }

    /// The desk of releases takes what happened.
    fn desk(&mut self, completion: ControlCompletion) {
        let now = self.clocks();
        let Some(control) = &mut self.control_core else {
            return;
        };
        for notice in customers::step(control, now, completion) {
            let delay = self.random.pick(&[0, MILLISECOND]);
            self.notify(delay, notice);
        }
    }

    fn release(&mut self, customer: u64) {
        if self.core.is_some() && !self.stopping {
            self.note(|| format!("release of c{customer}"));
            self.desk(customers::release(customer));
        }
    }

    fn job(&mut self, job: Job) {
        let life = self.life;
        let delay = self.random.pick(&[0, MILLISECOND, 100 * MILLISECOND]);
        let time = self.now + self.random.below(delay);
        self.at(time, Event::Control { life, job });
    }

    fn control(&mut self, job: Job) {
        self.note(|| format!("control: {job:?}"));
        match job {
            Job::Prepare { header, spare } => {
                let segment = header.place.segment;
                let result = self.disk.prepare(&header, spare);
                if result.is_ok() && spare.is_some() {
                    self.summary.segments_reused += 1;
                }
                self.notify(
                    MILLISECOND,
                    match result {
                        Ok(()) => Notice::SegmentReady { segment },
                        Err(why) => Notice::SegmentFailed { segment, why },
                    },
                );
                self.tell_disk_space();
            }
            Job::Retire { segment, fate } => {
                let gone = match fate {
                    Fate::Reuse => {
                        self.disk.retire(segment.segment);
                        Gone::Spare
                    }
                    Fate::Remove => {
                        self.disk.remove(segment.segment);
                        Gone::Removed
                    }
                    Fate::SetAside => {
                        self.disk.set_aside(segment.segment);
                        Gone::Removed
                    }
                };
                self.notify(MILLISECOND, Notice::SegmentGone { segment, gone });
                self.tell_disk_space();
            }
            Job::Summarise { segment } => self.disk.summarise(segment.segment),
            Job::WriteMaildir { connection, mail } => {
                let fails_in = if self.calm { 0 } else { self.plan.misdeed_in };
                let random = &mut self.random;
                let (written, new) = self.mailboxes.write(&mail, &self.disk, random, fails_in);
                for NewMail { from, to, octets } in new {
                    // A name is written once: whatever is confirmed when, there is no
                    // second one.
                    let receipt = self.ledger.deliver(self.now, &from, &to, &octets);
                    self.ledger.confirm(self.now, &receipt);
                }
                self.notify(
                    MILLISECOND,
                    Notice::MaildirWritten {
                        connection,
                        written,
                    },
                );
            }
        }
    }

    fn resolve(&mut self, next_hop: &NextHop) -> Result<Vec<Host>, Unresolved> {
        let (NextHop::Mx(domain) | NextHop::Hold { domain, .. }) = next_hop else {
            panic!("nothing leads to {next_hop}");
        };
        if !self.calm && self.plan.misdeed_in > 0 && self.random.one_in(10) {
            return Err(Unresolved::Later("the name server fails".to_owned()));
        }
        let number = match domain.as_str() {
            "sender.example" => self.plan.domains,
            other => other[1..]
                .split('.')
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a domain of ours"),
        };
        let addresses: Vec<_> = (0..2)
            .map(|host| host_address(number, host))
            .filter(|address| self.hosts.contains_key(address))
            .collect();
        let hosts = addresses.into_iter().map(|address| Host {
            name: format!("{}.{domain}", address.ip().is_ipv4()),
            addresses: vec![Endpoint::Tcp(address)],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::None.into(),
            preference: 0,
            login: None,
        });
        Ok(hosts.collect())
    }

    /// A new process counts what it holds for customers afresh.
    fn policies_of_a_life(&mut self) -> queue::Policies {
        self.usage = turnspool::queue::Ledger::default();
        let customers = &self.settings.customers;
        customers::counted(&self.settings.policies, customers, &self.usage)
    }

    // --- the end --------------------------------------------------------------------

    fn finish(mut self) -> Summary {
        self.ledger.check(self.plan.may_fail());
        for customer in self.settings.customers.iter() {
            let usage = self.usage.of(&customer.name);
            let counted = (usage.messages(), usage.octets());
            assert_eq!(counted, (0, 0), "counted for {} in the end", customer.name);
        }
        let files = self.disk.segments_count();
        assert!(
            files <= SEGMENTS_LEFT_MAX,
            "{files} segments are left when nothing is"
        );
        assert_eq!(self.disk.damaged_count(), 0, "nothing was damaged");
        assert!(
            self.disk.spares_count() <= turnspool::spool::log::SPARES_MAX + 1,
            "too many spares"
        );
        self.summary.delivered = self.ledger.delivered;
        self.summary.duplicates = self.ledger.duplicates;
        self.summary.notifications = self.ledger.notifications;
        self.summary.merged = self.ledger.merged;
        self.summary
    }
}

/// Segment files that may be left in the end: the tail, those prepared ahead, and some
/// that wait for a neighbour.
const SEGMENTS_LEFT_MAX: usize = 12;

fn host_address(domain: u64, host: u64) -> SocketAddr {
    let ip = Ipv4Addr::new(10, 0, domain as u8, host as u8 + 1);
    SocketAddr::new(ip.into(), 25)
}
