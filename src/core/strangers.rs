//! Who is refused what is not his, again and again: how long it waits for the answer, and
//! what the log tells of it. For a data core; what is refused by the desk it tells itself.
//!
//! # Pace
//! A client may be refused [`BURST`] times in a row, and once more in each [`PAUSE`]. Who
//! wants more waits for the answer, at most [`WAIT_MAX`]: a flood of any size is answered
//! at most once in [`WAIT_MAX`] for each session that the client may have. It is kept for
//! each core by itself: clients that do this are not worth a word between cores.
//!
//! # The log
//! Of each client the first [`TOLD`] refusals within [`PERIOD`] are a line each, with what
//! was asked for; of the others one line at the end of that time says how many there were.
//! Of more than [`CLIENTS_MAX`] clients within it those beyond are told of together. A stop
//! does not wait for that time.
//!
//! Invariant: for each client of whom something is untold, [`Tally::deadline`] is at most
//! [`PERIOD`] away.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;

use crate::core::bans::Client;
use crate::core::limit::Limit;
use crate::report::ReleasesRefused;
use crate::time::Instant;

/// Refusals of one client in a row that cost it nothing: more than a site has names that
/// it might ask for without having authenticated.
pub(super) const BURST: u32 = 100;

/// And then one more in each.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Who has been refused so often waits this long at most: below the time after which a
/// client takes us for dead (RFC 5321 §4.5.3.2: minutes).
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// Refusals of one client within [`PERIOD`] that are told one by one.
const TOLD: u64 = 5;

/// How long they are counted.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// Clients of whom it is told one by one: a log that a thousand clients write to is no
/// longer read.
const CLIENTS_MAX: usize = 200;

/// What a core knows of them.
#[derive(Default)]
pub(super) struct Strangers {
    /// How long they wait.
    pub(super) pace: Pace,
    /// What the log tells.
    pub(super) tally: Tally,
}

/// How long clients wait that are refused.
pub(super) struct Pace(Limit<Client>);

impl Default for Pace {
    fn default() -> Self {
        Self(Limit::new(BURST, PAUSE))
    }
}

impl Pace {
    /// A client is refused once more: it waits so long for that.
    pub(super) fn wait(&mut self, now: Instant, client: IpAddr) -> Duration {
        self.0.wait(now, Client::of(client), WAIT_MAX)
    }
}

/// Whether something is a line of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Telling {
    /// It is.
    Now,
    /// It is counted.
    Counted,
}

/// Refusals, as the log tells of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Refusals of each client in its period.
    counts: HashMap<Client, u64>,
    /// When that is over, in this order.
    ends: VecDeque<(Instant, Client)>,
    /// Those of other clients, and when they are told.
    others: Option<(Instant, u64)>,
}

impl Tally {
    /// A client is refused once more.
    pub(super) fn count(&mut self, now: Instant, client: IpAddr) -> Telling {
        let client = Client::of(client);
        if let Some(count) = self.counts.get_mut(&client) {
            *count += 1;
            return if *count <= TOLD {
                Telling::Now
            } else {
                Telling::Counted
            };
        }
        if self.counts.len() >= CLIENTS_MAX {
            let (_, count) = self.others.get_or_insert((now + PERIOD, 0));
            *count += 1;
            return Telling::Counted;
        }
        self.counts.insert(client, 1);
        self.ends.push_back((now + PERIOD, client));
        Telling::Now
    }

    /// When [`Tally::due`] has something, or may have.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let client = self.ends.front().map(|(end, _)| *end);
        let others = self.others.map(|(end, _)| end);
        [client, others].into_iter().flatten().min()
    }

    /// Something that is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Option<ReleasesRefused> {
        self.due_by(now, now)
    }

    /// Something that is untold, at a stop.
    pub(super) fn untold(&mut self, now: Instant) -> Option<ReleasesRefused> {
        self.due_by(now, Instant::NEVER)
    }

    fn due_by(&mut self, now: Instant, until: Instant) -> Option<ReleasesRefused> {
        let within = |end: Instant| PERIOD.saturating_sub(end.since(now));
        while let Some((end, client)) = self.ends.pop_front_if(|(end, _)| *end <= until) {
            let count = self.counts.remove(&client).unwrap_or(0);
            if count > TOLD {
                return Some(ReleasesRefused {
                    client: Some(client.address()),
                    refused: count - TOLD,
                    within: within(end),
                });
            }
        }
        let (end, refused) = self.others.take_if(|(end, _)| *end <= until)?;
        Some(ReleasesRefused {
            client: None,
            refused,
            within: within(end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn address(number: usize) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number as u32).into()
    }

    /// How many lines it is when each of so many clients is refused so often, and how many
    /// refusals are told of in the end.
    fn check(clients: usize, times: u64, lines: u64) {
        let mut tally = Tally::default();
        let mut told = 0;
        for _ in 0..times {
            for client in 0..clients {
                told += u64::from(tally.count(at(1), address(client)) == Telling::Now);
            }
        }
        let mut written = told;
        let end = tally.deadline().expect("something is to be forgotten");
        assert_eq!(end, at(1) + PERIOD);
        assert_eq!(tally.due(at(0) + PERIOD), None, "not before");
        while let Some(untold) = tally.due(end) {
            told += untold.refused;
            written += 1;
        }
        assert_eq!(told, clients as u64 * times, "each is told of once");
        assert_eq!(written, lines);
        assert_eq!(tally.deadline(), None);
        assert!(tally.counts.is_empty());
    }

    #[test]
    fn the_log_stays_small() {
        check(1, 1, 1);
        check(1, TOLD, TOLD);
        check(1, TOLD + 1, TOLD + 1);
        check(1, 1_000_000, TOLD + 1);
        check(10, 1000, 10 * (TOLD + 1));
        let most = CLIENTS_MAX as u64;
        check(CLIENTS_MAX + 1, 10, most * (TOLD + 1) + 1);
        check(10_000, 10, most * (TOLD + 1) + 1);
    }

    #[test]
    fn a_stop_leaves_nothing_untold() {
        let mut tally = Tally::default();
        for client in 0..=CLIENTS_MAX {
            tally.count(at(1), address(client));
        }
        for _ in 0..TOLD + 2 {
            tally.count(at(2), address(0));
        }
        let untold = |client: Option<IpAddr>, refused, within| ReleasesRefused {
            client,
            refused,
            within: Duration::from_secs(within),
        };
        let now = at(9);
        assert_eq!(tally.untold(now), Some(untold(Some(address(0)), 3, 8)));
        assert_eq!(tally.untold(now), Some(untold(None, 1, 8)));
        assert_eq!(tally.untold(now), None);
        assert_eq!(tally.deadline(), None);
    }

    #[test]
    fn it_begins_anew() {
        let mut tally = Tally::default();
        for second in 0..180 {
            let telling = tally.count(at(second), address(1));
            let first = second % PERIOD.as_secs() < TOLD;
            assert_eq!(telling == Telling::Now, first, "second {second}");
            let due = tally.due(at(second + 1));
            assert_eq!(due.is_some(), (second + 1) % PERIOD.as_secs() == 0);
        }
    }

    #[test]
    fn a_flood_is_answered_once_in_a_while_for_each_session() {
        let mut pace = Pace::default();
        let sessions = 100_u64;
        // Each asks again when it is answered.
        let mut due: std::collections::BinaryHeap<_> =
            (0..sessions).map(|_| std::cmp::Reverse(at(1))).collect();
        let mut answered = 0;
        while let Some(std::cmp::Reverse(now)) = due.pop() {
            if now >= at(1001) {
                continue;
            }
            answered += 1;
            due.push(std::cmp::Reverse(now + pace.wait(now, address(1))));
        }
        let most = u64::from(BURST) + sessions * 1000 / WAIT_MAX.as_secs() + sessions * 2;
        assert!((sessions..most).contains(&answered), "{answered}");
        assert_eq!(pace.wait(at(1), address(2)), Duration::ZERO);
    }
}
