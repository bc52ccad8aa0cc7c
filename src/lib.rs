//! Turnspool: an SMTP store-and-forward relay for hosts that are not always on line.
//!
//! What it promises: a `250` means that the message is on stable storage; a message
//! that was accepted is delivered or its sender is told, never lost.
//!
//! # The shape
//!
//! Every protocol and every policy is a *machine*: no I/O, no clock, no threads, no
//! hidden randomness. `handle(now, input)`, then `poll()` until it gives nothing; and
//! `deadline()`. The machines are joined by a *core*, which is a machine itself. Two
//! shells perform what a core asks for: [`runtime`], on monoio and tokio-uring, and
//! `tests/simulation`, on a virtual network, a virtual disk and a clock that jumps.
//!
//! There is one data core for each CPU. Each owns its listeners, its sessions, its
//! deliveries, its log and the queue of what that log holds; nothing of it is shared, but
//! limits and what is known of hosts, in atomics. One control core does what is not on
//! the path of a message: DNS, segment files, the operator's commands, reload and stop.
//! Cores send one another notices; bodies never cross cores.
//!
//! # Reading order
//!
//! 1. [`time`], [`mail`], [`wire`], [`sasl`], [`shared`], [`roster`], and the crate `spool-format` (its FORMAT.md): the vocabulary.
//! 2. [`core`](mod@core): everything this program can do to the world, and everything
//!    that can wake it.
//! 3. [`smtp::server`], [`smtp::client`]: the sessions. [`tls`]: what lies between them
//!    and the network.
//! 4. [`spool::commit`] (the one instant at which a message is ours), [`spool::log`],
//!    [`spool::reclaim`], [`spool::recovery`].
//! 5. [`route`], [`queue::schedule`]: what goes where when. [`link`]: how a site gets on
//!    line for it.
//! 6. [`core::data`]: how they are joined.
//! 7. [`promises`]: every state of a message on the disk, and what it is tested by.
//! 8. [`runtime`]: the real shell. [`report`]: what the operator is told.
//! 9. [`config`], [`cli`].
//!
//! # The way of a message
//!
//! A receive fills the core's one buffer. The session parses, asks about sender and
//! recipients, and hands out ranges of that buffer, which gather to chunks of the
//! log. At the end of data envelope, body and *seal* stand in the log's batch; one
//! write and one sync commit it with all that came meanwhile, and only then there is
//! the `Committed` from which the session can make its `250`. The queue learns where
//! the message goes. A delivery takes it from the schedule and sends its octets from
//! the mapped segment. What became of each recipient is a *done* record on the next
//! batch; a failure is one only when the notification to the sender is committed. A
//! segment in which nothing is needed any more is reused or removed; one that is
//! mostly dead is emptied by carrying the rest forward.
//!
//! # Invariants
//!
//! - Imports run one way: vocabulary, machines, [`core`](mod@core), [`runtime`],
//!   [`cli`]. Machines in different directories do not know one another.
//! - No module outside [`runtime`] reads a clock or draws randomness; none outside
//!   [`runtime`] and [`spool::segment`] makes a system call.
//! - Nothing in [`smtp`] knows that a disk exists; nothing in [`spool`] knows SMTP.
//! - `unsafe` is in [`spool::segment`] and in [`runtime`], and says why it is sound.
//!
//! `tests/tidy` checks these.
//!
//! # Where the design was changed
//!
//! - *Receiving.* The ring waits for readiness, and a plain non-blocking call takes the
//!   octets into one buffer of the core. A ring receive would save that call, and cost
//!   a buffer for each waiting connection and the rule that no receive may be dropped.
//! - *Syncing.* Each data core has a thread beside it that syncs its log, in place of a
//!   sync by the ring: the ring begins what it was asked for when the core sleeps, and until
//!   then the disk stood still while replies were sent. With 20 sessions that brought 1.2 to
//!   1.3 times the messages a second, with 100 nothing (there the processor is full).
//! - *Fresh segments are allocated, not filled with zeros.* Filling doubles what reaches
//!   the disk; what it saves per sync, the reuse of dead segments saves too
//!   (`benches/commit.rs` has the figures).
//! - *The checkpoint of the index is a summary beside each full segment*, written once,
//!   instead of one file for all: its cost does not grow with the queue.
//! - *Every segment of which a socket was given pages is zeroed before it is used again*
//!   (`Segment::retire`). It was to be used again as it is when the peer has answered; but
//!   who says 250 before it reads has what comes into the pages later, which is the mail of
//!   others, and what a killed process had given to its sockets is known to nobody.
//! - *Removed segments need not be the oldest.* `spool::reclaim` states the rules.

pub mod cli;
pub mod config;
pub mod core;
pub mod link;
pub mod mail;
pub mod maildir;
pub mod pop3;
#[doc = include_str!("manual/promises.md")]
pub mod promises {}
pub mod queue;
pub mod report;
pub mod roster;
pub mod route;
pub mod runtime;
pub mod sasl;
pub mod shared;
pub mod smtp;
pub mod spool;
pub mod time;
pub mod tls;
pub mod user;
pub mod wire;
