//! The configuration as the program uses it: plain values, nothing left to check.
//!
//! Made only by [`super::parse`] and its kin, after every check has passed. The
//! integrating code turns these values into the settings of each module.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::addresses::NextHop;
use super::certificate::KeyPair;
use super::options::{self, DeliveryModeWord, File, SmarthostAuth};
use super::secret::SecretFile;
use super::surroundings::Surroundings;
use super::users::UsersFile;
use crate::link::collecting::Appointment;
use crate::mail::{Address, Domain};
use crate::queue::notification::Rules;
use crate::route::{HostName, Network, Scope};

mod collector;
mod customer;
mod mailbox;
mod retry;
mod site;

pub use super::options::{ListenWhen, ListenerRole, ListenerTls, LogFormat, SmarthostTls};
pub(super) use collector::name as collector_name;
pub use collector::{Collector, Means, Provider};
pub use customer::{Customer, Release as CustomerRelease};
pub use mailbox::{DomainMailbox, Mailbox, Whose};
pub use retry::Retry;
pub(super) use retry::{retry, route_retry};
pub use site::{Driver, Link};

/// Everything that `serve` needs to know.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// For the greeting, EHLO and trace lines.
    pub hostname: Domain,
    /// Where mail is kept.
    pub spool: Spool,
    /// What the server may do on this machine.
    pub process: Process,
    /// Threads that carry mail.
    pub cores: Cores,
    /// What clients may use.
    pub limits: Limits,
    /// Never empty.
    pub listeners: Vec<Listener>,
    /// Our certificate. Present if a listener offers TLS.
    pub tls: Option<Tls>,
    /// Who may send, and to where.
    pub relay: Relay,
    /// See `[wakeup]`.
    pub wakeup: WakeUp,
    /// How names are resolved.
    pub dns: Dns,
    /// How mail leaves.
    pub delivery: Delivery,
    /// Static routes; no domain twice.
    pub routes: Vec<Route>,
    /// Whom mail is held for; no two with a name, queue, user or domain in common.
    pub customers: Vec<Customer>,
    /// How this site gets its own mail; no two with one name or account.
    pub collectors: Vec<Collector>,
    /// When a delivery is tried again.
    pub retry: Retry,
    /// How senders are told what becomes of their mail.
    pub notify: Rules,
    /// How this site gets on line, in the order in which the links are wanted.
    pub links: Vec<Link>,
    /// When it does so of itself.
    pub schedule: Vec<Appointment>,
    /// For the commands.
    pub admin: Admin,
    /// What is written about the work.
    pub log: Log,
}

/// See `[spool]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spool {
    /// The directory.
    pub directory: PathBuf,
    /// Octets of a segment file, a whole number of pages.
    pub segment_bytes: u64,
    /// Most octets on the disk. `None`: what the disk can spare.
    pub bytes_max: Option<u64>,
    /// Octets left free on the disk.
    pub free_bytes_min: u64,
}

/// See `[process]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Whom the server becomes once its ports are bound. `None`: it stays who it is.
    pub user: Option<String>,
    /// Whether it gives up what it does not need.
    pub sandbox: bool,
}

/// See `[cores]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cores {
    /// Data cores, 1 to 128.
    pub data: u8,
    /// Each on its own CPU.
    pub pin: bool,
}

/// See `[limits]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sessions at once.
    pub sessions_max: u32,
    /// Sessions at once from one address.
    pub sessions_per_client_max: u32,
    /// Octets of a message.
    pub message_bytes_max: u64,
    /// Recipients of a message.
    pub recipients_max: u32,
    /// How long a message may wait that its sender wants to wait (RFC 4865).
    pub future_release: Duration,
    /// Octets of message text a second that a client brings at least. Zero: any.
    pub text_rate_min: u64,
    /// How long the other end of a connection may give no sign of life.
    pub silence: Duration,
}

/// See `[[listener]]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// What for.
    pub role: ListenerRole,
    /// With which TLS.
    pub tls: ListenerTls,
    /// Whether clients may say how urgent their mail is.
    pub priority: bool,
    /// When.
    pub when: ListenWhen,
}

/// See `[tls]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Certificate and key.
    pub pair: KeyPair,
    /// Authorities of clients.
    pub client_ca: Option<PathBuf>,
}

/// See `[relay]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Clients that may send to anywhere.
    pub networks: Vec<Network>,
    /// Domains to which anybody may send. Each has a route.
    pub domains: Vec<Scope>,
    /// Users who may authenticate and relay.
    pub users_file: Option<UsersFile>,
}

/// See `[wakeup]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WakeUp {
    /// Where wake-up mail goes.
    pub address: Option<Address>,
    /// Where `null` is nobody.
    pub null_at: Vec<Domain>,
}

/// See `[dns]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Whether the system's are asked when none of these answers.
    pub fallback_to_system: bool,
}

/// See `[delivery]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// For mail without a static route.
    pub mode: DeliveryMode,
    /// Connections at once, all destinations together.
    pub connections_max: u32,
    /// Connections at once to one destination; at most `connections_max`.
    pub connections_per_destination_max: u32,
    /// Whether static routes count in smarthost mode.
    pub routes_in_smarthost_mode: bool,
    /// The port of mail exchangers.
    pub mx_port: u16,
}

/// How mail leaves that has no static route. The lists are never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// By MX records.
    Mx,
    /// To the first of these that takes it.
    Smarthost(Vec<Smarthost>),
    /// By MX records, then to these.
    MxThenSmarthost(Vec<Smarthost>),
}

/// See `[[delivery.smarthost]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Smarthost {
    /// Name or address.
    pub host: HostName,
    /// Where it listens.
    pub port: u16,
    /// With which TLS.
    pub tls: SmarthostTls,
    /// Whether TLS begins before the greeting.
    pub implicit_tls: bool,
    /// What we show.
    pub certificate: Option<KeyPair>,
    /// How it knows us.
    pub login: Option<SmarthostLogin>,
}

/// How a smarthost knows us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SmarthostLogin {
    /// By user name and password.
    Password(Login),
    /// By the certificate that we show.
    Certificate {
        /// As whom we want to act, if not as the one whom the certificate names.
        user: Option<String>,
    },
}

/// A user name and where its password is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// As it is sent.
    pub user: String,
    /// Read when it is used.
    pub password_file: SecretFile,
}

/// See `[[route]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// For which names.
    pub domain: Scope,
    /// Where to.
    pub next_hop: NextHop,
    /// Connections at once, at most those of all destinations together. `None`: as for
    /// others.
    pub connections_max: Option<u32>,
    /// When its mail is tried again. `None`: as for others.
    pub retry: Option<Retry>,
}

/// See `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// The Unix socket, mode 0600.
    pub socket: PathBuf,
    /// The web page, if there is one.
    pub web: Option<Web>,
}

/// The web page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Web {
    /// Where it is served.
    pub address: SocketAddr,
    /// Who may act.
    pub token: WebToken,
}

/// Where the token of the web page is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebToken {
    /// In the operator's file.
    Written(SecretFile),
    /// In a file that the server makes.
    Generated(PathBuf),
}

impl WebToken {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Written(file) => file.path(),
            Self::Generated(path) => path,
        }
    }
}

/// See `[log]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// Where to.
    pub to: LogTarget,
    /// More detail for a component.
    pub detail: LogDetail,
}

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// The system's journal.
    Journald,
    /// A file, appended to.
    File(PathBuf),
}

/// More detail for a component.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogDetail {
    /// Commands and replies.
    pub smtp: bool,
    /// Questions and answers.
    pub dns: bool,
    /// Steps of the link.
    pub link: bool,
}

/// Where we listen if nothing is said: out of reach of anybody else.
pub const LISTENER_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2525);

/// The spool's directory if nothing is said and we are no service.
pub const SPOOL_DIRECTORY_DEFAULT: &str = "turnspool-spool";

/// The port of submission over TLS (RFC 8314 §3.3), where TLS comes first.
const SUBMISSIONS_PORT: u16 = 465;

/// The name of the admin socket in the spool's directory.
pub const ADMIN_SOCKET_NAME: &str = "admin.sock";

/// The name of the web page's token in the spool's directory.
pub const WEB_TOKEN_NAME: &str = "web-token";

/// The spool is mapped; a piece of a page at the end of a segment is of no use.
const PAGE_BYTES: u64 = 4096;

/// The directory of the spool.
pub(super) fn spool_directory(file: &File, surroundings: &Surroundings) -> PathBuf {
    match (&*file.spool.directory, &surroundings.state_directory) {
        (Some(written), _) => written.clone(),
        (None, Some(state)) => state.join("spool"),
        (None, None) => SPOOL_DIRECTORY_DEFAULT.into(),
    }
}

/// How many data cores there are.
pub(super) fn data_cores(file: &File, surroundings: &Surroundings) -> u8 {
    let each_cpu = || u8::try_from(surroundings.cpus.clamp(1, 128)).unwrap_or(1);
    file.cores.data.unwrap_or_else(each_cpu)
}

/// The admin socket.
pub(super) fn admin_socket(file: &File, surroundings: &Surroundings) -> PathBuf {
    match &*file.admin.socket {
        Some(written) => written.clone(),
        None => spool_directory(file, surroundings).join(ADMIN_SOCKET_NAME),
    }
}

/// The web page.
fn web(file: &File, surroundings: &Surroundings) -> Option<Web> {
    let address = (*file.admin.web)?;
    let token = match &*file.admin.web_token_file {
        Some(written) => WebToken::Written(SecretFile::new(written, surroundings)),
        None => WebToken::Generated(spool_directory(file, surroundings).join(WEB_TOKEN_NAME)),
    };
    Some(Web { address, token })
}

/// From a file in which every check has passed.
pub(super) fn build(file: &File, surroundings: &Surroundings) -> Config {
    Config {
        hostname: hostname(file, surroundings),
        spool: Spool {
            directory: spool_directory(file, surroundings),
            segment_bytes: file.spool.segment_size.0 / PAGE_BYTES * PAGE_BYTES,
            bytes_max: file.spool.size_max.map(|size| size.0),
            free_bytes_min: file.spool.free_min.0,
        },
        process: Process {
            user: (*file.process.user).clone(),
            sandbox: *file.process.sandbox,
        },
        cores: Cores {
            data: data_cores(file, surroundings),
            pin: *file.cores.pin,
        },
        limits: Limits {
            sessions_max: *file.limits.sessions,
            sessions_per_client_max: (*file.limits.sessions_per_client).min(*file.limits.sessions),
            message_bytes_max: file.limits.message_size.0,
            recipients_max: *file.limits.recipients,
            text_rate_min: file.limits.text_rate_min.0,
            future_release: *file.limits.future_release,
            silence: *file.limits.silence,
        },
        listeners: listeners(file),
        tls: (file.tls.as_ref()).map(|tls| Tls {
            pair: KeyPair::new(&tls.certificate, &tls.key, surroundings),
            client_ca: (*tls.client_ca).clone(),
        }),
        relay: Relay {
            networks: file.relay.networks.value.clone(),
            domains: file.relay.domains.value.clone(),
            users_file: (file.relay.users_file.as_ref())
                .map(|path| UsersFile::new(path, surroundings)),
        },
        wakeup: WakeUp {
            address: (*file.wakeup.address).clone(),
            null_at: file.wakeup.null_at.value.clone(),
        },
        dns: Dns {
            servers: file.dns.servers.value.clone(),
            fallback_to_system: *file.dns.fallback_to_system,
        },
        delivery: delivery(&file.delivery, surroundings),
        routes: file
            .route
            .iter()
            .map(|route| Route {
                domain: route.domain.value.clone(),
                next_hop: route.next_hop.value.clone(),
                connections_max: (*route.connections)
                    .map(|connections| connections.min(*file.delivery.connections)),
                retry: route
                    .retry
                    .as_ref()
                    .map(|own| route_retry(own, retry(&file.retry))),
            })
            .collect(),
        customers: (file.customer.iter())
            .map(|written| customer::build(written, surroundings))
            .collect(),
        collectors: (file.collect.iter())
            .filter_map(|collect| {
                collector::build(collect, &hostname(file, surroundings), surroundings)
            })
            .collect(),
        retry: retry(&file.retry),
        notify: Rules {
            per_minute: *file.notify.per_minute,
            postmaster: (*file.notify.postmaster).clone(),
            whole_bytes_max: file.notify.whole_message_max.0,
        },
        links: file
            .link
            .iter()
            .map(|link| site::link(link, surroundings))
            .collect(),
        schedule: file.schedule.iter().map(site::appointment).collect(),
        admin: Admin {
            socket: admin_socket(file, surroundings),
            web: web(file, surroundings),
        },
        log: log(&file.log),
    }
}

/// The name that was written, else the system's if it is one, else the name that
/// every host has.
fn hostname(file: &File, surroundings: &Surroundings) -> Domain {
    let system = || surroundings.host_name.parse().ok();
    match (*file.hostname).clone().or_else(system) {
        Some(name) => name,
        None => "localhost".parse().expect("localhost is a domain"),
    }
}

fn listeners(file: &File) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = file
        .listener
        .iter()
        .map(|listener| Listener {
            address: *listener.address,
            role: *listener.role,
            tls: *listener.tls,
            priority: (*listener.priority).unwrap_or(*listener.role == ListenerRole::Submission),
            when: *listener.when,
        })
        .collect();
    if listeners.is_empty() {
        listeners.push(Listener {
            address: LISTENER_DEFAULT,
            role: ListenerRole::Mx,
            tls: ListenerTls::None,
            priority: false,
            when: ListenWhen::Always,
        });
    }
    listeners
}

fn delivery(delivery: &options::Delivery, surroundings: &Surroundings) -> Delivery {
    let smarthosts = || {
        delivery
            .smarthost
            .iter()
            .map(|smarthost| Smarthost {
                host: smarthost.host.value.clone(),
                port: *smarthost.port,
                tls: *smarthost.tls,
                implicit_tls: (*smarthost.implicit_tls)
                    .unwrap_or(*smarthost.port == SUBMISSIONS_PORT),
                certificate: (smarthost.certificate.as_ref())
                    .zip(smarthost.key.as_ref())
                    .map(|(certificate, key)| KeyPair::new(certificate, key, surroundings)),
                login: match *smarthost.auth {
                    SmarthostAuth::External => Some(SmarthostLogin::Certificate {
                        user: smarthost.user.value.clone(),
                    }),
                    SmarthostAuth::Password => (smarthost.user.as_ref())
                        .zip(smarthost.password_file.as_ref())
                        .map(|(user, path)| {
                            SmarthostLogin::Password(Login {
                                user: user.clone(),
                                password_file: SecretFile::new(path, surroundings),
                            })
                        }),
                },
            })
            .collect()
    };
    Delivery {
        mode: match *delivery.mode {
            DeliveryModeWord::Mx => DeliveryMode::Mx,
            DeliveryModeWord::Smarthost => DeliveryMode::Smarthost(smarthosts()),
            DeliveryModeWord::MxThenSmarthost => DeliveryMode::MxThenSmarthost(smarthosts()),
        },
        connections_max: *delivery.connections,
        connections_per_destination_max: (*delivery.connections_per_destination)
            .min(*delivery.connections),
        routes_in_smarthost_mode: *delivery.routes_in_smarthost_mode,
        mx_port: *delivery.mx_port,
    }
}

fn log(log: &options::Log) -> Log {
    Log {
        format: *log.format,
        to: match log.to.as_str() {
            "stderr" => LogTarget::Stderr,
            "journald" => LogTarget::Journald,
            path => LogTarget::File(path.into()),
        },
        detail: LogDetail {
            smtp: *log.detail.smtp,
            dns: *log.detail.dns,
            link: *log.detail.link,
        },
    }
}
