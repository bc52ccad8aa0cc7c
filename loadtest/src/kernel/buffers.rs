//! Receive buffers that the kernel picks from ("provided buffers"), so that a
//! connection that waits for bytes holds no buffer.
//!
//! Invariant: each buffer is either *provided* (the kernel may write to it at
//! any time, and nobody here looks at it) or *lent* (a completion named it, the
//! kernel is done with it, and it can be read until it is provided again).
//! `lent` records which; reading a buffer that is not lent panics, so a wrong
//! or stale token cannot alias a write of the kernel.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The kernel wants the ring of entries on a page boundary.
const PAGE_BYTES: usize = 4096;
/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// How much memory for receiving, and in what pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSize {
    /// Number of buffers: a power of two, at most 32,768 (the kernel's limit).
    pub(crate) buffers: u16,
    /// Octets in one buffer.
    pub(crate) buffer_bytes: u32,
}

impl Default for PoolSize {
    /// Few, so that those in use stay in the cache; large, so that a message of
    /// a mebibyte takes few turns. Running out only delays a receive.
    fn default() -> Self {
        Self {
            buffers: 64,
            buffer_bytes: 64 * 1024,
        }
    }
}

/// A filled buffer, to be given back with [`Pool::provide`].
#[derive(Debug)]
pub(crate) struct Filled {
    buffer: u16,
    bytes: u32,
}

pub(super) struct Pool {
    size: PoolSize,
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    lent: Vec<bool>,
    tail: u16,
}

impl Pool {
    /// Takes the memory and registers it. The caller keeps the ring's drop
    /// order: the ring is drained before this pool goes.
    pub(super) fn new(ring: &IoUring, size: PoolSize) -> io::Result<Self> {
        assert!(size.buffers.is_power_of_two() && size.buffers <= 1 << 15 && size.buffer_bytes > 0);
        // SAFETY: both layouts have a size above zero, asserted above.
        let entries = unsafe { alloc_zeroed(entries_layout(size)) };
        let entries = NonNull::new(entries.cast::<BufRingEntry>())
            .unwrap_or_else(|| handle_alloc_error(entries_layout(size)));
        // SAFETY: as above.
        let memory = unsafe { alloc_zeroed(memory_layout(size)) };
        let memory =
            NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(memory_layout(size)));
        let lent = vec![true; usize::from(size.buffers)];
        let mut pool = Self {
            size,
            entries,
            memory,
            lent,
            tail: 0,
        };
        // SAFETY: `entries` is page aligned, holds `buffers` entries, and lives
        // until `Drop`, which `Ring` runs only after the ring is drained.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.entries.as_ptr().addr() as u64,
                size.buffers,
                GROUP,
                0,
            )?;
        }
        for buffer in 0..size.buffers {
            pool.provide(Filled { buffer, bytes: 0 });
        }
        Ok(pool)
    }

    /// The completion says that the kernel filled `buffer` with `bytes` octets.
    pub(super) fn filled(&mut self, buffer: u16, bytes: u32) -> Filled {
        assert!(
            bytes <= self.size.buffer_bytes,
            "a completion longer than its buffer"
        );
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "the kernel named a buffer that it did not have");
        *lent = true;
        Filled { buffer, bytes }
    }

    /// What was received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        assert!(
            self.lent[usize::from(filled.buffer)],
            "a buffer that the kernel has"
        );
        assert!(
            filled.bytes <= self.size.buffer_bytes,
            "a token of another pool"
        );
        // SAFETY: the buffer is lent (asserted), so the kernel does not write
        // to it before `provide`, which needs `&mut self` and so ends this
        // borrow. Index and length are in range, asserted, and the memory was
        // zeroed when it was taken.
        unsafe {
            let start = self.memory.as_ptr().add(self.offset(filled.buffer));
            std::slice::from_raw_parts(start, filled.bytes as usize)
        }
    }

    /// Gives the buffer to the kernel again.
    pub(super) fn provide(&mut self, filled: Filled) {
        let lent = &mut self.lent[usize::from(filled.buffer)];
        assert!(*lent, "a buffer provided twice");
        *lent = false;
        let slot = usize::from(self.tail & (self.size.buffers - 1));
        // SAFETY: `slot` is below `buffers`, and the entry at the tail is ours
        // until the tail is moved beyond it: no more buffers exist than entries,
        // so the tail never laps the kernel's head. The tail field lies in the
        // reserved part of entry 0, which `set_*` do not touch.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(
                self.memory
                    .as_ptr()
                    .add(self.offset(filled.buffer))
                    .expose_provenance() as u64,
            );
            entry.set_len(self.size.buffer_bytes);
            entry.set_bid(filled.buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn offset(&self, buffer: u16) -> usize {
        usize::from(buffer) * self.size.buffer_bytes as usize
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: taken in `new` with the same layouts; the kernel is done with
        // them, since `Ring` drops the pool only after the last completion.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.size));
            dealloc(self.memory.as_ptr(), memory_layout(self.size));
        }
    }
}

fn entries_layout(size: PoolSize) -> Layout {
    let bytes = usize::from(size.buffers) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes, PAGE_BYTES).expect("at most 512 KiB")
}

fn memory_layout(size: PoolSize) -> Layout {
    let bytes = usize::from(size.buffers) * size.buffer_bytes as usize;
    Layout::from_size_align(bytes, PAGE_BYTES).expect("checked by the options")
}
