//! A clock that is set by days while mail waits.

use super::*;

impl Desk {
    /// Three weeks forward or back, which is no time. The core looks at each reading.
    fn set_clock(&mut self, by: i64) -> ClockWasSet {
        self.now.wall = WallTime::from_millis(self.now.wall.as_millis() + by);
        let next = QueueId::new(0, self.sequence + 1);
        let set = self.schedule.look_at_clock(self.now, next);
        set.expect("that was far")
    }

    fn looks(&mut self) {
        let next = QueueId::new(0, self.sequence + 1);
        assert_eq!(self.schedule.look_at_clock(self.now, next), None);
    }
}

const WEEKS: i64 = 21 * 86_400_000;

fn expired(said: &[Output]) -> usize {
    let expired = said.iter().filter(|o| matches!(o, Output::Expired { .. }));
    expired.count()
}

fn warned(said: &[Output]) -> usize {
    let warned = said.iter().filter(|o| matches!(o, Output::Warn { .. }));
    warned.count()
}

/// Neither before its first try nor later: what the clock was set by is no age, and what
/// passed is.
#[test]
fn mail_is_no_older_and_no_younger_where_the_clock_is_set() {
    for by in [WEEKS, -WEEKS] {
        let mut desk = Desk::new(1, policy(1));
        let held = Mail {
            to: &["held.example"],
            ..PLAIN
        };
        desk.enqueue(held);
        desk.enqueue(Mail {
            deliver_by: Some((DAY, DeliverByMode::Return)),
            ..held
        });
        desk.poll();
        let said = desk.pass_by(HOUR);
        assert_eq!((warned(&said), expired(&said)), (0, 0), "{by}");
        desk.looks();
        assert_eq!(desk.set_clock(by).by, by);
        let said = desk.poll();
        assert_eq!((warned(&said), expired(&said)), (0, 0), "{by}");
        // What comes now has the right stamp.
        desk.enqueue(held);
        let said = desk.pass_by(3 * HOUR + MINUTE);
        assert_eq!(warned(&said), 2, "{by}: the first two are four hours old");
        let said = desk.pass_by(HOUR);
        assert_eq!(warned(&said), 1, "{by}: so is the third");
        let said = desk.pass_by(DAY - 5 * HOUR);
        assert_eq!(expired(&said), 1, "{by}: its sender's time is over");
        assert_eq!(expired(&desk.pass_by(4 * DAY)), 1, "{by}: of five days");
        assert_eq!(expired(&desk.pass_by(4 * HOUR)), 1, "{by}: an hour later");
        assert!(desk.schedule.index().is_empty());
    }
}

/// What the sender set is kept on the wire, too.
#[test]
fn a_senders_time_is_told_by_the_clock_as_it_is() {
    let mut desk = Desk::new(1, policy(1));
    let queue_id = desk.enqueue(Mail {
        deliver_by: Some((DAY, DeliverByMode::Notify)),
        ..PLAIN
    });
    desk.poll();
    desk.set_clock(WEEKS);
    assert_eq!(desk.schedule.time_ends(queue_id), Some(desk.now.wall + DAY));
}

fn goes(said: &[Output]) -> bool {
    said.iter().any(|o| matches!(o, Output::Connect { .. }))
}

/// RFC 4865: two hours for which it is to wait, or a moment in two hours; the clock is set when
/// half an hour has passed. Also by less than is worth a note, and also where the mail is let
/// go before its time.
#[test]
fn a_moment_is_met_by_the_clock_and_a_time_by_what_passes() {
    let waits = Some(2 * HOUR);
    let named = Mail {
        hold_until: waits,
        ..PLAIN
    };
    let timed = Mail {
        hold_for: waits,
        ..PLAIN
    };
    let slack = Duration::from_secs(2);
    let check = |mail: Mail<'_>, minutes: i64, passes: Duration| {
        for is_released in [false, true] {
            let what = format!("{mail:?} set by {minutes} minutes");
            let mut desk = Desk::new(1, policy(1));
            desk.enqueue(mail);
            assert!(!goes(&desk.pass_by(30 * MINUTE)), "{what}");
            let by = minutes * 60_000;
            desk.now.wall = WallTime::from_millis(desk.now.wall.as_millis() + by);
            let next = QueueId::new(0, desk.sequence + 1);
            desk.schedule.look_at_clock(desk.now, next);
            if is_released {
                let next_hop = to("d.example");
                let selection = Selection::NextHop(next_hop.as_ref());
                desk.schedule.release(desk.now, selection);
            }
            if passes > slack {
                assert!(!goes(&desk.pass_by(passes - slack)), "{what}: too early");
            }
            assert!(goes(&desk.pass_by(2 * slack)), "{what}: too late");
        }
    };
    for (minutes, passes) in [(60, 30), (-60, 150), (5, 85), (-5, 95), (90, 0), (600, 0)] {
        check(named, minutes, passes * MINUTE);
        check(timed, minutes, 90 * MINUTE);
    }
    check(timed, -30 * 24 * 60, 90 * MINUTE);
    check(named, -60 * 24, 90 * MINUTE + DAY);
}

/// What has a moment to wait for is as old as it is by then, not as the clock was set by.
#[test]
fn what_waits_for_a_moment_grows_old_behind_it() {
    let mut desk = Desk::new(1, policy(1));
    let held = Mail {
        to: &["held.example"],
        hold_until: Some(DAY),
        ..PLAIN
    };
    desk.enqueue(held);
    desk.poll();
    // Its moment is over by that, and it is an hour old.
    desk.pass_by(HOUR);
    desk.set_clock(WEEKS);
    assert_eq!(expired(&desk.pass_by(5 * DAY - HOUR - MINUTE)), 0);
    assert_eq!(expired(&desk.pass_by(2 * MINUTE)), 1);
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(held);
    desk.poll();
    desk.set_clock(-WEEKS);
    assert_eq!(expired(&desk.pass_by(22 * DAY + 5 * DAY - MINUTE)), 0);
    assert_eq!(expired(&desk.pass_by(2 * MINUTE)), 1);
}

/// In another life the same mail is not found too old either.
#[test]
fn it_is_so_after_a_restart() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(PLAIN);
    desk.poll();
    let set = desk.set_clock(WEEKS);
    desk.poll();
    let facts = MessageFacts {
        queue_id: QueueId::new(0, 1),
        location: Location {
            log: LogId(0),
            segment: SegmentId(0),
            offset: Offset(8),
        },
        octets: 1000,
        arrival: NOON,
        priority: Priority::new(0).unwrap(),
        deliver_by: None,
        hold_until: None,
        hold: HoldState::Free,
    };
    let start = |notes: &[(u8, Vec<u8>)], hold_until: Option<HoldUntil>| {
        let mut desk = Desk {
            schedule: schedule(0, &Arc::new(Permits::new(1, 1)), policy(1), desk.now),
            ..Desk::new(1, policy(1))
        };
        desk.now = Now {
            instant: Instant::START + HOUR,
            wall: NOON + DAY * 21,
        };
        let notes = notes.iter().map(|(core, note)| (*core, &note[..]));
        desk.schedule.found_before(QueueId::new(0, 2), notes);
        let mut filing = desk.schedule.filing(desk.now, 1);
        let destination = filing.destination(to("d.example").as_ref());
        let recipient = FiledRecipient {
            recipient: RecipientIndex(0),
            destination,
            attempts: 0,
            not_before: None,
            told: Told::NOTHING,
        };
        let facts = MessageFacts {
            hold_until,
            ..facts
        };
        filing.message(&facts, &[recipient]);
        filing.finish();
        desk
    };
    let check = |notes: &[(u8, Vec<u8>)], expected: usize| {
        let mut desk = start(notes, None);
        assert_eq!(expired(&desk.poll()), expected);
        desk.pass_by(6 * DAY);
        assert!(desk.schedule.index().is_empty(), "five days are five days");
    };
    check(&set.notes, 0);
    check(&[], 1);
    // It came two hours before its time, which was none ago by the clock as it was.
    let timed = HoldUntil::end(NOON + 2 * HOUR);
    let mut desk = start(&set.notes, Some(timed));
    assert!(!goes(&desk.pass_by(2 * HOUR - MINUTE)), "too early");
    assert!(goes(&desk.pass_by(2 * MINUTE)), "too late");
    let mut desk = start(&set.notes, Some(HoldUntil::moment(NOON + 2 * HOUR)));
    assert!(goes(&desk.poll()), "its moment is over");
    let moment = HoldUntil::moment(NOON + 22 * DAY);
    let mut desk = start(&set.notes, Some(moment));
    assert!(!goes(&desk.pass_by(DAY - MINUTE)), "too early");
    assert!(goes(&desk.pass_by(2 * MINUTE)), "too late");
}

/// It was to be tried again in ten minutes, by a clock that was three weeks ahead and has been
/// set right over a restart.
#[test]
fn no_start_puts_mail_off_for_longer_than_a_pause_between_attempts() {
    let mut desk = Desk::new(1, policy(1));
    desk.enqueue(Mail {
        not_before: Some(21 * DAY),
        ..PLAIN
    });
    assert_eq!(desk.pass_by(4 * HOUR - SECOND), []);
    desk.pass(SECOND);
    desk.connect();
}
