//! A link of little bandwidth and long round trips, as a TCP relay: what comes
//! in at one end comes out at the other when the line would have brought it.
//!
//! One thread, one ring; all connections share the two lines, one for each
//! direction. The kernel takes connections at once, so the time that setting
//! one up needs is made up for: the far end is connected to after one and a
//! half round trips, and its greeting needs another half.

mod line;
mod schedule;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use schedule::{Cut, CutManner, DirectionOfCut, Window};

use crate::kernel::buffers::{Filled, PoolSize};
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring, listener};
use crate::kernel::signal;
use crate::sizes::{parse_bytes, parse_duration};
use line::{Line, LineOptions};
use schedule::{Direction, Windows};

/// The longest turn: how late a stop or a closing window may be seen.
const TURN_MAX: Duration = Duration::from_millis(20);

/// Simulate a link: bandwidth, round trip, loss, cuts, times of being up.
///
/// Ends at SIGTERM or SIGINT, and reports octets and round trips then.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// LISTEN=TARGET: connections from this side of the link to the other, whose
    /// clients' octets go up. May be given several times.
    #[arg(long = "forward", value_name = "LISTEN=TARGET", value_parser = parse_mapping)]
    pub forwards: Vec<(SocketAddr, SocketAddr)>,
    /// The same for connections from the other side to this one, whose clients'
    /// octets go down.
    #[arg(long = "backward", value_name = "LISTEN=TARGET", value_parser = parse_mapping)]
    pub backwards: Vec<(SocketAddr, SocketAddr)>,
    /// Bits a second of each direction: 128k is 128,000.
    #[arg(long, value_parser = parse_bits)]
    pub bandwidth: Option<f64>,
    /// Bits a second down, where it differs.
    #[arg(long, value_parser = parse_bits)]
    pub bandwidth_down: Option<f64>,
    /// There and back.
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub round_trip: Duration,
    /// Chance of a segment to be lost.
    #[arg(long, default_value_t = 0.0, value_parser = parse_chance)]
    pub loss: f64,
    /// How long a lost segment holds up what follows; without this the greater
    /// of 200 ms and two round trips.
    #[arg(long, value_parser = parse_duration)]
    pub stall: Option<Duration>,
    /// Octets of lower layers that each segment of 1,460 costs besides.
    #[arg(long, default_value_t = 0)]
    pub overhead: usize,
    /// Octets of one direction of a connection that may be under way.
    #[arg(long, default_value = "64k", value_parser = parse_bytes)]
    pub window: u64,
    /// When the link is up, since the start: 10s-30s,60s-90s. Without this always.
    #[arg(long, value_delimiter = ',')]
    pub up: Vec<Window>,
    /// Begin --up again after this long.
    #[arg(long, value_parser = parse_duration)]
    pub cycle: Option<Duration>,
    /// Cut the first connection, the second, … each at its own place: up:5000 or
    /// down:1k (octets arrived), 3s, never. Later connections are not cut.
    #[arg(long, value_delimiter = ',')]
    pub cut: Vec<Cut>,
    /// Cut later connections too, as the last of --cut says.
    #[arg(long)]
    pub cut_all: bool,
    /// What the ends notice of a cut, or of the link going down.
    #[arg(long, value_enum, default_value = "reset")]
    pub cut_manner: CutManner,
    /// Seed of the losses.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after this long.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What went over a link.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LinkReport {
    /// Connections taken.
    pub connections: u64,
    /// Connections turned away, since the link was down or the target refused.
    pub refused: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Changes of direction by two, on each connection: what requests and their
    /// answers cost.
    pub round_trips: u64,
    /// From the first octet to the last.
    pub seconds: f64,
    /// Towards the targets of `--forward`.
    pub up: LineFigures,
    /// From them.
    pub down: LineFigures,
}

/// One direction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LineFigures {
    /// Octets that connections gave to it.
    pub bytes: u64,
    /// With headers, and what was sent twice.
    pub wire_bytes: u64,
    /// Segments, each once.
    pub segments: u64,
    /// Segments lost.
    pub lost_segments: u64,
    /// How long it was sending.
    pub busy_seconds: f64,
    /// The part of the time from the first octet to the last that it was sending.
    pub utilisation: f64,
}

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
                relay.targets.push((target, direction));
                relay.ring.listen(socket);
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

struct Relay {
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
    /// Changes of direction on all connections.
    changes: u64,
    first_and_last: Option<(Instant, Instant)>,
    refused: u64,
    cuts_done: u64,
}

impl Relay {
    fn new(options: &Options, windows: Windows, start: Instant) -> io::Result<Self> {
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
            changes: 0,
            first_and_last: None,
            refused: 0,
            cuts_done: 0,
        })
    }

    fn run(mut self, stop: impl Fn() -> bool) -> io::Result<LinkReport> {
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
            self.changes += u64::from(pair.last_direction.is_some());
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
            round_trips: self.changes.div_ceil(2),
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

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "link         {} connections, {} refused, {} cut; {} round trips in {:.2} s",
            self.connections, self.refused, self.cuts, self.round_trips, self.seconds
        )?;
        writeln!(f, "up           {}", self.up)?;
        write!(f, "down         {}", self.down)
    }
}

impl fmt::Display for LineFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} octets ({} on the wire), {} segments, {} lost; sending {:.2} s, {:.1} % of the time",
            self.bytes,
            self.wire_bytes,
            self.segments,
            self.lost_segments,
            self.busy_seconds,
            100.0 * self.utilisation
        )
    }
}

/// `LISTEN=TARGET`.
fn parse_mapping(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let (listen, target) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not LISTEN=TARGET"))?;
    Ok((
        crate::generate::parse_server(listen)?,
        crate::generate::parse_server(target)?,
    ))
}

/// Bits a second: `128k`, `2M`, powers of a thousand as is usual for links.
fn parse_bits(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        unit => return Err(format!("{unit:?} is no unit; k, M and G are")),
    };
    match digits.parse::<f64>() {
        Ok(bits) if bits > 0.0 && bits.is_finite() => Ok(bits * factor),
        _ => Err(format!("{text:?} is no bandwidth")),
    }
}

fn parse_chance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..1.0).contains(&chance) => Ok(chance),
        _ => Err(format!("{text:?} is no chance from 0 up to 1")),
    }
}
