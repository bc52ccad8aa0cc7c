//! A customer's host that calls for its mail by ATRN (RFC 2645), and on the turned
//! connection is a host that means harm: each kind of [`Harm`] by turns.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::harness::eventually;
use crate::harness::message::Random;
use crate::hops::Hops;
use crate::host::{Harm, Session, Way, end};
use crate::hostile::Field;

/// The customer, and its user.
pub(crate) const NAME: &str = "caller";
pub(crate) const DOMAIN: &str = "called.hop.example";
/// Its own part of loopback: those who attack the port are not to keep it out.
const ADDRESS: [u8; 4] = [127, 203, 0, 1];
/// How long it waits where others wait for ever: one that calls again and again has four
/// turns at a time.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long it waits for a word of the relay, which may be busy with all others.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(50);

/// Whom it calls, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) hops: &'a Hops,
    pub(crate) field: Field<'a>,
    /// Where mail is brought.
    pub(crate) relay: SocketAddr,
    pub(crate) odmr: SocketAddr,
    pub(crate) secret: &'a str,
}

impl Site<'_> {
    /// Calls until it is over. There is mail each time: one message more behind each turn.
    pub(crate) fn call(self, harms: &[Harm], seed: u64) {
        let mut random = Random(seed);
        let mut has_turned = true;
        for &harm in harms.iter().cycle() {
            if has_turned {
                self.hops.bring(self.relay, self.field);
            }
            if !self.field.go_on() {
                break;
            }
            // Who is not let in, or has no turn, calls again.
            has_turned = self.visit(harm, Random(random.next())).is_ok();
            std::thread::sleep(PAUSE.max(self.field.pause));
        }
    }

    /// Calls without harm, until all that was held is fetched: it waits for that, wherever
    /// an earlier turn has ended.
    pub(crate) fn fetch(self) {
        eventually("the customer has all of its mail", || {
            // Behind a turn nobody asks for TLS, so that this one has nothing to do.
            let _ = self.visit(Harm::TlsNoise, Random(0));
            self.hops.is_fetched().then_some(())
        });
    }

    fn visit(self, harm: Harm, random: Random) -> io::Result<()> {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.bind(&SocketAddr::from((ADDRESS, 0)).into())?;
        socket.connect(&self.odmr.into())?;
        let stream = TcpStream::from(socket);
        self.field.begin(&stream);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut session = Session {
            said: self.hops.said(),
            field: self.field,
            way: Way::Turned,
            harm,
            patience: Some(PATIENCE),
            stream,
            random,
            input: Vec::new(),
            has_harmed: false,
        };
        session.turn(self.secret)?;
        session.run();
        Ok(())
    }
}

impl Session<'_> {
    /// Up to the turn.
    fn turn(&mut self, secret: &str) -> io::Result<()> {
        self.expect("220")?;
        self.say(b"EHLO site.example\r\n")?;
        self.expect("250")?;
        self.say(b"AUTH CRAM-MD5\r\n")?;
        let line = self.expect("334")?;
        let challenge = BASE64.decode(line[4..].trim()).expect("base64");
        let mut mac = Hmac::<md5::Md5>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(&challenge);
        let digest = mac.finalize().into_bytes();
        let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
        let response = BASE64.encode(format!("{NAME} {digest}"));
        self.say(format!("{response}\r\n").as_bytes())?;
        self.expect("235")?;
        self.say(b"ATRN\r\n")?;
        self.expect("250").map(drop)
    }

    /// The last line of a reply that begins like this, or no more of it.
    fn expect(&mut self, code: &str) -> io::Result<String> {
        loop {
            let line = self.line()?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return if line.starts_with(code) {
                    Ok(line)
                } else {
                    end()
                };
            }
        }
    }
}

/// The kinds in an order of their own.
pub(crate) fn order(seed: u64) -> [Harm; Harm::SMTP.len()] {
    let mut random = Random(seed);
    let mut harms = Harm::SMTP;
    for last in (1..harms.len()).rev() {
        harms.swap(last, random.below(last as u64 + 1) as usize);
    }
    harms
}
