//! The spool: the octets on disk. What is to be done with them is the queue's affair.
//!
//! In reading order:
//!
//! - [`message`]: what a message is as records, and how it is read back;
//! - [`commit`]: when a message is ours: the group commit;
//! - [`log`]: what a data core writes to; joins the others;
//! - [`reclaim`]: which segment may go, and which is emptied;
//! - [`segment`]: files, and the only memory map;
//! - [`recovery`]: the start.
//!
//! All but [`segment`] and the reading of directories in [`recovery`] are machines,
//! without I/O, clock and randomness. Nothing here knows SMTP. The format itself is a
//! crate of its own, `spool-format`.

pub mod commit;
pub mod log;
pub mod message;
pub mod reclaim;
pub mod recovery;
pub mod segment;
#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
mod tests;
