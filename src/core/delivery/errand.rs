//! What a delivery is for, where that is not a destination of the queue: a customer who
//! called gets what is held for it, we call a provider for our own mail, or we ask a
//! customer's host about recipients.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Candidates, Delivery, Hunger};
use crate::core::asking::{self, Asking};
use crate::core::common::Common;
use crate::core::fetching::Fetch;
use crate::core::flow::{Appetite, Flow, NoSpool};
use crate::core::reception::Reception;
use crate::core::turn::{Baton, Round};
use crate::core::{ConnectionId, Endpoint, Host, Operation};
use crate::queue::{self, DestinationId, VisitId};
use crate::route::{CustomerName, NextHop, Protocol, TlsPolicy};
use crate::smtp::client::Client;
use crate::smtp::client::asking::Asked;
use crate::smtp::client::auth::{Checked, Login};
use crate::smtp::client::fault::SessionError;
use crate::smtp::client::stage::Stage;
use crate::smtp::server::PeerFacts;
use crate::smtp::turn::{FromProvider, ToCustomer};
use crate::spool::message::SegmentSource;
use crate::time::Now;

/// Whose mail it takes away.
pub(in crate::core) enum Errand {
    /// That of a destination, over a connection of ours.
    Ours {
        /// As the schedule knows it.
        connection: queue::ConnectionId,
        destination: DestinationId,
        /// What is left to try if this host does not talk to us.
        candidates: Candidates,
    },
    /// None: we call a provider for ours.
    Call {
        fetch: Box<Fetch>,
        /// What is left to try if this host does not talk to us.
        candidates: Candidates,
        /// What it said to ETRN so far.
        asked: Vec<Asked>,
    },
    /// None: we ask a site about recipients.
    Ask {
        asking: Box<Asking>,
        /// What is left to try if this host does not talk to us.
        candidates: Candidates,
    },
    /// That of a customer who called.
    Turn {
        round: Box<Round>,
        /// As the schedule knows it.
        visit: VisitId,
    },
    /// None any more: it says goodbye.
    Leaving,
}

impl Delivery {
    /// Its customer has called from another address: what is under way here may never be
    /// answered, and keeps the permit that the new address needs.
    pub(in crate::core) fn doubt(&self, common: &mut Common, customer: &CustomerName) {
        let Errand::Ours { destination, .. } = &self.errand else {
            return;
        };
        let is_theirs = matches!(
            common.queue.next_hop(*destination),
            Some(NextHop::Hold { customer: whose, .. }) if whose == customer
        );
        if is_theirs && !common.hosts.is_where_it_called(customer, &self.endpoint) {
            let connection = self.flow.connection();
            common.operations.push_back(Operation::Doubt { connection });
        }
    }

    /// The same where the customer has called by ATRN, and does so from another address now.
    pub(in crate::core) fn doubt_turn(
        &self,
        common: &mut Common,
        customer: &CustomerName,
        caller: IpAddr,
    ) {
        if let Errand::Turn { round, .. } = &self.errand
            && round.customer == *customer
            && round.peer.ip() != caller
        {
            let connection = self.flow.connection();
            common.operations.push_back(Operation::Doubt { connection });
        }
    }

    /// The customer at the other end has called, and is about to greet us.
    pub(in crate::core) fn turned(
        flow: Flow,
        to_customer: ToCustomer,
        round: Round,
        now: Now,
        common: &mut Common,
    ) -> Self {
        let endpoint = Endpoint::Tcp(round.peer);
        let host = Host {
            preference: 0,
            name: round.customer.to_string(),
            addresses: vec![endpoint.clone()],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::None.into(),
            login: None,
        };
        let client = to_customer.client(&common.settings.smtp_client, now);
        let visit = round.visit(now, common);
        let round = Box::new(round);
        let errand = Errand::Turn { round, visit };
        let mut delivery = Self::with(errand, client, flow, host, endpoint);
        delivery
            .flow
            .advance(Appetite::Hungry, &NoSpool, &mut common.operations);
        delivery
    }

    /// A connection that another core has handed over, its session in the middle of its
    /// work.
    pub(in crate::core) fn handed_over(
        id: ConnectionId,
        baton: Baton,
        now: Now,
        common: &mut Common,
        spool: &impl SegmentSource,
    ) -> Self {
        let Baton {
            client,
            flow,
            host,
            round,
        } = baton;
        let endpoint = Endpoint::Tcp(round.peer);
        let visit = round.visit(now, common);
        let round = Box::new(round);
        let errand = Errand::Turn { round, visit };
        let mut delivery = Self::with(errand, client, flow.moved(id), host, endpoint);
        delivery.worked = true;
        // The session had asked for a job.
        delivery.feed(now, common, spool);
        delivery.outputs(now, common, spool);
        delivery
    }

    /// Begins to call a provider for our mail. `None` if it has no address.
    pub(in crate::core) fn call(
        id: ConnectionId,
        fetch: Box<Fetch>,
        mut candidates: Candidates,
        now: Now,
        common: &mut Common,
    ) -> Option<Self> {
        // A provider is far away.
        candidates.retain(|(_, endpoint)| matches!(endpoint, Endpoint::Tcp(_)));
        let (host, endpoint) = candidates.pop_front()?;
        common.counters.connections_out += 1;
        common.operations.push_back(Operation::Connect {
            connection: id,
            to: endpoint.clone(),
            from: None,
        });
        let settings = common.settings.client(host.protocol, host.tls.policy);
        let client = Client::asking(settings, fetch.ask.clone(), now);
        let client = log_in(client, &host, common);
        let errand = Errand::Call {
            fetch,
            candidates,
            asked: Vec::new(),
        };
        Some(Self::with(errand, client, Flow::new(id), host, endpoint))
    }

    /// Whether we call a provider.
    pub(in crate::core) const fn is_call(&self) -> bool {
        matches!(self.errand, Errand::Call { .. })
    }

    /// Begins to ask a site. `Err` if it has no address.
    pub(in crate::core) fn ask(
        id: ConnectionId,
        asking: Asking,
        mut candidates: Candidates,
        now: Now,
        common: &mut Common,
    ) -> Result<Self, Asking> {
        let Some((host, endpoint)) = candidates.pop_front() else {
            return Err(asking);
        };
        let policy = match host.tls.policy {
            TlsPolicy::Opportunistic if common.hosts.is_in_clear(now.instant, &endpoint) => {
                TlsPolicy::None
            }
            policy => policy,
        };
        common.counters.connections_out += 1;
        common.operations.push_back(Operation::Connect {
            connection: id,
            to: endpoint.clone(),
            from: None,
        });
        let settings = asking::settings(&common.settings.client(host.protocol, policy));
        let client = log_in(Client::new(settings, now), &host, common);
        let asking = Box::new(asking);
        let errand = Errand::Ask { asking, candidates };
        Ok(Self::with(errand, client, Flow::new(id), host, endpoint))
    }

    /// The provider has said yes to ATRN.
    pub(super) fn provider_turns(&mut self, from: FromProvider) {
        if self.flow.is_open() {
            self.provided = Some(from);
        } else {
            // In its last words.
            self.failure = Some(SessionError::Lost { stage: Stage::Turn });
        }
    }

    /// Whether the provider that was called is about to send our mail.
    pub(in crate::core) const fn is_provided(&self) -> bool {
        self.provided.is_some()
    }

    /// The session in which our mail comes, once [`Delivery::is_provided`].
    pub(in crate::core) fn into_reception(self, now: Now, common: &mut Common) -> Reception {
        let (Errand::Call { fetch, .. }, Some(from)) = (self.errand, self.provided) else {
            unreachable!("only who called is provided");
        };
        let Endpoint::Tcp(provider) = self.endpoint else {
            unreachable!("only a host of the network is called");
        };
        let provider = PeerFacts {
            address: provider,
            tls: self.tls,
        };
        Reception::turned(self.flow, fetch.number, from, provider, now, common)
    }

    /// Whether it is to go to another core now.
    pub(in crate::core) fn is_moving_on(&self) -> bool {
        self.hunger == Hunger::MovingOn
            && self.flow.is_open()
            && self.all_has_left()
            && self.jobs.is_empty()
            && self.reading.is_empty()
            && self.failure.is_none()
    }

    /// Goes to another core, once [`Delivery::is_moving_on`].
    pub(in crate::core) fn move_on(self, now: Now, common: &mut Common) {
        let connection = self.flow.connection();
        let Errand::Turn { mut round, visit } = self.errand else {
            unreachable!("a connection that we opened stays");
        };
        common.queue.end_visit(now, visit);
        let core = round.next_core().expect("it was looked at");
        let baton = Box::new(Baton {
            client: self.client,
            flow: self.flow,
            host: self.host,
            round: *round,
        });
        common.operations.push_back(Operation::HandOver {
            connection,
            core,
            baton,
        });
    }

    /// Whether what it takes away is, or was, held for a customer.
    pub(super) fn takes_held_mail(&self, common: &Common) -> bool {
        match &self.errand {
            Errand::Ours { destination, .. } => {
                let next_hop = common.queue.next_hop(*destination);
                next_hop.is_some_and(|next_hop| next_hop.customer().is_some())
            }
            Errand::Call { .. } | Errand::Ask { .. } | Errand::Leaving => false,
            Errand::Turn { .. } => true,
        }
    }

    pub(super) fn has_more_elsewhere(&self, common: &Common) -> bool {
        match &self.errand {
            Errand::Ours { .. } | Errand::Call { .. } | Errand::Ask { .. } | Errand::Leaving => {
                false
            }
            Errand::Turn { round, .. } => !round.ahead.is_empty() && !common.is_stopping(),
        }
    }
}

/// A session that says who we are, where the host wants to know.
pub(super) fn log_in(client: Client, host: &Host, common: &mut Common) -> Client {
    match &host.login {
        None => client,
        Some(credentials) => client.with_login(Login {
            credentials: Arc::clone(credentials),
            host: match host.tls.policy {
                TlsPolicy::Verified => Checked::Name,
                TlsPolicy::None | TlsPolicy::Opportunistic | TlsPolicy::Required => {
                    Checked::Nothing
                }
            },
            nonce: common.nonces.fresh(),
        }),
    }
}
