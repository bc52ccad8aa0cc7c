//! Who is there beside the data core: the next hops, and those who bring mail.

use std::collections::VecDeque;

use super::{World, host_address};
use crate::inhabitants::{self, HostPlan};

impl World {
    /// Two addresses for each domain at most; the last is that of the senders.
    pub(super) fn build_hosts(&mut self) {
        for domain in 0..=self.plan.domains {
            for host in 0..self.random.between(1, 2) {
                let address = host_address(domain, host);
                let plan = HostPlan::draw(&mut self.random, false, self.plan.misdeed_in);
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
            let client = inhabitants::client(&mut self.random, messages, self.plan.exit_in);
            self.clients.push(Some(client));
        }
    }
}
