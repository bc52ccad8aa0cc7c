//! A server that is killed while a link is up, and what the next one makes of the link.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::message::{assert_identical, message};
use crate::harness::{Relay, Setup, Sink, eventually};
use crate::link::Line;

/// Idle for long enough that the first server does not hang up by itself.
const LONG: &str = "hang_up = { idle = \"1h\" }\n";
const SHORT: &str = "hang_up = { idle = \"1s\" }\n";

fn link(relay: &Relay) -> Value {
    relay.facts(&["link", "status"])[0]["links"][0].clone()
}

fn outing(relay: &Relay) -> Value {
    relay.facts(&["link", "history"])[0][0]["outings"][0].clone()
}

fn send(relay: &Relay, subject: &str) -> Vec<u8> {
    let text = message(subject, "text");
    let mut client = relay.client();
    client.send("<a@client.example>", &["<b@b.example>"], &text);
    text
}

/// What the file in the spool says of the first link.
fn kept(relay: &Relay) -> Value {
    let file = relay.spool_directory().join("links.json");
    let text = fs::read_to_string(file).expect("it is there");
    let kept: Value = serde_json::from_str(&text).expect("it is whole");
    kept["links"]["isp"]["left_open"].clone()
}

/// It drains, hangs up, and the time that nobody was there is on the bill.
#[test]
fn what_a_killed_server_left_open_is_hung_up() {
    let line = Line::new();
    let sink = Sink::new();
    let budget = "budget = { per = \"month\", seconds = 3600 }\ngo_up = { messages = 1 }\n";
    let mut relay = Setup::to(sink.address())
        .site(&line.link("isp", &format!("{LONG}{budget}")))
        .at_noon()
        .start();
    relay.facts(&["link", "up"]);
    eventually("it is known to be up", || {
        (kept(&relay)["up"] == true).then_some(())
    });
    relay.kill();
    let away = std::time::Instant::now();
    assert_eq!(line.done(), ["up"]);
    eventually("nobody is there for some time", || {
        (away.elapsed() > Duration::from_secs(3)).then_some(())
    });
    let short = line.link("isp", &format!("{SHORT}{budget}"));
    relay.change(|_| Setup::to(sink.address()).site(&short).at_noon());
    relay.start_again();
    let sent = send(&relay, "one");
    assert_identical(&sink.wait_for_one().octets, &sent);
    eventually("it hangs up", || {
        (line.done() == ["up", "down"]).then_some(())
    });
    eventually("the link is down", || {
        (link(&relay)["state"] == "down").then_some(())
    });
    let status = link(&relay);
    assert!(
        status["budget"]["seconds_spent"].as_u64() >= Some(4),
        "{status}"
    );
    let outing = outing(&relay);
    assert_eq!(outing["ours"], true, "{outing}");
    assert_eq!(outing["messages"], 1, "{outing}");
    let why = "we opened it earlier, and it was not hung up";
    assert_eq!(outing["why"], why, "{outing}");
    assert_eq!(kept(&relay), Value::Null);
    relay.stop();
}

/// Whoever asks is told whose it is, and a stop hangs up.
#[test]
fn a_stop_hangs_up_what_was_left_open() {
    let line = Line::new();
    let mut relay = Setup::new().site(&line.link("isp", LONG)).start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (line.done() == ["up"]).then_some(()));
    // Perhaps still in the middle of the dial.
    relay.kill();
    relay.start_again();
    eventually("it is ours", || {
        (link(&relay)["ours"] == true).then_some(())
    });
    let text = relay.run(&["link", "status"]).stdout;
    assert!(
        text.contains("opened by us (we opened it earlier"),
        "{text}"
    );
    relay.stop();
    assert_eq!(line.done(), ["up", "down"]);
}

/// A link that somebody else opened is left as it is, whoever was killed.
#[test]
fn what_others_opened_is_not_closed_after_a_kill() {
    let line = Line::new();
    fs::write(line.path("line"), "").expect("it is written");
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .site(&line.link("isp", SHORT))
        .start();
    send(&relay, "one");
    sink.wait_for(1);
    relay.kill();
    relay.start_again();
    send(&relay, "two");
    sink.wait_for(2);
    assert_eq!(link(&relay)["ours"], false);
    relay.stop();
    assert_eq!(line.done(), [""; 0]);
    assert!(line.path("line").exists());
}

/// Seen down by a start, it is no more ours: nor without the file, or after a boot.
#[test]
fn what_has_gone_or_is_not_known_is_not_ours() {
    let lost = |relay: &Relay, line: &Line| {
        let file = relay.spool_directory().join("links.json");
        fs::remove_file(file).expect("it was there");
        assert!(line.path("line").exists());
    };
    let booted = |relay: &Relay, _: &Line| {
        let file = relay.spool_directory().join("links.json");
        let text = fs::read_to_string(&file).expect("it is there");
        let mut kept: Value = serde_json::from_str(&text).expect("it is whole");
        kept["kept_at"]["boot"] = "another".into();
        fs::write(&file, kept.to_string()).expect("it is written");
    };
    let check = |what: &dyn Fn(&Relay, &Line)| {
        let line = Line::new();
        let mut relay = Setup::new().site(&line.link("isp", LONG)).start();
        relay.facts(&["link", "up"]);
        eventually("it is known to be up", || {
            (kept(&relay)["up"] == true).then_some(())
        });
        relay.kill();
        what(&relay, &line);
        relay.start_again();
        eventually("it is somebody else's", || {
            (link(&relay)["ours"] == false).then_some(())
        });
        relay.stop();
        assert_eq!(line.done(), ["up"]);
    };
    check(&lost);
    check(&booted);
}
