//! What is to be done with the messages of a mailbox: from what is there, what is known
//! of it, and what the operator wants.
//!
//! A plan is made once a session, and does not wait for anything. Invariant: a message
//! is deleted by a plan only if it is known to be collected.

use std::time::Duration;

use super::listing::Entry;
use super::memory::{Deed, Known};
use crate::time::WallTime;

/// What is done with a message that is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oversize {
    /// The user is told, with the header; it stays.
    Notice,
    /// It stays.
    Skip,
    /// It stays until a session may collect large messages.
    Window,
}

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// How long a message stays on the server after it was collected.
    pub keep: Duration,
    /// Above this size it is too large. `None`: none is.
    pub size_max: Option<u64>,
    /// What is done then.
    pub oversize: Oversize,
    /// Above this size it is never collected: the spool takes none that is larger.
    pub message_bytes_max: u64,
}

/// Whether this session may collect messages that are too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Large {
    /// It may.
    Collected,
    /// It may not.
    Left,
}

/// What is to be done with one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Delete it: it was collected.
    Delete(Entry),
    /// Tell the user that it is there.
    Notice(Entry),
    /// Collect it.
    Collect(Entry),
}

/// What is to be done in a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// In this order: first what makes room, small ones first, so that a line that
    /// breaks has brought many.
    pub tasks: Vec<Task>,
    /// Messages that stay since they are too large, go in circles, or have no unique-id
    /// and would have to be kept.
    pub left: u32,
    /// Messages that stay for a while though they were collected.
    pub kept: u32,
}

impl Policy {
    /// The plan for what is there. `known` says what was done with a message; messages
    /// without a unique-id are never known before they are there.
    #[must_use]
    pub fn plan(
        &self,
        now: WallTime,
        large: Large,
        entries: Vec<Entry>,
        known: impl Fn(&Entry) -> Option<Known>,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut collect = Vec::new();
        let mut notices = Vec::new();
        for entry in entries {
            let known = known(&entry);
            // Without a unique-id it would be collected anew in each session.
            if entry.uid.is_none() && !self.keep.is_zero() {
                plan.left += 1;
                continue;
            }
            match known.map(|known| (known.deed, known.at)) {
                Some((Deed::Collected, at)) if self.may_go(now, at) => {
                    plan.tasks.push(Task::Delete(entry));
                }
                Some((Deed::Collected, _)) => plan.kept += 1,
                Some((Deed::Looping, _)) => plan.left += 1,
                Some((Deed::Noticed, _)) | None if self.fits(&entry, large) => collect.push(entry),
                None if self.oversize == Oversize::Notice && entry.uid.is_some() => {
                    notices.push(entry);
                }
                Some((Deed::Noticed, _)) | None => plan.left += 1,
            }
        }
        collect.sort_by_key(|entry| (entry.octets, entry.number));
        plan.tasks.extend(notices.into_iter().map(Task::Notice));
        plan.tasks.extend(collect.into_iter().map(Task::Collect));
        plan
    }

    /// Whether a message that was collected at that time is to be deleted.
    #[must_use]
    pub fn may_go(&self, now: WallTime, collected: WallTime) -> bool {
        // A clock that was set back must not delete early, nor keep for ever.
        now.since(collected) >= self.keep
    }

    fn fits(&self, entry: &Entry, large: Large) -> bool {
        let wanted = match self.size_max {
            Some(size_max) => entry.octets <= size_max || large == Large::Collected,
            None => true,
        };
        wanted && entry.octets <= self.message_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pop3::{MessageNumber, Uid};

    const DAY: Duration = Duration::from_secs(86_400);

    /// A day and an hour after the start of time.
    const NOW: WallTime = WallTime::from_millis(25 * 3_600_000);

    const POLICY: Policy = Policy {
        keep: Duration::ZERO,
        size_max: Some(100),
        oversize: Oversize::Notice,
        message_bytes_max: 1000,
    };

    /// Entries: octets, and the deed with the hour in which it was done. The plan: a
    /// letter and a number each.
    #[track_caller]
    fn check(policy: Policy, large: Large, entries: &[(u64, Option<(Deed, i64)>)], expected: &str) {
        let listed: Vec<_> = (1..)
            .zip(entries)
            .map(|(number, (octets, _))| Entry {
                number: MessageNumber(number),
                octets: *octets,
                uid: Uid::new(format!("u{number}").as_bytes()),
            })
            .collect();
        let known = |entry: &Entry| {
            let (_, known) = &entries[entry.number.0 as usize - 1];
            known.map(|(deed, hour)| Known {
                deed,
                at: WallTime::from_millis(hour * 3_600_000),
            })
        };
        let plan = policy.plan(NOW, large, listed, known);
        let mut got: Vec<String> = plan
            .tasks
            .iter()
            .map(|task| match task {
                Task::Delete(entry) => format!("d{}", entry.number),
                Task::Notice(entry) => format!("n{}", entry.number),
                Task::Collect(entry) => format!("c{}", entry.number),
            })
            .collect();
        got.push(format!("left {} kept {}", plan.left, plan.kept));
        assert_eq!(got.join(" "), expected);
    }

    #[test]
    fn plans() {
        use Deed::{Collected, Looping, Noticed};
        let left = Large::Left;
        check(POLICY, left, &[], "left 0 kept 0");
        // Small ones first; a large one is told of.
        let mixed = [(90, None), (500, None), (10, None), (10, None)];
        check(POLICY, left, &mixed, "n2 c3 c4 c1 left 0 kept 0");
        check(
            POLICY,
            Large::Collected,
            &mixed,
            "c3 c4 c1 c2 left 0 kept 0",
        );
        let window = Policy {
            oversize: Oversize::Window,
            ..POLICY
        };
        check(window, left, &mixed, "c3 c4 c1 left 1 kept 0");
        check(
            window,
            Large::Collected,
            &mixed,
            "c3 c4 c1 c2 left 0 kept 0",
        );
        let skip = Policy {
            oversize: Oversize::Skip,
            ..POLICY
        };
        check(skip, left, &mixed, "c3 c4 c1 left 1 kept 0");
        // Never more than the spool takes.
        check(skip, Large::Collected, &[(1001, None)], "left 1 kept 0");
        // What was collected goes at once, or when its time has come.
        let known = [
            (10, Some((Collected, 0))),
            (10, Some((Collected, 2))),
            (500, Some((Noticed, 2))),
            (10, Some((Looping, 2))),
        ];
        check(POLICY, left, &known, "d1 d2 left 2 kept 0");
        let keep = Policy {
            keep: DAY,
            ..POLICY
        };
        check(keep, left, &known, "d1 left 2 kept 1");
        // It was told of, and may be collected now.
        let no_limit = Policy {
            size_max: None,
            ..POLICY
        };
        check(no_limit, left, &known, "d1 d2 c3 left 1 kept 0");
        // A clock that was set back.
        let future = [(10, Some((Collected, 99)))];
        check(keep, left, &future, "left 0 kept 1");
        check(POLICY, left, &future, "d1 left 0 kept 0");
    }
}
