//! LMTP to a next hop (RFC 2033): over TCP and over a Unix socket, an answer for each
//! recipient, and a real server at the other end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::message::{assert_identical, contains, message};
use crate::harness::{Setup, Sink, eventually, skipped};

const SENDER: &str = "<a@client.example>";

/// What the scripted server has: for each recipient the messages that it got, and each
/// RCPT as it came.
#[derive(Debug, Default)]
struct Boxes {
    mail: BTreeMap<String, Vec<Vec<u8>>>,
    commands: Vec<String>,
}

/// A server whose answer behind the dot is in the address: `ok@`, `gone@`, and `full@`
/// that has no room the first time.
#[derive(Clone, Debug, Default)]
struct Lmtp(Arc<Mutex<Boxes>>);

impl Lmtp {
    fn on_tcp(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                let reading = stream.try_clone().expect("a second handle");
                thread::spawn(move || server.session(reading, stream));
            }
        });
        format!("lmtp://{address}")
    }

    fn on_socket(&self, path: &Path) -> String {
        let listener = UnixListener::bind(path).expect("a socket");
        let server = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                let reading = stream.try_clone().expect("a second handle");
                thread::spawn(move || server.session(reading, stream));
            }
        });
        format!("lmtp://{}", path.display())
    }

    /// Ends with its connection.
    fn session(&self, reading: impl Read, mut writing: impl Write) -> Option<()> {
        let mut reading = BufReader::new(reading);
        let mut recipients = Vec::new();
        let mut say = move |text: &str| writing.write_all(text.as_bytes()).ok();
        say("220 lmtp.example\r\n")?;
        loop {
            let mut line = String::new();
            if reading.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            self.0
                .lock()
                .expect("no holder panics")
                .commands
                .push(line.to_owned());
            let verb = line.split(' ').next().unwrap_or_default();
            match verb {
                "LHLO" => say("250-lmtp.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")?,
                "RCPT" => {
                    let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                    recipients.push(address.to_owned());
                    say("250 2.1.5 so far\r\n")?;
                }
                "DATA" => {
                    say("354 go on\r\n")?;
                    let text = text(&mut reading)?;
                    for recipient in recipients.drain(..) {
                        let reply = self.answer(&recipient, &text);
                        say(reply)?;
                    }
                }
                "RSET" => {
                    recipients.clear();
                    say("250 2.0.0 ok\r\n")?;
                }
                "MAIL" => say("250 2.1.0 ok\r\n")?,
                "QUIT" => return say("221 2.0.0 bye\r\n"),
                _ => say("500 5.5.1 no LMTP\r\n")?,
            }
        }
    }

    fn answer(&self, recipient: &str, text: &[u8]) -> &'static str {
        let mut boxes = self.0.lock().expect("no holder panics");
        let tries = boxes.mail.entry(format!("try {recipient}")).or_default();
        tries.push(Vec::new());
        match recipient.split('@').next() {
            Some("gone") => "550 5.1.1 there is nobody\r\n",
            Some("full") if tries.len() == 1 => "452 4.2.2 no room\r\n",
            _ => {
                boxes
                    .mail
                    .entry(recipient.to_owned())
                    .or_default()
                    .push(text.to_vec());
                "250 2.1.5 in the box\r\n"
            }
        }
    }

    fn mail(&self, recipient: &str) -> Vec<Vec<u8>> {
        let boxes = self.0.lock().expect("no holder panics");
        boxes.mail.get(recipient).cloned().unwrap_or_default()
    }
}

/// A text up to its dot, without the dots that DATA doubles.
fn text(reading: &mut impl std::io::BufRead) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let mut line = Vec::new();
        if reading.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            return Some(text);
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// Behind the dot one recipient is delivered to, one fails, one has to wait: each gets
/// what it is told, once.
#[test]
fn an_answer_for_each_recipient() {
    let directory = tempfile::tempdir().expect("a directory");
    for over_tcp in [true, false] {
        let server = Lmtp::default();
        let next_hop = if over_tcp {
            server.on_tcp()
        } else {
            server.on_socket(&directory.path().join("lmtp.sock"))
        };
        let senders = Sink::new();
        let relay = Setup::to(senders.address())
            .leading("b.example", &next_hop)
            .start();
        let sent = message("three answers", ".dots\r\ntext");
        relay.client().send(
            &format!("{SENDER} ENVID=three"),
            &[
                "<ok@b.example> NOTIFY=SUCCESS,FAILURE",
                "<gone@b.example>",
                "<full@b.example>",
            ],
            &sent,
        );
        let notifications = senders.wait_for(2);
        relay.wait_until_empty();
        for (recipient, copies) in [("ok", 1), ("gone", 0), ("full", 1)] {
            let mail = server.mail(&format!("{recipient}@b.example"));
            assert_eq!(mail.len(), copies, "{recipient}, TCP {over_tcp}");
            for copy in mail {
                assert_identical(&copy, &sent);
            }
        }
        assert_eq!(server.mail("try full@b.example").len(), 2);
        assert_eq!(server.mail("try ok@b.example").len(), 1);
        // LMTP has no DSN: success is told by us, and behind the dot that is delivery.
        for (action, status, recipient) in
            [("failed", "5.1.1", "gone"), ("delivered", "2.1.5", "ok")]
        {
            let about = |mail: &&crate::harness::sink::Mail| {
                contains(&mail.octets, &format!("\r\nAction: {action}\r\n"))
            };
            let about: Vec<_> = notifications.iter().filter(about).collect();
            assert_eq!(about.len(), 1, "{action} in {notifications:?}");
            for part in [
                format!("\r\nStatus: {status}"),
                format!("{recipient}@b.example"),
                "Original-Envelope-Id: three".to_owned(),
            ] {
                assert!(contains(&about[0].octets, &part), "{part} in {about:?}");
            }
        }
    }
}

/// A server that is not there, and then is.
#[test]
fn a_socket_that_comes_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("later.sock");
    let relay = Setup::new()
        .leading("b.example", &format!("lmtp://{}", path.display()))
        .start();
    let sent = message("later", "text");
    relay.client().send(SENDER, &["<ok@b.example>"], &sent);
    eventually("the log tells which socket is not there", || {
        let log = relay.log();
        (log.contains("later.sock") && log.contains("No such file")).then_some(())
    });
    let server = Lmtp::default();
    server.on_socket(&path);
    relay.wait_until_empty();
    assert_eq!(server.mail("ok@b.example").len(), 1);
}

/// Dovecot with all its files in a directory of its own.
struct Dovecot {
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // By SIGTERM it takes its children with it.
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Dovecot {
    /// `None` where it is not installed, or where there is nobody to run it as.
    fn start() -> Option<Self> {
        let program = PathBuf::from("/usr/sbin/dovecot");
        if !program.exists() || !Path::new("/usr/lib/dovecot/lmtp").exists() {
            skipped("dovecot-lmtpd is not installed");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped("Dovecot: needs root to become nobody");
            return None;
        }
        /// Debian's nobody and nogroup.
        const NOBODY: u32 = 65534;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let own = |path: &Path| {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("it is nobody's");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
                .expect("it is readable");
        };
        own(path);
        for name in ["run", "mail"] {
            std::fs::create_dir(path.join(name)).expect("a directory");
            own(&path.join(name));
        }
        let config = path.join("dovecot.conf");
        let place = path.display();
        let text = format!(
            "base_dir = {place}/run\nstate_dir = {place}/run\nlog_path = {place}/log\n\
             protocols = lmtp\nssl = no\n\
             default_internal_user = nobody\ndefault_internal_group = nogroup\n\
             default_login_user = nobody\n\
             mail_location = maildir:{place}/mail/%n\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             passdb {{\n driver = static\n args = nopassword=y\n}}\n\
             userdb {{\n driver = static\n args = allow_all_users=yes home={place}/mail/%n \
             uid={NOBODY} gid={NOBODY}\n}}\n\
             service anvil {{\n chroot =\n}}\n\
             service stats {{\n chroot =\n}}\n\
             service lmtp {{\n chroot =\n user = nobody\n unix_listener lmtp {{\n mode = 0666\n }}\n}}\n\
             service auth {{\n chroot =\n user = nobody\n unix_listener auth-userdb {{\n mode = 0666\n }}\n}}\n\
             service auth-worker {{\n user = nobody\n}}\n"
        );
        std::fs::write(&config, text).expect("the configuration");
        own(&config);
        let child = Command::new(program)
            .arg("-F")
            .arg("-c")
            .arg(&config)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Dovecot starts");
        Some(Self { directory, child })
    }

    fn next_hop(&self) -> String {
        format!("lmtp://{}/run/lmtp", self.directory.path().display())
    }

    fn mailbox(&self, user: &str) -> PathBuf {
        self.directory.path().join("mail").join(user)
    }

    /// The new mail of a user.
    fn mail(&self, user: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.mailbox(user).join("new")) else {
            return Vec::new();
        };
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.ok()?.path()).ok()
        };
        entries.filter_map(read).collect()
    }
}

/// Two users of Dovecot, of whom one cannot get mail at first.
#[test]
fn dovecot() {
    let Some(dovecot) = Dovecot::start() else {
        return;
    };
    // No directory, and so nothing that mail could be put into.
    std::fs::write(dovecot.mailbox("broken"), b"in the way").expect("a file");
    let mut relay = Setup::new()
        .leading("b.example", &dovecot.next_hop())
        .start();
    let sent = message("to Dovecot", "first line\r\n.second line");
    relay
        .client()
        .send(SENDER, &["<good@b.example>", "<broken@b.example>"], &sent);
    eventually("the good one has it", || {
        (dovecot.mail("good").len() == 1).then_some(())
    });
    eventually("the other one was refused", || {
        relay
            .log()
            .contains("451 4.2.0 <broken@b.example>")
            .then_some(())
    });
    std::fs::remove_file(dovecot.mailbox("broken")).expect("out of the way");
    relay.wait_until_empty();
    for user in ["good", "broken"] {
        let mail = dovecot.mail(user);
        assert_eq!(mail.len(), 1, "{user}");
        assert!(mail[0].contains("Subject: to Dovecot\n"), "{}", mail[0]);
        assert!(
            mail[0].ends_with("\nfirst line\n.second line\n"),
            "{}",
            mail[0]
        );
    }
    relay.stop();
}
