//! What of an SMTP session is shown to the operator who looks closely.
//!
//! Rules:
//! - Only commands and replies. Message text never comes here; what looks like a command
//!   line and is none (a client may send its text although DATA was refused) is counted,
//!   not shown.
//! - Nothing of an AUTH exchange but the name of its mechanism and the last reply: after a
//!   `334` the next line of the other side is hidden, and the challenge is too.

use super::answer::Answer;
use crate::wire::transcript::{Spoken, Transcript, lines, shown};

/// In the place of a line of an exchange.
const HIDDEN: &str = "(AUTH: hidden)";

/// Commands that are shown as they are.
const SHOWN: &[&str] = &[
    "EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN",
    "HELP", "ETRN", "ATRN", "STARTTLS", "TURN",
];

/// The lines of a session that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Record {
    transcript: Transcript,
    /// A challenge was sent: what comes next is nobody's business.
    challenged: bool,
}

impl Record {
    /// Command lines, whole ones, each with or without its end.
    pub(super) fn commands(&mut self, by_us: bool, octets: &[u8]) {
        for line in lines(octets) {
            let shown = if std::mem::take(&mut self.challenged) {
                HIDDEN.to_owned()
            } else {
                command(line)
            };
            self.transcript.push(by_us, shown);
        }
    }

    /// Reply lines, whole ones, each with or without its end.
    pub(super) fn replies(&mut self, by_us: bool, octets: &[u8]) {
        for line in lines(octets) {
            let line = if line.starts_with(b"334") {
                self.challenged = true;
                "334 (AUTH: hidden)".to_owned()
            } else {
                shown(line)
            };
            self.transcript.push(by_us, line);
        }
    }

    /// A line of an AUTH exchange.
    pub(super) fn secret(&mut self, by_us: bool) {
        self.challenged = false;
        self.transcript.push(by_us, HIDDEN.to_owned());
    }

    /// A whole reply of the other side.
    pub(super) fn answer(&mut self, answer: &Answer<'_>) {
        let count = answer.lines().count();
        for (number, line) in (1..).zip(answer.lines()) {
            let mut octets = answer.code.value().to_string().into_bytes();
            octets.push(if number == count { b' ' } else { b'-' });
            octets.extend_from_slice(line);
            self.replies(false, &octets);
        }
    }

    /// What was said since the last time.
    pub(super) fn take(&mut self) -> Vec<Spoken> {
        self.transcript.take()
    }
}

/// A command line as it is shown.
fn command(line: &[u8]) -> String {
    let word = line.split(|octet| octet.is_ascii_whitespace()).next();
    let word = word.unwrap_or_default();
    if word.eq_ignore_ascii_case(b"AUTH") {
        let mechanism = line
            .split(|octet| *octet == b' ')
            .nth(1)
            .unwrap_or_default();
        // A password in the place of the mechanism is a mistake that people make.
        let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        let known = mechanism.len() <= 20 && mechanism.iter().all(is_name);
        let mechanism = if known && is_mechanism(mechanism) {
            shown(mechanism)
        } else {
            "?".to_owned()
        };
        return format!("AUTH {mechanism} (hidden)");
    }
    if SHOWN
        .iter()
        .any(|shown| word.eq_ignore_ascii_case(shown.as_bytes()))
        || line == b"."
    {
        return shown(line);
    }
    format!("({} octets that are no command)", line.len())
}

fn is_mechanism(word: &[u8]) -> bool {
    const KNOWN: &[&str] = &[
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "EXTERNAL",
        "XOAUTH2",
        "OAUTHBEARER",
        "NTLM",
        "GSSAPI",
    ];
    KNOWN
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(record: &mut Record) -> Vec<String> {
        let lines = record.take().into_iter();
        lines
            .map(|said| format!("{}{}", if said.by_us { "> " } else { "< " }, said.line))
            .collect()
    }

    #[test]
    fn commands_and_replies_are_shown() {
        let mut record = Record::default();
        record.replies(true, b"220 a ESMTP\r\n");
        record.commands(false, b"ehlo b");
        record.replies(true, b"250-a\r\n250 SIZE\r\n");
        record.commands(false, b"MAIL FROM:<a@b.example>\r\n");
        let expected = [
            "> 220 a ESMTP",
            "< ehlo b",
            "> 250-a",
            "> 250 SIZE",
            "< MAIL FROM:<a@b.example>",
        ];
        assert_eq!(told(&mut record), expected);
        assert_eq!(told(&mut record), [""; 0]);
    }

    #[test]
    fn nothing_of_an_exchange_is_shown() {
        let mut record = Record::default();
        record.commands(false, b"AUTH PLAIN AHNlY3JldA==");
        record.commands(false, b"auth hunter2");
        record.commands(false, b"AUTH LOGIN");
        record.replies(true, b"334 VXNlcm5hbWU6\r\n");
        record.commands(false, b"c2VjcmV0");
        record.replies(true, b"334 UGFzc3dvcmQ6\r\n");
        // A password may look like a command.
        record.commands(false, b"QUIT hunter2");
        record.replies(true, b"235 2.7.0 welcome\r\n");
        record.commands(false, b"QUIT");
        let expected = [
            "< AUTH PLAIN (hidden)",
            "< AUTH ? (hidden)",
            "< AUTH LOGIN (hidden)",
            "> 334 (AUTH: hidden)",
            "< (AUTH: hidden)",
            "> 334 (AUTH: hidden)",
            "< (AUTH: hidden)",
            "> 235 2.7.0 welcome",
            "< QUIT",
        ];
        assert_eq!(told(&mut record), expected);
    }

    #[test]
    fn text_in_the_place_of_commands_is_counted() {
        let mut record = Record::default();
        record.commands(false, b"Subject: my diary");
        record.commands(false, b"");
        record.commands(true, b".\r\n");
        let expected = [
            "< (17 octets that are no command)",
            "< (0 octets that are no command)",
            "> .",
        ];
        assert_eq!(told(&mut record), expected);
    }
}
