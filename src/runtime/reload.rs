//! Reading the configuration again, on a helper thread.
//!
//! Contract: each reading ends with an answer. The control core begins no other one before
//! that, and the operator who asked waits for it; so a fault of ours in a reader, which
//! would end the thread without a word, is an answer too, and the old configuration stays.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::control::Reconfigured;
use crate::runtime::hosts::HostBook;

/// Reads the configuration again, and says what changed or what is wrong.
pub type Load = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// A configuration that was read again.
#[derive(Debug)]
pub struct Loaded {
    /// For the data cores.
    pub reconfigured: Reconfigured,
    /// For the lookups here.
    pub book: HostBook,
}

/// Reads it, whatever happens.
///
/// # Errors
/// What is wrong with the configuration, or with this program.
pub fn read(load: &Load) -> Result<Loaded, String> {
    // What a reading changes it changes at its end, or behind a lock that says so.
    catch_unwind(AssertUnwindSafe(|| load())).unwrap_or_else(|panic| {
        Err(format!(
            "reading the configuration broke off by a fault of this program ({}); the old \
             configuration stays; please report it with the file",
            words(panic.as_ref())
        ))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_breaks_off_is_an_answer() {
        let check = |load: Load, expected: &str| {
            let error = read(&load).expect_err("nothing was read");
            assert!(error.contains(expected), "{error}");
        };
        check(Arc::new(|| Err("line 3".to_owned())), "line 3");
        check(Arc::new(|| panic!("index 7 of {}", 7)), "(index 7 of 7)");
        check(Arc::new(|| panic!("words")), "(words); the old");
        check(Arc::new(|| std::panic::panic_any(7)), "(no words)");
    }
}
