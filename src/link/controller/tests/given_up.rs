//! A driver that cannot hang up, however often it is told to, or never answers.

use super::*;

const FAILED: &str = "hanging up failed: no; the link may still be open and cost money; tried \
                      again in 60 s";
const GIVEN_UP: &str = "hanging up failed 5 times: no; the link is taken for down now, and may \
                        still be open and cost money: see to it; if it is found up, it is used, \
                        counted and hung up as ours";

/// One message comes while it is hung up for want of work, which fails until it is given up.
fn given_up(settings: Settings) -> Desk {
    let mut desk = Desk::up(settings);
    desk.work(0, 0);
    desk.pass(settings.idle);
    desk.controller.quiet(desk.now);
    desk.work(1, 0);
    desk.outputs();
    for _ in 1..HANG_UP_TRIES {
        desk.controller.hung_up(desk.now, Err("no".to_owned()));
        desk.check(Phase::HangingUp, &[FAILED]);
        desk.pass(HANG_UP_AGAIN);
        assert_eq!(desk.outputs(), [Output::HangUp]);
    }
    desk.controller.hung_up(desk.now, Err("no".to_owned()));
    desk
}

#[test]
fn what_cannot_be_hung_up_keeps_no_mail_for_ever() {
    let mut desk = given_up(SETTINGS);
    let lines = [
        GIVEN_UP,
        "down: no work for 60 s; 300 s on line, 0 messages sent; 1 message waits and it is \
         dialled again in 15 s",
    ];
    desk.check(Phase::Down, &lines);
    assert!(desk.controller.memory().left_open.is_some());
    desk.pass(seconds(15));
    desk.check(Phase::Dialling, &["dialling (1 message waits), 1 of 2"]);
    desk.dialled(Ok(()));
    assert_eq!(desk.ours(), Some(true));
}

/// It is found up: it is the same link, ours, and costs as before.
#[test]
fn what_is_found_up_is_ours_and_counted() {
    let mut desk = given_up(budget(Per::Day));
    assert!(desk.outputs().contains(&Output::GiveUp));
    assert_eq!(desk.spent_seconds(), 300);
    desk.see(Presence::Selected);
    assert_eq!(desk.outputs()[0], Output::TakeOver);
    assert_eq!(desk.ours(), Some(true));
    desk.work(0, 0);
    desk.pass(seconds(60));
    assert_eq!(desk.spent_seconds(), 360);
    desk.controller.quiet(desk.now);
    assert!(desk.outputs().contains(&Output::HangUp));
    desk.controller.hung_up(desk.now, Ok(()));
    assert_eq!(desk.controller.memory().left_open, None);
}

#[test]
fn what_is_seen_down_is_forgotten() {
    let mut desk = given_up(SETTINGS);
    desk.see(Presence::None);
    assert_eq!(desk.controller.memory().left_open, None);
}

/// Neither the dial is answered nor the hanging up: the series goes on as after any other
/// dial that failed.
#[test]
fn a_driver_that_never_answers_is_a_dial_that_failed() {
    let mut desk = Desk::new(SETTINGS);
    desk.work(1, 0);
    for _ in 0..2 {
        desk.pass(DIAL_PATIENCE + HANG_UP_PATIENCE + HANG_UP_AGAIN * (HANG_UP_TRIES - 1));
        let outputs = desk.outputs();
        let hang_ups = outputs.iter().filter(|o| **o == Output::HangUp);
        assert_eq!(hang_ups.count(), HANG_UP_TRIES as usize);
        assert!(outputs.contains(&Output::GiveUp));
        desk.pass(seconds(30));
    }
    desk.check(Phase::Down, &[]);
    desk.pass(seconds(900));
    desk.check(Phase::Dialling, &["dialling (1 message waits), 1 of 2"]);
}

/// A stop has a limit of its own, and does not leave what it could still hang up.
#[test]
fn a_stop_gives_nothing_up() {
    let mut desk = Desk::up(SETTINGS);
    desk.controller.stop(desk.now);
    desk.controller.quiet(desk.now);
    for _ in 0..=HANG_UP_TRIES {
        desk.controller.hung_up(desk.now, Err("no".to_owned()));
        assert!(desk.controller.owes_hang_up());
        desk.pass(HANG_UP_AGAIN);
    }
    assert!(!desk.outputs().contains(&Output::GiveUp));
}
