//! Hosts that may take mail, where they are, and why there are none.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::route::{HostTls, Protocol};
use crate::smtp::client::auth::Credentials;

/// Where a connection leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Endpoint {
    /// Over the network.
    Tcp(SocketAddr),
    /// To a socket in the file system: an LMTP server on this machine.
    Unix(Arc<Path>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "[{}]:{}", address.ip(), address.port()),
            Self::Unix(path) => write!(f, "{}", path.display().to_string().escape_debug()),
        }
    }
}

/// A host that may take mail, with the addresses that it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// As it was configured or stands in the DNS.
    pub name: String,
    /// In the order in which they are to be tried. Never empty.
    pub addresses: Vec<Endpoint>,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// How TLS is used towards it.
    pub tls: HostTls,
    /// Lower ones are tried first; hosts with an equal one in an order that is drawn
    /// anew for each connection, so that they share the load (RFC 5321 §5.1).
    pub preference: u16,
    /// Who we are to it.
    pub login: Option<Arc<Credentials>>,
}

/// Why a next hop has no hosts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Unresolved {
    /// There is none and there will be none unless somebody changes something: its mail
    /// is returned.
    #[error("{why}")]
    Never {
        /// What the sender's notification says.
        reason: NoHost,
        /// For the operator and the sender.
        why: String,
    },
    /// The DNS did not answer, or not in order: it may later.
    #[error("{0}")]
    Later(String),
}

/// Why there will be no host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NoHost {
    /// The name does not exist.
    NoSuchDomain,
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// It has hosts by name, and none of them has an address.
    NoAddress,
    /// Its mail would come back to us.
    Loop,
}

impl NoHost {
    /// Class, subject and detail (RFC 3463, and RFC 7505 §4.1 for null MX).
    #[must_use]
    pub const fn status(self) -> (u8, u16, u16) {
        match self {
            Self::NoSuchDomain => (5, 1, 2),
            Self::NullMx => (5, 1, 10),
            Self::NoAddress => (5, 4, 4),
            Self::Loop => (5, 4, 6),
        }
    }
}
