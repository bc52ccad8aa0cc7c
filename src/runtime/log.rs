//! Facts to the operator, by `tracing`.

use std::io;

use crate::config::{Log, LogFormat, LogTarget};
use crate::core::CoreId;
use crate::report::{Fact, Level};
use crate::runtime::events;
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
        Level::Detail => line!(tracing::Level::DEBUG),
        Level::Info => line!(tracing::Level::INFO),
        Level::Warning => line!(tracing::Level::WARN),
        Level::Error => line!(tracing::Level::ERROR),
    }
}

/// Begins to write the log as it is configured. Keep the handle: what is gathered
/// leaves with [`LogLines::flush`] before the process ends.
///
/// # Errors
/// The log's file cannot be opened.
pub fn begin(config: &Log) -> io::Result<LogLines> {
    let lines = match &config.to {
        // Under systemd, standard error is the journal.
        LogTarget::Stderr | LogTarget::Journald => LogLines::to_stderr()?,
        LogTarget::File(path) => LogLines::to_file(path)?,
    };
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(lines.clone());
    let begun = match config.format {
        LogFormat::Text => builder.event_format(TextLines::new()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
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
