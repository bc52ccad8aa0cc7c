//! A program that sends mail: one session, one command at a time.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The servers are on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// RFC 5321 §4.5.3.1.5 with room.
const LINE_BYTES_MAX: u64 = 4096;

/// Sends messages of about so many octets.
///
/// # Errors
/// Of the connection, or what the server said.
pub(super) fn send(
    server: SocketAddr,
    from: &str,
    to: &str,
    count: usize,
    octets: usize,
) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    expect(&mut stream, 220)?;
    say(&mut stream, "EHLO demo.example\r\n", 250)?;
    for number in 1..=count {
        say(&mut stream, &format!("MAIL FROM:<{from}>\r\n"), 250)?;
        say(&mut stream, &format!("RCPT TO:<{to}>\r\n"), 250)?;
        say(&mut stream, "DATA\r\n", 354)?;
        say(&mut stream, &message(from, to, number, octets), 250)?;
    }
    say(&mut stream, "QUIT\r\n", 221)
}

/// With its end. No line begins with a dot.
fn message(from: &str, to: &str, number: usize, octets: usize) -> String {
    const LINE: &str = "Nothing is lost, and the line is short of time.\r\n";
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: Message {number}\r\n\
         Message-ID: <{number}.{octets}@demo.example>\r\n\r\n"
    );
    while text.len() + LINE.len() <= octets {
        text.push_str(LINE);
    }
    text.push_str(".\r\n");
    text
}

fn say(stream: &mut BufReader<TcpStream>, octets: &str, expected: u16) -> io::Result<()> {
    stream.get_mut().write_all(octets.as_bytes())?;
    expect(stream, expected)
}

fn expect(stream: &mut BufReader<TcpStream>, expected: u16) -> io::Result<()> {
    loop {
        let mut line = String::new();
        io::Read::take(&mut *stream, LINE_BYTES_MAX).read_line(&mut line)?;
        let line = line.trim_end();
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        if line.get(..3).and_then(|code| code.parse().ok()) == Some(expected) {
            return Ok(());
        }
        return Err(io::Error::other(format!(
            "it was to answer {expected}, and answered {line:?}"
        )));
    }
}
