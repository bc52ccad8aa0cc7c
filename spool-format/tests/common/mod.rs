//! Writes logs into memory, as a data core writes them to the disk.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses another part"
)]

use spool_format::*;
use std::collections::BTreeMap;

pub const SPOOL: SpoolUuid = SpoolUuid(*b"a spool of tests");
pub const LOG: LogId = LogId(0);

pub fn place(segment: u32) -> SegmentPlace {
    SegmentPlace {
        log: LOG,
        segment: SegmentId(segment),
    }
}

pub fn header(segment: u32, epoch: u64) -> SegmentHeader {
    SegmentHeader {
        spool: SPOOL,
        place: place(segment),
        epoch: Epoch(epoch),
        previous_epoch: Epoch(0),
        created_ms: 1_795_351_597_250,
        segment_bytes: SEGMENT_BYTES_MIN,
    }
}

/// A segment in memory.
#[derive(Clone)]
pub struct Segment {
    pub header: SegmentHeader,
    pub file: Vec<u8>,
    /// Behind the last record.
    pub end: u32,
    /// Begin and end of each record, zeros included, and its kind.
    pub records: Vec<(u32, u32, RecordKind)>,
}

impl Segment {
    pub fn new(header: SegmentHeader) -> Self {
        Self::reuse(header, vec![0; header.segment_bytes as usize])
    }

    /// Over what an earlier use left.
    pub fn reuse(header: SegmentHeader, mut file: Vec<u8>) -> Self {
        file[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode()[..]);
        Self {
            header,
            file,
            end: SEGMENT_HEADER_BYTES as u32,
            records: Vec::new(),
        }
    }

    pub fn seat(&self) -> Seat {
        Seat {
            epoch: self.header.epoch,
            offset: Offset(self.end),
        }
    }

    /// True if it fits together with an end record.
    pub fn fits(&self, framed_bytes: usize) -> bool {
        self.end as usize + framed_bytes + EndRecord::FRAMED_BYTES <= self.file.len()
    }

    pub fn append<'a, R: Record<'a>>(&mut self, record: &R) -> Location {
        let mut out = Vec::new();
        let framed_bytes = record.encode(self.seat(), &mut out).expect("it is small");
        let begin = self.end;
        self.end += framed_bytes;
        self.file[begin as usize..self.end as usize].copy_from_slice(&out);
        self.records.push((begin, self.end, R::KIND));
        self.header.place.at(Offset(begin))
    }

    pub fn close(&mut self) {
        let records = self.records.len() as u32;
        self.append(&EndRecord { records });
    }

    pub fn summary(&self) -> Vec<u8> {
        SummaryBuilder::scan(&self.file, &self.header).expect("all kinds are known")
    }
}

/// The parts of a small message.
#[derive(Clone, Copy)]
pub struct Small<'a> {
    pub queue_id: u64,
    pub stamp: i64,
    pub domains: &'a [&'a str],
    pub body: &'a [u8],
}

/// Envelope and body in two chunks. Gives what the seal needs.
pub fn append_parts(segment: &mut Segment, small: &Small<'_>) -> (Place, Vec<Extent>) {
    let paths: Vec<String> = small
        .domains
        .iter()
        .map(|domain| format!("r@{domain}"))
        .collect();
    let recipients: Vec<_> = paths
        .iter()
        .map(|path| RecipientField {
            forward_path: path,
            notify: Notify::Unspecified,
            orcpt: None,
        })
        .collect();
    let envelope = segment.append(&EnvelopeRecord {
        queue_id: small.queue_id,
        generation: 0,
        arrival_ms: small.stamp,
        sender: SenderFields::without_parameters("s@sender.example"),
        session: SessionFields::default(),
        queue_name: None,
        recipients: List::new(&recipients),
        attributes: List::default(),
    });
    let (head, tail) = small.body.split_at(small.body.len() / 2);
    let mut extents = Vec::new();
    for (sequence, body) in [head, tail].into_iter().enumerate() {
        let at = segment.append(&ChunkRecord {
            queue_id: small.queue_id,
            sequence: sequence as u32,
            body,
        });
        extents.push(Extent {
            segment: at.segment,
            offset: Offset(at.offset.0 + CHUNK_BODY_OFFSET as u32),
            length: body.len() as u32,
        });
    }
    let envelope = Place {
        segment: envelope.segment,
        offset: envelope.offset,
    };
    (envelope, extents)
}

pub fn seal<'a>(
    small: &Small<'_>,
    envelope: Place,
    extents: &'a [Extent],
    domains: &'a [DomainRun<'a>],
) -> SealRecord<'a> {
    SealRecord {
        queue_id: small.queue_id,
        generation: 0,
        stamp: Stamp(small.stamp),
        arrival_ms: small.stamp,
        envelope,
        carried_from: None,
        extents: List::new(extents),
        octets: small.body.len() as u64,
        checksum: Checksum::EMPTY.append(small.body),
        form: BodyForm::Plain,
        ends_with_crlf: true,
        eight_bit: false,
        held: false,
        priority: 0,
        deadline: None,
        hold_until_ms: None,
        queue_name: None,
        next_hop: None,
        domains: List::new(domains),
        done: List::default(),
        notes: List::default(),
    }
}

pub fn runs<'a>(domains: &[&'a str]) -> Vec<DomainRun<'a>> {
    domains
        .iter()
        .map(|domain| DomainRun {
            recipients: 1,
            domain,
        })
        .collect()
}

/// A whole message. Gives the place of its seal.
pub fn append_message(segment: &mut Segment, small: &Small<'_>) -> Location {
    let (envelope, extents) = append_parts(segment, small);
    segment.append(&seal(small, envelope, &extents, &runs(small.domains)))
}

pub fn done<'a>(queue_id: u64, stamp: i64, recipients: &'a [DoneField]) -> DoneRecord<'a> {
    DoneRecord {
        queue_id,
        stamp: Stamp(stamp),
        message: place(1),
        recipients: List::new(recipients),
    }
}

pub fn delivered(recipient: u32) -> DoneField {
    DoneField {
        recipient: RecipientNumber(recipient),
        outcome: Outcome::Delivered,
    }
}

/// What a live message looks like to those outside, in a form that can be compared.
pub fn describe(recovered: &Recovered) -> BTreeMap<u64, String> {
    recovered
        .messages
        .iter()
        .map(|message| {
            let pending: Vec<_> = recovered
                .pending(message)
                .map(|(number, domain)| format!("{} {}", number.0, recovered.name(domain)))
                .collect();
            let name = |id: Option<NameId>| id.map(|id| recovered.name(id));
            let text = format!(
                "{} g{} from {:?} arrival {} octets {} of {} priority {} held {} {:?} hop {:?} by {:?} until {:?} pending {pending:?} attempts {:?}",
                message.seal,
                message.generation,
                message.first_segment,
                message.arrival_ms,
                message.octets,
                message.recipients,
                message.priority,
                message.held,
                name(message.queue_name),
                name(message.next_hop),
                message.deadline(),
                message.hold_until_ms(),
                message.attempts,
            );
            (message.queue_id, text)
        })
        .collect()
}

/// Small and good enough to choose cases; the seed says which.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
