//! A long list in pages: it grows without moving what it holds, and what is taken out of
//! it in order is freed page by page.
//!
//! A start makes lists of a hundred megabytes. A vector that doubles would copy them
//! twice over, and the kernel would have to clear each new place for it.

use std::ops::{Index, IndexMut};

/// Items in a page: with those of a start, some 150 KiB.
const PAGE_ITEMS: usize = 1024;

/// The list. All pages but the last are full.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Paged<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE_ITEMS + last
    }

    pub(super) fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE_ITEMS => page.push(item),
            _ => {
                let mut page = Vec::with_capacity(PAGE_ITEMS);
                page.push(item);
                self.pages.push(page);
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> + use<'_, T> {
        self.pages.iter_mut().flatten()
    }
}

impl<T> IntoIterator for Paged<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pages.into_iter().flatten()
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.pages[place / PAGE_ITEMS][place % PAGE_ITEMS]
    }
}

impl<T> IndexMut<usize> for Paged<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.pages[place / PAGE_ITEMS][place % PAGE_ITEMS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_pages_is_a_list() {
        for count in [0, 1, PAGE_ITEMS - 1, PAGE_ITEMS, PAGE_ITEMS + 1, 3000] {
            let mut list = Paged::new();
            for n in 0..count {
                list.push(n);
            }
            assert_eq!(list.len(), count);
            for item in list.iter_mut() {
                *item *= 2;
            }
            for n in 0..count {
                assert_eq!(list[n], 2 * n);
            }
            assert!(list.into_iter().eq((0..count).map(|n| 2 * n)));
        }
    }
}
