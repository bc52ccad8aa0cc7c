//! Hosts of next hops, as far as this core knows them.
//!
//! A connection that the schedule wants is given back until its hosts are known, so that a
//! name server that does not answer keeps no connection from other mail. One question at a
//! time is out for a next hop; an answer is used until its time is over, and once in any
//! case: a connection may be long in coming.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hashbrown::HashMap;

use crate::core::aftermath::HostLeft;
use crate::core::common::{Common, WantedConnection};
use crate::core::delivery::Candidates;
use crate::core::delivery::passing::Silent;
use crate::core::outcome::hostless::HostlessEnd;
use crate::core::{Endpoint, Host, NoHost, Unresolved};
use crate::queue::hosts::LOOK_AGAIN;
use crate::queue::retry::Jitter;
use crate::queue::schedule::Found;
use crate::queue::{ConnectionId, DestinationId};
use crate::route::{CustomerName, NextHop, Protocol, TlsPolicy};
use crate::time::{Instant, Now};

/// Answers that are kept. A busy spool delivers to some thousand destinations; beyond
/// this all are dropped and asked for again, which costs a notice each.
const ANSWERS_MAX: usize = 16 * 1024;

/// Where a customer that called takes mail.
const SMTP_PORT: u16 = 25;
/// How long a host whose handshake failed is spoken to in clear, where that is allowed.
/// Long enough that a queue does not try twice for each message, short enough that a
/// host that was mended is soon spoken to under TLS again.
const IN_CLEAR: Duration = Duration::from_secs(3600);

/// Hosts that are remembered so. Beyond it all are forgotten: each costs one handshake
/// in vain.
const IN_CLEAR_MAX: usize = 4096;

/// How long a host that broke a session off in the middle of mail comes behind the
/// others of its next hop: longer than the usual pause before the next attempt, or that
/// attempt would meet the same host.
const BROKEN: Duration = Duration::from_secs(3600);

/// Hosts that are remembered so. Beyond it all are forgotten.
const BROKEN_MAX: usize = 4096;

/// How long the control core has for an answer. It gives up earlier itself; this is
/// for a control core that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// What is known of a next hop.
enum Known {
    /// A question is out; its answer is waited for.
    Asked { until: Instant },
    /// The answer, or why there will be none.
    Answer {
        answer: Result<Vec<Host>, (NoHost, String)>,
        valid_until: Instant,
        /// Nobody has used it yet, and somebody waits for it.
        fresh: bool,
    },
}

/// See the module.
#[derive(Default)]
pub(super) struct HostCache {
    known: HashMap<NextHop, Known>,
    /// Connections that can be opened, or not.
    ready: VecDeque<Resolved>,
    /// Why a destination could last not be used.
    failures: HashMap<DestinationId, String>,
    /// Where customers called from whose mail goes to the caller.
    callers: HashMap<CustomerName, Host>,
    /// Hosts whose handshake failed, until when they are spoken to in clear.
    in_clear: HashMap<Endpoint, Instant>,
    /// Hosts that broke a session off, until when others come first.
    broken: HashMap<Endpoint, Instant>,
    /// Questions in the order in which they were asked, with the time when they are given
    /// up. Some are answered: they are passed over.
    asked: VecDeque<(Instant, NextHop)>,
}

/// From where a customer has called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CalledFrom {
    /// From where its mail goes already, or for the first time.
    SamePlace,
    /// It has another address now, and may have lost the line to the old one.
    Elsewhere,
}

/// What became of a connection that waited.
pub(super) enum Resolved {
    /// It can be opened.
    Hosts(Box<WantedConnection>),
    /// Its hosts have to be looked up.
    Unknown { connection: ConnectionId },
    /// They are known now, or it is known that there are none.
    Found { next_hop: NextHop },
    /// They could not be looked up.
    NotFound { next_hop: NextHop, why: String },
    /// There is no host, and its mail ends without one.
    NoHost {
        connection: ConnectionId,
        end: HostlessEnd,
    },
}

impl HostCache {
    /// A connection wants hosts. Gives the question to be asked, if there is one.
    pub(super) fn want(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        destination: DestinationId,
        next_hop: NextHop,
        random: &mut Jitter,
    ) -> Option<NextHop> {
        if next_hop == NextHop::Discard {
            let end = HostlessEnd::Discarded;
            self.ready.push_back(Resolved::NoHost { connection, end });
            return None;
        }
        if let Some(customer) = next_hop.customer()
            && let Some(host) = self.callers.get(customer)
        {
            self.ready
                .push_back(Resolved::Hosts(Box::new(WantedConnection {
                    connection,
                    destination,
                    candidates: candidates(std::slice::from_ref(host), random),
                    failed: None,
                    silent: Silent::default(),
                    passed_on: None,
                })));
            return None;
        }
        if let NextHop::Maildir(path) = next_hop {
            let end = HostlessEnd::Maildir(path);
            self.ready.push_back(Resolved::NoHost { connection, end });
            return None;
        }
        match self.known.get_mut(&next_hop) {
            Some(Known::Asked { .. }) => {
                self.ready.push_back(Resolved::Unknown { connection });
                None
            }
            Some(Known::Answer {
                answer,
                valid_until,
                fresh,
            }) if *valid_until > now || *fresh => {
                *fresh = false;
                let resolved = resolved(connection, destination, answer, random);
                self.ready.push_back(resolved);
                None
            }
            _ => {
                if self.known.len() >= ANSWERS_MAX {
                    self.known
                        .retain(|_, known| matches!(known, Known::Asked { .. }));
                }
                let until = now + ANSWER_TIMEOUT;
                let asked = Known::Asked { until };
                self.ready.push_back(Resolved::Unknown { connection });
                self.known.insert(next_hop.clone(), asked);
                self.asked.push_back((until, next_hop.clone()));
                Some(next_hop)
            }
        }
    }

    /// This customer's mail goes to this address, until [`HostCache::hung_up`].
    pub(super) fn called(&mut self, customer: CustomerName, address: IpAddr) -> CalledFrom {
        let host = Host {
            name: address.to_string(),
            addresses: vec![Endpoint::Tcp(SocketAddr::new(address, SMTP_PORT))],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::Opportunistic.into(),
            preference: 0,
            login: None,
        };
        let addresses = host.addresses.clone();
        match self.callers.insert(customer, host) {
            Some(before) if before.addresses != addresses => CalledFrom::Elsewhere,
            _ => CalledFrom::SamePlace,
        }
    }

    /// Whether this is the address from which it last called.
    pub(super) fn is_where_it_called(&self, customer: &CustomerName, endpoint: &Endpoint) -> bool {
        (self.callers.get(customer)).is_some_and(|host| host.addresses.contains(endpoint))
    }

    /// The release is over.
    pub(super) fn hung_up(&mut self, customer: &CustomerName) {
        self.callers.remove(customer);
    }

    /// An answer has come.
    pub(super) fn resolved(
        &mut self,
        next_hop: NextHop,
        answer: Result<Vec<Host>, Unresolved>,
        valid_until: Instant,
    ) {
        match self.known.get(&next_hop) {
            Some(Known::Asked { .. }) => {}
            // It was given up before, or is an answer already.
            Some(Known::Answer { .. }) | None => return,
        }
        let answer = match answer {
            Ok(hosts) => Ok(hosts),
            Err(Unresolved::Never { reason, why }) => Err((reason, why)),
            // Not kept: the schedule says when it is asked again.
            Err(Unresolved::Later(why)) => {
                self.known.remove(&next_hop);
                self.ready.push_back(Resolved::NotFound { next_hop, why });
                return;
            }
        };
        let known = Known::Answer {
            answer,
            valid_until,
            fresh: true,
        };
        self.known.insert(next_hop.clone(), known);
        self.ready.push_back(Resolved::Found { next_hop });
    }

    /// The first host did not talk to us; the others may.
    pub(super) fn try_next(&mut self, wanted: WantedConnection) {
        self.ready.push_back(Resolved::Hosts(Box::new(wanted)));
    }

    /// The handshake with a host failed, and its mail may go in clear.
    pub(super) fn in_clear(&mut self, now: Instant, endpoint: Endpoint) {
        if self.in_clear.len() >= IN_CLEAR_MAX {
            self.in_clear.clear();
        }
        self.in_clear.insert(endpoint, now + IN_CLEAR);
    }

    /// Whether TLS is not worth a try with a host.
    pub(super) fn is_in_clear(&self, now: Instant, endpoint: &Endpoint) -> bool {
        (self.in_clear.get(endpoint)).is_some_and(|until| *until > now)
    }

    /// A host broke a session off in the middle of mail.
    pub(super) fn broke_off(&mut self, now: Instant, endpoint: Endpoint) {
        if self.broken.len() >= BROKEN_MAX {
            self.broken.clear();
        }
        self.broken.insert(endpoint, now + BROKEN);
    }

    /// A host answered for mail.
    pub(super) fn answered(&mut self, endpoint: &Endpoint) {
        if !self.broken.is_empty() {
            self.broken.remove(endpoint);
        }
    }

    /// Puts those that broke off behind the others, the one that did so first first: one
    /// host that is broken must not keep mail from the next one for days.
    fn order(&self, now: Instant, candidates: &mut Candidates) {
        if self.broken.is_empty() {
            return;
        }
        let until = |endpoint: &Endpoint| {
            let until = self.broken.get(endpoint).copied();
            until.filter(|until| *until > now)
        };
        candidates
            .make_contiguous()
            .sort_by_key(|(_, endpoint)| until(endpoint));
    }

    /// The next connection whose fate is known.
    pub(super) fn next(&mut self) -> Option<Resolved> {
        self.ready.pop_front()
    }

    /// Questions that were never answered are given up.
    pub(super) fn timer(&mut self, now: Instant) {
        while let Some((until, next_hop)) = self.asked.front() {
            let is_out = self.is_out(next_hop, *until);
            if is_out && *until > now {
                return;
            }
            let (_, next_hop) = self.asked.pop_front().expect("looked at above");
            if is_out {
                let why = format!("looking up the hosts of {next_hop} took too long");
                self.resolved(next_hop, Err(Unresolved::Later(why)), now);
            }
        }
    }

    fn is_out(&self, next_hop: &NextHop, asked_until: Instant) -> bool {
        matches!(self.known.get(next_hop), Some(Known::Asked { until }) if *until == asked_until)
    }

    /// When [`HostCache::timer`] is due: at the latest when the oldest question is given
    /// up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.front().map(|(until, _)| *until)
    }

    /// The configuration may say something else now.
    pub(super) fn forget_answers(&mut self) {
        self.known
            .retain(|_, known| matches!(known, Known::Asked { .. }));
        self.in_clear.clear();
        self.broken.clear();
    }

    /// Remembers why a destination could not be used, for the operator.
    pub(super) fn failed(&mut self, destination: DestinationId, why: String) {
        if self.failures.len() >= ANSWERS_MAX {
            self.failures.clear();
        }
        self.failures.insert(destination, why);
    }

    /// Why a destination could last not be used.
    pub(super) fn failure(&self, destination: DestinationId) -> Option<&str> {
        self.failures.get(&destination).map(String::as_str)
    }

    /// The destination works again.
    pub(super) fn recovered(&mut self, destination: DestinationId) {
        self.failures.remove(&destination);
    }
}

impl Common {
    /// The hosts of a next hop could not be looked up.
    pub(super) fn hosts_not_found(&mut self, now: Now, next_hop: &NextHop, why: String) {
        if let Some(destination) = self.queue.hosts_not_found(now, next_hop.as_ref()) {
            self.hosts.failed(destination, why);
        }
    }

    /// Leaves out the hosts that are known to be dead, up to the first that may be
    /// tried: it is at the front, and counted as having a connection. Those that were left
    /// out are noted in `silent`.
    ///
    /// # Errors
    /// When the first of them may be tried again, and whether that is news of another core;
    /// `None` if there are none.
    pub(super) fn pick_host(
        &mut self,
        now: Instant,
        candidates: &mut Candidates,
        silent: &mut Silent,
    ) -> Result<(), Option<(Instant, Found)>> {
        let mut again: Option<Instant> = None;
        let mut found = Found::Elsewhere;
        self.hosts.order(now, candidates);
        while let Some((host, address)) = candidates.front() {
            match self.memory.admit(now, address) {
                Ok(()) => return Ok(()),
                Err(until) => {
                    if until <= now + LOOK_AGAIN {
                        silent.busy();
                    } else {
                        silent.dead(host);
                    }
                    again = Some(again.map_or(until, |other| other.min(until)));
                    if !self.memory.died_elsewhere(address) {
                        found = Found::Here;
                    }
                }
            }
            candidates.pop_front();
        }
        Err(again.map(|until| (until, found)))
    }

    /// A connection to a host is over, whoever wanted it.
    pub(super) fn host_left(&mut self, now: Instant, left: &HostLeft) {
        let address = &left.address;
        if left.broke_off {
            self.hosts.broke_off(now, address.clone());
        }
        match &left.dead {
            Some(why) => {
                let failures = self.memory.failures_with_next(address);
                let pause = self.queue.probe_pause(left.destination, failures);
                self.memory.failed(now, address, pause, why);
            }
            None => self.memory.left(address),
        }
    }
}

/// What becomes of a connection whose hosts are known.
fn resolved(
    connection: ConnectionId,
    destination: DestinationId,
    answer: &Result<Vec<Host>, (NoHost, String)>,
    random: &mut Jitter,
) -> Resolved {
    match answer {
        Ok(hosts) => Resolved::Hosts(Box::new(WantedConnection {
            connection,
            destination,
            candidates: candidates(hosts, random),
            failed: None,
            silent: Silent::default(),
            passed_on: None,
        })),
        Err((reason, why)) => Resolved::NoHost {
            connection,
            end: HostlessEnd::Never {
                reason: *reason,
                why: why.clone(),
            },
        },
    }
}

/// By preference; equal ones in an order that is drawn for this connection, so that
/// they share the load however long the answer of the DNS is good for.
pub(super) fn candidates(hosts: &[Host], random: &mut Jitter) -> Candidates {
    let mut order: Vec<(u16, u64, &Host)> = hosts
        .iter()
        .map(|host| (host.preference, random.next_u64(), host))
        .collect();
    order.sort_unstable_by_key(|(preference, lot, _)| (*preference, *lot));
    order
        .into_iter()
        .flat_map(|(_, _, host)| {
            host.addresses
                .iter()
                .map(|endpoint| (host.clone(), endpoint.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue;
    use crate::route::{Protocol, TlsPolicy};
    use std::collections::BTreeSet;

    fn host(name: &str, preference: u16, addresses: &[&str]) -> Host {
        Host {
            name: name.to_owned(),
            addresses: (addresses.iter())
                .map(|address| Endpoint::Tcp(address.parse().unwrap()))
                .collect(),
            protocol: Protocol::Smtp,
            tls: TlsPolicy::Opportunistic.into(),
            preference,
            login: None,
        }
    }

    fn is_ipv6(endpoint: &Endpoint) -> bool {
        matches!(endpoint, Endpoint::Tcp(address) if address.is_ipv6())
    }

    #[test]
    fn equals_share_and_preference_holds() {
        let hosts = [
            host("b", 10, &["192.0.2.2:25"]),
            host("last", 20, &["192.0.2.9:25"]),
            host("a", 10, &["[2001:db8::1]:25", "192.0.2.1:25"]),
        ];
        let mut random = Jitter::new(1);
        let mut seen = BTreeSet::new();
        for _ in 0..64 {
            let candidates = candidates(&hosts, &mut random);
            let names: Vec<_> = candidates
                .iter()
                .map(|(host, _)| host.name.as_str())
                .collect();
            assert_eq!(names.len(), 4);
            assert_eq!(names[3], "last");
            let six = candidates.iter().position(|(_, a)| is_ipv6(a));
            let four = candidates
                .iter()
                .position(|(h, a)| h.name == "a" && !is_ipv6(a));
            assert_eq!(
                six.map(|at| at + 1),
                four,
                "a host's addresses in their order"
            );
            seen.insert(names[0].to_owned());
        }
        assert_eq!(
            seen.len(),
            2,
            "each of the equal ones comes first sometimes"
        );
    }

    /// A connection that a schedule wants.
    fn wanted() -> (ConnectionId, DestinationId) {
        let now = crate::time::Now::default();
        let settings = queue::Settings {
            core: queue::CoreNumber(0),
            policies: queue::Policies::default(),
            idle: Duration::ZERO,
            seed: 1,
        };
        let permits = std::sync::Arc::new(queue::Permits::new(1, 1));
        let mut schedule = queue::Schedule::new(settings, permits, now);
        let message = queue::NewMessage {
            facts: queue::MessageFacts {
                queue_id: crate::mail::QueueId::new(0, 1),
                location: spool_format::Location {
                    log: spool_format::LogId(0),
                    segment: spool_format::SegmentId(1),
                    offset: spool_format::Offset(0),
                },
                octets: 1,
                arrival: now.wall,
                priority: crate::mail::Priority::default(),
                deliver_by: None,
                hold_until: None,
                hold: queue::HoldState::Free,
            },
        };
        let recipient = queue::NewRecipient {
            recipient: crate::mail::RecipientIndex(0),
            next_hop: crate::route::NextHopRef::Mx("a.example"),
            attempts: 0,
            not_before: None,
            told: queue::Told::NOTHING,
        };
        schedule.enqueue(now, &message, [recipient]);
        match schedule.poll() {
            Some(queue::Output::Connect {
                connection,
                destination,
            }) => (connection, destination),
            other => panic!("{other:?}"),
        }
    }

    /// What the DNS said is used until its time is over, also that there is nothing.
    #[test]
    fn answers_are_asked_for_once_while_they_are_good() {
        let second = Duration::from_secs(1);
        let check = |answer: Result<Vec<Host>, Unresolved>, is_kept: bool| {
            let (mut cache, mut random) = (HostCache::default(), Jitter::new(1));
            let next_hop = NextHop::Mx("a.example".parse().unwrap());
            let now = Instant::START;
            let (connection, destination) = wanted();
            let mut want = |cache: &mut HostCache, now| {
                let next_hop = next_hop.clone();
                let asked = cache.want(now, connection, destination, next_hop, &mut random);
                asked.is_some()
            };
            let gives_back = |cache: &mut HostCache| {
                let next = cache.next().expect("it is said what becomes of it");
                matches!(next, Resolved::Unknown { .. })
            };
            assert!(want(&mut cache, now), "not known");
            assert!(!want(&mut cache, now), "asked already");
            assert!(gives_back(&mut cache) && gives_back(&mut cache));
            cache.resolved(next_hop.clone(), answer.clone(), now + second);
            let said = cache.next();
            let found = matches!(said, Some(Resolved::Found { .. }));
            assert_eq!(found, is_kept, "{answer:?}");
            // However late, who waited for it has the use of it.
            let late = now + second * 100;
            assert_eq!(want(&mut cache, late), !is_kept, "{answer:?}");
            assert_eq!(gives_back(&mut cache), !is_kept);
            if is_kept {
                assert!(!want(&mut cache, now), "its time is not over");
                assert!(!gives_back(&mut cache));
                assert!(want(&mut cache, now + second), "its time is over");
            }
        };
        check(Ok(vec![host("a", 0, &["192.0.2.1:25"])]), true);
        let reason = NoHost::NoSuchDomain;
        let why = "no such domain".to_owned();
        check(Err(Unresolved::Never { reason, why }), true);
        check(Err(Unresolved::Later("SERVFAIL".to_owned())), false);
    }
}
