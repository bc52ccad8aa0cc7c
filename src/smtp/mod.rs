//! SMTP: the sessions of both sides. Nothing here knows that a disk or a socket exists.

pub mod answer;
pub mod client;
