//! Somebody changes over with mail waiting: queues that the real Postfix and the real Exim
//! have made are read when they are stopped.

use std::path::PathBuf;

use crate::harness::message::{contains, message};
use crate::harness::rule::Stage;
use crate::harness::secure::Certificates;
use crate::harness::{Client, Setup, Sink, eventually, on, place};
use crate::peer::{Kind, Peer, Wanted};

const WITH_DSN: &str = "<late@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;first+2Bone@b.example";

/// Where it keeps its queue, below its root.
fn queue(kind: Kind) -> &'static str {
    match kind {
        Kind::Postfix => "var/spool/postfix",
        _ => "var/spool/exim4",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Postfix => "postfix",
        _ => "exim",
    }
}

fn changes_over(kind: Kind) {
    let certificates = Certificates::new();
    let onward = place::next_address();
    // It takes one of the recipients, and puts the others off.
    let rules = [on(Stage::Rcpt).containing("<late").reply("450 4.2.1 later")];
    let next = Sink::at(onward, crate::harness::sink::EVERYTHING, rules);
    let wanted = Wanted::new(&certificates, onward);
    let Some(mut peer) = Peer::start(kind, &wanted) else {
        return;
    };
    let mut client = Client::connect(peer.address);
    client.hello();
    let mut text = message("waiting", "Grüße");
    text.extend_from_slice(b"..two dots\r\n.one\r\n");
    text.extend_from_slice(format!("{}\r\n", "long ".repeat(150)).as_bytes());
    client.envelope(
        "<a@world.example> RET=HDRS ENVID=env+2Bid BODY=8BITMIME",
        &["<done@b.example>", WITH_DSN],
    );
    assert_eq!(client.data(&text).code, 250);
    client.envelope("<>", &["<late-too@b.example>"]);
    assert_eq!(client.data(&message("a notice", "text")).code, 250);
    // Larger than any buffer.
    let large = message("large", &"0123456789abcdef\r\n".repeat(40_000));
    client.envelope("<a@world.example>", &["<late3@b.example>"]);
    assert_eq!(client.data(&large).code, 250);
    client.expect("QUIT", 221);
    next.wait_until("one recipient has it", |mail| {
        mail.iter()
            .any(|mail| mail.recipients.iter().any(|r| r.contains("<done@")))
    });
    eventually("the others wait", || {
        (peer.log().matches("450 4.2.1 later").count() >= 3).then_some(())
    });
    peer.end();
    drop(next);

    let directory: PathBuf = peer.file(queue(kind));
    let directory = directory.to_str().expect("UTF-8");
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).held("b.example").start();
    let before = files(directory);
    let finished = relay.run(&["import", word(kind), directory, "--dry-run"]);
    assert!(
        finished
            .stdout
            .contains("3 messages would be imported for 3 recipients"),
        "{finished:?}\n{}",
        before.join("\n")
    );
    let facts = relay.facts(&["import", word(kind), directory]);
    let sum = &facts[0];
    assert_eq!(
        (&sum["imported"], &sum["recipients"]),
        (&3.into(), &3.into()),
        "{sum}"
    );
    assert_eq!(sum["left"].as_array().map(Vec::len), Some(0), "{sum}");
    assert_eq!(sum["recipients_done"], 1, "{sum}");
    assert_eq!(files(directory), before, "nothing is changed there");
    // Once more: nothing comes twice.
    let facts = relay.facts(&["import", word(kind), directory]);
    let sum = &facts[0];
    assert_eq!(
        (&sum["imported"], &sum["imported_before"]),
        (&0.into(), &3.into()),
        "{sum}"
    );
    assert_eq!(relay.queued().len(), 3);
    relay.facts(&["queue", "requeue", "--all", "--to", "smarthost"]);
    let mail = sink.wait_for(3);
    let waiting = mail
        .iter()
        .find(|mail| contains(&mail.octets, "Subject: waiting"));
    let waiting = waiting.expect("the first one");
    assert_eq!(
        waiting.recipients,
        [WITH_DSN],
        "who has it does not get it again"
    );
    assert!(
        waiting.mail.contains("RET=HDRS ENVID=env+2Bid"),
        "{:?}",
        waiting.mail
    );
    let end = |octets: &[u8]| {
        let at = octets
            .windows(9)
            .position(|w| w == b"Subject: ")
            .expect("a subject");
        octets[at..].to_vec()
    };
    assert!(
        end(&waiting.octets) == end(&text),
        "{:?}",
        String::from_utf8_lossy(&waiting.octets)
    );
    let large_came = mail
        .iter()
        .find(|mail| contains(&mail.octets, "Subject: large"));
    assert!(end(&large_came.expect("the third").octets) == end(&large));
    let notice = mail
        .iter()
        .find(|mail| contains(&mail.octets, "Subject: a notice"));
    assert!(notice.expect("the second").mail.starts_with("<>"));
}

/// Names and sizes of all files below.
fn files(directory: &str) -> Vec<String> {
    let output = std::process::Command::new("find")
        .args([directory, "-type", "f", "-printf", "%P %s %m\n"])
        .output()
        .expect("find starts");
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn from_postfix() {
    changes_over(Kind::Postfix);
}

#[test]
fn from_exim() {
    changes_over(Kind::Exim);
}
