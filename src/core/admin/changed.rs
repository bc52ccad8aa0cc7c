//! What a change of messages did.

use serde::{Deserialize, Serialize};

use super::text::{self, Text};
use crate::mail::QueueId;

/// What a change did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Changed {
    /// Messages.
    pub changed: u64,
    /// Messages that were to be released and that wait all the same, or some of whose
    /// recipients do.
    #[serde(default, skip_serializing_if = "text::is_none")]
    pub held: u64,
    /// Of those, why.
    #[serde(default, skip_serializing_if = "Waits::is_none")]
    pub waits: Waits,
    /// Ids that are not in the queue (any more).
    pub missing: Vec<Text<QueueId>>,
    /// Ask on with this as `after`. `None`: that was all.
    pub next: Option<Text<QueueId>>,
}

/// Why messages wait that were to be released one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Waits {
    /// Their customer is reached only when it calls (`deliver_to = "caller"`).
    #[serde(default)]
    pub for_call: u64,
    /// The operator has stopped their queue.
    #[serde(default)]
    pub for_queue: u64,
    /// A route holds them, and says no more: there is no host that they could go to.
    #[serde(default)]
    pub for_route: u64,
}

impl Waits {
    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.for_call += other.for_call;
        self.for_queue += other.for_queue;
        self.for_route += other.for_route;
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
