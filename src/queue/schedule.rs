//! The machine that decides what goes where when.
//!
//! # Contract
//! Every input takes `now`. After each, [`Schedule::poll`] until `None`; then wait for
//! the next input, at the latest until [`Schedule::deadline`], when
//! [`Schedule::timer`] is the input. Work in bulk (a million messages that expire
//! together) is done in portions: `poll` gives `None` after [`PORTION`] steps and
//! `deadline` says "at once".
//!
//! # How a message goes out
//! [`Output::Connect`] asks for a session; a permit for it has been taken. When the
//! session can take work, and again each time it can take more, its worker calls
//! [`Schedule::take`]. [`Take::Wait`] means that there is nothing: the session stays
//! open and [`Output::Work`] asks it to `take` again. Each job ends with
//! [`Schedule::outcome`], each connection with [`Schedule::connection_closed`] or
//! [`Schedule::connection_failed`].
//!
//! # Invariants
//! - Each recipient ends exactly once: by an outcome that says delivered or failed, or
//!   by [`Output::Expired`] or [`Output::Deleted`]. After the last of a message comes
//!   [`Output::Finished`], and the message is gone from here.
//! - A share is in exactly one place: a set of its destination, or in flight.
//! - Expiry runs in every state. Only a share on the wire is waited for.
//! - What happens to a destination costs the same however much mail waits for it, but
//!   for one thing: where attempts are counted ([`Retry::Fixed`]), a failure to connect
//!   is an attempt for each message, and they are gone through once, in portions.
//! - Destinations take turns: while others wait for a permit a connection gives way
//!   after [`TURN_JOBS`] messages or [`TURN_TIME`].
//!
//! What this module does not do: it resolves nothing and opens nothing; it writes no
//! done record and no notification, it says that they are due; a bounce is a new
//! message to it.
//!
//! [`Retry::Fixed`]: super::retry::Retry::Fixed

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spool_format::Location;

use super::destination::{Destinations, Gate, Health, Policies, Turn, Want};
use super::handles::{Handle, Handles};
use super::index::{
    DestinationId, HoldState, Index, MessageFacts, MessageSlot, Recipients, Removed, ShareSlot,
    ShareState, Told,
};
use super::permits::{CoreNumber, CoreSet, DestinationKey, Limit, Permit, Permits};
use super::retry::Jitter;
use crate::mail::{QueueId, RecipientIndex};
use crate::route::{NextHop, NextHopRef};
use crate::time::{Instant, Now, WallTime};

mod delivery;
mod expiry;
mod operator;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use delivery::{ConnectionFailure, Job, RecipientOutcome, Take};
pub use expiry::ExpiryReason;
pub use operator::{DestinationFacts, Filter, PAGE_SCAN_MAX, Page, Selection, Waiting};

/// Steps of bulk work between two inputs: about a millisecond.
pub const PORTION: u32 = 2048;
/// A connection that has sent this many messages gives way if others wait.
pub const TURN_JOBS: u32 = 50;
/// A connection that was open for this long gives way if others wait, between two
/// messages.
pub const TURN_TIME: Duration = Duration::from_secs(30);
/// After giving way to another core: it needs a moment to come and take the permit.
pub const YIELD_PAUSE: Duration = Duration::from_millis(10);
/// Jobs in flight on one connection, for clients that pipeline.
pub const JOBS_PER_CONNECTION_MAX: usize = 64;
/// A destination without mail is remembered for this long, with its health.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Beyond this many destinations those without mail are forgotten at once: half a
/// kilobyte each, so some 32 MiB.
pub const REMEMBERED_MAX: usize = 65_536;
/// A released site that cannot be reached this many times in a row is held again.
pub const RELEASE_FAILURES_MAX: u16 = 3;
/// The wall clock may be set: while something is to expire, look at least this often.
pub const WALL_CHECK: Duration = Duration::from_secs(60);

/// What the schedule is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which data core this is.
    pub core: CoreNumber,
    /// How mail is treated.
    pub policies: Policies,
    /// How long a connection without work stays open for more.
    pub idle: Duration,
    /// For jitter and for hashing. Secret and different at each start.
    pub seed: u64,
}

/// A connection of this core. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(Handle);

/// A job of this core. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(Handle);

/// A committed message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewMessage {
    /// What the index keeps.
    pub facts: MessageFacts,
    /// What the sender was told in an earlier life of this process.
    pub told: Told,
}

/// A recipient of a [`NewMessage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewRecipient<'a> {
    /// Which of the envelope.
    pub recipient: RecipientIndex,
    /// Where it goes.
    pub next_hop: NextHopRef<'a>,
    /// How often it was tried, where the message comes from recovery.
    pub attempts: u16,
    /// Not before (RFC 4865, or the time of the next attempt after recovery).
    pub not_before: Option<WallTime>,
}

/// What is to be done, and what is to be known.
#[derive(PartialEq, Eq, Debug)]
pub enum Output {
    /// Open a connection and start a session. The permit is taken.
    Connect {
        /// Its name from now on.
        connection: ConnectionId,
        /// See [`Schedule::next_hop`].
        destination: DestinationId,
    },
    /// There is work for this idle session: call [`Schedule::take`].
    Work {
        /// Which.
        connection: ConnectionId,
    },
    /// End this idle session (RFC 5321 §4.1.1.10) and report it closed.
    Quit {
        /// Which.
        connection: ConnectionId,
    },
    /// Recipients will be tried again: to be noted in the spool.
    Deferred {
        /// The message.
        queue_id: QueueId,
        /// Who.
        recipients: Recipients,
        /// How often it was tried.
        attempts: u16,
        /// About when it will be tried again.
        until: WallTime,
    },
    /// The sender is to be told that these are late.
    Warn {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
        /// Where it waits.
        destination: DestinationId,
        /// Who.
        recipients: Recipients,
        /// [`Told::DELAY`] or [`Told::DEADLINE`].
        what: Told,
        /// When they will be given up.
        expires: WallTime,
    },
    /// These recipients have ended: given up.
    Expired {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
        /// Where it waited.
        destination: DestinationId,
        /// Who.
        recipients: Recipients,
        /// Why.
        reason: ExpiryReason,
    },
    /// These recipients have ended: deleted by the operator.
    Deleted {
        /// The message.
        queue_id: QueueId,
        /// Who.
        recipients: Recipients,
    },
    /// All recipients have ended, and each was reported before this.
    Finished {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
    },
    /// No session could be had. Nothing is tried before this time.
    DestinationClosed {
        /// Which.
        destination: DestinationId,
        /// In a row.
        failures: u16,
        /// When a probe goes out.
        until: WallTime,
    },
    /// A success after failures.
    DestinationOpened {
        /// Which.
        destination: DestinationId,
    },
    /// Released mail was all tried once, or the site could not be reached.
    ReleaseEnded {
        /// Which.
        destination: DestinationId,
        /// Which of the two.
        end: ReleaseEnd,
    },
    /// Permits came free: each core in the set other than this one is to be given
    /// [`Schedule::permits_freed`].
    PermitsFreed {
        /// Who.
        cores: CoreSet,
    },
    /// No permit: every other core is to be given [`Schedule::permit_wanted`].
    PermitWanted {
        /// A connection to this destination is wanted; `None`: any.
        key: Option<DestinationKey>,
    },
}

/// How a release ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReleaseEnd {
    /// All was tried once.
    Drained,
    /// [`RELEASE_FAILURES_MAX`] failures.
    Unreachable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConnectionState {
    /// Not yet there.
    Connecting,
    /// Was told that there is work.
    Asked,
    /// May ask for (more) work at any time.
    Working,
    /// Has work, asked for more, and there was none.
    Hungry,
    /// Has none.
    Idle,
    /// Is to end.
    Quitting,
}

#[derive(Debug)]
struct Connection {
    destination: DestinationId,
    /// None for what is on this machine.
    permit: Option<Permit>,
    state: ConnectionState,
    jobs: SmallVec<[JobId; 2]>,
    /// Of those, large ones.
    large_jobs: u16,
    /// Has the right to large messages.
    large_permit: bool,
    /// Jobs taken.
    taken: u32,
    /// An answer came that shows that the next hop takes mail.
    proven: bool,
    since: Instant,
    idle_since: Instant,
    /// Stands in `Schedule::idle`.
    idle_listed: bool,
}

#[derive(Debug)]
struct InFlight {
    share: ShareSlot,
    connection: ConnectionId,
    large: bool,
}

/// Who waits for permits.
#[derive(Debug, Default)]
struct Line {
    /// Destinations in turn.
    queued: VecDeque<DestinationId>,
    /// Refused by the limit of the destination.
    blocked: Vec<DestinationId>,
    /// Have large messages only, and too many of those are on the way.
    large_blocked: Vec<DestinationId>,
    /// The total was full when last asked.
    full: bool,
    /// Another core goes first.
    not_before: Instant,
}

/// Goes through a destination whose attempts are counted.
#[derive(Debug)]
struct Sweep {
    destination: DestinationId,
    set: expiry::SweepSet,
    after: Option<Turn>,
}

/// The schedule of one data core.
#[derive(Debug)]
pub struct Schedule {
    core: CoreNumber,
    permits: Arc<Permits>,
    policies: Policies,
    idle_timeout: Duration,
    index: Index,
    destinations: Destinations,
    /// When a share is to be warned about or expires.
    clock: BTreeSet<(u32, ShareSlot)>,
    /// When a destination is to be looked at.
    timers: BTreeSet<(Instant, DestinationId)>,
    connections: Handles<Connection>,
    /// Connections without work since when, oldest first.
    idle: VecDeque<(Instant, ConnectionId)>,
    jobs: Handles<InFlight>,
    line: Line,
    sweeps: VecDeque<Sweep>,
    /// Goes through all shares after a change of policy.
    reclock_after: Option<Option<QueueId>>,
    outputs: VecDeque<Output>,
    jitter: Jitter,
    now: Now,
    portion_left: u32,
    stopping: bool,
    scratch: Vec<(DestinationId, RecipientIndex, u16, Option<WallTime>)>,
}

impl Schedule {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: Settings, permits: Arc<Permits>, now: Now) -> Self {
        let mut jitter = Jitter::new(settings.seed);
        let hash_seed = jitter.next_u64();
        Self {
            core: settings.core,
            permits,
            policies: settings.policies,
            idle_timeout: settings.idle,
            index: Index::new(),
            destinations: Destinations::new(hash_seed),
            clock: BTreeSet::new(),
            timers: BTreeSet::new(),
            connections: Handles::new(),
            idle: VecDeque::new(),
            jobs: Handles::new(),
            line: Line::default(),
            sweeps: VecDeque::new(),
            reclock_after: None,
            outputs: VecDeque::new(),
            jitter,
            now,
            portion_left: PORTION,
            stopping: false,
            scratch: Vec::new(),
        }
    }

    /// The messages, to look at.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where a destination leads. `None` if there is no such destination now.
    #[must_use]
    pub fn next_hop(&self, destination: DestinationId) -> Option<&NextHop> {
        self.destinations.get(destination).map(|d| &d.next_hop)
    }

    /// Connections open or being opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// A committed message with its recipients, each at most once.
    ///
    /// # Panics
    /// If there is no recipient, or the queue id is queued already: errors of ours.
    pub fn enqueue<'a>(
        &mut self,
        now: Now,
        message: &NewMessage,
        recipients: impl IntoIterator<Item = NewRecipient<'a>>,
    ) {
        self.begin(now);
        let mut list = std::mem::take(&mut self.scratch);
        for new in recipients {
            let destination = self.destination(new.next_hop);
            list.push((destination, new.recipient, new.attempts, new.not_before));
        }
        assert!(
            !list.is_empty(),
            "{} has no recipients",
            message.facts.queue_id
        );
        if list.len() > 1 {
            list.sort_unstable();
        }
        let slot = self.index.insert(&message.facts);
        for group in list.chunk_by(|a, b| a.0 == b.0) {
            self.enqueue_share(slot, message.told, group);
        }
        list.clear();
        self.scratch = list;
    }

    /// One destination of a new message.
    fn enqueue_share(
        &mut self,
        message: MessageSlot,
        told: Told,
        group: &[(DestinationId, RecipientIndex, u16, Option<WallTime>)],
    ) {
        let id = group[0].0;
        let recipients = match group {
            [(_, one, ..)] => Recipients::One(*one),
            many => Recipients::Many(many.iter().map(|(_, recipient, ..)| *recipient).collect()),
        };
        // They differ only after recovery; the most tried and the soonest stand for all.
        let attempts = group.iter().map(|(.., attempts, _)| *attempts).max();
        let not_before = group.iter().map(|(.., not_before)| *not_before).min();
        let share = self
            .index
            .add_share(message, id, recipients, attempts.unwrap_or(0));
        self.index.share_mut(share).told = told;
        self.admit(share);
        match not_before.flatten() {
            Some(time) if time > self.now.wall => {
                let due = self.now.instant + time.since(self.now.wall);
                self.defer_until(share, due);
            }
            _ => self.make_ready(share),
        }
        self.reconsider(id);
    }

    /// A notice said that permits came free.
    pub fn permits_freed(&mut self, now: Now) {
        self.begin(now);
        self.look_again();
    }

    /// A notice said that another core wants a permit: an idle connection makes room.
    pub fn permit_wanted(&mut self, now: Now, key: Option<DestinationKey>) {
        self.begin(now);
        self.quit_one_idle(key);
    }

    /// The deadline has come.
    pub fn timer(&mut self, now: Now) {
        self.begin(now);
    }

    /// A new configuration. Mail that waits is treated by the new policies.
    pub fn reconfigure(&mut self, now: Now, policies: Policies, idle: Duration) {
        self.begin(now);
        self.policies = policies;
        self.idle_timeout = idle;
        for destination in self.destinations.iter_mut() {
            destination.policy = Arc::clone(self.policies.get(&destination.next_hop));
        }
        self.reclock_after = Some(None);
        let ids: Vec<_> = self.destinations.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.reconsider(id);
        }
    }

    /// No new connections and no new jobs from now on; idle connections end.
    pub fn stop(&mut self, now: Now) {
        self.begin(now);
        self.stopping = true;
        while self.quit_one_idle(None) {}
    }

    /// The next thing to do or to know.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.portion_left == 0 {
                return None;
            }
            self.portion_left -= 1;
            let progress = self.step_timers()
                || self.step_idle()
                || self.step_line()
                || self.step_clock()
                || self.step_sweep()
                || self.step_reclock();
            if !progress {
                return None;
            }
        }
    }

    /// When [`Schedule::timer`] is wanted. `None`: not before another input.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.portion_left == 0 {
            return Some(self.now.instant);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let idle = self
            .idle
            .front()
            .map(|(since, _)| *since + self.idle_timeout);
        let clock = self.clock.first().map(|(second, _)| {
            let at = WallTime::from_millis(i64::from(*second) * 1000);
            self.now.instant + at.since(self.now.wall).min(WALL_CHECK)
        });
        let waits = !self.line.queued.is_empty() && !self.line.full && !self.stopping;
        let line = waits.then_some(self.line.not_before);
        [timer, idle, clock, line].into_iter().flatten().min()
    }

    /// The message was written elsewhere in the spool (carried forward).
    pub fn moved(&mut self, queue_id: QueueId, location: Location) {
        if let Some(slot) = self.index.slot(queue_id) {
            self.index.message_mut(slot).location = location;
        }
    }

    fn begin(&mut self, now: Now) {
        self.now = now;
        self.portion_left = PORTION;
    }

    /// The destination of a next hop, made if it is not there.
    fn destination(&mut self, next_hop: NextHopRef<'_>) -> DestinationId {
        if let Some(id) = self.destinations.find(next_hop) {
            return id;
        }
        let next_hop = next_hop.to_owned();
        let policy = Arc::clone(self.policies.get(&next_hop));
        // All domains of a customer are one site, with one limit.
        let key = match &next_hop {
            NextHop::Hold { customer, .. } => self.permits.key(customer),
            other => self.permits.key(other),
        };
        self.destinations
            .insert(next_hop, policy, key, self.now.instant)
    }

    /// Counts a new share in its destination and starts its clock.
    fn admit(&mut self, slot: ShareSlot) {
        let share = self.index.share(slot);
        let octets = self.index.message(share.message).octets;
        let destination = &mut self.destinations[share.destination];
        destination.shares += 1;
        destination.octets += octets;
        let failures = destination.failures_total;
        self.index.share_mut(slot).failures_seen = failures;
        self.set_clock(slot);
    }

    /// From "in flight" to "ready", or "held" if its message is.
    fn make_ready(&mut self, slot: ShareSlot) {
        let message = self.index.message_of(slot);
        let turn = Turn::ranked(message.rank(), slot);
        let (held, large) = (message.hold == HoldState::Held, message.is_large());
        let share = self.index.share_mut(slot);
        assert_eq!(share.state, ShareState::InFlight, "a share in two places");
        let destination = &mut self.destinations[share.destination];
        let (set, state) = match (held, large) {
            (true, _) => (&mut destination.held, ShareState::Held),
            (false, true) => (&mut destination.large, ShareState::Ready),
            (false, false) => (&mut destination.small, ShareState::Ready),
        };
        share.state = state;
        let new = set.insert(turn);
        assert!(new, "a share stood twice in a set");
    }

    /// From "in flight" to "deferred", or "held" if its message is.
    fn defer_until(&mut self, slot: ShareSlot, due: Instant) {
        if self.index.message_of(slot).hold == HoldState::Held {
            self.make_ready(slot);
            return;
        }
        let share = self.index.share_mut(slot);
        assert_eq!(share.state, ShareState::InFlight, "a share in two places");
        share.state = ShareState::Deferred;
        share.due = due;
        let destination = &mut self.destinations[share.destination];
        let new = destination.deferred.insert(Turn::timed(due, slot));
        assert!(new, "a share stood twice in a set");
    }

    /// From a set of its destination to "in flight", which is to say, nowhere.
    fn unlink(&mut self, slot: ShareSlot) {
        let message = self.index.message_of(slot);
        let (rank, large) = (message.rank(), message.is_large());
        let share = self.index.share_mut(slot);
        let destination = &mut self.destinations[share.destination];
        let ranked = Turn::ranked(rank, slot);
        let timed = Turn::timed(share.due, slot);
        let was_there = match (share.state, large) {
            (ShareState::InFlight, _) => panic!("a share in flight was looked for in a set"),
            (ShareState::Ready, true) => destination.large.remove(&ranked),
            (ShareState::Ready, false) => destination.small.remove(&ranked),
            (ShareState::Held, _) => destination.held.remove(&ranked),
            (ShareState::Deferred, _) => {
                destination.deferred.remove(&timed) || destination.released.remove(&timed)
            }
        };
        assert!(was_there, "a share was not where it should be");
        share.state = ShareState::InFlight;
    }

    /// The end of a share that stands nowhere. Its recipients were reported.
    fn end_share(&mut self, slot: ShareSlot) {
        self.clear_clock(slot);
        let share = self.index.share(slot);
        assert_eq!(
            share.state,
            ShareState::InFlight,
            "a share ended in its place"
        );
        let octets = self.index.message(share.message).octets;
        let destination = &mut self.destinations[share.destination];
        destination.shares -= 1;
        destination.octets -= octets;
        if destination.shares == 0 {
            destination.empty_since = self.now.instant;
        }
        if let Removed::Message { queue_id, location } = self.index.remove_share(slot) {
            self.outputs
                .push_back(Output::Finished { queue_id, location });
        }
    }

    /// After anything that may let a destination send, or end its release: wakes what
    /// is idle, queues for a permit, sets the timer.
    fn reconsider(&mut self, id: DestinationId) {
        let now = self.now.instant;
        let destination = &mut self.destinations[id];
        if let Gate::Released { .. } = destination.gate
            && destination.small.is_empty()
            && destination.large.is_empty()
            && destination.released.is_empty()
            && !destination.is_due(now)
            && usize::try_from(destination.shares)
                .is_ok_and(|n| n == destination.deferred.len() + destination.held.len())
        {
            self.end_release(id, ReleaseEnd::Drained);
        }
        let destination = &mut self.destinations[id];
        if destination.is_open() && !self.stopping {
            while usize::from(destination.expectant) < destination.eligible(now)
                && let Some(handle) = destination.idle.pop()
            {
                destination.expectant += 1;
                let connection = self
                    .connections
                    .get_mut(handle)
                    .expect("an idle connection is there");
                connection.state = ConnectionState::Asked;
                self.outputs.push_back(Output::Work {
                    connection: ConnectionId(handle),
                });
            }
            if destination.want == Want::Nothing && destination.wants_connection(now) {
                destination.want = Want::Queued;
                self.line.queued.push_back(id);
            }
        }
        self.arm(id);
    }

    fn end_release(&mut self, id: DestinationId, end: ReleaseEnd) {
        self.destinations[id].gate = Gate::Held;
        self.outputs.push_back(Output::ReleaseEnded {
            destination: id,
            end,
        });
        // The link may be paid for by the second: no waiting for more.
        while let Some(handle) = self.destinations[id].idle.pop() {
            self.quit(ConnectionId(handle));
        }
    }

    /// Sets the timer of a destination, or forgets the destination.
    fn arm(&mut self, id: DestinationId) {
        let now = self.now.instant;
        let crowded = self.destinations.len() > REMEMBERED_MAX;
        let destination = &mut self.destinations[id];
        let empty = destination.shares == 0;
        let unused = empty
            && destination.connections == 0
            && destination.want == Want::Nothing
            && !destination.is_stopped();
        let at = match destination.health {
            Health::Closed { until } if !empty => (destination.gate != Gate::Held).then_some(until),
            Health::Closed { until } => Some(until.max(destination.empty_since + FORGET_AFTER)),
            _ if unused => Some(destination.empty_since + FORGET_AFTER),
            _ if destination.gate == Gate::Held => None,
            // What is due already has been reconsidered just now.
            _ => destination
                .deferred
                .first()
                .map(|turn| turn.due())
                .filter(|due| *due > now),
        };
        if unused
            && (at.is_some_and(|at| at <= now)
                || (crowded && !matches!(destination.health, Health::Closed { .. })))
        {
            if let Some(wake) = destination.wake {
                self.timers.remove(&(wake, id));
            }
            self.destinations.remove(id);
            return;
        }
        let Some(at) = at else { return };
        // An earlier wake-up finds nothing to do and arms again: cheaper than moving
        // the timer with each message.
        if destination.wake.is_none_or(|wake| at < wake) {
            if let Some(wake) = destination.wake.replace(at) {
                self.timers.remove(&(wake, id));
            }
            self.timers.insert((at, id));
        }
    }

    /// One destination whose time has come.
    fn step_timers(&mut self) -> bool {
        let now = self.now.instant;
        let Some(&(at, id)) = self.timers.first() else {
            return false;
        };
        if at > now {
            return false;
        }
        self.timers.pop_first();
        let destination = &mut self.destinations[id];
        destination.wake = None;
        if let Health::Closed { until } = destination.health
            && until <= now
        {
            destination.health = Health::Probing;
        }
        self.reconsider(id);
        true
    }

    /// One connection that was without work for long enough.
    fn step_idle(&mut self) -> bool {
        let Some(&(since, id)) = self.idle.front() else {
            return false;
        };
        if since + self.idle_timeout > self.now.instant {
            return false;
        }
        self.idle.pop_front();
        let Some(connection) = self.connections.get_mut(id.0) else {
            return true;
        };
        connection.idle_listed = false;
        if connection.state != ConnectionState::Idle {
            return true;
        }
        if connection.idle_since > since {
            // It had work meanwhile: to its new place in the order.
            connection.idle_listed = true;
            let since = connection.idle_since;
            let place = self.idle.partition_point(|(other, _)| *other <= since);
            self.idle.insert(place, (since, id));
        } else {
            self.forget_idle(id);
            self.quit(id);
        }
        true
    }

    /// One destination in line for a permit.
    fn step_line(&mut self) -> bool {
        if self.stopping || self.line.full || self.now.instant < self.line.not_before {
            return false;
        }
        let Some(id) = self.line.queued.pop_front() else {
            return false;
        };
        let now = self.now.instant;
        let destination = &mut self.destinations[id];
        destination.want = Want::Nothing;
        if !destination.wants_connection(now) {
            self.arm(id);
            return true;
        }
        let (key, limit) = (destination.key, destination.limit());
        let permit = if destination.next_hop.is_remote() {
            match self.permits.try_acquire(self.core, key, limit) {
                Ok(permit) => Some(permit),
                Err(denied) => {
                    self.refused(id, denied.limit);
                    self.free(denied.notify);
                    return true;
                }
            }
        } else {
            None
        };
        destination.connections += 1;
        destination.expectant += 1;
        if destination.wants_connection(now) {
            destination.want = Want::Queued;
            self.line.queued.push_back(id);
        }
        let connection = ConnectionId(self.connections.insert(Connection {
            destination: id,
            permit,
            state: ConnectionState::Connecting,
            jobs: SmallVec::new(),
            large_jobs: 0,
            large_permit: false,
            taken: 0,
            proven: false,
            since: now,
            idle_since: now,
            idle_listed: false,
        }));
        self.outputs.push_back(Output::Connect {
            connection,
            destination: id,
        });
        true
    }

    /// No permit for the destination at the head of the line.
    fn refused(&mut self, id: DestinationId, limit: Limit) {
        let destination = &mut self.destinations[id];
        let key = match limit {
            Limit::Destination => {
                destination.want = Want::Blocked;
                self.line.blocked.push(id);
                Some(destination.key)
            }
            Limit::Total => {
                destination.want = Want::Queued;
                self.line.queued.push_front(id);
                self.line.full = true;
                None
            }
        };
        if !self.quit_one_idle(key) {
            self.outputs.push_back(Output::PermitWanted { key });
        }
    }

    /// Tells who waits, this core included.
    fn free(&mut self, cores: CoreSet) {
        if cores.is_empty() {
            return;
        }
        if cores.contains(self.core) {
            self.look_again();
        }
        self.outputs.push_back(Output::PermitsFreed { cores });
    }

    /// Everybody who was refused gets in line again, behind those who are.
    fn look_again(&mut self) {
        self.line.full = false;
        for id in std::mem::take(&mut self.line.blocked) {
            self.destinations[id].want = Want::Queued;
            self.line.queued.push_back(id);
        }
        for id in std::mem::take(&mut self.line.large_blocked) {
            // It may have gone meanwhile, and its number been given again.
            if self.destinations.get(id).is_some() {
                self.destinations[id].large_blocked = false;
                self.reconsider(id);
            }
        }
    }

    /// Makes room: the connection that has been idle longest, of those to `key` if one
    /// is given.
    fn quit_one_idle(&mut self, key: Option<DestinationKey>) -> bool {
        let found = self.idle.iter().find(|(_, id)| {
            self.connections.get(id.0).is_some_and(|connection| {
                connection.state == ConnectionState::Idle
                    && connection.permit.is_some()
                    && key.is_none_or(|key| self.destinations[connection.destination].key == key)
            })
        });
        let Some(&(_, id)) = found else {
            return false;
        };
        self.forget_idle(id);
        self.quit(id);
        true
    }

    /// Takes a connection from the idle ones of its destination.
    fn forget_idle(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id.0) {
            let idle = &mut self.destinations[connection.destination].idle;
            idle.retain(|other| *other != id.0);
        }
    }

    fn quit(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.state = ConnectionState::Quitting;
            self.outputs.push_back(Output::Quit { connection: id });
        }
    }
}
