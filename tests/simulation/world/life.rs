//! How the program of a world begins, dies and stops.

use std::sync::Arc;

use spool_format::Severity;
use turnspool::core::data::{DataCore, Parts};
use turnspool::core::{Completion, CoreId, restart};
use turnspool::mail::QueueId;
use turnspool::queue;
use turnspool::queue::notification::allowance::Allowance;
use turnspool::queue::{CoreNumber, Hosts, Permits, Schedule, Sessions};
use turnspool::spool::log::{Identity, Settings as LogSettings};

use super::{ENCORES_MAX, Event, SECOND, World};
use crate::customers;
use crate::disk::{Health, LOG, Loss, SPOOL};
use crate::network::{Part, Phase};
use crate::plan::Flavour;

impl World {
    pub(super) fn start(&mut self) {
        assert!(self.core.is_none());
        let restarted = self.disk.recover();
        if let Some(facts) = restarted.refusal() {
            panic!("it does not start: {facts}");
        }
        for facts in restarted.reports() {
            assert!(
                facts.verdict.severity < Severity::Damage,
                "the disk kept its word, and is blamed: {facts}"
            );
        }
        // A seal of a torn batch may be whole while its body is not.
        self.torn = !restarted.recovered.broken.is_empty();
        for broken in &restarted.recovered.broken {
            let queue_id = QueueId::from_u64(broken.message.queue_id);
            assert!(
                !self.committed.contains(&queue_id),
                "{broken:?} was committed, and is not whole"
            );
        }
        let now = self.clocks();
        let segment_bytes = self.plan.segment_bytes;
        let log_settings = LogSettings {
            segment_bytes,
            size_max: u64::from(segment_bytes) * self.plan.size_max_segments,
            free_min: u64::from(segment_bytes) * 2,
        };
        let identity = Identity {
            spool: SPOOL,
            log: LOG,
        };
        let free = self.disk.free_bytes();
        let log = restarted.log(identity, log_settings, &[LOG], self.random.next(), free);
        let queue_settings = queue::Settings {
            core: CoreNumber(0),
            policies: self.policies_of_a_life(),
            idle: self.settings.idle,
            seed: self.random.next(),
        };
        let permits = Arc::new(Permits::new(20, self.random.next()));
        let mut queue = Schedule::new(queue_settings, permits, now);
        let enqueued = restart::enqueue(now, &mut queue, &self.settings, &restarted, &[LOG]);
        let messages = enqueued.messages;
        let parts = Parts {
            id: CoreId(0),
            settings: Arc::clone(&self.settings),
            sessions: Arc::new(Sessions::new(100, 100, self.random.next())),
            allowance: Arc::new(Allowance::new(u64::from(self.life))),
            hosts: Arc::new(Hosts::new(u64::from(self.life))),
            log,
            queue,
            detours: enqueued.detours,
            broken: enqueued.broken,
            seed: self.random.next(),
            secret: [self.random.next() as u8; 32],
        };
        self.life += 1;
        self.summary.lives += 1;
        let life = self.life;
        self.note(|| format!("life {life} begins with {messages} messages"));
        self.core = Some(DataCore::new(parts));
        if self.plan.flavour == Flavour::Held {
            let customers = Arc::clone(&self.settings.customers);
            self.control_core = Some(customers::control(now, &customers, &mut self.random));
        }
        self.stopping = false;
        self.asked = false;
        self.writing = false;
        self.failed_at = None;
        self.crash_in = self.crashes.pop_front();
        self.hand(Completion::Timer);
    }

    /// The program dies at once.
    pub(super) fn crash(&mut self) {
        self.crashed = false;
        self.stopped = false;
        let loss = self.random.pick(&[Loss::Nothing, Loss::Unsynced]);
        self.note(|| format!("crash, {loss:?}"));
        self.ledger.crash(self.now, self.no_room_since);
        self.end_of_life(loss);
    }

    /// A graceful stop is over.
    pub(super) fn end_after_stop(&mut self) {
        self.stopped = false;
        for (wire, connection) in &self.connections {
            let over = matches!(connection.core.phase, Phase::Closed | Phase::Told);
            assert!(
                over || wire.life != self.life,
                "connection {} is {:?} after the stop",
                wire.id.0,
                connection.core.phase
            );
        }
        if self.no_room_since.is_some() {
            self.ledger.crash(self.now, self.no_room_since);
        }
        let last = self.calm;
        self.end_of_life(Loss::Unsynced);
        if last {
            let restarted = self.disk.recover();
            let live = restarted.recovered.messages.len();
            // Senders that could not be told for want of room are told after a start, and
            // what came with the stop goes then.
            let untold = self.encores < ENCORES_MAX;
            assert!(live == 0 || untold, "{live} messages come back");
            self.encores += 1;
            self.at_rest = live == 0;
            self.disk.end_of_life(Loss::Nothing);
        }
    }

    pub(super) fn end_of_life(&mut self, loss: Loss) {
        self.core = None;
        self.ready.clear();
        let mut ends = Vec::new();
        for (&wire, connection) in &mut self.connections {
            let core = &mut connection.core;
            if core.is_open() {
                core.ends(Phase::Told);
                if loss == Loss::Unsynced {
                    core.lost_after = self.now + self.random.below(connection.latency * 2);
                }
                ends.push((connection.peer.arrival(self.now) + SECOND, wire));
            }
        }
        for (time, id) in ends {
            let part = Part::Finish;
            self.at(time, Event::ToPeer { id, part });
        }
        // What control was doing is done, or not.
        let jobs: Vec<_> = self
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Control { .. }))
            .map(|(&key, _)| key)
            .collect();
        for key in jobs {
            let event = self.events.remove(&key);
            if let Some(Event::Control { job, .. }) = event
                && self.random.one_in(2)
            {
                self.control(job);
            }
        }
        self.disk.end_of_life(loss);
        if loss == Loss::Unsynced && self.calm {
            self.disk.health = Health::Good;
        }
        let pause = self.random.below(20 * SECOND);
        self.at(self.now + pause, Event::Start);
    }
}
