//! `turnspool demo`: a provider, a site and a line, without rights and without a terminal.

use std::fs;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::eventually;

const QUICK: &[&str] = &[
    "--messages=7",
    "--sent=3",
    "--bandwidth=10000000",
    "--round-trip=20ms",
];

/// The command, with a directory for what it leaves behind.
fn demo(arguments: &[&str]) -> (Command, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnspool"));
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null());
    (command, directory)
}

#[track_caller]
fn assert_nothing_left(directory: &TempDir) {
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("it is there")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).expect("UTF-8")
}

#[track_caller]
fn assert_done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn it_shows_what_happens() {
    let (mut command, directory) = demo(QUICK);
    let output = command.output().expect("it runs");
    assert_done(&output);
    let text = text(&output.stdout);
    for expected in [
        "7 messages for the site wait at the provider",
        "the site dials: 3 messages wait",
        "the link is up: the site sends, and asks by ETRN",
        "the site's own mail has gone",
        "the mail that waited at the provider has come",
        "nothing was left to do for 2s: the site hangs up",
        "the link is down",
        "messages         7 received, 3 sent",
        "round trips",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no terminal, no escapes:\n{text}");
    assert_nothing_left(&directory);
}

/// Over the connection that asked: nobody calls back.
#[test]
fn by_atrn() {
    let (mut command, directory) = demo(&[QUICK, &["--json", "--by=atrn"]].concat());
    let output = command.output().expect("it runs");
    assert_done(&output);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(summary["messages_received"], 7, "{summary}");
    assert_eq!(summary["messages_sent"], 3, "{summary}");
    assert_nothing_left(&directory);
}

/// Several messages are on the way at once: not one round trip for each.
#[test]
fn by_atrn_in_few_round_trips() {
    let line = [
        "--messages=60",
        "--sent=1",
        "--size=2000",
        "--round-trip=100ms",
    ];
    let (mut command, directory) =
        demo(&[&line[..], &["--bandwidth=10000000", "--json", "--by=atrn"]].concat());
    let output = command.output().expect("it runs");
    assert_done(&output);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(summary["messages_received"], 60, "{summary}");
    let round_trips = summary["round_trips"].as_u64().expect("a number");
    assert!(round_trips < 45, "{summary}");
    assert_nothing_left(&directory);
}

#[test]
fn its_summary_is_json() {
    let (mut command, directory) = demo(&[QUICK, &["--json", "--size=10000"]].concat());
    let output = command.output().expect("it runs");
    assert_done(&output);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(summary["messages_received"], 7, "{summary}");
    assert_eq!(summary["messages_sent"], 3, "{summary}");
    let octets = |name: &str| summary[name].as_u64().expect("a number");
    // The messages themselves went over the line, and not twice.
    assert!(
        (70_000..100_000).contains(&octets("received_octets")),
        "{summary}"
    );
    assert!(
        (30_000..50_000).contains(&octets("sent_octets")),
        "{summary}"
    );
    assert!(octets("round_trips") >= octets("connections"), "{summary}");
    assert!(
        text(&output.stderr).contains("the link is down"),
        "{output:?}"
    );
    assert_nothing_left(&directory);
}

/// Control-C: nothing is left, neither servers nor files.
#[test]
fn interrupted() {
    let (mut command, directory) = demo(&["--messages=2000", "--bandwidth=1000"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it runs");
    eventually("there is a line of progress", || {
        let mut within = fs::read_dir(directory.path()).ok()?;
        let home = within.next()?.ok()?.path();
        home.join("line-is-up").exists().then_some(())
    });
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted"), "{output:?}");
    assert_nothing_left(&directory);
}

#[test]
fn arguments_out_of_bounds() {
    let (mut command, directory) = demo(&["--round-trip=1h"]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("0s to 10s"), "{output:?}");
    assert_nothing_left(&directory);
}
