//! Small entries in the order of their keys, packed: a sorted set or map for the
//! hundreds of thousands of entries that a queue and a log keep.
//!
//! What a B-tree is for, in half the memory. Queue ids, times of arrival and deadlines
//! come in ascending order, and the B-tree of the standard library leaves every node
//! that is filled in this order half empty; a hash table is two thirds full on average,
//! has no order, and copies all of itself when it grows. Here a block that is full stays
//! full when the next entry belongs behind it.
//!
//! Invariants:
//! - No block is empty, and its entries are in ascending order of their keys; so are the
//!   blocks. No key is there twice.
//! - A block holds at most `BLOCK_ENTRIES` entries, and has at most twice the room that
//!   it needs and `GROWTH_MIN` more.
//!
//! What this module does not do: an entry is not changed in its place; it is small and is
//! inserted again.

use std::ops::Bound;

/// Entries in a block. Of 12 octets each: one insertion moves 1.5 KiB at most.
const BLOCK_ENTRIES: usize = 128;

/// Two neighbours become one where they need no more than this: half a block, so that
/// the next few insertions do not split it again.
const JOINED_ENTRIES_MAX: usize = BLOCK_ENTRIES / 2;

/// A block that has to grow grows by a quarter, and by at least so many entries.
const GROWTH_MIN: usize = 4;

/// What has a place in a roster.
pub trait Keyed: Copy {
    /// What it is found by.
    type Key: Ord + Copy + std::fmt::Debug;

    /// This one's.
    fn key(&self) -> Self::Key;
}

#[derive(Clone, Debug)]
struct Block<T: Keyed> {
    /// The key of the first entry, so that a search looks into one block only.
    first: T::Key,
    entries: Vec<T>,
}

/// Entries in the order of their keys.
#[derive(Clone, Debug)]
pub struct Roster<T: Keyed> {
    blocks: Vec<Block<T>>,
    len: usize,
}

impl<T: Keyed> Default for Roster<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Keyed> Block<T> {
    fn new(entries: Vec<T>) -> Self {
        let first = entries[0].key();
        Self { first, entries }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BLOCK_ENTRIES
    }

    fn find(&self, key: T::Key) -> Result<usize, usize> {
        // What comes is mostly the last.
        match self.entries.last() {
            Some(last) if last.key() < key => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&key, T::key),
        }
    }

    fn insert(&mut self, place: usize, entry: T) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            let growth = (len / 4).max(GROWTH_MIN);
            self.entries
                .reserve_exact(growth.min(BLOCK_ENTRIES - len).max(1));
        }
        self.entries.insert(place, entry);
        if place == 0 {
            self.first = entry.key();
        }
    }

    /// Gives back room that is not needed.
    fn shrink(&mut self) {
        let len = self.entries.len();
        if self.entries.capacity() > 2 * len + GROWTH_MIN {
            self.fit();
        }
    }

    fn fit(&mut self) {
        let len = self.entries.len();
        self.entries.shrink_to(len + len / 4);
    }
}

fn one<T>(entry: T) -> Vec<T> {
    let mut entries = Vec::new();
    entries.reserve_exact(GROWTH_MIN);
    entries.push(entry);
    entries
}

impl<T: Keyed> Roster<T> {
    /// Nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
        }
    }

    /// Entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The block in which a key is, or would be.
    fn block_of(&self, key: T::Key) -> usize {
        match self.blocks.last() {
            Some(last) if last.first <= key => self.blocks.len() - 1,
            _ => self
                .blocks
                .partition_point(|block| block.first <= key)
                .saturating_sub(1),
        }
    }

    /// The entry with this key.
    #[must_use]
    pub fn get(&self, key: T::Key) -> Option<&T> {
        let block = self.blocks.get(self.block_of(key))?;
        block.find(key).ok().map(|place| &block.entries[place])
    }

    /// Whether there is an entry with this key.
    #[must_use]
    pub fn contains(&self, key: T::Key) -> bool {
        self.get(key).is_some()
    }

    /// Gives the entry that had this key before.
    pub fn insert(&mut self, entry: T) -> Option<T> {
        let key = entry.key();
        let at = self.block_of(key);
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.reserve_exact(1);
            self.blocks.push(Block::new(one(entry)));
            self.len = 1;
            return None;
        };
        let place = match block.find(key) {
            Ok(place) => return Some(std::mem::replace(&mut block.entries[place], entry)),
            Err(place) => place,
        };
        self.len += 1;
        match (block.is_full(), place) {
            (false, _) => block.insert(place, entry),
            // The full one stays full.
            (true, BLOCK_ENTRIES) => self.blocks.insert(at + 1, Block::new(one(entry))),
            (true, 0) => self.blocks.insert(at, Block::new(one(entry))),
            (true, _) => {
                let upper = block.entries.split_off(BLOCK_ENTRIES / 2);
                let mut upper = Block::new(upper);
                match place.checked_sub(block.entries.len()) {
                    Some(place) if place > 0 => upper.insert(place, entry),
                    _ => block.insert(place, entry),
                }
                block.fit();
                self.blocks.insert(at + 1, upper);
            }
        }
        None
    }

    /// Many at once, none of which is there: packed as well as can be.
    ///
    /// # Panics
    /// A key is there already, or is there twice.
    pub fn fill(&mut self, entries: impl IntoIterator<Item = T>) {
        let mut entries: Vec<T> = entries.into_iter().collect();
        entries.sort_unstable_by_key(T::key);
        if self.is_empty() {
            let twice = entries.array_windows().any(|[a, b]| a.key() == b.key());
            assert!(!twice, "a key is there twice");
            let blocks = entries.chunks(BLOCK_ENTRIES);
            self.blocks = blocks.map(|block| Block::new(block.to_vec())).collect();
            self.len = entries.len();
            return;
        }
        for entry in entries {
            assert!(self.insert(entry).is_none(), "a key is there already");
        }
    }

    /// Gives what had this key.
    pub fn remove(&mut self, key: T::Key) -> Option<T> {
        let at = self.block_of(key);
        let place = self.blocks.get(at)?.find(key).ok()?;
        Some(self.take(at, place))
    }

    fn take(&mut self, at: usize, place: usize) -> T {
        self.len -= 1;
        let block = &mut self.blocks[at];
        let entry = block.entries.remove(place);
        let Some(first) = block.entries.first() else {
            self.remove_block(at);
            return entry;
        };
        block.first = first.key();
        let need = block.entries.len();
        let joins = |other: Option<&Block<T>>| {
            other.is_some_and(|other| other.entries.len() + need <= JOINED_ENTRIES_MAX)
        };
        if joins(self.blocks.get(at + 1)) {
            self.join(at);
        } else if at > 0 && joins(self.blocks.get(at - 1)) {
            self.join(at - 1);
        } else {
            self.blocks[at].shrink();
        }
        entry
    }

    /// A block takes up the next one.
    fn join(&mut self, at: usize) {
        let next = self.remove_block(at + 1);
        self.blocks[at].entries.extend_from_slice(&next.entries);
        self.blocks[at].shrink();
    }

    fn remove_block(&mut self, at: usize) -> Block<T> {
        let block = self.blocks.remove(at);
        if self.blocks.is_empty() {
            self.blocks = Vec::new();
        } else if self.blocks.capacity() > 4 * self.blocks.len() {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
        block
    }

    /// The entry with the least key.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.blocks.first().map(|block| &block.entries[0])
    }

    /// The entry with the greatest key.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.blocks.last().and_then(|block| block.entries.last())
    }

    /// Takes the entry with the least key.
    pub fn pop_first(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.take(0, 0))
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + use<'_, T> {
        self.blocks.iter().flat_map(|block| block.entries.iter())
    }

    /// The entries from a key on, in order.
    pub fn range(&self, from: Bound<T::Key>) -> impl Iterator<Item = &T> + use<'_, T> {
        let (at, place) = match from {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) | Bound::Excluded(key) => {
                let at = self.block_of(key);
                let place = match (self.blocks.get(at).map(|block| block.find(key)), from) {
                    (Some(Ok(place)), Bound::Excluded(_)) => place + 1,
                    (Some(Ok(place) | Err(place)), _) => place,
                    (None, _) => 0,
                };
                (at, place)
            }
        };
        let head = self.blocks.get(at).map(|block| &block.entries[place..]);
        let tail = self.blocks.get(at + 1..).unwrap_or_default();
        let tail = tail.iter().flat_map(|block| block.entries.iter());
        head.unwrap_or_default().iter().chain(tail)
    }

    /// Moves all entries of another roster here. Keys that both have stay as they are in
    /// the other one.
    pub fn append(&mut self, other: &mut Self) {
        let theirs = std::mem::take(other);
        if self.is_empty() {
            *self = theirs;
            return;
        }
        let ours = std::mem::take(self);
        let mut ours = ours.iter().copied().peekable();
        let mut theirs = theirs.iter().copied().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.key().cmp(&their.key()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return,
            };
            let next = match order {
                std::cmp::Ordering::Less => ours.next(),
                std::cmp::Ordering::Greater => theirs.next(),
                std::cmp::Ordering::Equal => ours.next().and_then(|_| theirs.next()),
            };
            // In order, so that each is put behind the last.
            if let Some(entry) = next {
                self.insert(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Item {
        key: u32,
        value: u32,
    }

    impl Keyed for Item {
        type Key = u32;

        fn key(&self) -> u32 {
            self.key
        }
    }

    /// The invariants, and that it holds what the model holds.
    fn check(roster: &Roster<Item>, model: &BTreeMap<u32, u32>, what: &str) {
        let found: Vec<_> = roster.iter().map(|item| (item.key, item.value)).collect();
        let expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(found, expected, "{what}");
        assert_eq!(roster.len(), model.len(), "{what}");
        assert_eq!(roster.is_empty(), model.is_empty(), "{what}");
        assert_eq!(
            roster.first().map(|item| item.key),
            model.keys().next().copied()
        );
        assert_eq!(
            roster.last().map(|item| item.key),
            model.keys().last().copied()
        );
        for block in &roster.blocks {
            assert!((1..=BLOCK_ENTRIES).contains(&block.entries.len()), "{what}");
            assert_eq!(block.first, block.entries[0].key, "{what}");
            let room = 2 * block.entries.len() + GROWTH_MIN;
            assert!(block.entries.capacity() <= room, "{what}");
        }
    }

    /// A generator of the same numbers each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as u32 % limit
        }
    }

    #[test]
    fn behaves_like_the_map_of_the_standard_library() {
        for seed in 0..40 {
            let mut numbers = Numbers(seed);
            let mut roster = Roster::new();
            let mut model = BTreeMap::new();
            // Grow, shrink to little, grow again.
            for (steps, grow) in [(900, 9), (1600, 2), (500, 6), (900, 0)] {
                for _ in 0..steps {
                    let key = numbers.below(1500);
                    let what = format!("seed {seed}, key {key}");
                    if numbers.below(10) < grow {
                        let item = Item {
                            key,
                            value: numbers.below(1000),
                        };
                        let before = roster.insert(item).map(|item| item.value);
                        assert_eq!(before, model.insert(key, item.value), "{what}");
                    } else if numbers.below(8) == 0 {
                        let first = roster.pop_first().map(|item| (item.key, item.value));
                        assert_eq!(first, model.pop_first(), "{what}");
                    } else {
                        // One that is there, mostly.
                        let key = model.range(key..).next().map_or(key, |(key, _)| *key);
                        let removed = roster.remove(key).map(|item| item.value);
                        assert_eq!(removed, model.remove(&key), "{what}");
                    }
                    let found = roster.get(key).map(|item| item.value);
                    assert_eq!(found, model.get(&key).copied(), "{what}");
                    assert_eq!(roster.contains(key), model.contains_key(&key), "{what}");
                    for bound in [Bound::Included(key), Bound::Excluded(key)] {
                        let found = roster.range(bound).map(|item| item.key).take(3);
                        let expected = model.range((bound, Bound::Unbounded));
                        let expected: Vec<_> = expected.map(|(key, _)| *key).take(3).collect();
                        assert_eq!(found.collect::<Vec<_>>(), expected, "{what}");
                    }
                }
                check(&roster, &model, &format!("seed {seed}"));
                assert_eq!(roster.range(Bound::Unbounded).count(), model.len());
            }
        }
    }

    #[test]
    fn what_comes_in_order_is_packed() {
        let item = |key| Item { key, value: 0 };
        let check = |keys: &mut dyn Iterator<Item = u32>| {
            let mut roster = Roster::new();
            keys.for_each(|key| assert_eq!(roster.insert(item(key)), None));
            let room: usize = roster.blocks.iter().map(|b| b.entries.capacity()).sum();
            assert!(
                room <= roster.len() + BLOCK_ENTRIES,
                "{room} for {}",
                roster.len()
            );
        };
        check(&mut (0..10_000));
        check(&mut (0..10_000).rev());
        // Below what is there already: the log of another core has the higher ids.
        check(&mut (20_000..21_024).chain(0..10_000));
    }

    #[test]
    fn many_at_once_are_the_same_as_one_by_one() {
        for count in [0, 1, 127, 128, 129, 1000] {
            let keys = (0..count).map(|n| n * 7919 % 1009);
            let mut roster = Roster::new();
            roster.fill(keys.clone().map(|key| Item { key, value: key }));
            let mut model: BTreeMap<u32, u32> = keys.map(|key| (key, key)).collect();
            check(&roster, &model, &format!("{count}"));
            // And once more, into what is there.
            roster.fill((2000..2100).map(|key| Item { key, value: 1 }));
            model.extend((2000..2100).map(|key| (key, 1)));
            check(&roster, &model, &format!("{count} and 100"));
        }
    }

    #[test]
    #[should_panic(expected = "there twice")]
    fn a_key_that_comes_twice_is_noticed() {
        Roster::new().fill([3, 1, 3].map(|key| Item { key, value: 0 }));
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let mut roster = Roster::new();
        for key in 0..10_000 {
            roster.insert(Item { key, value: 0 });
        }
        // One in a hundred stays: neighbours are joined.
        for key in (0..10_000).filter(|key| key % 100 != 0) {
            roster.remove(key);
        }
        assert_eq!(roster.len(), 100);
        assert!(roster.blocks.len() <= 4, "{}", roster.blocks.len());
        while roster.pop_first().is_some() {}
        assert_eq!(roster.blocks.capacity(), 0);
    }

    #[test]
    fn two_become_one() {
        let item = |key, value| Item { key, value };
        let both = |ours: &[u32], theirs: &[u32]| {
            let mut model = BTreeMap::new();
            let (mut a, mut b) = (Roster::new(), Roster::new());
            for &key in ours {
                a.insert(item(key, 1));
                model.insert(key, 1);
            }
            for &key in theirs {
                b.insert(item(key, 2));
                model.insert(key, 2);
            }
            a.append(&mut b);
            assert!(b.is_empty());
            check(&a, &model, "appended");
        };
        let evens: Vec<u32> = (0..1000).map(|n| 2 * n).collect();
        let threes: Vec<u32> = (0..500).map(|n| 3 * n).collect();
        both(&[], &evens);
        both(&evens, &[]);
        both(&evens, &threes);
        both(&threes, &evens);
        both(&evens, &[5000, 5001]);
    }
}
