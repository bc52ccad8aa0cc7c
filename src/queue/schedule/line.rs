//! Who waits for a permit, and who makes room: the line of destinations that want a
//! connection, and the connections that have no work.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Connection, ConnectionId, ConnectionState, Output, Schedule};
use crate::queue::destination::{Health, Want};
use crate::queue::index::DestinationId;
use crate::queue::permits::{CoreSet, DestinationKey, Limit};
use crate::time::{Instant, Now};

/// Who waits for permits.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Destinations in turn.
    pub(super) queued: VecDeque<DestinationId>,
    /// Refused by the limit of the destination.
    pub(super) blocked: Vec<DestinationId>,
    /// Have large messages only, and too many of those are on the way.
    pub(super) large_blocked: Vec<DestinationId>,
    /// The total was full when last asked.
    pub(super) full: bool,
    /// Another core goes first.
    pub(super) not_before: Instant,
}

impl Schedule {
    /// One destination in line for a permit.
    pub(super) fn step_line(&mut self) -> bool {
        if self.stopping || self.line.full || self.now.instant < self.line.not_before {
            return false;
        }
        let Some(id) = self.line.queued.pop_front() else {
            return false;
        };
        let now = self.now.instant;
        let destination = &mut self.destinations[id];
        destination.want = Want::Nothing;
        if !destination.wants_connection(now) {
            self.arm(id);
            return true;
        }
        let (key, limit) = (destination.key, destination.limit());
        let permit = if destination.next_hop.is_remote() {
            let permit = match destination.health {
                Health::Probing => self.permits.try_probe(self.core, key, limit),
                Health::Open { .. } | Health::Closed { .. } => {
                    self.permits.try_acquire(self.core, key, limit)
                }
            };
            match permit {
                Ok(permit) => Some(permit),
                Err(denied) => {
                    self.refused(id, denied.limit);
                    self.free(denied.notify);
                    return true;
                }
            }
        } else {
            None
        };
        destination.connections += 1;
        destination.expectant += 1;
        if destination.wants_connection(now) {
            destination.want = Want::Queued;
            self.line.queued.push_back(id);
        }
        let connection = ConnectionId(self.connections.insert(Connection {
            destination: id,
            permit,
            state: ConnectionState::Connecting,
            jobs: SmallVec::new(),
            large_jobs: 0,
            large_permit: false,
            taken: 0,
            proven: false,
            since: now,
            idle_since: now,
            idle_listed: false,
        }));
        self.outputs.push_back(Output::Connect {
            connection,
            destination: id,
        });
        true
    }

    /// No permit for the destination at the head of the line.
    pub(super) fn refused(&mut self, id: DestinationId, limit: Limit) {
        let destination = &mut self.destinations[id];
        let key = match limit {
            Limit::Destination => {
                destination.want = Want::Blocked;
                self.line.blocked.push(id);
                Some(destination.key)
            }
            Limit::Probes => {
                destination.want = Want::Blocked;
                self.line.blocked.push(id);
                return;
            }
            Limit::Total => {
                destination.want = Want::Queued;
                self.line.queued.push_front(id);
                self.line.full = true;
                None
            }
        };
        if !self.quit_one_idle(key) {
            self.outputs.push_back(Output::PermitWanted { key });
        }
    }

    /// How often a destination has failed in a row.
    #[must_use]
    pub fn failures(&self, id: DestinationId) -> u16 {
        (self.destinations.get(id)).map_or(0, |destination| destination.failures)
    }

    /// Whether mail for another destination waits for the place of this connection.
    #[must_use]
    pub fn is_wanted_by_others(&self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get(id.0) else {
            return false;
        };
        let Some(permit) = &connection.permit else {
            return false;
        };
        let key = self.destinations[connection.destination].key;
        // Those who get the places that have just become free need no other.
        let free = usize::from(self.permits.free());
        let is_other = |id: &&DestinationId| self.destinations[**id].key != key;
        let here = self.line.queued.iter().filter(is_other).nth(free).is_some();
        here || self.permits.is_wanted_elsewhere(self.core, permit)
    }

    /// Tells who waits, this core included.
    pub(super) fn free(&mut self, cores: CoreSet) {
        if cores.is_empty() {
            return;
        }
        if cores.contains(self.core) {
            self.look_again();
        }
        self.outputs.push_back(Output::PermitsFreed { cores });
    }

    /// Everybody who was refused gets in line again, behind those who are.
    pub(super) fn look_again(&mut self) {
        self.line.full = false;
        for id in std::mem::take(&mut self.line.blocked) {
            self.destinations[id].want = Want::Queued;
            self.line.queued.push_back(id);
        }
        for id in std::mem::take(&mut self.line.large_blocked) {
            // It may have gone meanwhile, and its number been given again.
            if self.destinations.get(id).is_some() {
                self.destinations[id].large_blocked = false;
                self.reconsider(id);
            }
        }
    }

    /// Makes room: the connection that has been idle longest, of those to `key` if one
    /// is given.
    pub(super) fn quit_one_idle(&mut self, key: Option<DestinationKey>) -> bool {
        let found = self.idle.iter().find(|(_, id)| {
            self.connections.get(id.0).is_some_and(|connection| {
                connection.state == ConnectionState::Idle
                    && connection.permit.is_some()
                    && key.is_none_or(|key| self.destinations[connection.destination].key == key)
            })
        });
        let Some(&(_, id)) = found else {
            return false;
        };
        self.forget_idle(id);
        self.quit(id);
        true
    }

    /// Takes a connection from the idle ones of its destination.
    pub(super) fn forget_idle(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id.0) {
            let idle = &mut self.destinations[connection.destination].idle;
            idle.retain(|other| *other != id.0);
        }
    }

    pub(super) fn quit(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.state = ConnectionState::Quitting;
            self.outputs.push_back(Output::Quit { connection: id });
        }
    }

    /// A session in which all jobs have their outcome is to end by our own will.
    pub fn leaves(&mut self, now: Now, id: ConnectionId) {
        self.begin(now);
        self.forget_idle(id);
        if let Some(connection) = self.connections.get_mut(id.0)
            && !matches!(
                connection.state,
                ConnectionState::Connecting | ConnectionState::Asked
            )
        {
            connection.state = ConnectionState::Quitting;
        }
    }

    /// One connection that was without work for long enough.
    pub(super) fn step_idle(&mut self) -> bool {
        let Some(&(since, id)) = self.idle.front() else {
            return false;
        };
        if since + self.idle_timeout > self.now.instant {
            return false;
        }
        self.idle.pop_front();
        let Some(connection) = self.connections.get_mut(id.0) else {
            return true;
        };
        connection.idle_listed = false;
        let unused = match connection.state {
            ConnectionState::Idle => true,
            ConnectionState::Working => connection.jobs.is_empty() && connection.taken > 0,
            _ => false,
        };
        if !unused {
            return true;
        }
        if connection.idle_since > since {
            // It had work meanwhile: to its new place in the order.
            connection.idle_listed = true;
            let since = connection.idle_since;
            let place = self.idle.partition_point(|(other, _)| *other <= since);
            self.idle.insert(place, (since, id));
        } else {
            self.forget_idle(id);
            self.quit(id);
        }
        true
    }
}
