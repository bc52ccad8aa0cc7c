//! What can happen next in a world of turns, and what follows from it.

use turnspool::core::Completion;
use turnspool::core::control::ControlCompletion;

use super::{Act, At, Letter, Peer, STEPS_MAX, World, find};

impl World {
    pub(super) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for core in 0..self.cores.len() {
            if !self.letters[core].is_empty() {
                acts.push(Act::Letter(core));
            }
            if !self.writes[core].is_empty() {
                acts.push(Act::Written(core));
            }
        }
        if !self.to_control.is_empty() {
            acts.push(Act::Control);
        }
        for (number, wire) in self.wires.iter().enumerate() {
            if wire.broken {
                if wire.core.is_some() && (wire.wanted || wire.sending) {
                    acts.push(Act::Break(number));
                }
                continue;
            }
            if wire.wanted && !wire.to_core.is_empty() && wire.core.is_some() {
                acts.push(Act::ToCore(number));
            }
            if !wire.to_peer.is_empty() {
                acts.push(Act::ToPeer(number));
            } else if wire.sending && wire.core.is_some() {
                acts.push(Act::Sent(number));
            }
        }
        acts
    }

    /// Until nothing can happen but that time passes.
    pub(super) fn run(&mut self) {
        let mut steps = 0;
        loop {
            let acts = self.acts();
            if acts.is_empty() {
                return;
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "it goes round in circles");
            self.nanos += self.random.below(2_000_000);
            let act = self.random.pick(&acts);
            self.act(act);
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Letter(core) => match self.letters[core].pop_front().expect("looked at") {
                Letter::Notice(notice) => self.give(core, Completion::Notice(notice)),
                Letter::HandOver { baton, wire } => {
                    let connection = self.cores[core].admit();
                    self.wires[wire].core = Some((core, connection));
                    self.give(core, Completion::HandedOver { connection, baton });
                }
            },
            Act::Control => {
                let notice = self.to_control.pop_front().expect("looked at");
                self.control(ControlCompletion::Notice(notice));
            }
            Act::Written(core) => {
                let completion = self.writes[core].pop_front().expect("looked at");
                self.give(core, completion);
            }
            Act::Sent(wire) => {
                self.wires[wire].sending = false;
                let (core, connection) = self.wires[wire].core.expect("looked at");
                self.give(core, Completion::Sent { connection });
                self.wires[wire].believe();
            }
            Act::Break(wire) => {
                let at = &mut self.wires[wire];
                let (core, connection) = at.core.take().expect("looked at");
                if let Peer::Site(site) = &at.peer {
                    for &(token, end) in &site.acknowledged {
                        if end > at.believed && end <= at.heard {
                            self.delivered.entry(token).or_default().1 += 1;
                        }
                    }
                }
                let why = "cut".to_owned();
                let heard = &[];
                let broken = Completion::Broken {
                    connection,
                    why,
                    heard,
                };
                self.give(core, broken);
            }
            Act::ToCore(number) => {
                let most = self.random.pick(&[1, 7, 100, 1 << 20]);
                let wire = &mut self.wires[number];
                // Who talks behind ATRN is heard before the answer, or it would be none.
                let hasty = matches!(&wire.peer, Peer::Site(site) if site.hasty);
                let most = if hasty { usize::MAX } else { most };
                let count = most.min(wire.to_core.len());
                let octets: Vec<u8> = wire.to_core.drain(..count).collect();
                wire.heard += count;
                wire.wanted = false;
                let (core, connection) = wire.core.expect("looked at");
                self.give(
                    core,
                    Completion::Received {
                        connection,
                        octets: &octets,
                    },
                );
                self.wires[number].believe();
            }
            Act::ToPeer(number) => {
                let most = self.random.pick(&[1, 50, 1000, 1 << 20]);
                let wire = &mut self.wires[number];
                let count = most.min(wire.to_peer.len());
                let octets: Vec<u8> = wire.to_peer.drain(..count).collect();
                self.hear(number, &octets);
            }
        }
    }

    /// Octets reach a peer.
    pub(super) fn hear(&mut self, number: usize, octets: &[u8]) {
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return;
        };
        site.input.extend_from_slice(octets);
        while let Some(reply) = self.next_reply(number) {
            let wire = &mut self.wires[number];
            wire.to_core.extend(reply.as_bytes());
            wire.said += reply.len();
            if wire.cut_at.is_some_and(|at| wire.said >= at) {
                self.cut(number);
                return;
            }
        }
    }

    /// What a site says to the first whole thing in its input.
    pub(super) fn next_reply(&mut self, number: usize) -> Option<String> {
        let said = self.wires[number].said;
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return None;
        };
        match site.at {
            At::Over => None,
            At::Chunk(octets) => {
                let text: Vec<u8> =
                    (site.input.len() >= octets).then(|| site.input.drain(..octets).collect())?;
                self.take(number, &text, said)
            }
            At::Text => {
                let end = find(&site.input, b"\r\n.\r\n")?;
                let text: Vec<u8> = site.input.drain(..end + 5).collect();
                self.take(number, &text, said)
            }
            _ => {
                let end = find(&site.input, b"\r\n")?;
                let line: Vec<u8> = site.input.drain(..end + 2).collect();
                let line = String::from_utf8(line).expect("ASCII");
                let line = line.trim_end();
                Some(match site.at {
                    At::Serving => site.command(line),
                    _ => site.line(line),
                })
            }
        }
    }

    pub(super) fn take(&mut self, number: usize, text: &[u8], said: usize) -> Option<String> {
        let text = String::from_utf8(text.to_vec()).expect("ASCII");
        let (_, rest) = text.split_once("X-Token: ").expect("it has a token");
        let token: usize = rest.split("\r\n").next()?.parse().expect("a number");
        let Peer::Site(site) = &mut self.wires[number].peer else {
            return None;
        };
        let was_chunk = matches!(site.at, At::Chunk(_));
        site.at = At::Serving;
        let (customer, domain) = self.sent[token];
        assert_eq!(
            site.customer, customer,
            "message {token} went to another customer"
        );
        assert!(site.rcpt.contains(domain), "{}", site.rcpt);
        assert!(
            site.asks.is_empty() || site.asks.contains(&domain),
            "{domain} was not asked for"
        );
        if self.random.one_in(site.refuses_in) {
            site.must_reset = was_chunk;
            return Some("451 not now\r\n".to_owned());
        }
        let reply = "250 taken\r\n".to_owned();
        site.acknowledged.push((token, said + reply.len()));
        self.delivered.entry(token).or_default().0 += 1;
        Some(reply)
    }

    /// The line breaks: what the core has not heard is lost, but for a part.
    pub(super) fn cut(&mut self, number: usize) {
        let wire = &mut self.wires[number];
        wire.broken = true;
        wire.to_peer.clear();
        wire.to_core.clear();
        let heard = wire.heard;
        let Peer::Site(site) = &wire.peer else { return };
        for &(token, end) in &site.acknowledged {
            if end > heard {
                self.delivered.entry(token).or_default().1 += 1;
            }
        }
    }
}
