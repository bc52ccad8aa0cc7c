//! When mailboxes are collected, as a machine: at intervals, and when somebody asks.
//!
//! A part of the control core. It has the password read and the server's name looked
//! up, hands the order to the data core that is the mailbox's home, and hears how the
//! run went.
//!
//! Invariants:
//!
//! - A mailbox has one run at a time. Who asks for another meanwhile gets the outcome of
//!   the one that is under way.
//! - Every question gets one answer, when the last of its runs is over.
//!
//! What it does not do: it opens no connection, and does not know what is in a mailbox.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::core::admin::{self, CollectOutcome, Reason, Response};
use crate::core::collector::{Collector, Next, Order, Run};
use crate::core::control::ControlOperation;
use crate::core::{AdminRequestId, CoreId, Notice};
use crate::pop3::Login;
use crate::pop3::mailbox::Large;
use crate::report::Fact;
use crate::report::collecting::{Collected, Tally};
use crate::time::{Instant, Now};

/// Longest pause after the server has refused name and password again and again. Often
/// enough that a provider's mistake does not cost a day, seldom enough that no account
/// is locked for it.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);

/// Which mailboxes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    /// All.
    All,
    /// The one with this name.
    Named(&'a str),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Read the password and look up the server; answer with [`Collectors::prepared`].
    Prepare(Arc<Collector>),
    /// Hand this to a data core; its run comes back by [`Collectors::collected`].
    Order(CoreId, Box<Order>),
    /// Answer the operator.
    Answer(AdminRequestId, Response),
    /// Tell the operator.
    Report(Fact),
}

impl From<Output> for ControlOperation {
    fn from(output: Output) -> Self {
        match output {
            Output::Prepare(collector) => Self::PrepareCollecting(collector),
            Output::Order(core, order) => Self::Tell {
                core,
                notice: Notice::Collect(order),
            },
            Output::Answer(request, response) => Self::Answer { request, response },
            Output::Report(fact) => Self::Report(fact),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Rests,
    /// It runs, or is being prepared.
    Runs(Large),
}

#[derive(Debug)]
struct Mailbox {
    collector: Arc<Collector>,
    state: State,
    next_at: Option<Instant>,
    /// Times in a row that the login was refused.
    refused: u32,
}

#[derive(Debug)]
struct Question {
    request: AdminRequestId,
    /// Names of those that still run.
    waiting: Vec<Box<str>>,
    outcomes: Vec<CollectOutcome>,
}

/// See the module.
#[derive(Debug)]
pub struct Collectors {
    data_cores: u8,
    all: Vec<Mailbox>,
    questions: Vec<Question>,
    outputs: VecDeque<Output>,
    stopping: bool,
}

impl Collectors {
    /// None yet.
    #[must_use]
    pub fn new(data_cores: u8) -> Self {
        Self {
            data_cores,
            all: Vec::new(),
            questions: Vec::new(),
            outputs: VecDeque::new(),
            stopping: false,
        }
    }

    /// These are configured now. What runs goes on.
    pub fn configure(&mut self, now: Now, collectors: &[Arc<Collector>]) {
        let mut before = std::mem::take(&mut self.all);
        for collector in collectors {
            let known = before
                .iter()
                .position(|mailbox| mailbox.collector.account == collector.account);
            let mailbox = match known.map(|index| before.swap_remove(index)) {
                Some(mailbox) => Mailbox {
                    next_at: (collector.every)
                        .map(|every| mailbox.next_at.unwrap_or(now.instant + every))
                        .map(|at| at.min(now.instant + collector.every.unwrap_or_default())),
                    collector: Arc::clone(collector),
                    // The password may be another one now.
                    refused: 0,
                    state: mailbox.state,
                },
                None => Mailbox {
                    next_at: collector.every.map(|_| now.instant),
                    collector: Arc::clone(collector),
                    state: State::Rests,
                    refused: 0,
                },
            };
            self.all.push(mailbox);
        }
        // Nobody is told any more of those that are gone.
        for gone in before {
            let why = "it is no longer configured; its session goes on";
            self.outcome(&gone.collector, Tally::default(), Some(why.to_owned()));
        }
    }

    /// Somebody wants a run, and its outcome.
    pub fn ask(&mut self, request: AdminRequestId, which: Which<'_>, large: Large) {
        let wanted: Vec<usize> = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, mailbox)| match which {
                Which::All => true,
                Which::Named(name) => *mailbox.collector.name == *name,
            })
            .map(|(index, _)| index)
            .collect();
        let refusal = if wanted.is_empty() {
            Some(match which {
                Which::All => (Reason::NotFound, "no mailbox is configured in [[collect]]"),
                Which::Named(_) => (Reason::NotFound, "no collector has this name"),
            })
        } else if self.stopping {
            Some((Reason::Later, "the server is stopping"))
        } else if large == Large::Collected
            && (wanted.iter()).any(|&index| self.all[index].state == State::Runs(Large::Left))
        {
            let why = "it runs already, without large messages; try again when it is done";
            Some((Reason::Later, why))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let response = Response::refused(reason, text);
            return self.outputs.push_back(Output::Answer(request, response));
        }
        let names = wanted
            .iter()
            .map(|&index| self.all[index].collector.name.clone());
        self.questions.push(Question {
            request,
            waiting: names.collect(),
            outcomes: Vec::new(),
        });
        for index in wanted {
            self.start(index, large);
        }
    }

    /// The password was read and the server's name looked up, or that failed.
    pub fn prepared(
        &mut self,
        now: Now,
        collector: &Arc<Collector>,
        result: Result<(Vec<SocketAddr>, Login), String>,
    ) {
        // It may be gone from the configuration.
        let Some(mailbox) = (self.all.iter()).find(|other| other.collector == *collector) else {
            return self.over(
                now,
                &failed(collector, "the configuration was changed".to_owned()),
            );
        };
        let State::Runs(large) = mailbox.state else {
            return;
        };
        match result {
            Ok((addresses, login)) if !self.stopping => {
                let order = Order {
                    collector: Arc::clone(collector),
                    addresses: addresses.into(),
                    login,
                    large,
                };
                let home = Collector::home(&collector.account, self.data_cores);
                self.outputs.push_back(Output::Order(home, Box::new(order)));
            }
            Ok(_) => self.over(now, &failed(collector, "the server is stopping".to_owned())),
            Err(why) => self.over(now, &failed(collector, why)),
        }
    }

    /// A run is over.
    pub fn collected(&mut self, now: Now, run: &Run) {
        self.over(now, run);
    }

    /// Begins what is due.
    pub fn timer(&mut self, now: Now) {
        for index in 0..self.all.len() {
            if self.all[index].next_at.is_some_and(|at| at <= now.instant) {
                let mailbox = &mut self.all[index];
                mailbox.next_at = mailbox.collector.every.map(|every| now.instant + every);
                self.start(index, Large::Left);
            }
        }
    }

    /// When [`Collectors::timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        self.all.iter().filter_map(|mailbox| mailbox.next_at).min()
    }

    /// The server is to stop: nothing is begun any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// What is to be done next.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> {
        self.outputs.drain(..)
    }

    fn start(&mut self, index: usize, large: Large) {
        let mailbox = &mut self.all[index];
        if mailbox.state == State::Rests && !self.stopping {
            mailbox.state = State::Runs(large);
            let collector = Arc::clone(&mailbox.collector);
            self.outputs.push_back(Output::Prepare(collector));
        }
    }

    fn over(&mut self, now: Now, run: &Run) {
        let index = (self.all.iter()).position(|mailbox| mailbox.collector.account == run.account);
        let Some(index) = index else {
            return;
        };
        let mailbox = &mut self.all[index];
        mailbox.state = State::Rests;
        let refused = matches!(run.failure, Some((Next::LoginRefused, _)));
        mailbox.refused = if refused { mailbox.refused + 1 } else { 0 };
        mailbox.next_at = mailbox.collector.every.map(|every| {
            let doubled = every.saturating_mul(1 << mailbox.refused.min(16));
            now.instant + doubled.min(REFUSED_PAUSE_MAX.max(every))
        });
        let collector = Arc::clone(&mailbox.collector);
        let next_in = mailbox.next_at.map(|at| at.since(now.instant));
        let why = run.failure.as_ref().map(|(_, why)| why.clone());
        let account = collector.account.as_str().to_owned();
        self.outputs
            .push_back(Output::Report(Fact::Collected(Collected {
                account,
                tally: run.tally,
                failure: why.clone(),
                next_in,
            })));
        self.outcome(&collector, run.tally, why);
    }

    /// Tells whoever has asked.
    fn outcome(&mut self, collector: &Collector, tally: Tally, failure: Option<String>) {
        let mut index = 0;
        while let Some(question) = self.questions.get_mut(index) {
            let name = question
                .waiting
                .iter()
                .position(|name| *name == collector.name);
            if let Some(name) = name {
                question.waiting.swap_remove(name);
                question.outcomes.push(CollectOutcome {
                    name: collector.name.to_string(),
                    account: collector.account.as_str().to_owned(),
                    tally,
                    failure: failure.clone(),
                });
            }
            if question.waiting.is_empty() {
                let question = self.questions.swap_remove(index);
                let mailboxes = question.outcomes;
                let response = Response::Collected(admin::Collected { mailboxes });
                let answer = Output::Answer(question.request, response);
                self.outputs.push_back(answer);
            } else {
                index += 1;
            }
        }
    }
}

fn failed(collector: &Collector, why: String) -> Run {
    Run {
        account: collector.account.clone(),
        tally: Tally::default(),
        failure: Some((Next::Usual, why)),
    }
}
