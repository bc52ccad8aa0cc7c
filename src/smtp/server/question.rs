//! What a session asks the core.

use super::{Session, State};
use crate::mail::{Domain, Receipt, Recipient, Sender};
use crate::smtp::auth::Mechanism;
use crate::smtp::auth::server::Claim;
use crate::smtp::etrn::Node;

/// What the core is asked.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Is mail from this sender taken?
    Sender {
        /// What MAIL said.
        sender: &'a Sender,
        /// RFC 1870; within [`Settings::message_bytes_max`](crate::smtp::settings::Settings::message_bytes_max).
        declared: Option<u64>,
    },
    /// Is mail to this recipient taken?
    Recipient {
        /// What MAIL said.
        sender: &'a Sender,
        /// What RCPT said.
        recipient: &'a Recipient,
        /// The recipients that were accepted before.
        accepted: &'a [Recipient],
    },
    /// Does the user get its mail over this connection (RFC 2645)? A yes is 250, and
    /// then [`Output::Turn`](super::Output::Turn). Only where the user has authenticated.
    Turn {
        /// What ATRN said. Empty: all of the user's.
        domains: &'a [Domain],
    },
    /// What is this client's of what it wants released? Answered by
    /// [`Input::Released`](super::Input::Released).
    Release {
        /// What it named.
        node: &'a Node,
    },
    /// A command that moves no mail is refused: how long does the client wait for that?
    /// Answered by [`Input::Pause`](super::Input::Pause).
    Rebuff,
    /// May this client try to authenticate?
    AuthBegins {
        /// With what.
        mechanism: Mechanism,
    },
    /// Is this true?
    Login(&'a Claim),
}

impl<R: Receipt> Session<R> {
    /// What [`Output::Ask`](super::Output::Ask) asks.
    #[must_use]
    pub fn question(&self) -> Option<Question<'_>> {
        match &self.state {
            State::AskedSender(gathering) => Some(Question::Sender {
                sender: &gathering.sender,
                declared: gathering.declared,
            }),
            State::AskedRecipient(gathering, recipient) => Some(Question::Recipient {
                sender: &gathering.sender,
                recipient,
                accepted: &gathering.recipients,
            }),
            State::AskedTurn(domains) => Some(Question::Turn { domains }),
            State::AskedRelease(node) => Some(Question::Release { node }),
            State::AskedPause(_) => Some(Question::Rebuff),
            State::AskedAuth(asking) => Some(Question::AuthBegins {
                mechanism: asking.mechanism(),
            }),
            State::AskedLogin(judged) => Some(Question::Login(&judged.claiming.claim)),
            _ => None,
        }
    }
}
