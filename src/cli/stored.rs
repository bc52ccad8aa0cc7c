//! Messages read from the segment files of a spool, and written as `.eml`.
//!
//! Beside a running server a message may be finished, or be carried to another segment,
//! between the question where it is and the look there: then the look finds none, since
//! every record knows its segment and its use of the file, and the caller asks again.
//!
//! Invariants:
//! - Nothing is written to the spool.
//! - A file has its last name only when all of it is written, and only if the octets are
//!   those that were accepted.
//! - At most [`LOADED_MAX`] segments are in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use spool_format::{BodyForm, Location, SegmentHeader, SegmentPlace};

use super::spool::Log;
use super::{Exit, Failure, eml, shown};
use crate::mail::QueueId;
use crate::spool::message::{self, ReadError, SegmentSource, StoredMessage, View};

/// Segments in memory at once: that of a seal, and one before it where the message began.
const LOADED_MAX: usize = 2;

/// A segment file in memory.
struct Loaded {
    place: SegmentPlace,
    header: SegmentHeader,
    octets: Vec<u8>,
}

/// The spool's files.
pub(super) struct Store {
    logs: Vec<Log>,
    /// The one that was used last is at the end.
    loaded: Vec<Loaded>,
}

impl SegmentSource for Store {
    fn view(&self, segment: SegmentPlace) -> Option<View<'_>> {
        let loaded = self.loaded.iter().find(|loaded| loaded.place == segment)?;
        Some(View {
            bytes: &loaded.octets,
            epoch: loaded.header.epoch,
        })
    }
}

impl Store {
    pub(super) fn new(logs: Vec<Log>) -> Self {
        Self {
            logs,
            loaded: Vec::new(),
        }
    }

    /// Reads the message that is sealed there; its body is not looked at.
    ///
    /// # Errors
    /// It is not there (any more), or not whole.
    fn message(&mut self, seal: Location) -> Result<StoredMessage, String> {
        // A file that is written to has more than when it was loaded.
        if StoredMessage::read(self, seal).is_err() {
            self.loaded.retain(|l| l.place != seal.segment_place());
        }
        self.reading(|store| StoredMessage::read(store, seal))
    }

    /// Reads, and loads the segment that is missing for it, as often as one is.
    fn reading<T>(
        &mut self,
        mut read: impl FnMut(&Self) -> Result<T, ReadError>,
    ) -> Result<T, String> {
        let mut loaded = None;
        loop {
            match read(self) {
                Err(ReadError::NoSegment(place)) if loaded != Some(place) => {
                    self.load(place)?;
                    loaded = Some(place);
                }
                other => return other.map_err(|error| error.to_string()),
            }
        }
    }

    fn load(&mut self, place: SegmentPlace) -> Result<(), String> {
        let log = (self.logs.iter())
            .find(|log| log.place(place.segment) == place)
            .ok_or_else(|| format!("{place} is not in this spool"))?;
        let octets = log
            .segment_octets(place.segment)
            .map_err(|failure| failure.to_string())?
            .ok_or_else(|| format!("the server has let go of {place}"))?;
        let header =
            SegmentHeader::decode(&octets, place).map_err(|fault| format!("{place}: {fault}"))?;
        if self.loaded.len() >= LOADED_MAX {
            self.loaded.remove(0);
        }
        self.loaded.push(Loaded {
            place,
            header,
            octets,
        });
        Ok(())
    }

    /// Writes a body as it was accepted, without doubled dots.
    fn write_body(
        &mut self,
        stored: &StoredMessage,
        seal: Location,
        out: &mut dyn Write,
    ) -> Result<(), String> {
        let mut checksum = spool_format::Checksum::EMPTY;
        let mut plain = Plain {
            out,
            at_line_start: true,
            doubled: stored.body.form == BodyForm::Stuffed,
        };
        for &extent in &stored.extents {
            // Segment after segment: a message may lie in more than are loaded.
            self.reading(|store| message::body(store, seal, extent).map(|_| ()))?;
            let octets = message::body(self, seal, extent).map_err(|error| error.to_string())?;
            checksum = checksum.append(octets);
            plain
                .write(octets)
                .map_err(|error| format!("writing failed: {error}"))?;
        }
        if checksum == stored.checksum {
            Ok(())
        } else {
            Err("its body is not the one that was accepted".to_owned())
        }
    }
}

/// Takes away the dots that DATA has doubled.
struct Plain<'a> {
    out: &'a mut dyn Write,
    at_line_start: bool,
    doubled: bool,
}

impl Plain<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if !self.doubled {
            return self.out.write_all(octets);
        }
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let dot = self.at_line_start && line.starts_with(b".");
            self.out.write_all(&line[usize::from(dot)..])?;
            self.at_line_start = line.ends_with(b"\n");
        }
        Ok(())
    }
}

/// Where messages are written to.
pub(super) struct Export<'a> {
    pub(super) store: Store,
    /// Without one: standard output.
    pub(super) directory: Option<&'a Path>,
}

impl Export<'_> {
    /// The directory is made, if there is to be one.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        let Some(directory) = self.directory else {
            return Ok(());
        };
        fs::create_dir_all(directory).map_err(|error| {
            let what = format!("making the directory {} failed: {error}", shown(directory));
            Failure::new(Exit::Failed, what)
        })
    }

    /// Writes one message. Gives the file, if it is one.
    ///
    /// # Errors
    /// Why it could not be read or written; without its last name on the disk.
    pub(super) fn one(
        &mut self,
        id: QueueId,
        seal: Location,
        waiting: &[u32],
        held: bool,
        out: &mut dyn Write,
    ) -> Result<Option<PathBuf>, String> {
        let mut stored = self.store.message(seal)?;
        if stored.queue_id != id {
            return Err(format!("{seal} is another message's"));
        }
        let all = std::mem::take(&mut stored.envelope.recipients);
        let is_waiting = |index: usize| u32::try_from(index).is_ok_and(|i| waiting.contains(&i));
        let left = all.into_iter().enumerate();
        stored.envelope.recipients = left
            .filter(|(i, _)| is_waiting(*i))
            .map(|(_, r)| r)
            .collect();
        let write = |store: &mut Store, out: &mut dyn Write| {
            eml::write(out, id, stored.arrival, &stored.envelope, held)
                .map_err(|error| format!("writing failed: {error}"))?;
            store.write_body(&stored, seal, out)
        };
        let Some(directory) = self.directory else {
            write(&mut self.store, out)?;
            return Ok(None);
        };
        let path = directory.join(format!("{id}.eml"));
        let part = directory.join(format!("{id}.eml.part"));
        let made = make(&part).and_then(|file| {
            let mut file = BufWriter::new(file);
            write(&mut self.store, &mut file)?;
            file.flush()
                .map_err(|error| format!("writing failed: {error}"))?;
            fs::rename(&part, &path).map_err(|error| format!("naming the file failed: {error}"))
        });
        if made.is_err() {
            let _ = fs::remove_file(&part);
        }
        made.map(|()| Some(path))
    }
}

/// Mail is nobody else's business.
fn make(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .map_err(|error| format!("making {} failed: {error}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_dots_are_single_again_in_all_cuts() {
        let stuffed = b"..a\r\n.b\r\n...\r\nc..\r\n";
        let expected = b".a\r\nb\r\n..\r\nc..\r\n";
        for first in 0..=stuffed.len() {
            for second in first..=stuffed.len() {
                let mut out = Vec::new();
                let mut plain = Plain {
                    out: &mut out,
                    at_line_start: true,
                    doubled: true,
                };
                for piece in [
                    &stuffed[..first],
                    &stuffed[first..second],
                    &stuffed[second..],
                ] {
                    plain.write(piece).unwrap();
                }
                assert_eq!(out, expected, "{first} {second}");
            }
        }
    }
}
