//! The program under test as a process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::setup::Setup;
use super::sink::Sink;
use super::waiting::eventually;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_turnspool");

/// How much of its standard error a failed test shows, in octets.
const SHOWN_BYTES_MAX: usize = 30_000;

/// A running relay with a directory of its own. Killed when dropped; its standard
/// error is shown when the test fails.
#[derive(Debug)]
pub(crate) struct Relay {
    directory: TempDir,
    setup: Setup,
    child: Option<Child>,
}

impl Relay {
    /// Starts and waits until it takes connections.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        let mut relay = Self::unstarted(setup);
        relay.start_again();
        relay
    }

    /// With a directory of its own, in which nothing is yet.
    pub(crate) fn unstarted(setup: Setup) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("turnspool-process-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            directory,
            setup,
            child: None,
        }
    }

    /// Starts on the same spool, after [`Self::kill`] or [`Self::stop`].
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.spawn();
        self.wait_for_listener();
        let socket = self.directory.path().join("admin.sock");
        eventually("the relay takes the operator's commands", || {
            self.assert_running();
            UnixStream::connect(&socket).ok()
        });
    }

    /// Waits until it greets. A connection alone proves nothing: the kernel ends
    /// the ring of a process after the process, and a listener that an accept in
    /// that ring still holds takes connections meanwhile.
    #[track_caller]
    pub(crate) fn wait_for_listener(&mut self) {
        eventually("the relay takes connections", || {
            self.assert_running();
            Client::try_connect(None, self.address()).ok()
        });
    }

    /// Starts, and does not wait until it is there.
    #[track_caller]
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.write_configuration();
        let mut words = self.setup.wrapper.clone();
        words.push(PROGRAM.to_owned());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log file opens");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("serve")
            .arg("--config")
            .arg(self.config_path())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        self.child = Some(child);
    }

    /// The setup that [`Self::start_again`] and [`Self::reload`] will use.
    pub(crate) fn change(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
    }

    fn write_configuration(&self) {
        let text = self.setup.text(self.directory.path());
        fs::write(self.config_path(), text).expect("the configuration is written");
    }

    /// Writes what [`Self::change`] made of the configuration, and says so to the
    /// process.
    pub(crate) fn reload(&self) {
        self.write_configuration();
        self.signal(Signal::HUP);
    }

    /// Writes a file that is no configuration, and says so to the process.
    pub(crate) fn reload_text(&self, text: &str) {
        fs::write(self.config_path(), text).expect("the configuration is written");
        self.signal(Signal::HUP);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.setup.address
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spool_directory(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.directory.path().join("turnspool.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    /// Everything that it wrote to its standard error so far.
    pub(crate) fn log(&self) -> String {
        let octets = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// A session that has said EHLO.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(self.address());
        client.hello();
        client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process number");
        kill_process(Pid::from_raw(pid).expect("not zero"), signal).expect("the signal is sent");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("it is reaped");
    }

    /// SIGTERM, and it must end with exit code 0.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_for_stop();
    }

    /// Waits for the end that a signal sent before brings.
    #[track_caller]
    pub(crate) fn wait_for_stop(&mut self) {
        let status = eventually("the relay ends", || self.ended());
        self.child = None;
        assert!(status.success(), "the relay ended with {status}");
        let log = self.log();
        assert!(!log.contains("panicked at"), "the relay panicked");
    }

    /// The exit code of a process that ends by itself, once it has.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let status = self.ended()?;
        self.child = None;
        status.code()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("it runs");
        child.try_wait().expect("its state can be asked")
    }

    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            self.child = None;
            panic!("the relay ended by itself with {status}");
        }
    }

    /// The state of the process as in `/proc/PID/stat`: `T` is stopped.
    pub(crate) fn state(&self) -> char {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(path).expect("the process is there");
        // Behind the name, which may hold anything, in parentheses.
        let (_, rest) = stat.rsplit_once(") ").expect("a line as in proc(5)");
        rest.chars().next().expect("a state")
    }

    /// Whether the process is stopped and none of its threads is in the kernel, where it
    /// would not notice.
    pub(crate) fn is_at_rest(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.pid());
        let states = fs::read_dir(tasks)
            .expect("the process is there")
            .map(|task| {
                let stat = task
                    .ok()
                    .and_then(|task| fs::read_to_string(task.path().join("stat")).ok());
                // A worker that ended meanwhile is at rest.
                stat.and_then(|stat| stat.rsplit_once(") ")?.1.chars().next())
                    .unwrap_or('T')
            });
        self.state() == 'T' && states.into_iter().all(|state| matches!(state, 'T' | 'S'))
    }

    /// A number of `/proc/PID/status` in KiB, such as `RssAnon`.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the process is there");
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {name} in {status}"));
        let digits = value.trim().trim_end_matches(" kB");
        digits.parse().expect("a number of KiB")
    }

    /// Runs a subcommand of the program with this relay's configuration.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .arg("--config")
            .arg(self.config_path())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        Finished::from(output)
    }

    /// A subcommand that prints facts, with `--json`; it must succeed. `queue list`
    /// prints one object a message, the others one in all.
    #[track_caller]
    pub(crate) fn facts(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [arguments, &["--json"]].concat();
        let finished = self.run(&arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        serde_json::Deserializer::from_str(&finished.stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {finished:?}"))
    }

    /// The queue ids that `queue list` shows.
    #[track_caller]
    pub(crate) fn queued(&self) -> Vec<String> {
        let id = |entry: &Value| entry["id"].as_str().map(str::to_owned);
        let entries = self.facts(&["queue", "list"]);
        entries
            .iter()
            .map(|entry| id(entry).expect("an id"))
            .collect()
    }

    /// A counter of `status`.
    #[track_caller]
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.facts(&["status"]);
        let value = &status[0]["counters"][name];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {status:?}"))
    }

    /// Whether nothing is queued.
    #[track_caller]
    pub(crate) fn is_empty(&self) -> bool {
        self.facts(&["queue", "list", "--limit", "1"]).is_empty()
    }

    /// Waits until nothing is queued.
    #[track_caller]
    pub(crate) fn wait_until_empty(&self) {
        eventually("the queue is empty", || self.is_empty().then_some(()));
    }

    /// Waits until nothing is queued, for as long as `sink` gets more. Without
    /// more it must come to an end in the usual time.
    #[track_caller]
    pub(crate) fn wait_until_drained(&self, sink: &Sink) {
        loop {
            let before = sink.count();
            let empty = eventually("the queue is empty or shorter", || {
                let empty = self.is_empty();
                (empty || sink.count() > before).then_some(empty)
            });
            if empty {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(SHOWN_BYTES_MAX);
            let from = (from..=log.len())
                .find(|&at| log.is_char_boundary(at))
                .unwrap_or(log.len());
            eprintln!("--- what the relay at {} wrote ---", self.address());
            eprintln!("{}\n---", &log[from..]);
        }
    }
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<std::process::Output> for Finished {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
