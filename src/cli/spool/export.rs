//! `turnspool spool export DIR`: what waits in a spool that no server has, as files.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::files::Place;
use super::pass::Found;
use crate::cli::stored::{Export, Store};
use crate::cli::text::escaped;
use crate::cli::{Exit, Failure, Global, print_json, shown};
use crate::core::admin::Text;
use crate::mail::QueueId;

/// Writes every message that waits.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportSpool {
    #[command(flatten)]
    place: Place,
    /// Where the files are written to, each called ID.eml
    #[arg(long = "to", value_name = "DIR")]
    to: PathBuf,
}

#[derive(Serialize, Default)]
struct Facts {
    exported: u64,
    failed: Vec<Fault>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Fault {
    id: Text<QueueId>,
    why: String,
}

impl ExportSpool {
    /// Exit 1 if a message cannot be read; the others are written.
    pub(in crate::cli) fn run(
        &self,
        global: &Global,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        let Found { logs, recovered } = self.place.found(global)?;
        let mut facts = Facts {
            notes: logs.iter().filter_map(super::files::Log::note).collect(),
            ..Facts::default()
        };
        let mut export = Export {
            store: Store::new(logs),
            directory: Some(&self.to),
        };
        export.begin()?;
        let mut messages: Vec<_> = recovered.messages.iter().collect();
        // Segment by segment, so that each is read once.
        messages.sort_unstable_by_key(|message| message.seal);
        for message in messages {
            let id = QueueId::from_u64(message.queue_id);
            let waiting: Vec<u32> = recovered.pending(message).map(|(n, _)| n.0).collect();
            match export.one(id, message.seal, &waiting, message.held, out) {
                Ok(_) => facts.exported += 1,
                Err(why) => facts.failed.push(Fault { id: Text(id), why }),
            }
        }
        for broken in &recovered.broken {
            facts.failed.push(Fault {
                id: Text(QueueId::from_u64(broken.message.queue_id)),
                why: broken.to_string(),
            });
        }
        if global.json {
            print_json(out, &facts)?;
        } else {
            for note in &facts.notes {
                writeln!(out, "{note}")?;
            }
            for Fault { id, why } in &facts.failed {
                writeln!(out, "{}: {}", id.0, escaped(why))?;
            }
            let messages = if facts.exported == 1 {
                "message"
            } else {
                "messages"
            };
            writeln!(
                out,
                "{} {messages} written to {}",
                facts.exported,
                shown(&self.to)
            )?;
        }
        Ok(if facts.failed.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}
