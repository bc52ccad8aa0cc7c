//! FORMAT.md says what the code does: its tables are compared with the code.

use crate::field::{List, tests::FIELDS};
use crate::frame::*;
use crate::header::*;
use crate::place::*;
use crate::record::*;
use crate::scan::TailKind;
use crate::summary::{SUMMARY_MAGIC, Summary, SummaryBuilder};
use crate::table::{Look, Position, verdict};

const TEXT: &str = include_str!("../FORMAT.md");

/// The text of a section, without those below the next heading.
fn section(heading: &str) -> &'static str {
    let start = TEXT
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("FORMAT.md has a section \"{heading}\""));
    let text = &TEXT[start + heading.len() + 2..];
    let end = text.find("\n#").unwrap_or(text.len());
    &text[..end]
}

/// The rows of the first table in a text, without its head.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Writes a record, reads it, and compares the fields that were read with the
/// table of its kind.
fn check<'a, R: Record<'a> + std::fmt::Debug>(record: &R) {
    let mut payload = Vec::new();
    record.write_fields(&mut payload);
    let payload: &'static [u8] = payload.leak();
    FIELDS.take();
    let mut reader: crate::field::Reader<'a> = crate::field::Reader::new(payload);
    R::read_fields(&mut reader).expect("it was just written");
    let read = FIELDS.take();
    let rows = rows(section(&format!("### {} {}", R::KIND.octet(), R::KIND)));
    let described: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row[0].trim_start_matches("· "), row[1]))
        .collect();
    assert_eq!(read, described, "{}", R::KIND);
}

const PLACE: SegmentPlace = SegmentPlace {
    log: LogId(1),
    segment: SegmentId(2),
};
const AT: Place = Place {
    segment: SegmentId(1),
    offset: Offset(2),
};

#[test]
fn fields_are_as_described() {
    let extents = [Extent {
        segment: SegmentId(1),
        offset: Offset(2),
        length: 3,
    }];
    check(&EnvelopeRecord {
        queue_id: 1,
        generation: 0,
        arrival_ms: 0,
        sender: SenderFields::without_parameters(""),
        session: SessionFields::default(),
        queue_name: None,
        recipients: List::new(&[RecipientField {
            forward_path: "",
            notify: Notify::Never,
            orcpt: None,
        }]),
        attributes: List::new(&[Attribute { tag: 1, value: b"" }]),
    });
    check(&ChunkRecord {
        queue_id: 1,
        sequence: 2,
        body: b"3",
    });
    check(&SealRecord {
        queue_id: 1,
        generation: 0,
        stamp: Stamp(0),
        arrival_ms: 0,
        envelope: AT,
        carried_from: None,
        extents: List::new(&extents),
        octets: 3,
        checksum: Checksum::EMPTY,
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
        held: false,
        priority: 0,
        deadline: None,
        hold_until_ms: None,
        queue_name: None,
        next_hop: None,
        domains: List::new(&[DomainRun {
            recipients: 1,
            domain: "",
        }]),
        done: List::new(&[RecipientNumber(0)]),
        notes: List::new(&[NoteField {
            tag: 1,
            key: b"",
            value: None,
        }]),
    });
    check(&DoneRecord {
        queue_id: 1,
        stamp: Stamp(0),
        message: PLACE,
        recipients: List::new(&[DoneField {
            recipient: RecipientNumber(0),
            outcome: Outcome::Failed,
        }]),
    });
    check(&MarkRecord {
        queue_id: 1,
        stamp: Stamp(0),
        mark: Mark::Release,
    });
    check(&AttemptRecord {
        queue_id: 1,
        stamp: Stamp(0),
        attempts: 1,
        next_attempt_ms: 2,
        told: Told::NOTHING,
        recipients: List::new(&[RecipientNumber(0)]),
        error: "",
    });
    check(&PartialRecord {
        stamp: Stamp(0),
        identity: "",
        transid: "",
        queue_id: 1,
        state: PartialState::Receiving,
        offset: 0,
        envelope: AT,
        form: BodyForm::Plain,
        eight_bit: false,
        checksum: Checksum::EMPTY,
        extents: List::new(&extents),
    });
    check(&NoteRecord {
        stamp: Stamp(0),
        tag: 1,
        key: b"",
        value: None,
    });
    check(&EndRecord { records: 1 });
    check(&BeginRecord {
        stamp: Stamp(0),
        queue_id_next: 1,
    });
}

#[test]
fn kinds_and_values_are_as_described() {
    let described: Vec<_> = rows(section("## Kinds of records"))
        .iter()
        .map(|row| format!("{} {}", row[0], row[1]))
        .collect();
    let kinds = RecordKind::ALL.iter();
    let kinds: Vec<_> = kinds
        .map(|kind| format!("{} {kind}", kind.octet()))
        .collect();
    assert_eq!(described, kinds);

    let values = section("## Values");
    let check = |name: &str, expected: Vec<String>| {
        let line = format!("- {name}: {}\n", expected.join(", "));
        assert!(values.contains(&line), "missing in FORMAT.md: {line}");
    };
    macro_rules! check {
        ($name:literal, $values:ty) => {
            let all = <$values>::ALL.iter();
            check(
                $name,
                all.map(|value| format!("{} {value}", value.octet()))
                    .collect(),
            );
        };
    }
    check!("body kind", BodyKind);
    check!("RET", Ret);
    check!("deliver-by mode", DeliverByMode);
    check!("body form", BodyForm);
    check!("outcome", Outcome);
    check!("state of a transaction", PartialState);
    check!("tail", TailKind);
}

#[test]
fn constants_are_as_described() {
    let constants = [
        ("FORMAT_VERSION", FORMAT_VERSION as usize),
        ("HEADER_COPY_BYTES", HEADER_COPY_BYTES),
        ("SEGMENT_HEADER_BYTES", SEGMENT_HEADER_BYTES),
        ("SEGMENT_BYTES_DEFAULT", SEGMENT_BYTES_DEFAULT as usize),
        ("SEGMENT_BYTES_MIN", SEGMENT_BYTES_MIN as usize),
        ("SEGMENT_BYTES_MAX", SEGMENT_BYTES_MAX as usize),
        ("RECORD_HEADER_BYTES", RECORD_HEADER_BYTES),
        ("RECORD_ALIGN", RECORD_ALIGN),
        ("PAYLOAD_BYTES_MAX", PAYLOAD_BYTES_MAX),
        ("CHUNK_BODY_OFFSET", CHUNK_BODY_OFFSET),
        ("RECIPIENTS_MAX", RECIPIENTS_MAX as usize),
    ];
    let expected = constants.map(|(name, value)| format!("{name} {value}"));
    let described: Vec<_> = rows(section("## Constants"))
        .iter()
        .map(|row| format!("{} {}", row[0], row[1]))
        .collect();
    assert_eq!(described, expected);
    let version = format!("# The format of the spool log, version {FORMAT_VERSION}\n");
    assert!(TEXT.starts_with(&version));
    let newest = rows(section("## Versions"));
    assert_eq!(
        newest.last().expect("it has rows")[0],
        FORMAT_VERSION.to_string()
    );
}

/// A table of `at`, `octets`, `field`: the octets of each field, side by side.
fn fields_at<'a>(heading: &str, octets: &'a [u8]) -> Vec<(&'static str, &'a [u8])> {
    let mut end = 0;
    rows(section(heading))
        .iter()
        .map(|row| {
            let at: usize = row[0].parse().expect("a number");
            let length: usize = row[1].parse().expect("a number");
            assert_eq!(
                at, end,
                "{} of {heading} is behind the field before",
                row[2]
            );
            end = at + length;
            (row[2], &octets[at..end])
        })
        .collect()
}

const HEADER: SegmentHeader = SegmentHeader {
    spool: SpoolUuid(*b"0123456789abcdef"),
    place: PLACE,
    epoch: Epoch(0x1122_3344_5566_7788),
    previous_epoch: Epoch(0x0102_0304_0506_0708),
    created_ms: -2,
    segment_bytes: SEGMENT_BYTES_MIN,
};

#[test]
fn headers_are_as_described() {
    let octets = HEADER.encode();
    let crc = Checksum::EMPTY.append(&octets[..72]).as_u32().to_le_bytes();
    let expected: [(&str, &[u8]); 12] = [
        ("magic", &SEGMENT_MAGIC),
        ("format version", &FORMAT_VERSION.to_le_bytes()),
        ("segment bytes", &SEGMENT_BYTES_MIN.to_le_bytes()),
        ("spool", b"0123456789abcdef"),
        ("log", &[1]),
        ("reserved", &[0; 3]),
        ("segment", &[2, 0, 0, 0]),
        ("epoch", &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
        ("previous epoch", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("created", &[0xFE, 255, 255, 255, 255, 255, 255, 255]),
        ("reserved", &[0; 8]),
        ("checksum", &crc),
    ];
    assert_eq!(fields_at("## Segment header", &octets[..]), expected);
    assert_eq!(octets[..HEADER_COPY_BYTES], octets[HEADER_COPY_BYTES..]);
    assert!(
        octets[HEADER_FIELD_BYTES..HEADER_COPY_BYTES]
            .iter()
            .all(|&octet| octet == 0)
    );
    assert_eq!(SegmentHeader::decode(&octets[..], PLACE), Ok(HEADER));
}

#[test]
fn frames_are_as_described() {
    let seat = Seat {
        epoch: HEADER.epoch,
        offset: Offset(8192),
    };
    let mut octets = Vec::new();
    EndRecord { records: 7 }
        .encode(seat, &mut octets)
        .expect("it is small");
    let mut checked = HEADER.epoch.0.to_le_bytes().to_vec();
    checked.extend_from_slice(&8192u32.to_le_bytes());
    checked.extend_from_slice(&octets[8..20]);
    let crc = Checksum::EMPTY.append(&checked).as_u32().to_le_bytes();
    // The mark as the text describes it.
    let mut x = u128::from(HEADER.epoch.0 ^ 8192u64.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for _ in 0..2 {
        x = (x ^ (x >> 32)) * 0xD6E8_FEB8_6659_FD93 % (1 << 64);
    }
    let mark = ((x >> 32) as u32 | 1).to_le_bytes();
    let expected: [(&str, &[u8]); 6] = [
        ("mark", &mark),
        ("checksum", &crc),
        ("length", &[4, 0, 0, 0]),
        ("kind", &[9]),
        ("flags", &[0]),
        ("reserved", &[0; 2]),
    ];
    assert_eq!(fields_at("## Record", &octets), expected);
    assert_eq!(octets[RECORD_HEADER_BYTES..], [7, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn summaries_are_as_described() {
    let mut builder = SummaryBuilder::new();
    builder.record(Offset(8192), RecordKind::Envelope, b"not in it");
    builder.record(Offset(8300), RecordKind::End, &[1, 0, 0, 0]);
    builder.damage(crate::scan::Damage {
        begin: Offset(8248),
        end: Offset(8300),
        fault: RecordFault::Checksum,
    });
    let octets = builder.finish(&HEADER, Offset(8324), TailKind::Ended);
    let crc = Checksum::EMPTY.append(&octets[12..]).as_u32().to_le_bytes();
    let expected: [(&str, &[u8]); 10] = [
        ("magic", &SUMMARY_MAGIC),
        ("checksum", &crc),
        ("format version", &FORMAT_VERSION.to_le_bytes()),
        ("length", &(octets.len() as u64).to_le_bytes()),
        ("segment header", &HEADER.encode()[..76]),
        ("end", &8324u32.to_le_bytes()),
        ("tail", &[1]),
        ("records", &[2, 0, 0, 0]),
        ("items", &[1, 0, 0, 0]),
        ("damages", &[1, 0, 0, 0]),
    ];
    assert_eq!(fields_at("## Summary", &octets), expected);
    let mut rest = Vec::new();
    rest.extend_from_slice(&8248u32.to_le_bytes());
    rest.extend_from_slice(&8300u32.to_le_bytes());
    rest.extend_from_slice(&8300u32.to_le_bytes());
    rest.extend_from_slice(&[4, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(octets[117..], rest);
    let summary = Summary::decode(&octets).expect("it was just written");
    assert_eq!(summary.records().count(), 1);
    assert_eq!(
        summary.damage().collect::<Vec<_>>(),
        [(Offset(8248), Offset(8300))]
    );
}

/// The table of the text is the function of the code, and has an answer to every
/// look in every position.
#[test]
fn recovery_is_as_described() {
    let answer = |look, position| {
        let verdict = verdict(look, position);
        format!(
            "{:?}, {:?}, {:?}",
            verdict.kept, verdict.severity, verdict.fate
        )
        .to_lowercase()
    };
    // What is last now is earlier after the next start: it may be told worse then,
    // but no less is kept of it.
    for look in Look::all() {
        let last = verdict(look, Position::Last);
        let earlier = verdict(look, Position::Earlier);
        assert_eq!(
            (last.kept, last.fate),
            (earlier.kept, earlier.fate),
            "{look}"
        );
        assert!(last.severity <= earlier.severity, "{look}");
    }
    let mut table = String::from("| the segment | last | earlier |\n|---|---|---|\n");
    for look in Look::all() {
        let last = answer(look, Position::Last);
        let earlier = answer(look, Position::Earlier);
        table += &format!("| {look} | {last} | {earlier} |\n");
    }
    let described = TEXT
        .split_once("<!-- recovery table: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- recovery table: end -->"))
        .map(|(table, _)| table);
    assert_eq!(
        described,
        Some(table.as_str()),
        "FORMAT.md should have:\n{table}"
    );
}
