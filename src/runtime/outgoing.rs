//! Sending pieces: octets of ours, and octets of the spool as they lie in the
//! mapped segment.
//!
//! Small pieces leave together in one `sendmsg` whose vectors point into the
//! core's buffers and into the maps: the kernel copies, user space does not.
//! A long range of the spool leaves by `sendfile`, which does not copy at all but
//! costs a system call of its own. The calls are non-blocking; what does not fit
//! stays here until the socket is writable. `sendfile` would wait for a disk all the
//! same: a range that is not in memory is brought there first, while the core does
//! something else.

use std::io::{self, IoSlice};
use std::ops::Range;

use smallvec::SmallVec;
use spool_format::SegmentPlace;

use crate::core::Piece;
use crate::runtime::net::{More, Progress, Socket};
use crate::runtime::segments::Segments;

/// From this length on a range of the spool leaves by `sendfile`. Below it, the
/// copy costs less than the extra system calls (bench `relay`).
const SEND_FILE_OCTETS_MIN: u32 = 64 * 1024;

/// Vectors in one `sendmsg`: the pieces of a few pipelined transactions. More
/// leave with the next call; the kernel's own limit is 1024.
const VECTORS_MAX: usize = 16;

/// What is left of one `Operation::Send`.
#[derive(Debug)]
pub struct Outgoing {
    pieces: Vec<Piece>,
    /// The piece that is being sent.
    index: usize,
    /// How much of it has left.
    sent_octets: usize,
    /// The piece that is in memory, as far as it was looked for: it is waited for once,
    /// since memory that is scarce may be taken again.
    warm: Option<usize>,
}

/// Why sending has to stop for now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// All has left.
    Done,
    /// The socket is full.
    Full,
    /// These octets are not in memory.
    Cold {
        /// Where they are.
        segment: SegmentPlace,
        /// Which.
        octets: Range<u32>,
    },
}

impl Outgoing {
    /// Everything is still to be sent.
    #[must_use]
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self {
            pieces,
            index: 0,
            sent_octets: 0,
            warm: None,
        }
    }

    /// Sends as much as goes without waiting.
    ///
    /// # Errors
    /// The connection is broken, or a range of the spool cannot be read.
    pub fn advance(&mut self, socket: &Socket, segments: &Segments) -> io::Result<Stop> {
        loop {
            self.skip_empty();
            let Some(piece) = self.pieces.get(self.index) else {
                return Ok(Stop::Done);
            };
            let progress = match *piece {
                Piece::Spool {
                    segment,
                    offset,
                    octets,
                } if octets - self.sent_octets_u32() >= SEND_FILE_OCTETS_MIN => {
                    if self.warm != Some(self.index) {
                        self.warm = Some(self.index);
                        let octets = offset.0 + self.sent_octets_u32()..offset.0 + octets;
                        if !segments.is_warm(segment, octets.clone()) {
                            return Ok(Stop::Cold { segment, octets });
                        }
                    }
                    let mut from = u64::from(offset.0) + self.sent_octets as u64;
                    let left = octets as usize - self.sent_octets;
                    let file = segments.file(segment)?;
                    match socket.send_file(file, &mut from, left)? {
                        // The file is shorter than the index says: never wait for it.
                        Progress::Octets(0) => return Err(short_segment()),
                        progress => progress,
                    }
                }
                _ => self.send_vectors(socket, segments)?,
            };
            match progress {
                Progress::Wait => return Ok(Stop::Full),
                Progress::Octets(octets) => self.advance_by(octets),
            }
        }
    }

    fn send_vectors(&self, socket: &Socket, segments: &Segments) -> io::Result<Progress> {
        let mut vectors: SmallVec<[IoSlice<'_>; VECTORS_MAX]> = SmallVec::new();
        let mut skip = self.sent_octets;
        let mut more = More::No;
        for piece in &self.pieces[self.index..] {
            let slice = match piece {
                Piece::Octets(octets) => octets.as_slice(),
                Piece::Spool { octets, .. }
                    if !vectors.is_empty() && *octets >= SEND_FILE_OCTETS_MIN =>
                {
                    more = More::Follows;
                    break;
                }
                Piece::Spool {
                    segment,
                    offset,
                    octets,
                } => segments.octets(*segment, offset.0..offset.0 + octets)?,
            };
            if vectors.len() == VECTORS_MAX {
                more = More::Follows;
                break;
            }
            vectors.push(IoSlice::new(&slice[skip..]));
            skip = 0;
        }
        socket.send(&vectors, more)
    }

    fn skip_empty(&mut self) {
        while let Some(Piece::Octets(octets)) = self.pieces.get(self.index) {
            if !octets.is_empty() {
                break;
            }
            self.index += 1;
        }
    }

    fn advance_by(&mut self, octets: usize) {
        self.sent_octets += octets;
        while let Some(piece) = self.pieces.get(self.index) {
            let length = match piece {
                Piece::Octets(octets) => octets.len(),
                Piece::Spool { octets, .. } => *octets as usize,
            };
            if self.sent_octets < length {
                return;
            }
            self.sent_octets -= length;
            self.index += 1;
        }
        assert_eq!(
            self.sent_octets, 0,
            "the kernel took more than it was given"
        );
    }

    /// Only a piece of the spool is this long, and its length is a `u32`.
    fn sent_octets_u32(&self) -> u32 {
        u32::try_from(self.sent_octets).unwrap_or(u32::MAX)
    }
}

fn short_segment() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the segment file is shorter than its index says",
    )
}
