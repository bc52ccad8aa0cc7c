//! What is returned of a message in a notification (RFC 3461 §6.2).

use spool_format::{BodyForm, Location};

use crate::mail::Ret;
use crate::queue::notification::HEADERS_BYTES_MAX;
use crate::spool::message::{self, SegmentSource, StoredMessage};

/// Longest line that may stand in a notification (RFC 5322 §2.1.1).
const LINE_BYTES_MAX: usize = 998;

/// What is returned of a message.
pub(super) enum Quote {
    /// Its header section.
    Headers(Vec<u8>),
    /// All of it, as it is stored.
    Whole(Vec<u8>),
}

/// All of a message if its sender wants that and did not want REQUIRETLS, with which RET
/// does not count (RFC 8689 §5), and it is no larger than `whole_bytes_max`
/// and has lines that may stand in a notification; else its header section. `seal` is
/// where `about` was read: since then it may have been carried forward, and its extents
/// tell of the old copy.
pub(super) fn quote(
    spool: &impl SegmentSource,
    seal: Location,
    about: &StoredMessage,
    whole_bytes_max: u64,
) -> Quote {
    let full = about.envelope.sender.ret == Some(Ret::Full)
        && !about.envelope.sender.require_tls
        && about.octets <= whole_bytes_max
        && about.body.ends_with_crlf
        && about.body.form != BodyForm::Raw;
    if full {
        let octets = beginning(spool, seal, about, whole_bytes_max as usize);
        let lines_fit = octets
            .split(|&octet| octet == b'\n')
            .all(|line| line.len() < LINE_BYTES_MAX);
        if octets.len() as u64 == about.octets && lines_fit {
            return Quote::Whole(octets);
        }
    }
    Quote::Headers(headers(spool, seal, about, HEADERS_BYTES_MAX))
}

/// Its header section, or the fields of it that stand in its first octets.
pub(super) fn headers(
    spool: &impl SegmentSource,
    seal: Location,
    about: &StoredMessage,
    bytes_max: usize,
) -> Vec<u8> {
    let mut octets = beginning(spool, seal, about, bytes_max);
    let end = memchr::memmem::find(&octets, b"\r\n\r\n");
    let end = match end {
        None if (octets.len() as u64) < about.octets => memchr::memmem::rfind(&octets, b"\r\n"),
        end => end,
    };
    octets.truncate(end.map_or(octets.len(), |end| end + 2));
    octets
}

fn beginning(
    spool: &impl SegmentSource,
    seal: Location,
    about: &StoredMessage,
    bytes_max: usize,
) -> Vec<u8> {
    let mut octets = Vec::new();
    for &extent in &about.extents {
        let Ok(part) = message::body(spool, seal, extent) else {
            break;
        };
        octets.extend_from_slice(&part[..part.len().min(bytes_max - octets.len())]);
        if octets.len() >= bytes_max {
            break;
        }
    }
    octets
}
