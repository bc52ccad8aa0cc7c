//! Log lines on their way to the system's journal.
//!
//! The crate `tracing-journald` speaks the journal's protocol. It sends a datagram for
//! each line and waits if the journal does not take it; so it does that in a thread of
//! its own, and a journal that hangs stops no mail: what finds no room is counted, and
//! told when there is room again.
//!
//! Fields: `MESSAGE`, `PRIORITY`, `SYSLOG_IDENTIFIER=turnspool`, and as
//! `journalctl -o verbose` shows them `TURNSPOOL_FACT`, `TURNSPOOL_ID`, `TURNSPOOL_CORE`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::runtime::log_text::TARGET;

/// Lines that wait at most: some seconds of a busy relay, some megabytes.
const WAITING_MAX: usize = 16 * 1024;

/// How long a stop waits for a journal that takes nothing.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// One line, with its fields.
#[derive(Debug, Default)]
struct Line {
    message: String,
    fact: Option<String>,
    id: Option<String>,
    core: Option<u64>,
}

#[derive(Debug)]
enum Entry {
    Line(Level, Box<Line>),
    /// Everything before it was handed over.
    Mark(SyncSender<()>),
}

/// The journal, as a layer of `tracing`.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    /// Looks for the journal, and starts the thread.
    ///
    /// # Errors
    /// There is no journal, or the thread could not be started.
    pub fn begin() -> io::Result<Self> {
        let layer = tracing_journald::layer()
            .map_err(|error| {
                let what =
                    format!("the journal is not there ({error}); write to = \"stderr\", or a path");
                io::Error::new(error.kind(), what)
            })?
            .with_field_prefix(Some("TURNSPOOL".to_owned()))
            .with_syslog_identifier("turnspool".to_owned());
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        let (entries, received) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let losses = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || write(&received, &losses));
            })?;
        Ok(Self { entries, lost })
    }

    /// Waits until what was said so far is handed over, for a while.
    pub fn flush(&self) {
        let (mark, marked) = sync_channel(1);
        if self.entries.try_send(Entry::Mark(mark)).is_ok() {
            // A journal that takes nothing has nobody to tell.
            let _ = marked.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let entry = Entry::Line(*event.metadata().level(), Box::new(line));
        if self.entries.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Visit for Line {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "core" {
            self.core = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "fact" => self.fact = Some(value.to_owned()),
            "message" => value.clone_into(&mut self.message),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "id" => self.id = Some(format!("{value:?}")),
            _ => {}
        }
    }
}

/// Hands lines over, for ever.
fn write(entries: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(level, line) => hand_over(level, &line),
            Entry::Mark(mark) => {
                // Who asked may have lost patience.
                let _ = mark.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = Line {
                message: format!("the journal was too slow: {lost} lines of this log are lost"),
                fact: Some("log-lost".to_owned()),
                ..Line::default()
            };
            hand_over(Level::WARN, &line);
        }
    }
}

fn hand_over(level: Level, line: &Line) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                fact = line.fact,
                id = line.id,
                core = line.core,
                "{}",
                line.message
            )
        };
    }
    match level {
        Level::ERROR => line!(Level::ERROR),
        Level::WARN => line!(Level::WARN),
        Level::INFO => line!(Level::INFO),
        Level::DEBUG => line!(Level::DEBUG),
        Level::TRACE => line!(Level::TRACE),
    }
}
