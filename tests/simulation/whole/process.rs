//! How a process begins and ends on its machine.

use std::sync::Arc;

use spool_format::{LogId, Severity};
use turnspool::config::Config;
use turnspool::core::control::ControlCore;
use turnspool::core::data::{DataCore, Parts};
use turnspool::core::online::Online;
use turnspool::core::{Completion, CoreId, Door, restart};
use turnspool::mail::QueueId;
use turnspool::queue::notification::allowance::Allowance;
use turnspool::queue::{self, CoreNumber, Hosts, Permits, Schedule, Sessions};
use turnspool::runtime::settings;
use turnspool::spool::log::{Identity, Settings as LogSettings};
use turnspool::spool::recovery::{Restart, Restarted};

use super::configuration::{self, PROVIDER};
use super::line;
use super::machine::{Core, Process};
use super::plan::{MINUTE, Mishap, SECOND};
use super::wire::{Place, Who};
use super::world::{Event, World};
use crate::disk::{Health, Loss, SPOOL};
use crate::network::{Part, Phase};

/// Starts after everything was at rest, for senders that are still to be told.
const ENCORES_MAX: u32 = 6;

/// What a crash forgets of the time on line.
const KEEP: u64 = turnspool::link::controller::KEEP_INTERVAL.as_secs() * SECOND;

impl World {
    pub(super) fn place(&self, machine: usize, core: usize) -> Place {
        Place {
            machine,
            life: self.machines[machine].life,
            core,
        }
    }

    pub(super) fn start(&mut self, number: usize) {
        assert!(self.machines[number].process.is_none(), "it runs already");
        let restarted = self.read_logs(number);
        let life = self.machines[number].life + 1;
        let cores = match number {
            PROVIDER => self.plan.cores[(life as usize - 1).min(self.plan.cores.len() - 1)],
            site => self.plan.sites[site - 1].cores,
        };
        let config = self.configuration(number, cores);
        let usage = Arc::new(queue::Ledger::default());
        let settings = settings::settings(&config, &usage).expect("good settings");
        let settings = Arc::new(settings);
        let now = self.machines[number].clocks(self.now);
        let seed = self.random.next();
        let permits = Arc::new(Permits::new(20, seed));
        let sessions = Arc::new(Sessions::new(100, 100, seed));
        let allowance = Arc::new(Allowance::new(seed));
        let hosts = Arc::new(Hosts::new(seed));
        let mut data = Vec::new();
        let mut messages = 0;
        let free = self.machines[number].free_bytes();
        for core in 0..cores {
            let own = LogId(core);
            let logs = 0..super::machine::CORES_MAX;
            let owned: Vec<_> = logs.filter(|log| log % cores == core).map(LogId).collect();
            let segment_bytes = self.plan.segment_bytes;
            let log_settings = LogSettings {
                segment_bytes,
                size_max: u64::from(segment_bytes) * 1000,
                free_min: u64::from(segment_bytes) * 2,
            };
            let identity = Identity {
                spool: SPOOL,
                log: own,
            };
            let random = &mut self.random;
            let mut log = restarted.log(identity, log_settings, &owned, random.next(), free);
            let id = CoreId(core);
            restart::adopt_notes(now, &mut log, &restarted, &owned, id, cores);
            let queue_settings = queue::Settings {
                core: CoreNumber(core),
                policies: settings.policies.clone(),
                idle: settings.idle,
                seed: random.next(),
            };
            let mut queue = Schedule::new(queue_settings, Arc::clone(&permits), now);
            let enqueued = restart::enqueue(now, &mut queue, &settings, &restarted, &owned);
            messages += enqueued.messages;
            let parts = Parts {
                id,
                settings: Arc::clone(&settings),
                sessions: Arc::clone(&sessions),
                allowance: Arc::clone(&allowance),
                hosts: Arc::clone(&hosts),
                log,
                queue,
                detours: enqueued.detours,
                broken: enqueued.broken,
                seed: random.next(),
                // One for all worlds: a salt that is drawn from it costs its keys once.
                secret: [7; 32],
            };
            data.push(Core {
                core: DataCore::new(parts),
                ready: Default::default(),
                ends: Default::default(),
                writing: false,
                failed: false,
                doors: vec![Door::Open; settings.listeners.len()],
                deadline: None,
                last_letter: 0,
            });
        }
        let since = self.now - self.machines[number].kept_at;
        let mut memories = self.machines[number].memories.clone();
        for left in (memories.values_mut()).filter_map(|memory| memory.left_open.as_mut()) {
            left.since_millis = since / 1_000_000;
        }
        let setup = settings::online(&config, memories, jiff::tz::TimeZone::UTC);
        let online = Online::new(setup, cores, now);
        let customers = Arc::clone(&settings.customers);
        let mut control = ControlCore::new(now, cores, customers, seed, online);
        control.collect(now, &settings.collectors);
        let smarthosts = settings::smarthosts(&config).expect("good smarthosts");
        let machine = &mut self.machines[number];
        machine.life = life;
        machine.dark = false;
        machine.asked = false;
        machine.messages = messages as u64;
        machine.process = Some(Process {
            cores: data,
            control,
            control_deadline: None,
            busy_at: self.now,
            last_to_control: 0,
            settings,
            smarthosts,
            usage,
            permits,
            sessions,
            sessions_most: 0,
            held_at_start: messages as u64,
            exit: None,
        });
        if !self.calm {
            let death = self.plan.deaths.iter().position(|death| death.0 == number);
            let death = death.map(|at| self.plan.deaths.remove(at));
            self.machines[number].dies_in = death.map(|(_, after, _)| after);
            self.machines[number].dies = death.map(|(_, _, how)| how);
        }
        self.summary.lives += 1;
        self.note(|| format!("{number}: life {life} begins with {messages} messages"));
        self.control_turn(number, turnspool::core::control::ControlCompletion::Timer);
        for core in 0..usize::from(cores) {
            let place = self.place(number, core);
            self.hand(place, Completion::Timer);
        }
        if number != PROVIDER {
            self.tell_presence(number - 1);
        }
    }

    pub(super) fn configuration(&self, machine: usize, cores: u8) -> Config {
        configuration::read(&self.plan, machine, cores, self.machines[machine].changes)
    }

    fn read_logs(&mut self, number: usize) -> Restarted {
        let machine = &mut self.machines[number];
        let mut restart = Restart::new(Some(SPOOL));
        for disk in &mut machine.disks {
            disk.read_directory(&mut restart);
        }
        let restarted = restart.finish();
        for disk in &mut machine.disks {
            disk.open(&restarted);
        }
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
        machine.torn = !restarted.recovered.broken.is_empty();
        for broken in &restarted.recovered.broken {
            let queue_id = QueueId::from_u64(broken.message.queue_id);
            assert!(
                !self.committed.contains(&(number, queue_id)),
                "{broken:?} was committed, and is not whole"
            );
        }
        restarted
    }

    /// Ends the processes that have come to their end, in either way.
    pub(super) fn bury(&mut self) {
        for number in 0..self.machines.len() {
            let machine = &mut self.machines[number];
            if machine.dies_in == Some(0) {
                machine.dies_in = None;
                let loss = match machine.dies.take() {
                    Some(Mishap::PowerCut) => Loss::Unsynced,
                    _ => Loss::Nothing,
                };
                if machine.process.is_some() {
                    self.die(number, loss);
                }
            } else if let Some(clean) = machine.process.as_ref().and_then(|p| p.exit) {
                self.stopped(number, clean);
            }
        }
    }

    /// The process dies at once.
    pub(super) fn die(&mut self, number: usize, loss: Loss) {
        self.note(|| format!("{number} dies, {loss:?}"));
        let machine = &self.machines[number];
        let hops = self.ledger.hops.as_mut().expect("a world of several");
        hops.crash(self.now, &machine.hostname, loss, machine.no_room_since);
        self.end_of_life(number, loss);
    }

    /// A graceful stop is over.
    fn stopped(&mut self, number: usize, clean: bool) {
        self.note(|| format!("{number} has stopped, clean: {clean}"));
        let machine = &self.machines[number];
        let process = machine.process.as_ref().expect("looked at");
        if clean {
            assert_eq!(process.sessions.in_use(), 0, "sessions after the stop");
            assert_eq!(process.permits.in_use(), 0, "permits after the stop");
            assert_eq!(self.open_ends(number), 0, "connections after the stop");
        }
        if !clean || machine.no_room_since.is_some() {
            let hops = self.ledger.hops.as_mut().expect("a world of several");
            let since = machine.no_room_since.or(Some(self.now));
            hops.crash(self.now, &machine.hostname, Loss::Unsynced, since);
        }
        if self.ending {
            for site in 0..self.plan.sites.len() {
                let name = format!("s{site}").parse().expect("a name");
                let usage = process.usage.of(&name);
                let counted = (usage.messages(), usage.octets());
                assert_eq!(counted, (0, 0), "counted for {name} in the end");
            }
        }
        let last = self.ending;
        self.end_of_life(number, Loss::Unsynced);
        if last
            && self
                .machines
                .iter()
                .all(|machine| machine.process.is_none())
        {
            self.look_at_the_spools();
        }
    }

    /// Nothing may be left; senders that could not be told for want of room are told after
    /// one more start.
    fn look_at_the_spools(&mut self) {
        let mut live = 0;
        for number in 0..self.machines.len() {
            live += self.read_logs(number).recovered.messages.len();
            for disk in &mut self.machines[number].disks {
                disk.end_of_life(Loss::Nothing);
            }
        }
        assert!(
            live == 0 || self.encores < ENCORES_MAX,
            "{live} messages come back"
        );
        self.encores += 1;
        self.at_rest = live == 0;
        self.ending = false;
        if !self.at_rest {
            for number in 0..self.machines.len() {
                self.at(self.now + MINUTE, Event::Start(number));
            }
        }
    }

    fn end_of_life(&mut self, number: usize, loss: Loss) {
        if number != PROVIDER {
            let site = number - 1;
            self.charge(site);
            let line = &mut self.lines[site];
            line.opened_at = None;
            line.forget(KEEP);
        }
        self.machines[number].process = None;
        self.machines[number].dies_in = None;
        self.machines[number].dark = loss == Loss::Unsynced;
        if loss == Loss::Unsynced {
            // What is up after the next boot others have brought up.
            for memory in self.machines[number].memories.values_mut() {
                memory.left_open = None;
            }
        }
        self.orphan(number, loss);
        // What helper threads were doing is done, or not.
        for job in self.jobs_of(number) {
            if self.random.one_in(2) {
                self.do_job(number, job);
            }
        }
        let calm = self.calm;
        for disk in &mut self.machines[number].disks {
            disk.end_of_life(loss);
            if calm {
                disk.health = Health::Good;
            }
        }
        if self.machines[number]
            .disks
            .iter()
            .all(|disk| disk.health == Health::Good && disk.taken_bytes == 0)
        {
            self.machines[number].no_room_since = None;
        }
        self.line_without_program(number, loss);
        if !self.ending {
            let pause = self.random.below(20 * SECOND);
            self.at(self.now + pause, Event::Start(number));
        }
    }

    /// The kernel, or nobody, says good-bye for a process.
    fn orphan(&mut self, number: usize, loss: Loss) {
        for end in self.ends_of(number) {
            let wire = &mut self.wires[end.wire.0];
            let latency = wire.latency;
            let at = &mut wire.ends[end.side];
            let open = at.is_open();
            at.who = Who::Gone;
            at.ends(Phase::Told);
            let rude = !at.arrived.is_empty() || self.random.one_in(3);
            if !open {
                continue;
            }
            if loss == Loss::Unsynced {
                at.lost_after = self.now + self.random.below(latency * 2);
            } else {
                let part = if rude { Part::Reset } else { Part::Finish };
                self.transmit(end, part, 0);
            }
        }
    }

    /// What becomes of the line whose program is gone.
    fn line_without_program(&mut self, number: usize, loss: Loss) {
        let Some(site) = number.checked_sub(1) else {
            return;
        };
        let state = self.lines[site].state;
        let stays = state == line::State::Up && loss == Loss::Nothing && self.random.one_in(2);
        if stays {
            // Somebody, or the other side, takes it down some time.
            let number = self.lines[site].number;
            let time = self.now + self.random.below(5 * MINUTE);
            let act = line::Act::Break;
            self.at(time, Event::Line { site, number, act });
        } else if state != line::State::Down {
            self.cut(site);
            self.lines[site].become_(line::State::Down);
        }
    }
}
