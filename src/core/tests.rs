//! A data core with a shell that has neither sockets nor files.

mod clock;
mod crowd;
mod expiry;
mod fetching;
mod impatience;
mod last_words;
mod silent_hosts;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spool_format::{Epoch, Location, LogId, Offset, SegmentId, SegmentPlace, SpoolUuid};

use super::collector::Run;
use super::data::{DataCore, Parts, Settings};
use super::{
    Completion, ConnectionId, ControlNotice, CoreId, Endpoint, Host, ListenerId, NoHost, Notice,
    Operation, Piece, Unresolved,
};
use crate::config::{self, surroundings::Surroundings};
use crate::mail::{Priority, QueueId, RecipientIndex};
use crate::queue::notification::allowance::Allowance;
use crate::queue::{self, CoreNumber, Ledger, Permits, Schedule, Sessions};
use crate::report::{Ending, Fact};
use crate::route::{NextHop, NextHopRef, Protocol, TlsPolicy};
use crate::spool::commit::Durability;
use crate::spool::log::{Gone, Identity, Log, Settings as LogSettings};
use crate::spool::message::{SegmentSource, Unreadable, View};
use crate::spool::recovery::Restart;
use crate::time::Now;

const SEGMENT_BYTES: u32 = 128 << 10;
const PLENTY: u64 = 1 << 40;

/// Segments as octets in memory.
#[derive(Clone, Default)]
struct Spool(HashMap<SegmentPlace, (Epoch, Vec<u8>)>, Medium);

/// Whether the disk gives what is on it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Medium {
    #[default]
    Reads,
    Fails,
}

impl SegmentSource for Spool {
    fn fetch(&self, _: SegmentPlace, _: Range<u32>) -> Result<(), Unreadable> {
        match self.1 {
            Medium::Reads => Ok(()),
            Medium::Fails => Err(Unreadable(libc::EIO)),
        }
    }

    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        let (epoch, bytes) = self.0.get(&segment)?;
        Some(View {
            bytes,
            epoch: *epoch,
        })
    }
}

/// Whether writes are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Answers,
    Hangs,
}

struct Bench {
    core: DataCore,
    spool: Spool,
    now: Now,
    disk: Disk,
    ready: VecDeque<Completion<'static>>,
    hung: VecDeque<Completion<'static>>,
    said: HashMap<ConnectionId, Vec<u8>>,
    /// Sends that the peer does not read.
    deaf: HashSet<ConnectionId>,
    closed: HashSet<ConnectionId>,
    /// Receives that are asked for.
    wanted: HashSet<ConnectionId>,
    /// Octets of all writes.
    written: usize,
    facts: Vec<Fact>,
    stopped: bool,
    /// What fetches came to.
    fetched: Vec<Run>,
    /// Connections to providers.
    provider_connects: Vec<(ConnectionId, Endpoint)>,
    /// The address that every next hop has; none is ever found without.
    host: Option<SocketAddr>,
    /// Whether each domain has a host of its own instead, by the number in its name.
    apart: bool,
    /// Where connections go that were asked for.
    going: HashMap<ConnectionId, Endpoint>,
    /// Connections that were asked for.
    connects: usize,
    /// Whether those are had.
    host_answers: bool,
    /// Those that were had.
    outgoing: Vec<ConnectionId>,
    /// Operations in all.
    operations: usize,
}

fn settings() -> Settings {
    let surroundings = Surroundings {
        host_name: "relay.example".to_owned(),
        cpus: 1,
        credentials_directory: None,
        state_directory: None,
    };
    let config = config::parse(Path::new("test"), "", &surroundings).expect("the defaults");
    crate::runtime::settings::settings(&config, &Ledger::default()).expect("they have no routes")
}

impl Bench {
    fn new(free_bytes: u64) -> Self {
        Self::with(free_bytes, |_, _| {})
    }

    /// A core whose queue was filled by `fill`.
    fn with(free_bytes: u64, fill: impl FnOnce(&mut Schedule, Now)) -> Self {
        let settings = settings();
        let identity = Identity {
            spool: SpoolUuid([7; 16]),
            log: LogId(0),
        };
        let log_settings = LogSettings {
            segment_bytes: SEGMENT_BYTES,
            size_max: PLENTY,
            free_min: 0,
        };
        let queue_settings = queue::Settings {
            core: CoreNumber(0),
            policies: settings.policies.clone(),
            idle: settings.idle,
            seed: 3,
        };
        let now = Now::default().after(Duration::from_secs(1_000_000));
        let permits = Arc::new(Permits::new(10, 5));
        let mut queue = Schedule::new(queue_settings, permits, now);
        fill(&mut queue, now);
        let core = DataCore::new(Parts {
            id: CoreId(0),
            settings: Arc::new(settings),
            sessions: Arc::new(Sessions::new(100, 100, 5)),
            allowance: Arc::new(Allowance::new(5)),
            hosts: Arc::new(queue::Hosts::new(5)),
            log: Log::new(identity, log_settings, 11, free_bytes),
            queue,
            detours: crate::core::detours::Detours::default(),
            broken: Vec::new(),
            seed: 13,
            secret: [13; 32],
        });
        let mut bench = Self {
            core,
            spool: Spool::default(),
            now,
            disk: Disk::Answers,
            ready: VecDeque::new(),
            hung: VecDeque::new(),
            said: HashMap::new(),
            deaf: HashSet::new(),
            closed: HashSet::new(),
            wanted: HashSet::new(),
            written: 0,
            facts: Vec::new(),
            stopped: false,
            fetched: Vec::new(),
            provider_connects: Vec::new(),
            host: None,
            apart: false,
            going: HashMap::new(),
            connects: 0,
            host_answers: false,
            outgoing: Vec::new(),
            operations: 0,
        };
        bench.give(Completion::Timer);
        bench
    }

    /// One completion, and all that follows at once.
    fn give(&mut self, completion: Completion<'_>) {
        self.core.handle(self.now, completion, &self.spool);
        loop {
            while let Some(operation) = self.core.poll() {
                self.perform(operation);
            }
            let Some(completion) = self.ready.pop_front() else {
                return;
            };
            self.core.handle(self.now, completion, &self.spool);
        }
    }

    fn perform(&mut self, operation: Operation) {
        self.operations += 1;
        match operation {
            Operation::TellControl(ControlNotice::Resolve { next_hop, .. })
                if self.host.is_some() =>
            {
                let host = Host {
                    name: "mail.example".to_owned(),
                    addresses: (self.host_of(&next_hop).into_iter())
                        .map(Endpoint::Tcp)
                        .collect(),
                    protocol: Protocol::Smtp,
                    tls: TlsPolicy::None.into(),
                    preference: 0,
                    login: None,
                };
                let valid_until = self.now.instant + Duration::from_secs(86_400);
                let notice = Notice::Resolved {
                    next_hop,
                    answer: Ok(vec![host]),
                    valid_until,
                };
                self.ready.push_back(Completion::Notice(notice));
            }
            Operation::Connect { connection, to, .. } if self.host.is_some() => {
                self.connects += 1;
                self.going.insert(connection, to);
                let result = if self.host_answers {
                    self.outgoing.push(connection);
                    Ok(())
                } else {
                    Err("refused".to_owned())
                };
                self.ready
                    .push_back(Completion::Connected { connection, result });
            }
            Operation::Send { connection, pieces } => {
                let said = self.said.entry(connection).or_default();
                for piece in pieces {
                    match piece {
                        Piece::Octets(octets) => said.extend(octets),
                        Piece::Spool {
                            segment,
                            offset,
                            octets,
                        } => {
                            let begin = offset.0 as usize;
                            let (_, bytes) = &self.spool.0[&segment];
                            said.extend(&bytes[begin..begin + octets as usize]);
                        }
                    }
                }
                if !self.deaf.contains(&connection) {
                    self.ready.push_back(Completion::Sent { connection });
                }
            }
            Operation::Close { connection } => {
                assert!(self.closed.insert(connection), "closed twice");
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                let place = SegmentPlace {
                    log: LogId(0),
                    segment,
                };
                let (_, bytes) = self.spool.0.get_mut(&place).expect("it is prepared");
                bytes.resize(bytes.len().max(offset.0 as usize), 0);
                bytes.truncate(offset.0 as usize);
                bytes.extend_from_slice(&octets);
                self.written += octets.len();
                let result = Ok(());
                let written = Completion::Written { result, octets };
                match self.disk {
                    Disk::Hangs if durability != Durability::None => self.hung.push_back(written),
                    Disk::Answers | Disk::Hangs => self.ready.push_back(written),
                }
            }
            Operation::Forget { segment } => {
                self.spool.0.remove(&segment).expect("forgotten once");
            }
            Operation::TellControl(ControlNotice::SegmentNeeded { header, .. }) => {
                let bytes = header.encode().to_vec();
                self.spool.0.insert(header.place, (header.epoch, bytes));
                let segment = header.place.segment;
                let notice = Notice::SegmentReady { segment };
                self.ready.push_back(Completion::Notice(notice));
            }
            Operation::TellControl(ControlNotice::SegmentDead { segment, .. }) => {
                let gone = Gone::Removed;
                let notice = Notice::SegmentGone { segment, gone };
                self.ready.push_back(Completion::Notice(notice));
            }
            Operation::Report(fact) => self.facts.push(fact),
            Operation::Stopped => self.stopped = true,
            Operation::TellControl(ControlNotice::Collected(run)) => {
                self.fetched.push(*run);
            }
            Operation::Receive { connection } => {
                self.wanted.insert(connection);
            }
            Operation::TellControl(_) => {}
            Operation::Connect { connection, to, .. } => {
                self.provider_connects.push((connection, to));
            }
            operation @ (Operation::TellCore { .. }
            | Operation::HandOver { .. }
            | Operation::Doubt { .. }
            | Operation::Listen { .. }) => {
                panic!("there is one core: {operation:?}")
            }
        }
    }

    fn accept(&mut self) -> ConnectionId {
        let connection = self.core.admit();
        let address = "127.0.0.1:25".parse().expect("an address");
        self.give(Completion::Accepted {
            connection,
            listener: ListenerId(0),
            peer: address,
            local: address,
        });
        connection
    }

    fn receive(&mut self, connection: ConnectionId, octets: &[u8]) {
        self.wanted.remove(&connection);
        self.give(Completion::Received { connection, octets });
    }

    fn host_of(&self, next_hop: &NextHop) -> Option<SocketAddr> {
        let mut host = self.host?;
        if let (true, NextHop::Mx(domain)) = (self.apart, next_hop) {
            let digits = domain.as_str().bytes().filter(u8::is_ascii_digit);
            let number = digits.fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
            let [high, low] = number.to_be_bytes();
            host.set_ip([10, 0, high, low].into());
        }
        Some(host)
    }

    fn said(&self, connection: ConnectionId) -> String {
        let octets = self.said.get(&connection).cloned().unwrap_or_default();
        String::from_utf8(octets).expect("replies are ASCII")
    }

    /// Lets the clock jump from deadline to deadline.
    fn wait(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(deadline) = self.core.deadline()
            && deadline <= end.instant
        {
            self.now = self.now.after(deadline.since(self.now.instant));
            self.give(Completion::Timer);
        }
        self.now = end;
        self.give(Completion::Timer);
    }

    /// The machine was asleep: the timer comes late.
    fn sleep(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.give(Completion::Timer);
    }

    /// The messages that a start would find in what was written.
    fn stored(&self) -> Vec<u64> {
        let mut restart = Restart::new(None);
        for (place, (_, bytes)) in &self.spool.0 {
            restart.segment(*place, bytes, None);
        }
        let recovered = restart.finish().recovered;
        recovered.messages.iter().map(|m| m.queue_id).collect()
    }

    fn disk_space(&mut self, free_bytes: u64) {
        self.give(Completion::Notice(Notice::DiskSpace { free_bytes }));
    }

    fn count(&self, wanted: impl Fn(&Fact) -> bool) -> usize {
        self.facts.iter().filter(|fact| wanted(fact)).count()
    }
}

const MESSAGE: &[u8] = b"MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@site.example>\r\n\
    DATA\r\nSubject: x\r\n\r\nshort\r\n.\r\n";

fn is_accepted(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Accepted {
            client: Some(_),
            ..
        }
    )
}

#[test]
fn no_250_before_the_write_is_answered() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.disk = Disk::Hangs;
    bench.receive(client, MESSAGE);
    assert!(bench.said(client).ends_with("\r\n") && bench.said(client).contains("354"));
    assert!(!bench.said(client).contains("250 2.0.0"), "not durable yet");
    assert_eq!(bench.hung.len(), 1, "its write is under way");
    let written = bench.hung.pop_front().expect("looked at");
    bench.give(written);
    assert!(bench.said(client).contains("250 2.0.0"));
    assert_eq!(bench.count(is_accepted), 1);
}

/// `printf ... | nc -N`: the client's FIN comes before the commit.
#[test]
fn a_client_that_closes_its_half_hears_of_its_message() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.disk = Disk::Hangs;
    bench.receive(client, MESSAGE);
    bench.receive(client, b"");
    assert!(!bench.closed.contains(&client));
    let written = bench.hung.pop_front().expect("its write");
    bench.give(written);
    assert!(bench.said(client).contains("250 2.0.0"));
    assert!(bench.closed.contains(&client));
}

#[test]
fn a_client_that_never_reads_loses_its_place() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.core.admit();
    bench.deaf.insert(client);
    let address = "127.0.0.1:25".parse().expect("an address");
    bench.give(Completion::Accepted {
        connection: client,
        listener: ListenerId(0),
        peer: address,
        local: address,
    });
    bench.receive(client, b"NOOP\r\n");
    bench.wait(Duration::from_secs(600));
    assert!(bench.closed.contains(&client));
}

#[test]
fn a_stop_ends_without_another_event() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    let deadline = bench.now.instant + Duration::from_secs(30);
    bench.give(Completion::Notice(Notice::Stop { deadline }));
    assert!(bench.said(client).contains("421"));
    assert!(bench.stopped, "all is durable, and it says so at once");
}

/// A spool that is full of a site's mail, while the site is away for longer than mail is
/// kept: every sender is told, if not at once.
#[test]
fn nobody_is_forgotten_when_the_spool_is_full() {
    // Of one who is told of many the notifications gather; to each of many one is written
    // at once, if there is room.
    check_full_spool(|_| "a@sender.example".to_owned());
    check_full_spool(|number| format!("a{number}@sender.example"));
}

fn check_full_spool(sender: impl Fn(usize) -> String) {
    let mut bench = Bench::new(4 * u64::from(SEGMENT_BYTES));
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    let mut sent = 0;
    while !bench.said(client).contains("452") {
        // The disk has what its segments leave of it.
        let used = bench.spool.0.len() as u64 * u64::from(SEGMENT_BYTES);
        bench.disk_space((4 * u64::from(SEGMENT_BYTES)).saturating_sub(used));
        let message = String::from_utf8_lossy(MESSAGE).replace("a@sender.example", &sender(sent));
        bench.receive(client, message.as_bytes());
        sent += 1;
        assert!(sent < 10_000, "it never gets full");
    }
    bench.receive(client, b"QUIT\r\n");
    let accepted = bench.count(is_accepted);
    assert!(accepted > 100, "{accepted}");
    let told = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Notified { .. }));
    let finished = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Finished { .. }));
    bench.disk_space(0);
    // Longer than any mail is kept.
    bench.sleep(Duration::from_secs(40 * 24 * 3600));
    bench.wait(Duration::from_secs(30));
    assert!(told(&bench) < accepted, "there is no room for all of them");
    assert_eq!(finished(&bench), told(&bench), "none ends untold");
    bench.disk_space(PLENTY);
    bench.wait(Duration::from_secs(600));
    assert_eq!(told(&bench), accepted);
    assert_eq!(finished(&bench), accepted);
    let failures = bench.count(|fact| {
        matches!(fact, Fact::Recipient { forward_path, .. }
            if forward_path.as_str() == "b@site.example")
    });
    assert_eq!(failures, accepted);
}

/// Until the notification is on stable storage the message is what is there: a crash in
/// between tells the sender once more, and never not at all.
#[test]
fn a_message_ends_behind_its_notification() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    bench.receive(client, b"QUIT\r\n");
    let given = bench.facts.iter().find_map(|fact| match fact {
        Fact::Accepted { queue_id, .. } => Some(*queue_id),
        _ => None,
    });
    let given = given.expect("it was accepted").as_u64();
    bench.disk = Disk::Hangs;
    // Longer than any mail is kept.
    bench.sleep(Duration::from_secs(40 * 24 * 3600));
    assert!(!bench.hung.is_empty(), "the notification is being written");
    assert_eq!(bench.stored(), [given, given + 1]);
    bench.disk = Disk::Answers;
    while let Some(written) = bench.hung.pop_front() {
        bench.give(written);
    }
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.stored(), [given + 1]);
}

/// Mail is given up at the moment at which the disk does not give it: that may pass, and
/// then its sender is told.
#[test]
fn what_cannot_be_read_when_it_expires_is_told_of_when_it_can() {
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    bench.receive(client, b"QUIT\r\n");
    let told = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Notified { .. }));
    let finished = |bench: &Bench| bench.count(|fact| matches!(fact, Fact::Finished { .. }));
    bench.spool.1 = Medium::Fails;
    bench.sleep(Duration::from_secs(40 * 24 * 3600));
    bench.wait(Duration::from_secs(300));
    assert_eq!((told(&bench), finished(&bench)), (0, 0));
    bench.spool.1 = Medium::Reads;
    bench.wait(Duration::from_secs(300));
    assert_eq!((told(&bench), finished(&bench)), (1, 1));
    let failed = bench.count(|fact| matches!(fact, Fact::Recipient { .. }));
    assert_eq!(failed, 1, "the operator hears of it once");
}

/// All mail of a domain fails at once, when it is known that it does not exist: some of it
/// in a turn, so that others have theirs, and no faster than it can be written.
#[test]
fn a_domain_that_does_not_exist_holds_up_nobody() {
    const MESSAGES: usize = 2000;
    const AT_ONCE: usize = 256;
    let mut bench = Bench::new(PLENTY);
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    for number in 0..MESSAGES {
        let from = format!("MAIL FROM:<a{number}@sender.example>\r\n");
        bench.receive(client, from.as_bytes());
        bench.receive(
            client,
            b"RCPT TO:<b@site.example>\r\nDATA\r\nSubject: x\r\n\r\nshort\r\n.\r\n",
        );
    }
    bench.receive(client, b"QUIT\r\n");
    assert_eq!(bench.count(is_accepted), MESSAGES);
    let failed = |bench: &Bench| {
        bench.count(|fact| {
            let ending = Ending::Failed;
            matches!(fact, Fact::Recipient { ending: e, .. } if *e == ending)
        })
    };
    let notice = Notice::Resolved {
        next_hop: NextHop::Mx("site.example".parse().expect("a domain")),
        answer: Err(Unresolved::Never {
            reason: NoHost::NoSuchDomain,
            why: "there is no such domain".to_owned(),
        }),
        valid_until: bench.now.instant + Duration::from_secs(3600),
    };
    let mut completion = Completion::Notice(notice);
    let mut turns = 0;
    while failed(&bench) < MESSAGES {
        let before = failed(&bench);
        bench.core.handle(bench.now, completion, &bench.spool);
        while let Some(operation) = bench.core.poll() {
            bench.perform(operation);
        }
        assert!(failed(&bench) - before <= AT_ONCE, "in one turn");
        completion = bench.ready.pop_front().unwrap_or(Completion::Timer);
        turns += 1;
        assert!(turns < 10 * MESSAGES, "it comes to no end");
        let due = bench
            .core
            .deadline()
            .is_some_and(|at| at <= bench.now.instant);
        assert!(due || failed(&bench) == MESSAGES, "it goes on at once");
    }
    bench.give(completion);
    bench.wait(Duration::from_secs(60));
    let finished = bench.count(|fact| matches!(fact, Fact::Finished { .. }));
    assert_eq!(finished, MESSAGES);
}

/// RFC 5321 §4.5.4.1: what is retried is the host. A thousand domains with a million
/// messages have one host, and it is dead: in a day it costs a probe now and then, and
/// a look at each domain for each, whatever waits there.
#[test]
fn a_million_messages_behind_one_dead_host_cost_nothing() {
    const DOMAINS: u32 = 1000;
    let work = |messages: u32| {
        let names: Vec<_> = (0..DOMAINS).map(|i| format!("d{i}.example")).collect();
        let mut bench = Bench::with(PLENTY, |queue, now| {
            for number in 0..messages {
                let message = queue::NewMessage {
                    facts: queue::MessageFacts {
                        queue_id: QueueId::new(0, u64::from(number)),
                        location: Location {
                            log: LogId(0),
                            segment: SegmentId(1),
                            offset: Offset(number),
                        },
                        octets: 1000,
                        arrival: now.wall,
                        priority: Priority::default(),
                        deliver_by: None,
                        hold_until: None,
                        hold: queue::HoldState::Free,
                    },
                    // The warning that mail is late would be one for each.
                };
                let recipient = queue::NewRecipient {
                    recipient: RecipientIndex(0),
                    next_hop: NextHopRef::Mx(&names[(number % DOMAINS) as usize]),
                    attempts: 0,
                    not_before: None,
                    told: queue::Told::DELAY,
                };
                queue.enqueue(now, &message, [recipient]);
            }
        });
        bench.host = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
        bench.wait(Duration::from_secs(24 * 3600));
        (bench.connects, bench.operations)
    };
    let (connects, operations) = work(1_000_000);
    // Rests grow from a minute to half an hour.
    assert!((48..150).contains(&connects), "{connects} connections");
    assert!(operations < 10_000, "{operations} operations");
    let (few_connects, few_operations) = work(DOMAINS);
    // The order of random pauses is another one; the size of the work is not.
    assert!(connects < 2 * few_connects, "{connects}, {few_connects}");
    assert!(
        operations < 2 * few_operations,
        "{operations}, {few_operations}"
    );
}
