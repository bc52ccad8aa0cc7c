//! What is written is what is read, and nothing else is read.

use super::*;
use crate::field::List;
use crate::frame::{Checksum, RECORD_HEADER_BYTES, read_frame};
use crate::place::{Epoch, LogId, Offset, Place, SegmentId, SegmentPlace, Stamp};

const SEAT: Seat = Seat {
    epoch: Epoch(0x1234_5678_9ABC_DEF0),
    offset: Offset(8),
};

/// Writes a record behind eight zeros, reads it, and tries every shorter payload
/// and every payload with one octet more.
fn check<'a, R: Record<'a> + PartialEq + std::fmt::Debug>(record: &R, out: &'a mut Vec<u8>) {
    out.clear();
    out.resize(8, 0);
    let framed_bytes = record.encode(SEAT, out).expect("it is small") as usize;
    let out: &'a [u8] = out;
    assert_eq!(out.len(), 8 + framed_bytes);
    assert_eq!(framed_bytes, record.framed_bytes());
    let framed = read_frame(out, SEAT).expect("it was just written");
    assert_eq!(framed.kind(), Some(R::KIND));
    assert_eq!(framed.next.0 as usize, out.len());
    assert_eq!(R::decode(framed.payload).as_ref(), Ok(record));

    if !R::KIND.eq(&RecordKind::Chunk) {
        for shorter in 0..framed.payload.len() {
            assert!(R::decode(&framed.payload[..shorter]).is_err(), "{record:?}");
        }
        let longer: &'static [u8] = [framed.payload, &[0]].concat().leak();
        let longer: &'a [u8] = longer;
        assert_eq!(R::decode(longer), Err(DecodeError::Trailing { octets: 1 }));
    }
    // A payload with one bit changed is refused or is another value: never the
    // same one, and never one that is written in another way.
    for bit in 0..framed.payload.len() * 8 {
        let mut changed = framed.payload.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed: &'a [u8] = Vec::leak(changed);
        if let Ok(other) = R::decode(changed) {
            assert_ne!(&other, record, "bit {bit} means nothing");
            let mut again = Vec::new();
            other.write_fields(&mut again);
            assert_eq!(again, changed, "bit {bit}: {other:?}");
        }
    }
}

fn envelope<'a>(recipients: &'a [RecipientField<'a>]) -> EnvelopeRecord<'a> {
    EnvelopeRecord {
        queue_id: 7,
        generation: 0,
        arrival_ms: 1_795_351_597_250,
        sender: SenderFields::without_parameters("a@b.example"),
        session: SessionFields::default(),
        queue_name: None,
        recipients: List::new(recipients),
        attributes: List::default(),
    }
}

#[test]
fn envelopes() {
    let plain = RecipientField {
        forward_path: "c@d.example",
        notify: Notify::Unspecified,
        orcpt: None,
    };
    let mut out = Vec::new();
    check(&envelope(&[plain]), &mut out);

    let full = [
        plain,
        RecipientField {
            forward_path: "björn@d.example",
            notify: Notify::On {
                success: true,
                failure: false,
                delay: true,
            },
            orcpt: Some("rfc822;c+40d.example"),
        },
        RecipientField {
            forward_path: "",
            notify: Notify::Never,
            orcpt: Some(""),
        },
    ];
    let attributes = [Attribute {
        tag: 9,
        value: &[0, 255],
    }];
    let mut record = envelope(&full);
    record.generation = 3;
    record.sender = SenderFields {
        reverse_path: "",
        body: BodyKind::EightBitMime,
        smtputf8: true,
        require_tls: true,
        ret: Some(Ret::Headers),
        envid: Some("e+3D1"),
        priority: Some(-9),
        deliver_by: Some(DeliverBy {
            deadline_ms: -1,
            mode: DeliverByMode::Notify,
            trace: true,
        }),
        hold_until_ms: Some(5),
    };
    record.session = SessionFields {
        client_address: Some("192.0.2.1"),
        client_host: Some("mail.b.example"),
        client_name: Some("mail"),
        protocol: Some("ESMTPSA"),
        user: Some("u"),
        tls: Some("TLSv1.3"),
        checks: Some("spf=pass"),
    };
    record.queue_name = Some("branch");
    record.attributes = List::new(&attributes);
    let mut out = Vec::new();
    check(&record, &mut out);
}

#[test]
fn seals() {
    let mut record = SealRecord {
        queue_id: 7,
        generation: 0,
        stamp: Stamp(9),
        arrival_ms: 8,
        envelope: Place {
            segment: SegmentId(1),
            offset: Offset(8192),
        },
        carried_from: None,
        extents: List::default(),
        octets: 0,
        checksum: Checksum::EMPTY,
        form: BodyForm::Plain,
        ends_with_crlf: false,
        eight_bit: false,
        held: false,
        priority: 0,
        deadline: None,
        hold_until_ms: None,
        queue_name: None,
        next_hop: None,
        domains: List::default(),
        done: List::default(),
        notes: List::default(),
    };
    let mut out = Vec::new();
    check(&record, &mut out);
    let extents = [
        Extent {
            segment: SegmentId(1),
            offset: Offset(9000),
            length: 100,
        },
        Extent {
            segment: SegmentId(2),
            offset: Offset(8224),
            length: u32::MAX,
        },
    ];
    let domains = [DomainRun {
        recipients: 4,
        domain: "d.example",
    }];
    let notes = [
        NoteField {
            tag: 1,
            key: b"uidl",
            value: Some(b""),
        },
        NoteField {
            tag: 1,
            key: b"",
            value: None,
        },
    ];
    record.carried_from = Some(SegmentPlace {
        log: LogId(3),
        segment: SegmentId(4),
    });
    record.extents = List::new(&extents);
    record.octets = 100 + u64::from(u32::MAX);
    record.checksum = Checksum::EMPTY.append(b"a").append(b"bc");
    assert_eq!(record.checksum, Checksum::EMPTY.append(b"abc"));
    record.form = BodyForm::Raw;
    record.ends_with_crlf = true;
    record.eight_bit = true;
    record.held = true;
    record.priority = 9;
    record.deadline = Some(Deadline {
        at_ms: 0,
        mode: DeliverByMode::Notify,
    });
    record.hold_until_ms = Some(i64::MIN);
    record.queue_name = Some("q");
    record.next_hop = Some("lmtp://[::1]:24");
    record.domains = List::new(&domains);
    record.done = List::new(&[RecipientNumber(1), RecipientNumber(3)]);
    record.notes = List::new(&notes);
    assert_eq!(record.recipients(), 4);
    let mut out = Vec::new();
    check(&record, &mut out);
}

#[test]
fn chunks() {
    let mut out = Vec::new();
    for body in [&b""[..], b"a", b"Subject: x\r\n\r\n"] {
        let record = ChunkRecord {
            queue_id: 1,
            sequence: 2,
            body,
        };
        check(&record, &mut out.clone());
        assert_eq!(
            record.framed_bytes(),
            ChunkRecord::framed_bytes_for(body.len())
        );
        // In place and from slices the octets are the same.
        record.encode(SEAT, &mut out).expect("it is small");
        let mut slices = Vec::new();
        let (head, tail) = body.split_at(body.len() / 2);
        ChunkRecord::encode_slices(1, 2, &[head, b"", tail], SEAT, &mut slices)
            .expect("it is small");
        assert_eq!(slices, out);
        let at = OpenChunk::body_offset(SEAT).0 as usize - SEAT.offset.0 as usize;
        assert_eq!(&out[at..][..body.len()], body);
        out.clear();
    }
    for framed in CHUNK_BODY_OFFSET..200 {
        let body_bytes = ChunkRecord::body_bytes_in(framed);
        assert!(ChunkRecord::framed_bytes_for(body_bytes) <= framed);
        assert!(ChunkRecord::framed_bytes_for(body_bytes + 1) > framed);
    }
}

#[test]
fn records_over_the_limit_are_refused_whole() {
    let body = vec![0; PAYLOAD_BYTES_MAX];
    let mut out = vec![1, 2, 3];
    let refused = EncodeError::TooLarge {
        payload_bytes: PAYLOAD_BYTES_MAX + CHUNK_BODY_OFFSET - RECORD_HEADER_BYTES,
    };
    let record = ChunkRecord {
        queue_id: 0,
        sequence: 0,
        body: &body,
    };
    assert_eq!(record.encode(SEAT, &mut out), Err(refused));
    let slices = ChunkRecord::encode_slices(0, 0, &[&body], SEAT, &mut out);
    assert_eq!(slices, Err(refused));
    let chunk = OpenChunk::begin(0, 0, SEAT, &mut out);
    out.extend_from_slice(&body);
    assert_eq!(chunk.finish(&mut out), Err(refused));
    assert_eq!(out, [1, 2, 3]);
    let longest = ChunkRecord::body_bytes_in(usize::MAX);
    assert!(CHUNK_BODY_OFFSET + longest <= PAYLOAD_BYTES_MAX);
}

#[test]
fn outcomes() {
    let message = SegmentPlace {
        log: LogId(1),
        segment: SegmentId(2),
    };
    for &outcome in Outcome::ALL {
        let recipients = [
            DoneField {
                recipient: RecipientNumber(0),
                outcome,
            },
            DoneField {
                recipient: RecipientNumber(RECIPIENTS_MAX - 1),
                outcome: Outcome::Failed,
            },
        ];
        let record = DoneRecord {
            queue_id: 3,
            stamp: Stamp(-4),
            message,
            recipients: List::new(&recipients),
        };
        check(&record, &mut Vec::new());
    }
    for mark in [
        Mark::Hold { queue_name: None },
        Mark::Hold {
            queue_name: Some("q"),
        },
        Mark::Release,
        Mark::Requeue { next_hop: None },
        Mark::Requeue {
            next_hop: Some("[192.0.2.1]:25"),
        },
    ] {
        let record = MarkRecord {
            queue_id: 3,
            stamp: Stamp(4),
            mark,
        };
        check(&record, &mut Vec::new());
    }
    let record = AttemptRecord {
        queue_id: 3,
        stamp: Stamp(4),
        attempts: 5,
        next_attempt_ms: 6,
        told: Told::DELAY,
        recipients: List::new(&[RecipientNumber(7), RecipientNumber(8)]),
        error: "451 4.3.0 later",
    };
    check(&record, &mut Vec::new());
}

#[test]
fn states() {
    let extents = [Extent {
        segment: SegmentId(1),
        offset: Offset(2),
        length: 3,
    }];
    for &state in PartialState::ALL {
        let record = PartialRecord {
            stamp: Stamp(1),
            identity: "branch.example",
            transid: "1@branch.example",
            queue_id: 2,
            state,
            offset: 3,
            envelope: Place {
                segment: SegmentId(4),
                offset: Offset(5),
            },
            form: BodyForm::Stuffed,
            eight_bit: true,
            checksum: Checksum::from_u32(6),
            extents: List::new(&extents),
        };
        check(&record, &mut Vec::new());
    }
    for value in [None, Some(&b""[..]), Some(b"v")] {
        let record = NoteRecord {
            stamp: Stamp(1),
            tag: 2,
            key: b"k",
            value,
        };
        check(&record, &mut Vec::new());
    }
    let record = BeginRecord {
        stamp: Stamp(1),
        queue_id_next: 2,
    };
    check(&record, &mut Vec::new());
    let record = EndRecord { records: 1 };
    assert_eq!(record.framed_bytes(), EndRecord::FRAMED_BYTES);
    check(&record, &mut Vec::new());
}
