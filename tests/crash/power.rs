//! Power cuts: the real program on a real file system that is cut off under load.
//!
//! The file system lies in an image of its own. Its shutdown call, without a flush of
//! its log, does what a power cut does to it: what was not on stable storage is gone,
//! and every later operation fails. The program is killed before it notices, or it goes
//! on without its disk for a while, in which it may acknowledge nothing; then it is
//! started again on what a mount finds.
//!
//! What this does not show: a disk that lies about its cache, and torn sectors; those
//! are the simulation's (`tests/simulation`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::message::Random;
use crate::harness::namespace::Namespace;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Setup, Sink, eventually, place, skipped};
use crate::kill::seed;
use crate::ledger::Ledger;
use crate::load::Load;

/// How long cuts are made without [`CUTS`] in the environment.
const CUTS_FOR: Duration = Duration::from_secs(12);
/// However slow the machine is.
const CUTS_MIN: u32 = 5;
/// How many cuts a longer run makes.
const CUTS: &str = "TURNSPOOL_POWER_CUTS";
const CLIENTS: u64 = 4;
/// Rounds between two in which everything is delivered.
const DRAIN_EVERY: u32 = 10;
/// Of the image, sparse: the least that xfs takes, and more than the mail of a test.
const IMAGE_MIB: u64 = 400;

/// A file system in an image, mounted where only our name space sees it: a copy of the
/// mount in another test's name space would keep it alive over the cut.
struct Disk {
    namespace: Namespace,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// `None`, with a line that says so, where it cannot be made.
    fn new(directory: &Path, kind: &str) -> Option<Self> {
        let what_for = format!("power cuts on {kind}");
        let namespace = Namespace::new(&what_for, "true")?;
        let disk = Self {
            namespace,
            image: directory.join("image"),
            mount: directory.join("mount"),
        };
        std::fs::create_dir(&disk.mount).expect("a directory");
        let image = std::fs::File::create(&disk.image).expect("a file");
        image.set_len(IMAGE_MIB << 20).expect("sparse");
        for program in [&format!("mkfs.{kind}"), "xfs_io"] {
            if disk.run(program, &["-V"]).is_none() {
                skipped(&format!("{what_for}: {program} is not installed"));
                return None;
            }
        }
        disk.must(&format!("mkfs.{kind}"), &["-q", path(&disk.image)]);
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
        self.run("mount", &words)
    }

    /// From now on nothing reaches the disk, and nothing is read from it.
    fn cut(&self) {
        self.must("xfs_io", &["-x", "-c", "shutdown", path(&self.mount)]);
    }

    /// As after a start of the machine.
    fn come_back(&self) {
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
    fn run(&self, program: &str, words: &[&str]) -> Option<Output> {
        let wrapper = self.namespace.wrapper();
        let (enter, rest) = wrapper.split_first().expect("a program");
        let output = (Command::new(enter).args(rest).arg(program).args(words)).output();
        let output = output.expect("name spaces were entered before");
        (output.status.code() != Some(127)).then_some(output)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // With the name space the mount goes, and with it the loop device.
        let _ = self.run("umount", &["--lazy", path(&self.mount)]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn cuts_on_ext4() {
    cuts("ext4");
}

#[test]
fn cuts_on_xfs() {
    cuts("xfs");
}

fn cuts(kind: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::new(directory.path(), kind) else {
        return;
    };
    let wanted: Option<u32> = std::env::var(CUTS).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{CUTS} is a whole number"))
    });
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let spool = disk.mount.join("spool");
    let address = place::next_address();
    let mut relay = Setup::to(address)
        .cores(2)
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .spool_directory(&spool)
        .wrapper(disk.namespace.wrapper())
        .start();
    let mut delivered = Vec::new();
    let begun = Instant::now();
    let (mut rounds, mut went_on) = (0, 0);
    while wanted.map_or(begun.elapsed() < CUTS_FOR || rounds < CUTS_MIN, |n| {
        rounds < n
    }) {
        let sink = (random.below(3) > 0).then(|| Sink::at(address, EVERYTHING, []));
        let load = Load::new(&ledger, relay.address());
        let until = random.below(3_000_000);
        ledger.stage(format!("round {rounds}, before the cut"));
        // In some rounds the program is left to find out that its disk is gone.
        let told_before = times_told(&relay.log());
        let goes_on = random.below(2) == 0;
        std::thread::scope(|scope| {
            let _end = load.ends();
            for _ in 0..CLIENTS {
                let (load, seed) = (&load, random.next());
                scope.spawn(move || load.run(seed));
            }
            eventually("the load is written", || {
                (load.written.load(Ordering::Relaxed) >= until).then_some(())
            });
            // Stopped first, and until no sync is under way: the shutdown may answer such
            // a sync with success although its octets are lost (seen on both file systems
            // with a program of twenty lines), and a power cut answers nobody.
            relay.signal(Signal::STOP);
            eventually("it is stopped", || relay.is_at_rest().then_some(()));
            disk.cut();
            ledger.stage(format!("round {rounds}, after the cut"));
            if goes_on {
                relay.signal(Signal::CONT);
                eventually("the program refuses mail", || {
                    (load.refused.load(Ordering::Relaxed) > 0).then_some(())
                });
                relay.assert_running();
                eventually("the operator is told", || {
                    (times_told(&relay.log()) > told_before).then_some(())
                });
                went_on += 1;
            }
            relay.kill();
            load.enough.store(true, Ordering::Release);
        });
        if let Some(sink) = sink {
            delivered.extend(sink.mail());
        }
        disk.come_back();
        relay.start_again();
        rounds += 1;
        if rounds.is_multiple_of(DRAIN_EVERY) {
            // What waits must not fill the disk, which is another test's.
            let sink = Sink::at(address, EVERYTHING, []);
            relay.wait_until_drained(&sink);
            delivered.extend(sink.mail());
        }
    }
    let sink = Sink::at(address, EVERYTHING, []);
    relay.wait_until_drained(&sink);
    delivered.extend(sink.mail());
    let twice = ledger.judge(&delivered);
    eprintln!(
        "{rounds} power cuts on {kind}: {}; {twice} copies more than one; \
         in {went_on} rounds the program went on, and told the operator",
        ledger.summary()
    );
    assert!(ledger.acknowledged() > 0, "the test tests nothing");
    relay.stop();
    let verify = disk.run(
        env!("CARGO_BIN_EXE_turnspool"),
        &["spool", "verify", path(&spool)],
    );
    let verify = verify.expect("the program is there");
    assert!(verify.status.success(), "{verify:?}");
}

/// How often the operator was told that the disk does not do what it should.
fn times_told(log: &str) -> usize {
    log.matches("log-closed").count() + log.matches("segment-failed").count()
}
