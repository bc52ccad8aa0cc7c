//! For tests: a disk that loses what was not synced, and numbers from a seed.

use std::collections::{BTreeMap, BTreeSet};

use spool_format::{Offset, SegmentId};

use super::commit::Durability;

/// What a disk writes or loses as a whole.
const SECTOR_BYTES: usize = 512;

/// xorshift64*: enough for tests, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In `0 .. bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A segment file: what the page cache shows and what the disk has.
#[derive(Clone)]
struct File {
    cached: Vec<u8>,
    stable: Vec<u8>,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// A directory of segments on a disk that can be unplugged.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    files: BTreeMap<SegmentId, File>,
}

impl Disk {
    /// A prepared segment: its size and header are on stable storage. `stale` is what
    /// stands behind the header: zeros, or what an earlier use left.
    pub(crate) fn create(&mut self, segment: SegmentId, bytes: usize, header: &[u8], stale: &[u8]) {
        let mut stable = vec![0; bytes];
        stable[..stale.len().min(bytes)].copy_from_slice(&stale[..stale.len().min(bytes)]);
        stable[..header.len()].copy_from_slice(header);
        let file = File {
            cached: stable.clone(),
            stable,
            dirty: BTreeSet::new(),
        };
        assert!(self.files.insert(segment, file).is_none(), "made twice");
    }

    /// The file is gone; gives what was in it.
    pub(crate) fn remove(&mut self, segment: SegmentId) -> Vec<u8> {
        self.files.remove(&segment).expect("removed once").cached
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.files.keys().copied()
    }

    pub(crate) fn bytes(&self, segment: SegmentId) -> Option<&[u8]> {
        self.files.get(&segment).map(|f| &f.cached[..])
    }

    pub(crate) fn write(&mut self, segment: SegmentId, offset: Offset, bytes: &[u8]) {
        let file = self
            .files
            .get_mut(&segment)
            .expect("written while it is there");
        let from = offset.0 as usize;
        file.cached[from..from + bytes.len()].copy_from_slice(bytes);
        if !bytes.is_empty() {
            let last = (from + bytes.len() - 1) / SECTOR_BYTES;
            file.dirty.extend(from / SECTOR_BYTES..=last);
        }
    }

    /// Part of a write whose result nobody saw: any of its sectors.
    pub(crate) fn write_torn(
        &mut self,
        random: &mut Random,
        segment: SegmentId,
        offset: Offset,
        bytes: &[u8],
    ) {
        let from = offset.0 as usize;
        let mut at = 0;
        while at < bytes.len() {
            let room = SECTOR_BYTES - (from + at) % SECTOR_BYTES;
            let end = (at + room).min(bytes.len());
            if random.one_in(2) {
                let place = u32::try_from(from + at).expect("small");
                self.write(segment, Offset(place), &bytes[at..end]);
            }
            at = end;
        }
    }

    /// What a sync after a write of `bytes` octets at `offset` makes stable.
    pub(crate) fn sync(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        bytes: usize,
        durability: Durability,
    ) {
        let dirty = self.dirty(segment);
        self.sync_those(segment, offset, bytes, durability, &dirty);
    }

    /// Sectors that a sync of the file would make stable now.
    pub(crate) fn dirty(&self, segment: SegmentId) -> BTreeSet<usize> {
        self.files[&segment].dirty.clone()
    }

    /// The same as [`Disk::sync`], of one that began when only `dirty` were to be made
    /// stable: it misses what was written elsewhere meanwhile.
    pub(crate) fn sync_those(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        bytes: usize,
        durability: Durability,
        dirty: &BTreeSet<usize>,
    ) {
        let file = self
            .files
            .get_mut(&segment)
            .expect("synced while it is there");
        let from = offset.0 as usize / SECTOR_BYTES;
        let end = (offset.0 as usize + bytes).div_ceil(SECTOR_BYTES);
        let of_write = (from..end).filter(|sector| file.dirty.contains(sector));
        let mut covered: BTreeSet<usize> = of_write.collect();
        match durability {
            Durability::None => return,
            Durability::Range => {}
            Durability::File => covered.extend(dirty.iter().filter(|s| file.dirty.contains(s))),
        }
        for sector in covered {
            file.dirty.remove(&sector);
            file.settle(sector);
        }
    }

    /// What a start does before it scans a segment: what it finds is on the disk.
    pub(crate) fn settle(&mut self, segment: SegmentId) {
        let file = self.files.get_mut(&segment).expect("it is there");
        file.dirty.clear();
        file.stable.clone_from(&file.cached);
    }

    /// The disk loses a bit of what it had stored.
    pub(crate) fn flip(&mut self, segment: SegmentId, offset: usize) {
        let file = self.files.get_mut(&segment).expect("it is there");
        file.cached[offset] ^= 1;
        file.stable[offset] ^= 1;
    }

    /// The power goes: each dirty sector has reached the disk or not.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        for file in self.files.values_mut() {
            for sector in std::mem::take(&mut file.dirty) {
                if random.one_in(2) {
                    file.settle(sector);
                }
            }
            file.cached.clone_from(&file.stable);
        }
    }
}

impl File {
    fn settle(&mut self, sector: usize) {
        let from = sector * SECTOR_BYTES;
        let to = (from + SECTOR_BYTES).min(self.stable.len());
        self.stable[from..to].copy_from_slice(&self.cached[from..to]);
    }
}
