//! Whether a message can go to this hop at all, known before a command is sent.

use super::Channel;
use super::capabilities::{Capabilities, Size};
use super::commands::{deliver_by_seconds, octets_min};
use super::fault::{Cause, RecipientOutcome, Unfit};
use super::job::{BodyFacts, BodyOctets, Job};
use super::settings::Identity;
use crate::mail::{DeliverByMode, Recipient, RecipientIndex, Sender};
use crate::time::Now;

/// Who can read along, and who listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) identity: Identity,
}

/// Takes out of the job who cannot be sent to over this hop, with the reason.
pub(super) fn take_unfit(
    job: &mut Job,
    peer: &Capabilities,
    line: Line,
    now: Now,
) -> Vec<(RecipientIndex, RecipientOutcome)> {
    let failed = |unfit| RecipientOutcome::Failed(Cause::Unfit(unfit));
    if let Some(unfit) = unfit(&job.sender, &job.body, peer, line, now) {
        let all = job.recipients.drain(..);
        return all.map(|(index, _)| (index, failed(unfit))).collect();
    }
    if peer.smtputf8 {
        return Vec::new();
    }
    let needs_utf8 = |recipient: &Recipient| !recipient.forward_path.address().is_ascii();
    let unfit = job
        .recipients
        .extract_if(.., |(_, recipient)| needs_utf8(recipient))
        .map(|(index, _)| (index, failed(Unfit::SmtpUtf8)));
    unfit.collect()
}

/// Why no recipient of the message can be sent to over this hop.
fn unfit(
    sender: &Sender,
    body: &BodyFacts,
    peer: &Capabilities,
    line: Line,
    now: Now,
) -> Option<Unfit> {
    let eight_bit = body.kind == BodyOctets::EightBit;
    // A message that was announced as SMTPUTF8 and has nothing above 127 in it needs
    // none.
    let utf8 = !sender.reverse_path.is_ascii() || (sender.smtputf8 && eight_bit);
    if sender.require_tls {
        match (line.channel, peer.require_tls, line.identity) {
            (Channel::Tls, true, Identity::Proven) => {}
            (Channel::Tls, true, Identity::Unproven) => return Some(Unfit::Unproven),
            (Channel::Clear, ..) | (_, false, _) => return Some(Unfit::RequireTls),
        }
    }
    if utf8 && !peer.smtputf8 {
        return Some(Unfit::SmtpUtf8);
    }
    if eight_bit && !peer.eight_bit_mime {
        return Some(Unfit::EightBitMime);
    }
    if let Size::Max(bytes_max) = peer.size
        && octets_min(body) > bytes_max
    {
        return Some(Unfit::TooLarge { bytes_max });
    }
    match sender.deliver_by {
        Some(by) if by.mode == DeliverByMode::Return => {
            if deliver_by_seconds(by.deadline, now.wall) <= 0 {
                Some(Unfit::TooLate)
            } else if peer.deliver_by {
                None
            } else {
                Some(Unfit::DeliverBy)
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{BodyForm, DeliverBy};
    use crate::smtp::client::job::BodyEnd;
    use crate::time::WallTime;

    #[test]
    fn time_limits() {
        let check = |mode: DeliverByMode, seconds: i64, offered: bool, expected: Option<Unfit>| {
            let mut sender = Sender::new("a@b.example".parse().unwrap());
            sender.deliver_by = Some(DeliverBy {
                deadline: WallTime::from_millis(seconds * 1000),
                mode,
                trace: false,
            });
            let body = BodyFacts {
                octets: 1,
                form: BodyForm::Plain,
                kind: BodyOctets::SevenBit,
                end: BodyEnd::Crlf,
            };
            let peer = Capabilities {
                deliver_by: offered,
                ..Capabilities::default()
            };
            let line = Line {
                channel: Channel::Clear,
                identity: Identity::Unproven,
            };
            let got = unfit(&sender, &body, &peer, line, Now::default());
            assert_eq!(got, expected, "{mode:?} {seconds} {offered}");
        };
        check(DeliverByMode::Return, 1, true, None);
        check(DeliverByMode::Return, 1, false, Some(Unfit::DeliverBy));
        check(DeliverByMode::Return, 0, true, Some(Unfit::TooLate));
        check(DeliverByMode::Return, -9, false, Some(Unfit::TooLate));
        check(DeliverByMode::Notify, -9, true, None);
        check(DeliverByMode::Notify, 1, false, None);
    }

    /// RFC 8689 §4.2.1: a promise, under TLS, by the host that is meant.
    #[test]
    fn require_tls() {
        let mut sender = Sender::new("a@b.example".parse().unwrap());
        sender.require_tls = true;
        let body = BodyFacts {
            octets: 1,
            form: BodyForm::Plain,
            kind: BodyOctets::SevenBit,
            end: BodyEnd::Crlf,
        };
        let check = |channel, require_tls, identity, expected| {
            let peer = Capabilities {
                require_tls,
                ..Capabilities::default()
            };
            let line = Line { channel, identity };
            let got = unfit(&sender, &body, &peer, line, Now::default());
            assert_eq!(got, expected, "{line:?} {require_tls}");
        };
        for identity in [Identity::Unproven, Identity::Proven] {
            for offered in [false, true] {
                check(Channel::Clear, offered, identity, Some(Unfit::RequireTls));
            }
            check(Channel::Tls, false, identity, Some(Unfit::RequireTls));
        }
        let unproven = Some(Unfit::Unproven);
        check(Channel::Tls, true, Identity::Unproven, unproven);
        check(Channel::Tls, true, Identity::Proven, None);
        assert_eq!(Unfit::RequireTls.status().to_string(), "5.7.30");
        assert_eq!(Unfit::Unproven.status().to_string(), "5.7.10");
    }
}
