//! Random worlds for collectors and links together: the real control core, with data
//! cores, drivers, a provider and an operator that do what a seed says. Lines are not had,
//! break in every phase and hang; the provider calls back, late or never; the clock jumps;
//! the budget ends. A failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::*;
use crate::core::admin::{self, Command};
use crate::core::control::{ControlCompletion, ControlCore, ControlOperation};
use crate::core::online::{LinkEvent, LinkOperation, LinkSetup, Online, Setup};
use crate::core::summoning::Letter;
use crate::core::visitors::{self, Brought};
use crate::core::{AdminRequestId, ConnectionId, ControlNotice, CoreId, LinkNotice, Notice};
use crate::link::LinkId;
use crate::link::budget::{Limits, Per};
use crate::link::calendar::{Minute, Row, Times, Weekdays};
use crate::link::collecting::{Appointment, CollectKind};
use crate::link::controller::{DialFailure, Dialling, Existing, Hope, Series, Settings};
use crate::link::outing::Memory;
use crate::link::work::{GoUp, Work};
use crate::mail::{Envelope, ForwardPath, Recipient, ReversePath, Sender};
use crate::queue::retry::Jitter;
use crate::route::{Customers, HostName};
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn;

const CORES: u8 = 3;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What comes to pass at its time.
#[derive(Clone, Copy, Debug)]
enum Event {
    Dialled(LinkId),
    HungUp(LinkId),
    Breaks(LinkId),
    Prepared(RunId),
    /// A program, or what a data core does, is over.
    Ends(RunId),
    CallBegins(usize),
    CallEnds(usize, u32),
    Asks,
}

/// What a driver has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
    Down,
    Dialling,
    Up,
    Closing,
}

struct Core {
    gate: LinkNotice,
    number: u32,
    work: Work,
    /// Sessions of clients.
    calls: BTreeSet<u32>,
}

/// A run as the world knows it.
struct Running {
    name: Box<str>,
    over_link: bool,
    /// At which data core, once one has it.
    core: Option<usize>,
}

struct World {
    seed: u64,
    random: Jitter,
    control: ControlCore,
    now: Now,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    wires: Vec<Wire>,
    cores: Vec<Core>,
    runs: BTreeMap<RunId, Running>,
    questions: BTreeSet<u64>,
    /// Until when their servers want no login.
    pauses: BTreeMap<Box<str>, Instant>,
    asked: u64,
    /// The schedule dials, whether there is something to collect or not.
    scheduled: bool,
    /// Nothing goes wrong any more.
    calm: bool,
    dials: u32,
    completed: u32,
    cut: u32,
    calls: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Jitter::new(seed);
        let mut below = |n: u64| random.next_u64() % n;
        let now = Now::default().after(seconds(1_000_000));
        let links = (0..below(3)).map(|place| LinkSetup {
            name: format!("link{place}"),
            settings: Settings {
                dialling: Dialling::Ours,
                existing: Existing::Selected,
                series: Series {
                    pause: seconds(1 + below(30)),
                    tries: 1 + below(3) as u32,
                    series_pause: seconds(60 + below(600)),
                },
                go_up: GoUp::default(),
                idle: seconds(1 + below(60)),
                at_most: (below(2) == 0).then(|| seconds(60 + below(600))),
                budget: (below(3) == 0).then(|| Limits {
                    per: Per::Day,
                    time: Some(seconds(120 + below(3600))),
                    octets: None,
                    minute_price: None,
                    money: None,
                }),
            },
            memory: Memory::default(),
        });
        let links: Vec<_> = links.collect();
        let rows = (0..below(2)).map(|_| Appointment {
            row: Row {
                days: Weekdays::new(|_| true),
                from: Minute(0),
                to: Minute(24 * 60),
                times: Times::Every(seconds(60 * (1 + below(60)))),
            },
            may_dial: below(2) == 0,
            send: true,
            collect: vec![match below(2) {
                0 => Collect::All,
                _ => Collect::Kind(CollectKind::Etrn),
            }],
        });
        let rows: Vec<_> = rows.collect();
        let scheduled = !rows.is_empty();
        let wires = vec![Wire::Down; links.len()];
        let has_links = !links.is_empty();
        let setup = Setup {
            links,
            rows,
            zone: TimeZone::UTC,
            listeners: Vec::new(),
        };
        let collectors: Vec<_> = (0..1 + below(4))
            .map(|place| {
                let means = match below(3) {
                    0 => Means::Command(vec!["/bin/true".to_owned()]),
                    1 => Means::Letter(Arc::new(Letter {
                        to: "wake@isp.example".parse().unwrap(),
                        from: "site@branch.example".parse().unwrap(),
                    })),
                    _ => Means::Provider(crate::core::collector::Provider {
                        servers: vec![(HostName::Name("isp.example".parse().unwrap()), 25)],
                        tls: crate::route::TlsPolicy::None.into(),
                        login: None,
                        ask: Ask::Release(Arc::new([etrn::wanted("#branch").unwrap()])),
                    }),
                };
                Arc::new(Collector {
                    name: format!("collector{place}").into(),
                    every: (below(2) == 0).then(|| seconds(10 + below(1800))),
                    way: if has_links && below(4) != 0 {
                        Way::OverLink
                    } else {
                        Way::Near
                    },
                    wait: seconds(below(90)),
                    callers: Vec::new(),
                    means,
                })
            })
            .collect();
        let online = Online::new(setup, CORES, now);
        let customers = Arc::new(Customers::default());
        let mut control = ControlCore::new(now, CORES, customers, seed, online);
        control.collect(now, &collectors);
        let core = || Core {
            gate: LinkNotice::Cut,
            number: 0,
            work: Work::default(),
            calls: BTreeSet::new(),
        };
        Self {
            seed,
            random,
            control,
            now,
            events: BTreeMap::new(),
            sequence: 0,
            wires,
            cores: (0..CORES).map(|_| core()).collect(),
            runs: BTreeMap::new(),
            questions: BTreeSet::new(),
            pauses: BTreeMap::new(),
            asked: 0,
            scheduled,
            calm: false,
            dials: 0,
            completed: 0,
            cut: 0,
            calls: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    /// Something goes wrong once in so many times, while things go wrong.
    fn fails(&mut self, one_in: u64) -> bool {
        !self.calm && self.below(one_in) == 0
    }

    fn later(&mut self, within: u64, event: Event) {
        let pause = Duration::from_millis(self.below(within * 1000));
        self.sequence += 1;
        self.events
            .insert((self.now.instant + pause, self.sequence), event);
    }

    fn give(&mut self, completion: ControlCompletion) {
        self.control.handle(self.now, completion);
        while let Some(operation) = self.control.poll() {
            self.perform(operation);
        }
    }

    fn is_up(&self) -> bool {
        self.wires.contains(&Wire::Up)
    }

    fn begins(&mut self, run: RunId, collector: &Collector) {
        let seed = self.seed;
        let over_link = collector.way == Way::OverLink;
        assert!(!over_link || self.is_up(), "seed {seed}: without a link");
        let name = collector.name.clone();
        let pause = self.pauses.remove(&name).unwrap_or(Instant::START);
        let now = self.now.instant;
        assert!(pause <= now, "seed {seed}: {name} runs too early");
        let twice = self.runs.values().any(|other| other.name == name);
        assert!(!twice, "seed {seed}: {name} runs twice");
        let core = None;
        let running = Running {
            name,
            over_link,
            core,
        };
        assert!(self.runs.insert(run, running).is_none(), "seed {seed}");
    }

    fn perform(&mut self, operation: ControlOperation) {
        let seed = self.seed;
        match operation {
            ControlOperation::PrepareCollecting { run, collector } => {
                self.begins(run, &collector);
                self.later(20, Event::Prepared(run));
            }
            ControlOperation::RunCommand { run, collector } => {
                self.begins(run, &collector);
                self.later(60, Event::Ends(run));
            }
            ControlOperation::Tell { core, notice } => {
                let place = usize::from(core.0);
                match notice {
                    Notice::Fetch(fetch) => self.taken(place, fetch.number),
                    Notice::Summon(summons) => {
                        // It is not prepared: whose it is, is known by its number alone.
                        let running = Running {
                            name: format!("letter {}", summons.run.0).into(),
                            over_link: false,
                            core: None,
                        };
                        self.runs.insert(summons.run, running);
                        self.taken(place, summons.run);
                    }
                    Notice::Link { number, link } => self.link(place, number, link),
                    _ => {}
                }
            }
            ControlOperation::Link { link, operation } => self.driver(link, operation),
            ControlOperation::Answer { request, .. } => {
                let open = self.questions.remove(&request.0);
                assert!(open, "seed {seed}: answered twice, or nobody had asked");
            }
            _ => {}
        }
    }

    fn driver(&mut self, link: LinkId, operation: LinkOperation) {
        let place = usize::from(link.0);
        match operation {
            LinkOperation::Dial => {
                assert_eq!(self.wires[place], Wire::Down, "seed {}", self.seed);
                self.wires[place] = Wire::Dialling;
                self.dials += 1;
                if !self.fails(8) {
                    self.later(60, Event::Dialled(link));
                }
            }
            LinkOperation::HangUp => {
                self.wires[place] = Wire::Closing;
                if !self.fails(8) {
                    self.later(10, Event::HungUp(link));
                }
            }
            LinkOperation::TakeOver => panic!("nothing was left open"),
            LinkOperation::GiveUp => self.wires[place] = Wire::Down,
            LinkOperation::Measure => {}
        }
    }

    /// A data core has a run to make.
    fn taken(&mut self, core: usize, run: RunId) {
        let gate = self.cores[core].gate;
        let Some(running) = self.runs.get_mut(&run) else {
            panic!("seed {}: a run that was not begun", self.seed);
        };
        running.core = Some(core);
        if running.over_link {
            self.cores[core].work.fetches += 1;
            self.tell(core);
        }
        if gate == LinkNotice::Cut && self.runs[&run].over_link {
            // It came too late.
            self.ends(run);
        } else {
            self.later(100, Event::Ends(run));
        }
    }

    fn link(&mut self, place: usize, number: u32, link: LinkNotice) {
        self.cores[place].number = number;
        self.cores[place].gate = link;
        if link == LinkNotice::Cut {
            self.cores[place].work.sessions = 0;
            for call in std::mem::take(&mut self.cores[place].calls) {
                self.visit(place, call, visitors::Event::Gone(Brought::default()));
            }
            let cut: Vec<_> = (self.runs.iter())
                .filter(|(_, run)| run.over_link && run.core == Some(place))
                .map(|(id, _)| *id)
                .collect();
            self.cut += u32::try_from(cut.len()).unwrap();
            for run in cut {
                self.ends(run);
            }
        }
        self.tell(place);
    }

    fn tell(&mut self, place: usize) {
        let Core { number, work, .. } = self.cores[place];
        let core = CoreId(u8::try_from(place).unwrap());
        let notice = ControlNotice::Outbound { core, number, work };
        self.give(ControlCompletion::Notice(notice));
    }

    fn visit(&mut self, place: usize, call: u32, event: visitors::Event) {
        let visit = Visit {
            core: CoreId(u8::try_from(place).unwrap()),
            connection: ConnectionId(call.into()),
            event,
        };
        self.give(ControlCompletion::Notice(ControlNotice::Visit(visit)));
    }

    /// A run is over, in good order if the link is there.
    fn ends(&mut self, id: RunId) {
        let Some(running) = self.runs.remove(&id) else {
            return;
        };
        self.completed += 1;
        let whole = !running.over_link || self.is_up();
        let result = if !whole || self.fails(6) {
            Err("it went wrong".to_owned())
        } else {
            Ok(())
        };
        let Some(core) = running.core else {
            return self.give(ControlCompletion::CommandRan { run: id, result });
        };
        if running.over_link {
            self.cores[core].work.fetches -= 1;
            self.tell(core);
        }
        let behind = match self.below(3) {
            0 => Behind::Nothing,
            1 => Behind::Perhaps,
            _ => Behind::Announced,
        };
        let mut run = match result {
            Ok(()) => Run {
                behind,
                ..Run::begun(id)
            },
            Err(why) => {
                let next = [Next::Usual, Next::Soon][usize::from(self.below(2) == 0)];
                Run {
                    failure: Some((next, why)),
                    ..Run::failed(id, String::new())
                }
            }
        };
        if self.below(3) == 0 {
            let pause = seconds(self.below(900));
            run.login_delay = Some(pause);
            let until = self.now.instant + pause;
            self.pauses.insert(running.name, until);
        }
        let behind = run.behind;
        self.give(ControlCompletion::Notice(ControlNotice::Collected(
            Box::new(run),
        )));
        if behind != Behind::Nothing && !self.fails(3) {
            let core = usize::try_from(self.below(CORES.into())).unwrap();
            self.later(60, Event::CallBegins(core));
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Dialled(link) => {
                let place = usize::from(link.0);
                if self.wires[place] != Wire::Dialling {
                    return;
                }
                let result = if self.fails(4) {
                    self.wires[place] = Wire::Down;
                    let (why, hope) = ("busy".to_owned(), Hope::Again);
                    Err(DialFailure { why, hope })
                } else {
                    self.wires[place] = Wire::Up;
                    if self.fails(3) {
                        self.later(120, Event::Breaks(link));
                    }
                    Ok(())
                };
                let event = LinkEvent::Dialled(result);
                self.give(ControlCompletion::Link { link, event });
            }
            Event::HungUp(link) => {
                if self.wires[usize::from(link.0)] == Wire::Closing {
                    self.wires[usize::from(link.0)] = Wire::Down;
                    let event = LinkEvent::HungUp(Ok(()));
                    self.give(ControlCompletion::Link { link, event });
                }
            }
            Event::Breaks(link) => {
                if self.wires[usize::from(link.0)] == Wire::Up {
                    self.wires[usize::from(link.0)] = Wire::Down;
                    let event = LinkEvent::Lost("no carrier".to_owned());
                    self.give(ControlCompletion::Link { link, event });
                }
            }
            Event::Prepared(run) => {
                let result = if self.fails(6) {
                    self.runs.remove(&run);
                    Err("no such host".to_owned())
                } else {
                    Ok(Prepared::Provider(Vec::new()))
                };
                // Without a link it is not handed to a data core.
                let gone = self.runs.get(&run).is_some_and(|run| run.over_link) && !self.is_up();
                // Nor if it is no longer configured.
                if gone || self.calm {
                    self.runs.remove(&run);
                }
                self.give(ControlCompletion::CollectingPrepared { run, result });
                let stays = self.runs.get(&run).is_some_and(|run| run.core.is_none());
                assert!(!stays, "seed {}: a run is forgotten", self.seed);
            }
            Event::Ends(run) => self.ends(run),
            Event::CallBegins(core) => {
                if self.cores[core].gate == LinkNotice::Open {
                    self.calls += 1;
                    let call = self.calls;
                    self.cores[core].work.sessions += 1;
                    self.cores[core].calls.insert(call);
                    let from = "198.51.100.7".parse().unwrap();
                    self.visit(core, call, visitors::Event::Came(from));
                    self.tell(core);
                    self.later(60, Event::CallEnds(core, call));
                }
            }
            Event::CallEnds(core, call) => {
                if self.cores[core].calls.remove(&call) {
                    self.cores[core].work.sessions -= 1;
                    let mut brought = Brought::default();
                    // Or it was a stranger.
                    if !self.fails(4) {
                        brought.note(&Envelope {
                            sender: Sender::new(ReversePath::Null),
                            recipients: vec![Recipient::new(ForwardPath(
                                "a@branch.example".parse().unwrap(),
                            ))],
                        });
                    }
                    self.visit(core, call, visitors::Event::Gone(brought));
                    self.tell(core);
                }
            }
            Event::Asks => {
                self.asked += 1;
                self.questions.insert(self.asked);
                let name = match self.below(3) {
                    0 => None,
                    n => Some(format!("collector{n}")),
                };
                let large = false;
                let command = Command::Collect(admin::Collect { name, large });
                let request = AdminRequestId(self.asked);
                self.give(ControlCompletion::Admin { request, command });
                if !self.calm {
                    self.later(1200, Event::Asks);
                }
            }
        }
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        for _ in 0..1_000_000 {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.control.deadline();
            let next = [event, deadline].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next < end) else {
                self.now = self.now.after(end.since(self.now.instant));
                return;
            };
            self.now = self.now.after(next.since(self.now.instant));
            if self.fails(2000) {
                // The clock is set, or the machine was asleep.
                let hours = self.below(48) as i64 - 24;
                let wall = self.now.wall.as_millis() + hours * 3_600_000;
                self.now.wall = crate::time::WallTime::from_millis(wall);
                let sleep = seconds(self.below(3600));
                self.now = self.now.after(sleep);
            }
            match self.events.first_entry() {
                Some(first) if first.key().0 <= self.now.instant => {
                    let event = first.remove();
                    self.happens(event);
                }
                _ => self.give(ControlCompletion::Timer),
            }
        }
        panic!("seed {}: it goes round and round", self.seed);
    }

    fn run(&mut self) {
        self.give(ControlCompletion::Timer);
        self.happens(Event::Asks);
        self.pass(seconds(3600));
        // Whatever was asked comes to its end when nothing goes wrong any more, and nobody
        // keeps a link open that has nothing to do.
        self.calm = true;
        self.control.collect(self.now, &[]);
        self.pass(seconds(3600));
        let seed = self.seed;
        assert_eq!(self.questions, BTreeSet::new(), "seed {seed}: no answer");
        assert!(self.runs.is_empty(), "seed {seed}: runs for ever");
        let down = self.wires.iter().all(|wire| *wire == Wire::Down);
        assert!(self.scheduled || down, "seed {seed}: {:?}", self.wires);
    }
}

#[test]
fn worlds() {
    let seeds = match std::env::var("SIMULATION_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..40,
    };
    let single = seeds.end - seeds.start == 1;
    let (mut dials, mut completed, mut cut, mut calls, mut asked) = (0, 0, 0, 0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        dials += world.dials;
        completed += world.completed;
        cut += world.cut;
        calls += world.calls;
        asked += world.asked;
    }
    // Else they would show nothing.
    let all = [dials, completed, cut, calls];
    assert!(
        single || (all.iter().all(|count| *count > 3) && asked > 100),
        "{all:?} {asked}"
    );
}
