//! Links by a real pppd, in a machine of its own: the program runs inside qemu, with pppd
//! at both ends of a line. The scripts in `ppp/` are what happens in there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::relay::PROGRAM;
use crate::harness::secure::Certificates;
use crate::harness::skipped;

/// Seconds for all of it; it takes two minutes on a quiet machine, without hardware to
/// help.
const LIMIT_SECONDS: &str = "500";

/// What the last script says when all is well.
const DONE: &str = "== all of it";

fn is_installed(program: &str) -> bool {
    let mut find = Command::new("sh");
    find.args(["-c", &format!("command -v {program} > /dev/null")]);
    find.status().is_ok_and(|status| status.success())
}

/// What `.ci/ppp` has unpacked.
fn unpacked() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ppp");
    directory.join(".whole").exists().then_some(directory)
}

fn scripts_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/ppp")
}

fn run(unpacked: &Path, program: &Path, files: &Path, scripts: &[&str]) -> Output {
    let here = scripts_directory();
    Command::new("bash")
        .arg(here.join("machine"))
        .args([unpacked, program, files])
        .arg(LIMIT_SECONDS)
        .args(scripts.iter().map(|script| here.join(script)))
        .output()
        .expect("bash starts")
}

#[test]
fn links_by_pppd() {
    play(&["line.sh", "drain.sh"]);
}

/// By a server that was killed, in the middle of a dial, or by nobody any more.
#[test]
fn a_pppd_that_was_left() {
    play(&["left.sh"]);
}

/// Runs these scripts in a machine of their own, to the end of each.
#[track_caller]
fn play(scripts: &[&str]) {
    for program in ["qemu-system-x86_64", "busybox", "strip"] {
        if !is_installed(program) {
            skipped(&format!("pppd: {program} is not installed"));
            return;
        }
    }
    let Some(unpacked) = unpacked() else {
        skipped("pppd: there is no machine for it; `.ci/ppp target/tmp/ppp` unpacks one");
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
    assert!(stripped.is_ok_and(|status| status.success()), "strip");
    let certificates = Certificates::new();
    let provider = certificates.issue("isp", &["10.9.0.2"], |_| {});
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("it is made");
    let authority = certificates.authority();
    for (from, name) in [
        (authority.as_path(), "ca.pem"),
        (&provider.certificate, "isp.pem"),
        (&provider.key, "isp.key"),
        (&scripts_directory().join("common.sh"), "common.sh"),
    ] {
        fs::copy(from, files.join(name)).expect("it is copied");
    }
    let output = run(&unpacked, &program, &files, scripts);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if !said.contains("BEGIN\n") {
        let why = errors.lines().last().unwrap_or("it says nothing");
        skipped(&format!("pppd: the machine for it does not start: {why}"));
        return;
    }
    if !said.contains("\nEND ") {
        skipped(&format!(
            "pppd: this machine is too slow for one inside it; so far: {said}"
        ));
        return;
    }
    let done = said.matches(DONE).count();
    assert!(
        said.contains("\nEND 0\n") && done == scripts.len(),
        "{said}\n{errors}"
    );
}
