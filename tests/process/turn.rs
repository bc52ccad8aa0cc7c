//! Customers call for their mail by ATRN (RFC 2645): our own client, made for trouble,
//! and fetchmail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tempfile::TempDir;

use crate::harness::message::message;
use crate::harness::secure::Certificates;
use crate::harness::{PATIENCE, Relay, Setup, Sink, eventually, place, skipped};

const SECRET: &str = "swordfish";

/// A relay that holds mail for two customers.
struct Provider {
    relay: Relay,
    odmr: SocketAddr,
    _secrets: TempDir,
}

fn secret_file(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, SECRET).expect("a file of ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    path.display().to_string()
}

impl Provider {
    fn start(cores: u8) -> Self {
        Self::start_with(cores, "", "")
    }

    /// With these lines of the listener for customers, and these sections.
    fn start_with(cores: u8, listener: &str, sections: &str) -> Self {
        let secrets = tempfile::tempdir().expect("a directory");
        let odmr = place::next_address();
        let customer = |name: &str, domains: &str| {
            let file = secret_file(secrets.path(), name);
            format!(
                "[[customer]]\nname = \"{name}\"\ndomains = [{domains}]\ndeliver_to = \"mx\"\n\
                 user = \"{name}\"\npassword_file = \"{file}\"\n"
            )
        };
        let listener = format!("[[listener]]\naddress = \"{odmr}\"\nrole = \"odmr\"\n{listener}\n");
        let branch = customer("branch", "\"a.example\", \"b.example\"");
        let other = customer("other", "\"c.example\"");
        let relay = Setup::new()
            .cores(cores)
            .sections(&format!("{listener}{branch}{other}{sections}"))
            .start();
        Self {
            relay,
            odmr,
            _secrets: secrets,
        }
    }

    /// So many messages for a domain, each over a connection of its own, so that all data
    /// cores get some. Their subjects.
    fn hold(&self, domain: &str, count: usize) -> Vec<String> {
        let subject = |n| format!("{domain}-{n}");
        for n in 0..count {
            let mut client = self.relay.client();
            client.hello();
            let mail = message(&subject(n), "held for the customer");
            client.send("<a@sender.example>", &[&format!("<x@{domain}>")], &mail);
        }
        (0..count).map(subject).collect()
    }

    fn call(&self, user: &str) -> Site {
        let mut site = Site::connect(self.odmr);
        site.authenticate(user);
        site
    }

    /// The subjects of all that is held at these domains, or at all.
    fn collect(&self, user: &str, domains: &str) -> Vec<String> {
        let mut site = self.call(user);
        site.expect(&format!("ATRN {domains}"), 250);
        site.take(usize::MAX)
    }
}

/// In clear or under TLS.
trait Line: Read + Write {}

impl<T: Read + Write> Line for T {}

/// A customer's host.
struct Site {
    stream: BufReader<Box<dyn Line>>,
    /// Text of EHLO behind the turn.
    extensions: &'static str,
    /// MAIL and RCPT, as they came behind the turn.
    envelope: Vec<String>,
}

impl Site {
    fn new(line: Box<dyn Line>) -> Self {
        Self {
            stream: BufReader::new(line),
            extensions: "",
            envelope: Vec::new(),
        }
    }

    fn greeted(mut self) -> Self {
        assert!(self.line().starts_with("220 "));
        self.expect("EHLO site.example", 250);
        self
    }

    fn connect(address: SocketAddr) -> Self {
        Self::new(Box::new(tcp(address))).greeted()
    }

    fn under_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::new(tls(Box::new(tcp(address)), config)).greeted()
    }

    fn start_tls(mut self, config: &Arc<ClientConfig>) -> Self {
        self.expect("STARTTLS", 220);
        assert!(self.stream.buffer().is_empty());
        let mut site = Self::new(tls(self.stream.into_inner(), config));
        site.expect("EHLO site.example", 250);
        site
    }

    fn say(&mut self, text: &str) {
        let written = self.stream.get_mut().write_all(text.as_bytes());
        written.expect("the relay listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line
    }

    fn reply(&mut self) -> (u16, String) {
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                let code = line.get(..3).and_then(|code| code.parse().ok());
                return (code.unwrap_or(0), line);
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, command: &str, code: u16) -> String {
        self.say(&format!("{command}\r\n"));
        let (got, line) = self.reply();
        assert_eq!(got, code, "{command}: {line}");
        line
    }

    fn authenticate(&mut self, user: &str) {
        let line = self.expect("AUTH CRAM-MD5", 334);
        let challenge = BASE64.decode(line[4..].trim()).expect("base64");
        let mut mac = Hmac::<md5::Md5>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(&challenge);
        let digest: String = (mac.finalize().into_bytes().iter())
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let response = BASE64.encode(format!("{user} {digest}"));
        self.expect(&response, 235);
    }

    /// Behind the 250: takes at most so many messages, and says 221 or hangs up. The
    /// subjects of those that it acknowledged.
    fn take(&mut self, most: usize) -> Vec<String> {
        self.say("220 site.example\r\n");
        let mut subjects = Vec::new();
        loop {
            let line = self.line();
            let reply = match line.get(..4).unwrap_or_default() {
                "EHLO" => format!("250-site.example\r\n{}250 8BITMIME\r\n", self.extensions),
                "DATA" => {
                    self.say("354 go on\r\n");
                    subjects.push(self.text());
                    "250 taken\r\n".to_owned()
                }
                "QUIT" => {
                    self.say("221 bye\r\n");
                    let mut rest = Vec::new();
                    self.stream.read_to_end(&mut rest).expect("the end");
                    assert_eq!(rest, b"", "nothing comes behind QUIT");
                    return subjects;
                }
                "" => return subjects,
                "MAIL" | "RCPT" => {
                    self.envelope.push(line.trim_end().to_owned());
                    "250 ok\r\n".to_owned()
                }
                _ => "250 ok\r\n".to_owned(),
            };
            self.say(&reply);
            if subjects.len() >= most {
                return subjects;
            }
        }
    }

    /// The subject of a message by DATA.
    fn text(&mut self) -> String {
        let mut subject = String::new();
        loop {
            let line = self.line();
            match line.strip_prefix("Subject: ") {
                Some(text) => text.trim_end().clone_into(&mut subject),
                None if line == ".\r\n" || line.is_empty() => return subject,
                None => {}
            }
        }
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

fn tls(line: Box<dyn Line>, config: &Arc<ClientConfig>) -> Box<dyn Line> {
    let name = ServerName::try_from("relay.example").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    Box::new(StreamOwned::new(session, line))
}

fn sorted(mut subjects: Vec<String>) -> Vec<String> {
    subjects.sort_unstable();
    subjects
}

#[test]
fn a_customer_collects_what_all_cores_hold() {
    let provider = Provider::start(3);
    let mut expected = provider.hold("a.example", 20);
    expected.extend(provider.hold("b.example", 20));
    let others = provider.hold("c.example", 5);
    let mut site = provider.call("branch");
    site.extensions = "250-PIPELINING\r\n";
    site.expect("ATRN", 250);
    assert_eq!(sorted(site.take(usize::MAX)), sorted(expected));
    // Nothing is left, and the other customer's mail is where it was.
    let mut site = provider.call("branch");
    site.expect("ATRN", 453);
    site.expect("QUIT", 221);
    assert_eq!(provider.relay.queued().len(), others.len());
    assert_eq!(provider.relay.counter("turns"), 1);
    eventually("the operator is told", || {
        let log = provider.relay.log();
        log.contains("branch took 40 messages").then_some(())
    });
}

#[test]
fn one_domain_at_a_time() {
    let provider = Provider::start(2);
    let a = provider.hold("a.example", 6);
    let b = provider.hold("b.example", 6);
    assert_eq!(sorted(provider.collect("branch", "b.example")), b);
    let both = provider.collect("branch", "B.EXAMPLE,a.example");
    assert_eq!(sorted(both), a);
}

#[test]
fn who_may_not_gets_nothing() {
    let provider = Provider::start(1);
    provider.hold("a.example", 1);
    let mut stranger = Site::connect(provider.odmr);
    stranger.expect("ATRN", 530);
    stranger.expect("ATRN a.example", 530);
    stranger.expect("MAIL FROM:<>", 502);
    stranger.expect("ETRN a.example", 502);
    let mut other = provider.call("other");
    for domains in [
        "a.example",
        "c.example,a.example",
        "nobody.example",
        "sub.c.example",
        "[127.0.0.1]",
    ] {
        other.expect(&format!("ATRN {domains}"), 450);
    }
    for (line, code) in [
        ("ATRN ../../../etc/passwd", 501),
        ("ATRN c.example'; DROP TABLE mail; --", 501),
        ("ATRN c.example\0", 500),
        ("ATRN $(reboot)", 501),
        ("ATRN c.example c.example", 501),
        ("ATRN ,", 501),
    ] {
        other.expect(line, code);
    }
    other.expect(&format!("ATRN {}", "x".repeat(1 << 20)), 500);
    other.expect("ATRN", 453);
    // On the port for mail there is no ATRN.
    let mut mail = provider.relay.client();
    mail.hello();
    mail.expect("ATRN", 502);
    assert_eq!(provider.relay.queued().len(), 1);
}

#[test]
fn octets_behind_atrn_end_the_session() {
    let provider = Provider::start(1);
    provider.hold("a.example", 1);
    let mut site = provider.call("branch");
    site.say("ATRN\r\n220 site.example\r\n");
    assert_eq!(site.reply().0, 503);
    assert_eq!(site.line(), "", "it is closed");
    let taken = provider.collect("branch", "");
    assert_eq!(taken.len(), 1, "the message is still there");
}

/// A line that breaks after each few messages: nothing is lost, and only the message
/// whose reply was lost comes twice.
#[test]
fn a_line_that_breaks_loses_nothing() {
    let provider = Provider::start(2);
    let expected = provider.hold("a.example", 30);
    let mut times = BTreeMap::new();
    let mut calls = 0;
    while provider.relay.counter("turns") < 100 {
        let mut site = provider.call("branch");
        site.say("ATRN\r\n");
        match site.reply() {
            (250, _) => {}
            (453, _) => break,
            (_, line) => panic!("{line}"),
        }
        calls += 1;
        for subject in site.take(4) {
            *times.entry(subject).or_insert(0) += 1;
        }
        drop(site);
        let turns = calls;
        eventually("the turn is over", || {
            let log = provider.relay.log();
            (log.matches(" took ").count() >= turns).then_some(())
        });
    }
    assert!(calls >= 30 / 4, "{calls} calls");
    assert_eq!(times.keys().cloned().collect::<Vec<_>>(), sorted(expected));
    let again: usize = times.values().map(|n| n - 1).sum();
    assert!(again <= calls, "{again} came twice in {calls} calls");
}

#[test]
fn killed_in_the_middle_of_a_turn() {
    let mut provider = Provider::start(2);
    let expected = provider.hold("a.example", 40);
    let mut site = provider.call("branch");
    site.expect("ATRN", 250);
    let mut taken = site.take(15);
    assert_eq!(taken.len(), 15);
    provider.relay.kill();
    provider.relay.start_again();
    taken.extend(provider.collect("branch", ""));
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, sorted(expected));
    provider.relay.wait_until_empty();
}

/// fetchmail as the customer's host; what it said.
fn fetchmail(provider: &Provider, sink: &Sink, options: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let rc = directory.path().join("fetchmailrc");
    let (odmr, to) = (provider.odmr, sink.address());
    let text = format!(
        "set no syslog\nset idfile \"{0}/ids\"\nset pidfile \"{0}/pid\"\n\
         poll {1} service {2} protocol ODMR auth cram-md5 timeout 20\n\
         user \"branch\" password \"{SECRET}\" {options} \
         fetchdomains a.example,b.example smtphost {3}/{4}\n",
        directory.path().display(),
        odmr.ip(),
        odmr.port(),
        to.ip(),
        to.port()
    );
    fs::write(&rc, text).expect("a file of ours");
    fs::set_permissions(&rc, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    let output = Command::new("fetchmail")
        .args(["--nodetach", "-v", "-f"])
        .arg(rc)
        .env("HOME", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("it is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn check_fetchmail(provider: &Provider, options: &str) {
    let sink = Sink::new();
    let mut expected = provider.hold("a.example", 8);
    expected.extend(provider.hold("b.example", 8));
    let said = fetchmail(provider, &sink, options);
    assert_eq!(sink.mail().len(), expected.len(), "{said}");
    assert_eq!(provider.relay.counter("turns"), 1);
    provider.relay.wait_until_empty();
    let said = fetchmail(provider, &sink, options);
    assert!(said.contains("ODMR< 453 "), "{said}");
}

#[test]
fn fetchmail_collects() {
    if Command::new("fetchmail").arg("--version").output().is_err() {
        return skipped("fetchmail is not installed");
    }
    check_fetchmail(&Provider::start(2), "sslproto \"\"");
}

/// TLS that was there before the turn stays, also when the connection goes to another
/// core. (fetchmail forgets what a record of TLS holds behind its first line, and hangs.)
#[test]
fn tls_stays_over_the_turn() {
    let certificates = Certificates::new();
    let own = certificates.issue("provider", &["relay.example", "127.0.0.1"], |_| {});
    for kind in ["implicit", "starttls"] {
        let provider = Provider::start_with(3, &format!("tls = \"{kind}\""), &own.section());
        let mut expected = provider.hold("a.example", 12);
        expected.extend(provider.hold("b.example", 12));
        let config = certificates.client_config();
        let mut site = if kind == "implicit" {
            Site::under_tls(provider.odmr, &config)
        } else {
            Site::connect(provider.odmr).start_tls(&config)
        };
        site.authenticate("branch");
        site.extensions = "250-PIPELINING\r\n";
        site.expect("ATRN", 250);
        assert_eq!(sorted(site.take(usize::MAX)), sorted(expected), "{kind}");
        provider.relay.wait_until_empty();
    }
}

/// RFC 3461 in a turned session: the wishes of the sender go on, or what they ask for is
/// told by us.
#[test]
fn notifications_are_for_the_customer_or_for_us() {
    for able in [true, false] {
        let senders = Sink::new();
        let route = format!(
            "[[route]]\ndomain = \"sender.example\"\nnext_hop = \"smtp://{}\"\n",
            senders.address()
        );
        let provider = Provider::start_with(1, "", &route);
        let mut client = provider.relay.client();
        client.hello();
        client.send(
            "<s@sender.example> RET=HDRS ENVID=turn",
            &["<x@a.example> NOTIFY=SUCCESS ORCPT=rfc822;first@a.example"],
            &message("wish", "held for the customer"),
        );
        let mut site = provider.call("branch");
        site.extensions = if able { "250-DSN\r\n" } else { "" };
        site.expect("ATRN", 250);
        assert_eq!(site.take(usize::MAX), ["wish"]);
        let envelope = site.envelope.join(" ");
        for wish in [
            "RET=HDRS",
            "ENVID=turn",
            "NOTIFY=SUCCESS",
            "ORCPT=rfc822;first@a.example",
        ] {
            assert_eq!(envelope.contains(wish), able, "{wish} in {envelope}");
        }
        provider.relay.wait_until_empty();
        if able {
            assert_eq!(senders.count(), 0);
            continue;
        }
        let notification = senders.wait_for_one();
        let text = String::from_utf8_lossy(&notification.octets).into_owned();
        for line in [
            "Action: relayed\r\n",
            "Original-Envelope-Id: turn\r\n",
            "Original-Recipient: rfc822;first@a.example\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
