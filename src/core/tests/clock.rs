//! A gateway without a clock, which is set when it comes on line.

use spool_format::{Item, RecordKind, Scanner, SegmentHeader};

use super::*;
use crate::time::WallTime;

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
