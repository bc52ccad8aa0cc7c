//! A connection that collects a mailbox: the POP3 session, the message that it is
//! bringing, and what is remembered of the mailbox.
//!
//! A message goes into the log as its octets come. It is sealed together with the note
//! that it was collected, so that both are true or neither; only when that is on stable
//! storage the server is told to delete it. So a line that is cut at any octet, and a
//! crash at any moment, neither loses a message nor doubles it.
//!
//! Invariants:
//!
//! - A message that was begun in the log is sealed or dropped, never forgotten.
//! - A collection is over only when each message that it has sealed is committed, or
//!   never will be: the next run of the account sees what this one has left.
//! - What is deleted on the server is committed here.

mod ending;
mod recording;
mod storing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use self::storing::Current;
use crate::core::collector::{Behind, Next, Order, Run};
use crate::core::common::Common;
use crate::core::computing::Worked;
use crate::core::deadlines::Entry as Deadline;
use crate::core::flow::{Appetite, Flow, NoSpool};
use crate::core::{ConnectionId, Endpoint, Operation, Piece};
use crate::pop3::fault::{Fault, Stage};
use crate::pop3::mailbox::{Plan, Task};
use crate::pop3::memory::{Account, Deed, Identity, UIDL_TAG};
use crate::pop3::session::{Command, Input, Output, Session};
use crate::pop3::settings::Tls;
use crate::pop3::{Entry, MessageNumber};
use crate::report::Fact;
use crate::report::collecting::Tally;
use crate::time::{Instant, Now};
use crate::tls::{Request, Verification};

/// Commands that the session is told ahead of those that it has sent. More would only
/// lie there; and what is to be deleted meanwhile should not come behind all of them.
const TOLD_MAX: usize = 16;

/// A message that was sealed and is not committed.
struct Sealed {
    identity: Option<Identity>,
    deed: Deed,
    octets: u64,
}

/// A connection that collects a mailbox.
pub(super) struct Collection {
    order: Order,
    address: SocketAddr,
    session: Session,
    flow: Flow,
    /// Octets that the session could not take yet.
    unread: Vec<u8>,
    /// Still to be told to the session, last first.
    tasks: Vec<Task>,
    /// Told, and their text has not begun.
    asked: HashMap<MessageNumber, Task>,
    current: Current,
    pending: HashMap<MessageNumber, Sealed>,
    /// Messages without unique-id that were collected before this session.
    digests: HashSet<Identity>,
    /// Digests of messages that the server was told to delete.
    digests_told: HashMap<MessageNumber, Identity>,
    /// Of those, what it has marked: forgotten when it confirms QUIT.
    digests_deleted: Vec<Identity>,
    /// To be deleted when nothing is pending: the one that each recipient has may be.
    delete_later: Vec<MessageNumber>,
    tally: Tally,
    listed: bool,
    quitting: bool,
    /// How the session ended, once it has.
    ended: Option<Result<(), Failure>>,
    deadline_entry: Deadline,
}

struct Failure {
    next: Next,
    why: String,
    /// The server did not talk to us: another address may.
    connecting: bool,
}

/// What is left when a collection is over.
pub(super) enum Aftermath {
    /// The control core is told.
    Over(Run),
    /// This address did not talk to us; the others may.
    TryNext(Order),
}

impl Collection {
    /// Begins to connect to the first address of the order. Gives the run if there is
    /// none.
    pub(super) fn begin(
        id: ConnectionId,
        mut order: Order,
        now: Now,
        common: &mut Common,
    ) -> Result<Self, Run> {
        let Some(address) = order.addresses.pop_front() else {
            return Err(Run::failed(
                order.run,
                "the server has no address".to_owned(),
            ));
        };
        common.counters.connections_out += 1;
        common.operations.push_back(Operation::Connect {
            connection: id,
            to: Endpoint::Tcp(address),
            from: None,
        });
        let settings = Arc::clone(&order.collector.session);
        Ok(Self {
            session: Session::new(settings, order.login.clone(), common.nonces.fresh(), now),
            order,
            address,
            flow: Flow::new(id),
            unread: Vec::new(),
            tasks: Vec::new(),
            asked: HashMap::new(),
            current: Current::None,
            pending: HashMap::new(),
            digests: HashSet::new(),
            digests_told: HashMap::new(),
            digests_deleted: Vec::new(),
            delete_later: Vec::new(),
            tally: Tally::default(),
            listed: false,
            quitting: false,
            ended: None,
            deadline_entry: Deadline::default(),
        })
    }

    /// Whose mailbox it collects.
    pub(super) fn account(&self) -> &Account {
        &self.order.collector.account
    }

    /// Nothing will happen any more.
    pub(super) fn is_over(&self) -> bool {
        self.flow.is_closed() && self.pending.is_empty()
    }

    /// Where the deadline's entry is kept.
    pub(super) const fn entry(&mut self) -> &mut Deadline {
        &mut self.deadline_entry
    }

    /// When [`Collection::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.session.deadline(), self.flow.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// What is to be done when it is over.
    pub(super) fn aftermath(self) -> Aftermath {
        let failure = match self.ended {
            Some(Ok(())) => None,
            Some(Err(failure)) => Some(failure),
            None => Some(Failure {
                next: Next::Usual,
                why: "it was cut off, since the server is stopping".to_owned(),
                connecting: false,
            }),
        };
        if failure.as_ref().is_some_and(|failure| failure.connecting)
            && !self.order.addresses.is_empty()
        {
            return Aftermath::TryNext(self.order);
        }
        Aftermath::Over(Run {
            id: self.order.run,
            said: expiry(
                self.tally,
                self.session.expire_days(),
                self.order.collector.policy.keep,
            ),
            tally: self.tally,
            behind: Behind::Nothing,
            failure: failure.map(|failure| (failure.next, failure.why)),
            login_delay: self.session.login_delay(),
        })
    }

    /// The outcome of connecting.
    pub(super) fn connected(&mut self, now: Now, common: &mut Common, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.listen(now, common);
                if self.order.collector.session.tls == Tls::Implicit {
                    self.start_tls(now, common);
                    self.settle(now, common);
                } else {
                    self.say(now, common, Input::Connected);
                }
            }
            Err(why) => {
                self.flow.gone();
                self.ended = Some(Err(Failure {
                    next: Next::Soon,
                    why: format!("connecting to {} failed: {why}", self.address),
                    connecting: true,
                }));
            }
        }
    }

    /// Octets came; none means that the server will send no more.
    pub(super) fn received(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        self.flow.received();
        if octets.is_empty() && self.flow.is_shaking_hands() {
            let why = "the server closed the connection in the handshake".to_owned();
            self.say(now, common, Input::TlsFailed(why));
        } else if octets.is_empty() {
            self.say(now, common, Input::PeerClosed);
        } else if self.flow.is_under_tls() {
            self.open(now, common, octets);
        } else {
            self.take(now, common, octets);
        }
    }

    /// Opens what came under TLS.
    fn open(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        // Borrowed from the core for a moment: no session keeps such a buffer.
        let mut room = std::mem::take(&mut common.room);
        match self.flow.open(octets, &mut room) {
            Ok(received) => {
                if received.started.is_some() {
                    let input = match self.order.collector.session.tls {
                        Tls::Implicit => Input::Connected,
                        Tls::Stls | Tls::None => Input::Secured,
                    };
                    self.say(now, common, input);
                }
                if !room.plaintext.is_empty() {
                    self.take(now, common, &room.plaintext);
                }
                if received.ended {
                    self.say(now, common, Input::PeerClosed);
                } else {
                    // An answer of the handshake may be all that there is to send.
                    self.settle(now, common);
                }
            }
            Err(fault) => self.say(now, common, Input::TlsFailed(fault.to_string())),
        }
        common.room = room;
    }

    /// A password is sent over it, so the server has to show that it is the one.
    fn start_tls(&mut self, now: Now, common: &mut Common) {
        let name = self.order.collector.host.to_string();
        let layer = common.tls.layer(&Request {
            name: &name,
            address: Some(self.address.ip()),
            verification: Verification::Name,
            identity: None,
        });
        // The session has a deadline of its own.
        let started = layer.and_then(|layer| self.flow.start_tls(layer, None));
        if let Err(fault) = started {
            self.session
                .handle(now, Input::TlsFailed(fault.to_string()));
        }
    }

    /// Octets of the session.
    fn take(&mut self, now: Now, common: &mut Common, octets: &[u8]) {
        if self.unread.is_empty() {
            let taken = self.read(now, common, octets);
            self.unread.extend_from_slice(&octets[taken..]);
        } else {
            self.unread.extend_from_slice(octets);
            self.read_unread(now, common);
        }
        self.settle(now, common);
    }

    /// The last send has left.
    pub(super) fn sent(&mut self, now: Now, common: &mut Common) {
        self.flow.sent();
        self.settle(now, common);
    }

    /// The connection is gone.
    pub(super) fn broken(&mut self, now: Now, common: &mut Common) {
        let input = if self.flow.is_shaking_hands() {
            Input::TlsFailed("the connection was lost in the handshake".to_owned())
        } else {
            Input::PeerClosed
        };
        self.flow.gone();
        self.say(now, common, input);
    }

    /// The deadline may have come.
    pub(super) fn timer(&mut self, now: Now, common: &mut Common) {
        self.flow.timer(now.instant, &mut common.operations);
        self.say(now, common, Input::Timer);
    }

    /// Whether it ends when the link does.
    pub(super) fn is_over_link(&self, common: &Common) -> bool {
        let link = &common.settings.policies.link;
        link.address(self.address.ip())
    }

    /// The key for the login was derived, or there was no time for it.
    pub(super) fn computed(&mut self, now: Now, common: &mut Common, worked: Worked) {
        self.say(now, common, Input::Derived(worked.salted()));
    }

    /// The log takes octets again.
    pub(super) fn resume(&mut self, now: Now, common: &mut Common) {
        self.read_unread(now, common);
        self.settle(now, common);
    }

    fn say(&mut self, now: Now, common: &mut Common, input: Input<'_>) {
        self.session.handle(now, input);
        self.outputs(now, common, &[]);
        self.settle(now, common);
    }

    /// Offers octets to the session until it takes no more, or the log takes no mail. Gives how
    /// many were taken.
    fn read(&mut self, now: Now, common: &mut Common, octets: &[u8]) -> usize {
        let mut at = 0;
        while at < octets.len() && common.log.takes_mail() && !self.flow.is_closed() {
            let rest = &octets[at..];
            let taken = self.session.handle(now, Input::Received(rest));
            let answered = self.outputs(now, common, rest);
            at += taken;
            if taken == 0 && answered == 0 {
                // It is over and looks at nothing any more.
                return octets.len();
            }
        }
        at
    }

    fn read_unread(&mut self, now: Now, common: &mut Common) {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let taken = self.read(now, common, &unread);
            self.unread.extend_from_slice(&unread[taken..]);
        }
    }

    /// Performs what the session wants; `octets` are those that it was last offered.
    fn outputs(&mut self, now: Now, common: &mut Common, octets: &[u8]) -> usize {
        let mut outputs = 0;
        while let Some(output) = self.session.poll() {
            outputs += 1;
            match output {
                Output::Send(octets) => {
                    if self.flow.is_open() {
                        self.flow.send([Piece::Octets(octets)]);
                    }
                }
                Output::StartTls => self.start_tls(now, common),
                Output::Derive(derivation) => {
                    common.compute(self.flow.connection(), derivation.into());
                }
                Output::Listed(entries) => self.plan(now, common, entries),
                Output::Begin(number) => self.begin_message(number),
                Output::Text(range) => self.text(now, common, &octets[range]),
                Output::TextConstant(octets) => self.text(now, common, octets),
                Output::End(number, facts) => self.end_message(now, common, number, &facts),
                Output::Deleted(number) => {
                    self.digests_deleted
                        .extend(self.digests_told.remove(&number));
                    self.tally.deleted += 1;
                    self.go_on(now, common);
                }
                Output::Refused(command, refusal) => {
                    self.refused(common, command, &refusal.text);
                    self.go_on(now, common);
                }
                Output::Ended(result) => self.session_ended(now, common, result),
                Output::Close => self.flow.finish(now.instant),
            }
        }
        self.tell_spoken(common);
        outputs
    }

    fn session_ended(&mut self, now: Now, common: &mut Common, result: Result<(), Fault>) {
        self.drop_incoming(common);
        match &result {
            Ok(()) => {
                // The server has deleted, so that these cannot come again.
                for identity in std::mem::take(&mut self.digests_deleted) {
                    let key = identity.key(&self.order.collector.account);
                    common.forget(now, UIDL_TAG, &key);
                }
            }
            Err(_) => self.tally.deleted = 0,
        }
        // A reason of ours came before it.
        if self.ended.is_none() {
            let host = &self.order.collector.host;
            self.ended = Some(result.map_err(|fault| Failure {
                next: match fault {
                    Fault::Login(_) => Next::LoginRefused,
                    Fault::Closed(Stage::Greeting) | Fault::TimedOut(Stage::Greeting) => Next::Soon,
                    _ => Next::Usual,
                },
                why: format!("{host} [{}]: {fault}", self.address),
                connecting: matches!(
                    fault,
                    Fault::Closed(Stage::Greeting) | Fault::TimedOut(Stage::Greeting)
                ),
            }));
        }
    }

    /// The mailbox is listed: what is to be done with what.
    fn plan(&mut self, now: Now, common: &mut Common, entries: Vec<Entry>) {
        self.listed = true;
        let collector = Arc::clone(&self.order.collector);
        let account = &collector.account;
        if common.awaits_message(account) {
            // What is told to be collected is deleted, and may yet be lost.
            let why = "what was collected before is not on stable storage";
            return self.give_up(common, why.to_owned());
        }
        let known = common.remembered(account);
        // A mailbox that had unique-ids and has none now: what is known would pass for new.
        let had_uids = known.keys().any(|known| matches!(known, Identity::Uid(_)));
        if had_uids && !entries.is_empty() && entries.iter().all(|entry| entry.uid.is_none()) {
            let why = "the server gives no unique-ids (UIDL) any more, and messages that were \
                       collected cannot be told from new ones";
            return self.give_up(common, why.to_owned());
        }
        common.forget_gone(now, &collector, &known, &entries);
        let digests = known
            .iter()
            .filter(|(identity, known)| {
                matches!(identity, Identity::Digest(_)) && known.deed == Deed::Collected
            })
            .map(|(identity, _)| identity.clone());
        self.digests = digests.collect();
        let large = self.order.large;
        let plan = collector.policy.plan(now.wall, large, entries, |entry| {
            known.get(&Identity::Uid(entry.uid.clone()?)).copied()
        });
        let Plan { tasks, left, kept } = plan;
        self.tally.left += left;
        self.tally.kept += kept;
        self.tasks = tasks;
        self.tasks.reverse();
        self.go_on(now, common);
    }

    /// Tells the session what is next, and QUIT when all is done.
    fn go_on(&mut self, now: Now, common: &mut Common) {
        if !self.listed || self.quitting || self.flow.is_closed() {
            return;
        }
        while self.session.told() < TOLD_MAX {
            let Some(task) = self.tasks.pop() else { break };
            let (command, entry) = match &task {
                Task::Delete(entry) => (Command::Delete(entry.number), entry),
                Task::Collect(entry) => (Command::Retrieve(entry.number), entry),
                Task::Notice(entry) if self.session.has_top() => {
                    (Command::Top(entry.number), entry)
                }
                Task::Notice(entry) => {
                    // Without its header section: the default recipient is told.
                    let entry = entry.clone();
                    self.notice(now, common, &entry, &[]);
                    continue;
                }
            };
            let number = entry.number;
            if !matches!(task, Task::Delete(_)) {
                self.asked.insert(number, task);
            }
            self.session.handle(now, Input::Command(command));
        }
        let idle = self.tasks.is_empty() && self.asked.is_empty() && self.pending.is_empty();
        if idle && matches!(self.current, Current::None) {
            for number in std::mem::take(&mut self.delete_later) {
                self.delete(now, number);
            }
            self.quitting = true;
            self.session.handle(now, Input::Command(Command::Quit));
        }
        // What it sends is polled by whoever called; a commit calls by itself.
    }

    fn delete(&mut self, now: Now, number: MessageNumber) {
        if !self.quitting {
            let command = Command::Delete(number);
            self.session.handle(now, Input::Command(command));
        }
    }

    /// The server does not do what it was told.
    fn refused(&mut self, common: &mut Common, command: Command, text: &str) {
        let (number, what) = match command {
            Command::Retrieve(number) => (number, "collected"),
            Command::Top(number) => (number, "looked at"),
            // It is deleted in the next session.
            Command::Delete(_) | Command::Quit => return,
        };
        self.asked.remove(&number);
        self.tally.left += 1;
        let account = self.order.collector.account.as_str();
        let what = format!(
            "a message in the mailbox {account} cannot be {what}: the server says {text:?}; it is \
             tried again in the next session"
        );
        common.report(Fact::Trouble { what });
    }

    fn settle(&mut self, now: Now, common: &mut Common) {
        // What was told to the session meanwhile.
        self.outputs(now, common, &[]);
        if self.flow.is_closed() {
            self.drop_incoming(common);
            return;
        }
        let appetite = if !common.log.takes_mail() {
            common.stalled.push(self.flow.connection());
            Appetite::Sated
        } else {
            Appetite::Hungry
        };
        self.flow
            .advance(appetite, &NoSpool, &mut common.operations);
        if self.flow.is_closed() {
            self.drop_incoming(common);
        }
    }
}

/// What stays on a server that deletes by itself (RFC 2449 §6.7) does not stay as long as
/// the operator wants, or goes before it was collected.
fn expiry(tally: Tally, days: Option<u32>, keep: Duration) -> Option<String> {
    let days = days?;
    let stays = Duration::from_secs(u64::from(days) * 86_400);
    if tally.left == 0 && (tally.kept == 0 || keep <= stays) {
        return None;
    }
    let when = match days {
        0 => "when it was read".to_owned(),
        1 => "after 1 day".to_owned(),
        days => format!("after {days} days"),
    };
    Some(format!(
        "the server deletes what stays there {when} (EXPIRE)"
    ))
}

#[cfg(test)]
mod tests;
