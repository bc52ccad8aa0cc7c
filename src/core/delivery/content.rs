//! Content on its way out: bodies as ranges of the spool, and what must be stuffed a part
//! at a time.

use spool_format::SegmentPlace;

use super::Delivery;
use crate::core::Piece;
use crate::core::common::Common;
use crate::core::flow::Appetite;
use crate::report::Fact;
use crate::smtp::client::job::{JobId, Piece as JobPiece, Transfer};
use crate::smtp::client::stuffing::Stuffer;
use crate::spool::message::SegmentSource;

/// Octets of a body that are made fit for DATA at a time, where it came by BDAT and
/// the host offers no CHUNKING. The only bodies that pass through our memory.
const STUFFED_BYTES: usize = 64 * 1024;

/// A body on its way through the stuffer.
pub(super) struct Stuffing {
    job: JobId,
    stuffer: Stuffer,
    extent: usize,
    /// Octets of the extent that are done.
    done: u32,
}

impl Delivery {
    /// Hands pieces to the flow: bodies as ranges of the spool, and what must be
    /// stuffed a part at a time.
    pub(super) fn fill(&mut self, common: &mut Common, spool: &impl SegmentSource) {
        while self.flow.is_open() {
            if self.stuffing.is_some() {
                // A part at a time, so that the body is not whole in memory.
                if !self.flow.is_quiet() {
                    return;
                }
                self.stuff(common, spool);
                self.flow
                    .advance(Appetite::Sated, spool, &mut common.operations);
                continue;
            }
            match self.pieces.pop_front() {
                None => return,
                Some(JobPiece::Octets(octets)) => self.flow.send([Piece::Octets(octets)]),
                Some(JobPiece::Body {
                    job,
                    transfer: Transfer::Stuff,
                    ..
                }) => {
                    self.flow
                        .advance(Appetite::Sated, spool, &mut common.operations);
                    self.stuffing = Some(Stuffing {
                        job,
                        stuffer: Stuffer::default(),
                        extent: 0,
                        done: 0,
                    });
                }
                Some(JobPiece::Body {
                    job,
                    range,
                    transfer: Transfer::AsStored,
                }) => {
                    let Some(active) = self.jobs.iter().find(|active| active.id == job) else {
                        continue;
                    };
                    let stored = &active.stored;
                    debug_assert_eq!(range, 0..stored.octets, "a body is sent whole");
                    let log = active.location.log;
                    self.flow
                        .send(stored.extents.iter().map(|extent| Piece::Spool {
                            segment: SegmentPlace {
                                log,
                                segment: extent.segment,
                            },
                            offset: extent.offset,
                            octets: extent.length,
                        }));
                }
            }
        }
    }

    pub(super) fn all_has_left(&self) -> bool {
        self.pieces.is_empty() && self.stuffing.is_none() && self.flow.is_quiet()
    }

    /// Gives back what jobs that are over have read from, when nothing of it is leaving.
    pub(super) fn take_back_readings(&mut self, common: &mut Common) {
        if self.all_has_left() || self.flow.is_closed() {
            for reading in self.reading.drain(..) {
                common.take_back(reading);
            }
        }
    }

    fn stuff(&mut self, common: &mut Common, spool: &impl SegmentSource) {
        let Some(mut stuffing) = self.stuffing.take() else {
            return;
        };
        let Some(active) = self.jobs.iter().find(|active| active.id == stuffing.job) else {
            return;
        };
        let mut out = Vec::with_capacity(STUFFED_BYTES + STUFFED_BYTES / 8);
        while out.len() < STUFFED_BYTES {
            let Some(&extent) = active.stored.extents.get(stuffing.extent) else {
                stuffing.stuffer.finish(&mut out);
                self.flow.send([Piece::Octets(out)]);
                return;
            };
            let octets = match crate::spool::message::body(spool, active.location, extent) {
                Ok(octets) => octets,
                Err(error) => {
                    common.report(Fact::SpoolDamaged {
                        log: active.location.log,
                        what: format!(
                            "the body of a message cannot be read: {error}; the connection is \
                             closed, and the message tried again"
                        ),
                    });
                    self.flow.abort(&mut common.operations);
                    return;
                }
            };
            let rest = &octets[stuffing.done as usize..];
            let part = &rest[..rest.len().min(STUFFED_BYTES)];
            stuffing.stuffer.feed(part, &mut out);
            stuffing.done += u32::try_from(part.len()).expect("a part of an extent");
            if stuffing.done == extent.length {
                stuffing.extent += 1;
                stuffing.done = 0;
            }
        }
        self.stuffing = Some(stuffing);
        self.flow.send([Piece::Octets(out)]);
    }
}
