//! Cores that share permits, hosts that fail, clocks that jump, operators that meddle:
//! all from a printed seed. The model beside the schedules knows what must be true.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use spool_format::{LogId, Offset, SegmentId};

use super::*;
use crate::mail::RecipientIndex;
use crate::mail::{DeliverBy, DeliverByMode, Priority};
use crate::queue::index::{HoldState, ShareState};
use crate::queue::retry::Retry;
use crate::queue::way::{NeedsLink, Outbound};
use crate::queue::{MessageFacts, Policy};
use crate::route::{
    CustomerName, DeliveryMode, Host, HostName, Protocol, SmarthostGroup, TlsPolicy,
};
use spool_format::Told;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest pause of the policies below, with its jitter.
const PAUSE_LONGEST: Duration = Duration::from_secs(3600);
const GIVE_UP: Duration = Duration::from_secs(2 * 24 * 3600);

fn exponential(connections: u16) -> Policy {
    Policy {
        retry: Retry::Exponential {
            first: 5 * MINUTE,
            factor: 2.0,
            longest: 50 * MINUTE,
            give_up: GIVE_UP,
            jitter: 0.2,
        },
        warn: Some(4 * HOUR),
        connections,
        ..Policy::default()
    }
}

/// The place among the next hops of the one for what was let go by itself.
const SITE: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Well,
    /// Connections fail.
    Down,
    /// Sessions break off, or are told 421.
    Flaky,
}

#[derive(Debug)]
enum Event {
    Arrive,
    Session(usize, ConnectionId),
    Outcome(usize, ConnectionId, JobId),
    Close(usize, ConnectionId),
    /// On which core, of which next hop, and whether its hosts are found.
    Lookup(usize, usize, bool),
    Freed(usize),
    Wanted(usize, Option<DestinationKey>),
    Mood,
    Operator,
    Jump,
}

#[derive(Debug)]
struct Session {
    next_hop: usize,
    jobs: Vec<Job>,
    quitting: bool,
    ready: bool,
    /// Was told to wait: it asks for nothing until it is told that there is work.
    waits: bool,
}

#[derive(Debug)]
struct Model {
    /// Each recipient.
    ended: Vec<bool>,
    arrival: WallTime,
    return_by: Option<WallTime>,
    deleted: bool,
}

struct World {
    seed: u64,
    random: Jitter,
    now: Now,
    wall_at_start: WallTime,
    permits: Arc<Permits>,
    cores: Vec<Schedule>,
    next_hops: Vec<NextHop>,
    limits: Vec<u16>,
    moods: Vec<Mood>,
    sessions: HashMap<(usize, ConnectionId), Session>,
    messages: HashMap<QueueId, Model>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    calm: bool,
    delivered: u64,
    expired: u64,
    finished: u64,
    most_connections: usize,
    /// Half of the worlds have a link.
    has_link: bool,
    gate: LinkGate,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Jitter::new(seed);
        let total = [1, 2, 3, 8][random.next_u64() as usize % 4];
        let permits = Arc::new(Permits::new(total, seed));
        let host = |port| {
            NextHop::Host(Host {
                host: HostName::Address("192.0.2.1".parse().unwrap()),
                port,
                protocol: Protocol::Smtp,
                tls: TlsPolicy::None.into(),
            })
        };
        let hold = |domain: &str| NextHop::Hold {
            customer: "c".parse().unwrap(),
            domain: domain.parse().unwrap(),
        };
        let mut next_hops = vec![host(1), host(2), hold("a.example"), hold("b.example")];
        next_hops.push(NextHop::Discard);
        let group = SmarthostGroup(0);
        next_hops.push(NextHop::Smarthost(group));
        for i in 0..4 {
            next_hops.push(NextHop::Mx(format!("d{i}.example").parse().unwrap()));
        }
        next_hops.push(NextHop::Site {
            customer: "c".parse().unwrap(),
            domain: "a.example".parse().unwrap(),
        });
        let mut policies = Policies {
            default: Arc::new(exponential(3)),
            mode: match random.next_u64() % 2 {
                0 => DeliveryMode::Mx,
                _ => DeliveryMode::MxThenSmarthost(group),
            },
            ..Policies::default()
        };
        let fixed = Policy {
            retry: Retry::Fixed {
                tries: 4,
                every: 10 * MINUTE,
                give_up: GIVE_UP,
            },
            warn: None,
            connections: 2,
            ..Policy::default()
        };
        policies
            .next_hops
            .insert(next_hops[0].clone(), Arc::new(exponential(1)));
        policies
            .next_hops
            .insert(next_hops[1].clone(), Arc::new(fixed));
        let has_link = random.next_u64().is_multiple_of(2);
        if has_link {
            policies.link = NeedsLink::AllBut(vec!["192.0.2.0/24".parse().unwrap()]);
        }
        let limits = next_hops
            .iter()
            .map(|n| policies.get(n).connections)
            .collect();
        let wall_at_start = WallTime::from_millis(1_795_000_000_000);
        let now = Now {
            instant: Instant::START,
            wall: wall_at_start,
        };
        let cores = 1 + random.next_u64() as usize % 3;
        let cores = (0..cores)
            .map(|core| {
                let settings = Settings {
                    core: CoreNumber(core as u8),
                    policies: policies.clone(),
                    idle: 5 * SECOND,
                    seed: random.next_u64(),
                };
                Schedule::new(settings, Arc::clone(&permits), now)
            })
            .collect();
        let moods = vec![Mood::Well; next_hops.len()];
        let mut world = Self {
            seed,
            random,
            now,
            wall_at_start,
            permits,
            cores,
            next_hops,
            limits,
            moods,
            sessions: HashMap::new(),
            messages: HashMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            calm: false,
            delivered: 0,
            expired: 0,
            finished: 0,
            most_connections: 0,
            has_link,
            gate: LinkGate::Shut,
        };
        for event in [Event::Arrive, Event::Mood, Event::Operator, Event::Jump] {
            world.after(HOUR, event);
        }
        world
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    /// At a random time within `most`.
    fn after(&mut self, most: Duration, event: Event) {
        let nanos = self.below(most.as_nanos() as u64 + 1);
        self.sequence += 1;
        let at = self.now.instant + Duration::from_nanos(nanos);
        self.events.insert((at, self.sequence), event);
    }

    fn run_until(&mut self, end: Instant) {
        let mut spins = 0;
        loop {
            let event = self.events.keys().next().map(|(at, _)| *at);
            let timer = (0..self.cores.len())
                .filter_map(|core| Some((self.cores[core].deadline()?, core)))
                .min();
            let event_is_next = match (event, timer) {
                (None, None) => break,
                (Some(event), Some((timer, _))) => event <= timer,
                (event, _) => event.is_some(),
            };
            let at = if event_is_next {
                event.unwrap()
            } else {
                timer.unwrap().0
            };
            if at > end {
                break;
            }
            // A machine that keeps itself busy without time passing.
            spins = if at > self.now.instant { 0 } else { spins + 1 };
            assert!(spins < 10_000, "seed {}: {event:?} {timer:?}", self.seed);
            self.time_is(at);
            if event_is_next {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            } else {
                let core = timer.unwrap().1;
                self.cores[core].timer(self.now);
                self.drain(core);
            }
            self.check();
        }
        self.time_is(end);
    }

    fn time_is(&mut self, at: Instant) {
        // From the start, since steps of less than a millisecond add up.
        self.now.instant = at.max(self.now.instant);
        self.now.wall = self.wall_at_start + self.now.instant.since(Instant::START);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                for _ in 0..=self.below(6) {
                    self.arrive();
                }
                if !self.calm {
                    let most = [SECOND, MINUTE, 3 * HOUR][self.below(3) as usize];
                    self.after(most, Event::Arrive);
                }
            }
            Event::Session(core, id) => self.session_opens(core, id),
            Event::Outcome(core, id, job) => self.job_ends(core, id, job),
            Event::Close(core, id) => {
                if self.sessions.remove(&(core, id)).is_some() {
                    self.cores[core].connection_closed(self.now, id);
                    self.drain(core);
                }
            }
            Event::Lookup(core, next_hop, known) => {
                let next_hop = self.next_hops[next_hop].as_ref();
                if known {
                    self.cores[core].hosts_found(self.now, next_hop);
                } else {
                    let _ = self.cores[core].hosts_not_found(self.now, next_hop);
                }
                self.drain(core);
            }
            Event::Freed(core) => {
                self.cores[core].permits_freed(self.now);
                self.drain(core);
            }
            Event::Wanted(core, key) => {
                self.cores[core].permit_wanted(self.now, key);
                self.drain(core);
            }
            Event::Mood => {
                if !self.calm {
                    let which = self.below(self.moods.len() as u64) as usize;
                    let moods = [Mood::Well, Mood::Well, Mood::Down, Mood::Flaky];
                    self.moods[which] = moods[self.below(4) as usize];
                    self.after(3 * HOUR, Event::Mood);
                }
            }
            Event::Operator => {
                if !self.calm {
                    self.meddle();
                    self.after(2 * HOUR, Event::Operator);
                }
            }
            Event::Jump => {
                if !self.calm {
                    let by = Duration::from_millis(self.below(3 * 3_600_000));
                    self.wall_at_start = if self.below(2) == 0 {
                        self.wall_at_start + by
                    } else {
                        self.wall_at_start - by
                    };
                    self.time_is(self.now.instant);
                    self.after(12 * HOUR, Event::Jump);
                }
            }
        }
    }

    fn arrive(&mut self) {
        let core = self.below(self.cores.len() as u64) as usize;
        self.sequence += 1;
        let queue_id = QueueId::new(core as u8, self.sequence);
        let octets = [100, 5000, 100_000, 3 << 20][self.below(4) as usize];
        let deliver_by = match self.below(8) {
            0 => Some(DeliverByMode::Return),
            1 => Some(DeliverByMode::Notify),
            _ => None,
        }
        .map(|mode| DeliverBy {
            deadline: self.now.wall + Duration::from_secs(self.random.next_u64() % 20_000),
            mode,
            trace: false,
        });
        let message = NewMessage {
            facts: MessageFacts {
                queue_id,
                location: location(self.sequence),
                octets,
                arrival: self.now.wall,
                priority: Priority::new(self.below(3) as i8 - 1).unwrap(),
                deliver_by,
                hold_until: None,
                hold: if self.below(20) == 0 {
                    HoldState::Held
                } else {
                    HoldState::Free
                },
            },
        };
        let count = [1, 1, 1, 2, 5, 9][self.below(6) as usize];
        let chosen: Vec<_> = (0..count)
            .map(|i| {
                let which = self.below(self.next_hops.len() as u64) as usize;
                let later = self.below(10) == 0;
                (RecipientIndex(i), which, later)
            })
            .collect();
        self.messages.insert(
            queue_id,
            Model {
                ended: vec![false; count as usize],
                arrival: self.now.wall,
                return_by: deliver_by
                    .filter(|by| by.mode == DeliverByMode::Return)
                    .map(|by| by.deadline),
                deleted: false,
            },
        );
        let recipients = chosen.iter().map(|(recipient, which, later)| NewRecipient {
            recipient: *recipient,
            next_hop: self.next_hops[*which].as_ref(),
            attempts: 0,
            not_before: later.then_some(self.now.wall + HOUR),
            told: Told::NOTHING,
        });
        self.cores[core].enqueue(self.now, &message, recipients);
        self.drain(core);
    }

    fn meddle(&mut self) {
        let core = self.below(self.cores.len() as u64) as usize;
        let which = self.below(self.next_hops.len() as u64) as usize;
        let next_hop = self.next_hops[which].clone();
        let known: Vec<_> = self.cores[core].index.by_position();
        let some = (!known.is_empty())
            .then(|| known[self.random.next_u64() as usize % known.len().max(1)]);
        let customer: CustomerName = "c".parse().unwrap();
        let now = self.now;
        match (self.below(12), some) {
            (9, _) if self.has_link => self.link(LinkGate::Open),
            (10, _) if self.has_link => self.link(LinkGate::Shut),
            (0, _) => {
                self.cores[core].hold(now, Selection::NextHop(next_hop.as_ref()));
            }
            (1, _) => {
                self.cores[core].release(now, Selection::NextHop(next_hop.as_ref()));
            }
            (2, _) => {
                self.cores[core].release(now, Selection::Customer(&customer));
            }
            (3, _) => {
                let below = Selection::CustomerBelow(&customer, "a.example");
                self.cores[core].release(now, below);
            }
            (4, Some(id)) => {
                self.cores[core].hold(now, Selection::Message(id));
            }
            (5, Some(id)) => {
                self.cores[core].release(now, Selection::Message(id));
            }
            (6, Some(id)) => {
                assert!(self.cores[core].delete(now, id), "seed {}", self.seed);
                self.messages.get_mut(&id).unwrap().deleted = true;
            }
            (7, Some(id)) => {
                let moves = (0..9).map(|n| (RecipientIndex(n), next_hop.clone()));
                let moves: Vec<_> = moves.collect();
                self.cores[core].reroute(now, id, &moves);
            }
            (11, Some(id)) => {
                // One by one, out of what is held or back into it.
                let to = [2, SITE][self.random.next_u64() as usize % 2];
                let moves = (0..9).map(|n| (RecipientIndex(n), self.next_hops[to].clone()));
                let moves: Vec<_> = moves.collect();
                self.cores[core].reroute(now, id, &moves);
            }
            (8, _) => {
                let policies = self.cores[core].policies.clone();
                self.cores[core].reconfigure(now, policies, 5 * SECOND);
            }
            _ => {}
        }
        self.drain(core);
    }

    fn link(&mut self, gate: LinkGate) {
        self.gate = gate;
        for core in 0..self.cores.len() {
            self.cores[core].link(self.now, gate);
            self.drain(core);
        }
    }

    /// Whether nothing may begin on the way to this next hop.
    fn is_shut(&self, core: usize, next_hop: &NextHop) -> bool {
        self.gate == LinkGate::Shut && self.cores[core].policies.link.next_hop(next_hop)
    }

    fn session_opens(&mut self, core: usize, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&(core, id)) else {
            return;
        };
        let which = session.next_hop;
        session.ready = true;
        if self.moods[which] == Mood::Down
            || (self.moods[which] == Mood::Flaky && self.below(3) == 0)
        {
            let how = match self.below(4) {
                0 => ConnectionFailure::Resting {
                    until: self.now.instant + MINUTE,
                    found: [Found::Here, Found::Elsewhere][self.below(2) as usize],
                },
                _ => ConnectionFailure::Unusable,
            };
            self.fail(core, id, how);
        } else {
            self.take(core, id);
        }
    }

    fn fail(&mut self, core: usize, id: ConnectionId, how: ConnectionFailure) {
        self.sessions.remove(&(core, id));
        self.cores[core].connection_failed(self.now, id, how);
        self.drain(core);
    }

    fn take(&mut self, core: usize, id: ConnectionId) {
        loop {
            let take = self.cores[core].take(self.now, id);
            match take {
                Take::Job(job) => {
                    let next_hop = self.cores[core].next_hop(job.destination).unwrap();
                    assert!(!self.is_shut(core, next_hop), "seed {}", self.seed);
                    let latency = [10, 1000, 60_000][self.below(3) as usize];
                    self.after(
                        Duration::from_millis(latency),
                        Event::Outcome(core, id, job.id),
                    );
                    let session = self.sessions.get_mut(&(core, id)).unwrap();
                    assert_eq!(
                        self.next_hops[session.next_hop],
                        *self.cores[core].next_hop(job.destination).unwrap()
                    );
                    session.jobs.push(job);
                    session.waits = false;
                    if self.below(3) > 0 {
                        break;
                    }
                }
                Take::Wait => {
                    self.sessions.get_mut(&(core, id)).unwrap().waits = true;
                    break;
                }
                Take::Quit => {
                    self.quit(core, id);
                    break;
                }
            }
        }
        self.drain(core);
    }

    fn quit(&mut self, core: usize, id: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(&(core, id)) {
            session.quitting = true;
            if session.jobs.is_empty() {
                self.after(SECOND, Event::Close(core, id));
            }
        }
    }

    fn job_ends(&mut self, core: usize, id: ConnectionId, job: JobId) {
        let Some(session) = self.sessions.get_mut(&(core, id)) else {
            return;
        };
        let place = session.jobs.iter().position(|j| j.id == job).unwrap();
        let job = session.jobs.remove(place);
        let (which, quitting, left) = (session.next_hop, session.quitting, session.jobs.len());
        let asks = !quitting && !session.waits;
        let flaky = self.moods[which] == Mood::Flaky;
        if flaky && self.below(3) == 0 {
            // Half of the time the session says nothing about its jobs.
            if self.below(2) == 0 {
                self.cores[core].outcome(self.now, job.id, &[]);
                self.drain(core);
            }
            let how = [ConnectionFailure::Lost, ConnectionFailure::Busy];
            let how = how[self.below(2) as usize];
            self.fail(core, id, how);
            return;
        }
        let mut results = Vec::new();
        for &recipient in job.recipients.as_slice() {
            let outcome = match self.below(20) {
                0 => RecipientOutcome::Failed,
                1..=3 => RecipientOutcome::Deferred,
                4 if !self.calm => RecipientOutcome::Returned,
                _ => RecipientOutcome::Delivered,
            };
            let ends = matches!(
                outcome,
                RecipientOutcome::Delivered | RecipientOutcome::Failed
            );
            if ends {
                self.end(job.queue_id, recipient);
                self.delivered += 1;
            }
            results.push((recipient, outcome));
        }
        if self.below(2) == 0 {
            results.reverse();
        }
        self.cores[core].outcome(self.now, job.id, &results);
        if quitting && left == 0 {
            self.after(SECOND, Event::Close(core, id));
        } else if asks && self.below(4) > 0 {
            self.take(core, id);
        } else if asks {
            // The worker asks a little later.
            self.after(SECOND, Event::Session(core, id));
        }
        self.drain(core);
    }

    fn end(&mut self, queue_id: QueueId, recipient: RecipientIndex) {
        let seed = self.seed;
        let message = self
            .messages
            .get_mut(&queue_id)
            .unwrap_or_else(|| panic!("seed {seed}: {queue_id} ended after it was finished"));
        let ended = &mut message.ended[recipient.0 as usize];
        assert!(!*ended, "seed {seed}: {queue_id} {recipient:?} ended twice");
        *ended = true;
    }

    fn drain(&mut self, core: usize) {
        while let Some(output) = self.cores[core].poll() {
            self.perform(core, output);
        }
    }

    fn perform(&mut self, core: usize, output: Output) {
        let seed = self.seed;
        match output {
            Output::Connect {
                connection,
                destination,
            } => {
                let next_hop = self.cores[core].next_hop(destination).unwrap().clone();
                assert!(!self.is_shut(core, &next_hop), "seed {seed}");
                let next_hop = self.next_hops.iter().position(|n| *n == next_hop).unwrap();
                // Its hosts are not known, and perhaps cannot be.
                if self.below(8) == 0 {
                    self.cores[core].hosts_unknown(self.now, connection);
                    let known = self.calm || self.below(4) > 0;
                    self.after(MINUTE, Event::Lookup(core, next_hop, known));
                    return;
                }
                let session = Session {
                    next_hop,
                    jobs: Vec::new(),
                    quitting: false,
                    ready: false,
                    waits: false,
                };
                self.sessions.insert((core, connection), session);
                self.after(10 * SECOND, Event::Session(core, connection));
            }
            Output::Work { connection } => {
                let session = self.sessions.get_mut(&(core, connection)).unwrap();
                assert!(session.ready && session.waits, "seed {seed}");
                session.waits = false;
                self.after(SECOND, Event::Session(core, connection));
            }
            Output::Quit { connection } => self.quit(core, connection),
            Output::Expired {
                queue_id,
                recipients,
                reason,
                ..
            } => {
                let message = &self.messages[&queue_id];
                let now = self.now.wall;
                match reason {
                    ExpiryReason::Age => assert!(now >= message.arrival + GIVE_UP, "seed {seed}"),
                    ExpiryReason::Deadline => {
                        assert!(now >= message.return_by.unwrap(), "seed {seed}");
                    }
                    ExpiryReason::Tries => {}
                }
                for &recipient in recipients.as_slice() {
                    self.end(queue_id, recipient);
                    self.expired += 1;
                }
            }
            Output::Deleted {
                queue_id,
                recipients,
            } => {
                assert!(self.messages[&queue_id].deleted, "seed {seed}");
                for &recipient in recipients.as_slice() {
                    self.end(queue_id, recipient);
                }
            }
            Output::Finished { queue_id, .. } => {
                let message = self.messages.remove(&queue_id).unwrap();
                assert!(message.ended.iter().all(|e| *e), "seed {seed}: {message:?}");
                self.finished += 1;
            }
            Output::PermitsFreed { cores } => {
                for other in (0..self.cores.len()).filter(|other| *other != core) {
                    if cores.contains(CoreNumber(other as u8)) {
                        self.after(Duration::from_micros(50), Event::Freed(other));
                    }
                }
            }
            Output::PermitWanted { key } => {
                for other in (0..self.cores.len()).filter(|other| *other != core) {
                    self.after(Duration::from_micros(50), Event::Wanted(other, key));
                }
            }
            Output::Warn { queue_id, .. } | Output::Deferred { queue_id, .. } => {
                assert!(self.messages.contains_key(&queue_id), "seed {seed}");
            }
            Output::DestinationClosed { .. }
            | Output::DestinationOpened { .. }
            | Output::ReleaseEnded { .. } => {}
        }
    }

    /// What is true at every moment.
    fn check(&mut self) {
        let seed = self.seed;
        let remote = |s: &Session| self.next_hops[s.next_hop].is_remote();
        let open = self.sessions.values().filter(|s| remote(s)).count();
        self.most_connections = self.most_connections.max(open);
        assert!(
            open <= usize::from(self.permits.limit_total()),
            "seed {seed}"
        );
        assert_eq!(open, usize::from(self.permits.in_use()), "seed {seed}");
        for (which, limit) in self.limits.iter().enumerate() {
            // Both of the customer's domains are one site, and what was let go goes there.
            let site = |n: usize| if n == 3 || n == SITE { 2 } else { n };
            let mine = self
                .sessions
                .values()
                .filter(|s| remote(s) && site(s.next_hop) == site(which));
            assert!(mine.count() <= usize::from(*limit), "seed {seed}");
        }
        let queued: usize = self.cores.iter().map(|core| core.index.len()).sum();
        assert_eq!(queued, self.messages.len(), "seed {seed}");
        // The whole is looked at now and then: it takes long with a long queue.
        let thorough = self.below(64) == 0;
        for core in &self.cores {
            if thorough {
                core.check_places();
            }
            // Expiry always happens, in whatever state, but not on the wire.
            if core.now.wall == self.now.wall && core.deadline() != Some(core.now.instant) {
                for tick in core.clock.iter().take(1) {
                    let late = i64::from(tick.second) <= self.now.wall.as_seconds();
                    assert!(!late, "seed {seed}: {:?}", core.index.share(tick.share));
                }
            }
        }
    }

    /// No more trouble: everything that nobody holds is to be gone soon, and not by
    /// growing too old.
    fn calm_down(&mut self) {
        self.calm = true;
        self.moods.fill(Mood::Well);
        self.link(LinkGate::Open);
        let customer: CustomerName = "c".parse().unwrap();
        // Held mail goes once each time it is released, and may be told 4xx then.
        for _ in 0..12 {
            for core in 0..self.cores.len() {
                let now = self.now;
                for next_hop in self.next_hops.clone() {
                    self.cores[core].release(now, Selection::NextHop(next_hop.as_ref()));
                }
                self.cores[core].release(now, Selection::Customer(&customer));
                for id in self.cores[core].index.by_position() {
                    self.cores[core].release(now, Selection::Message(id));
                }
                self.drain(core);
                self.check();
            }
            self.run_until(self.now.instant + PAUSE_LONGEST);
        }
        let left: Vec<_> = self.messages.iter().collect();
        assert!(left.is_empty(), "seed {}: stuck: {left:?}", self.seed);
        self.run_until(self.now.instant + FORGET_AFTER + HOUR);
        for core in &self.cores {
            assert!(core.index.is_empty());
            assert_eq!(core.connections(), 0, "seed {}", self.seed);
            assert!(core.jobs.iter().next().is_none());
            assert_eq!(core.index.octets(), 0);
            assert!(core.clock.is_empty());
            assert_eq!(core.destinations.len(), 0, "seed {}: forgotten", self.seed);
        }
        assert!(
            self.events
                .values()
                .all(|e| !matches!(e, Event::Outcome(..)))
        );
    }
}

impl Index {
    fn by_position(&self) -> Vec<QueueId> {
        self.iter(None).map(|entry| entry.queue_id()).collect()
    }
}

impl Schedule {
    /// Every share is in exactly the place that its state names, and the sums are right.
    pub(super) fn check_places(&self) {
        let mut in_flight: HashMap<ShareSlot, usize> = HashMap::new();
        for job in self.jobs.iter() {
            *in_flight.entry(job.share).or_default() += 1;
        }
        for (slot, next_hop) in self.detours.iter() {
            let at = &self.destinations[self.index.share(slot).destination];
            let fallback = self.policies.mode.fallback(next_hop);
            assert_eq!(fallback.as_ref(), Some(&at.next_hop));
        }
        let mut shares = 0;
        for (id, d) in self.destinations.iter() {
            let mut here = 0u32;
            let mut octets = 0;
            for (set, state) in [
                (&d.small, ShareState::Ready),
                (&d.large, ShareState::Ready),
                (&d.deferred, ShareState::Deferred),
                (&d.released, ShareState::Deferred),
                (&d.held, ShareState::Held),
            ] {
                for turn in set.iter() {
                    let share = self.index.share(turn.share);
                    assert_eq!((share.state, share.destination), (state, id));
                    assert!(!in_flight.contains_key(&turn.share));
                    octets += self.index.message(share.message).octets;
                    here += 1;
                }
            }
            for (slot, count) in &in_flight {
                let share = self.index.share(*slot);
                if share.destination == id {
                    assert_eq!((share.state, *count), (ShareState::InFlight, 1));
                    octets += self.index.message(share.message).octets;
                    here += 1;
                }
            }
            assert_eq!((d.shares, d.octets), (here, octets));
            if let Some(tally) = &d.tally {
                let mut sum = Outbound::default();
                tally.count_into(&mut sum);
                assert_eq!(sum.ready as usize, d.small.len() + d.large.len());
                let ready = d.small.iter().chain(d.large.iter());
                let messages = ready.map(|turn| self.index.message_of(turn.share));
                let oldest = messages.map(|m| m.arrival.as_seconds()).min();
                assert_eq!(sum.oldest.map(WallTime::as_seconds), oldest);
            }
            let mine = self.connections.iter().filter(|c| c.destination == id);
            assert_eq!(mine.count(), usize::from(d.connections));
            let expectant = self.connections.iter().filter(|c| {
                c.destination == id
                    && matches!(
                        c.state,
                        ConnectionState::Connecting | ConnectionState::Asked
                    )
            });
            assert_eq!(expectant.count(), usize::from(d.expectant));
            shares += here;
        }
        let listed: usize = self.index.iter(None).map(|e| e.shares().count()).sum();
        assert_eq!(listed, shares as usize);
    }
}

fn location(number: u64) -> Location {
    Location {
        log: LogId(0),
        segment: SegmentId((number >> 20) as u32),
        offset: Offset((number << 8) as u32),
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    let days = 1 + world.below(4);
    world.run_until(world.now.instant + Duration::from_secs(days * 24 * 3600));
    world.calm_down();
    world
}

/// `QUEUE_SEED=n` runs one, `QUEUE_SEEDS=n` that many.
#[test]
fn nothing_is_lost_nothing_ends_twice_nothing_is_stuck() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|v: String| v.parse().ok())
    };
    let seeds = match (number("QUEUE_SEED"), number("QUEUE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(60),
    };
    let (mut delivered, mut expired, mut full) = (0, 0, false);
    for seed in seeds {
        println!("seed {seed}");
        let world = run(seed);
        delivered += world.delivered;
        expired += world.expired;
        full |= world.most_connections == usize::from(world.permits.limit_total());
    }
    // The simulation is one only if all of this happens in it.
    println!("{delivered} delivered or failed, {expired} expired");
    assert!(delivered > 0);
    assert!(expired > 0 && full || number("QUEUE_SEED").is_some());
}
