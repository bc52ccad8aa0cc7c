//! What a route says of its own about connections and retry.

use super::Checks;
use crate::config::addresses::NextHop;
use crate::config::checked;
use crate::config::options::{File, RouteSection};

impl Checks<'_> {
    /// A route's own connections and retry. They belong to its next hop, so routes to
    /// the same host must say the same.
    pub(super) fn route_policies(&mut self, file: &File) {
        let all = checked::retry(&file.retry);
        let policy = |route: &RouteSection| {
            let own = route.retry.as_ref();
            (
                *route.connections,
                own.map(|own| checked::route_retry(own, all)),
            )
        };
        for (at, route) in file.route.iter().enumerate() {
            let of_a_host = !matches!(
                *route.next_hop,
                NextHop::Mx | NextHop::Hold | NextHop::Discard
            );
            let other = file.route[..at]
                .iter()
                .find(|other| *other.next_hop == *route.next_hop && policy(other) != policy(route));
            if let Some(other) = other.filter(|_| of_a_host) {
                let what = format!(
                    "has other `connections` or another `retry` than the route of {}, \
                     which leads to the same host",
                    *other.domain
                );
                let instead = "write the same for both";
                self.wrong("route.next_hop", &route.next_hop, what, instead);
            }
            let Some(own) = &*route.retry else { continue };
            if own.tries.is_some() != own.every.is_some() {
                let (option, value) = match *own.tries {
                    Some(_) => ("route.retry.tries", own.tries.place()),
                    None => ("route.retry.every", own.every.place()),
                };
                let what = "needs its partner: tries and every come together";
                self.wrong_at(option, value, what, "write both, or neither");
            }
            let growing = own.first.is_some()
                || own.factor.is_some()
                || own.longest.is_some()
                || own.give_up.is_some();
            if own.tries.is_some() && growing {
                let what = "contradicts `first`, `factor`, `longest` and `give_up`";
                let instead = "write either tries and every, or growing intervals";
                self.wrong_at("route.retry.tries", own.tries.place(), what, instead);
            }
            if let checked::Retry::Exponential {
                first,
                longest,
                give_up,
                ..
            } = checked::route_retry(own, all)
                && (first > longest || first > give_up)
            {
                let what = "has a `first` that is more than `longest` or `give_up`";
                let instead = "write a shorter `first`; what is left out is as in [retry]";
                self.wrong("route.retry", &route.retry, what, instead);
            }
        }
    }
}
