//! `turnspool dns test`: which way mail for a domain would take, and why.
//!
//! It asks the DNS itself, as the server would; the server need not run. If it does, it
//! is asked which hosts it holds for dead.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::connection::Connection;
use super::text::{age, escaped, now};
use super::{Exit, Failure, Global, print_json};
use crate::config::Config;
use crate::core::admin::{Command, DeadHost, Response};
use crate::core::{Host, Unresolved};
use crate::mail::Domain;
use crate::route::{HostTls, NextHop, TlsPolicy, TlsStart};
use crate::runtime::dns::{Dns, Fallback};
use crate::runtime::hosts::{Step, Survey, survey};
use crate::runtime::{serve, settings};

/// Longest time for all questions together. The server gives up as early.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the DNS as the server does
#[derive(Debug, Subcommand)]
pub(super) enum DnsCommand {
    /// Shows where mail for a domain would go now, and asks nobody but name servers
    ///
    /// Exit codes: 0 it would be sent, kept or put into a mailbox; 1 it would be
    /// returned to its sender; 75 it would wait, since the DNS does not answer.
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// A domain, or an address in it
    domain: String,
}

/// What is printed.
#[derive(Serialize)]
struct Facts {
    domain: String,
    name_servers: Vec<String>,
    /// The way, and the way that mail takes while the first one is closed.
    ways: Vec<Way>,
}

#[derive(Serialize)]
struct Way {
    next_hop: String,
    questions: Vec<Question>,
    /// In the order in which they are tried.
    hosts: Vec<HostFacts>,
    /// What becomes of the mail: "sent", "returned", "waits", "held", "discarded",
    /// "filed".
    outcome: &'static str,
    /// Why it is returned or waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Of the notification to its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    valid_seconds: u64,
}

#[derive(Serialize)]
struct Question {
    question: String,
    answers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// What is not used of the answer, and why.
    dropped: Vec<String>,
}

#[derive(Serialize)]
struct HostFacts {
    preference: u16,
    name: String,
    addresses: Vec<AddressFacts>,
    tls: &'static str,
}

#[derive(Serialize)]
struct AddressFacts {
    address: String,
    /// The running server holds it for dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<DeadHost>,
}

impl DnsCommand {
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let Self::Test(test) = self;
        let config = global.config()?;
        let domain = test.domain.rsplit('@').next().unwrap_or_default();
        let domain: Domain = domain.parse().map_err(|error| {
            let text = format!("dns test: {} is no domain: {error}", escaped(domain));
            Failure::new(Exit::Usage, text)
        })?;
        let (facts, exit) = look(&config, &domain, &dead_hosts(global))?;
        if global.json {
            print_json(out, &facts)?;
        } else {
            out.write_all(facts.text().as_bytes())?;
        }
        Ok(exit)
    }
}

/// What the server holds for dead, if one is running.
fn dead_hosts(global: &Global) -> Vec<DeadHost> {
    let answer = Connection::open(global).and_then(|mut server| server.ask(Command::DeadHosts));
    match answer {
        Ok(Response::DeadHosts(dead)) => dead.hosts,
        // It need not run.
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn look(config: &Config, domain: &Domain, dead: &[DeadHost]) -> Result<(Facts, Exit), Failure> {
    let failed = |error: String| Failure::new(Exit::Failed, format!("dns test: {error}"));
    let routes = settings::routes_of(config).map_err(|error| failed(error.to_string()))?;
    let next_hop = routes.next_hop(domain.as_str()).to_owned();
    let fallback = routes.mode().fallback(&next_hop);
    let book = serve::host_book(config).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("starting the resolver failed: {error}")))?;
    runtime.block_on(async {
        let then = match config.dns.fallback_to_system {
            true => Fallback::System,
            false => Fallback::None,
        };
        let dns = Dns::new(&config.dns.servers, then).map_err(failed)?;
        let mut ways = Vec::new();
        let mut exit = Exit::Done;
        for (place, next_hop) in [Some(next_hop), fallback].into_iter().flatten().enumerate() {
            // The order among equals is drawn anew for each connection: any will do.
            let asked = survey(&dns, &book, &next_hop, 0);
            let found = tokio::time::timeout(PATIENCE, asked).await;
            let found = found.unwrap_or_else(|_| too_late(&next_hop));
            let (way, of_way) = way(routes.name_of(&next_hop), &next_hop, found, dead);
            if place == 0 {
                exit = of_way;
            }
            ways.push(way);
        }
        let facts = Facts {
            domain: domain.to_string(),
            name_servers: dns.servers().map(str::to_owned).collect(),
            ways,
        };
        Ok((facts, exit))
    })
}

fn too_late(next_hop: &NextHop) -> Survey {
    let (answer, valid_for) = crate::runtime::hosts::timed_out(next_hop);
    Survey {
        steps: Vec::new(),
        answer,
        valid_for,
    }
}

fn way(name: String, next_hop: &NextHop, survey: Survey, dead: &[DeadHost]) -> (Way, Exit) {
    let local = match next_hop {
        NextHop::Hold { .. } => Some("held"),
        NextHop::Discard => Some("discarded"),
        NextHop::Maildir(_) => Some("filed"),
        NextHop::Smarthost(_) | NextHop::Host(_) | NextHop::Mx(_) | NextHop::Site { .. } => None,
    };
    let (outcome, why, status, hosts, exit) = match (local, survey.answer) {
        (Some(outcome), _) => (outcome, None, None, Vec::new(), Exit::Done),
        (None, Ok(hosts)) => ("sent", None, None, hosts, Exit::Done),
        (None, Err(Unresolved::Never { reason, why })) => {
            let (class, subject, detail) = reason.status();
            let status = format!("{class}.{subject}.{detail}");
            (
                "returned",
                Some(why),
                Some(status),
                Vec::new(),
                Exit::Failed,
            )
        }
        (None, Err(Unresolved::Later(why))) => {
            ("waits", Some(why), None, Vec::new(), Exit::TryLater)
        }
    };
    let way = Way {
        next_hop: name,
        questions: survey.steps.into_iter().map(question).collect(),
        hosts: hosts.iter().map(|host| host_facts(host, dead)).collect(),
        outcome,
        why,
        status,
        valid_seconds: survey.valid_for.as_secs(),
    };
    (way, exit)
}

fn question(step: Step) -> Question {
    Question {
        question: step.question,
        answers: step.answers,
        valid_seconds: step.valid_for.map(|valid_for| valid_for.as_secs()),
        server: step.server,
        dropped: step.dropped,
    }
}

fn host_facts(host: &Host, dead: &[DeadHost]) -> HostFacts {
    let addresses = host.addresses.iter().map(|address| {
        let address = address.to_string();
        let dead = dead.iter().find(|dead| dead.address == address).cloned();
        AddressFacts { address, dead }
    });
    HostFacts {
        preference: host.preference,
        name: host.name.clone(),
        addresses: addresses.collect(),
        tls: tls(&host.tls),
    }
}

/// For a person and for a program.
fn tls(tls: &HostTls) -> &'static str {
    match (tls.policy, tls.start) {
        (TlsPolicy::None, _) => "in clear",
        (TlsPolicy::Opportunistic, _) => "TLS if it is offered",
        (TlsPolicy::Required, TlsStart::Command) => "TLS or not at all",
        (TlsPolicy::Required, TlsStart::Connection) => "TLS from the start",
        (TlsPolicy::Verified, TlsStart::Command) => "TLS with a certificate for its name",
        (TlsPolicy::Verified, TlsStart::Connection) => {
            "TLS from the start with a certificate for its name"
        }
    }
}

impl Facts {
    fn text(&self) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let servers = match self.name_servers.as_slice() {
            [] => "none known".to_owned(),
            servers => servers.join(", "),
        };
        writeln!(text, "mail for {}", escaped(&self.domain))?;
        writeln!(text, "name servers, in order: {}", escaped(&servers))?;
        for (place, way) in self.ways.iter().enumerate() {
            let next_hop = escaped(&way.next_hop);
            match place {
                0 => writeln!(text, "\nroute: {next_hop}")?,
                _ => writeln!(text, "\nwhile no host of that takes mail: {next_hop}")?,
            }
            way.write(text)?;
        }
        Ok(())
    }
}

impl Way {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        for question in &self.questions {
            let answers = match question.answers.as_slice() {
                [] => "nothing".to_owned(),
                answers => answers.join(", "),
            };
            write!(
                text,
                "  {}: {}",
                escaped(&question.question),
                escaped(&answers)
            )?;
            if let Some(server) = &question.server {
                write!(text, ", from {}", escaped(server))?;
            }
            match question.valid_seconds {
                Some(seconds) => writeln!(text, ", good for {seconds} s")?,
                None => writeln!(text)?,
            }
            for dropped in &question.dropped {
                writeln!(text, "    not used: {}", escaped(dropped))?;
            }
        }
        match (self.outcome, &self.why) {
            ("sent", _) => writeln!(text, "  it is sent to the first of these that takes it:")?,
            ("returned", Some(why)) => {
                let status = self.status.as_deref().unwrap_or_default();
                writeln!(
                    text,
                    "  it is returned to its sender ({status}): {}",
                    escaped(why)
                )?;
            }
            (_, Some(why)) => writeln!(text, "  it waits: {}", escaped(why))?,
            (outcome, None) => writeln!(text, "  it is {outcome}")?,
        }
        for host in &self.hosts {
            let (preference, name) = (host.preference, escaped(&host.name));
            for address in &host.addresses {
                let at = escaped(&address.address);
                writeln!(text, "    {preference:5} {name} {at}, {}", host.tls)?;
                if let Some(dead) = &address.dead {
                    let rest = age(dead.next_attempt.0.since(now()));
                    writeln!(
                        text,
                        "          the server holds it for dead, and tries it in {rest}: {}",
                        escaped(&dead.why)
                    )?;
                }
            }
        }
        Ok(())
    }
}
