//! The shell of a data core: what it wants is done to the virtual world.

use turnspool::core::{Completion, ConnectionId, Notice, Operation};
use turnspool::report::{Ending, Fact};
use turnspool::spool::commit::{Durability, WriteFault};

use super::configuration::PROVIDER;
use super::machine::{Core, Spool};
use super::plan::{MICROSECOND, MILLISECOND};
use super::wire::{EndId, Place, Who};
use super::world::{Event, Letter, World};
use crate::disk::Sync;
use crate::hops::Copy;
use crate::network::{Part, Phase};

/// Operations for one completion.
const OPERATIONS_AT_ONCE_MAX: u32 = 100_000;

impl World {
    /// A core, if its life goes on.
    pub(super) fn core(&mut self, place: Place) -> Option<&mut Core> {
        let machine = &mut self.machines[place.machine];
        if machine.life != place.life {
            return None;
        }
        machine.process.as_mut()?.cores.get_mut(place.core)
    }

    /// Something happened to a core.
    pub(super) fn hand(&mut self, place: Place, completion: Completion<'_>) {
        if !self.feed(place, completion) {
            return;
        }
        self.pump(place);
    }

    fn feed(&mut self, place: Place, completion: Completion<'_>) -> bool {
        let machine = &mut self.machines[place.machine];
        if machine.life != place.life || machine.dies_in == Some(0) {
            return false;
        }
        let now = machine.clocks(self.now);
        let Some(process) = &mut machine.process else {
            return false;
        };
        let idle = matches!(
            completion,
            Completion::Timer | Completion::Notice(Notice::DiskSpace { .. })
        );
        if !idle {
            process.busy_at = self.now;
        }
        let core = &mut process.cores[place.core];
        core.core.handle(now, completion, &Spool(&machine.disks));
        true
    }

    pub(super) fn pump(&mut self, place: Place) {
        let mut operations = 0;
        loop {
            while let Some(operation) = self.core(place).and_then(|core| core.core.poll()) {
                operations += 1;
                assert!(operations < OPERATIONS_AT_ONCE_MAX, "it goes on for ever");
                self.perform(place, operation);
                let machine = &mut self.machines[place.machine];
                if let Some(left) = &mut machine.dies_in {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        // It is buried when the turn is over.
                        return;
                    }
                }
            }
            let Some(core) = self.core(place) else { return };
            let Some(completion) = core.ready.pop_front() else {
                core.deadline = core.core.deadline();
                return;
            };
            if !self.feed(place, completion) {
                return;
            }
        }
    }

    /// A connection that the core may say something of.
    fn live(&mut self, place: Place, id: ConnectionId, what: &str) -> EndId {
        let core = self.core(place).expect("it says something");
        let end = core.ends.get(&id).copied();
        let end = end.unwrap_or_else(|| panic!("it {what} on {id:?}, which never was"));
        let phase = self.end(end).phase;
        assert!(
            !matches!(phase, Phase::Closed | Phase::Told),
            "it {what} on {id:?}, which is {phase:?}"
        );
        end
    }

    fn perform(&mut self, place: Place, operation: Operation) {
        if self.traces() {
            let text = format!("{operation:?}");
            let text: String = text.chars().take(240).collect();
            self.note(|| format!("    {}.{}: {text}", place.machine, place.core));
        }
        match operation {
            Operation::Receive { connection } => {
                let end = self.live(place, connection, "receives");
                self.receive_wanted(end);
            }
            Operation::Send { connection, pieces } => {
                let end = self.live(place, connection, "sends");
                self.send(end, pieces);
            }
            Operation::HandOver {
                connection,
                core,
                baton,
            } => {
                let end = self.live(place, connection, "hands over");
                self.summary.handed_over += 1;
                let to = Place {
                    core: usize::from(core.0),
                    ..place
                };
                assert_ne!(to, place, "to itself");
                let at = self.end(end);
                assert!(!at.sends(), "it moves when it rests");
                at.who = Who::Moving(to);
                at.receiving = false;
                let own = self.core(place).expect("it lives");
                own.ends.remove(&connection);
                self.post(to, Letter::HandOver { baton, end });
            }
            Operation::Connect { connection, to, .. } => self.connect(place, connection, &to),
            // A line that breaks here tells it, now or later.
            Operation::Doubt { .. } => {}
            Operation::Close { connection } => {
                let end = self.live(place, connection, "closes");
                self.digest(&connection.0.to_le_bytes());
                self.end(end).ends(Phase::Closed);
                self.transmit(end, Part::Finish, 0);
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                self.digest(&offset.0.to_le_bytes());
                let disk = &mut self.machines[place.machine].disks[place.core];
                let written = disk.write(segment, offset, &octets, durability);
                let most = self.plan.sync_nanos_max;
                let time = self.now + self.random.below(most);
                let core = self.core(place).expect("it writes");
                assert!(!core.failed, "a write after a failed one");
                if durability == Durability::None {
                    // It is in the page cache at once, also while a sync is under way.
                    let result = written.map(|_| ());
                    core.failed = result.is_err();
                    core.ready.push_back(Completion::Written { result, octets });
                    self.ledger.disk_failed |= self.core(place).is_some_and(|core| core.failed);
                    return;
                }
                assert!(!core.writing, "two writes at a time");
                core.writing = true;
                let (sync, result) = match written {
                    Ok(sync) => (sync, Ok(())),
                    Err(fault) => (None, Err(fault)),
                };
                let time = if sync.is_some() { time } else { self.now };
                let at = place;
                self.at(
                    time,
                    Event::Written {
                        at,
                        sync,
                        result,
                        octets,
                    },
                );
            }
            Operation::Forget { segment } => {
                let log = usize::from(segment.log.0);
                self.machines[place.machine].disks[log].forget(segment.segment);
            }
            Operation::TellControl(notice) => self.tell_control(place.machine, notice),
            Operation::TellCore { core, notice } => {
                let core = usize::from(core.0);
                let to = Place { core, ..place };
                self.post(to, Letter::Notice(Box::new(notice)));
            }
            Operation::Listen { listener, door } => {
                let core = self.core(place).expect("it opens a door");
                core.doors[usize::from(listener.0)] = door;
            }
            Operation::Report(fact) => self.reported(place.machine, &fact),
            Operation::Stopped => {
                let core = turnspool::core::CoreId(place.core as u8);
                let notice = turnspool::core::ControlNotice::Stopped { core };
                self.tell_control(place.machine, notice);
            }
        }
    }

    pub(super) fn written(
        &mut self,
        place: Place,
        sync: Option<Sync>,
        result: Result<(), WriteFault>,
        octets: Vec<u8>,
    ) {
        if self.core(place).is_none() {
            return;
        }
        let disk = &mut self.machines[place.machine].disks[place.core];
        let result = result.and_then(|()| match sync {
            Some(sync) => disk.sync(&sync),
            None => Ok(()),
        });
        let core = self.core(place).expect("looked at");
        core.writing = false;
        core.failed |= result.is_err();
        self.ledger.disk_failed |= result.is_err();
        self.note(|| format!("{}.{} written: {result:?}", place.machine, place.core));
        self.hand(place, Completion::Written { result, octets });
    }

    /// Leaves a letter for a core. None overtakes another.
    pub(super) fn post(&mut self, to: Place, letter: Letter) {
        let delay = self.random.pick(&[0, 0, 10 * MICROSECOND, MILLISECOND]);
        let time = self.now + delay;
        let Some(core) = self.core(to) else { return };
        core.last_letter = core.last_letter.max(time);
        let time = core.last_letter;
        self.at(time, Event::Letter { to, letter });
    }

    pub(super) fn letter(&mut self, to: Place, letter: Letter) {
        if self.core(to).is_none() {
            return;
        }
        match letter {
            Letter::Notice(notice) => {
                self.note(|| {
                    let text = format!("{notice:?}");
                    let text: String = text.chars().take(200).collect();
                    format!("{}.{} reads {text}", to.machine, to.core)
                });
                if let Notice::SegmentReady { segment } = *notice {
                    self.machines[to.machine].disks[to.core].take(segment);
                }
                self.hand(to, Completion::Notice(*notice));
            }
            Letter::HandOver { baton, end } => {
                let core = self.core(to).expect("looked at");
                let connection = core.core.admit();
                core.ends.insert(connection, end);
                self.end(end).who = Who::Core(to, connection);
                self.hand(to, Completion::HandedOver { connection, baton });
            }
        }
    }

    /// The operator is told.
    pub(super) fn reported(&mut self, number: usize, fact: &Fact) {
        self.digest(fact.name().as_bytes());
        let host = &self.machines[number].hostname;
        let copy = |id: &turnspool::mail::QueueId| Copy {
            host: host.clone(),
            id: *id,
        };
        let hops = self.ledger.hops.as_mut().expect("a world of several");
        match fact {
            Fact::Recipient {
                queue_id,
                forward_path,
                ending: Ending::Delivered,
                ..
            } => hops.learnt(self.now, copy(queue_id), forward_path.as_str()),
            Fact::Recipient {
                forward_path,
                ending: Ending::Failed,
                ..
            } => self.ledger.give_up(forward_path.as_str()),
            Fact::Accepted { queue_id, .. } => {
                hops.accepted(self.now, copy(queue_id));
                self.committed.insert((number, *queue_id));
            }
            Fact::Turned { .. } => self.summary.turns += 1,
            Fact::SpoolDamaged { what, .. } if !self.machines[number].torn => {
                panic!("the spool is whole, and: {what}")
            }
            _ => {}
        }
        if self.traces() {
            self.note(|| format!("  {number} reports {}: {fact}", fact.name()));
        }
        self.check_quotas();
    }

    /// What is held for a customer is within its quota, but for what the sessions brought
    /// that were open when it was reached: one message each (`queue::usage`). A reload may
    /// have lowered it by one.
    fn check_quotas(&mut self) {
        let Some(process) = &mut self.machines[PROVIDER].process else {
            return;
        };
        let sessions = u64::from(process.sessions.in_use());
        process.sessions_most = process.sessions_most.max(sessions);
        for (site, plan) in self.plan.sites.iter().enumerate() {
            let name = format!("s{site}").parse().expect("a name");
            let held = process.usage.of(&name).messages();
            let most = plan.quota + 1 + process.sessions_most.max(process.held_at_start);
            assert!(
                held <= most,
                "{held} messages are held, with a quota of {} and {} sessions at most",
                plan.quota,
                process.sessions_most
            );
        }
    }
}
