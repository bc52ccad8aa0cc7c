//! What the tests of the real program stand on: a relay process, a next hop that
//! misbehaves as told, a client that writes exactly what it is told.
//!
//! Each relay and each next hop has a loopback address of its own
//! ([`place::next_address`]), so that tests run side by side, in several processes,
//! and a next hop can be down and come back under the same address.
//!
//! The only waiting is [`waiting::eventually`]: a bounded poll for a state that can
//! be observed. No test depends on how long something takes.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod message;
pub(crate) mod namespace;
pub(crate) mod nsd;
pub(crate) mod place;
pub(crate) mod relay;
pub(crate) mod rule;
pub(crate) mod scripted;
pub(crate) mod secure;
mod session;
pub(crate) mod setup;
pub(crate) mod sink;
pub(crate) mod waiting;

pub(crate) use client::Client;
pub(crate) use relay::Relay;
pub(crate) use rule::{Gate, Rule, Stage, on};
pub(crate) use setup::Setup;
pub(crate) use sink::Sink;
pub(crate) use waiting::{PATIENCE, eventually};

/// Says that a test, or a part of one, is not run here, and why.
pub(crate) fn skipped(why: &str) {
    // Past the test runner's capture: a skipped test must be seen in a green run.
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
