//! A connection that takes mail away: the client session, and the messages that it
//! delivers from the mapped segments.
//!
//! A delivery is made for one connection permit and one destination. It tries the
//! addresses of the destination in their order until a host talks to us, takes jobs
//! from the schedule as long as there are some, lingers a moment for more, and goes.
//!
//! Every job that was taken gets its outcome from the session exactly once, however
//! the connection ends; so nothing is lost between here and the schedule.

mod content;
pub(super) mod errand;
pub(super) mod passing;
pub(super) mod patience;
mod recording;

use std::collections::VecDeque;
use std::time::Duration;

use self::content::Stuffing;
use self::errand::{Errand, log_in};
use self::passing::{Carried, Silent};
use self::patience::Patience;
use crate::core::common::{Common, WantedConnection};
use crate::core::computing::Worked;
use crate::core::deadlines::Entry;
use crate::core::flow::{Appetite, Flow};
use crate::core::outcome::{Active, HostText, PassedOn, Reading};
use crate::core::{ConnectionId, Endpoint, Host, Operation};
use crate::queue::Take;
use crate::queue::notification::Action;
use crate::report::Fact;
use crate::route::{Protocol, TlsPolicy, TlsStart};
use crate::smtp::client::fault::SessionError;
use crate::smtp::client::job::{Piece as JobPiece, Remaining};
use crate::smtp::client::{Channel, Client, Input, Output};
use crate::smtp::trace::TlsFacts;
use crate::smtp::turn::FromProvider;
use crate::spool::message::SegmentSource;
use crate::time::{Instant, Now};
use crate::tls::{Fault, IdentityNumber, Request, Verification};

/// Where a delivery may connect to, best first.
pub(super) type Candidates = VecDeque<(Host, Endpoint)>;

/// How it stands with jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hunger {
    /// The session has not asked for one.
    None,
    /// It asked, and there was none.
    Waiting,
    /// It was told that there are no more.
    Quitting,
    /// There are none here, but there may be at another core.
    MovingOn,
}

/// How the host of a connection stands among those of its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// None was passed over for it.
    Best,
    /// A better one did not talk to us, or is known to be dead.
    StandsIn,
}

/// How long a connection to a host that stands in is given more work: under a steady
/// stream it would never end, and the better host would not be seen to be up again.
const STANDS_IN: Duration = Duration::from_secs(60);

/// A connection that takes mail away.
pub(super) struct Delivery {
    pub(super) errand: Errand,
    client: Client,
    flow: Flow,
    pub(super) host: Host,
    pub(super) endpoint: Endpoint,
    /// Of both, from the first answer on: it is wanted for each message.
    text: Option<Box<HostText>>,
    pub(super) jobs: Vec<Active>,
    /// Pieces that the session gave out and that are not yet with the flow.
    pieces: VecDeque<JobPiece>,
    stuffing: Option<Stuffing>,
    /// Of jobs that are over while something is still leaving.
    reading: Vec<Reading>,
    hunger: Hunger,
    /// Why the session failed, if it did.
    pub(super) failure: Option<SessionError>,
    /// Why the connection could not be had, in the system's words.
    pub(super) connect_failure: Option<String>,
    /// A job was handed over in this session.
    pub(super) worked: bool,
    /// The host said of some recipient what becomes of it.
    pub(super) answered: bool,
    /// What the handshake came to, if there was one.
    tls: Option<Box<TlsFacts>>,
    /// The provider that we called has said 250.
    provided: Option<FromProvider>,
    /// It was decided whether the session is recorded.
    listened: bool,
    /// From then on it is given no more jobs.
    work_until: Option<Instant>,
    /// Hosts before this one that were not spoken to.
    pub(super) silent: Silent,
    /// A message that is to be the first here, or that this host cannot take.
    pub(super) passed_on: Option<PassedOn>,
    /// The one that was to be the first here.
    carried: Option<Carried>,
    patience: Patience,
    entry: Entry,
}

impl Delivery {
    /// Begins to connect to the first candidate. `None` if there is none.
    pub(super) fn begin(
        id: ConnectionId,
        wanted: WantedConnection,
        standing: Standing,
        now: Now,
        common: &mut Common,
    ) -> Option<Self> {
        let WantedConnection {
            connection: queue_id,
            destination,
            mut candidates,
            failed: _,
            silent,
            passed_on,
        } = wanted;
        let (host, endpoint) = candidates.pop_front()?;
        let policy = match host.tls.policy {
            TlsPolicy::Opportunistic if common.hosts.is_in_clear(now.instant, &endpoint) => {
                TlsPolicy::None
            }
            policy => policy,
        };
        let settings = common.settings.client(host.protocol, policy);
        common.counters.connections_out += 1;
        common.operations.push_back(Operation::Connect {
            connection: id,
            to: endpoint.clone(),
            from: None,
        });
        let errand = Errand::Ours {
            connection: queue_id,
            destination,
            candidates,
        };
        let client = log_in(Client::new(settings, now), &host, common);
        // The host for all, or with this mail.
        let failures = (common.memory.failures_with_next(&endpoint) - 1)
            .max(common.queue.failures(destination));
        let mut delivery = Self::with(errand, client, Flow::new(id), host, endpoint);
        delivery.patience = Patience::after(failures);
        delivery.silent = silent;
        delivery.passed_on = passed_on;
        delivery.work_until = match standing {
            Standing::Best => None,
            Standing::StandsIn => Some(now.instant + STANDS_IN),
        };
        Some(delivery)
    }

    fn with(errand: Errand, client: Client, flow: Flow, host: Host, endpoint: Endpoint) -> Self {
        Self {
            errand,
            client,
            flow,
            host,
            endpoint,
            text: None,
            jobs: Vec::new(),
            pieces: VecDeque::new(),
            stuffing: None,
            reading: Vec::new(),
            hunger: Hunger::None,
            failure: None,
            connect_failure: None,
            worked: false,
            answered: false,
            tls: None,
            provided: None,
            listened: false,
            work_until: None,
            silent: Silent::default(),
            passed_on: None,
            carried: None,
            patience: Patience::after(0),
            entry: Entry::default(),
        }
    }

    /// Nothing will happen any more.
    pub(super) fn is_over(&self) -> bool {
        self.flow.is_closed()
    }

    /// The host is of no use, or has said all that it was asked for, and is told so: it may
    /// take its time to answer QUIT, or never answer. What the connection was for goes on at
    /// once.
    pub(super) fn is_leaving(&self) -> bool {
        let is_done = match &self.errand {
            Errand::Ours { .. } => self.failure.is_some() && !self.worked && self.jobs.is_empty(),
            Errand::Call { fetch, asked, .. } => self.failure.is_some() || fetch.has_all(asked),
            Errand::Ask { .. } | Errand::Turn { .. } | Errand::Leaving => false,
        };
        is_done && !self.flow.is_closed()
    }

    /// Where the deadline's entry is kept.
    pub(super) const fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// Whether it ends when the link does.
    pub(super) fn is_over_link(&self, common: &Common) -> bool {
        match &self.errand {
            Errand::Ours { destination, .. } => common.queue.needs_link(*destination),
            Errand::Call { .. } | Errand::Ask { .. } | Errand::Turn { .. } | Errand::Leaving => {
                match &self.endpoint {
                    Endpoint::Tcp(peer) => common.settings.policies.link.address(peer.ip()),
                    Endpoint::Unix(_) => false,
                }
            }
        }
    }

    /// The host, for the operator: name and address.
    pub(super) fn host(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(_) => format!("{} {}", self.host.name, self.endpoint),
            Endpoint::Unix(_) => self.endpoint.to_string(),
        }
    }

    fn host_text(&self) -> Box<HostText> {
        Box::new(HostText {
            name: self.host.name.parse().ok(),
            text: self.host(),
            success: match self.host.protocol {
                Protocol::Smtp => Action::Relayed,
                Protocol::Lmtp => Action::Delivered,
            },
        })
    }

    /// The outcome of connecting.
    pub(super) fn connected(
        &mut self,
        now: Now,
        common: &mut Common,
        spool: &impl SegmentSource,
        result: Result<(), String>,
    ) {
        match result {
            Ok(()) if self.is_tls_from_the_start() => match self.start_tls(common) {
                Ok(()) => self.outputs(now, common, spool),
                Err(fault) => {
                    self.say(now, common, spool, Input::TlsFailed(fault.to_string()));
                }
            },
            Ok(()) => self.say(now, common, spool, Input::Connected(Channel::Clear)),
            Err(why) => {
                self.flow.gone();
                self.connect_failure = Some(why);
                self.say(now, common, spool, Input::PeerClosed);
            }
        }
    }

    /// Octets came; none means that the host will send no more.
    pub(super) fn received(
        &mut self,
        now: Now,
        common: &mut Common,
        spool: &impl SegmentSource,
        octets: &[u8],
    ) {
        self.flow.received();
        if octets.is_empty() && self.flow.is_shaking_hands() {
            let why = "the host closed the connection in the handshake".to_owned();
            self.say(now, common, spool, Input::TlsFailed(why));
        } else if octets.is_empty() {
            self.say(now, common, spool, Input::PeerClosed);
        } else if self.flow.is_under_tls() {
            self.open(now, common, spool, octets);
        } else {
            self.say(now, common, spool, Input::Received(octets));
        }
    }

    /// Opens what came under TLS.
    fn open(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource, octets: &[u8]) {
        // Borrowed from the core for a moment: no session keeps such a buffer.
        let mut room = std::mem::take(&mut common.room);
        match self.flow.open(octets, &mut room) {
            Ok(received) => {
                if let Some(facts) = received.started {
                    self.tls = Some(Box::new(TlsFacts {
                        protocol: facts.version,
                        cipher: facts.cipher,
                        client: facts.peer,
                    }));
                    let input = if self.is_tls_from_the_start() {
                        Input::Connected(Channel::Tls)
                    } else {
                        Input::TlsStarted
                    };
                    self.say(now, common, spool, input);
                }
                if !room.plaintext.is_empty() {
                    self.say(now, common, spool, Input::Received(&room.plaintext));
                }
                if received.ended {
                    self.say(now, common, spool, Input::PeerClosed);
                } else {
                    // An answer of the handshake may be all that there is to send.
                    self.flow
                        .advance(Appetite::Hungry, spool, &mut common.operations);
                }
            }
            Err(fault) => self.say(now, common, spool, Input::TlsFailed(fault.to_string())),
        }
        common.room = room;
    }

    fn is_tls_from_the_start(&self) -> bool {
        let tls = self.host.tls;
        tls.start == TlsStart::Connection && tls.policy != TlsPolicy::None
    }

    fn start_tls(&mut self, common: &mut Common) -> Result<(), Fault> {
        let layer = common.tls.layer(&Request {
            name: &self.host.name,
            address: match &self.endpoint {
                Endpoint::Tcp(address) => Some(address.ip()),
                Endpoint::Unix(_) => None,
            },
            verification: match self.host.tls.policy {
                TlsPolicy::Verified => Verification::Name,
                TlsPolicy::None | TlsPolicy::Opportunistic | TlsPolicy::Required => {
                    Verification::Any
                }
            },
            identity: (self.host.tls.certificate).map(|own| IdentityNumber(own.0)),
        })?;
        // The session has a deadline of its own.
        self.flow.start_tls(layer, None)
    }

    /// Some of the last send has left.
    pub(super) fn progress(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        self.say(now, common, spool, Input::Progress);
    }

    /// The last send has left.
    pub(super) fn sent(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        self.flow.sent();
        if self.flow.is_shaking_hands() {
            // Octets of TLS, of which the session knows nothing.
            return self
                .flow
                .advance(Appetite::Hungry, spool, &mut common.operations);
        }
        self.fill(common, spool);
        let input = if self.all_has_left() {
            Input::Sent
        } else {
            Input::Progress
        };
        self.say(now, common, spool, input);
    }

    /// The connection is gone, and had brought this before.
    pub(super) fn broken(
        &mut self,
        now: Now,
        common: &mut Common,
        spool: &impl SegmentSource,
        heard: &[u8],
    ) {
        let input = if self.flow.is_shaking_hands() {
            Input::TlsFailed("the connection was lost in the handshake".to_owned())
        } else {
            Input::PeerClosed
        };
        self.flow.gone();
        // What it answered counts, though it can be told nothing any more.
        if !heard.is_empty() && matches!(input, Input::PeerClosed) {
            self.client.handle(now, Input::SendFailed);
            self.received(now, common, spool, heard);
        }
        self.say(now, common, spool, input);
    }

    /// The deadline may have come.
    pub(super) fn timer(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        self.give_way(now, common, spool);
        self.say(now, common, spool, Input::Timer);
    }

    /// The key for AUTH was derived, or there was no time for it.
    pub(super) fn computed(
        &mut self,
        now: Now,
        common: &mut Common,
        spool: &impl SegmentSource,
        worked: Worked,
    ) {
        self.say(now, common, spool, Input::Derived(worked.salted()));
    }

    /// There may be a job now.
    pub(super) fn wake(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        if self.hunger == Hunger::Waiting {
            self.hunger = Hunger::None;
            self.feed(now, common, spool);
            self.outputs(now, common, spool);
        }
    }

    /// No more jobs are wanted: finish and go.
    pub(super) fn quit(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        if self.hunger != Hunger::Quitting {
            self.hunger = Hunger::Quitting;
            self.say(now, common, spool, Input::Quit);
        }
    }

    /// Patience has ended.
    pub(super) fn abort(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        self.say(now, common, spool, Input::Abort);
        self.flow.abort(&mut common.operations);
    }

    fn say(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource, input: Input<'_>) {
        self.client.handle(now, input);
        self.outputs(now, common, spool);
    }

    fn outputs(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        self.poll_all(now, common, spool);
        self.fill(common, spool);
        self.flow
            .advance(Appetite::Hungry, spool, &mut common.operations);
        if self.flow.is_closed() && !self.jobs.is_empty() {
            // Given up on our side: a body could not be read. Its jobs end all the same.
            self.client.handle(now, Input::PeerClosed);
            self.poll_all(now, common, spool);
        }
        self.take_back_readings(common);
    }

    fn poll_all(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        if !self.listened {
            self.listen(now, common);
        }
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send(pieces) => self.pieces.extend(pieces),
                Output::Want => self.feed(now, common, spool),
                Output::Outcome(outcome) => {
                    if let Errand::Ask { asking, .. } = &mut self.errand {
                        asking.take(&outcome);
                        continue;
                    }
                    let index = self.jobs.iter().position(|active| active.id == outcome.job);
                    let index = index.expect("an outcome is for a job that was handed over");
                    let Some(outcome) = self.judge_unfit(index, outcome) else {
                        continue;
                    };
                    if outcome.recipients.iter().any(|(_, o)| o.reply().is_some()) {
                        common.memory.answered(&self.endpoint);
                    }
                    if outcome.recipients.iter().any(|(_, o)| o.is_of_host()) {
                        self.answered = true;
                        common.hosts.answered(&self.endpoint);
                    }
                    let text = self.text.take().unwrap_or_else(|| self.host_text());
                    common.outcome(now, &mut self.jobs[index], &text, &outcome);
                    self.text = Some(text);
                    if let Errand::Turn { round, .. } = &mut self.errand {
                        round.messages += u64::from(outcome.is_delivered());
                    }
                    if outcome.remaining == Remaining::None {
                        let active = self.jobs.swap_remove(index);
                        let reading = common.job_over(now, spool, active);
                        self.reading.push(reading);
                        if let Errand::Turn { .. } = self.errand
                            && self.hunger == Hunger::Waiting
                        {
                            self.hunger = Hunger::None;
                            self.feed(now, common, spool);
                        }
                    }
                }
                Output::StartTls => {
                    if let Err(fault) = self.start_tls(common) {
                        let why = fault.to_string();
                        self.client.handle(now, Input::TlsFailed(why));
                    }
                }
                Output::Turned(from) => self.provider_turns(from),
                Output::Asked(answer) => {
                    if let Errand::Call { asked, .. } = &mut self.errand {
                        asked.push(answer);
                    }
                }
                Output::Derive(derivation) => {
                    common.compute(self.flow.connection(), derivation.into());
                }
                Output::SessionFailed(error) => {
                    if error.is_about_login() {
                        common.report(Fact::LoginRefused {
                            host: self.host(),
                            why: error.to_string(),
                        });
                    }
                    self.failure = Some(error);
                }
                // Whatever is still leaving is of no use: QUIT was answered, or the session
                // failed, perhaps because the host does not read.
                Output::Close => self.flow.abort(&mut common.operations),
            }
        }
        for active in &mut self.jobs {
            common.note_delivered(now, spool, active);
        }
        self.tell_spoken(common);
    }

    /// Answers a wish for a job.
    fn feed(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        if self.flow.is_closed() {
            // The host is gone: a job would be tried in vain, and that counted.
            self.hunger = Hunger::Waiting;
            return;
        }
        let is_late = self.worked && self.work_until.is_some_and(|until| until <= now.instant);
        if self.hunger == Hunger::Quitting || is_late {
            self.hunger = Hunger::Quitting;
            self.client.handle(now, Input::Quit);
            return;
        }
        if self.takes_held_mail(common) && common.log.awaits_segment() {
            // Nothing could be written of what becomes of it: after a crash right now all
            // of that would go once more.
            common.awaiting_segment.push(self.flow.connection());
            self.hunger = Hunger::Waiting;
            return;
        }
        if let Errand::Ask { asking, .. } = &mut self.errand
            && let Some(job) = asking.job()
        {
            self.client.handle(now, Input::Deliver(job));
            return;
        }
        if let Some(active) = self.take_passed_on() {
            let job = active.for_session();
            self.worked = true;
            self.jobs.push(active);
            self.client.handle(now, Input::Deliver(job));
            return;
        }
        loop {
            let take = match &self.errand {
                Errand::Call { .. } | Errand::Ask { .. } | Errand::Leaving => Take::Quit,
                Errand::Ours { connection, .. } => common.queue.take(now, *connection),
                Errand::Turn { visit, .. } => common.queue.take_visiting(now, *visit),
            };
            match take {
                Take::Job(job) => match common.load(now, spool, job) {
                    Some((active, job)) => {
                        self.worked = true;
                        self.jobs.push(active);
                        self.client.handle(now, Input::Deliver(job));
                        return;
                    }
                    // It could not be read, and was dealt with.
                    None => continue,
                },
                Take::Wait => {
                    self.hunger = Hunger::Waiting;
                    return;
                }
                Take::Quit if self.has_more_elsewhere(common) => {
                    self.hunger = Hunger::MovingOn;
                    return;
                }
                Take::Quit => {
                    self.hunger = Hunger::Quitting;
                    self.client.handle(now, Input::Quit);
                    return;
                }
            }
        }
    }
}
