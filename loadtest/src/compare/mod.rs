//! The same work against several servers, in turn, for several rounds: only
//! ratios from one machine at one time mean anything, and only with their
//! spread.

mod report;
mod server;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use report::{CompareReport, Figures, Spread};

use crate::generate::{self, GenerateReport, Work};
use crate::kernel::signal;
use crate::process::Watch;
use crate::sink::{self, Sink, SinkReport};
use report::Round;
use server::{Mode, Running, Server};

/// Messages of a run where none are given: a run must end at the same place for
/// each server.
const DEFAULT_MESSAGES: u32 = 10_000;
/// Messages before the measured ones: processes forked, caches warm.
const WARM_UP_MESSAGES: u32 = 200;
/// How long a sink waits for the next message before the run counts as stalled.
const SINK_STALL_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the sink.
const LOOK_PAUSE: Duration = Duration::from_micros(200);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Case {
    /// Messages accepted, and kept (START_HOLD).
    Accept,
    /// Messages accepted and relayed, until the sink has all (START_RELAY).
    Relay,
    /// Messages held before, from their release until the sink has all
    /// (START_DEFER; RELEASE or ETRN).
    Drain,
}

/// Run the same work against several servers in turn, and print ratios.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Files with KEY=VALUE lines, one for each server: NAME PORT HOST
    /// START_HOLD START_RELAY START_DEFER STOP RELEASE WIPE PID. Ratios are to
    /// the first.
    #[arg(long = "server", required = true)]
    pub servers: Vec<PathBuf>,
    /// What is measured.
    #[arg(long, value_enum, default_value = "accept")]
    pub case: Case,
    /// How often each server has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Port of the built-in sink, for relay and drain.
    #[arg(long, default_value_t = 2600)]
    pub sink_port: u16,
    /// CPUs for the sink, as with sink --cpu.
    #[arg(long, value_delimiter = ',')]
    pub sink_cpu: Vec<usize>,
    /// Node name of the ETRN that releases, where there is no RELEASE.
    #[arg(long, default_value = "dest.test")]
    pub etrn_domain: String,
    /// Block device of the spools, for the octets that reach it.
    #[arg(long)]
    pub disk: Option<String>,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Plot the last round to this SVG file.
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// What to do.
    #[command(flatten)]
    pub work: Work,
}

/// Compares.
///
/// # Errors
/// Where a server cannot be started, stopped or measured, with its name.
pub fn run(options: &Options) -> io::Result<CompareReport> {
    let servers = options
        .servers
        .iter()
        .map(|path| Server::read(path))
        .collect::<io::Result<Vec<_>>>()?;
    let mut work = options.work.clone();
    if work.messages.is_none() && work.duration.is_none() {
        work.messages = Some(DEFAULT_MESSAGES);
    }
    // Daemons that leave their parent become ours, so that their cost is seen
    // and nothing of them is left behind.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let ceiling = generate::ceiling(&work)?;
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for (server, results) in servers.iter().zip(&mut rounds) {
            if signal::stop_asked() {
                return Err(io::Error::other("stopped before all rounds were done"));
            }
            let result = measure(options, &work, server)
                .map_err(|error| io::Error::other(format!("{}: {error}", server.name)))?;
            eprintln!(
                "round {}, {}: {:.0} a second, {:.1} us of server CPU a message",
                round + 1,
                server.name,
                result.per_second,
                result.server_cpu_us_per_message
            );
            results.push(result);
        }
    }
    let names = servers.into_iter().map(|server| server.name);
    Ok(CompareReport::new(
        options.case,
        names.zip(rounds).collect(),
        ceiling,
    ))
}

fn measure(options: &Options, work: &Work, server: &Server) -> io::Result<Round> {
    let mode = match options.case {
        Case::Accept => Mode::Hold,
        Case::Relay => Mode::Relay,
        Case::Drain => Mode::Defer,
    };
    // A relay that looks for its next hop at once must find it; one that is to
    // hold its mail must not.
    let early_sink = if options.case == Case::Relay {
        Some(sink(options)?)
    } else {
        None
    };
    let running = server.start(mode, options.sink_port)?;
    let result = match options.case {
        Case::Accept => accept(options, work, server, &running),
        Case::Relay | Case::Drain => relay(options, work, server, &running, early_sink),
    };
    running.stop()?;
    server.wipe(options.sink_port)?;
    result
}

fn accept(
    options: &Options,
    work: &Work,
    server: &Server,
    running: &Running<'_>,
) -> io::Result<Round> {
    warm_up(work, server)?;
    let mut load = generate::Options::new(server.address, work.clone());
    load.watch = running.watch(options.disk.clone());
    let report = generate::run(&load)?;
    Ok(Round::accepted(report))
}

/// With a sink from the start, messages are relayed while they come; else they
/// are released when all are there.
fn relay(
    options: &Options,
    work: &Work,
    server: &Server,
    running: &Running<'_>,
    early_sink: Option<Sink>,
) -> io::Result<Round> {
    let load = generate::Options::new(server.address, work.clone());
    let watch = running.watch(options.disk.clone());
    if let Some(sink) = early_sink {
        let warm = warm_up(work, server)?;
        await_messages(&sink, warm)?;
        let (before, start) = (watch.usage(), Instant::now());
        let report = generate::run(&load)?;
        await_messages(&sink, warm + report.accepted)?;
        return finish(&watch, before, start, sink, report);
    }
    let report = generate::run(&load)?;
    let sink = sink(options)?;
    let (before, start) = (watch.usage(), Instant::now());
    match &server.release {
        Some(command) => server.run(command, options.sink_port)?,
        None => release_by_etrn(options, server)?,
    }
    await_messages(&sink, report.accepted)?;
    finish(&watch, before, start, sink, report)
}

/// A run that ended with what the sink has.
fn finish(
    watch: &Watch,
    before: crate::process::Usage,
    start: Instant,
    sink: Sink,
    report: GenerateReport,
) -> io::Result<Round> {
    // Before the sink's threads are joined: the server goes on doing things.
    let after = watch.usage();
    let offset = start.saturating_duration_since(sink.started());
    let sink: SinkReport = sink.finish()?;
    Ok(Round::relayed(report, &sink, offset, before, after))
}

fn warm_up(work: &Work, server: &Server) -> io::Result<u64> {
    let messages = WARM_UP_MESSAGES.max(2 * work.sessions as u32);
    let warm_up = Work {
        messages: Some(messages),
        duration: None,
        rate: None,
        slow: 0,
        size: "1024".parse().map_err(io::Error::other)?,
        ..work.clone()
    };
    Ok(generate::run(&generate::Options::new(server.address, warm_up))?.accepted)
}

fn sink(options: &Options) -> io::Result<Sink> {
    Sink::start(&sink::Options {
        listen: ([127, 0, 0, 1], options.sink_port).into(),
        cpu: options.sink_cpu.clone(),
        ..sink::Options::default()
    })
}

fn release_by_etrn(options: &Options, server: &Server) -> io::Result<()> {
    let mut work = options.work.clone();
    work.etrn = Some(options.etrn_domain.clone());
    (work.etrn_count, work.messages, work.sessions, work.threads) = (1, Some(1), 1, 1);
    (work.duration, work.rate, work.slow) = (None, None, 0);
    let report = generate::run(&generate::Options::new(server.address, work))?;
    match report.etrn_replies.first_key_value() {
        Some((250..=253, _)) => Ok(()),
        Some((code, _)) => Err(io::Error::other(format!("ETRN was answered with {code}"))),
        None => Err(io::Error::other(format!("ETRN was not answered: {report}"))),
    }
}

fn await_messages(sink: &Sink, messages: u64) -> io::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let now = sink.messages();
        if now >= messages {
            return Ok(());
        }
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() > SINK_STALL_MAX || signal::stop_asked() {
            return Err(io::Error::other(format!(
                "the sink has {now} of {messages} messages, and no more come"
            )));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
