//! Connections: octets under way in both directions.

use std::collections::VecDeque;

use turnspool::core::Piece;

use crate::disk::Inode;
use crate::ledger::Receipt;
use crate::peer::Peer;

/// How far a connection is, as the core's kernel sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The core waits for the outcome.
    Connecting,
    Open,
    /// It is gone, and the core was told or is about to be.
    Broken,
    /// The core knows that it is gone.
    Told,
    /// The core closed it.
    Closed,
}

/// Octets on the way to a peer. What comes from the spool is looked at when it arrives:
/// until then the pages wait in the socket's queue.
#[derive(Debug)]
pub(crate) enum Part {
    Octets(Vec<u8>),
    Spool {
        inode: Inode,
        from: usize,
        octets: usize,
    },
}

impl Part {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Spool { octets, .. } => *octets,
        }
    }
}

/// What is left of a send.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) pieces: VecDeque<Piece>,
    /// Octets of the first that have left.
    pub(crate) done: usize,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) phase: Phase,
    /// Came, and was not yet received.
    pub(crate) arrived: VecDeque<u8>,
    pub(crate) finished: bool,
    pub(crate) receiving: bool,
    pub(crate) sending: Option<Sending>,
    /// Octets that the kernel takes now.
    pub(crate) window: usize,
    /// The peer takes octets out of the window.
    pub(crate) reads: bool,
    /// Nanoseconds for one way.
    pub(crate) latency: u64,
    /// Nanoseconds until the peer has read what arrived.
    pub(crate) reading: u64,
    /// Nothing overtakes.
    pub(crate) last_to_core: u64,
    pub(crate) last_to_peer: u64,
    /// Largest cut of what the peer sends.
    pub(crate) cut_max: usize,
    /// Octets that the peer has sent, and that the core has.
    pub(crate) sent_to_core: u64,
    pub(crate) handed: u64,
    /// Deliveries, with the end of their replies.
    pub(crate) receipts: VecDeque<(u64, Receipt)>,
    /// What is on its way to the peer after this time is lost.
    pub(crate) lost_after: u64,
}

impl Connection {
    pub(crate) fn new(peer: Peer, phase: Phase) -> Self {
        Self {
            peer,
            phase,
            arrived: VecDeque::new(),
            finished: false,
            receiving: false,
            sending: None,
            window: 64 * 1024,
            reads: true,
            latency: 1_000_000,
            reading: 0,
            last_to_core: 0,
            last_to_peer: 0,
            cut_max: usize::MAX,
            sent_to_core: 0,
            handed: 0,
            receipts: VecDeque::new(),
            lost_after: u64::MAX,
        }
    }

    /// The time at which something sent now arrives at the core.
    pub(crate) fn arrival_at_core(&mut self, now: u64, jitter: u64) -> u64 {
        self.last_to_core = self.last_to_core.max(now + self.latency + jitter);
        self.last_to_core
    }

    pub(crate) fn arrival_at_peer(&mut self, now: u64, jitter: u64) -> u64 {
        self.last_to_peer = self.last_to_peer.max(now + self.latency + jitter);
        self.last_to_peer
    }
}
