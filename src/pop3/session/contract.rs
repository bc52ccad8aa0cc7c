//! What happens to a session, and what it wants.

use std::ops::Range;

use crate::pop3::fault::{Fault, Refusal};
use crate::pop3::{Entry, MessageNumber};
use crate::sasl::scram::{Derivation, Salted};
use crate::wire::text::MessageFacts;

/// What is to be done with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// RETR: all of it.
    Retrieve(MessageNumber),
    /// TOP n 0: its header section.
    Top(MessageNumber),
    /// DELE: it goes when the session ends in good order.
    Delete(MessageNumber),
    /// QUIT, behind all that was told before.
    Quit,
}

/// What happens to the session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection is there; with [`Tls::Implicit`](crate::pop3::settings::Tls::Implicit) it is safe.
    Connected,
    /// Octets came.
    Received(&'a [u8]),
    /// TLS is there, as [`Output::StartTls`] wanted it.
    Secured,
    /// The outcome of [`Output::Derive`]; `None` if there was no time for it.
    Derived(Option<Salted>),
    /// TLS could not be had: why, for the operator.
    TlsFailed(String),
    /// The server will send no more.
    PeerClosed,
    /// This is to be done. After [`Output::Listed`], and not after [`Command::Quit`].
    Command(Command),
    /// What was not begun is not begun any more, but for deletions; then QUIT.
    Stop,
    /// The deadline may have come.
    Timer,
}

/// What the session wants, or tells.
#[derive(PartialEq, Eq, Debug)]
pub enum Output {
    /// Send these octets. They may hold a password: never into a log.
    Send(Vec<u8>),
    /// Begin TLS; answer with [`Input::Secured`].
    StartTls,
    /// Derive a key, on a thread that has the time; answer with [`Input::Derived`].
    Derive(Derivation),
    /// This is in the mailbox. Time for commands.
    Listed(Vec<Entry>),
    /// The text of a message begins.
    Begin(MessageNumber),
    /// Text: these octets of the input that was handed in last.
    Text(Range<usize>),
    /// Text that is not in the input.
    TextConstant(&'static [u8]),
    /// The text of the message is complete.
    End(MessageNumber, MessageFacts),
    /// The server does not do this.
    Refused(Command, Refusal),
    /// The message is marked as deleted.
    Deleted(MessageNumber),
    /// The session is over. `Ok`: the server has confirmed QUIT, and deleted.
    Ended(Result<(), Fault>),
    /// Close the connection when all is sent.
    Close,
}
