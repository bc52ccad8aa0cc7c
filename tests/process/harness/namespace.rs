//! Network and mount name spaces of a test's own, for addresses that are not
//! loopback and for small disks. Only root can make them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::skipped;

/// A process that holds the name spaces; they are gone with it.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// New name spaces in which `script` was run by the shell with success.
    /// `None`, with a line that says so, where that is not possible.
    pub(crate) fn new(what_for: &str, script: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(&format!("{what_for}: needs root"));
            return None;
        }
        // `cat` ends when our end of the pipe is closed, also when we are killed.
        let script = format!("set -e; {script}; echo ready; exec cat >/dev/null");
        let spawned = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--",
                "sh",
                "-c",
            ])
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut holder = match spawned {
            Ok(holder) => holder,
            Err(error) => {
                skipped(&format!("{what_for}: unshare is not installed ({error})"));
                return None;
            }
        };
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        let _ = BufReader::new(stdout).read_line(&mut line);
        if line != "ready\n" {
            let output = holder.wait_with_output().expect("it ended");
            let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
            skipped(&format!("{what_for}: {why}"));
            return None;
        }
        Some(Self { holder })
    }

    /// A process in it.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs `task` on a thread whose sockets, and whose children's, are in the
    /// network of this name space.
    pub(crate) fn within<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(&path).expect("the holder is there");
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind).expect("we are root");
                task()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Words in front of a program that put it where this name space's disks are.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "--mount", "--target", &pid, "--"]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
