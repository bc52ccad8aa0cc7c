//! The spool: the octets on disk. What is to be done with them is the queue's affair.
//!
//! Reading order: [`commit`] (when is a message ours), [`segment`] (files and the map).
//! Nothing here knows SMTP.

pub mod commit;
pub mod segment;
#[cfg(test)]
mod simulation;
