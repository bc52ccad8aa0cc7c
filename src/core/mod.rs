//! Everything this program can do to the world, and everything that can wake it.
//!
//! The cores join the machines. A core is a machine itself: a shell performs its
//! [`Operation`]s and hands it [`Completion`]s; cores send one another
//! [`Notice`]s. All three are closed enums, so this page is the complete list.
//! Two shells perform them: `runtime`, with real sockets and files, and
//! `tests/simulation`, with virtual ones, a clock that jumps and one seed.
//!
//! Contract of a core ("take all, then act"):
//!
//! - `handle(now, completion)` for each thing that happened, then
//!   `poll()` until it gives nothing. An operation may complete at once; then its
//!   completion is handed in after the `poll` that yielded it returned.
//! - A shell that has more to hand in leaves writes for later by `poll_but_writes()`.
//! - `deadline()` is looked at after that. At the deadline, or later,
//!   [`Completion::Timer`] is handed in.
//! - One [`Operation::Receive`] and one [`Operation::Send`] at most are under way
//!   on a connection. After [`Operation::Close`] nothing is said of it any more.
//!
//! What is not here: bytes of bodies. They go from a completion's borrow into the
//! batch of the log, and from the mapped segment to the socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use spool_format::{Offset, SegmentHeader, SegmentId, SegmentPlace};

pub use self::flow::Piece;
pub use self::host::{Endpoint, Host, NoHost, Unresolved};
pub use self::online::LinkNotice;
use crate::core::bans::Client;
use crate::core::computing::{Asker, Work, Worked};
use crate::core::release::{Order, Part, Purpose, ReleaseAsker, ReleaseId};
use crate::link;
use crate::mail::{Address, Domain};
use crate::queue;
use crate::queue::permits::DestinationKey;
use crate::queue::schedule::{Offer, ReleaseEnd, Waiting};
use crate::report::Fact;
use crate::route::recipients::RecipientLists;
use crate::route::{CustomerName, NextHop};
use crate::smtp::etrn;
use crate::spool::commit::{Durability, WriteFault};
use crate::spool::log::Gone;
use crate::spool::log::Unprepared;
use crate::spool::reclaim::Fate;
use crate::time::Instant;

pub mod admin;
mod aftermath;
mod asking;
pub mod bans;
pub mod callahead;
mod clocks;
mod collection;
pub mod collector;
pub mod collectors;
mod common;
pub mod computing;
pub mod control;
pub mod copies;
pub mod counters;
mod cover;
pub mod credentials;
pub mod data;
mod deadlines;
mod delivery;
pub mod detours;
pub mod fetching;
mod flow;
mod host;
mod hosts;
mod incoming;
mod inquiry;
pub mod latency;
mod lending;
mod limit;
pub mod listening;
mod live;
mod log;
mod login;
pub mod maildir;
mod notifying;
pub mod online;
mod outbound;
mod outcome;
mod reception;
mod recipients;
pub mod release;
mod releasing;
mod remembering;
mod rerouting;
pub mod restart;
pub mod settings;
mod stopped;
mod strangers;
pub mod summoning;
#[cfg(test)]
mod tests;
pub mod turn;
pub mod turns;
pub mod visitors;
pub mod wakeup;

/// A data core. Its number is also the number of the log it writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u8);

/// Data cores at most: as many as a [`crate::mail::QueueId`] and the waiting list
/// of a permit can name.
pub const DATA_CORES_MAX: usize = 64;

/// A connection of one data core. Given by the core, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// A listener, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId(pub u16);

/// What a data core does to the world.
#[derive(Debug)]
pub enum Operation {
    /// Take octets from a connection when there are some.
    Receive {
        /// From where.
        connection: ConnectionId,
    },
    /// Hand all of these to the kernel, in order.
    Send {
        /// To where.
        connection: ConnectionId,
        /// What.
        pieces: Vec<Piece>,
    },
    /// Open a connection.
    Connect {
        /// Its number.
        connection: ConnectionId,
        /// To where.
        to: Endpoint,
        /// From which of our addresses, if it matters.
        from: Option<IpAddr>,
    },
    /// Give a connection to another data core, with the session on it. Nothing is being
    /// sent; a receive that is under way has taken nothing. Nothing is said of it any
    /// more, here.
    HandOver {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        core: CoreId,
        /// The session.
        baton: Box<turn::Baton>,
    },
    /// The other end of a connection is said to be elsewhere by now: the connection breaks
    /// within seconds, unless there is a sign of life.
    Doubt {
        /// Which.
        connection: ConnectionId,
    },
    /// End a connection in both directions. Nothing is said of it any more.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Write a batch to the own log, in one positioned write.
    Write {
        /// To which segment.
        segment: SegmentId,
        /// From where on.
        offset: Offset,
        /// What.
        octets: Vec<u8>,
        /// What the completion promises.
        durability: Durability,
    },
    /// A segment is no longer read.
    Forget {
        /// Which.
        segment: SegmentPlace,
    },
    /// Send a notice to the control core.
    TellControl(ControlNotice),
    /// Send a notice to another data core.
    TellCore {
        /// To which.
        core: CoreId,
        /// What.
        notice: Notice,
    },
    /// Begin or end listening.
    Listen {
        /// Where.
        listener: ListenerId,
        /// Which of the two.
        door: Door,
    },
    /// Tell the operator.
    Report(Fact),
    /// All is done that a graceful stop waits for.
    Stopped,
}

/// What happens to a data core.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A client connected; the shell got the number from `DataCore::admit`.
    Accepted {
        /// Its number.
        connection: ConnectionId,
        /// Where it came in.
        listener: ListenerId,
        /// The other end.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// Another core handed over a connection; the shell got the number from
    /// `DataCore::admit`.
    HandedOver {
        /// Its number here.
        connection: ConnectionId,
        /// The session on it.
        baton: Box<turn::Baton>,
    },
    /// The outcome of [`Operation::Connect`].
    Connected {
        /// Which.
        connection: ConnectionId,
        /// Why it did not work, in the system's words.
        result: Result<(), String>,
    },
    /// The outcome of [`Operation::Receive`].
    Received {
        /// From where.
        connection: ConnectionId,
        /// What came. Empty: the peer has finished sending.
        octets: &'a [u8],
    },
    /// Some of the last [`Operation::Send`] has left, and not yet all: told from time to
    /// time, so that a slow line is not taken for one that hangs.
    Progress {
        /// To where.
        connection: ConnectionId,
    },
    /// All of the last [`Operation::Send`] is with the kernel.
    Sent {
        /// To where.
        connection: ConnectionId,
    },
    /// The connection is gone; nothing more will come of it.
    Broken {
        /// Which.
        connection: ConnectionId,
        /// Why, in the system's words.
        why: String,
        /// What had come from it before, and was not handed in yet. A host that has said
        /// yes and resets at once has the mail.
        heard: &'a [u8],
    },
    /// The outcome of [`Operation::Write`].
    Written {
        /// Which step failed.
        result: Result<(), WriteFault>,
        /// The buffer, for the next batch.
        octets: Vec<u8>,
    },
    /// Another core said something.
    Notice(Notice),
    /// [`deadline`](crate::core) has come.
    Timer,
}

/// What a data core is told by the control core or another data core.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The hosts of a next hop, or why there are none. The answer to
    /// [`ControlNotice::Resolve`].
    Resolved {
        /// Of what.
        next_hop: NextHop,
        /// In the order in which they are to be tried.
        answer: Result<Vec<Host>, Unresolved>,
        /// Until when the answer may be used.
        valid_until: Instant,
    },
    /// Other sessions are to be recorded than so far.
    Hear(listening::Hear),
    /// A segment of the own log was prepared.
    SegmentReady {
        /// Its number.
        segment: SegmentId,
    },
    /// A segment could not be prepared; it is tried again.
    SegmentFailed {
        /// Its number.
        segment: SegmentId,
        /// Why, for the log and the operator.
        why: Unprepared,
    },
    /// A dead segment is gone, and no crash brings it back.
    SegmentGone {
        /// Which.
        segment: SegmentPlace,
        /// What it is now.
        gone: Gone,
    },
    /// How much room the file system of the spool has, from time to time.
    DiskSpace {
        /// Octets that an unprivileged process may still use.
        free_bytes: u64,
    },
    /// Connection permits that this core waited for may be free.
    PermitsFreed,
    /// Another core waits for a permit: an idle connection makes room.
    PermitWanted {
        /// Of this destination; of any, if none is named.
        key: Option<DestinationKey>,
    },
    /// A link of this site has come up or goes.
    Link {
        /// To be named in [`ControlNotice::Outbound`] from now on.
        number: u32,
        /// Which of the two.
        link: LinkNotice,
    },
    /// A listener that is not always open.
    Listen {
        /// Which.
        listener: ListenerId,
        /// What it is to be.
        door: Door,
    },
    /// How much of a customer's mail would go if it called now? Answered by
    /// [`ControlNotice::Held`].
    WhatIsHeld {
        /// To answer with.
        turn: TurnNumber,
        /// Whose.
        customer: CustomerName,
        /// From where it calls.
        caller: IpAddr,
        /// At which domains; none: all.
        domains: Arc<[Domain]>,
    },
    /// The answer to [`ControlNotice::TurnWanted`].
    TurnAnswer {
        /// Who asked.
        connection: ConnectionId,
        /// Yes, or why not.
        answer: Result<turns::Turn, turns::NoTurn>,
    },
    /// Ask a provider for our mail. Answered by [`ControlNotice::Collected`].
    Fetch(Box<fetching::Fetch>),
    /// A message was written into Maildirs. The answer to
    /// [`ControlNotice::WriteMaildir`].
    MaildirWritten {
        /// As the question said.
        connection: queue::ConnectionId,
        /// For each mailbox; an error is a sentence for the operator.
        written: Vec<Result<(), String>>,
    },
    /// The operator asks.
    Admin {
        /// To answer with.
        request: AdminRequestId,
        /// What.
        command: Arc<admin::Command>,
    },
    /// Held mail is to be let go, or counted. Answered by [`ControlNotice::ReleasePart`].
    Release {
        /// To answer with.
        release: ReleaseId,
        /// What.
        order: Arc<Order>,
        /// Which of the two.
        purpose: Purpose,
    },
    /// The answer to an ETRN of a session here.
    ReleaseAnswer {
        /// Whose.
        connection: ConnectionId,
        /// What it is told.
        answer: etrn::Answer,
    },
    /// What a connection wanted computed.
    Computed {
        /// Which connection.
        connection: ConnectionId,
        /// What came out.
        worked: Worked,
    },
    /// A client guesses passwords.
    Banned {
        /// Who.
        client: Client,
        /// For how long it may not authenticate.
        until: Instant,
    },
    /// Collect a mailbox; answered by [`ControlNotice::Collected`].
    Collect(Box<collector::Order>),
    /// Send a wake-up message; answered by [`ControlNotice::Collected`].
    Summon(Box<summoning::Summons>),
    /// A new configuration is in force for what begins from now on.
    Configured(Arc<crate::core::data::Settings>),
    /// Ask a site about recipients. Answered by [`ControlNotice::SiteSaid`].
    Ask(Box<callahead::Ask>),
    /// The answer to [`ControlNotice::RecipientWanted`].
    RecipientAnswer {
        /// Whose.
        connection: ConnectionId,
        /// Whether there is one.
        existence: callahead::Existence,
    },
    /// The operator stops the mail for a next hop, here too.
    HoldQueue(NextHop),
    /// Lists of recipients have changed.
    Recipients(Arc<RecipientLists>),
    /// Finish what is in flight, take nothing new; at the deadline, stop.
    Stop {
        /// When patience ends.
        deadline: Instant,
    },
}

/// What the control core is told by data cores.
#[derive(Debug)]
pub enum ControlNotice {
    /// These settings are out of force here. The last core that has them would free all
    /// that they say of ten thousand customers, on the path of a message.
    Replaced(Arc<crate::core::data::Settings>),
    /// Find the hosts of a next hop.
    Resolve {
        /// For whom.
        core: CoreId,
        /// Of what.
        next_hop: NextHop,
    },
    /// Prepare a segment for the core's log, ahead of need.
    SegmentNeeded {
        /// Whose log.
        core: CoreId,
        /// What it begins with.
        header: SegmentHeader,
        /// A dead segment whose file may become this one.
        spare: Option<SegmentId>,
    },
    /// A segment holds nothing any more.
    SegmentDead {
        /// Who says so.
        core: CoreId,
        /// Which.
        segment: SegmentPlace,
        /// What is to become of its file.
        fate: Fate,
    },
    /// A segment is full: its summary may be written beside it.
    SegmentClosed {
        /// Which.
        segment: SegmentPlace,
    },
    /// What waits for the link on one core, and goes over it, has changed.
    Outbound {
        /// Which.
        core: CoreId,
        /// Of the last [`Notice::Link`] that it has followed.
        number: u32,
        /// What.
        work: link::work::Work,
    },
    /// A client came over a link, or has gone.
    Visit(visitors::Visit),
    /// A customer has called for its mail.
    TurnWanted {
        /// Where.
        core: CoreId,
        /// To answer with.
        connection: ConnectionId,
        /// Who.
        customer: CustomerName,
        /// From where.
        caller: IpAddr,
        /// For which domains; none: all.
        domains: Arc<[Domain]>,
    },
    /// The answer to [`Notice::WhatIsHeld`].
    Held {
        /// To which question.
        turn: TurnNumber,
        /// By whom.
        core: CoreId,
        /// What it holds.
        offer: Offer,
    },
    /// A turn is over.
    TurnOver {
        /// Which.
        turn: TurnNumber,
    },
    /// Write a message into Maildirs; answer when it is there for good.
    WriteMaildir {
        /// For whom.
        core: CoreId,
        /// The core's name for the matter.
        connection: queue::ConnectionId,
        /// What, and where to.
        mail: maildir::Mail,
    },
    /// One core's part of an answer.
    AdminAnswer {
        /// To which question.
        request: AdminRequestId,
        /// What.
        response: admin::Response,
    },
    /// Somebody may and wants to have held mail released.
    Release {
        /// What.
        order: Box<Order>,
        /// Who.
        asker: ReleaseAsker,
    },
    /// One core's part of a release.
    ReleasePart {
        /// Whose.
        core: CoreId,
        /// Of which.
        release: ReleaseId,
        /// What it is.
        part: Part,
    },
    /// On this core nothing of the customer is released any more.
    ReleaseEnded {
        /// Which core.
        core: CoreId,
        /// Whose mail.
        customer: CustomerName,
        /// How the last of its destinations ended.
        end: ReleaseEnd,
        /// What is held there now.
        left: Waiting,
    },
    /// A session wants to know whether the site has a recipient.
    RecipientWanted {
        /// Where.
        core: CoreId,
        /// To answer with.
        connection: ConnectionId,
        /// Whose site.
        customer: CustomerName,
        /// Who.
        address: Address,
    },
    /// The answer to [`Notice::Ask`].
    SiteSaid {
        /// To which.
        number: callahead::AskNumber,
        /// What was said.
        said: callahead::Said,
    },
    /// Something that takes too long for a data core is to be computed.
    Compute {
        /// For whom.
        asker: Asker,
        /// What.
        work: Work,
    },
    /// Somebody failed to authenticate.
    LoginFailed {
        /// Who.
        client: Client,
    },
    /// The run of a collector is over. The answer to [`Notice::Collect`],
    /// [`Notice::Fetch`] and [`Notice::Summon`].
    Collected(Box<collector::Run>),
    /// A data core has finished its graceful stop.
    Stopped {
        /// Which.
        core: CoreId,
    },
}

/// Whether a listener listens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Door {
    /// It does.
    Open,
    /// Whoever connects is refused by the system.
    Closed,
}

/// A turn of a customer, from its question to its end. Given by the control core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TurnNumber(pub u64);

/// A question of the operator that is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AdminRequestId(pub u64);
