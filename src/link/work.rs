//! What there is to do for a link, and when that is a reason to go on line.

use std::time::Duration;

use crate::time::WallTime;

/// What waits for a link or goes over it. Of one data core, or of all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Messages that could go at once if the link were up. Not those that wait for the
    /// time of their next attempt: a host that says "later" must not be called at once
    /// again.
    pub ready: u64,
    /// Octets of those.
    pub ready_octets: u64,
    /// When the oldest of those arrived.
    pub oldest: Option<WallTime>,
    /// The highest priority (RFC 6710) of those.
    pub priority: Option<i8>,
    /// All messages that need the link, at whatever time.
    pub waiting: u64,
    /// Octets of those.
    pub waiting_octets: u64,
    /// Messages that are being sent.
    pub in_flight: u64,
    /// Sessions of clients that came over the link.
    pub sessions: u64,
    /// Sessions of ours over the link in which mail is fetched or asked for.
    pub fetches: u64,
    /// Messages that went over the link since the start.
    pub sent: u64,
    /// Octets of those.
    pub sent_octets: u64,
    /// Messages that came over the link since the start, and are in the spool.
    pub received: u64,
    /// Octets of those.
    pub received_octets: u64,
}

impl Work {
    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ready: self.ready + other.ready,
            ready_octets: self.ready_octets + other.ready_octets,
            oldest: [self.oldest, other.oldest].into_iter().flatten().min(),
            priority: self.priority.max(other.priority),
            waiting: self.waiting + other.waiting,
            waiting_octets: self.waiting_octets + other.waiting_octets,
            in_flight: self.in_flight + other.in_flight,
            sessions: self.sessions + other.sessions,
            fetches: self.fetches + other.fetches,
            sent: self.sent + other.sent,
            sent_octets: self.sent_octets + other.sent_octets,
            received: self.received + other.received,
            received_octets: self.received_octets + other.received_octets,
        }
    }

    /// Whether something goes over the link, or is about to.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        self.ready > 0 || self.in_flight > 0 || self.sessions > 0 || self.fetches > 0
    }
}

/// What makes a link come up besides the schedule. Each alone is enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GoUp {
    /// So many messages wait.
    pub messages: Option<u64>,
    /// So many octets wait.
    pub octets: Option<u64>,
    /// The oldest has waited so long.
    pub age: Option<Duration>,
    /// One of at least this priority is there.
    pub priority: Option<i8>,
}

/// Why a link is to come up, or did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// So many messages wait.
    Messages(u64),
    /// So many octets wait.
    Octets(u64),
    /// The oldest message has waited so long.
    Age(Duration),
    /// A message of this priority is there.
    Priority(i8),
    /// A row of the schedule.
    Schedule,
    /// A collector is due.
    Collector,
    /// The operator.
    ByHand,
    /// It was there: somebody else opened it, or it is always there.
    WasThere,
    /// We opened it, and the server ended without a stop, or could not hang up.
    LeftOpen,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Messages(1) => write!(f, "1 message waits"),
            Self::Messages(n) => write!(f, "{n} messages wait"),
            Self::Octets(n) => write!(f, "{n} octets wait"),
            Self::Age(age) => write!(f, "the oldest message has waited {} s", age.as_secs()),
            Self::Priority(priority) => write!(f, "a message of priority {priority} is there"),
            Self::Schedule => write!(f, "by schedule"),
            Self::Collector => write!(f, "a collector is due"),
            Self::ByHand => write!(f, "by the operator"),
            Self::WasThere => write!(f, "it was there"),
            Self::LeftOpen => write!(f, "we opened it earlier, and it was not hung up"),
        }
    }
}

impl GoUp {
    /// The reason to go up now, if there is one.
    #[must_use]
    pub fn reason(&self, now: WallTime, work: &Work) -> Option<Reason> {
        if work.ready == 0 {
            return None;
        }
        let at_least = |limit: Option<u64>, n: u64| limit.is_some_and(|limit| n >= limit);
        if let Some((limit, priority)) = self.priority.zip(work.priority)
            && priority >= limit
        {
            return Some(Reason::Priority(priority));
        }
        if at_least(self.messages, work.ready) {
            return Some(Reason::Messages(work.ready));
        }
        if at_least(self.octets, work.ready_octets) {
            return Some(Reason::Octets(work.ready_octets));
        }
        let age = now.since(work.oldest?);
        (age >= self.age?).then_some(Reason::Age(age))
    }

    /// When the age of what waits will be a reason.
    #[must_use]
    pub fn due(&self, work: &Work) -> Option<WallTime> {
        if work.ready == 0 {
            return None;
        }
        Some(work.oldest? + self.age?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_alone_is_enough() {
        let work = Work {
            ready: 5,
            ready_octets: 1000,
            oldest: Some(WallTime::from_millis(100_000)),
            priority: Some(2),
            waiting: 50,
            waiting_octets: 99_999,
            ..Work::default()
        };
        let now = WallTime::from_millis(160_000);
        let check = |go_up: GoUp, expected: Option<Reason>| {
            assert_eq!(go_up.reason(now, &work), expected, "{go_up:?}");
            assert_eq!(go_up.reason(now, &Work { ready: 0, ..work }), None);
        };
        let none = GoUp::default();
        check(none, None);
        let messages = |n| GoUp {
            messages: Some(n),
            ..none
        };
        check(messages(5), Some(Reason::Messages(5)));
        check(messages(6), None);
        let octets = |n| GoUp {
            octets: Some(n),
            ..none
        };
        check(octets(1000), Some(Reason::Octets(1000)));
        check(octets(1001), None);
        let age = |seconds| GoUp {
            age: Some(Duration::from_secs(seconds)),
            ..none
        };
        check(age(60), Some(Reason::Age(Duration::from_secs(60))));
        check(age(61), None);
        assert_eq!(age(61).due(&work), Some(WallTime::from_millis(161_000)));
        let priority = |n| GoUp {
            priority: Some(n),
            ..none
        };
        check(priority(2), Some(Reason::Priority(2)));
        check(priority(3), None);
        check(
            GoUp {
                messages: Some(6),
                ..octets(1)
            },
            Some(Reason::Octets(1000)),
        );
    }

    #[test]
    fn the_work_of_two_cores() {
        let one = Work {
            ready: 1,
            oldest: Some(WallTime::from_millis(7)),
            priority: Some(-3),
            received: 2,
            received_octets: 300,
            ..Work::default()
        };
        let other = Work {
            sessions: 1,
            oldest: Some(WallTime::from_millis(5)),
            received: 1,
            received_octets: 50,
            ..Work::default()
        };
        let both = one.and(other);
        assert_eq!(both.oldest, other.oldest);
        assert_eq!(both.priority, Some(-3));
        assert_eq!((both.received, both.received_octets), (3, 350));
        assert!(both.is_under_way() && !Work::default().is_under_way());
    }
}
