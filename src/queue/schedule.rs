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
//! session can take work, and again each time it can take more (during a job, so that
//! commands are pipelined, or after its outcome), its worker calls [`Schedule::take`].
//! [`Take::Wait`] means that there is nothing: the session stays open and
//! [`Output::Work`] asks it to `take` again. Each job ends with
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
//! - Mail that has somewhere else to go ([`DeliveryMode::MxThenSmarthost`]) does not wait
//!   at a destination that is closed: it is moved, in portions, and what comes meanwhile
//!   goes there at once. A destination is closed when none of its hosts can be reached
//!   or talks to us, or the DNS cannot tell them. What a host refuses for good has ended;
//!   what it puts off by a reply to MAIL, RCPT or the message stays with it, since it
//!   talks to us. Mail that was moved comes back only when it cannot go there either
//!   (`detour`).
//! - Destinations take turns: while others wait for a permit a connection gives way
//!   after [`TURN_JOBS`] messages or [`TURN_TIME`].
//!
//! What this module does not do: it resolves nothing and opens nothing; it writes no
//! done record and no notification, it says that they are due; a bounce is a new
//! message to it.
//!
//! [`Retry::Fixed`]: super::retry::Retry::Fixed
//! [`DeliveryMode::MxThenSmarthost`]: crate::route::DeliveryMode::MxThenSmarthost

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spool_format::Location;

use self::arrival::Arriving;
use self::place::put_off_again;
use super::ageing::Ageing;
pub use super::destination::ReleaseEnd;
use super::destination::{Destinations, Gate, Health, Policies, Turn, Want};
use super::handles::{Handle, Handles};
use super::index::{DestinationId, Index, ShareSlot, ShareState};
use super::permits::{CoreNumber, DestinationKey, Permit, Permits};
use super::retry::Jitter;
use super::way::Way;
use crate::mail::QueueId;
use crate::roster::Roster;
use crate::route::{NextHop, NextHopRef};
use crate::time::{Instant, Now, WallTime};

mod arrival;
mod delivery;
mod detour;
mod expiry;
mod fallback;
mod filing;
mod health;
mod line;
mod link;
mod lookup;
mod oldest;
mod operator;
mod output;
mod pace;
mod place;
mod repolicy;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod visit;

pub use arrival::{NewMessage, NewRecipient};
pub use delivery::{ConnectionFailure, Job, RecipientOutcome, Take};
pub use expiry::{ClockWasSet, ExpiryReason, GivesUp};
pub use filing::{FiledRecipient, Filing};
pub use health::Found;
use line::Line;
pub use link::LinkGate;
pub use operator::{DestinationFacts, PAGE_SCAN_MAX, Page, Selection, Waiting};
pub use output::Output;
use repolicy::Repolicy;
pub use visit::{Offer, VisitId};

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

/// Who has a job.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    /// A connection of ours.
    Connection(ConnectionId),
    /// A customer that called.
    Visit(VisitId),
}

#[derive(Debug)]
struct InFlight {
    share: ShareSlot,
    carrier: Carrier,
    large: bool,
    /// When it was handed out.
    since: Instant,
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
    /// From when on mail is how old.
    ageing: Ageing,
    /// When a share is to be warned about or expires.
    clock: Roster<expiry::Tick>,
    /// When a destination is to be looked at.
    timers: BTreeSet<(Instant, DestinationId)>,
    connections: Handles<Connection>,
    /// Connections without work since when, oldest first.
    idle: VecDeque<(Instant, ConnectionId)>,
    visits: Handles<visit::Visit>,
    jobs: Handles<InFlight>,
    line: Line,
    sweeps: VecDeque<Sweep>,
    /// Shut until it is said that the link is up.
    link_gate: LinkGate,
    /// When it was opened.
    link_opened: Option<Instant>,
    /// Messages and octets that went over the link.
    sent_over_link: (u64, u64),
    /// Closed destinations whose mail goes elsewhere, each once.
    falling_back: VecDeque<DestinationId>,
    /// Where what was moved so came from.
    detours: detour::Detours,
    /// Goes through all destinations after a reload.
    repolicy: Option<Repolicy>,
    /// Goes through all shares after a change of policy.
    reclock_after: Option<Option<QueueId>>,
    outputs: VecDeque<Output>,
    jitter: Jitter,
    now: Now,
    portion_left: u32,
    stopping: bool,
    /// Nobody is given up just now.
    gives_up: GivesUp,
    scratch: Vec<Arriving>,
}

impl Schedule {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: Settings, permits: Arc<Permits>, now: Now) -> Self {
        let mut jitter = Jitter::new(settings.seed);
        let hash_seed = jitter.next_u64();
        Self {
            core: settings.core,
            ageing: Ageing::new(settings.core.0, now),
            permits,
            policies: settings.policies,
            idle_timeout: settings.idle,
            index: Index::new(),
            destinations: Destinations::new(hash_seed),
            clock: Roster::new(),
            timers: BTreeSet::new(),
            connections: Handles::new(),
            idle: VecDeque::new(),
            visits: Handles::new(),
            jobs: Handles::new(),
            line: Line::default(),
            sweeps: VecDeque::new(),
            link_gate: LinkGate::Shut,
            link_opened: None,
            sent_over_link: (0, 0),
            falling_back: VecDeque::new(),
            detours: detour::Detours::new(hash_seed),
            repolicy: None,
            reclock_after: None,
            outputs: VecDeque::new(),
            jitter,
            now,
            portion_left: PORTION,
            stopping: false,
            gives_up: GivesUp::Now,
            scratch: Vec::new(),
        }
    }

    /// Whose queue this is.
    #[must_use]
    pub fn core(&self) -> u8 {
        self.core.0
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

    /// A new configuration. Mail that waits is treated by the new policies, one destination
    /// after the other.
    pub fn reconfigure(&mut self, now: Now, policies: Policies, idle: Duration) {
        self.begin(now);
        self.policies = policies;
        self.idle_timeout = idle;
        self.repolicy = Some(Repolicy::again(self.repolicy));
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
                || (self.gives_up == GivesUp::Now && self.step_clock())
                || self.step_fallback()
                || self.step_way_back()
                || (self.gives_up == GivesUp::Now && self.step_sweep())
                || self.step_repolicy()
                || self.step_reclock();
            if !progress {
                return None;
            }
        }
    }

    /// Whether recipients may be given up and senders be warned, each of which is a
    /// notification. Where they may not, they wait: nothing is due for them, and everything
    /// else goes on. Say it before [`Schedule::poll`].
    pub fn may_give_up(&mut self, gives_up: GivesUp) {
        self.gives_up = gives_up;
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
        let clock = self.clock.first().filter(|_| self.gives_up == GivesUp::Now);
        let clock = clock.map(|tick| {
            let at = WallTime::from_millis(i64::from(tick.second) * 1000);
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
        let key = match next_hop.customer() {
            Some(customer) => self.permits.key(customer),
            None => self.permits.key(&next_hop),
        };
        let way = match (self.policies.link.next_hop(&next_hop), self.link_gate) {
            (false, _) => Way::Always,
            (true, LinkGate::Open) => Way::Open,
            (true, LinkGate::Shut) => Way::Shut,
        };
        let usage = self.policies.usage(&next_hop).cloned();
        self.destinations
            .insert(next_hop, policy, usage, key, way, self.now.instant)
    }

    /// After anything that may let a destination send, or end its release: wakes what
    /// is idle, queues for a permit, sets the timer.
    fn reconsider(&mut self, id: DestinationId) {
        let now = self.now.instant;
        put_off_again(&mut self.destinations[id], &mut self.index, self.now);
        self.promote_for_link(id);
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
        let destination = &mut self.destinations[id];
        destination.gate = Gate::Held;
        destination.cut_off = Vec::new();
        if end == ReleaseEnd::Unreachable && destination.policy.windows.is_some() {
            // A window was missed, by all that waited for it.
            destination.failures_total = destination.failures_total.wrapping_add(1);
            self.start_sweep(id);
        }
        // What this gives up is not held any more: it is told after that.
        if self.sweeps.iter().any(|sweep| sweep.destination == id) {
            self.destinations[id].ending = Some(end);
        } else {
            self.outputs.push_back(Output::ReleaseEnded {
                destination: id,
                end,
            });
        }
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
        // What it gave away may have to come back.
        let given_away = matches!(destination.health, Health::Closed { .. })
            && self.detours.has(&destination.next_hop);
        let empty = destination.shares == 0;
        let unused = empty
            && destination.connections == 0
            && destination.visits == 0
            && destination.want == Want::Nothing
            && destination.ending.is_none()
            && !destination.is_stopped();
        let at = match destination.health {
            Health::Closed { until } if !empty || given_away => {
                (destination.gate != Gate::Held).then_some(until)
            }
            Health::Closed { until } => Some(until.max(destination.empty_since + FORGET_AFTER)),
            _ if unused => Some(destination.empty_since + FORGET_AFTER),
            _ if destination.gate == Gate::Held => None,
            // There is more that is ready for the link to come.
            _ if destination.waits_for_link(now) => Some(now),
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
            self.probe_directly(id);
        } else {
            self.reconsider(id);
        }
        true
    }
}
