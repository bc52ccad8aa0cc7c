//! Bounded waiting for a state that can be observed.

use std::time::{Duration, Instant};

/// How long a state may take that a healthy program reaches in milliseconds. Long,
/// since the machine may be busy; it is paid only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks until `look` gives something, at most [`PATIENCE`].
///
/// # Panics
/// With `what` when it never does.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < until,
            "in {PATIENCE:?} this did not come about: {what}"
        );
        std::thread::sleep(PAUSE);
    }
}
