//! `turnspool import postfix|exim|eml`: mail that waits in another server's queue is handed
//! to the running one, by SMTP over loopback.
//!
//! Rules:
//! - Nothing is changed where it is read. The other server is stopped, or a copy is named.
//! - Who has got a message already does not get it again: only recipients that are not done
//!   are handed over. The time of its arrival goes with it, so that it is given up when its
//!   sender expects that; and so do DSN parameters.
//! - A message is handed over once, however often the command runs: a ledger says which
//!   was begun and which is done, and it is on the disk before the message is sent. One
//!   that was begun by a run that was cut off, and is not done, may be in the queue or not:
//!   it is left, and said, until somebody says `--again`.
//! - What is not taken is said, each with its reason.
//!
//! What it does not do: it knows nothing of the other server's configuration, so aliases
//! that were not yet looked at stay as they are.

mod exim;
mod postfix;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::submission::{self, NotTaken, Submission};
use super::text::escaped;
use super::{Exit, Failure, Global, eml, print_json, shown};
use crate::mail::Envelope;
use crate::time::WallTime;

/// The ledger, in the directory of the spool.
const LEDGER: &str = "imported";

/// How deep directories are looked into: queues are hashed by one or two letters.
const DEPTH_MAX: usize = 4;

/// Most files in a queue.
const FILES_MAX: usize = 10_000_000;

/// Brings mail here that waits in another server's queue.
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// From a queue directory of Postfix, such as /var/spool/postfix; stop Postfix first
    Postfix(Source),
    /// From a spool directory of Exim, such as /var/spool/exim4; stop Exim first
    Exim(Source),
    /// From files that `turnspool queue export` or `spool export` has written
    Eml(Source),
}

/// From where, and how.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The directory; for eml a file, too
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
    /// Takes messages too that are on hold or frozen there; they go like all others
    #[arg(long)]
    with_held: bool,
    /// Takes messages too that a run was handing over when it was cut off; they may come
    /// twice
    #[arg(long)]
    again: bool,
    /// Where it is noted what was imported; else a file in the spool's directory
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// A message that is to be handed over.
struct Found {
    path: PathBuf,
    /// Never that of another message.
    key: String,
    arrival: Option<WallTime>,
    /// Recipients that are not done.
    envelope: Envelope,
    /// Recipients that are, for who wants to know.
    done: u64,
    held: bool,
    /// Its text, with any line ends.
    open: fn(&Path) -> Result<Box<dyn Read>, String>,
}

/// What stays where it is.
#[derive(Serialize)]
struct Left {
    #[serde(rename = "file")]
    path: PathBuf,
    why: String,
}

/// A file that was looked at.
enum Item {
    Found(Box<Found>),
    /// Everybody has got it.
    Done,
    Left(Left),
}

/// What was done.
#[derive(Serialize, Default)]
struct Sum {
    imported: u64,
    recipients: u64,
    /// Of those messages: recipients who had them already.
    recipients_done: u64,
    /// By an earlier run.
    imported_before: u64,
    /// Nobody waits for them any more.
    finished: u64,
    left: Vec<Left>,
}

/// Looks at a queue, without reading its messages.
type Look = fn(&Path) -> Result<Vec<Item>, String>;

impl Import {
    /// Exit 1 if something is left, 75 if the server went away.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let (source, look): (_, Look) = match self {
            Self::Postfix(source) => (source, postfix::look),
            Self::Exim(source) => (source, exim::look),
            Self::Eml(source) => (source, look_at_eml),
        };
        let directory = &source.directory;
        let items = look(directory).map_err(|why| {
            let what = format!("reading {} failed: {}", shown(directory), escaped(&why));
            Failure::new(Exit::Failed, what)
        })?;
        let mut sum = Sum::default();
        let result = source.bring(global, items, &mut sum);
        if global.json {
            print_json(out, &sum)?;
        } else {
            sum.print(source.dry_run, out)?;
        }
        result?;
        Ok(if sum.left.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

impl Source {
    fn bring(&self, global: &Global, items: Vec<Item>, sum: &mut Sum) -> Result<(), Failure> {
        let path = match &self.ledger {
            Some(path) => path.clone(),
            None => global.config()?.spool.directory.join(LEDGER),
        };
        let mut ledger = Ledger::open(&path, self.dry_run).map_err(|error| {
            let what = format!(
                "opening the ledger {} failed: {error}\n    run it as the user of the server or \
                 as root",
                shown(&path)
            );
            Failure::new(Exit::Failed, what)
        })?;
        let mut session = None;
        for item in items {
            let found = match item {
                Item::Found(found) => found,
                Item::Done => {
                    sum.finished += 1;
                    continue;
                }
                Item::Left(left) => {
                    sum.left.push(left);
                    continue;
                }
            };
            let left = |why: &str| Left {
                path: found.path.clone(),
                why: why.to_owned(),
            };
            match ledger.entries.get(&found.key) {
                Some(Entry::Done) => {
                    sum.imported_before += 1;
                    continue;
                }
                Some(Entry::Begun) if !self.again => {
                    sum.left.push(left(
                        "a run was handing it over when it was cut off: look for it in the \
                         queue; --again imports it once more",
                    ));
                    continue;
                }
                Some(Entry::Begun) | None => {}
            }
            if found.held && !self.with_held {
                sum.left.push(left("it is on hold; --with-held imports it"));
                continue;
            }
            let recipients = found.envelope.recipients.len() as u64;
            sum.recipients_done += found.done;
            if self.dry_run {
                sum.imported += 1;
                sum.recipients += recipients;
                continue;
            }
            match hand_over(global, &mut session, &mut ledger, &found) {
                Ok(refused) => {
                    sum.imported += 1;
                    sum.recipients += recipients - refused.len() as u64;
                    for who in refused {
                        sum.left.push(Left {
                            path: found.path.clone(),
                            why: who,
                        });
                    }
                }
                Err(Trouble::Message(why)) => sum.left.push(left(&why)),
                Err(Trouble::Run(failure)) => return Err(failure),
            }
        }
        if let Some(session) = session {
            Submission::quit(session);
        }
        Ok(())
    }
}

/// Whom it concerns that a message was not taken.
enum Trouble {
    Message(String),
    Run(Failure),
}

/// Gives who was refused, if others were not.
fn hand_over(
    global: &Global,
    session: &mut Option<Submission>,
    ledger: &mut Ledger,
    found: &Found,
) -> Result<Vec<String>, Trouble> {
    let run = |what: String| Trouble::Run(Failure::new(Exit::TryLater, what));
    let mut text = (found.open)(&found.path).map_err(Trouble::Message)?;
    if session.is_none() {
        let server = submission::server(global.config.as_deref())
            .map_err(|what| Trouble::Run(Failure::new(Exit::Usage, what)))?;
        let opened = Submission::open(server.address, "localhost");
        *session = Some(opened.map_err(|error| run(error.sentence()))?);
    }
    let session_open = session.as_mut().expect("it was opened just now");
    ledger.note(Entry::Begun, &found.key).map_err(|error| {
        run(format!(
            "writing the ledger failed: {error}; nothing was sent"
        ))
    })?;
    let recipients = &found.envelope.recipients;
    let sent = session_open.send(
        &found.envelope.sender,
        recipients,
        found.arrival,
        true,
        &[],
        &mut text,
    );
    let failed = |error: std::io::Error| {
        run(format!(
            "writing the ledger failed: {error}; the last message was imported"
        ))
    };
    match sent {
        Ok((_, refused)) => {
            ledger.note(Entry::Done, &found.key).map_err(failed)?;
            let who = |(index, said): &(usize, submission::Said)| {
                let to = recipients[*index].forward_path.as_str();
                format!("<{}> was refused: {said}", escaped(to))
            };
            Ok(refused.iter().map(who).collect())
        }
        Err(NotTaken::Refused(said)) => {
            ledger.forget(&found.key).map_err(failed)?;
            Err(Trouble::Message(format!("the server said {said}")))
        }
        Err(NotTaken::Unreadable(why)) => {
            // The connection went with it; nothing was promised.
            *session = None;
            ledger.forget(&found.key).map_err(failed)?;
            Err(Trouble::Message(format!("reading it failed: {why}")))
        }
        // Whether it was taken is not known if the connection broke at its end.
        Err(later @ NotTaken::Later(_)) => Err(run(later.sentence())),
    }
}

impl Sum {
    fn print(&self, dry_run: bool, out: &mut dyn Write) -> Result<(), Failure> {
        for Left { path, why } in &self.left {
            writeln!(out, "left: {}: {}", shown(path), escaped(why))?;
        }
        let would = if dry_run { "would be " } else { "" };
        let messages = if self.imported == 1 {
            "message"
        } else {
            "messages"
        };
        let left = self.left.len();
        writeln!(
            out,
            "{} {messages} {would}imported for {} recipients; {} were imported before, {} were \
             finished, {left} left",
            self.imported, self.recipients, self.imported_before, self.finished
        )?;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Begun,
    Done,
}

/// What was handed over: a line for each step, the last one of a key counts.
struct Ledger {
    /// `None`: it is only read.
    file: Option<File>,
    entries: BTreeMap<String, Entry>,
}

impl Ledger {
    fn open(path: &Path, only_read: bool) -> std::io::Result<Self> {
        let mut entries = BTreeMap::new();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    match line?.split_once(' ') {
                        Some(("begun", key)) => entries.insert(key.to_owned(), Entry::Begun),
                        Some(("done", key)) => entries.insert(key.to_owned(), Entry::Done),
                        Some(("refused", key)) => entries.remove(key),
                        // The end of a line that a crash cut.
                        _ => None,
                    };
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = if only_read {
            None
        } else {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).append(true).mode(0o600).open(path)?;
            // A line that a crash cut is no part of the next one.
            file.write_all(b"\n")?;
            Some(file)
        };
        Ok(Self { file, entries })
    }

    fn note(&mut self, entry: Entry, key: &str) -> std::io::Result<()> {
        self.write(
            if entry == Entry::Done {
                "done"
            } else {
                "begun"
            },
            key,
        )?;
        self.entries.insert(key.to_owned(), entry);
        Ok(())
    }

    fn forget(&mut self, key: &str) -> std::io::Result<()> {
        self.write("refused", key)?;
        self.entries.remove(key);
        Ok(())
    }

    fn write(&mut self, word: &str, key: &str) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(format!("{word} {key}\n").as_bytes())?;
        file.sync_data()
    }
}

/// The files in a directory and a few below it, in the order of their names. None, if it
/// is not there.
fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{}: {error}", directory.display())),
        };
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            // A link in a queue is nobody's mail.
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FILES_MAX {
                return Err("there are too many files".to_owned());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Files of our own.
fn look_at_eml(path: &Path) -> Result<Vec<Item>, String> {
    let all = if path.is_dir() {
        files(path)?
    } else {
        vec![path.to_owned()]
    };
    let item = |path: PathBuf| match eml_message(&path) {
        Ok(found) => Item::Found(Box::new(found)),
        Err(why) => Item::Left(Left { path, why }),
    };
    Ok(all.into_iter().map(item).collect())
}

fn eml_message(path: &Path) -> Result<Found, String> {
    if path.extension().is_some_and(|end| end == "part") {
        return Err("its export was cut off".to_owned());
    }
    let mut input = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    let head = eml::envelope(&mut input)?;
    let id = head.id.ok_or("there is no X-Turnspool-Id")?;
    let millis = head.arrival.map_or(0, WallTime::as_millis);
    Ok(Found {
        path: path.to_owned(),
        key: format!("eml {id} {millis}"),
        arrival: head.arrival,
        envelope: head.envelope,
        done: 0,
        held: head.held,
        open: |path| {
            let file = File::open(path).map_err(|error| error.to_string())?;
            let mut input = BufReader::new(file);
            eml::envelope(&mut input)?;
            Ok(Box::new(input))
        },
    })
}
