//! A provider and a site at the two ends of a line that is slow and long: both are the real
//! program, the line is the link simulator. The whole course of a time on line, and what it
//! costs.

use std::fs;
use std::net::SocketAddr;

use clap::Parser as _;
use loadtest::link::{self, Link, LinkReport};

use crate::harness::message::message;
use crate::harness::secure::{Certificates, only_ours};
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::link::Line;

/// Messages that the provider holds.
const HELD: usize = 20;
/// Messages of the site.
const OWN: usize = 3;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    options: link::Options,
}

/// Carries connections to these targets, the last one backwards; gives where it takes them.
fn simulator(forwards: [SocketAddr; 2], backward: SocketAddr) -> (Link, [SocketAddr; 3]) {
    let ends = [(); 3].map(|()| place::next_address());
    let line = format!(
        "link --round-trip 200ms --bandwidth 1M --forward {}={} --forward {}={} --backward {}={backward}",
        ends[0], forwards[0], ends[1], forwards[1], ends[2]
    );
    let command = Command::parse_from(line.split_whitespace());
    let link = Link::start(&command.options).expect("it listens");
    (link, ends)
}

/// Mail waits at both sides; the oldest of the site's brings it on line, where it sends,
/// asks in the manner of `kind`, gets all that is held, has nothing to do, and hangs up.
/// What the provider said, and what went over the line.
fn course(kind: &str, tls: &str) -> (Relay, LinkReport) {
    let certificates = Certificates::new();
    let [at_provider, odmr, at_site] = [(); 3].map(|()| place::next_address());
    let (link, [to_provider, to_odmr, to_site]) = simulator([at_provider, odmr], at_site);
    let own = certificates.issue("provider", &[&to_odmr.ip().to_string()], |_| {});
    let secrets = tempfile::tempdir().expect("a directory");
    let password = secrets.path().join("branch");
    fs::write(&password, "swordfish\n").expect("it is written");
    only_ours(&password);
    let login = format!(
        "user = \"branch\"\npassword_file = \"{}\"\n",
        password.display()
    );
    let (home, world) = (Sink::new(), Sink::new());
    let listener = format!(
        "[[listener]]\naddress = \"{odmr}\"\nrole = \"odmr\"\ntls = \"{tls}\"\n{}",
        own.section()
    );
    let customer = format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\"branch.example\"]\n\
         deliver_to = \"{to_site}\"\nrelease = {{ open = true }}\n{login}"
    );
    let provider = Setup::new()
        .listen(at_provider)
        .cores(2)
        .route("world.example", world.address())
        .sections(&listener)
        .customer(&customer)
        .start();
    for n in 0..HELD {
        // Connections spread over the cores.
        let text = message(&n.to_string(), &"held ".repeat(400));
        (provider.client()).send("<a@world.example>", &["<b@branch.example>"], &text);
    }
    let how = match kind {
        "etrn" => format!("server = \"{to_provider}\""),
        _ => format!("server = \"{to_odmr}\"\ntls = \"{tls}\"\n{login}"),
    };
    let collect = format!(
        "[[collect]]\nkind = \"{kind}\"\nname = \"provider\"\nnames = [\"branch.example\"]\n{how}"
    );
    let line = Line::new();
    let near = format!("local = [\"{}\"]", home.address().ip());
    let hang_up = "go_up = { age = \"1s\" }\nhang_up = { idle = \"1s\" }";
    let site = Setup::to(to_provider)
        .listen(at_site)
        .cores(2)
        .smarthost_lines("tls = \"none\"")
        .route("branch.example", home.address())
        .site(&line.link("isp", &format!("{near}\n{hang_up}")))
        .site(&collect)
        .wrapper(certificates.trusting())
        .start();
    assert_eq!(provider.queued().len(), HELD);
    for n in 0..OWN {
        let text = message(&n.to_string(), "from the site");
        (site.client()).send("<b@branch.example>", &["<a@world.example>"], &text);
    }
    eventually("the line was used once", || {
        (line.done() == ["up", "down"]).then_some(())
    });
    assert_eq!((home.count(), world.count()), (HELD, OWN));
    site.wait_until_empty();
    provider.wait_until_empty();
    let history = eventually("it is written down", || {
        let history = site.facts(&["link", "history"]).remove(0);
        (!history[0]["outings"][0].is_null()).then_some(history)
    });
    let outing = &history[0]["outings"][0];
    assert_eq!(outing["messages"], OWN, "{history}");
    assert_eq!(outing["received"], HELD, "{history}");
    let octets = outing["received_octets"].as_u64().expect("a number");
    assert!(octets > HELD as u64 * 2000, "{history}");
    let text = site.run(&["link", "history"]).stdout;
    let counted = format!("messages: {OWN} (");
    assert!(text.contains(&counted), "{text}");
    assert!(text.contains(&format!("sent, {HELD} (")), "{text}");
    assert_eq!(outing["ours"], true, "{history}");
    assert_eq!(outing["ended"], "no work for 1 s", "{history}");
    let why = outing["why"].as_str().expect("a reason");
    assert!(why.contains("has waited"), "{history}");
    (site, link.finish().expect("it carried"))
}

/// What went over the line is the mail and little else, in few connections.
#[track_caller]
fn assert_cheap(report: &LinkReport, connections: u64, round_trips: u64) {
    assert_eq!((report.refused, report.cuts), (0, 0), "{report}");
    assert!(report.connections <= connections, "{report}");
    assert!(report.round_trips <= round_trips, "{report}");
    // The messages have 2,000 octets, with their headers 2,400.
    assert!(report.down.bytes < HELD as u64 * 2800, "{report}");
}

#[test]
fn by_etrn() {
    let (site, report) = course("etrn", "starttls");
    let log = site.log();
    assert!(log.contains("253 2.0.0 OK, 20 pending messages"));
    assert!(log.contains("the provider has called from 127."));
    // The site's two data cores, ETRN, and the provider's two.
    assert_cheap(&report, 10, 20);
}

#[test]
fn by_atrn_under_tls() {
    for tls in ["starttls", "implicit"] {
        let (site, report) = course("atrn", tls);
        assert!(site.log().contains("collector provider"));
        assert!(site.log().contains("20 collected"));
        assert_cheap(&report, 6, 18);
    }
}
