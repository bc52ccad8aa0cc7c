//! Hosts, by address: which of them are dead, and how many connections each bears.
//!
//! A destination knows how it stands with its own mail; many destinations may have one
//! host. What is remembered here of a host is known for all of them (RFC 5321
//! §4.5.4.1: it is hosts that are retried, not messages): a dead host is passed over
//! until its time comes, then one connection finds out, whichever destination needs it
//! first; when it answers it gets few connections at first and more with each answer.
//!
//! Invariants:
//! - Each [`HostMemory::admit`] that allowed a connection is followed by one
//!   [`HostMemory::left`] for the same address.
//! - An address that never failed is remembered only while it has connections.
//! - What is done for a host costs the same however much mail waits behind it.
//!
//! What this module does not do: it does not say for how long a dead host rests; the
//! retry policy does, of whose mail found out. It is of one data core: each core finds
//! out for itself.

use std::hash::Hash;
use std::time::Duration;

use hashbrown::HashMap;

use crate::time::Instant;

/// Dead hosts that are remembered. Beyond this the ones whose time has come are
/// forgotten, and if that is not enough all of them: it costs a connection each.
pub const DEAD_HOSTS_MAX: usize = 16 * 1024;

/// A dead host rests no longer than this, whatever the policy says: a message that is
/// new should not wait for hours because of one that is old.
pub const REST_MAX: Duration = Duration::from_secs(30 * 60);

/// While a host is being probed, or has as many connections as it bears, those who
/// want it look again after this time.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Connections to a host that was dead and has answered once.
pub const CONNECTIONS_AFTER_DEATH: u16 = 2;

/// A host that bears so many connections is as good as any other.
const RECOVERED: u16 = 16;

/// Longest reason that is kept, in octets: it stands in a table of [`DEAD_HOSTS_MAX`].
const WHY_BYTES_MAX: usize = 200;

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// As far as we know.
    Alive,
    /// Nothing is tried before this time, or before a release after `since`.
    Dead {
        since: Instant,
        until: Instant,
        why: Box<str>,
    },
    /// One connection finds out.
    Probing { why: Box<str> },
    /// So many connections and no more; one more with each answer.
    Limited { allowed: u16 },
}

#[derive(Clone, Debug)]
struct Host {
    state: State,
    /// In a row.
    failures: u16,
    /// Connections now.
    open: u16,
}

/// A host that is dead, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadHost<A> {
    /// Which.
    pub address: A,
    /// In a row.
    pub failures: u16,
    /// Since the last failure.
    pub since: Instant,
    /// When it is tried again.
    pub until: Instant,
    /// The last failure.
    pub why: String,
}

/// What one data core knows of hosts; `A` is an address.
#[derive(Debug)]
pub struct HostMemory<A> {
    /// Seeded: outsiders choose the addresses.
    hosts: HashMap<A, Host, foldhash::quality::FixedState>,
    released_at: Option<Instant>,
}

impl<A: Clone + Eq + Hash + Ord> HostMemory<A> {
    /// Nothing is known. The seed is secret, and new at each start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            hosts: HashMap::with_hasher(foldhash::quality::FixedState::with_seed(seed)),
            released_at: None,
        }
    }

    /// Whether a connection to this address may be opened now.
    ///
    /// # Errors
    /// When to look again.
    pub fn admit(&mut self, now: Instant, address: &A) -> Result<(), Instant> {
        let released_at = self.released_at;
        let host = self.hosts.entry_ref(address).or_insert(Host {
            state: State::Alive,
            failures: 0,
            open: 0,
        });
        match &mut host.state {
            State::Alive => {}
            State::Dead { since, until, why } => {
                let is_released = released_at.is_some_and(|at| *since <= at);
                if *until > now && !is_released {
                    return Err(*until);
                }
                host.state = State::Probing {
                    why: std::mem::take(why),
                };
            }
            State::Probing { .. } => return Err(now + LOOK_AGAIN),
            State::Limited { allowed } if host.open >= *allowed => return Err(now + LOOK_AGAIN),
            State::Limited { .. } => {}
        }
        host.open = host.open.saturating_add(1);
        Ok(())
    }

    /// The host at this address took or refused mail: it is there.
    pub fn answered(&mut self, address: &A) {
        let Some(host) = self.hosts.get_mut(address) else {
            return;
        };
        host.state = match host.state {
            State::Alive => return,
            State::Dead { .. } | State::Probing { .. } => State::Limited {
                allowed: CONNECTIONS_AFTER_DEATH,
            },
            State::Limited { allowed } if allowed + 1 >= RECOVERED => State::Alive,
            State::Limited { allowed } => State::Limited {
                allowed: allowed + 1,
            },
        };
        host.failures = 0;
    }

    /// How often it has failed in a row, the next failure included: for the pause.
    #[must_use]
    pub fn failures_with_next(&self, address: &A) -> u16 {
        let failures = self.hosts.get(address).map_or(0, |host| host.failures);
        failures.saturating_add(1)
    }

    /// A connection that was allowed could not be had, or the host did not talk to us
    /// on it. It rests for `pause`, unless other connections to it are open: then it
    /// bears as many as there are. [`HostMemory::left`] is still to be called.
    pub fn failed(&mut self, now: Instant, address: &A, pause: Duration, why: &str) {
        let Some(host) = self.hosts.get_mut(address) else {
            return;
        };
        if host.open > 1 && !matches!(host.state, State::Dead { .. }) {
            let allowed = host.open - 1;
            host.state = State::Limited { allowed };
            return;
        }
        host.failures = host.failures.saturating_add(1);
        let end = (0..=WHY_BYTES_MAX.min(why.len()))
            .rev()
            .find(|&end| why.is_char_boundary(end));
        host.state = State::Dead {
            since: now,
            until: now + pause.min(REST_MAX),
            why: why[..end.unwrap_or(0)].into(),
        };
        if self.hosts.len() > DEAD_HOSTS_MAX {
            self.forget(now);
        }
    }

    /// A connection that was allowed is over.
    pub fn left(&mut self, now: Instant, address: &A) {
        let Some(host) = self.hosts.get_mut(address) else {
            return;
        };
        host.open = host.open.saturating_sub(1);
        match &mut host.state {
            State::Alive if host.open == 0 => {
                self.hosts.remove(address);
            }
            // The probe was called off: the next one finds out.
            State::Probing { why } => {
                host.state = State::Dead {
                    since: now,
                    until: now,
                    why: std::mem::take(why),
                };
            }
            State::Alive | State::Dead { .. } | State::Limited { .. } => {}
        }
    }

    /// Somebody wants mail to go now: each dead host may be probed once at once.
    pub fn release(&mut self, now: Instant) {
        self.released_at = Some(now);
    }

    /// The hosts that are dead, in the order of their addresses.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadHost<A>> {
        let mut dead: Vec<_> = (self.hosts.iter())
            .filter_map(|(address, host)| match &host.state {
                State::Dead { since, until, why } => Some(DeadHost {
                    address: address.clone(),
                    failures: host.failures,
                    since: *since,
                    until: *until,
                    why: why.to_string(),
                }),
                _ => None,
            })
            .collect();
        dead.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        dead
    }

    fn forget(&mut self, now: Instant) {
        let is_due = |host: &Host| {
            let is_resting = matches!(host.state, State::Dead { until, .. } if until > now);
            host.open == 0 && !is_resting
        };
        self.hosts.retain(|_, host| !is_due(host));
        // Not one by one with each failure from now on.
        if self.hosts.len() > DEAD_HOSTS_MAX / 2 {
            self.hosts.retain(|_, host| host.open > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const PAUSE: Duration = Duration::from_secs(60);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn dead(memory: &mut HostMemory<SocketAddr>, now: Instant) {
        memory.admit(now, &address(25)).expect("it may be tried");
        memory.failed(now, &address(25), PAUSE, "refused");
        memory.left(now, &address(25));
    }

    #[test]
    fn a_dead_host_rests_and_gets_one_probe() {
        let mut memory = HostMemory::new(1);
        let start = Instant::START + PAUSE;
        dead(&mut memory, start);
        let due = start + PAUSE;
        assert_eq!(memory.admit(start, &address(25)), Err(due));
        assert_eq!(memory.admit(start, &address(26)), Ok(()), "another host");
        assert_eq!(memory.dead().len(), 1);
        assert_eq!(memory.dead()[0].why, "refused");
        assert_eq!(memory.admit(due, &address(25)), Ok(()), "the probe");
        assert_eq!(memory.admit(due, &address(25)), Err(due + LOOK_AGAIN));
        assert_eq!(memory.failures_with_next(&address(25)), 2);
        memory.failed(due, &address(25), PAUSE * 2, "refused again");
        memory.left(due, &address(25));
        assert_eq!(memory.admit(due, &address(25)), Err(due + PAUSE * 2));
        assert_eq!(memory.failures_with_next(&address(25)), 3);
    }

    #[test]
    fn a_host_that_is_back_starts_slowly() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START + PAUSE;
        dead(&mut memory, now);
        let now = now + PAUSE;
        memory.admit(now, &address(25)).expect("the probe");
        memory.answered(&address(25));
        assert_eq!(memory.failures_with_next(&address(25)), 1);
        for allowed in CONNECTIONS_AFTER_DEATH..RECOVERED {
            // The probe is one of them.
            let mut open = 1;
            while memory.admit(now, &address(25)).is_ok() {
                open += 1;
            }
            assert_eq!(open, allowed);
            for _ in 1..open {
                memory.left(now, &address(25));
            }
            memory.answered(&address(25));
        }
        for _ in 0..100 {
            assert_eq!(
                memory.admit(now, &address(25)),
                Ok(()),
                "as good as any other"
            );
        }
    }

    #[test]
    fn a_failure_beside_open_connections_is_a_limit() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START;
        for _ in 0..3 {
            memory.admit(now, &address(25)).expect("unknown");
        }
        memory.failed(now, &address(25), PAUSE, "421 too many");
        memory.left(now, &address(25));
        assert_eq!(memory.admit(now, &address(25)), Err(now + LOOK_AGAIN));
        memory.left(now, &address(25));
        assert_eq!(memory.admit(now, &address(25)), Ok(()));
    }

    #[test]
    fn a_release_lets_each_dead_host_be_probed_once() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START + PAUSE;
        dead(&mut memory, now);
        memory.release(now);
        assert_eq!(memory.admit(now, &address(25)), Ok(()));
        let later = now + Duration::from_secs(1);
        memory.failed(later, &address(25), PAUSE, "refused");
        memory.left(later, &address(25));
        assert_eq!(memory.admit(later, &address(25)), Err(later + PAUSE));
    }

    #[test]
    fn a_probe_that_is_called_off_leaves_the_next_one_to_find_out() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START;
        dead(&mut memory, now);
        let due = now + PAUSE;
        memory.admit(due, &address(25)).expect("the probe");
        memory.left(due, &address(25));
        assert_eq!(memory.admit(due, &address(25)), Ok(()));
    }

    #[test]
    fn no_policy_lets_a_host_rest_for_days() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START;
        memory.admit(now, &address(25)).expect("unknown");
        memory.failed(now, &address(25), PAUSE * 10_000, &"é".repeat(500));
        memory.left(now, &address(25));
        assert_eq!(memory.admit(now, &address(25)), Err(now + REST_MAX));
        assert!(memory.dead()[0].why.len() <= WHY_BYTES_MAX);
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = HostMemory::new(1);
        let now = Instant::START;
        let kept = SocketAddr::from(([192, 0, 2, 2], 25));
        memory.admit(now, &kept).expect("unknown");
        for number in 0..100_000u32 {
            let address = SocketAddr::from((number.to_be_bytes(), 25));
            memory.admit(now, &address).expect("unknown");
            memory.failed(now, &address, PAUSE, "");
            memory.left(now, &address);
            assert!(memory.hosts.len() <= DEAD_HOSTS_MAX + 1);
        }
        assert_eq!(memory.hosts[&kept].open, 1, "those in use are kept");
        // What never failed leaves nothing behind.
        let mut memory = HostMemory::new(1);
        memory.admit(now, &kept).expect("unknown");
        memory.answered(&kept);
        memory.left(now, &kept);
        assert!(memory.hosts.is_empty());
    }
}
