//! How often somebody may ask.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hashbrown::HashMap;

use crate::time::Instant;

/// Clients and names that are remembered for that: some 8 MiB.
pub(super) const REMEMBERED_MAX: usize = 65_536;

/// A client as it is counted: a site has 2^64 addresses of IPv6 to itself.
pub(super) fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// So many in a row, and then one in each pause, for each key.
pub(super) struct Limit<K> {
    burst: u32,
    pause: Duration,
    /// When all that was taken will have been paid for.
    pub(super) paid: HashMap<K, Instant, foldhash::fast::FixedState>,
}

impl<K: Hash + Eq> Limit<K> {
    /// None was taken yet.
    pub(super) fn new(burst: u32, pause: Duration) -> Self {
        Self {
            burst,
            pause,
            paid: HashMap::default(),
        }
    }

    /// Whether one more is allowed now.
    pub(super) fn take(&mut self, now: Instant, key: K) -> bool {
        if self.paid.len() >= REMEMBERED_MAX && !self.paid.contains_key(&key) {
            self.paid.retain(|_, paid| *paid > now);
            if self.paid.len() >= REMEMBERED_MAX {
                // So many at once are no customers of ours: everybody starts afresh.
                self.paid.clear();
            }
        }
        let paid = self.paid.entry(key).or_insert(now);
        let from = (*paid).max(now);
        if from.since(now) > self.pause * (self.burst - 1) {
            return false;
        }
        *paid = from + self.pause;
        true
    }
}
