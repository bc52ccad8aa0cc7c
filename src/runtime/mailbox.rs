//! A bounded queue of notices between threads, with a bell.
//!
//! Any thread may push; one thread drains. The bell is an eventfd: it works under
//! both runtimes and keeps foreign wakers out of monoio's task state. A push rings
//! it only while the reader sleeps, so a busy reader costs its senders no system
//! call.
//!
//! No wake-up is lost: the reader announces its sleep, *then* looks once more; a
//! sender pushes, *then* looks whether the reader sleeps. Sequentially consistent
//! fences on both sides make it impossible that both look too early.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

/// How many notices wait for one thread at most. A notice is small and is read
/// within one turn of the reader's loop; more than this means that the reader
/// hangs, and its senders keep what they have.
const NOTICES_MAX: usize = 4096;

/// The receiving end of one thread's notices; shared by all senders.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
    reader_sleeps: AtomicBool,
    bell: OwnedFd,
}

impl<T> Mailbox<T> {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(NOTICES_MAX),
            reader_sleeps: AtomicBool::new(false),
            // Blocking mode: io_uring's read must wait for the ring of the bell.
            bell: eventfd(0, EventfdFlags::CLOEXEC)?,
        })
    }

    /// Leaves a notice and rings if the reader sleeps.
    ///
    /// # Errors
    /// Gives the notice back when the mailbox is full.
    pub fn push(&self, notice: T) -> Result<(), T> {
        self.queue.push(notice)?;
        fence(Ordering::SeqCst);
        if self.reader_sleeps.load(Ordering::Relaxed)
            && self.reader_sleeps.swap(false, Ordering::Relaxed)
        {
            self.ring();
        }
        Ok(())
    }

    /// Rings whether or not the reader sleeps. For a reader that is to look at
    /// something other than its notices.
    pub fn ring(&self) {
        // It can fail only when the counter is full, and then it has been rung.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// The oldest notice. Only the reader calls this.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Announces that the reader is about to wait for the bell. `false`: something
    /// has come meanwhile, do not wait.
    pub fn may_sleep(&self) -> bool {
        self.reader_sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.reader_sleeps.store(false, Ordering::Relaxed);
        false
    }

    /// The eventfd. Reading 8 octets from it answers the bell.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_bell_rings_only_for_a_sleeper() {
        let mailbox = Mailbox::new().expect("an eventfd");
        mailbox.push(1).expect("room");
        assert!(!mailbox.may_sleep(), "a notice waits");
        assert_eq!(mailbox.pop(), Some(1));
        assert!(mailbox.may_sleep());
        mailbox.push(2).expect("room");
        mailbox.push(3).expect("room");
        let mut count = [0; 8];
        rustix::io::read(mailbox.bell(), &mut count).expect("it was rung");
        assert_eq!(u64::from_ne_bytes(count), 1, "rung once for two notices");
    }

    #[test]
    fn a_full_mailbox_gives_the_notice_back() {
        let mailbox = Mailbox::new().expect("an eventfd");
        for notice in 0..NOTICES_MAX {
            mailbox.push(notice).expect("room");
        }
        assert_eq!(mailbox.push(usize::MAX), Err(usize::MAX));
    }

    #[test]
    fn no_wake_up_is_lost() {
        const NOTICES: u32 = 200_000;
        let mailbox = Arc::new(Mailbox::new().expect("an eventfd"));
        let sender = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            for notice in 0..NOTICES {
                let mut notice = notice;
                while let Err(back) = sender.push(notice) {
                    notice = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < NOTICES {
            while let Some(notice) = mailbox.pop() {
                assert_eq!(notice, next);
                next += 1;
            }
            if next < NOTICES && mailbox.may_sleep() {
                // Blocks for ever, and so fails, if a wake-up is lost.
                rustix::io::read(mailbox.bell(), &mut [0; 8]).expect("the bell");
            }
        }
        thread.join().expect("the sender");
    }
}
