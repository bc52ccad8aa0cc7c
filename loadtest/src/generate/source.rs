//! Where a thread's messages come from: its share of the count, at its share of
//! the rate, until the time is up.

use std::time::{Duration, Instant};

use crate::dialogue::{Job, Next, Work};
use crate::kernel::signal;
use crate::message::MessageId;
use crate::sizes::{Draws, Sizes};

/// One thread's part of the work. Numbers of messages are dense over all
/// threads: thread t of n takes t, t + n, t + 2n, …
#[derive(Debug)]
pub(super) struct Source {
    run: u32,
    thread: u32,
    threads: u32,
    /// Jobs given out.
    issued: u32,
    /// Jobs to give out.
    share: u32,
    until: Option<Instant>,
    start: Instant,
    /// Between two jobs of this thread.
    interval: Option<Duration>,
    sizes: Sizes,
    draws: Draws,
}

/// How much work there is over all threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) messages: Option<u32>,
    pub(super) until: Option<Instant>,
    pub(super) rate: Option<f64>,
}

impl Source {
    pub(super) fn new(
        run: u32,
        (thread, threads): (u32, u32),
        extent: Extent,
        start: Instant,
        sizes: Sizes,
        seed: u64,
    ) -> Self {
        let share = extent.messages.map_or(u32::MAX / threads, |messages| {
            messages / threads + u32::from(thread < messages % threads)
        });
        Self {
            run,
            thread,
            threads,
            issued: 0,
            share,
            until: extent.until,
            start,
            interval: extent
                .rate
                .map(|rate| Duration::from_secs_f64(f64::from(threads) / rate)),
            sizes,
            draws: Draws::new(seed ^ u64::from(thread)),
        }
    }

    /// No job will come any more.
    pub(super) fn exhausted(&self, now: Instant) -> bool {
        self.issued == self.share
            || self.until.is_some_and(|until| now >= until)
            || signal::stop_asked()
    }

    /// When the next job is due; `None` at once.
    pub(super) fn due(&self) -> Option<Instant> {
        // Thread t begins a little later, so that the threads take turns.
        self.interval.map(|interval| {
            self.start
                + interval.mul_f64(
                    f64::from(self.issued) + f64::from(self.thread) / f64::from(self.threads),
                )
        })
    }
}

impl Work for Source {
    fn next(&mut self, now: Instant) -> Next {
        if self.exhausted(now) {
            return Next::Never;
        }
        let due = self.due().unwrap_or(now);
        if due > now {
            return Next::Later;
        }
        let number = self.thread + self.issued * self.threads;
        self.issued += 1;
        let template = self.sizes.choose(self.draws.next());
        Next::Job(Job {
            id: MessageId {
                run: self.run,
                number,
            },
            template,
            due,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(thread: u32, threads: u32, messages: u32, rate: Option<f64>, now: Instant) -> Source {
        let extent = Extent {
            messages: Some(messages),
            until: None,
            rate,
        };
        Source::new(7, (thread, threads), extent, now, "1k".parse().unwrap(), 1)
    }

    #[test]
    fn the_numbers_of_all_threads_are_dense() {
        let now = Instant::now();
        let mut numbers = Vec::new();
        for thread in 0..3 {
            let mut source = source(thread, 3, 10, None, now);
            while let Next::Job(job) = source.next(now) {
                numbers.push(job.id.number);
            }
            assert!(source.exhausted(now));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_makes_jobs_due_evenly() {
        let start = Instant::now();
        let mut sources: Vec<_> = (0..2)
            .map(|thread| source(thread, 2, 100, Some(10.0), start))
            .collect();
        let mut at = Vec::new();
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            for source in &mut sources {
                while let Next::Job(_) = source.next(now) {
                    at.push(ms);
                }
            }
        }
        assert_eq!(at, (0..10).map(|tenth| tenth * 100).collect::<Vec<_>>());
    }
}
