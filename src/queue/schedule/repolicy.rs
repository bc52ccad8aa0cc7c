//! New policies for mail that waits, after a reload.
//!
//! There may be ten thousand destinations and a million messages, and all of them wait
//! while one core looks at them. So it is done in steps of the schedule, between which
//! others are served: first each destination gets its policy; then, if that of any of them
//! is another one than before, each message its clock.
//!
//! What this module does not do: a destination that is made meanwhile has the new policy
//! from the start.

use std::sync::Arc;

use super::Schedule;
use crate::mail::Priority;
use crate::queue::index::DestinationId;
use crate::queue::usage::Arrived;

/// Destinations of one step.
const REPOLICY_STEP: u32 = 16;

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repolicy {
    /// The place of the next destination.
    next: u32,
    /// Some had another policy, in this round or in one that a newer configuration cut off.
    changed: bool,
}

impl Repolicy {
    /// From the beginning, whatever another one had done.
    pub(super) fn again(before: Option<Self>) -> Self {
        Self {
            next: 0,
            changed: before.is_some_and(|before| before.changed),
        }
    }
}

impl Schedule {
    /// Some destinations after a reload.
    pub(super) fn step_repolicy(&mut self) -> bool {
        let Some(Repolicy { next, mut changed }) = self.repolicy else {
            return false;
        };
        let end = next.saturating_add(REPOLICY_STEP);
        for place in next..end {
            let id = DestinationId(place);
            if self.destinations.get(id).is_some() {
                changed |= self.repolicy(id);
                self.reconsider(id);
            }
        }
        // Each is as much as another step.
        self.portion_left = self.portion_left.saturating_sub(REPOLICY_STEP);
        if end < self.destinations.places() {
            self.repolicy = Some(Repolicy { next: end, changed });
            return true;
        }
        self.repolicy = None;
        // Another core that was sooner has struck out who waits by the old limits.
        self.look_again();
        if changed {
            self.reclock_after = Some(None);
        }
        true
    }

    /// True if it had another policy.
    fn repolicy(&mut self, id: DestinationId) -> bool {
        let destination = &mut self.destinations[id];
        let policy = self.policies.get(&destination.next_hop);
        let changed = **policy != *destination.policy;
        destination.policy = Arc::clone(policy);
        // A customer that is gone is counted on: it may come back before its mail goes.
        if destination.usage.is_none()
            && let Some(usage) = self.policies.usage(&destination.next_hop)
        {
            if destination.shares > 0 {
                usage.add(Arrived {
                    messages: destination.shares.into(),
                    octets: destination.octets,
                    // Of mail that came before its customer did, no more is known.
                    oldest: self.now.wall,
                    priority: Priority::MIN,
                });
            }
            destination.usage = Some(Arc::clone(usage));
        }
        changed
    }
}
