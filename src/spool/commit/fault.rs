//! Why a log is not written to.

use std::fmt;

/// Which step failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WriteStep {
    /// The positioned write, or less was written than was asked for.
    Write,
    /// The sync behind it.
    Sync,
    /// There was no segment to write to, for too long.
    Prepare,
}

/// Why a write failed. It closes the log to writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WriteFault {
    /// Which step.
    pub step: WriteStep,
    /// The system's error number, where there was one.
    pub os_error: Option<i32>,
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            WriteStep::Write => "write",
            WriteStep::Sync => "sync",
            WriteStep::Prepare => "preparing the next segment",
        };
        match self.os_error {
            Some(number) => write!(f, "{step}: {}", std::io::Error::from_raw_os_error(number)),
            None => write!(f, "{step}: incomplete"),
        }
    }
}

/// Why a record was not appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// A write failed earlier. Reads go on; accept no mail for this log.
    #[error("the spool log is closed to writes since a write failed ({0})")]
    Closed(WriteFault),
    /// The record is larger than a segment or than the format allows.
    #[error("a record of {record_bytes} octets does not fit in a segment")]
    TooLarge {
        /// Its size.
        record_bytes: usize,
    },
}
