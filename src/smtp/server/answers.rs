//! What the core answers, and what the clock says.

use super::transaction::{Beginning, Fate, Incoming, Open, Refused, Way};
use super::{Counts, Greeted, NotTaken, Output, Session, State, Verdict};
use crate::mail::{QueueId, Receipt};
use crate::smtp::data::{Framing, Scanner};
use crate::smtp::line::Lines;
use crate::smtp::reply;
use crate::smtp::trace::TlsFacts;

impl<R: Receipt> Session<R> {
    pub(super) fn answered(&mut self, verdict: Verdict) {
        self.waiting_since = self.now.instant;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::AskedSender(gathering) => {
                if verdict == Verdict::Accept {
                    self.transactions = self.transactions.saturating_add(1);
                    self.state = State::Commands(Open::Envelope(gathering));
                    self.reply(&reply::SENDER_OK);
                } else {
                    self.state = State::Commands(Open::Nothing);
                    self.answered_no(verdict);
                }
            }
            State::AskedRecipient(mut gathering, recipient) => {
                if verdict == Verdict::Accept {
                    gathering.recipients.push(*recipient);
                    self.state = State::Commands(Open::Envelope(gathering));
                    self.reply(&reply::RECIPIENT_OK);
                } else {
                    gathering.refused = Refused::Some;
                    self.state = State::Commands(Open::Envelope(gathering));
                    self.answered_no(verdict);
                }
            }
            State::AskedTurn(_) => self.turn_answered(verdict),
            state => panic!("an answer without a question, in {state:?}"),
        }
    }

    pub(super) fn answered_no(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accept => unreachable!("that is a yes"),
            Verdict::Refuse(refusal) => self.refuse(&refusal),
            Verdict::Dismiss(refusal) => {
                self.refuse(&refusal);
                self.close();
            }
        }
    }

    pub(super) fn begun(&mut self, id: QueueId) {
        self.waiting_since = self.now.instant;
        let beginning = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Beginning(beginning) => beginning,
            state => panic!("begun what was not asked for, in {state:?}"),
        };
        let Beginning { draft, way } = *beginning;
        self.outputs.push_back(Output::Header(draft.finish(id)));
        let framing = match way {
            Way::Data => Framing::Dots,
            Way::Bdat(_) => Framing::Chunks,
        };
        let settings = &self.settings;
        let incoming = Box::new(Incoming {
            scanner: Scanner::new(framing, settings.bare_newline, settings.data_limits()),
            fate: Fate::Kept,
        });
        match way {
            Way::Data => {
                self.out().extend_from_slice(reply::SEND_DATA);
                self.state = State::Data(incoming);
            }
            Way::Bdat(chunk) => self.read_chunk_next(incoming, chunk),
        }
    }

    pub(super) fn not_begun(&mut self, why: NotTaken) {
        self.waiting_since = self.now.instant;
        let beginning = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Beginning(beginning) => beginning,
            state => panic!("not begun what was not asked for, in {state:?}"),
        };
        match beginning.way {
            Way::Data => {
                self.state = State::Commands(Open::Nothing);
                self.refuse(&why.refusal());
            }
            Way::Bdat(chunk) => self.skip(chunk, why.refusal()),
        }
    }

    pub(super) fn stored(&mut self, receipt: &R) {
        self.waiting_since = self.now.instant;
        match self.state {
            // The client went away; the message stays.
            State::Closed => {}
            State::Storing => {
                self.state = State::Commands(Open::Nothing);
                self.counts = Counts::default();
                reply::write_accepted(self.out(), receipt.queue_id());
                self.replies.tells_of_receipt = true;
            }
            ref state => panic!("stored what did not end, in {state:?}"),
        }
    }

    pub(super) fn not_stored(&mut self, why: NotTaken) {
        let refusal = why.refusal();
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Storing => {
                self.waiting_since = self.now.instant;
                self.state = State::Commands(Open::Nothing);
                self.refuse(&refusal);
            }
            State::Data(mut incoming) => {
                incoming.fate = Fate::Lost(refusal);
                self.state = State::Data(incoming);
            }
            State::Chunk {
                mut incoming,
                chunk,
                left,
            } => {
                incoming.fate = Fate::Lost(refusal);
                self.state = State::Chunk {
                    incoming,
                    chunk,
                    left,
                };
            }
            State::Commands(Open::Chunks(_)) => {
                self.state = State::Commands(Open::Lost(Box::new(refusal)));
            }
            // An Abort of ours crossed it.
            state => self.state = state,
        }
    }

    pub(super) fn tls_started(&mut self, facts: Box<TlsFacts>) {
        self.waiting_since = self.now.instant;
        match self.state {
            State::Closed => {}
            State::StartingTls(greeted) => {
                // RFC 3207 §4.2: nothing that was said in clear counts.
                self.hello = None;
                if let Some(logins) = &mut self.logins {
                    logins.user = None;
                }
                self.lines = Lines::default();
                self.peer.tls = Some(facts);
                self.state = State::Commands(Open::Nothing);
                if greeted == Greeted::No {
                    self.open();
                }
            }
            ref state => panic!("TLS that was not asked for, in {state:?}"),
        }
    }

    pub(super) fn timer(&mut self) {
        if self.deadline().is_none_or(|due| due > self.now.instant) {
            return;
        }
        match self.state {
            State::Greeting { .. } => {
                self.state = State::Commands(Open::Nothing);
                self.waiting_since = self.now.instant;
                self.greet();
            }
            State::LoginRefused { .. } => self.wrong_is_told(),
            State::Pausing { .. } => self.rebuff_is_told(),
            State::Data(_) | State::Chunk { .. } | State::Skip { .. } => {
                self.dismiss(&reply::TOO_SLOW);
            }
            _ => self.dismiss(&reply::TIMEOUT),
        }
    }
}
