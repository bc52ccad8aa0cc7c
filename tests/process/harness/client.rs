//! An SMTP client that writes exactly what it is told.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use super::message::stuffed;
use super::waiting::PATIENCE;

/// A reply of the relay, with its lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// Without code, separator and CRLF.
    pub(crate) lines: Vec<String>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// True if an EHLO reply has this keyword.
    pub(crate) fn offers(&self, keyword: &str) -> bool {
        let first_word = |line: &String| line.split(' ').next() == Some(keyword);
        self.lines.iter().any(first_word)
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    pub(crate) greeting: Reply,
}

impl Client {
    /// Connects and reads the greeting, whatever it is.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(None, address).expect("a session begins")
    }

    /// The same from an address of ours.
    #[track_caller]
    pub(crate) fn connect_from(ours: IpAddr, address: SocketAddr) -> Self {
        Self::try_connect(Some(ours), address).expect("a session begins")
    }

    pub(crate) fn try_connect(ours: Option<IpAddr>, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if let Some(ours) = ours {
            socket.bind(&SocketAddr::from((ours, 0)).into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream: BufReader::new(stream),
            greeting: Reply {
                code: 0,
                lines: Vec::new(),
            },
        };
        client.greeting = client.try_reply()?;
        Ok(client)
    }

    /// EHLO, which must be answered with 250.
    #[track_caller]
    pub(crate) fn hello(&mut self) -> Reply {
        assert_eq!(self.greeting.code, 220, "{:?}", self.greeting);
        self.expect("EHLO client.example", 250)
    }

    /// Writes octets as they are.
    #[track_caller]
    pub(crate) fn write(&mut self, octets: &[u8]) {
        self.try_write(octets).expect("the relay reads");
    }

    pub(crate) fn try_write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().expect("the relay replies")
    }

    /// The next reply; `UnexpectedEof` when the relay has closed.
    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let wrong = || io::Error::other(format!("no reply line: {}", line.escape_ascii()));
            let text = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
            let text = std::str::from_utf8(text).map_err(|_| wrong())?;
            let code = text.get(..3).and_then(|code| code.parse().ok());
            let code: u16 = code.ok_or_else(wrong)?;
            let last = match text.as_bytes().get(3) {
                Some(b' ') | None => true,
                Some(b'-') => false,
                Some(_) => return Err(wrong()),
            };
            lines.push(text.get(4..).unwrap_or_default().to_owned());
            if last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// One command and its reply.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> Reply {
        self.try_command(line).expect("the relay replies")
    }

    pub(crate) fn try_command(&mut self, line: &str) -> io::Result<Reply> {
        self.try_write(format!("{line}\r\n").as_bytes())?;
        self.try_reply()
    }

    /// One command, which must be answered with `code`.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, code: u16) -> Reply {
        let reply = self.command(line);
        assert_eq!(reply.code, code, "{line:?} was answered {reply:?}");
        reply
    }

    /// MAIL and RCPTs in one write; their replies must all be 250.
    #[track_caller]
    pub(crate) fn envelope(&mut self, mail: &str, recipients: &[&str]) {
        let mut group = format!("MAIL FROM:{mail}\r\n");
        for recipient in recipients {
            group.push_str(&format!("RCPT TO:{recipient}\r\n"));
        }
        self.write(group.as_bytes());
        for _ in 0..=recipients.len() {
            let reply = self.reply();
            assert_eq!(reply.code, 250, "of {mail} to {recipients:?}: {reply:?}");
        }
    }

    /// A whole transaction with DATA. `mail` and `recipients` are the arguments
    /// behind the colon, with angle brackets. Gives the queue id.
    #[track_caller]
    pub(crate) fn send(&mut self, mail: &str, recipients: &[&str], octets: &[u8]) -> String {
        self.envelope(mail, recipients);
        let reply = self.data(octets);
        queue_id(&reply)
    }

    /// DATA, the message, the end of data: the reply to the last.
    #[track_caller]
    pub(crate) fn data(&mut self, octets: &[u8]) -> Reply {
        self.expect("DATA", 354);
        let mut text = stuffed(octets);
        text.extend_from_slice(b".\r\n");
        self.write(&text);
        self.reply()
    }

    /// A whole transaction with BDAT in one chunk.
    #[track_caller]
    pub(crate) fn send_chunk(&mut self, mail: &str, recipients: &[&str], octets: &[u8]) -> String {
        self.envelope(mail, recipients);
        self.write(format!("BDAT {} LAST\r\n", octets.len()).as_bytes());
        self.write(octets);
        let reply = self.reply();
        queue_id(&reply)
    }

    /// Asserts that the relay closes without another octet.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "still said: {}", rest.escape_ascii()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

/// The queue id in the reply to the end of data: `250 2.0.0 <queue id>`.
#[track_caller]
pub(crate) fn queue_id(reply: &Reply) -> String {
    assert_eq!(reply.code, 250, "{reply:?}");
    let id = reply
        .text()
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let digit = |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit();
    assert!(
        id.len() == 13 && id.bytes().all(digit),
        "no queue id in {reply:?}"
    );
    id
}
