//! The admin protocol: what `turnspool queue` and its like ask the running server.
//!
//! Over the Unix socket of the configuration, one JSON object a line in each
//! direction: a [`Request`], then its [`Response`], in order, any number of times.
//! Who may open the socket may do everything; there is no further check.
//!
//! - Lines are limited in both directions, and a queue comes in pages: the server
//!   never holds more than one page for a client, however long the queue is.
//! - A page names the id behind which the next one begins. Ids do not move, so a
//!   message that stays is listed once, whatever happens meanwhile. What arrives
//!   meanwhile may or may not be listed.
//! - Reading changes nothing.
//! - [`VERSION`] grows when a client of the old version would be misled. A field
//!   that is new and optional does not change it.
//!
//! What this module does not do: no I/O. The socket is the shell's, the wording for
//! people is `cli`'s.

mod collecting;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod changed;
mod found;
mod link;
mod live;
mod located;
mod log;
mod text;

pub use self::changed::{Changed, Waits};
pub use self::collecting::{Collect, CollectOutcome, Collected};
pub use found::{Found, Tallies, WANTED_BYTES_MAX, Wanted};
pub use link::{BudgetStatus, LinkCommand, LinkHistory, LinkPlan, LinkStatus, Links};
pub use live::{
    Amount, CUSTOMERS_SHOWN_MAX, CustomerAmount, EVENTS_SHOWN_MAX, Event, Live, OUTINGS_SHOWN_MAX,
    QUEUES_SHOWN_MAX, Queue, QueueClass, QueueGate, Readiness, Sessions, Tally, chosen,
};
pub use located::{LOCATED_RECIPIENTS_MAX, Located, LocatedMessage};
pub use log::{
    LogDetail, LogDetailChange, LogTranscript, TRANSCRIPT_SECONDS_MAX, TRANSCRIPT_SESSIONS_MAX,
};
pub use text::{Date, SenderIs, Text};

use crate::mail::{Address, Domain, QueueId};
use crate::route::CustomerName;
use crate::route::detour::Detour;

/// The version of the protocol, in every request.
pub const VERSION: u32 = 1;

/// Longest request with its line end: [`IDS_MAX`] ids and a filter.
pub const REQUEST_BYTES_MAX: usize = 32 << 10;

/// Most ids in one request.
pub const IDS_MAX: usize = 1000;

/// Most entries of a page. A server may send fewer.
pub const PAGE_ENTRIES_MAX: u32 = 1000;

/// Most recipients shown of one message.
pub const RECIPIENTS_SHOWN_MAX: usize = 1000;

/// Most dead hosts shown by one core.
pub const DEAD_HOSTS_SHOWN_MAX: usize = 1000;

/// Longest free text in a response, in octets: a reply of a next hop, a reason.
/// The server shortens what is longer; see [`shortened`].
pub const TEXT_BYTES_MAX: usize = 512;

/// Longest response with its line end.
pub const RESPONSE_BYTES_MAX: usize = 8 << 20;

// An id is 13 letters in quotation marks and a comma.
const _: () = assert!(IDS_MAX * 16 + 4096 <= REQUEST_BYTES_MAX);
// An entry has four texts (a path is within TEXT_BYTES_MAX, and JSON at worst
// writes six octets for one) and some numbers; a recipient no more.
const _: () = {
    let entry_bytes_max = 2 * TEXT_BYTES_MAX * 2 + 2 * 6 * TEXT_BYTES_MAX / 2 + 512;
    assert!(PAGE_ENTRIES_MAX as usize * entry_bytes_max <= RESPONSE_BYTES_MAX);
    assert!(RECIPIENTS_SHOWN_MAX * entry_bytes_max <= RESPONSE_BYTES_MAX);
};

/// One line from the client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// A page of the queue. Answered by [`Response::Page`].
    QueueList(Matching),
    /// Everything about one message. Answered by [`Response::Message`].
    QueueShow {
        /// Which.
        id: Text<QueueId>,
    },
    /// Changes messages. Answered by [`Response::Changed`].
    QueueChange {
        /// To what.
        change: Change,
        /// Which.
        #[serde(flatten)]
        selection: Selection,
    },
    /// Sends messages another way than the routes. Answered by [`Response::Changed`].
    QueueRequeue {
        /// Where to; by the routes again, if nothing is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Text<Detour>>,
        /// Which.
        #[serde(flatten)]
        selection: Selection,
    },
    /// Where messages lie in the spool. Answered by [`Response::Located`].
    QueueLocate {
        /// Which, at most [`IDS_MAX`].
        ids: Vec<Text<QueueId>>,
    },
    /// Releases the held queue of a domain. Answered by [`Response::Released`].
    ReleaseDomain {
        /// The domain.
        domain: Text<Domain>,
    },
    /// Collects mailboxes now. Answered by [`Response::Collected`] when that is done.
    Collect(Collect),
    /// Releases what is held for a customer, by its name, or for a domain. Answered by
    /// [`Response::Released`].
    Release {
        /// The customer's name; if there is none, a domain.
        name: String,
    },
    /// Holds or releases all mail for a next hop. Answered by [`Response::Released`].
    QueueSteer {
        /// Its name, as in [`Queue::next_hop`].
        next_hop: String,
        /// Which of the two.
        change: Change,
    },
    /// Counters and states. Answered by [`Response::Status`].
    Status,
    /// The queues that somebody looks for. Answered by [`Response::Found`].
    Find(Wanted),
    /// Between the cores only: the queues that [`Tally::name`] names, in ascending order.
    /// Answered by [`Response::Queues`].
    #[serde(skip)]
    Queues(Vec<u64>),
    /// Hosts that are held for dead. Answered by [`Response::DeadHosts`].
    DeadHosts,
    /// Reads and changes the detail of the log. Answered by [`Response::LogDetail`].
    LogDetail(LogDetailChange),
    /// Records what is said with a peer. Answered by [`Response::Done`].
    LogTranscript(LogTranscript),
    /// Looks at the links and steers them.
    Link(LinkCommand),
    /// Graceful stop, as by SIGTERM. Answered by [`Response::Done`] at once.
    Stop,
    /// Reads the configuration anew, as by SIGHUP. Answered by [`Response::Done`]
    /// after the new one is in force, or by [`Response::Refused`] with all that is
    /// wrong with it, and the old one stays.
    Reload,
}

/// What happens to the messages of a selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Not delivered until released. Expiry goes on.
    Hold,
    /// Tried at once, held or not; what is held for a customer goes to its host before the
    /// rest of its queue.
    Release,
    /// Removed, and nobody is told.
    Delete,
}

/// Which messages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "select", rename_all = "kebab-case")]
pub enum Selection {
    /// These, at most [`IDS_MAX`].
    Ids {
        /// Each once.
        ids: Vec<Text<QueueId>>,
    },
    /// A page of those that match when it is looked for; each is changed once. The
    /// client asks on while there is a next one.
    Matching(Matching),
}

/// A page of the messages that match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Matching {
    /// Which.
    #[serde(default)]
    pub filter: Filter,
    /// Only those with a greater id. `None`: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Text<QueueId>>,
    /// How many, at most [`PAGE_ENTRIES_MAX`].
    pub limit: u32,
}

/// All of what is given must hold. Nothing given: every message.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// A recipient that is not done yet is of this domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Text<Domain>>,
    /// Held for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<Text<CustomerName>>,
    /// The reverse-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Text<SenderIs>>,
    /// A recipient that is not done yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Text<Address>>,
    /// Arrived at least so many seconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_seconds: Option<u64>,
    /// Larger than so many octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larger_octets: Option<u64>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What a message is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for its turn.
    Ready,
    /// On its way.
    Active,
    /// Waits for its next try.
    Deferred,
    /// Waits for a release.
    Held,
}

impl State {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Held => "held",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Ready, Self::Active, Self::Deferred, Self::Held]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| "a state is ready, active, deferred or held".to_owned())
    }
}

/// One line from the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Command::QueueList`].
    Page(Page),
    /// To [`Command::QueueShow`].
    Message(Box<Message>),
    /// To [`Command::QueueChange`] and [`Command::QueueRequeue`].
    Changed(Changed),
    /// To [`Command::QueueLocate`].
    Located(Located),
    /// To [`Command::ReleaseDomain`].
    Released(Released),
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Collect`]: each mailbox.
    Collected(Collected),
    /// To [`Command::Find`].
    Found(Found),
    /// Between the cores only: one core's part of that.
    #[serde(skip)]
    Tallies(Tallies),
    /// To [`Command::Queues`].
    #[serde(skip)]
    Queues(Vec<Queue>),
    /// To [`Command::DeadHosts`].
    DeadHosts(DeadHosts),
    /// To [`Command::LogDetail`]: what holds now.
    LogDetail(LogDetail),
    /// To [`LinkCommand::Status`].
    Links(Links),
    /// To [`LinkCommand::Plan`].
    LinkPlan {
        /// In the order in which the links are tried.
        plans: Vec<LinkPlan>,
    },
    /// To [`LinkCommand::History`].
    LinkHistory {
        /// In the order of the configuration.
        histories: Vec<LinkHistory>,
    },
    /// It is done, and there is nothing to tell.
    Done,
    /// It is not done.
    Refused(Refused),
}

/// A page of the queue, in the order of ids.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// At most as many as were asked for. May be empty though there is a next page.
    pub entries: Vec<Entry>,
    /// Ask on with this as `after`. `None`: that was all.
    pub next: Option<Text<QueueId>>,
}

/// A message in a page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: Text<QueueId>,
    /// What it is doing.
    pub state: State,
    /// When it was accepted.
    pub arrival: Date,
    /// Octets.
    pub octets: u64,
    /// The reverse-path, empty for null.
    pub sender: String,
    /// Recipients that are not done yet.
    pub recipients: u32,
    /// Where it goes next, for people; of several the first.
    pub next_hop: String,
    /// Tries so far.
    pub attempts: u32,
    /// When it is tried next, if that is by time.
    pub next_attempt: Option<Date>,
}

/// Everything about a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// As in a page.
    #[serde(flatten)]
    pub entry: Entry,
    /// When the sender is told that it failed.
    pub expires: Option<Date>,
    /// MT-PRIORITY (RFC 6710).
    pub priority: i8,
    /// DELIVERBY (RFC 2852).
    pub deliver_by: Option<Date>,
    /// ENVID (RFC 3461) as it came.
    pub envid: Option<String>,
    /// Where it is in the spool.
    pub location: String,
    /// The first [`RECIPIENTS_SHOWN_MAX`], those that are done among them.
    pub shown: Vec<RecipientState>,
    /// How many recipients there are in all.
    pub recipients_total: u32,
}

/// A recipient of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecipientState {
    /// The forward-path, without brackets.
    pub recipient: String,
    /// "waiting", "delivered", "failed": for people.
    pub state: String,
    /// Where it goes next.
    pub next_hop: String,
    /// What the next hop said last, at most [`TEXT_BYTES_MAX`].
    pub last: Option<String>,
}

/// What a release let go.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Released {
    /// Messages.
    pub messages: u64,
    /// Octets.
    pub octets: u64,
    /// The queue, where the name was that of no customer and none of its domains: that to
    /// which the routes lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// Counters and states of the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub program_version: String,
    /// When it started.
    pub started: Date,
    /// Numbers by their stable names.
    pub counters: BTreeMap<String, u64>,
    /// States by their stable names: `spool.log` → `open`.
    pub states: BTreeMap<String, String>,
    /// What it is doing now. Not there from a server of an older version.
    #[serde(default)]
    pub live: Live,
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// For the exit code.
    pub reason: Reason,
    /// A sentence for the operator.
    pub text: String,
}

/// By what the client can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The request is not of this protocol or version: nothing.
    Request,
    /// There is no such message, domain or queue.
    NotFound,
    /// The configuration is wrong: correct it.
    Configuration,
    /// It could not be done.
    Failed,
    /// Not now: try again.
    Later,
}

impl Request {
    /// A request of this version.
    #[must_use]
    pub const fn new(command: Command) -> Self {
        Self {
            version: VERSION,
            command,
        }
    }

    /// From a line, with or without its end.
    ///
    /// # Errors
    /// What to answer.
    pub fn from_line(line: &[u8]) -> Result<Self, Refused> {
        let refused = |text: String| Refused {
            reason: Reason::Request,
            text,
        };
        if line.len() > REQUEST_BYTES_MAX {
            let what = format!("the request is longer than {REQUEST_BYTES_MAX} octets");
            return Err(refused(what));
        }
        // Before anything else: a request of another version need not make sense.
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        let OnlyVersion { version } = serde_json::from_slice(line)
            .map_err(|error| refused(format!("this is no request: {error}")))?;
        if version != VERSION {
            return Err(refused(format!(
                "the client speaks version {version} of the admin protocol, the server version \
                 {VERSION}: use the command of the version that runs"
            )));
        }
        let request: Self = serde_json::from_slice(line)
            .map_err(|error| refused(format!("the request is wrong: {error}")))?;
        request.command.limits().map_err(refused)?;
        Ok(request)
    }

    /// As a line with its end.
    ///
    /// # Panics
    /// If it has more than [`IDS_MAX`] ids: the client splits them.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        assert_eq!(self.command.limits(), Ok(()), "a request above its limits");
        line(self)
    }
}

impl Command {
    fn limits(&self) -> Result<(), String> {
        let page = match self {
            Self::QueueList(page) => page,
            Self::LogTranscript(transcript) => return transcript.limits(),
            Self::Find(wanted) => return wanted.limits(),
            Self::QueueLocate { ids } if ids.len() > IDS_MAX => {
                return Err(format!("more than {IDS_MAX} ids in one request"));
            }
            Self::QueueChange { selection, .. } | Self::QueueRequeue { selection, .. } => {
                match selection {
                    Selection::Ids { ids } if ids.len() > IDS_MAX => {
                        return Err(format!("more than {IDS_MAX} ids in one request"));
                    }
                    Selection::Ids { .. } => return Ok(()),
                    Selection::Matching(page) => page,
                }
            }
            _ => return Ok(()),
        };
        if (1..=PAGE_ENTRIES_MAX).contains(&page.limit) {
            Ok(())
        } else {
            Err(format!("a page has 1 to {PAGE_ENTRIES_MAX} entries"))
        }
    }
}

impl Response {
    /// A refusal.
    #[must_use]
    pub fn refused(reason: Reason, text: impl Into<String>) -> Self {
        Self::Refused(Refused {
            reason,
            text: text.into(),
        })
    }

    /// From a line, with or without its end.
    ///
    /// # Errors
    /// Why it is no response.
    pub fn from_line(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// As a line with its end.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }
}

/// JSON escapes control characters, so the only line end is the last octet.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("these types have no map with other keys");
    debug_assert!(!line.contains(&b'\n'));
    line.push(b'\n');
    line
}

/// A text within [`TEXT_BYTES_MAX`].
#[must_use]
pub fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Hosts that are held for dead.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeadHosts {
    /// In the order of their addresses, at most [`DEAD_HOSTS_SHOWN_MAX`]; each once,
    /// whichever core knows most of it.
    pub hosts: Vec<DeadHost>,
}

/// A host that is held for dead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeadHost {
    /// Its address and port, or the path of its socket.
    pub address: String,
    /// Failures in a row.
    pub failures: u16,
    /// When it is tried again.
    pub next_attempt: Date,
    /// The last failure.
    pub why: String,
}

#[cfg(test)]
mod tests;
