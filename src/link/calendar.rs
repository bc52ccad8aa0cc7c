//! The rows of the schedule on a real calendar.
//!
//! A row says on which weekdays, from when to when, how often or at which exact times.
//! This module turns that into points of [`WallTime`], by the time zone that it is
//! given. It reads no clock.
//!
//! # Rules
//! - The weekday is that of the day on which a window *begins*. One from 22:00 to 06:00
//!   on Monday ends on Tuesday, and its 01:00 is Tuesday's.
//! - "Every n" counts real time from the beginning of the window. A day with 25 hours
//!   has one hour more of it.
//! - A local time that does not exist (the clock is put forward over it) is the moment
//!   at which the clock is put forward. A window that would vanish that way keeps its
//!   length behind that moment, so that no window is lost.
//! - A local time that exists twice is its first one. So nothing happens twice.
//! - A window ends *before* its end: at 18:00 sharp one "to 18:00" is over.
//!
//! What this module does not do: it does not remember what was done. Whoever asks says
//! from when on.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::time::WallTime;

/// Rows at most. A schedule that needs more is a mistake.
pub const ROWS_MAX: usize = 200;

/// Minutes of a day by the clock on the wall.
const DAY_MINUTES: u16 = 24 * 60;

/// Days that a search looks ahead: every weekday comes within a week, and a window that
/// began yesterday may still go on.
const SEARCH_DAYS: usize = 9;

/// A time of day by the clock on the wall: minutes since midnight, at most 1440.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Minute(pub u16);

/// Days of the week.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weekdays {
    /// Bit 0 is Monday.
    bits: u8,
}

impl Weekdays {
    /// Monday to Sunday.
    pub const ALL: Self = Self { bits: 0x7f };

    /// The days for which `contains` says so; 0 is Monday, 6 Sunday.
    #[must_use]
    pub fn new(contains: impl Fn(u8) -> bool) -> Self {
        let bits = (0..7).filter(|&day| contains(day)).map(|day| 1 << day);
        Self { bits: bits.sum() }
    }

    fn contains(self, day: Weekday) -> bool {
        self.bits >> day.to_monday_zero_offset() & 1 == 1
    }
}

/// When within its window a row is due.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Times {
    /// At its beginning, and each time that so much time has passed. At least a second.
    Every(Duration),
    /// At these times.
    At(Vec<Minute>),
}

/// One row of the schedule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Row {
    /// On which days its window begins.
    pub days: Weekdays,
    /// When it begins.
    pub from: Minute,
    /// When it ends. Not after `from`: on the next day.
    pub to: Minute,
    /// When it is due within the window.
    pub times: Times,
}

/// The window of a row on one day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// From this moment on.
    pub from: WallTime,
    /// Up to this one, which is not part of it.
    pub to: WallTime,
}

/// A row is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occurrence {
    /// When.
    pub at: WallTime,
    /// Which row, by its place.
    pub row: usize,
    /// The window in which it stands ends then.
    pub window_ends: WallTime,
}

/// A schedule, in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    rows: Vec<Row>,
    zone: TimeZone,
}

impl Calendar {
    /// The rows in their order, for clocks of this zone.
    #[must_use]
    pub fn new(mut rows: Vec<Row>, zone: TimeZone) -> Self {
        debug_assert!(rows.len() <= ROWS_MAX);
        for row in &mut rows {
            if let Times::At(times) = &mut row.times {
                // In the order in which they come: those behind midnight last.
                let from = row.from;
                times.sort_unstable_by_key(|at| (*at < from, *at));
                times.dedup();
            }
        }
        Self { rows, zone }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The zone of the clocks.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after` at which a row is due that `counts` counts. Of rows
    /// that are due together the first. `None`: none within a week.
    #[must_use]
    pub fn next(&self, after: WallTime, counts: impl Fn(usize) -> bool) -> Option<Occurrence> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(row, _)| counts(*row))
            .filter_map(|(row, _)| self.next_of(row, after))
            .min_by_key(|occurrence| (occurrence.at, occurrence.row))
    }

    /// The last time of each row in the time after `after` up to `until`, in their order:
    /// what is due now if nothing was done since.
    #[must_use]
    pub fn due(&self, after: WallTime, until: WallTime) -> Vec<Occurrence> {
        let mut due = Vec::new();
        for row in 0..self.rows.len() {
            let mut last = None;
            let mut from = after;
            while let Some(occurrence) = self.next_of(row, from)
                && occurrence.at <= until
            {
                from = occurrence.at;
                last = Some(occurrence);
            }
            due.extend(last);
        }
        due
    }

    /// When the windows end in one of which `at` stands, as far as they follow one another
    /// without a gap. `None`: it stands in none. Windows without an end within a week end
    /// there.
    #[must_use]
    pub fn open_until(&self, at: WallTime, counts: impl Fn(usize) -> bool) -> Option<WallTime> {
        let mut end = at;
        let horizon = at + Duration::from_secs(7 * 24 * 3600);
        // Each turn passes the end of a window of this week.
        while end < horizon {
            let rows = (0..self.rows.len()).filter(|row| counts(*row));
            let next = rows
                .flat_map(|row| self.begun(row, end))
                .filter(|window| end < window.to)
                .map(|window| window.to)
                .max();
            match next {
                Some(next) => end = next,
                None => break,
            }
        }
        (end > at).then_some(end)
    }

    /// Whether `at` stands in a window of any row.
    #[must_use]
    pub fn is_open(&self, at: WallTime) -> bool {
        let mut rows = 0..self.rows.len();
        rows.any(|row| self.begun(row, at).any(|window| at < window.to))
    }

    /// The first moment after `after` at which a window of any counted row begins or ends.
    #[must_use]
    pub fn next_edge(&self, after: WallTime, counts: impl Fn(usize) -> bool) -> Option<WallTime> {
        let rows = (0..self.rows.len()).filter(|row| counts(*row));
        // Behind the first window of a row that is not over all are later.
        let windows = rows.filter_map(|row| self.windows(row, after).find(|w| w.to > after));
        let edges = windows.flat_map(|window| [window.from, window.to]);
        edges.filter(|edge| *edge > after).min()
    }

    /// The first time after `after` at which this row is due.
    fn next_of(&self, row: usize, after: WallTime) -> Option<Occurrence> {
        let first = self.date(after)?.yesterday().ok()?;
        let mut day = first;
        for _ in 0..SEARCH_DAYS + 1 {
            if let Some(window) = self.window(row, day) {
                let at = match &self.rows[row].times {
                    Times::Every(every) => next_in(window, *every, after),
                    Times::At(times) => times
                        .iter()
                        .filter_map(|time| self.moment(self.on(row, day, *time)?))
                        .find(|at| *at > after),
                };
                if let Some(at) = at {
                    // One that was moved out of its window by a change of the clock.
                    let window_ends = window.to.max(at + Duration::from_secs(60));
                    return Some(Occurrence {
                        at,
                        row,
                        window_ends,
                    });
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The windows of a row from the day before `around` on, in their order.
    fn windows(&self, row: usize, around: WallTime) -> impl Iterator<Item = Window> + '_ {
        let first = self.date(around).and_then(|date| date.yesterday().ok());
        let days = std::iter::successors(first, |day| day.tomorrow().ok());
        days.take(SEARCH_DAYS + 1)
            .filter_map(move |day| self.window(row, day))
    }

    /// Those of them that have begun by then.
    fn begun(&self, row: usize, at: WallTime) -> impl Iterator<Item = Window> + '_ {
        self.windows(row, at)
            .take_while(move |window| window.from <= at)
    }

    /// The window of a row that begins on this day.
    fn window(&self, row: usize, day: Date) -> Option<Window> {
        let Row { days, from, to, .. } = &self.rows[row];
        if !days.contains(day.weekday()) {
            return None;
        }
        let last = if to <= from {
            day.tomorrow().ok()?
        } else {
            day
        };
        let begins = self.moment(datetime(day, *from)?)?;
        let ends = self.moment(datetime(last, *to)?)?;
        let ends = if ends > begins {
            ends
        } else {
            let minutes = (to.0 + DAY_MINUTES - from.0) % DAY_MINUTES;
            begins + Duration::from_secs(60 * u64::from(minutes.max(1)))
        };
        Some(Window {
            from: begins,
            to: ends,
        })
    }

    /// A time of day in the window that begins on `day`.
    fn on(&self, row: usize, day: Date, time: Minute) -> Option<DateTime> {
        let Row { from, to, .. } = &self.rows[row];
        if to <= from && time < *from {
            datetime(day.tomorrow().ok()?, time)
        } else {
            datetime(day, time)
        }
    }

    /// The moment at which local clocks show this.
    fn moment(&self, local: DateTime) -> Option<WallTime> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let timestamp = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => {
                // With the offset behind the gap it is before the change.
                let before = ambiguous.earlier().ok()?;
                let change = self.zone.following(before).next()?;
                change.timestamp()
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                ambiguous.earlier().ok()?
            }
        };
        Some(WallTime::from_millis(timestamp.as_millisecond()))
    }

    fn date(&self, at: WallTime) -> Option<Date> {
        local(&self.zone, at).map(|local| local.date())
    }
}

/// What local clocks show then. `None` beyond the year 9999.
pub(super) fn local(zone: &TimeZone, at: WallTime) -> Option<DateTime> {
    let timestamp = Timestamp::from_millisecond(at.as_millis()).ok()?;
    Some(zone.to_datetime(timestamp))
}

/// 24:00 is the next day's midnight.
fn datetime(day: Date, time: Minute) -> Option<DateTime> {
    if time.0 >= DAY_MINUTES {
        return Some(day.tomorrow().ok()?.at(0, 0, 0, 0));
    }
    let hour = i8::try_from(time.0 / 60).expect("below 24");
    let minute = i8::try_from(time.0 % 60).expect("below 60");
    Some(day.at(hour, minute, 0, 0))
}

/// The first step of `every` from the beginning of the window that is after `after` and
/// before its end.
fn next_in(window: Window, every: Duration, after: WallTime) -> Option<WallTime> {
    let at = if after < window.from {
        window.from
    } else {
        let step = u64::try_from(every.as_millis()).ok()?.max(1);
        let since = u64::try_from(after.since(window.from).as_millis()).ok()?;
        window.from + Duration::from_millis((since / step + 1).checked_mul(step)?)
    };
    (at < window.to).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central European time: forward on 2026-03-29 at 02:00, back on 2026-10-25 at
    /// 03:00.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a POSIX time zone")
    }

    fn minute(text: &str) -> Minute {
        let (hours, minutes) = text.split_once(':').expect("a time of day");
        let number = |text: &str| text.parse::<u16>().expect("a number");
        Minute(number(hours) * 60 + number(minutes))
    }

    fn weekdays(text: &str) -> Weekdays {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        Weekdays::new(|day| text == "all" || text.contains(names[usize::from(day)]))
    }

    /// `days from-to every 1800` or `days from-to at 08:00 12:30`.
    fn row(text: &str) -> Row {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("a word");
        let days = weekdays(word());
        let (from, to) = word().split_once('-').expect("from-to");
        let (from, to) = (minute(from), minute(to));
        let times = match word() {
            "every" => Times::Every(Duration::from_secs(word().parse().expect("seconds"))),
            _ => Times::At(words.map(minute).collect()),
        };
        Row {
            days,
            from,
            to,
            times,
        }
    }

    fn calendar(rows: &[&str]) -> Calendar {
        Calendar::new(rows.iter().map(|text| row(text)).collect(), berlin())
    }

    /// Local time with its offset: `2026-11-23T08:00+01`.
    fn time(text: &str) -> WallTime {
        let timestamp: Timestamp = text.parse().expect("a time");
        WallTime::from_millis(timestamp.as_millisecond())
    }

    #[track_caller]
    fn check(rows: &[&str], after: &str, expected: &[&str]) {
        let calendar = calendar(rows);
        let mut at = time(after);
        for expected in expected {
            let found = calendar.next(at, |_| true).expect("it comes within a week");
            assert_eq!(found.at, time(expected), "{rows:?} after {at}");
            at = found.at;
        }
    }

    #[test]
    fn every_n_within_a_window() {
        check(
            &["montuewedthufri 08:00-09:30 every 1800"],
            "2026-11-20T08:15:00+01", // a Friday
            &[
                "2026-11-20T08:30:00+01",
                "2026-11-20T09:00:00+01",
                "2026-11-23T08:00:00+01",
                "2026-11-23T08:30:00+01",
            ],
        );
        // The step does not divide the window; it is counted from its beginning.
        check(
            &["all 08:00-09:00 every 2400"],
            "2026-11-20T08:00:00+01",
            &["2026-11-20T08:40:00+01", "2026-11-21T08:00:00+01"],
        );
    }

    #[test]
    fn exact_times_and_several_rows() {
        check(
            &[
                "all 00:00-24:00 at 12:30 08:00",
                "sun 00:00-24:00 at 08:00 10:00",
            ],
            "2026-11-21T09:00:00+01", // a Saturday
            &[
                "2026-11-21T12:30:00+01",
                "2026-11-22T08:00:00+01",
                "2026-11-22T10:00:00+01",
                "2026-11-22T12:30:00+01",
            ],
        );
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        check(
            &["mon 22:00-06:00 at 23:00 01:00"],
            "2026-11-22T00:00:00+01", // a Sunday
            &[
                "2026-11-23T23:00:00+01",
                "2026-11-24T01:00:00+01",
                "2026-11-30T23:00:00+01",
            ],
        );
        let calendar = calendar(&["mon 22:00-06:00 every 3600"]);
        let until = |at: &str| calendar.open_until(time(at), |_| true);
        assert_eq!(until("2026-11-23T21:59:59+01"), None);
        let end = Some(time("2026-11-24T06:00:00+01"));
        assert_eq!(until("2026-11-23T22:00:00+01"), end);
        assert_eq!(until("2026-11-24T05:59:59+01"), end);
        assert_eq!(until("2026-11-24T06:00:00+01"), None);
    }

    #[test]
    fn a_time_that_does_not_exist_is_when_the_clock_is_put_forward() {
        check(
            &["all 00:00-24:00 at 02:30"],
            "2026-03-28T12:00:00+01",
            &["2026-03-29T03:00:00+02", "2026-03-30T02:30:00+02"],
        );
        // A window that would vanish keeps its length.
        let calendar = calendar(&["all 02:10-02:40 every 600"]);
        let window = calendar.window(0, jiff::civil::date(2026, 3, 29));
        let expected = Window {
            from: time("2026-03-29T03:00:00+02"),
            to: time("2026-03-29T03:30:00+02"),
        };
        assert_eq!(window, Some(expected));
    }

    #[test]
    fn a_time_that_exists_twice_comes_once() {
        check(
            &["all 00:00-24:00 at 02:30"],
            "2026-10-24T12:00:00+02",
            &["2026-10-25T02:30:00+02", "2026-10-26T02:30:00+01"],
        );
    }

    #[test]
    fn every_n_counts_real_time_over_a_change_of_the_clock() {
        let count = |day: &str, next: &str| {
            let calendar = calendar(&["all 00:00-24:00 every 3600"]);
            let end = time(next);
            let mut at = time(day) - Duration::from_millis(1);
            let mut count = 0;
            while let Some(found) = calendar.next(at, |_| true)
                && found.at < end
            {
                at = found.at;
                count += 1;
            }
            count
        };
        assert_eq!(
            count("2026-11-20T00:00:00+01", "2026-11-21T00:00:00+01"),
            24
        );
        assert_eq!(
            count("2026-03-29T00:00:00+01", "2026-03-30T00:00:00+02"),
            23
        );
        assert_eq!(
            count("2026-10-25T00:00:00+02", "2026-10-26T00:00:00+01"),
            25
        );
    }

    #[test]
    fn windows_that_follow_one_another_are_one() {
        let calendar = calendar(&[
            "mon 08:00-12:00 every 1800",
            "mon 12:00-18:00 every 3600",
            "tue 09:00-10:00 every 3600",
        ]);
        let until = |at: &str, row: Option<usize>| {
            calendar.open_until(time(at), |other| row.is_none_or(|row| row == other))
        };
        let noon = "2026-11-23T11:00:00+01";
        assert_eq!(until(noon, None), Some(time("2026-11-23T18:00:00+01")));
        assert_eq!(until(noon, Some(0)), Some(time("2026-11-23T12:00:00+01")));
        assert_eq!(until(noon, Some(2)), None);
        let edge = |at: &str| calendar.next_edge(time(at), |_| true);
        assert_eq!(edge(noon), Some(time("2026-11-23T12:00:00+01")));
        let evening = edge("2026-11-23T18:00:00+01");
        assert_eq!(evening, Some(time("2026-11-24T09:00:00+01")));
        // Day and night, for ever: as far as one looks.
        let always = Calendar::new(vec![row("all 00:00-24:00 every 60")], berlin());
        let at = time("2026-11-23T11:00:00+01");
        let end = always.open_until(at, |_| true).expect("it is open");
        assert!(end.since(at) >= Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn what_was_missed_is_due_once_for_each_row() {
        let calendar = calendar(&["all 08:00-18:00 every 600", "all 00:00-24:00 at 09:00"]);
        let due = calendar.due(
            time("2026-11-23T08:05:00+01"),
            time("2026-11-23T09:15:00+01"),
        );
        let due: Vec<_> = due.iter().map(|o| (o.row, o.at)).collect();
        let expected = [
            (0, time("2026-11-23T09:10:00+01")),
            (1, time("2026-11-23T09:00:00+01")),
        ];
        assert_eq!(due, expected);
        let none = calendar.due(
            time("2026-11-23T09:11:00+01"),
            time("2026-11-23T09:19:00+01"),
        );
        assert_eq!(none, []);
    }

    /// For random rows, zones and times: an occurrence is after the question, in its
    /// window, on its day, and there is none between.
    #[test]
    fn occurrences_are_where_they_must_be() {
        let zones = [
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "EST5EDT,M3.2.0,M11.1.0",
            "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", // half an hour of summer time
            "UTC0",
        ];
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..4000_u64 {
            let zone = TimeZone::posix(zones[random(4) as usize]).expect("a time zone");
            let days = random(127) + 1;
            let (from, to) = (random(1440), random(1441));
            if from == to {
                continue;
            }
            let length = (to + 1440 - from) % 1440;
            let length = if length == 0 { 1440 } else { length };
            let times = if random(2) == 0 {
                Times::Every(Duration::from_secs(60 + random(7200)))
            } else {
                let at = |n: u64| Minute(((from + n) % 1440) as u16);
                Times::At((0..=random(4)).map(|_| at(random(length))).collect())
            };
            let row = Row {
                days: Weekdays::new(|day| days >> day & 1 == 1),
                from: Minute(from as u16),
                to: Minute(to as u16),
                times,
            };
            let calendar = Calendar::new(vec![row.clone()], zone);
            // Around both changes of a year.
            let base = if random(2) == 0 {
                "2026-03-28T00:00:00Z"
            } else {
                "2026-10-24T00:00:00Z"
            };
            let after = time(base) + Duration::from_secs(random(3 * 86_400));
            let found = calendar.next(after, |_| true);
            let found = found.unwrap_or_else(|| panic!("{round}: {row:?} after {after}"));
            assert!(found.at > after, "{round}: {row:?}");
            assert!(found.window_ends > found.at, "{round}: {row:?}");
            let windows: Vec<_> = calendar.windows(0, after).collect();
            let inside = windows
                .iter()
                .any(|w| w.from <= found.at && found.at < w.to);
            let moved = matches!(row.times, Times::At(_));
            assert!(inside || moved, "{round}: {row:?} at {}", found.at);
            for window in windows {
                let longest = Duration::from_secs(60 * (length + 61));
                assert!(window.to > window.from, "{round}: {row:?}");
                assert!(window.to.since(window.from) <= longest, "{round}: {row:?}");
            }
            let just_before = found.at - Duration::from_millis(1);
            let again = calendar.next(just_before, |_| true);
            assert_eq!(again, Some(found), "{round}: {row:?}");
            assert_eq!(calendar.due(after, just_before), [], "{round}: {row:?}");
        }
    }
}
