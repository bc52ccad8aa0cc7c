//! Programs that a link needs: started without a shell, with none of our descriptors, in
//! a process group of their own, within a time limit. What is told to end and does not is
//! killed, with all that it has started in its group.
//!
//! `unsafe`: the hook between fork and exec makes one system call and touches no memory.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::process::{KILLED_PATIENCE, Leader};
use crate::report::Fact;
use crate::runtime::log::report_control;

/// Octets of a program's output that are kept for the operator: its last words.
const LAST_WORDS_BYTES_MAX: usize = 400;

/// How long a program that took too long and was told to end may take before it is killed.
pub(super) const TERM_PATIENCE: Duration = Duration::from_secs(5);

/// How a program ended, and what it said last.
#[derive(Debug)]
pub(in crate::runtime) struct Ended {
    pub(in crate::runtime) status: ExitStatus,
    pub(super) last_words: String,
}

impl Ended {
    /// The sentence for a failure.
    pub(in crate::runtime) fn sentence(&self, program: &str) -> String {
        let status = match self.status.code() {
            Some(code) => format!("exit code {code}"),
            None => self.status.to_string(),
        };
        if self.last_words.is_empty() {
            format!("{program} ended with {status}")
        } else {
            format!("{program} ended with {status}: {}", self.last_words)
        }
    }
}

/// A child whose whole process group ends with this value: told to, and killed if it does
/// not in time. Of a program that has ended of itself nothing is ended.
#[derive(Debug)]
pub(super) struct Group {
    /// `None`: it is over, or ends.
    child: Option<Child>,
    /// `None`: the kernel does not show it to us.
    leader: Option<Leader>,
    name: String,
    patience: Duration,
}

impl Group {
    /// The child itself.
    pub(super) fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("until it is over")
    }

    /// Its number, and when it began.
    pub(super) const fn leader(&self) -> Option<Leader> {
        self.leader
    }

    /// Tells the group to end, and waits until it has; kills it if it takes too long.
    ///
    /// # Errors
    /// A sentence: not even that helps.
    pub(super) async fn end(mut self) -> Result<(), String> {
        match self.child.take() {
            Some(child) => end(child, self.leader, &self.name, self.patience).await,
            None => Ok(()),
        }
    }

    /// It has ended and was waited for: its number may be another's, and what it left running
    /// is on purpose.
    pub(super) fn let_go(mut self) {
        self.child = None;
    }
}

async fn end(
    mut child: Child,
    leader: Option<Leader>,
    name: &str,
    patience: Duration,
) -> Result<(), String> {
    if let Some(leader) = leader {
        leader.end(name, patience).await?;
        // It is there to be waited for: this only takes it away.
        let _ = tokio::time::timeout(KILLED_PATIENCE, child.wait()).await;
        return Ok(());
    }
    signal(&child, Signal::TERM);
    if let Ok(ended) = tokio::time::timeout(patience, child.wait()).await {
        return ended.map(drop).map_err(|error| error.to_string());
    }
    signal(&child, Signal::KILL);
    match tokio::time::timeout(KILLED_PATIENCE, child.wait()).await {
        Ok(ended) => ended.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("{name} does not end although it was killed")),
    }
}

/// Signals the group of a child that the kernel does not show us. It was not waited for, so
/// that nobody else has its number.
fn signal(child: &Child, signal: Signal) {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = number.and_then(Pid::from_raw) {
        // It may be gone already: then it is as it should be.
        let _ = kill_process_group(group, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else {
            return;
        };
        // First of all: a server that ends does nothing later.
        signal(&child, Signal::TERM);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (leader, patience) = (self.leader, self.patience);
            let name = std::mem::take(&mut self.name);
            runtime.spawn(async move {
                if let Err(what) = end(child, leader, &name, patience).await {
                    report_control(&Fact::Trouble { what });
                }
            });
        }
    }
}

/// Where a program finds others, if it is not given our environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program finds in its environment.
#[derive(Clone, Copy)]
pub(in crate::runtime) enum Environment<'a> {
    /// What we have.
    Ours,
    /// A path, and these variables.
    Only(&'a [(&'a str, &'a str)]),
}

/// What a program reads on its standard input.
pub(in crate::runtime) enum Input {
    Nothing,
    /// These octets, then the end.
    Octets(Vec<u8>),
}

/// Starts a program: its path, then its arguments. Where it is to end, it has so long until it
/// is killed.
///
/// # Errors
/// It is not there, or may not be run.
pub(super) fn start(
    words: &[String],
    input: &Input,
    keeps: Option<i32>,
    patience: Duration,
) -> io::Result<Group> {
    start_with(words, Environment::Ours, input, keeps, patience)
}

fn start_with(
    words: &[String],
    environment: Environment<'_>,
    input: &Input,
    keeps: Option<i32>,
    patience: Duration,
) -> io::Result<Group> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(match input {
            Input::Nothing => Stdio::null(),
            Input::Octets(_) => Stdio::piped(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/")
        .process_group(0);
    if let Environment::Only(variables) = environment {
        command.env_clear().env("PATH", PATH);
        command.envs(variables.iter().copied());
    }
    hand_over_nothing(&mut command, keeps);
    let child = command.spawn()?;
    // Not waited for yet, so that the kernel shows it, whatever it did since.
    let leader = child.id().and_then(Leader::of);
    Ok(Group {
        child: Some(child),
        leader,
        name: program.clone(),
        patience,
    })
}

/// Marks every descriptor of ours as closed for the program, but its standard ones and
/// `keeps`. Sockets of data cores have no mark of their own for a moment after accept.
#[allow(unsafe_code)]
fn hand_over_nothing(command: &mut Command, keeps: Option<i32>) {
    let hook = move || {
        // SAFETY: close_range and fcntl take numbers and touch no memory of ours; both
        // may be called between fork and exec (signal-safety(7)).
        let result = unsafe {
            let closed = libc::syscall(
                libc::SYS_close_range,
                3_u32,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            match keeps {
                Some(fd) if closed == 0 => i64::from(libc::fcntl(fd, libc::F_SETFD, 0)),
                _ => closed,
            }
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: the hook makes two system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(hook) };
}

/// Runs a program to its end, within a time limit.
///
/// # Errors
/// A sentence: it could not be started, or took too long.
pub(super) async fn run(words: &[String], input: Input, limit: Duration) -> Result<Ended, String> {
    run_with(words, Environment::Ours, input, limit).await
}

/// The same with an environment.
///
/// # Errors
/// A sentence: it could not be started, or took too long.
pub(in crate::runtime) async fn run_with(
    words: &[String],
    environment: Environment<'_>,
    input: Input,
    limit: Duration,
) -> Result<Ended, String> {
    let program = words.first().cloned().unwrap_or_default();
    let mut group = start_with(words, environment, &input, None, TERM_PATIENCE)
        .map_err(|error| format!("{program} could not be started: {error}"))?;
    let child = group.child();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let write = async {
        if let (Some(mut stdin), Input::Octets(octets)) = (stdin, input) {
            // A program that does not want it closes its end.
            let _ = stdin.write_all(&octets).await;
        }
    };
    let words = async {
        // One that leaves a daemon behind leaves it our pipes: they are not waited for.
        let mut last = Vec::new();
        let (_, out, errors) = tokio::join!(write, last_words(stdout), last_words(stderr));
        last.extend(out);
        last.extend(errors);
        last
    };
    let both = async {
        let mut words = std::pin::pin!(words);
        let mut said = None;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                last = &mut words, if said.is_none() => said = Some(last),
            }
        };
        if said.is_none() {
            said = tokio::time::timeout(Duration::from_millis(200), words)
                .await
                .ok();
        }
        (status, said.unwrap_or_default())
    };
    match tokio::time::timeout(limit, both).await {
        Ok((Ok(status), said)) => {
            // What it left running is on purpose: the line itself.
            group.let_go();
            Ok(Ended {
                status,
                last_words: one_line(&said),
            })
        }
        Ok((Err(error), _)) => Err(format!("waiting for {program} failed: {error}")),
        Err(_) => {
            let ended = group.end().await;
            let still = ended.err().map(|why| format!(", and {why}"));
            let still = still.unwrap_or_default();
            Err(format!(
                "{program} took longer than {} s{still}",
                limit.as_secs()
            ))
        }
    }
}

/// The end of what comes.
pub(super) async fn last_words(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        let excess = kept.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        kept.drain(..excess);
    }
    kept
}

pub(super) fn one_line(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests;
