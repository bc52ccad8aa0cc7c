//! AUTH with the real program: the file of users, real clients, a smarthost that wants to
//! know who we are.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::message::message;
use crate::harness::relay::{Finished, PROGRAM};
use crate::harness::secure::{Certificates, Files, SecureClient};
use crate::harness::{Client, Relay, Setup, Sink, eventually, place, skipped};
use crate::real_clients::{installed, python_with};

/// What nobody may find in a log, and how it would look there.
const PASSWORD: &str = "correct-horse-battery";

/// `PASSWORD`, and `\0alice\0PASSWORD`, in base64.
const ENCODED: &[&str] = &[
    "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
    "AGFsaWNlAGNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==",
];

#[track_caller]
fn assert_no_secret(log: &str) {
    for secret in ENCODED.iter().copied().chain([PASSWORD]) {
        assert!(!log.contains(secret), "the log has {secret:?}");
    }
}

/// Runs `turnspool user` with something on its standard input.
fn user(arguments: &[&str], file: &Path, input: &str) -> Finished {
    let mut child = Command::new(PROGRAM)
        .arg("user")
        .arg(arguments[0])
        .arg(file)
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may end before it reads.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it ends").into()
}

#[track_caller]
fn add(file: &Path, arguments: &[&str], password: &str) {
    let arguments = [&["add"], arguments].concat();
    let finished = user(&arguments, file, &format!("{password}\n"));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stdout.contains(password));
}

/// A relay on which `alice` has [`PASSWORD`], and which is no relay for anybody else.
fn relay_with_users(setup: Setup, directory: &Path) -> Relay {
    let file = directory.join("users");
    add(&file, &["alice", "--cram-md5"], PASSWORD);
    let lines = format!("networks = []\nusers_file = \"{}\"", file.display());
    setup.relay(&lines).start()
}

#[test]
fn the_file_of_users() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    add(&file, &["alice"], PASSWORD);
    add(&file, &["bob", "--cram-md5"], "of-bob-alone");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains(PASSWORD) && !text.contains(ENCODED[0]),
        "{text}"
    );
    let list = || user(&["list"], &file, "").stdout;
    assert_eq!(
        list(),
        "alice  SCRAM-SHA-256 PLAIN LOGIN\nbob  SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN\n"
    );
    // Another password, a remark that stays, and a mode that is mended.
    fs::write(&file, format!("# ours\n{text}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    add(&file, &["alice", "--cram-md5"], "another");
    let changed = fs::read_to_string(&file).unwrap();
    assert!(changed.starts_with("# ours\nalice "), "{changed}");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(user(&["remove", "alice"], &file, "").code, Some(0));
    assert_eq!(list(), "bob  SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN\n");

    let check = |arguments: &[&str], input: &str, code: i32, words: &str| {
        let finished = user(arguments, &file, input);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(words), "{finished:?}");
    };
    check(&["remove", "alice"], "", 1, "there is no user alice");
    check(&["add", "a b"], "x\n", 2, "the user name");
    check(&["add", "alice"], "\n", 2, "the password");
    check(&["add", "alice"], "", 2, "the password");
    fs::write(directory.path().join(".users.new"), "").unwrap();
    check(&["add", "alice"], "x\n", 75, "is at work");
    fs::remove_file(directory.path().join(".users.new")).unwrap();
    fs::write(&file, "alice swordfish\n").unwrap();
    check(&["list"], "", 1, "line 1");
    assert_eq!(fs::read_to_string(&file).unwrap(), "alice swordfish\n");
    // Nothing is left behind.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    add(&file, &["alice"], PASSWORD);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let config = directory.path().join("turnspool.toml");
    let text = format!("[relay]\nusers_file = \"{}\"\n", file.display());
    fs::write(&config, text).unwrap();
    let output = Command::new(PROGRAM).arg("check").arg(&config).output();
    let finished = Finished::from(output.expect("the program starts"));
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stdout.contains("mode 0640"), "{finished:?}");
}

/// Programs that authenticate, each by what it can do without TLS.
struct Sender {
    name: &'static str,
    program: &'static str,
    probe: &'static [&'static str],
    /// From relay, user and password to arguments. The message is on standard input.
    arguments: fn(SocketAddr, &str, &str) -> Vec<String>,
}

const SMTPLIB: &str = r#"
import smtplib, sys
host, port, user, password, mechanism = sys.argv[1:]
session = smtplib.SMTP(host, int(port), timeout=30)
session.ehlo()
if mechanism not in session.esmtp_features["auth"].split():
    sys.exit("not offered")
session.login(user, password)
session.sendmail("a@client.example", ["b@post.example"], sys.stdin.buffer.read())
session.quit()
"#;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

const SENDERS: &[Sender] = &[
    Sender {
        name: "smtplib",
        program: "python3",
        probe: &["--version"],
        arguments: |relay, user, password| {
            let (host, port) = (relay.ip().to_string(), relay.port().to_string());
            strings(&["-c", SMTPLIB, &host, &port, user, password, "CRAM-MD5"])
        },
    },
    Sender {
        name: "swaks",
        program: "swaks",
        probe: &["--version"],
        arguments: |relay, user, password| {
            let server = relay.to_string();
            let mail = ["--from", "a@client.example", "--to", "b@post.example"];
            let auth = ["--auth", "CRAM-MD5", "--auth-user", user];
            strings(
                &[
                    &["--server", &server, "--data", "-"],
                    &mail[..],
                    &auth[..],
                    &["--auth-password", password],
                ]
                .concat(),
            )
        },
    },
    Sender {
        name: "msmtp",
        program: "msmtp",
        probe: &["--version"],
        arguments: |relay, user, password| {
            let host = format!("--host={}", relay.ip());
            let port = format!("--port={}", relay.port());
            let user = format!("--user={user}");
            let password = format!("--passwordeval=echo {password}");
            strings(&[
                "--auth=scram-sha-256",
                "--tls=off",
                &host,
                &port,
                &user,
                &password,
                "--from=a@client.example",
                "b@post.example",
            ])
        },
    },
    Sender {
        name: "curl",
        program: "curl",
        probe: &["--version"],
        arguments: |relay, user, password| {
            let url = format!("smtp://{relay}/client.example");
            let login = format!("{user}:{password}");
            let mail = [
                "--mail-from",
                "a@client.example",
                "--mail-rcpt",
                "b@post.example",
            ];
            let login = ["--login-options", "AUTH=CRAM-MD5", "--user", &login];
            strings(
                &[
                    &[
                        "--silent",
                        "--show-error",
                        "--max-time",
                        "30",
                        "--url",
                        &url,
                        "--upload-file",
                        "-",
                    ],
                    &mail[..],
                    &login[..],
                ]
                .concat(),
            )
        },
    },
];

#[test]
fn real_clients_authenticate() {
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Setup::to(sink.address()).listener("role = \"submission\"");
    let mut relay = relay_with_users(setup, directory.path());
    let mut sent = 0;
    for sender in SENDERS {
        if !installed(sender.program, sender.probe) {
            skipped(&format!("{} is not installed", sender.name));
            continue;
        }
        let run = |password: &str| {
            let mut child = Command::new(sender.program)
                .args((sender.arguments)(relay.address(), "alice", password))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the client starts");
            let mut input = child.stdin.take().expect("a pipe");
            // One that failed to authenticate may be gone.
            let _ = write!(input, "Subject: {}\r\n\r\nhello\r\n", sender.name);
            drop(input);
            Finished::from(child.wait_with_output().expect("it ends"))
        };
        let wrong = run("wrong");
        assert_ne!(wrong.code, Some(0), "{}: {wrong:?}", sender.name);
        let right = run(PASSWORD);
        assert_eq!(right.code, Some(0), "{}: {right:?}", sender.name);
        sent += 1;
        let mail = sink.wait_for(sent);
        let text = String::from_utf8_lossy(&mail[sent - 1].octets);
        assert!(text.contains("with ESMTPA id"), "{text}");
    }
    assert_eq!(sink.count(), sent);
    assert_eq!(relay.counter("logins"), sent as u64);
    assert_eq!(relay.counter("logins_failed"), sent as u64);
    relay.stop();
    assert_no_secret(&relay.log());
}

/// Under TLS: PLAIN and LOGIN by the password, EXTERNAL by a certificate.
const SMTPLIB_TLS: &str = r#"
import smtplib, ssl, sys
host, port, ca, certificate, key, mechanism, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
session = smtplib.SMTP(host, int(port), timeout=30)
session.starttls(context=context)
session.ehlo()
if mechanism not in session.esmtp_features["auth"].split():
    sys.exit("not offered")
session.user, session.password = "alice", password
if mechanism == "EXTERNAL":
    session.auth(mechanism, lambda challenge=None: "")
elif mechanism == "PLAIN":
    session.auth(mechanism, session.auth_plain)
else:
    session.auth(mechanism, session.auth_login)
session.sendmail("a@client.example", ["b@post.example"], b"Subject: x\r\n\r\nhello\r\n")
session.quit()
"#;

#[test]
fn under_tls() {
    let sink = Sink::new();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Setup::to(sink.address()).listener("role = \"submission\"\ntls = \"starttls\"");
    let host = setup.address.ip().to_string();
    let ours = certificates.issue("server", &[&host], |_| {});
    let ca = certificates.authority();
    let tls = format!("{}client_ca = \"{}\"\n", ours.section(), ca.display());
    let mut relay = relay_with_users(setup.sections(&tls), directory.path());
    let alice = certificates.issue("alice", &["alice"], |_| {});
    let mallory = certificates.issue("mallory", &["mallory"], |_| {});
    let run = |files: &Files, mechanism: &str, password: &str| {
        let port = relay.address().port().to_string();
        let output = Command::new("python3")
            .args(["-c", SMTPLIB_TLS, &host, &port])
            .args([&ca, &files.certificate, &files.key])
            .args([mechanism, password])
            .output();
        Finished::from(output.expect("python3 is needed for these tests"))
    };
    let mut sent = 0;
    for (mechanism, files, password, good) in [
        ("PLAIN", &mallory, "wrong", false),
        ("PLAIN", &mallory, PASSWORD, true),
        ("LOGIN", &mallory, "wrong", false),
        ("LOGIN", &mallory, PASSWORD, true),
        ("EXTERNAL", &mallory, "", false),
        ("EXTERNAL", &alice, "", true),
    ] {
        let finished = run(files, mechanism, password);
        assert_eq!(finished.code == Some(0), good, "{mechanism}: {finished:?}");
        if good {
            sent += 1;
            let mail = sink.wait_for(sent);
            let text = String::from_utf8_lossy(&mail[sent - 1].octets);
            assert!(text.contains("with ESMTPSA"), "{text}");
        } else {
            assert!(finished.stderr.contains("535"), "{finished:?}");
        }
    }
    relay.stop();
    assert_no_secret(&relay.log());
}

/// Mail from nobody, then from a user; then the user is no more.
#[test]
fn a_reload_takes_a_user_away() {
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let mut relay = relay_with_users(Setup::to(sink.address()), directory.path());
    let mut client = relay.client();
    client.expect("MAIL FROM:<a@client.example>", 250);
    client.expect("RCPT TO:<b@post.example>", 550);
    client.expect("RSET", 250);
    client.expect("AUTH PLAIN AGFsaWNlAHg=", 538);
    log_in(&mut client, PASSWORD);
    client.expect("MAIL FROM:<a@client.example>", 250);
    client.expect("RCPT TO:<b@post.example>", 250);
    client.expect("RSET", 250);
    let file = directory.path().join("users");
    assert_eq!(user(&["remove", "alice"], &file, "").code, Some(0));
    relay.reload();
    eventually("the session is no user's any more", || {
        client.expect("MAIL FROM:<a@client.example>", 250);
        let code = client.command("RCPT TO:<b@post.example>").code;
        client.expect("RSET", 250);
        (code == 550).then_some(())
    });
    relay.stop();
}

/// AUTH by CRAM-MD5; the digest is made by Python, which knows nothing of us.
fn log_in(client: &mut Client, password: &str) {
    let reply = client.command("AUTH CRAM-MD5");
    assert_eq!(reply.code, 334, "{reply:?}");
    let script = "import base64,hmac,sys\n\
        c=base64.b64decode(sys.argv[1])\n\
        d=hmac.new(sys.argv[2].encode(),c,'md5').hexdigest()\n\
        print(base64.b64encode(('alice '+d).encode()).decode(),end='')";
    let output = Command::new("python3")
        .args(["-c", script, &reply.lines[0], password])
        .output()
        .expect("python3 is needed for these tests");
    let response = String::from_utf8(output.stdout).expect("base64");
    let code = client.command(&response).code;
    assert_eq!(code, if password == PASSWORD { 235 } else { 535 });
}

/// Ten failures from an address, on both cores, and it may not try again.
#[test]
fn who_guesses_is_banned() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut relay = relay_with_users(Setup::new().cores(2), directory.path());
    // A digest that is right for nobody: "alice 000…".
    let wrong = "YWxpY2UgMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";
    let mut clients: Vec<_> = (0..10).map(|_| relay.client()).collect();
    for client in &mut clients {
        client.write(b"AUTH CRAM-MD5\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.reply().code, 334);
        client.write(format!("{wrong}\r\n").as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.reply().code, 535);
    }
    eventually("the address is banned", || {
        let mut client = relay.client();
        (client.command("AUTH CRAM-MD5").code == 421).then_some(())
    });
    assert!(relay.log().contains("client-banned"));
    assert_eq!(relay.counter("logins_failed"), 10);
    // Other mail goes on.
    relay.client().expect("NOOP", 250);
    relay.stop();
}

/// Lines of a smarthost to which `alice` goes in clear.
fn login(secret: &Path) -> String {
    let secret = secret.display();
    format!("tls = \"none\"\nuser = \"alice\"\npassword_file = \"{secret}\"")
}

/// One relay hands its mail to another that wants to know who it is.
#[test]
fn a_smarthost_wants_to_know_who_we_are() {
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Setup::to(sink.address()).listener("role = \"submission\"");
    let mut provider = relay_with_users(setup, directory.path());
    let secret = directory.path().join("secret");
    let write = |password: &str| {
        fs::write(&secret, format!("{password}\n")).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("wrong");
    let mut site = Setup::to(provider.address())
        .smarthost_lines(&login(&secret))
        .start();
    (site.client()).send("<a@client.example>", &["<b@post.example>"], b"hello\r\n");
    eventually("the operator is told", || {
        site.log().contains("login-refused").then_some(())
    });
    assert_eq!(site.queued().len(), 1);
    write(PASSWORD);
    site.reload();
    let mail = sink.wait_for_one();
    let text = String::from_utf8_lossy(&mail.octets);
    assert!(text.contains("with ESMTPA id"), "{text}");
    site.wait_until_empty();
    assert!(
        provider
            .log()
            .contains("authenticated as alice by SCRAM-SHA-256")
    );
    for relay in [&mut site, &mut provider] {
        relay.stop();
        assert_no_secret(&relay.log());
    }
}

/// aiosmtpd with CRAM-MD5 of its own making, which takes mail from nobody else.
const AIOSMTPD: &str = r#"
import base64, hmac, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
host, port, password, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
class Handler:
    async def auth_CRAM__MD5(self, server, args):
        challenge = b"<1896.697170952@postoffice.example>"
        answer = await server.challenge_auth(challenge)
        right = b"alice " + hmac.new(password.encode(), challenge, "md5").hexdigest().encode()
        if answer == right:
            return AuthResult(success=True, auth_data=b"alice")
        return AuthResult(success=False, handled=False)
    async def handle_DATA(self, server, session, envelope):
        with open(out, "ab") as file:
            file.write(envelope.original_content)
        return "250 2.0.0 taken"
controller = Controller(Handler(), hostname=host, port=port, auth_required=True,
    auth_require_tls=False, auth_exclude_mechanism=["PLAIN", "LOGIN"])
controller.start()
print("ready", flush=True)
sys.stdin.read()
"#;

#[test]
fn mail_goes_to_the_smarthost_that_knows_us() {
    let Some(python) = python_with("aiosmtpd") else {
        return skipped("aiosmtpd is not installed");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let start = |password: &str| {
        let address = place::next_address();
        let child = Command::new(python)
            .args(["-c", AIOSMTPD, &address.ip().to_string()])
            .args([&address.port().to_string(), password])
            .arg(&out)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("python starts");
        eventually("aiosmtpd greets", || {
            Client::try_connect(None, address).ok()
        });
        (address, child)
    };
    let (stranger, mut one) = start("another");
    let (friend, mut other) = start(PASSWORD);
    let secret = directory.path().join("secret");
    fs::write(&secret, PASSWORD).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let mut relay = Setup::to(stranger)
        .smarthost(friend)
        .smarthost_lines(&login(&secret))
        .start();
    (relay.client()).send("<a@client.example>", &["<b@post.example>"], b"hello\r\n");
    relay.wait_until_empty();
    assert!(!fs::read(&out).unwrap().is_empty());
    eventually("the operator is told", || {
        let log = relay.log();
        let told = log.contains("login-refused") && log.contains(&stranger.ip().to_string());
        told.then_some(())
    });
    relay.stop();
    assert_no_secret(&relay.log());
    for child in [&mut one, &mut other] {
        // Its standard input ends.
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}

/// AUTH EXTERNAL at a smarthost, which is one of us: it lets in whom our certificate names.
#[test]
fn a_smarthost_knows_us_by_our_certificate() {
    let sink = Sink::new();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Setup::to(sink.address()).listener("role = \"submission\"\ntls = \"starttls\"");
    let host = setup.address.ip().to_string();
    let ours = certificates.issue("server", &[&host], |_| {});
    let ca = certificates.authority();
    let tls = format!("{}client_ca = \"{}\"\n", ours.section(), ca.display());
    let mut smarthost = relay_with_users(setup.sections(&tls), directory.path());
    for (name, good) in [("alice", true), ("mallory", false)] {
        let files = certificates.issue(name, &[name], |_| {});
        let lines = format!(
            "tls = \"required\"\nauth = \"external\"\ncertificate = \"{}\"\nkey = \"{}\"",
            files.certificate.display(),
            files.key.display()
        );
        let mut relay = Setup::to(smarthost.address())
            .smarthost_lines(&lines)
            .start();
        let mut client = relay.client();
        client.send(
            "<a@client.example>",
            &["<b@post.example>"],
            &message(name, "by certificate"),
        );
        if good {
            let mail = sink.wait_for_one();
            let text = String::from_utf8_lossy(&mail.octets);
            assert!(text.contains("with ESMTPSA"), "{text}");
            relay.wait_until_empty();
        } else {
            eventually("the operator is told", || {
                relay.log().contains("in reply to AUTH: 535").then_some(())
            });
            assert_eq!(relay.queued().len(), 1, "the mail stays");
        }
        relay.stop();
    }
    assert_eq!(sink.count(), 1);
    smarthost.stop();
}

/// Where TLS is not there, or nothing is said of it, nobody is shown anything.
#[test]
fn a_certificate_wants_tls() {
    let certificates = Certificates::new();
    let files = certificates.issue("alice", &["alice"], |_| {});
    let lines = format!(
        "auth = \"external\"\ncertificate = \"{}\"\nkey = \"{}\"",
        files.certificate.display(),
        files.key.display()
    );
    // One without STARTTLS.
    let sink = Sink::offering(&["AUTH EXTERNAL"]);
    let required = format!("tls = \"required\"\n{lines}");
    let mut relay = Setup::to(sink.address()).smarthost_lines(&required).start();
    let mut client = relay.client();
    let mail = message("clear", "not in clear");
    client.send("<a@client.example>", &["<b@post.example>"], &mail);
    eventually("the operator is told", || {
        let line = "TLS is required for this host, and it does not offer STARTTLS";
        relay.log().contains(line).then_some(())
    });
    assert_eq!((sink.count(), relay.queued().len()), (0, 1));
    relay.stop();
    for tls in ["", "tls = \"none\"\n", "tls = \"opportunistic\"\n"] {
        let setup = Setup::to(sink.address()).smarthost_lines(&format!("{tls}{lines}"));
        let path = directory_with(&setup);
        let finished = check(path.path());
        assert_eq!(finished.code, Some(2), "{finished:?}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(
            said.contains("needs TLS, in which the certificate is shown"),
            "{said}"
        );
    }
}

/// A directory with the configuration of a relay in it.
fn directory_with(setup: &Setup) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let text = setup.text(directory.path());
    fs::write(directory.path().join("config.toml"), text).expect("a file of ours");
    directory
}

/// What `turnspool check` says of it.
fn check(directory: &Path) -> Finished {
    let output = Command::new(PROGRAM)
        .arg("check")
        .arg(directory.join("config.toml"))
        .output();
    Finished::from(output.expect("it starts"))
}

/// A name and a password that are typed in another way are the same (SASLprep, RFC 4013):
/// by which mechanism whatever, and when they are taken away again.
#[test]
fn names_and_passwords_have_one_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    add(&file, &["ka\u{308}the", "--cram-md5"], "pa\u{308}ss");
    let listed = user(&["list"], &file, "");
    assert!(listed.stdout.contains("k\u{e4}the"), "{listed:?}");
    let lines = format!("networks = []\nusers_file = \"{}\"", file.display());
    let certificates = Certificates::new();
    let setup = Setup::new().listener("role = \"submission\"\ntls = \"starttls\"");
    let ours = certificates.issue("server", &[&setup.address.ip().to_string()], |_| {});
    let relay = setup.sections(&ours.section()).relay(&lines).start();
    let config = certificates.client_config();
    for (name, password, code) in [
        ("k\u{e4}the", "p\u{e4}ss", 235),
        ("ka\u{308}the", "pa\u{308}ss", 235),
        ("k\u{e4}the", "pa\u{308}ss", 235),
        ("kathe", "p\u{e4}ss", 535),
        ("k\u{e4}the", "pass", 535),
    ] {
        let mut client = SecureClient::start_tls(relay.address(), &config);
        client.expect("EHLO client.example", 250);
        let response = STANDARD.encode(format!("\0{name}\0{password}"));
        client.expect(&format!("AUTH PLAIN {response}"), code);
    }
    // What has no such form no client can send by SCRAM.
    for (name, password, what) in [
        ("kate\u{1f600}", "secret", "the user name: SASLprep"),
        ("kate", "\u{1f600}", "the password: SASLprep"),
        ("kate", "a\u{7}b", "the password: SASLprep"),
    ] {
        let finished = user(&["add", name], &file, password);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(what), "{finished:?}");
    }
    let removed = user(&["remove", "k\u{e4}the"], &file, "");
    assert_eq!(removed.code, Some(0), "{removed:?}");
}
