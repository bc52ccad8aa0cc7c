//! Random worlds for one link: a driver that dials, fails, hangs and loses the line, or never
//! answers anything, mail that comes, a schedule, an operator, and a clock that jumps. Each
//! world is made from one seed, which a failure names.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::budget::{Limits, Money, Per};
use super::controller::{
    Controller, DIAL_PATIENCE, DialFailure, Dialling, Existing, FINISH_PATIENCE, HANG_UP_AGAIN,
    HANG_UP_PATIENCE, HANG_UP_TRIES, Hope, Order, Output, Phase, Presence, STABLE_AFTER, Series,
    Settings, TICK_LIMITED,
};
use super::outing::Memory;
use super::work::{GoUp, Work};
use crate::report::LinkFact;
use crate::time::{Instant, Now, WallTime};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the line really does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Down,
    Dialling {
        outcome_at: Option<Instant>,
    },
    /// We opened it.
    Up {
        since: Instant,
    },
    /// It was told to hang up.
    Closing {
        outcome_at: Option<Instant>,
        open: bool,
    },
}

struct World {
    seed: u64,
    random: Random,
    now: Now,
    controller: Controller,
    settings: Settings,
    /// The driver answers nothing, ever.
    mute: bool,
    /// It rarely manages to hang up.
    stubborn: bool,
    /// The longest time in the present state, but for being down and up.
    phase_until: Option<(Phase, Instant)>,
    /// What could not be hung up is there still.
    left: bool,
    /// What was charged when it was taken over.
    charged_before: u64,
    line: Line,
    presence: Presence,
    work: Work,
    /// Mail may go.
    gate: bool,
    /// The gate closes.
    closing: bool,
    /// A row of the schedule says so, up to then.
    window: Option<WallTime>,
    ordered_up: bool,
    /// Dials of the present series.
    dials: u32,
    series_over_at: Option<Instant>,
    failed_at: Option<Instant>,
    stopping: bool,
    /// As the line really was open by us, in this period of the budget.
    charged_millis: u64,
    octets: u64,
    octets_in_period: u64,
    /// Totals, to see that the worlds are worth something.
    ups: u32,
    adopted: u32,
    hang_ups: u32,
    failures: u32,
    budget_stops: u32,
    given_up: u32,
    taken_over: u32,
    /// Lines that broke when all was done.
    done: u32,
    /// What had gone when the line came up.
    sent_before: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut maybe = |n: u64| (random.below(2) == 0).then(|| random.below(n) + 1);
        let go_up = GoUp {
            messages: maybe(10),
            octets: maybe(100_000),
            age: maybe(3600).map(seconds),
            priority: maybe(5).map(|n| n as i8),
        };
        let at_most = maybe(1800).map(|n| seconds(10 + n));
        let limits = Limits {
            per: match random.below(3) {
                0 => Per::Window,
                1 => Per::Day,
                _ => Per::Month,
            },
            time: (!random.one_in(3)).then(|| seconds(60 + random.below(3600))),
            octets: random.one_in(2).then(|| 10_000 + random.below(1_000_000)),
            minute_price: Some(Money(500)),
            money: random.one_in(3).then(|| Money(500 + random.below(30_000))),
        };
        let settings = Settings {
            dialling: if random.one_in(8) {
                Dialling::NotOurs
            } else {
                Dialling::Ours
            },
            existing: match random.below(3) {
                0 => Existing::Ignore,
                1 => Existing::Selected,
                _ => Existing::Any,
            },
            series: Series {
                pause: seconds(1 + random.below(60)),
                tries: 1 + random.below(5) as u32,
                series_pause: seconds(60 + random.below(1800)),
            },
            go_up,
            idle: seconds(1 + random.below(120)),
            at_most,
            budget: random.one_in(2).then_some(limits),
        };
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a time zone");
        let now = Now {
            instant: Instant::from_nanos(1_000_000_000),
            // Some hours before the clock is put back.
            wall: WallTime::from_millis(1_792_886_400_000),
        };
        Self {
            seed,
            controller: Controller::new(settings, zone, Memory::default(), now),
            mute: random.one_in(8),
            stubborn: random.one_in(4),
            phase_until: None,
            left: false,
            charged_before: 0,
            random,
            now,
            settings,
            line: Line::Down,
            presence: Presence::None,
            work: Work::default(),
            gate: false,
            closing: false,
            window: None,
            ordered_up: false,
            dials: 0,
            series_over_at: None,
            failed_at: None,
            stopping: false,
            charged_millis: 0,
            octets: 0,
            octets_in_period: 0,
            ups: 0,
            adopted: 0,
            hang_ups: 0,
            failures: 0,
            budget_stops: 0,
            given_up: 0,
            taken_over: 0,
            done: 0,
            sent_before: 0,
        }
    }

    #[track_caller]
    fn demand(&self, holds: bool, what: &str) {
        assert!(holds, "seed {}: {what}; {:?}", self.seed, self.controller);
    }

    /// Performs what the controller wants.
    fn perform(&mut self) {
        let mut given_up = false;
        loop {
            let Some(output) = self.controller.poll() else {
                // A driver looks soon.
                if !std::mem::take(&mut given_up) {
                    break;
                }
                self.controller.presence(self.now, self.presence);
                continue;
            };
            match output {
                Output::Dial => self.dial(),
                Output::HangUp => {
                    let open = match self.line {
                        Line::Up { .. } => true,
                        Line::Closing { open, .. } => open,
                        Line::Dialling { .. } => false,
                        Line::Down => {
                            // It was lost, and the hang-up crossed that; or asked again.
                            self.line = Line::Closing {
                                outcome_at: Some(self.now.instant),
                                open: false,
                            };
                            continue;
                        }
                    };
                    self.hang_ups += 1;
                    let answers = !self.mute && !self.random.one_in(10);
                    let after = Duration::from_millis(self.random.below(5000));
                    let outcome_at = answers.then(|| self.now.instant + after);
                    self.line = Line::Closing { outcome_at, open };
                }
                Output::Measure => {
                    let counted = (!self.random.one_in(20)).then_some(self.octets);
                    if !self.mute {
                        self.controller.metered(self.now, counted);
                    }
                }
                Output::Opened { .. } => {
                    self.demand(!self.gate, "opened twice");
                    let ours = matches!(self.line, Line::Up { .. });
                    let there = match self.settings.existing {
                        _ if self.settings.dialling == Dialling::NotOurs => {
                            self.presence != Presence::None
                                && (self.presence == Presence::Selected
                                    || self.settings.existing == Existing::Any)
                        }
                        Existing::Ignore => false,
                        Existing::Selected => self.presence == Presence::Selected,
                        Existing::Any => self.presence != Presence::None,
                    };
                    self.demand(ours || there, "opened without a connection");
                    self.gate = true;
                    self.sent_before = self.work.sent;
                    self.closing = false;
                    self.dials = 0;
                    if ours {
                        self.ups += 1;
                    } else {
                        self.adopted += 1;
                    }
                    if self.settings.budget.is_some_and(|b| b.per == Per::Window) {
                        (self.charged_millis, self.octets_in_period) = (0, 0);
                    }
                }
                Output::Closing => {
                    self.demand(self.gate && !self.closing, "closing what is not open");
                    self.closing = true;
                }
                Output::Closed => {
                    self.demand(self.gate, "closed what was not open");
                    (self.gate, self.closing) = (false, false);
                    self.work.in_flight = 0;
                    self.work.sessions = 0;
                }
                Output::TakeOver => {
                    self.demand(self.left, "took over what was not left open");
                    self.left = false;
                    self.charged_before = self.charged_millis;
                    self.line = Line::Up {
                        since: self.now.instant,
                    };
                    self.taken_over += 1;
                }
                Output::GiveUp => {
                    self.demand(!self.stopping, "gave up at a stop");
                    self.given_up += 1;
                    self.phase_until = None;
                    self.left = matches!(self.line, Line::Closing { open: true, .. });
                    self.line = Line::Down;
                    let seen = self.left && !self.mute;
                    self.presence = if seen {
                        Presence::Selected
                    } else {
                        Presence::None
                    };
                    given_up = !self.mute;
                }
                Output::Keep => {}
                Output::Report(fact) => self.told(&fact),
            }
        }
        self.demand(
            self.controller
                .deadline()
                .is_none_or(|d| d > Instant::START),
            "a deadline",
        );
    }

    fn told(&mut self, fact: &LinkFact) {
        match fact {
            LinkFact::DialFailed { next, .. } => {
                self.failed_at = Some(self.now.instant);
                if let crate::report::NextDial::Series { .. } = next {
                    self.dials = 0;
                    self.series_over_at = Some(self.now.instant);
                    self.ordered_up = false;
                }
            }
            LinkFact::Down { why, .. } if why.contains("budget") => self.budget_stops += 1,
            _ => {}
        }
    }

    fn dial(&mut self) {
        self.demand(self.line == Line::Down, "dialled what is not down");
        self.demand(!self.stopping, "dialled while stopping");
        self.demand(
            self.settings.dialling == Dialling::Ours,
            "dialled what is not ours to dial",
        );
        let in_window = self.window.is_some_and(|until| until > self.now.wall);
        let by_work = self
            .settings
            .go_up
            .reason(self.now.wall, &self.work)
            .is_some();
        self.demand(
            in_window || by_work || self.ordered_up,
            "dialled without a reason",
        );
        if let Some(failed) = self.failed_at
            && self.now.instant >= failed + self.settings.series.series_pause
        {
            self.dials = 0;
        }
        self.dials += 1;
        self.demand(
            self.dials <= self.settings.series.tries,
            "more dials than tries",
        );
        if let Some(over) = self.series_over_at.take() {
            self.demand(
                self.now.instant >= over + self.settings.series.series_pause || self.ordered_up,
                "the next series came too soon",
            );
        }
        if let Some(limits) = self.settings.budget
            && limits.per != Per::Window
            && let Some(time) = limits.time
        {
            self.demand(
                self.charged_millis < time.as_millis() as u64 + 1,
                "dialled without budget",
            );
        }
        self.charged_before = 0;
        let hangs = self.mute || self.random.one_in(15);
        let after = Duration::from_millis(self.random.below(40_000));
        self.line = Line::Dialling {
            outcome_at: (!hangs).then(|| self.now.instant + after),
        };
    }

    /// The next thing that happens by itself.
    fn next_event(&self) -> Option<Instant> {
        match self.line {
            Line::Dialling { outcome_at } | Line::Closing { outcome_at, .. } => outcome_at,
            Line::Down | Line::Up { .. } => None,
        }
    }

    /// Lets time pass, at most so much, to the next thing that is due.
    fn pass(&mut self, most: Duration) {
        let until = self.now.instant + most;
        let next = [self.controller.deadline(), self.next_event()];
        let next = next.into_iter().flatten().min();
        let at = next.unwrap_or(until).min(until).max(self.now.instant);
        self.advance(at.since(self.now.instant));
        self.line_acts();
        if self
            .controller
            .deadline()
            .is_some_and(|d| d <= self.now.instant)
        {
            self.controller.timer(self.now);
            self.perform();
        }
    }

    fn advance(&mut self, time: Duration) {
        let open = match self.line {
            Line::Up { .. } => true,
            Line::Closing { open, .. } => open,
            _ => false,
        };
        // By either of the zone's clocks.
        let days = |wall: WallTime| {
            let seconds = wall.as_seconds();
            [3600, 7200].map(|offset| (seconds + offset).div_euclid(86_400))
        };
        let before = days(self.now.wall);
        self.now = self.now.after(time);
        if days(self.now.wall) != before {
            // Near enough to a new period: an account of our own would be the code
            // under test again.
            (self.charged_millis, self.octets_in_period) = (0, 0);
        }
        if open {
            self.charged_millis += time.as_millis() as u64;
        }
        if self.gate && self.work.in_flight > 0 {
            let octets = (time.as_millis() as u64).min(60_000) * 4;
            self.octets += octets;
            self.octets_in_period += octets;
        }
    }

    fn line_acts(&mut self) {
        if self.next_event().is_none_or(|at| at > self.now.instant) {
            return;
        }
        match self.line {
            Line::Dialling { .. } => {
                let result = match self.random.below(10) {
                    0..4 => Ok(()),
                    4 => Err(Hope::NotSoon),
                    _ => Err(Hope::Again),
                };
                self.line = if result.is_ok() {
                    Line::Up {
                        since: self.now.instant,
                    }
                } else {
                    Line::Down
                };
                let result = result.map_err(|hope| DialFailure {
                    why: "busy".to_owned(),
                    hope,
                });
                self.failures += u32::from(result.is_err());
                self.controller.dialled(self.now, result);
            }
            Line::Closing { open, .. } => {
                let fails = if self.stubborn {
                    !self.random.one_in(4)
                } else {
                    self.random.one_in(8)
                };
                if fails {
                    self.line = Line::Closing {
                        outcome_at: None,
                        open,
                    };
                    self.controller.hung_up(self.now, Err("no".to_owned()));
                } else {
                    self.line = Line::Down;
                    self.controller.hung_up(self.now, Ok(()));
                }
            }
            Line::Down | Line::Up { .. } => {}
        }
        self.perform();
    }

    /// All has gone, and the line is not yet hung up.
    fn is_done(&self) -> bool {
        let Line::Up { since } = self.line else {
            return false;
        };
        let proven = self.now.instant >= since + STABLE_AFTER || self.work.sent > self.sent_before;
        self.gate && !self.closing && !self.work.is_under_way() && proven
    }

    fn breaks(&mut self) {
        if self.is_done() {
            // What it came up for is done, and no reason any more.
            (self.ordered_up, self.window) = (false, None);
            self.done += 1;
        }
        if let Line::Up { .. } = self.line {
            self.line = Line::Down;
            self.controller.lost(self.now, "carrier lost".to_owned());
            self.perform();
        }
    }

    /// Something happens in the world.
    fn happen(&mut self) {
        if let Some((Phase::Idle, _)) = self.phase_until {
            // Whatever it is, it may be a reason to stay.
            self.phase_until = None;
        }
        match self.random.below(20) {
            0..4 => {
                let n = 1 + self.random.below(5);
                self.work.ready += n;
                self.work.waiting += n;
                self.work.ready_octets += n * self.random.below(20_000);
                self.work.oldest = self.work.oldest.or(Some(self.now.wall));
                let priority = self.random.below(7) as i8 - 3;
                self.work.priority = self.work.priority.max(Some(priority));
            }
            4..9 if self.gate => {
                if self.work.ready > 0 && !self.closing {
                    self.work.ready -= 1;
                    self.work.in_flight += 1;
                }
                if self.work.ready == 0 {
                    self.work = Work {
                        in_flight: self.work.in_flight,
                        sessions: self.work.sessions,
                        sent: self.work.sent,
                        sent_octets: self.work.sent_octets,
                        ..Work::default()
                    };
                }
            }
            9..13 if self.work.in_flight > 0 => {
                self.work.in_flight -= 1;
                self.work.sent += 1;
                self.work.sent_octets += 1000;
                self.work.waiting = self.work.waiting.saturating_sub(1);
            }
            13 => {
                let length = seconds(60 + self.random.below(7200));
                let until = self.now.wall + length;
                self.window = self.window.max(Some(until));
                self.controller.occasion(self.now, until);
            }
            14 if self.controller.order(self.now, Order::Up).is_ok() => {
                self.ordered_up = true;
                if self.line == Line::Down {
                    self.dials = 0;
                }
            }
            15 if self.random.one_in(3) => {
                self.controller
                    .order(self.now, Order::Down)
                    .expect("it is always followed");
                self.dials = 0;
            }
            16 if !self.mute => {
                self.presence = match self.random.below(4) {
                    0 => Presence::Selected,
                    1 => Presence::Other,
                    _ => Presence::None,
                };
                self.controller.presence(self.now, self.presence);
            }
            17 => self.breaks(),
            18 if self.random.one_in(4) => {
                // The clock is set, back or forth.
                let by = self.random.below(30 * 3600);
                let wall = self.now.wall;
                self.now.wall = if self.random.one_in(2) {
                    wall + seconds(by)
                } else {
                    wall - seconds(by)
                };
                (self.charged_millis, self.octets_in_period) = (0, 0);
                self.window = self
                    .window
                    .map(|until| until.max(self.now.wall + seconds(by)));
                self.controller.timer(self.now);
            }
            _ => {}
        }
        self.controller.work(self.now, self.work);
        if self.closing && self.work.in_flight == 0 {
            self.controller.quiet(self.now);
        }
        self.perform();
    }

    /// Each state but two ends by itself, whatever the driver does.
    fn look_at_phase(&mut self) {
        let phase = self.controller.status(self.now).phase;
        let most = match phase {
            Phase::Down | Phase::Up | Phase::Draining => {
                self.phase_until = None;
                return;
            }
            // Series after series of dials: each of them, and the pause behind it.
            Phase::Dialling => {
                let series = self.settings.series;
                (DIAL_PATIENCE + series.pause) * series.tries
            }
            Phase::Idle if self.controller.owes_hang_up() => self.settings.idle,
            Phase::Idle => {
                self.phase_until = None;
                return;
            }
            Phase::HangingUp => {
                FINISH_PATIENCE + HANG_UP_PATIENCE + HANG_UP_AGAIN * (2 * HANG_UP_TRIES)
            }
        };
        let before = self.phase_until.filter(|(before, _)| *before == phase);
        let until = before.map_or(self.now.instant + most, |(_, until)| until);
        self.phase_until = Some((phase, until));
    }

    /// What must hold whenever everybody has acted.
    fn check(&self) {
        if let Some(limits) = self.settings.budget
            && matches!(self.line, Line::Up { .. })
            && let Some(time) = limits.time
        {
            let over = FINISH_PATIENCE + TICK_LIMITED;
            let most = (time.as_millis() as u64).max(self.charged_before);
            self.demand(
                self.charged_millis <= most + over.as_millis() as u64,
                "on line for longer than the budget allows",
            );
        }
        if let (Line::Up { since }, Some(most)) = (self.line, self.settings.at_most) {
            let on_line = self.now.instant.since(since);
            self.demand(on_line <= most + FINISH_PATIENCE, "on line for too long");
        }
        if let Some((phase, until)) = self.phase_until {
            let what = format!("{} for ever", phase.as_str());
            self.demand(self.now.instant <= until, &what);
        }
        if matches!(self.line, Line::Up { .. } | Line::Dialling { .. }) {
            self.demand(
                self.controller.owes_hang_up(),
                "something open is forgotten",
            );
        }
    }

    fn play(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for _ in 0..600 {
            if world.is_done() && world.random.one_in(2) {
                world.breaks();
            } else if world.random.one_in(2) {
                world.happen();
            }
            let most = match world.random.below(4) {
                0 => seconds(1),
                1 => seconds(20),
                2 => seconds(300),
                _ => seconds(3600),
            };
            world.pass(most);
            world.look_at_phase();
            world.check();
        }
        world.end();
        world
    }

    /// Everything that was opened is hung up in the end.
    fn end(&mut self) {
        self.stopping = true;
        self.controller.stop(self.now);
        self.perform();
        let patience = DIAL_PATIENCE + FINISH_PATIENCE + HANG_UP_AGAIN * 60;
        let until = self.now.instant + patience;
        while self.controller.owes_hang_up() && self.now.instant < until {
            self.pass(seconds(5));
        }
        if self.mute {
            // The process ends, and the next one looks for what it has left.
            return;
        }
        self.demand(!self.controller.owes_hang_up(), "it never hangs up");
        // What waits may have waited for long: it is no reason any more.
        let due = self.controller.deadline();
        self.demand(
            due.is_none_or(|due| due > self.now.instant),
            "after the end a deadline stays due",
        );
        self.demand(
            matches!(self.line, Line::Down),
            "the line is open after the end",
        );
    }
}

#[test]
fn worlds() {
    let mut totals = [0_u32; 8];
    for seed in 0..1000 {
        let world = World::play(seed);
        let own = [
            world.ups,
            world.adopted,
            world.hang_ups,
            world.failures,
            world.budget_stops,
            world.done,
            world.given_up,
            world.taken_over,
        ];
        for (total, own) in totals.iter_mut().zip(own) {
            *total += own;
        }
    }
    // They are worth nothing if nothing happens in them.
    assert!(totals.iter().all(|total| *total > 50), "{totals:?}");
}
