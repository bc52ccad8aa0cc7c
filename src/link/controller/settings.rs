//! What a link's machine is told once, what it is told of its driver, and what it wants.

use std::time::Duration;

use crate::link::budget::Limits;
use crate::link::work::{GoUp, Reason};
use crate::report::LinkFact;

/// What is done with a connection that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Existing {
    /// Dial all the same.
    Ignore,
    /// Use it if it is the one that we would have opened.
    Selected,
    /// Use it.
    Any,
}

/// A connection that we did not open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Presence {
    /// There is none.
    None,
    /// The one that we would have opened.
    Selected,
    /// Another one.
    Other,
}

/// Whether we can bring the link up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialling {
    /// We can.
    Ours,
    /// It is always there, or somebody else dials.
    NotOurs,
}

/// How often is dialled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Series {
    /// Between two dials.
    pub pause: Duration,
    /// Dials of one series, at least 1.
    pub tries: u32,
    /// Between two series.
    pub series_pause: Duration,
}

/// What the operator decides about a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// Who brings it up.
    pub dialling: Dialling,
    /// What is done with a connection that is there already.
    pub existing: Existing,
    /// How often is dialled.
    pub series: Series,
    /// What makes it come up besides the schedule.
    pub go_up: GoUp,
    /// It is hung up after so long without work.
    pub idle: Duration,
    /// And after so long in any case.
    pub at_most: Option<Duration>,
    /// What it may cost.
    pub budget: Option<Limits>,
}

/// Why a link did not come up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DialFailure {
    /// In the driver's words.
    pub why: String,
    /// Whether the same again may help.
    pub hope: Hope,
}

/// Whether the same again may help.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hope {
    /// The line was busy, nobody answered.
    Again,
    /// A wrong password, a program that is not there: not within this series.
    NotSoon,
}

/// What is to be done, and what is to be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Bring the link up.
    Dial,
    /// What is there is ours, left open by a server that ended without a stop, or not hung up.
    TakeOver,
    /// Hanging up is given up. If the link is still there, it is a presence from now on.
    GiveUp,
    /// Take it down, or end the dial.
    HangUp,
    /// Say how many octets passed its interface so far: [`super::Controller::metered`].
    Measure,
    /// It is there: mail may go.
    Opened {
        /// Why.
        reason: Reason,
    },
    /// It is to go: nothing new may begin. Say [`super::Controller::quiet`] when nothing is
    /// under way any more.
    Closing,
    /// It is gone, or not used any more: what is under way is cut off.
    Closed,
    /// Keep [`super::Controller::memory`] over a restart.
    Keep,
    /// Tell the operator.
    Report(LinkFact),
}

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Go up now.
    Up,
    /// Go down, and stay there until told otherwise or the schedule says so.
    Down,
}

/// Why an order is not followed: a sentence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);
