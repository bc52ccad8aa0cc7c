//! `turnspool spool verify|dump|stat|export DIR`: looks at a spool without the server.
//!
//! Never writes, and takes no lock: it may run beside a server, whose last batch
//! may then look cut. Files are read, not mapped, so that a disk that cannot read
//! gives an error and no signal.

mod dump;
mod export;
mod files;
mod pass;
mod stat;
mod verify;

use std::io::Write;

use clap::Subcommand;

use super::{Exit, Failure, Global};

pub(super) use files::Log;

/// Looks at a spool on the disk.
#[derive(Debug, Subcommand)]
pub(super) enum Spool {
    /// Reads everything and reports damage; exit code 1 if there is any
    Verify(verify::Verify),
    /// Prints every record, without the bodies
    Dump(dump::Dump),
    /// Counts segments, messages and octets
    Stat(stat::Stat),
    /// Writes every message that waits to a file, with its envelope
    Export(export::ExportSpool),
}

impl Spool {
    /// Reads the directory.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        match self {
            Self::Verify(verify) => verify.run(global, out),
            Self::Dump(dump) => dump.run(global, out),
            Self::Stat(stat) => stat.run(global, out),
            Self::Export(export) => export.run(global, out),
        }
    }
}

/// The logs of the spool in this directory, else in that of the configuration.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn logs(
    directory: Option<std::path::PathBuf>,
    global: &Global,
) -> Result<Vec<Log>, Failure> {
    files::Place { directory }.logs(global)
}

#[cfg(test)]
mod tests;
