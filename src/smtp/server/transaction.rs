//! A transaction inside a server session (RFC 5321 §3.3), from MAIL to the end of
//! data. Each stage is a value that holds what is valid in it; RSET drops it.

use crate::mail::{Recipient, Sender};
use crate::smtp::data::{Fault, Scanner};
use crate::smtp::reply::{self, Refusal};
use crate::smtp::syntax::Chunk;
use crate::smtp::trace;

/// What stands between two commands.
#[derive(Debug)]
pub(crate) enum Open {
    /// No transaction.
    Nothing,
    /// MAIL was accepted; RCPTs may come.
    Envelope(Box<Gathering>),
    /// A chunk was accepted that was not the last (RFC 3030).
    Chunks(Box<Incoming>),
    /// As [`Open::Chunks`], but the message was lost on our side between two
    /// chunks: the next one gets this reply.
    Lost(Box<Refusal>),
}

/// The envelope as far as it was accepted.
#[derive(Debug)]
pub(crate) struct Gathering {
    pub(crate) sender: Sender,
    /// RFC 1870.
    pub(crate) declared: Option<u64>,
    pub(crate) recipients: Vec<Recipient>,
    /// Whether any RCPT was refused: then DATA without a recipient is not out of
    /// order, it merely has nobody to go to.
    pub(crate) refused: Refused,
}

/// Whether a RCPT of the transaction was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    None,
    Some,
}

/// How the text will come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Data,
    Bdat(Chunk),
}

/// The envelope was handed over; the core reserves its room and names it.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) draft: trace::Draft,
    pub(crate) way: Way,
}

/// Text is coming.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) scanner: Scanner,
    pub(crate) fate: Fate,
}

/// What becomes of the text that is coming.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It goes to the spool.
    Kept,
    /// The scanner found a [`Fault`]: the text is read over to its end.
    Faulty,
    /// The core cannot keep it: the text is read over to its end.
    Lost(Refusal),
}

impl Incoming {
    /// The refusal that the end of the text is answered with, if it is one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.fate {
            Fate::Lost(refusal) => Some(refusal.clone()),
            Fate::Kept | Fate::Faulty => self.scanner.fault().map(|fault| match fault {
                Fault::TooBig => reply::MESSAGE_TOO_BIG,
                Fault::TooManyHops => reply::TOO_MANY_HOPS,
                Fault::LineTooLong => reply::TEXT_LINE_TOO_LONG,
                Fault::BareNewline => reply::TEXT_BARE_NEWLINE,
            }),
        }
    }
}
