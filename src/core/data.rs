//! A data core as a machine: its connections, its log, its queue.
//!
//! What comes in goes to the connection, the log or the queue that it is for; what
//! they want is collected as [`Operation`]s. Contract: see [`crate::core`].

mod collecting;
mod connecting;
mod notices;
mod stopping;
mod turning;

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::core::collection::{self, Collection};
use crate::core::common::{Call, Common, Settled, Waiting};
use crate::core::deadlines::Deadlines;
use crate::core::delivery::Delivery;
use crate::core::flow::{Appetite, Flow, NoSpool};
use crate::core::hosts::Resolved;
use crate::core::reception::Reception;
use crate::core::visitors::Event;
use crate::core::{Completion, ConnectionId, CoreId, ListenerId, Operation, Piece};
use crate::mail::Receipt as _;
use crate::queue::sessions::{Admitted, Refused};
use crate::report::{Fact, TurnedAway};
use crate::route::TlsStart;
use crate::smtp::reply;
use crate::spool::commit::Ticket;
use crate::spool::message::SegmentSource;
use crate::time::{Instant, Now};

pub use crate::core::common::Parts;
pub use crate::core::settings::Settings;

/// A connection of any kind.
enum Connection {
    /// It brings mail.
    Reception {
        reception: Box<Reception>,
        /// None: we have opened it.
        admitted: Option<Admitted>,
        /// It came over the link.
        over_link: bool,
        /// Where it came in; none: we have opened it.
        listener: Option<ListenerId>,
    },
    /// It takes mail away.
    Delivery(Box<Delivery>),
    /// It collects a mailbox.
    Collection(Box<Collection>),
    /// It was turned away, and its 421 is on its way.
    TurnedAway(Box<Flow>),
}

/// The machine.
pub struct DataCore {
    common: Common,
    connections: HashMap<ConnectionId, Connection>,
    deadlines: Deadlines<ConnectionId>,
    last_connection: u64,
}

impl DataCore {
    /// A core over an open log and a recovered queue.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            common: Common::new(parts),
            connections: HashMap::new(),
            deadlines: Deadlines::default(),
            last_connection: 0,
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.common.id
    }

    /// A number for a connection that the shell has accepted.
    pub fn admit(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId(self.last_connection)
    }

    /// Takes what happened. `spool` shows what was written so far.
    pub fn handle(&mut self, now: Now, completion: Completion<'_>, spool: &impl SegmentSource) {
        self.common.look_at_clock(now);
        match completion {
            Completion::Accepted {
                connection,
                listener,
                peer,
                local: _,
            } => {
                self.accepted(now, connection, listener, peer);
            }
            Completion::HandedOver { connection, baton } => {
                self.handed_over(now, connection, *baton, spool);
            }
            Completion::Connected { connection, result } => {
                self.with(now, connection, |connection, common| match connection {
                    Connection::Delivery(delivery) => {
                        delivery.connected(now, common, spool, result);
                    }
                    Connection::Collection(collection) => {
                        collection.connected(now, common, result);
                    }
                    Connection::Reception { .. } | Connection::TurnedAway(_) => {}
                });
            }
            Completion::Received { connection, octets } => {
                self.with(now, connection, |connection, common| match connection {
                    Connection::Reception { reception, .. } => {
                        reception.received(now, common, octets);
                    }
                    Connection::Delivery(delivery) => {
                        delivery.received(now, common, spool, octets);
                    }
                    Connection::Collection(collection) => collection.received(now, common, octets),
                    Connection::TurnedAway(_) => {}
                });
            }
            Completion::Progress { connection } => {
                self.with(now, connection, |connection, common| match connection {
                    Connection::Delivery(delivery) => delivery.progress(now, common, spool),
                    // What we say to clients is short; what they take to read it is
                    // counted from the last command, or from our last words.
                    Connection::Reception { .. }
                    | Connection::Collection(_)
                    | Connection::TurnedAway(_) => {}
                });
            }
            Completion::Sent { connection } => {
                self.with(now, connection, |connection, common| match connection {
                    Connection::Reception { reception, .. } => reception.sent(common),
                    Connection::Delivery(delivery) => delivery.sent(now, common, spool),
                    Connection::Collection(collection) => collection.sent(now, common),
                    Connection::TurnedAway(flow) => {
                        flow.sent();
                        flow.advance(Appetite::Sated, &NoSpool, &mut common.operations);
                    }
                });
            }
            Completion::Broken {
                connection,
                why,
                heard,
            } => {
                self.with(now, connection, |connection, common| match connection {
                    // What a client has sent, and will not be told of, is not taken: it
                    // sends that again.
                    Connection::Reception { reception, .. } => reception.broken(common, why),
                    Connection::Delivery(delivery) => delivery.broken(now, common, spool, heard),
                    Connection::Collection(collection) => collection.broken(now, common),
                    Connection::TurnedAway(flow) => flow.gone(),
                });
            }
            Completion::Written { result, octets } => self.common.written(now, result, octets),
            Completion::Notice(notice) => self.notice(now, notice, spool),
            Completion::Timer => {}
        }
        self.timers(now, spool);
        self.advance(now, spool);
        self.common.outbound_may_have_changed();
        self.common.tell_outbound(now);
    }

    /// What is to be done next; a write of the log behind all else.
    pub fn poll(&mut self) -> Option<Operation> {
        self.poll_but_writes().or_else(|| self.common.next_write())
    }

    /// The same, but for writes: for a shell that has more to hand in first.
    pub fn poll_but_writes(&mut self) -> Option<Operation> {
        self.common.operations.pop_front()
    }

    /// Whether a write is due.
    #[must_use]
    pub fn has_write(&self) -> bool {
        self.common.log.has_write()
    }

    /// Whether a write is due that is not to wait for company: see
    /// [`Commit::has_full_write`](crate::spool::commit::Commit::has_full_write).
    #[must_use]
    pub fn has_full_write(&self) -> bool {
        self.common.log.has_full_write()
    }

    /// The write that is due, before all else that is to be done.
    pub fn next_write(&mut self) -> Option<Operation> {
        self.common.next_write()
    }

    /// When [`Completion::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let common = self.common.deadline();
        [self.deadlines.next(), common].into_iter().flatten().min()
    }

    /// Lets a connection act, and sees to what follows for the connection itself.
    fn with(&mut self, now: Now, id: ConnectionId, act: impl FnOnce(&mut Connection, &mut Common)) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        act(connection, &mut self.common);
        self.look_after(now, id);
    }

    /// Forgets a connection that is over, and keeps the deadline of one that is not.
    fn look_after(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match connection {
            Connection::Reception { reception, .. } if reception.has_turned() => {
                return self.turn(now, id);
            }
            Connection::Delivery(delivery) if delivery.is_moving_on() => {
                return self.move_on(now, id);
            }
            Connection::Delivery(delivery) if delivery.is_provided() => {
                return self.provided(now, id);
            }
            Connection::Delivery(delivery) if delivery.is_leaving() => {
                Self::left(now, delivery, &mut self.common);
            }
            _ => {}
        }
        let over = match connection {
            Connection::Reception { reception, .. } => {
                let deadline = reception.deadline();
                self.deadlines.set(id, deadline, reception.entry());
                reception.is_over()
            }
            Connection::Delivery(delivery) => {
                let deadline = delivery.deadline();
                self.deadlines.set(id, deadline, delivery.entry());
                delivery.is_over()
            }
            Connection::Collection(collection) => {
                let deadline = collection.deadline();
                self.deadlines.set(id, deadline, collection.entry());
                collection.is_over()
            }
            Connection::TurnedAway(flow) => flow.is_closed(),
        };
        if !over {
            return;
        }
        match self.connections.remove(&id) {
            Some(Connection::Reception {
                mut reception,
                admitted,
                over_link,
                ..
            }) => {
                match admitted {
                    Some(admitted) => {
                        if over_link {
                            self.common.link.sessions -= 1;
                            let brought = reception.brought();
                            self.common.tell_visit(id, Event::Gone(brought));
                        }
                        self.common.sessions.leave(admitted);
                    }
                    None => self.common.link.fetches -= u64::from(over_link),
                }
                reception.over(&mut self.common);
            }
            Some(Connection::Delivery(mut delivery)) => {
                Self::left(now, &mut delivery, &mut self.common);
            }
            Some(Connection::Collection(collection)) => {
                let fetched = collection.is_over_link(&self.common);
                self.common.link.fetches -= u64::from(fetched);
                match collection.aftermath() {
                    collection::Aftermath::Over(run) => self.collected(run),
                    collection::Aftermath::TryNext(order) => self.collect(now, order),
                }
            }
            Some(Connection::TurnedAway(_)) | None => {}
        }
    }

    /// A delivery is over, but perhaps for its goodbye.
    fn left(now: Now, delivery: &mut Delivery, common: &mut Common) {
        let fetched = delivery.is_call() && delivery.is_over_link(common);
        common.link.fetches -= u64::from(fetched);
        if let Some(left) = delivery.host_left() {
            common.host_left(now.instant, &left);
        }
        let aftermath = delivery.aftermath();
        common.delivery_over(now, aftermath);
    }

    fn accepted(&mut self, now: Now, id: ConnectionId, listener: ListenerId, peer: SocketAddr) {
        let common = &mut self.common;
        let admitted = if common.is_stopping() {
            Err(TurnedAway::Stopping)
        } else {
            common
                .sessions
                .admit(peer.ip())
                .map_err(|refused| match refused {
                    Refused::Total => TurnedAway::SessionsFull,
                    Refused::Client => TurnedAway::ClientFull,
                })
        };
        match admitted {
            Ok(admitted) => {
                common.counters.sessions += 1;
                common.connected_by(peer);
                let settings = Arc::clone(common.settings.session(listener));
                let start = common.settings.tls_start(listener);
                let mut reception = Box::new(Reception::new(id, peer, settings, start, now));
                reception.begin(now, common, start);
                let over_link = common.settings.policies.link.address(peer.ip());
                if over_link {
                    common.link.sessions += 1;
                    reception.watch();
                    common.tell_visit(id, Event::Came(peer.ip()));
                }
                self.connections.insert(
                    id,
                    Connection::Reception {
                        reception,
                        admitted: Some(admitted),
                        over_link,
                        listener: Some(listener),
                    },
                );
            }
            Err(why) => {
                common.counters.sessions_turned_away += 1;
                common.report(Fact::TurnedAway { peer, why });
                let mut flow = Flow::new(id);
                // Words in clear are none to a client that waits for a handshake, and a
                // handshake costs more than the refusal is to save.
                if common.settings.tls_start(listener) == TlsStart::Command {
                    let octets = reply::turned_away(&common.settings.hostname);
                    flow.send([Piece::Octets(octets)]);
                }
                flow.finish(now.instant);
                flow.advance(Appetite::Sated, &NoSpool, &mut common.operations);
                self.connections
                    .insert(id, Connection::TurnedAway(Box::new(flow)));
            }
        }
        self.look_after(now, id);
    }

    fn timers(&mut self, now: Now, spool: &impl SegmentSource) {
        while let Some((instant, id)) = self.deadlines.due(now.instant) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let common = &mut self.common;
            match connection {
                Connection::Reception { reception, .. } => {
                    if !reception.entry().take(instant) {
                        continue;
                    }
                    if reception
                        .deadline()
                        .is_some_and(|deadline| deadline <= now.instant)
                    {
                        reception.timer(now, common);
                    }
                }
                Connection::Delivery(delivery) => {
                    if !delivery.entry().take(instant) {
                        continue;
                    }
                    if delivery
                        .deadline()
                        .is_some_and(|deadline| deadline <= now.instant)
                    {
                        delivery.timer(now, common, spool);
                    }
                }
                Connection::Collection(collection) => {
                    if !collection.entry().take(instant) {
                        continue;
                    }
                    if collection
                        .deadline()
                        .is_some_and(|deadline| deadline <= now.instant)
                    {
                        collection.timer(now, common);
                    }
                }
                Connection::TurnedAway(_) => {}
            }
            self.look_after(now, id);
        }
    }

    /// Lets the log and the queue go on, until nothing follows from anything.
    fn advance(&mut self, now: Now, spool: &impl SegmentSource) {
        self.common.timer(now);
        self.common.tell_of_strangers(now);
        self.common.pay_debts(now, spool);
        self.common.tell_gathered(now, spool);
        self.common.reroute(now, spool);
        self.follow(now, spool);
        if !self.common.stalled.is_empty() && self.common.log.takes_mail() {
            for id in std::mem::take(&mut self.common.stalled) {
                self.with(now, id, |connection, common| match connection {
                    Connection::Reception { reception, .. } => reception.resume(now, common),
                    Connection::Collection(collection) => collection.resume(now, common),
                    Connection::Delivery(_) | Connection::TurnedAway(_) => {}
                });
            }
        }
        while !self.common.log.is_crowded()
            && let Some(id) = self.common.crowded.pop_front()
        {
            self.with(now, id, |connection, common| {
                if let Connection::Reception { reception, .. } = connection {
                    reception.resume(now, common);
                }
            });
        }
        let carried = self.common.carry(now, spool);
        let ended = self.common.end_some(now, spool);
        let stopping = self.common.is_stopping();
        if stopping {
            self.advance_stop(now);
        }
        if carried || ended || stopping {
            self.follow(now, spool);
        }
        if stopping && self.is_quiet() {
            self.common.finish_stop(now);
        }
    }

    /// Does what the log, the queue and the hosts want, until they want nothing.
    fn follow(&mut self, now: Now, spool: &impl SegmentSource) {
        loop {
            let mut moved = false;
            while let Some((ticket, settled)) = self.common.advance_log(now) {
                moved = true;
                self.settled(now, ticket, settled);
            }
            moved |= self.common.advance_queue(now, spool);
            while let Some(resolved) = self.common.hosts.next() {
                moved = true;
                self.resolved(now, resolved);
            }
            while let Some((fetch, candidates)) = self.common.provider_calls.pop_front() {
                moved = true;
                self.call(now, fetch, candidates);
            }
            while let Some(stranded) = self.common.stranded.pop_front() {
                moved = true;
                self.common.strand(now, spool, stranded);
            }
            while let Some((asking, candidates)) = self.common.asks.pop_front() {
                moved = true;
                self.ask(now, asking, candidates);
            }
            while let Some((id, call)) = self.common.calls.pop_front() {
                moved = true;
                self.with(now, id, |connection, common| {
                    let Connection::Delivery(delivery) = connection else {
                        return;
                    };
                    match call {
                        Call::Work => delivery.wake(now, common, spool),
                        Call::Quit => delivery.quit(now, common, spool),
                    }
                });
            }
            if !moved {
                break;
            }
        }
    }

    fn settled(&mut self, now: Now, ticket: Ticket, settled: Settled) {
        let (waiting, octets, receipt) = match settled {
            Settled::Committed(receipt) => match self.common.committed(now, ticket) {
                Some((waiting, octets)) => (Some(waiting), octets, Some(receipt)),
                None => return,
            },
            Settled::Failed => (self.common.not_committed(ticket), 0, None),
        };
        match waiting {
            Some(Waiting::Reception(id)) => {
                self.with(now, id, |connection, common| {
                    let Connection::Reception {
                        reception,
                        over_link,
                        ..
                    } = connection
                    else {
                        return;
                    };
                    if *over_link && receipt.is_some() {
                        common.link.took(octets);
                    }
                    match receipt {
                        Some(receipt) => reception.stored(now, common, receipt),
                        None => reception.not_stored(now, common),
                    }
                });
            }
            Some(Waiting::Collection(id, number)) => {
                self.with(now, id, |connection, common| {
                    let Connection::Collection(collection) = connection else {
                        return;
                    };
                    match receipt {
                        Some(_) => collection.stored(now, common, number),
                        None => collection.not_stored(common, number),
                    }
                });
            }
            Some(Waiting::Summons(run)) => self.common.summoned(run, receipt.as_ref()),
            Some(Waiting::Notification(pending)) => {
                let notification = receipt.map(|receipt| receipt.queue_id());
                self.common.notified(now, pending, notification);
            }
            None => {}
        }
    }

    fn resolved(&mut self, now: Now, resolved: Resolved) {
        match resolved {
            Resolved::Hosts(wanted) => self.connect(now, *wanted),
            Resolved::Unknown { connection } => {
                self.common.queue.hosts_unknown(now, connection);
            }
            Resolved::Found { next_hop } => {
                self.common.queue.hosts_found(now, next_hop.as_ref());
            }
            Resolved::NotFound { next_hop, why } => {
                self.common.hosts_not_found(now, &next_hop, why);
            }
            Resolved::NoHost { connection, end } => self.common.hostless.push(connection, end),
        }
    }

    /// All connections, in the order in which they came: the order of a hash table is
    /// another one in each process, and a simulation must repeat.
    fn connection_ids(&self) -> Vec<ConnectionId> {
        let mut ids: Vec<_> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}
