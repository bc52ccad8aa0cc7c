//! What a link is doing, for whoever asks.

use std::time::Duration;

use super::{Controller, Dialling, State};
use crate::link::budget::{Left, Money, Spent};
use crate::link::outing::time_for;
use crate::link::work::Reason;
use crate::time::{Instant, Now, WallTime};

/// What a link is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// It is not there.
    Down,
    /// It is being dialled, or the pause between two dials runs.
    Dialling,
    /// It is there, and mail has not yet begun to go.
    Up,
    /// Mail goes, or collectors run.
    Draining,
    /// There is nothing to do.
    Idle,
    /// It goes down.
    HangingUp,
}

impl Phase {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Dialling => "dialling",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Idle => "idle",
            Self::HangingUp => "hanging up",
        }
    }
}

/// How a link stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub since: WallTime,
    /// Why it is up, or being dialled.
    pub reason: Option<Reason>,
    /// It is up, and we opened it.
    pub ours: Option<bool>,
    /// The next dial comes in this time, if there is a reason for one.
    pub next_dial_in: Option<Duration>,
    /// Down by the operator.
    pub held_down: bool,
    /// Why the last dial failed, since the link was last up.
    pub last_failure: Option<String>,
    /// Of the time on line: octets over the interface.
    pub octets: u64,
    /// What the present period has cost.
    pub spent: Spent,
    /// And in money.
    pub spent_money: Money,
    /// What is left of the budget.
    pub left: Left,
    /// How long what waits will take, by what the link did lately.
    pub empty_in: Option<Duration>,
}

impl Controller {
    /// How it stands.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let (phase, reason, up) = match &self.state {
            State::Down => (Phase::Down, self.reason(now).map(|wish| wish.reason), None),
            State::Dialling { reason, .. } => (Phase::Dialling, Some(*reason), None),
            State::Pausing { .. } => (
                Phase::Dialling,
                self.reason(now).map(|wish| wish.reason),
                None,
            ),
            State::Up(up) => {
                let phase = if self.work.in_flight > 0 || self.work.sessions > 0 || self.occupied {
                    Phase::Draining
                } else if self.work.ready > 0 {
                    Phase::Up
                } else {
                    Phase::Idle
                };
                (phase, Some(up.reason), Some(up))
            }
            State::Finishing { up, .. } => (Phase::HangingUp, Some(up.reason), Some(up)),
            State::HangingUp { up, .. } => (Phase::HangingUp, None, up.as_ref()),
        };
        // With the budget used up it is not time that is waited for, or not so little.
        let next = match &self.state {
            State::Pausing { until } => Some(*until),
            State::Down
                if reason.is_some()
                    && self.settings.dialling == Dialling::Ours
                    && !self.is_spent(now.wall) =>
            {
                Some(self.not_before)
            }
            _ => None,
        };
        let spent = self.budget.spent(now.wall);
        let waits = self.work.waiting_octets;
        let rate = self.octets_per_second(now);
        Status {
            phase,
            since: self.state_since,
            reason,
            ours: up.map(|up| up.ours),
            next_dial_in: next.map(|next: Instant| next.since(now.instant)),
            held_down: self.held_down,
            last_failure: self.last_failure.clone(),
            octets: up.map_or(0, |up| up.octets),
            spent,
            spent_money: self.budget.price(Duration::from_millis(spent.millis)),
            left: if up.is_some() {
                self.budget.left(now.wall)
            } else {
                self.budget.left_for_next(now.wall)
            },
            empty_in: rate.filter(|_| waits > 0).map(|rate| time_for(waits, rate)),
        }
    }

    /// Whether the budget stands against the next time on line.
    #[must_use]
    pub fn is_spent(&self, wall: WallTime) -> bool {
        self.budget.left_for_next(wall).is_spent()
    }

    /// Octets of messages that it carries in a second: now, or else by what it did lately.
    #[must_use]
    pub fn octets_per_second(&self, now: Now) -> Option<u64> {
        if let State::Up(up) = &self.state {
            let millis = now.instant.since(up.since.instant).as_millis();
            let octets = u128::from(self.work.sent_octets.saturating_sub(up.sent.1));
            let rate = (octets * 1000).checked_div(millis).unwrap_or(0);
            if rate > 0 {
                return u64::try_from(rate).ok();
            }
        }
        self.outings.octets_per_second()
    }

    /// What a time on line of this length would cost, and what of it the budget allows.
    #[must_use]
    pub fn estimate(&self, now: Now, time: Duration) -> (Money, Left) {
        (self.budget.price(time), self.budget.left_for_next(now.wall))
    }
}
