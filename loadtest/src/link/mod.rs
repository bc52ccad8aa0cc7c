//! A link of little bandwidth and long round trips, as a TCP relay: what comes
//! in at one end comes out at the other when the line would have brought it.
//!
//! One thread, one ring; all connections share the two lines, one for each
//! direction. The kernel takes connections at once, so the time that setting
//! one up needs is made up for: the far end is connected to after one and a
//! half round trips, and its greeting needs another half.

mod line;
mod options;
mod relay;
mod report;
mod schedule;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use options::Options;
pub use report::{LineFigures, LinkReport};
pub use schedule::{Cut, CutManner, DirectionOfCut, Window};

use crate::kernel::ring::listener;
use crate::kernel::signal;
use relay::Relay;
use schedule::{Direction, Windows};

/// A link that runs on a thread of this process.
#[derive(Debug)]
pub struct Link {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<LinkReport>>,
}

impl Link {
    /// Listens, and relays from now on.
    ///
    /// # Errors
    /// Where options contradict one another, and of listening.
    pub fn start(options: &Options) -> io::Result<Self> {
        let windows = Windows::new(options.up.clone(), options.cycle).map_err(io::Error::other)?;
        let ends = |mappings: &[(SocketAddr, SocketAddr)], direction| {
            mappings
                .iter()
                .map(|(listen, target)| Ok((listener(*listen)?, *target, direction)))
                .collect::<io::Result<Vec<_>>>()
        };
        let mut listeners = ends(&options.forwards, Direction::Up)?;
        listeners.extend(ends(&options.backwards, Direction::Down)?);
        if listeners.is_empty() {
            return Err(io::Error::other(
                "neither --forward nor --backward says what to relay",
            ));
        }
        let addresses = listeners
            .iter()
            .map(|(socket, ..)| Ok(socket.local_addr()?.as_socket().expect("bound to IP")))
            .collect::<io::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (options, stopped) = (options.clone(), Arc::clone(&stop));
        let thread = crate::thread::spawn("link".to_owned(), None, move || {
            let start = Instant::now();
            let mut relay = Relay::new(&options, windows, start)?;
            for (socket, target, direction) in listeners {
                relay.listen(socket, target, direction);
            }
            relay.run(|| {
                stopped.load(Ordering::Relaxed)
                    || options
                        .duration
                        .is_some_and(|duration| start.elapsed() >= duration)
            })
        })?;
        Ok(Self {
            addresses,
            stop,
            thread,
        })
    }

    /// Where it listens: `forwards` first, then `backwards`.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it, and reports.
    ///
    /// # Errors
    /// Of the ring.
    ///
    /// # Panics
    /// Where its thread panicked.
    pub fn finish(self) -> io::Result<LinkReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the link's thread")
    }
}

/// Runs a link until it is told to end.
///
/// # Errors
/// See [`Link::start`] and [`Link::finish`].
pub fn run(options: &Options) -> io::Result<LinkReport> {
    let link = Link::start(options)?;
    for address in link.addresses() {
        eprintln!("loadtest link: listening on {address}");
    }
    while !signal::stop_asked() && !link.thread.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
    link.finish()
}
