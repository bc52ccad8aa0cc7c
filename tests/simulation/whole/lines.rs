//! What the lines of a world do by themselves, and what the programs hear of it.

use turnspool::core::control::ControlCompletion;
use turnspool::core::online::LinkEvent;
use turnspool::link::LinkId;
use turnspool::link::controller::{DialFailure, Hope, Presence};

use super::line;
use super::plan::{MINUTE, Mishap, SECOND, Way};
use super::world::{Event, World};

impl World {
    pub(super) fn line(&mut self, site: usize, number: u64, act: line::Act) {
        if self.lines[site].number != number {
            return;
        }
        let machine = site + 1;
        self.note(|| format!("line {site}: {act:?}"));
        let link = |event| ControlCompletion::Link {
            link: LinkId(0),
            event,
        };
        match act {
            line::Act::Answer => {
                // One that an earlier life has left open is there at once.
                let fails = !self.lines[site].is_up()
                    && !self.calm
                    && self.random.one_in(self.plan.sites[site].dial_fails_in);
                let result = if fails {
                    self.lines[site].become_(line::State::Down);
                    Err(DialFailure {
                        why: "busy".to_owned(),
                        hope: self.random.pick(&[Hope::Again, Hope::Again, Hope::NotSoon]),
                    })
                } else {
                    self.line_is_up(site);
                    Ok(())
                };
                self.order(machine, link(LinkEvent::Dialled(result)));
            }
            line::Act::HungUp => {
                self.cut(site);
                self.lines[site].become_(line::State::Down);
                self.order(machine, link(LinkEvent::HungUp(Ok(()))));
            }
            line::Act::Break => {
                self.charge(site);
                self.lines[site].opened_at = None;
                self.cut(site);
                self.lines[site].become_(line::State::Down);
                let number = self.lines[site].number;
                let time = self.now + self.random.below(30 * SECOND);
                let act = line::Act::Heard;
                self.at(time, Event::Line { site, number, act });
            }
            line::Act::Heard => {
                self.order(machine, link(LinkEvent::Presence(Presence::None)));
                self.order(machine, link(LinkEvent::Lost("no carrier".to_owned())));
            }
        }
    }

    pub(super) fn line_is_up(&mut self, site: usize) {
        let now = self.now;
        let line = &mut self.lines[site];
        line.become_(line::State::Up);
        line.opened_at = Some(now);
        line.busy = [now; 2];
        line.ups += 1;
        self.summary.lines_up += 1;
        let way = self.plan.sites[site].way;
        if self.calm && matches!(way, Way::OnConnect | Way::Provider) {
            // It does not ask, and is not there for long.
            let time = now + SECOND / 2;
            self.at(time, Event::Release(site));
        }
        let line = &mut self.lines[site];
        if !self.calm && line.breaks_left > 0 {
            line.breaks_left -= 1;
            let number = line.number;
            let most = self.random.pick(&[5 * SECOND, MINUTE, 10 * MINUTE]);
            let time = now + self.random.below(most);
            let act = line::Act::Break;
            self.at(time, Event::Line { site, number, act });
        }
    }

    /// Counts the time for which the program has the line open.
    pub(super) fn charge(&mut self, site: usize) {
        let day = self.machines[site + 1].day(self.now);
        let clock_set = self.plan.mishaps.iter().any(|(machine, _, mishap)| {
            *machine == site + 1 && matches!(mishap, Mishap::ClockSet(_))
        });
        self.lines[site].charge(self.now, day);
        if let Some(budget) = self.plan.sites[site].budget
            && !clock_set
        {
            // What is on the wire may be finished; and a look at the clock each second.
            let over = turnspool::link::controller::FINISH_PATIENCE
                + turnspool::link::controller::TICK_LIMITED * 2;
            self.lines[site].check(budget, over.as_nanos() as u64);
        }
    }
}
