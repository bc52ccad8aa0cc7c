//! Delivery status notifications (RFC 3461, 3464, 6522, 6533): who is told, and the
//! message that tells it.
//!
//! Pure functions: facts in, octets out. The notification is a message like any
//! other afterwards; the core spools it.
//!
//! Contract:
//! - **Nobody is told of a notification's own fate**: [`Facts::to`] is an
//!   [`Address`], which a null reverse-path does not have.
//! - The octets are in wire form: CRLF, no line longer than 998 octets, no line that
//!   begins with a dot, none of a peer's text where it could end a header section or
//!   a part. Where the whole message is returned it stands between
//!   [`Notification::before`] and [`Notification::after`] as it is stored.
//! - ASCII, whatever it tells of, unless the sender's own address is not (then it
//!   must go by SMTPUTF8 anyway), or the message that is returned has 8-bit octets.
//!
//! # Many at once
//!
//! One address gets so many notifications in a minute ([`Rules::per_minute`], counted
//! by [`allowance`]); what goes beyond that waits ([`gathering`]) and is told in one message
//! ([`digest`]). A report must be about one message (RFC 3464 §2.1: the fields of
//! `message/delivery-status` tell of one envelope), so reports are not mixed into one:
//! each stays a whole message of its own, and these stand in a `multipart/digest`
//! (RFC 2046 §5.1.5) behind a text for people. What walks through the parts of a
//! message, as programs that read reports do, finds each with its own envelope id.
//!
//! The action "expanded" (RFC 3464 §2.3.3) is never reported: it is about aliases that
//! lead to several addresses, and there are none here.
//!
//! What it does not do: it does not decide when mail is late or has failed.

pub mod allowance;
pub mod gathering;
mod mime;

mod action;
mod digest;

use std::fmt::Write as _;
use std::net::IpAddr;

pub use self::action::{Action, Status};
pub use self::digest::{Report, digest};
use self::mime::{Alphabet, Encoding, field, from_xtext, paragraph};
use crate::mail::{
    Address, BodyKind, Domain, Envelope, ForwardPath, Priority, QueueId, Recipient, ReversePath,
    Sender,
};
use crate::time::WallTime;

/// Most octets of a header section that are returned. Trace fields of a hundred hops
/// and a long list of recipients fit.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Most recipients named in the part for people; the part for programs names all.
pub const NAMED_RECIPIENTS_MAX: usize = 50;

/// What the operator decides about notifications.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How many one address gets in a minute; what goes beyond is merged.
    pub per_minute: u32,
    /// Who gets a copy of each notification of a failure.
    pub postmaster: Option<Address>,
    /// The largest message, in octets, that is returned whole where its sender asks
    /// for that (RET=FULL).
    pub whole_bytes_max: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            per_minute: 30,
            postmaster: None,
            whole_bytes_max: 64 * 1024,
        }
    }
}

/// Why, in somebody's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Diagnostic<'a> {
    /// A reply of the remote host: `550 5.1.1 no such user`.
    Smtp(&'a str),
    /// Our own sentence.
    Local(&'a str),
}

/// What there is to report of one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecipientReport<'a> {
    /// Who, with NOTIFY and ORCPT.
    pub recipient: &'a Recipient,
    /// What.
    pub action: Action,
    /// In numbers.
    pub status: Status,
    /// The host that said it, if one did.
    pub remote_mta: Option<&'a Domain>,
    /// In words.
    pub diagnostic: Option<Diagnostic<'a>>,
    /// When it was last tried, if it was.
    pub last_attempt: Option<WallTime>,
    /// For [`Action::Delayed`]: when it will be given up.
    pub retry_until: Option<WallTime>,
}

/// Who reads a notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader<'a> {
    /// The sender of the message.
    Sender,
    /// The postmaster gets a copy of what this sender is told.
    Postmaster {
        /// The reverse-path of the message.
        sender: &'a Address,
    },
}

/// What there is to say of the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts<'a> {
    /// Who is told: the reverse-path of the message, or the postmaster.
    pub to: &'a Address,
    /// Which of the two.
    pub reader: Reader<'a>,
    /// Our host name.
    pub reporting_mta: &'a Domain,
    /// The number by which we can find it again.
    pub queue_id: QueueId,
    /// When we took it.
    pub arrival: WallTime,
    /// The clock.
    pub now: WallTime,
    /// ENVID as it came (xtext).
    pub envid: Option<&'a str>,
    /// Its MT-PRIORITY, which the notification inherits (RFC 6710 §5.4).
    pub priority: Option<Priority>,
    /// REQUIRETLS, which the notification inherits (RFC 8689 §5).
    pub require_tls: bool,
    /// Nobody outside can know it: the boundary is made of it, so that no message can
    /// hold the boundary.
    pub seed: u64,
}

/// What is returned of the message (RFC 3461 §6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returned<'a> {
    /// Its header section, CRLF at the line ends. More than [`HEADERS_BYTES_MAX`] is
    /// cut off at a line end.
    Headers(&'a [u8]),
    /// All of it, by the core: it copies the stored message between
    /// [`Notification::before`] and [`Notification::after`]. Its lines must be of 998
    /// octets at most and end in CRLF.
    Whole {
        /// Whether it has octets above 127.
        body: BodyKind,
    },
    /// The same for a message whose header fields hold UTF-8 (RFC 6532).
    WholeUtf8,
}

/// A message that is ready for the spool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// From the null reverse-path to the sender.
    pub envelope: Envelope,
    /// All octets, or those before the returned message.
    pub before: Vec<u8>,
    /// Those behind it.
    pub after: Vec<u8>,
}

/// The notification for those of `recipients` whose sender wants to be told; `None`
/// if there is none.
#[must_use]
pub fn write(
    facts: &Facts<'_>,
    recipients: &[RecipientReport<'_>],
    returned: Returned<'_>,
) -> Option<Notification> {
    let reports: Vec<_> = recipients
        .iter()
        .filter(|report| report.action.is_wanted(report.recipient.notify))
        .collect();
    let worst = reports.iter().map(|report| report.action).min()?;
    let alphabet = if facts.to.is_ascii() {
        Alphabet::Ascii
    } else {
        Alphabet::Utf8
    };
    let body = match (alphabet, returned) {
        (Alphabet::Ascii, Returned::Headers(_)) => BodyKind::SevenBit,
        (Alphabet::Ascii, Returned::Whole { body }) => body,
        (Alphabet::Utf8, _) | (_, Returned::WholeUtf8) => BodyKind::EightBitMime,
    };
    let boundary = format!("=_{}/{:016x}", facts.queue_id, facts.seed);
    let mut out = header_section(facts, worst, alphabet, body, &boundary).into_bytes();

    let human = for_people(facts, &reports);
    let encoding = Encoding::for_text(human.as_bytes(), alphabet);
    let part = format!(
        "--{boundary}\r\nContent-Description: Explanation\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: {}\r\n\r\n",
        encoding.name()
    );
    out.extend_from_slice(part.as_bytes());
    encoding.write(human.as_bytes(), &mut out);

    let (kind, transfer) = match alphabet {
        Alphabet::Ascii => ("message/delivery-status", "7bit"),
        Alphabet::Utf8 => ("message/global-delivery-status", "8bit"),
    };
    let part = format!(
        "\r\n--{boundary}\r\nContent-Description: Delivery report\r\nContent-Type: {kind}\r\n\
         Content-Transfer-Encoding: {transfer}\r\n\r\n{}",
        for_programs(facts, &reports, alphabet)
    );
    out.extend_from_slice(part.as_bytes());

    write_returned(&mut out, returned, alphabet, &boundary);
    let after = format!("\r\n--{boundary}--\r\n").into_bytes();
    let after = match returned {
        Returned::Headers(_) => {
            out.extend_from_slice(&after);
            Vec::new()
        }
        Returned::Whole { .. } | Returned::WholeUtf8 => after,
    };
    Some(Notification {
        envelope: envelope(facts, alphabet, body),
        before: out,
        after,
    })
}

fn envelope(facts: &Facts<'_>, alphabet: Alphabet, body: BodyKind) -> Envelope {
    let mut sender = Sender::new(ReversePath::Null);
    sender.body = body;
    sender.smtputf8 = alphabet == Alphabet::Utf8;
    sender.priority = facts.priority;
    sender.require_tls = facts.require_tls;
    Envelope {
        sender,
        recipients: vec![Recipient::new(ForwardPath(facts.to.clone()))],
    }
}

fn header_section(
    facts: &Facts<'_>,
    worst: Action,
    alphabet: Alphabet,
    body: BodyKind,
    boundary: &str,
) -> String {
    let mut out = String::with_capacity(1024);
    let host = shown(facts.reporting_mta.as_str());
    let mut line = |name: &str, text: &str| field(&mut out, name, text, alphabet);
    line("Date", &facts.now.rfc5322());
    line(
        "From",
        &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
    );
    line("To", &format!("<{}>", facts.to));
    match facts.reader {
        Reader::Sender => line("Subject", worst.subject()),
        Reader::Postmaster { .. } => {
            line("Subject", &format!("Copy of: {}", worst.subject()));
        }
    }
    line(
        "Message-ID",
        &format!("<{}.{:016x}.report@{host}>", facts.queue_id, facts.seed),
    );
    line("Auto-Submitted", "auto-replied");
    line("MIME-Version", "1.0");
    line(
        "Content-Type",
        &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
    );
    let transfer = match body {
        BodyKind::SevenBit => "7bit",
        BodyKind::EightBitMime => "8bit",
    };
    line("Content-Transfer-Encoding", transfer);
    out.push_str("\r\n");
    out
}

/// A host name in ASCII. Ours should be; if it is not, no header field breaks.
fn shown(host: &str) -> String {
    let ascii = |c: char| if c.is_ascii() { c } else { '-' };
    host.chars().map(ascii).collect()
}

/// The first part.
fn for_people(facts: &Facts<'_>, reports: &[&RecipientReport<'_>]) -> String {
    let mut out = String::new();
    let host = facts.reporting_mta;
    let greeting = match facts.reader {
        Reader::Sender => {
            format!("This is the mail system at {host}, about the message that you sent.")
        }
        Reader::Postmaster { sender } => format!(
            "This is the mail system at {host}. You get this as its postmaster: it is a copy of \
             what {sender} was told about a message. Nobody expects an answer."
        ),
    };
    paragraph(&mut out, "", &greeting);
    for action in Action::ALL {
        let of_action = || reports.iter().filter(|report| report.action == action);
        let count = of_action().count();
        if count == 0 {
            continue;
        }
        out.push_str("\r\n");
        paragraph(&mut out, "", action.paragraph());
        for report in of_action().take(NAMED_RECIPIENTS_MAX) {
            out.push_str("\r\n");
            paragraph(&mut out, "  ", &report.recipient.forward_path.to_string());
            for sentence in sentences(report) {
                paragraph(&mut out, "    ", &sentence);
            }
        }
        if count > NAMED_RECIPIENTS_MAX {
            let more = count - NAMED_RECIPIENTS_MAX;
            out.push_str("\r\n");
            let text = format!("and {more} more, all of whom the report below names.");
            paragraph(&mut out, "  ", &text);
        }
    }
    out.push_str("\r\n");
    let help = format!(
        "If you need help, write to <postmaster@{host}> and name the number {}, or send this \
         message along with all its parts.",
        facts.queue_id
    );
    paragraph(&mut out, "", &help);
    out
}

/// What stands below an address.
fn sentences(report: &RecipientReport<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    match (report.diagnostic, report.remote_mta) {
        (Some(Diagnostic::Smtp(text)), Some(host)) => {
            sentences.push(format!("The host {host} said: {text}"));
        }
        (Some(Diagnostic::Smtp(text)), None) => {
            sentences.push(format!("The next host said: {text}"));
        }
        (Some(Diagnostic::Local(text)), Some(host)) => {
            sentences.push(format!("{} (host {host})", capitalised(text)));
        }
        (Some(Diagnostic::Local(text)), None) => sentences.push(capitalised(text)),
        (None, _) => {}
    }
    if let (Action::Delayed, Some(until)) = (report.action, report.retry_until) {
        sentences.push(format!("It will be tried until {}.", until.rfc5322()));
    }
    sentences
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The second part (RFC 3464 §2).
fn for_programs(facts: &Facts<'_>, reports: &[&RecipientReport<'_>], alphabet: Alphabet) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| field(&mut out, name, text, alphabet);
    line(
        "Reporting-MTA",
        &format!("dns; {}", shown(facts.reporting_mta.as_str())),
    );
    if let Some(envid) = facts.envid {
        let decoded = from_xtext(envid);
        line("Original-Envelope-Id", decoded.as_deref().unwrap_or(envid));
    }
    line("Arrival-Date", &facts.arrival.rfc5322());
    line("X-Turnspool-Queue-ID", &facts.queue_id.to_string());
    for report in reports {
        out.push_str("\r\n");
        recipient_fields(&mut out, report, alphabet);
    }
    out
}

fn recipient_fields(out: &mut String, report: &RecipientReport<'_>, alphabet: Alphabet) {
    let mut line = |name: &str, text: &str| field(out, name, text, alphabet);
    if let Some((kind, address)) = report
        .recipient
        .orcpt
        .as_deref()
        .and_then(|orcpt| orcpt.split_once(';'))
    {
        // Of other address types the encoding is not ours to undo.
        let decoded = match kind.eq_ignore_ascii_case("rfc822") {
            true => from_xtext(address),
            false => None,
        };
        let address = decoded.as_deref().unwrap_or(address);
        line("Original-Recipient", &format!("{kind};{address}"));
    }
    let address = report.recipient.forward_path.address();
    let kind = if address.is_ascii() {
        "rfc822"
    } else {
        "utf-8"
    };
    line(
        "Final-Recipient",
        &format!("{kind};{}", utf8_xtext(address, alphabet)),
    );
    line("Action", report.action.word());
    line("Status", &report.status.to_string());
    if let Some(host) = report.remote_mta {
        line("Remote-MTA", &format!("dns; {}", mta_name(host)));
    }
    match report.diagnostic {
        Some(Diagnostic::Smtp(text)) => line("Diagnostic-Code", &format!("smtp; {text}")),
        Some(Diagnostic::Local(text)) => line("Diagnostic-Code", &format!("x-turnspool; {text}")),
        None => {}
    }
    if let Some(time) = report.last_attempt {
        line("Last-Attempt-Date", &time.rfc5322());
    }
    if let (Action::Delayed, Some(time)) = (report.action, report.retry_until) {
        line("Will-Retry-Until", &time.rfc5322());
    }
}

/// RFC 6533 §3: in an ASCII report a UTF-8 address is escaped, and then so are the
/// characters that the escape is made of.
fn utf8_xtext(address: &Address, alphabet: Alphabet) -> String {
    let mut text = String::new();
    let escapes = !address.is_ascii() && alphabet == Alphabet::Ascii;
    for c in address.as_str().chars() {
        if escapes && matches!(c, '\\' | '+' | '=') {
            write!(text, "\\x{{{:02X}}}", u32::from(c)).expect("a string takes it");
        } else {
            mime::show(&mut text, c, alphabet);
        }
    }
    text
}

/// The name of a host that answered; one that is known by its address only is written
/// as a domain literal (RFC 3464 §2.3.5, RFC 5321 §4.1.3).
fn mta_name(host: &Domain) -> String {
    match host.as_str().parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => format!("[{address}]"),
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        Err(_) => host.to_string(),
    }
}

/// The head of the third part, and the part where it is a header section.
fn write_returned(out: &mut Vec<u8>, returned: Returned<'_>, alphabet: Alphabet, boundary: &str) {
    let mut head = |description: &str, kind: &str, transfer: &str| {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Description: {description}\r\nContent-Type: {kind}\r\n\
             Content-Transfer-Encoding: {transfer}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
    };
    match returned {
        Returned::Whole { body } => {
            let transfer = match body {
                BodyKind::SevenBit => "7bit",
                BodyKind::EightBitMime => "8bit",
            };
            head("Your message", "message/rfc822", transfer);
        }
        Returned::WholeUtf8 => head("Your message", "message/global", "8bit"),
        Returned::Headers(headers) => {
            let headers = cut_headers(headers);
            let encoding = Encoding::for_text(headers, alphabet);
            // RFC 6533 §4 has a type for header sections in UTF-8. What reads an ASCII
            // report may not know it, but it knows text that is quoted.
            let kind = match encoding {
                Encoding::SevenBit => "text/rfc822-headers",
                Encoding::EightBit => "message/global-headers",
                Encoding::QuotedPrintable => "text/rfc822-headers; charset=utf-8",
            };
            head("Header of your message", kind, encoding.name());
            encoding.write(headers, out);
        }
    }
}

/// The header section without the empty line at its end, and not more of it than we
/// return.
fn cut_headers(headers: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(headers, b"\r\n\r\n").map_or(headers.len(), |end| end + 2);
    let headers = &headers[..end];
    if headers.len() <= HEADERS_BYTES_MAX {
        return headers;
    }
    let most = &headers[..HEADERS_BYTES_MAX];
    match memchr::memmem::rfind(most, b"\r\n") {
        Some(end) => &most[..end + 2],
        None => most,
    }
}

#[cfg(test)]
mod tests;
