//! An end without a stop, in each state, and what the next start makes of it.

use super::*;

impl Desk {
    /// The server ends without a stop right after it kept what it knew, and another starts
    /// after this time.
    fn crash(self, away: Duration) -> Self {
        let mut memory = self.controller.memory();
        if let Some(left) = &mut memory.left_open {
            left.since_millis = u64::try_from(away.as_millis()).expect("not for ever");
        }
        let settings = self.controller.settings;
        let now = Now {
            instant: Instant::START,
            wall: self.now.wall + away,
        };
        Self {
            controller: Controller::new(settings, TimeZone::UTC, memory, now),
            now,
            sent: 0,
            received: 0,
        }
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.controller.poll()).collect()
    }

    pub(super) fn see(&mut self, presence: Presence) {
        self.controller.presence(self.now, presence);
    }

    pub(super) fn spent_seconds(&self) -> u64 {
        self.controller.status(self.now).spent.millis / 1000
    }

    pub(super) fn ours(&self) -> Option<bool> {
        self.controller.status(self.now).ours
    }
}

const WHY: &str = "we opened it earlier, and it was not hung up";

/// States in which it may end, with a hundred seconds on line where it was.
fn lives() -> Vec<(&'static str, Desk)> {
    let dialling = || {
        let mut desk = Desk::new(budget(Per::Day));
        desk.work(1, 0);
        desk
    };
    let up = || {
        let mut desk = dialling();
        desk.dialled(Ok(()));
        desk.work(1, 1);
        desk.pass(seconds(100));
        desk
    };
    let finishing = || {
        let mut desk = up();
        let done = desk.controller.order(desk.now, Order::Down);
        done.expect("it is followed");
        desk
    };
    let hanging_up = || {
        let mut desk = finishing();
        desk.controller.quiet(desk.now);
        desk
    };
    vec![
        ("dialling", dialling()),
        ("up", up()),
        ("finishing", finishing()),
        ("hanging up", hanging_up()),
    ]
}

#[test]
fn what_we_opened_is_ours_again_and_hung_up() {
    for (name, desk) in lives() {
        let before = desk.spent_seconds();
        let mut desk = desk.crash(seconds(50));
        // What waits makes it dial no second time, before it is known what is there.
        desk.work(1, 0);
        assert_eq!(desk.outputs(), [], "{name}");
        desk.see(Presence::Selected);
        let outputs = desk.outputs();
        assert_eq!(outputs[0], Output::TakeOver, "{name}");
        assert!(!outputs.contains(&Output::Dial), "{name}");
        let reason = Reason::LeftOpen;
        assert!(outputs.contains(&Output::Opened { reason }), "{name}");
        assert_eq!(desk.ours(), Some(true), "{name}");
        assert_eq!(desk.spent_seconds(), before + 50, "{name}");
        assert!(desk.controller.owes_hang_up(), "{name}");
        desk.work(0, 0);
        desk.pass(seconds(60));
        assert!(desk.outputs().contains(&Output::Closing), "{name}");
        desk.controller.quiet(desk.now);
        assert!(desk.outputs().contains(&Output::HangUp), "{name}");
        assert!(desk.controller.memory().left_open.is_some(), "{name}");
        desk.controller.hung_up(desk.now, Ok(()));
        desk.check(
            Phase::Down,
            &[&format!(
                "down: no work for 60 s; {} s on line, 0 messages sent",
                before + 50 + 60
            )],
        );
        assert_eq!(desk.spent_seconds(), before + 50 + 60, "{name}");
        let memory = desk.controller.memory();
        assert_eq!(memory.left_open, None, "{name}");
        let outing = memory.outings.last().expect("it was on line");
        assert!(outing.ours, "{name}");
        assert_eq!(outing.why, WHY, "{name}");
        // What is up from now on is somebody else's.
        desk.see(Presence::Selected);
        assert_eq!(desk.ours(), Some(false), "{name}");
        assert!(!desk.controller.owes_hang_up(), "{name}");
    }
}

#[test]
fn what_has_gone_meanwhile_is_forgotten() {
    for (name, desk) in lives() {
        let before = desk.spent_seconds();
        let mut desk = desk.crash(seconds(50));
        desk.see(Presence::None);
        if name == "dialling" {
            // It may still come of it.
            assert!(desk.controller.memory().left_open.is_some());
            desk.pass(DIAL_PATIENCE);
            desk.see(Presence::None);
        }
        assert_eq!(desk.outputs(), [Output::Keep], "{name}");
        assert_eq!(desk.controller.memory().left_open, None, "{name}");
        assert_eq!(desk.spent_seconds(), before, "{name}");
        desk.see(Presence::Selected);
        assert_eq!(desk.ours(), Some(false), "{name}");
    }
}

/// Also over two crashes, the second before anything was seen.
#[test]
fn it_is_kept_until_it_is_seen() {
    for (name, desk) in lives() {
        let mut desk = desk.crash(seconds(50)).crash(seconds(20));
        assert!(desk.controller.memory().left_open.is_some(), "{name}");
        desk.see(Presence::Selected);
        assert_eq!(desk.ours(), Some(true), "{name}");
    }
}

#[test]
fn what_others_opened_is_not_ours_after_a_crash_either() {
    let mut desk = Desk::new(budget(Per::Day));
    desk.see(Presence::Selected);
    desk.pass(seconds(100));
    assert_eq!(desk.ours(), Some(false));
    assert_eq!(desk.controller.memory().left_open, None);
    let mut desk = desk.crash(seconds(50));
    desk.see(Presence::Selected);
    desk.pass(seconds(100));
    assert_eq!(desk.ours(), Some(false));
    assert_eq!(desk.spent_seconds(), 0);
    desk.controller.stop(desk.now);
    assert!(!desk.controller.owes_hang_up());
}

/// The note stands before the dial begins, and goes with a dial that failed.
#[test]
fn it_is_kept_before_the_dial() {
    let mut desk = Desk::new(SETTINGS);
    desk.work(1, 0);
    let place = |outputs: &[Output], output: &Output| {
        let found = outputs.iter().position(|other| other == output);
        found.unwrap_or_else(|| panic!("{output:?} of {outputs:?}"))
    };
    let outputs = desk.outputs();
    assert!(place(&outputs, &Output::Keep) < place(&outputs, &Output::Dial));
    assert!(desk.controller.memory().left_open.is_some());
    desk.dialled(Err("busy"));
    place(&desk.outputs(), &Output::Keep);
    assert_eq!(desk.controller.memory().left_open, None);
}

#[test]
fn a_dial_waits_only_so_long_for_the_look() {
    let (_, desk) = lives().remove(1);
    let mut desk = desk.crash(seconds(50));
    desk.work(1, 0);
    desk.pass(crate::link::controller::left_open::LOOK_PATIENCE - seconds(1));
    assert_eq!(desk.outputs(), []);
    desk.pass(seconds(1));
    assert!(desk.outputs().contains(&Output::Dial));
    // That fails, since it is there: seen late, it is ours all the same.
    desk.dialled(Err("the line is in use"));
    desk.see(Presence::Selected);
    assert_eq!(desk.ours(), Some(true));
}

/// Of one that cannot be seen it is assumed that it is there, if it was.
#[test]
fn one_that_cannot_be_seen_is_hung_up() {
    let (_, desk) = lives().remove(1);
    let mut desk = desk.crash(seconds(50));
    desk.controller.unseen(desk.now);
    assert_eq!(desk.ours(), Some(true));
    let mut desk = Desk::new(SETTINGS);
    desk.controller.unseen(desk.now);
    desk.check(Phase::Down, &[]);
}

/// A budget and a longest time go on where they were.
#[test]
fn the_limits_hold_over_a_crash() {
    let at_most = Settings {
        at_most: Some(seconds(200)),
        ..SETTINGS
    };
    let check = |settings: Settings, away: u64, left: u64, why: &str| {
        let mut desk = Desk::new(settings);
        desk.work(9, 0);
        desk.dialled(Ok(()));
        desk.work(9, 1);
        desk.pass(seconds(100));
        let mut desk = desk.crash(seconds(away));
        desk.work(9, 1);
        desk.see(Presence::Selected);
        if left > 0 {
            desk.pass(seconds(left - 1));
            assert_ne!(desk.controller.status(desk.now).phase, Phase::HangingUp);
            desk.pass(seconds(1));
        }
        let told = desk.outputs();
        let why = Output::Report(LinkFact::Finishing {
            why: why.to_owned(),
        });
        assert!(told.contains(&why), "{told:?}");
    };
    check(at_most, 50, 50, "on line for 200 s");
    check(at_most, 500, 0, "on line for 200 s");
    let each = "the budget's time for one time on line is used up";
    check(budget(Per::Window), 50, 450, each);
    check(budget(Per::Window), 50_000, 0, each);
}
