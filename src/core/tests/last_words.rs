//! Hosts that answer and are gone in the same moment, while something is on its way to them.

use super::*;

/// How many recipients have ended so.
fn count(bench: &Bench, ending: Ending) -> usize {
    bench.count(|fact| matches!(fact, Fact::Recipient { ending: e, .. } if *e == ending))
}

/// A client that has handed over a message, and the host to which it goes, which has said
/// nothing yet.
fn connected(bench: &mut Bench) -> (ConnectionId, ConnectionId) {
    bench.host = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
    bench.host_answers = true;
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, MESSAGE);
    let host = bench.outgoing[0];
    (client, host)
}

/// What a host without PIPELINING says up to the end of a message, in order.
const REPLIES: [&[u8]; 6] = [
    b"220 x\r\n",
    b"250 x\r\n",
    b"250 ok\r\n",
    b"250 ok\r\n",
    b"354 go on\r\n",
    b"250 taken\r\n",
];

/// A message has left whole, and its answer is awaited. Gives the connection.
fn awaiting(bench: &mut Bench) -> ConnectionId {
    let (_, host) = connected(bench);
    bench.receive(host, b"220 x\r\n");
    bench.receive(host, b"250-x\r\n250 PIPELINING\r\n");
    bench.receive(host, b"250 ok\r\n250 ok\r\n354 go on\r\n");
    assert!(
        bench.said(host).contains("\r\nshort\r\n.\r\n"),
        "it is sent"
    );
    host
}

/// Answers all that comes over the next connections, until all was delivered. How many
/// senders were named.
fn take_the_rest(bench: &mut Bench) -> usize {
    let mut answered = HashMap::new();
    for _ in 0..24 * 3600 {
        if bench.count(is_accepted) == count(bench, Ending::Delivered) {
            assert_eq!(count(bench, Ending::Failed), 0, "a message is refused");
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

/// How many are delivered by what was heard, and how many are left for the next connections.
#[track_caller]
fn check(heard: &[u8], delivered: usize, left: usize) {
    let mut bench = Bench::new(PLENTY);
    let host = awaiting(&mut bench);
    let said = bench.said(host);
    bench.wanted.remove(&host);
    breaks(&mut bench, host, heard);
    let shown = heard.escape_ascii();
    assert_eq!(count(&bench, Ending::Delivered), delivered, "{shown}");
    assert_eq!(bench.said(host), said, "{shown}: nobody is there");
    assert!(!bench.wanted.contains(&host), "{shown}: nothing comes");
    // The rest goes as if it had not been there.
    assert_eq!(take_the_rest(&mut bench), left, "{shown}");
}

#[test]
fn what_a_host_said_before_it_was_gone_counts() {
    check(b"", 0, 1);
    check(b"250 take", 0, 1);
    check(b"250 taken\r\n", 1, 0);
    // What is no answer to anything takes nothing back.
    check(b"250 taken\r\n250 ok\r\n250 ok\r\n", 1, 0);
    check(b"250 taken\r\nwhat is that?\r\n", 1, 0);
    check(b"250 taken\r\n421 I go\r\n", 1, 0);
    check(b"421 I go\r\n", 0, 1);
    check(b"250 taken\r\n554 enough\r\n", 1, 0);
}

/// The same of a host without PIPELINING, which is idle.
#[test]
fn a_host_that_goes_refuses_nothing_that_it_has_not_heard() {
    let mut bench = Bench::new(PLENTY);
    let (client, host) = connected(&mut bench);
    for reply in REPLIES {
        bench.receive(host, reply);
    }
    bench.deaf.insert(host);
    bench.receive(client, MESSAGE);
    assert_eq!(bench.said(host).matches("MAIL FROM").count(), 2);
    breaks(&mut bench, host, b"554 enough\r\n");
    assert_eq!(count(&bench, Ending::Delivered), 1);
    assert_eq!(take_the_rest(&mut bench), 1);
}

/// Between two of our own the first of a flight are answered while the last are leaving.
#[test]
fn of_a_flight_what_was_taken_is_heard_of() {
    let mut bench = Bench::new(PLENTY);
    bench.host = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    bench.receive(client, &MESSAGE.repeat(3));
    bench.host_answers = true;
    while bench.outgoing.is_empty() {
        bench.wait(Duration::from_secs(1));
    }
    let host = bench.outgoing[0];
    bench.receive(host, b"220 x\r\n");
    bench.deaf.insert(host);
    bench.receive(
        host,
        b"250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 X-FLIGHT 65536\r\n",
    );
    let said = bench.said(host);
    assert_eq!(said.matches("BDAT").count(), 3, "all are leaving: {said}");
    // Two were taken, and then it goes.
    breaks(
        &mut bench,
        host,
        b"250 ok\r\n250 ok\r\n250 taken\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 taken\r\n554 enough\r\n",
    );
    assert_eq!(count(&bench, Ending::Delivered), 2);
    assert_eq!(take_the_rest(&mut bench), 1);
}

/// What has not left whole has not been taken, whatever is said of it.
#[test]
fn an_answer_to_what_has_not_left_does_not_count() {
    let mut bench = Bench::new(PLENTY);
    let (_, host) = connected(&mut bench);
    for reply in &REPLIES[..4] {
        bench.receive(host, reply);
    }
    bench.deaf.insert(host);
    bench.receive(host, REPLIES[4]);
    assert!(bench.said(host).ends_with("\r\n.\r\n"), "it is being sent");
    breaks(&mut bench, host, b"250 taken\r\n");
    assert_eq!(count(&bench, Ending::Delivered), 0);
}
