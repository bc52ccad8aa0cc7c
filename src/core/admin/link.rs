//! What the operator asks about links, and the answers.

use serde::{Deserialize, Serialize};

use super::Date;
use crate::link::outing::Outing;

/// How all links stand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Links {
    /// In the order of the configuration. Empty: this host is always on line.
    pub links: Vec<LinkStatus>,
    /// Messages that could go at once.
    pub ready_messages: u64,
    /// Octets of those.
    pub ready_octets: u64,
    /// All messages that need a link.
    pub waiting_messages: u64,
    /// Octets of those.
    pub waiting_octets: u64,
    /// When the schedule next dials.
    pub next_window: Option<Date>,
}

/// How one link stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// "down", "dialling", "up", "draining", "idle", "hanging up".
    pub state: String,
    /// Since when.
    pub since: Date,
    /// Why it is up, or is to come up.
    pub why: Option<String>,
    /// It is up, and we opened it.
    pub ours: Option<bool>,
    /// Down by the operator.
    pub held_down: bool,
    /// The next dial comes in this time at the earliest.
    pub next_dial_seconds: Option<u64>,
    /// Why the last dial failed.
    pub last_failure: Option<String>,
    /// Octets over its interface since it is up.
    pub octets: u64,
    /// How long what waits will take, by what the link did lately.
    pub empty_in_seconds: Option<u64>,
    /// What this period has cost, and what is left.
    pub budget: Option<BudgetStatus>,
}

/// How a budget stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// "window", "day" or "month".
    pub per: String,
    /// Seconds on line in this period.
    pub seconds_spent: u64,
    /// Octets.
    pub octets_spent: u64,
    /// Money, if there is a price.
    pub money_spent: Option<String>,
    /// What is left of each limit that there is.
    pub seconds_left: Option<u64>,
    /// Octets.
    pub octets_left: Option<u64>,
    /// Money.
    pub money_left: Option<String>,
    /// When the period ends, if the calendar says so.
    pub period_ends: Option<Date>,
}

/// What the next time on line would be like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Which link.
    pub name: String,
    /// When; `None`: nothing makes it come up so far.
    pub at: Option<Date>,
    /// Why then.
    pub why: String,
    /// Messages that would go.
    pub messages: u64,
    /// Octets of those.
    pub octets: u64,
    /// How long that takes with the wait at its end; `None`: it was never on line.
    pub seconds: Option<u64>,
    /// What that costs; `None`: there is no price, or it was never on line.
    pub cost: Option<String>,
    /// Octets that would be left over, because the budget ends before.
    pub octets_left_over: u64,
    /// What is left of the budget now.
    pub budget: Option<BudgetStatus>,
}

/// Times on line of a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkHistory {
    /// Which link.
    pub name: String,
    /// Latest first.
    pub outings: Vec<Outing>,
}

/// What is asked of a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "kebab-case")]
pub enum LinkCommand {
    /// How all stand. Answered by [`super::Response::Links`].
    Status,
    /// Go up. Answered by [`super::Response::Done`] when it has been begun.
    Up {
        /// Which; the first, if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Go down, and stay so.
    Down {
        /// Which; all, if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// What the next time on line would be like. Answered by
    /// [`super::Response::LinkPlan`].
    Plan,
    /// Times on line. Answered by [`super::Response::LinkHistory`].
    History {
        /// Of each link at most so many.
        limit: u32,
    },
}
