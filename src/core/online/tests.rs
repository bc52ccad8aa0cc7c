//! A site with one link and a schedule, without data cores and drivers: both are what the
//! test says.

use super::*;
use crate::core::admin::{LinkCommand, LinkPlan, Response};
use crate::link::budget::{Limits, Money, Per};
use crate::link::calendar::{Minute, Row, Times, Weekdays};
use crate::link::collecting::CollectKind;
use crate::link::controller::{Dialling, Existing, Series};
use crate::link::outing::Outing;
use crate::link::work::GoUp;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ETRN: Collect = Collect::Kind(CollectKind::Etrn);

const SETTINGS: Settings = Settings {
    dialling: Dialling::Ours,
    existing: Existing::Selected,
    series: Series {
        pause: Duration::from_secs(30),
        tries: 5,
        series_pause: Duration::from_secs(900),
    },
    go_up: GoUp {
        messages: None,
        octets: None,
        age: None,
        priority: None,
    },
    idle: DAY,
    at_most: None,
    budget: None,
};

/// At each full hour.
fn hourly(may_dial: bool) -> Appointment {
    Appointment {
        row: Row {
            days: Weekdays::ALL,
            from: Minute(0),
            to: Minute(24 * 60),
            times: Times::Every(HOUR),
        },
        may_dial,
        send: true,
        collect: vec![ETRN],
    }
}

struct Desk {
    online: Online,
    now: Now,
}

impl Desk {
    /// It is half an hour before the next row.
    fn new(rows: Vec<Appointment>, settings: Settings, memory: Memory) -> Self {
        let now = Now {
            instant: Instant::START + HOUR,
            wall: WallTime::from_millis(1_795_305_600_000 + 1_800_000),
        };
        let setup = Setup {
            links: vec![LinkSetup {
                name: "isp".to_owned(),
                settings,
                memory,
            }],
            rows,
            zone: TimeZone::UTC,
            listeners: Vec::new(),
        };
        let mut desk = Self {
            online: Online::new(setup, 1, now),
            now,
        };
        desk.pass(Duration::ZERO);
        desk.done();
        desk
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.online.timer(self.now);
    }

    /// What it has done since: its dials, what it has told the data core, what is to be
    /// collected.
    fn done(&mut self) -> (usize, Vec<LinkNotice>, Vec<Collect>) {
        let (mut dials, mut told) = (0, Vec::new());
        while let Some(operation) = self.online.poll() {
            match operation {
                ControlOperation::Link { operation, .. } => {
                    dials += usize::from(operation == LinkOperation::Dial);
                }
                ControlOperation::Tell {
                    notice: Notice::Link { link, .. },
                    ..
                } => told.push(link),
                _ => {}
            }
        }
        (dials, told, self.online.wanted())
    }

    fn dialled(&mut self) {
        let event = LinkEvent::Dialled(Ok(()));
        self.online.event(self.now, LinkId(0), event);
    }

    #[track_caller]
    fn check(&mut self, dials: usize, told: &[LinkNotice], wanted: &[Collect]) {
        assert_eq!(self.done(), (dials, told.to_vec(), wanted.to_vec()));
    }
}

/// It dials for what its row says, and for nothing else.
#[test]
fn a_row_that_may_dial() {
    let mut desk = Desk::new(vec![hourly(true)], SETTINGS, Memory::default());
    desk.pass(HOUR / 4);
    desk.check(0, &[], &[]);
    desk.pass(HOUR / 4);
    desk.check(1, &[], &[]);
    desk.dialled();
    desk.check(0, &[LinkNotice::Open], &[ETRN]);
    // While it is up, mail that waits for its time is tried too.
    desk.pass(HOUR);
    desk.check(0, &[LinkNotice::Open], &[ETRN]);
}

/// "Only if already up".
#[test]
fn a_row_that_may_not_dial() {
    let mut desk = Desk::new(vec![hourly(false)], SETTINGS, Memory::default());
    desk.pass(HOUR / 2);
    desk.check(0, &[], &[]);
    let up = LinkCommand::Up { name: None };
    assert_eq!(desk.online.ask(desk.now, &up), Response::Done);
    desk.check(1, &[], &[]);
    desk.dialled();
    // By hand it does everything that can be done on line.
    desk.check(0, &[LinkNotice::Open], &[Collect::All]);
    desk.pass(HOUR);
    desk.check(0, &[LinkNotice::Open], &[ETRN]);
}

/// The machine was asleep, or off: an hour is made up for, a night is not.
#[test]
fn what_the_schedule_missed() {
    for (hours, dials) in [(2, 1), (5, 0)] {
        let mut desk = Desk::new(vec![hourly(true)], SETTINGS, Memory::default());
        desk.pass(HOUR * hours);
        desk.check(dials, &[], &[]);
    }
}

/// What the next time on line would send, cost and leave, by how the line was lately.
#[test]
fn the_plan() {
    let settings = Settings {
        idle: Duration::from_secs(60),
        budget: Some(Limits {
            per: Per::Day,
            time: Some(Duration::from_secs(100)),
            octets: None,
            minute_price: Some(Money(600)),
            money: None,
        }),
        ..SETTINGS
    };
    let outing = Outing {
        began_millis: 0,
        ours: true,
        why: String::new(),
        ended: String::new(),
        millis: 10_000,
        octets: 0,
        messages: 1,
        message_octets: 10_000,
        received: 0,
        received_octets: 0,
    };
    let memory = Memory {
        spent: Vec::new(),
        outings: vec![outing],
        left_open: None,
    };
    let plan = |memory| -> LinkPlan {
        let mut desk = Desk::new(vec![hourly(true)], settings, memory);
        let work = Work {
            waiting: 3,
            waiting_octets: 150_000,
            ..Work::default()
        };
        desk.online.outbound(desk.now, CoreId(0), 0, work);
        match desk.online.ask(desk.now, &LinkCommand::Plan) {
            Response::LinkPlan { mut plans } => plans.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let known = plan(memory);
    assert_eq!(known.why, "by schedule");
    assert_eq!((known.messages, known.octets), (3, 150_000));
    // 150 s for the octets, and 60 s until it is hung up.
    assert_eq!(known.seconds, Some(210));
    assert_eq!(known.cost.as_deref(), Some("0.2100"));
    assert_eq!(known.octets_left_over, 50_000);
    let unknown = plan(Memory::default());
    assert_eq!((unknown.seconds, unknown.cost), (None, None));
}

/// What is told is when it is really dialled, and not that it would be now.
#[test]
fn the_plan_with_the_budget_used_up() {
    let settings = Settings {
        budget: Some(Limits {
            per: Per::Day,
            time: Some(Duration::from_secs(100)),
            octets: None,
            minute_price: None,
            money: None,
        }),
        ..SETTINGS
    };
    let plan = |messages: Option<u64>| {
        let go_up = GoUp {
            messages,
            ..SETTINGS.go_up
        };
        let settings = Settings { go_up, ..settings };
        let mut desk = Desk::new(vec![hourly(true)], settings, Memory::default());
        let up = LinkCommand::Up { name: None };
        assert_eq!(desk.online.ask(desk.now, &up), Response::Done);
        desk.dialled();
        desk.pass(Duration::from_secs(100));
        desk.online
            .outbound(desk.now, CoreId(0), 2, Work::default());
        desk.online
            .event(desk.now, LinkId(0), LinkEvent::HungUp(Ok(())));
        let work = Work {
            ready: 3,
            waiting: 3,
            ..Work::default()
        };
        desk.online.outbound(desk.now, CoreId(0), 3, work);
        let status = desk.online.ask(desk.now, &LinkCommand::Status);
        let Response::Links(status) = status else {
            panic!("{status:?}");
        };
        assert_eq!(status.links[0].next_dial_seconds, None);
        match desk.online.ask(desk.now, &LinkCommand::Plan) {
            Response::LinkPlan { mut plans } => plans.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let midnight = WallTime::from_millis(1_795_392_000_000);
    for (messages, why) in [(Some(1), "3 messages wait"), (None, "by schedule")] {
        let plan: LinkPlan = plan(messages);
        assert_eq!(plan.at.map(|at| at.0), Some(midnight), "{why}");
        assert_eq!(plan.why, format!("{why}; until then the budget is used up"));
    }
}
