//! Mailboxes that are collected under TLS, and whose servers mean harm before there is any:
//! by POP3S, and by STLS (RFC 2595 §4). Whatever they do, they are not told the password.
//! [`crate::siege`] says how long they go on, and what must hold beside them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::harness::message::{Random, contains};
use crate::harness::place;
use crate::hostile::{Field, close, maybe_reset};

/// What is offered before TLS is there: all that could tempt one to say the password.
const CAPABILITIES: &[u8] =
    b"+OK\r\nSTLS\r\nUSER\r\nSASL PLAIN\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n";
/// What a mailbox says to all of a session.
const REPLIES: &[u8] = b"+OK\r\nUSER\r\nUIDL\r\n.\r\n+OK\r\n+OK\r\n+OK 1 9\r\n+OK\r\n1 a\r\n.\r\n";
/// How long a command is waited for, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer to harm is waited for. Some get none, and one collector runs at a time.
const HARM_PATIENCE: Duration = Duration::from_millis(600);
/// Between two octets of the slow.
const OCTET_PAUSE: Duration = Duration::from_millis(20);

/// What is said in place of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Harm {
    /// Noise.
    Noise,
    /// The beginning of one, octet by octet, and no more.
    Slow,
    /// The beginning of one that has no end.
    Endless,
    /// Replies in clear.
    Injection,
}

impl Harm {
    pub(crate) const ALL: [Self; 4] = [Self::Noise, Self::Slow, Self::Endless, Self::Injection];
}

/// One of them.
pub(crate) struct SecureMailbox {
    /// As the configuration says it: "implicit" or "starttls".
    tls: &'static str,
    listener: TcpListener,
    secret: &'static str,
    /// How often it came to that.
    harms: Mutex<BTreeMap<Harm, u32>>,
}

impl SecureMailbox {
    pub(crate) fn new(tls: &'static str, secret: &'static str) -> Self {
        let listener = TcpListener::bind(place::next_address()).expect("the address is ours");
        listener.set_nonblocking(true).expect("a listener");
        Self {
            tls,
            listener,
            secret,
            harms: Mutex::default(),
        }
    }

    /// What it is called in the configuration.
    pub(crate) fn name(&self) -> String {
        format!("isp-{}", self.tls)
    }

    /// Lines of its section.
    pub(crate) fn lines(&self) -> String {
        let address = self.listener.local_addr().expect("it has one");
        format!(
            "name = \"{}\"\nserver = \"{address}\"\ntls = \"{}\"\n",
            self.name(),
            self.tls
        )
    }

    pub(crate) fn harms(&self) -> BTreeMap<Harm, u32> {
        self.harms.lock().expect("no holder panics").clone()
    }

    /// Until it is over: each harm by turns.
    pub(crate) fn serve(&self, field: Field<'_>, seed: u64) {
        let mut random = Random(seed);
        let begin = random.below(Harm::ALL.len() as u64) as usize;
        let mut harms = Harm::ALL.into_iter().cycle().skip(begin);
        let mut told = Vec::new();
        while field.go_on() {
            let Ok((stream, _)) = self.listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_nonblocking(false).expect("a stream");
            field.begin(&stream);
            let mut session = Session {
                field,
                stream,
                heard: Vec::new(),
            };
            // That the relay has enough of it is what it is for.
            if self.greet(&mut session).is_ok() {
                let harm = harms.next().expect("a cycle has no end");
                let _ = self.harm(&mut session, harm, &mut random);
            }
            let heard = &session.heard;
            let words = [self.secret, "USER ", "PASS ", "APOP ", "AUTH "];
            if words.iter().any(|word| contains(heard, word)) {
                told.push(heard.escape_ascii().to_string());
            }
        }
        close(&self.listener);
        assert!(told.is_empty(), "in clear: {told:?}");
    }

    /// Up to the point at which the handshake is to begin.
    fn greet(&self, session: &mut Session<'_>) -> io::Result<()> {
        if self.tls == "implicit" {
            return Ok(());
        }
        session.stream.write_all(b"+OK ready\r\n")?;
        let mut answered = 0;
        loop {
            while let Some(end) = (session.heard[answered..].iter()).position(|&o| o == b'\n') {
                let line = &session.heard[answered..=answered + end];
                answered += end + 1;
                match line {
                    b"STLS\r\n" => return Ok(()),
                    b"CAPA\r\n" => session.stream.write_all(CAPABILITIES)?,
                    _ => session.stream.write_all(b"+OK\r\n")?,
                }
            }
            session.listen(PATIENCE)?;
        }
    }

    fn harm(&self, session: &mut Session<'_>, harm: Harm, random: &mut Random) -> io::Result<()> {
        let mut said = match self.tls {
            "implicit" => Vec::new(),
            _ => b"+OK begin\r\n".to_vec(),
        };
        // In one piece with the answer, or behind it.
        if random.below(2) == 0 {
            session.stream.write_all(&said)?;
            // The beginning of a handshake.
            session.listen(PATIENCE)?;
            said.clear();
        }
        match harm {
            Harm::Noise => said.extend((0..3000).map(|_| random.next() as u8)),
            Harm::Injection => said.extend_from_slice(REPLIES),
            Harm::Slow | Harm::Endless => {}
        }
        session.stream.write_all(&said)?;
        let mut counts = self.harms.lock().expect("no holder panics");
        *counts.entry(harm).or_default() += 1;
        drop(counts);
        // A record with the beginning of a ServerHello that is longer than any may be.
        let record = b"\x16\x03\x03\x40\x00\x02\xff\xff\xff\x03\x03";
        match harm {
            Harm::Noise | Harm::Injection => {}
            Harm::Slow => {
                for octet in record {
                    session.stream.write_all(&[*octet])?;
                    std::thread::sleep(OCTET_PAUSE);
                }
            }
            Harm::Endless => {
                session.stream.write_all(record)?;
                session.stream.write_all(&[0; 0x4000 - 6])?;
                let mut more = b"\x16\x03\x03\x40\x00".to_vec();
                more.resize(5 + 0x4000, 0);
                session.field.pour(&mut session.stream, &more)?;
            }
        }
        maybe_reset(&session.stream, random)?;
        // Whatever it has to say to that.
        loop {
            session.listen(HARM_PATIENCE)?;
        }
    }
}

/// One connection.
struct Session<'a> {
    field: Field<'a>,
    stream: TcpStream,
    /// All that came, none of it under TLS.
    heard: Vec<u8>,
}

impl Session<'_> {
    /// What comes next.
    fn listen(&mut self, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let mut part = [0; 4096];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
                Ok(count) => {
                    self.heard.extend_from_slice(&part[..count]);
                    return Ok(());
                }
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && self.field.go_on()
                        && begun.elapsed() < patience => {}
                Err(error) => return Err(error),
            }
        }
    }
}
