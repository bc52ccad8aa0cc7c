//! `turnspool status`: counters and states of the running server.

use std::io::Write;

use clap::Args;

use super::connection::{Connection, unexpected};
use super::text::{age, escaped, now};
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{Command, Response};

/// Prints counters and states.
#[derive(Debug, Args)]
pub(super) struct Status {}

impl Status {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let response = Connection::open(global)?.ask(Command::Status)?;
        let Response::Status(status) = response else {
            return Err(unexpected(&response));
        };
        if global.json {
            print_json(out, &status)?;
            return Ok(Exit::Done);
        }
        let up = age(now().since(status.started.0));
        writeln!(
            out,
            "turnspool {}, up {up}",
            escaped(&status.program_version)
        )?;
        for (name, state) in &status.states {
            writeln!(out, "{:48} {}", escaped(name), escaped(state))?;
        }
        for (name, count) in &status.counters {
            writeln!(out, "{:48} {count}", escaped(name))?;
        }
        Ok(Exit::Done)
    }
}
