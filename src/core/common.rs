//! What all connections of a data core have in common: the log, the queue, the
//! settings, and what is to be done.

mod commits;
mod stop;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use spool_format::{DoneField, Outcome as DoneOutcome, RecipientNumber};

use self::commits::Uncommitted;
pub(super) use self::commits::{Settled, Waiting};
use self::stop::Stop;
use crate::core::asking::Asking;
use crate::core::bans::Bans;
use crate::core::counters::Counters;
use crate::core::delivery::Candidates;
use crate::core::delivery::passing::{Silent, Stranded};
use crate::core::detours::Detours;
use crate::core::fetching::Fetch;
use crate::core::hosts::HostCache;
use crate::core::latency::Latency;
use crate::core::lending::Lending;
use crate::core::listening::Listening;
use crate::core::maildir::Writings;
use crate::core::notifying::{Causes, Debts, Late, Telling};
use crate::core::outbound::LinkShare;
use crate::core::outcome::PassedOn;
use crate::core::outcome::hostless::Hostless;
use crate::core::rerouting::Rerouting;
use crate::core::restart::Broken;
use crate::core::settings::Settings;
use crate::core::strangers::Strangers;
use crate::core::{ConnectionId, ControlNotice, CoreId, Endpoint, Notice, Operation};
use crate::mail::{Address, QueueId};
use crate::queue::notification::allowance::Allowance;
use crate::queue::notification::gathering::Gathering;
use crate::queue::{
    self, CoreNumber, CoreSet, HostMemory, Hosts, Recipients, Schedule, Sessions, Told,
    retry::Jitter,
};
use crate::report::{Detail, Fact};
use crate::route::CustomerName;
use crate::route::recipients::RecipientLists;
use crate::smtp::auth::Nonces;
use crate::spool::commit::Ticket;
use crate::spool::log::{Attempt, Log, Rest};
use crate::spool::message::SegmentSource;
use crate::time::{Instant, Now, WallTime};
use crate::tls;
use crate::wire::transcript::Spoken;

/// A connection that the schedule wants, with where it may go.
pub(super) struct WantedConnection {
    pub(super) connection: queue::ConnectionId,
    pub(super) destination: queue::DestinationId,
    pub(super) candidates: Candidates,
    /// Why the host before these could not be used, if there was one.
    pub(super) failed: Option<String>,
    /// Hosts before these that were not spoken to: they may be good for what these are not.
    pub(super) silent: Silent,
    /// A message that a host before these cannot take.
    pub(super) passed_on: Option<PassedOn>,
}

/// See the module.
pub(super) struct Common {
    pub(super) id: CoreId,
    pub(super) settings: Arc<Settings>,
    /// Those of the settings, or newer.
    pub(super) recipients: Arc<RecipientLists>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) log: Log,
    pub(super) queue: Schedule,
    pub(super) hosts: HostCache,
    pub(super) causes: Causes,
    pub(super) memory: HostMemory<Endpoint>,
    /// Routes have changed, and not all mail has followed them.
    pub(super) rerouting: Option<Rerouting>,
    pub(super) detours: Detours,
    pub(super) lending: Lending,
    pub(super) listening: Listening,
    pub(super) counters: Counters,
    /// When the write that is under way began.
    pub(super) write_began: Instant,
    pub(super) commit_latency: Latency,
    pub(super) acceptance_latency: Latency,
    pub(super) operations: VecDeque<Operation>,
    /// Receptions that wait for the log to take octets again.
    pub(super) stalled: Vec<ConnectionId>,
    /// Receptions of large messages that let others go first, in their order.
    pub(super) crowded: VecDeque<ConnectionId>,
    /// Which connection a connection of the schedule is.
    pub(super) deliveries: HashMap<queue::ConnectionId, ConnectionId>,
    /// Mail that is to end without a host.
    pub(super) hostless: Hostless,
    /// Customers who have called from another address than before.
    pub(super) moved: Vec<CustomerName>,
    /// Messages that are being written into Maildirs.
    pub(super) writings: Writings,
    /// Deliveries to be told something by the schedule.
    pub(super) calls: VecDeque<(ConnectionId, Call)>,
    /// Sites to be asked, with where they may be.
    pub(super) asks: VecDeque<(Asking, Candidates)>,
    /// Messages that no further host is to be asked about.
    pub(super) stranded: VecDeque<Stranded>,
    /// Providers to be called, with where they may be.
    pub(super) provider_calls: VecDeque<(Box<Fetch>, Candidates)>,
    uncommitted: HashMap<Ticket, Uncommitted>,
    last_ticket: u64,
    pub(super) last_job: u64,
    pub(super) random: Jitter,
    /// For AUTH.
    pub(super) nonces: Nonces,
    pub(super) bans: Bans,
    /// Who is refused what is not his.
    pub(super) strangers: Strangers,
    /// Done records that wait for the commit of a notification, by message.
    pub(super) notifying: HashMap<QueueId, Unfinished>,
    /// Messages that could not be read now, of which the operator was told.
    pub(super) unread_told: HashSet<QueueId>,
    /// Notifications that found no room.
    pub(super) debts: Debts,
    /// Notifications that wait to be told with others.
    pub(super) gathering: Gathering<Telling>,
    pub(super) allowance: Arc<Allowance>,
    /// TLS towards hosts, with what can be resumed.
    pub(super) tls: tls::Clients,
    /// For octets that come under TLS.
    pub(super) room: tls::Room,
    /// New mail was refused for want of room, and the operator was told.
    pub(super) full: bool,
    /// The last wake-up message to each address: as many as there are collectors.
    pub(super) letters: Vec<(Address, QueueId)>,
    /// This core's share in a link.
    pub(super) link: LinkShare,
    /// Until when the operator need not be told again that segments cannot be prepared.
    pub(super) told_of_preparation: Option<Instant>,
    /// Deliveries of held mail that begin when the log can be written to.
    pub(super) awaiting_segment: Vec<ConnectionId>,
    stop: Stop,
}

/// What the schedule tells a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    /// There is work.
    Work,
    /// Go.
    Quit,
}

/// A message with done records that are still to be written.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    pub(super) notifications: usize,
    /// The schedule has finished with it.
    pub(super) finished: bool,
}

/// What a data core is made from.
pub struct Parts {
    /// Its number.
    pub id: CoreId,
    /// What the operator decides.
    pub settings: Arc<Settings>,
    /// How many sessions there are, on all cores.
    pub sessions: Arc<Sessions>,
    /// How many notifications went to whom, on all cores.
    pub allowance: Arc<Allowance>,
    /// Which hosts are dead, as all cores know it.
    pub hosts: Arc<Hosts>,
    /// The open log.
    pub log: Log,
    /// The queue, with what recovery found.
    pub queue: Schedule,
    /// Which of that goes another way than the routes.
    pub detours: Detours,
    /// What recovery found and cannot be delivered.
    pub broken: Vec<Broken>,
    /// Secret, and new at each start.
    pub seed: u64,
    /// The same for what must stand against somebody who tries: nonces of AUTH.
    pub secret: [u8; 32],
}

impl Common {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            id,
            settings,
            sessions,
            allowance,
            hosts,
            log,
            queue,
            detours,
            broken,
            seed,
            secret,
        } = parts;
        let mut random = Jitter::new(seed);
        let mut common = Self {
            id,
            tls: tls::Clients::new(settings.tls.client.clone()),
            room: tls::Room::default(),
            recipients: Arc::clone(&settings.recipients),
            settings,
            sessions,
            log,
            queue,
            hosts: HostCache::default(),
            causes: Causes::default(),
            memory: HostMemory::new(CoreNumber(id.0), hosts, random.next_u64()),
            rerouting: None,
            detours,
            lending: Lending::default(),
            listening: Listening::default(),
            counters: Counters::default(),
            write_began: Instant::START,
            commit_latency: Latency::default(),
            acceptance_latency: Latency::default(),
            operations: VecDeque::new(),
            stalled: Vec::new(),
            crowded: VecDeque::new(),
            deliveries: HashMap::new(),
            hostless: Hostless::default(),
            moved: Vec::new(),
            writings: Writings::new(),
            calls: VecDeque::new(),
            asks: VecDeque::new(),
            stranded: VecDeque::new(),
            provider_calls: VecDeque::new(),
            uncommitted: HashMap::new(),
            last_ticket: 0,
            last_job: 0,
            random,
            nonces: Nonces::new(secret),
            bans: Bans::default(),
            strangers: Strangers::default(),
            notifying: HashMap::new(),
            unread_told: HashSet::new(),
            debts: Debts::default(),
            gathering: Gathering::default(),
            allowance,
            full: false,
            letters: Vec::new(),
            link: LinkShare::default(),
            told_of_preparation: None,
            awaiting_segment: Vec::new(),
            stop: Stop::No,
        };
        common.end_broken(broken);
        common
    }

    pub(super) fn report(&mut self, fact: Fact) {
        self.operations.push_back(Operation::Report(fact));
    }

    /// What was said in a session that is recorded.
    pub(super) fn report_spoken(
        &mut self,
        connection: ConnectionId,
        peer: impl ToString,
        said: Vec<Spoken>,
    ) {
        let peer = peer.to_string();
        for Spoken { by_us, line } in said {
            self.report(Fact::Detail(Detail::Spoken {
                connection: connection.0,
                peer: peer.clone(),
                by_us,
                line,
            }));
        }
    }

    pub(super) fn tell_control(&mut self, notice: ControlNotice) {
        self.operations.push_back(Operation::TellControl(notice));
    }

    /// When something of the log or the queue is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stop = match self.stop {
            Stop::Until(deadline) => Some(deadline),
            Stop::No | Stop::Late | Stop::Done => None,
        };
        [
            self.log.deadline(),
            self.queue.deadline(),
            self.hosts.deadline(),
            self.rerouting.as_ref().map(Rerouting::deadline),
            self.telling_deadline(),
            self.hostless_deadline(),
            self.strangers.tally.deadline(),
            self.outbound_deadline(),
            stop,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the queue wants, except what concerns connections: that is left in
    /// `calls` and `hosts`. False if it wanted nothing.
    pub(super) fn advance_queue(&mut self, now: Now, spool: &impl SegmentSource) -> bool {
        let mut moved = false;
        while let Some(output) = self.poll_queue() {
            moved = true;
            match output {
                queue::Output::Connect {
                    connection,
                    destination,
                } => {
                    let next_hop = self
                        .queue
                        .next_hop(destination)
                        .expect("a destination with mail")
                        .clone();
                    let random = &mut self.random;
                    if let Some(resolve) =
                        self.hosts
                            .want(now.instant, connection, destination, next_hop, random)
                    {
                        let core = self.id;
                        self.tell_control(ControlNotice::Resolve {
                            core,
                            next_hop: resolve,
                        });
                    }
                }
                queue::Output::Work { connection } => self.call(connection, Call::Work),
                queue::Output::Quit { connection } => self.call(connection, Call::Quit),
                queue::Output::Deferred {
                    queue_id,
                    recipients,
                    attempts,
                    until,
                    told,
                } => self.note_attempt(now, queue_id, &recipients, attempts, until, told),
                queue::Output::Warn {
                    queue_id,
                    location,
                    destination,
                    recipients,
                    what,
                    told,
                    attempts,
                    until,
                    expires,
                } => {
                    let late = Late {
                        queue_id,
                        location,
                        destination,
                        recipients: &recipients,
                    };
                    self.warn(now, spool, &late, what, expires);
                    // Behind the notification: a crash between the two tells it twice.
                    self.note_attempt(now, queue_id, &recipients, attempts, until, told);
                }
                queue::Output::Expired {
                    queue_id,
                    location,
                    destination,
                    recipients,
                    reason,
                } => {
                    let late = Late {
                        queue_id,
                        location,
                        destination,
                        recipients: &recipients,
                    };
                    self.expired(now, spool, &late, reason);
                }
                queue::Output::Deleted {
                    queue_id,
                    recipients,
                } => {
                    let done: Vec<_> = numbers(&recipients)
                        .map(|recipient| DoneField {
                            recipient,
                            outcome: DoneOutcome::Deleted,
                        })
                        .collect();
                    self.done(now, queue_id, &done);
                    self.report(Fact::Steered {
                        queue_id,
                        what: "deleted".into(),
                    });
                }
                queue::Output::Finished { queue_id, .. } => {
                    self.counters.messages_finished += 1;
                    self.detours.remove(queue_id);
                    match self.notifying.get_mut(&queue_id) {
                        Some(unfinished) => unfinished.finished = true,
                        None => self.finish(now, queue_id),
                    }
                }
                queue::Output::DestinationClosed {
                    destination,
                    failures,
                    until,
                } => {
                    let next_hop = self.next_hop_text(destination);
                    let why = match self.hosts.failure(destination) {
                        Some(why) => format!("{why} (failure {failures} in a row)"),
                        None => format!("failure {failures} in a row"),
                    };
                    let fallback = (self.queue.next_hop(destination))
                        .and_then(|next_hop| self.settings.policies.mode.fallback(next_hop));
                    let why = match fallback {
                        Some(fallback) => format!("{why}; its mail goes to {fallback} instead"),
                        None => why,
                    };
                    let next_attempt_in = until.since(now.wall);
                    self.report(Fact::Unreachable {
                        next_hop,
                        why,
                        next_attempt_in,
                    });
                }
                queue::Output::DestinationOpened { destination } => {
                    self.hosts.recovered(destination);
                    let next_hop = self.next_hop_text(destination);
                    self.report(Fact::Reachable { next_hop });
                }
                queue::Output::ReleaseEnded { destination, end } => {
                    self.release_ended(destination, end);
                }
                queue::Output::PermitsFreed { cores } => {
                    self.tell_cores(cores, &Notice::PermitsFreed);
                }
                queue::Output::PermitWanted { key } => {
                    self.tell_cores(CoreSet::ALL, &Notice::PermitWanted { key });
                }
            }
        }
        moved
    }

    fn poll_queue(&mut self) -> Option<queue::Output> {
        // Anew each time: each that is given up may be a notification.
        self.queue.may_give_up(self.gives_up());
        self.queue.poll()
    }

    /// Writes how it stands with recipients that wait, for another life of the process.
    fn note_attempt(
        &mut self,
        now: Now,
        queue_id: QueueId,
        recipients: &Recipients,
        attempts: u16,
        until: WallTime,
        told: Told,
    ) {
        let numbers: Vec<_> = numbers(recipients).collect();
        let attempt = Attempt {
            attempts: u32::from(attempts),
            next_attempt: until,
            told,
            recipients: &numbers,
            error: "",
        };
        // A closed log was reported; the count of attempts is lost with it.
        let _ = self.log.attempt(now, queue_id, &attempt);
    }

    fn next_hop_text(&self, destination: queue::DestinationId) -> String {
        self.queue
            .next_hop(destination)
            .map_or_else(String::new, |next_hop| {
                self.settings.routes.name_of(next_hop)
            })
    }

    fn call(&mut self, connection: queue::ConnectionId, call: Call) {
        // Where there is none, what becomes of it is being seen to.
        if let Some(&id) = self.deliveries.get(&connection) {
            self.calls.push_back((id, call));
        }
    }

    pub(super) fn tell_cores(&mut self, cores: CoreSet, notice: &Notice) {
        for number in 0..self.settings.data_cores {
            let core = CoreId(number);
            if core != self.id && cores.contains(CoreNumber(number)) {
                self.operations.push_back(Operation::TellCore {
                    core,
                    notice: notice.clone(),
                });
            }
        }
    }

    /// Writes that recipients are done.
    pub(super) fn done(&mut self, now: Now, queue_id: QueueId, done: &[DoneField]) {
        if !done.is_empty() {
            // A closed log was reported; the message is delivered again after a restart.
            let _ = self.log.done(now, queue_id, done, Rest::Pending);
        }
    }

    /// A notification about `queue_id` is on its way: its done records wait.
    pub(super) fn notification_begun(&mut self, queue_id: QueueId) {
        self.notifying.entry(queue_id).or_default().notifications += 1;
    }

    /// A notification about `queue_id` is committed, or will never be.
    pub(super) fn notification_over(&mut self, now: Now, queue_id: QueueId) {
        let Some(unfinished) = self.notifying.get_mut(&queue_id) else {
            return;
        };
        unfinished.notifications -= 1;
        if unfinished.notifications == 0 {
            let finished = unfinished.finished;
            self.notifying.remove(&queue_id);
            if finished {
                self.finish(now, queue_id);
            }
        }
    }

    /// Nobody is left to deliver to: the log may forget the message.
    pub(super) fn finish(&mut self, now: Now, queue_id: QueueId) {
        let _ = self.log.done(now, queue_id, &[], Rest::Nobody);
        self.causes.finished(queue_id);
        self.report(Fact::Finished { queue_id });
    }

    /// Looks at the clocks of the log, the queue and the questions.
    pub(super) fn timer(&mut self, now: Now) {
        if self
            .log
            .deadline()
            .is_some_and(|deadline| deadline <= now.instant)
        {
            self.log.timer(now);
        }
        if self
            .queue
            .deadline()
            .is_some_and(|deadline| deadline <= now.instant)
        {
            self.queue.timer(now);
        }
        self.hosts.timer(now.instant);
    }

    /// A new configuration is in force.
    pub(super) fn configure(&mut self, now: Now, settings: Arc<Settings>) {
        self.queue
            .reconfigure(now, settings.policies.clone(), settings.idle);
        // A new limit of connections has struck out who waited for the old one.
        self.queue.permits_freed(now);
        self.hosts.forget_answers();
        // Where they are as before, who has read them has put the old ones there.
        if !Arc::ptr_eq(&settings.routes, &self.settings.routes) {
            self.rerouting = Some(Rerouting::new(now.instant));
        }
        self.tls = tls::Clients::new(settings.tls.client.clone());
        self.recipients = Arc::clone(&settings.recipients);
        let old = std::mem::replace(&mut self.settings, settings);
        self.tell_control(ControlNotice::Replaced(old));
    }
}

/// The numbers that the log uses for recipients.
pub(super) fn numbers(recipients: &Recipients) -> impl Iterator<Item = RecipientNumber> + '_ {
    recipients
        .as_slice()
        .iter()
        .map(|index| RecipientNumber(index.0))
}
