//! Threads of data cores: pinned, each with its own ring.

use std::io;
use std::thread::JoinHandle;

use monoio::{IoUringDriver, RuntimeBuilder};
use rustix::thread::CpuSet;

use crate::core::CoreId;

/// Submission entries of a ring: what one turn of a busy core queues at most.
const RING_ENTRIES: u32 = 4096;
/// Completion entries: a wait for each of 16,000 connections may end in one turn;
/// the kernel keeps what is more.
const RING_COMPLETIONS: u32 = 16 * 1024;

/// Lets this process take memory in small pages, before it takes any. A huge page is two
/// mebibytes for one session; and the allocator asks for them in the middle of nothing, so
/// that a command that runs for a moment has dozens of them cleared. What needs much memory
/// at once is mapped from files here. Where the kernel refuses, memory costs more, that is
/// all.
pub fn refuse_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Where a data core's thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// On the CPU with this number, counted among those we may use.
    Pinned(usize),
    /// Where the kernel likes.
    Anywhere,
}

/// CPUs that this process may use.
#[must_use]
pub fn cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect(),
        Err(_) => vec![0],
    }
}

/// Starts a data core's thread and runs `main` on its ring.
///
/// # Errors
/// The thread could not be started. That the ring could not be made is told by
/// `failed`.
pub fn spawn<S, F, M>(
    core: CoreId,
    placement: Placement,
    start: S,
    main: M,
    failed: impl FnOnce(String) + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    S: Send + 'static,
    M: FnOnce(S) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    std::thread::Builder::new()
        .name(format!("data-{}", core.0))
        .spawn(move || {
            if let Placement::Pinned(cpu) = placement {
                let mut set = CpuSet::new();
                set.set(cpu);
                // Not allowed in some containers; the kernel then chooses.
                let _ = rustix::thread::sched_setaffinity(None, &set);
            }
            let mut ring = io_uring_monoio::IoUring::builder();
            ring.setup_single_issuer()
                .setup_defer_taskrun()
                .setup_cqsize(RING_COMPLETIONS);
            let runtime = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .uring_builder(ring)
                .enable_timer()
                .build();
            match runtime {
                Ok(mut runtime) => {
                    if let Err(error) = runtime.block_on(main(start)) {
                        failed(format!("data core {} could not start: {error}", core.0));
                    }
                    // A runtime is not dropped with operations under way: the process
                    // ends, or this thread stays.
                    std::mem::forget(runtime);
                }
                Err(error) => failed(format!(
                    "making the io_uring of data core {} failed ({error}); if it says 'not \
                 permitted', look at 'sysctl kernel.io_uring_disabled' and at the container's \
                 seccomp profile; Linux 6.1 or later is needed",
                    core.0
                )),
            }
        })
}
