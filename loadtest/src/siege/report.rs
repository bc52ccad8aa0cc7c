//! What a siege reports, as a value for JSON and as text.

use std::fmt;

use serde::Serialize;

use crate::generate::GenerateReport;

/// The honest load with and without each attack.
#[derive(Clone, Debug, Serialize)]
pub struct SiegeReport {
    /// One for each attack.
    pub rows: Vec<Beside>,
}

/// The honest load alone, and beside one kind of attack.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// Which attack.
    pub attack: String,
    /// Connections that attackers made.
    pub attacks_per_second: f64,
    /// CPU of the attackers' threads.
    pub attackers_cpu_seconds: f64,
    /// Just before.
    pub alone: Side,
    /// With the attack.
    pub beside: Side,
}

/// One run of the honest load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Side {
    /// Messages accepted.
    pub per_second: f64,
    /// A message due until the reply to its end.
    pub p50_ms: f64,
    /// The same, of the slowest hundredth.
    pub p99_ms: f64,
    /// Sessions and messages that were refused, lost or given up.
    pub trouble: u64,
    /// CPU of the watched server, in seconds of each second.
    pub server_cpu: Option<f64>,
}

impl Side {
    pub(super) fn new(report: &GenerateReport) -> Self {
        let latency = |of: fn(&crate::LatencyFigures) -> f64| report.whole.as_ref().map_or(0.0, of);
        Self {
            per_second: report.timeline.steady_per_second,
            p50_ms: latency(|figures| figures.p50_ms),
            p99_ms: latency(|figures| figures.p99_ms),
            trouble: report.refused.values().sum::<u64>()
                + report.unanswered
                + report.connections_failed
                + report.connections_lost
                + report.timeouts
                + report.violations,
            server_cpu: report
                .server
                .as_ref()
                .map(|server| server.cpu_seconds / report.seconds.max(1e-9)),
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alone, beside) = (&self.alone, &self.beside);
        write!(
            f,
            "{:<11}{:>7.0} attacks a second; honest {:>6.0} of {:>6.0} a second ({:>3.0} %), \
             50 % in {:.2} ms, alone {:.2}; 99 % in {:.2} ms, alone {:.2}",
            self.attack,
            self.attacks_per_second,
            beside.per_second,
            alone.per_second,
            100.0 * beside.per_second / alone.per_second.max(1e-9),
            beside.p50_ms,
            alone.p50_ms,
            beside.p99_ms,
            alone.p99_ms,
        )?;
        if let (Some(with), Some(without)) = (beside.server_cpu, alone.server_cpu) {
            write!(f, "; server {with:.2} CPU, alone {without:.2}")?;
        }
        write!(f, "; attackers {:.1} s CPU", self.attackers_cpu_seconds)?;
        if beside.trouble > 0 {
            write!(f, "; {} honest troubles", beside.trouble)?;
        }
        Ok(())
    }
}

impl fmt::Display for SiegeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows.iter().enumerate() {
            let end = if number + 1 < self.rows.len() {
                "\n"
            } else {
                ""
            };
            write!(f, "{row}{end}")?;
        }
        Ok(())
    }
}
