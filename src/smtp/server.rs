//! The session of a client that brings us mail (RFC 5321), as a machine.
//!
//! # Use
//!
//! [`Session::handle`] takes an [`Input`], then [`Session::poll`] is called until
//! it gives nothing. [`Session::deadline`] is when [`Input::Timer`] is due.
//!
//! `handle` returns how many octets of [`Input::Received`] it took. It takes all
//! of them unless it has to wait for an answer first, or its queue of outputs is
//! full. What it did not take the caller keeps, and offers again after the next
//! input or output, before anything newer. [`Output::Body`] ranges lie in the
//! octets of the last `Received`.
//!
//! Replies are gathered: one [`Output::Send`] for a pipelined group, given when
//! all input is read (RFC 2920 §3.2). While a question is open nothing is sent,
//! since most are answered at once; an answer that takes time is announced by
//! [`Input::Later`].
//!
//! # Invariants
//!
//! - Each command gets one reply, in order. The reply that is over a limit is
//!   replaced by `421`, after which the session reads nothing.
//! - The positive reply to the end of a message is made from a [`Receipt`] only.
//! - After [`Output::Begin`] exactly one of [`Output::End`] and [`Output::Abort`]
//!   follows, unless the core itself said that the message is lost.
//! - The number of octets held is bounded by [`Settings::command_bytes_max`] and
//!   [`REPLIES_BYTES_MAX`]; between commands it is zero. Message text is never held.
//! - In each state something ends it: a deadline where we wait for the client,
//!   the core's answer where we wait for the core. A handshake is the core's too.
//!
//! # Not here
//!
//! Who may relay and which recipients exist (the core asks `route` and `policy`),
//! the disk, TLS itself, and the sending of replies to a client that does not
//! read them (the shell's time-out).

mod answers;
mod auth;
mod commands;
mod etrn;
mod octets;
mod peer;
mod question;
mod rebuff;
mod transaction;
mod turn;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use self::peer::{Hello, HelloKind, PeerFacts};
use self::transaction::{Beginning, Fate, Gathering, Incoming, Open};
use crate::mail::{Domain, Envelope, QueueId, Receipt, Recipient};
use crate::smtp::auth::Mechanism;
use crate::smtp::data::MessageFacts;
use crate::smtp::etrn::{Answer, Node};
use crate::smtp::line::Lines;
use crate::smtp::record::Record;
use crate::smtp::reply::{self, Closing, Refusal, Reply};
use crate::smtp::settings::{EarlyTalker, Settings};
use crate::smtp::syntax::Chunk;
use crate::smtp::trace::TlsFacts;
use crate::smtp::turn::ToCustomer;
use crate::time::{Instant, Now};
use crate::user::UserName;
use crate::wire::transcript::Spoken;

pub use self::auth::AuthAnswer;
pub use self::question::Question;

/// Octets of replies after which they are sent before more commands are read: a
/// group of short commands with long replies must not fill the memory.
pub const REPLIES_BYTES_MAX: usize = 16 << 10;

/// Octets that the replies to a usual group take, so that they are allocated once.
const REPLIES_BYTES_USUAL: usize = 320;

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a, R> {
    /// Octets from the client. The only input of which `handle` may take a part.
    Received(&'a [u8]),
    /// The answer to [`Output::Ask`].
    Answer(Verdict),
    /// The answer to [`Output::Ask`] of [`Question::Release`].
    Released(Answer),
    /// The answer to [`Output::Ask`] where that is about AUTH.
    Auth(AuthAnswer),
    /// The answer to [`Output::Ask`] of [`Question::Rebuff`]: how long the client waits.
    Pause(Duration),
    /// What the session waits for will take a while: send what is gathered.
    Later,
    /// The answer to [`Output::Begin`]: there is room, and this is its name.
    Begun(QueueId),
    /// The answer to [`Output::Begin`]: no.
    NotBegun(NotTaken),
    /// The answer to [`Output::End`]: the message is on stable storage.
    Stored(R),
    /// The answer to [`Output::End`], or at any time between `Begun` and `End`:
    /// the message is lost, and the client is to know.
    NotStored(NotTaken),
    /// The handshake that [`Output::StartTls`] asked for, or that a session
    /// [behind TLS](Session::behind_tls) waits for, is done.
    TlsStarted(Box<TlsFacts>),
    /// The client will send no more.
    PeerClosed,
    /// The client does not wait for the answer that a pause keeps back: it will send no
    /// more, or it sends on and on. Only while [`Session::is_paused`].
    Impatient,
    /// [`Session::deadline`] may have passed.
    Timer,
    /// The server is to stop: `421` when the running command or message is done.
    Stop,
}

/// What the core says to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Yes.
    Accept,
    /// No, with this reply.
    Refuse(Refusal),
    /// No, with this reply, and the session ends.
    Dismiss(Refusal),
}

/// Why a message is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The spool is full, or will be before the message ends: 452 4.3.1.
    NoRoom,
    /// Writing failed: 451 4.3.0.
    Failed,
    /// A decision, with its reply.
    Refused(Refusal),
}

impl NotTaken {
    fn refusal(self) -> Refusal {
        match self {
            Self::NoRoom => reply::NO_ROOM,
            Self::Failed => reply::NOT_STORED,
            Self::Refused(refusal) => refusal,
        }
    }
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Octets for the client.
    Send(Vec<u8>),
    /// A question: see [`Session::question`]. Answered by [`Input::Answer`], or by
    /// [`Input::Auth`] if it is about AUTH.
    Ask,
    /// A message comes: its room is to be reserved. Answered by [`Input::Begun`] or
    /// [`Input::NotBegun`].
    Begin {
        /// At least one recipient.
        envelope: Envelope,
        /// Octets of text that are to be expected, where the client said how many:
        /// by SIZE (RFC 1870), which may be wrong, or by its first chunk, which may
        /// be followed by more. Within [`Settings::message_bytes_max`].
        expected: Option<u64>,
    },
    /// The trace line: stored before the text, not counted in [`MessageFacts`].
    Header(Vec<u8>),
    /// Text to be stored: this range of the last [`Input::Received`].
    Body(Range<usize>),
    /// Text to be stored.
    BodyConstant(&'static [u8]),
    /// The text is complete. Answered by [`Input::Stored`] or [`Input::NotStored`].
    End(MessageFacts),
    /// The message that was begun is dropped. May come before `Begin` was answered;
    /// the answer is then ignored.
    Abort,
    /// The client is known now: see [`Session::user`].
    LoggedIn {
        /// By what.
        mechanism: Mechanism,
    },
    /// The client was wrong about who it is. It is told after a pause.
    LoginFailed {
        /// With what.
        mechanism: Mechanism,
        /// The name that it gave, if it was one.
        user: Option<UserName>,
    },
    /// What was sent so far leaves in clear; then comes the handshake. No octet
    /// that came in clear before it is done is offered to the session.
    StartTls,
    /// What was sent so far leaves; then the roles turn (RFC 2645 §5.3): the session
    /// says and takes nothing more, and the connection is this one's.
    Turn(ToCustomer),
    /// What was sent so far leaves, then the connection is closed. Unread input is
    /// best read over a moment longer, or the client may lose our last words.
    Close,
}

#[derive(Debug)]
enum State {
    /// We keep silent until then, and see who does not.
    Greeting { until: Instant },
    /// Commands are read.
    Commands(Open),
    /// MAIL waits for its answer.
    AskedSender(Box<Gathering>),
    /// RCPT waits for its answer.
    AskedRecipient(Box<Gathering>, Box<Recipient>),
    /// ATRN of these domains waits for its answer.
    AskedTurn(Box<[Domain]>),
    /// ETRN waits for its answer.
    AskedRelease(Box<Node>),
    /// A no waits for what the core says to it.
    AskedPause(Box<Refusal>),
    /// The client waits for a no.
    Pausing {
        until: Instant,
        refusal: Box<Refusal>,
    },
    /// AUTH waits for its answer.
    AskedAuth(Box<auth::Asking>),
    /// An exchange waits for a line of the client.
    Auth(Box<auth::Running>),
    /// An exchange waits for its answer.
    AskedLogin(Box<auth::Judged>),
    /// An exchange failed. The client is told then.
    LoginRefused { until: Instant },
    /// DATA or the first BDAT waits for its answer.
    Beginning(Box<Beginning>),
    /// Text by DATA is read.
    Data(Box<Incoming>),
    /// Text by BDAT is read; `left` octets of the chunk are to come.
    Chunk {
        incoming: Box<Incoming>,
        chunk: Chunk,
        left: u64,
    },
    /// A refused chunk is read over; then comes the reply.
    Skip { left: u64, refusal: Box<Refusal> },
    /// The end of data waits for the storage.
    Storing,
    /// The handshake is under way.
    StartingTls(Greeted),
    /// [`Output::Close`] was given. Nothing more.
    Closed,
}

/// Whether the client was greeted before the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Greeted {
    /// It was, in clear, and said STARTTLS.
    Yes,
    /// TLS comes first (RFC 8314 §3.3).
    No,
}

/// What is counted between two stored messages.
#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    errors: u32,
    commands: u32,
    idle_commands: u32,
    pauses: u32,
}

/// Whether the octets last offered were all taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unread {
    None,
    Some,
}

/// Whether the server is going down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Open,
    Stopping,
}

/// Replies that were not sent yet.
#[derive(Default, Debug)]
struct Replies {
    octets: Vec<u8>,
    /// A message that was stored is among what they tell: they do not wait for
    /// the next message, lest a crash makes the client send the first again.
    tells_of_receipt: bool,
}

/// A session. See the module's head.
#[derive(Debug)]
pub struct Session<R> {
    settings: Arc<Settings>,
    peer: PeerFacts,
    now: Now,
    /// When we began to wait for what the client sends next.
    waiting_since: Instant,
    state: State,
    hello: Option<Box<Hello>>,
    /// Boxed: most sessions never authenticate.
    logins: Option<Box<auth::Logins>>,
    lines: Lines,
    replies: Replies,
    outputs: VecDeque<Output>,
    counts: Counts,
    transactions: u32,
    unread: Unread,
    service: Service,
    /// Boxed: hardly any session is recorded.
    record: Option<Box<Record>>,
    receipt: PhantomData<fn(R)>,
}

impl<R: Receipt> Session<R> {
    /// A session with a client that has just connected. The greeting is among its
    /// first outputs, or due at its first deadline.
    #[must_use]
    pub fn new(settings: Arc<Settings>, peer: PeerFacts, now: Now) -> Self {
        let mut session = Self::silent(settings, peer, now);
        session.open();
        session
    }

    /// A session with a client that has just connected where TLS comes first: it waits
    /// for [`Input::TlsStarted`], and greets then.
    #[must_use]
    pub fn behind_tls(settings: Arc<Settings>, peer: PeerFacts, now: Now) -> Self {
        let mut session = Self::silent(settings, peer, now);
        session.state = State::StartingTls(Greeted::No);
        session
    }

    fn silent(settings: Arc<Settings>, peer: PeerFacts, now: Now) -> Self {
        Self {
            settings,
            peer,
            now,
            waiting_since: now.instant,
            state: State::Commands(Open::Nothing),
            hello: None,
            logins: None,
            lines: Lines::default(),
            replies: Replies::default(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
            transactions: 0,
            unread: Unread::None,
            service: Service::Open,
            record: None,
            receipt: PhantomData,
        }
    }

    /// From now on it is recorded what is said; see [`Session::take_record`].
    pub fn record(&mut self) {
        let mut record = Record::default();
        // The greeting may be on its way.
        for output in &self.outputs {
            if let Output::Send(octets) = output {
                record.replies(true, octets);
            }
        }
        self.record = Some(Box::new(record));
    }

    /// What was said since the last time, if it is recorded.
    pub fn take_record(&mut self) -> Vec<Spoken> {
        (self.record.as_mut()).map_or_else(Vec::new, |record| record.take())
    }

    /// Greets, or waits a while for who speaks before.
    fn open(&mut self) {
        match self.settings.early_talker {
            EarlyTalker::Refuse { pause } if pause > Duration::ZERO => {
                let until = self.now.instant + pause;
                self.state = State::Greeting { until };
            }
            EarlyTalker::Refuse { .. } | EarlyTalker::Allow => self.greet(),
        }
    }

    /// Takes an input. For [`Input::Received`]: how many octets were taken.
    ///
    /// # Panics
    /// If the core answers what it was not asked.
    pub fn handle(&mut self, now: Now, input: Input<'_, R>) -> usize {
        self.now = now;
        let mut taken = 0;
        match input {
            Input::Received(octets) => taken = self.received(octets),
            Input::Answer(verdict) => self.answered(verdict),
            Input::Released(answer) => self.released(answer),
            Input::Auth(answer) => self.auth_answered(answer),
            Input::Pause(pause) => self.pause(pause),
            Input::Later => self.flush(),
            Input::Begun(id) => self.begun(id),
            Input::NotBegun(why) => self.not_begun(why),
            Input::Stored(receipt) => self.stored(&receipt),
            Input::NotStored(why) => self.not_stored(why),
            Input::TlsStarted(facts) => self.tls_started(facts),
            Input::PeerClosed => self.close(),
            Input::Impatient => self.dismiss(&reply::TOO_MANY_ERRORS),
            Input::Timer => self.timer(),
            Input::Stop => self.service = Service::Stopping,
        }
        self.settle();
        taken
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle session holds no memory for outputs.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When [`Input::Timer`] is due. `None` while we wait for the core.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.settings.timeouts;
        match &self.state {
            State::Greeting { until } => Some(*until),
            State::LoginRefused { until } | State::Pausing { until, .. } => Some(*until),
            State::Commands(_) | State::Auth(_) => Some(self.waiting_since + timeouts.command),
            State::Data(_) | State::Chunk { .. } | State::Skip { .. } => {
                Some(self.waiting_since + timeouts.data_block)
            }
            State::AskedSender(_)
            | State::AskedRecipient(..)
            | State::AskedTurn(_)
            | State::AskedRelease(_)
            | State::AskedPause(_)
            | State::AskedAuth(_)
            | State::AskedLogin(_)
            | State::Beginning(_)
            | State::Storing
            | State::StartingTls(_)
            | State::Closed => None,
        }
    }

    /// As whom the client has authenticated. Forgotten at STARTTLS; stays at EHLO.
    #[must_use]
    pub fn user(&self) -> Option<&UserName> {
        self.logins.as_ref()?.user.as_ref()
    }

    /// What the client called itself last.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// What is known of the client, with what STARTTLS added.
    #[must_use]
    pub const fn peer(&self) -> &PeerFacts {
        &self.peer
    }

    /// True when nothing is under way: no transaction, no line begun, no output. The
    /// connection may then wait without a buffer, and a stop ends it at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Commands(Open::Nothing))
            && self.lines.is_at_start()
            && self.outputs.is_empty()
            && self.unread == Unread::None
    }

    fn greet(&mut self) {
        reply::write_greeting(&mut self.replies.octets, &self.settings.hostname);
        self.flush();
    }

    /// Where a reply is written to.
    fn out(&mut self) -> &mut Vec<u8> {
        let octets = &mut self.replies.octets;
        if octets.capacity() == 0 {
            octets.reserve(REPLIES_BYTES_USUAL);
        }
        octets
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write(self.out());
    }

    /// Says no, or 421 if that was said too often. Last in a handler, behind the
    /// new state: it may close the session.
    fn refuse(&mut self, refusal: &Refusal) {
        if refusal.is_permanent() {
            self.counts.errors += 1;
            if self.counts.errors >= self.settings.errors_max {
                return self.dismiss(&reply::TOO_MANY_ERRORS);
            }
        }
        self.reply(refusal.reply());
    }

    /// 421 and the end.
    fn dismiss(&mut self, closing: &Closing) {
        if !matches!(self.state, State::Closed) {
            reply::write_closing(&mut self.replies.octets, &self.settings.hostname, closing);
            self.close();
        }
    }

    /// The end, behind what was said. Once only.
    fn close(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.reset();
        self.flush();
        self.outputs.push_back(Output::Close);
        self.state = State::Closed;
    }

    /// Drops the transaction, and what was begun of it.
    fn reset(&mut self) {
        let begun = match &self.state {
            State::Commands(Open::Chunks(_)) | State::Beginning(_) => true,
            State::Data(incoming) | State::Chunk { incoming, .. } => {
                matches!(incoming.fate, Fate::Kept)
            }
            _ => false,
        };
        if begun {
            self.outputs.push_back(Output::Abort);
        }
        self.state = State::Commands(Open::Nothing);
    }

    /// What stands between two commands, to be put back or replaced.
    fn take_open(&mut self) -> Open {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Commands(open) => open,
            state => unreachable!("commands are read between commands, not in {state:?}"),
        }
    }

    fn flush(&mut self) {
        let Replies { octets, .. } = std::mem::take(&mut self.replies);
        if !octets.is_empty() {
            if let Some(record) = &mut self.record {
                record.replies(true, &octets);
            }
            self.outputs.push_back(Output::Send(octets));
        }
    }

    /// After each input: is it time to stop, is it time to send?
    fn settle(&mut self) {
        match &self.state {
            State::Commands(_) => {
                if self.service == Service::Stopping {
                    self.dismiss(&reply::STOPPING);
                } else if self.unread == Unread::None {
                    self.flush();
                }
            }
            State::Greeting { .. }
            | State::Auth(_)
            | State::LoginRefused { .. }
            | State::Pausing { .. }
                if self.service == Service::Stopping =>
            {
                self.dismiss(&reply::STOPPING);
            }
            State::Data(_) | State::Chunk { .. } | State::Skip { .. } | State::Auth(_) => {
                if self.unread == Unread::None {
                    self.flush();
                }
            }
            State::Greeting { .. }
            | State::AskedSender(_)
            | State::AskedRecipient(..)
            | State::AskedTurn(_)
            | State::AskedRelease(_)
            | State::AskedPause(_)
            | State::AskedAuth(_)
            | State::AskedLogin(_)
            | State::LoginRefused { .. }
            | State::Pausing { .. }
            | State::Beginning(_)
            | State::Storing
            | State::StartingTls(_)
            | State::Closed => {}
        }
    }
}
