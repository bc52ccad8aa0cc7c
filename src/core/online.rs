//! How this site is on line: its links, its schedule, and the listeners that are open for
//! as long as it is.
//!
//! Part of the control core. What the machines of [`crate::link`] want becomes
//! operations of the shell and notices to the data cores; what the data cores tell of the
//! mail that waits becomes the machines' work.
//!
//! Rules:
//! - Mail may go while any link is up. Links stand in the order in which they are wanted:
//!   one is dialled only if none before it is up or can be dialled.
//! - When a link comes up everything that waits is tried at once. Unless the schedule has
//!   brought it up and says otherwise, all collectors run.
//! - Before a link that we opened is hung up, each data core has said that it has seen the
//!   gate shut and has nothing on the wire: a notice has a number, and its answer too.
//! - What the schedule missed is done once, if it is not older than [`MISSED_MAX`].

use std::collections::VecDeque;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::core::collectors::Line;
use crate::core::control::ControlOperation;
use crate::core::{CoreId, Door, ListenerId, Notice};
use crate::link::LinkId;
use crate::link::calendar::Calendar;
use crate::link::collecting::{Appointment, Collect};
use crate::link::controller::{
    Controller, DialFailure, Order, Output, Phase, Presence, Settings, WALL_CHECK,
};
use crate::link::outing::Memory;
use crate::link::work::{Reason, Work};
use crate::report::{Detail, Fact, LinkFact};
use crate::time::{Instant, Now, WallTime};

mod answers;

/// Older than this, what the schedule missed is not made up for; and a clock that is set
/// back by more than this begins the schedule anew from there. As usual with cron.
pub const MISSED_MAX: Duration = Duration::from_secs(3 * 3600);

/// A link.
#[derive(Clone, Debug)]
pub struct LinkSetup {
    /// For logs and commands.
    pub name: String,
    /// What the operator decides about it.
    pub settings: Settings,
    /// What is remembered of it.
    pub memory: Memory,
}

/// When a listener is open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpenWhen {
    /// Always.
    Always,
    /// While a link is up.
    LinkUp,
    /// While a window of the schedule is.
    Schedule,
}

/// What the operator decides about being on line.
#[derive(Clone, Debug)]
pub struct Setup {
    /// In the order in which they are wanted. None: always on line.
    pub links: Vec<LinkSetup>,
    /// The schedule.
    pub rows: Vec<Appointment>,
    /// The zone of its times.
    pub zone: TimeZone,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<OpenWhen>,
}

impl Setup {
    /// A host that is always on line.
    #[must_use]
    pub fn always() -> Self {
        Self {
            links: Vec::new(),
            rows: Vec::new(),
            zone: TimeZone::UTC,
            listeners: Vec::new(),
        }
    }
}

/// What the shell does for a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkOperation {
    /// Bring it up.
    Dial,
    /// Know it as ours: we opened it, and the server ended without a stop, or it was not hung up.
    TakeOver,
    /// Tell of it as a presence, if it is still there: nobody hangs it up.
    GiveUp,
    /// Take it down, or end the dial.
    HangUp,
    /// Say how many octets passed its interface.
    Measure,
}

/// What happened to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// The outcome of [`LinkOperation::Dial`].
    Dialled(Result<(), DialFailure>),
    /// The outcome of [`LinkOperation::HangUp`].
    HungUp(Result<(), String>),
    /// The outcome of [`LinkOperation::Measure`].
    Metered(Option<u64>),
    /// It has gone of itself.
    Lost(String),
    /// Which connection is there that we did not open.
    Presence(Presence),
    /// Nobody can say whether it is there.
    Unseen,
}

/// What becomes of mail that needs a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkNotice {
    /// It may go, and all of it is tried at once.
    Open,
    /// What is on the wire is finished, nothing else begins.
    Shut,
    /// The link is gone: what is on the wire is cut off.
    Cut,
}

struct Link {
    name: String,
    controller: Controller,
    /// What was told last, while steps are told.
    told: Option<Phase>,
}

/// What a data core said last.
#[derive(Clone, Copy, Default)]
struct CoreWork {
    number: u32,
    work: Work,
}

/// See the module.
pub struct Online {
    links: Vec<Link>,
    calendar: Calendar,
    rows: Vec<Appointment>,
    /// What is due up to here was done.
    looked_until: WallTime,
    /// The first time of a row behind that. It is asked for at every turn of the control
    /// core, and a calendar takes long to answer.
    next_due: Option<WallTime>,
    /// A collector runs, or mail that one has set in motion is awaited.
    occupied: bool,
    /// What is to be collected now.
    wanted: Vec<Collect>,
    /// What the schedule wants collected when the link is there.
    pending: Vec<Collect>,
    listeners: Vec<(OpenWhen, Door)>,
    cores: Vec<CoreWork>,
    /// Of the last notice about the link.
    number: u32,
    gate: LinkNotice,
    now: Now,
    tells_steps: bool,
    operations: VecDeque<ControlOperation>,
}

impl Online {
    /// All links down, all listeners closed that are not always open.
    #[must_use]
    pub fn new(setup: Setup, data_cores: u8, now: Now) -> Self {
        let Setup {
            links,
            rows,
            zone,
            listeners,
        } = setup;
        let calendar_rows = rows.iter().map(|row| row.row.clone()).collect();
        let links = links.into_iter().map(|setup| Link {
            name: setup.name,
            controller: Controller::new(setup.settings, zone.clone(), setup.memory, now),
            told: None,
        });
        let calendar = Calendar::new(calendar_rows, zone.clone());
        Self {
            links: links.collect(),
            next_due: calendar.next(now.wall, |_| true).map(|next| next.at),
            calendar,
            rows,
            looked_until: now.wall,
            occupied: false,
            wanted: Vec::new(),
            pending: Vec::new(),
            listeners: listeners
                .into_iter()
                .map(|when| match when {
                    OpenWhen::Always => (when, Door::Open),
                    OpenWhen::LinkUp | OpenWhen::Schedule => (when, Door::Closed),
                })
                .collect(),
            cores: vec![CoreWork::default(); usize::from(data_cores)],
            number: 0,
            gate: LinkNotice::Cut,
            now,
            tells_steps: false,
            operations: VecDeque::new(),
        }
    }

    /// Something happened to a link.
    pub fn event(&mut self, now: Now, link: LinkId, event: LinkEvent) {
        if let Some(Link { controller, .. }) = self.links.get_mut(usize::from(link.0)) {
            match event {
                LinkEvent::Dialled(result) => controller.dialled(now, result),
                LinkEvent::HungUp(result) => controller.hung_up(now, result),
                LinkEvent::Metered(counter) => controller.metered(now, counter),
                LinkEvent::Lost(why) => controller.lost(now, why),
                LinkEvent::Presence(presence) => controller.presence(now, presence),
                LinkEvent::Unseen => controller.unseen(now),
            }
        }
        self.follow(now);
    }

    /// A data core said what waits.
    pub fn outbound(&mut self, now: Now, core: CoreId, number: u32, work: Work) {
        if let Some(slot) = self.cores.get_mut(usize::from(core.0)) {
            *slot = CoreWork { number, work };
        }
        let work = self.work();
        for link in &mut self.links {
            link.controller.work(now, work);
        }
        self.follow(now);
    }

    /// What is to be collected now: the schedule says so, or a link has come up.
    pub fn wanted(&mut self) -> Vec<Collect> {
        std::mem::take(&mut self.wanted)
    }

    /// Whether what needs a link can go. A host without one is always on line.
    #[must_use]
    pub fn line(&self) -> Line {
        if self.links.is_empty() || self.is_up() {
            Line::Up
        } else {
            Line::Down
        }
    }

    /// Whether something beyond mail needs the link: a collector.
    pub fn occupied(&mut self, now: Now, occupied: bool) {
        if self.occupied != occupied {
            self.occupied = occupied;
            self.follow(now);
        }
    }

    /// A collector is due: a reason for each link to come up, in their order.
    pub fn collector_is_due(&mut self, now: Now) {
        for link in &mut self.links {
            link.controller.collector_is_due(now);
        }
        self.follow(now);
    }

    /// The operator wants a collector to run: the first link that we can dial comes up.
    ///
    /// # Errors
    /// Why none does.
    pub fn bring_up(&mut self, now: Now) -> Result<(), String> {
        if self.line() == Line::Up {
            return Ok(());
        }
        let mut refused = None;
        for link in &mut self.links {
            match link.controller.order(now, Order::Up) {
                Ok(()) => {
                    refused = None;
                    break;
                }
                Err(why) => refused = Some(format!("link {}: {why}", link.name)),
            }
        }
        self.follow(now);
        refused.map_or(Ok(()), Err)
    }

    /// Whether there is hope for a link: one is being dialled or will be.
    #[must_use]
    pub fn is_coming(&self, now: Now) -> bool {
        (self.links.iter()).any(|link| link.controller.is_coming(now))
    }

    /// The server stops.
    pub fn stop(&mut self, now: Now) {
        for link in &mut self.links {
            link.controller.stop(now);
        }
        self.follow(now);
    }

    /// Whether we have something open that must be hung up before the end.
    #[must_use]
    pub fn owes_hang_up(&self) -> bool {
        self.links.iter().any(|link| link.controller.owes_hang_up())
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Now) {
        self.look_at_the_calendar(now);
        if self
            .deadline()
            .is_some_and(|deadline| deadline <= now.instant)
        {
            for link in &mut self.links {
                link.controller.timer(now);
            }
        }
        self.follow(now);
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<ControlOperation> {
        self.operations.pop_front()
    }

    /// When [`Online::timer`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wall = |at: WallTime| self.now.instant + at.since(self.now.wall).min(WALL_CHECK);
        let links = self
            .links
            .iter()
            .filter_map(|link| link.controller.deadline());
        let edge = self
            .minds_the_schedule()
            .then(|| self.calendar.next_edge(self.now.wall, |_| true))
            .flatten();
        links
            .chain(self.next_due.map(wall))
            .chain(edge.map(wall))
            .min()
    }

    /// Of all data cores.
    fn work(&self) -> Work {
        let all = self.cores.iter().map(|core| core.work);
        all.fold(Work::default(), Work::and)
    }

    fn is_up(&self) -> bool {
        self.links.iter().any(|link| link.controller.is_up())
    }

    /// A door opens by the schedule.
    fn minds_the_schedule(&self) -> bool {
        let mut whens = self.listeners.iter().map(|(when, _)| *when);
        whens.any(|when| when == OpenWhen::Schedule)
    }

    fn looked_until(&mut self, wall: WallTime) {
        self.looked_until = wall;
        self.next_due = self.calendar.next(wall, |_| true).map(|next| next.at);
    }

    fn look_at_the_calendar(&mut self, now: Now) {
        let behind = now.wall.since(self.looked_until);
        if self.looked_until.since(now.wall) > MISSED_MAX || behind > MISSED_MAX {
            self.looked_until(now.wall);
            return;
        }
        if behind.is_zero() {
            return;
        }
        if self.next_due.is_some_and(|due| due > now.wall) {
            self.looked_until = now.wall;
            return;
        }
        let due = self.calendar.due(self.looked_until, now.wall);
        self.looked_until(now.wall);
        for occurrence in due {
            let row = self.rows[occurrence.row].clone();
            if row.may_dial {
                let may_dial = |row: usize| self.rows[row].may_dial;
                let open = self.calendar.open_until(occurrence.at, may_dial);
                let until = open.unwrap_or(occurrence.window_ends);
                for link in &mut self.links {
                    link.controller.occasion(now, until);
                }
            }
            if self.line() == Line::Up {
                if row.send && self.gate == LinkNotice::Open {
                    self.tell(LinkNotice::Open);
                }
                self.wanted.extend(&row.collect);
            } else if row.may_dial {
                for collect in &row.collect {
                    if !self.pending.contains(collect) {
                        self.pending.push(*collect);
                    }
                }
            }
        }
    }

    /// Does what the machines want, until they want nothing.
    fn follow(&mut self, now: Now) {
        self.now = now;
        loop {
            let mut served = false;
            for place in 0..self.links.len() {
                let controller = &mut self.links[place].controller;
                controller.occupied(now, self.occupied);
                controller.standby(now, served);
                served |= controller.is_up() || controller.is_able(now);
            }
            let mut moved = false;
            for place in 0..self.links.len() {
                while let Some(output) = self.links[place].controller.poll() {
                    moved = true;
                    self.perform(now, place, output);
                }
            }
            moved |= self.let_go(now);
            if !moved {
                break;
            }
        }
        self.mind_the_doors(now);
        if self.tells_steps {
            self.tell_steps(now);
        }
    }

    /// Whether each step of a link is told.
    pub(super) fn set_detail(&mut self, on: bool) {
        self.tells_steps = on;
        for link in &mut self.links {
            link.told = None;
        }
    }

    fn tell_steps(&mut self, now: Now) {
        for link in &mut self.links {
            let phase = link.controller.status(now).phase;
            let before = link.told.replace(phase);
            if let Some(from) = before.filter(|before| *before != phase) {
                let step = Detail::Step {
                    link: link.name.clone(),
                    from: from.as_str(),
                    to: phase.as_str(),
                };
                let fact = Fact::Detail(step);
                self.operations.push_back(ControlOperation::Report(fact));
            }
        }
    }

    fn perform(&mut self, now: Now, place: usize, output: Output) {
        let link = LinkId(u8::try_from(place).expect("few links"));
        let operation = match output {
            Output::Dial => LinkOperation::Dial,
            Output::TakeOver => LinkOperation::TakeOver,
            Output::GiveUp => LinkOperation::GiveUp,
            Output::HangUp => LinkOperation::HangUp,
            Output::Measure => LinkOperation::Measure,
            Output::Opened { reason } => return self.opened(now, place, reason),
            Output::Closing => {
                if !self.is_up() {
                    self.tell(LinkNotice::Shut);
                }
                return;
            }
            Output::Closed => {
                if !self.is_up() {
                    self.tell(LinkNotice::Cut);
                }
                return;
            }
            Output::Keep => {
                let memories = self.links.iter().map(|link| {
                    let memory = link.controller.memory();
                    (link.name.clone(), memory)
                });
                let memories = memories.collect();
                self.operations
                    .push_back(ControlOperation::KeepLinks { memories });
                return;
            }
            Output::Report(fact) => {
                let name = self.links[place].name.clone();
                return self.report(name, fact);
            }
        };
        self.operations
            .push_back(ControlOperation::Link { link, operation });
    }

    fn opened(&mut self, now: Now, place: usize, reason: Reason) {
        self.tell(LinkNotice::Open);
        for (other, link) in self.links.iter_mut().enumerate() {
            if other != place {
                link.controller.relieved(now);
            }
        }
        let pending = std::mem::take(&mut self.pending);
        if reason == Reason::Schedule {
            self.wanted.extend(pending);
        } else {
            self.wanted.push(Collect::All);
        }
    }

    /// Links that are to go may go when nothing is on the wire, or another carries it.
    fn let_go(&mut self, now: Now) -> bool {
        let seen = self.cores.iter().all(|core| core.number == self.number);
        let work = self.work();
        let quiet = seen && work.in_flight == 0 && work.sessions == 0 && work.fetches == 0;
        let mut moved = false;
        if quiet || self.is_up() {
            for link in &mut self.links {
                moved |= link.controller.quiet(now);
            }
        }
        moved
    }

    /// Listeners that are not always open.
    fn mind_the_doors(&mut self, now: Now) {
        let up = self.is_up();
        let in_window = self.minds_the_schedule() && self.calendar.is_open(now.wall);
        for (number, (when, door)) in self.listeners.iter_mut().enumerate() {
            let open = match when {
                OpenWhen::Always => true,
                OpenWhen::LinkUp => up,
                OpenWhen::Schedule => in_window,
            };
            let wanted = if open { Door::Open } else { Door::Closed };
            if *door == wanted {
                continue;
            }
            *door = wanted;
            let listener = ListenerId(u16::try_from(number).expect("few listeners"));
            let notice = Notice::Listen {
                listener,
                door: wanted,
            };
            tell_all(&mut self.operations, self.cores.len(), &notice);
        }
    }

    fn tell(&mut self, link: LinkNotice) {
        self.number = self.number.wrapping_add(1);
        self.gate = link;
        let number = self.number;
        let notice = Notice::Link { number, link };
        tell_all(&mut self.operations, self.cores.len(), &notice);
    }

    fn report(&mut self, link: String, fact: LinkFact) {
        self.operations
            .push_back(ControlOperation::Report(Fact::Link { link, fact }));
    }
}

fn tell_all(operations: &mut VecDeque<ControlOperation>, cores: usize, notice: &Notice) {
    for core in 0..cores {
        let core = CoreId(u8::try_from(core).expect("few cores"));
        let notice = notice.clone();
        operations.push_back(ControlOperation::Tell { core, notice });
    }
}

#[cfg(test)]
mod tests;
