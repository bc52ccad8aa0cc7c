//! The relay itself: pairs of sockets, the two lines between them, and timers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::line::{Line, LineOptions};
use super::schedule::{Cut, CutManner, Direction, Windows};
use super::{LineFigures, LinkReport, Options};
use crate::kernel::buffers::{Filled, PoolSize};
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring};

/// The longest turn: how late a stop or a closing window may be seen.
const TURN_MAX: Duration = Duration::from_millis(20);

/// One connection over the link: the near socket, which a client opened, and the
/// far one, which we opened to the target.
struct Pair {
    number: u64,
    near: Option<ConnectionId>,
    far: Option<ConnectionId>,
    /// Which way the client's octets go.
    clients_direction: Direction,
    target: SocketAddr,
    connected: bool,
    /// Towards the far end, and towards the near one.
    flows: [Flow; 2],
    /// Which way the last octets went.
    last_direction: Option<Direction>,
    cut: Cut,
    /// Cut in silence: whatever comes goes nowhere.
    dead: bool,
}

/// What is under way in one direction of a pair.
#[derive(Default)]
struct Flow {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    under_way_bytes: u64,
    arrived_bytes: u64,
    last_arrival: Option<Instant>,
    /// A send to the receiving end is not done.
    sending: bool,
    /// The sender is to be read again when there is room.
    reading_paused: bool,
    /// The sender closed: FIN arrives after what is under way.
    ends_at: Option<Instant>,
    /// A timer for the next arrival is set: never two, or they would multiply.
    timer_set: bool,
}

impl Flow {
    /// Sets the timer for what arrives next, if there is none.
    fn next_timer(&mut self) -> Option<Instant> {
        if self.timer_set {
            return None;
        }
        let next = self.under_way.front().map(|(at, _)| *at).or(self.ends_at)?;
        self.timer_set = true;
        Some(next)
    }
}

/// Which end of a pair a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Near = 0,
    Far = 1,
}

impl End {
    /// The end that octets from this one go to.
    fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// Why the relay looks at a pair later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// The handshake is over: connect to the target.
    Connect,
    /// Octets or a FIN arrive at an end (0 near, 1 far).
    Arrive(u8),
    /// The time of a cut.
    Cut,
}

pub(super) struct Relay {
    ring: Ring,
    start: Instant,
    targets: Vec<(SocketAddr, Direction)>,
    lines: [Line; 2],
    bytes: [u64; 2],
    window: u64,
    handshake: Duration,
    windows: Windows,
    cuts: Vec<Cut>,
    cut_all: bool,
    cut_manner: CutManner,
    pairs: Vec<Option<Pair>>,
    /// Which pair a connection belongs to, and which end it is.
    places: Vec<Option<(usize, End)>>,
    timers: BinaryHeap<Reverse<(Instant, u64, usize, Timer)>>,
    next_number: u64,
    round_trips: u64,
    first_and_last: Option<(Instant, Instant)>,
    refused: u64,
    cuts_done: u64,
}

impl Relay {
    pub(super) fn new(options: &Options, windows: Windows, start: Instant) -> io::Result<Self> {
        let up = LineOptions {
            bytes_per_second: options.bandwidth.map(|bits| bits / 8.0),
            delay: options.round_trip / 2,
            loss: options.loss,
            stall: options
                .stall
                .unwrap_or_else(|| Duration::from_millis(200).max(options.round_trip * 2)),
            overhead_bytes: options.overhead,
        };
        let down_bits = options.bandwidth_down.or(options.bandwidth);
        let down = LineOptions {
            bytes_per_second: down_bits.map(|bits| bits / 8.0),
            ..up
        };
        Ok(Self {
            ring: Ring::new(PoolSize::default())?,
            start,
            targets: Vec::new(),
            lines: [
                Line::new(up, start, options.seed),
                Line::new(down, start, options.seed.wrapping_add(1)),
            ],
            bytes: [0; 2],
            window: options.window.max(1),
            handshake: options.round_trip * 3 / 2,
            windows,
            cuts: options.cut.clone(),
            cut_all: options.cut_all,
            cut_manner: options.cut_manner,
            pairs: Vec::new(),
            places: Vec::new(),
            timers: BinaryHeap::new(),
            next_number: 0,
            round_trips: 0,
            first_and_last: None,
            refused: 0,
            cuts_done: 0,
        })
    }

    /// Takes connections for `target`, whose clients' octets go `direction`.
    pub(super) fn listen(&mut self, socket: Socket, target: SocketAddr, direction: Direction) {
        self.targets.push((target, direction));
        self.ring.listen(socket);
    }

    pub(super) fn run(mut self, stop: impl Fn() -> bool) -> io::Result<LinkReport> {
        let mut was_up = true;
        while !stop() {
            let now = Instant::now();
            let timer = self
                .timers
                .peek()
                .map(|Reverse((at, ..))| at.saturating_duration_since(now));
            self.ring.wait(timer.unwrap_or(TURN_MAX).min(TURN_MAX))?;
            while let Some(event) = self.ring.next_event() {
                self.event(event);
            }
            let now = Instant::now();
            let up = self.windows.is_up(now - self.start);
            if was_up && !up {
                for pair in 0..self.pairs.len() {
                    self.cut(pair);
                }
            }
            was_up = up;
            self.fire(now);
        }
        Ok(self.report())
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Accepted(id, listener) => self.accepted(now, id, listener),
            Event::Connected(id) => {
                let (number, _) = self.place(id);
                let pair = self.pairs[number].as_mut().expect("has a place");
                pair.connected = true;
                self.ring.receive(id);
                self.deliver(now, number, End::Far);
            }
            Event::Received(id, filled) => self.received(now, id, filled),
            Event::Sent(id, _) => {
                let (number, end) = self.place(id);
                self.pairs[number]
                    .as_mut()
                    .expect("has a place")
                    .flow_to(end)
                    .sending = false;
                self.deliver(now, number, end);
            }
            Event::Ended(id, error) => self.ended(now, id, error.is_some()),
            Event::AcceptFailed(_) => self.refused += 1,
        }
    }

    fn accepted(&mut self, now: Instant, id: ConnectionId, listener: usize) {
        if !self.windows.is_up(now - self.start) {
            self.refused += 1;
            return self.ring.close(id, Closing::Reset);
        }
        let (target, clients_direction) = self.targets[listener];
        let number = self.next_number;
        self.next_number += 1;
        let cut = match self.cuts.get(number as usize) {
            Some(cut) => *cut,
            None if self.cut_all => self.cuts.last().copied().unwrap_or(Cut::Never),
            None => Cut::Never,
        };
        let pair = Pair {
            number,
            near: Some(id),
            far: None,
            clients_direction,
            target,
            connected: false,
            flows: [Flow::default(), Flow::default()],
            last_direction: None,
            cut,
            dead: false,
        };
        let place = self
            .pairs
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.pairs.len());
        if place == self.pairs.len() {
            self.pairs.push(None);
        }
        self.pairs[place] = Some(pair);
        self.set_place(id, place, End::Near);
        self.timers.push(Reverse((
            now + self.handshake,
            number,
            place,
            Timer::Connect,
        )));
        if let Cut::After(after) = cut {
            self.timers
                .push(Reverse((now + after, number, place, Timer::Cut)));
        }
        self.ring.receive(id);
    }

    fn received(&mut self, now: Instant, id: ConnectionId, filled: Filled) {
        let (number, from) = self.place(id);
        let pair = self.pairs[number].as_mut().expect("has a place");
        if pair.dead {
            self.ring.recycle(filled);
            return self.ring.receive(id);
        }
        let direction = pair.direction_from(from);
        let bytes = self.ring.bytes(&filled);
        let length = bytes.len();
        if pair.last_direction != Some(direction) {
            // The client waited for what came the other way, and nothing of its
            // own was under way meanwhile.
            let waited = from == End::Near && self.lines[direction as usize].is_idle(now);
            self.round_trips += u64::from(waited);
            pair.last_direction = Some(direction);
        }
        self.bytes[direction as usize] += length as u64;
        let line = &mut self.lines[direction as usize];
        let piece_bytes = line.piece_bytes();
        let flow = pair.flow_to(from.other());
        let mut last = flow.last_arrival.unwrap_or(now);
        for piece in bytes.chunks(piece_bytes) {
            last = line.send(now, piece.len(), last);
            flow.under_way.push_back((last, piece.to_vec()));
        }
        flow.last_arrival = Some(last);
        flow.under_way_bytes += length as u64;
        let full = flow.under_way_bytes >= self.window;
        flow.reading_paused = full;
        let next = flow.next_timer();
        let serial = pair.number;
        let (begin, _) = self.first_and_last.unwrap_or((now, last));
        self.first_and_last = Some((begin, last));
        self.ring.recycle(filled);
        if !full {
            self.ring.receive(id);
        }
        if let Some(next) = next {
            let timer = Timer::Arrive(from.other() as u8);
            self.timers.push(Reverse((next, serial, number, timer)));
        }
    }

    fn ended(&mut self, now: Instant, id: ConnectionId, failed: bool) {
        let (number, end) = self.place(id);
        let pair = self.pairs[number].as_mut().expect("has a place");
        if failed || pair.dead {
            // A reset, or the target refused: the other end learns it at once,
            // less than a half round trip early.
            self.refused += u64::from(end == End::Far && !pair.connected);
            return self.drop_pair(number, Closing::Reset);
        }
        // FIN travels behind the octets.
        let direction = pair.direction_from(end);
        let serial = pair.number;
        let flow = pair.flow_to(end.other());
        let arrival = self.lines[direction as usize].send(now, 0, flow.last_arrival.unwrap_or(now));
        flow.ends_at = Some(arrival);
        if let Some(next) = flow.next_timer() {
            let timer = Timer::Arrive(end.other() as u8);
            self.timers.push(Reverse((next, serial, number, timer)));
        }
    }

    fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, serial, number, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(pair) = &mut self.pairs[number] else {
                continue;
            };
            if pair.number != serial || pair.dead {
                continue;
            }
            match timer {
                Timer::Connect => match self.ring.connect(pair.target, None) {
                    Ok(id) => {
                        pair.far = Some(id);
                        self.set_place(id, number, End::Far);
                    }
                    Err(_) => {
                        self.refused += 1;
                        self.drop_pair(number, Closing::Reset);
                    }
                },
                Timer::Arrive(end) => {
                    let end = if end == End::Near as u8 {
                        End::Near
                    } else {
                        End::Far
                    };
                    pair.flow_to(end).timer_set = false;
                    self.deliver(now, number, end);
                }
                Timer::Cut => self.cut(number),
            }
        }
    }

    /// Hands on what has arrived at `end`.
    fn deliver(&mut self, now: Instant, number: usize, end: End) {
        let Some(pair) = &mut self.pairs[number] else {
            return;
        };
        if pair.dead || (end == End::Far && !pair.connected) {
            return;
        }
        let direction = pair.direction_from(end.other());
        let limit = pair.cut.bytes_of(direction);
        let (to, from) = (pair.socket(end), pair.socket(end.other()));
        let serial = pair.number;
        let flow = pair.flow_to(end);
        if flow.sending {
            return;
        }
        let mut out = Vec::new();
        while let Some((at, piece)) = flow.under_way.front()
            && *at <= now
        {
            let room = limit.map_or(u64::MAX, |limit| limit - flow.arrived_bytes);
            let taken = piece.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            out.extend_from_slice(&piece[..taken]);
            flow.arrived_bytes += taken as u64;
            flow.under_way_bytes -= piece.len() as u64;
            flow.under_way.pop_front();
            if limit == Some(flow.arrived_bytes) {
                break;
            }
        }
        let cut = limit == Some(flow.arrived_bytes);
        let ends = flow.under_way.is_empty() && flow.ends_at.is_some_and(|at| at <= now);
        if !ends && let Some(next) = flow.next_timer() {
            self.timers
                .push(Reverse((next, serial, number, Timer::Arrive(end as u8))));
        }
        let resume = flow.reading_paused && flow.under_way_bytes < self.window;
        if resume {
            flow.reading_paused = false;
        }
        if out.is_empty() {
            if cut {
                // Only when the last of them were taken by the socket, so that
                // an RST does not overtake them in it.
                self.cut(number);
            } else if ends {
                self.drop_pair(number, Closing::Orderly);
            }
            return;
        }
        flow.sending = true;
        if let Some(to) = to {
            self.ring.send(to, out);
        }
        if let (true, false, Some(from)) = (resume, cut, from) {
            self.ring.receive(from);
        }
    }

    /// Cuts a connection; what is under way is lost.
    fn cut(&mut self, number: usize) {
        let Some(pair) = &mut self.pairs[number] else {
            return;
        };
        if pair.dead {
            return;
        }
        self.cuts_done += 1;
        match self.cut_manner {
            CutManner::Reset => self.drop_pair(number, Closing::Reset),
            CutManner::End => self.drop_pair(number, Closing::Orderly),
            CutManner::Silence => {
                pair.dead = true;
                pair.flows = [Flow::default(), Flow::default()];
            }
        }
    }

    fn drop_pair(&mut self, number: usize, closing: Closing) {
        let pair = self.pairs[number].take().expect("there until dropped");
        for id in [pair.near, pair.far].into_iter().flatten() {
            self.places[id.index()] = None;
            self.ring.close(id, closing);
        }
    }

    fn place(&self, id: ConnectionId) -> (usize, End) {
        self.places[id.index()].expect("every open connection has its place")
    }

    fn set_place(&mut self, id: ConnectionId, number: usize, end: End) {
        if self.places.len() <= id.index() {
            self.places.resize(id.index() + 1, None);
        }
        self.places[id.index()] = Some((number, end));
    }

    fn report(&self) -> LinkReport {
        let seconds = self
            .first_and_last
            .map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let figures = |direction: Direction| {
            let line = &self.lines[direction as usize];
            LineFigures {
                bytes: self.bytes[direction as usize],
                wire_bytes: line.wire_bytes,
                segments: line.segments,
                lost_segments: line.lost_segments,
                busy_seconds: line.busy.as_secs_f64(),
                utilisation: if seconds > 0.0 {
                    line.busy.as_secs_f64() / seconds
                } else {
                    0.0
                },
            }
        };
        LinkReport {
            connections: self.next_number,
            refused: self.refused,
            cuts: self.cuts_done,
            round_trips: self.round_trips,
            seconds,
            up: figures(Direction::Up),
            down: figures(Direction::Down),
        }
    }
}

impl Pair {
    fn flow_to(&mut self, end: End) -> &mut Flow {
        &mut self.flows[end as usize]
    }

    fn socket(&self, end: End) -> Option<ConnectionId> {
        match end {
            End::Near => self.near,
            End::Far => self.far,
        }
    }

    /// Which way octets from `end` go.
    fn direction_from(&self, end: End) -> Direction {
        match end {
            End::Near => self.clients_direction,
            End::Far => self.clients_direction.other(),
        }
    }
}
