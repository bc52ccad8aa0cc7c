//! `turnspool log detail [smtp=on …]`.

use std::io::Write;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::connection::{Connection, unexpected};
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{Command, LogDetailChange, Response};

/// Changes what is written to the log.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Shows and switches more detail for a component
    Detail(Detail),
}

/// Shows and switches detail.
#[derive(Debug, Args)]
pub(super) struct Detail {
    /// smtp=on, dns=off, link=on; nothing: only shows
    #[arg(value_name = "COMPONENT=on|off")]
    switches: Vec<Switch>,
}

#[derive(Clone, Copy, Debug)]
enum Component {
    Smtp,
    Dns,
    Link,
}

#[derive(Clone, Copy, Debug)]
struct Switch {
    component: Component,
    on: bool,
}

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let advice = "write smtp, dns or link, then =on or =off";
        let (component, state) = text.split_once('=').ok_or(advice)?;
        let component = match component {
            "smtp" => Component::Smtp,
            "dns" => Component::Dns,
            "link" => Component::Link,
            _ => return Err(advice),
        };
        let on = match state {
            "on" => true,
            "off" => false,
            _ => return Err(advice),
        };
        Ok(Self { component, on })
    }
}

impl Log {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let Self::Detail(detail) = self;
        let mut change = LogDetailChange::default();
        for Switch { component, on } in &detail.switches {
            let field = match component {
                Component::Smtp => &mut change.smtp,
                Component::Dns => &mut change.dns,
                Component::Link => &mut change.link,
            };
            *field = Some(*on);
        }
        let response = Connection::open(global)?.ask(Command::LogDetail(change))?;
        let Response::LogDetail(now) = response else {
            return Err(unexpected(&response));
        };
        if global.json {
            print_json(out, &now)?;
        } else {
            let word = |on| if on { "on" } else { "off" };
            let (smtp, dns, link) = (word(now.smtp), word(now.dns), word(now.link));
            writeln!(out, "smtp={smtp} dns={dns} link={link}")?;
        }
        Ok(Exit::Done)
    }
}
