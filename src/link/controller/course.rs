//! The course of a link: what follows from what is known, state by state.

use std::time::Duration;

use super::{
    Controller, DIAL_PATIENCE, DialFailure, Dialling, Existing, FINISH_PATIENCE, HANG_UP_AGAIN,
    HANG_UP_PATIENCE, Hope, KEEP_INTERVAL, Output, Presence, STABLE_AFTER, Series, State, TICK,
    TICK_LIMITED, Up, Wish,
};
use crate::link::budget::Left;
use crate::link::outing::Outing;
use crate::link::work::{Reason, Work};
use crate::report::{LinkFact, NextDial};
use crate::time::{Instant, Now, WallTime};

impl Controller {
    pub(super) fn begin(&mut self, now: Now) {
        self.now = now;
        let budget = &mut self.budget;
        if let State::Up(up) | State::Finishing { up, .. } | State::HangingUp { up: Some(up), .. } =
            &mut self.state
        {
            let passed = now.instant.since(up.charged_to);
            // What is less than a millisecond is charged with the next.
            let passed = Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(0));
            up.charged_to = up.charged_to + passed;
            if up.ours && !passed.is_zero() {
                budget.charge(now.wall, passed, 0);
            }
        }
    }

    /// Lets the state follow from what is known, until it stays.
    pub(super) fn act(&mut self, now: Now) {
        self.begin(now);
        while self.step(now) {}
    }

    fn step(&mut self, now: Now) -> bool {
        match &self.state {
            State::Down => self.step_down(now),
            State::Dialling { until, .. } => {
                let why = if self.stopping {
                    "the server is stopping"
                } else if self.held_down {
                    "by the operator"
                } else if now.instant >= *until {
                    "no outcome in time"
                } else {
                    return false;
                };
                let failed = !self.stopping && !self.held_down;
                self.hang_up(now, None, why.to_owned(), failed);
                true
            }
            State::Pausing { until } => {
                let (until, due) = (*until, now.instant >= *until);
                if self.has_left_it() || self.may_adopt(now) || self.may_dial(now).is_none() {
                    self.not_before = self.not_before.max(until);
                    self.enter(now, State::Down);
                    true
                } else {
                    due && self.dial(now)
                }
            }
            State::Up(_) => self.step_up(now),
            State::Finishing { .. } => self.step_finishing(now),
            State::HangingUp { .. } => self.step_hanging_up(now),
        }
    }

    fn step_finishing(&mut self, now: Now) -> bool {
        self.tick(now);
        let State::Finishing {
            up,
            why,
            until,
            quiet,
        } = &self.state
        else {
            return false;
        };
        if !*quiet && now.instant < *until && !self.has_gone(up) {
            return false;
        }
        if up.ours {
            let (up, why) = (up.clone(), why.clone());
            self.hang_up(now, Some(up), why, false);
        } else {
            self.gone(now, None);
        }
        true
    }

    fn step_hanging_up(&mut self, now: Now) -> bool {
        let State::HangingUp { until, asked, .. } = &mut self.state else {
            return false;
        };
        if now.instant < *until {
            return false;
        }
        *until = now.instant + HANG_UP_AGAIN;
        if std::mem::replace(asked, true) {
            let why = "the driver does not answer".to_owned();
            self.hang_up_failed(now, why, Duration::ZERO);
        }
        let goes_on = matches!(self.state, State::HangingUp { .. });
        if goes_on {
            self.outputs.push_back(Output::HangUp);
        }
        !goes_on
    }

    fn step_down(&mut self, now: Now) -> bool {
        if self.has_left_it() {
            self.take_over(now);
            return true;
        }
        if self.may_adopt(now) {
            self.opened(now, false, Reason::WasThere, None);
            return true;
        }
        let still_looks = (self.looks_until()).is_some_and(|until| now.instant < until);
        if self.is_usable() || now.instant < self.not_before || still_looks {
            return false;
        }
        self.may_dial(now).is_some() && self.dial(now)
    }

    fn step_up(&mut self, now: Now) -> bool {
        self.tick(now);
        let State::Up(up) = &mut self.state else {
            return false;
        };
        if now.instant >= up.since.instant + STABLE_AFTER {
            self.tries = 0;
        }
        if self.work.is_under_way() || self.occupied {
            up.idle_since = None;
        } else if up.idle_since.is_none() {
            up.idle_since = Some(now.instant);
        }
        let up = up.clone();
        if self.has_gone(&up) {
            self.gone(now, None);
            return true;
        }
        let spent = self.budget.left(now.wall).is_spent();
        let why = if self.held_down {
            "down by the operator".to_owned()
        } else if spent {
            // A budget for each time on line would let it be dialled, or used, again at once.
            self.not_before = now.instant + self.settings.series.series_pause;
            if !up.ours {
                self.adopt_after = self.not_before;
            }
            self.spent_sentence(now.wall)
        } else if !up.ours {
            return false;
        } else if self.stopping {
            "the server is stopping".to_owned()
        } else if let Some(most) = self.settings.at_most
            && up.on_line(now.instant) >= most
        {
            // Else what still waits would be a reason to dial at once.
            self.not_before = now.instant + self.settings.series.series_pause;
            format!("on line for {} s", most.as_secs())
        } else if up.until.is_some_and(|until| until <= now.wall) {
            if let Some(reason) = self.settings.go_up.reason(now.wall, &self.work) {
                // It would be dialled again at once.
                let State::Up(up) = &mut self.state else {
                    return false;
                };
                (up.until, up.reason) = (None, reason);
                return false;
            }
            "the window of the schedule is over".to_owned()
        } else if let Some(since) = up.idle_since
            && now.instant >= since + self.settings.idle
        {
            format!("no work for {} s", self.settings.idle.as_secs())
        } else {
            return false;
        };
        self.outputs
            .push_back(Output::Report(LinkFact::Finishing { why: why.clone() }));
        self.outputs.push_back(Output::Closing);
        let until = now.instant + FINISH_PATIENCE;
        self.enter(
            now,
            State::Finishing {
                up,
                why,
                until,
                quiet: false,
            },
        );
        true
    }

    /// Octets are counted, and the account is kept, from time to time.
    fn tick(&mut self, now: Now) {
        let limited = self.settings.budget.is_some_and(|b| b.octets.is_some());
        let (State::Up(up) | State::Finishing { up, .. }) = &mut self.state else {
            return;
        };
        if now.instant >= up.tick_at {
            up.tick_at = now.instant + if limited { TICK_LIMITED } else { TICK };
            self.outputs.push_back(Output::Measure);
        }
        if now.instant >= self.keep_at {
            self.keep_at = now.instant + KEEP_INTERVAL;
            self.outputs.push_back(Output::Keep);
        }
    }

    /// A connection that is there and is of the kind that is used.
    fn is_usable(&self) -> bool {
        match (self.settings.existing, self.presence) {
            (_, Presence::None) => false,
            // What is not ours to dial is there to be used.
            (_, Presence::Selected) if self.settings.dialling == Dialling::NotOurs => true,
            (Existing::Ignore, _) | (Existing::Selected, Presence::Other) => false,
            (Existing::Selected, Presence::Selected) | (Existing::Any, _) => true,
        }
    }

    fn may_adopt(&self, now: Now) -> bool {
        self.is_usable()
            && !self.held_down
            && !self.stopping
            && now.instant >= self.adopt_after
            && !self.budget.left_for_next(now.wall).is_spent()
    }

    fn has_gone(&self, up: &Up) -> bool {
        !up.ours && !self.is_usable()
    }

    /// Why the link should come up, and until when that holds.
    pub(super) fn reason(&self, now: Now) -> Option<Wish> {
        if self.stopping || self.held_down || self.settings.dialling == Dialling::NotOurs {
            return None;
        }
        let wish = self
            .wish
            .filter(|wish| wish.until.is_none_or(|until| until > now.wall));
        let by_work = || {
            let reason = self.settings.go_up.reason(now.wall, &self.work)?;
            Some(Wish {
                reason,
                until: None,
            })
        };
        wish.or_else(by_work)
    }

    /// The reason to dial, where nothing stands against it but time.
    fn may_dial(&mut self, now: Now) -> Option<Wish> {
        let wish = self.reason(now)?;
        if self.standby && wish.reason != Reason::ByHand {
            return None;
        }
        if self.budget.left_for_next(now.wall).is_spent() {
            if !std::mem::replace(&mut self.told_spent, true) {
                let why = self.spent_sentence(now.wall);
                self.outputs
                    .push_back(Output::Report(LinkFact::NotDialled { why }));
            }
            return None;
        }
        self.told_spent = false;
        Some(wish)
    }

    fn dial(&mut self, now: Now) -> bool {
        let Some(wish) = self.may_dial(now) else {
            return false;
        };
        if now.instant >= self.failed_at + self.settings.series.series_pause {
            self.tries = 0;
        }
        self.tries += 1;
        self.outputs.push_back(Output::Report(LinkFact::Dialling {
            why: wish.reason.to_string(),
            number: self.tries,
            of: self.settings.series.tries,
        }));
        // First: whoever starts after an end without a stop must know of it.
        self.outputs.push_back(Output::Keep);
        self.outputs.push_back(Output::Dial);
        let until = now.instant + DIAL_PATIENCE;
        self.enter(
            now,
            State::Dialling {
                reason: wish.reason,
                window_ends: wish.until,
                until,
            },
        );
        true
    }

    pub(super) fn opened(&mut self, now: Now, ours: bool, reason: Reason, until: Option<WallTime>) {
        self.budget.begin_window();
        // So that it is known by its number from now on.
        self.budget.charge(now.wall, Duration::ZERO, 0);
        self.comes_up(now, ours, reason, until);
    }

    pub(super) fn comes_up(
        &mut self,
        now: Now,
        ours: bool,
        reason: Reason,
        until: Option<WallTime>,
    ) {
        if ours {
            self.left_open = None;
            self.wish = None;
            // What was seen while it came up may have been this one: whatever is there when
            // it is down again is told then.
            self.presence = Presence::None;
        } else {
            self.tries = 0;
        }
        self.last_failure = None;
        self.keep_at = now.instant;
        self.enter(
            now,
            State::Up(Up {
                ours,
                reason,
                since: now,
                before: Duration::ZERO,
                until,
                idle_since: None,
                charged_to: now.instant,
                counter: None,
                octets: 0,
                sent: (self.work.sent, self.work.sent_octets),
                received: (self.work.received, self.work.received_octets),
                tick_at: now.instant,
            }),
        );
        self.outputs.push_back(Output::Report(LinkFact::Up {
            ours,
            why: reason.to_string(),
        }));
        self.outputs.push_back(Output::Opened { reason });
    }

    fn hang_up(&mut self, now: Now, up: Option<Up>, why: String, failed: bool) {
        self.outputs.push_back(Output::Measure);
        self.outputs.push_back(Output::HangUp);
        let until = now.instant + HANG_UP_PATIENCE;
        self.enter(
            now,
            State::HangingUp {
                up,
                why,
                until,
                asked: true,
                failures: 0,
                failed,
            },
        );
    }

    /// The link is down. `lost` says why, if it went of itself.
    pub(super) fn gone(&mut self, now: Now, lost: Option<String>) {
        let was_lost = lost.is_some();
        let (up, why) = match &self.state {
            State::Up(up) => (
                up.clone(),
                lost.unwrap_or_else(|| "the connection is gone".to_owned()),
            ),
            State::Finishing { up, why, .. }
            | State::HangingUp {
                up: Some(up), why, ..
            } => (up.clone(), why.clone()),
            State::HangingUp {
                up: None,
                why,
                failed,
                ..
            } => {
                let failure = DialFailure {
                    why: why.clone(),
                    hope: Hope::Again,
                };
                if *failed {
                    self.failed(now, failure);
                } else {
                    self.tries = 0;
                    self.enter(now, State::Down);
                    self.outputs.push_back(Output::Keep);
                }
                return;
            }
            // A dial has its own outcome.
            State::Down | State::Dialling { .. } | State::Pausing { .. } => return,
        };
        let was_up = matches!(self.state, State::Up(_));
        let up_for = up.on_line(now.instant);
        let messages = self.work.sent.saturating_sub(up.sent.0);
        let message_octets = self.work.sent_octets.saturating_sub(up.sent.1);
        let received = self.work.received.saturating_sub(up.received.0);
        let received_octets = self.work.received_octets.saturating_sub(up.received.1);
        self.outings.remember(Outing {
            began_millis: up.since.wall.as_millis(),
            ours: up.ours,
            why: up.reason.to_string(),
            ended: why.clone(),
            millis: u64::try_from(up_for.as_millis()).unwrap_or(u64::MAX),
            octets: up.octets,
            messages,
            message_octets,
            received,
            received_octets,
        });
        self.keep_at = Instant::NEVER;
        if up.ours {
            // Nobody has told of it since it came up: what was seen before is old.
            self.presence = Presence::None;
        }
        self.outputs.push_back(Output::Closed);
        self.outputs.push_back(Output::Keep);
        self.enter(now, State::Down);
        // What a line did before it broke is done: when it had nothing more to do it is as if
        // it had been hung up. One that broke soon and had carried nothing is no proof of that.
        let is_done =
            up.idle_since.is_some() && (up_for >= STABLE_AFTER || messages > 0 || received > 0);
        let comes_back = up.ours && was_lost && was_up && !is_done;
        // As good as a dial that failed, and followed by what follows on one.
        let too_short = comes_back && up_for < STABLE_AFTER;
        if comes_back {
            if matches!(
                up.reason,
                Reason::Schedule | Reason::Collector | Reason::ByHand
            ) {
                self.wish = self.wish.or(Some(Wish {
                    reason: up.reason,
                    until: up.until,
                }));
            }
            if !too_short {
                self.not_before = self
                    .not_before
                    .max(now.instant + self.settings.series.pause);
            }
        } else {
            self.tries = 0;
        }
        let next = (!too_short).then(|| self.what_waits(now)).flatten();
        self.outputs.push_back(Output::Report(LinkFact::Down {
            ours: up.ours,
            why: why.clone(),
            up_for,
            octets: up.octets,
            messages,
            received,
            next,
        }));
        if too_short {
            let hope = Hope::Again;
            self.failed(now, DialFailure { why, hope });
        }
    }

    /// Whether there is a reason to dial when what was on the wire has come back.
    fn will_have_reason(&self, now: Now) -> bool {
        let work = Work {
            ready: self.work.ready + self.work.in_flight,
            ..self.work
        };
        self.reason(now).is_some() || self.settings.go_up.reason(now.wall, &work).is_some()
    }

    /// What waits for the link, which is down now, and for how long.
    fn what_waits(&self, now: Now) -> Option<String> {
        let waits = match self.work.waiting {
            0 => None,
            1 => Some("1 message waits".to_owned()),
            n => Some(format!("{n} messages wait")),
        };
        if self.stopping || waits.is_none() && self.wish.is_none() {
            return waits;
        }
        let waits = waits.unwrap_or_else(|| "there is more to do".to_owned());
        let until = if self.held_down {
            "until it is brought up by hand or by the schedule".to_owned()
        } else if self.settings.dialling == Dialling::NotOurs {
            "until the link is there".to_owned()
        } else if self.budget.left_for_next(now.wall).is_spent() {
            match self.budget.period_ends(now.wall) {
                Some(end) => format!("until {end}"),
                None => "for the next time on line".to_owned(),
            }
        } else if self.will_have_reason(now) && !self.standby {
            let pause = self.not_before.since(now.instant).as_secs();
            format!("and it is dialled again in {pause} s")
        } else {
            "for the next reason to go on line".to_owned()
        };
        Some(format!("{waits} {until}"))
    }

    /// A dial has failed: the next one after a pause, or the series is over.
    pub(super) fn failed(&mut self, now: Now, failure: DialFailure) {
        let Series {
            pause,
            tries,
            series_pause,
        } = self.settings.series;
        self.failed_at = now.instant;
        let over = self.tries >= tries || failure.hope == Hope::NotSoon;
        let next = if over {
            NextDial::Series {
                pause: series_pause,
            }
        } else {
            NextDial::Again {
                number: self.tries + 1,
                of: tries,
                pause,
            }
        };
        self.last_failure = Some(failure.why.clone());
        // It is open no more.
        self.outputs.push_back(Output::Keep);
        self.outputs.push_back(Output::Report(LinkFact::DialFailed {
            why: failure.why,
            next,
        }));
        if over {
            self.tries = 0;
            self.not_before = now.instant + series_pause;
            // A collector is due again some time.
            let is_over = |wish: &Wish| matches!(wish.reason, Reason::ByHand | Reason::Collector);
            self.wish = self.wish.filter(|wish| !is_over(wish));
            self.enter(now, State::Down);
        } else {
            let until = now.instant + pause;
            self.enter(now, State::Pausing { until });
        }
    }

    fn enter(&mut self, now: Now, state: State) {
        self.state = state;
        self.state_since = now.wall;
    }

    pub(super) fn spent_sentence(&self, wall: WallTime) -> String {
        let Left { octets, .. } = self.budget.left(wall);
        let what = if octets == Some(0) { "octets" } else { "time" };
        match self.budget.period_ends(wall) {
            Some(end) => format!("the budget's {what} is used up until {end}"),
            None => format!("the budget's {what} for one time on line is used up"),
        }
    }
}
