//! Mail on a detour: what a closed destination gave to the smarthosts, and the way back
//! when they are closed, too.
//!
//! # The way back
//! - While the smarthosts take mail, or may, what went there stays there.
//! - When they are closed, each destination that mail came from and that may be tried gets
//!   one share back, to find out. When the time of a closed one comes later, it gets its
//!   one then. If it is closed again the share goes to the smarthosts once more.
//! - A destination that takes mail while they are closed gets all of its mail back, in
//!   portions.
//!
//! So while both ways are closed it costs one share an attempt, however much mail waits.
//!
//! Invariants: a share is known here from when it is given to the smarthosts until it
//! ends or goes elsewhere; two recipients are in one share only if they came from the same
//! destination.
//!
//! What this module does not do: it does not survive a restart. Then all mail is tried
//! directly first.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::Schedule;
use crate::queue::destination::{Gate, Health};
use crate::queue::index::{DestinationId, ShareSlot, ShareState};
use crate::queue::way::Way;
use crate::route::NextHop;

/// Shares that go back in one step of bulk work.
const MOVED_AT_ONCE: usize = 64;

/// Shares that are looked at for one that can go: some are on the wire, and an operator
/// may have stopped any number.
const LOOKED_AT: usize = 1024;

/// Where mail came from.
#[derive(Debug)]
struct Origin {
    next_hop: NextHop,
    shares: BTreeSet<ShareSlot>,
    /// Stands in [`Detours::taking`].
    listed: bool,
}

/// How much goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Back {
    /// One share, to find out.
    One,
    /// All.
    All,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Detours {
    origins: slab::Slab<Origin>,
    /// Seeded: outsiders choose the domains.
    by_next_hop: HashMap<NextHop, usize, foldhash::quality::FixedState>,
    by_share: HashMap<ShareSlot, usize, foldhash::fast::FixedState>,
    /// All origins are being looked at, this one next.
    round: Option<usize>,
    /// Those that take mail.
    taking: VecDeque<usize>,
}

impl Detours {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = foldhash::quality::FixedState::with_seed(seed);
        Self {
            origins: slab::Slab::new(),
            by_next_hop: HashMap::with_hasher(hasher),
            by_share: HashMap::default(),
            round: None,
            taking: VecDeque::new(),
        }
    }

    /// A share stands in for its destination at the smarthosts.
    pub(super) fn add(&mut self, share: ShareSlot, from: &NextHop) {
        let origin = match self.by_next_hop.get(from) {
            Some(&origin) => origin,
            None => {
                let origin = self.origins.insert(Origin {
                    next_hop: from.clone(),
                    shares: BTreeSet::new(),
                    listed: false,
                });
                self.by_next_hop.insert(from.clone(), origin);
                origin
            }
        };
        self.origins[origin].shares.insert(share);
        let before = self.by_share.insert(share, origin);
        assert_eq!(before, None, "a share is on two detours");
    }

    /// A share was split.
    pub(super) fn inherit(&mut self, new: ShareSlot, from: ShareSlot) {
        if let Some(&origin) = self.by_share.get(&from) {
            self.origins[origin].shares.insert(new);
            self.by_share.insert(new, origin);
        }
    }

    /// A share ends, or goes elsewhere.
    pub(super) fn remove(&mut self, share: ShareSlot) {
        if self.by_share.is_empty() {
            return;
        }
        let Some(origin) = self.by_share.remove(&share) else {
            return;
        };
        let shares = &mut self.origins[origin].shares;
        shares.remove(&share);
        // Where it is still listed it goes when its turn comes.
        if shares.is_empty() && !self.origins[origin].listed {
            self.forget(origin);
        }
    }

    fn forget(&mut self, origin: usize) {
        let origin = self.origins.remove(origin);
        self.by_next_hop.remove(&origin.next_hop);
    }

    fn find(&self, next_hop: &NextHop) -> Option<usize> {
        if self.by_share.is_empty() {
            return None;
        }
        let origin = self.by_next_hop.get(next_hop).copied()?;
        (!self.origins[origin].shares.is_empty()).then_some(origin)
    }

    /// Whether mail of this next hop is on a detour.
    pub(super) fn has(&self, next_hop: &NextHop) -> bool {
        self.find(next_hop).is_some()
    }

    /// All of them, with where each came from.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (ShareSlot, &NextHop)> {
        let next_hop = |origin: usize| &self.origins[origin].next_hop;
        (self.by_share.iter()).map(move |(share, origin)| (*share, next_hop(*origin)))
    }
}

impl Schedule {
    /// A destination is closed. If those are the smarthosts, all origins are looked at.
    pub(super) fn start_way_back(&mut self, id: DestinationId) {
        let is_smarthost = matches!(self.destinations[id].next_hop, NextHop::Smarthost(_));
        if is_smarthost && !self.detours.by_share.is_empty() {
            self.detours.round = Some(0);
        }
    }

    /// A destination takes mail: what it gave away comes back if nobody else takes it.
    pub(super) fn list_for_way_back(&mut self, id: DestinationId) {
        let next_hop = &self.destinations[id].next_hop;
        if let Some(origin) = self.detours.find(next_hop)
            && !self.detours.origins[origin].listed
            && self.are_smarthosts_closed(next_hop)
        {
            self.detours.origins[origin].listed = true;
            self.detours.taking.push_back(origin);
        }
    }

    /// The time of a closed destination has come: it gets some of its mail back if it has
    /// given it away, and in any case it is reconsidered.
    pub(super) fn probe_directly(&mut self, id: DestinationId) {
        let destination = &self.destinations[id];
        match self.detours.find(&destination.next_hop) {
            Some(origin) if self.are_smarthosts_closed(&destination.next_hop) => {
                self.send_back(origin, Back::One);
            }
            _ => self.reconsider(id),
        }
    }

    /// One origin.
    pub(super) fn step_way_back(&mut self) -> bool {
        if let Some(at) = self.detours.round {
            let origins = &self.detours.origins;
            let next = (at..origins.capacity()).find(|key| origins.contains(*key));
            self.detours.round = next.map(|key| key + 1);
            if let Some(origin) = next {
                self.send_back(origin, Back::One);
            }
            return true;
        }
        let Some(&origin) = self.detours.taking.front() else {
            return false;
        };
        if !self.send_back(origin, Back::All) {
            self.detours.taking.pop_front();
            self.detours.origins[origin].listed = false;
            if self.detours.origins[origin].shares.is_empty() {
                self.detours.forget(origin);
            }
        }
        true
    }

    /// Whether mail of this next hop has nowhere else to go.
    fn are_smarthosts_closed(&self, next_hop: &NextHop) -> bool {
        let Some(fallback) = self.policies.mode.fallback(next_hop) else {
            return true;
        };
        let Some(id) = self.destinations.find(fallback.as_ref()) else {
            return false;
        };
        !matches!(self.destinations[id].health, Health::Open { .. })
    }

    /// Moves shares to where they came from, if that may be tried. False if there was
    /// nothing to move.
    fn send_back(&mut self, origin: usize, back: Back) -> bool {
        let next_hop = self.detours.origins[origin].next_hop.clone();
        if !self.are_smarthosts_closed(&next_hop) {
            return false;
        }
        let to = self.destination(next_hop.as_ref());
        let destination = &self.destinations[to];
        let may_be_tried = destination.gate == Gate::Open
            && destination.way != Way::Shut
            && !matches!(destination.health, Health::Closed { .. });
        if !may_be_tried || (back == Back::One && destination.shares > 0) {
            self.reconsider(to);
            return false;
        }
        let can_go = |slot: &ShareSlot| {
            let state = self.index.share(*slot).state;
            matches!(state, ShareState::Ready | ShareState::Deferred)
        };
        let shares = &self.detours.origins[origin].shares;
        let going: Vec<ShareSlot> = (shares.iter().copied().take(LOOKED_AT))
            .filter(can_go)
            .take(match back {
                Back::One => 1,
                Back::All => MOVED_AT_ONCE,
            })
            .collect();
        for &slot in &going {
            let from = self.index.share(slot).destination;
            self.send(slot, to);
            self.reconsider(from);
        }
        self.reconsider(to);
        !going.is_empty()
    }
}
