use super::*;

const DAY: i64 = 86_400_000;
const NOON: WallTime = WallTime::from_millis(1_795_305_600_000);

fn now(hours: u64, wall: WallTime) -> Now {
    let passed = Duration::from_secs(3600 * hours);
    Now {
        instant: crate::time::Instant::START + passed,
        wall: wall + passed,
    }
}

const fn days(days: i64) -> i64 {
    days * DAY
}

fn id(number: u64) -> QueueId {
    QueueId::new(0, number)
}

#[test]
fn the_clock_is_set_only_by_what_is_not_passed_time() {
    let check = |readings: &[(u64, i64)], expected: &[i64]| {
        let mut ageing = Ageing::new(0, now(0, NOON));
        let looks = readings
            .iter()
            .filter_map(|(hours, by)| ageing.look(now(*hours, moved(NOON, *by))));
        assert_eq!(looks.collect::<Vec<_>>(), expected, "{readings:?}");
    };
    let just = SET_MIN.as_millis() as i64;
    check(&[(1, 0), (1000, 0)], &[]);
    check(&[(1, just - 1), (2, just - 1)], &[]);
    check(&[(1, just), (2, just)], &[just]);
    check(&[(1, -just), (2, -just)], &[-just]);
    check(&[(1, days(21)), (2, 0)], &[days(21), days(-21)]);
}

#[test]
fn mail_that_was_there_is_moved_with_the_clock_and_what_comes_later_is_not() {
    let mut ageing = Ageing::new(0, now(0, NOON));
    ageing.set(days(21), id(10), []);
    ageing.set(days(-1), id(20), []);
    let check = |number, expected| {
        assert_eq!(ageing.later(id(number), NOON), expected, "{number}");
    };
    check(9, days(20));
    check(10, days(-1));
    check(19, days(-1));
    check(20, 0);
    // Nothing is known of what another core took.
    assert_eq!(ageing.later(QueueId::new(1, 5), NOON), 0);
}

#[test]
fn what_was_found_is_moved_unless_its_stamp_is_better_than_the_clock() {
    // The clock began in 1970; a day later it is set.
    let epoch = WallTime::EPOCH + Duration::from_secs(1_000_000);
    let by = NOON.as_millis() - epoch.as_millis();
    let check = |arrival: WallTime, before, after| {
        let mut ageing = Ageing::new(0, now(0, epoch));
        ageing.found_before(id(10));
        assert_eq!(ageing.later(id(5), arrival), before, "{arrival}");
        ageing.set(by, id(20), []);
        assert_eq!(ageing.later(id(5), arrival), after, "{arrival}");
    };
    // Stamped by a clock as bad in an earlier life.
    check(moved(epoch, days(-2)), 0, by);
    // By a good one: old or not when the clock is right, and meanwhile it ages from the start.
    let three_days_ago = moved(NOON, days(-3));
    check(three_days_ago, days(3) - by, 0);
    // The clock had saved itself an hour before it ended.
    check(moved(epoch, DAY / 24), -DAY / 24, by - DAY / 24);
}

/// A clock that was years ahead, and was set right in another life: nothing stays for years.
#[test]
fn what_was_stamped_by_a_clock_ahead_ages_from_the_start() {
    let mut ageing = Ageing::new(0, now(0, NOON));
    ageing.found_before(id(10));
    assert_eq!(ageing.later(id(5), moved(NOON, days(4000))), days(-4000));
    assert_eq!(ageing.later(QueueId::new(3, 5), moved(NOON, 7)), -7);
    assert_eq!(ageing.later(id(10), moved(NOON, 7)), 0);
}

#[test]
fn the_next_life_knows_it_too() {
    let mut before = Ageing::new(0, now(0, NOON));
    before.found_before(id(3));
    before.set(days(21), id(10), [0, 7]);
    let notes = before.set(days(2), id(20), [7]);
    let mut after = Ageing::new(0, now(0, moved(NOON, days(24))));
    after.found_before(id(30));
    for (core, note) in &notes {
        after.recall(*core, note);
    }
    for queue_id in [id(1), id(5), id(15), id(25), QueueId::new(7, 1)] {
        let expected = before.later(queue_id, NOON);
        assert_eq!(after.later(queue_id, NOON), expected, "{queue_id}");
    }
    assert_eq!(after.later(QueueId::new(7, 1), NOON), days(23));
    // Of a newer version, perhaps: then nothing is known.
    after.recall(0, &notes[0].1[1..]);
    assert_eq!(after.later(id(5), NOON), days(23));
    let mut nothing = Ageing::new(0, now(0, NOON));
    nothing.recall(0, &notes[0].1[1..]);
    assert_eq!(nothing.later(id(5), NOON), 0);
}

#[test]
fn the_last_times_are_remembered() {
    let mut ageing = Ageing::new(0, now(0, NOON));
    for number in 0..=SETS_MAX as u64 {
        let notes = ageing.set(days(1), id(number + 1), []);
        assert!(notes[0].1.len() <= SETS_MAX * SET_BYTES);
    }
    let last = SETS_MAX as i64;
    assert_eq!(ageing.later(id(0), NOON), days(last));
    assert_eq!(ageing.later(id(SETS_MAX as u64), NOON), days(1));
}
