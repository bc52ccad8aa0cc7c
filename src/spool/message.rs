//! Messages as records, both ways.
//!
//! A message on disk is an envelope record, chunk records with the body in wire form,
//! and a seal, which names their places. [`Contents`] is what goes in beside the body;
//! [`StoredMessage`] is what comes out, from the place of the seal.
//!
//! Relies on: addresses and domains were checked when they were parsed. They are
//! checked again when they are read: what is on the disk may be older than a rule of
//! `mail`, or be written by another version.
//!
//! What it does not do: it knows no SMTP and no file. The body is not read here: its
//! [`Extent`]s say where it lies, and [`body`] gives the slices.

use std::ops::Range;

use smallvec::SmallVec;
use spool_format::{
    BodyForm, Checksum, DecodeError, DomainRun, EnvelopeRecord, Epoch, Extent, Framed, List,
    Location, RecipientField, Record, RecordFault, RecordKind, SealRecord, Seat, SegmentPlace,
    SenderFields, SessionFields, framed_bytes_at, read_frame,
};

use crate::mail::{
    AddressError, BodyKind, DeliverBy, DeliverByMode, Envelope, HoldUntil, Notify, Priority,
    QueueId, Recipient, Ret, Sender,
};
use crate::time::WallTime;

/// Whether a message waits for a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Holding<'a> {
    /// It goes when its next hop takes it.
    #[default]
    Free,
    /// It is held until it is released.
    Held {
        /// The queue that holds it: the name of a customer, or an ETRN `#name`.
        queue_name: Option<&'a str>,
    },
}

impl<'a> Holding<'a> {
    /// The queue that holds it.
    #[must_use]
    pub fn queue_name(self) -> Option<&'a str> {
        match self {
            Self::Free => None,
            Self::Held { queue_name } => queue_name,
        }
    }
}

/// A message, except its body.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Contents<'a> {
    /// Reverse-path, forward-paths and their parameters.
    pub envelope: &'a Envelope,
    /// What later hops and notifications need of the session that brought it.
    pub session: SessionFields<'a>,
    /// When it came.
    pub arrival: WallTime,
    /// Whether it waits for a release.
    pub holding: Holding<'a>,
    /// The next hop set by the operator, as text; else the routes decide.
    pub next_hop: Option<&'a str>,
}

/// How the body is stored, and what is known of its octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyFacts {
    /// What becomes of dots at the beginnings of lines.
    pub form: BodyForm,
    /// The last two octets are CRLF.
    pub ends_with_crlf: bool,
    /// There are octets above 127.
    pub eight_bit: bool,
}

impl<'a> Contents<'a> {
    /// The envelope record. `recipients` is room for their fields.
    pub(super) fn envelope_record<'b>(
        &'b self,
        queue_id: QueueId,
        generation: u32,
        recipients: &'b mut SmallVec<[RecipientField<'a>; 4]>,
    ) -> EnvelopeRecord<'b> {
        recipients.clear();
        recipients.extend(self.envelope.recipients.iter().map(|r| RecipientField {
            forward_path: r.forward_path.as_str(),
            notify: notify_field(r.notify),
            orcpt: r.orcpt.as_deref(),
        }));
        let sender = &self.envelope.sender;
        EnvelopeRecord {
            queue_id: queue_id.as_u64(),
            generation,
            arrival_ms: self.arrival.as_millis(),
            sender: SenderFields {
                reverse_path: sender.reverse_path.as_str(),
                body: match sender.body {
                    BodyKind::SevenBit => spool_format::BodyKind::SevenBit,
                    BodyKind::EightBitMime => spool_format::BodyKind::EightBitMime,
                },
                smtputf8: sender.smtputf8,
                require_tls: sender.require_tls,
                ret: sender.ret.map(|ret| match ret {
                    Ret::Full => spool_format::Ret::Full,
                    Ret::Headers => spool_format::Ret::Headers,
                }),
                envid: sender.envid.as_deref(),
                priority: sender.priority.map(Priority::value),
                deliver_by: sender.deliver_by.map(|by| spool_format::DeliverBy {
                    deadline_ms: by.deadline.as_millis(),
                    mode: by_mode(by.mode),
                    trace: by.trace,
                }),
                hold_until_ms: sender.hold_until.map(|until| until.at().as_millis()),
            },
            session: self.session,
            queue_name: self.holding.queue_name(),
            recipients: List::new(recipients),
            attributes: List::default(),
        }
    }

    /// The domains of the recipients, for the seal.
    pub(super) fn domain_runs(&self, runs: &mut SmallVec<[DomainRun<'a>; 4]>) {
        runs.clear();
        for recipient in &self.envelope.recipients {
            let domain = recipient.forward_path.address().domain_str();
            match runs.last_mut() {
                Some(run) if run.domain == domain => run.recipients += 1,
                _ => runs.push(DomainRun {
                    recipients: 1,
                    domain,
                }),
            }
        }
    }
}

fn notify_field(notify: Notify) -> spool_format::Notify {
    match notify {
        Notify::Unspecified => spool_format::Notify::Unspecified,
        Notify::Never => spool_format::Notify::Never,
        Notify::On {
            success,
            failure,
            delay,
        } => spool_format::Notify::On {
            success,
            failure,
            delay,
        },
    }
}

fn notify_of(field: spool_format::Notify) -> Notify {
    match field {
        spool_format::Notify::Unspecified => Notify::Unspecified,
        spool_format::Notify::Never => Notify::Never,
        spool_format::Notify::On {
            success,
            failure,
            delay,
        } => Notify::On {
            success,
            failure,
            delay,
        },
    }
}

/// The readable octets of a segment, from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// All that is written.
    pub bytes: &'a [u8],
    /// Of its header.
    pub epoch: Epoch,
}

/// Where segments are to be had: the open maps of a data core, or a virtual disk.
pub trait SegmentSource {
    /// The octets of a segment; `None` if it is not there.
    fn view(&self, segment: SegmentPlace) -> Option<View<'_>>;

    /// Makes sure that these octets of a view can be read: what the disk cannot give is
    /// an error here, and not a fault of the processor that ends the program. What
    /// lies behind the end of the view is left out. Memory has nothing to do.
    ///
    /// # Errors
    /// The disk cannot give them.
    fn fetch(&self, segment: SegmentPlace, octets: Range<u32>) -> Result<(), Unreadable> {
        let _ = (segment, octets);
        Ok(())
    }
}

/// The disk could not give octets that are in the spool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the disk cannot read it (os error {0})")]
pub struct Unreadable(pub i32);

/// Why a message cannot be read, although it is live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Its segment is not open.
    #[error("{0} is not there")]
    NoSegment(SegmentPlace),
    /// The disk does not give its octets; it may later.
    #[error("reading {at} failed: {why}")]
    Disk {
        /// Where.
        at: Location,
        /// What the system says.
        why: Unreadable,
    },
    /// Its octets are damaged.
    #[error("the record at {at} cannot be read: {fault}")]
    Damaged {
        /// Where.
        at: Location,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Its octets are whole, and are not what they should be.
    #[error("the record at {at} is a {found}, not a {wanted}")]
    OtherKind {
        /// Where.
        at: Location,
        /// What is there.
        found: u8,
        /// What should be.
        wanted: RecordKind,
    },
    /// Its fields are not as this version writes them.
    #[error("the record at {at} cannot be understood: {error}")]
    Undecodable {
        /// Where.
        at: Location,
        /// What is wrong.
        error: DecodeError,
    },
    /// An address in it is none.
    #[error("the envelope at {at} has an address that {error}")]
    Address {
        /// Where.
        at: Location,
        /// What is wrong.
        error: AddressError,
    },
    /// Its body is not what was sealed.
    #[error("the body of the message sealed at {at} is damaged")]
    Body {
        /// Where its seal is.
        at: Location,
    },
}

impl ReadError {
    /// Whether it may be read another time: its octets were not seen. Those that were seen
    /// are not what was written, and never will be.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoSegment(_) | Self::Disk { .. } => true,
            Self::Damaged { .. }
            | Self::OtherKind { .. }
            | Self::Undecodable { .. }
            | Self::Address { .. }
            | Self::Body { .. } => false,
        }
    }

    /// The segment that is damaged, where it is one.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentPlace> {
        match self {
            Self::Damaged { at, .. }
            | Self::OtherKind { at, .. }
            | Self::Undecodable { at, .. } => Some(at.segment_place()),
            Self::NoSegment(_) | Self::Disk { .. } | Self::Address { .. } | Self::Body { .. } => {
                None
            }
        }
    }
}

/// What of the session is kept; owned. See [`SessionFields`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredSession {
    /// The client's address.
    pub client_address: Option<Box<str>>,
    /// The client's name by DNS.
    pub client_host: Option<Box<str>>,
    /// What HELO or EHLO said.
    pub client_name: Option<Box<str>>,
    /// `ESMTPSA` and so on.
    pub protocol: Option<Box<str>>,
    /// The authenticated user.
    pub user: Option<Box<str>>,
    /// Version and cipher.
    pub tls: Option<Box<str>>,
    /// Results of checks.
    pub checks: Option<Box<str>>,
}

impl StoredSession {
    fn of(fields: &SessionFields<'_>) -> Self {
        Self {
            client_address: fields.client_address.map(Into::into),
            client_host: fields.client_host.map(Into::into),
            client_name: fields.client_name.map(Into::into),
            protocol: fields.protocol.map(Into::into),
            user: fields.user.map(Into::into),
            tls: fields.tls.map(Into::into),
            checks: fields.checks.map(Into::into),
        }
    }

    /// To be stored again.
    #[must_use]
    pub fn fields(&self) -> SessionFields<'_> {
        SessionFields {
            client_address: self.client_address.as_deref(),
            client_host: self.client_host.as_deref(),
            client_name: self.client_name.as_deref(),
            protocol: self.protocol.as_deref(),
            user: self.user.as_deref(),
            tls: self.tls.as_deref(),
            checks: self.checks.as_deref(),
        }
    }
}

/// A message that was read back: everything but the octets of the body.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredMessage {
    /// Which.
    pub queue_id: QueueId,
    /// Of this copy.
    pub generation: u32,
    /// When it came.
    pub arrival: WallTime,
    /// Reverse-path, forward-paths and their parameters.
    pub envelope: Envelope,
    /// What is known of the session that brought it.
    pub session: StoredSession,
    /// Held when it was sealed; marks may be newer.
    pub held: bool,
    /// The queue that held it then.
    pub queue_name: Option<Box<str>>,
    /// The next hop that the operator had set then.
    pub next_hop: Option<Box<str>>,
    /// Recipients that were done when this generation was sealed, ascending.
    pub done: Vec<u32>,
    /// Where the body is, in order; in the log of the seal.
    pub extents: Vec<Extent>,
    /// Of the body.
    pub octets: u64,
    /// Over the body, as stored.
    pub checksum: Checksum,
    /// How the body is stored.
    pub body: BodyFacts,
}

impl StoredMessage {
    /// Reads the message that is sealed at `seal`: two records, whose checksums are
    /// verified.
    ///
    /// # Errors
    /// [`ReadError`]: the disk or the file was damaged.
    pub fn read(source: &impl SegmentSource, seal: Location) -> Result<Self, ReadError> {
        let record: SealRecord<'_> = record_at(source, seal)?;
        let at = record.envelope.in_log(seal.log);
        let envelope: EnvelopeRecord<'_> = record_at(source, at)?;
        Ok(Self {
            queue_id: QueueId::from_u64(record.queue_id),
            generation: record.generation,
            arrival: WallTime::from_millis(record.arrival_ms),
            envelope: envelope_of(&envelope).map_err(|error| ReadError::Address { at, error })?,
            session: StoredSession::of(&envelope.session),
            held: record.held,
            queue_name: record.queue_name.map(Into::into),
            next_hop: record.next_hop.map(Into::into),
            done: record.done.iter().map(|number| number.0).collect(),
            extents: record.extents.iter().collect(),
            octets: record.octets,
            checksum: record.checksum,
            body: BodyFacts {
                form: record.form,
                ends_with_crlf: record.ends_with_crlf,
                eight_bit: record.eight_bit,
            },
        })
    }
}

impl StoredMessage {
    /// Reads the whole body, and compares its checksum with that of the seal: before it
    /// is sent, where it may have lain on the disk for long.
    ///
    /// # Errors
    /// It is damaged.
    pub fn verify(&self, source: &impl SegmentSource, seal: Location) -> Result<(), ReadError> {
        let mut checksum = Checksum::EMPTY;
        for &extent in &self.extents {
            checksum = checksum.append(body(source, seal, extent)?);
        }
        if checksum == self.checksum {
            Ok(())
        } else {
            Err(ReadError::Body { at: seal })
        }
    }
}

/// The octets of one extent of a body in log `seal.log`.
///
/// # Errors
/// They are not there.
pub fn body(
    source: &impl SegmentSource,
    seal: Location,
    extent: Extent,
) -> Result<&[u8], ReadError> {
    let place = SegmentPlace {
        log: seal.log,
        segment: extent.segment,
    };
    octets(source, place.at(extent.offset), extent.length)?.ok_or(ReadError::Body { at: seal })
}

/// So many octets of the spool, to be touched; `None` where the segment is shorter.
///
/// # Errors
/// The segment is not there, or the disk does not give them.
pub fn octets(
    source: &impl SegmentSource,
    at: Location,
    count: u32,
) -> Result<Option<&[u8]>, ReadError> {
    let place = at.segment_place();
    let (begin, end) = (at.offset.0, at.offset.0.saturating_add(count));
    (source.fetch(place, begin..end)).map_err(|why| ReadError::Disk { at, why })?;
    let view = source.view(place).ok_or(ReadError::NoSegment(place))?;
    Ok(view.bytes.get(begin as usize..end as usize))
}

/// What is fetched of a record before its length is known: most are shorter.
const FETCH_BYTES: u32 = 2048;

/// One record, checked.
///
/// # Errors
/// It is not there or not whole.
pub fn frame_at(source: &impl SegmentSource, at: Location) -> Result<Framed<'_>, ReadError> {
    let place = at.segment_place();
    let view = source.view(place).ok_or(ReadError::NoSegment(place))?;
    let fetch = |octets: u32| {
        let end = at.offset.0.saturating_add(octets);
        (source.fetch(place, at.offset.0..end)).map_err(|why| ReadError::Disk { at, why })
    };
    fetch(FETCH_BYTES)?;
    let framed = framed_bytes_at(view.bytes, at.offset);
    if framed > FETCH_BYTES {
        fetch(framed)?;
    }
    let seat = Seat {
        epoch: view.epoch,
        offset: at.offset,
    };
    read_frame(view.bytes, seat).map_err(|fault| ReadError::Damaged { at, fault })
}

/// One record, checked and decoded.
///
/// # Errors
/// It is not there or not whole.
pub fn record_at<'a, R: Record<'a>>(
    source: &'a impl SegmentSource,
    at: Location,
) -> Result<R, ReadError> {
    let framed = frame_at(source, at)?;
    if framed.kind() != Some(R::KIND) {
        return Err(ReadError::OtherKind {
            at,
            found: framed.kind_octet,
            wanted: R::KIND,
        });
    }
    R::decode(framed.payload).map_err(|error| ReadError::Undecodable { at, error })
}

/// What the index needs of DELIVERBY.
pub(super) fn deadline(by: DeliverBy) -> spool_format::Deadline {
    spool_format::Deadline {
        at_ms: by.deadline.as_millis(),
        mode: by_mode(by.mode),
    }
}

fn by_mode(mode: DeliverByMode) -> spool_format::DeliverByMode {
    match mode {
        DeliverByMode::Return => spool_format::DeliverByMode::Return,
        DeliverByMode::Notify => spool_format::DeliverByMode::Notify,
    }
}

fn envelope_of(record: &EnvelopeRecord<'_>) -> Result<Envelope, AddressError> {
    let fields = &record.sender;
    let mut sender = Sender::new(fields.reverse_path.parse()?);
    sender.body = match fields.body {
        spool_format::BodyKind::SevenBit => BodyKind::SevenBit,
        // BINARYMIME is not advertised; what came that way is at least 8 bit.
        spool_format::BodyKind::EightBitMime | spool_format::BodyKind::BinaryMime => {
            BodyKind::EightBitMime
        }
    };
    sender.smtputf8 = fields.smtputf8;
    sender.require_tls = fields.require_tls;
    sender.ret = fields.ret.map(|ret| match ret {
        spool_format::Ret::Full => Ret::Full,
        spool_format::Ret::Headers => Ret::Headers,
    });
    sender.envid = fields.envid.map(Into::into);
    sender.priority = fields.priority.and_then(Priority::new);
    sender.deliver_by = fields.deliver_by.map(|by| DeliverBy {
        deadline: WallTime::from_millis(by.deadline_ms),
        mode: match by.mode {
            spool_format::DeliverByMode::Return => DeliverByMode::Return,
            spool_format::DeliverByMode::Notify => DeliverByMode::Notify,
        },
        trace: by.trace,
    });
    sender.hold_until =
        (fields.hold_until_ms).map(|at| HoldUntil::stored(WallTime::from_millis(at)));
    let mut recipients = Vec::with_capacity(record.recipients.len());
    for field in record.recipients {
        let mut recipient = Recipient::new(field.forward_path.parse()?);
        recipient.notify = notify_of(field.notify);
        recipient.orcpt = field.orcpt.map(Into::into);
        recipients.push(recipient);
    }
    Ok(Envelope { sender, recipients })
}
