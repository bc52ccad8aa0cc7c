//! A connection between two ends, of which each is a data core of some machine or a peer
//! that the world plays.

use std::net::SocketAddr;

use turnspool::core::ConnectionId;

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

/// One end.
pub(super) type End = crate::network::End<Who>;

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
