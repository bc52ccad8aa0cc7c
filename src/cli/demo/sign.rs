//! What the site of a demonstration runs to dial, to hang up, and to see whether it is on
//! line: a file that is there while the line is up.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::{Exit, Failure};

/// Steers the line of a demonstration.
#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    order: Order,
    sign: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Up,
    Down,
    Status,
}

impl Sign {
    /// Does it.
    pub(in crate::cli) fn run(&self) -> Result<Exit, Failure> {
        let done = match self.order {
            Order::Up => File::create(&self.sign).map(|_| Exit::Done),
            Order::Down => match fs::remove_file(&self.sign) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(Exit::Done),
            },
            Order::Status if self.sign.exists() => Ok(Exit::Done),
            Order::Status => Ok(Exit::Failed),
        };
        done.map_err(|error| Failure::new(Exit::Failed, format!("steering the line: {error}")))
    }
}
