//! A server to compare: described by a file of `KEY=VALUE` lines, started and
//! stopped by its commands.
//!
//! ```text
//! NAME=turnspool
//! HOST=127.0.0.1          # the default
//! PORT=2525
//! START_HOLD=…            # accept and keep: for `accept`
//! START_RELAY=…           # accept and send on to 127.0.0.1:@SINK@: for `relay`
//! START_DEFER=…           # accept and keep until released: for `drain`
//! STOP=…                  # without it: SIGTERM
//! RELEASE=…               # without it: ETRN for --etrn-domain
//! WIPE=…                  # empty the spool; run before each start
//! PID=…                   # of a server that runs already, for its CPU
//! ```
//!
//! Commands run in `sh -c`; `@SINK@` and `@PORT@` are replaced. A mode without
//! its command takes the server as running already.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::Watch;

/// From the start command until the greeting.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// From SIGTERM until SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at something that another process does.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What a server is started for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Hold,
    Relay,
    Defer,
}

/// A server's description.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    start_hold: Option<String>,
    start_relay: Option<String>,
    start_defer: Option<String>,
    stop: Option<String>,
    pub(super) release: Option<String>,
    wipe: Option<String>,
    pid: Option<u32>,
}

/// A server that runs.
pub(super) struct Running<'a> {
    server: &'a Server,
    child: Option<Child>,
    sink_port: u16,
}

impl Server {
    /// Reads a description.
    ///
    /// # Errors
    /// With the file and what is wrong in it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
        })?;
        Self::parse(&text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut name, mut host, mut port) = (None, "127.0.0.1".to_owned(), None);
        let mut server = Self {
            name: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            start_hold: None,
            start_relay: None,
            start_defer: None,
            stop: None,
            release: None,
            wipe: None,
            pid: None,
        };
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("{line:?} is not KEY=VALUE"))?;
            let value = value.trim().to_owned();
            match key.trim() {
                "NAME" => name = Some(value),
                "HOST" => host = value,
                "PORT" => port = Some(value),
                "START_HOLD" => server.start_hold = Some(value),
                "START_RELAY" => server.start_relay = Some(value),
                "START_DEFER" => server.start_defer = Some(value),
                "STOP" => server.stop = Some(value),
                "RELEASE" => server.release = Some(value),
                "WIPE" => server.wipe = Some(value),
                "PID" => {
                    let pid = value.parse().map_err(|_| format!("{value:?} is no PID"))?;
                    server.pid = Some(pid);
                }
                // Known to other users of such files.
                "SPOOL" | "QLEN" | "QLIST" => {}
                other => return Err(format!("{other:?} is no key")),
            }
        }
        server.name = name.ok_or("NAME is missing")?;
        let port = port.ok_or("PORT is missing")?;
        server.address = crate::generate::parse_server(&format!("{host}:{port}"))?;
        Ok(server)
    }

    /// Empties the spool and starts the server.
    ///
    /// # Errors
    /// Where a command fails or no greeting comes.
    pub(super) fn start(&self, mode: Mode, sink_port: u16) -> io::Result<Running<'_>> {
        let command = match mode {
            Mode::Hold => &self.start_hold,
            Mode::Relay => &self.start_relay,
            Mode::Defer => &self.start_defer,
        };
        self.wipe(sink_port)?;
        let mut running = Running {
            server: self,
            child: None,
            sink_port,
        };
        if let Some(command) = command {
            let command = self.filled(command, sink_port);
            let child = Command::new("sh")
                .args(["-c", &command])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|why| error(&command, &why.to_string()))?;
            running.child = Some(child);
        }
        let start = Instant::now();
        while !self.greets() {
            let exited = match &mut running.child {
                Some(child) => child.try_wait()?.filter(|status| !status.success()),
                None => None,
            };
            if let Some(status) = exited {
                return Err(error("starting it", &status.to_string()));
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(error("starting it", "no greeting came"));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(running)
    }

    /// Runs the command that empties the spool, if there is one.
    pub(super) fn wipe(&self, sink_port: u16) -> io::Result<()> {
        self.wipe
            .as_ref()
            .map_or(Ok(()), |command| self.run(command, sink_port))
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, command: &str, sink_port: u16) -> io::Result<()> {
        let command = self.filled(command, sink_port);
        let status = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|why| error(&command, &why.to_string()))?;
        if status.success() {
            Ok(())
        } else {
            Err(error(&command, &status.to_string()))
        }
    }

    fn filled(&self, command: &str, sink_port: u16) -> String {
        command
            .replace("@SINK@", &sink_port.to_string())
            .replace("@PORT@", &self.address.port().to_string())
    }

    fn greets(&self) -> bool {
        let greeting = || -> io::Result<bool> {
            let mut connection = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            connection.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut start = [0; 3];
            connection.read_exact(&mut start)?;
            connection.write_all(b"QUIT\r\n")?;
            // A server that still writes gets no RST.
            let _ = connection.read(&mut [0; 512]);
            Ok(&start == b"220")
        };
        greeting().unwrap_or(false)
    }
}

fn error(doing: &str, what: &str) -> io::Error {
    io::Error::other(format!("{doing}: {what}"))
}

impl Running<'_> {
    /// What to look at for CPU and octets. A server that we started is all that
    /// descends from us, daemons that left their parent included.
    pub(super) fn watch(&self, disk: Option<String>) -> Watch {
        Watch {
            pids: self.server.pid.into_iter().collect(),
            own_descendants: self.child.is_some(),
            disk,
        }
    }

    /// Stops the server, if we started it, and waits until it is gone.
    ///
    /// # Errors
    /// Where the stop command fails, or something cannot be killed.
    pub(super) fn stop(mut self) -> io::Result<()> {
        let stopped = match (&self.server.stop, &self.child) {
            (Some(command), Some(_)) => self.server.run(command, self.sink_port),
            _ => Ok(()),
        };
        self.end();
        stopped
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let signal = |signal| {
            for pid in Watch::descendants() {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // It may just have ended.
                    let _ = kill_process(pid, signal);
                }
            }
        };
        if self.server.stop.is_none() {
            signal(Signal::TERM);
        }
        let start = Instant::now();
        // Only what descends from us is ever signalled.
        while !Watch::descendants().is_empty() {
            let _ = child.try_wait();
            // Daemons that became our children are ours to wait for.
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
            if start.elapsed() > STOP_TIMEOUT {
                signal(Signal::KILL);
            }
            if start.elapsed() > 2 * STOP_TIMEOUT {
                return;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }
}

impl Drop for Running<'_> {
    /// A failed measurement leaves no server behind.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        let server = Server::parse(
            "# ours\nNAME=a b\n\nPORT=25\nSTART_HOLD=run --x=1 @SINK@ @PORT@\nSPOOL=/x\nPID=7\n",
        )
        .unwrap();
        assert_eq!(server.name, "a b");
        assert_eq!(server.address, SocketAddr::from(([127, 0, 0, 1], 25)));
        let command = server.start_hold.clone().unwrap();
        assert_eq!(server.filled(&command, 26), "run --x=1 26 25");
        for wrong in [
            "PORT=25",
            "NAME=x",
            "NAME=x\nPORT=x",
            "NAME=x\nPORT=1\nWHAT=1",
            "NAME",
        ] {
            assert!(Server::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
