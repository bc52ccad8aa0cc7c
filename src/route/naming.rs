//! What a next hop is called before people: by what the operator wrote.
//!
//! Next hops have words of their own ([`Display`](std::fmt::Display)). Those of the smarthosts
//! are a number, since which hosts they are may change while mail waits for them.

use super::{NextHop, Routes};

/// Smarthosts that are named; of more there is the count.
const NAMED_MAX: usize = 2;

impl Routes {
    /// The same, with the hosts of the smarthosts in their order: names, nothing more.
    #[must_use]
    pub fn named<'a>(mut self, smarthosts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hosts: Vec<&str> = Vec::new();
        for host in smarthosts {
            // One host on two ports is one for people.
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let more = hosts.len().saturating_sub(NAMED_MAX);
        let listed = hosts[..hosts.len() - more].join(", ");
        self.smarthosts = match (hosts.len(), more) {
            (0, _) => None,
            (1, _) => Some(format!("smarthost {listed}").into()),
            (_, 0) => Some(format!("smarthosts {listed}").into()),
            (_, more) => Some(format!("smarthosts {listed} and {more} more").into()),
        };
        self
    }

    /// Whether something is said of this domain, the text of a
    /// [`Domain`](crate::mail::Domain): it does not go the way of all others.
    #[must_use]
    pub fn is_routed(&self, domain: &str) -> bool {
        self.table.get(domain).is_some()
    }

    /// What this next hop is called.
    #[must_use]
    pub fn name_of(&self, next_hop: &NextHop) -> String {
        match (next_hop, &self.smarthosts) {
            (NextHop::Smarthost(_), Some(name)) => name.as_ref().to_owned(),
            _ => next_hop.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{DeliveryMode, RoutesInSmarthostMode, SmarthostGroup};

    #[test]
    fn smarthosts_are_called_by_their_hosts() {
        let group = SmarthostGroup(0);
        let check = |hosts: &[&str], expected: &str| {
            let mode = DeliveryMode::Smarthost(group);
            let routes = Routes::new(mode, RoutesInSmarthostMode::Ignored, [], []);
            let routes = routes.unwrap().named(hosts.iter().copied());
            assert_eq!(routes.name_of(&NextHop::Smarthost(group)), expected);
            let mx = NextHop::Mx("a.example".parse().unwrap());
            assert_eq!(routes.name_of(&mx), "mx of a.example");
        };
        check(&[], "smarthost 0");
        check(&["a.example"], "smarthost a.example");
        check(&["a.example", "a.example"], "smarthost a.example");
        check(
            &["b.example", "a.example"],
            "smarthosts b.example, a.example",
        );
        check(&["a", "b", "c", "d"], "smarthosts a, b and 2 more");
    }
}
