//! From the checked configuration to the small settings that the modules define.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    self, Config, DeliveryMode, Listener, ListenerRole, ListenerTls, Retry as RetryConfig,
    SmarthostLogin, SmarthostTls,
};
use crate::core::credentials::Credentials;
use crate::core::settings::{Settings, Tls};
use crate::core::{admin, copies};
use crate::queue::destination::{Policies, Policy};
use crate::queue::retry::Retry;
use crate::queue::usage::Ledger;
use crate::route::{
    self, Customers, HostTls, NextHop, OwnCertificate, Protocol, RelayRules, RouteError, Routes,
    RoutesInSmarthostMode, Scope, SmarthostGroup, Target, TlsPolicy, TlsStart,
};
use crate::runtime::users;
use crate::smtp::settings::{AuthOffer, Role};
use crate::smtp::{self, client};

/// How long a delivery connection without work stays open for more. Longer than the
/// pause between two messages of a busy stream, short for a host with other clients.
const IDLE: Duration = Duration::from_secs(2);

/// The random part of a pause: enough to spread the probes of a thousand sites after
/// an outage, little enough that the operator recognises the interval.
const JITTER: f64 = 0.2;

/// Where tries are counted, mail that was never tried is given up at this age: the
/// link may be down for days, and a sender must hear of it some time.
const GIVE_UP_UNTRIED: Duration = Duration::from_secs(5 * 24 * 3600);

/// The smarthosts of the configuration are one group.
const SMARTHOSTS: SmarthostGroup = SmarthostGroup(0);

mod customers;
mod mailboxes;

mod site;

pub use customers::customers;
pub use site::online;

/// A smarthost of the configuration.
#[derive(Clone, Debug)]
pub struct Smarthost {
    /// Which.
    pub host: route::Host,
    /// Who we are to it.
    pub login: Option<Arc<client::auth::Credentials>>,
}

/// What the data cores need, but what takes more files: TLS, by
/// [`certificates`](super::certificates), and lists of [`recipients`](super::recipients).
///
/// # Errors
/// What only the modules can find, for the operator.
pub fn settings(config: &Config, ledger: &Ledger) -> Result<Settings, String> {
    let wrong = |error: RouteError| error.to_string();
    let credentials = users::credentials(config)?;
    let smtp_client = smtp::client::settings::Settings::new(config.hostname.clone());
    let mut lmtp_client = smtp_client.clone();
    lmtp_client.protocol = smtp::client::settings::Protocol::Lmtp;
    let customers = Arc::new(customers(config).map_err(wrong)?);
    let routes = routes(config, &customers).map_err(wrong)?;
    Ok(Settings {
        hostname: config.hostname.clone(),
        listeners: config
            .listeners
            .iter()
            .map(|listener| Arc::new(session(config, listener, &credentials, &customers)))
            .collect(),
        listener_tls: config
            .listeners
            .iter()
            .map(|listener| match listener.tls {
                ListenerTls::None | ListenerTls::StartTls => TlsStart::Command,
                ListenerTls::Implicit => TlsStart::Connection,
            })
            .collect(),
        tls: Tls::default(),
        relay: relay_rules(config, &customers),
        policies: policies(config, &customers, ledger, routes.mode()),
        routes: Arc::new(routes),
        smtp_client: Arc::new(smtp_client),
        lmtp_client: Arc::new(lmtp_client),
        customers,
        recipients: Arc::default(),
        wakeup: customers::wakeups(config)?,
        collectors: site::collectors(config),
        notify: config.notify.clone(),
        data_cores: config.cores.data,
        idle: IDLE,
        credentials,
    })
}

/// The smarthosts of each group.
///
/// # Errors
/// For the operator: whose password cannot be read.
pub fn smarthosts(config: &Config) -> Result<Vec<Vec<Smarthost>>, String> {
    let (DeliveryMode::Smarthost(hosts) | DeliveryMode::MxThenSmarthost(hosts)) =
        &config.delivery.mode
    else {
        return Ok(Vec::new());
    };
    let mut certificates = (0..).map(OwnCertificate);
    let group: Result<_, String> = hosts
        .iter()
        .map(|smarthost| {
            let login = match &smarthost.login {
                None => None,
                Some(SmarthostLogin::Certificate { user }) => {
                    let user = user.as_ref().map(|user| user.parse()).transpose();
                    let user = user.map_err(|error| {
                        format!("delivery.smarthost {}: user: {error}", smarthost.host)
                    })?;
                    Some(Arc::new(client::auth::Credentials::Certificate { user }))
                }
                Some(SmarthostLogin::Password(login)) => {
                    let (user, password) = users::read(login)
                        .map_err(|why| format!("delivery.smarthost {}: {why}", smarthost.host))?;
                    Some(Arc::new(client::auth::Credentials::Password {
                        user,
                        password,
                    }))
                }
            };
            let host = route::Host {
                host: smarthost.host.clone(),
                port: smarthost.port,
                protocol: Protocol::Smtp,
                tls: HostTls {
                    policy: match smarthost.tls {
                        SmarthostTls::None => TlsPolicy::None,
                        SmarthostTls::Opportunistic => TlsPolicy::Opportunistic,
                        SmarthostTls::Required => TlsPolicy::Required,
                        SmarthostTls::Verified => TlsPolicy::Verified,
                    },
                    start: if smarthost.implicit_tls {
                        TlsStart::Connection
                    } else {
                        TlsStart::Command
                    },
                    // Numbered as `certificates` loads them.
                    certificate: (smarthost.certificate.as_ref()).and_then(|_| certificates.next()),
                },
            };
            Ok(Smarthost { host, login })
        })
        .collect();
    Ok(vec![group?])
}

fn session(
    config: &Config,
    listener: &Listener,
    credentials: &Credentials,
    customers: &Customers,
) -> smtp::settings::Settings {
    let mut session = smtp::settings::Settings::new(config.hostname.clone());
    let needed = listener.role == ListenerRole::Submission;
    if listener.role == ListenerRole::Odmr {
        session.role = Role::Odmr;
    }
    if needed || !credentials.is_empty() {
        let mut auth = AuthOffer::new(credentials.mechanisms());
        auth.needed = needed;
        session.offers.auth = Some(auth);
    }
    session.message_bytes_max = config.limits.message_bytes_max;
    session.recipients_max = config.limits.recipients_max;
    session.timeouts.text_rate_min = config.limits.text_rate_min;
    session.offers.mt_priority = listener.priority;
    session.offers.deliver_by = Some(Duration::ZERO);
    let future_release = config.limits.future_release;
    // RFC 4865 §4: never where mail comes from other servers.
    if needed && !future_release.is_zero() {
        session.offers.future_release = Some(future_release);
    }
    session.offers.etrn = !customers.is_empty();
    session.offers.flight = true;
    session.offers.start_tls = listener.tls == ListenerTls::StartTls;
    session
}

fn relay_rules(config: &Config, customers: &Customers) -> RelayRules {
    let held = customers.iter().flat_map(|customer| &customer.scopes);
    let domains = config.relay.domains.iter().chain(held).cloned();
    RelayRules::new(Some(config.relay.networks.clone()), domains)
}

/// What goes where, without the rest.
///
/// # Errors
/// Two rules contradict one another.
pub fn routes_of(config: &Config) -> Result<Routes, RouteError> {
    routes(config, &customers::customers(config)?)
}

fn routes(config: &Config, customers: &Customers) -> Result<Routes, RouteError> {
    let mode = match &config.delivery.mode {
        DeliveryMode::Mx => route::DeliveryMode::Mx,
        DeliveryMode::Smarthost(_) => route::DeliveryMode::Smarthost(SMARTHOSTS),
        DeliveryMode::MxThenSmarthost(_) => route::DeliveryMode::MxThenSmarthost(SMARTHOSTS),
    };
    let in_smarthost_mode = if config.delivery.routes_in_smarthost_mode {
        RoutesInSmarthostMode::Used
    } else {
        RoutesInSmarthostMode::Ignored
    };
    let routes = config
        .routes
        .iter()
        .map(|route| (route.domain.clone(), route.next_hop.target()));
    let held = customers.iter().flat_map(|customer| {
        let owned = |scope: &Scope| (scope.clone(), customer.name.clone());
        customer.scopes.iter().map(owned)
    });
    let hosts: Vec<_> = match &config.delivery.mode {
        DeliveryMode::Mx => Vec::new(),
        DeliveryMode::Smarthost(hosts) | DeliveryMode::MxThenSmarthost(hosts) => {
            hosts.iter().map(|host| host.host.to_string()).collect()
        }
    };
    let routes =
        Routes::new(mode, in_smarthost_mode, held, routes)?.named(hosts.iter().map(String::as_str));
    // Whatever else they say: copies that were begun are made.
    let copies = Target::Maildir(copies::route(&config.spool.directory));
    let domain = copies::DOMAIN.parse().expect("a domain");
    Ok(routes.with(&Scope::Name(domain), copies))
}

fn policies(
    config: &Config,
    customers: &Customers,
    ledger: &Ledger,
    mode: route::DeliveryMode,
) -> Policies {
    let policy = |retry: RetryConfig, connections: u32| {
        let (retry, warn) = retry_and_warning(retry);
        Arc::new(Policy {
            retry,
            warn,
            connections: u16::try_from(connections).unwrap_or(u16::MAX),
            ..Policy::default()
        })
    };
    let connections = config.delivery.connections_per_destination_max;
    let default = policy(config.retry, connections);
    let usage = (customers.iter()).map(|c| (c.name.clone(), ledger.of(&c.name)));
    let mut policies = Policies {
        customers: Arc::new(customers::policies(customers, default.connections)),
        sites: Arc::new(customers::site_policies(customers, &default)),
        usage: Arc::new(usage.collect()),
        default,
        mode,
        link: site::needs_link(config),
        ..Policies::default()
    };
    for route in &config.routes {
        let is_own = route.retry.is_some() || route.connections_max.is_some();
        let own = policy(
            route.retry.unwrap_or(config.retry),
            route.connections_max.unwrap_or(connections),
        );
        match route.next_hop.target() {
            // Also one that says nothing: it may stand below one that does.
            Target::Mx | Target::Hold(_) => {
                policies.domains.insert(&route.domain, own);
            }
            Target::Host(host) if is_own => {
                policies.next_hops.insert(NextHop::Host(host), own);
            }
            Target::Maildir(path) if is_own => {
                policies.next_hops.insert(NextHop::Maildir(path), own);
            }
            Target::Host(_) | Target::Maildir(_) | Target::Smarthost(_) | Target::Discard => {}
        }
    }
    policies
}

fn retry_and_warning(retry: RetryConfig) -> (Retry, Option<Duration>) {
    match retry {
        RetryConfig::Exponential {
            first,
            factor,
            longest,
            give_up,
            warn,
        } => (
            Retry::Exponential {
                first,
                factor,
                longest,
                give_up,
                jitter: JITTER,
            },
            warn,
        ),
        RetryConfig::Fixed { tries, every, warn } => {
            let tries = u16::try_from(tries).unwrap_or(u16::MAX);
            (
                Retry::Fixed {
                    tries,
                    every,
                    give_up: GIVE_UP_UNTRIED,
                },
                warn,
            )
        }
    }
}

/// Keys whose change takes a restart, by their names in the file.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let changed = [
        ("process", old.process != new.process),
        ("spool", old.spool != new.spool),
        ("cores", old.cores != new.cores),
        ("listener", old.listeners != new.listeners),
        ("limits.silence", old.limits.silence != new.limits.silence),
        ("dns", old.dns != new.dns),
        ("link", old.links != new.links),
        ("schedule", old.schedule != new.schedule),
        ("admin", old.admin != new.admin),
        ("log.format", old.log.format != new.log.format),
        ("log.to", old.log.to != new.log.to),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What the log tells more of, as the configuration says.
pub(super) const fn log_detail(detail: config::LogDetail) -> admin::LogDetail {
    let config::LogDetail { smtp, dns, link } = detail;
    admin::LogDetail { smtp, dns, link }
}
