//! Where something is in the spool.

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

/// For the operator: `log 0 segment 17 offset 4096`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log {} segment {} offset {}",
            self.log.0, self.segment.0, self.offset.0
        )
    }
}
