//! What stands in a socket's queue when nobody waits for it any more: the system goes on
//! sending it, for minutes where the host reads slowly, from the pages of the files that it
//! was sent from; also when the process was killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::harness::message::message;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, eventually, place};

/// So much at least stands in the socket when the process dies, below what a window takes
/// from the beginning.
const UNDER_WAY_BYTES: usize = 32 << 10;
/// More than the segments of 1 MiB that are prepared when the message is gone.
const MESSAGES: usize = 30;

/// A message of some 300 KiB: it leaves without a copy, and there is room for it in sockets.
fn text(letter: &str) -> Vec<u8> {
    message(
        "orphan",
        &format!("{}\r\n", letter.repeat(70)).repeat(4_200),
    )
}

/// The files of segments and spares, with what the file system calls them.
fn files(spool: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(spool.join("log-00")).expect("it is there");
    (entries.filter_map(Result::ok))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_file = name.ends_with(".segment") || name.ends_with(".spare");
            is_file.then(|| Some((name, entry.metadata().ok()?.ino())))?
        })
        .collect()
}

/// Whether the file system can take a file its pages.
fn renews(directory: &Path) -> bool {
    let file = tempfile::tempfile_in(directory).expect("a file");
    file.set_len(4096).expect("it is ours");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::ZERO_RANGE, 0, 4096).is_ok()
}

/// The message leaves by another session after the start, its file becomes a later segment
/// with the mail of others, and the host reads on where it was.
#[test]
fn a_slow_host_gets_what_it_was_sent_and_no_mail_of_others() {
    let mut hop = Hop::new("");
    let before = files(&hop.relay.spool_directory());
    hop.relay.kill();
    drop(hop.listener);
    let sink = Sink::at(hop.address, EVERYTHING, []);
    hop.relay.start_again();
    sink.wait_for(1);
    reads_on(hop.relay, &hop.host, &before);
}

/// It is done with for us as soon as it has left, whatever the host has read of it.
#[test]
fn a_host_that_says_yes_before_it_reads_gets_no_mail_of_others() {
    let hop = Hop::new("250 taken\r\n");
    let before = files(&hop.relay.spool_directory());
    reads_on(hop.relay, &hop.host, &before);
}

/// A relay, and a host to which it is sending a message, of which nothing is read.
struct Hop {
    relay: Relay,
    listener: TcpListener,
    address: SocketAddr,
    host: TcpStream,
}

impl Hop {
    /// The host says this behind its 354.
    fn new(early: &str) -> Self {
        let listener = TcpListener::bind(place::next_address()).expect("the address is ours");
        let address = listener.local_addr().expect("it has one");
        let relay = Setup::to(address)
            .spool("segment_size = \"1MiB\"\nfree_min = \"1MiB\"")
            .discarded("others.example")
            .start();
        let mut client = relay.client();
        client.send("<>", &["<b@b.example>"], &text("o"));
        let (mut host, _) = listener.accept().expect("it calls");
        take_until_data(&host);
        host.write_all(early.as_bytes()).expect("it is heard");
        let mut some = vec![0; 2 * UNDER_WAY_BYTES];
        eventually("some of the text is under way", || {
            (host.peek(&mut some).ok()? >= UNDER_WAY_BYTES).then_some(())
        });
        Self {
            relay,
            listener,
            address,
            host,
        }
    }
}

/// The message is gone, the file in which it was is used again, and the host reads.
#[track_caller]
fn reads_on(mut relay: Relay, mut host: &TcpStream, before: &[(String, u64)]) {
    relay.wait_until_empty();
    let mut client = relay.client();
    for _ in 0..MESSAGES {
        client.send("<>", &["<c@others.example>"], &text("n"));
        relay.wait_until_empty();
    }
    // The file that it was sent from is another segment now, and full of other mail.
    let spool = relay.spool_directory();
    let after = files(&spool);
    let again = after.iter().filter(|(name, inode)| {
        let of_old = before
            .iter()
            .any(|(old, number)| number == inode && old != name);
        of_old && name.ends_with(".segment")
    });
    if again.count() == 0 {
        // On a file system that is memory it cannot be, and is removed.
        assert!(!renews(&spool), "not used again: {before:?}, {after:?}");
    }
    // It would wait for the host.
    relay.kill();
    let mut got = Vec::new();
    host.read_to_end(&mut got)
        .expect("to the end of what was sent");
    assert!(got.len() >= UNDER_WAY_BYTES, "{} octets", got.len());
    let lines = got.split(|&octet| octet == b'\n');
    let strange = lines.filter(|line| line.contains(&0) || line.starts_with(b"nnnn"));
    assert_eq!(strange.count(), 0, "lines that nobody sent to this host");
}

/// Up to the text, of which nothing is read.
fn take_until_data(mut host: &TcpStream) {
    host.write_all(b"220 host.example\r\n")
        .expect("it is heard");
    let mut lines = BufReader::new(host);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let reply: &[u8] = match line.get(..4) {
            Some("DATA") => b"354 go on\r\n",
            _ => b"250 ok\r\n",
        };
        host.write_all(reply).expect("it is heard");
        if reply.starts_with(b"354") {
            return;
        }
    }
}
