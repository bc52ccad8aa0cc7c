//! Sockets on an io_uring, one ring a thread.
//!
//! The owner calls [`Ring::wait`] once a turn and then [`Ring::next_event`]
//! until `None`. Per connection there is at most one receive and one send in
//! flight; a receive is asked for each time with [`Ring::receive`], so an owner
//! that does not ask holds its peer back.
//!
//! Invariants:
//! - A slot is free for reuse only when it is closed *and* none of its
//!   operations is in flight (`in_flight == 0`), so an event never reaches the
//!   successor of its connection.
//! - Memory lent to the kernel (a send's bytes, an address, the buffer pool)
//!   lives until its completion was seen; [`Ring`]'s `Drop` waits for them.
//!
//! What it does not do: no timers (the owner gives [`Ring::wait`] a time-out),
//! no partial sends to the owner (`MSG_WAITALL`, and the rest is sent again).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::buffers::{Filled, GROUP, Pool, PoolSize};

/// Submission entries. When they are full they are submitted, so this bounds
/// only how much one `io_uring_enter` carries.
const SUBMISSIONS: u32 = 1024;
/// Completion entries: enough for a burst on every connection of a thread at
/// load; the kernel keeps what does not fit (NODROP).
const COMPLETIONS: u32 = 16 * 1024;
/// Turns of 10 ms without any completion that `Drop` waits before it gives the
/// memory up (leaks it) rather than let the kernel write into freed memory.
const DRAIN_TURNS_MAX: u32 = 100;
/// Enough for the connections that a machine's ports and memory allow.
const DESCRIPTORS_WANTED: u64 = 1 << 19;
/// Connections waiting in a listener's backlog.
const BACKLOG: i32 = 4096;

/// A connection of one ring, valid until [`Ring::close`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ConnectionId(u32);

impl ConnectionId {
    /// For tables indexed by connection: small numbers, reused.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The id at a place of such a table.
    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("descriptors fit in 31 bits"))
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A listener took a connection: which, in the order of [`Ring::listen`].
    Accepted(ConnectionId, usize),
    /// A connection that [`Ring::connect`] began is there.
    Connected(ConnectionId),
    /// Octets came. Read them with [`Ring::bytes`], give the buffer back with
    /// [`Ring::recycle`], ask for more with [`Ring::receive`].
    Received(ConnectionId, Filled),
    /// All of a send was taken by the socket; the buffer comes back, emptied.
    Sent(ConnectionId, Vec<u8>),
    /// The peer closed (`None`) or the connection failed. Owner calls `close`.
    Ended(ConnectionId, Option<io::Error>),
    /// A listener fails (out of descriptors, most likely). It was armed again.
    AcceptFailed(io::Error),
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    /// FIN after what was sent.
    Orderly,
    /// RST: what is in the buffers is lost.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Accept = 0,
    Connect = 1,
    Receive = 2,
    Send = 3,
}

struct Slot {
    socket: Option<OwnedFd>,
    closing: bool,
    in_flight: u8,
    sending: Vec<u8>,
    sent_bytes: usize,
    address: Option<Box<SockAddr>>,
}

pub(crate) struct Ring {
    // Declared first, dropped last by hand: see `Drop`.
    ring: std::mem::ManuallyDrop<IoUring>,
    pool: std::mem::ManuallyDrop<Pool>,
    slots: std::mem::ManuallyDrop<Slab<Slot>>,
    listeners: Vec<OwnedFd>,
    in_flight: usize,
    /// Receives that found no buffer; armed again once some came back.
    starved: VecDeque<ConnectionId>,
    /// Listeners that failed, out of descriptors most likely: armed again when a
    /// connection was closed, or else when nothing happened for a turn, so that
    /// they do not fail in a circle.
    resting_listeners: Vec<usize>,
    wake_listeners: bool,
}

impl Ring {
    /// A ring for the calling thread alone (`SINGLE_ISSUER`).
    ///
    /// # Errors
    /// Where io_uring is switched off or too old (Linux 6.1 is needed).
    pub(crate) fn new(pool: PoolSize) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "setting up io_uring: {error}; it needs Linux 6.1 or newer and \
                         'sysctl kernel.io_uring_disabled=0'"
                    ),
                )
            })?;
        let pool = Pool::new(&ring, pool)?;
        Ok(Self {
            ring: std::mem::ManuallyDrop::new(ring),
            pool: std::mem::ManuallyDrop::new(pool),
            slots: std::mem::ManuallyDrop::new(Slab::new()),
            listeners: Vec::new(),
            in_flight: 0,
            starved: VecDeque::new(),
            resting_listeners: Vec::new(),
            wake_listeners: false,
        })
    }

    /// Accepts from `listener` from now on (made by [`listener`]).
    pub(crate) fn listen(&mut self, listener: Socket) {
        let index = self.listeners.len();
        self.listeners.push(OwnedFd::from(listener));
        self.arm_accept(index);
    }

    /// Begins a connection. `source` binds the near end first, which is needed
    /// beyond some 28,000 connections to one address.
    ///
    /// # Errors
    /// Of socket(2) and bind(2); failures of the connection itself come as
    /// [`Event::Ended`].
    pub(crate) fn connect(
        &mut self,
        to: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<ConnectionId> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            choose_port_at_connect(&socket)?;
            socket.bind(&source.into())?;
        }
        let id = self.adopt(OwnedFd::from(socket));
        let fd = self.raw(id);
        let slot = &mut self.slots[id.index()];
        let address = slot.address.insert(Box::new(SockAddr::from(to)));
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len()).build();
        self.start(Kind::Connect, id, entry);
        Ok(id)
    }

    /// Asks for the next octets. At most one at a time for each connection.
    pub(crate) fn receive(&mut self, id: ConnectionId) {
        let fd = self.raw(id);
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.start(Kind::Receive, id, entry);
    }

    /// Sends all of `bytes`. At most one at a time for each connection.
    pub(crate) fn send(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        assert!(
            !bytes.is_empty(),
            "a send of nothing never completes as a progress"
        );
        let slot = &mut self.slots[id.index()];
        assert!(slot.sending.is_empty(), "two sends at a time");
        slot.sending = bytes;
        slot.sent_bytes = 0;
        self.send_rest(id);
    }

    /// Ends the connection; `id` is no longer valid. Octets of a send in flight
    /// that the socket has not taken are lost.
    pub(crate) fn close(&mut self, id: ConnectionId, closing: Closing) {
        let slot = &mut self.slots[id.index()];
        assert!(!slot.closing, "closed twice");
        slot.closing = true;
        let socket = slot.socket.as_ref().expect("open until closed");
        if closing == Closing::Reset {
            // Failing leaves an orderly end, which the test then sees.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        if slot.in_flight > 0 {
            // Wakes the operations in flight, so that their slot can be freed.
            // It may not be connected at all: nothing to wake then.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        self.free_if_done(id);
    }

    /// Submits what was asked for and waits until something happens or the time
    /// is up.
    ///
    /// # Errors
    /// Those of io_uring_enter(2) that are no matter of a single operation.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        // Those that starve in this very turn come into `starved` later.
        for _ in 0..self.starved.len() {
            let id = self.starved.pop_front().expect("counted");
            if self.slots.get(id.index()).is_some_and(|slot| !slot.closing) {
                self.receive(id);
            }
        }
        if std::mem::take(&mut self.wake_listeners) {
            for listener in std::mem::take(&mut self.resting_listeners) {
                self.arm_accept(listener);
            }
        }
        let timespec = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timespec);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => {
                    self.wake_listeners = true;
                    Ok(())
                }
                // A signal; too many completions wait to be read.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The next thing that happened, until `None`.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            let completion = self.ring.completion().next()?;
            if let Some(event) = self.completed(&completion) {
                return Some(event);
            }
        }
    }

    /// What came with [`Event::Received`].
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.pool.bytes(filled)
    }

    /// Gives the buffer of [`Event::Received`] back.
    pub(crate) fn recycle(&mut self, filled: Filled) {
        self.pool.provide(filled);
    }

    fn completed(&mut self, completion: &cqueue::Entry) -> Option<Event> {
        let (kind, key) = unpack(completion.user_data());
        let result = completion.result();
        if kind == Kind::Accept {
            return self.accepted(key as usize, completion);
        }
        let id = ConnectionId(key);
        self.in_flight -= 1;
        let slot = &mut self.slots[id.index()];
        slot.in_flight -= 1;
        let filled = match (
            cqueue::buffer_select(completion.flags()),
            u32::try_from(result),
        ) {
            (Some(buffer), Ok(bytes)) => Some(self.pool.filled(buffer, bytes)),
            (Some(buffer), Err(_)) => Some(self.pool.filled(buffer, 0)),
            (None, _) => None,
        };
        if slot.closing {
            if let Some(filled) = filled {
                self.pool.provide(filled);
            }
            self.free_if_done(id);
            return None;
        }
        if result < 0 {
            if let Some(filled) = filled {
                self.pool.provide(filled);
            }
            if kind == Kind::Receive && result == -libc::ENOBUFS {
                self.starved.push_back(id);
                return None;
            }
            return Some(Event::Ended(
                id,
                Some(io::Error::from_raw_os_error(-result)),
            ));
        }
        match kind {
            Kind::Accept => unreachable!("handled above"),
            Kind::Connect => {
                slot.address = None;
                Some(Event::Connected(id))
            }
            Kind::Receive => match filled {
                Some(filled) if result > 0 => Some(Event::Received(id, filled)),
                empty => {
                    if let Some(filled) = empty {
                        self.pool.provide(filled);
                    }
                    Some(Event::Ended(id, None))
                }
            },
            Kind::Send => {
                slot.sent_bytes += usize::try_from(result).expect("not negative");
                if slot.sent_bytes < slot.sending.len() {
                    self.send_rest(id);
                    return None;
                }
                let mut buffer = std::mem::take(&mut slot.sending);
                buffer.clear();
                Some(Event::Sent(id, buffer))
            }
        }
    }

    fn accepted(&mut self, listener: usize, completion: &cqueue::Entry) -> Option<Event> {
        let result = completion.result();
        if !cqueue::more(completion.flags()) {
            self.in_flight -= 1;
            if result < 0 {
                self.resting_listeners.push(listener);
            } else {
                self.arm_accept(listener);
            }
        }
        if result < 0 {
            return Some(Event::AcceptFailed(io::Error::from_raw_os_error(-result)));
        }
        // SAFETY: a completion of accept that is not negative is a descriptor
        // that belongs to nobody yet; each completion is seen once.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        Some(Event::Accepted(self.adopt(socket), listener))
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnectionId {
        let index = self.slots.insert(Slot {
            socket: Some(socket),
            closing: false,
            in_flight: 0,
            sending: Vec::new(),
            sent_bytes: 0,
            address: None,
        });
        ConnectionId(u32::try_from(index).expect("descriptors fit in 31 bits"))
    }

    fn raw(&self, id: ConnectionId) -> RawFd {
        let slot = &self.slots[id.index()];
        assert!(!slot.closing, "used after close");
        slot.socket.as_ref().expect("open until closed").as_raw_fd()
    }

    fn send_rest(&mut self, id: ConnectionId) {
        let fd = self.raw(id);
        let slot = &self.slots[id.index()];
        let rest = &slot.sending[slot.sent_bytes..];
        let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(fd), rest.as_ptr(), bytes)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.start(Kind::Send, id, entry);
    }

    fn arm_accept(&mut self, listener: usize) {
        let entry = opcode::AcceptMulti::new(Fd(self.listeners[listener].as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(pack(
                Kind::Accept,
                u32::try_from(listener).expect("a handful"),
            ));
        self.in_flight += 1;
        self.push(&entry);
    }

    fn start(&mut self, kind: Kind, id: ConnectionId, entry: squeue::Entry) {
        self.slots[id.index()].in_flight += 1;
        self.in_flight += 1;
        self.push(&entry.user_data(pack(kind, id.0)));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to lives until its completion: the
        // send's bytes and the address are owned by the slot, which is freed
        // only when nothing is in flight, and a Vec's or Box's memory does not
        // move with its owner. Receives take from the pool, which outlives the
        // ring (see `Drop`). Sockets are closed only with the slot.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            if let Err(error) = self.ring.submitter().submit() {
                // Full of completions: they are taken by the owner after this.
                // With SUBMIT_ALL the entries were still consumed or remain.
                assert!(
                    matches!(
                        error.raw_os_error(),
                        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                    ),
                    "io_uring_enter failed while the queue was full: {error}"
                );
            }
        }
    }

    fn free_if_done(&mut self, id: ConnectionId) {
        if self.slots[id.index()].closing && self.slots[id.index()].in_flight == 0 {
            // Dropping the descriptor closes it. Submissions of other
            // connections are not touched: nothing of this one is queued.
            drop(self.slots.remove(id.index()));
            self.wake_listeners = true;
        }
    }
}

impl Drop for Ring {
    /// Waits until the kernel is done with all memory lent to it. If it is not
    /// after a while the memory is leaked, which is sound.
    fn drop(&mut self) {
        // Shutting sockets down ends their operations one by one. Cancelling all
        // of a ring at once takes the kernel quadratic time: minutes for 20,000.
        let sockets = self
            .slots
            .iter()
            .filter_map(|(_, slot)| slot.socket.as_ref());
        for socket in sockets.chain(&self.listeners) {
            // One that is not connected has nothing to end, or is cancelled below.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        let pause = Timespec::from(Duration::from_millis(10));
        let mut idle_turns = 0;
        while self.in_flight > 0 && idle_turns < DRAIN_TURNS_MAX {
            if idle_turns > DRAIN_TURNS_MAX / 2 {
                let cancel = CancelBuilder::any();
                let _ = self
                    .ring
                    .submitter()
                    .register_sync_cancel(Some(pause), cancel);
            }
            let arguments = SubmitArgs::new().timespec(&pause);
            let _ = self.ring.submitter().submit_with_args(1, &arguments);
            idle_turns += 1;
            while let Some(completion) = self.ring.completion().next() {
                idle_turns = 0;
                if !cqueue::more(completion.flags()) {
                    self.in_flight -= 1;
                }
                let (kind, _) = unpack(completion.user_data());
                if kind == Kind::Accept && completion.result() >= 0 {
                    // SAFETY: as in `accepted`: a descriptor that nobody has.
                    drop(unsafe { OwnedFd::from_raw_fd(completion.result()) });
                }
            }
        }
        if self.in_flight == 0 {
            // SAFETY: neither field is used after this; the ring goes before
            // the memory that was lent to it.
            unsafe {
                std::mem::ManuallyDrop::drop(&mut self.ring);
                std::mem::ManuallyDrop::drop(&mut self.pool);
                std::mem::ManuallyDrop::drop(&mut self.slots);
            }
        }
    }
}

/// Lets bind(2) take the address only. Else it looks for a port that is free for
/// any peer, in time linear in those taken: minutes for 20,000 connections.
fn choose_port_at_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, and reads as many octets as it is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A listening socket; port 0 lets the kernel choose. Threads share one rather
/// than bind one each with SO_REUSEPORT: that would let a forgotten sink take
/// half of the mail of this one, unnoticed.
///
/// # Errors
/// Of socket(2), bind(2) and listen(2), with the address in the text.
pub(crate) fn listener(address: SocketAddr) -> io::Result<Socket> {
    let made = || -> io::Result<Socket> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: one system call less for each.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    made().map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))
}

/// Raises the limit on descriptors as far as it goes, for many connections.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile).maximum;
    // Only the superuser may raise the hard limit too. Not raising it shows as a
    // failed accept or connect, with its own report.
    let wanted = allowed.map(|allowed| allowed.max(DESCRIPTORS_WANTED));
    for limit in [wanted, allowed] {
        if setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )
        .is_ok()
        {
            return;
        }
    }
}

fn pack(kind: Kind, key: u32) -> u64 {
    (kind as u64) << 32 | u64::from(key)
}

fn unpack(user_data: u64) -> (Kind, u32) {
    let kind = match user_data >> 32 {
        0 => Kind::Accept,
        1 => Kind::Connect,
        2 => Kind::Receive,
        3 => Kind::Send,
        other => unreachable!("no operation of kind {other} was ever submitted"),
    };
    (kind, user_data as u32)
}
