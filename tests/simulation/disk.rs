//! A disk that can be unplugged, and the directory of one log on it.
//!
//! A file has two faces: what the page cache shows, and what is on stable storage.
//! They differ in *dirty* sectors. At a crash each dirty sector is kept, lost, or torn
//! at any octet, independently of the others. Octets of a sector that a write did not
//! change are not damaged: the log relies on that (see `spool::commit`).
//!
//! Names are changed with the sync that the real directory does: they are there or
//! not, never half. A summary may be lost in a crash.

use std::collections::{BTreeMap, BTreeSet};

use spool_format::{
    Epoch, LogId, Offset, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentPlace,
    SummaryBuilder,
};
use turnspool::spool::commit::{Durability, WriteFault, WriteStep};
use turnspool::spool::log::{Gone, PrepareCause, Unprepared};
use turnspool::spool::message::{SegmentSource, View};
use turnspool::spool::recovery::{Restart, Restarted};

use crate::random::Random;

/// What a disk writes or loses as a whole.
const SECTOR_BYTES: usize = 512;

/// The log of a world with one data core.
pub(crate) const LOG: LogId = LogId(0);

/// Which spool it is.
pub(crate) const SPOOL: spool_format::SpoolUuid = spool_format::SpoolUuid(*b"a simulated one!");

/// EIO, ENOSPC: for the words only.
const EIO: i32 = 5;

/// A file whatever its name: a transmission goes on from it when it has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Inode(usize);

#[derive(Debug)]
struct File {
    cached: Vec<u8>,
    stable: Vec<u8>,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// A segment that the core may read.
#[derive(Debug)]
struct Open {
    inode: Inode,
    epoch: Epoch,
    /// Octets below are written, and are not written again.
    frontier: usize,
}

/// How the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Good,
    /// From now on every one of these fails.
    Fails(WriteStep),
}

/// A sync that is under way.
#[derive(Debug)]
pub(crate) struct Sync {
    inode: Inode,
    /// Sectors that it makes stable, each as it was when the sync began.
    sectors: Vec<(usize, Vec<u8>)>,
}

/// How a life of the program ended, as the disk sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The process died; what was written is in the page cache.
    Nothing,
    /// Power was lost.
    Unsynced,
}

#[derive(Debug)]
pub(crate) struct Disk {
    log: LogId,
    files: Vec<File>,
    segments: BTreeMap<SegmentId, Inode>,
    summaries: BTreeMap<SegmentId, Vec<u8>>,
    spares: BTreeMap<SegmentId, Inode>,
    damaged: BTreeSet<SegmentId>,
    open: BTreeMap<SegmentId, Open>,
    pub(crate) health: Health,
    /// All that there is for segments.
    capacity_bytes: u64,
    /// What others took of it.
    pub(crate) taken_bytes: u64,
    random: Random,
}

impl Disk {
    pub(crate) fn new(log: LogId, capacity_bytes: u64, random: Random) -> Self {
        Self {
            log,
            files: Vec::new(),
            segments: BTreeMap::new(),
            summaries: BTreeMap::new(),
            spares: BTreeMap::new(),
            damaged: BTreeSet::new(),
            open: BTreeMap::new(),
            health: Health::Good,
            capacity_bytes,
            taken_bytes: 0,
            random,
        }
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let files = self.segments.values().chain(self.spares.values());
        let used: u64 = files
            .map(|inode| self.files[inode.0].cached.len() as u64)
            .sum();
        self.capacity_bytes.saturating_sub(used + self.taken_bytes)
    }

    /// Segment files, without spares.
    pub(crate) fn segments_count(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn spares_count(&self) -> usize {
        self.spares.len()
    }

    /// Set aside for the operator.
    pub(crate) fn damaged_count(&self) -> usize {
        self.damaged.len()
    }

    /// Does what `Storeroom::prepare` does.
    pub(crate) fn prepare(
        &mut self,
        header: &SegmentHeader,
        spare: Option<SegmentId>,
    ) -> Result<(), Unprepared> {
        assert_eq!(header.place.log, self.log);
        let segment = header.place.segment;
        assert!(!self.segments.contains_key(&segment), "made twice");
        if self.health != Health::Good {
            return Err(Unprepared {
                cause: PrepareCause::System { os_error: None },
                why: "the disk fails".to_owned(),
            });
        }
        if let Some(inode) = spare.and_then(|spare| self.spares.remove(&spare))
            && self.files[inode.0].cached.len() == header.segment_bytes as usize
        {
            let mut header = *header;
            let place = SegmentPlace {
                log: self.log,
                segment: spare.expect("looked at above"),
            };
            let file = &mut self.files[inode.0];
            // One that was renewed has none.
            if file.cached.iter().any(|&octet| octet != 0) {
                let old = SegmentHeader::decode(&file.cached, place);
                header.previous_epoch = old.expect("a spare has a header").epoch;
            }
            let octets = header.encode();
            file.cached[..octets.len()].copy_from_slice(&octets[..]);
            file.stable = file.cached.clone();
            file.dirty.clear();
            self.segments.insert(segment, inode);
            return Ok(());
        }
        if self.free_bytes() < u64::from(header.segment_bytes) {
            return Err(Unprepared {
                cause: PrepareCause::NoRoom,
                why: "no space left on device".to_owned(),
            });
        }
        let mut cached = vec![0; header.segment_bytes as usize];
        let octets = header.encode();
        cached[..octets.len()].copy_from_slice(&octets[..]);
        let inode = self.add(cached);
        self.segments.insert(segment, inode);
        Ok(())
    }

    fn add(&mut self, octets: Vec<u8>) -> Inode {
        self.files.push(File {
            stable: octets.clone(),
            cached: octets,
            dirty: BTreeSet::new(),
        });
        Inode(self.files.len() - 1)
    }

    /// The core is told that a segment is ready: it may be read from now on.
    pub(crate) fn take(&mut self, segment: SegmentId) {
        let inode = self.segments[&segment];
        let place = self.place(segment);
        let header = SegmentHeader::decode(&self.files[inode.0].cached, place);
        let open = Open {
            inode,
            epoch: header.expect("it was prepared").epoch,
            frontier: SEGMENT_HEADER_BYTES,
        };
        let before = self.open.insert(segment, open);
        assert!(before.is_none(), "segment {} is ready twice", segment.0);
    }

    /// The core reads it no more.
    pub(crate) fn forget(&mut self, segment: SegmentId) {
        let open = self.open.remove(&segment);
        assert!(
            open.is_some(),
            "segment {} is forgotten, and was not open",
            segment.0
        );
    }

    /// Makes a dead segment a spare. Of some a socket has pages: it loses its octets, or is
    /// removed where the file system cannot do that.
    pub(crate) fn retire(&mut self, segment: SegmentId) -> Gone {
        assert!(!self.open.contains_key(&segment), "it is dead and read");
        if segment.0.is_multiple_of(16) {
            self.remove(segment);
            return Gone::Removed;
        }
        let inode = self.segments.remove(&segment).expect("it was there");
        self.summaries.remove(&segment);
        if segment.0.is_multiple_of(4) {
            let file = &mut self.files[inode.0];
            file.cached.fill(0);
            file.stable = file.cached.clone();
            file.dirty.clear();
        }
        self.spares.insert(segment, inode);
        Gone::Spare
    }

    pub(crate) fn remove(&mut self, segment: SegmentId) {
        self.segments.remove(&segment).expect("it was there");
        self.summaries.remove(&segment);
    }

    pub(crate) fn set_aside(&mut self, segment: SegmentId) {
        self.remove(segment);
        self.damaged.insert(segment);
    }

    /// Writes the summary of a closed segment, if it is there still.
    pub(crate) fn summarise(&mut self, segment: SegmentId) {
        let Some(open) = self.open.get(&segment) else {
            return;
        };
        let octets = &self.files[open.inode.0].cached[..open.frontier];
        let place = self.place(segment);
        let header = SegmentHeader::decode(octets, place).expect("it has a header");
        if let Some(summary) = SummaryBuilder::scan(octets, &header) {
            self.summaries.insert(segment, summary);
        }
    }

    /// Writes into the page cache. Gives the sync that is to follow, if one is.
    pub(crate) fn write(
        &mut self,
        segment: SegmentId,
        offset: Offset,
        octets: &[u8],
        durability: Durability,
    ) -> Result<Option<Sync>, WriteFault> {
        let open = self
            .open
            .get_mut(&segment)
            .expect("a segment that is ready");
        let from = offset.0 as usize;
        let end = from + octets.len();
        let file = &mut self.files[open.inode.0];
        assert!(from >= open.frontier, "a write below the frontier");
        assert!(end <= file.cached.len(), "a write behind the end");
        let fails = self.health == Health::Fails(WriteStep::Write);
        let written = if fails {
            self.random.length(0, octets.len())
        } else {
            octets.len()
        };
        file.cached[from..from + written].copy_from_slice(&octets[..written]);
        let sectors = |end: usize| (from / SECTOR_BYTES)..end.div_ceil(SECTOR_BYTES);
        if written > 0 {
            file.dirty.extend(sectors(from + written));
        }
        if fails {
            return Err(WriteFault {
                step: WriteStep::Write,
                os_error: Some(EIO),
            });
        }
        open.frontier = end;
        let sectors: Vec<usize> = match durability {
            Durability::None => return Ok(None),
            Durability::Range => sectors(end).collect(),
            Durability::File => file.dirty.iter().copied().collect(),
        };
        let seen = |sector| file.cached[sector_range(sector, file.cached.len())].to_vec();
        let sectors = sectors.into_iter().map(|sector| (sector, seen(sector)));
        let sectors = sectors.collect();
        let inode = open.inode;
        Ok(Some(Sync { inode, sectors }))
    }

    /// A sync has ended.
    pub(crate) fn sync(&mut self, sync: &Sync) -> Result<(), WriteFault> {
        let fails = self.health == Health::Fails(WriteStep::Sync);
        let file = &mut self.files[sync.inode.0];
        for (sector, seen) in &sync.sectors {
            // A sync that fails may have written anything.
            if fails && self.random.one_in(2) {
                continue;
            }
            let range = sector_range(*sector, file.cached.len());
            // What was written while it ran it may have missed.
            file.stable[range.clone()].copy_from_slice(seen);
            if file.cached[range] == seen[..] {
                file.dirty.remove(sector);
            }
        }
        if fails {
            return Err(WriteFault {
                step: WriteStep::Sync,
                os_error: Some(EIO),
            });
        }
        Ok(())
    }

    /// Where octets of an open segment lie, for a transmission.
    pub(crate) fn inode(&self, place: SegmentPlace) -> Option<Inode> {
        let open = self.open.get(&place.segment);
        open.filter(|_| place.log == self.log)
            .map(|open| open.inode)
    }

    /// What a transmission finds there now.
    pub(crate) fn read(&self, inode: Inode, from: usize, octets: usize) -> &[u8] {
        &self.files[inode.0].cached[from..from + octets]
    }

    /// A life of the program is over.
    pub(crate) fn end_of_life(&mut self, loss: Loss) {
        self.open.clear();
        if loss == Loss::Nothing {
            return;
        }
        let names: Vec<_> = self.segments.values_mut().collect();
        for name in names {
            let file = &self.files[name.0];
            let mut octets = file.stable.clone();
            for &sector in &file.dirty {
                let range = sector_range(sector, octets.len());
                let kept = match self.random.below(3) {
                    0 => range.len(),
                    1 => 0,
                    _ => self.random.length(0, range.len()),
                };
                let kept = range.start..range.start + kept;
                octets[kept.clone()].copy_from_slice(&file.cached[kept]);
            }
            // A file of its own: what was being sent is seen as it was.
            self.files.push(File {
                stable: octets.clone(),
                cached: octets,
                dirty: BTreeSet::new(),
            });
            *name = Inode(self.files.len() - 1);
        }
        let random = &mut self.random;
        self.summaries.retain(|_, _| !random.one_in(4));
    }

    /// Does what the shell does at a start for a spool with this log only.
    pub(crate) fn recover(&mut self) -> Restarted {
        let mut restart = Restart::new(Some(SPOOL));
        self.read_directory(&mut restart);
        let restarted = restart.finish();
        self.open(&restarted);
        restarted
    }

    /// Does what `spool::recovery::read_directory` does.
    pub(crate) fn read_directory(&mut self, restart: &mut Restart) {
        let log = self.log;
        let place = |segment| SegmentPlace { log, segment };
        for &segment in self.damaged.iter().chain(self.summaries.keys()) {
            restart.number_taken(place(segment));
        }
        for &segment in self.spares.keys() {
            restart.spare(place(segment));
        }
        for (&segment, inode) in &self.segments {
            let file = &mut self.files[inode.0];
            let octets = &file.cached;
            let summary = self.summaries.get(&segment);
            if let Some(summary) = summary {
                let header = &octets[..SEGMENT_HEADER_BYTES];
                if restart.summarized(place(segment), header, summary) {
                    continue;
                }
            }
            // What is scanned is synced.
            file.stable.clone_from(octets);
            file.dirty.clear();
            let made = restart.segment(place(segment), octets, summary.map(Vec::as_slice));
            if let Some(made) = made {
                self.summaries.insert(segment, made);
            }
        }
    }

    /// Opens the segments that are used.
    pub(crate) fn open(&mut self, restarted: &Restarted) {
        self.open.clear();
        for facts in restarted.segments(&[self.log]) {
            let segment = facts.place.segment;
            let inode = self.segments[&segment];
            let octets = &self.files[inode.0].cached;
            let header = SegmentHeader::decode(octets, facts.place);
            let open = Open {
                inode,
                epoch: header.expect("headers are synced").epoch,
                frontier: octets.len(),
            };
            self.open.insert(segment, open);
        }
    }

    fn place(&self, segment: SegmentId) -> SegmentPlace {
        let log = self.log;
        SegmentPlace { log, segment }
    }
}

fn sector_range(sector: usize, length: usize) -> std::ops::Range<usize> {
    let from = sector * SECTOR_BYTES;
    from..(from + SECTOR_BYTES).min(length)
}

impl SegmentSource for Disk {
    fn view(&self, place: SegmentPlace) -> Option<View<'_>> {
        let open = self.open.get(&place.segment)?;
        (place.log == self.log).then(|| View {
            bytes: &self.files[open.inode.0].cached[..open.frontier],
            epoch: open.epoch,
        })
    }
}
