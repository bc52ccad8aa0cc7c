//! The segments that one data core reads, and the one it writes.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;

use spool_format::{LogId, Offset, SegmentId, SegmentPlace};

use crate::runtime::storeroom::Storeroom;
use crate::spool::commit::{Durability, WriteFault, WriteStep};
use crate::spool::message::{SegmentSource, View};
use crate::spool::segment::{OpenSegments, Segment};

/// The segment that is written, as the ring syncs it.
#[derive(Debug)]
struct Tail {
    segment: SegmentId,
    file: Rc<monoio::fs::File>,
}

/// Open segments by their place. Made on its core's thread: the ring's files stay there.
#[derive(Debug)]
pub struct Segments {
    own: LogId,
    storeroom: Arc<Storeroom>,
    open: OpenSegments,
    tail: Option<Tail>,
}

impl Segments {
    /// A table for the core that writes log `own`.
    #[must_use]
    pub fn new(own: LogId, storeroom: Arc<Storeroom>) -> Self {
        Self {
            own,
            storeroom,
            open: OpenSegments::default(),
            tail: None,
        }
    }

    /// Adds a segment that was there at the start.
    pub fn keep(&mut self, segment: Arc<Segment>) {
        self.open.insert(segment);
    }

    /// Takes a segment of the own log that was prepared.
    ///
    /// # Errors
    /// It was not: an error of ours, told as a failed preparation.
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
        self.tail
            .take_if(|tail| place.log == self.own && tail.segment == place.segment);
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
            .map(|open| open.as_fd())
            .ok_or_else(missing)
    }

    /// Writes a batch into the page cache, and gives the file to sync if that is what
    /// `durability` asks for.
    ///
    /// The write itself is a plain system call: into the page cache it does not wait,
    /// and the ring would only add its own cost (70 against 86 µs for a record with
    /// its sync).
    ///
    /// # Errors
    /// The write failed.
    pub fn write(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        octets: &[u8],
        durability: Durability,
    ) -> Result<Option<Rc<monoio::fs::File>>, WriteFault> {
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
        if durability == Durability::None {
            return Ok(None);
        }
        if let Some(tail) = &self.tail
            && tail.segment == segment
        {
            return Ok(Some(Rc::clone(&tail.file)));
        }
        let file = open
            .as_fd()
            .try_clone_to_owned()
            .and_then(|fd| monoio::fs::File::from_std(std::fs::File::from(fd)))
            .map_err(|error| WriteFault {
                step: WriteStep::Sync,
                os_error: error.raw_os_error(),
            })?;
        let file = Rc::new(file);
        self.tail = Some(Tail {
            segment,
            file: Rc::clone(&file),
        });
        Ok(Some(file))
    }
}

impl SegmentSource for Segments {
    fn view(&self, place: SegmentPlace) -> Option<View<'_>> {
        self.open.view(place)
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the spool has no such octets")
}
