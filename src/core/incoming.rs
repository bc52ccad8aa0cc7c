//! A message on its way into the log.
//!
//! Octets gather until they fill a chunk, so that a message of ordinary size is one
//! chunk beside its envelope and seal, and a large one leaves memory as it comes.

use std::net::IpAddr;

use spool_format::{NoteField, SessionFields};

use crate::core::wakeup::Calls;
use crate::mail::{Envelope, QueueId};
use crate::spool::commit::Ticket;
use crate::spool::log::{Log, OpenMessage, Refused, Sealed};
use crate::spool::message::{BodyFacts, Contents, Holding};
use crate::time::{Now, WallTime};

/// Octets of body that gather before they are handed to the log. Large enough that a
/// large body costs few records; small enough that thousands of slow clients do not
/// fill the memory.
pub(super) const GATHERED_BYTES_MAX: usize = 64 << 10;

/// A message that is coming. It is sealed or abandoned, never dropped: the log keeps
/// its segments until then.
#[derive(Debug)]
pub(super) struct Incoming {
    open: OpenMessage,
    envelope: Envelope,
    arrival: WallTime,
    client: Option<Box<str>>,
    gathered: Vec<u8>,
    size: Size,
    calls: Option<Box<Calls>>,
}

/// Whether a message is more than what gathers in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    Small,
    Large,
}

/// A message that was sealed, with what the queue needs of it.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Where it is.
    pub(super) sealed: Sealed,
    /// What MAIL and the RCPTs said.
    pub(super) envelope: Envelope,
    /// When it came.
    pub(super) arrival: WallTime,
    /// Who brought it.
    pub(super) client: Option<Box<str>>,
    /// What of it was for addresses of our own.
    pub(super) calls: Option<Box<Calls>>,
}

impl Incoming {
    /// Reserves room and stores the envelope.
    ///
    /// # Errors
    /// There is no room, or the log is closed.
    pub(super) fn begin(
        now: Now,
        log: &mut Log,
        envelope: Envelope,
        declared: Option<u64>,
        client: Option<IpAddr>,
    ) -> Result<Self, Refused> {
        let client: Option<Box<str>> =
            client.map(|client| client.to_canonical().to_string().into_boxed_str());
        let queue_id = log.next_queue_id();
        let arrival = envelope.sender.arrival.unwrap_or(now.wall);
        let open = log.begin(
            now,
            queue_id,
            &contents(&envelope, arrival, &client),
            declared,
        )?;
        Ok(Self {
            open,
            envelope,
            arrival,
            client,
            gathered: Vec::new(),
            size: Size::Small,
            calls: None,
        })
    }

    /// The same for a message of our own, which may use room that new mail may not: it
    /// takes the place of one that is larger.
    ///
    /// # Errors
    /// There is no room, or the log is closed.
    pub(super) fn begin_notification(
        now: Now,
        log: &mut Log,
        envelope: Envelope,
        octets: u64,
    ) -> Result<Self, Refused> {
        let queue_id = log.next_queue_id();
        let open =
            log.begin_reserved(now, queue_id, &contents(&envelope, now.wall, &None), octets)?;
        Ok(Self {
            open,
            envelope,
            arrival: now.wall,
            client: None,
            gathered: Vec::new(),
            size: Size::Small,
            calls: None,
        })
    }

    /// The same message is also for addresses of our own.
    pub(super) fn listen(&mut self, calls: Option<Box<Calls>>) {
        self.calls = calls;
    }

    /// What MAIL and the RCPTs said.
    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// It has gone to the log in parts, and more may come.
    pub(super) fn is_large(&self) -> bool {
        self.size == Size::Large
    }

    /// Its name.
    pub(super) fn queue_id(&self) -> QueueId {
        self.open.queue_id()
    }

    /// Takes octets of the body, in wire form.
    ///
    /// # Errors
    /// There is no room for so much, or the log is closed. Abandon it then.
    pub(super) fn append(&mut self, now: Now, log: &mut Log, octets: &[u8]) -> Result<(), Refused> {
        if let Some(calls) = &mut self.calls {
            calls.read(octets);
        }
        if self.gathered.len() + octets.len() < GATHERED_BYTES_MAX {
            self.gathered.extend_from_slice(octets);
            return Ok(());
        }
        self.size = Size::Large;
        log.body(now, &mut self.open, &[&self.gathered, octets])?;
        self.gathered.clear();
        Ok(())
    }

    /// Makes it whole and takes a ticket for its commit. `notes` become true together
    /// with it.
    ///
    /// # Errors
    /// There is no room for so much, or the log is closed. It is abandoned then.
    pub(super) fn seal(
        mut self,
        now: Now,
        log: &mut Log,
        body: BodyFacts,
        notes: &[NoteField<'_>],
        ticket: Ticket,
    ) -> Result<Arrived, Refused> {
        if let Err(refused) = log.body(now, &mut self.open, &[&self.gathered]) {
            log.abort(self.open);
            return Err(refused);
        }
        let contents = contents(&self.envelope, self.arrival, &self.client);
        let sealed = log.seal(now, self.open, &contents, body, notes, ticket)?;
        let Self {
            envelope,
            arrival,
            client,
            calls,
            ..
        } = self;
        Ok(Arrived {
            sealed,
            envelope,
            arrival,
            client,
            calls,
        })
    }

    /// Drops it: the client went away, or reset.
    pub(super) fn abandon(self, log: &mut Log) {
        log.abort(self.open);
    }
}

fn contents<'a>(
    envelope: &'a Envelope,
    arrival: WallTime,
    client: &'a Option<Box<str>>,
) -> Contents<'a> {
    Contents {
        envelope,
        session: SessionFields {
            client_address: client.as_deref(),
            ..SessionFields::default()
        },
        arrival,
        holding: Holding::Free,
        next_hop: None,
    }
}
