//! The directories and files of a spool, for reading only.
//!
//! Beside a running server a segment may be let go of at any time: it loses its name, and is
//! zeroed, used again or removed behind that. So what was read of a file counts only if it
//! has its name still when all is read. What was needed of it was carried to a newer one
//! before; what that asks of a reader of all is in [`super::pass`].
//!
//! And a segment grows while it is read: what is read first may lack what was written before
//! that which is read last. That looks like damage, and another look does not show it again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::fs::FlockOperation;
use spool_format::{
    HeaderFault, LogId, Recovery, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader,
    SegmentId, SegmentPlace, Severity, Summary,
};

use crate::cli::{Exit, Failure, Global, shown};
use crate::spool::segment::{FileKind, file_name, parse_name};

/// A summary larger than this is not ours: it holds some hundred octets a message
/// of a segment.
const SUMMARY_BYTES_MAX: u64 = SEGMENT_BYTES_MAX as u64;

/// How often a segment beside a server is read until it does not look damaged, or looks
/// damaged in the same way so many times in a row.
const LOOKS_MAX: u32 = 8;
const LOOKS_ALIKE: u32 = 3;
/// Between two such looks: some of the server's writes wait for the disk.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Which spool.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The directory of the spool, or of one of its logs; without it, that of the
    /// configuration
    pub(super) directory: Option<PathBuf>,
}

/// The directory of one log.
#[derive(Debug)]
pub(in crate::cli) struct Log {
    /// Its directory.
    pub(super) path: PathBuf,
    /// As its headers say, else as the directory is called.
    pub(super) id: LogId,
    /// Segments, ascending.
    pub(super) segments: Vec<SegmentId>,
    /// Dead segments that may be used again.
    pub(super) spares: u64,
    /// Files that were set aside for the operator.
    pub(super) set_aside: Vec<String>,
    /// A server has locked it.
    pub(super) in_use: bool,
}

/// What recovery is told of a segment.
#[derive(Debug)]
pub(super) struct Told {
    /// All of it, or its header where the summary will do.
    pub(super) octets: Vec<u8>,
    /// Good or not.
    pub(super) summary: Option<Vec<u8>>,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!(
            "{doing} {}: {error}\n    name the directory of a spool, and read it as the user of \
             the server or as root",
            shown(path)
        ),
    )
}

fn listed(path: &Path) -> Result<Vec<fs::DirEntry>, Failure> {
    fs::read_dir(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed("reading the directory", path, &error))
}

impl Place {
    /// The logs of the spool, ascending. Never empty.
    pub(super) fn logs(&self, global: &Global) -> Result<Vec<Log>, Failure> {
        let directory = match &self.directory {
            Some(directory) => directory.clone(),
            None => global.config()?.spool.directory,
        };
        let mut logs = Vec::new();
        let entries = listed(&directory)?;
        logs.extend(Log::among(&directory, &entries));
        for entry in &entries {
            let path = entry.path();
            if path.is_dir() {
                logs.extend(Log::among(&path, &listed(&path)?));
            }
        }
        logs.sort_by(|a, b| (a.id, &a.path).cmp(&(b.id, &b.path)));
        if logs.is_empty() {
            let text = format!(
                "{} holds no segments\n    name the directory of a spool; a server that never \
                 ran has none",
                shown(&directory)
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        if let Some(pair) = logs.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let text = format!(
                "{} and {} are the same log\n    name one of the two, or the directory of one \
                 spool",
                shown(&pair[0].path),
                shown(&pair[1].path)
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        Ok(logs)
    }
}

impl Log {
    /// A directory with segments in it.
    fn among(path: &Path, entries: &[fs::DirEntry]) -> Option<Self> {
        let mut log = Self {
            path: path.to_owned(),
            id: LogId(0),
            segments: Vec::new(),
            spares: 0,
            set_aside: Vec::new(),
            in_use: false,
        };
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            match parse_name(&name) {
                Some((segment, FileKind::Segment)) => log.segments.push(segment),
                Some((_, FileKind::Spare)) => log.spares += 1,
                Some((_, FileKind::Damaged)) => log.set_aside.push(name),
                _ => {}
            }
        }
        if log.segments.is_empty() {
            return None;
        }
        log.segments.sort_unstable();
        log.set_aside.sort_unstable();
        log.in_use = log.is_locked();
        log.id = log.id_from_headers().unwrap_or_else(|| log.id_from_name());
        Some(log)
    }

    /// Segments that a server has made since the last that is known, ascending.
    pub(super) fn newer(&self) -> Result<Vec<SegmentId>, Failure> {
        if !self.in_use {
            return Ok(Vec::new());
        }
        let last = self.segments.last().copied();
        let mut newer = Vec::new();
        for entry in listed(&self.path)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            match parse_name(&name) {
                Some((segment, FileKind::Segment)) if Some(segment) > last => newer.push(segment),
                _ => {}
            }
        }
        newer.sort_unstable();
        Ok(newer)
    }

    /// The first header that can be read and is that of its file says it.
    fn id_from_headers(&self) -> Option<LogId> {
        self.segments.iter().find_map(|segment| {
            let header = self.header_octets(*segment).ok()??;
            let expected = SegmentPlace {
                log: LogId(0),
                segment: *segment,
            };
            match SegmentHeader::decode(&header, expected) {
                Ok(header) => Some(header.place.log),
                Err(HeaderFault::OtherSegment { found }) if found.segment == *segment => {
                    Some(found.log)
                }
                Err(_) => None,
            }
        })
    }

    /// The number at the end of the directory's name.
    fn id_from_name(&self) -> LogId {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        LogId(name[letters..].parse().unwrap_or(0))
    }

    fn is_locked(&self) -> bool {
        let Ok(directory) = File::open(&self.path) else {
            return false;
        };
        let tried = rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared);
        // A lock that was got goes with the handle, at the end of this function.
        tried == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// A segment of this log.
    pub(in crate::cli) fn place(&self, segment: SegmentId) -> SegmentPlace {
        SegmentPlace {
            log: self.id,
            segment,
        }
    }

    fn file(&self, segment: SegmentId, kind: FileKind) -> PathBuf {
        self.path.join(file_name(segment, kind))
    }

    /// The octets of both copies of the header; fewer of a shorter file.
    fn header_octets(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, Failure> {
        self.read(segment, FileKind::Segment, SEGMENT_HEADER_BYTES as u64)
    }

    /// A whole segment file. It is read into memory: [`SEGMENT_BYTES_MAX`] at most. `None`:
    /// the server has let go of it.
    pub(in crate::cli) fn segment_octets(
        &self,
        segment: SegmentId,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut last = None;
        let mut same = 1;
        let mut look = 0;
        loop {
            look += 1;
            let octets = self.read(segment, FileKind::Segment, u64::from(SEGMENT_BYTES_MAX))?;
            let damage = match &octets {
                Some(octets) if self.in_use => self.damage(segment, octets),
                _ => None,
            };
            same = if damage == last { same + 1 } else { 1 };
            if damage.is_none() || same == LOOKS_ALIKE || look == LOOKS_MAX {
                return Ok(octets);
            }
            last = damage;
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// What is said of a segment that may be damaged.
    fn damage(&self, segment: SegmentId, octets: &[u8]) -> Option<String> {
        let mut alone = Recovery::new(None);
        alone.segment(self.place(segment), octets, None);
        let found = alone.finish().segments;
        let damaged = found
            .iter()
            .find(|facts| facts.verdict.severity >= Severity::Doubt);
        damaged.map(ToString::to_string)
    }

    /// The summary of a segment, if there is one.
    pub(super) fn summary_octets(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, Failure> {
        if self.file(segment, FileKind::Summary).exists() {
            self.read(segment, FileKind::Summary, SUMMARY_BYTES_MAX)
        } else {
            Ok(None)
        }
    }

    fn read(
        &self,
        segment: SegmentId,
        kind: FileKind,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.file(segment, kind);
        let read = || -> io::Result<_> {
            let file = File::open(&path)?;
            let mut octets = Vec::new();
            (&file).take(limit).read_to_end(&mut octets)?;
            // The same file, by the same name.
            let (was, is) = (file.metadata()?, fs::metadata(&path)?);
            let is_other = (was.dev(), was.ino()) != (is.dev(), is.ino());
            Ok((!(self.in_use && is_other)).then_some(octets))
        };
        match read() {
            Err(error) if self.in_use && error.kind() == ErrorKind::NotFound => Ok(None),
            result => result.map_err(|error| failed("reading", &path, &error)),
        }
    }

    /// What recovery needs of a segment: its summary with the header where that
    /// will do, else all of it. `None`: the server has let go of it.
    pub(super) fn for_recovery(&self, segment: SegmentId) -> Result<Option<Told>, Failure> {
        let summary = self.summary_octets(segment)?;
        let Some(header_octets) = self.header_octets(segment)? else {
            return Ok(None);
        };
        let header = SegmentHeader::decode(&header_octets, self.place(segment)).ok();
        let enough = (summary.as_deref())
            .and_then(|octets| Summary::decode(octets).ok())
            .is_some_and(|summary| Some(summary.header) == header);
        if enough {
            return Ok(Some(Told {
                octets: header_octets,
                summary,
            }));
        }
        let octets = self.segment_octets(segment)?;
        Ok(octets.map(|octets| Told { octets, summary }))
    }

    /// Octets of the segment files on the disk.
    pub(super) fn octets_on_disk(&self) -> u64 {
        let size = |segment: &SegmentId| {
            let path = self.file(*segment, FileKind::Segment);
            fs::metadata(path).map_or(0, |metadata| metadata.len())
        };
        self.segments.iter().map(size).sum()
    }

    /// A sentence for a log that a server is writing to.
    pub(super) fn note(&self) -> Option<String> {
        self.in_use.then(|| {
            format!(
                "a server is using {}: what it is writing now may look cut",
                shown(&self.path)
            )
        })
    }
}
