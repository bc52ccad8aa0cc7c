//! `turnspool collect [NAME]`.

use std::io::Write;

use clap::Args;

use super::connection::{Connection, unexpected};
use super::text::escaped;
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{self, Command, Response};

/// Runs collectors now, and waits until that is done. Mail that an ETRN, a message or a
/// program has set in motion may come later.
#[derive(Debug, Args)]
pub(super) struct Collect {
    /// The collector's name, as in the configuration or the log; all without one
    name: Option<String>,
    /// Messages above `size_max` too
    #[arg(long)]
    large: bool,
}

impl Collect {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let command = Command::Collect(admin::Collect {
            name: self.name.clone(),
            large: self.large,
        });
        // A mailbox over a slow line takes as long as it takes.
        let response = Connection::open(global)?.without_limit().ask(command)?;
        let Response::Collected(collected) = response else {
            return Err(unexpected(&response));
        };
        if global.json {
            print_json(out, &collected)?;
        } else {
            for outcome in &collected.collectors {
                write!(out, "{}:", escaped(&outcome.name))?;
                match (&outcome.tally, &outcome.said) {
                    (None, None) if outcome.failure.is_some() => {}
                    (None, None) => write!(out, " done")?,
                    (tally, said) => {
                        let said = said.iter().map(|said| escaped(said).to_string());
                        let tally = tally.iter().map(ToString::to_string);
                        let words: Vec<_> = said.chain(tally).collect();
                        write!(out, " {}", words.join("; "))?;
                    }
                }
                writeln!(out)?;
                if let Some(why) = &outcome.failure {
                    writeln!(out, "    not to its end: {}", escaped(why))?;
                }
            }
        }
        let failed = (collected.collectors.iter()).any(|outcome| outcome.failure.is_some());
        Ok(if failed { Exit::TryLater } else { Exit::Done })
    }
}
