//! The operator's questions and changes, as far as one data core can answer them.
//!
//! Each core answers for the messages that it has; [`merge`] makes one answer of all.
//!
//! Invariant: a question costs a core about a millisecond, however long the queue is: at
//! most [`LOOKED_AT_ONCE`] envelopes are read for it. Who asks for more goes on from
//! where the answer ends, and mail goes between the two.

mod merging;
mod one_by_one;

use std::borrow::Cow;
use std::collections::BTreeMap;

use spool_format::Mark;

pub(super) use self::merging::merge;
use self::one_by_one::Why;

use crate::core::admin::{
    Change, Changed, Command, DEAD_HOSTS_SHOWN_MAX, Date, DeadHost, DeadHosts, Entry, Filter,
    Located, LocatedMessage, Matching, Message, Page, RECIPIENTS_SHOWN_MAX, Reason, RecipientState,
    Released, Response, Selection, State, Status, Text, shortened,
};
use crate::core::common::Common;
use crate::mail::{Domain, QueueId, RecipientIndex};
use crate::queue::{self, DestinationId, Gate, Health, HoldState, ShareState};
use crate::report::Fact;
use crate::route::NextHop;
use crate::route::detour::Detour;
use crate::spool::message::{SegmentSource, StoredMessage};
use crate::time::{Instant, Now, WallTime};

/// What came of a change of one message.
enum Effect {
    /// It is done.
    Done,
    /// It was to be released, and all of it waits.
    Waits(Why),
    /// It was to be released, and some of its recipients wait.
    WaitsInPart(Why),
    /// It is not here.
    Missing,
}

/// Envelopes that are read for one question. Some microseconds each where the system has
/// them in memory, and a disk may have to be asked for each of them.
const LOOKED_AT_ONCE: usize = 256;

impl Common {
    /// This core's part of an answer.
    pub(super) fn answer(
        &mut self,
        now: Now,
        command: &Command,
        spool: &impl SegmentSource,
    ) -> Response {
        match command {
            Command::QueueList(matching) => Response::Page(self.page(now, matching, spool)),
            Command::QueueShow { id: Text(id) } => match self.message(now, *id, spool) {
                Some(message) => Response::Message(Box::new(message)),
                None => not_found(*id),
            },
            Command::QueueChange { change, selection } => self.each(selection, |common, id| {
                common.change(now, *change, id, spool)
            }),
            Command::QueueLocate { ids } => {
                let mut located = Located::default();
                located.fill(ids.iter().filter_map(|&Text(id)| self.located(id)));
                Response::Located(located)
            }
            Command::QueueRequeue { to, selection } => {
                let detour = to.as_ref().map(|Text(detour)| detour);
                let leads = |detour: &Detour| detour.next_hop(&self.settings.routes, "a").is_some();
                if detour.is_some_and(|detour| !leads(detour)) {
                    let text = "there is no smarthost in the configuration";
                    return Response::refused(Reason::Configuration, text);
                }
                self.each(selection, |common, id| {
                    common.requeue(now, detour, id, spool)
                })
            }
            Command::ReleaseDomain {
                domain: Text(domain),
            } => self.release_domain(now, domain),
            // A customer's was taken by the control core: this is a domain of a route.
            Command::Release { name } => match name.parse::<Domain>() {
                // A customer's name with a letter wrong is not to let go all mail there is.
                Ok(domain)
                    if domain.as_str().contains('.')
                        || self.settings.routes.is_routed(domain.as_str()) =>
                {
                    self.release_domain(now, &domain)
                }
                _ => {
                    let text = format!("there is no customer {name:?}, and no route of that name");
                    Response::refused(Reason::NotFound, text)
                }
            },
            Command::QueueSteer { next_hop, change } => self.steer(now, next_hop, *change),
            Command::Status => Response::Status(Box::new(self.status(now))),
            Command::Queues(names) => Response::Queues(self.queues(now, names)),
            Command::Find(wanted) => Response::Tallies(self.seek(wanted)),
            Command::DeadHosts => Response::DeadHosts(self.dead_hosts(now)),
            Command::Collect(_)
            | Command::LogDetail(_)
            | Command::LogTranscript(_)
            | Command::Link(_)
            | Command::Stop
            | Command::Reload => {
                Response::refused(Reason::Request, "this is answered by the control core")
            }
        }
    }

    fn release_domain(&mut self, now: Now, domain: &Domain) -> Response {
        let settings = std::sync::Arc::clone(&self.settings);
        let next_hop = settings.routes.next_hop(domain.as_str());
        self.memory.release(now.instant);
        self.keep_released(now, &next_hop.to_owned());
        let waiting = self.queue.release(now, queue::Selection::NextHop(next_hop));
        let (messages, octets) = (waiting.messages, waiting.octets);
        let queue = Some(settings.routes.name_of(&next_hop.to_owned()));
        Response::Released(Released {
            messages,
            octets,
            queue,
        })
    }

    fn page(&self, now: Now, matching: &Matching, spool: &impl SegmentSource) -> Page {
        let mut entries = Vec::new();
        let found = self.find(now, matching, spool);
        for (entry, stored) in found.entries {
            entries.push(self.entry(now, &entry, stored.as_ref()));
        }
        Page {
            entries,
            next: found.next.map(Text),
        }
    }

    /// Messages that match, with what is stored of them.
    ///
    /// What the queue knows of them is looked at first, some thousands at once; an
    /// envelope is read only of what is left then.
    fn find<'a>(&'a self, now: Now, matching: &Matching, spool: &impl SegmentSource) -> Found<'a> {
        let filter = &matching.filter;
        let before = filter.older_seconds.map(|seconds| {
            let millis = i64::try_from(seconds)
                .unwrap_or(i64::MAX / 1000)
                .saturating_mul(1000);
            WallTime::from_millis(now.wall.as_millis().saturating_sub(millis))
        });
        let matches = |entry: &queue::Entry<'a>| {
            before.is_none_or(|before| entry.arrival() <= before)
                && (filter.larger_octets).is_none_or(|larger| entry.octets() > larger)
                && (filter.state).is_none_or(|state| state == state_of(&self.queue, entry))
        };
        let at = self.destinations_of(filter);
        let after = matching.after.map(|Text(after)| after);
        let limit = (matching.limit as usize).min(LOOKED_AT_ONCE);
        let page = self.queue.page(after, limit, at.as_deref(), matches);
        let entries = page
            .entries
            .into_iter()
            .filter_map(|entry| {
                let stored = StoredMessage::read(spool, entry.location()).ok();
                stored_matches(filter, &entry, stored.as_ref()).then_some((entry, stored))
            })
            .collect();
        Found {
            entries,
            next: page.next,
        }
    }

    /// Where a message has to have recipients to match, in ascending order. `None`:
    /// anywhere.
    fn destinations_of(&self, filter: &Filter) -> Option<Vec<DestinationId>> {
        let may_match: &dyn Fn(&NextHop) -> bool = match (&filter.customer, &filter.domain) {
            (Some(Text(wanted)), _) => &move |next_hop| next_hop.customer() == Some(wanted),
            // Whether the domain is among those that go to a host, only envelopes tell.
            (None, Some(Text(wanted))) => &move |next_hop| match next_hop {
                NextHop::Hold { domain, .. }
                | NextHop::Site { domain, .. }
                | NextHop::Mx(domain) => domain == wanted,
                _ => true,
            },
            (None, None) => return None,
        };
        let destinations = self.queue.destinations();
        let mut ids: Vec<_> = destinations
            .filter(|facts| may_match(facts.next_hop))
            .map(|facts| facts.id)
            .collect();
        ids.sort_unstable();
        Some(ids)
    }

    fn entry(&self, now: Now, entry: &queue::Entry<'_>, stored: Option<&StoredMessage>) -> Entry {
        let shares: Vec<_> = entry.shares().collect();
        let due = shares
            .iter()
            .filter_map(|share| due_of(&self.queue, share))
            .min();
        let next_hop = shares
            .first()
            .and_then(|share| self.queue.next_hop(share.destination));
        Entry {
            id: Text(entry.queue_id()),
            state: state_of(&self.queue, entry),
            arrival: Date(entry.arrival()),
            octets: entry.octets(),
            sender: stored.map_or_else(
                || "?".to_owned(),
                |stored| stored.envelope.sender.reverse_path.as_str().to_owned(),
            ),
            recipients: shares
                .iter()
                .map(|share| share.recipients.as_slice().len() as u32)
                .sum(),
            next_hop: next_hop.map_or_else(String::new, |hop| self.settings.routes.name_of(hop)),
            attempts: shares
                .iter()
                .map(|share| u32::from(share.attempts))
                .max()
                .unwrap_or(0),
            next_attempt: due.map(|due| Date(now.wall + due.since(now.instant))),
        }
    }

    fn message(&self, now: Now, id: QueueId, spool: &impl SegmentSource) -> Option<Message> {
        let entry = self.queue.index().get(id)?;
        let stored = StoredMessage::read(spool, entry.location()).ok();
        let recipients = stored
            .as_ref()
            .map_or(&[][..], |s| s.envelope.recipients.as_slice());
        let shares: Vec<_> = entry.shares().collect();
        let shown = recipients
            .iter()
            .zip(0..)
            .take(RECIPIENTS_SHOWN_MAX)
            .map(|(recipient, index)| {
                let index = RecipientIndex(index);
                let share = shares
                    .iter()
                    .find(|share| share.recipients.as_slice().contains(&index));
                let next_hop = share.and_then(|share| self.queue.next_hop(share.destination));
                RecipientState {
                    recipient: recipient.forward_path.as_str().to_owned(),
                    state: if share.is_some() { "waiting" } else { "done" }.to_owned(),
                    next_hop: next_hop
                        .map_or_else(String::new, |hop| self.settings.routes.name_of(hop)),
                    last: share
                        .and_then(|share| self.hosts.failure(share.destination))
                        .map(|why| shortened(why).to_owned()),
                }
            })
            .collect();
        let sender = stored.as_ref().map(|stored| &stored.envelope.sender);
        Some(Message {
            expires: shares
                .first()
                .and_then(|share| self.queue.next_hop(share.destination))
                .map(|next_hop| self.settings.policies.get(next_hop).retry.give_up())
                .map(|give_up| Date(self.queue.age_begins(&entry) + give_up)),
            priority: entry.priority().value(),
            deliver_by: entry.deadline().map(|(deadline, _)| Date(deadline)),
            envid: sender
                .and_then(|sender| sender.envid.as_deref())
                .map(str::to_owned),
            location: entry.location().to_string(),
            shown,
            recipients_total: recipients.len() as u32,
            entry: self.entry(now, &entry, stored.as_ref()),
        })
    }

    fn located(&self, id: QueueId) -> Option<LocatedMessage> {
        let entry = self.queue.index().get(id)?;
        let seal = entry.location();
        let shares = entry.shares();
        let mut waiting: Vec<_> = shares
            .flat_map(|share| share.recipients.as_slice().iter().map(|index| index.0))
            .collect();
        waiting.sort_unstable();
        Some(LocatedMessage {
            id: Text(id),
            log: seal.log.0,
            segment: seal.segment.0,
            offset: seal.offset.0,
            held: entry.hold() == HoldState::Held,
            waiting,
        })
    }

    /// Does something to each message. What matches a filter was looked for before.
    fn each(
        &mut self,
        selection: &Selection,
        mut change: impl FnMut(&mut Self, QueueId) -> Effect,
    ) -> Response {
        let Selection::Ids { ids } = selection else {
            return Response::refused(Reason::Request, "the control core looks for messages");
        };
        let mut changed = Changed::default();
        for &Text(id) in ids {
            match change(self, id) {
                Effect::Done => changed.changed += 1,
                Effect::Waits(why) => why.count(&mut changed),
                Effect::WaitsInPart(why) => {
                    changed.changed += 1;
                    why.count(&mut changed);
                }
                Effect::Missing => changed.missing.push(Text(id)),
            }
        }
        // What the operator was told is done, a killed process does not undo.
        self.log.write_notes();
        Response::Changed(changed)
    }

    /// Sends a message another way, or by the routes again.
    fn requeue(
        &mut self,
        now: Now,
        detour: Option<&Detour>,
        id: QueueId,
        spool: &impl SegmentSource,
    ) -> Effect {
        if self.queue.index().get(id).is_none() {
            return Effect::Missing;
        }
        let next_hop = detour.map(Detour::as_str);
        // A closed log was reported; the change holds until the restart.
        let _ = self.log.mark(now, id, Mark::Requeue { next_hop });
        self.detours.set(id, detour);
        self.follow(now, id, spool);
        let to = next_hop.map_or_else(|| "the next hop of the routes".into(), Cow::from);
        self.report(Fact::Steered {
            queue_id: id,
            what: format!("sent to {to}").into(),
        });
        Effect::Done
    }

    fn change(
        &mut self,
        now: Now,
        change: Change,
        id: QueueId,
        spool: &impl SegmentSource,
    ) -> Effect {
        if self.queue.index().get(id).is_none() {
            return Effect::Missing;
        }
        match change {
            Change::Hold => {
                self.queue.hold(now, queue::Selection::Message(id));
                // A closed log was reported; the change holds until the restart.
                let _ = self.log.mark(now, id, Mark::Hold { queue_name: None });
                self.report(Fact::Steered {
                    queue_id: id,
                    what: "held".into(),
                });
                Effect::Done
            }
            Change::Release => self.release_one(now, id, spool),
            // Its done record is written when the schedule says that it is deleted.
            Change::Delete => {
                self.queue.delete(now, id);
                Effect::Done
            }
        }
    }

    fn dead_hosts(&self, now: Now) -> DeadHosts {
        let dead = self.memory.dead().into_iter().take(DEAD_HOSTS_SHOWN_MAX);
        let hosts = dead.map(|host| DeadHost {
            address: host.address.to_string(),
            failures: host.failures,
            next_attempt: Date(now.wall + host.until.since(now.instant)),
            why: host.why,
        });
        DeadHosts {
            hosts: hosts.collect(),
        }
    }

    fn status(&self, now: Now) -> Status {
        let mut counters: BTreeMap<String, u64> = self
            .counters
            .iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let index = self.queue.index();
        let gauges = [
            ("queue_messages", index.len() as u64),
            ("queue_octets", index.octets()),
            ("connections_open_out", self.queue.connections() as u64),
            ("spool_bytes", self.log.size_bytes()),
        ];
        counters.extend(gauges.map(|(name, value)| (name.to_owned(), value)));
        let log = match self.log.fault() {
            None => "open".to_owned(),
            Some(fault) => format!("closed to writes: {fault}"),
        };
        let states = [(format!("spool.log.{}", self.id.0), log)].into();
        Status {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Date(now.wall - now.instant.since(crate::time::Instant::START)),
            counters,
            states,
            live: self.live(now),
        }
    }
}

struct Found<'a> {
    entries: Vec<(queue::Entry<'a>, Option<StoredMessage>)>,
    next: Option<QueueId>,
}

fn not_found(id: QueueId) -> Response {
    Response::refused(
        Reason::NotFound,
        format!("there is no message {id} in the queue"),
    )
}

fn stored_matches(
    filter: &Filter,
    entry: &queue::Entry<'_>,
    stored: Option<&StoredMessage>,
) -> bool {
    if filter.sender.is_none() && filter.domain.is_none() && filter.recipient.is_none() {
        return true;
    }
    let Some(stored) = stored else { return false };
    let envelope = &stored.envelope;
    let sender = filter
        .sender
        .as_ref()
        .is_none_or(|Text(sender)| sender.0 == envelope.sender.reverse_path);
    let waiting = || {
        entry
            .shares()
            .flat_map(|share| share.recipients.as_slice())
            .filter_map(|index| envelope.recipients.get(index.0 as usize))
            .map(|recipient| recipient.forward_path.address())
    };
    let domain = filter
        .domain
        .as_ref()
        .is_none_or(|Text(domain)| waiting().any(|a| a.domain_str() == domain.as_str()));
    let recipient = filter
        .recipient
        .as_ref()
        .is_none_or(|Text(recipient)| waiting().any(|address| address == recipient));
    sender && domain && recipient
}

fn state_of(queue: &queue::Schedule, entry: &queue::Entry<'_>) -> State {
    if entry.hold() == HoldState::Held {
        return State::Held;
    }
    let mut state = State::Held;
    for share in entry.shares() {
        let facts = queue.destination_facts(share.destination);
        let gate = facts.map_or(Gate::Open, |facts| facts.gate);
        let closed = facts.is_some_and(|f| matches!(f.health, Health::Closed { .. }));
        match share.state {
            ShareState::InFlight => return State::Active,
            ShareState::Ready | ShareState::Deferred if gate == Gate::Held => {}
            ShareState::Ready if !closed => state = State::Ready,
            ShareState::Ready | ShareState::Deferred if state == State::Held => {
                state = State::Deferred;
            }
            ShareState::Ready | ShareState::Deferred | ShareState::Held => {}
        }
    }
    state
}

/// When a share is tried next, if that is by time.
fn due_of(queue: &queue::Schedule, share: &queue::ShareEntry<'_>) -> Option<Instant> {
    let closed = match queue.destination_facts(share.destination)?.health {
        Health::Closed { until } if share.state == ShareState::Ready => Some(until),
        _ => None,
    };
    share.due.or(closed)
}
