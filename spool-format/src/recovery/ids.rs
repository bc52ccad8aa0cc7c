//! Which entry of a shard a queue id has.
//!
//! Relies on: queue ids are given out one after the other, so they stand in rows, and a
//! table of rows fits the caches where one of a million ids does not.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Queue ids are given out by us, in sequence: nobody can choose them to collide,
/// so that two multiplications do for a hash.
#[derive(Default)]
struct QueueIdHasher(u64);

impl Hasher for QueueIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u64(self.0 << 8 | u64::from(octet));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let x = (value ^ (value >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = x ^ (x >> 29);
    }
}

/// Queue ids in a row that are looked up at once.
const ROW_IDS: usize = 16;

/// No entry. There are fewer than octets of spool in a log, which are fewer than 2³².
pub(super) const NO_ENTRY: u32 = u32::MAX;

/// Which entry a queue id has. Ids were given out one after the other, so they stand in
/// rows: the table of rows is small enough for the caches where one of ids was not. A queue
/// of which nearly all has gone long ago costs a row for each id.
#[derive(Debug, Default)]
pub(super) struct Ids {
    row_of: HashMap<u64, u32, BuildHasherDefault<QueueIdHasher>>,
    rows: Vec<[u32; ROW_IDS]>,
}

impl Ids {
    const fn place(queue_id: u64) -> (u64, usize) {
        let ids = ROW_IDS as u64;
        (queue_id / ids, (queue_id % ids) as usize)
    }

    pub(super) fn get(&self, queue_id: u64) -> Option<u32> {
        let (row, seat) = Self::place(queue_id);
        let row = *self.row_of.get(&row)?;
        Some(self.rows[row as usize][seat]).filter(|entry| *entry != NO_ENTRY)
    }

    /// Where the entry of this id is to be noted; [`NO_ENTRY`] if it has none.
    pub(super) fn seat(&mut self, queue_id: u64) -> &mut u32 {
        let (row, seat) = Self::place(queue_id);
        let rows = &mut self.rows;
        let row = *self.row_of.entry(row).or_insert_with(|| {
            rows.push([NO_ENTRY; ROW_IDS]);
            u32::try_from(rows.len() - 1).expect("fewer rows than entries")
        });
        &mut rows[row as usize][seat]
    }
}
