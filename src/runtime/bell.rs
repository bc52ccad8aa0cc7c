//! What a thread that sleeps is woken by: an eventfd. It works under both runtimes, and
//! keeps foreign wakers out of monoio's task state.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// One thread's.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// One that was not rung.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        // Blocking mode: io_uring's read must wait for the ring of the bell.
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    /// Rings. It is heard also by who begins to wait later.
    pub fn ring(&self) {
        // It can fail only when the counter is full, and then it has been rung.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Reading 8 octets from it answers the bell.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
