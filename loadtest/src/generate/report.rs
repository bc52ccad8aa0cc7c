//! What a generator reports, as a value for JSON and as text.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Work;
use crate::process::Usage;
use crate::sink::per;
use crate::tally::{LatencyFigures, Tally, TimelineFigures};

/// The result of a load.
#[derive(Clone, Debug, Serialize)]
pub struct GenerateReport {
    /// Which run: the first half of its messages' ids.
    pub run: String,
    /// The seed, to do the same again.
    pub seed: u64,
    /// The work, in words.
    pub work: String,
    /// Messages accepted with a positive reply to their end.
    pub accepted: u64,
    /// Octets of those, content only.
    pub accepted_bytes: u64,
    /// Messages (and greetings) refused, by reply code.
    pub refused: BTreeMap<u16, u64>,
    /// Replies to ETRN, by code.
    pub etrn_replies: BTreeMap<u16, u64>,
    /// Recipients refused.
    pub recipients_refused: u64,
    /// Messages whose connection ended before the reply: their fate is unknown.
    pub unanswered: u64,
    /// Connections made.
    pub connections_opened: u64,
    /// Connections that could not be made, or were refused in the greeting.
    pub connections_failed: u64,
    /// What the kernel said about the first connection that ended badly.
    pub first_failure: Option<String>,
    /// Connections that ended in the middle of something.
    pub connections_lost: u64,
    /// Sessions given up for want of a reply.
    pub timeouts: u64,
    /// Things that no server should do.
    pub violations: u64,
    /// The first of those, in words.
    pub first_violation: Option<String>,
    /// From the start to the end of the last session.
    pub seconds: f64,
    /// CPU of the generator's threads.
    pub cpu_seconds: f64,
    /// The same for each message (or ETRN).
    pub cpu_us_per_message: f64,
    /// MAIL sent until its reply.
    pub mail: Option<LatencyFigures>,
    /// End of data sent until its reply.
    pub content: Option<LatencyFigures>,
    /// A message due until the reply to its end.
    pub whole: Option<LatencyFigures>,
    /// ETRN sent until its reply.
    pub etrn: Option<LatencyFigures>,
    /// Accepted messages (or ETRN replies) over time.
    pub timeline: TimelineFigures,
    /// What the watched server spent.
    pub server: Option<ServerCost>,
    /// The connections held besides.
    pub held: Option<HoldFigures>,
    /// What this generator does against the built-in sink.
    pub ceiling: Option<Ceiling>,
}

/// What a server spent on the messages.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ServerCost {
    /// User and system time.
    pub cpu_seconds: f64,
    /// The same for each message.
    pub cpu_us_per_message: f64,
    /// Octets written by its processes.
    pub written_bytes: u64,
    /// The same for each octet of message.
    pub written_per_message_byte: f64,
    /// Octets that the device took.
    pub device_bytes: Option<u64>,
    /// The same for each octet of message.
    pub device_per_message_byte: Option<f64>,
    /// Its resident memory at the end.
    pub resident_bytes: u64,
}

/// Idle connections that were held.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HoldFigures {
    /// How many had said EHLO when the memory was looked at.
    pub connections: usize,
    /// How many failed or ended before they were let go.
    pub lost: u64,
    /// Resident memory of the server before.
    pub server_resident_bytes_before: u64,
    /// Resident memory of the server with all of them.
    pub server_resident_bytes: u64,
    /// The difference for each.
    pub bytes_per_connection: f64,
}

/// What the generator can do at most, on this machine with this work.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Ceiling {
    /// Messages a second against the built-in sink.
    pub per_second: f64,
    /// The generator's CPU for each.
    pub cpu_us_per_message: f64,
    /// The sink's.
    pub sink_cpu_us_per_message: f64,
}

impl ServerCost {
    pub(super) fn new(before: Usage, after: Usage, tally: &Tally) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let written_bytes = after.written_bytes.saturating_sub(before.written_bytes);
        let device_bytes = before
            .device_bytes
            .zip(after.device_bytes)
            .map(|(before, after)| after.saturating_sub(before));
        Self {
            cpu_seconds,
            cpu_us_per_message: per(cpu_seconds * 1e6, done(tally)),
            written_bytes,
            written_per_message_byte: per(written_bytes as f64, tally.accepted_bytes),
            device_bytes,
            device_per_message_byte: device_bytes
                .map(|bytes| per(bytes as f64, tally.accepted_bytes)),
            resident_bytes: after.resident_bytes,
        }
    }
}

/// Messages, or ETRN replies where there were none.
fn done(tally: &Tally) -> u64 {
    tally.accepted + tally.etrn_replies.values().sum::<u64>()
}

impl GenerateReport {
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of a report, put together once"
    )]
    pub(super) fn new(
        work: &Work,
        run: u32,
        seed: u64,
        seconds: f64,
        tally: &Tally,
        cpu_seconds: f64,
        server: Option<ServerCost>,
        held: Option<HoldFigures>,
    ) -> Self {
        Self {
            run: format!("{run:08x}"),
            seed,
            work: in_words(work),
            accepted: tally.accepted,
            accepted_bytes: tally.accepted_bytes,
            refused: tally.refused.clone(),
            etrn_replies: tally.etrn_replies.clone(),
            recipients_refused: tally.recipients_refused,
            unanswered: tally.unanswered,
            connections_opened: tally.connections_opened,
            connections_failed: tally.connections_failed,
            first_failure: tally.first_failure.clone(),
            connections_lost: tally.connections_lost,
            timeouts: tally.timeouts,
            violations: tally.violations,
            first_violation: tally.first_violation.clone(),
            seconds,
            cpu_seconds,
            cpu_us_per_message: per(cpu_seconds * 1e6, done(tally)),
            mail: tally.mail.figures(),
            content: tally.content.figures(),
            whole: tally.whole.figures(),
            etrn: tally.etrn.figures(),
            timeline: tally.timeline.figures(),
            server,
            held,
            ceiling: None,
        }
    }

    /// Whether everything that was asked of the server was done.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.refused.is_empty()
            && self.unanswered == 0
            && self.connections_failed == 0
            && self.connections_lost == 0
            && self.timeouts == 0
            && self.violations == 0
    }
}

fn in_words(work: &Work) -> String {
    let mut text = format!("{} sessions", work.sessions);
    if let Some(messages) = work.messages_per_session {
        text += &format!(" of {messages}");
    }
    match &work.etrn {
        Some(node) => text += &format!(", ETRN {node}"),
        None => {
            text += &format!(
                ", {} octets, {:?}, pipelining {}",
                work.size, work.transfer, work.pipelining
            );
        }
    }
    if work.recipients > 1 {
        text += &format!(", {} recipients", work.recipients);
    }
    if let Some(rate) = work.rate {
        text += &format!(", {rate} a second");
    }
    if work.slow > 0 {
        text += &format!(", {} slow at {} octets a second", work.slow, work.slow_rate);
    }
    text
}

impl fmt::Display for GenerateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "work         {}", self.work)?;
        let timeline = &self.timeline;
        let done = self.accepted + self.etrn_replies.values().sum::<u64>();
        writeln!(
            f,
            "done         {done} in {:.2} s: {:.0} a second (steady {:.0}), first after {:.1} ms",
            self.seconds, timeline.per_second, timeline.steady_per_second, timeline.first_ms
        )?;
        for (name, latency) in [
            ("MAIL reply", &self.mail),
            ("end reply", &self.content),
            ("whole", &self.whole),
            ("ETRN reply", &self.etrn),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "{name:<13}{latency}")?;
            }
        }
        writeln!(
            f,
            "generator    {:.2} s CPU, {:.1} us a message",
            self.cpu_seconds, self.cpu_us_per_message
        )?;
        if let Some(server) = &self.server {
            write!(
                f,
                "server       {:.2} s CPU, {:.1} us a message; {:.2} octets written for each of a \
                 message",
                server.cpu_seconds, server.cpu_us_per_message, server.written_per_message_byte
            )?;
            if let Some(device) = server.device_per_message_byte {
                write!(f, ", {device:.2} on the device")?;
            }
            writeln!(f, "; {} KiB resident", server.resident_bytes / 1024)?;
        }
        if let Some(held) = &self.held {
            writeln!(
                f,
                "held         {} connections ({} lost), {:.0} octets of the server's memory each",
                held.connections, held.lost, held.bytes_per_connection
            )?;
        }
        if let Some(ceiling) = &self.ceiling {
            writeln!(
                f,
                "ceiling      {:.0} a second against the built-in sink, {:.1} us of generator and \
                 {:.1} us of sink a message: the result is {:.0} % of it",
                ceiling.per_second,
                ceiling.cpu_us_per_message,
                ceiling.sink_cpu_us_per_message,
                100.0 * timeline.steady_per_second / ceiling.per_second.max(1.0)
            )?;
        }
        for (name, codes) in [
            ("refused", &self.refused),
            ("ETRN replies", &self.etrn_replies),
        ] {
            if !codes.is_empty() {
                write!(f, "{name:<13}")?;
                for (code, count) in codes {
                    write!(f, "{count} with {code}  ")?;
                }
                writeln!(f)?;
            }
        }
        for (what, count) in [
            ("recipients refused", self.recipients_refused),
            ("messages without a reply", self.unanswered),
            ("connections that failed", self.connections_failed),
            ("connections lost", self.connections_lost),
            ("sessions that waited too long", self.timeouts),
            ("violations", self.violations),
        ] {
            if count > 0 {
                writeln!(f, "trouble      {count} {what}")?;
            }
        }
        for first in [&self.first_violation, &self.first_failure]
            .into_iter()
            .flatten()
        {
            writeln!(f, "first        {first}")?;
        }
        write!(f, "run          {}, seed {}", self.run, self.seed)
    }
}

impl fmt::Display for LatencyFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mean {:.2} ms, 50 % {:.2}, 90 % {:.2}, 99 % {:.2}, 99.9 % {:.2}, max {:.2}",
            self.mean_ms, self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )
    }
}
