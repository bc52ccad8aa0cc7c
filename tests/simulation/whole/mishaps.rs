//! What goes wrong in a world, what operators do, and how it is mended.

use turnspool::core::AdminRequestId;
use turnspool::core::admin::{Collect, Command, LinkCommand};
use turnspool::core::control::ControlCompletion;
use turnspool::spool::commit::WriteStep;

use super::configuration::PROVIDER;
use super::plan::{HOUR, MINUTE, Mishap};
use super::world::{Event, World};
use crate::disk::{Health, Loss};

/// How long after the last trouble everything has to be at rest: a site may have to wait
/// for the next day's budget, a message for its give-up, and its notice for another day.
const REST: u64 = 9 * 24 * HOUR;

impl World {
    pub(super) fn mishap(&mut self, machine: usize, mishap: Mishap) {
        if self.calm {
            return;
        }
        self.note(|| format!("{machine}: {mishap:?}"));
        let lives = self.machines[machine].process.is_some();
        match mishap {
            Mishap::Kill if lives => self.die(machine, Loss::Nothing),
            Mishap::PowerCut if lives => self.die(machine, Loss::Unsynced),
            Mishap::Stop => self.order(machine, ControlCompletion::StopRequested),
            Mishap::Reload => {
                self.machines[machine].changes += 1;
                self.order(machine, ControlCompletion::ReloadRequested);
            }
            Mishap::DiskFails => {
                let step = self.random.pick(&[WriteStep::Write, WriteStep::Sync]);
                self.trouble(machine);
                for disk in &mut self.machines[machine].disks {
                    disk.health = Health::Fails(step);
                }
            }
            Mishap::DiskFull => {
                let segments = self.random.pick(&[490, 496, 498, 500]);
                let bytes = segments * u64::from(self.plan.segment_bytes);
                self.trouble(machine);
                for disk in &mut self.machines[machine].disks {
                    disk.taken_bytes = bytes;
                }
                let time = self.now + self.random.below(10 * MINUTE);
                self.at(time, Event::Mend(machine));
            }
            Mishap::ClockSet(hours) => {
                self.machines[machine].wall_offset += hours * 3_600_000;
            }
            Mishap::LinkUp => self.command(machine, Command::Link(LinkCommand::Up { name: None })),
            Mishap::LinkDown => {
                self.command(machine, Command::Link(LinkCommand::Down { name: None }));
            }
            Mishap::Collect => self.command(machine, Command::Collect(Collect::default())),
            Mishap::Release => self.release(),
            Mishap::Kill | Mishap::PowerCut => {}
        }
    }

    /// From now on what is done cannot be written down.
    pub(super) fn trouble(&mut self, machine: usize) {
        let machine = &mut self.machines[machine];
        machine.no_room_since = machine.no_room_since.or(Some(self.now));
    }

    /// The disk is good again, and the operator starts what has closed its log.
    pub(super) fn mend(&mut self, machine: usize) {
        let mut closed = false;
        for disk in &mut self.machines[machine].disks {
            disk.taken_bytes = 0;
            closed |= disk.health != Health::Good;
            disk.health = Health::Good;
        }
        if closed && self.machines[machine].process.is_some() {
            self.die(machine, Loss::Nothing);
        }
    }

    pub(super) fn order(&mut self, machine: usize, completion: ControlCompletion) {
        if self.machines[machine].process.is_some() {
            self.control_turn(machine, completion);
        }
    }

    pub(super) fn command(&mut self, machine: usize, command: Command) {
        let request = AdminRequestId(self.sequence);
        self.sequence += 1;
        self.order(machine, ControlCompletion::Admin { request, command });
    }

    /// Somebody lets all held mail go.
    pub(super) fn release(&mut self) {
        for site in 0..self.plan.sites.len() {
            let name = format!("s{site}");
            self.command(PROVIDER, Command::Release { name });
        }
    }

    /// Trouble is over; what is broken is mended.
    pub(super) fn calm_down(&mut self) {
        self.note(|| "calm".to_owned());
        self.calm = true;
        self.mood.calm();
        for machine in 0..self.machines.len() {
            self.machines[machine].dies_in = None;
            self.mend(machine);
        }
        self.rest_by = self.now + REST;
        self.at(self.now + 5 * MINUTE, Event::Look);
    }
}
