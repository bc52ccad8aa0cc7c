//! Next hops: SMTP servers that take everything, or do what servers should not.
//!
//! They check what they are told: a command that is none, an extension that was not
//! offered, pipelining where it was not. A breach is a failure of the world.

use std::cell::Cell;
use std::rc::Rc;

use crate::ledger::{Arrival, Ledger};
use crate::peer::Act;
use crate::random::Random;

const SECOND: u64 = 1_000_000_000;

/// What all servers of a world share: whether they still misbehave.
#[derive(Clone, Debug)]
pub(crate) struct Mood(Rc<Cell<Temper>>);

/// What a server does, once in so many commands. 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Temper {
    pub(crate) misdeed_in: u64,
    /// Whether it says 5xx, too.
    pub(crate) refuses: bool,
}

impl Mood {
    pub(crate) fn new(temper: Temper) -> Self {
        Self(Rc::new(Cell::new(temper)))
    }

    pub(crate) fn get(&self) -> Temper {
        self.0.get()
    }

    pub(crate) fn calm(&self) {
        self.0.set(Temper::default());
    }
}

/// What a host offers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offers {
    pub(crate) ehlo: bool,
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
    pub(crate) flight: bool,
    pub(crate) eight_bit: bool,
    pub(crate) dsn: bool,
    pub(crate) size: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Command,
    Data,
    Chunk {
        left: usize,
        last: bool,
    },
    /// It does nothing any more.
    Hung,
}

/// What is done instead of an answer.
enum Misdeed {
    None,
    Reply(&'static str),
    Gone,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// It speaks LMTP (RFC 2033).
    pub(crate) lmtp: bool,
    offers: Offers,
    mood: Mood,
    state: State,
    input: Vec<u8>,
    said_hello: bool,
    from: Option<String>,
    to: Vec<String>,
    text: Vec<u8>,
    /// A chunk came that no transaction was there for.
    out_of_order: bool,
    pub(crate) ended: bool,
    /// When it heard its client first.
    since: Option<u64>,
    random: Random,
}

impl Server {
    pub(crate) fn new(offers: Offers, mood: Mood, random: Random) -> Self {
        Self {
            lmtp: false,
            offers,
            mood,
            state: State::Command,
            input: Vec::new(),
            said_hello: false,
            from: None,
            to: Vec::new(),
            text: Vec::new(),
            out_of_order: false,
            ended: false,
            since: None,
            random,
        }
    }

    /// A client has connected.
    pub(crate) fn greet(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        match self.misdeed(&mut acts) {
            Misdeed::None => say(&mut acts, "220 next.example ready"),
            Misdeed::Reply(reply) => say(&mut acts, reply),
            Misdeed::Gone => {}
        }
        acts
    }

    pub(crate) fn octets(&mut self, now: u64, ledger: &mut Ledger, octets: &[u8]) -> Vec<Act> {
        if self.ended || self.state == State::Hung {
            return Vec::new();
        }
        self.since.get_or_insert(now);
        self.input.extend_from_slice(octets);
        self.work(now, ledger)
    }

    fn work(&mut self, now: u64, ledger: &mut Ledger) -> Vec<Act> {
        let mut acts = Vec::new();
        while !self.ended {
            let more = match self.state {
                State::Command => self.command(&mut acts),
                State::Data => self.data(now, ledger, &mut acts),
                State::Chunk { left, last } => self.chunk(now, ledger, left, last, &mut acts),
                State::Hung => false,
            };
            if !more {
                break;
            }
        }
        acts
    }

    fn command(&mut self, acts: &mut Vec<Act>) -> bool {
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            assert!(self.input.len() < 2048, "a command without an end");
            return false;
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        let line = String::from_utf8(line).expect("a command in ASCII");
        let line = line.strip_suffix("\r\n").expect("CRLF ends a command");
        let verb = line.split(' ').next().unwrap_or_default();
        let text_follows = verb == "BDAT";
        assert!(
            self.offers.pipelining || self.input.is_empty() || text_follows,
            "{line:?} is followed by {:?}, and PIPELINING was not offered",
            self.input.escape_ascii().to_string()
        );
        if verb == "BDAT" {
            return self.begin_chunk(line);
        }
        match self.misdeed(acts) {
            Misdeed::None => {}
            Misdeed::Reply(reply) => {
                if verb == "RSET" {
                    // What it says is one thing; what is pipelined behind is another.
                    self.reset();
                }
                say(acts, reply);
                return true;
            }
            Misdeed::Gone => return true,
        }
        match verb {
            "LHLO" if self.lmtp => {
                self.said_hello = true;
                self.reset();
                self.say_extensions(acts);
            }
            "EHLO" | "HELO" if self.lmtp => panic!("an LMTP server was told {line:?}"),
            "EHLO" if !self.offers.ehlo => say(acts, "502 what?"),
            "HELO" => {
                self.said_hello = true;
                self.reset();
                say(acts, "250 next.example");
            }
            "EHLO" => {
                self.said_hello = true;
                self.reset();
                self.say_extensions(acts);
            }
            "MAIL" => self.mail(line, acts),
            "RCPT" => self.rcpt(line, acts),
            "DATA" if self.to.is_empty() => say(acts, "554 no valid recipients"),
            "DATA" => {
                self.state = State::Data;
                say(acts, "354 go ahead");
            }
            "RSET" => {
                self.reset();
                say(acts, "250 forgotten");
            }
            "NOOP" => say(acts, "250 yes"),
            "QUIT" => {
                say(acts, "221 bye");
                acts.push(Act::Finish);
                self.ended = true;
            }
            _ => panic!("a next hop was told {line:?}"),
        }
        true
    }

    fn say_extensions(&mut self, acts: &mut Vec<Act>) {
        let offers = self.offers;
        let mut lines = vec!["next.example"];
        let extensions = [
            (offers.pipelining, "PIPELINING"),
            (offers.chunking, "CHUNKING"),
            (offers.flight, "X-FLIGHT 20000"),
            (offers.eight_bit, "8BITMIME"),
            (offers.dsn, "DSN"),
            (offers.size, "SIZE 100000000"),
        ];
        lines.extend(
            extensions
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, word)| *word),
        );
        let last = lines.pop().expect("there is a first");
        for line in lines {
            say(acts, &format!("250-{line}"));
        }
        say(acts, &format!("250 {last}"));
    }

    fn mail(&mut self, line: &str, acts: &mut Vec<Act>) {
        assert!(self.said_hello, "MAIL before a hello");
        assert!(self.from.is_none(), "MAIL in a transaction");
        let (path, parameters) = split_path(line, "MAIL FROM:<");
        for parameter in parameters {
            let offered = match parameter.split('=').next().unwrap_or_default() {
                "BODY" => self.offers.eight_bit,
                "SIZE" => self.offers.size,
                "RET" | "ENVID" => self.offers.dsn,
                _ => false,
            };
            assert!(offered, "{line:?} uses what was not offered");
        }
        self.from = Some(path);
        say(acts, "250 sender ok");
    }

    fn rcpt(&mut self, line: &str, acts: &mut Vec<Act>) {
        if self.from.is_none() {
            return say(acts, "503 no sender");
        }
        let (path, parameters) = split_path(line, "RCPT TO:<");
        for parameter in parameters {
            let known = matches!(parameter.split('=').next(), Some("NOTIFY" | "ORCPT"));
            assert!(
                known && self.offers.dsn,
                "{line:?} uses what was not offered"
            );
        }
        assert!(!self.to.contains(&path), "{path} is named twice");
        self.to.push(path);
        say(acts, "250 recipient ok");
    }

    fn begin_chunk(&mut self, line: &str) -> bool {
        assert!(self.offers.chunking, "CHUNKING was not offered");
        let mut words = line.split(' ').skip(1);
        let left = words.next().and_then(|word| word.parse().ok());
        let left = left.expect("BDAT names its octets");
        let last = match words.next() {
            None => false,
            Some("LAST") => true,
            Some(other) => panic!("BDAT with {other:?}"),
        };
        self.out_of_order = self.to.is_empty();
        self.state = State::Chunk { left, last };
        true
    }

    fn chunk(
        &mut self,
        now: u64,
        ledger: &mut Ledger,
        left: usize,
        last: bool,
        acts: &mut Vec<Act>,
    ) -> bool {
        let take = left.min(self.input.len());
        self.text.extend(self.input.drain(..take));
        let left = left - take;
        self.state = State::Chunk { left, last };
        if left > 0 {
            return false;
        }
        self.state = State::Command;
        if self.out_of_order {
            self.text.clear();
            say(acts, "503 no recipients");
            return true;
        }
        if last {
            self.end(now, ledger, acts);
            return true;
        }
        match self.misdeed(acts) {
            Misdeed::None => say(acts, "250 go on"),
            Misdeed::Reply(reply) => {
                // The transaction is undefined then: nothing more of it is taken.
                self.to.clear();
                self.text.clear();
                say(acts, reply);
            }
            Misdeed::Gone => {}
        }
        true
    }

    fn data(&mut self, now: u64, ledger: &mut Ledger, acts: &mut Vec<Act>) -> bool {
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            return false;
        };
        let line = &self.input[..=end];
        assert!(line.ends_with(b"\r\n"), "a line of text ends with CRLF");
        if line == b".\r\n" {
            self.input.drain(..=end);
            self.state = State::Command;
            assert!(
                self.offers.pipelining || self.input.is_empty(),
                "something follows the text, and PIPELINING was not offered"
            );
            self.end(now, ledger, acts);
            return true;
        }
        let line = line.strip_prefix(b".").unwrap_or(line);
        self.text.extend_from_slice(line);
        self.input.drain(..=end);
        true
    }

    fn end(&mut self, now: u64, ledger: &mut Ledger, acts: &mut Vec<Act>) {
        let when = Arrival {
            at: now,
            since: self.since.unwrap_or(now),
        };
        let text = std::mem::take(&mut self.text);
        let from = self.from.take().expect("a transaction");
        let to = std::mem::take(&mut self.to);
        if self.lmtp {
            return self.end_for_each(when, ledger, (&from, &to, &text), acts);
        }
        // It may take the message, and its reply be lost.
        let misdeed = self.misdeed(acts);
        match misdeed {
            Misdeed::Reply(reply) => say(acts, reply),
            Misdeed::None => {
                let receipt = ledger.deliver(when, &from, &to, &text);
                say(acts, "250 taken");
                acts.push(Act::Delivered(receipt));
            }
            Misdeed::Gone => {
                if self.random.one_in(2) {
                    let _ = ledger.deliver(when, &from, &to, &text);
                }
            }
        }
    }

    /// LMTP has a reply for each recipient (RFC 2033 §4.2).
    fn end_for_each(
        &mut self,
        when: Arrival,
        ledger: &mut Ledger,
        (from, to, text): (&str, &[String], &[u8]),
        acts: &mut Vec<Act>,
    ) {
        for one in to {
            match self.misdeed(acts) {
                Misdeed::Reply(reply) => say(acts, reply),
                Misdeed::None => {
                    let receipt = ledger.deliver(when, from, std::slice::from_ref(one), text);
                    say(acts, "250 taken");
                    acts.push(Act::Delivered(receipt));
                }
                Misdeed::Gone => return,
            }
            if self.ended {
                return;
            }
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
        self.text.clear();
    }

    fn misdeed(&mut self, acts: &mut Vec<Act>) -> Misdeed {
        let temper = self.mood.get();
        if !self.random.one_in(temper.misdeed_in) {
            return Misdeed::None;
        }
        match self.random.below(9) {
            0 | 1 => {
                let replies = ["450 4.2.1 later", "451 4.3.0 trouble", "452 4.2.2 full"];
                Misdeed::Reply(self.random.pick(&replies))
            }
            2 if temper.refuses => {
                let replies = ["550 5.1.1 nobody", "554 5.7.1 no", "552 too much"];
                Misdeed::Reply(self.random.pick(&replies))
            }
            3 => {
                self.ended = true;
                acts.push(Act::Finish);
                Misdeed::Gone
            }
            4 => {
                self.ended = true;
                acts.push(Act::Reset);
                Misdeed::Gone
            }
            5 => {
                self.state = State::Hung;
                if self.random.one_in(2) {
                    acts.push(Act::StopReading);
                }
                Misdeed::Gone
            }
            6 => {
                self.ended = true;
                say(acts, "421 4.3.2 going down");
                acts.push(Act::Finish);
                Misdeed::Gone
            }
            _ => {
                let pause = self.random.between(SECOND / 10, 400 * SECOND);
                acts.push(Act::Pause(pause));
                Misdeed::None
            }
        }
    }
}

fn say(acts: &mut Vec<Act>, line: &str) {
    let mut octets = line.as_bytes().to_vec();
    octets.extend_from_slice(b"\r\n");
    acts.push(Act::Send(octets));
}

/// The path and the parameters of MAIL or RCPT.
fn split_path<'a>(line: &'a str, verb: &str) -> (String, impl Iterator<Item = &'a str>) {
    let rest = line.strip_prefix(verb);
    let (path, rest) = rest
        .and_then(|rest| rest.split_once('>'))
        .unwrap_or_else(|| panic!("a next hop was told {line:?}"));
    (
        path.to_owned(),
        rest.split(' ').filter(|word| !word.is_empty()),
    )
}
