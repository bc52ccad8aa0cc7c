//! What a run of a collector needs from outside: the password, the addresses of the
//! server, and the operator's program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Login as ConfigLogin;
use crate::config::secret::SecretFile;
use crate::core::collector::{Collector, Means, PopMailbox, Prepared, Provider};
use crate::core::{Endpoint, Host};
use crate::pop3::Login;
use crate::route::{HostName, Protocol};
use crate::runtime::copies;
use crate::runtime::dns::Dns;
use crate::runtime::link::program::{self, Environment, Input};
use crate::runtime::users;
use crate::smtp::client::auth::Credentials;

/// How long the program of a collector may take: as long as a run may keep the link up.
const COMMAND_TIME_MAX: Duration = crate::core::collectors::RUN_PATIENCE;

/// What the program finds the collector's name in.
const COLLECTOR_VARIABLE: &str = "TURNSPOOL_COLLECTOR";

/// Reads the password and looks up the server.
///
/// # Errors
/// For the operator.
pub(super) async fn prepare(dns: &Dns, collector: &Collector) -> Result<Prepared, String> {
    match &collector.means {
        Means::Mailbox(mailbox) => prepare_mailbox(dns, mailbox).await,
        Means::Provider(provider) => prepare_provider(dns, provider).await,
        Means::Letter(_) | Means::Command(_) => unreachable!("they need nothing"),
    }
}

async fn prepare_mailbox(dns: &Dns, mailbox: &PopMailbox) -> Result<Prepared, String> {
    let file = SecretFile::at(mailbox.password_file.clone());
    let path = file.path().display();
    let secret = file
        .read()
        .map_err(|error| format!("the password cannot be read from {path}: {error}"))?;
    let login = Login::new(&mailbox.user, secret.reveal())
        .ok_or_else(|| format!("no POP3 session can send what is in {path}"))?;
    if let Some(kept) = &mailbox.copies {
        let at = kept.directory.clone();
        let made = tokio::task::spawn_blocking(move || copies::make(&at)).await;
        let made = made.map_err(|error| error.to_string());
        made.and_then(|made| made.map_err(|error| error.to_string()))
            .map_err(|why| {
                let at = kept.directory.display();
                format!("the directory for its copies, {at}, cannot be made: {why}")
            })?;
    }
    let addresses = addresses(dns, &mailbox.host, mailbox.port).await?;
    Ok(Prepared::Mailbox(addresses, login))
}

/// A server whose name is not found is passed over, if there is another one.
async fn prepare_provider(dns: &Dns, provider: &Provider) -> Result<Prepared, String> {
    let login = match &provider.login {
        None => None,
        Some((user, path)) => {
            let login = ConfigLogin {
                user: user.to_string(),
                password_file: SecretFile::at(path.clone()),
            };
            let (user, password) = users::read(&login)?;
            Some(Arc::new(Credentials::Password { user, password }))
        }
    };
    let mut hosts = Vec::new();
    let mut troubles = Vec::new();
    for (preference, (host, port)) in (0..).zip(&provider.servers) {
        match addresses(dns, host, *port).await {
            Ok(addresses) => hosts.push(Host {
                name: host.to_string(),
                addresses: addresses.into_iter().map(Endpoint::Tcp).collect(),
                protocol: Protocol::Smtp,
                tls: provider.tls,
                preference,
                login: login.clone(),
            }),
            Err(why) => troubles.push(why),
        }
    }
    if hosts.is_empty() {
        return Err(troubles.join("; "));
    }
    Ok(Prepared::Provider(hosts))
}

async fn addresses(dns: &Dns, host: &HostName, port: u16) -> Result<Vec<SocketAddr>, String> {
    match host {
        HostName::Address(address) => Ok(vec![SocketAddr::new(*address, port)]),
        HostName::Socket(_) => Err("a collector asks a host, not a socket".to_owned()),
        HostName::Name(name) => {
            let found = dns.addresses(name.as_str()).await;
            let found = found.map_err(|why| why.to_string())?;
            let addresses = found.value.into_iter();
            Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
        }
    }
}

/// Runs the program of a collector to its end.
///
/// # Errors
/// It could not be started, said that it failed, or took too long and was killed.
pub(super) async fn run(collector: &Collector) -> Result<(), String> {
    let Means::Command(words) = &collector.means else {
        unreachable!("only a program is run");
    };
    let name = (COLLECTOR_VARIABLE, &*collector.name);
    let environment = Environment::Only(&[name]);
    let ended = program::run_with(words, environment, Input::Nothing, COMMAND_TIME_MAX).await?;
    if ended.status.success() {
        Ok(())
    } else {
        Err(ended.sentence(&words[0]))
    }
}
