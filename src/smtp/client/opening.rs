//! Between the hello and what the session is for: STARTTLS, and ATRN where it asks for
//! mail instead of delivering some (RFC 2645). AUTH is in `login`, ETRN in `asking`.

use std::sync::Arc;

use super::asking::Ask;
use super::capabilities::Capabilities;
use super::settings::{Settings, TlsPolicy};
use super::{Channel, Client, Output, Session, SessionError, Stage, State};
use crate::time::Now;

impl Client {
    /// A session that asks a provider for our mail, once it is connected, and delivers
    /// none.
    #[must_use]
    pub fn asking(settings: Arc<Settings>, ask: Ask, now: Now) -> Self {
        let mut client = Self::new(settings, now);
        client.session.ask = Some(ask);
        client
    }
}

impl Session {
    pub(super) fn choose_tls(&mut self, now: Now, peer: Capabilities) {
        if self.channel == Channel::Tls {
            return self.choose_auth(now, peer);
        }
        match (self.settings.tls, peer.starttls) {
            (TlsPolicy::None, _) | (TlsPolicy::Opportunistic, false) => self.choose_auth(now, peer),
            (TlsPolicy::Required, false) => {
                self.fail_politely(now, SessionError::TlsNotOffered);
            }
            (TlsPolicy::Opportunistic | TlsPolicy::Required, true) => {
                self.wire
                    .command(|out| out.extend_from_slice(b"STARTTLS\r\n"));
                self.state = State::StartTls(peer);
            }
        }
    }

    /// The provider said 250. It is to wait for our greeting now: what stands behind its
    /// reply is no command to us, whatever it looks like.
    pub(super) fn turned(&mut self, now: Now, talked_on: bool) {
        let State::Turned(turned) = std::mem::replace(&mut self.state, State::Over) else {
            unreachable!("the caller looked");
        };
        if talked_on {
            let stage = Stage::Turn;
            self.state = State::Turn;
            return self.fail(now, SessionError::TooMuch { stage });
        }
        self.facts.push_back(Output::Turned(turned));
    }
}
