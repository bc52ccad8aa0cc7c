//! The thread that syncs the log of one data core.
//!
//! The ring of a core begins what it was asked for when the core sleeps. A sync is to begin
//! when the write is done: while it runs, the core tells those whose mail the sync before
//! has made durable, and takes what they send next. Asked of the ring, that work came first
//! and the disk stood still.
//!
//! Relies on: one sync at a time is asked for (`spool::commit`), and its outcome is taken
//! before the next one; so neither queue here is ever full.
//!
//! What this module does not do: it decides nothing, and never tries again.

use std::io;
use std::sync::Arc;

use crate::core::CoreId;
use crate::runtime::mailboxes::Mailboxes;
use crate::shared::ArrayQueue;
use crate::spool::commit::{WriteFault, WriteStep};
use crate::spool::segment::Segment;

/// The core's end of it.
#[derive(Debug)]
pub(super) struct Syncer {
    jobs: std::sync::mpsc::SyncSender<Arc<Segment>>,
    outcomes: Arc<ArrayQueue<Result<(), WriteFault>>>,
}

impl Syncer {
    /// Starts the thread. It rings the bell of the core's mailbox when a sync has ended.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(core: CoreId, mailboxes: Arc<Mailboxes>) -> io::Result<Self> {
        let (jobs, todo) = std::sync::mpsc::sync_channel::<Arc<Segment>>(1);
        let outcomes = Arc::new(ArrayQueue::new(1));
        let done = Arc::clone(&outcomes);
        std::thread::Builder::new()
            .name(format!("sync-{}", core.0))
            .spawn(move || {
                for segment in todo {
                    let synced = rustix::fs::fdatasync(segment.as_fd());
                    // The outcome says that nobody here has the segment any more.
                    drop(segment);
                    let outcome = synced.map_err(|errno| WriteFault {
                        step: WriteStep::Sync,
                        os_error: Some(errno.raw_os_error()),
                    });
                    let pushed = done.push(outcome);
                    assert!(pushed.is_ok(), "the outcome before was taken");
                    mailboxes.data(core).ring();
                }
            })?;
        Ok(Self { jobs, outcomes })
    }

    /// Begins to sync what was written to a segment.
    ///
    /// # Panics
    /// If one is under way, or the thread is gone: errors of ours.
    pub(super) fn sync(&self, segment: Arc<Segment>) {
        let sent = self.jobs.try_send(segment);
        assert!(sent.is_ok(), "one sync at a time");
    }

    /// How the sync ended, once.
    pub(super) fn outcome(&self) -> Option<Result<(), WriteFault>> {
        self.outcomes.pop()
    }
}
