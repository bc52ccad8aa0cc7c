//! The command line of `loadtest`.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{compare, customer, generate, link, siege, sink};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator, sink and link simulator for SMTP relays.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Generate(Box<generate::Options>),
    Sink(Box<sink::Options>),
    Link(Box<link::Options>),
    Compare(Box<compare::Options>),
    Customer(Box<customer::Options>),
    Siege(Box<siege::Options>),
}

fn main() -> ExitCode {
    let command = Command::parse();
    loadtest::catch_stop_signals();
    loadtest::raise_descriptor_limit();
    let done = match &command.task {
        Task::Generate(options) => generate::run(options).and_then(|report| {
            plot(options.svg.as_deref(), || loadtest::plot::generate(&report))?;
            print(&report, options.json.as_deref())
        }),
        Task::Sink(options) => sink::run(options).and_then(|report| {
            plot(options.svg.as_deref(), || loadtest::plot::sink(&report))?;
            print(&report, options.json.as_deref())
        }),
        Task::Link(options) => {
            link::run(options).and_then(|report| print(&report, options.json.as_deref()))
        }
        Task::Customer(options) => {
            customer::run(options).and_then(|report| print(&report, options.json.as_deref()))
        }
        Task::Siege(options) => {
            siege::run(options).and_then(|report| print(&report, options.json.as_deref()))
        }
        Task::Compare(options) => compare::run(options).and_then(|report| {
            plot(options.svg.as_deref(), || report.plot())?;
            print(&report, options.json.as_deref())
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The report as text on standard output, and as JSON where it was asked for.
fn print(report: &(impl Serialize + Display), json: Option<&Path>) -> io::Result<()> {
    let text = || serde_json::to_string_pretty(report).map_err(io::Error::other);
    match json {
        None => writeln!(io::stdout(), "{report}"),
        Some(path) if path == Path::new("-") => writeln!(io::stdout(), "{}", text()?),
        Some(path) => {
            write(path, &text()?)?;
            writeln!(io::stdout(), "{report}")
        }
    }
}

fn plot(svg: Option<&Path>, drawn: impl FnOnce() -> String) -> io::Result<()> {
    svg.map_or(Ok(()), |path| write(path, &drawn()))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| {
        io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
    })
}
