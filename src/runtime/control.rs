//! The shell of the control core: tokio-uring, and with it everything that lives
//! on tokio: DNS, signals, the admin socket, children.
//!
//! One thread. Tasks wait, then hand a completion to the [`ControlCore`] and perform
//! what it asks for. Work on files that may take long runs on tokio's helper
//! threads, so that a slow disk holds up no answer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_uring::fs::File;

use crate::core::admin::{Command, Reason, Response};
use crate::core::computing::Worked;
use crate::core::control::{ControlCompletion, ControlCore, ControlOperation};
use crate::core::{AdminRequestId, CoreId, Notice};
use crate::queue::retry::Jitter;
use crate::report::Fact;
use crate::runtime::admin;
use crate::runtime::clock::{Armed, Clock};
use crate::runtime::collecting;
use crate::runtime::copies;
use crate::runtime::dns::Dns;
use crate::runtime::events;
use crate::runtime::hosts::{HostBook, hosts, timed_out};
use crate::runtime::link::{Drivers, memory};
use crate::runtime::log::{self, report_control};
use crate::runtime::mailboxes::Mailboxes;
use crate::runtime::maildir;
use crate::runtime::recall;
use crate::runtime::recipients::Shelf;
use crate::runtime::reload::{self, Load, Loaded};
use crate::runtime::remembered::Keeper;
use crate::runtime::service_manager;
use crate::runtime::storeroom::Storeroom;
use crate::runtime::wake;
use crate::runtime::web;

/// How long notices wait for a data core that is far behind.
const NOTICE_PAUSE: Duration = Duration::from_millis(1);

/// Longest time for one next hop's lookups together. A lookup that hangs holds up
/// only its own destination, and not for ever.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the control core is started with.
pub struct Start {
    /// The machine.
    pub core: ControlCore,
    /// Everybody's.
    pub mailboxes: Arc<Mailboxes>,
    /// The process's.
    pub clock: Clock,
    /// Segment files.
    pub storeroom: Arc<Storeroom>,
    /// Files of recipients, as they were read for the start.
    pub recipients: Arc<Shelf>,
    /// What is configured about hosts.
    pub book: HostBook,
    /// Secret, and new at each start.
    pub seed: u64,
    /// DNS.
    pub dns: Dns,
    /// What dials and hangs up.
    pub drivers: Drivers,
    /// Where it is kept what is remembered of the links.
    pub link_memory: PathBuf,
    /// The same of what sites have said of recipients.
    pub remembered: Arc<Keeper>,
    /// Where the operator's commands come in.
    pub admin_socket: Option<PathBuf>,
    /// The web page, if there is one.
    pub web: Option<web::Setup>,
    /// For SIGHUP.
    pub load: Load,
    /// Called when signals and the admin socket are there: opens the doors.
    pub open: Box<dyn FnOnce() -> Result<(), String>>,
}

struct Shell {
    core: ControlCore,
    clock: Clock,
    mailboxes: Arc<Mailboxes>,
    storeroom: Arc<Storeroom>,
    recipients: Arc<Shelf>,
    dns: Rc<Dns>,
    book: Rc<HostBook>,
    random: Jitter,
    drivers: Rc<Drivers>,
    link_memory: PathBuf,
    remembered: Arc<Keeper>,
    /// How often something was to be kept there.
    last_kept: u64,
    load: Load,
    /// Who waits for the answer to which question.
    askers: HashMap<AdminRequestId, oneshot::Sender<Response>>,
    last_request: u64,
    undelivered: VecDeque<(CoreId, Notice)>,
    /// A task sleeps until they are tried again.
    delivers_later: bool,
    /// The deadlines for which tasks sleep.
    armed: Armed,
    exit: Option<oneshot::Sender<Exit>>,
}

/// How the control core ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Everything was finished.
    Clean,
    /// Sessions or deliveries were still open.
    CutOff,
}

/// A handle on the shell, for its tasks.
#[derive(Clone)]
pub struct Control(Rc<RefCell<Shell>>);

/// Runs the control core until it exits.
///
/// # Errors
/// Signals or the mailbox could not be set up, or a data core did not start.
pub async fn run(start: Start) -> Result<Exit, String> {
    let Start {
        core,
        mailboxes,
        clock,
        storeroom,
        recipients,
        book,
        seed,
        dns,
        drivers,
        link_memory,
        remembered,
        admin_socket,
        web,
        load,
        open,
    } = start;
    let (exit, exited) = oneshot::channel();
    let drivers = Rc::new(drivers);
    let bell = std::fs::File::from(
        mailboxes
            .control()
            .bell()
            .as_fd()
            .try_clone_to_owned()
            .map_err(setting_up)?,
    );
    let bell = tokio_uring::fs::File::from_std(bell);
    let control = Control(Rc::new(RefCell::new(Shell {
        core,
        clock,
        mailboxes,
        storeroom,
        recipients,
        book: Rc::new(book),
        random: Jitter::new(seed),
        dns: Rc::new(dns),
        drivers: Rc::clone(&drivers),
        link_memory,
        remembered,
        last_kept: 0,
        load,
        askers: HashMap::new(),
        last_request: 0,
        undelivered: VecDeque::new(),
        delivers_later: false,
        armed: Armed::default(),
        exit: Some(exit),
    })));
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        control
            .on_signal(kind, || ControlCompletion::StopRequested)
            .map_err(setting_up)?;
    }
    control
        .on_signal(SignalKind::hangup(), || ControlCompletion::ReloadRequested)
        .map_err(setting_up)?;
    tokio::task::spawn_local(read_notices(control.clone(), bell));
    if let Some(listener) = admin_socket.as_deref().and_then(admin::bind) {
        tokio::task::spawn_local(admin::listen(control.clone(), listener));
    }
    open()?;
    if let Some(web) = web {
        web::start(&control, clock, web);
    }
    drivers.watch(&control);
    control.turn(ControlCompletion::Timer);
    service_manager::watch(&control);
    // The sender lives in the shell until the core says Exit.
    Ok(exited.await.unwrap_or(Exit::CutOff))
}

fn setting_up(error: std::io::Error) -> String {
    format!("setting up signals and mailboxes failed: {error}")
}

impl Control {
    /// Puts a question of the operator; the answer always comes.
    pub async fn ask(&self, command: Command) -> Response {
        let (sender, receiver) = oneshot::channel();
        let request = {
            let mut shell = self.0.borrow_mut();
            shell.last_request += 1;
            let request = AdminRequestId(shell.last_request);
            shell.askers.insert(request, sender);
            request
        };
        self.turn(ControlCompletion::Admin { request, command });
        match receiver.await {
            Ok(Response::Status(mut status)) => {
                status.live.events = events::recent();
                Response::Status(status)
            }
            Ok(answer) => answer,
            // The process is ending.
            Err(_) => Response::refused(Reason::Later, "the server is stopping"),
        }
    }

    /// One turn: hands in what happened, performs what follows from it.
    pub fn turn(&self, completion: ControlCompletion) {
        let mut completions = VecDeque::from([completion]);
        while let Some(completion) = completions.pop_front() {
            let operations: Vec<_> = {
                let mut shell = self.0.borrow_mut();
                let now = shell.clock.now();
                shell.core.handle(now, completion);
                std::iter::from_fn(|| shell.core.poll()).collect()
            };
            for operation in operations {
                completions.extend(self.perform(operation));
            }
        }
        self.deliver();
        self.arm();
    }

    /// Begins an operation; gives its completion if it completes at once.
    fn perform(&self, operation: ControlOperation) -> Option<ControlCompletion> {
        match operation {
            ControlOperation::Tell { core, notice } => {
                self.0.borrow_mut().undelivered.push_back((core, notice));
            }
            ControlOperation::Resolve { next_hop } => {
                let control = self.clone();
                let (dns, book, seed) = {
                    let mut shell = self.0.borrow_mut();
                    (
                        Rc::clone(&shell.dns),
                        Rc::clone(&shell.book),
                        shell.random.next_u64(),
                    )
                };
                tokio::task::spawn_local(async move {
                    let found = hosts(&dns, &book, &next_hop, seed);
                    let (answer, valid_for) = tokio::time::timeout(RESOLVE_TIMEOUT, found)
                        .await
                        .unwrap_or_else(|_| timed_out(&next_hop));
                    control.turn(ControlCompletion::Resolved {
                        next_hop,
                        answer,
                        valid_for,
                    });
                });
            }
            ControlOperation::PrepareSegment {
                core,
                header,
                spare,
            } => {
                let storeroom = Arc::clone(&self.0.borrow().storeroom);
                let segment = header.place.segment;
                self.in_background(
                    move || storeroom.prepare(&header, spare),
                    move |result| {
                        vec![ControlCompletion::SegmentPrepared {
                            core,
                            segment,
                            result,
                        }]
                    },
                );
            }
            ControlOperation::RetireSegment {
                core,
                segment,
                fate,
            } => {
                let storeroom = Arc::clone(&self.0.borrow().storeroom);
                self.in_background(
                    move || storeroom.retire(segment, fate),
                    move |retired| {
                        vec![match retired {
                            Ok(gone) => ControlCompletion::SegmentRetired {
                                core,
                                segment,
                                gone,
                            },
                            Err(what) => ControlCompletion::Trouble { what },
                        }]
                    },
                );
            }
            ControlOperation::Summarise { segment } => {
                let storeroom = Arc::clone(&self.0.borrow().storeroom);
                self.in_background(
                    move || storeroom.summarise(segment),
                    |result| {
                        let trouble = result.err().map(|what| ControlCompletion::Trouble { what });
                        trouble.into_iter().collect()
                    },
                );
            }
            ControlOperation::WriteMaildir {
                core,
                connection,
                mail,
            } => {
                let storeroom = Arc::clone(&self.0.borrow().storeroom);
                let control = self.clone();
                tokio::task::spawn_local(async move {
                    let mailboxes = mail.files.len();
                    let write = move || maildir::write(&storeroom, &mail);
                    let written = tokio::task::spawn_blocking(write).await;
                    let broke_off = |error: tokio::task::JoinError| {
                        vec![Err(format!("writing into a Maildir broke off: {error}")); mailboxes]
                    };
                    control.turn(ControlCompletion::MaildirWritten {
                        core,
                        connection,
                        written: written.unwrap_or_else(broke_off),
                    });
                });
            }
            ControlOperation::Compute { asker, work } => {
                let control = self.clone();
                tokio::task::spawn_local(async move {
                    let worked = tokio::task::spawn_blocking(move || work.perform()).await;
                    // A thread that broke off has found out nothing.
                    let worked = worked.unwrap_or(Worked::NotNow);
                    control.turn(ControlCompletion::Computed { asker, worked });
                });
            }
            ControlOperation::PrepareCollecting { run, collector } => {
                let control = self.clone();
                let dns = Rc::clone(&self.0.borrow().dns);
                tokio::task::spawn_local(async move {
                    let prepared = collecting::prepare(&dns, &collector);
                    let result = tokio::time::timeout(RESOLVE_TIMEOUT, prepared)
                        .await
                        .unwrap_or_else(|_| {
                            let place = collector.means.place();
                            Err(format!("looking up {place} took too long"))
                        });
                    control.turn(ControlCompletion::CollectingPrepared { run, result });
                });
            }
            ControlOperation::RunCommand { run, collector } => {
                let control = self.clone();
                tokio::task::spawn_local(async move {
                    let result = collecting::run(&collector).await;
                    control.turn(ControlCompletion::CommandRan { run, result });
                });
            }
            ControlOperation::LookAtRecipients { look } => {
                let shelf = Arc::clone(&self.0.borrow().recipients);
                let control = self.clone();
                tokio::task::spawn_local(async move {
                    let looked = tokio::task::spawn_blocking(move || shelf.look()).await;
                    // A thread that broke off has found out nothing.
                    let found = looked.unwrap_or_default();
                    control.turn(ControlCompletion::RecipientsLookedAt { look, found });
                });
            }
            ControlOperation::Prune { all } => self.in_background(
                move || copies::prune(&all, SystemTime::now()),
                |facts| vec![ControlCompletion::Pruned { facts }],
            ),
            ControlOperation::MeasureDisk => {
                return match self.0.borrow().storeroom.free_bytes() {
                    Ok(free_bytes) => Some(ControlCompletion::DiskSpace { free_bytes }),
                    Err(what) => Some(ControlCompletion::Trouble { what }),
                };
            }
            ControlOperation::Wake { customer, command } => {
                let control = self.clone();
                tokio::task::spawn_local(async move {
                    let result = wake::run(&customer, &command).await;
                    control.turn(ControlCompletion::Woken { customer, result });
                });
            }
            ControlOperation::LoadConfiguration => {
                service_manager::reloading();
                let load = Arc::clone(&self.0.borrow().load);
                let control = self.clone();
                self.in_background(
                    move || reload::read(&load),
                    move |loaded| {
                        let loaded = loaded.map(|Loaded { reconfigured, book }| {
                            control.0.borrow_mut().book = Rc::new(book);
                            reconfigured
                        });
                        vec![ControlCompletion::Configuration(loaded)]
                    },
                );
            }
            ControlOperation::Free(settings) => recall::free(settings),
            ControlOperation::Answer { request, response } => {
                if let Some(asker) = self.0.borrow_mut().askers.remove(&request) {
                    // The operator may have gone meanwhile.
                    let _ = asker.send(response);
                }
            }
            ControlOperation::Link { link, operation } => {
                let drivers = Rc::clone(&self.0.borrow().drivers);
                drivers.perform(self, link, operation);
            }
            ControlOperation::KeepLinks { memories } => {
                // Small, rare, and in their order: a helper thread could mix them up.
                let moment = memory::Moment::now();
                let written = memory::write(&self.0.borrow().link_memory, memories, moment);
                if let Err(error) = written {
                    let what = format!(
                        "keeping what the links have cost failed ({error}); after a restart the \
                         budget may begin anew"
                    );
                    return Some(ControlCompletion::Trouble { what });
                }
            }
            ControlOperation::KeepRecipients { known } => {
                let (keeper, number) = self.keeping();
                self.in_background(
                    move || keeper.write(number, &known).err(),
                    |trouble| vec![ControlCompletion::RecipientsKept { trouble }],
                );
            }
            ControlOperation::KeepRecipientsNow { known } => {
                let (keeper, number) = self.keeping();
                if let Err(what) = keeper.write(number, &known) {
                    return Some(ControlCompletion::Trouble { what });
                }
            }
            ControlOperation::Report(fact) => {
                report_control(&fact);
                service_manager::tell(&fact);
            }
            ControlOperation::Detail(detail) => log::set_detail(detail),
            ControlOperation::Exit { clean } => {
                if let Some(exit) = self.0.borrow_mut().exit.take() {
                    let _ = exit.send(if clean { Exit::Clean } else { Exit::CutOff });
                }
            }
        }
        None
    }

    /// Who keeps what sites have said, and its number.
    fn keeping(&self) -> (Arc<Keeper>, u64) {
        let mut shell = self.0.borrow_mut();
        shell.last_kept += 1;
        (Arc::clone(&shell.remembered), shell.last_kept)
    }

    /// Runs `job` on a helper thread and hands in what `then` makes of its outcome.
    fn in_background<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(T) -> Vec<ControlCompletion> + 'static,
    ) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            let outcome = tokio::task::spawn_blocking(job).await;
            let completions = match outcome {
                Ok(outcome) => then(outcome),
                Err(error) => vec![ControlCompletion::Trouble {
                    what: format!("a background job of the spool broke off: {error}"),
                }],
            };
            for completion in completions {
                control.turn(completion);
            }
        });
    }

    fn on_signal(
        &self,
        kind: SignalKind,
        completion: impl Fn() -> ControlCompletion + 'static,
    ) -> std::io::Result<()> {
        let mut signals = signal(kind)?;
        let control = self.clone();
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() {
                control.turn(completion());
            }
        });
        Ok(())
    }

    /// Leaves notices with the data cores, to each in their order; what finds no room is
    /// tried again. A core that is far behind does not hold up the others.
    fn deliver(&self) {
        let mut shell = self.0.borrow_mut();
        let shell = &mut *shell;
        let mut behind: Vec<CoreId> = Vec::new();
        let mailboxes = &shell.mailboxes;
        let waiting = std::mem::take(&mut shell.undelivered);
        for (core, notice) in waiting {
            if behind.contains(&core) {
                shell.undelivered.push_back((core, notice));
            } else if let Err(notice) = mailboxes.notify(core, notice) {
                behind.push(core);
                shell.undelivered.push_back((core, notice));
            }
        }
        if !behind.is_empty() && !std::mem::replace(&mut shell.delivers_later, true) {
            let control = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(NOTICE_PAUSE).await;
                control.0.borrow_mut().delivers_later = false;
                control.deliver();
            });
        }
    }

    /// Lets a task sleep until the core's deadline, unless one does already.
    fn arm(&self) {
        let mut shell = self.0.borrow_mut();
        let Some(deadline) = shell.core.deadline() else {
            return;
        };
        if !shell.armed.arm(deadline) {
            return;
        }
        let pause = deadline.since(shell.clock.now().instant);
        let control = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            control.0.borrow_mut().armed.woken(deadline);
            control.turn(ControlCompletion::Timer);
        });
    }
}

/// Reads notices, for ever.
async fn read_notices(control: Control, bell: File) {
    let mailboxes = Arc::clone(&control.0.borrow().mailboxes);
    let mailbox = mailboxes.control();
    loop {
        while let Some(notice) = mailbox.pop() {
            control.turn(ControlCompletion::Notice(notice));
        }
        if !mailbox.may_sleep() {
            continue;
        }
        // Through the ring: a blocking read of the eventfd, answered when it is rung.
        // It is never dropped, so that no ring of the bell is lost.
        let (result, _) = bell.read_at(vec![0; 8], 0).await;
        if let Err(error) = result {
            let what = format!("waiting for notices failed ({error}); tried again");
            report_control(&Fact::Trouble { what });
            tokio::time::sleep(NOTICE_PAUSE).await;
        }
    }
}
