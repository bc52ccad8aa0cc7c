//! Generator and sink against each other on loopback: everything that was sent
//! must come, whole and once, whatever the way.

use clap::Parser;
use loadtest::generate::{self, GenerateReport};
use loadtest::siege;
use loadtest::sink::{self, Sink, SinkReport};

#[derive(Parser)]
struct Generate {
    #[command(flatten)]
    options: generate::Options,
}

#[derive(Parser)]
struct SinkCommand {
    #[command(flatten)]
    options: sink::Options,
}

/// Runs a load of so many messages against a sink.
fn load(generator: &str, sink: &str) -> (GenerateReport, SinkReport) {
    let sink = format!("sink --listen 127.0.0.1:0 {sink}");
    let sink = SinkCommand::parse_from(words(&sink)).options;
    let sink = Sink::start(&sink).expect("a sink");
    let generator = format!("generate {} {generator}", sink.address());
    let options = Generate::parse_from(words(&generator)).options;
    let report = generate::run(&options).expect("a load");
    (report, sink.finish().expect("a report"))
}

/// As a shell would: 'one word' in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_message_comes_whole_and_once() {
    for generator in [
        "--pipelining none",
        "--pipelining transaction",
        "--pipelining group",
        "--transfer bdat",
        "--pipelining transaction --transfer bdat",
        "--pipelining group --transfer bdat",
        "--pipelining 7 --transfer bdat",
        "--pipelining group --messages-per-session 3",
        "--messages-per-session 1",
        "--pipelining group --dots-every 2 --size 1k:3,70k:1",
        "--pipelining group --size 1k-20k --threads 2 --recipients 3 --to-count 5",
        "--pipelining 4 --transfer bdat --size 300k --messages-per-session 9",
        "--rate 20000 --pipelining group",
        "--slow 2 --slow-rate 200k",
        "--hold 30",
        "--declare-size --mail-parameters 'BODY=8BITMIME RET=HDRS'",
    ] {
        let (report, sink) = load(&format!("--messages 101 --sessions 5 {generator}"), "");
        assert_eq!(report.accepted, 101, "{generator}: {report}");
        assert!(report.is_clean(), "{generator}: {report}");
        let counts = (
            sink.messages,
            sink.whole,
            sink.duplicates,
            sink.missing,
            sink.damaged,
        );
        assert_eq!(counts, (101, 101, 0, 0, 0), "{generator}: {sink}");
        assert_eq!(
            (sink.unknown_commands, sink.out_of_order),
            (0, 0),
            "{generator}: {sink}"
        );
        let recipients = if generator.contains("--recipients 3") {
            303
        } else {
            101
        };
        assert_eq!(sink.recipients, recipients, "{generator}");
    }
}

#[test]
fn the_end_of_a_sink_with_threads_is_no_failure() {
    let (report, sink) = load("--messages 20 --pipelining group", "--threads 3");
    assert!(report.is_clean(), "{report}");
    let counts = (sink.messages, sink.connections_failed);
    assert_eq!(counts, (20, 0), "{sink}");
}

#[test]
fn what_the_sink_refuses_is_reported_as_refused() {
    for (generator, rule, expected, code) in [
        ("", "content every 10 451", 90, 451),
        (
            "--pipelining group",
            "content every 10 552 5.2.2 Full",
            90,
            552,
        ),
        ("--pipelining transaction", "mail every 4 450", 75, 450),
        ("--pipelining group", "rcpt every 5 550", 80, 550),
        ("--pipelining group", "data every 5 451", 80, 451),
        ("--pipelining none", "rcpt every 5 550", 80, 550),
        (
            "--pipelining 3 --transfer bdat",
            "content every 2 451",
            50,
            451,
        ),
    ] {
        let sink = format!("--rule '{rule}'");
        let (report, sink) = load(&format!("--messages 100 --sessions 1 {generator}"), &sink);
        assert_eq!(report.accepted, expected, "{generator}, {rule}: {report}");
        assert_eq!(
            report.refused.get(&code),
            Some(&(100 - expected)),
            "{generator}, {rule}"
        );
        assert_eq!(sink.whole, expected, "{generator}, {rule}: {sink}");
        assert_eq!(report.violations, 0, "{generator}, {rule}: {report}");
    }
}

#[test]
fn a_connection_that_ends_is_opened_again() {
    for ending in [
        "content every 10 close",
        "content every 10 reset",
        "data every 7 421",
    ] {
        let sink = format!("--rule '{ending}'");
        let (report, sink) = load("--messages 100 --sessions 2 --pipelining group", &sink);
        assert!(report.connections_lost > 5, "{ending}: {report}");
        assert!(report.connections_opened > 5, "{ending}: {report}");
        assert_eq!(sink.damaged + sink.duplicates, 0, "{ending}: {sink}");
        assert_eq!(sink.whole, report.accepted, "{ending}: {report}\n{sink}");
    }
}

#[test]
fn a_delay_holds_replies_back_in_order() {
    let (report, sink) = load(
        "--messages 40 --sessions 2 --pipelining group",
        "--rule 'content every 4 delay 3ms' --rule 'rcpt every 7 delay 2ms' --rule 'connect delay 1ms'",
    );
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.accepted, sink.whole), (40, 40));
}

#[test]
fn silence_is_given_up_after_the_time_out() {
    let (report, _) = load(
        "--messages 4 --sessions 1 --timeout 40ms",
        "--rule 'content first 1 silent'",
    );
    assert_eq!(
        (report.timeouts, report.unanswered, report.accepted),
        (1, 1, 3),
        "{report}"
    );
}

#[test]
fn lmtp_answers_for_each_recipient() {
    // The generator speaks SMTP: more replies than it waits for are violations.
    let (report, sink) = load("--messages 3 --sessions 1 --recipients 2", "--lmtp");
    assert!(report.violations > 0, "{report}");
    assert!(sink.whole > 0, "{sink}");
    let (report, sink) = load("--messages 3 --sessions 1", "--lmtp");
    assert!(report.is_clean(), "{report}");
    assert_eq!(sink.whole, 3);
}

#[test]
fn etrn_storms_are_counted_by_reply() {
    let (report, _) = load(
        "--messages 50 --sessions 3 --etrn d{}.test --etrn-count 10",
        "--rule 'etrn ~ d3.* 458 4.7.1 Too often'",
    );
    assert_eq!(report.etrn_replies.get(&251), Some(&45), "{report}");
    assert_eq!(report.etrn_replies.get(&458), Some(&5), "{report}");
}

#[test]
fn a_missing_extension_ends_the_test_with_words() {
    let (report, _) = load(
        "--messages 5 --sessions 1 --pipelining group --failures-max 3",
        "--keywords CHUNKING",
    );
    assert_eq!(report.accepted, 0);
    let violation = report.first_violation.expect("one");
    assert!(violation.contains("PIPELINING"), "{violation}");
}

/// With TLS as without it; the next session resumes, or makes the whole handshake again.
#[test]
fn by_tls_every_message_comes_too() {
    for tls in ["starttls", "implicit"] {
        for generator in [
            "",
            "--pipelining group --messages-per-session 3",
            "--pipelining 7 --transfer bdat --size 300k --tls-full --messages-per-session 9",
            "--hold 20",
            "--slow 2 --slow-rate 200k",
        ] {
            let generator = format!("{generator} --tls {tls} --messages 60 --sessions 4");
            let (report, sink) = load(&generator, &format!("--tls {tls}"));
            assert_eq!(report.accepted, 60, "{generator}");
            assert_eq!((sink.whole, sink.damaged), (60, 0), "{generator}");
            assert!(report.is_clean(), "{generator}: {report}");
        }
    }
}

#[test]
fn tls_that_is_not_offered_ends_the_test_with_words() {
    let (report, _) = load("--tls starttls --messages 5 --failures-max 1", "");
    assert_eq!(report.accepted, 0);
    let violation = report.first_violation.expect("a sentence");
    assert!(violation.contains("STARTTLS"), "{violation}");
}

#[derive(Parser)]
struct SiegeCommand {
    #[command(flatten)]
    options: siege::Options,
}

/// Each kind of attack is laid, and the honest beside it are counted.
#[test]
fn honest_load_beside_each_attack() {
    let sink = SinkCommand::parse_from(words("sink --listen 127.0.0.1:0")).options;
    let sink = Sink::start(&sink).expect("a sink");
    let options = format!("siege {} --messages 20 --sessions 2", sink.address());
    let options = SiegeCommand::parse_from(words(&options)).options;
    let report = siege::run(&options).expect("a siege");
    sink.finish().expect("a report");
    assert_eq!(report.rows.len(), siege::Attack::ALL.len());
    for row in &report.rows {
        assert!(row.alone.per_second > 0.0, "{row}");
        assert!(row.beside.per_second > 0.0, "{row}");
        assert!(row.attacks_per_second > 0.0, "{row}");
    }
}
