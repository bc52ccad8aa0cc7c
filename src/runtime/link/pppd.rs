//! A link by `pppd call ENTRY`.
//!
//! pppd stays our child (`nodetach`), so that its end is noticed at once, with its reason.
//! What it says on its output shows the interface and when IP is up; its exit status says
//! in words why it failed. A password goes through a pipe to its passwordfd plugin, never
//! through its arguments or a file of ours.
//!
//! To hang up is SIGTERM: pppd ends LCP in order and runs the entry's disconnect script; one
//! that does not end is killed. A stop hangs up. A crash of ours leaves pppd running, where
//! the service manager does not end it too; the next start takes it over, as it is and not by
//! its number alone, and does not know what it says.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Meter;
use super::interfaces::Interfaces;
use super::process::{KILLED_PATIENCE, Leader, group_of, numbers};
use super::program::{Group, Input, last_words, one_line, start};
use crate::config::Login;
use crate::core::online::LinkEvent;
use crate::link::controller::{DialFailure, HANG_UP_PATIENCE, Hope, Presence};

/// Longest line of pppd that is looked at.
const LINE_BYTES_MAX: u64 = 1024;

/// How long IPv4 may take behind IPv6, which says its link-local address when it is there:
/// a few round trips more, for addresses and name servers. Then the line has IPv6 only.
const IPV4_LIMIT: Duration = Duration::from_secs(10);

/// How long a pppd may take to end that was told to: it asks the other end twice, three
/// seconds each, and then its disconnect script hangs up. Behind that it is killed, which
/// leaves the line to the modem, and the line of another kind to the kernel.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How long a dial that was called off may take to end its pppd, kill included: below the
/// patience of the machine.
const CALLED_OFF_LIMIT: Duration = Duration::from_secs(25);
const _: () = assert!(
    END_LIMIT.as_secs() + KILLED_PATIENCE.as_secs() < CALLED_OFF_LIMIT.as_secs()
        && CALLED_OFF_LIMIT.as_secs() < HANG_UP_PATIENCE.as_secs()
);
/// How long its complaints are waited for when it has ended.
const COMPLAINTS_PATIENCE: Duration = Duration::from_millis(200);
/// How often that is looked at.
const END_PAUSE: Duration = Duration::from_millis(50);

/// The name under which pppd is found, here and among the processes of others.
const PROGRAM: &str = "pppd";
/// Where it is if the path does not say.
const PLACES: [&str; 3] = ["/usr/sbin/pppd", "/sbin/pppd", "/usr/local/sbin/pppd"];

pub(super) struct Pppd {
    entry: String,
    login: Option<Login>,
    interfaces: Option<Interfaces>,
    running: RefCell<Option<Running>>,
    /// Our last pppd. It leads the group of what it has started.
    process: Cell<Option<Leader>>,
    /// It has been started, and was not waited for yet.
    is_ours: Cell<bool>,
    /// Another that was last seen and may be ours, since it leads a group as ours do.
    seen: Cell<Option<Leader>>,
    /// Ours is one of a server before us: not our child.
    is_taken_over: Cell<bool>,
}

/// Is told when pppd has ended, or why it does not.
type Done = oneshot::Sender<Result<(), String>>;

/// Ours.
struct Running {
    interface: String,
    /// To end it; dropped, it ends too.
    hang_up: oneshot::Sender<Done>,
}

impl Pppd {
    pub(super) fn new(entry: String, login: Option<Login>, interfaces: Option<Interfaces>) -> Self {
        Self {
            entry,
            login,
            interfaces,
            running: RefCell::new(None),
            process: Cell::new(None),
            is_ours: Cell::new(false),
            seen: Cell::new(None),
            is_taken_over: Cell::new(false),
        }
    }

    /// Dials. `lost` is told when the line breaks later.
    pub(super) async fn dial(
        self: &Rc<Self>,
        lost: impl Fn(String) + 'static,
    ) -> Result<(), DialFailure> {
        let not_soon = |why: String| DialFailure {
            why,
            hope: Hope::NotSoon,
        };
        let program = PLACES
            .iter()
            .find(|place| std::path::Path::new(place).exists())
            .ok_or_else(|| not_soon("pppd is not installed".to_owned()))?;
        let mut words: Vec<String> = [*program, "call", &self.entry, "nodetach"]
            .map(str::to_owned)
            .to_vec();
        let mut password = None;
        if let Some(login) = &self.login {
            let pipe = password_pipe(login).map_err(not_soon)?;
            let number = pipe.as_raw_fd().to_string();
            let more = [
                "user",
                &login.user,
                "plugin",
                "passwordfd.so",
                "passwordfd",
                &number,
            ];
            words.extend(more.map(str::to_owned));
            password = Some(pipe);
        }
        let keeps = password.as_ref().map(OwnedFd::as_raw_fd);
        let mut group = start(&words, &Input::Nothing, keeps, END_LIMIT)
            .map_err(|error| not_soon(format!("{program} could not be started: {error}")))?;
        drop(password);
        self.process.set(group.leader());
        self.is_ours.set(true);
        let stdout = group.child().stdout.take();
        // A full pipe would stop it. What is wrong with the entry it says only there.
        let complaints = last_words(group.child().stderr.take());
        let complaints = tokio::task::spawn_local(complaints);
        let mut lines = Lines::of(stdout.ok_or_else(|| not_soon("no output".to_owned()))?);
        let mut last = String::new();
        let mut interface: Option<String> = None;
        // Nobody but the peer can be reached by a link-local address: what goes at once then
        // finds no way, where IPv4 is still being agreed upon.
        let mut ipv6_until = None;
        // Until IP is up, or it gives up: the machine's patience is the limit.
        loop {
            let line = lines.next_until(ipv6_until).await;
            let is_up = match &line {
                Heard::Line(line) => line.starts_with("local  IP address"),
                Heard::NothingMore => break,
                Heard::TooLate => true,
            };
            if let (true, Some(interface)) = (is_up, &interface) {
                self.keep(group, lines, interface.clone(), lost);
                return Ok(());
            }
            let Heard::Line(line) = line else { continue };
            if let Some(name) = line.strip_prefix("Using interface ") {
                interface = Some(name.trim().to_owned());
            } else if line.starts_with("local  LL") && interface.is_some() {
                ipv6_until = Some(Instant::now() + IPV4_LIMIT);
            }
            last = line;
        }
        let status = group.child().wait().await;
        group.let_go();
        self.is_ours.set(false);
        let code = status.ok().and_then(|status| status.code());
        let (words, hope) = in_words(code);
        if last.is_empty() {
            // What it has started may hold the pipe open.
            let complaints = tokio::time::timeout(COMPLAINTS_PATIENCE, complaints).await;
            last = one_line(
                &complaints
                    .map(Result::unwrap_or_default)
                    .unwrap_or_default(),
            );
        }
        let last = if last.is_empty() {
            String::new()
        } else {
            format!(" ({last})")
        };
        Err(DialFailure {
            why: format!("pppd: {words}{last}"),
            hope,
        })
    }

    /// A task waits for its end.
    fn keep(
        self: &Rc<Self>,
        mut group: Group,
        mut lines: Lines<impl AsyncRead + Unpin + 'static>,
        interface: String,
        lost: impl Fn(String) + 'static,
    ) {
        let (hang_up, ordered) = oneshot::channel::<Done>();
        *self.running.borrow_mut() = Some(Running { interface, hang_up });
        let own = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // A full pipe would stop pppd.
            let drained = async {
                while lines.next().await.is_some() {}
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                status = group.child().wait() => Ok(status),
                order = ordered => Err(order),
                () = drained => unreachable!("it is pending for ever"),
            };
            match ended {
                Ok(status) => {
                    group.let_go();
                    own.running.borrow_mut().take();
                    own.is_ours.set(false);
                    let code = status.ok().and_then(|status| status.code());
                    lost(format!("pppd: {}", in_words(code).0));
                }
                Err(order) => {
                    let ended = group.end().await;
                    if let Ok(done) = order {
                        // Who asked may have gone meanwhile.
                        let _ = done.send(ended);
                    }
                }
            }
        });
    }

    /// What was seen is ours.
    pub(super) fn take_over(&self) {
        let seen = self.seen.take();
        self.process.set(seen);
        self.is_ours.set(seen.is_some());
        self.is_taken_over.set(seen.is_some());
    }

    /// Whatever is there is not ours to end any more.
    pub(super) fn give_up(&self) {
        self.running.borrow_mut().take();
        self.process.set(None);
        self.is_ours.set(false);
        self.is_taken_over.set(false);
    }

    pub(super) async fn hang_up(&self) -> Result<(), String> {
        let ours = self.process.get().filter(|_| self.is_ours.get());
        if let Some(process) = ours.filter(|_| self.is_taken_over.get()) {
            process.end(PROGRAM, END_LIMIT).await?;
        }
        let running = self.running.borrow_mut().take();
        if let Some(running) = running {
            let (done, ended) = oneshot::channel();
            if running.hang_up.send(done).is_ok() {
                ended
                    .await
                    .map_err(|_| "the task that watches pppd has gone".to_owned())??;
            }
        }
        // A dial that was called off ends its pppd by itself.
        if let Some(process) = ours {
            let until = Instant::now() + CALLED_OFF_LIMIT;
            while process.is_running() {
                if Instant::now() > until {
                    let number = process.number();
                    return Err(format!("pppd (process {number}) does not end"));
                }
                tokio::time::sleep(END_PAUSE).await;
            }
        }
        self.is_taken_over.set(false);
        self.is_ours.set(false);
        Ok(())
    }

    pub(super) async fn meter(&self) -> Option<u64> {
        let told = (self.running.borrow().as_ref()).map(|running| running.interface.clone());
        let taken_over = || {
            let process = self.process.get().filter(|_| self.is_taken_over.get())?;
            interface_of(process.number())
        };
        let meter = Meter {
            interface: Some(told.or_else(taken_over)?),
            interfaces: self.interfaces.clone(),
        };
        meter.read().await
    }

    /// Tells whether somebody else's pppd has our entry, or anything else leads out.
    pub(super) async fn watch(&self, tell: &dyn Fn(LinkEvent)) {
        let Some(interfaces) = &self.interfaces else {
            return;
        };
        interfaces
            .watch(async |interfaces| {
                if self.is_ours.get() {
                    let process = self.process.get().filter(|_| self.is_taken_over.get());
                    if process.is_some_and(|process| !process.is_running()) {
                        self.is_taken_over.set(false);
                        self.is_ours.set(false);
                        tell(LinkEvent::Lost("pppd has ended".to_owned()));
                    }
                    return;
                }
                // The interface goes first, and with a notice of the kernel.
                let there = interfaces.has_point_to_point().await;
                let other = who_calls(&self.entry, self.process.get()).filter(|_| there);
                // Of whoever leads no group others of its group are not ours.
                self.seen.set(other.and_then(Leader::of));
                let presence = if other.is_some() {
                    Presence::Selected
                } else if interfaces.has_default_route().await {
                    Presence::Other
                } else {
                    Presence::None
                };
                // What we began meanwhile is no presence.
                if !self.is_ours.get() {
                    tell(LinkEvent::Presence(presence));
                }
            })
            .await;
    }
}

/// A pipe from which the plugin reads the password, to its end: a line end would be part of
/// it. Its other end is closed, since a password fits into a pipe.
fn password_pipe(login: &Login) -> Result<OwnedFd, String> {
    let path = login.password_file.path().display();
    let secret = login
        .password_file
        .read()
        .map_err(|error| format!("reading {path} failed: {error}"))?;
    let piped = || -> std::io::Result<OwnedFd> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(secret.reveal().as_bytes())?;
        Ok(reader.into())
    };
    piped().map_err(|error| format!("making a pipe for the password failed: {error}"))
}

/// What pppd says.
enum Heard {
    Line(String),
    /// It has closed its output.
    NothingMore,
    /// Nothing until then.
    TooLate,
}

/// Its output, line by line.
struct Lines<R> {
    from: BufReader<R>,
    /// What has come of the next one: a wait that is given up loses nothing of it.
    begun: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn of(output: R) -> Self {
        Self {
            from: BufReader::new(output),
            begun: Vec::new(),
        }
    }

    async fn next_until(&mut self, until: Option<Instant>) -> Heard {
        let line = match until {
            None => self.next().await,
            Some(until) => match tokio::time::timeout_at(until, self.next()).await {
                Ok(line) => line,
                Err(_) => return Heard::TooLate,
            },
        };
        line.map_or(Heard::NothingMore, Heard::Line)
    }

    /// The next line, cut where it is too long.
    async fn next(&mut self) -> Option<String> {
        let room = LINE_BYTES_MAX.saturating_sub(self.begun.len() as u64);
        let read = (&mut self.from)
            .take(room)
            .read_until(b'\n', &mut self.begun)
            .await;
        let line = std::mem::take(&mut self.begun);
        let has_line = read.is_ok() && !line.is_empty();
        has_line.then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// Where pppd notes its number, in a file for each interface (pppd(8), "FILES").
const RUN_DIRECTORIES: [&str; 3] = ["/run", "/var/run", "/run/pppd"];

/// The interface of a pppd, by its group: it may have begun another process since.
fn interface_of(process: u32) -> Option<String> {
    let notes = RUN_DIRECTORIES
        .iter()
        .filter_map(|run| std::fs::read_dir(run).ok());
    let mut notes = notes.flatten().flatten().filter_map(|file| {
        let name = file.file_name();
        let name = name.to_str()?.strip_suffix(".pid")?.to_owned();
        Some((name, file.path()))
    });
    // One more is called by the name of the line, if that has one.
    let (name, _) = notes.find(|(name, path)| {
        let note = || std::fs::read_to_string(path).ok();
        let is_its = |note: String| note.trim().parse().ok().and_then(group_of) == Some(process);
        name.starts_with("ppp") && !name.starts_with("ppp-") && note().is_some_and(is_its)
    })?;
    Some(name)
}

/// The leader of the process group of a pppd that is not ours and was started with `call
/// ENTRY`. pppd starts others of its name for its ends; all are of one process group.
fn who_calls(entry: &str, own: Option<Leader>) -> Option<u32> {
    let calling = numbers().filter(|number| {
        let words = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        calls(&words, entry)
    });
    let mut groups = calling.filter_map(group_of);
    groups.find(|group| own.is_none_or(|own| Leader::of(*group) != Some(own)))
}

/// Whether this command line, words ended by NUL, is `pppd … call ENTRY …`.
fn calls(words: &[u8], entry: &str) -> bool {
    let mut words = words.split(|octet| *octet == 0);
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(|octet| *octet == b'/').next();
    if name != Some(PROGRAM.as_bytes()) {
        return false;
    }
    let words: Vec<_> = words.collect();
    words
        .windows(2)
        .any(|pair| pair[0] == b"call" && pair[1] == entry.as_bytes())
}

/// Exit status of pppd (pppd(8)) in words, and whether the same again may help.
fn in_words(code: Option<i32>) -> (String, Hope) {
    use Hope::{Again, NotSoon};
    let (words, hope) = match code {
        None => ("it was killed", Again),
        Some(0) => ("it ended in good order before IP was up", Again),
        Some(1) => ("a system call failed, or there was no memory", Again),
        Some(2) => ("an option of the entry is wrong", NotSoon),
        Some(3) => ("it is not setuid-root and we are not root", NotSoon),
        Some(4) => ("the kernel has no PPP driver", NotSoon),
        Some(5) => ("it was ended by a signal", Again),
        Some(6) => ("the serial port could not be locked", Again),
        Some(7) => ("the serial port could not be opened", Again),
        Some(8) => (
            "the connect script failed: busy, no answer or no dial tone",
            Again,
        ),
        Some(9) => ("the program of its pty could not be run", NotSoon),
        Some(10) => (
            "PPP negotiation failed: the other end does not speak PPP",
            Again,
        ),
        Some(11) => ("the other end did not log in to us", NotSoon),
        Some(12) => ("the line was idle", Again),
        Some(13) => ("its connect time was over", Again),
        Some(14) => ("it waits to be called back", Again),
        Some(15) => ("the other end does not answer any more", Again),
        Some(16) => ("the modem hung up", Again),
        Some(17) => ("the line is looped back", Again),
        Some(18) => ("the init script failed", Again),
        Some(19) => (
            "the other end does not take our user name and password",
            NotSoon,
        ),
        Some(code) => return (format!("it ended with exit code {code}"), Again),
    };
    (words.to_owned(), hope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pppd_of_others_is_known_by_its_entry() {
        let check = |words: &[u8], expected: bool| assert_eq!(calls(words, "isp"), expected);
        check(b"/usr/sbin/pppd\0call\0isp\0", true);
        check(b"pppd\0debug\0call\0isp\0nodetach\0", true);
        check(b"pppd\0call\0isp2\0", false);
        check(b"pppd\0isp\0call\0", false);
        check(b"vi\0call\0isp\0", false);
        check(b"", false);
    }

    /// pppd is waited for in two ways: for ever, and for IPv4 behind IPv6.
    #[test]
    fn a_wait_that_is_given_up_loses_no_word() {
        use tokio::io::AsyncWriteExt as _;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let (mut pppd, output) = tokio::io::duplex(64);
            let mut lines = Lines::of(output);
            pppd.write_all(b"LCP terminated ").await.expect("room");
            let heard = lines.next_until(Some(Instant::now())).await;
            assert!(matches!(heard, Heard::TooLate));
            pppd.write_all(b"by peer\nModem ").await.expect("room");
            let heard = lines.next_until(Some(Instant::now())).await;
            let Heard::Line(line) = heard else {
                panic!("the line is there");
            };
            assert_eq!(line, "LCP terminated by peer");
            let heard = lines.next_until(Some(Instant::now())).await;
            assert!(matches!(heard, Heard::TooLate));
            drop(pppd);
            assert_eq!(lines.next().await.as_deref(), Some("Modem"));
            assert_eq!(lines.next().await, None);
        });
    }

    #[test]
    fn exit_codes_have_words() {
        let hope = |code| in_words(Some(code)).1;
        assert_eq!(hope(8), Hope::Again, "busy");
        assert_eq!(hope(19), Hope::NotSoon, "wrong password");
        let words: std::collections::BTreeSet<_> =
            (0..=20).map(|code| in_words(Some(code)).0).collect();
        assert_eq!(words.len(), 21);
    }
}
