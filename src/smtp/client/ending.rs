//! How a client session ends: in good order, politely, or because the connection is of no
//! more use. Its jobs have their outcomes before.

use super::exchange::Hands;
use super::fault::SessionError;
use super::stage::Stage;
use super::{Output, Session, State};
use crate::time::Now;

impl Session {
    /// The connection is of no more use. Behind QUIT that harms nobody.
    pub(super) fn fail(&mut self, now: Now, error: SessionError) {
        let quitting = match &self.state {
            State::Quit => true,
            State::Mail(exchange) => exchange.stage() == Stage::Quit,
            _ => false,
        };
        if !quitting {
            self.report(now, error);
        }
        self.close();
    }

    /// The host talks sense, but we have nothing to say to it: QUIT, so that its log
    /// shows no lost connection (RFC 5321 §4.1.1.10).
    pub(super) fn fail_politely(&mut self, now: Now, error: SessionError) {
        self.report(now, error);
        self.quit_politely(now);
    }

    pub(super) fn quit_politely(&mut self, now: Now) {
        self.wire.command(|out| out.extend_from_slice(b"QUIT\r\n"));
        self.since.wait = now.instant;
        self.state = State::Quit;
    }

    /// Ends the jobs.
    pub(super) fn report(&mut self, now: Now, error: SessionError) {
        self.withdraw_want();
        if let State::Mail(exchange) = std::mem::replace(&mut self.state, State::Over) {
            let mut hands = Hands {
                settings: &self.settings,
                wire: &mut self.wire,
                facts: &mut self.facts,
                now,
            };
            exchange.fail(&error, &mut hands);
        }
        self.facts.push_back(Output::SessionFailed(error));
    }

    pub(super) fn withdraw_want(&mut self) {
        self.facts.retain(|fact| *fact != Output::Want);
    }

    /// The session ends as it should.
    pub(super) fn close(&mut self) {
        self.withdraw_want();
        self.state = State::Over;
        self.facts.push_back(Output::Close);
    }
}
