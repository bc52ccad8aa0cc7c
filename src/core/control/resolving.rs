//! Next hops that are being looked up: each once, however many cores ask, and so many at a
//! time. A start may have a queue for ten thousand domains, and a name server, or the line
//! to it, that does not bear ten thousand questions at once; each that it drops would count
//! as a failure to reach a domain.
//!
//! Invariant: what was wanted is looked up, in the order in which it was; of those who
//! want it each is told once.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::core::CoreId;
use crate::route::NextHop;

/// Lookups at a time. Each is a question, or a few at once, with a socket of its own: so
/// many a resolver in a router bears, and at 50 ms each ten thousand take some seconds.
pub(super) const AT_A_TIME_MAX: usize = 512;

/// See the module. As large as there are next hops that nobody has an answer for.
#[derive(Debug, Default)]
pub(super) struct Resolving {
    /// What is wanted, and which cores want it.
    askers: HashMap<NextHop, Vec<CoreId>>,
    /// Of that, what is not being looked up yet.
    waiting: VecDeque<NextHop>,
    under_way: usize,
}

impl Resolving {
    /// A data core wants it.
    pub(super) fn want(&mut self, core: CoreId, next_hop: NextHop) {
        self.want_here(next_hop.clone());
        if let Some(askers) = self.askers.get_mut(&next_hop)
            && !askers.contains(&core)
        {
            askers.push(core);
        }
    }

    /// The control core itself wants it.
    pub(super) fn want_here(&mut self, next_hop: NextHop) {
        if !self.askers.contains_key(&next_hop) {
            self.askers.insert(next_hop.clone(), Vec::new());
            self.waiting.push_back(next_hop);
        }
    }

    /// What is to be looked up now.
    pub(super) fn next(&mut self) -> Option<NextHop> {
        if self.under_way >= AT_A_TIME_MAX {
            return None;
        }
        let next_hop = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(next_hop)
    }

    /// It was looked up. Gives the cores that want to know.
    pub(super) fn resolved(&mut self, next_hop: &NextHop) -> Vec<CoreId> {
        self.under_way = self.under_way.saturating_sub(1);
        self.askers.remove(next_hop).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_for_many_domains_is_looked_up_some_at_a_time() {
        const DOMAINS: usize = 3 * AT_A_TIME_MAX;
        let mut resolving = Resolving::default();
        let name = |n: usize| NextHop::Mx(format!("d{n}.example").parse().expect("a domain"));
        for n in 0..DOMAINS {
            for core in [0, 1, 0] {
                resolving.want(CoreId(core), name(n));
            }
        }
        resolving.want_here(name(0));
        resolving.want_here(name(DOMAINS));
        let mut under_way: VecDeque<NextHop> = VecDeque::new();
        let mut looked_up = 0;
        loop {
            under_way.extend(std::iter::from_fn(|| resolving.next()));
            assert!(under_way.len() <= AT_A_TIME_MAX);
            let Some(next_hop) = under_way.pop_front() else {
                break;
            };
            assert_eq!(next_hop, name(looked_up), "in order, each once");
            let cores = resolving.resolved(&next_hop);
            let expected: &[CoreId] = if looked_up < DOMAINS {
                &[CoreId(0), CoreId(1)]
            } else {
                &[]
            };
            assert_eq!(cores, expected);
            looked_up += 1;
        }
        assert_eq!(looked_up, DOMAINS + 1);
        assert!(resolving.askers.is_empty());
        // It is asked again when it is wanted again.
        resolving.want(CoreId(0), name(0));
        assert_eq!(resolving.next(), Some(name(0)));
    }
}
