//! Notes of other parts of the program: the newest of each key, and where it is.
//!
//! A note is small state that is committed together with a message, or by itself: which
//! messages of a POP3 mailbox were taken. The newest note of a key counts, and so has
//! to outlive the segments with older ones; a note that takes another back (without a
//! value) is forgotten when all those are gone.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use spool_format::{NoteField, NoteRecord, Record, SegmentPlace, Stamp};

use super::super::commit::{AppendError, BatchNumber, Urgency};
use super::Log;
use crate::time::Now;

/// The newest note of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub(super) stamp: Stamp,
    pub(super) segment: SegmentPlace,
    pub(super) value: Option<Box<[u8]>>,
    /// With which batch it came; none if it was found at the start.
    batch: Option<BatchNumber>,
    /// Segments that may hold older notes of this key.
    older: SmallVec<[SegmentPlace; 1]>,
}

/// Tag and key.
pub(super) type Name = (u16, Box<[u8]>);

/// All notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// In order, so that the same world runs the same way each time.
    newest: BTreeMap<Name, Note>,
}

impl Notes {
    /// A note was appended, or appended again with its old stamp. Gives the segment that
    /// had the newest one of this key before.
    pub(super) fn stored(
        &mut self,
        name: Name,
        stamp: Stamp,
        segment: SegmentPlace,
        value: Option<&[u8]>,
        batch: BatchNumber,
    ) -> Option<SegmentPlace> {
        let mut older: SmallVec<[SegmentPlace; 1]> = SmallVec::new();
        let before = self.newest.remove(&name);
        let mut batch = Some(batch);
        let away = before.map(|note| {
            if note.stamp == stamp {
                // Carried: it says what it said, and the one before says so, too.
                batch = note.batch;
            }
            older = note.older;
            older.push(note.segment);
            note.segment
        });
        older.sort_unstable();
        older.dedup();
        older.retain(|&mut place| place != segment);
        let note = Note {
            stamp,
            segment,
            value: value.map(Into::into),
            batch,
            older,
        };
        self.newest.insert(name, note);
        away
    }

    /// A note was found at the start.
    pub(super) fn found(
        &mut self,
        name: Name,
        stamp: Stamp,
        segment: SegmentPlace,
        value: Option<&[u8]>,
        older: SmallVec<[SegmentPlace; 1]>,
    ) {
        let note = Note {
            stamp,
            segment,
            value: value.map(Into::into),
            batch: None,
            older,
        };
        self.newest.insert(name, note);
    }

    /// What is said of a key.
    pub(super) fn get(&self, tag: u16, key: &[u8]) -> Option<&Note> {
        self.newest.get(&(tag, Box::from(key)))
    }

    /// All notes with a tag that say something.
    pub(super) fn of_tag(&self, tag: u16) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.newest
            .iter()
            .filter(move |((t, _), _)| *t == tag)
            .filter_map(|((_, key), note)| Some((&key[..], note.value.as_deref()?)))
    }

    /// The notes with a tag whose keys begin so, and that say something, by key.
    pub(super) fn of_prefix<'a>(
        &'a self,
        tag: u16,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let from = (tag, Box::from(prefix));
        self.newest
            .range(from..)
            .take_while(move |((t, key), _)| *t == tag && key.starts_with(prefix))
            .filter_map(|((_, key), note)| Some((&key[..], note.value.as_deref()?)))
    }

    /// What those of [`Notes::of_prefix`] say that came with a batch behind `durable`.
    fn behind<'a>(
        &'a self,
        tag: u16,
        prefix: &'a [u8],
        durable: BatchNumber,
    ) -> impl Iterator<Item = &'a [u8]> {
        let from = (tag, Box::from(prefix));
        self.newest
            .range(from..)
            .take_while(move |((t, key), _)| *t == tag && key.starts_with(prefix))
            .filter(move |(_, note)| note.batch > Some(durable))
            .filter_map(|(_, note)| note.value.as_deref())
    }

    /// Names of the notes that are newest in a segment.
    pub(super) fn in_segment(&self, segment: SegmentPlace) -> Vec<Name> {
        let here = self.newest.iter().filter(|(_, n)| n.segment == segment);
        here.map(|(name, _)| name.clone()).collect()
    }

    /// A segment is gone. Gives the segments of the notes that need not be kept for it
    /// any more, one each.
    pub(super) fn segment_gone(&mut self, segment: SegmentPlace) -> Vec<SegmentPlace> {
        let mut forgotten = Vec::new();
        self.newest.retain(|_, note| {
            note.older.retain(|&mut place| place != segment);
            let keep = note.value.is_some() || !note.older.is_empty();
            if !keep {
                forgotten.push(note.segment);
            }
            keep
        });
        forgotten
    }
}

impl Log {
    /// Stores a note by itself; it is durable with the next batch.
    ///
    /// # Errors
    /// The log is closed, or the note is too large.
    pub fn note(&mut self, now: Now, note: NoteField<'_>) -> Result<(), AppendError> {
        let stamp = self.next_stamp(now);
        let record = NoteRecord {
            stamp,
            tag: note.tag,
            key: note.key,
            value: note.value,
        };
        let appended = self.append(now, Urgency::Rider, |seat, out| record.encode(seat, out))?;
        let place = self.place(appended.place.segment);
        self.note_stored(stamp, place, note.tag, note.key, note.value, appended.batch);
        Ok(())
    }

    /// All notes with this tag: keys and values.
    pub fn notes(&self, tag: u16) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.notes.of_tag(tag)
    }

    /// All notes with this tag whose keys begin with `prefix`: keys and values, by key.
    pub fn notes_of<'a>(
        &'a self,
        tag: u16,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.notes.of_prefix(tag, prefix)
    }

    /// What those of [`Log::notes_of`] say that are not on stable storage: it is so if nothing
    /// fails. Where the log is closed, it never will be.
    pub fn awaited_notes<'a>(
        &'a self,
        tag: u16,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        self.notes.behind(tag, prefix, self.commit.durable())
    }

    /// What the newest note of this key says.
    #[must_use]
    pub fn note_value(&self, tag: u16, key: &[u8]) -> Option<&[u8]> {
        self.notes.get(tag, key)?.value.as_deref()
    }

    pub(super) fn note_stored(
        &mut self,
        stamp: Stamp,
        place: SegmentPlace,
        tag: u16,
        key: &[u8],
        value: Option<&[u8]>,
        batch: BatchNumber,
    ) {
        let name = (tag, key.into());
        let change = self.notes.stored(name, stamp, place, value, batch);
        self.reclaim.note_here(place);
        if let Some(away) = change {
            self.reclaim.note_away(away, batch);
        }
    }
}
