//! A mailbox at a real POP3 server is collected. Where Dovecot is not installed these
//! tests are skipped with a line.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::message::contains;
use crate::harness::secure::{Certificates, only_ours};
use crate::harness::{Relay, Setup, Sink, eventually, place, skipped};
use crate::link::Line;

/// Who Dovecot runs as, when we are root: it does not want to be.
const NOBODY: u32 = 65534;

/// A server with one mailbox, of the user "branch" with the password "secret".
struct Dovecot {
    clear: SocketAddr,
    implicit: SocketAddr,
    directory: TempDir,
    child: Child,
}

impl Dovecot {
    /// `None`, and a line that says so, if it is not installed.
    fn start(certificates: Option<&Certificates>, lines: &str) -> Option<Self> {
        let installed = Path::new("/usr/sbin/dovecot");
        let protocol = Path::new("/usr/lib/dovecot/pop3");
        if !installed.exists() || !protocol.exists() {
            skipped("dovecot-pop3d is not installed");
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("turnspool-dovecot-")
            .tempdir()
            .expect("a directory");
        let at = directory.path().display().to_string();
        for name in ["run", "state", "mail", "mail/branch"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        for name in ["cur", "new", "tmp"] {
            let mailbox = directory.path().join("mail/branch");
            fs::create_dir(mailbox.join(name)).expect("a directory");
        }
        let (clear, implicit) = (place::next_address(), place::next_address());
        let names = [clear.ip().to_string(), implicit.ip().to_string()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let certificate = certificates.map(|all| all.issue("pop", &names, |_| {}));
        let tls = match &certificate {
            None => "ssl = no".to_owned(),
            Some(files) => {
                let copy = |from: &Path, name: &str| {
                    let to = directory.path().join(name);
                    fs::copy(from, &to).expect("it is copied");
                    to.display().to_string()
                };
                let certificate = copy(&files.certificate, "cert.pem");
                let key = copy(&files.key, "key.pem");
                format!("ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}")
            }
        };
        let me = Command::new("id").arg("-un").output().expect("id");
        let me = String::from_utf8(me.stdout).expect("a name");
        let user = if is_root() { "nobody" } else { me.trim() };
        let group = Command::new("id").args(["-gn", user]).output().expect("id");
        let group = String::from_utf8(group.stdout).expect("a name");
        let group = group.trim();
        let uid = if is_root() {
            NOBODY
        } else {
            rustix::process::geteuid().as_raw()
        };
        let config = format!(
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\n\
             protocols = pop3\nlisten = {host}\n\
             default_internal_user = {user}\ndefault_internal_group = {group}\n\
             default_login_user = {user}\n\
             mail_location = maildir:{at}/mail/%u\n{tls}\n\
             disable_plaintext_auth = no\nauth_mechanisms = plain cram-md5\n\
             first_valid_uid = 1\nmail_fsync = never\n{lines}\n\
             passdb {{\n  driver = static\n  args = password=secret\n}}\n\
             userdb {{\n  driver = static\n  \
             args = uid={uid} gid={uid} home={at}/mail/%u allow_all_users=yes\n}}\n\
             service anvil {{\n  chroot =\n}}\nservice stats {{\n  chroot =\n}}\n\
             service pop3-login {{\n  chroot =\n  \
             inet_listener pop3 {{\n    address = {host}\n    port = {clear}\n  }}\n  \
             inet_listener pop3s {{\n    address = {other}\n    port = {implicit}\n    \
             ssl = {ssl}\n  }}\n}}\n",
            host = clear.ip(),
            other = implicit.ip(),
            clear = clear.port(),
            implicit = if certificate.is_some() {
                implicit.port()
            } else {
                0
            },
            ssl = if certificate.is_some() { "yes" } else { "no" },
        );
        let config_path = directory.path().join("dovecot.conf");
        fs::write(&config_path, config).expect("it is written");
        let mut command = if is_root() {
            own(directory.path());
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.arg(installed);
            command
        } else {
            Command::new(installed)
        };
        let child = command
            .arg("-F")
            .arg("-c")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        let server = Self {
            clear,
            implicit,
            directory,
            child,
        };
        eventually("Dovecot takes connections", || {
            TcpStream::connect(clear).ok()
        });
        Some(server)
    }

    fn mailbox(&self) -> PathBuf {
        self.directory.path().join("mail/branch")
    }

    /// Puts a message into the mailbox.
    fn deliver(&self, number: usize, text: &str) {
        let name = format!("{}.M{number}.host", 1_700_000_000 + number);
        let new = self.mailbox().join("new").join(name);
        fs::write(&new, text).expect("it is written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("ours");
        if is_root() {
            chown(&new, Some(NOBODY), Some(NOBODY)).expect("we are root");
        }
    }

    /// Where the collector reads the password.
    fn password(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    /// Messages in the mailbox.
    fn count(&self) -> usize {
        let files = |name: &str| fs::read_dir(self.mailbox().join(name)).expect("it is there");
        files("new").count() + files("cur").count()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log"));
            eprintln!("Dovecot's log:\n{}", log.unwrap_or_default());
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything below is nobody's.
fn own(directory: &Path) {
    chown(directory, Some(NOBODY), Some(NOBODY)).expect("we are root");
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            own(&path);
        } else {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("we are root");
        }
    }
}

/// A site that collects from there, and gives what it gets to the sink.
fn site(server: &Dovecot, address: SocketAddr, sink: &Sink, lines: &str) -> Setup {
    let password = server.password();
    fs::write(&password, "secret\n").expect("it is written");
    only_ours(&password);
    let sections = format!(
        "[[collect]]\nname = \"isp\"\nkind = \"pop3\"\nserver = \"{address}\"\nuser = \"branch\"\n\
         password_file = \"{}\"\n{lines}\n\
         domain_mailbox = {{ domains = [\"branch.example\"], strip_prefix = \"branch-\", \
         default = \"postmaster@branch.example\" }}\n",
        password.display()
    );
    Setup::new()
        .route("branch.example", sink.address())
        .sections(&sections)
}

/// Runs the collector and gives what it did.
#[track_caller]
fn collect(relay: &Relay, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["collect"], arguments].concat();
    let outcomes = relay.facts(&arguments);
    let outcome = outcomes[0]["collectors"][0].clone();
    assert!(outcome["failure"].is_null(), "{outcomes:?}");
    outcome
}

/// A provider's mailbox with the mail of a domain, over a line in clear, by CRAM-MD5.
#[test]
fn a_domain_mailbox() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    const COUNT: usize = 300;
    for number in 0..COUNT {
        let field = match number % 4 {
            0 => format!("Delivered-To: branch-user{number}@branch.example\n"),
            1 => format!(
                "Received: from x by mx.isp.example for <user{number}@branch.example>; \
                 Sun, 22 Nov 2026 12:46:37 +0000\n"
            ),
            2 => format!("To: User <user{number}@branch.example>, other@elsewhere.example\n"),
            _ => String::new(),
        };
        let body = ".dot\n..dots\nbody\n".repeat(1 + number % 50);
        let text = format!(
            "Return-Path: <sender@elsewhere.example>\n{field}Subject: message {number}\n\
             Message-ID: <{number}@elsewhere.example>\n\n{body}"
        );
        server.deliver(number, &text);
    }
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "").start();
    let outcome = collect(&relay, &["isp"]);
    assert_eq!(outcome["collected"], COUNT, "{outcome}");
    assert_eq!(outcome["deleted"], COUNT, "{outcome}");
    assert_eq!(server.count(), 0, "all is gone there");
    let mails = sink.wait_for(COUNT);
    for mail in &mails {
        let text = String::from_utf8_lossy(&mail.octets);
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: message "));
        let number: usize = subject.expect("a subject").parse().expect("a number");
        let to = if number % 4 == 3 {
            "postmaster".to_owned()
        } else {
            format!("user{number}")
        };
        assert_eq!(
            mail.recipients,
            [format!("<{to}@branch.example>")],
            "{text}"
        );
        assert!(
            mail.mail.starts_with("<sender@elsewhere.example>"),
            "{}",
            mail.mail
        );
        let body = ".dot\r\n..dots\r\nbody\r\n".repeat(1 + number % 50);
        assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
        assert!(text.starts_with("Received: from 127."), "{text}");
    }
    assert!(!relay.log().contains("secret"), "no password in the log");
    let outcome = collect(&relay, &[]);
    assert_eq!(outcome["collected"], 0, "{outcome}");
    sink.assert_no_breach();
    relay.stop();
}

/// The operator sees what is said with the server, and nothing of logins and messages.
#[test]
fn a_transcript_of_a_session() {
    const DIARY: &str = "my-diary-of-today";
    let certificates = Certificates::new();
    let secrets = ["secret", "PASS s", "USER b", "branch ", DIARY];
    let Some(server) = Dovecot::start(Some(&certificates), "") else {
        return;
    };
    let deliver = |number: usize| {
        let text = format!("To: anna@branch.example\nSubject: {DIARY}\n\n{DIARY}\n");
        server.deliver(number, &text);
    };
    let ways = [
        (server.clear, "", "> AUTH CRAM-MD5 (hidden)"),
        (server.implicit, "tls = \"implicit\"", "> PASS (hidden)"),
    ];
    for (number, (address, lines, login)) in ways.into_iter().enumerate() {
        let sink = Sink::new();
        let setup = site(&server, address, &sink, lines).wrapper(certificates.trusting());
        let mut relay = setup.start();
        let host = address.ip().to_string();
        let finished = relay.run(&["log", "transcript", &host]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        deliver(2 * number);
        assert_eq!(collect(&relay, &[])["collected"], 1);
        let log = eventually("the session is told to its end", || {
            let log = relay.log();
            log.contains("< +OK Logging out").then_some(log)
        });
        for line in [
            "< +OK Dovecot",
            "> CAPA",
            login,
            "< +OK Logged in",
            "> RETR 1",
            "octets of message text)",
            "> DELE 1",
            "> QUIT",
        ] {
            assert!(log.contains(line), "no {line} in {log}");
        }
        let spoken: Vec<_> = log.lines().filter(|line| line.contains("spoken")).collect();
        assert!(spoken.iter().all(|line| line.contains(&host)), "{log}");
        for secret in secrets {
            let shown = spoken.iter().find(|line| line.contains(secret));
            assert_eq!(shown, None, "{secret} is in the log");
        }
        // One session was asked for.
        deliver(2 * number + 1);
        assert_eq!(collect(&relay, &[])["collected"], 1);
        let finished = relay.log().matches("< +OK Logging out").count();
        assert_eq!(finished, 1, "{}", relay.log());
        relay.stop();
    }
}

/// Messages stay there for a while; each is collected once, also by the process that
/// comes after a kill.
#[test]
fn what_stays_on_the_server() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    for number in 0..20 {
        let text = format!("To: anna@branch.example\nSubject: {number}\n\nbody\n");
        server.deliver(number, &text);
    }
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "keep = \"7d\"").start();
    let outcome = collect(&relay, &[]);
    assert_eq!(
        (&outcome["collected"], &outcome["kept"]),
        (&20.into(), &20.into())
    );
    relay.kill();
    relay.start_again();
    server.deliver(20, "To: anna@branch.example\nSubject: 20\n\nbody\n");
    let outcome = collect(&relay, &[]);
    assert_eq!(
        (&outcome["collected"], &outcome["kept"]),
        (&1.into(), &21.into())
    );
    assert_eq!(server.count(), 21);
    let mails = sink.wait_until("each message", |mails| {
        (0..21).all(|number| {
            let subject = format!("Subject: {number}\r\n");
            mails.iter().any(|mail| contains(&mail.octets, &subject))
        })
    });
    // A kill may have cut deliveries off, which are made again; never more than those.
    assert!(mails.len() <= 41, "{}", mails.len());
    relay.stop();
}

/// A copy of each message is kept beside the spool, and goes when its time has come.
#[test]
fn safe_copies() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    for number in 0..5 {
        let text = format!("To: anna@branch.example\nSubject: {number}\n\n.body\n");
        server.deliver(number, &text);
    }
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "safe_copy = \"7d\"").start();
    let outcome = collect(&relay, &[]);
    assert_eq!(outcome["collected"], 5, "{outcome}");
    assert_eq!(server.count(), 0);
    let mails = sink.wait_for(5);
    assert_eq!(mails.len(), 5, "nobody gets two");
    for mail in &mails {
        assert_eq!(mail.recipients, ["<anna@branch.example>"]);
    }
    let new = relay.spool_directory().join("copies/isp/new");
    let copies = || -> Vec<PathBuf> {
        let entries = fs::read_dir(&new).expect("it is there");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    eventually("a copy of each", || (copies().len() == 5).then_some(()));
    for copy in copies() {
        let text = fs::read_to_string(&copy).expect("it is text");
        assert!(text.contains("To: anna@branch.example\n"), "{text}");
        assert!(text.ends_with("\n\n.body\n"), "{text}");
        let mode = fs::metadata(&copy)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o77, 0, "nobody else reads it");
    }
    relay.wait_until_empty();
    // One of them becomes old.
    let old = fs::File::options()
        .write(true)
        .open(&copies()[0])
        .expect("ours");
    let age = std::time::Duration::from_secs(8 * 86_400);
    old.set_modified(std::time::SystemTime::now() - age)
        .expect("its time is set");
    relay.stop();
    relay.start_again();
    eventually("the old one is gone", || {
        (copies().len() == 4).then_some(())
    });
    eventually("and the log says so", || {
        let words = "1 copy older than 7 days removed from";
        relay.log().contains(words).then_some(())
    });
    relay.stop();
}

/// What is too large stays there; the user is told once, and can have it.
#[test]
fn a_message_that_is_too_large() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    let body = "0123456789012345678901234567890123456789\n".repeat(1000);
    server.deliver(
        1,
        &format!("To: anna@branch.example\nSubject: large\n\n{body}"),
    );
    server.deliver(2, "To: bob@branch.example\nSubject: small\n\nbody\n");
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "size_max = \"10KiB\"").start();
    let outcome = collect(&relay, &[]);
    assert_eq!(
        (&outcome["collected"], &outcome["noticed"]),
        (&1.into(), &1.into())
    );
    let mails = sink.wait_for(2);
    let notice = mails
        .iter()
        .find(|mail| contains(&mail.octets, "A large message waits for you"))
        .expect("a notice");
    assert_eq!(notice.recipients, ["<anna@branch.example>"]);
    assert!(notice.mail.starts_with("<>"), "{}", notice.mail);
    assert!(contains(&notice.octets, "Subject: large\r\n"));
    assert!(!contains(&notice.octets, "0123456789\r\n"));
    let outcome = collect(&relay, &[]);
    assert_eq!(
        (&outcome["noticed"], &outcome["left"]),
        (&0.into(), &1.into())
    );
    let outcome = collect(&relay, &["--large", "isp"]);
    assert_eq!(outcome["collected"], 1, "{outcome}");
    sink.wait_for(3);
    assert_eq!(server.count(), 0);
    relay.stop();
}

/// POP3S and STLS; a certificate that nobody vouches for is refused before the password.
#[test]
fn under_tls() {
    let certificates = Certificates::new();
    let Some(server) = Dovecot::start(Some(&certificates), "") else {
        return;
    };
    let sink = Sink::new();
    for (tls, address) in [("implicit", server.implicit), ("starttls", server.clear)] {
        server.deliver(1, "To: anna@branch.example\nSubject: x\n\nbody\n");
        let lines = format!("tls = \"{tls}\"");
        let setup = site(&server, address, &sink, &lines).wrapper(certificates.trusting());
        let mut relay = setup.start();
        let outcome = collect(&relay, &[]);
        assert_eq!(outcome["collected"], 1, "{tls}: {outcome}");
        assert_eq!(server.count(), 0);
        relay.stop();
    }
    server.deliver(2, "To: anna@branch.example\nSubject: y\n\nbody\n");
    let stranger = Certificates::new();
    let setup = site(&server, server.implicit, &sink, "tls = \"implicit\"");
    let mut relay = setup.wrapper(stranger.trusting()).start();
    let finished = relay.run(&["collect"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert_eq!(server.count(), 1);
    relay.stop();
}

/// SCRAM-SHA-256, where the server has nothing else that keeps the password off the line,
/// in clear and with a password that it does not take.
#[test]
fn by_scram() {
    let lines = "auth_mechanisms = scram-sha-256\nauth_failure_delay = 0";
    let Some(server) = Dovecot::start(None, lines) else {
        return;
    };
    server.deliver(1, "To: anna@branch.example\nSubject: x\n\nbody\n");
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "").start();
    let outcome = collect(&relay, &[]);
    assert_eq!(outcome["collected"], 1, "{outcome}");
    assert_eq!(server.count(), 0);
    sink.wait_for(1);
    fs::write(server.password(), "mistaken\n").expect("it is written");
    let finished = relay.run(&["collect"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    let words = "does not take the user name or the password";
    assert!(finished.stdout.contains(words), "{finished:?}");
    relay.stop();
}

/// A mailbox is collected of itself, again and again.
#[test]
fn at_intervals() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    server.deliver(1, "To: anna@branch.example\nSubject: x\n\nbody\n");
    let sink = Sink::new();
    let mut relay = site(&server, server.clear, &sink, "every = \"10s\"").start();
    sink.wait_for(1);
    relay.stop();
}

/// A mailbox behind a link: it is collected when one comes up, for whatever reason.
#[test]
fn when_the_link_comes_up() {
    let Some(server) = Dovecot::start(None, "") else {
        return;
    };
    for number in 0..20 {
        server.deliver(number, "To: anna@branch.example\nSubject: x\n\nbody\n");
    }
    let sink = Sink::new();
    let line = Line::new();
    let near = format!(
        "local = [\"{}\"]\nhang_up = {{ idle = \"1s\" }}",
        sink.address().ip()
    );
    let mut relay = site(&server, server.clear, &sink, "")
        .site(&line.link("isp", &near))
        .start();
    assert_eq!(server.count(), 20);
    relay.facts(&["link", "up"]);
    sink.wait_for(20);
    eventually("it hangs up", || {
        (line.done() == ["up", "down"]).then_some(())
    });
    assert_eq!(server.count(), 0);
    eventually("the log tells it", || {
        relay.log().contains("20 collected").then_some(())
    });
    let history = eventually("the time on line is remembered", || {
        let history = relay.facts(&["link", "history"]).remove(0);
        (!history[0]["outings"][0].is_null()).then_some(history)
    });
    assert_eq!(history[0]["outings"][0]["received"], 20, "{history}");
    relay.stop();
}

/// A wrong password is said, in the log and to the operator, without the password.
#[test]
fn a_wrong_password() {
    let Some(server) = Dovecot::start(None, "auth_failure_delay = 0") else {
        return;
    };
    let sink = Sink::new();
    let setup = site(&server, server.clear, &sink, "");
    fs::write(server.password(), "mistaken\n").expect("it is written");
    let mut relay = setup.start();
    let finished = relay.run(&["collect"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(
        finished
            .stdout
            .contains("does not take the user name or the password"),
        "{finished:?}"
    );
    eventually("the log says it", || {
        let log = relay.log();
        assert!(!log.contains("mistaken"));
        log.contains("collecting-failed").then_some(())
    });
    relay.stop();
}
