//! What travels over connections: octets with their windows, ends and resets.

use turnspool::core::{Completion, Piece};

use super::configuration::PROVIDER;
use super::plan::{MICROSECOND, MINUTE, SECOND};
use super::wire::{EndId, Who};
use super::world::{Event, World};
use crate::network::{Pages, Part, Phase, Push};
use crate::peer::Act;

impl World {
    /// A core wants octets.
    pub(super) fn receive_wanted(&mut self, end: EndId) {
        let at = self.end(end);
        assert!(!at.receiving, "two receives on {end:?}");
        at.receiving = true;
        if !at.arrived.is_empty() || at.finished {
            // One that completes at once does so after the poll that asked for it.
            self.at(self.now, Event::Hand(end));
        }
    }

    pub(super) fn receive(&mut self, end: EndId) {
        let at = &mut self.wires[end.wire.0].ends[end.side];
        let Who::Core(place, connection) = at.who else {
            return;
        };
        let Some(octets) = at.hand(&mut self.random) else {
            return;
        };
        if octets.is_empty() {
            self.note(|| format!("{end:?} is finished by the other side"));
            let octets = &[];
            self.hand(place, Completion::Received { connection, octets });
            return;
        }
        at.confirm(self.now, &mut self.ledger);
        let (take, reads, reading) = (octets.len(), at.reads, at.reading);
        if reads {
            let other = end.other();
            let time = self.now + self.wires[end.wire.0].latency + reading;
            let octets = take;
            self.at(time, Event::Window { at: other, octets });
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{end:?} received {take}: {}", shown.escape_ascii())
        });
        self.digest(&(take as u64).to_le_bytes());
        let octets = &octets[..];
        self.hand(place, Completion::Received { connection, octets });
    }

    pub(super) fn send(&mut self, end: EndId, pieces: Vec<Piece>) {
        self.end(end).send(pieces);
        self.push_out(end);
    }

    pub(super) fn window(&mut self, end: EndId, octets: usize) {
        let at = self.end(end);
        at.window += octets;
        if at.sends()
            && let Who::Core(place, _) = at.who
        {
            self.push_out(end);
            self.pump(place);
        }
    }

    /// Hands to the kernel what it takes.
    pub(super) fn push_out(&mut self, end: EndId) {
        loop {
            let at = &mut self.wires[end.wire.0].ends[end.side];
            let Who::Core(place, connection) = at.who else {
                return;
            };
            let part = match at.push(&mut self.random) {
                Push::Blocked => return,
                Push::Nothing => continue,
                Push::Sent => {
                    at.confirm(self.now, &mut self.ledger);
                    let core = self.core(place).expect("it lives");
                    core.ready.push_back(Completion::Sent { connection });
                    return;
                }
                Push::Octets(octets) => Part::Octets(octets),
                Push::Spool {
                    segment,
                    from,
                    octets,
                } => {
                    let (machine, log) = (place.machine, usize::from(segment.log.0));
                    let inode = self.machines[machine].disks[log].inode(segment);
                    Part::Spool(Pages {
                        machine,
                        log,
                        inode: inode.unwrap_or_else(|| {
                            panic!("it sends from {segment}, which is not open")
                        }),
                        from,
                        octets,
                    })
                }
            };
            self.transmit(end, part, 0);
        }
    }

    /// Something leaves an end for the other one, and so much later than it could.
    pub(super) fn transmit(&mut self, from: EndId, part: Part, pause: u64) {
        let jitter = pause + self.random.below(MICROSECOND);
        let wire = &mut self.wires[from.wire.0];
        if wire.cut {
            return self.time_out(from);
        }
        let mut leaves = self.now;
        if let Some(site) = wire.line {
            let line = &mut self.lines[site];
            let upwards = matches!(&wire.ends[from.side].who,
                Who::Core(place, _) if place.machine != PROVIDER);
            let busy = &mut line.busy[usize::from(upwards)];
            *busy = (*busy).max(leaves) + part.len() as u64 * self.plan.sites[site].pace;
            leaves = *busy;
            line.octets += part.len() as u64;
        }
        let lost_after = wire.ends[from.side].lost_after;
        let to = &mut wire.ends[1 - from.side];
        let time = to.arrival(leaves + wire.latency + jitter);
        if time <= lost_after || lost_after == u64::MAX {
            let at = from.other();
            self.at(time, Event::Arrive { at, part });
        }
    }

    /// The kernel will notice that nobody answers, when something was sent.
    pub(super) fn time_out(&mut self, end: EndId) {
        let most = self.random.pick(&[SECOND, MINUTE, 15 * MINUTE]);
        let time = self.now + self.random.below(most);
        let at = self.end(end);
        if !at.times_out && matches!(at.who, Who::Core(..)) {
            at.times_out = true;
            self.at(time, Event::TimedOut(end));
        }
    }

    pub(super) fn arrive(&mut self, end: EndId, part: Part) {
        let wire = &self.wires[end.wire.0];
        let lost = wire.cut || self.now > wire.ends[1 - end.side].lost_after;
        if lost {
            return;
        }
        match part {
            Part::Finish => self.finished(end),
            Part::Reset => self.broken(end, "connection reset by peer"),
            Part::Octets(octets) => self.octets(end, octets),
            Part::Spool(pages) => {
                let disk = &self.machines[pages.machine].disks[pages.log];
                let octets = disk.read(pages.inode, pages.from, pages.octets).to_vec();
                self.octets(end, octets);
            }
        }
    }

    pub(super) fn finished(&mut self, end: EndId) {
        let at = self.end(end);
        match &mut at.who {
            Who::Peer(peer) => peer.closed(),
            Who::Core(..) | Who::Moving(_) => {
                at.finished = true;
                self.receive(end);
            }
            Who::Nobody | Who::Gone => {}
        }
    }

    /// The connection is gone, as the kernel of this end sees it.
    pub(super) fn broken(&mut self, end: EndId, why: &str) {
        let at = &mut self.wires[end.wire.0].ends[end.side];
        match &mut at.who {
            Who::Peer(peer) => peer.closed(),
            Who::Core(place, connection) => {
                let (place, connection) = (*place, *connection);
                if at.phase != Phase::Open {
                    return;
                }
                // What came before is still there.
                let heard = at.hand_all();
                at.confirm(self.now, &mut self.ledger);
                at.ends(Phase::Told);
                self.note(|| format!("{end:?}: {why}, behind {} octets", heard.len()));
                let broken = Completion::Broken {
                    connection,
                    why: why.to_owned(),
                    heard: &heard,
                };
                self.hand(place, broken);
            }
            Who::Moving(_) => {
                // Whoever takes it finds that out.
                at.finished = true;
            }
            Who::Nobody | Who::Gone => {}
        }
    }

    pub(super) fn octets(&mut self, end: EndId, octets: Vec<u8>) {
        let now = self.now;
        let latency = self.wires[end.wire.0].latency;
        let count = octets.len();
        let at = &mut self.wires[end.wire.0].ends[end.side];
        match &mut at.who {
            Who::Core(..) | Who::Moving(_) => {
                if at.phase == Phase::Open || at.phase == Phase::Connecting {
                    at.arrived.extend(octets);
                    self.receive(end);
                } else {
                    // Nobody reads it any more.
                    self.transmit(end, Part::Reset, 0);
                }
            }
            Who::Gone => {
                let (dark, sender) = (at.lost_after != u64::MAX, end.other());
                if dark {
                    self.time_out(sender);
                } else {
                    self.transmit(end, Part::Reset, 0);
                }
            }
            Who::Nobody => {}
            Who::Peer(peer) => {
                let (reads, reading) = (at.reads, at.reading);
                let acts = peer.octets(now, &mut self.ledger, &octets);
                if reads {
                    let (at, octets) = (end.other(), count);
                    self.at(now + latency + reading, Event::Window { at, octets });
                }
                self.note(|| {
                    let shown = &octets[..octets.len().min(200)];
                    format!("{end:?} got {count}: {}", shown.escape_ascii())
                });
                self.digest(&octets);
                self.act(end, acts);
            }
        }
    }

    /// A peer does something.
    pub(super) fn act(&mut self, end: EndId, acts: Vec<Act>) {
        let mut pause = 0;
        for act in acts {
            match act {
                Act::Send(octets) => {
                    let mut rest = &octets[..];
                    while !rest.is_empty() {
                        let at = &mut self.wires[end.wire.0].ends[end.side];
                        let cut = at.cut(&mut rest, &mut self.random);
                        self.transmit(end, Part::Octets(cut), pause);
                    }
                }
                Act::Finish => self.transmit(end, Part::Finish, pause),
                Act::Reset => self.transmit(end, Part::Reset, pause),
                Act::Pause(nanos) => pause += nanos,
                Act::StopReading => self.end(end).reads = false,
                Act::Accepted { .. } => self.summary.accepted += 1,
                Act::Delivered(receipt) => {
                    let place = self.end(end).said;
                    let other = self.end(end.other());
                    other.receipts.push_back((place, receipt));
                }
            }
        }
    }

    /// A line is down: nothing gets through what goes over it, ever.
    pub(super) fn cut(&mut self, site: usize) {
        let wires = self.wires.iter_mut();
        for wire in wires.filter(|wire| wire.line == Some(site)) {
            wire.cut = true;
        }
    }
}
