//! The command line: one file a subcommand.
//!
//! Exit codes are an interface: 0 done, 1 the thing asked for could not be done,
//! 2 usage or configuration, 75 try again later (`EX_TEMPFAIL` of sysexits).
//! Facts go to standard output, as text for people or with `--json` one object;
//! everything else goes to standard error.
//!
//! What this module does not do: it decides nothing about mail. Commands that look
//! at a running server ask it over the admin socket.

mod check;
mod collect;
mod completions;
mod connection;
mod demo;
mod dns;
mod eml;
mod example;
mod import;
mod link;
mod log;
mod man;
mod queue;
mod release;
mod sendmail;
mod serve;
mod spool;
mod status;
mod stored;
mod submission;
mod text;
mod top;
mod user;
mod web;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::surroundings::Surroundings;
use crate::config::{self, Config};
use crate::runtime::threads;

/// An SMTP store-and-forward relay for hosts that are not always on line.
#[derive(Debug, Parser)]
#[command(name = "turnspool", version, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Names the configuration file where the command line does not.
const CONFIG_VARIABLE: &str = "TURNSPOOL_CONFIG";

/// Behind the options of the command itself, in its help.
const LAST: usize = 500;

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file. Without one: a safe relay on 127.0.0.1:2525
    #[arg(long, global = true, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true,
        display_order = LAST)]
    pub config: Option<PathBuf>,
    /// The admin socket of the server, in place of the one in the configuration
    #[arg(long, global = true, value_name = "PATH", display_order = LAST)]
    pub socket: Option<PathBuf>,
    /// Prints facts as JSON
    #[arg(long, global = true, display_order = LAST)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server until SIGTERM
    Serve(serve::Serve),
    /// Shows a provider, a site and a slow line between them at work, on this machine
    Demo(demo::Demo),
    /// Steers the line of a demonstration
    #[command(hide = true)]
    DemoLine(demo::Sign),
    /// Checks a configuration file and prints everything that is wrong with it
    Check(check::Check),
    /// Prints a commented configuration file for a role
    Example(example::Example),
    /// Looks at the queue of the running server, and changes it
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Releases the held queue of a domain
    Release(release::Release),
    /// Collects mailboxes now
    Collect(collect::Collect),
    /// How this site is on line: looks at its links, and steers them
    #[command(subcommand)]
    Link(link::Link),
    /// Shows which way mail would take
    #[command(subcommand)]
    Dns(dns::DnsCommand),
    /// Prints counters and states of the running server
    Status(status::Status),
    /// Shows what the running server is doing, and steers it, in this terminal
    Top(top::Top),
    /// Prints the address of the web page, with its token
    Web(web::Web),
    /// Changes what the running server writes to its log
    #[command(subcommand)]
    Log(log::Log),
    /// Brings mail here that waits in another server's queue
    #[command(subcommand)]
    Import(import::Import),
    /// Changes the file of users who may authenticate
    #[command(subcommand)]
    User(user::User),
    /// Looks at a spool on the disk, without the server; never writes
    #[command(subcommand)]
    Spool(spool::Spool),
    /// Takes a message from standard input, with the options of sendmail
    Sendmail(sendmail::Sendmail),
    /// Prints completions for a shell
    Completions(completions::Completions),
    /// Prints the manual page
    Man(man::Man),
}

/// How a command ended, as the caller's shell sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Not now; the same command may succeed later.
    TryLater,
    /// A code of sysexits(3), for callers of sendmail.
    Sysexits(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TryLater => 75,
            Self::Sysexits(code) => code,
        }
    }
}

/// Why a command did not do what was asked. The text says what was being done,
/// with what, what went wrong, and what to do next.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// With the exit code that it causes.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Standard output is gone or full. A reader that has seen enough (`| head`) is no
/// failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("writing the output: {error}"))
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    threads::refuse_huge_pages();
    // Not locked: threads of a server that runs in here write to them too.
    let mut out = io::BufWriter::new(io::stdout());
    let exit = run_with(std::env::args_os(), &mut out, &mut io::stderr());
    ExitCode::from(exit.code())
}

/// Runs a command line, program name first.
pub fn run_with(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(words) = sendmail::words(&arguments) {
        let exit = sendmail::run(&words, out, errors);
        return out.flush().map_or(Exit::Failed, |()| exit);
    }
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help and version are no errors to clap's caller, and go to stdout.
            // Nothing is left to tell if even that cannot be written.
            let text = error.render();
            return if error.use_stderr() {
                let _ = write!(errors, "{text}");
                Exit::Usage
            } else {
                let _ = write!(out, "{text}").and_then(|()| out.flush());
                Exit::Done
            };
        }
    };
    let result = line
        .command
        .run(&line.global, out)
        .and_then(|exit| Ok(out.flush().map(|()| exit)?));
    match result {
        Ok(exit) => exit,
        Err(Failure {
            exit: Exit::Done, ..
        }) => Exit::Done,
        Err(failure) => {
            let _ = writeln!(errors, "turnspool: {failure}");
            failure.exit
        }
    }
}

impl Command {
    fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        match self {
            Self::Serve(command) => command.run(global),
            Self::Demo(command) => command.run(global, out),
            Self::DemoLine(command) => command.run(),
            Self::Check(command) => command.run(global, out),
            Self::Example(command) => command.run(out),
            Self::Queue(command) => command.run(global, out),
            Self::Release(command) => command.run(global, out),
            Self::Collect(command) => command.run(global, out),
            Self::Link(command) => command.run(global, out),
            Self::Dns(command) => command.run(global, out),
            Self::Status(command) => command.run(global, out),
            Self::Top(command) => command.run(global),
            Self::Web(command) => command.run(global, out),
            Self::Log(command) => command.run(global, out),
            Self::Import(command) => command.run(global, out),
            Self::User(command) => command.run(global.json, out),
            Self::Spool(command) => command.run(global, out),
            Self::Sendmail(command) => command.run(out),
            Self::Completions(command) => command.run(out),
            Self::Man(command) => command.run(out),
        }
    }
}

impl Global {
    /// The configuration that the server uses, or would use.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn config(&self) -> Result<Config, Failure> {
        let surroundings = Surroundings::of_this_process();
        match &self.config {
            None => Ok(config::without_file(&surroundings)),
            Some(file) => config::load(file, &surroundings).map_err(|report| {
                Failure::new(Exit::Usage, format!("the configuration:\n{report}"))
            }),
        }
    }

    /// Where the server listens for commands.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn admin_socket(&self) -> Result<PathBuf, Failure> {
        match &self.socket {
            Some(path) => Ok(path.clone()),
            None => Ok(self.config()?.admin.socket),
        }
    }
}

/// One JSON object and a line end.
///
/// # Errors
/// As of standard output.
fn print_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// A path for a message.
fn shown(path: &Path) -> String {
    text::escaped(&path.to_string_lossy())
}

#[cfg(test)]
mod tests;
