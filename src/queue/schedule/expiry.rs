//! The clocks of a share: the warning that it is late, and its end.
//!
//! They run on the wall clock, since a message's age must survive a restart. A share
//! has one entry in the clock, for whichever comes next. Where the wall clock is set,
//! nothing is older by that ([`ageing`](crate::queue::ageing)).

use std::ops::Bound;
use std::time::Duration;

use super::{Output, Schedule, Sweep};
use crate::mail::DeliverByMode;
use crate::mail::QueueId;
use crate::queue::Entry;
use crate::queue::ageing::moved;
use crate::queue::destination::{Destination, Turn};
use crate::queue::index::{DestinationId, NO_CLOCK, ShareSlot, ShareState};
use crate::roster::{Keyed, Roster};
use crate::time::{Now, WallTime};
use spool_format::Told;

/// Why recipients were given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExpiryReason {
    /// Too old for the policy: 5.4.7.
    Age,
    /// The sender's deadline (RFC 2852 `R`): 5.4.7.
    Deadline,
    /// Tried often enough.
    Tries,
}

/// Whether recipients whose time is over are given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GivesUp {
    /// As they come.
    Now,
    /// Not before what waits to be told is told.
    Later,
}

/// The wall clock was set against the monotonic one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockWasSet {
    /// By how many milliseconds, forward or backward.
    pub by: i64,
    /// For [`Schedule::found_before`] in the next life: the core whose mail it is about, and
    /// what is to be noted of that.
    pub notes: Vec<(u8, Vec<u8>)>,
}

/// The sets of a destination that a sweep goes through, in this order. What an
/// operator stopped is not being tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SweepSet {
    Small,
    Large,
    Deferred,
    Released,
}

/// When the clock looks at a share, in seconds of [`WallTime`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Tick {
    pub(super) second: u32,
    pub(super) share: ShareSlot,
}

impl Tick {
    pub(super) const fn new(second: u32, share: ShareSlot) -> Self {
        Self { second, share }
    }
}

impl Keyed for Tick {
    type Key = Self;

    fn key(&self) -> Self {
        *self
    }
}

/// Shares that one step of bulk work looks at.
const SWEEP_STEP: usize = 64;

impl SweepSet {
    fn of(self, destination: &Destination) -> &Roster<Turn> {
        match self {
            Self::Small => &destination.small,
            Self::Large => &destination.large,
            Self::Deferred => &destination.deferred,
            Self::Released => &destination.released,
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Small => Some(Self::Large),
            Self::Large => Some(Self::Deferred),
            Self::Deferred => Some(Self::Released),
            Self::Released => None,
        }
    }
}

impl Schedule {
    /// What was found at the start has ids before `first`; what earlier lives noted of the
    /// clock, and of whose mail. Before anything is filed.
    pub fn found_before<'a>(
        &mut self,
        first: QueueId,
        notes: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) {
        self.ageing.found_before(first);
        for (core, note) in notes {
            self.ageing.recall(core, note);
        }
    }

    /// Looks whether the clock was set: before anything that this reading is used for. The
    /// next message will be `next`.
    pub fn look_at_clock(&mut self, now: Now, next: QueueId) -> Option<ClockWasSet> {
        let by = self.ageing.look(now)?;
        self.begin(now);
        let mut cores = Vec::new();
        let mut after = None;
        while let Some(entry) = self.index.iter(after).next() {
            let core = entry.queue_id().core();
            cores.push(core);
            after = Some(QueueId::new(core, (1 << 56) - 1));
        }
        let notes = self.ageing.set(by, next, cores);
        self.reclock_after = Some(None);
        Some(ClockWasSet { by, notes })
    }

    /// From when on the age of a message counts, by the clock as it is now.
    #[must_use]
    pub fn age_begins(&self, entry: &Entry<'_>) -> WallTime {
        let later = self.ageing.later(entry.queue_id(), entry.arrival());
        entry.age_begins(later)
    }

    /// When the time ends that the sender has set a message (RFC 2852), by the clock as it
    /// is now.
    #[must_use]
    pub fn time_ends(&self, queue_id: QueueId) -> Option<WallTime> {
        let entry = self.index.get(queue_id)?;
        let later = self.ageing.later(queue_id, entry.arrival());
        entry.deadline().map(|(deadline, _)| moved(deadline, later))
    }

    /// When a share is given up.
    pub(super) fn expires(&self, slot: ShareSlot) -> (WallTime, ExpiryReason) {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        let policy = &self.destinations[share.destination].policy;
        let later = self.ageing.later(message.queue_id, message.arrival);
        let age = message.age_begins(later) + policy.retry.give_up();
        match message.deadline() {
            // RFC 2852 counts it from the arrival.
            Some((deadline, DeliverByMode::Return)) if moved(deadline, later) < age => {
                (moved(deadline, later), ExpiryReason::Deadline)
            }
            _ => (age, ExpiryReason::Age),
        }
    }

    /// When the sender is to be told something, if there is anything left to tell.
    fn warning(&self, slot: ShareSlot) -> Option<(WallTime, Told)> {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        let policy = &self.destinations[share.destination].policy;
        let later = self.ageing.later(message.queue_id, message.arrival);
        let delay = policy
            .warn
            .filter(|_| !share.told.contains(Told::DELAY))
            .map(|age| (message.age_begins(later) + age, Told::DELAY));
        let deadline = message
            .deadline()
            .filter(|(_, mode)| *mode == DeliverByMode::Notify)
            .filter(|_| !share.told.contains(Told::DEADLINE))
            .map(|(deadline, _)| (moved(deadline, later), Told::DEADLINE));
        [delay, deadline]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// The moment that its sender wants a share to wait for, if that is to come: how long that
    /// is, is known only as long as nobody sets the clock.
    fn moment(&self, slot: ShareSlot) -> Option<WallTime> {
        let moment = self.index.message_of(slot).moment();
        moment.filter(|at| *at > self.now.wall)
    }

    /// When the clock is to look at a share.
    pub(super) fn clock_second(&self, slot: ShareSlot) -> u32 {
        let (expires, _) = self.expires(slot);
        let warning = self.warning(slot).map(|(at, _)| at);
        let next = warning.into_iter().chain(self.moment(slot)).min();
        second_after(next.map_or(expires, |next| next.min(expires)))
    }

    /// Enters a share in the clock.
    pub(super) fn set_clock(&mut self, slot: ShareSlot) {
        let second = self.clock_second(slot);
        let share = self.index.share_mut(slot);
        let before = std::mem::replace(&mut share.clock_second, second);
        if before == second {
            return;
        }
        if before != NO_CLOCK {
            self.clock.remove(Tick::new(before, slot));
        }
        self.clock.insert(Tick::new(second, slot));
    }

    pub(super) fn clear_clock(&mut self, slot: ShareSlot) {
        let share = self.index.share_mut(slot);
        let before = std::mem::replace(&mut share.clock_second, NO_CLOCK);
        if before != NO_CLOCK {
            self.clock.remove(Tick::new(before, slot));
        }
    }

    /// One share whose time has come.
    pub(super) fn step_clock(&mut self) -> bool {
        let Some(&Tick {
            second,
            share: slot,
        }) = self.clock.first()
        else {
            return false;
        };
        if i64::from(second) > self.now.wall.as_seconds() {
            return false;
        }
        let (expires, reason) = self.expires(slot);
        if expires <= self.now.wall {
            self.clear_clock(slot);
            let share = self.index.share(slot);
            let destination = share.destination;
            // What is on the wire is asked again when it comes back.
            if share.state != ShareState::InFlight {
                self.unlink(slot);
                self.expire(slot, reason);
                self.reconsider(destination);
            }
            return true;
        }
        self.end_wait(slot);
        if let Some((at, what)) = self.warning(slot)
            && at <= self.now.wall
        {
            let share = self.index.share_mut(slot);
            share.told = share.told.and(what);
            let (destination, recipients) = (share.destination, share.recipients.clone());
            let (told, attempts) = (share.told, share.attempts);
            let until = match share.state {
                ShareState::Deferred => self.now.wall + share.due.since(self.now.instant),
                ShareState::Ready | ShareState::InFlight | ShareState::Held => self.now.wall,
            };
            let message = self.index.message_of(slot);
            self.outputs.push_back(Output::Warn {
                queue_id: message.queue_id,
                location: message.location,
                destination,
                recipients,
                what,
                told,
                attempts,
                until,
                expires,
            });
        }
        self.set_clock(slot);
        true
    }

    /// The moment that its sender named has come, before its time by the clock as it was.
    fn end_wait(&mut self, slot: ShareSlot) {
        let share = self.index.share(slot);
        let waits = share.state == ShareState::Deferred
            && share.attempts == 0
            && share.due > self.now.instant;
        let moment = self.index.message_of(slot).moment();
        if waits && moment.is_some_and(|at| at <= self.now.wall) {
            let destination = share.destination;
            self.unlink(slot);
            self.make_ready(slot);
            self.reconsider(destination);
        }
    }

    /// Gives up a share that stands nowhere.
    pub(super) fn expire(&mut self, slot: ShareSlot, reason: ExpiryReason) {
        let share = self.index.share(slot);
        let message = self.index.message(share.message);
        self.outputs.push_back(Output::Expired {
            queue_id: message.queue_id,
            location: message.location,
            destination: share.destination,
            recipients: share.recipients.clone(),
            reason,
        });
        self.end_share(slot);
    }

    /// Whether attempts are counted and this share has had all of them: its own, and
    /// the failures of its destination since it came. Where windows are counted, an
    /// attempt of its own shows that the window was none that was missed.
    pub(super) fn tries_are_over(&self, slot: ShareSlot) -> bool {
        let share = self.index.share(slot);
        let destination = &self.destinations[share.destination];
        let failures = destination.failures_total.wrapping_sub(share.failures_seen);
        let attempts = match destination.policy.windows {
            Some(_) => 0,
            None => u32::from(share.attempts),
        };
        (destination.policy)
            .misses_max()
            .is_some_and(|max| failures.saturating_add(attempts) >= max)
    }

    /// A failure was an attempt for everything that waits at a destination.
    pub(super) fn start_sweep(&mut self, destination: DestinationId) {
        // One that is still going on starts again from the beginning.
        self.sweeps.retain(|sweep| sweep.destination != destination);
        self.sweeps.push_back(Sweep {
            destination,
            set: SweepSet::Small,
            after: None,
        });
    }

    /// Some shares of the first sweep.
    pub(super) fn step_sweep(&mut self) -> bool {
        let Some(mut sweep) = self.sweeps.pop_front() else {
            return false;
        };
        let id = sweep.destination;
        // Gone, and perhaps another in its place: for that one it finds nothing to do.
        let Some(destination) = self.destinations.get(id) else {
            return true;
        };
        let from = sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        let turns: Vec<Turn> = sweep
            .set
            .of(destination)
            .range(from)
            .take(SWEEP_STEP)
            .copied()
            .collect();
        for turn in &turns {
            if self.tries_are_over(turn.share) {
                self.unlink(turn.share);
                self.expire(turn.share, ExpiryReason::Tries);
            }
        }
        match (turns.last(), sweep.set.next()) {
            (Some(last), _) => sweep.after = Some(*last),
            (None, Some(set)) => (sweep.set, sweep.after) = (set, None),
            (None, None) => {
                if let Some(end) = self.destinations[id].ending.take() {
                    self.outputs.push_back(Output::ReleaseEnded {
                        destination: id,
                        end,
                    });
                }
                self.reconsider(id);
                return true;
            }
        }
        self.sweeps.push_front(sweep);
        true
    }

    /// Some messages after a change of policy.
    pub(super) fn step_reclock(&mut self) -> bool {
        let Some(after) = self.reclock_after else {
            return false;
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.index.slots(from, SWEEP_STEP);
        let Some((last, _)) = slots.last() else {
            self.reclock_after = None;
            return true;
        };
        self.reclock_after = Some(Some(*last));
        // Each message is as much as another step, and there may be a million.
        self.portion_left = self.portion_left.saturating_sub(slots.len() as u32);
        for (_, message) in slots {
            for share in self.index.shares_of(message) {
                if self.index.share(share).clock_second != NO_CLOCK {
                    self.set_clock(share);
                }
            }
        }
        true
    }
}

/// The first second that is not before `time`; the year 2106 stands for all after it.
fn second_after(time: WallTime) -> u32 {
    let seconds = (time + Duration::from_millis(999)).as_seconds();
    u32::try_from(seconds.max(0)).map_or(NO_CLOCK - 1, |second| second.min(NO_CLOCK - 1))
}
