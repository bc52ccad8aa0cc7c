//! How much is held for each customer, on all data cores together (FEATURES Q6).
//!
//! Two counters a customer, shared by the cores. A share adds itself when it is queued,
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

use crate::route::CustomerName;
use crate::shared::{AtomicU64, Ordering};

/// What is held for one customer. A message to two of its domains counts twice.
#[derive(Debug, Default)]
pub struct Usage {
    messages: AtomicU64,
    octets: AtomicU64,
}

impl Usage {
    /// Messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Octets of them.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Some more.
    pub(super) fn add(&self, messages: u64, octets: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    /// One fewer.
    pub(super) fn remove(&self, octets: u64) {
        let messages = self.messages.fetch_sub(1, Ordering::Relaxed);
        let before = self.octets.fetch_sub(octets, Ordering::Relaxed);
        assert!(messages > 0 && before >= octets, "a share ended twice");
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
