//! What the data core wants is done to the virtual world.

use turnspool::core::data::DataCore;
use turnspool::core::{Completion, ConnectionId, Operation};
use turnspool::report::{Ending, Fact};
use turnspool::spool::commit::Durability;

use super::{Connection, Event, OPERATIONS_AT_ONCE_MAX, Wire, World};
use crate::network::{Part, Phase};

impl World {
    pub(super) fn hand(&mut self, completion: Completion<'_>) {
        let now = self.clocks();
        let Some(core) = &mut self.core else { return };
        core.handle(now, completion, &self.disk);
        self.pump();
    }

    pub(super) fn pump(&mut self) {
        let mut operations = 0;
        loop {
            while let Some(operation) = self.core.as_mut().and_then(DataCore::poll) {
                operations += 1;
                assert!(operations < OPERATIONS_AT_ONCE_MAX, "it goes on for ever");
                self.perform(operation);
                if let Some(left) = &mut self.crash_in {
                    if *left == 0 {
                        self.crash_in = None;
                        self.crashed = true;
                        return;
                    }
                    *left -= 1;
                }
            }
            let Some(completion) = self.ready.pop_front() else {
                return;
            };
            if let Completion::Broken { connection, .. } = completion {
                let id = self.wire(connection);
                let connection = self.connections.get_mut(&id).expect("it was there");
                connection.core.phase = Phase::Told;
            }
            let now = self.clocks();
            let Some(core) = &mut self.core else { return };
            core.handle(now, completion, &self.disk);
        }
    }

    pub(super) fn wire(&self, id: ConnectionId) -> Wire {
        Wire {
            life: self.life,
            id,
        }
    }

    pub(super) fn perform(&mut self, operation: Operation) {
        if self.trace {
            let text = format!("{operation:?}");
            let text: String = text.chars().take(240).collect();
            self.note(|| format!("    {text}"));
        }
        match operation {
            Operation::Receive { connection } => {
                let id = self.wire(connection);
                let found = &mut self.live(id, "receives").core;
                assert!(!found.receiving, "two receives on {id:?}");
                found.receiving = true;
                self.digest(b"r");
                self.receive_later(id);
            }
            Operation::Send { connection, pieces } => {
                let id = self.wire(connection);
                let found = &mut self.live(id, "sends").core;
                if found.phase == Phase::Broken {
                    return;
                }
                found.send(pieces);
                self.push_out(id);
            }
            Operation::HandOver { .. } => panic!("nobody calls here"),
            Operation::Doubt { .. } => panic!("nobody has mail that goes to the caller"),
            Operation::Connect { connection, to, .. } => self.connect(connection, &to),
            Operation::Close { connection } => {
                let id = self.wire(connection);
                self.digest(&connection.0.to_le_bytes());
                let now = self.now;
                let found = self.live(id, "closes");
                if found.core.phase == Phase::Broken {
                    return;
                }
                found.core.ends(Phase::Closed);
                let time = found.peer.arrival(now + found.latency);
                let part = Part::Finish;
                self.at(time, Event::ToPeer { id, part });
            }
            Operation::Write {
                segment,
                offset,
                octets,
                durability,
            } => {
                assert!(self.failed_at.is_none(), "a write after a failed one");
                self.digest(&offset.0.to_le_bytes());
                if durability == Durability::None {
                    // It is in the page cache at once, also while a sync is under way.
                    let written = self.disk.write(segment, offset, &octets, durability);
                    let result = written.map(|_| ());
                    if result.is_err() {
                        self.failed_at = Some(self.now);
                        self.ledger.disk_failed = true;
                    }
                    self.ready.push_back(Completion::Written { result, octets });
                    return;
                }
                assert!(!self.writing, "two writes at a time");
                self.writing = true;
                let (sync, result) = match self.disk.write(segment, offset, &octets, durability) {
                    Ok(sync) => (sync, Ok(())),
                    Err(fault) => (None, Err(fault)),
                };
                let time = self.now
                    + match &sync {
                        Some(_) => self.random.below(self.plan.sync_nanos_max),
                        None => 0,
                    };
                let life = self.life;
                self.at(
                    time,
                    Event::Written {
                        life,
                        sync,
                        result,
                        octets,
                    },
                );
            }
            Operation::Forget { segment } => self.disk.forget(segment.segment),
            Operation::TellControl(notice) => self.told(notice),
            Operation::Listen { .. } => panic!("every listener is always open"),
            Operation::TellCore { .. } => panic!("there is no other core"),
            Operation::Report(fact) => self.reported(&fact),
            Operation::Stopped => {
                assert!(self.stopping, "stopped without being asked");
                self.stopped = true;
            }
        }
    }

    /// A connection that the core may say something of.
    pub(super) fn live(&mut self, id: Wire, what: &str) -> &mut Connection {
        let found = self.connections.get_mut(&id);
        let found = found.unwrap_or_else(|| panic!("it {what} on {id:?}, which never was"));
        assert!(
            !matches!(found.core.phase, Phase::Closed | Phase::Told),
            "it {what} on {id:?}, which is {:?}",
            found.core.phase
        );
        found
    }

    pub(super) fn reported(&mut self, fact: &Fact) {
        match fact {
            Fact::Recipient {
                forward_path,
                ending: Ending::Failed,
                ..
            } => self.ledger.give_up(forward_path.as_str()),
            Fact::Accepted { queue_id, .. } => {
                self.committed.insert(*queue_id);
            }
            Fact::SpoolDamaged { what, .. } if !self.torn => {
                panic!("the spool is whole, and: {what}")
            }
            _ => {}
        }
        self.digest(fact.name().as_bytes());
    }
}
