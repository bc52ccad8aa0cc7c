//! Collecting mail from a mailbox by POP3 (RFC 1939, RFC 2449, RFC 2595), as machines:
//! no I/O, no clock, no threads. Nothing here knows that a disk or a socket exists.
//!
//! [`session`] speaks the protocol: it says what the server holds, and performs what it
//! is told to do with each message. [`mailbox`] decides what that is, from what is
//! known of the messages: [`memory`] is the form in which that is kept. [`recipients`]
//! finds out for whom a message is, [`trace`] makes the line that we put before it, and
//! [`notice`] the message in place of one that is too large.
//!
//! Invariants, of all of them together:
//!
//! - A message is marked as deleted on the server only when whoever drives the session
//!   says so, which is when it is on stable storage here.
//! - What was taken is known by its unique-id (UIDL). Where a server gives none, by a
//!   digest of the whole message.
//! - A message is never thrown away because nobody could say for whom it is.
//!
//! What this module does not do: it does not resolve the server's name, does not decide
//! when to collect, and does not write anywhere what it remembers: that is done by the data
//! core that is the mailbox's home.

mod capabilities;
pub mod fault;
mod listing;
mod login;
pub mod mailbox;
pub mod memory;
pub mod notice;
pub mod recipients;
mod record;
mod response;
pub mod session;
pub mod settings;
pub mod trace;

pub use listing::{ENTRIES_MAX, Entry, MessageNumber, UID_BYTES_MAX, Uid};
pub use login::Login;
