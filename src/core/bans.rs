//! Clients that guess passwords.
//!
//! The control core counts the failures of all cores, and bans a client from AUTH for a
//! while. What else a client does is not touched: behind one address may be a whole
//! office, and one of them mistypes.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hashbrown::HashMap;

use crate::time::Instant;

/// So many failures within [`WINDOW`] are no mistakes any more.
pub const FAILURES_MAX: u32 = 10;

/// How long a failure counts.
pub const WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long a ban lasts. With the pause behind each failure this leaves an address some
/// forty guesses in an hour.
pub const BAN: Duration = Duration::from_secs(15 * 60);

/// Clients whose failures are remembered. Beyond it those that have ended are forgotten,
/// and if that is not enough all.
pub const CLIENTS_MAX: usize = 50_000;

/// Bans at a time: each is made by [`FAILURES_MAX`] guesses, so that somebody with many
/// networks can make some hundred a second. Beyond it the oldest ends early, which gives
/// its client ten more guesses; all together take some 3 MiB a core.
pub const BANS_MAX: usize = 50_000;

/// A client as bans and limits see it: an IPv4 address, or the network of 64 bits that every
/// IPv6 host has to itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Client(IpAddr);

impl Client {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let network = v6.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }

    /// The address, or the first of the network.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

/// Failures of one client.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// When they are forgotten.
    until: Instant,
}

/// Who fails how often. For the control core.
#[derive(Debug, Default)]
pub(super) struct Guessers {
    failures: HashMap<Client, Failures>,
}

impl Guessers {
    /// A client has failed. `Some` if that was once too often: until when it is banned.
    pub(super) fn failed(&mut self, now: Instant, client: Client) -> Option<Instant> {
        if !self.failures.contains_key(&client) && self.failures.len() >= CLIENTS_MAX {
            self.make_room(now);
        }
        let fresh = Failures {
            count: 0,
            until: now + WINDOW,
        };
        let failures = self.failures.entry(client).or_insert(fresh);
        if failures.until <= now {
            *failures = fresh;
        }
        failures.count += 1;
        if failures.count < FAILURES_MAX {
            return None;
        }
        self.failures.remove(&client);
        Some(now + BAN)
    }

    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, failures| failures.until > now);
        if self.failures.len() >= CLIENTS_MAX {
            // So many at once: whoever goes on is soon here again.
            self.failures.clear();
        }
    }
}

/// Who is banned. For a data core, as the control core tells it.
///
/// Invariant: each ban stands in `order`, too, which holds [`BANS_MAX`] at most. A client
/// that was banned again stands there more than once; the last one counts.
#[derive(Debug, Default)]
pub(super) struct Bans {
    until: HashMap<Client, Instant>,
    /// As they came. All last equally long, so that the first ends first.
    order: VecDeque<(Instant, Client)>,
}

impl Bans {
    /// A client is banned until then. What has ended is forgotten; nothing else is looked
    /// at, however many there are.
    pub(super) fn ban(&mut self, now: Instant, client: Client, until: Instant) {
        while let Some((first, _)) = self.order.front()
            && (*first <= now || self.order.len() >= BANS_MAX)
        {
            let (until, client) = self.order.pop_front().expect("looked at above");
            if self.until.get(&client) == Some(&until) {
                self.until.remove(&client);
            }
        }
        self.until.insert(client, until);
        self.order.push_back((until, client));
    }

    /// Whether a client is banned.
    pub(super) fn contains(&self, now: Instant, address: IpAddr) -> bool {
        !self.until.is_empty()
            && self
                .until
                .get(&Client::of(address))
                .is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn client(text: &str) -> Client {
        Client::of(text.parse().unwrap())
    }

    #[test]
    fn a_client_is_its_address_or_its_network() {
        let same = |left: &str, right: &str| client(left) == client(right);
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:0:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    }

    #[test]
    fn the_last_failure_bans() {
        let mut guessers = Guessers::default();
        let one = client("192.0.2.1");
        for n in 1..FAILURES_MAX {
            assert_eq!(guessers.failed(at(u64::from(n)), one), None);
        }
        assert_eq!(guessers.failed(at(5), client("192.0.2.2")), None);
        assert_eq!(guessers.failed(at(20), one), Some(at(20) + BAN));
        // It begins anew.
        assert_eq!(guessers.failed(at(21), one), None);
    }

    #[test]
    fn failures_are_forgotten() {
        let mut guessers = Guessers::default();
        let one = client("192.0.2.1");
        for n in 0..10 * u64::from(FAILURES_MAX) {
            assert_eq!(guessers.failed(at(n * WINDOW.as_secs() / 5), one), None);
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut guessers = Guessers::default();
        for n in 0..2 * CLIENTS_MAX as u32 {
            let address = std::net::Ipv4Addr::from_bits(n);
            guessers.failed(at(1), Client::of(address.into()));
            assert!(guessers.failures.len() <= CLIENTS_MAX);
        }
    }

    #[test]
    fn bans_end() {
        let mut bans = Bans::default();
        let address = "192.0.2.1".parse().unwrap();
        assert!(!bans.contains(at(0), address));
        bans.ban(at(0), Client::of(address), at(10));
        assert!(bans.contains(at(9), address));
        assert!(!bans.contains(at(10), address));
        bans.ban(at(11), client("192.0.2.2"), at(20));
        assert_eq!(bans.until.len(), 1);
        assert_eq!(bans.order.len(), 1);
    }

    #[test]
    fn bans_are_bounded_and_the_oldest_ends_early() {
        let mut bans = Bans::default();
        let address = |n: u32| std::net::Ipv4Addr::from_bits(n).into();
        let all = 2 * BANS_MAX as u32;
        for n in 0..all {
            bans.ban(at(1), Client::of(address(n)), at(1) + BAN);
            assert!(bans.until.len() <= BANS_MAX && bans.order.len() <= BANS_MAX);
        }
        assert!(!bans.contains(at(2), address(0)));
        assert!(bans.contains(at(2), address(all - BANS_MAX as u32)));
        assert!(bans.contains(at(2), address(all - 1)));
        // One that is banned again and again takes the place of others, and no more.
        for n in 0..all {
            bans.ban(at(3), Client::of(address(7)), at(3 + u64::from(n)) + BAN);
            assert!(bans.until.len() <= BANS_MAX && bans.order.len() <= BANS_MAX);
        }
        assert!(bans.contains(at(4), address(7)));
        assert_eq!(bans.until.len(), 1);
    }
}
