//! `turnspool spool stat DIR`: how much of what is in the spool.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde::Serialize;
use spool_format::Recovered;

use super::files::{Log, Place};
use super::pass::Found;
use crate::cli::text::{age, escaped, fitted, now, size};
use crate::cli::{Exit, Failure, Global, print_json};
use crate::core::admin::Date;
use crate::time::WallTime;

/// Counts.
#[derive(Debug, Args)]
pub(in crate::cli) struct Stat {
    #[command(flatten)]
    place: Place,
    /// How many domains are shown, those with the most messages first
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    domains: usize,
}

#[derive(Serialize)]
struct Facts {
    logs: Vec<LogFacts>,
    /// Messages with recipients that are not done.
    messages: usize,
    octets: u64,
    /// Recipients that are not done.
    recipients: u64,
    held: usize,
    /// With at least one try.
    tried: usize,
    oldest: Option<Date>,
    /// Sealed, and no recipient left.
    done: u64,
    /// Accepted, waiting for somebody, and not whole: see `spool verify`.
    lost: usize,
    /// All domains, those with the most messages first.
    domains: Vec<DomainFacts>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct LogFacts {
    log: u8,
    directory: String,
    segments: usize,
    spares: u64,
    octets_on_disk: u64,
}

#[derive(Serialize)]
struct DomainFacts {
    domain: String,
    messages: u64,
    recipients: u64,
}

impl Stat {
    /// Reads summaries where there are any, so that a large spool takes seconds.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let Found { logs, recovered } = self.place.found(global)?;
        let mut facts = Facts::new(&logs, &recovered);
        if global.json {
            print_json(out, &facts)?;
        } else {
            let more = facts.domains.len().saturating_sub(self.domains);
            facts.domains.truncate(self.domains);
            facts.print(more, out)?;
        }
        Ok(Exit::Done)
    }
}

impl Facts {
    fn new(logs: &[Log], recovered: &Recovered) -> Self {
        let mut recipients = 0;
        let mut domains: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for message in recovered.messages.iter() {
            let mut last = None;
            for (_, domain) in recovered.pending(message) {
                let (messages, pending) = domains.entry(recovered.name(domain)).or_default();
                recipients += 1;
                *pending += 1;
                // Runs of one domain may be repeated in a message with many
                // recipients; it is counted once a run.
                *messages += u64::from(last != Some(domain));
                last = Some(domain);
            }
        }
        let mut domains: Vec<DomainFacts> = domains
            .into_iter()
            .map(|(domain, (messages, recipients))| DomainFacts {
                domain: domain.to_owned(),
                messages,
                recipients,
            })
            .collect();
        // Stable: those with as many stay in the order of their names.
        domains.sort_by_key(|facts| std::cmp::Reverse(facts.messages));
        let messages = &recovered.messages;
        let oldest = messages.iter().map(|message| message.arrival_ms).min();
        Self {
            logs: logs.iter().map(LogFacts::new).collect(),
            messages: messages.len(),
            octets: messages.iter().map(|message| message.octets).sum(),
            recipients,
            held: messages.iter().filter(|message| message.held).count(),
            tried: messages.iter().filter(|m| !m.attempts.is_empty()).count(),
            oldest: oldest.map(|millis| Date(WallTime::from_millis(millis))),
            done: recovered.done,
            lost: recovered.broken.len(),
            domains,
            notes: logs.iter().filter_map(Log::note).collect(),
        }
    }

    fn print(&self, more: usize, out: &mut dyn Write) -> Result<(), Failure> {
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        for log in &self.logs {
            let disk = size(log.octets_on_disk);
            let (segments, spares) = (log.segments, log.spares);
            let directory = escaped(&log.directory);
            writeln!(
                out,
                "{directory}: {segments} segments, {spares} spare, {disk}"
            )?;
        }
        let mut fact = |name: &str, value: String| writeln!(out, "{name:<12} {value}");
        fact(
            "messages",
            format!("{}, {}", self.messages, size(self.octets)),
        )?;
        fact("recipients", self.recipients.to_string())?;
        fact("held", self.held.to_string())?;
        fact("tried", self.tried.to_string())?;
        if let Some(Date(oldest)) = self.oldest {
            fact(
                "oldest",
                format!("{oldest} ({} ago)", age(now().since(oldest))),
            )?;
        }
        fact("done", self.done.to_string())?;
        if self.lost > 0 {
            let next = "`turnspool spool verify` says which";
            fact("not whole", format!("{}; {next}", self.lost))?;
        }
        if !self.domains.is_empty() {
            writeln!(out, "\n{:>9} {:>10} DOMAIN", "MESSAGES", "RECIPIENTS")?;
        }
        for DomainFacts {
            domain,
            messages,
            recipients,
        } in &self.domains
        {
            writeln!(out, "{messages:>9} {recipients:>10} {}", fitted(domain, 59))?;
        }
        if more > 0 {
            writeln!(out, "and {more} more domains")?;
        }
        Ok(())
    }
}

impl LogFacts {
    fn new(log: &Log) -> Self {
        Self {
            log: log.id.0,
            directory: log.path.to_string_lossy().into_owned(),
            segments: log.segments.len(),
            spares: log.spares,
            octets_on_disk: log.octets_on_disk(),
        }
    }
}
