//! What was sent, what was promised for it, and what came of it.
//!
//! The promise: for each recipient of a message that got its 250, the message is
//! delivered as it was sent, or its sender is told, unless it wants to hear nothing.
//! Beyond that a world notes what must never be: a message that was not sent whole,
//! octets that were not sent, a second delivery that nothing excuses.

use std::collections::BTreeMap;
use std::time::Duration;

use memchr::memmem;

use crate::hops::{Hops, Route};
use crate::random::Random;

/// A message of a world, by its place in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MessageNumber(pub(crate) usize);

/// Where a client is with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Its last octet was not sent.
    Unfinished,
    /// Its last octet was sent; no reply has come.
    Whole,
    /// 250.
    Accepted,
    /// 4xx or 5xx.
    Refused,
}

/// Whether the sender is told of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Told,
    Silence,
}

/// One delivery to one recipient.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    at: u64,
    /// When the core had the reply.
    confirmed_at: Option<u64>,
}

/// By way of which programs a delivery came, in a world of several.
type Way = Option<Route>;

#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) address: String,
    /// With a space before it, or empty.
    pub(crate) parameters: &'static str,
    pub(crate) wish: Wish,
    /// RCPT got its 250.
    pub(crate) accepted: bool,
    /// RCPT got another reply.
    pub(crate) refused: u32,
    deliveries: Vec<Delivery>,
    /// Of each.
    routes: Vec<Way>,
    /// A notification said that it failed.
    told: u32,
}

#[derive(Debug)]
pub(crate) struct Message {
    /// Empty for null.
    pub(crate) sender: String,
    /// With a space before it, or empty.
    pub(crate) parameters: &'static str,
    pub(crate) recipients: Vec<Recipient>,
    /// As it is meant: dots single.
    pub(crate) octets: Vec<u8>,
    pub(crate) progress: Progress,
    pub(crate) whole_at: u64,
}

/// When a message came to a next hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    /// When the connection had begun over which it came.
    pub(crate) since: u64,
}

impl Arrival {
    pub(crate) const fn at(now: u64) -> Self {
        Self {
            at: now,
            since: now,
        }
    }
}

/// A life of the program ended at this time, or its disk failed.
#[derive(Clone, Copy, Debug)]
struct Break {
    at: u64,
    /// Done records of deliveries since then may be lost.
    done_since: u64,
}

/// Where a delivery stands in the ledger, to confirm it.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    deliveries: Vec<(MessageNumber, usize, usize)>,
}

/// How long after its reply the done record of a delivery may be lost in a crash: the
/// riders' tenth of a second, and a few syncs of a slow disk.
const DONE_DELAY_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) messages: Vec<Message>,
    breaks: Vec<Break>,
    /// Addresses that the core says it gave up.
    given_up: BTreeMap<String, u32>,
    /// The disk failed: what was refused then may still be there.
    pub(crate) disk_failed: bool,
    /// What the programs did, in a world of several.
    pub(crate) hops: Option<Hops>,
    pub(crate) duplicates: u32,
    pub(crate) notifications: u32,
    /// Of these: such that tell of several messages.
    pub(crate) merged: u32,
    pub(crate) delivered: u32,
}

impl Ledger {
    /// For a world of several programs.
    pub(crate) fn of_several(hops: Hops) -> Self {
        Self {
            hops: Some(hops),
            ..Self::default()
        }
    }

    /// Writes a message, to be sent by some client.
    /// `senders`: how many there are; 0: each message has its own.
    pub(crate) fn write(
        &mut self,
        random: &mut Random,
        octets_max: usize,
        domains: &[String],
        senders: usize,
    ) -> usize {
        let number = self.messages.len();
        let who = number.checked_rem(senders).unwrap_or(number);
        let sender = if random.one_in(8) {
            String::new()
        } else {
            format!("s{who}@sender.example")
        };
        let recipients = match random.below(6) {
            0..=3 => 1,
            4 => 2,
            _ => random.between(3, 12),
        };
        let recipients = (0..recipients)
            .map(|index| {
                let domain = &domains[random.below(domains.len() as u64) as usize];
                let (parameters, wish) = match random.below(10) {
                    0 => (" NOTIFY=NEVER", Wish::Silence),
                    1 => (" NOTIFY=SUCCESS,FAILURE", Wish::Told),
                    2 => (" NOTIFY=DELAY", Wish::Silence),
                    3 => (
                        " NOTIFY=FAILURE ORCPT=rfc822;some@where.example",
                        Wish::Told,
                    ),
                    _ => ("", Wish::Told),
                };
                Recipient {
                    address: format!("r{number}-{index}@{domain}"),
                    parameters,
                    wish,
                    accepted: false,
                    refused: 0,
                    deliveries: Vec::new(),
                    routes: Vec::new(),
                    told: 0,
                }
            })
            .collect();
        let length = match random.below(8) {
            0..=4 => random.length(0, 1000),
            5 | 6 => random.length(0, octets_max / 4),
            _ => random.length(0, octets_max),
        };
        let eight_bit = random.one_in(6);
        let parameters = match (eight_bit, random.below(4)) {
            (true, _) => " BODY=8BITMIME",
            (false, 0) => " RET=FULL ENVID=sim",
            (false, 1) => " RET=HDRS",
            _ => "",
        };
        let octets = body(random, number, length, eight_bit);
        self.messages.push(Message {
            sender,
            parameters,
            recipients,
            octets,
            progress: Progress::Unfinished,
            whole_at: 0,
        });
        number
    }

    /// Writes a message that lies in a mailbox. Its envelope is in its header: who sent it,
    /// and for whom alone it is.
    pub(crate) fn write_for_mailbox(
        &mut self,
        random: &mut Random,
        octets_max: usize,
        domain: String,
    ) -> usize {
        let number = self.write(random, octets_max, &[domain], 0);
        let message = &mut self.messages[number];
        // Nothing else of a transaction is known there.
        if message.parameters != " BODY=8BITMIME" {
            message.parameters = "";
        }
        message.recipients.truncate(1);
        let recipient = &mut message.recipients[0];
        (recipient.parameters, recipient.wish) = ("", Wish::Told);
        recipient.accepted = true;
        message.progress = Progress::Accepted;
        let envelope = format!(
            "Return-Path: <{}>\r\nDelivered-To: {}\r\n",
            message.sender, recipient.address
        );
        message.octets.splice(0..0, envelope.into_bytes());
        number
    }

    /// A next hop took a message.
    pub(crate) fn deliver(
        &mut self,
        when: Arrival,
        from: &str,
        to: &[String],
        octets: &[u8],
    ) -> Receipt {
        let now = when.at;
        let mut receipt = Receipt {
            deliveries: Vec::new(),
        };
        let header_end = memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |at| at + 2);
        let header = &octets[..header_end];
        let Some(number) = number_in(header) else {
            assert!(
                memmem::find(octets, b"multipart/report").is_some(),
                "something that nobody wrote was delivered: {}",
                header.escape_ascii()
            );
            assert_eq!(from, "", "a notification has a null sender");
            let merged = memmem::find(header, b"multipart/mixed").is_some();
            self.merged += u32::from(merged);
            self.told(to, octets);
            return receipt;
        };
        let message = &mut self.messages[number];
        assert_ne!(
            message.progress,
            Progress::Unfinished,
            "message {number} was not sent whole, and was delivered"
        );
        assert_eq!(from, message.sender, "the sender of message {number}");
        let (route, sent) = match &self.hops {
            None => (None, behind_the_trace(octets)),
            Some(hops) => {
                let (route, sent) = hops.route(octets);
                (Some(route), sent)
            }
        };
        let same = sent == message.octets
            || sent
                .strip_suffix(b"\r\n")
                .is_some_and(|cut| cut == message.octets);
        assert!(
            same,
            "message {number} is not as it was sent: {}",
            difference(sent, &message.octets)
        );
        for address in to {
            let index = message
                .recipients
                .iter()
                .position(|r| r.address == *address);
            let index = index.unwrap_or_else(|| {
                panic!("message {number} was delivered to {address}, who is none of its")
            });
            let recipient = &mut message.recipients[index];
            self.delivered += 1;
            assert!(
                recipient.refused == 0 || recipient.accepted,
                "{address} was refused, and is delivered to"
            );
            if let (Some(hops), Some(route)) = (&self.hops, &route) {
                let before = recipient.deliveries.iter().zip(&recipient.routes);
                self.duplicates += u32::from(!recipient.deliveries.is_empty());
                for (delivery, earlier) in before {
                    let earlier = earlier.as_ref().expect("each came by programs");
                    if let Err(why) = hops.excuse(
                        address,
                        (earlier, delivery.at, delivery.confirmed_at),
                        (route, now),
                    ) {
                        panic!("message {number} was delivered to {address} again: {why}");
                    }
                }
            } else if let Some(before) = recipient.deliveries.last() {
                self.duplicates += 1;
                let forgotten = before.confirmed_at.is_none_or(|confirmed| {
                    self.breaks
                        .iter()
                        .any(|b| b.at >= before.at && b.done_since <= confirmed)
                });
                // What a life had sent may arrive when the next one has sent it, too.
                let was_on_its_way = |b: &Break| when.since <= b.at && b.at <= before.at;
                let excused = forgotten || self.breaks.iter().any(was_on_its_way);
                assert!(
                    excused,
                    "message {number} was delivered to {address} at {}, confirmed at {:?}, \
                     and again at {now}; breaks: {:?}",
                    before.at, before.confirmed_at, self.breaks
                );
            }
            receipt
                .deliveries
                .push((MessageNumber(number), index, recipient.deliveries.len()));
            recipient.deliveries.push(Delivery {
                at: now,
                confirmed_at: None,
            });
            recipient.routes.push(route.clone());
            let parameters = message.parameters;
            let ordinary = !parameters.contains("PRIORITY=") && !parameters.contains("BY=");
            if let (Some(hops), Some(route), true) = (&mut self.hops, &route, ordinary) {
                hops.in_order(route, address, octets.len());
            }
        }
        receipt
    }

    /// The core has the reply to a delivery.
    pub(crate) fn confirm(&mut self, now: u64, receipt: &Receipt) {
        for &(message, recipient, delivery) in &receipt.deliveries {
            let recipient = &mut self.messages[message.0].recipients[recipient];
            recipient.deliveries[delivery].confirmed_at = Some(now);
        }
    }

    /// A notification was delivered.
    fn told(&mut self, to: &[String], octets: &[u8]) {
        self.notifications += 1;
        let text = String::from_utf8_lossy(octets);
        let mut whom = None;
        for line in text.lines() {
            if let Some(address) = line.strip_prefix("Final-Recipient: rfc822;") {
                whom = Some(address.trim().to_owned());
            }
            let Some(action) = line.strip_prefix("Action: ") else {
                continue;
            };
            let address = whom.take().expect("Final-Recipient is before Action");
            let number: usize = address[1..]
                .split('-')
                .next()
                .and_then(|number| number.parse().ok())
                .expect("an address of ours");
            let message = &mut self.messages[number];
            assert_ne!(message.progress, Progress::Unfinished, "told of {number}");
            assert_eq!(
                to,
                std::slice::from_ref(&message.sender),
                "who is told of {address}"
            );
            let recipients = &mut message.recipients;
            let recipient = recipients.iter_mut().find(|r| r.address == address);
            let recipient = recipient.expect("a recipient of the message");
            if action.trim() == "failed" {
                assert_eq!(recipient.wish, Wish::Told, "{address} wants silence");
                recipient.told += 1;
            }
        }
        assert!(whom.is_none(), "a recipient without an action");
    }

    /// The core says that it gave an address up.
    pub(crate) fn give_up(&mut self, address: &str) {
        *self.given_up.entry(address.to_owned()).or_default() += 1;
    }

    /// The core died. `no_room_since`: since then done records could not be written.
    pub(crate) fn crash(&mut self, at: u64, no_room_since: Option<u64>) {
        let delay = DONE_DELAY_MAX.as_nanos() as u64;
        let since = no_room_since.unwrap_or(at);
        self.breaks.push(Break {
            at,
            done_since: since.saturating_sub(delay),
        });
    }

    /// The promise, when all has come to rest. `may_fail`: whether a next hop ever
    /// gave a reason to give up, or time did.
    pub(crate) fn check(&self, may_fail: bool) {
        for (number, message) in self.messages.iter().enumerate() {
            let any = message.recipients.iter().any(|r| !r.deliveries.is_empty());
            match message.progress {
                Progress::Accepted => {}
                Progress::Refused => {
                    assert!(
                        !any || self.disk_failed,
                        "message {number} was refused and delivered"
                    );
                    continue;
                }
                Progress::Unfinished | Progress::Whole => continue,
            }
            // Text of 8 bits may meet a host that does not take it.
            let parameters = message.parameters;
            let may_fail =
                may_fail || parameters.contains("8BITMIME") || parameters.contains("BY=");
            let unreachable = self.given_up.contains_key(&message.sender);
            for recipient in &message.recipients {
                if !recipient.accepted || !recipient.deliveries.is_empty() {
                    continue;
                }
                let address = &recipient.address;
                let given_up = self.given_up.contains_key(address);
                assert!(
                    given_up && may_fail,
                    "message {number} was accepted for {address}, and was not delivered \
                     (given up: {given_up}, with reason: {may_fail})"
                );
                let silent = recipient.wish == Wish::Silence || message.sender.is_empty();
                assert!(
                    recipient.told > 0 || silent || unreachable,
                    "message {number} failed for {address}, and its sender was not told"
                );
            }
        }
    }
}

/// A message with its number in the header, and all that is difficult in text.
fn body(random: &mut Random, number: usize, length: usize, eight_bit: bool) -> Vec<u8> {
    let mut octets = format!("X-Sim: {number}.\r\nSubject: of a world\r\n\r\n").into_bytes();
    let end = octets.len() + length;
    while octets.len() < end {
        match random.below(12) {
            0 => octets.extend_from_slice(b"."),
            1 => octets.extend_from_slice(b".."),
            2 => octets.extend_from_slice(b". dot"),
            3 => {}
            4 => octets.extend_from_slice(b"QUIT"),
            kind => {
                let most = if kind == 5 { 990 } else { 78 };
                let line = random.length(1, most);
                let first = random.next();
                octets.extend((0..line as u64).map(|i| b'!' + ((first ^ (i * 7)) % 90) as u8));
            }
        }
        if eight_bit && random.one_in(3) {
            octets.extend_from_slice("ä€".as_bytes());
        }
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

fn number_in(header: &[u8]) -> Option<usize> {
    let at = memmem::find(header, b"\r\nX-Sim: ")
        .map(|at| at + 9)
        .or_else(|| header.starts_with(b"X-Sim: ").then_some(7))?;
    let digits = &header[at..];
    let end = memchr::memchr(b'.', digits)?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// What stands behind our own trace field.
pub(crate) fn behind_the_trace(octets: &[u8]) -> &[u8] {
    assert!(
        octets.starts_with(b"Received: "),
        "a message without a trace: {}",
        octets[..octets.len().min(80)].escape_ascii()
    );
    let mut rest = octets;
    loop {
        let end = memmem::find(rest, b"\r\n").expect("the trace field ends");
        rest = &rest[end + 2..];
        if !matches!(rest.first(), Some(b' ' | b'\t')) {
            return rest;
        }
    }
}

fn difference(found: &[u8], wanted: &[u8]) -> String {
    let same = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let show = |octets: &[u8]| {
        octets[same..octets.len().min(same + 60)]
            .escape_ascii()
            .to_string()
    };
    format!(
        "{} octets and {} differ from {same} on: found {:?}, sent {:?}",
        found.len(),
        wanted.len(),
        show(found),
        show(wanted)
    )
}
