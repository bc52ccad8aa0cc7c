//! The slow line of a demonstration: two lanes of little bandwidth and a long way,
//! between TCP ports of this machine, up while a file is there.
//!
//! Octets leave one after the other at the line's bandwidth, whichever connection they
//! belong to, and arrive half a round trip later. The kernel takes connections at once,
//! so the time of setting one up is made up for: the far end is called after one and a
//! half round trips.
//!
//! What it does not do: it loses nothing and has no slow start. `loadtest link` does
//! more; it shares nothing with this program, so neither can this program with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Octets of payload in a segment with an MTU of 1,500.
const SEGMENT_BYTES: usize = 1460;
/// Segments of one direction of a connection that are under way: 64 KiB, as hosts offer.
const WINDOW_SEGMENTS: usize = 45;
/// How often is looked whether the line is up: nobody notices a twentieth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the line is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quality {
    /// Of each direction.
    pub(super) bits_per_second: u64,
    /// There and back.
    pub(super) round_trip: Duration,
}

/// What has gone over the line so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub(super) struct Traffic {
    /// Connections that were carried.
    pub(super) connections: u64,
    /// Octets away from the site.
    pub(super) sent_octets: u64,
    /// Octets to the site.
    pub(super) received_octets: u64,
    /// How often the side that called spoke after the other: what questions and answers
    /// cost, with one for each connection that was set up.
    pub(super) round_trips: u64,
}

/// Which way octets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Caller {
    /// The site calls: its octets go away from it.
    Site,
    /// The provider does.
    Provider,
}

#[derive(Debug)]
struct Lane {
    quality: Quality,
    free_at: Mutex<Option<Instant>>,
    octets: AtomicU64,
}

impl Lane {
    const fn new(quality: Quality) -> Self {
        Self {
            quality,
            free_at: Mutex::new(None),
            octets: AtomicU64::new(0),
        }
    }

    /// When these octets, given to it now, arrive.
    fn send(&self, octets: usize) -> Instant {
        let now = Instant::now();
        let bits = octets as u64 * 8;
        let sending =
            Duration::from_nanos(bits.saturating_mul(1_000_000_000) / self.quality.bits_per_second);
        let mut free_at = self.free_at.lock().expect("no panic while it is held");
        let leaves = free_at.map_or(now, |at| at.max(now)) + sending;
        *free_at = Some(leaves);
        self.octets.fetch_add(octets as u64, Ordering::Relaxed);
        leaves + self.quality.round_trip / 2
    }
}

#[derive(Debug)]
struct Shared {
    quality: Quality,
    /// Away from the site, and to it.
    lanes: [Lane; 2],
    connections: AtomicU64,
    round_trips: AtomicU64,
    interrupted: AtomicBool,
}

/// A line on a thread of its own.
#[derive(Debug)]
pub(super) struct Line {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// A line that is up while the file `sign` is there. Each way is who calls, and who
    /// is reached.
    ///
    /// # Errors
    /// Of listening, and of starting the thread.
    pub(super) fn start(
        quality: Quality,
        sign: PathBuf,
        ways: &[(Caller, SocketAddr)],
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            quality,
            lanes: [Lane::new(quality), Lane::new(quality)],
            connections: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
            interrupted: AtomicBool::new(false),
        });
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (caller, target) in ways {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            addresses.push(listener.local_addr()?);
            listeners.push((listener, *caller, *target));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let task = run(Arc::clone(&shared), sign, listeners, stopped);
        let thread = std::thread::Builder::new()
            .name("line".to_owned())
            .spawn(move || runtime.block_on(task))?;
        Ok(Self {
            shared,
            addresses,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens, in the order of the ways.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What has gone over it.
    pub(super) fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let [sent, received] = &self.shared.lanes;
        Traffic {
            connections: read(&self.shared.connections),
            sent_octets: read(&sent.octets),
            received_octets: read(&received.octets),
            round_trips: read(&self.shared.round_trips),
        }
    }

    /// SIGINT or SIGTERM came.
    pub(super) fn is_interrupted(&self) -> bool {
        self.shared.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed by it.
            let _ = thread.join();
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    sign: PathBuf,
    listeners: Vec<(std::net::TcpListener, Caller, SocketAddr)>,
    mut stopped: watch::Receiver<bool>,
) {
    // It went down: what it carries is cut.
    let (falls, is_down) = watch::channel(());
    let mut up = false;
    for (listener, caller, target) in listeners {
        let Ok(listener) = TcpListener::from_std(listener) else {
            continue;
        };
        tokio::spawn(listen(
            Arc::clone(&shared),
            listener,
            caller,
            target,
            sign.clone(),
            is_down.clone(),
        ));
    }
    tokio::spawn(heed_signals(Arc::clone(&shared)));
    loop {
        let there = is_there(&sign);
        if std::mem::replace(&mut up, there) && !there {
            falls.send_replace(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stopped.changed() => return,
        }
    }
}

fn is_there(sign: &Path) -> bool {
    sign.exists()
}

/// The command ends in good order: its servers are stopped, its files removed.
async fn heed_signals(shared: Arc<Shared>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    shared.interrupted.store(true, Ordering::Relaxed);
}

async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    caller: Caller,
    target: SocketAddr,
    sign: PathBuf,
    is_down: watch::Receiver<()>,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            // Out of descriptors: the next look may find some.
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        // While the line is down nobody answers at the far end. The site calls at once when
        // it has dialled: the last look may be older.
        if is_there(&sign) {
            tokio::spawn(carry(
                Arc::clone(&shared),
                near,
                caller,
                target,
                is_down.clone(),
            ));
        }
    }
}

async fn carry(
    shared: Arc<Shared>,
    near: TcpStream,
    caller: Caller,
    target: SocketAddr,
    mut is_down: watch::Receiver<()>,
) {
    is_down.mark_unchanged();
    shared.connections.fetch_add(1, Ordering::Relaxed);
    shared.round_trips.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(shared.quality.round_trip.mul_f64(1.5)).await;
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    // Small segments go at once on the line; here Nagle would add a wait of his own.
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let [away, home] = &shared.lanes;
    let (there, back) = match caller {
        Caller::Site => (away, home),
        Caller::Provider => (home, away),
    };
    let answered = AtomicBool::new(false);
    let ask = || {
        if answered.swap(false, Ordering::Relaxed) {
            shared.round_trips.fetch_add(1, Ordering::Relaxed);
        }
    };
    let answer = || answered.store(true, Ordering::Relaxed);
    let both = async {
        tokio::join!(
            pump(near_reader, far_writer, there, ask),
            pump(far_reader, near_writer, back, answer),
        )
    };
    tokio::select! {
        _ = both => {}
        // It is cut in the middle of whatever it carries.
        _ = is_down.changed() => {}
    }
}

/// One direction of a connection.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lane: &Lane, heard: impl Fn()) {
    let (given, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW_SEGMENTS);
    let read = async move {
        loop {
            let mut segment = vec![0; SEGMENT_BYTES];
            match from.read(&mut segment).await {
                Ok(0) | Err(_) => return,
                Ok(octets) => {
                    heard();
                    segment.truncate(octets);
                    if given.send((lane.send(octets), segment)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let write = async move {
        while let Some((arrives, segment)) = under_way.recv().await {
            tokio::time::sleep_until(arrives).await;
            if to.write_all(&segment).await.is_err() {
                return;
            }
        }
        // The other end has closed; an end that is gone cannot be told.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
