//! One thread of the generator: its ring, its sessions, its turns.
//!
//! A *lane* is a place for one session at a time. When the session ends, the
//! lane opens the next, as long as there is work.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::{Client, Standing};
use crate::dialogue::{Dialogue, Purpose};
use crate::kernel::buffers::PoolSize;
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring};
use crate::kernel::signal;
use crate::tally::Tally;
use crate::tls::{Tls, Wire};

use super::source::Source;

/// The longest turn: how late a stop, a time-out or a new connection may be.
const TURN_MAX: Duration = Duration::from_millis(50);
/// How often slow sessions send a piece.
const SLOW_TICK: Duration = Duration::from_millis(100);
/// Before a lane tries again after a failed connection.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Buffers that stay with a session between sends; larger ones are given back
/// to the allocator, so that a rare mebibyte does not stay with each session.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// How the lanes of a thread send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    /// Lanes of this thread.
    pub(super) count: usize,
    /// The first so many of them are slow.
    pub(super) slow: usize,
    /// Octets a second of a slow one.
    pub(super) slow_rate: u64,
    pub(super) purpose: Purpose,
    pub(super) timeout: Duration,
    /// Connections failed in a row before the thread gives up.
    pub(super) failures_max: u32,
}

struct Session {
    lane: usize,
    client: Client,
    wire: Wire,
    sending: bool,
    parked: bool,
    last_progress: Instant,
}

/// Runs the lanes until their work is done.
pub(super) struct Thread<'a> {
    ring: Ring,
    server: SocketAddr,
    dialogue: &'a Dialogue,
    lanes: Lanes,
    source: Source,
    tally: Tally,
    sessions: Vec<Option<Session>>,
    open: usize,
    /// Lanes without a session, and when they may try.
    closed: VecDeque<(Instant, usize)>,
    /// Sessions that wait for work to become due.
    parked: VecDeque<ConnectionId>,
    /// Connections of slow lanes, to look at each tick.
    slow: Vec<ConnectionId>,
    next_slow_tick: Instant,
    next_timeout_scan: Instant,
    failures_in_a_row: u32,
    tls: Arc<ClientConfig>,
    /// What a receive brought, without TLS.
    plain: Vec<u8>,
}

impl<'a> Thread<'a> {
    /// # Errors
    /// Of setting up the ring.
    pub(super) fn new(
        server: SocketAddr,
        dialogue: &'a Dialogue,
        lanes: Lanes,
        source: Source,
        tls: Arc<ClientConfig>,
        start: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            // Replies are short; a greeting and an EHLO reply fit in a kibibyte.
            ring: Ring::new(PoolSize {
                buffers: 512,
                buffer_bytes: 4096,
            })?,
            server,
            dialogue,
            lanes,
            source,
            tally: Tally::new(start),
            sessions: Vec::new(),
            open: 0,
            closed: (0..lanes.count).map(|lane| (start, lane)).collect(),
            parked: VecDeque::new(),
            slow: Vec::new(),
            next_slow_tick: start,
            next_timeout_scan: start,
            failures_in_a_row: 0,
            tls,
            plain: Vec::new(),
        })
    }

    /// # Errors
    /// Of the ring as a whole; what happens to connections is in the tally.
    pub(super) fn run(mut self) -> io::Result<Tally> {
        loop {
            let now = Instant::now();
            self.open_lanes(now);
            if self.open == 0 && (self.source.exhausted(now) || self.gave_up()) {
                return Ok(self.tally);
            }
            self.ring.wait(self.turn_time(now))?;
            while let Some(event) = self.ring.next_event() {
                self.event(event);
            }
            let now = Instant::now();
            self.wake_parked(now);
            self.tick_slow(now);
            self.scan_timeouts(now);
        }
    }

    /// Without lanes: only time passes, for the connections held besides.
    pub(super) fn wait_until(self, until: Option<Instant>) -> Tally {
        while !signal::stop_asked() && until.is_some_and(|until| Instant::now() < until) {
            std::thread::sleep(TURN_MAX);
        }
        self.tally
    }

    fn gave_up(&self) -> bool {
        self.failures_in_a_row >= self.lanes.failures_max
    }

    fn turn_time(&self, now: Instant) -> Duration {
        let mut turn = TURN_MAX;
        if !self.parked.is_empty() {
            let due = self.source.due().unwrap_or(now);
            turn = turn.min(due.saturating_duration_since(now));
        }
        if let Some((at, _)) = self.closed.front() {
            turn = turn.min(at.saturating_duration_since(now));
        }
        turn
    }

    fn open_lanes(&mut self, now: Instant) {
        while let Some((at, lane)) = self.closed.front().copied() {
            if self.source.exhausted(now) || self.gave_up() {
                self.closed.clear();
                return;
            }
            if at > now {
                return;
            }
            self.closed.pop_front();
            match self.ring.connect(self.server, None) {
                Ok(id) => {
                    self.open += 1;
                    let session = Session {
                        lane,
                        client: Client::new(self.lanes.purpose),
                        wire: Wire::new(),
                        sending: false,
                        parked: false,
                        last_progress: now,
                    };
                    if self.sessions.len() <= id.index() {
                        self.sessions.resize_with(id.index() + 1, || None);
                    }
                    self.sessions[id.index()] = Some(session);
                    if lane < self.lanes.slow {
                        self.slow.push(id);
                    }
                }
                Err(error) => {
                    self.tally.failed(&error);
                    self.connection_failed(now, lane);
                }
            }
        }
    }

    fn connection_failed(&mut self, now: Instant, lane: usize) {
        self.tally.connections_failed += 1;
        self.failures_in_a_row += 1;
        self.closed.push_back((now + RETRY_PAUSE, lane));
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(id) => {
                self.tally.connections_opened += 1;
                if self.dialogue.tls == Tls::Implicit {
                    self.begin_tls(id);
                    self.flush(id);
                }
                self.ring.receive(id);
            }
            Event::Received(id, filled) => {
                let session = self.sessions[id.index()].as_mut().expect("open");
                session.last_progress = now;
                let bytes = self.ring.bytes(&filled);
                let Session { client, wire, .. } = session;
                let (dialogue, tally) = (self.dialogue, &mut self.tally);
                let received = wire.receive(bytes, &mut self.plain);
                let result = received.map(|plain| {
                    wire.write(|out| client.receive(now, plain, dialogue, tally, out));
                });
                self.ring.recycle(filled);
                if let Err(error) = result {
                    return self.ended(now, id, Some(&error));
                }
                self.secure(id);
                self.advance(now, id, true);
            }
            Event::Sent(id, buffer) => {
                let session = self.sessions[id.index()].as_mut().expect("open");
                session.sending = false;
                session.last_progress = now;
                if session.wire.out.is_empty() && buffer.capacity() <= KEPT_BYTES_MAX {
                    session.wire.out = buffer;
                }
                self.flush(id);
            }
            Event::Ended(id, error) => self.ended(now, id, error.as_ref()),
            Event::Accepted(..) | Event::AcceptFailed(_) => unreachable!("nothing listens here"),
        }
    }

    /// Begins TLS if the server said so.
    fn secure(&mut self, id: ConnectionId) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        if session.client.take_start_of_tls() {
            self.begin_tls(id);
            let session = self.sessions[id.index()].as_mut().expect("open");
            let Session { client, wire, .. } = session;
            wire.write(|out| client.secured(self.dialogue, out));
        }
    }

    fn begin_tls(&mut self, id: ConnectionId) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        if let Err(error) = session.wire.begin_client(&self.tls) {
            self.tally.failed(&error);
        }
    }

    /// Lets the session do what it can, and looks how it stands.
    fn advance(&mut self, now: Instant, id: ConnectionId, received: bool) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        let Session { client, wire, .. } = session;
        let (dialogue, source) = (self.dialogue, &mut self.source);
        match wire.write(|out| client.pump(now, dialogue, source, out)) {
            Standing::Over => return self.over(now, id),
            Standing::Idle if !session.parked => {
                session.parked = true;
                self.parked.push_back(id);
            }
            Standing::Idle | Standing::Waits => {}
        }
        self.flush(id);
        if received {
            self.ring.receive(id);
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        let slow = session.lane < self.lanes.slow;
        if !slow && !session.sending && !session.wire.out.is_empty() {
            session.sending = true;
            self.ring.send(id, std::mem::take(&mut session.wire.out));
        }
    }

    fn ended(&mut self, now: Instant, id: ConnectionId, error: Option<&io::Error>) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        session.client.lost(&mut self.tally);
        if let Some(error) = error {
            self.tally.failed(error);
        }
        self.over(now, id);
    }

    /// The session is over: its lane opens the next, after a pause if this one
    /// got nowhere.
    fn over(&mut self, now: Instant, id: ConnectionId) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        let (lane, established) = (session.lane, session.client.is_established());
        self.close(id);
        if established {
            self.failures_in_a_row = 0;
            self.closed.push_front((now, lane));
        } else {
            self.connection_failed(now, lane);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.sessions[id.index()] = None;
        self.open -= 1;
        self.slow.retain(|slow| *slow != id);
        self.ring.close(id, Closing::Orderly);
        // An id in `parked` is stale now; `wake_parked` sees that by the flag.
    }

    fn wake_parked(&mut self, now: Instant) {
        while let Some(id) = self.parked.front().copied() {
            let exhausted = self.source.exhausted(now);
            if !exhausted && self.source.due().is_some_and(|due| due > now) {
                return;
            }
            self.parked.pop_front();
            if let Some(session) = &mut self.sessions[id.index()]
                && std::mem::take(&mut session.parked)
            {
                self.advance(now, id, false);
            }
        }
    }

    fn tick_slow(&mut self, now: Instant) {
        if self.slow.is_empty() || now < self.next_slow_tick {
            return;
        }
        self.next_slow_tick = now + SLOW_TICK;
        let rate = self.lanes.slow_rate as f64 * SLOW_TICK.as_secs_f64();
        let piece = (rate as usize).max(1);
        for id in &self.slow {
            let session = self.sessions[id.index()]
                .as_mut()
                .expect("removed when closed");
            let out = &mut session.wire.out;
            if !session.sending && !out.is_empty() {
                let rest = out.split_off(piece.min(out.len()));
                session.sending = true;
                session.last_progress = now;
                self.ring.send(*id, std::mem::replace(out, rest));
            }
        }
    }

    fn scan_timeouts(&mut self, now: Instant) {
        if now < self.next_timeout_scan {
            return;
        }
        self.next_timeout_scan = now + Duration::from_secs(1).min(self.lanes.timeout / 4);
        for index in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[index] else {
                continue;
            };
            if session.parked || now - session.last_progress < self.lanes.timeout {
                continue;
            }
            session.client.lost(&mut self.tally);
            self.tally.timeouts += 1;
            self.over(now, ConnectionId::from_index(index));
        }
    }
}
