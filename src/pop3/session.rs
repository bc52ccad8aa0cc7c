//! A POP3 session from the client's side (RFC 1939), as a machine.
//!
//! It connects, makes the line safe, logs in and lists the mailbox by itself. Then it
//! does what it is told: [`Command`]s for single messages, in the order in which they
//! come, as many ahead of their answers as the server takes (RFC 2449 §6.6). Message
//! text comes out as it is to be stored: in wire form, dots at line starts doubled.
//!
//! Invariants:
//!
//! - [`Output::Ended`] comes exactly once, and only [`Output::Close`] behind it.
//! - Every [`Command`] that was given is answered by [`Output::End`],
//!   [`Output::Refused`] or [`Output::Deleted`], or the session ends without success;
//!   the server has deleted nothing then (RFC 1939 §6).
//! - Each [`Output::Derive`] is to be answered.
//! - Nothing is said of who we are before the line is as safe as it is to be, and
//!   nothing that came before TLS counts behind it.
//! - What is kept of a server's octets is bounded, however many it sends.
//!
//! What it does not do: it neither decides what is collected nor knows what was; it
//! never deletes of itself.

mod contract;
mod logging_in;
mod recording;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::contract::{Command, Input, Output};
use super::capabilities::Capabilities;
use super::fault::{Fault, Stage, of_command, of_login};
use super::listing::Listing;
use super::login::{self, Exchange, Line, Login};
use super::record::Record;
use super::response::{Status, printable};
use super::settings::{LINE_BYTES_MAX, Settings, Tls};
use crate::sasl::Nonce;
use crate::time::{Instant, Now};
use crate::wire::line::{Lines, Read};
use crate::wire::text::{
    BareNewline, Fault as TextFault, Framing, Limits, MessageFacts, Piece, Scanned, Scanner,
};

/// Outputs that wait before the session looks at no further octet: whoever drives it
/// takes them first. A call of the scanner adds some dozens at most.
const OUTPUTS_MAX: usize = 256;

/// Lines of an answer to CAPA that are read. Servers send a dozen.
const CAPABILITY_LINES_MAX: usize = 256;

/// Lines of a listing that are read: those that are kept, and as many that are none.
const LISTING_LINES_MAX: usize = 2 * super::listing::ENTRIES_MAX;

/// How far the session is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Greeting,
    Capabilities,
    Stls,
    Securing,
    Login(Exchange),
    Listing,
    Messages,
    /// QUIT was told; nothing may come behind it.
    Quitting,
    Over,
}

/// A command whose answer is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Capa,
    Stls,
    Login,
    Uidl,
    List,
    Of(Command),
}

/// What the next octets are.
#[derive(Debug)]
enum Reading {
    Status,
    /// Lines up to a lone dot, and how many may still come.
    Lines(usize),
    Text(Box<Scanner>),
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    login: Login,
    /// For the login of this session.
    nonce: Nonce,
    phase: Phase,
    line: Line,
    timestamp: Option<Box<[u8]>>,
    peer: Capabilities,
    listing: Listing,
    lines: Lines,
    reading: Reading,
    /// Sent, not answered.
    asked: VecDeque<Asked>,
    /// Told, not sent.
    told: VecDeque<Command>,
    outputs: VecDeque<Output>,
    deadline: Option<Instant>,
    /// The login was sent: the server counts from there.
    logged_in: bool,
    /// Boxed: hardly any session is recorded.
    record: Option<Box<Record>>,
}

impl Session {
    /// Before the connection is there. `nonce` is new for each session.
    #[must_use]
    pub fn new(settings: Arc<Settings>, login: Login, nonce: Nonce, now: Now) -> Self {
        let line = match settings.tls {
            Tls::Implicit => Line::Safe,
            Tls::None | Tls::Stls => Line::Clear,
        };
        let deadline = Some(now.instant + settings.greeting_timeout);
        Self {
            settings,
            login,
            nonce,
            phase: Phase::Greeting,
            line,
            timestamp: None,
            peer: Capabilities::none(),
            listing: Listing::default(),
            lines: Lines::default(),
            reading: Reading::Status,
            asked: VecDeque::new(),
            told: VecDeque::new(),
            outputs: VecDeque::new(),
            deadline,
            logged_in: false,
            record: None,
        }
    }

    /// Takes what happened. Of octets, gives how many were looked at: fewer than given
    /// only when outputs are to be taken first. Then hand in the rest.
    pub fn handle(&mut self, now: Now, input: Input<'_>) -> usize {
        match input {
            Input::Connected => self.wait(now),
            Input::Received(octets) => return self.received(now, octets),
            Input::Secured => self.secured(now),
            Input::Derived(salted) => self.derived(now, salted.as_ref()),
            Input::TlsFailed(why) => self.fail(Fault::Tls(why.into())),
            Input::PeerClosed => self.fail(Fault::Closed(self.stage())),
            Input::Command(command) => self.tell(now, command),
            Input::Stop => self.stop(now),
            Input::Timer => {
                if self
                    .deadline
                    .is_some_and(|deadline| deadline <= now.instant)
                {
                    self.fail(Fault::TimedOut(self.stage()));
                }
            }
        }
        0
    }

    /// What is wanted or told next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due. `None` while the server owes nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What it is doing.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.phase {
            Phase::Greeting => Stage::Greeting,
            Phase::Capabilities => Stage::Capabilities,
            Phase::Stls | Phase::Securing => Stage::Tls,
            Phase::Login(_) => Stage::Login,
            Phase::Listing => Stage::Listing,
            Phase::Messages => Stage::Messages,
            Phase::Quitting | Phase::Over => Stage::Quit,
        }
    }

    /// Commands that were told and not sent yet.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told.len()
    }

    /// Whether TOP is worth a try.
    #[must_use]
    pub fn has_top(&self) -> bool {
        self.peer.top
    }

    /// How long after this session the server wants no other (RFC 2449 §6.5), if it has
    /// seen a login.
    #[must_use]
    pub fn login_delay(&self) -> Option<Duration> {
        self.peer.login_delay.filter(|_| self.logged_in)
    }

    /// Days after which the server deletes by itself (RFC 2449 §6.7), if it says so.
    #[must_use]
    pub fn expire_days(&self) -> Option<u32> {
        self.peer.expire_days
    }

    fn received(&mut self, now: Now, octets: &[u8]) -> usize {
        let mut at = 0;
        let mut work = Vec::new();
        while at < octets.len() && self.phase != Phase::Over && self.outputs.len() < OUTPUTS_MAX {
            let rest = &octets[at..];
            if let Reading::Text(scanner) = &mut self.reading {
                let outputs = &mut self.outputs;
                let scanned = scanner.scan(rest, |piece| {
                    outputs.push_back(match piece {
                        Piece::Octets(range) => Output::Text(range.start + at..range.end + at),
                        Piece::Constant(octets) => Output::TextConstant(octets),
                    });
                });
                let (taken, ended) = match scanned {
                    Scanned::More(taken) => (taken, None),
                    Scanned::End(taken) => (taken, Some(scanner.facts())),
                };
                let too_long = scanner.fault() == Some(TextFault::TooBig);
                at += taken;
                match ended {
                    _ if too_long => self.fail(Fault::TooLong),
                    Some(facts) => self.text_ended(now, facts),
                    None => {}
                }
            } else {
                let (taken, read) =
                    self.lines
                        .read(rest, &mut work, LINE_BYTES_MAX, BareNewline::Normalise);
                at += taken;
                match read {
                    Read::Partial => {}
                    Read::Line(line) => self.line(now, line),
                    Read::Fault(_) => self.odd(b"a line without an end"),
                }
            }
        }
        if self.phase != Phase::Over {
            self.wait(now);
        }
        at
    }

    /// A line outside of message text.
    fn line(&mut self, now: Now, line: &[u8]) {
        self.heard(line);
        match (&mut self.reading, &self.phase) {
            (Reading::Lines(_), _) if line == b"." => self.lines_ended(now),
            (Reading::Lines(0), _) => self.odd(b"a list that does not end"),
            (Reading::Lines(left), _) => {
                *left -= 1;
                // RFC 1939 §3: a dot at the beginning was doubled.
                let line = line.strip_prefix(b".").unwrap_or(line);
                match self.asked.front() {
                    Some(Asked::Capa) => self.peer.line(line),
                    Some(Asked::Uidl) => self.listing.uid_line(line),
                    Some(Asked::List) => self.listing.size_line(line),
                    _ => unreachable!("only these have lists"),
                }
            }
            (_, Phase::Greeting) => self.greeting(now, line),
            _ => match (Status::parse(line), self.asked.front().copied()) {
                (Some(status), Some(asked)) => self.status(now, asked, status),
                // It spoke without being asked, or octets came in clear behind the
                // answer to STLS.
                _ => self.odd(line),
            },
        }
    }

    fn greeting(&mut self, now: Now, line: &[u8]) {
        match Status::parse(line) {
            Some(Status::Ok) => {
                self.timestamp = login::timestamp(line);
                self.phase = Phase::Capabilities;
                self.ask(now, Asked::Capa, b"CAPA\r\n".to_vec());
            }
            Some(Status::Err(refusal)) if refusal.sounds_busy() => {
                self.fail(Fault::Busy(refusal));
            }
            Some(Status::Err(refusal)) => self.fail(of_command(Stage::Greeting, refusal)),
            _ => self.odd(line),
        }
    }

    fn status(&mut self, now: Now, asked: Asked, status: Status) {
        match (asked, status) {
            (Asked::Capa, Status::Ok) => self.reading = Reading::Lines(CAPABILITY_LINES_MAX),
            (Asked::Capa, Status::Err(_)) => {
                self.answered();
                self.peer = Capabilities::of_rfc_1939();
                self.capabilities_known(now);
            }
            (Asked::Stls, Status::Ok) => {
                self.answered();
                self.phase = Phase::Securing;
                self.outputs.push_back(Output::StartTls);
            }
            (Asked::Stls, Status::Err(refusal)) => self.fail(of_command(Stage::Tls, refusal)),
            (Asked::Login, Status::Err(refusal)) => {
                self.say_goodbye();
                self.fail(of_login(refusal));
            }
            (Asked::Login, status) => self.login_goes_on(now, &status),
            (Asked::Uidl | Asked::List, Status::Ok) => {
                self.reading = Reading::Lines(LISTING_LINES_MAX);
            }
            // It has UIDL, and does not give it now: without, what is known would pass
            // for new.
            (Asked::Uidl, Status::Err(refusal)) if self.peer.uidl_is_announced => {
                self.say_goodbye();
                self.fail(of_command(Stage::Listing, refusal));
            }
            // A server without CAPA that has no UIDL either.
            (Asked::Uidl, Status::Err(_)) => {
                self.answered();
                self.send_list(now);
            }
            (Asked::List, Status::Err(refusal)) => {
                self.say_goodbye();
                self.fail(of_command(Stage::Listing, refusal));
            }
            (Asked::Of(command), Status::Ok) => self.done(now, command),
            (Asked::Of(Command::Quit), Status::Err(refusal)) => {
                let fault = of_command(Stage::Quit, refusal);
                self.over(Err(fault));
            }
            (Asked::Of(command), Status::Err(refusal)) => {
                self.answered();
                self.outputs.push_back(Output::Refused(command, refusal));
                self.send(now);
            }
            (_, Status::Continue(_)) => self.odd(b"+"),
        }
    }

    /// A command for a message was taken.
    fn done(&mut self, now: Now, command: Command) {
        match command {
            Command::Retrieve(number) | Command::Top(number) => {
                self.outputs.push_back(Output::Begin(number));
                let limits = Limits {
                    message_bytes_max: self.settings.message_bytes_max,
                    // A message that is in a mailbox was accepted by somebody.
                    line_bytes_max: u64::MAX,
                    hops_max: u32::MAX,
                };
                let scanner = Scanner::new(Framing::Dots, BareNewline::Normalise, limits);
                self.reading = Reading::Text(Box::new(scanner));
            }
            Command::Delete(number) => {
                self.answered();
                self.outputs.push_back(Output::Deleted(number));
                self.send(now);
            }
            Command::Quit => self.over(Ok(())),
        }
    }

    fn text_ended(&mut self, now: Now, facts: MessageFacts) {
        self.heard_text(facts.octets);
        self.reading = Reading::Status;
        let Some(Asked::Of(Command::Retrieve(number) | Command::Top(number))) = self.answered()
        else {
            unreachable!("only these have texts");
        };
        self.outputs.push_back(Output::End(number, facts));
        self.send(now);
    }

    fn lines_ended(&mut self, now: Now) {
        self.reading = Reading::Status;
        match self.answered() {
            Some(Asked::Capa) => self.capabilities_known(now),
            Some(Asked::List) => {
                self.phase = Phase::Messages;
                let listing = std::mem::take(&mut self.listing);
                self.outputs.push_back(Output::Listed(listing.entries()));
            }
            _ => self.send_list(now),
        }
    }

    fn capabilities_known(&mut self, now: Now) {
        if self.settings.tls == Tls::Stls && self.line == Line::Clear {
            if self.peer.stls {
                self.phase = Phase::Stls;
                self.ask(now, Asked::Stls, b"STLS\r\n".to_vec());
            } else {
                self.say_goodbye();
                self.fail(Fault::Unfit(
                    "the server does not offer STLS, and `tls = \"starttls\"` is set",
                ));
            }
            return;
        }
        match login::choose(
            &self.peer,
            self.line,
            self.timestamp.as_deref(),
            &self.login,
        ) {
            Ok(method) => self.log_in(now, method),
            Err(why) => {
                self.say_goodbye();
                self.fail(Fault::Unfit(why));
            }
        }
    }

    fn secured(&mut self, now: Now) {
        if self.phase != Phase::Securing {
            return;
        }
        self.line = Line::Safe;
        // RFC 2595 §4: what was said before is forgotten.
        self.timestamp = None;
        self.peer = Capabilities::none();
        self.phase = Phase::Capabilities;
        self.ask(now, Asked::Capa, b"CAPA\r\n".to_vec());
    }

    /// LIST, unless it is under way.
    fn send_list(&mut self, now: Now) {
        if self.asked.is_empty() {
            self.ask(now, Asked::List, b"LIST\r\n".to_vec());
        }
    }

    fn tell(&mut self, now: Now, command: Command) {
        if self.phase != Phase::Messages {
            // The session has failed meanwhile, and has said so.
            debug_assert!(
                self.phase == Phase::Over || command != Command::Quit,
                "{command:?} in {:?}",
                self.phase
            );
            return;
        }
        self.told.push_back(command);
        if command == Command::Quit {
            self.phase = Phase::Quitting;
        }
        self.send(now);
    }

    fn stop(&mut self, now: Now) {
        match self.phase {
            Phase::Messages => {
                self.told
                    .retain(|command| matches!(command, Command::Delete(_)));
                self.tell(now, Command::Quit);
            }
            Phase::Quitting | Phase::Over => {}
            _ => {
                self.say_goodbye();
                self.fail(Fault::Closed(self.stage()));
            }
        }
    }

    /// Sends as many commands as the server takes ahead of its answers.
    fn send(&mut self, now: Now) {
        let ahead_max = if self.peer.pipelining {
            self.settings.commands_ahead_max.max(1)
        } else {
            1
        };
        let mut octets = Vec::new();
        let texts =
            |asked: &Asked| matches!(asked, Asked::Of(Command::Retrieve(_) | Command::Top(_)));
        let mut texts_ahead = self.asked.iter().filter(|asked| texts(asked)).count();
        while self.asked.len() < ahead_max
            && let Some(&command) = self.told.front()
        {
            if texts(&Asked::Of(command)) {
                if texts_ahead >= self.settings.texts_ahead_max.max(1) {
                    break;
                }
                texts_ahead += 1;
            }
            self.told.pop_front();
            let line = match command {
                Command::Retrieve(number) => format!("RETR {number}\r\n"),
                Command::Top(number) => format!("TOP {number} 0\r\n"),
                Command::Delete(number) => format!("DELE {number}\r\n"),
                Command::Quit => "QUIT\r\n".to_owned(),
            };
            octets.extend_from_slice(line.as_bytes());
            self.asked.push_back(Asked::Of(command));
        }
        if !octets.is_empty() {
            self.put(octets);
        }
        self.wait(now);
    }

    fn ask(&mut self, now: Now, asked: Asked, octets: Vec<u8>) {
        self.asked.push_back(asked);
        self.put(octets);
        self.wait(now);
    }

    /// The same, by which we log in.
    fn ask_login(&mut self, now: Now, octets: Vec<u8>) {
        self.asked.push_back(Asked::Login);
        self.put_login(octets);
        self.wait(now);
    }

    /// The answer to the oldest command is complete.
    fn answered(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// The server has as long from now on as what it owes may take.
    fn wait(&mut self, now: Now) {
        let settings = &self.settings;
        let patience = match self.phase {
            Phase::Greeting => settings.greeting_timeout,
            Phase::Login(_) | Phase::Listing => settings.opening_timeout,
            _ => settings.response_timeout,
        };
        let owes =
            !self.asked.is_empty() || matches!(self.phase, Phase::Greeting | Phase::Securing);
        self.deadline = owes.then(|| now.instant + patience);
    }

    /// QUIT without waiting for its answer, where nothing depends on it.
    fn say_goodbye(&mut self) {
        self.put(b"QUIT\r\n".to_vec());
    }

    fn odd(&mut self, line: &[u8]) {
        self.fail(Fault::Protocol {
            stage: self.stage(),
            what: printable(line),
        });
    }

    fn fail(&mut self, fault: Fault) {
        self.over(Err(fault));
    }

    fn over(&mut self, result: Result<(), Fault>) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        self.deadline = None;
        self.asked.clear();
        self.told.clear();
        self.outputs.push_back(Output::Ended(result));
        self.outputs.push_back(Output::Close);
    }
}
