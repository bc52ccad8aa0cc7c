//! The machines joined together.

pub mod admin;
