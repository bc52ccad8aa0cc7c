//! The real program, as a process, between real sockets.

mod harness;

mod identity;
mod job;
mod limits;
mod next_hop;
mod relaying;
mod stop;
