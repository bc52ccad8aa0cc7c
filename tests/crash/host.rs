//! A host that means harm, and what it says on one of its connections. [`crate::hops`] has
//! one of each kind; some of them speak LMTP (RFC 2033), and answer for each recipient.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::harness::message::Random;
use crate::hostile::Field;

/// What a host does that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Harm {
    /// It never greets.
    Mute,
    /// It takes mail as it should, and says all of it octet by octet.
    Drip,
    /// Its greeting has no last line.
    Greeting,
    /// A line of it has no end.
    Line,
    /// What it says is noise.
    Noise,
    /// Its reply to EHLO has no last line.
    Hello,
    /// It offers thousands of extensions.
    Extensions,
    /// It resets the connection, here or there.
    Reset,
    /// It ends the connection in the middle of a reply.
    Half,
    /// It has no time, here or there.
    Busy,
    /// It reads some of the text, and no more of it.
    Deaf,
    /// It takes the text as good before it has read it, and does read it then.
    Early,
    /// It says more than it was asked.
    Talkative,
    /// It takes all of the text, and says nothing to that.
    Silent,
    /// Of the recipients it takes one, wants one later, and refuses one.
    Picky,
    /// It says 220 to STARTTLS, and then noise.
    TlsNoise,
    /// It says replies in clear behind that 220.
    TlsInjection,
    /// It begins a handshake, and goes on for ever.
    TlsSlow,
    /// By LMTP it answers for some of the recipients, and says nothing of the others.
    Fewer,
    /// It answers for more recipients than there are.
    More,
    /// It takes some, wants some later, refuses some, and resets the connection there.
    Mixed,
    /// It ends the connection in the middle of the answer for one of several.
    Part,
    /// It is asked for LMTP and knows EHLO only.
    NoLmtp,
}

impl Harm {
    /// Those that can come by LMTP only.
    pub(crate) const LMTP: [Self; 5] = [
        Self::Fewer,
        Self::More,
        Self::Mixed,
        Self::Part,
        Self::NoLmtp,
    ];

    /// The others.
    pub(crate) const SMTP: [Self; 18] = [
        Self::Mute,
        Self::Drip,
        Self::Greeting,
        Self::Line,
        Self::Noise,
        Self::Hello,
        Self::Extensions,
        Self::Reset,
        Self::Half,
        Self::Busy,
        Self::Deaf,
        Self::Early,
        Self::Talkative,
        Self::Silent,
        Self::Picky,
        Self::TlsNoise,
        Self::TlsInjection,
        Self::TlsSlow,
    ];

    pub(crate) fn domain(self) -> String {
        format!("{self:?}.hop.example").to_ascii_lowercase()
    }

    /// The letters of the recipients of one of its messages.
    pub(crate) const fn recipients(self) -> &'static [&'static str] {
        match self {
            Self::Picky => &["yes", "later", "no"],
            _ if self.is_of_lmtp() => &["yes", "yes-too", "yes-as-well"],
            _ => &["yes"],
        }
    }

    pub(crate) const fn is_of_lmtp(self) -> bool {
        matches!(
            self,
            Self::Fewer | Self::More | Self::Mixed | Self::Part | Self::NoLmtp
        )
    }

    const fn has_tls(self) -> bool {
        matches!(self, Self::TlsNoise | Self::TlsInjection | Self::TlsSlow)
    }
}

/// Where in a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Point {
    Greeting,
    Hello,
    StartTls,
    Mail,
    Rcpt,
    Data,
    /// In the middle of the text.
    Text,
    End,
}

/// Points at which those act who act here or there.
const POINTS: [Point; 7] = [
    Point::Greeting,
    Point::Hello,
    Point::Mail,
    Point::Rcpt,
    Point::Data,
    Point::Text,
    Point::End,
];

/// What a host knows of a recipient.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Known {
    /// It has read all of the text and said 250.
    pub(crate) taken: u32,
    /// It has read all of the text, and its reply was not heard, or there was none.
    pub(crate) unclear: u32,
    /// It has said 5yz.
    pub(crate) refused: u32,
}

/// How a host gets a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    Smtp,
    Lmtp,
    /// By a call of its own, which is turned.
    Turned,
}

/// What came to hosts of one kind, in one way.
#[derive(Clone, Copy, Default, Debug)]
struct Visits {
    sessions: u32,
    /// In which they came to do harm.
    harmed: u32,
}

/// What all hosts have said of recipients, and how often they were come to.
#[derive(Default, Debug)]
pub(crate) struct Said {
    known: Mutex<BTreeMap<String, Known>>,
    visits: Mutex<BTreeMap<(Way, Harm), Visits>>,
}

impl Said {
    fn note(&self, recipients: impl IntoIterator<Item = String>, change: impl Fn(&mut Known)) {
        let mut known = self.known.lock().expect("no holder panics");
        for recipient in recipients {
            change(known.entry(recipient).or_default());
        }
    }

    pub(crate) fn of(&self, recipient: &str) -> Known {
        let known = self.known.lock().expect("no holder panics");
        known.get(recipient).copied().unwrap_or_default()
    }

    fn visit(&self, way: Way, harm: Harm, change: impl Fn(&mut Visits)) {
        let mut visits = self.visits.lock().expect("no holder panics");
        change(visits.entry((way, harm)).or_default());
    }

    /// The sessions that came in this way, and those in which harm was done, by kind.
    pub(crate) fn harms(&self, way: Way) -> (u32, BTreeMap<Harm, u32>) {
        let visits = self.visits.lock().expect("no holder panics");
        let mut sessions = 0;
        let mut harmed = BTreeMap::new();
        for (&(_, harm), visits) in visits.iter().filter(|((other, _), _)| *other == way) {
            sessions += visits.sessions;
            if visits.harmed > 0 {
                harmed.insert(harm, visits.harmed);
            }
        }
        (sessions, harmed)
    }
}

/// How long a relay without a processor may take to send what it was asked for.
const EARLY_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks of those who wait.
const HOLD_PAUSE: Duration = Duration::from_millis(20);

/// One connection.
pub(crate) struct Session<'a> {
    pub(crate) said: &'a Said,
    pub(crate) field: Field<'a>,
    pub(crate) way: Way,
    pub(crate) harm: Harm,
    /// How long those wait who wait for ever, if not so long.
    pub(crate) patience: Option<Duration>,
    pub(crate) stream: TcpStream,
    pub(crate) random: Random,
    pub(crate) input: Vec<u8>,
    /// It has come to that.
    pub(crate) has_harmed: bool,
}

/// The end of a session, by us or by them.
pub(crate) fn end<T>() -> io::Result<T> {
    Err(ErrorKind::ConnectionAborted.into())
}

impl Session<'_> {
    pub(crate) fn run(&mut self) {
        self.said
            .visit(self.way, self.harm, |visits| visits.sessions += 1);
        // One in eight points each time, or none: so that all are come to.
        let at = POINTS[self.random.below(POINTS.len() as u64) as usize];
        if self.talk(at).is_err() && self.random.below(2) == 0 {
            let _ = self.reset();
        }
    }

    fn reset(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    pub(crate) fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.harm != Harm::Drip {
            return self.stream.write_all(octets);
        }
        for octet in octets {
            self.stream.write_all(&[*octet])?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Says this for as long as it is heard, and then nothing.
    fn pour(&mut self, octets: &[u8]) -> io::Result<()> {
        let field = self.field;
        field.pour(&mut self.stream, octets)?;
        self.hold()
    }

    /// Does nothing, and reads nothing, until the relay has had enough of it.
    fn hold(&self) -> io::Result<()> {
        let begun = Instant::now();
        while self.field.go_on()
            && self.patience.is_none_or(|most| begun.elapsed() < most)
            && !self.has_ended()
        {
            std::thread::sleep(HOLD_PAUSE);
        }
        end()
    }

    /// Whether the relay has ended the connection, also if what it said is not read yet: a
    /// host that kept those would gather them, in a soak by thousands.
    fn has_ended(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut looked = [PollFd::new(&self.stream, gone)];
        match poll(&mut looked, Some(&Timespec::default())) {
            Ok(_) => looked[0].revents().intersects(gone),
            Err(_) => false,
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        (0..3000).map(|_| self.random.next() as u8).collect()
    }

    pub(crate) fn line(&mut self) -> io::Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.input.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            let mut part = [0; 4096];
            match self.stream.read(&mut part) {
                Ok(0) => return end(),
                Ok(count) => self.input.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.goes_on(begun) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Who has said yes early goes on for a while when it is over: what is on its way counts
    /// as delivered.
    fn goes_on(&self, begun: Instant) -> bool {
        self.field.go_on() || self.harm == Harm::Early && begun.elapsed() < EARLY_PATIENCE
    }

    /// Does the harm that is to be done at this point, if it is.
    fn harm(&mut self, point: Point, here: Point) -> io::Result<()> {
        let done = self.act(point, here);
        // What fails was begun.
        if !matches!(done, Ok(false)) && !std::mem::replace(&mut self.has_harmed, true) {
            self.said
                .visit(self.way, self.harm, |visits| visits.harmed += 1);
        }
        done.map(drop)
    }

    /// Whether there was harm to be done.
    fn act(&mut self, point: Point, here: Point) -> io::Result<bool> {
        let done = match (self.harm, point) {
            (Harm::Mute, Point::Greeting) | (Harm::Silent, Point::End) => self.hold(),
            (Harm::Deaf, Point::Text) => self.hold(),
            (Harm::Greeting, Point::Greeting) => self.pour(&b"220-and more\r\n".repeat(500)),
            (Harm::Hello, Point::Hello) => self.pour(&b"250-and more\r\n".repeat(500)),
            (Harm::Line, Point::Greeting) => self.pour(&[b'2'; 8192]),
            (Harm::Noise, Point::Greeting) => {
                let noise = self.noise();
                self.say(&noise)?;
                self.hold()
            }
            (Harm::Extensions, Point::Hello) => {
                let mut reply = String::from("250-hop.example\r\n");
                for number in 0..10_000 {
                    reply.push_str(&format!("250-X-EXTENSION-{number} with words\r\n"));
                }
                self.say(reply.as_bytes())?;
                self.say(b"250 HELP\r\n")
            }
            (Harm::Early, Point::Data) => {
                self.say(b"354 go on\r\n")?;
                self.say(b"250 taken\r\n")
            }
            (Harm::Talkative, Point::Mail) => self.say(&b"250 ok\r\n".repeat(500)),
            (Harm::TlsNoise, Point::StartTls) => {
                self.say(b"220 go\r\n")?;
                let noise = self.noise();
                self.say(&noise)?;
                self.hold()
            }
            (Harm::TlsInjection, Point::StartTls) => {
                self.say(b"220 go\r\n250 hop.example\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")?;
                self.hold()
            }
            (Harm::TlsSlow, Point::StartTls) => {
                self.say(b"220 go\r\n")?;
                // The beginning of a record with a ServerHello.
                for octet in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" {
                    self.say(&[*octet])?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                self.hold()
            }
            (Harm::Reset, _) if point == here => {
                self.reset()?;
                end()
            }
            (Harm::Half, _) if point == here => {
                self.say(b"25")?;
                end()
            }
            (Harm::Busy, _) if point == here => {
                self.say(b"421 4.3.2 not now\r\n")?;
                end()
            }
            // They do it all along, each where it is asked.
            (Harm::Drip, Point::Greeting) | (Harm::Picky, Point::Rcpt) => Ok(()),
            (Harm::NoLmtp, Point::Hello) => self.say(b"500 5.5.1 no such command\r\n"),
            // They do it in their answers.
            (Harm::Fewer | Harm::More | Harm::Mixed | Harm::Part, Point::End) => Ok(()),
            _ => return Ok(false),
        };
        done.map(|()| true)
    }

    /// A session as it should be, but for the harm.
    fn talk(&mut self, here: Point) -> io::Result<()> {
        let mut recipients: Vec<String> = Vec::new();
        self.harm(Point::Greeting, here)?;
        self.say(b"220 hop.example ESMTP\r\n")?;
        loop {
            let line = self.line()?;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "LHLO" if (verb == "LHLO") != (self.way == Way::Lmtp) => {
                    self.say(b"500 5.5.1 no such command\r\n")?;
                }
                "LHLO" if self.harm == Harm::NoLmtp => self.harm(Point::Hello, here)?,
                "EHLO" | "LHLO" => {
                    self.harm(Point::Hello, here)?;
                    let tls = if self.harm.has_tls() {
                        "250-STARTTLS\r\n"
                    } else {
                        ""
                    };
                    let pipelining = ["", "250-PIPELINING\r\n"][self.random.below(2) as usize];
                    self.say(
                        format!("250-hop.example\r\n{tls}{pipelining}250 HELP\r\n").as_bytes(),
                    )?;
                }
                "STAR" => self.harm(Point::StartTls, here)?,
                "MAIL" => {
                    self.harm(Point::Mail, here)?;
                    recipients.clear();
                    self.say(b"250 ok\r\n")?;
                }
                "RCPT" => {
                    self.harm(Point::Rcpt, here)?;
                    let name = line["RCPT TO:".len()..].split_whitespace().next();
                    let name = name.unwrap_or_default().to_owned();
                    if name.starts_with("<later") {
                        self.say(b"450 4.2.1 later\r\n")?;
                    } else if name.starts_with("<no") {
                        self.said.note([name], |known| known.refused += 1);
                        self.say(b"550 5.1.1 nobody\r\n")?;
                    } else {
                        recipients.push(name);
                        self.say(b"250 ok\r\n")?;
                    }
                }
                "DATA" if recipients.is_empty() => self.say(b"554 nobody wants it\r\n")?,
                "DATA" => {
                    self.harm(Point::Data, here)?;
                    if self.harm != Harm::Early {
                        self.say(b"354 go on\r\n")?;
                    }
                    self.text(here, std::mem::take(&mut recipients))?;
                }
                "QUIT" => {
                    self.say(b"221 bye\r\n")?;
                    return Ok(());
                }
                _ => self.say(b"250 ok\r\n")?,
            }
        }
    }

    /// The text, and what is said to it.
    fn text(&mut self, here: Point, recipients: Vec<String>) -> io::Result<()> {
        self.line()?;
        self.harm(Point::Text, here)?;
        while self.line()? != ".\r\n" {}
        // Whatever is said now, it may not be heard.
        self.said
            .note(recipients.clone(), |known| known.unclear += 1);
        self.harm(Point::End, here)?;
        if self.way == Way::Lmtp {
            return self.answer(recipients);
        }
        // Those who are early have said it.
        if self.harm != Harm::Early {
            self.say(b"250 taken\r\n")?;
        }
        self.said.note(recipients, |known| {
            known.unclear -= 1;
            known.taken += 1;
        });
        Ok(())
    }

    /// An answer for each recipient, or what the harm makes of that.
    fn answer(&mut self, recipients: Vec<String>) -> io::Result<()> {
        let count = recipients.len() as u64;
        let few = self.random.below(count);
        for (number, recipient) in (0..).zip(recipients) {
            match self.harm {
                Harm::Fewer if number == few => return self.hold(),
                Harm::Part if number == few => {
                    let part = 1 + self.random.below(10) as usize;
                    self.say(&b"250 taken\r\n"[..part])?;
                    return end();
                }
                _ => {}
            }
            let one = [recipient];
            match self.random.below(3) {
                0 if self.harm == Harm::Mixed => {
                    self.say(b"450 4.2.1 later\r\n")?;
                    self.said.note(one, |known| known.unclear -= 1);
                }
                1 if self.harm == Harm::Mixed => {
                    self.said.note(one, |known| {
                        known.unclear -= 1;
                        known.refused += 1;
                    });
                    self.say(b"550 5.1.1 nobody\r\n")?;
                }
                _ => {
                    self.say(b"250 taken\r\n")?;
                    self.said.note(one, |known| {
                        known.unclear -= 1;
                        known.taken += 1;
                    });
                }
            }
            if self.harm == Harm::Mixed && number == few {
                self.reset()?;
                return end();
            }
        }
        if self.harm == Harm::More {
            let more = 1 + self.random.below(500) as usize;
            self.say(&b"250 taken\r\n".repeat(more))?;
        }
        Ok(())
    }
}
