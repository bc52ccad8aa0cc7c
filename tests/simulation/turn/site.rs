//! A customer's site that calls by ATRN: what it says as a client, and then as a server.

use hmac::{Hmac, KeyInit as _, Mac as _};

use super::{CUSTOMERS, SECRET};
use crate::random::Random;

/// How far a site is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    Greeting,
    Hello,
    Challenge,
    Welcome,
    Answer,
    /// The roles have turned.
    Serving,
    /// Text by DATA.
    Text,
    /// Octets of a chunk.
    Chunk(usize),
    Over,
}

pub(super) struct Site {
    pub(super) customer: usize,
    /// None: all.
    pub(super) asks: Vec<&'static str>,
    pub(super) at: At,
    pub(super) input: Vec<u8>,
    pub(super) rcpt: String,
    pub(super) pipelining: bool,
    pub(super) chunking: bool,
    pub(super) flight: bool,
    /// RFC 3030 §2: a BDAT failed, and nothing but RSET may come.
    pub(super) must_reset: bool,
    /// Says "later" to one message in so many.
    pub(super) refuses_in: u64,
    /// Talks behind ATRN.
    pub(super) hasty: bool,
    /// What it has acknowledged, with where the reply ends among what it said.
    pub(super) acknowledged: Vec<(usize, usize)>,
    pub(super) code: u16,
}

impl Site {
    pub(super) fn new(customer: usize, asks: Vec<&'static str>, random: &mut Random) -> Self {
        Self {
            customer,
            asks,
            at: At::Greeting,
            input: Vec::new(),
            rcpt: String::new(),
            pipelining: random.one_in(2),
            chunking: random.one_in(2),
            flight: random.one_in(2),
            must_reset: false,
            refuses_in: 0,
            hasty: false,
            acknowledged: Vec::new(),
            code: 0,
        }
    }

    /// What it says to a line of the relay.
    pub(super) fn line(&mut self, line: &str) -> String {
        let (code, last) = (&line[..3.min(line.len())], !line[3..].starts_with('-'));
        match self.at {
            At::Serving | At::Text | At::Chunk(_) | At::Over => unreachable!("it serves"),
            _ if !last => String::new(),
            At::Greeting => {
                self.at = At::Hello;
                "EHLO site.example\r\n".to_owned()
            }
            At::Hello => {
                self.at = At::Challenge;
                "AUTH CRAM-MD5\r\n".to_owned()
            }
            At::Challenge => {
                self.at = At::Welcome;
                let challenge = base64_decode(&line[4..]);
                let mut mac = Hmac::<md5::Md5>::new_from_slice(SECRET.as_bytes()).expect("a key");
                mac.update(&challenge);
                let digest: String = (mac.finalize().into_bytes().iter())
                    .map(|octet| format!("{octet:02x}"))
                    .collect();
                let text = format!("{} {digest}", CUSTOMERS[self.customer].0);
                format!("{}\r\n", base64_encode(text.as_bytes()))
            }
            At::Welcome => {
                assert_eq!(code, "235", "{line}");
                self.at = At::Answer;
                let behind = if self.hasty { "\r\n220 hasty" } else { "" };
                format!("ATRN {}{behind}\r\n", self.asks.join(","))
            }
            At::Answer => {
                self.code = code.parse().expect("a code");
                if self.code == 250 {
                    assert!(!self.hasty, "nobody talks behind ATRN");
                    self.at = At::Serving;
                    "220 site.example\r\n".to_owned()
                } else {
                    self.at = At::Over;
                    "QUIT\r\n".to_owned()
                }
            }
        }
    }

    /// What it says to a command, as the server that it is now.
    pub(super) fn command(&mut self, line: &str) -> String {
        let verb = line.get(..4).unwrap_or_default();
        match verb {
            "EHLO" => {
                let mut reply = "250-site.example\r\n".to_owned();
                if self.pipelining {
                    reply += "250-PIPELINING\r\n";
                }
                if self.chunking {
                    reply += "250-CHUNKING\r\n";
                }
                if self.flight {
                    reply += "250-X-FLIGHT 20000\r\n";
                }
                reply + "250 8BITMIME\r\n"
            }
            "RSET" => {
                self.must_reset = false;
                "250 ok\r\n".to_owned()
            }
            "MAIL" => {
                assert!(!self.must_reset, "MAIL behind a BDAT that failed");
                "250 ok\r\n".to_owned()
            }
            "RCPT" => {
                self.rcpt = line.to_owned();
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                self.at = At::Text;
                "354 go on\r\n".to_owned()
            }
            "BDAT" => {
                let count = line.split(' ').nth(1).expect("a count");
                self.at = At::Chunk(count.parse().expect("a number"));
                String::new()
            }
            "QUIT" => {
                self.at = At::Over;
                "221 bye\r\n".to_owned()
            }
            _ => "250 ok\r\n".to_owned(),
        }
    }
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text).expect("base64")
}

fn base64_encode(octets: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(octets)
}
