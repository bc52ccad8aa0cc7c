//! What a seed makes of a world of several machines: who is there, what they want, and
//! what goes wrong.

use std::time::Duration;

use crate::mailbox::Abilities;
use crate::random::Random;

pub(super) const MICROSECOND: u64 = 1000;
pub(super) const MILLISECOND: u64 = 1000 * MICROSECOND;
pub(super) const SECOND: u64 = 1000 * MILLISECOND;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 3600 * SECOND;

/// Sites of a world at most.
pub(super) const SITES_MAX: u64 = 2;

/// How a site gets its mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// It asks by ETRN, and the provider calls.
    Etrn,
    /// It calls by ATRN, and takes its mail over that connection.
    Atrn,
    /// It sends a wake-up message.
    WakeUp,
    /// It does nothing: its connection lets the mail go.
    OnConnect,
    /// It does nothing: the provider tries now and then, or makes it call.
    Provider,
}

/// What takes the mail in a site's house.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inside {
    Smtp,
    Lmtp,
    Maildir,
}

/// A site and its line.
#[derive(Clone, Debug)]
pub(super) struct SitePlan {
    pub(super) cores: u8,
    pub(super) way: Way,
    pub(super) inside: Inside,
    /// One way over the line.
    pub(super) latency: u64,
    /// Nanoseconds for an octet.
    pub(super) pace: u64,
    pub(super) idle: u64,
    /// Seconds, if the line is taken down then in any case.
    pub(super) at_most: Option<u64>,
    /// Seconds a day, if the line costs.
    pub(super) budget: Option<u64>,
    /// Messages and minutes for which it dials.
    pub(super) go_up: (u64, u64),
    /// Minutes between two times of the schedule.
    pub(super) every: u64,
    /// Held at the provider at most.
    pub(super) quota: u64,
    /// Mail is returned after a day.
    pub(super) short_retention: bool,
    /// Of dials, once in so many; 0: never.
    pub(super) dial_fails_in: u64,
    /// The line breaks so often in all.
    pub(super) line_breaks: u64,
    /// Its mailbox at the provider, if it has one.
    pub(super) mailbox: Option<MailboxPlan>,
}

/// A mailbox that a site collects.
#[derive(Clone, Debug)]
pub(super) struct MailboxPlan {
    pub(super) abilities: Abilities,
    /// All lie there from the beginning.
    pub(super) messages: usize,
    /// Seconds between two looks at it beside those of the schedule, if there are such.
    pub(super) every: Option<u64>,
}

/// A machine goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mishap {
    /// The process is killed: the page cache survives.
    Kill,
    PowerCut,
    /// A stop as by SIGTERM, and a start.
    Stop,
    Reload,
    DiskFails,
    DiskFull,
    /// By so many hours.
    ClockSet(i64),
    LinkUp,
    LinkDown,
    Collect,
    Release,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) sites: Vec<SitePlan>,
    /// Data cores of the provider, in each of its lives.
    pub(super) cores: Vec<u8>,
    /// Connections to one destination.
    pub(super) connections: u64,
    pub(super) messages: usize,
    pub(super) clients: usize,
    /// Clients come within this time.
    pub(super) rush: u64,
    pub(super) octets_max: usize,
    pub(super) segment_bytes: u32,
    pub(super) sync_nanos_max: u64,
    /// Misdeeds of final hosts, once in so many commands; 0: none.
    pub(super) misdeed_in: u64,
    /// They refuse for good, too.
    pub(super) refuses: bool,
    /// Clients go away early, one in so many; 0: none.
    pub(super) exit_in: u64,
    /// At which machine, when, what.
    pub(super) mishaps: Vec<(usize, u64, Mishap)>,
    /// Machines die after so many operations of a life.
    pub(super) deaths: Vec<(usize, u64, Mishap)>,
    /// Seconds.
    pub(super) retry_first: u64,
    pub(super) per_minute: u64,
}

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        let quiet = random.one_in(6);
        let sites: Vec<_> = (0..random.between(1, SITES_MAX))
            .map(|_| SitePlan::new(quiet, random))
            .collect();
        let bad_peers = !quiet && random.one_in(2);
        let messages = random.pick(&[3, 3, 6, 6, 12]);
        let messages = random.length(1, messages);
        let rush = random.pick(&[0, SECOND, MINUTE, 30 * MINUTE]);
        let mut plan = Self {
            cores: (0..8).map(|_| random.pick(&[1, 1, 2, 3])).collect(),
            sites,
            connections: random.pick(&[1, 1, 2, 5]),
            messages,
            clients: random.length(1, messages.min(5)),
            rush,
            octets_max: random.pick(&[500, 2000, 2000, 10_000, 40_000]),
            segment_bytes: random.pick(&[16 << 10, 16 << 10, 32 << 10, 64 << 10]),
            sync_nanos_max: random.pick(&[0, 50 * MICROSECOND, 5 * MILLISECOND, 200 * MILLISECOND]),
            misdeed_in: if bad_peers { random.between(5, 40) } else { 0 },
            refuses: random.one_in(2),
            exit_in: if bad_peers { random.between(2, 6) } else { 0 },
            mishaps: Vec::new(),
            deaths: Vec::new(),
            retry_first: random.pick(&[5, 60, 150]),
            per_minute: random.pick(&[1, 30, 30]),
        };
        if !random.one_in(3) {
            // As often as a reload takes another one.
            let cores = plan.cores[0];
            plan.cores.iter_mut().for_each(|one| *one = cores);
        }
        if !quiet {
            plan.go_wrong(random);
        }
        plan
    }

    fn go_wrong(&mut self, random: &mut Random) {
        let span = self.rush + 20 * MINUTE;
        let machines = self.sites.len() as u64 + 1;
        for _ in 0..random.below(5) {
            let machine = random.below(machines) as usize;
            let most = random.pick(&[30, 150, 600]);
            let how = random.pick(&[Mishap::Kill, Mishap::Kill, Mishap::PowerCut]);
            self.deaths.push((machine, random.below(most), how));
        }
        for _ in 0..random.below(6) {
            let machine = random.below(machines) as usize;
            let what = match random.below(12) {
                0 => Mishap::Stop,
                1 | 2 => Mishap::Reload,
                3 => Mishap::DiskFails,
                4 => Mishap::DiskFull,
                5 => Mishap::ClockSet(random.below(60) as i64 - 30),
                6 if machine > 0 => Mishap::LinkUp,
                7 if machine > 0 => Mishap::LinkDown,
                8 if machine > 0 => Mishap::Collect,
                6..=9 => Mishap::Release,
                10 => Mishap::Kill,
                _ => Mishap::PowerCut,
            };
            let when = SECOND + random.below(span);
            self.mishaps.push((machine, when, what));
        }
    }

    /// Whether anything may end otherwise than delivered.
    pub(super) fn may_fail(&self) -> bool {
        let clock_set =
            |(_, _, mishap): &(usize, u64, Mishap)| matches!(mishap, Mishap::ClockSet(_));
        self.misdeed_in > 0 && self.refuses
            || self.mishaps.iter().any(clock_set)
            || self.sites.iter().any(|site| site.short_retention)
    }

    /// One message goes after the other.
    pub(super) fn is_ordered(&self) -> bool {
        self.is_quiet()
            && self.connections == 1
            && self.cores.iter().all(|cores| *cores == 1)
            && self.sites.iter().all(|site| site.cores == 1)
    }

    /// Nothing goes wrong at all.
    pub(super) fn is_quiet(&self) -> bool {
        self.misdeed_in == 0
            && self.exit_in == 0
            && self.mishaps.is_empty()
            && self.deaths.is_empty()
            && self.sites.iter().all(|site| {
                site.dial_fails_in == 0
                    && site.line_breaks == 0
                    && site.at_most.is_none()
                    && site.budget.is_none()
            })
    }
}

impl SitePlan {
    fn new(quiet: bool, random: &mut Random) -> Self {
        let trouble = |random: &mut Random, most| if quiet { 0 } else { random.below(most) };
        Self {
            cores: random.pick(&[1, 1, 2]),
            way: random.pick(&[
                Way::Etrn,
                Way::Etrn,
                Way::Atrn,
                Way::Atrn,
                Way::WakeUp,
                Way::OnConnect,
                Way::Provider,
            ]),
            inside: random.pick(&[Inside::Smtp, Inside::Lmtp, Inside::Maildir]),
            latency: random.pick(&[MILLISECOND, 50 * MILLISECOND, 300 * MILLISECOND]),
            pace: random.pick(&[0, 10 * MICROSECOND, 250 * MICROSECOND]),
            idle: random.pick(&[2, 5, 20]),
            at_most: (!quiet && random.one_in(4)).then(|| random.pick(&[30, 120, 600])),
            budget: (!quiet && random.one_in(4)).then(|| random.pick(&[60, 300, 1800])),
            go_up: (random.between(1, 4), random.between(1, 10)),
            every: random.pick(&[5, 15, 60]),
            quota: random.pick(&[1, 3, 100_000, 100_000]),
            short_retention: random.one_in(8),
            dial_fails_in: trouble(random, 4),
            line_breaks: trouble(random, 4),
            mailbox: random.one_in(3).then(|| MailboxPlan {
                abilities: Abilities {
                    capa: !random.one_in(4),
                    uidl: !random.one_in(4),
                    pipelining: random.one_in(2),
                },
                messages: random.length(1, 4),
                every: random.one_in(2).then(|| random.pick(&[300, 3600])),
            }),
        }
    }

    /// How long a side waits over the line for the other in the worst case.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle)
    }
}
