//! Connections of a world: how they are opened, what travels over them, how they end.

use std::net::{Ipv4Addr, SocketAddr};

use turnspool::core::{Completion, ConnectionId, Endpoint, ListenerId, Piece};

use super::{Event, MICROSECOND, MILLISECOND, SECOND, Wire, World};
use crate::network::{Connection, Part, Phase};
use crate::peer::{Act, Peer};
use crate::server::Server;

impl World {
    pub(super) fn client_comes(&mut self, number: usize) {
        let Some(client) = self.clients[number].take() else {
            return;
        };
        let Some(core) = &mut self.core else {
            // Refused; it does not come again.
            return;
        };
        let id = core.admit();
        let wire = self.wire(id);
        let mut connection = Connection::new(Peer::Client(Box::new(client)), Phase::Open);
        self.shape(&mut connection);
        connection.latency = self
            .random
            .pick(&[10 * MICROSECOND, MILLISECOND, 100 * MILLISECOND]);
        if self.plan.exit_in > 0 && self.random.one_in(20) {
            connection.reads = false;
        }
        self.connections.insert(wire, connection);
        if self.random.one_in(self.plan.exit_in * 2) {
            let time = self.now + self.random.below(10 * SECOND);
            self.at(time, Event::Reset { id: wire });
        }
        let peer = SocketAddr::new(Ipv4Addr::new(192, 0, 2, number as u8 + 1).into(), 1025);
        let local = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 254).into(), 25);
        self.note(|| format!("client {number} is {id:?}"));
        self.hand(Completion::Accepted {
            connection: id,
            listener: ListenerId(0),
            peer,
            local,
        });
    }

    /// The temper of a path.
    pub(super) fn shape(&mut self, connection: &mut Connection) {
        // Octet by octet only what is small: a world is to be short.
        let small = self.plan.octets_max <= 2000;
        let (window, cut) = if small { (100, 1) } else { (3000, 700) };
        connection.window = self.random.pick(&[window, 9000, 64 * 1024]);
        connection.reading = self.random.pick(&[0, 0, MILLISECOND, 300 * MILLISECOND]);
        let cuts = [cut, 100 * cut, 1500, usize::MAX, usize::MAX, usize::MAX];
        connection.cut_max = self.random.pick(&cuts);
    }

    pub(super) fn connect(&mut self, connection: ConnectionId, to: &Endpoint) {
        let Endpoint::Tcp(to) = to else {
            panic!("no next hop of the simulation is {to}");
        };
        let id = self.wire(connection);
        self.digest(&connection.0.to_le_bytes());
        let host = self.hosts.get(to).expect("an address that was given");
        let (offers, latency, refuses_in) = (host.offers, host.latency, host.refuses_in);
        let server = Server::new(offers, self.mood.clone(), self.random.fork());
        let mut wire = Connection::new(Peer::Server(Box::new(server)), Phase::Connecting);
        self.shape(&mut wire);
        wire.latency = latency;
        let before = self.connections.insert(id, wire);
        assert!(before.is_none(), "{id:?} was given twice");
        let refused = !self.calm && self.random.one_in(refuses_in);
        if refused && self.random.one_in(3) {
            // No answer at all.
            return;
        }
        if refused && self.random.one_in(4) {
            let result = Err("network is unreachable".to_owned());
            self.connections.get_mut(&id).expect("just made").phase = Phase::Told;
            self.ready
                .push_back(Completion::Connected { connection, result });
            return;
        }
        let result = if refused {
            Err("connection refused".to_owned())
        } else {
            Ok(())
        };
        let time = self.now + 2 * latency;
        self.at(time, Event::Connected { id, result });
    }

    pub(super) fn connected(&mut self, id: Wire, result: Result<(), String>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.phase != Phase::Connecting || id.life != self.life {
            return;
        }
        self.note(|| format!("{id:?} connects: {result:?}"));
        let connection = self.connections.get_mut(&id).expect("looked at above");
        if result.is_ok() {
            connection.phase = Phase::Open;
            let Peer::Server(server) = &mut connection.peer else {
                panic!("a client does not wait to be connected to");
            };
            let acts = server.greet();
            self.act(id, acts);
        } else {
            connection.phase = Phase::Told;
        }
        self.hand(Completion::Connected {
            connection: id.id,
            result,
        });
    }

    /// A peer does something.
    pub(super) fn act(&mut self, id: Wire, acts: Vec<Act>) {
        for act in acts {
            self.act_once(id, act);
        }
    }

    pub(super) fn act_once(&mut self, id: Wire, act: Act) {
        let now = self.now;
        let jitter = self.random.below(MICROSECOND);
        let cut_max = self.connections[&id].cut_max;
        let connection = self.connections.get_mut(&id).expect("it acts");
        match act {
            Act::Send(octets) => {
                connection.sent_to_core += octets.len() as u64;
                let mut rest = octets;
                while !rest.is_empty() {
                    let most = rest.len().min(cut_max);
                    let take = if self.random.one_in(3) {
                        self.random.length(1, most)
                    } else {
                        most
                    };
                    let left = rest.split_off(take);
                    let jitter = self.random.below(MICROSECOND);
                    let connection = self.connections.get_mut(&id).expect("it acts");
                    let time = connection.arrival_at_core(now, jitter);
                    self.at(time, Event::ToCore { id, octets: rest });
                    rest = left;
                }
            }
            Act::Finish => {
                let time = connection.arrival_at_core(now, jitter);
                self.at(time, Event::Finish { id });
            }
            Act::Reset => {
                let time = connection.arrival_at_core(now, jitter);
                self.at(time, Event::Reset { id });
            }
            Act::Pause(nanos) => {
                connection.arrival_at_core(now, nanos);
            }
            Act::StopReading => connection.reads = false,
            Act::Accepted { whole_at } => {
                self.summary.accepted += 1;
                assert!(
                    self.failed_at.is_none_or(|failed| whole_at <= failed) || id.life != self.life,
                    "a 250 for a message that came when the disk had failed"
                );
            }
            Act::Delivered(receipt) => {
                let end = connection.sent_to_core;
                connection.receipts.push_back((end, receipt));
            }
        }
    }

    /// A receive that completes at once does so after the poll that asked for it.
    pub(super) fn receive_later(&mut self, id: Wire) {
        let connection = &self.connections[&id];
        if !connection.arrived.is_empty() || connection.finished {
            self.at(
                self.now,
                Event::ToCore {
                    id,
                    octets: Vec::new(),
                },
            );
        }
    }

    pub(super) fn receive(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("it was there");
        if connection.phase != Phase::Open || !connection.receiving || id.life != self.life {
            return;
        }
        if connection.arrived.is_empty() {
            if connection.finished {
                connection.receiving = false;
                connection.receipts.clear();
                self.note(|| format!("{id:?} is finished by its peer"));
                self.hand(Completion::Received {
                    connection: id.id,
                    octets: &[],
                });
            }
            return;
        }
        let most = connection.arrived.len();
        let take = if self.random.one_in(4) {
            self.random.length(1, most)
        } else {
            most
        };
        let octets: Vec<u8> = connection.arrived.drain(..take).collect();
        connection.receiving = false;
        connection.handed += take as u64;
        if connection.sending.is_none() {
            self.confirm(id);
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{id:?} received {take}: {}", shown.escape_ascii())
        });
        self.digest(&(take as u64).to_le_bytes());
        self.hand(Completion::Received {
            connection: id.id,
            octets: &octets,
        });
    }

    /// The core has these replies. One that comes while it still sends is not believed
    /// before all has left, and lost if the connection ends first.
    pub(super) fn confirm(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("it was there");
        while let Some((end, _)) = connection.receipts.front()
            && *end <= connection.handed
        {
            let (_, receipt) = connection.receipts.pop_front().expect("looked at above");
            self.ledger.confirm(self.now, &receipt);
        }
    }

    pub(super) fn reset_arrives(&mut self, id: Wire) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.peer.closed();
        if connection.phase != Phase::Open || id.life != self.life {
            return;
        }
        self.note(|| format!("{id:?} is reset"));
        let connection = self.connections.get_mut(&id).expect("looked at above");
        connection.phase = Phase::Told;
        connection.sending = None;
        self.hand(Completion::Broken {
            connection: id.id,
            why: "connection reset by peer".to_owned(),
        });
    }

    /// Hands to the kernel what it takes.
    pub(super) fn push_out(&mut self, id: Wire) {
        let now = self.now;
        loop {
            let random = &mut self.random;
            let connection = self.connections.get_mut(&id).expect("it sends");
            let Some(sending) = &mut connection.sending else {
                return;
            };
            let Some(piece) = sending.pieces.front() else {
                connection.sending = None;
                self.ready.push_back(Completion::Sent { connection: id.id });
                self.confirm(id);
                return;
            };
            let length = match piece {
                Piece::Octets(octets) => octets.len(),
                Piece::Spool { octets, .. } => *octets as usize,
            };
            let left = length - sending.done;
            let most = left.min(connection.window);
            if left > 0 && most == 0 {
                return;
            }
            let take = if random.one_in(3) {
                random.length(most.min(1), most)
            } else {
                most
            };
            let part = match piece {
                Piece::Octets(octets) => {
                    Part::Octets(octets[sending.done..sending.done + take].to_vec())
                }
                Piece::Spool {
                    segment, offset, ..
                } => Part::Spool {
                    inode: self
                        .disk
                        .inode(*segment)
                        .unwrap_or_else(|| panic!("it sends from {segment}, which is not open")),
                    from: offset.0 as usize + sending.done,
                    octets: take,
                },
            };
            connection.window -= take;
            sending.done += take;
            if sending.done == length {
                sending.pieces.pop_front();
                sending.done = 0;
            }
            if take > 0 {
                let jitter = random.below(MICROSECOND);
                let time = connection.arrival_at_peer(now, jitter);
                self.at(time, Event::ToPeer { id, part });
            }
        }
    }

    pub(super) fn arrive_at_peer(&mut self, id: Wire, part: &Part) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if now > connection.lost_after {
            return;
        }
        let octets = match part {
            Part::Octets(octets) => octets.clone(),
            Part::Spool {
                inode,
                from,
                octets,
            } => self.disk.read(*inode, *from, *octets).to_vec(),
        };
        if connection.reads {
            let time = now + connection.latency + connection.reading;
            let octets = part.len();
            self.at(time, Event::Window { id, octets });
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{id:?} got {}: {}", octets.len(), shown.escape_ascii())
        });
        self.digest(&octets);
        let connection = self.connections.get_mut(&id).expect("looked at above");
        let acts = connection.peer.octets(now, &mut self.ledger, &octets);
        self.act(id, acts);
    }
}
