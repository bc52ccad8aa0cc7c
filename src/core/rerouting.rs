//! Mail that waits follows the routes: after a reload that changes them each message is
//! looked at once, some of them in a turn.
//!
//! Where a message goes is not in the index but follows from its recipients' domains, so
//! its envelope is read from the mapped segments.
//!
//! Invariants:
//! - At most [`LOOKED_AT_ONCE`] envelopes are read in a turn, however much mail waits.
//! - What is on the wire stays where it is. If it comes back, a later round finds it.
//! - Mail that a closed destination gave to the smarthosts stays with them.
//! - Mail that the operator sent another way goes that way, not by the routes.
//!
//! What this module does not do: it counts no attempts on. They were made at another
//! next hop.

use std::time::Duration;

use crate::core::common::Common;
use crate::mail::{QueueId, RecipientIndex};
use crate::queue::ShareState;
use crate::route::NextHop;
use crate::spool::message::{SegmentSource, StoredMessage};
use crate::time::{Instant, Now};

/// Envelopes that are read in one turn: about a millisecond.
const LOOKED_AT_ONCE: usize = 256;

/// After a round that found mail on the wire that is to go elsewhere, how long until the
/// next one.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A round through all messages.
#[derive(Debug)]
pub(super) struct Rerouting {
    after: Option<QueueId>,
    /// When it goes on.
    due: Instant,
    /// Something was on the wire that is to go elsewhere.
    missed: bool,
}

impl Rerouting {
    /// From the beginning.
    pub(super) const fn new(due: Instant) -> Self {
        Self {
            after: None,
            due,
            missed: false,
        }
    }

    /// When [`Common::reroute`] is due.
    pub(super) const fn deadline(&self) -> Instant {
        self.due
    }
}

impl Common {
    /// Looks at some messages, if routes have changed. False if there was nothing to do.
    pub(super) fn reroute(&mut self, now: Now, spool: &impl SegmentSource) -> bool {
        let Some(mut round) = self.rerouting.take_if(|round| round.due <= now.instant) else {
            return false;
        };
        let messages = self.queue.index().iter(round.after);
        let ids: Vec<_> = (messages.take(LOOKED_AT_ONCE))
            .map(|entry| entry.queue_id())
            .collect();
        for &id in &ids {
            let moves = self.moves(id, spool, &mut round.missed);
            if !moves.is_empty() {
                self.queue.reroute(now, id, &moves);
            }
        }
        match ids.last() {
            Some(last) if ids.len() == LOOKED_AT_ONCE => {
                round.after = Some(*last);
                self.rerouting = Some(round);
            }
            _ if round.missed => {
                self.rerouting = Some(Rerouting::new(now.instant + AGAIN_AFTER));
            }
            _ => {}
        }
        true
    }

    /// The operator has said where a message goes: those who wait go there now, afresh.
    pub(super) fn follow(&mut self, now: Now, id: QueueId, spool: &impl SegmentSource) {
        let mut missed = false;
        let moves = self.moves(id, spool, &mut missed);
        if !moves.is_empty() {
            self.queue.reroute(now, id, &moves);
        }
        if missed && self.rerouting.is_none() {
            self.rerouting = Some(Rerouting::new(now.instant + AGAIN_AFTER));
        }
    }

    /// The recipients of a message that wait in the wrong place, and where they belong.
    fn moves(
        &self,
        id: QueueId,
        spool: &impl SegmentSource,
        missed: &mut bool,
    ) -> Vec<(RecipientIndex, NextHop)> {
        let Some(entry) = self.queue.index().get(id) else {
            return Vec::new();
        };
        // What cannot be read is told when it is to be delivered.
        let Ok(stored) = StoredMessage::read(spool, entry.location()) else {
            return Vec::new();
        };
        let routes = &self.settings.routes;
        let mut moves = Vec::new();
        for share in entry.shares() {
            let Some(current) = self.queue.next_hop(share.destination) else {
                continue;
            };
            for &index in share.recipients.as_slice() {
                let Some(recipient) = stored.envelope.recipients.get(index.0 as usize) else {
                    continue;
                };
                let domain = recipient.forward_path.address().domain_str();
                let wanted = self.detours.next_hop(routes, id, domain);
                if wanted == current.as_ref() {
                    continue;
                }
                let wanted = wanted.to_owned();
                if routes.mode().fallback(&wanted).as_ref() == Some(current) {
                    continue;
                }
                if share.state == ShareState::InFlight {
                    *missed = true;
                } else {
                    moves.push((index, wanted));
                }
            }
        }
        moves
    }
}
