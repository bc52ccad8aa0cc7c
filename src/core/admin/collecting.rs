//! What is asked and answered about collectors.

use serde::{Deserialize, Serialize};

use crate::report::collecting::Tally;

/// Which mailboxes are collected.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Collect {
    /// The collector's name; all, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Messages above the limit too.
    #[serde(default)]
    pub large: bool,
}

/// How the runs of collectors went.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Collected {
    /// Each mailbox, in the order in which they were done.
    pub mailboxes: Vec<CollectOutcome>,
}

/// How a run of a collector went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollectOutcome {
    /// The collector's name.
    pub name: String,
    /// The mailbox, `user@host`.
    pub account: String,
    /// What was done.
    #[serde(flatten)]
    pub tally: Tally,
    /// Why it did not end in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
