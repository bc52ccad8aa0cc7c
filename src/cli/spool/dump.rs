//! `turnspool spool dump DIR`: every record in words. Bodies are not shown.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use spool_format::{
    AttemptRecord, ChunkRecord, DoneRecord, EnvelopeRecord, Item, MarkRecord, PartialRecord,
    Record, RecordKind, RecordText, Scanner, SealRecord, SegmentHeader, SegmentPlace,
};

use super::files::Place;
use crate::cli::text::escaped;
use crate::cli::{Exit, Failure, Global};
use crate::mail::QueueId;
use crate::time::WallTime;

/// Prints every record.
#[derive(Debug, Args)]
pub(in crate::cli) struct Dump {
    #[command(flatten)]
    place: Place,
    /// Only this log
    #[arg(long, value_name = "NUMBER")]
    log: Option<u8>,
    /// Only this segment
    #[arg(long, value_name = "NUMBER")]
    segment: Option<u32>,
    /// Only records about this message
    #[arg(long, value_name = "ID")]
    id: Option<QueueId>,
}

#[derive(Serialize)]
struct Line<'a> {
    log: u8,
    segment: u32,
    offset: u32,
    what: &'a str,
    text: String,
}

impl Dump {
    /// Damage is printed where it lies; it is no failure of this command.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        for log in self.place.logs(global)? {
            if self.log.is_some_and(|number| number != log.id.0) {
                continue;
            }
            for segment in &log.segments {
                if self.segment.is_some_and(|number| number != segment.0) {
                    continue;
                }
                if let Some(octets) = log.segment_octets(*segment)? {
                    self.segment(log.place(*segment), &octets, global, out)?;
                }
            }
        }
        Ok(Exit::Done)
    }

    fn segment(
        &self,
        place: SegmentPlace,
        octets: &[u8],
        global: &Global,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut line = |offset: u32, what: &str, text: String| -> Result<(), Failure> {
            let text = escaped(&text);
            if global.json {
                let line = Line {
                    log: place.log.0,
                    segment: place.segment.0,
                    offset,
                    what,
                    text,
                };
                serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{place} {offset:>10} {text}")?;
            }
            Ok(())
        };
        let header = match SegmentHeader::decode(octets, place) {
            Ok(header) => header,
            Err(fault) => return line(0, "header", fault.to_string()),
        };
        if self.id.is_none() {
            let created = WallTime::from_millis(header.created_ms);
            let (epoch, bytes) = (header.epoch.0, header.segment_bytes);
            let text = format!("segment of {bytes} octets, begun {created}, epoch {epoch:016x}");
            line(0, "header", text)?;
        }
        for item in Scanner::new(octets, &header) {
            match item {
                Item::Record {
                    offset,
                    kind,
                    payload,
                } => {
                    if self.id.is_none_or(|id| queue_id(kind, payload) == Some(id)) {
                        let text = RecordText { kind, payload }.to_string();
                        line(offset.0, "record", text)?;
                    }
                }
                _ if self.id.is_some() => {}
                Item::Unknown {
                    offset,
                    kind_octet,
                    payload_bytes,
                } => {
                    let text =
                        format!("record of unknown kind {kind_octet}, {payload_bytes} octets");
                    line(offset.0, "unknown", text)?;
                }
                Item::Damage(damage) => line(damage.begin.0, "damage", damage.to_string())?,
                Item::Tail { offset, kind } => line(offset.0, "tail", kind.to_string())?,
            }
        }
        Ok(())
    }
}

/// The message that a record is about.
fn queue_id(kind: RecordKind, payload: &[u8]) -> Option<QueueId> {
    fn of<'a, R: Record<'a>>(payload: &'a [u8], id: impl Fn(&R) -> u64) -> Option<u64> {
        R::decode(payload).ok().map(|record| id(&record))
    }
    let id = match kind {
        RecordKind::Envelope => of(payload, |record: &EnvelopeRecord<'_>| record.queue_id),
        RecordKind::Chunk => of(payload, |record: &ChunkRecord<'_>| record.queue_id),
        RecordKind::Seal => of(payload, |record: &SealRecord<'_>| record.queue_id),
        RecordKind::Done => of(payload, |record: &DoneRecord<'_>| record.queue_id),
        RecordKind::Mark => of(payload, |record: &MarkRecord<'_>| record.queue_id),
        RecordKind::Attempt => of(payload, |record: &AttemptRecord<'_>| record.queue_id),
        RecordKind::Partial => of(payload, |record: &PartialRecord<'_>| record.queue_id),
        RecordKind::Note | RecordKind::Begin | RecordKind::End => None,
    };
    id.map(QueueId::from_u64)
}
