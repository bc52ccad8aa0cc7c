//! `turnspool release DOMAIN`.

use std::io::Write;

use clap::Args;

use super::connection::{Connection, unexpected};
use super::text::size;
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{Command, Response, Text};
use crate::mail::Domain;

/// Releases the held queue of a domain.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// The domain
    domain: Domain,
}

impl Release {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let domain = Text(self.domain.clone());
        let response = Connection::open(global)?.ask(Command::ReleaseDomain { domain })?;
        let Response::Released(released) = response else {
            return Err(unexpected(&response));
        };
        if global.json {
            print_json(out, &released)?;
        } else if released.messages == 0 {
            writeln!(out, "nothing waits for {}", self.domain)?;
        } else {
            let messages = if released.messages == 1 {
                "message"
            } else {
                "messages"
            };
            let (n, octets) = (released.messages, size(released.octets));
            writeln!(out, "{n} {messages} released, {octets}")?;
        }
        Ok(Exit::Done)
    }
}
