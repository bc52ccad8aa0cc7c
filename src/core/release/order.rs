//! What is to be released, and who asks for it.

use std::net::{IpAddr, SocketAddr};

use crate::core::{AdminRequestId, ConnectionId, CoreId};
use crate::link::work::Reason;
use crate::mail::Domain;
use crate::route::CustomerName;

/// How much of what is held for a customer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Extent {
    /// This domain's.
    Domain(Domain),
    /// This domain's and that of all names below it.
    Below(Domain),
    /// All.
    Everything,
    /// What was let go already, message by message: it is tried at once.
    LetGo,
}

/// What is to be released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Whose. Never empty.
    pub customers: Vec<CustomerName>,
    /// How much of it.
    pub extent: Extent,
    /// Who called, for customers whose mail goes there. Has authenticated.
    pub caller: Option<IpAddr>,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, customer) in self.customers.iter().enumerate() {
            write!(f, "{}{customer}", if i == 0 { "" } else { ", " })?;
        }
        match &self.extent {
            Extent::Domain(domain) => write!(f, " ({domain})"),
            Extent::Below(domain) => write!(f, " ({domain} and below)"),
            Extent::Everything => Ok(()),
            Extent::LetGo => f.write_str(" (messages released one by one)"),
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReleaseAsker {
    /// A session, by ETRN.
    Session {
        /// On which core.
        core: CoreId,
        /// Which.
        connection: ConnectionId,
        /// From where.
        client: SocketAddr,
        /// As whom, if it authenticated.
        user: Option<Box<str>>,
    },
    /// A connection from one of the customer's addresses.
    Connection {
        /// From where.
        client: SocketAddr,
    },
    /// A message to our address for that.
    WakeUp {
        /// From where.
        client: SocketAddr,
        /// As whom, if it authenticated.
        user: Option<Box<str>>,
        /// Why it may.
        proof: Proof,
    },
    /// The operator.
    Operator(AdminRequestId),
    /// The operator, of messages that were let go one by one.
    OneByOne,
    /// The interval of the customer.
    Interval,
    /// So much waits that the site is to be woken.
    Waiting(Reason),
    /// The command that woke the site, asked for by one of the last three.
    Awake,
}

/// Why a wake-up mail is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// As ETRN would be.
    Source,
    /// It has the customer's secret.
    Secret,
}
