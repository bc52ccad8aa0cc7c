//! One direction of a link: when octets that are given to it come out at the
//! far end. A machine: time goes in as an argument, chance as a seed.
//!
//! All connections share it: octets leave one after the other at the line's
//! bandwidth. Loss is a stall: a lost segment is sent again after a time-out,
//! and what follows it *on the same connection* waits for it, since TCP delivers
//! in order; other connections' octets do not wait.
//!
//! Not simulated: slow start, reordering, and headers of lower layers, except
//! as `overhead_bytes` a segment.

use std::time::{Duration, Instant};

use crate::sizes::Draws;

/// Octets of payload in a segment of a link with an MTU of 1,500.
pub(crate) const SEGMENT_BYTES: usize = 1460;
/// Times that one segment is lost at most; TCP would give up after some more.
const LOSSES_MAX: u32 = 8;

/// What a line is like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct LineOptions {
    /// Octets a second; `None` without limit.
    pub(crate) bytes_per_second: Option<f64>,
    /// From one end to the other, without the time of sending.
    pub(crate) delay: Duration,
    /// Chance of a segment to be lost.
    pub(crate) loss: f64,
    /// How long until a lost segment is sent again.
    pub(crate) stall: Duration,
    /// Octets of lower layers' headers with each segment.
    pub(crate) overhead_bytes: usize,
}

/// A line and what has gone over it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    options: LineOptions,
    draws: Draws,
    free_at: Instant,
    pub(crate) segments: u64,
    pub(crate) lost_segments: u64,
    /// With headers, and with what was sent twice.
    pub(crate) wire_bytes: u64,
    pub(crate) busy: Duration,
}

impl Line {
    pub(crate) fn new(options: LineOptions, start: Instant, seed: u64) -> Self {
        Self {
            options,
            draws: Draws::new(seed),
            free_at: start,
            segments: 0,
            lost_segments: 0,
            wire_bytes: 0,
            busy: Duration::ZERO,
        }
    }

    /// The octets that are best given to the line at a time: small enough that
    /// the first of them arrive early, large enough to be no burden on a fast
    /// line.
    pub(crate) fn piece_bytes(&self) -> usize {
        let in_five_ms = self
            .options
            .bytes_per_second
            .map_or(f64::MAX, |rate| rate * 0.005);
        let segments = (in_five_ms / SEGMENT_BYTES as f64).clamp(1.0, 44.0) as usize;
        segments * SEGMENT_BYTES
    }

    /// Whether all that was given to it has left.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.free_at <= now
    }

    /// Sends `bytes` octets of a connection at `now`; those before them arrive
    /// at `after`. Returns when these arrive.
    pub(crate) fn send(&mut self, now: Instant, bytes: usize, after: Instant) -> Instant {
        let mut stalled = Duration::ZERO;
        let segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
        let mut wire_bytes = bytes + segments * self.options.overhead_bytes;
        self.segments += segments as u64;
        if self.options.loss > 0.0 {
            for _ in 0..segments {
                let mut losses = 0;
                while losses < LOSSES_MAX && self.draws.fraction() < self.options.loss {
                    losses += 1;
                    wire_bytes += SEGMENT_BYTES + self.options.overhead_bytes;
                    stalled += self.options.stall;
                }
                self.lost_segments += u64::from(losses);
            }
        }
        self.wire_bytes += wire_bytes as u64;
        let sending = self
            .options
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| {
                Duration::from_secs_f64(wire_bytes as f64 / rate)
            });
        self.busy += sending;
        self.free_at = self.free_at.max(now) + sending;
        (self.free_at + self.options.delay + stalled).max(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LineOptions {
        LineOptions {
            bytes_per_second: Some(16_000.0),
            delay: Duration::from_millis(300),
            loss: 0.0,
            stall: Duration::from_secs(1),
            overhead_bytes: 0,
        }
    }

    #[test]
    fn octets_leave_one_after_the_other() {
        let start = Instant::now();
        let mut line = Line::new(options(), start, 1);
        let ms = |arrival: Instant| (arrival - start).as_millis();
        // 160 octets take 10 ms to send and 300 ms to travel.
        assert_eq!(ms(line.send(start, 160, start)), 310);
        assert_eq!(ms(line.send(start, 160, start)), 320);
        let later = start + Duration::from_millis(500);
        assert_eq!(ms(line.send(later, 160, start)), 810);
        assert_eq!(line.busy.as_millis(), 30);
        // In order behind what went before on the connection.
        assert_eq!(
            ms(line.send(later, 160, start + Duration::from_secs(9))),
            9000
        );
    }

    #[test]
    fn loss_is_a_stall_and_the_seed_decides() {
        let start = Instant::now();
        let lossy = LineOptions {
            loss: 0.2,
            bytes_per_second: None,
            ..options()
        };
        let run = |seed| {
            let mut line = Line::new(lossy, start, seed);
            let arrivals: Vec<_> = (0..1000).map(|_| line.send(start, 100, start)).collect();
            (arrivals, line.lost_segments)
        };
        let (arrivals, lost) = run(7);
        assert_eq!(run(7), (arrivals.clone(), lost));
        assert_ne!(run(8).0, arrivals);
        // 0.2 + 0.04 + …: a quarter of a thousand.
        assert!((200..300).contains(&lost), "{lost}");
        let stalled = arrivals
            .iter()
            .filter(|arrival| **arrival > start + options().delay)
            .count();
        assert!((150..250).contains(&stalled), "{stalled}");
    }

    #[test]
    fn pieces_fit_the_line() {
        let start = Instant::now();
        let check = |bytes_per_second, expected| {
            let options = LineOptions {
                bytes_per_second,
                ..options()
            };
            assert_eq!(
                Line::new(options, start, 1).piece_bytes(),
                expected * SEGMENT_BYTES
            );
        };
        check(Some(16_000.0), 1);
        check(Some(1_250_000.0), 4);
        check(None, 44);
    }
}
