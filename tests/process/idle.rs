//! Many sessions that do nothing: they cost little, and one too many is told so.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::message::{assert_identical, message};
use crate::harness::{Client, PATIENCE, Setup, Sink, eventually, skipped};

const SESSIONS: usize = 20_000;
/// What else a process has open: in this one, the other tests' sockets.
const DESCRIPTORS_BESIDE: u64 = 2000;
/// FEATURES and the promise: 1 KiB of the process's own memory for each.
const SESSION_KIB_MAX: u64 = 1;

/// A session of which only the greeting's code is read.
fn begin(ours: IpAddr, relay: SocketAddr) -> (TcpStream, [u8; 3]) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket
        .bind(&SocketAddr::from((ours, 0)).into())
        .expect("loopback");
    socket
        .connect_timeout(&relay.into(), PATIENCE)
        .expect("the relay listens");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    let mut code = [0; 3];
    stream.read_exact(&mut code).expect("the relay greets");
    (stream, code)
}

/// How many sessions the limit of open files allows; the relay inherits it.
fn allowed() -> Option<usize> {
    let wanted = SESSIONS as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(wanted).min(wanted);
    let current = limit.current.map(|current| current.max(most));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("up to the hard limit");
    let sessions = most.saturating_sub(DESCRIPTORS_BESIDE).min(SESSIONS as u64);
    if sessions < SESSIONS as u64 {
        skipped(&format!(
            "20,000 sessions: the hard limit of open files is {most}; {sessions} are tried"
        ));
    }
    (sessions > 0).then_some(usize::try_from(sessions).expect("few"))
}

#[test]
fn twenty_thousand_sessions() {
    let Some(sessions) = allowed() else { return };
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .limits(&format!(
            "sessions = {sessions}\nsessions_per_client = {sessions}"
        ))
        .start();
    let mut open = Vec::with_capacity(sessions);
    // What the allocator takes once, in pages of 2 MiB for each size, is not the
    // price of a session: the first tenth is not counted.
    let first = sessions / 10;
    let mut before = 0;
    while open.len() < sessions {
        // From several addresses: the ports of one may not be enough.
        let last = u8::try_from(open.len() / 5000 + 1).expect("few");
        let ours = IpAddr::V4(Ipv4Addr::new(127, 201, 0, last));
        let (stream, code) = begin(ours, relay.address());
        // A session of the start may have been counted a little longer than it lived.
        if &code == b"220" {
            open.push(stream);
        }
        if open.len() == first {
            before = relay.memory_kib("RssAnon");
        }
    }
    let after = relay.memory_kib("RssAnon");
    let counted = sessions - first;
    let each = (after - before) as f64 / counted as f64;
    eprintln!(
        "{sessions} idle sessions: {before} KiB at {first}, {after} KiB at the end, {each:.2} KiB each"
    );
    assert!(
        after - before <= counted as u64 * SESSION_KIB_MAX,
        "{each:.2} KiB for an idle session"
    );

    let mut refused = Client::connect(relay.address());
    assert_eq!(refused.greeting.code, 421, "{:?}", refused.greeting);
    refused.assert_closed();
    // They are all alive, and there is room again when one has gone.
    open.truncate(sessions - 1);
    let mut client = eventually("there is room for one", || {
        let client = Client::connect(relay.address());
        (client.greeting.code == 220).then_some(client)
    });
    client.hello();
    let sent = message("among many", "text");
    client.send("<a@client.example>", &["<b@b.example>"], &sent);
    assert_identical(&sink.wait_for_one().octets, &sent);
    for stream in open.iter_mut().step_by(997) {
        use std::io::Write as _;
        let mut rest = Vec::new();
        stream.write_all(b"QUIT\r\n").expect("it is open");
        stream.read_to_end(&mut rest).expect("it is answered");
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("\r\n221 "), "{rest}");
    }
    relay.assert_running();
    relay.stop();
}
