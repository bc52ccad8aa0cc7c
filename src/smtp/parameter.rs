//! ESMTP parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8
//! (RFC 6531), RET, ENVID, NOTIFY and ORCPT (RFC 3461), MT-PRIORITY (RFC 6710), BY
//! (RFC 2852), HOLDFOR and HOLDUNTIL (RFC 4865), AUTH (RFC 4954), REQUIRETLS
//! (RFC 8689). And one of our own, XARRIVAL: when another server took the message whose
//! queue is brought here by `turnspool import`. It is taken from this machine only, and
//! not announced.
//!
//! Each may come once. What is to be passed on unchanged is checked and kept as it
//! came. A parameter that is not known, or not offered, is refused: taking it in
//! silence would promise what it asks for.

use std::time::Duration;

use crate::mail::{
    BodyKind, DeliverBy, DeliverByMode, ENVID_BYTES_MAX, HoldUntil, Notify, ORCPT_BYTES_MAX,
    Priority, Recipient, Ret, Sender,
};
use crate::smtp::reply::Tls;
use crate::smtp::syntax::{Context, SyntaxError, decimal, text};
use crate::time::WallTime;

/// Longest AUTH parameter (RFC 4954 §3).
const AUTH_BYTES_MAX: usize = 500;

/// For XARRIVAL.
const ARRIVAL_AHEAD_MAX: Duration = Duration::from_secs(3600);
const ARRIVAL_AGO_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Puts the parameters of MAIL into `sender`. The size that was declared.
pub(super) fn of_mail<'a>(
    sender: &mut Sender,
    parameters: impl Iterator<Item = &'a [u8]>,
    context: &Context<'_>,
) -> Result<Option<u64>, SyntaxError> {
    let mut seen = Seen::default();
    let mut size = None;
    for parameter in parameters {
        let (keyword, value) = split_parameter(parameter);
        let kind = MailKeyword::parse(keyword, context)?;
        seen.once(kind as u32)?;
        match kind {
            MailKeyword::Size => {
                // RFC 1870 §4: at most 20 digits.
                let octets = value.filter(|value| value.len() <= 20).and_then(decimal);
                size = Some(octets.ok_or(SyntaxError::Parameter("want SIZE=octets"))?);
            }
            MailKeyword::Body => {
                sender.body = one_of(
                    value,
                    &[
                        (b"7BIT", BodyKind::SevenBit),
                        (b"8BITMIME", BodyKind::EightBitMime),
                    ],
                    "want BODY=7BIT or BODY=8BITMIME",
                )?;
            }
            MailKeyword::SmtpUtf8 => match value {
                None => sender.smtputf8 = true,
                Some(_) => return Err(SyntaxError::Parameter("SMTPUTF8 has no value")),
            },
            MailKeyword::RequireTls => match value {
                None => sender.require_tls = true,
                Some(_) => return Err(SyntaxError::Parameter("REQUIRETLS has no value")),
            },
            MailKeyword::Ret => {
                let ret = one_of(
                    value,
                    &[(b"FULL", Ret::Full), (b"HDRS", Ret::Headers)],
                    "want RET=FULL or RET=HDRS",
                )?;
                sender.ret = Some(ret);
            }
            MailKeyword::Envid => {
                let envid = value.filter(|value| {
                    !value.is_empty() && value.len() <= ENVID_BYTES_MAX && is_xtext(value)
                });
                let envid = envid.ok_or(SyntaxError::Parameter(
                    "want ENVID= and up to 100 characters of xtext",
                ))?;
                sender.envid = Some(text(envid)?.into());
            }
            MailKeyword::MtPriority => {
                let priority = value
                    .and_then(|value| std::str::from_utf8(value).ok())
                    .and_then(|value| value.parse().ok())
                    .and_then(Priority::new);
                sender.priority =
                    Some(priority.ok_or(SyntaxError::Parameter("want MT-PRIORITY=-9 to 9"))?);
            }
            MailKeyword::By => {
                let by = value.and_then(|value| deliver_by(value, context));
                sender.deliver_by = Some(by.ok_or(SyntaxError::Parameter(
                    "want BY=seconds;R or BY=seconds;N, and not less than the minimum",
                ))?);
            }
            // RFC 4954 §5: a claim about an earlier hop. We vouch for no other host, so
            // it is not passed on, as if it were `<>`.
            MailKeyword::Auth => {
                let fits = |value: &&[u8]| {
                    !value.is_empty() && value.len() <= AUTH_BYTES_MAX && is_xtext(value)
                };
                value.filter(fits).ok_or(SyntaxError::Parameter(
                    "want AUTH=<> or an address in xtext",
                ))?;
            }
            MailKeyword::HoldFor | MailKeyword::HoldUntil if sender.hold_until.is_some() => {
                // RFC 4865 §5: one of the two.
                return Err(SyntaxError::Parameter(
                    "want HOLDFOR or HOLDUNTIL, not both",
                ));
            }
            MailKeyword::HoldFor => {
                // RFC 4865 §6: up to nine digits, the first of which is not 0.
                let digits = value.filter(|value| value.len() <= 9 && value.first() != Some(&b'0'));
                let until = digits
                    .and_then(decimal)
                    .map(|seconds| context.time + Duration::from_secs(seconds));
                sender.hold_until = Some(HoldUntil::end(hold_until(until, context)?));
            }
            MailKeyword::Arrival => {
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                let arrival: Option<WallTime> = text.and_then(|text| text.parse().ok());
                // A clock may be a little ahead; what is older was given up long ago.
                let fits = |arrival: &WallTime| {
                    arrival.since(context.time) <= ARRIVAL_AHEAD_MAX
                        && context.time.since(*arrival) <= ARRIVAL_AGO_MAX
                };
                let arrival = arrival.filter(fits).ok_or(SyntaxError::Parameter(
                    "want XARRIVAL= and a date of the past year",
                ))?;
                sender.arrival = Some(arrival.min(context.time));
            }
            MailKeyword::HoldUntil => {
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                let until = text.and_then(|text| text.parse().ok());
                sender.hold_until = Some(HoldUntil::moment(hold_until(until, context)?));
            }
        }
    }
    if let (Some(by), Some(until)) = (&sender.deliver_by, sender.hold_until)
        && by.deadline <= until.at()
    {
        return Err(SyntaxError::Parameter(
            "the time of BY is over before that of the hold",
        ));
    }
    Ok(size)
}

/// RFC 4865 §5: in the future, and not beyond what EHLO said.
fn hold_until(until: Option<WallTime>, context: &Context<'_>) -> Result<WallTime, SyntaxError> {
    let longest = context.offers.future_release.unwrap_or_default();
    until
        .filter(|until| (context.time..=context.time + longest).contains(until))
        .ok_or(SyntaxError::Parameter(
            "want HOLDFOR=seconds or HOLDUNTIL=YYYY-MM-DDThh:mm:ssZ, not beyond what EHLO said",
        ))
}

/// Puts the parameters of RCPT into `recipient`.
pub(super) fn of_rcpt<'a>(
    recipient: &mut Recipient,
    parameters: impl Iterator<Item = &'a [u8]>,
) -> Result<(), SyntaxError> {
    let mut seen = Seen::default();
    for parameter in parameters {
        let (keyword, value) = split_parameter(parameter);
        let kind = RcptKeyword::parse(keyword)?;
        seen.once(kind as u32)?;
        match kind {
            RcptKeyword::Notify => {
                let notify = value.and_then(notify);
                recipient.notify = notify.ok_or(SyntaxError::Parameter(
                    "want NOTIFY=NEVER or a list of SUCCESS, FAILURE, DELAY",
                ))?;
            }
            RcptKeyword::Orcpt => {
                let orcpt = value.filter(|value| value.len() <= ORCPT_BYTES_MAX && is_orcpt(value));
                let orcpt = orcpt.ok_or(SyntaxError::Parameter(
                    "want ORCPT=type;address in up to 500 characters of xtext",
                ))?;
                recipient.orcpt = Some(text(orcpt)?.into());
            }
        }
    }
    Ok(())
}

/// `KEYWORD=value` or `KEYWORD`.
fn split_parameter(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', parameter) {
        Some(at) => (&parameter[..at], Some(&parameter[at + 1..])),
        None => (parameter, None),
    }
}

fn one_of<T: Copy>(
    value: Option<&[u8]>,
    table: &[(&[u8], T)],
    sentence: &'static str,
) -> Result<T, SyntaxError> {
    let value = value.ok_or(SyntaxError::Parameter(sentence))?;
    table
        .iter()
        .find(|(name, _)| value.eq_ignore_ascii_case(name))
        .map(|(_, found)| *found)
        .ok_or(SyntaxError::Parameter(sentence))
}

/// Parameters of MAIL. The values are bits of [`Seen`].
#[derive(Clone, Copy)]
enum MailKeyword {
    Size = 1 << 0,
    Body = 1 << 1,
    SmtpUtf8 = 1 << 2,
    Ret = 1 << 3,
    Envid = 1 << 4,
    MtPriority = 1 << 5,
    By = 1 << 6,
    Auth = 1 << 7,
    HoldFor = 1 << 8,
    HoldUntil = 1 << 9,
    RequireTls = 1 << 10,
    Arrival = 1 << 11,
}

impl MailKeyword {
    fn parse(keyword: &[u8], context: &Context<'_>) -> Result<Self, SyntaxError> {
        let offers = context.offers;
        let table: [(&[u8], Self, bool); 12] = [
            (b"SIZE", Self::Size, true),
            (b"BODY", Self::Body, true),
            (b"SMTPUTF8", Self::SmtpUtf8, true),
            (b"RET", Self::Ret, true),
            (b"ENVID", Self::Envid, true),
            (b"MT-PRIORITY", Self::MtPriority, offers.mt_priority),
            (b"BY", Self::By, offers.deliver_by.is_some()),
            (b"HOLDFOR", Self::HoldFor, offers.future_release.is_some()),
            (
                b"HOLDUNTIL",
                Self::HoldUntil,
                offers.future_release.is_some(),
            ),
            (b"AUTH", Self::Auth, offers.auth.is_some()),
            (b"REQUIRETLS", Self::RequireTls, context.tls == Tls::Active),
            (b"XARRIVAL", Self::Arrival, context.is_local),
        ];
        table
            .iter()
            .find(|(name, _, offered)| *offered && keyword.eq_ignore_ascii_case(name))
            .map(|(_, kind, _)| *kind)
            .ok_or(SyntaxError::UnknownParameter)
    }
}

/// Parameters of RCPT. The values are bits of [`Seen`].
#[derive(Clone, Copy)]
enum RcptKeyword {
    Notify = 1 << 0,
    Orcpt = 1 << 1,
}

impl RcptKeyword {
    fn parse(keyword: &[u8]) -> Result<Self, SyntaxError> {
        if keyword.eq_ignore_ascii_case(b"NOTIFY") {
            Ok(Self::Notify)
        } else if keyword.eq_ignore_ascii_case(b"ORCPT") {
            Ok(Self::Orcpt)
        } else {
            Err(SyntaxError::UnknownParameter)
        }
    }
}

/// Which parameters a command had: each may come once (RFC 3461 §4).
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn once(&mut self, bit: u32) -> Result<(), SyntaxError> {
        if self.0 & bit != 0 {
            return Err(SyntaxError::Parameter("a parameter is given twice"));
        }
        self.0 |= bit;
        Ok(())
    }
}

/// RFC 3461 §4.1: NEVER stands alone; the others once each.
fn notify(value: &[u8]) -> Option<Notify> {
    if value.eq_ignore_ascii_case(b"NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(|&octet| octet == b',') {
        let flag = if word.eq_ignore_ascii_case(b"SUCCESS") {
            &mut success
        } else if word.eq_ignore_ascii_case(b"FAILURE") {
            &mut failure
        } else if word.eq_ignore_ascii_case(b"DELAY") {
            &mut delay
        } else {
            return None;
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    Some(Notify::On {
        success,
        failure,
        delay,
    })
}

/// RFC 3461 §4: printable, `+` only before two upper-case hexadecimal digits, no `=`.
fn is_xtext(value: &[u8]) -> bool {
    let mut rest = value.iter();
    while let Some(octet) = rest.next() {
        let mut hex = || matches!(rest.next(), Some(b'0'..=b'9' | b'A'..=b'F'));
        let fits = match octet {
            b'+' => hex() && hex(),
            b'=' => false,
            octet => matches!(octet, b'!'..=b'~'),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// `addr-type ";" xtext` (RFC 3461 §4.2), or `utf-8;` with UTF-8 in it (RFC 6533 §3).
fn is_orcpt(value: &[u8]) -> bool {
    let Some(semicolon) = memchr::memchr(b';', value) else {
        return false;
    };
    let (kind, address) = (&value[..semicolon], &value[semicolon + 1..]);
    let is_atom =
        |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(octet);
    if kind.is_empty() || !kind.iter().all(is_atom) || address.is_empty() {
        return false;
    }
    if kind.eq_ignore_ascii_case(b"utf-8") {
        // RFC 6533 writes `\x{…}` where xtext writes `+…`; both are printable.
        address
            .iter()
            .all(|octet| matches!(octet, b'!'..=b'~' | 0x80..))
    } else {
        is_xtext(address)
    }
}

/// RFC 2852 §4: `by-value = by-time ";" by-mode [by-trace]`, the time up to nine
/// digits with a sign. Return needs a time above zero, and not below our minimum.
fn deliver_by(value: &[u8], context: &Context<'_>) -> Option<DeliverBy> {
    let value = std::str::from_utf8(value).ok()?;
    let (time, mode) = value.split_once(';')?;
    if time.trim_start_matches(['+', '-']).len() > 9 {
        return None;
    }
    let seconds: i64 = time.parse().ok()?;
    let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
        "R" => (DeliverByMode::Return, false),
        "RT" => (DeliverByMode::Return, true),
        "N" => (DeliverByMode::Notify, false),
        "NT" => (DeliverByMode::Notify, true),
        _ => return None,
    };
    let minimum = context.offers.deliver_by.unwrap_or_default();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let too_soon = seconds <= 0 || by < minimum;
    if mode == DeliverByMode::Return && too_soon {
        return None;
    }
    Some(DeliverBy {
        deadline: if seconds < 0 {
            context.time - by
        } else {
            context.time + by
        },
        mode,
        trace,
    })
}
