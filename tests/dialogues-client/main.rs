//! Plays wire transcripts with the client session.
//!
//! A transcript is a file of lines:
//! - `# …` says what it is about;
//! - `> …` is done to the session: `settings`, `job`, `connected`, `sent`, `slow`,
//!   `lost`, `wait`, `tls started`, `tls failed`, `quit`, `abort`, `others wait`;
//! - `S: …` is a line that the server sends; neighbouring ones come together;
//! - `C: …` is a line that must be sent, `C= …` a stored body that must be sent;
//! - `! …` is a fact that must be reported.
//!
//! Between two inputs the sent lines must be exactly those that stand there, and so
//! must the facts; how both lie to one another is free. Each file is played three
//! times: the server's lines whole, line by line, and octet by octet.
//!
//! `UPDATE_DIALOGUES=1 cargo test --test dialogues-client` writes what came into the
//! files, to be read before it is believed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use turnspool::mail::{BodyForm, Notify, Recipient, RecipientIndex, Ret, Sender};
use turnspool::smtp::auth::scram::Salted;
use turnspool::smtp::auth::{Nonce, Password};
use turnspool::smtp::client::asking::{Ask, Asked};
use turnspool::smtp::client::auth::{Checked, Credentials, Derivation, Login};
use turnspool::smtp::client::job::{BodyEnd, BodyFacts, BodyOctets, Job, JobId, Piece, Transfer};
use turnspool::smtp::client::settings::{
    ClearPassword, Identity, Protocol, Purpose, Settings, TlsPolicy, Use,
};
use turnspool::smtp::client::{Channel, Client, Input, Output};
use turnspool::smtp::etrn;
use turnspool::time::Now;

/// How the server's octets are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Whole,
    Lines,
    Octets,
}

/// Whether the shell reports everything as sent at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Fast,
    Slow,
}

/// The session with its shell and core.
struct Play {
    settings: Settings,
    ask: Option<Ask>,
    login: Option<Login>,
    client: Option<Client>,
    now: Now,
    line: Line,
    jobs: VecDeque<Job>,
    quit: bool,
    wanted: bool,
    /// What was sent since the last input, as transcript lines.
    wire: Vec<String>,
    /// A line without its end.
    open: String,
    facts: Vec<String>,
}

impl Play {
    fn new() -> Self {
        Self {
            settings: Settings::new("me.example".parse().expect("a domain")),
            ask: None,
            login: None,
            client: None,
            now: Now::default(),
            line: Line::Fast,
            jobs: VecDeque::new(),
            quit: false,
            wanted: false,
            wire: Vec::new(),
            open: String::new(),
            facts: Vec::new(),
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.now;
        let (settings, ask, login) = (&self.settings, &self.ask, &self.login);
        let client = self.client.get_or_insert_with(|| {
            let settings = Arc::new(settings.clone());
            let client = match ask {
                None => Client::new(settings, now),
                Some(ask) => Client::asking(settings, ask.clone(), now),
            };
            match login {
                None => client,
                Some(login) => client.with_login(login.clone()),
            }
        });
        client.handle(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.as_mut().and_then(Client::poll) {
            match output {
                Output::Send(pieces) => {
                    pieces.into_iter().for_each(|piece| self.sent(piece));
                    if self.line == Line::Fast {
                        let now = self.now;
                        self.client.as_mut().unwrap().handle(now, Input::Sent);
                    }
                }
                Output::Want => {
                    self.facts.push("want".to_owned());
                    self.wanted = true;
                    self.feed();
                }
                Output::Outcome(outcome) => {
                    for (index, outcome_of) in &outcome.recipients {
                        let job = outcome.job.0;
                        self.facts.push(format!("{job}.{} {outcome_of}", index.0));
                    }
                    self.facts.push(format!(
                        "{} {:?} {:?}",
                        outcome.job.0, outcome.notifies, outcome.remaining
                    ));
                }
                Output::Derive(Derivation {
                    password,
                    salt,
                    iterations,
                }) => {
                    let salted = Salted::derive(&password, &salt, iterations);
                    let now = self.now;
                    let input = Input::Derived(Some(salted));
                    self.client.as_mut().unwrap().handle(now, input);
                }
                Output::StartTls => self.facts.push("starttls".to_owned()),
                Output::SessionFailed(error) => self.facts.push(format!(
                    "session failed: {error} ({:?} {:?})",
                    error.reach(),
                    error.permanence()
                )),
                Output::Turned(_) => self.facts.push("turned".to_owned()),
                Output::Asked(Asked { node, said, reply }) => {
                    self.facts.push(format!("{node} {said:?}: {reply}"));
                }
                Output::Close => {
                    self.facts.push("close".to_owned());
                    assert_eq!(self.client.as_ref().unwrap().deadline(), None);
                }
            }
        }
    }

    fn feed(&mut self) {
        if !self.wanted {
            return;
        }
        let now = self.now;
        if let Some(job) = self.jobs.pop_front() {
            self.wanted = false;
            self.client
                .as_mut()
                .unwrap()
                .handle(now, Input::Deliver(job));
        } else if self.quit {
            self.wanted = false;
            self.client.as_mut().unwrap().handle(now, Input::Quit);
        }
    }

    fn sent(&mut self, piece: Piece) {
        match piece {
            Piece::Octets(octets) => {
                self.open.push_str(&String::from_utf8(octets).unwrap());
                while let Some((line, rest)) = self.open.split_once("\r\n") {
                    self.wire.push(format!("C: {line}"));
                    self.open = rest.to_owned();
                }
            }
            Piece::Body {
                job,
                range,
                transfer,
            } => {
                assert!(self.open.is_empty(), "a body behind half a line");
                let how = match transfer {
                    Transfer::AsStored => "as stored",
                    Transfer::Stuff => "stuffed",
                };
                let (job, from, to) = (job.0, range.start, range.end);
                self.wire.push(format!("C= body {job} {from}..{to} {how}"));
            }
        }
    }

    fn server(&mut self, text: &str, cut: Cut) {
        match cut {
            Cut::Whole => self.handle(Input::Received(text.as_bytes())),
            Cut::Lines => text
                .split_inclusive('\n')
                .for_each(|line| self.handle(Input::Received(line.as_bytes()))),
            Cut::Octets => text
                .as_bytes()
                .chunks(1)
                .for_each(|octet| self.handle(Input::Received(octet))),
        }
    }

    fn act(&mut self, act: &str) {
        let mut words = act.split(' ');
        match words.next().unwrap() {
            "settings" => words.for_each(|word| self.set(word)),
            "slow" => self.line = Line::Slow,
            "connected" => {
                let channel = match words.next() {
                    Some("tls") => Channel::Tls,
                    _ => Channel::Clear,
                };
                self.handle(Input::Connected(channel));
            }
            "job" => {
                self.jobs.push_back(job(words));
                self.feed();
                self.drain();
            }
            "quit" => {
                self.quit = true;
                self.feed();
                self.drain();
            }
            "sent" => self.handle(Input::Sent),
            "progress" => self.handle(Input::Progress),
            "lost" => self.handle(Input::PeerClosed),
            "abort" => self.handle(Input::Abort),
            // Others wait: whether it may be given up for them is its own to say.
            "others" => match self.client.as_ref().and_then(Client::waits_since) {
                Some(_) => self.handle(Input::GiveWay),
                None => self.facts.push("goes on".to_owned()),
            },
            "tls" => match words.next() {
                Some("started") => self.handle(Input::TlsStarted),
                _ => self.handle(Input::TlsFailed("certificate expired".to_owned())),
            },
            "wait" => {
                let seconds = words.next().unwrap().parse().unwrap();
                self.now = self.now.after(Duration::from_secs(seconds));
                self.handle(Input::Timer);
            }
            other => panic!("no such action: {other}"),
        }
    }

    fn set(&mut self, word: &str) {
        let settings = &mut self.settings;
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "etrn" => {
                let nodes = value
                    .split(',')
                    .map(|name| etrn::wanted(name).expect("a name"));
                self.ask = Some(Ask::Release(nodes.collect()));
            }
            "asks" => settings.purpose = Purpose::Ask,
            "lmtp" => settings.protocol = Protocol::Lmtp,
            "no-pipelining" => settings.pipelining = Use::Never,
            "no-chunking" => settings.chunking = Use::Never,
            "tls" => {
                settings.tls = match value {
                    "none" => TlsPolicy::None,
                    "required" => TlsPolicy::Required,
                    _ => TlsPolicy::Opportunistic,
                }
            }
            "proven" => settings.identity = Identity::Proven,
            "certificate" => {
                let user = (!value.is_empty()).then(|| value.parse().expect("a user name"));
                self.login = Some(Login {
                    credentials: Arc::new(Credentials::Certificate { user }),
                    host: Checked::Name,
                    nonce: Nonce([1; 18]),
                });
            }
            "user" => {
                let password = Password::new("secret".to_owned());
                self.login = Some(Login {
                    credentials: Arc::new(Credentials::Password {
                        user: value.parse().expect("a user name"),
                        password: password.expect("a password"),
                    }),
                    host: Checked::Nothing,
                    nonce: Nonce([1; 18]),
                });
            }
            "checked" => self.login.as_mut().expect("behind user").host = Checked::Name,
            "clear-password" => settings.clear_password = ClearPassword::Allow,
            "recipients" => settings.recipients_max = value.parse().unwrap(),
            "blind" => settings.blind_bytes_max = value.parse().unwrap(),
            "contents" => settings.blind_contents_max = value.parse().unwrap(),
            "ahead" => settings.ahead_bytes_max = value.parse().unwrap(),
            "transactions" => settings.transactions_max = Some(value.parse().unwrap()),
            other => panic!("no such setting: {other}"),
        }
    }
}

/// `job ID FROM TO… WORD…`, addresses in angle brackets.
fn job<'a>(mut words: impl Iterator<Item = &'a str>) -> Job {
    let id = JobId(words.next().unwrap().parse().unwrap());
    let path = |word: &'a str| word.strip_prefix('<').and_then(|w| w.strip_suffix('>'));
    let from = path(words.next().unwrap()).unwrap();
    let mut sender = Sender::new(from.parse().unwrap());
    let mut recipients = Vec::new();
    let mut body = BodyFacts {
        octets: 1000,
        form: BodyForm::Stuffed,
        kind: BodyOctets::SevenBit,
        end: BodyEnd::Crlf,
    };
    for word in words {
        if let Some(path) = path(word) {
            let index = RecipientIndex(u32::try_from(recipients.len()).unwrap());
            recipients.push((index, Recipient::new(path.parse().unwrap())));
            continue;
        }
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "octets" => body.octets = value.parse().unwrap(),
            "plain" => body.form = BodyForm::Plain,
            "raw" => body.form = BodyForm::Raw,
            "eight-bit" => body.kind = BodyOctets::EightBit,
            "open" => body.end = BodyEnd::Open,
            "smtputf8" => sender.smtputf8 = true,
            "require-tls" => sender.require_tls = true,
            "headers" => sender.ret = Some(Ret::Headers),
            "envid" => sender.envid = Some(value.into()),
            "never" => recipients.last_mut().unwrap().1.notify = Notify::Never,
            "orcpt" => recipients.last_mut().unwrap().1.orcpt = Some(value.into()),
            other => panic!("no such word of a job: {other}"),
        }
    }
    Job {
        id,
        sender,
        recipients,
        body,
    }
}

/// What belongs together: inputs, and the lines and facts that must follow.
#[derive(Default)]
struct Block<'a> {
    comments: Vec<&'a str>,
    inputs: Vec<&'a str>,
    wire: Vec<String>,
    facts: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block::default()];
    for line in text.lines() {
        let is_input = line.starts_with("> ") || line.starts_with("S: ");
        let is_comment = line.is_empty() || line.starts_with('#');
        let last = blocks.last().expect("never empty");
        let answered = !last.wire.is_empty() || !last.facts.is_empty();
        // Replies come together; everything else is an input of its own.
        let together = last.inputs.is_empty()
            || (line.starts_with("S: ") && last.inputs.iter().all(|i| i.starts_with("S: ")));
        if (is_input && (answered || !together)) || (is_comment && !last.inputs.is_empty()) {
            blocks.push(Block::default());
        }
        let block = blocks.last_mut().expect("never empty");
        if is_comment {
            block.comments.push(line);
        } else if is_input {
            block.inputs.push(line);
        } else if let Some(fact) = line.strip_prefix("! ") {
            block.facts.push(fact.to_owned());
        } else {
            block.wire.push(line.to_owned());
        }
    }
    blocks
}

/// Plays a transcript; returns it as it came.
fn play(name: &str, text: &str, cut: Cut, update: bool) -> String {
    let mut play = Play::new();
    let mut written = String::new();
    for block in blocks(text) {
        for comment in &block.comments {
            writeln!(written, "{comment}").unwrap();
        }
        let mut server = String::new();
        for input in &block.inputs {
            writeln!(written, "{input}").unwrap();
            if let Some(line) = input.strip_prefix("S: ") {
                server.push_str(line);
                server.push_str("\r\n");
            } else {
                play.act(&input[2..]);
            }
        }
        if !server.is_empty() {
            play.server(&server, cut);
        }
        let wire = std::mem::take(&mut play.wire);
        let facts = std::mem::take(&mut play.facts);
        for fact in &facts {
            writeln!(written, "! {fact}").unwrap();
        }
        for line in &wire {
            writeln!(written, "{line}").unwrap();
        }
        if !update {
            let place = format!("{name}, {cut:?}, behind {:?}", block.inputs);
            assert_eq!(wire, block.wire, "sent: {place}");
            assert_eq!(facts, block.facts, "facts: {place}");
        }
    }
    written
}

#[test]
fn all_dialogues() {
    let update = std::env::var_os("UPDATE_DIALOGUES").is_some();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues-client");
    let mut played = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        if update {
            let written = play(&name, &text, Cut::Whole, true);
            std::fs::write(&path, written).unwrap();
        } else {
            for cut in [Cut::Whole, Cut::Lines, Cut::Octets] {
                play(&name, &text, cut, false);
            }
        }
        played += 1;
    }
    assert!(played > 30, "only {played} dialogues were found");
}
