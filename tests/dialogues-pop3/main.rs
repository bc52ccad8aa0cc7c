//! Transcripts of POP3 sessions, played against the session machine.
//!
//! A transcript is one session; each line says who does what:
//!
//! - `S: text` the server says a line, `S> text` one without its end;
//! - `C: text` the session says this line;
//! - `do: retrieve 1`, `top 1`, `delete 1`, `quit`, `stop`, `secured`, `close`, `late`
//!   happens to the session (`late` is its deadline);
//! - `out: …` the session tells this: `listed 1/120/uid 2/200/-`, `text "…"`, `end 1
//!   form octets`, `deleted 1`, `refused retrieve 1`, `starttls`, `ended ok`, `ended
//!   why`, `close`;
//! - `set: tls=stls` comes before all; `#` begins a comment.
//!
//! Every transcript is played in several ways of cutting the server's octets, and the
//! session has to do the same in each. In each the session is recorded for the operator:
//! what he sees holds nothing of a login and nothing of a message.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use turnspool::pop3::session::{Command, Input, Output, Session};
use turnspool::pop3::settings::{Settings, Tls};
use turnspool::pop3::{Login, MessageNumber};
use turnspool::sasl::Nonce;
use turnspool::sasl::scram::Salted;
use turnspool::time::Now;
use turnspool::wire::transcript::Spoken;

/// Who logs in.
const USER: &str = "anna";

/// How the server's octets are cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All that it says before the session has to do something, at once.
    Together,
    /// Line by line.
    Lines,
    /// Octet by octet.
    Octets,
}

struct Player {
    session: Session,
    now: Now,
    said: VecDeque<String>,
    text: Vec<u8>,
    /// What the operator sees.
    shown: Vec<Spoken>,
    /// What he must not see.
    hidden: Vec<String>,
}

impl Player {
    fn new(tls: Tls) -> Self {
        let now = Now::default();
        let settings = Settings::new(tls, 1000);
        let login = Login::new(USER, "secret").expect("a login");
        let mut player = Self {
            session: Session::new(Arc::new(settings), login, Nonce([1; 18]), now),
            now,
            said: VecDeque::new(),
            text: Vec::new(),
            shown: Vec::new(),
            hidden: vec!["secret".to_owned()],
        };
        player.session.record();
        player.session.handle(now, Input::Connected);
        player.outputs(&[]);
        player
    }

    fn outputs(&mut self, octets: &[u8]) {
        while let Some(output) = self.session.poll() {
            let said = match output {
                Output::Text(range) => {
                    self.text.extend_from_slice(&octets[range]);
                    continue;
                }
                Output::TextConstant(octets) => {
                    self.text.extend_from_slice(octets);
                    continue;
                }
                Output::Send(octets) => {
                    let text = String::from_utf8(octets).expect("ASCII");
                    assert!(text.ends_with("\r\n"), "{text:?}");
                    let lines = text.split_terminator("\r\n");
                    self.hidden.extend(lines.clone().filter_map(secret_of));
                    self.said.extend(lines.map(|line| format!("C: {line}")));
                    continue;
                }
                Output::Derive(wanted) => {
                    let salted = Salted::derive(&wanted.password, &wanted.salt, wanted.iterations);
                    self.session.handle(self.now, Input::Derived(Some(salted)));
                    continue;
                }
                Output::StartTls => "starttls".to_owned(),
                Output::Listed(entries) => entries.iter().fold("listed".to_owned(), |said, e| {
                    let uid = e.uid.as_ref().map_or("-", |uid| uid.as_str());
                    format!("{said} {}/{}/{uid}", e.number, e.octets)
                }),
                Output::Begin(number) => format!("begin {number}"),
                Output::End(number, facts) => {
                    let text = std::mem::take(&mut self.text);
                    assert_eq!(text.len() as u64, facts.octets);
                    let lines = String::from_utf8_lossy(&text).into_owned();
                    let lines = lines.lines().filter(|line| line.len() >= SECRET_MIN);
                    self.hidden.extend(lines.map(str::to_owned));
                    let text = text.escape_ascii();
                    self.said.push_back(format!("out: text \"{text}\""));
                    format!("end {number} {:?} {}", facts.form, facts.octets)
                }
                Output::Refused(command, _) => format!("refused {command:?}"),
                Output::Deleted(number) => format!("deleted {number}"),
                Output::Ended(Ok(())) => "ended ok".to_owned(),
                Output::Ended(Err(fault)) => format!("ended {fault}"),
                Output::Close => "close".to_owned(),
            };
            self.said.push_back(format!("out: {said}"));
        }
        self.shown.extend(self.session.take_record());
    }

    fn receive(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let before = self.said.len();
            let taken = self.session.handle(self.now, Input::Received(octets));
            self.outputs(octets);
            octets = &octets[taken..];
            if taken == 0 && self.said.len() == before {
                // It is over and looks at nothing any more.
                return;
            }
        }
    }

    fn happen(&mut self, what: &str) {
        let (verb, number) = what.split_once(' ').unwrap_or((what, "0"));
        let number = MessageNumber(number.parse().expect("a number"));
        let input = match verb {
            "retrieve" => Input::Command(Command::Retrieve(number)),
            "top" => Input::Command(Command::Top(number)),
            "delete" => Input::Command(Command::Delete(number)),
            "quit" => Input::Command(Command::Quit),
            "stop" => Input::Stop,
            "secured" => Input::Secured,
            "close" => Input::PeerClosed,
            "late" => {
                let deadline = self.session.deadline().expect("it waits for something");
                self.now.instant = deadline;
                Input::Timer
            }
            other => panic!("{other:?} cannot happen"),
        };
        self.session.handle(self.now, input);
        self.outputs(&[]);
    }
}

fn play(path: &Path, text: &str, cut: Cut) {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let tls = if lines.contains(&"set: tls=stls") {
        Tls::Stls
    } else if lines.contains(&"set: tls=implicit") {
        Tls::Implicit
    } else {
        Tls::None
    };
    let mut player = Player::new(tls);
    let mut pending: Vec<u8> = Vec::new();
    let flush = |player: &mut Player, pending: &mut Vec<u8>| {
        let octets = std::mem::take(pending);
        match cut {
            Cut::Together => player.receive(&octets),
            Cut::Lines => octets
                .split_inclusive(|octet| *octet == b'\n')
                .for_each(|line| player.receive(line)),
            Cut::Octets => octets.chunks(1).for_each(|octet| player.receive(octet)),
        }
    };
    for (number, line) in lines.iter().enumerate() {
        let at = format!("{} {line:?} (line {number}, {cut:?})", path.display());
        if let Some(challenge) = line.strip_prefix("S: + ") {
            (player.hidden).extend(Some(challenge.to_owned()).filter(|c| c.len() >= SECRET_MIN));
        }
        if let Some(said) = line.strip_prefix("S:") {
            pending.extend_from_slice(&unescaped(said.strip_prefix(' ').unwrap_or(said)));
            pending.extend_from_slice(b"\r\n");
        } else if let Some(said) = line.strip_prefix("S> ") {
            pending.extend_from_slice(&unescaped(said));
        } else if let Some(what) = line.strip_prefix("do: ") {
            flush(&mut player, &mut pending);
            assert_eq!(player.said.pop_front(), None, "before {at}");
            player.happen(what);
        } else if line.starts_with("C: ") || line.starts_with("out: ") {
            flush(&mut player, &mut pending);
            assert_eq!(player.said.pop_front().as_deref(), Some(*line), "{at}");
        } else {
            assert!(line.starts_with("set: "), "{at} is no line of a transcript");
        }
    }
    flush(&mut player, &mut pending);
    assert!(
        player.said.is_empty(),
        "{}: more: {:?}",
        path.display(),
        player.said
    );
    // Each line of the server outside of texts is there, so that the test cannot pass by
    // seeing nothing: the first at least.
    let first = lines.iter().find_map(|line| line.strip_prefix("S: "));
    if let Some(first) = first.filter(|first| first.starts_with(['+', '-'])) {
        let shown = player.shown.first().map(|spoken| spoken.line.as_str());
        assert_eq!(shown, Some(first), "{}", path.display());
    }
    for Spoken { by_us, line } in &player.shown {
        let place = path.display();
        let hidden = player.hidden.iter().find(|hidden| line.contains(*hidden));
        assert_eq!(hidden, None, "{place}: in {line:?}");
        // A server may greet its user by name.
        assert!(!by_us || !line.contains(USER), "{place}: {line:?}");
    }
}

/// What is shorter may stand anywhere by chance.
const SECRET_MIN: usize = 4;

/// What of a line of ours nobody is to see.
fn secret_of(line: &str) -> Option<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let secret = match word {
        "PASS" | "APOP" => rest,
        "AUTH" => rest.split_once(' ').map_or("", |(_, response)| response),
        "CAPA" | "STLS" | "UIDL" | "LIST" | "RETR" | "TOP" | "DELE" | "QUIT" | "USER" => "",
        // A response.
        _ => line,
    };
    (secret.len() >= SECRET_MIN).then(|| secret.to_owned())
}

/// `\r`, `\n`, `\t` and `\xHH` in what the server says.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&octet, tail)) = rest.split_first() {
        let (octet, tail) = match (octet, tail) {
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b't', tail @ ..]) => (b'\t', tail),
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two digits");
                (u8::from_str_radix(digits, 16).expect("two digits"), tail)
            }
            _ => (octet, tail),
        };
        out.push(octet);
        rest = tail;
    }
    out
}

#[test]
fn transcripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues-pop3");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the directory of this test")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "where are the transcripts?");
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a transcript");
        for cut in [Cut::Together, Cut::Lines, Cut::Octets] {
            play(&path, &text, cut);
        }
    }
}
