//! File systems in images, to be cut off and to fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::namespace::Namespace;
use crate::harness::{eventually, skipped};

/// Of the image, sparse: the least that xfs takes, and more than the mail of a test.
const IMAGE_MIB: u64 = 400;

/// What a device that fails has: the log of xfs, which is written when it is made, and
/// some mail.
const DEVICE_MIB: u64 = 192;

/// A file system in an image, mounted where only our name space sees it: a copy of the
/// mount in another test's name space would keep it alive over the cut.
pub(crate) struct Disk {
    pub(crate) namespace: Namespace,
    image: PathBuf,
    pub(crate) mount: PathBuf,
    /// Takes what the device under the image has left.
    ballast: PathBuf,
    device: Device,
}

/// What is under a file system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Works,
    /// It can be made to fail. A request is a page at most: a loop device that could store
    /// only the first half of a request says that it stored all of it (Linux 6.18: a write
    /// of 128 KiB and its sync gave success, and 64 KiB were zeros), which no disk may.
    Fails,
}

/// The largest request of a loop device, in KiB, as it is made.
const REQUEST_KIB: u32 = 1280;

impl Disk {
    /// `None`, with a line that says so, where it cannot be made.
    pub(crate) fn new(what_for: &str, directory: &Path, kind: &str) -> Option<Self> {
        let namespace = Namespace::new(what_for, "true")?;
        Self::within(namespace, what_for, directory, kind, Device::Works)
    }

    /// The same, on a device that can be made to fail: it has less room than it says.
    pub(crate) fn failing(what_for: &str, directory: &Path, kind: &str) -> Option<Self> {
        let device = directory.display();
        let script = format!("mount -t tmpfs -o size={DEVICE_MIB}m none {device}");
        let namespace = Namespace::new(what_for, &script)?;
        Self::within(namespace, what_for, directory, kind, Device::Fails)
    }

    fn within(
        namespace: Namespace,
        what_for: &str,
        directory: &Path,
        kind: &str,
        device: Device,
    ) -> Option<Self> {
        let disk = Self {
            namespace,
            image: directory.join("image"),
            mount: directory.join("mount"),
            ballast: directory.join("ballast"),
            device,
        };
        // In the name space: the directory may be another one there.
        disk.must("mkdir", &[path(&disk.mount)]);
        let size = format!("{IMAGE_MIB}M");
        disk.must("truncate", &["--size", &size, path(&disk.image)]);
        for program in [&format!("mkfs.{kind}"), "xfs_io"] {
            if disk.run(program, &["-V"]).is_none() {
                skipped(&format!("{what_for}: {program} is not installed"));
                return None;
            }
        }
        let mkfs = format!("mkfs.{kind}");
        if device == Device::Fails && kind == "ext4" {
            // All that is not in a file, its journal too, is in the first 8 MiB, which are
            // there. Where its journal fails it takes itself out of use, and a start can do
            // nothing there; xfs writes its log when it is made.
            let words = "-q -b 4096 -N 1024 -J size=4,location=2M";
            let mut words: Vec<&str> = words.split(' ').collect();
            words.push(path(&disk.image));
            disk.must(&mkfs, &words);
            disk.must("fallocate", &["--length", "8M", path(&disk.image)]);
        } else {
            disk.must(&mkfs, &["-q", path(&disk.image)]);
        }
        let mounted = disk.mount()?;
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).replace('\n', " ");
            skipped(&format!("{what_for}: {why}"));
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> Option<Output> {
        let words = ["-o", "loop", path(&self.image), path(&self.mount)];
        let mounted = self.run("mount", &words)?;
        if self.device == Device::Fails && mounted.status.success() {
            self.requests(4);
        }
        Some(mounted)
    }

    /// The largest request that the loop device gets, in KiB. It keeps that when another
    /// test has it.
    fn requests(&self, kib: u32) {
        let script = format!(
            "device=$(findmnt --noheadings --output SOURCE {}) && \
             echo {kib} > /sys/block/${{device#/dev/}}/queue/max_sectors_kb",
            self.mount.display()
        );
        self.must("sh", &["-c", &script]);
    }

    /// From now on nothing reaches the disk, and nothing is read from it.
    pub(crate) fn cut(&self) {
        self.must("xfs_io", &["-x", "-c", "shutdown", path(&self.mount)]);
    }

    /// From now on the device has no room for what was never written to it, whatever it
    /// had promised: a write into the page cache is taken, and its sync fails. So do thin
    /// volumes that are used up, and disks that run out of good sectors.
    pub(crate) fn fail(&self) {
        let ballast = format!("of={}", self.ballast.display());
        // It ends with an error, that there is no room left.
        let output = self.run("dd", &["if=/dev/zero", &ballast, "bs=4k"]);
        assert!(!output.expect("dd is installed").status.success());
    }

    /// The device was replaced by one that works, with what was on the old one.
    pub(crate) fn mend(&self) {
        self.must("rm", &[path(&self.ballast)]);
    }

    /// Somebody else takes all that is left.
    pub(crate) fn fill(&self) {
        // Larger pieces first; which of them is the last does not matter.
        let script = format!(
            "cd {} && number=0 && for size in 16M 1M 64K 4K; do \
             while fallocate --length $size others-$number 2>/dev/null; \
             do number=$((number+1)); done; done; true",
            self.mount.display()
        );
        self.must("sh", &["-c", &script]);
    }

    /// And gives it back.
    pub(crate) fn give_back(&self) {
        let script = format!("rm {}/others-*", self.mount.display());
        self.must("sh", &["-c", &script]);
    }

    /// As after a start of the machine.
    pub(crate) fn come_back(&self) {
        // A ring outlives its process for a moment, and with it the open files.
        eventually("the file system is unmounted", || {
            let output = self.run("umount", &[path(&self.mount)])?;
            output.status.success().then_some(())
        });
        let output = self.mount().expect("it was mounted before");
        assert!(output.status.success(), "mounting again: {output:?}");
    }

    fn must(&self, program: &str, words: &[&str]) {
        let output = self.run(program, words).expect("it is installed");
        assert!(output.status.success(), "{program}: {output:?}");
    }

    /// `None` if there is no such program.
    pub(crate) fn run(&self, program: &str, words: &[&str]) -> Option<Output> {
        let wrapper = self.namespace.wrapper();
        let (enter, rest) = wrapper.split_first().expect("a program");
        let output = (Command::new(enter).args(rest).arg(program).args(words)).output();
        let output = output.expect("name spaces were entered before");
        (output.status.code() != Some(127)).then_some(output)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.device == Device::Fails && !std::thread::panicking() {
            self.requests(REQUEST_KIB);
        }
        // With the name space the mount goes, and with it the loop device.
        let _ = self.run("umount", &["--lazy", path(&self.mount)]);
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
