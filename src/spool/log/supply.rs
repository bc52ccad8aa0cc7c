//! The segments that a log is supplied with: prepared ahead of need, from spares if there
//! are some, and asked for again where that fails.

use std::collections::VecDeque;
use std::time::Duration;

use spool_format::{SegmentHeader, SegmentId, SegmentPlace};

use super::{Gone, Log, Output, SEGMENTS_AHEAD};
use crate::spool::commit::{BatchNumber, WriteFault, WriteStep};
use crate::spool::reclaim::Fate;
use crate::time::{Instant, Now};

/// How long after a failed preparation the next one is tried.
pub(super) const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// How long records wait for a segment that cannot be prepared, while clients wait for
/// their replies: below the ten minutes of RFC 5321 §4.5.3.2.6, above what an overloaded
/// machine takes to get a descriptor.
pub(super) const PREPARE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a segment could not be prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrepareCause {
    /// The disk is full: what is delivered makes room.
    NoRoom,
    /// The system refused or the device failed.
    System {
        /// The system's error number, where there was one.
        os_error: Option<i32>,
    },
}

/// Why a segment could not be prepared, for both readers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unprepared {
    /// For the log, which decides.
    pub cause: PrepareCause,
    /// For the operator.
    pub why: String,
}

/// A segment that is being prepared.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) header: SegmentHeader,
    /// When it was asked for first.
    asked_at: Instant,
    /// Since when it fails, if it does: also when nobody says so for [`PREPARE_PATIENCE`].
    failing_since: Option<Instant>,
    /// It failed, and is tried again then.
    retry_at: Option<Instant>,
}

impl Asked {
    /// It may come in a moment.
    pub(super) fn is_coming(&self) -> bool {
        self.failing_since.is_none()
    }

    /// When [`Asked::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let late_at = self.is_coming().then(|| self.asked_at + PREPARE_PATIENCE);
        self.retry_at.or(late_at)
    }

    /// The deadline may have come.
    pub(super) fn timer(
        &mut self,
        now: Instant,
        spares: &mut Vec<SegmentId>,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        if self.retry_at.is_some() {
            self.ask(spares, outputs);
        } else {
            // A device that hangs, or a helper that is gone: nobody waits for that.
            self.failing_since = Some(now);
        }
    }

    /// Asks for it again: from a spare, if there is one now. On a disk that is full there is
    /// nothing else to make it from.
    fn ask(&mut self, spares: &mut Vec<SegmentId>, outputs: &mut VecDeque<Output>) {
        self.retry_at = None;
        outputs.push_back(Output::SegmentNeeded {
            header: self.header,
            spare: spares.pop(),
        });
    }
}

impl Log {
    /// A segment is prepared.
    pub fn segment_ready(&mut self, segment: SegmentId) {
        let asked = self.asked.remove(&segment);
        assert!(asked.is_some(), "segment {} was asked for", segment.0);
        self.commit.segment_ready(segment);
        self.balance.stir();
    }

    /// A segment could not be prepared. It will be asked for again, not with the spare that
    /// was named, if one was: remove that.
    ///
    /// Where it is not room that is missing, and records wait for the segment, the log is
    /// closed after a while: whoever brought them is to hear that they are not kept.
    pub fn segment_failed(&mut self, now: Now, segment: SegmentId, cause: PrepareCause) {
        let asked = self.asked.get_mut(&segment).expect("it was asked for");
        asked.retry_at = Some(now.instant + PREPARE_RETRY);
        let since = *asked.failing_since.get_or_insert(now.instant);
        match cause {
            // A spare has come meanwhile.
            PrepareCause::NoRoom if !self.spares.is_empty() => {
                asked.ask(&mut self.spares, &mut self.outputs);
            }
            PrepareCause::NoRoom => {}
            PrepareCause::System { os_error } => {
                let is_late = now.instant.since(since) >= PREPARE_PATIENCE;
                if is_late && self.commit.waits_for(segment) {
                    self.commit.close(WriteFault {
                        step: WriteStep::Prepare,
                        os_error,
                    });
                }
            }
        }
    }

    /// A segment that was told to be dead is gone, and no crash brings it back.
    pub fn segment_gone(&mut self, segment: SegmentPlace, gone: Gone) {
        self.reclaim.gone(segment);
        let was_kept = self.sparing.remove(&segment);
        self.strays
            .retain(|(at, _), about| *at != segment && *about != segment);
        for note_segment in self.notes.segment_gone(segment) {
            self.reclaim.note_away(note_segment, BatchNumber::START);
        }
        if gone == Gone::Spare {
            assert_eq!(
                segment.log, self.identity.log,
                "spares stay in their directory"
            );
            self.spares.push(segment.segment);
        }
        self.balance.stir();
        // What it leaves is what another one was wanting for: the first of them, since they
        // are written in their order.
        match self.asked.values_mut().next() {
            Some(asked) if asked.retry_at.is_some() => {
                asked.ask(&mut self.spares, &mut self.outputs);
            }
            _ => self.vacated += u64::from(was_kept && gone == Gone::Removed),
        }
    }

    /// Spares are used in their own directory only, and only so many.
    pub(super) fn fate_here(&mut self, segment: SegmentPlace, fate: Fate) -> Fate {
        let spares = self.spares.len() + self.sparing.len();
        let keep = segment.log == self.identity.log && spares < self.spares_max();
        if keep && fate != Fate::SetAside {
            self.sparing.insert(segment);
        }
        match fate {
            Fate::Reuse if !keep => Fate::Remove,
            fate => fate,
        }
    }

    /// Asks for a segment beyond the tail, if one more is wanted and there is room. One at a
    /// time: they are written in their order, and one that is there behind one that cannot be
    /// had is of no use.
    pub(super) fn ask_ahead(&mut self, now: Now) -> bool {
        let wanted = self.commit.fault().is_none()
            && self.asked.is_empty()
            && self
                .commit
                .segments_ahead()
                .is_none_or(|ahead| ahead < SEGMENTS_AHEAD)
            && (!self.spares.is_empty() || self.growth_segments().0 > 0);
        if wanted {
            self.ask_segment(now);
        }
        wanted
    }

    pub(super) fn ask_segment(&mut self, now: Now) {
        let (segment, epoch) = self.commit.ask_segment();
        let place = self.place(segment);
        let header = SegmentHeader {
            spool: self.identity.spool,
            place,
            epoch,
            previous_epoch: spool_format::Epoch(0),
            created_ms: now.wall.as_millis(),
            segment_bytes: self.settings.segment_bytes,
        };
        self.reclaim.began(place, self.settings.segment_bytes);
        let asked = Asked {
            header,
            asked_at: now.instant,
            failing_since: None,
            retry_at: None,
        };
        self.asked.insert(segment, asked);
        let spare = self.spares.pop();
        if spare.is_none() {
            // The next look at the disk may be a second away.
            let bytes = u64::from(self.settings.segment_bytes);
            self.free_bytes = self.free_bytes.saturating_sub(bytes);
            self.vacated = self.vacated.saturating_sub(1);
        }
        self.outputs
            .push_back(Output::SegmentNeeded { header, spare });
    }

    pub(super) fn preparation_fails(&self) -> bool {
        self.asked.values().any(|asked| !asked.is_coming())
    }
}
