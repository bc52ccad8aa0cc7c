//! What each program of a world did with each copy of a message, and which second copy
//! the protocol allows.
//!
//! A message that is delivered shows in its trace fields by way of which copies it came:
//! host and queue id of each program. Two deliveries to one recipient part at some copy
//! that was handed on twice. That is allowed if its program had not yet learnt that the
//! first had arrived, or had learnt it and lost the note in a crash (RFC 5321 §6.1: then
//! twice is better than never). Otherwise it is a fault.
//!
//! *Taken notes*: what a site took of its held mail is written down at once. A process
//! that is killed, with its machine going on, never sends it again.

use std::collections::BTreeMap;
use std::time::Duration;

use memchr::memmem;
use turnspool::mail::QueueId;

use crate::disk::Loss;
use crate::ledger::behind_the_trace;

/// By host and domain, what was sent: when it was accepted, as what, and its size.
type Order = BTreeMap<(String, String), Vec<(u64, QueueId, usize)>>;

/// A message in the spool of a program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Copy {
    pub(crate) host: String,
    pub(crate) id: QueueId,
}

/// The copies by way of which a delivery came, the first one first.
pub(crate) type Route = Vec<Copy>;

/// A life of a program ended, and not in good order.
#[derive(Clone, Copy, Debug)]
struct Break {
    at: u64,
    loss: Loss,
    /// Done records of what was learnt since then may be lost.
    done_since: u64,
}

/// How long after it was learnt the done record of a delivery may be lost in a power cut:
/// the riders' tenth of a second, and a few syncs of a slow disk.
const DONE_DELAY_MAX: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    accepted: BTreeMap<Copy, u64>,
    /// When the program of a copy learnt that one of its recipients has it.
    learnt: BTreeMap<(Copy, String), Vec<u64>>,
    breaks: BTreeMap<String, Vec<Break>>,
    /// Domains of held mail, by the host that holds it.
    held: BTreeMap<String, Vec<String>>,
    /// What each host has sent to each domain: when it was accepted, and its size. Kept
    /// where one connection is allowed and nothing goes wrong.
    order: Option<Order>,
    /// Replies that never reached the program that waited for them.
    pub(crate) lost_replies: std::cell::Cell<u32>,
}

impl Hops {
    /// Mail for this domain is held there.
    pub(crate) fn hold(&mut self, host: &str, domain: String) {
        self.held.entry(host.to_owned()).or_default().push(domain);
    }

    /// From here on messages are to be delivered in their order.
    pub(crate) fn keep_order(&mut self) {
        self.order = Some(BTreeMap::new());
    }

    /// A message of ordinary priority, without a deadline, is delivered. Smaller ones that
    /// came later may have passed it, larger ones not.
    pub(crate) fn in_order(&mut self, route: &Route, recipient: &str, octets: usize) {
        let (Some(order), Some(last)) = (&mut self.order, route.last()) else {
            return;
        };
        let accepted = self.accepted[last];
        let domain = recipient.rsplit('@').next().unwrap_or_default();
        let before = order.entry((last.host.clone(), domain.to_owned()));
        let before = before.or_default();
        // A message has its place in the queue from its beginning, when its id is given: of
        // two that come to one core side by side the first one may be committed last.
        let came_later =
            |id: QueueId| id.core() != last.id.core() || id.sequence() > last.id.sequence();
        let passed = before
            .iter()
            .find(|(at, id, size)| *at > accepted && came_later(*id) && *size >= octets);
        assert_eq!(
            passed, None,
            "{last:?}, which came at {accepted} with {octets} octets, goes to {domain} late"
        );
        before.push((accepted, last.id, octets));
    }

    /// A program has committed a message.
    pub(crate) fn accepted(&mut self, now: u64, copy: Copy) {
        let before = self.accepted.insert(copy, now);
        assert!(before.is_none(), "a queue id was given twice");
    }

    /// A program has learnt that a recipient has it. It must not have known that before.
    pub(crate) fn learnt(&mut self, now: u64, copy: Copy, recipient: &str) {
        let key = (copy, recipient.to_owned());
        let before = self.learnt.get(&key).and_then(|all| all.last()).copied();
        if let Some(before) = before {
            assert!(
                self.forgotten(&key.0.host, recipient, before, now),
                "{} delivered {recipient} of {} at {before} and again at {now}; breaks: {:?}",
                key.0.host,
                key.0.id,
                self.breaks.get(&key.0.host)
            );
        }
        self.learnt.entry(key).or_default().push(now);
    }

    /// A program died. `no_room_since`: since then done records could not be written.
    pub(crate) fn crash(&mut self, at: u64, host: &str, loss: Loss, no_room_since: Option<u64>) {
        let delay = DONE_DELAY_MAX.as_nanos() as u64;
        let done_since = no_room_since.unwrap_or(at).saturating_sub(delay);
        let loss = match no_room_since {
            Some(_) => Loss::Unsynced,
            None => loss,
        };
        self.breaks.entry(host.to_owned()).or_default().push(Break {
            at,
            loss,
            done_since,
        });
    }

    /// By way of which copies a message came, and what stands behind their trace fields.
    pub(crate) fn route<'a>(&self, octets: &'a [u8]) -> (Route, &'a [u8]) {
        let mut route = Vec::new();
        let mut rest = octets;
        while route.is_empty() || rest.starts_with(b"Received: ") {
            let behind = behind_the_trace(rest);
            let field = &rest[..rest.len() - behind.len()];
            let word = |before: &[u8]| {
                let at = memmem::find(field, before).expect("a clause of our trace field");
                let word = &field[at + before.len()..];
                let end = word
                    .iter()
                    .position(|octet| octet.is_ascii_whitespace() || *octet == b';');
                String::from_utf8(word[..end.expect("it ends")].to_vec()).expect("ASCII")
            };
            let copy = Copy {
                host: word(b"\tby "),
                id: word(b" id ").parse().expect("a queue id"),
            };
            // One that dies with the commit does not come to say so.
            assert!(
                self.accepted.contains_key(&copy) || self.breaks.contains_key(&copy.host),
                "{copy:?} is delivered, and was never committed"
            );
            route.insert(0, copy);
            rest = behind;
        }
        (route, rest)
    }

    /// Whether a recipient may get a message again: by this route, after that one.
    pub(crate) fn excuse(
        &self,
        recipient: &str,
        (before, before_at, confirmed_at): (&Route, u64, Option<u64>),
        (route, at): (&Route, u64),
    ) -> Result<(), String> {
        let same = before.iter().zip(route).take_while(|(a, b)| a == b).count();
        let Some(last) = same.checked_sub(1).map(|last| &route[last]) else {
            return Err(format!("its client gave it once: {before:?}, {route:?}"));
        };
        // Between the arrivals of the two at the next one, did its program know?
        let (first, second, learnt) = if before.len() == route.len() && same == route.len() {
            (before_at, at, confirmed_at.into_iter().collect())
        } else {
            let (Some(a), Some(b)) = (before.get(same), route.get(same)) else {
                return Err(format!(
                    "one way is part of the other: {before:?}, {route:?}"
                ));
            };
            let (Some(&a), Some(&b)) = (self.accepted.get(a), self.accepted.get(b)) else {
                // It died with the commit, before it could answer.
                self.lost_replies.set(self.lost_replies.get() + 1);
                return Ok(());
            };
            let key = (last.clone(), recipient.to_owned());
            let learnt = self.learnt.get(&key).cloned().unwrap_or_default();
            (a.min(b), a.max(b), learnt)
        };
        let between = learnt.iter().filter(|t| (first..=second).contains(*t));
        let mut known = false;
        for &learnt in between {
            known = true;
            if !self.forgotten(&last.host, recipient, learnt, second) {
                return Err(format!(
                    "{} handed on {} at {first}, knew it at {learnt}, and did so again at \
                     {second}; breaks: {:?}",
                    last.host,
                    last.id,
                    self.breaks.get(&last.host)
                ));
            }
        }
        self.lost_replies
            .set(self.lost_replies.get() + u32::from(!known));
        Ok(())
    }

    /// Whether what a host learnt then may have been lost by a crash before this time.
    fn forgotten(&self, host: &str, recipient: &str, learnt: u64, before: u64) -> bool {
        let held = self.held.get(host).is_some_and(|domains| {
            let domain = recipient.rsplit('@').next().unwrap_or_default();
            domains.iter().any(|held| held == domain)
        });
        let breaks = self.breaks.get(host).into_iter().flatten();
        breaks
            .filter(|b| (learnt..=before).contains(&b.at) && b.done_since <= learnt)
            // Killed in the very turn in which it learnt it, it has not written it.
            .any(|b| !held || b.loss == Loss::Unsynced || b.at == learnt)
    }
}
