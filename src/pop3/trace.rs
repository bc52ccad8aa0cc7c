//! The Received line that we put before every message that was collected
//! (RFC 5321 §4.4): so that a loop by way of the mailbox has an end, and the user sees
//! which way the message took.

use crate::mail::{Address, Domain, QueueId};
use crate::time::WallTime;

/// What the line says.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The server, as it is configured.
    pub server: &'a str,
    /// Us.
    pub hostname: &'a Domain,
    /// The recipient, if there is only one.
    pub only_recipient: Option<&'a Address>,
    /// What it is here.
    pub queue_id: QueueId,
    /// Now.
    pub time: WallTime,
}

/// The line, with its CRLF.
#[must_use]
pub fn line(facts: &Facts<'_>) -> Vec<u8> {
    let Facts {
        server,
        hostname,
        only_recipient,
        queue_id,
        time,
    } = facts;
    let mut out = format!("Received: from {server}\r\n\tby {hostname} with POP3 id {queue_id}");
    // A local-part may have octets that the line must not (RFC 6531); it is only a trace.
    if let Some(recipient) = only_recipient.filter(|recipient| recipient.is_ascii()) {
        out.push_str("\r\n\tfor <");
        out.push_str(recipient.as_str());
        out.push('>');
    }
    out.push_str(";\r\n\t");
    out.push_str(&time.rfc5322());
    out.push_str("\r\n");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let hostname = "gw.branch.example".parse().expect("a domain");
        let recipient: Address = "anna@branch.example".parse().expect("an address");
        let mut facts = Facts {
            server: "pop.isp.example",
            hostname: &hostname,
            only_recipient: Some(&recipient),
            queue_id: QueueId::new(3, 7),
            time: WallTime::from_millis(1_795_351_597_250),
        };
        let text = |facts: &Facts<'_>| String::from_utf8(line(facts)).expect("ASCII");
        assert_eq!(
            text(&facts),
            "Received: from pop.isp.example\r\n\
             \tby gw.branch.example with POP3 id 0600000000007\r\n\
             \tfor <anna@branch.example>;\r\n\
             \tSun, 22 Nov 2026 12:46:37 +0000\r\n"
        );
        facts.only_recipient = None;
        assert!(!text(&facts).contains("for"));
    }
}
