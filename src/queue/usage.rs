//! How much is held for each customer, on all data cores together (FEATURES Q6).
//!
//! Some counters a customer, shared by the cores. A share adds itself when it is queued,
//! after a restart too, and takes itself away when it ends. So the sums are those of the
//! queue at every moment, and nothing is to be recovered.
//!
//! # How exact a quota is
//! It is looked at when RCPT is answered, and a message counts when it is committed.
//! Between the two lies the transaction: a customer can be over its quota by what the
//! transactions bring that were open when it was reached, at most one message of
//! `limits.message_size` for each session. A place that was promised at RCPT would have
//! to be given back by every session that goes away, for a limit that is about days of
//! mail.
//!
//! What this module does not do: it refuses nothing (`core` does), and it knows no limit.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::mail::Priority;
use crate::route::CustomerName;
use crate::shared::{AtomicU64, Ordering};
use crate::time::WallTime;

/// What is held for one customer. A message to two of its domains counts twice.
#[derive(Debug)]
pub struct Usage {
    /// Messages, and in the low [`URGENCY_BITS`] the most urgent of those that came since
    /// there was none: one word, so that none is forgotten where one core takes the last
    /// away while another adds one.
    messages_and_urgency: AtomicU64,
    octets: AtomicU64,
    /// When the first came since there was none, as milliseconds.
    oldest: AtomicU64,
}

/// A priority as a number above zero: -9 is 1, and nothing is 0.
const URGENCY_BITS: u32 = 8;
const URGENCY_MASK: u64 = (1 << URGENCY_BITS) - 1;

impl Default for Usage {
    fn default() -> Self {
        Self {
            messages_and_urgency: AtomicU64::new(0),
            octets: AtomicU64::new(0),
            oldest: AtomicU64::new(u64::MAX),
        }
    }
}

/// What comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrived {
    /// Messages; not zero.
    pub(crate) messages: u64,
    /// Octets of them.
    pub(crate) octets: u64,
    /// When the first of them came.
    pub(crate) oldest: WallTime,
    /// The highest priority among them.
    pub(crate) priority: Priority,
}

impl Usage {
    /// Messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages_and_urgency.load(Ordering::Relaxed) >> URGENCY_BITS
    }

    /// Octets of them.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// The highest priority of what came since there was nothing.
    #[must_use]
    pub fn most_urgent(&self) -> Option<Priority> {
        let urgency = self.messages_and_urgency.load(Ordering::Relaxed) & URGENCY_MASK;
        let value = i8::try_from(urgency).ok()? - 1 + Priority::MIN.value();
        if urgency == 0 {
            None
        } else {
            Priority::new(value)
        }
    }

    /// When the first came since there was nothing, where there is something.
    #[must_use]
    pub fn oldest(&self) -> Option<WallTime> {
        let oldest = i64::try_from(self.oldest.load(Ordering::Relaxed)).ok()?;
        (self.messages() > 0).then(|| WallTime::from_millis(oldest))
    }

    /// Some more.
    pub(crate) fn add(&self, arrived: Arrived) {
        let urgency = arrived.priority.value() - Priority::MIN.value() + 1;
        let urgency = u64::from(urgency.unsigned_abs());
        let more = |both: u64| {
            let (messages, before) = (both >> URGENCY_BITS, both & URGENCY_MASK);
            Some((messages + arrived.messages) << URGENCY_BITS | before.max(urgency))
        };
        let update =
            (self.messages_and_urgency).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let before = update.unwrap_or_else(|both| both);
        self.octets.fetch_add(arrived.octets, Ordering::Relaxed);
        let oldest = u64::try_from(arrived.oldest.as_millis()).unwrap_or(0);
        if before >> URGENCY_BITS == 0 && self.oldest.load(Ordering::Relaxed) != u64::MAX {
            // What was there has gone. Another core that adds at the same moment has the
            // same time to say.
            self.oldest.store(oldest, Ordering::Relaxed);
        } else {
            self.oldest.fetch_min(oldest, Ordering::Relaxed);
        }
    }

    /// One fewer.
    pub(crate) fn remove(&self, octets: u64) {
        let fewer = |both: u64| {
            let messages = (both >> URGENCY_BITS).checked_sub(1)?;
            let urgency = if messages == 0 {
                0
            } else {
                both & URGENCY_MASK
            };
            Some(messages << URGENCY_BITS | urgency)
        };
        let removed =
            (self.messages_and_urgency).fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        let before = self.octets.fetch_sub(octets, Ordering::Relaxed);
        assert!(removed.is_ok() && before >= octets, "a share ended twice");
    }
}

/// The counters of each customer, one for a name as long as the process lives: a reload
/// that leaves a customer out and another that brings it back find the same. Asked when
/// a configuration is read, never on the path of a message.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<CustomerName, Arc<Usage>>>);

impl Ledger {
    /// The counters of this customer.
    #[must_use]
    pub fn of(&self, customer: &CustomerName) -> Arc<Usage> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(customer.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(second: i64, priority: i8) -> Arrived {
        Arrived {
            messages: 1,
            octets: 10,
            oldest: WallTime::from_millis(second * 1000),
            priority: Priority::new(priority).unwrap(),
        }
    }

    /// What is counted: messages, octets, since which second, the priority.
    #[track_caller]
    fn check(usage: &Usage, expected: (u64, u64, Option<i64>, Option<i8>)) {
        let oldest = usage.oldest().map(WallTime::as_seconds);
        let urgent = usage.most_urgent().map(Priority::value);
        let counted = (usage.messages(), usage.octets(), oldest, urgent);
        assert_eq!(counted, expected);
    }

    #[test]
    fn what_waits_and_since_when() {
        let usage = Usage::default();
        check(&usage, (0, 0, None, None));
        usage.add(arrived(100, 0));
        usage.add(arrived(101, 4));
        usage.add(arrived(102, -9));
        check(&usage, (3, 30, Some(100), Some(4)));
        usage.remove(10);
        check(&usage, (2, 20, Some(100), Some(4)));
        usage.remove(10);
        usage.remove(10);
        check(&usage, (0, 0, None, None));
        usage.add(arrived(200, -9));
        check(&usage, (1, 10, Some(200), Some(-9)));
        usage.add(arrived(150, 9));
        check(&usage, (2, 20, Some(150), Some(9)));
    }

    #[test]
    #[should_panic(expected = "a share ended twice")]
    fn what_is_not_there_does_not_go() {
        Usage::default().remove(0);
    }
}
