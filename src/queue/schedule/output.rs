//! What the schedule wants done, and what it makes known.
//!
//! A closed list: the core that performs it has an arm for each.

use spool_format::{Location, Told};

use super::ConnectionId;
use super::expiry::ExpiryReason;
use crate::mail::QueueId;
use crate::queue::destination::ReleaseEnd;
use crate::queue::index::{DestinationId, Recipients};
use crate::queue::permits::{CoreSet, DestinationKey};
use crate::time::WallTime;

/// What is to be done, and what is to be known.
#[derive(PartialEq, Eq, Debug)]
pub enum Output {
    /// Open a connection and start a session. The permit is taken.
    Connect {
        /// Its name from now on.
        connection: ConnectionId,
        /// See [`super::Schedule::next_hop`].
        destination: DestinationId,
    },
    /// There is work for this idle session: call [`super::Schedule::take`].
    Work {
        /// Which.
        connection: ConnectionId,
    },
    /// End this idle session (RFC 5321 §4.1.1.10) and report it closed.
    Quit {
        /// Which.
        connection: ConnectionId,
    },
    /// Recipients will be tried again: to be noted in the spool.
    Deferred {
        /// The message.
        queue_id: QueueId,
        /// Who.
        recipients: Recipients,
        /// How often it was tried.
        attempts: u16,
        /// About when it will be tried again.
        until: WallTime,
        /// What the sender was told so far.
        told: Told,
    },
    /// The sender is to be told that these are late.
    Warn {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
        /// Where it waits.
        destination: DestinationId,
        /// Who.
        recipients: Recipients,
        /// [`Told::DELAY`] or [`Told::DEADLINE`].
        what: Told,
        /// What the sender was told so far, this included: to be noted in the spool.
        told: Told,
        /// How often it was tried.
        attempts: u16,
        /// When it may be tried again: now, if it does not wait for a time.
        until: WallTime,
        /// When they will be given up.
        expires: WallTime,
    },
    /// These recipients have ended: given up.
    Expired {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
        /// Where it waited.
        destination: DestinationId,
        /// Who.
        recipients: Recipients,
        /// Why.
        reason: ExpiryReason,
    },
    /// These recipients have ended: deleted by the operator.
    Deleted {
        /// The message.
        queue_id: QueueId,
        /// Who.
        recipients: Recipients,
    },
    /// All recipients have ended, and each was reported before this.
    Finished {
        /// The message.
        queue_id: QueueId,
        /// Its seal.
        location: Location,
    },
    /// No session could be had. Nothing is tried before this time.
    DestinationClosed {
        /// Which.
        destination: DestinationId,
        /// In a row.
        failures: u16,
        /// When a probe goes out.
        until: WallTime,
    },
    /// A success after failures.
    DestinationOpened {
        /// Which.
        destination: DestinationId,
    },
    /// Released mail was all tried once, or the site could not be reached.
    ReleaseEnded {
        /// Which.
        destination: DestinationId,
        /// Which of the two.
        end: ReleaseEnd,
    },
    /// Permits came free: each core in the set other than this one is to be given
    /// [`super::Schedule::permits_freed`].
    PermitsFreed {
        /// Who.
        cores: CoreSet,
    },
    /// No permit: every other core is to be given [`super::Schedule::permit_wanted`].
    PermitWanted {
        /// A connection to this destination is wanted; `None`: any.
        key: Option<DestinationKey>,
    },
}
