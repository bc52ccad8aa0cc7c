//! A message as a file: `.eml`, with its envelope in header fields before its own.
//!
//! The message itself is as it was accepted: lines end with CRLF, no dot is doubled. The
//! fields before it are these, and [`envelope`] reads what [`write`] has written:
//!
//! ```text
//! X-Turnspool-Id: 0000000000011
//! X-Turnspool-Arrival: 2026-11-28T10:00:00Z
//! X-Turnspool-Mail: FROM:<a@b.example> BODY=8BITMIME RET=HDRS ENVID=x
//! X-Turnspool-Rcpt: TO:<c@d.example> NOTIFY=FAILURE ORCPT=rfc822;c@d.example
//! X-Turnspool-Until: 2026-11-28T12:00:00Z;R
//! ```
//!
//! There is one `-Rcpt` for each recipient who has not got the message yet, and an
//! `-Until` where the sender has set a deadline (RFC 2852).
//!
//! What it does not do: it delivers nothing, and folds no field: addresses and parameters
//! are short enough for a line by their own limits.

use std::io::{self, BufRead, Write};

use crate::core::admin::Date;
use crate::mail::{
    BodyKind, DeliverBy, DeliverByMode, Envelope, HoldUntil, Notify, Priority, QueueId, Recipient,
    Ret, Sender,
};
use crate::time::WallTime;

/// Longest line among the fields, with its end. The longest recipient with its ORCPT.
const FIELD_BYTES_MAX: u64 = 2048;

/// Most fields: every recipient that a message can have, and a few.
const FIELDS_MAX: usize = 100_100;

/// Octets that are written as xtext: an address, at most.
const XTEXT_SOURCE_BYTES_MAX: usize = 320;

const PREFIX: &str = "X-Turnspool-";

/// What stands before the message.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Head {
    /// Its name where it came from, if that was one of ours.
    pub(super) id: Option<String>,
    /// When it was accepted there.
    pub(super) arrival: Option<WallTime>,
    /// Recipients who have not got it.
    pub(super) envelope: Envelope,
    /// It was held.
    pub(super) held: bool,
}

/// Writes the fields.
pub(super) fn write(
    out: &mut dyn Write,
    id: QueueId,
    arrival: WallTime,
    envelope: &Envelope,
    held: bool,
) -> io::Result<()> {
    write!(out, "{PREFIX}Id: {id}\r\n{PREFIX}Arrival: {arrival}\r\n")?;
    if held {
        write!(out, "{PREFIX}State: held\r\n")?;
    }
    let sender = &envelope.sender;
    write!(out, "{PREFIX}Mail: FROM:<{}>", sender.reverse_path.as_str())?;
    write!(out, "{}\r\n", mail_parameters(sender))?;
    if let Some(by) = sender.deliver_by {
        let mode = match by.mode {
            DeliverByMode::Return => "R",
            DeliverByMode::Notify => "N",
        };
        let trace = if by.trace { "T" } else { "" };
        write!(out, "{PREFIX}Until: {};{mode}{trace}\r\n", by.deadline)?;
    }
    for recipient in &envelope.recipients {
        let to = recipient.forward_path.as_str();
        write!(
            out,
            "{PREFIX}Rcpt: TO:<{to}>{}\r\n",
            rcpt_parameters(recipient)
        )?;
    }
    Ok(())
}

/// The parameters of MAIL that last, each behind a space.
pub(super) fn mail_parameters(sender: &Sender) -> String {
    let mut out = String::new();
    if sender.body == BodyKind::EightBitMime {
        out.push_str(" BODY=8BITMIME");
    }
    if sender.smtputf8 {
        out.push_str(" SMTPUTF8");
    }
    match sender.ret {
        Some(Ret::Full) => out.push_str(" RET=FULL"),
        Some(Ret::Headers) => out.push_str(" RET=HDRS"),
        None => {}
    }
    if let Some(envid) = &sender.envid {
        out.push_str(&format!(" ENVID={envid}"));
    }
    if let Some(priority) = sender.priority {
        out.push_str(&format!(" MT-PRIORITY={}", priority.value()));
    }
    if sender.require_tls {
        out.push_str(" REQUIRETLS");
    }
    if let Some(until) = sender.hold_until {
        out.push_str(&format!(" HOLDUNTIL={}", until.at()));
    }
    out
}

/// The parameters of RCPT, each behind a space.
pub(super) fn rcpt_parameters(recipient: &Recipient) -> String {
    let mut out = match recipient.notify {
        Notify::Unspecified => String::new(),
        Notify::Never => " NOTIFY=NEVER".to_owned(),
        Notify::On {
            success,
            failure,
            delay,
        } => {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let words: Vec<_> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
            format!(" NOTIFY={}", words.join(","))
        }
    };
    if let Some(orcpt) = &recipient.orcpt {
        out.push_str(&format!(" ORCPT={orcpt}"));
    }
    out
}

/// Reads the fields, and stops before the message.
///
/// # Errors
/// What is wrong with them, for a person.
pub(super) fn envelope(input: &mut dyn BufRead) -> Result<Head, String> {
    let mut id = None;
    let mut arrival = None;
    let mut held = false;
    let mut sender: Option<Sender> = None;
    let mut until = None;
    let mut recipients = Vec::new();
    for _ in 0..FIELDS_MAX {
        let ahead = input.fill_buf().map_err(|error| error.to_string())?;
        // A buffer holds more than the prefix, unless the file ends.
        if !ahead.starts_with(PREFIX.as_bytes()) {
            break;
        }
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut *input, FIELD_BYTES_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        let line = std::str::from_utf8(&line).map_err(|_| "a field is not UTF-8".to_owned())?;
        let Some(line) = line.strip_suffix('\n') else {
            return Err("a field is too long or cut".to_owned());
        };
        let line = line.strip_suffix('\r').unwrap_or(line);
        let field = line.strip_prefix(PREFIX).unwrap_or(line);
        let (name, value) = field.split_once(": ").ok_or("a field has no value")?;
        match name {
            "Id" => id = Some(value.to_owned()),
            "Arrival" => arrival = Some(date(value)?),
            "State" => held = value == "held",
            "Until" => until = Some(deliver_by(value)?),
            "Mail" if sender.is_none() => sender = Some(mail(value)?),
            "Rcpt" => recipients.push(rcpt(value)?),
            _ => return Err(format!("{PREFIX}{name} is not known here, or there twice")),
        }
    }
    let mut sender = sender.ok_or_else(|| format!("there is no {PREFIX}Mail"))?;
    sender.deliver_by = until;
    if recipients.is_empty() {
        return Err(format!("there is no {PREFIX}Rcpt: nobody is to get it"));
    }
    Ok(Head {
        id,
        arrival,
        envelope: Envelope { sender, recipients },
        held,
    })
}

fn date(text: &str) -> Result<WallTime, String> {
    let quoted = format!("{:?}", text);
    match serde_json::from_str::<Date>(&quoted) {
        Ok(Date(time)) => Ok(time),
        Err(_) => Err(format!("{quoted} is no date")),
    }
}

fn deliver_by(value: &str) -> Result<DeliverBy, String> {
    let (deadline, mode) = value.split_once(';').ok_or("a deadline has a mode")?;
    let deadline = date(deadline)?;
    let (mode, trace) = match mode {
        "R" => (DeliverByMode::Return, false),
        "RT" => (DeliverByMode::Return, true),
        "N" => (DeliverByMode::Notify, false),
        "NT" => (DeliverByMode::Notify, true),
        _ => return Err("a deadline's mode is R, RT, N or NT".to_owned()),
    };
    Ok(DeliverBy {
        deadline,
        mode,
        trace,
    })
}

/// The path between the angle brackets, and the parameters behind it. A quoted
/// local-part may hold anything but the last `>` of the line that a space or the end
/// follows.
fn path<'a>(value: &'a str, word: &str) -> Result<(&'a str, Vec<&'a str>), String> {
    let wrong = || format!("want {word}<address>");
    let rest = value.strip_prefix(word).ok_or_else(wrong)?;
    let rest = rest.strip_prefix('<').ok_or_else(wrong)?;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let parameters = rest[at + 1..].split_ascii_whitespace().collect();
                return Ok((&rest[..at], parameters));
            }
            _ => {}
        }
    }
    Err(wrong())
}

fn mail(value: &str) -> Result<Sender, String> {
    let (reverse_path, parameters) = path(value, "FROM:")?;
    let parsed = reverse_path.parse();
    let mut sender = Sender::new(parsed.map_err(|error| format!("the sender {error}"))?);
    for parameter in parameters {
        let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (keyword, value) {
            ("BODY", "8BITMIME") => sender.body = BodyKind::EightBitMime,
            ("SMTPUTF8", "") => sender.smtputf8 = true,
            ("RET", "FULL") => sender.ret = Some(Ret::Full),
            ("RET", "HDRS") => sender.ret = Some(Ret::Headers),
            ("ENVID", envid) => sender.envid = Some(envid.into()),
            ("MT-PRIORITY", value) => {
                let priority = value.parse().ok().and_then(Priority::new);
                sender.priority = Some(priority.ok_or("a priority is -9 to 9")?);
            }
            ("REQUIRETLS", "") => sender.require_tls = true,
            ("HOLDUNTIL", until) => sender.hold_until = Some(HoldUntil::moment(date(until)?)),
            _ => return Err(format!("{parameter} is no parameter of MAIL")),
        }
    }
    Ok(sender)
}

fn rcpt(value: &str) -> Result<Recipient, String> {
    let (forward_path, parameters) = path(value, "TO:")?;
    let parsed = forward_path.parse();
    let mut recipient = Recipient::new(parsed.map_err(|error| format!("a recipient {error}"))?);
    for parameter in parameters {
        match parameter.split_once('=') {
            Some(("NOTIFY", value)) => recipient.notify = notify(value)?,
            Some(("ORCPT", orcpt)) => recipient.orcpt = Some(orcpt.into()),
            _ => return Err(format!("{parameter} is no parameter of RCPT")),
        }
    }
    Ok(recipient)
}

/// Xtext of at most [`XTEXT_SOURCE_BYTES_MAX`] octets (RFC 3461 §4): what is not printable, and `+` and `=`, in hexadecimal.
pub(super) fn xtext(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes().take(XTEXT_SOURCE_BYTES_MAX) {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            _ => out.push_str(&format!("+{octet:02X}")),
        }
    }
    out
}

/// `NEVER`, or some of `SUCCESS,FAILURE,DELAY` (RFC 3461 §4.1).
pub(super) fn notify(value: &str) -> Result<Notify, String> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => success = true,
            "FAILURE" => failure = true,
            "DELAY" => delay = true,
            _ => return Err("want never, or some of success,failure,delay".to_owned()),
        }
    }
    Ok(Notify::On {
        success,
        failure,
        delay,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_read_as_it_is_written() {
        let mut sender = Sender::new("a@b.example".parse().unwrap());
        sender.body = BodyKind::EightBitMime;
        sender.smtputf8 = true;
        sender.ret = Some(Ret::Headers);
        sender.envid = Some("QQ+3D1".into());
        sender.priority = Priority::new(-3);
        sender.require_tls = true;
        sender.hold_until = Some(HoldUntil::stored(WallTime::from_millis(1_795_351_597_000)));
        sender.deliver_by = Some(DeliverBy {
            deadline: WallTime::from_millis(1_795_351_598_000),
            mode: DeliverByMode::Notify,
            trace: true,
        });
        let mut dsn = Recipient::new("c@d.example".parse().unwrap());
        dsn.notify = Notify::On {
            success: false,
            failure: true,
            delay: true,
        };
        dsn.orcpt = Some("rfc822;c@e.example".into());
        let mut never = Recipient::new("\"x> y\"@d.example".parse().unwrap());
        never.notify = Notify::Never;
        let plain = Sender::new("".parse().unwrap());
        for (sender, held) in [(sender, true), (plain, false)] {
            let envelope = Envelope {
                sender,
                recipients: vec![dsn.clone(), never.clone()],
            };
            let id = QueueId::from_u64(33);
            let arrival = WallTime::from_millis(1_795_351_597_000);
            let mut octets = Vec::new();
            write(&mut octets, id, arrival, &envelope, held).unwrap();
            octets.extend_from_slice(b"Subject: x\r\n\r\ntext\r\n");
            let mut input = &octets[..];
            let head = super::envelope(&mut input).unwrap();
            let expected = Head {
                id: Some(id.to_string()),
                arrival: Some(arrival),
                envelope,
                held,
            };
            assert_eq!(head, expected);
            assert_eq!(input, b"Subject: x\r\n\r\ntext\r\n");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, part: &str| {
            let error = envelope(&mut text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        };
        check("Subject: x\r\n", "no X-Turnspool-Mail");
        check("X-Turnspool-Mail: FROM:<>\r\n\r\n", "no X-Turnspool-Rcpt");
        check("X-Turnspool-Mail: FROM:<a b>\r\n", "the sender");
        check("X-Turnspool-Mail: FROM:a\r\n", "want FROM:<address>");
        check(
            "X-Turnspool-Mail: FROM:<> SIZE=3\r\n",
            "no parameter of MAIL",
        );
        check(
            "X-Turnspool-Rcpt: TO:<a@b.example> NOTIFY=x\r\n",
            "want never",
        );
        check("X-Turnspool-Rcpt: TO:<>\r\n", "a recipient");
        check("X-Turnspool-Arrival: now\r\n", "is no date");
        check("X-Turnspool-Until: 2026-11-28T10:00:00Z;X\r\n", "mode is R");
        check("X-Turnspool-Colour: red\r\n", "not known");
        check("X-Turnspool-Mail: FROM:<>", "too long or cut");
        let long = format!("X-Turnspool-Mail: FROM:<{}", "x".repeat(4000));
        check(&long, "too long or cut");
    }
}
