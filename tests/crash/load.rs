//! Clients that send until they are told to stop or the relay is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::harness::Client;
use crate::harness::client::Reply;
use crate::harness::message::{Random, stuffed};
use crate::ledger::{Ledger, Number};

/// Sending of all client threads of one round.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) relay: SocketAddr,
    /// Octets written so far, of all clients: the clock by which a round is ended.
    pub(crate) written: AtomicU64,
    pub(crate) enough: AtomicBool,
    /// Replies of class 4 to a message, in place of an acknowledgement.
    pub(crate) deferred: AtomicU64,
    /// Replies of class 4 to anything.
    pub(crate) refused: AtomicU64,
}

/// See [`Load::ends`].
pub(crate) struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Of each message: one who has it is not both.
const RECIPIENTS: &[&str] = &["<b@b.example>", "<c@b.example>"];

/// How a write is divided: a kill finds all stages of a message.
const PIECE_BYTES: usize = 8 << 10;

impl<'a> Load<'a> {
    pub(crate) fn new(ledger: &'a Ledger, relay: SocketAddr) -> Self {
        Self {
            ledger,
            relay,
            written: AtomicU64::new(0),
            enough: AtomicBool::new(false),
            deferred: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Ends the load when it goes: also when the test fails, which would otherwise wait
    /// for its clients for ever.
    pub(crate) const fn ends(&self) -> EndOfLoad<'_> {
        EndOfLoad(&self.enough)
    }

    /// One client: sessions one after the other, messages in each, by DATA and by
    /// BDAT, some of them left in the middle.
    pub(crate) fn run(&self, seed: u64) {
        let mut random = Random(seed);
        while !self.enough.load(Ordering::Acquire) {
            // The relay is being killed: its end is no failure of this test.
            if self.session(&mut random).is_err() && !self.enough.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
    }

    fn session(&self, random: &mut Random) -> io::Result<()> {
        let mut client = Client::try_connect(None, self.relay)?;
        self.expect(&client.greeting, 220)?;
        self.expect(&client.try_command("EHLO client.example")?, 250)?;
        for _ in 0..=random.below(20) {
            if self.enough.load(Ordering::Acquire) {
                return Ok(());
            }
            match random.below(10) {
                0 => return self.abandoned(&mut client, random),
                1..5 => self.chunks(&mut client, random)?,
                _ => self.data(&mut client)?,
            }
        }
        self.expect(&client.try_command("QUIT")?, 221)
    }

    fn envelope(&self, client: &mut Client, extra: &str) -> io::Result<()> {
        let mut group = "MAIL FROM:<>\r\n".to_owned();
        for recipient in RECIPIENTS {
            group.push_str(&format!("RCPT TO:{recipient}\r\n"));
        }
        group.push_str(extra);
        self.write(client, group.as_bytes())?;
        for _ in 0..=RECIPIENTS.len() {
            self.expect(&client.try_reply()?, 250)?;
        }
        Ok(())
    }

    fn write(&self, client: &mut Client, octets: &[u8]) -> io::Result<()> {
        for piece in octets.chunks(PIECE_BYTES) {
            client.try_write(piece)?;
            self.written
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn data(&self, client: &mut Client) -> io::Result<()> {
        let number = self.ledger.begin();
        self.envelope(client, "DATA\r\n")?;
        let reply = client.try_reply()?;
        if reply.code / 100 == 4 {
            self.deferred.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return self.expect(&client.try_command("RSET")?, 250);
        }
        self.expect(&reply, 354)?;
        let text = stuffed(&self.ledger.text(number));
        self.write(client, &text)?;
        self.ledger.seal(number);
        let whole_at = Instant::now();
        self.write(client, b".\r\n")?;
        let reply = client.try_reply()?;
        self.finish(number, &reply, whole_at)
    }

    fn chunks(&self, client: &mut Client, random: &mut Random) -> io::Result<()> {
        let number = self.ledger.begin();
        self.envelope(client, "")?;
        let text = self.ledger.text(number);
        let cut = random.below(text.len() as u64 + 1) as usize;
        let (first, last) = text.split_at(cut);
        self.write(client, format!("BDAT {}\r\n", first.len()).as_bytes())?;
        self.write(client, first)?;
        let reply = client.try_reply()?;
        if reply.code / 100 == 4 {
            self.deferred.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return self.expect(&client.try_command("RSET")?, 250);
        }
        self.expect(&reply, 250)?;
        self.ledger.seal(number);
        self.write(client, format!("BDAT {} LAST\r\n", last.len()).as_bytes())?;
        self.write(client, last)?;
        let whole_at = Instant::now();
        let reply = client.try_reply()?;
        self.finish(number, &reply, whole_at)
    }

    /// An error in place of another reply, which ends the session. A refusal for now may
    /// come at any time.
    fn expect(&self, reply: &Reply, code: u16) -> io::Result<()> {
        if reply.code == code {
            return Ok(());
        }
        assert!(reply.code < 500, "expected {code}: {reply:?}");
        if reply.code >= 400 {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Err(io::Error::other(format!("expected {code}: {reply:?}")))
    }

    fn finish(&self, number: Number, reply: &Reply, whole_at: Instant) -> io::Result<()> {
        match reply.code {
            250 => {
                self.ledger.waited(whole_at.elapsed());
                self.ledger.acknowledge(number, RECIPIENTS);
                Ok(())
            }
            // Refused for now; the relay says that it does not have it, but a
            // commit whose sync failed may be found again, which is no fault.
            400..500 => {
                self.deferred.fetch_add(1, Ordering::Relaxed);
                self.refused.fetch_add(1, Ordering::Relaxed);
                if reply.code == 421 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok(())
            }
            _ => panic!("a good message was answered {reply:?}"),
        }
    }

    /// A message whose end is never written.
    fn abandoned(&self, client: &mut Client, random: &mut Random) -> io::Result<()> {
        let number = self.ledger.begin();
        let text = self.ledger.text(number);
        if random.below(2) == 0 {
            self.envelope(client, "DATA\r\n")?;
            client.try_reply()?;
            // Cut before the end of the last line, so that no end of data is in it.
            let text = stuffed(&text);
            let part = random.below(text.len() as u64 - 1) as usize;
            self.write(client, &text[..part])
        } else {
            self.envelope(client, "")?;
            // At least one octet less than was said, and never the rest.
            let head = format!("BDAT {} LAST\r\n", text.len());
            let part = random.below(text.len() as u64) as usize;
            self.write(client, head.as_bytes())?;
            self.write(client, &text[..part])
        }
    }
}
