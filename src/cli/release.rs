//! `turnspool release NAME`.

use std::io::Write;

use clap::Args;

use super::connection::{Connection, unexpected};
use super::text::{escaped, size};
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{Command, Response};

/// Releases what is held for a customer, or for one domain.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// The customer's name, or a domain
    #[arg(value_name = "NAME|DOMAIN")]
    name: String,
}

impl Release {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let name = self.name.clone();
        let response = Connection::open(global)?.ask(Command::Release { name })?;
        let Response::Released(released) = response else {
            return Err(unexpected(&response));
        };
        if global.json {
            print_json(out, &released)?;
        } else if released.messages == 0 {
            writeln!(out, "nothing waits for {}", escaped(&self.name))?;
            write_queue(released.queue.as_deref(), &self.name, out)?;
        } else {
            let messages = if released.messages == 1 {
                "message"
            } else {
                "messages"
            };
            let (n, octets) = (released.messages, size(released.octets));
            writeln!(out, "{n} {messages} released, {octets}")?;
            write_queue(released.queue.as_deref(), &self.name, out)?;
        }
        Ok(Exit::Done)
    }
}

/// Which queue that was, where the name is not that of a customer: all its mail, not that of
/// the domain alone.
fn write_queue(queue: Option<&str>, name: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(queue) = queue else {
        return Ok(());
    };
    writeln!(
        out,
        "no customer has the name or the domain {}: that is the whole queue \"{}\"",
        escaped(name),
        escaped(queue)
    )
}
