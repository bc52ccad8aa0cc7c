//! A pass over all segments of a spool, as a start makes one; also beside a server at work.
//!
//! Rules beside a server:
//! - What was there all the time is found: older segments are read first, since what is still
//!   needed of one that is let go of is carried to a newer one, and behind the last those
//!   that have been made meanwhile.
//! - What is said to be lost has been so for some time: a message that is broken in one pass
//!   may have been done with, and a part of it let go of, before that was read. In the next
//!   pass the record of that is there.

use std::collections::BTreeSet;

use spool_format::{BrokenMessage, Recovered, Recovery, SegmentId};

use super::files::{Log, Place};
use crate::cli::{Failure, Global};

/// How often it is looked for segments that were made meanwhile: a server fills them more
/// slowly than they are read, so that a few listings do.
const LISTINGS_MAX: u32 = 100;

/// What a start would find, and in which logs.
#[derive(Debug)]
pub(super) struct Found {
    /// The logs.
    pub(super) logs: Vec<Log>,
    /// What is in them.
    pub(super) recovered: Recovered,
}

impl Place {
    /// What a start would find.
    pub(super) fn found(&self, global: &Global) -> Result<Found, Failure> {
        let mut found = self.found_once(global)?;
        self.keep_lasting(global, &found.logs, &mut found.recovered.broken)?;
        Ok(found)
    }

    /// Of what a pass has found broken beside a server only that which the next finds, too.
    pub(super) fn keep_lasting(
        &self,
        global: &Global,
        logs: &[Log],
        broken: &mut Vec<BrokenMessage>,
    ) -> Result<(), Failure> {
        if broken.is_empty() || !logs.iter().any(|log| log.in_use) {
            return Ok(());
        }
        let again = self.found_once(global)?.recovered.broken;
        let still: BTreeSet<_> = again.iter().map(|b| b.message.queue_id).collect();
        broken.retain(|b| still.contains(&b.message.queue_id));
        Ok(())
    }

    fn found_once(&self, global: &Global) -> Result<Found, Failure> {
        let mut logs = self.logs(global)?;
        let mut recovery = Recovery::new(None);
        for log in &mut logs {
            log.each(|log, segment| {
                if let Some(told) = log.for_recovery(segment)? {
                    let summary = told.summary.as_deref();
                    recovery.segment(log.place(segment), &told.octets, summary);
                }
                Ok(())
            })?;
        }
        let recovered = recovery.finish();
        Ok(Found { logs, recovered })
    }
}

impl Log {
    /// Calls for each segment, from the oldest on.
    pub(super) fn each(
        &mut self,
        mut call: impl FnMut(&Self, SegmentId) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut done = 0;
        for _ in 0..LISTINGS_MAX {
            for &segment in &self.segments[done..] {
                call(self, segment)?;
            }
            done = self.segments.len();
            let newer = self.newer()?;
            if newer.is_empty() {
                break;
            }
            self.segments.extend(newer);
        }
        Ok(())
    }
}
