//! A link by a real pppd, in a machine of its own: the program runs inside qemu, with
//! pppd at both ends of a line. `pppd.sh` beside this file is what happens in there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::relay::PROGRAM;
use crate::harness::skipped;

/// What the machine answers when it did not finish in time.
const TOO_SLOW: i32 = 124;

/// Seconds for all of it; it takes 40 on a quiet machine, without hardware to help.
const LIMIT_SECONDS: &str = "400";

/// The machine stands beside the repository, where there is one.
fn machine() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared", "../../shared"].map(|place| root.join(place));
    let found = places.map(|place| place.join("ppp-guest/run.sh"));
    found.into_iter().find(|path| path.exists())
}

/// pppd's plugin for passwords, among what the machine has unpacked.
fn plugin() -> Option<(PathBuf, String)> {
    let unpacked = match std::env::var_os("PPP_GUEST_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::temp_dir().join("ppp-guest"),
    };
    let unpacked = unpacked.join("pkg");
    for version in std::fs::read_dir(unpacked.join("usr/lib/pppd")).ok()? {
        let path = version.ok()?.path().join("passwordfd.so");
        if path.exists() {
            let inside = path.strip_prefix(&unpacked).ok()?.display().to_string();
            return Some((path, format!("/{inside}")));
        }
    }
    None
}

fn run(machine: &Path, files: &[String], script: &Path) -> Output {
    let mut command = Command::new("bash");
    command
        .arg(machine)
        .args(["-t", LIMIT_SECONDS, "-m", "1024"]);
    for file in files {
        command.args(["-f", file]);
    }
    command.arg(script).output().expect("bash starts")
}

#[test]
fn a_link_by_pppd() {
    let Some(machine) = machine() else {
        skipped("pppd: there is no machine for it beside the repository");
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("turnspool");
    // What is only for debuggers would fill the machine's memory.
    let stripped = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .args([program.as_path(), Path::new(PROGRAM)])
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        skipped("pppd: strip is not installed");
        return;
    }
    if plugin().is_none() {
        // The first run unpacks it.
        let nothing = directory.path().join("nothing.sh");
        std::fs::write(&nothing, "true\n").expect("it is written");
        run(&machine, &[], &nothing);
    }
    let mut files = vec![format!("{}:/usr/bin/turnspool", program.display())];
    match plugin() {
        Some((path, inside)) => files.push(format!("{}:{inside}", path.display())),
        None => skipped("pppd: its plugin for passwords is not there"),
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/pppd.sh");
    let output = run(&machine, &files, &script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(said.contains("== all of it"), "{said}"),
        Some(TOO_SLOW) => skipped("pppd: this machine is too slow for one inside it"),
        _ if !said.contains("GUEST-BEGIN") => {
            let why = errors
                .lines()
                .last()
                .unwrap_or("it says nothing")
                .to_owned();
            skipped(&format!("pppd: the machine for it does not start: {why}"));
        }
        _ => panic!("{said}\n{errors}"),
    }
}
