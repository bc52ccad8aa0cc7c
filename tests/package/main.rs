//! The Debian package: built from the program under test, installed, started as its unit
//! starts it, used, removed and purged, in a root directory of its own that is thrown away.
//!
//! The root is this machine's with everything new laid over it, in a mount name space and
//! a network of its own. No service manager runs in there: what the unit says about
//! starting is done by hand here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

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

/// Lays a new root over this machine's, and runs a script in it. No index of the manual is
/// made in there: that takes longer than all the rest.
const ROOT: &str = "set -e; cd \"$0\"\n\
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root\n\
    mount --rbind /dev root/dev; mount -t proc proc root/proc\n\
    rm -f root/var/lib/man-db/auto-update\n\
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

/// The package, built once. `None`, with a line that says why, where it cannot be tried.
fn package() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            skipped("needs root");
            return None;
        }
        let Some(tools) = cargo_deb() else {
            skipped("cargo-deb is not installed");
            return None;
        };
        if Command::new("dpkg").arg("--version").output().is_err() {
            skipped("no dpkg");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let probe = run_in_root(directory.path(), "true");
        if !probe.status.success() {
            skipped(&format!("no root of its own: {}", text(&probe.stderr)));
            return None;
        }
        Some(build(&tools, Path::new(env!("CARGO_TARGET_TMPDIR"))))
    });
    built.as_deref()
}

/// In a root of its own with the package, and files beside it.
fn holds_in_root(script: &str, files: &[(&str, &str)], last_line: &str) {
    let Some(package) = package() else {
        return;
    };
    let home = tempfile::tempdir().expect("a directory");
    let shared = home.path().join("shared");
    fs::create_dir(&shared).expect("a directory");
    fs::copy(package, shared.join("turnspool.deb")).expect("there is room");
    for (name, content) in files {
        fs::write(shared.join(name), content).expect("it is written");
    }
    let output = run_in_root(home.path(), script);
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n--- wrong:\n{wrong}");
    assert!(said.ends_with(last_line), "{said}\n--- wrong:\n{wrong}");
}

#[test]
fn it_is_installed_started_used_and_removed() {
    holds_in_root(SCRIPT, &[], "purged\n");
}

/// Each page for a role, from nothing to mail that has come.
#[test]
fn the_pages_of_the_roles_lead_there() {
    let roles = [
        ("backup-spool", include_str!("pages/backup-spool.sh")),
        ("site-atrn", include_str!("pages/site-atrn.sh")),
        ("site-pppd", include_str!("pages/site-pppd.sh")),
        ("smarthost", include_str!("pages/smarthost.sh")),
    ];
    for (role, script) in roles {
        let page = format!("{role}.md");
        let text = fs::read_to_string(repository().join("src/manual").join(&page));
        let text = text.expect("the page is there");
        let script = format!(
            "{}\n{script}\necho arrived\n",
            include_str!("pages/common.sh")
        );
        holds_in_root(&script, &[(page.as_str(), text.as_str())], "arrived\n");
    }
}
