//! The summaries beside the segments of a log.

use rustix::fs::{Mode, OFlags};
use rustix::io::ReadWriteFlags;
use spool_format::SegmentId;

use super::{Directory, FileError, FileFault, FileKind, file_name, write_all};

/// A summary larger than this is not ours: a segment of 64 MiB that holds nothing but
/// the smallest messages has one of a few MiB.
const SUMMARY_BYTES_MAX: u64 = 256 << 20;

impl Directory {
    /// The summary of a segment; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read_summary(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, FileError> {
        let path = || self.path_of(segment, FileKind::Summary);
        let error = |errno| FileError::new("reading", path(), errno);
        let file = match self.open_file(segment, FileKind::Summary, OFlags::RDONLY) {
            Ok(file) => file,
            Err(e) if e.fault == FileFault::Missing => return Ok(None),
            Err(e) => return Err(e),
        };
        let size = u64::try_from(rustix::fs::fstat(&file).map_err(error)?.st_size).unwrap_or(0);
        if size > SUMMARY_BYTES_MAX {
            let why = "it is larger than a summary can be";
            return Err(FileError::malformed("reading", path(), why));
        }
        let size = usize::try_from(size).unwrap_or(0);
        let mut bytes = Vec::with_capacity(size);
        // It may be shorter, when somebody truncates it just now.
        while bytes.len() < size {
            let at = bytes.len() as u64;
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), at)
            });
            if read.map_err(error)? == 0 {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// Writes the summary of a closed segment. Its loss in a crash costs a scan.
    ///
    /// # Errors
    /// There is no summary then.
    pub fn write_summary(&self, segment: SegmentId, bytes: &[u8]) -> Result<(), FileError> {
        let error = |doing, errno| {
            FileError::new(doing, self.path_of(segment, FileKind::SummaryNew), errno)
        };
        let name = file_name(segment, FileKind::SummaryNew);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| error("making", e))?;
        write_all(&file, 0, bytes, ReadWriteFlags::empty()).map_err(|e| error("writing", e))?;
        rustix::fs::fdatasync(&file).map_err(|e| error("syncing", e))?;
        self.rename(segment, FileKind::SummaryNew, segment, FileKind::Summary)
    }

    /// Deletes the summary of a segment: the next start scans it.
    ///
    /// # Errors
    /// It may be there still.
    pub fn remove_summary(&self, segment: SegmentId) -> Result<(), FileError> {
        self.unlink(segment, FileKind::Summary)
    }
}
