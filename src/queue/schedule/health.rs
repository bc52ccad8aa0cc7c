//! What the end of a job or of a connection shows of its destination: it grows, rests,
//! or is closed for a while.

use std::time::Duration;

use super::link::LINK_SETTLES_PAUSE;
use super::{Output, ReleaseEnd, Schedule};
use crate::queue::destination::{CONNECTIONS_FIRST, Gate, Health};
use crate::queue::index::DestinationId;
use crate::time::Instant;

/// Who found out that the hosts of a destination are dead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Found {
    /// This core, or nobody: they are in use.
    Here,
    /// Another core, since this one last looked.
    Elsewhere,
}

impl Schedule {
    /// How long something that has failed so often in a row rests, by the policy of a
    /// destination that found out.
    pub fn probe_pause(&mut self, destination: DestinationId, failures: u16) -> Duration {
        let (retry, settles) = match self.destinations.get(destination) {
            Some(destination) => (
                destination.policy.retry,
                self.settles(destination, self.now.instant),
            ),
            None => (self.policies.default.retry, false),
        };
        let pause = retry.probe_pause(failures, &mut self.jitter);
        if settles {
            pause.min(LINK_SETTLES_PAUSE)
        } else {
            pause
        }
    }

    /// The next hop takes mail.
    pub(super) fn succeeded(&mut self, id: DestinationId) {
        let now = self.now.instant;
        let destination = &mut self.destinations[id];
        let limit = destination.limit();
        destination.health = match destination.health {
            Health::Open { .. } if now < destination.no_growth_before => destination.health,
            Health::Open { allowed } => Health::Open {
                allowed: allowed.saturating_add(1).min(limit),
            },
            Health::Probing | Health::Closed { .. } => Health::Open {
                allowed: CONNECTIONS_FIRST.min(limit),
            },
        };
        if std::mem::take(&mut destination.failures) > 0 {
            self.outputs
                .push_back(Output::DestinationOpened { destination: id });
        }
        self.list_for_way_back(id);
        if let Gate::Released { failures } = &mut self.destinations[id].gate {
            *failures = 0;
        }
    }

    /// The hosts of this destination are not to be tried before a time.
    pub(super) fn rest(&mut self, id: DestinationId, until: Instant, found: Found) {
        let destination = &mut self.destinations[id];
        if destination.connections == 0 {
            destination.health = Health::Closed { until };
            // Each failure once: the core that has the probe counts its own.
            let is_news = found == Found::Elsewhere && destination.dead_until != until;
            if is_news {
                destination.dead_until = until;
            }
            self.start_fallback(id);
            if is_news {
                self.count_release_failure(id);
            }
        } else {
            if let Health::Open { allowed } = &mut destination.health {
                *allowed = destination.connections.min(*allowed).max(1);
            }
            destination.no_growth_before = destination.no_growth_before.max(until);
        }
    }

    /// A connection to this destination failed. While others are open it is they who
    /// show how many it takes; with the last it is closed for a while.
    pub(super) fn failed(&mut self, id: DestinationId, is_attempt_for_all: bool) {
        let now = self.now;
        let destination = &mut self.destinations[id];
        if destination.connections > 0 {
            if let Health::Open { allowed } = &mut destination.health {
                *allowed = destination.connections.min(*allowed).max(1);
            }
            // Else the next success would try one more at once, and so on.
            let pause = destination.policy.retry.probe_pause(1, &mut self.jitter);
            destination.no_growth_before = now.instant + pause;
            return;
        }
        destination.failures = destination.failures.saturating_add(1);
        let failures = destination.failures;
        let retry = destination.policy.retry;
        let pause = self.probe_pause(id, failures);
        // It may be the link: such a try does not count for what has a number of them.
        let settles = self.settles(&self.destinations[id], now.instant);
        let destination = &mut self.destinations[id];
        destination.health = Health::Closed {
            until: now.instant + pause,
        };
        self.outputs.push_back(Output::DestinationClosed {
            destination: id,
            failures,
            until: now.wall + pause,
        });
        if is_attempt_for_all && !settles && destination.policy.windows.is_none() {
            destination.failures_total = destination.failures_total.wrapping_add(1);
            if retry.tries().is_some() {
                self.start_sweep(id);
            }
        }
        self.start_fallback(id);
        self.count_release_failure(id);
    }

    /// A released site could not be reached, whichever core found out.
    fn count_release_failure(&mut self, id: DestinationId) {
        let destination = &mut self.destinations[id];
        if let Gate::Released { failures } = &mut destination.gate {
            *failures += 1;
            if *failures >= destination.policy.release_failures_max {
                self.end_release(id, ReleaseEnd::Unreachable);
            }
        }
    }
}
