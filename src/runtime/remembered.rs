//! What sites have said of recipients, over a restart: a file in the spool directory, of
//! addresses and times, written whole and put in place of the old one.
//!
//! It is no part of the mail: without it each recipient is asked about anew, and those of a
//! site that is away are taken. So a file that is not ours or was damaged is passed over
//! whole, and the operator is told.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::core::callahead::KnownAddress;
use crate::mail::Address;
use crate::time::WallTime;

/// The file in the spool directory.
pub const FILE_NAME: &str = "call-ahead.json";

/// Longest file: a quarter of a million of the longest addresses.
const FILE_BYTES_MAX: u64 = 96 << 20;

/// The version of the file.
const VERSION: u32 = 1;

/// Each address with the time at which its site said so, in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    exists: Vec<(String, i64)>,
    unknown: Vec<(String, i64)>,
}

/// Where it is, and who writes it: one at a time, and nothing older over what is newer.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// Which was written last.
    written: Mutex<u64>,
}

impl Keeper {
    /// For the file in this spool directory.
    #[must_use]
    pub fn new(spool: &Path) -> Self {
        Self {
            path: spool.join(FILE_NAME),
            written: Mutex::new(0),
        }
    }

    /// What an earlier process has kept. Nothing if there is no file.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn read(&self) -> Result<Vec<KnownAddress>, String> {
        self.kept().map_err(|error| {
            format!(
                "reading {} failed ({error}); sites are asked about each recipient anew, and \
                 the file is replaced",
                self.path.display()
            )
        })
    }

    fn kept(&self) -> io::Result<Vec<KnownAddress>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("it is too large"));
        }
        let kept: Kept = serde_json::from_reader(BufReader::new(file))?;
        if kept.version != VERSION {
            let what = format!("it is of version {}", kept.version);
            return Err(io::Error::other(what));
        }
        let mut known = Vec::with_capacity(kept.exists.len() + kept.unknown.len());
        for (exists, list) in [(true, kept.exists), (false, kept.unknown)] {
            for (address, since) in list {
                let address: Address = address.parse().map_err(|_| {
                    io::Error::other(format!("{} is no address", address.escape_debug()))
                })?;
                known.push(KnownAddress {
                    address,
                    exists,
                    since: WallTime::from_millis(since),
                });
            }
        }
        Ok(known)
    }

    /// Keeps this in place of what is there, if it is the newest: `number` counts what was
    /// to be kept.
    ///
    /// # Errors
    /// A sentence for the operator; the old file is as it was.
    pub fn write(&self, number: u64, known: &[KnownAddress]) -> Result<(), String> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written >= number {
            return Ok(());
        }
        self.replace(known).map_err(|error| {
            format!(
                "keeping what sites have said of recipients in {} failed ({error}); after a \
                 restart they are asked anew, and recipients of a site that is away then are \
                 taken unasked",
                self.path.display()
            )
        })?;
        *written = number;
        Ok(())
    }

    fn replace(&self, known: &[KnownAddress]) -> io::Result<()> {
        let list = |exists: bool| {
            let of_kind = known.iter().filter(|known| known.exists == exists);
            of_kind
                .map(|known| (known.address.to_string(), known.since.as_millis()))
                .collect()
        };
        let kept = Kept {
            version: VERSION,
            exists: list(true),
            unknown: list(false),
        };
        let new = self.path.with_extension("new");
        // Which addresses there are is nobody else's business.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = BufWriter::new(options.open(&new)?);
        serde_json::to_writer(&mut file, &kept)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(address: &str, exists: bool, since: i64) -> KnownAddress {
        KnownAddress {
            address: address.parse().expect("an address"),
            exists,
            since: WallTime::from_millis(since),
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let keeper = Keeper::new(directory.path());
        assert_eq!(keeper.read(), Ok(Vec::new()), "no file is no error");
        let first = [
            known("bob@a.example", true, 7),
            known("käthe@a.example", false, 9),
        ];
        let second = [known("\"a b\"@a.example", true, 8)];
        for (number, all, expected) in [
            (1, &first[..], &first[..]),
            (2, &second, &second),
            // One that is older comes too late.
            (1, &first, &second),
        ] {
            keeper.write(number, all).expect("it is written");
            assert_eq!(keeper.read().as_deref(), Ok(expected), "{number}");
        }
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let keeper = Keeper::new(directory.path());
        for (text, why) in [
            ("", "EOF"),
            ("{\"version\":1,\"exists\":[[\"bob@a.exa", "EOF"),
            (
                "{\"version\":2,\"exists\":[],\"unknown\":[]}",
                "it is of version 2",
            ),
            (
                "{\"version\":1,\"exists\":[[\"a\\n\",1]],\"unknown\":[]}",
                "a\\n is no address",
            ),
        ] {
            std::fs::write(directory.path().join(FILE_NAME), text).expect("it is written");
            let error = keeper.read().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
