//! The shell of a control core: lookups, segment files, helper threads, the line.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use turnspool::core::admin::LogDetail;
use turnspool::core::collector::{Means, Prepared, Provider};
use turnspool::core::computing::{Work, Worked};
use turnspool::core::control::{ControlCompletion, ControlOperation, Found, Reconfigured};
use turnspool::core::online::{LinkEvent, LinkOperation};
use turnspool::core::{Endpoint, Host, NoHost, Unresolved};
use turnspool::link::LinkId;
use turnspool::link::controller::Presence;
use turnspool::pop3::Login;
use turnspool::route::customer::DeliverTo;
use turnspool::route::{self, HostName, NextHop, Protocol, SmarthostGroup, TlsPolicy};
use turnspool::runtime::{settings, users};
use turnspool::smtp::client::auth::Credentials;
use turnspool::spool::log::Gone;
use turnspool::spool::reclaim::Fate;

use super::configuration;
use super::inhabitants::outside_hosts;
use super::line;
use super::machine::Spool;
use super::plan::{MILLISECOND, MINUTE, SECOND};
use super::world::{Event, Letter, World};
use crate::ledger::Arrival;
use crate::mailboxes::NewMail;

impl World {
    /// Something happened to a control core.
    pub(super) fn control_turn(&mut self, number: usize, completion: ControlCompletion) {
        let mut completions = VecDeque::from([completion]);
        while let Some(completion) = completions.pop_front() {
            let machine = &mut self.machines[number];
            let now = machine.clocks(self.now);
            let Some(process) = &mut machine.process else {
                return;
            };
            let idle = matches!(
                completion,
                ControlCompletion::Timer
                    | ControlCompletion::DiskSpace { .. }
                    | ControlCompletion::RecipientsLookedAt { .. }
            );
            if !idle {
                process.busy_at = self.now;
            }
            process.control.handle(now, completion);
            let control = &mut process.control;
            let operations: Vec<_> = std::iter::from_fn(|| control.poll()).collect();
            for operation in operations {
                completions.extend(self.perform_control(number, operation));
            }
        }
        let process = self.machines[number].process.as_mut();
        let process = process.expect("it ends behind the turn");
        process.control_deadline = process.control.deadline();
    }

    /// Begins an operation; gives its completion if it completes at once.
    fn perform_control(
        &mut self,
        number: usize,
        operation: ControlOperation,
    ) -> Option<ControlCompletion> {
        match operation {
            ControlOperation::Tell { core, notice } => {
                let to = self.place(number, usize::from(core.0));
                self.post(to, Letter::Notice(Box::new(notice)));
            }
            ControlOperation::Resolve { next_hop } => {
                let answer = self.resolve(number, &next_hop);
                let valid_for = self.random.pick(&[0, 1, 3600]);
                let delay = self.random.pick(&[0, MILLISECOND, 5 * SECOND]);
                self.later(
                    number,
                    delay,
                    ControlCompletion::Resolved {
                        next_hop,
                        answer,
                        valid_for: Duration::from_secs(valid_for),
                    },
                );
            }
            job @ (ControlOperation::PrepareSegment { .. }
            | ControlOperation::RetireSegment { .. }
            | ControlOperation::Summarise { .. }
            | ControlOperation::WriteMaildir { .. }) => {
                let delay = self.random.pick(&[0, MILLISECOND, 100 * MILLISECOND]);
                let time = self.now + self.random.below(delay);
                let life = self.machines[number].life;
                let (machine, job) = (number, Box::new(job));
                self.at(time, Event::Job { machine, life, job });
            }
            ControlOperation::PrepareCollecting { run, collector } => {
                let result = match &collector.means {
                    Means::Provider(provider) => Ok(Prepared::Provider(provider_hosts(provider))),
                    Means::Mailbox(mailbox) => Ok(Prepared::Mailbox(
                        vec![configuration::mailbox(number - 1)],
                        Login::new(&mailbox.user, configuration::SECRET).expect("a login"),
                    )),
                    other => panic!("nothing is prepared for {other:?}"),
                };
                let prepared = ControlCompletion::CollectingPrepared { run, result };
                self.later(number, 10 * MILLISECOND, prepared);
            }
            // No collector keeps copies.
            ControlOperation::Prune { .. } => {
                let facts = Vec::new();
                return Some(ControlCompletion::Pruned { facts });
            }
            ControlOperation::RunCommand { .. } => panic!("there is no such collector"),
            ControlOperation::LookAtRecipients { look } => {
                let found = Found::default();
                return Some(ControlCompletion::RecipientsLookedAt { look, found });
            }
            ControlOperation::MeasureDisk => {
                let free_bytes = self.machines[number].free_bytes();
                return Some(ControlCompletion::DiskSpace { free_bytes });
            }
            ControlOperation::Wake { customer, .. } => panic!("{customer} has no command"),
            ControlOperation::Compute { asker, work } => {
                let worked = compute(&work);
                let completion = ControlCompletion::Computed { asker, worked };
                self.later(number, 50 * MILLISECOND, completion);
            }
            ControlOperation::LoadConfiguration => {
                self.summary.reloads += 1;
                let process = self.machines[number].process.as_ref().expect("it asks");
                let cores = process.settings.data_cores;
                let usage = Arc::clone(&process.usage);
                let config = self.configuration(number, cores);
                let settings = settings::settings(&config, &usage).expect("good settings");
                let settings = Arc::new(settings);
                let smarthosts = settings::smarthosts(&config).expect("good smarthosts");
                let process = self.machines[number].process.as_mut().expect("it asks");
                process.settings = Arc::clone(&settings);
                process.smarthosts = smarthosts;
                return Some(ControlCompletion::Configuration(Ok(Reconfigured {
                    settings,
                    needs_restart: Vec::new(),
                    detail: LogDetail::default(),
                })));
            }
            ControlOperation::Free(settings) => drop(settings),
            ControlOperation::Answer { response, .. } => self.answered(number, &response),
            ControlOperation::Link { link, operation } => {
                self.drive(number - 1, link, operation);
            }
            ControlOperation::KeepLinks { memories } => {
                self.machines[number].memories = memories.into_iter().collect();
                self.machines[number].kept_at = self.now;
            }
            // Nobody is asked about recipients.
            ControlOperation::KeepRecipients { known }
            | ControlOperation::KeepRecipientsNow { known } => panic!("{known:?}"),
            ControlOperation::Detail(detail) => panic!("nobody asks for detail: {detail:?}"),
            ControlOperation::Report(fact) => self.reported(number, &fact),
            ControlOperation::Exit { clean } => {
                let process = self.machines[number].process.as_mut().expect("it exits");
                process.exit = Some(clean);
            }
        }
        None
    }

    /// The control core hears of it within this time.
    fn later(&mut self, machine: usize, within: u64, completion: ControlCompletion) {
        let time = self.now + self.random.below(within);
        let life = self.machines[machine].life;
        let completion = Box::new(completion);
        self.at(
            time,
            Event::Control {
                machine,
                life,
                completion,
            },
        );
    }

    /// A helper thread does its job and tells.
    pub(super) fn job(&mut self, number: usize, job: ControlOperation) {
        if let Some(completion) = self.do_job(number, job) {
            self.later(number, MILLISECOND, completion);
        }
    }

    pub(super) fn do_job(
        &mut self,
        number: usize,
        job: ControlOperation,
    ) -> Option<ControlCompletion> {
        let disks = &mut self.machines[number].disks;
        Some(match job {
            ControlOperation::PrepareSegment {
                core,
                header,
                spare,
            } => {
                let disk = &mut disks[usize::from(header.place.log.0)];
                ControlCompletion::SegmentPrepared {
                    core,
                    segment: header.place.segment,
                    result: disk.prepare(&header, spare),
                }
            }
            ControlOperation::RetireSegment {
                core,
                segment,
                fate,
            } => {
                let disk = &mut disks[usize::from(segment.log.0)];
                let gone = match fate {
                    Fate::Reuse => disk.retire(segment.segment),
                    Fate::Remove => {
                        disk.remove(segment.segment);
                        Gone::Removed
                    }
                    Fate::SetAside => {
                        disk.set_aside(segment.segment);
                        Gone::Removed
                    }
                };
                ControlCompletion::SegmentRetired {
                    core,
                    segment,
                    gone,
                }
            }
            ControlOperation::Summarise { segment } => {
                disks[usize::from(segment.log.0)].summarise(segment.segment);
                return None;
            }
            ControlOperation::WriteMaildir {
                core,
                connection,
                mail,
            } => {
                let fails_in = if self.calm { 0 } else { self.plan.misdeed_in };
                let machine = &mut self.machines[number];
                let spool = Spool(&machine.disks);
                let (mailboxes, random) = (&mut machine.mailboxes, &mut self.random);
                let (written, new) = mailboxes.write(&mail, &spool, random, fails_in);
                for NewMail { from, to, octets } in new {
                    // A name is written once: whatever is confirmed when, there is no
                    // second one.
                    let when = Arrival::at(self.now);
                    let receipt = self.ledger.deliver(when, &from, &to, &octets);
                    self.ledger.confirm(self.now, &receipt);
                }
                ControlCompletion::MaildirWritten {
                    core,
                    connection,
                    written,
                }
            }
            other => panic!("no helper thread does {other:?}"),
        })
    }

    fn resolve(&mut self, number: usize, next_hop: &NextHop) -> Result<Vec<Host>, Unresolved> {
        if !self.calm && self.plan.misdeed_in > 0 && self.random.one_in(10) {
            return Err(Unresolved::Later("the name server fails".to_owned()));
        }
        let process = self.machines[number].process.as_ref().expect("it asks");
        match next_hop {
            NextHop::Smarthost(SmarthostGroup(group)) => {
                let group = &process.smarthosts[usize::from(*group)];
                let hosts = group.iter().map(|at| host(&at.host, at.login.clone()));
                Ok(hosts.collect())
            }
            NextHop::Host(at) => Ok(vec![host(at, None)]),
            NextHop::Mx(domain) => {
                let addresses = outside_hosts(domain.as_str());
                if addresses.is_empty() {
                    return Err(Unresolved::Never {
                        reason: NoHost::NoSuchDomain,
                        why: format!("{domain} does not exist"),
                    });
                }
                let hosts = addresses.into_iter().map(|address| Host {
                    name: format!("mx.{domain}"),
                    addresses: vec![Endpoint::Tcp(address)],
                    protocol: Protocol::Smtp,
                    tls: TlsPolicy::None.into(),
                    preference: 0,
                    login: None,
                });
                Ok(hosts.collect())
            }
            NextHop::Hold { customer, .. } | NextHop::Site { customer, .. } => {
                let customer = process.settings.customers.by_name(customer);
                match customer.map(|customer| &customer.deliver_to) {
                    Some(DeliverTo::Host(at)) => Ok(vec![host(at, None)]),
                    other => panic!("nothing leads to {other:?}"),
                }
            }
            NextHop::Discard | NextHop::Maildir(_) => panic!("{next_hop} has no host"),
        }
    }

    // --- the line ---------------------------------------------------------------

    /// A driver is told to do something.
    fn drive(&mut self, site: usize, link: LinkId, operation: LinkOperation) {
        assert_eq!(link, LinkId(0), "a site has one line");
        self.note(|| format!("line {site}: {operation:?}"));
        let state = self.lines[site].state;
        match operation {
            LinkOperation::Dial if state == line::State::Up => {
                // The program of an earlier life has left it open.
                let number = self.lines[site].number;
                let act = line::Act::Answer;
                self.at(self.now + SECOND, Event::Line { site, number, act });
            }
            LinkOperation::Dial => {
                self.lines[site].become_(line::State::Dialling);
                let most = self.random.pick(&[SECOND, 30 * SECOND]);
                let time = self.now + self.random.below(most);
                let number = self.lines[site].number;
                let act = line::Act::Answer;
                self.at(time, Event::Line { site, number, act });
            }
            LinkOperation::GiveUp => panic!("its line hangs up whenever it is told to"),
            LinkOperation::TakeOver => {
                // It may have broken, and nobody has heard of it yet.
                self.lines[site].opened_at = (state == line::State::Up).then_some(self.now);
                self.summary.lines_taken_over += 1;
            }
            LinkOperation::HangUp => {
                self.charge(site);
                self.lines[site].opened_at = None;
                let open = state == line::State::Up;
                self.lines[site].become_(line::State::HangingUp);
                let time = self.now
                    + if open {
                        self.random.below(3 * SECOND)
                    } else {
                        0
                    };
                let number = self.lines[site].number;
                let act = line::Act::HungUp;
                self.at(time, Event::Line { site, number, act });
            }
            LinkOperation::Measure => {
                let octets = self.lines[site].octets;
                self.charge(site);
                let event = LinkEvent::Metered(Some(octets));
                self.later(site + 1, 0, ControlCompletion::Link { link, event });
            }
        }
    }

    /// A program that begins looks whether the line is up.
    pub(super) fn tell_presence(&mut self, site: usize) {
        let presence = if self.lines[site].is_up() {
            Presence::Selected
        } else {
            Presence::None
        };
        let event = LinkEvent::Presence(presence);
        let link = LinkId(0);
        self.later(
            site + 1,
            MINUTE / 60,
            ControlCompletion::Link { link, event },
        );
    }
}

fn host(at: &route::Host, login: Option<Arc<Credentials>>) -> Host {
    let HostName::Address(ip) = at.host else {
        panic!("hosts of a world have addresses, and {} none", at.host);
    };
    Host {
        name: ip.to_string(),
        addresses: vec![Endpoint::Tcp((ip, at.port).into())],
        protocol: at.protocol,
        tls: TlsPolicy::None.into(),
        preference: 0,
        login,
    }
}

fn provider_hosts(provider: &Provider) -> Vec<Host> {
    let login = provider.login.as_ref().map(|(user, path)| {
        let login = turnspool::config::Login {
            user: user.to_string(),
            password_file: turnspool::config::secret::SecretFile::at(path.clone()),
        };
        let (user, password) = users::read(&login).expect("a good file");
        Arc::new(Credentials::Password { user, password })
    });
    let servers = provider.servers.iter();
    let hosts = servers.map(|(at, port)| {
        let HostName::Address(ip) = at else {
            panic!("the provider has an address");
        };
        Host {
            name: ip.to_string(),
            addresses: vec![Endpoint::Tcp((*ip, *port).into())],
            protocol: Protocol::Smtp,
            tls: TlsPolicy::None.into(),
            preference: 0,
            login: login.clone(),
        }
    });
    hosts.collect()
}

/// What a helper thread finds out. The same is computed for one world after the other, and
/// keys are meant to take long.
fn compute(work: &Work) -> Worked {
    static KNOWN: OnceLock<Mutex<HashMap<String, Worked>>> = OnceLock::new();
    let key = match work {
        Work::Verify { .. } => return work.perform(),
        // One password for all.
        Work::Keys { salt, .. } => format!("keys {salt:?}"),
        Work::Salted {
            salt, iterations, ..
        } => format!("salted {salt:?} {iterations}"),
    };
    let known = KNOWN.get_or_init(Mutex::default);
    let mut known = known.lock().expect("nobody fails here");
    known.entry(key).or_insert_with(|| work.perform()).clone()
}
