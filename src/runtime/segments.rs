//! The segments that one data core reads, and the one it writes.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use spool_format::{LogId, Offset, SegmentId, SegmentPlace};

use crate::runtime::clock::Clock;
use crate::runtime::storeroom::Storeroom;
use crate::spool::commit::{Durability, WriteFault, WriteStep};
use crate::spool::message::{SegmentSource, Unreadable, View};
use crate::spool::segment::{OpenSegments, Segment};
use crate::time::Instant;

/// Octets on both sides of what is wanted that are fetched with it. Messages that come
/// together lie among one another, the envelopes before the bodies of others; and the
/// next one that is sent is nearly always the next one in the log.
const FETCHED_AROUND: u32 = 64 << 10;

/// How long octets count as fetched: until then memory is hardly taken from them, and a
/// disk that gave them is hardly bad.
const FETCHED_FOR: Duration = Duration::from_millis(100);

/// What was fetched last.
#[derive(Clone, Copy, Debug)]
struct Fetched {
    place: SegmentPlace,
    begin: u32,
    end: u32,
    until: Instant,
}

/// Open segments by their place. Made on its core's thread: the ring's files stay there.
#[derive(Debug)]
pub struct Segments {
    own: LogId,
    storeroom: Arc<Storeroom>,
    open: OpenSegments,
    clock: Clock,
    fetched: Cell<Option<Fetched>>,
}

impl Segments {
    /// A table for the core that writes log `own`.
    #[must_use]
    pub fn new(own: LogId, storeroom: Arc<Storeroom>, clock: Clock) -> Self {
        Self {
            own,
            storeroom,
            open: OpenSegments::default(),
            clock,
            fetched: Cell::new(None),
        }
    }

    /// Adds a segment that was there at the start.
    pub fn keep(&mut self, segment: Arc<Segment>) {
        self.open.insert(segment);
    }

    /// Takes a segment of the own log that was prepared. Everything that its writes need
    /// is got here.
    ///
    /// # Errors
    /// It was not prepared, which is an error of ours.
    pub fn take(&mut self, segment: SegmentId) -> Result<(), String> {
        let place = SegmentPlace {
            log: self.own,
            segment,
        };
        let prepared = self
            .storeroom
            .segment(place)
            .ok_or("the file is not there")?;
        self.open.insert(prepared);
        Ok(())
    }

    /// Drops a segment; its map goes when nobody else has it.
    pub fn forget(&mut self, place: SegmentPlace) {
        self.open.remove(place);
    }

    /// Octets of a segment.
    ///
    /// # Errors
    /// They are not there: an error of ours, which ends one connection and not the
    /// process.
    pub fn octets(&self, place: SegmentPlace, range: Range<u32>) -> io::Result<&[u8]> {
        self.open
            .get(place)
            .and_then(|open| open.bytes(range))
            .ok_or_else(missing)
    }

    /// The file of a segment, for `sendfile`.
    ///
    /// # Errors
    /// The segment is not there.
    pub fn file(&self, place: SegmentPlace) -> io::Result<BorrowedFd<'_>> {
        self.open
            .get(place)
            .map(|open| open.lend())
            .ok_or_else(missing)
    }

    /// Whether a send of these octets would not wait for the disk.
    #[must_use]
    pub fn is_warm(&self, place: SegmentPlace, range: Range<u32>) -> bool {
        // Of a segment that is not there the send says what is wrong.
        (self.open.get(place)).is_none_or(|open| open.is_warm(range))
    }

    /// Begins to read octets into memory; the end of them has come when the file's last
    /// octet of the range was read through the ring.
    ///
    /// # Errors
    /// The segment is not there, or there is no descriptor left.
    pub fn warm(&self, place: SegmentPlace, range: Range<u32>) -> io::Result<Warming> {
        let open = self.open.get(place).ok_or_else(missing)?;
        let file = std::fs::File::from(open.as_fd().try_clone_to_owned()?);
        let last = u64::from(range.end.saturating_sub(1));
        open.warm(range);
        Ok(Warming {
            file: monoio::fs::File::from_std(file)?,
            last,
        })
    }

    /// Writes a batch into the page cache, and gives the segment to sync if that is what
    /// `durability` asks for.
    ///
    /// The write itself is a plain system call: into the page cache it does not wait,
    /// and the ring would only add its own cost (70 against 86 µs for a record with
    /// its sync).
    ///
    /// # Errors
    /// The write failed.
    pub fn write(
        &self,
        segment: SegmentId,
        offset: Offset,
        octets: &[u8],
        durability: Durability,
    ) -> Result<Option<Arc<Segment>>, WriteFault> {
        let place = SegmentPlace {
            log: self.own,
            segment,
        };
        let Some(open) = self.open.get(place) else {
            return Err(WriteFault {
                step: WriteStep::Write,
                os_error: None,
            });
        };
        open.write(offset, octets, Durability::None)?;
        Ok((durability != Durability::None).then(|| Arc::clone(open)))
    }
}

/// Octets on their way from the disk.
#[derive(Debug)]
pub struct Warming {
    file: monoio::fs::File,
    last: u64,
}

impl Warming {
    /// Waits until they are there, or cannot be had: then the send says so. Not to be
    /// dropped before.
    pub async fn done(self) {
        let _ = self.file.read_at(vec![0; 1], self.last).await;
    }
}

impl SegmentSource for Segments {
    fn view(&self, place: SegmentPlace) -> Option<View<'_>> {
        self.open.view(place)
    }

    /// One system call for what several messages want: of the octets around, those that
    /// are there are fetched too. Where that fails it may be for a neighbour's sector, and
    /// what is wanted is asked for by itself.
    fn fetch(&self, place: SegmentPlace, octets: Range<u32>) -> Result<(), Unreadable> {
        let Some(open) = self.open.get(place) else {
            return Ok(());
        };
        let now = self.clock.now().instant;
        let written = u32::try_from(open.contents().len()).expect("a segment's size");
        let (start, end) = (octets.start, octets.end.min(written));
        let covers =
            |f: Fetched| f.place == place && f.begin <= start && end <= f.end && now < f.until;
        if self.fetched.get().is_some_and(covers) {
            return Ok(());
        }
        let around = Fetched {
            place,
            begin: start.saturating_sub(FETCHED_AROUND),
            end: end.saturating_add(FETCHED_AROUND).min(written),
            until: now + FETCHED_FOR,
        };
        // In one read, where it is not in memory: fetching takes page by page.
        open.warm(around.begin..around.end);
        if open.fetch(around.begin..around.end).is_ok() {
            self.fetched.set(Some(around));
            return Ok(());
        }
        self.fetched.set(None);
        open.fetch(octets)
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the spool has no such octets")
}
