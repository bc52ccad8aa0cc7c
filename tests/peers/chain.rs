//! Mail through two of our relays with a peer between them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::dns::NameServer;
use crate::harness::message::{assert_identical, without_trace};
use crate::harness::place::{self, EXCHANGER_PORT};
use crate::harness::relay::PROGRAM;
use crate::harness::secure::{Certificates, only_ours};
use crate::harness::sink::Mail;
use crate::harness::{Relay, Setup, Sink, eventually};
use crate::peer::{Kind, ONWARD_NAME, PASSWORD, Peer, TlsOut, USER, Wanted};

const SENDER: &str = "<a@client.example>";

/// A client's relay, a peer, the relay behind it, and where all ends.
struct Chain {
    first: Relay,
    peer: Peer,
    second: Relay,
    sink: Sink,
    /// Where the senders live, behind both relays.
    senders: Sink,
    /// They are kept for as long as the chain.
    _dns: Option<NameServer>,
    _certificates: Certificates,
}

/// What a chain is other than in clear and open to everybody.
#[derive(Clone, Default)]
struct Options {
    /// `tls` of the first relay towards the peer; the peer offers STARTTLS then.
    tls: Option<&'static str>,
    /// The peer insists on TLS and a good certificate of the second relay.
    tls_onward: bool,
    /// The password by which the peer knows the first relay: it asks for one.
    password: Option<&'static str>,
    /// The password by which the second relay knows the peer: it asks for one.
    password_onward: Option<&'static str>,
    /// The first relay finds the peer by MX.
    by_mx: bool,
}

const LIMITS: &str = "message_size = \"64MiB\"";

impl Chain {
    fn plain(kind: Kind) -> Option<Self> {
        Self::new(kind, &Options::default())
    }

    fn new(kind: Kind, options: &Options) -> Option<Self> {
        let certificates = Certificates::new();
        let (sink, senders) = (Sink::new(), Sink::new());
        let files = certificates.issue("onward", &[ONWARD_NAME], |_| {});
        let mut second = Setup::to(sink.address())
            .route("client.example", senders.address())
            .limits(LIMITS);
        let mut listener = String::new();
        if options.tls_onward {
            listener.push_str("tls = \"starttls\"\n");
        }
        if options.password_onward.is_some() {
            let users = certificates.authority().with_file_name("users");
            add_user(&users);
            listener.push_str("role = \"submission\"\n");
            second = second.relay(&format!("users_file = \"{}\"", users.display()));
        }
        if options.tls_onward {
            second = second.sections(&files.section());
        }
        let second = second.listener(&listener).start();

        let mut wanted = Wanted::new(&certificates, second.address());
        wanted.tls_in = options.tls.is_some();
        wanted.auth_in = options.password.is_some();
        wanted.auth_out = options.password_onward;
        if options.tls_onward {
            wanted.tls_out = TlsOut::Verified;
        }
        if options.by_mx {
            wanted.listen = place::next_exchanger();
        }
        let peer = Peer::start(kind, &wanted)?;

        let mut lines = String::new();
        if let Some(tls) = options.tls {
            lines.push_str(&format!("tls = \"{tls}\"\n"));
        }
        if let Some(password) = options.password {
            let file = certificates.authority().with_file_name("password");
            std::fs::write(&file, format!("{password}\n")).expect("it is written");
            only_ours(&file);
            let file = file.display();
            lines.push_str(&format!("user = \"{USER}\"\npassword_file = \"{file}\"\n"));
        }
        let dns = options.by_mx.then(NameServer::new);
        let first = match &dns {
            Some(dns) => {
                dns.mx("b.example", &[(10, "peer.example")]);
                dns.host("peer.example", &[peer.address]);
                Setup::mx(dns.address(), EXCHANGER_PORT)
            }
            None => Setup::to(peer.address).smarthost_lines(&lines),
        };
        let first = first
            .route("client.example", senders.address())
            .limits(LIMITS)
            .wrapper(certificates.trusting())
            .start();
        Some(Self {
            first,
            peer,
            second,
            sink,
            senders,
            _dns: dns,
            _certificates: certificates,
        })
    }

    /// Waits until a relay has logged this.
    #[track_caller]
    fn wait_for_log(relay: &Relay, text: &str) {
        eventually(&format!("{text:?} in the log"), || {
            relay.log().contains(text).then_some(())
        });
    }
}

/// Adds [`USER`] with [`PASSWORD`] to a file of users of ours.
fn add_user(file: &std::path::Path) {
    let mut child = Command::new(PROGRAM)
        .args(["user", "add", "--cram-md5"])
        .arg(file)
        .arg(USER)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{PASSWORD}").expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

/// The three `Received` fields, the newest first, and what is behind them.
fn traces(octets: &[u8]) -> (Vec<String>, &[u8]) {
    let (mut rest, mut fields) = (octets, Vec::new());
    for _ in 0..3 {
        let (field, behind) = without_trace(rest);
        fields.push(field);
        rest = behind;
    }
    (fields, rest)
}

/// A whole header, so that nobody adds to it.
fn letter(subject: &str, body: &str) -> Vec<u8> {
    format!(
        "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{subject}@client.example>\r\n\
         From: a@client.example\r\nTo: b@b.example\r\nSubject: {subject}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn one<'a>(mail: &'a [Mail], sender: &str) -> &'a Mail {
    let from: Vec<&Mail> = mail
        .iter()
        .filter(|mail| mail.mail.starts_with(sender))
        .collect();
    assert_eq!(from.len(), 1, "from {sender}: {mail:?}");
    from[0]
}

fn texts_stay_as_they_are(kind: Kind) {
    let Some(chain) = Chain::plain(kind) else {
        return;
    };
    let longest = "x".repeat(900);
    let mut large = String::new();
    while large.len() < 20 << 20 {
        large.push_str(
            "A line like many others, and a dot at the beginning of the next.\r\n.\r\n..\r\n",
        );
    }
    let bodies = [
        ("lines", "one\r\ntwo\r\n\r\n\r\nthree\r\n", ""),
        ("dots", ".\r\n..\r\n.a\r\n...\r\n", ""),
        ("empty", "", ""),
        ("blank", "\r\n\r\n", ""),
        ("tabs", "\t \r\n \r\nend \t\r\n", ""),
        ("from", "From the beginning\r\n>From\r\n", ""),
        ("eight", "Grüße aus Köln\r\n", " BODY=8BITMIME"),
        ("long", longest.as_str(), ""),
        ("large", large.as_str(), ""),
    ];
    let mut client = chain.first.client();
    for (name, body, parameters) in &bodies {
        let body = if body.is_empty() || body.ends_with("\r\n") {
            (*body).to_owned()
        } else {
            format!("{body}\r\n")
        };
        let from = format!("<{name}@client.example>{parameters}");
        client.send(&from, &["<b@b.example>"], &letter(name, &body));
    }
    let mail = chain.sink.wait_for(bodies.len());
    for (name, body, parameters) in &bodies {
        let got = one(&mail, &format!("<{name}@"));
        let body = if body.is_empty() || body.ends_with("\r\n") {
            (*body).to_owned()
        } else {
            format!("{body}\r\n")
        };
        let sent = letter(name, &body);
        let rest = traces(&got.octets).1;
        if rest != sent {
            // Says where.
            assert_identical(&[b"Received: x\r\n", rest].concat(), &sent);
        }
        assert!(
            parameters.is_empty() || got.mail.contains(parameters),
            "{kind:?}: {}",
            got.mail
        );
    }
    for relay in [&chain.first, &chain.second] {
        relay.wait_until_empty();
    }
    assert_eq!(chain.senders.count(), 0, "{kind:?} sent something back");
}

/// Each of three recipients fares as the peer says, and its sender is told so.
fn three_recipients_three_answers(kind: Kind) {
    let Some(chain) = Chain::plain(kind) else {
        return;
    };
    let sent = letter("three", "text\r\n");
    let recipients = [
        "<refused@b.example>",
        "<deferred@b.example>",
        "<taken@b.example>",
    ];
    let id = chain.first.client().send(SENDER, &recipients, &sent);
    let mail = chain.sink.wait_for_one();
    assert_eq!(mail.recipients.len(), 1, "{mail:?}");
    assert!(
        mail.recipients[0].starts_with("<taken@b.example>"),
        "{mail:?}"
    );
    assert_identical(
        &[b"Received: x\r\n", traces(&mail.octets).1].concat(),
        &sent,
    );
    let notification = chain.senders.wait_for_one();
    let text = String::from_utf8_lossy(&notification.octets).into_owned();
    for part in [
        "\r\nAction: failed\r\n".to_owned(),
        "\r\nFinal-Recipient: rfc822;refused@b.example\r\n".to_owned(),
        "\r\nStatus: 5.1.1\r\n".to_owned(),
        "\r\nDiagnostic-Code: smtp; 550 5.1.1 ".to_owned(),
        format!("\r\nRemote-MTA: dns; [{}]\r\n", chain.peer.address.ip()),
        "nobody here\r\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{kind:?}: no {part:?} in {text}");
    }
    assert!(!text.contains("deferred@"), "{text}");
    // One is left, and the log says for whom and why.
    Chain::wait_for_log(&chain.first, "450 4.2.1");
    eventually("one message is left", || {
        (chain.first.queued() == [id.clone()]).then_some(())
    });
    let shown = chain.first.run(&["queue", "show", &id]);
    assert!(shown.stdout.contains("deferred@b.example"), "{shown:?}");
    chain.first.run(&["queue", "delete", &id]);
    chain.first.wait_until_empty();
    assert_eq!(chain.sink.count(), 1, "copies");
}

/// What a sender asked for arrives at the end as it was asked (RFC 3461 §5.2).
fn parameters_of_notifications(kind: Kind) {
    let Some(chain) = Chain::plain(kind) else {
        return;
    };
    let recipients = [
        "<b@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;orig+2Binal@b.example",
        "<never@b.example> NOTIFY=NEVER",
    ];
    // OpenSMTPD 6.8 adds what one recipient wants to what the next one wants, and
    // then finds that NEVER goes with nothing.
    let together = if kind == Kind::OpenSmtpd { 1 } else { 2 };
    for recipients in recipients.chunks(together) {
        chain.first.client().send(
            "<dsn@client.example> RET=HDRS ENVID=env+2Bid",
            recipients,
            &letter("dsn", "text\r\n"),
        );
    }
    let all = |mail: &[Mail]| mail.iter().map(|mail| mail.recipients.len()).sum::<usize>();
    let mail = chain.sink.wait_until("both", |mail| all(mail) == 2);
    for mail in &mail {
        for part in ["RET=HDRS", "ENVID=env+2Bid"] {
            assert!(mail.mail.contains(part), "{kind:?}: {}", mail.mail);
        }
    }
    let lines: Vec<&String> = mail.iter().flat_map(|mail| &mail.recipients).collect();
    let line = |address: &str| {
        let found = lines.iter().find(|line| line.starts_with(address));
        found
            .unwrap_or_else(|| panic!("{address} in {lines:?}"))
            .to_ascii_lowercase()
    };
    let asked = line("<b@");
    assert!(
        asked.contains("notify=success,failure"),
        "{kind:?}: {asked}"
    );
    assert!(
        asked.contains("orcpt=rfc822;orig+2binal@b.example"),
        "{kind:?}: {asked}"
    );
    assert!(
        line("<never@").contains("notify=never"),
        "{kind:?}: {lines:?}"
    );
    for relay in [&chain.first, &chain.second] {
        relay.wait_until_empty();
    }
    // All the way knew the extension, so nobody answered for it.
    assert_eq!(
        chain.senders.count(),
        0,
        "{kind:?}: {:?}",
        chain.senders.mail()
    );
}

/// An address beyond ASCII goes where SMTPUTF8 is spoken, and is returned elsewhere.
fn addresses_beyond_ascii(kind: Kind) {
    let Some(chain) = Chain::plain(kind) else {
        return;
    };
    let sent = letter("utf8", "Grüße\r\n");
    chain.first.client().send(
        "<a@client.example> BODY=8BITMIME SMTPUTF8",
        &["<käthe@b.example>"],
        &sent,
    );
    if kind == Kind::OpenSmtpd {
        let notification = chain.senders.wait_for_one();
        let text = String::from_utf8_lossy(&notification.octets).into_owned();
        assert!(text.contains("\r\nStatus: 5.6.7\r\n"), "{text}");
        assert_eq!(chain.sink.count(), 0);
        return;
    }
    let mail = chain.sink.wait_for_one();
    assert!(mail.mail.contains(" SMTPUTF8"), "{mail:?}");
    assert!(
        mail.recipients[0].starts_with("<käthe@b.example>"),
        "{mail:?}"
    );
    assert_identical(
        &[b"Received: x\r\n", traces(&mail.octets).1].concat(),
        &sent,
    );
}

/// Under TLS on both sides, whatever of it is asked for.
fn under_tls(kind: Kind) {
    if kind == Kind::OpenSmtpd {
        return handshakes_that_fail();
    }
    for tls in ["opportunistic", "required", "verified"] {
        let options = Options {
            tls: Some(tls),
            tls_onward: true,
            ..Options::default()
        };
        let Some(chain) = Chain::new(kind, &options) else {
            return;
        };
        let sent = letter(tls, "text\r\n");
        chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
        let mail = chain.sink.wait_for_one();
        let (traces, text) = traces(&mail.octets);
        assert_identical(&[b"Received: x\r\n", text].concat(), &sent);
        assert!(traces[0].contains("with ESMTPS"), "{}", traces[0]);
        let of_peer = traces[1].to_ascii_lowercase();
        assert!(of_peer.contains("with esmtps"), "{of_peer}");
    }
}

/// OpenSMTPD 6.8 with OpenSSL 3 offers STARTTLS, and each handshake ends with an
/// alert, since it does not find its key. As a client it does well.
fn handshakes_that_fail() {
    for tls in ["opportunistic", "required"] {
        let options = Options {
            tls: Some(tls),
            tls_onward: true,
            ..Options::default()
        };
        let Some(chain) = Chain::new(Kind::OpenSmtpd, &options) else {
            return;
        };
        let sent = letter(tls, "text\r\n");
        chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
        if tls == "required" {
            Chain::wait_for_log(&chain.first, "TLS failed: the other side broke it off");
            assert_eq!(chain.sink.count(), 0);
            assert!(!chain.first.is_empty());
            continue;
        }
        let mail = chain.sink.wait_for_one();
        let (traces, text) = traces(&mail.octets);
        assert_identical(&[b"Received: x\r\n", text].concat(), &sent);
        assert!(traces[0].contains("with ESMTPS"), "{}", traces[0]);
        Chain::wait_for_log(&chain.first, "its mail goes in clear for an hour");
    }
}

/// A peer whose authority nobody knows gets nothing by `verified`.
fn a_certificate_of_an_unknown_authority(kind: Kind) {
    if kind == Kind::OpenSmtpd {
        // See above.
        return;
    }
    let options = Options {
        tls: Some("required"),
        ..Options::default()
    };
    let Some(mut chain) = Chain::new(kind, &options) else {
        return;
    };
    let other = Certificates::new();
    let address = chain.peer.address;
    chain.first.stop();
    chain.first.change(|_| {
        Setup::to(address)
            .smarthost_lines("tls = \"verified\"")
            .wrapper(other.trusting())
    });
    chain.first.start_again();
    let sent = letter("other", "text\r\n");
    chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
    Chain::wait_for_log(&chain.first, "TLS failed: the certificate is not good");
    assert_eq!(chain.sink.count(), 0);
    assert!(!chain.first.is_empty());
}

/// With the right passwords on both sides.
fn with_the_right_passwords(kind: Kind) {
    // OpenSMTPD asks for one only under TLS: see above.
    let asks = kind != Kind::OpenSmtpd;
    let options = Options {
        tls: asks.then_some("verified"),
        tls_onward: true,
        password: asks.then_some(PASSWORD),
        password_onward: Some(PASSWORD),
        ..Options::default()
    };
    let Some(chain) = Chain::new(kind, &options) else {
        return;
    };
    let sent = letter("auth", "text\r\n");
    chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
    let mail = chain.sink.wait_for_one();
    let (traces, text) = traces(&mail.octets);
    assert_identical(&[b"Received: x\r\n", text].concat(), &sent);
    assert!(traces[0].contains("with ESMTPSA"), "{}", traces[0]);
    assert_eq!(chain.senders.count(), 0);
}

/// With a wrong one the mail waits, and the log says that it is the password.
fn with_a_wrong_password_of_ours(kind: Kind) {
    if kind == Kind::OpenSmtpd {
        return;
    }
    let options = Options {
        tls: Some("verified"),
        password: Some("wrong"),
        ..Options::default()
    };
    let Some(chain) = Chain::new(kind, &options) else {
        return;
    };
    let sent = letter("auth", "text\r\n");
    chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
    Chain::wait_for_log(&chain.first, "authenticat");
    Chain::wait_for_log(&chain.first, "535");
    assert!(!chain.first.is_empty());
    assert_eq!(chain.sink.count() + chain.senders.count(), 0);
}

/// With a wrong one of the peer's we say so, and it keeps its mail.
fn with_a_wrong_password_of_the_peer(kind: Kind) {
    let options = Options {
        tls_onward: true,
        password_onward: Some("wrong"),
        ..Options::default()
    };
    let Some(chain) = Chain::new(kind, &options) else {
        return;
    };
    let sent = letter("auth", "text\r\n");
    chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
    Chain::wait_for_log(&chain.second, USER);
    assert_eq!(chain.sink.count(), 0);
}

/// As an exchanger that the DNS names.
fn found_by_mx(kind: Kind) {
    let options = Options {
        by_mx: true,
        ..Options::default()
    };
    let Some(chain) = Chain::new(kind, &options) else {
        return;
    };
    let sent = letter("mx", "text\r\n");
    chain.first.client().send(SENDER, &["<b@b.example>"], &sent);
    let mail = chain.sink.wait_for_one();
    assert_identical(
        &[b"Received: x\r\n", traces(&mail.octets).1].concat(),
        &sent,
    );
}

macro_rules! for_each_peer {
    ($($test:ident),+ $(,)?) => {
        mod postfix { $(#[test] fn $test() { super::$test(super::Kind::Postfix); })+ }
        mod exim { $(#[test] fn $test() { super::$test(super::Kind::Exim); })+ }
        mod opensmtpd { $(#[test] fn $test() { super::$test(super::Kind::OpenSmtpd); })+ }
    };
}

for_each_peer!(
    texts_stay_as_they_are,
    three_recipients_three_answers,
    parameters_of_notifications,
    addresses_beyond_ascii,
    under_tls,
    a_certificate_of_an_unknown_authority,
    with_the_right_passwords,
    with_a_wrong_password_of_ours,
    with_a_wrong_password_of_the_peer,
    found_by_mx,
);
