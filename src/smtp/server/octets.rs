//! Octets from the client: command lines, message text, chunks.

use std::time::Duration;

use zeroize::Zeroizing;

use super::auth::Running;
use super::transaction::{Fate, Incoming, Open};
use super::{Output, REPLIES_BYTES_MAX, Service, Session, State, Unread};
use crate::mail::Receipt;
use crate::smtp::data::{PIECES_MAX, Piece, Scanned};
use crate::smtp::line::{LineFault, Read};
use crate::smtp::reply::{self, Refusal};
use crate::smtp::settings::AUTH_LINE_BYTES_MAX;
use crate::smtp::syntax::{Chunk, ChunkRank};

impl<R: Receipt> Session<R> {
    pub(super) fn received(&mut self, octets: &[u8]) -> usize {
        let mut at = 0;
        while at < octets.len() {
            let rest = &octets[at..];
            if self.replies.octets.len() >= REPLIES_BYTES_MAX {
                self.flush();
                break;
            }
            if self.outputs.len() >= PIECES_MAX {
                break;
            }
            at += match std::mem::replace(&mut self.state, State::Closed) {
                State::Commands(open) => {
                    self.state = State::Commands(open);
                    self.read_line(rest)
                }
                State::Auth(running) => self.read_response(running, rest),
                State::Data(incoming) => self.read_data(incoming, rest, at),
                State::Chunk {
                    incoming,
                    chunk,
                    left,
                } => self.read_chunk(incoming, chunk, left, rest, at),
                State::Skip { left, refusal } => self.skip_chunk(left, refusal, rest),
                State::Greeting { .. } => {
                    self.state = State::Commands(Open::Nothing);
                    self.refuse(&reply::EARLY_TALK);
                    self.close();
                    rest.len()
                }
                State::AskedTurn(_) => self.talked_into_turn(rest),
                State::Closed => rest.len(),
                // The caller's contract: no octets in clear during the handshake.
                state @ (State::AskedSender(_)
                | State::AskedRecipient(..)
                | State::AskedRelease(_)
                | State::AskedPause(_)
                | State::Pausing { .. }
                | State::AskedAuth(_)
                | State::AskedLogin(_)
                | State::LoginRefused { .. }
                | State::Beginning(_)
                | State::Storing
                | State::StartingTls(_)) => {
                    self.state = state;
                    break;
                }
            };
        }
        self.unread = if at < octets.len() {
            Unread::Some
        } else {
            Unread::None
        };
        at
    }

    fn read_line(&mut self, octets: &[u8]) -> usize {
        if self.service == Service::Stopping {
            self.dismiss(&reply::STOPPING);
            return octets.len();
        }
        let mut work = Vec::new();
        let (read, line) = self.lines.read(
            octets,
            &mut work,
            self.settings.command_bytes_max,
            self.settings.bare_newline,
        );
        if line != Read::Partial {
            self.waiting_since = self.now.instant;
            self.counts.commands = self.counts.commands.saturating_add(1);
            if self.counts.commands > self.settings.commands_max {
                self.dismiss(&reply::TOO_MANY_COMMANDS);
                return octets.len();
            }
        }
        match line {
            Read::Partial => {}
            Read::Fault(LineFault::TooLong) => self.rebuff(reply::LINE_TOO_LONG),
            Read::Fault(LineFault::BareNewline) => self.rebuff(reply::LINE_BARE_NEWLINE),
            Read::Line(line) => {
                if let Some(record) = &mut self.record {
                    record.commands(false, line);
                }
                let behind = if read < octets.len() {
                    Unread::Some
                } else {
                    Unread::None
                };
                self.command_line(line, behind);
            }
        }
        read
    }

    /// A line of an AUTH exchange. What was put together of it is wiped.
    fn read_response(&mut self, running: Box<Running>, octets: &[u8]) -> usize {
        let mut work = Zeroizing::new(Vec::new());
        let (read, line) = self.lines.read(
            octets,
            &mut work,
            AUTH_LINE_BYTES_MAX,
            self.settings.bare_newline,
        );
        if line != Read::Partial {
            self.waiting_since = self.now.instant;
        }
        match line {
            Read::Partial => self.state = State::Auth(running),
            Read::Fault(LineFault::TooLong) => self.auth_broken(&reply::AUTH_LINE_TOO_LONG),
            Read::Fault(LineFault::BareNewline) => self.auth_broken(&reply::LINE_BARE_NEWLINE),
            Read::Line(line) => {
                if let Some(record) = &mut self.record {
                    record.secret(false);
                }
                self.auth_line(*running, line);
            }
        }
        read
    }

    fn read_data(&mut self, mut incoming: Box<Incoming>, octets: &[u8], base: usize) -> usize {
        let scanned = self.scan(&mut incoming, octets, base);
        let (Scanned::More(taken) | Scanned::End(taken)) = scanned;
        self.text_came(taken);
        if self.is_too_much(&incoming) {
            self.state = State::Data(incoming);
            self.dismiss(&reply::TOO_MUCH_DISCARDED);
            return octets.len();
        }
        match scanned {
            Scanned::More(taken) => {
                self.state = State::Data(incoming);
                taken
            }
            Scanned::End(taken) => {
                self.text_ended(&incoming);
                taken
            }
        }
    }

    fn read_chunk(
        &mut self,
        mut incoming: Box<Incoming>,
        chunk: Chunk,
        left: u64,
        octets: &[u8],
        base: usize,
    ) -> usize {
        let (octets, _) = split_at_most(octets, left);
        let Scanned::More(taken) = self.scan(&mut incoming, octets, base) else {
            unreachable!("a chunk ends by its count")
        };
        self.text_came(taken);
        let left = left - taken as u64;
        if left == 0 {
            self.chunk_ended(incoming, chunk);
        } else {
            self.state = State::Chunk {
                incoming,
                chunk,
                left,
            };
        }
        taken
    }

    fn skip_chunk(&mut self, left: u64, refusal: Box<Refusal>, octets: &[u8]) -> usize {
        let (skipped, _) = split_at_most(octets, left);
        self.text_came(skipped.len());
        let left = left - skipped.len() as u64;
        if left == 0 {
            self.waiting_since = self.now.instant;
            self.state = State::Commands(Open::Nothing);
            self.refuse(&refusal);
        } else {
            self.state = State::Skip { left, refusal };
        }
        skipped.len()
    }

    /// So much of a message has come, which buys it the time that its rate allows.
    fn text_came(&mut self, octets: usize) {
        let rate = self.settings.timeouts.text_rate_min;
        let now = self.now.instant;
        let bought = (octets as u64).saturating_mul(1000).checked_div(rate);
        self.waiting_since = match bought {
            Some(millis) => now.min(self.waiting_since + Duration::from_millis(millis)),
            None => now,
        };
    }

    /// Reads text, hands on what is kept, and drops the message at its first fault.
    fn scan(&mut self, incoming: &mut Incoming, octets: &[u8], base: usize) -> Scanned {
        let Incoming { scanner, fate } = incoming;
        if !matches!(fate, Fate::Kept) {
            return scanner.scan(octets, |_| {});
        }
        let outputs = &mut self.outputs;
        let scanned = scanner.scan(octets, |piece| outputs.push_back(body(piece, base)));
        if scanner.fault().is_some() {
            *fate = Fate::Faulty;
            self.outputs.push_back(Output::Abort);
        }
        scanned
    }

    /// True if a client goes on with a message that was lost long ago.
    fn is_too_much(&self, incoming: &Incoming) -> bool {
        let settings = &self.settings;
        let bytes_max = settings
            .message_bytes_max
            .saturating_add(settings.discard_bytes_max);
        !matches!(incoming.fate, Fate::Kept) && incoming.scanner.message_octets() > bytes_max
    }

    /// All text of a message was read.
    fn text_ended(&mut self, incoming: &Incoming) {
        self.waiting_since = self.now.instant;
        match incoming.refusal() {
            None => {
                self.outputs
                    .push_back(Output::End(incoming.scanner.facts()));
                self.state = State::Storing;
                if self.replies.tells_of_receipt {
                    self.flush();
                }
            }
            Some(refusal) => {
                self.state = State::Commands(Open::Nothing);
                self.refuse(&refusal);
            }
        }
    }

    pub(super) fn chunk_ended(&mut self, mut incoming: Box<Incoming>, chunk: Chunk) {
        if chunk.rank == ChunkRank::Last {
            let kept = matches!(incoming.fate, Fate::Kept);
            let outputs = &mut self.outputs;
            incoming.scanner.finish(|piece| {
                if kept {
                    outputs.push_back(body(piece, 0));
                }
            });
            if kept && incoming.scanner.fault().is_some() {
                incoming.fate = Fate::Faulty;
                self.outputs.push_back(Output::Abort);
            }
            self.text_ended(&incoming);
        } else if let Some(refusal) = incoming.refusal() {
            self.waiting_since = self.now.instant;
            self.state = State::Commands(Open::Nothing);
            self.refuse(&refusal);
        } else {
            self.waiting_since = self.now.instant;
            self.state = State::Commands(Open::Chunks(incoming));
            reply::write_chunk_received(self.out(), chunk.octets);
        }
    }
}

fn body(piece: Piece, base: usize) -> Output {
    match piece {
        Piece::Octets(range) => Output::Body(range.start + base..range.end + base),
        Piece::Constant(octets) => Output::BodyConstant(octets),
    }
}

fn split_at_most(octets: &[u8], at: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    octets.split_at(at.min(octets.len()))
}
