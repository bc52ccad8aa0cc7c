//! The spool's commands beside a server that fills its files, is done with them and uses
//! them again: what they find then is no damage.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::message::message;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Setup, Sink, place};

/// Clients that send all the time.
const CLIENTS: usize = 3;
/// How often each command looks.
const LOOKS: usize = 12;

/// Ends what the clients do, also where a look fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_server_at_work_is_no_damage() {
    let address = place::next_address();
    let _sink = Sink::at(address, EVERYTHING, []);
    let relay = (Setup::to(address).cores(2))
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .start();
    // Small ones beside bodies that leave by the system, whose files are zeroed behind that.
    let bodies = ["text".to_owned(), "0123456789abcdef\r\n".repeat(8_000)];
    // Before its first message a spool has no file.
    (relay.client()).send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("first", "text"),
    );
    let enough = AtomicBool::new(false);
    let directory = relay.spool_directory().display().to_string();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = relay.client();
                for body in bodies.iter().cycle() {
                    if enough.load(Ordering::Acquire) {
                        break;
                    }
                    let text = message("on and on", body);
                    client.send("<a@client.example>", &["<b@b.example>"], &text);
                }
            });
        }
        let _ends = Ends(&enough);
        for command in ["verify", "stat", "dump"].repeat(LOOKS) {
            let finished = relay.run(&["spool", command, "--json", &directory]);
            assert_eq!(finished.code, Some(0), "{command}: {finished:?}");
            assert!(
                !finished.stdout.contains("\"lost\"") || finished.stdout.contains("\"lost\": 0"),
                "{command}: {finished:?}"
            );
        }
    });
}

#[test]
fn damage_is_found_beside_a_server() {
    let nobody = place::next_address();
    let relay = (Setup::to(nobody).cores(1))
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .start();
    let body = "0123456789abcdef\r\n".repeat(8_000);
    for _ in 0..20 {
        let text = message("it waits", &body);
        (relay.client()).send("<a@client.example>", &["<b@b.example>"], &text);
    }
    let directory = relay.spool_directory();
    let argument = directory.display().to_string();
    let verify = || relay.run(&["spool", "verify", &argument]);
    let check = |damage: &dyn Fn(), repair: &dyn Fn(), expected: &str| {
        let before = verify();
        assert_eq!(before.code, Some(0), "{before:?}");
        damage();
        let found = verify();
        repair();
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.stdout.contains(expected), "{expected}: {found:?}");
    };
    let mut segments: Vec<_> = fs::read_dir(directory.join("log-00"))
        .expect("the log")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .collect();
    segments.sort_unstable();
    let [first, second, ..] = &segments[..] else {
        panic!("{segments:?}");
    };
    // One that is gone, with mail that waits.
    let aside = directory.join("log-00/aside");
    let moved = |from: &Path, to: &Path| fs::rename(from, to).expect("it is there");
    check(
        &|| moved(second, &aside),
        &|| moved(&aside, second),
        "is missing or unreadable",
    );
    // An octet of a body, in one of which nothing is written any more.
    let flip = || {
        let mut octets = fs::read(first).expect("it is there");
        octets[500_000] ^= 1;
        let mut file = File::options().write(true).open(first).expect("ours");
        file.write_all(&octets).expect("room");
    };
    check(&flip, &flip, "is not the one that was accepted");
}
