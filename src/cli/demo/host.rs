//! A host of a demonstration: this program as a server of its own, with a directory for
//! its configuration, spool, mailboxes and log.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use crate::cli::connection::Connection;
use crate::cli::{Exit, Failure, Global};
use crate::core::admin::{Command, Response};

/// How long a server may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to stop, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server that runs.
#[derive(Debug)]
pub(super) struct Host {
    /// What it is called.
    pub(super) name: &'static str,
    /// Where it takes mail.
    pub(super) address: SocketAddr,
    directory: PathBuf,
    global: Global,
    child: Child,
}

impl Host {
    /// Starts a server whose configuration is this, besides its listener, spool and
    /// socket, and waits until it is ready. It trusts the authority in `trusted`.
    ///
    /// # Errors
    /// Where it does not start, with the end of its log.
    pub(super) fn start(
        name: &'static str,
        directory: PathBuf,
        address: SocketAddr,
        configuration: &str,
        trusted: Option<&Path>,
    ) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            let text = format!("starting the {name}: {what}: {error}");
            Failure::new(Exit::Failed, text)
        };
        fs::create_dir(&directory).map_err(|error| failed("making its directory", error))?;
        for part in ["cur", "new", "tmp"] {
            // A Maildir is made by whoever owns it.
            fs::create_dir_all(Self::mailbox(&directory).join(part))
                .map_err(|error| failed("making its mailbox", error))?;
        }
        let file = directory.join("turnspool.toml");
        let socket = directory.join("socket");
        // Debug writes a string as TOML reads it, for paths that are UTF-8.
        let text = format!(
            "{configuration}\n[[listener]]\naddress = \"{address}\"\n\
             [spool]\ndirectory = {:?}\nsegment_size = \"1MiB\"\nfree_min = \"1MiB\"\n\
             [cores]\ndata = 1\n[admin]\nsocket = {:?}\n",
            directory.join("spool"),
            socket,
        );
        fs::write(&file, text).map_err(|error| failed("writing its configuration", error))?;
        let log =
            File::create(directory.join("log")).map_err(|error| failed("making its log", error))?;
        let program =
            std::env::current_exe().map_err(|error| failed("finding this program", error))?;
        let mut command = Program::new(program);
        if let Some(file) = trusted {
            command.env("SSL_CERT_FILE", file);
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed("running this program", error))?;
        let mut host = Self {
            name,
            address,
            directory,
            global: Global {
                config: None,
                socket: Some(socket),
                json: false,
            },
            child,
        };
        host.wait_until_ready()?;
        Ok(host)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            if matches!(self.ask(Command::Status), Ok(Response::Status(_))) {
                return Ok(());
            }
            let gone = !matches!(self.child.try_wait(), Ok(None));
            if gone || begun.elapsed() > READY_PATIENCE {
                let text = format!(
                    "the {} did not start; its log ends:\n{}",
                    self.name,
                    self.log_end()
                );
                return Err(Failure::new(Exit::Failed, text));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks the server.
    ///
    /// # Errors
    /// Where it does not answer, or refuses.
    pub(super) fn ask(&self, command: Command) -> Result<Response, Failure> {
        Connection::open(&self.global)?.ask(command)
    }

    /// Where its mailbox is.
    pub(super) fn mailbox(directory: &Path) -> PathBuf {
        directory.join("mailbox")
    }

    /// How many messages are in its mailbox.
    pub(super) fn arrived(&self) -> usize {
        fs::read_dir(Self::mailbox(&self.directory).join("new")).map_or(0, Iterator::count)
    }

    /// The last lines of its log.
    pub(super) fn log_end(&self) -> String {
        const LINES: usize = 15;
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let asked = self.ask(Command::Stop).is_ok();
        let begun = Instant::now();
        while asked && begun.elapsed() < STOP_PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        // Its spool goes with its directory: nothing is lost that anybody wants.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
