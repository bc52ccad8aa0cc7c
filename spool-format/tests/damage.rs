//! Every single-bit flip, every truncation, every torn write of a small segment:
//! what was not hit is found, and what was hit is never taken for a message.

mod common;

use common::*;
use spool_format::*;
use std::collections::BTreeMap;

const BODY: &[u8] = b"Subject: x\r\n\r\nNothing of importance.\r\n";

/// Three messages; the second one is done.
fn segment(header: SegmentHeader) -> Segment {
    fill(Segment::new(header))
}

fn fill(mut segment: Segment) -> Segment {
    segment.append(&BeginRecord {
        stamp: Stamp(1),
        queue_id_next: 1,
    });
    for queue_id in [1, 2, 3] {
        let small = Small {
            queue_id,
            stamp: 10 + queue_id as i64,
            domains: &["a.example", "b.example"],
            body: BODY,
        };
        append_message(&mut segment, &small);
    }
    segment.append(&done(2, 20, &[delivered(0), delivered(1)]));
    segment.append(&done(3, 21, &[delivered(1)]));
    segment
}

fn recover(file: &[u8]) -> Recovered {
    let mut recovery = Recovery::new(Some(SPOOL));
    recovery.segment(place(1), file, None);
    recovery.finish()
}

/// The records that a scan finds, and the tail.
fn scan(file: &[u8], header: &SegmentHeader) -> (Vec<(u32, RecordKind)>, Vec<Damage>, TailKind) {
    let mut records = Vec::new();
    let mut damages = Vec::new();
    let mut scanner = Scanner::new(file, header);
    let mut covered = SEGMENT_HEADER_BYTES as u32;
    for item in scanner.by_ref() {
        match item {
            Item::Record { offset, kind, .. } => {
                assert!(offset.0 >= covered, "items are in order");
                covered = offset.0;
                records.push((offset.0, kind));
            }
            Item::Damage(damage) => {
                assert!(damage.begin.0 >= covered && damage.end > damage.begin);
                covered = damage.end.0;
                damages.push(damage);
            }
            Item::Tail { offset, kind } => {
                assert!(offset.0 >= covered, "items are in order");
                assert_eq!(scanner.next(), None, "nothing follows the tail");
                return (records, damages, kind);
            }
            Item::Unknown { offset, .. } => panic!("a kind at {offset:?} that nobody wrote"),
        }
    }
    panic!("no tail");
}

/// The messages that must still be there, of those in `whole`, if the records in
/// `lost` are not: all of their parts are.
fn parts_of(segment: &Segment) -> Vec<(u64, Vec<u32>)> {
    // Begin, then envelope, two chunks and seal of each message.
    (0..3)
        .map(|index| {
            let first = 1 + 4 * index as usize;
            let offsets = segment.records[first..first + 4]
                .iter()
                .map(|record| record.0);
            (index + 1, offsets.collect())
        })
        .collect()
}

fn check_survivors(segment: &Segment, file: &[u8], lost: &[u32], context: &str) {
    let whole = describe(&recover(&segment.file));
    check_survivors_of(&whole, segment, file, lost, context);
}

fn check_survivors_of(
    whole: &BTreeMap<u64, String>,
    segment: &Segment,
    file: &[u8],
    lost: &[u32],
    context: &str,
) {
    let expected: Vec<(u32, RecordKind)> = segment
        .records
        .iter()
        .filter(|(begin, _, _)| !lost.contains(begin))
        .map(|&(begin, _, kind)| (begin, kind))
        .collect();
    let (records, _, _) = scan(file, &segment.header);
    assert_eq!(records, expected, "{context}");

    let recovered = recover(file);
    let found = describe(&recovered);
    let done_of_2 = segment.records[13].0;
    let done_of_3 = segment.records[14].0;
    for (queue_id, parts) in parts_of(segment) {
        let hit = parts.iter().any(|part| lost.contains(part));
        let ended = queue_id == 2 && !lost.contains(&done_of_2);
        match found.get(&queue_id) {
            Some(text) => {
                assert!(!hit && !ended, "{context}: {text}");
                if queue_id != 2 && !(queue_id == 3 && lost.contains(&done_of_3)) {
                    assert_eq!(text, &whole[&queue_id], "{context}");
                }
            }
            None => assert!(hit || ended, "{context}: message {queue_id} is gone"),
        }
        let seal_is_there = !lost.contains(&parts[3]);
        let broken = recovered
            .broken
            .iter()
            .any(|broken| broken.message.queue_id == queue_id);
        assert_eq!(
            broken,
            hit && seal_is_there && !ended,
            "{context}: message {queue_id} is reported if its seal is there"
        );
    }
}

#[test]
fn every_bit_flip_loses_only_what_it_hits() {
    for closed in [false, true] {
        let mut segment = segment(header(1, 77));
        if closed {
            segment.close();
        }
        check_survivors(&segment, &segment.file, &[], "nothing flipped");
        let whole = describe(&recover(&segment.file));
        let mut file = segment.file.clone();
        for octet in SEGMENT_HEADER_BYTES..segment.end as usize {
            let (begin, end, _) = *segment
                .records
                .iter()
                .find(|(begin, end, _)| (*begin as usize..*end as usize).contains(&octet))
                .expect("records lie side by side");
            let length = u32::from_le_bytes(
                file[begin as usize + 8..begin as usize + 12]
                    .try_into()
                    .expect("four octets"),
            );
            let hit = octet < begin as usize + RECORD_HEADER_BYTES + length as usize;
            let lost: &[u32] = if hit { &[begin] } else { &[] };
            for bit in 0..8 {
                file[octet] ^= 1 << bit;
                let context = format!("octet {octet} bit {bit}");
                check_survivors_of(&whole, &segment, &file, lost, &context);
                let (_, damages, tail) = scan(&file, &segment.header);
                if hit && end != segment.end {
                    assert_eq!(damages.len(), 1);
                    assert_eq!((damages[0].begin.0, damages[0].end.0), (begin, end));
                    let expected = if closed {
                        TailKind::Ended
                    } else {
                        TailKind::Zeros
                    };
                    assert_eq!(tail, expected);
                } else if hit {
                    assert!(matches!(tail, TailKind::Torn | TailKind::Unreadable));
                }
                file[octet] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn every_bit_flip_of_the_header_is_survived() {
    let mut segment = segment(header(1, 77));
    segment.close();
    let mut file = segment.file.clone();
    let octets = (0..80).chain(HEADER_COPY_BYTES..HEADER_COPY_BYTES + 80);
    for octet in octets.chain([HEADER_COPY_BYTES - 1, SEGMENT_HEADER_BYTES - 1]) {
        for bit in 0..8 {
            file[octet] ^= 1 << bit;
            check_survivors(&segment, &file, &[], &format!("octet {octet} bit {bit}"));
            file[octet] ^= 1 << bit;
        }
    }
    // Both copies hit: the summary has what was lost; without it the file is left
    // aside, and said to be damaged.
    file[40] ^= 1;
    file[HEADER_COPY_BYTES + 40] ^= 1;
    let recovered = recover(&file);
    assert!(recovered.messages.is_empty());
    assert_eq!(recovered.segments[0].look, Look::HeaderDamaged);
    assert_eq!(recovered.segments[0].verdict.fate, Fate::Aside);
    let mut recovery = Recovery::new(None);
    let source = recovery.segment(place(1), &file, Some(&segment.summary()));
    let recovered = recovery.finish();
    assert_eq!(source, Source::Scan);
    assert_eq!(recovered.segments[0].look, Look::HeaderFromSummary);
    assert_eq!(recovered.severity(), Severity::Damage);
    assert_eq!(describe(&recovered), describe(&recover(&segment.file)));
}

#[test]
fn every_truncation_keeps_what_is_before_it() {
    for closed in [false, true] {
        let mut segment = segment(header(1, 77));
        if closed {
            segment.close();
        }
        let ends: Vec<usize> = (0..segment.end as usize + 40)
            .chain([segment.file.len() - 1])
            .collect();
        for end in ends {
            let file = &segment.file[..end];
            if SegmentHeader::decode(file, place(1)).is_err() {
                assert!(end < 76, "the first copy of the header is there");
                assert!(recover(file).messages.is_empty());
                continue;
            }
            let lost: Vec<u32> = segment
                .records
                .iter()
                .filter(|(begin, _, _)| {
                    let at = *begin as usize;
                    segment.file.get(at + 8..at + 12).is_none_or(|length| {
                        let length = u32::from_le_bytes(length.try_into().expect("four octets"));
                        at + RECORD_HEADER_BYTES + length as usize > end
                    })
                })
                .map(|record| record.0)
                .collect();
            check_survivors(&segment, file, &lost, &format!("cut at {end}"));
            let (_, damages, tail) = scan(file, &segment.header);
            assert_eq!(damages, []);
            let ended = closed && lost.is_empty();
            assert_eq!(
                tail,
                if ended {
                    TailKind::Ended
                } else {
                    TailKind::Short
                },
                "{end}"
            );
        }
    }
}

/// What an earlier use of the file left: the same records, with another epoch.
fn used_before() -> Vec<u8> {
    let mut old = segment(header(1, 76));
    for _ in 0..40 {
        old.append(&done(3, 21, &[delivered(1)]));
    }
    old.file
}

#[test]
fn records_of_an_earlier_use_are_nothing() {
    let mut reused = header(1, 77);
    reused.previous_epoch = Epoch(76);
    let old = used_before();
    let nothing = Segment::reuse(reused, old.clone());
    let (records, damages, tail) = scan(&nothing.file, &nothing.header);
    assert_eq!((records, damages, tail), (vec![], vec![], TailKind::Stale));

    let segment = fill(Segment::reuse(reused, old));
    check_survivors(&segment, &segment.file, &[], "over an earlier use");
    let (_, damages, tail) = scan(&segment.file, &segment.header);
    assert_eq!((damages, tail), (vec![], TailKind::Stale));

    // The epoch before the last is not known: that is told apart from damage no
    // more, and changes nothing else.
    let mut unknown = segment.clone();
    unknown.header.previous_epoch = Epoch(75);
    let (records, damages, tail) = scan(&unknown.file, &unknown.header);
    assert_eq!(records.len(), segment.records.len());
    assert_eq!((damages, tail), (vec![], TailKind::Unreadable));
}

/// The last record reaches the disk up to any octet, over zeros or over what an
/// earlier use left.
#[test]
fn every_torn_write_keeps_what_was_written_before() {
    let mut reused = header(1, 77);
    reused.previous_epoch = Epoch(76);
    for under in [vec![0; SEGMENT_BYTES_MIN as usize], used_before()] {
        let before = fill(Segment::reuse(reused, under));
        let mut after = before.clone();
        let small = Small {
            queue_id: 9,
            stamp: 30,
            domains: &["a.example"],
            body: BODY,
        };
        append_message(&mut after, &small);
        for end in before.end as usize..after.end as usize {
            let mut file = before.file.clone();
            file[..end].copy_from_slice(&after.file[..end]);
            let lost: Vec<u32> = after
                .records
                .iter()
                .filter(|(begin, _, _)| {
                    let at = *begin as usize;
                    let length = u32::from_le_bytes(
                        after.file[at + 8..at + 12].try_into().expect("four octets"),
                    );
                    let whole = at + RECORD_HEADER_BYTES + length as usize;
                    // What is under it may be what was to be written.
                    file[at..whole] != after.file[at..whole]
                })
                .map(|record| record.0)
                .collect();
            check_survivors(&after, &file, &lost, &format!("cut at {end}"));
            let found = describe(&recover(&file));
            let sealed = !lost.contains(&after.records.last().expect("it has records").0);
            assert_eq!(found.contains_key(&9), sealed, "the seal decides, at {end}");
        }
    }
}

/// What is behind the last record is told by any place in it.
#[test]
fn tails() {
    let check = |change: &dyn Fn(&mut Segment), expected: TailKind| {
        let mut segment = segment(header(1, 77));
        change(&mut segment);
        let (_, damages, tail) = scan(&segment.file, &segment.header);
        assert_eq!((damages, tail), (vec![], expected));
    };
    let end = |segment: &Segment| segment.end as usize;
    check(&|_| {}, TailKind::Zeros);
    check(&Segment::close, TailKind::Ended);
    check(
        &|segment| {
            let end = end(segment);
            segment.file[end] = 1;
        },
        TailKind::Unreadable,
    );
    check(
        &|segment| *segment.file.last_mut().expect("it is long") = 1,
        TailKind::Unreadable,
    );
    check(
        &|segment| {
            let end = end(segment);
            segment.file.truncate(end)
        },
        TailKind::Short,
    );
    check(&|segment| segment.file.push(1), TailKind::Zeros);
    let torn = |segment: &mut Segment, lost: usize| {
        let begin = end(segment);
        for _ in 0..2 {
            segment.append(&done(3, 21, &[delivered(1)]));
        }
        segment.file[begin + 20..begin + 30].fill(9);
        let last = end(segment) - 20;
        segment.file[last..].fill(0);
        segment.file[begin..begin + lost].fill(0);
    };
    check(&|segment| torn(segment, 0), TailKind::Torn);
    // Of the first record the header is missing, of the second the end.
    check(&|segment| torn(segment, 16), TailKind::Torn);
    check(&|segment| torn(segment, 64), TailKind::Unreadable);
    let full = |segment: &mut Segment, room: usize| {
        let body = segment.file.len() - end(segment) - CHUNK_BODY_OFFSET - room;
        segment.append(&ChunkRecord {
            queue_id: 9,
            sequence: 0,
            body: &vec![1; body],
        });
    };
    check(&|segment| full(segment, 0), TailKind::Full);
    check(&|segment| full(segment, 8), TailKind::Full);
    check(&|segment| full(segment, 16), TailKind::Zeros);
}

/// The sectors of a batch reach the disk in any order: each subset of them.
#[test]
fn every_subset_of_sectors_keeps_what_is_whole() {
    const SECTOR: usize = 256;
    let before = segment(header(1, 77));
    let mut after = before.clone();
    for queue_id in [8, 9] {
        let small = Small {
            queue_id,
            stamp: 30,
            domains: &["a.example"],
            body: &BODY.repeat(5),
        };
        append_message(&mut after, &small);
    }
    let first = before.end as usize / SECTOR;
    let count = (after.end as usize).div_ceil(SECTOR) - first;
    assert!((5..=12).contains(&count), "{count} sectors");
    for subset in 0..1 << count {
        let mut file = before.file.clone();
        for sector in (0..count).filter(|sector| subset >> sector & 1 != 0) {
            let octets = (first + sector) * SECTOR..(first + sector + 1) * SECTOR;
            file[octets.clone()].copy_from_slice(&after.file[octets]);
        }
        let lost: Vec<u32> = after
            .records
            .iter()
            .filter(|&&(begin, end, _)| {
                let octets = begin as usize..end as usize;
                file[octets.clone()] != after.file[octets]
            })
            .map(|record| record.0)
            .collect();
        check_survivors(&after, &file, &lost, &format!("sectors {subset:b}"));
        let recovered = recover(&file);
        assert!(
            recovered.severity() <= Severity::Doubt,
            "a crash is never called damage"
        );
    }
}

/// A record that is copied to another place of the file is not a record there.
#[test]
fn a_record_is_one_only_in_its_place() {
    let segment = segment(header(1, 77));
    for &(begin, end, _) in &segment.records {
        for target in (SEGMENT_HEADER_BYTES..segment.file.len() - 1000).step_by(RECORD_ALIGN) {
            if target == begin as usize {
                continue;
            }
            let mut file = segment.file.clone();
            file.copy_within(begin as usize..end as usize, target);
            let seat = Seat {
                epoch: segment.header.epoch,
                offset: Offset(target as u32),
            };
            let was_one = segment
                .records
                .iter()
                .any(|record| record.0 as usize == target);
            let read = read_frame(&file, seat);
            assert!(was_one || read == Err(RecordFault::NoMark), "{target}");
            assert!(read.is_err(), "{target}");
        }
    }
}

/// A client that knows the format puts records into a message. They are not taken
/// for records even where damage makes the scan look for some.
#[test]
fn records_in_a_body_are_a_body() {
    let inner = segment(header(1, 99));
    let records = &inner.file[SEGMENT_HEADER_BYTES..inner.end as usize];
    let mut large = header(1, 77);
    large.segment_bytes = 64 << 10;
    let mut outer = Segment::new(large);
    for shift in 0..RECORD_ALIGN {
        let body = [&b"........"[..shift], records].concat();
        let small = Small {
            queue_id: 50 + shift as u64,
            stamp: 1,
            domains: &["a.example"],
            body: &body,
        };
        append_message(&mut outer, &small);
    }
    for &(begin, _, kind) in &outer.records {
        let mut file = outer.file.clone();
        file[begin as usize + 4] ^= 1;
        let found = describe(&recover(&file));
        assert!(
            found.keys().all(|&queue_id| queue_id >= 50),
            "{kind} at {begin}"
        );
        assert_eq!(found.len(), RECORD_ALIGN - 1);
    }
}
