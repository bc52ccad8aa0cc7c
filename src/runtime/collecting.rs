//! What a run of a collector needs from outside: the password, and the addresses of
//! the server.

use std::net::SocketAddr;

use crate::config::secret::SecretFile;
use crate::core::collector::Collector;
use crate::pop3::Login;
use crate::route::HostName;
use crate::runtime::dns::Dns;

/// Reads the password and looks up the server.
///
/// # Errors
/// For the operator.
pub(super) async fn prepare(
    dns: &Dns,
    collector: &Collector,
) -> Result<(Vec<SocketAddr>, Login), String> {
    let file = SecretFile::at(collector.password_file.clone());
    let path = file.path().display();
    let secret = file
        .read()
        .map_err(|error| format!("the password cannot be read from {path}: {error}"))?;
    let login = Login::new(&collector.user, secret.reveal())
        .ok_or_else(|| format!("no POP3 session can send what is in {path}"))?;
    let port = collector.port;
    let addresses = match &collector.host {
        HostName::Address(address) => vec![SocketAddr::new(*address, port)],
        HostName::Socket(_) => return Err("a mailbox is at a host, not at a socket".to_owned()),
        HostName::Name(name) => {
            let found = dns.addresses(name.as_str()).await;
            let found = found.map_err(|why| why.to_string())?;
            let addresses = found.value.into_iter();
            addresses.map(|ip| SocketAddr::new(ip, port)).collect()
        }
    };
    Ok((addresses, login))
}
