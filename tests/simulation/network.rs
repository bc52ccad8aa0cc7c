//! Connections as the kernels of their two ends see them: windows, cuts, ends, and which
//! reply an end has read. The worlds say who is there and when what is under way arrives.

use std::collections::VecDeque;

use spool_format::SegmentPlace;
use turnspool::core::Piece;

use crate::disk::Inode;
use crate::ledger::{Ledger, Receipt};
use crate::random::Random;

/// How far a connection is, as the kernel of an end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The core waits for the outcome.
    Connecting,
    Open,
    /// It is gone, and the core was told or is about to be.
    Broken,
    /// The core knows that it is gone.
    Told,
    /// The core closed it.
    Closed,
}

/// Octets of a spool: by machine, log and file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    pub(crate) machine: usize,
    pub(crate) log: usize,
    pub(crate) inode: Inode,
    pub(crate) from: usize,
    pub(crate) octets: usize,
}

/// Something under way.
#[derive(Debug)]
pub(crate) enum Part {
    Octets(Vec<u8>),
    /// Of a spool, seen when it arrives: until then the pages wait in the socket's queue.
    Spool(Pages),
    /// No more comes.
    Finish,
    Reset,
}

impl Part {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Spool(pages) => pages.octets,
            Self::Finish | Self::Reset => 0,
        }
    }
}

/// What is left of a send.
#[derive(Debug)]
struct Sending {
    pieces: VecDeque<Piece>,
    /// Octets of the first that have left.
    done: usize,
}

/// What becomes of a send next.
#[derive(Debug)]
pub(crate) enum Push {
    /// The kernel takes no more now, or nothing is sent.
    Blocked,
    /// All has left.
    Sent,
    /// A piece without octets.
    Nothing,
    /// These leave.
    Octets(Vec<u8>),
    /// These leave, of a segment.
    Spool {
        segment: SegmentPlace,
        from: usize,
        octets: usize,
    },
}

/// One end, and who is there.
#[derive(Debug)]
pub(crate) struct End<W> {
    pub(crate) who: W,
    /// As its kernel sees the connection.
    pub(crate) phase: Phase,
    /// Came, and was not yet received.
    pub(crate) arrived: Vec<u8>,
    pub(crate) finished: bool,
    pub(crate) receiving: bool,
    sending: Option<Sending>,
    /// Octets that its kernel takes now.
    pub(crate) window: usize,
    /// It takes octets out of the other's window.
    pub(crate) reads: bool,
    /// Nanoseconds until it has read what arrived.
    pub(crate) reading: u64,
    /// When the last thing that is under way arrives here: nothing overtakes.
    pub(crate) last_arrival: u64,
    /// What it says goes in cuts of so many octets at most.
    pub(crate) cut_max: usize,
    /// Octets that it has said, and that it was handed.
    pub(crate) said: u64,
    pub(crate) handed: u64,
    /// Deliveries, with the place of their replies among what it is handed.
    pub(crate) receipts: VecDeque<(u64, Receipt)>,
    /// What it has said and what arrives after this time is lost.
    pub(crate) lost_after: u64,
    /// It will be told that the connection is dead.
    pub(crate) times_out: bool,
}

impl<W> End<W> {
    pub(crate) fn new(who: W, phase: Phase) -> Self {
        Self {
            who,
            phase,
            arrived: Vec::new(),
            finished: false,
            receiving: false,
            sending: None,
            window: 64 * 1024,
            reads: true,
            reading: 0,
            last_arrival: 0,
            cut_max: usize::MAX,
            said: 0,
            handed: 0,
            receipts: VecDeque::new(),
            lost_after: u64::MAX,
            times_out: false,
        }
    }

    /// Its process lives and may be told something.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting)
    }

    /// The kernel lets go, and what was not yet sent with it.
    pub(crate) fn ends(&mut self, phase: Phase) {
        self.phase = phase;
        self.sending = None;
    }

    pub(crate) fn sends(&self) -> bool {
        self.sending.is_some()
    }

    /// Its process wants to send.
    pub(crate) fn send(&mut self, pieces: Vec<Piece>) {
        assert!(self.sending.is_none(), "two sends at a time");
        assert!(!pieces.is_empty(), "a send of nothing");
        self.sending = Some(Sending {
            pieces: pieces.into(),
            done: 0,
        });
    }

    /// What the kernel takes of a send.
    pub(crate) fn push(&mut self, random: &mut Random) -> Push {
        let Some(sending) = &mut self.sending else {
            return Push::Blocked;
        };
        let Some(piece) = sending.pieces.front() else {
            self.sending = None;
            return Push::Sent;
        };
        let length = match piece {
            Piece::Octets(octets) => octets.len(),
            Piece::Spool { octets, .. } => *octets as usize,
        };
        let left = length - sending.done;
        let most = left.min(self.window);
        if left > 0 && most == 0 {
            return Push::Blocked;
        }
        let take = if random.one_in(3) {
            random.length(most.min(1), most)
        } else {
            most
        };
        let from = sending.done;
        let pushed = match piece {
            _ if take == 0 => Push::Nothing,
            Piece::Octets(octets) => Push::Octets(octets[from..from + take].to_vec()),
            Piece::Spool {
                segment, offset, ..
            } => Push::Spool {
                segment: *segment,
                from: offset.0 as usize + from,
                octets: take,
            },
        };
        self.window -= take;
        sending.done += take;
        if sending.done == length {
            sending.pieces.pop_front();
            sending.done = 0;
        }
        pushed
    }

    /// What its process is handed now, if it waits for something: octets, or none, which
    /// is the end.
    pub(crate) fn hand(&mut self, random: &mut Random) -> Option<Vec<u8>> {
        if self.phase != Phase::Open || !self.receiving {
            return None;
        }
        let most = self.arrived.len();
        if most == 0 {
            if !self.finished {
                return None;
            }
            self.receiving = false;
            self.receipts.clear();
            return Some(Vec::new());
        }
        let take = if random.one_in(4) {
            random.length(1, most)
        } else {
            most
        };
        let left = self.arrived.split_off(take);
        let octets = std::mem::replace(&mut self.arrived, left);
        self.receiving = false;
        self.handed += take as u64;
        Some(octets)
    }

    /// All that arrived, for a process that is told of the end together with it.
    pub(crate) fn hand_all(&mut self) -> Vec<u8> {
        let octets = std::mem::take(&mut self.arrived);
        self.handed += octets.len() as u64;
        octets
    }

    /// It has these replies. One that comes while it still sends is not believed before
    /// all has left, and lost if the connection ends first.
    pub(crate) fn confirm(&mut self, now: u64, ledger: &mut Ledger) {
        if self.sends() {
            return;
        }
        while let Some((place, _)) = self.receipts.front()
            && *place <= self.handed
        {
            let (_, receipt) = self.receipts.pop_front().expect("looked at above");
            ledger.confirm(now, &receipt);
        }
    }

    /// The next cut of what it says.
    pub(crate) fn cut(&mut self, rest: &mut &[u8], random: &mut Random) -> Vec<u8> {
        let most = rest.len().min(self.cut_max);
        let take = if random.one_in(3) {
            random.length(1, most)
        } else {
            most
        };
        let (cut, left) = rest.split_at(take);
        *rest = left;
        self.said += take as u64;
        cut.to_vec()
    }

    /// When something arrives here that could arrive at this time: nothing overtakes.
    pub(crate) fn arrival(&mut self, earliest: u64) -> u64 {
        self.last_arrival = self.last_arrival.max(earliest);
        self.last_arrival
    }
}
