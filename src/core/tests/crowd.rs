//! Large messages beside small ones.

use super::*;
use crate::spool::commit::{BATCH_BYTES_MAX, CROWDED_BYTES_MAX};

const CLIENTS: usize = 20;
/// What one receive brings.
const PIECE_BYTES: usize = 100 << 10;

/// Clients whose messages have no end send as long as they are read from.
fn pour(bench: &mut Bench, clients: &[ConnectionId]) {
    let line = [b"x".repeat(98), b"\r\n".to_vec()].concat();
    let piece = line.repeat(PIECE_BYTES / line.len());
    for _ in 0..200 {
        for client in clients {
            if bench.wanted.contains(client) {
                bench.receive(*client, &piece);
            }
        }
    }
}

/// Whoever brings a small message waits for little of theirs, however many they are; and
/// they all go on when the disk does.
#[test]
fn small_messages_do_not_wait_for_large_ones() {
    let mut bench = Bench::new(PLENTY);
    let clients: Vec<_> = (0..CLIENTS).map(|_| bench.accept()).collect();
    let small = bench.accept();
    bench.receive(small, b"EHLO x\r\n");
    for client in &clients {
        bench.receive(*client, b"EHLO x\r\n");
        bench.receive(
            *client,
            b"MAIL FROM:<>\r\nRCPT TO:<b@site.example>\r\nDATA\r\n",
        );
        assert!(
            bench.said(*client).contains("354"),
            "{}",
            bench.said(*client)
        );
    }
    bench.disk = Disk::Hangs;
    pour(&mut bench, &clients);
    let none = clients.iter().all(|client| !bench.wanted.contains(client));
    assert!(none, "a disk that hangs, and they are read from");
    assert!(bench.wanted.contains(&small));
    let before = bench.written;
    bench.receive(small, MESSAGE);
    while !bench.said(small).contains("250 2.0.0") {
        let written = bench.hung.pop_front().expect("somebody waits for it");
        bench.give(written);
    }
    let beside = bench.written - before;
    let most = CROWDED_BYTES_MAX + BATCH_BYTES_MAX + PIECE_BYTES;
    assert!(beside <= most, "{beside} octets before a small message");

    // Nobody is forgotten: all are read from again, and get to their end.
    bench.disk = Disk::Answers;
    while let Some(written) = bench.hung.pop_front() {
        bench.give(written);
    }
    for client in &clients {
        assert!(bench.wanted.contains(client), "it is read from again");
        bench.receive(*client, b"\r\n.\r\n");
        assert!(
            bench.said(*client).contains("250 2.0.0"),
            "{}",
            bench.said(*client)
        );
    }
}
