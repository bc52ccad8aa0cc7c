//! Records in words, one line each, for `spool dump` and for reports.
//!
//! Whatever a client said is quoted and escaped: a line of this text is a line on
//! a terminal, whoever wrote the message.

use crate::field::DecodeError;
use crate::frame::RecordKind;
use crate::record::{
    AttemptRecord, BeginRecord, ChunkRecord, DoneRecord, EndRecord, EnvelopeRecord, Extent, Mark,
    MarkRecord, NoteField, NoteRecord, Notify, PartialRecord, RecipientNumber, Record, SealRecord,
    SenderFields, SessionFields, Told,
};
use std::fmt::{self, Display, Formatter};

/// Crockford's alphabet: no I, L, O, U, so that an id survives a telephone call.
const QUEUE_ID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 13 digits of 5 bits hold 64.
const QUEUE_ID_LETTERS: usize = 13;
/// Octets of a key or value that are shown; the rest is counted.
const OCTETS_SHOWN_MAX: usize = 64;
/// Recipients, extents and so on that are shown; the rest is counted.
const ELEMENTS_SHOWN_MAX: usize = 100;

/// A queue id as the operator knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueIdText(pub u64);

impl Display for QueueIdText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for letter in (0..QUEUE_ID_LETTERS).rev() {
            let digit = (self.0 >> (5 * letter)) & 31;
            write!(f, "{}", char::from(QUEUE_ID_DIGITS[digit as usize]))?;
        }
        Ok(())
    }
}

/// A record in words.
#[derive(Clone, Copy, Debug)]
pub struct RecordText<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// What it says.
    pub payload: &'a [u8],
}

impl Display for RecordText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        let payload = self.payload;
        match self.kind {
            RecordKind::Envelope => words(f, EnvelopeRecord::decode(payload), envelope),
            RecordKind::Chunk => words(f, ChunkRecord::decode(payload), chunk),
            RecordKind::Seal => words(f, SealRecord::decode(payload), seal),
            RecordKind::Done => words(f, DoneRecord::decode(payload), done),
            RecordKind::Mark => words(f, MarkRecord::decode(payload), mark),
            RecordKind::Attempt => words(f, AttemptRecord::decode(payload), attempt),
            RecordKind::Partial => words(f, PartialRecord::decode(payload), partial),
            RecordKind::Note => words(f, NoteRecord::decode(payload), note),
            RecordKind::Begin => words(f, BeginRecord::decode(payload), |f, begin| {
                write!(
                    f,
                    "stamp {}, next queue id {}",
                    begin.stamp.0,
                    QueueIdText(begin.queue_id_next)
                )
            }),
            RecordKind::End => words(f, EndRecord::decode(payload), |f, end| {
                write!(f, "{} records before it", end.records)
            }),
        }
    }
}

fn words<T>(
    f: &mut Formatter<'_>,
    record: Result<T, DecodeError>,
    write: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    match record {
        Ok(record) => write(f, &record),
        Err(error) => write!(f, "not understood: {error}"),
    }
}

/// ` name "text"`, if it is there.
fn text_option(f: &mut Formatter<'_>, name: &str, text: Option<&str>) -> fmt::Result {
    match text {
        Some(text) => write!(f, ", {name} {text:?}"),
        None => Ok(()),
    }
}

/// ` name number`, if it is there.
fn number_option<N: Display>(f: &mut Formatter<'_>, name: &str, number: Option<N>) -> fmt::Result {
    match number {
        Some(number) => write!(f, ", {name} {number}"),
        None => Ok(()),
    }
}

fn flag(f: &mut Formatter<'_>, name: &str, set: bool) -> fmt::Result {
    if set { write!(f, ", {name}") } else { Ok(()) }
}

fn list<T>(
    f: &mut Formatter<'_>,
    elements: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let more = elements.len().saturating_sub(ELEMENTS_SHOWN_MAX);
    f.write_str("[")?;
    for (index, element) in elements.take(ELEMENTS_SHOWN_MAX).enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        write(f, element)?;
    }
    if more > 0 {
        write!(f, ", and {more} more")?;
    }
    f.write_str("]")
}

fn octets(f: &mut Formatter<'_>, octets: &[u8]) -> fmt::Result {
    let shown = &octets[..octets.len().min(OCTETS_SHOWN_MAX)];
    write!(f, "\"{}\"", shown.escape_ascii())?;
    if shown.len() < octets.len() {
        write!(f, " and {} octets more", octets.len() - shown.len())?;
    }
    Ok(())
}

fn envelope(f: &mut Formatter<'_>, record: &EnvelopeRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} generation {} arrival {} from {:?}",
        QueueIdText(record.queue_id),
        record.generation,
        record.arrival_ms,
        record.sender.reverse_path
    )?;
    f.write_str(" to ")?;
    list(f, record.recipients.iter(), |f, recipient| {
        write!(f, "{:?}", recipient.forward_path)?;
        match recipient.notify {
            Notify::Unspecified => {}
            Notify::Never => f.write_str(" NOTIFY=NEVER")?,
            Notify::On {
                success,
                failure,
                delay,
            } => {
                f.write_str(" NOTIFY=")?;
                let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                let set = words.iter().filter(|(set, _)| *set);
                for (index, (_, word)) in set.enumerate() {
                    write!(f, "{}{word}", if index == 0 { "" } else { "," })?;
                }
            }
        }
        match recipient.orcpt {
            Some(orcpt) => write!(f, " ORCPT={orcpt:?}"),
            None => Ok(()),
        }
    })?;
    sender(f, &record.sender)?;
    session(f, &record.session)?;
    text_option(f, "queue", record.queue_name)?;
    if !record.attributes.is_empty() {
        f.write_str(", attributes ")?;
        list(f, record.attributes.iter(), |f, attribute| {
            write!(f, "{} = ", attribute.tag)?;
            octets(f, attribute.value)
        })?;
    }
    Ok(())
}

fn sender(f: &mut Formatter<'_>, sender: &SenderFields<'_>) -> fmt::Result {
    write!(f, ", {}", sender.body)?;
    flag(f, "SMTPUTF8", sender.smtputf8)?;
    flag(f, "REQUIRETLS", sender.require_tls)?;
    number_option(f, "RET", sender.ret)?;
    text_option(f, "ENVID", sender.envid)?;
    number_option(f, "priority", sender.priority)?;
    if let Some(by) = sender.deliver_by {
        let trace = if by.trace { "T" } else { "" };
        write!(f, ", by {};{}{trace}", by.deadline_ms, by.mode)?;
    }
    number_option(f, "hold until", sender.hold_until_ms)
}

fn session(f: &mut Formatter<'_>, session: &SessionFields<'_>) -> fmt::Result {
    text_option(f, "client", session.client_address)?;
    text_option(f, "host", session.client_host)?;
    text_option(f, "name", session.client_name)?;
    text_option(f, "protocol", session.protocol)?;
    text_option(f, "user", session.user)?;
    text_option(f, "TLS", session.tls)?;
    text_option(f, "checks", session.checks)
}

fn chunk(f: &mut Formatter<'_>, record: &ChunkRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} number {}, {} octets",
        QueueIdText(record.queue_id),
        record.sequence,
        record.body.len()
    )
}

fn extent(f: &mut Formatter<'_>, extent: Extent) -> fmt::Result {
    write!(
        f,
        "{} octets at segment {} offset {}",
        extent.length, extent.segment.0, extent.offset.0
    )
}

fn number(f: &mut Formatter<'_>, number: RecipientNumber) -> fmt::Result {
    write!(f, "{}", number.0)
}

fn seal(f: &mut Formatter<'_>, record: &SealRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} generation {} stamp {} arrival {}, {} octets, {}, checksum {:08x}",
        QueueIdText(record.queue_id),
        record.generation,
        record.stamp.0,
        record.arrival_ms,
        record.octets,
        record.form,
        record.checksum.as_u32()
    )?;
    flag(f, "no CRLF at its end", !record.ends_with_crlf)?;
    flag(f, "8 bit", record.eight_bit)?;
    flag(f, "held", record.held)?;
    number_option(
        f,
        "priority",
        (record.priority != 0).then_some(record.priority),
    )?;
    if let Some(deadline) = record.deadline {
        write!(f, ", deadline {};{}", deadline.at_ms, deadline.mode)?;
    }
    number_option(f, "hold until", record.hold_until_ms)?;
    text_option(f, "queue", record.queue_name)?;
    text_option(f, "next hop", record.next_hop)?;
    number_option(f, "carried from", record.carried_from)?;
    write!(
        f,
        ", envelope at segment {} offset {}, body ",
        record.envelope.segment.0, record.envelope.offset.0
    )?;
    list(f, record.extents.iter(), extent)?;
    f.write_str(", recipients ")?;
    list(f, record.domains.iter(), |f, run| {
        write!(f, "{} at {:?}", run.recipients, run.domain)
    })?;
    if !record.done.is_empty() {
        f.write_str(", done ")?;
        list(f, record.done.iter(), number)?;
    }
    if !record.notes.is_empty() {
        f.write_str(", notes ")?;
        list(f, record.notes.iter(), note_field)?;
    }
    Ok(())
}

fn done(f: &mut Formatter<'_>, record: &DoneRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} of {} stamp {}, recipients ",
        QueueIdText(record.queue_id),
        record.message,
        record.stamp.0
    )?;
    list(f, record.recipients.iter(), |f, field| {
        write!(f, "{} {}", field.recipient.0, field.outcome)
    })
}

fn mark(f: &mut Formatter<'_>, record: &MarkRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} stamp {}, ",
        QueueIdText(record.queue_id),
        record.stamp.0
    )?;
    match record.mark {
        Mark::Hold { queue_name } => {
            f.write_str("hold")?;
            text_option(f, "queue", queue_name)
        }
        Mark::Release => f.write_str("release"),
        Mark::Requeue { next_hop: None } => f.write_str("requeue by the routes"),
        Mark::Requeue {
            next_hop: Some(next_hop),
        } => write!(f, "requeue to {next_hop:?}"),
    }
}

fn attempt(f: &mut Formatter<'_>, record: &AttemptRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{} stamp {}, {} attempts, next {}, recipients ",
        QueueIdText(record.queue_id),
        record.stamp.0,
        record.attempts,
        record.next_attempt_ms
    )?;
    list(f, record.recipients.iter(), number)?;
    for (what, text) in [(Told::DELAY, "delay"), (Told::DEADLINE, "deadline")] {
        if record.told.contains(what) {
            write!(f, ", told of {text}")?;
        }
    }
    write!(f, ", {:?}", record.error)
}

fn partial(f: &mut Formatter<'_>, record: &PartialRecord<'_>) -> fmt::Result {
    write!(
        f,
        "{:?} of {:?} stamp {}, {}, {}, {} canonical octets, {}, checksum {:08x}",
        record.transid,
        record.identity,
        record.stamp.0,
        record.state,
        QueueIdText(record.queue_id),
        record.offset,
        record.form,
        record.checksum.as_u32()
    )?;
    flag(f, "8 bit", record.eight_bit)?;
    write!(
        f,
        ", envelope at segment {} offset {}, body ",
        record.envelope.segment.0, record.envelope.offset.0
    )?;
    list(f, record.extents.iter(), extent)
}

fn note_field(f: &mut Formatter<'_>, note: NoteField<'_>) -> fmt::Result {
    write!(f, "{} ", note.tag)?;
    octets(f, note.key)?;
    match note.value {
        Some(value) => {
            f.write_str(" = ")?;
            octets(f, value)
        }
        None => f.write_str(" taken back"),
    }
}

fn note(f: &mut Formatter<'_>, record: &NoteRecord<'_>) -> fmt::Result {
    write!(f, "stamp {}, ", record.stamp.0)?;
    let note = NoteField {
        tag: record.tag,
        key: record.key,
        value: record.value,
    };
    note_field(f, note)
}
