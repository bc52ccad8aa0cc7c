//! The shell of a data core: performs its operations with monoio.
//!
//! One thread, one ring, one [`DataCore`]. Tasks wait (for readiness, a sync, the
//! bell, a deadline) and then do one thing: hand the completion to the core and
//! perform what it asks for. No task holds the shell across an `await`.
//!
//! The ring is never dropped while something is under way on it: the thread runs
//! until the process exits.

mod hand_over;
mod receiving;
mod sending;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use spool_format::LogId;

use crate::core::data::DataCore;
use crate::core::{Completion, ConnectionId, CoreId, Door, ListenerId, Notice, Operation};
use crate::report::Fact;
use crate::runtime::clock::{Armed, Clock};
use crate::runtime::doorway::Doorway;
use crate::runtime::log::report;
use crate::runtime::mailboxes::{Letter, Mailboxes, Outbound};
use crate::runtime::net::{self, Bell, Ended, Listener, Progress, Socket};
use crate::runtime::outgoing::{Outgoing, Stop};
use crate::runtime::segments::Segments;
use crate::runtime::storeroom::Storeroom;
use crate::runtime::syncer::Syncer;
use crate::spool::commit::WriteFault;
use crate::spool::log::{PrepareCause, Unprepared};
use crate::spool::segment::Segment;

/// Octets that one receive takes at most. Large enough that a big body costs few
/// system calls, small enough to stay in the second-level cache. One per core.
const RECEIVE_BYTES_MAX: usize = 128 * 1024;

/// Pause after an accept that failed for want of descriptors or memory: long
/// enough for something to be freed, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long notices wait for a reader that is far behind before they are tried again.
const NOTICE_PAUSE: Duration = Duration::from_millis(1);

/// A socket and what its tasks agree on.
struct Connection {
    socket: Socket,
    /// A receive is asked for and not yet answered.
    wanted: Cell<bool>,
    /// The receiving task runs.
    receiving: Cell<bool>,
    /// The core knows nothing of it any more.
    closed: Cell<bool>,
}

/// An idle connection pays for it: a pointer and the marks, on the heap with their two counters.
const _: () = assert!(size_of::<Connection>() <= 16);

/// Everything of one data core's thread.
struct Shell {
    id: CoreId,
    core: DataCore,
    clock: Clock,
    segments: Segments,
    connections: HashMap<ConnectionId, Rc<Connection>>,
    /// For the end; the accepting tasks have their own handles.
    listeners: Vec<std::net::TcpListener>,
    /// How long the other end of a connection may give no sign of life.
    silence: Duration,
    /// Whether they listen, for the accepting tasks.
    doors: Vec<Rc<Doorway>>,
    receive_buffer: Vec<u8>,
    mailboxes: Arc<Mailboxes>,
    /// Completions of operations that completed at once.
    ready: VecDeque<Completion<'static>>,
    /// Notices that found a full mailbox, oldest first. Bounded by what the core
    /// has under way: it asks each question once.
    undelivered: VecDeque<Outbound>,
    /// A task sleeps until they are tried again.
    delivers_later: bool,
    /// A task is about to write.
    writes_later: bool,
    syncer: Syncer,
    /// The buffer of the write that is being synced.
    syncing: Option<Vec<u8>>,
    /// The deadlines for which tasks sleep.
    armed: Armed,
}

type Shared = Rc<RefCell<Shell>>;

/// What a data core's thread is started with.
pub struct Start {
    /// Its number.
    pub id: CoreId,
    /// The machine, recovered.
    pub core: DataCore,
    /// Where prepared segments are found.
    pub storeroom: Arc<Storeroom>,
    /// The segments that recovery has mapped.
    pub segments: Vec<Arc<Segment>>,
    /// Bound, in the order of the configuration.
    pub listeners: Vec<std::net::TcpListener>,
    /// Which of them listen from the start.
    pub open: Vec<Door>,
    /// How long the other end of a connection may give no sign of life.
    pub silence: Duration,
    /// Everybody's.
    pub mailboxes: Arc<Mailboxes>,
    /// The process's.
    pub clock: Clock,
    /// To be told when it serves.
    pub started: std::sync::mpsc::Sender<Result<(), String>>,
}

/// Runs a data core on the present monoio runtime. Never returns.
///
/// # Errors
/// The sockets could not be taken over by the ring.
pub async fn run(start: Start) -> io::Result<()> {
    let Start {
        id,
        core,
        storeroom,
        segments: found,
        listeners,
        open,
        silence,
        mailboxes,
        clock,
        started,
    } = start;
    let mut segments = Segments::new(LogId(id.0), storeroom, clock);
    for segment in found {
        segments.keep(segment);
    }
    let bell = Bell::new(mailboxes.data(id).bell().as_fd())?;
    let syncer = Syncer::start(id, Arc::clone(&mailboxes))?;
    let handles = listeners.iter().map(std::net::TcpListener::try_clone);
    let handles = handles.collect::<io::Result<Vec<_>>>()?;
    let doors: Vec<_> = open
        .into_iter()
        .map(|door| Rc::new(Doorway::new(door)))
        .collect();
    let shared: Shared = Rc::new(RefCell::new(Shell {
        id,
        core,
        clock,
        segments,
        connections: HashMap::new(),
        listeners: handles,
        silence,
        doors: doors.clone(),
        receive_buffer: vec![0; RECEIVE_BYTES_MAX],
        mailboxes,
        ready: VecDeque::new(),
        undelivered: VecDeque::new(),
        delivers_later: false,
        writes_later: false,
        syncer,
        syncing: None,
        armed: Armed::default(),
    }));
    for (number, listener) in listeners.into_iter().enumerate() {
        let number = ListenerId(u16::try_from(number).expect("checked by the configuration"));
        let doorway = Rc::clone(&doors[usize::from(number.0)]);
        let listener = Listener::new(listener, silence)?;
        monoio::spawn(accept(Rc::clone(&shared), listener, doorway, number));
    }
    // The receiver is gone if another core could not start; then the process ends.
    let _ = started.send(Ok(()));
    // What recovery left to do.
    turn(&shared, Completion::Timer);
    read_notices(shared, bell).await
}

/// One turn: hands in what happened, performs what follows from it.
fn turn(shared: &Shared, completion: Completion<'_>) {
    let mut shell = shared.borrow_mut();
    let now = shell.clock.now();
    let Shell { core, segments, .. } = &mut *shell;
    core.handle(now, completion, segments);
    shell.pump(shared);
}

impl Shell {
    fn pump(&mut self, shared: &Shared) {
        loop {
            while let Some(operation) = self.core.poll_but_writes() {
                self.perform(shared, operation);
            }
            let Some(completion) = self.ready.pop_front() else {
                break;
            };
            let now = self.clock.now();
            self.core.handle(now, completion, &self.segments);
        }
        if self.core.has_write() && !std::mem::replace(&mut self.writes_later, true) {
            monoio::spawn(write(Rc::clone(shared)));
        }
        self.deliver_notices(shared);
        self.arm(shared);
    }

    /// A sync has ended. Where as many wait for the next one as this one has told, it begins
    /// before they are told: their next messages come too late for it anyway.
    fn synced(&mut self, shared: &Shared, result: Result<(), WriteFault>) {
        let octets = self.syncing.take().expect("a sync was under way");
        let now = self.clock.now();
        let completion = Completion::Written { result, octets };
        self.core.handle(now, completion, &self.segments);
        while self.core.has_full_write() {
            let write = self.core.next_write().expect("it has one");
            self.perform(shared, write);
        }
        self.pump(shared);
    }

    /// Does what is to be written, and what follows from it.
    fn write(&mut self, shared: &Shared) {
        self.writes_later = false;
        while let Some(operation) = self.core.poll() {
            self.perform(shared, operation);
        }
        self.pump(shared);
    }

    fn perform(&mut self, shared: &Shared, operation: Operation) {
        match operation {
            Operation::Receive { connection } => {
                let Some(socket) = self.connections.get(&connection) else {
                    return;
                };
                socket.wanted.set(true);
                if !socket.receiving.replace(true) {
                    monoio::spawn(receiving::receive(
                        Rc::clone(shared),
                        Rc::clone(socket),
                        connection,
                    ));
                }
            }
            Operation::Send { connection, pieces } => {
                self.send(shared, connection, Outgoing::new(pieces));
            }
            Operation::Connect {
                connection,
                to,
                from,
            } => match Socket::connect(&to, from, self.silence) {
                Ok(socket) => {
                    let socket = self.keep(connection, socket);
                    monoio::spawn(connect(Rc::clone(shared), socket, connection));
                }
                Err(error) => self.ready.push_back(Completion::Connected {
                    connection,
                    result: Err(error.to_string()),
                }),
            },
            Operation::HandOver {
                connection,
                core,
                baton,
            } => self.hand_over(connection, core, baton),
            Operation::Doubt { connection } => {
                let dead = (self.connections.get(&connection))
                    .is_some_and(|socket| !socket.socket.may_live(self.silence));
                if dead {
                    self.drop_connection(connection);
                    self.ready.push_back(Completion::Broken {
                        connection,
                        why: "its line has broken".to_owned(),
                        heard: &[],
                    });
                }
            }
            Operation::Close { connection } => {
                if let Some(socket) = self.connections.remove(&connection) {
                    socket.closed.set(true);
                    if socket.socket.finish(&mut self.receive_buffer) == Ended::PeerGoesOn {
                        monoio::spawn(receiving::linger(Rc::clone(shared), socket));
                    }
                }
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => match self.segments.write(segment, offset, &octets, durability) {
                Err(fault) => {
                    self.ready.push_back(Completion::Written {
                        result: Err(fault),
                        octets,
                    });
                }
                Ok(None) => {
                    self.ready.push_back(Completion::Written {
                        result: Ok(()),
                        octets,
                    });
                }
                Ok(Some(segment)) => {
                    self.syncer.sync(segment);
                    let before = self.syncing.replace(octets);
                    assert!(before.is_none(), "one sync at a time");
                }
            },
            Operation::Listen { listener, door } => {
                let number = usize::from(listener.0);
                match door {
                    Door::Closed => {
                        self.doors[number].set(Door::Closed);
                        net::refuse(&self.listeners[number]);
                    }
                    Door::Open => match net::listen(&self.listeners[number]) {
                        Ok(()) => self.doors[number].set(Door::Open),
                        Err(error) => {
                            let what = format!(
                                "listening again failed ({error}); that address takes no mail \
                                 until a restart"
                            );
                            report(self.id, &Fact::Trouble { what });
                        }
                    },
                }
            }
            Operation::Forget { segment } => self.segments.forget(segment),
            Operation::Report(fact) => report(self.id, &fact),
            operation @ (Operation::TellControl(_)
            | Operation::TellCore { .. }
            | Operation::Stopped) => {
                if matches!(operation, Operation::Stopped) {
                    // A ring outlives its process for a moment, and with it what it
                    // waits on: nobody is to connect to a server that is gone.
                    self.listeners.iter().for_each(net::refuse);
                }
                self.undelivered.push_back(Outbound::Operation(operation));
            }
        }
    }

    fn send(&mut self, shared: &Shared, connection: ConnectionId, mut outgoing: Outgoing) {
        let Some(socket) = self.connections.get(&connection) else {
            return;
        };
        match outgoing.advance(&socket.socket, &self.segments) {
            Ok(Stop::Done) => self.ready.push_back(Completion::Sent { connection }),
            Ok(stop) => {
                let (shared, socket) = (Rc::clone(shared), Rc::clone(socket));
                monoio::spawn(sending::send(shared, socket, connection, outgoing, stop));
            }
            Err(error) => self.send_failed(connection, &error),
        }
    }

    /// A connection to which nothing can be sent any more: with what it has brought, it is
    /// at its end. Where the peer has reset it, what came before that is still there.
    fn send_failed(&mut self, connection: ConnectionId, error: &io::Error) {
        let heard = match self.connections.get(&connection) {
            Some(socket) => match socket.socket.receive(&mut self.receive_buffer) {
                Ok(Progress::Octets(octets)) => octets,
                Ok(Progress::Wait) | Err(_) => 0,
            },
            None => 0,
        };
        self.drop_connection(connection);
        let completion = Completion::Broken {
            connection,
            why: error.to_string(),
            heard: &self.receive_buffer[..heard],
        };
        let now = self.clock.now();
        self.core.handle(now, completion, &self.segments);
    }

    fn keep(&mut self, connection: ConnectionId, socket: Socket) -> Rc<Connection> {
        let socket = Rc::new(Connection {
            socket,
            wanted: Cell::new(false),
            receiving: Cell::new(false),
            closed: Cell::new(false),
        });
        let before = self.connections.insert(connection, Rc::clone(&socket));
        assert!(
            before.is_none(),
            "connection {} was given twice",
            connection.0
        );
        socket
    }

    fn drop_connection(&mut self, connection: ConnectionId) {
        if let Some(socket) = self.connections.remove(&connection) {
            socket.closed.set(true);
            socket.socket.hang_up();
        }
    }

    /// Leaves notices with the other threads; what finds no room is kept.
    fn deliver_notices(&mut self, shared: &Shared) {
        while let Some(outbound) = self.undelivered.pop_front() {
            if let Err(outbound) = self.mailboxes.deliver(self.id, outbound) {
                self.undelivered.push_front(*outbound);
                if !std::mem::replace(&mut self.delivers_later, true) {
                    let shared = Rc::clone(shared);
                    monoio::spawn(async move {
                        monoio::time::sleep(NOTICE_PAUSE).await;
                        let mut shell = shared.borrow_mut();
                        shell.delivers_later = false;
                        shell.deliver_notices(&shared);
                    });
                }
                return;
            }
        }
    }

    /// Lets a task sleep until the core's deadline, unless one does already.
    /// Tasks of later deadlines stay asleep; their timer finds nothing to do.
    fn arm(&mut self, shared: &Shared) {
        let Some(deadline) = self.core.deadline() else {
            return;
        };
        if !self.armed.arm(deadline) {
            return;
        }
        let pause = deadline.since(self.clock.now().instant);
        let shared = Rc::clone(shared);
        monoio::spawn(async move {
            monoio::time::sleep(pause).await;
            shared.borrow_mut().armed.woken(deadline);
            turn(&shared, Completion::Timer);
        });
    }
}

/// Writes behind the tasks that are awake by now: a new task is the last of them, and what
/// they hand in shares its sync.
async fn write(shared: Shared) {
    shared.borrow_mut().write(&shared);
}

/// Takes connections, for ever. Never dropped: a dropped accept leaks a socket.
async fn accept(shared: Shared, listener: Listener, doorway: Rc<Doorway>, number: ListenerId) {
    loop {
        doorway.opened().await;
        match listener.accept().await {
            Ok((socket, peer)) => {
                let local = socket.local_address().unwrap_or(peer);
                let connection = {
                    let mut shell = shared.borrow_mut();
                    let connection = shell.core.admit();
                    shell.keep(connection, socket);
                    connection
                };
                turn(
                    &shared,
                    Completion::Accepted {
                        connection,
                        listener: number,
                        peer,
                        local,
                    },
                );
            }
            // It does not listen any more.
            Err(_) if !doorway.is_open() => {}
            Err(error) => {
                let resources = matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                );
                if resources {
                    let id = shared.borrow().id;
                    let what = format!(
                        "taking a connection failed ({error}); the next attempt is in {} ms; \
                         raise the limit of open files (LimitNOFILE=) or lower limits.sessions",
                        ACCEPT_PAUSE.as_millis()
                    );
                    report(id, &Fact::Trouble { what });
                }
                // Other errors are the client's, which went away before its turn; or they
                // stay, and must not keep this thread from everything else.
                if resources || error.raw_os_error() != Some(libc::ECONNABORTED) {
                    monoio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Waits for the outcome of a connect.
async fn connect(shared: Shared, connection: Rc<Connection>, id: ConnectionId) {
    let waited = connection.socket.writable().await;
    if connection.closed.get() {
        return;
    }
    let result = waited
        .and_then(|()| connection.socket.connected())
        .map_err(|e| e.to_string());
    if result.is_err() {
        shared.borrow_mut().drop_connection(id);
    }
    turn(
        &shared,
        Completion::Connected {
            connection: id,
            result,
        },
    );
}

/// Reads notices and the outcomes of syncs, for ever. Both ring the same bell; one that
/// rings between the look and the wait is heard by the wait.
async fn read_notices(shared: Shared, bell: Bell) -> io::Result<()> {
    let mailboxes = Arc::clone(&shared.borrow().mailboxes);
    let id = shared.borrow().id;
    let mailbox = mailboxes.data(id);
    loop {
        let synced = shared.borrow().syncer.outcome();
        if let Some(result) = synced {
            shared.borrow_mut().synced(&shared, result);
        }
        while let Some(letter) = mailbox.pop() {
            match letter {
                Letter::Notice(notice) => {
                    let notice = prepare(&shared, notice);
                    turn(&shared, Completion::Notice(notice));
                }
                Letter::HandOver { baton, socket } => hand_over::take_over(&shared, baton, socket),
            }
        }
        if mailbox.may_sleep() {
            bell.wait().await;
        }
    }
}

/// What a notice needs from the shell before the core may act on it: a prepared
/// segment is taken from the storeroom.
fn prepare(shared: &Shared, notice: Notice) -> Notice {
    let Notice::SegmentReady { segment } = notice else {
        return notice;
    };
    match shared.borrow_mut().segments.take(segment) {
        Ok(()) => notice,
        Err(why) => {
            let cause = PrepareCause::System { os_error: None };
            let why = Unprepared { cause, why };
            Notice::SegmentFailed { segment, why }
        }
    }
}
