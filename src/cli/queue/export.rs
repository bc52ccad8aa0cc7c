//! `turnspool queue export`: messages that wait, as files; they stay in the queue.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Select;
use crate::cli::connection::{Connection, unexpected};
use crate::cli::stored::{Export, Store};
use crate::cli::{Exit, Failure, Global, print_json, spool, text};
use crate::core::admin::{Command, Located, Matching, PAGE_ENTRIES_MAX, Page, Response, Text};
use crate::mail::QueueId;

/// Ids in one question: their answer has all their recipients.
const LOCATED_AT_ONCE: usize = 100;

/// How often a message is looked for that has gone elsewhere meanwhile.
const LOOKS_MAX: u32 = 3;

/// Writes messages as .eml.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportMessages {
    #[command(flatten)]
    select: Select,
    /// Writes each to a file of its own in here, called ID.eml; without it one message is
    /// written to standard output
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What was written.
#[derive(Serialize, Default)]
struct Sum {
    exported: u64,
    /// Not in the queue (any more).
    missing: Vec<Text<QueueId>>,
    /// Could not be read or written.
    failed: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    id: Text<QueueId>,
    why: String,
}

impl ExportMessages {
    /// Exit 1 if one of them is not there or cannot be read; the others are written.
    pub(in crate::cli) fn run(
        &self,
        global: &Global,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        if self.directory.is_none() && (self.select.ids.len() != 1 || global.json) {
            let what = "export: more than one message: name a directory with --directory DIR";
            return Err(Failure::new(Exit::Usage, what));
        }
        let mut connection = Connection::open(global)?;
        let logs = spool::logs(None, global)?;
        let mut export = Export {
            store: Store::new(logs),
            directory: self.directory.as_deref(),
        };
        export.begin()?;
        let mut sum = Sum::default();
        if self.select.ids.is_empty() {
            let mut after = None;
            loop {
                let page = connection.ask(Command::QueueList(Matching {
                    filter: self.select.filter.filter(),
                    after,
                    limit: PAGE_ENTRIES_MAX,
                }))?;
                let Response::Page(Page { entries, next }) = page else {
                    return Err(unexpected(&page));
                };
                let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
                sum.some(&mut connection, &mut export, &ids, out)?;
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            // What went while it was being written was not asked for by its name.
            sum.missing.clear();
        } else {
            let ids: Vec<_> = self.select.ids.iter().copied().map(Text).collect();
            sum.some(&mut connection, &mut export, &ids, out)?;
        }
        let exit = if sum.missing.is_empty() && sum.failed.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        };
        if global.json {
            print_json(out, &sum)?;
            return Ok(exit);
        }
        let mut lines = Vec::new();
        for id in &sum.missing {
            lines.push(format!("{} is not in the queue", id.0));
        }
        for Fault { id, why } in &sum.failed {
            lines.push(format!("{}: {}", id.0, text::escaped(why)));
        }
        match &self.directory {
            Some(directory) => {
                for line in &lines {
                    writeln!(out, "{line}")?;
                }
                let messages = if sum.exported == 1 {
                    "message"
                } else {
                    "messages"
                };
                let directory = crate::cli::shown(directory);
                writeln!(out, "{} {messages} written to {directory}", sum.exported)?;
                Ok(exit)
            }
            // Standard output is the message's.
            None if exit != Exit::Done => Err(Failure::new(exit, lines.join("\n"))),
            None => Ok(exit),
        }
    }
}

impl Sum {
    fn some(
        &mut self,
        connection: &mut Connection,
        export: &mut Export<'_>,
        ids: &[Text<QueueId>],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        for ids in ids.chunks(LOCATED_AT_ONCE) {
            self.chunk(connection, export, ids, out)?;
        }
        Ok(())
    }

    /// Asks where they are until each is written, gone, or was looked for often enough.
    fn chunk(
        &mut self,
        connection: &mut Connection,
        export: &mut Export<'_>,
        ids: &[Text<QueueId>],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut left: BTreeSet<_> = ids.iter().copied().collect();
        let mut looks = 0;
        let mut faults = Vec::new();
        while !left.is_empty() && looks < LOOKS_MAX {
            let ids = left.iter().copied().collect();
            let response = connection.ask(Command::QueueLocate { ids })?;
            let Response::Located(Located { messages }) = response else {
                return Err(unexpected(&response));
            };
            if messages.is_empty() {
                break;
            }
            faults.clear();
            let mut written = 0;
            for message in &messages {
                let id = message.id;
                match export.one(id.0, message.seal(), &message.waiting, message.held, out) {
                    Ok(_) => {
                        left.remove(&id);
                        written += 1;
                    }
                    // A second try would write the beginning twice.
                    Err(why) if export.directory.is_none() => {
                        left.remove(&id);
                        self.failed.push(Fault { id, why });
                    }
                    Err(why) => faults.push(Fault { id, why }),
                }
            }
            self.exported += written;
            // An answer may be too short for all: that is no look in vain.
            looks += u32::from(written == 0);
        }
        for fault in faults.drain(..) {
            if left.remove(&fault.id) {
                self.failed.push(fault);
            }
        }
        self.missing.extend(left);
        Ok(())
    }
}
