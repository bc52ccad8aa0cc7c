//! What is remembered of the links over a restart: what they have cost, when they were up,
//! and which we have open. A file in the spool directory, written whole and put in place of
//! the old one.
//!
//! That we have one open holds for as long as the machine runs: after a boot whatever is up
//! was brought up by somebody else.
//!
//! It is no part of the mail: without it mail goes on, and the budgets begin anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::link::outing::{LeftOpen, Memory};

/// The file in the spool directory.
pub const FILE_NAME: &str = "links.json";

/// Longest file: eight links with a hundred times on line each, and room.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Older versions did not say.
    #[serde(default)]
    kept_at: Option<Moment>,
    links: BTreeMap<String, Memory>,
}

/// A variable with the number of the boot, for a service that cannot see the kernel's.
const BOOT_VARIABLE: &str = "TURNSPOOL_BOOT";
/// Where the kernel says it.
const BOOT_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// A point of time in a machine's run from boot to boot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moment {
    /// The kernel's number for this run.
    boot: String,
    /// Since the boot, suspended or not.
    millis: u64,
}

impl Moment {
    /// `None`: nobody says which run this is.
    #[must_use]
    pub fn now() -> Option<Self> {
        let said = std::fs::read_to_string(BOOT_FILE).ok();
        let said = said.or_else(|| std::env::var(BOOT_VARIABLE).ok())?;
        // systemd writes it without dashes.
        let boot = said.trim().replace('-', "").to_ascii_lowercase();
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let time = Duration::try_from(time).ok()?;
        (!boot.is_empty()).then(|| Self {
            boot,
            millis: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Milliseconds since then, if it was in the same run.
    fn since(&self, then: &Self) -> Option<u64> {
        let passed = self.millis.checked_sub(then.millis)?;
        (self.boot == then.boot).then_some(passed)
    }
}

/// Where it is.
#[must_use]
pub fn path(spool: &Path) -> PathBuf {
    spool.join(FILE_NAME)
}

/// What was kept, by the names of the links, and what of it still holds now. Nothing if
/// there is no file.
///
/// # Errors
/// The file cannot be read, or is not ours.
pub fn read(path: &Path, now: Option<&Moment>) -> io::Result<BTreeMap<String, Memory>> {
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
    let passed = now
        .zip(kept.kept_at.as_ref())
        .and_then(|(now, then)| now.since(then));
    let mut links = kept.links;
    for memory in links.values_mut() {
        let left_open = memory.left_open.zip(passed);
        memory.left_open = left_open.map(|(left, since_millis)| LeftOpen {
            since_millis,
            ..left
        });
    }
    Ok(links)
}

/// Keeps this of now in place of what is there.
///
/// # Errors
/// As the system says; the old file is as it was.
pub fn write(path: &Path, memories: Vec<(String, Memory)>, now: Option<Moment>) -> io::Result<()> {
    let kept = Kept {
        version: VERSION,
        kept_at: now,
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
        assert!(read(&path, None).expect("no file is no error").is_empty());
        let memory = Memory {
            spent: vec![Spent {
                period: Period(7),
                millis: 5,
                octets: 6,
            }],
            ..Memory::default()
        };
        for _ in 0..2 {
            write(&path, vec![("isp".to_owned(), memory.clone())], None).expect("it is written");
            let again = read(&path, None).expect("it is there");
            assert_eq!(again.get("isp"), Some(&memory));
        }
        std::fs::write(&path, "{").expect("it is written");
        assert!(read(&path, None).is_err());
    }

    #[test]
    fn what_was_left_open_holds_until_the_next_boot() {
        let moment = |boot: &str, millis| Moment {
            boot: boot.to_owned(),
            millis,
        };
        let directory = tempfile::tempdir().expect("a directory");
        let path = path(directory.path());
        let left = LeftOpen {
            began_millis: 3,
            up: true,
            millis: 4,
            since_millis: 0,
        };
        let memory = Memory {
            left_open: Some(left),
            ..Memory::default()
        };
        let check = |then: Option<Moment>, now: Option<Moment>, expected: Option<u64>| {
            let memories = vec![("isp".to_owned(), memory.clone())];
            write(&path, memories, then).expect("it is written");
            let again = read(&path, now.as_ref()).expect("it is there");
            let expected = expected.map(|since_millis| LeftOpen {
                since_millis,
                ..left
            });
            assert_eq!(again["isp"].left_open, expected);
        };
        let a = |millis| Some(moment("a", millis));
        check(a(100), a(100), Some(0));
        check(a(100), a(5_000), Some(4_900));
        check(a(100), Some(moment("b", 5_000)), None);
        check(a(100), a(99), None);
        check(a(100), None, None);
        check(None, a(100), None);
        // As an older version wrote it.
        let old = r#"{"version":1,"links":{"isp":{"spent":[],"outings":[]}}}"#;
        std::fs::write(&path, old).expect("it is written");
        let again = read(&path, a(100).as_ref()).expect("it is there");
        assert_eq!(again["isp"], Memory::default());
    }

    #[test]
    fn time_goes_on_within_a_boot() {
        let now = Moment::now().expect("this machine says which boot it is");
        assert_eq!(now.since(&now), Some(0));
        assert!(Moment::now().expect("it still says").since(&now).is_some());
    }
}
