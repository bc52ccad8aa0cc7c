//! Refusals of what moves no mail: commands that are none, ETRN for what is not the
//! client's, ATRN of who has not said who it is.
//!
//! Each costs us what it costs, and it costs the client nothing: who is answered at once
//! asks again at once, tens of thousands of times in a second, and comes back when it is
//! dismissed. So the core is asked how long the client waits for the no, since it knows
//! what the client did in its other sessions. The client waits by a deadline of ours:
//! nothing is read from it, and nothing is computed.
//!
//! What is refused of a transaction (a sender, a recipient, a message) is not told here:
//! who brings mail is not to wait for what somebody else's address is worth.

use std::time::Duration;

use super::transaction::Open;
use super::{Output, Session, State};
use crate::mail::Receipt;
use crate::smtp::reply::{self, Refusal};

impl<R: Receipt> Session<R> {
    /// Whether a pause keeps an answer back.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(
            self.state,
            State::Pausing { .. } | State::LoginRefused { .. }
        )
    }

    /// Says no, when the core lets it. Last in a handler.
    pub(super) fn rebuff(&mut self, refusal: Refusal) {
        if matches!(self.state, State::Commands(Open::Nothing)) {
            self.state = State::AskedPause(Box::new(refusal));
            self.outputs.push_back(Output::Ask);
        } else {
            self.refuse(&refusal);
        }
    }

    /// The core's answer.
    pub(super) fn pause(&mut self, pause: Duration) {
        let refusal = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::AskedPause(refusal) => refusal,
            state => panic!("a pause that was not asked for, in {state:?}"),
        };
        if pause.is_zero() {
            self.state = State::Commands(Open::Nothing);
            self.refuse(&refusal);
        } else {
            // What was said before is not to wait with it.
            self.flush();
            let until = self.now.instant + pause;
            self.state = State::Pausing { until, refusal };
        }
    }

    /// The pause is over.
    pub(super) fn rebuff_is_told(&mut self) {
        self.waiting_since = self.now.instant;
        let refusal = match std::mem::replace(&mut self.state, State::Commands(Open::Nothing)) {
            State::Pausing { refusal, .. } => refusal,
            state => unreachable!("no pause ends in {state:?}"),
        };
        self.counts.pauses += 1;
        if self.counts.pauses >= self.settings.pauses_max {
            self.dismiss(&reply::TOO_MANY_ERRORS);
        } else {
            self.refuse(&refusal);
        }
    }
}
