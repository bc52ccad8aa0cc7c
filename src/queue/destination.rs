//! A destination: a next hop with the mail that waits for it, and what we know of it.
//!
//! What is deferred here is the destination as a whole. While it is [`Health::Closed`]
//! or its gate is shut nobody looks at its mail, however much there is of it.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashTable};

use super::handles::Handle;
use super::index::{DestinationId, ShareSlot};
use super::permits::DestinationKey;
use super::rank::Rank;
use super::retry::Retry;
use super::usage::Usage;
use super::way::{NeedsLink, Tally, Way};
use crate::roster::{Keyed, Roster};
use crate::route::{CustomerName, DeliveryMode, NextHop, NextHopRef, ScopeTable};
use crate::time::{Instant, WallTime};

/// Connections to a destination that was never seen to fail or to succeed. One alone
/// would be slow to find out that a host is quick.
pub const CONNECTIONS_FIRST: u16 = 2;

/// How mail for a next hop is treated.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// When to try again, and when to give up.
    pub retry: Retry,
    /// The age at which the sender is told that it is late; `None`: never.
    pub warn: Option<Duration>,
    /// Connections at a time, of all data cores together. With 1, strictly one message
    /// after the other.
    pub connections: u16,
    /// For held mail: failures in a row to reach the site with which a release ends.
    pub release_failures_max: u16,
    /// For held mail: it is given up after so many releases that did not reach the site.
    /// They are counted since this process started.
    pub windows: Option<u16>,
}

/// Failures in a row to reach a site with which a release ends, where nothing else is
/// said.
pub const RELEASE_FAILURES_MAX: u16 = 3;

impl Default for Policy {
    /// [`Retry::default`], a warning after 4 hours, 5 connections.
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            warn: Some(Duration::from_secs(4 * 3600)),
            connections: 5,
            release_failures_max: RELEASE_FAILURES_MAX,
            windows: None,
        }
    }
}

impl Policy {
    /// The failures after which mail is given up, if they are counted.
    pub(super) fn misses_max(&self) -> Option<u32> {
        match self.windows {
            Some(windows) => Some(u32::from(windows.max(1))),
            None => self.retry.tries(),
        }
    }
}

/// The policies, by what they are for. Of customers there may be thousands, so what there
/// is for them is shared by all cores.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Where nothing else is said.
    pub default: Arc<Policy>,
    /// For mail that is held for a customer.
    pub customers: Arc<HashMap<CustomerName, Arc<Policy>, foldhash::fast::FixedState>>,
    /// For mail of theirs that was let go before the rest: no release ends its tries, so
    /// they are as far apart as those of other mail.
    pub sites: Arc<HashMap<CustomerName, Arc<Policy>, foldhash::fast::FixedState>>,
    /// What is reached over a link. Does not change before a restart.
    pub link: NeedsLink,
    /// Where what is held for each of them is counted.
    pub usage: Arc<HashMap<CustomerName, Arc<Usage>, foldhash::fast::FixedState>>,
    /// For routes to a host that have their own.
    pub next_hops: HashMap<NextHop, Arc<Policy>, foldhash::fast::FixedState>,
    /// For routes by MX, and for mail that is held for nobody in particular: by domain.
    pub domains: ScopeTable<Arc<Policy>>,
    /// Whether mail by MX has somewhere else to go while no host takes it.
    pub mode: DeliveryMode,
}

impl Policies {
    /// Where mail for a next hop is counted, if it is a customer's.
    #[must_use]
    pub fn usage(&self, next_hop: &NextHop) -> Option<&Arc<Usage>> {
        next_hop
            .customer()
            .and_then(|customer| self.usage.get(customer))
    }

    /// The policy for a next hop.
    #[must_use]
    pub fn get(&self, next_hop: &NextHop) -> &Arc<Policy> {
        let own = match next_hop {
            NextHop::Site { customer, .. } => self.sites.get(customer),
            NextHop::Hold { customer, domain } => {
                (self.customers.get(customer)).or_else(|| self.domains.get(domain.as_str()))
            }
            NextHop::Mx(domain) => self.domains.get(domain.as_str()),
            other => self.next_hops.get(other),
        };
        own.unwrap_or(&self.default)
    }
}

/// How a release ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReleaseEnd {
    /// All was tried once.
    Drained,
    /// As many failures in a row as its policy allows.
    Unreachable,
}

/// What we know of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// As many connections as this; one more with each success, up to the limit.
    Open {
        /// At least 1.
        allowed: u16,
    },
    /// No session could be had. Nothing is tried before this time.
    Closed {
        /// Then a probe.
        until: Instant,
    },
    /// One connection finds out.
    Probing,
}

/// Whether mail may go at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// It may.
    Open,
    /// Not before a release.
    Held,
    /// Held mail that was released: until all was tried once, or the site could not be
    /// reached this many times.
    Released {
        /// Failures to reach it since the release.
        failures: u16,
    },
}

/// A share in a set that is sorted by rank or by time. Twelve octets, not sixteen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Turn {
    high: u32,
    low: u32,
    pub(super) share: ShareSlot,
}

impl Keyed for Turn {
    type Key = Self;

    fn key(&self) -> Self {
        *self
    }
}

impl Turn {
    const fn new(key: u64, share: ShareSlot) -> Self {
        Self {
            high: (key >> 32) as u32,
            low: key as u32,
            share,
        }
    }

    pub(super) const fn ranked(rank: Rank, share: ShareSlot) -> Self {
        Self::new(rank.0, share)
    }

    /// Before all turns of this rank.
    pub(super) const fn lowest(rank: Rank) -> Self {
        Self::new(rank.0, ShareSlot(0))
    }

    pub(super) const fn timed(due: Instant, share: ShareSlot) -> Self {
        Self::new(due.as_nanos(), share)
    }

    /// Of a turn made by [`Turn::timed`].
    pub(super) const fn due(self) -> Instant {
        Instant::from_nanos((self.high as u64) << 32 | self.low as u64)
    }
}

/// Whether a destination waits for a permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Nothing,
    /// In line for a connection.
    Queued,
    /// Refused by its own limit, until a notice comes.
    Blocked,
}

#[derive(Debug)]
pub(super) struct Destination {
    pub(super) next_hop: NextHop,
    pub(super) policy: Arc<Policy>,
    /// Where its shares are counted too, if they are a customer's.
    pub(super) usage: Option<Arc<Usage>>,
    pub(super) key: DestinationKey,
    pub(super) gate: Gate,
    pub(super) way: Way,
    /// What is ready, counted where it waits for the link.
    pub(super) tally: Option<Box<Tally>>,
    pub(super) health: Health,
    /// Until when its hosts rest, as another core found out last.
    pub(super) dead_until: Instant,
    /// Its hosts are being looked up.
    pub(super) awaits_hosts: bool,
    /// A connection failed while others were open: no more than now before this.
    pub(super) no_growth_before: Instant,
    /// In a row.
    pub(super) failures: u16,
    /// Ever; wraps. Shares remember what it was when they came.
    pub(super) failures_total: u32,
    /// Ready, by rank.
    pub(super) small: Roster<Turn>,
    pub(super) large: Roster<Turn>,
    /// By time.
    pub(super) deferred: Roster<Turn>,
    /// Was deferred when a release came; may go now, still in order of time.
    pub(super) released: Roster<Turn>,
    /// Stopped one by one by an operator, by rank.
    pub(super) held: Roster<Turn>,
    /// Its release ended so, and the sweep that gives up what has waited long enough is
    /// still going on.
    pub(super) ending: Option<ReleaseEnd>,
    /// When the release began, if it is released.
    pub(super) released_at: WallTime,
    /// When a release was asked for last. What was begun before says nothing of how the site
    /// is now: it may have been cut off, and have called again.
    pub(super) asked_at: Instant,
    /// Where what was cut off in this release was put among the deferred: it goes at once
    /// when the site asks again. May name what has gone from there.
    pub(super) cut_off: Vec<Turn>,
    /// Jobs ever; wraps.
    pub(super) handed_out: u32,
    /// Open or being opened.
    pub(super) connections: u16,
    /// Of those: being opened, or asked to take work and not yet there.
    pub(super) expectant: u16,
    /// Of those: without work; the last is used first.
    pub(super) idle: Vec<Handle>,
    /// Of those: with a large message.
    pub(super) large_connections: u16,
    /// Visits of its customer that are under way.
    pub(super) visits: u16,
    /// The limit on large messages of all destinations was met.
    pub(super) large_blocked: bool,
    pub(super) want: Want,
    /// Its entry among the timers.
    pub(super) wake: Option<Instant>,
    /// All shares, those in flight too.
    pub(super) shares: u32,
    pub(super) octets: u64,
    /// When the last share went.
    pub(super) empty_since: Instant,
}

impl Destination {
    /// How many connections there may be now.
    pub(super) fn allowed(&self) -> u16 {
        match self.health {
            Health::Open { allowed } => allowed.min(self.limit()),
            Health::Probing => 1,
            Health::Closed { .. } => 0,
        }
    }

    pub(super) fn limit(&self) -> u16 {
        self.policy.connections.max(1)
    }

    /// How many more connections may carry a large message: where several are allowed,
    /// one is kept for the small ones.
    pub(super) fn room_for_large(&self) -> u16 {
        if self.large_blocked {
            return 0;
        }
        let most = self.allowed().saturating_sub(1).max(1);
        most.saturating_sub(self.large_connections)
    }

    /// How many shares could go now if there were connections, roughly: at least one
    /// if there is any.
    pub(super) fn eligible(&self, now: Instant) -> usize {
        let large = self.large.len().min(usize::from(self.room_for_large()));
        self.small.len() + large + self.released.len() + usize::from(self.is_due(now))
    }

    /// Whether a deferred share's time has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.deferred.first().is_some_and(|turn| turn.due() <= now)
    }

    /// Whether an operator stopped it: not because of what it is.
    pub(super) fn is_stopped(&self) -> bool {
        self.gate == Gate::Held && !matches!(self.next_hop, NextHop::Hold { .. })
    }

    /// Whether anything may be sent at all.
    pub(super) fn is_open(&self) -> bool {
        self.gate != Gate::Held
            && self.way != Way::Shut
            && !matches!(self.health, Health::Closed { .. })
    }

    /// Whether something here is due and not yet counted as ready for the link.
    pub(super) fn waits_for_link(&self, now: Instant) -> bool {
        self.way == Way::Shut && (self.is_due(now) || !self.released.is_empty())
    }

    /// Whether another connection is wanted.
    pub(super) fn wants_connection(&self, now: Instant) -> bool {
        self.is_open()
            && !self.awaits_hosts
            && self.connections < self.allowed()
            && usize::from(self.expectant) < self.eligible(now)
    }
}

/// The destinations of one core.
#[derive(Debug)]
pub(super) struct Destinations {
    slab: slab::Slab<Destination>,
    by_next_hop: HashTable<DestinationId>,
    by_customer: HashMap<CustomerName, Vec<DestinationId>, foldhash::fast::FixedState>,
    /// Seeded: outsiders choose the domains.
    hasher: foldhash::quality::FixedState,
}

impl Destinations {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            slab: slab::Slab::new(),
            by_next_hop: HashTable::new(),
            by_customer: HashMap::default(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn find(&self, next_hop: NextHopRef<'_>) -> Option<DestinationId> {
        let hash = hash(&self.hasher, next_hop);
        let same = |id: &DestinationId| self.slab[id.0 as usize].next_hop.as_ref() == next_hop;
        self.by_next_hop.find(hash, same).copied()
    }

    /// A destination that is not there yet.
    pub(super) fn insert(
        &mut self,
        next_hop: NextHop,
        policy: Arc<Policy>,
        usage: Option<Arc<Usage>>,
        key: DestinationKey,
        way: Way,
        now: Instant,
    ) -> DestinationId {
        let gate = match &next_hop {
            NextHop::Hold { .. } => Gate::Held,
            _ => Gate::Open,
        };
        let hash_of_new = hash(&self.hasher, next_hop.as_ref());
        let customer = next_hop.customer().cloned();
        let allowed = CONNECTIONS_FIRST.min(policy.connections).max(1);
        let slot = self.slab.insert(Destination {
            next_hop,
            policy,
            usage,
            key,
            gate,
            way,
            tally: way.needs_link().then(Box::default),
            health: Health::Open { allowed },
            dead_until: Instant::START,
            awaits_hosts: false,
            no_growth_before: Instant::START,
            failures: 0,
            failures_total: 0,
            small: Roster::new(),
            large: Roster::new(),
            deferred: Roster::new(),
            released: Roster::new(),
            held: Roster::new(),
            ending: None,
            released_at: WallTime::EPOCH,
            asked_at: Instant::START,
            cut_off: Vec::new(),
            handed_out: 0,
            connections: 0,
            expectant: 0,
            idle: Vec::new(),
            large_connections: 0,
            visits: 0,
            large_blocked: false,
            want: Want::Nothing,
            wake: None,
            shares: 0,
            octets: 0,
            empty_since: now,
        });
        let id = DestinationId(u32::try_from(slot).expect("four thousand million destinations"));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_next_hop.insert_unique(hash_of_new, id, |id| {
            hash(hasher, slab[id.0 as usize].next_hop.as_ref())
        });
        if let Some(customer) = customer {
            self.by_customer.entry(customer).or_default().push(id);
        }
        id
    }

    pub(super) fn remove(&mut self, id: DestinationId) {
        let destination = self.slab.remove(id.0 as usize);
        let hash = hash(&self.hasher, destination.next_hop.as_ref());
        if let Ok(entry) = self.by_next_hop.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if let Some(customer) = destination.next_hop.customer()
            && let Some(list) = self.by_customer.get_mut(customer)
        {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.by_customer.remove(customer);
            }
        }
    }

    pub(super) fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.slab.get(id.0 as usize)
    }

    pub(super) fn of_customer(&self, customer: &CustomerName) -> &[DestinationId] {
        self.by_customer.get(customer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DestinationId, &Destination)> {
        self.slab
            .iter()
            .map(|(slot, destination)| (DestinationId(slot as u32), destination))
    }

    /// The number of each destination is below this.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.slab.capacity()).unwrap_or(u32::MAX)
    }
}

fn hash(hasher: &foldhash::quality::FixedState, next_hop: NextHopRef<'_>) -> u64 {
    std::hash::BuildHasher::hash_one(hasher, next_hop)
}

impl std::ops::Index<DestinationId> for Destinations {
    type Output = Destination;

    fn index(&self, id: DestinationId) -> &Destination {
        &self.slab[id.0 as usize]
    }
}

impl std::ops::IndexMut<DestinationId> for Destinations {
    fn index_mut(&mut self, id: DestinationId) -> &mut Destination {
        &mut self.slab[id.0 as usize]
    }
}
