//! Threads with a name, a CPU and an account of the CPU time they took.

use std::io;
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The CPU for thread `number`, where some were given.
pub(crate) fn cpu_of(cpus: &[usize], number: usize) -> Option<usize> {
    cpus.get(number % cpus.len().max(1)).copied()
}

/// Starts a thread, pinned to `cpu`.
///
/// # Errors
/// Where no thread can be started. A CPU that is not there is reported by the
/// thread, as its own error.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    cpu: Option<usize>,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>> {
    std::thread::Builder::new().name(name).spawn(move || {
        pin(cpu)?;
        run()
    })
}

/// Pins the calling thread.
///
/// # Errors
/// Where there is no such CPU for this process.
pub(crate) fn pin(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!(
            "pinning a thread: there is no CPU {cpu}"
        )));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|error| io::Error::other(format!("pinning a thread to CPU {cpu}: {error}")))
}

/// CPU time of the calling thread since it began.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
