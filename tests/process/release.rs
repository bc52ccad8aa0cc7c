//! Who releases held mail, in the ways that an operator can say: who authenticated, who
//! calls from a listed address, whose own address it goes to, whose interval is over.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::harness::message::message;
use crate::harness::relay::Relay;
use crate::harness::secure::only_ours;
use crate::harness::{Client, Gate, Setup, Sink, Stage, eventually, on, skipped};

const SECRET: &str = "swordfish";

/// A customer with a user of its name.
pub(crate) fn customer(directory: &Path, name: &str, deliver_to: &str, lines: &str) -> String {
    let file = directory.join(name);
    fs::write(&file, SECRET).expect("it is ours");
    only_ours(&file);
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"{deliver_to}\"\nuser = \"{name}\"\npassword_file = \"{}\"\n{lines}\n",
        file.display()
    )
}

fn send(relay: &Relay, to: &str, subject: &str) {
    let to = format!("<{to}>");
    let mut client = relay.client();
    client.send("<a@client.example>", &[&to], &message(subject, "text"));
}

/// A session that has said by CRAM-MD5 who it is.
pub(crate) fn log_in(mut client: Client, user: &str) -> Client {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    client.hello();
    let challenge = client.expect("AUTH CRAM-MD5", 334).text();
    let challenge = BASE64.decode(challenge.trim()).expect("base64");
    let mut mac = Hmac::<md5::Md5>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(&challenge);
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    client.expect(&BASE64.encode(format!("{user} {digest}")), 235);
    client
}

#[test]
fn etrn_of_who_authenticated() {
    let (site, other) = (Sink::new(), Sink::new());
    let directory = tempfile::tempdir().expect("a directory");
    let to = |sink: &Sink| sink.address().to_string();
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer(directory.path(), "branch", &to(&site), ""))
        .customer(&customer(directory.path(), "other", &to(&other), ""))
        .start();
    for n in 0..6 {
        send(&relay, "b@branch.example", &n.to_string());
    }
    send(&relay, "b@other.example", "other");
    let mut stranger = relay.client();
    assert!(stranger.hello().offers("AUTH"));
    for node in [
        "branch.example",
        "@branch.example",
        "#branch",
        "nobody.example",
    ] {
        stranger.expect(&format!("ETRN {node}"), 530);
    }
    let mut client = log_in(Client::connect(relay.address()), "branch");
    client.expect("ETRN other.example", 459);
    client.expect("ETRN nobody.example", 459);
    client.expect("MAIL FROM:<>", 250);
    client.expect("ETRN #branch", 503);
    client.expect("RSET", 250);
    let started = client.expect("ETRN #branch", 253).text();
    assert!(started.contains("OK, 6 pending messages,"), "{started}");
    site.wait_for(6);
    eventually("the drain is over", || {
        relay.log().contains("release-ended").then_some(())
    });
    client.expect("ETRN branch.example", 251);
    assert_eq!(other.count(), 0);
    assert_eq!(relay.queued().len(), 1);
    let log = relay.log();
    assert!(log.contains("by ETRN of branch at 127."), "{log}");
    relay.stop();
}

/// fetchmail authenticates for ETRN where it has a name and a password for ESMTP.
#[test]
fn fetchmail_authenticates_and_calls() {
    if Command::new("fetchmail").arg("--version").output().is_err() {
        return skipped("fetchmail is not installed");
    }
    let site = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let to = site.address().to_string();
    let mut relay = Setup::new()
        .customer(&customer(directory.path(), "branch", &to, ""))
        .start();
    send(&relay, "b@branch.example", "one");
    let file = directory.path().join("rc");
    let call = |password: &str| {
        let (host, port) = (relay.address().ip(), relay.address().port());
        let text = format!(
            "poll {host} proto ETRN service {port} esmtpname \"branch\" \
             esmtppassword \"{password}\" fetchdomains \"branch.example\"\n"
        );
        fs::write(&file, text).expect("it is ours");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let output = Command::new("fetchmail")
            .args(["--nodetach", "--nosyslog", "-v", "-f"])
            .arg(&file)
            .env("HOME", directory.path())
            .env("FETCHMAILHOME", directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        format!("{output:?}")
    };
    let said = call("wrong");
    assert!(said.contains("530 5.7.0"), "{said}");
    assert_eq!(site.count(), 0);
    let said = call(SECRET);
    assert!(said.contains("253 2.0.0"), "{said}");
    site.wait_for_one();
    relay.wait_until_empty();
    relay.stop();
}

/// Listed addresses need no password; others do, or may not at all.
#[test]
fn etrn_of_listed_addresses() {
    let site = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let to = site.address().to_string();
    let rules = "release = { auth = false, clients = [\"127.9.9.0/24\"] }";
    let mut relay = Setup::new()
        .customer(&customer(directory.path(), "branch", &to, rules))
        .start();
    send(&relay, "b@branch.example", "one");
    let call_from = |address: Ipv4Addr| {
        let mut client = Client::connect_from(address.into(), relay.address());
        client.hello();
        client
    };
    let mut elsewhere = call_from(Ipv4Addr::new(127, 9, 8, 255));
    elsewhere.expect("ETRN branch.example", 530);
    // Not by its user either, if that is not said.
    let login = Client::connect_from(Ipv4Addr::new(127, 9, 8, 1).into(), relay.address());
    log_in(login, "branch").expect("ETRN branch.example", 459);
    assert_eq!(site.count(), 0);
    call_from(Ipv4Addr::new(127, 9, 9, 77)).expect("ETRN branch.example", 253);
    site.wait_for_one();
    relay.stop();
}

/// Mail that goes to the caller's own address goes to who has authenticated, while that
/// release lasts; not to whoever has the address later.
#[test]
fn mail_goes_to_the_caller() {
    let [_, a, b, _] = std::process::id().to_be_bytes();
    let caller = Ipv4Addr::new(127, a | 128, b, 9);
    let port_25 = SocketAddr::from((caller, 25));
    if std::net::TcpListener::bind(port_25).is_err() {
        return skipped("port 25 is not ours to listen at");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer(directory.path(), "branch", "caller", ""))
        .start();
    let call = || {
        log_in(
            Client::connect_from(caller.into(), relay.address()),
            "branch",
        )
    };
    let site = Sink::at(port_25, &[], []);
    call().expect("ETRN branch.example", 251);
    // Tomorrow that address is somebody else's.
    for n in 0..4 {
        send(&relay, "b@branch.example", &n.to_string());
    }
    let released = relay.facts(&["release", "branch"]);
    assert_eq!(released[0]["messages"], 4);
    eventually("nobody to deliver to", || {
        relay.log().contains("release-ended").then_some(())
    });
    assert_eq!(site.sessions(), 0, "nobody has called");
    call().expect("ETRN branch.example", 253);
    site.wait_for(4);
    relay.wait_until_empty();
    relay.stop();
}

/// A customer that asks for nothing is tried each time its interval is over.
#[test]
fn an_interval_lets_mail_go() {
    let site = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let to = site.address().to_string();
    let rules = "release = { every = \"10s\" }";
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer(directory.path(), "branch", &to, rules))
        .start();
    for n in 0..4 {
        send(&relay, "b@branch.example", &n.to_string());
    }
    site.wait_for(4);
    relay.wait_until_empty();
    let log = relay.log();
    assert!(log.contains("by interval"), "{log}");
    relay.stop();
}

/// A host that sends its own mail through us all day has not used up its ETRN by that.
#[test]
fn connections_use_up_nothing() {
    let site = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let to = site.address().to_string();
    let rules = "release = { clients = [\"127.0.0.0/8\"], on_connect = true }";
    let mut relay = Setup::new()
        .customer(&customer(directory.path(), "branch", &to, rules))
        .start();
    for _ in 0..150 {
        relay.client().expect("QUIT", 221);
    }
    let mut client = relay.client();
    client.expect("ETRN #branch", 251);
    send(&relay, "b@branch.example", "one");
    client.expect("ETRN #branch", 253);
    site.wait_for_one();
    relay.stop();
}

/// A drain over several connections that is killed again and again: all arrives, and at
/// most what was on its way to the site comes twice.
#[test]
fn a_drain_that_is_killed_again_and_again() {
    const MESSAGES: usize = 300;
    const CRASHES: usize = 4;
    const CONNECTIONS: usize = 3;
    // A slow message behind each few holds the drain up, so that it is met in its middle.
    let gates: Vec<Gate> = (0..CRASHES).map(|_| Gate::new()).collect();
    let slow = |(nth, gate): (u32, &Gate)| on(Stage::End).after(50 * nth).times(1).hold(gate);
    let site = Sink::ruled((1..).zip(&gates).map(slow));
    let directory = tempfile::tempdir().expect("a directory");
    let to = site.address().to_string();
    let mut relay = Setup::new()
        .cores(2)
        .delivery(&format!("connections_per_destination = {CONNECTIONS}"))
        .customer(&customer(
            directory.path(),
            "branch",
            &to,
            "release = { open = true }",
        ))
        .start();
    // Of several sessions, so that both cores have some.
    let mut clients: Vec<_> = (0..6).map(|_| relay.client()).collect();
    for number in 0..MESSAGES {
        let text = message(&format!("number {number}."), "text");
        clients[number % 6].send("<a@client.example>", &["<b@branch.example>"], &text);
    }
    drop(clients);
    for gate in &gates {
        relay.client().expect("ETRN branch.example", 253);
        eventually("a message is held up", || {
            (gate.arrived() > 0).then_some(())
        });
        relay.kill();
        gate.open();
        relay.start_again();
    }
    relay.client().expect("ETRN branch.example", 253);
    relay.wait_until_empty();
    let mail = site.mail();
    for number in 0..MESSAGES {
        let subject = format!("Subject: number {number}.\r\n");
        let has = |octets: &[u8]| {
            octets
                .windows(subject.len())
                .any(|w| w == subject.as_bytes())
        };
        let copies = mail.iter().filter(|mail| has(&mail.octets)).count();
        assert!(copies >= 1, "number {number} is lost");
    }
    // On each connection one whose reply is on its way, and one behind it.
    let most = MESSAGES + CRASHES * CONNECTIONS * 2;
    assert!(mail.len() <= most, "{} copies", mail.len());
    eprintln!("{} came twice in {CRASHES} crashes", mail.len() - MESSAGES);
    relay.stop();
}
