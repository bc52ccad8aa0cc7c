//! Everything that the control core does to the world, and everything that happens to it.

use std::sync::Arc;
use std::time::Duration;

use spool_format::{SegmentHeader, SegmentId, SegmentPlace};

use crate::core::admin::{Command, LogDetail, Response};
use crate::core::callahead::KnownAddress;
use crate::core::collector::{Collector, Prepared, RunId};
use crate::core::computing::{Asker, Work, Worked};
use crate::core::copies::Prune;
use crate::core::data::Settings;
use crate::core::online::{LinkEvent, LinkOperation};
pub use crate::core::recipients::{Found, LookNumber};
use crate::core::{AdminRequestId, ControlNotice, CoreId, Host, Notice, Unresolved, maildir};
use crate::link::LinkId;
use crate::link::outing::Memory;
use crate::queue;
use crate::report::Fact;
use crate::route::{CustomerName, NextHop};
use crate::spool::log::Gone;
use crate::spool::log::Unprepared;
use crate::spool::reclaim::Fate;

/// What the control core does to the world.
#[derive(Debug)]
pub enum ControlOperation {
    /// Send a notice to a data core.
    Tell {
        /// To which.
        core: CoreId,
        /// What.
        notice: Notice,
    },
    /// Find the hosts of a next hop, in the DNS or by its configuration.
    Resolve {
        /// Of what.
        next_hop: NextHop,
    },
    /// Prepare a segment's file.
    PrepareSegment {
        /// Whose log.
        core: CoreId,
        /// What it begins with.
        header: SegmentHeader,
        /// A dead segment whose file may become this one.
        spare: Option<SegmentId>,
    },
    /// Do with the file of a dead segment as its fate says.
    RetireSegment {
        /// Who says so.
        core: CoreId,
        /// Which.
        segment: SegmentPlace,
        /// What.
        fate: Fate,
    },
    /// Write the summary of a full segment.
    Summarise {
        /// Which.
        segment: SegmentPlace,
    },
    /// Write a message into Maildirs.
    WriteMaildir {
        /// For whom.
        core: CoreId,
        /// The core's name for the matter.
        connection: queue::ConnectionId,
        /// What, and where to.
        mail: maildir::Mail,
    },
    /// Read the password of a collector, and look up its server.
    PrepareCollecting {
        /// To be answered with.
        run: RunId,
        /// Of what.
        collector: Arc<Collector>,
    },
    /// Run the program of a collector.
    RunCommand {
        /// To be answered with.
        run: RunId,
        /// Whose; told to the program in its environment.
        collector: Arc<Collector>,
    },
    /// Look which files of recipients have changed, and read those.
    LookAtRecipients {
        /// To answer with.
        look: LookNumber,
    },
    /// Remove what is too old from these directories of copies. What there is to tell
    /// comes as [`ControlCompletion::Pruned`].
    Prune {
        /// All that there are.
        all: Vec<Prune>,
    },
    /// Look how much room there is.
    MeasureDisk,
    /// Run the command that brings a customer's site on line.
    Wake {
        /// Whose; told to the command in its environment.
        customer: CustomerName,
        /// The program and its arguments. Never empty.
        command: Vec<String>,
    },
    /// Compute something on a helper thread.
    Compute {
        /// For whom.
        asker: Asker,
        /// What.
        work: Work,
    },
    /// Read the configuration again, on a helper thread. Not before the last time is over.
    LoadConfiguration,
    /// Nobody needs these any more: free them where nobody waits for it.
    Free(Box<Settings>),
    /// Answer the operator.
    Answer {
        /// Which question.
        request: AdminRequestId,
        /// How.
        response: Response,
    },
    /// Do something for a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        operation: LinkOperation,
    },
    /// Keep over a restart what is remembered of the links, by their names.
    KeepLinks {
        /// All of them.
        memories: Vec<(String, Memory)>,
    },
    /// Keep over a restart what sites have said of recipients, all of it. That it is done
    /// comes as [`ControlCompletion::RecipientsKept`].
    KeepRecipients {
        /// In the order of the addresses.
        known: Vec<KnownAddress>,
    },
    /// The same before anything else is done, for the process ends; no completion comes.
    KeepRecipientsNow {
        /// In the order of the addresses.
        known: Vec<KnownAddress>,
    },
    /// Tell the operator.
    Report(Fact),
    /// The log is to tell more, or less, of these.
    Detail(LogDetail),
    /// End the process.
    Exit {
        /// All data cores had finished.
        clean: bool,
    },
}

/// What happens to the control core.
#[derive(Debug)]
pub enum ControlCompletion {
    /// A data core said something.
    Notice(ControlNotice),
    /// The outcome of [`ControlOperation::Resolve`].
    Resolved {
        /// Of what.
        next_hop: NextHop,
        /// In the order in which they are to be tried.
        answer: Result<Vec<Host>, Unresolved>,
        /// How long the answer may be used.
        valid_for: Duration,
    },
    /// The outcome of [`ControlOperation::PrepareSegment`].
    SegmentPrepared {
        /// Whose log.
        core: CoreId,
        /// Its number.
        segment: SegmentId,
        /// Why it did not work.
        result: Result<(), Unprepared>,
    },
    /// The outcome of [`ControlOperation::RetireSegment`].
    SegmentRetired {
        /// Who said so.
        core: CoreId,
        /// Which.
        segment: SegmentPlace,
        /// What it is now.
        gone: Gone,
    },
    /// The outcome of [`ControlOperation::Wake`].
    Woken {
        /// Whose.
        customer: CustomerName,
        /// Why it did not work.
        result: Result<(), String>,
    },
    /// Something of a background job went wrong; it is not repeated.
    Trouble {
        /// What was being done, what went wrong, what happens next.
        what: String,
    },
    /// The outcome of [`ControlOperation::WriteMaildir`].
    MaildirWritten {
        /// Who asked.
        core: CoreId,
        /// As it was asked.
        connection: queue::ConnectionId,
        /// For each mailbox; an error is a sentence for the operator.
        written: Vec<Result<(), String>>,
    },
    /// The outcome of [`ControlOperation::LookAtRecipients`].
    RecipientsLookedAt {
        /// Which.
        look: LookNumber,
        /// What was found.
        found: Found,
    },
    /// The outcome of [`ControlOperation::KeepRecipients`].
    RecipientsKept {
        /// What went wrong, and what happens next.
        trouble: Option<String>,
    },
    /// The outcome of [`ControlOperation::Prune`].
    Pruned {
        /// For the operator.
        facts: Vec<Fact>,
    },
    /// The outcome of [`ControlOperation::MeasureDisk`].
    DiskSpace {
        /// Octets that an unprivileged process may still use.
        free_bytes: u64,
    },
    /// The outcome of [`ControlOperation::Compute`].
    Computed {
        /// For whom.
        asker: Asker,
        /// What came out; [`Worked::NotNow`] if the thread broke off.
        worked: Worked,
    },
    /// The outcome of [`ControlOperation::PrepareCollecting`].
    CollectingPrepared {
        /// Of which run.
        run: RunId,
        /// What it needs.
        result: Result<Prepared, String>,
    },
    /// The outcome of [`ControlOperation::RunCommand`].
    CommandRan {
        /// Of which run.
        run: RunId,
        /// Why it did not work.
        result: Result<(), String>,
    },
    /// The outcome of [`ControlOperation::LoadConfiguration`].
    Configuration(Result<Reconfigured, String>),
    /// The operator asks.
    Admin {
        /// To answer with.
        request: AdminRequestId,
        /// What.
        command: Command,
    },
    /// Something happened to a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        event: LinkEvent,
    },
    /// SIGTERM or SIGINT.
    StopRequested,
    /// SIGHUP.
    ReloadRequested,
    /// The deadline has come.
    Timer,
}

/// A new configuration.
#[derive(Debug)]
pub struct Reconfigured {
    /// For each data core.
    pub settings: Arc<Settings>,
    /// Keys whose change takes a restart.
    pub needs_restart: Vec<String>,
    /// What the log is to tell more of; a command that said otherwise no longer counts.
    pub detail: LogDetail,
}
