//! The session against a server that follows the rules but for chosen replies.

mod server;
mod soup;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::server::{Reaction, Server};
use super::fault::{RecipientOutcome, SessionError};
use super::job::{BodyEnd, BodyFacts, BodyOctets, Job, JobId, Piece, Remaining};
use super::settings::Settings;
use super::{Channel, Client, Input, Output};
use crate::mail::{BodyForm, Recipient, RecipientIndex, Sender};
use crate::time::Now;

fn settings() -> Settings {
    Settings::new("me.example".parse().expect("a domain"))
}

fn job(id: u64, recipients: u32, form: BodyForm, octets: u64) -> Job {
    let recipient = |n: u32| {
        let path = format!("r{n}@d{}.example", n % 3).parse().expect("a path");
        (RecipientIndex(n), Recipient::new(path))
    };
    Job {
        id: JobId(id),
        sender: Sender::new("a@x.example".parse().expect("a path")),
        recipients: (0..recipients).map(recipient).collect(),
        body: BodyFacts {
            octets,
            form,
            kind: BodyOctets::SevenBit,
            end: BodyEnd::Crlf,
        },
    }
}

/// A core that keeps books: what it handed in, and what came back.
struct Core {
    client: Client,
    now: Now,
    jobs: VecDeque<Job>,
    /// Recipients of jobs that were handed in and have no outcome yet.
    open: BTreeMap<u64, Vec<u32>>,
    outcomes: BTreeMap<(u64, u32), RecipientOutcome>,
    wanted: bool,
    failed: Option<SessionError>,
    closed: bool,
    /// Everything that was sent.
    wire: String,
    /// The same, by what was sent at once.
    sends: Vec<String>,
}

impl Core {
    fn new(settings: Settings, jobs: impl IntoIterator<Item = Job>) -> Self {
        let now = Now::default();
        Self {
            client: Client::new(Arc::new(settings), now),
            now,
            jobs: jobs.into_iter().collect(),
            open: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            wanted: false,
            failed: None,
            closed: false,
            wire: String::new(),
            sends: Vec::new(),
        }
    }

    /// One input and all outputs that follow. Returns what is to be sent.
    fn handle(&mut self, input: Input<'_>) -> Vec<Piece> {
        self.client.handle(self.now, input);
        let mut sends = Vec::new();
        while let Some(output) = self.client.poll() {
            assert!(!self.closed, "{output:?} behind Close");
            match output {
                Output::Send(pieces) => {
                    assert!(!pieces.is_empty());
                    sends.extend(pieces);
                }
                Output::Want => {
                    assert!(!self.wanted, "asked twice");
                    self.wanted = true;
                    self.feed();
                }
                Output::Outcome(outcome) => self.book(outcome),
                Output::StartTls => {}
                Output::Derive(derivation) => {
                    panic!("{derivation:?} of a session without a login")
                }
                Output::SessionFailed(error) => {
                    assert_eq!(self.failed, None, "failed twice");
                    assert!(self.open.is_empty(), "outcomes come before the failure");
                    self.failed = Some(error);
                }
                Output::Turned(_) | Output::Asked(_) => panic!("nobody called"),
                Output::Close => self.closed = true,
            }
        }
        assert_eq!(self.closed, self.client.deadline().is_none());
        if self.closed {
            assert!(
                self.open.is_empty(),
                "without outcome: {:?} {}",
                self.open,
                self.wire
            );
        }
        let mut text = String::new();
        for piece in &sends {
            match piece {
                Piece::Octets(octets) => text += std::str::from_utf8(octets).unwrap(),
                Piece::Body { job, range, .. } => text += &format!("<{job:?} {range:?}>"),
            }
        }
        self.wire += &text;
        self.sends.push(text);
        sends
    }

    fn feed(&mut self) {
        self.wanted = false;
        match self.jobs.pop_front() {
            Some(job) => {
                let recipients = job.recipients.iter().map(|(index, _)| index.0);
                self.open.insert(job.id.0, recipients.collect());
                self.client.handle(self.now, Input::Deliver(job));
            }
            None => self.client.handle(self.now, Input::Quit),
        }
    }

    fn book(&mut self, outcome: super::job::Outcome) {
        let job = outcome.job.0;
        let open = self.open.get_mut(&job).expect("the job is open");
        for (index, outcome) in outcome.recipients {
            let place = open.iter().position(|open| *open == index.0);
            open.remove(place.expect("exactly one outcome"));
            self.outcomes.insert((job, index.0), outcome);
        }
        if outcome.remaining == Remaining::None {
            let open = self.open.remove(&job).expect("it was there");
            assert!(open.is_empty(), "job {job} is over without {open:?}");
        }
    }

    /// Plays to the end against a server; its octets come in the cuts that `cut` says.
    fn play(&mut self, server: &mut Server, mut cut: impl FnMut(usize) -> usize) {
        let mut to_send = self.handle(Input::Connected(Channel::Clear));
        let mut reactions = VecDeque::from(server.greet());
        for _ in 0..100_000 {
            if self.closed {
                return;
            }
            if !to_send.is_empty() {
                let pieces = std::mem::take(&mut to_send);
                reactions.extend(server.receive(&pieces));
                to_send = self.handle(Input::Sent);
                continue;
            }
            // Neighbouring replies travel together.
            let mut octets = Vec::new();
            while let Some(Reaction::Say(text)) = reactions.front() {
                octets.extend_from_slice(text);
                reactions.pop_front();
            }
            if octets.is_empty() {
                match reactions.pop_front() {
                    Some(Reaction::Close) => to_send = self.handle(Input::PeerClosed),
                    Some(Reaction::Say(_)) => unreachable!("taken above"),
                    None => {
                        // Silence: only the clock helps.
                        let due = self.client.deadline().expect("not closed");
                        let wait = due.since(self.now.instant);
                        self.now = self.now.after(wait);
                        to_send = self.handle(Input::Timer);
                    }
                }
                continue;
            }
            let mut rest = octets.as_slice();
            while !rest.is_empty() && !self.closed {
                let (head, tail) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
                rest = tail;
                self.now = self.now.after(Duration::from_millis(1));
                let pieces = self.handle(Input::Received(head));
                if !pieces.is_empty() {
                    reactions.extend(server.receive(&pieces));
                    let more = self.handle(Input::Sent);
                    reactions.extend(server.receive(&more));
                    if !more.is_empty() {
                        to_send = self.handle(Input::Sent);
                    }
                }
            }
        }
        panic!("the session does not end");
    }
}
