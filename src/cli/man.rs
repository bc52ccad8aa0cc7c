//! `turnspool man [COMMAND…]`: manual pages, from the same declarations as `--help`.

use std::io::Write;

use clap::{Args, CommandFactory as _};

use super::{CommandLine, Exit, Failure};

/// Prints a manual page, to be read by `man -l -`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Of a subcommand, such as `queue list`
    command: Vec<String>,
}

impl Man {
    /// Exit 2 for a command that there is not.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut page = CommandLine::command();
        page.build();
        let mut name = "turnspool".to_owned();
        for word in &self.command {
            let Some(inner) = page.find_subcommand(word) else {
                let text = format!("man: there is no command `{name} {}`", word.escape_debug());
                return Err(Failure::new(Exit::Usage, text));
            };
            page = inner.clone();
            name = format!("{name} {word}");
        }
        let page = page.display_name(name.replace(' ', "-"));
        let mut text = Vec::new();
        clap_mangen::Man::new(page).render(&mut text)?;
        out.write_all(&text)?;
        Ok(Exit::Done)
    }
}
