//! How the server starts and ends.
//!
//! 1. Addresses are bound, so that one that is taken stops the start with a clear line;
//!    or the service manager has bound them. Then the server becomes the user that it
//!    is to run as (`rights`): what comes now comes with this user's rights, so that a
//!    reload can do it again.
//! 2. The spool directory is locked; whoever comes second is told so. The server gives
//!    up what it does not need.
//! 3. All logs are read, each on a thread of its own, and what they hold is filed, for
//!    each data core on a thread of its own ([`super::recall`]). Nothing is served before
//!    the queue is whole.
//! 4. The control core starts on this thread: signals, the admin socket, the web page.
//! 5. Data cores start on their threads, and only then the sockets listen: who can
//!    connect may expect everything else to work.
//!
//! The process ends when the control core says so. Threads are not joined: a ring
//! must not be dropped with operations under way, and everything that was promised is
//! on stable storage by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use spool_format::{LogId, SegmentPlace, SpoolUuid};

use crate::config::{self, Config, ListenWhen};
use crate::core::callahead::KnownAddress;
use crate::core::control::{ControlCore, Reconfigured};
use crate::core::data::{DataCore, Parts};
use crate::core::online::Online;
use crate::core::restart::{self, Enqueued};
use crate::core::settings::Settings;
use crate::core::{CoreId, Door};
use crate::queue::notification::allowance::Allowance;
use crate::queue::{self, CoreNumber, Hosts, Ledger, Permits, Schedule, Sessions};
use crate::report::Fact;
use crate::route::TlsPolicy;
use crate::runtime::certificates;
use crate::runtime::clock::Clock;
use crate::runtime::control::{self, Exit};
use crate::runtime::data;
use crate::runtime::dns::{Dns, Fallback};
use crate::runtime::hosts::HostBook;
use crate::runtime::link::{Drivers, memory};
use crate::runtime::log::{report, report_control};
use crate::runtime::mailboxes::Mailboxes;
use crate::runtime::net;
use crate::runtime::ports;
use crate::runtime::recall::{self, side_by_side};
use crate::runtime::recipients::Shelf;
use crate::runtime::reload::Loaded;
use crate::runtime::remembered::Keeper;
use crate::runtime::rights::{self, Footprint};
use crate::runtime::service_manager;
use crate::runtime::settings;
use crate::runtime::spool_directory::{self, Directories};
use crate::runtime::storeroom::Storeroom;
use crate::runtime::threads::{self, Placement};
use crate::runtime::web;
use crate::spool::log::{Identity, Settings as LogSettings};
use crate::spool::recovery::Restarted;
use crate::spool::segment::FileKind;
use crate::time::Now;

/// Why the server does not start, for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServeError(pub String);

/// Reads the configuration again.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Everything that is there before the first thread starts.
struct Ground {
    config: Config,
    settings: Arc<Settings>,
    clock: Clock,
    mailboxes: Arc<Mailboxes>,
    storeroom: Arc<Storeroom>,
    logs: Vec<LogId>,
    spool: SpoolUuid,
    sessions: Arc<Sessions>,
    allowance: Arc<Allowance>,
    hosts: Arc<Hosts>,
    permits: Arc<Permits>,
    ledger: Arc<Ledger>,
    recipients: Arc<Shelf>,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// Why it does not start.
pub fn serve(config: Config, reload: Reload) -> Result<Exit, ServeError> {
    let clock = Clock::new();
    raise_descriptors();
    let listeners = ports::bind(&config).map_err(ServeError)?;
    rights::leave_root(&config).map_err(ServeError)?;
    let ledger = Arc::new(Ledger::default());
    let recipients = Arc::new(Shelf::default());
    let settings = settings_of(&config, &ledger, &recipients, clock).map_err(ServeError)?;
    let settings = Arc::new(settings);
    let data_cores = config.cores.data;
    let (spool, logs, directories) = spool_directory::open(&config.spool.directory, data_cores)?;
    let rights = rights::confine(&config).map_err(ServeError)?;
    let began = clock.now();
    let storeroom = Arc::new(Storeroom::new(directories.clone()));
    let restarted = read_logs(spool, &directories)?;
    remove_spares(&restarted, &directories, LogId(data_cores));
    let mailboxes = Mailboxes::new(usize::from(data_cores)).map_err(|error| {
        ServeError(format!(
            "making the mailboxes of the threads failed: {error}"
        ))
    })?;
    let limits = &config.limits;
    let connections = u16::try_from(config.delivery.connections_max).unwrap_or(u16::MAX);
    let ground = Ground {
        sessions: Arc::new(Sessions::new(
            limits.sessions_max,
            limits.sessions_per_client_max,
            random(),
        )),
        allowance: Arc::new(Allowance::new(random())),
        hosts: Arc::new(Hosts::new(random())),
        permits: Arc::new(Permits::new(connections, random())),
        ledger,
        recipients,
        settings,
        clock,
        mailboxes: Arc::new(mailboxes),
        storeroom,
        logs,
        spool,
        config,
    };
    let cores: Vec<_> = (0..data_cores).map(CoreId).zip(listeners).collect();
    let (started, starts) = std::sync::mpsc::channel();
    let waiting = side_by_side("file", cores, |(core, own)| {
        ground.data_core(&restarted, core, own, began, started.clone())
    })
    .map_err(ServeError)?;
    let waiting = waiting.into_iter().collect::<Result<Vec<_>, _>>()?;
    drop(started);
    recall::free(restarted);
    let pin = ground.config.cores.pin;
    let fact = Fact::Started {
        listeners: ground
            .config
            .listeners
            .iter()
            .map(|listener| listener.address)
            .collect(),
        data_cores: usize::from(data_cores),
        spool: ground.config.spool.directory.display().to_string(),
        rights: rights.to_string(),
    };
    let open = Box::new(move || {
        start_data_cores(waiting, pin, &starts)?;
        report_control(&fact);
        service_manager::tell(&fact);
        Ok(())
    });
    ground.control(reload, open)
}

/// Opens the doors: the sockets take connections from now on, each data core on its
/// own thread.
fn start_data_cores(
    waiting: Vec<data::Start>,
    pin: bool,
    starts: &Receiver<Result<(), String>>,
) -> Result<(), String> {
    let cpus = threads::cpus();
    let data_cores = waiting.len();
    for start in waiting {
        let core = start.id;
        let doors = start.listeners.iter().zip(&start.open);
        for (listener, _) in doors.filter(|(_, door)| **door == Door::Open) {
            net::listen(listener).map_err(|error| format!("listening failed: {error}"))?;
        }
        let placement = if pin && cpus.len() > 1 {
            Placement::Pinned(cpus[usize::from(core.0) % cpus.len()])
        } else {
            Placement::Anywhere
        };
        let failed = start.started.clone();
        threads::spawn(core, placement, start, data::run, move |why| {
            // The receiver is gone when the server has ended anyway.
            let _ = failed.send(Err(why));
        })
        .map_err(|error| format!("starting data core {} failed: {error}", core.0))?;
    }
    for _ in 0..data_cores {
        // Each thread says one thing, or goes down with its sender.
        starts
            .recv()
            .unwrap_or_else(|_| Err("a data core ended before it had started".to_owned()))?;
    }
    Ok(())
}

/// What is done when everything else is there.
type Open = Box<dyn FnOnce() -> Result<(), String>>;

impl Ground {
    /// What a data core's thread is started with.
    fn data_core(
        &self,
        restarted: &Restarted,
        core: CoreId,
        listeners: Vec<std::net::TcpListener>,
        began: Now,
        started: std::sync::mpsc::Sender<Result<(), String>>,
    ) -> Result<data::Start, ServeError> {
        let own = LogId(core.0);
        let owned: Vec<LogId> = self
            .logs
            .iter()
            .copied()
            .filter(|log| log.0 % self.config.cores.data == core.0)
            .collect();
        let now = self.clock.now();
        let identity = Identity {
            spool: self.spool,
            log: own,
        };
        let share = u64::from(self.config.cores.data);
        let log_settings = LogSettings {
            segment_bytes: u32::try_from(self.config.spool.segment_bytes)
                .map_err(|_| ServeError("spool.segment_size is too large".to_owned()))?,
            size_max: self.config.spool.bytes_max.unwrap_or(u64::MAX) / share,
            free_min: self.config.spool.free_bytes_min,
        };
        let free_bytes = self.storeroom.free_bytes().map_err(ServeError)?;
        let mut log = restarted.log(identity, log_settings, &owned, random(), free_bytes);
        let queue_settings = queue::Settings {
            core: CoreNumber(core.0),
            policies: self.settings.policies.clone(),
            idle: self.settings.idle,
            seed: random(),
        };
        let data_cores = self.config.cores.data;
        restart::adopt_notes(now, &mut log, restarted, &owned, core, data_cores);
        let mut queue = Schedule::new(queue_settings, Arc::clone(&self.permits), now);
        let Enqueued {
            messages,
            detours,
            strayed,
            unstopped,
            broken,
        } = restart::enqueue(now, &mut queue, &self.settings, restarted, &owned);
        if strayed > 0 {
            let what = format!(
                "{strayed} messages were sent another way by `turnspool queue requeue`, and this \
                 version cannot read where to: they go by the routes"
            );
            report(core, &Fact::Trouble { what });
        }
        // Each core finds the same.
        for name in unstopped.iter().filter(|_| core == CoreId(0)) {
            let what = format!("nothing leads to the queue {name} any more, which was held");
            report(core, &Fact::Trouble { what });
        }
        let mut segments = Vec::new();
        for facts in restarted.segments(&owned) {
            match self.storeroom.open(facts.place) {
                Ok(segment) => segments.push(segment),
                Err(what) => report(
                    core,
                    &Fact::SpoolDamaged {
                        log: facts.place.log,
                        what,
                    },
                ),
            }
        }
        let count = segments.len();
        report(
            core,
            &Fact::Recovered {
                log: own,
                messages,
                segments: count,
                took: self.clock.now().instant.since(began.instant),
            },
        );
        let parts = Parts {
            id: core,
            settings: Arc::clone(&self.settings),
            sessions: Arc::clone(&self.sessions),
            allowance: Arc::clone(&self.allowance),
            hosts: Arc::clone(&self.hosts),
            log,
            queue,
            detours,
            broken,
            seed: random(),
            secret: secret(),
        };
        Ok(data::Start {
            id: core,
            core: DataCore::new(parts),
            storeroom: Arc::clone(&self.storeroom),
            segments,
            listeners,
            open: self
                .config
                .listeners
                .iter()
                .map(|listener| match listener.when {
                    ListenWhen::Always => Door::Open,
                    ListenWhen::LinkUp | ListenWhen::Schedule => Door::Closed,
                })
                .collect(),
            silence: self.config.limits.silence,
            mailboxes: Arc::clone(&self.mailboxes),
            clock: self.clock,
            started,
        })
    }

    /// Runs the control core on this thread.
    fn control(self, reload: Reload, open: Open) -> Result<Exit, ServeError> {
        let dns = &self.config.dns;
        let fallback = if dns.fallback_to_system {
            Fallback::System
        } else {
            Fallback::None
        };
        let servers = dns.servers.clone();
        let old = self.config.clone();
        let kept = Footprint::of(&old);
        let clock = self.clock;
        let sessions = Arc::clone(&self.sessions);
        let permits = Arc::clone(&self.permits);
        let ledger = Arc::clone(&self.ledger);
        let recipients = Arc::clone(&self.recipients);
        let in_force = Mutex::new(Arc::clone(&self.settings));
        let load = Arc::new(move || {
            let new = reload()?;
            let mut needs_restart = settings::needs_restart(&old, &new);
            if old.process.sandbox && !kept.covers(&Footprint::of(&new)) {
                needs_restart.push("what it writes to and runs (process.sandbox)".to_owned());
            }
            let mut new = new;
            // What takes a restart stays as it is.
            new.cores = old.cores;
            new.listeners.clone_from(&old.listeners);
            new.links.clone_from(&old.links);
            new.schedule.clone_from(&old.schedule);
            // The listeners that stay may need it.
            new.tls = new.tls.or_else(|| old.tls.clone());
            let book = host_book(&new)?;
            let mut settings = settings_of(&new, &ledger, &recipients, clock)?;
            let mut in_force = in_force.lock().unwrap_or_else(PoisonError::into_inner);
            settings.share_routes(&in_force);
            let settings = Arc::new(settings);
            *in_force = Arc::clone(&settings);
            sessions.set_limits(new.limits.sessions_max, new.limits.sessions_per_client_max);
            let connections = u16::try_from(new.delivery.connections_max).unwrap_or(u16::MAX);
            // Whoever waits looks again when it is given the new settings.
            let _ = permits.set_limit_total(connections);
            Ok(Loaded {
                book,
                reconfigured: Reconfigured {
                    settings,
                    needs_restart,
                    detail: settings::log_detail(new.log.detail),
                },
            })
        });
        let link_memory = memory::path(&self.config.spool.directory);
        let moment = memory::Moment::now();
        let memories = memory::read(&link_memory, moment.as_ref()).unwrap_or_else(|error| {
            let what = format!(
                "reading {} failed ({error}); budgets begin anew, and the file is replaced",
                link_memory.display()
            );
            report_control(&Fact::Trouble { what });
            BTreeMap::new()
        });
        let remembered = Arc::new(Keeper::new(&self.config.spool.directory));
        let known = remembered.read().unwrap_or_else(|what| {
            report_control(&Fact::Trouble { what });
            Vec::new()
        });
        let zone = TimeZone::system();
        let setup = settings::online(&self.config, memories, zone);
        let online = Online::new(setup, self.config.cores.data, self.clock.now());
        let book = host_book(&self.config).map_err(ServeError)?;
        let start = |dns| control::Start {
            core: control_core(
                &self.settings,
                self.clock.now(),
                online,
                known,
                self.ledger,
                self.config.log.detail,
            ),
            drivers: Drivers::new(&self.config.links),
            link_memory,
            remembered,
            mailboxes: self.mailboxes,
            clock: self.clock,
            storeroom: self.storeroom,
            recipients: self.recipients,
            book,
            seed: random(),
            dns,
            admin_socket: Some(self.config.admin.socket.clone()),
            web: self.config.admin.web.clone().map(|web| web::Setup {
                web,
                hostname: self.config.hostname.to_string(),
            }),
            load,
            open,
        };
        tokio_uring::start(async move {
            let dns = Dns::new(&servers, fallback).map_err(ServeError)?;
            control::run(start(dns)).await.map_err(ServeError)
        })
    }
}

/// With the mailboxes that it sees to, and what sites have said of recipients.
fn control_core(
    settings: &Settings,
    now: Now,
    online: Online,
    known: Vec<KnownAddress>,
    ledger: Arc<Ledger>,
    detail: config::LogDetail,
) -> ControlCore {
    let customers = Arc::clone(&settings.customers);
    let mut core = ControlCore::new(now, settings.data_cores, customers, random(), online);
    core.count_by(now, ledger);
    core.collect(now, &settings.collectors);
    core.remember(now, known);
    core.set_detail(settings::log_detail(detail));
    core
}

/// What the data cores need, with the certificates and the lists of recipients; says
/// which certificates end soon.
fn settings_of(
    config: &Config,
    ledger: &Ledger,
    recipients: &Shelf,
    clock: Clock,
) -> Result<Settings, String> {
    let mut settings = settings::settings(config, ledger)?;
    let (tls, facts) = certificates::load(config, clock.now().wall)?;
    settings.tls = tls;
    facts.iter().for_each(report_control);
    // Last: the files that are looked at are those of a configuration that is in force.
    let (recipients, facts) = recipients.load(config)?;
    settings.recipients = recipients;
    facts.iter().for_each(report_control);
    Ok(settings)
}

/// What the lookups need to know of the configuration.
///
/// # Errors
/// For the operator: a password cannot be read.
pub fn host_book(config: &Config) -> Result<HostBook, String> {
    Ok(HostBook {
        // Two that contradict one another were refused with the settings.
        customers: Arc::new(settings::customers(config).unwrap_or_default()),
        ourselves: config.hostname.clone(),
        listeners: (config.listeners.iter())
            .map(|listener| listener.address)
            .collect(),
        smarthosts: settings::smarthosts(config)?,
        mx_port: config.delivery.mx_port,
        mx_tls: TlsPolicy::Opportunistic,
    })
}

/// Reads all logs, and tells what is wrong with them.
fn read_logs(spool: SpoolUuid, directories: &Directories) -> Result<Restarted, ServeError> {
    let (restarted, unread) = recall::recall(spool, directories).map_err(ServeError)?;
    for (log, error) in unread.errors {
        let what = format!("{error}; the start goes on without it");
        report_control(&Fact::SpoolDamaged { log, what });
    }
    for facts in restarted.reports() {
        let what = facts.to_string();
        report_control(&Fact::SpoolDamaged {
            log: facts.place.log,
            what,
        });
    }
    if let Some(facts) = restarted.refusal() {
        return Err(ServeError(format!(
            "{facts}; the server does not start, so that nothing is lost"
        )));
    }
    set_aside(&restarted, directories, &unread.segments);
    for broken in &restarted.recovered.broken {
        let what = restarted.told_of_broken(broken);
        report_control(&Fact::SpoolDamaged {
            log: broken.message.seal.log,
            what,
        });
    }
    Ok(restarted)
}

/// Gives the files of which nothing can be used another name, so that they are told of
/// once; the operator may look at them, and has to do nothing. One that the disk did not
/// give stays: it may give it another time.
fn set_aside(restarted: &Restarted, directories: &Directories, unread: &BTreeSet<SegmentPlace>) {
    for facts in &restarted.recovered.segments {
        let place = facts.place;
        let Some(directory) = directories.get(&place.log) else {
            continue;
        };
        if facts.verdict.fate != spool_format::Fate::Aside || unread.contains(&place) {
            continue;
        }
        let what = match directory.set_aside(place.segment) {
            Ok(()) => {
                let name = directory.path_of(place.segment, FileKind::Damaged);
                format!("{place} is set aside as {}", name.display())
            }
            Err(error) => format!("setting {place} aside: {error}; tried at the next start"),
        };
        let log = place.log;
        report_control(&Fact::SpoolDamaged { log, what });
    }
}

/// Removes the files that were to be used again by data cores which are no more: nobody
/// fills them or counts them, and they would take room beyond `spool.size_max` for ever.
fn remove_spares(restarted: &Restarted, directories: &Directories, from: LogId) {
    for place in restarted.spares_from(from) {
        let log = place.log;
        let directory = directories.get(&log).expect("it was listed there");
        if let Err(error) = directory.remove_spare(place.segment) {
            let what = format!("{error}; it takes room for nothing until the next start");
            report_control(&Fact::SpoolDamaged { log, what });
        }
    }
}

/// Asks for as many descriptors as we may have. The usual soft limit of 1024 is for
/// programs that use `select`; a spool of 64 GiB has as many segments, and each is open.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is not allowed the old limit holds, and what it makes fail is told then.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Random octets of the system, for what outsiders try to guess.
fn secret() -> [u8; 32] {
    let mut octets = [0; 32];
    for part in octets.chunks_exact_mut(8) {
        part.copy_from_slice(&random().to_ne_bytes());
    }
    octets
}

/// Random bits of the system, for seeds that outsiders must not guess.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Before the system's pool is ready: the clock's lowest bits and our number.
        _ => {
            let nanos = std::time::SystemTime::now()
                .duration_since(std::time::SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.subsec_nanos());
            u64::from(nanos) << 32 | u64::from(std::process::id())
        }
    }
}
