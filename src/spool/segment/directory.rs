//! The directory of a log: the lock, making, reusing and removing segments.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use spool_format::{
    Epoch, LogId, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentPlace,
    Summary,
};

use super::name::{FileKind, file_name, parse_name};
use super::{FileError, FileFault, Segment, read_full, write_all};

/// A zero-filled segment is written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// What a disk that has bad places is read by.
const PAGE_BYTES: usize = 4096;

/// How a fresh segment gets its disk space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// `fallocate`: the extents are marked as unwritten until they are written.
    Allocated,
    /// `fallocate`, then zeros: twice the octets on the disk, cheaper syncs later.
    Zeroed,
}

/// What is in the directory of a log, each in the order of their numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Segments.
    pub segments: Vec<SegmentId>,
    /// Segments with a summary.
    pub summaries: Vec<SegmentId>,
    /// Dead segments that may be reused.
    pub spares: Vec<SegmentId>,
    /// Set aside earlier.
    pub damaged: Vec<SegmentId>,
    /// Left half-made by a crash: for [`Directory::clean`].
    pub unfinished: Vec<(SegmentId, FileKind)>,
    /// Names that are not ours. Left alone, told to the operator.
    pub foreign: Vec<String>,
}

/// The directory of one log, locked. Can be shared with the core that prepares
/// segments.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    log: LogId,
    /// The directory itself; it holds the lock.
    pub(super) handle: OwnedFd,
}

impl Directory {
    /// Opens and locks the directory of a log; makes it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`FileFault::InUse`] if another process has it.
    pub fn open(path: &Path, log: LogId) -> Result<Self, FileError> {
        let error = |doing, errno| FileError::new(doing, path.to_owned(), errno);
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(error("making", errno)),
        }
        // The directory is durable when its entry in the parent is: also where it was made
        // by a process that was killed before it came to this.
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(|e| error("opening the parent of", e))?;
        rustix::fs::fsync(&handle).map_err(|e| error("syncing the parent of", e))?;
        let handle =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| error("opening", e))?;
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let mut error = error("locking", errno);
            if errno == Errno::WOULDBLOCK {
                error.fault = FileFault::InUse;
            }
            error
        })?;
        Ok(Self {
            path: path.to_owned(),
            log,
            handle,
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    #[must_use]
    pub fn path_of(&self, segment: SegmentId, kind: FileKind) -> PathBuf {
        self.path.join(file_name(segment, kind))
    }

    /// What is in it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Listing, FileError> {
        let error = |errno| FileError::new("listing", self.path.clone(), errno);
        let mut listing = Listing::default();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name().to_string_lossy();
            match parse_name(&name) {
                Some((segment, FileKind::Segment)) => listing.segments.push(segment),
                Some((segment, FileKind::Summary)) => listing.summaries.push(segment),
                Some((segment, FileKind::Spare)) => listing.spares.push(segment),
                Some((segment, FileKind::Damaged)) => listing.damaged.push(segment),
                Some((segment, kind)) => listing.unfinished.push((segment, kind)),
                None if name == "." || name == ".." => {}
                None => listing.foreign.push(name.into_owned()),
            }
        }
        listing.segments.sort_unstable();
        listing.summaries.sort_unstable();
        listing.spares.sort_unstable();
        listing.damaged.sort_unstable();
        listing.unfinished.sort_unstable();
        listing.foreign.sort_unstable();
        Ok(listing)
    }

    /// Removes what a crash left half-made, and summaries without a segment; what was to
    /// become a spare becomes one, since on a full disk there is no other file instead.
    ///
    /// # Errors
    /// The first removal that failed, or a new name that was not stored.
    pub fn clean(&self, listing: &mut Listing) -> Result<(), FileError> {
        for (segment, kind) in std::mem::take(&mut listing.unfinished) {
            if kind == FileKind::Renewing {
                match self.finish_renewal(segment) {
                    Ok(()) => {
                        listing.spares.push(segment);
                        continue;
                    }
                    Err(error) if error.fault == FileFault::NotStored => return Err(error),
                    // A file system that cannot, or another size.
                    Err(_) => {}
                }
            }
            self.unlink(segment, kind)?;
        }
        listing.spares.sort_unstable();
        for &segment in &listing.summaries {
            if listing.segments.binary_search(&segment).is_err() {
                self.unlink(segment, FileKind::Summary)?;
            }
        }
        Ok(())
    }

    /// Makes the fresh segment that `header` describes. When this returns, file and
    /// name are on stable storage.
    ///
    /// # Errors
    /// [`FileFault::NoSpace`] if the disk has not enough; nothing is left behind then.
    pub fn prepare(&self, header: &SegmentHeader, fill: Fill) -> Result<Segment, FileError> {
        let made = self.make(header, fill);
        if made.is_err() {
            // The first error is the one to tell; what stays is removed at the next
            // start.
            let _ = self.unlink(header.place.segment, FileKind::New);
        }
        made
    }

    fn make(&self, header: &SegmentHeader, fill: Fill) -> Result<Segment, FileError> {
        let segment = header.place.segment;
        let bytes = u64::from(header.segment_bytes);
        let error =
            |doing, errno| FileError::new(doing, self.path_of(segment, FileKind::New), errno);
        let name = file_name(segment, FileKind::New);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| error("making", e))?;
        let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes);
        let zeros = match allocated {
            Ok(()) => fill == Fill::Zeroed,
            // A file system that cannot allocate can still be written full.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => true,
            Err(errno) => return Err(error("allocating", errno)),
        };
        if zeros {
            let block = vec![0; FILL_BYTES];
            let mut at = 0;
            while at < bytes {
                let left = usize::try_from(bytes - at).unwrap_or(FILL_BYTES);
                let piece = &block[..left.min(FILL_BYTES)];
                write_all(&file, at, piece, ReadWriteFlags::empty())
                    .map_err(|e| error("filling", e))?;
                at += piece.len() as u64;
            }
        }
        write_all(&file, 0, &header.encode()[..], ReadWriteFlags::empty())
            .map_err(|e| error("writing", e))?;
        rustix::fs::fsync(&file).map_err(|e| error("syncing", e))?;
        if zeros {
            // Large folios that the filling left in the cache would turn a write of
            // 4 KiB into one of 1 MiB. Advice only, so a refusal changes nothing.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
        self.rename(segment, FileKind::New, segment, FileKind::Segment)?;
        self.sync()?;
        self.map(header.place, file, FIRST_FRONTIER, header.epoch, false)
    }

    /// Makes the segment that `header` describes from a dead one of the same size. The
    /// old octets stay behind the new header; the epoch in it makes them stale.
    ///
    /// The new header is on stable storage before the file gets its new name, so that
    /// a file called `.segment` always has its own header.
    ///
    /// # Errors
    /// The spare is not usable: [`Directory::remove_spare`] it, and prepare a fresh one.
    pub fn reuse(&self, spare: SegmentId, mut header: SegmentHeader) -> Result<Segment, FileError> {
        let segment = header.place.segment;
        let path = || self.path_of(spare, FileKind::Spare);
        let error = |doing, errno| FileError::new(doing, path(), errno);
        let file = self.open_file(spare, FileKind::Spare, OFlags::RDWR)?;
        let size = rustix::fs::fstat(&file).map_err(|e| error("asking for the size of", e))?;
        if size.st_size != i64::from(header.segment_bytes) {
            let why = "it has another size than segments have now";
            return Err(FileError::malformed("reusing", path(), why));
        }
        let mut old = [0; SEGMENT_HEADER_BYTES];
        let read = read_full(&file, 0, &mut old).map_err(|e| error("reading", e))?;
        match SegmentHeader::decode(&old[..read], self.place(spare)) {
            Ok(old) => header.previous_epoch = old.epoch,
            // It was renewed: no octets of a use before are in it.
            Err(_) if old.iter().all(|&octet| octet == 0) => {}
            Err(fault) => {
                let why = fault.to_string();
                return Err(FileError::malformed("reusing", path(), &why));
            }
        }
        write_all(&file, 0, &header.encode()[..], ReadWriteFlags::empty())
            .map_err(|e| error("writing", e))?;
        rustix::fs::fdatasync(&file).map_err(|e| error("syncing", e))?;
        self.rename(spare, FileKind::Spare, segment, FileKind::Segment)?;
        self.sync()?;
        self.map(header.place, file, FIRST_FRONTIER, header.epoch, false)
    }

    /// Makes a spare of a dead segment.
    ///
    /// # Errors
    /// Remove it instead.
    pub(super) fn retire(&self, segment: SegmentId) -> Result<(), FileError> {
        self.unlink(segment, FileKind::Summary)?;
        self.rename(segment, FileKind::Segment, segment, FileKind::Spare)?;
        self.sync()
    }

    /// Makes a spare of a dead segment, of which pages may wait in the queue of a socket: they
    /// are what the peer gets, also when the file has other octets. Its range is zeroed by the
    /// file system, which takes the pages from the file and leaves them to whoever has them.
    /// (Measured on ext4 and xfs: a socket whose process was killed sends the old octets
    /// then, and without it those of the next use.)
    ///
    /// The file keeps its room, and nobody else gets it where a disk is full, or where root
    /// alone may use what is free. (Ext4 marks it as unwritten in its place; xfs frees it and
    /// takes as much again, so that on a full disk somebody may come between.)
    ///
    /// # Errors
    /// It is not usable: remove it.
    pub(super) fn renew(&self, segment: SegmentId) -> Result<(), FileError> {
        self.unlink(segment, FileKind::Summary)?;
        self.rename(segment, FileKind::Segment, segment, FileKind::Renewing)?;
        self.sync()?;
        self.finish_renewal(segment)
    }

    /// Goes on where a crash may have ended it.
    fn finish_renewal(&self, segment: SegmentId) -> Result<(), FileError> {
        let path = || self.path_of(segment, FileKind::Renewing);
        let error = |doing, errno| FileError::new(doing, path(), errno);
        let file = self.open_file(segment, FileKind::Renewing, OFlags::RDWR)?;
        let size = rustix::fs::fstat(&file).map_err(|e| error("asking for the size of", e))?;
        let bytes = u64::try_from(size.st_size).unwrap_or(0);
        // All of it, with the header: of a page that is cut the part within is zeroed where
        // it is, under the eyes of the peer.
        if !bytes.is_multiple_of(rustix::param::page_size() as u64) {
            let why = "its size is not one of whole pages of memory";
            return Err(FileError::malformed("renewing", path(), why));
        }
        rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 0, bytes)
            .map_err(|e| error("zeroing", e))?;
        rustix::fs::fdatasync(&file).map_err(|e| error("syncing", e))?;
        self.rename(segment, FileKind::Renewing, segment, FileKind::Spare)?;
        self.sync()
    }

    /// Opens a segment that was written earlier. All of it may be read, none written.
    ///
    /// # Errors
    /// It is missing, empty, too large, cannot be mapped, or nothing tells its epoch.
    pub fn open_segment(&self, segment: SegmentId) -> Result<Segment, FileError> {
        let file = self.open_file(segment, FileKind::Segment, OFlags::RDONLY)?;
        let place = self.place(segment);
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let read = read_full(&file, 0, &mut header).map_err(|errno| {
            FileError::new("reading", self.path_of(segment, FileKind::Segment), errno)
        })?;
        let epoch = match SegmentHeader::decode(&header[..read], place) {
            Ok(header) => header.epoch,
            // The summary has a copy of the header.
            Err(fault) => {
                let summary = self.read_summary(segment)?;
                let summary = summary.as_deref().map(Summary::decode);
                match summary {
                    Some(Ok(summary)) if summary.header.place == place => summary.header.epoch,
                    _ => {
                        let path = self.path_of(segment, FileKind::Segment);
                        return Err(FileError::malformed("opening", path, &fault.to_string()));
                    }
                }
            }
        };
        // What an earlier process gave to sockets, nobody has noted.
        self.map(place, file, u32::MAX, epoch, true)
    }

    fn map(
        &self,
        place: SegmentPlace,
        file: OwnedFd,
        frontier: u32,
        epoch: Epoch,
        is_lent: bool,
    ) -> Result<Segment, FileError> {
        assert_eq!(
            place.log, self.log,
            "a segment is in the directory of its log"
        );
        let path = self.path_of(place.segment, FileKind::Segment);
        Segment::map(place, file, frontier, epoch, is_lent, path)
    }

    fn place(&self, segment: SegmentId) -> SegmentPlace {
        SegmentPlace {
            log: self.log,
            segment,
        }
    }

    /// Reads up to `wanted` octets of a segment from its beginning into `buffer`, without
    /// a map: where the disk cannot read, the rest is zeros, and the error is told.
    ///
    /// # Errors
    /// `buffer` holds what could be read, and zeros for the rest.
    pub fn read_segment(
        &self,
        segment: SegmentId,
        wanted: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FileError> {
        buffer.clear();
        let path = || self.path_of(segment, FileKind::Segment);
        let error = |errno| FileError::new("reading", path(), errno);
        let file = self.open_file(segment, FileKind::Segment, OFlags::RDONLY)?;
        let size = rustix::fs::fstat(&file).map_err(error)?.st_size;
        let size = usize::try_from(size).unwrap_or(0).min(wanted);
        if size > SEGMENT_BYTES_MAX as usize {
            let why = "it is larger than a segment can be";
            return Err(FileError::malformed("reading", path(), why));
        }
        if size > buffer.capacity() {
            // Zeros that nobody has touched cost nothing.
            *buffer = vec![0; size];
        } else {
            buffer.resize(size, 0);
        }
        let mut result = Ok(());
        for piece in data_of(&file, size) {
            for begin in piece.clone().step_by(FILL_BYTES) {
                let end = piece.end.min(begin + FILL_BYTES);
                let octets = &mut buffer[begin..end];
                if let Err(errno) = read_full(&file, begin as u64, octets) {
                    // Smaller pieces: what is beside the bad page can still be read.
                    for (page, octets) in octets.chunks_mut(PAGE_BYTES).enumerate() {
                        let at = begin + page * PAGE_BYTES;
                        if read_full(&file, at as u64, octets).is_err() {
                            octets.fill(0);
                        }
                    }
                    result = Err(error(errno));
                }
            }
        }
        result
    }

    /// Makes what a segment shows durable, and lets memory forget it, so that what is read
    /// next is what the disk has. Whoever goes on from what was read must not lose it to the
    /// next power cut; and two things in the page cache were never stored:
    ///
    /// - what a process wrote that was killed: this stores it;
    /// - what a sync could not store. It stays there and looks like the rest, and no later
    ///   sync says otherwise: the error was told once, to whoever asked then.
    ///
    /// # Errors
    /// The device failed.
    pub fn settle_segment(&self, segment: SegmentId) -> Result<(), FileError> {
        let file = self.open_file(segment, FileKind::Segment, OFlags::RDONLY)?;
        let synced = rustix::fs::fdatasync(&file).map_err(|errno| {
            let path = self.path_of(segment, FileKind::Segment);
            FileError::new("syncing", path, errno)
        });
        // Nobody maps it yet. A file system that is memory keeps it, and has no disk.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        synced
    }

    /// Deletes a dead segment, its summary first, also one that was to be renewed. When this
    /// returns, a crash does not bring it back.
    ///
    /// # Errors
    /// It may be there still, or come back after a crash.
    pub fn remove(&self, segment: SegmentId) -> Result<(), FileError> {
        self.unlink(segment, FileKind::Summary)?;
        self.unlink(segment, FileKind::Segment)?;
        self.unlink(segment, FileKind::Renewing)?;
        self.sync()
    }

    /// Deletes a spare.
    ///
    /// # Errors
    /// It may be there still.
    pub fn remove_spare(&self, spare: SegmentId) -> Result<(), FileError> {
        self.unlink(spare, FileKind::Spare)
    }

    /// Puts a segment aside for the operator: it is no part of the log any more, and
    /// nobody deletes it.
    ///
    /// # Errors
    /// It stays where it was.
    pub fn set_aside(&self, segment: SegmentId) -> Result<(), FileError> {
        self.unlink(segment, FileKind::Summary)?;
        self.rename(segment, FileKind::Segment, segment, FileKind::Damaged)?;
        self.sync()
    }

    /// Octets that this process may still use on the file system.
    ///
    /// # Errors
    /// The system does not say.
    pub fn free_bytes(&self) -> Result<u64, FileError> {
        let facts = rustix::fs::fstatvfs(&self.handle)
            .map_err(|e| FileError::new("asking for the free space of", self.path.clone(), e))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    pub(super) fn sync(&self) -> Result<(), FileError> {
        rustix::fs::fsync(&self.handle).map_err(|errno| FileError {
            fault: FileFault::NotStored,
            ..FileError::new("syncing", self.path.clone(), errno)
        })
    }

    pub(super) fn open_file(
        &self,
        segment: SegmentId,
        kind: FileKind,
        flags: OFlags,
    ) -> Result<OwnedFd, FileError> {
        let name = file_name(segment, kind);
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.handle, &name, flags, Mode::empty())
            .map_err(|e| FileError::new("opening", self.path.join(&name), e))
    }

    pub(super) fn rename(
        &self,
        from: SegmentId,
        from_kind: FileKind,
        to: SegmentId,
        to_kind: FileKind,
    ) -> Result<(), FileError> {
        let (old, new) = (file_name(from, from_kind), file_name(to, to_kind));
        rustix::fs::renameat(&self.handle, &old, &self.handle, &new)
            .map_err(|e| FileError::new("renaming", self.path.join(&old), e))
    }

    /// Not being there is no error.
    pub(super) fn unlink(&self, segment: SegmentId, kind: FileKind) -> Result<(), FileError> {
        let name = file_name(segment, kind);
        match rustix::fs::unlinkat(&self.handle, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FileError::new("removing", self.path.join(&name), errno)),
        }
    }
}

/// Of a new segment only the header may be read.
const FIRST_FRONTIER: u32 = SEGMENT_HEADER_BYTES as u32;

/// Where a file has octets, in its first `size`: the rest was allocated and never written,
/// and reads as zeros. A file system that does not tell has them everywhere.
fn data_of(file: &OwnedFd, size: usize) -> Vec<Range<usize>> {
    use rustix::fs::{SeekFrom, seek};
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match seek(file, SeekFrom::Data(at as u64)) {
            Ok(begin) => usize::try_from(begin).unwrap_or(size),
            // None from here on.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        if begin >= size {
            break;
        }
        let end = seek(file, SeekFrom::Hole(begin as u64))
            .ok()
            .and_then(|end| usize::try_from(end).ok())
            .filter(|end| *end > begin)
            .map_or(size, |end| end.min(size));
        found.push(begin..end);
        at = end;
    }
    found
}
