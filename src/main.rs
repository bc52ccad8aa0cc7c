//! Turnspool.

fn main() {}
