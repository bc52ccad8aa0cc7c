//! Byte identity: what came in goes out, octet by octet, the trace header aside.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::client::queue_id;
use crate::harness::message::{Random, assert_identical, message, without_trace};
use crate::harness::sink::{EVERYTHING, Mail, Transfer};
use crate::harness::{Relay, Setup, Sink, eventually};

/// Next hops with different extensions, each with a domain of its own.
struct Hops {
    relay: Relay,
    sinks: Vec<(&'static str, Sink)>,
}

impl Hops {
    fn new() -> Self {
        let without = |keyword: &str| {
            let rest = EVERYTHING.iter().filter(|line| !line.starts_with(keyword));
            Sink::offering(&rest.copied().collect::<Vec<_>>())
        };
        let sinks = vec![
            ("everything.example", Sink::new()),
            ("no-chunking.example", without("CHUNKING")),
            ("no-pipelining.example", without("PIPELINING")),
            ("only-8bit.example", Sink::offering(&["8BITMIME"])),
        ];
        let mut setup = Setup::new().limits("message_size = \"64MiB\"");
        for (domain, sink) in &sinks {
            setup = setup.route(domain, sink.address());
        }
        Self {
            relay: setup.start(),
            sinks,
        }
    }

    fn recipients(&self) -> Vec<String> {
        let recipient = |(domain, _): &(&str, Sink)| format!("<b@{domain}>");
        self.sinks.iter().map(recipient).collect()
    }

    /// Asserts that each next hop got exactly the texts in `sent`, in any order.
    #[track_caller]
    fn check(&self, sent: &[Text]) {
        for (domain, sink) in &self.sinks {
            let mut mail = sink.wait_for(sent.len());
            assert_eq!(mail.len(), sent.len(), "at {domain}");
            for text in sent {
                // The sender's address names the text, so that a difference is
                // shown against the right one.
                let named = |mail: &Mail| mail.mail.starts_with(&format!("<{}@", text.name));
                let at = mail.iter().position(named);
                let at = at.unwrap_or_else(|| panic!("no {} at {domain}", text.name));
                let got = mail.swap_remove(at);
                let mut expected = text.octets.clone();
                let unfinished = !expected.is_empty() && !expected.ends_with(b"\r\n");
                if unfinished && got.transfer == Transfer::Data {
                    // DATA has no other way to end (RFC 5321 §4.1.1.4).
                    expected.extend_from_slice(b"\r\n");
                }
                let found = std::panic::catch_unwind(|| assert_identical(&got.octets, &expected));
                assert!(
                    found.is_ok(),
                    "{} at {domain} by {:?}",
                    text.name,
                    got.transfer
                );
            }
        }
    }
}

pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
}

impl Text {
    pub(crate) fn new(name: impl Into<String>, octets: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            octets: octets.into(),
        }
    }
}

/// Texts that DATA and BDAT can both carry.
pub(crate) fn texts() -> Vec<Text> {
    let header = b"Subject: x\r\n\r\n";
    let with_body = |name: &str, body: &[u8]| Text::new(name, [header, body].concat());
    let line = |octets: usize| {
        with_body(
            &format!("line-{octets}"),
            &[&vec![b'x'; octets][..], b"\r\n"].concat(),
        )
    };
    let mut texts = vec![
        Text::new("empty", ""),
        Text::new("blank-line", "\r\n"),
        Text::new("blank-lines", "\r\n\r\n\r\n"),
        Text::new("header-only", "Subject: no body\r\n"),
        Text::new("dot-only", ".\r\n"),
        Text::new("dots-only", "..\r\n"),
        Text::new("dots", ".\r\n..\r\n...\r\n.a\r\n. \r\n\r\n.\r\n"),
        with_body("dot-first", b".first\r\nlast\r\n"),
        with_body("dot-last", b"first\r\n.\r\n"),
        with_body("dots-many", &b".\r\n".repeat(50_000)),
        with_body("blank-many", &b"\r\n".repeat(50_000)),
        with_body("dot-inside", b"a.\r\na.b\r\n"),
        with_body("blanks-at-ends", b"  a  \t \r\n\t\r\n \r\n"),
        with_body("utf-8", "Grüße, 世界, 🐘\r\n".as_bytes()),
        with_body(
            "like-smtp",
            b"QUIT\r\nRSET\r\nBDAT 3 LAST\r\nMAIL FROM:<>\r\n",
        ),
        with_body("like-mbox", b"From a\r\n>From b\r\n"),
    ];
    texts.extend([997, 998, 999, 1000, 1001, 4096, 65_536, 500_000].map(line));
    // Every octet but CR, LF and NUL, alone on a line and all in one.
    let octets: Vec<u8> = (1..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    texts.push(with_body("octets", &[&octets[..], b"\r\n"].concat()));
    let lines: Vec<u8> = octets
        .iter()
        .flat_map(|&octet| [octet, b'\r', b'\n'])
        .collect();
    texts.push(with_body("octets-alone", &lines));
    // Lengths around what buffers, chunks and pages usually have.
    for size in [
        511_usize, 512, 513, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537, 262_144,
    ] {
        let mut octets = header.to_vec();
        while octets.len() < size {
            let rest = size - octets.len();
            let take = rest.clamp(2, 78);
            octets.extend(std::iter::repeat_n(b'y', take - 2));
            octets.extend_from_slice(b"\r\n");
        }
        texts.push(Text::new(format!("size-{size}"), octets));
    }
    texts
}

#[test]
fn by_data() {
    let hops = Hops::new();
    let recipients = hops.recipients();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let texts = texts();
    let mut client = hops.relay.client();
    for text in &texts {
        let mail = format!("<{}@client.example> BODY=8BITMIME", text.name);
        client.send(&mail, &recipients, &text.octets);
    }
    hops.check(&texts);
}

#[test]
fn by_one_chunk() {
    let hops = Hops::new();
    let recipients = hops.recipients();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut texts = texts();
    texts.extend([
        Text::new("no-newline", "Subject: x\r\n\r\nno newline at the end"),
        Text::new("no-newline-dot", "Subject: x\r\n\r\nthen a dot\r\n."),
        Text::new("no-newline-dots", "Subject: x\r\n\r\n.."),
        Text::new("one-octet", "x"),
        Text::new("one-dot", "."),
    ]);
    let mut client = hops.relay.client();
    for text in &texts {
        let mail = format!("<{}@client.example> BODY=8BITMIME", text.name);
        client.send_chunk(&mail, &recipients, &text.octets);
    }
    hops.check(&texts);
}

/// A short text full of line ends and dots, in every way to cut it in two, each
/// also with an empty last chunk.
#[test]
fn by_chunks_cut_anywhere() {
    let octets = b"A: b\r\n\r\n.\r\n..\r\n.c\r\n\r\n.";
    let hops = Hops::new();
    let mut client = hops.relay.client();
    let mut texts = Vec::new();
    for cut in 0..=octets.len() {
        for last_is_empty in [false, true] {
            let name = format!("cut-{cut}-{last_is_empty}");
            let mut group = format!("MAIL FROM:<{name}@client.example>\r\n").into_bytes();
            for recipient in hops.recipients() {
                group.extend_from_slice(format!("RCPT TO:{recipient}\r\n").as_bytes());
            }
            let (first, second) = octets.split_at(cut);
            let mut replies = 1 + hops.sinks.len() + 2;
            group.extend_from_slice(format!("BDAT {}\r\n", first.len()).as_bytes());
            group.extend_from_slice(first);
            let last = if last_is_empty { "" } else { " LAST" };
            group.extend_from_slice(format!("BDAT {}{last}\r\n", second.len()).as_bytes());
            group.extend_from_slice(second);
            if last_is_empty {
                group.extend_from_slice(b"BDAT 0 LAST\r\n");
                replies += 1;
            }
            client.write(&group);
            let replies: Vec<_> = (0..replies).map(|_| client.reply()).collect();
            assert!(
                replies.iter().all(|reply| reply.code == 250),
                "{name}: {replies:?}"
            );
            queue_id(replies.last().expect("there are some"));
            texts.push(Text::new(name, &octets[..]));
        }
    }
    hops.check(&texts);
}

/// Texts of random pieces; the same ones each time.
#[test]
fn random_texts() {
    let hops = Hops::new();
    let recipients = hops.recipients();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut random = Random(7);
    let mut texts = Vec::new();
    let mut client = hops.relay.client();
    for i in 0..60_u32 {
        let mut octets = Vec::new();
        let pieces = random.below(400);
        for _ in 0..pieces {
            match random.below(6) {
                0 => octets.extend_from_slice(b".\r\n"),
                1 => octets.extend_from_slice(b"\r\n"),
                2 => octets.extend_from_slice(b"."),
                3 => octets.extend(std::iter::repeat_n(b'z', random.below(3000) as usize)),
                4 => octets.extend_from_slice("äß\u{1F418}".as_bytes()),
                _ => octets.extend_from_slice(b"word \r\n"),
            }
        }
        octets.extend_from_slice(b"\r\n");
        let text = Text::new(format!("random-{i}"), octets);
        let mail = format!("<{}@client.example> BODY=8BITMIME", text.name);
        if i % 2 == 0 {
            client.send(&mail, &recipients, &text.octets);
        } else {
            client.send_chunk(&mail, &recipients, &text.octets);
        }
        texts.push(text);
    }
    hops.check(&texts);
}

/// NUL may stand in no Internet message (RFC 5322 §4), but it must not change
/// anything else: the message goes through as it is, or it is refused as a whole.
#[test]
fn nul() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    let sent = b"Subject: nul\r\n\r\na\0b\r\n\0\r\n\0.\r\n";
    client.envelope("<a@client.example> BODY=8BITMIME", &["<b@b.example>"]);
    let reply = client.data(sent);
    if reply.code == 250 {
        assert_identical(&sink.wait_for_one().octets, sent);
    } else {
        assert_eq!(reply.code, 550, "{reply:?}");
        relay.wait_until_empty();
        assert_eq!(sink.count(), 0);
    }
}

#[test]
fn addresses_in_utf_8() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let mut client = relay.client();
    let sent = "Subject: Grüße\r\n\r\nText\r\n".as_bytes();
    client.send(
        "<björn@müller.example> SMTPUTF8 BODY=8BITMIME",
        &["<世界@例え.example>", "<plain@b.example>"],
        sent,
    );
    let mail = sink.wait_for_one();
    assert!(mail.mail.starts_with("<björn@müller.example>"), "{mail:?}");
    assert!(mail.mail.contains(" SMTPUTF8"), "{mail:?}");
    let mut recipients = mail.recipients.clone();
    recipients.sort();
    assert!(recipients[0].starts_with("<plain@b.example>"), "{mail:?}");
    assert!(recipients[1].starts_with("<世界@例え.example>"), "{mail:?}");
    let trace = assert_identical(&mail.octets, sent);
    // RFC 6531 §4.3.
    assert!(trace.contains(" with UTF8SMTP "), "{trace}");
}

/// RFC 3461 §5.2: to a hop that supports DSN the parameters go on unchanged.
#[test]
fn parameters_of_dsn_go_on() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let sent = message("dsn", "text");
    relay.client().send(
        "<a@client.example> RET=HDRS ENVID=QQ+2B314159",
        &[
            "<b@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@b.example",
            "<c@b.example> NOTIFY=NEVER",
        ],
        &sent,
    );
    let mail = sink.wait_for_one();
    let has = |text: &str, parameter: &str| text.split(' ').any(|word| word == parameter);
    assert!(has(&mail.mail, "RET=HDRS"), "{mail:?}");
    assert!(has(&mail.mail, "ENVID=QQ+2B314159"), "{mail:?}");
    let of = |address: &str| {
        let found = mail
            .recipients
            .iter()
            .find(|line| line.starts_with(address));
        found.unwrap_or_else(|| panic!("no {address} in {mail:?}"))
    };
    let first = of("<b@b.example>");
    let notify = ["NOTIFY=SUCCESS,DELAY", "NOTIFY=DELAY,SUCCESS"];
    assert!(
        notify.iter().any(|parameter| has(first, parameter)),
        "{first}"
    );
    assert!(has(first, "ORCPT=rfc822;Bob+2Bx@b.example"), "{first}");
    assert!(has(of("<c@b.example>"), "NOTIFY=NEVER"), "{mail:?}");
}

/// One copy for many recipients at one next hop.
#[test]
fn thousands_of_recipients() {
    const RECIPIENTS: usize = 3000;
    let (sink, limited) = (
        Sink::new(),
        Sink::offering(&["PIPELINING", "LIMITS RCPTMAX=70"]),
    );
    let relay = Setup::new()
        .route("b.example", sink.address())
        .route("limited.example", limited.address())
        .limits("recipients = 10000")
        .start();
    let mut client = relay.client();
    let sent = message("many", "text");
    for domain in ["b.example", "limited.example"] {
        let all: Vec<String> = (0..RECIPIENTS)
            .map(|i| format!("<recipient-{i}@{domain}>"))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        client.send("<a@client.example>", &all, &sent);
    }
    let each_once = |mail: &[Mail], domain: &str| {
        let mut all: Vec<&str> = (mail.iter().flat_map(|mail| &mail.recipients))
            .map(|recipient| recipient.split(' ').next().unwrap_or_default())
            .collect();
        assert_eq!(all.len(), RECIPIENTS);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), RECIPIENTS);
        assert!(
            all.iter()
                .all(|recipient| recipient.ends_with(&format!("@{domain}>")))
        );
        for mail in mail {
            assert_identical(&mail.octets, &sent);
        }
    };
    let got = |mail: &[Mail]| mail.iter().map(|mail| mail.recipients.len()).sum::<usize>();
    let mail = sink.wait_until("all recipients", |mail| got(mail) >= RECIPIENTS);
    // RFC 5321 §4.5.3.1.8: every server takes 100 at a time.
    assert_eq!(
        mail.len(),
        RECIPIENTS.div_ceil(100),
        "copies to one next hop"
    );
    each_once(&mail, "b.example");
    // RFC 9422: what the next hop says about its limits is obeyed.
    let mail = limited.wait_until("all recipients", |mail| got(mail) >= RECIPIENTS);
    assert_eq!(mail.len(), RECIPIENTS.div_ceil(70));
    each_once(&mail, "limited.example");
}

/// 50 MiB, by DATA to a hop with CHUNKING and to one without, then by BDAT. The
/// relay's own memory must not follow the size of the message.
#[test]
fn a_large_message_in_little_memory() {
    const BODY_BYTES: usize = 50 << 20;
    /// Buffers, a batch, the heap's habits: far below one message.
    const GROWTH_KIB_MAX: u64 = 32 << 10;
    let chunks = Sink::new();
    let no_chunks = Sink::offering(&["PIPELINING", "8BITMIME", "SIZE 104857600"]);
    let relay = Setup::new()
        .route("chunks.example", chunks.address())
        .route("no-chunks.example", no_chunks.address())
        .limits("message_size = \"64MiB\"")
        .spool("segment_size = \"16MiB\"\nfree_min = \"1MiB\"")
        .start();
    let mut octets = b"Subject: large\r\n\r\n".to_vec();
    let mut line = 0_u64;
    while octets.len() < BODY_BYTES {
        // Each line is another, so that a piece in the wrong place is seen; some
        // begin with a dot.
        let dot = if line.is_multiple_of(1000) { "." } else { "" };
        octets.extend_from_slice(format!("{dot}line {line:010} {}\r\n", "x".repeat(58)).as_bytes());
        line += 1;
    }
    let mut client = relay.client();
    // What is needed once is not what grows with size.
    let small = message("small", "text");
    let recipients = ["<b@chunks.example>", "<b@no-chunks.example>"];
    client.send("<a@client.example>", &recipients, &small);
    chunks.wait_for(1);
    no_chunks.wait_for(1);

    let before = relay.memory_kib("RssAnon");
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                most = most.max(relay.memory_kib("RssAnon"));
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            most
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            client.send("<a@client.example>", &recipients, &octets);
            client.send_chunk("<a@client.example>", &recipients, &octets);
            (chunks.wait_for(3), no_chunks.wait_for(3))
        }));
        done.store(true, Ordering::Release);
        let (first, second) = match result {
            Ok(both) => both,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        for mail in first[1..].iter().chain(&second[1..]) {
            assert_identical(&mail.octets, &octets);
        }
        // What came by DATA with dots doubled goes on as it is stored, and so does
        // what came by BDAT.
        let by = |transfer| {
            first[1..]
                .iter()
                .filter(|mail| mail.transfer == transfer)
                .count()
        };
        assert_eq!((by(Transfer::Data), by(Transfer::Bdat)), (1, 1));
        watch.join().expect("the watch reads a file")
    });
    let growth = most.saturating_sub(before);
    assert!(
        growth < GROWTH_KIB_MAX,
        "the relay's memory grew by {growth} KiB, from {before} to {most}"
    );
    relay.wait_until_empty();
}

/// RFC 5321 §4.4: ours goes on top, those that are there stay.
#[test]
fn trace_headers_that_are_there_stay() {
    let sink = Sink::new();
    let relay = Setup::to(sink.address()).start();
    let sent = b"Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n\
        Received: from w\r\n by x; Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: s\r\n\r\nb\r\n";
    relay
        .client()
        .send("<a@client.example>", &["<b@b.example>"], sent);
    let mail = sink.wait_for_one();
    assert_identical(&mail.octets, sent);
    let (_, rest) = without_trace(&mail.octets);
    assert!(rest.starts_with(b"Received: from x"));
    eventually("the done record is seen", || {
        relay.queued().is_empty().then_some(())
    });
}
