//! What a message costs in the machines that read it.
//!
//! Questions: is the end-of-data scan, which looks at every octet, small beside
//! the copy of the same octets into the batch (some 10 GB/s)? And does a whole
//! pipelined transaction stay within the 2 µs that leave room for 50,000 messages
//! a second and core?
//!
//! And what do a host's replies cost, which are as many when we deliver?
//!
//! Workloads: text of 76-octet lines as base64 has them, prose lines of mixed
//! length, and lines of dots, all by DATA in inputs of 16 KiB; the command lines of
//! a usual transaction; {MAIL RCPT DATA} {text of 4 KiB} against a core that says yes at
//! once; and the four replies to a pipelined transaction, and a reply to EHLO.
//!
//! What decided something. The program as a whole, built for release, one data core, 20
//! sessions that pipeline, messages of 4 KiB, durable on ext4, on an idle machine of two
//! processors: 24.8 µs of CPU for a message accepted, 45 µs for one relayed; in
//! instructions of ours, which do not depend on the machine's mood, 57,500 and 103,000
//! (callgrind, set to zero behind a first load). Of the CPU of an accepted message 34 % was
//! the kernel's, for sockets and page cache, 12 % the sync; session, syntax and this scan
//! were 6 %, checksums 2.5 %. So what reads is small, and no faster parser is wanted. The
//! largest part of ours was making two lines of the log, 9 % and in the log's thread 3 %:
//! since then they are written in one piece (`runtime::log_text`). A relayed message took
//! 6.8 system calls, two of them to fetch its records: since then 0.3.
//!
//! Sessions in lock step, 100 of them: 61 % of the processor is the kernel's, 44 % alone the
//! sends of the four replies with all that loopback does within them; the program's own part
//! is a quarter, without a peak.
//!
//! Beside other relays, in one run (`loadtest compare`, three seconds or 20,000 messages each,
//! of 4 KiB; a journalled ext4 on a loop device; generator, sink and server on the same two
//! processors; one data core, but where it says two; "best" is the better of Postfix 3.7 and
//! Exim 4.96, for rate and processor time each, and for relay Postfix):
//!
//! | work | of a used spool | to the best | processor time | of the best | of a new spool |
//! |---|---|---|---|---|---|
//! | accept, 20 sessions in lock step | 14,800/s | 6.8 times | 46 µs | 1/8.7 | 11,300/s |
//! | accept, 100 in lock step | 23,500/s | 12 times | 37 µs | 1/17 | |
//! | accept, 20 that pipeline | 23,000/s | 9.4 times | 23 µs | 1/14 | 13,900/s |
//! | accept, 100 that pipeline | 50,400/s | 24 times | 16 µs | 1/33 | 43,000/s |
//! | the same by BDAT, four messages ahead | 55,400/s | 28 times | 14 µs | 1/40 | |
//! | the same, two data cores | 67,900/s | 35 times | 15 µs | 1/37 | |
//! | relay, 20 in lock step | 12,200/s | 12 times | 60 µs | 1/25 | |
//! | relay, 100 that pipeline | 23,900/s | 25 times | 40 µs | 1/38 | |
//! | relay, 100 by BDAT, four ahead | 29,000/s | 29 times | 33 µs | 1/46 | |
//!
//! What decided here is whether a segment was used before: then a sync leaves nothing to the
//! file system's journal. With 20 sessions that is half of the time of each, and of the octets
//! that reach the device 1.24 to 1.27 for each of mail, where a new spool has 1.54 to 1.61. So
//! more dead segments are kept (`spool::log::SPARES_MAX`). Filling new ones ahead in idle time
//! would give that to a new spool, too, and is not done.
//!
//! In lock step the generator alone reaches 38,000 to 46,000/s against a sink that does
//! nothing, with both processors: what is left to a server is less, and 20 times the best,
//! 39,000/s and more, cannot be seen on two. A second data core takes from the generator here
//! what it adds: 44 µs in place of 37 with 100 sessions, 18 in place of 16 where they pipeline.
//! In writing the cores share what belongs to more than a message: sessions and permits by the
//! connection, hosts by the failure; of a message the two counters of the customer whose quota
//! it uses, and nothing where there is no customer.
//!
//! Large messages: a drain of 1 MiB each reaches 1,650 to 2,050/s, one loop of `sendfile` into
//! a reader that looks at nothing 2,500 to 3,600 MiB/s. Over a line of 128 kbit/s with 600 ms
//! there and back, 1,000 messages of 2 KiB keep it busy for 93 % of the time.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use turnspool::mail::{QueueId, Receipt};
use turnspool::smtp::answer::Reader;
use turnspool::smtp::data::{BareNewline, Framing, Scanned, Scanner};
use turnspool::smtp::reply::Tls;
use turnspool::smtp::server::{Input, Output, PeerFacts, Session, Verdict};
use turnspool::smtp::settings::Settings;
use turnspool::smtp::syntax::{self, Context, Utf8};
use turnspool::time::Now;

/// As the program has it: half of a transaction's cost here is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Stored(QueueId);

impl Receipt for Stored {
    fn queue_id(&self) -> QueueId {
        self.0
    }
}

fn settings() -> Settings {
    Settings::new("relay.example".parse().expect("a domain"))
}

/// Lines of these lengths in turn, to about `octets`.
fn text(octets: usize, line: &str, lengths: &[usize]) -> Vec<u8> {
    let mut text = b"Received: from a by b; some day\r\nSubject: bench\r\n\r\n".to_vec();
    for length in lengths.iter().cycle() {
        if text.len() >= octets {
            break;
        }
        text.extend_from_slice(&line.as_bytes()[..*length]);
        text.extend_from_slice(b"\r\n");
    }
    text
}

fn scan(c: &mut Criterion) {
    const INPUT_BYTES: usize = 16 << 10;
    const MESSAGE_BYTES: usize = 1 << 20;
    let mut group = c.benchmark_group("scan");
    let letters =
        "The quick brown fox jumps over the lazy dog and over all the others that lie there.";
    let dots = ".".repeat(80);
    let cases: [(&str, &str, &[usize]); 3] = [
        ("lines of 76", letters, &[76]),
        ("prose", letters, &[70, 12, 55, 0, 66, 71, 3, 68]),
        ("dots", &dots, &[76, 2, 40]),
    ];
    for (name, line, lengths) in cases {
        let message = text(MESSAGE_BYTES, line, lengths);
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let limits = settings().data_limits();
                let mut scanner = Scanner::new(Framing::Dots, BareNewline::Refuse, limits);
                for input in message.chunks(INPUT_BYTES) {
                    let scanned = scanner.scan(black_box(input), |piece| {
                        black_box(piece);
                    });
                    assert!(matches!(scanned, Scanned::More(_)));
                }
                assert_eq!(scanner.fault(), None);
                scanner.facts().octets
            });
        });
    }
    group.finish();
}

fn commands(c: &mut Criterion) {
    let settings = settings();
    let context = Context {
        hostname: &settings.hostname,
        role: settings.role,
        offers: &settings.offers,
        utf8: Utf8::Refused,
        tls: Tls::Absent,
        time: Now::default().wall,
        is_local: false,
    };
    let mut group = c.benchmark_group("parse");
    for line in [
        "MAIL FROM:<some.sender@mail.example.org> SIZE=4096 BODY=8BITMIME",
        "RCPT TO:<some.recipient@customer.example.net>",
        "RCPT TO:<b@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@b.example",
        "DATA",
    ] {
        group.bench_function(line, |b| {
            b.iter(|| syntax::parse(black_box(line.as_bytes()), &context).expect("a command"));
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let cases: [(&str, usize, &[u8]); 2] = [
        (
            "of a transaction",
            4,
            b"250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n354 Go ahead\r\n\
              250 2.0.0 Ok: queued as 4WxYz01234z5678\r\n",
        ),
        (
            "to EHLO",
            1,
            b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-STARTTLS\r\n\
              250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250 CHUNKING\r\n",
        ),
    ];
    let mut group = c.benchmark_group("answers");
    for (name, count, octets) in cases {
        group.bench_function(name, |b| {
            let mut reader = Reader::default();
            b.iter(|| {
                let mut input = black_box(octets);
                let mut answers = 0;
                while let Some(answer) = reader.next(&mut input) {
                    black_box(answer.expect("a good reply").reply());
                    answers += 1;
                }
                assert_eq!(answers, count);
            });
        });
    }
    group.finish();
}

/// Octets in, as the shell gives them; a core that says yes.
fn feed(session: &mut Session<Stored>, now: Now, octets: &[u8], sent: &mut usize) {
    let mut rest = octets;
    while !rest.is_empty() {
        let taken = session.handle(now, Input::Received(rest));
        while let Some(output) = session.poll() {
            match output {
                Output::Send(octets) => *sent += octets.len(),
                Output::Ask => {
                    session.handle(now, Input::Answer(Verdict::Accept));
                }
                Output::Begin { envelope, .. } => {
                    black_box(envelope);
                    session.handle(now, Input::Begun(QueueId::new(0, 1)));
                }
                Output::End(facts) => {
                    black_box(facts);
                    session.handle(now, Input::Stored(Stored(QueueId::new(0, 1))));
                }
                Output::Header(octets) => {
                    black_box(octets);
                }
                Output::Body(range) => {
                    black_box(&rest[range]);
                }
                other => panic!("{other:?} in a good session"),
            }
        }
        rest = &rest[taken..];
    }
}

fn transactions(c: &mut Criterion) {
    let now = Now::default();
    let address = "192.0.2.1:1025".parse().expect("an address");
    let start = || {
        let peer = PeerFacts { address, tls: None };
        let mut session = Session::new(Arc::new(settings()), peer, now);
        feed(&mut session, now, b"EHLO client.example\r\n", &mut 0);
        session
    };
    let envelope = "MAIL FROM:<some.sender@mail.example.org> SIZE=4096\r\n\
                    RCPT TO:<some.recipient@customer.example.net>\r\n";
    let mut message = text(4096, &"x".repeat(76), &[76]);
    let chunk = format!("{envelope}BDAT {} LAST\r\n", message.len());
    let chunk = [chunk.as_bytes(), &message].concat();
    message.extend_from_slice(b".\r\n");
    let mut group = c.benchmark_group("transaction of 4 KiB");
    group.throughput(Throughput::Elements(1));
    group.bench_function("DATA", |b| {
        let mut session = start();
        let commands = format!("{envelope}DATA\r\n");
        let mut sent = 0;
        b.iter(|| {
            feed(&mut session, now, commands.as_bytes(), &mut sent);
            feed(&mut session, now, &message, &mut sent);
        });
        assert!(sent > 0);
    });
    group.bench_function("BDAT", |b| {
        let mut session = start();
        let mut sent = 0;
        b.iter(|| feed(&mut session, now, &chunk, &mut sent));
        assert!(sent > 0);
    });
    group.finish();
}

criterion_group!(benches, scan, commands, transactions, answers);
criterion_main!(benches);
