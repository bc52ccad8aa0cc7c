//! The machines without their shells: what `tests/simulation` is built from.
//!
//! The same files as in the program, with nothing of `cli`, and of `runtime` only what makes
//! settings from a configuration. A simulation plays ten times as many worlds when it is
//! optimised; this part of the program is optimised in an instant, all of it is not.
//! Whatever opens a socket, reads a clock or draws randomness is not there to be called,
//! and the crates that do so are no dependencies.

// The tests beside the sources are those of the program.
#![cfg(not(test))]
// What only the shells use.
#![allow(dead_code)]

pub mod config;
pub mod core;
pub mod link;
pub mod mail;
pub mod maildir;
pub mod pop3;
pub mod queue;
pub mod report;
pub mod roster;
pub mod route;
pub mod sasl;
pub mod shared;
pub mod smtp;
pub mod spool;
pub mod time;
pub mod tls;
pub mod user;
pub mod wire;

/// What of the shell is pure.
pub mod runtime {
    pub mod settings;
    pub mod users;
}
