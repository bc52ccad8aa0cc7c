//! Which destinations need the link of a site, and what waits for it.
//!
//! While the link is down nothing is tried there: no attempt is counted, only expiry
//! runs. When it comes up everything is tried at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::route::{HostName, Network, NextHop};
use crate::time::WallTime;

/// Which next hops need the link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NeedsLink {
    /// This host has none: it is always on line.
    #[default]
    Nothing,
    /// All but what is on this machine, and hosts of static routes with an address in
    /// these networks.
    AllBut(Vec<Network>),
}

impl NeedsLink {
    /// Whether this one does. A host that is known by its name alone is out in the world.
    #[must_use]
    pub fn next_hop(&self, next_hop: &NextHop) -> bool {
        match (self, next_hop) {
            (Self::Nothing, _) => false,
            (_, NextHop::Host(host)) => self.host(&host.host),
            (_, NextHop::Smarthost(_) | NextHop::Mx(_)) => true,
            // Held mail goes to a site of ours when it calls.
            (_, NextHop::Hold { .. } | NextHop::Site { .. }) => false,
            (_, NextHop::Discard | NextHop::Maildir(_)) => false,
        }
    }

    /// Whether this host is reached over the link.
    #[must_use]
    pub fn host(&self, host: &HostName) -> bool {
        match host {
            HostName::Address(address) => self.address(*address),
            HostName::Name(_) => *self != Self::Nothing,
            HostName::Socket(_) => false,
        }
    }

    /// Whether this address is reached over the link.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> bool {
        match self {
            Self::Nothing => false,
            Self::AllBut(local) => !local.iter().any(|network| network.contains(address)),
        }
    }
}

/// How a destination is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Without a link.
    Always,
    /// Over the link, which is up.
    Open,
    /// Over the link, which is not.
    Shut,
}

impl Way {
    pub(super) const fn needs_link(self) -> bool {
        !matches!(self, Self::Always)
    }
}

/// What waits for the link and goes over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outbound {
    /// Shares of messages that could go at once.
    pub ready: u64,
    /// Octets of those.
    pub ready_octets: u64,
    /// When the oldest of those arrived.
    pub oldest: Option<WallTime>,
    /// The highest priority of those.
    pub priority: Option<i8>,
    /// All shares, those that wait for a time too.
    pub waiting: u64,
    /// Octets of those.
    pub waiting_octets: u64,
    /// Shares that are being sent.
    pub in_flight: u64,
    /// Messages that were taken at the other end, since the start.
    pub sent: u64,
    /// Octets of those.
    pub sent_octets: u64,
}

/// Lowest priority of RFC 6710.
const PRIORITY_MIN: i8 = -9;
/// Priorities of RFC 6710.
const PRIORITIES: usize = 19;

/// What is ready at one destination, so that its oldest and its most urgent are known
/// without looking for them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    messages: u64,
    octets: u64,
    /// How many arrived in which second.
    arrivals: BTreeMap<i64, u32>,
    /// How many have which priority.
    priorities: [u32; PRIORITIES],
}

impl Tally {
    pub(super) fn add(&mut self, octets: u64, arrival: WallTime, priority: i8) {
        self.messages += 1;
        self.octets += octets;
        *self.arrivals.entry(arrival.as_seconds()).or_default() += 1;
        self.priorities[place(priority)] += 1;
    }

    pub(super) fn remove(&mut self, octets: u64, arrival: WallTime, priority: i8) {
        self.messages -= 1;
        self.octets -= octets;
        let second = arrival.as_seconds();
        if let Some(count) = self.arrivals.get_mut(&second) {
            *count -= 1;
            if *count == 0 {
                self.arrivals.remove(&second);
            }
        }
        self.priorities[place(priority)] -= 1;
    }

    /// Counts what is ready here into `sum`.
    pub(super) fn count_into(&self, sum: &mut Outbound) {
        sum.ready += self.messages;
        sum.ready_octets += self.octets;
        let oldest = self.arrivals.keys().next();
        let oldest = oldest.map(|second| WallTime::from_millis(second * 1000));
        sum.oldest = [sum.oldest, oldest].into_iter().flatten().min();
        let highest = self.priorities.iter().rposition(|count| *count > 0);
        let highest = highest.and_then(|place| i8::try_from(place).ok());
        sum.priority = sum.priority.max(highest.map(|place| place + PRIORITY_MIN));
    }
}

fn place(priority: i8) -> usize {
    let place = usize::try_from(i16::from(priority) - i16::from(PRIORITY_MIN)).unwrap_or(0);
    place.min(PRIORITIES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Host, Protocol, TlsPolicy};

    #[test]
    fn what_needs_the_link() {
        let local = ["127.0.0.0/8", "10.0.0.0/8"].map(|n| n.parse().expect("a network"));
        let needs = NeedsLink::AllBut(local.to_vec());
        let host = |host| {
            NextHop::Host(Host {
                host,
                port: 25,
                protocol: Protocol::Smtp,
                tls: TlsPolicy::None.into(),
            })
        };
        let address = |text: &str| host(HostName::Address(text.parse().expect("an address")));
        let check = |next_hop: NextHop, expected: bool| {
            assert_eq!(needs.next_hop(&next_hop), expected, "{next_hop}");
            assert!(!NeedsLink::Nothing.next_hop(&next_hop));
        };
        check(address("10.1.2.3"), false);
        check(address("192.0.2.1"), true);
        check(
            host(HostName::Name("mail.example".parse().expect("a name"))),
            true,
        );
        check(NextHop::Mx("b.example".parse().expect("a domain")), true);
        check(NextHop::Discard, false);
        check(NextHop::Maildir("/x".into()), false);
    }

    #[test]
    fn a_tally_knows_its_oldest_and_its_most_urgent() {
        let at = |second: i64| WallTime::from_millis(second * 1000 + 7);
        let mut tally = Tally::default();
        tally.add(10, at(5), 0);
        tally.add(20, at(3), -9);
        tally.add(30, at(3), 9);
        let sum = |tally: &Tally| {
            let mut sum = Outbound::default();
            tally.count_into(&mut sum);
            (sum.ready, sum.ready_octets, sum.oldest, sum.priority)
        };
        let second = |second: i64| Some(WallTime::from_millis(second * 1000));
        assert_eq!(sum(&tally), (3, 60, second(3), Some(9)));
        tally.remove(30, at(3), 9);
        assert_eq!(sum(&tally), (2, 30, second(3), Some(0)));
        tally.remove(20, at(3), -9);
        tally.remove(10, at(5), 0);
        assert_eq!(sum(&tally), (0, 0, None, None));
    }
}
