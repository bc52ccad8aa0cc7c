//! Reading a segment from its beginning, over whatever damage it has.
//!
//! Relies on: the segment header, for the epoch; marks and checksums, for
//! everything else. No length is believed before its checksum is right.
//!
//! Invariants:
//! - The items cover the octets from the first record to the end of the segment
//!   once, in order, and the last one is [`Item::Tail`].
//! - A record that was not hit by damage is found, whatever happened before it:
//!   behind damage the scan goes on at the next octet where a record validates.
//! - The work is one pass, and one checksum for each place that bears the mark of
//!   this use of the file. What a client put into a message cannot bear it.
//!
//! What this module does not do: it does not look into payloads, and does not
//! decide what a damaged segment is good for (`table` does).

use crate::field::octet_enum;
use crate::frame::{
    Framed, RECORD_ALIGN, RECORD_HEADER_BYTES, RecordFault, RecordKind, Seat, mark, read_frame,
};
use crate::header::SegmentHeader;
use crate::place::{Epoch, Offset};

octet_enum! {
    /// What is behind the last record of a segment.
    pub enum TailKind ("tail") {
        /// The last record says that the segment was closed in order. What is
        /// behind it does not matter.
        Ended = 1, "closed in order";
        /// No room for another record, and none that says so.
        Full = 2, "full to the end";
        /// Zeros: the file was prepared for more.
        Zeros = 3, "zeros to the end";
        /// Octets of the use of the file before this one.
        Stale = 4, "octets of an earlier use of the file";
        /// A record of this use that is not whole.
        Torn = 5, "a record that was not written to its end";
        /// Neither zeros nor a record of this use or the one before.
        Unreadable = 6, "octets that are no record";
        /// The file is shorter than its header says.
        Short = 7, "the file ends too early";
    }
}

/// Octets without a record that is whole, between records that are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Damage {
    /// The first octet.
    pub begin: Offset,
    /// The octet behind the last one: a record begins here.
    pub end: Offset,
    /// What is wrong at the first octet.
    pub fault: RecordFault,
}

/// For the operator.
impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "octets {} to {} ({} octets): {}",
            self.begin.0,
            self.end.0,
            self.end.0 - self.begin.0,
            self.fault
        )
    }
}

/// What the scan comes upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A record.
    Record {
        /// Where it begins.
        offset: Offset,
        /// What it says.
        kind: RecordKind,
        /// To be decoded as its kind.
        payload: &'a [u8],
    },
    /// A record that is whole, of a kind or with flags that this version does not
    /// know.
    Unknown {
        /// Where it begins.
        offset: Offset,
        /// The octet that names the kind.
        kind_octet: u8,
        /// How long it is.
        payload_bytes: usize,
    },
    /// What is between two records and is none.
    Damage(Damage),
    /// The rest. Nothing comes after it.
    Tail {
        /// Where it begins.
        offset: Offset,
        /// What it is.
        kind: TailKind,
    },
}

/// Yields the [`Item`]s of a segment.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    /// The file up to the size that the header says.
    file: &'a [u8],
    epoch: Epoch,
    previous_epoch: Epoch,
    short: bool,
    next: Next<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Next<'a> {
    /// Look for a record here.
    At(Offset),
    /// This one was found behind damage.
    Found(Offset, Framed<'a>),
    /// The segment was closed; this is behind its last record.
    Ended(Offset),
    Nothing,
}

/// Compared at once: large enough for the comparison to run at the speed of memory.
const ZERO_BLOCK_BYTES: usize = 4096;
const WORDS_OF_BLOCK: usize = ZERO_BLOCK_BYTES / RECORD_ALIGN;

impl<'a> Scanner<'a> {
    /// A scan of the whole file; `header` is that of the file. Any octets may be
    /// handed in.
    #[must_use]
    pub fn new(file: &'a [u8], header: &SegmentHeader) -> Self {
        let segment_bytes = header.segment_bytes as usize;
        Self {
            file: &file[..file.len().min(segment_bytes)],
            epoch: header.epoch,
            previous_epoch: header.previous_epoch,
            short: file.len() < segment_bytes,
            next: Next::At(SegmentHeader::first_offset()),
        }
    }

    fn seat(&self, offset: Offset) -> Seat {
        Seat {
            epoch: self.epoch,
            offset,
        }
    }

    fn record(&mut self, offset: Offset, framed: Framed<'a>) -> Item<'a> {
        self.next = Next::At(framed.next);
        match framed.kind() {
            Some(kind) => {
                if kind == RecordKind::End {
                    self.next = Next::Ended(framed.next);
                }
                Item::Record {
                    offset,
                    kind,
                    payload: framed.payload,
                }
            }
            None => Item::Unknown {
                offset,
                kind_octet: framed.kind_octet,
                payload_bytes: framed.payload.len(),
            },
        }
    }

    /// There is no whole record at `begin`: looks for the next one.
    fn resync(&mut self, begin: Offset, fault: RecordFault) -> Item<'a> {
        let mut torn = matches!(fault, RecordFault::Length | RecordFault::Checksum);
        let mut stale = false;
        let mut bits: u64 = 0;
        let file = self.file;
        let rest = file.get(begin.0 as usize..).unwrap_or(&[]);
        let mut words = 0;
        while let Some(word) = rest[words * RECORD_ALIGN..].first_chunk() {
            let index = words;
            words += 1;
            let word = u64::from_le_bytes(*word);
            bits |= word;
            // The first half of a header is mark and checksum, and no mark is zero.
            if word == 0 {
                // What was prepared and never written is skipped in blocks.
                let block = rest[index * RECORD_ALIGN..].first_chunk::<ZERO_BLOCK_BYTES>();
                if index % WORDS_OF_BLOCK == 0 && block == Some(&[0; ZERO_BLOCK_BYTES]) {
                    words = index + WORDS_OF_BLOCK;
                }
                continue;
            }
            let offset = Offset(begin.0 + (index * RECORD_ALIGN) as u32);
            let seat = self.seat(offset);
            if word as u32 == mark(seat) && index > 0 {
                match read_frame(file, seat) {
                    Ok(framed) => {
                        self.next = Next::Found(offset, framed);
                        return Item::Damage(Damage {
                            begin,
                            end: offset,
                            fault,
                        });
                    }
                    Err(_) => torn = true,
                }
            } else if !stale && self.previous_epoch.0 != 0 {
                let seat = Seat {
                    epoch: self.previous_epoch,
                    offset,
                };
                stale = word as u32 == mark(seat) && read_frame(file, seat).is_ok();
            }
        }
        self.next = Next::Nothing;
        let remainder = rest.chunks_exact(RECORD_ALIGN).remainder();
        let zeros = bits == 0 && remainder.iter().all(|&octet| octet == 0);
        let kind = if self.short {
            TailKind::Short
        } else if rest.len() < RECORD_HEADER_BYTES {
            TailKind::Full
        } else if torn {
            TailKind::Torn
        } else if zeros {
            TailKind::Zeros
        } else if stale {
            TailKind::Stale
        } else {
            TailKind::Unreadable
        };
        Item::Tail {
            offset: begin,
            kind,
        }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        match self.next {
            Next::At(offset) => Some(match read_frame(self.file, self.seat(offset)) {
                Ok(framed) => self.record(offset, framed),
                Err(fault) => self.resync(offset, fault),
            }),
            Next::Found(offset, framed) => Some(self.record(offset, framed)),
            Next::Ended(offset) => {
                self.next = Next::Nothing;
                Some(Item::Tail {
                    offset,
                    kind: TailKind::Ended,
                })
            }
            Next::Nothing => None,
        }
    }
}
