//! Sessions of the role odmr against a model of RFC 2645 §5, in all sequences of a
//! small alphabet, and in cuts.

use std::sync::Arc;
use std::time::Duration;

use crate::mail::{QueueId, Receipt};
use crate::smtp::reply::Refusal;
use crate::smtp::server::{Input, Output, PeerFacts, Question, Session, Verdict};
use crate::smtp::settings::{Role, Settings};
use crate::time::Now;

struct Never;

impl Receipt for Never {
    fn queue_id(&self) -> QueueId {
        unreachable!("no mail is taken here")
    }
}

/// The core's answer to ATRN.
const NO: Refusal = Refusal::new(453, 0, 0, "You have no mail");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The client says a line.
    Say(&'static str),
    /// AUTH has succeeded, as the session of this test knows it.
    Authenticate,
    /// The core answers ATRN, if it was asked.
    Yes,
    No,
    /// The server stops.
    Stop,
}

const ALPHABET: &[Step] = &[
    Step::Say("EHLO site.example"),
    Step::Say("ATRN"),
    Step::Say("ATRN a.example,b.example"),
    Step::Say("ATRN /etc/passwd"),
    Step::Say("MAIL FROM:<>"),
    Step::Say("DATA"),
    Step::Say("NOOP"),
    Step::Say("QUIT"),
    Step::Authenticate,
    Step::Yes,
    Step::No,
    Step::Stop,
];

/// What RFC 2645 says of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Model {
    greeted: bool,
    authenticated: bool,
    asked: bool,
    turned: bool,
    closed: bool,
}

impl Model {
    /// The code of the reply to this, if there is one.
    fn step(&mut self, step: Step) -> Option<u16> {
        if self.closed || self.turned {
            return None;
        }
        match step {
            Step::Say(_) if self.asked => {
                // Behind ATRN, whatever it is.
                self.closed = true;
                Some(503)
            }
            Step::Say(line) => match &line[..4] {
                "EHLO" => {
                    self.greeted = true;
                    Some(250)
                }
                "ATRN" if line.contains('/') => Some(501),
                "ATRN" if !self.authenticated => Some(530),
                "ATRN" if !self.greeted => Some(503),
                "ATRN" => {
                    self.asked = true;
                    None
                }
                "NOOP" => Some(250),
                "QUIT" => {
                    self.closed = true;
                    Some(221)
                }
                _ => Some(502),
            },
            Step::Authenticate => {
                self.authenticated = true;
                None
            }
            Step::Yes | Step::No if !self.asked => None,
            Step::Yes => {
                (self.asked, self.turned) = (false, true);
                Some(250)
            }
            Step::No => {
                self.asked = false;
                Some(453)
            }
            // What is being answered is answered first.
            Step::Stop if self.asked => None,
            Step::Stop => {
                self.closed = true;
                Some(421)
            }
        }
    }
}

struct World {
    session: Session<Never>,
    now: Now,
    said: Vec<u8>,
    turned: bool,
    closed: bool,
}

fn settings() -> Arc<Settings> {
    let mut settings = Settings::new("relay.example".parse().expect("a name"));
    settings.role = Role::Odmr;
    Arc::new(settings)
}

impl World {
    fn new() -> Self {
        let now = Now::default();
        let peer = PeerFacts {
            address: "192.0.2.1:1025".parse().expect("an address"),
            tls: None,
        };
        let mut world = Self {
            session: Session::new(settings(), peer, now),
            now,
            said: Vec::new(),
            turned: false,
            closed: false,
        };
        world.outputs();
        world.said.clear();
        world
    }

    fn outputs(&mut self) {
        while let Some(output) = self.session.poll() {
            assert!(!self.turned && !self.closed, "nothing behind the end");
            match output {
                Output::Send(octets) => self.said.extend(octets),
                Output::Ask => {
                    let answer = match self.session.question() {
                        Some(Question::Rebuff) => Input::Pause(Duration::ZERO),
                        _ => Input::Later,
                    };
                    self.session.handle(self.now, answer);
                }
                Output::Turn(to_customer) => {
                    assert_eq!(to_customer.peer().address.port(), 1025);
                    self.turned = true;
                }
                Output::Close => self.closed = true,
                other => panic!("{other:?} in a session without mail"),
            }
        }
    }

    fn offer(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() && !self.turned && !self.closed {
            let taken = self.session.handle(self.now, Input::Received(octets));
            self.outputs();
            octets = &octets[taken..];
        }
    }

    fn step(&mut self, step: Step) -> Option<u16> {
        match step {
            Step::Say(line) => self.offer(format!("{line}\r\n").as_bytes()),
            Step::Authenticate => self.session.set_user("c"),
            Step::Yes | Step::No => {
                if self.session.question().is_some() {
                    let verdict = if step == Step::Yes {
                        Verdict::Accept
                    } else {
                        Verdict::Refuse(NO)
                    };
                    self.session.handle(self.now, Input::Answer(verdict));
                }
            }
            Step::Stop => {
                self.session.handle(self.now, Input::Stop);
            }
        }
        self.outputs();
        let said = std::mem::take(&mut self.said);
        let text = std::str::from_utf8(&said).expect("replies are ASCII");
        text.get(..3).map(|code| code.parse().expect("a code"))
    }
}

fn play(steps: &[Step]) {
    let (mut world, mut model) = (World::new(), Model::default());
    let mut stopped = false;
    for &step in steps {
        let expected = model.step(step);
        // A stop that had to wait follows the answer at once.
        stopped |= step == Step::Stop;
        let got = world.step(step);
        assert_eq!(got, expected, "{step:?} of {steps:?}");
        if stopped && !model.asked && !model.turned {
            model.closed = true;
        }
        assert_eq!(world.turned, model.turned, "{steps:?}");
        assert_eq!(world.closed, model.closed, "{step:?} of {steps:?}");
    }
}

#[test]
fn all_short_sessions() {
    fn extend(steps: &mut Vec<Step>, left: usize) {
        play(steps);
        if left == 0 {
            return;
        }
        for &step in ALPHABET {
            steps.push(step);
            extend(steps, left - 1);
            steps.pop();
        }
    }
    extend(&mut Vec::new(), 4);
    // Longer ones, where something can happen at all.
    extend(
        &mut vec![Step::Say("EHLO site.example"), Step::Authenticate],
        3,
    );
}

/// Octets behind ATRN, in the same segment or in one that follows before the reply.
#[test]
fn what_comes_behind_atrn_ends_the_session() {
    for behind in ["2", "220 site.example\r\n", "EHLO x\r\n", "\r\n", "\0"] {
        for together in [true, false] {
            let mut world = World::new();
            world.step(Step::Say("EHLO x"));
            world.step(Step::Authenticate);
            if together {
                world.offer(format!("ATRN\r\n{behind}").as_bytes());
            } else {
                world.offer(b"ATRN\r\n");
                assert!(world.said.is_empty());
                world.offer(behind.as_bytes());
            }
            assert!(world.said.starts_with(b"503 5.5.1 "), "{behind:?}");
            assert!(world.closed && !world.turned);
            world.said.clear();
            // The answer that was on its way finds nobody.
            assert_eq!(world.step(Step::Yes), None);
        }
    }
}

#[test]
fn domains_are_parsed_once() {
    let check = |arguments: &str, expected: Option<&[&str]>| {
        let mut world = World::new();
        world.step(Step::Say("EHLO x"));
        world.step(Step::Authenticate);
        world.offer(format!("ATRN{arguments}\r\n").as_bytes());
        let got = world.session.question().map(|question| match question {
            Question::Turn { domains } => domains.iter().map(|d| d.as_str()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        assert_eq!(got.as_deref(), expected, "{arguments:?}");
    };
    check("", Some(&[]));
    check(" ", Some(&[]));
    check(" A.example", Some(&["a.example"]));
    check(" a.example,b.example", Some(&["a.example", "b.example"]));
    check(" a.example, b.example", Some(&["a.example", "b.example"]));
    check(" a.example,", None);
    check(" ,", None);
    check(" a.example b.example", None);
    check(" a.example;rm", None);
    check(" ../../etc/passwd", None);
    check(" a'--.example", None);
    check(" a\0.example", None);
    check(" @a.example", None);
    check(" #queue", None);
    check(&format!(" {}", "a.example,".repeat(1000)), None);
}

#[test]
fn a_megabyte_is_one_line_too_long() {
    let mut world = World::new();
    world.step(Step::Say("EHLO x"));
    world.step(Step::Authenticate);
    world.offer(b"ATRN ");
    for _ in 0..1024 {
        world.offer(&[b'a'; 1024]);
    }
    world.offer(b"\r\nNOOP\r\n");
    let said = String::from_utf8(world.said).expect("ASCII");
    let mut lines = said.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("500 ")));
    assert!(lines.next().is_some_and(|line| line.starts_with("250 ")));
    assert!(lines.next().is_none());
}

#[test]
fn ehlo_shows_what_odmr_needs_and_no_more() {
    let mut world = World::new();
    world.offer(b"EHLO x\r\n");
    let said = String::from_utf8(world.said).expect("ASCII");
    assert!(said.contains("ATRN\r\n"), "{said}");
    for absent in ["SIZE", "CHUNKING", "DSN", "PIPELINING", "HELP"] {
        assert!(!said.contains(absent), "{said}");
    }
}
