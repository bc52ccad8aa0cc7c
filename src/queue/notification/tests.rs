//! By our own rules, by Python's email package, and by texts that try to break out.

use super::*;
use crate::mail::Notify;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn recipient(path: &str, notify: Notify, orcpt: Option<&str>) -> Recipient {
    Recipient {
        forward_path: path.parse().expect("a path"),
        notify,
        orcpt: orcpt.map(Into::into),
    }
}

fn facts<'a>(to: &'a Address, host: &'a Domain) -> Facts<'a> {
    Facts {
        to,
        reader: Reader::Sender,
        reporting_mta: host,
        queue_id: QueueId::new(3, 7),
        arrival: WallTime::from_millis(1_795_351_597_250),
        now: WallTime::from_millis(1_795_371_597_250),
        envid: Some("QQ+2B1"),
        priority: Priority::new(4),
        require_tls: false,
        seed: 0xFEED_5EED,
    }
}

fn report<'a>(recipient: &'a Recipient, action: Action, host: &'a Domain) -> RecipientReport<'a> {
    let (class, diagnostic) = match action {
        Action::Failed => (5, Some(Diagnostic::Smtp("550 5.1.1 no such user"))),
        Action::Delayed => (4, Some(Diagnostic::Local("timed out while connecting"))),
        Action::Relayed | Action::Delivered => (2, Some(Diagnostic::Smtp("250 2.0.0 taken"))),
    };
    RecipientReport {
        recipient,
        action,
        status: Status::new(class, 1, 1).expect("a status"),
        remote_mta: Some(host),
        diagnostic,
        last_attempt: Some(WallTime::from_millis(1_795_361_597_250)),
        retry_until: Some(WallTime::from_millis(1_795_861_597_250)),
    }
}

/// What holds for every notification.
fn check_form(notification: &Notification) {
    let text = [&notification.before[..], &notification.after[..]].concat();
    let bare = |line: &[u8]| memchr::memchr2(b'\r', b'\n', line).is_some();
    assert!(text.ends_with(b"--\r\n"));
    let text = text.strip_suffix(b"\r\n").unwrap();
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        assert!(line.len() <= 998, "{}", line.len());
        assert!(!line.starts_with(b"."), "{:?}", line.escape_ascii());
        assert!(!bare(line), "{:?}", line.escape_ascii());
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    let sender = &notification.envelope.sender;
    assert_eq!(sender.reverse_path, ReversePath::Null);
    if sender.body == BodyKind::SevenBit {
        assert!(text.is_ascii());
        assert!(!text.contains(&0));
    }
    assert!(sender.smtputf8 || header_of(text).is_ascii());
}

fn header_of(text: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(text, b"\r\n\r\n").expect("a header section ends");
    &text[..end]
}

const HEADERS: &[u8] = b"From: a@x.example\r\nTo: b@y.example\r\nSubject: A test\r\n";

#[test]
fn as_it_reads() {
    let host: Domain = "relay.example".parse().unwrap();
    let mx: Domain = "mx.example".parse().unwrap();
    let to = address("a@x.example");
    let failed = recipient(
        "b@y.example",
        Notify::Unspecified,
        Some("rfc822;B+2Blist@y.example"),
    );
    let late = recipient("c@y.example", Notify::Unspecified, None);
    let reports = [
        report(&failed, Action::Failed, &mx),
        report(&late, Action::Delayed, &mx),
    ];
    let got = write(&facts(&to, &host), &reports, Returned::Headers(HEADERS)).unwrap();
    check_form(&got);
    let expected = "\
Date: Sun, 22 Nov 2026 18:19:57 +0000
From: Mail Delivery System <MAILER-DAEMON@relay.example>
To: <a@x.example>
Subject: Your message could not be delivered
Message-ID: <0600000000007.00000000feed5eed.report@relay.example>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary=\"=_0600000000007/00000000feed5eed\"
Content-Transfer-Encoding: 7bit

--=_0600000000007/00000000feed5eed
Content-Description: Explanation
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

This is the mail system at relay.example, about the message that you sent.

Your message could not be delivered to the following recipients. It will not
be tried again. The reason stands below each address.

  <b@y.example>
    The host mx.example said: 550 5.1.1 no such user

Your message has not yet been delivered to the following recipients. You
need not send it again: delivery is still being tried, and you will be told
if it fails for good.

  <c@y.example>
    Timed out while connecting (host mx.example)
    It will be tried until Sat, 28 Nov 2026 10:26:37 +0000.

If you need help, write to <postmaster@relay.example> and name the number
0600000000007, or send this message along with all its parts.

--=_0600000000007/00000000feed5eed
Content-Description: Delivery report
Content-Type: message/delivery-status
Content-Transfer-Encoding: 7bit

Reporting-MTA: dns; relay.example
Original-Envelope-Id: QQ+1
Arrival-Date: Sun, 22 Nov 2026 12:46:37 +0000
X-Turnspool-Queue-ID: 0600000000007

Original-Recipient: rfc822;B+list@y.example
Final-Recipient: rfc822;b@y.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example
Diagnostic-Code: smtp; 550 5.1.1 no such user
Last-Attempt-Date: Sun, 22 Nov 2026 15:33:17 +0000

Final-Recipient: rfc822;c@y.example
Action: delayed
Status: 4.1.1
Remote-MTA: dns; mx.example
Diagnostic-Code: x-turnspool; timed out while connecting
Last-Attempt-Date: Sun, 22 Nov 2026 15:33:17 +0000
Will-Retry-Until: Sat, 28 Nov 2026 10:26:37 +0000

--=_0600000000007/00000000feed5eed
Content-Description: Header of your message
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 7bit

From: a@x.example
To: b@y.example
Subject: A test

--=_0600000000007/00000000feed5eed--
";
    let text = String::from_utf8(got.before).unwrap().replace("\r\n", "\n");
    assert_eq!(text, expected);
    assert_eq!(got.envelope.recipients, [Recipient::new(ForwardPath(to))]);
    assert_eq!(got.envelope.sender.priority, Priority::new(4));
}

#[test]
fn who_is_told() {
    let on = |success, failure, delay| Notify::On {
        success,
        failure,
        delay,
    };
    let check = |notify: Notify, expected: [bool; 4]| {
        let host: Domain = "relay.example".parse().unwrap();
        let to = address("a@x.example");
        let who = recipient("b@y.example", notify, None);
        let got = Action::ALL.map(|action| {
            let reports = [report(&who, action, &host)];
            write(&facts(&to, &host), &reports, Returned::Headers(HEADERS)).is_some()
        });
        assert_eq!(got, expected, "{notify:?}");
    };
    // Failed, delayed, relayed, delivered.
    check(Notify::Unspecified, [true, true, false, false]);
    check(Notify::Never, [false; 4]);
    for bits in 1..8 {
        let (success, failure, delay) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        check(
            on(success, failure, delay),
            [failure, delay, success, success],
        );
    }
}

#[test]
fn only_those_who_want_it_are_named() {
    let host: Domain = "relay.example".parse().unwrap();
    let to = address("a@x.example");
    let silent = recipient("silent@y.example", Notify::Never, None);
    let told = recipient("told@y.example", Notify::Unspecified, None);
    let reports = [
        report(&silent, Action::Failed, &host),
        report(&told, Action::Delayed, &host),
    ];
    let got = write(&facts(&to, &host), &reports, Returned::Headers(HEADERS)).unwrap();
    let text = String::from_utf8(got.before).unwrap();
    assert!(!text.contains("silent") && text.contains("told"));
    assert!(text.contains("Subject: Your message is delayed\r\n"));
}

/// Texts of a peer or a sender that try to end a line, a part or the message.
#[test]
fn nothing_breaks_out() {
    let host: Domain = "relay.example".parse().unwrap();
    let boundary = "--=_0600000000007/00000000feed5eed";
    let hostile = [
        "550 a\r\n\r\nInjected: b".to_owned(),
        format!("550\r\n{boundary}--\r\n"),
        "550 \u{0}\u{7f}\u{85}\u{2028} grüß".to_owned(),
        format!("550 {}", "x".repeat(5000)),
        format!("550 {}", "é".repeat(5000)),
        format!("550 {}", ". ".repeat(500)),
        "\r\n.\r\n".to_owned(),
        String::new(),
    ];
    let headers: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"Subject: \xff\xfe\r\n".to_vec(),
        b"Subject: gr\xc3\xbc\xc3\x9f\r\n".to_vec(),
        b".\r\nX: a\r\n\r\nbody\r\n".to_vec(),
        b"no end".to_vec(),
        b"bare\nline\rends\0\r\n".to_vec(),
        [b"X: ".as_slice(), &[b'y'; 5000], b"\r\n"].concat(),
        [b"X: ".as_slice(), &[b'y'; 200_000], b"\r\n"].concat(),
        b"X: y\r\n".repeat(50_000),
    ];
    for to in ["a@x.example", "ä@x.example"] {
        let to = address(to);
        for text in &hostile {
            for diagnostic in [Diagnostic::Smtp(text), Diagnostic::Local(text)] {
                for headers in &headers {
                    let who = recipient("b@y.example", Notify::Unspecified, Some(text));
                    let mut one = report(&who, Action::Failed, &host);
                    one.diagnostic = Some(diagnostic);
                    let mut facts = facts(&to, &host);
                    facts.envid = Some(text);
                    let returned = Returned::Headers(headers);
                    let got = write(&facts, &[one], returned).unwrap();
                    check_form(&got);
                    assert!(got.before.len() < 5 * HEADERS_BYTES_MAX);
                    let text = got.before;
                    let lines = memchr::memmem::find_iter(&text, b"\r\n--=_").count();
                    // Three parts and the end.
                    assert_eq!(lines, 4);
                    assert!(memchr::memmem::find(&text, b"\nInjected").is_none());
                }
            }
        }
    }
}

#[test]
fn a_whole_message_stands_in_between() {
    let host: Domain = "relay.example".parse().unwrap();
    let to = address("a@x.example");
    let who = recipient("b@y.example", Notify::Unspecified, None);
    let reports = [report(&who, Action::Failed, &host)];
    let body = BodyKind::EightBitMime;
    let got = write(&facts(&to, &host), &reports, Returned::Whole { body }).unwrap();
    check_form(&got);
    assert_eq!(got.envelope.sender.body, body);
    let head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";
    assert!(got.before.ends_with(head));
    assert_eq!(got.after, b"\r\n--=_0600000000007/00000000feed5eed--\r\n");
}

/// Prints what Python's email package sees in a report.
const READER: &str = r#"
import sys, email, email.policy
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert not message.defects, message.defects
print(message.get_content_type(), message.get_param("report-type"))
print(message["Auto-Submitted"], "|", message["Subject"])
assert message["Date"].datetime is not None
parts = list(message.iter_parts())
for part in parts:
    assert not part.defects, part.defects
    print(part.get_content_type())
status = parts[1]
if status.get_content_type() == "message/delivery-status":
    for block in status.get_payload():
        assert not block.defects, block.defects
        for name in ["Reporting-MTA", "Original-Recipient", "Final-Recipient", "Action", "Status"]:
            if name in block:
                print(name, str(block[name]).strip())
human = parts[0].get_content()
sys.stdout.buffer.write(("grüß" in human and "human text is whole\n" or "").encode())
last = parts[2]
if last.get_content_type() == "text/rfc822-headers":
    inner = email.message_from_string(last.get_payload(decode=True).decode("utf-8", "replace"), policy=email.policy.default)
else:
    inner = last.get_payload(0)
print("returned", ascii(str(inner["Subject"])))
"#;

fn read_by_python(octets: &[u8]) -> Option<String> {
    run_python(READER, octets)
}

/// What a script prints of them. `None` where there is no Python.
fn run_python(script: &str, octets: &[u8]) -> Option<String> {
    let spawned = Command::new("python3")
        .args(["-X", "utf8", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = spawned else {
        eprintln!("skipped: python3 is not installed, so its email package reads no report");
        return None;
    };
    python.stdin.take().unwrap().write_all(octets).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "python does not take the report");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn python_reads_it() {
    let host: Domain = "relay.example".parse().unwrap();
    let to = address("a@x.example");
    let success = Notify::On {
        success: true,
        failure: true,
        delay: false,
    };
    let failed = recipient("b@y.example", success, Some("rfc822;b+2Bc@y.example"));
    let relayed = recipient("ü@y.example", success, None);
    let mut reports = [
        report(&failed, Action::Failed, &host),
        report(&relayed, Action::Relayed, &host),
    ];
    reports[0].diagnostic = Some(Diagnostic::Smtp("550 grüß"));
    let expected = "\
multipart/report delivery-status
auto-replied | Your message could not be delivered
text/plain
message/delivery-status
THIRD
Reporting-MTA dns; relay.example
Original-Recipient rfc822;b+c@y.example
Final-Recipient rfc822;b@y.example
Action failed
Status 5.1.1
Final-Recipient utf-8;\\x{FC}@y.example
Action relayed
Status 2.1.1
human text is whole
returned SUBJECT
";
    let check = |octets: &[u8], third: &str, subject: &str| {
        if let Some(got) = read_by_python(octets) {
            let expected = expected.replace("THIRD", third).replace("SUBJECT", subject);
            assert_eq!(got, expected);
        }
    };
    let facts = facts(&to, &host);
    let plain = write(&facts, &reports, Returned::Headers(HEADERS)).unwrap();
    check(&plain.before, "text/rfc822-headers", "'A test'");
    let utf8 = Returned::Headers("Subject: grüß\r\n".as_bytes());
    let quoted = write(&facts, &reports, utf8).unwrap();
    check(&quoted.before, "text/rfc822-headers", "'gr\\xfc\\xdf'");
    let body = BodyKind::SevenBit;
    let whole = write(&facts, &reports, Returned::Whole { body }).unwrap();
    let message = b"Subject: A test\r\n\r\nHello\r\n".as_slice();
    let whole = [&whole.before, message, &whole.after].concat();
    check(&whole, "message/rfc822", "'A test'");
}

/// Reports of each action, about three messages of one sender.
fn reports_of_three(to: &Address) -> Vec<Report> {
    let host: Domain = "relay.example".parse().unwrap();
    let success = Notify::On {
        success: true,
        failure: true,
        delay: true,
    };
    let who = recipient("b@y.example", success, Some("rfc822;b+2Bc@y.example"));
    let actions = [Action::Failed, Action::Delayed, Action::Relayed];
    let report_of = |(number, action)| {
        let mut facts = facts(to, &host);
        let envid = format!("envelope-{number}");
        facts.envid = Some(&envid);
        facts.queue_id = QueueId::new(3, number);
        facts.seed = 0xFEED_5EED + number;
        facts.priority = Priority::new(number as i8);
        let headers = format!("From: a@x.example\r\nSubject: Test {number}\r\n");
        let reports = [report(&who, action, &host)];
        let returned = Returned::Headers(headers.as_bytes());
        Report {
            action,
            notification: write(&facts, &reports, returned).expect("it is wanted"),
        }
    };
    (1..).zip(actions).map(report_of).collect()
}

/// What each part is, outermost first, and of each report what it tells, by Python.
const DIGEST_READER: &str = r#"
import sys, email, email.policy
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert message["Date"].datetime is not None
def walk(part, depth):
    assert not part.defects, part.defects
    print("  " * depth + part.get_content_type())
    if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
        for block in part.get_payload():
            for name in ["Original-Envelope-Id", "Final-Recipient", "Action"]:
                if name in block:
                    print("  " * depth + name, str(block[name]).strip())
    elif part.is_multipart():
        for inner in part.get_payload():
            walk(inner, depth + 1)
walk(message, 0)
"#;

/// The same as Python and as the crate `mail-parser` see it.
#[test]
fn many_in_one() {
    let host: Domain = "relay.example".parse().unwrap();
    for (to, kind) in [
        ("a@x.example", "message/rfc822"),
        ("\u{e4}@x.example", "message/global"),
    ] {
        let to = address(to);
        let reports = reports_of_three(&to);
        let now = WallTime::from_millis(1_795_371_597_250);
        let got = digest(&to, &host, now, 0xD16E57, &reports);
        check_form(&got);
        assert_eq!(got.envelope.recipients, [Recipient::new(ForwardPath(to))]);
        assert_eq!(got.envelope.sender.priority, Priority::new(3));
        let mut expected = "multipart/mixed\n  text/plain\n  multipart/digest\n".to_owned();
        let status = match kind {
            "message/rfc822" => "message/delivery-status",
            _ => "message/global-delivery-status",
        };
        for (number, action) in [(1, "failed"), (2, "delayed"), (3, "relayed")] {
            expected += &format!(
                "    {kind}\n      multipart/report\n        text/plain\n        {status}\n\
                 \x20       Original-Envelope-Id envelope-{number}\n\
                 \x20       Final-Recipient rfc822;b@y.example\n        Action {action}\n\
                 \x20       text/rfc822-headers\n"
            );
        }
        if kind == "message/rfc822"
            && let Some(read) = run_python(DIGEST_READER, &got.before)
        {
            assert_eq!(read, expected);
        }
        let message = mail_parser::MessageParser::default().parse(&got.before);
        let message = message.expect("a message");
        assert_eq!(message.subject(), Some("3 reports about mail"));
        let inner: Vec<_> = message
            .parts
            .iter()
            .filter_map(|part| part.message())
            .collect();
        assert_eq!(inner.len(), 3, "{kind}");
        for (inner, number) in inner.into_iter().zip(1..) {
            check_report(
                inner,
                &format!("Original-Envelope-Id: envelope-{number}\r\n"),
            );
        }
    }
}

/// That it is a delivery report with three parts, the second of which says `text`.
fn check_report(message: &mail_parser::Message<'_>, text: &str) {
    use mail_parser::MimeHeaders as _;
    let kind = message.content_type().expect("a type");
    assert_eq!(
        (kind.ctype(), kind.subtype()),
        ("multipart", Some("report"))
    );
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    let mail_parser::PartType::Multipart(parts) = &message.parts[0].body else {
        panic!("{:?}", message.parts[0].body);
    };
    assert_eq!(parts.len(), 3);
    let status = &message.parts[parts[1] as usize];
    let octets = status.contents();
    assert!(
        memchr::memmem::find(octets, text.as_bytes()).is_some(),
        "{text} in {}",
        octets.escape_ascii()
    );
}

/// As in the test with Python, by another parser.
#[test]
fn the_crate_mail_parser_reads_it() {
    let host: Domain = "relay.example".parse().unwrap();
    for (to, action) in [
        ("a@x.example", Action::Failed),
        ("a@x.example", Action::Delayed),
        ("a@x.example", Action::Relayed),
        ("a@x.example", Action::Delivered),
        ("\u{e4}@x.example", Action::Failed),
    ] {
        let to = address(to);
        let on = Notify::On {
            success: true,
            failure: true,
            delay: true,
        };
        let who = recipient("b@y.example", on, Some("rfc822;b+2Bc@y.example"));
        let reports = [report(&who, action, &host)];
        let message = b"Subject: A test\r\n\r\nHello\r\n".as_slice();
        let body = BodyKind::SevenBit;
        let whole = write(&facts(&to, &host), &reports, Returned::Whole { body }).unwrap();
        let headers = write(&facts(&to, &host), &reports, Returned::Headers(HEADERS)).unwrap();
        for octets in [
            [&whole.before, message, &whole.after].concat(),
            headers.before,
        ] {
            let parsed = mail_parser::MessageParser::default().parse(&octets);
            let parsed = parsed.expect("a message");
            check_report(&parsed, &format!("Action: {}\r\n", action.word()));
            check_report(&parsed, "Original-Recipient: rfc822;b+c@y.example\r\n");
        }
    }
}

/// The postmaster is told who was told, and answers nobody.
#[test]
fn a_copy_for_the_postmaster() {
    let host: Domain = "relay.example".parse().unwrap();
    let (to, sender) = (address("postmaster@relay.example"), address("a@x.example"));
    let who = recipient("b@y.example", Notify::Unspecified, None);
    let mut facts = facts(&to, &host);
    facts.reader = Reader::Postmaster { sender: &sender };
    let reports = [report(&who, Action::Failed, &host)];
    let got = write(&facts, &reports, Returned::Headers(HEADERS)).unwrap();
    check_form(&got);
    assert_eq!(got.envelope.recipients, [Recipient::new(ForwardPath(to))]);
    let text = String::from_utf8(got.before).unwrap();
    for part in [
        "To: <postmaster@relay.example>\r\n",
        "Subject: Copy of: Your message could not be delivered\r\n",
        "what a@x.example was told",
        "Action: failed\r\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
