//! As a service: what the service manager is told, the ports that it passes, the rights
//! that are given up, and the unit that the package brings.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::message::message;
use crate::harness::{PATIENCE, Relay, Setup, Sink, eventually, place, skipped};

/// The service manager's end of `$NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self { socket }
    }

    /// Reads until it is told this.
    #[track_caller]
    fn expect(&self, wanted: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let mut octets = [0; 4096];
            let Ok(length) = self.socket.recv(&mut octets) else {
                panic!("never told {wanted}, only {heard:?}");
            };
            let told = String::from_utf8_lossy(&octets[..length]).into_owned();
            if told.lines().any(|line| line == wanted) {
                return told;
            }
            heard.push(told);
        }
    }
}

#[test]
fn the_service_manager_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = Manager::at(&path);
    let mut setup = Setup::to(Sink::new().address());
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    setup.wrapper = ["env", &socket, "WATCHDOG_USEC=200000"]
        .map(str::to_owned)
        .to_vec();
    let mut relay = setup.start();
    let ready = manager.expect("READY=1");
    let status = format!("STATUS=ready: listening on {}", relay.address());
    assert!(ready.contains(&status), "{ready}");
    manager.expect("WATCHDOG=1");
    manager.expect("WATCHDOG=1");
    relay.signal(Signal::HUP);
    let reloading = manager.expect("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.expect("READY=1");
    relay.reload_text("hostname = 7\n");
    manager.expect("RELOADING=1");
    let refused = manager.expect("READY=1");
    assert!(refused.contains("has errors"), "{refused}");
    relay.signal(Signal::TERM);
    manager.expect("STOPPING=1");
    relay.wait_for_stop();
}

/// `systemd-socket-activate` does what a socket unit does: it starts the program at the
/// first connection, which the program then finds waiting.
fn passing(sockets: &[&str]) -> Option<Vec<String>> {
    let program = "systemd-socket-activate";
    if Command::new(program).arg("--version").output().is_err() {
        skipped("socket activation: systemd-socket-activate is not installed");
        return None;
    }
    let mut words = vec![program.to_owned()];
    for socket in sockets {
        words.push(format!("--listen={socket}"));
    }
    Some(words)
}

#[test]
fn ports_that_were_passed_are_used() {
    let sink = Sink::new();
    let mut setup = Setup::to(sink.address()).cores(2);
    let Some(wrapper) = passing(&[&setup.address.to_string()]) else {
        return;
    };
    setup.wrapper = wrapper;
    let mut relay = setup.start();
    for number in 0..8 {
        let mut client = relay.client();
        client.envelope("<a@client.example>", &["<b@b.example>"]);
        let reply = client.data(&message(&format!("passed {number}"), "x\r\n"));
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    sink.wait_for(8);
    relay.stop();
}

#[test]
fn ports_that_nobody_wants_are_an_error() {
    let mut setup = Setup::to(Sink::new().address());
    let stray = place::next_address();
    let Some(wrapper) = passing(&[&stray.to_string()]) else {
        return;
    };
    setup.wrapper = wrapper;
    let mut relay = Relay::unstarted(setup);
    relay.spawn();
    let log = eventually("it says what is wrong", || {
        // This makes systemd-socket-activate start the program.
        let _ = std::net::TcpStream::connect(stray);
        let log = relay.log();
        log.contains("no [[listener]] has this address")
            .then_some(log)
    });
    assert!(log.contains(&stray.to_string()), "{log}");
    assert_ne!(eventually("it ends", || relay.exit_code()), 0);
}

/// What people get wrong first: the sentence says what was being done, with what, what went
/// wrong, and what to do.
#[track_caller]
fn says(log: &str, parts: &[&str]) {
    for part in parts {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
}

/// Sockets of one user may share a port: a second server must not take a part of the mail.
#[test]
fn a_port_in_use_is_said() {
    let relay = Setup::to(Sink::new().address()).cores(2).start();
    let address = relay.address();
    let mut second = Relay::unstarted(Setup::new().listen(address));
    second.spawn();
    assert_eq!(eventually("it ends", || second.exit_code()), 1);
    let place = format!("listening on {address} failed");
    let why = ["Address already in use", "another program listens there"];
    says(&second.log(), &[&place, why[0], why[1], "[[listener]]"]);
    // The first one goes on, and a second start behind it finds the port free.
    let mut client = relay.client();
    client.expect("NOOP", 250);
    let mut relay = relay;
    relay.stop();
    relay.start_again();
    relay.client().expect("NOOP", 250);
}

#[test]
fn a_wrong_key_is_said() {
    let setup = Setup::new().spool("directoy = \"x\"\n");
    let mut relay = Relay::unstarted(setup);
    relay.spawn();
    assert_eq!(eventually("it ends", || relay.exit_code()), 2);
    let parts = [
        "the configuration:",
        "turnspool.toml:",
        "there is no option \"directoy\"",
        "did you mean `directory`?",
    ];
    says(&relay.log(), &parts);
}

#[test]
fn a_spool_that_may_not_be_written_is_said() {
    if !rustix::process::geteuid().is_root() {
        skipped("a spool of another user: only root can make one");
        return;
    }
    let parent = tempfile::tempdir().expect("a directory");
    let spool = parent.path().join("spool");
    let run = || {
        let mut setup = Setup::new().spool_directory(&spool);
        // Its own directory is not the matter.
        let own = "chown nobody . && chmod 0755 . && \
                   exec setpriv --reuid=nobody --regid=nogroup --clear-groups \"$@\"";
        setup.wrapper = ["sh", "-c", own, "sh"].map(str::to_owned).to_vec();
        let mut relay = Relay::unstarted(setup);
        relay.spawn();
        assert_eq!(eventually("it ends", || relay.exit_code()), 1);
        relay.log()
    };
    let place = spool.display().to_string();
    let what = ["Permission denied", "who must own the spool", "chown"];
    // It cannot be made, and is not to be read.
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    says(
        &run(),
        &[
            &format!("making the spool directory {place}"),
            what[0],
            what[1],
            what[2],
        ],
    );
    fs::create_dir(&spool).expect("a directory");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).expect("ours");
    says(
        &run(),
        &[
            &format!("reading the spool directory {place}"),
            what[0],
            what[1],
            what[2],
        ],
    );
}

/// What `/proc/PID/task/*/status` has under this name, for all threads.
fn of_all_threads(relay: &Relay, name: &str) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", relay.pid())).expect("it runs");
    let line = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches(':').trim().to_owned())
    };
    tasks
        .flatten()
        // A helper thread may end meanwhile.
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(|status| line(&status).unwrap_or_else(|| panic!("no {name} in {status}")))
        .collect()
}

#[test]
fn root_is_left_behind() {
    if !rustix::process::geteuid().is_root() {
        skipped("leaving root behind: only root can");
        return;
    }
    let sink = Sink::new();
    let mut setup = Setup::to(sink.address())
        .sections("[process]\nuser = \"nobody\"")
        .cores(2);
    // The relay's directory is the test's, and a reload reads the configuration there.
    let own = "chown nobody . && chmod 0755 . && exec \"$@\"";
    setup.wrapper = ["sh", "-c", own, "sh"].map(str::to_owned).to_vec();
    let mut relay = setup.start();
    let nobody = of_all_threads(&relay, "Uid");
    assert_eq!(nobody.len(), 1, "all threads are the same user: {nobody:?}");
    let nobody = nobody.first().expect("one");
    assert!(!nobody.split_whitespace().any(|id| id == "0"), "{nobody}");
    let capabilities = of_all_threads(&relay, "CapEff");
    let none = |set: &String| u64::from_str_radix(set, 16) == Ok(0);
    assert!(capabilities.iter().all(none), "{capabilities:?}");
    eventually("the log says as whom it runs", || {
        relay.log().contains("as user nobody").then_some(())
    });
    let send = |relay: &Relay, name: &str| {
        let mut client = relay.client();
        client.envelope("<a@client.example>", &["<b@b.example>"]);
        let reply = client.data(&message(name, "x\r\n"));
        assert_eq!(reply.code, 250, "{reply:?}");
    };
    send(&relay, "as nobody");
    relay.reload();
    eventually("the reload is done", || {
        relay.log().contains("fact=\"configured\"").then_some(())
    });
    send(&relay, "after a reload");
    sink.wait_for(2);
    relay.stop();
}

#[test]
fn a_user_that_is_not_there_is_said() {
    let setup = Setup::to(Sink::new().address()).sections("[process]\nuser = \"no-such-user\"");
    let mut relay = Relay::unstarted(setup);
    relay.spawn();
    assert_ne!(eventually("it ends", || relay.exit_code()), 0);
    let log = relay.log();
    assert!(log.contains("there is no user no-such-user"), "{log}");
    assert!(log.contains("useradd"), "it says what to do: {log}");
}

/// The server that the other tests here run is confined, unless it has programs to run.
#[test]
fn the_log_says_what_the_server_may_do() {
    let check = |setup: Setup, said: &str| {
        let mut relay = setup.start();
        let old_kernel = "not confined (this kernel has no Landlock";
        eventually(said, || {
            let log = relay.log();
            (log.contains(said) || log.contains(old_kernel)).then_some(())
        });
        relay.stop();
    };
    let to = || Setup::to(Sink::new().address());
    check(to(), ", confined to its own files");
    check(
        to().sections("[process]\nsandbox = false"),
        "not confined (process.sandbox is off)",
    );
    check(
        to().customer(
            "[[customer]]\nname = \"c\"\ndomains = [\"c.example\"]\ndeliver_to = \"127.0.0.1:9\"\n\
             wake_command = [\"/bin/true\"]\nrelease = { auth = false, clients = [\"127.0.0.1\"] }\n",
        ),
        "not confined (it has programs to run)",
    );
}

/// Exposure in tenths, as the issue of hardening asks: 1.5.
const EXPOSURE_TENTHS_MAX: &str = "15";

#[test]
fn the_unit_is_hard() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/packaging/units/turnspool.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager"])
        .arg(format!("--threshold={EXPOSURE_TENTHS_MAX}"))
        .arg(unit)
        .output();
    let Ok(output) = output else {
        skipped("hardening: systemd-analyze is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Overall exposure level"), "{text}");
}
