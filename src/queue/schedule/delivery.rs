//! Connections and jobs: handing out work, and what comes of it.

use smallvec::SmallVec;
use spool_format::Location;

use super::expiry::ExpiryReason;
use super::health::Found;
use super::pace;
use super::place::promote;
use super::{
    Carrier, ConnectionId, ConnectionState, InFlight, JOBS_PER_CONNECTION_MAX, JobId, Output,
    Schedule, TURN_JOBS, TURN_TIME, YIELD_PAUSE,
};
use crate::mail::{QueueId, RecipientIndex};
use crate::queue::destination::{Gate, Health, Turn};
use crate::queue::index::{DestinationId, HoldState, Recipients, ShareSlot, ShareState};
use crate::queue::way::Way;
use crate::time::{Instant, Now};

/// What a worker is to do.
#[derive(PartialEq, Eq, Debug)]
pub enum Take {
    /// Send this.
    Job(Job),
    /// Nothing now. Keep the session; [`Output::Work`] will ask to take again.
    Wait,
    /// Finish what is in flight, then QUIT and report the connection closed.
    Quit,
}

/// A message to be sent to some of its recipients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// To be named in the outcome.
    pub id: JobId,
    /// The message.
    pub queue_id: QueueId,
    /// Its seal.
    pub location: Location,
    /// Octets of its body as stored.
    pub octets: u64,
    /// Where it goes.
    pub destination: DestinationId,
    /// Who of the envelope.
    pub recipients: Recipients,
    /// How often it was tried before.
    pub attempts: u16,
}

/// How it went for one recipient, by whose doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecipientOutcome {
    /// The next hop took it (2xx).
    Delivered,
    /// It never will (5xx, or we cannot send this there).
    Failed,
    /// Not now, it said (4xx).
    Deferred,
    /// The session ended before there was an answer. It may have been delivered. An
    /// attempt like any other, so that a message that breaks sessions does not stand
    /// in the way of the others, but no sign that the next hop takes mail.
    Interrupted,
    /// It was not tried. No attempt is counted.
    Returned,
}

/// What happened to a connection, by how far it reaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnectionFailure {
    /// No session could be had: not reached, no greeting, refused at the greeting or
    /// before the first transaction. Reaches the destination.
    Unusable,
    /// The session broke off. Reaches the destination only if it delivered nothing.
    Lost,
    /// The next hop wants no more mail for now (421). Reaches the destination.
    Busy,
    /// None of its hosts was tried: they are known to be dead, or have as many
    /// connections as they bear. The destination rests; that is no failure of its own.
    Resting {
        /// Until the first of them may be tried.
        until: Instant,
        /// Who found them dead.
        found: Found,
    },
}

/// What the end of a connection says of its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Nothing bad.
    Good,
    /// It failed.
    Failed,
    /// Nothing at all, and it is to rest.
    Resting(Instant, Found),
}

impl Schedule {
    /// A session can take (more) work. Asked of a connection that is not there any
    /// more, the answer is to quit.
    pub fn take(&mut self, now: Now, id: ConnectionId) -> Take {
        self.begin(now);
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Take::Quit;
        };
        let destination = &mut self.destinations[connection.destination];
        let destination_id = connection.destination;
        match connection.state {
            ConnectionState::Quitting => return Take::Quit,
            ConnectionState::Connecting | ConnectionState::Asked => destination.expectant -= 1,
            ConnectionState::Idle => destination.idle.retain(|other| *other != id.0),
            ConnectionState::Working | ConnectionState::Hungry => {}
        }
        connection.state = ConnectionState::Working;
        let shut = destination.gate == Gate::Held || destination.way == Way::Shut;
        let surplus = shut || pace::is_one_too_many(destination);
        if self.stopping || surplus || self.gives_way(id) {
            return self.take_quit(id);
        }
        let taken = self.take_job(id);
        let take = match taken {
            Some(job) => Take::Job(job),
            None => self.no_work(id),
        };
        self.reconsider(destination_id);
        take
    }

    fn take_quit(&mut self, id: ConnectionId) -> Take {
        let connection = self.connection_mut(id);
        connection.state = ConnectionState::Quitting;
        Take::Quit
    }

    /// Whether a connection has had its turn and others wait.
    fn gives_way(&mut self, id: ConnectionId) -> bool {
        let now = self.now.instant;
        let Some(connection) = self.connections.get(id.0) else {
            return false;
        };
        let over = connection.taken >= TURN_JOBS || now >= connection.since + TURN_TIME;
        let Some(permit) = connection.permit.as_ref().filter(|_| over) else {
            return false;
        };
        let elsewhere = self.permits.is_contended(self.core, permit);
        if elsewhere {
            self.line.not_before = now + YIELD_PAUSE;
        }
        elsewhere || self.line_waits_for_total()
    }

    fn line_waits_for_total(&self) -> bool {
        self.line.full && !self.line.queued.is_empty()
    }

    /// The connection is without work: it waits, or makes room for those who do.
    fn no_work(&mut self, id: ConnectionId) -> Take {
        let permit = self.connections.get(id.0).and_then(|c| c.permit.as_ref());
        let contended = self.line_waits_for_total()
            || permit.is_some_and(|permit| self.permits.is_contended(self.core, permit));
        let now = self.now.instant;
        let connection = self.connection_mut(id);
        if !connection.jobs.is_empty() {
            connection.state = ConnectionState::Hungry;
            return Take::Wait;
        }
        if contended {
            return self.take_quit(id);
        }
        connection.state = ConnectionState::Idle;
        let destination = connection.destination;
        self.list_idle(id, now);
        self.destinations[destination].idle.push(id.0);
        Take::Wait
    }

    /// From now on the connection is without work.
    fn list_idle(&mut self, id: ConnectionId, now: Instant) {
        let connection = self.connection_mut(id);
        connection.idle_since = now;
        if !std::mem::replace(&mut connection.idle_listed, true) {
            self.idle.push_back((now, id));
        }
    }

    /// The next share of the connection's destination, as a job.
    fn take_job(&mut self, id: ConnectionId) -> Option<Job> {
        let now = self.now.instant;
        let connection = self.connections.get(id.0)?;
        let destination_id = connection.destination;
        let destination = &mut self.destinations[destination_id];
        // Nothing is sent behind a large message where other connections can take it.
        let behind_large = connection.large_jobs > 0 && destination.limit() > 1;
        if connection.jobs.len() >= JOBS_PER_CONNECTION_MAX
            || behind_large
            || !destination.is_open()
        {
            return None;
        }
        promote(destination, &mut self.index, &self.ageing, self.now);
        let turn = self.pick(id)?;
        let destination = &mut self.destinations[destination_id];
        destination.handed_out = destination.handed_out.wrapping_add(1);
        let message = self.index.message_of(turn.share);
        let large = message.is_large();
        let set = if large {
            &mut destination.large
        } else {
            &mut destination.small
        };
        let was_there = set.remove(turn);
        assert!(was_there.is_some(), "a share was not where it was found");
        self.tally_out(turn.share);
        let message = self.index.message_of(turn.share);
        let (queue_id, location, octets) = (message.queue_id, message.location, message.octets);
        let share = self.index.share_mut(turn.share);
        share.state = ShareState::InFlight;
        let (recipients, attempts) = (share.recipients.clone(), share.attempts);
        let job = JobId(self.jobs.insert(InFlight {
            share: turn.share,
            carrier: Carrier::Connection(id),
            large,
            since: now,
        }));
        let connection = self.connection_mut(id);
        connection.jobs.push(job);
        connection.taken = connection.taken.saturating_add(1);
        if large {
            connection.large_jobs += 1;
            if connection.large_jobs == 1 {
                self.destinations[destination_id].large_connections += 1;
            }
        }
        Some(Job {
            id: job,
            queue_id,
            location,
            octets,
            destination: destination_id,
            recipients,
            attempts,
        })
    }

    /// The first in the order that this connection may carry.
    fn pick(&mut self, id: ConnectionId) -> Option<Turn> {
        let connection = self.connections.get(id.0)?;
        let destination = &self.destinations[connection.destination];
        let small = pace::next_small(destination, &self.index);
        let large = destination
            .large
            .first()
            .copied()
            .filter(|_| connection.large_jobs > 0 || destination.room_for_large() > 0);
        let (small, large) = match (small, large) {
            (small, None) => return small,
            (None, Some(large)) => (None, large),
            // A probe is small if it can be: it is to find out, not to carry.
            (Some(small), Some(_)) if destination.health == Health::Probing => {
                return Some(small);
            }
            (Some(small), Some(large)) if small < large => return Some(small),
            (Some(small), Some(large)) => (Some(small), large),
        };
        if self.may_carry_large(id) {
            Some(large)
        } else {
            small
        }
    }

    /// One of all connections is kept from large messages.
    fn may_carry_large(&mut self, id: ConnectionId) -> bool {
        let core = self.core;
        let connection = self
            .connections
            .get_mut(id.0)
            .expect("the connection that takes is there");
        if connection.permit.is_none() || connection.large_permit {
            return true;
        }
        connection.large_permit = self.permits.try_large(core);
        if !connection.large_permit {
            self.destinations[connection.destination].large_blocked = true;
            self.line.large_blocked.push(connection.destination);
        }
        self.connection_mut(id).large_permit
    }

    /// What came of a job. Recipients that are not mentioned were
    /// [`RecipientOutcome::Interrupted`]; recipients that are not of the job are
    /// passed over. A job whose connection was reported gone is over already, and a
    /// late outcome does nothing.
    pub fn outcome(
        &mut self,
        now: Now,
        job: JobId,
        results: &[(RecipientIndex, RecipientOutcome)],
    ) {
        self.begin(now);
        let Some(in_flight) = self.jobs.remove(job.0) else {
            return;
        };
        let id = match in_flight.carrier {
            Carrier::Connection(id) => id,
            Carrier::Visit(id) => return self.visit_outcome(id, job, &in_flight, results),
        };
        let connection = self.connection_mut(id);
        connection.jobs.retain(|other| *other != job);
        let destination = connection.destination;
        if in_flight.large {
            self.large_done(id);
        }
        let taken = results.iter().any(|(_, outcome)| {
            matches!(
                outcome,
                RecipientOutcome::Delivered | RecipientOutcome::Failed
            )
        });
        self.pace(destination, &in_flight, results);
        if results
            .iter()
            .any(|(_, o)| *o == RecipientOutcome::Delivered)
            && self.destinations[destination].way.needs_link()
        {
            self.sent_over_link.0 += 1;
            self.sent_over_link.1 += self.index.message_of(in_flight.share).octets;
        }
        if taken {
            self.connection_mut(id).proven = true;
            self.succeeded(destination);
        }
        self.settle(&in_flight, results);
        let connection = self.connection_mut(id);
        if connection.jobs.is_empty() {
            match connection.state {
                ConnectionState::Hungry => {
                    if self.no_work(id) == Take::Quit {
                        self.outputs.push_back(Output::Quit { connection: id });
                    }
                }
                // Its worker is about to ask for more; if it never does, it is idle.
                _ => self.list_idle(id, now.instant),
            }
        }
        self.reconsider(destination);
    }

    fn large_done(&mut self, id: ConnectionId) {
        let connection = self.connection_mut(id);
        connection.large_jobs -= 1;
        if connection.large_jobs > 0 {
            return;
        }
        let destination = connection.destination;
        let permit = std::mem::take(&mut connection.large_permit);
        self.destinations[destination].large_connections -= 1;
        if permit {
            let cores = self.permits.release_large();
            self.free(cores);
        }
    }

    /// Ends, defers or returns the recipients of a share that was in flight.
    pub(super) fn settle(
        &mut self,
        in_flight: &InFlight,
        results: &[(RecipientIndex, RecipientOutcome)],
    ) {
        let slot = in_flight.share;
        let mut again = SmallVec::<[RecipientIndex; 8]>::new();
        let mut returned = SmallVec::<[RecipientIndex; 8]>::new();
        let sorted = results.is_sorted_by_key(|(recipient, _)| *recipient);
        let share = self.index.share(slot);
        // It was the link that broke, not the host.
        let shut = self.destinations[share.destination].way == Way::Shut;
        for &recipient in share.recipients.as_slice() {
            let found = if sorted {
                let place = results.binary_search_by_key(&recipient, |(other, _)| *other);
                place.ok().map(|place| results[place].1)
            } else {
                let mut all = results.iter();
                all.find(|(other, _)| *other == recipient).map(|(_, o)| *o)
            };
            match found.unwrap_or(RecipientOutcome::Interrupted) {
                RecipientOutcome::Interrupted if shut => returned.push(recipient),
                RecipientOutcome::Delivered | RecipientOutcome::Failed => {}
                RecipientOutcome::Deferred | RecipientOutcome::Interrupted => again.push(recipient),
                RecipientOutcome::Returned => returned.push(recipient),
            }
        }
        match (Recipients::new(&again), Recipients::new(&returned)) {
            (None, None) => self.end_share(slot),
            (Some(again), None) => self.try_later(in_flight, results, again),
            (None, Some(returned)) => self.put_back(slot, returned),
            (Some(again), Some(returned)) => {
                let (message, destination) = (share.message, share.destination);
                let (attempts, told) = (share.attempts, share.told);
                let other = self
                    .index
                    .add_share(message, destination, returned.clone(), attempts);
                self.index.share_mut(other).told = told;
                self.detours.inherit(other, slot);
                self.admit(other);
                self.put_back(other, returned);
                self.try_later(in_flight, results, again);
            }
        }
    }

    /// Not tried: ready again, unless its time is over.
    fn put_back(&mut self, slot: ShareSlot, recipients: Recipients) {
        self.index.share_mut(slot).recipients = recipients;
        if !self.end_if_over(slot) {
            self.set_clock(slot);
            self.make_ready(slot);
        }
    }

    /// Tried: deferred, unless its time or its tries are over.
    fn try_later(
        &mut self,
        in_flight: &InFlight,
        results: &[(RecipientIndex, RecipientOutcome)],
        recipients: Recipients,
    ) {
        let slot = in_flight.share;
        let share = self.index.share_mut(slot);
        share.recipients = recipients;
        share.attempts = share.attempts.saturating_add(1);
        if self.end_if_over(slot) {
            return;
        }
        if self.tries_are_over(slot) {
            self.expire(slot, ExpiryReason::Tries);
            return;
        }
        self.set_clock(slot);
        let pause = self.pause_for(in_flight, results);
        let share = self.index.share(slot);
        self.outputs.push_back(Output::Deferred {
            queue_id: self.index.message(share.message).queue_id,
            recipients: share.recipients.clone(),
            attempts: share.attempts,
            until: self.now.wall + pause,
            told: share.told,
        });
        self.defer_until(slot, self.now.instant + pause);
    }

    /// Deleted or expired while it was in flight.
    fn end_if_over(&mut self, slot: ShareSlot) -> bool {
        let message = self.index.message_of(slot);
        if message.hold == HoldState::Deleted {
            let (queue_id, share) = (message.queue_id, self.index.share(slot));
            self.outputs.push_back(Output::Deleted {
                queue_id,
                recipients: share.recipients.clone(),
            });
            self.end_share(slot);
            return true;
        }
        let (expires, reason) = self.expires(slot);
        if expires > self.now.wall {
            return false;
        }
        self.expire(slot, reason);
        true
    }

    /// A connection came to its end in good order: we quit, or the peer closed between
    /// two transactions. Jobs without an outcome are
    /// [`RecipientOutcome::Interrupted`].
    pub fn connection_closed(&mut self, now: Now, id: ConnectionId) {
        self.begin(now);
        let Some(connection) = self.connections.get(id.0) else {
            return;
        };
        // A peer that greets and goes away, each time, is not to be called at once
        // again and again.
        let hasty = !connection.proven
            && !self.stopping
            && !matches!(
                connection.state,
                ConnectionState::Quitting | ConnectionState::Idle
            );
        self.end_connection(id, if hasty { End::Failed } else { End::Good });
    }

    /// A connection failed, or could not be had.
    pub fn connection_failed(&mut self, now: Now, id: ConnectionId, how: ConnectionFailure) {
        self.begin(now);
        let Some(connection) = self.connections.get(id.0) else {
            return;
        };
        let end = match how {
            _ if connection.state == ConnectionState::Quitting => End::Good,
            _ if connection.since < self.destinations[connection.destination].asked_at => End::Good,
            ConnectionFailure::Unusable | ConnectionFailure::Busy => End::Failed,
            ConnectionFailure::Lost if connection.proven => End::Good,
            ConnectionFailure::Lost => End::Failed,
            ConnectionFailure::Resting { until, found } => End::Resting(until, found),
        };
        self.end_connection(id, end);
    }

    fn end_connection(&mut self, id: ConnectionId, end: End) {
        let jobs = self.connection_mut(id).jobs.clone();
        for job in jobs {
            let in_flight = self.jobs.remove(job.0).expect("a job in flight is there");
            if in_flight.large {
                self.large_done(id);
            }
            self.settle(&in_flight, &[]);
        }
        self.forget_idle(id);
        let connection = self
            .connections
            .remove(id.0)
            .expect("the connection that ends is there");
        let destination = &mut self.destinations[connection.destination];
        destination.connections -= 1;
        if matches!(
            connection.state,
            ConnectionState::Connecting | ConnectionState::Asked
        ) {
            destination.expectant -= 1;
        }
        // Without the link nobody can tell how the host is.
        let end = if destination.way == Way::Shut {
            End::Good
        } else {
            end
        };
        if let End::Resting(until, found) = end {
            self.rest(connection.destination, until, found);
        }
        if end == End::Failed {
            // A message that was tried has its attempt counted; the others are to have
            // theirs only if it was the destination that failed them all.
            self.failed(connection.destination, connection.taken == 0);
        }
        if let Some(permit) = connection.permit {
            let cores = self.permits.release(permit);
            // Also if nobody is registered: this core may have been told of a place by
            // a notice that is still on its way.
            self.look_again();
            self.free(cores);
        }
        self.reconsider(connection.destination);
    }

    /// A connection that was wanted is not to be opened now, through nobody's fault.
    pub(super) fn give_back(&mut self, id: ConnectionId) {
        self.end_connection(id, End::Good);
    }

    fn connection_mut(&mut self, id: ConnectionId) -> &mut super::Connection {
        self.connections
            .get_mut(id.0)
            .expect("a connection with jobs or in a call is there")
    }
}
