//! A gateway without a clock, which is set when it comes on line.

use spool_format::{Item, RecordKind, Scanner, SegmentHeader};

use super::*;
use crate::core::restart;
use crate::spool::recovery::Restart;
use crate::time::{Instant, WallTime};

#[test]
fn mail_does_not_grow_old_by_a_clock_that_is_set() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    assert_eq!(bench.count(is_accepted), 1);
    let finished = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Finished { .. }));
    let told = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Notified { .. }));
    let of_clock = |bench: &Bench| {
        bench.count(
            |fact| matches!(fact, Fact::Trouble { what } if what.starts_with("the clock was set")),
        )
    };
    let day = Duration::from_secs(24 * 3600);
    bench.wait(Duration::from_secs(3600));
    let notes = bench.notes_of_clock();
    bench.now.wall = bench.now.wall + 21 * day;
    bench.wait(Duration::from_secs(60));
    assert_eq!((finished(&bench), told(&bench)), (0, 0));
    assert_eq!(of_clock(&bench), 1, "once: {:?}", bench.facts);
    assert_eq!(bench.notes_of_clock(), notes + 1, "a restart knows it");
    bench.now.wall = WallTime::EPOCH;
    bench.wait(Duration::from_secs(60));
    assert_eq!(of_clock(&bench), 2);
    // No clock keeps it for ever, either.
    bench.wait(5 * day);
    assert_eq!(
        finished(&bench),
        1,
        "it is given up when five days have passed"
    );
}

impl Bench {
    /// Notes in the spool: here there are none of anything else.
    fn notes_of_clock(&self) -> usize {
        let segments = self.spool.0.iter();
        let notes = segments.map(|(place, (_, bytes))| {
            let header = SegmentHeader::decode(bytes, *place).expect("it was prepared");
            let is_note = |item: &Item<'_>| {
                matches!(item, Item::Record { kind, .. } if *kind == RecordKind::Note)
            };
            Scanner::new(bytes, &header).filter(is_note).count()
        });
        notes.sum()
    }
}

/// What the next life makes of it: the mail that it gives up at once.
fn given_up_by_the_next_life(spool: &Spool, wall: WallTime) -> usize {
    let mut restart = Restart::new(Some(SpoolUuid([7; 16])));
    for (place, (_, bytes)) in &spool.0 {
        restart.segment(*place, bytes, None);
    }
    let restarted = restart.finish();
    let now = Now {
        instant: Instant::START + Duration::from_secs(3600),
        wall,
    };
    let settings = settings();
    let mut queue = Schedule::new(
        queue::Settings {
            core: CoreNumber(0),
            policies: settings.policies.clone(),
            idle: settings.idle,
            seed: 3,
        },
        Arc::new(Permits::new(1, 1)),
        now,
    );
    let enqueued = restart::enqueue(now, &mut queue, &settings, &restarted, &[LogId(0)]);
    assert_eq!(enqueued.messages, 1);
    let said = std::iter::from_fn(|| queue.poll());
    said.filter(|output| matches!(output, queue::Output::Expired { .. }))
        .count()
}

/// Mail of a clock that is three weeks behind, which is set in two steps. The process dies
/// before it has seen the first, when each note is written, and with each note torn at each of
/// its octets; the next one has the right clock.
#[test]
fn a_note_of_the_clock_is_read_by_the_next_life() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    bench.wait(Duration::from_secs(3600));
    let day = Duration::from_secs(24 * 3600);
    let mut lives = vec![bench.spool.clone()];
    for step in [11, 10] {
        bench.now.wall = bench.now.wall + step * day;
        bench.wait(Duration::from_secs(60));
        lives.push(bench.spool.clone());
    }
    let wall = bench.now.wall;
    // Nothing says that the mail is not three weeks old; ten days are too old, too; and with
    // both steps it is an hour old.
    let expected = [1, 1, 0];
    for (number, (spool, expected)) in lives.iter().zip(expected).enumerate() {
        let given_up = given_up_by_the_next_life(spool, wall);
        assert_eq!(given_up, expected, "after {number} steps");
    }
    let right = wall - 10 * day;
    assert_eq!(given_up_by_the_next_life(&lives[1], right), 0);
    assert_eq!(given_up_by_the_next_life(&lives[0], right), 1);
    for number in 1..lives.len() {
        let earlier = &lives[number - 1].0;
        let mut segments = lives[number].0.iter();
        let (place, (epoch, bytes)) = segments
            .find(|(place, (_, bytes))| bytes != &earlier[place].1)
            .expect("one with the note");
        let mut before = earlier[place].1.clone();
        before.resize(bytes.len(), 0);
        let differs = |at: &usize| bytes[*at] != before[*at];
        let first = (0..bytes.len()).find(differs).expect("a note");
        let last = (0..bytes.len()).rev().find(differs).expect("a note");
        let wall = if number == 1 { right } else { wall };
        for cut in first..=last {
            let mut torn = lives[number].clone();
            let mut octets = before[..].to_vec();
            octets[first..cut].copy_from_slice(&bytes[first..cut]);
            torn.0.insert(*place, (*epoch, octets));
            let given_up = given_up_by_the_next_life(&torn, wall);
            assert_eq!(
                given_up, 1,
                "note {number} torn at {cut} of {first}..={last}"
            );
        }
    }
}
