//! Peers that mean harm, on every port at once, as hosts to which mail is brought or which
//! call for it, and as mailboxes that are collected, for as long as honest clients need for
//! their work: all of that is done, and neither memory nor descriptors grow.
//!
//! The honest ones are counted, not timed. With `TURNSPOOL_SOAK_SECONDS` they go on for so
//! long, the next hop fails at random besides, and memory and descriptors are looked at
//! again and again: they have to stay where they were in the second tenth.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loadtest::siege::{Attack, Siege};

use crate::harness::http::request;
use crate::harness::message::Random;
use crate::harness::relay::PROGRAM;
use crate::harness::rule::{Rule, Stage, on};
use crate::harness::secure::Certificates;
use crate::harness::sink::{EVERYTHING, Mail};
use crate::harness::{Client, Relay, Setup, Sink, eventually, place};
use crate::hops::Hops;
use crate::host::{Harm, Way};
use crate::hostile::Field;
use crate::kill::seed;
use crate::ledger::{Copies, Ledger};
use crate::secure_mailbox::{self, SecureMailbox};
use crate::site::{self, Site};

/// Of each honest client, without [`SOAK`].
const MESSAGES: u64 = 60;
const HONEST: u64 = 3;
/// The honest ones go on until harm of each new kind was done, if it is in this time.
const SEEN_WITHIN: Duration = Duration::from_secs(180);
/// Of the customers, and at the mailbox.
const SECRET: &str = "swordfish";
const RECIPIENTS: &[&str] = &["<b@b.example>"];
/// Between two visits to a mailbox under TLS.
const COLLECT_PAUSE: Duration = Duration::from_millis(100);
/// Connections over which the customer calls: some more than it may at a time.
const SITES: usize = 6;
const SOAK: &str = "TURNSPOOL_SOAK_SECONDS";
/// Messages in one honest session.
const SESSION_MESSAGES: u64 = 10;
/// What all attacks together may cost: their sessions, at most [`SESSIONS_PER_CLIENT`]
/// for each of their addresses, with what a session may hold, and what the allocator
/// keeps of that.
const GROWTH_KIB_MAX: u64 = 96 << 10;
const SESSIONS_PER_CLIENT: u32 = 40;
/// Outgoing. What hosts that mean harm do where they are scarce is another test's.
const CONNECTIONS: u16 = 200;
/// In a soak so many messages come for each of the hosts that mean harm: their mail waits.
const HOP_ROUNDS: u32 = 20;
/// Between two of those without a soak.
const HOP_PAUSE: Duration = Duration::from_millis(500);
/// As in all tests, but nothing is given up: mail for those hosts waits.
const RETRY: &str =
    "first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\ngive_up = \"5d\"\nwarn = \"0s\"";
/// In a soak everybody rests so long after each session: it is to be long, not hard.
const SOAK_PAUSE: Duration = Duration::from_millis(400);

fn descriptors(relay: &Relay) -> usize {
    let path = format!("/proc/{}/fd", relay.pid());
    std::fs::read_dir(path)
        .expect("the process is there")
        .count()
}

/// A listener for users wants some.
fn add_user(file: &Path) {
    let mut child = Command::new(PROGRAM)
        .args(["user", "add"])
        .arg(file)
        .arg("alice")
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"correct-horse\n").expect("it reads");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

/// One honest client: whatever it offers is taken. Refusals for now are tried again.
fn honest(relay: SocketAddr, ledger: &Ledger, pause: Duration, go_on: impl Fn(u64) -> bool) {
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
            client.envelope("<>", RECIPIENTS);
            ledger.seal(number);
            let reply = client.data(&text);
            assert_eq!(reply.code, 250, "an honest message: {reply:?}");
            ledger.acknowledge(number, RECIPIENTS);
            sent += 1;
        }
        client.expect("QUIT", 221);
        std::thread::sleep(pause);
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
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let hops = Hops::new();
    let users = secrets.path().join("users");
    add_user(&users);
    let secure = ["implicit", "starttls"].map(|tls| SecureMailbox::new(tls, SECRET));
    let collector = |lines: &str| {
        format!(
            "[[collect]]\nkind = \"pop3\"\n{lines}user = \"branch\"\npassword_file = \"{}\"\n\
             every = \"10s\"\ndomain_mailbox = {{ domains = [\"branch.example\"], \
             default = \"postmaster@branch.example\" }}\n",
            secret.display()
        )
    };
    let sections = format!(
        "[[listener]]\naddress = \"{}\"\ntls = \"implicit\"\n\
         [[listener]]\naddress = \"{}\"\nrole = \"odmr\"\n\
         [[listener]]\naddress = \"{}\"\nrole = \"submission\"\ntls = \"starttls\"\n{}\
         [[collect]]\nname = \"provider\"\nkind = \"etrn\"\nserver = \"{}\"\n\
         names = [\"branch.example\"]\nwait = \"1s\"\n\
         {}{}{}",
        port(1),
        port(2),
        port(3),
        files.section(),
        hops.provider(),
        collector(&format!(
            "name = \"isp\"\nserver = \"{}\"\n",
            mailbox.local_addr().expect("it has one")
        )),
        collector(&secure[0].lines()),
        collector(&secure[1].lines())
    );
    let setup = (hops.routes()).fold(setup, |setup, (domain, host)| setup.leading(&domain, &host));
    let (lost, name_server) = hops.lost();
    let setup = lost.fold(setup, |setup, domain| setup.route_mx(&domain));
    let setup = setup.servers(&[name_server]);
    let customer = |name: &str, domain: &str| {
        format!(
            "[[customer]]\nname = \"{name}\"\ndomains = [\"{domain}\"]\n\
             deliver_to = \"mx\"\nuser = \"{name}\"\npassword_file = \"{}\"\n",
            secret.display()
        )
    };
    let mut page = place::next_address();
    page.set_port(8025);
    let mut relay = setup
        .route("branch.example", sink.address())
        .admin(&format!("web = \"{page}\""))
        .relay(&format!("users_file = \"{}\"", users.display()))
        .retry(RETRY)
        .cores(2)
        .delivery(&format!("connections = {CONNECTIONS}"))
        .limits(&format!(
            "sessions = 1000\nsessions_per_client = {SESSIONS_PER_CLIENT}\nmessage_size = \"1MiB\""
        ))
        .sections(&sections)
        .wrapper(certificates.trusting())
        .customer(&customer("branch", "a.example"))
        .customer(&customer(site::NAME, site::DOMAIN))
        .start();
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let ports = [first, port(1), port(2), port(3)];
    let pause = soak.map_or(Duration::ZERO, |_| SOAK_PAUSE);
    let siege = Siege {
        ports: &ports,
        kept_max: 2 * SESSIONS_PER_CLIENT as usize,
        pause,
        over: &over,
        made: &made,
    };
    // The same work without them first: what that takes is not theirs.
    honest(first, &ledger, pause, |sent| sent < 30);
    let before = relay.memory_kib("RssAnon");
    let open_before = descriptors(&relay);
    let begun = Instant::now();
    let mut looks: Vec<(u64, usize)> = Vec::new();
    let site = |hops, field| Site {
        hops,
        field,
        relay: first,
        odmr: port(2),
        secret: SECRET,
    };
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
        for (number, attack) in (0..).zip(Attack::ALL) {
            let (siege, seed) = (&siege, random.next());
            scope.spawn(move || siege.lay(number, attack, seed));
        }
        let field = Field {
            pause,
            over: &over,
            made: &made,
        };
        let seeds = [random.next(), random.next(), random.next()];
        let socket = relay.directory().join("admin.sock");
        let (mailbox, relay, hops) = (&mailbox, &relay, &hops);
        scope.spawn(move || {
            while field.go_on() {
                relay.run(&["collect", "provider"]);
                std::thread::sleep(pause);
            }
        });
        let site = site(hops, field);
        let mut harms = site::order(random.next());
        for _ in 0..SITES {
            // Each begins with another, so that all have their turn soon.
            harms.rotate_left(Harm::SMTP.len() / SITES);
            let seed = random.next();
            scope.spawn(move || site.call(&harms, seed));
        }
        let hop_seed = random.next();
        scope.spawn(move || hops.serve(field, hop_seed));
        scope.spawn(move || {
            // In the first tenth of it: from then on nothing may grow.
            let pause = soak.map_or(HOP_PAUSE, |soak| soak / (10 * HOP_ROUNDS));
            for _ in 0..HOP_ROUNDS {
                hops.send(first, field);
                let begun = Instant::now();
                while field.go_on() && begun.elapsed() < pause {
                    std::thread::sleep(Duration::from_millis(50));
                }
                if !field.go_on() {
                    break;
                }
            }
        });
        let secure = &secure;
        for mailbox in secure {
            let seed = random.next();
            scope.spawn(move || mailbox.serve(field, seed));
            scope.spawn(move || {
                while field.go_on() {
                    relay.run(&["collect", &mailbox.name()]);
                    std::thread::sleep(pause.max(COLLECT_PAUSE));
                }
            });
        }
        scope.spawn(move || field.browse(page, seeds[0]));
        scope.spawn(move || field.command(&socket, seeds[1]));
        scope.spawn(move || field.serve(mailbox, seeds[2]));
        scope.spawn(move || {
            // Whatever becomes of it: the server there is what it is.
            while field.go_on() {
                relay.run(&["collect", "isp"]);
                std::thread::sleep(pause);
            }
        });
        let all_are_seen = move || {
            let mut mailboxes = secure.iter().map(SecureMailbox::harms);
            let [turned, lmtp] = [Way::Turned, Way::Lmtp].map(|way| hops.said().harms(way).1);
            !turned.is_empty()
                && lmtp.len() == Harm::LMTP.len()
                && mailboxes.all(|harms| harms.len() == secure_mailbox::Harm::ALL.len())
        };
        let clients: Vec<_> = (0..HONEST)
            .map(|_| {
                let ledger = &ledger;
                scope.spawn(move || {
                    honest(first, ledger, pause, |sent| match soak {
                        Some(soak) => begun.elapsed() < soak,
                        None => sent < MESSAGES || begun.elapsed() < SEEN_WITHIN && !all_are_seen(),
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
    let over = AtomicBool::new(false);
    let field = Field {
        pause,
        over: &over,
        made: &made,
    };
    site(&hops, field).fetch();
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
        // A fifth more than in the second tenth is a leak; the first is the beginning. What one message takes for a moment is no leak, so
        // the middle of the looks counts, and not the highest.
        let tenth = looks.len() / 10;
        assert!(tenth > 0, "too short for a soak");
        let middle = |looks: &[(u64, usize)]| {
            let mut memory: Vec<u64> = looks.iter().map(|look| look.0).collect();
            let mut open: Vec<usize> = looks.iter().map(|look| look.1).collect();
            memory.sort_unstable();
            open.sort_unstable();
            (memory[memory.len() / 2], open[open.len() / 2])
        };
        let early = middle(&looks[tenth..2 * tenth]);
        let late = middle(&looks[looks.len() - tenth..]);
        eprintln!("KiB and descriptors, in the second tenth {early:?}, in the last {late:?}");
        assert!(
            late.0 <= early.0 + early.0 / 5 + 4096 && late.1 <= early.1 + early.1 / 5 + 16,
            "{early:?}, then {late:?}"
        );
    }
    for mailbox in &secure {
        let (name, harms) = (mailbox.name(), mailbox.harms());
        eprintln!("at {name}: harm in {harms:?}");
        assert_eq!(
            harms.len(),
            secure_mailbox::Harm::ALL.len(),
            "not each of them: {harms:?}"
        );
    }
    let (turned, harms) = hops.said().harms(Way::Turned);
    eprintln!("turned by ATRN: {turned} sessions, harm in {harms:?}");
    assert!(!harms.is_empty(), "no harm behind {turned} turns");
    let (lmtp, harms) = hops.said().harms(Way::Lmtp);
    eprintln!("by LMTP: {lmtp} sessions, harm in {harms:?}");
    assert_eq!(harms.len(), Harm::LMTP.len(), "not each of them: {harms:?}");
    let [wait, delivered, refused] = hops.judge(&relay);
    eprintln!("of hostile hosts: {wait} wait, {delivered} delivered, {refused} refused");
    assert!(wait > 0 && delivered > 0 && refused > 0, "no hosts");
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
