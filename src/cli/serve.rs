//! `turnspool serve`: runs the server in the foreground.

use clap::Args;

use super::{Exit, Failure, Global};
use crate::config;
use crate::config::surroundings::Surroundings;
use crate::runtime::{self, Exit as ServerExit};

/// Run the server until SIGTERM
///
/// Without a configuration: a safe relay on 127.0.0.1:2525 with its spool in the
/// current directory. SIGHUP reads the configuration again; SIGTERM finishes what is
/// in flight and stops.
#[derive(Debug, Args)]
pub(super) struct Serve {}

impl Serve {
    pub(super) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let config = global.config()?;
        let lines = runtime::log::begin(&config.log).map_err(|error| {
            Failure::new(Exit::Usage, format!("opening the log failed: {error}"))
        })?;
        let file = global.config.clone();
        let log = lines.clone();
        let reload = Box::new(move || {
            // Also if the configuration is wrong: logrotate has moved the file.
            log.reopen();
            let surroundings = Surroundings::of_this_process();
            match &file {
                None => Ok(config::without_file(&surroundings)),
                Some(file) => {
                    config::load(file, &surroundings).map_err(|report| report.to_string())
                }
            }
        });
        let served = runtime::serve(config, reload);
        lines.flush();
        match served {
            Ok(ServerExit::Clean) => Ok(Exit::Done),
            Ok(ServerExit::CutOff) => Ok(Exit::Failed),
            Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
        }
    }
}
