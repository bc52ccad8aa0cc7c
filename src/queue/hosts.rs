//! Hosts, by address: which of them are dead, and how many connections each bears.
//!
//! A destination knows how it stands with its own mail; many destinations may have one
//! host. What is remembered here of a host is known for all of them (RFC 5321
//! §4.5.4.1: it is hosts that are retried, not messages), and on all data cores: a dead
//! host is passed over until its time comes, then one connection finds out, whichever
//! destination and core needs it first; when it answers it gets few connections at first
//! and more with each answer.
//!
//! What the cores must agree on is in [`Hosts`], which they share; why a host is dead, in
//! words, is kept by the core that found out ([`HostMemory`]).
//!
//! Invariants:
//! - Each [`HostMemory::admit`] that allowed a connection is followed by one
//!   [`HostMemory::left`] or [`HostMemory::failed`] for the same address.
//! - A dead host has one probe at a time, of all cores.
//! - An address that never failed is remembered only while it has connections.
//! - What is done for a host costs the same however much mail waits behind it.
//!
//! What this module does not do: it does not say for how long a dead host rests; the
//! retry policy does, of whose mail found out. It wakes nobody: who was refused looks
//! again when he was told to.

mod table;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::table::{Admission, Verdict};
use super::permits::CoreNumber;
use crate::time::Instant;

pub use self::table::Hosts;

/// Reasons that one core keeps. Beyond this those of hosts that are no longer dead are
/// forgotten, and if that is not enough all of them.
pub const REASONS_MAX: usize = 16 * 1024;

/// A dead host rests no longer than this, whatever the policy says: a message that is
/// new should not wait for hours because of one that is old.
pub const REST_MAX: Duration = Duration::from_secs(30 * 60);

/// While a host is being probed, or has as many connections as it bears, those who
/// want it look again after this time.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Connections to a host that was dead and has answered once.
pub const CONNECTIONS_AFTER_DEATH: u16 = 2;

/// Longest reason that is kept, in octets: it stands in a table of [`REASONS_MAX`].
const WHY_BYTES_MAX: usize = 200;

/// A host that is dead, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadHost<A> {
    /// Which.
    pub address: A,
    /// In a row.
    pub failures: u16,
    /// When it is tried again.
    pub until: Instant,
    /// The last failure that this core saw.
    pub why: String,
    /// When that was.
    pub since: Instant,
}

/// Why a host died.
#[derive(Debug)]
struct Reason {
    since: Instant,
    why: Box<str>,
}

/// What one data core does about hosts; `A` is an address.
#[derive(Debug)]
pub struct HostMemory<A> {
    core: CoreNumber,
    shared: Arc<Hosts>,
    reasons: HashMap<A, Reason, foldhash::quality::FixedState>,
    /// Connections to hosts for which there was no place.
    unremembered: HashMap<A, u16, foldhash::quality::FixedState>,
}

impl<A: Clone + Eq + Hash + Ord> HostMemory<A> {
    /// The part of this core. The seed is secret, and new at each start: outsiders choose
    /// the addresses.
    #[must_use]
    pub fn new(core: CoreNumber, shared: Arc<Hosts>, seed: u64) -> Self {
        let hasher = foldhash::quality::FixedState::with_seed(seed);
        Self {
            core,
            shared,
            reasons: HashMap::with_hasher(hasher.clone()),
            unremembered: HashMap::with_hasher(hasher),
        }
    }

    /// Whether a connection to this address may be opened now.
    ///
    /// # Errors
    /// When to look again.
    pub fn admit(&mut self, now: Instant, address: &A) -> Result<(), Instant> {
        match self.shared.admit(now, self.core, address) {
            Admission::Granted => Ok(()),
            Admission::Unremembered => {
                *self.unremembered.entry_ref(address).or_insert(0) += 1;
                Ok(())
            }
            Admission::Refused(until) => Err(until),
        }
    }

    /// The host at this address took or refused mail: it is there.
    pub fn answered(&mut self, address: &A) {
        if self.shared.answered(address) {
            self.reasons.remove(address);
        }
    }

    /// How often it has failed in a row, the next failure included: for the pause.
    #[must_use]
    pub fn failures_with_next(&self, address: &A) -> u16 {
        self.shared.failures(address).saturating_add(1)
    }

    /// A connection that was allowed could not be had, or the host did not talk to us on
    /// it, and it is over. The host rests for `pause`, unless any core has other
    /// connections to it: then it bears as many as there are.
    pub fn failed(&mut self, now: Instant, address: &A, pause: Duration, why: &str) {
        if self.was_unremembered(address)
            || self.shared.failed(now, pause, address) == Verdict::Bears
        {
            return;
        }
        if self.reasons.len() >= REASONS_MAX {
            let shared = &self.shared;
            self.reasons
                .retain(|address, _| shared.dead(address).is_some());
            // Not one by one with each failure from now on.
            if self.reasons.len() > REASONS_MAX / 2 {
                self.reasons.clear();
            }
        }
        let end = (0..=WHY_BYTES_MAX.min(why.len()))
            .rev()
            .find(|&end| why.is_char_boundary(end));
        let why = why[..end.unwrap_or(0)].into();
        self.reasons
            .insert(address.clone(), Reason { since: now, why });
    }

    /// A connection that was allowed is over.
    pub fn left(&mut self, address: &A) {
        if !self.was_unremembered(address) {
            self.shared.left(address);
        }
    }

    /// One connection is as good as the other: those without a place end first.
    fn was_unremembered(&mut self, address: &A) -> bool {
        if self.unremembered.is_empty() {
            return false;
        }
        let Some(open) = self.unremembered.get_mut(address) else {
            return false;
        };
        *open -= 1;
        if *open == 0 {
            self.unremembered.remove(address);
        }
        true
    }

    /// Whether it is dead, and another core has found that out since this one last did.
    #[must_use]
    pub fn died_elsewhere(&self, address: &A) -> bool {
        let Some((_, rest)) = self.shared.dead(address) else {
            return false;
        };
        let own = self.reasons.get(address);
        own.is_none_or(|own| rest.is_news_after(own.since))
    }

    /// Somebody wants mail to go now: each dead host may be probed once at once.
    pub fn release(&mut self, now: Instant) {
        self.shared.release(now);
    }

    /// The hosts that are dead as this core found out, in the order of their addresses.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadHost<A>> {
        let mut dead: Vec<_> = (self.reasons.iter())
            .filter_map(|(address, reason)| {
                let (failures, rest) = self.shared.dead(address)?;
                Some(DeadHost {
                    address: address.clone(),
                    failures,
                    until: rest.until(),
                    why: reason.why.to_string(),
                    since: reason.since,
                })
            })
            .collect();
        dead.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        dead
    }
}

#[cfg(test)]
mod tests;
