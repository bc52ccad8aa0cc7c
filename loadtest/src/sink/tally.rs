//! What a sink counts: above all which messages came, and how often.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dialogue::MessageClock;
use crate::message::Verdict;
use crate::tally::{Latency, LatencyFigures, Timeline, TimelineFigures};

/// Messages of one run that are told apart: 256 MiB of counts. Whoever numbers
/// further is counted, but not for duplicates.
const NUMBER_MAX: u32 = 1 << 27;
/// Runs that are told apart.
const RUNS_MAX: usize = 1000;

/// Counts of one thread of a sink.
#[derive(Clone, Debug)]
pub(crate) struct SinkTally {
    pub(crate) connections: u64,
    connections_failed: u64,
    first_failure: Option<String>,
    pub(crate) commands: u64,
    pub(crate) unknown_commands: u64,
    pub(crate) out_of_order: u64,
    pub(crate) rules_applied: u64,
    pub(crate) refused_by_rule: u64,
    pub(crate) receives: u64,
    pub(crate) received_bytes: u64,
    pub(crate) messages: u64,
    recipients: u64,
    damaged: u64,
    first_damage: Option<String>,
    foreign: u64,
    runs: BTreeMap<u32, Run>,
    transit: Latency,
    timeline: Timeline,
    clock: MessageClock,
}

/// The messages of one generator's run.
#[derive(Clone, Debug, Default)]
struct Run {
    /// How many recipients each message came for, by number.
    counts: Vec<u16>,
    /// How many it was to come for.
    recipients: u16,
    /// When the first and the last came, since the sink started.
    times: Option<(Duration, Duration)>,
}

impl SinkTally {
    pub(crate) fn new(start: Instant, clock: MessageClock) -> Self {
        Self {
            connections: 0,
            connections_failed: 0,
            first_failure: None,
            commands: 0,
            unknown_commands: 0,
            out_of_order: 0,
            rules_applied: 0,
            refused_by_rule: 0,
            receives: 0,
            received_bytes: 0,
            messages: 0,
            recipients: 0,
            damaged: 0,
            first_damage: None,
            foreign: 0,
            runs: BTreeMap::new(),
            transit: Latency::default(),
            timeline: Timeline::new(start),
            clock,
        }
    }

    /// A connection failed, or could not be taken.
    pub(crate) fn failed(&mut self, error: &std::io::Error) {
        self.connections_failed += 1;
        self.first_failure.get_or_insert_with(|| error.to_string());
    }

    /// A message was taken for so many recipients.
    pub(crate) fn delivered(&mut self, now: Instant, verdict: Verdict, for_recipients: usize) {
        self.messages += 1;
        self.recipients += for_recipients as u64;
        self.timeline.count(now);
        match verdict {
            Verdict::Foreign => self.foreign += 1,
            Verdict::Damaged {
                id,
                bytes,
                bytes_sent,
            } => {
                self.damaged += 1;
                self.first_damage.get_or_insert_with(|| {
                    format!(
                        "message {} of run {:08x}: a body of {bytes} octets came, {bytes_sent} \
                         were sent",
                        id.number, id.run
                    )
                });
            }
            Verdict::Whole {
                id,
                generated_nanoseconds,
                recipients,
            } => {
                let (instant, now) = (now, self.clock.nanoseconds(now));
                self.transit
                    .record_nanoseconds(now.saturating_sub(generated_nanoseconds));
                if id.number >= NUMBER_MAX
                    || (self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&id.run))
                {
                    return;
                }
                let run = self.runs.entry(id.run).or_default();
                run.recipients = recipients;
                run.came(self.timeline.since_start(instant));
                let at = id.number as usize;
                if run.counts.len() <= at {
                    run.counts.resize(at + 1, 0);
                }
                let more = u16::try_from(for_recipients).unwrap_or(u16::MAX);
                run.counts[at] = run.counts[at].saturating_add(more);
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connections_failed += other.connections_failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.commands += other.commands;
        self.unknown_commands += other.unknown_commands;
        self.out_of_order += other.out_of_order;
        self.rules_applied += other.rules_applied;
        self.refused_by_rule += other.refused_by_rule;
        self.receives += other.receives;
        self.received_bytes += other.received_bytes;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.damaged += other.damaged;
        if self.first_damage.is_none() {
            self.first_damage.clone_from(&other.first_damage);
        }
        self.foreign += other.foreign;
        self.transit.add(&other.transit);
        self.timeline.add(&other.timeline);
        for (run, theirs) in &other.runs {
            let mine = self.runs.entry(*run).or_default();
            mine.recipients = theirs.recipients;
            for time in theirs
                .times
                .iter()
                .flat_map(|(first, last)| [*first, *last])
            {
                mine.came(time);
            }
            if mine.counts.len() < theirs.counts.len() {
                mine.counts.resize(theirs.counts.len(), 0);
            }
            for (mine, theirs) in mine.counts.iter_mut().zip(&theirs.counts) {
                *mine = mine.saturating_add(*theirs);
            }
        }
    }

    pub(crate) fn report(&self, cpu_seconds: f64) -> SinkReport {
        let runs: Vec<RunFigures> = self.runs.iter().map(|(id, run)| run.figures(*id)).collect();
        SinkReport {
            messages: self.messages,
            recipients: self.recipients,
            whole: runs.iter().map(|run| run.whole).sum(),
            duplicates: runs.iter().map(|run| run.duplicates).sum(),
            missing: runs.iter().map(|run| run.missing).sum(),
            damaged: self.damaged,
            first_damage: self.first_damage.clone(),
            foreign: self.foreign,
            refused_by_rule: self.refused_by_rule,
            rules_applied: self.rules_applied,
            connections: self.connections,
            connections_failed: self.connections_failed,
            first_failure: self.first_failure.clone(),
            commands: self.commands,
            unknown_commands: self.unknown_commands,
            out_of_order: self.out_of_order,
            receives: self.receives,
            received_bytes: self.received_bytes,
            cpu_seconds,
            cpu_us_per_message: per(cpu_seconds * 1e6, self.messages),
            transit: self.transit.figures(),
            timeline: self.timeline.figures(),
            runs,
        }
    }
}

impl Run {
    fn came(&mut self, at: Duration) {
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }

    fn figures(&self, id: u32) -> RunFigures {
        let expected = self.recipients;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (first, last) = self.times.unwrap_or_default();
        let mut figures = RunFigures {
            run: format!("{id:08x}"),
            first_ms: ms(first),
            last_ms: ms(last),
            ..RunFigures::default()
        };
        for count in &self.counts {
            figures.whole += u64::from(*count >= expected);
            figures.missing += u64::from(*count == 0);
            figures.partly += u64::from(*count > 0 && *count < expected);
            figures.duplicates += u64::from(count.saturating_sub(expected));
        }
        figures
    }
}

/// `total` for each of `count`; 0 where there were none.
pub(crate) fn per(total: f64, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        total / count as f64
    }
}

/// What came to a sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    /// Messages taken, of any kind.
    pub messages: u64,
    /// Recipients that they were for.
    pub recipients: u64,
    /// Different messages of ours that came whole for all their recipients.
    pub whole: u64,
    /// Recipients that a message came for beyond those it was to come for.
    pub duplicates: u64,
    /// Numbers below the highest that never came. A generator that was refused a
    /// message leaves one too.
    pub missing: u64,
    /// Messages of ours whose body was not what was sent.
    pub damaged: u64,
    /// The first of them, in words.
    pub first_damage: Option<String>,
    /// Messages that are not ours (bounces, say).
    pub foreign: u64,
    /// Messages that a rule refused at their end.
    pub refused_by_rule: u64,
    /// How often a rule decided.
    pub rules_applied: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections that failed, accepts included.
    pub connections_failed: u64,
    /// Why the first of them did.
    pub first_failure: Option<String>,
    /// Command lines.
    pub commands: u64,
    /// Command lines that no server knows.
    pub unknown_commands: u64,
    /// Commands that may not come where they came.
    pub out_of_order: u64,
    /// Pieces in which the octets came.
    pub receives: u64,
    /// Octets that came.
    pub received_bytes: u64,
    /// CPU of the sink's threads.
    pub cpu_seconds: f64,
    /// The same for each message.
    pub cpu_us_per_message: f64,
    /// From a message's generation to its end of data here; on one machine only.
    pub transit: Option<LatencyFigures>,
    /// Messages over time, since the sink started.
    pub timeline: TimelineFigures,
    /// One for each generator's run.
    pub runs: Vec<RunFigures>,
}

impl fmt::Display for SinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeline = &self.timeline;
        writeln!(
            f,
            "taken        {} messages for {} recipients: {:.0} a second (steady {:.0}), first \
             after {:.1} ms, last after {:.1} ms",
            self.messages,
            self.recipients,
            timeline.per_second,
            timeline.steady_per_second,
            timeline.first_ms,
            timeline.last_ms
        )?;
        writeln!(
            f,
            "of ours      {} whole, {} duplicates, {} missing, {} damaged; {} foreign",
            self.whole, self.duplicates, self.missing, self.damaged, self.foreign
        )?;
        if let Some(damage) = &self.first_damage {
            writeln!(f, "damage       {damage}")?;
        }
        if let Some(transit) = &self.transit {
            writeln!(f, "transit      {transit}")?;
        }
        writeln!(
            f,
            "clients      {} connections ({} failed), {} commands ({} unknown, {} out of order), \
             {} octets in {} pieces",
            self.connections,
            self.connections_failed,
            self.commands,
            self.unknown_commands,
            self.out_of_order,
            self.received_bytes,
            self.receives
        )?;
        if let Some(failure) = &self.first_failure {
            writeln!(f, "failed       {failure}")?;
        }
        if self.rules_applied > 0 {
            writeln!(
                f,
                "rules        applied {} times, {} messages refused",
                self.rules_applied, self.refused_by_rule
            )?;
        }
        write!(
            f,
            "sink         {:.2} s CPU, {:.1} us a message",
            self.cpu_seconds, self.cpu_us_per_message
        )
    }
}

/// The messages of one generator's run.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct RunFigures {
    /// Which run, as in the generator's report.
    pub run: String,
    /// Messages that came whole, for all their recipients.
    pub whole: u64,
    /// Messages that came for some of their recipients only.
    pub partly: u64,
    /// See [`SinkReport::duplicates`].
    pub duplicates: u64,
    /// See [`SinkReport::missing`].
    pub missing: u64,
    /// From the sink's start to the first of them.
    pub first_ms: f64,
    /// From the sink's start to the last of them.
    pub last_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageId;

    #[test]
    fn whole_missing_partly_and_twice() {
        let now = Instant::now();
        let mut tally = SinkTally::new(now, MessageClock::new(now, 0));
        let mut other = tally.clone();
        let verdict = |number| Verdict::Whole {
            id: MessageId { run: 1, number },
            generated_nanoseconds: 0,
            recipients: 2,
        };
        tally.delivered(now, verdict(0), 2);
        tally.delivered(now, verdict(1), 1);
        tally.delivered(now, verdict(3), 1);
        other.delivered(now, verdict(1), 1);
        other.delivered(now, verdict(1), 2);
        other.delivered(now, Verdict::Foreign, 1);
        tally.add(&other);
        let report = tally.report(0.0);
        assert_eq!(
            (report.messages, report.recipients, report.foreign),
            (6, 8, 1)
        );
        assert_eq!(
            report.runs,
            [RunFigures {
                run: "00000001".into(),
                whole: 2,
                partly: 1,
                duplicates: 2,
                missing: 1,
                first_ms: 0.0,
                last_ms: 0.0
            }]
        );
    }
}
