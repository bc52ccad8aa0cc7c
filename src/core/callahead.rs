//! Call-ahead (FEATURES R7): at RCPT the customer's own host is asked whether it would take
//! the recipient, and what it says is remembered. A part of the control core.
//!
//! # How it goes
//! 1. A session on a data core has a recipient of a customer with `call_ahead`. The control
//!    core is told, and the session waits; nobody else does.
//! 2. What is known and fresh is answered at once. Otherwise the address joins those that
//!    wait for the site; [`ADDRESSES_PER_CALL_MAX`] of one domain go into one session of
//!    MAIL FROM:<> and RCPT, which a data core holds.
//! 3. "Yes" and "no such mailbox" are remembered; any other answer says nothing.
//! 4. Who cannot be told within [`PATIENCE`], because the site is away or slow, gets what
//!    was known last, be it old; and if nothing is known the recipient is taken: a spool
//!    is there for sites that are away.
//!
//! # Invariants
//! - Each asker has exactly one answer, at the latest after [`PATIENCE`].
//! - An address is asked for by one call at a time; a site has [`CALLS_PER_SITE_MAX`]
//!   calls at a time, all sites together [`CALLS_MAX`].
//!
//! What was said survives a restart: `memory` says when it is kept.
//!
//! What it does not do: it opens no connection, and it does not know the file.

mod memory;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::core::{ConnectionId, CoreId, Host, Unresolved};
use crate::mail::Address;
use crate::report::Fact;
use crate::route::{CustomerName, NextHop};
use crate::time::{Instant, Now};

pub use self::memory::KnownAddress;
use self::memory::Memory;

/// How long a session waits. Its client waits five minutes (RFC 5321 §4.5.3.2.3), and
/// may have more recipients.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// After this a call that has said nothing is given up here. The data core gives it up
/// earlier.
const CALL_PATIENCE: Duration = Duration::from_secs(180);

/// Calls at a time for one customer. Its host has other things to do.
pub const CALLS_PER_SITE_MAX: usize = 2;

/// Calls at a time in all. Each is a connection.
pub const CALLS_MAX: usize = 64;

/// Addresses in one call: what every host takes in one transaction is 100.
pub const ADDRESSES_PER_CALL_MAX: usize = 50;

/// Addresses that wait for one site; more are answered as if it were away.
pub const WAITING_PER_SITE_MAX: usize = 1000;

/// Sessions that wait for one address.
const ASKERS_MAX: usize = 1000;

/// How long a site that could not be reached is left in peace.
const AWAY: Duration = Duration::from_secs(60);

/// Whether a recipient exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Existence {
    /// The site takes it.
    Exists,
    /// The site says that there is no such mailbox.
    Unknown,
    /// Nobody can say.
    CannotTell,
}

/// A call at a site. Each has another number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskNumber(pub u64);

/// Ask a site about recipients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// To answer with.
    pub number: AskNumber,
    /// The site's hosts, in the order in which they are to be tried.
    pub hosts: Vec<Host>,
    /// About whom.
    pub addresses: Vec<Address>,
}

/// What a site said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Of each address, in the order of the question.
    pub existences: Vec<Existence>,
    /// Why it could not be asked, if so.
    pub away: Option<String>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Output {
    /// An asker has its answer.
    Answer {
        core: CoreId,
        connection: ConnectionId,
        existence: Existence,
    },
    /// The hosts of a site are wanted.
    Resolve { next_hop: NextHop },
    /// A data core is to ask.
    Ask { core: CoreId, ask: Ask },
    /// What is known is to survive the process. [`CallAhead::kept`] follows.
    Keep(Vec<KnownAddress>),
    /// The operator is told.
    Report(Fact),
}

/// A session that waits.
type Asker = (CoreId, ConnectionId);

/// An address that is being asked for, or waits for that.
struct Pending {
    /// Empty: they lost patience while the call was under way.
    askers: Vec<Asker>,
    /// When they do.
    deadline: Instant,
    /// A call is under way.
    called: bool,
}

/// A customer's host.
#[derive(Default)]
struct Site {
    waiting: VecDeque<Address>,
    calls: usize,
    away_until: Option<Instant>,
}

/// A call under way.
struct Call {
    customer: CustomerName,
    core: CoreId,
    addresses: Vec<Address>,
    /// Whose hosts it waits for; none: a data core has it.
    resolving: Option<NextHop>,
    deadline: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct CallAhead {
    memory: Memory,
    pending: BTreeMap<Address, Pending>,
    /// Deadlines of `pending`, in order; some are of addresses that were answered.
    due: VecDeque<(Instant, Address)>,
    /// Those with something to be remembered.
    sites: BTreeMap<CustomerName, Site>,
    /// Those with addresses that wait for a call.
    hungry: BTreeSet<CustomerName>,
    /// The one of them that had its turn last.
    turn: Option<CustomerName>,
    calls: BTreeMap<AskNumber, Call>,
    last: u64,
    outputs: VecDeque<Output>,
}

impl CallAhead {
    /// What an earlier process has kept.
    pub(super) fn restore(&mut self, now: Now, kept: Vec<KnownAddress>) {
        self.memory.restore(now.wall, kept);
    }

    /// What was to be kept is, or could not be.
    pub(super) fn kept(&mut self, now: Now) {
        self.memory.kept(now.instant);
    }

    /// The process ends: what is still to be kept.
    pub(super) fn last_words(&mut self, now: Now) -> Option<Vec<KnownAddress>> {
        self.memory.last_words(now.wall)
    }

    /// What is to be done.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`CallAhead::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.due.front().map(|(at, _)| *at);
        let call = self.calls.values().next().map(|call| call.deadline);
        let keep = self.memory.deadline();
        due.into_iter().chain(call).chain(keep).min()
    }

    /// A session wants to know.
    pub(super) fn ask(
        &mut self,
        now: Now,
        core: CoreId,
        connection: ConnectionId,
        customer: CustomerName,
        address: Address,
    ) {
        let asker = (core, connection);
        if let Some(existence) = self.memory.fresh(now.wall, &address) {
            return self.answer(asker, existence);
        }
        if let Some(pending) = self.pending.get_mut(&address)
            && pending.askers.len() < ASKERS_MAX
        {
            if pending.askers.is_empty() {
                pending.deadline = now.instant + PATIENCE;
                self.due.push_back((pending.deadline, address));
            }
            return pending.askers.push(asker);
        }
        let site = self.sites.entry(customer.clone()).or_default();
        let is_away = site.away_until.is_some_and(|until| until > now.instant);
        let is_full = site.waiting.len() >= WAITING_PER_SITE_MAX;
        if is_away || is_full || self.pending.contains_key(&address) {
            let existence = self.memory.remembered(now.wall, &address);
            return self.answer(asker, existence);
        }
        site.waiting.push_back(address.clone());
        let deadline = now.instant + PATIENCE;
        self.due.push_back((deadline, address.clone()));
        let askers = vec![asker];
        let pending = Pending {
            askers,
            deadline,
            called: false,
        };
        self.pending.insert(address, pending);
        self.hungry.insert(customer);
        self.begin(now);
    }

    /// Hosts that were wanted are known, or not.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        next_hop: &NextHop,
        answer: &Result<Vec<Host>, Unresolved>,
    ) {
        let waiting =
            |(_, call): &(&AskNumber, &mut Call)| call.resolving.as_ref() == Some(next_hop);
        let mut without = Vec::new();
        for (&number, call) in self.calls.iter_mut().filter(waiting) {
            call.resolving = None;
            match answer {
                Ok(hosts) => self.outputs.push_back(Output::Ask {
                    core: call.core,
                    ask: Ask {
                        number,
                        hosts: hosts.clone(),
                        addresses: call.addresses.clone(),
                    },
                }),
                Err(why) => without.push((number, why.to_string())),
            }
        }
        for (number, why) in without {
            self.away(now, number, why);
        }
    }

    /// A site has been asked.
    pub(super) fn said(&mut self, now: Now, number: AskNumber, said: Said) {
        // One that was given up has nobody to go to.
        let Some(call) = self.calls.remove(&number) else {
            return;
        };
        let Said { existences, away } = said;
        let mut existences = existences.into_iter();
        for address in call.addresses {
            let existence = existences.next().unwrap_or(Existence::CannotTell);
            match existence {
                Existence::Exists => self.memory.remember(now, &address, true),
                Existence::Unknown => self.memory.remember(now, &address, false),
                Existence::CannotTell => {}
            }
            self.settle(now, &address);
        }
        let site = self.sites.entry(call.customer.clone()).or_default();
        site.calls -= 1;
        let was_away = site.away_until.take().is_some();
        if let Some(why) = away {
            site.away_until = Some(now.instant + AWAY);
            for address in std::mem::take(&mut site.waiting) {
                self.settle(now, &address);
            }
            self.hungry.remove(&call.customer);
            if !was_away {
                let what = format!(
                    "the site of {} cannot be asked about recipients: {why}; those that it \
                     has not spoken of are taken",
                    call.customer
                );
                self.outputs
                    .push_back(Output::Report(Fact::Trouble { what }));
            }
        } else if site.calls == 0 && site.waiting.is_empty() {
            self.sites.remove(&call.customer);
        }
        self.begin(now);
    }

    /// Looks at the clock.
    pub(super) fn timer(&mut self, now: Now) {
        while let Some((at, _)) = self.due.front()
            && *at <= now.instant
        {
            let (at, address) = self.due.pop_front().expect("looked at above");
            // Answered since, and perhaps asked for again.
            match self.pending.get_mut(&address) {
                Some(pending) if pending.deadline != at => {}
                Some(pending) if pending.called => {
                    let askers = std::mem::take(&mut pending.askers);
                    self.answer_all(now, &address, askers);
                }
                Some(_) => self.settle(now, &address),
                None => {}
            }
        }
        while let Some((&number, call)) = self.calls.first_key_value()
            && call.deadline <= now.instant
        {
            self.away(now, number, "it took too long".to_owned());
        }
        if let Some(known) = self.memory.keep(now) {
            self.outputs.push_back(Output::Keep(known));
        }
    }

    fn away(&mut self, now: Now, number: AskNumber, why: String) {
        let said = Said {
            existences: Vec::new(),
            away: Some(why),
        };
        self.said(now, number, said);
    }

    /// Begins as many calls as may be, site by site: one with many addresses, or a name that
    /// comes early in the order, does not keep out the others.
    fn begin(&mut self, now: Now) {
        for _ in 0..self.hungry.len() {
            if self.calls.len() >= CALLS_MAX {
                return;
            }
            let behind = (self.turn.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = self
                .hungry
                .range::<CustomerName, _>((behind, Bound::Unbounded));
            let Some(customer) = next.next().or_else(|| self.hungry.first()).cloned() else {
                return;
            };
            self.begin_one(now, &customer);
            self.turn = Some(customer);
        }
    }

    fn begin_one(&mut self, now: Now, customer: &CustomerName) {
        let site = self.sites.entry(customer.clone()).or_default();
        while site.calls < CALLS_PER_SITE_MAX && self.calls.len() < CALLS_MAX {
            let mut addresses: Vec<Address> = Vec::new();
            let mut core = None;
            while let Some(address) = site.waiting.front()
                && addresses.len() < ADDRESSES_PER_CALL_MAX
                && addresses
                    .first()
                    .is_none_or(|a| a.domain_str() == address.domain_str())
            {
                let address = site.waiting.pop_front().expect("looked at above");
                // Some were answered for want of patience, and perhaps asked for again.
                if let Some(pending) = self.pending.get_mut(&address)
                    && !pending.called
                {
                    pending.called = true;
                    core = core.or(pending.askers.first().map(|(core, _)| *core));
                    addresses.push(address);
                }
            }
            let (Some(first), Some(core)) = (addresses.first(), core) else {
                self.hungry.remove(customer);
                return;
            };
            let next_hop = NextHop::Hold {
                customer: customer.clone(),
                domain: first.domain(),
            };
            site.calls += 1;
            self.last += 1;
            let call = Call {
                customer: customer.clone(),
                core,
                addresses,
                resolving: Some(next_hop.clone()),
                deadline: now.instant + CALL_PATIENCE,
            };
            self.calls.insert(AskNumber(self.last), call);
            self.outputs.push_back(Output::Resolve { next_hop });
        }
    }

    /// Whoever waits for an address gets what is known.
    fn settle(&mut self, now: Now, address: &Address) {
        let Some(pending) = self.pending.remove(address) else {
            return;
        };
        self.answer_all(now, address, pending.askers);
    }

    fn answer_all(&mut self, now: Now, address: &Address, askers: Vec<Asker>) {
        let existence = self.memory.remembered(now.wall, address);
        for asker in askers {
            self.answer(asker, existence);
        }
    }

    fn answer(&mut self, (core, connection): Asker, existence: Existence) {
        self.outputs.push_back(Output::Answer {
            core,
            connection,
            existence,
        });
    }
}

#[cfg(test)]
mod tests;
