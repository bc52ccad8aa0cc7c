//! A mailbox at a provider, and the POP3 server in front of it (RFC 1939), which does what it
//! should or breaks off anywhere.
//!
//! It keeps to the letter where it matters: what a session marks as deleted is deleted when
//! the session ends with QUIT, and else not; and one session at a time has the mailbox.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::peer::Act;
use crate::random::Random;
use crate::server::Mood;

const SECOND: u64 = 1_000_000_000;

/// How long a session that says nothing keeps others out (RFC 1939 §3).
const AUTOLOGOUT: u64 = 600 * SECOND;

/// What the mail lies in.
#[derive(Debug, Default)]
struct Maildrop {
    /// Unique-ids, and texts as they are meant.
    messages: Vec<(u64, Rc<Vec<u8>>)>,
    /// The session that has it, and when that one last said something.
    session: Option<(u64, u64)>,
    sessions: u64,
}

/// A mailbox; whoever has a copy sees the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox(Rc<RefCell<Maildrop>>);

impl Mailbox {
    /// Mail has come.
    pub(crate) fn put(&self, uid: u64, octets: Vec<u8>) {
        self.0.borrow_mut().messages.push((uid, Rc::new(octets)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().messages.is_empty()
    }
}

/// What a server has beside RFC 1939.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) capa: bool,
    pub(crate) uidl: bool,
    pub(crate) pipelining: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Server {
    mailbox: Mailbox,
    abilities: Abilities,
    mood: Mood,
    random: Random,
    number: u64,
    input: Vec<u8>,
    logged_in: bool,
    messages: Vec<(u64, Rc<Vec<u8>>)>,
    deleted: BTreeSet<usize>,
    hung: bool,
    pub(crate) ended: bool,
}

impl Server {
    pub(crate) fn new(mailbox: Mailbox, abilities: Abilities, mood: Mood, random: Random) -> Self {
        let number = {
            let mut maildrop = mailbox.0.borrow_mut();
            maildrop.sessions += 1;
            maildrop.sessions
        };
        Self {
            mailbox,
            abilities,
            mood,
            random,
            number,
            input: Vec::new(),
            logged_in: false,
            messages: Vec::new(),
            deleted: BTreeSet::new(),
            hung: false,
            ended: false,
        }
    }

    pub(crate) fn greet(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.behaves(&mut acts) {
            say(&mut acts, "+OK ready");
        }
        acts
    }

    pub(crate) fn octets(&mut self, now: u64, octets: &[u8]) -> Vec<Act> {
        let mut acts = Vec::new();
        self.input.extend_from_slice(octets);
        while !self.ended && !self.hung {
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                assert!(self.input.len() < 2048, "a command without an end");
                break;
            };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8(line).expect("a command in ASCII");
            let line = line.strip_suffix("\r\n").expect("CRLF ends a command");
            assert!(
                self.abilities.pipelining || self.input.is_empty(),
                "{line:?} is followed by more, and PIPELINING was not offered"
            );
            if self.behaves(&mut acts) {
                self.command(now, line, &mut acts);
            }
        }
        acts
    }

    /// The connection is gone: what was marked stays.
    pub(crate) fn closed(&mut self) {
        self.ended = true;
        let mut maildrop = self.mailbox.0.borrow_mut();
        if maildrop
            .session
            .is_some_and(|(number, _)| number == self.number)
        {
            maildrop.session = None;
        }
    }

    fn command(&mut self, now: u64, line: &str, acts: &mut Vec<Act>) {
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let argument = words.next();
        if self.logged_in {
            let mut maildrop = self.mailbox.0.borrow_mut();
            let ours = (maildrop.session).is_some_and(|(number, _)| number == self.number);
            if !ours {
                // It was silent for too long, and another one has it.
                self.ended = true;
                acts.push(Act::Finish);
                return;
            }
            maildrop.session = Some((self.number, now));
        }
        match verb {
            "CAPA" if self.abilities.capa => {
                say(acts, "+OK");
                let words = [
                    (true, "USER"),
                    (self.abilities.uidl, "UIDL"),
                    (self.abilities.pipelining, "PIPELINING"),
                ];
                for (_, word) in words.iter().filter(|(has, _)| *has) {
                    say(acts, word);
                }
                say(acts, ".");
            }
            "CAPA" => say(acts, "-ERR what?"),
            "USER" if !self.logged_in => say(acts, "+OK"),
            "PASS" if !self.logged_in => self.log_in(now, acts),
            "QUIT" => self.quit(acts),
            _ if !self.logged_in => panic!("{line:?} before the login"),
            "STAT" => say(acts, &format!("+OK {} 0", self.messages.len())),
            "NOOP" => say(acts, "+OK"),
            "RSET" => {
                self.deleted.clear();
                say(acts, "+OK");
            }
            "UIDL" if !self.abilities.uidl => say(acts, "-ERR what?"),
            "UIDL" | "LIST" => {
                assert_eq!(argument, None, "the whole list is asked for");
                say(acts, "+OK");
                for (index, (uid, octets)) in self.messages.iter().enumerate() {
                    let what = match verb {
                        "UIDL" => format!("u{uid}"),
                        _ => octets.len().to_string(),
                    };
                    if !self.deleted.contains(&index) {
                        say(acts, &format!("{} {what}", index + 1));
                    }
                }
                say(acts, ".");
            }
            "RETR" => {
                let index = self.index(line, argument);
                self.retrieve(index, acts);
            }
            "DELE" => {
                let index = self.index(line, argument);
                self.deleted.insert(index);
                say(acts, "+OK");
            }
            _ => panic!("a mailbox was told {line:?}"),
        }
    }

    fn index(&self, line: &str, argument: Option<&str>) -> usize {
        let number: usize = argument.and_then(|text| text.parse().ok()).unwrap_or(0);
        let known = (1..=self.messages.len()).contains(&number);
        assert!(known && !self.deleted.contains(&(number - 1)), "{line:?}");
        number - 1
    }

    fn log_in(&mut self, now: u64, acts: &mut Vec<Act>) {
        let mut maildrop = self.mailbox.0.borrow_mut();
        if maildrop
            .session
            .is_some_and(|(_, said)| now < said + AUTOLOGOUT)
        {
            return say(acts, "-ERR [IN-USE] another session has it");
        }
        maildrop.session = Some((self.number, now));
        self.messages = maildrop.messages.clone();
        self.logged_in = true;
        say(acts, "+OK");
    }

    fn retrieve(&mut self, index: usize, acts: &mut Vec<Act>) {
        let mut octets = b"+OK\r\n".to_vec();
        for line in self.messages[index]
            .1
            .split_inclusive(|&octet| octet == b'\n')
        {
            if line.starts_with(b".") {
                octets.push(b'.');
            }
            octets.extend_from_slice(line);
        }
        octets.extend_from_slice(b".\r\n");
        let misdeed_in = self.mood.get().misdeed_in;
        if self.random.one_in(misdeed_in) {
            // In the middle of the text.
            octets.truncate(self.random.length(0, octets.len() - 1));
            acts.push(Act::Send(octets));
            acts.push(self.random.pick_act());
            self.closed();
            return;
        }
        acts.push(Act::Send(octets));
    }

    fn quit(&mut self, acts: &mut Vec<Act>) {
        let said = self.logged_in;
        if said {
            let gone: BTreeSet<u64> = self.deleted.iter().map(|i| self.messages[*i].0).collect();
            let mut maildrop = self.mailbox.0.borrow_mut();
            maildrop.messages.retain(|(uid, _)| !gone.contains(uid));
        }
        // It may be done, and nobody hears of it.
        let misdeed_in = self.mood.get().misdeed_in;
        if !self.random.one_in(misdeed_in) {
            say(acts, "+OK");
        }
        acts.push(Act::Finish);
        self.closed();
    }

    /// Whether it does what it should with the next command; else it has done otherwise.
    fn behaves(&mut self, acts: &mut Vec<Act>) -> bool {
        let misdeed_in = self.mood.get().misdeed_in;
        if !self.random.one_in(misdeed_in) {
            return true;
        }
        match self.random.below(5) {
            0 => say(acts, "-ERR [SYS/TEMP] later"),
            1 => {
                acts.push(self.random.pick_act());
                self.closed();
            }
            2 => self.hung = true,
            3 => {
                acts.push(Act::Send(b"+OK and not whole".to_vec()));
                acts.push(Act::Reset);
                self.closed();
            }
            _ => {
                let pause = self.random.between(SECOND / 10, 400 * SECOND);
                acts.push(Act::Pause(pause));
                return true;
            }
        }
        false
    }
}

impl Random {
    /// How a connection is ended that should not be.
    fn pick_act(&mut self) -> Act {
        if self.one_in(2) {
            Act::Reset
        } else {
            Act::Finish
        }
    }
}

fn say(acts: &mut Vec<Act>, line: &str) {
    acts.push(Act::Send(format!("{line}\r\n").into_bytes()));
}
