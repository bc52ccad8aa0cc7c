//! What the format costs on the path of a message and at a restart.
//!
//! - `encode`: envelope, chunk and seal of a message of 4 KiB into a batch. The
//!   goal is about a microsecond: one fiftieth of what 20,000 messages a second and
//!   core leave for each.
//! - `scan`: a full segment of such messages, every checksum computed. Decides
//!   whether a restart can do without summaries.
//! - `summaries`: the fold over a million such messages from their summaries, half
//!   of them done. Decides whether a restart takes about a second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spool_format::*;
use std::hint::black_box;

const BODY_BYTES: usize = 4096;
/// A million messages in all.
const SEGMENTS: u32 = 64;

fn header(segment: u32) -> SegmentHeader {
    SegmentHeader {
        spool: SpoolUuid([1; 16]),
        place: SegmentPlace {
            log: LogId(0),
            segment: SegmentId(segment),
        },
        epoch: Epoch(u64::from(segment) + 1),
        previous_epoch: Epoch(0),
        created_ms: 0,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    }
}

/// Appends one message to a batch that begins at `base` of the segment.
fn append(header: &SegmentHeader, queue_id: u64, base: u32, body: &[u8], out: &mut Vec<u8>) {
    let seat = |out: &Vec<u8>| Seat {
        epoch: header.epoch,
        offset: Offset(base + out.len() as u32),
    };
    let envelope_at = seat(out);
    let recipients = [RecipientField {
        forward_path: "recipient@branch.example",
        notify: Notify::Unspecified,
        orcpt: None,
    }];
    let envelope = EnvelopeRecord {
        queue_id,
        generation: 0,
        arrival_ms: 1_795_351_597_250,
        sender: SenderFields {
            body: BodyKind::EightBitMime,
            ..SenderFields::without_parameters("sender@somewhere.example")
        },
        session: SessionFields {
            client_address: Some("192.0.2.17"),
            client_name: Some("mail.somewhere.example"),
            protocol: Some("ESMTP"),
            ..SessionFields::default()
        },
        queue_name: None,
        recipients: List::new(&recipients),
        attributes: List::default(),
    };
    envelope.encode(envelope_at, out).expect("it is small");
    let chunk_at = seat(out);
    ChunkRecord::encode_slices(queue_id, 0, &[body], chunk_at, out).expect("it is small");
    let extents = [Extent {
        segment: header.place.segment,
        offset: OpenChunk::body_offset(chunk_at),
        length: body.len() as u32,
    }];
    // Ten thousand domains.
    let domain = format!("d{}.example", queue_id % 10_000);
    let domains = [DomainRun {
        recipients: 1,
        domain: &domain,
    }];
    let seal = SealRecord {
        queue_id,
        generation: 0,
        stamp: Stamp(1_795_351_597_250),
        arrival_ms: 1_795_351_597_250,
        envelope: Place {
            segment: header.place.segment,
            offset: envelope_at.offset,
        },
        carried_from: None,
        extents: List::new(&extents),
        octets: body.len() as u64,
        checksum: Checksum::EMPTY.append(body),
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
        held: false,
        priority: 0,
        deadline: None,
        hold_until_ms: None,
        queue_name: None,
        next_hop: None,
        domains: List::new(&domains),
        done: List::default(),
        notes: List::default(),
    };
    let seal_at = seat(out);
    seal.encode(seal_at, out).expect("it is small");
}

/// A segment that is full of messages; `done` of them, from the first, are done.
fn segment(id: u32, done: usize) -> (SegmentHeader, Vec<u8>, u64) {
    let header = header(id);
    let body = vec![b'x'; BODY_BYTES];
    let base = SEGMENT_HEADER_BYTES as u32;
    let mut out = Vec::with_capacity(SEGMENT_BYTES_DEFAULT as usize);
    let mut messages = 0;
    let first = u64::from(id) << 20;
    while out.len() + 8 * BODY_BYTES + done * 64 < SEGMENT_BYTES_DEFAULT as usize - base as usize {
        append(&header, first + messages, base, &body, &mut out);
        messages += 1;
    }
    for number in 0..done as u64 {
        let record = DoneRecord {
            queue_id: first + number,
            stamp: Stamp(1_795_351_597_250),
            message: header.place,
            recipients: List::new(&[DoneField {
                recipient: RecipientNumber(0),
                outcome: Outcome::Delivered,
            }]),
        };
        let seat = Seat {
            epoch: header.epoch,
            offset: Offset(base + out.len() as u32),
        };
        record.encode(seat, &mut out).expect("it is small");
    }
    let mut file = header.encode().to_vec();
    file.extend_from_slice(&out);
    file.resize(SEGMENT_BYTES_DEFAULT as usize, 0);
    (header, file, messages)
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let header = header(1);
    let body = vec![b'x'; BODY_BYTES];
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 messages of 4 KiB in a batch", |bencher| {
        // The buffer of a batch is used again.
        let mut out = Vec::with_capacity(1 << 20);
        bencher.iter(|| {
            out.clear();
            for queue_id in 0..64 {
                append(&header, queue_id, 8192, black_box(&body), &mut out);
            }
            out.len()
        });
    });
    group.finish();
}

fn scan(criterion: &mut Criterion) {
    let (header, file, messages) = segment(1, 0);
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.sample_size(20);
    group.bench_function("segment full of 4 KiB messages", |bencher| {
        bencher.iter(|| Scanner::new(black_box(&file), &header).count());
    });
    group.bench_function("the same into the fold", |bencher| {
        bencher.iter(|| {
            let mut recovery = Recovery::new(None);
            recovery.segment(header.place, black_box(&file), None);
            assert_eq!(recovery.finish().messages.len() as u64, messages);
        });
    });
    let empty = Vec::from(&header.encode()[..]);
    let mut zeros = empty.clone();
    zeros.resize(file.len(), 0);
    group.bench_function("nothing but zeros", |bencher| {
        bencher.iter(|| Scanner::new(black_box(&zeros), &header).count());
    });
    let noise: Vec<u8> = (0..file.len() as u64 / 8)
        .flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect();
    let mut noisy = empty;
    noisy.extend_from_slice(&noise[SEGMENT_HEADER_BYTES..]);
    let mut reused = header;
    reused.previous_epoch = Epoch(99);
    group.bench_function("nothing but noise of an earlier use", |bencher| {
        bencher.iter(|| Scanner::new(black_box(&noisy), &reused).count());
    });
    group.finish();
}

fn summaries(criterion: &mut Criterion) {
    // Half of each segment is done: 64 segments hold about a million messages, half
    // of them live.
    let mut files = Vec::new();
    let mut messages = 0;
    for id in 1..=SEGMENTS {
        let (header, file, count) = segment(id, 7_000);
        let summary = SummaryBuilder::scan(&file, &header).expect("all kinds are known");
        files.push((header, file[..SEGMENT_HEADER_BYTES].to_vec(), summary));
        messages += count;
    }
    let octets: usize = files.iter().map(|(_, _, summary)| summary.len()).sum();
    let mut group = criterion.benchmark_group("summaries");
    group.throughput(Throughput::Elements(messages));
    group.sample_size(10);
    let name = format!("{messages} messages, half done, {} MiB", octets >> 20);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut recovery = Recovery::new(None);
            for (header, file, summary) in &files {
                recovery.segment(header.place, file, Some(summary));
            }
            black_box(recovery.finish().messages.len())
        });
    });
    group.finish();
}

criterion_group!(benches, encode, scan, summaries);
criterion_main!(benches);
