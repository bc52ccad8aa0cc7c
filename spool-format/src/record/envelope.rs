//! The envelope record: what MAIL and RCPT said, and what of the session is
//! needed after it: for the trace header field, for XCLIENT to a site, for a
//! notification.

use super::Record;
use crate::field::{DecodeError, Element, List, Reader, Sink, SinkExt, flag, octet_enum};
use crate::frame::RecordKind;

octet_enum! {
    /// What the body may contain (RFC 6152).
    pub enum BodyKind ("body kind") {
        /// ASCII.
        SevenBit = 0, "7BIT";
        /// Any octets in lines.
        EightBitMime = 1, "8BITMIME";
        /// Any octets (RFC 3030). Not advertised; a place in the format for it.
        BinaryMime = 2, "BINARYMIME";
    }
}

octet_enum! {
    /// How much of the message a notification returns (RFC 3461 §4.3).
    pub enum Ret ("RET") {
        /// All of it.
        Full = 1, "FULL";
        /// The header section.
        Headers = 2, "HDRS";
    }
}

octet_enum! {
    /// What happens when the time is over (RFC 2852 §4).
    pub enum DeliverByMode ("deliver-by mode") {
        /// Return it.
        Return = 1, "R";
        /// Tell the sender and go on.
        Notify = 2, "N";
    }
}

/// RFC 2852, with a point of time in place of the seconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliverBy {
    /// Milliseconds since 1970.
    pub deadline_ms: i64,
    /// What happens then.
    pub mode: DeliverByMode,
    /// `T`: relaying it is to be reported.
    pub trace: bool,
}

/// When the sender wants to be told (RFC 3461 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notify {
    /// No parameter was given.
    Unspecified,
    /// `NEVER`.
    Never,
    /// Any of the three, but not none.
    On {
        /// When it was delivered.
        success: bool,
        /// When it failed.
        failure: bool,
        /// When it is late.
        delay: bool,
    },
}

impl Notify {
    const SUCCESS: u8 = 1;
    const FAILURE: u8 = 2;
    const DELAY: u8 = 4;
    const NEVER: u8 = 8;

    fn octet(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::Never => Self::NEVER,
            Self::On {
                success,
                failure,
                delay,
            } => {
                debug_assert!(success || failure || delay, "NOTIFY without a condition");
                flag(success, Self::SUCCESS)
                    | flag(failure, Self::FAILURE)
                    | flag(delay, Self::DELAY)
            }
        }
    }

    fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Self::Unspecified),
            Self::NEVER => Some(Self::Never),
            1..=7 => Some(Self::On {
                success: octet & Self::SUCCESS != 0,
                failure: octet & Self::FAILURE != 0,
                delay: octet & Self::DELAY != 0,
            }),
            _ => None,
        }
    }
}

/// One forward-path. Its number, counted from 0, is its name in all other records
/// of the message, in every generation. What is done with it is said by those.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecipientField<'a> {
    /// Between the angle brackets.
    pub forward_path: &'a str,
    /// RFC 3461 `NOTIFY`.
    pub notify: Notify,
    /// RFC 3461 `ORCPT` as it came.
    pub orcpt: Option<&'a str>,
}

impl<'a> Element<'a> for RecipientField<'a> {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u8(self.notify.octet());
        sink.text(self.forward_path);
        sink.text_option(self.orcpt);
    }

    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            notify: Notify::from_octet(reader.u8("NOTIFY")?)
                .ok_or(DecodeError::Value { field: "NOTIFY" })?,
            forward_path: reader.text("forward-path")?,
            orcpt: reader.text_option("ORCPT")?,
        })
    }
}

/// A fact that this version has no field for: kept and passed on by programs that
/// do not know its tag, so that a newer one loses nothing by running beside an
/// older one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attribute<'a> {
    /// Given out in FORMAT.md, never twice.
    pub tag: u16,
    /// As its tag says.
    pub value: &'a [u8],
}

impl<'a> Element<'a> for Attribute<'a> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.u16(self.tag);
        sink.octets(self.value);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            tag: reader.u16("attribute tag")?,
            value: reader.octets("attribute value")?,
        })
    }
}

/// What MAIL said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderFields<'a> {
    /// Between the angle brackets; empty is the null reverse-path.
    pub reverse_path: &'a str,
    /// RFC 6152 `BODY`.
    pub body: BodyKind,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 3461 `RET`.
    pub ret: Option<Ret>,
    /// RFC 3461 `ENVID` as it came.
    pub envid: Option<&'a str>,
    /// RFC 6710, −9 ..= 9.
    pub priority: Option<i8>,
    /// RFC 2852.
    pub deliver_by: Option<DeliverBy>,
    /// RFC 4865: milliseconds since 1970.
    pub hold_until_ms: Option<i64>,
}

impl<'a> SenderFields<'a> {
    /// What `MAIL FROM:<reverse_path>` says without a parameter: 7BIT, and no wish.
    pub const fn without_parameters(reverse_path: &'a str) -> Self {
        Self {
            reverse_path,
            body: BodyKind::SevenBit,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
            priority: None,
            deliver_by: None,
            hold_until_ms: None,
        }
    }
}

/// What of the session is needed later. All texts are for people and for trace
/// header fields; what they look like is the business of those who write them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionFields<'a> {
    /// The client's address, with its port if that is wanted.
    pub client_address: Option<&'a str>,
    /// The client's name by DNS, where it was looked up and confirmed.
    pub client_host: Option<&'a str>,
    /// What HELO or EHLO said.
    pub client_name: Option<&'a str>,
    /// `ESMTPSA` and so on (RFC 3848).
    pub protocol: Option<&'a str>,
    /// The authenticated user.
    pub user: Option<&'a str>,
    /// Version and cipher.
    pub tls: Option<&'a str>,
    /// Results of checks (SPF, DNSBL, …), for the header field handed to a site.
    pub checks: Option<&'a str>,
}

/// The envelope of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnvelopeRecord<'a> {
    /// Whose.
    pub queue_id: u64,
    /// 0 at arrival, one more at each carry-forward.
    pub generation: u32,
    /// Milliseconds since 1970. Carried forward unchanged.
    pub arrival_ms: i64,
    /// What MAIL said.
    pub sender: SenderFields<'a>,
    /// What is needed of the session.
    pub session: SessionFields<'a>,
    /// The queue that holds it (customer, or an ETRN `#name`), if it is held.
    pub queue_name: Option<&'a str>,
    /// The accepted forward-paths in their order, never none.
    pub recipients: List<'a, RecipientField<'a>>,
    /// Facts without a field of their own.
    pub attributes: List<'a, Attribute<'a>>,
}

const SMTPUTF8: u8 = 1;
const REQUIRE_TLS: u8 = 2;
const DELIVER_BY_TRACE: u8 = 4;
const DELIVER_BY: u8 = 8;
const PRIORITY: u8 = 16;
const HOLD_UNTIL: u8 = 32;
const FLAGS: u8 = 63;

impl<'a> SenderFields<'a> {
    fn write<S: Sink>(&self, sink: &mut S) {
        let trace = self.deliver_by.is_some_and(|by| by.trace);
        sink.u8(flag(self.smtputf8, SMTPUTF8)
            | flag(self.require_tls, REQUIRE_TLS)
            | flag(trace, DELIVER_BY_TRACE)
            | flag(self.deliver_by.is_some(), DELIVER_BY)
            | flag(self.priority.is_some(), PRIORITY)
            | flag(self.hold_until_ms.is_some(), HOLD_UNTIL));
        sink.u8(self.body.octet());
        sink.u8(self.ret.map_or(0, Ret::octet));
        sink.u8(self.deliver_by.map_or(0, |by| by.mode.octet()));
        sink.u8(self.priority.unwrap_or(0).cast_unsigned());
        sink.i64(self.deliver_by.map_or(0, |by| by.deadline_ms));
        sink.i64(self.hold_until_ms.unwrap_or(0));
        sink.text(self.reverse_path);
        sink.text_option(self.envid);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let value = |field| DecodeError::Value { field };
        let flags = reader.u8("envelope flags")?;
        if flags & !FLAGS != 0 {
            return Err(value("envelope flags"));
        }
        let has = |flag: u8| flags & flag != 0;
        let body = BodyKind::read(reader)?;
        let ret = match reader.u8("RET")? {
            0 => None,
            octet => Some(Ret::from_octet(octet).ok_or(value("RET"))?),
        };
        let mode = reader.u8("deliver-by mode")?;
        let priority = reader.u8("priority")?.cast_signed();
        let deadline_ms = reader.i64("deliver-by deadline")?;
        let hold_until_ms = reader.i64("hold until")?;
        let deliver_by = match (has(DELIVER_BY), DeliverByMode::from_octet(mode)) {
            (true, Some(mode)) => Some(DeliverBy {
                deadline_ms,
                mode,
                trace: has(DELIVER_BY_TRACE),
            }),
            (false, None) if mode == 0 && deadline_ms == 0 && !has(DELIVER_BY_TRACE) => None,
            _ => return Err(value("deliver-by mode")),
        };
        if !(-9..=9).contains(&priority) || (!has(PRIORITY) && priority != 0) {
            return Err(value("priority"));
        }
        if !has(HOLD_UNTIL) && hold_until_ms != 0 {
            return Err(value("hold until"));
        }
        Ok(Self {
            reverse_path: reader.text("reverse-path")?,
            body,
            smtputf8: has(SMTPUTF8),
            require_tls: has(REQUIRE_TLS),
            ret,
            envid: reader.text_option("ENVID")?,
            priority: has(PRIORITY).then_some(priority),
            deliver_by,
            hold_until_ms: has(HOLD_UNTIL).then_some(hold_until_ms),
        })
    }
}

impl<'a> SessionFields<'a> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.text_option(self.client_address);
        sink.text_option(self.client_host);
        sink.text_option(self.client_name);
        sink.text_option(self.protocol);
        sink.text_option(self.user);
        sink.text_option(self.tls);
        sink.text_option(self.checks);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            client_address: reader.text_option("client address")?,
            client_host: reader.text_option("client host")?,
            client_name: reader.text_option("client name")?,
            protocol: reader.text_option("protocol")?,
            user: reader.text_option("user")?,
            tls: reader.text_option("TLS")?,
            checks: reader.text_option("checks")?,
        })
    }
}

impl<'a> Record<'a> for EnvelopeRecord<'a> {
    const KIND: RecordKind = RecordKind::Envelope;

    fn write_fields<S: Sink>(&self, sink: &mut S) {
        sink.u64(self.queue_id);
        sink.u32(self.generation);
        sink.i64(self.arrival_ms);
        self.sender.write(sink);
        self.session.write(sink);
        sink.text_option(self.queue_name);
        self.recipients.write(sink);
        self.attributes.write(sink);
    }

    fn read_fields(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            queue_id: reader.u64("queue id")?,
            generation: reader.u32("generation")?,
            arrival_ms: reader.i64("arrival")?,
            sender: SenderFields::read(reader)?,
            session: SessionFields::read(reader)?,
            queue_name: reader.text_option("queue name")?,
            recipients: reader.list("recipients")?,
            attributes: reader.list("attributes")?,
        })
    }
}
