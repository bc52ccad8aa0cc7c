//! A connection that brings mail: the server session, its octets, and the message
//! that it is bringing.
//!
//! What the session asks is answered here from `route` and the limits, at once.
//! What it hands out of a body goes straight into the log's batch; a message that
//! was begun is sealed or dropped, never forgotten.

mod appetite;
mod recipients;
mod turning;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::core::common::{Common, Waiting};
use crate::core::computing::Worked;
use crate::core::credentials::AccountKind;
use crate::core::deadlines::Entry;
use crate::core::flow::Flow;
use crate::core::incoming::Incoming;
use crate::core::turn::Turned;
use crate::core::visitors::Brought;
use crate::core::wakeup::Calls;
use crate::core::{ConnectionId, Piece, login};
use crate::mail::Envelope;
use crate::report::Fact;
use crate::route::TlsStart;
use crate::smtp::data::MessageFacts;
use crate::smtp::etrn::Answer;
use crate::smtp::server::{Input, NotTaken, Output, PeerFacts, Question, Session, Verdict};
use crate::smtp::trace::TlsFacts;
use crate::spool::commit::Committed;
use crate::spool::log::Refused;
use crate::spool::message::BodyFacts;
use crate::time::{Instant, Now};
use crate::user::UserName;

/// How long a client may take for the handshake of TLS: some round trips of a slow line.
/// Who needs longer is no mail client, and keeps a place among the sessions.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(60);

/// Whether the client may send more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InputEnd {
    /// It may.
    Open,
    /// It will not, and the session is told when it no longer waits for us: a client that
    /// closes its half behind the end of data is to hear what became of the message.
    Closed,
    /// The session was told.
    Told,
}

/// A connection that brings mail.
pub(super) struct Reception {
    session: Session<Committed>,
    flow: Flow,
    /// Octets that the session could not take yet.
    unread: Box<[u8]>,
    /// Boxed: most connections of a busy server are idle, and pay for what is here.
    incoming: Option<Box<Incoming>>,
    input: InputEnd,
    /// Boxed: few sessions turn.
    turned: Option<Box<Turned>>,
    /// What it has brought, where that is of interest.
    brought: Option<Box<Brought>>,
    entry: Entry,
}

impl Reception {
    /// A session with a client that has just connected.
    pub(super) fn new(
        id: ConnectionId,
        peer: SocketAddr,
        settings: Arc<crate::smtp::settings::Settings>,
        tls: TlsStart,
        now: Now,
    ) -> Self {
        let facts = PeerFacts {
            address: peer,
            tls: None,
        };
        let session = match tls {
            TlsStart::Command => Session::new(settings, facts, now),
            TlsStart::Connection => Session::behind_tls(settings, facts, now),
        };
        Self::with(session, Flow::new(id))
    }

    fn with(session: Session<Committed>, flow: Flow) -> Self {
        Self {
            session,
            flow,
            unread: Box::default(),
            input: InputEnd::Open,
            incoming: None,
            turned: None,
            brought: None,
            entry: Entry::default(),
        }
    }

    /// Whose session it is.
    pub(super) fn client(&self) -> IpAddr {
        self.peer().ip()
    }

    fn peer(&self) -> SocketAddr {
        self.session.peer().address
    }

    /// Somebody wants to know what it brings.
    pub(super) fn watch(&mut self) {
        self.brought = Some(Box::default());
    }

    /// What it has brought, if that was watched.
    pub(super) fn brought(&mut self) -> Brought {
        self.brought
            .take()
            .map(|brought| *brought)
            .unwrap_or_default()
    }

    /// Nothing will happen any more.
    pub(super) fn is_over(&self) -> bool {
        self.flow.is_closed()
    }

    /// Where the deadline's entry is kept.
    pub(super) const fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// When [`Reception::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.session.deadline(), self.flow.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Begins: the greeting goes out, if TLS does not come first.
    pub(super) fn begin(&mut self, now: Now, common: &mut Common, tls: TlsStart) {
        self.listen(now, common);
        if tls == TlsStart::Connection {
            self.start_tls(now, common);
        }
        self.outputs(now, common, &[]);
        self.settle(common);
    }

    /// Octets came; none means that the client will send no more.
    pub(super) fn received(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        self.flow.received();
        if self.flow.is_under_tls() {
            self.open(now, common, octets);
        } else {
            self.take(now, common, octets);
        }
        self.settle(common);
    }

    /// Opens what came under TLS.
    fn open(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        if octets.is_empty() && !self.flow.has_shaken_hands() {
            return self.give_up_tls(now, common, "the client went away");
        } else if octets.is_empty() {
            return self.take(now, common, &[]);
        }
        // Borrowed from the core for a moment: no session keeps such a buffer.
        let mut room = std::mem::take(&mut common.room);
        match self.flow.open(octets, &mut room) {
            Ok(received) => {
                if let Some(facts) = received.started {
                    let facts = TlsFacts {
                        protocol: facts.version,
                        cipher: facts.cipher,
                        client: facts.peer,
                    };
                    self.say(now, common, Input::TlsStarted(Box::new(facts)));
                }
                if !room.plaintext.is_empty() {
                    self.take(now, common, &room.plaintext);
                }
                if received.ended {
                    self.take(now, common, &[]);
                }
            }
            Err(fault) => self.give_up_tls(now, common, &fault.to_string()),
        }
        common.room = room;
    }

    /// Whether this session is recorded is decided at its beginning.
    fn listen(&mut self, now: Now, common: &mut Common) {
        if common.listening.is_off() {
            return;
        }
        let client = self.client().to_string();
        if common.listening.hears(now.instant, [client.as_str()]) {
            self.session.record();
        }
    }

    fn start_tls(&mut self, now: Now, common: &mut Common) {
        let Some(settings) = &common.settings.tls.server else {
            // It was offered by a configuration that is no longer in force.
            return self.give_up_tls(now, common, "[tls] is no longer configured");
        };
        let until = now.instant + HANDSHAKE_PATIENCE;
        let started = settings
            .layer()
            .and_then(|layer| self.flow.start_tls(layer, Some(until)));
        if let Err(fault) = started {
            self.give_up_tls(now, common, &fault.to_string());
        }
    }

    /// TLS failed: the client is told by an alert, and that is all it is told.
    fn give_up_tls(&mut self, now: Now, common: &mut Common, why: &str) {
        let what = if self.flow.has_shaken_hands() {
            "TLS failed in the session"
        } else {
            "the TLS handshake failed"
        };
        common.report(Fact::SessionEnded {
            peer: self.peer(),
            why: format!("{what}: {why}; what was not acknowledged is dropped"),
        });
        self.drop_incoming(common);
        self.unread = Box::default();
        self.flow.finish(now.instant);
    }

    /// Octets for the session; none means that the client will send no more.
    fn take(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        if octets.is_empty() {
            self.input = InputEnd::Closed;
            self.end_input(now, common);
        } else if self.unread.is_empty() {
            self.unread = self.read(now, common, octets).into();
            self.end_input(now, common);
        } else {
            self.unread = [&self.unread, octets].concat().into();
            self.read_unread(now, common);
            self.end_input(now, common);
        }
    }

    /// The last send has left.
    pub(super) fn sent(&mut self, common: &mut Common) {
        self.flow.sent();
        self.settle(common);
    }

    /// The connection is gone.
    pub(super) fn broken(&mut self, common: &mut Common, why: String) {
        self.flow.gone();
        self.drop_incoming(common);
        if let Some(Turned::Taking(taking)) = self.turned.as_deref_mut() {
            taking.broke_off(&why);
        }
        common.report(Fact::SessionEnded {
            peer: self.peer(),
            why: format!("the connection was lost ({why}); what was not acknowledged is dropped"),
        });
    }

    /// The deadline may have come.
    pub(super) fn timer(&mut self, now: Now, common: &mut Common) {
        if self.flow.is_open() && self.flow.handshake_is_late(now.instant) {
            self.give_up_tls(now, common, "it took too long");
        }
        self.flow.timer(now.instant, &mut common.operations);
        self.say(now, common, Input::Timer);
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// The server is to stop.
    pub(super) fn stop(&mut self, now: Now, common: &mut Common) {
        self.say(now, common, Input::Stop);
        self.settle(common);
    }

    /// Patience has ended.
    pub(super) fn abort(&mut self, common: &mut Common) {
        if let Some(Turned::Taking(taking)) = self.turned.as_deref_mut() {
            taking.broke_off("it was cut off");
        }
        self.drop_incoming(common);
        self.flow.abort(&mut common.operations);
    }

    /// The message is on stable storage.
    pub(super) fn stored(&mut self, now: Now, common: &mut Common, receipt: Committed) {
        if let Some(Turned::Taking(taking)) = self.turned.as_deref_mut() {
            taking.took_one();
        }
        self.say(now, common, Input::Stored(receipt));
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// The control core has answered ETRN.
    pub(super) fn released(&mut self, now: Now, common: &mut Common, answer: Answer) {
        self.say(now, common, Input::Released(answer));
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// The message could not be written.
    pub(super) fn not_stored(&mut self, now: Now, common: &mut Common) {
        self.say(now, common, Input::NotStored(NotTaken::Failed));
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// What the session's claim needed was computed.
    pub(super) fn computed(&mut self, now: Now, common: &mut Common, worked: Worked) {
        // A session that is over asks nothing any more.
        let Some(Question::Login(claim)) = self.session.question() else {
            return;
        };
        let answer = login::computed(claim, worked);
        self.say(now, common, Input::Auth(answer));
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// The log takes octets again.
    pub(super) fn resume(&mut self, now: Now, common: &mut Common) {
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    fn say(&mut self, now: Now, common: &mut Common, input: Input<'_, Committed>) {
        self.session.handle(now, input);
        self.outputs(now, common, &[]);
    }

    /// Offers octets to the session until it takes no more, or others go first. Gives what
    /// is left.
    fn read<'a>(&mut self, now: Now, common: &mut Common, mut octets: &'a [u8]) -> &'a [u8] {
        loop {
            if self.lets_others_go_first(common) || self.waits_for_log(common) {
                return octets;
            }
            let taken = self.session.handle(now, Input::Received(octets));
            let answered = self.outputs(now, common, octets);
            octets = &octets[taken..];
            if octets.is_empty() || (taken == 0 && answered == 0) {
                return octets;
            }
        }
    }

    fn read_unread(&mut self, now: Now, common: &mut Common) {
        if self.unread.is_empty() {
            return;
        }
        let unread = std::mem::take(&mut self.unread);
        self.unread = self.read(now, common, &unread).into();
    }

    /// Performs what the session wants; `octets` are those it was last offered.
    /// Gives how many outputs there were.
    fn outputs(&mut self, now: Now, common: &mut Common, octets: &[u8]) -> usize {
        let mut outputs = 0;
        while let Some(output) = self.session.poll() {
            outputs += 1;
            match output {
                // A commit may be answered behind the failure of TLS.
                Output::Send(octets) if self.flow.is_open() => {
                    self.flow.send([Piece::Octets(octets)]);
                }
                Output::Send(_) => {}
                Output::Ask if matches!(self.session.question(), Some(Question::Turn { .. })) => {
                    self.ask_for_turn(now, common);
                }
                Output::Ask => {
                    let answer = self.answer(now, common);
                    self.session.handle(now, answer);
                }
                Output::Begin { envelope, expected } => {
                    let input = self.begin_message(now, common, envelope, expected);
                    self.session.handle(now, input);
                }
                Output::Header(octets) => self.store(now, common, &octets),
                Output::Body(range) => self.store(now, common, &octets[range]),
                Output::BodyConstant(octets) => self.store(now, common, octets),
                Output::End(facts) => {
                    let Some(incoming) = self.incoming.take() else {
                        // It was lost on the way, and the session was told.
                        continue;
                    };
                    let waiting = Waiting::Reception(self.flow.connection());
                    if let Some(brought) = &mut self.brought {
                        brought.note(incoming.envelope());
                    }
                    if let Some(Turned::Taking(taking)) = self.turned.as_deref_mut() {
                        taking.takes(facts.octets);
                    }
                    match common.seal(now, *incoming, body_facts(&facts), waiting) {
                        // The commit takes a while: what was said before goes out.
                        Ok(()) => self.session.handle(now, Input::Later),
                        Err((refused, _)) => {
                            let why = not_taken(common, &refused);
                            self.session.handle(now, Input::NotStored(why))
                        }
                    };
                }
                Output::Abort => self.drop_incoming(common),
                Output::Turn(to_customer) => {
                    if let Some(Turned::Granted(turn)) = self.turned.take().map(|turned| *turned) {
                        let turned = Turned::Done { turn, to_customer };
                        self.turned = Some(Box::new(turned));
                    }
                }
                Output::LoggedIn { mechanism } => {
                    let user = self.session.user().expect("it is known now");
                    common.logged_in(self.peer(), user, mechanism);
                }
                Output::LoginFailed { mechanism, user } => {
                    common.login_failed(self.peer(), user, mechanism);
                }
                Output::StartTls => self.start_tls(now, common),
                Output::Close => self.flow.finish(now.instant),
            }
        }
        let said = self.session.take_record();
        if !said.is_empty() {
            common.report_spoken(self.flow.connection(), self.peer(), said);
        }
        outputs
    }

    /// Answers the session's question from the routes and limits.
    fn answer(&self, now: Now, common: &mut Common) -> Input<'static, Committed> {
        Input::Answer(match self.session.question() {
            Some(Question::AuthBegins { .. }) => {
                return Input::Auth(common.auth_begins(now, self.peer()));
            }
            Some(Question::Login(claim)) => {
                let tls = self.session.peer().tls.as_ref();
                let certificate = tls.and_then(|tls| tls.client.as_deref());
                let answer = common.judge(self.flow.connection(), certificate, claim);
                return answer.map_or(Input::Later, Input::Auth);
            }
            None | Some(Question::Sender { .. } | Question::Turn { .. }) => Verdict::Accept,
            Some(Question::Rebuff) => {
                let pace = &mut common.strangers.pace;
                return Input::Pause(pace.wait(now.instant, self.client()));
            }
            Some(Question::Release { node }) => {
                let user = self.customer_user(common).map(UserName::as_str);
                let answer = common.etrn(now, self.flow.connection(), self.peer(), user, node);
                return answer.map_or(Input::Later, Input::Released);
            }
            Some(Question::Recipient { recipient, .. }) => {
                let path = &recipient.forward_path;
                match self.judge_recipient(common, path) {
                    Some(verdict) => verdict,
                    None => return Input::Later,
                }
            }
        })
    }

    /// As which customer the client may have mail released.
    fn customer_user(&self, common: &Common) -> Option<&UserName> {
        self.session.user().filter(|user| {
            let kind = common.settings.credentials.kind(user);
            matches!(kind, Some(AccountKind::Customer(_)))
        })
    }

    /// As whom the client may relay: a user of ours, as long as the user is one. A
    /// customer may have his mail; that makes him no sender.
    fn relay_user(&self, common: &Common) -> Option<&UserName> {
        self.session
            .user()
            .filter(|user| common.settings.credentials.kind(user) == Some(&AccountKind::User))
    }

    fn begin_message(
        &mut self,
        now: Now,
        common: &mut Common,
        mut envelope: Envelope,
        expected: Option<u64>,
    ) -> Input<'static, Committed> {
        let user = self.customer_user(common).map(UserName::as_str);
        let calls = Calls::of(&mut envelope, &common.settings.wakeup, self.peer(), user);
        match Incoming::begin(
            now,
            &mut common.log,
            envelope,
            expected,
            Some(self.client()),
        ) {
            Ok(mut incoming) => {
                incoming.listen(calls);
                common.taken_again();
                let queue_id = incoming.queue_id();
                self.incoming = Some(Box::new(incoming));
                Input::Begun(queue_id)
            }
            Err(refused) => Input::NotBegun(not_taken(common, &refused)),
        }
    }

    fn store(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        if let Err(refused) = incoming.append(now, &mut common.log, octets) {
            self.drop_incoming(common);
            let why = not_taken(common, &refused);
            self.session.handle(now, Input::NotStored(why));
        }
    }

    fn drop_incoming(&mut self, common: &mut Common) {
        if let Some(incoming) = self.incoming.take() {
            common.counters.messages_abandoned += 1;
            incoming.abandon(&mut common.log);
        }
    }
}

/// What the session is told of a refusal of the log.
fn not_taken(common: &mut Common, refused: &Refused) -> NotTaken {
    match refused {
        Refused::NoRoom(_) => {
            common.refused_for_room(refused);
            NotTaken::NoRoom
        }
        Refused::Append(_) => NotTaken::Failed,
    }
}

/// What the log wants to know of a body.
fn body_facts(facts: &MessageFacts) -> BodyFacts {
    BodyFacts {
        form: facts.form,
        ends_with_crlf: facts.ends_with_crlf,
        eight_bit: facts.eight_bit,
    }
}

// Most connections of a busy server are idle, and each pays for all of this: with its
// socket and its waiting task an idle one must stay below a kibibyte.
const _: () = assert!(size_of::<Reception>() <= 384);
