//! What is to be done with the mail in the spool.

pub mod notification;
