//! What the operator is told: one enum of facts, one place that words them.
//!
//! A [`Fact`] has a name that never changes (for filters and alarms), a level,
//! and a sentence: what was being done, with what, what went wrong, what happens
//! next. Text that came from a peer is escaped here, so that no log line can be
//! forged and no terminal be steered by a mail client.
//!
//! Passwords and bodies are not in any fact.

mod name;
mod sentence;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use spool_format::{LogId, SegmentId};

use self::collecting::Collected;
use crate::mail::{ForwardPath, QueueId, ReversePath};
use crate::user::UserName;

pub mod collecting;
mod detail;
mod ending;
mod link;

pub use detail::Detail;
pub use ending::{Ending, TurnedAway};
pub use link::{LinkFact, NextDial};
mod escaped;
mod release;

pub use escaped::{ESCAPED_CHARS_MAX, Escaped};
pub use release::{Release, ReleaseEnded, ReleasesRefused};

/// How loud a fact is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// For whom looks closely.
    Detail,
    /// The ordinary course.
    Info,
    /// Something is not as it should be, and the program copes.
    Warning,
    /// Somebody must do something.
    Error,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// The server is ready.
    Started {
        /// Where it listens.
        listeners: Vec<SocketAddr>,
        /// On how many data cores.
        data_cores: usize,
        /// Where the spool is.
        spool: String,
        /// What it may do on this machine.
        rights: String,
    },
    /// A log was read at the start.
    Recovered {
        /// Which.
        log: LogId,
        /// Messages that are still to be delivered.
        messages: usize,
        /// Segments that were there.
        segments: usize,
        /// How long it took.
        took: Duration,
    },
    /// Something in the spool could not be read.
    SpoolDamaged {
        /// Which log.
        log: LogId,
        /// Where, and what it means.
        what: String,
    },
    /// The log refuses new mail until a restart.
    LogClosed {
        /// Which.
        log: LogId,
        /// Why, in the system's words.
        why: String,
    },
    /// No new segment could be prepared.
    SegmentFailed {
        /// Which log.
        log: LogId,
        /// Which segment.
        segment: SegmentId,
        /// Why, in the system's words.
        why: String,
    },
    /// New mail is refused for want of room, or is taken again.
    Room {
        /// Which log.
        log: LogId,
        /// The sentence, if there is no room.
        full: Option<String>,
    },
    /// A client was turned away.
    TurnedAway {
        /// Who.
        peer: SocketAddr,
        /// Why.
        why: TurnedAway,
    },
    /// A customer called by ATRN and gets its mail.
    Turned {
        /// The customer's name.
        customer: String,
        /// From where.
        peer: SocketAddr,
        /// How many data cores hold some.
        cores: usize,
    },
    /// A connection over which a customer got its mail is over.
    TurnOver {
        /// The customer's name.
        customer: String,
        /// From where.
        peer: SocketAddr,
        /// Messages that it took.
        messages: u64,
        /// What went wrong, if something did.
        trouble: Option<String>,
    },
    /// Mail that a collector has set in motion is no longer waited for.
    Awaited {
        /// The collector's name.
        collector: String,
        /// Why not.
        awaited: collecting::Awaited,
    },
    /// A collector is due, and runs later: its server wants a pause between two logins.
    PutOff {
        /// Its name.
        collector: String,
        /// Until then.
        runs_in: Duration,
    },
    /// Copies that were kept long enough are removed.
    Pruned(collecting::Pruned),
    /// A session ended otherwise than by QUIT.
    SessionEnded {
        /// Whose.
        peer: SocketAddr,
        /// How, for the operator.
        why: String,
    },
    /// A recipient or a sender was refused.
    Refused {
        /// Whose.
        peer: SocketAddr,
        /// The reply it got.
        reply: String,
        /// What it had asked.
        what: String,
    },
    /// A client has authenticated.
    LoggedIn {
        /// From where.
        peer: SocketAddr,
        /// As whom.
        user: UserName,
        /// By which mechanism.
        mechanism: &'static str,
    },
    /// A client was wrong about who it is.
    LoginFailed {
        /// From where.
        peer: SocketAddr,
        /// The name that it gave, if it was one.
        user: Option<UserName>,
        /// By which mechanism.
        mechanism: &'static str,
    },
    /// A client has failed so often that it may not try for a while.
    LoginsBanned {
        /// Its address, or the first of its network.
        client: IpAddr,
        /// For how long.
        duration: Duration,
    },
    /// A message is ours.
    Accepted {
        /// Its name.
        queue_id: QueueId,
        /// From whom.
        reverse_path: ReversePath,
        /// For how many.
        recipients: usize,
        /// Its size.
        octets: u64,
        /// Who brought it; nobody for a notification of our own.
        client: Option<IpAddr>,
    },
    /// A mailbox was collected, or not to its end.
    Collected(Collected),
    /// One recipient of a message was dealt with.
    Recipient {
        /// Of which message.
        queue_id: QueueId,
        /// Whom.
        forward_path: ForwardPath,
        /// How it ended.
        ending: Ending,
        /// Where it went, or should have gone.
        host: String,
        /// What that said, or what went wrong.
        reply: String,
        /// Since it arrived.
        age: Duration,
    },
    /// A message has nobody left to go to.
    Finished {
        /// Which.
        queue_id: QueueId,
    },
    /// The sender is told.
    Notified {
        /// About which message.
        queue_id: QueueId,
        /// By which message.
        notification: QueueId,
    },
    /// No connection to a next hop.
    Unreachable {
        /// Which.
        next_hop: String,
        /// What was tried and what went wrong.
        why: String,
        /// Until the next attempt.
        next_attempt_in: Duration,
    },
    /// A next hop can be reached again.
    Reachable {
        /// Which.
        next_hop: String,
    },
    /// A host to which mail is to go does not know us, or is not the one that it says.
    LoginRefused {
        /// Which.
        host: String,
        /// What it said.
        why: String,
    },
    /// A delivery session ended before its time.
    DeliveryBroken {
        /// With whom and how, for the operator.
        why: String,
    },
    /// Somebody asked for held mail to be released.
    Release(Release),
    /// Releases that were refused, and are not told one by one.
    ReleasesRefused(ReleasesRefused),
    /// Nothing of a customer is released any more.
    ReleaseEnded(ReleaseEnded),
    /// The handshake with a host failed, and its mail goes in clear, as is allowed.
    TlsGivenUp {
        /// With whom and how, for the operator.
        why: String,
    },
    /// A certificate of ours is soon of no use, or is already.
    CertificateEnds {
        /// Which, since when or until when.
        what: String,
    },
    /// For who looks closely.
    Detail(Detail),
    /// An operator's command changed the queue.
    Steered {
        /// Which message.
        queue_id: QueueId,
        /// `held`, `released`, `deleted`, `sent to …`.
        what: Cow<'static, str>,
    },
    /// A new configuration is in force.
    Configured {
        /// What it did not take over before a restart.
        needs_restart: Vec<String>,
    },
    /// A new configuration has errors; the old one stays in force.
    ConfigurationRefused {
        /// All of them.
        errors: String,
    },
    /// The server is finishing.
    Stopping {
        /// For so long at most.
        patience: Duration,
    },
    /// The server has finished.
    Stopped {
        /// Nothing was cut off.
        clean: bool,
    },
    /// The list of a customer's recipients is in force as it stands in its file now.
    RecipientsLoaded {
        /// Whose.
        customer: String,
        /// How many entries it has.
        entries: usize,
    },
    /// The operator holds or releases all mail for a next hop.
    QueueSteered {
        /// Which.
        next_hop: String,
        /// What is done with it.
        what: &'static str,
        /// What waits there, on this core.
        messages: u64,
    },
    /// The web page is served.
    WebPage {
        /// Where.
        address: SocketAddr,
        /// Where its token is.
        token_file: String,
    },
    /// Something happened to a link.
    Link {
        /// Which.
        link: String,
        /// What.
        fact: LinkFact,
    },
    /// Anything of the surroundings: accept errors, the admin socket.
    Trouble {
        /// What was being done, what went wrong, what happens next.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_leave_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(Escaped(text).to_string(), expected);
        check("plain, ünïcode", "plain, ünïcode");
        check("a\r\nfake line", "a\\u{d}\\u{a}fake line");
        check("\x1b[2J", "\\u{1b}[2J");
        check("\u{202e}abc", "\\u{202e}abc");
        let long = "x".repeat(ESCAPED_CHARS_MAX + 1);
        assert_eq!(Escaped(&long).to_string(), format!("{}...", &long[1..]));
    }

    #[test]
    fn a_fact_reads_as_a_sentence() {
        let fact = Fact::Recipient {
            queue_id: QueueId::new(0, 1),
            forward_path: "a@b.example".parse().expect("an address"),
            ending: Ending::Deferred,
            host: "mx.b.example [192.0.2.1]:25".to_owned(),
            reply: "451 4.3.0 later\r\n".to_owned(),
            age: Duration::from_millis(1500),
        };
        assert_eq!(fact.name(), "deferred");
        assert_eq!(
            fact.to_string(),
            "<a@b.example> deferred at mx.b.example [192.0.2.1]:25 after 1.500 s: \
             451 4.3.0 later\\u{d}\\u{a}"
        );
    }
}
