//! What a demonstration shows while it runs.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// How often a line of progress is printed where there is no terminal.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Of a terminal that does not say how wide it is.
const COLUMNS: usize = 79;

/// Where the progress is shown: one line that changes on a terminal, or a line from time
/// to time. With JSON to standard error.
pub(super) struct Stage {
    begun: Instant,
    terminal: bool,
    json: bool,
    /// The line that changes is there.
    live: bool,
    shown: Instant,
}

impl Stage {
    pub(super) fn new(json: bool) -> Self {
        let terminal = if json {
            io::stderr().is_terminal()
        } else {
            io::stdout().is_terminal()
        };
        Self {
            begun: Instant::now(),
            terminal,
            json,
            live: false,
            shown: Instant::now(),
        }
    }

    /// Something happened.
    pub(super) fn say(&mut self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        let wipe = if std::mem::take(&mut self.live) {
            "\r\x1b[K"
        } else {
            ""
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        self.write(out, &format!("{wipe}{seconds:6.1} s  {text}\n"))
    }

    /// How it stands.
    pub(super) fn progress(&mut self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.terminal {
            self.live = true;
            let line: String = format!("{seconds:6.1} s  {text}")
                .chars()
                .take(self.columns())
                .collect();
            return self.write(out, &format!("\r\x1b[K{line}"));
        }
        if self.shown.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        self.shown = Instant::now();
        self.write(out, &format!("{seconds:6.1} s  {text}\n"))
    }

    /// A longer line would go on in the next one, and stay there.
    fn columns(&self) -> usize {
        let size = if self.json {
            rustix::termios::tcgetwinsize(io::stderr())
        } else {
            rustix::termios::tcgetwinsize(io::stdout())
        };
        match size.map(|size| usize::from(size.ws_col)) {
            Ok(columns) if columns > 0 => columns - 1,
            _ => COLUMNS,
        }
    }

    fn write(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        if self.json {
            return io::stderr().write_all(text.as_bytes());
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.live {
            // The summary, or what went wrong, begins a line of its own.
            let end = "\r\x1b[K";
            let _ = if self.json {
                io::stderr().write_all(end.as_bytes())
            } else {
                io::stdout().write_all(end.as_bytes())
            };
        }
    }
}
