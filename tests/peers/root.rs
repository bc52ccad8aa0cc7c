//! A root directory for one mail system: this machine's, with the system's unpacked
//! packages, its configuration and its spool laid over it, in name spaces that end
//! with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::skipped;

/// A root in which nothing runs yet.
#[derive(Debug)]
pub(crate) struct Root {
    /// Holds `upper`, which is laid over the machine's root, `shared`, which is to be
    /// seen inside as `/shared`, and `log`.
    home: TempDir,
}

/// The script that makes the root and starts `$1` in it. `$0` is the home.
const SCRIPT: &str = "set -e; cd \"$0\"\n\
    mount -t overlay overlay -o \"lowerdir=/,upperdir=upper,workdir=work\" root\n\
    mount --rbind /dev root/dev; mount -t proc proc root/proc\n\
    mount --bind shared root/shared\n\
    exec chroot root /bin/sh -c \"$1\"";

impl Root {
    /// A root with the packages that `.ci/peers` unpacked under this name, or with
    /// those of this machine. `None`, with a line that says why, where it cannot be.
    pub(crate) fn new(name: &str, unpacked: bool) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(&format!("{name}: needs root"));
            return None;
        }
        let packages = unpacked.then(|| {
            let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
            peers.join(name)
        });
        if let Some(packages) = &packages
            && !packages.join(".whole").exists()
        {
            let place = packages.display();
            skipped(&format!("{name} is not in {place}: see .ci/peers"));
            return None;
        }
        let home = tempfile::Builder::new()
            .prefix("turnspool-peer-")
            .tempdir()
            .expect("a directory");
        for directory in ["upper", "upper/shared", "work", "root", "shared"] {
            fs::create_dir(home.path().join(directory)).expect("a directory");
        }
        if let Some(packages) = &packages {
            // As a layer of its own it would have to lie outside of this machine's
            // root. It is some megabytes.
            let copied = Command::new("cp")
                .args(["--archive", "--no-target-directory"])
                .arg(packages)
                .arg(home.path().join("upper"))
                .status();
            assert!(copied.expect("cp starts").success(), "{name} is not copied");
        }
        // Its daemons give up root, and write there.
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(home.path().join("shared"), all).expect("it is ours");
        let root = Self { home };
        root.write("etc/hosts", "127.0.0.1 localhost\n");
        let output = root.command("true").output();
        match output {
            Ok(output) if output.status.success() => Some(root),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
                skipped(&format!("{name}: no root of its own: {why}"));
                None
            }
            Err(error) => {
                skipped(&format!("{name}: unshare does not start: {error}"));
                None
            }
        }
    }

    /// Puts a file over the one of this machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.home.path().join("upper").join(path);
        let directory = path.parent().expect("a file has one");
        fs::create_dir_all(directory).expect("a directory");
        fs::write(path, text).expect("it is written");
    }

    /// A file or directory that was written inside.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.home.path().join("upper").join(path)
    }

    /// A file of `/shared`.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.home.path().join("shared").join(name)
    }

    /// Makes this machine's users known inside, and these: lines without the number,
    /// which is that of the user and of the group.
    pub(crate) fn users(&self, users: &[(&str, u32, &str)]) {
        let (mut passwd, mut group) = (
            fs::read_to_string("/etc/passwd").expect("readable"),
            fs::read_to_string("/etc/group").expect("readable"),
        );
        for (name, number, home) in users {
            if passwd
                .lines()
                .any(|line| line.starts_with(&format!("{name}:")))
            {
                continue;
            }
            passwd.push_str(&format!(
                "{name}:x:{number}:{number}::{home}:/usr/sbin/nologin\n"
            ));
            group.push_str(&format!("{name}:x:{number}:\n"));
        }
        self.write("etc/passwd", &passwd);
        self.write("etc/group", &group);
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "--"])
            .args(["sh", "-c", SCRIPT])
            .arg(self.home.path())
            .arg(script)
            .stdin(Stdio::null());
        command
    }

    /// Starts what the script says; its output is [`Self::log`].
    pub(crate) fn start(&self, script: &str) -> Child {
        let log = File::create(self.home.path().join("log")).expect("a file");
        self.command(script)
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("it started before")
    }

    /// What was written so far, and the files of `/shared` that are logs.
    pub(crate) fn log(&self) -> String {
        let mut text = read(&self.home.path().join("log"));
        let shared = fs::read_dir(self.home.path().join("shared")).expect("a directory");
        for entry in shared.flatten() {
            if entry.file_name().to_string_lossy().ends_with("log") {
                text.push_str(&read(&entry.path()));
            }
        }
        text
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
