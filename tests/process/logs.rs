//! The log: what is in it when somebody looks closely, and what never is; where it goes.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::message::message;
use crate::harness::namespace::Namespace;
use crate::harness::relay::PROGRAM;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, Stage, eventually, on, place};

/// The secret of the tests, and what AUTH makes of it (RFC 4616, base64).
const PASSWORD: &str = "hunter2-s3cret";
const PLAIN: &str = "AHVzZXIAaHVudGVyMi1zM2NyZXQ=";
const LOGIN: &str = "aHVudGVyMi1zM2NyZXQ=";
/// Stands in the text of messages, and nowhere else.
const DIARY: &str = "my-diary-of-today";

/// Mail and logins of all kinds.
fn work(relay: &Relay) {
    let mut client = relay.client();
    client.send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("x", DIARY),
    );
    client.send_chunk(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("x", DIARY),
    );
    // DATA is refused, and the text comes all the same.
    client.command("DATA");
    client.command(DIARY);
    let mut client = relay.client();
    client.command(&format!("AUTH PLAIN {PLAIN}"));
    let mut client = relay.client();
    client.command("AUTH LOGIN");
    client.command("dXNlcg==");
    client.command(LOGIN);
    let mut client = relay.client();
    client.command(&format!("AUTH {PASSWORD}"));
    client.expect("QUIT", 221);
}

/// No connection to the next hop is kept for more mail, and what was said is in the log.
fn is_quiet(relay: &Relay) {
    eventually("no connection is open", || {
        (relay.counter("connections_open_out") == 0).then_some(())
    });
    // Lines leave a little later than what they tell: one that comes behind them.
    let loaded = || {
        relay
            .log()
            .matches("the new configuration is in force")
            .count()
    };
    let before = loaded();
    relay.signal(Signal::HUP);
    eventually("what was said is written", || {
        (loaded() > before).then_some(())
    });
}

fn assert_no_secret(text: &str) {
    for secret in [PASSWORD, PLAIN, LOGIN, DIARY, "dXNlcg=="] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

/// A user who may log in without TLS by CRAM-MD5 only; the others are refused, and said.
fn setup(sink: &Sink, log: &str) -> Setup {
    let directory = std::env::temp_dir();
    let users = directory.join(format!(
        "turnspool-logs-{}-{}",
        std::process::id(),
        place::next_address().ip()
    ));
    let mut child = Command::new(PROGRAM)
        .args([
            "user",
            "add",
            users.to_str().expect("UTF-8"),
            "user",
            "--cram-md5",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{PASSWORD}").expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    Setup::to(sink.address())
        .relay(&format!(
            "networks = [\"127.0.0.0/8\"]\nusers_file = \"{}\"",
            users.display()
        ))
        .log(log)
}

#[test]
fn detail_is_switched_while_running_and_holds_no_secret() {
    let sink = Sink::new();
    for format in ["text", "json"] {
        let relay = setup(&sink, &format!("format = \"{format}\"")).start();
        let delivered = sink.count();
        work(&relay);
        sink.wait_until("both came", |mail| mail.len() >= delivered + 2);
        // A session is told from its beginning or not at all.
        is_quiet(&relay);
        assert!(!relay.log().contains("spoken"), "nothing was switched on");

        let finished = relay.run(&["log", "detail", "smtp=on", "link=on"]);
        assert_eq!(finished.stdout, "smtp=on dns=off link=on\n", "{finished:?}");
        work(&relay);
        sink.wait_until("both came", |mail| mail.len() >= delivered + 4);
        let log = eventually("the sessions are told", || {
            let log = relay.log();
            (log.matches("> QUIT").count() >= 1 && log.contains("< QUIT")).then_some(log)
        });
        for line in [
            "< MAIL FROM:<a@client.example>",
            "> 250 2.1.0",
            "> MAIL FROM:<a@client.example>",
            "> BDAT",
            "< AUTH PLAIN (hidden)",
            "< AUTH ? (hidden)",
            "octets that are no command)",
            "220 relay.example",
        ] {
            assert!(log.contains(line), "no {line} in the log");
        }
        assert_no_secret(&log);
        if format == "json" {
            for line in log.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert!(
                    line["fact"].is_string() && line["message"].is_string(),
                    "{line}"
                );
            }
        }
        let facts = relay.facts(&["log", "detail", "smtp=off"]);
        assert_eq!(facts[0]["smtp"], false, "{facts:?}");
        // What had begun is told to its end.
        is_quiet(&relay);
        let before = relay.log().matches("spoken").count();
        work(&relay);
        sink.wait_until("both came", |mail| mail.len() >= delivered + 6);
        assert_eq!(relay.log().matches("spoken").count(), before);
    }
}

#[test]
fn a_transcript_is_of_so_many_sessions_with_one_peer() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let host = sink.address().ip().to_string();
    let finished = relay.run(&["log", "transcript", &host]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("the next session"), "{finished:?}");
    let send = || {
        let mut client = relay.client();
        client.send(
            "<a@client.example>",
            &["<b@b.example>"],
            &message("x", DIARY),
        );
    };
    send();
    sink.wait_for_one();
    let log = eventually("the session is told", || {
        let log = relay.log();
        log.contains("> QUIT").then_some(log)
    });
    assert!(log.contains(&host), "{log}");
    assert!(
        !log.contains("< MAIL FROM"),
        "the client's session was not asked for"
    );
    assert_no_secret(&log);
    is_quiet(&relay);
    let told = relay.log().matches("spoken").count();
    send();
    sink.wait_for(2);
    relay.wait_until_empty();
    assert_eq!(relay.log().matches("spoken").count(), told, "one session");
    let finished = relay.run(&["log", "transcript", &host, "--sessions", "0"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let finished = relay.run(&["log", "transcript", &host, "--for", "2d"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
}

/// logrotate moves the file and sends SIGHUP.
#[test]
fn a_file_is_made_anew_at_a_reload() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let to = format!("to = \"{}\"", path.display());
    let mut relay = Setup::new().log(&to).start();
    eventually("the start is told", || {
        let text = fs::read_to_string(&path).ok()?;
        text.contains("started").then_some(())
    });
    let moved = directory.path().join("log.1");
    fs::rename(&path, &moved).expect("it is there");
    relay.signal(Signal::HUP);
    let text = eventually("the new file has lines", || {
        let text = fs::read_to_string(&path).ok()?;
        text.contains("the new configuration is in force")
            .then_some(text)
    });
    assert!(!text.contains("started"), "{text}");
    assert!(
        fs::read_to_string(&moved)
            .expect("it is there")
            .contains("started")
    );
    relay.stop();
}

/// A disk without room under the log stops no mail.
#[test]
fn a_log_without_room_stops_no_mail() {
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .log("to = \"/dev/full\"\ndetail = { smtp = true }")
        .start();
    for number in 0..20 {
        let text = message(&format!("number {number}"), "text");
        relay
            .client()
            .send("<a@client.example>", &["<b@b.example>"], &text);
    }
    sink.wait_for(20);
    relay.wait_until_empty();
    relay.stop();
}

/// The journal's socket has a fixed place, so the test has a disk of its own there.
#[test]
fn the_journal_gets_facts_with_their_fields() {
    let script = "mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; \
                  mkdir /run/systemd/journal";
    let Some(namespace) = Namespace::new("the journal", script) else {
        return;
    };
    let wrapper = namespace.wrapper();
    // Seen from here by way of the process that holds the name space.
    let pid = &wrapper[3];
    let path = format!("/proc/{pid}/root/run/systemd/journal/socket");
    let journal = UnixDatagram::bind(&path).expect("a socket");
    journal
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .expect("a time-out");
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .log("to = \"journald\"")
        .wrapper(wrapper.clone())
        .start();
    let mut entries = Vec::new();
    let next = || {
        let mut octets = [0; 65_536];
        let length = journal.recv(&mut octets).expect("an entry");
        String::from_utf8_lossy(&octets[..length]).into_owned()
    };
    let id = relay.client().send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("x", DIARY),
    );
    let accepted = loop {
        let entry = next();
        entries.push(entry.clone());
        if entry.contains("TURNSPOOL_FACT") && entry.contains("accepted") {
            break entry;
        }
    };
    assert!(accepted.contains("SYSLOG_IDENTIFIER"), "{accepted}");
    assert!(accepted.contains(&id), "{accepted}");
    assert!(accepted.contains("PRIORITY"), "{accepted}");
    assert!(
        entries.iter().any(|entry| entry.contains("started")),
        "{entries:?}"
    );
    entries.iter().for_each(|entry| assert_no_secret(entry));
    // Nobody reads any more: mail goes on.
    drop(journal);
    relay.client().send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("x", DIARY),
    );
    sink.wait_for(2);
    relay.stop();
}

/// Without a journal the program says so, and does not start.
#[test]
fn without_a_journal_it_does_not_start() {
    let script = "mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd";
    let Some(namespace) = Namespace::new("no journal", script) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("turnspool.toml");
    let text = Setup::new().log("to = \"journald\"").text(directory.path());
    fs::write(&config, text).expect("it is written");
    let wrapper = namespace.wrapper();
    let output = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .args([PROGRAM, "serve", "--config"])
        .arg(&config)
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("journal is not there"), "{errors}");
}

/// A host may end a session in which nothing is under way: nobody is woken for that.
#[test]
fn a_host_that_closes_an_idle_connection_is_no_trouble() {
    let sink = Sink::with(EVERYTHING, vec![on(Stage::End).obey_then_close()]);
    let relay = Setup::to(sink.address()).start();
    relay.client().send(
        "<a@client.example>",
        &["<b@b.example>"],
        &message("x", "text"),
    );
    sink.wait_for_one();
    is_quiet(&relay);
    let log = relay.log();
    assert!(log.contains("fact=\"delivered\""), "{log}");
    assert!(!log.contains("delivery-broken"), "{log}");
}
