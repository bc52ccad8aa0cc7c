//! Peers that mean harm on the ports that are not for mail: a mailbox that is collected, the
//! web page, the admin socket. [`crate::siege`] says how long they go on, and what must hold.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::message::Random;

/// A peer gives up what it does after this many octets.
const OCTETS_MAX: usize = 3 << 20;
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// Of the admin socket, all connections are kept, so many at most.
const SOCKET_KEPT: Kept = Kept {
    one_in: 1,
    most: 100,
};
/// More than the page takes would keep the honest out, too.
const PAGE_KEPT: Kept = Kept {
    one_in: 8,
    most: 20,
};

/// Which of its connections an attacker leaves open, without another word.
#[derive(Clone, Copy)]
struct Kept {
    one_in: u64,
    most: usize,
}

/// A connection of one who does not wait for long.
pub(crate) trait Impatient {
    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()>;
}

impl Impatient for TcpStream {
    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(patience)?;
        self.set_write_timeout(patience)
    }
}

impl Impatient for UnixStream {
    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(patience)?;
        self.set_write_timeout(patience)
    }
}

/// Until when, and how much was done.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    /// Between two visits of one attacker.
    pub(crate) pause: Duration,
    pub(crate) over: &'a AtomicBool,
    pub(crate) made: &'a AtomicU64,
}

/// Nobody is there any more: who comes is refused, and who waits to be let in is reset. Else
/// the relay would wait for a greeting, for minutes.
pub(crate) fn close(listener: &TcpListener) {
    let closed = socket2::SockRef::from(listener).shutdown(Shutdown::Read);
    closed.expect("it listens");
}

impl Field<'_> {
    pub(crate) fn go_on(self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// Writes without reading, until the other side has had enough or it is too much.
    pub(crate) fn pour(self, stream: &mut impl io::Write, octets: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < OCTETS_MAX && self.go_on() {
            stream.write_all(octets)?;
            written += octets.len();
        }
        Ok(())
    }

    /// A connection is there.
    pub(crate) fn begin(self, stream: &impl Impatient) {
        let set = stream.set_patience(Some(PATIENCE));
        set.expect("a time-out");
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Comes again and again. Whatever becomes of a connection is right.
    fn come<S: Impatient>(
        self,
        kept: Kept,
        connect: impl Fn() -> io::Result<S>,
        mut act: impl FnMut(&mut S) -> io::Result<()>,
    ) {
        let (mut connections, mut count) = (Vec::new(), 0);
        while self.go_on() {
            let Ok(mut stream) = connect() else {
                std::thread::yield_now();
                continue;
            };
            self.begin(&stream);
            let _ = act(&mut stream);
            count += 1;
            if count % kept.one_in == 0 {
                connections.push(stream);
            }
            if connections.len() > kept.most {
                connections.drain(..kept.most / 2);
            }
            std::thread::sleep(self.pause);
        }
    }

    /// One who wants the web page to fall over.
    pub(crate) fn browse(self, page: SocketAddr, seed: u64) {
        let mut random = Random(seed);
        self.come(
            PAGE_KEPT,
            || TcpStream::connect(page),
            |stream| self.visit(stream, &mut random),
        );
    }

    fn visit(self, stream: &mut TcpStream, random: &mut Random) -> io::Result<()> {
        maybe_reset(stream, random)?;
        match random.below(8) {
            // A header without an end, and one line without an end.
            0 => {
                stream.write_all(b"GET / HTTP/1.1\r\n")?;
                self.pour(stream, b"X-Field: value\r\n".repeat(500).as_slice())
            }
            1 => {
                stream.write_all(b"GET /")?;
                self.pour(stream, &[b'a'; 8192])
            }
            // Bodies that are announced and do not come, or come for ever.
            2 => stream.write_all(
                b"POST /action HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n{",
            ),
            3 => {
                stream.write_all(
                    b"POST /action HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                )?;
                self.pour(stream, format!("400\r\n{}\r\n", "x".repeat(0x400)).as_bytes())
            }
            4 => {
                let noise: Vec<u8> = (0..3000).map(|_| random.next() as u8).collect();
                stream.write_all(&noise)?;
                stream.read(&mut [0; 512]).map(drop)
            }
            // Many requests, and nothing is read.
            5 => self.pour(
                stream,
                b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50).as_slice(),
            ),
            6 => {
                let whole = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n";
                let part = random.below(whole.len() as u64 + 1) as usize;
                stream.write_all(&whole[..part])
            }
            _ => {
                stream.write_all(b"GET /../../etc/passwd HTTP/1.1\r\nHost: evil.example\r\n\r\n")?;
                stream.read(&mut [0; 512]).map(drop)
            }
        }
    }

    /// A script of the operator's own that has gone wrong.
    pub(crate) fn command(self, socket: &Path, seed: u64) {
        let mut random = Random(seed);
        self.come(
            SOCKET_KEPT,
            || UnixStream::connect(socket),
            |stream| self.order(stream, &mut random),
        );
    }

    fn order(self, stream: &mut UnixStream, random: &mut Random) -> io::Result<()> {
        match random.below(6) {
            0 => Ok(()),
            1 => self.pour(stream, &[b'{'; 8192]),
            2 => {
                let noise: Vec<u8> = (0..2000).map(|_| random.next() as u8).collect();
                stream.write_all(&noise)
            }
            // Asks and asks, and reads nothing.
            3 => self.pour(stream, b"{\"command\":\"status\"}\n".repeat(50).as_slice()),
            4 => {
                let deep = "[".repeat(20_000);
                stream.write_all(format!("{deep}\n").as_bytes())?;
                stream.read(&mut [0; 512]).map(drop)
            }
            _ => {
                stream.write_all(b"{\"command\":\"nothing\",\"x\":1e999}\n")?;
                stream.read(&mut [0; 512]).map(drop)
            }
        }
    }

    /// A mailbox whose server means harm: it says what it likes to whoever comes.
    pub(crate) fn serve(self, listener: &TcpListener, seed: u64) {
        let mut random = Random(seed);
        listener.set_nonblocking(true).expect("a listener");
        while self.go_on() {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_nonblocking(false).expect("a stream");
            self.begin(&stream);
            let _ = self.mailbox(&mut stream, &mut random);
        }
        close(listener);
    }

    fn mailbox(self, stream: &mut TcpStream, random: &mut Random) -> io::Result<()> {
        match random.below(12) {
            0 => return self.pour(stream, &[b'+'; 8192]),
            1 => return self.pour(stream, b"+OK ready\r\n".repeat(500).as_slice()),
            2 => {
                let noise: Vec<u8> = (0..5000).map(|_| random.next() as u8).collect();
                return stream.write_all(&noise);
            }
            3 => return Ok(()),
            _ => stream.write_all(b"+OK <1.2@host> ready\r\n")?,
        }
        // The others are a mailbox for a while.
        let wrong = [
            "CAPA", "UIDL", "LIST", "STAT", "RETR", "TOP", "PASS", "none",
        ];
        let wrong = wrong[random.below(wrong.len() as u64) as usize];
        let mut input = Vec::new();
        loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part)?;
            if count == 0 {
                return Ok(());
            }
            input.extend_from_slice(&part[..count]);
            while let Some(end) = input.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = input.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).to_ascii_uppercase();
                let verb = line.split_ascii_whitespace().next().unwrap_or_default();
                if verb == wrong {
                    return self.misbehave(stream, random);
                }
                let answer: &[u8] = match verb {
                    "CAPA" => b"+OK\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n",
                    "STAT" => b"+OK 2 200\r\n",
                    "LIST" => b"+OK\r\n1 100\r\n2 100\r\n.\r\n",
                    "UIDL" => b"+OK\r\n1 a\r\n2 a\r\n.\r\n",
                    "TOP" | "RETR" => {
                        b"+OK\r\nTo: a@branch.example\r\nSubject: x\r\n\r\n..\r\n.\r\n"
                    }
                    _ => b"+OK\r\n",
                };
                stream.write_all(answer)?;
            }
        }
    }

    fn misbehave(self, stream: &mut TcpStream, random: &mut Random) -> io::Result<()> {
        let text: &[u8] = match random.below(9) {
            // Lists and texts without an end, of many lines or of one.
            0 => {
                return self.pour(
                    stream,
                    b"+OK\r\n1 99999999999999999999\r\n".repeat(300).as_slice(),
                );
            }
            1 => {
                stream.write_all(b"+OK\r\n")?;
                let mut lines = String::new();
                for number in 0..40_000 {
                    lines.push_str(&format!("{number} u{}\r\n", number / 2));
                }
                stream.write_all(lines.as_bytes())?;
                b".\r\n"
            }
            2 => {
                stream.write_all(b"+OK\r\n")?;
                return self.pour(stream, &[b'x'; 8192]);
            }
            3 => {
                stream.write_all(b"+OK\r\n")?;
                return self.pour(
                    stream,
                    b"X-Header: y\r\n\t folded\r\n".repeat(300).as_slice(),
                );
            }
            4 => b"+OK\r\n\0\xff\xfe\r.\n.\r\n",
            5 => b"-ERR [SYS/PERM] \x1b[31m go away\r\n",
            6 => b"+OK\r\n0 0\r\n-1 5\r\n4294967296 1\r\n1 1\r\n1 1\r\n.\r\n",
            7 => b"+ aGVsbG8=\r\n",
            _ => b"",
        };
        stream.write_all(text)?;
        maybe_reset(stream, random)
    }
}

/// Every other connection ends by a reset, wherever it is then.
pub(crate) fn maybe_reset(stream: &TcpStream, random: &mut Random) -> io::Result<()> {
    if random.below(2) == 0 {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
