//! The message in place of one that is too large: it says what waits, where, and what
//! can be done, with the header section of the large one behind it.
//!
//! It is a multipart/mixed of a text and a text/rfc822-headers (RFC 6522 §4), from the
//! null reverse-path, so that nobody is ever told of its failure.

use crate::mail::{Address, Domain, QueueId};
use crate::time::WallTime;

/// What the notice says.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The mailbox, `user@host`.
    pub account: &'a str,
    /// The name of the collector, for the command.
    pub collector: &'a str,
    /// Us.
    pub hostname: &'a Domain,
    /// To whom it goes.
    pub recipients: &'a [Address],
    /// Octets of the message that waits.
    pub octets: u64,
    /// The limit that it exceeds.
    pub size_max: u64,
    /// What the notice is here.
    pub queue_id: QueueId,
    /// Now.
    pub time: WallTime,
}

/// Octets of the header section that are returned.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// The notice in wire form. `header` is the header section as TOP gave it, with dots
/// doubled and CRLFs, and may be nothing.
#[must_use]
pub fn message(facts: &Facts<'_>, header: &[u8]) -> Vec<u8> {
    let Facts {
        account,
        collector,
        hostname,
        recipients,
        octets,
        size_max,
        queue_id,
        time,
    } = facts;
    let date = time.rfc5322();
    let boundary = format!("=_{queue_id}_{}", time.as_millis());
    let to = match recipients {
        [only] if only.is_ascii() => format!("<{only}>"),
        _ => "undisclosed-recipients:;".to_owned(),
    };
    let header = &header[..header.len().min(HEADER_BYTES_MAX)];
    // Only whole lines, so that a cut line does not run into the boundary.
    let whole = memchr::memrchr(b'\n', header).map_or(0, |end| end + 1);
    let header = header[..whole].trim_ascii_end();
    let eight_bit = !header.is_ascii();
    let encoding = if eight_bit { "8bit" } else { "7bit" };
    let mut out = format!(
        "From: Mail Delivery System <postmaster@{hostname}>\r\n\
         To: {to}\r\n\
         Subject: A large message waits for you\r\n\
         Date: {date}\r\n\
         Message-ID: <{queue_id}.{millis}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         A message of {octets} octets is in the mailbox {account}.\r\n\
         It is larger than the limit of {size_max} octets, and so it was not collected.\r\n\
         It stays there. Whoever runs this host can collect it:\r\n\
         \r\n\
         \x20   turnspool collect --large {collector}\r\n\
         \r\n\
         Its header section follows.\r\n\
         --{boundary}\r\n\
         Content-Type: text/rfc822-headers\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\
         \r\n",
        millis = time.as_millis(),
    )
    .into_bytes();
    out.extend_from_slice(header);
    if !header.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice() {
        let hostname = "gw.branch.example".parse().expect("a domain");
        let recipients = ["anna@branch.example".parse().expect("an address")];
        let facts = Facts {
            account: "branch@pop.isp.example",
            collector: "isp",
            hostname: &hostname,
            recipients: &recipients,
            octets: 9_000_000,
            size_max: 5_242_880,
            queue_id: QueueId::new(3, 7),
            time: WallTime::from_millis(1_795_351_597_250),
        };
        let header = b"Subject: pictures\r\nTo: anna@branch.example\r\n\r\n";
        let text = String::from_utf8(message(&facts, header)).expect("ASCII");
        assert!(text.contains("\r\n\r\nSubject: pictures\r\nTo: anna@branch.example\r\n--=_"));
        assert!(text.contains("A message of 9000000 octets is in the mailbox branch@pop."));
        assert!(text.ends_with("--\r\n"));
        // Nothing ends it early, and no line ends in anything but CRLF.
        for line in text.split_inclusive("\r\n") {
            assert!(line.ends_with("\r\n") && !line.starts_with('.'), "{line:?}");
            assert!(
                !line.trim_end_matches("\r\n").contains(['\r', '\n']),
                "{line:?}"
            );
        }
        // A header section that was cut in a line, and one with octets above 127.
        let cut = String::from_utf8(message(&facts, b"A: b\r\nC: d")).expect("ASCII");
        assert!(cut.contains("\r\n\r\nA: b\r\n--=_"));
        let eight = message(&facts, b"A: \xfc\r\n\r\n");
        assert!(memchr::memmem::find(&eight, b"Transfer-Encoding: 8bit").is_some());
    }
}
