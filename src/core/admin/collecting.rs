//! What is asked and answered about collectors.

use serde::{Deserialize, Serialize};

use crate::report::collecting::Tally;

/// Which collectors run.
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
    /// Each collector, in the order in which they were done.
    pub collectors: Vec<CollectOutcome>,
}

/// How a run of a collector went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollectOutcome {
    /// The collector's name.
    pub name: String,
    /// The mailbox, `user@host`; the provider's servers; or the program.
    pub place: String,
    /// What was done, where messages came.
    #[serde(flatten)]
    pub tally: Option<Tally>,
    /// What the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Why it did not end in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
