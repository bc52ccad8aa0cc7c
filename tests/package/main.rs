//! The Debian package: built from the program under test, installed, started as its unit
//! starts it, used, removed and purged, in a root directory of its own that is thrown away.
//!
//! The root is this machine's with everything new laid over it, in a mount name space and
//! a network of its own. No service manager runs in there: what the unit says about
//! starting is done by hand here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Past the test runner's capture: a skipped test must be seen in a green run.
fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: package: {why}");
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// cargo-deb, as `.ci/run` or the user has installed it.
fn cargo_deb() -> Option<PathBuf> {
    let own = repository().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(own).chain(std::env::split_paths(&path).collect::<Vec<_>>());
    places
        .into_iter()
        .find(|place| place.join("cargo-deb").exists())
}

/// Builds the package of the program under test.
fn build(tools: &Path, into: &Path) -> PathBuf {
    let path = std::env::var("PATH").expect("a PATH");
    let package = into.join("turnspool.deb");
    let output = Command::new("src/packaging/deb.sh")
        .arg("dev")
        .current_dir(repository())
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("DEB_OPTIONS", format!("--output={}", package.display()))
        .output()
        .expect("the script starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    package
}

/// Lays a new root over this machine's, and runs a script in it.
const ROOT: &str = "set -e; cd \"$0\"\n\
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root\n\
    mount --rbind /dev root/dev; mount -t proc proc root/proc\n\
    mount -t tmpfs tmpfs root/run; mount --bind shared root/shared\n\
    ip link set lo up\n\
    exec chroot root /bin/bash -euo pipefail /shared/script";

fn run_in_root(home: &Path, script: &str) -> Output {
    for directory in ["upper", "upper/shared", "work", "root", "shared"] {
        fs::create_dir_all(home.join(directory)).expect("a directory");
    }
    fs::write(home.join("shared/script"), script).expect("it is written");
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net"])
        .args(["--pid", "--fork", "--kill-child", "--", "sh", "-c", ROOT])
        .arg(home)
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts")
}

/// Prints a line for each thing that holds, so that a failure shows how far it came.
const SCRIPT: &str = include_str!("script.sh");

#[test]
fn it_is_installed_started_used_and_removed() {
    if !rustix::process::geteuid().is_root() {
        skipped("needs root");
        return;
    }
    let Some(tools) = cargo_deb() else {
        skipped("cargo-deb is not installed");
        return;
    };
    if Command::new("dpkg").arg("--version").output().is_err() {
        skipped("no dpkg");
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let probe = run_in_root(home.path(), "true");
    if !probe.status.success() {
        skipped(&format!("no root of its own: {}", text(&probe.stderr)));
        return;
    }
    let package = build(&tools, home.path());
    fs::rename(package, home.path().join("shared/turnspool.deb")).expect("the same disk");
    let output = run_in_root(home.path(), SCRIPT);
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n--- wrong:\n{wrong}");
    assert!(said.ends_with("purged\n"), "{said}\n--- wrong:\n{wrong}");
}
