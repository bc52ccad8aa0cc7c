//! Numbers for things that come and go fast: connections and jobs. A number names one
//! thing for ever, so that a late report about a thing that is gone is noticed.

use slab::Slab;

/// Place and generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Handle {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Handles<T> {
    slab: Slab<(u32, T)>,
    /// Wraps after 2^32 things; none lives that long.
    generation: u32,
}

impl<T> Handles<T> {
    pub(super) const fn new() -> Self {
        Self {
            slab: Slab::new(),
            generation: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Handle {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slab.insert((self.generation, value));
        Handle {
            slot: u32::try_from(slot).expect("four thousand million handles"),
            generation: self.generation,
        }
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&T> {
        match self.slab.get(handle.slot as usize) {
            Some((generation, value)) if *generation == handle.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        match self.slab.get_mut(handle.slot as usize) {
            Some((generation, value)) if *generation == handle.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        Some(self.slab.remove(handle.slot as usize).1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().map(|(_, (_, value))| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_handle_names_nothing_new() {
        let mut handles = Handles::new();
        let first = handles.insert('a');
        assert_eq!(handles.remove(first), Some('a'));
        let second = handles.insert('b');
        assert_eq!(handles.get(first), None);
        assert_eq!(handles.remove(first), None);
        assert_eq!(handles.get(second), Some(&'b'));
    }
}
