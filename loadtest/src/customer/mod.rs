//! The customer of On-Demand Mail Relay (RFC 2645): connects, asks with ATRN,
//! and takes its mail over the same connection, as the sink would.

mod ask;
mod cram;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::kernel::buffers::PoolSize;
use crate::kernel::ring::{Closing, ConnectionId, Event, Ring};
use crate::kernel::signal;
use crate::sink::{
    KEYWORDS, Manner, Onward, Rule, Rules, SinkReport, SinkSession, SinkTally, Surroundings,
    message_clock,
};
use crate::sizes::parse_duration;
use crate::tally::{Latency, LatencyFigures};
use ask::{Ask, Request, Standing};

/// The longest turn: how late a stop or a time-out may be seen.
const TURN_MAX: Duration = Duration::from_millis(50);
/// Before a place tries again after a session that came to nothing.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Fetch mail with ATRN, as customers do, and check it as the sink does.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The provider, host:port; the port is 366 as a rule.
    #[arg(value_parser = crate::generate::parse_server)]
    pub server: SocketAddr,
    /// Domains to ask for, as a.test,b.test; {} becomes a number from 0 up to
    /// --customers. Without this ATRN has no argument: all of the customer's.
    #[arg(long)]
    pub domains: Option<String>,
    /// User name; {} as with --domains.
    #[arg(long)]
    pub user: Option<String>,
    /// Password, for CRAM-MD5 where it is offered, else PLAIN.
    #[arg(long, default_value = "", requires = "user")]
    pub password: String,
    /// Name given in EHLO.
    #[arg(long, default_value = "customer.test")]
    pub ehlo: String,
    /// How many different customers ask, in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub customers: u32,
    /// Sessions at a time.
    #[arg(long, default_value_t = 1)]
    pub sessions: usize,
    /// Sessions in all.
    #[arg(long, default_value_t = 1)]
    pub requests: u64,
    /// Begin no session after this long.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Give a session up in which nothing happens for so long.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Misbehave after the turn, as sink --rule.
    #[arg(long = "rule")]
    pub rules: Vec<Rule>,
    /// EHLO keywords after the turn.
    #[arg(long, value_delimiter = ',', default_value = KEYWORDS)]
    pub keywords: Vec<String>,
    /// Seed of the rules' chances.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What came of asking.
#[derive(Clone, Debug, Serialize)]
pub struct CustomerReport {
    /// Replies to ATRN, by code.
    pub atrn_replies: BTreeMap<u16, u64>,
    /// Replies that ended a session before ATRN, by code.
    pub refused: BTreeMap<u16, u64>,
    /// ATRN sent until its reply.
    pub atrn: Option<LatencyFigures>,
    /// ATRN's reply until the first end of data, in sessions that brought mail.
    pub first_message: Option<LatencyFigures>,
    /// Sessions that failed or ended too early.
    pub sessions_lost: u64,
    /// Sessions given up for want of anything happening.
    pub timeouts: u64,
    /// Things that no server should do.
    pub violations: u64,
    /// The first of those, in words.
    pub first_violation: Option<String>,
    /// The mail.
    pub mail: SinkReport,
}

/// Asks until all is asked, and reports.
///
/// # Errors
/// Where the ring or sockets cannot be had. What the server does is in the
/// report.
pub fn run(options: &Options) -> io::Result<CustomerReport> {
    let start = Instant::now();
    let mut customer = Customer {
        ring: Ring::new(PoolSize::default())?,
        options,
        manner: Manner::new(false, &options.ehlo, &options.keywords),
        rules: Rules::new(&options.rules, options.seed),
        tally: SinkTally::new(start, message_clock()),
        until: options.duration.map(|duration| start + duration),
        begun: 0,
        open: 0,
        not_before: start,
        sessions: Vec::new(),
        timers: BinaryHeap::new(),
        counts: Counts::default(),
    };
    customer.run()?;
    let counts = customer.counts;
    Ok(CustomerReport {
        atrn_replies: counts.atrn_replies,
        refused: counts.refused,
        atrn: counts.atrn.figures(),
        first_message: counts.first_message.figures(),
        sessions_lost: counts.sessions_lost,
        timeouts: counts.timeouts,
        violations: counts.violations,
        first_violation: counts.first_violation,
        mail: customer.tally.report(crate::thread::cpu_seconds()),
    })
}

#[derive(Default)]
struct Counts {
    atrn_replies: BTreeMap<u16, u64>,
    refused: BTreeMap<u16, u64>,
    atrn: Latency,
    first_message: Latency,
    sessions_lost: u64,
    timeouts: u64,
    violations: u64,
    first_violation: Option<String>,
}

/// Which role the session is in.
enum Role {
    Asks {
        ask: Ask,
        request: Request,
    },
    Takes {
        session: Box<SinkSession>,
        turned: Instant,
        brought_mail: bool,
    },
}

struct Session {
    role: Role,
    out: Vec<u8>,
    sending: bool,
    /// Close once all is sent.
    closing: bool,
    last_progress: Instant,
    number: u64,
}

struct Customer<'a> {
    ring: Ring,
    options: &'a Options,
    manner: Manner,
    rules: Rules,
    tally: SinkTally,
    until: Option<Instant>,
    begun: u64,
    open: usize,
    not_before: Instant,
    sessions: Vec<Option<Session>>,
    timers: BinaryHeap<Reverse<(Instant, u64, ConnectionId)>>,
    counts: Counts,
}

impl Customer<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut next_scan = Instant::now();
        loop {
            let now = Instant::now();
            let exhausted = self.begun >= self.options.requests
                || self.until.is_some_and(|until| now >= until)
                || signal::stop_asked();
            if exhausted && self.open == 0 {
                return Ok(());
            }
            while !exhausted
                && self.open < self.options.sessions
                && self.begun < self.options.requests
                && now >= self.not_before
            {
                self.begin(now)?;
            }
            let timer = self
                .timers
                .peek()
                .map(|Reverse((at, ..))| at.saturating_duration_since(now));
            self.ring.wait(timer.unwrap_or(TURN_MAX).min(TURN_MAX))?;
            while let Some(event) = self.ring.next_event() {
                self.event(event);
            }
            let now = Instant::now();
            self.fire(now);
            if now >= next_scan {
                next_scan = now + self.options.timeout / 4;
                self.scan_timeouts(now);
            }
        }
    }

    fn begin(&mut self, now: Instant) -> io::Result<()> {
        let customer = (self.begun % u64::from(self.options.customers)).to_string();
        let numbered = |text: &String| text.replace("{}", &customer);
        let domains = self.options.domains.as_ref().map(numbered);
        let request = Request {
            ehlo: self.options.ehlo.clone(),
            credentials: self
                .options
                .user
                .as_ref()
                .map(|user| (numbered(user), self.options.password.clone())),
            atrn: domains.map_or_else(|| "ATRN".to_owned(), |domains| format!("ATRN {domains}")),
        };
        let id = self.ring.connect(self.options.server, None)?;
        let session = Session {
            role: Role::Asks {
                ask: Ask::new(),
                request,
            },
            out: Vec::new(),
            sending: false,
            closing: false,
            last_progress: now,
            number: self.begun,
        };
        if self.sessions.len() <= id.index() {
            self.sessions.resize_with(id.index() + 1, || None);
        }
        self.sessions[id.index()] = Some(session);
        self.begun += 1;
        self.open += 1;
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(id) => self.ring.receive(id),
            Event::Received(id, filled) => {
                let session = self.sessions[id.index()].as_mut().expect("open");
                session.last_progress = now;
                let bytes = self.ring.bytes(&filled);
                match &mut session.role {
                    Role::Asks { ask, request } => {
                        let standing = ask.receive(now, bytes, request, &mut session.out);
                        self.ring.recycle(filled);
                        self.asked(now, id, standing);
                    }
                    Role::Takes {
                        session: taking,
                        turned,
                        brought_mail,
                    } => {
                        let before = self.tally.messages;
                        let mut around = Surroundings {
                            manner: &self.manner,
                            rules: &mut self.rules,
                            tally: &mut self.tally,
                        };
                        let onward = taking.receive(now, bytes, &mut around, &mut session.out);
                        if self.tally.messages > before && !std::mem::replace(brought_mail, true) {
                            self.counts.first_message.record(now - *turned);
                        }
                        self.ring.recycle(filled);
                        self.onward(id, onward);
                    }
                }
            }
            Event::Sent(id, buffer) => {
                let session = self.sessions[id.index()].as_mut().expect("open");
                session.sending = false;
                if session.out.is_empty() {
                    session.out = buffer;
                }
                self.flush(id);
            }
            Event::Ended(id, error) => {
                let session = self.sessions[id.index()].as_ref().expect("open");
                // After the turn the provider says QUIT and hears 221 first.
                if let Some(error) = error {
                    self.tally.failed(&error);
                }
                if !session.closing {
                    self.lost(now);
                }
                self.end(id);
            }
            Event::Accepted(..) | Event::AcceptFailed(_) => unreachable!("nothing listens here"),
        }
    }

    fn asked(&mut self, now: Instant, id: ConnectionId, standing: Standing) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        match standing {
            Standing::Waits => {}
            Standing::Turned { after } => {
                *self.counts.atrn_replies.entry(250).or_default() += 1;
                self.counts.atrn.record(after);
                let mut around = Surroundings {
                    manner: &self.manner,
                    rules: &mut self.rules,
                    tally: &mut self.tally,
                };
                let (taking, onward) = SinkSession::new(now, &mut around, &mut session.out);
                session.role = Role::Takes {
                    session: Box::new(taking),
                    turned: now,
                    brought_mail: false,
                };
                return self.onward(id, onward);
            }
            Standing::Answered { code, after } => {
                *self.counts.atrn_replies.entry(code).or_default() += 1;
                self.counts.atrn.record(after);
            }
            Standing::Over => return self.end(id),
            Standing::Failed { code } => {
                *self.counts.refused.entry(code).or_default() += 1;
                self.not_before = now + RETRY_PAUSE;
                return self.end(id);
            }
            Standing::Violation(what) => {
                self.counts.violations += 1;
                self.counts.first_violation.get_or_insert(what);
                self.not_before = now + RETRY_PAUSE;
                return self.end(id);
            }
        }
        self.flush(id);
        self.ring.receive(id);
    }

    fn onward(&mut self, id: ConnectionId, onward: Onward) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        match onward {
            Onward::Receive => {
                self.flush(id);
                self.ring.receive(id);
            }
            Onward::ResumeAt(at) => {
                self.timers.push(Reverse((at, session.number, id)));
                self.flush(id);
            }
            Onward::StartTls => unreachable!("our manner offers no STARTTLS"),
            Onward::Close => {
                session.closing = true;
                self.flush(id);
            }
            Onward::Reset => {
                self.sessions[id.index()] = None;
                self.open -= 1;
                self.ring.close(id, Closing::Reset);
            }
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let session = self.sessions[id.index()].as_mut().expect("open");
        if session.sending {
            return;
        }
        if session.out.is_empty() {
            if session.closing {
                self.end(id);
            }
            return;
        }
        session.sending = true;
        self.ring.send(id, std::mem::take(&mut session.out));
    }

    fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, number, id))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(session) = &mut self.sessions[id.index()] else {
                continue;
            };
            let Role::Takes {
                session: taking, ..
            } = &mut session.role
            else {
                continue;
            };
            if session.number != number {
                continue;
            }
            let mut around = Surroundings {
                manner: &self.manner,
                rules: &mut self.rules,
                tally: &mut self.tally,
            };
            let onward = taking.resume(now, &mut around, &mut session.out);
            self.onward(id, onward);
        }
    }

    fn scan_timeouts(&mut self, now: Instant) {
        for index in 0..self.sessions.len() {
            let waiting = self.sessions[index]
                .as_ref()
                .map(|session| now - session.last_progress);
            if waiting.is_some_and(|waiting| waiting >= self.options.timeout) {
                self.counts.timeouts += 1;
                self.end(ConnectionId::from_index(index));
            }
        }
    }

    fn lost(&mut self, now: Instant) {
        self.counts.sessions_lost += 1;
        self.not_before = now + RETRY_PAUSE;
    }

    fn end(&mut self, id: ConnectionId) {
        self.sessions[id.index()] = None;
        self.open -= 1;
        self.ring.close(id, Closing::Orderly);
    }
}

impl fmt::Display for CustomerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, codes) in [
            ("ATRN replies", &self.atrn_replies),
            ("refused", &self.refused),
        ] {
            if !codes.is_empty() {
                write!(f, "{name:<13}")?;
                for (code, count) in codes {
                    write!(f, "{count} with {code}  ")?;
                }
                writeln!(f)?;
            }
        }
        for (name, latency) in [
            ("ATRN reply", &self.atrn),
            ("first message", &self.first_message),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "{name:<13} {latency}")?;
            }
        }
        for (what, count) in [
            ("sessions lost", self.sessions_lost),
            ("sessions in which nothing happened", self.timeouts),
            ("violations", self.violations),
        ] {
            if count > 0 {
                writeln!(f, "trouble      {count} {what}")?;
            }
        }
        if let Some(violation) = &self.first_violation {
            writeln!(f, "first        {violation}")?;
        }
        write!(f, "{}", self.mail)
    }
}
