//! Facts to the operator, by `tracing`.
//!
//! One line a fact, with its name, its message's id if it is about one, and the core. To
//! standard error or a file as text or JSON, by [`LogLines`]; to the system's journal, by
//! [`Journal`], with the same fields.
//!
//! Rules:
//! - Facts of the level detail are written only where they belong to a component that was
//!   switched on; who makes them has looked at that.
//! - Nobody who carries mail writes to a file, a terminal or a socket: a thread does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat, LogTarget};
use crate::core::CoreId;
use crate::core::admin::LogDetail;
use crate::report::{Fact, Level};
use crate::runtime::events;
use crate::runtime::journal::Journal;
use crate::runtime::log_lines::LogLines;
use crate::runtime::log_text::{TARGET, TextLines};

/// Writes one line for a fact of a data core.
pub fn report(core: CoreId, fact: &Fact) {
    report_of(Some(core), fact);
}

/// Writes one line for a fact of the control core.
pub fn report_control(fact: &Fact) {
    report_of(None, fact);
}

/// Questions to the DNS are told. Asked where they are, beside the cores.
static DNS_DETAIL: AtomicBool = AtomicBool::new(false);

/// What the log is to tell more of.
pub fn set_detail(detail: LogDetail) {
    DNS_DETAIL.store(detail.dns, Ordering::Relaxed);
}

/// Whether questions to the DNS are told.
pub fn tells_of_dns() -> bool {
    DNS_DETAIL.load(Ordering::Relaxed)
}

fn report_of(core: Option<CoreId>, fact: &Fact) {
    events::keep(fact);
    // The level of a tracing event is a constant of the place that makes it.
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                fact = fact.name(),
                id = fact.queue_id().map(tracing::field::display),
                core = core.map(|core| core.0),
                "{fact}"
            )
        };
    }
    match fact.level() {
        Level::Detail if !fact.is_wanted_detail() => {}
        Level::Detail => line!(tracing::Level::DEBUG),
        Level::Info => line!(tracing::Level::INFO),
        Level::Warning => line!(tracing::Level::WARN),
        Level::Error => line!(tracing::Level::ERROR),
    }
}

/// The log, once it was begun. What is gathered leaves with [`Lines::flush`] before the
/// process ends.
#[derive(Clone, Debug)]
pub enum Lines {
    /// To standard error or a file.
    Text(LogLines),
    /// To the journal.
    Journal(Journal),
}

impl Lines {
    /// Waits until everything so far is written, or cannot be.
    pub fn flush(&self) {
        match self {
            Self::Text(lines) => lines.flush(),
            Self::Journal(journal) => journal.flush(),
        }
    }

    /// The log's file was moved away: what comes next goes to a new one.
    pub fn reopen(&self) {
        match self {
            Self::Text(lines) => lines.reopen(),
            Self::Journal(_) => {}
        }
    }
}

/// Begins to write the log as it is configured.
///
/// # Errors
/// The log's file cannot be opened, or there is no journal.
pub fn begin(config: &Log) -> io::Result<Lines> {
    let lines = match &config.to {
        LogTarget::Stderr => Lines::Text(LogLines::to_stderr()?),
        LogTarget::Journald => Lines::Journal(Journal::begin()?),
        LogTarget::File(path) => Lines::Text(LogLines::to_file(path)?),
    };
    let layer = match &lines {
        Lines::Journal(journal) => journal.clone().boxed(),
        Lines::Text(lines) => {
            let layer = tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_ansi(false)
                .with_writer(lines.clone());
            match config.format {
                LogFormat::Text => layer.event_format(TextLines::new()).boxed(),
                LogFormat::Json => layer.json().flatten_event(true).boxed(),
            }
        }
    };
    // One filter for all, not of the layer: its answer is remembered at each place that
    // makes lines.
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target(TARGET, LevelFilter::DEBUG);
    let begun = tracing_subscriber::registry()
        .with(layer)
        .with(filter)
        .try_init();
    begun.map_err(io::Error::other)?;
    let panicked = lines.clone();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panicked.flush();
        default(info);
        // A data core that is gone would leave its connections hanging for ever, and
        // what it promised is on stable storage: end, and let the supervisor restart.
        std::process::abort();
    }));
    Ok(lines)
}
