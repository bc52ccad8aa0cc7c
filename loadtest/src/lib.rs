//! Load generator, sink and link simulator for SMTP relays.
//!
//! It shares nothing with the relay under test: its own SMTP, its own parser,
//! its own checksums, so that one misunderstanding cannot hide in both.
//!
//! Reading order: [`generate`] and [`sink`] are the two ends, [`link`] may lie
//! between them; `client` and `sink::session` are their SMTP, machines without
//! I/O; [`compare`] runs both around several
//! servers; [`customer`] fetches by ATRN; [`siege`] loads beside attackers; `message` is what is sent, [`tls`] what may lie around it; `kernel` is the ring that carries it.

pub mod compare;
pub mod customer;
pub mod generate;
pub mod link;
pub mod plot;
pub mod process;
pub mod siege;
pub mod sink;
pub mod sizes;
pub mod tls;

mod client;
mod dialogue;
mod kernel;
mod message;
mod tally;
mod thread;

pub use dialogue::Pipelining;
pub use kernel::{catch_stop_signals, raise_descriptor_limit};
pub use message::Transfer;
pub use tally::{LatencyFigures, TimelineFigures};
