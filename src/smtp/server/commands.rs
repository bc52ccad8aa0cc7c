//! Commands, each in the state between two commands.

use std::sync::Arc;

use super::auth::offered;
use super::transaction::{Beginning, Gathering, Incoming, Open, Refused, Way};
use super::{Greeted, Hello, HelloKind, Output, Session, State, Unread, turn};
use crate::mail::{Envelope, Receipt, Recipient, Sender};
use crate::smtp::reply::{self, Refusal, Tls};
use crate::smtp::settings::Role;
use crate::smtp::syntax::{self, Chunk, ChunkRank, Command, SyntaxError, Utf8};
use crate::smtp::trace::{self, HelloName, Protocol};

impl<R: Receipt> Session<R> {
    pub(super) fn command_line(&mut self, line: &[u8], behind: Unread) {
        let utf8 = match &self.state {
            State::Commands(Open::Envelope(gathering)) if gathering.sender.smtputf8 => {
                Utf8::Allowed
            }
            _ => Utf8::Refused,
        };
        let context = syntax::Context {
            hostname: &self.settings.hostname,
            role: self.settings.role,
            offers: &self.settings.offers,
            utf8,
            tls: self.tls(),
            time: self.now.wall,
            is_local: self.peer.address.ip().is_loopback(),
        };
        match syntax::parse(line, &context) {
            Ok(command) => self.command(command, behind),
            Err(error) if error == SyntaxError::ChunkSize => {
                self.refuse(&error.refusal());
                self.close();
            }
            Err(error) => self.rebuff(error.refusal()),
        }
    }

    fn command(&mut self, command: Command, behind: Unread) {
        let State::Commands(open) = &self.state else {
            unreachable!("commands are read between commands")
        };
        if self.settings.role == Role::Odmr && !turn::is_for_odmr(&command) {
            self.rebuff(SyntaxError::NotImplemented.refusal());
            return;
        }
        let moves_no_mail = match command {
            Command::Noop | Command::Vrfy | Command::Help | Command::Etrn(_) => true,
            Command::Ehlo(_) | Command::Helo(_) => true,
            Command::Rset => matches!(open, Open::Nothing),
            _ => false,
        };
        if moves_no_mail {
            self.counts.idle_commands += 1;
            if self.counts.idle_commands > self.settings.idle_commands_max {
                self.dismiss(&reply::TOO_MANY_COMMANDS);
                return;
            }
        }
        match command {
            Command::Ehlo(name) => self.helloed(name, HelloKind::Ehlo),
            Command::Helo(name) => self.helloed(name, HelloKind::Helo),
            Command::Mail(sender, declared) => self.mail(sender, declared),
            Command::Rcpt(recipient) => self.rcpt(recipient),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::Rset => {
                self.reset();
                self.reply(&reply::OK);
            }
            Command::Noop => self.reply(&reply::OK),
            Command::Vrfy => self.reply(&reply::CANNOT_VERIFY),
            Command::Help => self.reply(&reply::HELP),
            Command::Quit => {
                reply::write_farewell(&mut self.replies.octets, &self.settings.hostname);
                self.close();
            }
            Command::StartTls => self.start_tls(behind),
            Command::Atrn(domains) => self.atrn(domains, behind),
            Command::Etrn(node) => self.etrn(node),
            Command::Auth(auth) => self.auth(auth),
        }
    }

    fn tls(&self) -> Tls {
        match self.peer.tls {
            Some(_) => Tls::Active,
            None => Tls::Absent,
        }
    }

    fn helloed(&mut self, name: HelloName, kind: HelloKind) {
        self.reset();
        self.hello = Some(Box::new(Hello { name, kind }));
        let tls = self.tls();
        let settings = Arc::clone(&self.settings);
        let mechanisms = offered(self);
        match kind {
            HelloKind::Ehlo => {
                let time = self.now.wall;
                reply::write_extensions(self.out(), &settings, tls, mechanisms, time);
            }
            HelloKind::Helo => reply::write_hello(self.out(), &settings.hostname),
        }
    }

    fn mail(&mut self, sender: Sender, declared: Option<u64>) {
        let State::Commands(open) = &self.state else {
            unreachable!("commands are read between commands")
        };
        if self.hello.is_none() {
            self.refuse(&reply::HELLO_FIRST);
        } else if self.needs_auth() {
            self.refuse(&reply::AUTH_NEEDED);
        } else if !matches!(open, Open::Nothing) {
            self.refuse(&reply::NESTED_MAIL);
        } else if declared.is_some_and(|octets| octets > self.settings.message_bytes_max) {
            self.refuse(&reply::MESSAGE_TOO_BIG);
        } else if self
            .settings
            .transactions_max
            .is_some_and(|max| self.transactions >= max)
        {
            self.dismiss(&reply::TOO_MANY_TRANSACTIONS);
        } else {
            self.state = State::AskedSender(Box::new(Gathering {
                sender,
                declared,
                recipients: Vec::new(),
                refused: Refused::None,
            }));
            self.outputs.push_back(Output::Ask);
        }
    }

    fn rcpt(&mut self, recipient: Recipient) {
        let gathering = match self.take_open() {
            Open::Envelope(gathering) => gathering,
            open => {
                let refusal = match open {
                    Open::Chunks(_) | Open::Lost(_) => reply::IN_CHUNKS,
                    Open::Nothing | Open::Envelope(_) => reply::MAIL_FIRST,
                };
                self.state = State::Commands(open);
                return self.refuse(&refusal);
            }
        };
        let recipients_max = self.settings.recipients_max as usize;
        if gathering.recipients.len() >= recipients_max {
            self.state = State::Commands(Open::Envelope(gathering));
            self.refuse(&reply::TOO_MANY_RECIPIENTS);
        } else {
            self.state = State::AskedRecipient(gathering, Box::new(recipient));
            self.outputs.push_back(Output::Ask);
        }
    }

    fn data(&mut self) {
        match self.take_open() {
            Open::Envelope(gathering) => match no_recipients(&gathering) {
                None => self.begin(*gathering, Way::Data),
                Some(refusal) => {
                    self.state = State::Commands(Open::Envelope(gathering));
                    self.refuse(&refusal);
                }
            },
            Open::Nothing => {
                self.state = State::Commands(Open::Nothing);
                self.refuse(&reply::MAIL_FIRST);
            }
            // RFC 3030 §2: they never mix. The message is in no state that anybody
            // can be sure of, so it is dropped at once.
            open @ (Open::Chunks(_) | Open::Lost(_)) => {
                self.state = State::Commands(open);
                self.reset();
                self.refuse(&reply::IN_CHUNKS);
            }
        }
    }

    fn bdat(&mut self, chunk: Chunk) {
        let bytes_max = self.settings.message_bytes_max;
        let too_big = |before: u64| before.saturating_add(chunk.octets) > bytes_max;
        match self.take_open() {
            Open::Envelope(gathering) => match no_recipients(&gathering) {
                None if too_big(0) => self.skip(chunk, reply::MESSAGE_TOO_BIG),
                None => self.begin(*gathering, Way::Bdat(chunk)),
                Some(refusal) => self.skip(chunk, refusal),
            },
            Open::Chunks(incoming) => {
                if too_big(incoming.scanner.message_octets()) {
                    self.outputs.push_back(Output::Abort);
                    self.skip(chunk, reply::MESSAGE_TOO_BIG);
                } else {
                    self.read_chunk_next(incoming, chunk);
                }
            }
            Open::Lost(refusal) => self.skip(chunk, *refusal),
            Open::Nothing => self.skip(chunk, reply::MAIL_FIRST),
        }
    }

    pub(super) fn read_chunk_next(&mut self, incoming: Box<Incoming>, chunk: Chunk) {
        if chunk.octets == 0 {
            self.chunk_ended(incoming, chunk);
        } else {
            self.state = State::Chunk {
                incoming,
                chunk,
                left: chunk.octets,
            };
        }
    }

    /// A chunk that is refused still comes: it is read over, then answered. The
    /// transaction is over.
    pub(super) fn skip(&mut self, chunk: Chunk, refusal: Refusal) {
        self.state = State::Commands(Open::Nothing);
        if chunk.octets > self.settings.discard_bytes_max {
            self.refuse(&refusal);
            self.close();
        } else if chunk.octets == 0 {
            self.refuse(&refusal);
        } else {
            self.state = State::Skip {
                left: chunk.octets,
                refusal: Box::new(refusal),
            };
        }
    }

    /// Hands the envelope over.
    fn begin(&mut self, gathering: Gathering, way: Way) {
        let Gathering {
            sender,
            declared,
            recipients,
            refused: _,
        } = gathering;
        let hello = self.hello.as_ref().expect("MAIL needs EHLO or HELO");
        let draft = trace::Draft::new(&trace::Facts {
            hello: &hello.name,
            client: self.peer.address,
            hostname: &self.settings.hostname,
            protocol: match (sender.smtputf8, hello.kind) {
                (true, _) => Protocol::Utf8Smtp,
                (false, HelloKind::Ehlo) => Protocol::Esmtp,
                (false, HelloKind::Helo) => Protocol::Smtp,
            },
            tls: self.peer.tls.as_deref(),
            authenticated: self.user().is_some(),
            only_recipient: match recipients.as_slice() {
                [recipient] => Some(&recipient.forward_path),
                _ => None,
            },
            priority: sender.priority,
            time: self.now.wall,
        });
        let expected = match way {
            Way::Data => declared,
            Way::Bdat(chunk) => match chunk.rank {
                ChunkRank::Last => Some(chunk.octets),
                ChunkRank::Inner => declared.max(Some(chunk.octets)),
            },
        };
        self.outputs.push_back(Output::Begin {
            envelope: Envelope { sender, recipients },
            expected,
        });
        self.state = State::Beginning(Box::new(Beginning { draft, way }));
    }

    fn start_tls(&mut self, behind: Unread) {
        let State::Commands(open) = &self.state else {
            unreachable!("commands are read between commands")
        };
        if self.peer.tls.is_some() {
            self.refuse(&reply::TLS_ACTIVE);
        } else if self.hello.is_none() {
            self.refuse(&reply::HELLO_FIRST);
        } else if !matches!(open, Open::Nothing) {
            self.refuse(&reply::NESTED_MAIL);
        } else if behind == Unread::Some {
            // Commands in clear that the client believes to be under TLS, or that
            // somebody between put there (RFC 3207 §6): none is looked at.
            self.refuse(&reply::TLS_EARLY_TALK);
            self.close();
        } else {
            self.reply(&reply::START_TLS);
            self.flush();
            self.outputs.push_back(Output::StartTls);
            self.state = State::StartingTls(Greeted::Yes);
        }
    }
}

/// Why DATA or BDAT cannot follow, if there is nobody to send to. Where a RCPT was
/// refused the client did nothing out of order: it pipelined (RFC 2920 §3.1), and
/// 554 spares it the lone dot.
fn no_recipients(gathering: &Gathering) -> Option<Refusal> {
    match (gathering.recipients.is_empty(), gathering.refused) {
        (false, _) => None,
        (true, Refused::Some) => Some(reply::NO_VALID_RECIPIENTS),
        (true, Refused::None) => Some(reply::RECIPIENT_FIRST),
    }
}
