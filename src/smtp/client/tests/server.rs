//! A server for tests: it follows RFC 5321, 2033, 2920 and 3030, but for the replies
//! that a fault replaces.

use super::Piece;
use crate::smtp::client::settings::Protocol;
use crate::smtp::client::stage::Stage;

/// What it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    Say(Vec<u8>),
    Close,
}

/// What comes in place of a right reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// This code.
    Code(u16),
    /// The connection goes.
    Close,
    /// No SMTP.
    Garbage,
    /// Nothing, and nothing any more.
    Silence,
    /// The right reply twice.
    Twice,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Commands,
    Data,
    Chunk,
    Gone,
}

pub(super) struct Server {
    protocol: Protocol,
    offers: &'static [&'static str],
    /// Asked before each reply with its stage and number.
    fault: Box<dyn FnMut(Stage, u32) -> Option<Fault>>,
    state: State,
    replies: u32,
    /// MAIL was accepted.
    mail: bool,
    /// RSET was not: a MAIL that was pipelined behind it is refused.
    stuck: bool,
    /// It said something twice, so the session takes replies for others.
    doubled: bool,
    accepted: u32,
    text: String,
    /// What was said by both, for a person.
    log: String,
    out: Vec<Reaction>,
}

impl Server {
    pub(super) fn new(
        protocol: Protocol,
        offers: &'static [&'static str],
        fault: impl FnMut(Stage, u32) -> Option<Fault> + 'static,
    ) -> Self {
        Self {
            protocol,
            offers,
            fault: Box::new(fault),
            state: State::Commands,
            replies: 0,
            mail: false,
            stuck: false,
            doubled: false,
            accepted: 0,
            text: String::new(),
            log: String::new(),
            out: Vec::new(),
        }
    }

    pub(super) fn greet(&mut self) -> Vec<Reaction> {
        self.reply(Stage::Greeting, "220 server.example");
        std::mem::take(&mut self.out)
    }

    pub(super) fn receive(&mut self, pieces: &[Piece]) -> Vec<Reaction> {
        for piece in pieces {
            match piece {
                Piece::Octets(octets) => {
                    self.text += std::str::from_utf8(octets).expect("commands are text");
                    while let Some(end) = self.text.find("\r\n") {
                        let line: String = self.text.drain(..end + 2).collect();
                        self.line(line.trim_end());
                    }
                }
                Piece::Body { .. } => match self.state {
                    State::Chunk => self.end(),
                    State::Data | State::Gone => {}
                    State::Commands => panic!("a body among the commands"),
                },
            }
        }
        std::mem::take(&mut self.out)
    }

    /// The code that went out in place of `right`; 0 for none.
    fn reply(&mut self, stage: Stage, right: &str) -> u16 {
        if self.state == State::Gone {
            return 0;
        }
        let fault = (self.fault)(stage, self.replies);
        self.replies += 1;
        self.log += &format!("{stage:?} {right} {fault:?}\n");
        let right = format!("{right}\r\n").into_bytes();
        let code = |text: &[u8]| std::str::from_utf8(&text[..3]).unwrap().parse().unwrap();
        match fault {
            None => {
                let sent = code(&right);
                self.out.push(Reaction::Say(right));
                sent
            }
            Some(Fault::Twice) => {
                let sent = code(&right);
                self.doubled = true;
                self.out.push(Reaction::Say(right.repeat(2)));
                sent
            }
            Some(Fault::Code(sent)) => {
                let text = format!("{sent} as told\r\n");
                self.out.push(Reaction::Say(text.into_bytes()));
                if sent == 421 {
                    self.state = State::Gone;
                    self.out.push(Reaction::Close);
                }
                sent
            }
            Some(Fault::Garbage) => {
                self.out.push(Reaction::Say(b"what?\r\n".to_vec()));
                0
            }
            Some(Fault::Close) => {
                self.state = State::Gone;
                self.out.push(Reaction::Close);
                0
            }
            Some(Fault::Silence) => {
                self.state = State::Gone;
                0
            }
        }
    }

    fn line(&mut self, line: &str) {
        match self.state {
            State::Gone => return,
            State::Data => {
                if line == "." {
                    self.end();
                }
                return;
            }
            State::Chunk => panic!("a chunk was to come, not {line:?}"),
            State::Commands => {}
        }
        let verb = line.split(' ').next().unwrap_or_default();
        match verb {
            "EHLO" | "LHLO" => {
                let mut text = "250".to_owned();
                let lines: Vec<_> = ["server.example"].iter().chain(self.offers).collect();
                for (place, line) in lines.iter().enumerate() {
                    let last = place + 1 == lines.len();
                    let before = if place == 0 { "" } else { "250" };
                    let end = if last { "" } else { "\r\n" };
                    let mark = if last { ' ' } else { '-' };
                    text += &format!("{before}{mark}{line}{end}");
                }
                self.reply(Stage::Hello, &text);
            }
            "HELO" => {
                self.reply(Stage::Hello, "250 server.example");
            }
            "RSET" => {
                self.stuck = self.reply(Stage::Reset, "250 reset") != 250;
                self.mail &= self.stuck;
            }
            "MAIL" => {
                assert!(
                    self.stuck || self.doubled || !self.mail,
                    "MAIL inside a transaction:\n{}",
                    self.log
                );
                let right = if self.mail {
                    "503 nested"
                } else {
                    "250 sender"
                };
                self.mail = self.reply(Stage::Mail, right) / 100 == 2;
                self.accepted = 0;
            }
            "RCPT" => {
                let right = if self.mail {
                    "250 recipient"
                } else {
                    "503 no MAIL"
                };
                if self.reply(Stage::Rcpt, right) / 100 == 2 {
                    self.accepted += 1;
                }
            }
            "DATA" => {
                let right = if self.accepted > 0 {
                    "354 go on"
                } else {
                    "503 no RCPT"
                };
                if self.reply(Stage::Data, right) == 354 {
                    self.state = State::Data;
                }
            }
            "BDAT" => {
                self.state = State::Chunk;
                if line == "BDAT 0 LAST" {
                    self.end();
                }
            }
            "QUIT" => {
                self.reply(Stage::Quit, "221 bye");
                if self.state != State::Gone {
                    self.state = State::Gone;
                    self.out.push(Reaction::Close);
                }
            }
            other => panic!("no such command: {other:?}"),
        }
    }

    /// The end of data.
    fn end(&mut self) {
        let chunk = self.state == State::Chunk;
        self.state = State::Commands;
        let replies = match (self.protocol, self.accepted) {
            (_, 0) => {
                self.reply(Stage::End, "503 no recipients");
                self.mail = self.mail && chunk;
                return;
            }
            (Protocol::Smtp, _) => 1,
            (Protocol::Lmtp, accepted) => accepted,
        };
        let mut taken = true;
        for _ in 0..replies {
            taken &= self.reply(Stage::End, "250 taken") / 100 == 2;
        }
        // A failed BDAT leaves the transaction open.
        self.mail = chunk && !taken;
        self.accepted = 0;
    }
}
