//! Clients that are to wait for a no, and do not.

use super::*;

/// A group of commands that are none.
const NONSENSE: &[u8] = b"NONSENSE\r\n";
const LINES: usize = 30;

/// Clients talk nonsense until one is to wait for its answer. Gives that one.
fn waiting(bench: &mut Bench) -> ConnectionId {
    for _ in 0..100 {
        let client = bench.accept();
        bench.receive(client, b"EHLO x\r\n");
        bench.receive(client, &NONSENSE.repeat(LINES));
        if answers(bench, client) < LINES {
            assert!(!bench.closed.contains(&client), "it has to wait");
            return client;
        }
        bench.receive(client, b"QUIT\r\n");
    }
    panic!("nobody has to wait");
}

fn answers(bench: &Bench, client: ConnectionId) -> usize {
    bench.said(client).matches("\r\n500 ").count()
}

fn is_dismissed(bench: &Bench, client: ConnectionId) -> bool {
    bench.said(client).ends_with(" too many errors\r\n") && bench.closed.contains(&client)
}

#[test]
fn who_goes_leaves_its_place() {
    let mut bench = Bench::new(PLENTY);
    let client = waiting(&mut bench);
    assert!(bench.wanted.contains(&client), "its end is heard of");
    bench.receive(client, b"");
    assert!(is_dismissed(&bench, client), "{}", bench.said(client));
}

#[test]
fn who_sends_on_and_on_is_sent_away() {
    let mut bench = Bench::new(PLENTY);
    let client = waiting(&mut bench);
    // As much as a group of commands may have.
    bench.receive(client, &NONSENSE.repeat(1000));
    assert!(bench.wanted.contains(&client) && !bench.closed.contains(&client));
    bench.receive(client, &NONSENSE.repeat(1000));
    assert!(is_dismissed(&bench, client), "{}", bench.said(client));
}

#[test]
fn who_waits_is_answered() {
    let mut bench = Bench::new(PLENTY);
    let client = waiting(&mut bench);
    let before = answers(&bench, client);
    bench.wait(Duration::from_secs(3));
    assert!(answers(&bench, client) > before);
    // It is dismissed for its pauses, and not before.
    bench.wait(Duration::from_secs(60));
    assert!(is_dismissed(&bench, client), "{}", bench.said(client));
}

/// All that a client sends may come at once, its end too.
#[test]
fn who_has_closed_its_half_does_not_stay() {
    let mut bench = Bench::new(PLENTY);
    let client = waiting(&mut bench);
    bench.receive(client, b"NOOP\r\n");
    bench.receive(client, b"");
    bench.wait(Duration::from_secs(1));
    assert!(bench.closed.contains(&client));
}
