//! `turnspool log detail [smtp=on …]` and `turnspool log transcript PEER`.

use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::connection::{Connection, unexpected};
use super::text::{age, escaped};
use super::{Exit, Failure, Global, print_json};
use crate::config::units::parse_duration;
use crate::core::admin::{
    Command, LogDetailChange, LogTranscript, Response, TRANSCRIPT_SECONDS_MAX,
    TRANSCRIPT_SESSIONS_MAX,
};

/// Changes what is written to the log.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Shows and switches more detail for a component
    Detail(Detail),
    /// Writes the next session with a peer to the log, line by line; nothing of passwords
    /// and messages
    Transcript(Transcript),
}

/// Records sessions.
#[derive(Debug, Args)]
pub(super) struct Transcript {
    /// The address of a client or a host, or the name of a host that mail goes to or is
    /// collected from
    #[arg(value_name = "PEER")]
    peer: String,
    /// So many sessions
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(TRANSCRIPT_SESSIONS_MAX)))]
    sessions: u32,
    /// Only those that begin within this time, such as 90s, 10m or 4h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    time: Duration,
}

impl Transcript {
    fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let seconds = self.time.as_secs();
        if !(1..=TRANSCRIPT_SECONDS_MAX).contains(&seconds) {
            return Err(Failure::new(Exit::Usage, "transcript: --for is 1s to 1d"));
        }
        let transcript = LogTranscript {
            peer: self.peer.trim_matches(['[', ']']).to_owned(),
            sessions: self.sessions,
            seconds,
        };
        let command = Command::LogTranscript(transcript.clone());
        let response = Connection::open(global)?.ask(command)?;
        if response != Response::Done {
            return Err(unexpected(&response));
        }
        if global.json {
            print_json(out, &transcript)?;
        } else {
            let (sessions, peer) = (self.sessions, escaped(&self.peer));
            let time = age(self.time);
            let which = match sessions {
                1 => format!("the next session with {peer} is written to the log, if it begins"),
                n => format!(
                    "the next {n} sessions with {peer} are written to the log, if they begin"
                ),
            };
            writeln!(out, "{which} within {time}; each line is a fact \"spoken\"")?;
        }
        Ok(Exit::Done)
    }
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
        let detail = match self {
            Self::Detail(detail) => detail,
            Self::Transcript(transcript) => return transcript.run(global, out),
        };
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
