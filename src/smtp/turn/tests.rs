//! A provider and a site, each as its machines, with all their octets cut anywhere.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, CallError, FromProvider, Refused, ToCustomer, refused};
use crate::mail::{Domain, QueueId, Receipt};
use crate::smtp::auth::{Nonces, Password};
use crate::smtp::client::asking::Ask;
use crate::smtp::client::auth::{Checked, Credentials, Login};
use crate::smtp::client::fault::SessionError;
use crate::smtp::client::settings::{ClearPassword, Settings, TlsPolicy};
use crate::smtp::client::stage::Stage;
use crate::smtp::client::{Channel, Client, Input, Output};
use crate::smtp::server::{self, PeerFacts, Session};
use crate::time::Now;

struct Never;

impl Receipt for Never {
    fn queue_id(&self) -> QueueId {
        unreachable!("no mail is taken here")
    }
}

fn domains(names: &[&str]) -> Box<[Domain]> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn call(names: &[&str]) -> Call {
    Call::new(domains(names)).unwrap()
}

fn settings() -> Settings {
    let mut settings = Settings::new("site.example".parse().unwrap());
    settings.clear_password = ClearPassword::Allow;
    settings.tls = TlsPolicy::None;
    settings
}

/// What a call came to.
#[derive(PartialEq, Eq, Debug)]
enum End {
    Turned(FromProvider),
    Failed(SessionError),
    /// Neither yet.
    Open,
}

struct Caller {
    client: Client,
    now: Now,
    said: String,
    end: End,
    closed: bool,
}

impl Caller {
    fn new(names: &[&str]) -> Self {
        let now = Now::default();
        let credentials = Credentials::Password {
            user: "c".parse().unwrap(),
            password: Password::new("secret".into()).unwrap(),
        };
        let ask = Ask::Turn(call(names));
        let mut client = Client::asking(Arc::new(settings()), ask, now).with_login(Login {
            credentials: Arc::new(credentials),
            host: Checked::Nothing,
            nonce: Nonces::new([7; 32]).fresh(),
        });
        client.handle(now, Input::Connected(Channel::Clear));
        Self {
            client,
            now,
            said: String::new(),
            end: End::Open,
            closed: false,
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.client.handle(self.now, Input::Received(octets));
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send(pieces) => {
                    for piece in pieces {
                        let crate::smtp::client::job::Piece::Octets(octets) = piece else {
                            panic!("a call has no body");
                        };
                        self.said += std::str::from_utf8(&octets).unwrap();
                    }
                    self.client.handle(self.now, Input::Sent);
                }
                Output::Turned(turned) => self.end = End::Turned(turned),
                Output::SessionFailed(error) => self.end = End::Failed(error),
                Output::Close => self.closed = true,
                other => panic!("{other:?} in a call"),
            }
        }
    }
}

const BEFORE: &[&str] = &[
    "220 provider.example\r\n",
    "250-provider.example\r\n250-AUTH PLAIN LOGIN\r\n250 ATRN\r\n",
    "235 2.7.0 welcome\r\n",
];

/// A call whose ATRN is answered with this, in three cuttings; gives how it ended.
fn answered(reply: &str) -> Caller {
    let mut ends = Vec::new();
    for cut in [1, 3, usize::MAX] {
        let mut caller = Caller::new(&["a.example", "b.example"]);
        for line in BEFORE.iter().copied().chain([reply]) {
            let octets = line.as_bytes();
            for part in octets.chunks(cut.min(octets.len())) {
                caller.hear(part);
            }
        }
        assert!(
            caller.said.contains("\r\nATRN a.example,b.example\r\n"),
            "{}",
            caller.said
        );
        ends.push(caller);
    }
    let last = ends.pop().unwrap();
    assert!(ends.iter().all(|other| other.end == last.end), "{reply:?}");
    last
}

#[test]
fn a_call_is_hello_auth_and_atrn() {
    let caller = answered("250 OK now reversing the connection\r\n");
    let End::Turned(turned) = caller.end else {
        panic!("{:?}", caller.end);
    };
    assert_eq!(turned.domains(), &*domains(&["a.example", "b.example"]));
    assert!(!caller.closed, "the connection goes on");
    let said: Vec<_> = caller.said.lines().map(|line| &line[..4]).collect();
    assert_eq!(said, ["EHLO", "AUTH", "ATRN"]);
}

#[test]
fn what_is_no_250_ends_politely() {
    let check = |reply: &str, expected: Option<Refused>| {
        let caller = answered(reply);
        let End::Failed(error) = &caller.end else {
            panic!("{reply:?}: {:?}", caller.end);
        };
        assert_eq!(refused(error), expected, "{reply:?}");
        assert_eq!(
            caller.said.ends_with("QUIT\r\n"),
            expected.is_some(),
            "{reply:?}"
        );
    };
    check("453 You have no mail\r\n", Some(Refused::NothingWaiting));
    check("450 refused\r\n", Some(Refused::Later));
    check("451 not now\r\n", Some(Refused::Later));
    check("530 authenticate\r\n", Some(Refused::Never));
    check("502 what?\r\n", Some(Refused::Never));
    // No provider says these.
    check("220 hello\r\n", None);
    check("251 well\r\n", None);
    check("354 go on\r\n", None);
    check("421 bye\r\n", None);
    check("garbage\r\n", None);
}

/// The provider waits for our 220. What it says before is no command of a session.
#[test]
fn a_provider_that_talks_on_is_not_believed() {
    for behind in ["EHLO provider.example\r\n", "2", "250 again\r\n"] {
        let mut caller = Caller::new(&["a.example"]);
        for line in BEFORE {
            caller.hear(line.as_bytes());
        }
        caller.hear(format!("250 OK\r\n{behind}").as_bytes());
        let stage = Stage::Turn;
        let expected = End::Failed(SessionError::TooMuch { stage });
        assert_eq!(caller.end, expected, "{behind:?}");
        assert!(caller.closed);
    }
}

#[test]
fn a_provider_has_ten_minutes() {
    let mut caller = Caller::new(&["a.example"]);
    for line in BEFORE {
        caller.hear(line.as_bytes());
    }
    let due = caller.client.deadline().unwrap();
    assert!(due.since(caller.now.instant) >= Duration::from_secs(600));
    caller.now = caller.now.after(Duration::from_secs(601));
    caller.client.handle(caller.now, Input::Timer);
    caller.poll();
    let stage = Stage::Turn;
    assert_eq!(caller.end, End::Failed(SessionError::TimedOut { stage }));
}

#[test]
fn a_call_names_its_domains_in_one_line() {
    assert_eq!(Call::new(domains(&[])), Err(CallError::NoDomain));
    let label = "a".repeat(60);
    let many: Vec<_> = (0..9).map(|i| format!("{label}{i}.example")).collect();
    let names: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(Call::new(domains(&names)), Err(CallError::TooLong));
    assert!(Call::new(domains(&names[..7])).is_ok());
}

fn peer() -> PeerFacts {
    PeerFacts {
        address: "192.0.2.9:366".parse().unwrap(),
        tls: None,
    }
}

/// §5.3: both begin afresh, whatever their settings are for other sessions.
#[test]
fn behind_the_turn_both_sides_begin_afresh() {
    let now = Now::default();
    let mut ours = crate::smtp::settings::Settings::new("site.example".parse().unwrap());
    ours.offers.start_tls = true;
    let from_provider = FromProvider::new(call(&["a.example"]));
    let mut site: Session<Never> = from_provider.session(&ours, peer(), now);
    let mut theirs = settings();
    theirs.tls = TlsPolicy::Required;
    let mut provider = ToCustomer::new(peer()).client(&theirs, now);
    let (mut to_provider, mut to_site) = (Vec::new(), Vec::new());
    let mut transcript = String::new();
    let mut wanted = false;
    for _ in 0..20 {
        while let Some(output) = site.poll() {
            match output {
                server::Output::Send(octets) => to_provider.extend(octets),
                server::Output::Close => {}
                other => panic!("{other:?}"),
            }
        }
        transcript += &String::from_utf8_lossy(&to_provider);
        provider.handle(now, Input::Received(&std::mem::take(&mut to_provider)));
        while let Some(output) = provider.poll() {
            match output {
                Output::Send(pieces) => {
                    for piece in pieces {
                        if let crate::smtp::client::job::Piece::Octets(octets) = piece {
                            to_site.extend(octets);
                        }
                    }
                    provider.handle(now, Input::Sent);
                }
                Output::Want => {
                    wanted = true;
                    provider.handle(now, Input::Quit);
                }
                Output::Close => {}
                other => panic!("{other:?}"),
            }
        }
        transcript += &String::from_utf8_lossy(&to_site);
        let octets = std::mem::take(&mut to_site);
        let mut at = 0;
        while at < octets.len() {
            at += site.handle(now, server::Input::Received(&octets[at..]));
        }
    }
    assert!(wanted, "{transcript}");
    let lines: Vec<_> = transcript.lines().collect();
    assert!(lines[0].starts_with("220 site.example"), "{transcript}");
    assert!(lines[1].starts_with("EHLO site.example"), "{transcript}");
    assert!(lines.last().unwrap().starts_with("221 "), "{transcript}");
    for absent in ["STARTTLS", "AUTH", "ATRN"] {
        assert!(!transcript.contains(absent), "{transcript}");
    }
}
