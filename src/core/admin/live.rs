//! What the server is doing now: one family of structs for `status --json`, the web
//! page, the metrics and `turnspool top`.
//!
//! Each data core tells its part, [`Live::add`] makes one of them; the control core adds
//! what it knows of links and room, the shell what it has written to the log lately.
//! Nothing of it costs a message more than a counter.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{Date, LinkHistory, Links};
use crate::core::latency::Latency;

/// Most queues told, those with the most messages. A page shows a few hundred; who wants
/// the rest asks `turnspool queue list`.
pub const QUEUES_SHOWN_MAX: usize = 500;

/// Most customers told, those with the most messages.
pub const CUSTOMERS_SHOWN_MAX: usize = 1000;

/// Times on line told of each link.
pub const OUTINGS_SHOWN_MAX: u32 = 20;

/// Most facts told. Older ones stand in the log.
pub const EVENTS_SHOWN_MAX: usize = 60;

/// What the server is doing now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Live {
    /// When this was put together.
    pub at: Option<Date>,
    /// Where mail waits or is on its way, most messages first, at most
    /// [`QUEUES_SHOWN_MAX`].
    pub queues: Vec<Queue>,
    /// How many there are.
    pub queues_total: u64,
    /// Between the cores only: all queues of a core, in few words.
    #[serde(skip)]
    pub tallies: Vec<Tally>,
    /// All that waits, by what it waits for.
    pub classes: BTreeMap<QueueClass, Amount>,
    /// What is held for each customer that has mail, most messages first, at most
    /// [`CUSTOMERS_SHOWN_MAX`].
    pub customers: Vec<CustomerAmount>,
    /// When the oldest message that waits came.
    pub oldest: Option<Date>,
    /// Open sessions and connections by what they are for.
    pub sessions: Sessions,
    /// From the write of a batch to the log until it was on stable storage.
    pub commit: Latency,
    /// From the last octet of a message until its commit: what a client waits for.
    pub acceptance: Latency,
    /// Whether new mail is taken.
    pub readiness: Readiness,
    /// Octets that the file system of the spool has left.
    pub disk_free_octets: Option<u64>,
    /// How this host is on line. `None`: always.
    pub links: Option<Links>,
    /// Times on line, latest first, at most [`OUTINGS_SHOWN_MAX`] of each link.
    pub histories: Vec<LinkHistory>,
    /// What the operator was told lately, latest first, at most [`EVENTS_SHOWN_MAX`].
    pub events: Vec<Event>,
}

/// How full a queue is, in few words: so that of very many those can be chosen that are
/// fullest on all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Stands for its name, the same on each core.
    pub name: u64,
    /// Messages.
    pub messages: u64,
}

/// Messages and their octets. A message for two destinations counts at both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
}

/// What is held for a customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CustomerAmount {
    /// Its name.
    pub name: String,
    /// What is held.
    #[serde(flatten)]
    pub amount: Amount,
}

/// What a queue waits for. A closed set: it is a label of metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueClass {
    /// The call of a customer, or a release.
    Held,
    /// The exchangers of a domain.
    Mx,
    /// A smarthost.
    Smarthost,
    /// A host of a route, or that of a customer for what was released one by one.
    Host,
    /// A Maildir on this machine, or nothing at all.
    Local,
}

impl QueueClass {
    /// As in JSON and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Mx => "mx",
            Self::Smarthost => "smarthost",
            Self::Host => "host",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for QueueClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether the mail of a queue may go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueGate {
    /// It may.
    #[default]
    Open,
    /// Not before a release.
    Held,
    /// Held mail that was released and goes now.
    Released,
    /// It may, and nobody there takes it: tried again at `retry`.
    Resting,
}

impl QueueGate {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Released => "released",
            Self::Resting => "resting",
        }
    }
}

/// The mail for one next hop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Its name, for people and for [`super::Command::QueueSteer`].
    pub next_hop: String,
    /// What it waits for.
    pub class: QueueClass,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The domain, where the next hop is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What waits and what is on its way.
    #[serde(flatten)]
    pub amount: Amount,
    /// Of those: put off to a time.
    pub deferred: u64,
    /// Of those: stopped one by one by the operator.
    pub held: u64,
    /// Connections now.
    pub connections: u64,
    /// Whether it may go.
    pub gate: QueueGate,
    /// Failures to reach it, in a row.
    pub failures: u64,
    /// When about the oldest came: of a long queue the first few in each order are
    /// looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Date>,
    /// When it is tried again, if it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Date>,
    /// The last failure, at most [`super::TEXT_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Open sessions and connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sessions {
    /// Clients at listeners for mail from everywhere.
    pub mx: u64,
    /// Clients at listeners for submission.
    pub submission: u64,
    /// Customers at listeners for ATRN.
    pub odmr: u64,
    /// Providers that we have called and that send us mail.
    pub provider: u64,
    /// Connections that take mail away, or ask a site about recipients.
    pub delivery: u64,
    /// Connections to POP3 servers.
    pub collection: u64,
}

/// Whether new mail is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Readiness {
    /// The log of each core takes writes.
    pub log_open: bool,
    /// There is room for new mail.
    pub has_room: bool,
    /// The server is stopping.
    pub stopping: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            log_open: true,
            has_room: true,
            stopping: false,
        }
    }
}

/// Something that the operator was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Date,
    /// How loud: "info", "warning", "error".
    pub level: String,
    /// Its name, as in the log.
    pub fact: String,
    /// The sentence. What came from a peer is escaped in it.
    pub text: String,
}

impl Sessions {
    /// Each with the name of its role.
    #[must_use]
    pub const fn by_role(&self) -> [(&'static str, u64); 6] {
        [
            ("mx", self.mx),
            ("submission", self.submission),
            ("odmr", self.odmr),
            ("provider", self.provider),
            ("delivery", self.delivery),
            ("collection", self.collection),
        ]
    }
}

impl Readiness {
    /// Why new mail is not taken; `None`: it is.
    #[must_use]
    pub const fn trouble(self) -> Option<&'static str> {
        match self {
            Self { stopping: true, .. } => Some("the server is stopping"),
            Self {
                log_open: false, ..
            } => Some("a log is closed to writes; look at the disk, then restart"),
            Self {
                has_room: false, ..
            } => Some("there is no room for new mail"),
            _ => None,
        }
    }
}

impl Amount {
    /// The sum.
    pub const fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.octets += other.octets;
    }
}

impl Queue {
    /// The same next hop on two cores.
    fn add(&mut self, other: Self) {
        self.amount.add(other.amount);
        self.deferred += other.deferred;
        self.held += other.held;
        self.connections += other.connections;
        self.failures = self.failures.max(other.failures);
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.retry = [self.retry, other.retry].into_iter().flatten().min();
        self.why = other.why.or(self.why.take());
        // What goes on on one core is more than what rests on another.
        self.gate = match (self.gate, other.gate) {
            (QueueGate::Released, _) | (_, QueueGate::Released) => QueueGate::Released,
            (QueueGate::Held, _) | (_, QueueGate::Held) => QueueGate::Held,
            (QueueGate::Resting, QueueGate::Resting) => QueueGate::Resting,
            _ => QueueGate::Open,
        };
    }
}

impl Live {
    /// Adds the part of another core.
    pub fn add(&mut self, part: Self) {
        let mut places: BTreeMap<String, usize> = (self.queues.iter().enumerate())
            .map(|(place, queue)| (queue.next_hop.clone(), place))
            .collect();
        // One that both cores have was counted by both.
        self.queues_total += part.queues_total;
        for queue in part.queues {
            match places.get(&queue.next_hop) {
                Some(&place) => {
                    self.queues_total -= 1;
                    self.queues[place].add(queue);
                }
                None => {
                    places.insert(queue.next_hop.clone(), self.queues.len());
                    self.queues.push(queue);
                }
            }
        }
        for (class, amount) in part.classes {
            self.classes.entry(class).or_default().add(amount);
        }
        self.tallies.extend(part.tallies);
        self.customers.extend(part.customers);
        self.oldest = [self.oldest, part.oldest].into_iter().flatten().min();
        let Sessions {
            mx,
            submission,
            odmr,
            provider,
            delivery,
            collection,
        } = part.sessions;
        self.sessions.mx += mx;
        self.sessions.submission += submission;
        self.sessions.odmr += odmr;
        self.sessions.provider += provider;
        self.sessions.delivery += delivery;
        self.sessions.collection += collection;
        self.commit.add(&part.commit);
        self.acceptance.add(&part.acceptance);
        self.readiness.log_open &= part.readiness.log_open;
        self.readiness.has_room &= part.readiness.has_room;
    }

    /// The fullest queues of all, if some core has so many that it told none of them. Says
    /// how many there are, too.
    #[must_use]
    pub fn fullest(&mut self) -> Option<Vec<u64>> {
        let tallies = std::mem::take(&mut self.tallies);
        let told: u64 = self.queues.iter().map(|queue| queue.amount.messages).sum();
        let all: u64 = tallies.iter().map(|tally| tally.messages).sum();
        if told == all {
            return None;
        }
        self.queues.clear();
        let names;
        (names, self.queues_total) = chosen(tallies);
        Some(names)
    }

    /// What a core tells of the queues that were chosen.
    pub fn add_queues(&mut self, queues: Vec<Queue>) {
        // They were counted before.
        let total = self.queues_total;
        self.add(Self {
            queues,
            ..Self::default()
        });
        self.queues_total = total;
    }

    /// The fullest queues first, and no more than are told.
    pub fn cut(&mut self) {
        (self.queues).sort_by(|a, b| {
            let by_messages = b.amount.messages.cmp(&a.amount.messages);
            by_messages.then_with(|| a.next_hop.cmp(&b.next_hop))
        });
        self.queues.truncate(QUEUES_SHOWN_MAX);
    }
}

/// The names of the fullest, in ascending order, and how many there are.
#[must_use]
pub fn chosen(tallies: Vec<Tally>) -> (Vec<u64>, u64) {
    let mut sums: HashMap<u64, u64> = HashMap::with_capacity(tallies.len());
    for Tally { name, messages } in tallies {
        *sums.entry(name).or_default() += messages;
    }
    let total = sums.len() as u64;
    let mut fullest: Vec<_> = sums.into_iter().collect();
    if fullest.len() > QUEUES_SHOWN_MAX {
        fullest.select_nth_unstable_by(QUEUES_SHOWN_MAX, |a, b| (b.1, b.0).cmp(&(a.1, a.0)));
        fullest.truncate(QUEUES_SHOWN_MAX);
    }
    let mut names: Vec<_> = fullest.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    (names, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(next_hop: &str, messages: u64, gate: QueueGate) -> Queue {
        Queue {
            next_hop: next_hop.to_owned(),
            class: QueueClass::Mx,
            customer: None,
            domain: None,
            amount: Amount {
                messages,
                octets: messages * 10,
            },
            deferred: 1,
            held: 0,
            connections: 2,
            gate,
            failures: messages,
            oldest: None,
            retry: None,
            why: None,
        }
    }

    fn live(queues: Vec<Queue>) -> Live {
        Live {
            queues_total: queues.len() as u64,
            queues,
            ..Live::default()
        }
    }

    #[test]
    fn a_queue_of_two_cores_is_one() {
        let mut sum = live(vec![
            queue("a", 1, QueueGate::Open),
            queue("b", 2, QueueGate::Resting),
        ]);
        sum.add(live(vec![
            queue("b", 5, QueueGate::Resting),
            queue("c", 3, QueueGate::Held),
        ]));
        sum.cut();
        let shown: Vec<_> = (sum.queues.iter())
            .map(|queue| (queue.next_hop.as_str(), queue.amount.messages, queue.gate))
            .collect();
        assert_eq!(
            shown,
            [
                ("b", 7, QueueGate::Resting),
                ("c", 3, QueueGate::Held),
                ("a", 1, QueueGate::Open)
            ]
        );
        assert_eq!(sum.queues_total, 3);
        assert_eq!(sum.queues[0].amount.octets, 70);
    }

    /// More queues than are told, on both cores, and in another order on each: the sums
    /// decide, not what is much on one of them.
    #[test]
    fn the_fullest_are_those_of_all_cores_together() {
        let count = QUEUES_SHOWN_MAX as u64 + 100;
        let part = |messages: fn(u64, u64) -> u64| Live {
            tallies: (0..count)
                .map(|name| Tally {
                    name,
                    messages: messages(name, count),
                })
                .collect(),
            queues_total: count,
            ..Live::default()
        };
        // Queue 7 is the last of each core but one, and the first of all.
        let mut sum = part(|name, count| if name == 7 { count } else { 1 + name });
        sum.add(part(
            |name, count| if name == 7 { count } else { count - name },
        ));
        let names = sum.fullest().expect("there are more than are told");
        assert_eq!((names.len(), sum.queues_total), (QUEUES_SHOWN_MAX, count));
        assert!(names.is_sorted() && names.contains(&7));
        sum.add_queues(vec![queue("seven", 4, QueueGate::Held)]);
        sum.add_queues(vec![queue("seven", 5, QueueGate::Held)]);
        sum.cut();
        assert_eq!(sum.queues[0].amount.messages, 9);
        assert_eq!((sum.queues.len(), sum.queues_total), (1, count));
        // Where each core has told all that it has, nothing more is asked.
        let mut few = live(vec![queue("a", 3, QueueGate::Open)]);
        few.tallies = vec![Tally {
            name: 1,
            messages: 3,
        }];
        assert_eq!(few.fullest(), None);
    }

    #[test]
    fn no_more_is_told_than_the_limit() {
        let many = (0..QUEUES_SHOWN_MAX as u64 + 5)
            .map(|n| queue(&n.to_string(), n, QueueGate::Open))
            .collect();
        let mut sum = live(many);
        sum.cut();
        assert_eq!(sum.queues.len(), QUEUES_SHOWN_MAX);
        assert_eq!(sum.queues[0].amount.messages, QUEUES_SHOWN_MAX as u64 + 4);
        assert_eq!(sum.queues_total, QUEUES_SHOWN_MAX as u64 + 5);
    }

    #[test]
    fn what_takes_no_mail_says_why() {
        let ready = Readiness::default();
        let check = |readiness: Readiness, expected: Option<&str>| {
            let trouble = readiness.trouble();
            let matches = match (trouble, expected) {
                (Some(trouble), Some(word)) => trouble.contains(word),
                (trouble, expected) => trouble == expected,
            };
            assert!(matches, "{trouble:?}, not {expected:?}");
        };
        check(ready, None);
        let closed = Readiness {
            log_open: false,
            ..ready
        };
        check(closed, Some("closed to writes"));
        let full = Readiness {
            has_room: false,
            ..ready
        };
        check(full, Some("no room"));
        let stopping = Readiness {
            stopping: true,
            ..closed
        };
        check(stopping, Some("stopping"));
    }
}
