//! The on-disk format of the spool log. No I/O.

mod place;

pub use place::{Location, LogId, Offset, SegmentId};
