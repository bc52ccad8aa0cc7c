//! A name server that answers as it is told, also wrongly: over UDP and TCP, in wire
//! format (RFC 1035 §4). It is written for being obvious, and shares no code with the
//! program under test.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::place;

/// Types of records (RFC 1035 §3.2.2, RFC 3596).
pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const MX: u16 = 15;
pub(crate) const AAAA: u16 = 28;

/// What a question is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These records.
    Records(Vec<Record>),
    /// There is no such name (with a SOA, so that it may be remembered).
    NoName,
    /// This code: 2 SERVFAIL, 5 REFUSED.
    Code(u8),
    /// Nothing at all.
    Silence,
    /// Octets that are no answer.
    Garbage,
    /// Over UDP only "ask over TCP"; there the records.
    Truncated(Vec<Record>),
    /// "Ask those over there."
    Referral,
}

/// A record; its owner is the name that was asked for, unless it says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    owner: Option<String>,
    kind: u16,
    ttl_seconds: u32,
    data: Vec<u8>,
}

impl Record {
    fn new(kind: u16, data: Vec<u8>) -> Self {
        Self {
            owner: None,
            kind,
            ttl_seconds: 1,
            data,
        }
    }

    pub(crate) fn mx(preference: u16, name: &str) -> Self {
        let mut data = preference.to_be_bytes().to_vec();
        data.extend(wire_name(name));
        Self::new(MX, data)
    }

    pub(crate) fn a(address: Ipv4Addr) -> Self {
        Self::new(A, address.octets().to_vec())
    }

    pub(crate) fn aaaa(address: Ipv6Addr) -> Self {
        Self::new(AAAA, address.octets().to_vec())
    }

    fn of(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }
}

#[derive(Debug, Default)]
struct Shared {
    replies: Mutex<HashMap<(String, u16), Reply>>,
    asked: Mutex<Vec<(String, u16, Over)>>,
    stopped: AtomicBool,
}

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

/// A running name server. What it was not told of does not exist.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    pub(crate) fn new() -> Self {
        let address = place::next_address();
        let udp = UdpSocket::bind(address).expect("the address is ours");
        let tcp = TcpListener::bind(address).expect("the address is ours");
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .expect("not zero");
        let shared = Arc::new(Shared::default());
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || serve_udp(&udp, &for_udp)),
            thread::spawn(move || serve_tcp(&tcp, &for_tcp)),
        ];
        Self {
            address,
            shared,
            threads,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on questions for this type of this name are answered so.
    pub(crate) fn set(&self, name: &str, kind: u16, reply: Reply) {
        let mut replies = self.shared.replies.lock().expect("no holder panics");
        replies.insert((name.to_owned(), kind), reply);
    }

    /// The exchangers of a domain.
    pub(crate) fn mx(&self, domain: &str, exchangers: &[(u16, &str)]) {
        let records = (exchangers.iter())
            .map(|(preference, name)| Record::mx(*preference, name))
            .collect();
        self.set(domain, MX, Reply::Records(records));
    }

    /// The addresses of a host.
    pub(crate) fn host(&self, name: &str, addresses: &[SocketAddr]) {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                SocketAddr::V4(address) => four.push(Record::a(*address.ip())),
                SocketAddr::V6(address) => six.push(Record::aaaa(*address.ip())),
            }
        }
        self.set(name, A, Reply::Records(four));
        self.set(name, AAAA, Reply::Records(six));
    }

    /// How often a question came.
    pub(crate) fn asked(&self, name: &str, kind: u16, over: Over) -> usize {
        let asked = self.shared.asked.lock().expect("no holder panics");
        let same = (name.to_owned(), kind, over);
        asked.iter().filter(|other| **other == same).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while !shared.stopped.load(Ordering::SeqCst) {
        let Ok((octets, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(answer) = answer(&buffer[..octets], Over::Udp, shared) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // Not joined: it ends when the client does.
        thread::spawn(move || {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut question).is_err() {
                    break;
                }
                let Some(answer) = answer(&question, Over::Tcp, &shared) else {
                    continue;
                };
                let length = u16::try_from(answer.len()).expect("a short answer");
                let framed = [&length.to_be_bytes()[..], &answer].concat();
                if stream.write_all(&framed).is_err() {
                    break;
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

/// The answer to a question, if there is one.
fn answer(question: &[u8], over: Over, shared: &Shared) -> Option<Vec<u8>> {
    let (name, end) = read_name(question)?;
    let kind = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
    (shared.asked.lock().expect("no holder panics")).push((name.clone(), kind, over));
    let replies = shared.replies.lock().expect("no holder panics");
    let reply = replies.get(&(name.clone(), kind)).cloned();
    let reply = reply.unwrap_or_else(|| {
        // A name is there if it has anything.
        match replies.keys().any(|(other, _)| *other == name) {
            true => Reply::Records(Vec::new()),
            false => Reply::NoName,
        }
    });
    drop(replies);
    let soa = || {
        let mut data = [wire_name("ns.example"), wire_name("root.example")].concat();
        for number in [1u32, 60, 60, 60, 1] {
            data.extend(number.to_be_bytes());
        }
        vec![Record::new(SOA, data).of("example")]
    };
    let (code, truncated, records, authority) = match reply {
        Reply::Records(records) if records.is_empty() => (0, false, records, soa()),
        Reply::Records(records) => (0, false, records, Vec::new()),
        Reply::NoName => (3, false, Vec::new(), soa()),
        Reply::Code(code) => (code, false, Vec::new(), Vec::new()),
        Reply::Silence => return None,
        Reply::Garbage => {
            // The id is right, so that it is looked at.
            let mut octets = question.get(..2)?.to_vec();
            octets.extend([0x84, 0x00, 0, 1, 0, 9, 0, 0, 0, 0, 0xC0, 0xFF, 0xEE, 1, 2]);
            return Some(octets);
        }
        Reply::Truncated(_) if over == Over::Udp => (0, true, Vec::new(), Vec::new()),
        Reply::Truncated(records) => (0, false, records, Vec::new()),
        Reply::Referral => {
            let ns = Record::new(NS, wire_name("ns.elsewhere.example")).of("example");
            (0, false, Vec::new(), vec![ns])
        }
    };
    let mut octets = question.get(..2)?.to_vec();
    // A response; recursion desired and available.
    octets.push(if truncated { 0x83 } else { 0x81 });
    octets.push(0x80 | code);
    for count in [1, records.len(), authority.len(), 0] {
        octets.extend(u16::try_from(count).expect("few").to_be_bytes());
    }
    octets.extend(question.get(12..end + 4)?);
    for record in records.iter().chain(&authority) {
        let owner = record.owner.as_deref().unwrap_or(&name);
        octets.extend(wire_name(owner));
        octets.extend(record.kind.to_be_bytes());
        octets.extend(1u16.to_be_bytes());
        octets.extend(record.ttl_seconds.to_be_bytes());
        octets.extend(
            u16::try_from(record.data.len())
                .expect("short")
                .to_be_bytes(),
        );
        octets.extend(&record.data);
    }
    Some(octets)
}

/// The name of the only question, and where it ends.
fn read_name(question: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            let name: Vec<String> = labels;
            return Some((name.join("."), at));
        }
        let label = question.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).expect("a label"));
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// A record that says: ask for this name instead.
pub(crate) fn alias(target: &str) -> Record {
    Record::new(CNAME, wire_name(target))
}
