//! The program as `sendmail`: called as local programs call it, and by real ones.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::message::contains;
use crate::harness::relay::{Finished, PROGRAM};
use crate::harness::rule::Stage;
use crate::harness::sink::Mail;
use crate::harness::{Relay, Setup, Sink, eventually, on, place, skipped};
use crate::real_clients::{installed, python_with};

const LETTER: &str = "Subject: from a program\n\nHello\n.\nnot this\n";

/// A relay, and the link by which programs call it.
struct Desk {
    relay: Relay,
    sendmail: PathBuf,
}

impl Desk {
    fn new(sink: &Sink) -> Self {
        Self::with(Setup::to(sink.address()))
    }

    fn with(setup: Setup) -> Self {
        let relay = setup.start();
        let sendmail = relay.directory().join("sendmail");
        symlink(PROGRAM, &sendmail).expect("a link");
        for name in ["mailq", "newaliases"] {
            symlink(PROGRAM, relay.directory().join(name)).expect("a link");
        }
        Self { relay, sendmail }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("TURNSPOOL_CONFIG", self.relay.config_path())
            .current_dir(self.relay.directory());
        command
    }

    fn call(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = self.command(&self.sendmail);
        feed(command.args(arguments), input)
    }
}

fn feed(command: &mut Command, input: &str) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended with an error before it has read all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Finished::from(child.wait_with_output().expect("it ends"))
}

fn is_done(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.stdout.as_str(), finished.stderr.as_str()),
        ("", ""),
        "{finished:?}"
    );
}

/// The header section without the trace line, and the body.
fn parts(mail: &Mail) -> (String, String) {
    let text = String::from_utf8_lossy(&mail.octets).into_owned();
    let (header, body) = text.split_once("\r\n\r\n").expect("an empty line");
    (header.to_owned(), body.to_owned())
}

#[test]
fn a_message_of_a_program_is_completed_and_sent() {
    let sink = Sink::new();
    let desk = Desk::new(&sink);
    is_done(&desk.call(&["-f", "me@here.example", "you@there.example"], LETTER));
    let mail = sink.wait_for(1);
    assert!(mail[0].mail.starts_with("<me@here.example>"), "{mail:?}");
    assert_eq!(mail[0].recipients, ["<you@there.example>"]);
    let (header, body) = parts(&mail[0]);
    for name in ["\r\nDate: ", "\r\nFrom: ", "\r\nMessage-ID: <"] {
        assert!(header.contains(name), "{header}");
    }
    assert!(
        header.contains("<me@here.example>") || header.contains("From: me@here.example"),
        "{header}"
    );
    assert_eq!(body, "Hello\r\n", "a lone dot ends it");

    // Dots are text; what is there is not added; who stands in the header gets it.
    let text = "From: Anna <a@here.example>\nTo: b@b.example, c@c.example\n\
                Bcc: hidden@d.example\nDate: then\nMessage-ID: <1@x>\nSubject: y\n\nHello\n.\n..\n";
    is_done(&desk.call(&["-t", "-oi"], text));
    let mail = sink.wait_until("all three", |mail| {
        mail[1..]
            .iter()
            .map(|mail| mail.recipients.len())
            .sum::<usize>()
            == 3
    });
    let (header, body) = parts(&mail[1]);
    assert_eq!(body, "Hello\r\n.\r\n..\r\n");
    assert!(
        header.contains("\r\nDate: then\r\n") && !header.contains("hidden"),
        "{header}"
    );
    assert_eq!(header.matches("Message-ID").count(), 1, "{header}");
    let everybody: Vec<_> = mail[1..]
        .iter()
        .flat_map(|mail| mail.recipients.clone())
        .collect();
    assert!(
        everybody.contains(&"<hidden@d.example>".to_owned()),
        "{everybody:?}"
    );

    // As cron calls it: a name without a domain, a name for the sender.
    let before = sink.count();
    is_done(&desk.call(
        &["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"],
        "job\n",
    ));
    let mail = sink.wait_for(before + 1);
    let cron = &mail[before];
    assert_eq!(cron.recipients, ["<root@relay.example>"]);
    assert!(contains(&cron.octets, "From: \"CronDaemon\" <"), "{cron:?}");

    // DSN, and a null sender.
    let before = sink.count();
    let arguments = [
        "-f",
        "<>",
        "-N",
        "failure,delay",
        "-R",
        "hdrs",
        "-V",
        "a b",
        "x@b.example",
    ];
    is_done(&desk.call(&arguments, LETTER));
    let mail = sink.wait_for(before + 1);
    let dsn = &mail[before];
    assert!(
        dsn.mail.starts_with("<>") && dsn.mail.contains("RET=HDRS ENVID=a+20b"),
        "{dsn:?}"
    );
    assert_eq!(dsn.recipients, ["<x@b.example> NOTIFY=FAILURE,DELAY"]);
}

#[test]
fn codes_of_sysexits() {
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let known = directory.path().join("known");
    fs::write(&known, "somebody@c.example\n").expect("it is written");
    let customer = format!(
        "[[customer]]\nname = \"c\"\ndomains = [\"c.example\"]\n\
         deliver_to = \"{}\"\nrecipients_file = \"{}\"\nrelease = {{ open = true }}\n",
        place::next_address(),
        known.display()
    );
    let mut desk = Desk::with(
        Setup::to(sink.address())
            .customer(&customer)
            .retry("first = \"1h\"\nlongest = \"1h\""),
    );
    let check = |desk: &Desk, arguments: &[&str], input: &str, code: i32, part: &str| {
        let finished = desk.call(arguments, input);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(
            finished.stderr.contains(part),
            "{arguments:?}: {finished:?}"
        );
    };
    check(&desk, &["-bd"], "", 64, "turnspool serve");
    check(&desk, &["-Z"], "", 64, "-Z");
    check(&desk, &[], LETTER, 64, "nobody");
    check(&desk, &["-t"], "Subject: x\n\n", 64, "nobody");
    check(&desk, &["a b@c.example"], LETTER, 65, "no address");
    // Nobody gets it if one is refused.
    check(
        &desk,
        &["good@b.example", "nobody@c.example"],
        LETTER,
        67,
        "nothing was sent",
    );
    let finished = desk.call(&["-C", "/nowhere.toml", "x@b.example"], LETTER);
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert_eq!(sink.count(), 0);
    // The server is away: again later.
    desk.relay.stop();
    check(&desk, &["x@b.example"], LETTER, 75, "nothing was sent");
    check(&desk, &["-bp"], "", 75, "running");
}

#[test]
fn not_everybody_may_relay() {
    let sink = Sink::new();
    let desk = Desk::with(Setup::to(sink.address()).relay("networks = [\"192.0.2.0/24\"]"));
    let finished = desk.call(&["x@b.example"], LETTER);
    assert_eq!(finished.code, Some(77), "{finished:?}");
}

#[test]
fn smtp_the_queue_and_a_try_now() {
    let address = place::next_address();
    let desk = Desk::with(Setup::to(address).retry("first = \"1h\"\nlongest = \"1h\""));
    let dialogue = "EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n\
                    Subject: x\r\n\r\ntext\r\n.\r\nQUIT\r\n";
    let finished = desk.call(&["-bs"], dialogue);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stdout.starts_with("220 relay.example"),
        "{finished:?}"
    );
    assert!(
        finished.stdout.ends_with("\r\n") && finished.stdout.contains("\r\n221 "),
        "{finished:?}"
    );
    let id = desk.relay.queued().pop().expect("one message");
    let mut mailq = desk.command(&desk.relay.directory().join("mailq"));
    let finished = feed(&mut mailq, "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains(&id), "{finished:?}");
    let mut aliases = desk.command(&desk.relay.directory().join("newaliases"));
    assert_eq!(feed(&mut aliases, "").code, Some(0));
    is_done(&desk.call(&["x@b.example"], LETTER));
    eventually("both were tried", || {
        let waiting = desk.relay.facts(&["queue", "list", "--state", "deferred"]);
        (waiting.len() == 2).then_some(())
    });
    let held: Vec<_> = (desk.relay.queued().into_iter())
        .filter(|other| *other != id)
        .collect();
    desk.relay.facts(&["queue", "hold", &held[0]]);
    let sink = Sink::at(address, crate::harness::sink::EVERYTHING, []);
    let finished = desk.call(&["-q"], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    sink.wait_for_one();
    eventually("only what is on hold is left", || {
        (desk.relay.queued() == held).then_some(())
    });
    // And without the link.
    let mut plain = desk.command(Path::new(PROGRAM));
    let words: Vec<OsString> = ["sendmail", "-i", "x@b.example"].map(OsString::from).into();
    is_done(&feed(plain.args(words), LETTER));
    sink.wait_for(2);
}

/// A next hop that puts off the first is of no concern to the caller.
#[test]
fn it_is_taken_whatever_the_next_hop_does() {
    let sink = Sink::ruled([on(Stage::Rcpt).times(1).reply("450 4.2.0 later")]);
    let desk = Desk::new(&sink);
    is_done(&desk.call(&["x@b.example"], LETTER));
    sink.wait_for_one();
}

#[test]
fn python_sends() {
    let Some(python) = python_with("email") else {
        return skipped("python3: not installed");
    };
    let sink = Sink::new();
    let desk = Desk::new(&sink);
    let script = "import sys, subprocess\nfrom email.message import EmailMessage\n\
                  m = EmailMessage()\nm['Subject'] = 'Grüße'\nm['To'] = 'you@there.example'\n\
                  m.set_content('Umlaute: äöü\\n')\n\
                  subprocess.run([sys.argv[1], '-t', '-oi'], input=m.as_bytes(), check=True)\n";
    let mut command = desk.command(Path::new(python));
    let finished = feed(command.args(["-c", script]).arg(&desk.sendmail), "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mail = sink.wait_for_one();
    assert!(contains(&mail.octets, "Subject: =?utf-8?"), "{mail:?}");
}

#[test]
fn mutt_sends() {
    if !installed("mutt", &["-v"]) {
        return skipped("mutt: not installed");
    }
    let sink = Sink::new();
    let desk = Desk::new(&sink);
    let rc = desk.relay.directory().join("muttrc");
    let text = format!(
        "set sendmail=\"{} -oem -oi\"\nset from=\"me@here.example\"\nset use_envelope_from\n\
         set record=\"\"\nset folder=\"{}\"\n",
        desk.sendmail.display(),
        desk.relay.directory().display(),
    );
    fs::write(&rc, text).expect("it is written");
    let mut command = desk.command(Path::new("mutt"));
    command
        .env("HOME", desk.relay.directory())
        .arg("-F")
        .arg(&rc);
    let finished = feed(
        command.args(["-s", "from mutt", "you@there.example"]),
        "Hello\n",
    );
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mail = sink.wait_for_one();
    assert!(mail.mail.starts_with("<me@here.example>"), "{mail:?}");
    assert!(contains(&mail.octets, "Subject: from mutt"), "{mail:?}");
}

#[test]
fn mailx_sends() {
    if !Path::new("/usr/bin/bsd-mailx").exists() {
        return skipped("bsd-mailx: not installed");
    }
    let sink = Sink::new();
    let desk = Desk::new(&sink);
    let rc = desk.relay.directory().join("mailrc");
    fs::write(&rc, format!("set sendmail={}\n", desk.sendmail.display())).expect("it is written");
    let mut command = desk.command(Path::new("bsd-mailx"));
    command
        .env("HOME", desk.relay.directory())
        .env("MAILRC", &rc);
    let finished = feed(
        command.args(["-s", "from mailx", "you@there.example"]),
        "Hello\n",
    );
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mail = sink.wait_for_one();
    assert!(contains(&mail.octets, "Subject: from mailx"), "{mail:?}");
    assert!(contains(&mail.octets, "Hello"), "{mail:?}");
}
