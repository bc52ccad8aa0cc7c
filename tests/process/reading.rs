//! Reading never changes (FEATURES O2): the spool is octet for octet what it was, whatever is
//! looked at, with the server and without it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::http::request;
use crate::harness::message::message;
use crate::harness::{Setup, eventually, place};
use crate::link::Line;

/// Each file of a directory, and what is in it. Directories have nothing in them.
type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn contents(directory: &Path) -> Contents {
    let mut contents = Contents::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let is_directory = path.symlink_metadata().expect("it is there").is_dir();
            if is_directory {
                directories.push(path.clone());
                contents.insert(path, None);
            } else {
                let octets = fs::read(&path).expect("it can be read");
                contents.insert(path, Some(octets));
            }
        }
    }
    contents
}

/// Says which files are not what they were, and not all that is in them.
#[track_caller]
fn assert_same(before: &Contents, after: &Contents, what: &str) {
    let different: Vec<_> = (before.keys().chain(after.keys()))
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    assert!(different.is_empty(), "{what} has changed {different:?}");
}

#[test]
fn nothing_is_changed_by_looking() {
    let line = Line::new();
    let mut page = place::next_address();
    page.set_port(8025);
    let nobody = place::next_address();
    let mut relay = Setup::to(nobody)
        .retry("first = \"1h\"\nlongest = \"1h\"")
        .held("held.example")
        .customer(&format!(
            "[[customer]]\nname = \"branch\"\ndomains = [\"branch.example\"]\n\
             deliver_to = \"{nobody}\"\nrelease = {{ open = true }}\n"
        ))
        .site(&line.link("isp", ""))
        .admin(&format!("web = \"{page}\""))
        .cores(2)
        .start();
    // Small and in many chunks; held, on hold, on a detour, put off.
    let long = "0123456789abcdef\r\n".repeat(20_000);
    let mut ids = Vec::new();
    for (number, to) in ["b.example", "held.example", "branch.example", "c.example"]
        .iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        let body = if number % 4 == 0 {
            long.as_str()
        } else {
            "text"
        };
        let text = message(&number.to_string(), body);
        ids.push((relay.client()).send("<a@client.example>", &[&format!("<b@{to}>")], &text));
    }
    relay.facts(&["queue", "hold", &ids[3]]);
    relay.facts(&["queue", "release", &ids[2]]);
    relay.facts(&[
        "queue",
        "requeue",
        &ids[7],
        "--to",
        &format!("smtp://{nobody}"),
    ]);
    relay.facts(&["queue", "delete", &ids[11]]);
    eventually("what was let go was tried", || {
        let shown = relay.facts(&["queue", "show", &ids[2], &ids[7]]);
        let deferred = shown.iter().all(|message| message["state"] == "deferred");
        deferred.then_some(())
    });

    let spool = relay.spool_directory();
    let out = |name: &str| relay.directory().join(name).display().to_string();
    let directory = spool.display().to_string();
    let (exported, dumped) = (out("exported"), out("dumped"));
    let asking: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["queue", "list"],
        vec!["queue", "list", "--domain", "branch.example"],
        vec!["queue", "list", "--customer", "branch", "--state", "held"],
        vec!["queue", "list", "--older", "1s", "--larger", "1KiB"],
        vec!["queue", "show", &ids[0], &ids[2], &ids[3]],
        vec!["queue", "export", "--all", "--directory", &exported],
        vec!["link", "status"],
        vec!["link", "plan"],
        vec!["link", "history"],
        vec!["log", "detail"],
        vec!["dns", "test", "branch.example"],
    ];
    let offline: Vec<Vec<&str>> = vec![
        vec!["spool", "verify", &directory],
        vec!["spool", "stat", &directory],
        vec!["spool", "dump", &directory],
        vec!["spool", "export", &directory, "--to", &dumped],
        vec!["check"],
        vec!["web"],
    ];
    let rest = eventually("nothing is written any more", || {
        // Spare segments are made in the background, some moments after they are wanted.
        let before = contents(&spool);
        let stays = |_| {
            relay.facts(&["status"]);
            before == contents(&spool)
        };
        (0..8).all(stays).then_some(before)
    });
    assert!(rest.values().flatten().any(|octets| !octets.is_empty()));
    let run = |arguments: &[&str], expected: Option<i32>, before: &Contents| {
        for json in [&[][..], &["--json"]] {
            let arguments = [arguments, json].concat();
            let finished = relay.run(&arguments);
            assert_eq!(finished.code, expected, "{arguments:?}: {finished:?}");
            assert_same(before, &contents(&spool), &format!("{arguments:?}"));
            for files in [&exported, &dumped] {
                let _ = fs::remove_dir_all(files);
            }
        }
    };
    for arguments in asking.iter().chain(&offline) {
        run(arguments, Some(0), &rest);
    }
    for (method, path, body) in [
        ("GET", "/live", ""),
        ("GET", "/metrics", ""),
        ("GET", "/readyz", ""),
        ("POST", "/find", "branch"),
    ] {
        let answer = request(page, method, path, &[], body).expect("it answers");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_same(&rest, &contents(&spool), path);
    }

    relay.stop();
    let stopped = contents(&spool);
    let run = |arguments: &[&str], expected: Option<i32>| {
        let finished = relay.run(arguments);
        assert_eq!(finished.code, expected, "{arguments:?}: {finished:?}");
        assert_same(&stopped, &contents(&spool), &format!("{arguments:?}"));
        let _ = fs::remove_dir_all(&dumped);
    };
    for arguments in &offline {
        run(arguments, Some(0));
    }
    // Those that ask the server say that there is none, and make nothing.
    for arguments in &asking {
        let expected = if arguments[0] == "dns" { 0 } else { 1 };
        run(arguments, Some(expected));
    }
}
