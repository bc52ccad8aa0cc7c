//! Spools made record by record, looked at by whole command lines.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use spool_format::*;

use crate::cli::{Exit, run_with};
use crate::spool::segment::{FileKind, file_name};

fn run(arguments: &[&str]) -> (Exit, String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let line = ["turnspool", "spool"].iter().chain(arguments);
    let exit = run_with(line.map(OsString::from), &mut out, &mut errors);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (exit, text(out), text(errors))
}

const LOG: LogId = LogId(3);

/// A segment in memory.
struct Segment {
    header: SegmentHeader,
    file: Vec<u8>,
    end: u32,
    /// Where each record is, without the zeros behind it.
    records: Vec<Range<usize>>,
}

impl Segment {
    fn new(number: u32) -> Self {
        let header = SegmentHeader {
            spool: SpoolUuid(*b"a spool of tests"),
            place: SegmentPlace {
                log: LOG,
                segment: SegmentId(number),
            },
            epoch: Epoch(u64::from(number) + 77),
            previous_epoch: Epoch(0),
            created_ms: 1_795_351_597_250,
            segment_bytes: SEGMENT_BYTES_MIN,
        };
        let mut file = vec![0; SEGMENT_BYTES_MIN as usize];
        file[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode()[..]);
        Self {
            header,
            file,
            end: SEGMENT_HEADER_BYTES as u32,
            records: Vec::new(),
        }
    }

    fn append<'a, R: Record<'a>>(&mut self, record: &R) -> Location {
        let seat = Seat {
            epoch: self.header.epoch,
            offset: Offset(self.end),
        };
        let mut out = Vec::new();
        let framed_bytes = record.encode(seat, &mut out).unwrap();
        let begin = self.end;
        self.end += framed_bytes;
        self.file[begin as usize..self.end as usize].copy_from_slice(&out);
        let payload = read_frame(&self.file, seat).unwrap().payload.len();
        let begin_at = begin as usize;
        self.records
            .push(begin_at..begin_at + RECORD_HEADER_BYTES + payload);
        self.header.place.at(Offset(begin))
    }

    /// Gives the extent of the body.
    fn chunk(&mut self, queue_id: u64, sequence: u32, body: &[u8]) -> Extent {
        let at = self.append(&ChunkRecord {
            queue_id,
            sequence,
            body,
        });
        Extent {
            segment: at.segment,
            offset: Offset(at.offset.0 + CHUNK_BODY_OFFSET as u32),
            length: body.len() as u32,
        }
    }

    fn envelope(&mut self, queue_id: u64, recipient: &str) -> Place {
        let recipients = [RecipientField {
            forward_path: recipient,
            notify: Notify::Unspecified,
            orcpt: None,
        }];
        let at = self.append(&EnvelopeRecord {
            queue_id,
            generation: 0,
            arrival_ms: 1_795_351_597_250,
            sender: SenderFields::without_parameters("s@sender.example"),
            session: SessionFields::default(),
            queue_name: None,
            recipients: List::new(&recipients),
            attributes: List::default(),
        });
        Place {
            segment: at.segment,
            offset: at.offset,
        }
    }

    fn seal(&mut self, queue_id: u64, envelope: Place, extents: &[Extent], checksum: Checksum) {
        let domains = [DomainRun {
            recipients: 1,
            domain: "receiver.example",
        }];
        self.append(&SealRecord {
            queue_id,
            generation: 0,
            stamp: Stamp(1_795_351_597_250),
            arrival_ms: 1_795_351_597_250,
            envelope,
            carried_from: None,
            extents: List::new(extents),
            octets: extents.iter().map(|extent| u64::from(extent.length)).sum(),
            checksum,
            form: BodyForm::Plain,
            ends_with_crlf: true,
            eight_bit: false,
            held: queue_id == 2,
            priority: 0,
            deadline: None,
            hold_until_ms: None,
            queue_name: None,
            next_hop: None,
            domains: List::new(&domains),
            done: List::default(),
            notes: List::default(),
        });
    }

    fn close(&mut self) {
        let records = self.records.len() as u32;
        self.append(&EndRecord { records });
    }

    fn save(&self, log: &Path) {
        let name = file_name(self.header.place.segment, FileKind::Segment);
        std::fs::write(log.join(name), &self.file).unwrap();
    }

    fn save_summary(&self, log: &Path) {
        let summary = SummaryBuilder::scan(&self.file, &self.header).unwrap();
        let name = file_name(self.header.place.segment, FileKind::Summary);
        std::fs::write(log.join(name), summary).unwrap();
    }
}

const BODY: &[u8] = b"Subject: secret\r\n\r\nnobody shall see this\r\n";

/// Two segments: message 1 in the first, message 2 over both, message 3 done, and
/// message 4 without a seal.
fn spool() -> (Segment, Segment) {
    let mut first = Segment::new(1);
    first.append(&BeginRecord {
        stamp: Stamp(1_795_351_597_000),
        queue_id_next: 1,
    });
    let whole = Checksum::EMPTY.append(BODY);
    let envelope = first.envelope(1, "a@receiver.example");
    let extent = first.chunk(1, 0, BODY);
    first.seal(1, envelope, &[extent], whole);
    let envelope_2 = first.envelope(2, "b@receiver.example");
    let head = first.chunk(2, 0, &BODY[..20]);
    first.close();
    let mut second = Segment::new(2);
    let tail = second.chunk(2, 1, &BODY[20..]);
    second.seal(2, envelope_2, &[head, tail], whole);
    let envelope = second.envelope(3, "c@receiver.example");
    let extent = second.chunk(3, 0, BODY);
    second.seal(3, envelope, &[extent], whole);
    let delivered = [DoneField {
        recipient: RecipientNumber(0),
        outcome: Outcome::Delivered,
    }];
    second.append(&DoneRecord {
        queue_id: 3,
        stamp: Stamp(1_795_351_598_000),
        message: second.header.place,
        recipients: List::new(&delivered),
    });
    second.envelope(4, "d@receiver.example");
    second.chunk(4, 0, BODY);
    (first, second)
}

/// A directory with one log. The first part keeps it alive.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log-3");
    std::fs::create_dir(&log).unwrap();
    (directory, log)
}

#[test]
fn a_whole_spool_is_verified() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    first.save_summary(&log);
    let path = directory.path().to_str().unwrap();
    let (exit, out, errors) = run(&["verify", path]);
    assert_eq!((exit, errors.as_str()), (Exit::Done, ""), "{out}");
    assert_eq!(
        out,
        "2 segments in 1 log, 2 messages waiting with 84B; no damage\n"
    );
    // The directory of a log will do, and the facts are there for programs.
    let (exit, out, _) = run(&["verify", "--json", log.to_str().unwrap()]);
    assert_eq!(exit, Exit::Done);
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(facts["bodies_checked"], 2);
    assert_eq!(facts["findings"], serde_json::json!([]));
}

/// Whatever octet of a record is changed, verify says so. The last record only says
/// that the segment was closed.
#[test]
fn every_damaged_octet_of_a_waiting_message_is_found() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    let path = directory.path().to_str().unwrap();
    let (_, records) = first.records.split_last().unwrap();
    for at in records.iter().cloned().flatten().step_by(7) {
        let mut damaged = Segment::new(1);
        damaged.file.clone_from(&first.file);
        damaged.file[at] ^= 0x10;
        damaged.save(&log);
        let (exit, out, _) = run(&["verify", path]);
        assert_eq!(exit, Exit::Failed, "octet {at}: {out}");
        assert!(out.contains("log 3 segment 1"), "octet {at}: {out}");
    }
}

#[test]
fn a_body_that_is_not_the_accepted_one_is_found() {
    let (directory, log) = directory();
    let mut segment = Segment::new(1);
    let envelope = segment.envelope(1, "a@receiver.example");
    let extent = segment.chunk(1, 0, BODY);
    // Each record is whole; together they are not what the client sent.
    segment.seal(
        1,
        envelope,
        &[extent],
        Checksum::EMPTY.append(b"another body"),
    );
    segment.save(&log);
    let (exit, out, _) = run(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(exit, Exit::Failed);
    assert!(
        out.contains("message 0000000000001, sealed at log 3 segment 1"),
        "{out}"
    );
}

#[test]
fn a_summary_that_lies_is_found() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    let mut other = Segment::new(1);
    other.close();
    other.save_summary(&log);
    let (exit, out, _) = run(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(exit, Exit::Failed);
    assert!(out.contains("summary does not say"), "{out}");
    // One that is damaged is only slow.
    let name = file_name(SegmentId(1), FileKind::Summary);
    std::fs::write(log.join(name), b"x").unwrap();
    let (exit, out, _) = run(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(exit, Exit::Done, "{out}");
    assert!(out.contains("reads the segment instead"), "{out}");
}

#[test]
fn records_are_dumped_without_bodies() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    let path = directory.path().to_str().unwrap();
    let (exit, out, _) = run(&["dump", path]);
    assert_eq!(exit, Exit::Done);
    assert!(
        !out.contains("secret") && !out.contains("nobody shall"),
        "{out}"
    );
    assert_eq!(out.matches("seal of a message: ").count(), 3, "{out}");
    assert!(
        out.contains("log 3 segment 2") && out.contains("closed in order"),
        "{out}"
    );
    let (_, one, _) = run(&["dump", path, "--id", "0000000000002"]);
    let kinds: Vec<&str> = one
        .lines()
        .map(|line| {
            line.split(": ")
                .next()
                .unwrap()
                .split_whitespace()
                .last()
                .unwrap()
        })
        .collect();
    assert_eq!(kinds, ["envelope", "body", "body", "message"], "{one}");
    let (_, none, _) = run(&["dump", path, "--segment", "9"]);
    assert_eq!(none, "");
    let (_, json, _) = run(&["dump", path, "--json", "--log", "3", "--segment", "1"]);
    for line in json.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["segment"], 1);
    }
}

#[test]
fn the_spool_is_counted_from_summaries_and_segments_alike() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    let path = directory.path().to_str().unwrap();
    let (exit, scanned, _) = run(&["stat", path, "--json"]);
    assert_eq!(exit, Exit::Done);
    first.save_summary(&log);
    let (_, summarized, _) = run(&["stat", path, "--json"]);
    assert_eq!(scanned, summarized);
    let facts: serde_json::Value = serde_json::from_str(&scanned).unwrap();
    assert_eq!(facts["messages"], 2);
    assert_eq!(facts["held"], 1);
    assert_eq!(facts["done"], 1);
    assert_eq!(facts["oldest"], "2026-11-22T12:46:37Z");
    assert_eq!(facts["domains"][0]["domain"], "receiver.example");
    let (_, text, _) = run(&["stat", path]);
    assert!(
        text.contains("        2          2 receiver.example"),
        "{text}"
    );
    for line in text.lines().skip(1) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn what_is_no_spool_is_refused_with_advice() {
    let (directory, log) = directory();
    let path = directory.path().to_str().unwrap();
    for command in ["verify", "dump", "stat"] {
        let (exit, _, errors) = run(&[command, path]);
        assert_eq!(exit, Exit::Failed);
        assert!(errors.contains("holds no segments"), "{errors}");
        let (exit, _, errors) = run(&[command, "/nonexistent"]);
        assert_eq!(exit, Exit::Failed);
        assert!(errors.contains("name the directory of a spool"), "{errors}");
    }
    // Twice the same log, under two names.
    let copy = directory.path().join("log-3-copy");
    std::fs::create_dir(&copy).unwrap();
    let (first, _) = spool();
    first.save(&log);
    first.save(&copy);
    let (exit, _, errors) = run(&["verify", path]);
    assert_eq!(exit, Exit::Failed);
    assert!(errors.contains("are the same log"), "{errors}");
}

#[test]
fn a_spool_in_use_is_read_and_said_to_be() {
    let (directory, log) = directory();
    let (first, second) = spool();
    first.save(&log);
    second.save(&log);
    let lock = std::fs::File::open(&log).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (exit, out, _) = run(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("a server is using"), "{out}");
}
