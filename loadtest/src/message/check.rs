//! Whether a message that arrived is one of ours, and whole.
//!
//! A relay may add header fields anywhere; it may not change the body. So the
//! header section is searched for our field, and the length and checksum of the
//! body must be what the field says.

use memchr::memmem;

use super::{AT, BYTES, CRC, FIELD, FIELD_BYTES, MessageId, RCPTS, unhex};

/// Header sections beyond this are not ours: ours is half a kibibyte, and a
/// relay adds a few hundred octets a hop.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// What a message turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Ours, and every octet of the body is right.
    Whole {
        id: MessageId,
        generated_nanoseconds: u64,
        /// How often it is to come, counted in recipients.
        recipients: u16,
    },
    /// Ours, but the body is not what was sent.
    Damaged {
        id: MessageId,
        bytes: u64,
        bytes_sent: u64,
    },
    /// Not one of ours (a bounce, say).
    Foreign,
}

/// Takes a message's content in canonical form, in any pieces.
#[derive(Default)]
pub(crate) struct Check {
    /// The header section as far as it has come, until it is complete.
    header: Vec<u8>,
    claim: Option<Claim>,
    in_body: bool,
    body_bytes: u64,
    crc: u32,
}

#[derive(Clone, Copy)]
struct Claim {
    id: MessageId,
    generated_nanoseconds: u64,
    recipients: u16,
    bytes: u64,
    crc: u32,
}

impl Check {
    /// The next piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        if self.in_body {
            return self.feed_body(piece);
        }
        if self.header.is_empty() {
            // The usual case: the header section is in the first piece whole.
            if let Some(body_at) = body_at(piece, 0) {
                self.claim = claim(&piece[..body_at]);
                self.in_body = true;
                return self.feed_body(&piece[body_at..]);
            }
        }
        let searched = self.header.len().saturating_sub(3);
        self.header.extend_from_slice(piece);
        if let Some(body_at) = body_at(&self.header, searched) {
            let header = std::mem::take(&mut self.header);
            self.claim = claim(&header[..body_at]);
            self.in_body = true;
            self.feed_body(&header[body_at..]);
        } else if self.header.len() > HEADER_BYTES_MAX {
            self.header = Vec::new();
            self.in_body = true;
        }
    }

    /// The message is over. Ready for the next one.
    pub(crate) fn end(&mut self) -> Verdict {
        let ended = std::mem::take(self);
        let Some(claim) = ended.claim else {
            return Verdict::Foreign;
        };
        if ended.body_bytes == claim.bytes && ended.crc == claim.crc {
            let Claim {
                id,
                generated_nanoseconds,
                recipients,
                ..
            } = claim;
            Verdict::Whole {
                id,
                generated_nanoseconds,
                recipients,
            }
        } else {
            Verdict::Damaged {
                id: claim.id,
                bytes: ended.body_bytes,
                bytes_sent: claim.bytes,
            }
        }
    }

    fn feed_body(&mut self, piece: &[u8]) {
        if self.claim.is_some() {
            self.crc = crc32c::crc32c_append(self.crc, piece);
            self.body_bytes += piece.len() as u64;
        }
    }
}

/// Where the body begins. The header section is never empty with us.
fn body_at(text: &[u8], searched: usize) -> Option<usize> {
    memmem::find(&text[searched..], b"\r\n\r\n").map(|at| searched + at + 4)
}

fn claim(header: &[u8]) -> Option<Claim> {
    let at = memmem::find(header, FIELD)?;
    if at > 0 && header[at - 1] != b'\n' {
        return None;
    }
    let field = header.get(at..at + FIELD_BYTES)?;
    Some(Claim {
        id: MessageId::from_bits(unhex(&field[FIELD.len()..][..16])?),
        generated_nanoseconds: unhex(&field[AT..][..16])?,
        recipients: unhex(&field[RCPTS..][..4])? as u16,
        bytes: unhex(&field[BYTES..][..8])?,
        crc: unhex(&field[CRC..][..8])? as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Template, TemplateOptions, Transfer};

    fn message() -> (Vec<u8>, MessageId) {
        let template = Template::new(&TemplateOptions {
            bytes: 700,
            transfer: Transfer::Bdat,
            recipients: 1,
            dots_every: 0,
            from: "a@b.test".into(),
            to: "c@d.test".into(),
        });
        let id = MessageId { run: 9, number: 5 };
        let mut wire = Vec::new();
        template.write(&mut wire, id, 1);
        let line = wire.iter().position(|octet| *octet == b'\n').unwrap() + 1;
        (wire[line..].to_vec(), id)
    }

    fn verdict(pieces: &[&[u8]]) -> Verdict {
        let mut check = Check::default();
        for piece in pieces {
            check.feed(piece);
        }
        check.end()
    }

    #[test]
    fn whole_in_all_cuts_and_behind_other_fields() {
        let (message, id) = message();
        let whole = Verdict::Whole {
            id,
            generated_nanoseconds: 1,
            recipients: 1,
        };
        let relayed = [b"Received: from x\r\n by y\r\n".as_slice(), &message].concat();
        for cut in 0..relayed.len() {
            assert_eq!(
                verdict(&[&relayed[..cut], &relayed[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
        assert_eq!(verdict(&relayed.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn every_changed_octet_of_the_body_is_seen() {
        let (message, id) = message();
        let body_at = body_at(&message, 0).unwrap();
        for at in body_at..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            let bytes = (message.len() - body_at) as u64;
            assert_eq!(
                verdict(&[&changed]),
                Verdict::Damaged {
                    id,
                    bytes,
                    bytes_sent: bytes
                },
                "at {at}"
            );
        }
        let short = &message[..message.len() - 2];
        assert!(matches!(verdict(&[short]), Verdict::Damaged { .. }));
    }

    #[test]
    fn others_are_foreign() {
        for text in [
            "",
            "\r\n",
            "Subject: hi\r\n\r\nbody\r\n",
            "X-Loadtest: id=\r\n\r\n",
        ] {
            assert_eq!(verdict(&[text.as_bytes()]), Verdict::Foreign, "{text:?}");
        }
    }
}
