//! Whether all has come to rest, and what must hold then.

use turnspool::core::admin::{Collect, Command, LinkCommand, Response};
use turnspool::core::control::ControlCompletion;

use super::configuration::PROVIDER;
use super::line;
use super::plan::{MINUTE, Way};
use super::world::{Event, Summary, World};
use crate::mailbox::Mailbox;

/// Segment files of a log that may be left in the end: the tail, those prepared ahead, and
/// some that wait for a neighbour.
const SEGMENTS_LEFT_MAX: usize = 12;

impl World {
    pub(super) fn look(&mut self) {
        assert!(
            self.now < self.rest_by,
            "it has not come to rest: {:?}",
            self.machines.iter().map(|m| m.messages).collect::<Vec<_>>()
        );
        self.looks += 1;
        if self.ending {
            self.at(self.now + MINUTE, Event::Look);
            return;
        }
        // By turns: who asks for mail is not at rest for a while.
        if self.looks.is_multiple_of(2) {
            self.keep_going();
        } else {
            for machine in 0..self.machines.len() {
                if self.machines[machine].process.is_some() {
                    self.machines[machine].asked = true;
                    self.command(machine, Command::Status);
                }
            }
        }
        self.at(self.now + 7 * MINUTE, Event::Look);
    }

    /// Everybody does what lets mail go.
    pub(super) fn keep_going(&mut self) {
        for site in 0..self.plan.sites.len() {
            let machine = site + 1;
            let plan = &self.plan.sites[site];
            match plan.way {
                _ if plan.mailbox.is_some() => {
                    self.command(machine, Command::Collect(Collect::default()));
                }
                Way::Etrn | Way::Atrn | Way::WakeUp => {
                    self.command(machine, Command::Collect(Collect::default()));
                }
                Way::OnConnect | Way::Provider => {
                    let up = LinkCommand::Up { name: None };
                    self.command(machine, Command::Link(up));
                }
            }
        }
    }

    /// The operator is answered.
    pub(super) fn answered(&mut self, machine: usize, response: &Response) {
        let Response::Status(status) = response else {
            self.note(|| format!("{machine} answers {response:?}"));
            return;
        };
        self.machines[machine].asked = false;
        self.machines[machine].messages = status.counters["queue_messages"];
        let open = self.open_ends(machine);
        self.note(|| {
            let messages = status.counters["queue_messages"];
            format!("{machine}: {messages} messages, {open} connections")
        });
        let rests = |number: usize| {
            let machine = &self.machines[number];
            machine.process.is_some()
                && !machine.asked
                && machine.messages == 0
                && self.open_ends(number) == 0
                && (number == PROVIDER || self.lines[number - 1].state == line::State::Down)
        };
        let collected = self.mailboxes.iter().all(Mailbox::is_empty);
        if self.calm && !self.ending && collected && (0..self.machines.len()).all(rests) {
            self.note(|| "at rest".to_owned());
            self.ending = true;
            for machine in 0..self.machines.len() {
                let life = self.machines[machine].life;
                let completion = Box::new(ControlCompletion::StopRequested);
                self.at(
                    self.now,
                    Event::Control {
                        machine,
                        life,
                        completion,
                    },
                );
            }
        }
    }

    pub(super) fn finish(mut self) -> Summary {
        self.ledger.check(self.plan.may_fail());
        let hops = self.ledger.hops.as_ref().expect("a world of several");
        self.summary.lost_replies = hops.lost_replies.get();
        for machine in &self.machines {
            for disk in &machine.disks {
                let files = disk.segments_count();
                assert!(
                    files <= SEGMENTS_LEFT_MAX,
                    "{files} segments are left when nothing is"
                );
                assert_eq!(disk.damaged_count(), 0, "nothing was damaged");
            }
        }
        self.summary.delivered = self.ledger.delivered;
        self.summary.duplicates = self.ledger.duplicates;
        self.summary.notifications = self.ledger.notifications;
        assert!(
            !self.quiet || self.summary.duplicates == 0,
            "{} came twice, and nothing went wrong",
            self.summary.duplicates
        );
        self.summary
    }
}
