//! Many notifications for one addressee, told in one message. Why in this form: see
//! the module above.
//!
//! Invariants: those of a notification. Each report in it was written by
//! [`super::write`] with a header section behind it, so none holds a boundary of ours.

use super::mime::{Alphabet, Encoding, field, paragraph};
use super::{Action, Notification, shown};
use crate::mail::{
    Address, BodyKind, Domain, Envelope, ForwardPath, Recipient, ReversePath, Sender,
};
use crate::time::WallTime;

/// A report that is to stand in a digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What it tells.
    pub action: Action,
    /// As it would be sent alone, with no more than a header section returned.
    pub notification: Notification,
}

/// One message that tells all of `reports`, at least one, to this address. Nobody
/// outside can know the seed: the boundaries are made of it.
///
/// # Panics
/// A report returns its message whole: that is not for a digest.
#[must_use]
pub fn digest(
    to: &Address,
    reporting_mta: &Domain,
    now: WallTime,
    seed: u64,
    reports: &[Report],
) -> Notification {
    let (alphabet, body, transfer, kind) = if to.is_ascii() {
        (
            Alphabet::Ascii,
            BodyKind::SevenBit,
            "7bit",
            "message/rfc822",
        )
    } else {
        (
            Alphabet::Utf8,
            BodyKind::EightBitMime,
            "8bit",
            "message/global",
        )
    };
    let (all, each) = (format!("=_all/{seed:016x}"), format!("=_each/{seed:016x}"));
    let mut out = header_section(to, reporting_mta, now, seed, reports.len(), alphabet);
    let human = for_people(reporting_mta, reports);
    let encoding = Encoding::for_text(human.as_bytes(), alphabet);
    let mut push = |text: String| out.extend_from_slice(text.as_bytes());
    push(format!(
        "Content-Type: multipart/mixed; boundary=\"{all}\"\r\n\
         Content-Transfer-Encoding: {transfer}\r\n\r\n\
         --{all}\r\nContent-Description: Explanation\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: {}\r\n\r\n",
        encoding.name()
    ));
    encoding.write(human.as_bytes(), &mut out);
    let mut push = |text: String| out.extend_from_slice(text.as_bytes());
    push(format!(
        "\r\n--{all}\r\nContent-Description: Reports\r\n\
         Content-Type: multipart/digest; boundary=\"{each}\"\r\n\
         Content-Transfer-Encoding: {transfer}\r\n"
    ));
    let mut sender = Sender::new(ReversePath::Null);
    sender.body = body;
    sender.smtputf8 = alphabet == Alphabet::Utf8;
    for Report { notification, .. } in reports {
        assert!(
            notification.after.is_empty(),
            "reports of a digest end with header sections"
        );
        let head = format!("\r\n--{each}\r\nContent-Type: {kind}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&notification.before);
        let inherited = &notification.envelope.sender;
        sender.priority = sender.priority.max(inherited.priority);
        sender.require_tls |= inherited.require_tls;
    }
    let end = format!("\r\n--{each}--\r\n\r\n--{all}--\r\n");
    out.extend_from_slice(end.as_bytes());
    Notification {
        envelope: Envelope {
            sender,
            recipients: vec![Recipient::new(ForwardPath(to.clone()))],
        },
        before: out,
        after: Vec::new(),
    }
}

/// All of it but what tells of the body.
fn header_section(
    to: &Address,
    reporting_mta: &Domain,
    now: WallTime,
    seed: u64,
    count: usize,
    alphabet: Alphabet,
) -> Vec<u8> {
    let host = shown(reporting_mta.as_str());
    let mut out = String::with_capacity(1024);
    let mut line = |name: &str, text: &str| field(&mut out, name, text, alphabet);
    line("Date", &now.rfc5322());
    line(
        "From",
        &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
    );
    line("To", &format!("<{to}>"));
    line("Subject", &format!("{count} reports about mail"));
    line("Message-ID", &format!("<{seed:016x}.reports@{host}>"));
    line("Auto-Submitted", "auto-replied");
    line("MIME-Version", "1.0");
    out.into_bytes()
}

/// The first part.
fn for_people(host: &Domain, reports: &[Report]) -> String {
    let mut out = String::new();
    let text = format!(
        "This is the mail system at {host}. There is so much to report to you that it comes in \
         one message: {} reports, each about one message, and each as it would have been sent \
         alone.",
        reports.len()
    );
    paragraph(&mut out, "", &text);
    out.push_str("\r\n");
    for action in Action::ALL {
        let count = reports
            .iter()
            .filter(|report| report.action == action)
            .count();
        if count > 0 {
            paragraph(&mut out, "  ", &format!("{}: {count}", action.word()));
        }
    }
    out.push_str("\r\n");
    let help = format!(
        "If you need help, write to <postmaster@{host}> and send along the report that it is about."
    );
    paragraph(&mut out, "", &help);
    out
}
