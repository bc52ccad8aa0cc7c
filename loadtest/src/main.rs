//! Load generator, sink and link simulator.

fn main() {}
