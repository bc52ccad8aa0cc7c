//! What is kept of each live message, and how those are entered that a start found.

use spool_format::{Location, LogId, Offset, SegmentId, SegmentPlace};

use super::Reclaim;
use crate::mail::QueueId;
use crate::roster::Keyed;

/// Where a live message is. There is one for each, so it is packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) queue_id: QueueId,
    /// Of the seal.
    segment: SegmentId,
    offset: Offset,
    log: LogId,
    /// All of it lies in the segment of its seal and has so many octets; or [`SPREAD`].
    pub(super) bytes: u32,
}

/// See `Reclaim::spread`. A segment is smaller.
pub(super) const SPREAD: u32 = u32::MAX;

impl Keyed for Entry {
    type Key = QueueId;

    fn key(&self) -> QueueId {
        self.queue_id
    }
}

impl Entry {
    pub(super) fn new(queue_id: QueueId, seal: Location, bytes: u32) -> Self {
        Self {
            queue_id,
            segment: seal.segment,
            offset: seal.offset,
            log: seal.log,
            bytes,
        }
    }

    pub(super) fn seal(&self) -> Location {
        Location {
            log: self.log,
            segment: self.segment,
            offset: self.offset,
        }
    }
}

/// Messages that were found at the start, each as a whole in one segment, one behind the
/// other.
#[derive(Debug, Default)]
pub struct FoundRun {
    /// Which segment.
    pub segment: Option<SegmentPlace>,
    /// It is in the balance.
    pub ours: bool,
    live: u32,
    live_bytes: u64,
}

impl FoundRun {
    /// None so far in this segment.
    #[must_use]
    pub fn of(segment: SegmentPlace, ours: bool) -> Self {
        Self {
            segment: Some(segment),
            ours,
            ..Self::default()
        }
    }
}

impl Reclaim {
    /// A message of a run was found at the start.
    pub fn found_in(&mut self, run: &mut FoundRun, queue_id: QueueId, seal: Location, bytes: u32) {
        debug_assert_eq!(run.segment, Some(seal.segment_place()), "it is of this run");
        // More than a segment holds: nothing else is known of it.
        let bytes = bytes.min(SPREAD - 1);
        let before = self.messages.insert(Entry::new(queue_id, seal, bytes));
        assert!(before.is_none(), "{queue_id} was found twice");
        run.live += 1;
        run.live_bytes += u64::from(bytes);
    }

    /// A run has ended.
    pub fn found_run(&mut self, run: &FoundRun) {
        let Some(segment) = run.segment.filter(|_| run.live > 0) else {
            return;
        };
        let account = self.account(segment);
        account.live += run.live;
        account.live_bytes += run.live_bytes;
        self.settle(segment);
    }
}
