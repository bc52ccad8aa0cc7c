//! What is counted while a test runs: messages, latencies, and how many in each
//! tenth of a second. One tally a thread, added up at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The width of a step of a timeline.
pub(crate) const STEP: Duration = Duration::from_millis(100);
/// Steps of a timeline; what comes later is counted in the last (three hours).
const STEPS_MAX: usize = 108_000;
/// The longest latency that is told apart.
const LATENCY_NANOSECONDS_MAX: u64 = 3_600_000_000_000;
/// Two digits keep the histogram within a few cache lines at load; a per cent is
/// less than any machine's mood.
const LATENCY_DIGITS: u8 = 2;

/// Latencies.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOSECONDS_MAX, LATENCY_DIGITS);
        Self(histogram.expect("constant bounds"))
    }
}

impl Latency {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.record_nanoseconds(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_nanoseconds(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("equal bounds");
    }

    /// The figures for a report; `None` where nothing was recorded.
    pub(crate) fn figures(&self) -> Option<LatencyFigures> {
        if self.0.is_empty() {
            return None;
        }
        let ms = |nanoseconds: u64| (nanoseconds as f64 / 1e4).round() / 100.0;
        let at = |quantile: f64| ms(self.0.value_at_quantile(quantile));
        let mut curve = Vec::new();
        // Even steps on the axis of nines, as far as there are values.
        for step in 0..=60 {
            let beyond = 10_f64.powf(-f64::from(step) / 12.0);
            if beyond * (self.0.len() as f64) < 1.0 {
                break;
            }
            curve.push((1.0 - beyond, at(1.0 - beyond)));
        }
        Some(LatencyFigures {
            count: self.0.len(),
            mean_ms: (self.0.mean() / 1e4).round() / 100.0,
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(self.0.max()),
            curve,
        })
    }
}

/// A latency as reported, in milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LatencyFigures {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// Nine of ten are at most this.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// For the plot: quantile and milliseconds.
    pub curve: Vec<(f64, f64)>,
}

/// Events in each [`STEP`] since a start.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    start: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    steps: Vec<u64>,
}

impl Timeline {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            first: None,
            last: None,
            steps: Vec::new(),
        }
    }

    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    pub(crate) fn count(&mut self, now: Instant) {
        let since = self.since_start(now);
        let step = (since.as_nanos() / STEP.as_nanos()).min(STEPS_MAX as u128 - 1) as usize;
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += 1;
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// Adds another one with the same start.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.steps.len() < other.steps.len() {
            self.steps.resize(other.steps.len(), 0);
        }
        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            *mine += theirs;
        }
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
    }

    pub(crate) fn figures(&self) -> TimelineFigures {
        let since = |moment: Option<Instant>| {
            moment.map_or(0.0, |moment| {
                moment.saturating_duration_since(self.start).as_secs_f64()
            })
        };
        let (first, last) = (since(self.first), since(self.last));
        let total: u64 = self.steps.iter().sum();
        let per_second = |count: u64, seconds: f64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        // Without the tenth at each end, where sessions open and run dry.
        let (from, to) = (
            self.steps.len() / 10,
            self.steps.len() - self.steps.len() / 10,
        );
        let steady = if to - from >= 5 {
            let seconds = (to - from) as f64 * STEP.as_secs_f64();
            per_second(self.steps[from..to].iter().sum(), seconds)
        } else {
            per_second(total, last)
        };
        TimelineFigures {
            first_ms: first * 1e3,
            last_ms: last * 1e3,
            per_second: per_second(total, last),
            steady_per_second: steady,
            step_ms: STEP.as_millis() as u64,
            steps: self.steps.clone(),
        }
    }
}

/// A timeline as reported.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TimelineFigures {
    /// From the start to the first.
    pub first_ms: f64,
    /// From the start to the last.
    pub last_ms: f64,
    /// All by the time to the last.
    pub per_second: f64,
    /// The same without the first and last tenth of the time; the overall rate
    /// where the run was too short for that.
    pub steady_per_second: f64,
    /// The width of a step.
    pub step_ms: u64,
    /// How many in each.
    pub steps: Vec<u64>,
}

/// Counts of one generator thread.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// MAIL sent until its reply.
    pub(crate) mail: Latency,
    /// End of data (or last chunk) sent until its reply.
    pub(crate) content: Latency,
    /// A message due until the reply to its end of data.
    pub(crate) whole: Latency,
    /// ETRN sent until its reply.
    pub(crate) etrn: Latency,
    pub(crate) accepted: u64,
    pub(crate) accepted_bytes: u64,
    /// Messages not accepted (and ETRN replies of every kind), by reply code.
    pub(crate) refused: BTreeMap<u16, u64>,
    pub(crate) etrn_replies: BTreeMap<u16, u64>,
    pub(crate) recipients_refused: u64,
    pub(crate) connections_opened: u64,
    /// Those that did not get as far as EHLO's reply.
    pub(crate) connections_failed: u64,
    /// What the kernel said about the first connection that ended badly.
    pub(crate) first_failure: Option<String>,
    /// Ended by the server or the network in the middle of something.
    pub(crate) connections_lost: u64,
    /// Messages whose fate is unknown, since their connection ended.
    pub(crate) unanswered: u64,
    pub(crate) timeouts: u64,
    /// What the server did that no server should; the first is kept.
    pub(crate) violations: u64,
    pub(crate) first_violation: Option<String>,
    pub(crate) timeline: Timeline,
}

impl Tally {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            mail: Latency::default(),
            content: Latency::default(),
            whole: Latency::default(),
            etrn: Latency::default(),
            accepted: 0,
            accepted_bytes: 0,
            refused: BTreeMap::new(),
            etrn_replies: BTreeMap::new(),
            recipients_refused: 0,
            connections_opened: 0,
            connections_failed: 0,
            first_failure: None,
            connections_lost: 0,
            unanswered: 0,
            timeouts: 0,
            violations: 0,
            first_violation: None,
            timeline: Timeline::new(start),
        }
    }

    pub(crate) fn failed(&mut self, error: &std::io::Error) {
        self.first_failure.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn violation(&mut self, what: impl FnOnce() -> String) {
        self.violations += 1;
        self.first_violation.get_or_insert_with(what);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.mail.add(&other.mail);
        self.content.add(&other.content);
        self.whole.add(&other.whole);
        self.etrn.add(&other.etrn);
        self.accepted += other.accepted;
        self.accepted_bytes += other.accepted_bytes;
        for (code, count) in &other.refused {
            *self.refused.entry(*code).or_default() += count;
        }
        for (code, count) in &other.etrn_replies {
            *self.etrn_replies.entry(*code).or_default() += count;
        }
        self.recipients_refused += other.recipients_refused;
        self.connections_opened += other.connections_opened;
        self.connections_failed += other.connections_failed;
        self.connections_lost += other.connections_lost;
        self.unanswered += other.unanswered;
        self.timeouts += other.timeouts;
        self.violations += other.violations;
        if self.first_violation.is_none() {
            self.first_violation.clone_from(&other.first_violation);
        }
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.timeline.add(&other.timeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_leaves_the_ends_out_of_the_steady_rate() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        // Two seconds; ten a step, but nothing in the first and last 0.2 s.
        for step in 2..18_u32 {
            for _ in 0..10 {
                timeline.count(start + STEP * step);
            }
        }
        timeline.count(start + STEP * 19);
        let figures = timeline.figures();
        assert_eq!(figures.steps.len(), 20);
        assert_eq!(figures.first_ms, 200.0);
        assert_eq!(figures.last_ms, 1900.0);
        assert!(
            (figures.steady_per_second - 100.0).abs() < 1e-9,
            "{figures:?}"
        );
    }

    #[test]
    fn latencies_within_a_per_cent() {
        let mut latency = Latency::default();
        assert_eq!(latency.figures(), None);
        for ms in 1..=1000 {
            latency.record(Duration::from_millis(ms));
        }
        let figures = latency.figures().unwrap();
        assert!((figures.p50_ms - 500.0).abs() < 5.0, "{figures:?}");
        assert!((figures.p99_ms - 990.0).abs() < 10.0, "{figures:?}");
        assert_eq!(figures.count, 1000);
    }
}
