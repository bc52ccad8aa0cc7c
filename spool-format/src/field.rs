//! The fields of a payload: how numbers, texts and lists are written.
//!
//! Numbers are little-endian and of fixed width. A text or octet string is its
//! length in four octets and then its octets; where one may be absent, the length
//! `u32::MAX` says so. A list is its count in four octets and then its elements.
//! There is exactly one way to write a value, so that a payload that decodes
//! encodes to the same octets again.
//!
//! What this module does not do: it knows no record, and no meaning of a field.

use std::fmt;
use std::marker::PhantomData;

/// The length that says "there is none".
const ABSENT: u32 = u32::MAX;

/// Why a payload cannot be understood although its checksum is right: it was
/// written by a newer program, or by a faulty one. It is reported, never guessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The payload is over in the middle of a field.
    #[error("the record ends inside its field \"{field}\"")]
    Ends {
        /// Which field.
        field: &'static str,
    },
    /// A text is not UTF-8.
    #[error("the field \"{field}\" is not UTF-8 text")]
    NotText {
        /// Which field.
        field: &'static str,
    },
    /// A value that this version does not know.
    #[error("the field \"{field}\" holds a value that this version does not know")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// Two fields contradict each other: a sum, an order, a number of a recipient.
    #[error("the fields of the record contradict one another")]
    Contradiction,
    /// The fields are over before the payload is.
    #[error("{octets} octets follow the last field of the record")]
    Trailing {
        /// How many.
        octets: usize,
    },
}

/// Where fields are written: into a buffer, or only counted.
pub trait Sink {
    /// Appends octets.
    fn put(&mut self, octets: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// Counts what would be written.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.0 += octets.len();
    }
}

pub(crate) trait SinkExt: Sink {
    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    /// Longer octet strings than the payload limit are refused as a whole when
    /// the payload is counted, so the length may saturate here.
    #[inline]
    fn octets(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(ABSENT - 1));
        self.put(value);
    }
    #[inline]
    fn octets_option(&mut self, value: Option<&[u8]>) {
        match value {
            Some(octets) => self.octets(octets),
            None => self.u32(ABSENT),
        }
    }
    #[inline]
    fn text(&mut self, value: &str) {
        self.octets(value.as_bytes());
    }
    #[inline]
    fn text_option(&mut self, value: Option<&str>) {
        self.octets_option(value.map(str::as_bytes));
    }
}

impl<S: Sink + ?Sized> SinkExt for S {}

/// Takes fields from the front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Everything that is left.
    pub(crate) fn take_rest(&mut self, field: &'static str) -> &'a [u8] {
        Self::reads(field, "rest");
        std::mem::take(&mut self.rest)
    }

    /// # Errors
    /// [`DecodeError::Trailing`].
    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                octets: self.rest.len(),
            })
        }
    }

    /// Which fields are read is compared with FORMAT.md by a test.
    #[inline]
    fn reads(field: &'static str, kind: &'static str) {
        #[cfg(test)]
        tests::FIELDS.with_borrow_mut(|fields| fields.push((field, kind)));
        let _ = (field, kind);
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Ends { field })?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Self::reads(field, "u8");
        Ok(self.array::<1>(field)?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Self::reads(field, "u16");
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Self::reads(field, "u32");
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Self::reads(field, "u64");
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    #[inline]
    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Self::reads(field, "i64");
        Ok(i64::from_le_bytes(self.array(field)?))
    }

    #[inline]
    pub(crate) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (octets, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Ends { field })?;
        self.rest = rest;
        Ok(octets)
    }

    #[inline]
    pub(crate) fn octets_option(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        Self::reads(field, "octets?");
        self.length_and_octets(field)
    }

    #[inline]
    pub(crate) fn octets(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        Self::reads(field, "octets");
        self.length_and_octets(field)?
            .ok_or(DecodeError::Value { field })
    }

    #[inline]
    pub(crate) fn text_option(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a str>, DecodeError> {
        Self::reads(field, "text?");
        self.length_and_text(field)
    }

    #[inline]
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        Self::reads(field, "text");
        self.length_and_text(field)?
            .ok_or(DecodeError::Value { field })
    }

    #[inline]
    fn length_and_octets(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        match u32::from_le_bytes(self.array(field)?) {
            ABSENT => Ok(None),
            length => Ok(Some(self.take(length as usize, field)?)),
        }
    }

    #[inline]
    fn length_and_text(&mut self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        match self.length_and_octets(field)? {
            Some(octets) => match std::str::from_utf8(octets) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(DecodeError::NotText { field }),
            },
            None => Ok(None),
        }
    }

    pub(crate) fn list<T: Element<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<List<'a, T>, DecodeError> {
        Self::reads(field, "list");
        let count = u32::from_le_bytes(self.array(field)?);
        let begin = self.rest;
        // Every element takes at least one octet, so a wrong count ends here
        // after at most as many steps as the payload has octets.
        for _ in 0..count {
            T::read(self)?;
        }
        let octets = &begin[..begin.len() - self.rest.len()];
        Ok(List {
            source: Source::Octets { octets, count },
        })
    }
}

/// What stands in a [`List`].
pub trait Element<'a>: Copy + 'a {
    /// Writes one; at least one octet.
    fn write<S: Sink>(&self, sink: &mut S);

    /// Reads one.
    ///
    /// # Errors
    /// Why it is none.
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// A list in a record: a slice on the way to the disk, checked octets on the way
/// back. Two lists are equal if their elements are.
#[derive(Clone, Copy)]
pub struct List<'a, T> {
    source: Source<'a, T>,
}

#[derive(Clone, Copy)]
enum Source<'a, T> {
    Slice(&'a [T]),
    Octets { octets: &'a [u8], count: u32 },
}

impl<'a, T> List<'a, T> {
    /// A list to be written.
    #[must_use]
    pub const fn new(slice: &'a [T]) -> Self {
        Self {
            source: Source::Slice(slice),
        }
    }

    /// How many elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.source {
            Source::Slice(slice) => slice.len(),
            Source::Octets { count, .. } => count as usize,
        }
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Element<'a>> List<'a, T> {
    /// The elements in their order.
    #[must_use]
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter {
            source: self.source,
            element: PhantomData,
        }
    }

    pub(crate) fn write<S: Sink>(&self, sink: &mut S) {
        sink.u32(u32::try_from(self.len()).unwrap_or(u32::MAX));
        match self.source {
            Source::Slice(slice) => slice.iter().for_each(|element| element.write(sink)),
            Source::Octets { octets, .. } => sink.put(octets),
        }
    }
}

impl<'a, T> Default for List<'a, T> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl<'a, T: Element<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Element<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Element<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

/// Yields the elements of a [`List`].
#[derive(Clone)]
pub struct ListIter<'a, T> {
    source: Source<'a, T>,
    element: PhantomData<T>,
}

impl<'a, T: Element<'a>> Iterator for ListIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.source {
            Source::Slice(slice) => {
                let (first, rest) = slice.split_first()?;
                *slice = rest;
                Some(*first)
            }
            Source::Octets { octets, count } => {
                *count = count.checked_sub(1)?;
                let mut reader = Reader::new(octets);
                // All elements were read once when the list was decoded.
                let element = T::read(&mut reader).ok()?;
                *octets = reader.rest();
                Some(element)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = match self.source {
            Source::Slice(slice) => slice.len(),
            Source::Octets { count, .. } => count as usize,
        };
        (count, Some(count))
    }
}

impl<'a, T: Element<'a>> ExactSizeIterator for ListIter<'a, T> {}

/// One bit of an octet of flags.
pub(crate) const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Declares an enum that is one octet on disk, with the words for the operator.
macro_rules! octet_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($field:literal) {
            $($(#[$variant_meta:meta])* $variant:ident = $octet:literal, $words:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $octet,)+
        }

        impl $name {
            /// Every value, in the order of its octets.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The octet on disk.
            #[must_use]
            pub const fn octet(self) -> u8 {
                self as u8
            }

            /// From the octet on disk.
            #[must_use]
            pub const fn from_octet(octet: u8) -> Option<Self> {
                match octet {
                    $($octet => Some(Self::$variant),)+
                    _ => None,
                }
            }

            #[allow(dead_code)]
            pub(crate) fn read(
                reader: &mut crate::field::Reader<'_>,
            ) -> Result<Self, crate::field::DecodeError> {
                Self::from_octet(reader.u8($field)?)
                    .ok_or(crate::field::DecodeError::Value { field: $field })
            }
        }

        /// For the operator.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $words,)+
                })
            }
        }
    };
}

pub(crate) use octet_enum;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    thread_local! {
        /// Every field that was read, with its type.
        pub(crate) static FIELDS: RefCell<Vec<(&'static str, &'static str)>> =
            const { RefCell::new(Vec::new()) };
    }
}
