//! The pace of a drain (FEATURES Q8): how many connections a released site gets, and in
//! which order its mail goes.
//!
//! A site's line is narrow and its server small, and both tell us so only by what they
//! do. Each message that it takes lets one connection more be opened, up to the limit
//! (`health`). A message that it puts off, or takes [`SLOW`] for, is a sign of too much:
//! half of the connections go, and for [`PAUSE`] none is added. What was in flight when
//! that began says the same again, and counts once.
//!
//! Of a backlog of days every second message that goes is one that came since the
//! release: who writes while the line is up need not wait for the backlog.
//!
//! The permits keep the sum of all cores below the site's limit; the pace is each core's
//! own. What this module does not do: it limits no octets a second. The line does.

use std::ops::Bound;
use std::time::Duration;

use super::{Carrier, InFlight, RecipientOutcome, Schedule};
use crate::mail::RecipientIndex;
use crate::queue::destination::{Destination, Gate, Health, Turn};
use crate::queue::index::{DestinationId, Index};

/// A message that is not large and takes longer than this, from the moment it was handed
/// out to its answer, goes over a line or to a server that is full. Over a modem of 28
/// kbit/s a message of 32 KiB takes ten seconds when it is alone.
pub(super) const SLOW: Duration = Duration::from_secs(15);

/// After a sign of too much no connection is added for this long.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Breaks in one release of a destination that are remembered, one for each message: more
/// than are on a line, which has some connections with up to
/// [`JOBS_PER_CONNECTION_MAX`](super::JOBS_PER_CONNECTION_MAX) each. The rest waits for the
/// time of its next try.
const CUT_OFF_MAX: usize = 1024;

impl Schedule {
    /// What a job that has come back says of its site's pace.
    pub(super) fn pace(
        &mut self,
        id: DestinationId,
        job: &InFlight,
        results: &[(RecipientIndex, RecipientOutcome)],
    ) {
        let now = self.now.instant;
        let put_off = |(_, outcome): &(_, _)| *outcome == RecipientOutcome::Deferred;
        let slow = !job.large && now.since(job.since) > SLOW;
        let destination = &mut self.destinations[id];
        let released = matches!(destination.gate, Gate::Released { .. });
        if !released || !(slow || results.iter().any(put_off)) {
            return;
        }
        if now >= destination.no_growth_before
            && let Health::Open { allowed } = &mut destination.health
        {
            *allowed = (*allowed / 2).max(1);
        }
        destination.no_growth_before = destination.no_growth_before.max(now + PAUSE);
    }

    /// How long a job that has come back waits before it is tried again. What was cut off
    /// goes at once if it was asked for since its connection was begun: the site is there
    /// again, and what it asks for joins the release that has lost the line. If the line broke
    /// first, it is remembered, and goes when the site asks ([`offer_cut_off`]).
    pub(super) fn pause_for(
        &mut self,
        job: &InFlight,
        results: &[(RecipientIndex, RecipientOutcome)],
    ) -> Duration {
        // The last words of the old line may have brought one more job onto it.
        let began = match job.carrier {
            Carrier::Connection(id) => (self.connections.get(id.0)).map_or(job.since, |c| c.since),
            Carrier::Visit(_) => job.since,
        };
        let share = self.index.share(job.share);
        let destination = &mut self.destinations[share.destination];
        let mut outcomes = results.iter().map(|(_, outcome)| *outcome);
        let put_off = outcomes.any(|outcome| outcome == RecipientOutcome::Deferred);
        if began < destination.asked_at && !put_off {
            return Duration::ZERO;
        }
        let pause = (destination.policy.retry).pause(share.attempts, &mut self.jitter);
        let released = matches!(destination.gate, Gate::Released { .. });
        if released && !put_off && destination.cut_off.len() < CUT_OFF_MAX {
            let due = self.now.instant + pause;
            destination.cut_off.push(Turn::timed(due, job.share));
        }
        pause
    }
}

/// A release is asked for again while it lasts: what was cut off in it goes now, by whatever
/// a session ended (a host that says 421 has broken it off, too). Once for each time that is
/// asked, so that a message that breaks each session does not turn for ever.
pub(super) fn offer_cut_off(destination: &mut Destination) {
    for turn in std::mem::take(&mut destination.cut_off) {
        // Else it has had its turn since, or is gone.
        if let Some(turn) = destination.deferred.remove(turn) {
            let before = destination.released.insert(turn);
            assert!(before.is_none(), "a share stood twice in a set");
        }
    }
}

/// Whether a connection is one too many since the pace fell.
pub(super) fn is_one_too_many(destination: &Destination) -> bool {
    matches!(destination.gate, Gate::Released { .. })
        && matches!(destination.health, Health::Open { .. })
        && destination.connections > destination.allowed()
}

/// The next of the small ones: in a drain by turns the first of all and the first that
/// came since the release. Behind a deadline or a higher priority nothing is passed.
pub(super) fn next_small(destination: &Destination, index: &Index) -> Option<Turn> {
    let first = destination.small.first().copied()?;
    if !matches!(destination.gate, Gate::Released { .. })
        || destination.handed_out.is_multiple_of(2)
    {
        return Some(first);
    }
    let rank = index.message_of(first.share).rank();
    let fresh = rank.arriving(destination.released_at).and_then(|from| {
        let mut behind = destination.small.range(Bound::Included(Turn::lowest(from)));
        behind.next().copied()
    });
    Some(fresh.unwrap_or(first))
}
