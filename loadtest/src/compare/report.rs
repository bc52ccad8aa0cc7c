//! What a comparison reports: medians, their spread, and ratios.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Case;
use crate::generate::{Ceiling, GenerateReport};
use crate::process::Usage;
use crate::sink::{SinkReport, per};
use crate::tally::{LatencyFigures, TimelineFigures};

/// One run of one server.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) per_second: f64,
    pub(super) server_cpu_us_per_message: f64,
    written_per_message_byte: f64,
    device_per_message_byte: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
    first_ms: f64,
    /// Why the figures may mean less than they seem to.
    doubts: Vec<String>,
    latency: Option<LatencyFigures>,
    timeline: TimelineFigures,
}

/// A median with the least and the greatest.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What one server did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// The server.
    pub name: String,
    /// Messages a second.
    pub per_second: Spread,
    /// Its CPU for each message, in microseconds.
    pub server_cpu_us_per_message: Spread,
    /// Octets that its processes wrote for each octet of message.
    pub written_per_message_byte: Spread,
    /// Octets that the device took for each octet of message.
    pub device_per_message_byte: Option<Spread>,
    /// Latency of the reply to the end of data (accept), or from the generator
    /// to the sink (relay; with drain that includes the time held): the median.
    pub p50_ms: Spread,
    /// The same, 99 of 100.
    pub p99_ms: Spread,
    /// From the start, or the release, to the first message.
    pub first_ms: Spread,
    /// Messages a second by those of the first server, round by round.
    pub rate_ratio: Spread,
    /// CPU for each message by that of the first server, round by round.
    pub cpu_ratio: Spread,
    /// Why the figures may mean less than they seem to.
    pub doubts: Vec<String>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// What was measured.
    pub case: String,
    /// How often.
    pub rounds: usize,
    /// The servers, in the order given.
    pub servers: Vec<Figures>,
    /// What the generator does against the built-in sink.
    pub ceiling: Ceiling,
    /// For the plot: name, latency and throughput of the last round.
    #[serde(skip)]
    curves: Vec<(String, Option<LatencyFigures>, TimelineFigures)>,
}

impl Round {
    /// Of a run that ends when all is accepted.
    pub(super) fn accepted(report: GenerateReport) -> Self {
        let doubts = doubts(&report);
        let server = report.server.as_ref();
        let latency = report.content.as_ref();
        Self {
            per_second: report.timeline.per_second,
            server_cpu_us_per_message: server.map_or(0.0, |server| server.cpu_us_per_message),
            written_per_message_byte: server.map_or(0.0, |server| server.written_per_message_byte),
            device_per_message_byte: server.and_then(|server| server.device_per_message_byte),
            p50_ms: latency.map_or(0.0, |latency| latency.p50_ms),
            p99_ms: latency.map_or(0.0, |latency| latency.p99_ms),
            first_ms: report.timeline.first_ms,
            doubts,
            latency: report.content,
            timeline: report.timeline,
        }
    }

    /// Of a run that ends when the sink has all. The run began `offset` after
    /// the sink.
    pub(super) fn relayed(
        report: GenerateReport,
        sink: &SinkReport,
        offset: Duration,
        before: Usage,
        after: Usage,
    ) -> Self {
        let mut doubts = doubts(&report);
        for (what, count) in [
            ("duplicates", sink.duplicates),
            ("messages missing", sink.missing),
            ("messages damaged", sink.damaged),
            ("messages that are not ours", sink.foreign),
        ] {
            if count > 0 {
                doubts.push(format!("{count} {what} at the sink"));
            }
        }
        let offset_ms = offset.as_secs_f64() * 1e3;
        // The warm-up was a run of its own.
        let run = sink.runs.iter().find(|run| run.run == report.run).cloned();
        let run = run.unwrap_or_default();
        let messages = run.whole + run.partly;
        let seconds = (run.last_ms - offset_ms) / 1e3;
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let bytes = |after: u64, before: u64| {
            per(after.saturating_sub(before) as f64, report.accepted_bytes)
        };
        Self {
            per_second: if seconds > 0.0 {
                sink.messages as f64 / seconds
            } else {
                0.0
            },
            server_cpu_us_per_message: per(cpu_seconds * 1e6, messages),
            written_per_message_byte: bytes(after.written_bytes, before.written_bytes),
            device_per_message_byte: after
                .device_bytes
                .zip(before.device_bytes)
                .map(|(after, before)| bytes(after, before)),
            p50_ms: sink.transit.as_ref().map_or(0.0, |latency| latency.p50_ms),
            p99_ms: sink.transit.as_ref().map_or(0.0, |latency| latency.p99_ms),
            first_ms: run.first_ms - offset_ms,
            doubts,
            latency: sink.transit.clone(),
            timeline: sink.timeline.clone(),
        }
    }
}

fn doubts(report: &GenerateReport) -> Vec<String> {
    let mut doubts = Vec::new();
    let refused: u64 = report.refused.values().sum();
    for (what, count) in [
        ("messages refused", refused),
        ("messages without a reply", report.unanswered),
        ("connections failed", report.connections_failed),
        ("connections lost", report.connections_lost),
        ("violations", report.violations),
    ] {
        if count > 0 {
            doubts.push(format!("{count} {what}"));
        }
    }
    doubts
}

impl CompareReport {
    pub(super) fn new(case: Case, servers: Vec<(String, Vec<Round>)>, ceiling: Ceiling) -> Self {
        let base = servers[0].1.clone();
        let figures = |(name, rounds): &(String, Vec<Round>)| {
            let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
            let ratio = |of: fn(&Round) -> f64| {
                Spread::of(
                    rounds
                        .iter()
                        .zip(&base)
                        .filter(|(_, base)| of(base) > 0.0)
                        .map(|(round, base)| of(round) / of(base)),
                )
            };
            let on_device: Vec<f64> = rounds
                .iter()
                .filter_map(|round| round.device_per_message_byte)
                .collect();
            let mut doubts: Vec<String> = rounds
                .iter()
                .flat_map(|round| round.doubts.clone())
                .collect();
            if spread(|round| round.per_second).max > 0.7 * ceiling.per_second {
                doubts.push("the generator is near its own ceiling".to_owned());
            }
            Figures {
                name: name.clone(),
                per_second: spread(|round| round.per_second),
                server_cpu_us_per_message: spread(|round| round.server_cpu_us_per_message),
                written_per_message_byte: spread(|round| round.written_per_message_byte),
                device_per_message_byte: (!on_device.is_empty())
                    .then(|| Spread::of(on_device.into_iter())),
                p50_ms: spread(|round| round.p50_ms),
                p99_ms: spread(|round| round.p99_ms),
                first_ms: spread(|round| round.first_ms),
                rate_ratio: ratio(|round| round.per_second),
                cpu_ratio: ratio(|round| round.server_cpu_us_per_message),
                doubts,
            }
        };
        let curves = servers.iter().filter_map(|(name, rounds)| {
            let last = rounds.last()?;
            Some((name.clone(), last.latency.clone(), last.timeline.clone()))
        });
        Self {
            case: format!("{case:?}").to_lowercase(),
            rounds: base.len(),
            servers: servers.iter().map(figures).collect(),
            curves: curves.collect(),
            ceiling,
        }
    }

    /// Latency and throughput of the last round, as SVG.
    #[must_use]
    pub fn plot(&self) -> String {
        let latencies: Vec<_> = self
            .curves
            .iter()
            .map(|(name, latency, _)| (name.clone(), latency.as_ref()))
            .collect();
        let timelines: Vec<_> = self
            .curves
            .iter()
            .map(|(name, _, timeline)| (name.clone(), timeline))
            .collect();
        crate::plot::document(&self.case, &latencies, &timelines)
    }
}

impl Spread {
    /// Of no values: all zero.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self {
                median: 0.0,
                min: 0.0,
                max: 0.0,
            };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self {
            median,
            min: *min,
            max: *max,
        }
    }
}

impl fmt::Display for CompareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, median (least to greatest) of {} rounds",
            self.case, self.rounds
        )?;
        for server in &self.servers {
            writeln!(f, "{}", server.name)?;
            writeln!(
                f,
                "  messages a second     {:.0}   {:.2} times the first",
                server.per_second, server.rate_ratio
            )?;
            writeln!(
                f,
                "  CPU us a message      {:.1}   {:.3} times the first",
                server.server_cpu_us_per_message, server.cpu_ratio
            )?;
            write!(
                f,
                "  written a byte        {:.2}",
                server.written_per_message_byte
            )?;
            match &server.device_per_message_byte {
                Some(device) => writeln!(f, "   on the device {device:.2}")?,
                None => writeln!(f)?,
            }
            writeln!(
                f,
                "  latency ms            50 % {:.2}   99 % {:.2}",
                server.p50_ms, server.p99_ms
            )?;
            writeln!(f, "  first message ms      {:.1}", server.first_ms)?;
            for doubt in &server.doubts {
                writeln!(f, "  doubt                 {doubt}")?;
            }
        }
        write!(
            f,
            "ceiling of the generator: {:.0} a second, {:.1} us a message",
            self.ceiling.per_second, self.ceiling.cpu_us_per_message
        )
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.min, self.max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let check = |values: &[f64], median, min, max| {
            assert_eq!(
                Spread::of(values.iter().copied()),
                Spread { median, min, max }
            );
        };
        check(&[], 0.0, 0.0, 0.0);
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
        let spread = Spread {
            median: 2.0,
            min: 1.0,
            max: 3.26,
        };
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0 to 3.3)");
    }
}
