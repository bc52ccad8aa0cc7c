//! The files of a spool.

use spool_format::*;

use crate::common::{SPOOL, Segment, Small, append_message, delivered, done, header, place};

/// Some messages, two of them not done; closed.
fn segment() -> Segment {
    let mut segment = Segment::new(header(1, 77));
    segment.append(&BeginRecord {
        stamp: Stamp(1),
        queue_id_next: 1,
    });
    for queue_id in [1, 2, 3] {
        let small = Small {
            queue_id,
            stamp: 10 + queue_id as i64,
            domains: &["a.example", "b.example"],
            body: b"Subject: x\r\n\r\nNothing of importance.\r\n",
        };
        append_message(&mut segment, &small);
    }
    segment.append(&done(2, 20, &[delivered(0), delivered(1)]));
    segment.append(&done(3, 21, &[delivered(1)]));
    segment.close();
    segment
}

fn recover(file: &[u8], summary: Option<&[u8]>) -> Recovered {
    let mut recovery = Recovery::new(Some(SPOOL));
    recovery.segment(place(1), file, summary);
    let recovered = recovery.finish();
    for facts in &recovered.segments {
        assert!(!facts.to_string().is_empty());
    }
    for broken in &recovered.broken {
        assert!(!broken.to_string().is_empty());
    }
    recovered
}

/// What is found is what was written: nothing that damage made up. Edits of five octets
/// (place, what to put there by XOR), the first octet says whether the file is cut and
/// whether there is a summary.
pub(crate) fn damage(octets: &[u8]) {
    let Some((&how, edits)) = octets.split_first() else {
        return;
    };
    let sound = segment();
    let mut file = sound.file.clone();
    for edit in edits.chunks_exact(5) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize;
        let length = usize::from(edit[3]) + 1;
        let place = at % file.len();
        for octet in file.iter_mut().skip(place).take(length) {
            *octet ^= edit[4];
        }
    }
    if how & 1 != 0 {
        file.truncate(file.len() * usize::from(how >> 2) / 64);
    }
    let summary = sound.summary();
    let recovered = recover(&file, (how & 2 != 0).then_some(&summary[..]));
    let whole = crate::common::describe(&recover(&sound.file, None));
    for (queue_id, text) in crate::common::describe(&recovered) {
        // Message 2 lives again if its done record is lost, message 3 has one more
        // recipient then.
        if queue_id == 1 {
            assert_eq!(Some(&text), whole.get(&queue_id));
        }
        assert!((1..=3).contains(&queue_id), "{text}");
    }
    if let Ok(header) = SegmentHeader::decode(&file, place(1)) {
        let mut covered = SegmentHeader::first_offset();
        for item in Scanner::new(&file, &header) {
            let offset = match item {
                Item::Record { offset, .. }
                | Item::Unknown { offset, .. }
                | Item::Tail { offset, .. } => offset,
                Item::Damage(damage) => damage.begin,
            };
            assert!(offset >= covered, "items are in order");
            covered = offset;
        }
        if let Some(summary) = SummaryBuilder::scan(&file, &header) {
            Summary::decode(&summary).expect("it was made just now");
        }
    }
}

/// A payload that decodes encodes to the same octets; and a segment with any payload in
/// a right frame is read without a stumble.
pub(crate) fn records(octets: &[u8]) {
    let Some((&kind, payload)) = octets.split_first() else {
        return;
    };
    fn again<'a, R: Record<'a>>(payload: &'a [u8]) {
        if let Ok(record) = R::decode(payload) {
            let seat = Seat {
                epoch: Epoch(77),
                offset: Offset(8192),
            };
            let mut out = Vec::new();
            record
                .encode(seat, &mut out)
                .expect("it was as large before");
            assert_eq!(&out[RECORD_HEADER_BYTES..][..payload.len()], payload);
        }
    }
    again::<EnvelopeRecord<'_>>(payload);
    again::<ChunkRecord<'_>>(payload);
    again::<SealRecord<'_>>(payload);
    again::<DoneRecord<'_>>(payload);
    again::<MarkRecord<'_>>(payload);
    again::<AttemptRecord<'_>>(payload);
    again::<PartialRecord<'_>>(payload);
    again::<NoteRecord<'_>>(payload);
    again::<BeginRecord>(payload);
    again::<EndRecord>(payload);

    let kind = RecordKind::ALL[usize::from(kind) % RecordKind::ALL.len()];
    let mut segment = segment();
    // In place of the end record.
    let (begin, _, _) = segment.records.pop().expect("it was closed");
    segment.end = begin;
    let mut out = Vec::new();
    let frame = OpenFrame::begin(kind, segment.seat(), &mut out);
    out.extend_from_slice(payload);
    let Ok(framed) = frame.finish(&mut out) else {
        return;
    };
    if !segment.fits(framed as usize) {
        return;
    }
    segment.file[begin as usize..][..out.len()].copy_from_slice(&out);
    segment.end += framed;
    let recovered = recover(&segment.file, None);
    // It can end messages, and add one, but not make one broken that was whole.
    assert!(recovered.messages.len() <= 4);
    let summary = segment.summary();
    let summarized = recover(&segment.file, Some(&summary));
    assert_eq!(
        crate::common::describe(&recovered),
        crate::common::describe(&summarized),
        "a summary says the same"
    );
}

/// A summary with a right checksum and anything in it, and one with anything.
pub(crate) fn summary(octets: &[u8]) {
    let _ = Summary::decode(octets);
    let sound = segment();
    let mut file = sound.summary();
    let at = 104.min(file.len());
    file.truncate(at);
    file.extend_from_slice(octets);
    let length = file.len() as u64;
    file[16..24].copy_from_slice(&length.to_le_bytes());
    let checksum = Checksum::EMPTY.append(&file[12..]).as_u32();
    file[8..12].copy_from_slice(&checksum.to_le_bytes());
    if let Ok(summary) = Summary::decode(&file) {
        let records = summary.records().count();
        assert!(records <= octets.len());
        let _ = (summary.damage().count(), summary.look());
    }
    recover(&sound.file, Some(&file));
}
