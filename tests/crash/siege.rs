//! Peers that mean harm, on every port at once, for as long as honest clients need for
//! their work: all of that is done, and neither memory nor descriptors grow.
//!
//! The honest ones are counted, not timed. With `TURNSPOOL_SOAK_SECONDS` they go on for so
//! long, the next hop fails at random besides, and memory and descriptors are looked at
//! again and again: they have to stay where they were after the first tenth.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::http::request;
use crate::harness::message::Random;
use crate::harness::rule::{Rule, Stage, on};
use crate::harness::secure::Certificates;
use crate::harness::sink::{EVERYTHING, Mail};
use crate::harness::{Client, Relay, Setup, Sink, eventually, place};
use crate::hostile::Field;
use crate::kill::seed;
use crate::ledger::{Copies, Ledger};

/// Of each honest client, without [`SOAK`].
const MESSAGES: u64 = 60;
const HONEST: u64 = 3;
const SOAK: &str = "TURNSPOOL_SOAK_SECONDS";
/// Messages in one honest session.
const SESSION_MESSAGES: u64 = 10;
/// What all attacks together may cost: their sessions, at most [`SESSIONS_PER_CLIENT`]
/// for each of their addresses, with what a session may hold, and what the allocator
/// keeps of that.
const GROWTH_KIB_MAX: u64 = 96 << 10;
const SESSIONS_PER_CLIENT: u32 = 40;
/// An attack gives up what it does after this many octets or commands.
const OCTETS_MAX: usize = 3 << 20;
const RECIPIENTS: usize = 100_000;

/// What an attacker does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attack {
    /// Connects, and is gone.
    Flood,
    /// Says nothing, on many connections.
    Mute,
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

const ATTACKS: [Attack; 10] = [
    Attack::Flood,
    Attack::Mute,
    Attack::Line,
    Attack::Deaf,
    Attack::Header,
    Attack::Recipients,
    Attack::Chunks,
    Attack::Garbage,
    Attack::Reset,
    Attack::Drip,
];

struct Siege<'a> {
    ports: &'a [SocketAddr],
    over: &'a AtomicBool,
    made: &'a AtomicU64,
}

/// A connection from an address of the attacker's.
fn connect(number: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let ours = IpAddr::V4(Ipv4Addr::new(127, 202, 0, number + 1));
    socket.bind(&SocketAddr::from((ours, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    let stream = TcpStream::from(socket);
    // Whoever is let wait too long goes on with the next connection.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

/// The end by a reset.
fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
}

fn read_some(stream: &mut TcpStream) -> io::Result<usize> {
    stream.read(&mut [0; 4096])
}

impl Siege<'_> {
    fn go_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// One attacker. Whatever the relay does to its connections is right.
    fn lay(&self, number: u8, attack: Attack, seed: u64) {
        let mut random = Random(seed);
        let mut kept = Vec::new();
        while self.go_on() {
            let port = self.ports[random.below(self.ports.len() as u64) as usize];
            let Ok(stream) = connect(number, port) else {
                std::thread::yield_now();
                continue;
            };
            self.made.fetch_add(1, Ordering::Relaxed);
            let _ = self.attack(attack, stream, &mut random, &mut kept);
        }
    }

    fn attack(
        &self,
        attack: Attack,
        mut stream: TcpStream,
        random: &mut Random,
        kept: &mut Vec<TcpStream>,
    ) -> io::Result<()> {
        let hello = b"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n";
        match attack {
            Attack::Flood => {
                if random.below(2) == 0 {
                    reset(stream);
                }
            }
            Attack::Mute => {
                kept.push(stream);
                if kept.len() > 2 * SESSIONS_PER_CLIENT as usize {
                    kept.drain(..kept.len() / 2);
                }
            }
            Attack::Line => self.pour(&mut stream, &[b'A'; 8192])?,
            Attack::Deaf => self.pour(&mut stream, &b"EHLO x\r\nNOOP\r\nHELP\r\n".repeat(100))?,
            Attack::Header => {
                stream.write_all(hello)?;
                stream.write_all(b"DATA\r\n")?;
                read_some(&mut stream)?;
                let line = format!("X-{}: {}\r\n", random.below(9), "y".repeat(900));
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
                let octets = octets[random.below(5) as usize];
                stream.write_all(format!("BDAT {octets}\r\n").as_bytes())?;
                let part = random.below(200_000) as usize;
                stream.write_all(&vec![b'z'; part])?;
                if random.below(2) == 0 {
                    reset(stream);
                }
            }
            Attack::Garbage => {
                if random.below(2) == 0 {
                    stream.write_all(b"EHLO x\r\nSTARTTLS\r\n")?;
                    read_some(&mut stream)?;
                }
                // A record of a handshake, of any length, with anything in it.
                let length = random.below(20_000) as u16;
                let [high, low] = length.to_be_bytes();
                let mut octets = vec![22, 3, 1, high, low, 1, 0, high, low, 3, 3];
                octets.extend((0..random.below(3000)).map(|_| random.next() as u8));
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
                let part = random.below(whole.len() as u64 + 1) as usize;
                stream.write_all(&whole[..part])?;
                if random.below(2) == 0 {
                    read_some(&mut stream)?;
                }
                reset(stream);
            }
            Attack::Drip => {
                let line = match random.below(4) {
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

    /// Writes without reading, until the relay has had enough or it is too much.
    fn pour(&self, stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < OCTETS_MAX && self.go_on() {
            stream.write_all(octets)?;
            written += octets.len();
        }
        Ok(())
    }
}

fn descriptors(relay: &Relay) -> usize {
    let path = format!("/proc/{}/fd", relay.pid());
    std::fs::read_dir(path)
        .expect("the process is there")
        .count()
}

/// One honest client: whatever it offers is taken. Refusals for now are tried again.
fn honest(relay: SocketAddr, ledger: &Ledger, go_on: impl Fn(u64) -> bool) {
    let mut sent = 0;
    while go_on(sent) {
        // Whoever is not let in, or waits too long for it, comes again.
        let Ok(mut client) = Client::try_connect(None, relay) else {
            continue;
        };
        if client.greeting.code != 220 {
            std::thread::yield_now();
            continue;
        }
        client.hello();
        for _ in 0..SESSION_MESSAGES {
            if !go_on(sent) {
                break;
            }
            let number = ledger.begin();
            let text = ledger.text(number);
            client.envelope("<>", &["<b@b.example>"]);
            ledger.seal(number);
            let reply = client.data(&text);
            assert_eq!(reply.code, 250, "an honest message: {reply:?}");
            ledger.acknowledge(number);
            sent += 1;
        }
        client.expect("QUIT", 221);
    }
}

/// In a soak the next hop does not always do as it should.
fn faults() -> Vec<Rule> {
    let every = |stage, skip| on(stage).after(skip).times(1);
    (0..200)
        .flat_map(|n| {
            [
                every(Stage::Rcpt, 40 + 97 * n).reply("451 4.3.0 later"),
                every(Stage::End, 60 + 131 * n).reply("452 4.3.1 full"),
                every(Stage::Body, 80 + 151 * n).close(),
                every(Stage::Mail, 30 + 173 * n).close(),
            ]
        })
        .collect()
}

/// Without what the attackers brought.
fn ours(mut mail: Vec<Mail>) -> Vec<Mail> {
    mail.retain(|mail| {
        let rest = crate::harness::message::without_trace(&mail.octets).1;
        rest.starts_with(b"X-Number: ")
    });
    mail
}

#[test]
fn honest_clients_finish_and_nothing_grows() {
    let soak = std::env::var(SOAK).ok().map(|text| {
        Duration::from_secs(text.parse().unwrap_or_else(|_| panic!("{SOAK}: a number")))
    });
    let seed = seed();
    let mut random = Random(seed);
    let ledger = Ledger::new(seed);
    let certificates = Certificates::new();
    let rules = if soak.is_some() { faults() } else { Vec::new() };
    let sink = Sink::at(place::next_address(), EVERYTHING, rules);
    let setup = Setup::to(sink.address()).listener("tls = \"starttls\"");
    let first = setup.address;
    let port = |n: u16| SocketAddr::new(first.ip(), first.port() + n);
    let files = certificates.issue("server", &[&first.ip().to_string()], |_| {});
    let mailbox = TcpListener::bind(place::next_address()).expect("a port");
    let secrets = tempfile::tempdir().expect("a directory");
    let secret = secrets.path().join("branch");
    std::fs::write(&secret, "swordfish\n").expect("a file");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let sections = format!(
        "[[listener]]\naddress = \"{}\"\ntls = \"implicit\"\n\
         [[listener]]\naddress = \"{}\"\nrole = \"odmr\"\n{}\
         [[collect]]\nname = \"isp\"\nkind = \"pop3\"\nserver = \"{}\"\nuser = \"branch\"\n\
         password_file = \"{}\"\nevery = \"10s\"\n\
         domain_mailbox = {{ domains = [\"branch.example\"], \
         default = \"postmaster@branch.example\" }}\n",
        port(1),
        port(2),
        files.section(),
        mailbox.local_addr().expect("it has one"),
        secret.display()
    );
    let mut page = place::next_address();
    page.set_port(8025);
    let mut relay = setup
        .route("branch.example", sink.address())
        .admin(&format!("web = \"{page}\""))
        .cores(2)
        .limits(&format!(
            "sessions = 1000\nsessions_per_client = {SESSIONS_PER_CLIENT}\nmessage_size = \"1MiB\""
        ))
        .sections(&sections)
        .customer(&format!(
            "[[customer]]\nname = \"branch\"\ndomains = [\"a.example\"]\ndeliver_to = \"mx\"\n\
             user = \"branch\"\npassword_file = \"{}\"\n",
            secret.display()
        ))
        .start();
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let ports = [first, port(1), port(2)];
    let siege = Siege {
        ports: &ports,
        over: &over,
        made: &made,
    };
    // The same work without them first: what that takes is not theirs.
    honest(first, &ledger, |sent| sent < 30);
    let before = relay.memory_kib("RssAnon");
    let open_before = descriptors(&relay);
    let begun = Instant::now();
    let mut looks: Vec<(u64, usize)> = Vec::new();
    let mut copies = Copies::default();
    let mut asked = 0;
    std::thread::scope(|scope| {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _end = End(&over);
        for (number, attack) in (0..).zip(ATTACKS) {
            let (siege, seed) = (&siege, random.next());
            scope.spawn(move || siege.lay(number, attack, seed));
        }
        let field = Field {
            over: &over,
            made: &made,
        };
        let seeds = [random.next(), random.next(), random.next()];
        let socket = relay.directory().join("admin.sock");
        let (mailbox, relay) = (&mailbox, &relay);
        scope.spawn(move || field.browse(page, seeds[0]));
        scope.spawn(move || field.command(&socket, seeds[1]));
        scope.spawn(move || field.serve(mailbox, seeds[2]));
        scope.spawn(move || {
            // Whatever becomes of it: the server there is what it is.
            while field.go_on() {
                relay.run(&["collect"]);
            }
        });
        let clients: Vec<_> = (0..HONEST)
            .map(|_| {
                let ledger = &ledger;
                scope.spawn(move || {
                    honest(first, ledger, |sent| match soak {
                        Some(soak) => begun.elapsed() < soak,
                        None => sent < MESSAGES,
                    });
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            let look = (relay.memory_kib("RssAnon"), descriptors(relay));
            if soak.is_some() {
                ledger.look_at(&mut copies, &ours(sink.take_mail()));
                eprintln!(
                    "{:>6} s: {:>8} KiB, {:>4} descriptors, {:>8} messages",
                    begun.elapsed().as_secs(),
                    look.0,
                    look.1,
                    ledger.acknowledged()
                );
            }
            looks.push(look);
            // The operator is heard beside them, and the page is there.
            assert_eq!(relay.facts(&["status"]).len(), 1);
            let healthy = request(page, "GET", "/healthz", &[], "");
            asked += u32::from(healthy.is_some_and(|answer| answer.status == 200));
            std::thread::sleep(soak.map_or(Duration::from_millis(100), |soak| soak / 200));
        }
        for client in clients {
            client.join().expect("an honest client");
        }
    });
    relay.assert_running();
    assert!(asked > 0, "the page never answered");
    let most = looks.iter().map(|look| look.0).max().unwrap_or(before);
    let open_most = looks.iter().map(|look| look.1).max().unwrap_or(open_before);
    eprintln!(
        "{} attacks, {} honest messages: {before} KiB and {open_before} descriptors before, \
         {most} KiB and {open_most} at most",
        made.load(Ordering::Relaxed),
        ledger.acknowledged()
    );
    assert!(
        most <= before + GROWTH_KIB_MAX,
        "{before} KiB before, {most} KiB under siege"
    );
    assert!(made.load(Ordering::Relaxed) > 200, "no siege");
    if soak.is_some() {
        // A fifth more than after the first tenth is a leak.
        let tenth = looks.len() / 10;
        let early = looks[..tenth.max(1)].iter().map(|look| look.0).max();
        let late = looks[looks.len() - tenth.max(1)..]
            .iter()
            .map(|look| look.0)
            .max();
        let (early, late) = (early.unwrap_or(0), late.unwrap_or(0));
        eprintln!("at first {early} KiB, at last {late} KiB");
        assert!(
            late <= early + early / 5 + 4096,
            "{early} KiB, then {late} KiB"
        );
    }
    // All of it is delivered but what the attackers cut off, and everything is given back.
    relay.wait_until_drained(&sink);
    eventually("the descriptors are given back", || {
        // Segments that are filled take one each until they are empty.
        (descriptors(&relay) <= open_before + 16).then_some(())
    });
    ledger.look_at(&mut copies, &ours(sink.take_mail()));
    let twice = ledger.judge_copies(&copies);
    if soak.is_none() {
        assert_eq!(twice, 0, "nothing was interrupted");
    }
    relay.stop();
}
