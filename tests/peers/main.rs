//! Postfix, Exim and OpenSMTPD, between two of our relays: each takes mail from one
//! as its smarthost or exchanger, and hands it to the other, which it believes to be
//! its smarthost.
//!
//! Their packages exclude one another, so `.ci/peers` unpacks them into directories
//! of their own; what is not there is skipped with a line.

// The harness is that of `tests/process`, which uses all of it.
#[allow(dead_code, unused_imports)]
#[path = "../process/harness/mod.rs"]
mod harness;

mod chain;
mod etrn;
mod exim;
mod held;
mod import;
mod opensmtpd;
mod peer;
mod postfix;
mod root;
