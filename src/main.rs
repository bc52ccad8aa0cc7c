//! Turnspool: the program. Everything is in the library; see there.

use std::process::ExitCode;

/// Messages of all sizes come and go on every data core; mimalloc keeps each thread's
/// memory to itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    turnspool::cli::run()
}
