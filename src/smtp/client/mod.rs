//! The SMTP client session, and LMTP as the same machine with its own kind of end
//! (RFC 5321, RFC 2033). From the connection to QUIT.
//!
//! # How to drive it
//! After each [`Client::handle`], [`Client::poll`] until `None`, and wake up with
//! [`Input::Timer`] at [`Client::deadline`]. Rules of the contract:
//! - Facts come before octets: [`Output::Want`] is polled before the
//!   [`Output::Send`] of the same moment. A core that hands in the job inside its
//!   poll loop has MAIL, RCPT and DATA of the next message in the same send as the
//!   content of this one.
//! - A [`Output::Want`] is answered once, with [`Input::Deliver`] or [`Input::Quit`],
//!   at any later time. A session that ended meanwhile gives the job back.
//! - The shell sends the pieces of all sends in order, goes on receiving meanwhile
//!   (a peer may stop reading until its replies are taken, RFC 2920 §3.1), says
//!   [`Input::Progress`] when octets left and [`Input::Sent`] when all have.
//! - `Sent` comes before the octets that the peer sent in reply: a positive reply
//!   to a content that has not left is not believed until it has.
//! - Each recipient of a job that was handed in gets exactly one outcome.
//! - [`Output::SessionFailed`] comes at most once; [`Output::Close`] comes once, last.
//!
//! # What it relies on
//! The peer's octets may be anything in any cut. The core's inputs are asserted.
//!
//! # What it does not do
//! It resolves no name, opens no connection, holds no body, knows no certificate,
//! and decides nothing about the next attempt: it says who is at fault and how far
//! that reaches ([`fault`]).

pub mod asking;
pub mod auth;
pub mod capabilities;
mod commands;
mod ending;
mod exchange;
pub mod fault;
mod fitness;
pub mod job;
mod login;
mod opening;
pub mod settings;
pub mod stage;
pub mod stuffing;
mod transaction;
mod waiting;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::asking::{Ask, Asked};
use self::auth::{Derivation, Login};
use self::capabilities::Capabilities;
use self::commands::Hello;
use self::exchange::{Exchange, Hands, Turnout, untried};
use self::fault::SessionError;
use self::job::{Job, Outcome, Piece};
use self::settings::{Protocol, Settings, TlsPolicy};
use self::stage::Stage;
use self::waiting::Beginnings;
use self::wire::Wire;
use super::answer::{Answer, AnswerError, Class, Reader};
use super::etrn::Node;
use super::turn::FromProvider;
use crate::smtp::auth::scram::Salted;
use crate::time::Now;
use crate::wire::transcript::Spoken;

/// Most octets kept of replies that came before the content they speak of had left.
/// A pipelined transaction of 100 recipients has replies of about 10 KiB.
pub const HELD_BYTES_MAX: usize = 64 * 1024;

/// Whether the octets are readable on their way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// TCP.
    Clear,
    /// TLS, from the start or by STARTTLS.
    Tls,
}

/// What happens to the session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection stands, and on implicit TLS the handshake is done.
    Connected(Channel),
    /// Octets came.
    Received(&'a [u8]),
    /// Some octets that were handed out have left since the last input.
    Progress,
    /// All octets that were handed out have left.
    Sent,
    /// Those that have not left never will. What the host has said may still come, and
    /// then [`Input::PeerClosed`] does.
    SendFailed,
    /// The job that was asked for.
    Deliver(Job),
    /// No more jobs: finish what was begun, then QUIT.
    Quit,
    /// The outcome of [`Output::Derive`]; `None` if there was no time for it.
    Derived(Option<Salted>),
    /// The handshake after [`Output::StartTls`] is done.
    TlsStarted,
    /// It failed; the sentence of the TLS machine.
    TlsFailed(String),
    /// The connection is gone, in whatever way, or never came.
    PeerClosed,
    /// Give up at once: the process stops.
    Abort,
    /// [`Client::deadline`] was reached.
    Timer,
    /// Others wait for the connection, and the host has kept us waiting since
    /// [`Client::waits_since`].
    GiveWay,
}

/// What the session wants from the world, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send these, in order, behind all earlier ones.
    Send(Vec<Piece>),
    /// Hand in the next job, or QUIT.
    Want,
    /// What became of recipients.
    Outcome(Outcome),
    /// Derive a key, on a thread that has the time, and hand it in.
    Derive(Derivation),
    /// Begin the TLS handshake on this connection.
    StartTls,
    /// The session failed. The outcomes of its jobs come before.
    SessionFailed(SessionError),
    /// ATRN was answered with 250: the roles turn (RFC 2645 §5.3). The connection is
    /// this one's now, and nothing comes after.
    Turned(FromProvider),
    /// What the provider said to ETRN of one name.
    Asked(Asked),
    /// Close the connection. Nothing comes after.
    Close,
}

/// Where the session is. Each holds what is valid in it.
#[derive(Debug)]
enum State {
    Connecting,
    Greeting,
    Hello(Hello),
    StartTls(Capabilities),
    Handshake,
    Auth(Capabilities, auth::Exchange),
    Mail(Box<Exchange>),
    /// ETRN was said of the name at this place.
    Asking(Arc<[Node]>, usize),
    /// ATRN was said.
    Turn,
    /// It was answered with 250.
    Turned(FromProvider),
    /// QUIT after a session that never came to mail.
    Quit,
    Over,
}

/// The machine. See the head of the module.
#[derive(Debug)]
pub struct Client {
    reader: Reader,
    /// Octets behind an answer that was put back.
    held: Vec<u8>,
    session: Session,
}

/// All but the reading.
#[derive(Debug)]
struct Session {
    settings: Arc<Settings>,
    /// Ask for mail, instead of delivering some.
    ask: Option<Ask>,
    /// Boxed: most hosts do not want to know who we are.
    login: Option<Box<Login>>,
    state: State,
    channel: Channel,
    wire: Wire,
    facts: VecDeque<Output>,
    since: Beginnings,
}

impl Client {
    /// A session whose connection is being opened.
    #[must_use]
    pub fn new(settings: Arc<Settings>, now: Now) -> Self {
        Self {
            reader: Reader::default(),
            held: Vec::new(),
            session: Session {
                settings,
                ask: None,
                login: None,
                state: State::Connecting,
                channel: Channel::Clear,
                wire: Wire::default(),
                facts: VecDeque::new(),
                since: Beginnings::at(now.instant),
            },
        }
    }

    /// The same, and the host is told who we are (RFC 4954): before any mail.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.session.login = Some(Box::new(login));
        self
    }

    /// From now on it is recorded what is said; see [`Client::take_record`].
    pub fn record(&mut self) {
        self.session.wire.record = Some(Box::default());
    }

    /// What was said since the last time, if it is recorded.
    pub fn take_record(&mut self) -> Vec<Spoken> {
        (self.session.wire.record.as_mut()).map_or_else(Vec::new, |record| record.take())
    }

    /// Takes one input. Then poll.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        let session = &mut self.session;
        if let State::Over = session.state {
            if let Input::Deliver(job) = input {
                session.deliver(now, job);
            }
            return;
        }
        if !session.wire.is_leaving() {
            session.since.leaving = now.instant;
        }
        match input {
            Input::Connected(channel) => session.connected(now, channel),
            Input::Received(octets) => self.received(now, octets),
            Input::Progress => session.since.wait = now.instant,
            Input::Sent => {
                session.since.wait = now.instant;
                session.since.leaving = now.instant;
                session.wire.sent();
                self.resume(now);
                self.session.pump(now);
            }
            Input::SendFailed => session.wire.cut(),
            Input::Deliver(job) => session.deliver(now, job),
            Input::Quit => session.quit(now),
            Input::TlsStarted => {
                assert!(
                    matches!(session.state, State::Handshake),
                    "it was asked for"
                );
                session.channel = Channel::Tls;
                session.say_hello(now);
            }
            Input::Derived(salted) => session.derived(now, salted.as_ref()),
            Input::TlsFailed(why) => session.fail(now, SessionError::TlsFailed { why }),
            Input::PeerClosed => session.lost(now),
            Input::Abort => session.fail(now, SessionError::Aborted),
            Input::Timer => session.timer(now),
            Input::GiveWay => session.give_way(now),
        }
    }

    /// The next output, or `None` if all is said.
    pub fn poll(&mut self) -> Option<Output> {
        let session = &mut self.session;
        if let Some(fact) = session.facts.pop_front() {
            return Some(fact);
        }
        match session.state {
            State::Over => None,
            _ => session.wire.take().map(Output::Send),
        }
    }

    /// What the session is doing: for the operator.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.session.stage()
    }

    /// What the peer can do, once it said so.
    #[must_use]
    pub fn capabilities(&self) -> Option<&Capabilities> {
        match &self.session.state {
            State::Mail(exchange) => Some(exchange.peer()),
            State::StartTls(peer) | State::Auth(peer, _) => Some(peer),
            _ => None,
        }
    }

    fn received(&mut self, now: Now, octets: &[u8]) {
        if matches!(self.session.state, State::Handshake) {
            // From here on the octets belong to the TLS machine.
            self.session.fail(now, SessionError::TlsInjection);
        } else if !self.reader.holds_answer() {
            self.read(now, octets);
        } else if self.held.len() + octets.len() > HELD_BYTES_MAX {
            let stage = self.session.stage();
            self.session.fail(now, SessionError::TooMuch { stage });
        } else {
            self.held.extend_from_slice(octets);
        }
    }

    /// Content has left: answers that were too early for it may count now.
    fn resume(&mut self, now: Now) {
        let held = std::mem::take(&mut self.held);
        self.read(now, &held);
    }

    fn read(&mut self, now: Now, mut octets: &[u8]) {
        loop {
            if matches!(self.session.state, State::Over) {
                return;
            }
            match self.reader.next(&mut octets) {
                None => return,
                Some(read) if self.session.is_unasked(&read) => return,
                Some(Err(error)) => {
                    let stage = self.session.stage();
                    self.session
                        .fail(now, SessionError::Garbled { stage, error });
                }
                Some(Ok(answer)) => {
                    if self.session.is_too_early(&answer) {
                        let code = answer.code;
                        self.reader.put_back(code);
                        if octets.len() > HELD_BYTES_MAX {
                            let stage = self.session.stage();
                            self.session.fail(now, SessionError::TooMuch { stage });
                        } else {
                            self.held.extend_from_slice(octets);
                        }
                        return;
                    }
                    if let Some(record) = &mut self.session.wire.record {
                        record.answer(&answer);
                    }
                    self.session.answer(now, &answer);
                    let injected = !octets.is_empty() || !self.reader.is_between();
                    if matches!(self.session.state, State::Handshake) && injected {
                        self.session.fail(now, SessionError::TlsInjection);
                    }
                    if matches!(self.session.state, State::Turned(_)) {
                        self.session.turned(now, injected);
                    }
                }
            }
        }
    }
}

impl Session {
    fn stage(&self) -> Stage {
        match &self.state {
            State::Connecting => Stage::Connect,
            State::Greeting => Stage::Greeting,
            State::Hello(_) => Stage::Hello,
            State::StartTls(_) => Stage::StartTls,
            State::Handshake => Stage::Handshake,
            State::Auth(..) => Stage::Auth,
            State::Asking(..) => Stage::Release,
            State::Turn | State::Turned(_) => Stage::Turn,
            State::Mail(exchange) => match exchange.stage() {
                Stage::Quit => Stage::Quit,
                _ if self.wire.is_leaving() => Stage::Sending,
                stage => stage,
            },
            State::Quit | State::Over => Stage::Quit,
        }
    }

    fn connected(&mut self, now: Now, channel: Channel) {
        assert!(matches!(self.state, State::Connecting), "it connects once");
        self.channel = channel;
        self.since.wait = now.instant;
        self.wire.expect_greeting();
        self.state = State::Greeting;
    }

    /// EHLO or LHLO, at the beginning and again after TLS.
    fn say_hello(&mut self, now: Now) {
        let verb = match self.settings.protocol {
            Protocol::Smtp => Hello::Ehlo,
            Protocol::Lmtp => Hello::Lhlo,
        };
        self.say_hello_as(now, verb);
    }

    fn say_hello_as(&mut self, now: Now, verb: Hello) {
        let name = &self.settings.hello_name;
        self.wire.command(|out| commands::hello(out, verb, name));
        self.since.wait = now.instant;
        self.state = State::Hello(verb);
    }

    /// True if nothing leaves any more, and this is no answer to what the host has heard: its
    /// refusal of the connection would be taken for one of the next message.
    fn is_unasked(&self, read: &Result<Answer<'_>, AnswerError>) -> bool {
        if !self.wire.is_cut() || self.wire.awaits_answer_to_sent() {
            return false;
        }
        match (&self.state, read) {
            (State::Mail(exchange), Ok(answer)) => {
                !(self.wire.awaits_answer() && exchange.believes_early(answer))
            }
            _ => true,
        }
    }

    fn is_too_early(&self, answer: &Answer<'_>) -> bool {
        match &self.state {
            State::Mail(exchange) => {
                self.wire.awaits_answer() && exchange.is_too_early(answer, &self.wire)
            }
            _ => false,
        }
    }

    /// A whole answer. It belongs to the oldest command that was handed out.
    fn answer(&mut self, now: Now, answer: &Answer<'_>) {
        let stage = self.stage();
        let reply = || answer.reply();
        if matches!(self.state, State::Quit) {
            return self.close();
        }
        if !self.wire.awaits_answer() {
            let reply = reply();
            let error = match reply.code.value() {
                421 => SessionError::Closing { stage, reply },
                _ => SessionError::OutOfOrder { stage, reply },
            };
            return self.fail(now, error);
        }
        self.since.wait = now.instant;
        if let State::Mail(exchange) = &mut self.state {
            let mut hands = Hands {
                settings: &self.settings,
                wire: &mut self.wire,
                facts: &mut self.facts,
                now,
            };
            let was_end = exchange.stage() == Stage::End;
            let turnout = exchange.answer(answer, &mut hands);
            if was_end != (exchange.stage() == Stage::End) {
                self.since.transaction = now.instant;
            }
            return match turnout {
                Ok(Turnout::GoesOn) => {}
                Ok(Turnout::Over) => self.close(),
                Err(error @ SessionError::Refused { .. }) => self.fail_politely(now, error),
                Err(error) => self.fail(now, error),
            };
        }
        self.wire.answered();
        if answer.code.value() == 421 {
            let reply = reply();
            return self.fail(now, SessionError::Closing { stage, reply });
        }
        let class = answer.code.class();
        let refused = |reply| SessionError::Refused { stage, reply };
        let out_of_order = |reply| SessionError::OutOfOrder { stage, reply };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting => match class {
                Class::Positive if answer.code.value() == 220 => self.say_hello(now),
                Class::Positive | Class::Intermediate => self.fail(now, out_of_order(reply())),
                Class::Transient | Class::Permanent => self.fail_politely(now, refused(reply())),
            },
            State::Hello(verb) => match (class, verb) {
                (Class::Positive, Hello::Helo) => self.choose_tls(now, Capabilities::default()),
                (Class::Positive, Hello::Ehlo | Hello::Lhlo) => {
                    self.choose_tls(now, Capabilities::from_answer(answer));
                }
                (Class::Permanent, Hello::Ehlo) => self.say_hello_as(now, Hello::Helo),
                (Class::Transient | Class::Permanent, _) => {
                    self.fail_politely(now, refused(reply()));
                }
                (Class::Intermediate, _) => self.fail(now, out_of_order(reply())),
            },
            State::StartTls(peer) => match class {
                Class::Positive => {
                    self.state = State::Handshake;
                    self.facts.push_back(Output::StartTls);
                }
                Class::Transient | Class::Permanent => match self.settings.tls {
                    TlsPolicy::Required => self.fail_politely(now, refused(reply())),
                    TlsPolicy::Opportunistic | TlsPolicy::None => self.choose_auth(now, peer),
                },
                Class::Intermediate => self.fail(now, out_of_order(reply())),
            },
            State::Auth(peer, exchange) => self.auth_answered(now, peer, exchange, answer),
            State::Asking(nodes, place) => self.asked(now, nodes, place, answer),
            State::Turn => match (class, self.ask.take()) {
                (Class::Positive, Some(Ask::Turn(call))) if answer.code.value() == 250 => {
                    self.state = State::Turned(FromProvider::new(call));
                }
                (Class::Positive | Class::Intermediate, _) => {
                    self.fail(now, out_of_order(reply()));
                }
                (Class::Transient | Class::Permanent, _) => {
                    self.fail_politely(now, refused(reply()));
                }
            },
            State::Connecting
            | State::Handshake
            | State::Mail(_)
            | State::Turned(_)
            | State::Quit
            | State::Over => {
                unreachable!("no command waits for an answer there")
            }
        }
    }

    fn begin_mail(&mut self, now: Now, peer: Capabilities) {
        match &self.ask {
            Some(Ask::Turn(call)) => {
                self.wire.command(|out| call.write(out));
                self.since.wait = now.instant;
                self.state = State::Turn;
                return;
            }
            Some(Ask::Release(nodes)) => {
                let nodes = Arc::clone(nodes);
                return self.ask_for(now, nodes, 0);
            }
            None => {}
        }
        let exchange = Exchange::new(peer, self.channel, &self.settings);
        self.state = State::Mail(Box::new(exchange));
        self.since.transaction = now.instant;
        self.pump(now);
    }

    fn pump(&mut self, now: Now) {
        self.with_exchange(now, Exchange::pump);
    }

    fn deliver(&mut self, now: Now, job: Job) {
        if let State::Mail(_) = self.state {
            if self.stage() == Stage::Idle {
                self.since.wait = now.instant;
                self.since.transaction = now.instant;
            }
            self.with_exchange(now, |exchange, hands| exchange.deliver(job, hands));
        } else {
            self.facts.push_back(Output::Outcome(untried(job)));
        }
    }

    fn quit(&mut self, now: Now) {
        match self.state {
            State::Mail(_) => {
                if self.stage() == Stage::Idle {
                    self.since.wait = now.instant;
                }
                self.withdraw_want();
                self.with_exchange(now, Exchange::quit);
            }
            // Nothing was begun that a QUIT would end.
            State::Connecting
            | State::Greeting
            | State::Hello(_)
            | State::StartTls(_)
            | State::Handshake
            | State::Auth(..)
            | State::Asking(..)
            | State::Turn
            | State::Turned(_) => self.close(),
            State::Quit | State::Over => {}
        }
    }

    fn with_exchange(&mut self, now: Now, act: impl FnOnce(&mut Exchange, &mut Hands<'_>)) {
        if let State::Mail(exchange) = &mut self.state {
            let mut hands = Hands {
                settings: &self.settings,
                wire: &mut self.wire,
                facts: &mut self.facts,
                now,
            };
            act(exchange, &mut hands);
        }
    }

    fn lost(&mut self, now: Now) {
        let stage = self.stage();
        self.fail(now, SessionError::Lost { stage });
    }
}
