//! What a link reports.

use std::fmt;

use serde::Serialize;

/// What went over a link.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LinkReport {
    /// Connections taken.
    pub connections: u64,
    /// Connections turned away, since the link was down or the target refused.
    pub refused: u64,
    /// Connections cut.
    pub cuts: u64,
    /// How often a client began to send after it had waited for an answer, with
    /// nothing of its direction under way: what requests and answers cost.
    pub round_trips: u64,
    /// From the first octet to the last.
    pub seconds: f64,
    /// Towards the targets of `--forward`.
    pub up: LineFigures,
    /// From them.
    pub down: LineFigures,
}

/// One direction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LineFigures {
    /// Octets that connections gave to it.
    pub bytes: u64,
    /// With headers, and what was sent twice.
    pub wire_bytes: u64,
    /// Segments, each once.
    pub segments: u64,
    /// Segments lost.
    pub lost_segments: u64,
    /// How long it was sending.
    pub busy_seconds: f64,
    /// The part of the time from the first octet to the last that it was sending.
    pub utilisation: f64,
}

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "link         {} connections, {} refused, {} cut; {} round trips in {:.2} s",
            self.connections, self.refused, self.cuts, self.round_trips, self.seconds
        )?;
        writeln!(f, "up           {}", self.up)?;
        write!(f, "down         {}", self.down)
    }
}

impl fmt::Display for LineFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} octets ({} on the wire), {} segments, {} lost; sending {:.2} s, {:.1} % of the time",
            self.bytes,
            self.wire_bytes,
            self.segments,
            self.lost_segments,
            self.busy_seconds,
            100.0 * self.utilisation
        )
    }
}
