//! Collectors: how a site asks for its own mail while it is on line.
//!
//! A collector is run once for an occasion, and says how it went and how long to wait
//! for the mail that it has set in motion. While one runs or waits the link has work.
//!
//! What this module does not do: it knows no protocol. The shell runs a collector.

use std::time::Duration;

use super::calendar::Row;
use crate::time::{Instant, Now};

/// Longest time of one run: an evening's mail over a slow line. One that hangs must not
/// keep a link open for ever.
pub const RUN_PATIENCE: Duration = Duration::from_secs(3600);

/// A collector, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CollectorId(pub u16);

/// How a collector asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CollectKind {
    /// ETRN (RFC 1985).
    Etrn,
    /// ATRN (RFC 2645).
    Atrn,
    /// A message to the provider.
    Wakeup,
    /// From a mailbox.
    Pop3,
    /// By a program of the site.
    Command,
}

/// Which collectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Collect {
    /// All.
    All,
    /// Those of one kind.
    Kind(CollectKind),
}

/// A row of the schedule: when, and what is done then.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Appointment {
    /// When.
    pub row: Row,
    /// Whether a link may be dialled for it. Otherwise it is done only while one is up.
    pub may_dial: bool,
    /// Mail that waits for its time is tried.
    pub send: bool,
    /// What is collected.
    pub collect: Vec<Collect>,
}

/// How a run went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Collected {
    /// How long to wait for mail that comes of it; zero if it is all here.
    pub wait: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Rests,
    /// It is given up then.
    Runs {
        until: Instant,
    },
    /// Mail may come until then.
    Waits {
        until: Instant,
    },
}

/// All collectors.
#[derive(Debug)]
pub struct Collectors {
    all: Vec<(CollectKind, State)>,
}

impl Collectors {
    /// In the order of the configuration. None of them runs.
    #[must_use]
    pub fn new(kinds: impl IntoIterator<Item = CollectKind>) -> Self {
        Self {
            all: kinds.into_iter().map(|kind| (kind, State::Rests)).collect(),
        }
    }

    /// Those that are to be run now. One that runs already is not run twice.
    pub fn run(&mut self, now: Now, which: &[Collect]) -> Vec<CollectorId> {
        let until = now.instant + RUN_PATIENCE;
        let mut started = Vec::new();
        for (place, (kind, state)) in self.all.iter_mut().enumerate() {
            let wanted = which.iter().any(|collect| match collect {
                Collect::All => true,
                Collect::Kind(wanted) => wanted == kind,
            });
            if wanted && !matches!(state, State::Runs { .. }) {
                *state = State::Runs { until };
                started.push(CollectorId(u16::try_from(place).expect("few collectors")));
            }
        }
        started
    }

    /// A run has ended.
    pub fn ended(&mut self, now: Now, collector: CollectorId, result: &Result<Collected, String>) {
        let Some((_, state)) = self.all.get_mut(usize::from(collector.0)) else {
            return;
        };
        *state = match result {
            Ok(Collected { wait }) if !wait.is_zero() => State::Waits {
                until: now.instant + *wait,
            },
            _ => State::Rests,
        };
    }

    /// Whether one runs, or mail may still come.
    pub fn is_busy(&mut self, now: Now) -> bool {
        let mut busy = false;
        for (_, state) in &mut self.all {
            if let State::Runs { until } | State::Waits { until } = *state {
                if until <= now.instant {
                    *state = State::Rests;
                } else {
                    busy = true;
                }
            }
        }
        busy
    }

    /// When [`Collectors::is_busy`] is to be asked again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let ends = self.all.iter().filter_map(|(_, state)| match state {
            State::Rests => None,
            State::Runs { until } | State::Waits { until } => Some(*until),
        });
        ends.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_runs_once_waits_and_is_done() {
        let kinds = [CollectKind::Etrn, CollectKind::Pop3, CollectKind::Etrn];
        let mut collectors = Collectors::new(kinds);
        let now = Now::default();
        let etrn = [Collect::Kind(CollectKind::Etrn)];
        assert_eq!(collectors.run(now, &etrn), [CollectorId(0), CollectorId(2)]);
        assert_eq!(collectors.run(now, &[Collect::All]), [CollectorId(1)]);
        assert_eq!(collectors.run(now, &[Collect::All]), []);
        collectors.ended(now, CollectorId(1), &Err("refused".to_owned()));
        let wait = Duration::from_secs(60);
        collectors.ended(now, CollectorId(0), &Ok(Collected { wait }));
        let none = Collected {
            wait: Duration::ZERO,
        };
        collectors.ended(now, CollectorId(2), &Ok(none));
        assert!(collectors.is_busy(now));
        assert_eq!(collectors.deadline(), Some(now.instant + wait));
        assert!(!collectors.is_busy(now.after(wait)));
        assert_eq!(collectors.deadline(), None);
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let mut collectors = Collectors::new([CollectKind::Atrn]);
        let now = Now::default();
        collectors.run(now, &[Collect::All]);
        assert!(collectors.is_busy(now));
        assert!(!collectors.is_busy(now.after(RUN_PATIENCE)));
    }
}
