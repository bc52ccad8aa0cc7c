//! The other end of a connection.

use crate::client::Client;
use crate::ledger::{Ledger, Receipt};
use crate::mailbox;
use crate::server::Server;

/// What a peer does.
#[derive(Debug)]
pub(crate) enum Act {
    /// Send these.
    Send(Vec<u8>),
    /// Send no more (FIN).
    Finish,
    /// Reset the connection.
    Reset,
    /// Whatever it sends from now on comes so many nanoseconds later.
    Pause(u64),
    /// Read no more.
    StopReading,
    /// A client got a 250 for a message whose last octet it had sent then.
    Accepted {
        /// When.
        whole_at: u64,
    },
    /// A next hop took a message: when the core has all that was sent up to here, it
    /// knows.
    Delivered(Receipt),
}

#[derive(Debug)]
pub(crate) enum Peer {
    Client(Box<Client>),
    Server(Box<Server>),
    Mailbox(Box<mailbox::Server>),
}

impl Peer {
    /// Somebody has connected to it.
    pub(crate) fn greet(&mut self) -> Vec<Act> {
        match self {
            Self::Client(_) => panic!("a client is not connected to"),
            Self::Server(server) => server.greet(),
            Self::Mailbox(server) => server.greet(),
        }
    }

    pub(crate) fn octets(&mut self, now: u64, ledger: &mut Ledger, octets: &[u8]) -> Vec<Act> {
        match self {
            Self::Client(client) if client.ended => Vec::new(),
            Self::Client(client) => client.octets(now, ledger, octets),
            Self::Server(server) => server.octets(now, ledger, octets),
            Self::Mailbox(server) => server.octets(now, octets),
        }
    }

    /// The core has closed, or is gone: nothing more can be done.
    pub(crate) fn closed(&mut self) {
        match self {
            Self::Client(client) => client.ended = true,
            Self::Server(server) => server.ended = true,
            Self::Mailbox(server) => server.closed(),
        }
    }
}
