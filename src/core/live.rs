//! A data core's part of what the server is doing now.
//!
//! The cost, on a question and not on a message: all destinations are counted once, and
//! [`QUEUES_SHOWN_MAX`] are put into words: all that there are, or, in a second question,
//! those that are fullest on all cores together.

mod seeking;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::core::admin::{
    Amount, Change, CustomerAmount, Date, Live, Queue, QueueClass, QueueGate, Readiness, Reason,
    Released, Response, Sessions, Tally, shortened,
};
use crate::core::admin::{CUSTOMERS_SHOWN_MAX, QUEUES_SHOWN_MAX};
use crate::core::common::Common;
use crate::core::settings::Settings;
use crate::core::{ListenerId, Notice};
use crate::queue::schedule::DestinationFacts;
use crate::queue::{CoreSet, DestinationId, Gate, Health, Selection};
use crate::report::Fact;
use crate::route::NextHop;
use crate::smtp::settings::Role;
use crate::time::Now;

impl Common {
    /// This core's part; its sessions are the core's to add.
    pub(super) fn live(&self, now: Now) -> Live {
        let mut live = Live {
            oldest: self.queue.oldest().map(Date),
            commit: self.commit_latency,
            acceptance: self.acceptance_latency,
            readiness: Readiness {
                log_open: self.log.fault().is_none(),
                has_room: !self.full,
                stopping: self.is_stopping(),
            },
            ..Live::default()
        };
        let mut waiting: Vec<DestinationId> = Vec::new();
        for facts in self.queue.destinations() {
            let amount = amount(&facts);
            if is_listed(&facts) {
                let class = live.classes.entry(class(facts.next_hop)).or_default();
                class.add(amount);
                waiting.push(facts.id);
                live.tallies.push(Tally {
                    name: name_of(facts.next_hop),
                    messages: amount.messages,
                });
            }
        }
        live.queues_total = waiting.len() as u64;
        // Of more than that nobody knows here which are the fullest on all cores.
        if waiting.len() <= QUEUES_SHOWN_MAX {
            live.queues = waiting
                .into_iter()
                .filter_map(|id| self.queue.destination_facts(id))
                .map(|facts| self.shown(now, &facts))
                .collect();
        }
        // Counted by all cores together, so told by one.
        if self.id.0 == 0 {
            live.customers = self.customers_counted();
        }
        live
    }

    /// The queues with these names, which are in ascending order.
    pub(super) fn queues(&self, now: Now, names: &[u64]) -> Vec<Queue> {
        self.queue
            .destinations()
            .filter(|facts| names.binary_search(&name_of(facts.next_hop)).is_ok())
            .filter(|facts| facts.waiting.messages > 0 || facts.gate == Gate::Held)
            .map(|facts| self.shown(now, &facts))
            .collect()
    }

    /// What is held for the customers that have mail, those with the most.
    fn customers_counted(&self) -> Vec<CustomerAmount> {
        let usage = &self.settings.policies.usage;
        let mut held: Vec<_> = usage
            .iter()
            .map(|(name, usage)| (usage.messages(), usage.octets(), name))
            .filter(|(messages, ..)| *messages > 0)
            .collect();
        // Not all are sorted: with ten thousand that would be most of the work.
        if held.len() > CUSTOMERS_SHOWN_MAX {
            held.select_nth_unstable_by(CUSTOMERS_SHOWN_MAX, |a, b| (b.0, b.1).cmp(&(a.0, a.1)));
            held.truncate(CUSTOMERS_SHOWN_MAX);
        }
        held.sort_unstable_by(|a, b| b.cmp(a));
        held.into_iter()
            .map(|(messages, octets, name)| CustomerAmount {
                name: name.to_string(),
                amount: Amount { messages, octets },
            })
            .collect()
    }

    fn shown(&self, now: Now, facts: &DestinationFacts<'_>) -> Queue {
        let (customer, domain) = match facts.next_hop {
            NextHop::Hold { customer, domain } | NextHop::Site { customer, domain } => {
                let customer = Some(customer).filter(|customer| !customer.is_of_routes());
                (customer.map(ToString::to_string), Some(domain))
            }
            NextHop::Mx(domain) => (None, Some(domain)),
            _ => (None, None),
        };
        let until = match facts.health {
            Health::Closed { until } => Some(Date(now.wall + until.since(now.instant))),
            Health::Open { .. } | Health::Probing => None,
        };
        let gate = gate_of(facts);
        Queue {
            next_hop: self.settings.routes.name_of(facts.next_hop),
            class: class(facts.next_hop),
            customer,
            domain: domain.map(ToString::to_string),
            amount: amount(facts),
            deferred: facts.deferred as u64,
            held: facts.held as u64,
            connections: u64::from(facts.connections),
            gate,
            failures: u64::from(facts.failures),
            oldest: self.queue.oldest_at(facts.id).map(Date),
            retry: until.filter(|_| gate != QueueGate::Held),
            why: (self.hosts.failure(facts.id)).map(|why| shortened(why).to_owned()),
        }
    }

    /// Stops or lets go all mail for a next hop, by the name under which it is shown.
    pub(super) fn steer(&mut self, now: Now, name: &str, change: Change) -> Response {
        if change == Change::Delete {
            let text = "a queue is held or released; `turnspool queue delete` deletes messages";
            return Response::refused(Reason::Request, text);
        }
        let named = (self.queue.destinations())
            .find(|facts| self.settings.routes.name_of(facts.next_hop) == name)
            .map(|facts| facts.next_hop.clone());
        let Some(next_hop) = named else {
            // Another core may know it.
            let text = format!("there is no queue {name:?}; it may be empty by now");
            return Response::refused(Reason::NotFound, text);
        };
        let waiting = match change {
            Change::Hold if class(&next_hop) == QueueClass::Held => {
                let text = "what is held for a customer waits for its release anyway";
                return Response::refused(Reason::Request, text);
            }
            Change::Hold if matches!(next_hop, NextHop::Site { .. }) => {
                let text = "these were released one by one; `turnspool queue requeue ID` puts one \
                            back into its held queue";
                return Response::refused(Reason::Request, text);
            }
            Change::Hold => {
                let notice = Notice::HoldQueue(next_hop.clone());
                self.tell_cores(CoreSet::ALL, &notice);
                self.keep_stopped(now, &next_hop);
                self.queue.hold(now, Selection::NextHop(next_hop.as_ref()))
            }
            Change::Release | Change::Delete => {
                self.memory.release(now.instant);
                self.keep_released(now, &next_hop);
                let selection = Selection::NextHop(next_hop.as_ref());
                self.queue.release(now, selection)
            }
        };
        self.report(Fact::QueueSteered {
            next_hop: name.to_owned(),
            what: match change {
                Change::Hold => "held by the operator, until a release",
                Change::Release | Change::Delete => "released by the operator",
            },
            messages: waiting.messages,
        });
        Response::Released(Released {
            messages: waiting.messages,
            octets: waiting.octets,
            queue: None,
        })
    }

    /// Another core has been told to stop the mail for a next hop: so do we, also what
    /// comes later.
    pub(super) fn hold_queue(&mut self, now: Now, next_hop: &NextHop) {
        self.keep_stopped(now, next_hop);
        self.queue.hold(now, Selection::NextHop(next_hop.as_ref()));
    }
}

impl Sessions {
    /// One more session of a client at a listener; `None`: at a provider that we called.
    pub(super) fn count(&mut self, settings: &Settings, listener: Option<ListenerId>) {
        let Some(listener) = listener else {
            self.provider += 1;
            return;
        };
        let session = settings.session(listener);
        let submission = session.offers.auth.as_ref().is_some_and(|auth| auth.needed);
        match session.role {
            Role::Odmr => self.odmr += 1,
            _ if submission => self.submission += 1,
            _ => self.mx += 1,
        }
    }
}

/// Whether a queue is shown. A stopped one is while it is empty: somebody is to release it.
fn is_listed(facts: &DestinationFacts<'_>) -> bool {
    let stopped = facts.gate == Gate::Held && class(facts.next_hop) != QueueClass::Held;
    facts.waiting.messages > 0 || stopped
}

/// Whether its mail may go, as it is shown.
const fn gate_of(facts: &DestinationFacts<'_>) -> QueueGate {
    match (facts.gate, facts.health) {
        (Gate::Held, _) => QueueGate::Held,
        (Gate::Released { .. }, _) => QueueGate::Released,
        (Gate::Open, Health::Closed { .. }) => QueueGate::Resting,
        (Gate::Open, Health::Open { .. } | Health::Probing) => QueueGate::Open,
    }
}

/// Stands for the name of a next hop, on each core of this process. Somebody who makes two
/// alike has mail of two queues counted as of one in an overview.
fn name_of(next_hop: &NextHop) -> u64 {
    let mut hasher = DefaultHasher::new();
    next_hop.hash(&mut hasher);
    hasher.finish()
}

fn amount(facts: &DestinationFacts<'_>) -> Amount {
    Amount {
        messages: facts.waiting.messages,
        octets: facts.waiting.octets,
    }
}

const fn class(next_hop: &NextHop) -> QueueClass {
    match next_hop {
        NextHop::Hold { .. } => QueueClass::Held,
        NextHop::Mx(_) => QueueClass::Mx,
        NextHop::Smarthost(_) => QueueClass::Smarthost,
        NextHop::Host(_) | NextHop::Site { .. } => QueueClass::Host,
        NextHop::Discard | NextHop::Maildir(_) => QueueClass::Local,
    }
}
