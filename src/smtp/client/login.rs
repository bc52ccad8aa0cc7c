//! AUTH in a client session: whether, by what, and what follows from each answer.

use super::auth::{self, Exchange, Step};
use super::capabilities::Capabilities;
use super::fault::SessionError;
use super::settings::ClearPassword;
use super::stage::Stage;
use super::{Channel, Output, Session, State};
use crate::smtp::answer::Answer;
use crate::smtp::auth::scram::Salted;
use crate::smtp::auth::{Mechanism, Mechanisms};
use crate::time::Now;

impl Session {
    pub(super) fn choose_auth(&mut self, now: Now, peer: Capabilities) {
        let Some(login) = &self.login else {
            return self.begin_mail(now, peer);
        };
        let all = Mechanism::ALL
            .into_iter()
            .fold(Mechanisms::NONE, Mechanisms::with);
        let allowed = match (self.channel, self.settings.clear_password) {
            (Channel::Tls, _) | (_, ClearPassword::Allow) => all,
            (Channel::Clear, ClearPassword::Refuse) => all.without_passwords(),
        };
        match auth::start(&peer, allowed, login, self.channel) {
            Ok((line, exchange)) => {
                self.wire.command(|out| out.extend_from_slice(&line));
                self.state = State::Auth(peer, exchange);
            }
            Err(error) => self.fail_politely(now, error),
        }
    }

    /// The key for AUTH was derived. A session that ended meanwhile needs it no more.
    pub(super) fn derived(&mut self, now: Now, salted: Option<&Salted>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Auth(peer, exchange) => {
                self.since.wait = now.instant;
                match salted.and_then(|salted| auth::derived(exchange, salted)) {
                    Some((line, next)) => {
                        self.wire.command(|out| out.extend_from_slice(&line));
                        self.state = State::Auth(peer, next);
                    }
                    None => {
                        let stage = Stage::Auth;
                        self.fail_politely(now, SessionError::TimedOut { stage });
                    }
                }
            }
            state => self.state = state,
        }
    }

    pub(super) fn auth_answered(
        &mut self,
        now: Now,
        peer: Capabilities,
        exchange: Exchange,
        answer: &Answer<'_>,
    ) {
        let stage = Stage::Auth;
        let login = self.login.as_ref().expect("AUTH was begun with it");
        match auth::answer(exchange, answer, login) {
            Step::Send(line, next) => {
                self.wire.command(|out| out.extend_from_slice(&line));
                self.state = State::Auth(peer, next);
            }
            Step::Derive(derivation, next) => {
                self.facts.push_back(Output::Derive(derivation));
                self.state = State::Auth(peer, next);
            }
            Step::Untrusted(mechanism) => {
                self.fail_politely(now, SessionError::AuthUntrusted { mechanism });
            }
            Step::Done => self.begin_mail(now, peer),
            Step::Refused => self.fail_politely(
                now,
                SessionError::Refused {
                    stage,
                    reply: answer.reply(),
                },
            ),
            Step::OutOfOrder => self.fail(
                now,
                SessionError::OutOfOrder {
                    stage,
                    reply: answer.reply(),
                },
            ),
        }
    }
}
