//! Logging in, in the course of a session.

use super::{Asked, Phase, Session};
use crate::pop3::fault::Fault;
use crate::pop3::login::{self, Exchange, Method, Step};
use crate::pop3::response::Status;
use crate::pop3::session::Output;
use crate::sasl::scram::Salted;
use crate::time::Now;

impl Session {
    pub(super) fn log_in(&mut self, now: Now, method: Method) {
        let timestamp = self.timestamp.as_deref();
        let pipelining = self.peer.pipelining;
        let (octets, exchange) =
            login::start(method, &self.login, timestamp, self.nonce, pipelining);
        if exchange == Exchange::UserAhead {
            self.asked.push_back(Asked::Login);
        }
        self.phase = Phase::Login(exchange);
        self.logged_in = true;
        self.ask_login(now, octets.to_vec());
    }

    /// An answer came that is no refusal.
    pub(super) fn login_goes_on(&mut self, now: Now, status: &Status) {
        let Phase::Login(exchange) = std::mem::replace(&mut self.phase, Phase::Listing) else {
            unreachable!("a login is answered while logging in");
        };
        self.answered();
        match login::answer(exchange, status, &self.login) {
            Step::Send(octets, next) => {
                self.phase = Phase::Login(next);
                self.ask_login(now, octets.to_vec());
            }
            Step::Wait(next) => self.phase = Phase::Login(next),
            Step::Derive(derivation, next) => {
                self.phase = Phase::Login(next);
                self.outputs.push_back(Output::Derive(derivation));
            }
            Step::Done => match (self.peer.uidl, self.peer.pipelining) {
                (true, true) => {
                    self.asked.push_back(Asked::Uidl);
                    self.ask(now, Asked::List, b"UIDL\r\nLIST\r\n".to_vec());
                }
                (true, false) => self.ask(now, Asked::Uidl, b"UIDL\r\n".to_vec()),
                (false, _) => self.send_list(now),
            },
            Step::Untrusted => {
                self.say_goodbye();
                self.fail(Fault::Untrusted);
            }
            Step::Odd(exchange) => {
                self.phase = Phase::Login(exchange);
                let what: &[u8] = match status {
                    Status::Ok => b"+OK",
                    Status::Continue(_) | Status::Err(_) => b"+",
                };
                self.odd(what);
            }
        }
    }

    /// The key was derived. A session that has failed meanwhile needs it no more.
    pub(super) fn derived(&mut self, now: Now, salted: Option<&Salted>) {
        if !matches!(self.phase, Phase::Login(Exchange::ScramDeriving(_))) {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Listing);
        let (Phase::Login(Exchange::ScramDeriving(challenged)), Some(salted)) = (phase, salted)
        else {
            self.say_goodbye();
            return self.fail(Fault::Unfit(
                "there was no time to derive the key for AUTH SCRAM-SHA-256: too many passwords \
                 are being checked",
            ));
        };
        let (octets, next) = login::proof(*challenged, salted);
        self.phase = Phase::Login(next);
        self.ask_login(now, octets.to_vec());
    }
}
