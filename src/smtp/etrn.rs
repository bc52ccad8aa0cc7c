//! ETRN (RFC 1985): what a client may ask for, and what it is answered. How we ask as a
//! client is in [`client::asking`](super::client::asking).
//!
//! Relies on nothing. The name that comes is parsed here into something that can be
//! compared and nothing else: it never becomes a path, a query or a command.
//!
//! Invariant: what a client may not have and what does not exist are answered alike, so
//! that no list of customers can be asked out of the server.
//!
//! What this module does not do: it does not know who may ask for what.

use crate::mail::Domain;
use crate::smtp::reply::{Refusal, Reply};
use crate::smtp::syntax::SyntaxError;

/// Longest name of a queue: as long as a customer's name may be.
pub const QUEUE_NAME_BYTES_MAX: usize = 64;

const WANT: SyntaxError = SyntaxError::Arguments("want ETRN domain, ETRN @domain or ETRN #queue");

/// What is to be released (RFC 1985 §5.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// `ETRN branch.example`: the mail for this domain.
    Domain(Domain),
    /// `ETRN @branch.example`: for this domain and every name below it.
    Below(Domain),
    /// `ETRN #branch`: a queue, by a name of the server's own, of the characters that a
    /// name of a customer has. In lower case where a client asked.
    Queue(Box<str>),
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, "@{domain}"),
            Self::Queue(name) => write!(f, "#{name}"),
        }
    }
}

/// What waits, as the client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// Messages.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
}

/// The answer to ETRN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// This much is on its way.
    Started(Waiting),
    /// It was on its way already, and this much is left.
    Joined(Waiting),
    /// There is nothing.
    Nothing,
    /// Not now, for a reason of ours.
    Unable,
    /// Asked too often.
    TooOften,
    /// No such name, or not for this client.
    NotAllowed,
    /// Not before AUTH, whether the name exists or not.
    AuthRequired,
}

/// What an operator wants to ask a provider for. The name of a queue stays as it is
/// written: the provider's server knows its own.
///
/// # Errors
/// ETRN has no such argument.
pub fn wanted(text: &str) -> Result<Node, SyntaxError> {
    let node = node(text.as_bytes())?;
    Ok(match (node, text.strip_prefix('#')) {
        (Node::Queue(_), Some(name)) => Node::Queue(name.into()),
        (node, _) => node,
    })
}

/// The argument of ETRN.
///
/// # Errors
/// It is none.
pub(crate) fn node(argument: &[u8]) -> Result<Node, SyntaxError> {
    let text = std::str::from_utf8(argument).map_err(|_| WANT)?;
    if text.contains(' ') {
        return Err(WANT);
    }
    let domain = |text: &str| text.parse::<Domain>().map_err(|_| WANT);
    if let Some(queue) = text.strip_prefix('#') {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if queue.is_empty() || queue.len() > QUEUE_NAME_BYTES_MAX || !queue.bytes().all(allowed) {
            return Err(WANT);
        }
        Ok(Node::Queue(queue.to_ascii_lowercase().into()))
    } else if let Some(top) = text.strip_prefix('@') {
        domain(top).map(Node::Below)
    } else {
        domain(text).map(Node::Domain)
    }
}

/// The reply to a release that is under way or has nothing to do; a refusal otherwise.
pub(crate) fn reply(node: &Node, answer: Answer) -> Result<Reply, Refusal> {
    let counted = |waiting: Waiting| {
        let plural = if waiting.messages == 1 { "" } else { "s" };
        format!(
            "{} pending message{plural}, {} octets, for node {node}",
            waiting.messages, waiting.octets
        )
    };
    match answer {
        Answer::Started(waiting) => {
            let text = format!("OK, {} started", counted(waiting));
            Ok(Reply::new(253, 0, 0, "").with_text(text))
        }
        Answer::Joined(waiting) => {
            let text = format!("OK, queuing under way: {}", counted(waiting));
            Ok(Reply::new(250, 0, 0, "").with_text(text))
        }
        Answer::Nothing => {
            let text = format!("OK, no messages waiting for node {node}");
            Ok(Reply::new(251, 0, 0, "").with_text(text))
        }
        Answer::Unable => Err(Refusal::new(
            458,
            3,
            0,
            "unable to queue messages now, try again later",
        )),
        Answer::TooOften => Err(Refusal::new(
            458,
            7,
            1,
            "asked too often, try again in a minute",
        )),
        Answer::NotAllowed => Err(Refusal::new(459, 7, 1, "node not allowed")),
        Answer::AuthRequired => Err(Refusal::new(530, 7, 0, "authentication required")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |argument: &str, expected: Option<&str>| {
            let parsed = node(argument.as_bytes()).ok().map(|node| node.to_string());
            assert_eq!(parsed.as_deref(), expected, "{argument:?}");
        };
        check("Branch.Example", Some("branch.example"));
        check("@branch.example", Some("@branch.example"));
        check("#Branch_1", Some("#branch_1"));
        for wrong in [
            "",
            "@",
            "#",
            "a b",
            "@a b",
            "#a b",
            "#..\u{0}",
            "#a/b",
            "#a'b",
            "a/../b",
            "@@a",
            "##a",
            "a..b",
            "-",
            "'; drop",
            "é\u{0}",
            "#é",
            "a@b.example",
        ] {
            check(wrong, None);
        }
        check(
            &format!("#{}", "x".repeat(64)),
            Some(&format!("#{}", "x".repeat(64))),
        );
        check(&format!("#{}", "x".repeat(65)), None);
        check(&"a.".repeat(500_000), None);
        assert_eq!(node(b"\xff"), Err(WANT));
    }

    #[test]
    fn replies() {
        let node = Node::Domain("a.example".parse().unwrap());
        let check = |answer: Answer, expected: &str| {
            let mut out = Vec::new();
            match reply(&node, answer) {
                Ok(reply) => reply.write(&mut out),
                Err(refusal) => refusal.reply().write(&mut out),
            }
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"));
        };
        let waiting = |messages| Waiting {
            messages,
            octets: 7,
        };
        check(
            Answer::Started(waiting(1)),
            "253 2.0.0 OK, 1 pending message, 7 octets, for node a.example started",
        );
        check(
            Answer::Joined(waiting(2)),
            "250 2.0.0 OK, queuing under way: 2 pending messages, 7 octets, for node a.example",
        );
        check(
            Answer::Nothing,
            "251 2.0.0 OK, no messages waiting for node a.example",
        );
        check(Answer::NotAllowed, "459 4.7.1 node not allowed");
        check(Answer::AuthRequired, "530 5.7.0 authentication required");
    }
}
