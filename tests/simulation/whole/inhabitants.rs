//! Who is there beside our machines: hosts that take mail, and those who bring it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::configuration;
use super::configuration::PROVIDER;
use super::plan::MINUTE;
use super::world::{Caller, Event, World};
use crate::inhabitants::{self, HostPlan};
use crate::mailbox::Mailbox;

/// How often a client that finds nobody comes again.
const CALLS_MAX: u32 = 20;

impl World {
    /// The hosts of three domains out in the world, and one in each site's house.
    pub(super) fn build_hosts(&mut self) {
        let outside = ["d0.example", "d1.example", "sender.example"];
        let outside = outside.iter().flat_map(|domain| outside_hosts(domain));
        let sites = self.plan.sites.iter().enumerate();
        let inside = sites.map(|(site, plan)| {
            let lmtp = plan.inside == super::plan::Inside::Lmtp;
            (configuration::inside(site), lmtp)
        });
        let all: Vec<_> = outside.map(|at| (at, false)).chain(inside).collect();
        for (at, lmtp) in all {
            let plan = HostPlan::draw(&mut self.random, lmtp, self.plan.misdeed_in);
            self.hosts.insert(at, plan);
        }
    }

    /// The mailboxes of the sites, with mail in them.
    pub(super) fn build_mailboxes(&mut self) {
        for site in 0..self.plan.sites.len() {
            let Some(plan) = self.plan.sites[site].mailbox.clone() else {
                continue;
            };
            let mailbox = Mailbox::default();
            for _ in 0..plan.messages {
                let (octets_max, domain) = (self.plan.octets_max, configuration::domain(site));
                let random = &mut self.random;
                let number = self.ledger.write_for_mailbox(random, octets_max, domain);
                let octets = self.ledger.messages[number].octets.clone();
                mailbox.put(number as u64, octets);
            }
            self.mailboxes.push(mailbox.clone());
            let host = HostPlan::of_mailbox(
                &mut self.random,
                mailbox,
                plan.abilities,
                self.plan.misdeed_in,
            );
            self.hosts.insert(configuration::mailbox(site), host);
        }
    }

    pub(super) fn build_callers(&mut self) {
        let machines = self.machines.len() as u64;
        for number in 0..self.plan.clients {
            let machine = self.random.below(machines) as usize;
            let client = inhabitants::client(&mut self.random, VecDeque::new(), self.plan.exit_in);
            self.callers.push(Caller {
                machine,
                from: configuration::client(machine, number),
                client: Some(client),
            });
        }
        let sites = 0..self.plan.sites.len();
        let held: Vec<_> = sites.map(configuration::domain).collect();
        let mut all = held.clone();
        all.extend(["d0.example", "d1.example"].map(str::to_owned));
        for _ in 0..self.plan.messages {
            let caller = self.random.length(0, self.callers.len() - 1);
            let inside = self.callers[caller].machine != PROVIDER;
            // Strangers may send to customers, and those in the house to anywhere.
            let domains = if inside { &all } else { &held };
            let octets_max = self.plan.octets_max;
            let message = self.ledger.write(&mut self.random, octets_max, domains, 0);
            let parameters = &mut self.ledger.messages[message].parameters;
            if inside && parameters.is_empty() && self.random.one_in(3) {
                let words = [" MT-PRIORITY=3", " MT-PRIORITY=-4", " BY=86400;R"];
                *parameters = self.random.pick(&words);
            }
            let client = &mut self.callers[caller].client;
            client.as_mut().expect("none has come yet").give(message);
        }
    }

    pub(super) fn client_comes(&mut self, number: usize, call: u32) {
        let caller = &mut self.callers[number];
        let (machine, from) = (caller.machine, caller.from);
        if self.machines[machine].process.is_none() {
            if call < CALLS_MAX {
                let time = self.now + self.random.below(5 * MINUTE);
                let call = call + 1;
                self.at(time, Event::Client { number, call });
            }
            return;
        }
        let Some(client) = caller.client.take() else {
            return;
        };
        self.call(machine, from, client);
    }
}

/// The addresses of a domain out in the world, the first one first.
pub(super) fn outside_hosts(domain: &str) -> Vec<SocketAddr> {
    let hosts = match domain {
        "d0.example" => &[201, 202][..],
        "d1.example" => &[203],
        "sender.example" => &[204],
        _ => &[],
    };
    let at = |host: &u8| SocketAddr::from(([192, 0, 2, *host], configuration::SMTP));
    hosts.iter().map(at).collect()
}
