//! Which batch is written next, and how durable that has to be.
//!
//! A batch goes when somebody waits for it, when it has become large, or when its riders
//! are to outlive this process. Whoever waits gets a sync; and so does what nobody waits
//! for, before it is so much that the next who waits would wait for that.

use super::batch::Riders;
use super::{Commit, Durability, Output, UNSYNCED_BYTES_MAX, WRITE_AHEAD_BYTES};

impl Commit {
    /// The next write, if one is due. Whoever asks later gets a larger batch.
    pub fn next_write(&mut self) -> Option<Output> {
        if self.fault.is_some() || self.flights.is_full() {
            return None;
        }
        if !self.flights.is_empty() {
            return self.write_beside();
        }
        if !self.front_is_due() {
            return None;
        }
        let batch = self.pending.pop_front().expect("it is due");
        let wanted = batch.number <= self.wanted;
        // Whoever waits for a sync has said so.
        let asked = wanted && (!batch.tickets.is_empty() || batch.riders != Riders::None);
        let too_much = self.unsynced_bytes + batch.bytes.len() >= UNSYNCED_BYTES_MAX;
        let must_sync = asked || too_much;
        let durability = if !must_sync {
            Durability::None
        } else if self.written == self.durable && !batch.bytes.is_empty() {
            // Nothing else in the file is dirty.
            Durability::Range
        } else {
            Durability::File
        };
        if must_sync && self.pending.iter().all(|b| b.riders == Riders::None) {
            self.riders_due = None;
        }
        Some(self.flights.take_off(batch, durability))
    }

    /// Whether [`Commit::next_write`] would give one.
    #[must_use]
    pub fn has_write(&self) -> bool {
        if self.fault.is_some() || self.flights.is_full() {
            return false;
        }
        if self.flights.is_empty() {
            self.front_is_due()
        } else {
            self.may_write_beside()
        }
    }

    /// Whether [`Commit::next_write`] would give one that as many wait for as the last sync
    /// has told: it gains nothing by waiting until those have sent their next message.
    #[must_use]
    pub fn has_full_write(&self) -> bool {
        let waiting = self.pending.front().map_or(0, |front| front.tickets.len());
        self.has_write() && waiting >= self.told.max(1)
    }

    fn front_is_due(&self) -> bool {
        self.pending.front().is_some_and(|front| {
            let due = front.number <= self.wanted
                || front.riders == Riders::Prompt
                || front.bytes.len() >= WRITE_AHEAD_BYTES;
            due && self.prepared.is_next(front.segment)
        })
    }

    fn may_write_beside(&self) -> bool {
        let (Some(batch), 1) = (self.pending.front(), self.pending.len()) else {
            return false;
        };
        batch.riders == Riders::Prompt && self.flights.admit_beside(batch)
    }

    /// Riders that are to be written at once, while a sync is under way. Only where their
    /// batch is the last, so that the order of the batches is none of its business. Who
    /// waits for a sync of that batch waits for the next.
    fn write_beside(&mut self) -> Option<Output> {
        if !self.may_write_beside() {
            return None;
        }
        let mut batch = self.pending.pop_front().expect("asked above");
        if batch.number <= self.wanted {
            self.push_batch();
            let next = self.pending.back_mut().expect("pushed above");
            next.tickets = std::mem::take(&mut batch.tickets);
            next.riders = Riders::Some;
            self.wanted = next.number;
        }
        Some(self.flights.take_off_beside(batch))
    }
}
