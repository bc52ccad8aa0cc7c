//! Whole sessions, with whatever the other side says.

use std::collections::BTreeMap;
use std::sync::Arc;

use turnspool::mail::{BodyForm, Domain, Envelope, Recipient, RecipientIndex, Sender};
use turnspool::pop3;
use turnspool::smtp::auth::{Mechanism, Mechanisms, Nonce, Password};
use turnspool::smtp::client::auth::{Checked, Credentials, Login};
use turnspool::smtp::client::job::{BodyEnd, BodyFacts, BodyOctets, Job, JobId, Piece};
use turnspool::smtp::client::settings::{ClearPassword, Protocol, TlsPolicy};
use turnspool::smtp::client::{self, Channel, Client};
use turnspool::smtp::data::BareNewline;
use turnspool::smtp::reply::Refusal;
use turnspool::smtp::server::{AuthAnswer, NotTaken, Question, Verdict};
use turnspool::smtp::settings::{AuthOffer, Settings};
use turnspool::time::Now;

use crate::login::judge;
use crate::script::Directive;
use crate::world::{Core, Reply, World};

/// Splits off how a session is set up.
fn bits(octets: &[u8]) -> (u8, &[u8]) {
    octets
        .split_first()
        .map_or((0, octets), |(first, rest)| (*first, rest))
}

/// Answers by what stands in the addresses.
struct ByName;

fn refusal(name: &str) -> Option<Refusal> {
    (name.starts_with('x')).then(|| Refusal::new(550, 1, 1, "no such user"))
}

impl Core for ByName {
    fn verdict(&mut self, question: &Question<'_>) -> Reply<Verdict> {
        let name = match question {
            Question::Sender { sender, .. } => sender.reverse_path.as_str(),
            Question::Recipient { recipient, .. } => recipient.forward_path.as_str(),
            Question::Turn { domains } => domains.first().map_or("", Domain::as_str),
            Question::Release { .. }
            | Question::Rebuff
            | Question::AuthBegins { .. }
            | Question::Login(_) => {
                unreachable!("that is another question")
            }
        };
        Reply::Now(refusal(name).map_or(Verdict::Accept, Verdict::Refuse))
    }

    fn login(&mut self, question: &Question<'_>) -> Reply<AuthAnswer> {
        Reply::Now(judge(question))
    }

    fn room(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>> {
        Reply::Now(match envelope.recipients.len() {
            3 => Err(NotTaken::NoRoom),
            _ => Ok(()),
        })
    }

    fn storage(&mut self, envelope: &Envelope) -> Reply<Result<(), NotTaken>> {
        Reply::Now(match envelope.recipients.len() {
            2 => Err(NotTaken::Failed),
            _ => Ok(()),
        })
    }

    fn script(&mut self, directive: Directive) {
        panic!("{directive:?} without a script");
    }
}

/// However it is cut, the client hears the same and the core is told the same. The world
/// asserts that one reply comes for one question, and nothing behind the end.
pub(crate) fn smtp_server(octets: &[u8]) {
    let (bits, wire) = bits(octets);
    let settings = || {
        let mut settings = Settings::new("relay.example".parse().expect("a domain"));
        settings.message_bytes_max = 200;
        settings.text_line_bytes_max = 60;
        settings.hops_max = 2;
        settings.recipients_max = 5;
        settings.command_bytes_max = 120;
        settings.discard_bytes_max = 300;
        settings.errors_max = 30;
        settings.idle_commands_max = 30;
        settings.offers.etrn = bits & 1 != 0;
        settings.offers.start_tls = bits & 8 != 0;
        settings.offers.mt_priority = true;
        if bits & 2 != 0 {
            settings.bare_newline = BareNewline::Normalise;
        }
        if bits & 4 != 0 {
            let all = [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5];
            settings.offers.auth = Some(AuthOffer {
                under_tls: all.into_iter().fold(Mechanisms::NONE, Mechanisms::with),
                in_clear: all.into_iter().fold(Mechanisms::NONE, Mechanisms::with),
                needed: false,
                failure_pause: std::time::Duration::ZERO,
                failures_max: 2,
            });
        }
        settings
    };
    let talk = |cut: usize| {
        let mut world = World::new(settings(), None, ByName);
        for part in wire.chunks(cut) {
            if world.is_closed() {
                break;
            }
            world.offer(part);
        }
        (world.said, world.told)
    };
    // STARTTLS throws away what came with it in clear, which depends on the cut.
    let whole = talk(wire.len().max(1));
    let single = talk(1);
    if bits & 8 == 0 {
        assert_eq!(
            whole.0.escape_ascii().to_string(),
            single.0.escape_ascii().to_string()
        );
        assert_eq!(whole.1, single.1);
    }
    for line in whole.0.split_inclusive(|&octet| octet == b'\n') {
        assert!(
            line.len() > 5 && line.ends_with(b"\r\n"),
            "{}",
            line.escape_ascii()
        );
    }
}

fn job(number: u64) -> Job {
    let recipient = |index: u32| {
        let path = format!("r{index}@b.example").parse().expect("a path");
        (RecipientIndex(index), Recipient::new(path))
    };
    let form = [BodyForm::Plain, BodyForm::Stuffed, BodyForm::Raw][number as usize % 3];
    Job {
        id: JobId(number),
        sender: Sender::new("a@a.example".parse().expect("a path")),
        recipients: (0..=number as u32).map(recipient).collect(),
        body: BodyFacts {
            octets: 100,
            form,
            kind: BodyOctets::SevenBit,
            end: BodyEnd::Crlf,
        },
    }
}

/// Of each job there is one outcome, of each of its recipients one, before the end; and
/// it ends when the server is gone, whatever that had said.
pub(crate) fn smtp_client(octets: &[u8]) {
    let (bits, wire) = bits(octets);
    let mut settings = client::settings::Settings::new("me.example".parse().expect("a domain"));
    if bits & 1 != 0 {
        settings.protocol = Protocol::Lmtp;
    }
    settings.tls = if bits & 2 != 0 {
        TlsPolicy::Opportunistic
    } else {
        TlsPolicy::None
    };
    settings.clear_password = ClearPassword::Allow;
    let cut = if bits & 4 != 0 { 1 } else { wire.len().max(1) };
    let now = Now::default();
    let mut client = Client::new(Arc::new(settings), now);
    if bits & 8 != 0 {
        client = client.with_login(Login {
            credentials: Arc::new(Credentials::Password {
                user: "tim".parse().expect("a name"),
                password: Password::new("tanstaaftanstaaf".to_owned()).expect("a password"),
            }),
            host: Checked::Nothing,
            nonce: Nonce([1; 18]),
        });
    }
    let jobs = u64::from(bits >> 5);
    let mut world = ClientWorld {
        client,
        now,
        jobs,
        handed: 0,
        open: BTreeMap::new(),
        closed: false,
    };
    world.handle(client::Input::Connected(Channel::Clear));
    for part in wire.chunks(cut) {
        if world.closed {
            break;
        }
        world.handle(client::Input::Received(part));
    }
    if !world.closed {
        world.handle(client::Input::PeerClosed);
    }
    assert!(world.closed, "it goes on without a server");
    assert!(
        world.open.is_empty(),
        "jobs without an outcome: {:?}",
        world.open
    );
}

struct ClientWorld {
    client: Client,
    now: Now,
    jobs: u64,
    handed: u64,
    /// Jobs that are under way, with their recipients.
    open: BTreeMap<u64, usize>,
    closed: bool,
}

impl ClientWorld {
    fn handle(&mut self, input: client::Input<'_>) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll() {
            assert!(!self.closed, "{output:?} behind the end");
            match output {
                client::Output::Send(pieces) => {
                    for piece in pieces {
                        if let Piece::Octets(octets) = piece {
                            assert!(octets.is_ascii(), "{}", octets.escape_ascii());
                        }
                    }
                    self.client.handle(self.now, client::Input::Sent);
                }
                client::Output::Want => {
                    if self.handed < self.jobs {
                        let job = job(self.handed);
                        self.handed += 1;
                        self.open.insert(job.id.0, job.recipients.len());
                        self.client.handle(self.now, client::Input::Deliver(job));
                    } else {
                        self.client.handle(self.now, client::Input::Quit);
                    }
                }
                client::Output::Outcome(outcome) => {
                    let open = self.open.get_mut(&outcome.job.0);
                    let open = open.expect("an outcome of a job that is under way");
                    *open = (*open)
                        .checked_sub(outcome.recipients.len())
                        .expect("more outcomes than recipients");
                    if *open == 0 {
                        self.open.remove(&outcome.job.0);
                    }
                }
                client::Output::Derive(_) => {
                    self.client.handle(self.now, client::Input::Derived(None));
                }
                client::Output::StartTls => {
                    self.client.handle(self.now, client::Input::TlsStarted);
                }
                client::Output::SessionFailed(error) => {
                    let text = error.to_string();
                    assert!(!text.chars().any(char::is_control), "{text:?}");
                }
                client::Output::Turned(_) | client::Output::Asked(_) => {
                    panic!("nobody asked for that")
                }
                client::Output::Close => self.closed = true,
            }
        }
    }
}

/// A mailbox that says anything. All commands are tried, messages as they are listed.
pub(crate) fn pop3(octets: &[u8]) {
    use pop3::session::{Command, Input, Output, Session};
    use pop3::settings::{Settings, Tls};

    let (bits, wire) = bits(octets);
    let tls = [Tls::None, Tls::Stls, Tls::Implicit][usize::from(bits) % 3];
    let cut = if bits & 4 != 0 { 1 } else { wire.len().max(1) };
    let now = Now::default();
    let login = pop3::Login::new("anna", "secret").expect("a login");
    let mut session = Session::new(
        Arc::new(Settings::new(tls, 1000)),
        login,
        Nonce([1; 18]),
        now,
    );
    session.handle(now, Input::Connected);
    let (mut ended, mut closed, mut in_text) = (false, false, None);
    let mut perform = |session: &mut Session, octets: &[u8]| {
        let mut count = 0;
        while let Some(output) = session.poll() {
            count += 1;
            assert!(!closed, "{output:?} behind the end");
            match output {
                Output::Text(range) => {
                    assert!(in_text.is_some() && range.end <= octets.len());
                }
                Output::TextConstant(_) => assert!(in_text.is_some()),
                Output::Send(octets) => assert!(octets.ends_with(b"\r\n")),
                Output::StartTls => {
                    session.handle(now, Input::Secured);
                }
                // As where no thread had the time: what follows is the same for any key.
                Output::Derive(_) => {
                    session.handle(now, Input::Derived(None));
                }
                Output::Listed(entries) => {
                    for entry in entries.iter().take(20) {
                        let number = entry.number;
                        for command in [
                            Command::Top(number),
                            Command::Retrieve(number),
                            Command::Delete(number),
                        ] {
                            session.handle(now, Input::Command(command));
                        }
                    }
                    session.handle(now, Input::Command(Command::Quit));
                }
                Output::Begin(number) => assert_eq!(in_text.replace(number), None),
                Output::End(number, _) => assert_eq!(in_text.take(), Some(number)),
                Output::Refused(..) | Output::Deleted(_) => {}
                Output::Ended(result) => {
                    assert!(!std::mem::replace(&mut ended, true), "it ends once");
                    if let Err(fault) = result {
                        let text = fault.to_string();
                        assert!(!text.chars().any(char::is_control), "{text:?}");
                    }
                }
                Output::Close => closed = true,
            }
        }
        count
    };
    perform(&mut session, &[]);
    for mut part in wire.chunks(cut) {
        while !part.is_empty() {
            let taken = session.handle(now, Input::Received(part));
            let outputs = perform(&mut session, part);
            part = &part[taken..];
            if taken == 0 && outputs == 0 {
                break;
            }
        }
    }
    session.handle(now, Input::PeerClosed);
    perform(&mut session, &[]);
    assert!(closed && ended, "it goes on without a server");
}
