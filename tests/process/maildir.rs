//! Maildirs as next hops: what stands in them, what makes mail wait, and that a kill
//! at any time neither loses nor doubles.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::message::{Random, contains, message};
use crate::harness::{Setup, Sink, eventually};

const SENDER: &str = "<a@client.example>";

fn make(path: &Path) {
    for name in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(name)).expect("a directory");
    }
}

/// The new mail of a Maildir.
fn mail(path: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(path.join("new")) else {
        return Vec::new();
    };
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text");
            (path, text)
        })
        .collect()
}

fn is_tidy(path: &Path) -> bool {
    fs::read_dir(path.join("tmp"))
        .expect("tmp")
        .next()
        .is_none()
}

/// One file for recipients of one mailbox, one for each of several.
#[test]
fn what_a_file_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let (all, each) = (directory.path().join("all"), directory.path().join("each"));
    make(&all);
    make(&each.join("joe"));
    make(&each.join("ann+x"));
    let senders = Sink::new();
    let mut relay = Setup::to(senders.address())
        .leading("all.example", &format!("maildir:{}", all.display()))
        .leading(
            "each.example",
            &format!("maildir:{}/{{local}}", each.display()),
        )
        .start();
    relay.client().send(
        &format!("{SENDER} ENVID=box"),
        &[
            "<b@all.example>",
            "<\"c d\"@all.example>",
            "<Joe@each.example> NOTIFY=SUCCESS",
            "<ann+x@each.example>",
            "<\"../all\"@each.example>",
        ],
        &message("into files", ".dot\r\n..dots\r\nlast"),
    );
    let notifications = senders.wait_for(2);
    relay.wait_until_empty();
    for (path, to) in [
        (
            &all,
            "Delivered-To: b@all.example\nDelivered-To: \"c d\"@all.example\n",
        ),
        (&each.join("joe"), "Delivered-To: Joe@each.example\n"),
        (&each.join("ann+x"), "Delivered-To: ann+x@each.example\n"),
    ] {
        let mail = mail(path);
        assert_eq!(mail.len(), 1, "{path:?}");
        let (file, text) = &mail[0];
        let head = format!("Return-Path: {SENDER}\n{to}Received: from ");
        assert!(text.starts_with(&head), "{text}");
        assert!(
            text.ends_with("\nSubject: into files\n\n.dot\n..dots\nlast\n"),
            "{text}"
        );
        let mode = fs::metadata(file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(
            name.ends_with(".relay.example") && !name.contains(':'),
            "{name}"
        );
        assert!(is_tidy(path));
    }
    let told = |text: &str| notifications.iter().any(|n| contains(&n.octets, text));
    assert!(told("\r\nAction: delivered\r\n") && told("rfc822;Joe@each.example"));
    assert!(told("\r\nAction: failed\r\n") && told("\r\nStatus: 5.1.1"));
    assert!(told("Original-Envelope-Id: box"));
    relay.stop();
}

/// What the operator can mend makes mail wait, and the log says what to mend.
#[test]
fn what_makes_mail_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("box");
    let relay = Setup::new()
        .leading("b.example", &format!("maildir:{}", path.display()))
        .start();
    let said = |what: &str| {
        eventually(what, || relay.log().contains(what).then_some(()));
    };
    relay
        .client()
        .send(SENDER, &["<b@b.example>"], &message("waits", "text"));
    said("make the directory with cur, new and tmp in it");
    // A file in the way of a directory.
    fs::create_dir(&path).expect("a directory");
    fs::write(path.join("tmp"), b"").expect("a file");
    fs::create_dir(path.join("new")).expect("a directory");
    said("Not a directory");
    fs::remove_file(path.join("tmp")).expect("gone");
    fs::create_dir(path.join("tmp")).expect("a directory");
    relay.wait_until_empty();
    assert_eq!(mail(&path).len(), 1);
    assert!(is_tidy(&path));
}

/// A tiny file system that is full, until it is not.
#[test]
fn a_full_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("small");
    fs::create_dir(&path).expect("a directory");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&path)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        crate::harness::skipped("a full disk: mounting a file system is not allowed here");
        return;
    }
    let unmount = Unmount(path.clone());
    make(&path);
    let relay = Setup::new()
        .leading("b.example", &format!("maildir:{}", path.display()))
        .start();
    fs::write(path.join("ballast"), vec![b'x'; 40 << 10]).expect("room for that");
    let text = message("large", &"0123456789\r\n".repeat(3000));
    relay.client().send(SENDER, &["<b@b.example>"], &text);
    eventually("the log says so", || {
        relay
            .log()
            .contains("No space left on device")
            .then_some(())
    });
    assert!(is_tidy(&path) && mail(&path).is_empty());
    fs::remove_file(path.join("ballast")).expect("gone");
    relay.wait_until_empty();
    let mail = mail(&path);
    assert_eq!(mail.len(), 1);
    assert_eq!(mail[0].1.matches("0123456789\n").count(), 3000);
    drop(relay);
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

/// Killed in the middle, again and again: what had its 250 is there once.
#[test]
fn kills_neither_lose_nor_double() {
    const MESSAGES: usize = 400;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("box");
    make(&path);
    let mut relay = Setup::new()
        .leading("b.example", &format!("maildir:{}", path.display()))
        .delivery("connections_per_destination = 4")
        .cores(2)
        .start();
    let mut random = Random(7);
    let mut sent = 0;
    let mut accepted = Vec::new();
    while sent < MESSAGES {
        let mut client = relay.client();
        for _ in 0..50 {
            let subject = format!("number {sent}.");
            client.send(SENDER, &["<b@b.example>"], &message(&subject, "text"));
            accepted.push(subject);
            sent += 1;
        }
        // Once some of these are there, and before all are.
        let some = sent - 50 + random.below(40) as usize;
        eventually("some are there", || {
            (mail(&path).len() >= some).then_some(())
        });
        relay.kill();
        relay.start_again();
    }
    relay.wait_until_empty();
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for (_, text) in mail(&path) {
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
        assert!(text.ends_with("\ntext\n"), "not whole: {text}");
        *copies
            .entry(subject.expect("a subject").to_owned())
            .or_default() += 1;
    }
    for subject in accepted {
        assert_eq!(copies.get(&subject), Some(&1), "{subject}");
    }
    assert_eq!(copies.len(), MESSAGES);
}
