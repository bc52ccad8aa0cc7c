//! Connections of a world: how they are opened, what travels over them, how they end.

use std::net::{Ipv4Addr, SocketAddr};

use turnspool::core::{Completion, ConnectionId, Endpoint, ListenerId};

use super::{Connection, Event, MICROSECOND, MILLISECOND, SECOND, Wire, World};
use crate::network::{End, Pages, Part, Phase, Push};
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
        let mut connection = self.connection(Peer::Client(Box::new(client)), Phase::Open);
        connection.latency = self
            .random
            .pick(&[10 * MICROSECOND, MILLISECOND, 100 * MILLISECOND]);
        if self.plan.exit_in > 0 && self.random.one_in(20) {
            connection.peer.reads = false;
        }
        self.connections.insert(wire, connection);
        if self.random.one_in(self.plan.exit_in * 2) {
            let time = self.now + self.random.below(10 * SECOND);
            let part = Part::Reset;
            self.at(time, Event::ToCore { id: wire, part });
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

    /// With the temper of a path.
    fn connection(&mut self, peer: Peer, phase: Phase) -> Connection {
        // Octet by octet only what is small: a world is to be short.
        let small = self.plan.octets_max <= 2000;
        let (window, cut) = if small { (100, 1) } else { (3000, 700) };
        let mut connection = Connection {
            core: End::new((), phase),
            peer: End::new(peer, Phase::Open),
            latency: MILLISECOND,
        };
        connection.core.window = self.random.pick(&[window, 9000, 64 * 1024]);
        connection.peer.reading = self.random.pick(&[0, 0, MILLISECOND, 300 * MILLISECOND]);
        let cuts = [cut, 100 * cut, 1500, usize::MAX, usize::MAX, usize::MAX];
        connection.peer.cut_max = self.random.pick(&cuts);
        connection
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
        let server = Peer::Server(Box::new(server));
        let mut wire = self.connection(server, Phase::Connecting);
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
            let wire = self.connections.get_mut(&id).expect("just made");
            wire.core.phase = Phase::Told;
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
        if connection.core.phase != Phase::Connecting || id.life != self.life {
            return;
        }
        self.note(|| format!("{id:?} connects: {result:?}"));
        let connection = self.connections.get_mut(&id).expect("looked at above");
        if result.is_ok() {
            connection.core.phase = Phase::Open;
            let acts = connection.peer.who.greet();
            self.act(id, acts);
        } else {
            connection.core.phase = Phase::Told;
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
        let jitter = self.random.below(MICROSECOND);
        match act {
            Act::Send(octets) => {
                let mut rest = &octets[..];
                while !rest.is_empty() {
                    let connection = self.connections.get_mut(&id).expect("it acts");
                    let cut = connection.peer.cut(&mut rest, &mut self.random);
                    let jitter = self.random.below(MICROSECOND);
                    self.leaves_for_core(id, Part::Octets(cut), jitter);
                }
            }
            Act::Finish => self.leaves_for_core(id, Part::Finish, jitter),
            Act::Reset => self.leaves_for_core(id, Part::Reset, jitter),
            Act::Pause(nanos) => {
                let connection = self.connections.get_mut(&id).expect("it acts");
                connection
                    .core
                    .arrival(self.now + connection.latency + nanos);
            }
            Act::StopReading => {
                let connection = self.connections.get_mut(&id).expect("it acts");
                connection.peer.reads = false;
            }
            Act::Accepted { whole_at } => {
                self.summary.accepted += 1;
                assert!(
                    self.failed_at.is_none_or(|failed| whole_at <= failed) || id.life != self.life,
                    "a 250 for a message that came when the disk had failed"
                );
            }
            Act::Delivered(receipt) => {
                let connection = self.connections.get_mut(&id).expect("it acts");
                let end = connection.peer.said;
                connection.core.receipts.push_back((end, receipt));
            }
        }
    }

    /// Something leaves a peer for the core.
    fn leaves_for_core(&mut self, id: Wire, part: Part, jitter: u64) {
        let connection = self.connections.get_mut(&id).expect("it sends");
        let earliest = self.now + connection.latency + jitter;
        let time = connection.core.arrival(earliest);
        self.at(time, Event::ToCore { id, part });
    }

    /// Something leaves the core for a peer.
    fn leaves_for_peer(&mut self, id: Wire, part: Part) {
        let jitter = self.random.below(MICROSECOND);
        let connection = self.connections.get_mut(&id).expect("it sends");
        let earliest = self.now + connection.latency + jitter;
        let time = connection.peer.arrival(earliest);
        self.at(time, Event::ToPeer { id, part });
    }

    pub(super) fn arrive_at_core(&mut self, id: Wire, part: Part) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match part {
            Part::Octets(octets) if connection.core.phase == Phase::Open => {
                connection.core.arrived.extend(octets);
                self.receive(id);
            }
            Part::Octets(_) => {}
            Part::Finish => {
                connection.core.finished = true;
                self.receive(id);
            }
            Part::Reset => self.reset_arrives(id),
            Part::Spool(_) => panic!("peers have no spool"),
        }
    }

    /// A receive that completes at once does so after the poll that asked for it.
    pub(super) fn receive_later(&mut self, id: Wire) {
        let core = &self.connections[&id].core;
        if !core.arrived.is_empty() || core.finished {
            self.at(self.now, Event::Hand { id });
        }
    }

    pub(super) fn receive(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("it was there");
        if id.life != self.life {
            return;
        }
        let Some(octets) = connection.core.hand(&mut self.random) else {
            return;
        };
        let take = octets.len();
        if take == 0 {
            self.note(|| format!("{id:?} is finished by its peer"));
        } else {
            connection.core.confirm(self.now, &mut self.ledger);
            self.note(|| {
                let shown = &octets[..take.min(200)];
                format!("{id:?} received {take}: {}", shown.escape_ascii())
            });
            self.digest(&(take as u64).to_le_bytes());
        }
        self.hand(Completion::Received {
            connection: id.id,
            octets: &octets,
        });
    }

    fn reset_arrives(&mut self, id: Wire) {
        let connection = self.connections.get_mut(&id).expect("looked at above");
        connection.peer.who.closed();
        if connection.core.phase != Phase::Open || id.life != self.life {
            return;
        }
        // What came before it is still there.
        let heard = connection.core.hand_all();
        connection.core.confirm(self.now, &mut self.ledger);
        connection.core.ends(Phase::Told);
        self.note(|| format!("{id:?} is reset, behind {} octets", heard.len()));
        self.hand(Completion::Broken {
            connection: id.id,
            why: "connection reset by peer".to_owned(),
            heard: &heard,
        });
    }

    /// Hands to the kernel what it takes.
    pub(super) fn push_out(&mut self, id: Wire) {
        loop {
            let connection = self.connections.get_mut(&id).expect("it sends");
            let part = match connection.core.push(&mut self.random) {
                Push::Blocked => return,
                Push::Nothing => continue,
                Push::Sent => {
                    connection.core.confirm(self.now, &mut self.ledger);
                    self.ready.push_back(Completion::Sent { connection: id.id });
                    return;
                }
                Push::Octets(octets) => Part::Octets(octets),
                Push::Spool {
                    segment,
                    from,
                    octets,
                } => {
                    let inode = self.disk.inode(segment);
                    Part::Spool(Pages {
                        machine: 0,
                        log: 0,
                        inode: inode.unwrap_or_else(|| {
                            panic!("it sends from {segment}, which is not open")
                        }),
                        from,
                        octets,
                    })
                }
            };
            self.leaves_for_peer(id, part);
        }
    }

    pub(super) fn arrive_at_peer(&mut self, id: Wire, part: Part) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let octets = match part {
            // The core has closed, or is gone.
            Part::Finish | Part::Reset => return connection.peer.who.closed(),
            _ if now > connection.core.lost_after => return,
            Part::Octets(octets) => octets,
            Part::Spool(pages) => {
                let read = self.disk.read(pages.inode, pages.from, pages.octets);
                read.to_vec()
            }
        };
        if connection.peer.reads {
            let time = now + connection.latency + connection.peer.reading;
            let octets = octets.len();
            self.at(time, Event::Window { id, octets });
        }
        self.note(|| {
            let shown = &octets[..octets.len().min(200)];
            format!("{id:?} got {}: {}", octets.len(), shown.escape_ascii())
        });
        self.digest(&octets);
        let connection = self.connections.get_mut(&id).expect("looked at above");
        let acts = connection.peer.who.octets(now, &mut self.ledger, &octets);
        self.act(id, acts);
    }
}
