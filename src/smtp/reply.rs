//! The replies that we give, built in one place from code, enhanced code and text.
//!
//! RFC 5321 §4.2 (codes), RFC 3463 (enhanced codes), RFC 2034 (where they stand).
//! The class of an enhanced code is always the first digit of the code, so it is
//! not said twice. Texts never repeat what a peer said.

use std::borrow::Cow;

use crate::mail::{Domain, QueueId};
use crate::smtp::auth::Mechanisms;
use crate::smtp::flight;
use crate::smtp::settings::{Role, Settings};
use crate::time::WallTime;

/// Longest text of a reply line in octets. RFC 5321 §4.5.3.1.5: 512 with code
/// and CRLF; the enhanced code takes at most 12.
pub const TEXT_BYTES_MAX: usize = 490;

/// One line with code and enhanced code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    code: u16,
    subject: u16,
    detail: u16,
    text: Cow<'static, str>,
}

impl Reply {
    /// `code` 200–599, `subject` and `detail` 0–999 (RFC 3463 §2).
    #[must_use]
    pub const fn new(code: u16, subject: u16, detail: u16, text: &'static str) -> Self {
        assert!(code >= 200 && code <= 599 && subject <= 999 && detail <= 999);
        Self {
            code,
            subject,
            detail,
            text: Cow::Borrowed(text),
        }
    }

    /// The same with a text made at run time.
    #[must_use]
    pub fn with_text(self, text: String) -> Self {
        Self {
            text: Cow::Owned(text),
            ..self
        }
    }

    /// RFC 5321 §4.2.1: what the client looks at.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The text that the client's operator looks at.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends the line. What is not printable ASCII in the text is shown as `?`,
    /// so that no text can end the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        push_decimal(out, u64::from(self.code));
        out.push(b' ');
        push_decimal(out, u64::from(self.code / 100));
        out.push(b'.');
        push_decimal(out, u64::from(self.subject));
        out.push(b'.');
        push_decimal(out, u64::from(self.detail));
        out.push(b' ');
        push_text(out, &self.text);
        out.extend_from_slice(b"\r\n");
    }
}

/// A reply that says no: its code is 400–599.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal(Reply);

impl Refusal {
    /// `code` 400–599, `subject` and `detail` 0–999.
    #[must_use]
    pub const fn new(code: u16, subject: u16, detail: u16, text: &'static str) -> Self {
        assert!(code >= 400, "a refusal is of class 4 or 5");
        Self(Reply::new(code, subject, detail, text))
    }

    /// The same with a text made at run time.
    #[must_use]
    pub fn with_text(self, text: String) -> Self {
        Self(Reply {
            text: Cow::Owned(text),
            ..self.0
        })
    }

    /// True for class 5: the client is not to try again.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.0.code >= 500
    }

    /// The reply.
    #[must_use]
    pub const fn reply(&self) -> &Reply {
        &self.0
    }
}

/// `421` for a connection over the limit of simultaneous sessions: the shell sends
/// it and closes, no session is made.
#[must_use]
pub fn turned_away(hostname: &Domain) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_closing(
        &mut out,
        hostname,
        &Closing::new(7, 0, "too many connections, try again later"),
    );
    out
}

/// Why we end a session: a `421`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closing {
    subject: u16,
    detail: u16,
    text: &'static str,
}

impl Closing {
    pub(crate) const fn new(subject: u16, detail: u16, text: &'static str) -> Self {
        Self {
            subject,
            detail,
            text,
        }
    }
}

/// `421`, with our name as RFC 5321 §4.2.3 wants it.
pub(crate) fn write_closing(out: &mut Vec<u8>, hostname: &Domain, closing: &Closing) {
    let Closing {
        subject,
        detail,
        text,
    } = closing;
    let text = format!("{hostname} {text}");
    Refusal::new(421, *subject, *detail, "")
        .with_text(text)
        .0
        .write(out);
}

/// `220` at the beginning of a session. No enhanced code (RFC 2034 §4).
pub(crate) fn write_greeting(out: &mut Vec<u8>, hostname: &Domain) {
    out.extend_from_slice(b"220 ");
    push_text(out, hostname.as_str());
    out.extend_from_slice(b" ESMTP Turnspool\r\n");
}

/// `250` to HELO.
pub(crate) fn write_hello(out: &mut Vec<u8>, hostname: &Domain) {
    out.extend_from_slice(b"250 ");
    push_text(out, hostname.as_str());
    out.extend_from_slice(b"\r\n");
}

/// `250` to EHLO: what we can do. No enhanced codes (RFC 2034 §4).
pub(crate) fn write_extensions(
    out: &mut Vec<u8>,
    settings: &Settings,
    tls: Tls,
    mechanisms: Mechanisms,
    time: WallTime,
) {
    out.extend_from_slice(b"250-");
    push_text(out, settings.hostname.as_str());
    if settings.role == Role::Odmr {
        return write_odmr_extensions(out, settings, tls, mechanisms);
    }
    out.extend_from_slice(
        b"\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
          250-CHUNKING\r\n250-DSN\r\n250-SIZE ",
    );
    push_decimal(out, settings.message_bytes_max);
    out.extend_from_slice(b"\r\n250-LIMITS RCPTMAX=");
    push_decimal(out, u64::from(settings.recipients_max));
    if let Some(transactions_max) = settings.transactions_max {
        out.extend_from_slice(b" MAILMAX=");
        push_decimal(out, u64::from(transactions_max));
    }
    if settings.offers.flight {
        out.extend_from_slice(b"\r\n250-");
        out.extend_from_slice(flight::KEYWORD.as_bytes());
        out.push(b' ');
        push_decimal(out, flight::OCTETS);
    }
    if settings.offers.start_tls && tls == Tls::Absent {
        out.extend_from_slice(b"\r\n250-STARTTLS");
    }
    if tls == Tls::Active {
        // RFC 8689 §4.1: only where the promise begins to hold.
        out.extend_from_slice(b"\r\n250-REQUIRETLS");
    }
    if settings.offers.etrn {
        out.extend_from_slice(b"\r\n250-ETRN");
    }
    write_mechanisms(out, mechanisms);
    if settings.offers.mt_priority {
        out.extend_from_slice(b"\r\n250-MT-PRIORITY");
    }
    if let Some(least) = settings.offers.deliver_by {
        out.extend_from_slice(b"\r\n250-DELIVERBY");
        if !least.is_zero() {
            out.push(b' ');
            push_decimal(out, least.as_secs());
        }
    }
    if let Some(longest) = settings.offers.future_release {
        // RFC 4865 §4: the longest interval, and the date that it comes to now.
        out.extend_from_slice(b"\r\n250-FUTURERELEASE ");
        push_decimal(out, longest.as_secs());
        out.push(b' ');
        out.extend_from_slice((time + longest).to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n250 HELP\r\n");
}

/// The rest of it, where no mail is taken (RFC 2645 §5.1.1): nothing may be pipelined, and
/// what concerns mail is said again by the customer when the roles have turned.
fn write_odmr_extensions(out: &mut Vec<u8>, settings: &Settings, tls: Tls, mechanisms: Mechanisms) {
    out.extend_from_slice(b"\r\n250-ENHANCEDSTATUSCODES");
    if settings.offers.start_tls && tls == Tls::Absent {
        out.extend_from_slice(b"\r\n250-STARTTLS");
    }
    write_mechanisms(out, mechanisms);
    out.extend_from_slice(b"\r\n250 ATRN\r\n");
}

/// The line of EHLO for AUTH (RFC 4954 §3).
fn write_mechanisms(out: &mut Vec<u8>, mechanisms: Mechanisms) {
    if !mechanisms.is_empty() {
        out.extend_from_slice(b"\r\n250-AUTH");
        for mechanism in mechanisms.iter() {
            out.push(b' ');
            out.extend_from_slice(mechanism.name().as_bytes());
        }
    }
}

/// Whether a session is under TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// In clear.
    Absent,
    /// By STARTTLS, or from the start.
    Active,
}

/// `221` to QUIT.
pub(crate) fn write_farewell(out: &mut Vec<u8>, hostname: &Domain) {
    out.extend_from_slice(b"221 2.0.0 ");
    push_text(out, hostname.as_str());
    out.extend_from_slice(b" closing\r\n");
}

/// The one positive reply to a whole message: it names what was stored.
pub(crate) fn write_accepted(out: &mut Vec<u8>, id: QueueId) {
    use std::io::Write as _;
    write!(out, "250 2.0.0 {id}\r\n").expect("a vector takes all");
}

/// `250` to a chunk that is not the last (RFC 3030 §4.2).
pub(crate) fn write_chunk_received(out: &mut Vec<u8>, octets: u64) {
    out.extend_from_slice(b"250 2.0.0 ");
    push_decimal(out, octets);
    out.extend_from_slice(b" octets received\r\n");
}

/// `354` to DATA. No enhanced code: RFC 3463 has no class 3.
pub(crate) const SEND_DATA: &[u8] = b"354 send the message, end with CRLF.CRLF\r\n";

pub(crate) const OK: Reply = Reply::new(250, 0, 0, "Ok");
pub(crate) const SENDER_OK: Reply = Reply::new(250, 1, 0, "Ok");
pub(crate) const RECIPIENT_OK: Reply = Reply::new(250, 1, 5, "Ok");
pub(crate) const START_TLS: Reply = Reply::new(220, 0, 0, "Ready to start TLS");
pub(crate) const CANNOT_VERIFY: Reply = Reply::new(
    252,
    0,
    0,
    "cannot verify, but will accept the message and attempt delivery",
);
pub(crate) const HELP: Reply = Reply::new(
    214,
    0,
    0,
    "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT, as RFC 5321",
);

pub(crate) const LINE_TOO_LONG: Refusal = Refusal::new(500, 5, 2, "line too long");
pub(crate) const LINE_BARE_NEWLINE: Refusal = Refusal::new(500, 5, 2, "a line must end with CR LF");
pub(crate) const HELLO_FIRST: Refusal = Refusal::new(503, 5, 1, "send EHLO or HELO first");
pub(crate) const NESTED_MAIL: Refusal =
    Refusal::new(503, 5, 1, "a transaction is open, send RSET first");
pub(crate) const MAIL_FIRST: Refusal = Refusal::new(503, 5, 1, "send MAIL first");
pub(crate) const RECIPIENT_FIRST: Refusal = Refusal::new(503, 5, 1, "send RCPT first");
pub(crate) const NO_VALID_RECIPIENTS: Refusal = Refusal::new(554, 5, 1, "no valid recipients");
pub(crate) const IN_CHUNKS: Refusal = Refusal::new(503, 5, 1, "not after BDAT, send RSET first");
pub(crate) const TOO_MANY_RECIPIENTS: Refusal = Refusal::new(452, 5, 3, "too many recipients");
pub(crate) const TLS_ACTIVE: Refusal = Refusal::new(503, 5, 1, "TLS is active already");
pub(crate) const TLS_EARLY_TALK: Refusal = Refusal::new(
    503,
    5,
    1,
    "nothing may be sent behind STARTTLS before its reply",
);
pub(crate) const TURNING: Reply = Reply::new(250, 0, 0, "Ok, now turning the connection round");
pub(crate) const TURN_EARLY_TALK: Refusal = Refusal::new(
    503,
    5,
    1,
    "nothing may be sent behind ATRN before its reply",
);
pub(crate) const EARLY_TALK: Refusal = Refusal::new(554, 5, 1, "you spoke before you were greeted");
pub(crate) const MESSAGE_TOO_BIG: Refusal = Refusal::new(552, 3, 4, "message too big");
pub(crate) const TOO_MANY_HOPS: Refusal =
    Refusal::new(554, 4, 6, "too many Received header fields, this is a loop");
pub(crate) const TEXT_LINE_TOO_LONG: Refusal =
    Refusal::new(550, 6, 0, "a line of the message is too long");
pub(crate) const TEXT_BARE_NEWLINE: Refusal = Refusal::new(
    550,
    6,
    11,
    "the message has a CR or LF that is not part of CR LF",
);
pub(crate) const NO_ROOM: Refusal =
    Refusal::new(452, 3, 1, "no room for the message now, try again later");
pub(crate) const NOT_STORED: Refusal = Refusal::new(
    451,
    3,
    0,
    "the message could not be stored, try again later",
);

pub(crate) const AUTH_DONE: Reply = Reply::new(235, 7, 0, "Authentication succeeded");
pub(crate) const AUTH_NEEDED: Refusal = Refusal::new(530, 7, 0, "Authentication required");
pub(crate) const AUTH_TWICE: Refusal = Refusal::new(503, 5, 1, "you have authenticated already");
pub(crate) const AUTH_UNKNOWN: Refusal = Refusal::new(504, 5, 4, "no such mechanism");
pub(crate) const AUTH_NOT_HERE: Refusal =
    Refusal::new(534, 7, 9, "this mechanism is not used here");
pub(crate) const AUTH_NEEDS_TLS: Refusal =
    Refusal::new(538, 7, 11, "this mechanism is used under TLS only");
pub(crate) const AUTH_CANCELLED: Refusal = Refusal::new(501, 7, 0, "Authentication cancelled");
pub(crate) const AUTH_BASE64: Refusal = Refusal::new(501, 5, 2, "this is not base64");
pub(crate) const AUTH_MALFORMED: Refusal =
    Refusal::new(501, 7, 0, "this is no message of the mechanism");
pub(crate) const AUTH_LINE_TOO_LONG: Refusal =
    Refusal::new(500, 5, 6, "Authentication exchange line is too long");
pub(crate) const AUTH_WRONG: Refusal =
    Refusal::new(535, 7, 8, "Authentication credentials invalid");
pub(crate) const AUTH_LATER: Refusal = Refusal::new(
    454,
    7,
    0,
    "Temporary authentication failure, try again later",
);

pub(crate) const AUTH_BANNED: Closing = Closing::new(
    7,
    0,
    "too many failed authentications from your address, try again later",
);
pub(crate) const AUTH_TOO_OFTEN: Closing = Closing::new(7, 0, "too many failed authentications");
pub(crate) const TOO_MANY_ERRORS: Closing = Closing::new(7, 0, "too many errors");
pub(crate) const TOO_MANY_COMMANDS: Closing =
    Closing::new(7, 0, "too many commands without a message");
pub(crate) const TOO_MANY_TRANSACTIONS: Closing =
    Closing::new(7, 0, "too many transactions, use another connection");
pub(crate) const TOO_MUCH_DISCARDED: Closing = Closing::new(7, 0, "this message has no end");
pub(crate) const TIMEOUT: Closing = Closing::new(4, 2, "you were silent for too long");
pub(crate) const TOO_SLOW: Closing = Closing::new(4, 2, "your message came too slowly");
pub(crate) const STOPPING: Closing = Closing::new(3, 2, "going down, try again later");

/// Appends printable ASCII; anything else becomes `?`. Cut at [`TEXT_BYTES_MAX`].
fn push_text(out: &mut Vec<u8>, text: &str) {
    let octets = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
    let from = out.len();
    out.extend_from_slice(octets);
    for octet in &mut out[from..] {
        if !matches!(octet, b' '..=b'~') {
            *octet = b'?';
        }
    }
}

/// Appends a number without an allocation.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    // 2^64 has 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("below ten");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).expect("a reply is ASCII")
    }

    #[test]
    fn a_reply_is_one_line_whatever_its_text() {
        let check = |text: &str, expected: &str| {
            let refusal = Refusal::new(550, 6, 11, "").with_text(text.to_owned());
            assert_eq!(line(refusal.reply()), expected);
        };
        check("no", "550 5.6.11 no\r\n");
        check("a\r\n250 b", "550 5.6.11 a??250 b\r\n");
        check("é", "550 5.6.11 ??\r\n");
        let long = "x".repeat(2000);
        check(
            &long,
            &format!("550 5.6.11 {}\r\n", &long[..TEXT_BYTES_MAX]),
        );
        assert!(line(Refusal::new(550, 999, 999, "").with_text(long).reply()).len() <= 512);
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
