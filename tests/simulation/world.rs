//! A data core in virtual time: the shell that performs its operations on a virtual
//! disk and network, the control core that answers it, and the clock that jumps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use spool_format::{SegmentHeader, SegmentId, SegmentPlace};
use turnspool::core::control::ControlCore;
use turnspool::core::credentials::Credentials;
use turnspool::core::data::{DataCore, Settings};
use turnspool::core::settings::Tls;
use turnspool::core::wakeup::WakeUps;
use turnspool::core::{AdminRequestId, Completion, ConnectionId, Notice, admin, maildir};
use turnspool::mail::{Domain, QueueId};
use turnspool::queue::notification;
use turnspool::route::{
    DeliveryMode, Network, RelayRules, Routes, RoutesInSmarthostMode, Scope, Target, TlsStart,
};
use turnspool::spool::commit::{WriteFault, WriteStep};
use turnspool::spool::reclaim::Fate;
use turnspool::time::{Instant, Now, WallTime};
use turnspool::{queue, smtp};

use crate::client::Client;
use crate::customers;
use crate::disk::{Disk, Health, LOG, Sync};
use crate::inhabitants::HostPlan;
use crate::ledger::Ledger;
use crate::mailboxes::Mailboxes;
use crate::network::{End, Part};
use crate::peer::Peer;
use crate::plan::{Flavour, Plan};
use crate::random::Random;
use crate::server::{Mood, Temper};

mod connections;
mod control;
mod inhabitants;
mod life;
mod operations;

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
    /// Something of a peer arrives.
    ToCore { id: Wire, part: Part },
    /// What has arrived is handed to the core.
    Hand { id: Wire },
    /// Something of the core arrives.
    ToPeer { id: Wire, part: Part },
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

/// Between the core and somebody.
struct Connection {
    core: End<()>,
    peer: End<Peer>,
    /// Nanoseconds for one way.
    latency: u64,
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
            routes: Arc::new(routes.expect("no routes")),
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
        let disk = Disk::new(LOG, bytes, random.fork());
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
            Event::ToCore { id, part } => self.arrive_at_core(id, part),
            Event::Hand { id } => self.receive(id),
            Event::ToPeer { id, part } => self.arrive_at_peer(id, part),
            Event::Window { id, octets } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.core.window += octets;
                    if connection.core.sends() {
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
            .filter(|c| c.core.is_open())
            .count();
        self.note(|| format!("{messages} messages, {open} connections"));
        if self.calm && messages == 0 && open == 0 {
            self.at(self.now, Event::Stop);
        }
    }

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
