//! What the sender is told when it ends in failure, and when nobody is told.

use crate::harness::dns::NameServer;
use crate::harness::message::{contains, message};
use crate::harness::place::EXCHANGER_PORT;
use crate::harness::sink::{EVERYTHING, Mail};
use crate::harness::{Relay, Setup, Sink, Stage, on, place, skipped};

const SENDER: &str = "<a@client.example>";

/// When it ends in failure because the time is over.
#[test]
fn giving_up() {
    let senders = Sink::new();
    let relay = Setup::new()
        .route("client.example", senders.address())
        .route("down.example", place::next_address())
        .retry("tries = 2\nevery = \"1s\"")
        .start();
    relay
        .client()
        .send(SENDER, &["<b@down.example>"], &message("give up", "text"));
    let notification = senders.wait_for_one();
    let text = String::from_utf8_lossy(&notification.octets).into_owned();
    assert!(text.contains("\r\nAction: failed\r\n"), "{text}");
    assert!(text.contains("rfc822;b@down.example"), "{text}");
    relay.wait_until_empty();
}

/// RFC 5321 §6.1, RFC 3461 §4.1: nobody is told.
#[test]
fn no_notification_for_the_null_sender_or_never() {
    let senders = Sink::new();
    let sink = Sink::ruled([on(Stage::Rcpt).reply("550 5.1.1 nobody")]);
    let relay = Setup::to(senders.address())
        .route("b.example", sink.address())
        .start();
    let mut client = relay.client();
    client.send("<>", &["<b@b.example>"], &message("null", "text"));
    client.send(
        SENDER,
        &["<b@b.example> NOTIFY=NEVER"],
        &message("never", "text"),
    );
    client.send(
        SENDER,
        &["<b@b.example> NOTIFY=DELAY"],
        &message("delay", "text"),
    );
    relay.wait_until_empty();
    // Behind them a failure that is reported: so the others were not merely late.
    client.send(SENDER, &["<b@b.example>"], &message("reported", "text"));
    let notification = senders.wait_for_one();
    assert!(
        contains(&notification.octets, "Subject: reported"),
        "{notification:?}"
    );
    relay.wait_until_empty();
    assert_eq!(senders.count(), 1);
    assert_eq!(sink.count(), 0);
}

/// The notification as a mail program sees it: parsed by Python's email package.
#[test]
fn a_notification_is_a_delivery_report() {
    let senders = Sink::new();
    let sink =
        Sink::ruled([on(Stage::Rcpt).reply("550-5.1.1 There is nobody\r\n550 5.1.1 of this name")]);
    let relay = Setup::to(senders.address())
        .route("b.example", sink.address())
        .start();
    let sent = message("report me", "the body");
    relay.client().send(
        "<a@client.example> ENVID=id+2B1 RET=HDRS",
        &[
            "<b@b.example> ORCPT=rfc822;Original@b.example",
            "<c@b.example>",
        ],
        &sent,
    );
    let notification = senders.wait_for_one();
    assert!(notification.mail.starts_with("<>"), "{notification:?}");
    assert_eq!(notification.recipients.len(), 1);
    assert!(notification.recipients[0].starts_with("<a@client.example>"));
    let Some(report) = parsed(&relay, &notification) else {
        skipped("parsing a notification: python3 is not installed");
        return;
    };
    let check = |name: &str, expected: &str| {
        let got = report[name].as_str().unwrap_or_default();
        assert_eq!(got, expected, "{name} in {report}");
    };
    check("type", "multipart/report");
    check("report-type", "delivery-status");
    check("to", "a@client.example");
    check("auto-submitted", "auto-replied");
    check(
        "parts",
        "text/plain message/delivery-status text/rfc822-headers",
    );
    check("Reporting-MTA", "dns; relay.example");
    check("Original-Envelope-Id", "id+1");
    check(
        "recipients",
        "rfc822; b@b.example failed 5.1.1|rfc822; c@b.example failed 5.1.1",
    );
    check("original", "rfc822; Original@b.example");
    check("returned", "report me");
    assert!(
        report["diagnostic"]
            .as_str()
            .unwrap_or_default()
            .starts_with("smtp; 550"),
        "{report}"
    );
    assert_eq!(report["defects"], 0, "{report}");
}

/// What Python makes of it, as JSON. `None` without Python.
fn parsed(relay: &Relay, notification: &Mail) -> Option<serde_json::Value> {
    const SCRIPT: &str = r#"
import email, email.policy, json, re, sys
message = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = [part for part in message.iter_parts()]
blocks = parts[1].get_payload()
squeeze = lambda text: re.sub(r";\s*", "; ", str(text)) if text is not None else None
returned = email.message_from_string(parts[2].get_payload() if isinstance(parts[2].get_payload(), str) else parts[2].get_payload(0).as_string())
print(json.dumps({
    "type": message.get_content_type(),
    "report-type": message.get_param("report-type"),
    "to": re.sub("[<>]", "", str(message["To"])),
    "auto-submitted": str(message["Auto-Submitted"]).split(" ")[0],
    "parts": " ".join(part.get_content_type() for part in parts),
    "Reporting-MTA": squeeze(blocks[0]["Reporting-MTA"]),
    "Original-Envelope-Id": blocks[0]["Original-Envelope-Id"],
    "recipients": "|".join(sorted(" ".join([squeeze(b["Final-Recipient"]), b["Action"], b["Status"]]) for b in blocks[1:])),
    "original": squeeze(next(b["Original-Recipient"] for b in blocks[1:] if b["Original-Recipient"])),
    "diagnostic": squeeze(blocks[1]["Diagnostic-Code"]),
    "returned": returned["Subject"],
    "defects": sum(len(part.defects) for part in message.walk()),
}))
"#;
    let path = relay.directory().join("notification.eml");
    std::fs::write(&path, &notification.octets).expect("it is written");
    let output = std::process::Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(std::fs::File::open(&path).expect("just written"))
        .output()
        .ok()?;
    let shown = String::from_utf8_lossy(&notification.octets);
    assert!(
        output.status.success(),
        "{}\n{shown}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).expect("the script prints JSON"))
}

/// Final-Recipient and Action of each report in a message.
fn told(mail: &Mail) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&mail.octets);
    let field = |name: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name));
        values
            .map(|value| value.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let whom = field("Final-Recipient: rfc822;");
    whom.into_iter().zip(field("Action: ")).collect()
}

/// One address gets so many in a minute; what is to be told beyond that is told in one
/// message, at the latest when the relay stops. Nobody is told twice, nobody never.
#[test]
fn a_storm_of_failures_is_told_in_few_messages() {
    let (senders, postmaster) = (Sink::new(), Sink::new());
    let sink = Sink::ruled([on(Stage::Rcpt).reply("550 5.1.1 nobody")]);
    let mut relay = Setup::new()
        .cores(2)
        .route("client.example", senders.address())
        .route("office.example", postmaster.address())
        .route("b.example", sink.address())
        .sections("[notify]\nper_minute = 2\npostmaster = \"chief@office.example\"")
        .start();
    let addresses: Vec<_> = (0..9).map(|n| format!("b{n}@b.example")).collect();
    for to in &addresses {
        let mail = message("storm", "text");
        relay.client().send(SENDER, &[&format!("<{to}>")], &mail);
    }
    // What nobody is told of has no copy either.
    relay
        .client()
        .send("<>", &["<null@b.example>"], &message("null", "text"));
    senders.wait_for(2);
    postmaster.wait_for(2);
    relay.wait_until_empty();
    assert_eq!((senders.count(), postmaster.count()), (2, 2));
    relay.stop();
    relay.start_again();
    for (sink, reader) in [(&senders, "sender"), (&postmaster, "postmaster")] {
        let all_told = |mail: &[Mail]| mail.iter().flat_map(told).count() >= 9;
        let mail = sink.wait_until("all are told", all_told);
        relay.wait_until_empty();
        // Each of two cores has told the rest in one.
        assert!(
            (3..=4).contains(&sink.count()),
            "{reader}: {}",
            sink.count()
        );
        let mut told: Vec<_> = mail.iter().flat_map(told).collect();
        told.sort();
        let expected = addresses.iter().map(|to| (to.clone(), "failed".to_owned()));
        assert_eq!(told, expected.collect::<Vec<_>>(), "{reader}");
        assert!(
            mail.iter().all(|mail| mail.mail.starts_with("<>")),
            "{mail:?}"
        );
        let merged = mail
            .iter()
            .filter(|mail| contains(&mail.octets, "multipart/digest"));
        assert!(merged.count() >= 1);
        let copies = mail
            .iter()
            .filter(|mail| contains(&mail.octets, "Subject: Copy of:"));
        assert_eq!(copies.count() > 0, reader == "postmaster");
    }
    relay.stop();
}

/// A kill loses no failure: what was not told is tried again.
#[test]
fn a_kill_loses_nothing_that_was_to_be_told() {
    let senders = Sink::new();
    let sink = Sink::ruled([on(Stage::Rcpt).reply("550 5.1.1 nobody")]);
    let mut relay = Setup::to(senders.address())
        .route("b.example", sink.address())
        .sections("[notify]\nper_minute = 1")
        .start();
    for n in 0..4 {
        let to = format!("<b{n}@b.example>");
        relay
            .client()
            .send(SENDER, &[&to], &message("kill", "text"));
    }
    senders.wait_for(1);
    relay.wait_until_empty();
    relay.kill();
    relay.start_again();
    // The first of this life is told at once; the others when it ends.
    senders.wait_for(2);
    relay.wait_until_empty();
    relay.stop();
    relay.start_again();
    let all_told = |mail: &[Mail]| mail.iter().flat_map(told).count() >= 4;
    let mail = senders.wait_until("all are told", all_told);
    let mut whom: Vec<_> = mail.iter().flat_map(told).map(|(whom, _)| whom).collect();
    whom.sort();
    whom.dedup();
    assert_eq!(whom.len(), 4, "{whom:?}");
    relay.wait_until_empty();
    relay.stop();
}

/// NOTIFY, ORCPT, RET and ENVID by MX, by a static route and out of a held queue: they go
/// on where the host does DSN, else success is told as far as we know it (RFC 3461 §5.2.2).
#[test]
fn wishes_of_the_sender_on_every_way() {
    for able in [true, false] {
        let extensions: Vec<_> = (EVERYTHING.iter().copied())
            .filter(|&extension| able || extension != "DSN")
            .collect();
        let sink = || Sink::at(place::next_exchanger(), &extensions, []);
        let (exchanger, routed, held) = (sink(), sink(), sink());
        let senders = Sink::new();
        let dns = NameServer::new();
        dns.mx("mx.example", &[(10, "host.example")]);
        dns.host("host.example", &[exchanger.address()]);
        let customer = format!(
            "[[customer]]\nname = \"held\"\ndomains = [\"held.example\"]\n\
             deliver_to = \"{}\"\nrelease = {{ open = true }}\n",
            held.address()
        );
        let relay = Setup::mx(dns.address(), EXCHANGER_PORT)
            .route("client.example", senders.address())
            .route("routed.example", routed.address())
            .customer(&customer)
            .start();
        let ways = [
            ("mx.example", &exchanger),
            ("routed.example", &routed),
            ("held.example", &held),
        ];
        for (domain, host) in ways {
            let told_before = senders.count();
            let orcpt = format!("ORCPT=rfc822;First+2Bx@{domain}");
            let wanted = format!("<b@{domain}> NOTIFY=SUCCESS,FAILURE {orcpt}");
            let never = format!("<never@{domain}> NOTIFY=NEVER");
            let mut client = relay.client();
            client.send(
                "<a@client.example> RET=HDRS ENVID=QQ+2B3",
                &[&wanted, &never],
                &message(domain, "text"),
            );
            if domain == "held.example" {
                client.expect("ETRN held.example", 253);
            }
            let mail = host.wait_for_one();
            relay.wait_until_empty();
            let has = |line: &str, word: &str| line.split(' ').any(|got| got == word);
            let rcpt = |beginning: &str| {
                let found = mail
                    .recipients
                    .iter()
                    .find(|rcpt| rcpt.starts_with(beginning));
                found.unwrap_or_else(|| panic!("no {beginning} in {mail:?}"))
            };
            for (line, word) in [
                (&mail.mail, "RET=HDRS"),
                (&mail.mail, "ENVID=QQ+2B3"),
                (rcpt("<b@"), "NOTIFY=SUCCESS,FAILURE"),
                (rcpt("<b@"), orcpt.as_str()),
                (rcpt("<never@"), "NOTIFY=NEVER"),
            ] {
                assert_eq!(has(line, word), able, "{word} in {mail:?}");
            }
            if able {
                assert_eq!(senders.count(), told_before, "{domain}");
                continue;
            }
            let notification = senders.wait_for(told_before + 1).pop().expect("one");
            let relayed = [(format!("b@{domain}"), "relayed".to_owned())];
            assert_eq!(told(&notification), relayed);
            for text in [
                "Original-Envelope-Id: QQ+3\r\n".to_owned(),
                format!("Original-Recipient: rfc822;First+x@{domain}\r\n"),
                "Content-Type: text/rfc822-headers\r\n".to_owned(),
            ] {
                assert!(
                    contains(&notification.octets, &text),
                    "{text} in {notification:?}"
                );
            }
        }
    }
}

/// RET=FULL returns the message whole, up to the size that the operator allows.
#[test]
fn how_much_is_returned() {
    let senders = Sink::new();
    let sink = Sink::ruled([on(Stage::Rcpt).reply("550 5.1.1 nobody")]);
    let relay = Setup::to(senders.address())
        .route("b.example", sink.address())
        .sections("[notify]\nwhole_message_max = \"4KiB\"")
        .start();
    let short = "the text that is returned";
    let long = "the text that is returned\r\n".repeat(200);
    for (ret, text, whole) in [
        ("", short, false),
        (" RET=HDRS", short, false),
        (" RET=FULL", short, true),
        (" RET=FULL", long.as_str(), false),
    ] {
        let before = senders.count();
        let from = format!("<a@client.example>{ret}");
        let sent = message("returned", text);
        relay.client().send(&from, &["<b@b.example>"], &sent);
        let notification = senders.wait_for(before + 1).pop().expect("one");
        let has = |text: &str| contains(&notification.octets, text);
        assert!(has("Subject: returned"), "{notification:?}");
        assert_eq!(has(short), whole, "{ret} {} octets", sent.len());
        let kind = if whole {
            "message/rfc822"
        } else {
            "text/rfc822-headers"
        };
        assert!(has(&format!("Content-Type: {kind}")), "{notification:?}");
    }
    relay.wait_until_empty();
}
