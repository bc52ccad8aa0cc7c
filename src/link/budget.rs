//! What a link may cost, and what it has cost.
//!
//! A budget is for each time on line, each day or each month, by the local calendar.
//! What was spent is kept for some periods, so that a clock that is set forth and back
//! finds what it left, and survives a restart in the file that the shell keeps.
//!
//! - Time is counted from the monotonic clock: setting the clock spends nothing.
//! - Money is time: price of a minute, by the second, rounded up.
//! - Time and money are spent by a link that we opened. One that somebody else opened
//!   would be there without us; only its octets are counted.
//!
//! Invariant: what was spent never gets less while its period is remembered.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::local;
use crate::time::WallTime;

/// Periods that are remembered: a month of days, and some for clocks that were wrong.
pub const PERIODS_MAX: usize = 40;

/// An amount of money, in ten-thousandths of the unit of account.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(pub u64);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// What a budget is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Per {
    /// Each time on line.
    Window,
    /// Each day.
    Day,
    /// Each month.
    Month,
}

/// Number of the first time on line: beyond all days and months, so that a budget for each of
/// them that becomes one for each day finds nothing spent on the days to come.
const FIRST_WINDOW: i64 = 1 << 40;

/// A limit, in one or more respects. Whichever is met first counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// For what.
    pub per: Per,
    /// Time on line.
    pub time: Option<Duration>,
    /// Octets in both directions.
    pub octets: Option<u64>,
    /// Price of a minute on line.
    pub minute_price: Option<Money>,
    /// Money. Needs a price.
    pub money: Option<Money>,
}

/// A period, so that later ones compare greater: days since 1970, months since year 0,
/// or the number of the time on line, from a first one on that no day has.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Period(pub i64);

/// What one period has cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Which.
    pub period: Period,
    /// Milliseconds on line.
    pub millis: u64,
    /// Octets in both directions.
    pub octets: u64,
}

/// What is left of a budget. `None`: not limited in this respect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Time on line, by the limit on time and by what the money is good for.
    pub time: Option<Duration>,
    /// Octets.
    pub octets: Option<u64>,
    /// Money.
    pub money: Option<Money>,
}

impl Left {
    /// Whether nothing is left in some respect.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.time == Some(Duration::ZERO) || self.octets == Some(0)
    }
}

/// The budget of one link, with its account.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: Option<Limits>,
    zone: TimeZone,
    /// By period, oldest use first.
    spent: Vec<Spent>,
    /// Times on line so far.
    window: i64,
}

impl Budget {
    /// A budget, with what was spent before.
    #[must_use]
    pub fn new(limits: Option<Limits>, zone: TimeZone, mut spent: Vec<Spent>) -> Self {
        let excess = spent.len().saturating_sub(PERIODS_MAX);
        spent.drain(..excess);
        // Of times on line: a new one begins with a number of its own.
        let window = spent.iter().map(|s| s.period.0).max().unwrap_or_default();
        Self {
            limits,
            zone,
            spent,
            window: window.max(FIRST_WINDOW),
        }
    }

    /// The account, to be kept over a restart.
    #[must_use]
    pub fn account(&self) -> &[Spent] {
        &self.spent
    }

    /// A time on line begins.
    pub fn begin_window(&mut self) {
        self.window += 1;
    }

    /// Counts time and octets.
    pub fn charge(&mut self, wall: WallTime, time: Duration, octets: u64) {
        if self.limits.is_none() {
            return;
        }
        let period = self.period(wall);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let place = self.spent.iter().position(|s| s.period == period);
        let mut spent = match place {
            Some(place) => self.spent.remove(place),
            None => Spent {
                period,
                ..Spent::default()
            },
        };
        spent.millis = spent.millis.saturating_add(millis);
        spent.octets = spent.octets.saturating_add(octets);
        if self.spent.len() == PERIODS_MAX {
            self.spent.remove(0);
        }
        self.spent.push(spent);
    }

    /// What the present period has cost so far.
    #[must_use]
    pub fn spent(&self, wall: WallTime) -> Spent {
        let period = self.period(wall);
        let found = self.spent.iter().find(|spent| spent.period == period);
        found.copied().unwrap_or(Spent {
            period,
            ..Spent::default()
        })
    }

    /// What is left of the present period.
    #[must_use]
    pub fn left(&self, wall: WallTime) -> Left {
        self.left_after(self.spent(wall))
    }

    /// What is left to a time on line that begins now: with a budget for each, all of it.
    #[must_use]
    pub fn left_for_next(&self, wall: WallTime) -> Left {
        match self.limits {
            Some(Limits {
                per: Per::Window, ..
            }) => self.left_after(Spent::default()),
            _ => self.left(wall),
        }
    }

    fn left_after(&self, spent: Spent) -> Left {
        let Some(limits) = &self.limits else {
            return Left::default();
        };
        let used = Duration::from_millis(spent.millis);
        let time = limits.time.map(|time| time.saturating_sub(used));
        let money = limits
            .money
            .map(|money| Money(money.0.saturating_sub(self.price(used).0)));
        // In whole milliseconds, so that a rest that buys none is nothing.
        let bought = limits.money.zip(limits.minute_price).map(|(money, price)| {
            let millis = money.0.saturating_mul(60_000).checked_div(price.0);
            Duration::from_millis(millis.unwrap_or(u64::MAX)).saturating_sub(used)
        });
        Left {
            time: time.into_iter().chain(bought).min(),
            octets: limits
                .octets
                .map(|octets| octets.saturating_sub(spent.octets)),
            money,
        }
    }

    /// What so much time on line costs.
    #[must_use]
    pub fn price(&self, time: Duration) -> Money {
        let Some(price) = self.limits.and_then(|limits| limits.minute_price) else {
            return Money(0);
        };
        let millis = u128::from(price.0) * time.as_millis();
        Money(u64::try_from(millis.div_ceil(60_000)).unwrap_or(u64::MAX))
    }

    /// When the present period ends; `None` if that is not by the calendar.
    #[must_use]
    pub fn period_ends(&self, wall: WallTime) -> Option<WallTime> {
        let date = local(&self.zone, wall)?.date();
        let next = match self.limits?.per {
            Per::Window => return None,
            Per::Day => date.tomorrow().ok()?,
            Per::Month => date.last_of_month().tomorrow().ok()?,
        };
        let midnight = self.zone.to_timestamp(next.at(0, 0, 0, 0)).ok()?;
        Some(WallTime::from_millis(midnight.as_millisecond()))
    }

    fn period(&self, wall: WallTime) -> Period {
        let date = local(&self.zone, wall).map_or(Date::ZERO, |local| local.date());
        Period(match self.limits.map(|limits| limits.per) {
            None | Some(Per::Window) => self.window,
            Some(Per::Day) => {
                let epoch = jiff::civil::date(1970, 1, 1);
                let days = date.since((jiff::Unit::Day, epoch));
                days.map_or(0, |span| i64::from(span.get_days()))
            }
            Some(Per::Month) => i64::from(date.year()) * 12 + i64::from(date.month()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a POSIX time zone")
    }

    fn time(text: &str) -> WallTime {
        let timestamp: jiff::Timestamp = text.parse().expect("a time");
        WallTime::from_millis(timestamp.as_millisecond())
    }

    fn limits(per: Per) -> Limits {
        Limits {
            per,
            time: Some(Duration::from_secs(3600)),
            octets: Some(1000),
            minute_price: None,
            money: None,
        }
    }

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_day_begins_at_the_local_midnight() {
        let mut budget = Budget::new(Some(limits(Per::Day)), zone(), Vec::new());
        let evening = time("2026-11-22T23:50:00+01");
        budget.charge(evening, seconds(3000), 600);
        assert_eq!(budget.left(evening).time, Some(seconds(600)));
        assert_eq!(budget.left(evening).octets, Some(400));
        let midnight = time("2026-11-23T00:00:00+01");
        assert_eq!(budget.period_ends(evening), Some(midnight));
        assert_eq!(budget.left(midnight).time, Some(seconds(3600)));
        // The clock is set back: yesterday is as it was.
        assert_eq!(budget.left(evening).time, Some(seconds(600)));
        budget.charge(evening, seconds(9999), 0);
        assert!(budget.left(evening).is_spent());
        // And over a restart.
        let again = Budget::new(Some(limits(Per::Day)), zone(), budget.account().to_vec());
        assert!(again.left(evening).is_spent());
        assert!(!again.left(midnight).is_spent());
    }

    #[test]
    fn a_month_and_its_end() {
        let mut budget = Budget::new(Some(limits(Per::Month)), zone(), Vec::new());
        let last = time("2026-10-31T23:59:59+01");
        budget.charge(last, seconds(1), 1000);
        assert!(budget.left(last).is_spent());
        let first = time("2026-11-01T00:00:00+01");
        assert_eq!(budget.period_ends(last), Some(first));
        assert!(!budget.left(first).is_spent());
    }

    #[test]
    fn each_time_on_line_has_its_own() {
        let mut budget = Budget::new(Some(limits(Per::Window)), zone(), Vec::new());
        let now = time("2026-11-22T12:00:00+01");
        for _ in 0..3 {
            budget.begin_window();
            assert!(!budget.left(now).is_spent());
            budget.charge(now, seconds(3600), 0);
            assert!(budget.left(now).is_spent());
            assert!(!budget.left_for_next(now).is_spent());
        }
        let mut again = Budget::new(Some(limits(Per::Window)), zone(), budget.account().to_vec());
        again.begin_window();
        assert!(!again.left(now).is_spent());
        assert_eq!(budget.period_ends(now), None);
    }

    /// What it is for is changed by the operator, and the account is kept.
    #[test]
    fn a_time_on_line_is_no_day() {
        let now = time("2026-11-22T12:00:00+01");
        let mut days = Budget::new(Some(limits(Per::Day)), zone(), Vec::new());
        days.charge(now, seconds(60), 0);
        let mut windows = Budget::new(Some(limits(Per::Window)), zone(), days.account().to_vec());
        for _ in 0..10 {
            windows.begin_window();
            windows.charge(now, seconds(3600), 0);
        }
        let days = Budget::new(Some(limits(Per::Day)), zone(), windows.account().to_vec());
        assert_eq!(days.left(now).time, Some(seconds(3540)));
        for day in 1..20 {
            let left = days.left(now + seconds(day * 86_400));
            assert_eq!(left.time, Some(seconds(3600)), "in {day} days");
        }
    }

    #[test]
    fn money_is_time() {
        let check = |price: u64, money: u64, spent: u64, left: u64| {
            let limits = Limits {
                time: None,
                octets: None,
                minute_price: Some(Money(price)),
                money: Some(Money(money)),
                per: Per::Day,
            };
            let mut budget = Budget::new(Some(limits), zone(), Vec::new());
            let now = time("2026-11-22T12:00:00+01");
            budget.charge(now, seconds(spent), 0);
            assert_eq!(
                budget.left(now).time,
                Some(seconds(left)),
                "{price} {money}"
            );
            // What is left can be spent, and not more than it costs.
            budget.charge(now, seconds(left), 0);
            let used = Duration::from_millis(budget.spent(now).millis);
            assert!(budget.price(used) <= Money(money) || spent > 3600);
        };
        check(500, 30_000, 0, 3600); // 0.05 a minute, 3.00
        check(500, 30_000, 3000, 600);
        check(500, 30_000, 4000, 0);
        let price = Budget::new(
            Some(Limits {
                minute_price: Some(Money(500)),
                ..limits(Per::Day)
            }),
            zone(),
            Vec::new(),
        );
        assert_eq!(price.price(seconds(60)), Money(500));
        assert_eq!(price.price(seconds(1)), Money(9), "rounded up");
        assert_eq!(Money(12_345).to_string(), "1.2345");
    }

    #[test]
    fn periods_are_bounded_and_the_latest_used_stay() {
        let mut budget = Budget::new(Some(limits(Per::Day)), zone(), Vec::new());
        let start = time("2026-01-01T12:00:00+01");
        for day in 0..200_u64 {
            budget.charge(start + seconds(86_400 * day), seconds(3600), 0);
            assert!(budget.account().len() <= PERIODS_MAX);
        }
        assert!(budget.left(start + seconds(86_400 * 199)).is_spent());
        assert!(budget.left(start + seconds(86_400 * 170)).is_spent());
    }
}
