//! AUTH in a session (RFC 4954): who may try, the exchange line by line, and what is
//! said of its end.
//!
//! A client that failed waits for [`AuthOffer::failure_pause`] before it is told, counted
//! from its last line: so the reply does not tell how long the check took.

use super::transaction::Open;
use super::{Counts, Output, Session, State};
use crate::mail::Receipt;
use crate::smtp::auth::scram::Keys;
use crate::smtp::auth::server::{self, Claiming, Exchange, Ourselves, Step};
use crate::smtp::auth::{Mechanism, Mechanisms, Nonce, Response, base64};
use crate::smtp::reply::{self, Refusal};
use crate::smtp::settings::AuthOffer;
use crate::smtp::syntax::Auth;
use crate::user::UserName;

/// What became of the attempts of a session.
#[derive(Default, Debug)]
pub(super) struct Logins {
    /// Who the client is.
    pub(super) user: Option<UserName>,
    failed: u32,
}

/// AUTH came, and may be taken; the core says whether this client may try now.
#[derive(Debug)]
pub(super) struct Asking {
    mechanism: Mechanism,
    initial: Option<Response>,
}

/// An exchange that waits for a line of the client.
#[derive(Debug)]
pub(super) struct Running {
    mechanism: Mechanism,
    exchange: Exchange,
}

/// An exchange that waits for the core.
#[derive(Debug)]
pub(super) struct Judged {
    mechanism: Mechanism,
    pub(super) claiming: Claiming,
}

impl Asking {
    pub(super) const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }
}

/// What the core says to [`Question::AuthBegins`](super::Question::AuthBegins) and
/// [`Question::Login`](super::Question::Login).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthAnswer {
    /// To the first: go on, with this randomness.
    Begin(Nonce),
    /// To the first: this client has failed too often, 421.
    Banned,
    /// To [`Claim::Keys`](server::Claim::Keys): these, or those of nobody.
    Keys(Keys),
    /// To any other claim: it is true, and this is the user.
    Known(UserName),
    /// It is not.
    Wrong,
    /// It cannot be found out now: 454.
    Later,
}

/// What of it can be used now, and what stands in EHLO.
pub(super) fn offered<R: Receipt>(session: &Session<R>) -> Mechanisms {
    let Some(auth) = &session.settings.offers.auth else {
        return Mechanisms::NONE;
    };
    match &session.peer.tls {
        None => auth.in_clear,
        Some(tls) if tls.client.is_some() => auth.under_tls.with(Mechanism::External),
        Some(_) => auth.under_tls,
    }
}

impl<R: Receipt> Session<R> {
    /// As if AUTH had succeeded.
    #[cfg(test)]
    pub(super) fn set_user(&mut self, user: &str) {
        let user = Some(user.parse().expect("a user name"));
        self.logins.get_or_insert_default().user = user;
    }

    fn auth_offer(&self) -> &AuthOffer {
        let auth = self.settings.offers.auth.as_ref();
        auth.expect("AUTH is no command where it is not offered")
    }

    /// 530, where mail is taken from users only.
    pub(super) fn needs_auth(&self) -> bool {
        self.user().is_none() && self.settings.offers.auth.is_some_and(|auth| auth.needed)
    }

    pub(super) fn auth(&mut self, auth: Auth) {
        let State::Commands(open) = &self.state else {
            unreachable!("commands are read between commands")
        };
        let Auth { mechanism, initial } = auth;
        let refusal = if self.hello.is_none() {
            reply::HELLO_FIRST
        } else if !matches!(open, Open::Nothing) {
            reply::NESTED_MAIL
        } else if self.user().is_some() {
            reply::AUTH_TWICE
        } else {
            match mechanism {
                None => reply::AUTH_UNKNOWN,
                Some(mechanism) if offered(self).contains(mechanism) => {
                    let initial = match initial.as_deref() {
                        None => Some(None),
                        Some(text) => initial_response(text).map(Some),
                    };
                    let Some(initial) = initial else {
                        return self.refuse(&reply::AUTH_BASE64);
                    };
                    self.state = State::AskedAuth(Box::new(Asking { mechanism, initial }));
                    self.outputs.push_back(Output::Ask);
                    return;
                }
                Some(mechanism) if self.auth_offer().under_tls.contains(mechanism) => {
                    reply::AUTH_NEEDS_TLS
                }
                Some(_) => reply::AUTH_NOT_HERE,
            }
        };
        self.refuse(&refusal);
    }

    /// A line of the exchange, without its CRLF.
    pub(super) fn auth_line(&mut self, running: Running, line: &[u8]) {
        let Running {
            mechanism,
            exchange,
        } = running;
        if line == b"*" {
            self.auth_broken(&reply::AUTH_CANCELLED);
        } else if let Some(response) = base64::decode(line) {
            self.auth_step(mechanism, exchange.response(&response));
        } else {
            self.auth_broken(&reply::AUTH_BASE64);
        }
    }

    /// The exchange is over, and nobody was wrong about a password.
    pub(super) fn auth_broken(&mut self, refusal: &Refusal) {
        self.state = State::Commands(Open::Nothing);
        self.refuse(refusal);
    }

    fn auth_step(&mut self, mechanism: Mechanism, step: Step) {
        match step {
            Step::Challenge(challenge, exchange) => {
                let out = self.out();
                out.extend_from_slice(b"334 ");
                base64::encode(&challenge, out);
                out.extend_from_slice(b"\r\n");
                self.state = State::Auth(Box::new(Running {
                    mechanism,
                    exchange,
                }));
            }
            Step::Ask(claiming) => {
                self.state = State::AskedLogin(Box::new(Judged {
                    mechanism,
                    claiming,
                }));
                self.outputs.push_back(Output::Ask);
            }
            Step::Proven(user) => self.known(mechanism, user),
            Step::Wrong(user) => self.wrong(mechanism, user),
            Step::Malformed => self.auth_broken(&reply::AUTH_MALFORMED),
        }
    }

    pub(super) fn auth_answered(&mut self, answer: AuthAnswer) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::AskedAuth(asking) => {
                self.waiting_since = self.now.instant;
                let Asking { mechanism, initial } = *asking;
                match answer {
                    AuthAnswer::Begin(nonce) => {
                        let ourselves = Ourselves {
                            hostname: &self.settings.hostname,
                            time: self.now.wall,
                            nonce,
                        };
                        let step = server::begin(mechanism, initial.as_deref(), &ourselves);
                        self.auth_step(mechanism, step);
                    }
                    AuthAnswer::Banned => {
                        self.state = State::Commands(Open::Nothing);
                        self.dismiss(&reply::AUTH_BANNED);
                    }
                    answer => panic!("{answer:?} to the question whether AUTH may begin"),
                }
            }
            State::AskedLogin(judged) => {
                let Judged {
                    mechanism,
                    claiming,
                } = *judged;
                match answer {
                    AuthAnswer::Keys(keys) => {
                        self.waiting_since = self.now.instant;
                        self.auth_step(mechanism, claiming.keys(keys));
                    }
                    AuthAnswer::Known(user) => self.known(mechanism, user),
                    AuthAnswer::Wrong => {
                        let user = claiming.claim.user().cloned();
                        self.wrong(mechanism, user);
                    }
                    AuthAnswer::Later => {
                        self.waiting_since = self.now.instant;
                        self.auth_broken(&reply::AUTH_LATER);
                    }
                    answer => panic!("{answer:?} to a claim"),
                }
            }
            state => panic!("an answer about AUTH without a question, in {state:?}"),
        }
    }

    fn known(&mut self, mechanism: Mechanism, user: UserName) {
        self.waiting_since = self.now.instant;
        self.logins.get_or_insert_default().user = Some(user);
        // What went before it was no abuse, or was paid for with pauses.
        self.counts = Counts::default();
        self.outputs.push_back(Output::LoggedIn { mechanism });
        self.state = State::Commands(Open::Nothing);
        self.reply(&reply::AUTH_DONE);
    }

    /// From the last line of the client on, so `waiting_since` stays.
    fn wrong(&mut self, mechanism: Mechanism, user: Option<UserName>) {
        self.logins.get_or_insert_default().failed += 1;
        self.outputs
            .push_back(Output::LoginFailed { mechanism, user });
        self.flush();
        let until = self.waiting_since + self.auth_offer().failure_pause;
        self.state = State::LoginRefused { until };
    }

    /// The pause of a client that failed is over.
    pub(super) fn wrong_is_told(&mut self) {
        self.waiting_since = self.now.instant;
        self.state = State::Commands(Open::Nothing);
        let failed = self.logins.as_ref().map_or(0, |logins| logins.failed);
        if failed >= self.auth_offer().failures_max {
            self.dismiss(&reply::AUTH_TOO_OFTEN);
        } else {
            self.refuse(&reply::AUTH_WRONG);
        }
    }
}

/// RFC 4954 §4: `=` is the empty response.
fn initial_response(text: &[u8]) -> Option<Response> {
    match text {
        b"=" => base64::decode(b""),
        b"" => None,
        text => base64::decode(text),
    }
}
