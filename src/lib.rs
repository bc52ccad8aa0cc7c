//! Turnspool: an SMTP store-and-forward relay for hosts that are not always on line.

pub mod mail;
pub mod queue;
pub mod route;
pub mod time;
