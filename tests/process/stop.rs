//! Graceful stop and reload: what is acknowledged stays, what is open goes on.

use std::path::PathBuf;
use std::{fs, io};

use rustix::process::Signal;

use crate::harness::message::{assert_identical, message, without_trace};
use crate::harness::sink::EVERYTHING;
use crate::harness::{Client, Gate, Relay, Setup, Sink, Stage, eventually, on, place};

#[test]
fn idle_sessions_are_told() {
    let mut relay = Setup::to(Sink::new().address()).start();
    let mut idle = relay.client();
    let mut greeted = Client::connect(relay.address());
    relay.signal(Signal::TERM);
    for client in [&mut idle, &mut greeted] {
        let reply = client.reply();
        assert_eq!(reply.code, 421, "{reply:?}");
        client.assert_closed();
    }
    relay.wait_for_stop();
}

/// Who can send mail can also be sure that a signal is obeyed and that the operator
/// is heard: the listeners come last.
#[test]
fn it_is_ready_when_it_listens() {
    let mut relay = Setup::to(Sink::new().address()).start();
    for _ in 0..5 {
        relay.stop();
        relay.spawn();
        relay.wait_for_listener();
        assert!(relay.queued().is_empty());
        relay.stop();
        relay.spawn();
        relay.wait_for_listener();
    }
    relay.stop();
}

/// A transaction that is under way is finished or refused for now; it is never
/// taken and lost.
#[test]
fn a_transaction_is_finished_or_refused() {
    for chunk in [false, true] {
        let address = place::next_address();
        let mut relay = Setup::to(address).start();
        let mut client = relay.client();
        let sent = message("interrupted", &"text\r\n".repeat(1000));
        let (first, second) = sent.split_at(sent.len() / 2);
        client.envelope("<a@client.example>", &["<b@b.example>"]);
        if chunk {
            client.write(format!("BDAT {} LAST\r\n", sent.len()).as_bytes());
        } else {
            client.expect("DATA", 354);
        }
        client.write(first);
        relay.signal(Signal::TERM);
        eventually(
            "no new connections are taken",
            || match Client::try_connect(None, relay.address()) {
                Ok(other) => (other.greeting.code == 421).then_some(()),
                Err(_) => Some(()),
            },
        );
        // The relay may be gone already; then nothing was promised.
        let finished = client
            .try_write(second)
            .and_then(|()| {
                if chunk {
                    Ok(())
                } else {
                    client.try_write(b".\r\n")
                }
            })
            .and_then(|()| client.try_reply());
        relay.wait_for_stop();
        let taken = matches!(&finished, Ok(reply) if reply.code == 250);
        if let Ok(reply) = &finished {
            assert!(matches!(reply.code, 250 | 421 | 451), "{reply:?}");
        }
        let sink = Sink::at(address, EVERYTHING, []);
        relay.start_again();
        // A message behind it: when that has come, the first one has, if ever.
        let last = message("behind it", "text");
        relay
            .client()
            .send("<a@client.example>", &["<b@b.example>"], &last);
        let mail = sink.wait_for(if taken { 2 } else { 1 });
        relay.wait_until_empty();
        let is = |octets: &[u8], text: &[u8]| without_trace(octets).1 == text;
        assert_eq!(sink.count(), if taken { 2 } else { 1 }, "taken: {taken}");
        assert!(mail.iter().any(|mail| is(&mail.octets, &last)));
        assert_eq!(mail.iter().any(|mail| is(&mail.octets, &sent)), taken);
    }
}

#[test]
fn what_is_queued_survives() {
    const MESSAGES: usize = 200;
    let address = place::next_address();
    let mut relay = Setup::to(address).cores(2).start();
    let mut texts = Vec::new();
    for _ in 0..4 {
        // Both cores get some: a session each.
        let mut client = relay.client();
        for _ in 0..MESSAGES / 4 {
            let text = message(&format!("survivor {}", texts.len()), "text");
            client.send("<a@client.example>", &["<b@b.example>"], &text);
            texts.push(text);
        }
    }
    let mut queued = relay.queued();
    relay.stop();
    relay.start_again();
    let mut again = relay.queued();
    queued.sort();
    again.sort();
    assert_eq!(again, queued);
    relay.stop();
    let sink = Sink::at(address, EVERYTHING, []);
    relay.start_again();
    let mail = sink.wait_for(MESSAGES);
    relay.wait_until_empty();
    for text in &texts {
        let same = mail
            .iter()
            .filter(|mail| without_trace(&mail.octets).1 == text);
        assert_eq!(same.count(), 1, "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(sink.count(), MESSAGES);
    relay.stop();
    // Nothing comes back from the dead.
    relay.start_again();
    assert!(relay.queued().is_empty());
    relay.stop();
    assert_eq!(sink.count(), MESSAGES);
}

/// With fewer data cores the mail of the others is there, and what nobody fills any more
/// takes no room.
#[test]
fn the_files_of_a_core_that_is_no_more_go() {
    let address = place::next_address();
    let sink = Sink::at(address, EVERYTHING, []);
    let mut relay = (Setup::to(address).cores(2))
        .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
        .start();
    let send = |relay: &Relay, body: &str| {
        let text = message("for one of the cores", body);
        (relay.client()).send("<a@client.example>", &["<b@b.example>"], &text);
    };
    let mut logs: Vec<_> = fs::read_dir(relay.spool_directory())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    logs.sort_unstable();
    assert_eq!(logs.len(), 2, "{logs:?}");
    let files = |ending: &str| {
        let count = |log: &PathBuf| {
            let names = fs::read_dir(log).expect("a directory");
            let is = |name: &io::Result<fs::DirEntry>| {
                let name = name.as_ref().expect("an entry").file_name();
                name.to_string_lossy().ends_with(ending)
            };
            names.filter(is).count()
        };
        (count(&logs[0]), count(&logs[1]))
    };
    let long = "0123456789abcdef\r\n".repeat(20_000);
    eventually("each core has spares", || {
        send(&relay, &long);
        matches!(files(".spare"), (1.., 1..)).then_some(())
    });
    relay.wait_until_empty();
    drop(sink);
    for _ in 0..8 {
        send(&relay, "text");
    }
    let queued = relay.queued();
    relay.stop();
    assert!(files(".spare").1 > 0);
    relay.change(|setup| setup.cores(1));
    relay.start_again();
    assert_eq!(files(".spare").1, 0);
    assert_eq!(relay.queued(), queued);
    let sink = Sink::at(address, EVERYTHING, []);
    sink.wait_for(8);
    relay.wait_until_empty();
    // One stays: it tells which queue ids that core has given.
    eventually("what is empty of the other core's log goes", || {
        matches!(files(".segment"), (1.., 1)).then_some(())
    });
    assert_eq!(files(".spare").1, 0);
    relay.stop();
}

/// A delivery that is under way is finished, or the message is there again after
/// the next start.
#[test]
fn a_delivery_under_way_is_not_lost() {
    let gate = Gate::new();
    let sink = Sink::ruled([on(Stage::End).times(1).hold(&gate)]);
    let mut relay = Setup::to(sink.address()).start();
    let sent = message("under way", "text");
    relay
        .client()
        .send("<a@client.example>", &["<b@b.example>"], &sent);
    eventually("the next hop has the message", || {
        (gate.arrived() == 1).then_some(())
    });
    relay.signal(Signal::TERM);
    gate.open();
    relay.wait_for_stop();
    relay.start_again();
    let mail = sink.wait_for(1);
    relay.wait_until_empty();
    for copy in &mail {
        assert_identical(&copy.octets, &sent);
    }
}

#[test]
fn a_reload_is_for_new_sessions() {
    let (before, after) = (Sink::new(), Sink::new());
    let mut relay = Setup::to(before.address())
        .limits("recipients = 100")
        .start();
    let mut old = relay.client();
    old.expect("MAIL FROM:<a@client.example>", 250);
    old.expect("RCPT TO:<old@b.example>", 250);
    let directory = relay.directory().to_owned();
    relay.change(|setup| {
        setup
            .limits("recipients = 200\nmessage_size = \"1MiB\"")
            .route("new.example", after.address())
    });
    assert!(directory.exists());
    relay.reload();
    let mut new = eventually("new sessions have the new settings", || {
        let mut client = relay.client();
        let hello = client.hello();
        let new = hello.lines.contains(&format!("SIZE {}", 1 << 20));
        new.then_some(client)
    });
    // The session that was open goes on in its transaction.
    let sent = message("old session", "text");
    let reply = old.data(&sent);
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_identical(&before.wait_for_one().octets, &sent);
    old.expect("NOOP", 250);
    // The new route is obeyed.
    let sent = message("new session", "text");
    new.send("<a@client.example>", &["<b@new.example>"], &sent);
    assert_identical(&after.wait_for_one().octets, &sent);
    relay.assert_running();
    relay.stop();
}

#[test]
fn a_bad_reload_changes_nothing() {
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .limits("message_size = \"2MiB\"")
        .start();
    let mut old = relay.client();
    let bad = "[relay]\nnetworks = [\"0.0.0.0/0\"]\n[limits]\nmessage_size = \"1MiB\"\n";
    relay.reload_text(bad);
    eventually("the error is in the log", || {
        relay.log().contains("0.0.0.0/0").then_some(())
    });
    relay.assert_running();
    old.expect("NOOP", 250);
    let mut new = relay.client();
    let hello = new.hello();
    assert!(
        hello.lines.contains(&format!("SIZE {}", 2 << 20)),
        "{hello:?}"
    );
    let sent = message("still here", "text");
    new.send("<a@client.example>", &["<b@b.example>"], &sent);
    assert_identical(&sink.wait_for_one().octets, &sent);
    relay.stop();
}
