//! What the operator was told lately, for the page and for `turnspool top`.
//!
//! Of the process, as its log is. Only facts about the server as a whole are kept
//! ([`Fact::is_event`]): a message never takes this lock.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::core::admin::{Date, EVENTS_SHOWN_MAX, Event, shortened};
use crate::report::{Fact, Level};
use crate::runtime::clock::Clock;

static RECENT: Mutex<VecDeque<Event>> = Mutex::new(VecDeque::new());

/// Keeps a fact, if it is one to be kept.
pub fn keep(fact: &Fact) {
    if !fact.is_event() {
        return;
    }
    let level = match fact.level() {
        Level::Detail | Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let event = Event {
        at: Date(Clock::new().now().wall),
        level: level.to_owned(),
        fact: fact.name().to_owned(),
        text: shortened(&fact.to_string()).to_owned(),
    };
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.truncate(EVENTS_SHOWN_MAX - 1);
    recent.push_front(event);
}

/// Those that are kept, latest first.
pub fn recent() -> Vec<Event> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.iter().cloned().collect()
}
