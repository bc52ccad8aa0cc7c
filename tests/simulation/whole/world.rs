//! The world: who is there, what happens when, and the clock that jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use turnspool::core::admin::Command;
use turnspool::core::control::{ControlCompletion, ControlOperation};
use turnspool::core::turn::Baton;
use turnspool::core::{Completion, ControlNotice, Notice};
use turnspool::mail::QueueId;
use turnspool::spool::commit::WriteFault;

use super::configuration::PROVIDER;
use super::line::Line;
use super::machine::Machine;
use super::plan::{HOUR, MICROSECOND, MILLISECOND, MINUTE, Mishap, Plan, SECOND};
use super::wire::{EndId, Place, Wire, WireId};
use super::{configuration, line};
use crate::client::Client;
use crate::disk::Sync;
use crate::hops::Hops;
use crate::inhabitants::HostPlan;
use crate::ledger::Ledger;
use crate::mailbox::Mailbox;
use crate::network::Part;
use crate::random::Random;
use crate::server::{Mood, Temper};

/// Events of one world. A world that needs more goes round in circles.
const EVENTS_MAX: u64 = 400_000;
/// And so many more for each hour: a machine whose budget is used up waits for tomorrow, and
/// beside it the others look at their clocks and disks, some 3,000 times in an hour.
const EVENTS_AN_HOUR_MAX: u64 = 6_000;

/// Timers in a row at one time. A few are portions of bulk work.
const TIMERS_AT_ONCE_MAX: u32 = 1000;

/// Something that happens at a time.
pub(super) enum Event {
    /// A client comes, for the first time or again.
    Client {
        number: usize,
        call: u32,
    },
    /// A connection reaches the machine that is to take it.
    Knock(WireId),
    /// The outcome of a connect.
    Connected {
        wire: WireId,
        result: Result<(), String>,
    },
    /// Something arrives at an end.
    Arrive {
        at: EndId,
        part: Part,
    },
    /// What has arrived at an end is handed to its core.
    Hand(EndId),
    /// The other end has read octets.
    Window {
        at: EndId,
        octets: usize,
    },
    /// The kernel gives a connection up.
    TimedOut(EndId),
    /// A write has ended.
    Written {
        at: Place,
        sync: Option<Sync>,
        result: Result<(), WriteFault>,
        octets: Vec<u8>,
    },
    /// A data core is told something.
    Letter {
        to: Place,
        letter: Letter,
    },
    /// The control core is told something, or something that it wanted was done.
    Control {
        machine: usize,
        life: u32,
        completion: Box<ControlCompletion>,
    },
    /// A helper thread of the control core does what it was given.
    Job {
        machine: usize,
        life: u32,
        job: Box<ControlOperation>,
    },
    Start(usize),
    Mishap(usize, Mishap),
    /// A machine's disk is as it was before.
    Mend(usize),
    Line {
        site: usize,
        number: u64,
        act: line::Act,
    },
    /// The operator of the provider lets a site's mail go.
    Release(usize),
    /// Trouble is over.
    Calm,
    /// Is it at rest?
    Look,
}

/// What lies in the mailbox of a data core.
pub(super) enum Letter {
    Notice(Box<Notice>),
    HandOver { baton: Box<Baton>, end: EndId },
}

/// Somebody who brings mail.
pub(super) struct Caller {
    pub(super) machine: usize,
    pub(super) from: SocketAddr,
    pub(super) client: Option<Client>,
}

/// What a world came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) events: u64,
    pub(crate) accepted: u32,
    pub(crate) delivered: u32,
    pub(crate) duplicates: u32,
    /// Of replies that the program before did not learn.
    pub(crate) lost_replies: u32,
    pub(crate) notifications: u32,
    pub(crate) lives: u32,
    pub(crate) turns: u32,
    pub(crate) handed_over: u32,
    pub(crate) lines_up: u32,
    pub(crate) lines_taken_over: u32,
    pub(crate) reloads: u32,
    /// Of everything that happened, in order.
    pub(crate) digest: u64,
}

/// See the module.
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) events: BTreeMap<(u64, u64), Event>,
    pub(super) sequence: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) lines: Vec<Line>,
    pub(super) wires: Vec<Wire>,
    pub(super) hosts: BTreeMap<SocketAddr, HostPlan>,
    /// Those that sites collect.
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) mood: Mood,
    pub(super) ledger: Ledger,
    pub(super) callers: Vec<Caller>,
    /// Nothing is to go wrong.
    pub(super) quiet: bool,
    pub(super) calm: bool,
    pub(super) rest_by: u64,
    pub(super) looks: u64,
    pub(super) at_rest: bool,
    /// All is done, and they are told to stop.
    pub(super) ending: bool,
    /// Starts after the last stop.
    pub(super) encores: u32,
    /// What each program said it has.
    pub(super) committed: BTreeSet<(usize, QueueId)>,
    pub(super) summary: Summary,
    pub(super) trace: bool,
}

impl World {
    /// Plays the world of a seed to its end.
    pub(crate) fn play(seed: u64, trace: bool) -> Summary {
        let mut random = Random::new(seed ^ 77 << 56);
        let plan = Plan::new(&mut random);
        if trace {
            eprintln!("{plan:#?}");
        }
        let mut world = Self::new(plan, random, trace);
        world.schedule();
        world.run();
        world.finish()
    }

    fn new(plan: Plan, mut random: Random, trace: bool) -> Self {
        let disk_bytes = u64::from(plan.segment_bytes) * 500;
        let machines = (0..=plan.sites.len())
            .map(|machine| Machine::new(configuration::hostname(machine), disk_bytes, &mut random))
            .collect();
        let mood = Mood::new(Temper {
            misdeed_in: plan.misdeed_in,
            refuses: plan.refuses,
        });
        let mut hops = Hops::default();
        for site in 0..plan.sites.len() {
            hops.hold(
                &configuration::hostname(PROVIDER),
                configuration::domain(site),
            );
        }
        if plan.is_ordered() {
            hops.keep_order();
        }
        let lines = plan.sites.iter().map(|site| Line::new(site.line_breaks));
        let mut world = Self {
            random,
            now: SECOND,
            events: BTreeMap::new(),
            sequence: 0,
            machines,
            lines: lines.collect(),
            wires: Vec::new(),
            hosts: BTreeMap::new(),
            mailboxes: Vec::new(),
            mood,
            ledger: Ledger::of_several(hops),
            callers: Vec::new(),
            quiet: plan.is_quiet(),
            calm: false,
            rest_by: u64::MAX,
            looks: 0,
            at_rest: false,
            ending: false,
            encores: 0,
            committed: BTreeSet::new(),
            summary: Summary::default(),
            trace,
            plan,
        };
        world.build_hosts();
        world.build_callers();
        world.build_mailboxes();
        world
    }

    /// Everything that happens by itself.
    fn schedule(&mut self) {
        for machine in 0..self.machines.len() {
            self.at(self.now, Event::Start(machine));
        }
        for number in 0..self.callers.len() {
            let time = self.now + SECOND + self.random.below(self.plan.rush);
            self.at(time, Event::Client { number, call: 0 });
        }
        for (machine, when, mishap) in self.plan.mishaps.clone() {
            self.at(self.now + when, Event::Mishap(machine, mishap));
        }
        let longest = self.random.pick(&[MINUTE, 10 * MINUTE, HOUR]);
        let end = self.now + self.plan.rush + 20 * MINUTE + self.random.below(longest);
        self.at(end, Event::Calm);
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events
            .insert((time.max(self.now), self.sequence), event);
    }

    /// Takes out the jobs that a process had under way.
    pub(super) fn jobs_of(&mut self, machine: usize) -> Vec<ControlOperation> {
        let jobs = self.events.extract_if(
            ..,
            |_, event| matches!(event, Event::Job { machine: of, .. } if *of == machine),
        );
        let jobs = jobs.filter_map(|(_, event)| match event {
            Event::Job { job, .. } => Some(*job),
            _ => None,
        });
        jobs.collect()
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>16.6} {}", self.now as f64 / 1e9, what());
        }
    }

    pub(super) fn traces(&self) -> bool {
        self.trace
    }

    pub(super) fn digest(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.summary.digest =
                (self.summary.digest ^ u64::from(octet)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn run(&mut self) {
        let mut timers_at_once = 0;
        while !self.at_rest {
            let (time, sequence) = *self.events.keys().next().expect("there is always a look");
            self.summary.events += 1;
            let hours = self.now / (3600 * SECOND);
            assert!(
                self.summary.events < EVENTS_MAX + hours * EVENTS_AN_HOUR_MAX,
                "the world goes round in circles at {} s",
                self.now / SECOND
            );
            match self.next_timer() {
                Some((timer, machine, core)) if timer <= time => {
                    let timer = timer.max(self.now);
                    timers_at_once = if timer == self.now {
                        timers_at_once + 1
                    } else {
                        0
                    };
                    assert!(
                        timers_at_once < TIMERS_AT_ONCE_MAX,
                        "a deadline of {machine} {core:?} that stays due"
                    );
                    self.now = timer;
                    match core {
                        Some(core) => {
                            let place = self.place(machine, core);
                            self.hand(place, Completion::Timer);
                        }
                        None => self.control_turn(machine, ControlCompletion::Timer),
                    }
                }
                _ => {
                    let event = self.events.remove(&(time, sequence)).expect("seen above");
                    timers_at_once = 0;
                    self.now = time;
                    self.happen(event);
                }
            }
            self.bury();
        }
    }

    /// Which clock rings next: of a data core, or of a control core.
    ///
    /// A control core looks at the disk each second. A clock may ring late; when nothing
    /// has happened for long it does, so that a night of waiting is not 30,000 events.
    fn next_timer(&self) -> Option<(u64, usize, Option<usize>)> {
        let mut next: Option<(u64, usize, Option<usize>)> = None;
        for (number, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else {
                continue;
            };
            let line_up = number != PROVIDER && self.lines[number - 1].is_up();
            let lateness = if line_up {
                0
            } else {
                (self.now.saturating_sub(process.busy_at) / 8).min(5 * MINUTE)
            };
            let control = process
                .control_deadline
                .map(|at| (at.as_nanos() + lateness, number, None));
            let cores = process.cores.iter().enumerate();
            let cores =
                cores.filter_map(|(core, at)| Some((at.deadline?.as_nanos(), number, Some(core))));
            next = control
                .into_iter()
                .chain(cores)
                .chain(next)
                .min_by_key(|at| at.0);
        }
        next
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client { number, call } => self.client_comes(number, call),
            Event::Knock(wire) => self.knock(wire),
            Event::Connected { wire, result } => self.connected(wire, result),
            Event::Arrive { at, part } => self.arrive(at, part),
            Event::Hand(end) => self.receive(end),
            Event::Window { at, octets } => self.window(at, octets),
            Event::TimedOut(end) => self.broken(end, "connection timed out"),
            Event::Written {
                at,
                sync,
                result,
                octets,
            } => self.written(at, sync, result, octets),
            Event::Letter { to, letter } => self.letter(to, letter),
            Event::Control {
                machine,
                life,
                completion,
            } => {
                if life == self.machines[machine].life {
                    self.note(|| format!("{machine} control: {}", shown(&completion)));
                    self.control_turn(machine, *completion);
                }
            }
            Event::Job { machine, life, job } => {
                if life == self.machines[machine].life {
                    self.job(machine, *job);
                }
            }
            Event::Start(machine) => self.start(machine),
            Event::Mishap(machine, mishap) => self.mishap(machine, mishap),
            Event::Mend(machine) => self.mend(machine),
            Event::Line { site, number, act } => self.line(site, number, act),
            Event::Release(site) => {
                let name = format!("s{site}");
                self.command(PROVIDER, Command::Release { name });
            }
            Event::Calm => self.calm_down(),
            Event::Look => self.look(),
        }
    }

    /// A process hears notices in the order in which they were written.
    pub(super) fn tell_control(&mut self, machine: usize, notice: ControlNotice) {
        let delay = self.random.pick(&[0, 0, 10 * MICROSECOND, MILLISECOND]);
        let life = self.machines[machine].life;
        let Some(process) = &mut self.machines[machine].process else {
            return;
        };
        let time = process.last_to_control.max(self.now + delay);
        process.last_to_control = time;
        let completion = Box::new(ControlCompletion::Notice(notice));
        self.at(
            time,
            Event::Control {
                machine,
                life,
                completion,
            },
        );
    }
}

/// Not all of it: settings are long.
fn shown(completion: &ControlCompletion) -> String {
    let text = format!("{completion:?}");
    text.chars().take(200).collect()
}
