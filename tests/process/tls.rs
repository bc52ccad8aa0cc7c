//! TLS in both directions: real clients and servers, certificates that are good and
//! not, and that nothing is changed on the way.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::harness::message::{Random, assert_identical, contains, message};
use crate::harness::relay::Finished;
use crate::harness::secure::{Certificates, Files, SecureClient};
use crate::harness::{PATIENCE, Relay, Setup, Sink, eventually, place, skipped};
use crate::identity::texts;
use crate::real_clients::{PythonTls, aiosmtpd, installed, postfix};

const SENDER: &str = "<a@client.example>";
const RECIPIENT: &str = "<b@b.example>";

/// A relay that offers STARTTLS at its address, and TLS from the start at another.
struct Server {
    relay: Relay,
    implicit: SocketAddr,
}

fn server(sink: &Sink, files: impl FnOnce(IpAddr) -> Files) -> Server {
    let setup = Setup::to(sink.address()).listener("tls = \"starttls\"");
    let address = setup.address.ip();
    // The address is this relay's alone, with all ports.
    let implicit = SocketAddr::new(address, setup.address.port() + 1);
    let tls = files(address).section();
    let listener = format!("[[listener]]\naddress = \"{implicit}\"\ntls = \"implicit\"\n");
    let relay = setup
        .limits("message_size = \"64MiB\"\nsessions_per_client = 1000")
        .sections(&format!("{listener}{tls}"))
        .start();
    Server { relay, implicit }
}

/// A server whose certificate is for its address.
fn good_server(certificates: &Certificates, sink: &Sink) -> Server {
    server(sink, |address| {
        certificates.issue("server", &[&address.to_string()], |_| {})
    })
}

/// A relay that sends to `hosts` with these lines in each `[[delivery.smarthost]]`.
fn sender(certificates: &Certificates, hosts: &[SocketAddr], lines: &str) -> Relay {
    let setup = hosts
        .iter()
        .fold(Setup::new(), |setup, host| setup.smarthost(*host));
    setup
        .limits("message_size = \"64MiB\"")
        .smarthost_lines(lines)
        .wrapper(certificates.trusting())
        .start()
}

#[track_caller]
fn wait_for_log(relay: &Relay, text: &str) {
    eventually(&format!("{text:?} in the log"), || {
        relay.log().contains(text).then_some(())
    });
}

/// In clear to one relay, under TLS to the next, in clear to the sink: what is a
/// message's own is the same.
#[test]
fn messages_stay_as_they_are() {
    let certificates = Certificates::new();
    for implicit in ["false", "true"] {
        let sink = Sink::new();
        let server = good_server(&certificates, &sink);
        let address = if implicit == "true" {
            server.implicit
        } else {
            server.relay.address()
        };
        let lines = format!("tls = \"verified\"\nimplicit_tls = {implicit}");
        let relay = sender(&certificates, &[address], &lines);
        let mut client = relay.client();
        let mut sent = texts();
        if implicit == "true" {
            sent.truncate(8);
        } else {
            let mut large = b"Subject: large\r\n\r\n".to_vec();
            let mut random = Random(50);
            while large.len() < 50 << 20 {
                let line = random.below(200);
                large.extend((0..line).map(|i| b'!' + u8::try_from(i % 90).expect("below 90")));
                large.extend_from_slice(b"\r\n");
            }
            sent.push(crate::identity::Text::new("large", large));
        }
        for text in &sent {
            let from = format!("<{}@client.example>", text.name);
            if text.octets.is_empty() || text.octets.ends_with(b"\r\n") {
                client.send(&from, &[RECIPIENT], &text.octets);
            }
        }
        let sent: Vec<_> = sent
            .iter()
            .filter(|text| text.octets.is_empty() || text.octets.ends_with(b"\r\n"))
            .collect();
        let mail = sink.wait_for(sent.len());
        for text in &sent {
            let from = format!("<{}@", text.name);
            let got = mail.iter().find(|mail| mail.mail.starts_with(&from));
            let got = got.unwrap_or_else(|| panic!("no {}", text.name));
            // Two trace headers: take the second relay's off, and it is checked below.
            let (trace, rest) = split_trace(&got.octets);
            assert!(trace.contains("with ESMTPS\r\n\t(TLSv1.3 TLS_"), "{trace}");
            assert_identical(rest, &text.octets);
        }
        relay.wait_until_empty();
    }
}

/// The first header field, which may be folded, and what is behind it.
fn split_trace(octets: &[u8]) -> (String, &[u8]) {
    let mut at = 0;
    loop {
        let end = octets[at..].windows(2).position(|two| two == b"\r\n");
        at += end.expect("a line") + 2;
        if octets.get(at) != Some(&b'\t') {
            let (trace, rest) = octets.split_at(at);
            return (String::from_utf8_lossy(trace).into_owned(), rest);
        }
    }
}

struct RealClient {
    name: &'static str,
    program: &'static str,
    probe: &'static [&'static str],
    implicit: bool,
    /// With the message on its standard input or in `file`.
    arguments: fn(server: SocketAddr, ca: &str, file: &str) -> Vec<String>,
}

fn words(text: String) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const CLIENTS: &[RealClient] = &[
    RealClient {
        name: "swaks-starttls",
        program: "swaks",
        probe: &["--version"],
        implicit: false,
        arguments: |server, ca, file| {
            words(format!(
                "--server {server} --tls --tls-verify --tls-ca-path {ca} \
                 --from a@client.example --to b@b.example --data @{file}"
            ))
        },
    },
    RealClient {
        name: "swaks-implicit",
        program: "swaks",
        probe: &["--version"],
        implicit: true,
        arguments: |server, ca, file| {
            words(format!(
                "--server {server} --tlsc --tls-verify --tls-ca-path {ca} \
                 --from a@client.example --to b@b.example --data @{file}"
            ))
        },
    },
    RealClient {
        name: "curl-starttls",
        program: "curl",
        probe: &["--version"],
        implicit: false,
        arguments: |server, ca, file| {
            words(format!(
                "--silent --show-error --max-time 30 --ssl-reqd --cacert {ca} \
                 --url smtp://{server}/client.example --mail-from a@client.example \
                 --mail-rcpt b@b.example --upload-file {file}"
            ))
        },
    },
    RealClient {
        name: "curl-implicit",
        program: "curl",
        probe: &["--version"],
        implicit: true,
        arguments: |server, ca, file| {
            words(format!(
                "--silent --show-error --max-time 30 --cacert {ca} \
                 --url smtps://{server}/client.example --mail-from a@client.example \
                 --mail-rcpt b@b.example --upload-file {file}"
            ))
        },
    },
    RealClient {
        name: "msmtp",
        program: "msmtp",
        probe: &["--version"],
        implicit: false,
        arguments: |server, ca, _| {
            let (host, port) = (server.ip(), server.port());
            words(format!(
                "--host={host} --port={port} --from=a@client.example --auth=off --tls=on \
                 --tls-starttls=on --tls-trust-file={ca} b@b.example"
            ))
        },
    },
    RealClient {
        name: "smtplib",
        program: "python3",
        probe: &["-c", "import smtplib, ssl"],
        implicit: false,
        arguments: |server, ca, file| {
            const SCRIPT: &str = "import smtplib, ssl, sys\n\
                host, port, ca, file = sys.argv[1:]\n\
                with smtplib.SMTP(host, int(port), timeout=30) as session:\n\
                \x20   session.starttls(context=ssl.create_default_context(cafile=ca))\n\
                \x20   session.sendmail('a@client.example', ['b@b.example'], open(file, 'rb').read())\n";
            let (host, port) = (server.ip().to_string(), server.port().to_string());
            ["-c", SCRIPT, &host, &port, ca, file]
                .map(str::to_owned)
                .to_vec()
        },
    },
];

#[test]
fn real_clients_send_under_tls() {
    let certificates = Certificates::new();
    let sink = Sink::new();
    let server = good_server(&certificates, &sink);
    let ca = certificates.authority().display().to_string();
    for client in CLIENTS {
        let name = client.name;
        if !installed(client.program, client.probe) {
            skipped(&format!("{name} is not installed"));
            continue;
        }
        let file = server.relay.directory().join(format!("{name}.txt"));
        let text = format!("Subject: from {name}\r\n\r\n.dot\r\nend of {name}\r\n");
        fs::write(&file, text).expect("it is written");
        let address = if client.implicit {
            server.implicit
        } else {
            server.relay.address()
        };
        let output = Command::new(client.program)
            .args((client.arguments)(
                address,
                &ca,
                file.to_str().expect("UTF-8"),
            ))
            .stdin(fs::File::open(&file).expect("just written"))
            .current_dir(server.relay.directory())
            .output()
            .expect("it starts");
        let finished = Finished::from(output);
        assert_eq!(finished.code, Some(0), "{name}: {finished:?}");
        let mail = sink.wait_until(name, |mail| {
            mail.iter()
                .any(|mail| contains(&mail.octets, &format!("end of {name}")))
        });
        let subject = format!("Subject: from {name}");
        let got = mail.iter().find(|mail| contains(&mail.octets, &subject));
        let text = String::from_utf8_lossy(&got.expect("it came").octets).into_owned();
        assert!(text.contains("\n.dot\r\n"), "{name}: {text}");
        assert!(text.contains("with ESMTPS\r\n\t(TLSv1."), "{name}: {text}");
    }
}

/// What `openssl` finds in a handshake, of both versions.
#[test]
fn openssl_is_content() {
    if !installed("openssl", &["version"]) {
        return skipped("openssl is not installed");
    }
    let certificates = Certificates::new();
    let sink = Sink::new();
    let server = good_server(&certificates, &sink);
    let ca = certificates.authority().display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        for (address, start) in [
            (server.relay.address(), &["-starttls", "smtp"][..]),
            (server.implicit, &[]),
        ] {
            let mut child = Command::new("openssl")
                .args([
                    "s_client",
                    "-crlf",
                    "-brief",
                    "-verify_return_error",
                    version,
                ])
                .args(["-CAfile", &ca, "-connect", &address.to_string()])
                .args(start)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts");
            let mut stdin = child.stdin.take().expect("piped");
            stdin.write_all(b"EHLO a\nQUIT\n").expect("it reads");
            let mut text = String::new();
            child
                .stdout
                .take()
                .expect("piped")
                .read_to_string(&mut text)
                .expect("UTF-8");
            drop(stdin);
            let output = child.wait_with_output().expect("it ends");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("Verification: OK"), "{errors}");
            assert!(text.contains("221 "), "{version}: {text}");
            let behind = text.split("PIPELINING").nth(1).unwrap_or_default();
            assert!(!behind.contains("STARTTLS"), "{text}");
        }
    }
}

#[test]
fn real_servers_take_mail_under_tls() {
    let certificates = Certificates::new();
    let files = |address: IpAddr| certificates.issue("mx", &[&address.to_string()], |_| {});
    let probe = place::next_address();
    let client = certificates.issue("client", &["relay.example"], |_| {});
    let check = |server: &crate::real_clients::Server, lines: &str, name: &str| {
        let relay = sender(&certificates, &[server.address], lines);
        let text = message(name, "under TLS");
        relay.client().send(SENDER, &["<b@post.example>"], &text);
        let subject = format!("Subject: {name}\n");
        eventually(name, || {
            let messages = server.messages();
            messages
                .iter()
                .any(|message| message.contains(&subject))
                .then_some(())
        });
        relay.wait_until_empty();
    };
    let own = files(probe.ip());
    let tls = PythonTls {
        certificate: &own.certificate,
        key: &own.key,
        clients: None,
    };
    if let Some(server) = aiosmtpd(Some(&tls)) {
        // It takes no mail in clear, so each of them was under TLS.
        check(&server, "tls = \"opportunistic\"", "opportunistic");
        check(&server, "tls = \"required\"", "required");
    }
    let authority = certificates.authority();
    let tls = PythonTls {
        clients: Some(&authority),
        ..tls
    };
    if let Some(server) = aiosmtpd(Some(&tls)) {
        let lines = format!(
            "tls = \"required\"\ncertificate = \"{}\"\nkey = \"{}\"",
            client.certificate.display(),
            client.key.display()
        );
        check(&server, &lines, "our own certificate");
    }
    // Postfix is started with a certificate for a name; that it is another does not
    // matter here.
    let lines = format!(
        "smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}",
        own.certificate.display(),
        own.key.display()
    );
    if let Some(server) = postfix(&lines) {
        check(&server, "tls = \"required\"", "postfix");
        let text = server.messages().concat();
        assert!(
            text.contains("using TLSv1.3") || text.contains("ESMTPS"),
            "{text}"
        );
    }
}

/// A certificate that is not good, where it must be: the mail stays, the log says why,
/// and the next host gets it.
#[test]
fn bad_certificates_are_told_and_passed_over() {
    let certificates = Certificates::new();
    let check = |files: &dyn Fn(IpAddr) -> Files, expected: &str| {
        let (sink, fallback) = (Sink::new(), Sink::new());
        let bad = server(&sink, files);
        let good = good_server(&certificates, &fallback);
        let hosts = [bad.relay.address()];
        let alone = sender(&certificates, &hosts, "tls = \"verified\"");
        alone
            .client()
            .send(SENDER, &[RECIPIENT], &message("kept", "text"));
        wait_for_log(&alone, expected);
        assert_eq!(alone.queued().len(), 1);

        let hosts = [bad.relay.address(), good.relay.address()];
        let both = sender(&certificates, &hosts, "tls = \"verified\"");
        both.client()
            .send(SENDER, &[RECIPIENT], &message("moved on", "text"));
        fallback.wait_for_one();
        both.wait_until_empty();
        wait_for_log(&both, expected);
        assert_eq!(sink.count(), 0, "{expected}");

        // Without verification it is good enough.
        let any = sender(&certificates, &[bad.relay.address()], "tls = \"required\"");
        any.client()
            .send(SENDER, &[RECIPIENT], &message("any", "text"));
        assert!(contains(&sink.wait_for_one().octets, "with ESMTPS"));
    };
    let expired = |address: IpAddr| {
        certificates.issue("expired", &[&address.to_string()], |params| {
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    };
    let other = |_| certificates.issue("other", &["other.example"], |_| {});
    let own = |address: IpAddr| certificates.self_signed("own", &address.to_string());
    check(
        &expired,
        "the certificate is not good: it has expired (Fri, 01 Jan 2021",
    );
    check(&other, "it is for other.example, and not for 127.");
    check(&own, "its issuer is unknown");
    let authority = |address: IpAddr| certificates.own_authority("authority", &address.to_string());
    check(&authority, "it is that of an authority, made by itself");
}

#[test]
fn mail_waits_where_tls_is_required_and_not_offered() {
    let certificates = Certificates::new();
    let sink = Sink::new();
    let relay = sender(&certificates, &[sink.address()], "tls = \"required\"");
    let id = relay
        .client()
        .send(SENDER, &[RECIPIENT], &message("waits", "text"));
    wait_for_log(&relay, "it does not offer STARTTLS");
    assert_eq!(relay.queued(), [id]);
    assert_eq!(sink.count(), 0);
}

/// A host that offers STARTTLS and cannot do it gets its mail in clear, where that is
/// allowed, and is not asked for TLS again for a while.
#[test]
fn a_broken_handshake_falls_back_to_clear() {
    let certificates = Certificates::new();
    let sink = Sink::new();
    let address = place::next_address();
    let listener = TcpListener::bind(address).expect("it is ours");
    let behind = sink.address();
    let (sessions, counted) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let sessions = sessions.clone();
            std::thread::spawn(move || {
                let _ = sessions.send(half_tls(stream, behind).is_some());
            });
        }
    });
    let relay = sender(&certificates, &[address], "tls = \"opportunistic\"");
    let mut client = relay.client();
    for name in ["first", "second"] {
        client.send(SENDER, &[RECIPIENT], &message(name, "text"));
        sink.wait_until(name, |mail| {
            mail.iter().any(|mail| contains(&mail.octets, name))
        });
        relay.wait_until_empty();
    }
    wait_for_log(&relay, "its mail goes in clear for an hour");
    drop(relay);
    let broken = counted.try_iter().filter(|asked| *asked).count();
    assert_eq!(broken, 1, "handshakes that were tried");
    // Where it is not allowed, it stays.
    let relay = sender(&certificates, &[address], "tls = \"required\"");
    relay
        .client()
        .send(SENDER, &[RECIPIENT], &message("third", "text"));
    wait_for_log(
        &relay,
        "TLS failed: the other side breaks the rules: what came is no TLS",
    );
    assert_eq!(relay.queued().len(), 1);
    assert_eq!(sink.count(), 2);
}

/// A server in front of another that offers STARTTLS and answers the handshake with
/// nonsense. `Some` if it was asked for.
fn half_tls(client: TcpStream, behind: SocketAddr) -> Option<()> {
    let server = TcpStream::connect_timeout(&behind, PATIENCE).ok()?;
    let mut to_client = client.try_clone().ok()?;
    let from_server = BufReader::new(server.try_clone().ok()?);
    std::thread::spawn(move || {
        for line in from_server.split(b'\n') {
            let Ok(mut line) = line else { return };
            line.push(b'\n');
            if line.starts_with(b"250-PIPELINING") {
                let _ = to_client.write_all(b"250-STARTTLS\r\n");
            }
            if to_client.write_all(&line).is_err() {
                return;
            }
        }
        let _ = to_client.shutdown(std::net::Shutdown::Write);
    });
    let mut to_server = server;
    let mut reader = BufReader::new(client);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            let _ = to_server.shutdown(std::net::Shutdown::Both);
            return None;
        }
        if line.starts_with(b"STARTTLS") {
            let stream = reader.get_mut();
            let _ = stream.write_all(b"220 2.0.0 go on\r\n");
            let mut hello = [0; 64];
            let _ = stream.read(&mut hello);
            let _ = stream.write_all(b"what do you mean?\r\n");
            let _ = to_server.shutdown(std::net::Shutdown::Both);
            return Some(());
        }
        to_server.write_all(&line).ok()?;
    }
}

#[test]
fn clear_text_behind_starttls_is_refused() {
    let certificates = Certificates::new();
    let sink = Sink::new();
    let server = good_server(&certificates, &sink);
    let mut client = server.relay.client();
    client.write(b"STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n");
    assert_eq!(client.reply().code, 503);
    client.assert_closed();
    // What comes behind the reply is no handshake either.
    let mut client = server.relay.client();
    client.expect("STARTTLS", 220);
    client.write(b"MAIL FROM:<evil@a.example>\r\n");
    wait_for_log(
        &server.relay,
        "the TLS handshake failed: the other side breaks the rules",
    );
    // An alert, which is no reply.
    assert!(client.try_reply().is_err());
    // Garbage from the start, and a client that goes away.
    let mut stream = TcpStream::connect(server.implicit).expect("it listens");
    stream.write_all(b"EHLO client.example\r\n").expect("open");
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert);
    assert!(alert.len() <= 7 && !alert.starts_with(b"220"), "{alert:?}");
    drop(TcpStream::connect(server.implicit).expect("it listens"));
    wait_for_log(
        &server.relay,
        "the TLS handshake failed: the client went away",
    );
    assert_eq!(sink.count(), 0);
}

/// A reload reads the certificate again; a session that is open goes on, and what is
/// wrong with the new one is told while the old one stays.
#[test]
fn certificates_are_renewed_by_a_reload() {
    let certificates = Certificates::new();
    let sink = Sink::new();
    let mut server = good_server(&certificates, &sink);
    let config = certificates.client_config();
    let address = server.relay.address();
    let mut open = SecureClient::start_tls(address, &config);
    let first = open.certificate();
    assert!(!open.is_resumed());
    assert!(SecureClient::start_tls(address, &config).is_resumed());
    assert!(SecureClient::implicit(server.implicit, &config).is_resumed());

    let renewed = certificates.issue("server", &[&address.ip().to_string()], |_| {});
    server.relay.reload();
    let config = certificates.client_config();
    eventually("the new certificate is shown", || {
        let mut client = SecureClient::start_tls(address, &config);
        client.expect("QUIT", 221);
        client.assert_closed();
        (client.certificate() != first).then_some(())
    });
    open.expect("MAIL FROM:<a@client.example>", 250);
    open.expect("RCPT TO:<b@b.example>", 250);
    open.expect("DATA", 354);
    open.write(b"Subject: over a reload\r\n\r\ntext\r\n.\r\n");
    assert_eq!(open.reply().0, 250);
    sink.wait_for_one();

    fs::write(&renewed.key, "no key").expect("it is written");
    server.relay.reload();
    wait_for_log(&server.relay, "has no \"PRIVATE KEY\"");
    SecureClient::start_tls(address, &config).expect("NOOP", 250);

    certificates.issue("server", &[&address.ip().to_string()], |params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    server.relay.reload();
    wait_for_log(&server.relay, "has expired (Fri, 01 Jan 2021");
    open.expect("QUIT", 221);
    open.assert_closed();
    server.relay.assert_running();
    server.relay.stop();
}

/// Between two commands a session under TLS holds its keys, and no buffer.
#[test]
fn an_idle_session_is_small() {
    const SESSIONS: usize = 400;
    /// Five were measured: the state of the protocol, of which most is keys.
    const SESSION_KIB_MAX: u64 = 8;
    let certificates = Certificates::new();
    let sink = Sink::new();
    let server = good_server(&certificates, &sink);
    let config = certificates.client_config();
    let mut open = Vec::new();
    let mut before = 0;
    for number in 0..SESSIONS {
        if number == SESSIONS / 4 {
            before = server.relay.memory_kib("RssAnon");
        }
        let mut client = SecureClient::start_tls(server.relay.address(), &config);
        client.expect("NOOP", 250);
        open.push(client);
    }
    let grown = server.relay.memory_kib("RssAnon") - before;
    let counted = (SESSIONS - SESSIONS / 4) as u64;
    eprintln!("{counted} idle sessions under TLS: {grown} KiB");
    assert!(
        grown <= counted * SESSION_KIB_MAX,
        "{grown} KiB for {counted} sessions"
    );
}

/// RFC 8689: mail with REQUIRETLS goes to no host in clear, whatever the policy of the
/// route is, nor to one that does not promise to keep it; its sender hears of that, by the
/// header fields alone. To one that does it goes, with the parameter.
#[test]
fn mail_that_requires_tls_never_goes_in_clear() {
    let certificates = Certificates::new();
    let senders = Sink::new();
    let clear = Sink::new();
    let promises_in_clear = Sink::offering(&["REQUIRETLS", "DSN"]);
    let last = Sink::new();
    let able = good_server(&certificates, &last);
    let setup = Setup::new().listener("tls = \"starttls\"");
    let ip = setup.address.ip().to_string();
    let files = certificates.issue("first", &[&ip], |_| {});
    let relay = setup
        .route("client.example", senders.address())
        .route("clear.example", clear.address())
        .route("promise.example", promises_in_clear.address())
        .route("able.example", able.relay.address())
        .sections(&files.section())
        .wrapper(certificates.trusting())
        .start();
    // Where there is no TLS nobody is promised it.
    let mut plain = relay.client();
    assert!(!plain.hello().offers("REQUIRETLS"));
    plain.expect("MAIL FROM:<a@client.example> REQUIRETLS", 555);
    let config = certificates.client_config();
    let mut client = SecureClient::start_tls(relay.address(), &config);
    assert!(
        client
            .expect("EHLO client.example", 250)
            .contains("REQUIRETLS")
    );
    client.expect("MAIL FROM:<a@client.example> REQUIRETLS=1", 501);
    let mut send = |from: &str, domain: &str| {
        client.expect(&format!("MAIL FROM:{from} REQUIRETLS RET=FULL"), 250);
        client.expect(&format!("RCPT TO:<b@{domain}>"), 250);
        client.expect("DATA", 354);
        client.write(b"Subject: secret\r\n\r\nthe secret text\r\n.\r\n");
        assert_eq!(client.reply().0, 250);
    };
    let failed = "the sender asked for TLS on the whole way";
    let fails = |relay: &Relay, to: &str| {
        eventually(&format!("{to} fails"), || {
            let log = relay.log();
            let mut lines = log.lines();
            let of_it = lines.any(|line| line.contains(to) && line.contains(failed));
            of_it.then_some(())
        });
    };
    for domain in ["clear.example", "promise.example"] {
        send("<a@client.example>", domain);
        fails(&relay, &format!("b@{domain}"));
    }
    // It gets to the next hop with the parameter: that one refuses to go on in clear.
    send("<a@client.example>", "able.example");
    fails(&able.relay, "b@able.example");
    // Who sent it has no TLS either, so the notifications, which tell of secrets, are lost.
    relay.wait_until_empty();
    able.relay.wait_until_empty();
    for sink in [&clear, &promises_in_clear, &last, &senders] {
        assert_eq!(sink.count(), 0);
    }
}

/// RFC 8689 §4.2.1: it goes to the next host of the same next hop, and other mail to the
/// first one all the same. It has not failed as long as some host could not be asked.
#[test]
fn mail_that_requires_tls_goes_to_the_host_that_promises_it() {
    let certificates = Certificates::new();
    let (clear, last) = (Sink::new(), Sink::new());
    let able = good_server(&certificates, &last);
    let relay = |first: SocketAddr, second: SocketAddr| {
        let setup = Setup::to(first)
            .smarthost(second)
            .listener("tls = \"starttls\"");
        let ip = setup.address.ip().to_string();
        let files = certificates.issue("first", &[&ip], |_| {});
        let setup = setup.sections(&files.section());
        setup.wrapper(certificates.trusting()).start()
    };
    let config = certificates.client_config();
    let send = |relay: &Relay, parameter: &str, to: &str| {
        let mut client = SecureClient::start_tls(relay.address(), &config);
        client.expect(&format!("MAIL FROM:<>{parameter}"), 250);
        client.expect(&format!("RCPT TO:<{to}>"), 250);
        client.expect("DATA", 354);
        client.write(b"Subject: secret\r\n\r\nthe secret text\r\n.\r\n");
        assert_eq!(client.reply().0, 250);
    };
    let said = |relay: &Relay, parts: [&str; 2]| {
        eventually(&format!("{parts:?}"), || {
            let log = relay.log();
            let mut lines = log.lines();
            let of_it = lines.any(|line| parts.iter().all(|part| line.contains(part)));
            of_it.then_some(())
        });
    };
    let two = relay(clear.address(), able.relay.address());
    send(&two, " REQUIRETLS", "secret@b.example");
    // That one got it, with the parameter, and may not send it on in clear.
    let why = "the sender asked for TLS on the whole way";
    said(&able.relay, ["secret@b.example", why]);
    two.wait_until_empty();
    assert!(!two.log().contains(why), "{}", two.log());
    // The connection is still there, and other mail may use it.
    send(&two, "", "plain@b.example");
    eventually("it is delivered", || {
        (clear.count() + last.count() == 1).then_some(())
    });
    // The first one is dead, and the second does not promise it.
    let other = Sink::new();
    let dead = relay(place::next_address(), other.address());
    send(&dead, " REQUIRETLS", "secret@b.example");
    said(&dead, ["secret@b.example", "deferred"]);
    send(&dead, "", "plain@b.example");
    other.wait_for_one();
    let failed = |line: &str| line.contains("secret@b.example") && line.contains(" failed ");
    assert!(!dead.log().lines().any(failed), "{}", dead.log());
}

/// RFC 8689 §4.2.1: who promises it has to prove who it is, whatever the route asks for.
#[test]
fn mail_that_requires_tls_goes_to_no_host_that_proves_nothing() {
    let certificates = Certificates::new();
    let (last, behind_able) = (Sink::new(), Sink::new());
    let other = certificates.issue("other", &["other.example"], |_| {});
    let impostor = server(&last, |_| other);
    let able = good_server(&certificates, &behind_able);
    let relay = |hosts: &[SocketAddr], policy: &str| {
        let setup = (hosts.iter()).fold(Setup::new(), |setup, host| setup.smarthost(*host));
        let ip = setup.address.ip().to_string();
        let files = certificates.issue("relay", &[&ip], |_| {});
        setup
            .listener("tls = \"starttls\"")
            .smarthost_lines(&format!("tls = \"{policy}\""))
            .sections(&files.section())
            .wrapper(certificates.trusting())
            .start()
    };
    let config = certificates.client_config();
    let send = |relay: &Relay, parameter: &str, to: &str| {
        let mut client = SecureClient::start_tls(relay.address(), &config);
        client.expect(&format!("MAIL FROM:<>{parameter}"), 250);
        client.expect(&format!("RCPT TO:<{to}>"), 250);
        client.expect("DATA", 354);
        client.write(b"Subject: secret\r\n\r\nthe secret text\r\n.\r\n");
        assert_eq!(client.reply().0, 250);
    };
    let hosts = [impostor.relay.address(), able.relay.address()];
    for policy in ["opportunistic", "required"] {
        let two = relay(&hosts, policy);
        let secret = format!("{policy}@b.example");
        send(&two, " REQUIRETLS", &secret);
        // There it fails, for there is no TLS behind it.
        eventually("the next host has got it", || {
            let log = able.relay.log();
            let of_it = |line: &str| line.contains(&secret) && line.contains(" failed ");
            log.lines().any(of_it).then_some(())
        });
        two.wait_until_empty();
        wait_for_log(&two, "the certificate is not good: it is for other.example");
        // For other mail nobody looks.
        send(&two, "", "plain@b.example");
        two.wait_until_empty();
        wait_for_log(&two, "plain@b.example");
    }
    // The connection to the next host is still there, and other mail may use it.
    eventually("the plain ones arrive", || {
        (last.count() + behind_able.count() == 2).then_some(())
    });
    for mail in [last.mail(), behind_able.mail()].concat() {
        assert!(mail.recipients[0].contains("plain@"), "{mail:?}");
    }
    // And where there is no other, it has failed.
    let alone = relay(&hosts[..1], "required");
    send(&alone, " REQUIRETLS", "alone@b.example");
    wait_for_log(&alone, "no other host is left for a message");
    alone.wait_until_empty();
    let log = alone.log();
    let failed = |line: &str| {
        line.contains("alone@b.example")
            && line.contains(" failed ")
            && line.contains("with hosts that prove who they are")
    };
    assert!(log.lines().any(failed), "{log}");
    assert!(!impostor.relay.log().contains("alone@b.example"));
}
