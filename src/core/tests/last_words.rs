//! Hosts that answer and are gone in the same moment, while something is on its way to them.

use super::*;

const DELIVERED: fn(&Fact) -> bool = |fact| {
    let ending = Ending::Delivered;
    matches!(fact, Fact::Recipient { ending: e, .. } if *e == ending)
};

/// Two messages for one host with PIPELINING: the first has left whole, and its answer is
/// awaited. Gives the connection.
fn awaiting(bench: &mut Bench) -> ConnectionId {
    bench.host = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
    bench.host_answers = true;
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, &MESSAGE.repeat(2));
    let host = bench.outgoing[0];
    bench.receive(host, b"220 x\r\n");
    bench.receive(host, b"250-x\r\n250 PIPELINING\r\n");
    bench.receive(host, b"250 ok\r\n250 ok\r\n354 go on\r\n");
    assert!(
        bench.said(host).contains("\r\nshort\r\n.\r\n"),
        "it is sent"
    );
    host
}

/// Answers all that comes over the next connections, until two were delivered. How many
/// senders were named.
fn take_the_rest(bench: &mut Bench) -> usize {
    let mut answered = HashMap::new();
    for _ in 0..24 * 3600 {
        if bench.count(DELIVERED) == 2 {
            let next = bench.outgoing[1..].iter();
            let said = next.map(|id| bench.said(*id).matches("MAIL FROM").count());
            return said.sum();
        }
        for number in 1..bench.outgoing.len() {
            let host = bench.outgoing[number];
            let said = bench.said(host);
            if answered.insert(host, said.len()) == Some(said.len()) || bench.closed.contains(&host)
            {
                continue;
            }
            let reply: &[u8] = match said.lines().last() {
                None => b"220 x\r\n",
                Some("DATA") => b"354 go on\r\n",
                Some(_) => b"250 ok\r\n",
            };
            bench.receive(host, reply);
        }
        bench.wait(Duration::from_secs(1));
    }
    panic!("it never comes");
}

fn breaks(bench: &mut Bench, host: ConnectionId, heard: &[u8]) {
    let broken = Completion::Broken {
        connection: host,
        why: "reset".to_owned(),
        heard,
    };
    bench.core.handle(bench.now, broken, &bench.spool);
    bench.give(Completion::Timer);
}

/// How many of the two are delivered by what was heard, and how many are left for the next
/// connections.
#[track_caller]
fn check(heard: &[u8], delivered: usize, left: usize) {
    let mut bench = Bench::new(PLENTY);
    let host = awaiting(&mut bench);
    let said = bench.said(host);
    bench.wanted.remove(&host);
    breaks(&mut bench, host, heard);
    let shown = heard.escape_ascii();
    assert_eq!(bench.count(DELIVERED), delivered, "{shown}");
    assert_eq!(bench.said(host), said, "{shown}: nobody is there");
    assert!(!bench.wanted.contains(&host), "{shown}: nothing comes");
    // The rest goes as if it had not been there.
    assert_eq!(take_the_rest(&mut bench), left, "{shown}");
}

#[test]
fn what_a_host_said_before_it_was_gone_counts() {
    check(b"", 0, 2);
    check(b"250 take", 0, 2);
    check(b"250 taken\r\n", 1, 1);
    // What is no answer to anything takes nothing back.
    check(b"250 taken\r\n250 ok\r\n250 ok\r\n", 1, 1);
    check(b"250 taken\r\nwhat is that?\r\n", 1, 1);
    check(b"421 I go\r\n", 0, 2);
}

/// What has not left whole has not been taken, whatever is said of it.
#[test]
fn an_answer_to_what_has_not_left_does_not_count() {
    let mut bench = Bench::new(PLENTY);
    bench.host = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
    bench.host_answers = true;
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    let host = bench.outgoing[0];
    for reply in ["220 x", "250 x", "250 ok", "250 ok"] {
        bench.receive(host, format!("{reply}\r\n").as_bytes());
    }
    bench.deaf.insert(host);
    bench.receive(host, b"354 go on\r\n");
    assert!(bench.said(host).ends_with("\r\n.\r\n"), "it is being sent");
    breaks(&mut bench, host, b"250 taken\r\n");
    assert_eq!(bench.count(DELIVERED), 0);
}
