//! Clients that bring mail: plain, pipelined or in chunks; some go away at any octet
//! or time, and some do not read.

use std::collections::VecDeque;

use crate::ledger::{Ledger, Progress};
use crate::peer::Act;
use crate::random::Random;

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// One command at a time.
    Plain,
    /// Everything up to DATA in one go, and the next transaction behind the text.
    Pipelined,
    /// BDAT, everything in one go.
    Chunked,
}

/// What a reply is awaited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    Greeting,
    Hello,
    Mail,
    Rcpt(usize),
    Data,
    /// A chunk that is not the last.
    Chunk,
    End,
    Reset,
    Quit,
}

/// How it goes away before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Finish,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Client {
    manner: Manner,
    messages: VecDeque<usize>,
    /// The one that is being sent.
    current: Option<usize>,
    awaited: VecDeque<(Awaited, usize)>,
    /// Octets of a line that is not whole.
    line: Vec<u8>,
    /// Whether any RCPT of the current message was accepted.
    accepted: bool,
    mail_refused: bool,
    /// RCPTs of the current message, said one by one.
    rcpts_said: usize,
    /// There was a transaction before.
    begun: bool,
    /// It goes when it has sent so many octets.
    pub(crate) exit: Option<(u64, Exit)>,
    sent: u64,
    pub(crate) ended: bool,
    random: Random,
}

impl Client {
    pub(crate) fn new(manner: Manner, messages: VecDeque<usize>, random: Random) -> Self {
        Self {
            manner,
            messages,
            current: None,
            awaited: VecDeque::from([(Awaited::Greeting, 0)]),
            line: Vec::new(),
            accepted: false,
            mail_refused: false,
            rcpts_said: 0,
            begun: false,
            exit: None,
            sent: 0,
            ended: false,
            random,
        }
    }

    /// One more to bring.
    pub(crate) fn give(&mut self, message: usize) {
        self.messages.push_back(message);
    }

    /// Octets came.
    pub(crate) fn octets(&mut self, now: u64, ledger: &mut Ledger, octets: &[u8]) -> Vec<Act> {
        let mut acts = Vec::new();
        for &octet in octets {
            self.line.push(octet);
            if octet != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            assert!(
                line.len() >= 5 && line.ends_with(b"\r\n") && line[..3].is_ascii(),
                "a reply line: {}",
                line.escape_ascii()
            );
            if line[3] == b'-' {
                continue;
            }
            self.reply(now, ledger, &line, &mut acts);
            if self.ended {
                break;
            }
        }
        acts
    }

    fn reply(&mut self, now: u64, ledger: &mut Ledger, line: &[u8], acts: &mut Vec<Act>) {
        let code: u16 = std::str::from_utf8(&line[..3])
            .ok()
            .and_then(|code| code.parse().ok())
            .expect("a reply code");
        if code == 421 {
            // It says good-bye, maybe in answer to something.
            if let Some(&(Awaited::End, message)) = self.awaited.front() {
                ledger.messages[message].progress = Progress::Refused;
            }
            self.leave(acts);
            return;
        }
        let Some((awaited, message)) = self.awaited.pop_front() else {
            panic!("a reply to nothing: {}", line.escape_ascii());
        };
        let good = code < 400;
        match awaited {
            Awaited::Greeting if good => {
                self.say(acts, b"EHLO client.example\r\n");
                self.awaited.push_back((Awaited::Hello, 0));
            }
            Awaited::Greeting | Awaited::Quit => self.leave(acts),
            Awaited::Hello | Awaited::Reset => {}
            Awaited::Mail => self.mail_refused = !good,
            Awaited::Rcpt(index) => {
                self.accepted |= good;
                let recipient = &mut ledger.messages[message].recipients[index];
                recipient.accepted = good;
                recipient.refused += u32::from(!good);
            }
            Awaited::Data if code == 354 => self.text(now, ledger, message, acts),
            Awaited::Data => {
                // Nobody was accepted; the transaction is open all the same.
                if self.manner == Manner::Pipelined {
                    self.awaited.push_back((Awaited::Reset, message));
                    self.say(acts, b"RSET\r\n");
                }
            }
            Awaited::Chunk => {}
            Awaited::End => {
                let progress = &mut ledger.messages[message].progress;
                assert_eq!(
                    *progress,
                    Progress::Whole,
                    "a reply to the end comes behind it"
                );
                *progress = if good {
                    Progress::Accepted
                } else {
                    Progress::Refused
                };
                if good {
                    let message = &ledger.messages[message];
                    assert!(
                        message.recipients.iter().any(|r| r.accepted),
                        "accepted for nobody"
                    );
                    acts.push(Act::Accepted {
                        whole_at: message.whole_at,
                    });
                }
            }
        }
        if self.awaited.is_empty() && !self.ended {
            self.next(now, ledger, acts);
        }
    }

    /// Nothing is awaited: what comes next?
    fn next(&mut self, now: u64, ledger: &mut Ledger, acts: &mut Vec<Act>) {
        if let Some(message) = self.current
            && self.manner == Manner::Plain
        {
            if self.plain(ledger, message, acts) {
                return;
            }
            self.current = None;
        }
        self.begin(now, ledger, acts);
    }

    /// Begins the next transaction, or ends the session.
    fn begin(&mut self, now: u64, ledger: &mut Ledger, acts: &mut Vec<Act>) {
        let Some(message) = self.messages.pop_front() else {
            self.current = None;
            self.awaited.push_back((Awaited::Quit, 0));
            self.say(acts, b"QUIT\r\n");
            return;
        };
        self.current = Some(message);
        self.accepted = false;
        self.mail_refused = false;
        self.rcpts_said = 0;
        let mut octets = Vec::new();
        if self.manner == Manner::Chunked && self.begun {
            // It may have nobody, or be undefined by a chunk that was refused.
            octets.extend_from_slice(b"RSET\r\n");
            self.awaited.push_back((Awaited::Reset, message));
        }
        self.begun = true;
        octets.extend(mail(ledger, message));
        self.awaited.push_back((Awaited::Mail, message));
        if self.manner == Manner::Plain {
            self.say(acts, &octets);
            return;
        }
        for index in 0..ledger.messages[message].recipients.len() {
            octets.extend(rcpt(ledger, message, index));
            self.awaited.push_back((Awaited::Rcpt(index), message));
        }
        if self.manner == Manner::Pipelined {
            octets.extend_from_slice(b"DATA\r\n");
            self.awaited.push_back((Awaited::Data, message));
            self.say(acts, &octets);
            return;
        }
        let text = ledger.messages[message].octets.clone();
        let mut from = 0;
        loop {
            let left = text.len() - from;
            let take = if self.random.one_in(2) {
                left
            } else {
                self.random.length(0, left)
            };
            let last = take == left && self.random.one_in(2);
            let word = if last { " LAST" } else { "" };
            octets.extend_from_slice(format!("BDAT {take}{word}\r\n").as_bytes());
            octets.extend_from_slice(&text[from..from + take]);
            from += take;
            if last {
                break;
            }
            self.awaited.push_back((Awaited::Chunk, message));
        }
        self.awaited.push_back((Awaited::End, message));
        self.say_end(now, ledger, acts, &octets, message);
        if self.random.one_in(3) && !self.messages.is_empty() {
            self.begin(now, ledger, acts);
        }
    }

    /// The next command of a plain transaction. False if it is over.
    fn plain(&mut self, ledger: &Ledger, message: usize, acts: &mut Vec<Act>) -> bool {
        if self.mail_refused || ledger.messages[message].progress != Progress::Unfinished {
            return false;
        }
        let index = self.rcpts_said;
        if index < ledger.messages[message].recipients.len() {
            self.rcpts_said += 1;
            let octets = rcpt(ledger, message, index);
            self.awaited.push_back((Awaited::Rcpt(index), message));
            self.say(acts, &octets);
            return true;
        }
        if self.accepted {
            self.accepted = false;
            self.awaited.push_back((Awaited::Data, message));
            self.say(acts, b"DATA\r\n");
        } else {
            self.awaited.push_back((Awaited::Reset, message));
            self.mail_refused = true;
            self.say(acts, b"RSET\r\n");
        }
        true
    }

    fn text(&mut self, now: u64, ledger: &mut Ledger, message: usize, acts: &mut Vec<Act>) {
        let mut octets = stuffed(&ledger.messages[message].octets);
        octets.extend_from_slice(b".\r\n");
        self.awaited.push_front((Awaited::End, message));
        self.say_end(now, ledger, acts, &octets, message);
        if self.manner == Manner::Pipelined && self.random.one_in(3) && !self.messages.is_empty() {
            self.begin(now, ledger, acts);
        }
    }

    /// Says the last octets of a message.
    fn say_end(
        &mut self,
        now: u64,
        ledger: &mut Ledger,
        acts: &mut Vec<Act>,
        octets: &[u8],
        message: usize,
    ) {
        if self.say(acts, octets) {
            let message = &mut ledger.messages[message];
            message.progress = Progress::Whole;
            message.whole_at = now;
        }
    }

    /// Says this, as far as it lives. True if it lived to say all.
    fn say(&mut self, acts: &mut Vec<Act>, octets: &[u8]) -> bool {
        if self.ended {
            return false;
        }
        let whole = octets.len() as u64;
        match self.exit {
            Some((at, exit)) if self.sent + whole > at => {
                let octets = &octets[..(at - self.sent) as usize];
                self.sent = at;
                acts.push(Act::Send(octets.to_vec()));
                acts.push(match exit {
                    Exit::Finish => Act::Finish,
                    Exit::Reset => Act::Reset,
                });
                self.ended = true;
                false
            }
            _ => {
                self.sent += whole;
                acts.push(Act::Send(octets.to_vec()));
                true
            }
        }
    }

    fn leave(&mut self, acts: &mut Vec<Act>) {
        self.ended = true;
        acts.push(Act::Finish);
    }
}

fn mail(ledger: &Ledger, message: usize) -> Vec<u8> {
    let message = &ledger.messages[message];
    format!("MAIL FROM:<{}>{}\r\n", message.sender, message.parameters).into_bytes()
}

fn rcpt(ledger: &Ledger, message: usize, index: usize) -> Vec<u8> {
    let recipient = &ledger.messages[message].recipients[index];
    format!(
        "RCPT TO:<{}>{}\r\n",
        recipient.address, recipient.parameters
    )
    .into_bytes()
}

fn stuffed(octets: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(octets.len());
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}
