//! The next hop of these tests is itself tested: a fixture that lets things pass
//! would make every other test green.

use crate::harness::message::{message, stuffed};
use crate::harness::sink::Transfer;
use crate::harness::{Client, Sink, Stage, on};

/// A session with a next hop, past EHLO.
fn session(sink: &Sink) -> Client {
    let mut client = Client::connect(sink.address());
    client.hello();
    client
}

fn breached(sink: &Sink) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink.assert_no_breach())).is_err()
}

#[test]
fn it_keeps_messages_as_they_are() {
    let sink = Sink::new();
    let mut client = session(&sink);
    let text = b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\nb\r\n";
    client.envelope("<a@a.example> SIZE=30", &["<b@b.example>", "<c@b.example>"]);
    let reply = client.data(text);
    assert_eq!(reply.code, 250, "{reply:?}");
    client.envelope("<>", &["<b@b.example> NOTIFY=NEVER"]);
    for chunk in [&b"BDAT 3\r\na\r\n"[..], b"BDAT 2 LAST\r\n.b"] {
        client.write(chunk);
        let reply = client.reply();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    client.envelope("<>", &["<b@b.example>"]);
    let reply = client.data(b"");
    assert_eq!(reply.code, 250, "{reply:?}");
    client.expect("QUIT", 221);
    let mail = sink.wait_for(3);
    assert_eq!(mail[0].octets, text);
    assert_eq!(mail[0].transfer, Transfer::Data);
    assert_eq!(mail[0].mail, "<a@a.example> SIZE=30");
    assert_eq!(mail[0].recipients, ["<b@b.example>", "<c@b.example>"]);
    assert_eq!(mail[1].octets, b"a\r\n.b");
    assert_eq!(mail[1].transfer, Transfer::Bdat);
    assert!(mail[2].octets.is_empty());
}

#[test]
fn it_notes_breaches_of_protocol() {
    let check = |extensions: &[&str], octets: &[u8], expected: bool| {
        let sink = Sink::offering(extensions);
        let mut client = session(&sink);
        client.write(octets);
        while let Ok(reply) = client.try_reply() {
            if reply.code == 221 {
                break;
            }
        }
        let shown = octets.escape_ascii();
        assert_eq!(breached(&sink), expected, "{extensions:?}: {shown}");
        // Its own check at the end would fail this test.
        std::mem::forget(sink);
    };
    check(&[], b"QUIT\r\n", false);
    check(&[], b"NOOP\r\nQUIT\r\n", true);
    check(&["PIPELINING"], b"NOOP\r\nQUIT\r\n", false);
    check(&["PIPELINING"], b"EHLO a\r\nQUIT\r\n", true);
    check(&["PIPELINING"], b"MAIL FROM:<> SIZE=1\r\nQUIT\r\n", true);
    check(
        &["PIPELINING", "SIZE"],
        b"MAIL FROM:<> SIZE=1\r\nQUIT\r\n",
        false,
    );
    check(
        &["PIPELINING"],
        b"MAIL FROM:<> BODY=8BITMIME\r\nQUIT\r\n",
        true,
    );
    check(
        &["PIPELINING"],
        b"MAIL FROM:<>\r\nRCPT TO:<a@b> NOTIFY=NEVER\r\nQUIT\r\n",
        true,
    );
    check(
        &["PIPELINING"],
        "MAIL FROM:<ä@b>\r\nQUIT\r\n".as_bytes(),
        true,
    );
    check(
        &["PIPELINING"],
        b"MAIL FROM:<>\r\nMAIL FROM:<>\r\nQUIT\r\n",
        true,
    );
    check(&["PIPELINING"], b"BDAT 1 LAST\r\naQUIT\r\n", true);
    check(&["PIPELINING"], b"NOOP\nQUIT\r\n", true);
    check(&["PIPELINING"], b"STARTTLS\r\nQUIT\r\n", true);
}

/// A bare LF or CR that a relay let through is what smuggling needs.
#[test]
fn it_notes_bare_line_ends() {
    let check = |text: &[u8], expected: bool| {
        let sink = Sink::new();
        let mut client = session(&sink);
        client.envelope("<>", &["<b@b.example>"]);
        client.expect("DATA", 354);
        client.write(text);
        client.write(b"\r\n.\r\n");
        client.reply();
        assert_eq!(breached(&sink), expected, "{}", text.escape_ascii());
        std::mem::forget(sink);
    };
    check(b"a\r\nb", false);
    check(b"a\nb", true);
    check(b"a\rb", true);
    check(b"a\n.\nb", true);
}

#[test]
fn it_obeys_its_rules() {
    let sink = Sink::ruled([
        on(Stage::Rcpt)
            .containing("b@")
            .after(1)
            .times(1)
            .reply("450 4.2.1 later"),
        on(Stage::End).times(1).close(),
    ]);
    let mut client = session(&sink);
    client.expect("MAIL FROM:<>", 250);
    client.expect("RCPT TO:<b@b.example>", 250);
    client.expect("RCPT TO:<c@b.example>", 250);
    client.expect("RCPT TO:<b@b.example>", 450);
    client.expect("RCPT TO:<b@b.example>", 250);
    client.expect("DATA", 354);
    client.write(&stuffed(&message("closed", "text")));
    client.write(b".\r\n");
    client.assert_closed();
    session(&sink).envelope("<>", &["<b@b.example>"]);
    assert_eq!(sink.wait_for(1).len(), 1);
}
