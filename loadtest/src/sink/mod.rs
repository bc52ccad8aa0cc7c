//! The server at the end: takes mail by SMTP or LMTP, checks each message and
//! forgets it, misbehaves by rule.
//!
//! Each thread has a ring, its sessions and its counts; only the number of
//! messages is shared, once a turn.

mod dots;
mod rule;
mod session;
mod tally;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use rustls::ServerConfig;
use socket2::Socket;

pub use rule::Rule;
pub(crate) use tally::per;
pub use tally::{RunFigures, SinkReport};

use crate::dialogue::MessageClock;
use crate::kernel::buffers::PoolSize;
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring, listener};
use crate::kernel::signal;
use crate::tls::{Tls, Wire};
pub(crate) use rule::Rules;
pub(crate) use session::{Manner, Onward, SinkSession, Surroundings};
pub(crate) use tally::SinkTally;

/// All that a sink offers, as with --keywords.
pub(crate) const KEYWORDS: &str =
    "PIPELINING,CHUNKING,8BITMIME,SMTPUTF8,SIZE 268435456,ENHANCEDSTATUSCODES,DSN,ETRN";
/// The longest turn: how late a stop may be seen.
const TURN_MAX: Duration = Duration::from_millis(50);
/// Replies of a session that wait for the socket, before it is read no further.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// Take mail, check that each message of a generator came whole, and count how
/// often.
///
/// Ends at SIGTERM, SIGINT or --count, and reports then.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to listen; port 0: any free one, reported on standard error.
    #[arg(long, default_value = "127.0.0.1:2525")]
    pub listen: SocketAddr,
    /// Speak LMTP: a reply for each recipient after the end of data.
    #[arg(long)]
    pub lmtp: bool,
    /// End after so many messages.
    #[arg(long)]
    pub count: Option<u64>,
    /// End after this long.
    #[arg(long, value_parser = crate::sizes::parse_duration)]
    pub duration: Option<Duration>,
    /// Misbehave: "STAGE [~ GLOB] [every N|first N|after N|chance P] ACTION".
    /// STAGE: connect, ehlo, mail, rcpt, data, content, quit, etrn. ACTION: a
    /// reply ("450 4.2.1 Later"), "delay 10ms", close, reset, silent. May be
    /// given several times; the first that fits decides, delays add up.
    #[arg(long = "rule")]
    pub rules: Vec<Rule>,
    /// EHLO keywords, in place of all that the sink knows.
    #[arg(long, value_delimiter = ',', default_value = KEYWORDS)]
    pub keywords: Vec<String>,
    /// TLS: none, starttls, or implicit, with a certificate made at the start.
    #[arg(long, default_value_t)]
    pub tls: Tls,
    /// Name in the greeting.
    #[arg(long, default_value = "sink.test")]
    pub name: String,
    /// Threads, each with a ring of its own, on one listening socket.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// CPUs to pin the threads to, in turn: 0,1.
    #[arg(long, value_delimiter = ',')]
    pub cpu: Vec<usize>,
    /// Seed of the rules' chances.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Plot to this SVG file.
    #[arg(long)]
    pub svg: Option<PathBuf>,
}

impl Default for Options {
    /// As without any option, but on a free port.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Bare {
            #[command(flatten)]
            options: Options,
        }
        let bare: Bare = clap::Parser::parse_from(["sink", "--listen", "127.0.0.1:0"]);
        bare.options
    }
}

/// A sink that runs on threads of this process.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    started: Instant,
    messages: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<(SinkTally, f64)>>>,
}

impl Sink {
    /// Listens, and serves from now on.
    ///
    /// # Errors
    /// Of listening and of starting threads, with what was tried.
    pub fn start(options: &Options) -> io::Result<Self> {
        let socket = listener(options.listen)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .expect("bound to an IP address");
        let (messages, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (start, clock) = (Instant::now(), message_clock());
        let config = crate::tls::server(&options.name)?;
        let threads = (0..options.threads)
            .map(|number| {
                let mut keywords = options.keywords.clone();
                if options.tls == Tls::Starttls {
                    keywords.push("STARTTLS".to_owned());
                }
                let manner = Manner::new(options.lmtp, &options.name, &keywords);
                let tls = (options.tls, Arc::clone(&config));
                let rules = Rules::new(&options.rules, options.seed ^ u64::from(number));
                let cpu = crate::thread::cpu_of(&options.cpu, number.into());
                let (socket, messages, stop) = (
                    socket.try_clone()?,
                    Arc::clone(&messages),
                    Arc::clone(&stop),
                );
                let tally = SinkTally::new(start, clock);
                crate::thread::spawn(format!("sink {number}"), cpu, move || {
                    let thread = Thread::new(socket, manner, rules, tally, tls, &messages)?;
                    thread.run(&stop)
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            address,
            started: start,
            messages,
            stop,
            threads,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its timeline begins.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Messages taken up to now.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Ends it, and reports.
    ///
    /// # Errors
    /// Of a thread's ring.
    ///
    /// # Panics
    /// Where a thread panicked.
    pub fn finish(self) -> io::Result<SinkReport> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total: Option<SinkTally> = None;
        let mut cpu_seconds = 0.0;
        for thread in self.threads {
            let (tally, cpu) = thread.join().expect("a sink's thread")?;
            cpu_seconds += cpu;
            match &mut total {
                None => total = Some(tally),
                Some(total) => total.add(&tally),
            }
        }
        Ok(total.expect("at least one thread").report(cpu_seconds))
    }
}

/// Runs a sink until it is told to end.
///
/// # Errors
/// See [`Sink::start`] and [`Sink::finish`].
pub fn run(options: &Options) -> io::Result<SinkReport> {
    let sink = Sink::start(options)?;
    eprintln!("loadtest sink: listening on {}", sink.address());
    let start = Instant::now();
    let done = || {
        signal::stop_asked()
            || options.count.is_some_and(|count| sink.messages() >= count)
            || options
                .duration
                .is_some_and(|duration| start.elapsed() >= duration)
    };
    while !done() {
        std::thread::sleep(Duration::from_millis(5));
    }
    sink.finish()
}

/// The machine's monotonic clock beside ours, for the time in messages.
pub(crate) fn message_clock() -> MessageClock {
    let time = clock_gettime(ClockId::Monotonic);
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    MessageClock::new(Instant::now(), nanoseconds)
}

struct Connection {
    session: SinkSession,
    wire: Wire,
    sending: bool,
    state: State,
    /// Told apart from later connections in the same place, for `timers`.
    serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Receiving,
    /// A reply is delayed, or too many wait for the socket.
    Paused,
    /// Closed once all is sent.
    Closing,
}

struct Thread<'a> {
    ring: Ring,
    manner: Manner,
    rules: Rules,
    tally: SinkTally,
    messages: &'a AtomicU64,
    reported: u64,
    connections: Vec<Option<Connection>>,
    timers: BinaryHeap<Reverse<(Instant, u64, ConnectionId)>>,
    serial: u64,
    tls: (Tls, Arc<ServerConfig>),
    /// What a receive brought, without TLS.
    plain: Vec<u8>,
}

impl<'a> Thread<'a> {
    fn new(
        socket: Socket,
        manner: Manner,
        rules: Rules,
        tally: SinkTally,
        tls: (Tls, Arc<ServerConfig>),
        messages: &'a AtomicU64,
    ) -> io::Result<Self> {
        let mut ring = Ring::new(PoolSize::default())?;
        ring.listen(socket);
        Ok(Self {
            ring,
            manner,
            rules,
            tally,
            messages,
            reported: 0,
            connections: Vec::new(),
            timers: BinaryHeap::new(),
            serial: 0,
            tls,
            plain: Vec::new(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> io::Result<(SinkTally, f64)> {
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let timer = self
                .timers
                .peek()
                .map(|Reverse((at, ..))| at.saturating_duration_since(now));
            self.ring.wait(timer.unwrap_or(TURN_MAX).min(TURN_MAX))?;
            while let Some(event) = self.ring.next_event() {
                // The threads share one listening socket, and whoever ends first takes it
                // along.
                let late = matches!(event, Event::AcceptFailed(_)) && stop.load(Ordering::Relaxed);
                if !late {
                    self.event(event);
                }
            }
            self.fire(Instant::now());
            let new = self.tally.messages - self.reported;
            if new > 0 {
                self.messages.fetch_add(new, Ordering::Relaxed);
                self.reported += new;
            }
        }
        Ok((self.tally, crate::thread::cpu_seconds()))
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Accepted(id, _) => {
                let mut wire = Wire::new();
                if self.tls.0 == Tls::Implicit
                    && let Err(error) = wire.begin_server(&self.tls.1)
                {
                    self.tally.failed(&error);
                }
                let mut around = Surroundings {
                    manner: &self.manner,
                    rules: &mut self.rules,
                    tally: &mut self.tally,
                };
                let (session, onward) = wire.write(|out| SinkSession::new(now, &mut around, out));
                self.serial += 1;
                let connection = Connection {
                    session,
                    wire,
                    sending: false,
                    state: State::Receiving,
                    serial: self.serial,
                };
                if self.connections.len() <= id.index() {
                    self.connections.resize_with(id.index() + 1, || None);
                }
                self.connections[id.index()] = Some(connection);
                self.onward(id, onward);
            }
            Event::Received(id, filled) => {
                let connection = self.connections[id.index()].as_mut().expect("open");
                let mut around = Surroundings {
                    manner: &self.manner,
                    rules: &mut self.rules,
                    tally: &mut self.tally,
                };
                let bytes = self.ring.bytes(&filled);
                let Connection { session, wire, .. } = connection;
                let received = wire.receive(bytes, &mut self.plain);
                let onward = received
                    .map(|plain| wire.write(|out| session.receive(now, plain, &mut around, out)));
                self.ring.recycle(filled);
                match onward {
                    Ok(onward) => self.onward(id, onward),
                    Err(error) => {
                        self.tally.failed(&error);
                        self.onward(id, Onward::Reset);
                    }
                }
            }
            Event::Sent(id, buffer) => {
                let connection = self.connections[id.index()].as_mut().expect("open");
                connection.sending = false;
                let was_full = connection.wire.out.len() > OUT_BYTES_MAX;
                if connection.wire.out.is_empty() {
                    connection.wire.out = buffer;
                }
                let state = connection.state;
                self.flush(id);
                match state {
                    State::Closing => self.close_if_sent(id),
                    State::Receiving if was_full => self.ring.receive(id),
                    State::Receiving | State::Paused => {}
                }
            }
            Event::Ended(id, error) => {
                if let Some(error) = error {
                    self.tally.failed(&error);
                }
                self.connections[id.index()] = None;
                self.ring.close(id, Closing::Orderly);
            }
            Event::AcceptFailed(error) => self.tally.failed(&error),
            Event::Connected(_) => unreachable!("a sink connects to nobody"),
        }
    }

    fn onward(&mut self, id: ConnectionId, onward: Onward) {
        let connection = self.connections[id.index()].as_mut().expect("open");
        match onward {
            Onward::Receive => {
                connection.state = State::Receiving;
                // Beyond the limit the next `Sent` asks for more.
                let full = connection.wire.out.len() > OUT_BYTES_MAX && connection.sending;
                self.flush(id);
                if !full {
                    self.ring.receive(id);
                }
            }
            Onward::StartTls => {
                connection.state = State::Receiving;
                if let Err(error) = connection.wire.begin_server(&self.tls.1) {
                    self.tally.failed(&error);
                }
                self.flush(id);
                self.ring.receive(id);
            }
            Onward::ResumeAt(at) => {
                connection.state = State::Paused;
                self.timers.push(Reverse((at, connection.serial, id)));
                self.flush(id);
            }
            Onward::Close => {
                connection.state = State::Closing;
                self.flush(id);
                self.close_if_sent(id);
            }
            Onward::Reset => {
                self.connections[id.index()] = None;
                self.ring.close(id, Closing::Reset);
            }
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let connection = self.connections[id.index()].as_mut().expect("open");
        if !connection.sending && !connection.wire.out.is_empty() {
            connection.sending = true;
            self.ring.send(id, std::mem::take(&mut connection.wire.out));
        }
    }

    fn close_if_sent(&mut self, id: ConnectionId) {
        let connection = self.connections[id.index()].as_ref().expect("open");
        if !connection.sending && connection.wire.out.is_empty() {
            self.connections[id.index()] = None;
            self.ring.close(id, Closing::Orderly);
        }
    }

    fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, serial, id))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(connection) = &mut self.connections[id.index()] else {
                continue;
            };
            if connection.serial != serial {
                continue;
            }
            let mut around = Surroundings {
                manner: &self.manner,
                rules: &mut self.rules,
                tally: &mut self.tally,
            };
            let Connection { session, wire, .. } = connection;
            let onward = wire.write(|out| session.resume(now, &mut around, out));
            self.onward(id, onward);
        }
    }
}
