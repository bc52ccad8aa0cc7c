//! SMTP as machines: no I/O, no clock, no threads.
//!
//! [`server`] is the side that takes mail; what it says is built in [`reply`],
//! what it reads in [`syntax`] (commands) and [`data`] (message text), and the
//! line that it adds in [`trace`]. Nothing here knows that a disk exists: a
//! message is accepted with a [`Receipt`](crate::mail::Receipt), whoever makes it.

pub mod data;
pub mod line;
mod parameter;
pub mod reply;
pub mod server;
pub mod settings;
pub mod syntax;
pub mod trace;
