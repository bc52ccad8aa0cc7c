//! What is remembered of a link's times on line, for the operator and for estimates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Spent;

/// Times on line that are remembered: with three a day, a month of them.
pub const OUTINGS_MAX: usize = 100;

/// Times on line from which an estimate is made: the line is as it was lately.
const ESTIMATED_FROM: usize = 10;

/// One time on line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outing {
    /// When it began, in milliseconds since 1970.
    pub began_millis: i64,
    /// We opened it.
    pub ours: bool,
    /// Why.
    pub why: String,
    /// How it ended.
    pub ended: String,
    /// How long it was, in milliseconds.
    pub millis: u64,
    /// Octets over the interface, in both directions; 0 where they are not counted.
    pub octets: u64,
    /// Messages sent.
    pub messages: u64,
    /// Octets of those.
    pub message_octets: u64,
    /// Messages received. Older versions did not count them.
    #[serde(default)]
    pub received: u64,
    /// Octets of those.
    #[serde(default)]
    pub received_octets: u64,
}

/// A link that we had begun to open, and had not seen down, when this was kept. Read by a
/// start, it was left open by a server that ended without a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOpen {
    /// When it came up, or else was dialled, in milliseconds since 1970.
    pub began_millis: i64,
    /// It had come up; else it was being dialled.
    pub up: bool,
    /// How long it had been up, in milliseconds: so much was charged.
    pub millis: u64,
    /// How much time has passed since, in milliseconds. Whoever reads it says.
    #[serde(skip)]
    pub since_millis: u64,
}

/// What the shell keeps of a link over a restart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// What was spent, by period.
    #[serde(default)]
    pub spent: Vec<Spent>,
    /// Times on line, oldest first.
    #[serde(default)]
    pub outings: Vec<Outing>,
    /// We have it open. Older versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_open: Option<LeftOpen>,
}

impl Memory {
    /// One more; the oldest is forgotten.
    pub fn remember(&mut self, outing: Outing) {
        if self.outings.len() >= OUTINGS_MAX {
            let excess = self.outings.len() + 1 - OUTINGS_MAX;
            self.outings.drain(..excess);
        }
        self.outings.push(outing);
    }

    /// Octets of messages that the link carries in a second, by what it did lately.
    /// `None`: nobody knows yet.
    #[must_use]
    pub fn octets_per_second(&self) -> Option<u64> {
        let lately = self.outings.iter().rev().filter(|o| o.message_octets > 0);
        let (octets, millis) =
            lately
                .take(ESTIMATED_FROM)
                .fold((0_u64, 0_u64), |(octets, millis), outing| {
                    (
                        octets.saturating_add(outing.message_octets),
                        millis.saturating_add(outing.millis),
                    )
                });
        let rate = octets.saturating_mul(1000).checked_div(millis)?;
        (rate > 0).then_some(rate)
    }
}

/// How long so many octets take at this rate.
#[must_use]
pub fn time_for(octets: u64, octets_per_second: u64) -> Duration {
    Duration::from_secs(octets.div_ceil(octets_per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outing(millis: u64, message_octets: u64) -> Outing {
        Outing {
            began_millis: 0,
            ours: true,
            why: String::new(),
            ended: String::new(),
            millis,
            octets: 0,
            messages: 1,
            message_octets,
            received: 0,
            received_octets: 0,
        }
    }

    #[test]
    fn the_rate_is_that_of_late() {
        let mut memory = Memory::default();
        assert_eq!(memory.octets_per_second(), None);
        memory.remember(outing(1000, 0));
        assert_eq!(memory.octets_per_second(), None, "nothing was sent");
        for _ in 0..3 * OUTINGS_MAX {
            memory.remember(outing(1000, 99));
        }
        assert_eq!(memory.outings.len(), OUTINGS_MAX);
        for _ in 0..ESTIMATED_FROM {
            memory.remember(outing(2000, 10_000));
        }
        assert_eq!(memory.octets_per_second(), Some(5000));
        assert_eq!(time_for(10_001, 5000), Duration::from_secs(3));
    }
}
