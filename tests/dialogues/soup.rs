//! Commands at random.
