//! `turnspool queue list|show|hold|release|delete|requeue|export`.

mod export;

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::connection::{Connection, unexpected};
use super::text::{age, escaped, fitted, now, size};
use super::{Exit, Failure, Global, print_json};
use crate::config::units::{Bytes, parse_duration};
use crate::core::admin::{
    Change, Changed, Command, Entry, Filter, IDS_MAX, Matching, Message, PAGE_ENTRIES_MAX, Page,
    Response, Selection, SenderIs, State, Text, Waits,
};
use crate::mail::{Address, Domain, QueueId};
use crate::route::CustomerName;
use crate::route::detour::Detour;
use crate::time::WallTime;

/// Looks at the queue, and changes it.
#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// Lists messages, in the order of their ids
    List(List),
    /// Shows everything about messages
    Show(Show),
    /// Holds messages back until they are released; they still expire
    Hold(Select),
    /// Tries messages at once, on hold or not; what is held for a customer goes to its host,
    /// and the rest of its queue stays held (`turnspool release NAME` lets all of it go)
    Release(Select),
    /// Deletes messages; nobody is told
    Delete(Select),
    /// Sends messages another way than the routes, or by the routes again
    Requeue(Requeue),
    /// Writes messages to files, with their envelopes; they stay in the queue
    Export(export::ExportMessages),
}

/// Which messages. All of what is given must hold.
#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// With a waiting recipient in this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<Domain>,
    /// Held for this customer
    #[arg(long, value_name = "NAME")]
    customer: Option<CustomerName>,
    /// From this address; '<>' for notifications
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<SenderIs>,
    /// With this waiting recipient
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<Address>,
    /// In the queue for at least this time, such as 90s, 10m, 4h or 20d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Larger than this, such as 64KiB or 5MB
    #[arg(long, value_name = "SIZE")]
    larger: Option<Bytes>,
    /// In this state: ready, active, deferred or held
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
}

impl FilterArguments {
    fn filter(&self) -> Filter {
        Filter {
            domain: self.domain.clone().map(Text),
            customer: self.customer.clone().map(Text),
            sender: self.sender.clone().map(Text),
            recipient: self.recipient.clone().map(Text),
            older_seconds: self.older.map(|time| time.as_secs()),
            larger_octets: self.larger.map(|size| size.0),
            state: self.state,
        }
    }
}

/// Lists messages.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: FilterArguments,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Only those behind this one
    #[arg(long, value_name = "ID")]
    after: Option<QueueId>,
}

/// Shows messages.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<QueueId>,
}

/// Which messages are changed.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "all", "domain", "customer", "sender", "recipient", "older", "larger", "state"]))]
pub(super) struct Select {
    /// The ids
    #[arg(value_name = "ID", conflicts_with_all = ["domain", "customer", "sender", "recipient", "older", "larger", "state"])]
    ids: Vec<QueueId>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Every message
    #[arg(long, conflicts_with_all = ["ids", "domain", "customer", "sender", "recipient", "older", "larger", "state"])]
    all: bool,
}

/// Sends messages another way.
#[derive(Debug, Args)]
pub(super) struct Requeue {
    #[command(flatten)]
    select: Select,
    /// Where to: smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///PATH, maildir:/PATH, mx or
    /// smarthost; without it, where the routes lead
    #[arg(long, value_name = "NEXT_HOP")]
    to: Option<Detour>,
}

impl Requeue {
    fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let command = |selection| Command::QueueRequeue {
            to: self.to.clone().map(Text),
            selection,
        };
        self.select
            .run_with(command, "sent another way", global, out)
    }
}

impl Queue {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(global, out),
            Self::Show(show) => show.run(global, out),
            Self::Hold(select) => select.run(Change::Hold, global, out),
            Self::Release(select) => select.run(Change::Release, global, out),
            Self::Delete(select) => select.run(Change::Delete, global, out),
            Self::Requeue(requeue) => requeue.run(global, out),
            Self::Export(export) => export.run(global, out),
        }
    }
}

/// Why messages wait that were to be released, and what helps.
fn write_waits(waits: Waits, out: &mut dyn Write) -> std::io::Result<()> {
    let Waits {
        for_call,
        for_queue,
        for_route,
    } = waits;
    let mut write = |count: u64, what: &str| match count {
        0 => Ok(()),
        1 => writeln!(out, "1 message {what}"),
        _ => writeln!(out, "{count} messages {what}"),
    };
    write(
        for_call,
        "not released: its customer is not called (deliver_to = \"caller\"), and gets it when it \
         calls (ETRN after login, or ATRN)",
    )?;
    write(
        for_queue,
        "held with the rest of its queue, which was stopped: `turnspool release DOMAIN` lets a \
         queue go",
    )?;
    write(
        for_route,
        "not released: a [[route]] holds it and names no host; `turnspool queue requeue --to \
         NEXT_HOP` sends it",
    )
}

/// Ids in one request: as much as a core should do in one go.
const CHANGED_AT_ONCE: usize = 250;
const _: () = assert!(CHANGED_AT_ONCE <= IDS_MAX);

/// What the other columns and the beginning of `next hop` leave of 80. That one is last,
/// so that nothing of it is cut: the domain in it is what the next command is given.
const SENDER_COLUMNS: usize = 22;

impl List {
    /// Page by page: neither side ever holds the whole queue. With `--json` one
    /// object a line.
    fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut connection = Connection::open(global)?;
        let now = now();
        let mut after = self.after.map(Text);
        let mut left = self.limit;
        let (mut messages, mut octets) = (0_u64, 0_u64);
        while left > 0 {
            let limit = u32::try_from(left).unwrap_or(PAGE_ENTRIES_MAX);
            let page = connection.ask(Command::QueueList(Matching {
                filter: self.filter.filter(),
                after,
                limit: limit.min(PAGE_ENTRIES_MAX),
            }))?;
            let Response::Page(Page { entries, next }) = page else {
                return Err(unexpected(&page));
            };
            for entry in &entries {
                if global.json {
                    serde_json::to_writer(&mut *out, entry).map_err(std::io::Error::from)?;
                    writeln!(out)?;
                } else {
                    if messages == 0 {
                        writeln!(
                            out,
                            "{:13} {:>4} {:>5} {:>4} {:8} {:SENDER_COLUMNS$} NEXT HOP",
                            "ID", "AGE", "SIZE", "RCPT", "STATE", "SENDER"
                        )?;
                    }
                    writeln!(out, "{}", row(entry, now))?;
                }
                messages += 1;
                octets += entry.octets;
            }
            left = left.saturating_sub(entries.len() as u64);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if !global.json {
            match messages {
                0 => writeln!(out, "no messages")?,
                1 => writeln!(out, "1 message, {}", size(octets))?,
                _ => writeln!(out, "{messages} messages, {}", size(octets))?,
            }
        }
        Ok(Exit::Done)
    }
}

fn row(entry: &Entry, now: WallTime) -> String {
    let sender = if entry.sender.is_empty() {
        "<>"
    } else {
        &entry.sender
    };
    format!(
        "{} {:>4} {:>5} {:>4} {:8} {:SENDER_COLUMNS$} {}",
        entry.id.0,
        age(now.since(entry.arrival.0)),
        size(entry.octets),
        entry.recipients,
        entry.state,
        fitted(sender, SENDER_COLUMNS),
        escaped(&entry.next_hop),
    )
}

impl Show {
    /// Exit 1 if one of them is not there; the others are shown.
    fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut connection = Connection::open(global)?;
        let now = now();
        let mut shown = 0;
        let mut missing = None;
        for id in &self.ids {
            let response = match connection.ask(Command::QueueShow { id: Text(*id) }) {
                Ok(response) => response,
                Err(failure) if failure.exit == Exit::Failed => {
                    missing = missing.or(Some(failure));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let Response::Message(message) = response else {
                return Err(unexpected(&response));
            };
            if global.json {
                print_json(out, &message)?;
            } else {
                if shown > 0 {
                    writeln!(out)?;
                }
                show(&message, now, out)?;
            }
            shown += 1;
        }
        out.flush()?;
        missing.map_or(Ok(Exit::Done), Err)
    }
}

fn show(message: &Message, now: WallTime, out: &mut dyn Write) -> std::io::Result<()> {
    let Message { entry, .. } = message;
    let mut fact = |name: &str, value: String| writeln!(out, "{name:13} {value}");
    fact("id", entry.id.0.to_string())?;
    fact("state", entry.state.to_string())?;
    fact("sender", format!("<{}>", escaped(&entry.sender)))?;
    let ago = age(now.since(entry.arrival.0));
    fact("arrival", format!("{} ({ago} ago)", entry.arrival.0))?;
    fact("size", format!("{} octets", entry.octets))?;
    fact("attempts", entry.attempts.to_string())?;
    if let Some(next) = entry.next_attempt {
        fact("next attempt", next.0.to_string())?;
    }
    if let Some(expires) = message.expires {
        fact("expires", expires.0.to_string())?;
    }
    if message.priority != 0 {
        fact("priority", message.priority.to_string())?;
    }
    if let Some(deliver_by) = message.deliver_by {
        fact("deliver by", deliver_by.0.to_string())?;
    }
    if let Some(envid) = &message.envid {
        fact("envelope id", escaped(envid))?;
    }
    fact("in the spool", escaped(&message.location))?;
    for recipient in &message.shown {
        fact(
            "recipient",
            format!(
                "<{}> {}, next hop {}",
                escaped(&recipient.recipient),
                escaped(&recipient.state),
                escaped(&recipient.next_hop),
            ),
        )?;
        if let Some(last) = &recipient.last {
            fact("", escaped(last))?;
        }
    }
    let more = (message.recipients_total as usize).saturating_sub(message.shown.len());
    if more > 0 {
        fact("", format!("and {more} more recipients"))?;
    }
    Ok(())
}

/// What a change did, added up over the requests that it took.
#[derive(Serialize, Default)]
struct Sum {
    changed: u64,
    /// Were to be released, and wait, or some of their recipients do.
    held: u64,
    /// Of those, why.
    waits: Waits,
    missing: Vec<Text<QueueId>>,
}

impl Select {
    /// Exit 1 if an id is not there, or is to be released and waits all the same; the
    /// others are changed.
    fn run(&self, change: Change, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let done = match change {
            Change::Hold => "held",
            Change::Release => "released",
            Change::Delete => "deleted",
        };
        let command = |selection| Command::QueueChange { change, selection };
        self.run_with(command, done, global, out)
    }

    /// Slice by slice, so that mail goes between them.
    fn run_with(
        &self,
        command: impl Fn(Selection) -> Command,
        done: &str,
        global: &Global,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        let mut connection = Connection::open(global)?;
        let mut sum = Sum::default();
        if self.ids.is_empty() {
            let mut after = None;
            loop {
                let selection = Selection::Matching(Matching {
                    filter: self.filter.filter(),
                    after,
                    limit: PAGE_ENTRIES_MAX,
                });
                match sum.add(connection.ask(command(selection))?)? {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        } else {
            for ids in self.ids.chunks(CHANGED_AT_ONCE) {
                let ids = ids.iter().copied().map(Text).collect();
                let selection = Selection::Ids { ids };
                sum.add(connection.ask(command(selection))?)?;
            }
        }
        if global.json {
            print_json(out, &sum)?;
        } else {
            let messages = if sum.changed == 1 {
                "message"
            } else {
                "messages"
            };
            writeln!(out, "{} {messages} {done}", sum.changed)?;
            write_waits(sum.waits, out)?;
            for id in &sum.missing {
                writeln!(out, "{} is not in the queue", id.0)?;
            }
        }
        Ok(if sum.missing.is_empty() && sum.held == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

impl Sum {
    fn add(&mut self, response: Response) -> Result<Option<Text<QueueId>>, Failure> {
        match response {
            Response::Changed(Changed {
                changed,
                held,
                waits,
                missing,
                next,
            }) => {
                self.changed += changed;
                self.held += held;
                self.waits.add(waits);
                self.missing.extend(missing);
                Ok(next)
            }
            other => Err(unexpected(&other)),
        }
    }
}
