//! Where something is in the spool, and when it was written there.

use std::fmt;

/// A log: one directory of segments, written by one data core. Logs are numbered
/// from 0; after a start with fewer data cores a core reads several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogId(pub u8);

/// A segment file of a log. Numbers grow and are never used twice in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u32);

/// Octets from the beginning of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub u32);

/// One use of a segment file. Drawn at random (never 0) each time a file is
/// made or reused, and part of every record's mark and checksum, so that what an
/// earlier use left behind is never taken for a record of this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

/// When a record was written: milliseconds since 1970, but always greater than any
/// stamp that the writer wrote or read before.
///
/// The order of two records about the same message is the order of their
/// stamps. A wall clock alone may be set back; and a location says nothing across two
/// logs, nor of a record that was carried forward, which stands behind newer ones. So
/// the stamps of a busy log run ahead of the clock, which concerns nobody: they are an
/// order, and no times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Earlier than every stamp that is written.
    pub const START: Self = Self(i64::MIN);

    /// The stamp for a record that is written now, `self` being the last one.
    #[must_use]
    pub fn next(self, wall_ms: i64) -> Self {
        Self(self.0.saturating_add(1).max(wall_ms))
    }
}

/// The beginning of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// Which directory.
    pub log: LogId,
    /// Which file in it.
    pub segment: SegmentId,
    /// Where in the file.
    pub offset: Offset,
}

impl Location {
    /// The file.
    #[must_use]
    pub const fn segment_place(self) -> SegmentPlace {
        SegmentPlace {
            log: self.log,
            segment: self.segment,
        }
    }
}

/// For the operator: `log 0 segment 17 offset 4096`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.segment_place(), self.offset.0)
    }
}

/// A segment file among all logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentPlace {
    /// Which directory.
    pub log: LogId,
    /// Which file in it.
    pub segment: SegmentId,
}

impl SegmentPlace {
    /// A record in this file.
    #[must_use]
    pub const fn at(self, offset: Offset) -> Location {
        Location {
            log: self.log,
            segment: self.segment,
            offset,
        }
    }
}

/// For the operator: `log 0 segment 17`.
impl fmt::Display for SegmentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {} segment {}", self.log.0, self.segment.0)
    }
}

/// A record in a log that is known from the context. All records of one
/// generation of a message are in one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Which file.
    pub segment: SegmentId,
    /// Where the record begins.
    pub offset: Offset,
}

impl Place {
    /// The same place with its log.
    #[must_use]
    pub const fn in_log(self, log: LogId) -> Location {
        Location {
            log,
            segment: self.segment,
            offset: self.offset,
        }
    }
}
