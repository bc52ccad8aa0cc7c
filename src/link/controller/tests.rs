//! What the operator reads: each trouble ends in the state that he would expect, with lines
//! that say what happened, and what happens next.

use super::*;
use crate::link::budget::{Limits, Per};
use crate::link::work::GoUp;
use crate::report::LinkFact;

mod given_up;
mod left_open;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const SETTINGS: Settings = Settings {
    dialling: Dialling::Ours,
    existing: Existing::Selected,
    series: Series {
        pause: seconds(30),
        tries: 2,
        series_pause: seconds(900),
    },
    go_up: GoUp {
        messages: Some(1),
        octets: None,
        age: None,
        priority: None,
    },
    idle: seconds(60),
    at_most: None,
    budget: None,
};

const fn budget(per: Per) -> Settings {
    Settings {
        budget: Some(Limits {
            per,
            time: Some(seconds(600)),
            octets: None,
            minute_price: None,
            money: None,
        }),
        ..SETTINGS
    }
}

struct Desk {
    controller: Controller,
    now: Now,
    sent: u64,
    received: u64,
}

impl Desk {
    /// It is ten o'clock in the evening.
    fn new(settings: Settings) -> Self {
        let now = Now {
            instant: Instant::START + seconds(10_000),
            wall: WallTime::from_millis(1_795_298_400_000),
        };
        let memory = Memory::default();
        Self {
            controller: Controller::new(settings, TimeZone::UTC, memory, now),
            now,
            sent: 0,
            received: 0,
        }
    }

    fn work(&mut self, waiting: u64, in_flight: u64) {
        let work = Work {
            ready: waiting - in_flight,
            waiting,
            in_flight,
            sent: self.sent,
            sent_octets: self.sent * 1000,
            received: self.received,
            received_octets: self.received * 500,
            ..Work::default()
        };
        self.controller.work(self.now, work);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(at) = self.controller.deadline().filter(|at| *at <= end) {
            self.now = self.now.after(at.since(self.now.instant));
            self.controller.timer(self.now);
        }
        self.now = self.now.after(end.since(self.now.instant));
        self.controller.timer(self.now);
    }

    fn dialled(&mut self, result: Result<(), &str>) {
        let failed = |why: &str| DialFailure {
            why: why.to_owned(),
            hope: Hope::Again,
        };
        self.controller.dialled(self.now, result.map_err(failed));
    }

    /// The lines since the last time, and where it stands.
    #[track_caller]
    fn check(&mut self, state: Phase, lines: &[&str]) {
        let outputs: Vec<_> = std::iter::from_fn(|| self.controller.poll()).collect();
        let told = outputs.into_iter().filter_map(|output| match output {
            Output::Report(fact) => Some(fact.to_string()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), lines);
        assert_eq!(self.controller.status(self.now).phase, state);
    }

    /// Three messages wait, and it comes up for them.
    fn up(settings: Settings) -> Self {
        let mut desk = Self::new(settings);
        desk.work(3, 0);
        desk.dialled(Ok(()));
        desk.work(3, 1);
        let lines = [
            "dialling (3 messages wait), 1 of 2",
            "up (3 messages wait); what waits is sent",
        ];
        desk.check(Phase::Draining, &lines);
        desk
    }
}

#[test]
fn dials_that_fail() {
    let mut desk = Desk::new(SETTINGS);
    desk.work(1, 0);
    desk.dialled(Err("busy"));
    let lines = [
        "dialling (1 message waits), 1 of 2",
        "dialling failed: busy; 2 of 2 in 30 s",
    ];
    desk.check(Phase::Dialling, &lines);
    desk.pass(seconds(30));
    desk.dialled(Err("no answer"));
    let lines = [
        "dialling (1 message waits), 2 of 2",
        "dialling failed: no answer; the series is over, the next one in 900 s at the earliest",
    ];
    desk.check(Phase::Down, &lines);
    desk.pass(seconds(900));
    desk.check(Phase::Dialling, &["dialling (1 message waits), 1 of 2"]);
}

/// Soon after it came up that is as good as a dial that failed.
#[test]
fn a_line_that_breaks() {
    let mut desk = Desk::up(SETTINGS);
    desk.pass(seconds(5));
    desk.controller.lost(desk.now, "no carrier".to_owned());
    let lines = [
        "down: no carrier; 5 s on line, 0 messages sent",
        "dialling failed: no carrier; 2 of 2 in 30 s",
    ];
    desk.check(Phase::Dialling, &lines);
    let mut desk = Desk::up(SETTINGS);
    desk.pass(seconds(100));
    desk.sent = 2;
    desk.work(1, 1);
    desk.controller.lost(desk.now, "no carrier".to_owned());
    let down = "down: no carrier; 100 s on line, 2 messages sent; 1 message waits and it is dialled \
                again in 30 s";
    desk.work(1, 0);
    desk.check(Phase::Down, &[down]);
    desk.pass(seconds(30));
    desk.check(Phase::Dialling, &["dialling (1 message waits), 1 of 2"]);
    // And when nobody dials but the operator.
    let by_hand = Settings {
        go_up: GoUp::default(),
        ..SETTINGS
    };
    let mut desk = Desk::new(by_hand);
    desk.work(2, 0);
    desk.check(Phase::Down, &[]);
    desk.controller
        .order(desk.now, Order::Up)
        .expect("it is dialled");
    desk.dialled(Ok(()));
    desk.pass(seconds(1));
    desk.controller
        .order(desk.now, Order::Down)
        .expect("it goes");
    desk.controller.quiet(desk.now);
    desk.controller.hung_up(desk.now, Ok(()));
    let lines = [
        "dialling (by the operator), 1 of 2",
        "up (by the operator); what waits is sent",
        "down by the operator; what is being sent is finished, nothing new begins",
        "down: down by the operator; 1 s on line, 0 messages sent; 2 messages wait until it is \
         brought up by hand or by the schedule",
    ];
    desk.check(Phase::Down, &lines);
}

/// By hand, by the schedule and for a collector it came up for once: when that is done, a
/// break is as good as a hang-up, and costs no second dial.
#[test]
fn a_line_that_breaks_when_its_work_is_done() {
    let by_hand = || {
        let mut desk = Desk::new(Settings {
            go_up: GoUp::default(),
            ..SETTINGS
        });
        desk.work(2, 0);
        desk.controller
            .order(desk.now, Order::Up)
            .expect("it is dialled");
        desk.dialled(Ok(()));
        let lines = [
            "dialling (by the operator), 1 of 2",
            "up (by the operator); what waits is sent",
        ];
        desk.check(Phase::Up, &lines);
        desk
    };
    let breaks = |desk: &mut Desk| desk.controller.lost(desk.now, "no carrier".to_owned());
    // All has gone, also within the time that a line has to prove itself.
    for time in [5, 40] {
        let mut desk = by_hand();
        (desk.sent, desk.received) = (2, 1);
        desk.work(0, 0);
        desk.pass(seconds(time));
        breaks(&mut desk);
        let down = format!("down: no carrier; {time} s on line, 2 messages sent, 1 received");
        desk.check(Phase::Down, &[&down]);
        desk.pass(seconds(3600));
        desk.check(Phase::Down, &[]);
    }
    // One of them has not.
    let mut desk = by_hand();
    desk.sent = 1;
    desk.work(1, 0);
    desk.pass(seconds(40));
    breaks(&mut desk);
    let down = "down: no carrier; 40 s on line, 1 message sent; 1 message waits and it is dialled \
                again in 30 s";
    desk.check(Phase::Down, &[down]);
    desk.pass(seconds(30));
    desk.check(Phase::Dialling, &["dialling (by the operator), 1 of 2"]);
    // A collector had not ended.
    let mut desk = by_hand();
    desk.sent = 2;
    desk.work(0, 0);
    desk.controller.occupied(desk.now, true);
    desk.pass(seconds(40));
    breaks(&mut desk);
    desk.controller.occupied(desk.now, false);
    let down = "down: no carrier; 40 s on line, 2 messages sent; there is more to do and it is \
                dialled again in 30 s";
    desk.check(Phase::Down, &[down]);
    // There was nothing to do, but it was not up in earnest either.
    let mut desk = by_hand();
    desk.work(0, 0);
    desk.pass(seconds(5));
    breaks(&mut desk);
    let lines = [
        "down: no carrier; 5 s on line, 0 messages sent",
        "dialling failed: no carrier; 2 of 2 in 30 s",
    ];
    desk.check(Phase::Dialling, &lines);
    // A window of the schedule.
    let mut desk = Desk::new(SETTINGS);
    let until = desk.now.wall + seconds(7200);
    desk.controller.occasion(desk.now, until);
    desk.dialled(Ok(()));
    desk.received = 1;
    desk.work(0, 0);
    desk.pass(seconds(20));
    breaks(&mut desk);
    let lines = [
        "dialling (by schedule), 1 of 2",
        "up (by schedule); what waits is sent",
        "down: no carrier; 20 s on line, 0 messages sent, 1 received",
    ];
    desk.check(Phase::Down, &lines);
    desk.pass(seconds(3600));
    desk.check(Phase::Down, &[]);
}

/// What is remembered of a time on line is what went then, both ways.
#[test]
fn a_time_on_line_is_remembered() {
    let mut desk = Desk::up(SETTINGS);
    for (sent, received) in [(3, 20), (4, 27)] {
        (desk.sent, desk.received) = (sent, received);
        desk.work(0, 0);
        desk.pass(seconds(60));
        desk.controller.quiet(desk.now);
        desk.controller.hung_up(desk.now, Ok(()));
        desk.work(1, 0);
        desk.dialled(Ok(()));
    }
    let outings = desk.controller.memory().outings;
    let carried = outings.iter().map(|outing| {
        (
            outing.messages,
            outing.message_octets,
            outing.received,
            outing.received_octets,
        )
    });
    let expected = [(3, 3000, 20, 10_000), (1, 1000, 7, 3500)];
    assert_eq!(carried.collect::<Vec<_>>(), expected);
}

/// The message that is on the wire is finished; the rest waits for the next day.
#[test]
fn a_budget_that_ends_in_the_middle_of_a_drain() {
    let mut desk = Desk::up(budget(Per::Day));
    desk.pass(seconds(600));
    let used_up = "the budget's time is used up until 2026-11-22T00:00:00Z";
    let finishing = format!("{used_up}; what is being sent is finished, nothing new begins");
    desk.check(Phase::HangingUp, &[&finishing]);
    desk.sent = 1;
    desk.work(2, 0);
    desk.controller.quiet(desk.now);
    desk.controller.hung_up(desk.now, Ok(()));
    let down = format!(
        "down: {used_up}; 600 s on line, 1 message sent; 2 messages wait until \
         2026-11-22T00:00:00Z"
    );
    let not_dialled = format!("not dialled: {used_up}");
    desk.check(Phase::Down, &[&down]);
    desk.pass(seconds(3600));
    desk.check(Phase::Down, &[&not_dialled]);
    desk.pass(seconds(3060));
    desk.check(Phase::Dialling, &["dialling (2 messages wait), 1 of 2"]);
    // A budget for each time on line: the next one has its own.
    let mut desk = Desk::up(budget(Per::Window));
    desk.pass(seconds(600));
    desk.work(2, 0);
    desk.controller.quiet(desk.now);
    desk.controller.hung_up(desk.now, Ok(()));
    let used_up = "the budget's time for one time on line is used up";
    let finishing = format!("{used_up}; what is being sent is finished, nothing new begins");
    let down = format!(
        "down: {used_up}; 600 s on line, 0 messages sent; 2 messages wait and it is dialled \
         again in 900 s"
    );
    desk.check(Phase::Down, &[&finishing, &down]);
}

/// A clock that jumps in the middle of a drain costs no budget and ends nothing; one that
/// jumps to another day brings that day's budget.
#[test]
fn a_clock_that_jumps() {
    let jump = |desk: &mut Desk, millis: i64| {
        desk.now.wall = WallTime::from_millis(desk.now.wall.as_millis() + millis);
        desk.controller.timer(desk.now);
    };
    let day = 86_400_000;
    let mut desk = Desk::up(budget(Per::Day));
    desk.pass(seconds(500));
    jump(&mut desk, -3_600_000);
    desk.check(Phase::Draining, &[]);
    assert_eq!(
        desk.controller.budget.left(desk.now.wall).time,
        Some(seconds(100))
    );
    jump(&mut desk, day);
    desk.check(Phase::Draining, &[]);
    assert_eq!(
        desk.controller.budget.left(desk.now.wall).time,
        Some(seconds(600))
    );
    // A schedule's window that is over by the new clock is over.
    let until = desk.now.wall + seconds(600);
    let mut desk = Desk::new(SETTINGS);
    desk.now.wall = WallTime::from_millis(until.as_millis() - 600_000);
    desk.controller.occasion(desk.now, until);
    desk.dialled(Ok(()));
    desk.work(0, 0);
    jump(&mut desk, day);
    let lines = [
        "dialling (by schedule), 1 of 2",
        "up (by schedule); what waits is sent",
        "the window of the schedule is over; what is being sent is finished, nothing new begins",
    ];
    desk.check(Phase::HangingUp, &lines);
    desk.controller.quiet(desk.now);
    desk.controller.hung_up(desk.now, Ok(()));
    let down = "down: the window of the schedule is over; 0 s on line, 0 messages sent";
    desk.check(Phase::Down, &[down]);
}

#[test]
fn a_line_that_cannot_be_hung_up() {
    let mut desk = Desk::up(SETTINGS);
    desk.sent = 3;
    desk.work(0, 0);
    desk.pass(seconds(60));
    desk.controller.quiet(desk.now);
    desk.controller.hung_up(desk.now, Err("busy".to_owned()));
    let lines = [
        "no work for 60 s; what is being sent is finished, nothing new begins",
        "hanging up failed: busy; the link may still be open and cost money; tried again in 60 s",
    ];
    desk.check(Phase::HangingUp, &lines);
    desk.pass(seconds(60));
    desk.controller.hung_up(desk.now, Ok(()));
    let down = "down: no work for 60 s; 120 s on line, 3 messages sent";
    desk.check(Phase::Down, &[down]);
}

/// Whatever it was dialled for: it stays as long as there is work, and not only to the end of
/// the schedule's window.
#[test]
fn an_order_in_the_middle_of_a_dial() {
    let mut desk = Desk::new(SETTINGS);
    let until = desk.now.wall + seconds(120);
    desk.controller.occasion(desk.now, until);
    assert_eq!(desk.controller.order(desk.now, Order::Up), Ok(()));
    desk.dialled(Ok(()));
    desk.controller.occupied(desk.now, true);
    desk.pass(seconds(600));
    let lines = [
        "dialling (by schedule), 1 of 2",
        "up (by the operator); what waits is sent",
    ];
    desk.check(Phase::Draining, &lines);
    // It is not forgotten either when that dial fails.
    let mut desk = Desk::new(SETTINGS);
    desk.work(1, 0);
    assert_eq!(desk.controller.order(desk.now, Order::Up), Ok(()));
    desk.work(0, 0);
    desk.dialled(Err("busy"));
    desk.pass(seconds(30));
    let lines = [
        "dialling (1 message waits), 1 of 2",
        "dialling failed: busy; 2 of 2 in 30 s",
        "dialling (by the operator), 2 of 2",
    ];
    desk.check(Phase::Dialling, &lines);
}

/// A budget of octets for each time on line holds for a line that others opened too: it is not
/// at once the next time.
#[test]
fn a_line_of_others_has_one_budget_at_a_time() {
    let limits = Limits {
        per: Per::Window,
        time: None,
        octets: Some(1000),
        minute_price: None,
        money: None,
    };
    let mut desk = Desk::new(Settings {
        budget: Some(limits),
        ..SETTINGS
    });
    let (presence, counts) = (Presence::Selected, [5_000, 6_000]);
    desk.controller.presence(desk.now, presence);
    for counter in counts {
        desk.controller.metered(desk.now, Some(counter));
    }
    desk.controller.quiet(desk.now);
    let spent = "the budget's octets for one time on line is used up";
    let up = "up, opened by somebody else; what waits is sent, and it is left open";
    let finishing = format!("{spent}; what is being sent is finished, nothing new begins");
    let down = format!(
        "no longer used: {spent}; 0 s on line, 0 messages sent, 1000 octets over the interface"
    );
    desk.check(Phase::Down, &[up, &finishing, &down]);
    desk.pass(seconds(899));
    desk.check(Phase::Down, &[]);
    // Another one is another time.
    desk.controller.presence(desk.now, Presence::None);
    desk.controller.presence(desk.now, presence);
    desk.check(Phase::Idle, &[up]);
}
