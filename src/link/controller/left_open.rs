//! What we had open when the server ended without a stop, by a crash or a kill, and what we
//! could not hang up.
//!
//! That we open a link is kept before it is dialled, until it was seen down. A start that
//! reads of it looks first and dials after; a link that is there is then ours as before, is
//! charged for the time since it was last kept, and hung up by the usual rules. Nobody but us
//! would do so: it would cost for as long as it stays up.
//!
//! The same holds for what the driver could not hang up however often it was asked: it is
//! taken for down, so that no mail waits for that for ever, and is ours if it is seen.
//!
//! What cannot be known: whether somebody else has taken our link down and opened it again
//! while there was no server.

use std::time::Duration;

use super::{Controller, DIAL_PATIENCE, HANG_UP_TRIES, Output, Presence, State};
use crate::link::outing::LeftOpen;
use crate::link::work::Reason;
use crate::report::LinkFact;
use crate::time::{Instant, Now, WallTime};

/// How long a start looks for what it had open before it may dial: a driver that is asked
/// whether a link is there says so within ten seconds.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(15);

impl Controller {
    /// Nobody can say whether this link is there, but we may have it open.
    pub fn unseen(&mut self, now: Now) {
        if matches!(self.state, State::Down | State::Pausing { .. }) && self.left_open.is_some() {
            self.begin(now);
            self.take_over(now);
        }
        self.act(now);
    }

    /// What we have open, for whoever starts after us.
    pub(super) fn what_is_open(&self) -> Option<LeftOpen> {
        let up = match &self.state {
            State::Down | State::Pausing { .. } => return self.left_open,
            State::Dialling { .. } | State::HangingUp { up: None, .. } => {
                return Some(LeftOpen {
                    began_millis: self.state_since.as_millis(),
                    up: false,
                    millis: 0,
                    since_millis: 0,
                });
            }
            State::Up(up) | State::Finishing { up, .. } | State::HangingUp { up: Some(up), .. } => {
                up
            }
        };
        if !up.ours {
            return self.left_open;
        }
        let millis = up.on_line(up.charged_to).as_millis();
        Some(LeftOpen {
            began_millis: up.since.wall.as_millis(),
            up: true,
            millis: u64::try_from(millis).unwrap_or(u64::MAX),
            since_millis: 0,
        })
    }

    /// Until when nothing is dialled, so that what we have open is seen first.
    pub(super) fn looks_until(&self) -> Option<Instant> {
        self.left_open.map(|_| self.started_at + LOOK_PATIENCE)
    }

    /// It is there, and ours.
    pub(super) fn has_left_it(&self) -> bool {
        self.left_open.is_some() && self.presence == Presence::Selected
    }

    /// Forgets what we had open, if it is seen not to be there.
    pub(super) fn look_for_what_we_left(&mut self, now: Now) {
        let Some(left) = self.left_open else { return };
        // A dial that was under way may still come to something.
        let settled = left.up || now.instant >= self.started_at + DIAL_PATIENCE;
        if settled && self.presence != Presence::Selected {
            self.left_open = None;
            self.outputs.push_back(Output::Keep);
        }
    }

    /// The driver could not hang up, or did not answer. After [`HANG_UP_TRIES`] it is asked no
    /// more, but by a stop, which has a limit of its own.
    pub(super) fn hang_up_failed(&mut self, now: Now, why: String, again_in: Duration) {
        let State::HangingUp { failures, .. } = &mut self.state else {
            return;
        };
        *failures += 1;
        if self.stopping || *failures < HANG_UP_TRIES {
            let failed = LinkFact::HangUpFailed { why, again_in };
            self.outputs.push_back(Output::Report(failed));
            return;
        }
        let given_up = LinkFact::HangUpGivenUp {
            why,
            tries: HANG_UP_TRIES,
        };
        self.outputs.push_back(Output::Report(given_up));
        self.outputs.push_back(Output::GiveUp);
        // The driver looks first. What was seen before the dial is old.
        self.presence = Presence::None;
        self.not_before = self.not_before.max(now.instant + LOOK_PATIENCE);
        self.gone(now, None);
        // What it was up for is charged, and stands in the history.
        self.left_open = Some(LeftOpen {
            began_millis: now.wall.as_millis(),
            up: true,
            millis: 0,
            since_millis: 0,
        });
        self.outputs.push_back(Output::Keep);
    }

    pub(super) fn take_over(&mut self, now: Now) {
        let Some(left) = self.left_open.take() else {
            return;
        };
        self.outputs.push_back(Output::TakeOver);
        let since = Duration::from_millis(left.since_millis);
        if left.up {
            // The same time on line, with what it has used of its budget.
            self.budget.charge(now.wall, since, 0);
            self.comes_up(now, true, Reason::LeftOpen, None);
        } else {
            self.opened(now, true, Reason::LeftOpen, None);
            self.budget.charge(now.wall, since, 0);
        }
        if let State::Up(up) = &mut self.state {
            up.since.wall = WallTime::from_millis(left.began_millis);
            up.before = Duration::from_millis(left.millis.saturating_add(left.since_millis));
        }
    }
}
