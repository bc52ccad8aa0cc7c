//! Much mail whose time is over in one moment.

use super::*;
use crate::spool::commit::PENDING_BYTES_MAX;

/// Messages, each of another sender.
const MESSAGES: usize = 1200;
/// Of each; its notification returns all of it.
const OCTETS: usize = 30_000;

fn failed(bench: &Bench) -> usize {
    bench.count(|fact| {
        let ending = Ending::Failed;
        matches!(fact, Fact::Recipient { ending: other, .. } if *other == ending)
    })
}

fn told(bench: &Bench) -> usize {
    bench.count(|fact| matches!(fact, Fact::Notified { .. }))
}

fn finished(bench: &Bench) -> usize {
    bench.count(|fact| matches!(fact, Fact::Finished { .. }))
}

fn store(bench: &mut Bench) {
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    let line = "a line of some mail that nobody will fetch\r\n";
    let body = line.repeat(OCTETS / line.len());
    for number in 0..MESSAGES {
        let head = format!(
            "MAIL FROM:<a{number}@sender.example> RET=FULL\r\nRCPT TO:<b@site.example>\r\nDATA\r\n\
             Subject: x\r\n\r\n"
        );
        bench.receive(client, head.as_bytes());
        bench.receive(client, body.as_bytes());
        bench.receive(client, b".\r\n");
    }
    bench.receive(client, b"QUIT\r\n");
    assert_eq!(bench.count(is_accepted), MESSAGES);
}

/// The disk stands still while all of it expires: what is told of it does not gather in
/// memory, and nobody is forgotten when the disk goes on.
#[test]
fn what_expires_at_once_does_not_gather_before_a_slow_disk() {
    let mut bench = Bench::new(PLENTY);
    store(&mut bench);
    bench.disk = Disk::Hangs;
    // Longer than any mail is kept.
    bench.sleep(Duration::from_secs(40 * 24 * 3600));
    bench.wait(Duration::from_secs(60));
    let at_most = PENDING_BYTES_MAX / OCTETS + 1;
    assert!(failed(&bench) > at_most / 2, "{}", failed(&bench));
    assert!(failed(&bench) <= at_most, "{} at once", failed(&bench));
    assert_eq!((told(&bench), finished(&bench)), (0, 0));
    bench.disk = Disk::Answers;
    while let Some(written) = bench.hung.pop_front() {
        bench.give(written);
    }
    bench.wait(Duration::from_secs(60));
    let all = (MESSAGES, MESSAGES, MESSAGES);
    assert_eq!((failed(&bench), told(&bench), finished(&bench)), all);
}
