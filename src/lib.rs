//! Turnspool: an SMTP store-and-forward relay for hosts that are not always on line.

pub mod cli;
pub mod config;
pub mod core;
pub mod mail;
pub mod queue;
pub mod report;
pub mod route;
pub mod runtime;
pub mod smtp;
pub mod spool;
pub mod time;
