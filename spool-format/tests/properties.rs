//! What holds for all octets: nothing panics, what decodes is written in one way,
//! and what is written is what is read.

mod common;

use common::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use spool_format::*;

/// A payload is refused, or it is the only way to write what it says.
fn one_way<'a, R: Record<'a>>(payload: &'a [u8]) {
    if let Ok(record) = R::decode(payload) {
        let mut again = Vec::new();
        record.write_fields(&mut again);
        assert_eq!(again, payload);
    }
}

fn one_way_of_each(payload: &[u8]) {
    one_way::<EnvelopeRecord<'_>>(payload);
    one_way::<ChunkRecord<'_>>(payload);
    one_way::<SealRecord<'_>>(payload);
    one_way::<DoneRecord<'_>>(payload);
    one_way::<MarkRecord<'_>>(payload);
    one_way::<AttemptRecord<'_>>(payload);
    one_way::<PartialRecord<'_>>(payload);
    one_way::<NoteRecord<'_>>(payload);
    one_way::<EndRecord>(payload);
    one_way::<BeginRecord>(payload);
    for &kind in RecordKind::ALL {
        let text = RecordText { kind, payload }.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// Frames a record, reads it, and gives the payload.
fn framed<'a, R: Record<'a>>(record: &R, seat: Seat) -> Vec<u8> {
    let mut out = vec![0; seat.offset.0 as usize];
    let framed_bytes = record.encode(seat, &mut out).expect("it is small");
    assert_eq!(framed_bytes as usize, out.len() - seat.offset.0 as usize);
    let framed = read_frame(&out, seat).expect("it was just written");
    assert_eq!(framed.kind(), Some(R::KIND));
    framed.payload.to_vec()
}

fn seats() -> impl Strategy<Value = Seat> {
    (1u64.., 0..512u32).prop_map(|(epoch, eighth)| Seat {
        epoch: Epoch(epoch),
        offset: Offset(eighth * 8),
    })
}

fn notifies() -> impl Strategy<Value = Notify> {
    let on = (any::<bool>(), any::<bool>(), any::<bool>())
        .prop_filter("one at least", |(a, b, c)| *a || *b || *c)
        .prop_map(|(success, failure, delay)| Notify::On {
            success,
            failure,
            delay,
        });
    prop_oneof![Just(Notify::Unspecified), Just(Notify::Never), on]
}

type Path = (String, Notify, Option<String>);

proptest! {
    #[test]
    fn any_payload(payload in vec(any::<u8>(), 0..200)) {
        one_way_of_each(&payload);
    }

    /// Small numbers make counts and lengths that go further.
    #[test]
    fn any_small_payload(payload in vec(prop_oneof![0..4u8, Just(255)], 0..200)) {
        one_way_of_each(&payload);
    }

    #[test]
    fn any_file(
        noise in vec(any::<u8>(), 0..3000),
        summary in vec(any::<u8>(), 0..300),
        begin in 0..3usize,
    ) {
        // Noise alone, behind a good header, behind some records.
        let mut segment = Segment::new(header(1, 77));
        if begin == 2 {
            let small = Small { queue_id: 1, stamp: 1, domains: &["a.example"], body: b"x\r\n" };
            append_message(&mut segment, &small);
        }
        let mut file = segment.file[..segment.end as usize].to_vec();
        if begin == 0 {
            file.clear();
        }
        file.extend_from_slice(&noise);
        let mut recovery = Recovery::new(Some(SPOOL));
        recovery.segment(place(1), &file, Some(&summary));
        let recovered = recovery.finish();
        prop_assert_eq!(recovered.messages.len(), usize::from(begin == 2));
        prop_assert_eq!(recovered.segments.len(), 1);
        prop_assert!(!recovered.segments[0].to_string().is_empty());
    }

    #[test]
    fn envelopes(
        seat in seats(),
        queue_id: u64,
        generation: u32,
        arrival_ms: i64,
        flags: (bool, bool, bool),
        texts in vec(option::of(".{0,20}"), 9),
        times: (Option<(i64, bool)>, Option<i64>),
        priority in option::of(-9..=9i8),
        paths in vec((".{0,20}", notifies(), option::of(".{0,8}")), 0..5),
        attributes in vec((any::<u16>(), vec(any::<u8>(), 0..9)), 0..3),
    ) {
        let paths: Vec<Path> = paths;
        let recipients: Vec<_> = paths
            .iter()
            .map(|(forward_path, notify, orcpt)| RecipientField {
                forward_path,
                notify: *notify,
                orcpt: orcpt.as_deref(),
            })
            .collect();
        let attributes: Vec<_> =
            attributes.iter().map(|(tag, value)| Attribute { tag: *tag, value }).collect();
        let text = |index: usize| texts[index].as_deref();
        let record = EnvelopeRecord {
            queue_id,
            generation,
            arrival_ms,
            sender: SenderFields {
                reverse_path: text(0).unwrap_or(""),
                body: BodyKind::ALL[generation as usize % 3],
                smtputf8: flags.0,
                require_tls: flags.1,
                ret: flags.2.then_some(Ret::Full),
                envid: text(1),
                priority,
                deliver_by: times.0.map(|(deadline_ms, trace)| DeliverBy {
                    deadline_ms,
                    mode: DeliverByMode::Notify,
                    trace,
                }),
                hold_until_ms: times.1,
            },
            session: SessionFields {
                client_address: text(2),
                client_host: text(3),
                client_name: text(4),
                protocol: text(5),
                user: text(6),
                tls: text(7),
                checks: None,
            },
            queue_name: text(8),
            recipients: List::new(&recipients),
            attributes: List::new(&attributes),
        };
        let payload = framed(&record, seat);
        let read = EnvelopeRecord::decode(&payload);
        prop_assert_eq!(read.as_ref(), Ok(&record));
        let again: Vec<_> = read.expect("it was just compared").recipients.iter().collect();
        prop_assert_eq!(again, recipients);
    }

    #[test]
    fn seals(
        seat in seats(),
        numbers: (u64, u32, i64, i64, u32, u32),
        flags: (bool, bool, bool),
        options: (Option<(u8, u32)>, Option<i64>, Option<i64>),
        texts in vec(option::of(".{0,20}"), 2),
        priority in -9..=9i8,
        lengths in vec((any::<u32>(), any::<u32>(), 0..1000u32), 0..4),
        domains in vec((1..9u32, ".{0,20}"), 0..4),
        done_bits: u8,
        notes in vec(
            (any::<u16>(), vec(any::<u8>(), 0..9), option::of(vec(any::<u8>(), 0..9))),
            0..3,
        ),
    ) {
        let extents: Vec<_> = lengths
            .iter()
            .map(|&(segment, offset, length)| Extent {
                segment: SegmentId(segment),
                offset: Offset(offset),
                length,
            })
            .collect();
        let domains: Vec<_> = domains
            .iter()
            .map(|(recipients, domain)| DomainRun { recipients: *recipients, domain })
            .collect();
        let count: u32 = domains.iter().map(|run| run.recipients).sum();
        let done: Vec<_> = (0..count.min(8))
            .filter(|number| done_bits >> number & 1 != 0)
            .map(RecipientNumber)
            .collect();
        let notes: Vec<_> = notes
            .iter()
            .map(|(tag, key, value)| NoteField { tag: *tag, key, value: value.as_deref() })
            .collect();
        let record = SealRecord {
            queue_id: numbers.0,
            generation: numbers.1,
            stamp: Stamp(numbers.2),
            arrival_ms: numbers.3,
            envelope: Place { segment: SegmentId(numbers.4), offset: Offset(numbers.5) },
            carried_from: options.0.map(|(log, segment)| SegmentPlace {
                log: LogId(log),
                segment: SegmentId(segment),
            }),
            extents: List::new(&extents),
            octets: extents.iter().map(|extent| u64::from(extent.length)).sum(),
            checksum: Checksum::from_u32(numbers.4),
            form: BodyForm::ALL[numbers.1 as usize % 3],
            ends_with_crlf: flags.0,
            eight_bit: flags.1,
            held: flags.2,
            priority,
            deadline: options.1.map(|at_ms| Deadline {
                at_ms,
                mode: if at_ms % 2 == 0 {
                    DeliverByMode::Return
                } else {
                    DeliverByMode::Notify
                },
            }),
            hold_until_ms: options.2,
            queue_name: texts[0].as_deref(),
            next_hop: texts[1].as_deref(),
            domains: List::new(&domains),
            done: List::new(&done),
            notes: List::new(&notes),
        };
        let payload = framed(&record, seat);
        prop_assert_eq!(SealRecord::decode(&payload), Ok(record));
    }
}

/// All payloads of up to two octets.
#[test]
fn every_tiny_payload() {
    one_way_of_each(&[]);
    for first in 0..=255u8 {
        one_way_of_each(&[first]);
        for second in 0..=255u8 {
            one_way_of_each(&[first, second]);
        }
    }
}
