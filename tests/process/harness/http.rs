//! A client that says over HTTP what it is told, and no more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::waiting::PATIENCE;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As they came, with their line ends.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request on a connection of its own; `None` if nobody answers. `fields` are
/// whole header lines.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[&str],
    body: &str,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !fields.iter().any(|field| field.starts_with("Host:")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for field in fields {
        text.push_str(&format!("{field}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).ok()?;
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut of_name = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.next().map(|(_, value)| value.trim().to_owned())
    };
    let mut body = Vec::new();
    // Not all servers close when they are asked to; and one that refuses a long body may
    // reset the connection behind its answer.
    let length = field("content-length").and_then(|length| length.parse().ok());
    let _ = reader
        .take(length.unwrap_or(ANSWER_BYTES_MAX))
        .read_to_end(&mut body);
    let body = String::from_utf8_lossy(&body).into_owned();
    let chunked = field("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: if chunked { unchunked(&body) } else { body },
        head,
    })
}

/// RFC 9112 §7.1, as far as servers here use it.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}
