//! A site gets its mail: a provider that holds it, a link that comes up and goes, and the
//! collectors that ask for it meanwhile. Both are the real program.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::message::{contains, message};
use crate::harness::secure::{Certificates, only_ours};
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::link::Line;

/// Who sends to the site, and who gets it there.
const SENDER: &str = "<a@world.example>";
const RECIPIENT: &str = "<b@branch.example>";

/// A site behind a line, with a host behind it that takes its mail, and one out in the
/// world that takes what it sends.
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) line: Line,
    pub(crate) home: Sink,
    world: Sink,
}

impl Site {
    /// With these sections; the provider calls it at `address`. The host behind it is
    /// reached without the link, everything else is not.
    pub(crate) fn start(
        address: SocketAddr,
        link: &str,
        sections: &str,
        change: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let line = Line::new();
        let (home, world) = (Sink::new(), Sink::new());
        let local = format!("local = [\"{}\"]\n{link}", home.address().ip());
        let setup = Setup::to(world.address())
            .listen(address)
            .cores(2)
            .route("branch.example", home.address())
            .site(&line.link("isp", &local))
            .site(sections);
        Self {
            relay: change(setup).start(),
            line,
            home,
            world,
        }
    }

    /// Something of its own that waits for the link.
    fn send(&self) {
        let mut client = self.relay.client();
        let text = message("from the site", "text");
        client.send("<b@branch.example>", &["<a@world.example>"], &text);
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        eventually(words, || self.relay.log().contains(words).then_some(()));
    }

    #[track_caller]
    pub(crate) fn wait_for_done(&self, done: &[&str]) {
        eventually("the line was used as it should", || {
            (self.line.done() == done).then_some(())
        });
    }
}

/// A provider that holds so many messages for the site, and delivers to it there.
fn provider(site: SocketAddr, messages: usize) -> Relay {
    let customer = format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\"branch.example\"]\n\
         deliver_to = \"{site}\"\nrelease = {{ open = true }}\n"
    );
    let relay = Setup::new().cores(2).customer(&customer).start();
    hold(&relay, messages);
    relay
}

fn hold(provider: &Relay, messages: usize) {
    for n in 0..messages {
        // Connections spread over the cores.
        let text = message(&n.to_string(), "held");
        provider.client().send(SENDER, &[RECIPIENT], &text);
    }
}

fn etrn(provider: &Relay, lines: &str) -> String {
    format!(
        "[[collect]]\nkind = \"etrn\"\nname = \"provider\"\nserver = \"{}\"\n\
         names = [\"branch.example\"]\n{lines}\n",
        provider.address()
    )
}

fn outcome(relay: &Relay, name: &str) -> Value {
    relay.facts(&["collect", name])[0]["collectors"][0].clone()
}

const QUICK: &str = "hang_up = { idle = \"1s\" }";

/// The whole course: mail waits at the provider; the site comes up for what it has to
/// send, sends it, asks for its own, gets it, has nothing to do, and hangs up.
#[test]
fn the_provider_is_asked_while_the_link_is_up() {
    let address = place::next_address();
    let provider = provider(address, 20);
    let link = format!("go_up = {{ age = \"1s\" }}\n{QUICK}");
    let site = Site::start(address, &link, &etrn(&provider, ""), |setup| setup);
    site.send();
    site.world.wait_for(1);
    site.home.wait_for(20);
    provider.wait_until_empty();
    site.wait_for_log("253 2.0.0 OK, 20 pending messages");
    site.wait_for_log("collector provider: the provider has called from 127.");
    // It would have waited for a minute for a provider that does not call.
    site.wait_for_done(&["up", "down"]);
    site.wait_for_log("no work for 1 s");
    site.relay.wait_until_empty();
}

/// By hand, with the link down: it comes up for it. Nobody calls back, and that is said.
#[test]
fn by_hand_and_nobody_calls_back() {
    let nobody = place::next_address();
    let provider = provider(nobody, 1);
    let address = place::next_address();
    let collect = etrn(&provider, "wait = \"1s\"");
    let site = Site::start(address, QUICK, &collect, |setup| setup);
    assert_eq!(site.line.done(), [""; 0]);
    let outcome = outcome(&site.relay, "provider");
    assert_eq!(outcome["failure"], Value::Null, "{outcome}");
    let said = outcome["said"].as_str().expect("what the provider said");
    assert!(said.starts_with("branch.example: 253 "), "{outcome}");
    site.wait_for_log("nobody has called within 1 s, although there is mail");
    site.wait_for_done(&["up", "down"]);
    // For people.
    let text = site.relay.run(&["collect"]).stdout;
    assert!(text.starts_with("provider: branch.example: 25"), "{text}");
}

/// Somebody else comes over the link while the provider is awaited: that is no reason not
/// to wait.
#[test]
fn a_stranger_is_not_the_provider() {
    let nobody = place::next_address();
    let provider = provider(nobody, 1);
    let collect = etrn(&provider, "wait = \"5s\"");
    let site = Site::start(place::next_address(), QUICK, &collect, |setup| setup);
    outcome(&site.relay, "provider");
    drop(site.relay.client());
    site.wait_for_log("nobody has called within 5 s, but for 127.0.0.1: if that is the provider");
    site.wait_for_done(&["up", "down"]);
    let log = site.relay.log();
    assert!(!log.contains("the provider has called"), "{log}");
}

/// Where the operator says from where the provider calls, nobody else is taken for it,
/// though he brings our mail.
#[test]
fn the_provider_calls_from_where_it_is_said() {
    let address = place::next_address();
    let provider = provider(address, 1);
    let lines = "callers = [\"192.0.2.0/24\"]\nwait = \"2s\"";
    let site = Site::start(address, QUICK, &etrn(&provider, lines), |setup| setup);
    outcome(&site.relay, "provider");
    site.home.wait_for(1);
    site.wait_for_log("nobody has called within 2 s, but for 127.0.0.1: if that is the provider");
}

/// What is due by itself brings the link up for it, again and again.
#[test]
fn at_intervals() {
    let address = place::next_address();
    let provider = provider(address, 1);
    let collect = etrn(&provider, "every = \"10s\"\nwait = \"1s\"");
    let site = Site::start(address, QUICK, &collect, |setup| setup);
    site.home.wait_for(1);
    site.wait_for_log("dialling (a collector is due)");
    site.wait_for_done(&["up", "down"]);
    hold(&provider, 1);
    site.home.wait_for(2);
    site.wait_for_done(&["up", "down", "up", "down"]);
}

/// The first server is dead, the second one is asked.
#[test]
fn the_next_server_is_asked() {
    let address = place::next_address();
    let provider = provider(address, 3);
    let dead = place::next_address();
    let collect = format!(
        "[[collect]]\nkind = \"etrn\"\nserver = \"{dead}\"\nfallback = [\"{}\"]\n\
         names = [\"#branch\", \"stranger.example\"]\n",
        provider.address()
    );
    let site = Site::start(address, QUICK, &collect, |setup| {
        setup.route("stranger.example", provider.address())
    });
    let finished = site.relay.run(&["collect", "etrn"]);
    assert_eq!(finished.code, Some(75), "one was refused: {finished:?}");
    assert!(finished.stdout.contains("#branch: 253 "), "{finished:?}");
    let refused = "not for us: stranger.example";
    assert!(finished.stdout.contains(refused), "{finished:?}");
    site.home.wait_for(3);
}

/// ATRN under TLS, with the mail of all data cores of the provider over one connection.
/// The site needs no address that the provider could call.
#[test]
fn by_atrn_under_tls() {
    let certificates = Certificates::new();
    let odmr = place::next_address();
    let own = certificates.issue("provider", &[&odmr.ip().to_string()], |_| {});
    let secrets = tempfile::tempdir().expect("a directory");
    let password = secrets.path().join("branch");
    fs::write(&password, "swordfish\n").expect("it is written");
    only_ours(&password);
    let password = password.display();
    let login = format!("user = \"branch\"\npassword_file = \"{password}\"\n");
    let customer = format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\"branch.example\", \"other.example\"]\n\
         deliver_to = \"mx\"\n{login}"
    );
    for (tls, prefix) in [("starttls", "one"), ("implicit", "two")] {
        let listener =
            format!("[[listener]]\naddress = \"{odmr}\"\nrole = \"odmr\"\ntls = \"{tls}\"\n");
        let mut provider = Setup::new()
            .cores(2)
            .sections(&format!("{listener}{}", own.section()))
            .customer(&customer)
            .start();
        hold(&provider, 12);
        // Not asked for, and so not given.
        let text = message(prefix, "stays");
        (provider.client()).send(SENDER, &["<b@other.example>"], &text);
        let collect = format!(
            "[[collect]]\nkind = \"atrn\"\nserver = \"{odmr}\"\ntls = \"{tls}\"\n{login}\
             names = [\"branch.example\"]\n"
        );
        let trusting = certificates.trusting();
        let mut site = Site::start(place::next_address(), QUICK, &collect, |setup| {
            setup.wrapper(trusting)
        });
        let first = outcome(&site.relay, "atrn");
        assert_eq!(first["collected"], 12, "{first}");
        assert_eq!(first["failure"], Value::Null, "{first}");
        site.home.wait_for(12);
        site.wait_for_done(&["up", "down"]);
        assert_eq!(provider.queued().len(), 1);
        let again = outcome(&site.relay, "atrn");
        assert_eq!(again["said"], "there is no mail", "{again}");
        let log = site.relay.log();
        assert!(!log.contains("swordfish"), "no password in the log");
        // A provider that nobody vouches for gets no password.
        let stranger = Certificates::new();
        site.relay.stop();
        (site.relay).change(|setup| setup.wrapper(stranger.trusting()));
        site.relay.start_again();
        let finished = site.relay.run(&["collect"]);
        assert_eq!(finished.code, Some(75), "{finished:?}");
        assert!(finished.stdout.contains("certificate"), "{finished:?}");
        provider.stop();
    }
}

/// A line that breaks in the middle of what the provider sends: the rest comes with the
/// next time on line, and nothing is lost.
#[test]
fn a_line_that_breaks_in_the_middle() {
    let address = place::next_address();
    let provider = provider(address, 300);
    let collect = etrn(&provider, "wait = \"1s\"");
    let dial = format!("dial = {{ pause = \"1s\" }}\n{QUICK}");
    let site = Site::start(address, &dial, &collect, |setup| setup);
    site.relay.facts(&["link", "up"]);
    site.home.wait_for(1);
    fs::remove_file(site.line.path("line")).expect("it was up");
    eventually("all has come", || {
        // What was lost on line is dialled for again; what is left, by hand.
        let _ = site.relay.run(&["collect"]);
        (provider.is_empty() && site.relay.is_empty()).then_some(())
    });
    assert!(site.home.count() >= 300);
}

/// A link that cannot be had: who asked is told, and what was asked for comes to be when
/// it can.
#[test]
fn without_a_link_nothing_is_asked() {
    let address = place::next_address();
    let provider = provider(address, 1);
    let dial = format!("dial = {{ tries = 1 }}\n{QUICK}");
    let site = Site::start(address, &dial, &etrn(&provider, ""), |setup| setup);
    site.line.program("up", "echo failed >> done; exit 1");
    let finished = site.relay.run(&["collect"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(finished.stdout.contains("no link is up"), "{finished:?}");
    assert_eq!(site.line.done(), ["failed"]);
    assert_eq!(provider.queued().len(), 1);
}

/// A message wakes the provider, on the way of the site's own mail; while one waits there
/// is no second one.
#[test]
fn a_message_wakes_the_provider() {
    let collect = "[[collect]]\nkind = \"wakeup\"\nto = \"wake@isp.example\"\nwait = \"0s\"\n";
    let site = Site::start(place::next_address(), QUICK, collect, |setup| setup);
    let outcome = outcome(&site.relay, "wakeup");
    assert_eq!(outcome["failure"], Value::Null, "{outcome}");
    let mail = site.world.wait_for_one();
    assert_eq!(mail.recipients, ["<wake@isp.example> NOTIFY=NEVER"]);
    assert!(
        mail.mail.starts_with("<postmaster@relay.example>"),
        "{}",
        mail.mail
    );
    assert!(contains(
        &mail.octets,
        "Subject: relay.example is on line\r\n"
    ));
    site.wait_for_done(&["up", "down"]);
    site.relay.wait_until_empty();
}

#[test]
fn one_wake_up_message_waits_at_a_time() {
    // Nobody takes it.
    let relay = Setup::to(place::next_address())
        .site("[[collect]]\nkind = \"wakeup\"\nto = \"wake@isp.example\"\n")
        .start();
    let first = outcome(&relay, "wakeup");
    assert_eq!(first["failure"], Value::Null, "{first}");
    let again = relay.run(&["collect", "wakeup"]);
    assert_eq!(again.code, Some(75), "{again:?}");
    assert!(again.stdout.contains("still waits here"), "{again:?}");
    assert_eq!(relay.queued().len(), 1);
}

/// A program asks; its name and nothing of ours is in its environment.
#[test]
fn a_program_asks() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ask");
    let write = |text: &str| {
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    };
    let told = directory.path().join("told");
    write(&format!(
        "echo \"$TURNSPOOL_COLLECTOR $1 $HOME\" > {}",
        told.display()
    ));
    let collect = format!(
        "[[collect]]\nkind = \"command\"\nname = \"finger\"\ncommand = [\"{}\", \"; exit 1\"]\n\
         wait = \"0s\"\n",
        path.display()
    );
    let site = Site::start(place::next_address(), QUICK, &collect, |setup| setup);
    let outcome = outcome(&site.relay, "finger");
    assert_eq!(outcome["failure"], Value::Null, "{outcome}");
    let text = fs::read_to_string(&told).expect("it ran");
    assert_eq!(text, "finger ; exit 1 \n");
    site.wait_for_done(&["up", "down"]);
    write("echo 'no such host' >&2; exit 7");
    let finished = site.relay.run(&["collect", "finger"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(
        finished
            .stdout
            .contains("ended with exit code 7: no such host"),
        "{finished:?}"
    );
    site.wait_for_log("collecting-failed");
}
