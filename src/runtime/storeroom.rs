//! The segment files of all logs, as the control core keeps them: prepared ahead of
//! need, summarised when full, and reused, removed or set aside when dead.
//!
//! Runs on helper threads and blocks there. A data core never waits for it; it takes
//! its segments from here when it is told that they are ready.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use spool_format::{LogId, SegmentHeader, SegmentId, SegmentPlace};

use crate::spool::log::{Gone, PrepareCause, Unprepared};
use crate::spool::reclaim::Fate;
use crate::spool::segment::{Directory, FileError, FileFault, Fill, Segment};

/// The files of all logs.
#[derive(Debug, Default)]
pub struct Storeroom {
    directories: HashMap<LogId, Arc<Directory>>,
    /// Locked for moments only, and never on the path of a message.
    segments: Mutex<HashMap<SegmentPlace, Arc<Segment>>>,
    /// Held by whoever reads a closed segment of that log here, or makes a spare of one: a
    /// file that is still being read cannot be used again, and a segment may be dead when it
    /// is closed. Not for removals: where many are dead at once, those go side by side.
    closed: HashMap<LogId, Mutex<()>>,
}

impl Storeroom {
    /// A storeroom over these directories.
    #[must_use]
    pub fn new(directories: HashMap<LogId, Arc<Directory>>) -> Self {
        let closed = directories.keys().map(|log| (*log, Mutex::default()));
        Self {
            closed: closed.collect(),
            directories,
            segments: Mutex::default(),
        }
    }

    /// Opens a segment that was there at the start.
    ///
    /// # Errors
    /// For the operator.
    pub fn open(&self, place: SegmentPlace) -> Result<Arc<Segment>, String> {
        let directory = self.directory(place.log)?;
        let segment = directory
            .open_segment(place.segment)
            .map_err(|e| e.to_string())?;
        let segment = Arc::new(segment);
        self.segments().insert(place, Arc::clone(&segment));
        Ok(segment)
    }

    /// Makes the file of a segment, from a spare one if there is one.
    ///
    /// # Errors
    /// For the operator: the disk is full, or fails.
    pub fn prepare(
        &self,
        header: &SegmentHeader,
        spare: Option<SegmentId>,
    ) -> Result<(), Unprepared> {
        let directory = self.directory(header.place.log).map_err(|why| {
            let cause = PrepareCause::System { os_error: None };
            Unprepared { cause, why }
        })?;
        let reused = spare.and_then(|spare| {
            // A spare of another size, or one that the disk refuses: it goes, and a
            // fresh file takes its place.
            directory
                .reuse(spare, *header)
                .map_err(|_| directory.remove_spare(spare))
                .ok()
        });
        let made = match reused {
            Some(made) => made,
            None => directory
                .prepare(header, Fill::Allocated)
                .map_err(|error| unprepared(&error))?,
        };
        self.segments().insert(header.place, Arc::new(made));
        Ok(())
    }

    /// A segment that was prepared or opened.
    pub fn segment(&self, place: SegmentPlace) -> Option<Arc<Segment>> {
        self.segments().get(&place).cloned()
    }

    /// Does with a dead segment as its fate says, and tells what it is now.
    ///
    /// # Errors
    /// For the operator. The file may still be there, so the segment does not count as
    /// gone: what keeps its messages from coming back at the next start is kept too. So its
    /// octets count as used, as they are on the disk; and the next start sees to it, since a
    /// device that cannot change a name will not store mail either.
    pub fn retire(&self, place: SegmentPlace, fate: Fate) -> Result<Gone, String> {
        let _alone = (fate == Fate::Reuse).then(|| self.alone(place.log));
        let segment = self.segments().remove(&place);
        let directory = self.directory(place.log)?;
        let reused = match (fate, segment) {
            (Fate::Reuse, Some(segment)) => Some(segment.retire(&directory)),
            _ => None,
        };
        let gone = match reused {
            Some(Ok(())) => return Ok(Gone::Spare),
            // It may be a spare or a segment after a crash, or between the two, and to remove
            // it now, with a sync that ends well, would not tell.
            Some(Err((_, error))) if error.fault == FileFault::NotStored => Err(error),
            Some(Err(_)) | None => match fate {
                Fate::Reuse | Fate::Remove => directory.remove(place.segment),
                Fate::SetAside => directory.set_aside(place.segment),
            },
        };
        gone.map(|()| Gone::Removed).map_err(|error| {
            format!("{error}; the dead segment {place} stays until the next start")
        })
    }

    /// Writes the summary of a full segment, so that a restart need not scan it.
    ///
    /// # Errors
    /// For the operator: the next start scans the segment.
    pub fn summarise(&self, place: SegmentPlace) -> Result<(), String> {
        let _alone = self.alone(place.log);
        let Some(segment) = self.segment(place) else {
            return Ok(());
        };
        let Some(summary) = segment.summary() else {
            return Ok(());
        };
        let directory = self.directory(place.log)?;
        directory
            .write_summary(place.segment, &summary)
            .map_err(|error| error.to_string())
    }

    /// Octets that may still be used where the logs are.
    ///
    /// # Errors
    /// For the operator: the file system does not answer.
    pub fn free_bytes(&self) -> Result<u64, String> {
        let directory = self
            .directories
            .values()
            .next()
            .ok_or("the spool has no log")?;
        directory.free_bytes().map_err(|error| error.to_string())
    }

    fn directory(&self, log: LogId) -> Result<Arc<Directory>, String> {
        let directory = self.directories.get(&log).map(Arc::clone);
        directory.ok_or_else(|| format!("log {} has no directory", log.0))
    }

    /// Nobody else reads a closed segment of this log meanwhile, or makes a spare of one.
    fn alone(&self, log: LogId) -> Option<MutexGuard<'_, ()>> {
        let closed = self.closed.get(&log)?;
        Some(closed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A thread that panicked left the table as it was between two statements.
    fn segments(&self) -> MutexGuard<'_, HashMap<SegmentPlace, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory of a log in the spool directory.
#[must_use]
pub fn log_path(spool: &Path, log: LogId) -> PathBuf {
    spool.join(format!("log-{:02}", log.0))
}

/// The logs that are in a spool directory.
///
/// # Errors
/// The directory cannot be read.
pub fn logs(spool: &Path) -> std::io::Result<Vec<LogId>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(spool)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            let log = LogId(number);
            if log_path(spool, log).file_name() == Some(name.as_os_str()) {
                logs.push(log);
            }
        }
    }
    logs.sort_unstable();
    Ok(logs)
}

/// Why there is no segment, for a log that waits for one.
fn unprepared(error: &FileError) -> Unprepared {
    let cause = match error.fault {
        FileFault::NoSpace => PrepareCause::NoRoom,
        FileFault::InUse
        | FileFault::Missing
        | FileFault::Malformed
        | FileFault::System
        | FileFault::NotStored => PrepareCause::System {
            os_error: error.os_error(),
        },
    };
    let why = error.to_string();
    Unprepared { cause, why }
}
