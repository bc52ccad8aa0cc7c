//! Honest load beside peers that mean harm: what the one loses by the other.
//!
//! Each kind of attack has a run of its own, and just before it the same load is alone:
//! only the two beside one another mean anything. Attackers need processors, too, and on
//! the same machine those are the server's; what is theirs is in the report.

mod attack;
mod report;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use attack::{Attack, Siege};
pub use report::{Beside, Side, SiegeReport};

use crate::generate::{self, Options as GenerateOptions, Work, parse_server};
use crate::kernel::signal;
use crate::process::Watch;
use crate::sizes::{Draws, parse_duration};

/// How long the first connection of an attacker may take.
const FIRST_ATTACK_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what attackers did.
const LOOK_PAUSE: Duration = Duration::from_micros(200);

/// Load an SMTP server beside attackers, and print what the honest sessions lose.
///
/// Alone, then beside one kind of attack, for each kind in turn. With --rate the latencies
/// are what is to be looked at, without it the messages a second.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The server, host:port.
    #[arg(value_parser = parse_server)]
    pub server: SocketAddr,
    /// Further ports of it that are attacked.
    #[arg(long, value_parser = parse_server)]
    pub port: Vec<SocketAddr>,
    /// Which attacks; without this, each.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub attacks: Vec<Attack>,
    /// Attackers at a time, each a thread with an address of its own (127.202.0.n) where
    /// the server is on loopback.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub attackers: u8,
    /// Between two connections of one attacker.
    #[arg(long, default_value = "1ms", value_parser = parse_duration)]
    pub pause: Duration,
    /// Connections that one attacker keeps open.
    #[arg(long, default_value_t = 80)]
    pub kept: usize,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// The server to watch.
    #[command(flatten)]
    pub watch: Watch,
    /// What the honest sessions do, each time.
    #[command(flatten)]
    pub work: Work,
}

/// Lays siege.
///
/// # Errors
/// As [`generate::run`].
pub fn run(options: &Options) -> io::Result<SiegeReport> {
    let attacks = if options.attacks.is_empty() {
        &Attack::ALL[..]
    } else {
        &options.attacks
    };
    let mut rows = Vec::new();
    for &attack in attacks {
        if signal::stop_asked() {
            break;
        }
        let alone = honest(options)?;
        let row = Beside {
            attack: format!("{attack:?}").to_lowercase(),
            alone,
            ..beside(options, attack)?
        };
        eprintln!("{row}");
        rows.push(row);
    }
    Ok(SiegeReport { rows })
}

/// The honest load.
fn honest(options: &Options) -> io::Result<Side> {
    let load = GenerateOptions {
        watch: options.watch.clone(),
        ..GenerateOptions::new(options.server, options.work.clone())
    };
    generate::run(&load).map(|report| Side::new(&report))
}

/// Waits until there is an attack.
fn begun_by(made: &AtomicU64) -> io::Result<()> {
    let begun = Instant::now();
    while made.load(Ordering::Relaxed) == 0 {
        if begun.elapsed() > FIRST_ATTACK_MAX {
            return Err(io::Error::other("no attacker could connect"));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

fn beside(options: &Options, attack: Attack) -> io::Result<Beside> {
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let ports: Vec<_> = std::iter::once(options.server)
        .chain(options.port.iter().copied())
        .collect();
    let siege = Siege {
        ports: &ports,
        kept_max: options.kept,
        pause: options.pause,
        over: &over,
        made: &made,
    };
    let mut draws = Draws::new(options.work.seed.unwrap_or(1));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..options.attackers)
            .map(|number| {
                let (siege, seed) = (&siege, draws.next());
                scope.spawn(move || {
                    siege.lay(number, attack, seed);
                    crate::thread::cpu_seconds()
                })
            })
            .collect();
        let beside = begun_by(&made).and_then(|()| honest(options));
        over.store(true, Ordering::Release);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = attackers
            .into_iter()
            .map(|attacker| attacker.join().expect("an attacker"));
        let attackers_cpu_seconds = cpu.sum();
        Ok(Beside {
            attack: String::new(),
            attacks_per_second: made.load(Ordering::Relaxed) as f64 / seconds,
            attackers_cpu_seconds,
            alone: Side::default(),
            beside: beside?,
        })
    })
}
