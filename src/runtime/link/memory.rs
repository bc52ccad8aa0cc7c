//! What is remembered of the links over a restart: what they have cost, and when they were
//! up. A file in the spool directory, written whole and put in place of the old one.
//!
//! It is no part of the mail: without it mail goes on, and the budgets begin anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::link::outing::Memory;

/// The file in the spool directory.
pub const FILE_NAME: &str = "links.json";

/// Longest file: eight links with a hundred times on line each, and room.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    links: BTreeMap<String, Memory>,
}

/// Where it is.
#[must_use]
pub fn path(spool: &Path) -> PathBuf {
    spool.join(FILE_NAME)
}

/// What was kept, by the names of the links. Nothing if there is no file.
///
/// # Errors
/// The file cannot be read, or is not ours.
pub fn read(path: &Path) -> io::Result<BTreeMap<String, Memory>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let kept: Kept = serde_json::from_reader(io::BufReader::new(file))?;
    if kept.version != VERSION {
        return Err(io::Error::other(format!(
            "it is of version {}",
            kept.version
        )));
    }
    Ok(kept.links)
}

/// Keeps this in place of what is there.
///
/// # Errors
/// As the system says; the old file is as it was.
pub fn write(path: &Path, memories: Vec<(String, Memory)>) -> io::Result<()> {
    let kept = Kept {
        version: VERSION,
        links: memories.into_iter().collect(),
    };
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::budget::{Period, Spent};

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = path(directory.path());
        assert!(read(&path).expect("no file is no error").is_empty());
        let memory = Memory {
            spent: vec![Spent {
                period: Period(7),
                millis: 5,
                octets: 6,
            }],
            outings: Vec::new(),
        };
        for _ in 0..2 {
            write(&path, vec![("isp".to_owned(), memory.clone())]).expect("it is written");
            assert_eq!(read(&path).expect("it is there").get("isp"), Some(&memory));
        }
        std::fs::write(&path, "{").expect("it is written");
        assert!(read(&path).is_err());
    }
}
