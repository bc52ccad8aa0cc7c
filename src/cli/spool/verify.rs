//! `turnspool spool verify DIR`: everything is read, every checksum is checked.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use spool_format::{
    Checksum, Extent, Item, Location, Record as _, RecordKind, Recovered, Recovery, Scanner,
    SealRecord, SegmentHeader, Severity, Summary, SummaryBuilder,
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
        let logs = self.place.logs(global)?;
        let mut facts = Facts {
            logs: logs.len(),
            notes: logs.iter().filter_map(Log::note).collect(),
            ..Facts::default()
        };
        let mut recovery = Recovery::new(None);
        for log in &logs {
            for segment in &log.segments {
                // Without the summary: the segment itself is to be read.
                let octets = log.segment_octets(*segment)?;
                recovery.segment(log.place(*segment), &octets, None);
                facts.segments += 1;
                facts.summary(log, *segment, &octets)?;
            }
            for name in &log.set_aside {
                let path = escaped(&log.path.join(name).to_string_lossy());
                facts.notes.push(format!("{path} was set aside earlier"));
            }
        }
        let recovered = recovery.finish();
        facts.recovered(&recovered);
        facts.bodies(&logs, &recovered)?;
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

    /// A summary that tells another story than its segment would mislead the next
    /// start. One that does not count is only slow.
    fn summary(
        &mut self,
        log: &Log,
        segment: spool_format::SegmentId,
        octets: &[u8],
    ) -> Result<(), Failure> {
        let Some(summary_octets) = log.summary_octets(segment)? else {
            return Ok(());
        };
        let place = log.place(segment);
        let header = SegmentHeader::decode(octets, place);
        match (Summary::decode(&summary_octets), header) {
            (Err(fault), _) => {
                let note = format!("{place}: {fault}; a start reads the segment instead");
                self.notes.push(note);
            }
            (Ok(summary), Ok(header)) if summary.header == header => {
                if SummaryBuilder::scan(octets, &header).as_deref() != Some(&summary_octets[..]) {
                    self.finding(format!(
                        "{place}: its summary does not say what the segment says; remove the \
                         summary file while the server is stopped, and the segment is read"
                    ));
                }
            }
            (Ok(_), _) => {
                let note = format!("{place}: its summary is that of another use of the file");
                self.notes.push(note);
            }
        }
        Ok(())
    }

    fn recovered(&mut self, recovered: &Recovered) {
        for segment in &recovered.segments {
            let text = || escaped(&segment.to_string());
            match segment.verdict.severity {
                Severity::Silent => {}
                Severity::Cut => self.notes.push(text()),
                Severity::Doubt | Severity::Damage | Severity::Refusal => self.finding(text()),
            }
        }
        for broken in &recovered.broken {
            self.finding(escaped(&broken.to_string()));
        }
        self.lost = recovered.broken.len();
        self.messages = recovered.messages.len();
        self.octets = recovered.messages.iter().map(|m| m.octets).sum();
    }

    /// Checks the body of each message that waits, segment by segment of its seal.
    fn bodies(&mut self, logs: &[Log], recovered: &Recovered) -> Result<(), Failure> {
        let mut seals: Vec<Location> = recovered.messages.iter().map(|m| m.seal).collect();
        seals.sort_unstable();
        for log in logs {
            for segment in &log.segments {
                let place = log.place(*segment);
                let first = seals.partition_point(|seal| seal.segment_place() < place);
                let end = seals.partition_point(|seal| seal.segment_place() <= place);
                if first == end {
                    continue;
                }
                let octets = log.segment_octets(*segment)?;
                let Ok(header) = SegmentHeader::decode(&octets, place) else {
                    // Read with the epoch of its summary; its bodies are left alone.
                    continue;
                };
                for item in Scanner::new(&octets, &header) {
                    let Item::Record {
                        offset,
                        kind: RecordKind::Seal,
                        payload,
                    } = item
                    else {
                        continue;
                    };
                    let at = place.at(offset);
                    if seals[first..end].binary_search(&at).is_err() {
                        continue;
                    }
                    if let Ok(seal) = SealRecord::decode(payload) {
                        self.body(log, at, &octets, &seal)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        log: &Log,
        at: Location,
        own_segment: &[u8],
        seal: &SealRecord<'_>,
    ) -> Result<(), Failure> {
        let id = QueueId::from_u64(seal.queue_id);
        let mut checksum = Checksum::EMPTY;
        let mut total = 0;
        for Extent {
            segment,
            offset,
            length,
        } in seal.extents.iter()
        {
            let start = offset.0 as usize;
            let own = own_segment.get(start..start.saturating_add(length as usize));
            let elsewhere;
            let piece = if segment == at.segment {
                own
            } else {
                elsewhere = log.piece(segment, offset.0, length)?;
                elsewhere.as_deref()
            };
            let Some(piece) = piece else {
                let place = log.place(segment);
                self.finding(format!(
                    "message {id}: {length} octets of its body at {place} offset {} are behind \
                     the end of the file",
                    offset.0
                ));
                return Ok(());
            };
            checksum = checksum.append(piece);
            total += u64::from(length);
        }
        self.bodies_checked += 1;
        if checksum != seal.checksum || total != seal.octets {
            self.finding(format!(
                "message {id}, sealed at {at}: its body is not the one that was accepted"
            ));
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
