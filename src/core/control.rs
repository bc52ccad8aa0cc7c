//! The control core as a machine: what is not on the path of a message.
//!
//! It answers the data cores (hosts of a next hop, prepared segments), gathers
//! their parts of an answer to the operator, and leads a reload and a stop.
//!
//! Invariants:
//!
//! - A next hop is being resolved at most once, however many cores ask, and not all at
//!   once (`resolving`).
//! - Every admin request gets exactly one answer: when the last core has
//!   answered, or at its deadline with what is there.
//! - After [`ControlOperation::Exit`] nothing follows.
//!
//! What it does not do: it never sees a message, and no message waits for it but
//! one whose next hop must be looked up.

mod collecting;
mod operation;
mod questions;
mod reload;
mod resolving;
mod stop;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::questions::Stage;
use self::reload::{Load, Reloads};
use self::resolving::Resolving;
use crate::core::admin::{Command, LogDetail, Reason, Response, Text};
use crate::core::bans::{self, Client, Guessers};
use crate::core::callahead::{self, CallAhead, KnownAddress};
use crate::core::collector::{Collector, Run};
use crate::core::collectors::Collectors;
use crate::core::computing::{Asker, Computing, Next, Worked};
use crate::core::copies::Pruning;
use crate::core::online::Online;
use crate::core::recipients::Watch;
use crate::core::release::Desk;
use crate::core::turns::{Tell, Turns};
use crate::core::{AdminRequestId, ControlNotice, CoreId, Notice};
use crate::mail::QueueId;
use crate::queue::Ledger;
use crate::report::Fact;
use crate::route::Customers;
use crate::time::{Instant, Now};

pub use operation::{ControlCompletion, ControlOperation, Found, LookNumber, Reconfigured};

/// How long the operator waits for a data core's part of an answer. A core that
/// is healthy answers within a millisecond; one that hangs must not hang the
/// operator's terminal too.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);

/// How often the free space of the spool's file system is looked at. At a gigabyte
/// a second, `free_min` must hold more than this much mail.
const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// How long sessions and deliveries may take to finish after a request to stop.
/// Below the 90 seconds after which systemd kills.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How long hanging up may take at a stop: what does not end is killed meanwhile. What does
/// not answer by then is left, and the operator was told.
const HANG_UP_PATIENCE: Duration = crate::link::controller::HANG_UP_PATIENCE;
/// After that systemd kills, which is told 90 seconds as a rule.
const STOP_MAX: Duration = Duration::from_secs(90);
const _: () = assert!(
    STOP_PATIENCE.as_secs() + STOP_GRACE.as_secs() + HANG_UP_PATIENCE.as_secs()
        < STOP_MAX.as_secs()
);

/// How long data cores have to cut off what is late and to say so.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A question that is under way.
struct Question {
    waiting_for: usize,
    parts: Vec<Response>,
    command: Command,
    stage: Stage,
    /// Of messages that match and are to be changed: where those behind them begin.
    next: Option<Text<QueueId>>,
    deadline: Instant,
}

/// How far a stop is.
enum Stop {
    No,
    Waiting {
        finished: Vec<CoreId>,
        deadline: Instant,
    },
    /// Mail is dealt with; what we opened is to be hung up.
    HangingUp {
        clean: bool,
        deadline: Instant,
    },
    Exited,
}

/// The machine.
pub struct ControlCore {
    data_cores: u8,
    resolving: Resolving,
    questions: HashMap<AdminRequestId, Question>,
    turns: Turns,
    reloads: Reloads,
    desk: Desk,
    measure_at: Instant,
    disk_free_octets: Option<u64>,
    online: Online,
    computing: Computing,
    guessers: Guessers,
    collectors: Collectors,
    recipients: Watch,
    pruning: Pruning,
    call_ahead: CallAhead,
    /// What the log tells more of.
    detail: LogDetail,
    stop: Stop,
    operations: VecDeque<ControlOperation>,
}

impl ControlCore {
    /// A control core for so many data cores. `seed` spreads what would come at once.
    #[must_use]
    pub fn new(
        now: Now,
        data_cores: u8,
        customers: Arc<Customers>,
        seed: u64,
        online: Online,
    ) -> Self {
        let mut desk = Desk::new(data_cores, seed);
        let mut recipients = Watch::default();
        recipients.configure(now.instant, &customers);
        desk.set_customers(now, customers);
        Self {
            data_cores,
            resolving: Resolving::default(),
            questions: HashMap::new(),
            turns: Turns::new(data_cores),
            reloads: Reloads::default(),
            desk,
            measure_at: Instant::START,
            disk_free_octets: None,
            online,
            computing: Computing::default(),
            guessers: Guessers::default(),
            collectors: Collectors::new(data_cores),
            recipients,
            pruning: Pruning::default(),
            call_ahead: CallAhead::default(),
            detail: LogDetail::default(),
            stop: Stop::No,
            operations: VecDeque::new(),
        }
    }

    /// Where it is counted what waits for each customer.
    pub fn count_by(&mut self, now: Now, ledger: Arc<Ledger>) {
        self.desk.count_by(now, ledger);
    }

    /// These collectors run, from the start on.
    pub fn collect(&mut self, now: Now, collectors: &[Arc<Collector>]) {
        self.collectors.configure(now, collectors);
        self.pruning
            .configure(now.instant, collectors.iter().map(AsRef::as_ref));
    }

    /// What sites have said of recipients to an earlier process.
    pub fn remember(&mut self, now: Now, known: Vec<KnownAddress>) {
        self.call_ahead.restore(now, known);
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Now, completion: ControlCompletion) {
        match completion {
            ControlCompletion::Link { link, event } => self.online.event(now, link, event),
            ControlCompletion::Notice(notice) => {
                if let Some(notice) = self.turns.notice(now.instant, notice) {
                    self.notice(now, notice);
                }
            }
            ControlCompletion::Computed { asker, worked } => {
                self.answer_asker(asker, worked);
                let next = self.computing.done();
                self.compute(next);
            }
            ControlCompletion::Resolved {
                next_hop,
                answer,
                valid_for,
            } => {
                self.call_ahead.resolved(now, &next_hop, &answer);
                let valid_until = now.instant + valid_for;
                for core in self.resolving.resolved(&next_hop) {
                    let (next_hop, answer) = (next_hop.clone(), answer.clone());
                    self.tell(
                        core,
                        Notice::Resolved {
                            next_hop,
                            answer,
                            valid_until,
                        },
                    );
                }
                self.resolve();
            }
            ControlCompletion::SegmentPrepared {
                core,
                segment,
                result,
            } => {
                let notice = match result {
                    Ok(()) => Notice::SegmentReady { segment },
                    Err(why) => Notice::SegmentFailed { segment, why },
                };
                self.tell(core, notice);
                // It took its room.
                self.operations.push_back(ControlOperation::MeasureDisk);
            }
            ControlCompletion::SegmentRetired {
                core,
                segment,
                gone,
            } => {
                self.tell(core, Notice::SegmentGone { segment, gone });
            }
            ControlCompletion::Woken { customer, result } => {
                self.desk
                    .woken(now, &customer, result, &mut self.operations);
            }
            ControlCompletion::Trouble { what } => {
                self.operations
                    .push_back(ControlOperation::Report(Fact::Trouble { what }));
            }
            ControlCompletion::MaildirWritten {
                core,
                connection,
                written,
            } => {
                let notice = Notice::MaildirWritten {
                    connection,
                    written,
                };
                self.tell(core, notice);
            }
            ControlCompletion::RecipientsLookedAt { look, found } => {
                self.recipients_looked_at(now, look, found);
            }
            ControlCompletion::RecipientsKept { trouble } => {
                self.call_ahead.kept(now);
                let facts = trouble.into_iter().map(|what| Fact::Trouble { what });
                self.operations.extend(facts.map(ControlOperation::Report));
            }
            ControlCompletion::Pruned { facts } => {
                let reports = facts.into_iter().map(ControlOperation::Report);
                self.operations.extend(reports);
            }
            ControlCompletion::DiskSpace { free_bytes } => {
                self.disk_free_octets = Some(free_bytes);
                self.tell_all(&Notice::DiskSpace { free_bytes });
            }
            ControlCompletion::CollectingPrepared { run, result } => {
                self.collectors.prepared(now, run, result);
            }
            ControlCompletion::CommandRan { run, result } => {
                let run = match result {
                    Ok(()) => Run::begun(run),
                    Err(why) => Run::failed(run, why),
                };
                self.collectors.over(now, &run);
            }
            ControlCompletion::Configuration(loaded) => self.configured(now, loaded),
            ControlCompletion::Admin { request, command } => self.ask(now, request, command),
            ControlCompletion::StopRequested => self.begin_stop(now),
            ControlCompletion::ReloadRequested => self.reload(None),
            ControlCompletion::Timer => {}
        }
        self.look_at_the_clock(now);
        self.call_sites();
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<ControlOperation> {
        self.operations.pop_front()
    }

    /// When to hand in [`ControlCompletion::Timer`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let stop = match &self.stop {
            Stop::Waiting { deadline, .. } => Some(*deadline + STOP_GRACE),
            Stop::HangingUp { deadline, .. } => Some(*deadline),
            Stop::No | Stop::Exited => None,
        };
        let questions = self.questions.values().map(|q| q.deadline);
        let desk = self.desk.deadline();
        let others = stop.into_iter().chain(desk).chain(Some(self.measure_at));
        questions
            .chain(others)
            .chain(self.turns.deadline())
            .chain(self.computing.deadline())
            .chain(self.collectors.deadline())
            .chain(self.recipients.deadline())
            .chain(self.pruning.deadline())
            .chain(self.call_ahead.deadline())
            .chain(self.online.deadline())
            .min()
    }

    fn notice(&mut self, now: Now, notice: ControlNotice) {
        match notice {
            ControlNotice::Compute { asker, work } => {
                let next = self.computing.ask(now.instant, asker, work);
                self.compute(next);
            }
            ControlNotice::RecipientWanted {
                core,
                connection,
                customer,
                address,
            } => (self.call_ahead).ask(now, core, connection, customer, address),
            ControlNotice::SiteSaid { number, said } => {
                self.call_ahead.said(now, number, said);
            }
            // The last core that had them.
            ControlNotice::Replaced(settings) => {
                let last = Arc::into_inner(settings).map(Box::new);
                (self.operations).extend(last.map(ControlOperation::Free));
            }
            ControlNotice::LoginFailed { client } => self.login_failed(now, client),
            ControlNotice::Resolve { core, next_hop } => {
                self.resolving.want(core, next_hop);
                self.resolve();
            }
            ControlNotice::SegmentNeeded {
                core,
                header,
                spare,
            } => self.operations.push_back(ControlOperation::PrepareSegment {
                core,
                header,
                spare,
            }),
            ControlNotice::SegmentDead {
                core,
                segment,
                fate,
            } => {
                let operation = ControlOperation::RetireSegment {
                    core,
                    segment,
                    fate,
                };
                self.operations.push_back(operation);
            }
            ControlNotice::SegmentClosed { segment } => {
                self.operations
                    .push_back(ControlOperation::Summarise { segment });
            }
            ControlNotice::WriteMaildir {
                core,
                connection,
                mail,
            } => self.operations.push_back(ControlOperation::WriteMaildir {
                core,
                connection,
                mail,
            }),
            ControlNotice::Collected(run) => self.collectors.over(now, &run),
            ControlNotice::Visit(visit) => self.collectors.visited(&visit),
            ControlNotice::Outbound { core, number, work } => {
                self.online.outbound(now, core, number, work);
            }
            ControlNotice::AdminAnswer { request, response } => self.part(now, request, response),
            ControlNotice::TurnWanted { .. }
            | ControlNotice::Held { .. }
            | ControlNotice::TurnOver { .. } => unreachable!("they are for `turns`"),
            ControlNotice::Release { order, asker } => {
                self.desk.ask(now, *order, asker, &mut self.operations);
            }
            ControlNotice::ReleasePart {
                core,
                release,
                part,
            } => self
                .desk
                .part(now, core, release, part, &mut self.operations),
            ControlNotice::ReleaseEnded {
                core,
                customer,
                end,
                left,
            } => (self.desk).ended(now, core, customer, end, left, &mut self.operations),
            ControlNotice::Stopped { core } => {
                let Stop::Waiting { finished, .. } = &mut self.stop else {
                    return;
                };
                finished.push(core);
                if finished.len() == usize::from(self.data_cores) {
                    self.leave(now, true);
                }
            }
        }
    }

    /// Files of recipients were looked at.
    fn recipients_looked_at(&mut self, now: Now, look: LookNumber, found: Found) {
        let Some(found) = self.recipients.looked(now.instant, look, found) else {
            return;
        };
        let facts = found.facts.into_iter().map(ControlOperation::Report);
        self.operations.extend(facts);
        if let Some(lists) = found.changed {
            self.tell_all(&Notice::Recipients(lists));
        }
    }

    /// Does what call-ahead wants.
    fn call_sites(&mut self) {
        while let Some(output) = self.call_ahead.poll() {
            match output {
                callahead::Output::Answer {
                    core,
                    connection,
                    existence,
                } => self.tell(
                    core,
                    Notice::RecipientAnswer {
                        connection,
                        existence,
                    },
                ),
                callahead::Output::Resolve { next_hop } => {
                    self.resolving.want_here(next_hop);
                    self.resolve();
                }
                callahead::Output::Ask { core, ask } => {
                    self.tell(core, Notice::Ask(Box::new(ask)));
                }
                callahead::Output::Keep(known) => {
                    let operation = ControlOperation::KeepRecipients { known };
                    self.operations.push_back(operation);
                }
                callahead::Output::Report(fact) => {
                    self.operations.push_back(ControlOperation::Report(fact));
                }
            }
        }
    }

    fn compute(&mut self, next: Option<Next>) {
        match next {
            Some(Next::Begin(asker, work)) => {
                let operation = ControlOperation::Compute { asker, work };
                self.operations.push_back(operation);
            }
            Some(Next::Refuse(asker)) => self.answer_asker(asker, Worked::NotNow),
            None => {}
        }
    }

    fn answer_asker(&mut self, asker: Asker, worked: Worked) {
        let Asker { core, connection } = asker;
        self.tell(core, Notice::Computed { connection, worked });
    }

    fn login_failed(&mut self, now: Now, client: Client) {
        if let Some(until) = self.guessers.failed(now.instant, client) {
            self.tell_all(&Notice::Banned { client, until });
            let fact = Fact::LoginsBanned {
                client: client.address(),
                duration: bans::BAN,
            };
            self.operations.push_back(ControlOperation::Report(fact));
        }
    }

    /// A configuration was read, or could not be.
    fn configured(&mut self, now: Now, loaded: Result<Reconfigured, String>) {
        let (response, fact) = match loaded {
            Ok(Reconfigured {
                settings,
                needs_restart,
                detail,
            }) => {
                self.set_detail(detail);
                self.collect(now, &settings.collectors);
                self.recipients.configure(now.instant, &settings.customers);
                self.desk
                    .set_customers(now, Arc::clone(&settings.customers));
                self.tell_all(&Notice::Configured(settings));
                (Response::Done, Fact::Configured { needs_restart })
            }
            Err(errors) => (
                Response::refused(Reason::Configuration, errors.clone()),
                Fact::ConfigurationRefused { errors },
            ),
        };
        let (askers, load) = self.reloads.over();
        for request in askers {
            let response = response.clone();
            self.operations
                .push_back(ControlOperation::Answer { request, response });
        }
        self.operations.push_back(ControlOperation::Report(fact));
        if load == Load::Now {
            self.operations
                .push_back(ControlOperation::LoadConfiguration);
        }
    }

    /// The operator or a signal wants a reload.
    fn reload(&mut self, asker: Option<AdminRequestId>) {
        if self.reloads.want(asker) == Load::Now {
            self.operations
                .push_back(ControlOperation::LoadConfiguration);
        }
    }

    fn look_at_the_clock(&mut self, now: Now) {
        self.desk.timer(now, &mut self.operations);
        self.call_ahead.timer(now);
        if let Some(look) = self.recipients.timer(now.instant) {
            let operation = ControlOperation::LookAtRecipients { look };
            self.operations.push_back(operation);
        }
        if let Some(all) = self.pruning.timer(now.instant) {
            self.operations.push_back(ControlOperation::Prune { all });
        }
        if now.instant >= self.measure_at {
            self.measure_at = now.instant + DISK_INTERVAL;
            self.operations.push_back(ControlOperation::MeasureDisk);
        }
        let late: Vec<_> = self
            .questions
            .iter()
            .filter(|(_, q)| q.deadline <= now.instant)
            .map(|(&r, _)| r)
            .collect();
        for request in late {
            self.answer(now, request);
        }
        self.turns.timer(now.instant);
        for tell in self.turns.take() {
            match tell {
                Tell::All(notice) => self.tell_all(&notice),
                Tell::Core(core, notice) => self.tell(core, notice),
            }
        }
        while let Some(late) = self.computing.late(now.instant) {
            self.compute(Some(late));
        }
        if let Stop::Waiting { deadline, .. } = self.stop
            && now.instant >= deadline + STOP_GRACE
        {
            self.leave(now, false);
        }
        self.online.timer(now);
        self.collect_over_links(now);
        self.operations
            .extend(std::iter::from_fn(|| self.online.poll()));
        if let Stop::HangingUp { clean, deadline } = self.stop
            && (!self.online.owes_hang_up() || now.instant >= deadline)
        {
            self.exit(now, clean && !self.online.owes_hang_up());
        }
    }

    /// Has looked up what may be.
    fn resolve(&mut self) {
        while let Some(next_hop) = self.resolving.next() {
            let operation = ControlOperation::Resolve { next_hop };
            self.operations.push_back(operation);
        }
    }

    fn tell(&mut self, core: CoreId, notice: Notice) {
        self.operations
            .push_back(ControlOperation::Tell { core, notice });
    }

    fn tell_all(&mut self, notice: &Notice) {
        for core in 0..self.data_cores {
            self.tell(CoreId(core), notice.clone());
        }
    }
}
