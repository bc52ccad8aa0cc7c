//! The spool's commands beside a server that fills its files, is done with them and uses
//! them again: what they find then is no damage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::message::message;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Setup, Sink, place};

/// Clients that send all the time.
const CLIENTS: usize = 3;
/// How often each command looks.
const LOOKS: usize = 12;

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
        let looks = || {
            for command in ["verify", "stat", "dump"].repeat(LOOKS) {
                let finished = relay.run(&["spool", command, &directory]);
                if finished.code != Some(0) {
                    return Err(format!("{command}: {finished:?}"));
                }
            }
            Ok(())
        };
        let seen = looks();
        enough.store(true, Ordering::Release);
        assert_eq!(seen, Ok(()));
    });
}
