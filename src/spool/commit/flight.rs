//! Writes that were handed out and are not answered yet.
//!
//! There is one at a time. Only while it is being synced a second one, without a sync,
//! may go beside it: riders that are to outlive this process ([`Flights::take_off_beside`]).
//!
//! Which of two an answer is for is not said with it, and need not be: the shell answers
//! what it writes without a sync before anything else can happen. Where the first write
//! fails at once its answer comes first, and is taken for that of the second; then both
//! fail, whatever the second answer says, and nobody is told anything else than by the
//! other order.

use spool_format::{Offset, SegmentId};

use super::batch::{Batch, BatchNumber};
use super::{Durability, Output, Ticket};
use crate::mail::QueueId;

/// What is to be known of a batch when its write has ended.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: BatchNumber,
    pub(super) segment: SegmentId,
    pub(super) end: Offset,
    pub(super) bytes: usize,
    pub(super) durability: Durability,
    pub(super) tickets: Vec<(Ticket, QueueId)>,
    pub(super) ends_segment: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flights {
    first: Option<Flight>,
    /// Without a sync, beside the first; answered first.
    beside: Option<Flight>,
}

impl Flights {
    /// Nothing is under way.
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none() && self.beside.is_none()
    }

    /// Nothing more can go now.
    pub(super) const fn is_full(&self) -> bool {
        self.beside.is_some()
    }

    /// A sync is under way that covers everything up to `newest`.
    pub(super) fn syncs(&self, newest: BatchNumber) -> bool {
        self.first
            .as_ref()
            .is_some_and(|flight| flight.number == newest && flight.durability != Durability::None)
    }

    /// Whether `batch` may go beside the first: that is being synced, and neither is the
    /// end of their segment. So a segment is never closed with a write to it under way.
    pub(super) fn admit_beside(&self, batch: &Batch) -> bool {
        self.first.as_ref().is_some_and(|flight| {
            flight.durability != Durability::None
                && flight.segment == batch.segment
                && !flight.ends_segment
                && !batch.ends_segment
        })
    }

    /// Hands out a write; nothing was under way.
    pub(super) fn take_off(&mut self, batch: Batch, durability: Durability) -> Output {
        assert!(self.is_empty(), "one write at a time");
        let (flight, output) = of_batch(batch, durability);
        self.first = Some(flight);
        output
    }

    /// Hands out a write without a sync, beside the one that is being synced.
    pub(super) fn take_off_beside(&mut self, batch: Batch) -> Output {
        assert!(self.admit_beside(&batch), "asked before");
        assert!(batch.tickets.is_empty(), "a ticket waits for a sync");
        let (flight, output) = of_batch(batch, Durability::None);
        let before = self.beside.replace(flight);
        assert!(before.is_none(), "one beside the first");
        output
    }

    /// A write has ended.
    pub(super) fn answered(&mut self) -> Flight {
        let flight = self.beside.take().or_else(|| self.first.take());
        flight.expect("a write was handed out")
    }

    /// What they hold.
    pub(super) fn bytes(&self) -> usize {
        let both = self.first.iter().chain(&self.beside);
        both.map(|flight| flight.bytes).sum()
    }
}

fn of_batch(batch: Batch, durability: Durability) -> (Flight, Output) {
    let bytes = batch.bytes.len();
    let flight = Flight {
        number: batch.number,
        segment: batch.segment,
        end: Offset(batch.offset.0 + u32::try_from(bytes).expect("a batch lies in a segment")),
        bytes,
        durability,
        tickets: batch.tickets,
        ends_segment: batch.ends_segment,
    };
    let output = Output::Write {
        segment: batch.segment,
        offset: batch.offset,
        bytes: batch.bytes,
        durability,
    };
    (flight, output)
}
