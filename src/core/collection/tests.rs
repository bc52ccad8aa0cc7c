//! Collections of a data core, with a POP3 server in memory, a line that is cut, and a
//! disk that loses what was not synced.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spool_format::{LogId, NoteFact, SegmentPlace, SpoolUuid};

use crate::config::{self, surroundings::Surroundings};
use crate::core::collector::{Means, Order, PopMailbox, Run, RunId};
use crate::core::data::{DataCore, Parts, Settings};
use crate::core::{Completion, ConnectionId, ControlNotice, CoreId, Notice, Operation, Piece};
use crate::pop3::Login;
use crate::pop3::mailbox::Large;
use crate::pop3::memory::UIDL_TAG;
use crate::queue::notification::allowance::Allowance;
use crate::queue::{self, CoreNumber, Ledger, Permits, Schedule, Sessions};
use crate::spool::commit::{WriteFault, WriteStep};
use crate::spool::log::{Gone, Identity, Log, Settings as LogSettings};
use crate::spool::message::{self, StoredMessage};
use crate::spool::recovery::{Restart, Restarted};
use crate::spool::simulation::{Disk, Random};
use crate::time::Now;

const LOG: LogId = LogId(0);
const IDENTITY: Identity = Identity {
    spool: SpoolUuid([7; 16]),
    log: LOG,
};
const LOG_SETTINGS: LogSettings = LogSettings {
    segment_bytes: 32 << 10,
    size_max: 1 << 40,
    free_min: 0,
};

/// What the server can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Abilities {
    pipelining: bool,
    uidl: bool,
    top: bool,
}

const ALL: Abilities = Abilities {
    pipelining: true,
    uidl: true,
    top: true,
};

/// A mailbox and the sessions with it.
#[derive(Clone)]
struct Server {
    abilities: Abilities,
    /// What CAPA says besides.
    announces: &'static str,
    /// In wire form, and what UIDL says.
    messages: Vec<(Vec<u8>, String)>,
    /// Texts that were sent, by RETR.
    retrieved: usize,
    /// Decides which answers go wrong.
    faults: Option<Random>,
    /// What is said behind so many octets.
    nonsense: Option<(usize, Vec<u8>)>,
}

/// One session of the server.
#[derive(Debug)]
struct Talk {
    id: ConnectionId,
    heard: Vec<u8>,
    said: VecDeque<u8>,
    deleted: Vec<usize>,
    /// What the session began with: numbers do not change within it.
    mailbox: Vec<(Vec<u8>, String)>,
    /// Octets that were said.
    octets: usize,
    /// It says nothing any more; the line is there, or is not.
    silent: Option<Silence>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Silence {
    Hangs,
    Closes,
}

impl Server {
    fn greet(&self, id: ConnectionId) -> Talk {
        let mut said = VecDeque::new();
        said.extend(b"+OK ready\r\n");
        Talk {
            id,
            heard: Vec::new(),
            said,
            deleted: Vec::new(),
            mailbox: self.messages.clone(),
            octets: 0,
            silent: None,
        }
    }

    /// Answers the lines that are complete.
    fn answer(&mut self, talk: &mut Talk) {
        while let Some(end) = talk.heard.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = talk.heard.drain(..=end).collect();
            let line = String::from_utf8(line).expect("ASCII");
            if talk.silent.is_some() {
                return;
            }
            let fault = self.faults.as_mut().map(|random| random.below(40));
            let mut answer = match fault {
                Some(0) => b"-ERR [SYS/TEMP] not now\r\n".to_vec(),
                Some(1) => b"-ERR no\r\n".to_vec(),
                _ => self.answer_line(talk, line.trim_end()),
            };
            match fault {
                Some(2) => talk.silent = Some(Silence::Hangs),
                Some(3) => talk.silent = Some(Silence::Closes),
                _ => {}
            }
            if talk.silent.is_some() {
                let random = self.faults.as_mut().expect("it was asked");
                answer.truncate(random.below(answer.len() as u64) as usize);
            }
            if let Some((good, noise)) = &self.nonsense
                && talk.octets + answer.len() > *good
            {
                answer.truncate(good.saturating_sub(talk.octets));
                answer.extend_from_slice(noise);
                talk.silent = Some(Silence::Hangs);
            }
            talk.octets += answer.len();
            talk.said.extend(answer);
        }
    }

    fn answer_line(&mut self, talk: &mut Talk, line: &str) -> Vec<u8> {
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let number: usize = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let is_there =
            (1..=talk.mailbox.len()).contains(&number) && !talk.deleted.contains(&number);
        match verb {
            "CAPA" => {
                let mut answer = format!("+OK\r\nUSER\r\n{}", self.announces);
                let Abilities {
                    pipelining,
                    uidl,
                    top,
                } = self.abilities;
                for (ability, word) in [(pipelining, "PIPELINING"), (uidl, "UIDL"), (top, "TOP")] {
                    if ability {
                        answer.push_str(word);
                        answer.push_str("\r\n");
                    }
                }
                (answer + ".\r\n").into_bytes()
            }
            "USER" | "PASS" => b"+OK\r\n".to_vec(),
            "UIDL" if !self.abilities.uidl => b"-ERR what?\r\n".to_vec(),
            "UIDL" | "LIST" => {
                let lines = talk.mailbox.iter().zip(1..).map(|((text, uid), number)| {
                    if verb == "UIDL" {
                        format!("{number} {uid}\r\n")
                    } else {
                        format!("{number} {}\r\n", text.len())
                    }
                });
                let lines: String = lines.collect();
                format!("+OK\r\n{lines}.\r\n").into_bytes()
            }
            "RETR" | "TOP" if is_there => {
                let text = &talk.mailbox[number - 1].0;
                let mut answer = b"+OK\r\n".to_vec();
                if verb == "RETR" {
                    self.retrieved += 1;
                    answer.extend_from_slice(text);
                } else {
                    let end = memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |n| n + 4);
                    answer.extend_from_slice(&text[..end]);
                }
                answer.extend_from_slice(b".\r\n");
                answer
            }
            "DELE" if is_there => {
                talk.deleted.push(number);
                b"+OK\r\n".to_vec()
            }
            "QUIT" => {
                let gone: Vec<_> = talk
                    .deleted
                    .iter()
                    .map(|number| talk.mailbox[number - 1].clone())
                    .collect();
                for message in gone {
                    let at = self.messages.iter().position(|other| *other == message);
                    self.messages.remove(at.expect("deleted once"));
                }
                talk.deleted.clear();
                b"+OK bye\r\n".to_vec()
            }
            _ => b"-ERR no\r\n".to_vec(),
        }
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Nothing,
    /// The line, when the server has said so many octets.
    Said(usize),
    /// The line, when the server has heard so many octets.
    Heard(usize),
    /// The power, at this write.
    Power(usize),
    /// The disk, from this write on.
    Disk(usize),
}

/// How a run ended.
#[derive(Debug)]
enum Ended {
    Run(Run),
    PowerCut,
}

struct World {
    core: DataCore,
    settings: Arc<Settings>,
    disk: Disk,
    disk_fails: bool,
    now: Now,
    server: Server,
    talk: Option<Talk>,
    random: Random,
    ready: VecDeque<Completion<'static>>,
    runs: VecDeque<Run>,
    /// Octets at a time from the server to us.
    portion: usize,
}

const CONFIG: &str = r#"
[[collect]]
name = "isp"
kind = "pop3"
server = "127.0.0.1:110"
user = "branch"
password_file = "/dev/null"
KEEP
domain_mailbox = { domains = ["branch.example"], default = "postmaster@branch.example" }
[[route]]
domain = "branch.example"
next_hop = "mx"
"#;

fn settings(lines: &str) -> Settings {
    let surroundings = Surroundings {
        host_name: "gw.example".to_owned(),
        cpus: 1,
        credentials_directory: None,
        state_directory: None,
    };
    let directory = tempfile::tempdir().expect("a directory");
    let password = directory.path().join("password");
    std::fs::write(&password, "secret\n").expect("a file");
    std::fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("it is ours");
    let text = CONFIG
        .replace("KEEP", lines)
        .replace("/dev/null", &password.display().to_string());
    let config = config::parse(Path::new("test"), &text, &surroundings)
        .unwrap_or_else(|report| panic!("{report}"));
    crate::runtime::settings::settings(&config, &Ledger::default()).expect("they have no routes")
}

/// Thousands of worlds have the same.
fn cached(lines: &str) -> Arc<Settings> {
    thread_local! {
        static CACHE: RefCell<HashMap<String, Arc<Settings>>> = RefCell::default();
    }
    CACHE.with_borrow_mut(|cache| {
        let entry = cache.entry(lines.to_owned());
        Arc::clone(entry.or_insert_with(|| Arc::new(settings(lines))))
    })
}

fn core(settings: &Arc<Settings>, log: Log, now: Now) -> DataCore {
    let queue_settings = queue::Settings {
        core: CoreNumber(0),
        policies: settings.policies.clone(),
        idle: settings.idle,
        seed: 3,
    };
    let permits = Arc::new(Permits::new(10, 5));
    DataCore::new(Parts {
        id: CoreId(0),
        settings: Arc::clone(settings),
        sessions: Arc::new(Sessions::new(100, 100, 5)),
        allowance: Arc::new(Allowance::new(5)),
        hosts: Arc::new(queue::Hosts::new(5)),
        log,
        queue: Schedule::new(queue_settings, permits, now),
        detours: crate::core::detours::Detours::default(),
        broken: Vec::new(),
        seed: 13,
        secret: [13; 32],
    })
}

impl World {
    fn new(lines: &str, abilities: Abilities, messages: &[&str], seed: u64) -> Self {
        let settings = cached(lines);
        let now = Now::default().after(Duration::from_secs(1_000_000));
        let log = Log::new(IDENTITY, LOG_SETTINGS, 11, 1 << 40);
        let wire = |text: &&str| text.replace('\n', "\r\n").into_bytes();
        let uids = (1..).map(|n| format!("uid{n}"));
        Self {
            core: core(&settings, log, now),
            settings,
            disk: Disk::default(),
            disk_fails: false,
            now,
            server: Server {
                abilities,
                announces: "",
                messages: messages.iter().map(wire).zip(uids).collect(),
                retrieved: 0,
                faults: None,
                nonsense: None,
            },
            talk: None,
            random: Random::new(seed),
            ready: VecDeque::new(),
            runs: VecDeque::new(),
            portion: usize::MAX,
        }
    }

    fn collector(&self) -> &Arc<PopMailbox> {
        let Means::Mailbox(mailbox) = &self.settings.collectors[0].means else {
            panic!("it is one");
        };
        mailbox
    }

    /// One run, until it is over.
    fn collect(&mut self, cut: Cut) -> Ended {
        let order = Order {
            run: RunId(7),
            collector: Arc::clone(self.collector()),
            addresses: ["127.0.0.1:110".parse().expect("an address")].into(),
            login: Login::new("branch", "secret").expect("a login"),
            large: Large::Left,
        };
        let (mut said, mut heard, mut writes) = (0, 0, 0);
        let notice = Notice::Collect(Box::new(order));
        self.ready.push_back(Completion::Notice(notice));
        for _ in 0..1_000_000 {
            if let Some(run) = self.runs.pop_front() {
                return Ended::Run(run);
            }
            if let Some(completion) = self.ready.pop_front() {
                self.core.handle(self.now, completion, &self.disk);
            } else if !self.server_says(cut, &mut said) {
                // Nothing moves: a deadline.
                let deadline = self.core.deadline().expect("somebody waits");
                self.now = self.now.after(deadline.since(self.now.instant));
                self.core.handle(self.now, Completion::Timer, &self.disk);
            }
            while let Some(operation) = self.core.poll() {
                if let Operation::Write { .. } = operation {
                    writes += 1;
                    self.disk_fails |= cut == Cut::Disk(writes);
                    if cut == Cut::Power(writes) {
                        self.lose_power(Some(operation));
                        return Ended::PowerCut;
                    }
                }
                self.perform(operation, cut, &mut heard);
            }
        }
        panic!("it does not end");
    }

    /// Hands over what the server has said. False if it was nothing.
    fn server_says(&mut self, cut: Cut, said: &mut usize) -> bool {
        let Some(talk) = &mut self.talk else {
            return false;
        };
        let connection = talk.id;
        let limit = match cut {
            Cut::Said(limit) => limit - *said,
            _ => usize::MAX,
        };
        let portion = self.portion.min(talk.said.len()).min(limit);
        let closes = talk.said.is_empty() && talk.silent == Some(Silence::Closes);
        if limit == 0 || closes {
            self.cut_line();
            return true;
        }
        if portion == 0 {
            return false;
        }
        let octets: Vec<u8> = talk.said.drain(..portion).collect();
        *said += octets.len();
        let completion = Completion::Received {
            connection,
            octets: &octets,
        };
        self.core.handle(self.now, completion, &self.disk);
        true
    }

    fn cut_line(&mut self) {
        if let Some(talk) = self.talk.take() {
            self.ready.push_back(Completion::Broken {
                connection: talk.id,
                why: "the line was cut".to_owned(),
                heard: &[],
            });
        }
    }

    fn perform(&mut self, operation: Operation, cut: Cut, heard: &mut usize) {
        match operation {
            Operation::Connect { connection, .. } => {
                self.talk = Some(self.server.greet(connection));
                self.ready.push_back(Completion::Connected {
                    connection,
                    result: Ok(()),
                });
            }
            Operation::Send { connection, pieces } => {
                let Some(talk) = &mut self.talk else { return };
                assert_eq!(talk.id, connection);
                let mut octets: Vec<u8> = Vec::new();
                for piece in pieces {
                    let Piece::Octets(piece) = piece else {
                        panic!("nothing of the spool is sent");
                    };
                    octets.extend(piece);
                }
                let limit = match cut {
                    Cut::Heard(limit) => limit - *heard,
                    _ => usize::MAX,
                };
                let arrives = octets.len().min(limit);
                *heard += arrives;
                talk.heard.extend_from_slice(&octets[..arrives]);
                self.server.answer(talk);
                if arrives < octets.len() {
                    self.cut_line();
                } else {
                    self.ready.push_back(Completion::Sent { connection });
                }
            }
            Operation::Close { .. } => self.talk = None,
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                let result = if self.disk_fails {
                    let (step, os_error) = (WriteStep::Write, Some(5));
                    Err(WriteFault { step, os_error })
                } else {
                    self.disk.write(segment, offset, &octets);
                    self.disk.sync(segment, offset, octets.len(), durability);
                    Ok(())
                };
                self.ready.push_back(Completion::Written { result, octets });
            }
            Operation::TellControl(ControlNotice::SegmentNeeded { header, .. }) => {
                let segment = header.place.segment;
                let bytes = LOG_SETTINGS.segment_bytes as usize;
                self.disk.create(segment, bytes, &header.encode()[..], &[]);
                let notice = Notice::SegmentReady { segment };
                self.ready.push_back(Completion::Notice(notice));
            }
            Operation::TellControl(ControlNotice::SegmentDead { segment, .. }) => {
                self.disk.remove(segment.segment);
                let gone = Gone::Removed;
                let notice = Notice::SegmentGone { segment, gone };
                self.ready.push_back(Completion::Notice(notice));
            }
            Operation::TellControl(ControlNotice::Collected(run)) => self.runs.push_back(*run),
            _ => {}
        }
    }

    fn lose_power(&mut self, write: Option<Operation>) {
        if let Some(Operation::Write {
            segment,
            offset,
            octets,
            ..
        }) = write
        {
            self.disk
                .write_torn(&mut self.random, segment, offset, &octets);
        }
        self.disk.crash(&mut self.random);
        self.restart();
    }

    fn read_all(&self) -> Restarted {
        let mut restart = Restart::new(Some(IDENTITY.spool));
        for segment in self.disk.segments() {
            let place = SegmentPlace { log: LOG, segment };
            let bytes = self.disk.bytes(segment).expect("it is there");
            restart.segment(place, bytes, None);
        }
        restart.finish()
    }

    fn restart(&mut self) {
        self.talk = None;
        self.ready.clear();
        self.runs.clear();
        let restarted = self.read_all();
        let seed = self.random.next();
        let log = restarted.log(IDENTITY, LOG_SETTINGS, &[LOG], seed, 1 << 40);
        self.core = core(&self.settings, log, self.now);
    }

    /// What is in the spool: recipients and text without our trace line, sorted.
    fn spool(&self) -> Vec<(String, String)> {
        let restarted = self.read_all();
        let mut found = Vec::new();
        for live in restarted.messages(&[LOG]) {
            let stored = StoredMessage::read(&self.disk, live.seal).expect("it is whole");
            let mut text = Vec::new();
            for &extent in &stored.extents {
                let octets = message::body(&self.disk, live.seal, extent).expect("it is whole");
                text.extend_from_slice(octets);
            }
            let text = String::from_utf8(text)
                .expect("UTF-8")
                .replace("\r\n", "\n");
            // Senders are told that their mail waits: nobody takes it here.
            let Some((trace, rest)) = text.split_once(" +0000\n") else {
                continue;
            };
            if !trace.starts_with("Received: from 127.0.0.1\n\tby gw.example with POP3 id ") {
                continue;
            }
            let recipients: Vec<_> = stored
                .envelope
                .recipients
                .iter()
                .map(|recipient| recipient.forward_path.as_str().to_owned())
                .collect();
            found.push((recipients.join(","), rest.to_owned()));
        }
        found.sort();
        found
    }

    /// Lets a while pass, so that everything is on the disk.
    fn rest(&mut self) {
        for _ in 0..100 {
            self.now = self.now.after(Duration::from_secs(1));
            self.ready.push_back(Completion::Timer);
            while let Some(completion) = self.ready.pop_front() {
                self.core.handle(self.now, completion, &self.disk);
                while let Some(operation) = self.core.poll() {
                    self.perform(operation, Cut::Nothing, &mut 0);
                }
            }
        }
    }

    /// Runs without trouble until nothing is left to do.
    fn settle(&mut self) -> Run {
        loop {
            let Ended::Run(run) = self.collect(Cut::Nothing) else {
                panic!("nothing goes wrong");
            };
            assert_eq!(run.failure, None);
            if run.tally.collected == 0 && run.tally.deleted == 0 {
                return run;
            }
        }
    }
}

const MESSAGES: &[&str] = &[
    "Delivered-To: anna@branch.example\nReturn-Path: <eve@other.example>\n\nfirst\n..dot\n",
    "To: bob@branch.example, carl@branch.example\nMessage-ID: <2@x>\n\nsecond\n",
    "Subject: for nobody\n\n",
];

fn expected() -> Vec<(String, String)> {
    let recipients = [
        "anna@branch.example",
        "bob@branch.example,carl@branch.example",
        "postmaster@branch.example",
    ];
    let mut expected: Vec<_> = recipients
        .iter()
        .zip(MESSAGES)
        .map(|(to, text)| ((*to).to_owned(), (*text).to_owned()))
        .collect();
    expected.sort();
    expected
}

#[test]
fn a_mailbox_is_collected() {
    let mut world = World::new("", ALL, MESSAGES, 1);
    let Ended::Run(run) = world.collect(Cut::Nothing) else {
        panic!("nothing goes wrong");
    };
    assert_eq!(run.failure, None);
    assert_eq!((run.tally.collected, run.tally.deleted), (3, 3));
    assert_eq!(world.spool(), expected());
    assert!(world.server.messages.is_empty());
    world.settle();
    world.rest();
    let notes = world.read_all().recovered.notes;
    let known = |note: &NoteFact| note.tag == UIDL_TAG && note.value.is_some();
    assert!(!notes.iter().any(known), "all is forgotten");
}

/// Wherever the line is cut, in either direction, nothing is lost and nothing doubled.
#[test]
fn a_line_that_is_cut_at_any_octet() {
    let without = |pipelining, uidl| Abilities {
        pipelining,
        uidl,
        top: true,
    };
    for abilities in [
        without(true, true),
        without(false, true),
        without(true, false),
        without(false, false),
    ] {
        for direction in [
            Cut::Said as fn(usize) -> Cut,
            Cut::Heard as fn(usize) -> Cut,
        ] {
            let mut octets = 0;
            loop {
                let mut world = World::new("", abilities, MESSAGES, 1);
                // A cut between the octets of one portion is one behind it.
                world.portion = 61;
                let cut = direction(octets);
                let Ended::Run(run) = world.collect(cut) else {
                    panic!("the power stays");
                };
                let whole = run.failure.is_none();
                world.settle();
                assert_eq!(world.spool(), expected(), "{abilities:?} {cut:?}");
                assert!(world.server.messages.is_empty(), "{abilities:?} {cut:?}");
                if whole {
                    assert!(octets > 50, "it was cut at all");
                    break;
                }
                octets += 1;
            }
        }
    }
}

/// A copy is true together with the message, wherever the line is cut; and there is one.
#[test]
fn a_copy_is_kept_with_each_message() {
    let mut expected = expected();
    for (recipients, _) in &mut expected {
        recipients.push_str(",isp@copies.invalid");
    }
    let mut octets = 0;
    loop {
        let mut world = World::new("safe_copy = \"7d\"", ALL, MESSAGES, 1);
        let Ended::Run(run) = world.collect(Cut::Said(octets)) else {
            panic!("the power stays");
        };
        let whole = run.failure.is_none();
        world.settle();
        assert_eq!(world.spool(), expected, "{octets}");
        assert!(world.server.messages.is_empty(), "{octets}");
        if whole {
            break;
        }
        octets += 1;
    }
}

/// The same where messages stay on the server, and each is paid for once.
#[test]
fn what_stays_there_is_not_collected_again() {
    let mut octets = 0;
    loop {
        let mut world = World::new("keep = \"2d\"", ALL, MESSAGES, 1);
        let Ended::Run(run) = world.collect(Cut::Said(octets)) else {
            panic!("the power stays");
        };
        let whole = run.failure.is_none();
        let rest = world.settle();
        assert_eq!(world.spool(), expected(), "{octets}");
        assert_eq!(world.server.messages.len(), 3);
        assert_eq!(rest.tally.kept, 3);
        let retrieved = world.server.retrieved;
        world.settle();
        assert_eq!(
            world.server.retrieved, retrieved,
            "nothing is paid for twice"
        );
        world.now = world.now.after(Duration::from_secs(3 * 86_400));
        world.settle();
        assert!(world.server.messages.is_empty(), "their time is over");
        assert_eq!(world.spool(), expected());
        if whole {
            break;
        }
        octets += 1;
    }
}

/// The power goes at any write, and what was not synced is lost or not, by the seed.
#[test]
fn power_that_goes_at_any_write() {
    for seed in 0..150 {
        let keep = if seed % 3 == 0 { "keep = \"2d\"" } else { "" };
        let abilities = Abilities {
            pipelining: seed % 2 == 0,
            // Without unique-ids nothing can stay there.
            uidl: seed % 3 == 0 || seed % 5 != 0,
            top: true,
        };
        let mut world = World::new(keep, abilities, MESSAGES, seed);
        let mut cuts = 0;
        for _ in 0..4 {
            let write = 1 + world.random.below(6) as usize;
            world.portion = 1 + world.random.below(300) as usize;
            if let Ended::PowerCut = world.collect(Cut::Power(write)) {
                cuts += 1;
            }
        }
        let run = world.settle();
        assert_eq!(world.spool(), expected(), "seed {seed}, {cuts} cuts");
        let left = world.server.messages.len();
        assert_eq!(left as u32, run.tally.kept, "seed {seed}");
        // And what is remembered is there after a start in good order, too.
        world.restart();
        world.settle();
        assert_eq!(world.spool(), expected(), "seed {seed}");
    }
}

/// What was being written when the disk failed is not told to be deleted by a later run.
#[test]
fn a_disk_that_fails_at_any_write() {
    for (write, uidl) in (1..=4).flat_map(|write| [(write, true), (write, false)]) {
        let abilities = Abilities { uidl, ..ALL };
        let mut world = World::new("", abilities, MESSAGES, 1);
        world.portion = 100;
        world.collect(Cut::Disk(write));
        for _ in 0..3 {
            world.collect(Cut::Nothing);
        }
        world.disk_fails = false;
        world.restart();
        world.settle();
        assert_eq!(world.spool(), expected(), "write {write}, uidl {uidl}");
    }
}

/// A provider that stores a copy for each recipient, without saying for whom it is.
#[test]
fn copies_are_taken_once_for_each_recipient() {
    let copies = &[
        "To: anna@branch.example, bob@branch.example\nMessage-ID: <1@x>\n\nhello\n",
        "To: anna@branch.example, bob@branch.example\nMessage-ID: <1@x>\n\nhello\n",
        "Delivered-To: carl@branch.example\nMessage-ID: <1@x>\n\nhello\n",
    ];
    let mut world = World::new("", ALL, copies, 1);
    let Ended::Run(run) = world.collect(Cut::Nothing) else {
        panic!("nothing goes wrong");
    };
    assert_eq!((run.tally.collected, run.tally.duplicates), (2, 1));
    assert_eq!(run.tally.deleted, 3);
    let recipients: Vec<_> = world.spool().into_iter().map(|(to, _)| to).collect();
    let expected = [
        "anna@branch.example,bob@branch.example",
        "carl@branch.example",
    ];
    assert_eq!(recipients, expected);
    // A copy that comes later, in time and too late.
    let late = world.server.clone();
    for (days, collected) in [(6, 0), (2, 1)] {
        world.now = world.now.after(Duration::from_secs(days * 86_400));
        let copy = copies[0].replace('\n', "\r\n").into_bytes();
        world.server = late.clone();
        world.server.messages.push((copy, format!("late{days}")));
        let Ended::Run(run) = world.collect(Cut::Nothing) else {
            panic!("nothing goes wrong");
        };
        assert_eq!(run.tally.collected, collected, "{days}");
        assert!(world.server.messages.is_empty());
    }
}

#[test]
fn a_large_message_is_announced_once() {
    let large = "x".repeat(70) + "\n";
    let large = format!(
        "To: anna@branch.example\nSubject: large\n\n{}",
        large.repeat(40)
    );
    for top in [true, false] {
        let abilities = Abilities { top, ..ALL };
        let mut world = World::new("size_max = \"1KiB\"", abilities, &[&large, MESSAGES[0]], 1);
        let Ended::Run(run) = world.collect(Cut::Nothing) else {
            panic!("nothing goes wrong");
        };
        assert_eq!(run.failure, None);
        assert_eq!((run.tally.collected, run.tally.noticed), (1, 1));
        assert_eq!(world.server.retrieved, 1);
        let run = world.settle();
        assert_eq!((run.tally.noticed, run.tally.left), (0, 1));
        assert_eq!(world.server.messages.len(), 1);
        // The notice is the other message in the spool.
        assert_eq!(world.read_all().messages(&[LOG]).count(), 2, "{top}");
    }
}

/// Mail that goes in circles by way of the mailbox stays there.
/// RFC 2449 §6.5 and §6.7: the next run is spaced by it, and what is left is pointed out.
#[test]
fn what_the_server_says_of_times() {
    for (keep, said) in [
        ("", None),
        ("keep = \"30d\"", None),
        (
            "keep = \"90d\"",
            Some("the server deletes what stays there after 30 days (EXPIRE)"),
        ),
    ] {
        let mut world = World::new(keep, ALL, MESSAGES, 1);
        world.server.announces = "LOGIN-DELAY 900\r\nEXPIRE 30 USER\r\n";
        let Ended::Run(run) = world.collect(Cut::Nothing) else {
            panic!("nothing goes wrong");
        };
        assert_eq!(run.login_delay, Some(Duration::from_secs(900)));
        assert_eq!(run.said.as_deref(), said, "{keep}");
    }
}

#[test]
fn a_loop_ends_at_the_mailbox() {
    let lines = "Received: by x; Sun, 22 Nov 2026 12:46:37 +0000\n".repeat(101);
    let message = format!("{lines}To: anna@branch.example\n\nround\n");
    let mut world = World::new("", ALL, &[&message], 1);
    for _ in 0..2 {
        let Ended::Run(run) = world.collect(Cut::Nothing) else {
            panic!("nothing goes wrong");
        };
        assert_eq!((run.tally.collected, run.tally.left), (0, 1));
    }
    assert_eq!(world.server.retrieved, 1, "and is not paid for again");
    assert!(world.spool().is_empty());
}

/// A server that refuses, breaks off or falls silent as it likes, and tells no lies.
#[test]
fn a_faulty_server() {
    for seed in 0..400 {
        let abilities = Abilities {
            pipelining: seed % 2 == 0,
            uidl: seed % 3 != 0,
            top: true,
        };
        let mut world = World::new("", abilities, MESSAGES, seed);
        world.portion = 1 + world.random.below(300) as usize;
        world.server.faults = Some(Random::new(seed));
        let mut failures = 0;
        for _ in 0..6 {
            let Ended::Run(run) = world.collect(Cut::Nothing) else {
                panic!("the power stays");
            };
            failures += u32::from(run.failure.is_some());
        }
        world.server.faults = None;
        world.settle();
        assert_eq!(
            world.spool(),
            expected(),
            "seed {seed}, {failures} failures"
        );
        assert!(world.server.messages.is_empty(), "seed {seed}");
    }
}

/// Whatever a server says, the run ends, and the next one is as good as ever.
#[test]
fn a_server_that_says_anything() {
    const WORDS: &[&[u8]] = &[
        b"+OK",
        b"-ERR",
        b" ",
        b"\r\n",
        b".\r\n",
        b".",
        b"1 10",
        b"2 uid2",
        b"[IN-USE]",
        b"+ ",
        b"\n",
        b"\r",
        b"x",
        b"To: anna@branch.example\r\n",
        b"\xff",
        b"\0",
        b"UIDL\r\n",
        b"PIPELINING\r\n",
        b"<1@2>",
    ];
    for seed in 0..2000 {
        let mut world = World::new("", ALL, MESSAGES, seed);
        world.portion = 1 + world.random.below(40) as usize;
        let mut noise = Vec::new();
        for _ in 0..world.random.below(30) {
            let word = world.random.below(WORDS.len() as u64) as usize;
            noise.extend_from_slice(WORDS[word]);
        }
        // It says what it should up to somewhere, and then anything.
        world.server.nonsense = Some((world.random.below(400) as usize, noise));
        let Ended::Run(_) = world.collect(Cut::Nothing) else {
            panic!("the power stays");
        };
        world.server.nonsense = None;
        world.settle();
    }
}
