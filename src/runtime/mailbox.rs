//! A bounded queue of notices between threads, with a bell.
//!
//! Any thread may push; one thread drains. A push rings the bell only while the reader
//! sleeps, so a busy reader costs its senders no system call.
//!
//! No wake-up is lost: the reader announces its sleep, *then* looks once more; a
//! sender pushes, *then* looks whether the reader sleeps. Sequentially consistent
//! fences on both sides make it impossible that both look too early. `tests/loom` tries
//! every order of it.

use std::io;

use crate::runtime::bell::Bell;
use crate::shared::{ArrayQueue, AtomicBool, Ordering, fence};

/// How many notices wait for one thread at most. A notice is small and is read
/// within one turn of the reader's loop; more than this means that the reader
/// hangs, and its senders keep what they have.
const NOTICES_MAX: usize = 4096;

/// The receiving end of one thread's notices; shared by all senders.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
    reader_sleeps: AtomicBool,
    bell: Bell,
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
            bell: Bell::new()?,
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
            && self.reader_sleeps.swap(false, Ordering::AcqRel)
        {
            self.ring();
        }
        Ok(())
    }

    /// Rings whether or not the reader sleeps. For a reader that is to look at
    /// something other than its notices.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// The oldest notice. Only the reader calls this.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Announces that the reader is about to wait for the bell. `false`: something
    /// has come meanwhile, do not wait.
    pub fn may_sleep(&self) -> bool {
        // A store would do. Loom knows only of an exchange that what a sender took back
        // before comes before it.
        self.reader_sleeps.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.reader_sleeps.store(false, Ordering::Relaxed);
        false
    }

    /// What the reader waits for.
    pub const fn bell(&self) -> &Bell {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::sync::Arc;

    use super::*;

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
        rustix::io::read(mailbox.bell().as_fd(), &mut count).expect("it was rung");
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
                rustix::io::read(mailbox.bell().as_fd(), &mut [0; 8]).expect("the bell");
            }
        }
        thread.join().expect("the sender");
    }
}
