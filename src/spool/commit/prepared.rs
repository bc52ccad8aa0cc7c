//! Which segments there are to be written to.

use std::collections::VecDeque;

use spool_format::{Epoch, SegmentId};

use super::batch::epoch_of;

/// Segments by their numbers: asked for, prepared, closed, each in this order.
#[derive(Debug)]
pub(super) struct Prepared {
    epoch_seed: u64,
    /// The next that nobody was asked to prepare yet.
    unasked: SegmentId,
    /// Prepared, with their files, and not closed; ascending.
    ready: VecDeque<SegmentId>,
}

impl Prepared {
    /// None yet; the first is to be `first`.
    pub(super) const fn new(epoch_seed: u64, first: SegmentId) -> Self {
        Self {
            epoch_seed,
            unasked: first,
            ready: VecDeque::new(),
        }
    }

    /// The next one to be prepared, with its epoch.
    pub(super) fn ask(&mut self) -> (SegmentId, Epoch) {
        let segment = self.unasked;
        self.unasked = behind(segment);
        (segment, epoch_of(self.epoch_seed, segment))
    }

    /// It is there. They may come in any order.
    pub(super) fn came(&mut self, segment: SegmentId) {
        self.check_asked(segment);
        let place = self.ready.partition_point(|&ready| ready < segment);
        assert!(
            self.ready.get(place) != Some(&segment),
            "segment {segment:?} was made twice"
        );
        self.ready.insert(place, segment);
    }

    pub(super) fn check_asked(&self, segment: SegmentId) {
        assert!(
            segment < self.unasked,
            "segment {} was not asked for",
            segment.0
        );
    }

    /// How many were asked for behind `segment`; `None` if not even that was.
    pub(super) fn behind(&self, segment: SegmentId) -> Option<u32> {
        self.unasked.0.checked_sub(segment.0 + 1)
    }

    /// Whether it is there.
    pub(super) fn has(&self, segment: SegmentId) -> bool {
        self.ready.contains(&segment)
    }

    /// Whether it is there, and all before it are closed.
    pub(super) fn is_next(&self, segment: SegmentId) -> bool {
        self.ready.front() == Some(&segment)
    }

    /// It is full.
    pub(super) fn close(&mut self, segment: SegmentId) {
        let closed = self.ready.pop_front();
        assert_eq!(closed, Some(segment), "segments close in order");
    }
}

/// The segment after this one. 2^32 segments of 64 MiB are 256 PiB.
pub(super) fn behind(segment: SegmentId) -> SegmentId {
    let next = segment.0.checked_add(1);
    SegmentId(next.expect("segment ids do not run out"))
}
