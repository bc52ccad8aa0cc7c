//! The threads of a start: what the logs hold, read and listed side by side.
//!
//! The machines know nothing of it: each log is folded by itself, the folds are joined in
//! the order of the logs, and the lists of messages are made writer by writer. What comes
//! out is what one thread would have found.
//!
//! What this takes beyond the queue itself, some 300 octets a message, is given back to the
//! system when the queue is whole.
//!
//! What this module does not do: it reports nothing, and files nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use spool_format::{LogId, SegmentPlace, SpoolUuid, Unlisted};

use crate::spool::recovery::{Restart, Restarted, read_directory};
use crate::spool::segment::{Directory, FileError};

/// What the disk did not give. The start goes on without it.
#[derive(Debug, Default)]
pub struct Unread {
    /// Why, with the logs that the files belong to.
    pub errors: Vec<(LogId, FileError)>,
    /// Segments of which not everything was read. Another time it may be.
    pub segments: BTreeSet<SegmentPlace>,
}

/// Reads the directories of all logs.
///
/// # Errors
/// A directory cannot be listed or cleaned, or the system has no thread; for the operator.
pub fn recall(
    spool: SpoolUuid,
    directories: &HashMap<LogId, Arc<Directory>>,
) -> Result<(Restarted, Unread), String> {
    let mut logs: Vec<_> = directories.iter().collect();
    logs.sort_unstable_by_key(|(log, _)| **log);
    let read = side_by_side("read", logs, |(&log, directory)| {
        let mut restart = Restart::new(Some(spool));
        let facts = read_directory(&mut restart, directory);
        facts.map(|facts| (log, restart, facts))
    })?;
    let mut whole = Restart::new(Some(spool));
    let mut unread = Unread::default();
    for result in read {
        let (log, restart, facts) = result.map_err(|error| error.to_string())?;
        whole.absorb(restart);
        let errors = facts.errors.into_iter().map(|error| (log, error));
        unread.errors.extend(errors);
        unread.segments.extend(facts.unread);
    }
    let (judged, unlisted) = whole.judge();
    let lists = side_by_side("list", unlisted, Unlisted::list)?;
    Ok((judged.finish(lists), unread))
}

/// Frees what was read, on a thread of its own: with a million messages, or ten thousand
/// customers, nobody is to wait for it. Where there is no thread for it, it is freed at once.
pub fn free<T: Send + 'static>(what: T) {
    // Dropped with the closure where it does not start.
    let _ = std::thread::Builder::new()
        .name("free".to_owned())
        .spawn(move || {
            drop(what);
            give_back();
        });
}

/// Lets the allocator give its empty pages back to the system. It does so when it is next
/// used by whoever has them; but the threads that read are gone, and the others will not
/// need as much again.
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it has no precondition. Where another allocator is the program's, as in
    // tests, this one has nothing.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Does `work` for each item on a thread of its own, and gives the results in the order
/// of the items. There are as many as there are logs or data cores, 256 at most.
///
/// # Errors
/// The system has no thread for it; for the operator.
///
/// # Panics
/// If the work did.
pub fn side_by_side<I: Send, R: Send>(
    name: &str,
    items: Vec<I>,
    work: impl Fn(I) -> R + Sync,
) -> Result<Vec<R>, String> {
    let work = &work;
    std::thread::scope(|scope| {
        let mut items = items.into_iter().enumerate();
        // The last one is done here: with one log there is no other thread.
        let last = items.next_back();
        let threads = items
            .map(|(number, item)| {
                std::thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn_scoped(scope, move || work(item))
                    .map_err(|error| format!("starting the thread {name}-{number} failed: {error}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let last = last.map(|(_, item)| work(item));
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Ok(results.chain(last).collect())
    })
}
