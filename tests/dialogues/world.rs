//! A session with a core that answers it, and a client that says what it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use turnspool::mail::{BodyForm, BodyKind, Envelope, HoldUntil, Notify, QueueId, Receipt, Ret};
use turnspool::smtp::data::MessageFacts;
use turnspool::smtp::etrn::{Answer, Node};
use turnspool::smtp::server::{
    AuthAnswer, Input, NotTaken, Output, PeerFacts, Question, Session, Verdict,
};
use turnspool::smtp::settings::Settings;
use turnspool::smtp::trace::TlsFacts;
use turnspool::time::{Instant, Now, WallTime};
use turnspool::user::UserName;

use crate::login::{LoginAnswer, judge};
use crate::script::{Directive, Stage};

/// Stands for the proof of storage.
#[derive(Debug)]
pub(crate) struct Stored(QueueId);

impl Receipt for Stored {
    fn queue_id(&self) -> QueueId {
        self.0
    }
}

/// Who answers the session.
pub(crate) trait Core {
    fn verdict(&mut self, question: &Question<'_>) -> Reply<Verdict>;
    /// Nothing is anybody's, if nothing else is said.
    fn release(&mut self, _node: &Node) -> Reply<Answer> {
        Reply::Now(Answer::NotAllowed)
    }
    /// Nobody waits, if nothing else is said.
    fn pause(&mut self) -> Duration {
        Duration::ZERO
    }
    fn login(&mut self, question: &Question<'_>) -> Reply<AuthAnswer>;
    fn room(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>>;
    fn storage(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>>;
    fn script(&mut self, directive: Directive);
}

/// An answer, or that it comes later.
pub(crate) enum Reply<T> {
    Now(T),
    /// [`Input::Later`] is given, and the answer by `! go`.
    Later(T),
}

/// Says yes, unless a directive said otherwise before.
#[derive(Default)]
pub(crate) struct Scripted {
    verdicts: VecDeque<Reply<Verdict>>,
    releases: VecDeque<Reply<Answer>>,
    pauses: VecDeque<Duration>,
    logins: VecDeque<LoginAnswer>,
    room: VecDeque<Reply<Result<(), NotTaken>>>,
    storage: VecDeque<Reply<Result<(), NotTaken>>>,
}

impl Core for Scripted {
    fn verdict(&mut self, _: &Question<'_>) -> Reply<Verdict> {
        let next = self.verdicts.pop_front();
        next.unwrap_or(Reply::Now(Verdict::Accept))
    }

    fn release(&mut self, _: &Node) -> Reply<Answer> {
        let next = self.releases.pop_front();
        next.unwrap_or(Reply::Now(Answer::NotAllowed))
    }
    fn pause(&mut self) -> Duration {
        self.pauses.pop_front().unwrap_or_default()
    }

    fn login(&mut self, question: &Question<'_>) -> Reply<AuthAnswer> {
        match (question, self.logins.front()) {
            (Question::AuthBegins { .. }, Some(LoginAnswer::Banned)) => {
                self.logins.pop_front();
                Reply::Now(AuthAnswer::Banned)
            }
            (Question::AuthBegins { .. }, _) => Reply::Now(judge(question)),
            _ => match self.logins.pop_front() {
                None => Reply::Now(judge(question)),
                Some(LoginAnswer::Slow) => Reply::Later(judge(question)),
                Some(LoginAnswer::Busy) => Reply::Now(AuthAnswer::Later),
                Some(LoginAnswer::Banned) => panic!("the exchange has begun"),
            },
        }
    }

    fn room(&mut self, _: &Envelope) -> Reply<Result<(), NotTaken>> {
        self.room.pop_front().unwrap_or(Reply::Now(Ok(())))
    }

    fn storage(&mut self, _: &Envelope) -> Reply<Result<(), NotTaken>> {
        self.storage.pop_front().unwrap_or(Reply::Now(Ok(())))
    }

    fn script(&mut self, directive: Directive) {
        match directive {
            Directive::Answer(verdict) => self.verdicts.push_back(Reply::Now(verdict)),
            Directive::Login(answer) => self.logins.push_back(answer),
            Directive::AnswerLater(verdict) => self.verdicts.push_back(Reply::Later(verdict)),
            Directive::Etrn(answer) => self.releases.push_back(Reply::Now(answer)),
            Directive::Pause(pause) => self.pauses.push_back(pause),
            Directive::EtrnLater(answer) => self.releases.push_back(Reply::Later(answer)),
            Directive::Outcome(Stage::Begin, result) => self.room.push_back(Reply::Now(result)),
            Directive::Outcome(Stage::Store, result) => self.storage.push_back(Reply::Now(result)),
            Directive::OutcomeLater(Stage::Begin, result) => {
                self.room.push_back(Reply::Later(result));
            }
            Directive::OutcomeLater(Stage::Store, result) => {
                self.storage.push_back(Reply::Later(result));
            }
            other => panic!("{other:?} is not for the core"),
        }
    }
}

/// What the core owes the session.
enum Owed {
    Verdict(Verdict),
    Release(Answer),
    Pause(Duration),
    Login(AuthAnswer),
    Room(Result<(), NotTaken>),
    Storage(Result<(), NotTaken>),
}

pub(crate) struct World<C> {
    session: Session<Stored>,
    now: Now,
    core: C,
    /// Offered and not taken.
    unread: Vec<u8>,
    owed: Option<Owed>,
    id: u64,
    envelope: Option<Envelope>,
    body: Vec<u8>,
    closed: bool,
    show_trace: bool,
    /// Octets that the client got and that were not compared yet.
    pub(crate) said: Vec<u8>,
    /// What the core was told and that was not compared yet.
    pub(crate) told: Vec<String>,
    /// Sends that were not compared yet.
    pub(crate) sends: usize,
}

impl<C: Core> World<C> {
    pub(crate) fn new(settings: Settings, tls: Option<TlsFacts>, core: C) -> Self {
        let now = Now {
            instant: Instant::from_nanos(1_000_000_000),
            wall: WallTime::from_millis(1_795_351_597_250),
        };
        let address = "192.0.2.1:1025".parse().expect("an address");
        let peer = PeerFacts { address, tls: None };
        let settings = Arc::new(settings);
        let session = match tls {
            None => Session::new(settings, peer, now),
            Some(facts) => {
                let mut session = Session::behind_tls(settings, peer, now);
                assert!(session.poll().is_none(), "nothing is said in clear");
                session.handle(now, Input::TlsStarted(Box::new(facts)));
                session
            }
        };
        let mut world = Self {
            session,
            now,
            core,
            unread: Vec::new(),
            owed: None,
            id: 0,
            envelope: None,
            body: Vec::new(),
            closed: false,
            show_trace: false,
            said: Vec::new(),
            told: Vec::new(),
            sends: 0,
        };
        world.drain(&[]);
        world
    }

    /// The client's octets, as one input behind what was not taken yet.
    pub(crate) fn offer(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        self.read();
    }

    fn read(&mut self) {
        while !self.unread.is_empty() {
            let octets = std::mem::take(&mut self.unread);
            let taken = self.session.handle(self.now, Input::Received(&octets));
            let outputs = self.drain(&octets);
            self.unread = octets[taken..].to_vec();
            if taken == 0 && outputs == 0 {
                break;
            }
        }
        assert_eq!(
            self.session.deadline().is_some(),
            self.owed.is_none() && !self.closed,
            "a deadline is there when the client is waited for"
        );
    }

    /// An input that is no octets.
    fn put(&mut self, input: Input<'_, Stored>) {
        self.session.handle(self.now, input);
        self.drain(&[]);
        self.read();
    }

    /// Performs all outputs; `octets` is what was last received. How many.
    fn drain(&mut self, octets: &[u8]) -> usize {
        let mut count = 0;
        while let Some(output) = self.session.poll() {
            count += 1;
            self.perform_output(output, octets);
        }
        count
    }

    fn perform_output(&mut self, output: Output, octets: &[u8]) {
        assert!(!self.closed, "nothing comes behind the end: {output:?}");
        match output {
            Output::Send(octets) => {
                self.sends += 1;
                self.said.extend_from_slice(&octets);
            }
            Output::Ask => {
                let question = self.session.question().expect("a question was announced");
                match question {
                    Question::Release { node } => {
                        let answer = self.core.release(node);
                        self.owe(answer, Owed::Release);
                    }
                    Question::Rebuff => {
                        let pause = self.core.pause();
                        self.owe(Reply::Now(pause), Owed::Pause);
                    }
                    Question::AuthBegins { .. } | Question::Login(_) => {
                        let answer = self.core.login(&question);
                        self.owe(answer, Owed::Login);
                    }
                    Question::Sender { .. }
                    | Question::Recipient { .. }
                    | Question::Turn { .. } => {
                        let verdict = self.core.verdict(&question);
                        self.owe(verdict, Owed::Verdict);
                    }
                }
            }
            Output::Begin { envelope, expected } => {
                self.told
                    .push(format!("begin {}", show(&envelope, expected)));
                self.body.clear();
                let room = self.core.room(&envelope);
                self.envelope = Some(envelope);
                self.owe(room, Owed::Room);
            }
            Output::Header(trace) => {
                assert!(trace.starts_with(b"Received: ") && trace.ends_with(b"\r\n"));
                if self.show_trace {
                    let lines = String::from_utf8(trace).expect("ASCII or an address in UTF-8");
                    let lines = lines.replace("\r\n\t", " | ");
                    self.told.push(format!("trace {}", lines.trim_end()));
                }
            }
            Output::Body(range) => self.body.extend_from_slice(&octets[range]),
            Output::BodyConstant(octets) => self.body.extend_from_slice(octets),
            Output::End(facts) => {
                assert_eq!(facts.octets, self.body.len() as u64);
                self.told
                    .push(format!("end {}", show_message(&facts, &self.body)));
                let envelope = self.envelope.take().expect("a message was begun");
                let storage = self.core.storage(&envelope);
                self.owe(storage, Owed::Storage);
            }
            Output::Abort => {
                self.envelope.take().expect("a message was begun");
                self.told.push("abort".to_owned());
            }
            // The connection is another session's.
            Output::Turn(_) => {
                self.closed = true;
                self.told.push("turn".to_owned());
            }
            Output::LoggedIn { mechanism } => {
                let user = self.session.user().expect("it is known");
                self.told.push(format!("login {user} {mechanism}"));
            }
            Output::LoginFailed { mechanism, user } => {
                let user = user.as_ref().map_or("?", UserName::as_str);
                self.told.push(format!("login-failed {user} {mechanism}"));
            }
            Output::StartTls => {
                self.told.push("starttls".to_owned());
                let facts = TlsFacts {
                    protocol: "TLSv1.3",
                    cipher: "TLS_AES_128_GCM_SHA256",
                    client: None,
                };
                let started = Input::TlsStarted(Box::new(facts));
                self.session.handle(self.now, started);
            }
            Output::Close => {
                self.closed = true;
                self.told.push("close".to_owned());
            }
        }
    }

    fn owe<T>(&mut self, reply: Reply<T>, owed: impl FnOnce(T) -> Owed) {
        assert!(self.owed.is_none(), "one question at a time");
        match reply {
            Reply::Now(answer) => self.pay(owed(answer)),
            Reply::Later(answer) => {
                self.owed = Some(owed(answer));
                self.session.handle(self.now, Input::Later);
            }
        }
    }

    fn pay(&mut self, owed: Owed) {
        let input = match owed {
            Owed::Verdict(verdict) => Input::Answer(verdict),
            Owed::Release(answer) => Input::Released(answer),
            Owed::Pause(pause) => Input::Pause(pause),
            Owed::Login(answer) => Input::Auth(answer),
            Owed::Room(Ok(())) => {
                self.id += 1;
                Input::Begun(QueueId::from_u64(self.id))
            }
            Owed::Room(Err(why)) => {
                self.envelope = None;
                Input::NotBegun(why)
            }
            Owed::Storage(Ok(())) => Input::Stored(Stored(QueueId::from_u64(self.id))),
            Owed::Storage(Err(why)) => Input::NotStored(why),
        };
        self.session.handle(self.now, input);
    }

    pub(crate) fn perform(&mut self, directive: Directive) {
        match directive {
            Directive::Advance(duration) => self.advance(duration),
            Directive::Stop => self.put(Input::Stop),
            Directive::PeerCloses => self.put(Input::PeerClosed),
            Directive::Impatient => self.put(Input::Impatient),
            Directive::Lose(why) => {
                self.envelope = None;
                self.put(Input::NotStored(why));
            }
            Directive::Go => {
                let owed = self.owed.take().expect("an answer that came later");
                self.pay(owed);
                self.drain(&[]);
                self.read();
            }
            Directive::ShowTrace => self.show_trace = true,
            other => self.core.script(other),
        }
    }

    /// The clock jumps; a deadline on the way is met at its time.
    fn advance(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(due) = self.session.deadline() {
            if due > end.instant {
                break;
            }
            self.now = self.now.after(due.since(self.now.instant));
            self.put(Input::Timer);
        }
        self.now = end;
        self.put(Input::Timer);
    }

    /// At the end nothing is left that was not compared.
    pub(crate) fn finish(&mut self) {
        assert_eq!(self.said.escape_ascii().to_string(), "", "replies left");
        assert_eq!(self.told, Vec::<String>::new(), "events left");
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The envelope in the words of the wire.
fn show(envelope: &Envelope, expected: Option<u64>) -> String {
    use std::fmt::Write as _;
    let sender = &envelope.sender;
    let mut text = format!("from {}", sender.reverse_path);
    let mut push = |word: std::fmt::Arguments<'_>| write!(text, " {word}").expect("a string");
    if let Some(octets) = expected {
        push(format_args!("expecting {octets}"));
    }
    if sender.body == BodyKind::EightBitMime {
        push(format_args!("BODY=8BITMIME"));
    }
    if sender.smtputf8 {
        push(format_args!("SMTPUTF8"));
    }
    match sender.ret {
        None => {}
        Some(Ret::Full) => push(format_args!("RET=FULL")),
        Some(Ret::Headers) => push(format_args!("RET=HDRS")),
    }
    if let Some(envid) = &sender.envid {
        push(format_args!("ENVID={envid}"));
    }
    if let Some(priority) = sender.priority {
        push(format_args!("MT-PRIORITY={}", priority.value()));
    }
    if let Some(by) = sender.deliver_by {
        push(format_args!(
            "BY={}/{:?}/{}",
            by.deadline, by.mode, by.trace
        ));
    }
    if let Some(until) = sender.hold_until.map(HoldUntil::at) {
        push(format_args!("HOLD={until}"));
    }
    for recipient in &envelope.recipients {
        push(format_args!("to {}", recipient.forward_path));
        match recipient.notify {
            Notify::Unspecified => {}
            Notify::Never => push(format_args!("NOTIFY=NEVER")),
            Notify::On {
                success,
                failure,
                delay,
            } => {
                let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                let words: Vec<_> = words
                    .iter()
                    .filter(|(on, _)| *on)
                    .map(|(_, word)| *word)
                    .collect();
                push(format_args!("NOTIFY={}", words.join(",")));
            }
        }
        if let Some(orcpt) = &recipient.orcpt {
            push(format_args!("ORCPT={orcpt}"));
        }
    }
    text
}

fn show_message(facts: &MessageFacts, body: &[u8]) -> String {
    let form = match facts.form {
        BodyForm::Plain => "plain",
        BodyForm::Stuffed => "stuffed",
        BodyForm::Raw => "raw",
    };
    let eight_bit = if facts.eight_bit { " 8bit" } else { "" };
    let crlf = if facts.ends_with_crlf { "" } else { " no-crlf" };
    let text = if body.len() <= 200 {
        format!("\"{}\"", body.escape_ascii())
    } else {
        format!("{} octets", body.len())
    };
    format!("{form}{eight_bit}{crlf} {text}")
}
