//! A customer that fetches by ATRN, against a small provider of this test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use clap::Parser;
use loadtest::customer::{self, CustomerReport};

#[derive(Parser)]
struct CustomerCommand {
    #[command(flatten)]
    options: customer::Options,
}

/// A provider that answers `sessions` connections, one after the other, by
/// saying the lines of `script`; a line that begins with `<` is what the customer
/// must say first.
fn provider(sessions: usize, script: &'static [&'static str]) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = thread::spawn(move || {
        for _ in 0..sessions {
            let (connection, _) = listener.accept().expect("a customer");
            serve(&connection, script);
        }
    });
    (port, serving)
}

fn serve(mut connection: &TcpStream, script: &[&str]) {
    let mut lines = BufReader::new(connection).lines();
    for line in script {
        match line.strip_prefix('<') {
            None => connection
                .write_all(format!("{line}\r\n").as_bytes())
                .expect("sent"),
            Some(expected) => loop {
                let said = lines.next().expect("a line").expect("a line");
                // Continuation lines of a reply are not in scripts.
                if said.as_bytes().get(3) != Some(&b'-') {
                    assert!(said.starts_with(expected), "{said:?} is not {expected:?}");
                    break;
                }
            },
        }
    }
}

fn fetch(port: u16, arguments: &str) -> CustomerReport {
    let line = format!("customer 127.0.0.1:{port} {arguments}");
    let options = CustomerCommand::parse_from(line.split_whitespace()).options;
    customer::run(&options).expect("a report")
}

#[test]
fn mail_comes_over_the_turned_connection() {
    let (port, serving) = provider(
        3,
        &[
            "220 provider",
            "<EHLO",
            "250-provider",
            "250 ATRN",
            "<ATRN a.test",
            "250 turn",
            "<220",
            "EHLO provider",
            "<250",
            "MAIL FROM:<>",
            "RCPT TO:<x@a.test>",
            "DATA",
            "<250",
            "<250",
            "<354",
            "Subject: x",
            "",
            "..",
            ".",
            "<250",
            "QUIT",
            "<221",
        ],
    );
    let report = fetch(port, "--domains a.test --requests 3");
    assert_eq!(report.atrn_replies.get(&250), Some(&3), "{report}");
    assert_eq!(
        (report.mail.messages, report.mail.foreign),
        (3, 3),
        "{report}"
    );
    assert_eq!(
        (report.sessions_lost, report.violations),
        (0, 0),
        "{report}"
    );
    assert_eq!(
        report.first_message.as_ref().map(|latency| latency.count),
        Some(3)
    );
    serving.join().expect("the provider's script");
}

#[test]
fn nothing_waits() {
    let (port, serving) = provider(
        4,
        &[
            "220 p",
            "<EHLO",
            "250 ATRN",
            "<ATRN d",
            "453 nothing",
            "<QUIT",
            "221 bye",
        ],
    );
    let report = fetch(port, "--domains d{}.test --customers 2 --requests 4");
    assert_eq!(report.atrn_replies.get(&453), Some(&4), "{report}");
    assert_eq!(
        (report.sessions_lost, report.mail.messages),
        (0, 0),
        "{report}"
    );
    serving.join().expect("the provider's script");
}

#[test]
fn a_connection_that_is_cut_in_the_turn_is_lost() {
    let (port, serving) = provider(
        1,
        &[
            "220 p",
            "<EHLO",
            "250 ATRN",
            "<ATRN",
            "250 turn",
            "<220",
            "EHLO p",
            "<250",
            "MAIL FROM:<>",
        ],
    );
    let report = fetch(port, "");
    assert_eq!(
        (report.sessions_lost, report.mail.messages),
        (1, 0),
        "{report}"
    );
    serving.join().expect("the provider's script");
}
