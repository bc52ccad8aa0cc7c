//! DNS by hickory-resolver, on the control core.
//!
//! hickory obeys TTLs, follows CNAMEs, keeps negative answers, and asks again over
//! TCP. Here its answers become plain values: names, addresses, and for how long.
//! What they mean for mail (the order of exchangers, null MX, ourselves among
//! them) is decided in `route`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use crate::core::Unresolved;

/// One question to one server waits this long; a lost packet costs this much once.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions to each server before it counts as silent.
const ATTEMPTS: usize = 2;
/// Answers kept. A busy spool delivers to a few thousand destinations.
const CACHE_ENTRIES_MAX: u64 = 16 * 1024;
/// An answer is used at least this long, whatever its TTL, so that a TTL of 0 does
/// not mean a question per message.
const VALID_MIN: Duration = Duration::from_secs(5);
/// And at most this long, so that a mistake in the DNS is not kept for weeks.
const VALID_MAX: Duration = Duration::from_secs(24 * 3600);

/// A value and for how long it may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lasting<T> {
    /// The value.
    pub value: T,
    /// From now on.
    pub valid_for: Duration,
}

/// The resolver of this process.
#[derive(Debug)]
pub struct Dns {
    listed: Option<TokioResolver>,
    system: Option<TokioResolver>,
}

impl Dns {
    /// A resolver that asks `servers` in their order, and the system's after them
    /// when there are none or `fallback_to_system` is set.
    ///
    /// # Errors
    /// The system's configuration cannot be read and it is the only one.
    pub fn new(servers: &[SocketAddr], fallback: Fallback) -> Result<Self, String> {
        let listed = if servers.is_empty() {
            None
        } else {
            Some(listed(servers)?)
        };
        let system = match (&listed, fallback) {
            (Some(_), Fallback::None) => None,
            (Some(_), Fallback::System) => system().ok(),
            // Without a resolver, static routes to addresses still work.
            (None, _) => system().ok(),
        };
        Ok(Self { listed, system })
    }

    /// The addresses of a host name, IPv6 and IPv4 in the resolver's order.
    ///
    /// # Errors
    /// [`Unresolved::Never`] if the name has none, [`Unresolved::Later`] if nobody
    /// could tell.
    pub async fn addresses(&self, name: &str) -> Result<Lasting<Vec<IpAddr>>, Unresolved> {
        if let Ok(address) = name.parse() {
            return Ok(Lasting {
                value: vec![address],
                valid_for: VALID_MAX,
            });
        }
        let absolute = absolute(name);
        let mut last = no_resolver(name);
        for resolver in self.resolvers() {
            match resolver.lookup_ip(absolute.as_str()).await {
                Ok(lookup) => {
                    let valid_for = lasting(lookup.valid_until());
                    return Ok(Lasting {
                        value: lookup.iter().collect(),
                        valid_for,
                    });
                }
                Err(error) => last = unresolved(name, "address", &error),
            }
            if matches!(last, Unresolved::Never(_)) {
                break;
            }
        }
        Err(last)
    }

    /// The mail exchangers of a domain as they stand in the DNS; none if the domain
    /// has no MX records (RFC 5321 §5.1: then it is its own).
    ///
    /// # Errors
    /// As [`Dns::addresses`].
    pub async fn exchangers(
        &self,
        domain: &str,
    ) -> Result<Lasting<Vec<(u16, String)>>, Unresolved> {
        let absolute = absolute(domain);
        let mut last = no_resolver(domain);
        for resolver in self.resolvers() {
            match resolver.mx_lookup(absolute.as_str()).await {
                Ok(lookup) => {
                    let value = lookup
                        .answers()
                        .iter()
                        .filter_map(|record| match &record.data {
                            RData::MX(mx) => Some((mx.preference, mx.exchange.to_string())),
                            _ => None,
                        })
                        .collect();
                    return Ok(Lasting {
                        value,
                        valid_for: lasting(lookup.valid_until()),
                    });
                }
                Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
                    return Ok(Lasting {
                        value: Vec::new(),
                        valid_for: VALID_MIN,
                    });
                }
                Err(error) => last = unresolved(domain, "MX", &error),
            }
            if matches!(last, Unresolved::Never(_)) {
                break;
            }
        }
        Err(last)
    }

    fn resolvers(&self) -> impl Iterator<Item = &TokioResolver> {
        self.listed.iter().chain(&self.system)
    }
}

/// Whether the system's resolvers are asked when the listed ones do not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// They are.
    System,
    /// They are not.
    None,
}

fn listed(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let servers = servers
        .iter()
        .map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        })
        .collect();
    let config = ResolverConfig::from_parts(None, vec![], servers);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    built(builder)
}

fn system() -> Result<TokioResolver, String> {
    built(TokioResolver::builder(TokioRuntimeProvider::default()).map_err(|e| e.to_string())?)
}

fn built(
    mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
) -> Result<TokioResolver, String> {
    let options = builder.options_mut();
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ENTRIES_MAX;
    builder.build().map_err(|error| error.to_string())
}

/// With the final dot, so that no search list is applied: a mail domain is absolute.
fn absolute(name: &str) -> String {
    if name.ends_with('.') {
        name.to_owned()
    } else {
        format!("{name}.")
    }
}

fn lasting(valid_until: Instant) -> Duration {
    valid_until
        .saturating_duration_since(Instant::now())
        .clamp(VALID_MIN, VALID_MAX)
}

fn no_resolver(name: &str) -> Unresolved {
    Unresolved::Later(format!(
        "no name server is known to ask for {name}; name one in dns.servers"
    ))
}

fn unresolved(name: &str, what: &str, error: &NetError) -> Unresolved {
    if error.is_nx_domain() {
        Unresolved::Never(format!("{name} does not exist in the DNS"))
    } else if error.is_no_records_found() {
        Unresolved::Never(format!("{name} has no {what} in the DNS"))
    } else {
        Unresolved::Later(format!(
            "asking the DNS for the {what} of {name} failed: {error}"
        ))
    }
}
