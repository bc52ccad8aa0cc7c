//! Log lines on their way to standard error or a file.
//!
//! A write per line costs more than making the line. Lines are gathered and leave
//! together, after `GATHER` at the latest, by a thread of their own; so a data core
//! never waits for a terminal or a full pipe, until `GATHERED_BYTES_MAX` wait.
//! What is gathered leaves before the process exits ([`LogLines::flush`]), also
//! when a thread panics.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for company. An operator who watches does not notice.
const GATHER: Duration = Duration::from_millis(20);

/// Octets that wait at most. Then whoever has a line to write waits: a log with
/// holes would be worse than a slow relay.
const GATHERED_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
struct State {
    gathered: Vec<u8>,
    /// Taken by the writing thread and not yet written.
    writing: bool,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
    file: Option<File>,
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub struct LogLines(Arc<Inner>);

impl LogLines {
    /// Lines to standard error.
    ///
    /// # Errors
    /// The writing thread could not be started.
    pub fn to_stderr() -> io::Result<Self> {
        Self::start(None)
    }

    /// Lines to the end of a file.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Self::start(Some(File::options().create(true).append(true).open(path)?))
    }

    fn start(file: Option<File>) -> io::Result<Self> {
        let lines = Self(Arc::new(Inner {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            file,
        }));
        let writer = lines.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write())?;
        Ok(lines)
    }

    /// Waits until everything gathered so far is written.
    pub fn flush(&self) {
        let mut state = self.state();
        while state.writing || !state.gathered.is_empty() {
            self.0.filled.notify_one();
            state = self
                .0
                .emptied
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.state();
            while state.gathered.is_empty() {
                state = self
                    .0
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.gathered, &mut batch);
            state.writing = true;
            drop(state);
            // A log that cannot be written has nobody to tell.
            let _ = match &self.0.file {
                Some(file) => (&mut &*file).write_all(&batch),
                None => io::stderr().write_all(&batch),
            };
            batch.clear();
            self.state().writing = false;
            self.0.emptied.notify_all();
            std::thread::sleep(GATHER);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        while state.gathered.len() > GATHERED_BYTES_MAX {
            state = self
                .0
                .emptied
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = state.gathered.is_empty();
        state.gathered.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.0.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a LogLines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushed_lines_are_in_the_file_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let lines = LogLines::to_file(&path).expect("a log");
        let expected: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            (&lines).write_all(line.as_bytes()).expect("room");
        }
        lines.flush();
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), expected);
    }
}
