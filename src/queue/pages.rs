//! Entries of one size in pages, known by a number: a slab that neither moves what it
//! holds when it grows, nor keeps all its memory after a peak.
//!
//! A vector that doubles would copy a hundred megabytes at once with a million
//! messages, and be half empty afterwards.
//!
//! Invariant: a number stays valid until its entry is removed, and is given again
//! after that.

use std::ops::{Index, IndexMut};

/// Entries in a page. With entries of about 50 octets a page is about 50 KiB.
const PAGE_ENTRIES: usize = 1024;
/// Empty pages that keep their memory, so that a load that comes and goes around the
/// border of a page does not allocate each time.
const SPARE_PAGES_MAX: usize = 4;
/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Entry<T> {
    Used(T),
    /// The next free entry of the page.
    Free(u32),
}

#[derive(Debug)]
struct Page<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    used: u32,
    /// Whether it stands in `Pages::with_room`.
    listed: bool,
}

#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Page<T>>,
    /// Pages with a free entry, each once; the last is used first.
    with_room: Vec<u32>,
    /// Pages without entries that keep their memory.
    spare: usize,
    len: usize,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            with_room: Vec::new(),
            spare: 0,
            len: 0,
        }
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = match self.with_room.last() {
            Some(&number) => number as usize,
            None => {
                self.pages.push(Page {
                    entries: Vec::new(),
                    free: NONE,
                    used: 0,
                    listed: true,
                });
                let number = self.pages.len() - 1;
                self.with_room.push(number as u32);
                number
            }
        };
        let page = &mut self.pages[number];
        if page.entries.capacity() == 0 {
            page.entries.reserve_exact(PAGE_ENTRIES);
        } else if page.used == 0 {
            self.spare -= 1;
        }
        let place = if page.free == NONE {
            page.entries.push(Entry::Used(value));
            page.entries.len() - 1
        } else {
            let place = page.free as usize;
            let before = std::mem::replace(&mut page.entries[place], Entry::Used(value));
            let Entry::Free(next) = before else {
                unreachable!("a used entry stood in the free list");
            };
            page.free = next;
            place
        };
        page.used += 1;
        if page.used as usize == PAGE_ENTRIES {
            page.listed = false;
            self.with_room.pop();
        }
        self.len += 1;
        u32::try_from(number * PAGE_ENTRIES + place).expect("four thousand million entries")
    }

    /// # Panics
    /// If there is no such entry.
    pub(super) fn remove(&mut self, number: u32) -> T {
        let (page_number, place) = split(number);
        let page = &mut self.pages[page_number];
        let removed = std::mem::replace(&mut page.entries[place], Entry::Free(page.free));
        let Entry::Used(value) = removed else {
            panic!("entry {number} was removed twice");
        };
        page.free = place as u32;
        page.used -= 1;
        self.len -= 1;
        if !page.listed {
            page.listed = true;
            self.with_room.push(page_number as u32);
        }
        if page.used == 0 {
            if self.spare < SPARE_PAGES_MAX {
                self.spare += 1;
            } else {
                page.entries = Vec::new();
                page.free = NONE;
            }
        }
        value
    }
}

const fn split(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / PAGE_ENTRIES, number % PAGE_ENTRIES)
}

/// Panics if there is no such entry: a number that is used after its entry is gone is
/// an error of ours.
impl<T> Index<u32> for Pages<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        let (page, place) = split(number);
        match &self.pages[page].entries[place] {
            Entry::Used(value) => value,
            Entry::Free(_) => panic!("entry {number} is not there"),
        }
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let (page, place) = split(number);
        match &mut self.pages[page].entries[place] {
            Entry::Used(value) => value,
            Entry::Free(_) => panic!("entry {number} is not there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::retry::Jitter;
    use super::*;

    #[test]
    fn behaves_like_a_map_from_numbers() {
        for seed in 0..20 {
            let mut random = Jitter::new(seed);
            let mut pages = Pages::new();
            let mut model = HashMap::new();
            let mut numbers = Vec::new();
            // Grow, shrink to nothing, grow again, so that pages come and go.
            for (steps, grow) in [(6000, 9), (12_000, 3), (3000, 6)] {
                for _ in 0..steps {
                    let value = random.next_u64();
                    if value % 10 < grow {
                        let number = pages.insert(value);
                        assert_eq!(model.insert(number, value), None, "seed {seed}");
                        numbers.push(number);
                    } else if !numbers.is_empty() {
                        let number = numbers.swap_remove(value as usize % numbers.len());
                        assert_eq!(Some(pages.remove(number)), model.remove(&number));
                    }
                    assert_eq!(pages.len(), model.len());
                }
                for (&number, &value) in &model {
                    assert_eq!(pages[number], value, "seed {seed}");
                }
            }
            for number in numbers {
                pages.remove(number);
            }
            let kept = pages.pages.iter().filter(|p| p.entries.capacity() > 0);
            assert!(kept.count() <= SPARE_PAGES_MAX, "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "removed twice")]
    fn a_second_removal_is_noticed() {
        let mut pages = Pages::new();
        let number = pages.insert(1);
        pages.remove(number);
        pages.remove(number);
    }
}
