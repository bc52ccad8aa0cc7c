//! Turnspool: the program. Everything is in the library; see there.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnspool::cli::run()
}
