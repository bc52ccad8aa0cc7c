//! DNS by hickory-resolver, on the control core.
//!
//! hickory obeys TTLs, follows CNAMEs, keeps negative answers, and asks again over
//! TCP. Here its answers become plain values: names, addresses, for how long, and who
//! said so. What they mean for mail (the order of exchangers, null MX, ourselves among
//! them) is decided in `route` and `runtime::hosts`.
//!
//! Each server has a resolver of its own, and this module goes from one to the next:
//! hickory's pool would take a server's refusal for the answer of all of them.
//!
//! Invariants:
//! - Only an answer is an answer. "There is no such name" and "there are no such
//!   records" come from a server that answered in order; refusals, failures, garbage,
//!   referrals and silence are [`Missing::Trouble`], and mail waits.
//! - Servers are asked in the order of the configuration; one that was silent comes
//!   last for `SILENT_FOR`.

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use crate::report::{Detail, Fact};
use crate::runtime::log::{self, report_control};

/// One question to one server waits this long; a lost packet costs this much once.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Questions to each server before it counts as silent.
const ATTEMPTS: usize = 2;
/// A server that did not answer is asked after the others for this long.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Servers that are asked at most; resolv.conf(5) knows three.
const SERVERS_MAX: usize = 8;
/// Answers kept for each server. A busy spool delivers to a few thousand destinations.
const CACHE_ENTRIES_MAX: u64 = 16 * 1024;
/// An answer is used at least this long, whatever its TTL, so that a TTL of 0 does
/// not mean a question per message.
pub const VALID_MIN: Duration = Duration::from_secs(5);
/// And at most this long, so that a mistake in the DNS is not kept for weeks.
pub const VALID_MAX: Duration = Duration::from_secs(24 * 3600);
/// The same for "there is none" (RFC 2308 §5): who has just mended his zone should not
/// wait for a day.
pub const NEGATIVE_VALID_MAX: Duration = Duration::from_secs(3 * 3600);
/// For "there is none" without a SOA record, which must not be kept (RFC 2308 §5).
const NEGATIVE_VALID_UNKNOWN: Duration = VALID_MIN;

/// An answer: what it is, for how long it may be used, and who gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// From now on.
    pub valid_for: Duration,
    /// The server, for the operator.
    pub server: String,
}

/// Why there is no such answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The name does not exist.
    Name(Answer<()>),
    /// The name exists and has no such records.
    Records(Answer<()>),
    /// Nobody could tell. For the operator.
    Trouble(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(_) => f.write_str("the name does not exist"),
            Self::Records(_) => f.write_str("there are no such records"),
            Self::Trouble(why) => f.write_str(why),
        }
    }
}

/// One server.
#[derive(Debug)]
struct Server {
    name: String,
    resolver: TokioResolver,
    silent_until: Cell<Option<Instant>>,
}

/// The resolver of this process.
#[derive(Debug)]
pub struct Dns {
    servers: Vec<Server>,
}

/// Whether the system's resolvers are asked when the listed ones do not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// They are.
    System,
    /// They are not.
    None,
}

impl Dns {
    /// A resolver that asks `servers` in their order, and the system's after them
    /// when there are none or `fallback` says so.
    ///
    /// # Errors
    /// The resolvers could not be made. That the system has none is no error: static
    /// routes to addresses still work.
    pub fn new(servers: &[SocketAddr], fallback: Fallback) -> Result<Self, String> {
        let mut all = Vec::new();
        for server in servers {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            all.push(built(server.to_string(), config)?);
        }
        if (servers.is_empty() || fallback == Fallback::System)
            && let Ok((system, _)) = read_system_conf()
        {
            for config in system.name_servers {
                let name = format!("{} of the system", config.ip);
                all.push(built(name, config)?);
            }
        }
        all.truncate(SERVERS_MAX);
        Ok(Self { servers: all })
    }

    /// The servers in the order in which they are asked, for the operator.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|server| server.name.as_str())
    }

    /// The addresses of a host name: IPv6 and IPv4 in turn, IPv6 first (RFC 8305 §4),
    /// each family in the server's order.
    ///
    /// # Errors
    /// [`Missing::Trouble`] if one of the two questions had no answer and the other no
    /// address: it may be there all the same.
    pub async fn addresses(&self, name: &str) -> Result<Answer<Vec<IpAddr>>, Missing> {
        if let Ok(address) = name.parse() {
            return Ok(Answer {
                value: vec![address],
                valid_for: VALID_MAX,
                server: "the configuration".to_owned(),
            });
        }
        let six = self.records(name, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        let four = self.records(name, RecordType::A, |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        });
        let (six, four) = tokio::join!(six, four);
        match (six, four) {
            (Ok(six), Ok(four)) => Ok(Answer {
                value: in_turn(six.value, four.value),
                valid_for: six.valid_for.min(four.valid_for),
                server: four.server,
            }),
            // An answer without one family is not kept for longer than that is sure.
            (Ok(mut one), Err(missing)) | (Err(missing), Ok(mut one)) => {
                one.valid_for = one.valid_for.min(match missing {
                    Missing::Name(no) | Missing::Records(no) => no.valid_for,
                    Missing::Trouble(_) => VALID_MIN,
                });
                Ok(one)
            }
            (Err(Missing::Trouble(why)), Err(_)) | (Err(_), Err(Missing::Trouble(why))) => {
                Err(Missing::Trouble(why))
            }
            (Err(missing @ Missing::Name(_)), Err(_)) => Err(missing),
            (Err(_), Err(missing)) => Err(missing),
        }
    }

    /// The mail exchangers of a domain as they stand in the DNS, at least one.
    ///
    /// # Errors
    /// [`Missing::Records`]: the domain is its own exchanger (RFC 5321 §5.1).
    pub async fn exchangers(&self, domain: &str) -> Result<Answer<Vec<(u16, String)>>, Missing> {
        self.records(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, mx.exchange.to_string())),
            _ => None,
        })
        .await
    }

    async fn records<T: fmt::Debug>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<Vec<T>>, Missing> {
        let begun = Instant::now();
        let found = self.ask(name, kind, pick).await;
        if log::tells_of_dns() {
            let answer = match &found {
                Ok(answer) => format!("{:?} from {}", answer.value, answer.server),
                Err(missing) => missing.to_string(),
            };
            report_control(&Fact::Detail(Detail::Looked {
                question: format!("{name} {kind}"),
                answer,
                took: begun.elapsed(),
            }));
        }
        found
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<Vec<T>>, Missing> {
        let absolute = absolute(name);
        let mut troubles = Vec::new();
        for server in self.in_order() {
            let said = |valid_for| Answer {
                value: (),
                valid_for,
                server: server.name.clone(),
            };
            match server.resolver.lookup(absolute.as_str(), kind).await {
                Ok(lookup) => {
                    server.silent_until.set(None);
                    let value: Vec<T> = (lookup.answers().iter())
                        .filter_map(|record| pick(&record.data))
                        .collect();
                    let valid_for = lookup
                        .valid_until()
                        .saturating_duration_since(Instant::now())
                        .clamp(VALID_MIN, VALID_MAX);
                    if value.is_empty() {
                        return Err(Missing::Records(said(NEGATIVE_VALID_UNKNOWN)));
                    }
                    return Ok(Answer {
                        value,
                        valid_for,
                        server: server.name.clone(),
                    });
                }
                Err(error) => match no_records(&error) {
                    Some((kind, valid_for)) => {
                        server.silent_until.set(None);
                        return Err(match kind {
                            No::Name => Missing::Name(said(valid_for)),
                            No::Records => Missing::Records(said(valid_for)),
                        });
                    }
                    None => {
                        if matches!(error, NetError::Timeout | NetError::Io(_)) {
                            let until = Instant::now() + SILENT_FOR;
                            server.silent_until.set(Some(until));
                        }
                        troubles.push(format!("{}: {}", server.name, sentence(&error)));
                    }
                },
            }
        }
        Err(Missing::Trouble(if troubles.is_empty() {
            format!("no name server is known to ask for {name}; name one in dns.servers")
        } else {
            format!(
                "no name server answered the question for {kind} of {name} ({})",
                troubles.join("; ")
            )
        }))
    }

    /// Those that answer first.
    fn in_order(&self) -> impl Iterator<Item = &Server> {
        let now = Instant::now();
        let silent = move |server: &&Server| {
            let until = server.silent_until.get();
            until.is_some_and(|until| until > now)
        };
        let first = self.servers.iter().filter(move |s| !silent(s));
        first.chain(self.servers.iter().filter(silent))
    }
}

/// What an answer says that has nothing in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum No {
    Name,
    Records,
}

/// Whether a server answered in order that there is nothing.
fn no_records(error: &NetError) -> Option<(No, Duration)> {
    let NetError::Dns(DnsError::NoRecordsFound(no)) = error else {
        return None;
    };
    let valid_for = match no.negative_ttl {
        Some(seconds) => Duration::from_secs(u64::from(seconds)),
        None => NEGATIVE_VALID_UNKNOWN,
    };
    let valid_for = valid_for.clamp(VALID_MIN, NEGATIVE_VALID_MAX);
    match no.response_code {
        ResponseCode::NXDomain => Some((No::Name, valid_for)),
        // Without records and with the name of another server: it did not look.
        ResponseCode::NoError if no.ns.is_some() && no.soa.is_none() => None,
        ResponseCode::NoError => Some((No::Records, valid_for)),
        _ => None,
    }
}

fn sentence(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no answer in time".to_owned(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            "it could not look it up (SERVFAIL)".to_owned()
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            "it does not answer us (REFUSED)".to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(no)) if no.ns.is_some() => {
            "it refers to other servers instead of asking them".to_owned()
        }
        other => other.to_string(),
    }
}

/// One of each in turn, beginning with the first.
fn in_turn(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            return all;
        }
    }
}

fn built(name: String, server: NameServerConfig) -> Result<Server, String> {
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ENTRIES_MAX;
    options.negative_max_ttl = Some(NEGATIVE_VALID_MAX);
    options.positive_max_ttl = Some(VALID_MAX);
    let resolver = builder.build().map_err(|error| error.to_string())?;
    Ok(Server {
        name,
        resolver,
        silent_until: Cell::new(None),
    })
}

/// With the final dot, so that no search list is applied: a mail domain is absolute.
fn absolute(name: &str) -> String {
    if name.ends_with('.') {
        name.to_owned()
    } else {
        format!("{name}.")
    }
}
