//! What is in the mailbox: the answers to LIST and UIDL.

use std::fmt;

/// A message in this session (RFC 1939 §3). Means nothing in the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageNumber(pub u32);

impl fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest unique-id that we take. RFC 1939 §7 allows 70 octets; servers that write
/// more are about.
pub const UID_BYTES_MAX: usize = 128;

/// A unique-id (RFC 1939 §7): 1 to [`UID_BYTES_MAX`] octets 0x21 to 0x7E.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Uid(Box<str>);

impl Uid {
    /// `None` if it is none.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        let fits = (1..=UID_BYTES_MAX).contains(&octets.len());
        if !fits || !octets.iter().all(|octet| (0x21..=0x7e).contains(octet)) {
            return None;
        }
        std::str::from_utf8(octets)
            .ok()
            .map(|text| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message in the mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// By which it is asked for.
    pub number: MessageNumber,
    /// As LIST said; servers may count line ends as one octet.
    pub octets: u64,
    /// As UIDL said. `None` if the server has no UIDL, or gave the same to two.
    pub uid: Option<Uid>,
}

/// Most messages of one session. The others come in the next one, since these will be
/// gone then, or known.
pub(super) const ENTRIES_MAX: usize = 100_000;

/// Gathers the lines of both answers.
#[derive(Debug, Default)]
pub(super) struct Listing {
    sizes: Vec<(MessageNumber, u64)>,
    uids: Vec<(MessageNumber, Uid)>,
}

impl Listing {
    /// A line of the answer to LIST. One that is none is skipped.
    pub(super) fn size_line(&mut self, line: &[u8]) {
        if self.sizes.len() < ENTRIES_MAX
            && let Some((number, rest)) = numbered(line)
            && let Some(octets) = first_word(rest).and_then(decimal)
        {
            self.sizes.push((number, octets));
        }
    }

    /// A line of the answer to UIDL. One that is none is skipped.
    pub(super) fn uid_line(&mut self, line: &[u8]) {
        if self.uids.len() < ENTRIES_MAX
            && let Some((number, rest)) = numbered(line)
            && let Some(uid) = first_word(rest).and_then(Uid::new)
        {
            self.uids.push((number, uid));
        }
    }

    /// What both said together, by number, each number once. What UIDL alone names is
    /// no message.
    pub(super) fn entries(mut self) -> Vec<Entry> {
        self.sizes.sort_unstable();
        self.sizes.dedup_by_key(|(number, _)| *number);
        // A unique-id that two messages have would let one of them pass for the other.
        self.uids.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let mut single: Vec<(MessageNumber, Uid)> = Vec::with_capacity(self.uids.len());
        for run in self.uids.chunk_by(|a, b| a.1 == b.1) {
            if let [only] = run {
                single.push(only.clone());
            }
        }
        single.sort_unstable();
        single.dedup_by_key(|(number, _)| *number);
        let mut uids = single.into_iter().peekable();
        let entries = self.sizes.into_iter().map(|(number, octets)| {
            while uids.next_if(|(other, _)| *other < number).is_some() {}
            let uid = uids
                .next_if(|(other, _)| *other == number)
                .map(|(_, uid)| uid);
            Entry {
                number,
                octets,
                uid,
            }
        });
        entries.collect()
    }
}

fn numbered(line: &[u8]) -> Option<(MessageNumber, &[u8])> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    let number = u32::try_from(decimal(&line[..end])?).ok()?;
    (number > 0).then_some((MessageNumber(number), &line[end..]))
}

fn first_word(text: &[u8]) -> Option<&[u8]> {
    text.split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answers_together() {
        let check = |sizes: &[&str], uids: &[&str], expected: &[(u32, u64, Option<&str>)]| {
            let mut listing = Listing::default();
            sizes
                .iter()
                .for_each(|line| listing.size_line(line.as_bytes()));
            uids.iter()
                .for_each(|line| listing.uid_line(line.as_bytes()));
            let entries = listing.entries();
            let got: Vec<_> = entries
                .iter()
                .map(|e| (e.number.0, e.octets, e.uid.as_ref().map(Uid::as_str)))
                .collect();
            assert_eq!(got, expected, "{sizes:?} {uids:?}");
        };
        check(&[], &[], &[]);
        check(
            &["1 120", "2 200 more"],
            &["1 whqtswO00WBw418f9t5JxYwZ", "2 QhdPYR:00WBw1Ph7x7"],
            &[
                (1, 120, Some("whqtswO00WBw418f9t5JxYwZ")),
                (2, 200, Some("QhdPYR:00WBw1Ph7x7")),
            ],
        );
        // Without UIDL; out of order; a number twice.
        check(&["9 1", "3 5", "3 6"], &[], &[(3, 5, None), (9, 1, None)]);
        // One of two that have the same unique-id may not pass for the other.
        check(
            &["1 1", "2 2", "3 3"],
            &["1 a", "2 a", "3 b", "4 c"],
            &[(1, 1, None), (2, 2, None), (3, 3, Some("b"))],
        );
        // What is no line of either.
        check(
            &[
                "0 1",
                "-1 1",
                "1",
                "x 1",
                "1 y",
                "4294967296 1",
                "2 99999999999999999999",
            ],
            &["1 \u{7f}", "1 ", ""],
            &[],
        );
        let long = format!("1 {}", "u".repeat(UID_BYTES_MAX + 1));
        check(&["1 1"], &[&long], &[(1, 1, None)]);
    }

    #[test]
    fn a_listing_has_an_end() {
        let mut listing = Listing::default();
        for number in 1..=ENTRIES_MAX + 10 {
            listing.size_line(format!("{number} 1").as_bytes());
            listing.uid_line(format!("{number} u{number}").as_bytes());
        }
        assert_eq!(listing.entries().len(), ENTRIES_MAX);
    }
}
