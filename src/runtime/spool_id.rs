//! Which spool a directory holds.
//!
//! The id is drawn when the directory is made. It stands in a file of its own, and in the
//! header of each segment, so that a segment of another spool is not taken for one of
//! ours. The file says nothing that the segments do not say: where it is lost, damaged,
//! or contradicts all of them, they are believed, and it is written anew. A spool is not
//! given up for 33 octets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use spool_format::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentPlace, SpoolUuid};

use crate::spool::segment::Directory;

/// The file in the spool directory.
const FILE: &str = "spool-id";

/// What was found out.
#[derive(PartialEq, Eq, Debug)]
pub struct Identified {
    /// The id.
    pub spool: SpoolUuid,
    /// What the operator is to be told, if the file was not as it should be.
    pub trouble: Option<String>,
}

/// Finds out whose the spool in `path` is; `directories` are those of its logs, locked.
///
/// # Errors
/// There is no segment to say so, and the file cannot be written.
pub fn identify<'a>(
    path: &Path,
    directories: impl IntoIterator<Item = &'a Arc<Directory>>,
) -> io::Result<Identified> {
    let file = path.join(FILE);
    let read = read(&file);
    let mut votes: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    for directory in directories {
        // A directory that cannot be listed is told of when it is read for its mail.
        let segments = directory.list().map(|listing| listing.segments);
        for segment in segments.unwrap_or_default() {
            let Some(spool) = spool_of(directory, segment) else {
                continue;
            };
            // The usual case: the first header says the same as the file.
            if let Ok(Some(written)) = &read
                && *written == spool
            {
                return Ok(Identified {
                    spool,
                    trouble: None,
                });
            }
            *votes.entry(spool.0).or_default() += 1;
        }
    }
    let most = votes.iter().max_by_key(|(_, count)| **count);
    let what = match (&read, most) {
        (Ok(Some(spool)), None) => {
            return Ok(Identified {
                spool: *spool,
                trouble: None,
            });
        }
        (Ok(None), None) => {
            let spool = draw();
            write(&file, spool)?;
            return Ok(Identified {
                spool,
                trouble: None,
            });
        }
        (Err(what), None) => {
            let spool = draw();
            write(&file, spool)?;
            return Ok(Identified {
                spool,
                trouble: Some(format!(
                    "{what}; there is no segment yet, so that a new one was written"
                )),
            });
        }
        (Ok(None), Some(_)) => format!("{} is lost", file.display()),
        (Ok(Some(_)), Some(_)) => {
            format!("{} names another spool than every segment", file.display())
        }
        (Err(what), Some(_)) => what.clone(),
    };
    let (spool, count) = most.expect("the other cases have returned");
    let spool = SpoolUuid(*spool);
    let next = match write(&file, spool) {
        Ok(()) => "and the file was written anew".to_owned(),
        Err(error) => format!("writing the file anew failed ({error}), tried at the next start"),
    };
    let trouble = Some(format!(
        "{what}; the id in the headers of {count} segments is used, {next}"
    ));
    Ok(Identified { spool, trouble })
}

/// What the file says; `None` if there is none.
fn read(file: &Path) -> Result<Option<SpoolUuid>, String> {
    match std::fs::read(file) {
        Ok(octets) => {
            let text = std::str::from_utf8(&octets).ok().map(str::trim);
            let digits = text.filter(|text| text.len() == 32);
            let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
            match number {
                Some(number) => Ok(Some(SpoolUuid(number.to_be_bytes()))),
                None => Err(format!(
                    "{} is damaged: it does not hold 32 hexadecimal digits",
                    file.display()
                )),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("reading {} failed ({error})", file.display())),
    }
}

fn write(file: &Path, spool: SpoolUuid) -> io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{:032x}\n", u128::from_be_bytes(spool.0)))?;
    std::fs::File::open(&new)?.sync_all()?;
    std::fs::rename(&new, file)?;
    if let Some(directory) = file.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn draw() -> SpoolUuid {
    let number = u128::from(super::serve::random()) << 64 | u128::from(super::serve::random());
    SpoolUuid(number.to_be_bytes())
}

fn spool_of(directory: &Directory, segment: SegmentId) -> Option<SpoolUuid> {
    let place = SegmentPlace {
        log: directory.log(),
        segment,
    };
    let mut header = Vec::new();
    directory
        .read_segment(segment, SEGMENT_HEADER_BYTES, &mut header)
        .ok()?;
    let header = SegmentHeader::decode(&header, place).ok()?;
    Some(header.spool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::segment::Fill;
    use spool_format::{Epoch, LogId, SEGMENT_BYTES_MIN};

    const OURS: SpoolUuid = SpoolUuid([0xAB; 16]);
    const OTHER: SpoolUuid = SpoolUuid([0xCD; 16]);

    /// What comes of a file with this text beside segments of these spools; what the file
    /// says then is the same.
    fn check(text: Option<&[u8]>, segments: &[SpoolUuid], expected: SpoolUuid, told: &str) {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        let log = path.join("log-00");
        let directory = Arc::new(Directory::open(&log, LogId(0)).expect("it can be made"));
        for (number, &spool) in (1..).zip(segments) {
            let header = SegmentHeader {
                spool,
                place: SegmentPlace {
                    log: LogId(0),
                    segment: SegmentId(number),
                },
                epoch: Epoch(7),
                previous_epoch: Epoch(0),
                created_ms: 0,
                segment_bytes: SEGMENT_BYTES_MIN,
            };
            directory
                .prepare(&header, Fill::Allocated)
                .expect("there is room");
        }
        if let Some(text) = text {
            std::fs::write(path.join(FILE), text).expect("a file");
        }
        let got = identify(path, [&directory]).expect("it is found out");
        assert_eq!(got.spool, expected, "{got:?}");
        let trouble = got.trouble.unwrap_or_default();
        assert!(trouble.contains(told), "{trouble:?}");
        assert_eq!(trouble.is_empty(), told.is_empty(), "{trouble:?}");
        let again = identify(path, [&directory]).expect("it is found out");
        assert_eq!((again.spool, again.trouble), (expected, None));
    }

    #[test]
    fn what_is_lost_is_found_in_the_segments() {
        let ours = format!("{:032x}\n", u128::from_be_bytes(OURS.0));
        let ours = ours.as_bytes();
        check(Some(ours), &[], OURS, "");
        check(Some(ours), &[OURS, OTHER], OURS, "");
        check(Some(ours), &[OTHER, OTHER, OURS], OURS, "");
        check(Some(ours), &[OTHER], OTHER, "names another spool");
        check(None, &[OURS, OTHER, OURS], OURS, "is lost");
        check(Some(b""), &[OURS], OURS, "is damaged");
        check(Some(&ours[..20]), &[OURS], OURS, "is damaged");
        check(Some(&[0xFF; 33]), &[OURS], OURS, "is damaged");
        let mut flipped = ours.to_vec();
        flipped[3] ^= 1;
        check(Some(&flipped), &[OURS], OURS, "names another spool");
    }

    #[test]
    fn a_new_spool_has_a_new_id() {
        let temporary = tempfile::tempdir().expect("a directory");
        let first = identify(temporary.path(), []).expect("it is drawn");
        assert_eq!(first.trouble, None);
        let again = identify(temporary.path(), []).expect("it is read");
        assert_eq!(again, first);
        let other = tempfile::tempdir().expect("a directory");
        let other = identify(other.path(), []).expect("it is drawn");
        assert_ne!(other.spool, first.spool);
    }
}
