//! What the control core does for the data core of a world.

use turnspool::core::control::ControlCompletion;
use turnspool::core::{ControlNotice, CoreId, Endpoint, Host, Notice, Unresolved};
use turnspool::queue;
use turnspool::route::{NextHop, Protocol, TlsPolicy};
use turnspool::spool::log::Gone;
use turnspool::spool::reclaim::Fate;
use turnspool::time::Instant;

use super::{Event, HOUR, Job, MILLISECOND, SECOND, World, host_address};
use crate::customers;
use crate::ledger::Arrival;
use crate::mailboxes::NewMail;

impl World {
    pub(super) fn notify(&mut self, delay: u64, notice: Notice) {
        let life = self.life;
        let notice = Box::new(notice);
        let time = self.now + self.random.below(delay);
        self.at(time, Event::Notice { life, notice });
    }

    pub(super) fn tell_disk_space(&mut self) {
        let free_bytes = self.disk.free_bytes();
        self.notify(SECOND, Notice::DiskSpace { free_bytes });
    }

    pub(super) fn told(&mut self, notice: ControlNotice) {
        match notice {
            ControlNotice::Outbound { .. } | ControlNotice::Visit(_) => panic!("there is no link"),
            ControlNotice::RecipientWanted { .. } | ControlNotice::SiteSaid { .. } => {
                panic!("nobody is asked about recipients")
            }
            ControlNotice::Resolve { core, next_hop } => {
                assert_eq!(core, CoreId(0));
                let answer = self.resolve(&next_hop);
                let valid = self.random.pick(&[0, SECOND, HOUR]);
                let valid_until = Instant::from_nanos(self.now + valid);
                let delay = self.random.pick(&[0, MILLISECOND, 5 * SECOND]);
                self.notify(
                    delay,
                    Notice::Resolved {
                        next_hop,
                        answer,
                        valid_until,
                    },
                );
            }
            ControlNotice::SegmentNeeded { header, spare, .. } => {
                self.job(Job::Prepare { header, spare });
            }
            ControlNotice::SegmentDead { segment, fate, .. } => {
                self.job(Job::Retire { segment, fate });
            }
            ControlNotice::SegmentClosed { segment } => {
                if self.random.one_in(2) {
                    self.job(Job::Summarise { segment });
                }
            }
            ControlNotice::WriteMaildir {
                connection, mail, ..
            } => self.job(Job::WriteMaildir { connection, mail }),
            ControlNotice::AdminAnswer { response, .. } => self.answered(&response),
            notice @ (ControlNotice::Release { .. }
            | ControlNotice::ReleasePart { .. }
            | ControlNotice::ReleaseEnded { .. }) => {
                self.desk(ControlCompletion::Notice(notice));
            }
            ControlNotice::Compute { .. } | ControlNotice::LoginFailed { .. } => {
                panic!("nobody authenticates here")
            }
            ControlNotice::TurnWanted { .. }
            | ControlNotice::Held { .. }
            | ControlNotice::TurnOver { .. } => panic!("nobody calls here"),
            ControlNotice::Collected(_) => panic!("nobody is told to collect"),
            ControlNotice::Replaced(settings) => drop(settings),
            ControlNotice::Stopped { .. } => panic!("the shell says this, not the core"),
        }
    }

    /// The desk of releases takes what happened.
    pub(super) fn desk(&mut self, completion: ControlCompletion) {
        let now = self.clocks();
        let Some(control) = &mut self.control_core else {
            return;
        };
        for notice in customers::step(control, now, completion) {
            let delay = self.random.pick(&[0, MILLISECOND]);
            self.notify(delay, notice);
        }
    }

    pub(super) fn release(&mut self, customer: u64) {
        if self.core.is_some() && !self.stopping {
            self.note(|| format!("release of c{customer}"));
            self.desk(customers::release(customer));
        }
    }

    pub(super) fn job(&mut self, job: Job) {
        let life = self.life;
        let delay = self.random.pick(&[0, MILLISECOND, 100 * MILLISECOND]);
        let time = self.now + self.random.below(delay);
        self.at(time, Event::Control { life, job });
    }

    pub(super) fn control(&mut self, job: Job) {
        self.note(|| format!("control: {job:?}"));
        match job {
            Job::Prepare { header, spare } => {
                let segment = header.place.segment;
                let result = self.disk.prepare(&header, spare);
                if result.is_ok() && spare.is_some() {
                    self.summary.segments_reused += 1;
                }
                self.notify(
                    MILLISECOND,
                    match result {
                        Ok(()) => Notice::SegmentReady { segment },
                        Err(why) => Notice::SegmentFailed { segment, why },
                    },
                );
                self.tell_disk_space();
            }
            Job::Retire { segment, fate } => {
                let gone = match fate {
                    Fate::Reuse => self.disk.retire(segment.segment),
                    Fate::Remove => {
                        self.disk.remove(segment.segment);
                        Gone::Removed
                    }
                    Fate::SetAside => {
                        self.disk.set_aside(segment.segment);
                        Gone::Removed
                    }
                };
                self.notify(MILLISECOND, Notice::SegmentGone { segment, gone });
                self.tell_disk_space();
            }
            Job::Summarise { segment } => self.disk.summarise(segment.segment),
            Job::WriteMaildir { connection, mail } => {
                let fails_in = if self.calm { 0 } else { self.plan.misdeed_in };
                let random = &mut self.random;
                let (written, new) = self.mailboxes.write(&mail, &self.disk, random, fails_in);
                for NewMail { from, to, octets } in new {
                    // A name is written once: whatever is confirmed when, there is no
                    // second one.
                    let when = Arrival::at(self.now);
                    let receipt = self.ledger.deliver(when, &from, &to, &octets);
                    self.ledger.confirm(self.now, &receipt);
                }
                self.notify(
                    MILLISECOND,
                    Notice::MaildirWritten {
                        connection,
                        written,
                    },
                );
            }
        }
    }

    pub(super) fn resolve(&mut self, next_hop: &NextHop) -> Result<Vec<Host>, Unresolved> {
        let (NextHop::Mx(domain) | NextHop::Hold { domain, .. } | NextHop::Site { domain, .. }) =
            next_hop
        else {
            panic!("nothing leads to {next_hop}");
        };
        if !self.calm && self.plan.misdeed_in > 0 && self.random.one_in(10) {
            return Err(Unresolved::Later("the name server fails".to_owned()));
        }
        let number = match domain.as_str() {
            "sender.example" => self.plan.domains,
            other => other[1..]
                .split('.')
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a domain of ours"),
        };
        let addresses: Vec<_> = (0..2)
            .map(|host| host_address(number, host))
            .filter(|address| self.hosts.contains_key(address))
            .collect();
        let hosts = addresses.into_iter().map(|address| Host {
            name: format!("{}.{domain}", address.ip().is_ipv4()),
            addresses: vec![Endpoint::Tcp(address)],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::None.into(),
            preference: 0,
            login: None,
        });
        Ok(hosts.collect())
    }

    /// A new process counts what it holds for customers afresh.
    pub(super) fn policies_of_a_life(&mut self) -> queue::Policies {
        self.usage = turnspool::queue::Ledger::default();
        let customers = &self.settings.customers;
        customers::counted(&self.settings.policies, customers, &self.usage)
    }
}
