//! The machine of one link: when it is dialled, how often, and when it is hung up.
//!
//! # Contract
//! Every input takes `now`. After each, [`Controller::poll`] until `None`; then wait for
//! the next input, at the latest until [`Controller::deadline`], when
//! [`Controller::timer`] is the input.
//!
//! [`Output::Dial`] is answered by [`Controller::dialled`], once, unless
//! [`Output::HangUp`] follows; that is answered by [`Controller::hung_up`]. A link that
//! goes of itself is told by [`Controller::lost`], a connection that somebody else opened
//! or closed by [`Controller::presence`]. [`Output::TakeOver`] and [`Output::GiveUp`] have no
//! answer.
//!
//! # How a link goes up and down
//!
//! | state | ends |
//! |---|---|
//! | down | with a reason to go up (what waits, the schedule, the operator), or with a connection that is there and may be used, or that we left open |
//! | dialling | with the driver's outcome, or after [`DIAL_PATIENCE`] |
//! | pausing | when the pause between two dials is over, or the reason is gone |
//! | up | when there was no work for `idle`, after `at_most`, at the end of the window, with the budget, by the operator, or of itself |
//! | finishing | when what was being sent is sent, or after [`FINISH_PATIENCE`] |
//! | hanging up | when the driver says that it is down; it is asked again each [`HANG_UP_AGAIN`], [`HANG_UP_TRIES`] times, or for as long as a stop waits |
//!
//! # Invariants
//! - Without a reason, or without budget, nothing is dialled.
//! - After `tries` dials that failed there is none for `series_pause`, but by the operator.
//! - What we opened we hang up, also over an end without a stop, or if that failed for long
//!   (`left_open`); what we did not open we never do.
//! - Whatever the driver does, or does not answer, no state but down and up lasts for ever.
//! - Each time on line is told with [`Output::Opened`], [`Output::Closing`] where there is
//!   time for it, and [`Output::Closed`].
//!
//! What this module does not do: it dials nothing and knows no mail; what waits is told
//! by [`Controller::work`].

use std::collections::VecDeque;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::budget::Budget;
use super::outing::{LeftOpen, Memory};
use super::work::{Reason, Work};
use crate::time::{Instant, Now, WallTime};

mod course;
mod left_open;
mod settings;
mod status;

pub use settings::{
    DialFailure, Dialling, Existing, Hope, Order, Output, Presence, Refusal, Series, Settings,
};
pub use status::{Phase, Status};

/// Longest time for one dial. A modem takes 60 seconds, a satellite terminal that must
/// find its satellite twice that.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(180);
/// How long what is being sent may take when the link is to go down. At 33,600 bit/s a
/// message of 200 KiB passes in that time; a larger one is cut, and sent again.
pub const FINISH_PATIENCE: Duration = Duration::from_secs(60);
/// How long a driver may take to hang up before it is asked again: it has time to tell, to
/// wait, and to kill.
pub const HANG_UP_PATIENCE: Duration = Duration::from_secs(40);
/// Between two attempts to hang up.
pub const HANG_UP_AGAIN: Duration = Duration::from_secs(60);
/// How often in a row: then it is taken for down. So that a program that always says that
/// it failed does not keep the mail for ever; if the link is seen to be up, it is ours still.
pub const HANG_UP_TRIES: u32 = 5;
/// A link that breaks earlier than this has not come up in earnest: it is one dial of
/// the series.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);
/// How often octets are counted while there is a limit on them.
pub const TICK_LIMITED: Duration = Duration::from_secs(1);
/// How often octets are counted otherwise.
pub const TICK: Duration = Duration::from_secs(10);
/// How often what was spent is kept. A crash forgets so much of it at most.
pub const KEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The wall clock may be set: what hangs on it is looked at so often at least.
pub const WALL_CHECK: Duration = Duration::from_secs(60);

/// A reason to go up that lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wish {
    reason: Reason,
    /// The window ends then.
    until: Option<WallTime>,
}

/// A time on line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Up {
    ours: bool,
    reason: Reason,
    since: Now,
    /// Time on line before the server ended and began anew.
    before: Duration,
    /// It ends then, by the schedule.
    until: Option<WallTime>,
    idle_since: Option<Instant>,
    /// Time is charged up to here.
    charged_to: Instant,
    /// What the interface's counter last showed.
    counter: Option<u64>,
    octets: u64,
    /// What the cores had sent when it began: messages, octets.
    sent: (u64, u64),
    /// And received.
    received: (u64, u64),
    tick_at: Instant,
}

impl Up {
    fn on_line(&self, until: Instant) -> Duration {
        self.before + until.since(self.since.instant)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Down,
    Dialling {
        reason: Reason,
        window_ends: Option<WallTime>,
        until: Instant,
    },
    Pausing {
        until: Instant,
    },
    Up(Up),
    Finishing {
        up: Up,
        why: String,
        until: Instant,
        quiet: bool,
    },
    HangingUp {
        /// `None`: it was still being dialled.
        up: Option<Up>,
        why: String,
        until: Instant,
        /// The driver has not answered yet.
        asked: bool,
        /// So often it has failed.
        failures: u32,
        /// The dial counts as one that failed.
        failed: bool,
    },
}

/// The machine of one link.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    budget: Budget,
    outings: Memory,
    /// What we opened before this start, or could not hang up, until it was seen.
    left_open: Option<LeftOpen>,
    /// When we began.
    started_at: Instant,
    state: State,
    /// Since when.
    state_since: WallTime,
    presence: Presence,
    wish: Option<Wish>,
    /// Dials of this series so far.
    tries: u32,
    /// When the last of them failed. A reason that goes and comes again continues the
    /// series; after the pause between two it is a new one.
    failed_at: Instant,
    /// After a series.
    not_before: Instant,
    /// A connection that others opened is not used before, once it has used up the budget.
    adopt_after: Instant,
    /// Another link goes first.
    standby: bool,
    /// Down by the operator.
    held_down: bool,
    stopping: bool,
    work: Work,
    /// Something beyond mail needs the link: a collector.
    occupied: bool,
    /// The operator was told that the budget stands against dialling.
    told_spent: bool,
    keep_at: Instant,
    last_failure: Option<String>,
    now: Now,
    outputs: VecDeque<Output>,
}

impl Controller {
    /// A link that is down for all that is known yet, with what is remembered of it.
    #[must_use]
    pub fn new(settings: Settings, zone: TimeZone, memory: Memory, now: Now) -> Self {
        let Memory {
            spent,
            outings,
            left_open,
        } = memory;
        let left_open = left_open.filter(|_| settings.dialling == Dialling::Ours);
        Self {
            budget: Budget::new(settings.budget, zone, spent),
            settings,
            outings: Memory {
                outings,
                ..Memory::default()
            },
            left_open,
            started_at: now.instant,
            state: State::Down,
            state_since: now.wall,
            presence: Presence::None,
            wish: None,
            tries: 0,
            failed_at: Instant::START,
            not_before: Instant::START,
            adopt_after: Instant::START,
            standby: false,
            held_down: false,
            stopping: false,
            work: Work::default(),
            occupied: false,
            told_spent: false,
            keep_at: Instant::NEVER,
            last_failure: None,
            now,
            outputs: VecDeque::new(),
        }
    }

    /// What there is to do, of all data cores together.
    pub fn work(&mut self, now: Now, work: Work) {
        self.work = work;
        self.act(now);
    }

    /// Whether something beyond mail needs the link.
    pub fn occupied(&mut self, now: Now, occupied: bool) {
        self.occupied = occupied;
        self.act(now);
    }

    /// The schedule says that the link may be dialled, until the window ends.
    pub fn occasion(&mut self, now: Now, window_ends: WallTime) {
        self.held_down = false;
        match &mut self.state {
            State::Up(up) => {
                up.until = up.until.map(|until| until.max(window_ends));
                // It is on line for this too, and waits for the work that comes of it.
                up.idle_since = None;
            }
            _ => {
                let by_hand = self.wish.filter(|wish| wish.reason == Reason::ByHand);
                self.wish = Some(by_hand.unwrap_or(Wish {
                    reason: Reason::Schedule,
                    until: Some(window_ends),
                }));
            }
        }
        self.act(now);
    }

    /// A collector is due that runs while a link is up. Unlike the schedule it does not
    /// stand against the operator's word.
    pub fn collector_is_due(&mut self, now: Now) {
        if !self.held_down && !matches!(self.state, State::Up(_)) {
            self.wish = self.wish.or(Some(Wish {
                reason: Reason::Collector,
                until: None,
            }));
        }
        self.act(now);
    }

    /// The operator says.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn order(&mut self, now: Now, order: Order) -> Result<(), Refusal> {
        match order {
            Order::Down => {
                self.held_down = true;
                self.wish = None;
            }
            Order::Up => {
                let left = self.budget.left_for_next(now.wall);
                let down = !matches!(self.state, State::Up(_));
                let refused = if self.stopping {
                    Some("the server is stopping".to_owned())
                } else if down && left.is_spent() {
                    Some(self.spent_sentence(now.wall))
                } else if down
                    && self.settings.dialling == Dialling::NotOurs
                    && self.presence == Presence::None
                {
                    Some(
                        "this link is brought up by somebody else; it is used as soon as it is \
                         there"
                            .to_owned(),
                    )
                } else {
                    None
                };
                if let Some(why) = refused {
                    return Err(Refusal(why));
                }
                self.held_down = false;
                if self.state == State::Down {
                    self.tries = 0;
                }
                match &mut self.state {
                    // It stays as long as there is work, whatever the schedule says.
                    State::Up(up) => (up.reason, up.until) = (Reason::ByHand, None),
                    state => {
                        if let State::Dialling {
                            reason,
                            window_ends,
                            ..
                        } = state
                        {
                            (*reason, *window_ends) = (Reason::ByHand, None);
                        }
                        // No pause holds for an order.
                        self.not_before = Instant::START;
                        self.wish = Some(Wish {
                            reason: Reason::ByHand,
                            until: None,
                        });
                    }
                }
            }
        }
        self.act(now);
        Ok(())
    }

    /// Which connection is there that we did not open.
    pub fn presence(&mut self, now: Now, presence: Presence) {
        if presence == Presence::None && self.settings.dialling == Dialling::NotOurs {
            self.held_down = false;
        }
        if presence == Presence::None {
            // The next one is another time on line.
            self.adopt_after = Instant::START;
        }
        self.presence = presence;
        self.look_for_what_we_left(now);
        self.act(now);
    }

    /// The outcome of [`Output::Dial`].
    pub fn dialled(&mut self, now: Now, result: Result<(), DialFailure>) {
        self.begin(now);
        // After a hang-up that came first, what the dial came to is of no interest.
        if let State::Dialling {
            reason,
            window_ends,
            ..
        } = self.state
        {
            match result {
                Ok(()) => self.opened(now, true, reason, window_ends),
                Err(failure) => self.failed(now, failure),
            }
        }
        self.act(now);
    }

    /// The outcome of [`Output::HangUp`].
    pub fn hung_up(&mut self, now: Now, result: Result<(), String>) {
        self.begin(now);
        if let State::HangingUp { until, asked, .. } = &mut self.state {
            match result {
                Ok(()) => self.gone(now, None),
                Err(why) => {
                    *until = now.instant + HANG_UP_AGAIN;
                    *asked = false;
                    self.hang_up_failed(now, why, HANG_UP_AGAIN);
                }
            }
        }
        self.act(now);
    }

    /// The link that we opened has gone of itself.
    pub fn lost(&mut self, now: Now, why: String) {
        self.begin(now);
        self.gone(now, Some(why));
        self.act(now);
    }

    /// How many octets have passed the interface. `None`: nobody counts them.
    pub fn metered(&mut self, now: Now, counter: Option<u64>) {
        self.begin(now);
        let (State::Up(up) | State::Finishing { up, .. } | State::HangingUp { up: Some(up), .. }) =
            &mut self.state
        else {
            return;
        };
        if let Some(counter) = counter {
            // A counter that goes backwards is a new interface's.
            let before = up.counter.replace(counter);
            let passed = match before {
                None => 0,
                Some(before) => counter.checked_sub(before).unwrap_or(counter),
            };
            up.octets = up.octets.saturating_add(passed);
            self.budget.charge(now.wall, Duration::ZERO, passed);
        }
        self.act(now);
    }

    /// Nothing is under way any more, after [`Output::Closing`]. False: it was not waited
    /// for.
    pub fn quiet(&mut self, now: Now) -> bool {
        let State::Finishing { quiet, .. } = &mut self.state else {
            return false;
        };
        let news = !std::mem::replace(quiet, true);
        self.act(now);
        news
    }

    /// Another link has come up, which serves the schedule's reason for this one too.
    pub fn relieved(&mut self, now: Now) {
        let served = |wish: &Wish| matches!(wish.reason, Reason::Schedule | Reason::Collector);
        self.wish = self.wish.filter(|wish| !served(wish));
        self.act(now);
    }

    /// Another link goes first: this one is dialled by hand only.
    pub fn standby(&mut self, now: Now, standby: bool) {
        if self.standby != standby {
            self.standby = standby;
            self.act(now);
        }
    }

    /// The server stops: nothing is dialled any more, and what we opened goes down.
    pub fn stop(&mut self, now: Now) {
        self.stopping = true;
        self.wish = None;
        self.act(now);
    }

    /// The deadline has come.
    pub fn timer(&mut self, now: Now) {
        self.act(now);
    }

    /// The next thing to do or to know.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether mail may go over it.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether we have something open that must be hung up.
    #[must_use]
    pub const fn owes_hang_up(&self) -> bool {
        match &self.state {
            State::Down | State::Pausing { .. } => false,
            State::Dialling { .. } | State::HangingUp { .. } => true,
            State::Up(up) | State::Finishing { up, .. } => up.ours,
        }
    }

    /// Whether it could be dialled now if there were a reason: links behind it wait.
    #[must_use]
    pub fn is_able(&self, now: Now) -> bool {
        self.settings.dialling == Dialling::Ours
            && !self.held_down
            && (now.instant >= self.not_before
                || !matches!(self.state, State::Down | State::Pausing { .. }))
            && !self.budget.left_for_next(now.wall).is_spent()
    }

    /// Whether it is up, or will be without anything more that happens.
    #[must_use]
    pub fn is_coming(&self, now: Now) -> bool {
        match self.state {
            State::Up(_) | State::Dialling { .. } | State::Pausing { .. } => true,
            State::Down | State::Finishing { .. } | State::HangingUp { .. } => {
                self.reason(now).is_some() && !self.budget.left_for_next(now.wall).is_spent()
            }
        }
    }

    /// What the operator decides about it.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the present period of the budget ends, if the calendar says so.
    #[must_use]
    pub fn period_ends(&self, wall: WallTime) -> Option<WallTime> {
        self.budget.period_ends(wall)
    }

    /// What is to be kept over a restart.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            spent: self.budget.account().to_vec(),
            outings: self.outings.outings.clone(),
            left_open: self.what_is_open(),
        }
    }

    /// When [`Controller::timer`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wall = |at: WallTime| self.now.instant + at.since(self.now.wall).min(WALL_CHECK);
        let mut all: [Option<Instant>; 6] = [None; 6];
        match &self.state {
            State::Down => {
                if self.reason(self.now).is_some() {
                    // If it is not the pause it is the budget, whose period may end.
                    let pausing = self.not_before > self.now.instant;
                    let check = self.now.instant + WALL_CHECK;
                    all[0] = Some(if pausing { self.not_before } else { check });
                    all[1] = self.looks_until().filter(|until| *until > self.now.instant);
                } else if self.settings.dialling == Dialling::Ours
                    && !self.held_down
                    && !self.stopping
                {
                    all[0] = self.settings.go_up.due(&self.work).map(wall);
                }
                if self.presence != Presence::None {
                    all[2] = Some(self.now.instant + WALL_CHECK);
                }
            }
            State::Dialling { until, .. }
            | State::HangingUp { until, .. }
            | State::Pausing { until } => all[0] = Some(*until),
            State::Up(up) => {
                all[0] = Some(up.tick_at);
                if up.ours {
                    let most = self.settings.at_most;
                    all[1] = most.map(|most| up.since.instant + most.saturating_sub(up.before));
                    all[2] = up.until.map(wall);
                    all[3] = up.idle_since.map(|since| since + self.settings.idle);
                    let left = self.budget.left(self.now.wall).time;
                    all[4] = left.map(|left| self.now.instant + left);
                }
                all[5] = (self.keep_at != Instant::NEVER).then_some(self.keep_at);
            }
            State::Finishing { until, up, .. } => {
                all[0] = Some(*until);
                all[1] = Some(up.tick_at);
            }
        }
        all.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
