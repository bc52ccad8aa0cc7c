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

/// Mail that a route holds has no host to go to: the operator is told so, and what sends it,
/// and not that it is done.
#[test]
fn what_is_held_with_its_queue_is_not_called_released() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).held("held.example").start();
    let mut client = relay.client();
    let text = message("held", "text");
    let id = client.send("<a@client.example>", &["<b@held.example>"], &text);
    let finished = relay.run(&["queue", "release", &id]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in [
        "0 messages released",
        "1 message not released",
        "queue requeue --to",
    ] {
        assert!(finished.stdout.contains(part), "{finished:?}");
    }
    let finished = relay.run(&["queue", "release", "--domain", "held.example", "--json"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let sum: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((&sum["changed"], &sum["held"]), (&0.into(), &1.into()));
    // On hold by itself too: that is gone, and its queue still waits.
    relay.facts(&["queue", "hold", &id]);
    assert_eq!(relay.run(&["queue", "release", &id]).code, Some(1));
    assert_eq!(relay.queued(), [id]);
    // Its queue is not named after a customer that is not there.
    let listed = relay.facts(&["queue", "list"]);
    assert_eq!(listed[0]["next_hop"], "held (held.example)", "{listed:?}");
    assert_eq!(sink.count(), 0);
}

/// By what the queue knows and by what only envelopes tell; a message that goes several ways
/// is found by each of them.
#[test]
fn by_customer_and_by_domain() {
    let customer = |name: &str| {
        format!(
            "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\", \
             \".{name}.example\"]\ndeliver_to = \"{}\"\nrelease = {{ open = true }}\n",
            place::next_address()
        )
    };
    let relay = Setup::to(place::next_address())
        .customer(&format!("{}{}", customer("one"), customer("two")))
        .route("routed.example", place::next_address())
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .cores(2)
        .start();
    let mut client = relay.client();
    let mut send =
        |recipients: &[&str]| client.send("<a@client.example>", recipients, &message("x", "text"));
    let ids = [
        send(&["<b@one.example>"]),
        send(&["<b@x.one.example>"]),
        send(&["<b@two.example>", "<b@routed.example>"]),
        send(&["<b@smart.example>", "<b@one.example>", "<c@two.example>"]),
        send(&["<b@smart.example>"]),
    ];
    let check = |arguments: &[&str], expected: &[usize]| {
        let arguments = [&["queue", "list"], arguments].concat();
        let got = ids_of(&relay.facts(&arguments));
        let expected = sorted(expected.iter().map(|&i| ids[i].clone()).collect());
        assert_eq!(got, expected, "{arguments:?}");
    };
    check(&["--customer", "one"], &[0, 1, 3]);
    check(&["--customer", "two"], &[2, 3]);
    let unknown = relay.run(&["queue", "list", "--customer", "three"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(
        unknown.stderr.contains("no customer \"three\""),
        "{unknown:?}"
    );
    let unknown = relay.run(&["queue", "release", "--customer", "on"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    check(&["--domain", "one.example"], &[0, 3]);
    check(&["--domain", "x.one.example"], &[1]);
    check(&["--domain", "routed.example"], &[2]);
    check(&["--domain", "smart.example"], &[3, 4]);
    check(&["--domain", "example"], &[]);
    check(&["--customer", "one", "--domain", "smart.example"], &[3]);
    check(&["--customer", "two", "--domain", "one.example"], &[3]);
    check(&["--customer", "two", "--recipient", "c@two.example"], &[3]);
    check(&["--customer", "one", "--state", "held"], &[0, 1]);
    // And what is changed is what is listed.
    let held = relay.facts(&["queue", "hold", "--customer", "two"]);
    assert_eq!(held[0]["changed"], 2, "{held:?}");
    check(&["--state", "held"], &[0, 1, 2, 3]);
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

/// The ids of a data core come before those of the next one: each message is changed once
/// all the same, and counted once.
#[test]
fn a_predicate_changes_each_message_once() {
    let relay = Setup::to(place::next_address())
        .cores(2)
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .start();
    // More than a page of a core, on both.
    let messages = 700;
    let mut sent = 0;
    while sent < messages {
        let mut client = relay.client();
        for _ in 0..20 {
            let text = message("many", "text");
            client.send("<a@client.example>", &["<b@b.example>"], &text);
            sent += 1;
        }
    }
    let all = relay.queued();
    assert_eq!(all.len(), messages);
    let first_letters: std::collections::BTreeSet<_> = all.iter().map(|id| &id[..3]).collect();
    assert!(first_letters.len() > 1, "one core took all of it");
    let held = relay.facts(&["queue", "hold", "--domain", "b.example"]);
    assert_eq!(held[0]["changed"], messages, "{held:?}");
    eventually("each is told", || {
        (relay.log().matches("held by the operator").count() >= messages).then_some(())
    });
    let lines = relay.log().matches("held by the operator").count();
    assert_eq!(lines, messages, "each is told once");
    let held = relay.facts(&["queue", "list", "--state", "held"]);
    assert_eq!(held.len(), messages);
    let deleted = relay.facts(&["queue", "delete", "--sender", "a@client.example"]);
    assert_eq!(deleted[0]["changed"], messages, "{deleted:?}");
    assert!(relay.queued().is_empty());
}

/// Another way holds for what waits, over a restart and over a reload, until it is taken
/// back; and only for the messages that were named.
#[test]
fn requeue_to_another_next_hop() {
    let (dead, other) = (place::next_address(), Sink::new());
    let mut relay = Setup::to(dead)
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .start();
    let texts: Vec<_> = (0..3)
        .map(|i| message(&format!("way {i}"), "text"))
        .collect();
    let mut client = relay.client();
    let ids: Vec<_> = (texts.iter())
        .map(|text| client.send("<a@client.example>", &["<b@b.example>"], text))
        .collect();
    // Held, so that it is still there after the restart.
    relay.facts(&["queue", "hold", &ids[0], &ids[1]]);
    let to = format!("smtp://{}", other.address());
    let finished = relay.run(&["queue", "requeue", &ids[0], &ids[1], "--to", &to]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stdout.contains("2 messages sent another way"),
        "{finished:?}"
    );
    let shown = relay.facts(&["queue", "show", &ids[0]]);
    assert_eq!(shown[0]["next_hop"], to.as_str(), "{shown:?}");
    relay.stop();
    relay.start_again();
    let shown = relay.facts(&["queue", "show", &ids[0]]);
    assert_eq!(shown[0]["next_hop"], to.as_str(), "{shown:?}");
    assert_eq!(shown[0]["state"], "held", "{shown:?}");
    // A reload that changes routes does not lead them back.
    relay.change(|setup| setup.route("c.example", dead));
    relay.reload();
    eventually("the reload is done", || {
        relay
            .log()
            .contains("the new configuration is in force")
            .then_some(())
    });
    let shown = relay.facts(&["queue", "show", &ids[0]]);
    assert_eq!(shown[0]["next_hop"], to.as_str(), "{shown:?}");
    // By the routes again: one of the two.
    relay.facts(&["queue", "requeue", &ids[1]]);
    let shown = relay.facts(&["queue", "show", &ids[1]]);
    assert_ne!(shown[0]["next_hop"], to.as_str(), "{shown:?}");
    relay.facts(&["queue", "release", "--all"]);
    assert_identical(&other.wait_for_one().octets, &texts[0]);
    eventually("the others are left", || {
        (sorted(relay.queued()) == sorted(ids[1..].to_vec())).then_some(())
    });
    // What is no next hop is said before anything is asked.
    let finished = relay.run(&["queue", "requeue", &ids[1], "--to", "mail.example"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(
        finished.stderr.contains("smtp://mail.example"),
        "{finished:?}"
    );
    let finished = relay.run(&["queue", "requeue", "0000000000011", "--to", "mx"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
}

/// A message leaves as a file, and comes back from it: octets, recipients, parameters and
/// the time of its arrival.
#[test]
fn export_and_import() {
    let (mut relay, _) = relay_with(&[]);
    let mut text = message("dots", "a line");
    text.extend_from_slice(b"..two dots\r\n.\r\n.one\r\n");
    let body = format!("big\r\n{}", "0123456789abcdef\r\n".repeat(20_000));
    let large = message("large", &body);
    let mut client = relay.client();
    let first = client.send(
        "<a@client.example> RET=HDRS ENVID=x+2By",
        &[
            "<b@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@b.example",
            "<c@c.example>",
        ],
        &text,
    );
    let second = client.send("<>", &["<d@d.example>"], &large);
    let out = relay.directory().join("out");
    let directory = out.to_str().expect("UTF-8");

    // One to standard output: its envelope, and then what was sent.
    let finished = relay.run(&["queue", "export", &first]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let (head, rest) = finished
        .stdout
        .split_once("Received: ")
        .expect("a trace line");
    assert!(
        head.contains("X-Turnspool-Mail: FROM:<a@client.example> RET=HDRS ENVID=x+2By\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Rcpt: TO:<b@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@b.example\r\n"),
        "{head}"
    );
    assert!(rest.ends_with("..two dots\r\n.\r\n.one\r\n"), "{rest}");
    // Several want a directory.
    let finished = relay.run(&["queue", "export", "--all"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let facts = relay.facts(&["queue", "export", "--all", "--directory", directory]);
    assert_eq!(facts[0]["exported"], 2, "{facts:?}");
    let finished = relay.run(&["queue", "export", "0000000000011"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "");
    let arrival = relay.facts(&["queue", "show", &first])[0]["arrival"].clone();
    assert_eq!(relay.queued().len(), 2, "they stay");

    // The same without a server.
    relay.stop();
    let offline = relay.directory().join("offline");
    let spool = relay.spool_directory();
    let (spool, offline_text) = (
        spool.to_str().expect("UTF-8"),
        offline.to_str().expect("UTF-8"),
    );
    let finished = relay.run(&["spool", "export", spool, "--to", offline_text]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for id in [&first, &second] {
        let name = format!("{id}.eml");
        let read =
            |directory: &std::path::Path| std::fs::read(directory.join(&name)).expect("a file");
        assert!(read(&out) == read(&offline), "{name} differs");
    }

    // And into another server.
    let sink = Sink::new();
    let other = Setup::to(sink.address()).held("d.example").start();
    let finished = other.run(&["import", "eml", directory, "--dry-run"]);
    assert!(
        finished.stdout.contains("2 messages would be imported"),
        "{finished:?}"
    );
    assert!(other.is_empty() && sink.count() == 0);
    let facts = other.facts(&["import", "eml", directory]);
    assert_eq!(facts[0]["imported"], 2, "{facts:?}");
    assert_eq!(facts[0]["recipients"], 3, "{facts:?}");
    let mail = sink.wait_until("both recipients", |mail| {
        mail.iter().map(|mail| mail.recipients.len()).sum::<usize>() == 2
    });
    assert!(mail[0].octets.ends_with(b"..two dots\r\n.\r\n.one\r\n"));
    assert!(
        mail[0].mail.contains("RET=HDRS ENVID=x+2By"),
        "{:?}",
        mail[0].mail
    );
    let recipients: Vec<_> = mail
        .iter()
        .flat_map(|mail| mail.recipients.clone())
        .collect();
    assert!(
        recipients
            .contains(&"<b@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@b.example".to_owned()),
        "{recipients:?}"
    );
    // Twice is once.
    let facts = other.facts(&["import", "eml", directory]);
    assert_eq!(
        (&facts[0]["imported"], &facts[0]["imported_before"]),
        (&0.into(), &2.into())
    );
    let held = other.facts(&["queue", "list"]);
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0]["sender"], "", "{held:?}");
    assert!(held[0]["octets"].as_u64() > Some(300_000), "{held:?}");
    let seconds = |value: &Value| value.as_str().map(|text| text[..16].to_owned());
    assert_eq!(
        seconds(&held[0]["arrival"]),
        seconds(&arrival),
        "it keeps its time"
    );
}
