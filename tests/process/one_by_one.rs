//! Messages that the operator releases one by one from what is held for a customer.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::message::{assert_identical, message};
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, Stage, eventually, on, place};

const SENDER: &str = "<a@client.example>";

fn customer(name: &str, deliver_to: &str, lines: &str) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"{deliver_to}\"\n{lines}\n"
    )
}

fn send(relay: &Relay, to: &str, text: &[u8]) -> String {
    relay.client().send(SENDER, &[&format!("<{to}>")], text)
}

/// State and next hop of a message, as `queue list` tells them.
fn listed(relay: &Relay, id: &str) -> Option<(String, String)> {
    let list = relay.facts(&["queue", "list"]);
    let entry = list.iter().find(|entry| entry["id"] == id)?;
    let word = |name: &str| entry[name].as_str().expect("a word").to_owned();
    Some((word("state"), word("next_hop")))
}

#[track_caller]
fn is_held(relay: &Relay, id: &str) {
    let expected = (
        "held".to_owned(),
        "held for branch (branch.example)".to_owned(),
    );
    assert_eq!(listed(relay, id), Some(expected), "{id}");
}

fn release(relay: &Relay, arguments: &[&str]) -> (Option<i32>, Value) {
    let finished = relay.run(&[&["queue", "release", "--json"], arguments].concat());
    let sum = serde_json::from_str(&finished.stdout);
    (
        finished.code,
        sum.unwrap_or_else(|_| panic!("{finished:?}")),
    )
}

#[test]
fn one_goes_and_the_rest_stays() {
    let site = Sink::new();
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer(
            "branch",
            &site.address().to_string(),
            "release = { open = true }",
        ))
        .start();
    let texts: Vec<Vec<u8>> = (0..3)
        .map(|i| message(&format!("message {i}"), "text"))
        .collect();
    let ids: Vec<String> = (texts.iter().enumerate())
        .map(|(i, text)| send(&relay, &format!("b{i}@branch.example"), text))
        .collect();
    ids.iter().for_each(|id| is_held(&relay, id));
    let (code, sum) = release(&relay, &[&ids[1]]);
    assert_eq!(code, Some(0), "{sum}");
    assert_eq!((&sum["changed"], &sum["held"]), (&1.into(), &0.into()));
    assert_identical(&site.wait_for_one().octets, &texts[1]);
    eventually("it has gone", || {
        listed(&relay, &ids[1]).is_none().then_some(())
    });
    is_held(&relay, &ids[0]);
    is_held(&relay, &ids[2]);
    // What comes for the customer is held as before, and the customer's own call lets
    // the rest go, each once.
    let late = message("late", "text");
    let late_id = send(&relay, "b9@branch.example", &late);
    is_held(&relay, &late_id);
    let (code, sum) = release(&relay, &["--recipient", "b2@branch.example"]);
    assert_eq!((code, &sum["changed"]), (Some(0), &1.into()), "{sum}");
    assert_identical(&site.wait_for(2)[1].octets, &texts[2]);
    eventually("it has gone", || (relay.queued().len() == 2).then_some(()));
    relay.client().expect("ETRN branch.example", 253);
    site.wait_for(4);
    relay.wait_until_empty();
    assert_eq!(site.count(), 4);
    eventually("the release is over", || {
        let log = relay.log();
        log.contains("nothing is held any more").then_some(())
    });
    relay.stop();
}

/// The site is away: what was let go is tried again, over a crash and a reload too, and says
/// so; it can be taken back, and a release of the whole takes it along.
#[test]
fn what_is_let_go_is_tried_again_over_a_restart() {
    let address = place::next_address();
    let branch = customer("branch", &address.to_string(), "release = { open = true }");
    let mut relay = Setup::new().cores(2).customer(&branch).start();
    let texts = ["goes", "back", "stays"].map(|name| message(name, "text"));
    let ids = [0, 1, 2].map(|i| send(&relay, &format!("b{i}@branch.example"), &texts[i]));
    for id in &ids[..2] {
        assert_eq!(release(&relay, &[id]).0, Some(0));
    }
    let site_of = "site of branch (branch.example)";
    let waits_for_the_site = |relay: &Relay, id: &str| {
        eventually("it is tried and waits for its next try", || {
            let (state, next_hop) = listed(relay, id)?;
            (state == "deferred" && next_hop == site_of).then_some(())
        });
    };
    ids[..2]
        .iter()
        .for_each(|id| waits_for_the_site(&relay, id));
    is_held(&relay, &ids[2]);
    // The overview tells the two apart.
    let status = relay.facts(&["status"]).remove(0);
    let gates: Vec<_> = (status["live"]["queues"].as_array().expect("queues").iter())
        .map(|queue| {
            (
                queue["next_hop"].as_str(),
                queue["gate"].as_str(),
                queue["messages"].as_u64(),
            )
        })
        .collect();
    for expected in [
        (Some(site_of), Some("resting"), Some(2)),
        (
            Some("held for branch (branch.example)"),
            Some("held"),
            Some(1),
        ),
    ] {
        assert!(gates.contains(&expected), "{gates:?}");
    }
    // Taken back: held with the rest again.
    let back = relay.facts(&["queue", "requeue", &ids[1]]);
    assert_eq!(back[0]["changed"], 1, "{back:?}");
    is_held(&relay, &ids[1]);
    relay.kill();
    relay.start_again();
    waits_for_the_site(&relay, &ids[0]);
    is_held(&relay, &ids[1]);
    is_held(&relay, &ids[2]);
    relay.reload();
    waits_for_the_site(&relay, &ids[0]);
    // On hold by itself it waits for its own release, whatever else is released.
    relay.facts(&["queue", "hold", &ids[0]]);
    assert_eq!(listed(&relay, &ids[0]).expect("it is there").0, "held");
    let site = Sink::at(address, EVERYTHING, []);
    assert_eq!(release(&relay, &[&ids[0]]).0, Some(0));
    assert_identical(&site.wait_for_one().octets, &texts[0]);
    eventually("it has gone", || (relay.queued().len() == 2).then_some(()));
    relay.client().expect("ETRN branch.example", 253);
    site.wait_for(3);
    relay.wait_until_empty();
    assert_eq!(site.count(), 3);
    relay.stop();
}

/// The site takes one of them later: that is no reason to let the others go, and no end of
/// the release.
#[test]
fn what_the_site_puts_off_stays_let_go() {
    let site = Sink::ruled([on(Stage::Rcpt).times(1).reply("450 4.2.0 not now")]);
    let relay = Setup::new()
        .customer(&customer("branch", &site.address().to_string(), ""))
        .start();
    let text = message("later", "text");
    let id = send(&relay, "b@branch.example", &text);
    let other = send(&relay, "c@branch.example", &message("held", "text"));
    assert_eq!(release(&relay, &[&id]).0, Some(0));
    eventually("it was put off", || {
        let (state, _) = listed(&relay, &id)?;
        (state == "deferred").then_some(())
    });
    let shown = relay.facts(&["queue", "show", &id]);
    assert!(shown[0]["next_attempt"].is_string(), "{shown:?}");
    is_held(&relay, &other);
    // A release of the customer tries it at once, with the rest.
    let released = relay.facts(&["release", "branch"]);
    assert_eq!(released[0]["messages"], 2);
    site.wait_for(2);
    relay.wait_until_empty();
}

/// A site that has to be woken is woken for one message, and tried when it is awake.
#[test]
fn a_site_is_woken_for_one_message() {
    let address = place::next_address();
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let script = format!(
        "#!/bin/sh\necho \"$TURNSPOOL_CUSTOMER\" >>{}\nwhile ! test -e {}; do sleep 0.1; done\n",
        path("told").display(),
        path("awake").display()
    );
    std::fs::write(path("dial"), script).expect("it is written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path("dial"), mode).expect("it is ours");
    let wake = format!("wake_command = [\"{}\"]", path("dial").display());
    let mut relay = Setup::new()
        .customer(&customer("branch", &address.to_string(), &wake))
        .start();
    let texts = ["one", "two", "three"].map(|name| message(name, "text"));
    let ids = [0, 1, 2].map(|i| send(&relay, "b@branch.example", &texts[i]));
    assert_eq!(release(&relay, &[&ids[0], &ids[1]]).0, Some(0));
    eventually("it was tried while it slept", || {
        relay.log().contains("next-hop-unreachable").then_some(())
    });
    let site = Sink::at(address, EVERYTHING, []);
    std::fs::write(path("awake"), "").expect("it is written");
    site.wait_for(2);
    eventually("they are through", || {
        (relay.queued() == [ids[2].clone()]).then_some(())
    });
    let told = std::fs::read_to_string(path("told")).expect("it ran");
    assert_eq!(told, "branch\n", "once for both");
    let log = relay.log();
    let words = "release of branch (messages released one by one), by wake_command: ";
    assert!(log.contains(words), "{log}");
    relay.stop();
}

/// Who is never called gets its mail when it calls: nothing is said to be released.
#[test]
fn what_waits_for_a_caller_is_not_called_released() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("branch.secret");
    std::fs::write(&secret, "a secret of the branch\n").expect("it is written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).expect("it is ours");
    let login = format!(
        "user = \"branch\"\npassword_file = \"{}\"",
        secret.display()
    );
    let relay = Setup::new()
        .customer(&customer("branch", "caller", &login))
        .held("held.example")
        .start();
    let id = send(&relay, "b@branch.example", &message("waits", "text"));
    let routed = send(&relay, "b@held.example", &message("waits", "text"));
    let finished = relay.run(&["queue", "release", &id]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in [
        "0 messages released",
        "1 message not released",
        "when it calls",
    ] {
        assert!(finished.stdout.contains(part), "{part}: {finished:?}");
    }
    is_held(&relay, &id);
    // Nor what a route holds, without a host to go to.
    let finished = relay.run(&["queue", "release", &routed]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stdout.contains("queue requeue --to"),
        "{finished:?}"
    );
    let (code, sum) = release(&relay, &["--all"]);
    assert_eq!(code, Some(1));
    assert_eq!((&sum["changed"], &sum["held"]), (&0.into(), &2.into()));
    assert_eq!(sum["waits"]["for-call"], 1, "{sum}");
    assert_eq!(sum["waits"]["for-route"], 1, "{sum}");
}
