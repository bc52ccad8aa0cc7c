//! The places of a share: a set of its destination, or nowhere, which is in flight.
//! Every share goes in, moves and ends by way of these functions.

use super::link::tally_in;
use super::{Output, Schedule};
use crate::queue::ageing::{Ageing, SET_MIN, moved};
use crate::queue::destination::{Destination, Turn};
use crate::queue::index::{DestinationId, HoldState, Index, Removed, ShareSlot, ShareState};
use crate::queue::usage::Arrived;
use crate::time::{Instant, Now, WallTime};

/// Deferred shares that become ready at once: enough to keep their order right, and
/// few enough to cost nothing.
pub(super) const PROMOTED_AT_ONCE: usize = 64;

impl Schedule {
    /// Counts a new share in its destination and starts its clock.
    pub(super) fn admit(&mut self, slot: ShareSlot) {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        let octets = message.octets;
        let destination = &mut self.destinations[share.destination];
        destination.shares += 1;
        destination.octets += octets;
        if let Some(usage) = &destination.usage {
            usage.add(Arrived {
                messages: 1,
                octets,
                oldest: message.arrival,
                priority: message.priority,
            });
        }
        let failures = destination.failures_total;
        self.index.share_mut(slot).failures_seen = failures;
        self.set_clock(slot);
    }

    /// From "in flight" to "ready", or "held" if its message is.
    pub(super) fn make_ready(&mut self, slot: ShareSlot) {
        let message = self.index.message_of(slot);
        let turn = Turn::ranked(message.rank(), slot);
        let (held, large) = (message.hold == HoldState::Held, message.is_large());
        let share = self.index.share_mut(slot);
        assert_eq!(share.state, ShareState::InFlight, "a share in two places");
        let destination = &mut self.destinations[share.destination];
        let (set, state) = match (held, large) {
            (true, _) => (&mut destination.held, ShareState::Held),
            (false, true) => (&mut destination.large, ShareState::Ready),
            (false, false) => (&mut destination.small, ShareState::Ready),
        };
        share.state = state;
        let before = set.insert(turn);
        assert!(before.is_none(), "a share stood twice in a set");
        if !held {
            self.tally_in(slot);
        }
    }

    /// From "in flight" to "deferred", or "held" if its message is.
    pub(super) fn defer_until(&mut self, slot: ShareSlot, due: Instant) {
        if self.index.message_of(slot).hold == HoldState::Held {
            self.make_ready(slot);
            return;
        }
        let share = self.index.share_mut(slot);
        assert_eq!(share.state, ShareState::InFlight, "a share in two places");
        share.state = ShareState::Deferred;
        share.due = due;
        let destination = &mut self.destinations[share.destination];
        let before = destination.deferred.insert(Turn::timed(due, slot));
        assert!(before.is_none(), "a share stood twice in a set");
    }

    /// From a set of its destination to "in flight", which is to say, nowhere.
    pub(super) fn unlink(&mut self, slot: ShareSlot) {
        let message = self.index.message_of(slot);
        let (rank, large) = (message.rank(), message.is_large());
        let share = self.index.share_mut(slot);
        let destination = &mut self.destinations[share.destination];
        let ranked = Turn::ranked(rank, slot);
        let timed = Turn::timed(share.due, slot);
        let was_ready = share.state == ShareState::Ready;
        let was_there = match (share.state, large) {
            (ShareState::InFlight, _) => panic!("a share in flight was looked for in a set"),
            (ShareState::Ready, true) => destination.large.remove(ranked).is_some(),
            (ShareState::Ready, false) => destination.small.remove(ranked).is_some(),
            (ShareState::Held, _) => destination.held.remove(ranked).is_some(),
            (ShareState::Deferred, _) => {
                let waited = destination.deferred.remove(timed);
                waited
                    .or_else(|| destination.released.remove(timed))
                    .is_some()
            }
        };
        assert!(was_there, "a share was not where it should be");
        share.state = ShareState::InFlight;
        if was_ready {
            self.tally_out(slot);
        }
    }

    /// The end of a share that stands nowhere. Its recipients were reported.
    pub(super) fn end_share(&mut self, slot: ShareSlot) {
        self.clear_clock(slot);
        self.detours.remove(slot);
        let share = self.index.share(slot);
        assert_eq!(
            share.state,
            ShareState::InFlight,
            "a share ended in its place"
        );
        let octets = self.index.message(share.message).octets;
        self.leave(share.destination, octets);
        if let Removed::Message { queue_id, location } = self.index.remove_share(slot) {
            self.outputs
                .push_back(Output::Finished { queue_id, location });
        }
    }

    /// A destination has one share less.
    pub(super) fn leave(&mut self, id: DestinationId, octets: u64) {
        let destination = &mut self.destinations[id];
        destination.shares -= 1;
        destination.octets -= octets;
        if let Some(usage) = &destination.usage {
            usage.remove(octets);
        }
        if destination.shares == 0 {
            destination.empty_since = self.now.instant;
        }
    }
}

/// Makes ready what was released and what is due, some at a time.
pub(super) fn promote(destination: &mut Destination, index: &mut Index, ageing: &Ageing, now: Now) {
    for _ in 0..PROMOTED_AT_ONCE {
        let turn = if let Some(turn) = next_released(destination, index, ageing, now) {
            turn
        } else if destination.is_due(now.instant) {
            destination.deferred.pop_first().expect("one is due")
        } else {
            return;
        };
        match index.message_of(turn.share).moment() {
            // The clock was set back, or is slow.
            Some(at) if at > now.wall => wait_for(destination, index, turn.share, at, now),
            _ => make_ready(destination, index, turn.share),
        }
    }
}

/// What is due by the clock as it was, and waits for a moment that has not come by the clock
/// as it is: nobody is to be called for it.
pub(super) fn put_off_again(destination: &mut Destination, index: &mut Index, now: Now) {
    for _ in 0..PROMOTED_AT_ONCE {
        let first = destination.deferred.first().copied();
        let due = first.filter(|_| destination.is_due(now.instant));
        let Some(turn) = due else { return };
        match index.message_of(turn.share).moment() {
            Some(at) if at > now.wall => {
                destination.deferred.pop_first();
                wait_for(destination, index, turn.share, at, now);
            }
            _ => return,
        }
    }
}

/// A share that was taken out of where it stood.
fn wait_for(
    destination: &mut Destination,
    index: &mut Index,
    share: ShareSlot,
    at: WallTime,
    now: Now,
) {
    let due = now.instant + at.since(now.wall);
    index.share_mut(share).due = due;
    let before = destination.deferred.insert(Turn::timed(due, share));
    assert!(before.is_none(), "a share stood twice in a set");
}

/// Whether the sender of a deferred share wants it to wait still.
fn is_put_off(index: &Index, ageing: &Ageing, slot: ShareSlot, now: Now) -> bool {
    let message = index.message_of(slot);
    if let Some(at) = message.moment() {
        return at > now.wall;
    }
    // Time that passes is what the monotonic clock says; the other one tells it from a pause
    // behind an attempt, and may have been set by less than is noticed.
    let later = || ageing.later(message.queue_id, message.arrival);
    index.share(slot).due > now.instant
        && (message.waits()).is_some_and(|until| moved(until, later()) + SET_MIN > now.wall)
}

/// Takes out the next share of those that were released. Whoever lets go all that a
/// destination has does not look at each: what its sender wants to wait (RFC 4865) goes
/// back to where it waits for its time.
pub(super) fn next_released(
    destination: &mut Destination,
    index: &Index,
    ageing: &Ageing,
    now: Now,
) -> Option<Turn> {
    loop {
        let turn = destination.released.pop_first()?;
        if !is_put_off(index, ageing, turn.share, now) {
            return Some(turn);
        }
        let before = destination.deferred.insert(turn);
        assert!(before.is_none(), "a share stood twice in a set");
    }
}

/// Among those that can go: a share that was taken out of where it stood.
pub(super) fn make_ready(destination: &mut Destination, index: &mut Index, share: ShareSlot) {
    let message = index.message_of(share);
    let ranked = Turn::ranked(message.rank(), share);
    let set = if message.is_large() {
        &mut destination.large
    } else {
        &mut destination.small
    };
    set.insert(ranked);
    index.share_mut(share).state = ShareState::Ready;
    tally_in(destination, index.message_of(share));
}
