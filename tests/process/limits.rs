//! Limits: what is over one is told so, and the others go on.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};

use crate::harness::message::{assert_identical, message, stuffed};
use crate::harness::{Client, Setup, Sink, eventually};

const MAIL: &str = "MAIL FROM:<a@client.example>";

#[test]
fn sessions() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).limits("sessions = 3").start();
    // The relay was reached once while it started; that session may still count.
    let mut open: Vec<Client> = Vec::new();
    while open.len() < 3 {
        let client = Client::connect(relay.address());
        if client.greeting.code == 220 {
            open.push(client);
        }
    }
    let mut refused = Client::connect(relay.address());
    assert_eq!(refused.greeting.code, 421, "{:?}", refused.greeting);
    assert!(
        refused.greeting.text().starts_with("4.7.0 "),
        "{:?}",
        refused.greeting
    );
    refused.assert_closed();
    for client in &mut open {
        client.hello();
    }
    open[0].expect("QUIT", 221);
    let mut next = eventually("there is room for a session again", || {
        let client = Client::connect(relay.address());
        (client.greeting.code == 220).then_some(client)
    });
    next.hello();
    let sent = message("limit", "text");
    next.send("<a@client.example>", &["<b@b.example>"], &sent);
    assert_identical(&sink.wait_for_one().octets, &sent);
}

#[test]
fn sessions_of_one_client() {
    let relay = Setup::to(Sink::new().address())
        .limits("sessions = 100\nsessions_per_client = 2")
        .start();
    let from = |last: u8| {
        let ours = IpAddr::V4(Ipv4Addr::new(127, 200, 0, last));
        Client::connect_from(ours, relay.address())
    };
    let mut first = [from(1), from(1)];
    for client in &mut first {
        client.hello();
    }
    let mut refused = from(1);
    assert_eq!(refused.greeting.code, 421, "{:?}", refused.greeting);
    assert!(
        refused.greeting.text().starts_with("4.7.0 "),
        "{:?}",
        refused.greeting
    );
    refused.assert_closed();
    // Another client is not hit by it.
    from(2).hello();
    drop(first);
    let mut again = eventually("the first client may come again", || {
        let client = from(1);
        (client.greeting.code == 220).then_some(client)
    });
    again.hello();
}

/// Who is refused again and again waits for the no; who will say nothing more does not, and
/// leaves its place, of which a client has so many.
#[test]
fn clients_that_do_not_wait_for_a_no() {
    let relay = Setup::to(Sink::new().address()).start();
    let group = format!("EHLO client.example\r\n{}", "NONSENSE\r\n".repeat(90));
    let gone: Vec<TcpStream> = (0..120)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(relay.address()).ok()?;
            stream.write_all(group.as_bytes()).ok()?;
            stream.shutdown(Shutdown::Write).ok()?;
            Some(stream)
        })
        .collect();
    let mut client = eventually("there is a place", || {
        let client = Client::try_connect(None, relay.address()).ok()?;
        (client.greeting.code == 220).then_some(client)
    });
    client.hello();
    drop(gone);
}

#[test]
fn message_size() {
    const SIZE_MAX: usize = 64 << 10;
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .limits("message_size = \"64KiB\"")
        .start();
    let mut client = relay.client();
    let hello = client.hello();
    let size = format!("SIZE {SIZE_MAX}");
    assert!(hello.lines.contains(&size), "{hello:?}");

    let reply = client.expect(&format!("{MAIL} SIZE={}", SIZE_MAX + 1), 552);
    assert!(reply.text().starts_with("5.3.4 "), "{reply:?}");

    let too_big = message("big", &"x\r\n".repeat(SIZE_MAX / 3));
    assert!(too_big.len() > SIZE_MAX);
    client.envelope("<a@client.example>", &["<b@b.example>"]);
    let reply = client.data(&too_big);
    assert_eq!(reply.code, 552, "{reply:?}");
    client.envelope("<a@client.example>", &["<b@b.example>"]);
    client.write(format!("BDAT {} LAST\r\n", too_big.len()).as_bytes());
    client.write(&too_big);
    let reply = client.reply();
    assert_eq!(reply.code, 552, "{reply:?}");
    client.expect("RSET", 250);

    // The session goes on, and what just fits is taken.
    let mut fits = message("fits", "");
    let rest = SIZE_MAX - fits.len();
    fits.extend(std::iter::repeat_n(b'x', rest - 2));
    fits.extend_from_slice(b"\r\n");
    assert_eq!(fits.len(), SIZE_MAX);
    client.send("<a@client.example>", &["<b@b.example>"], &fits);
    assert_identical(&sink.wait_for_one().octets, &fits);
}

#[test]
fn recipients() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).limits("recipients = 100").start();
    let mut client = relay.client();
    client.expect(MAIL, 250);
    for i in 0..100 {
        client.expect(&format!("RCPT TO:<r{i}@b.example>"), 250);
    }
    for i in 100..110 {
        let reply = client.expect(&format!("RCPT TO:<r{i}@b.example>"), 452);
        assert!(reply.text().starts_with("4.5.3 "), "{reply:?}");
    }
    let sent = message("hundred", "text");
    let reply = client.data(&sent);
    assert_eq!(reply.code, 250, "{reply:?}");
    let mail = sink.wait_for_one();
    assert_eq!(mail.recipients.len(), 100);
    assert_identical(&mail.octets, &sent);
}

#[test]
fn errors() {
    let relay = Setup::to(Sink::new().address()).start();
    let mut client = relay.client();
    let last = (0..1000).find_map(|_| {
        let reply = client.command("NONSENSE");
        (reply.code != 500).then_some(reply)
    });
    let last = last.expect("a limit of errors below a thousand");
    assert_eq!(last.code, 421, "{last:?}");
    client.assert_closed();
    // Nobody else is hit by it.
    relay.client().expect("NOOP", 250);
}

#[test]
fn command_lines() {
    let relay = Setup::to(Sink::new().address()).start();
    let mut client = relay.client();
    let reply = client.expect(&format!("NOOP {}", "x".repeat(20_000)), 500);
    assert!(reply.text().starts_with("5.5.2 "), "{reply:?}");
    client.expect("NOOP", 250);
    client.write(b"NOOP\nNOOP\r\n");
    let reply = client.reply();
    assert_eq!(reply.code, 500, "{reply:?}");
    client.expect("NOOP", 250);
    // A line that has no end does not grow in memory, and does not hold anybody up.
    let mut endless = relay.client();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        if endless.try_write(&piece).is_err() {
            break;
        }
    }
    assert!(relay.memory_kib("RssAnon") < 64 << 10);
    client.expect("NOOP", 250);
}

#[test]
fn message_lines() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    client.envelope("<a@client.example>", &["<b@b.example>"]);
    let reply = client.data(&message("line", &"x".repeat(8 << 20)));
    assert_eq!(reply.code / 100, 5, "{reply:?}");
    let sent = message("after it", "text");
    client.send("<a@client.example>", &["<b@b.example>"], &sent);
    assert_identical(&sink.wait_for_one().octets, &sent);
}

#[test]
fn hops() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    let mut text = Vec::new();
    for i in 0..101 {
        text.extend_from_slice(format!("Received: from a by b; hop {i}\r\n").as_bytes());
    }
    text.extend_from_slice(&message("loop", "text"));
    client.envelope("<a@client.example>", &["<b@b.example>"]);
    let reply = client.data(&text);
    assert_eq!(reply.code, 554, "{reply:?}");
    assert!(reply.text().starts_with("5.4.6 "), "{reply:?}");
    relay.wait_until_empty();
    assert_eq!(sink.count(), 0);
}

/// CVE-2023-51764 and its like: what only looks like an end of data is none. The
/// message is refused or goes through as one; never is there a second one.
#[test]
fn smuggling() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n\n.\r\n",
        "\r\n.\r\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
    ] {
        let mut client = relay.client();
        client.envelope("<a@client.example>", &["<b@b.example>"]);
        client.expect("DATA", 354);
        let smuggled = format!(
            "Subject: s\r\n\r\nfirst{end}MAIL FROM:<evil@client.example>\r\n\
             RCPT TO:<evil@b.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nsecond\r\n.\r\n"
        );
        client.write(smuggled.as_bytes());
        let reply = client.reply();
        assert!(matches!(reply.code, 250 | 550), "{end:?}: {reply:?}");
        // One message, one reply: the next one is that of NOOP.
        let reply = client.command("NOOP");
        assert_eq!(reply.code, 250, "{end:?}: {reply:?}");
        client.expect("QUIT", 221);
    }
    relay.wait_until_empty();
    for mail in sink.mail() {
        assert!(!mail.mail.contains("evil"), "smuggled: {mail:?}");
        assert!(
            mail.recipients.iter().all(|to| !to.contains("evil")),
            "{mail:?}"
        );
    }
    sink.assert_no_breach();
}

/// The same by BDAT, whose text has to be made safe for a hop that takes DATA.
#[test]
fn smuggling_by_chunk() {
    let sink = Sink::offering(&["PIPELINING", "8BITMIME"]);
    let relay = Setup::to(sink.address()).start();
    for end in [
        "\n.\n",
        "\r\n.\r\n",
        "\r\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\r\n.\r\n",
    ] {
        let mut client = relay.client();
        let text = format!(
            "Subject: s\r\n\r\nfirst{end}MAIL FROM:<evil@client.example>\r\n\
             RCPT TO:<evil@b.example>\r\nDATA\r\nsecond\r\n.\r\n"
        );
        client.envelope("<a@client.example>", &["<b@b.example>"]);
        client.write(format!("BDAT {} LAST\r\n", text.len()).as_bytes());
        client.write(text.as_bytes());
        let reply = client.reply();
        // With whole CRLF these are lines with dots, and go through as they are.
        let whole = !text.replace("\r\n", "").contains(['\r', '\n']);
        assert_eq!(
            reply.code,
            if whole { 250 } else { 550 },
            "{end:?}: {reply:?}"
        );
        client.expect("RSET", 250);
        if whole {
            let mail = sink.wait_until("this text", |mail| {
                mail.iter()
                    .any(|mail| mail.octets.ends_with(text.as_bytes()))
            });
            assert!(mail.iter().all(|mail| !mail.mail.contains("evil")));
        }
    }
    relay.wait_until_empty();
    assert_eq!(sink.count(), 2);
}

/// A whole session in as few writes as RFC 2920 allows: answered in order.
#[test]
fn pipelining() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    let sent = message("pipelined", ".text");
    let mut group = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@b.example>\r\n\
        RCPT TO:<not an address>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n"
        .to_vec();
    client.write(&group);
    let codes = |client: &mut Client, count: usize| -> Vec<u16> {
        (0..count).map(|_| client.reply().code).collect()
    };
    let got = codes(&mut client, 5);
    assert!(
        matches!(got[..], [250, 250, 501 | 553, 250, 354]),
        "{got:?}"
    );
    // Content may be the first item of the next group.
    group = stuffed(&sent);
    group.extend_from_slice(b".\r\nMAIL FROM:<a@client.example>\r\nRSET\r\nNONSENSE\r\n");
    group.extend_from_slice(b"MAIL FROM:<>\r\nRCPT TO:<d@b.example>\r\nBDAT 3\r\na\r\n");
    group.extend_from_slice(b"BDAT 4 LAST\r\n.b\r\nNOOP\r\nQUIT\r\n");
    client.write(&group);
    let got = codes(&mut client, 10);
    assert_eq!(got, [250, 250, 250, 500, 250, 250, 250, 250, 250, 221]);
    client.assert_closed();
    let mail = sink.wait_for(2);
    let of = |sender: &str| {
        let found = mail.iter().find(|mail| mail.mail.starts_with(sender));
        found.unwrap_or_else(|| panic!("nothing from {sender} in {mail:?}"))
    };
    let first = of("<a@client.example>");
    assert_eq!(first.recipients.len(), 2);
    assert_identical(&first.octets, &sent);
    assert_identical(&of("<>").octets, b"a\r\n.b\r\n");
}
