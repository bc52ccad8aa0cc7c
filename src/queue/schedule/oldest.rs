//! How long mail has waited, for whoever looks.

use super::Schedule;
use crate::mail::QueueId;
use crate::queue::index::DestinationId;
use crate::time::WallTime;

/// Messages looked at in each order of a destination. The orders are nearly those of
/// arrival, and an answer must not cost more the longer a queue is.
const LOOKED_AT: usize = 8;

impl Schedule {
    /// When the oldest message of all came.
    ///
    /// Ids of one core grow with time; a core may have messages of several, so the first
    /// of each is looked at.
    #[must_use]
    pub fn oldest(&self) -> Option<WallTime> {
        let mut oldest: Option<WallTime> = None;
        let mut after = None;
        while let Some(entry) = self.index.iter(after).next() {
            let arrival = entry.arrival();
            oldest = Some(oldest.map_or(arrival, |other| other.min(arrival)));
            after = Some(QueueId::new(entry.queue_id().core(), (1 << 56) - 1));
        }
        oldest
    }

    /// When about the oldest message for a destination came that is not on its way.
    /// Exact up to `LOOKED_AT` messages; of more, the first in the order of sending and
    /// of retrying are looked at, and the last of the latter: who was tried most often
    /// waits for longest.
    #[must_use]
    pub fn oldest_at(&self, id: DestinationId) -> Option<WallTime> {
        let destination = self.destinations.get(id)?;
        let sets = [
            &destination.small,
            &destination.large,
            &destination.deferred,
            &destination.released,
            &destination.held,
        ];
        sets.into_iter()
            .flat_map(|set| set.iter().take(LOOKED_AT).chain(set.last()))
            .map(|turn| self.index.message_of(turn.share).arrival)
            .min()
    }
}
