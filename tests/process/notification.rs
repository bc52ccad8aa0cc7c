//! What the sender is told when it ends in failure, and when nobody is told.

use crate::harness::message::{contains, message};
use crate::harness::sink::Mail;
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
