//! What a session is given to deliver, what it gives out to send, and what it reports.

use std::ops::Range;

use super::fault::{Cause, RecipientOutcome, Unfit};
use crate::mail::{BodyForm, Recipient, RecipientIndex, Sender};

/// The core's name for a job. Opaque here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// How the stored body ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BodyEnd {
    /// With CRLF, or it is empty.
    Crlf,
    /// Without. DATA cannot say so: a CRLF is added there.
    Open,
}

/// Which octets occur anywhere in the message, header section included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BodyOctets {
    /// 0 to 127.
    SevenBit,
    /// Some above 127.
    EightBit,
}

/// What must be known of a stored message to send it. The message itself never is
/// in the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyFacts {
    /// Stored octets, header section and trace header included.
    pub octets: u64,
    /// Its dots.
    pub form: BodyForm,
    /// Its octets.
    pub kind: BodyOctets,
    /// Its end.
    pub end: BodyEnd,
}

/// One message for some of its recipients.
#[derive(Clone, Debug)]
pub struct Job {
    /// Named again in every output about it.
    pub id: JobId,
    /// What MAIL is to say.
    pub sender: Sender,
    /// Never empty.
    pub recipients: Vec<(RecipientIndex, Recipient)>,
    /// What is to be sent.
    pub body: BodyFacts,
}

/// How stored octets go to the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transfer {
    /// Unchanged: from the mapped segment, without a copy in user space.
    AsStored,
    /// Through [`super::stuffing::Stuffer`], its `finish` included. Only for a body
    /// that came by BDAT and goes by DATA.
    Stuff,
}

/// A part of what is to be sent, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// These octets.
    Octets(Vec<u8>),
    /// Octets of a stored body.
    Body {
        /// Whose.
        job: JobId,
        /// Which of the stored octets. Today always all.
        range: Range<u64>,
        /// How.
        transfer: Transfer,
    },
}

/// What the hop takes over of the duty to notify (RFC 3461 §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notifies {
    /// It was given the DSN parameters and will report.
    Hop,
    /// It knows no DSN. Who wanted to hear of success is told "relayed".
    Nobody,
    /// It delivers by LMTP: its reply is the delivery. We report.
    Us,
}

/// Whether more is to come for a job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Remaining {
    /// Other recipients are still open.
    Some,
    /// All recipients have had their outcome. The job is forgotten.
    None,
}

/// The end of a transaction, of the recipients that never got into one, or of one recipient
/// who has the message while others of the transaction wait for their answer (LMTP). Over
/// all outcomes of a job each of its recipients comes exactly once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whose.
    pub job: JobId,
    /// Who, and what became of them.
    pub recipients: Vec<(RecipientIndex, RecipientOutcome)>,
    /// Who reports success.
    pub notifies: Notifies,
    /// Whether the job is over.
    pub remaining: Remaining,
}

impl Outcome {
    /// Why the whole message cannot go to this host, if that is so and another host may
    /// do better.
    #[must_use]
    pub fn unfit_host(&self) -> Option<Unfit> {
        let unfit = |outcome: &RecipientOutcome| match outcome {
            RecipientOutcome::Failed(Cause::Unfit(unfit)) if unfit.is_of_host() => Some(*unfit),
            _ => None,
        };
        let mut all = self.recipients.iter().map(|(_, outcome)| unfit(outcome));
        let first = all.next().flatten()?;
        (self.remaining == Remaining::None && all.all(|other| other == Some(first)))
            .then_some(first)
    }

    /// Whether some recipient has the message, and the job is over.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        let delivered = |(_, outcome): &(_, RecipientOutcome)| {
            matches!(outcome, RecipientOutcome::Delivered(_))
        };
        self.remaining == Remaining::None && self.recipients.iter().any(delivered)
    }
}
