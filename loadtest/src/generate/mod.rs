//! The generator: sessions on threads with a ring each, and the account of what
//! came of it.

mod hold;
mod options;
mod report;
mod source;
mod thread;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub(crate) use options::parse_server;
pub use options::{Options, Work};
pub use report::{Ceiling, GenerateReport, HoldFigures, ServerCost};

use crate::dialogue::{Dialogue, Purpose};
use crate::process::Usage;
use crate::sink::{self, Sink, message_clock};
use crate::sizes::Draws;
use crate::tally::Tally;
use hold::Hold;
use source::{Extent, Source};
use thread::{Lanes, Thread};

/// Without a count or a duration.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How long the ceiling is measured at most: long enough for a steady state.
const CEILING_DURATION: Duration = Duration::from_secs(2);

/// Loads `options.server`, and reports.
///
/// # Errors
/// Where options contradict one another or the machine refuses (rings, threads,
/// descriptors). What the server does is in the report.
pub fn run(options: &Options) -> io::Result<GenerateReport> {
    let mut report = load(options)?;
    if options.ceiling {
        report.ceiling = Some(ceiling(&options.work)?);
    }
    Ok(report)
}

fn load(options: &Options) -> io::Result<GenerateReport> {
    let dialogue = options
        .work
        .dialogue(message_clock())
        .map_err(io::Error::other)?;
    let seed = options.work.seed.unwrap_or_else(drawn_seed);
    // The run's id is drawn even where the seed is given: a sink that saw the
    // run before must not count this one as its duplicates.
    let run = Draws::new(drawn_seed()).next() as u32;
    let finished = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let mut hold = None;
        let before_hold = options.watch.usage();
        let mut held = None;
        if options.hold > 0 {
            let (tell, told) = mpsc::channel();
            let (dialogue, finished) = (&dialogue, &finished);
            hold = Some(scope.spawn(move || {
                let start = Instant::now();
                let tls = crate::tls::client(options.work.handshakes())?;
                Hold::new(options.server, dialogue, tls, start)?.run(
                    options.hold,
                    // Nobody listens any more only if the load failed to start.
                    |count| tell.send(count).unwrap_or(()),
                    || finished.load(Ordering::Relaxed),
                )
            }));
            // An error of the thread ends the wait too: the sender is dropped.
            let Ok(count) = told.recv() else {
                let ended = hold
                    .take()
                    .map(|hold| hold.join().expect("the holding thread"));
                let error = ended.and_then(Result::err);
                let error = error.unwrap_or_else(|| io::Error::other("stopped"));
                return Err(io::Error::other(format!(
                    "holding {} connections: {error}",
                    options.hold
                )));
            };
            held = Some(HoldFigures::new(count, before_hold, options.watch.usage()));
        }

        let before = options.watch.usage();
        let start = Instant::now();
        let result = load_threads(options, &dialogue, run, seed, start);
        let seconds = start.elapsed().as_secs_f64();
        let after = options.watch.usage();
        finished.store(true, Ordering::Relaxed);
        if let Some(hold) = hold {
            let tally = hold.join().expect("the holding thread")?;
            if let Some(held) = &mut held {
                held.lost = tally.connections_lost + tally.connections_failed;
            }
        }
        let (tally, cpu_seconds) = result?;
        let server = options
            .watch
            .any()
            .then(|| ServerCost::new(before, after, &tally));
        Ok(GenerateReport::new(
            &options.work,
            run,
            seed,
            seconds,
            &tally,
            cpu_seconds,
            server,
            held,
        ))
    })
}

/// Runs the threads to their end: what they counted, and their CPU seconds.
fn load_threads(
    options: &Options,
    dialogue: &Dialogue,
    run: u32,
    seed: u64,
    start: Instant,
) -> io::Result<(Tally, f64)> {
    let work = &options.work;
    let threads = u32::from(work.threads);
    let tls = crate::tls::client(work.handshakes())?;
    let purpose = if work.etrn.is_some() {
        Purpose::Etrn
    } else {
        Purpose::Send
    };
    let duration = match (work.duration, work.messages) {
        (None, None) => Some(DEFAULT_DURATION),
        (duration, _) => duration,
    };
    let extent = Extent {
        messages: work.messages,
        until: duration.map(|duration| start + duration),
        rate: work.rate,
    };
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for thread in 0..threads {
            // Share s of n things over threads: this one's, and those before it.
            let share = |total: usize| {
                let (thread, threads) = (thread as usize, threads as usize);
                total / threads + usize::from(thread < total % threads)
            };
            let lanes = Lanes {
                count: share(work.sessions),
                slow: share(work.slow.min(work.sessions)),
                slow_rate: work.slow_rate,
                purpose,
                timeout: work.timeout,
                failures_max: work.failures_max,
            };
            let source = Source::new(
                run,
                (thread, threads),
                extent,
                start,
                work.size.clone(),
                seed,
            );
            let tls = Arc::clone(&tls);
            let cpu = crate::thread::cpu_of(&work.cpu, thread as usize);
            running.push(scope.spawn(move || {
                crate::thread::pin(cpu)?;
                let thread = Thread::new(options.server, dialogue, lanes, source, tls, start)?;
                let tally = if lanes.count == 0 && options.hold > 0 {
                    thread.wait_until(extent.until)
                } else {
                    thread.run()?
                };
                Ok((tally, crate::thread::cpu_seconds()))
            }));
        }
        let mut total = Tally::new(start);
        let mut cpu_seconds = 0.0;
        let mut failed = None;
        for thread in running {
            match thread.join().expect("a generator's thread") {
                Ok((tally, cpu)) => {
                    total.add(&tally);
                    cpu_seconds += cpu;
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok((total, cpu_seconds)), Err)
    })
}

/// The same work against the built-in sink: what this generator could do.
///
/// # Errors
/// As [`run`].
pub fn ceiling(work: &Work) -> io::Result<Ceiling> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // The sink gets the CPUs that the generator was not pinned to.
    let free: Vec<usize> = (0..cpus).filter(|cpu| !work.cpu.contains(cpu)).collect();
    let sink = Sink::start(&sink::Options {
        cpu: if work.cpu.is_empty() {
            Vec::new()
        } else {
            free
        },
        tls: work.tls,
        ..sink::Options::default()
    })?;
    let same = Work {
        rate: None,
        slow: 0,
        duration: Some(
            work.duration
                .unwrap_or(CEILING_DURATION)
                .min(CEILING_DURATION),
        ),
        messages: None,
        ..work.clone()
    };
    let report = load(&Options::new(sink.address(), same))?;
    let sink = sink.finish()?;
    Ok(Ceiling {
        per_second: report.timeline.steady_per_second,
        cpu_us_per_message: report.cpu_us_per_message,
        sink_cpu_us_per_message: sink.cpu_us_per_message,
    })
}

/// A number that differs from run to run.
fn drawn_seed() -> u64 {
    let mut seed = [0; 8];
    match rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(seed),
        // Never seen on Linux for eight octets; the clock differs too.
        _ => message_clock().nanoseconds(Instant::now()),
    }
}

impl HoldFigures {
    fn new(connections: usize, before: Usage, held: Usage) -> Self {
        let bytes = held.resident_bytes.saturating_sub(before.resident_bytes);
        Self {
            connections,
            lost: 0,
            server_resident_bytes_before: before.resident_bytes,
            server_resident_bytes: held.resident_bytes,
            bytes_per_connection: sink::per(bytes as f64, connections as u64),
        }
    }
}
