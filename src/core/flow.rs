//! What is under way on one connection.
//!
//! Sessions of both kinds send and receive by the same rules, which stand here
//! once: one send at a time, one receive at a time, nothing received while the
//! peer does not read what we say, and a close that waits for what is to be said.
//!
//! A flow may carry TLS ([`cover`](super::cover)); the sessions above it notice nothing
//! but its beginning.

use std::collections::VecDeque;
use std::time::Duration;

use spool_format::{Offset, SegmentPlace};

use crate::core::cover::{Cover, End, Trouble};
use crate::core::{ConnectionId, Operation};
use crate::report::Fact;
use crate::spool::message::{SegmentSource, View};
use crate::time::Instant;
use crate::tls::{Fault, Layer, Received, Room};

/// Pieces that wait behind a send before a session is asked for no more. A peer
/// that sends commands and reads no replies is stopped by it.
const WAITING_PIECES_MAX: usize = 64;

/// How long a peer may take to read our last words: as long as a command may take
/// (RFC 5321 §4.5.3.2.7), much reduced, since nothing depends on it any more. Without
/// it a peer that never reads would keep its place among the sessions for ever.
pub(super) const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(60);

/// A part of something to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Octets that the core made.
    Octets(Vec<u8>),
    /// Octets of the spool, sent from the mapped segment.
    Spool {
        /// Which segment.
        segment: SegmentPlace,
        /// Where they begin.
        offset: Offset,
        /// How many. Never 0.
        octets: u32,
    },
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// It does not.
    Open,
    /// When everything has been sent, and at this time at the latest.
    AfterSending { until: Instant },
    /// It is closed.
    Closed,
}

/// Sends and receives of one connection.
#[derive(Debug)]
pub(super) struct Flow {
    connection: ConnectionId,
    receiving: bool,
    sending: bool,
    waiting: Vec<Piece>,
    ending: Ending,
    /// Boxed: in clear it costs a word.
    cover: Option<Box<Cover>>,
}

impl Flow {
    /// Nothing is under way.
    pub(super) const fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            receiving: false,
            sending: false,
            waiting: Vec::new(),
            ending: Ending::Open,
            cover: None,
        }
    }

    /// From here on all is TLS, but what was said before. `until` is when patience with
    /// the handshake ends, where the session has none of its own.
    ///
    /// # Errors
    /// Ours only; the flow is still in clear then.
    pub(super) fn start_tls(&mut self, layer: Layer, until: Option<Instant>) -> Result<(), Fault> {
        debug_assert!(self.cover.is_none(), "TLS begins once");
        let clear = std::mem::take(&mut self.waiting);
        self.cover = Some(Box::new(Cover::new(layer, clear, until)?));
        Ok(())
    }

    /// What comes must be opened before a session can read it.
    pub(super) const fn is_under_tls(&self) -> bool {
        self.cover.is_some()
    }

    /// TLS has begun, and nothing of the session can flow yet.
    pub(super) fn is_shaking_hands(&self) -> bool {
        (self.cover.as_ref()).is_some_and(|cover| cover.is_shaking_hands())
    }

    /// The handshake is done, on both sides.
    pub(super) fn has_shaken_hands(&self) -> bool {
        (self.cover.as_ref()).is_some_and(|cover| cover.has_shaken_hands())
    }

    /// Patience with the handshake has ended.
    pub(super) fn handshake_is_late(&self, now: Instant) -> bool {
        let until = self
            .cover
            .as_ref()
            .and_then(|cover| cover.handshake_until());
        until.is_some_and(|until| until <= now)
    }

    /// Opens what came under TLS; the plaintext is in `room` then.
    ///
    /// # Errors
    /// The connection is of no more use. What the peer is told of it leaves before a
    /// [`Flow::finish`] or [`Flow::abort`] is done.
    pub(super) fn open(&mut self, octets: &[u8], room: &mut Room) -> Result<Received, Fault> {
        let cover = self.cover.as_mut().expect("the flow is under TLS");
        let received = cover.receive(octets, room);
        if received.is_err() {
            self.waiting.clear();
        }
        received
    }

    /// The same connection on another core, by its number there. Nothing is on its way.
    pub(super) fn moved(mut self, to: ConnectionId) -> Self {
        debug_assert!(self.is_quiet() && self.is_open(), "it moves when it rests");
        self.connection = to;
        // The shell there asks anew; what came meanwhile is still in the socket.
        self.receiving = false;
        self
    }

    /// Of which connection.
    pub(super) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// These go out next, behind what waits already.
    pub(super) fn send(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        debug_assert_eq!(self.ending, Ending::Open, "nothing is said after the end");
        self.waiting.extend(pieces);
    }

    /// The last send is done.
    pub(super) const fn sent(&mut self) {
        self.sending = false;
    }

    /// The last receive has brought something.
    pub(super) const fn received(&mut self) {
        self.receiving = false;
    }

    /// Close when everything is sent, or when the peer takes too long to read it.
    pub(super) fn finish(&mut self, now: Instant) {
        if self.ending == Ending::Open {
            let until = now + LAST_WORDS_PATIENCE;
            self.ending = Ending::AfterSending { until };
        }
    }

    /// When [`Flow::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::AfterSending { until } => Some(until),
            Ending::Open => self.cover.as_ref()?.handshake_until(),
            Ending::Closed => None,
        }
    }

    /// The deadline may have come: then the connection is closed with what waits.
    pub(super) fn timer(&mut self, now: Instant, operations: &mut VecDeque<Operation>) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.abort(operations);
        }
    }

    /// The connection is gone: nothing more is asked of it.
    pub(super) fn gone(&mut self) {
        self.ending = Ending::Closed;
        self.waiting.clear();
    }

    /// Close at once, whatever waits.
    pub(super) fn abort(&mut self, operations: &mut VecDeque<Operation>) {
        if self.ending == Ending::Closed {
            return;
        }
        let connection = self.connection;
        if let Some(cover) = &mut self.cover
            && !self.sending
        {
            let pieces = cover.last_words();
            if !pieces.is_empty() {
                operations.push_back(Operation::Send { connection, pieces });
            }
        }
        self.gone();
        operations.push_back(Operation::Close { connection });
    }

    /// Nothing will happen on it any more: it can be forgotten.
    pub(super) fn is_closed(&self) -> bool {
        self.ending == Ending::Closed
    }

    /// It takes input still.
    pub(super) fn is_open(&self) -> bool {
        self.ending == Ending::Open
    }

    /// Nothing is being sent and nothing waits to be.
    pub(super) fn is_quiet(&self) -> bool {
        let cover_is_quiet = self.cover.as_ref().is_none_or(|cover| cover.is_quiet());
        !self.sending && self.waiting.is_empty() && cover_is_quiet
    }

    /// Asks for what can be done now. `appetite` says whether the session could do
    /// something with more input. What waits of the spool is read from `source`, if it
    /// has to be encrypted.
    pub(super) fn advance(
        &mut self,
        appetite: Appetite,
        source: &impl SegmentSource,
        operations: &mut VecDeque<Operation>,
    ) {
        if self.ending == Ending::Closed {
            return;
        }
        let connection = self.connection;
        if !self.sending {
            let pieces = match &mut self.cover {
                None => std::mem::take(&mut self.waiting),
                Some(cover) => {
                    let end = match self.ending {
                        Ending::AfterSending { .. } => End::Now,
                        Ending::Open | Ending::Closed => End::NotNow,
                    };
                    match cover.next(&mut self.waiting, end, source) {
                        Ok(pieces) => pieces,
                        Err(trouble) => {
                            operations.push_back(Operation::Report(fact(trouble)));
                            return self.abort(operations);
                        }
                    }
                }
            };
            if !pieces.is_empty() {
                self.sending = true;
                operations.push_back(Operation::Send { connection, pieces });
            }
        }
        if matches!(self.ending, Ending::AfterSending { .. }) && !self.sending {
            self.abort(operations);
            return;
        }
        let hungry = appetite == Appetite::Hungry && self.ending == Ending::Open;
        let full = self.waiting.len() >= WAITING_PIECES_MAX
            || self.cover.as_ref().is_some_and(|cover| cover.is_full());
        if hungry && !self.receiving && !full {
            self.receiving = true;
            operations.push_back(Operation::Receive { connection });
        }
    }
}

/// Why a connection under TLS is given up on our side.
fn fact(trouble: Trouble) -> Fact {
    match trouble {
        Trouble::Unreadable(place) => Fact::SpoolDamaged {
            log: place.log,
            what: format!(
                "a body in {place} cannot be read to be encrypted; the connection is closed, and \
                 the message tried again"
            ),
        },
        Trouble::Tls(fault) => Fact::Trouble {
            what: format!("encrypting failed: {fault}; the connection is closed"),
        },
    }
}

/// A spool without octets: for flows that carry nothing of it.
pub(super) struct NoSpool;

impl SegmentSource for NoSpool {
    fn view(&self, _: spool_format::SegmentPlace) -> Option<View<'_>> {
        None
    }
}

/// Whether a session wants more input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Appetite {
    /// It does.
    Hungry,
    /// It waits for something else first.
    Sated,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(operations: &mut VecDeque<Operation>) -> Vec<String> {
        let name = |operation| match operation {
            Operation::Receive { .. } => "receive".to_owned(),
            Operation::Send { pieces, .. } => format!("send {}", pieces.len()),
            Operation::Close { .. } => "close".to_owned(),
            other => format!("{other:?}"),
        };
        operations.drain(..).map(name).collect()
    }

    #[test]
    fn one_send_at_a_time_and_a_close_behind_it() {
        let mut operations = VecDeque::new();
        let mut flow = Flow::new(ConnectionId(1));
        flow.send([Piece::Octets(vec![1])]);
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        assert_eq!(names(&mut operations), ["send 1", "receive"]);
        flow.send([Piece::Octets(vec![2]), Piece::Octets(vec![3])]);
        flow.finish(Instant::START);
        flow.received();
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        assert!(names(&mut operations).is_empty());
        flow.sent();
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        assert_eq!(names(&mut operations), ["send 2"]);
        flow.sent();
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        assert_eq!(names(&mut operations), ["close"]);
        assert!(flow.is_closed());
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        flow.abort(&mut operations);
        assert!(names(&mut operations).is_empty());
    }

    #[test]
    fn last_words_that_nobody_reads_are_given_up() {
        let mut operations = VecDeque::new();
        let mut flow = Flow::new(ConnectionId(1));
        flow.send([Piece::Octets(vec![1])]);
        flow.finish(Instant::START);
        flow.advance(Appetite::Sated, &NoSpool, &mut operations);
        assert_eq!(names(&mut operations), ["send 1"]);
        let deadline = flow.deadline().expect("it has an end");
        flow.timer(Instant::START, &mut operations);
        assert!(!flow.is_closed());
        flow.timer(deadline, &mut operations);
        assert_eq!(names(&mut operations), ["close"]);
        assert!(flow.is_closed());
        assert_eq!(flow.deadline(), None);
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_read() {
        let mut operations = VecDeque::new();
        let mut flow = Flow::new(ConnectionId(1));
        flow.send([Piece::Octets(vec![1])]);
        flow.advance(Appetite::Sated, &NoSpool, &mut operations);
        for _ in 0..WAITING_PIECES_MAX {
            flow.send([Piece::Octets(vec![1])]);
        }
        flow.advance(Appetite::Hungry, &NoSpool, &mut operations);
        assert_eq!(names(&mut operations), ["send 1"]);
    }
}
