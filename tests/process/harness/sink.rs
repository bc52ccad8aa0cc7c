//! A next hop: an SMTP server that keeps whole messages, offers the extensions it
//! is told to, misbehaves by [`Rule`]s, and notes each breach of protocol.
//!
//! It is written for being obvious: a thread for each session, blocking reads. It
//! shares no code with the program under test.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::place;
use super::rule::{Action, Rule, Stage};
use super::session::Session;
use super::waiting::{PATIENCE, eventually};

/// What a good server offers.
pub(crate) const EVERYTHING: &[&str] = &[
    "PIPELINING",
    "SIZE 104857600",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "DSN",
    "ENHANCEDSTATUSCODES",
];

/// Command lines that are kept for the report of a failure.
const COMMANDS_SHOWN_MAX: usize = 40;

/// How the text of a message came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transfer {
    Data,
    Bdat,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// The argument of MAIL with its parameters.
    pub(crate) mail: String,
    /// The argument of each accepted RCPT with its parameters.
    pub(crate) recipients: Vec<String>,
    pub(crate) transfer: Transfer,
    /// The message, dots at line starts no longer doubled.
    pub(crate) octets: Vec<u8>,
    /// When all of it was there: the reply came after that.
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
struct State {
    mail: Vec<Mail>,
    breaches: Vec<String>,
    sessions: u32,
    open: Vec<(u32, TcpStream)>,
    open_most: usize,
    commands: Vec<String>,
    used: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Shared {
    extensions: Vec<String>,
    rules: Vec<Rule>,
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Whether EHLO shows this keyword.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        (self.extensions.iter()).any(|line| line.split(' ').next() == Some(keyword))
    }

    pub(super) fn breach(&self, what: String) {
        self.state().breaches.push(what);
    }

    /// The lines of EHLO's reply.
    pub(super) fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Keeps a command line for a report.
    pub(super) fn note(&self, line: String) {
        let mut state = self.state();
        state.commands.push(line);
        let surplus = state.commands.len().saturating_sub(COMMANDS_SHOWN_MAX);
        state.commands.drain(..surplus);
    }

    /// A message is ours now.
    pub(super) fn take(&self, mail: Mail) {
        self.state().mail.push(mail);
        self.changed.notify_all();
    }

    /// The first rule that is due here; it is counted as used.
    pub(super) fn rule(&self, stage: Stage, line: &str) -> Option<Action> {
        let mut state = self.state();
        state.used.resize(self.rules.len(), 0);
        for (rule, used) in self.rules.iter().zip(&mut state.used) {
            if rule.stage != stage || !line.contains(&rule.containing) {
                continue;
            }
            *used = used.saturating_add(1);
            let past = *used > rule.skip.saturating_add(rule.times);
            if *used > rule.skip && !past {
                return Some(rule.action.clone());
            }
        }
        None
    }
}

/// A running next hop.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Sink {
    /// One that takes everything and offers everything.
    pub(crate) fn new() -> Self {
        Self::with(EVERYTHING, [])
    }

    /// A mail exchanger that takes everything.
    pub(crate) fn exchanger() -> Self {
        Self::exchanger_with([])
    }

    /// A mail exchanger that obeys these rules.
    pub(crate) fn exchanger_with(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::at(place::next_exchanger(), EVERYTHING, rules)
    }

    /// One that offers this.
    pub(crate) fn offering(extensions: &[&str]) -> Self {
        Self::with(extensions, [])
    }

    /// One that offers everything and obeys these rules, the first that applies.
    pub(crate) fn ruled(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::with(EVERYTHING, rules)
    }

    pub(crate) fn with(extensions: &[&str], rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::at(place::next_address(), extensions, rules)
    }

    /// The same at an address from [`place::next_address`], where nobody listened
    /// before.
    pub(crate) fn at(
        address: SocketAddr,
        extensions: &[&str],
        rules: impl IntoIterator<Item = Rule>,
    ) -> Self {
        // A program that another test is starting has a copy of whatever listened here
        // before, until it is that program.
        let listener = eventually("the address is free", || TcpListener::bind(address).ok());
        let shared = Arc::new(Shared {
            extensions: extensions.iter().map(|&line| line.to_owned()).collect(),
            rules: rules.into_iter().collect(),
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &for_thread));
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has taken `count` messages, and gives all that it has.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Mail> {
        let what = format!("{count} messages at the next hop");
        self.wait_until(&what, |mail| mail.len() >= count)
    }

    /// Waits until the messages that it has taken satisfy `enough`.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, enough: impl Fn(&[Mail]) -> bool) -> Vec<Mail> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !enough(&state.mail) {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                let report = format!(
                    "{what}: not reached; {} messages in {} sessions; breaches: {:?}; last commands: {:?}",
                    state.mail.len(),
                    state.sessions,
                    state.breaches,
                    state.commands
                );
                drop(state);
                panic!("{report}");
            }
            state = (self.shared.changed.wait_timeout(state, rest))
                .expect("no holder panics")
                .0;
        }
        let mail = state.mail.clone();
        drop(state);
        self.assert_no_breach();
        mail
    }

    /// Waits for the first message, which must be the only one so far.
    #[track_caller]
    pub(crate) fn wait_for_one(&self) -> Mail {
        let mut mail = self.wait_for(1);
        assert_eq!(mail.len(), 1, "more than one message");
        mail.remove(0)
    }

    /// What it has taken so far.
    pub(crate) fn mail(&self) -> Vec<Mail> {
        self.shared.state().mail.clone()
    }

    /// The same, and it is not kept any longer: for tests that take hours.
    pub(crate) fn take_mail(&self) -> Vec<Mail> {
        std::mem::take(&mut self.shared.state().mail)
    }

    /// It goes, and gives all that it has taken: what comes between a look and its end would
    /// have its 250, and be counted nowhere.
    pub(crate) fn end(self) -> Vec<Mail> {
        let shared = Arc::clone(&self.shared);
        drop(self);
        std::mem::take(&mut shared.state().mail)
    }

    /// When it took the newest message.
    pub(crate) fn newest(&self) -> Option<Instant> {
        self.shared.state().mail.iter().map(|mail| mail.at).max()
    }

    /// How many messages it has taken so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.state().mail.len()
    }

    /// How many sessions were opened so far.
    pub(crate) fn sessions(&self) -> u32 {
        self.shared.state().sessions
    }

    /// The most sessions that were open at once.
    pub(crate) fn sessions_at_once(&self) -> usize {
        self.shared.state().open_most
    }

    #[track_caller]
    pub(crate) fn assert_no_breach(&self) {
        let (breaches, commands) = {
            let state = self.shared.state();
            (state.breaches.clone(), state.commands.clone())
        };
        assert!(
            breaches.is_empty(),
            "breaches of protocol: {breaches:#?}; last commands: {commands:#?}"
        );
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        for (_, stream) in &self.shared.state().open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        if !thread::panicking() {
            self.assert_no_breach();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions = Vec::new();
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::Acquire) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = {
            let mut state = shared.state();
            let number = state.sessions;
            state.sessions += 1;
            let handle = stream.try_clone().expect("a descriptor");
            state.open.push((number, handle));
            state.open_most = state.open_most.max(state.open.len());
            number
        };
        let shared = Arc::clone(shared);
        // Until its handle is dropped a thread that has ended keeps its stack: in a soak they
        // were 32,000, and the system gave no more.
        sessions.retain(|session: &JoinHandle<()>| !session.is_finished());
        sessions.push(thread::spawn(move || {
            let mut session = Session::new(number, stream, &shared);
            // The end of a connection is the relay's affair, however it comes.
            let _ = session.run();
            let stream = session.into_stream();
            let _ = stream.shutdown(Shutdown::Both);
            shared.state().open.retain(|(other, _)| *other != number);
            shared.changed.notify_all();
        }));
    }
    for (_, stream) in &shared.state().open {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for session in sessions {
        let _ = session.join();
    }
}
