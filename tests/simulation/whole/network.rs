//! Connections: how they are opened, what travels over them, and how they end.

use std::net::SocketAddr;

use turnspool::core::{Completion, ConnectionId, Door, Endpoint, ListenerId};

use super::configuration;
use super::configuration::PROVIDER;
use super::plan::{MICROSECOND, MILLISECOND, SECOND};
use super::wire::{End, EndId, Place, Who, Wire, WireId};
use super::world::{Event, World};
use crate::client::Client;
use crate::mailbox;
use crate::network::{Part, Phase};
use crate::peer::Peer;
use crate::server::Server;

/// Who is to take a connection.
enum Target {
    Machine,
    Host(SocketAddr),
    Nobody,
}

impl World {
    pub(super) fn end(&mut self, id: EndId) -> &mut End {
        &mut self.wires[id.wire.0].ends[id.side]
    }

    /// Ends at which a machine's process is, or is to be.
    pub(super) fn ends_of(&self, machine: usize) -> Vec<EndId> {
        let wires = self.wires.iter().enumerate();
        let ends = wires.flat_map(|(wire, at)| {
            let sides = at.ends.iter().enumerate();
            sides.filter_map(move |(side, end)| {
                let (Who::Core(place, _) | Who::Moving(place)) = &end.who else {
                    return None;
                };
                let wire = WireId(wire);
                (place.machine == machine).then_some(EndId { wire, side })
            })
        });
        ends.collect()
    }

    pub(super) fn open_ends(&self, machine: usize) -> usize {
        let ends = self.ends_of(machine).into_iter();
        ends.filter(|end| self.wires[end.wire.0].ends[end.side].is_open())
            .count()
    }

    /// The temper of an end.
    fn shape(&mut self, end: EndId) {
        // Octet by octet only what is small: a world is to be short.
        let small = self.plan.octets_max <= 2000;
        let (window, cut) = if small { (300, 10) } else { (3000, 700) };
        let window = self.random.pick(&[window, 9000, 64 * 1024, 64 * 1024]);
        let reading = self.random.pick(&[0, 0, 0, MILLISECOND, 100 * MILLISECOND]);
        let cuts = [cut, 100 * cut, 1500, usize::MAX, usize::MAX, usize::MAX];
        let cut_max = self.random.pick(&cuts);
        let end = self.end(end);
        (end.window, end.reading, end.cut_max) = (window, reading, cut_max);
    }

    fn wire(&mut self, from: Who, port: u16, latency: u64, line: Option<usize>) -> WireId {
        let id = WireId(self.wires.len());
        self.wires.push(Wire {
            ends: [
                End::new(from, Phase::Connecting),
                End::new(Who::Nobody, Phase::Connecting),
            ],
            port,
            host: None,
            latency,
            line,
            cut: false,
        });
        for side in 0..2 {
            self.shape(EndId { wire: id, side });
        }
        id
    }

    /// A client connects to a machine of its neighbourhood.
    pub(super) fn call(&mut self, machine: usize, from: SocketAddr, client: Client) {
        let latency = self
            .random
            .pick(&[10 * MICROSECOND, MILLISECOND, 100 * MILLISECOND]);
        let peer = Who::Peer(Box::new(Peer::Client(Box::new(client))));
        let wire = self.wire(peer, configuration::SMTP, latency, None);
        let side = 0;
        self.end(EndId { wire, side }).phase = Phase::Open;
        if self.plan.exit_in > 0 && self.random.one_in(20) {
            self.end(EndId { wire, side }).reads = false;
        }
        if self.random.one_in(self.plan.exit_in * 2) {
            let time = self.now + self.random.below(10 * SECOND);
            let at = EndId { wire, side: 1 };
            let part = Part::Reset;
            self.at(time, Event::Arrive { at, part });
        }
        if !self.accept(wire, machine, configuration::SMTP, from) {
            self.end(EndId { wire, side }).phase = Phase::Told;
        }
    }

    /// A data core opens a connection.
    pub(super) fn connect(&mut self, place: Place, connection: ConnectionId, to: &Endpoint) {
        let Endpoint::Tcp(to) = to else {
            panic!("no next hop of the simulation is {to}");
        };
        let machine = place.machine;
        let (target, line) = self.find(machine, *to);
        let latency = match (&target, line) {
            (_, Some(site)) => self.plan.sites[site].latency,
            (Target::Host(host), None) => self.hosts[host].latency,
            _ => MILLISECOND,
        };
        let here = Who::Core(place, connection);
        let wire = self.wire(here, to.port(), latency, line);
        let end = EndId { wire, side: 0 };
        self.core(place)
            .expect("it lives")
            .ends
            .insert(connection, end);
        if let Target::Host(host) = target {
            let plan = &self.hosts[&host];
            let (mood, random) = (self.mood.clone(), self.random.fork());
            let peer = match &plan.mailbox {
                Some((mailbox, abilities)) => Peer::Mailbox(Box::new(mailbox::Server::new(
                    mailbox.clone(),
                    *abilities,
                    mood,
                    random,
                ))),
                None => {
                    let mut server = Server::new(plan.offers, mood, random);
                    server.lmtp = plan.lmtp;
                    Peer::Server(Box::new(server))
                }
            };
            self.wires[wire.0].host = Some(host);
            self.end(end.other()).who = Who::Peer(Box::new(peer));
        }
        if line.is_some_and(|site| !self.lines[site].is_up()) {
            if line == machine.checked_sub(1) {
                // Its own kernel knows no way.
                let result = Err("network is unreachable".to_owned());
                self.end(end).phase = Phase::Told;
                let core = self.core(place).expect("it lives");
                core.ready
                    .push_back(Completion::Connected { connection, result });
            } else {
                // Nobody answers; the core waits as long as it likes to.
                self.wires[wire.0].cut = true;
            }
            return;
        }
        let time = self.now + latency;
        self.end(end.other()).last_arrival = time;
        self.at(time, Event::Knock(wire));
    }

    /// Who is at an address, as a machine sees it, and over whose line the way leads.
    fn find(&self, from: usize, to: SocketAddr) -> (Target, Option<usize>) {
        let own_line = from.checked_sub(1);
        if let Some(house) = configuration::house(to.ip()) {
            assert_eq!(own_line, Some(house), "{from} calls into the house {to}");
            return (Target::Host(to), None);
        }
        let machines = 0..self.machines.len();
        let found = machines
            .into_iter()
            .find(|m| configuration::address(*m) == to.ip());
        match found {
            Some(site) if site != PROVIDER && own_line != Some(site - 1) => {
                assert_eq!(from, PROVIDER, "sites talk to the provider");
                (Target::Machine, Some(site - 1))
            }
            Some(_) => (Target::Machine, own_line),
            None if self.hosts.contains_key(&to) => (Target::Host(to), own_line),
            None => (Target::Nobody, own_line),
        }
    }

    pub(super) fn knock(&mut self, wire: WireId) {
        if self.wires[wire.0].cut {
            return;
        }
        let caller = EndId { wire, side: 0 };
        let Who::Core(place, _) = self.end(caller).who else {
            // It died meanwhile.
            self.end(caller.other()).phase = Phase::Told;
            return;
        };
        let latency = self.wires[wire.0].latency;
        let result = match self.end(caller.other()).who {
            Who::Peer(_) => self.knock_at_host(wire),
            _ => {
                let line = self.wires[wire.0].line;
                let machine = if place.machine == PROVIDER {
                    line.expect("a site is called over its line") + 1
                } else {
                    PROVIDER
                };
                let from = SocketAddr::new(configuration::address(place.machine), 40_000);
                let port = self.wires[wire.0].port;
                if self.accept(wire, machine, port, from) {
                    Ok(true)
                } else {
                    Err("connection refused".to_owned())
                }
            }
        };
        let result = match result {
            // No answer at all.
            Ok(false) => return,
            Ok(true) => Ok(()),
            Err(why) => Err(why),
        };
        let time = self.now + latency;
        self.end(caller).last_arrival = time;
        self.at(time, Event::Connected { wire, result });
    }

    /// Whether the host answers, and yes.
    fn knock_at_host(&mut self, wire: WireId) -> Result<bool, String> {
        let calm = self.calm;
        let host = self.wires[wire.0].host.expect("it is one");
        let refuses_in = self.hosts[&host].refuses_in;
        let end = EndId { wire, side: 1 };
        if !calm && self.random.one_in(refuses_in) {
            self.end(end).phase = Phase::Told;
            if self.random.one_in(3) {
                return Ok(false);
            }
            return Err("connection refused".to_owned());
        }
        self.end(end).phase = Phase::Open;
        let latency = self.wires[wire.0].latency;
        self.end(end.other()).last_arrival = self.now + latency;
        let Who::Peer(peer) = &mut self.end(end).who else {
            return Err("nobody there".to_owned());
        };
        let acts = peer.greet();
        self.act(end, acts);
        Ok(true)
    }

    /// A machine takes a connection, if it listens there.
    fn accept(&mut self, wire: WireId, machine: usize, port: u16, from: SocketAddr) -> bool {
        let end = EndId { wire, side: 1 };
        self.end(end).phase = Phase::Told;
        let listener = usize::from(port == configuration::ODMR);
        let Some(process) = &self.machines[machine].process else {
            return false;
        };
        let count = process.cores.len() as u64;
        let core = self.random.below(count) as usize;
        let place = self.place(machine, core);
        let core = self.core(place).expect("it lives");
        if core.doors[listener] == Door::Closed {
            return false;
        }
        let connection = core.core.admit();
        core.ends.insert(connection, end);
        self.end(end).who = Who::Core(place, connection);
        self.end(end).phase = Phase::Open;
        self.note(|| format!("{from} is {connection:?} of {place:?} by {wire:?}"));
        let local = SocketAddr::new(configuration::address(machine), port);
        self.hand(
            place,
            Completion::Accepted {
                connection,
                listener: ListenerId(listener as u16),
                peer: from,
                local,
            },
        );
        true
    }

    pub(super) fn connected(&mut self, wire: WireId, result: Result<(), String>) {
        let end = EndId { wire, side: 0 };
        let cut = self.wires[wire.0].cut;
        let at = self.end(end);
        let Who::Core(place, connection) = at.who else {
            return;
        };
        if at.phase != Phase::Connecting || cut {
            return;
        }
        at.phase = if result.is_ok() {
            Phase::Open
        } else {
            Phase::Told
        };
        self.note(|| format!("{wire:?} {connection:?} connects: {result:?}"));
        self.hand(place, Completion::Connected { connection, result });
    }
}
