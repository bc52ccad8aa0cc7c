//! The only place of this program that speaks to the kernel in ways the
//! compiler cannot check: an io_uring with sockets on it, and the signals that
//! end a run.
//!
//! A ring rather than epoll, for one reason: with twenty or more sessions on a
//! thread, one `io_uring_enter` carries all sends and receives of a turn, so a
//! message costs well under one system call. On single commands the two are
//! equal (the loopback TCP stack is the cost), so nothing is promised there.
//!
//! Everything outside this directory is safe code.

#![allow(unsafe_code)]

pub(crate) mod buffers;
pub(crate) mod ring;
pub(crate) mod signal;

/// From now on SIGTERM and SIGINT end a run in order, with its report; a second
/// one ends the process.
pub fn catch_stop_signals() {
    signal::catch();
}

/// Raises the limit on descriptors as far as it goes, for many connections.
pub fn raise_descriptor_limit() {
    ring::raise_descriptor_limit();
}
