//! How something ended: a recipient, or a client that was turned away.

/// What became of one recipient, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The next hop has it.
    Delivered,
    /// Not now.
    Deferred,
    /// Not ever.
    Failed,
    /// Thrown away: by route, or mail to ourselves.
    Discarded,
}

/// Why a client was turned away before its first command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TurnedAway {
    /// `limits.sessions` are open.
    SessionsFull,
    /// `limits.sessions_per_client` are open from its address.
    ClientFull,
    /// The server is stopping.
    Stopping,
}
