//! A set of recipient numbers: one word for messages of up to 64 recipients,
//! which are nearly all.

use crate::record::RecipientNumber;
use std::fmt;

const WORD_BITS: u32 = 64;

/// Some recipients of a message.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RecipientSet {
    first: u64,
    /// The words behind the first one; the last one is never zero.
    #[allow(
        clippy::box_collection,
        reason = "a Vec would make the empty set three times as large"
    )]
    more: Option<Box<Vec<u64>>>,
}

impl RecipientSet {
    /// No recipient.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: 0,
            more: None,
        }
    }

    /// Recipients 0 to `count − 1`.
    #[must_use]
    pub fn all(count: u32) -> Self {
        (0..count).map(RecipientNumber).collect()
    }

    /// Adds one.
    pub fn insert(&mut self, recipient: RecipientNumber) {
        let word = (recipient.0 / WORD_BITS) as usize;
        let bit = 1 << (recipient.0 % WORD_BITS);
        if word == 0 {
            self.first |= bit;
        } else {
            let more = self.more.get_or_insert_default();
            if more.len() < word {
                more.resize(word, 0);
            }
            more[word - 1] |= bit;
        }
    }

    /// Whether it is in.
    #[must_use]
    pub fn contains(&self, recipient: RecipientNumber) -> bool {
        let word = self.word((recipient.0 / WORD_BITS) as usize);
        word >> (recipient.0 % WORD_BITS) & 1 != 0
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words().map(u64::count_ones).sum()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_none()
    }

    /// Whether recipients 0 to `count − 1` are all in.
    #[must_use]
    pub fn covers(&self, count: u32) -> bool {
        let whole_words = (count / WORD_BITS) as usize;
        let rest = (1u64 << (count % WORD_BITS)) - 1;
        (0..whole_words).all(|index| self.word(index) == u64::MAX)
            && self.word(whole_words) & rest == rest
    }

    /// Those that are in, ascending.
    pub fn iter(&self) -> impl Iterator<Item = RecipientNumber> + '_ {
        (0..)
            .step_by(WORD_BITS as usize)
            .zip(self.words())
            .flat_map(|(base, mut word)| {
                std::iter::from_fn(move || {
                    (word != 0).then(|| {
                        let bit = word.trailing_zeros();
                        word &= word - 1;
                        RecipientNumber(base + bit)
                    })
                })
            })
    }

    /// Adds all of another set.
    pub fn insert_all(&mut self, other: &Self) {
        self.first |= other.first;
        if let Some(theirs) = &other.more {
            let ours = self.more.get_or_insert_default();
            if ours.len() < theirs.len() {
                ours.resize(theirs.len(), 0);
            }
            ours.iter_mut()
                .zip(theirs.iter())
                .for_each(|(a, b)| *a |= b);
        }
    }

    /// Takes all of another set out.
    pub fn remove_all(&mut self, other: &Self) {
        self.first &= !other.first;
        if let (Some(ours), Some(theirs)) = (&mut self.more, &other.more) {
            ours.iter_mut()
                .zip(theirs.iter())
                .for_each(|(a, b)| *a &= !b);
            while ours.last() == Some(&0) {
                ours.pop();
            }
            if ours.is_empty() {
                self.more = None;
            }
        }
    }

    fn word(&self, index: usize) -> u64 {
        match (index, &self.more) {
            (0, _) => self.first,
            (_, Some(more)) => more.get(index - 1).copied().unwrap_or(0),
            (_, None) => 0,
        }
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let more = self.more.iter().flat_map(|more| more.iter().copied());
        std::iter::once(self.first).chain(more)
    }
}

impl FromIterator<RecipientNumber> for RecipientSet {
    fn from_iter<I: IntoIterator<Item = RecipientNumber>>(recipients: I) -> Self {
        let mut set = Self::new();
        recipients
            .into_iter()
            .for_each(|recipient| set.insert(recipient));
        set
    }
}

impl fmt::Debug for RecipientSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|number| number.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All pairs of sets over numbers at the edges of words.
    #[test]
    fn sets_do_what_sets_do() {
        const NUMBERS: [u32; 7] = [0, 1, 63, 64, 127, 128, 1000];
        let subset = |bits: u32| -> BTreeSet<u32> {
            (0..NUMBERS.len())
                .filter(|i| bits >> i & 1 != 0)
                .map(|i| NUMBERS[i])
                .collect()
        };
        let set = |numbers: &BTreeSet<u32>| -> RecipientSet {
            numbers
                .iter()
                .map(|&number| RecipientNumber(number))
                .collect()
        };
        let check = |got: &RecipientSet, expected: &BTreeSet<u32>| {
            let members: Vec<u32> = got.iter().map(|number| number.0).collect();
            assert_eq!(members, expected.iter().copied().collect::<Vec<_>>());
            assert_eq!(got.len() as usize, expected.len());
            assert_eq!(got.is_empty(), expected.is_empty());
            assert_eq!(got, &set(expected), "one set has one form");
            for number in NUMBERS.iter().flat_map(|&number| [number, number + 1]) {
                assert_eq!(
                    got.contains(RecipientNumber(number)),
                    expected.contains(&number)
                );
            }
        };
        for a in 0..1 << NUMBERS.len() {
            for b in 0..1 << NUMBERS.len() {
                let (a, b) = (subset(a), subset(b));
                let mut union = set(&a);
                union.insert_all(&set(&b));
                check(&union, &a.union(&b).copied().collect());
                let mut difference = set(&a);
                difference.remove_all(&set(&b));
                check(&difference, &a.difference(&b).copied().collect());
            }
        }
        for count in [0, 1, 63, 64, 65, 127, 128, 129, 1000] {
            let all = RecipientSet::all(count);
            for other in 0..1100 {
                assert_eq!(all.covers(other), other <= count, "{other} of {count}");
            }
        }
        assert!(!set(&[1, 63, 64].into()).covers(1));
        check(&RecipientSet::all(65), &(0..65).collect());
        check(&RecipientSet::all(0), &BTreeSet::new());
    }
}
