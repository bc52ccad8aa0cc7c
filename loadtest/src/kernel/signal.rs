//! SIGTERM and SIGINT as a flag that every thread looks at once a turn.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on SIGTERM and SIGINT ask for the end instead of ending the process
/// at once; a second one ends it.
pub(crate) fn catch() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let handler = on_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic and restores the default
        // action, both of which are async-signal-safe.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// Whether the end was asked for.
pub(crate) fn stop_asked() -> bool {
    STOP.load(Ordering::Relaxed)
}

extern "C" fn on_signal(signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
    // SAFETY: signal(2) is async-signal-safe; SIG_DFL is a valid action.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
