//! How a session goes.

use std::time::Duration;

/// SASL mechanisms that a session speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// RFC 4616. Sends the password.
    Plain,
    /// RFC 2195.
    CramMd5,
    /// RFC 7677.
    ScramSha256,
}

impl Mechanism {
    /// By its name, in any case of letters.
    pub(super) fn by_name(name: &[u8]) -> Option<Self> {
        let known = [
            (Self::Plain, "PLAIN"),
            (Self::CramMd5, "CRAM-MD5"),
            (Self::ScramSha256, "SCRAM-SHA-256"),
        ];
        known
            .into_iter()
            .find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map(|(mechanism, _)| mechanism)
    }
}

/// How the connection is made safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// Not at all.
    None,
    /// By STLS (RFC 2595 §4), before anything is said of who we are. A server that does
    /// not offer it is left.
    Stls,
    /// From the first octet (POP3S): the session sees a connection that is safe.
    Implicit,
}

/// Limits and patience of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How the connection is made safe.
    pub tls: Tls,
    /// How long the server may take to greet.
    pub greeting_timeout: Duration,
    /// How long it may take for the answer to PASS and to listings. Servers read through
    /// a whole mailbox then.
    pub opening_timeout: Duration,
    /// How long it may take for any other answer, and between two parts of a message.
    pub response_timeout: Duration,
    /// Commands ahead of their answers, where the server has PIPELINING.
    pub commands_ahead_max: usize,
    /// Of these, those that bring a message: what a cut line has paid for in vain.
    pub texts_ahead_max: usize,
    /// Octets of a message. A larger one is left to whoever drives the session; one that
    /// is longer than the server said and than this ends the session.
    pub message_bytes_max: u64,
}

impl Settings {
    /// The usual ones.
    #[must_use]
    pub const fn new(tls: Tls, message_bytes_max: u64) -> Self {
        Self {
            tls,
            greeting_timeout: Duration::from_secs(120),
            opening_timeout: Duration::from_secs(300),
            response_timeout: Duration::from_secs(180),
            commands_ahead_max: 32,
            texts_ahead_max: 8,
            message_bytes_max,
        }
    }
}

/// Longest line of a response, CRLF not counted. RFC 2449 §4 allows 512 octets; texts
/// of servers are longer now and then.
pub const LINE_BYTES_MAX: usize = 2048;
