//! What the schedule does: mail is sent, and a site asks for its own.
//!
//! What this module does not do: it knows no collector and runs none.

use super::calendar::Row;

/// How a collector asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CollectKind {
    /// ETRN (RFC 1985).
    Etrn,
    /// ATRN (RFC 2645).
    Atrn,
    /// A message to the provider.
    Wakeup,
    /// From a mailbox.
    Pop3,
    /// By a program of the site.
    Command,
}

/// Which collectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Collect {
    /// All.
    All,
    /// Those of one kind.
    Kind(CollectKind),
    /// Mailboxes, with what is too large for other times.
    Large,
}

impl Collect {
    /// Whether those of this kind are among them.
    #[must_use]
    pub fn includes(self, kind: CollectKind) -> bool {
        match self {
            Self::All => true,
            Self::Kind(wanted) => wanted == kind,
            Self::Large => kind == CollectKind::Pop3,
        }
    }
}

/// A row of the schedule: when, and what is done then.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Appointment {
    /// When.
    pub row: Row,
    /// Whether a link may be dialled for it. Otherwise it is done only while one is up.
    pub may_dial: bool,
    /// Mail that waits for its time is tried.
    pub send: bool,
    /// What is collected.
    pub collect: Vec<Collect>,
}
