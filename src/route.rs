//! Domain → next hop, and who may relay.
//!
//! [`Routes`] answers "where does mail for this domain go next", [`RelayRules`]
//! answers "may this client send to this domain at all". Both are built once from
//! the configuration, never change, and answer without allocating.
//!
//! Invariants:
//! - The longest match wins: `mail.branch.example`, then `.branch.example`, then
//!   `.example`, then the delivery mode. `.branch.example` is the names *below*
//!   `branch.example`, not that name itself.
//! - [`NextHop`] and [`NextHopRef`] hash and compare alike, so that a table keyed
//!   by the one is searched with the other.
//! - Without any rule only loopback may relay. There is no rule that lets the whole
//!   Internet relay: a network of prefix length 0 is refused when it is parsed.
//!
//! What this module does not do: it never resolves a name, it does not know which
//! recipients exist, and it does not know how a connection is made.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hashbrown::{Equivalent, HashMap, HashSet};

use crate::mail::Domain;
use crate::user::UserName;

pub mod customer;
pub mod detour;
pub mod exchangers;
mod naming;
mod network;
pub mod recipients;
pub mod written;

pub use customer::{CUSTOMER_NAME_BYTES_MAX, Customer, CustomerName, CustomerNameError, Customers};
pub use network::{Network, NetworkError};

/// The hash of our own tables: fixed, so that a run can be repeated. The keys are
/// the operator's, so nobody can choose them to collide.
type Build = foldhash::fast::FixedState;

/// Which list of smarthosts, by its place in the configuration. The hosts in it are
/// tried in order; that is the business of whoever opens the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SmarthostGroup(pub u16);

/// A host that we were told to connect to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostName {
    /// To be resolved to addresses (A, AAAA), never by MX.
    Name(Domain),
    /// Needs no DNS.
    Address(IpAddr),
    /// A Unix socket on this machine; there is no port then.
    Socket(Box<Path>),
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "{}", path.display().to_string().escape_debug()),
        }
    }
}

/// What is spoken to a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Protocol {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033: an answer for each recipient after the body.
    Lmtp,
}

/// How much TLS a next hop must offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsPolicy {
    /// In clear, also where STARTTLS is offered.
    None,
    /// STARTTLS where offered; in clear otherwise.
    #[default]
    Opportunistic,
    /// Not without TLS; any certificate will do.
    Required,
    /// Not without TLS and a certificate that names the host.
    Verified,
}

/// When TLS begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsStart {
    /// By STARTTLS (RFC 3207), if at all.
    #[default]
    Command,
    /// Before the greeting (RFC 8314 §3).
    Connection,
}

/// A certificate that we show to a host, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnCertificate(pub u16);

/// How TLS is used towards a host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostTls {
    /// How much of it.
    pub policy: TlsPolicy,
    /// From when on. Without TLS it says nothing.
    pub start: TlsStart,
    /// What we show if the host asks for a certificate.
    pub certificate: Option<OwnCertificate>,
}

impl From<TlsPolicy> for HostTls {
    fn from(policy: TlsPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

/// A host with all that is needed to speak to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Host {
    /// Which.
    pub host: HostName,
    /// TCP port; of no meaning for [`HostName::Socket`].
    pub port: u16,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// TLS.
    pub tls: HostTls,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        };
        match &self.host {
            HostName::Socket(_) => write!(f, "{scheme}://{}", self.host),
            host => write!(f, "{scheme}://{host}:{}", self.port),
        }
    }
}

/// Where a message goes next. Messages with an equal next hop share a destination of
/// the queue: its connections, its limits and its back-off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// One of a list of smarthosts.
    Smarthost(SmarthostGroup),
    /// A host of a static route.
    Host(Host),
    /// The mail exchangers of a domain, or the address in a literal (RFC 5321 §5.1).
    Mx(Domain),
    /// Kept until the customer calls. The domain is part of the key, so that a
    /// release of one domain touches only that domain's mail.
    Hold {
        /// Whose.
        customer: CustomerName,
        /// The recipient's domain.
        domain: Domain,
    },
    /// To the customer's host, without a release of the queue: what the operator has
    /// released one by one. The rest of that domain's mail is [`NextHop::Hold`].
    Site {
        /// Whose.
        customer: CustomerName,
        /// The recipient's domain.
        domain: Domain,
    },
    /// Accepted and thrown away.
    Discard,
    /// Written to a Maildir on this machine.
    Maildir(PathBuf),
}

/// A [`NextHop`] that borrows: what a lookup gives, and what a table is searched with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NextHopRef<'a> {
    /// See [`NextHop::Smarthost`].
    Smarthost(SmarthostGroup),
    /// See [`NextHop::Host`].
    Host(&'a Host),
    /// See [`NextHop::Mx`]. The text of a [`Domain`].
    Mx(&'a str),
    /// See [`NextHop::Hold`].
    Hold {
        /// Whose.
        customer: &'a CustomerName,
        /// The text of the recipient's [`Domain`].
        domain: &'a str,
    },
    /// See [`NextHop::Site`].
    Site {
        /// Whose.
        customer: &'a CustomerName,
        /// The text of the recipient's [`Domain`].
        domain: &'a str,
    },
    /// See [`NextHop::Discard`].
    Discard,
    /// See [`NextHop::Maildir`].
    Maildir(&'a Path),
}

impl NextHop {
    /// The same, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> NextHopRef<'_> {
        match self {
            Self::Smarthost(group) => NextHopRef::Smarthost(*group),
            Self::Host(host) => NextHopRef::Host(host),
            Self::Mx(domain) => NextHopRef::Mx(domain.as_str()),
            Self::Hold { customer, domain } => NextHopRef::Hold {
                customer,
                domain: domain.as_str(),
            },
            Self::Site { customer, domain } => NextHopRef::Site {
                customer,
                domain: domain.as_str(),
            },
            Self::Discard => NextHopRef::Discard,
            Self::Maildir(path) => NextHopRef::Maildir(path),
        }
    }

    /// Whose mail goes there: held, or let go to the customer's host.
    #[must_use]
    pub const fn customer(&self) -> Option<&CustomerName> {
        match self {
            Self::Hold { customer, .. } | Self::Site { customer, .. } => Some(customer),
            _ => None,
        }
    }

    /// Whether a connection over the network is needed to get there, so that
    /// connection limits apply.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        !matches!(self, Self::Discard | Self::Maildir(_))
    }
}

impl Hash for NextHop {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smarthost(group) => write!(f, "smarthost {}", group.0),
            Self::Host(host) => host.fmt(f),
            Self::Mx(domain) => write!(f, "mx of {domain}"),
            Self::Hold { customer, domain } if customer.is_of_routes() => {
                write!(f, "held ({domain})")
            }
            Self::Hold { customer, domain } => write!(f, "held for {customer} ({domain})"),
            Self::Site { customer, domain } => write!(f, "site of {customer} ({domain})"),
            Self::Discard => f.write_str("discard"),
            Self::Maildir(path) => {
                write!(f, "maildir:{}", path.display().to_string().escape_debug())
            }
        }
    }
}

impl NextHopRef<'_> {
    /// A value of its own.
    ///
    /// # Panics
    /// If a domain in it is not the text of a [`Domain`]: an error of ours, since a
    /// lookup is only ever asked with one.
    #[must_use]
    pub fn to_owned(self) -> NextHop {
        let parsed = |text: &str| -> Domain {
            text.parse()
                .expect("a next hop is looked up with the text of a Domain")
        };
        match self {
            Self::Smarthost(group) => NextHop::Smarthost(group),
            Self::Host(host) => NextHop::Host(host.clone()),
            Self::Mx(domain) => NextHop::Mx(parsed(domain)),
            Self::Hold { customer, domain } => NextHop::Hold {
                customer: customer.clone(),
                domain: parsed(domain),
            },
            Self::Site { customer, domain } => NextHop::Site {
                customer: customer.clone(),
                domain: parsed(domain),
            },
            Self::Discard => NextHop::Discard,
            Self::Maildir(path) => NextHop::Maildir(path.to_owned()),
        }
    }
}

impl Equivalent<NextHop> for NextHopRef<'_> {
    fn equivalent(&self, key: &NextHop) -> bool {
        *self == key.as_ref()
    }
}

/// What a rule covers: `branch.example`, or `.branch.example` for the names below it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// Exactly this name.
    Name(Domain),
    /// Every name below this one, at any depth, and not the name itself.
    Below(Domain),
}

impl FromStr for Scope {
    type Err = crate::mail::AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('.') {
            Some(rest) => rest.parse().map(Self::Below),
            None => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, ".{domain}"),
        }
    }
}

/// Where a static route leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// To one host.
    Host(Host),
    /// To the domain's own mail exchangers, whatever the delivery mode says.
    Mx,
    /// To a list of smarthosts.
    Smarthost(SmarthostGroup),
    /// Kept for a customer.
    Hold(CustomerName),
    /// Nowhere.
    Discard,
    /// To a Maildir.
    Maildir(PathBuf),
}

/// What happens to domains without a route of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DeliveryMode {
    /// By MX.
    #[default]
    Mx,
    /// Everything to this list of smarthosts.
    Smarthost(SmarthostGroup),
    /// By MX, and to the smarthosts what could not be delivered so
    /// ([`DeliveryMode::fallback`]).
    MxThenSmarthost(SmarthostGroup),
}

impl DeliveryMode {
    /// Where mail goes for which no host of `next_hop` could be reached. Only by MX,
    /// and only in the mode that says so (FEATURES D1).
    #[must_use]
    pub const fn fallback(self, next_hop: &NextHop) -> Option<NextHop> {
        match (self, next_hop) {
            (Self::MxThenSmarthost(group), NextHop::Mx(_)) => Some(NextHop::Smarthost(group)),
            _ => None,
        }
    }
}

/// Whether static routes count in smarthost mode (FEATURES D2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RoutesInSmarthostMode {
    /// Everything but held mail goes to the smarthost.
    #[default]
    Ignored,
    /// As in the other modes.
    Used,
}

/// Why a table of routes cannot be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// Two rules say where the same names go.
    #[error("{0} has two routes; remove one of them")]
    Twice(Scope),
    /// Two customers share a name, a queue or a user.
    #[error("the customer {0} has the name, the queue or the user of another one")]
    CustomerTwice(CustomerName),
}

/// Scopes to values; the longest match wins.
#[derive(Clone, PartialEq, Debug)]
pub struct ScopeTable<V> {
    names: HashMap<Box<str>, V, Build>,
    below: HashMap<Box<str>, V, Build>,
}

impl<V> Default for ScopeTable<V> {
    fn default() -> Self {
        Self {
            names: HashMap::with_hasher(Build::default()),
            below: HashMap::with_hasher(Build::default()),
        }
    }
}

impl<V> ScopeTable<V> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives what the scope had before.
    pub fn insert(&mut self, scope: &Scope, value: V) -> Option<V> {
        match scope {
            Scope::Name(domain) => self.names.insert(domain.as_str().into(), value),
            Scope::Below(domain) => self.below.insert(domain.as_str().into(), value),
        }
    }

    /// What the longest scope has that covers `domain`, the text of a [`Domain`]. At
    /// most one look for each of its labels, of which 255 octets hold at most 127.
    #[must_use]
    pub fn get(&self, domain: &str) -> Option<&V> {
        if let Some(found) = self.names.get(domain) {
            return Some(found);
        }
        if self.below.is_empty() || domain.starts_with('[') {
            return None;
        }
        let mut rest = domain;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.below.get(parent) {
                return Some(found);
            }
            rest = parent;
        }
        None
    }
}

/// Domain → next hop.
#[derive(Clone, PartialEq, Debug)]
pub struct Routes {
    mode: DeliveryMode,
    table: ScopeTable<Target>,
    /// What they are called ([`Routes::name_of`]).
    smarthosts: Option<Box<str>>,
}

impl Routes {
    /// From the configuration. `held` are the customers' domains: they are held in
    /// every mode. `static_routes` are left out in smarthost mode unless
    /// `in_smarthost_mode` says otherwise.
    ///
    /// # Errors
    /// If the same names are routed twice, also where a customer's domain has a
    /// static route: which of the two is meant only the operator can say.
    pub fn new(
        mode: DeliveryMode,
        in_smarthost_mode: RoutesInSmarthostMode,
        held: impl IntoIterator<Item = (Scope, CustomerName)>,
        static_routes: impl IntoIterator<Item = (Scope, Target)>,
    ) -> Result<Self, RouteError> {
        let ignored = matches!(mode, DeliveryMode::Smarthost(_))
            && in_smarthost_mode == RoutesInSmarthostMode::Ignored;
        let mut table = ScopeTable::new();
        let mut seen = HashSet::with_hasher(Build::default());
        let held = held.into_iter().map(|(s, c)| (s, Target::Hold(c), false));
        let routes = static_routes.into_iter().map(|(s, t)| (s, t, ignored));
        for (scope, target, left_out) in held.chain(routes) {
            if !left_out {
                table.insert(&scope, target);
            }
            // A contradiction is one also while the route is ignored: it would
            // come alive when the mode changes.
            if let Some(scope) = seen.replace(scope) {
                return Err(RouteError::Twice(scope));
            }
        }
        Ok(Self {
            mode,
            table,
            smarthosts: None,
        })
    }

    /// The same, with this scope leading there in any mode, whatever it had before.
    #[must_use]
    pub fn with(mut self, scope: &Scope, target: Target) -> Self {
        self.table.insert(scope, target);
        self
    }

    /// Where mail for `domain`, the text of a [`Domain`], goes next.
    #[must_use]
    pub fn next_hop<'a>(&'a self, domain: &'a str) -> NextHopRef<'a> {
        match self.table.get(domain) {
            Some(target) => target.next_hop(domain),
            None => match self.mode {
                DeliveryMode::Mx | DeliveryMode::MxThenSmarthost(_) => NextHopRef::Mx(domain),
                DeliveryMode::Smarthost(group) => NextHopRef::Smarthost(group),
            },
        }
    }

    /// What happens to domains without a route of their own.
    #[must_use]
    pub const fn mode(&self) -> DeliveryMode {
        self.mode
    }
}

/// Why a client may relay. For the log and the counters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RelayReason {
    /// It is in a listed network.
    Network,
    /// It authenticated.
    User,
    /// We hold or relay mail for this domain, from anybody.
    Domain,
}

/// Whether a client may send to a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It may.
    Relay(RelayReason),
    /// It may not: `550 5.7.1`.
    Refuse,
}

/// Who may relay (FEATURES R6).
#[derive(Clone, Debug)]
pub struct RelayRules {
    networks: Box<[Network]>,
    domains: ScopeTable<()>,
}

/// Only loopback may relay.
impl Default for RelayRules {
    fn default() -> Self {
        Self::new(None, [])
    }
}

impl RelayRules {
    /// `networks` may send to anywhere; where the configuration says nothing about
    /// them it is loopback, and an empty list means that none may. `domains` are
    /// held or relayed: anybody may send to them.
    #[must_use]
    pub fn new(networks: Option<Vec<Network>>, domains: impl IntoIterator<Item = Scope>) -> Self {
        let mut table = ScopeTable::new();
        for scope in domains {
            table.insert(&scope, ());
        }
        Self {
            networks: networks.unwrap_or_else(Network::loopback).into(),
            domains: table,
        }
    }

    /// Whether the client at `client`, authenticated as a `user` of ours if at all, may
    /// send to `domain`, the text of a [`Domain`]. Who has authenticated as something
    /// else, such as a customer, is no user here.
    #[must_use]
    pub fn may_relay(&self, client: IpAddr, user: Option<&UserName>, domain: &str) -> Verdict {
        if self.domains.get(domain).is_some() {
            Verdict::Relay(RelayReason::Domain)
        } else if self.networks.iter().any(|network| network.contains(client)) {
            Verdict::Relay(RelayReason::Network)
        } else if user.is_some() {
            Verdict::Relay(RelayReason::User)
        } else {
            Verdict::Refuse
        }
    }
}

#[cfg(test)]
mod tests;
