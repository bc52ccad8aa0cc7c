//! From a next hop to hosts with addresses, by the configuration and the DNS.
//!
//! [`survey`] tells each question that was asked and what became of its answer, for
//! `turnspool dns test`; [`hosts`] is its result.
//!
//! What becomes of a lookup (RFC 5321 §5.1, RFC 7505):
//!
//! | the DNS says | then |
//! |---|---|
//! | MX records | those, lowest preference first, equal ones at random |
//! | no MX, the name exists | the name itself, with preference 0 |
//! | the name does not exist | failed for good, 5.1.2 |
//! | null MX | failed for good, 5.1.10 |
//! | exchangers, none with an address | failed for good, 5.4.4; never the domain's own address |
//! | we are the best exchanger, by name or by address | failed for good, 5.4.6 |
//! | (nothing: the domain is an address literal) | that host; ours is a loop, 5.4.6 |
//! | nothing, or nonsense, or SERVFAIL | the mail waits |
//!
//! A host of the configuration never fails mail for good: a name that is wrong there
//! is a mistake that is mended.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Endpoint, Host, NoHost, Unresolved};
use crate::mail::Domain;
use crate::route::customer::DeliverTo;
use crate::route::exchangers::{NoExchanger, order};
use crate::route::{self, Customers, HostName, NextHop, Protocol, SmarthostGroup, TlsPolicy};
use crate::runtime::dns::{Answer, Dns, Missing};
use crate::runtime::settings::Smarthost;

/// The port of SMTP between servers.
pub const SMTP_PORT: u16 = 25;
/// Hosts of one next hop that are tried. RFC 5321 §5.1 asks for two at least; each one
/// more is a question to the DNS before the first connection.
const HOSTS_MAX: usize = 5;
/// Smarthosts of a group.
const SMARTHOSTS_MAX: usize = 16;
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
    /// Where we listen: nor to these.
    pub listeners: Vec<SocketAddr>,
    /// The smarthosts of each group, in order.
    pub smarthosts: Vec<Vec<Smarthost>>,
    /// Whom we hold mail for.
    pub customers: Arc<Customers>,
    /// Where mail by MX goes: [`SMTP_PORT`] but in tests and behind odd firewalls.
    pub mx_port: u16,
    /// TLS for hosts found by MX.
    pub mx_tls: TlsPolicy,
}

impl HostBook {
    /// Whether a connection to this address would come back to us.
    fn is_ourselves(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            listener.port() == address.port()
                && (listener.ip() == address.ip()
                    || (listener.ip().is_unspecified()
                        && listener.is_ipv4() == address.is_ipv4()
                        && is_local(address.ip())))
        })
    }
}

/// Whether this machine has the address: only then a socket can be bound to it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether there is a way to it at all. Asks the kernel's table, and sends nothing.
fn is_routed(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((ip, SMTP_PORT)).is_ok())
}

/// A question that was asked, and what became of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// `MX of a.example`.
    pub question: String,
    /// What was answered, as text.
    pub answers: Vec<String>,
    /// How long it may be used.
    pub valid_for: Option<Duration>,
    /// Who answered.
    pub server: Option<String>,
    /// What is not used of it, and why.
    pub dropped: Vec<String>,
}

/// A route that was looked up.
#[derive(Clone, Debug)]
pub struct Survey {
    /// In the order in which they were asked.
    pub steps: Vec<Step>,
    /// The hosts in the order in which they are to be tried.
    pub answer: Result<Vec<Host>, Unresolved>,
    /// How long that may be used.
    pub valid_for: Duration,
}

/// The hosts of a next hop, in the order in which they are to be tried, and for how
/// long the answer may be used.
pub async fn hosts(
    dns: &Dns,
    book: &HostBook,
    next_hop: &NextHop,
    seed: u64,
) -> (Result<Vec<Host>, Unresolved>, Duration) {
    let Survey {
        answer, valid_for, ..
    } = survey(dns, book, next_hop, seed).await;
    (answer, valid_for)
}

/// The same with all that was asked on the way.
pub async fn survey(dns: &Dns, book: &HostBook, next_hop: &NextHop, seed: u64) -> Survey {
    let mut search = Search {
        dns,
        book,
        steps: Vec::new(),
        hosts: Vec::new(),
        valid_for: FIXED,
    };
    let found = match next_hop {
        NextHop::Smarthost(SmarthostGroup(group)) => {
            match book.smarthosts.get(usize::from(*group)) {
                Some(hosts) => search.listed(hosts).await,
                None => Err(Unresolved::Later(
                    "the smarthost is no longer configured".to_owned(),
                )),
            }
        }
        NextHop::Host(host) => {
            let host = Smarthost {
                host: host.clone(),
                login: None,
            };
            search.listed(std::slice::from_ref(&host)).await
        }
        NextHop::Mx(domain) => search.exchangers(domain, seed).await,
        NextHop::Hold { customer, domain } | NextHop::Site { customer, domain } => {
            let nowhere = |why: &str| Err(Unresolved::Later(format!("{next_hop}: {why}")));
            match book.customers.by_name(customer).map(|c| &c.deliver_to) {
                Some(DeliverTo::Host(host)) => {
                    let host = Smarthost {
                        host: host.clone(),
                        login: None,
                    };
                    search.listed(std::slice::from_ref(&host)).await
                }
                // What the DNS says of a customer is mended when it is wrong; until then
                // its mail is held, as long as mail is held.
                Some(DeliverTo::Mx) => match search.exchangers(domain, seed).await {
                    Err(never @ Unresolved::Never { .. }) => {
                        Err(Unresolved::Later(never.to_string()))
                    }
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
    let valid_for = match &found {
        Err(Unresolved::Later(_)) => RETRY_AFTER,
        Err(Unresolved::Never { .. }) | Ok(()) => search.valid_for,
    };
    Survey {
        answer: found.map(|()| search.hosts),
        steps: search.steps,
        valid_for,
    }
}

/// The answer for a lookup that took too long.
pub fn timed_out(next_hop: &NextHop) -> (Result<Vec<Host>, Unresolved>, Duration) {
    let why = format!("looking up the hosts of {next_hop} took too long");
    (Err(Unresolved::Later(why)), RETRY_AFTER)
}

/// Who says that a host is to be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// The operator, who may have his reasons to send to this machine; the hops in the
    /// Received fields end a loop.
    InConfiguration,
    /// The DNS, and so anybody.
    InDns,
}

/// What came of one host.
enum Addresses {
    /// It was added, or is known.
    Some,
    /// One of them is ours.
    Ours,
    /// There is none.
    None(String),
    /// Nobody could tell.
    Trouble(String),
}

struct Search<'a> {
    dns: &'a Dns,
    book: &'a HostBook,
    steps: Vec<Step>,
    hosts: Vec<Host>,
    valid_for: Duration,
}

impl Search<'_> {
    async fn listed(&mut self, hosts: &[Smarthost]) -> Result<(), Unresolved> {
        let mut last = None;
        for (Smarthost { host, login }, preference) in hosts.iter().take(SMARTHOSTS_MAX).zip(0..) {
            let mut found = Host {
                name: String::new(),
                addresses: Vec::new(),
                protocol: host.protocol,
                tls: host.tls,
                preference,
                login: login.clone(),
            };
            found.name = match &host.host {
                HostName::Name(name) => name.to_string(),
                HostName::Address(address) => address.to_string(),
                HostName::Socket(path) => {
                    found.name = "localhost".to_owned();
                    found
                        .addresses
                        .push(Endpoint::Unix(Arc::from(path.clone())));
                    self.hosts.push(found);
                    continue;
                }
            };
            let (host, port) = (found, host.port);
            match self.addresses(host, port, Named::InConfiguration).await {
                Addresses::Some | Addresses::Ours => {}
                Addresses::None(why) | Addresses::Trouble(why) => last = Some(why),
            }
        }
        match last {
            Some(why) if self.hosts.is_empty() => Err(Unresolved::Later(why)),
            _ => Ok(()),
        }
    }

    async fn exchangers(&mut self, domain: &Domain, seed: u64) -> Result<(), Unresolved> {
        let port = self.book.mx_port;
        let host = |name: String, preference| Host {
            name,
            addresses: Vec::new(),
            protocol: Protocol::Smtp,
            tls: self.book.mx_tls.into(),
            preference,
            login: None,
        };
        let never = |reason, why: String| Unresolved::Never { reason, why };
        if let Some(address) = domain.literal() {
            // Whoever may send mail through us names it: it is no better than a name.
            let mut host = host(domain.to_string(), 0);
            let mut dropped = Vec::new();
            let found = self.usable(&mut host, port, Named::InDns, vec![address], &mut dropped);
            return match found {
                Addresses::Some => {
                    self.hosts.push(host);
                    Ok(())
                }
                Addresses::Ours => Err(never(NoHost::Loop, format!("{domain} is this host"))),
                Addresses::None(why) | Addresses::Trouble(why) => {
                    Err(never(NoHost::NoAddress, why))
                }
            };
        }
        let mut step = Step {
            question: format!("MX of {domain}"),
            answers: Vec::new(),
            valid_for: None,
            server: None,
            dropped: Vec::new(),
        };
        let asked = self.dns.exchangers(domain.as_str()).await;
        let records = match asked {
            Ok(answer) => {
                self.note(&mut step, &answer);
                step.answers = (answer.value.iter())
                    .map(|(preference, name)| format!("{preference} {name}"))
                    .collect();
                answer.value
            }
            Err(Missing::Records(answer)) => {
                self.note(&mut step, &answer);
                step.dropped
                    .push("there are none, so the domain is its own exchanger".to_owned());
                Vec::new()
            }
            Err(Missing::Name(answer)) => {
                self.note(&mut step, &answer);
                step.dropped.push("the name does not exist".to_owned());
                self.steps.push(step);
                let why = format!("{domain} does not exist in the DNS");
                return Err(never(NoHost::NoSuchDomain, why));
            }
            Err(Missing::Trouble(why)) => {
                step.dropped.push(why.clone());
                self.steps.push(step);
                return Err(Unresolved::Later(why));
            }
        };
        let (mut ordered, usable) = order(domain, records, &self.book.ourselves, seed);
        let is_known = ordered.dropped.len();
        step.dropped.extend((ordered.dropped.iter()).map(left_out));
        self.steps.push(step);
        usable.map_err(|why| {
            let reason = match why {
                NoExchanger::NullMx => NoHost::NullMx,
                NoExchanger::Ourselves => NoHost::Loop,
                NoExchanger::NoName => NoHost::NoAddress,
            };
            never(reason, format!("{domain}: {why}"))
        })?;
        let (mut troubles, mut none) = (None, None);
        let mut at = 0;
        while self.hosts.len() < HOSTS_MAX
            && let Some(exchanger) = ordered.exchangers.get(at)
        {
            let preference = exchanger.preference;
            let host = host(exchanger.name.to_string(), preference);
            match self.addresses(host, port, Named::InDns).await {
                Addresses::Some => {}
                Addresses::Ours => {
                    self.hosts.retain(|host| host.preference < preference);
                    ordered.end_before(preference);
                    let dropped = ordered.dropped.iter().skip(is_known).map(left_out);
                    if let Some(step) = self.steps.last_mut() {
                        step.dropped.extend(dropped);
                    }
                    if self.hosts.is_empty() {
                        let why = NoExchanger::Ourselves;
                        return Err(never(NoHost::Loop, format!("{domain}: {why}")));
                    }
                    break;
                }
                Addresses::None(why) => none = Some(why),
                Addresses::Trouble(why) => troubles = Some(why),
            }
            at += 1;
        }
        match (self.hosts.is_empty(), troubles, none) {
            (false, ..) => Ok(()),
            // One of them may have an address yet.
            (true, Some(why), _) => Err(Unresolved::Later(why)),
            // RFC 5321 §5.1: exchangers without an address are a failure, and there
            // is no falling back to the domain's own.
            (true, None, why) => {
                let why = why.unwrap_or_default();
                let why = format!("no mail exchanger of {domain} has an address: {why}");
                Err(never(NoHost::NoAddress, why))
            }
        }
    }

    /// Looks up the addresses of a host and adds it, if it has some.
    async fn addresses(&mut self, mut host: Host, port: u16, named: Named) -> Addresses {
        let mut step = Step {
            question: format!("addresses of {}", host.name),
            answers: Vec::new(),
            valid_for: None,
            server: None,
            dropped: Vec::new(),
        };
        let outcome = match self.dns.addresses(&host.name).await {
            Ok(answer) => {
                self.note(&mut step, &answer);
                step.answers = answer.value.iter().map(ToString::to_string).collect();
                self.usable(&mut host, port, named, answer.value, &mut step.dropped)
            }
            Err(Missing::Name(answer)) => {
                self.note(&mut step, &answer);
                Addresses::None(format!("{} does not exist in the DNS", host.name))
            }
            Err(Missing::Records(answer)) => {
                self.note(&mut step, &answer);
                Addresses::None(format!("{} has no address in the DNS", host.name))
            }
            Err(Missing::Trouble(why)) => Addresses::Trouble(why),
        };
        match &outcome {
            Addresses::None(why) | Addresses::Trouble(why) => step.dropped.push(why.clone()),
            Addresses::Ours => step.dropped.push(format!("{} is this host", host.name)),
            Addresses::Some => self.hosts.push(host),
        }
        self.steps.push(step);
        outcome
    }

    /// Fills in the addresses that can be connected to.
    fn usable(
        &self,
        host: &mut Host,
        port: u16,
        named: Named,
        addresses: Vec<IpAddr>,
        dropped: &mut Vec<String>,
    ) -> Addresses {
        let so_far: usize = self.hosts.iter().map(|host| host.addresses.len()).sum();
        let mut unrouted = Vec::new();
        for ip in addresses {
            // What is reached by IPv4 is judged by that, however it is written.
            let ip = ip.to_canonical();
            let address = SocketAddr::new(ip, port);
            if named == Named::InDns && self.book.is_ourselves(address) {
                return Addresses::Ours;
            }
            if ip.is_unspecified() || ip.is_multicast() {
                dropped.push(format!("{ip} is no address of a host"));
            } else if is_routed(ip) {
                host.addresses.push(Endpoint::Tcp(address));
            } else {
                unrouted.push(address);
            }
        }
        // They may be routed by the time: last, they cost nothing.
        if !unrouted.is_empty() && !host.addresses.is_empty() {
            dropped.extend(
                (unrouted.iter())
                    .map(|address| format!("{} has no route, so it comes last", address.ip())),
            );
        }
        host.addresses
            .extend(unrouted.into_iter().map(Endpoint::Tcp));
        let room = ADDRESSES_MAX.saturating_sub(so_far).max(1);
        for address in host.addresses.drain(room.min(host.addresses.len())..) {
            dropped.push(format!("{address}: too many addresses"));
        }
        if host.addresses.is_empty() {
            Addresses::None(format!("{} has no address of a host", host.name))
        } else {
            Addresses::Some
        }
    }

    fn note<T>(&mut self, step: &mut Step, answer: &Answer<T>) {
        self.valid_for = self.valid_for.min(answer.valid_for);
        step.valid_for = Some(answer.valid_for);
        step.server = Some(answer.server.clone());
    }
}

fn left_out(dropped: &route::exchangers::Dropped) -> String {
    format!("{}: {}", dropped.name, dropped.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::dns::Fallback;

    /// An address that stands in the mail is one that anybody may have put there.
    #[test]
    fn an_address_literal_is_another_host() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let book = HostBook {
            ourselves: "relay.example".parse().expect("a domain"),
            listeners: vec![address("192.0.2.1:25"), address("[2001:db8::1]:25")],
            smarthosts: Vec::new(),
            customers: Arc::new(Customers::default()),
            mx_port: SMTP_PORT,
            mx_tls: TlsPolicy::Opportunistic,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let check = |domain: &str, expected: Result<&str, NoHost>| {
            let next_hop = NextHop::Mx(domain.parse().expect("a domain"));
            let (answer, _) = runtime.block_on(async {
                // Nobody is asked.
                let dns = Dns::new(&[address("192.0.2.53:53")], Fallback::None);
                hosts(&dns.expect("it can be made"), &book, &next_hop, 1).await
            });
            let got = match &answer {
                Ok(hosts) => {
                    let addresses = hosts.iter().flat_map(|host| &host.addresses);
                    Ok(addresses.map(ToString::to_string).collect::<Vec<_>>())
                }
                Err(Unresolved::Never { reason, .. }) => Err(*reason),
                Err(Unresolved::Later(why)) => panic!("{domain}: {why}"),
            };
            assert_eq!(got, expected.map(|one| vec![one.to_owned()]), "{domain}");
        };
        check("[127.0.0.2]", Ok("[127.0.0.2]:25"));
        check("[192.0.2.1]", Err(NoHost::Loop));
        check("[IPv6:2001:db8::1]", Err(NoHost::Loop));
        check("[IPv6:::ffff:192.0.2.1]", Err(NoHost::Loop));
        check("[0.0.0.0]", Err(NoHost::NoAddress));
        check("[IPv6:::]", Err(NoHost::NoAddress));
        check("[224.0.0.1]", Err(NoHost::NoAddress));
    }
}
