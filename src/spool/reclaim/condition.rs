//! In what condition a segment was found, and what becomes of a dead one.

/// What is to become of a dead segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nobody reads it: it may become a later segment.
    Reuse,
    /// It is one more than are kept: the file goes.
    Remove,
    /// It has damaged octets: the operator may want to look at them.
    SetAside,
}

/// What a segment was like when it was read at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// As it was written, or cut off by a crash.
    Sound,
    /// A message in it lies partly in a damaged segment: it is not emptied until that
    /// message is finished.
    Stuck,
    /// The disk lost something of it, or there are records that are not understood. It is
    /// not emptied, and is set aside in the end.
    Damaged,
}
