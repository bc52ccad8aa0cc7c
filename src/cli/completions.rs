//! `turnspool completions SHELL`.

use std::io::Write;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{CommandLine, Exit, Failure};

/// Prints completions.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    /// Fails only with standard output.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut CommandLine::command(),
            "turnspool",
            &mut script,
        );
        out.write_all(&script)?;
        Ok(Exit::Done)
    }
}
