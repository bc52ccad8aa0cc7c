//! One answer of the answers of all cores.

use std::collections::BTreeMap;

use crate::core::admin::{
    Changed, Command, DEAD_HOSTS_SHOWN_MAX, DeadHost, DeadHosts, Located, Page, Reason, Released,
    Response, Status, Text,
};
use crate::mail::QueueId;

/// One answer of the answers of all cores.
#[must_use]
pub(in crate::core) fn merge(command: &Command, parts: Vec<Response>) -> Response {
    let mut refusals = Vec::new();
    let mut pages = Vec::new();
    let mut changes = Vec::new();
    let mut dead = Vec::new();
    let mut located = Vec::new();
    let mut released = Released::default();
    let mut known = false;
    let mut status: Option<Box<Status>> = None;
    for part in parts {
        match part {
            Response::Message(message) => return Response::Message(message),
            Response::Page(page) => pages.push(page),
            Response::Changed(changed) => changes.push(changed),
            Response::DeadHosts(part) => dead.extend(part.hosts),
            Response::Located(part) => located.extend(part.messages),
            Response::Released(part) => {
                known = true;
                released.messages += part.messages;
                released.octets += part.octets;
                released.queue = released.queue.or(part.queue);
            }
            Response::Status(part) => match &mut status {
                None => status = Some(part),
                Some(sum) => {
                    for (name, value) in part.counters {
                        *sum.counters.entry(name).or_default() += value;
                    }
                    sum.states.extend(part.states);
                    sum.live.add(part.live);
                }
            },
            other => refusals.push(other),
        }
    }
    match command {
        Command::QueueList(matching) => Response::Page(merge_pages(pages, matching.limit)),
        Command::QueueChange { .. } | Command::QueueRequeue { .. } if refusals.is_empty() => {
            Response::Changed(merge_changes(changes))
        }
        Command::ReleaseDomain { .. } | Command::Release { .. } if refusals.is_empty() => {
            Response::Released(released)
        }
        // One core is enough that has mail for it.
        Command::QueueSteer { .. } if known => Response::Released(released),
        Command::QueueLocate { .. } => {
            let mut sum = Located::default();
            located.sort_unstable_by_key(|message| message.id);
            sum.fill(located.into_iter());
            Response::Located(sum)
        }
        Command::DeadHosts => Response::DeadHosts(merge_dead(dead)),
        Command::Status => status.map_or_else(no_answer, Response::Status),
        _ => refusals.pop().unwrap_or_else(no_answer),
    }
}

fn no_answer() -> Response {
    Response::refused(
        Reason::Later,
        "the data cores did not answer in time; try again",
    )
}

/// Each host once: as the core knows it that waits for longest.
fn merge_dead(mut hosts: Vec<DeadHost>) -> DeadHosts {
    hosts.sort_unstable_by(|a, b| {
        let by_address = a.address.cmp(&b.address);
        by_address.then(b.next_attempt.cmp(&a.next_attempt))
    });
    hosts.dedup_by(|later, first| later.address == first.address);
    hosts.truncate(DEAD_HOSTS_SHOWN_MAX);
    DeadHosts { hosts }
}

/// Pages in the order of ids. What does not fit comes with the next page.
fn merge_pages(pages: Vec<Page>, limit: u32) -> Page {
    // A core that has more ends its page somewhere: behind that nothing may be shown,
    // or its next entries would be passed over.
    let mut next = pages
        .iter()
        .filter_map(|page| page.next)
        .map(|Text(id)| id)
        .min();
    let mut entries: Vec<_> = pages.into_iter().flat_map(|page| page.entries).collect();
    entries.sort_unstable_by_key(|entry| entry.id.0);
    if let Some(next) = next {
        entries.retain(|entry| entry.id.0 <= next);
    }
    if entries.len() > limit as usize {
        entries.truncate(limit as usize);
        next = entries.last().map(|entry| entry.id.0);
    }
    Page {
        entries,
        next: next.map(Text),
    }
}

/// An id is missing if no core has it.
fn merge_changes(changes: Vec<Changed>) -> Changed {
    let mut sum = Changed::default();
    let cores = changes.len();
    let mut missing: BTreeMap<QueueId, usize> = BTreeMap::new();
    for part in changes {
        sum.changed += part.changed;
        sum.held += part.held;
        sum.waits.add(part.waits);
        for Text(id) in part.missing {
            *missing.entry(id).or_default() += 1;
        }
    }
    let of_all = missing.into_iter().filter(|(_, n)| *n == cores);
    sum.missing = of_all.map(|(id, _)| Text(id)).collect();
    sum
}
