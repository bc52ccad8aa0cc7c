//! A visit: a customer's own connection takes what is held for it (ATRN, RFC 2645).
//!
//! Other than a connection that we open, a visit needs no permit, belongs to several
//! destinations (the domains that were asked for), says nothing about whether the site
//! can be reached, and opens no gate: what is held stays held for everybody else.
//!
//! Invariants:
//! - A share that a visit takes is in flight like any other: nobody else takes it.
//! - What was put off is offered once in a visit; what is put off during a visit is not
//!   offered again in it. So a visit ends.
//! - A destination that is being visited is not forgotten.

use smallvec::SmallVec;

use super::delivery::{Job, Take};
use super::place::{PROMOTED_AT_ONCE, make_ready, next_released};
use super::{Carrier, InFlight, JOBS_PER_CONNECTION_MAX, JobId, Schedule, Selection};
use crate::mail::RecipientIndex;
use crate::queue::ageing::Ageing;
use crate::queue::destination::{Destination, Turn};
use crate::queue::handles::Handle;
use crate::queue::index::{DestinationId, Index, ShareState};
use crate::time::Now;

/// A visit to this core. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VisitId(pub(super) Handle);

/// What there is for a visit. A message with recipients at several destinations counts
/// at each; one that an operator stopped does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Messages that it would be offered.
    pub messages: u64,
    /// Messages that are on some connection now, and come back if that one breaks.
    pub in_flight: u64,
}

#[derive(Debug)]
pub(super) struct Visit {
    /// In the order in which they are emptied.
    destinations: Vec<DestinationId>,
    /// How many of them are done.
    done: usize,
    jobs: SmallVec<[JobId; 2]>,
}

impl Schedule {
    /// What a visit would be offered.
    #[must_use]
    pub fn on_offer(&self, selections: &[Selection<'_>]) -> Offer {
        let mut offer = Offer::default();
        for id in self.selected_once(selections) {
            let destination = &self.destinations[id];
            let messages = waiting(destination);
            let stopped = destination.held.len() as u64;
            offer.messages += messages;
            offer.in_flight += u64::from(destination.shares) - messages - stopped;
        }
        offer
    }

    /// Begins a visit to all destinations of these selections. Mail that waits for the
    /// time of its next attempt is offered at once; what its sender wants to wait is not.
    pub fn begin_visit(&mut self, now: Now, selections: &[Selection<'_>]) -> VisitId {
        self.begin(now);
        let destinations = self.selected_once(selections);
        for &id in &destinations {
            let destination = &mut self.destinations[id];
            destination.visits += 1;
            destination.released.append(&mut destination.deferred);
        }
        VisitId(self.visits.insert(Visit {
            destinations,
            done: 0,
            jobs: SmallVec::new(),
        }))
    }

    /// The visitor can take (more) work. [`Take::Wait`] is said only while it has jobs,
    /// of which one may come back: it asks again behind its next outcome.
    /// [`Take::Quit`]: there is nothing more here.
    pub fn take_visiting(&mut self, now: Now, id: VisitId) -> Take {
        self.begin(now);
        let Some(visit) = self.visits.get_mut(id.0) else {
            return Take::Quit;
        };
        if visit.jobs.len() >= JOBS_PER_CONNECTION_MAX {
            return Take::Wait;
        }
        let mut found = None;
        while let Some(&destination) = visit.destinations.get(visit.done) {
            found = first(
                &mut self.destinations[destination],
                &mut self.index,
                &self.ageing,
                self.now,
            );
            if found.is_some() || self.stopping {
                break;
            }
            visit.done += 1;
        }
        let in_flight = !visit.jobs.is_empty();
        match found {
            Some(turn) if !self.stopping => Take::Job(self.give(id, turn)),
            _ if in_flight => Take::Wait,
            _ => Take::Quit,
        }
    }

    /// The visitor goes. Jobs without an outcome are
    /// [`Interrupted`](super::RecipientOutcome::Interrupted).
    pub fn end_visit(&mut self, now: Now, id: VisitId) {
        self.begin(now);
        let Some(visit) = self.visits.remove(id.0) else {
            return;
        };
        for job in visit.jobs {
            let in_flight = self.jobs.remove(job.0).expect("a job in flight is there");
            self.settle(&in_flight, &[]);
        }
        for id in visit.destinations {
            self.destinations[id].visits -= 1;
            self.reconsider(id);
        }
    }

    /// What came of a visitor's job.
    pub(super) fn visit_outcome(
        &mut self,
        id: VisitId,
        job: JobId,
        in_flight: &InFlight,
        results: &[(RecipientIndex, super::RecipientOutcome)],
    ) {
        let visit = self.visits.get_mut(id.0).expect("a visit with a job");
        visit.jobs.retain(|other| *other != job);
        let destination = self.index.share(in_flight.share).destination;
        self.settle(in_flight, results);
        self.reconsider(destination);
    }

    fn give(&mut self, id: VisitId, turn: Turn) -> Job {
        let share = self.index.share(turn.share);
        let destination = share.destination;
        let (recipients, attempts) = (share.recipients.clone(), share.attempts);
        let message = self.index.message_of(turn.share);
        let (queue_id, location, octets) = (message.queue_id, message.location, message.octets);
        self.unlink(turn.share);
        let job = JobId(self.jobs.insert(InFlight {
            share: turn.share,
            carrier: Carrier::Visit(id),
            // Its rules are for connections that compete.
            large: false,
            since: self.now.instant,
        }));
        let visit = self.visits.get_mut(id.0).expect("the visit that takes");
        visit.jobs.push(job);
        Job {
            id: job,
            queue_id,
            location,
            octets,
            destination,
            recipients,
            attempts,
        }
    }

    fn selected_once(&self, selections: &[Selection<'_>]) -> Vec<DestinationId> {
        let mut ids = Vec::new();
        for selection in selections {
            ids.extend(self.selected(*selection));
        }
        if selections.len() > 1 {
            // Asked for twice, it is emptied once. The order stays.
            let mut seen = hashbrown::HashSet::new();
            ids.retain(|id| seen.insert(*id));
        }
        ids
    }
}

/// The first share in the order of the wire that may go.
///
/// What becomes due while the visit lasts is left: a customer that always says "not now"
/// would be offered the same mail for ever.
fn first(
    destination: &mut Destination,
    index: &mut Index,
    ageing: &Ageing,
    now: Now,
) -> Option<Turn> {
    for _ in 0..PROMOTED_AT_ONCE {
        let Some(turn) = next_released(destination, index, ageing, now) else {
            break;
        };
        make_ready(destination, index, turn.share);
    }
    let small = destination.small.first().copied();
    let large = destination.large.first().copied();
    let turn = match (small, large) {
        (Some(small), Some(large)) => small.min(large),
        (small, large) => small.or(large)?,
    };
    debug_assert_eq!(index.share(turn.share).state, ShareState::Ready);
    Some(turn)
}

fn waiting(destination: &Destination) -> u64 {
    let sets = [
        &destination.small,
        &destination.large,
        &destination.released,
        &destination.deferred,
    ];
    sets.into_iter().map(|set| set.len() as u64).sum()
}
