//! What may go wrong in a world: a flavour, and what a seed makes of it.

use std::time::Duration;

use turnspool::queue::{Policies, Policy, Retry};

use crate::random::Random;

/// What kind of trouble a world has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavour {
    /// None.
    Calm,
    /// Clients and next hops misbehave, the clock is set.
    Peers,
    /// And the program crashes, or power fails, or it is stopped and started.
    Crashes,
    /// And the disk fails.
    Disk,
    /// And the disk is full at times, or the spool may not grow.
    Full,
    /// All mail is held for customers, who ask for it now and then; sites are away, and
    /// the program crashes in the middle of drains.
    Held,
}

/// What a seed makes of a flavour.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) flavour: Flavour,
    pub(crate) messages: usize,
    pub(crate) clients: usize,
    /// Clients come within this time.
    pub(crate) rush: u64,
    pub(crate) segment_bytes: u32,
    pub(crate) octets_max: usize,
    /// Of the spool, in segments.
    pub(crate) size_max_segments: u64,
    pub(crate) domains: u64,
    /// Misdeeds of next hops, once in so many commands; 0 for none.
    pub(crate) misdeed_in: u64,
    /// Next hops refuse for good.
    pub(crate) refuses: bool,
    /// One client in so many goes away early; 0 for none.
    pub(crate) exit_in: u64,
    /// Crashes, at so many operations after a start.
    pub(crate) crashes: Vec<u64>,
    /// Graceful stops.
    pub(crate) stops: u32,
    /// The disk fails once.
    pub(crate) disk_fails: bool,
    /// The clock of the calendar is set, so many times.
    pub(crate) clock_sets: u32,
    pub(crate) sync_nanos_max: u64,
    pub(crate) policies: Policies,
    /// Releases of held mail before all is calm.
    pub(crate) releases: u32,
    /// So few that they are merged, and few senders who are told.
    pub(crate) notifications_per_minute: u32,
    /// So many different ones; 0: each message has its own.
    pub(crate) senders: usize,
    /// Mail for the first domain goes into Maildirs below this path.
    pub(crate) maildir: Option<&'static str>,
}

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

impl Plan {
    pub(crate) fn new(flavour: Flavour, random: &mut Random) -> Self {
        let bad_peers = flavour != Flavour::Calm && !random.one_in(4);
        let crashing = matches!(flavour, Flavour::Crashes) || {
            matches!(flavour, Flavour::Disk | Flavour::Full) && random.one_in(3)
                || flavour == Flavour::Held && random.one_in(2)
        };
        let segment_bytes = random.pick(&[16 << 10, 16 << 10, 32 << 10, 64 << 10]);
        let most = random.pick(&[4, 4, 8, 24]);
        let messages = random.length(1, most);
        let crashes = if crashing {
            let most = random.pick(&[40, 200, 1000]);
            (0..random.between(1, 4))
                .map(|_| random.below(most))
                .collect()
        } else {
            Vec::new()
        };
        let policy = Policy {
            retry: if random.one_in(4) {
                Retry::Fixed {
                    tries: if random.one_in(4) { 3 } else { 1000 },
                    every: Duration::from_secs(random.between(30, 600)),
                    give_up: Duration::from_secs(5 * 24 * 3600),
                }
            } else {
                Retry::Exponential {
                    first: Duration::from_secs(random.between(1, 600)),
                    factor: 2.0,
                    longest: Duration::from_secs(random.between(600, 7200)),
                    give_up: Duration::from_secs(5 * 24 * 3600),
                    jitter: 0.2,
                }
            },
            warn: random.one_in(2).then_some(Duration::from_secs(3600)),
            connections: random.between(1, 5) as u16,
            ..Policy::default()
        };
        let clients = random.length(1, messages.min(8));
        let rush = random.pick(&[0, 10 * MILLISECOND, SECOND, 600 * SECOND]);
        let octets_max = random.pick(&[500, 500, 2000, 2000, 10_000, 2 * segment_bytes as usize]);
        let size_max_segments = match flavour {
            Flavour::Full if random.one_in(2) => random.between(4, 10),
            _ => 1000,
        };
        let domains = random.between(1, 4);
        // Of what is drawn already, as below.
        let merging = (messages + octets_max).is_multiple_of(3);
        Self {
            flavour,
            messages,
            clients,
            rush,
            segment_bytes,
            octets_max,
            size_max_segments,
            domains,
            misdeed_in: if bad_peers { random.between(3, 30) } else { 0 },
            refuses: random.one_in(2),
            exit_in: if bad_peers { random.between(1, 6) } else { 0 },
            crashes,
            stops: if crashing || flavour == Flavour::Calm {
                random.below(3) as u32
            } else {
                0
            },
            disk_fails: flavour == Flavour::Disk,
            clock_sets: if flavour != Flavour::Calm && random.one_in(3) {
                random.between(1, 4) as u32
            } else {
                0
            },
            sync_nanos_max: random.pick(&[0, 50_000, 5 * MILLISECOND, 200 * MILLISECOND]),
            policies: Policies {
                default: policy.into(),
                ..Policies::default()
            },
            releases: if flavour == Flavour::Held {
                random.between(1, 40) as u32
            } else {
                0
            },
            notifications_per_minute: if merging { 1 } else { 30 },
            senders: if merging { 2 } else { 0 },
            // Of what is drawn already, so that a seed makes the rest of a world as before.
            maildir: match messages + octets_max + domains as usize {
                _ if flavour == Flavour::Held => None,
                n if n % 5 == 0 => Some("/mail/all"),
                n if n % 5 == 1 => Some("/mail/{domain}/{local}"),
                _ => None,
            },
        }
    }

    /// Whether anything may end otherwise than delivered.
    pub(crate) fn may_fail(&self) -> bool {
        self.misdeed_in > 0 && self.refuses
            || self.clock_sets > 0
            || matches!(self.policies.default.retry, Retry::Fixed { tries: 3, .. })
    }
}
