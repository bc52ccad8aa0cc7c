//! `turnspool spool verify DIR`: everything is read, every checksum is checked.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use spool_format::{
    Checksum, EnvelopeRecord, Epoch, Extent, Location, Offset, Record as _, RecordKind, Recovered,
    Recovery, SealRecord, Seat, SegmentHeader, SegmentId, Severity, Summary, SummaryBuilder,
    read_frame,
};

use super::files::{Log, Place};
use crate::cli::text::{escaped, size};
use crate::cli::{Exit, Failure, Global, print_json};
use crate::mail::QueueId;

/// Reads everything and reports damage.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize, Default)]
struct Facts {
    logs: usize,
    segments: usize,
    /// Messages with recipients that are not done.
    messages: usize,
    octets: u64,
    /// Messages that were accepted, wait for somebody, and are not whole.
    lost: usize,
    bodies_checked: usize,
    damaged: bool,
    findings: Vec<String>,
    notes: Vec<String>,
}

impl Verify {
    /// Exit 1 if the disk lost something, or may have.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut logs = self.place.logs(global)?;
        let mut facts = Facts {
            logs: logs.len(),
            notes: logs.iter().filter_map(Log::note).collect(),
            ..Facts::default()
        };
        // As a start reads it, from the summaries that are good; and every octet, since a
        // summary says nothing of what became of its segment afterwards.
        let mut as_a_start = Recovery::new(None);
        let mut scanned = Recovery::new(None);
        for log in &mut logs {
            log.each(|log, segment| {
                // First: it is written when the segment has all that it tells of.
                let summary = log.summary_octets(segment)?;
                let Some(octets) = log.segment_octets(segment)? else {
                    return Ok(());
                };
                let place = log.place(segment);
                as_a_start.segment(place, &octets, summary.as_deref());
                scanned.segment(
                    place,
                    &octets,
                    summary.as_deref().filter(|_| {
                        // Where the header is lost it has the epoch.
                        SegmentHeader::decode(&octets, place).is_err()
                    }),
                );
                facts.segments += 1;
                facts.summary(log, segment, &octets, summary.as_deref());
                Ok(())
            })?;
            for name in &log.set_aside {
                let path = escaped(&log.path.join(name).to_string_lossy());
                facts.notes.push(format!("{path} was set aside earlier"));
            }
        }
        facts.segments_of(&scanned.finish());
        let mut recovered = as_a_start.finish();
        (self.place).keep_lasting(global, &logs, &mut recovered.broken)?;
        facts.recovered(&recovered);
        facts.messages_of(&logs, &recovered)?;
        if global.json {
            print_json(out, &facts)?;
        } else {
            facts.print(out)?;
        }
        Ok(if facts.damaged {
            Exit::Failed
        } else {
            Exit::Done
        })
    }
}

impl Facts {
    fn finding(&mut self, text: String) {
        self.damaged = true;
        self.findings.push(text);
    }

    /// A summary that tells another story than its segment: of the two the summary is
    /// older, and what it tells was whole then.
    fn summary(
        &mut self,
        log: &Log,
        segment: spool_format::SegmentId,
        octets: &[u8],
        summary: Option<&[u8]>,
    ) {
        let Some(written) = summary else {
            return;
        };
        let place = log.place(segment);
        let header = SegmentHeader::decode(octets, place);
        match (Summary::decode(written), header) {
            (Err(fault), _) => {
                let note = format!("{place}: {fault}; a start reads the segment instead");
                self.notes.push(note);
            }
            (Ok(summary), Ok(header)) if summary.header == header => {
                if SummaryBuilder::scan(octets, &header).as_deref() != Some(written) {
                    self.finding(format!(
                        "{place}: its summary does not say what the segment says now; a start \
                         believes the summary, which was written when the segment was whole"
                    ));
                }
            }
            (Ok(_), Err(_)) => {}
            (Ok(_), Ok(_)) => {
                let note = format!("{place}: its summary is that of another use of the file");
                self.notes.push(note);
            }
        }
    }

    fn segments_of(&mut self, scanned: &Recovered) {
        for segment in &scanned.segments {
            let text = || escaped(&segment.to_string());
            match segment.verdict.severity {
                Severity::Silent => {}
                Severity::Cut => self.notes.push(text()),
                Severity::Doubt | Severity::Damage | Severity::Refusal => self.finding(text()),
            }
        }
    }

    fn recovered(&mut self, recovered: &Recovered) {
        for broken in &recovered.broken {
            self.finding(escaped(&broken.to_string()));
        }
        self.lost = recovered.broken.len();
        self.messages = recovered.messages.len();
        self.octets = recovered.messages.iter().map(|m| m.octets).sum();
    }

    /// Reads each message that waits as a delivery does: seal, envelope, body.
    fn messages_of(&mut self, logs: &[Log], recovered: &Recovered) -> Result<(), Failure> {
        let mut seals: Vec<(Location, u64)> = (recovered.messages.iter())
            .map(|message| (message.seal, message.queue_id))
            .collect();
        seals.sort_unstable();
        for log in logs {
            let mut open = OpenLog { log, current: None };
            for &(seal, queue_id) in seals.iter().filter(|(seal, _)| seal.log == log.id) {
                match open.message(seal)? {
                    Stored::Whole => self.bodies_checked += 1,
                    Stored::LetGo => {}
                    Stored::Damaged(why) => {
                        self.lost += 1;
                        let id = QueueId::from_u64(queue_id);
                        self.finding(format!("message {id}, sealed at {seal}: {why}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        let plural =
            |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        writeln!(
            out,
            "{} in {}, {} waiting with {}; {}",
            plural(self.segments, "segment", "segments"),
            plural(self.logs, "log", "logs"),
            plural(self.messages, "message", "messages"),
            size(self.octets),
            if self.damaged {
                "damage was found"
            } else {
                "no damage"
            }
        )?;
        Ok(())
    }
}

/// The segments of a log, one of them in memory.
struct OpenLog<'a> {
    log: &'a Log,
    current: Option<Opened>,
}

/// What is on the disk of a message.
enum Stored {
    /// All.
    Whole,
    /// The server is done with it by now.
    LetGo,
    /// Not all, and why.
    Damaged(String),
}

/// A segment in memory; without an epoch nothing in it can be read.
struct Opened {
    segment: SegmentId,
    epoch: Option<Epoch>,
    octets: Vec<u8>,
}

impl OpenLog<'_> {
    /// `None`: the server has let go of it.
    fn open(&mut self, segment: SegmentId) -> Result<Option<&Opened>, Failure> {
        if self.current.as_ref().is_none_or(|c| c.segment != segment) {
            let Some(octets) = self.log.segment_octets(segment)? else {
                return Ok(None);
            };
            let place = self.log.place(segment);
            let epoch = match SegmentHeader::decode(&octets, place) {
                Ok(header) => Some(header.epoch),
                Err(_) => (self.log.summary_octets(segment)?)
                    .and_then(|octets| Summary::decode(&octets).ok().map(|s| s.header.epoch)),
            };
            self.current = Some(Opened {
                segment,
                epoch,
                octets,
            });
        }
        Ok(self.current.as_ref())
    }

    /// Whether a message is whole.
    fn message(&mut self, seal: Location) -> Result<Stored, Failure> {
        let Some(opened) = self.open(seal.segment)? else {
            return Ok(Stored::LetGo);
        };
        let record = opened
            .payload(seal.offset, RecordKind::Seal)
            .and_then(|payload| SealRecord::decode(payload).ok());
        let Some(record) = record else {
            return Ok(Stored::Damaged("its seal is damaged".to_owned()));
        };
        let (envelope, expected) = (record.envelope, (record.checksum, record.octets));
        let extents: Vec<Extent> = record.extents.iter().collect();
        let mut checksum = Checksum::EMPTY;
        let mut total = 0;
        for extent in extents {
            let start = extent.offset.0 as usize;
            let end = start.saturating_add(extent.length as usize);
            let Some(opened) = self.open(extent.segment)? else {
                return Ok(Stored::LetGo);
            };
            let Some(piece) = opened.octets.get(start..end) else {
                let place = self.log.place(extent.segment);
                return Ok(Stored::Damaged(format!(
                    "{} octets of its body at {place} offset {start} are behind the end of the file",
                    extent.length
                )));
            };
            checksum = checksum.append(piece);
            total += u64::from(extent.length);
        }
        if (checksum, total) != expected {
            let why = "its body is not the one that was accepted";
            return Ok(Stored::Damaged(why.to_owned()));
        }
        let Some(opened) = self.open(envelope.segment)? else {
            return Ok(Stored::LetGo);
        };
        let whole = opened
            .payload(envelope.offset, RecordKind::Envelope)
            .is_some_and(|payload| EnvelopeRecord::decode(payload).is_ok());
        Ok(if whole {
            Stored::Whole
        } else {
            Stored::Damaged("its envelope is damaged".to_owned())
        })
    }
}

impl Opened {
    fn payload(&self, offset: Offset, kind: RecordKind) -> Option<&[u8]> {
        let seat = Seat {
            epoch: self.epoch?,
            offset,
        };
        let framed = read_frame(&self.octets, seat).ok()?;
        (framed.kind() == Some(kind)).then_some(framed.payload)
    }
}
