//! The command lines that we send (RFC 5321 §4.1.1), with the parameters that the
//! peer understands.
//!
//! Relies on the types of `mail`: no address, domain or number in them can hold a
//! CR, LF or space. ENVID and ORCPT are text that came from another peer: they are
//! sent on unchanged (RFC 3461 §5.2.1) if they are one word, else not at all; but for an
//! ORCPT in UTF-8, which a peer without SMTPUTF8 gets in ASCII.

use std::borrow::Cow;
use std::io::Write as _;

use super::capabilities::{Capabilities, Size};
use super::job::{BodyFacts, BodyOctets};
use crate::mail::{
    BodyForm, BodyKind, DeliverByMode, Domain, Notify, ORCPT_BYTES_MAX, Recipient, Ret, Sender,
};
use crate::time::WallTime;

/// Which hello is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hello {
    Ehlo,
    Helo,
    Lhlo,
}

pub(super) fn hello(out: &mut Vec<u8>, hello: Hello, name: &Domain) {
    let verb = match hello {
        Hello::Ehlo => "EHLO",
        Hello::Helo => "HELO",
        Hello::Lhlo => "LHLO",
    };
    write!(out, "{verb} {name}\r\n").expect("a vector takes it");
}

/// MAIL with all that `sender` says and `peer` understands.
pub(super) fn mail(
    out: &mut Vec<u8>,
    sender: &Sender,
    body: &BodyFacts,
    utf8: bool,
    peer: &Capabilities,
    now: WallTime,
) {
    path(out, "MAIL FROM:<", sender.reverse_path.as_str());
    if let Some(size) = declared_size(body, peer.size) {
        out.extend_from_slice(b" SIZE=");
        decimal(out, size);
    }
    let eight_bit = body.kind == BodyOctets::EightBit || sender.body == BodyKind::EightBitMime;
    if peer.eight_bit_mime && eight_bit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    if peer.smtputf8 && (utf8 || sender.smtputf8) {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if peer.dsn {
        match sender.ret {
            Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        word_parameter(out, "ENVID", sender.envid.as_deref());
    }
    if let (true, Some(priority)) = (peer.mt_priority, sender.priority) {
        write!(out, " MT-PRIORITY={}", priority.value()).expect("a vector takes it");
    }
    if let (true, Some(deliver_by)) = (peer.deliver_by, sender.deliver_by) {
        let seconds = deliver_by_seconds(deliver_by.deadline, now);
        let mode = match deliver_by.mode {
            DeliverByMode::Return => 'R',
            DeliverByMode::Notify => 'N',
        };
        let trace = if deliver_by.trace { "T" } else { "" };
        write!(out, " BY={seconds};{mode}{trace}").expect("a vector takes it");
    }
    if peer.require_tls && sender.require_tls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    out.extend_from_slice(b"\r\n");
}

/// RCPT with its DSN parameters where `peer` understands them.
pub(super) fn rcpt(out: &mut Vec<u8>, recipient: &Recipient, peer: &Capabilities) {
    path(out, "RCPT TO:<", recipient.forward_path.as_str());
    if peer.dsn {
        match recipient.notify {
            Notify::Unspecified => {}
            Notify::Never => out.extend_from_slice(b" NOTIFY=NEVER"),
            Notify::On {
                success,
                failure,
                delay,
            } => {
                let mut before = " NOTIFY=";
                for (on, word) in [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")] {
                    if on {
                        write!(out, "{before}{word}").expect("a vector takes it");
                        before = ",";
                    }
                }
            }
        }
        let orcpt = recipient.orcpt.as_deref();
        let understood = orcpt.map(|orcpt| match peer.smtputf8 || orcpt.is_ascii() {
            true => Cow::Borrowed(orcpt),
            false => Cow::Owned(in_ascii(orcpt)),
        });
        let fits = understood.filter(|orcpt| orcpt.len() <= ORCPT_BYTES_MAX);
        word_parameter(out, "ORCPT", fits.as_deref());
    }
    out.extend_from_slice(b"\r\n");
}

/// The form of an address in UTF-8 for who takes none (RFC 6533 §3, `utf-8-addr-xtext`).
/// What is escaped already stays as it is.
fn in_ascii(orcpt: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(2 * orcpt.len());
    for c in orcpt.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            write!(out, "\\x{{{:02X}}}", u32::from(c)).expect("a string takes it");
        }
    }
    out
}

/// BDAT for the whole content (RFC 3030 §2).
pub(super) fn bdat_last(out: &mut Vec<u8>, octets: u64) {
    out.extend_from_slice(b"BDAT ");
    decimal(out, octets);
    out.extend_from_slice(b" LAST\r\n");
}

/// A command up to the end of its path. Every message passes here: no formatting.
fn path(out: &mut Vec<u8>, command: &str, path: &str) {
    out.extend_from_slice(command.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.push(b'>');
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    // u64::MAX has twenty digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Seconds that are left of a DELIVERBY, in the nine digits of RFC 2852 §4.
pub(super) fn deliver_by_seconds(deadline: WallTime, now: WallTime) -> i64 {
    const NINE_DIGITS: i64 = 999_999_999;
    let seconds = deadline.as_seconds().saturating_sub(now.as_seconds());
    seconds.clamp(-NINE_DIGITS, NINE_DIGITS)
}

/// The SIZE parameter counts octets without the doubled dots, which we do not count.
/// The stored octets of a stuffed body are too many by at most a third; it shall not
/// be refused for dots that the peer will never see.
fn declared_size(body: &BodyFacts, offered: Size) -> Option<u64> {
    match (offered, body.form) {
        (Size::NotOffered, _) => None,
        (Size::Max(max), BodyForm::Stuffed) => Some(body.octets.min(max)),
        (Size::Offered | Size::Max(_), _) => Some(body.octets),
    }
}

/// The least that the message can have without its doubled dots: a stuffed line has
/// four octets or more.
pub(super) const fn octets_min(body: &BodyFacts) -> u64 {
    match body.form {
        BodyForm::Plain | BodyForm::Raw => body.octets,
        BodyForm::Stuffed => body.octets - body.octets / 4,
    }
}

fn word_parameter(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    let is_word = |text: &&str| {
        !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    if let Some(value) = value.filter(is_word) {
        write!(out, " {name}={value}").expect("a vector takes it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{DeliverBy, Priority};
    use crate::smtp::client::job::BodyEnd;

    fn everything() -> Capabilities {
        Capabilities {
            size: Size::Offered,
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            mt_priority: true,
            deliver_by: true,
            require_tls: true,
            ..Capabilities::default()
        }
    }

    const BODY: BodyFacts = BodyFacts {
        octets: 100,
        form: BodyForm::Plain,
        kind: BodyOctets::EightBit,
        end: BodyEnd::Crlf,
    };

    #[test]
    fn mail_says_what_the_peer_understands() {
        let mut sender = Sender::new("a@b.example".parse().unwrap());
        sender.ret = Some(Ret::Headers);
        sender.envid = Some("QQ+2B".into());
        sender.priority = Priority::new(-3);
        sender.deliver_by = Some(DeliverBy {
            deadline: WallTime::from_millis(90_500),
            mode: DeliverByMode::Notify,
            trace: true,
        });
        sender.smtputf8 = true;
        sender.require_tls = true;
        let check = |peer: &Capabilities, body: &BodyFacts, expected: &str| {
            let mut out = Vec::new();
            let now = WallTime::from_millis(60_000);
            mail(&mut out, &sender, body, false, peer, now);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"));
        };
        check(&Capabilities::default(), &BODY, "MAIL FROM:<a@b.example>");
        check(
            &everything(),
            &BODY,
            "MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B \
             MT-PRIORITY=-3 BY=30;NT REQUIRETLS",
        );
        let stuffed = BodyFacts {
            form: BodyForm::Stuffed,
            ..BODY
        };
        let small = Capabilities {
            size: Size::Max(90),
            ..Capabilities::default()
        };
        check(&small, &stuffed, "MAIL FROM:<a@b.example> SIZE=90");
    }

    #[test]
    fn decimals() {
        for value in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn rcpt_passes_its_parameters_on() {
        let check = |notify: Notify, orcpt: Option<&str>, peer: &Capabilities, expected: &str| {
            let mut out = Vec::new();
            let mut recipient = Recipient::new("x@y.example".parse().unwrap());
            recipient.notify = notify;
            recipient.orcpt = orcpt.map(Into::into);
            rcpt(&mut out, &recipient, peer);
            let got = String::from_utf8(out).unwrap();
            assert_eq!(got, format!("RCPT TO:<x@y.example>{expected}\r\n"));
        };
        let on = Notify::On {
            success: true,
            failure: false,
            delay: true,
        };
        let orcpt = Some("rfc822;x@y.example");
        check(on, orcpt, &Capabilities::default(), "");
        check(
            on,
            orcpt,
            &everything(),
            " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@y.example",
        );
        check(Notify::Never, None, &everything(), " NOTIFY=NEVER");
        check(Notify::Unspecified, None, &everything(), "");
        // Octets above 127 are for who has said that it takes them (RFC 6533 §3).
        let utf8 = Some("utf-8;ü\u{1F600}\\x{2B}@y.example");
        check(
            Notify::Unspecified,
            utf8,
            &everything(),
            " ORCPT=utf-8;ü\u{1F600}\\x{2B}@y.example",
        );
        let ascii = Capabilities {
            smtputf8: false,
            ..everything()
        };
        let escaped = " ORCPT=utf-8;\\x{FC}\\x{1F600}\\x{2B}@y.example";
        check(Notify::Unspecified, utf8, &ascii, escaped);
        let long = format!("utf-8;{}@y.example", "ü".repeat(200));
        check(Notify::Unspecified, Some(&long), &ascii, "");
        // What is no word would be a second command.
        let injected = Some("rfc822;x\r\nDATA");
        check(Notify::Unspecified, injected, &everything(), "");
    }
}
