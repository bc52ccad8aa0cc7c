//! The messages that the operator has sent another way than the routes.
//!
//! The mark in the log says it for ever; this is what a core keeps of it while it runs, so
//! that a reload does not lead those messages back. It costs nothing for a message that
//! goes by the routes, and a few octets for one that does not: the texts are kept once.
//!
//! Invariant: an entry goes with its message.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::mail::QueueId;
use crate::route::detour::Detour;
use crate::route::{NextHopRef, Routes};

/// Different detours that are kept before unused ones are looked for. An operator uses
/// few at once.
const KEPT_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Detours {
    of: HashMap<QueueId, Arc<Detour>>,
    kept: Vec<Arc<Detour>>,
}

impl Detours {
    /// From now on the message goes there; by the routes with `None`.
    pub fn set(&mut self, queue_id: QueueId, detour: Option<&Detour>) {
        let Some(detour) = detour else {
            self.of.remove(&queue_id);
            return;
        };
        let kept = match self.kept.iter().find(|kept| ***kept == *detour) {
            Some(kept) => Arc::clone(kept),
            None => {
                if self.kept.len() >= KEPT_MAX {
                    self.kept.retain(|kept| Arc::strong_count(kept) > 1);
                }
                let kept = Arc::new(detour.clone());
                self.kept.push(Arc::clone(&kept));
                kept
            }
        };
        self.of.insert(queue_id, kept);
    }

    /// The message is finished.
    pub(super) fn remove(&mut self, queue_id: QueueId) {
        if !self.of.is_empty() {
            self.of.remove(&queue_id);
        }
    }

    /// Where a message for `domain` goes: by its detour if it has one that leads
    /// somewhere, else by the routes.
    pub(super) fn next_hop<'a>(
        &'a self,
        routes: &'a Routes,
        queue_id: QueueId,
        domain: &'a str,
    ) -> NextHopRef<'a> {
        (self.of.get(&queue_id))
            .and_then(|detour| detour.next_hop(routes, domain))
            .unwrap_or_else(|| routes.next_hop(domain))
    }
}
