//! SMTP as machines: no I/O, no clock, no threads. Nothing here knows that a disk
//! or a socket exists.
//!
//! The side that takes mail: [`server`] is the session; what it says is built in
//! [`reply`], what it reads in [`syntax`] (commands), [`line`](mod@line) and [`data`]
//! (message text, which POP3 has too: both stand in [`crate::wire`]), the line that it adds in [`trace`]. A message is accepted with a
//! [`Receipt`](crate::mail::Receipt), whoever makes it.
//!
//! The side that hands mail over: [`client`] is the session, of SMTP and LMTP; what
//! it reads is in [`answer`].
//!
//! Both authenticate with what is in [`auth`]. What is done between two of our own nodes
//! only is in [`flight`].
//! [`turn`] makes the one out of the other, when a customer calls for its mail.

pub mod answer;
pub mod auth;
pub mod client;
pub mod etrn;
pub mod flight;
mod parameter;
mod record;
pub mod reply;
pub mod server;
pub mod settings;
pub mod syntax;
pub mod trace;
pub mod turn;

pub use crate::wire::{line, text as data};
