//! The desk: where releases of held mail are asked for, counted, limited and followed.
//! A part of the control core.
//!
//! # How a release goes
//! 1. Somebody asks: a session by ETRN or by wake-up mail (its data core has looked who may
//!    ask for what), a connection from a customer's address, the customer's interval, the operator.
//! 2. The desk tells every data core. Each lets go what it holds, says at once how much
//!    that is, and drains it over connections of its own, within the permits that all
//!    cores share for the site.
//! 3. When all have said their part the asker has its answer. That is two notices there
//!    and two back, some tens of microseconds, whatever the queue holds: each core keeps
//!    the sums for each of its destinations.
//! 4. Each core tells when nothing of the customer is released there any more. With the
//!    last the drain is over.
//!
//! What waits may be a reason to wake a site, too (`wake_for`): `arrivals` looks.
//!
//! A customer with a command that wakes its site is counted first; if something waits
//! the command is run, and when it has ended well the mail is let go. Who asks by ETRN or
//! by a connection is awake: no command is run.
//!
//! # Invariants
//! - Each asker has exactly one answer, at the latest after [`PATIENCE`].
//! - A release during a drain of the same mail starts nothing: it joins.
//! - What is remembered of strangers is bounded (`core::limit`).
//!
//! What it does not do: it sees no message and no password.

mod answering;
mod arrivals;
mod order;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::answering::respond;
use self::arrivals::Arrivals;
pub use self::order::{Extent, Order, Proof, ReleaseAsker};
use crate::core::bans::Client;
use crate::core::control::ControlOperation;
use crate::core::limit::Limit;
use crate::core::strangers::{Tally, Telling};
use crate::core::{CoreId, Notice};
use crate::mail::Domain;
use crate::queue::Ledger;
use crate::queue::retry::Jitter;
use crate::queue::schedule::{ReleaseEnd, Waiting};
use crate::report::{self, Fact};
use crate::route::{Customer, CustomerName, Customers};
use crate::smtp::etrn::{self, Answer};
use crate::time::{Instant, Now};

/// How long an asker waits. A core that is healthy says its part within a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Releases that one client may ask for in a row, and how soon one more: a site with
/// many domains asks for each of them in one session.
const CLIENT_BURST: u32 = 100;
const CLIENT_PAUSE: Duration = Duration::from_secs(1);

/// Releases of one name by one client in a row, and how soon one more: nobody's mail
/// comes faster by asking more often. For each client, or a stranger could use up what a
/// site needs, where everybody may ask.
const NODE_BURST: u32 = 5;
const NODE_PAUSE: Duration = Duration::from_secs(10);

/// The shortest interval at which we try a site unasked.
const EVERY_MIN: Duration = Duration::from_secs(10);

/// Orders for one customer that wait for the end of its command; more become one for
/// everything.
const WAKING_ORDERS_MAX: usize = 64;

/// The random part of that interval: sites with the same one do not stay in step.
const EVERY_JITTER: f64 = 0.1;

/// A release that is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReleaseId(pub u64);

/// Whether a data core is to let go, or only to say what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Count.
    Count,
    /// Count and let go.
    Release,
}

/// One data core's part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What is there.
    pub waiting: Waiting,
    /// Something was let go that was held until now.
    pub started: bool,
    /// Customers of the order of whom something is released on that core now.
    pub draining: Vec<CustomerName>,
}

/// A question to all cores.
struct Question {
    order: Arc<Order>,
    asker: ReleaseAsker,
    purpose: Purpose,
    waiting_for: u8,
    waiting: Waiting,
    started: bool,
    deadline: Instant,
}

/// A customer's mail on its way.
struct Drain {
    since: Instant,
    /// All that is held for the customer was let go, not that of some domain only.
    releases_all: bool,
    cores: BTreeSet<CoreId>,
    unreachable: bool,
    left: Waiting,
}

/// See the module.
pub(super) struct Desk {
    data_cores: u8,
    customers: Arc<Customers>,
    last: u64,
    questions: BTreeMap<ReleaseId, Question>,
    drains: HashMap<CustomerName, Drain>,
    /// What is let go when the site's command has ended: each order once.
    waking: HashMap<CustomerName, Vec<Arc<Order>>>,
    clients: Limit<Client>,
    nodes: Limit<(Client, CustomerName, Extent)>,
    /// Releases by a connection: who sends mail all day has not used up its ETRN.
    connections: Limit<CustomerName>,
    /// Customers whose sites are woken for what waits.
    arrivals: Arrivals,
    /// Clients that ask too often without having authenticated.
    tally: Tally,
    /// When a customer's interval is over.
    due: BTreeSet<(Instant, CustomerName)>,
    random: Jitter,
    open: bool,
}

impl Desk {
    /// A desk for so many data cores, with no customers yet.
    pub(super) fn new(data_cores: u8, seed: u64) -> Self {
        Self {
            data_cores,
            customers: Arc::default(),
            last: 0,
            questions: BTreeMap::new(),
            drains: HashMap::new(),
            waking: HashMap::new(),
            clients: Limit::new(CLIENT_BURST, CLIENT_PAUSE),
            nodes: Limit::new(NODE_BURST, NODE_PAUSE),
            connections: Limit::new(NODE_BURST, NODE_PAUSE),
            arrivals: Arrivals::default(),
            tally: Tally::default(),
            due: BTreeSet::new(),
            random: Jitter::new(seed),
            open: true,
        }
    }

    /// The customers, at the start and after a reload. Who keeps an interval keeps the
    /// time of the next attempt; a new one begins somewhere in its interval, so that the
    /// sites do not all come at once.
    pub(super) fn set_customers(&mut self, now: Now, customers: Arc<Customers>) {
        let before = std::mem::replace(&mut self.customers, customers);
        let mut old: HashMap<CustomerName, Instant> = std::mem::take(&mut self.due)
            .into_iter()
            .map(|(at, name)| (name, at))
            .collect();
        for customer in self.customers.iter() {
            let Some(every) = interval(customer) else {
                continue;
            };
            let same = (before.by_name(&customer.name))
                .is_some_and(|before| interval(before) == Some(every));
            let at = match old.remove(&customer.name) {
                Some(at) if same => at,
                _ => now.instant + self.random.around(every / 2, 1.0),
            };
            self.due.insert((at, customer.name.clone()));
        }
        self.arrivals.configure(now.instant, &self.customers);
        self.drains
            .retain(|name, _| self.customers.by_name(name).is_some());
        self.waking
            .retain(|name, _| self.customers.by_name(name).is_some());
    }

    /// No new release from now on.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.due.clear();
        self.waking.clear();
        self.arrivals = Arrivals::default();
    }

    /// Whether there is a customer of this name.
    pub(super) fn knows(&self, name: &CustomerName) -> bool {
        self.customers.by_name(name).is_some()
    }

    /// What the operator means by a name: a customer, else a domain of one.
    pub(super) fn named(&self, name: &str) -> Option<Order> {
        let of = |customer: &Customer, extent| Order {
            customers: vec![customer.name.clone()],
            extent,
            caller: None,
        };
        if let Some(customer) = (name.parse().ok()).and_then(|name| self.customers.by_name(&name)) {
            return Some(of(customer, Extent::Everything));
        }
        let domain: Domain = name.parse().ok()?;
        let customer = self.customers.by_domain(domain.as_str())?;
        Some(of(customer, Extent::Domain(domain)))
    }

    /// When [`Desk::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let question = self.questions.values().next().map(|q| q.deadline);
        let due = self.due.first().map(|(at, _)| *at);
        let told = self.tally.deadline();
        let arrivals = self.arrivals.deadline();
        [question, due, told, arrivals].into_iter().flatten().min()
    }

    /// Somebody asks for a release.
    pub(super) fn ask(&mut self, now: Now, order: Order, asker: ReleaseAsker, out: &mut Out) {
        if let Some(refusal) = self.refusal(now.instant, &order, &asker) {
            match &asker {
                // Who connects has asked for nothing.
                ReleaseAsker::Connection { .. } => {}
                ReleaseAsker::Session {
                    client, user: None, ..
                } if self.tally.count(now.instant, client.ip()) == Telling::Counted => {
                    respond(&asker, refusal, out);
                }
                _ => self.answer(&order, &asker, refusal, out),
            }
            return;
        }
        let is_awake = !matches!(
            asker,
            ReleaseAsker::Operator(_)
                | ReleaseAsker::OneByOne
                | ReleaseAsker::Interval
                | ReleaseAsker::Waiting(_)
        );
        let wakes = |name: &CustomerName| {
            (self.customers.by_name(name)).is_some_and(|c| !c.wake_command.is_empty())
        };
        let purpose = if !is_awake && order.customers.iter().any(wakes) {
            Purpose::Count
        } else {
            Purpose::Release
        };
        self.put(now, Arc::new(order), asker, purpose, out);
    }

    fn refusal(&mut self, now: Instant, order: &Order, asker: &ReleaseAsker) -> Option<Answer> {
        if !self.open {
            return Some(Answer::Unable);
        }
        let allowed = match asker {
            ReleaseAsker::Session { client, .. } | ReleaseAsker::WakeUp { client, .. } => {
                let client = Client::of(client.ip());
                let mut nodes = order
                    .customers
                    .iter()
                    .map(|customer| (client, customer.clone(), order.extent.clone()));
                self.clients.take(now, client) && nodes.all(|node| self.nodes.take(now, node))
            }
            ReleaseAsker::Connection { .. } => {
                let mut customers = order.customers.iter();
                customers.all(|customer| self.connections.take(now, customer.clone()))
            }
            ReleaseAsker::Operator(_)
            | ReleaseAsker::OneByOne
            | ReleaseAsker::Interval
            | ReleaseAsker::Waiting(_)
            | ReleaseAsker::Awake => true,
        };
        (!allowed).then_some(Answer::TooOften)
    }

    fn put(
        &mut self,
        now: Now,
        order: Arc<Order>,
        asker: ReleaseAsker,
        purpose: Purpose,
        out: &mut Out,
    ) {
        self.last += 1;
        let release = ReleaseId(self.last);
        for core in 0..self.data_cores {
            out.push_back(ControlOperation::Tell {
                core: CoreId(core),
                notice: Notice::Release {
                    release,
                    order: Arc::clone(&order),
                    purpose,
                },
            });
        }
        let question = Question {
            order,
            asker,
            purpose,
            waiting_for: self.data_cores,
            waiting: Waiting::default(),
            started: false,
            deadline: now.instant + PATIENCE,
        };
        self.questions.insert(release, question);
    }

    /// A data core has said its part.
    pub(super) fn part(
        &mut self,
        now: Now,
        core: CoreId,
        release: ReleaseId,
        part: Part,
        out: &mut Out,
    ) {
        let question = self.questions.get(&release);
        let releases_all = question.is_some_and(|q| q.order.extent == Extent::Everything);
        for customer in part.draining {
            let drain = self.drains.entry(customer).or_insert_with(|| Drain {
                since: now.instant,
                releases_all: false,
                cores: BTreeSet::new(),
                unreachable: false,
                left: Waiting::default(),
            });
            drain.cores.insert(core);
            drain.releases_all |= releases_all;
        }
        // One that comes after the deadline has nobody to go to.
        let Some(question) = self.questions.get_mut(&release) else {
            return;
        };
        question.waiting.messages += part.waiting.messages;
        question.waiting.octets += part.waiting.octets;
        question.started |= part.started;
        question.waiting_for -= 1;
        if question.waiting_for == 0 {
            self.counted(release, out);
        }
    }

    /// All cores have said their part.
    fn counted(&mut self, release: ReleaseId, out: &mut Out) {
        let question = self.questions.remove(&release).expect("the caller has it");
        let Waiting { messages, octets } = question.waiting;
        let waiting = etrn::Waiting { messages, octets };
        let answer = match (messages, question.purpose, question.started) {
            (0, ..) => Answer::Nothing,
            (_, Purpose::Release, false) => Answer::Joined(waiting),
            (_, Purpose::Release, true) | (_, Purpose::Count, _) => Answer::Started(waiting),
        };
        self.answer(&question.order, &question.asker, answer, out);
        if messages == 0 || question.purpose == Purpose::Release {
            return;
        }
        for name in &question.order.customers {
            let order = Order {
                customers: vec![name.clone()],
                ..(*question.order).clone()
            };
            self.wake(name, order, out);
        }
    }

    /// Runs the command that wakes a customer's site; then this is released.
    fn wake(&mut self, name: &CustomerName, order: Order, out: &mut Out) {
        let Some(customer) = self.customers.by_name(name) else {
            return;
        };
        let order = Arc::new(order);
        // One that is running already serves this release too.
        let waking = self.waking.entry(name.clone()).or_default();
        let is_first = waking.is_empty();
        if waking.len() >= WAKING_ORDERS_MAX {
            let extent = Extent::Everything;
            *waking = vec![Arc::new(Order {
                extent,
                ..(*order).clone()
            })];
        } else if !waking.contains(&order) {
            waking.push(order);
        }
        if is_first {
            out.push_back(ControlOperation::Wake {
                customer: name.clone(),
                command: customer.wake_command.clone(),
            });
        }
    }

    /// The command that wakes a site has ended.
    pub(super) fn woken(
        &mut self,
        now: Now,
        customer: &CustomerName,
        result: Result<(), String>,
        out: &mut Out,
    ) {
        let Some(orders) = self.waking.remove(customer) else {
            return;
        };
        match result {
            Ok(()) => {
                for order in orders {
                    self.put(now, order, ReleaseAsker::Awake, Purpose::Release, out);
                }
            }
            Err(why) => {
                let contact = (self.customers.by_name(customer))
                    .and_then(|customer| customer.contact.as_ref())
                    .map_or_else(String::new, |contact| format!(" (contact: {contact})"));
                let then = match orders.iter().all(|order| order.extent == Extent::LetGo) {
                    true => "what was released one by one is tried all the same",
                    false => "its mail stays held until the next release",
                };
                let what = format!(
                    "the command that wakes the site of {customer} failed: {why}; {then}{contact}"
                );
                out.push_back(ControlOperation::Report(Fact::Trouble { what }));
            }
        }
    }

    /// On a data core nothing of this customer is released any more.
    pub(super) fn ended(
        &mut self,
        now: Now,
        core: CoreId,
        customer: CustomerName,
        end: ReleaseEnd,
        left: Waiting,
        out: &mut Out,
    ) {
        let Some(drain) = self.drains.get_mut(&customer) else {
            return;
        };
        drain.unreachable |= end == ReleaseEnd::Unreachable;
        if drain.cores.remove(&core) {
            drain.left.messages += left.messages;
            drain.left.octets += left.octets;
        }
        if drain.cores.is_empty() {
            let drain = self.drains.remove(&customer).expect("looked at above");
            out.push_back(ControlOperation::Report(Fact::ReleaseEnded(
                report::ReleaseEnded {
                    customer: customer.to_string(),
                    took: now.instant.since(drain.since),
                    reached: !drain.unreachable,
                    left: drain.left.messages,
                },
            )));
        }
    }

    /// What is to be told before the end.
    pub(super) fn last_words(&mut self, now: Now, out: &mut Out) {
        while let Some(untold) = self.tally.untold(now.instant) {
            out.push_back(ControlOperation::Report(Fact::ReleasesRefused(untold)));
        }
    }

    /// Looks at the clock.
    pub(super) fn timer(&mut self, now: Now, out: &mut Out) {
        while let Some(untold) = self.tally.due(now.instant) {
            out.push_back(ControlOperation::Report(Fact::ReleasesRefused(untold)));
        }
        while let Some((&release, question)) = self.questions.first_key_value()
            && question.deadline <= now.instant
        {
            let question = self.questions.remove(&release).expect("looked at above");
            self.answer(&question.order, &question.asker, Answer::Unable, out);
        }
        while let Some((at, _)) = self.due.first()
            && *at <= now.instant
        {
            let (_, name) = self.due.pop_first().expect("looked at above");
            let Some(every) = self.customers.by_name(&name).and_then(|c| interval(c)) else {
                continue;
            };
            let next = now.instant + self.random.around(every, EVERY_JITTER);
            self.due.insert((next, name.clone()));
            // An attempt that is still going on gets no more time by the next one: it is to
            // end, and to count as missed if the site is not there.
            if self
                .drains
                .get(&name)
                .is_some_and(|drain| drain.releases_all)
            {
                continue;
            }
            let order = Order {
                customers: vec![name],
                extent: Extent::Everything,
                caller: None,
            };
            self.ask(now, order, ReleaseAsker::Interval, out);
        }
        self.wake_for_what_waits(now, out);
    }

    /// Sites that are to be woken for what waits. Not where that is on its way.
    fn wake_for_what_waits(&mut self, now: Now, out: &mut Out) {
        let (drains, waking) = (&self.drains, &self.waking);
        let is_busy = |name: &CustomerName| drains.contains_key(name) || waking.contains_key(name);
        for (customer, why) in self.arrivals.due(now, is_busy) {
            let order = Order {
                customers: vec![customer],
                extent: Extent::Everything,
                caller: None,
            };
            self.ask(now, order, ReleaseAsker::Waiting(why), out);
        }
    }

    /// Where it is counted what waits, from before the first customers on.
    pub(super) fn count_by(&mut self, now: Now, ledger: Arc<Ledger>) {
        self.arrivals.count_by(ledger);
        self.arrivals.configure(now.instant, &self.customers);
    }
}

/// Where the desk leaves what is to be done.
type Out = VecDeque<ControlOperation>;

fn interval(customer: &Customer) -> Option<Duration> {
    customer.release.every.map(|every| every.max(EVERY_MIN))
}

#[cfg(test)]
mod tests;
