//! Releasing single messages.
//!
//! What is held for a customer has one gate for each of its domains, and a release opens
//! it for all that waits there. A message that the operator releases by itself leaves that
//! queue: it is sent on a detour to the next hop "site of NAME", which leads to the same
//! host, has no gate, and shares the permits of the customer. So it is tried at once, and
//! again at the pauses of other mail until it is taken or the retention is over, while the
//! rest stays held; and it is never in two places, whatever release is going on.
//!
//! - It survives a restart and a reload: the mark of a detour in the log says it.
//! - A release of the customer, by whoever asks, takes it along: it is tried at once.
//! - `turnspool queue requeue ID`, without another next hop, takes the release back.
//! - A site that is woken by a command is woken for it, and it is tried again then.
//!
//! What this module does not do: it lets nothing go that has no host to go to. Who calls
//! for its mail (`deliver_to = "caller"`) gets it when it calls, and mail that a route holds
//! needs `turnspool queue requeue --to`.

use spool_format::Mark;

use super::Effect;
use crate::core::ControlNotice;
use crate::core::admin::Changed;
use crate::core::common::Common;
use crate::core::release::{Extent, Order, ReleaseAsker};
use crate::mail::QueueId;
use crate::queue::{Gate, HoldState, Selection, ShareState};
use crate::report::Fact;
use crate::route::NextHop;
use crate::route::customer::DeliverTo;
use crate::route::detour::Detour;
use crate::spool::message::SegmentSource;
use crate::time::Now;

/// Why a message waits that was to be released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// For the call of its customer.
    Call,
    /// Its queue was stopped by the operator.
    Queue,
    /// A route holds it, and says no more.
    Route,
}

impl Why {
    /// Counts one message.
    pub(super) const fn count(self, changed: &mut Changed) {
        changed.held += 1;
        let waits = &mut changed.waits;
        match self {
            Self::Call => waits.for_call += 1,
            Self::Queue => waits.for_queue += 1,
            Self::Route => waits.for_route += 1,
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Call => "no longer on hold, and waits for the call of its customer",
            Self::Queue => "no longer on hold, and waits for the release of its queue",
            Self::Route => "no longer on hold, and held by a route, without a host to go to",
        }
    }
}

/// What there is of a message after it was released.
#[derive(Default)]
struct Found {
    /// Some of it goes.
    goes: bool,
    /// Some of it waits.
    waits: Option<Why>,
}

impl Common {
    /// Lets a message go that is here.
    pub(super) fn release_one(
        &mut self,
        now: Now,
        id: QueueId,
        spool: &impl SegmentSource,
    ) -> Effect {
        self.memory.release(now.instant);
        // A closed log was reported; the change holds until the restart.
        let _ = self.log.mark(now, id, Mark::Release);
        if self.is_held_for_a_host(id) {
            let detour = Detour::site();
            let next_hop = Some(detour.as_str());
            let _ = self.log.mark(now, id, Mark::Requeue { next_hop });
            self.detours.set(id, Some(&detour));
            self.follow(now, id, spool);
            self.wake_for(id);
        }
        self.queue.release(now, Selection::Message(id));
        let Found { goes, waits } = self.found(id);
        self.report(Fact::Steered {
            queue_id: id,
            what: match waits {
                Some(why) if !goes => why.told().into(),
                Some(why) => format!("released in part, and for others {}", why.told()).into(),
                None => "released".into(),
            },
        });
        match (goes, waits) {
            (_, None) => Effect::Done,
            (true, Some(why)) => Effect::WaitsInPart(why),
            (false, Some(why)) => Effect::Waits(why),
        }
    }

    /// The sites that this message goes to now are woken, where a command does that.
    fn wake_for(&mut self, id: QueueId) {
        let mut woken = Vec::new();
        for (next_hop, _) in self.next_hops(id) {
            if let NextHop::Site { customer, .. } = next_hop
                && !woken.contains(customer)
                && (self.settings.customers.by_name(customer))
                    .is_some_and(|customer| !customer.wake_command.is_empty())
            {
                woken.push(customer.clone());
            }
        }
        for customer in woken {
            let order = Box::new(Order {
                customers: vec![customer],
                extent: Extent::LetGo,
                caller: None,
            });
            let asker = ReleaseAsker::OneByOne;
            self.tell_control(ControlNotice::Release { order, asker });
        }
    }

    /// Whether some of it is held for a customer that we can call.
    fn is_held_for_a_host(&self, id: QueueId) -> bool {
        self.next_hops(id)
            .any(|(next_hop, _)| matches!(next_hop, NextHop::Hold { .. }) && self.calls(next_hop))
    }

    /// Whether mail of this next hop goes over connections that we open.
    fn calls(&self, next_hop: &NextHop) -> bool {
        let customer =
            (next_hop.customer()).and_then(|customer| self.settings.customers.by_name(customer));
        customer.is_some_and(|customer| customer.deliver_to != DeliverTo::Caller)
    }

    fn found(&self, id: QueueId) -> Found {
        let mut found = Found::default();
        for (next_hop, waits) in self.next_hops(id) {
            if !waits {
                found.goes = true;
                continue;
            }
            let why = match next_hop {
                NextHop::Hold { customer, .. } if customer.is_of_routes() => Why::Route,
                NextHop::Hold { .. } if !self.calls(next_hop) => Why::Call,
                _ => Why::Queue,
            };
            found.waits = found.waits.or(Some(why));
        }
        found
    }

    /// Where a message has recipients, and whether those are stopped there.
    fn next_hops(&self, id: QueueId) -> impl Iterator<Item = (&NextHop, bool)> {
        let entry = self.queue.index().get(id);
        entry.into_iter().flat_map(move |entry| {
            let is_held = entry.hold() == HoldState::Held;
            entry.shares().filter_map(move |share| {
                let facts = self.queue.destination_facts(share.destination)?;
                let is_shut = facts.gate == Gate::Held && share.state != ShareState::InFlight;
                Some((facts.next_hop, is_held || is_shut))
            })
        })
    }
}
