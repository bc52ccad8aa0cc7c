//! Looking for queues by a text, as far as one data core has them.
//!
//! Invariant: one question costs a core about a millisecond, however many destinations there
//! are: [`LOOKED_AT_ONCE`] of them are put into words for it, and the control core asks on
//! from there while mail goes between.

use super::{gate_of, is_listed, name_of};
use crate::core::admin::{QueueGate, Tallies, Tally, Wanted};
use crate::core::common::Common;
use crate::queue::schedule::DestinationFacts;

/// Destinations that are looked at for one question.
const LOOKED_AT_ONCE: u32 = 2048;

impl Common {
    /// The queues that match, of the destinations behind those that were looked at before.
    pub(in crate::core) fn seek(&self, wanted: &Wanted) -> Tallies {
        let text = wanted.text.to_lowercase();
        let end = wanted.from.saturating_add(LOOKED_AT_ONCE);
        let mut words = String::new();
        let looked_at = self.queue.destinations_at(wanted.from..end);
        let matching = looked_at
            .filter(|facts| is_listed(facts) && self.matches(facts, &text, &mut words))
            .map(|facts| Tally {
                name: name_of(facts.next_hop),
                messages: facts.waiting.messages,
            })
            .collect();
        Tallies {
            matching,
            next: (end < self.queue.places()).then_some(end),
        }
    }

    /// Whether this, in small letters, is a part of what is shown of a queue. `words` is
    /// room for that.
    fn matches(&self, facts: &DestinationFacts<'_>, text: &str, words: &mut String) -> bool {
        words.clear();
        if let Some(customer) = facts.next_hop.customer() {
            words.push_str(customer.as_str());
            words.push(' ');
        }
        words.push_str(&self.settings.routes.name_of(facts.next_hop));
        words.push(' ');
        words.push_str(state_of(facts));
        if let Some(why) = self.hosts.failure(facts.id) {
            words.push(' ');
            words.push_str(why);
        }
        words.to_lowercase().contains(text)
    }
}

/// The word that stands at a queue in an overview.
fn state_of(facts: &DestinationFacts<'_>) -> &'static str {
    match gate_of(facts) {
        QueueGate::Open if facts.connections > 0 => "sending",
        QueueGate::Open if facts.deferred > 0 => "deferred",
        QueueGate::Open => "waiting",
        other => other.as_str(),
    }
}
