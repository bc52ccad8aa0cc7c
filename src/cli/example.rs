//! `turnspool example ROLE`: a commented configuration file.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::{Exit, Failure};
use crate::config::example::{Role, example};

/// Prints a commented configuration file.
#[derive(Debug, Args)]
pub(super) struct Example {
    /// What the installation is for
    role: RoleWord,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    /// Mail of a network, to a smarthost
    Relay,
    /// A provider that holds mail for customers
    BackupSpool,
    /// A site behind a line that is not always up
    SiteGateway,
}

impl Example {
    /// Fails only with standard output.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let role = match self.role {
            RoleWord::Relay => Role::Relay,
            RoleWord::BackupSpool => Role::BackupSpool,
            RoleWord::SiteGateway => Role::SiteGateway,
        };
        out.write_all(example(role).as_bytes())?;
        Ok(Exit::Done)
    }
}
