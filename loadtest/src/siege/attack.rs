//! What a peer that means harm does with its connections. Whatever the server does about
//! it is right, as long as it does it to nobody else.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::sizes::Draws;

/// An attack gives up what it does after this many octets.
const OCTETS_MAX: usize = 3 << 20;
const RECIPIENTS: usize = 100_000;
/// How long an attacker waits for anything: whoever is let wait longer goes on with the
/// next connection.
const PATIENCE: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A kind of attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Attack {
    /// Connects, and is gone.
    Flood,
    /// Says nothing, on many connections.
    Mute,
    /// Says and reads an octet at a time, on many connections.
    Slow,
    /// A line without an end.
    Line,
    /// Commands, and never reads a reply.
    Deaf,
    /// A header without an end.
    Header,
    /// 100,000 recipients.
    Recipients,
    /// Chunks that are announced and do not come.
    Chunks,
    /// What looks like TLS.
    Garbage,
    /// A whole session that is reset behind a random octet.
    Reset,
    /// Commands at random, octet by octet.
    Drip,
}

impl Attack {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Flood,
        Self::Mute,
        Self::Slow,
        Self::Line,
        Self::Deaf,
        Self::Header,
        Self::Recipients,
        Self::Chunks,
        Self::Garbage,
        Self::Reset,
        Self::Drip,
    ];
}

/// Where attackers go, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Siege<'a> {
    /// Ports of one server.
    pub ports: &'a [SocketAddr],
    /// Connections that one attacker keeps open: some more than the server allows.
    pub kept_max: usize,
    /// Between two connections of an attacker.
    pub pause: Duration,
    /// It is over.
    pub over: &'a AtomicBool,
    /// Connections that were made.
    pub made: &'a AtomicU64,
}

/// A connection from an address of the attacker's own, where the server is on loopback.
fn connect(number: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if to.is_ipv4() && to.ip().is_loopback() {
        let ours = IpAddr::V4(Ipv4Addr::new(127, 202, 0, number.wrapping_add(1)));
        socket.bind(&SocketAddr::from((ours, 0)).into())?;
    }
    socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The end by a reset.
fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    // What cannot be reset is closed.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

fn read_some(stream: &mut TcpStream) -> io::Result<usize> {
    stream.read(&mut [0; 4096])
}

impl Siege<'_> {
    fn go_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// One attacker, until it is over.
    pub fn lay(&self, number: u8, attack: Attack, seed: u64) {
        let mut draws = Draws::new(seed);
        let mut kept = Vec::new();
        while self.go_on() {
            let port = self.ports[draws.below(self.ports.len() as u64) as usize];
            if let Ok(stream) = connect(number, port) {
                self.made.fetch_add(1, Ordering::Relaxed);
                // That it is thrown out is what it came for.
                let _ = self.attack(attack, stream, &mut draws, &mut kept);
            }
            std::thread::sleep(self.pause);
        }
    }

    fn attack(
        &self,
        attack: Attack,
        mut stream: TcpStream,
        draws: &mut Draws,
        kept: &mut Vec<TcpStream>,
    ) -> io::Result<()> {
        let hello = b"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n";
        match attack {
            Attack::Flood => {
                if draws.below(2) == 0 {
                    reset(stream);
                }
            }
            Attack::Mute => {
                kept.push(stream);
                if kept.len() > self.kept_max {
                    kept.drain(..kept.len() / 2);
                }
            }
            Attack::Slow => {
                stream.set_nonblocking(true)?;
                kept.push(stream);
                kept.retain_mut(crawl);
                if kept.len() > self.kept_max {
                    kept.drain(..kept.len() / 2);
                }
            }
            Attack::Line => self.pour(&mut stream, &[b'A'; 8192])?,
            Attack::Deaf => self.pour(&mut stream, &b"EHLO x\r\nNOOP\r\nHELP\r\n".repeat(100))?,
            Attack::Header => {
                stream.write_all(hello)?;
                stream.write_all(b"DATA\r\n")?;
                read_some(&mut stream)?;
                let line = format!("X-{}: {}\r\n", draws.below(9), "y".repeat(900));
                self.pour(&mut stream, line.repeat(8).as_bytes())?;
            }
            Attack::Recipients => {
                stream.write_all(b"EHLO x\r\nMAIL FROM:<a@a.example>\r\n")?;
                let mut reader = stream.try_clone()?;
                for number in 0..RECIPIENTS {
                    if !self.go_on() {
                        break;
                    }
                    stream.write_all(format!("RCPT TO:<r{number}@b.example>\r\n").as_bytes())?;
                    if number % 100 == 0 {
                        read_some(&mut reader)?;
                    }
                }
                reset(stream);
            }
            Attack::Chunks => {
                stream.write_all(hello)?;
                let octets = [1, 70_000, 900_000, u64::from(u32::MAX), u64::MAX];
                let octets = octets[draws.below(5) as usize];
                stream.write_all(format!("BDAT {octets}\r\n").as_bytes())?;
                let part = draws.below(200_000) as usize;
                stream.write_all(&vec![b'z'; part])?;
                if draws.below(2) == 0 {
                    reset(stream);
                }
            }
            Attack::Garbage => {
                if draws.below(2) == 0 {
                    stream.write_all(b"EHLO x\r\nSTARTTLS\r\n")?;
                    read_some(&mut stream)?;
                }
                // A record of a handshake, of any length, with anything in it.
                let length = draws.below(20_000) as u16;
                let [high, low] = length.to_be_bytes();
                let mut octets = vec![22, 3, 1, high, low, 1, 0, high, low, 3, 3];
                octets.extend((0..draws.below(3000)).map(|_| draws.next() as u8));
                stream.write_all(&octets)?;
                read_some(&mut stream)?;
            }
            Attack::Reset => {
                let whole = [
                    &hello[..],
                    b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nMAIL FROM:<a@a.example>\r\n",
                    b"RCPT TO:<b@b.example>\r\nBDAT 5 LAST\r\nabcdeETRN a.example\r\nQUIT\r\n",
                ]
                .concat();
                let part = draws.below(whole.len() as u64 + 1) as usize;
                stream.write_all(&whole[..part])?;
                if draws.below(2) == 0 {
                    read_some(&mut stream)?;
                }
                reset(stream);
            }
            Attack::Drip => {
                let line = match draws.below(4) {
                    0 => "AUTH PLAIN AHRpbQB0aW0=\r\n",
                    1 => "ETRN #x\r\nATRN a.example\r\n",
                    2 => "MAIL FROM:<a@a.example> SIZE=99999999999999999999\r\n",
                    _ => "VRFY x\r\nEXPN x\r\nXCLIENT ADDR=127.0.0.1\r\n",
                };
                for octet in line.as_bytes() {
                    if !self.go_on() {
                        break;
                    }
                    stream.write_all(&[*octet])?;
                }
                read_some(&mut stream)?;
            }
        }
        Ok(())
    }

    /// Writes without reading, until the server has had enough or it is too much.
    fn pour(&self, stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < OCTETS_MAX && self.go_on() {
            stream.write_all(octets)?;
            written += octets.len();
        }
        Ok(())
    }
}

/// An octet there and one back; whether the connection lives.
fn crawl(stream: &mut TcpStream) -> bool {
    let lives = |result: io::Result<usize>| match result {
        Ok(count) => count > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    // Commands that nobody knows: a fault for each octet that ends a line.
    lives(stream.write(b"\n")) && lives(stream.read(&mut [0]))
}
