//! Generator, link and sink on loopback. The link's arithmetic is tested in
//! virtual time beside it; here only what needs sockets.

use clap::Parser;
use loadtest::generate::{self, GenerateReport};
use loadtest::link::{self, Link, LinkReport};
use loadtest::sink::{self, Sink, SinkReport};

#[derive(Parser)]
struct Generate {
    #[command(flatten)]
    options: generate::Options,
}

#[derive(Parser)]
struct LinkCommand {
    #[command(flatten)]
    options: link::Options,
}

fn load(generator: &str, link: &str) -> (GenerateReport, LinkReport, SinkReport) {
    let sink = Sink::start(&sink::Options::default()).expect("a sink");
    let line = format!("link --forward 127.0.0.1:0={} {link}", sink.address());
    let link = LinkCommand::parse_from(line.split_whitespace()).options;
    let link = Link::start(&link).expect("a link");
    let line = format!("generate {} {generator}", link.addresses()[0]);
    let options = Generate::parse_from(line.split_whitespace()).options;
    let report = generate::run(&options).expect("a load");
    (
        report,
        link.finish().expect("a report"),
        sink.finish().expect("a report"),
    )
}

#[test]
fn everything_comes_through_a_link() {
    for link in [
        "",
        "--bandwidth 80M --round-trip 2ms",
        "--bandwidth 20M --round-trip 1ms --loss 0.01 --stall 3ms --overhead 40",
        "--round-trip 4ms --window 2k",
    ] {
        let (report, link_report, sink) = load(
            "--messages 60 --sessions 4 --pipelining group --size 1k-20k",
            link,
        );
        assert!(report.is_clean(), "{link}: {report}");
        assert_eq!((report.accepted, sink.whole), (60, 60), "{link}: {sink}");
        assert_eq!(
            link_report.up.bytes, sink.received_bytes,
            "{link}: {link_report}"
        );
        assert_eq!(
            (link_report.connections, link_report.refused),
            (4, 0),
            "{link}"
        );
    }
}

#[test]
fn round_trips_are_counted() {
    let count = |pipelining| {
        let (_, link, _) = load(
            &format!("--messages 20 --sessions 1 --pipelining {pipelining}"),
            "",
        );
        link.round_trips
    };
    // EHLO, twenty times MAIL, RCPT, DATA and the content, QUIT.
    assert_eq!(count("none"), 82);
    // EHLO, {MAIL RCPT DATA}, twenty contents each with what follows.
    assert_eq!(count("group"), 22);
}

#[test]
fn a_connection_is_cut_at_the_octet() {
    for (bytes, manner) in [(3000, "end"), (3000, "reset"), (1, "end"), (100, "reset")] {
        let link = format!("--cut up:{bytes} --cut-all --cut-manner {manner}");
        let (report, link, sink) = load("--messages 5 --sessions 1 --failures-max 4", &link);
        assert_eq!(
            report.accepted + sink.damaged + sink.whole,
            0,
            "{bytes} {manner}: {report}"
        );
        assert!(link.cuts >= 4, "{bytes} {manner}: {link}");
        let arrived = link.cuts * bytes;
        if manner == "end" {
            assert_eq!(sink.received_bytes, arrived, "{bytes} {manner}: {sink}");
        } else {
            // A reset may take along what the sink has not read.
            assert!(sink.received_bytes <= arrived, "{bytes} {manner}: {sink}");
        }
    }
}

#[test]
fn each_connection_has_its_cut() {
    let (report, link, sink) = load("--messages 5 --sessions 1", "--cut up:3000,never,up:1");
    assert_eq!(
        (report.accepted, report.unanswered, link.cuts),
        (4, 1, 1),
        "{report}\n{link}"
    );
    assert_eq!(sink.whole, 4, "{sink}");
}

#[test]
fn a_link_that_is_down_turns_connections_away() {
    let (report, link, sink) = load(
        "--messages 5 --sessions 1 --failures-max 4",
        "--up 1000s-1001s",
    );
    assert_eq!((report.accepted, sink.connections), (0, 0), "{report}");
    assert!(link.refused >= 4, "{link}");
}

#[test]
fn silence_is_the_cut_that_nobody_notices() {
    let (report, link, _) = load(
        "--messages 3 --sessions 1 --timeout 60ms",
        "--cut up:2000 --cut-manner silence",
    );
    assert_eq!((report.timeouts, link.cuts), (1, 1), "{report}\n{link}");
    assert_eq!(report.accepted + report.unanswered, 3, "{report}");
}
