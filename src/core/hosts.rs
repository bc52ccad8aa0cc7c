//! Hosts of next hops, as far as this core knows them.
//!
//! A connection that the schedule wants waits here until its hosts are known. One
//! question at a time is out for a next hop; an answer is used until its time is
//! over, and connections that come meanwhile cost no question.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hashbrown::HashMap;

use crate::core::common::WantedConnection;
use crate::core::delivery::Candidates;
use crate::core::{Endpoint, Host, Unresolved};
use crate::queue::{ConnectionId, DestinationId};
use crate::route::{CustomerName, NextHop, Protocol, TlsPolicy};
use crate::time::Instant;

/// Answers that are kept. A busy spool delivers to some thousand destinations; beyond
/// this all are dropped and asked for again, which costs a notice each.
const ANSWERS_MAX: usize = 16 * 1024;

/// Where a customer that called takes mail.
const SMTP_PORT: u16 = 25;

/// How long the control core has for an answer. It gives up earlier itself; this is
/// for a control core that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// What is known of a next hop.
enum Known {
    /// A question is out; these connections wait for its answer.
    Asked {
        waiting: Vec<(ConnectionId, DestinationId)>,
        until: Instant,
    },
    /// The answer.
    Answer {
        hosts: Vec<Host>,
        valid_until: Instant,
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
    /// Questions in the order in which they were asked, with the time when they are given
    /// up. Some are answered: they are passed over.
    asked: VecDeque<(Instant, NextHop)>,
}

/// What became of a connection that waited.
pub(super) enum Resolved {
    /// It can be opened.
    Hosts(WantedConnection),
    /// Not now.
    Later { connection: ConnectionId },
    /// Its mail is thrown away by route.
    Discard { connection: ConnectionId },
    /// Its mail can never be delivered.
    Never {
        connection: ConnectionId,
        why: String,
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
    ) -> Option<NextHop> {
        if next_hop == NextHop::Discard {
            self.ready.push_back(Resolved::Discard { connection });
            return None;
        }
        if let NextHop::Hold { customer, .. } = &next_hop
            && let Some(host) = self.callers.get(customer)
        {
            self.ready.push_back(Resolved::Hosts(WantedConnection {
                connection,
                destination,
                candidates: candidates(std::slice::from_ref(host)),
            }));
            return None;
        }
        match self.known.get_mut(&next_hop) {
            Some(Known::Asked { waiting, .. }) => {
                waiting.push((connection, destination));
                None
            }
            Some(Known::Answer { hosts, valid_until }) if *valid_until > now => {
                let candidates = candidates(hosts);
                let wanted = WantedConnection {
                    connection,
                    destination,
                    candidates,
                };
                self.ready.push_back(Resolved::Hosts(wanted));
                None
            }
            _ => {
                if self.known.len() >= ANSWERS_MAX {
                    self.known
                        .retain(|_, known| matches!(known, Known::Asked { .. }));
                }
                let until = now + ANSWER_TIMEOUT;
                let asked = Known::Asked {
                    waiting: vec![(connection, destination)],
                    until,
                };
                self.known.insert(next_hop.clone(), asked);
                self.asked.push_back((until, next_hop.clone()));
                Some(next_hop)
            }
        }
    }

    /// This customer's mail goes to this address, until [`HostCache::hung_up`].
    pub(super) fn called(&mut self, customer: CustomerName, address: IpAddr) {
        let host = Host {
            name: address.to_string(),
            addresses: vec![Endpoint::Tcp(SocketAddr::new(address, SMTP_PORT))],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::None,
        };
        self.callers.insert(customer, host);
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
        let waiting = match self.known.get_mut(&next_hop) {
            Some(Known::Asked { waiting, .. }) => std::mem::take(waiting),
            // It was given up before, or is an answer already.
            Some(Known::Answer { .. }) | None => return,
        };
        self.known.remove(&next_hop);
        for (connection, destination) in waiting {
            self.ready.push_back(match &answer {
                Ok(hosts) => Resolved::Hosts(WantedConnection {
                    connection,
                    destination,
                    candidates: candidates(hosts),
                }),
                Err(Unresolved::Later(why)) => {
                    self.failures.insert(destination, why.clone());
                    Resolved::Later { connection }
                }
                Err(Unresolved::Never(why)) => Resolved::Never {
                    connection,
                    why: why.clone(),
                },
            });
        }
        if let Ok(hosts) = answer {
            self.known
                .insert(next_hop, Known::Answer { hosts, valid_until });
        }
    }

    /// The first host did not talk to us; the others may.
    pub(super) fn try_next(&mut self, wanted: WantedConnection) {
        self.ready.push_back(Resolved::Hosts(wanted));
    }

    /// A connection is no longer wanted.
    pub(super) fn give_up(&mut self, connection: ConnectionId) {
        for known in self.known.values_mut() {
            if let Known::Asked { waiting, .. } = known
                && let Some(index) = waiting.iter().position(|(other, _)| *other == connection)
            {
                waiting.swap_remove(index);
                self.ready.push_back(Resolved::Later { connection });
                return;
            }
        }
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
        matches!(self.known.get(next_hop), Some(Known::Asked { until, .. }) if *until == asked_until)
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

/// Every address of every host, in their order.
pub(super) fn candidates(hosts: &[Host]) -> Candidates {
    let all: Candidates = hosts
        .iter()
        .flat_map(|host| {
            host.addresses
                .iter()
                .map(|endpoint| (host.clone(), endpoint.clone()))
        })
        .collect();
    all
}
