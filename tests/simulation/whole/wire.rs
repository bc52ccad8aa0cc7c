//! A connection between two ends, of which each is a data core of some machine or a peer
//! that the world plays.

use std::collections::VecDeque;
use std::net::SocketAddr;

use turnspool::core::{ConnectionId, Piece};

use crate::disk::Inode;
use crate::ledger::Receipt;
use crate::network::Phase;
use crate::peer::Peer;

/// A data core in one life of its machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) machine: usize,
    pub(super) life: u32,
    pub(super) core: usize,
}

/// A connection, by its place among all of a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct WireId(pub(super) usize);

/// An end of a connection. The first is the one who connected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct EndId {
    pub(super) wire: WireId,
    pub(super) side: usize,
}

impl EndId {
    pub(super) fn other(self) -> Self {
        Self {
            wire: self.wire,
            side: 1 - self.side,
        }
    }
}

/// Who is there.
#[derive(Debug)]
pub(super) enum Who {
    /// A data core.
    Core(Place, ConnectionId),
    /// Between two data cores: it has left one and is to be taken by this one.
    Moving(Place),
    Peer(Box<Peer>),
    /// Nobody yet.
    Nobody,
    /// Its process is gone.
    Gone,
}

/// Something under way.
#[derive(Debug)]
pub(super) enum Part {
    Octets(Vec<u8>),
    /// Of a machine's spool, seen when it arrives: until then the pages wait in the
    /// socket's queue.
    Spool {
        machine: usize,
        log: usize,
        inode: Inode,
        from: usize,
        octets: usize,
    },
    /// No more comes.
    Finish,
    Reset,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Spool { octets, .. } => *octets,
            Self::Finish | Self::Reset => 0,
        }
    }
}

/// What is left of a send.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) pieces: VecDeque<Piece>,
    /// Octets of the first that have left.
    pub(super) done: usize,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) who: Who,
    /// As its kernel sees the connection.
    pub(super) phase: Phase,
    /// Came, and was not yet received.
    pub(super) arrived: VecDeque<u8>,
    pub(super) finished: bool,
    pub(super) receiving: bool,
    pub(super) sending: Option<Sending>,
    /// Octets that its kernel takes now.
    pub(super) window: usize,
    /// It takes octets out of the other's window.
    pub(super) reads: bool,
    /// Nanoseconds until it has read what arrived.
    pub(super) reading: u64,
    /// When the last thing that is under way arrives here: nothing overtakes.
    pub(super) last_arrival: u64,
    /// What it said goes in cuts of so many octets at most.
    pub(super) cut_max: usize,
    /// Octets that it has said, and that it was handed.
    pub(super) said: u64,
    pub(super) handed: u64,
    /// Deliveries, with the place of their replies among what it is handed.
    pub(super) receipts: VecDeque<(u64, Receipt)>,
    /// What it has said and what arrives after this time is lost.
    pub(super) lost_after: u64,
    /// It will be told that the connection is dead.
    pub(super) times_out: bool,
}

impl End {
    pub(super) fn new(who: Who, phase: Phase) -> Self {
        Self {
            who,
            phase,
            arrived: VecDeque::new(),
            finished: false,
            receiving: false,
            sending: None,
            window: 64 * 1024,
            reads: true,
            reading: 0,
            last_arrival: 0,
            cut_max: usize::MAX,
            said: 0,
            handed: 0,
            receipts: VecDeque::new(),
            lost_after: u64::MAX,
            times_out: false,
        }
    }

    /// Its process lives and may be told something.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [End; 2],
    /// To which the first end connected.
    pub(super) port: u16,
    /// A host outside our machines.
    pub(super) host: Option<SocketAddr>,
    /// Nanoseconds for one way.
    pub(super) latency: u64,
    /// It goes over the line of this site.
    pub(super) line: Option<usize>,
    /// That line has been down since: nothing gets through any more.
    pub(super) cut: bool,
}
