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
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use spool_format::{Epoch, LogId, SegmentId, SegmentPlace, SpoolUuid};
use turnspool::core::control::{ControlCompletion, ControlCore, ControlOperation};
use turnspool::core::credentials::{Account, AccountKind, Credentials};
use turnspool::core::data::{DataCore, Parts, Settings};
use turnspool::core::online::{Online, Setup};
use turnspool::core::settings::Tls;
use turnspool::core::turn::Baton;
use turnspool::core::wakeup::WakeUps;
use turnspool::core::{
    Completion, ConnectionId, ControlNotice, CoreId, ListenerId, Notice, Operation, Piece,
};
use turnspool::mail::Domain;
use turnspool::queue::notification::{self, allowance::Allowance};
use turnspool::queue::{self, CoreNumber, Hosts, Permits, Policies, Schedule, Sessions};
use turnspool::report::Fact;
use turnspool::route::customer::{Customer, Customers, DeliverTo, Quota, ReleaseRules, Retention};
use turnspool::route::{DeliveryMode, RelayRules, Routes, RoutesInSmarthostMode, TlsStart};
use turnspool::smtp;
use turnspool::smtp::auth::stored::Stored;
use turnspool::smtp::auth::{Mechanism, Mechanisms, Password};
use turnspool::smtp::settings::{AuthOffer, Role};
use turnspool::spool::commit::Durability;
use turnspool::spool::log::{Gone, Identity, Log, Settings as LogSettings};
use turnspool::spool::message::{SegmentSource, View};
use turnspool::time::{Instant, Now, WallTime};

use crate::random::Random;

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
const SEEDS: u64 = 100;

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

/// How far a site is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Greeting,
    Hello,
    Challenge,
    Welcome,
    Answer,
    /// The roles have turned.
    Serving,
    /// Text by DATA.
    Text,
    /// Octets of a chunk.
    Chunk(usize),
    Over,
}

struct Site {
    customer: usize,
    /// None: all.
    asks: Vec<&'static str>,
    at: At,
    input: Vec<u8>,
    rcpt: String,
    pipelining: bool,
    chunking: bool,
    flight: bool,
    /// RFC 3030 §2: a BDAT failed, and nothing but RSET may come.
    must_reset: bool,
    /// Says "later" to one message in so many.
    refuses_in: u64,
    /// Talks behind ATRN.
    hasty: bool,
    /// What it has acknowledged, with where the reply ends among what it said.
    acknowledged: Vec<(usize, usize)>,
    code: u16,
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
    /// The line breaks when the peer has said so many.
    cut_at: Option<usize>,
    broken: bool,
    closed: bool,
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

fn settings(cores: u8) -> Settings {
    let hostname: Domain = "relay.example".parse().expect("a domain");
    let mail = smtp::settings::Settings::new(hostname.clone());
    let mut odmr = mail.clone();
    odmr.role = Role::Odmr;
    odmr.offers.auth = Some(AuthOffer::new(Mechanisms::NONE.with(Mechanism::CramMd5)));
    let customers: Vec<_> = CUSTOMERS.iter().map(customer).collect();
    let accounts = CUSTOMERS.iter().map(|(name, _)| {
        let password = Password::new(SECRET.to_owned()).expect("a password");
        let account = Account {
            kind: AccountKind::Customer(name.parse().expect("a name")),
            stored: Arc::new(Stored::shared(password)),
        };
        (name.parse().expect("a user"), account)
    });
    let credentials = Credentials::new(accounts).expect("two users");
    let held = customers.iter().flat_map(|customer| {
        let owned = |scope: &_| (Clone::clone(scope), customer.name.clone());
        customer.scopes.iter().map(owned)
    });
    let routes = Routes::new(DeliveryMode::Mx, RoutesInSmarthostMode::Ignored, held, []);
    let scopes = customers
        .iter()
        .flat_map(|customer| customer.scopes.clone());
    let relay = RelayRules::new(None, scopes);
    let client = Arc::new(smtp::client::settings::Settings::new(hostname.clone()));
    Settings {
        hostname,
        listeners: vec![Arc::new(mail), Arc::new(odmr)],
        listener_tls: vec![TlsStart::Command; 2],
        tls: Tls::default(),
        credentials,
        collectors: Vec::new(),
        notify: notification::Rules::default(),
        relay,
        routes: routes.expect("routes"),
        customers: Arc::new(Customers::new(customers.clone()).expect("two customers")),
        recipients: Arc::default(),
        wakeup: WakeUps::default(),
        smtp_client: Arc::clone(&client),
        lmtp_client: client,
        policies: Policies::default(),
        data_cores: cores,
        idle: Duration::from_secs(2),
    }
}

fn customer((name, domains): &(&str, &[&str])) -> Customer {
    Customer {
        name: name.parse().expect("a name"),
        scopes: domains
            .iter()
            .map(|d| d.parse().expect("a scope"))
            .collect(),
        queue: name.parse().expect("a name"),
        deliver_to: DeliverTo::Mx,
        release: ReleaseRules {
            auth: true,
            open: false,
            clients: Box::default(),
            on_connect: false,
            every: None,
        },
        user: Some((*name).into()),
        retention: Retention::Age(Duration::from_secs(1 << 20)),
        warn: None,
        quota: Quota {
            octets: PLENTY,
            messages: PLENTY,
        },
        recipients_file: None,
        call_ahead: false,
        contact: None,
        wake_command: Vec::new(),
    }
}

impl Site {
    fn new(customer: usize, asks: Vec<&'static str>, random: &mut Random) -> Self {
        Self {
            customer,
            asks,
            at: At::Greeting,
            input: Vec::new(),
            rcpt: String::new(),
            pipelining: random.one_in(2),
            chunking: random.one_in(2),
            flight: random.one_in(2),
            must_reset: false,
            refuses_in: 0,
            hasty: false,
            acknowledged: Vec::new(),
            code: 0,
        }
    }

    /// What it says to a line of the relay.
    fn line(&mut self, line: &str) -> String {
        let (code, last) = (&line[..3.min(line.len())], !line[3..].starts_with('-'));
        match self.at {
            At::Serving | At::Text | At::Chunk(_) | At::Over => unreachable!("it serves"),
            _ if !last => String::new(),
            At::Greeting => {
                self.at = At::Hello;
                "EHLO site.example\r\n".to_owned()
            }
            At::Hello => {
                self.at = At::Challenge;
                "AUTH CRAM-MD5\r\n".to_owned()
            }
            At::Challenge => {
                self.at = At::Welcome;
                let challenge = base64_decode(&line[4..]);
                let mut mac = Hmac::<md5::Md5>::new_from_slice(SECRET.as_bytes()).expect("a key");
                mac.update(&challenge);
                let digest: String = (mac.finalize().into_bytes().iter())
                    .map(|octet| format!("{octet:02x}"))
                    .collect();
                let text = format!("{} {digest}", CUSTOMERS[self.customer].0);
                format!("{}\r\n", base64_encode(text.as_bytes()))
            }
            At::Welcome => {
                assert_eq!(code, "235", "{line}");
                self.at = At::Answer;
                let behind = if self.hasty { "\r\n220 hasty" } else { "" };
                format!("ATRN {}{behind}\r\n", self.asks.join(","))
            }
            At::Answer => {
                self.code = code.parse().expect("a code");
                if self.code == 250 {
                    assert!(!self.hasty, "nobody talks behind ATRN");
                    self.at = At::Serving;
                    "220 site.example\r\n".to_owned()
                } else {
                    self.at = At::Over;
                    "QUIT\r\n".to_owned()
                }
            }
        }
    }

    /// What it says to a command, as the server that it is now.
    fn command(&mut self, line: &str) -> String {
        let verb = line.get(..4).unwrap_or_default();
        match verb {
            "EHLO" => {
                let mut reply = "250-site.example\r\n".to_owned();
                if self.pipelining {
                    reply += "250-PIPELINING\r\n";
                }
                if self.chunking {
                    reply += "250-CHUNKING\r\n";
                }
                if self.flight {
                    reply += "250-X-FLIGHT 20000\r\n";
                }
                reply + "250 8BITMIME\r\n"
            }
            "RSET" => {
                self.must_reset = false;
                "250 ok\r\n".to_owned()
            }
            "MAIL" => {
                assert!(!self.must_reset, "MAIL behind a BDAT that failed");
                "250 ok\r\n".to_owned()
            }
            "RCPT" => {
                self.rcpt = line.to_owned();
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                self.at = At::Text;
                "354 go on\r\n".to_owned()
            }
            "BDAT" => {
                let count = line.split(' ').nth(1).expect("a count");
                self.at = At::Chunk(count.parse().expect("a number"));
                String::new()
            }
            "QUIT" => {
                self.at = At::Over;
                "221 bye\r\n".to_owned()
            }
            _ => "250 ok\r\n".to_owned(),
        }
    }
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

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for core in 0..self.cores.len() {
            if !self.letters[core].is_empty() {
                acts.push(Act::Letter(core));
            }
            if !self.writes[core].is_empty() {
                acts.push(Act::Written(core));
            }
        }
        if !self.to_control.is_empty() {
            acts.push(Act::Control);
        }
        for (number, wire) in self.wires.iter().enumerate() {
            if wire.broken {
                if wire.core.is_some() && (wire.wanted || wire.sending) {
                    acts.push(Act::Break(number));
                }
                continue;
            }
            if wire.wanted && !wire.to_core.is_empty() && wire.core.is_some() {
                acts.push(Act::ToCore(number));
            }
            if !wire.to_peer.is_empty() {
                acts.push(Act::ToPeer(number));
            } else if wire.sending && wire.core.is_some() {
                acts.push(Act::Sent(number));
            }
        }
        acts
    }

    /// Until nothing can happen but that time passes.
    fn run(&mut self) {
        let mut steps = 0;
        loop {
            let acts = self.acts();
            if acts.is_empty() {
                return;
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "it goes round in circles");
            self.nanos += self.random.below(2_000_000);
            let act = self.random.pick(&acts);
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Letter(core) => match self.letters[core].pop_front().expect("looked at") {
                Letter::Notice(notice) => self.give(core, Completion::Notice(notice)),
                Letter::HandOver { baton, wire } => {
                    let connection = self.cores[core].admit();
                    self.wires[wire].core = Some((core, connection));
                    self.give(core, Completion::HandedOver { connection, baton });
                }
            },
            Act::Control => {
                let notice = self.to_control.pop_front().expect("looked at");
                self.control(ControlCompletion::Notice(notice));
            }
            Act::Written(core) => {
                let completion = self.writes[core].pop_front().expect("looked at");
                self.give(core, completion);
            }
            Act::Sent(wire) => {
                self.wires[wire].sending = false;
                let (core, connection) = self.wires[wire].core.expect("looked at");
                self.give(core, Completion::Sent { connection });
            }
            Act::Break(wire) => {
                let (core, connection) = self.wires[wire].core.take().expect("looked at");
                let why = "cut".to_owned();
                self.give(core, Completion::Broken { connection, why });
            }
            Act::ToCore(number) => {
                let most = self.random.pick(&[1, 7, 100, 1 << 20]);
                let wire = &mut self.wires[number];
                let count = most.min(wire.to_core.len());
                let octets: Vec<u8> = wire.to_core.drain(..count).collect();
                wire.heard += count;
                wire.wanted = false;
                let (core, connection) = wire.core.expect("looked at");
                self.give(
                    core,
                    Completion::Received {
                        connection,
                        octets: &octets,
                    },
                );
            }
            Act::ToPeer(number) => {
                let most = self.random.pick(&[1, 50, 1000, 1 << 20]);
                let wire = &mut self.wires[number];
                let count = most.min(wire.to_peer.len());
                let octets: Vec<u8> = wire.to_peer.drain(..count).collect();
                self.hear(number, &octets);
            }
        }
    }

    /// Octets reach a peer.
    fn hear(&mut self, number: usize, octets: &[u8]) {
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return;
        };
        site.input.extend_from_slice(octets);
        while let Some(reply) = self.next_reply(number) {
            let wire = &mut self.wires[number];
            wire.to_core.extend(reply.as_bytes());
            wire.said += reply.len();
            if wire.cut_at.is_some_and(|at| wire.said >= at) {
                self.cut(number);
                return;
            }
        }
    }

    /// What a site says to the first whole thing in its input.
    fn next_reply(&mut self, number: usize) -> Option<String> {
        let said = self.wires[number].said;
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return None;
        };
        match site.at {
            At::Over => None,
            At::Chunk(octets) => {
                let text: Vec<u8> =
                    (site.input.len() >= octets).then(|| site.input.drain(..octets).collect())?;
                self.take(number, &text, said)
            }
            At::Text => {
                let end = find(&site.input, b"\r\n.\r\n")?;
                let text: Vec<u8> = site.input.drain(..end + 5).collect();
                self.take(number, &text, said)
            }
            _ => {
                let end = find(&site.input, b"\r\n")?;
                let line: Vec<u8> = site.input.drain(..end + 2).collect();
                let line = String::from_utf8(line).expect("ASCII");
                let line = line.trim_end();
                Some(match site.at {
                    At::Serving => site.command(line),
                    _ => site.line(line),
                })
            }
        }
    }

    fn take(&mut self, number: usize, text: &[u8], said: usize) -> Option<String> {
        let text = String::from_utf8(text.to_vec()).expect("ASCII");
        let (_, rest) = text.split_once("X-Token: ").expect("it has a token");
        let token: usize = rest.split("\r\n").next()?.parse().expect("a number");
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return None;
        };
        let was_chunk = matches!(site.at, At::Chunk(_));
        site.at = At::Serving;
        let (customer, domain) = self.sent[token];
        assert_eq!(
            site.customer, customer,
            "message {token} went to another customer"
        );
        assert!(site.rcpt.contains(domain), "{}", site.rcpt);
        assert!(
            site.asks.is_empty() || site.asks.contains(&domain),
            "{domain} was not asked for"
        );
        if self.random.one_in(site.refuses_in) {
            site.must_reset = was_chunk;
            return Some("451 not now\r\n".to_owned());
        }
        let reply = "250 taken\r\n".to_owned();
        site.acknowledged.push((token, said + reply.len()));
        self.delivered.entry(token).or_default().0 += 1;
        Some(reply)
    }

    /// The line breaks: what the core has not heard is lost, but for a part.
    fn cut(&mut self, number: usize) {
        let wire = &mut self.wires[number];
        wire.broken = true;
        wire.to_peer.clear();
        wire.to_core.clear();
        let heard = wire.heard;
        let Peer::Site(site) = &wire.peer else { return };
        for &(token, end) in &site.acknowledged {
            if end > heard {
                self.delivered.entry(token).or_default().1 += 1;
            }
        }
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

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text).expect("base64")
}

fn base64_encode(octets: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

#[test]
fn turns_over_several_cores() {
    if let Some(seed) = crate::number("TURNSPOOL_SIM_SEED") {
        World::new(seed).play();
        return;
    }
    let from = crate::number("TURNSPOOL_SIM_FROM").unwrap_or(1);
    let seeds = crate::number("TURNSPOOL_SIM_SEEDS").unwrap_or(SEEDS);
    let (mut turned, mut handed_over) = (0, 0);
    for seed in from..from + seeds {
        let played = std::panic::catch_unwind(|| World::new(seed).play());
        let Ok(summary) = played else {
            panic!(
                "world {seed} failed; to see it again: \
                 TURNSPOOL_SIM_SEED={seed} cargo test --test simulation turns"
            );
        };
        turned += summary.0;
        handed_over += summary.1;
    }
    assert!(turned > 0 && handed_over > 0, "nothing turned");
    eprintln!("{turned} turns, {handed_over} of their connections went to another core");
}
