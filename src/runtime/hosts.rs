//! From a next hop to hosts with addresses, by the configuration and the DNS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Endpoint, Host, Unresolved};
use crate::mail::Domain;
use crate::route::customer::DeliverTo;
use crate::route::exchangers::order;
use crate::route::{self, Customers, HostName, NextHop, Protocol, SmarthostGroup, TlsPolicy};
use crate::runtime::dns::{Dns, Lasting};

/// The port of SMTP between servers.
const SMTP_PORT: u16 = 25;
/// Hosts of one next hop whose addresses are looked up. RFC 5321 §5.1 asks for two
/// at least; each one more is a question to the DNS before the first connection.
const HOSTS_MAX: usize = 5;
/// Addresses of one next hop that are tried before its mail waits.
const ADDRESSES_MAX: usize = 16;
/// How long an answer is kept that says that there is none for now.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long an address that stands in the configuration is good.
const FIXED: Duration = Duration::from_secs(24 * 3600);

/// What stands in the configuration about hosts.
#[derive(Clone, Debug)]
pub struct HostBook {
    /// Our own name: we never deliver to ourselves.
    pub ourselves: Domain,
    /// The smarthosts of each group, in order.
    pub smarthosts: Vec<Vec<route::Host>>,
    /// Whom we hold mail for.
    pub customers: Arc<Customers>,
    /// Where mail by MX goes; 25 but in tests and behind odd firewalls.
    pub mx_port: Option<u16>,
    /// TLS for hosts found by MX.
    pub mx_tls: TlsPolicy,
}

/// The hosts of a next hop, in the order in which they are to be tried, and for how
/// long the answer may be used.
pub async fn hosts(
    dns: &Dns,
    book: &HostBook,
    next_hop: &NextHop,
    seed: u64,
) -> (Result<Vec<Host>, Unresolved>, Duration) {
    let found = match next_hop {
        NextHop::Smarthost(SmarthostGroup(group)) => {
            match book.smarthosts.get(usize::from(*group)) {
                Some(hosts) => listed(dns, hosts).await,
                None => Err(Unresolved::Later(
                    "the smarthost is no longer configured".to_owned(),
                )),
            }
        }
        NextHop::Host(host) => listed(dns, std::slice::from_ref(host)).await,
        NextHop::Mx(domain) => exchangers(dns, book, domain, seed).await,
        NextHop::Hold { customer, domain } => {
            let nowhere = |why: &str| Err(Unresolved::Later(format!("{next_hop}: {why}")));
            match book.customers.by_name(customer).map(|c| &c.deliver_to) {
                Some(DeliverTo::Host(host)) => listed(dns, std::slice::from_ref(host)).await,
                // What the DNS says of a customer is mended when it is wrong; until then
                // its mail is held, as long as mail is held.
                Some(DeliverTo::Mx) => match exchangers(dns, book, domain, seed).await {
                    Err(Unresolved::Never(why)) => Err(Unresolved::Later(why)),
                    found => found,
                },
                Some(DeliverTo::Caller) => nowhere("nobody has called"),
                None => nowhere("there is no such customer to deliver to"),
            }
        }
        NextHop::Discard | NextHop::Maildir(_) => Err(Unresolved::Later(format!(
            "{next_hop} has no host to connect to"
        ))),
    };
    match found {
        Ok(Lasting { value, valid_for }) => (Ok(value), valid_for),
        Err(why) => (Err(why), RETRY_AFTER),
    }
}

/// The answer for a lookup that took too long.
pub fn timed_out(next_hop: &NextHop) -> (Result<Vec<Host>, Unresolved>, Duration) {
    let why = format!("looking up the hosts of {next_hop} took too long");
    (Err(Unresolved::Later(why)), RETRY_AFTER)
}

async fn listed(dns: &Dns, hosts: &[route::Host]) -> Result<Lasting<Vec<Host>>, Unresolved> {
    let mut found = Lasting {
        value: Vec::new(),
        valid_for: FIXED,
    };
    let mut last = None;
    for host in hosts.iter().take(HOSTS_MAX) {
        let name = match &host.host {
            HostName::Name(name) => name.to_string(),
            HostName::Address(address) => address.to_string(),
            HostName::Socket(path) => {
                found.value.push(Host {
                    name: "localhost".to_owned(),
                    addresses: vec![Endpoint::Unix(Arc::from(path.clone()))],
                    protocol: host.protocol,
                    tls: host.tls,
                });
                continue;
            }
        };
        match dns.addresses(&name).await {
            Ok(Lasting { value, valid_for }) => {
                found.valid_for = found.valid_for.min(valid_for);
                let addresses = value
                    .into_iter()
                    .map(|ip| Endpoint::Tcp(SocketAddr::new(ip, host.port)))
                    .collect();
                add(
                    &mut found.value,
                    Host {
                        name,
                        addresses,
                        protocol: host.protocol,
                        tls: host.tls,
                    },
                );
            }
            // A smarthost whose name is wrong today is a mistake that is mended:
            // no mail fails for it.
            Err(why) => last = Some(Unresolved::Later(why.to_string())),
        }
    }
    match last {
        Some(why) if found.value.is_empty() => Err(why),
        _ => Ok(found),
    }
}

async fn exchangers(
    dns: &Dns,
    book: &HostBook,
    domain: &Domain,
    seed: u64,
) -> Result<Lasting<Vec<Host>>, Unresolved> {
    let port = book.mx_port.unwrap_or(SMTP_PORT);
    if let Some(address) = domain.literal() {
        let host = Host {
            name: domain.to_string(),
            addresses: vec![Endpoint::Tcp(SocketAddr::new(address, port))],
            protocol: Protocol::Smtp,
            tls: book.mx_tls,
        };
        return Ok(Lasting {
            value: vec![host],
            valid_for: FIXED,
        });
    }
    let records = dns.exchangers(domain.as_str()).await?;
    let implicit = records.value.is_empty();
    let names = order(domain, records.value, &book.ourselves, seed)
        .map_err(|why| Unresolved::Never(format!("{domain}: {why}")))?;
    let mut found = Lasting {
        value: Vec::new(),
        valid_for: records.valid_for,
    };
    let mut last = None;
    for name in names.iter().take(HOSTS_MAX) {
        match dns.addresses(name.as_str()).await {
            Ok(Lasting { value, valid_for }) => {
                found.valid_for = found.valid_for.min(valid_for);
                let addresses = value
                    .into_iter()
                    .map(|ip| Endpoint::Tcp(SocketAddr::new(ip, port)))
                    .collect();
                add(
                    &mut found.value,
                    Host {
                        name: name.to_string(),
                        addresses,
                        protocol: Protocol::Smtp,
                        tls: book.mx_tls,
                    },
                );
            }
            Err(why) => last = Some(worse(last, why)),
        }
    }
    match last {
        // RFC 5321 §5.1: MX records without a usable host are a failure, and there
        // is no falling back to the domain's own address.
        Some(Unresolved::Never(why)) if found.value.is_empty() && !implicit => {
            Err(Unresolved::Never(format!(
                "no mail exchanger of {domain} has an address: {why}"
            )))
        }
        Some(why) if found.value.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// Of two reasons the one that leaves hope: another host may be found later.
fn worse(before: Option<Unresolved>, why: Unresolved) -> Unresolved {
    match before {
        Some(before @ Unresolved::Later(_)) => before,
        _ => why,
    }
}

fn add(hosts: &mut Vec<Host>, mut host: Host) {
    let so_far: usize = hosts.iter().map(|host| host.addresses.len()).sum();
    host.addresses
        .truncate(ADDRESSES_MAX.saturating_sub(so_far));
    if !host.addresses.is_empty() {
        hosts.push(host);
    }
}
