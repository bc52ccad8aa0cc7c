//! What state that several cores share is made of: the one place from which it is taken,
//! so that `tests/loom` can put loom's in its place and run the same sources in every
//! order that the memory model allows.

pub use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

pub use crossbeam::queue::ArrayQueue;
