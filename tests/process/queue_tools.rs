//! `turnspool queue`: what waits is seen, held, released and deleted.

use serde_json::Value;

use crate::harness::message::{assert_identical, message};
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, eventually, place};

/// A relay whose next hop is down, with these messages: sender, recipient, octets
/// of body.
fn relay_with(messages: &[(&str, &str, usize)]) -> (Relay, Vec<String>) {
    let relay = Setup::to(place::next_address())
        .held("held.example")
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .start();
    let mut client = relay.client();
    let ids = messages.iter().map(|(sender, recipient, octets)| {
        let text = message(sender, &"x".repeat(*octets));
        client.send(sender, &[recipient], &text)
    });
    let ids = ids.collect();
    (relay, ids)
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn ids_of(entries: &[Value]) -> Vec<String> {
    let id = |entry: &Value| entry["id"].as_str().expect("an id").to_owned();
    sorted(entries.iter().map(id).collect())
}

#[test]
fn list_and_show() {
    let (mut relay, ids) = relay_with(&[
        ("<a@client.example>", "<b@b.example>", 10),
        ("<c@client.example>", "<d@d.example>", 5000),
        ("<>", "<b@held.example>", 10),
    ]);
    let check = |relay: &Relay, arguments: &[&str], expected: &[usize]| {
        let arguments = [&["queue", "list"], arguments].concat();
        let got = ids_of(&relay.facts(&arguments));
        let expected = sorted(expected.iter().map(|&i| ids[i].clone()).collect());
        assert_eq!(got, expected, "{arguments:?}");
    };
    check(&relay, &[], &[0, 1, 2]);
    check(&relay, &["--domain", "b.example"], &[0]);
    check(&relay, &["--domain", "nobody.example"], &[]);
    check(&relay, &["--sender", "c@client.example"], &[1]);
    check(&relay, &["--sender", "<>"], &[2]);
    check(&relay, &["--recipient", "b@held.example"], &[2]);
    check(&relay, &["--larger", "4KiB"], &[1]);
    check(&relay, &["--older", "4h"], &[]);
    check(&relay, &["--state", "held"], &[2]);
    let page = relay.facts(&["queue", "list", "--limit", "2"]);
    assert_eq!(page.len(), 2);
    let last = page[1]["id"].as_str().expect("an id");
    let rest = relay.facts(&["queue", "list", "--after", last]);
    assert_eq!(rest.len(), 1);
    assert_eq!(
        sorted([ids_of(&page), ids_of(&rest)].concat()),
        sorted(ids.clone())
    );

    let shown = relay.facts(&["queue", "show", &ids[1]]);
    let shown = &shown[0];
    assert_eq!(shown["id"], ids[1].as_str(), "{shown}");
    assert_eq!(shown["sender"], "c@client.example", "{shown}");
    assert_eq!(shown["recipients_total"], 1, "{shown}");
    assert_eq!(shown["shown"][0]["recipient"], "d@d.example", "{shown}");
    assert!(
        shown["octets"].as_u64().is_some_and(|octets| octets > 5000),
        "{shown}"
    );
    eventually("the failed try is seen", || {
        let shown = relay.facts(&["queue", "show", &ids[1]]);
        (shown[0]["state"] == "deferred").then_some(())
    });
    // For people: each id in a table.
    let text = relay.run(&["queue", "list"]).stdout;
    assert!(ids.iter().all(|id| text.contains(id.as_str())), "{text}");
    // Reading changes nothing.
    check(&relay, &[], &[0, 1, 2]);
    relay.stop();
}

#[test]
fn a_held_domain_waits_for_its_release() {
    let sink = Sink::new();
    let address = sink.address();
    let relay = Setup::to(address).held("held.example").start();
    let mut client = relay.client();
    let (held, free) = (message("held", "text"), message("free", "text"));
    let id = client.send("<a@client.example>", &["<b@held.example>"], &held);
    client.send("<a@client.example>", &["<b@b.example>"], &free);
    assert_identical(&sink.wait_for_one().octets, &free);
    eventually("only the held one is left", || {
        (relay.queued() == [id.clone()]).then_some(())
    });
    let shown = relay.facts(&["queue", "show", &id]);
    assert_eq!(shown[0]["state"], "held", "{shown:?}");
}

#[test]
fn hold_and_release() {
    let address = place::next_address();
    let mut relay = Setup::to(address).start();
    let mut client = relay.client();
    let texts: Vec<Vec<u8>> = (0..3)
        .map(|i| message(&format!("hold {i}"), "text"))
        .collect();
    let ids: Vec<String> = (texts.iter().enumerate())
        .map(|(i, text)| client.send("<a@client.example>", &[&format!("<b{i}@b.example>")], text))
        .collect();
    let changed = relay.facts(&["queue", "hold", &ids[0], &ids[1]]);
    assert_eq!(changed[0]["changed"], 2, "{changed:?}");
    let sink = Sink::at(address, EVERYTHING, []);
    // The third goes, the others stay: held is held, whatever the next hop does.
    assert_identical(&sink.wait_for_one().octets, &texts[2]);
    let expected = sorted(ids[..2].to_vec());
    eventually("the held ones are left", || {
        (sorted(relay.queued()) == expected).then_some(())
    });
    // Also over a restart.
    relay.stop();
    relay.start_again();
    let held = relay.facts(&["queue", "list", "--state", "held"]);
    assert_eq!(ids_of(&held), expected);
    let changed = relay.facts(&["queue", "release", &ids[0]]);
    assert_eq!(changed[0]["changed"], 1, "{changed:?}");
    let mail = sink.wait_for(2);
    assert_identical(&mail[1].octets, &texts[0]);
    let changed = relay.facts(&["queue", "release", "--recipient", "b1@b.example"]);
    assert_eq!(changed[0]["changed"], 1, "{changed:?}");
    let mail = sink.wait_for(3);
    assert_identical(&mail[2].octets, &texts[1]);
    relay.wait_until_empty();
    relay.stop();
}

/// A release does not wait for the timer of a retry.
#[test]
fn a_release_is_a_try_at_once() {
    let address = place::next_address();
    let relay = Setup::to(address)
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .start();
    let sent = message("at once", "text");
    let id = relay
        .client()
        .send("<a@client.example>", &["<b@b.example>"], &sent);
    eventually("the first try has failed", || {
        let shown = relay.facts(&["queue", "show", &id]);
        (shown[0]["state"] == "deferred").then_some(())
    });
    let sink = Sink::at(address, EVERYTHING, []);
    relay.facts(&["queue", "release", "--all"]);
    assert_identical(&sink.wait_for_one().octets, &sent);
    relay.wait_until_empty();
}

#[test]
fn delete() {
    let (mut relay, ids) = relay_with(&[
        ("<a@client.example>", "<b@b.example>", 10),
        ("<c@client.example>", "<d@d.example>", 10),
        ("<c@client.example>", "<d@held.example>", 10),
    ]);
    let changed = relay.facts(&["queue", "delete", &ids[0]]);
    assert_eq!(changed[0]["changed"], 1, "{changed:?}");
    assert_eq!(sorted(relay.queued()), sorted(ids[1..].to_vec()));
    // Deleted is deleted, also after a restart.
    relay.stop();
    relay.start_again();
    assert_eq!(sorted(relay.queued()), sorted(ids[1..].to_vec()));
    // What is not there is said so, with exit code 1.
    let finished = relay.run(&["queue", "delete", &ids[0]]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let finished = relay.run(&["queue", "show", &ids[0]]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    // Without a selection nothing is deleted.
    let finished = relay.run(&["queue", "delete"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert_eq!(relay.queued().len(), 2);
    let changed = relay.facts(&["queue", "delete", "--sender", "c@client.example"]);
    assert_eq!(changed[0]["changed"], 2, "{changed:?}");
    assert!(relay.queued().is_empty());
    relay.stop();
}

/// Without a server: exit 1 or 75, and a sentence that says what to look at.
#[test]
fn without_a_server() {
    let mut relay = Setup::new().start();
    relay.stop();
    let finished = relay.run(&["queue", "list"]);
    assert!(matches!(finished.code, Some(1 | 75)), "{finished:?}");
    assert!(finished.stderr.contains("admin.sock"), "{finished:?}");
    assert!(finished.stderr.contains("running"), "{finished:?}");
}

/// The spool on disk, read without a server.
#[test]
fn spool_verify_and_stat() {
    let (mut relay, ids) = relay_with(&[
        ("<a@client.example>", "<b@b.example>", 10),
        ("<c@client.example>", "<d@d.example>", 200_000),
    ]);
    relay.stop();
    let directory = relay.spool_directory();
    let directory = directory.to_str().expect("UTF-8");
    let finished = relay.run(&["spool", "verify", directory]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let finished = relay.run(&["spool", "stat", directory]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let finished = relay.run(&["spool", "dump", directory]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for id in &ids {
        assert!(
            finished.stdout.contains(id.as_str()),
            "no {id} in {finished:?}"
        );
    }
    // They never write: the server finds everything as it was.
    relay.start_again();
    assert_eq!(sorted(relay.queued()), sorted(ids));
}
