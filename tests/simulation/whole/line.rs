//! The line of a site: dialled, slow, lost now and then, and paid by the second.

use super::plan::SECOND;

/// How the line really is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Down,
    Dialling,
    Up,
    HangingUp,
}

/// What a line does by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// A dial comes to its end.
    Answer,
    HungUp,
    /// It breaks.
    Break,
    /// The program hears of that.
    Heard,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) state: State,
    /// Changes with the state: what was meant for an earlier one is void.
    pub(super) number: u64,
    /// The program that lives now has opened it, then.
    pub(super) opened_at: Option<u64>,
    /// When each direction is free again.
    pub(super) busy: [u64; 2],
    pub(super) octets: u64,
    /// Nanoseconds for which the program had it open, on this day of its calendar.
    charged: u64,
    /// What a program that died may have forgotten of that.
    forgotten: u64,
    day: i64,
    pub(super) breaks_left: u64,
    pub(super) ups: u32,
}

impl Line {
    pub(super) fn new(breaks: u64) -> Self {
        Self {
            state: State::Down,
            number: 0,
            opened_at: None,
            busy: [0; 2],
            octets: 0,
            charged: 0,
            forgotten: 0,
            day: 0,
            breaks_left: breaks,
            ups: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn become_(&mut self, state: State) {
        self.state = state;
        self.number += 1;
    }

    /// The program no longer has it open, or another day begins.
    pub(super) fn charge(&mut self, now: u64, day: i64) {
        if let Some(opened) = self.opened_at {
            self.charged += now - opened;
            self.opened_at = Some(now);
        }
        if day != self.day {
            self.day = day;
            self.charged = 0;
            self.forgotten = 0;
        }
    }

    /// A crash forgets what was not yet kept.
    pub(super) fn forget(&mut self, nanos: u64) {
        self.forgotten += nanos;
    }

    /// The budget holds but for what is being finished at its end.
    pub(super) fn check(&self, budget_seconds: u64, over: u64) {
        assert!(
            self.charged <= budget_seconds * SECOND + over + self.forgotten,
            "on line for {} s of a day, with a budget of {budget_seconds} s",
            self.charged / SECOND
        );
    }
}
