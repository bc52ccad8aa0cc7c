//! TLS on a flow: what waits before it in clear, and what is ready in cipher.
//!
//! Invariants:
//!
//! - What was said before TLS leaves in clear, and before anything else.
//! - At most [`AHEAD_BYTES_MAX`] of what waits is encrypted at a time, and the next part
//!   when that has left: a body is read from the mapped segment as the line takes it,
//!   and is never whole in memory.

use spool_format::Offset;

use crate::core::Piece;
use crate::spool::message::{self, SegmentSource};
use crate::time::Instant;
use crate::tls::{Fault, Layer, RECORD_BYTES_MAX, Received, Room};

/// Octets that are encrypted before they can leave: four records. Enough to keep a fast
/// line busy while the next are made, little enough for thousands of slow ones.
pub(super) const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Octets of the handshake that wait for a peer which sends and does not read. Behind
/// it nothing more is received.
const READY_BYTES_MAX: usize = 64 * 1024;

/// Why nothing more can be sent.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The piece of the spool is not there.
    Unreadable(spool_format::SegmentPlace),
    /// TLS cannot go on.
    Tls(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Tls(fault)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cover {
    layer: Layer,
    /// Said before TLS, and not on its way yet.
    clear: Vec<Piece>,
    /// To be sent.
    ready: Vec<u8>,
    /// Octets of the first waiting piece that are encrypted already.
    done: usize,
    /// When patience with the handshake ends.
    until: Option<Instant>,
}

impl Cover {
    /// Begins. `clear` was said before.
    pub(super) fn new(
        mut layer: Layer,
        clear: Vec<Piece>,
        until: Option<Instant>,
    ) -> Result<Self, Fault> {
        let mut ready = Vec::new();
        layer.begin(&mut ready)?;
        Ok(Self {
            layer,
            clear,
            ready,
            done: 0,
            until,
        })
    }

    /// When patience with the handshake ends, as long as it is under way.
    pub(super) const fn handshake_until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) const fn is_shaking_hands(&self) -> bool {
        self.layer.is_shaking_hands()
    }

    /// The peer has done its part of the handshake too.
    pub(super) fn has_shaken_hands(&self) -> bool {
        self.layer.is_done()
    }

    /// Nothing of TLS's own waits.
    pub(super) const fn is_quiet(&self) -> bool {
        self.clear.is_empty() && self.ready.is_empty()
    }

    /// The peer does not read what the handshake has for it.
    pub(super) const fn is_full(&self) -> bool {
        self.ready.len() >= READY_BYTES_MAX
    }

    /// Octets came. The plaintext is in `room` then.
    pub(super) fn receive(&mut self, octets: &[u8], room: &mut Room) -> Result<Received, Fault> {
        let received = self.layer.receive(octets, room, &mut self.ready)?;
        if self.layer.is_done() {
            self.until = None;
        }
        Ok(received)
    }

    /// What is to be sent next; `waiting` loses what is in it. Behind the last of it
    /// comes the end, if it is the end.
    pub(super) fn next(
        &mut self,
        waiting: &mut Vec<Piece>,
        end: End,
        source: &impl SegmentSource,
    ) -> Result<Vec<Piece>, Trouble> {
        if !self.clear.is_empty() {
            return Ok(std::mem::take(&mut self.clear));
        }
        if !waiting.is_empty() && !self.layer.is_shaking_hands() {
            self.encrypt(waiting, source)?;
        }
        if waiting.is_empty() && end == End::Now {
            self.layer.close(&mut self.ready);
        }
        Ok(self.take_ready())
    }

    /// What is said to a peer that is left at once: an alert that waits, and the end.
    pub(super) fn last_words(&mut self) -> Vec<Piece> {
        self.layer.close(&mut self.ready);
        self.take_ready()
    }

    fn take_ready(&mut self) -> Vec<Piece> {
        if self.ready.is_empty() {
            return Vec::new();
        }
        vec![Piece::Octets(std::mem::take(&mut self.ready))]
    }

    fn encrypt(
        &mut self,
        waiting: &mut Vec<Piece>,
        source: &impl SegmentSource,
    ) -> Result<(), Trouble> {
        let mut records = Records {
            layer: &mut self.layer,
            out: &mut self.ready,
            gathered: Vec::new(),
        };
        let mut room = AHEAD_BYTES_MAX;
        let mut finished = 0;
        for piece in waiting.iter() {
            let (part, left) = match piece {
                Piece::Octets(octets) => {
                    let rest = &octets[self.done..];
                    (&rest[..rest.len().min(room)], rest.len())
                }
                Piece::Spool {
                    segment,
                    offset,
                    octets,
                } => {
                    // Only what leaves now: the rest of a long body need not be in memory.
                    let done = u32::try_from(self.done).expect("a piece's length is a u32");
                    let left = *octets - done;
                    let count = left.min(u32::try_from(room).unwrap_or(u32::MAX));
                    let at = segment.at(Offset(offset.0 + done));
                    let unreadable = Trouble::Unreadable(*segment);
                    let part = message::octets(source, at, count);
                    (part.ok().flatten().ok_or(unreadable)?, left as usize)
                }
            };
            records.push(part)?;
            room -= part.len();
            if part.len() < left {
                self.done += part.len();
                break;
            }
            self.done = 0;
            finished += 1;
        }
        records.finish()?;
        waiting.drain(..finished);
        Ok(())
    }
}

/// Whether the connection ends behind what waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It does.
    Now,
    /// It goes on.
    NotNow,
}

/// Octets on their way into full records: short pieces share one, and of a long piece
/// only the ends are copied.
struct Records<'a> {
    layer: &'a mut Layer,
    out: &'a mut Vec<u8>,
    gathered: Vec<u8>,
}

impl Records<'_> {
    fn push(&mut self, mut octets: &[u8]) -> Result<(), Fault> {
        if !self.gathered.is_empty() {
            let room = RECORD_BYTES_MAX - self.gathered.len();
            let (part, rest) = octets.split_at(octets.len().min(room));
            self.gathered.extend_from_slice(part);
            octets = rest;
            if self.gathered.len() < RECORD_BYTES_MAX {
                return Ok(());
            }
            self.layer.encrypt(&self.gathered, self.out)?;
            self.gathered.clear();
        }
        let whole = octets.len() / RECORD_BYTES_MAX * RECORD_BYTES_MAX;
        let (whole, rest) = octets.split_at(whole);
        if !whole.is_empty() {
            self.layer.encrypt(whole, self.out)?;
        }
        self.gathered.extend_from_slice(rest);
        Ok(())
    }

    fn finish(self) -> Result<(), Fault> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.layer.encrypt(&self.gathered, self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::message::View;
    use spool_format::{Epoch, LogId, SegmentId, SegmentPlace};

    const PLACE: SegmentPlace = SegmentPlace {
        log: LogId(0),
        segment: SegmentId(1),
    };

    struct Spool(Vec<u8>);

    impl SegmentSource for Spool {
        fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
            (segment == PLACE).then_some(View {
                bytes: &self.0,
                epoch: Epoch(1),
            })
        }
    }

    fn piece(offset: usize, octets: usize) -> Piece {
        let number = |n: usize| u32::try_from(n).expect("small");
        Piece::Spool {
            segment: PLACE,
            offset: Offset(number(offset)),
            octets: number(octets),
        }
    }

    /// Sends all of `waiting`; gives what the other side reads of it, and checks that no
    /// part is larger than it may be.
    fn sent(mut waiting: Vec<Piece>, spool: &Spool) -> (Vec<u8>, usize) {
        let (server, mut client) = crate::tls::tests::layers();
        let mut cover = Cover {
            layer: server,
            clear: Vec::new(),
            ready: Vec::new(),
            done: 0,
            until: None,
        };
        let (mut room, mut got, mut parts) = (Room::default(), Vec::new(), 0);
        loop {
            let pieces = cover
                .next(&mut waiting, End::NotNow, spool)
                .expect("it is open");
            let [Piece::Octets(octets)] = &pieces[..] else {
                assert!(pieces.is_empty() && waiting.is_empty() && cover.is_quiet());
                return (got, parts);
            };
            assert!(
                octets.len() <= AHEAD_BYTES_MAX + 6 * 30,
                "{} octets",
                octets.len()
            );
            client
                .receive(octets, &mut room, &mut Vec::new())
                .expect("it is whole");
            got.extend_from_slice(&room.plaintext);
            parts += 1;
        }
    }

    /// A body is encrypted as it leaves, a part at a time, and nothing of it is changed.
    #[test]
    fn long_bodies_leave_in_parts() {
        let spool = Spool(
            (0..300_000_u32)
                .map(|i| (i % 251).to_le_bytes()[0])
                .collect(),
        );
        let words = |text: &str| Piece::Octets(text.as_bytes().to_vec());
        let check = |pieces: Vec<Piece>, parts: usize| {
            let mut expected = Vec::new();
            for piece in &pieces {
                match piece {
                    Piece::Octets(octets) => expected.extend_from_slice(octets),
                    Piece::Spool { offset, octets, .. } => {
                        let begin = offset.0 as usize;
                        expected.extend_from_slice(&spool.0[begin..begin + *octets as usize]);
                    }
                }
            }
            let (got, counted) = sent(pieces, &spool);
            assert!(got == expected, "{} octets", expected.len());
            assert_eq!(counted, parts);
        };
        check(vec![words("220 ready\r\n")], 1);
        check(vec![piece(0, 1)], 1);
        check(vec![piece(7, AHEAD_BYTES_MAX)], 1);
        check(vec![piece(7, AHEAD_BYTES_MAX + 1)], 2);
        check(vec![piece(0, 300_000)], 5);
        let mixed = vec![
            words("DATA\r\n"),
            piece(3, 40_000),
            piece(1, 5),
            piece(100_000, 200_000),
            words("."),
            words("\r\n"),
        ];
        check(mixed, 4);
        for length in [16_383, 16_384, 16_385, 32_767, 65_530] {
            check(
                vec![words("BDAT\r\n"), piece(0, length), words("x")],
                1 + length / 65_530,
            );
        }
    }

    #[test]
    fn a_body_that_is_not_there_is_told() {
        let (layer, _) = crate::tls::tests::layers();
        let mut cover = Cover {
            layer,
            clear: Vec::new(),
            ready: Vec::new(),
            done: 0,
            until: None,
        };
        let spool = Spool(vec![0; 10]);
        let result = cover.next(&mut vec![piece(0, 11)], End::NotNow, &spool);
        assert!(matches!(result, Err(Trouble::Unreadable(PLACE))));
    }
}
