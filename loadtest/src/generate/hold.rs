//! Connections held beside the load, to see what each costs the server.
//!
//! A connection that is held owns no buffer here either: only its socket, its
//! machine and a receive that waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::{Client, Standing};
use crate::dialogue::{Dialogue, Next, Purpose, REPLY_TIMEOUT, Work};
use crate::kernel::buffers::PoolSize;
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring};
use crate::kernel::signal;
use crate::tally::Tally;
use crate::tls::{Tls, Wire};

/// The longest turn: how late a stop may be seen.
const TURN_MAX: Duration = Duration::from_millis(50);

/// Connections that say EHLO and then nothing, until told to stop.
pub(super) struct Hold<'a> {
    ring: Ring,
    server: SocketAddr,
    dialogue: &'a Dialogue,
    tls: Arc<ClientConfig>,
    sessions: Vec<Option<(Client, Wire)>>,
    sending: Vec<bool>,
    plain: Vec<u8>,
    tally: Tally,
    opened: usize,
    ready: usize,
}

/// Connections that are being opened at a time: less than a usual backlog.
const OPENING_MAX: usize = 64;
/// Connections from one source address. The kernel tries the even half of the
/// usual 28,000 ephemeral ports first; once that is full, each connect looks
/// through all of it.
const PORTS_OF_A_SOURCE: usize = 10_000;

struct NoWork;

impl Work for NoWork {
    fn next(&mut self, _: Instant) -> Next {
        Next::Later
    }
}

impl<'a> Hold<'a> {
    pub(super) fn new(
        server: SocketAddr,
        dialogue: &'a Dialogue,
        tls: Arc<ClientConfig>,
        start: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::new(PoolSize {
                buffers: 128,
                buffer_bytes: 4096,
            })?,
            server,
            dialogue,
            tls,
            sessions: Vec::new(),
            sending: Vec::new(),
            plain: Vec::new(),
            tally: Tally::new(start),
            opened: 0,
            ready: 0,
        })
    }

    /// Opens `count` connections, calls `held` once with how many there are,
    /// and keeps them until `stop`.
    ///
    /// # Errors
    /// Of the ring, or of making sockets (descriptors, ports).
    pub(super) fn run(
        mut self,
        count: usize,
        held: impl FnOnce(usize),
        stop: impl Fn() -> bool,
    ) -> io::Result<Tally> {
        let mut held = Some(held);
        let (mut waiting, mut patience) = (0, Instant::now());
        while !stop() && !signal::stop_asked() {
            while self.opened < count && waiting < OPENING_MAX {
                self.open()?;
                waiting += 1;
            }
            self.ring.wait(TURN_MAX)?;
            let before = self.ready + self.gone();
            while let Some(event) = self.ring.next_event() {
                self.event(event);
            }
            let settled = self.ready + self.gone() - before;
            waiting -= settled.min(waiting);
            if settled > 0 {
                patience = Instant::now();
            }
            // A server that answers no more has as many as it will have.
            let done = self.ready + self.gone() >= count || patience.elapsed() > REPLY_TIMEOUT;
            if done && let Some(held) = held.take() {
                held(self.ready);
            }
        }
        Ok(self.tally)
    }

    fn gone(&self) -> usize {
        (self.tally.connections_failed + self.tally.connections_lost) as usize
    }

    fn open(&mut self) -> io::Result<()> {
        let id = self
            .ring
            .connect(self.server, source_address(self.server, self.opened))?;
        self.opened += 1;
        if self.sessions.len() <= id.index() {
            self.sessions.resize_with(id.index() + 1, || None);
            self.sending.resize(id.index() + 1, false);
        }
        self.sessions[id.index()] = Some((Client::new(Purpose::Hold), Wire::new()));
        self.sending[id.index()] = false;
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(id) => {
                self.tally.connections_opened += 1;
                let (_, wire) = self.sessions[id.index()].as_mut().expect("open");
                if self.dialogue.tls == Tls::Implicit
                    && let Err(error) = wire.begin_client(&self.tls)
                {
                    self.tally.failed(&error);
                }
                self.flush(id);
                self.ring.receive(id);
            }
            Event::Received(id, filled) => {
                let (client, wire) = self.sessions[id.index()].as_mut().expect("open");
                let was_ready = client.is_established();
                let bytes = self.ring.bytes(&filled);
                let (dialogue, tally) = (self.dialogue, &mut self.tally);
                let received = wire.receive(bytes, &mut self.plain);
                let standing = received.map(|plain| {
                    wire.write(|out| client.receive(now, plain, dialogue, tally, out));
                    if client.take_start_of_tls() {
                        wire.begin_client(&self.tls)
                            .unwrap_or_else(|error| tally.failed(&error));
                        wire.write(|out| client.secured(dialogue, out));
                    }
                    wire.write(|out| client.pump(now, dialogue, &mut NoWork, out))
                });
                self.ring.recycle(filled);
                self.ready += usize::from(!was_ready && client.is_established());
                match standing {
                    Ok(Standing::Over) => return self.close(id),
                    Ok(Standing::Waits | Standing::Idle) => {}
                    Err(error) => {
                        client.lost(&mut self.tally);
                        self.tally.failed(&error);
                        return self.close(id);
                    }
                }
                self.flush(id);
                self.ring.receive(id);
            }
            Event::Sent(id, _) => {
                self.sending[id.index()] = false;
                self.flush(id);
            }
            Event::Ended(id, _) => {
                let (client, _) = self.sessions[id.index()].as_mut().expect("open");
                client.lost(&mut self.tally);
                self.close(id);
            }
            Event::Accepted(..) | Event::AcceptFailed(_) => unreachable!("nothing listens here"),
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let (_, wire) = self.sessions[id.index()].as_mut().expect("open");
        if !wire.out.is_empty() && !self.sending[id.index()] {
            self.sending[id.index()] = true;
            self.ring.send(id, std::mem::take(&mut wire.out));
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.sessions[id.index()] = None;
        self.ring.close(id, Closing::Orderly);
    }
}

/// Loopback has a whole network of source addresses; elsewhere the kernel's
/// choice is the only one we know.
fn source_address(server: SocketAddr, number: usize) -> Option<SocketAddr> {
    match server {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => {
            let host = u8::try_from(1 + number / PORTS_OF_A_SOURCE).ok()?;
            Some(SocketAddr::from(([127, 0, 0, host], 0)))
        }
        _ => None,
    }
}
