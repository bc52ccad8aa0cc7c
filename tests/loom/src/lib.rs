//! Sources of the program, on loom's atomics.
//!
//! `crate::shared` is the one place where the program takes its atomics from. Here it is
//! loom's; the files themselves are those of the program, not copies. What is not made of
//! atomics is modelled: the queue of a mailbox by a list and a length that is as weakly
//! ordered as the real one's, the bell by a flag and a condition. Under `cfg(test)` there is
//! nothing here: the tests beside the sources are those of the program.

#![cfg(not(test))]

/// See `src/shared.rs` of the program.
pub mod shared {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;
    use std::collections::VecDeque;

    // An atomic of which every access is sequentially consistent. Loom takes such accesses
    // for no more than acquire and release, and would see what cannot be; with a fence
    // before and behind each they are what they should be.
    macro_rules! sequential {
        ($name:ident, $value:ty) => {
            /// As that of the standard library, for sequentially consistent accesses.
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                /// As that of the standard library.
                #[must_use]
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                /// As that of the standard library.
                pub fn load(&self, order: Ordering) -> $value {
                    sequentially(order, || self.0.load(order))
                }

                /// As that of the standard library.
                pub fn store(&self, value: $value, order: Ordering) {
                    sequentially(order, || self.0.store(value, order));
                }

                /// As that of the standard library.
                ///
                /// # Errors
                /// What was there.
                pub fn compare_exchange(
                    &self,
                    old: $value,
                    new: $value,
                    set: Ordering,
                    fetch: Ordering,
                ) -> Result<$value, $value> {
                    sequentially(set, || self.0.compare_exchange(old, new, set, fetch))
                }

                /// As that of the standard library.
                ///
                /// # Errors
                /// What was there.
                pub fn compare_exchange_weak(
                    &self,
                    old: $value,
                    new: $value,
                    set: Ordering,
                    fetch: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(old, new, set, fetch)
                }
            }
        };
    }

    sequential!(AtomicU16, u16);
    sequential!(AtomicU64, u64);

    fn sequentially<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
        assert_eq!(order, Ordering::SeqCst, "the others are loom's own");
        fence(Ordering::SeqCst);
        let result = access();
        fence(Ordering::SeqCst);
        result
    }

    /// With the names that the standard library has by now.
    #[derive(Debug)]
    pub struct AtomicU32(loom::sync::atomic::AtomicU32);

    impl AtomicU32 {
        /// As that of the standard library.
        #[must_use]
        pub fn new(value: u32) -> Self {
            Self(loom::sync::atomic::AtomicU32::new(value))
        }

        /// As that of the standard library.
        pub fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        /// As that of the standard library.
        pub fn store(&self, value: u32, order: Ordering) {
            self.0.store(value, order);
        }

        /// As that of the standard library.
        pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            self.0.fetch_add(value, order)
        }

        /// As that of the standard library.
        pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            self.0.fetch_sub(value, order)
        }

        /// As that of the standard library.
        ///
        /// # Errors
        /// What was there, if `change` wants nothing.
        pub fn try_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            change: impl FnMut(u32) -> Option<u32>,
        ) -> Result<u32, u32> {
            self.0.fetch_update(set, fetch, change)
        }
    }

    /// Bounded. A push releases and a pop acquires, as those of crossbeam do; whether it
    /// is empty is a relaxed load, which is less than crossbeam promises.
    #[derive(Debug)]
    pub struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        length: AtomicUsize,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        /// An empty one.
        #[must_use]
        pub fn new(capacity: usize) -> Self {
            Self {
                items: Mutex::new(VecDeque::new()),
                length: AtomicUsize::new(0),
                capacity,
            }
        }

        /// One more at the end.
        ///
        /// # Errors
        /// It is full.
        pub fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("nobody panics");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            self.length.fetch_add(1, Ordering::Release);
            Ok(())
        }

        /// The oldest.
        pub fn pop(&self) -> Option<T> {
            let mut items = self.items.lock().expect("nobody panics");
            let item = items.pop_front()?;
            self.length.fetch_sub(1, Ordering::Release);
            Some(item)
        }

        /// Whether there is none.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.length.load(Ordering::Relaxed) == 0
        }
    }
}

#[path = "../../../src/runtime/mailbox.rs"]
pub mod mailbox;
#[path = "../../../src/queue/permits.rs"]
pub mod permits;
#[path = "../../../src/queue/sessions.rs"]
pub mod sessions;

/// Where the sources look for it.
pub mod runtime {
    /// See `src/runtime/bell.rs` of the program: an eventfd there.
    pub mod bell {
        use loom::sync::{Condvar, Mutex};

        /// Rung, and answered by waiting for it.
        #[derive(Debug)]
        pub struct Bell {
            rung: Mutex<bool>,
            changed: Condvar,
        }

        impl Bell {
            /// One that was not rung.
            ///
            /// # Errors
            /// None here.
            pub fn new() -> std::io::Result<Self> {
                Ok(Self {
                    rung: Mutex::new(false),
                    changed: Condvar::new(),
                })
            }

            /// Rings.
            pub fn ring(&self) {
                *self.rung.lock().expect("nobody panics") = true;
                self.changed.notify_one();
            }

            /// Waits for a ring. One that came before counts.
            pub fn wait(&self) {
                let mut rung = self.rung.lock().expect("nobody panics");
                while !*rung {
                    rung = self.changed.wait(rung).expect("nobody panics");
                }
                *rung = false;
            }
        }
    }
}
