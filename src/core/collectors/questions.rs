//! What the operator asks of collectors, and what he is told.

use std::sync::Arc;

use super::{Collectors, Entry, Output, Started, State};
use crate::core::AdminRequestId;
use crate::core::admin::{self, CollectOutcome, Reason, Response};
use crate::core::collector::{Collector, Means, Run, RunId};
use crate::pop3::mailbox::Large;
use crate::report::collecting::Tally;
use crate::time::Now;

/// Which collectors the operator means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    /// All.
    All,
    /// The one with this name.
    Named(&'a str),
}

/// Who waits for what.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: AdminRequestId,
    /// Names of those that still run.
    pub(super) waiting: Vec<Box<str>>,
    pub(super) outcomes: Vec<CollectOutcome>,
}

impl Collectors {
    /// The operator wants a run, and its outcome.
    pub fn ask(&mut self, now: Now, request: AdminRequestId, which: Which<'_>, large: Large) {
        let wanted: Vec<usize> = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, entry)| match which {
                Which::All => true,
                Which::Named(name) => *entry.collector.name == *name,
            })
            .map(|(index, _)| index)
            .collect();
        let runs_small = |&index: &usize| {
            let entry = &self.all[index];
            let small = Large::Left;
            matches!(entry.state, State::Runs { large, .. } if large == small)
                && matches!(entry.collector.means, Means::Mailbox(_))
        };
        let refusal = if wanted.is_empty() {
            Some(match which {
                Which::All => {
                    let text = "nothing is configured in [[collect]]";
                    (Reason::NotFound, text.to_owned())
                }
                Which::Named(_) => {
                    let names: Vec<_> = self.all.iter().map(|e| &*e.collector.name).collect();
                    let text = match names.join(", ") {
                        names if names.is_empty() => "nothing is configured in [[collect]]".into(),
                        names => format!("no collector has this name; there is {names}"),
                    };
                    (Reason::NotFound, text)
                }
            })
        } else if self.stopping {
            Some((Reason::Later, "the server is stopping".to_owned()))
        } else if large == Large::Collected && wanted.iter().any(runs_small) {
            let why = "it runs already, without large messages; try again when it is done";
            Some((Reason::Later, why.to_owned()))
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
            match self.start(now, index, large) {
                Started::Runs => {}
                Started::StandsReady => self.outputs.push_back(Output::BringUp),
                Started::PutOff(time) => {
                    let why = format!(
                        "the server wants a pause between two logins (LOGIN-DELAY); it is \
                         collected in {} s if a link is up then, or else with the next one",
                        time.as_secs().max(1)
                    );
                    let collector = Arc::clone(&self.all[index].collector);
                    self.outcome(&collector, &Run::failed(RunId(0), why));
                }
            }
        }
    }

    /// No link will come up for the operator's questions.
    pub fn no_link(&mut self, why: &str) {
        for index in 0..self.all.len() {
            let entry = &mut self.all[index];
            let name = &entry.collector.name;
            let asked = (self.questions.iter()).any(|question| question.waiting.contains(name));
            if asked && matches!(entry.state, State::StandsReady(_)) {
                entry.state = State::Rests;
                let collector = Arc::clone(&entry.collector);
                let run = Run::failed(RunId(0), format!("no link is up: {why}"));
                self.outcome(&collector, &run);
            }
        }
    }

    /// Whether the operator waits for a link.
    #[must_use]
    pub fn is_asked_for_link(&self) -> bool {
        let stands = |entry: &&Entry| matches!(entry.state, State::StandsReady(_));
        self.all.iter().filter(stands).any(|entry| {
            let name = &entry.collector.name;
            (self.questions.iter()).any(|question| question.waiting.contains(name))
        })
    }

    /// Tells whoever has asked.
    pub(super) fn outcome(&mut self, collector: &Collector, run: &Run) {
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
                    place: collector.means.place(),
                    tally: shows_tally(collector, run).then_some(run.tally),
                    said: run.said.clone(),
                    failure: run.failure.as_ref().map(|(_, why)| why.clone()),
                });
            }
            if question.waiting.is_empty() {
                let question = self.questions.swap_remove(index);
                let collectors = question.outcomes;
                let response = Response::Collected(admin::Collected { collectors });
                let answer = Output::Answer(question.request, response);
                self.outputs.push_back(answer);
            } else {
                index += 1;
            }
        }
    }
}

/// What only sets something in motion counts nothing.
pub(super) fn shows_tally(collector: &Collector, run: &Run) -> bool {
    matches!(collector.means, Means::Mailbox(_)) || run.tally != Tally::default()
}
