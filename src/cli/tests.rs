//! Whole command lines, against files and against a server's end of the socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use clap::CommandFactory as _;

use super::*;
use crate::core::admin::{self, Request, Response};
use crate::mail::QueueId;
use crate::time::WallTime;

/// Exit, standard output, standard error.
fn run(arguments: &[&str]) -> (Exit, String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let line = std::iter::once("turnspool").chain(arguments.iter().copied());
    let exit = run_with(line.map(OsString::from), &mut out, &mut errors);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (exit, text(out), text(errors))
}

/// Runs a command against a socket on which each request gets the next of
/// `responses`. Gives the requests too.
fn with_server(
    arguments: &[&str],
    responses: Vec<Response>,
) -> (Exit, String, String, Vec<admin::Command>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream);
        let mut asked = Vec::new();
        for response in responses {
            let mut line = Vec::new();
            lines.read_until(b'\n', &mut line).unwrap();
            asked.push(Request::from_line(&line).unwrap().command);
            lines.get_mut().write_all(&response.to_line()).unwrap();
        }
        asked
    });
    let socket = path.to_str().unwrap().to_owned();
    let mut line = vec!["--socket", &socket];
    line.extend(arguments);
    let (exit, out, errors) = run(&line);
    (exit, out, errors, server.join().unwrap())
}

fn entry(n: u64) -> admin::Entry {
    admin::Entry {
        id: admin::Text(QueueId::from_u64(n)),
        state: admin::State::Deferred,
        arrival: admin::Date(text::now()),
        octets: 4096,
        sender: "somebody.with.a.long.name@sender.example".to_owned(),
        recipients: 2,
        next_hop: "mail\x1b[2J.receiver.example:25".to_owned(),
        attempts: 1,
        next_attempt: None,
    }
}

#[test]
fn the_command_line_is_well_formed() {
    CommandLine::command().debug_assert();
}

#[test]
fn usage_errors_exit_with_2() {
    for line in [
        &[][..],
        &["dance"],
        &["queue"],
        &["queue", "show"],
        &["queue", "delete"],
    ] {
        let (exit, out, errors) = run(line);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{line:?}");
        assert!(errors.contains("Usage"), "{line:?}: {errors}");
    }
    let (exit, _, errors) = run(&["queue", "list", "--older", "10min"]);
    assert_eq!(exit, Exit::Usage);
    assert!(errors.contains("write \"10m\""), "{errors}");
    let (exit, _, errors) = run(&["queue", "delete", "--all", "--domain", "a.example"]);
    assert_eq!(exit, Exit::Usage);
    assert!(errors.contains("--all"), "{errors}");
    let (exit, _, errors) = run(&["log", "detail", "smtp"]);
    assert_eq!(exit, Exit::Usage);
    assert!(errors.contains("=on or =off"), "{errors}");
}

#[test]
fn help_and_version_are_no_errors() {
    let (exit, out, errors) = run(&["--version"]);
    assert_eq!((exit, errors.as_str()), (Exit::Done, ""));
    assert_eq!(out, format!("turnspool {}\n", env!("CARGO_PKG_VERSION")));
    let (exit, out, _) = run(&["queue", "--help"]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("--json"), "{out}");
}

#[test]
fn examples_pass_the_check() {
    let directory = tempfile::tempdir().unwrap();
    for role in ["relay", "backup-spool", "site-gateway"] {
        let (exit, text, _) = run(&["example", role]);
        assert_eq!(exit, Exit::Done);
        let path = directory.path().join(role);
        std::fs::write(&path, text).unwrap();
        let (exit, out, errors) = run(&["check", path.to_str().unwrap()]);
        assert_eq!((exit, errors.as_str()), (Exit::Done, ""), "{out}");
        assert!(out.ends_with(": no errors\n"), "{out}");
    }
}

#[test]
fn check_prints_every_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.toml");
    std::fs::write(&path, "colour = 1\nlimits.sessions = 0\n").unwrap();
    let file = path.to_str().unwrap();
    let (exit, out, errors) = run(&["check", "--config", file]);
    assert_eq!((exit, errors.as_str()), (Exit::Usage, ""));
    assert!(
        out.contains(&format!("{file}:1:1: ")) && out.contains(":2:19: "),
        "{out}"
    );
    assert!(out.ends_with("\n2 errors\n"), "{out}");
    let (exit, out, _) = run(&["check", file, "--json"]);
    assert_eq!(exit, Exit::Usage);
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(facts["errors"][1]["line"], 2);
    assert_eq!(facts["errors"][1]["option"], "limits.sessions");
    let (exit, _, errors) = run(&["check"]);
    assert_eq!(exit, Exit::Usage);
    assert!(errors.contains("which file"), "{errors}");
    // The other commands say the same about a wrong file.
    let (exit, _, errors) = run(&["status", "--config", file]);
    assert_eq!(exit, Exit::Usage);
    assert!(errors.contains(":2:19: limits.sessions"), "{errors}");
}

#[test]
fn without_a_server_the_operator_is_told_what_to_try() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let socket = path.to_str().unwrap();
    for line in [
        &["queue", "list"][..],
        &["queue", "hold", "--all"],
        &["release", "a.example"],
        &["status"],
        &["log", "detail"],
    ] {
        let mut with_socket = vec!["--socket", socket];
        with_socket.extend(line);
        let (exit, out, errors) = run(&with_socket);
        assert_eq!((exit, out.as_str()), (Exit::Failed, ""), "{line:?}");
        assert!(errors.contains(socket), "{errors}");
        assert!(errors.contains("is the server running?"), "{errors}");
    }
}

#[test]
fn a_long_queue_is_listed_page_by_page() {
    let page = |ids: std::ops::Range<u64>, next: Option<u64>| {
        Response::Page(admin::Page {
            entries: ids.map(entry).collect(),
            next: next.map(|n| admin::Text(QueueId::from_u64(n))),
        })
    };
    let pages = vec![page(0..3, Some(2)), page(0..0, Some(9)), page(10..12, None)];
    let line = ["queue", "list", "--domain", "receiver.example"];
    let (exit, out, errors, asked) = with_server(&line, pages.clone());
    assert_eq!((exit, errors.as_str()), (Exit::Done, ""));
    assert!(out.ends_with("\n5 messages, 20K\n"), "{out}");
    assert!(!out.contains('\x1b'), "{out}");
    // The last column is whole, and the others leave room for it on a terminal.
    let rows = out.lines().filter(|line| line.contains("deferred"));
    for row in rows.clone() {
        let (before, _) = row
            .split_once("mail\\u{1b}[2J.receiver.example:25")
            .expect(row);
        assert!(before.chars().count() <= 62, "{row}");
    }
    assert_eq!(rows.count(), 5);
    let after: Vec<Option<u64>> = asked
        .iter()
        .map(|command| match command {
            admin::Command::QueueList(matching) => {
                assert!(matching.filter.domain.is_some());
                matching.after.map(|id| id.0.as_u64())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(after, [None, Some(2), Some(9)]);

    let (exit, out, _, _) = with_server(&["queue", "list", "--json"], pages);
    assert_eq!(exit, Exit::Done);
    let ids: Vec<String> = out
        .lines()
        .map(|line| {
            serde_json::from_str::<admin::Entry>(line)
                .unwrap()
                .id
                .0
                .to_string()
        })
        .collect();
    assert_eq!(ids.len(), 5);

    let limited = ["queue", "list", "--limit", "3"];
    let (_, out, _, asked) = with_server(&limited, vec![page(0..3, Some(2))]);
    assert!(out.contains("3 messages"), "{out}");
    assert_eq!(asked.len(), 1);
}

#[test]
fn an_empty_queue_is_said_to_be_empty() {
    let (exit, out, _, _) = with_server(
        &["queue", "list"],
        vec![Response::Page(admin::Page::default())],
    );
    assert_eq!((exit, out.as_str()), (Exit::Done, "no messages\n"));
}

#[test]
fn changes_add_up_and_missing_ids_are_a_failure() {
    let changed = |changed, missing: &[u64], next: Option<u64>| {
        Response::Changed(admin::Changed {
            changed,
            held: 0,
            waits: admin::Waits::default(),
            missing: missing
                .iter()
                .map(|n| admin::Text(QueueId::from_u64(*n)))
                .collect(),
            next: next.map(|n| admin::Text(QueueId::from_u64(n))),
        })
    };
    let responses = vec![changed(1000, &[], Some(5)), changed(7, &[], None)];
    let (exit, out, _, asked) = with_server(&["queue", "delete", "--older", "1d"], responses);
    assert_eq!(
        (exit, out.as_str()),
        (Exit::Done, "1007 messages deleted\n")
    );
    assert_eq!(asked.len(), 2);
    let ids = ["0000000000001", "0000000000002"];
    let line = ["queue", "hold", ids[0], ids[1]];
    let (exit, out, _, _) = with_server(&line, vec![changed(1, &[2], None)]);
    assert_eq!(exit, Exit::Failed);
    assert_eq!(out, "1 message held\n0000000000002 is not in the queue\n");
}

#[test]
fn show_escapes_what_peers_wrote() {
    let message = admin::Message {
        entry: entry(1),
        expires: Some(admin::Date(WallTime::from_millis(1_795_351_597_000))),
        priority: 3,
        deliver_by: None,
        envid: None,
        location: "log 0 segment 1 offset 64".to_owned(),
        shown: vec![admin::RecipientState {
            recipient: "a@receiver.example".to_owned(),
            state: "waiting".to_owned(),
            next_hop: "receiver.example".to_owned(),
            last: Some("450 4.2.0 \x1b]0;later\x07".to_owned()),
        }],
        recipients_total: 3,
    };
    let responses = vec![Response::Message(Box::new(message.clone()))];
    let (exit, out, _, _) = with_server(&["queue", "show", "0000000000001"], responses);
    assert_eq!(exit, Exit::Done);
    // One that is not there does not hide the next.
    let missing = Response::refused(admin::Reason::NotFound, "no message 0000000000002");
    let responses = vec![missing, Response::Message(Box::new(message))];
    let line = ["queue", "show", "0000000000002", "0000000000001"];
    let (exit, other, errors, _) = with_server(&line, responses);
    assert_eq!((exit, &other), (Exit::Failed, &out));
    assert_eq!(errors, "turnspool: no message 0000000000002\n");
    assert!(!out.contains('\x1b') && out.contains("450 4.2.0"), "{out}");
    assert!(
        out.contains("2026-11-22T12:46:37Z") && out.contains("and 2 more"),
        "{out}"
    );
}

#[test]
fn refusals_choose_the_exit_code() {
    let check = |reason, expected| {
        let responses = vec![Response::refused(reason, "no\x1b")];
        let (exit, out, errors, _) = with_server(&["release", "a.example"], responses);
        assert_eq!((exit, out.as_str()), (expected, ""));
        assert_eq!(errors, "turnspool: no\\u{1b}\n");
    };
    check(admin::Reason::NotFound, Exit::Failed);
    check(admin::Reason::Failed, Exit::Failed);
    check(admin::Reason::Later, Exit::TryLater);
    check(admin::Reason::Configuration, Exit::Usage);
    check(admin::Reason::Request, Exit::Usage);
    // Gone without an answer, and an answer to another question.
    let (exit, _, errors, _) = with_server(&["status"], Vec::new());
    assert_eq!(exit, Exit::TryLater, "{errors}");
    let (exit, _, errors, _) = with_server(&["status"], vec![Response::Done]);
    assert_eq!(exit, Exit::Failed, "{errors}");
}

#[test]
fn releases_and_details_are_reported() {
    let released = admin::Released {
        messages: 2,
        octets: 8192,
        queue: None,
    };
    let (exit, out, _, _) = with_server(
        &["release", "a.example"],
        vec![Response::Released(released)],
    );
    assert_eq!(
        (exit, out.as_str()),
        (Exit::Done, "2 messages released, 8.0K\n")
    );
    let detail = admin::LogDetail {
        smtp: true,
        ..admin::LogDetail::default()
    };
    let line = ["log", "detail", "smtp=on", "dns=off"];
    let (exit, out, _, asked) = with_server(&line, vec![Response::LogDetail(detail)]);
    assert_eq!(
        (exit, out.as_str()),
        (Exit::Done, "smtp=on dns=off link=off\n")
    );
    assert_eq!(
        asked,
        [admin::Command::LogDetail(admin::LogDetailChange {
            smtp: Some(true),
            dns: Some(false),
            link: None,
        })]
    );
}

/// Standard output that its reader has closed.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut errors = Vec::new();
    let line = ["turnspool", "example", "relay"].map(OsString::from);
    assert_eq!(run_with(line, &mut Closed, &mut errors), Exit::Done);
    assert_eq!(errors, b"");
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let (exit, out, _) = run(&["completions", shell]);
        assert_eq!(exit, Exit::Done);
        assert!(out.contains("turnspool"), "{shell}");
    }
    let (exit, out, _) = run(&["man"]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains(".TH turnspool"), "{out}");
    let (exit, out, _) = run(&["man", "queue", "list"]);
    assert_eq!(exit, Exit::Done);
    assert!(
        out.contains("turnspool\\-queue\\-list") && out.contains("older"),
        "{out}"
    );
    let (exit, out, _) = run(&["man", "turnspool.toml"]);
    assert_eq!(exit, Exit::Done);
    for section in crate::config::options::sections() {
        assert!(
            out.contains(section.path),
            "[{}] has no heading",
            section.path
        );
        for option in &section.options {
            let name = format!("\\fB{}\\fR", option.name.replace('-', "\\-"));
            assert!(
                option.section.is_some() || out.contains(&name),
                "{name} is not there"
            );
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let into = directory.path().to_str().expect("a name in UTF-8");
    assert_eq!(run(&["man", "--into", into]).0, Exit::Done);
    for page in ["turnspool.1", "turnspool-queue-list.1", "turnspool.toml.5"] {
        assert!(directory.path().join(page).is_file(), "{page} is not there");
    }
    assert!(
        !directory.path().join("turnspool-demo-line.1").exists(),
        "hidden commands stay so"
    );
    assert_eq!(run(&["man", "dance"]).0, Exit::Usage);
}

#[test]
fn paths_are_shown_without_control_characters() {
    assert_eq!(shown(Path::new("a\nb")), "a\\nb");
}
