//! A wall clock that is set is noticed, told, and remembered over restarts.
//!
//! What follows for the age of mail is the queue's: see [`crate::queue::ageing`]. Each
//! core remembers it of the mail that it has, in its own log; a note of a core that was is
//! written by the core that has its mail now.

use std::time::Duration;

use spool_format::Recovered;

use crate::core::common::Common;
use crate::report::Fact;
use crate::time::Now;

/// The tag of these notes (spool-format, "Tags"). The key is the upper octet of ids.
const CLOCK_SET_TAG: u16 = 6;

impl Common {
    /// Looks whether the clock was set: before a reading of it is used for anything.
    pub(super) fn look_at_clock(&mut self, now: Now) {
        let Some(set) = self.queue.look_at_clock(now, self.log.coming_queue_id()) else {
            return;
        };
        for (core, note) in &set.notes {
            self.remember(now, CLOCK_SET_TAG, &[*core], note);
        }
        // Without it a restart finds old what is not.
        self.log.write_notes();
        let waiting = self.queue.index().len();
        if waiting > 0 {
            let seconds = Duration::from_millis(set.by.unsigned_abs()).as_secs();
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
            let way = if set.by > 0 { "forward" } else { "back" };
            self.report(Fact::Trouble {
                what: format!(
                    "the clock was set {way} by {days}d {hours}h {minutes}m: {waiting} messages \
                     that wait here are no older and no younger by that, and are given up as \
                     much {} by the clock",
                    if set.by > 0 { "later" } else { "earlier" }
                ),
            });
        }
    }
}

/// What was noted of clocks that were set: of which core's mail, and what.
pub(super) fn notes(recovered: &Recovered) -> impl Iterator<Item = (u8, &[u8])> {
    let notes = recovered.notes.iter();
    notes
        .filter(|note| note.tag == CLOCK_SET_TAG)
        .filter_map(|note| match (&note.key[..], &note.value) {
            ([core], Some(value)) => Some((*core, &value[..])),
            _ => None,
        })
}
