//! Segment files: the directory of a log, and the only memory map of the program.
//!
//! A directory holds, for the segment with number 17:
//!
//! | name | what |
//! |---|---|
//! | `0000000017.segment` | a segment: header, then records |
//! | `0000000017.summary` | what a restart needs to know of it; may be missing |
//! | `0000000017.new`, `.summary-new` | being made; worthless after a crash |
//! | `0000000017.spare` | a dead segment, to become a later one |
//! | `0000000017.renewing` | a dead segment of which sockets may have pages, to become a spare |
//! | `0000000017.damaged` | set aside for the operator; we never read or delete it |
//!
//! A name changes only after what it promises is on stable storage: a `.segment`
//! always has its full size and a synced header.
//!
//! *Preparing.* Space is allocated before a segment is used, so that a full disk is
//! an error of the preparation, and not of a write with somebody's mail in it.
//! Measured on ext4 with segments of 64 MiB (`benches/commit.rs`), octets that reached the
//! disk for each octet of mail, preparation included, and time for a durable batch:
//!
//! | segment | preparing | 1 message of 4 KiB | 16 at once | 128 at once |
//! |---|---|---|---|---|
//! | allocated | 0.6 ms | 5.8 | 1.11, 360 µs | 1.01, 590 µs |
//! | filled with zeros | 40 ms | 6.0, 240 µs | 2.06, 330 µs | 2.01, 390 µs |
//! | reused | 0.4 ms | 1.9, 180 µs | 1.06, 190 µs | 1.01, 330 µs |
//!
//! (Times are of a busy machine: compare them within the table.) An extent that was only
//! allocated is converted when it is first written, at the price of a journal commit;
//! zeros are written twice over. So dead segments are reused, and fresh ones are allocated
//! only. One from which a body has left by `sendfile` (64 KiB or more, in clear), or which is
//! of before the start, is zeroed before, and costs what an allocated one does.
//!
//! *Reading.* [`Segment::bytes`] gives slices of the map, and only of octets below the
//! *frontier*: those that are written and will never be written again. This is the
//! invariant on which the one `unsafe` block here rests. It needs that
//!
//! - nobody else writes to or truncates the file: the directory is locked, the files
//!   have mode 0600, and this module never truncates;
//! - a segment is reused only when its map is gone ([`Segment::retire`] takes the last
//!   handle).
//!
//! *Sending* shows a socket the pages themselves, for as long as its peer takes, also when the
//! connection is closed or the process is gone. A dead segment of which that may be is not
//! used again as it is: [`Segment::retire`] takes its pages from it.
//!
//! A disk that cannot read a page kills the process with SIGBUS when a map is touched.
//! So nobody touches octets that were not brought in before by [`Segment::fetch`], which
//! gives an error instead; between the two a page may be dropped and its sector go bad,
//! and that is left. The kernel's own reads of the map, when it sends, fail in order.
//! Recovery reads with [`Segment::read`].
//!
//! What it does not do: it does not know records; it does not decide which segment
//! goes (`reclaim` does); it never retries a failed sync.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hashbrown::HashMap;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::{Errno, ReadWriteFlags};
use spool_format::{Epoch, Offset, SegmentHeader, SegmentPlace, SummaryBuilder};

use super::commit::{Durability, WriteFault, WriteStep};
use super::message::{SegmentSource, Unreadable, View};

mod directory;
mod name;
mod summary;

pub use directory::{Directory, Fill, Listing};
pub use name::{FileKind, file_name, parse_name};

/// How much is asked for in advance: some hundred messages, which a disk gives in a few
/// milliseconds and a drain takes longer to send.
const READ_AHEAD_BYTES: u32 = 1 << 20;

/// Who reads so far from where it read last has not gone on, but somewhere else: more than
/// what a few messages that others took, or a large body, lie apart.
const READER_STEP_MAX: u32 = 256 << 10;

/// A segment file, open and mapped.
#[derive(Debug)]
pub struct Segment {
    place: SegmentPlace,
    epoch: Epoch,
    /// Octets below are written, and are not written again while the map is there.
    frontier: AtomicU32,
    /// Where octets were fetched last, and up to where they were asked for in advance.
    /// Hints only: nothing is lost where two threads see old ones.
    reader: AtomicU32,
    ahead: AtomicU32,
    /// A socket was given pages of it, by this process or an earlier one.
    is_lent: AtomicBool,
    bytes: u32,
    map: MmapRaw,
    file: OwnedFd,
}

impl Segment {
    /// Maps the file; octets below `frontier` may be read at once. `path` is for messages.
    fn map(
        place: SegmentPlace,
        file: OwnedFd,
        frontier: u32,
        epoch: Epoch,
        is_lent: bool,
        path: PathBuf,
    ) -> Result<Self, FileError> {
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(errno) => return Err(FileError::new("asking for the size of", path, errno)),
        };
        let Ok(bytes @ 1..) = u32::try_from(stat.st_size) else {
            let why = "its size is none that a segment can have";
            return Err(FileError::malformed("mapping", path, why));
        };
        let mapped = MmapOptions::new()
            .len(bytes as usize)
            .map_raw_read_only(&file);
        let map = mapped.map_err(|source| FileError {
            fault: FileFault::System,
            doing: "mapping",
            path,
            source,
        })?;
        // Mail is read once, a message at a time: the kernel's read-ahead beyond it is
        // waste. Who reads one message behind the other is seen by `read_ahead`.
        let _ = map.advise(Advice::Random);
        Ok(Self {
            place,
            epoch,
            frontier: AtomicU32::new(frontier.min(bytes)),
            reader: AtomicU32::new(0),
            ahead: AtomicU32::new(0),
            is_lent: AtomicBool::new(is_lent),
            bytes,
            map,
            file,
        })
    }

    /// Which it is.
    #[must_use]
    pub fn place(&self) -> SegmentPlace {
        self.place
    }

    /// What its records are seeded with.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The size of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.bytes
    }

    /// Octets of the file; `None` if any of them is not written yet. The slice shows
    /// the page cache: no copy, and a read from the disk where a page is cold.
    #[must_use]
    pub fn bytes(&self, range: Range<u32>) -> Option<&[u8]> {
        // Acquire: pairs with the release in `advance`, so that a thread which sees
        // the frontier also sees the octets.
        if range.start > range.end || range.end > self.frontier.load(Ordering::Acquire) {
            return None;
        }
        let start = self.map.as_ptr().wrapping_add(range.start as usize);
        // SAFETY: `start .. start + length` lies in the map: `range` is ordered and
        // ends at or below the frontier, which `map` and `advance` keep at or below
        // the size of the file, which is the length of the map; the file is not
        // truncated (module head). The map lives as long as `self`, from which the
        // slice borrows. The octets are initialised, and nobody writes them while the
        // slice lives: writes are at or above the frontier (`write` asserts it, `as_fd`
        // asks it), the frontier never goes back, and reuse needs `self` by value.
        #[expect(
            unsafe_code,
            reason = "the one place where mapped octets become a slice"
        )]
        let bytes = unsafe { std::slice::from_raw_parts(start, range.len()) };
        Some(bytes)
    }

    /// All octets that may be read.
    #[must_use]
    pub fn contents(&self) -> &[u8] {
        self.bytes(0..self.frontier.load(Ordering::Acquire))
            .expect("the frontier may be read")
    }

    /// The summary of a closed segment: a pass over all its octets. `None` if it has
    /// records that this version does not know, or cannot be read.
    #[must_use]
    pub fn summary(&self) -> Option<Vec<u8>> {
        // A segment that cannot be read has none: the next start scans what it can.
        self.fetch(0..self.bytes).ok()?;
        let header = SegmentHeader::decode(self.contents(), self.place).ok()?;
        // What is behind the frontier is not read: for the scan the file ends there, and
        // a segment that is closed ends before.
        SummaryBuilder::scan(self.contents(), &header)
    }

    /// Writes at or above the frontier, makes it as durable as asked, and moves the
    /// frontier behind it. Blocks. Never called again for a log whose write failed.
    ///
    /// # Errors
    /// Which step failed. Octets above the frontier are then undefined.
    pub fn write(
        &self,
        offset: Offset,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), WriteFault> {
        let end = self.end_of_write(offset, bytes.len());
        let fault = |step, errno: Errno| WriteFault {
            step,
            os_error: Some(errno.raw_os_error()),
        };
        let flags = match durability {
            Durability::Range => ReadWriteFlags::DSYNC,
            Durability::None | Durability::File => ReadWriteFlags::empty(),
        };
        write_all(&self.file, u64::from(offset.0), bytes, flags)
            .map_err(|e| fault(WriteStep::Write, e))?;
        if durability == Durability::File {
            rustix::fs::fdatasync(&self.file).map_err(|e| fault(WriteStep::Sync, e))?;
        }
        self.advance(end);
        Ok(())
    }

    /// Where a write would end.
    ///
    /// # Panics
    /// It would begin below the frontier or end behind the file: our mistake.
    #[must_use]
    pub fn end_of_write(&self, offset: Offset, bytes: usize) -> Offset {
        let frontier = self.frontier.load(Ordering::Acquire);
        assert!(
            offset.0 >= frontier,
            "write to {} at {} below its frontier {frontier}",
            self.place,
            offset.0
        );
        let end = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| offset.0.checked_add(bytes))
            .filter(|&end| end <= self.bytes);
        Offset(end.expect("a write ends in its segment"))
    }

    /// For a shell that writes by itself through [`Segment::as_fd`]: everything below
    /// `end` is written, and will not be written again.
    ///
    /// # Panics
    /// `end` lies behind the file.
    pub fn advance(&self, end: Offset) {
        assert!(end.0 <= self.bytes, "the frontier stays in the file");
        self.frontier.fetch_max(end.0, Ordering::Release);
    }

    /// For `sendfile`, which gives the socket not a copy but the pages.
    #[must_use]
    pub fn lend(&self) -> BorrowedFd<'_> {
        // Whoever retires it has its only handle, and sees this without an order.
        self.is_lent.store(true, Ordering::Relaxed);
        self.file.as_fd()
    }

    /// For asynchronous writes and syncs. Write only at or above the
    /// frontier ([`Segment::end_of_write`] checks), one write at a time, and never
    /// truncate.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Asks the system to read these octets ahead, without waiting.
    pub fn warm(&self, range: Range<u32>) {
        let end = range.end.min(self.bytes);
        if range.start < end {
            let length = (end - range.start) as usize;
            // Advice: where it is refused, the first read is slower.
            let _ = self
                .map
                .advise_range(Advice::WillNeed, range.start as usize, length);
        }
    }

    /// Whether sending these octets would not wait for the disk. Looks at both ends: what
    /// is read ahead, and what memory is taken from, lies in one piece. True where it
    /// cannot be told, and where there is nothing to be read.
    #[must_use]
    pub fn is_warm(&self, range: Range<u32>) -> bool {
        let Some(last) = range.end.checked_sub(1) else {
            return true;
        };
        [range.start, last].into_iter().all(|octet| {
            let mut buffer = [0];
            let buffer = &mut [io::IoSliceMut::new(&mut buffer)];
            let flags = ReadWriteFlags::NOWAIT;
            let read = rustix::io::preadv2(&self.file, buffer, u64::from(octet), flags);
            read != Err(Errno::AGAIN)
        })
    }

    /// Brings these octets into the map, from the disk where it must be. What lies
    /// behind the frontier is left out. Where the pages are there already it costs half
    /// a microsecond.
    ///
    /// # Errors
    /// The disk cannot give them: to touch them would end the process.
    pub fn fetch(&self, range: Range<u32>) -> Result<(), Unreadable> {
        let end = range.end.min(self.frontier.load(Ordering::Acquire));
        if range.start >= end {
            return Ok(());
        }
        self.read_ahead(range.start);
        let length = (end - range.start) as usize;
        let fetched = self
            .map
            .advise_range(Advice::PopulateRead, range.start as usize, length);
        fetched.map_err(|error| Unreadable(error.raw_os_error().unwrap_or_default()))
    }

    /// Asks for what comes next, if the reader goes on where it was: so goes whoever drains
    /// a queue that lies on the disk, since messages lie there in the order in which they
    /// came. Without it the core waits for the disk once a message: 4,064 times in a drain
    /// of 4,000 messages from a cold disk, against 4 times with it, and at a third of the
    /// rate.
    fn read_ahead(&self, start: u32) {
        let before = self.reader.swap(start, Ordering::Relaxed);
        let ahead = self.ahead.load(Ordering::Relaxed);
        let goes_on = start.abs_diff(before) <= READER_STEP_MAX;
        // Half of it is still in front of the reader: early enough.
        let is_near = start + READ_AHEAD_BYTES / 2 > ahead;
        let is_behind = start + 2 * READ_AHEAD_BYTES < ahead;
        if goes_on && (is_near || is_behind) {
            let end = start.saturating_add(READ_AHEAD_BYTES);
            self.ahead.store(end, Ordering::Relaxed);
            let from = if is_behind { start } else { start.max(ahead) };
            self.warm(from..end.min(self.frontier.load(Ordering::Acquire)));
        }
    }

    /// Reads without the map: a page that the disk cannot read is an error here, and
    /// not the end of the process. Returns how much there was; `buffer` is filled
    /// except at the end of the file.
    ///
    /// # Errors
    /// The device failed.
    pub fn read(&self, offset: Offset, buffer: &mut [u8]) -> io::Result<usize> {
        read_full(&self.file, u64::from(offset.0), buffer).map_err(Into::into)
    }

    /// Turns a dead segment into a spare, if this is its last handle; gives the handle
    /// back otherwise.
    ///
    /// Pages that a socket was given may stand in its queue, or in that of a peer on this
    /// machine, for as long as the peer likes: it may have said 250 before it read them, the
    /// connection may be closed, and the process that had it may be gone. The next use of the
    /// file must not show there. So it gives them up first.
    ///
    /// # Errors
    /// `Err` with the handle: remove it instead.
    pub fn retire(self: Arc<Self>, directory: &Directory) -> Result<(), (Arc<Self>, FileError)> {
        let segment = self.alone(directory)?;
        let id = segment.place.segment;
        let retired = if segment.is_lent.load(Ordering::Relaxed) {
            directory.renew(id)
        } else {
            directory.retire(id)
        };
        retired.map_err(|error| (Arc::new(segment), error))
    }

    /// The last handle of it, or the handle back.
    fn alone(self: Arc<Self>, directory: &Directory) -> Result<Self, (Arc<Self>, FileError)> {
        Arc::try_unwrap(self).map_err(|shared| {
            let why = "somebody still reads it";
            let path = directory.path_of(shared.place.segment, FileKind::Segment);
            (shared, FileError::malformed("retiring", path, why))
        })
    }
}

/// The segments that a data core has open: where it reads from.
#[derive(Debug, Default)]
pub struct OpenSegments {
    segments: HashMap<SegmentPlace, Arc<Segment>>,
}

impl OpenSegments {
    /// One more.
    pub fn insert(&mut self, segment: Arc<Segment>) {
        self.segments.insert(segment.place(), segment);
    }

    /// It is dead: no new reader finds it.
    pub fn remove(&mut self, segment: SegmentPlace) -> Option<Arc<Segment>> {
        self.segments.remove(&segment)
    }

    /// For a write, a transmission, or to be warmed.
    #[must_use]
    pub fn get(&self, segment: SegmentPlace) -> Option<&Arc<Segment>> {
        self.segments.get(&segment)
    }
}

impl SegmentSource for OpenSegments {
    fn fetch(&self, segment: SegmentPlace, octets: Range<u32>) -> Result<(), Unreadable> {
        self.get(segment).map_or(Ok(()), |open| open.fetch(octets))
    }

    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        let segment = self.segments.get(&segment)?;
        Some(View {
            bytes: segment.contents(),
            epoch: segment.epoch(),
        })
    }
}

/// What kind of trouble a file operation met, for the code that decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileFault {
    /// Another process has the directory.
    InUse,
    /// No room on the disk, or a quota is used up.
    NoSpace,
    /// It is not there.
    Missing,
    /// It is there, and is not what it should be.
    Malformed,
    /// The system refused or the device failed.
    System,
    /// Names were changed, and the device did not say that it has stored that. No later sync
    /// of the directory says so either, however it ends.
    NotStored,
}

/// What went wrong with a file of the spool.
#[derive(Debug)]
pub struct FileError {
    /// For the code that decides.
    pub fault: FileFault,
    /// What was being done: "allocating", "opening".
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// The system's error number, where there was one.
    #[must_use]
    pub fn os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    fn new(doing: &'static str, path: PathBuf, errno: Errno) -> Self {
        let fault = match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FileFault::NoSpace,
            Errno::NOENT => FileFault::Missing,
            _ => FileFault::System,
        };
        Self {
            fault,
            doing,
            path,
            source: errno.into(),
        }
    }

    fn malformed(doing: &'static str, path: PathBuf, why: &str) -> Self {
        Self {
            fault: FileFault::Malformed,
            doing,
            path,
            source: io::Error::new(io::ErrorKind::InvalidData, why),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = match self.fault {
            FileFault::InUse => "another turnspool has this spool open; stop it first",
            FileFault::NoSpace => "new mail is refused with 452 until there is room",
            FileFault::Missing | FileFault::Malformed => "the rest of the spool is used",
            FileFault::System | FileFault::NotStored => "see the system's log for the device",
        };
        write!(
            f,
            "spool: {} {}: {}; {next}",
            self.doing,
            self.path.display(),
            self.source
        )
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// `pwritev2` until all is written.
fn write_all(
    file: &OwnedFd,
    mut offset: u64,
    mut bytes: &[u8],
    flags: ReadWriteFlags,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwritev2(file, &[io::IoSlice::new(bytes)], offset, flags) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `pread` until the buffer is full or the file ends.
fn read_full(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
