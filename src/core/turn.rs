//! A customer's turn on the data cores: its one connection goes from core to core and
//! takes what each holds for it (RFC 2645; DESIGN, "ETRN and ATRN over several cores").
//!
//! The core at which the customer called asks the control core ([`super::turns`]), which
//! names the cores that hold mail. Then the connection is a delivery like others, but
//! that it takes its jobs from a visit to the queue, and that, when a core has no more,
//! the session and the connection are handed to the next core, between two
//! transactions. The session is a plain value; no body crosses cores.
//!
//! Invariants:
//! - A connection is at one core at a time, and is handed on only when every job of it
//!   has its outcome and every octet has left. So its end, wherever it comes, concerns
//!   the jobs of one core.
//! - Each turn that was granted is reported over exactly once: by the core at which the
//!   connection ends, or by the one that finds nobody to answer.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::common::Common;
use crate::core::fetching::Taking;
use crate::core::flow::Flow;
use crate::core::turns::{NoTurn, Turn};
use crate::core::{ControlNotice, CoreId, Host, TurnNumber};
use crate::mail::Domain;
use crate::queue::sessions::Admitted;
use crate::queue::{Selection, VisitId};
use crate::report::Fact;
use crate::route::{CustomerName, NextHopRef};
use crate::smtp::client::Client;
use crate::smtp::reply::Refusal;
use crate::smtp::turn::ToCustomer;
use crate::time::Now;
use crate::user::UserName;

/// RFC 2645 §5.2.1: 450 for each "no" that is about who asks for what; its reason is
/// for the operator, and a stranger learns nothing from it.
const NOT_YOURS: Refusal = Refusal::new(
    450,
    7,
    1,
    "ATRN request refused: not all of this is held for you",
);
const TOO_OFTEN: Refusal = Refusal::new(450, 7, 1, "ATRN request refused: you ask too often");
const BUSY: Refusal = Refusal::new(
    450,
    5,
    5,
    "ATRN request refused: other connections are taking your mail",
);
const NOTHING_WAITING: Refusal = Refusal::new(453, 0, 0, "You have no mail");
pub(super) const NOT_NOW: Refusal =
    Refusal::new(451, 3, 0, "Unable to process ATRN request now, try later");

/// How far a session is with its turn.
pub(super) enum Turned {
    /// The control core said yes.
    Granted(Turn),
    /// The customer was told so.
    Done { turn: Turn, to_customer: ToCustomer },
    /// We have called, and a provider sends us mail.
    Taking(Taking),
}

/// A customer's connection on its way round the cores.
#[derive(Debug)]
pub(super) struct Round {
    number: TurnNumber,
    pub(super) customer: CustomerName,
    domains: Arc<[Domain]>,
    /// The customer's end.
    pub(super) peer: SocketAddr,
    /// Where it has still to go.
    pub(super) ahead: Vec<CoreId>,
    /// Messages that were taken.
    pub(super) messages: u64,
    /// It counts as a session to its end.
    admitted: Admitted,
}

/// What goes from one core to the next.
pub struct Baton {
    pub(super) client: Client,
    /// With the state of TLS in it.
    pub(super) flow: Flow,
    pub(super) host: Host,
    pub(super) round: Round,
}

impl std::fmt::Debug for Baton {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Baton")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}

impl Round {
    pub(super) fn new(turn: Turn, peer: SocketAddr, home: CoreId, admitted: Admitted) -> Self {
        let Turn {
            number,
            customer,
            domains,
            cores,
        } = turn;
        Self {
            number,
            customer,
            domains,
            peer,
            ahead: cores.into_iter().filter(|core| *core != home).collect(),
            messages: 0,
            admitted,
        }
    }

    /// Begins to take what is held on this core.
    pub(super) fn visit(&self, now: Now, common: &mut Common) -> VisitId {
        let selections = selections(&self.customer, &self.domains);
        common.queue.begin_visit(now, &selections)
    }

    /// The next core, if there is one.
    pub(super) fn next_core(&mut self) -> Option<CoreId> {
        (!self.ahead.is_empty()).then(|| self.ahead.remove(0))
    }

    /// The connection is gone.
    pub(super) fn over(self, common: &mut Common, trouble: Option<String>) {
        common.sessions.leave(self.admitted);
        common.tell_control(ControlNotice::TurnOver { turn: self.number });
        common.report(Fact::TurnOver {
            customer: self.customer.to_string(),
            peer: self.peer,
            messages: self.messages,
            trouble,
        });
    }
}

/// Tells the control core what would go.
pub(super) fn say_what_is_held(
    common: &mut Common,
    turn: TurnNumber,
    customer: &CustomerName,
    domains: &[Domain],
) {
    let offer = common.queue.on_offer(&selections(customer, domains));
    let core = common.id;
    common.tell_control(ControlNotice::Held { turn, core, offer });
}

fn selections<'a>(customer: &'a CustomerName, domains: &'a [Domain]) -> Vec<Selection<'a>> {
    if domains.is_empty() {
        return vec![Selection::Customer(customer)];
    }
    let at = |domain: &'a Domain| {
        Selection::NextHop(NextHopRef::Hold {
            customer,
            domain: domain.as_str(),
        })
    };
    domains.iter().map(at).collect()
}

/// Whether this user may have the mail of these domains; of all that are the user's, if
/// there are none. As whose customer.
pub(super) fn permitted(
    common: &Common,
    user: Option<&UserName>,
    domains: &[Domain],
) -> Result<CustomerName, Refusal> {
    if common.is_stopping() {
        return Err(NOT_NOW);
    }
    let (credentials, customers) = (&common.settings.credentials, &common.settings.customers);
    let name = user.and_then(|user| credentials.customer(user));
    let customer = name.and_then(|name| customers.by_name(name));
    let Some(customer) = customer.filter(|customer| customer.release.auth) else {
        return Err(NOT_YOURS);
    };
    let is_its = |domain: &Domain| {
        let owner = customers.by_domain(domain.as_str());
        owner.is_some_and(|owner| owner.name == customer.name)
    };
    if domains.iter().all(is_its) {
        Ok(customer.name.clone())
    } else {
        Err(NOT_YOURS)
    }
}

/// What the customer is told.
pub(super) const fn refusal(why: NoTurn) -> Refusal {
    match why {
        NoTurn::NothingWaiting => NOTHING_WAITING,
        NoTurn::Unknown => NOT_NOW,
        NoTurn::Busy => BUSY,
        NoTurn::TooOften => TOO_OFTEN,
    }
}

/// Nobody is there for the answer any more.
pub(super) fn give_back(common: &mut Common, answer: Result<Turn, NoTurn>) {
    if let Ok(turn) = answer {
        let turn = turn.number;
        common.tell_control(ControlNotice::TurnOver { turn });
    }
}
