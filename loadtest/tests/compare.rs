//! The command itself, around servers that are our own sink and link.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port()
}

fn server(directory: &Path, name: &str, lines: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, format!("NAME={name}\nPORT={}\n{lines}\n", port())).expect("written");
    path.to_str().expect("a plain path").to_owned()
}

fn compare(arguments: &[&str]) -> Output {
    let common = [
        "compare",
        "--rounds",
        "2",
        "--messages",
        "300",
        "--pipelining",
        "group",
    ];
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(common)
        .args(arguments)
        .output()
        .expect("the command runs")
}

#[test]
fn servers_are_started_measured_and_stopped() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("accept");
    std::fs::create_dir_all(&directory).expect("a directory");
    let own = env!("CARGO_BIN_EXE_loadtest");
    let start = format!("START_HOLD={own} sink --listen 127.0.0.1:@PORT@");
    let first = server(&directory, "first", &start);
    let marker = directory.join("wiped");
    // More than one command, as where a configuration is made first.
    let second = format!(
        "{} --rule 'mail delay 50ms'\nWIPE=touch {}",
        start.replacen('=', "=true && ", 1),
        marker.display()
    );
    let second = server(&directory, "second", &second);
    let (json, svg) = (directory.join("report.json"), directory.join("plot.svg"));
    let output = compare(&[
        "--server",
        &first,
        "--server",
        &second,
        "--json",
        json.to_str().expect("plain"),
        "--svg",
        svg.to_str().expect("plain"),
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(
        text.contains("first") && text.contains("times the first"),
        "{text}"
    );
    assert!(marker.exists(), "WIPE was run");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(json).expect("JSON")).expect("JSON");
    let rate = |place: usize| report["servers"][place]["rate_ratio"]["median"].as_f64();
    assert_eq!(rate(0), Some(1.0), "{report}");
    assert!(
        rate(1).expect("a ratio") < 1.0,
        "a twentieth of a second a message is slower: {report}"
    );
    assert!(
        std::fs::read_to_string(svg)
            .expect("a plot")
            .contains("polyline")
    );
}

#[test]
fn a_relay_is_measured_at_the_sink() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay");
    std::fs::create_dir_all(&directory).expect("a directory");
    let own = env!("CARGO_BIN_EXE_loadtest");
    let relay = format!("START_RELAY={own} link --forward 127.0.0.1:@PORT@=127.0.0.1:@SINK@");
    let relay = server(&directory, "relay", &relay);
    let sink_port = port().to_string();
    let output = compare(&[
        "--case",
        "relay",
        "--server",
        &relay,
        "--sink-port",
        &sink_port,
        "--json",
        "-",
    ]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let server = &report["servers"][0];
    assert!(
        server["per_second"]["min"].as_f64().expect("a rate") > 0.0,
        "{report}"
    );
    // How near the ceiling it comes is the machine's mood.
    let doubts = server["doubts"].as_array().expect("a list");
    let lost = |doubt: &&serde_json::Value| {
        !doubt
            .as_str()
            .is_some_and(|doubt| doubt.contains("ceiling"))
    };
    assert_eq!(doubts.iter().find(lost), None, "{report}");
}

#[test]
fn what_cannot_be_started_is_named() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken");
    std::fs::create_dir_all(&directory).expect("a directory");
    let broken = server(&directory, "broken", "START_HOLD=false");
    let output = compare(&["--server", &broken]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("broken: starting it: exit status: 1"),
        "{errors}"
    );
}
