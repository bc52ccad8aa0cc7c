//! Where an accepting task waits while its listener does not listen.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::core::Door;

/// One listener's, on one thread.
#[derive(Debug)]
pub(super) struct Doorway {
    door: Cell<Door>,
    waits: RefCell<Option<Waker>>,
}

impl Doorway {
    pub(super) const fn new(door: Door) -> Self {
        Self {
            door: Cell::new(door),
            waits: RefCell::new(None),
        }
    }

    /// Opens or closes it.
    pub(super) fn set(&self, door: Door) {
        self.door.set(door);
        if let (Door::Open, Some(waker)) = (door, self.waits.take()) {
            waker.wake();
        }
    }

    /// Whether the listener listens.
    pub(super) fn is_open(&self) -> bool {
        self.door.get() == Door::Open
    }

    /// Waits until it does. One task at a time.
    pub(super) async fn opened(&self) {
        poll_fn(|context| {
            if self.is_open() {
                return Poll::Ready(());
            }
            *self.waits.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
