//! When collectors run, as a machine: at intervals, by the schedule, when a link comes
//! up, and when somebody asks.
//!
//! A part of the control core. It has a password read and a server's name looked up,
//! hands the order to the data core that is the collector's home or has the program
//! run, and hears how that went.
//!
//! Invariants:
//!
//! - A collector has one run at a time. Who asks for another meanwhile gets the outcome
//!   of the one that is under way.
//! - One whose way leads over a link runs only while one is up. When it is due
//!   otherwise, it asks for a link and stands ready until one is there.
//! - One that the link has left in the middle, or before its mail came, stands ready for the
//!   next time on line: what brings that about may have nothing else to do.
//! - While one runs over the link, or mail that it has set in motion is awaited, the link
//!   has work. That ends when the provider's sessions (see [`visitors`](super::visitors))
//!   are over, when none came in time, or with the link.
//! - Every question gets one answer, when the last of its runs is over.
//! - A server that wants a pause between two logins gets it. Who asks meanwhile is told; what
//!   was due meanwhile runs behind it. A restart forgets the pause, and the server says no.
//!
//! What it does not do: it opens no connection, dials nothing, and does not know what is
//! in a mailbox.

mod output;
mod questions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::output::Output;
pub use self::questions::Which;
use self::questions::{Question, shows_tally};
use crate::core::collector::{
    Behind, Collector, Means, Next, Order, Prepared, Run, RunId, Way, home,
};
use crate::core::fetching::Fetch;
use crate::core::summoning::Summons;
use crate::core::visitors::{Awaiting, Event, Visit, Visitors};
use crate::link::collecting::Collect;
use crate::pop3::mailbox::{Large, Oversize};
use crate::report::Fact;
use crate::report::collecting::{Announced, Awaited, Collected, NextRun};
use crate::time::{Instant, Now};

/// Longest pause after the server has refused name and password again and again. Often
/// enough that a provider's mistake does not cost a day, seldom enough that no account
/// is locked for it.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);

/// Longest time for which one run keeps the link up: an evening's mail over a slow line.
/// One that hangs must not keep it open for ever.
pub const RUN_PATIENCE: Duration = Duration::from_secs(3600);

/// How it stands with the links of this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// One is up, or none is needed.
    Up,
    /// None is up.
    Down,
}

/// After a link has come up not everything behind it works at once: routes, name servers,
/// a provider that still talks to the line before. So long what comes to nothing is tried
/// again on the spot, as mail is.
const SETTLES: Duration = Duration::from_secs(30);
/// Between two such tries.
const SETTLES_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Rests,
    /// It runs as soon as a link is up.
    StandsReady(Large),
    /// It runs, or is being prepared.
    Runs {
        run: RunId,
        large: Large,
        /// It keeps the link up until then.
        until: Instant,
    },
    /// It runs again then, while the link settles.
    Settles {
        large: Large,
        until: Instant,
    },
    /// Mail may come until then.
    Awaits {
        behind: Behind,
        until: Instant,
    },
}

#[derive(Debug)]
struct Entry {
    collector: Arc<Collector>,
    state: State,
    /// Who may call for its last run, and has.
    awaiting: Awaiting,
    /// A window for large messages has come while it ran without them.
    large_is_due: bool,
    next_at: Option<Instant>,
    /// Times in a row that the login was refused.
    refused: u32,
    /// Its server wants no login before.
    not_before: Instant,
    /// It was to run before that, and does then.
    put_off: Option<Large>,
}

/// See the module.
#[derive(Debug)]
pub struct Collectors {
    data_cores: u8,
    all: Vec<Entry>,
    questions: Vec<Question>,
    line: Line,
    /// Since when it is what it is.
    line_since: Instant,
    visitors: Visitors,
    last_run: RunId,
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
            line: Line::Down,
            line_since: Instant::START,
            visitors: Visitors::default(),
            last_run: RunId(0),
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
                .position(|entry| is_the_same(&entry.collector, collector));
            let known = known.map(|index| before.swap_remove(index));
            if let Some(entry) = &known {
                let names = self.questions.iter_mut().flat_map(|q| &mut q.waiting);
                for name in names.filter(|name| **name == entry.collector.name) {
                    name.clone_from(&collector.name);
                }
            }
            let entry = match known {
                Some(entry) => Entry {
                    next_at: (collector.every)
                        .map(|every| entry.next_at.unwrap_or(now.instant + every))
                        .map(|at| at.min(now.instant + collector.every.unwrap_or_default())),
                    collector: Arc::clone(collector),
                    // The password may be another one now.
                    refused: 0,
                    state: entry.state,
                    awaiting: entry.awaiting,
                    large_is_due: entry.large_is_due,
                    not_before: entry.not_before,
                    put_off: entry.put_off,
                },
                None => Entry {
                    next_at: collector.every.map(|_| now.instant),
                    collector: Arc::clone(collector),
                    state: State::Rests,
                    awaiting: Awaiting::default(),
                    large_is_due: false,
                    refused: 0,
                    not_before: Instant::START,
                    put_off: None,
                },
            };
            self.all.push(entry);
        }
        // Nobody is told any more of those that are gone.
        for gone in before {
            let why = "it is no longer configured; what it has begun goes on";
            let run = Run::failed(RunId(0), why.to_owned());
            self.outcome(&gone.collector, &run);
        }
    }

    /// The schedule wants these, or a link has come up. Those that need it run only while
    /// it is.
    pub fn run(&mut self, now: Now, which: &[Collect]) {
        for index in 0..self.all.len() {
            let means = &self.all[index].collector.means;
            let kind = means.kind();
            if which.iter().any(|collect| collect.includes(kind)) && self.may_run(index) {
                let waits_for_window = means.oversize() == Some(Oversize::Window);
                let large = which.contains(&Collect::Large) && waits_for_window;
                self.start(now, index, large.into());
            }
        }
    }

    /// Somebody came over a link, or has gone.
    pub fn visited(&mut self, visit: &Visit) {
        let who = self.visitors.take(visit);
        let (Some(who), Event::Gone(brought)) = (who, &visit.event) else {
            return;
        };
        for entry in &mut self.all {
            if let State::Runs { .. } | State::Awaits { .. } = entry.state {
                entry.awaiting.gone(&entry.collector, who, brought);
            }
        }
    }

    /// How it stands with the links.
    pub fn line(&mut self, now: Now, line: Line) {
        let changed = std::mem::replace(&mut self.line, line) != line;
        if changed {
            self.line_since = now.instant;
        }
        let came_up = changed && line == Line::Up;
        for index in 0..self.all.len() {
            match self.all[index].state {
                State::StandsReady(large) if came_up => {
                    self.all[index].state = State::Rests;
                    self.start(now, index, large);
                }
                State::Settles { large, .. } if line == Line::Down => {
                    self.all[index].state = State::StandsReady(large);
                }
                State::Awaits { .. } if line == Line::Down => {
                    self.awaited(index, Awaited::LinkGone);
                    self.all[index].state = State::StandsReady(Large::Left);
                }
                State::Awaits { .. } => {
                    let entry = &self.all[index];
                    if let Some(from) = entry.awaiting.is_done(&entry.collector, &self.visitors) {
                        self.awaited(index, Awaited::Came { from });
                    }
                }
                _ => {}
            }
        }
    }

    /// The password was read and the server's name looked up, or that failed.
    pub fn prepared(&mut self, now: Now, run: RunId, result: Result<Prepared, String>) {
        let Some((index, large)) = self.running(run) else {
            return;
        };
        let collector = &self.all[index].collector;
        let core = |name: &str| home(name, self.data_cores);
        let result = match result {
            Ok(_) if self.stopping => Err("the server is stopping".to_owned()),
            Ok(_) if self.line == Line::Down && collector.way == Way::OverLink => {
                Err("the link is gone".to_owned())
            }
            result => result,
        };
        if let Ok(prepared) = &result {
            self.all[index].awaiting.prepared(prepared);
        }
        let collector = &self.all[index].collector;
        let output = match (result, &collector.means) {
            (Ok(Prepared::Mailbox(addresses, login)), Means::Mailbox(mailbox)) => {
                let order = Order {
                    run,
                    collector: Arc::clone(mailbox),
                    addresses: addresses.into(),
                    login,
                    large,
                };
                Output::Order(core(mailbox.account.as_str()), Box::new(order))
            }
            (Ok(Prepared::Provider(hosts)), Means::Provider(provider)) => {
                let fetch = Fetch {
                    number: run,
                    hosts,
                    ask: provider.ask.clone(),
                };
                Output::Fetch(core(&collector.name), Box::new(fetch))
            }
            (Ok(_), _) => unreachable!("what was asked for was prepared"),
            (Err(why), _) => {
                let failure = Some((Next::Soon, why));
                let failed = Run {
                    failure,
                    ..Run::failed(run, String::new())
                };
                return self.over(now, &failed);
            }
        };
        self.outputs.push_back(output);
    }

    /// A run is over.
    pub fn over(&mut self, now: Now, run: &Run) {
        let Some((index, large)) = self.running(run.id) else {
            return;
        };
        let entry = &mut self.all[index];
        let collector = Arc::clone(&entry.collector);
        let refused = matches!(run.failure, Some((Next::LoginRefused, _)));
        let mail_comes = run.behind != Behind::Nothing && !collector.wait.is_zero();
        let cut_off = self.line == Line::Down && !self.stopping;
        let settles = matches!(run.failure, Some((Next::Soon, _)))
            && self.line == Line::Up
            && now.instant < self.line_since + SETTLES
            && !self.stopping;
        entry.state = match (collector.way, &run.failure) {
            (Way::OverLink, Some(_)) if settles => State::Settles {
                large,
                until: now.instant + SETTLES_PAUSE,
            },
            (Way::OverLink, _) if mail_comes && self.line == Line::Up => State::Awaits {
                behind: run.behind,
                until: now.instant + collector.wait,
            },
            (Way::OverLink, None) if mail_comes && cut_off => State::StandsReady(Large::Left),
            (Way::OverLink, Some(_)) if cut_off && !refused => State::StandsReady(large),
            (Way::OverLink | Way::Near, _) => State::Rests,
        };
        let state = entry.state;
        entry.refused = if refused { entry.refused + 1 } else { 0 };
        // Counted from the end, which is behind the login.
        entry.not_before = now.instant + run.login_delay.unwrap_or_default();
        entry.next_at = collector.every.map(|every| {
            let doubled = every.saturating_mul(1 << entry.refused.min(16));
            let usual = now.instant + doubled.min(REFUSED_PAUSE_MAX.max(every));
            usual.max(entry.not_before)
        });
        let next = match (state, entry.next_at) {
            (State::Settles { .. }, _) => NextRun::In(SETTLES_PAUSE),
            (State::StandsReady(_), _) => NextRun::OnLine,
            (_, Some(at)) => NextRun::In(at.since(now.instant)),
            (_, None) => NextRun::Asked,
        };
        let large_is_due = std::mem::take(&mut entry.large_is_due);
        self.outputs
            .push_back(Output::Report(Fact::Collected(Collected {
                collector: collector.name.to_string(),
                place: collector.means.place(),
                tally: shows_tally(&collector, run).then_some(run.tally),
                said: run.said.clone(),
                awaits: matches!(state, State::Awaits { .. }).then_some(collector.wait),
                failure: run.failure.as_ref().map(|(_, why)| why.clone()),
                next,
            })));
        if matches!(state, State::StandsReady(_)) && run.failure.is_none() {
            let (collector, awaited) = (collector.name.to_string(), Awaited::LinkGone);
            self.outputs
                .push_back(Output::Report(Fact::Awaited { collector, awaited }));
        }
        if matches!(state, State::Settles { .. }) {
            // Who has asked is told of what comes of it in the end.
            self.all[index].large_is_due = large_is_due;
            return;
        }
        self.outcome(&collector, run);
        if large_is_due && self.may_run(index) {
            self.start(now, index, Large::Collected);
        }
    }

    /// Begins what is due, and waits for nothing for ever.
    pub fn timer(&mut self, now: Now) {
        for index in 0..self.all.len() {
            let entry = &mut self.all[index];
            if let State::Awaits { until, behind, .. } = entry.state
                && until <= now.instant
            {
                let wait = entry.collector.wait;
                let announced = match behind {
                    Behind::Announced => Announced::Yes,
                    Behind::Perhaps | Behind::Nothing => Announced::Perhaps,
                };
                let stranger = entry.awaiting.stranger();
                self.awaited(
                    index,
                    Awaited::Nobody {
                        wait,
                        announced,
                        stranger,
                    },
                );
            }
            if let State::Settles { large, until } = self.all[index].state
                && until <= now.instant
            {
                self.all[index].state = State::Rests;
                self.start(now, index, large);
            }
            let entry = &mut self.all[index];
            let is_time = !self.stopping && entry.not_before <= now.instant;
            if let Some(large) = entry.put_off.take_if(|_| is_time) {
                // With the link gone since, it is for the next time on line.
                self.start(now, index, large);
            }
            let entry = &mut self.all[index];
            if !self.stopping && entry.next_at.is_some_and(|at| at <= now.instant) {
                entry.next_at = entry.collector.every.map(|every| now.instant + every);
                if self.start(now, index, Large::Left) == Started::StandsReady {
                    self.outputs.push_back(Output::WantLink);
                }
            }
        }
    }

    /// When [`Collectors::timer`] is due. That a run has taken too long is not among it:
    /// the control core looks each second.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let due = (self.all.iter())
            .filter(|_| !self.stopping)
            .flat_map(|entry| [entry.next_at, entry.put_off.map(|_| entry.not_before)])
            .flatten();
        let ends = self.all.iter().filter_map(|entry| match entry.state {
            State::Awaits { until, .. } | State::Settles { until, .. } => Some(until),
            _ => None,
        });
        due.chain(ends).min()
    }

    /// Whether a link has work.
    #[must_use]
    pub fn is_busy(&self, now: Now) -> bool {
        let over_link = |entry: &&Entry| entry.collector.way == Way::OverLink;
        let mut all = self.all.iter().filter(over_link);
        all.any(|entry| match entry.state {
            State::Runs { until, .. } | State::Awaits { until, .. } => until > now.instant,
            State::Settles { .. } => true,
            State::Rests | State::StandsReady(_) => false,
        })
    }

    /// The server is to stop: nothing is begun any more, and nothing waited for.
    pub fn stop(&mut self) {
        self.stopping = true;
        for entry in &mut self.all {
            if let State::Settles { large, .. } = entry.state {
                entry.state = State::StandsReady(large);
            }
        }
        self.no_link("the server is stopping");
        for entry in &mut self.all {
            if let State::Awaits { .. } | State::StandsReady(_) = entry.state {
                entry.state = State::Rests;
            }
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn may_run(&self, index: usize) -> bool {
        self.line == Line::Up || self.all[index].collector.way == Way::Near
    }

    fn start(&mut self, now: Now, index: usize, large: Large) -> Started {
        let may_run = self.may_run(index);
        let entry = &mut self.all[index];
        if self.stopping {
            return Started::Runs;
        }
        if let State::Runs { large: runs, .. } = entry.state {
            entry.large_is_due |= runs == Large::Left && large == Large::Collected;
            return Started::Runs;
        }
        // What was wanted before without a link is not forgotten.
        let large = match (entry.state, entry.put_off) {
            (State::StandsReady(Large::Collected), _)
            | (
                State::Settles {
                    large: Large::Collected,
                    ..
                },
                _,
            )
            | (_, Some(Large::Collected)) => Large::Collected,
            _ => large,
        };
        let too_early = entry.not_before.since(now.instant);
        if !too_early.is_zero() {
            let before = entry.put_off.replace(large);
            entry.state = State::Rests;
            if before.is_none() {
                self.outputs.push_back(Output::Report(Fact::PutOff {
                    collector: entry.collector.name.to_string(),
                    runs_in: too_early,
                }));
            }
            return Started::PutOff(too_early);
        }
        entry.put_off = None;
        if !may_run {
            entry.state = State::StandsReady(large);
            return Started::StandsReady;
        }
        self.last_run.0 += 1;
        let run = self.last_run;
        entry.state = State::Runs {
            run,
            large,
            until: now.instant + RUN_PATIENCE,
        };
        entry.awaiting = Awaiting::begin(&self.visitors);
        let collector = Arc::clone(&entry.collector);
        self.outputs.push_back(match &collector.means {
            Means::Mailbox(_) | Means::Provider(_) => Output::Prepare(run, collector),
            Means::Letter(letter) => {
                let letter = Arc::clone(letter);
                let core = home(&collector.name, self.data_cores);
                Output::Summon(core, Box::new(Summons { run, letter }))
            }
            Means::Command(_) => Output::Command(run, collector),
        });
        Started::Runs
    }

    /// It may be gone from the configuration.
    fn running(&self, wanted: RunId) -> Option<(usize, Large)> {
        (self.all.iter().enumerate()).find_map(|(index, entry)| match entry.state {
            State::Runs { run, large, .. } if run == wanted => Some((index, large)),
            _ => None,
        })
    }

    /// Mail is no longer waited for.
    fn awaited(&mut self, index: usize, awaited: Awaited) {
        let entry = &mut self.all[index];
        entry.state = State::Rests;
        let collector = entry.collector.name.to_string();
        self.outputs
            .push_back(Output::Report(Fact::Awaited { collector, awaited }));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Started {
    Runs,
    StandsReady,
    /// Not for so long: its server wants that.
    PutOff(Duration),
}

/// Whether two are one and the same to what was begun: a mailbox by its account, others
/// by their name.
fn is_the_same(one: &Collector, other: &Collector) -> bool {
    match (&one.means, &other.means) {
        (Means::Mailbox(one), Means::Mailbox(other)) => one.account == other.account,
        (Means::Mailbox(_), _) | (_, Means::Mailbox(_)) => false,
        _ => one.name == other.name,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
