//! Who is there beside the data core: the next hops, and those who bring mail.

use std::collections::VecDeque;

use super::{HostPlan, MICROSECOND, MILLISECOND, SECOND, World, host_address};
use crate::client::{Client, Exit, Manner};
use crate::server::Offers;

impl World {
    /// Two addresses for each domain at most; the last is that of the senders.
    pub(super) fn build_hosts(&mut self) {
        for domain in 0..=self.plan.domains {
            for host in 0..self.random.between(1, 2) {
                let address = host_address(domain, host);
                let random = &mut self.random;
                let mut one = |in_ten: u64| random.below(10) < in_ten;
                let offers = Offers {
                    ehlo: one(9),
                    pipelining: one(7),
                    chunking: one(5),
                    eight_bit: one(8),
                    dsn: one(5),
                    size: one(5),
                    flight: one(2),
                };
                let plan = HostPlan {
                    offers,
                    latency: self.random.pick(&[
                        10 * MICROSECOND,
                        MILLISECOND,
                        50 * MILLISECOND,
                        SECOND,
                    ]),
                    refuses_in: if self.plan.misdeed_in > 0 {
                        self.random.between(1, 8)
                    } else {
                        0
                    },
                };
                self.hosts.insert(address, plan);
            }
        }
    }

    pub(super) fn build_clients(&mut self) {
        let mut share: Vec<VecDeque<usize>> = vec![VecDeque::new(); self.plan.clients];
        let domains = (0..self.plan.domains).map(|number| format!("d{number}.example"));
        let domains: Vec<_> = domains.collect();
        for _ in 0..self.plan.messages {
            let octets_max = self.plan.octets_max;
            let message =
                self.ledger
                    .write(&mut self.random, octets_max, &domains, self.plan.senders);
            let client = self.random.length(0, share.len() - 1);
            share[client].push_back(message);
        }
        for messages in share {
            let manner = self
                .random
                .pick(&[Manner::Plain, Manner::Pipelined, Manner::Chunked]);
            let mut client = Client::new(manner, messages, self.random.fork());
            if self.random.one_in(self.plan.exit_in) {
                let exit = self.random.pick(&[Exit::Finish, Exit::Reset]);
                let most = self.random.pick(&[200, 2000, 40_000]);
                client.exit = Some((self.random.below(most), exit));
            }
            self.clients.push(Some(client));
        }
    }
}
