//! Releases of held mail, as far as one data core has to do with them: who may ask for
//! what, and letting go what this core holds. See [`crate::core::release`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::core::common::Common;
use crate::core::hosts::CalledFrom;
use crate::core::release::{Extent, Order, Part, Purpose, ReleaseAsker, ReleaseId};
use crate::core::strangers::Telling;
use crate::core::{ConnectionId, ControlNotice};
use crate::queue::schedule::{ReleaseEnd, Selection, Waiting};
use crate::queue::{self};
use crate::report::{Fact, Release};
use crate::route::customer::{Caller, DeliverTo};
use crate::route::{Customer, CustomerName, Customers, NextHop, NextHopRef};
use crate::smtp::etrn::{Answer, Node};
use crate::smtp::reply::Refusal;
use crate::time::Now;

/// What a caller gets of what it names. What it may not have and what does not exist is
/// answered alike.
///
/// # Errors
/// The answer, if it gets nothing.
pub(super) fn order(
    customers: &Customers,
    caller: Caller<'_>,
    node: &Node,
) -> Result<Order, Answer> {
    let refused = || {
        if caller.user.is_none() && customers.have_users() {
            Answer::AuthRequired
        } else {
            Answer::NotAllowed
        }
    };
    let (found, extent) =
        find(customers, node, |customer| customer.may_release(caller)).ok_or_else(refused)?;
    Ok(Order {
        customers: found,
        extent,
        caller: caller.user.map(|_| caller.address),
    })
}

/// Whose mail a name means, of those who `may`, and how much of it. None: nobody's.
pub(super) fn find(
    customers: &Customers,
    node: &Node,
    may: impl Fn(&Customer) -> bool,
) -> Option<(Vec<CustomerName>, Extent)> {
    let may = |customer: &&Arc<Customer>| may(customer);
    let (found, extent) = match node {
        Node::Domain(domain) => {
            let found = customers.by_domain(domain.as_str()).filter(may);
            (Vec::from_iter(found), Extent::Domain(domain.clone()))
        }
        Node::Below(top) => {
            let found = customers.below(top).into_iter().filter(may);
            (found.collect(), Extent::Below(top.clone()))
        }
        Node::Queue(queue) => {
            let named = queue.parse().ok();
            let found = named
                .and_then(|queue| customers.by_queue(&queue))
                .filter(may);
            (Vec::from_iter(found), Extent::Everything)
        }
    };
    let names: Vec<_> = found.into_iter().map(|c| c.name.clone()).collect();
    (!names.is_empty()).then_some((names, extent))
}

fn selection<'a>(customer: &'a CustomerName, extent: &'a Extent) -> Selection<'a> {
    match extent {
        Extent::Domain(domain) => Selection::NextHop(NextHopRef::Hold {
            customer,
            domain: domain.as_str(),
        }),
        Extent::Below(top) => Selection::CustomerBelow(customer, top.as_str()),
        Extent::Everything => Selection::Customer(customer),
        Extent::LetGo => Selection::LetGo(customer),
    }
}

/// RFC 3463 §3.3: the mailbox is full, and may be emptied.
const QUOTA_REACHED: Refusal = Refusal::new(
    452,
    2,
    2,
    "too much mail waits for this domain, try again later",
);

impl Common {
    /// Whether a customer of this domain, if it is one's, has room for more mail.
    ///
    /// # Errors
    /// The refusal, if its quota is reached.
    pub(super) fn room_for(&self, domain: &str) -> Result<(), Refusal> {
        let settings = &self.settings;
        let Some(customer) = settings.customers.by_domain(domain) else {
            return Ok(());
        };
        let Some(usage) = settings.policies.usage.get(&customer.name) else {
            return Ok(());
        };
        let quota = customer.quota;
        let full = usage.messages() >= quota.messages || usage.octets() >= quota.octets;
        if full { Err(QUOTA_REACHED) } else { Ok(()) }
    }

    /// ETRN of a session. `None`: the answer comes from the control core.
    pub(super) fn etrn(
        &mut self,
        now: Now,
        connection: ConnectionId,
        client: SocketAddr,
        user: Option<&str>,
        node: &Node,
    ) -> Option<Answer> {
        let caller = Caller {
            address: client.ip(),
            user,
        };
        match order(&self.settings.customers, caller, node) {
            Ok(order) => {
                let asker = ReleaseAsker::Session {
                    core: self.id,
                    connection,
                    client,
                    user: user.map(Into::into),
                };
                let order = Box::new(order);
                self.tell_control(ControlNotice::Release { order, asker });
                None
            }
            Err(answer) => {
                let tally = &mut self.strangers.tally;
                if tally.count(now.instant, client.ip()) == Telling::Now {
                    self.report(Fact::Release(Release {
                        what: node.to_string(),
                        by: format!("ETRN of {client}"),
                        messages: 0,
                        octets: 0,
                        outcome: "not allowed",
                    }));
                }
                Some(answer)
            }
        }
    }

    /// What was refused so often that it was not told one by one.
    pub(super) fn tell_of_strangers(&mut self, now: Now) {
        while let Some(untold) = self.strangers.tally.due(now.instant) {
            self.report(Fact::ReleasesRefused(untold));
        }
    }

    /// The same at a stop, whatever its time.
    pub(super) fn tell_at_last_of_strangers(&mut self, now: Now) {
        while let Some(untold) = self.strangers.tally.untold(now.instant) {
            self.report(Fact::ReleasesRefused(untold));
        }
    }

    /// A client connected: that may be a release by itself (FEATURES R9).
    pub(super) fn connected_by(&mut self, client: SocketAddr) {
        let settings = Arc::clone(&self.settings);
        for customer in settings.customers.by_client(client.ip()) {
            if customer.release.on_connect && customer.deliver_to != DeliverTo::Caller {
                let order = Box::new(Order {
                    customers: vec![customer.name.clone()],
                    extent: Extent::Everything,
                    caller: None,
                });
                let asker = ReleaseAsker::Connection { client };
                self.tell_control(ControlNotice::Release { order, asker });
            }
        }
    }

    /// The control core asks: counts, and lets go if that is wanted.
    pub(super) fn release(
        &mut self,
        now: Now,
        release: ReleaseId,
        order: &Order,
        purpose: Purpose,
    ) {
        let mut part = Part {
            waiting: Waiting::default(),
            started: false,
            draining: Vec::new(),
        };
        let purpose = if self.is_stopping() {
            Purpose::Count
        } else {
            purpose
        };
        for customer in &order.customers {
            let selection = selection(customer, &order.extent);
            let waiting = match purpose {
                Purpose::Count => self.queue.waiting(selection),
                Purpose::Release => {
                    self.remember_caller(customer, order.caller);
                    self.memory.release(now.instant);
                    part.started |= !self.queue.is_released(selection);
                    self.queue.release(now, selection)
                }
            };
            part.waiting.messages += waiting.messages;
            part.waiting.octets += waiting.octets;
            if self.queue.releases_of(customer) {
                part.draining.push(customer.clone());
            } else {
                // There was nothing for who called; tomorrow its address is another's.
                self.hosts.hung_up(customer);
            }
        }
        self.tell_control(ControlNotice::ReleasePart {
            core: self.id,
            release,
            part,
        });
    }

    fn remember_caller(&mut self, customer: &CustomerName, caller: Option<IpAddr>) {
        let goes_to_caller = (self.settings.customers.by_name(customer))
            .is_some_and(|customer| customer.deliver_to == DeliverTo::Caller);
        if let Some(caller) = caller.filter(|_| goes_to_caller)
            && self.hosts.called(customer.clone(), caller) == CalledFrom::Elsewhere
        {
            self.moved.push(customer.clone());
        }
    }

    /// A destination is held again.
    pub(super) fn release_ended(&mut self, destination: queue::DestinationId, end: ReleaseEnd) {
        let Some(NextHop::Hold { customer, .. }) = self.queue.next_hop(destination) else {
            return;
        };
        if self.queue.releases_of(customer) {
            return;
        }
        let customer = customer.clone();
        let left = self.queue.held_for(&customer);
        self.hosts.hung_up(&customer);
        self.tell_control(ControlNotice::ReleaseEnded {
            core: self.id,
            customer,
            end,
            left,
        });
    }
}
