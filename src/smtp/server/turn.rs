//! ATRN (RFC 2645) from the provider's side, as far as the session goes: who may ask,
//! when, and that nothing comes behind the question.
//!
//! Invariants:
//! - Only who has authenticated gets as far as the question.
//! - Octets that came before our `250` are never taken for the customer's greeting:
//!   whoever sent them believed to talk to somebody else, and the session ends.

use super::{Output, Session, State, Unread, Verdict};
use crate::mail::{Domain, Receipt};
use crate::smtp::reply;
use crate::smtp::server::transaction::Open;
use crate::smtp::syntax::Command;
use crate::smtp::turn::ToCustomer;

/// RFC 2645 §5.1 and §5.2, and what does no harm: NOOP and RSET of clients that say them
/// by habit, HELO of who wants to hear 530.
pub(super) fn is_for_odmr(command: &Command) -> bool {
    match command {
        Command::Ehlo(_)
        | Command::Helo(_)
        | Command::StartTls
        | Command::Auth(_)
        | Command::Atrn(_)
        | Command::Rset
        | Command::Noop
        | Command::Quit => true,
        Command::Mail(..)
        | Command::Rcpt(_)
        | Command::Data
        | Command::Bdat(_)
        | Command::Vrfy
        | Command::Etrn(_)
        | Command::Help => false,
    }
}

impl<R: Receipt> Session<R> {
    pub(super) fn atrn(&mut self, domains: Vec<Domain>, behind: Unread) {
        if self.user().is_none() {
            self.rebuff(reply::AUTH_NEEDED);
        } else if self.hello.is_none() {
            self.refuse(&reply::HELLO_FIRST);
        } else if behind == Unread::Some {
            self.refuse(&reply::TURN_EARLY_TALK);
            self.close();
        } else {
            self.state = State::AskedTurn(domains.into());
            self.outputs.push_back(Output::Ask);
        }
    }

    /// The core has answered.
    pub(super) fn turn_answered(&mut self, verdict: Verdict) {
        self.state = State::Commands(Open::Nothing);
        if verdict != Verdict::Accept {
            return self.answered_no(verdict);
        }
        self.reply(&reply::TURNING);
        self.flush();
        let turned = ToCustomer::new(self.peer.clone());
        self.outputs.push_back(Output::Turn(turned));
        self.state = State::Closed;
    }

    /// Octets came while ATRN waited for its answer. All of them are dropped; the answer
    /// comes too late.
    pub(super) fn talked_into_turn(&mut self, octets: &[u8]) -> usize {
        self.state = State::Commands(Open::Nothing);
        self.refuse(&reply::TURN_EARLY_TALK);
        self.close();
        octets.len()
    }
}

#[cfg(test)]
mod tests;
