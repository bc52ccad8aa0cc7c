//! Collectors, as the program uses them.

use std::time::Duration;

use super::mailbox::{self, Mailbox};
use super::{ListenerTls, Login, SecretFile, Surroundings};
use crate::config::options::{self, CollectKind};
use crate::mail::{Address, Domain};
use crate::route::{HostName, Network};
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn;
use crate::smtp::turn::Call;

/// See `[[collect]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// For logs and commands.
    pub name: String,
    /// Runs of itself.
    pub every: Option<Duration>,
    /// How long to wait for the mail that it sets in motion.
    pub wait: Duration,
    /// From where that comes.
    pub callers: Vec<Network>,
    /// By what.
    pub means: Means,
}

/// By what a collector gets mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Means {
    /// Kind "pop3".
    Mailbox(Box<Mailbox>),
    /// Kinds "etrn" and "atrn".
    Provider(Provider),
    /// Kind "wakeup".
    Letter {
        /// Where the message goes.
        to: Address,
        /// Who sends it.
        from: Address,
    },
    /// Kind "command": a program and its arguments. Never empty.
    Command(Vec<String>),
}

/// A provider who is asked for our mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Its servers, in the order in which they are tried. Never empty.
    pub servers: Vec<(HostName, u16)>,
    /// With which TLS.
    pub tls: ListenerTls,
    /// User name and where the password is.
    pub login: Option<Login>,
    /// What is asked for.
    pub ask: Ask,
}

/// Where a provider takes ETRN.
const SMTP_PORT: u16 = 25;
/// Where it takes ATRN (RFC 2645 §4).
const ODMR_PORT: u16 = 366;

/// The name for logs and commands.
pub(in crate::config) fn name(collect: &options::Collect) -> String {
    match (&*collect.name, &*collect.user, &*collect.server) {
        (Some(name), ..) => name.clone(),
        (None, Some(user), Some(server)) if *collect.kind == CollectKind::Pop3 => {
            format!("{user}@{}", server.host)
        }
        _ => collect.kind.as_str().to_owned(),
    }
}

/// `None` for what a check has refused.
pub(super) fn build(
    collect: &options::Collect,
    hostname: &Domain,
    surroundings: &Surroundings,
) -> Option<Collector> {
    let means = match *collect.kind {
        CollectKind::Pop3 => Means::Mailbox(Box::new(mailbox::build(collect, surroundings)?)),
        CollectKind::Etrn => {
            let nodes = collect.names.iter().map(|name| etrn::wanted(name).ok());
            let ask = Ask::Release(nodes.collect::<Option<_>>()?);
            Means::Provider(provider(collect, surroundings, ask, SMTP_PORT)?)
        }
        CollectKind::Atrn => {
            let domains = collect.names.iter().map(|name| name.parse().ok());
            let call = Call::new(domains.collect::<Option<Box<_>>>()?).ok()?;
            Means::Provider(provider(collect, surroundings, Ask::Turn(call), ODMR_PORT)?)
        }
        CollectKind::Command => Means::Command(collect.command.value.clone()),
        CollectKind::Wakeup => Means::Letter {
            to: (*collect.to).clone()?,
            from: match &*collect.from {
                Some(from) => from.clone(),
                None => format!("postmaster@{hostname}").parse().ok()?,
            },
        },
    };
    Some(Collector {
        name: name(collect),
        every: *collect.every,
        wait: *collect.wait,
        callers: collect.callers.value.clone(),
        means,
    })
}

fn provider(
    collect: &options::Collect,
    surroundings: &Surroundings,
    ask: Ask,
    port: u16,
) -> Option<Provider> {
    let first = collect.server.as_ref()?;
    let servers = std::iter::once(first).chain(collect.fallback.iter());
    let login = collect.user.as_ref().zip(collect.password_file.as_ref());
    Some(Provider {
        servers: servers
            .map(|server| (server.host.clone(), server.port.unwrap_or(port)))
            .collect(),
        tls: *collect.tls,
        login: login.map(|(user, path)| Login {
            user: user.clone(),
            password_file: SecretFile::new(path, surroundings),
        }),
        ask,
    })
}
