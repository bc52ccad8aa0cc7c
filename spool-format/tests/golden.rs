//! The files under `golden/` are what version 1 is: what was written then is
//! written now, and is read as it was read then.
//!
//! Files of a released version never change. Those of a new version are made by
//! running this test with `SPOOL_FORMAT_BLESS=1`, on one thread.

mod common;

use common::*;
use spool_format::*;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One record of each kind with little in it, and one with all there can be.
fn every_kind(header: SegmentHeader) -> Segment {
    let mut segment = Segment::new(header);
    segment.append(&BeginRecord {
        stamp: Stamp(1_795_351_597_000),
        queue_id_next: 0x0300_0000_0000_0001,
    });
    small_message(&mut segment);
    large_message(&mut segment);
    outcomes(&mut segment);
    states(&mut segment);
    segment.close();
    segment
}

const SMALL: u64 = 0x0300_0000_0000_0001;
const LARGE: u64 = 0x0300_0000_0000_0002;

fn small_message(segment: &mut Segment) {
    let small = Small {
        queue_id: SMALL,
        stamp: 1_795_351_597_250,
        domains: &["branch.example"],
        body: b"Subject: small\r\n\r\nHello.\r\n",
    };
    append_message(segment, &small);
}

fn large_message(segment: &mut Segment) {
    let recipients = [
        RecipientField {
            forward_path: "anna@branch.example",
            notify: Notify::On {
                success: true,
                failure: true,
                delay: true,
            },
            orcpt: Some("rfc822;anna+2Bx@branch.example"),
        },
        RecipientField {
            forward_path: "björn@branch.example",
            notify: Notify::Never,
            orcpt: None,
        },
        RecipientField {
            forward_path: "\"c d\"@other.example",
            notify: Notify::On {
                success: false,
                failure: false,
                delay: true,
            },
            orcpt: None,
        },
    ];
    let attributes = [Attribute {
        tag: 65535,
        value: b"\x00\xFF",
    }];
    let envelope = segment.append(&EnvelopeRecord {
        queue_id: LARGE,
        generation: 2,
        arrival_ms: -1,
        sender: SenderFields {
            reverse_path: "",
            body: BodyKind::EightBitMime,
            smtputf8: true,
            require_tls: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ314159"),
            priority: Some(-9),
            deliver_by: Some(DeliverBy {
                deadline_ms: 1_795_351_600_000,
                mode: DeliverByMode::Return,
                trace: true,
            }),
            hold_until_ms: Some(1_795_351_599_000),
        },
        session: SessionFields {
            client_address: Some("2001:db8::1"),
            client_host: Some("mx.sender.example"),
            client_name: Some("bad \"name\"\u{1b}[2J"),
            protocol: Some("ESMTPSA"),
            user: Some("anna"),
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
            checks: Some("spf=pass"),
        },
        queue_name: Some("branch"),
        recipients: List::new(&recipients),
        attributes: List::new(&attributes),
    });
    let bodies: [&[u8]; 3] = [b"Subject: large\r\n\r\n", b"..\xC3\xA4\r\n", b"no end"];
    let mut extents = Vec::new();
    for (sequence, body) in (0..).zip(bodies) {
        let at = segment.append(&ChunkRecord {
            queue_id: LARGE,
            sequence,
            body,
        });
        extents.push(Extent {
            segment: at.segment,
            offset: Offset(at.offset.0 + CHUNK_BODY_OFFSET as u32),
            length: body.len() as u32,
        });
    }
    let body = bodies.concat();
    segment.append(&SealRecord {
        queue_id: LARGE,
        generation: 2,
        stamp: Stamp(1_795_351_598_000),
        arrival_ms: -1,
        envelope: Place {
            segment: envelope.segment,
            offset: envelope.offset,
        },
        carried_from: Some(place(0)),
        extents: List::new(&extents),
        octets: body.len() as u64,
        checksum: Checksum::EMPTY.append(&body),
        form: BodyForm::Stuffed,
        ends_with_crlf: false,
        eight_bit: true,
        held: true,
        priority: -9,
        deadline: Some(Deadline {
            at_ms: 1_795_351_600_000,
            mode: DeliverByMode::Return,
        }),
        hold_until_ms: Some(1_795_351_599_000),
        queue_name: Some("branch"),
        next_hop: Some("[192.0.2.1]:24"),
        domains: List::new(&[
            DomainRun {
                recipients: 2,
                domain: "branch.example",
            },
            DomainRun {
                recipients: 1,
                domain: "other.example",
            },
        ]),
        done: List::new(&[RecipientNumber(1)]),
        notes: List::new(&[NoteField {
            tag: 1,
            key: b"box\0uidl-17",
            value: Some(b""),
        }]),
    });
}

fn outcomes(segment: &mut Segment) {
    let stamp = Stamp(1_795_351_598_001);
    let all: Vec<_> = (0..)
        .zip(Outcome::ALL)
        .map(|(number, &outcome)| DoneField {
            recipient: RecipientNumber(number),
            outcome,
        })
        .collect();
    for recipients in [&all[..], &[]] {
        segment.append(&DoneRecord {
            queue_id: 0x0300_0000_0000_0000,
            stamp,
            message: place(0),
            recipients: List::new(recipients),
        });
    }
    for mark in [
        Mark::Hold { queue_name: None },
        Mark::Hold {
            queue_name: Some("other"),
        },
        Mark::Release,
        Mark::Requeue { next_hop: None },
        Mark::Requeue {
            next_hop: Some("lmtp.example:24"),
        },
    ] {
        segment.append(&MarkRecord {
            queue_id: SMALL,
            stamp,
            mark,
        });
    }
    segment.append(&AttemptRecord {
        queue_id: LARGE,
        stamp,
        attempts: 3,
        next_attempt_ms: 1_795_351_700_000,
        told: Told::DEADLINE,
        recipients: List::new(&[RecipientNumber(0), RecipientNumber(2)]),
        error: "451 4.3.0 come back later",
    });
}

fn states(segment: &mut Segment) {
    let stamp = Stamp(1_795_351_598_002);
    let at = segment.append(&ChunkRecord {
        queue_id: 0x0300_0000_0000_0003,
        sequence: 0,
        body: b"half of",
    });
    let extents = [Extent {
        segment: at.segment,
        offset: Offset(at.offset.0 + CHUNK_BODY_OFFSET as u32),
        length: 7,
    }];
    for (&state, transid) in PartialState::ALL.iter().zip(["1@a", "2@a", "3@a"]) {
        let extents: &[Extent] = match state {
            PartialState::Receiving | PartialState::Complete => &extents,
            PartialState::Forgotten => &[],
        };
        segment.append(&PartialRecord {
            stamp,
            identity: "branch.example",
            transid,
            queue_id: 0x0300_0000_0000_0003,
            state,
            offset: 7,
            envelope: Place {
                segment: at.segment,
                offset: at.offset,
            },
            form: BodyForm::Raw,
            eight_bit: false,
            checksum: Checksum::EMPTY.append(b"half of"),
            extents: List::new(extents),
        });
    }
    for value in [Some(&b"value"[..]), None] {
        segment.append(&NoteRecord {
            stamp,
            tag: 2,
            key: b"key",
            value,
        });
    }
}

/// All files, as this program makes them.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let mut header = header(1, 0x1122_3344_5566_7788);
    header.previous_epoch = Epoch(0x99);
    let whole = every_kind(header);
    let summary = whole.summary();
    let mut flipped = whole.clone();
    let seal = whole
        .records
        .iter()
        .find(|record| record.2 == RecordKind::Seal);
    let seal = seal.expect("there is one").0 as usize;
    flipped.file[seal + 20] ^= 1;
    let mut torn = Segment::new(header);
    small_message(&mut torn);
    let cut = torn.end as usize - 30;
    torn.file[cut..].fill(0);
    let mut old = header;
    old.epoch = Epoch(0x99);
    let mut reused = Segment::reuse(header, every_kind(old).file);
    small_message(&mut reused);
    let mut headerless = whole.clone();
    headerless.file[17] ^= 1;
    headerless.file[HEADER_COPY_BYTES + 17] ^= 1;
    let mut newer = whole.clone();
    for copy in [0, HEADER_COPY_BYTES] {
        newer.file[copy + 8] = 2;
        let checksum = Checksum::EMPTY
            .append(&newer.file[copy..copy + 72])
            .as_u32();
        newer.file[copy + 72..copy + 76].copy_from_slice(&checksum.to_le_bytes());
    }
    let short = whole.file[..whole.end as usize - 100].to_vec();
    vec![
        ("whole.segment", whole.file),
        ("whole.summary", summary),
        ("flipped.segment", flipped.file),
        ("torn.segment", torn.file),
        ("reused.segment", reused.file),
        ("headerless.segment", headerless.file),
        ("newer.segment", newer.file),
        ("short.segment", short),
    ]
}

/// What a segment says, line by line.
fn words(file: &[u8], summary: Option<&[u8]>) -> String {
    let mut text = String::new();
    let mut recovery = Recovery::new(Some(SPOOL));
    recovery.segment(place(1), file, summary);
    let recovered = recovery.finish();
    for segment in &recovered.segments {
        writeln!(text, "{segment}").expect("a string takes all");
    }
    if let Ok(header) = SegmentHeader::decode(file, place(1)) {
        for item in Scanner::new(file, &header) {
            match item {
                Item::Record {
                    offset,
                    kind,
                    payload,
                } => writeln!(text, "{} {}", offset.0, RecordText { kind, payload }),
                Item::Unknown { offset, .. } => writeln!(text, "{} unknown", offset.0),
                Item::Damage(damage) => writeln!(text, "damage: {damage}"),
                Item::Tail { offset, kind } => writeln!(text, "{} tail: {kind}", offset.0),
            }
            .expect("a string takes all");
        }
    }
    for message in describe(&recovered).values() {
        writeln!(text, "live: {message}").expect("a string takes all");
    }
    for broken in &recovered.broken {
        writeln!(text, "broken: {broken}").expect("a string takes all");
    }
    for partial in &recovered.partials {
        writeln!(text, "{partial:?}").expect("a string takes all");
    }
    for note in &recovered.notes {
        writeln!(text, "{note:?}").expect("a string takes all");
    }
    text
}

fn golden(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    directory.join(name)
}

fn check(name: &str, made: &[u8]) {
    let path = golden(name);
    if std::env::var_os("SPOOL_FORMAT_BLESS").is_some() {
        std::fs::create_dir_all(golden("")).expect("the source directory can be written");
        std::fs::write(&path, made).expect("the source directory can be written");
    }
    let expected = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = expected.iter().zip(made).position(|(a, b)| a != b);
    assert!(
        expected == made,
        "{name} differs at octet {differs:?}: version {FORMAT_VERSION} is not changed, a new one is added (FORMAT.md)\n{}",
        String::from_utf8_lossy(made)
    );
}

#[test]
fn what_is_written_is_what_was_written() {
    for (name, file) in files() {
        check(name, &file);
    }
}

#[test]
fn what_was_written_is_read_as_it_was() {
    let read = |name| std::fs::read(golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let summary = read("whole.summary");
    for (name, _) in files() {
        let Some(stem) = name.strip_suffix(".segment") else {
            continue;
        };
        check(&format!("{stem}.txt"), words(&read(name), None).as_bytes());
    }
    let with_summary = words(&read("whole.segment"), Some(&summary));
    check("whole-by-summary.txt", with_summary.as_bytes());
    let rescued = words(&read("headerless.segment"), Some(&summary));
    check("headerless-by-summary.txt", rescued.as_bytes());
}
