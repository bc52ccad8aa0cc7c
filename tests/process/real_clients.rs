//! Real clients send through the relay into real servers. What is not installed is
//! skipped with a line.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::relay::Finished;
use crate::harness::{PATIENCE, Setup, eventually, place, skipped};

/// Whether a program can be started with these arguments.
pub(crate) fn installed(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A Python that has a module. The system's one has what packages install, and
/// another may stand before it in the path.
pub(crate) fn python_with(module: &str) -> Option<&'static str> {
    let import = format!("import {module}");
    (["python3", "/usr/bin/python3"].into_iter()).find(|python| installed(python, &["-c", &import]))
}

/// A real server: where it listens, where it puts what it took.
pub(crate) struct Server {
    name: &'static str,
    pub(crate) address: SocketAddr,
    /// Files of whole messages, some of them in line ends of their own.
    mailbox: PathBuf,
    child: Child,
    /// The number of the process that ends it all, when that is not the child.
    pid_file: Option<PathBuf>,
    _directory: TempDir,
}

impl Server {
    /// Message files so far, with LF for CRLF, wherever they are in the mailbox.
    pub(crate) fn messages(&self) -> Vec<String> {
        fn walk(directory: &Path, into: &mut Vec<String>) {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            for entry in entries {
                let path = entry.path();
                if path.ends_with("tmp") {
                    continue;
                }
                if path.is_dir() {
                    walk(&path, into);
                } else if let Ok(octets) = fs::read(&path) {
                    into.push(String::from_utf8_lossy(&octets).replace("\r\n", "\n"));
                }
            }
        }
        let mut messages = Vec::new();
        walk(&self.mailbox, &mut messages);
        messages
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.pid_file.as_ref().and_then(|path| {
            let text = fs::read_to_string(path).ok()?;
            Pid::from_raw(text.trim().parse().ok()?)
        });
        match pid {
            Some(pid) => {
                let _ = kill_process(pid, Signal::TERM);
            }
            None => {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// TLS for aiosmtpd: files with a certificate, its key, and, where clients must show
/// one, the authority of their certificates.
pub(crate) struct PythonTls<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) clients: Option<&'a Path>,
}

/// aiosmtpd with a handler that writes each message to a file.
pub(crate) fn aiosmtpd(tls: Option<&PythonTls<'_>>) -> Option<Server> {
    const SCRIPT: &str = r#"
import os, ssl, sys, time
from aiosmtpd.controller import Controller
host, port, mailbox = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Handler:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        name = os.path.join(mailbox, str(self.count))
        with open(name + ".part", "wb") as file:
            file.write(envelope.original_content)
        os.rename(name + ".part", name + ".eml")
        return "250 2.0.0 taken"
extra = {}
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    if len(sys.argv) > 6:
        context.load_verify_locations(sys.argv[6])
        context.verify_mode = ssl.CERT_REQUIRED
    extra = {"tls_context": context, "require_starttls": True}
controller = Controller(Handler(), hostname=host, port=port, enable_SMTPUTF8=True, data_size_limit=104857600, **extra)
controller.start()
print("ready", flush=True)
sys.stdin.read()
"#;
    let Some(python) = python_with("aiosmtpd") else {
        skipped("aiosmtpd is not installed");
        return None;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mailbox = directory.path().join("box");
    fs::create_dir(&mailbox).expect("a directory");
    let address = place::next_address();
    let mut child = Command::new(python)
        .args([
            "-c",
            SCRIPT,
            &address.ip().to_string(),
            &address.port().to_string(),
        ])
        .arg(&mailbox)
        .args(tls.iter().flat_map(|tls| {
            let files = [Some(tls.certificate), Some(tls.key), tls.clients];
            files.into_iter().flatten()
        }))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("it says something");
    assert_eq!(line, "ready\n");
    Some(Server {
        name: "aiosmtpd",
        address,
        mailbox,
        child,
        pid_file: None,
        _directory: directory,
    })
}

/// A Postfix of our own: its configuration, queue and mailboxes in one directory.
/// `lines` are added to its configuration.
pub(crate) fn postfix(lines: &str) -> Option<Server> {
    const DAEMONS: &str = "/usr/lib/postfix/sbin";
    if !Path::new(DAEMONS).join("master").exists() {
        skipped("postfix is not installed");
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        skipped("postfix: needs root");
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().to_owned();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&home, open).expect("it is ours");
    for name in ["conf", "queue", "data", "box"] {
        fs::create_dir(home.join(name)).expect("a directory");
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .expect("it starts");
        let finished = Finished::from(output);
        assert_eq!(
            finished.code,
            Some(0),
            "{program} {arguments:?}: {finished:?}"
        );
        finished.stdout.trim().to_owned()
    };
    let path = |name: &str| home.join(name).display().to_string();
    run("chown", &["postfix:postfix", &path("data"), &path("box")]);
    let (user, group) = (run("id", &["-u", "postfix"]), run("id", &["-g", "postfix"]));
    let address = place::next_address();
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {queue}\ndata_directory = {data}\n\
         command_directory = /usr/sbin\ndaemon_directory = {DAEMONS}\n\
         mail_owner = postfix\nsetgid_group = postdrop\nmaillog_file = /dev/stdout\n\
         myhostname = post.example\nmydestination =\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nalias_maps =\nalias_database =\n\
         virtual_mailbox_domains = post.example\nvirtual_mailbox_base = {box}\n\
         virtual_mailbox_maps = static:all/\nvirtual_minimum_uid = 1\n\
         virtual_uid_maps = static:{user}\nvirtual_gid_maps = static:{group}\n\
         message_size_limit = 104857600\nvirtual_mailbox_limit = 0\n{lines}\n",
        queue = path("queue"),
        data = path("data"),
        box = path("box"),
    );
    let master = format!(
        "{address} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\nerror unix - - n - - error\n\
         retry unix - - n - - error\nvirtual unix - n n - - virtual\n\
         anvil unix - - n - 1 anvil\npostlog unix-dgram n - n - 1 postlogd\n\
         proxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n"
    );
    fs::write(home.join("conf/main.cf"), main).expect("it is written");
    fs::write(home.join("conf/master.cf"), master).expect("it is written");
    let log = fs::File::create(home.join("log")).expect("a file");
    let child = Command::new("postfix")
        .args(["-c", &path("conf"), "start-fg"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .expect("postfix starts");
    let server = Server {
        name: "postfix",
        address,
        mailbox: home.join("box"),
        child,
        pid_file: Some(home.join("queue/pid/master.pid")),
        _directory: directory,
    };
    eventually("postfix takes connections", || {
        std::net::TcpStream::connect_timeout(&address, PATIENCE).ok()
    });
    Some(server)
}

/// A real client: its name, whether it is here, and its command for a message that
/// lies in a file.
struct RealClient {
    name: &'static str,
    program: &'static str,
    probe: &'static [&'static str],
    arguments: fn(relay: SocketAddr, recipient: &str, file: &str) -> Vec<String>,
    line_end: &'static str,
    from_stdin: bool,
}

const SENDER: &str = "a@client.example";

const CLIENTS: &[RealClient] = &[
    RealClient {
        name: "smtplib",
        program: "python3",
        probe: &["-c", "import smtplib"],
        arguments: |relay, recipient, file| {
            const SCRIPT: &str = "import smtplib, sys\n\
                host, port, sender, recipient, file = sys.argv[1:]\n\
                with smtplib.SMTP(host, int(port), timeout=30) as session:\n\
                \x20   session.sendmail(sender, [recipient], open(file, 'rb').read())\n";
            let (host, port) = (relay.ip().to_string(), relay.port().to_string());
            ["-c", SCRIPT, &host, &port, SENDER, recipient, file]
                .map(str::to_owned)
                .to_vec()
        },
        line_end: "\r\n",
        from_stdin: false,
    },
    RealClient {
        name: "swaks",
        program: "swaks",
        probe: &["--version"],
        arguments: |relay, recipient, file| {
            let server = relay.to_string();
            let data = format!("@{file}");
            [
                "--server", &server, "--from", SENDER, "--to", recipient, "--data", &data,
            ]
            .map(str::to_owned)
            .to_vec()
        },
        line_end: "\n",
        from_stdin: false,
    },
    RealClient {
        name: "msmtp",
        program: "msmtp",
        probe: &["--version"],
        arguments: |relay, recipient, _| {
            let host = format!("--host={}", relay.ip());
            let port = format!("--port={}", relay.port());
            let from = format!("--from={SENDER}");
            [&host, &port, &from, "--auth=off", "--tls=off", recipient]
                .map(str::to_owned)
                .to_vec()
        },
        line_end: "\n",
        from_stdin: true,
    },
    RealClient {
        name: "curl",
        program: "curl",
        probe: &["--version"],
        arguments: |relay, recipient, file| {
            let url = format!("smtp://{relay}/client.example");
            let options = [
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--url",
                &url,
            ];
            let mail = ["--mail-from", SENDER, "--mail-rcpt", recipient];
            [&options[..], &mail, &["--upload-file", file]]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect()
        },
        line_end: "\r\n",
        from_stdin: false,
    },
];

/// Each client that is here sends a message through a relay to `server`.
fn clients_send_to(server: Option<Server>) {
    let Some(server) = server else { return };
    let mut relay = Setup::to(server.address).start();
    let mut expected = Vec::new();
    for client in CLIENTS {
        let name = client.name;
        if !installed(client.program, client.probe) {
            skipped(&format!("{name} is not installed"));
            continue;
        }
        let text = format!(
            "Date: Sun, 22 Nov 2026 12:00:00 +0000\nMessage-ID: <{name}@client.example>\n\
             From: <{SENDER}>\nTo: <b@post.example>\nSubject: from {name}\n\n\
             .dot\n..dots\n.\n\nFrom here on\nGrüße\nend of {name}\n"
        );
        let file = relay.directory().join(format!("{name}.txt"));
        fs::write(&file, text.replace('\n', client.line_end)).expect("it is written");
        let path = file.to_str().expect("UTF-8");
        let input = match client.from_stdin {
            true => Stdio::from(fs::File::open(&file).expect("just written")),
            false => Stdio::null(),
        };
        let output = Command::new(client.program)
            .args((client.arguments)(relay.address(), "b@post.example", path))
            .stdin(input)
            .current_dir(relay.directory())
            .output()
            .expect("the client starts");
        let finished = Finished::from(output);
        assert_eq!(finished.code, Some(0), "{name}: {finished:?}");
        expected.push((name, text));
    }
    assert!(!expected.is_empty() || !installed("python3", &["--version"]));
    for (name, text) in &expected {
        let (_, body) = text.split_once("\n\n").expect("a header");
        let (server, what) = (
            &server,
            format!("{} has the message of {name}", server.name),
        );
        let message = eventually(&what, || {
            let subject = format!("\nSubject: from {name}\n");
            server
                .messages()
                .into_iter()
                .find(|message| message.contains(&subject))
        });
        let (header, got) = message.split_once("\n\n").expect("a header");
        assert_eq!(
            got.trim_end(),
            body.trim_end(),
            "of {name} at {}",
            server.name
        );
        assert!(header.contains("by relay.example"), "{name}: {header}");
    }
    relay.wait_until_empty();
    relay.stop();
}

#[test]
fn into_aiosmtpd() {
    clients_send_to(aiosmtpd(None));
}

#[test]
fn into_postfix() {
    clients_send_to(postfix(""));
}
