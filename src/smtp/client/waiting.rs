//! How long a session waits, and for whom it gives way.
//!
//! Invariants:
//! - Each wait for a reply has its own end, which octets of the reply do not move.
//! - Each transaction has an end, however many replies it has.
//! - What leaves has an end, which is the farther the more it is.

use std::time::Duration;

use super::fault::SessionError;
use super::stage::Stage;
use super::{Client, Session, State};
use crate::time::{Instant, Now};

/// When what is going on began.
#[derive(Debug)]
pub(super) struct Beginnings {
    /// The wait.
    pub(super) wait: Instant,
    /// The commands of the transaction whose replies are awaited, or its end.
    pub(super) transaction: Instant,
    /// That octets leave.
    pub(super) leaving: Instant,
}

impl Beginnings {
    /// All of it now.
    pub(super) const fn at(now: Instant) -> Self {
        Self {
            wait: now,
            transaction: now,
            leaving: now,
        }
    }
}

impl Client {
    /// When [`super::Input::Timer`] is due. Only a session that is over has none.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    /// Since when the host keeps us waiting, where the session could end now and nothing
    /// would be sent twice: no content is on its way to it.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        let session = &self.session;
        let may_end = match session.stage() {
            Stage::Connect
            | Stage::Greeting
            | Stage::Hello
            | Stage::StartTls
            | Stage::Handshake
            | Stage::Auth
            | Stage::Reset
            | Stage::Mail
            | Stage::Rcpt
            | Stage::Data => true,
            Stage::Release
            | Stage::Turn
            | Stage::Sending
            | Stage::End
            | Stage::Idle
            | Stage::Quit => false,
        };
        let has_content = match &session.state {
            State::Mail(exchange) => exchange.has_content_under_way(),
            State::Over => true,
            _ => false,
        };
        (may_end && !has_content).then_some(session.since.wait)
    }
}

impl Session {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = self.stage();
        let timeouts = &self.settings.timeouts;
        let wait = self.since.wait + timeouts.of(stage);
        let whole = match stage {
            Stage::Reset | Stage::Mail | Stage::Rcpt | Stage::Data | Stage::End => {
                self.since.transaction + timeouts.transaction
            }
            Stage::Sending => {
                let octets = self.wire.leaving_bytes();
                let worth = octets.saturating_mul(1000) / timeouts.sending_rate_min.max(1);
                self.since.leaving + timeouts.sending + Duration::from_millis(worth)
            }
            _ => wait,
        };
        match self.state {
            State::Over => None,
            _ => Some(wait.min(whole)),
        }
    }

    pub(super) fn timer(&mut self, now: Now) {
        let due = self.deadline().is_some_and(|due| due <= now.instant);
        if !due {
            return;
        }
        match self.stage() {
            Stage::Idle => self.quit(now),
            stage => self.fail(now, SessionError::TimedOut { stage }),
        }
    }

    /// Others have waited for long enough.
    pub(super) fn give_way(&mut self, now: Now) {
        let stage = self.stage();
        self.fail(now, SessionError::GaveWay { stage });
    }
}
